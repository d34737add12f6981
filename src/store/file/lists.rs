//! The lists of users, and the marks. Everything here blocks.
//!
//! A user's list and mark are one file, which is replaced as a record's is. Its content is a format byte; the
//! mark, after a byte that says whether there is one; and for each session its handle, when it was linked,
//! when its entry expires, and how far its login has come.

use std::path::PathBuf;

use super::folder::{DIRECTORIES, Folder, Named, remove};
use super::frame::{self, Magic};
use super::key::UserKey;
use super::lock::{self, Caller};
use super::shard::LockedShard;
use crate::clock::to_unix_millis;
use crate::id::Handle;
use crate::record::{Reader, RecordDecodeError};
use crate::store::user_list::{Entry, UserList};
use crate::store::{Link, Linked, LoginProgress, SWEEP_GRACE, StoreError};
use crate::timeouts::millis;

const LIST: Magic = *b"list";
const MARK: Magic = *b"mark";
const FORMAT: u8 = 1;

impl LockedShard<'_> {
    /// Everyone's mark is looked at under the lock of the user: who has marked it, and reads the list under
    /// that lock then, finds what was linked without having seen it.
    pub(super) fn link(
        &mut self,
        user: &UserKey,
        handle: &Handle,
        link: &Link,
    ) -> Result<Linked, StoreError> {
        let everyones_mark = self.folder.everyones_mark()?;
        let mut list = self.list(user)?;
        let linked = list.link(handle, link, everyones_mark);
        if matches!(linked, Linked::Done(_)) {
            // Spared for as long as their records are.
            list.tidy_up(to_unix_millis(link.linked_at).saturating_sub(millis(SWEEP_GRACE)));
            self.write_list(user, &list)?;
        }
        Ok(linked)
    }

    /// Changes what is on the list of a user.
    pub(super) fn change_list(
        &mut self,
        user: &UserKey,
        change: impl FnOnce(&mut UserList),
    ) -> Result<(), StoreError> {
        let mut list = self.list(user)?;
        let before = list.clone();
        change(&mut list);
        if list == before {
            // Who has left it so may have been killed before it could sync.
            let directory = self.folder.directory_of(user);
            return match directory.exists() {
                true => self.folder.sync_directory(&directory),
                false => Ok(()),
            };
        }
        if list.is_empty() {
            // Without a sync: what is unlinked is dead, so it does no harm if it is back.
            return remove(&self.folder.file(user)).map(drop);
        }
        self.write_list(user, &list)
    }

    pub(super) fn list(&mut self, user: &UserKey) -> Result<UserList, StoreError> {
        let list = self
            .folder
            .read_file(&self.folder.file(user), "user's", decode)?;
        Ok(list.unwrap_or_default())
    }

    /// Deletes the list if nothing of it is of use after `cutoff` (unix milliseconds).
    pub(super) fn delete_useless_list(
        &mut self,
        user: &UserKey,
        cutoff: i64,
    ) -> Result<(), StoreError> {
        if self.list(user)?.of_use_until() <= Some(cutoff) {
            remove(&self.folder.file(user))?;
        }
        Ok(())
    }

    fn write_list(&mut self, user: &UserKey, list: &UserList) -> Result<(), StoreError> {
        self.replace(user.into(), &encode(list), list.of_use_until())
    }
}

impl Folder {
    /// The users of this shard that have a list, those up to `after` left out, in their order.
    pub(super) fn users(
        &self,
        shard: u8,
        after: Option<UserKey>,
        caller: &Caller,
    ) -> Result<Vec<UserKey>, StoreError> {
        let mut users = Vec::new();
        for digit in 0..DIRECTORIES {
            caller.check()?;
            for (named, _) in self.entries(shard, digit)? {
                if let Named::List(user) = named {
                    users.push(user);
                }
            }
        }
        users.retain(|user| Some(*user) > after);
        users.sort_unstable();
        Ok(users)
    }

    pub(super) fn mark_everyone(&self, at: i64, caller: &Caller) -> Result<(), StoreError> {
        let lock = self.locks().join("everyone.lock");
        let _lock = lock::acquire(&lock, self.lock_timeout(), caller)?;
        if self.everyones_mark()? < Some(at) {
            let content = frame::wrap(MARK, &at.to_be_bytes());
            let temporary = self.root().join("everyone.tmp");
            self.replace(&self.everyone(), &temporary, &content, None)?;
        }
        // Also where it stands there: who has put it there may have been killed before the sync.
        self.sync_directory(self.root())
    }

    fn everyones_mark(&self) -> Result<Option<i64>, StoreError> {
        self.read_file(&self.everyone(), "mark's", |bytes| {
            Reader(frame::unwrap(MARK, bytes)?).i64()
        })
    }

