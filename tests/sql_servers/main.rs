//! What is special about the stores on SQL servers.
#![cfg(all(feature = "postgres", feature = "mysql", feature = "testing"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::future_not_send)]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cloakroom::clock::from_unix_millis;
use cloakroom::store::{
    Handle, Outcome, Record, SessionStore, StoreError, StoreErrorKind, Version,
};
use time::OffsetDateTime;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

#[path = "../support/counting_proxy.rs"]
mod proxy;
#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/sql.rs"]
mod sql;

mod by_user;
mod mysql;
mod postgres;

const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;
const HANDLE: Handle = Handle::from_bytes([7; 16]);
const OTHER: Handle = Handle::from_bytes([8; 16]);

fn record(version: u64, expires_at: i64) -> Record {
    Record {
        version: v(version),
        created_at: from_unix_millis(NOW - HOUR),
        expires_at: from_unix_millis(expires_at),
        user_id: Some(format!("user {version}").into()),
        payload: vec![version as u8; 5_000].into(),
    }
}

fn v(version: u64) -> Version {
    Version::from_u64(version)
}

fn now() -> OffsetDateTime {
    from_unix_millis(NOW)
}

/// Ends a test that would hang, and is no measure of time.
async fn without_hanging<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it hangs")
}

/// Asks until the answer is yes.
async fn wait_until(mut is_so: impl AsyncFnMut() -> bool) {
    without_hanging(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Runs the tasks from a common start.
async fn at_once<T: Send + 'static>(
    tasks: Vec<impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let barrier = Arc::new(Barrier::new(tasks.len()));
    let mut running = JoinSet::new();
    for task in tasks {
        let barrier = barrier.clone();
        running.spawn(async move {
            barrier.wait().await;
            task.await
        });
    }
    without_hanging(running.join_all()).await
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Create,
    Load,
    LoadNothing,
    Update,
    UpdateInConflict,
    UpdateOfExpired,
    UpdateOfNothing,
    Touch,
    TouchInConflict,
    Delete,
    Sweep,
}

impl Operation {
    const ALL: [Self; 11] = [
        Self::Create,
        Self::Load,
        Self::LoadNothing,
        Self::Update,
        Self::UpdateInConflict,
        Self::UpdateOfExpired,
        Self::UpdateOfNothing,
        Self::Touch,
        Self::TouchInConflict,
        Self::Delete,
        Self::Sweep,
    ];

    /// The record of [`HANDLE`] that it begins with.
    fn before(self) -> Option<Record> {
        match self {
            Self::Create | Self::LoadNothing | Self::UpdateOfNothing => None,
            Self::Sweep | Self::UpdateOfExpired => Some(record(1, NOW - HOUR)),
            _ => Some(record(1, NOW + HOUR)),
        }
    }

    async fn run(self, store: &dyn SessionStore) {
        let new = record(2, NOW + HOUR);
        let later = from_unix_millis(NOW + 2 * HOUR);
        let update = async |expected, outcome| {
            let result = store.update(&HANDLE, &new, expected, now()).await;
            assert_eq!(result.unwrap(), outcome);
        };
        match self {
            Self::Create => store.create(&HANDLE, &new).await.unwrap(),
            Self::Load => assert!(store.load(&HANDLE).await.unwrap().is_some()),
            Self::LoadNothing => assert!(store.load(&HANDLE).await.unwrap().is_none()),
            Self::Update => update(v(1), Outcome::Done).await,
            Self::UpdateInConflict => update(v(9), Outcome::Conflict).await,
            Self::UpdateOfExpired | Self::UpdateOfNothing => update(v(1), Outcome::Missing).await,
            Self::Touch => {
                let outcome = store.touch(&HANDLE, later, v(1), now()).await.unwrap();
                assert_eq!(outcome, Outcome::Done);
            }
            Self::TouchInConflict => {
                let outcome = store.touch(&HANDLE, later, v(9), now()).await.unwrap();
                assert_eq!(outcome, Outcome::Conflict);
            }
            Self::Delete => assert!(store.delete(&HANDLE).await.unwrap()),
            Self::Sweep => assert_eq!(store.delete_expired(now(), 10).await.unwrap(), 1),
        }
    }
}

async fn every_operation_works(store: &dyn SessionStore) {
    for operation in Operation::ALL {
        begin(store, operation).await;
        operation.run(store).await;
    }
}

async fn begin(store: &dyn SessionStore, operation: Operation) {
    store.delete(&HANDLE).await.unwrap();
    if let Some(record) = operation.before() {
        store.create(&HANDLE, &record).await.unwrap();
    }
}

/// Counts the round trips of each operation on a connection that has prepared its statements. What the pool
/// sends when it takes the connection back does not delay the operation, and is not counted.
async fn count_round_trips(
    store: &dyn SessionStore,
    proxy: &proxy::Proxy,
    ping: &[u8],
    is_free: impl Fn() -> bool,
) -> Vec<(Operation, usize)> {
    let settled = async || wait_until(async || is_free()).await;
    every_operation_works(store).await;
    let mut counts = Vec::new();
    for operation in Operation::ALL {
        begin(store, operation).await;
        settled().await;
        proxy.take_flights();
        operation.run(store).await;
        settled().await;
        let flights = proxy.take_flights();
        let pings = flights.iter().filter(|flight| flight.as_slice() == ping);
        assert!(pings.count() >= 1, "{flights:?}");
        let others = flights.iter().filter(|flight| flight.as_slice() != ping);
        counts.push((operation, others.count()));
    }
    counts
}

/// Polls the future so many times and drops it; `true` if it was ready before.
async fn drop_after_polls(future: impl Future<Output = ()>, polls: usize) -> bool {
    let mut future = pin!(future);
    let mut done = 0;
    without_hanging(poll_fn(|context| {
        if done == polls {
            return Poll::Ready(false);
        }
        done += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if done == polls => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    }))
    .await
}

/// With a store of one connection: whatever is dropped, and when, the next operation on it has its own
/// answer.
async fn drop_everything_everywhere(store: &dyn SessionStore) {
    // What it loads comes in many packets, and looks like packets itself, whatever its offset.
    let large = Record {
        payload: [0_u8, 0, 0, 1, 0, 0, 2, 0, 0, 0, 254, 255]
            .repeat(20_000)
            .into(),
        ..record(1, NOW + HOUR)
    };
    store.create(&OTHER, &large).await.unwrap();
    let load_large = async || {
        assert!(store.load(&OTHER).await.unwrap() == Some(large.clone()));
    };
    let check = async |when: String| {
        let loaded = without_hanging(store.load(&OTHER)).await.unwrap();
        assert!(loaded.as_ref() == Some(&large), "{when}");
    };
    for polls in 0.. {
        let ready = drop_after_polls(load_large(), polls).await;
        check(format!("a large load after {polls} polls")).await;
        if ready {
            break;
        }
    }
    for operation in Operation::ALL {
        for polls in 0.. {
            begin(store, operation).await;
            let ready = drop_after_polls(operation.run(store), polls).await;
            check(format!("{operation:?} after {polls} polls")).await;
            if ready {
                break;
            }
        }
    }
}

/// User ids that a collation may take for one another.
const SIMILAR_USER_IDS: [&str; 8] = ["a", "A", "a ", "a\u{301}", "á", "ａ", "", " "];

async fn create_similar_users(store: &dyn SessionStore) {
    for (number, user_id) in (0..).zip(SIMILAR_USER_IDS) {
        let record = Record {
            user_id: Some(user_id.into()),
            ..record(1, NOW + HOUR)
        };
        let handle = Handle::from_bytes([number; 16]);
        store.create(&handle, &record).await.unwrap();
        assert_eq!(store.load(&handle).await.unwrap(), Some(record));
    }
}

/// Payloads around the limits of columns and packets.
async fn large_payloads_come_back(store: &dyn SessionStore) {
    for (number, length) in (0..).zip([65_535, 65_536, 1 << 20, (1 << 20) + 1]) {
        let handle = Handle::from_bytes([number; 16]);
        let large = Record {
            payload: (0..=255).cycle().take(length).collect(),
            ..record(2, NOW + HOUR)
        };
        store.create(&handle, &record(1, NOW + HOUR)).await.unwrap();
        let outcome = store.update(&handle, &large, v(1), now()).await.unwrap();
        assert_eq!(outcome, Outcome::Done);
        assert!(store.load(&handle).await.unwrap() == Some(large));
    }
}

async fn assert_undecodable(store: &dyn SessionStore, change: &str) {
    let error = store.load(&HANDLE).await.expect_err(change);
    assert_eq!(error.kind(), StoreErrorKind::Undecodable, "{change}");
    assert!(store.delete(&HANDLE).await.unwrap(), "{change}");
}

async fn assert_missing_table_is_named(store: &dyn SessionStore) {
    let new = record(1, NOW + HOUR);
    for error in [
        store.create(&HANDLE, &new).await.unwrap_err(),
        store.load(&HANDLE).await.unwrap_err(),
        store.update(&HANDLE, &new, v(1), now()).await.unwrap_err(),
        store.touch(&HANDLE, now(), v(1), now()).await.unwrap_err(),
        store.delete(&HANDLE).await.unwrap_err(),
        store.delete_expired(now(), 1).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        let error = error.to_string();
        assert!(error.contains("call the store's migrate()"), "{error}");
    }
}

fn assert_no_server_is_named(connected: Result<impl SessionStore, StoreError>) {
    let error = connected.expect_err("nobody listens on port 1");
    assert_eq!(error.kind(), StoreErrorKind::TimedOut);
    assert!(
        error.to_string().contains("127.0.0.1:1 within 5s"),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}
