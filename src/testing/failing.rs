//! A store that fails where it is told.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{Operation, index_of, lock};
use crate::store::{
    DeletedSessions, Handle, Link, Linked, LinkedSession, Outcome, Position, Record, SessionStore,
    StoreError, UserIndex, Version, Whose,
};

/// A store around another that fails where it is told, before or after the operation took effect.
///
/// A failure after the effect is what an app sees when the answer of a store is lost on its way. Clones
/// share the store and what it is told: the test keeps one, and the app is given the other.
///
/// ```
/// # use cloakroom::store::{Handle, MemoryStore, SessionStore, StoreErrorKind};
/// use cloakroom::testing::{FailingStore, Operation, Times, When};
///
/// # #[tokio::main] async fn main() {
/// let store = FailingStore::new(MemoryStore::new());
/// let handle = Handle::from_bytes([7; 16]);
///
/// store.fail(Operation::Load, When::BeforeEffect, Times::Next(1));
/// let error = store.load(&handle).await.unwrap_err();
/// assert_eq!(error.kind(), StoreErrorKind::Unavailable);
/// assert!(store.load(&handle).await.unwrap().is_none());
/// assert_eq!(store.failures(), 1);
/// # }
/// ```
#[derive(Debug)]
pub struct FailingStore<S> {
    store: Arc<S>,
    orders: Arc<Mutex<Orders>>,
}

/// When a [`FailingStore`] fails: before the operation took effect, or after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The operation never reaches the store.
    BeforeEffect,
    /// The store has done what it was asked, and the answer is lost.
    AfterEffect,
}

/// How often a [`FailingStore`] fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// At the next so many calls of the operation.
    Next(usize),
    /// Until [`heal`](FailingStore::heal) is called.
    Always,
}

#[derive(Debug, Default)]
struct Orders {
    pending: Vec<Order>,
    failures: usize,
}

struct Order {
    operation: Operation,
    when: When,
    times: Times,
    error: Arc<dyn Fn() -> StoreError + Send + Sync>,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("operation", &self.operation)
            .field("when", &self.when)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

impl<S: SessionStore> FailingStore<S> {
    /// A store around this one that does not fail yet.
    pub fn new(store: S) -> Self {
        Self {
            store: Arc::new(store),
            orders: Arc::default(),
        }
    }

    /// Lets the operation fail, as a store that is [`Unavailable`](crate::store::StoreErrorKind::Unavailable).
    ///
    /// What was told before for the same operation comes first: `Times::Next(2)` and then `Times::Next(1)`
    /// make three failures.
    pub fn fail(&self, operation: Operation, when: When, times: Times) {
        self.fail_with(operation, when, times, move || {
            StoreError::unavailable("the store fails", "the test has told it to")
        });
    }

    /// Lets the operation fail with the errors that this closure makes.
    pub fn fail_with(
        &self,
        operation: Operation,
        when: When,
        times: Times,
        error: impl Fn() -> StoreError + Send + Sync + 'static,
    ) {
        lock(&self.orders).pending.push(Order {
            operation,
            when,
            times,
            error: Arc::new(error),
        });
    }

    /// Lets no operation fail any more.
    pub fn heal(&self) {
        lock(&self.orders).pending.clear();
    }

    /// How many calls were failed so far: so that a test sees that what it provoked did happen.
    pub fn failures(&self) -> usize {
        lock(&self.orders).failures
    }

    async fn run<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let order = self.next_order(operation);
        if let Some((When::BeforeEffect, error)) = order {
            return Err(self.failure(&*error));
        }
        let answer = call.await?;
        match order {
            Some((_, error)) => Err(self.failure(&*error)),
            None => Ok(answer),
        }
    }

    fn next_order(
        &self,
        operation: Operation,
    ) -> Option<(When, Arc<dyn Fn() -> StoreError + Send + Sync>)> {
        let mut orders = lock(&self.orders);
        orders.pending.retain(|order| order.times != Times::Next(0));
        let order = orders
            .pending
            .iter_mut()
            .find(|order| order.operation == operation)?;
        if let Times::Next(left) = &mut order.times {
            *left -= 1;
        }
        Some((order.when, order.error.clone()))
    }

    fn failure(&self, error: &(dyn Fn() -> StoreError + Send + Sync)) -> StoreError {
        lock(&self.orders).failures += 1;
        error()
    }
}

impl<S> Clone for FailingStore<S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            orders: self.orders.clone(),
        }
    }
}

#[async_trait]
impl<S: SessionStore> SessionStore for FailingStore<S> {
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
impl<S: SessionStore> UserIndex for FailingStore<S> {
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
