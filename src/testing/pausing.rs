//! A store that pauses where it is told.

use std::future::Future;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::{Operation, index_of, lock};
use crate::store::{
    DeletedSessions, Handle, Link, Linked, LinkedSession, Outcome, Position, Record, SessionStore,
    StoreError, UserIndex, Version, Whose,
};

/// A store around another that pauses where it is told, so that a test decides which of two overlapping
/// requests comes first, and no luck does.
///
/// A pause is for one call: the next of its operation that comes there. Several for one operation are for as
/// many calls, in the order in which they were asked for. Clones share the store and its pauses: the test
/// keeps one, and the app is given the other.
///
/// ```
/// # use cloakroom::store::{Handle, MemoryStore, SessionStore};
/// use cloakroom::testing::{Operation, PausingStore};
///
/// # #[tokio::main] async fn main() {
/// let store = PausingStore::new(MemoryStore::new());
/// let handle = Handle::from_bytes([7; 16]);
///
/// let pause = store.pause_before(Operation::Load);
/// let paused = tokio::spawn({
///     let store = store.clone();
///     async move { store.load(&handle).await.unwrap() }
/// });
/// pause.reached().await;
/// // The load has begun and has not seen the store yet: here comes what overlaps with it.
/// store.delete(&handle).await.unwrap();
/// pause.release();
/// assert!(paused.await.unwrap().is_none());
/// # }
/// ```
#[derive(Debug)]
pub struct PausingStore<S> {
    store: Arc<S>,
    pauses: Arc<Mutex<Vec<Point>>>,
}

/// A pause of a [`PausingStore`], which lasts until it is released or dropped.
///
/// So a test that fails in between lets go of the call, too. A call may be dropped while it pauses; then
/// releasing it has no effect.
#[derive(Debug)]
#[must_use = "a pause that is dropped does not pause anything"]
pub struct Pause {
    state: Arc<watch::Sender<State>>,
}

/// Where a call is to pause.
#[derive(Debug)]
struct Point {
    operation: Operation,
    place: Place,
    state: Arc<watch::Sender<State>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Before,
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No call has come yet.
    Awaited,
    /// A call is there.
    Reached,
    /// The call may go on.
    Released,
}

impl Pause {
    /// Waits until a call has come to the pause; at once if one has, be it dropped meanwhile.
    pub async fn reached(&self) {
        until(&self.state, |state| *state != State::Awaited).await;
    }

    /// Lets the call go on; or pass by, if it has not come yet.
    pub fn release(self) {}
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.state.send_replace(State::Released);
    }
}

impl<S: SessionStore> PausingStore<S> {
    /// A store around this one that does not pause yet.
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            pauses: Arc::default(),
        }
    }

    /// Lets the next call of the operation pause before it takes effect.
    pub fn pause_before(&self, operation: Operation) -> Pause {
        self.pause(operation, Place::Before)
    }

    /// Lets the next call of the operation pause after it took effect, with its answer on the way.
    pub fn pause_after(&self, operation: Operation) -> Pause {
        self.pause(operation, Place::After)
    }

    fn pause(&self, operation: Operation, place: Place) -> Pause {
        let state = Arc::new(watch::Sender::new(State::Awaited));
        lock(&self.pauses).push(Point {
            operation,
            place,
            state: state.clone(),
        });
        Pause { state }
    }

    async fn run<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError>
    where
        T: Send,
    {
        self.come_to(operation, Place::Before).await;
        let answer = call.await;
        self.come_to(operation, Place::After).await;
        answer
    }

    async fn come_to(&self, operation: Operation, place: Place) {
        let Some(state) = self.take_point(operation, place) else {
            return;
        };
        state.send_if_modified(|state| {
            // It may have been released since.
            let awaited = *state == State::Awaited;
            if awaited {
                *state = State::Reached;
            }
            awaited
        });
        until(&state, |state| *state == State::Released).await;
    }

    /// The pause that a call has come to, which is for this call only.
    fn take_point(&self, operation: Operation, place: Place) -> Option<Arc<watch::Sender<State>>> {
        let mut pauses = lock(&self.pauses);
        pauses.retain(|point| *point.state.borrow() != State::Released);
        let index = pauses
            .iter()
            .position(|point| point.operation == operation && point.place == place)?;
        Some(pauses.remove(index).state)
    }
}

async fn until(state: &watch::Sender<State>, is: impl FnMut(&State) -> bool + Send) {
    let waited = state.subscribe().wait_for(is).await.map(drop);
    debug_assert!(waited.is_ok(), "the sender is borrowed, so it is not gone");
}

impl<S> Clone for PausingStore<S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            pauses: self.pauses.clone(),
        }
    }
}

#[async_trait]
impl<S: SessionStore> SessionStore for PausingStore<S> {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        self.run(Operation::Create, self.store.create(handle, record))
            .await
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        self.run(Operation::Load, self.store.load(handle)).await
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let call = self.store.update(handle, record, expected, now);
        self.run(Operation::Update, call).await
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let call = self.store.touch(handle, expires_at, expected, now);
        self.run(Operation::Touch, call).await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        self.run(Operation::Delete, self.store.delete(handle)).await
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        let call = self.store.delete_expired(now, limit);
        self.run(Operation::DeleteExpired, call).await
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        self.store.user_index().map(|_| self as &dyn UserIndex)
    }
}

#[async_trait]
impl<S: SessionStore> UserIndex for PausingStore<S> {
    async fn link(
        &self,
        user_id: &str,
        handle: &Handle,
        link: &Link,
    ) -> Result<Linked, StoreError> {
        let call = index_of(&*self.store)?.link(user_id, handle, link);
        self.run(Operation::Link, call).await
    }

    async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let call = index_of(&*self.store)?.extend(user_id, handle, expires_at);
        self.run(Operation::Extend, call).await
    }

    async fn unlink(&self, user_id: &str, handle: &Handle) -> Result<(), StoreError> {
        let call = index_of(&*self.store)?.unlink(user_id, handle);
        self.run(Operation::Unlink, call).await
    }

    async fn list(
        &self,
        user_id: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<LinkedSession>, StoreError> {
        let call = index_of(&*self.store)?.list(user_id, now);
        self.run(Operation::List, call).await
    }

    async fn mark(&self, whose: Whose<'_>, at: OffsetDateTime) -> Result<(), StoreError> {
        let call = index_of(&*self.store)?.mark(whose, at);
        self.run(Operation::Mark, call).await
    }

    async fn delete_linked(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, StoreError> {
        let call = index_of(&*self.store)?.delete_linked(after, limit);
        self.run(Operation::DeleteLinked, call).await
    }
}
