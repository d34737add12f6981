//! The folder on disk: its layout, and each step on it. Everything here blocks.

use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::frame;
use super::key::{Key, UserKey};
use super::lock::{self, Caller};
use crate::id::Handle;
use crate::record::{Record, RecordDecodeError};
use crate::store::{StoreError, StoreErrorKind};

/// Directories on the first level, and so lock files: one for each first byte of a key.
pub(super) const SHARDS: usize = 256;

/// Directories on the second level, in each of the first: one for each digit.
///
/// 4096 directories in all keep a million sessions in directories of some 250 files. More of them would
/// cost more than they save: each takes a block of the disk, and a sweep lists them all.
pub(super) const DIRECTORIES: u8 = 16;

const SESSION: &str = "session";
const USER: &str = "user";
const TEMPORARY: &str = "tmp";

/// The folder of a store.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    sync: bool,
    lock_timeout: Duration,
}

/// What a file's name says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// The record of this handle.
    Record(Handle),
    /// The list of this user.
    List(UserKey),
    /// One of these on its way to its name. Without the lock it may be one that is being written; under
    /// it, it is what a crash left.
    Temporary(Key),
}

impl Folder {
    /// Makes the folder if it is missing, and tries whether it can be written.
    pub(super) fn open(
        root: &Path,
        sync: bool,
        lock_timeout: Duration,
        caller: &Caller,
    ) -> Result<Self, StoreError> {
        let folder = Self {
            // A later change of the process's working directory must not move the store.
            root: std::path::absolute(root)
                .map_err(|error| failed("find the directory", root, error))?,
            sync,
            lock_timeout,
        };
        folder.create_root(&folder.root)?;
        folder.create_directory(&folder.locks())?;
        folder.try_writing(caller)?;
        Ok(folder)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether others than the owner may write to the root, as they may if it existed with such rights.
    #[cfg(unix)]
    pub(super) fn others_can_write(&self) -> Result<bool, StoreError> {
        let metadata = fs::metadata(&self.root)
            .map_err(|error| failed("look at the directory", &self.root, error))?;
        Ok(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o022 != 0)
    }

    #[cfg(not(unix))]
    pub(super) fn others_can_write(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    pub(super) fn lock_timeout(&self) -> Duration {
        self.lock_timeout
    }

    pub(super) fn syncs(&self) -> bool {
        self.sync
    }

    /// The record of this handle. Takes no lock: a rename replaces a file wholly or not at all.
    pub(super) fn read(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        self.read_file(&self.file(handle), "session", frame::decode)
    }

    /// What stands in a file of this kind, if there is one.
    pub(super) fn read_file<T>(
        &self,
        path: &Path,
        kind: &str,
        decode: impl FnOnce(&[u8]) -> Result<T, RecordDecodeError>,
    ) -> Result<Option<T>, StoreError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.check_presence()?;
                return Ok(None);
            }
            Err(error) => return Err(failed("read", path, error)),
        };
        match decode(&bytes) {
            Ok(content) => Ok(Some(content)),
            Err(error) => Err(StoreError::from(error).with_message(format!(
                "the {kind} file {} cannot be decoded",
                path.display()
            ))),
        }
    }

    /// A volume that was unmounted, or a folder that was removed, is a failure and not a store without
    /// sessions.
    pub(super) fn check_presence(&self) -> Result<(), StoreError> {
        let locks = self.locks();
        match fs::metadata(&locks) {
            Ok(_) => Ok(()),
            Err(error) => Err(failed("find the directory", &locks, error)),
        }
    }

    pub(super) fn directory(&self, shard: u8, digit: u8) -> PathBuf {
        self.shard(shard).join(format!("{digit:x}"))
    }

    pub(super) fn shard(&self, shard: u8) -> PathBuf {
        self.root.join(format!("{shard:02x}"))
    }

    pub(super) fn directory_of(&self, key: impl Into<Key>) -> PathBuf {
        let key = key.into();
        self.directory(key.shard(), key.digit())
    }

    pub(super) fn file(&self, key: impl Into<Key>) -> PathBuf {
        let key = key.into();
        let ending = match key {
            Key::Session(_) => SESSION,
            Key::User(_) => USER,
        };
        self.directory_of(key).join(format!("{key}.{ending}"))
    }

    /// One name for each key, so that a crash can leave at most one file. Only the holder of the lock
    /// writes it.
    pub(super) fn temporary(&self, key: impl Into<Key>) -> PathBuf {
        let key = key.into();
        self.directory_of(key).join(format!("{key}.{TEMPORARY}"))
    }

    /// What of the store lies in this directory, which need not be there.
    pub(super) fn entries(
        &self,
        shard: u8,
        digit: u8,
    ) -> Result<Vec<(Named, DirEntry)>, StoreError> {
        let directory = self.directory(shard, digit);
        let unlistable = |error| failed("list", &directory, error);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unlistable(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(unlistable)?;
            let name = entry.file_name();
            if let Some(named) = name.to_str().and_then(|name| named(name, shard, digit)) {
                found.push((named, entry));
            }
        }
        Ok(found)
    }

    pub(super) fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    fn create_root(&self, path: &Path) -> Result<(), StoreError> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Ok(()),
            Ok(_) => {
                let error = io::Error::from(ErrorKind::NotADirectory);
                return Err(failed("use the directory", path, error));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("use the directory", path, error)),
        }
        if let Some(parent) = path.parent() {
            self.create_root(parent)?;
        }
        self.create_directory(path).map(drop)
    }

    /// Makes one directory, if it is missing: with its rights from the start, so that there is no moment
    /// in which others can enter.
    pub(super) fn create_directory(&self, path: &Path) -> Result<Existed, StoreError> {
        match private_directory().create(path) {
            Ok(()) => {
                // The entry of a directory is in its parent.
                if let Some(parent) = path.parent() {
                    self.sync_directory(parent)?;
                }
                Ok(Existed::No)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Existed::Yes),
            Err(error) => Err(failed("create the directory", path, error)),
        }
    }

    fn try_writing(&self, caller: &Caller) -> Result<(), StoreError> {
        let lock = self.locks().join("open.lock");
        let _lock = lock::acquire(&lock, self.lock_timeout, caller)?;
        let probe = self.root.join("probe.tmp");
        self.write_new(&probe, b"can be written", None)?;
        remove(&probe)?;
        Ok(())
    }

    /// Has this content in the file of this path, wholly or not at all. The directory is still to be synced.
    pub(super) fn replace(
        &self,
        path: &Path,
        temporary: &Path,
        content: &[u8],
        of_use_until: Option<i64>,
    ) -> Result<(), StoreError> {
        let written = self
            .write_new(temporary, content, of_use_until)
            .and_then(|()| {
                fs::rename(temporary, path).map_err(|error| failed("replace", path, error))
            });
        if written.is_err() {
            // The first failure is the one to report; what cannot be removed now, a sweep removes.
            let _ = fs::remove_file(temporary);
        }
        written
    }

    /// Writes a file that must be new; one that is there already is a leftover of a crash, and is removed.
    ///
    /// New, and not one that is overwritten, so that its rights are ours and no link is followed.
    fn write_new(
        &self,
        path: &Path,
        content: &[u8],
        of_use_until: Option<i64>,
    ) -> Result<(), StoreError> {
        let mut options = private_file();
        options.write(true).create_new(true);
        let opened = match options.open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                remove(path)?;
                options.open(path)
            }
            opened => opened,
        };
        let write = |mut file: File| {
            file.write_all(content)?;
            if let Some(millis) = of_use_until {
                // Only a hint for the sweep, which opens no file whose hint is in the future. Where the
                // file system refuses, the time of writing stays, and costs the sweep a look into the file.
                let _ = file.set_modified(system_time(millis));
            }
            self.sync(&file, path)
        };
        opened
            .and_then(write)
            .map_err(|error| failed("write", path, error))
    }

    fn sync(&self, file: &File, _path: &Path) -> io::Result<()> {
        if !self.sync {
            return Ok(());
        }
        #[cfg(test)]
        SYNCED.with_borrow_mut(|synced| synced.push(_path.to_owned()));
        file.sync_all()
    }

    #[cfg(unix)]
    pub(super) fn sync_directory(&self, path: &Path) -> Result<(), StoreError> {
        if !self.sync {
            return Ok(());
        }
        File::open(path)
            .and_then(|directory| self.sync(&directory, path))
            .map_err(|error| failed("sync the directory", path, error))
    }

    /// Elsewhere a directory cannot be opened as a file; the file system's journal has to do.
    #[cfg(not(unix))]
    pub(super) fn sync_directory(&self, _path: &Path) -> Result<(), StoreError> {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existed {
    Yes,
    No,
}

/// What a file of this name in this directory is; `None` for whatever else lies there, which the store
/// leaves alone.
fn named(name: &str, shard: u8, digit: u8) -> Option<Named> {
    let (stem, kind) = name.split_once('.')?;
    let key = Key::parse(stem)?;
    if (key.shard(), key.digit()) != (shard, digit) {
        return None;
    }
    match (kind, key) {
        (SESSION, Key::Session(handle)) => Some(Named::Record(handle)),
        (USER, Key::User(user)) => Some(Named::List(user)),
        (TEMPORARY, key) => Some(Named::Temporary(key)),
        _ => None,
    }
}

/// A time as a file's; the epoch if it is earlier or cannot be represented.
pub(super) fn system_time(millis: i64) -> SystemTime {
    u64::try_from(millis)
        .ok()
        .and_then(|millis| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// An I/O failure, naming the path.
pub(super) fn failed(action: &str, path: &Path, error: io::Error) -> StoreError {
    StoreError::unavailable(format!("cannot {action} {}", path.display()), error)
}

/// How files are opened that may have to be made: for nobody but this user, from the start.
pub(super) fn private_file() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn private_directory() -> DirBuilder {
    #[cfg_attr(not(unix), expect(unused_mut))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Removes the file; `false` if there was none.
pub(super) fn remove(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path, error)),
    }
}

/// Whether the store works, and it is this one record that cannot be read.
pub(super) fn is_of_the_record(error: &StoreError) -> bool {
    matches!(
        error.kind(),
        StoreErrorKind::Undecodable | StoreErrorKind::NewerFormat
    )
}

#[cfg(test)]
thread_local! {
    /// What was synced on this thread, in that order.
    pub(super) static SYNCED: std::cell::RefCell<Vec<PathBuf>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_has_one_path_and_a_path_one_handle() {
        let folder = Folder {
            root: "/root".into(),
            sync: true,
            lock_timeout: Duration::ZERO,
        };
        let handle = Handle::from_bytes([0xAB; 16]);
        let path = folder.file(&handle);
        assert_eq!(
            path.to_str().unwrap(),
            "/root/ab/a/abababababababababababababababab.session"
        );
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(named(name, 0xab, 0xa), Some(Named::Record(handle)));
        for (shard, digit) in [(0xab, 0xb), (0xaa, 0xa)] {
            assert_eq!(named(name, shard, digit), None, "it belongs elsewhere");
        }
    }

    #[test]
    fn what_is_not_named_like_a_file_of_the_store_is_none() {
        for name in [
            "",
            ".session",
            "session",
            "..",
            "../../etc/passwd",
            "abababababababababababababababab",
            "abababababababababababababababab.",
            "abababababababababababababababab.session.bak",
            "ababababababababababababababab.session",
            "ABABABABABABABABABABABABABABABAB.session",
            "abababababababababababababababab.SESSION",
            "abababababababababababababababab.user",
            &format!("{}.session", "ab".repeat(32)),
            &format!("{}.user", "ab".repeat(31)),
        ] {
            assert_eq!(named(name, 0xab, 0xa), None, "{name:?}");
        }
    }

    #[test]
    fn times_before_the_epoch_and_beyond_the_clock_are_the_epoch() {
        assert_eq!(system_time(-1), SystemTime::UNIX_EPOCH);
        assert_eq!(
            system_time(1_500),
            SystemTime::UNIX_EPOCH + Duration::from_millis(1_500)
        );
        // Must not panic, whatever comes of it.
        system_time(i64::MAX);
    }
}
