//! A store that is obviously right.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use cloakroom::store::{
    Handle, Outcome, Record, SWEEP_GRACE, SessionStore, StoreError, UserIndex, Version, async_trait,
};
use time::OffsetDateTime;

/// Every operation is one look into a map, under its lock.
#[derive(Debug, Default)]
pub(crate) struct ReferenceStore {
    pub(crate) records: Mutex<HashMap<Handle, Record>>,
}

#[async_trait]
impl SessionStore for ReferenceStore {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        let mut records = self.records.lock().unwrap();
        if records.contains_key(handle) {
            return Err(StoreError::handle_in_use());
        }
        records.insert(*handle, record.clone());
        Ok(())
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        Ok(self.records.lock().unwrap().get(handle).cloned())
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let mut records = self.records.lock().unwrap();
        Ok(match records.get_mut(handle) {
            Some(stored) if stored.expires_at <= now => Outcome::Missing,
            Some(stored) if stored.version != expected => Outcome::Conflict,
            Some(stored) => {
                *stored = record.clone();
                Outcome::Done
            }
            None => Outcome::Missing,
        })
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let mut records = self.records.lock().unwrap();
        Ok(match records.get_mut(handle) {
            Some(stored) if stored.expires_at <= now => Outcome::Missing,
            Some(stored) if stored.version != expected => Outcome::Conflict,
            Some(stored) => {
                stored.expires_at = stored.expires_at.max(expires_at);
                Outcome::Done
            }
            None => Outcome::Missing,
        })
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        Ok(self.records.lock().unwrap().remove(handle).is_some())
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        let mut records = self.records.lock().unwrap();
        let dead = dead(&records, now, SWEEP_GRACE, limit);
        for handle in &dead {
            records.remove(handle);
        }
        Ok(dead.len())
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        None
    }
}

/// Up to `limit` handles of records that expired at least `grace` before `now`.
pub(crate) fn dead(
    records: &HashMap<Handle, Record>,
    now: OffsetDateTime,
    grace: Duration,
    limit: usize,
) -> Vec<Handle> {
    records
        .iter()
        .filter(|(_, record)| record.expires_at + grace <= now)
        .map(|(handle, _)| *handle)
        .take(limit)
        .collect()
}
