//! What the file store does on the disk, and between processes.
#![cfg(all(unix, feature = "file"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::{Duration, SystemTime};

use cloakroom::clock::from_unix_millis;
use cloakroom::store::{FileStore, Handle, Outcome, Record, SessionStore, StoreError, Version};
use tempfile::TempDir;
use tracing::field::Field;
use tracing::{Level, Metadata, span};

#[path = "../support/child.rs"]
mod child;

mod broken;
mod disk;
mod failures;
mod processes;
mod sweeps;
mod users;

const HOUR: i64 = 3_600_000;
/// Expired long ago, at `NOW`.
const LONG_AGO: i64 = NOW - HOUR;
const NOW: i64 = 1_700_000_000_000;
const LATER: i64 = NOW + HOUR;

/// Longer than any test takes: what waits for it hangs.
const NEVER: Duration = Duration::from_secs(3_600);

fn handle(number: u8) -> Handle {
    Handle::from_bytes([number; 16])
}

fn record(version: u64, expires_at: i64) -> Record {
    Record {
        version: Version::from_u64(version),
        created_at: from_unix_millis(LONG_AGO - HOUR),
        expires_at: from_unix_millis(expires_at),
        user_id: Some("alice".into()),
        payload: b"payload"[..].into(),
    }
}

async fn create(store: &FileStore, number: u8, record: &Record) -> Result<(), StoreError> {
    store.create(&handle(number), record).await
}

async fn update(
    store: &FileStore,
    number: u8,
    record: &Record,
    expected: u64,
    now: i64,
) -> Result<Outcome, StoreError> {
    let (expected, now) = (Version::from_u64(expected), from_unix_millis(now));
    store.update(&handle(number), record, expected, now).await
}

async fn touch(
    store: &FileStore,
    number: u8,
    expires_at: i64,
    expected: u64,
    now: i64,
) -> Result<Outcome, StoreError> {
    let (expected, now) = (Version::from_u64(expected), from_unix_millis(now));
    store
        .touch(&handle(number), from_unix_millis(expires_at), expected, now)
        .await
}

/// Sweeps at `NOW`.
async fn sweep(store: &FileStore, limit: usize) -> Result<usize, StoreError> {
    store.delete_expired(from_unix_millis(NOW), limit).await
}

fn folder() -> (TempDir, PathBuf) {
    listen_to_warnings();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions");
    (folder, path)
}

fn session_file(root: &Path, handle: &Handle) -> PathBuf {
    let name = handle.to_string();
    root.join(&name[..2])
        .join(&name[2..3])
        .join(format!("{name}.session"))
}

/// Every file and directory below this one.
fn walk(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

fn names(path: &Path) -> Vec<String> {
    let relative = |found: &PathBuf| found.strip_prefix(path).unwrap().to_owned();
    walk(path)
        .iter()
        .map(|found| relative(found).to_str().unwrap().to_owned())
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn io_kind(error: &StoreError) -> ErrorKind {
    let source = std::error::Error::source(error).expect("a source");
    source.downcast_ref::<std::io::Error>().unwrap().kind()
}

#[track_caller]
fn assert_names(error: &StoreError, path: &Path) {
    let path = path.to_str().unwrap();
    assert!(error.to_string().contains(path), "{error} names not {path}");
}

/// Runs a test again as a child, and fails unless that succeeds.
#[track_caller]
fn run(mut command: Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}", output.status);
    assert!(text.contains("1 passed"), "the child ran no test: {text}");
}

/// Holds the lock of the handle of this number, as another process would.
fn hold_lock(root: &Path, number: u8) -> File {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(root.join(format!("locks/{number:02x}.lock")))
        .unwrap();
    file.lock().unwrap();
    file
}

/// Sets the time of the last modification of a file.
fn age(path: &Path, millis: i64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let since = Duration::from_millis(millis as u64);
    file.set_modified(SystemTime::UNIX_EPOCH + since).unwrap();
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// What is logged as a warning on this thread, one line each.
fn warnings(work: impl FnOnce()) -> Vec<String> {
    WARNINGS.take();
    work();
    WARNINGS.take()
}

thread_local! {
    static WARNINGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Before any test makes an event, and for all of them: whether an event is wanted is remembered for the
/// process, so subscribers of single threads get in each other's way.
fn listen_to_warnings() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
}

struct Listener;

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() == Level::WARN
            && metadata.target().starts_with("cloakroom")
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!(" {field}={value:?}");
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        WARNINGS.with_borrow_mut(|lines| lines.push(line.0));
    }

    // No span is enabled.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
