//! `delete`: an end that is final.

use std::sync::Arc;

use super::support::{HOUR, MILLISECOND, Subject, handle, now, record, version};
use crate::store::{Outcome, SessionStore};

/// After a `delete` the record is gone, and stays so whatever an `update` or a `touch` on its way does.
pub async fn delete_is_final(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    let original = record(1, start + HOUR);
    store.create(&handle(1), &original).await;
    assert!(
        store.delete(&handle(1)).await,
        "delete: false, though there was a record"
    );
    store.holds_none(&handle(1), "after a delete").await;

    let outcome = store
        .update(&handle(1), &record(2, start + HOUR), version(1), start)
        .await;
    assert_eq!(outcome, Outcome::Missing, "update after a delete");
    store
        .holds_none(&handle(1), "after a delete and an update")
        .await;

    let outcome = store
        .touch(&handle(1), start + 2 * HOUR, version(1), start)
        .await;
    assert_eq!(outcome, Outcome::Missing, "touch after a delete");
    store
        .holds_none(&handle(1), "after a delete and a touch")
        .await;

    assert!(
        !store.delete(&handle(1)).await,
        "delete: true, though the record was deleted before"
    );
}

/// `delete` of what is not there is `false`, and no error.
pub async fn delete_of_an_unknown_handle_is_no_error(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    for _ in 0..2 {
        assert!(
            !store.delete(&handle(1)).await,
            "delete: true, though there was never a record"
        );
    }
}

/// `delete` takes a record that has expired, too, and says so.
pub async fn delete_takes_an_expired_record_too(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    for (number, age) in [(1, MILLISECOND), (2, HOUR)] {
        let expired = record(number, start - age);
        store.create(&handle(number), &expired).await;
        let when = "after the create of an expired record";
        let there = store
            .holds_unless_expired(&handle(number), &expired, when)
            .await;
        let deleted = store.delete(&handle(number)).await;
        assert!(
            deleted || !there,
            "delete: false, though there was an expired record"
        );
        let when = "after the delete of an expired record";
        store.holds_none(&handle(number), when).await;
        assert!(
            !store.delete(&handle(number)).await,
            "delete: true, though the expired record was deleted before"
        );
        assert!(
            store
                .try_create(&handle(number), &record(3, start + HOUR))
                .await,
            "create: the handle of an expired record that was deleted is refused"
        );
    }
}

/// A handle whose record was deleted is free for a `create`, and nothing of the old record shows.
pub async fn a_deleted_handle_can_be_created_again(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    for number in 1..=3 {
        let record = record(number, start + HOUR);
        assert!(
            store.try_create(&handle(1), &record).await,
            "create: a handle whose record was deleted is refused"
        );
        store
            .holds(&handle(1), &record, "after a delete and a create")
            .await;
        assert!(
            store.delete(&handle(1)).await,
            "delete: false, though there was a record"
        );
    }
}
