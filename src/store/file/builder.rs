//! The settings of a store in files.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::folder::{Folder, SHARDS};
use super::{FileStore, Inner, blocking};
use crate::store::StoreError;

/// The settings of a [`FileStore`], made by [`FileStore::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct FileStoreBuilder {
    path: PathBuf,
    sync: bool,
    lock_timeout: Duration,
    max_concurrency: NonZeroUsize,
}

impl FileStoreBuilder {
    const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

    /// A fraction of tokio's 512 blocking threads, so that a slow disk leaves the others to the app.
    const MAX_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(64).unwrap();

    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            sync: true,
            lock_timeout: Self::LOCK_TIMEOUT,
            max_concurrency: Self::MAX_CONCURRENCY,
        }
    }

    /// Leaves it to the operating system when files reach the disk. By default each write and each
    /// deletion is on the disk before it is acknowledged.
    ///
    /// Much faster, and safe if the process dies; but if the machine does, sessions of the last seconds
    /// may be lost, and those that had ended in them may be back.
    pub fn without_sync(self) -> Self {
        Self {
            sync: false,
            ..self
        }
    }

    /// How long a change waits for a lock that another process holds before it fails with the kind
    /// [`TimedOut`](crate::store::StoreErrorKind::TimedOut). 5 seconds by default.
    ///
    /// A lock is held for a few operations on files, so this is for a process that hangs, or a disk.
    pub fn lock_timeout(self, timeout: Duration) -> Self {
        Self {
            lock_timeout: timeout,
            ..self
        }
    }

    /// How many threads of tokio's blocking pool work for this store at a time. 64 by default; further
    /// calls wait without a thread.
    pub fn max_concurrency(self, threads: NonZeroUsize) -> Self {
        Self {
            max_concurrency: threads,
            ..self
        }
    }

    /// Opens the store. Makes the folder if it is missing, missing parents included, and tries whether it
    /// can be written.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made or written; the error names the path.
    pub async fn open(self) -> Result<FileStore, StoreError> {
        let permits = Semaphore::new(self.max_concurrency.get().min(Semaphore::MAX_PERMITS));
        let (folder, others_can_write) = blocking(move |caller| {
            let folder = Folder::open(&self.path, self.sync, self.lock_timeout, caller)?;
            let others_can_write = folder.others_can_write()?;
            Ok((folder, others_can_write))
        })
        .await?;
        if others_can_write {
            crate::events::notices::folder_writable_by_others(folder.root());
        }
        Ok(FileStore(Arc::new(Inner {
            folder,
            shards: (0..SHARDS).map(|_| Arc::default()).collect(),
            permits: Arc::new(permits),
            sweep_from: AtomicU8::new(0),
        })))
    }
}
