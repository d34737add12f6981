//! A store that remembers what it was called for.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{Operation, index_of, lock};
use crate::store::{
    DeletedSessions, Handle, Link, Linked, LinkedSession, Outcome, Position, Record, SessionStore,
    StoreError, UserIndex, Version, Whose,
};

/// A store around another that remembers every call, so that a test can say how many round trips a request
/// takes, and that one takes none.
///
/// A call counts as soon as it begins, whatever becomes of it. Clones share the store and what is
/// remembered: the test keeps one, and the app is given the other.
///
/// ```
/// # use cloakroom::store::{Handle, MemoryStore, SessionStore};
/// use cloakroom::testing::{Call, Calls, Operation, SpyStore};
///
/// # #[tokio::main] async fn main() -> Result<(), cloakroom::store::StoreError> {
/// let spy = SpyStore::new(MemoryStore::new());
/// let store = spy.clone();
/// let handle = Handle::from_bytes([7; 16]);
///
/// store.load(&handle).await?;
/// store.delete(&handle).await?;
///
/// assert_eq!(spy.calls(), Calls { load: 1, delete: 1, ..Calls::default() });
/// assert_eq!(
///     spy.log(),
///     [
///         Call { operation: Operation::Load, handle: Some(handle) },
///         Call { operation: Operation::Delete, handle: Some(handle) },
///     ],
/// );
/// spy.reset();
/// assert_eq!(spy.total(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SpyStore<S> {
    store: Arc<S>,
    log: Arc<Mutex<Vec<Call>>>,
}

/// One call of a store, as a [`SpyStore`] remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was called.
    pub operation: Operation,
    /// The handle it was called with, if it takes one.
    pub handle: Option<Handle>,
}

/// How often each operation of a store was called.
///
/// ```
/// use cloakroom::testing::Calls;
///
/// let calls = Calls { load: 1, update: 2, ..Calls::default() };
/// assert_eq!(calls.total(), 3);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls of `create`.
    pub create: usize,
    /// Calls of `load`.
    pub load: usize,
    /// Calls of `update`.
    pub update: usize,
    /// Calls of `touch`.
    pub touch: usize,
    /// Calls of `delete`.
    pub delete: usize,
    /// Calls of `delete_expired`.
    pub delete_expired: usize,
    /// Calls of `link`.
    pub link: usize,
    /// Calls of `extend`.
    pub extend: usize,
    /// Calls of `unlink`.
    pub unlink: usize,
    /// Calls of `list`.
    pub list: usize,
    /// Calls of `mark`.
    pub mark: usize,
    /// Calls of `delete_linked`.
    pub delete_linked: usize,
}

impl Calls {
    /// Calls of any operation.
    pub fn total(&self) -> usize {
        self.create
            + self.load
            + self.update
            + self.touch
            + self.delete
            + self.delete_expired
            + self.link
            + self.extend
            + self.unlink
            + self.list
            + self.mark
            + self.delete_linked
    }

    fn count(&mut self, operation: Operation) {
        *match operation {
            Operation::Create => &mut self.create,
            Operation::Load => &mut self.load,
            Operation::Update => &mut self.update,
            Operation::Touch => &mut self.touch,
            Operation::Delete => &mut self.delete,
            Operation::DeleteExpired => &mut self.delete_expired,
            Operation::Link => &mut self.link,
            Operation::Extend => &mut self.extend,
            Operation::Unlink => &mut self.unlink,
            Operation::List => &mut self.list,
            Operation::Mark => &mut self.mark,
            Operation::DeleteLinked => &mut self.delete_linked,
        } += 1;
    }
}

impl<S: SessionStore> SpyStore<S> {
    /// A spy around this store, which was not called yet.
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            log: Arc::default(),
        }
    }

    /// How often each operation was called since the last [`reset`](Self::reset).
    pub fn calls(&self) -> Calls {
        let mut calls = Calls::default();
        for call in &*lock(&self.log) {
            calls.count(call.operation);
        }
        calls
    }

    /// How often the store was called at all since the last [`reset`](Self::reset).
    pub fn total(&self) -> usize {
        lock(&self.log).len()
    }

    /// Every call since the last [`reset`](Self::reset), in the order in which they began.
    pub fn log(&self) -> Vec<Call> {
        lock(&self.log).clone()
    }

    /// Forgets the calls so far.
    pub fn reset(&self) {
        lock(&self.log).clear();
    }

    fn note(&self, operation: Operation, handle: Option<&Handle>) -> &S {
        lock(&self.log).push(Call {
            operation,
            handle: handle.copied(),
        });
        &self.store
    }

    fn note_index(
        &self,
        operation: Operation,
        handle: Option<&Handle>,
    ) -> Result<&dyn UserIndex, StoreError> {
        index_of(self.note(operation, handle))
    }
}

impl<S> Clone for SpyStore<S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            log: self.log.clone(),
        }
    }
}

#[async_trait]
impl<S: SessionStore> SessionStore for SpyStore<S> {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        let store = self.note(Operation::Create, Some(handle));
        store.create(handle, record).await
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        self.note(Operation::Load, Some(handle)).load(handle).await
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let store = self.note(Operation::Update, Some(handle));
        store.update(handle, record, expected, now).await
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let store = self.note(Operation::Touch, Some(handle));
        store.touch(handle, expires_at, expected, now).await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        let store = self.note(Operation::Delete, Some(handle));
        store.delete(handle).await
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        let store = self.note(Operation::DeleteExpired, None);
        store.delete_expired(now, limit).await
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        self.store.user_index().map(|_| self as &dyn UserIndex)
    }
}

#[async_trait]
impl<S: SessionStore> UserIndex for SpyStore<S> {
    async fn link(
        &self,
        user_id: &str,
        handle: &Handle,
        link: &Link,
    ) -> Result<Linked, StoreError> {
        self.note_index(Operation::Link, Some(handle))?
            .link(user_id, handle, link)
            .await
    }

    async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.note_index(Operation::Extend, Some(handle))?
            .extend(user_id, handle, expires_at)
            .await
    }

    async fn unlink(&self, user_id: &str, handle: &Handle) -> Result<(), StoreError> {
        self.note_index(Operation::Unlink, Some(handle))?
            .unlink(user_id, handle)
            .await
    }

    async fn list(
        &self,
        user_id: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<LinkedSession>, StoreError> {
        self.note_index(Operation::List, None)?
            .list(user_id, now)
            .await
    }

    async fn mark(&self, whose: Whose<'_>, at: OffsetDateTime) -> Result<(), StoreError> {
        self.note_index(Operation::Mark, None)?
            .mark(whose, at)
            .await
    }

    async fn delete_linked(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, StoreError> {
        self.note_index(Operation::DeleteLinked, None)?
            .delete_linked(after, limit)
            .await
    }
}
