//! Futures that are dropped before they are ready: all or nothing, and the store works on.
//!
//! Each operation is polled 0 times, once, twice and so on, until it is ready within that many polls, and
//! dropped. It may still take effect later (a blocking thread or a server finishes what it has begun), and
//! no test can wait for that. So each then asks the store to decide: by a write that has to fail if the
//! dropped one took effect, and that makes the dropped one fail if it did not.

use std::sync::Arc;

use super::support::{
    DAY, HOUR, Subject, assert_same, handle, in_time, now, poll_times, record, touched, version,
};
use crate::store::{Handle, Outcome, Record, SWEEP_GRACE, SessionStore};

/// The most polls that are tried. A store whose futures take more is tested up to here.
const MOST_POLLS: usize = 100;

/// How often all polls are tried, since what runs on another thread may be at another point each time.
const ROUNDS: u64 = 4;

/// Runs a test of a dropped future with each number of polls. It returns whether the future was ready.
async fn with_every_number_of_polls<F, R>(test: F)
where
    F: Fn(Handle, usize) -> R,
    R: Future<Output = bool>,
{
    for round in 0..ROUNDS {
        for polls in 0..=MOST_POLLS {
            let handle = handle(round << 32 | polls as u64);
            if in_time(test(handle, polls)).await {
                break;
            }
        }
    }
}

/// A `create` that is dropped has created the whole record or none, and a later `create` of the handle is
/// refused or succeeds accordingly.
pub async fn a_dropped_create_takes_effect_wholly_or_not(store: Arc<dyn SessionStore>) {
    let store = &Subject(store);
    let start = now();
    let dropped = &record(1, start + HOUR);
    let second = &record(2, start + HOUR);
    with_every_number_of_polls(|handle, polls| async move {
        let created = poll_times(store.0.create(&handle, dropped), polls).await;
        let when = &format!("after a create that was dropped after {polls} polls");
        if let Some(found) = store.load(&handle).await {
            assert_same(&found, dropped, when);
        }
        let last = if store.try_create(&handle, second).await {
            assert!(
                !matches!(created, Some(Ok(()))),
                "create: the handle of a record that was created is accepted"
            );
            second
        } else {
            dropped
        };
        store.holds(&handle, last, when).await;
        works_on(store, &handle, last, when).await;
        created.is_some()
    })
    .await;
}

/// A `load` that is dropped leaves the record as it is, and the store at work.
pub async fn a_dropped_load_leaves_the_record(store: Arc<dyn SessionStore>) {
    let store = &Subject(store);
    let original = &record(1, now() + HOUR);
    with_every_number_of_polls(|handle, polls| async move {
        store.create(&handle, original).await;
        let loaded = poll_times(store.0.load(&handle), polls).await;
        let when = &format!("after a load that was dropped after {polls} polls");
        store.holds(&handle, original, when).await;
        works_on(store, &handle, original, when).await;
        loaded.is_some()
    })
    .await;
}

/// An `update` that is dropped has replaced the whole record or nothing, and a later `update` of the same
/// version is a conflict or done accordingly.
pub async fn a_dropped_update_takes_effect_wholly_or_not(store: Arc<dyn SessionStore>) {
    let store = &Subject(store);
    let start = now();
    let original = &record(1, start + HOUR);
    let dropped = &record(2, start + DAY);
    let second = &record(3, start + 2 * HOUR);
    with_every_number_of_polls(|handle, polls| async move {
        store.create(&handle, original).await;
        let updated = poll_times(store.0.update(&handle, dropped, version(1), start), polls).await;
        let when = &format!("after an update that was dropped after {polls} polls");
        one_of(store, &handle, original, dropped, when).await;

        let last = match store.update(&handle, second, version(1), start).await {
            Outcome::Done => {
                assert!(
                    !matches!(updated, Some(Ok(Outcome::Done))),
                    "update: done twice with one expected version"
                );
                second
            }
            Outcome::Conflict => dropped,
            Outcome::Missing => panic!("{when}: the record is gone"),
        };
        store.holds(&handle, last, when).await;
        works_on(store, &handle, last, when).await;
        updated.is_some()
    })
    .await;
}

