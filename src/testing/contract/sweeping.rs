//! `delete_expired`: takes what is dead for good, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use super::support::{DAY, HOUR, MILLISECOND, MINUTE, Subject, handle, now, record, version};
use crate::store::{Outcome, SWEEP_GRACE, SessionStore};

/// `delete_expired` leaves live records alone, and finds nothing in an empty store.
pub async fn delete_expired_spares_the_living(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    assert_eq!(
        store.delete_expired(start, 10).await,
        0,
        "delete_expired in an empty store"
    );
    let records = [MINUTE, HOUR, DAY].map(|lifetime| record(1, start + lifetime));
    for (number, record) in (0..).zip(&records) {
        store.create(&handle(number), record).await;
    }
    for time in [start - DAY, start, start + MINUTE - MILLISECOND] {
        assert_eq!(
            store.delete_expired(time, 10).await,
            0,
            "delete_expired where all records are live"
        );
        for (number, record) in (0..).zip(&records) {
            let when = "after a delete_expired while it was live";
            store.holds(&handle(number), record, when).await;
        }
    }
}

/// `delete_expired` spares what expired less than [`SWEEP_GRACE`] ago, to the millisecond.
pub async fn delete_expired_spares_the_grace_period(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let expires_at = now() + HOUR;
    let original = record(1, expires_at);
    store.create(&handle(1), &original).await;
    for late in [Duration::ZERO, MILLISECOND, SWEEP_GRACE - MILLISECOND] {
        assert_eq!(
            store.delete_expired(expires_at + late, 10).await,
            0,
            "delete_expired {late:?} after the expiry"
        );
        let when = format!("after a delete_expired {late:?} after its expiry");
        store.holds(&handle(1), &original, &when).await;
    }
}

/// `delete_expired` deletes what expired [`SWEEP_GRACE`] ago or longer, and says how many; unless the
/// engine has expired them by itself.
pub async fn delete_expired_deletes_from_the_end_of_the_grace_period_on(
    store: Arc<dyn SessionStore>,
) {
    let store = Subject(store);
    let by_itself = store.expires_by_itself().await;
    let start = now();
    let live = record(9, start + DAY);
    store.create(&handle(9), &live).await;
    for (number, late) in [
        (1, SWEEP_GRACE),
        (2, SWEEP_GRACE + MILLISECOND),
        (3, 2 * HOUR),
    ] {
        let expires_at = start + HOUR;
        store
            .create(&handle(number), &record(number, expires_at))
            .await;
        let deleted = store.delete_expired(expires_at + late, 10).await;
        if by_itself {
            continue;
        }
        assert_eq!(
            deleted, 1,
            "delete_expired {late:?} after the expiry of one record"
        );
        let when = "after the delete_expired that counted it";
        store.holds_none(&handle(number), when).await;
        assert!(
            store.try_create(&handle(number), &live).await,
            "create: a handle whose record was swept is refused"
        );
    }
    store
        .holds(
            &handle(9),
            &live,
            "after a delete_expired while it was live",
        )
        .await;

    // By the real time as well, which an engine that expires by itself goes by.
    let expired = record(4, start - DAY);
    store.create(&handle(4), &expired).await;
    let when = "after the create of an expired record";
    let there = store.holds_unless_expired(&handle(4), &expired, when).await;
    let deleted = store.delete_expired(start, 10).await;
    assert!(
        deleted == 1 || !there,
        "delete_expired: {deleted} deleted, where one record had expired"
    );
    store.holds_none(&handle(4), "after it was swept").await;
}

/// `delete_expired` deletes at most as many as it is told, and of few records fewer only if none are left.
pub async fn delete_expired_keeps_to_its_limit(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let by_itself = store.expires_by_itself().await;
    let start = now();
    let live = record(100, start + DAY);
    store.create(&handle(100), &live).await;
    for number in 0..7 {
        let expires_at = start + HOUR + MILLISECOND * (number % 3) as u32;
        store
            .create(&handle(number), &record(number, expires_at))
            .await;
    }
    let later = start + 2 * HOUR;
    assert_eq!(
        store.delete_expired(later, 0).await,
        0,
        "delete_expired with a limit of 0"
    );
    for (call, expected) in [3, 3, 1, 0].into_iter().enumerate() {
        let deleted = store.delete_expired(later, 3).await;
        if by_itself {
            continue;
        }
        assert_eq!(
            deleted, expected,
            "call {call} of delete_expired with a limit of 3, where 7 records have expired"
        );
        let mut left = 0;
        for number in 0..7 {
            left += usize::from(store.load(&handle(number)).await.is_some());
        }
        assert_eq!(
            left,
            7_usize.saturating_sub(3 * (call + 1)),
            "records left after call {call} of delete_expired with a limit of 3"
        );
    }
    // A limit too large for a signed column of 64 bits.
    store.delete_expired(later, usize::MAX).await;
    store
        .holds(
            &handle(100),
            &live,
            "after a delete_expired while it was live",
        )
        .await;
}

/// `delete_expired` goes by the expiry that the last `update` or `touch` has set, be it later or earlier
/// than the one the record was created with.
pub async fn delete_expired_follows_updates_and_touches(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let by_itself = store.expires_by_itself().await;
    let start = now();
    let (sooner, later) = (start + HOUR, start + DAY);
    for number in 1..=3 {
        let expires_at = if number == 3 { later } else { sooner };
        store
            .create(&handle(number), &record(number, expires_at))
            .await;
    }
    let touch = store.touch(&handle(1), later, version(1), start).await;
    assert_eq!(touch, Outcome::Done, "touch with the version stored");
    for (number, expires_at) in [(2, later), (3, sooner)] {
        let update = store
            .update(
                &handle(number),
                &record(10 + number, expires_at),
                version(number),
                start,
            )
            .await;
        assert_eq!(update, Outcome::Done, "update with the version stored");
    }

    let deleted = store.delete_expired(sooner + SWEEP_GRACE, 10).await;
    let extended = record(1, sooner);
    let extended = super::support::touched(&extended, later);
    let when = "after a delete_expired past the expiry it had before a touch";
    store.holds(&handle(1), &extended, when).await;
    let when = "after a delete_expired past the expiry it had before an update";
    store.holds(&handle(2), &record(12, later), when).await;
    if by_itself {
        return;
    }
    assert_eq!(
        deleted, 1,
        "delete_expired after one record's expiry was lowered"
    );
    let when = "after a delete_expired past the expiry that an update has set";
    store.holds_none(&handle(3), when).await;
    assert_eq!(
        store.delete_expired(later + SWEEP_GRACE, 10).await,
        2,
        "delete_expired after the expiry that an update and a touch have set"
    );
}
