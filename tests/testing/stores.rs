//! Spies, failures and pauses around a store.

use std::sync::Arc;
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::store::{
    Handle, Link, LoginProgress, MemoryStore, Outcome, Record, SessionStore, StoreError,
    StoreErrorKind, UserIndex, Version, Whose,
};
use cloakroom::testing::{
    Call, Calls, FailingStore, ManualClock, Operation, PausingStore, SpyStore, Times, When,
};
use time::OffsetDateTime;

use crate::reference_store::ReferenceStore;

const ALL: [Operation; 6] = [
    Operation::Create,
    Operation::Load,
    Operation::Update,
    Operation::Touch,
    Operation::Delete,
    Operation::DeleteExpired,
];

/// They keep the contract as the store in them does.
mod wrapped_three_times {
    use super::*;

    async fn make_store() -> impl SessionStore {
        SpyStore::new(FailingStore::new(PausingStore::new(
            ReferenceStore::default(),
        )))
    }

    cloakroom::store_tests!(make_store);
}

fn handle() -> Handle {
    Handle::from_bytes([7; 16])
}

fn record(version: u64, expires_at: OffsetDateTime) -> Record {
    Record {
        version: Version::from_u64(version),
        created_at: expires_at - Duration::from_secs(60),
        expires_at,
        user_id: None,
        payload: [][..].into(),
    }
}

fn now() -> OffsetDateTime {
    ManualClock::new().now()
}

fn later() -> OffsetDateTime {
    now() + Duration::from_secs(600)
}

async fn call(store: &impl SessionStore, operation: Operation) -> Result<(), StoreError> {
    let expected = Version::from_u64(1);
    match operation {
        Operation::Create => store.create(&handle(), &record(1, later())).await,
        Operation::Load => store.load(&handle()).await.map(drop),
        Operation::Update => store
            .update(&handle(), &record(2, later()), expected, now())
            .await
            .map(drop),
        Operation::Touch => store
            .touch(
                &handle(),
                later() + Duration::from_secs(600),
                expected,
                now(),
            )
            .await
            .map(drop),
        Operation::Delete => store.delete(&handle()).await.map(drop),
        Operation::DeleteExpired => store.delete_expired(now(), 10).await.map(drop),
        _ => unreachable!("the six of a store itself are all"),
    }
}

/// A store with a record for every operation but `create` to work on, that has expired for a sweep.
async fn prepared(operation: Operation) -> Arc<ReferenceStore> {
    let store = Arc::new(ReferenceStore::default());
    let expires_at = match operation {
        Operation::Create => return store,
        Operation::DeleteExpired => now() - Duration::from_secs(600),
        _ => now() + Duration::from_secs(60),
    };
    store
        .create(&handle(), &record(1, expires_at))
        .await
        .unwrap();
    store
}

#[tokio::test]
async fn a_spy_counts_the_operations_of_an_index_as_well() {
    let spy = SpyStore::new(MemoryStore::new());
    let link = Link {
        linked_at: now(),
        expires_at: later(),
        refused_by_marks_from: now(),
        progress: LoginProgress::Complete,
        limit: None,
    };
    spy.link("alice", &handle(), &link).await.unwrap();
    for _ in 0..2 {
        spy.extend("alice", &handle(), later()).await.unwrap();
    }
    for _ in 0..3 {
        spy.unlink("alice", &handle()).await.unwrap();
    }
    for _ in 0..4 {
        spy.list("alice", now()).await.unwrap();
    }
    for _ in 0..5 {
        spy.mark(Whose::User("alice"), now()).await.unwrap();
    }
    for _ in 0..6 {
        spy.delete_linked(None, 10).await.unwrap();
    }
    let expected = Calls {
        link: 1,
        extend: 2,
        unlink: 3,
        list: 4,
        mark: 5,
        delete_linked: 6,
        ..Calls::default()
    };
    assert_eq!(spy.calls(), expected);
    assert_eq!((spy.total(), expected.total()), (21, 21));
}

#[tokio::test]
async fn a_spy_counts_each_operation_by_itself_and_in_order() {
    let spy = SpyStore::new(ReferenceStore::default());
    let store = spy.clone();
    for (index, operation) in ALL.into_iter().enumerate() {
        for _ in 0..=index {
            // The second create is refused, and counts.
            let _outcome = call(&store, operation).await;
        }
    }
    let expected = Calls {
        create: 1,
        load: 2,
        update: 3,
        touch: 4,
        delete: 5,
        delete_expired: 6,
        ..Calls::default()
    };
    assert_eq!(spy.calls(), expected);
    assert_eq!(spy.total(), 21);
    assert_eq!(expected.total(), 21);
    let log = spy.log();
    let first = Call {
        operation: Operation::Create,
        handle: Some(handle()),
    };
    let last = Call {
        operation: Operation::DeleteExpired,
        handle: None,
    };
    assert_eq!((log.len(), log[0], log[20]), (21, first, last));

    store.reset();
    assert_eq!(spy.calls(), Calls::default());
    assert_eq!((spy.total(), spy.log()), (0, vec![]));
}

#[tokio::test]
async fn a_call_that_is_dropped_or_fails_was_a_call() {
    let failing = FailingStore::new(ReferenceStore::default());
    failing.fail(Operation::Load, When::BeforeEffect, Times::Next(1));
    let pausing = PausingStore::new(failing);
    let spy = SpyStore::new(pausing.clone());
    spy.load(&handle()).await.unwrap_err();
    assert_eq!(spy.calls().load, 1);

    let pause = pausing.pause_before(Operation::Load);
    let dropped = tokio::time::timeout(Duration::ZERO, spy.load(&handle())).await;
    assert!(dropped.is_err());
    pause.reached().await;
    assert_eq!(spy.calls().load, 2);
}

