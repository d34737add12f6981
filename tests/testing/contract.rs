//! The contract suite passes the stores that keep the contract, and fails the ones that do not.

use cloakroom::testing::contract;

use crate::broken_stores::{BrokenStore, Fault};

mod the_reference_store {
    use crate::reference_store::ReferenceStore;

    cloakroom::store_tests!(|| async { ReferenceStore::default() });
}

/// As a user writes it who keeps a temporary folder alive, and whose store does its work on threads.
mod a_store_on_other_threads_with_a_guard {
    use crate::other_stores::BlockingStore;

    async fn make_store() -> impl cloakroom::store::SessionStore {
        BlockingStore::default()
    }

    cloakroom::store_tests!(make_store);
}

mod a_store_that_expires_records_by_itself {
    use crate::other_stores::ExpiringStore;

    cloakroom::store_tests!(async || ExpiringStore::default());
}

/// So that what the faults below make fail is the fault, and not the store that has it.
mod a_broken_store_without_a_fault {
    use crate::broken_stores::{BrokenStore, Fault};

    cloakroom::store_tests!(async || BrokenStore::new(Fault::Nothing));
}

/// Makes a test for each fault, that each of the rules notices it.
macro_rules! noticed {
    ($($fault:ident: $($rule:ident)+;)*) => {
        /// On one thread, where the yields of the broken stores decide what overlaps.
        mod noticed {
            $(
                #[tokio::test(start_paused = true)]
                #[allow(non_snake_case)]
                async fn $fault() {
                    $(
                        let store = std::sync::Arc::new(super::BrokenStore::new(super::Fault::$fault));
                        super::assert_fails(
                            stringify!($rule),
                            super::contract::$rule(store),
                        ).await;
                    )+
                }
            )*
        }

        /// Every rule with the name it has above.
        const NOTICING_RULES: &[&str] = &[$($(stringify!($rule)),+),*];
    };
}

