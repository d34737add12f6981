//! A store where another request always comes first.
#![allow(dead_code)]

use cloakroom::SessionStore;
use cloakroom::store::{
    Handle, MemoryStore, Outcome, Record, StoreError, UserIndex, Version, async_trait,
};
use time::OffsetDateTime;

#[derive(Debug, Default)]
pub(crate) struct ContendedStore(MemoryStore);

#[async_trait]
impl SessionStore for ContendedStore {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        self.0.create(handle, record).await
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        self.0.load(handle).await
    }

    async fn update(
        &self,
        _: &Handle,
        _: &Record,
        _: Version,
        _: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        Ok(Outcome::Conflict)
    }

    async fn touch(
        &self,
        _: &Handle,
        _: OffsetDateTime,
        _: Version,
        _: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        Ok(Outcome::Conflict)
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        self.0.delete(handle).await
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        self.0.delete_expired(now, limit).await
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        self.0.user_index()
    }
}
