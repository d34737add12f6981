//! Every store of this crate keeps the store contract.
#![allow(clippy::unwrap_used)]

use cloakroom::store::{
    Handle, Outcome, Record, SessionStore, StoreError, UserIndex, Version, async_trait,
};
use tempfile::TempDir;
use time::OffsetDateTime;

/// A store together with the folder that it lives in.
#[derive(Debug)]
struct InFolder<S> {
    store: S,
    _folder: TempDir,
}

#[async_trait]
impl<S: SessionStore> SessionStore for InFolder<S> {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        self.store.create(handle, record).await
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        self.store.load(handle).await
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.store.update(handle, record, expected, now).await
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.store.touch(handle, expires_at, expected, now).await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        self.store.delete(handle).await
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        self.store.delete_expired(now, limit).await
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        self.store.user_index()
    }
}

mod memory {
    use cloakroom::store::MemoryStore;

    cloakroom::store_tests!(|| async { MemoryStore::new() });
}

mod memory_by_user {
    use cloakroom::store::MemoryStore;

    cloakroom::user_index_tests!(|| async { MemoryStore::new() });
}

mod memory_by_user_through_wrappers {
    use cloakroom::store::MemoryStore;
    use cloakroom::testing::{FailingStore, PausingStore, SpyStore};

    cloakroom::user_index_tests!(|| async {
        SpyStore::new(FailingStore::new(PausingStore::new(MemoryStore::new())))
    });
}

mod memory_with_a_limit {
    use cloakroom::store::MemoryStore;

    cloakroom::store_tests!(|| async { MemoryStore::new().max_records(1_000) });
}

mod shared {
    use std::sync::Arc;

    use cloakroom::store::{MemoryStore, SessionStore};

    async fn make_store() -> Arc<dyn SessionStore> {
        Arc::new(MemoryStore::new())
    }

    cloakroom::store_tests!(make_store);
}

mod file {
    use cloakroom::store::{FileStore, SessionStore};

    use super::InFolder;

    async fn make_store() -> impl SessionStore {
        let folder = tempfile::tempdir().unwrap();
        // Syncing takes most of the time, and is tested with the store itself.
        let builder = FileStore::builder(folder.path().join("sessions"));
        let store = builder.without_sync().open().await.unwrap();
        InFolder {
            store,
            _folder: folder,
        }
    }

    cloakroom::store_tests!(make_store);

    mod by_user {
        cloakroom::user_index_tests!(super::make_store);
    }
}

mod sqlite {
    use cloakroom::store::{SessionStore, SqliteStore};

    use super::InFolder;

    async fn make_store() -> impl SessionStore {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.db");
        let store = SqliteStore::connect(path).await.unwrap();
        store.migrate().await.unwrap();
        InFolder {
            store,
            _folder: folder,
        }
    }

    cloakroom::store_tests!(make_store);

    mod by_user {
        cloakroom::user_index_tests!(super::make_store);
    }
}
