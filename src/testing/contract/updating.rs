//! `update`: replaces the whole record, or nothing.

use std::sync::Arc;
use std::time::Duration;

use super::support::{DAY, HOUR, MILLISECOND, MINUTE, Subject, handle, now, record, version};
use crate::store::{Outcome, Record, SWEEP_GRACE, SessionStore};

/// `update` replaces every field: the user id to and from none, the expiry to a later and an earlier one,
/// the payload to a longer, a shorter and the empty one.
pub async fn update_replaces_every_field(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    let original = Record {
        version: version(1),
        created_at: start - HOUR,
        expires_at: start + HOUR,
        user_id: None,
        payload: b"payload"[..].into(),
    };
    let replacements = [
        Record {
            version: version(2),
            user_id: Some("alice".into()),
            ..original.clone()
        },
        Record {
            version: version(3),
            user_id: Some("bob".into()),
            expires_at: start + DAY,
            payload: vec![7; 10_000].into(),
            ..original.clone()
        },
        Record {
            version: version(4),
            user_id: None,
            expires_at: start + MINUTE,
            created_at: start - DAY,
            payload: b"short"[..].into(),
        },
        Record {
            version: version(5),
            payload: Vec::new().into(),
            ..original.clone()
        },
        original.clone(),
    ];
    store.create(&handle(1), &original).await;
    let mut expected = original.version;
    for replacement in &replacements {
        let outcome = store.update(&handle(1), replacement, expected, start).await;
        assert_eq!(outcome, Outcome::Done, "update with the version stored");
        store
            .holds(&handle(1), replacement, "after an update")
            .await;
        expected = replacement.version;
    }
}

/// `update` of a record that has another version than expected, by one bit even, is a
/// [`Conflict`](Outcome::Conflict) and changes nothing.
pub async fn update_with_another_version_is_a_conflict(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    // The first two are the same number to a float.
    for (index, stored) in [1 << 60, (1 << 60) + 1, 0, u64::MAX]
        .into_iter()
        .enumerate()
    {
        let handle = handle(index as u64);
        let original = record(stored, start + HOUR);
        store.create(&handle, &original).await;
        for expected in (0..64).step_by(7).map(|bit| stored ^ (1 << bit)) {
            let other = record(stored.wrapping_add(500), start + 2 * HOUR);
            let outcome = store
                .update(&handle, &other, version(expected), start)
                .await;
            assert_eq!(
                outcome,
                Outcome::Conflict,
                "update that expects version {expected} where {stored} is stored"
            );
            let when = "after an update that was a conflict";
            store.holds(&handle, &original, when).await;
        }
    }
}

/// `update` of a handle without a record is [`Missing`](Outcome::Missing), and brings none into being.
pub async fn update_of_an_unknown_handle_is_missing(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    for expected in [0, 1, 2] {
        let outcome = store
            .update(
                &handle(1),
                &record(1, start + HOUR),
                version(expected),
                start,
            )
            .await;
        assert_eq!(outcome, Outcome::Missing, "update where there is no record");
        let when = "after an update where there was no record";
        store.holds_none(&handle(1), when).await;
    }
}

/// `update` of a record that expires at `now` or before is [`Missing`](Outcome::Missing), whatever its
/// version, and changes nothing; one millisecond before its expiry it is live.
pub async fn update_of_an_expired_record_is_missing(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let expires_at = now() + HOUR;
    let original = record(1, expires_at);
    let other = record(2, expires_at + DAY);
    store.create(&handle(1), &original).await;
    for late in [Duration::ZERO, MILLISECOND, SWEEP_GRACE - MILLISECOND] {
        for expected in [1, 3] {
            let outcome = store
                .update(&handle(1), &other, version(expected), expires_at + late)
                .await;
            assert_eq!(
                outcome,
                Outcome::Missing,
                "update {late:?} after the expiry, expecting version {expected} where 1 is stored"
            );
            let when = "after an update of an expired record";
            store.holds(&handle(1), &original, when).await;
        }
    }
    let outcome = store
        .update(&handle(1), &other, version(1), expires_at - MILLISECOND)
        .await;
    assert_eq!(outcome, Outcome::Done, "update 1 ms before the expiry");
    let when = "after an update 1 ms before the expiry";
    store.holds(&handle(1), &other, when).await;

    // What is past its grace period a store may sweep at any time.
    store.create(&handle(2), &original).await;
    let outcome = store
        .update(&handle(2), &other, version(1), expires_at + DAY)
        .await;
    assert_eq!(outcome, Outcome::Missing, "update a day after the expiry");
    let when = "after an update a day after the expiry";
    store
        .holds_unless_expired(&handle(2), &original, when)
        .await;
}

/// `update` compares the expiry with the `now` it is given, and not with a clock of the store: the nodes'
/// clocks differ, and it is the caller's that counts.
pub async fn update_judges_expiry_by_the_now_it_is_given(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    let past = record(1, start - HOUR);
    store.create(&handle(1), &past).await;
    let when = "after the create of an expired record";
    let there = store.holds_unless_expired(&handle(1), &past, when).await;
    let later = record(2, start + HOUR);
    let outcome = store
        .update(
            &handle(1),
            &later,
            version(1),
            past.expires_at - MILLISECOND,
        )
        .await;
    if there {
        assert_eq!(
            outcome,
            Outcome::Done,
            "update with a now before the expiry"
        );
        let when = "after an update with a now before the expiry";
        store.holds(&handle(1), &later, when).await;
    } else {
        assert_eq!(
            outcome,
            Outcome::Missing,
            "update of what has expired by itself"
        );
        let when = "after an update of what had expired by itself";
        store.holds_none(&handle(1), when).await;
    }
}