#[tokio::test]
async fn a_failure_before_the_effect_leaves_the_store_alone() {
    for operation in ALL {
        let inner = prepared(operation).await;
        let before = inner.records.lock().unwrap().clone();
        let store = FailingStore::new(inner.clone());
        let told = store.clone();
        told.fail(operation, When::BeforeEffect, Times::Next(1));
        let error = call(&store, operation).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_eq!(*inner.records.lock().unwrap(), before, "{operation:?}");
        assert_eq!(told.failures(), 1);
    }
}

#[tokio::test]
async fn a_failure_after_the_effect_comes_when_the_store_has_done_it() {
    for operation in ALL {
        let inner = prepared(operation).await;
        let before = inner.records.lock().unwrap().clone();
        let store = FailingStore::new(inner.clone());
        store.fail(operation, When::AfterEffect, Times::Next(1));
        call(&store, operation).await.unwrap_err();
        let changed = *inner.records.lock().unwrap() != before;
        assert_eq!(changed, operation != Operation::Load, "{operation:?}");
    }
}

#[tokio::test]
async fn failures_come_as_often_as_told_and_to_no_other_operation() {
    let store = FailingStore::new(ReferenceStore::default());
    store.fail(Operation::Load, When::BeforeEffect, Times::Next(2));
    store.fail_with(Operation::Load, When::AfterEffect, Times::Next(1), || {
        StoreError::timed_out("too slow")
    });
    store.delete(&handle()).await.unwrap();
    let mut kinds = Vec::new();
    for _ in 0..4 {
        kinds.push(store.load(&handle()).await.map_err(|error| error.kind()));
    }
    assert_eq!(
        kinds,
        [
            Err(StoreErrorKind::Unavailable),
            Err(StoreErrorKind::Unavailable),
            Err(StoreErrorKind::TimedOut),
            Ok(None)
        ]
    );

    store.fail(Operation::Load, When::BeforeEffect, Times::Always);
    for _ in 0..5 {
        store.load(&handle()).await.unwrap_err();
    }
    assert_eq!(store.failures(), 8);
    store.heal();
    store.load(&handle()).await.unwrap();
}

#[tokio::test]
async fn a_pause_before_holds_each_operation_back_from_the_store() {
    for operation in ALL {
        let inner = prepared(operation).await;
        let before = inner.records.lock().unwrap().clone();
        let store = PausingStore::new(inner.clone());
        let pause = store.pause_before(operation);
        let paused = tokio::spawn({
            let store = store.clone();
            async move { call(&store, operation).await }
        });
        pause.reached().await;
        assert_eq!(*inner.records.lock().unwrap(), before, "{operation:?}");
        assert!(!paused.is_finished());
        pause.release();
        paused.await.unwrap().unwrap();
        let changed = *inner.records.lock().unwrap() != before;
        assert_eq!(changed, operation != Operation::Load, "{operation:?}");
    }
}

#[tokio::test]
async fn a_pause_after_holds_the_answer_back() {
    for operation in ALL {
        let inner = prepared(operation).await;
        let before = inner.records.lock().unwrap().clone();
        let store = PausingStore::new(inner.clone());
        let pause = store.pause_after(operation);
        let paused = tokio::spawn({
            let store = store.clone();
            async move { call(&store, operation).await }
        });
        pause.reached().await;
        let changed = *inner.records.lock().unwrap() != before;
        assert_eq!(changed, operation != Operation::Load, "{operation:?}");
        tokio::task::yield_now().await;
        assert!(!paused.is_finished());
        pause.release();
        paused.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_pause_is_for_one_call_and_operation() {
    let store = PausingStore::new(ReferenceStore::default());
    let first = store.pause_before(Operation::Load);
    let second = store.pause_before(Operation::Load);
    store.delete(&handle()).await.unwrap();

    let load = || {
        let store = store.clone();
        tokio::spawn(async move { store.load(&handle()).await.unwrap() })
    };
    let first_load = load();
    first.reached().await;
    let second_load = load();
    second.reached().await;
    store.load(&handle()).await.unwrap();

    second.release();
    second_load.await.unwrap();
    assert!(!first_load.is_finished());
    first.release();
    first_load.await.unwrap();
}

#[tokio::test]
async fn a_pause_that_was_released_or_dropped_stops_nobody() {
    let store = PausingStore::new(ReferenceStore::default());
    store.pause_before(Operation::Load).release();
    drop(store.pause_after(Operation::Load));
    // It comes to the pause after the ones that are over.
    let next = store.pause_after(Operation::Load);
    let paused = tokio::spawn({
        let store = store.clone();
        async move { store.load(&handle()).await }
    });
    next.reached().await;
    next.release();
    paused.await.unwrap().unwrap();

    let pause = store.pause_before(Operation::Load);
    let paused = tokio::spawn({
        let store = store.clone();
        async move { store.load(&handle()).await }
    });
    pause.reached().await;
    drop(pause);
    paused.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_paused_call_may_be_dropped() {
    let inner = Arc::new(ReferenceStore::default());
    let store = PausingStore::new(inner.clone());
    let pause = store.pause_before(Operation::Create);
    let paused = tokio::spawn({
        let store = store.clone();
        async move { store.create(&handle(), &record(1, later())).await }
    });
    pause.reached().await;
    paused.abort();
    assert!(paused.await.unwrap_err().is_cancelled());
    // It had come there.
    pause.reached().await;
    pause.release();
    assert!(inner.load(&handle()).await.unwrap().is_none());

    // The pause was for that call.
    store.create(&handle(), &record(1, later())).await.unwrap();
    let outcome = store
        .update(&handle(), &record(2, later()), Version::from_u64(1), now())
        .await
        .unwrap();
    assert_eq!(outcome, Outcome::Done);
}
