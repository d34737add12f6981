//! Changing the files of one first-level directory, under its lock. Everything here blocks.

use std::fs::{self, File};
use std::io::ErrorKind;

use time::OffsetDateTime;

use super::folder::{DIRECTORIES, Existed, Folder, failed, remove};
use super::frame;
use super::key::Key;
use super::lock::{self, Caller};
use crate::clock::to_unix_millis;
use crate::id::Handle;
use crate::record::{Record, Version};
use crate::store::{Outcome, StoreError};

impl Folder {
    /// Takes the lock of these files, against other processes and other stores on the same folder.
    pub(super) fn lock<'a>(
        &'a self,
        shard: u8,
        synced: &'a mut SyncedDirectories,
        caller: &Caller,
    ) -> Result<LockedShard<'a>, StoreError> {
        let path = self.locks().join(format!("{shard:02x}.lock"));
        let lock = lock::acquire(&path, self.lock_timeout(), caller)?;
        Ok(LockedShard {
            folder: self,
            synced,
            _lock: lock,
        })
    }
}

/// Which directories of a shard are known to survive a power failure. That one is there does not say it:
/// the process that made it may have been killed before it could sync the parent.
#[derive(Debug, Default)]
pub(super) struct SyncedDirectories {
    first_level: bool,
    second_level: [bool; DIRECTORIES as usize],
}

/// The files of one first-level directory, under its lock. Every change is made through it, and so under
/// the lock.
#[derive(Debug)]
pub(super) struct LockedShard<'a> {
    pub(super) folder: &'a Folder,
    synced: &'a mut SyncedDirectories,
    _lock: File,
}

