//! `create` and `load`: what is written comes back.

use std::sync::Arc;

use super::support::{DAY, HOUR, MILLISECOND, Subject, handle, now, record, version};
use crate::store::{Handle, Outcome, Record, SessionStore};

/// `load` of a handle without a record is `None`, and no error.
pub async fn a_load_of_an_unknown_handle_is_none(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    store.holds_none(&handle(1), "in an empty store").await;
    store.create(&handle(2), &record(1, now() + HOUR)).await;
    let when = "next to the record of another handle";
    store.holds_none(&handle(1), when).await;
}

/// All 64 bits of a version come back, from a `create` and from an `update`.
pub async fn every_version_comes_back(store: Arc<dyn SessionStore>) {
    let numbers = [
        0,
        1,
        (1 << 53) + 1,
        i64::MAX as u64,
        i64::MIN as u64,
        u64::MAX - 1,
        u64::MAX,
        0x0123_4567_89AB_CDEF,
    ];
    comes_back(&Subject(store), "version", numbers, |number, record| {
        Record {
            version: version(number),
            ..record
        }
    })
    .await;
}

/// A user id comes back as it was, up to 255 bytes of any script, and none is not the empty one.
pub async fn every_user_id_comes_back(store: Arc<dyn SessionStore>) {
    let user_ids = [
        None,
        Some(String::new()),
        Some("alice".into()),
        Some("Alice".into()),
        Some(" alice ".into()),
        Some("0".into()),
        Some("null".into()),
        Some("o'brien\\\"%_;--\n\t".into()),
        Some("ünïcødé 用户 🧥".into()),
        Some("e\u{301}".into()),
        Some("x".repeat(255)),
        Some("🧥".repeat(63) + "abc"),
    ];
    comes_back(&Subject(store), "user id", user_ids, |user_id, record| {
        Record {
            user_id: user_id.map(Into::into),
            ..record
        }
    })
    .await;
}

/// A payload comes back byte for byte: empty, of every value of a byte, of 64 KiB.
pub async fn every_payload_comes_back(store: Arc<dyn SessionStore>) {
    let payloads = [
        Vec::new(),
        vec![0],
        b"\r\n text \0".to_vec(),
        (0..=255).collect(),
        (0..=255).rev().cycle().take(64 * 1024).collect(),
        vec![0xFF; 64 * 1024],
    ];
    comes_back(&Subject(store), "payload", payloads, |payload, record| {
        Record {
            payload: payload.into(),
            ..record
        }
    })
    .await;
}

/// Times come back to the millisecond, up to the longest session there can be.
pub async fn times_come_back_to_the_millisecond(store: Arc<dyn SessionStore>) {
    let start = now();
    let whole_second = start - MILLISECOND * u32::from(start.millisecond()) + HOUR;
    let times = [0, 1, 499, 500, 501, 999]
        .map(|milliseconds| whole_second + MILLISECOND * milliseconds)
        .into_iter()
        .chain([start + HOUR, start + 10 * 365 * DAY]);
    comes_back(&Subject(store), "time", times, |time, record| Record {
        created_at: time - 20 * 365 * DAY,
        expires_at: time,
        ..record
    })
    .await;
}

/// Writes a record with each value, by a `create` and by an `update`, and reads it.
async fn comes_back<V>(
    store: &Subject,
    field: &str,
    values: impl IntoIterator<Item = V>,
    with: impl Fn(V, Record) -> Record,
) where
    V: Clone,
{
    let start = now();
    for (index, value) in values.into_iter().enumerate() {
        let (created, updated) = (handle(2 * index as u64), handle(2 * index as u64 + 1));
        let written = with(value, record(1_001, start + HOUR));

        store.create(&created, &written).await;
        let when = format!("{field} {index} after create");
        store.holds(&created, &written, &when).await;

        store.create(&updated, &record(2_002, start + HOUR)).await;
        let outcome = store
            .update(&updated, &written, version(2_002), start)
            .await;
        assert_eq!(outcome, Outcome::Done, "update of {field} {index}");
        let when = format!("{field} {index} after update");
        store.holds(&updated, &written, &when).await;

        // A column of the version must also be compared with all its bits.
        let outcome = store
            .touch(&updated, written.expires_at, written.version, start)
            .await;
        assert_eq!(outcome, Outcome::Done, "touch of {field} {index}");
    }
}

/// `create` refuses a handle that has a record, with
/// [`HandleInUse`](crate::store::StoreErrorKind::HandleInUse), and overwrites nothing.
pub async fn a_handle_in_use_is_refused_by_create(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    let first = record(1, start + HOUR);
    store.create(&handle(1), &first).await;
    for other in [
        record(2, start + 2 * HOUR),
        record(3, start + HOUR / 2),
        first.clone(),
    ] {
        assert!(
            !store.try_create(&handle(1), &other).await,
            "create: a handle that has a record was accepted"
        );
        let when = "after a create was refused";
        store.holds(&handle(1), &first, when).await;
    }
}

/// `create` refuses the handle of a record that has expired, too, as long as the record is there.
pub async fn the_handle_of_an_expired_record_is_refused_by_create(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    for (number, age) in [(1, MILLISECOND), (2, HOUR), (3, 30 * DAY)] {
        let expired = record(number, start - age);
        store.create(&handle(number), &expired).await;
        let when = "after the create of an expired record";
        let there = store
            .holds_unless_expired(&handle(number), &expired, when)
            .await;

        let other = record(10 + number, start + HOUR);
        if store.try_create(&handle(number), &other).await {
            assert!(
                !there,
                "create: the handle of an expired record was accepted while the record was there"
            );
            let when = "after the create on a handle that had expired";
            store.holds(&handle(number), &other, when).await;
        } else {
            let when = "after a create was refused";
            store
                .holds_unless_expired(&handle(number), &expired, when)
                .await;
        }
    }
}

/// What happens under one handle happens under no other, be it different in one bit only, and the handles
/// of nothing but zeros and nothing but ones are as good as any.
pub async fn similar_handles_do_not_affect_each_other(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    let zeros = Handle::from_bytes([0; 16]);
    let ones = Handle::from_bytes([0xFF; 16]);
    let neighbours = (0..128).map(|bit| Handle::from_bytes((1_u128 << bit).to_be_bytes()));
    let others: Vec<_> = neighbours
        .chain([ones])
        .zip(100..)
        .map(|(handle, number)| (handle, record(number, start + HOUR)))
        .collect();
    let check_others = async |when: &str| {
        for (handle, record) in &others {
            store.holds(handle, record, when).await;
        }
    };

    for (handle, record) in &others {
        store.create(handle, record).await;
    }
    store.holds_none(&zeros, "next to similar handles").await;
    store.create(&zeros, &record(1, start + HOUR)).await;
    check_others("after the create of a similar handle").await;

    let updated = record(2, start + 2 * HOUR);
    let outcome = store.update(&zeros, &updated, version(1), start).await;
    assert_eq!(outcome, Outcome::Done, "update");
    let outcome = store
        .touch(&zeros, start + 3 * HOUR, version(2), start)
        .await;
    assert_eq!(outcome, Outcome::Done, "touch");
    check_others("after the update and the touch of a similar handle").await;

    assert!(store.delete(&zeros).await, "delete: no record was found");
    store.holds_none(&zeros, "after its delete").await;
    check_others("after the delete of a similar handle").await;
}
