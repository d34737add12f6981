//! The contract between sessions and where they are kept: [`SessionStore`].
//!
//! The stores of this crate are features of it, so that they are always released together with it.
//! A store of your own is six operations on one key; `examples/custom_store.rs` is a complete one.
//!
//! # Contract
//!
//! Safety under overlapping requests rests on these rules. The `testing` module's contract suite checks
//! each of them, races and cancellation included, against any store.
//!
//! 1. Every operation is one atomic step on one key: it happens wholly or not at all, also when its future
//!    is dropped before it is ready. Once it returned, every later [`load`](SessionStore::load), by
//!    whatever node, sees its effect.
//! 2. Only [`create`](SessionStore::create) brings a record into being. It fails with
//!    [`StoreError::handle_in_use`] where the handle has a record already, expired or not, and changes
//!    nothing then.
//! 3. [`update`](SessionStore::update) replaces the whole record if the stored one has the expected
//!    [`Version`] and has not expired at `now`; otherwise it changes nothing.
//! 4. [`touch`](SessionStore::touch) sets only the expiry, under the same conditions; it keeps the version,
//!    and never lowers the expiry.
//! 5. A record with `expires_at <= now` is [`Missing`](Outcome::Missing) to `update` and `touch`.
//!    [`load`](SessionStore::load) may still return it: the caller checks the expiry, by its own clock.
//! 6. After [`delete`](SessionStore::delete) returned, the record is gone for good. Deleting what is not
//!    there is no error.
//! 7. [`delete_expired`](SessionStore::delete_expired) checks the expiry again in the step that deletes, so
//!    that a record touched meanwhile stays; it deletes nothing that expired less than
//!    [`SWEEP_GRACE`] ago, and at most `limit` records a call. A store may remove such records in the
//!    course of any other operation, too.
//! 8. A record comes back as it was given: to the millisecond, to the byte. What cannot be read back is
//!    [`StoreError::undecodable`] (it is left in place), never a record of default values.
//! 9. A failure is an error, never an absence: `Ok(None)` says that the engine was asked and has no record.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

mod error;
#[cfg(feature = "file")]
mod file;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
mod user_index;
#[cfg(any(feature = "file", feature = "memory"))]
mod user_list;

pub use async_trait::async_trait;
pub use time::OffsetDateTime;

pub use self::error::{StoreError, StoreErrorKind};
#[cfg(feature = "file")]
pub use self::file::{FileStore, FileStoreBuilder};
#[cfg(feature = "memory")]
pub use self::memory::MemoryStore;
#[cfg(feature = "mysql")]
pub use self::mysql::MySqlStore;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use self::redis::{InvalidKeyPrefix, RedisConnection, RedisStore};
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
pub use self::sql::InvalidTableName;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteStore;
pub use self::user_index::{
    DeletedSessions, Link, Linked, LinkedSession, LoginProgress, MARK_KEPT, Position, SessionLimit,
    UserIndex, Whose,
};
pub use crate::id::{Handle, ParseHandleError};
pub use crate::record::{Record, RecordDecodeError, Version};

/// How long after its expiry a record is spared by [`SessionStore::delete_expired`]: 60 seconds, so that a
/// node whose clock is ahead sweeps nothing that is alive to another.
pub const SWEEP_GRACE: Duration = Duration::from_secs(60);

/// Where sessions are kept: six operations on one key, each a single atomic step.
///
/// The rules that an implementation keeps are the [contract](self#contract). Implement it with
/// [`async_trait`](macro@async_trait), which this module re-exports together with [`OffsetDateTime`], and
/// run the contract suite of the `testing` module against it.
///
/// A call must not block the thread, and must be safe to drop at any await.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Stores a new record.
    ///
    /// # Errors
    ///
    /// [`StoreError::handle_in_use`] if the handle has a record already (nothing is overwritten),
    /// [`StoreError::full`] if a limit of the store leaves no room, or another if the engine failed.
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError>;

    /// The record of this handle, or `None` if there is none. It may have expired: the caller checks.
    ///
    /// # Errors
    ///
    /// [`StoreError::undecodable`] if there is one that cannot be read, or another if the engine failed.
    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError>;

    /// Replaces the record if it is live at `now` and has the version `expected`.
    ///
    /// # Errors
    ///
    /// If the engine failed.
    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError>;

    /// Moves the expiry to `expires_at` if that is later than it is, and the record is live at `now` and
    /// has the version `expected`. The version stays. An earlier `expires_at` is `Done` without effect.
    ///
    /// # Errors
    ///
    /// If the engine failed.
    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError>;

    /// Deletes the record; `true` if there was one, expired or not.
    ///
    /// # Errors
    ///
    /// If the engine failed.
    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError>;

    /// Deletes up to `limit` records that expired at least [`SWEEP_GRACE`] before `now`, and returns how
    /// many it deleted: fewer than `limit` if that is all for now, since none are left or it has looked
    /// through enough others for them, and always 0 where the engine expires records by itself.
    ///
    /// # Errors
    ///
    /// If the engine failed.
    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError>;

    /// The sessions by user, where the store can: `None` if it cannot. A store around another passes on
    /// that one's.
    fn user_index(&self) -> Option<&dyn UserIndex>;
}

/// What became of an [`update`](SessionStore::update) or a [`touch`](SessionStore::touch). Closed by
/// nature: there is no fourth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Done,
    /// The record is live, but has another version. Nothing was changed.
    Conflict,
    /// There is no record, or it has expired. Nothing was changed.
    Missing,
}

#[async_trait]
impl<S: SessionStore + ?Sized> SessionStore for Arc<S> {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        (**self).create(handle, record).await
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        (**self).load(handle).await
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        (**self).update(handle, record, expected, now).await
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        (**self).touch(handle, expires_at, expected, now).await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        (**self).delete(handle).await
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        (**self).delete_expired(now, limit).await
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        (**self).user_index()
    }
}