impl LockedShard<'_> {
    pub(super) fn create(&mut self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        let path = self.folder.file(handle);
        // Not by reading it: one that cannot be decoded is in use, too.
        match fs::symlink_metadata(&path) {
            Ok(_) => Err(StoreError::handle_in_use()),
            Err(error) if error.kind() == ErrorKind::NotFound => self.write(handle, record),
            Err(error) => Err(failed("look at", &path, error)),
        }
    }

    pub(super) fn update(
        &mut self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        match self.expect(handle, expected, now)? {
            Ok(_) => {
                self.write(handle, record)?;
                Ok(Outcome::Done)
            }
            Err(outcome) => Ok(outcome),
        }
    }

    pub(super) fn touch(
        &mut self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        match self.expect(handle, expected, now)? {
            Ok(record) => {
                if expires_at > record.expires_at {
                    let record = Record {
                        expires_at,
                        ..record
                    };
                    self.write(handle, &record)?;
                }
                Ok(Outcome::Done)
            }
            Err(outcome) => Ok(outcome),
        }
    }

    pub(super) fn delete(&mut self, handle: &Handle) -> Result<bool, StoreError> {
        let existed = remove(&self.folder.file(handle))?;
        if !existed {
            self.folder.check_presence()?;
        }
        // Also where there was no file: whoever removed it may have been killed before it could sync, and
        // this call says that the record is gone for good.
        let directory = self.folder.directory_of(handle);
        if existed || directory.exists() {
            self.folder.sync_directory(&directory)?;
        }
        Ok(existed)
    }

    /// Deletes the record if it expired at or before `cutoff` (unix milliseconds); `false` if it is gone
    /// or was extended since it was found.
    pub(super) fn delete_expired(
        &mut self,
        handle: &Handle,
        cutoff: i64,
    ) -> Result<bool, StoreError> {
        match self.folder.read(handle)? {
            // Without a sync: one that comes back after a power failure is as expired as before, and the
            // next sweep finds it.
            Some(record) if to_unix_millis(record.expires_at) <= cutoff => {
                remove(&self.folder.file(handle))
            }
            _ => Ok(false),
        }
    }

    /// Deletes what a crash left of a write. Since only the holder of the lock writes such a file, and
    /// that is the caller, nobody is writing it.
    pub(super) fn delete_leftover(&mut self, key: Key) -> Result<(), StoreError> {
        remove(&self.folder.temporary(key)).map(drop)
    }

    /// The record if it is live and of the expected version, otherwise what to answer.
    fn expect(
        &self,
        handle: &Handle,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Result<Record, Outcome>, StoreError> {
        Ok(match self.folder.read(handle)? {
            Some(record) if record.expires_at <= now => Err(Outcome::Missing),
            Some(record) if record.version != expected => Err(Outcome::Conflict),
            Some(record) => Ok(record),
            None => Err(Outcome::Missing),
        })
    }

    fn write(&mut self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        let expires_at = to_unix_millis(record.expires_at);
        self.replace(handle.into(), &frame::encode(record), Some(expires_at))
    }

    /// Has this content in the file of the key, and on the disk.
    pub(super) fn replace(
        &mut self,
        key: Key,
        content: &[u8],
        of_use_until: Option<i64>,
    ) -> Result<(), StoreError> {
        self.prepare_directory(key)?;
        let (path, temporary) = (self.folder.file(key), self.folder.temporary(key));
        self.folder
            .replace(&path, &temporary, content, of_use_until)?;
        self.folder.sync_directory(&self.folder.directory_of(key))
    }

    fn prepare_directory(&mut self, key: Key) -> Result<(), StoreError> {
        let folder = self.folder;
        let first = folder.shard(key.shard());
        let existed = folder.create_directory(&first)?;
        if existed == Existed::Yes && !self.synced.first_level {
            folder.sync_directory(folder.root())?;
        }
        self.synced.first_level = true;

        let existed = folder.create_directory(&folder.directory_of(key))?;
        let synced = &mut self.synced.second_level[usize::from(key.digit())];
        if existed == Existed::Yes && !*synced {
            folder.sync_directory(&first)?;
        }
        *synced = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::*;
    use crate::clock::from_unix_millis;
    use crate::store::file::folder::SYNCED;

    const HANDLE: Handle = Handle::from_bytes([0xAB; 16]);

    fn record() -> Record {
        Record {
            version: Version::from_u64(1),
            created_at: from_unix_millis(0),
            expires_at: from_unix_millis(1_000),
            user_id: None,
            payload: b"payload"[..].into(),
        }
    }

    /// What this syncs, below the root.
    fn synced(root: &Path, work: impl FnOnce()) -> Vec<String> {
        SYNCED.take();
        work();
        let name = |path: PathBuf| {
            path.strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        SYNCED.take().into_iter().map(name).collect()
    }

    #[test]
    #[cfg(unix)]
    fn a_change_is_on_the_disk_before_it_is_acknowledged() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("sessions");
        let temporary = format!("ab/a/{HANDLE}.tmp");
        let (caller, _waiting) = Caller::new();
        let open = || Folder::open(&root, true, Duration::ZERO, &caller).unwrap();

        let opened = synced(parent.path(), || drop(open()));
        assert_eq!(opened[0], "", "the root's own name");
        let folder = open();
        let mut known = SyncedDirectories::default();
        let mut shard = folder.lock(0xab, &mut known, &caller).unwrap();

        let created = synced(&root, || shard.create(&HANDLE, &record()).unwrap());
        assert_eq!(created, ["", "ab", &temporary, "ab/a"]);
        let (version, now) = (Version::from_u64(1), from_unix_millis(0));
        let updated = synced(&root, || {
            shard.update(&HANDLE, &record(), version, now).unwrap();
        });
        assert_eq!(updated, [&temporary, "ab/a"]);
        let later = from_unix_millis(2_000);
        let touched = synced(&root, || {
            shard.touch(&HANDLE, later, version, now).unwrap();
        });
        assert_eq!(touched, [&temporary, "ab/a"]);
        for existed in [true, false] {
            let deleted = synced(&root, || {
                assert_eq!(shard.delete(&HANDLE).unwrap(), existed);
            });
            assert_eq!(
                deleted,
                ["ab/a"],
                "who deleted it before may not have synced"
            );
        }
        drop(shard);

        // Whoever made the directories may have been killed before it synced them.
        let mut known = SyncedDirectories::default();
        let mut shard = folder.lock(0xab, &mut known, &caller).unwrap();
        let created = synced(&root, || shard.create(&HANDLE, &record()).unwrap());
        assert_eq!(created, ["", "ab", &temporary, "ab/a"]);
    }

    #[test]
    fn without_sync_nothing_is_synced() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("sessions");
        let (caller, _waiting) = Caller::new();
        let synced = synced(&root, || {
            let folder = Folder::open(&root, false, Duration::ZERO, &caller).unwrap();
            let mut known = SyncedDirectories::default();
            let mut shard = folder.lock(0xab, &mut known, &caller).unwrap();
            shard.create(&HANDLE, &record()).unwrap();
            shard.delete(&HANDLE).unwrap();
        });
        assert!(synced.is_empty(), "{synced:?}");
    }
}
