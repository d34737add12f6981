//! What the rules are written with.

use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Barrier;

use crate::clock::{Clock, SystemClock, from_unix_millis, to_unix_millis};
use crate::store::{Handle, Outcome, Record, SessionStore, StoreError, StoreErrorKind, Version};

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// After this time, what is not done counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a race or a cancellation is repeated, since each run may take another turn.
pub(super) const ROUNDS: u64 = 8;

/// The real time, as precise as stores are.
///
/// Real, since an engine may expire records by itself.
pub(super) fn now() -> OffsetDateTime {
    from_unix_millis(to_unix_millis(SystemClock.now()))
}

pub(super) fn handle(number: u64) -> Handle {
    let mut bytes = [0xC0; 16];
    bytes[4..12].copy_from_slice(&number.to_be_bytes());
    Handle::from_bytes(bytes)
}

pub(super) fn version(number: u64) -> Version {
    Version::from_u64(number)
}

/// A record whose other fields all follow from its version and its expiry, so that a mixture of two shows.
pub(super) fn record(number: u64, expires_at: OffsetDateTime) -> Record {
    Record {
        version: version(number),
        created_at: expires_at - DAY - MILLISECOND * (number % 1_000) as u32,
        expires_at,
        user_id: (number % 2 == 1).then(|| format!("user {number}").into()),
        payload: format!("<{number}>")
            .repeat(1 + number as usize % 64)
            .into_bytes()
            .into(),
    }
}

/// The record as it is after a touch.
pub(super) fn touched(record: &Record, expires_at: OffsetDateTime) -> Record {
    Record {
        expires_at,
        ..record.clone()
    }
}

/// The store under test. A failure of the engine ends the test.
#[derive(Clone)]
pub(super) struct Subject(pub(super) Arc<dyn SessionStore>);

impl Subject {
    pub(super) async fn create(&self, handle: &Handle, record: &Record) {
        if !self.try_create(handle, record).await {
            panic!("create: the handle is refused as in use, but it has no record");
        }
    }

    /// Whether the record was created; if not, the handle was in use.
    pub(super) async fn try_create(&self, handle: &Handle, record: &Record) -> bool {
        match self.0.create(handle, record).await {
            Ok(()) => true,
            Err(error) if error.kind() == StoreErrorKind::HandleInUse => false,
            Err(error) => failed("create", &error),
        }
    }

    pub(super) async fn load(&self, handle: &Handle) -> Option<Record> {
        let loaded = self.0.load(handle).await;
        loaded.unwrap_or_else(|error| failed("load", &error))
    }

    pub(super) async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Outcome {
        let outcome = self.0.update(handle, record, expected, now).await;
        outcome.unwrap_or_else(|error| failed("update", &error))
    }

    pub(super) async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Outcome {
        let outcome = self.0.touch(handle, expires_at, expected, now).await;
        outcome.unwrap_or_else(|error| failed("touch", &error))
    }

    pub(super) async fn delete(&self, handle: &Handle) -> bool {
        let deleted = self.0.delete(handle).await;
        deleted.unwrap_or_else(|error| failed("delete", &error))
    }

    /// Calls `delete_expired`, and checks that it deleted no more than it was allowed to.
    pub(super) async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> usize {
        let deleted = self.0.delete_expired(now, limit).await;
        let deleted = deleted.unwrap_or_else(|error| failed("delete_expired", &error));
        assert!(
            deleted <= limit,
            "delete_expired: {deleted} records deleted with a limit of {limit}"
        );
        deleted
    }

    /// Checks that the store holds exactly this record.
    pub(super) async fn holds(&self, handle: &Handle, expected: &Record, when: &str) {
        match self.load(handle).await {
            None => panic!("{when}: the record is gone"),
            Some(found) => assert_same(&found, expected, when),
        }
    }

    /// Checks that the store holds no record.
    pub(super) async fn holds_none(&self, handle: &Handle, when: &str) {
        if let Some(found) = self.load(handle).await {
            panic!("{when}: there is a record, {found:?}");
        }
    }

    /// Checks that the store holds exactly this record, unless its engine has expired it by itself. Whether
    /// it is there.
    pub(super) async fn holds_unless_expired(
        &self,
        handle: &Handle,
        expected: &Record,
        when: &str,
    ) -> bool {
        let found = self.load(handle).await;
        if let Some(found) = &found {
            assert_same(found, expected, when);
        }
        found.is_some()
    }

    /// Whether the engine expires records by itself: then one that is a day past its expiry when it is
    /// created is gone at once, and its handle is free.
    pub(super) async fn expires_by_itself(&self) -> bool {
        let probe = handle(u64::MAX);
        let expired = record(1, now() - DAY);
        self.create(&probe, &expired).await;
        let gone = self.load(&probe).await.is_none() && self.try_create(&probe, &expired).await;
        self.delete(&probe).await;
        gone
    }
}

fn failed(operation: &str, error: &StoreError) -> ! {
    panic!("{operation} failed: {error:?}")
}

/// Checks field by field, since the `Debug` of a record shows neither user nor payload.
pub(super) fn assert_same(found: &Record, expected: &Record, when: &str) {
    let mut differences = Vec::new();
    if found.version != expected.version {
        differences.push(format!(
            "the version is {:?} and should be {:?}",
            found.version, expected.version
        ));
    }
    if found.created_at != expected.created_at {
        differences.push(format!(
            "created_at is {} and should be {}",
            found.created_at, expected.created_at
        ));
    }
    if found.expires_at != expected.expires_at {
        differences.push(format!(
            "expires_at is {} and should be {}",
            found.expires_at, expected.expires_at
        ));
    }
    if found.user_id != expected.user_id {
        differences.push(format!(
            "the user id is {:?} and should be {:?}",
            found.user_id, expected.user_id
        ));
    }
    if found.payload != expected.payload {
        differences.push(format!(
            "the payload of {} bytes is not the one of {} bytes that was written",
            found.payload.len(),
            expected.payload.len()
        ));
    }
    assert!(differences.is_empty(), "{when}: {}", differences.join("; "));
}

/// Runs that many tasks from a common start, and returns what each returned, in their order.
pub(super) async fn race<F, R>(tasks: usize, task: F) -> Vec<R::Output>
where
    F: Fn(usize) -> R,
    R: Future<Output: Send> + Send + 'static,
{
    let start = Arc::new(Barrier::new(tasks));
    let running: Vec<_> = (0..tasks)
        .map(|index| {
            let start = start.clone();
            let task = task(index);
            tokio::spawn(async move {
                start.wait().await;
                task.await
            })
        })
        .collect();
    let mut results = Vec::with_capacity(tasks);
    for task in running {
        match in_time(task).await {
            Ok(result) => results.push(result),
            // Another way to fail is not there: nobody aborts these tasks.
            Err(error) => resume_unwind(error.into_panic()),
        }
    }
    results
}

/// Polls the future that many times, each time as it wakes, and drops it. What it returned, if it was
/// ready by then.
pub(super) async fn poll_times<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    in_time(poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }))
    .await
}

/// What the future returns, unless it hangs.
pub(super) async fn in_time<F: Future>(future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("the store has not answered within {PATIENCE:?}"),
    }
}
