//! The contract suite: whether a [`SessionStore`](crate::store::SessionStore) keeps the
//! [contract](crate::store#contract).
//!
//! Each function tests one rule on the store it is given, races and dropped futures included, and panics
//! with a message that says which rule was broken and how. [`store_tests!`](crate::store_tests) makes one
//! test of each; this is all that the tests of a store need to run them:
//!
//! ```
//! # use cloakroom::store::{MemoryStore, SessionStore};
//! # fn main() {}
//! async fn make_store() -> impl SessionStore {
//!     MemoryStore::new()
//! }
//!
//! cloakroom::store_tests!(make_store);
//! ```
//!
//! A single rule can be run as well:
//!
//! ```
//! use std::sync::Arc;
//! use cloakroom::store::MemoryStore;
//! use cloakroom::testing::contract;
//!
//! # #[tokio::main] async fn main() {
//! contract::delete_is_final(Arc::new(MemoryStore::new())).await;
//! # }
//! ```
//!
//! # The store under test
//!
//! It is empty, and nothing else uses it while the test runs: count on one database, table, prefix or
//! folder for each test. Something that has to live as long as the store (a temporary folder, a server)
//! belongs into a type that owns both and is a store by passing every call on.
//!
//! # Time
//!
//! Nothing here sleeps. Most records expire an hour from now, and where a test needs an expired one it calls
//! the store with a `now` past that hour. So an engine that expires records by itself, by the real time,
//! passes too. It has to do so exactly: a record that is given to it expired must be gone at once. An
//! engine that removes expired records at leisure needs a working
//! [`delete_expired`](crate::store::SessionStore::delete_expired) like any other.
//!
//! A store may also sweep a little in its other operations, by the `now` that they are given and with the
//! same grace period.
//!
//! What would hang (a lock that a dropped future still holds, an exhausted pool) fails after a minute.

mod cancellation;
mod deleting;
mod races;
mod races_with_sweeps;
mod reading;
mod support;
mod sweeping;
mod touching;
mod updating;
mod user_index;

pub use self::cancellation::*;
pub use self::deleting::*;
pub use self::races::*;
pub use self::races_with_sweeps::*;
pub use self::reading::*;
pub use self::sweeping::*;
pub use self::touching::*;
pub use self::updating::*;
pub use self::user_index::*;

/// Makes one test of each rule of the store contract: see [`testing::contract`](crate::testing::contract).
///
/// It takes an async function, or a closure that returns a future, which makes a store: a fresh, empty one
/// for each test. The tests are named after the rules, so give them a module of their own where the names
/// could clash, or where several stores are tested in one file.
///
/// They are `#[tokio::test]`s: `tokio` has to be among your dev-dependencies (the feature `testing` turns
/// on what is needed of it).
///
/// ```
/// # fn main() {}
/// mod unlimited {
///     cloakroom::store_tests!(|| async { cloakroom::store::MemoryStore::new() });
/// }
/// ```
#[macro_export]
macro_rules! store_tests {
    ($make_store:expr) => {
        $crate::store_tests! {
            @each $make_store;
            a_load_of_an_unknown_handle_is_none
            every_version_comes_back
            every_user_id_comes_back
            every_payload_comes_back
            times_come_back_to_the_millisecond
            a_handle_in_use_is_refused_by_create
            the_handle_of_an_expired_record_is_refused_by_create
            similar_handles_do_not_affect_each_other
            update_replaces_every_field
            update_with_another_version_is_a_conflict
            update_of_an_unknown_handle_is_missing
            update_of_an_expired_record_is_missing
            update_judges_expiry_by_the_now_it_is_given
            touch_moves_the_expiry_alone
            touch_never_lowers_the_expiry
            touch_with_another_version_is_a_conflict
            touch_of_an_unknown_handle_is_missing
            touch_of_an_expired_record_is_missing
            touch_judges_expiry_by_the_now_it_is_given
            a_touch_does_not_disturb_an_update
            delete_is_final
            delete_of_an_unknown_handle_is_no_error
            delete_takes_an_expired_record_too
            a_deleted_handle_can_be_created_again
            delete_expired_spares_the_living
            delete_expired_spares_the_grace_period
            delete_expired_deletes_from_the_end_of_the_grace_period_on
            delete_expired_keeps_to_its_limit
            delete_expired_follows_updates_and_touches
            of_many_creates_one_wins
            of_many_updates_one_wins
            of_many_deletes_one_finds_the_record
            of_many_touches_the_latest_expiry_stays
            increments_by_compare_and_swap_add_up
            loads_during_updates_see_whole_records
            an_update_among_touches_wins_and_stays
            touches_do_not_revive_what_is_deleted
            updates_do_not_revive_what_is_deleted
            a_create_among_deletes_is_before_or_after_each
            a_sweep_spares_what_is_touched_meanwhile
            a_sweep_spares_what_is_updated_meanwhile
            a_sweep_spares_what_is_created_anew_meanwhile
            a_dropped_create_takes_effect_wholly_or_not
            a_dropped_load_leaves_the_record
            a_dropped_update_takes_effect_wholly_or_not
            a_dropped_touch_takes_effect_wholly_or_not
            a_dropped_delete_takes_effect_wholly_or_not
            a_dropped_delete_expired_takes_whole_records_or_none
        }
    };
    (@index $make_store:expr) => {
        $crate::store_tests! {
            @each $make_store;
            a_list_has_what_is_linked
            an_entry_stays_until_the_absolute_timeout
            a_mark_refuses_what_it_is_not_older_than
            everyones_mark_refuses_as_well
            a_limit_counts_the_other_complete_logins
            of_many_links_a_limit_lets_in_its_number
            of_many_links_the_last_one_sees_all_others
            a_link_among_marks_is_listed_or_refused
            delete_linked_takes_all_that_is_linked
            a_dropped_link_takes_effect_wholly_or_not
        }
    };
    (@each $make_store:expr; $($rule:ident)*) => {
        $(
            #[::tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $rule() {
                $crate::testing::contract::$rule(::std::sync::Arc::new($make_store().await)).await;
            }
        )*
    };
}

/// Makes one test of each rule of the [`UserIndex`](crate::store::UserIndex) of a store that has one, as
/// [`store_tests!`](crate::store_tests) does of the other rules. Both want modules of their own.
///
/// ```
/// # fn main() {}
/// mod users {
///     cloakroom::user_index_tests!(|| async { cloakroom::store::MemoryStore::new() });
/// }
/// ```
#[macro_export]
macro_rules! user_index_tests {
    ($make_store:expr) => {
        $crate::store_tests! { @index $make_store }
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_macro_makes_a_test_of_every_rule() {
        let rules: BTreeSet<_> = [
            include_str!("contract/cancellation.rs"),
            include_str!("contract/deleting.rs"),
            include_str!("contract/races.rs"),
            include_str!("contract/races_with_sweeps.rs"),
            include_str!("contract/reading.rs"),
            include_str!("contract/sweeping.rs"),
            include_str!("contract/touching.rs"),
            include_str!("contract/updating.rs"),
            include_str!("contract/user_index.rs"),
        ]
        .iter()
        .flat_map(|file| file.lines())
        .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
        .collect();
        let listed: BTreeSet<_> = include_str!("contract.rs")
            .split("@each $make_store;\n")
            .skip(1)
            .flat_map(|list| list.lines().take_while(|line| line.trim() != "}"))
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(rules, listed);
    }
}