noticed! {
    LoadInventsARecord: a_load_of_an_unknown_handle_is_none;
    VersionsAreFloats: every_version_comes_back
        update_with_another_version_is_a_conflict touch_with_another_version_is_a_conflict;
    VersionsAreSigned: every_version_comes_back;
    EmptyUserIdIsNone: every_user_id_comes_back;
    UserIdIsTrimmed: every_user_id_comes_back;
    PayloadIsText: every_payload_comes_back;
    PayloadIsCutAt64KiBLessOne: every_payload_comes_back;
    TimesAreSeconds: times_come_back_to_the_millisecond;
    HandlesLackABit: similar_handles_do_not_affect_each_other;
    CreateOverwrites: a_handle_in_use_is_refused_by_create of_many_creates_one_wins
        a_create_among_deletes_is_before_or_after_each;
    CreateOverwritesTheExpired: the_handle_of_an_expired_record_is_refused_by_create;
    CreateLooksFirst: of_many_creates_one_wins;
    CreateInTwoSteps: a_dropped_create_takes_effect_wholly_or_not;
    LoadBreaksOffWithTheLock: a_dropped_load_leaves_the_record;
    UpdateUpserts: update_of_an_unknown_handle_is_missing delete_is_final
        updates_do_not_revive_what_is_deleted;
    UpdateIgnoresTheVersion: update_with_another_version_is_a_conflict of_many_updates_one_wins
        increments_by_compare_and_swap_add_up;
    UpdateKeepsTheUser: update_replaces_every_field;
    UpdateKeepsTheCreation: update_replaces_every_field;
    UpdateNeverLowersTheExpiry: update_replaces_every_field delete_expired_follows_updates_and_touches;
    UpdateIgnoresTheExpiry: update_of_an_expired_record_is_missing;
    UpdateIsAMillisecondLate: update_of_an_expired_record_is_missing;
    UpdateIsAMillisecondEarly: update_of_an_expired_record_is_missing;
    UpdateComparesVersionsFirst: update_of_an_expired_record_is_missing;
    UpdateHasItsOwnClock: update_of_an_expired_record_is_missing
        update_judges_expiry_by_the_now_it_is_given;
    UpdateLooksFirst: of_many_updates_one_wins increments_by_compare_and_swap_add_up
        updates_do_not_revive_what_is_deleted a_sweep_spares_what_is_updated_meanwhile;
    UpdateInTwoSteps: a_dropped_update_takes_effect_wholly_or_not loads_during_updates_see_whole_records;
    UpdateDeletesAndInserts: a_dropped_update_takes_effect_wholly_or_not
        loads_during_updates_see_whole_records;
    TouchCreates: touch_of_an_unknown_handle_is_missing delete_is_final
        touches_do_not_revive_what_is_deleted;
    TouchIgnoresTheVersion: touch_with_another_version_is_a_conflict
        an_update_among_touches_wins_and_stays;
    TouchLowers: touch_never_lowers_the_expiry of_many_touches_the_latest_expiry_stays;
    TouchChangesTheVersion: touch_moves_the_expiry_alone a_touch_does_not_disturb_an_update
        an_update_among_touches_wins_and_stays of_many_touches_the_latest_expiry_stays;
    TouchLosesTheUser: touch_moves_the_expiry_alone;
    TouchDoesNothing: touch_moves_the_expiry_alone;
    TouchIgnoresTheExpiry: touch_of_an_expired_record_is_missing;
    TouchIsAMillisecondLate: touch_of_an_expired_record_is_missing;
    TouchIsAMillisecondEarly: touch_of_an_expired_record_is_missing;
    TouchComparesVersionsFirst: touch_of_an_expired_record_is_missing;
    TouchHasItsOwnClock: touch_of_an_expired_record_is_missing touch_judges_expiry_by_the_now_it_is_given;
    TouchLooksFirst: an_update_among_touches_wins_and_stays touches_do_not_revive_what_is_deleted
        of_many_touches_the_latest_expiry_stays a_sweep_spares_what_is_touched_meanwhile;
    TouchDeletesAndInserts: a_dropped_touch_takes_effect_wholly_or_not;
    DeleteSaysTrue: delete_is_final delete_of_an_unknown_handle_is_no_error
        of_many_deletes_one_finds_the_record;
    DeleteSaysFalse: delete_is_final a_deleted_handle_can_be_created_again;
    DeleteFailsWhereNothingIs: delete_of_an_unknown_handle_is_no_error delete_is_final;
    DeleteSparesTheExpired: delete_takes_an_expired_record_too;
    DeleteKeepsTheHandle: a_deleted_handle_can_be_created_again delete_takes_an_expired_record_too;
    DeleteLooksFirst: of_many_deletes_one_finds_the_record
        a_create_among_deletes_is_before_or_after_each;
    DeleteInTwoSteps: a_dropped_delete_takes_effect_wholly_or_not;
    SweepTakesAll: delete_expired_spares_the_living delete_expired_spares_the_grace_period;
    SweepIgnoresTheGrace: delete_expired_spares_the_grace_period;
    SweepIsAMillisecondEarly: delete_expired_spares_the_grace_period;
    SweepIsAMillisecondLate: delete_expired_deletes_from_the_end_of_the_grace_period_on;
    SweepDoesNothing: delete_expired_deletes_from_the_end_of_the_grace_period_on
        delete_expired_keeps_to_its_limit delete_expired_follows_updates_and_touches;
    SweepOnlyCounts: delete_expired_deletes_from_the_end_of_the_grace_period_on
        delete_expired_keeps_to_its_limit;
    SweepMiscounts: delete_expired_deletes_from_the_end_of_the_grace_period_on
        delete_expired_keeps_to_its_limit;
    SweepIgnoresItsLimit: delete_expired_keeps_to_its_limit;
    SweepStopsShortOfItsLimit: delete_expired_keeps_to_its_limit;
    SweepTakesALimitOfZeroForNone: delete_expired_keeps_to_its_limit;
    SweepFailsOnALargeLimit: delete_expired_keeps_to_its_limit;
    SweepGoesByTheFirstExpiry: delete_expired_follows_updates_and_touches;
    SweepLooksFirst: a_sweep_spares_what_is_touched_meanwhile a_sweep_spares_what_is_updated_meanwhile
        a_sweep_spares_what_is_created_anew_meanwhile;
    SweepInTwoSteps: a_dropped_delete_expired_takes_whole_records_or_none;
}

async fn assert_fails(rule: &str, test: impl Future<Output = ()> + Send + 'static) {
    match tokio::spawn(test).await {
        Ok(()) => panic!("{rule} has not noticed the fault"),
        Err(error) => assert!(error.is_panic()),
    }
}

#[test]
fn every_rule_notices_a_fault() {
    // What the macro makes tests of, as the tests of the reference store show.
    let rules = include_str!("../../src/testing/contract.rs")
        .lines()
        .skip_while(|line| !line.contains("@each $make_store;"))
        .skip(1)
        .take_while(|line| line.trim() != "}")
        .map(str::trim);
    for rule in rules {
        assert!(NOTICING_RULES.contains(&rule), "{rule}");
    }
}
