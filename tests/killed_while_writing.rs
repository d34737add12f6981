//! A process killed fifty times while it writes loses no write that it acknowledged, and leaves no record
//! that cannot be read.
//!
//! The child is this test again. It writes in a tight loop, and says each write on its standard output:
//! before it begins, so that the parent knows of each handle, and after it returned, which is the
//! acknowledgement. The parent kills it after a number of lines, another one each time, and looks at what
//! is there.
#![cfg(all(unix, feature = "file", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use cloakroom::clock::{from_unix_millis, to_unix_millis};
use cloakroom::store::{Handle, Outcome, Record, SessionStore, Version};

#[path = "support/child.rs"]
mod child;

/// One test for a store: how to open it in a folder.
macro_rules! loses_nothing_when_killed {
    ($test:ident, $open:expr) => {
        #[test]
        fn $test() {
            match child::folder() {
                Some(folder) => write_until_killed(&folder, $open),
                None => kill_again_and_again(stringify!($test), $open),
            }
        }
    };
}

loses_nothing_when_killed!(a_file_store, async |path| {
    cloakroom::store::FileStore::open(path).await.unwrap()
});

loses_nothing_when_killed!(a_file_store_without_sync, async |path| {
    let builder = cloakroom::store::FileStore::builder(path).without_sync();
    builder.open().await.unwrap()
});

loses_nothing_when_killed!(an_sqlite_store, async |path| {
    let path = path.with_extension("db");
    let store = cloakroom::store::SqliteStore::connect(path).await.unwrap();
    store.migrate().await.unwrap();
    store
});

const KILLS: u64 = 50;

/// Writers in a child, each on handles of its own, so that a kill meets several stages of a write.
const WRITERS: u8 = 4;

/// Whose record is written on and on, by every child. It comes first among a writer's handles.
const LASTING: u64 = 0;

/// 2100-01-01, so that nothing expires.
const FIRST_EXPIRY: i64 = 4_102_444_800_000;

/// What the child says of one handle. The number counts the writes of a record, and is its version; the
/// expiry rises with each write and each touch.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The least version it may have; 0 if no write of it was acknowledged.
    version: u64,
    /// The least expiry it may have.
    expires_at: i64,
    /// A deletion had begun.
    may_be_gone: bool,
    /// A deletion was acknowledged.
    is_gone: bool,
}

fn kill_again_and_again<S: SessionStore>(test: &str, open: impl AsyncFn(&Path) -> S) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions");
    let mut known = BTreeMap::new();
    for kill in 0..KILLS {
        // 7 is prime to 50: so each number comes once, and short and long lives take turns.
        let lines = 20 + 3 * (kill * 7 % KILLS);
        let acknowledged = run_and_kill(test, &path, lines, &mut known);
        assert!(
            acknowledged > 0,
            "the child wrote nothing before kill {kill}"
        );
        block_on(check(&block_on(open(&path)), &mut known));
    }
    block_on(check_sweep(&block_on(open(&path)), &known));
}

