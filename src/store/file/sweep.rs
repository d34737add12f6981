//! Finding what expired, and deleting it: in steps that are short, and leave the lock in between.

use std::io::ErrorKind;
use std::time::SystemTime;

use super::folder::{DIRECTORIES, Folder, Named, failed, is_of_the_record, system_time};
use super::key::{Key, UserKey};
use super::lock::Caller;
use super::shard::LockedShard;
use crate::id::Handle;
use crate::store::StoreError;

/// How many files are looked into under one lock, at most.
pub(super) const BATCH: usize = 64;

/// What a look through a part of a shard found. Without the lock, so it has to be checked again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Records that may have expired.
    pub(super) expired: Vec<Handle>,
    /// Lists that may be of no use any more.
    pub(super) lists: Vec<UserKey>,
    /// Temporary files.
    pub(super) temporary: Vec<Key>,
    /// Where to go on; `None` if this was the last of the shard.
    pub(super) next: Option<u8>,
}

/// What a batch came to.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub(super) deleted: usize,
    pub(super) unreadable: usize,
    pub(super) example: Option<StoreError>,
}

impl Folder {
    /// Lists the directories of this shard, from the given one, until `enough` records and lists are found
    /// that may have expired at or before `cutoff` (unix milliseconds).
    ///
    /// It opens no file: one whose modification time, which is the record's expiry, lies behind `cutoff`
    /// is passed over. So a file that was touched by hand with a time in the future is swept that much
    /// later, and one that was restored from a backup costs a look into it.
    pub(super) fn find_expired(
        &self,
        shard: u8,
        from: u8,
        cutoff: i64,
        enough: usize,
        caller: &Caller,
    ) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let cutoff = system_time(cutoff);
        for digit in from..DIRECTORIES {
            caller.check()?;
            if found.expired.len() + found.lists.len() >= enough {
                found.next = Some(digit);
                break;
            }
            self.list(shard, digit, cutoff, &mut found)?;
        }
        Ok(found)
    }

    fn list(
        &self,
        shard: u8,
        digit: u8,
        cutoff: SystemTime,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        for (named, entry) in self.entries(shard, digit)? {
            let unreadable = |error| failed("look at", &entry.path(), error);
            let metadata = match entry.metadata() {
                Ok(metadata) if metadata.is_file() => metadata,
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(error)),
            };
            let modified = || metadata.modified().map_err(unreadable);
            match named {
                Named::Temporary(key) => found.temporary.push(key),
                Named::Record(handle) if modified()? <= cutoff => found.expired.push(handle),
                Named::List(user) if modified()? <= cutoff => found.lists.push(user),
                Named::Record(_) | Named::List(_) => {}
            }
        }
        Ok(())
    }
}

impl LockedShard<'_> {
    /// Deletes those of the records that have expired indeed, up to `limit`.
    pub(super) fn sweep(
        &mut self,
        batch: &[Handle],
        cutoff: i64,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        for handle in batch {
            if swept.deleted == limit {
                break;
            }
            match self.delete_expired(handle, cutoff) {
                Ok(deleted) => swept.deleted += usize::from(deleted),
                // One broken file must not keep the others from being swept.
                Err(error) if is_of_the_record(&error) => {
                    swept.unreadable += 1;
                    swept.example.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(swept)
    }

    /// Deletes those of the lists that are of no use any more indeed.
    pub(super) fn sweep_lists(
        &mut self,
        batch: &[UserKey],
        cutoff: i64,
    ) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        for user in batch {
            match self.delete_useless_list(user, cutoff) {
                Ok(()) => {}
                Err(error) if is_of_the_record(&error) => {
                    swept.unreadable += 1;
                    swept.example.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(swept)
    }

    pub(super) fn sweep_leftovers(&mut self, temporary: &[Key]) -> Result<(), StoreError> {
        temporary
            .iter()
            .try_for_each(|key| self.delete_leftover(*key))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::from_unix_millis;
    use crate::record::{Record, Version};
    use crate::store::Outcome;
    use crate::store::file::lock::Waiting;
    use crate::store::file::shard::SyncedDirectories;

    const HANDLE: Handle = Handle::from_bytes([0xAB; 16]);

    fn open(path: &std::path::Path) -> (Folder, Caller, Waiting) {
        let (caller, waiting) = Caller::new();
        let folder = Folder::open(path, false, Duration::ZERO, &caller).unwrap();
        (folder, caller, waiting)
    }

    fn record(expires_at: i64) -> Record {
        Record {
            version: Version::from_u64(1),
            created_at: from_unix_millis(0),
            expires_at: from_unix_millis(expires_at),
            user_id: None,
            payload: b"payload"[..].into(),
        }
    }

    #[test]
    fn a_record_touched_between_the_look_and_the_deletion_stays() {
        let root = tempfile::tempdir().unwrap();
        let (folder, caller, _waiting) = open(root.path());
        let shard = 0xAB;
        let mut synced = SyncedDirectories::default();
        let mut locked = folder.lock(shard, &mut synced, &caller).unwrap();
        locked.create(&HANDLE, &record(1_000)).unwrap();

        let found = folder.find_expired(shard, 0, 1_000, 10, &caller).unwrap();
        assert_eq!(found.expired, [HANDLE]);
        let outcome = locked.touch(
            &HANDLE,
            from_unix_millis(2_000),
            Version::from_u64(1),
            from_unix_millis(500),
        );
        assert_eq!(outcome.unwrap(), Outcome::Done);
        assert_eq!(locked.sweep(&found.expired, 1_000, 10).unwrap().deleted, 0);

        assert_eq!(locked.sweep(&found.expired, 2_000, 10).unwrap().deleted, 1);
    }

    #[test]
    fn a_look_opens_no_file_of_a_live_session() {
        let root = tempfile::tempdir().unwrap();
        let (folder, caller, _waiting) = open(root.path());
        let shard = 0xAB;
        let mut synced = SyncedDirectories::default();
        let mut locked = folder.lock(shard, &mut synced, &caller).unwrap();
        for expires_at in [1_000, 999, 1_001] {
            locked.delete(&HANDLE).unwrap();
            locked.create(&HANDLE, &record(expires_at)).unwrap();
            let found = folder.find_expired(shard, 0, 1_000, 10, &caller).unwrap();
            assert_eq!(!found.expired.is_empty(), expires_at <= 1_000);
        }
    }

    #[test]
    fn a_look_ends_at_the_directory_that_brought_enough_and_goes_on_behind_it() {
        let root = tempfile::tempdir().unwrap();
        let (folder, caller, _waiting) = open(root.path());
        let mut synced = SyncedDirectories::default();
        let mut locked = folder.lock(0, &mut synced, &caller).unwrap();
        let mut handles = Vec::new();
        for number in 0..=u8::MAX {
            let mut bytes = [0; 16];
            bytes[1] = number;
            handles.push(Handle::from_bytes(bytes));
            locked
                .create(&handles[usize::from(number)], &record(0))
                .unwrap();
        }

        let mut seen = Vec::new();
        let mut next = Some(0);
        let mut looks = 0;
        while let Some(from) = next {
            let found = folder.find_expired(0, from, 0, 20, &caller).unwrap();
            seen.extend(found.expired);
            next = found.next;
            looks += 1;
        }
        seen.sort();
        assert_eq!(seen, handles);
        assert_eq!(looks, 8, "16 directories of 16 each, two of them a look");
    }
}