/// A `touch` that is dropped has moved the expiry or not, and nothing else: a later `update` of the same
/// version is done in either case.
pub async fn a_dropped_touch_takes_effect_wholly_or_not(store: Arc<dyn SessionStore>) {
    let store = &Subject(store);
    let start = now();
    let original = &record(1, start + HOUR);
    let extended = &touched(original, start + DAY);
    with_every_number_of_polls(|handle, polls| async move {
        store.create(&handle, original).await;
        let touch = store
            .0
            .touch(&handle, extended.expires_at, version(1), start);
        let touched = poll_times(touch, polls).await;
        let when = &format!("after a touch that was dropped after {polls} polls");
        one_of(store, &handle, original, extended, when).await;
        works_on(store, &handle, original, when).await;
        touched.is_some()
    })
    .await;
}

/// A `delete` that is dropped has deleted the whole record or nothing, and a later one is as final as ever.
pub async fn a_dropped_delete_takes_effect_wholly_or_not(store: Arc<dyn SessionStore>) {
    let store = &Subject(store);
    let start = now();
    let original = &record(1, start + HOUR);
    with_every_number_of_polls(|handle, polls| async move {
        store.create(&handle, original).await;
        let deleted = poll_times(store.0.delete(&handle), polls).await;
        let when = &format!("after a delete that was dropped after {polls} polls");
        if let Some(found) = store.load(&handle).await {
            assert_same(&found, original, when);
        }
        let found = store.delete(&handle).await;
        assert!(
            !(found && matches!(deleted, Some(Ok(true)))),
            "delete: one record was found by two"
        );
        store.holds_none(&handle, when).await;
        let outcome = store
            .update(&handle, &record(2, start + HOUR), version(1), start)
            .await;
        assert_eq!(outcome, Outcome::Missing, "{when} and another: update");
        store.holds_none(&handle, when).await;
        deleted.is_some()
    })
    .await;
}

/// A `delete_expired` that is dropped has deleted some of the expired records, each of them wholly, and
/// none that lives; a later one deletes the others.
pub async fn a_dropped_delete_expired_takes_whole_records_or_none(store: Arc<dyn SessionStore>) {
    const RECORDS: u8 = 6;
    let store = &Subject(store);
    let by_itself = store.expires_by_itself().await;
    let start = now();
    let later = start + HOUR + SWEEP_GRACE;
    with_every_number_of_polls(|handle, polls| async move {
        let handles = (0..RECORDS).map(|number| {
            let mut bytes = *handle.as_bytes();
            bytes[0] = number;
            Handle::from_bytes(bytes)
        });
        // Every other one lives on.
        let records = (0..RECORDS).map(|number| {
            let expires_at = start + if number % 2 == 0 { HOUR } else { DAY };
            record(u64::from(number), expires_at)
        });
        let records: Vec<(Handle, Record)> = handles.zip(records).collect();
        for (handle, record) in &records {
            store.create(handle, record).await;
        }
        let deleted = poll_times(store.0.delete_expired(later, 100), polls).await;
        let when = &format!("after a delete_expired that was dropped after {polls} polls");
        for (handle, record) in &records {
            match store.load(handle).await {
                Some(found) => assert_same(&found, record, when),
                None => assert!(record.expires_at <= later, "{when}: a live record is gone"),
            }
        }

        store.delete_expired(later, 100).await;
        let when = &format!("{when}, and another one");
        for (handle, record) in &records {
            if record.expires_at > later {
                works_on(store, handle, record, when).await;
            } else if !by_itself {
                store.holds_none(handle, when).await;
            }
        }
        deleted.is_some()
    })
    .await;
}

/// Checks that the store holds one of these two.
async fn one_of(store: &Subject, handle: &Handle, old: &Record, new: &Record, when: &str) {
    match store.load(handle).await {
        None => panic!("{when}: the record is gone"),
        Some(found) if found == *old => {}
        Some(found) => assert_same(&found, new, &format!("{when}, if it is not the old one")),
    }
}

/// Checks that a record that was dealt with can be updated, touched and loaded, and that it stays as it is
/// then: nothing that was dropped comes after.
async fn works_on(store: &Subject, handle: &Handle, stored: &Record, when: &str) {
    let start = now();
    let last = record(9, start + HOUR);
    let outcome = store.update(handle, &last, stored.version, start).await;
    assert_eq!(outcome, Outcome::Done, "{when}: the next update");
    let outcome = store.touch(handle, start + DAY, last.version, start).await;
    assert_eq!(outcome, Outcome::Done, "{when}: the next touch");
    let last = touched(&last, start + DAY);
    store
        .holds(handle, &last, &format!("{when}, and an update and a touch"))
        .await;
}
