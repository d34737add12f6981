//! A store around another that runs something of the test's before and after each operation.

use std::fmt;
use std::sync::Arc;

use cloakroom::SessionStore;
use cloakroom::store::{Handle, Outcome, Record, StoreError, UserIndex, Version, async_trait};
use cloakroom::testing::Operation;
use time::OffsetDateTime;

use super::BoxFuture;

type Hook = Arc<dyn Fn(Operation, Option<Handle>) -> BoxFuture<()> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Hooked {
    store: Arc<dyn SessionStore>,
    before: Hook,
    after: Hook,
}

impl Hooked {
    pub(crate) fn new(
        store: Arc<dyn SessionStore>,
        before: impl Fn(Operation, Option<Handle>) -> BoxFuture<()> + Send + Sync + 'static,
        after: impl Fn(Operation, Option<Handle>) -> BoxFuture<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            store,
            before: Arc::new(before),
            after: Arc::new(after),
        }
    }

    /// A store whose every operation takes a few polls, as one that waits for a network does.
    pub(crate) fn with_several_polls(store: Arc<dyn SessionStore>) -> Self {
        let yields = |_, _| -> BoxFuture<()> {
            Box::pin(async {
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            })
        };
        Self::new(store, yields, yields)
    }

    async fn run<T>(
        &self,
        operation: Operation,
        handle: Option<&Handle>,
        call: impl Future<Output = T>,
    ) -> T {
        (self.before)(operation, handle.copied()).await;
        let answer = call.await;
        (self.after)(operation, handle.copied()).await;
        answer
    }
}

/// A hook that does nothing.
pub(crate) fn nothing(_: Operation, _: Option<Handle>) -> BoxFuture<()> {
    Box::pin(async {})
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hooked").field(&self.store).finish()
    }
}

#[async_trait]
impl SessionStore for Hooked {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        let call = self.store.create(handle, record);
        self.run(Operation::Create, Some(handle), call).await
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        let call = self.store.load(handle);
        self.run(Operation::Load, Some(handle), call).await
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let call = self.store.update(handle, record, expected, now);
        self.run(Operation::Update, Some(handle), call).await
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let call = self.store.touch(handle, expires_at, expected, now);
        self.run(Operation::Touch, Some(handle), call).await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        let call = self.store.delete(handle);
        self.run(Operation::Delete, Some(handle), call).await
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        let call = self.store.delete_expired(now, limit);
        self.run(Operation::DeleteExpired, None, call).await
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        self.store.user_index()
    }
}
