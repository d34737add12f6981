//! Sessions in files, one a session, and one a user.
//!
//! ```text
//! root/                    what FileStore::open is given
//!   locks/ab.lock          256 of them, everyone.lock and open.lock; never deleted
//!   ab/c/abcd….session     the record of the handle abcd…
//!   ab/c/abcd….user        the list and the mark of the user whose id has the SHA-256 abcd…
//!   ab/c/abcd….tmp         one of these on its way to its name
//!   everyone.mark          everyone's mark, if there was one
//! ```
//!
//! 1. A write goes into the temporary file, is synced to the disk, and renamed over the old file; then the
//!    directory is synced. So a file is whole whenever the process or the machine dies, and what was
//!    acknowledged is on the disk.
//! 2. Whoever changes anything holds the lock of its first byte: a lock of the operating system
//!    on a file of its own, since the session's file is another one after each write. It excludes other
//!    processes, and ends with the process that holds it. Reading a record takes no lock. Nobody holds two
//!    of these locks at once.
//! 3. Within a store, callers queue for that lock without a thread: at most one thread a lock waits.
//! 4. What a crash left is deleted by the next sweep, under the lock.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::sync::{Mutex, Semaphore};

use self::folder::{Folder, SHARDS};
use self::key::Key;
use self::lock::Caller;
use self::shard::{LockedShard, SyncedDirectories};
use self::sweep::{BATCH, Swept};
use super::{Handle, Outcome, Record, SWEEP_GRACE, SessionStore, StoreError, UserIndex, Version};
use crate::clock::to_unix_millis;

mod builder;
mod folder;
mod frame;
mod key;
mod lists;
mod lock;
mod shard;
mod sweep;
mod users;

pub use self::builder::FileStoreBuilder;

/// Keeps sessions in a folder, one file a session.
///
/// For one machine, where a database would be one more thing to run: sessions survive a restart of the
/// process, a crash, and a power failure, and several processes can share the folder. Clones share one
/// store.
///
/// # Durability
///
/// A write or a deletion that returned survives the loss of power, at the price of a sync of the file and
/// of its directory each time. [`without_sync`](FileStoreBuilder::without_sync) leaves that to the
/// operating system; then a power failure may lose the last seconds, undo a logout, or leave a torn file.
/// A torn file is recognised by its checksum: it is an error of the kind
/// [`Undecodable`](super::StoreErrorKind::Undecodable) that names the path, and is left where it is. A
/// process that dies, by whatever signal, loses and tears nothing with either setting.
///
/// # Rights
///
/// Directories are made with the rights `0700` and files with `0600`, so all processes that share the
/// folder run as one user. A root that exists already keeps the rights it has, since it may be a mount
/// point that is not the store's to change. What is in it is out of reach for others anyhow; but where
/// others may write to the root, they can move sessions away, and opening the store logs a warning.
///
/// # Several processes
///
/// Changes exclude each other by locks of the operating system (`flock` on unix, `LockFileEx` on
/// Windows), so the folder should be on a local disk: a network file system is as safe as its locks and
/// its renames are. Do not delete the folder `locks` while a process uses the store. To delete all
/// sessions, delete the directories of two digits.
///
/// # Sessions by user
///
/// The list of a user, and the mark that ends their sessions, are one file more, named by the SHA-256 of
/// the user's id, beside the sessions' files and under the same locks. A login, and each ending of a user's
/// session, writes it anew: 23 bytes and 33 for each session on it, synced as a record is. It is swept once
/// its last entry and its mark have expired. A torn one is an error of the kind
/// [`Undecodable`](super::StoreErrorKind::Undecodable) that names the path: that user cannot log in until
/// it is repaired or deleted. Ending everyone's sessions ends those of all other users, and then fails with
/// that error.
///
/// # Limits
///
/// The store has no limit on the number of sessions. A change that waits for another process longer than
/// [`lock_timeout`](FileStoreBuilder::lock_timeout) fails, and at most
/// [`max_concurrency`](FileStoreBuilder::max_concurrency) threads of tokio's blocking pool work for it at
/// a time. It needs a tokio runtime, and no feature of it.
///
/// [`delete_expired`](SessionStore::delete_expired) looks through the folder once a call, at most, without
/// opening the files of live sessions, and holds a lock for a few dozen files at a time; call it from a
/// [`Sweeper`](crate::Sweeper). A call that is dropped
/// midway has deleted some, and the next one goes on behind it.
/// Files that are not the store's are left alone.
///
/// ```
/// use cloakroom::clock::from_unix_millis;
/// use cloakroom::store::{FileStore, Handle, Record, SessionStore, Version};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), cloakroom::store::StoreError> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("sessions");
/// let store = FileStore::open(&path).await?;
///
/// let handle = Handle::from_bytes([0xAB; 16]);
/// let record = Record {
///     version: Version::from_u64(1),
///     created_at: from_unix_millis(1_700_000_000_000),
///     expires_at: from_unix_millis(1_700_000_060_000),
///     user_id: None,
///     payload: b"opaque"[..].into(),
/// };
/// store.create(&handle, &record).await?;
///
/// let reopened = FileStore::open(&path).await?;
/// assert_eq!(reopened.load(&handle).await?, Some(record));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FileStore(Arc<Inner>);

struct Inner {
    folder: Folder,
    /// The queue for each lock file.
    shards: Vec<Arc<Mutex<SyncedDirectories>>>,
    permits: Arc<Semaphore>,
    /// The shard at which the next sweep starts.
    sweep_from: AtomicU8,
}