/// Runs a child, kills it once it has said so many lines, and takes down all that it had said by then.
/// Returns how many writes were acknowledged.
fn run_and_kill(test: &str, path: &Path, lines: u64, known: &mut BTreeMap<String, Known>) -> usize {
    let mut child = child::again(test, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = 0;
    let mut acknowledged = 0;
    let mut line = String::new();
    loop {
        line.clear();
        output.read_line(&mut line).unwrap();
        // The end of what the dead child had said, or a line that it did not finish.
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        // The test harness says something, too.
        let Some(line) = line.strip_prefix("child: ") else {
            continue;
        };
        acknowledged += usize::from(take_down(line, known));
        said += 1;
        if said == lines {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(
        status.signal(),
        Some(9),
        "the child ended by itself: {status}"
    );
    acknowledged
}

/// Whether it was an acknowledgement.
fn take_down(line: &str, known: &mut BTreeMap<String, Known>) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let [what, handle, version, expires_at] = words[..] else {
        panic!("not understood: {line}");
    };
    let known = known.entry(handle.to_owned()).or_default();
    match what {
        "creating" => {
            // A lasting one whose first creation was interrupted is created again by the next child.
            known.is_gone = false;
            return false;
        }
        "deleting" => {
            known.may_be_gone = true;
            return false;
        }
        "wrote" => {
            known.version = version.parse().unwrap();
            known.expires_at = expires_at.parse().unwrap();
        }
        "deleted" => known.is_gone = true,
        _ => panic!("not understood: {line}"),
    }
    true
}

async fn check(store: &dyn SessionStore, known: &mut BTreeMap<String, Known>) {
    for (handle, known) in known {
        let record = store
            .load(&handle.parse().unwrap())
            .await
            .unwrap_or_else(|error| panic!("{handle} is not readable: {error:?}"));
        let Some(record) = record else {
            let may_be_gone = known.may_be_gone || known.version == 0;
            assert!(may_be_gone, "{handle} is lost: {known:?}");
            // Once it was seen to be gone it must not come back.
            known.is_gone = true;
            continue;
        };
        assert!(!known.is_gone, "{handle} is back: {record:?}");
        let version = record.version.to_u64();
        let expires_at = to_unix_millis(record.expires_at);
        assert_eq!(
            record,
            self::record(version, expires_at),
            "{handle} is mixed"
        );
        assert!(
            version >= known.version && expires_at >= known.expires_at,
            "{handle} is older than {known:?}: {record:?}"
        );
        // Once it was seen it must not fall back. Nobody goes on with a deletion that was interrupted.
        *known = Known {
            version,
            expires_at,
            may_be_gone: false,
            is_gone: false,
        };
    }
}

/// A sweep is not hindered by what the kills left, and finds each record that is there.
async fn check_sweep(store: &dyn SessionStore, known: &BTreeMap<String, Known>) {
    let there = known.values().filter(|known| !known.is_gone).count();
    let end = from_unix_millis(2 * FIRST_EXPIRY);
    assert_eq!(store.delete_expired(end, usize::MAX).await.unwrap(), there);
    for handle in known.keys() {
        assert!(
            store
                .load(&handle.parse().unwrap())
                .await
                .unwrap()
                .is_none()
        );
    }
}

fn write_until_killed<S: SessionStore>(path: &Path, open: impl AsyncFn(&Path) -> S) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // Ends the line that the test harness began.
    println!();
    runtime.block_on(async {
        let store: Arc<dyn SessionStore> = Arc::new(open(path).await);
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write(Arc::clone(&store), writer)));
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

/// Writes on and on. Every other round begins and ends a session; in between it goes on with the lasting
/// one. Of the sessions it begins it leaves every third.
async fn write(store: Arc<dyn SessionStore>, writer: u8) {
    // Of this process and no other: no handle is used twice.
    let life = u64::from(std::process::id()) << 32;
    let lasting = handle(writer, LASTING);
    for round in 1.. {
        match store.load(&lasting).await.unwrap() {
            None => create(&*store, &lasting).await,
            Some(record) => update(&*store, &lasting, &record).await,
        }
        let handle = handle(writer, life | round);
        create(&*store, &handle).await;
        for _ in 0..3 {
            let record = store.load(&handle).await.unwrap().unwrap();
            update(&*store, &handle, &record).await;
            touch(&*store, &handle).await;
        }
        if round % 3 != 0 {
            say("deleting", &handle, 0, 0);
            assert!(store.delete(&handle).await.unwrap());
            say("deleted", &handle, 0, 0);
        }
    }
}

async fn create(store: &dyn SessionStore, handle: &Handle) {
    say("creating", handle, 0, 0);
    let record = record(1, FIRST_EXPIRY);
    store.create(handle, &record).await.unwrap();
    say("wrote", handle, 1, FIRST_EXPIRY);
}

async fn update(store: &dyn SessionStore, handle: &Handle, old: &Record) {
    let version = old.version.to_u64() + 1;
    let expires_at = to_unix_millis(old.expires_at) + 1;
    let new = record(version, expires_at);
    let outcome = store.update(handle, &new, old.version, from_unix_millis(0));
    assert_eq!(outcome.await.unwrap(), Outcome::Done);
    say("wrote", handle, version, expires_at);
}

async fn touch(store: &dyn SessionStore, handle: &Handle) {
    let old = store.load(handle).await.unwrap().unwrap();
    let expires_at = old.expires_at + Duration::from_millis(1);
    let outcome = store.touch(handle, expires_at, old.version, from_unix_millis(0));
    assert_eq!(outcome.await.unwrap(), Outcome::Done);
    say(
        "wrote",
        handle,
        old.version.to_u64(),
        to_unix_millis(expires_at),
    );
}

/// In one write to the pipe, so that a kill does not tear the line.
fn say(what: &str, handle: &Handle, version: u64, expires_at: i64) {
    let line = format!("child: {what} {handle} {version} {expires_at}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

fn handle(writer: u8, number: u64) -> Handle {
    let mut bytes = [0; 16];
    // Spread over the handles as random ones are, and some of them next to each other.
    bytes[0] = (number as u8).wrapping_mul(37);
    bytes[1] = writer;
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Handle::from_bytes(bytes)
}

/// Of a content, and a size, that follow from its version: so a mixture of two is seen.
fn record(version: u64, expires_at: i64) -> Record {
    Record {
        version: Version::from_u64(version),
        created_at: from_unix_millis(version as i64),
        expires_at: from_unix_millis(expires_at),
        user_id: Some(format!("user {version}").into()),
        payload: vec![version as u8; (version * 997 % 20_000) as usize].into(),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
