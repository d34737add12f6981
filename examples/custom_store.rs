//! A store of one's own, complete: a map of bytes under a lock, in place of an engine that keeps plain
//! values. `cargo test --example custom_store` runs the contract suite against it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::{Router, routing::get};
use cloakroom::store::{
    Handle, OffsetDateTime, Outcome, Record, SWEEP_GRACE, SessionStore, StoreError, UserIndex,
    Version, async_trait,
};
use cloakroom::{Session, SessionLayer};

#[derive(Debug, Default)]
struct ByteStore {
    values: Mutex<HashMap<Handle, Vec<u8>>>,
}

/// Each operation takes the lock once, and does its work under it without an await: so each is one atomic
/// step, and cannot be left half done. In a database that is one statement or one script.
#[async_trait]
impl SessionStore for ByteStore {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        let mut values = self.lock();
        if values.contains_key(handle) {
            return Err(StoreError::handle_in_use());
        }
        values.insert(*handle, record.encode());
        Ok(())
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        // A value that cannot be read is an error, and no absence. Expiry is the caller's to check.
        match self.lock().get(handle) {
            Some(value) => Ok(Some(Record::decode(value)?)),
            None => Ok(None),
        }
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.change(handle, expected, now, |stored| *stored = record.clone())
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        // Never back: of two requests that overlap, the earlier one may come last.
        self.change(handle, expected, now, |stored| {
            stored.expires_at = stored.expires_at.max(expires_at);
        })
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        Ok(self.lock().remove(handle).is_some())
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        let mut values = self.lock();
        let is_dead = |value: &[u8]| {
            Record::decode(value).is_ok_and(|record| record.expires_at + SWEEP_GRACE <= now)
        };
        // It looks at every value, which an engine with an index on the expiry need not do.
        let dead: Vec<Handle> = values
            .iter()
            .filter(|(_, value)| is_dead(value))
            .map(|(handle, _)| *handle)
            .take(limit)
            .collect();
        for handle in &dead {
            values.remove(handle);
        }
        Ok(dead.len())
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        None
    }
}

impl ByteStore {
    /// Changes the record if it is live and nobody else changed it: what `update` and `touch` share.
    fn change(
        &self,
        handle: &Handle,
        expected: Version,
        now: OffsetDateTime,
        change: impl FnOnce(&mut Record),
    ) -> Result<Outcome, StoreError> {
        let mut values = self.lock();
        let Some(value) = values.get_mut(handle) else {
            return Ok(Outcome::Missing);
        };
        let mut record = Record::decode(value)?;
        if record.expires_at <= now {
            return Ok(Outcome::Missing);
        }
        if record.version != expected {
            return Ok(Outcome::Conflict);
        }
        change(&mut record);
        *value = record.encode();
        Ok(Outcome::Done)
    }

    /// A panic under the lock leaves each value whole, so there is nothing to fear from a poisoned one.
    fn lock(&self) -> MutexGuard<'_, HashMap<Handle, Vec<u8>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn visits(session: Session) -> axum::response::Result<String> {
    let n = session.update("visits", |n: &mut u64| *n += 1)?;
    Ok(format!("visit {n}"))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let sessions = SessionLayer::new(ByteStore::default());
    let app = Router::new().route("/", get(visits)).layer(sessions);
    let port = std::env::var("PORT").unwrap_or("3000".into());
    let listener = tokio::net::TcpListener::bind(format!("localhost:{port}")).await?;
    println!("listening on http://localhost:{port}");
    axum::serve(listener, app).await
}

/// A test for each rule of the contract. It needs the feature `testing`, among the dev-dependencies.
#[cfg(test)]
mod contract {
    cloakroom::store_tests!(|| async { super::ByteStore::default() });
}