impl FileStore {
    /// Opens the store in this folder with the default settings, and makes the folder if it is missing.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made or written; the error names the path.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::builder(path).open().await
    }

    /// A store in this folder, with settings.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use cloakroom::store::FileStore;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::store::StoreError> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("sessions");
    /// let store = FileStore::builder(&path)
    ///     .lock_timeout(Duration::from_secs(1))
    ///     .open()
    ///     .await?;
    /// assert_eq!(store.path(), path);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(path: impl Into<PathBuf>) -> FileStoreBuilder {
        FileStoreBuilder::new(path.into())
    }

    /// The folder, as an absolute path.
    pub fn path(&self) -> &Path {
        self.0.folder.root()
    }

    /// Runs a change under the lock of the handle's shard.
    async fn change<T: Send + 'static>(
        &self,
        shard: u8,
        step: impl FnOnce(&mut LockedShard<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        // First the queue, then the permit: a lock that another process keeps costs one permit, and not
        // one for each caller.
        let queue = Arc::clone(&self.0.shards[usize::from(shard)]);
        let mut synced = queue.lock_owned().await;
        self.step(move |folder, caller| step(&mut folder.lock(shard, &mut synced, caller)?))
            .await
    }

    /// Runs a step on a thread that may block. It runs to its end, also when this future is dropped; but
    /// then it does not begin.
    async fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Folder, &Caller) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.0.permits)
            .acquire_owned()
            .await
            .map_err(|closed| StoreError::unavailable("the file store is closed", closed))?;
        let store = Arc::clone(&self.0);
        blocking(move |caller| {
            let result = step(&store.folder, caller);
            drop(permit);
            result
        })
        .await
    }

    /// Sweeps one shard; stops once `limit` records are deleted.
    async fn sweep_shard(
        &self,
        shard: u8,
        cutoff: i64,
        limit: usize,
        tally: &mut Tally,
    ) -> Result<(), StoreError> {
        let mut next = Some(0);
        while let Some(from) = next {
            let enough = limit - tally.deleted;
            let found = self
                .step(move |folder, caller| {
                    folder.find_expired(shard, from, cutoff, enough, caller)
                })
                .await?;
            if !found.temporary.is_empty() {
                let temporary = found.temporary;
                self.change(shard, move |shard| shard.sweep_leftovers(&temporary))
                    .await?;
            }
            for batch in found.lists.chunks(BATCH) {
                let batch = batch.to_vec();
                let swept = self
                    .change(shard, move |shard| shard.sweep_lists(&batch, cutoff))
                    .await?;
                tally.add(swept);
            }
            for batch in found.expired.chunks(BATCH) {
                let batch = batch.to_vec();
                let room = limit - tally.deleted;
                let swept = self
                    .change(shard, move |shard| shard.sweep(&batch, cutoff, room))
                    .await?;
                tally.add(swept);
                if tally.deleted == limit {
                    return Ok(());
                }
            }
            next = found.next;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Tally {
    deleted: usize,
    unreadable: usize,
    example: Option<StoreError>,
}

impl Tally {
    fn add(&mut self, swept: Swept) {
        self.deleted += swept.deleted;
        self.unreadable += swept.unreadable;
        self.example = self.example.take().or(swept.example);
    }
}

fn shard_of(handle: &Handle) -> u8 {
    Key::from(handle).shard()
}

#[async_trait]
impl SessionStore for FileStore {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        let (handle, record) = (*handle, record.clone());
        self.change(shard_of(&handle), move |shard| {
            shard.create(&handle, &record)
        })
        .await
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        let handle = *handle;
        self.step(move |folder, caller| {
            caller.check()?;
            folder.read(&handle)
        })
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
        self.change(shard_of(&handle), move |shard| {
            shard.update(&handle, &record, expected, now)
        })
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
        self.change(shard_of(&handle), move |shard| {
            shard.touch(&handle, expires_at, expected, now)
        })
        .await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        let handle = *handle;
        self.change(shard_of(&handle), move |shard| shard.delete(&handle))
            .await
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        if limit == 0 {
            return Ok(0);
        }
        self.step(|folder, _| folder.check_presence()).await?;
        let cutoff = to_unix_millis(now).saturating_sub(SWEEP_GRACE.as_millis() as i64);
        let mut tally = Tally::default();
        let mut shard = self.0.sweep_from.load(Ordering::Relaxed);
        for _ in 0..SHARDS {
            // Before the work, and whatever comes of it: a shard that fails, or takes longer than the
            // caller waits, does not keep the next call from the others.
            self.0
                .sweep_from
                .store(shard.wrapping_add(1), Ordering::Relaxed);
            self.sweep_shard(shard, cutoff, limit, &mut tally).await?;
            if tally.deleted == limit {
                return Ok(limit);
            }
            shard = shard.wrapping_add(1);
        }
        // Once a round, and not for each file.
        if let Some(example) = tally.example {
            crate::events::notices::records_unreadable(tally.unreadable, &example);
        }
        Ok(tally.deleted)
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        Some(self)
    }
}

/// Says nothing of the sessions.
impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore")
            .field("path", &self.path())
            .field("sync", &self.0.folder.syncs())
            .finish_non_exhaustive()
    }
}

/// Runs blocking work on tokio's blocking pool.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce(&Caller) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (caller, waiting) = Caller::new();
    let result = tokio::task::spawn_blocking(move || work(&caller)).await;
    drop(waiting);
    // A panic, or a runtime that is shutting down.
    result.unwrap_or_else(|error| {
        Err(StoreError::unavailable(
            "a step of the file store did not run to its end",
            error,
        ))
    })
}