    fn everyone(&self) -> PathBuf {
        self.root().join("everyone.mark")
    }
}

fn encode(list: &UserList) -> Vec<u8> {
    let mut body = vec![FORMAT, u8::from(list.mark.is_some())];
    body.extend(list.mark.unwrap_or(0).to_be_bytes());
    for entry in &list.entries {
        body.extend(entry.handle.as_bytes());
        body.extend(entry.linked_at.to_be_bytes());
        body.extend(entry.expires_at.to_be_bytes());
        body.push(match entry.progress {
            LoginProgress::Complete => 0,
            LoginProgress::Pending => 1,
        });
    }
    frame::wrap(LIST, &body)
}

fn decode(bytes: &[u8]) -> Result<UserList, RecordDecodeError> {
    let mut reader = Reader(frame::unwrap(LIST, bytes)?);
    reader.format(FORMAT)?;
    let is_marked = reader.u8()? != 0;
    let mark = reader.i64()?;
    let mut entries = Vec::new();
    while !reader.is_empty() {
        entries.push(Entry {
            handle: Handle::from_bytes(reader.array()?),
            linked_at: reader.i64()?,
            expires_at: reader.i64()?,
            progress: match reader.u8()? {
                0 => LoginProgress::Complete,
                1 => LoginProgress::Pending,
                _ => {
                    return Err(RecordDecodeError::malformed(
                        "a login in it is of no known kind",
                    ));
                }
            },
        });
    }
    Ok(UserList {
        mark: is_marked.then_some(mark),
        entries,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::clock::from_unix_millis;
    use crate::store::file::folder::SYNCED;
    use crate::store::file::shard::SyncedDirectories;

    const HANDLE: Handle = Handle::from_bytes([7; 16]);

    fn entry(progress: LoginProgress) -> Entry {
        Entry {
            handle: HANDLE,
            linked_at: -1,
            expires_at: i64::MAX,
            progress,
        }
    }

    #[test]
    fn a_list_comes_back_as_it_was_written_and_a_shorter_one_does_not() {
        for mark in [None, Some(0), Some(i64::MIN)] {
            let list = UserList {
                mark,
                entries: vec![
                    entry(LoginProgress::Complete),
                    entry(LoginProgress::Pending),
                ],
            };
            let bytes = encode(&list);
            assert_eq!(decode(&bytes).unwrap(), list);
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length]).is_err(), "cut to {length}");
            }
        }
    }

    #[test]
    fn a_newer_list_is_known_as_newer() {
        let newer = frame::wrap(LIST, &[FORMAT + 1, 0]);
        assert!(decode(&newer).unwrap_err().is_newer_format());
        let a_mark = frame::wrap(MARK, &[FORMAT, 0]);
        assert!(!decode(&a_mark).unwrap_err().is_newer_format());
    }

    #[test]
    #[cfg(unix)]
    fn links_and_marks_are_on_the_disk_before_they_are_acknowledged() {
        let root = tempfile::tempdir().unwrap();
        let (caller, _waiting) = Caller::new();
        let folder = Folder::open(root.path(), true, Duration::ZERO, &caller).unwrap();
        let user = UserKey::of("alice");
        let mut known = SyncedDirectories::default();
        let mut shard = folder.lock(user.shard(), &mut known, &caller).unwrap();
        let relative = |path: &Path| path.strip_prefix(root.path()).unwrap().to_path_buf();
        let synced = || {
            let paths = SYNCED.take();
            paths.iter().map(|path| relative(path)).collect::<Vec<_>>()
        };
        let temporary = relative(&folder.temporary(&user));
        let directory = relative(&folder.directory_of(&user));
        let link = Link {
            linked_at: from_unix_millis(1_000),
            expires_at: from_unix_millis(2_000),
            refused_by_marks_from: from_unix_millis(1_000),
            progress: LoginProgress::Complete,
            limit: None,
        };
        shard.link(&user, &HANDLE, &link).unwrap();
        synced();

        shard.link(&user, &HANDLE, &link).unwrap();
        assert_eq!(synced(), [&*temporary, &*directory]);
        shard.change_list(&user, |list| list.mark(5)).unwrap();
        assert_eq!(synced(), [&*temporary, &*directory]);
        shard.change_list(&user, |list| list.mark(5)).unwrap();
        assert_eq!(synced(), [&*directory], "who has marked it may be killed");
        folder.mark_everyone(5, &caller).unwrap();
        assert_eq!(synced(), [Path::new("everyone.tmp"), Path::new("")]);
        folder.mark_everyone(5, &caller).unwrap();
        assert_eq!(synced(), [Path::new("")]);
    }
}
