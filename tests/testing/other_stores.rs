//! Stores that keep the contract in other ways than the reference.

use std::sync::Arc;

use cloakroom::store::{
    Handle, Outcome, Record, SessionStore, StoreError, UserIndex, Version, async_trait,
};
use time::OffsetDateTime;

use crate::reference_store::ReferenceStore;

/// Does its work on the threads for blocking calls, which finish what they have begun when the future is
/// dropped, and owns something that must live as long.
#[derive(Debug, Default)]
pub(crate) struct BlockingStore {
    store: Arc<ReferenceStore>,
    _guard: Arc<str>,
}

impl BlockingStore {
    async fn blocking<T, F, R>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Arc<ReferenceStore>) -> R + Send + 'static,
        R: Future<Output = Result<T, StoreError>>,
    {
        let store = self.store.clone();
        let runtime = tokio::runtime::Handle::current();
        let running = tokio::task::spawn_blocking(move || runtime.block_on(operation(store)));
        running.await.unwrap()
    }
}

#[async_trait]
impl SessionStore for BlockingStore {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        let (handle, record) = (*handle, record.clone());
        self.blocking(move |store| async move { store.create(&handle, &record).await })
            .await
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        let handle = *handle;
        self.blocking(move |store| async move { store.load(&handle).await })
            .await
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let (handle, record) = (*handle, record.clone());
        self.blocking(
            move |store| async move { store.update(&handle, &record, expected, now).await },
        )
        .await
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let handle = *handle;
        self.blocking(
            move |store| async move { store.touch(&handle, expires_at, expected, now).await },
        )
        .await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        let handle = *handle;
        self.blocking(move |store| async move { store.delete(&handle).await })
            .await
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        self.blocking(move |store| async move { store.delete_expired(now, limit).await })
            .await
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        None
    }
}

/// Expires its records by itself, by the real time, and never sweeps.
#[derive(Debug, Default)]
pub(crate) struct ExpiringStore(ReferenceStore);

impl ExpiringStore {
    fn expire(&self) {
        let now = OffsetDateTime::now_utc();
        let mut records = self.0.records.lock().unwrap();
        records.retain(|_, record| record.expires_at > now);
    }
}

#[async_trait]
impl SessionStore for ExpiringStore {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        self.expire();
        self.0.create(handle, record).await
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        self.expire();
        self.0.load(handle).await
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.expire();
        self.0.update(handle, record, expected, now).await
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.expire();
        self.0.touch(handle, expires_at, expected, now).await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        self.expire();
        self.0.delete(handle).await
    }

    async fn delete_expired(
        &self,
        _now: OffsetDateTime,
        _limit: usize,
    ) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        None
    }
}
