//! `touch`: moves the expiry, to a later time only.

use std::sync::Arc;
use std::time::Duration;

use super::support::{
    DAY, HOUR, MILLISECOND, MINUTE, Subject, handle, now, record, touched, version,
};
use crate::store::{Outcome, SWEEP_GRACE, SessionStore};

/// `touch` sets the expiry and leaves the version, the payload and all else as they are.
pub async fn touch_moves_the_expiry_alone(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    for number in [1, 2, u64::MAX] {
        let handle = handle(number);
        let original = record(number, start + HOUR);
        store.create(&handle, &original).await;
        for later in [HOUR + MILLISECOND, 2 * HOUR, DAY] {
            let outcome = store
                .touch(&handle, start + later, version(number), start)
                .await;
            assert_eq!(outcome, Outcome::Done, "touch with the version stored");
            let expected = touched(&original, start + later);
            store.holds(&handle, &expected, "after a touch").await;
        }
    }
}

/// `touch` with an earlier expiry than the one stored, or the same, is [`Done`](Outcome::Done) and without
/// effect.
pub async fn touch_never_lowers_the_expiry(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    let original = record(1, start + HOUR);
    store.create(&handle(1), &original).await;
    for expires_at in [
        start + HOUR,
        start + HOUR - MILLISECOND,
        start + MINUTE,
        start - DAY,
    ] {
        let outcome = store.touch(&handle(1), expires_at, version(1), start).await;
        assert_eq!(outcome, Outcome::Done, "touch that would lower the expiry");
        let when = "after a touch that would have lowered the expiry";
        store.holds(&handle(1), &original, when).await;
    }
}

/// `touch` of a record that has another version than expected is a [`Conflict`](Outcome::Conflict) and
/// changes nothing, be the expiry it brings later or earlier.
pub async fn touch_with_another_version_is_a_conflict(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    for (index, stored) in [1 << 60, (1 << 60) + 1, 0, u64::MAX]
        .into_iter()
        .enumerate()
    {
        let handle = handle(index as u64);
        let original = record(stored, start + HOUR);
        store.create(&handle, &original).await;
        for expected in (0..64).step_by(7).map(|bit| stored ^ (1 << bit)) {
            for expires_at in [start + DAY, start + MINUTE] {
                let outcome = store
                    .touch(&handle, expires_at, version(expected), start)
                    .await;
                assert_eq!(
                    outcome,
                    Outcome::Conflict,
                    "touch that expects version {expected} where {stored} is stored"
                );
                let when = "after a touch that was a conflict";
                store.holds(&handle, &original, when).await;
            }
        }
    }
}

/// `touch` of a handle without a record is [`Missing`](Outcome::Missing), and brings none into being.
pub async fn touch_of_an_unknown_handle_is_missing(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    for expected in [0, 1] {
        let outcome = store
            .touch(&handle(1), start + HOUR, version(expected), start)
            .await;
        assert_eq!(outcome, Outcome::Missing, "touch where there is no record");
        let when = "after a touch where there was no record";
        store.holds_none(&handle(1), when).await;
    }
}

/// `touch` of a record that expires at `now` or before is [`Missing`](Outcome::Missing), whatever its
/// version, and changes nothing; one millisecond before its expiry it is live.
pub async fn touch_of_an_expired_record_is_missing(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let expires_at = now() + HOUR;
    let original = record(1, expires_at);
    store.create(&handle(1), &original).await;
    for late in [Duration::ZERO, MILLISECOND, SWEEP_GRACE - MILLISECOND] {
        for expected in [1, 3] {
            for new_expiry in [expires_at + 2 * DAY, expires_at - MINUTE] {
                let outcome = store
                    .touch(&handle(1), new_expiry, version(expected), expires_at + late)
                    .await;
                assert_eq!(
                    outcome,
                    Outcome::Missing,
                    "touch {late:?} after the expiry, expecting version {expected} where 1 is stored"
                );
                let when = "after a touch of an expired record";
                store.holds(&handle(1), &original, when).await;
            }
        }
    }
    let outcome = store
        .touch(
            &handle(1),
            expires_at + DAY,
            version(1),
            expires_at - MILLISECOND,
        )
        .await;
    assert_eq!(outcome, Outcome::Done, "touch 1 ms before the expiry");
    let expected = touched(&original, expires_at + DAY);
    let when = "after a touch 1 ms before the expiry";
    store.holds(&handle(1), &expected, when).await;

    // What is past its grace period a store may sweep at any time.
    store.create(&handle(2), &original).await;
    let outcome = store
        .touch(
            &handle(2),
            expires_at + 2 * DAY,
            version(1),
            expires_at + DAY,
        )
        .await;
    assert_eq!(outcome, Outcome::Missing, "touch a day after the expiry");
    let when = "after a touch a day after the expiry";
    store
        .holds_unless_expired(&handle(2), &original, when)
        .await;
}

/// `touch` compares the expiry with the `now` it is given, and not with a clock of the store.
pub async fn touch_judges_expiry_by_the_now_it_is_given(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    let past = record(1, start - HOUR);
    store.create(&handle(1), &past).await;
    let when = "after the create of an expired record";
    let there = store.holds_unless_expired(&handle(1), &past, when).await;
    let before = past.expires_at - MILLISECOND;
    let outcome = store
        .touch(&handle(1), start + HOUR, version(1), before)
        .await;
    if there {
        assert_eq!(outcome, Outcome::Done, "touch with a now before the expiry");
        let expected = touched(&past, start + HOUR);
        let when = "after a touch with a now before the expiry";
        store.holds(&handle(1), &expected, when).await;
    } else {
        assert_eq!(
            outcome,
            Outcome::Missing,
            "touch of what has expired by itself"
        );
        let when = "after a touch of what had expired by itself";
        store.holds_none(&handle(1), when).await;
    }
}

/// An `update` under way, which loaded before a `touch`, takes effect after it: a touch keeps the version.
pub async fn a_touch_does_not_disturb_an_update(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    store.create(&handle(1), &record(1, start + HOUR)).await;
    let Some(loaded) = store.load(&handle(1)).await else {
        panic!("after a create: the record is gone");
    };
    let outcome = store
        .touch(&handle(1), start + DAY, loaded.version, start)
        .await;
    assert_eq!(outcome, Outcome::Done, "touch with the version stored");

    let updated = record(2, start + 2 * HOUR);
    let outcome = store
        .update(&handle(1), &updated, loaded.version, start)
        .await;
    assert_eq!(outcome, Outcome::Done, "update that loaded before a touch");
    let when = "after a touch and an update";
    store.holds(&handle(1), &updated, when).await;
}
