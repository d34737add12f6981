use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::Poll;

use sqlx::sqlite::SqliteJournalMode;
use sqlx::{AssertSqlSafe, SqlStr};
use tempfile::TempDir;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::*;
use crate::clock::from_unix_millis;
use crate::store::StoreErrorKind;

mod by_user;

const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;
const GRACE: i64 = 60_000;
const HANDLE: Handle = Handle::from_bytes([7; 16]);

/// A directory for a database, gone when it is dropped.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("sessions.db")
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(self.file())
            .create_if_missing(true)
    }

    /// A store with one connection, so that an operation begins when all before it have ended.
    async fn store_of_one(&self) -> SqliteStore {
        store_of(SqlitePoolOptions::new().max_connections(1), self.options()).await
    }

    async fn migrated(&self) -> SqliteStore {
        let store = SqliteStore::connect(self.file()).await.unwrap();
        store.migrate().await.unwrap();
        store
    }
}

async fn store_of(pool: SqlitePoolOptions, options: SqliteConnectOptions) -> SqliteStore {
    SqliteStore::new(pool.connect_with(options).await.unwrap())
}

fn record(version: u64, expires_at: i64) -> Record {
    Record {
        version: Version::from_u64(version),
        created_at: from_unix_millis(NOW - HOUR),
        expires_at: from_unix_millis(expires_at),
        user_id: Some(format!("user {version}").into()),
        payload: vec![version as u8; 5_000].into(),
    }
}

fn v(version: u64) -> Version {
    Version::from_u64(version)
}

fn now() -> OffsetDateTime {
    from_unix_millis(NOW)
}

async fn run(store: &SqliteStore, sql: &str) -> sqlx::Result<u64> {
    let result = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(store.pool())
        .await?;
    Ok(result.rows_affected())
}

async fn count(store: &SqliteStore) -> i64 {
    let sql = format!(r#"SELECT count(*) FROM "{}""#, store.table.as_str());
    sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(store.pool())
        .await
        .unwrap()
}

/// Ends a test that would hang, and is no measure of time.
async fn without_hanging<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it hangs")
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_given() {
    let place = Place::new();
    let store = place.migrated().await;
    let records = [
        record(u64::MAX, NOW + HOUR),
        Record {
            user_id: None,
            payload: [][..].into(),
            ..record(1 << 63, NOW - HOUR)
        },
        Record {
            user_id: Some("".into()),
            payload: vec![0xFF; 65_536].into(),
            ..record(0, -1)
        },
        Record {
            user_id: Some("ü\0\"';".into()),
            ..record(1, 253_402_300_799_999)
        },
    ];
    for (index, record) in records.iter().enumerate() {
        let handle = Handle::from_bytes([index as u8; 16]);
        store.create(&handle, record).await.unwrap();
        assert_eq!(store.load(&handle).await.unwrap().as_ref(), Some(record));
    }
    assert_eq!(store.load(&HANDLE).await.unwrap(), None);
}

#[tokio::test]
async fn a_handle_in_use_is_not_overwritten_even_if_expired() {
    let place = Place::new();
    let store = place.migrated().await;
    let old = record(1, NOW - HOUR);
    store.create(&HANDLE, &old).await.unwrap();
    let error = store.create(&HANDLE, &record(2, NOW)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::HandleInUse);
    assert_eq!(store.load(&HANDLE).await.unwrap(), Some(old));
}

#[tokio::test]
async fn update_and_touch_want_a_live_record_of_the_expected_version() {
    let place = Place::new();
    let store = place.migrated().await;
    let old = record(1, NOW + 1);
    let new = record(2, NOW + HOUR);
    let later = from_unix_millis(NOW + HOUR);
    let expired = from_unix_millis(NOW + 1);

    let outcome = store.update(&HANDLE, &new, v(1), now()).await.unwrap();
    assert_eq!(outcome, Outcome::Missing);
    let outcome = store.touch(&HANDLE, later, v(1), now()).await.unwrap();
    assert_eq!(outcome, Outcome::Missing);
    assert_eq!(count(&store).await, 0);

    store.create(&HANDLE, &old).await.unwrap();
    for (expected, at, outcome) in [
        (v(1), expired, Outcome::Missing),
        (v(9), expired, Outcome::Missing),
        (v(9), now(), Outcome::Conflict),
        // Its own version is not the one that it expects.
        (v(2), now(), Outcome::Conflict),
    ] {
        assert_eq!(
            store.update(&HANDLE, &new, expected, at).await.unwrap(),
            outcome
        );
        assert_eq!(
            store.touch(&HANDLE, later, expected, at).await.unwrap(),
            outcome
        );
        assert_eq!(store.load(&HANDLE).await.unwrap(), Some(old.clone()));
    }

    let outcome = store.update(&HANDLE, &new, v(1), now()).await.unwrap();
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(store.load(&HANDLE).await.unwrap(), Some(new));
}

#[tokio::test]
async fn a_touch_sets_the_expiry_alone_and_never_lowers_it() {
    let place = Place::new();
    let store = place.migrated().await;
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    for (to, stored) in [
        (NOW + 2 * HOUR, NOW + 2 * HOUR),
        (NOW + HOUR, NOW + 2 * HOUR),
        (NOW - HOUR, NOW + 2 * HOUR),
    ] {
        let outcome = store
            .touch(&HANDLE, from_unix_millis(to), v(1), now())
            .await
            .unwrap();
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(store.load(&HANDLE).await.unwrap(), Some(record(1, stored)));
    }
}

#[tokio::test]
async fn a_deleted_record_is_gone_for_every_connection() {
    let place = Place::new();
    let store = place.migrated().await;
    let other = place.migrated().await;
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    assert!(other.load(&HANDLE).await.unwrap().is_some());
    assert!(store.delete(&HANDLE).await.unwrap());
    assert!(other.load(&HANDLE).await.unwrap().is_none());
    assert!(!other.delete(&HANDLE).await.unwrap());
}

#[tokio::test]
async fn a_sweep_is_bounded_begins_with_the_oldest_and_spares_the_grace() {
    let place = Place::new();
    let store = place.migrated().await;
    let expiries = [
        NOW - GRACE + 1,
        NOW - GRACE,
        NOW - GRACE - 1,
        NOW - HOUR,
        NOW + HOUR,
    ];
    for (index, expires_at) in expiries.into_iter().enumerate() {
        let handle = Handle::from_bytes([index as u8; 16]);
        store.create(&handle, &record(1, expires_at)).await.unwrap();
    }
    assert_eq!(store.delete_expired(now(), 0).await.unwrap(), 0);
    assert_eq!(store.delete_expired(now(), 1).await.unwrap(), 1);
    assert!(
        store
            .load(&Handle::from_bytes([3; 16]))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(store.delete_expired(now(), usize::MAX).await.unwrap(), 2);
    assert_eq!(store.delete_expired(now(), usize::MAX).await.unwrap(), 0);
    for spared in [0, 4] {
        let handle = Handle::from_bytes([spared; 16]);
        assert!(store.load(&handle).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_spares_what_was_touched_while_it_waited() {
    let place = Place::new();
    let store = place.migrated().await;
    let sweeping = place.store_of_one().await;
    store.create(&HANDLE, &record(1, NOW - HOUR)).await.unwrap();

    let mut touching = store.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
    let sweep = tokio::spawn({
        let sweeping = sweeping.clone();
        async move { sweeping.delete_expired(now(), 10).await }
    });
    // Gives the sweep its only connection, and then time for whatever it might do before it has the lock.
    without_hanging(async {
        while sweeping.pool().num_idle() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..200 {
        store.load(&HANDLE).await.unwrap();
    }
    assert!(!sweep.is_finished());
    sqlx::query("UPDATE cloakroom_sessions SET expires_at = ?1")
        .bind(NOW + HOUR)
        .execute(&mut *touching)
        .await
        .unwrap();
    touching.commit().await.unwrap();

    assert_eq!(without_hanging(sweep).await.unwrap().unwrap(), 0);
    assert!(store.load(&HANDLE).await.unwrap().is_some());
}

#[tokio::test]
async fn a_sweep_goes_over_the_index_and_every_other_operation_over_the_key() {
    let place = Place::new();
    let store = place.migrated().await;
    let statements = &store.statements;
    for sql in [
        &statements.load,
        &statements.update,
        &statements.touch,
        &statements.is_live,
        &statements.delete,
    ] {
        let plan = plan(&store, sql).await;
        assert_eq!(plan.len(), 1, "{plan:?}");
        assert!(plan[0].contains("(handle=?)"), "{plan:?}");
    }
    let plan = plan(&store, &statements.delete_expired).await.join("\n");
    assert!(
        plan.contains("cloakroom_sessions_expires_at (expires_at<?)"),
        "{plan}"
    );
    assert!(plan.contains("INTEGER PRIMARY KEY (rowid=?)"), "{plan}");
    assert!(
        !plan.contains("SCAN") && !plan.contains("TEMP B-TREE"),
        "{plan}"
    );
    let by_user = SqlStr::from_static("SELECT handle FROM cloakroom_sessions WHERE user_id = ?1");
    let plan = self::plan(&store, &by_user).await.join("\n");
    assert!(
        plan.contains("cloakroom_sessions_user_id (user_id=?)"),
        "{plan}"
    );
}

async fn plan(store: &SqliteStore, sql: &SqlStr) -> Vec<String> {
    let sql = format!("EXPLAIN QUERY PLAN {}", sql.as_str());
    let rows = sqlx::query(AssertSqlSafe(sql))
        .fetch_all(store.pool())
        .await;
    rows.unwrap().iter().map(|row| row.get("detail")).collect()
}

#[tokio::test]
async fn statements_are_prepared_once() {
    let place = Place::new();
    place.migrated().await;
    let store = place.store_of_one().await;
    let mut cached = Vec::new();
    for round in 0..3 {
        let new = record(round + 1, NOW + HOUR);
        store
            .create(&HANDLE, &record(round, NOW + HOUR))
            .await
            .unwrap();
        store.load(&HANDLE).await.unwrap();
        store.update(&HANDLE, &new, v(round), now()).await.unwrap();
        store.touch(&HANDLE, now(), v(round), now()).await.unwrap();
        store.delete(&HANDLE).await.unwrap();
        store.delete_expired(now(), 1).await.unwrap();
        let connection = store.pool().acquire().await.unwrap();
        cached.push(sqlx::Connection::cached_statements_size(&*connection));
    }
    assert_eq!(cached, [9; 3]);
}

#[tokio::test]
async fn sessions_outlive_the_pool() {
    let place = Place::new();
    let store = place.migrated().await;
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    store.pool().close().await;
    let error = store.load(&HANDLE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);

    let store = place.migrated().await;
    assert_eq!(
        store.load(&HANDLE).await.unwrap(),
        Some(record(1, NOW + HOUR))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_updates_from_the_same_version_one_takes_effect() {
    const WRITERS: u64 = 16;
    let place = Place::new();
    let stores = [place.migrated().await, place.migrated().await];
    for round in 0..10 {
        let handle = Handle::from_bytes([round; 16]);
        stores[0]
            .create(&handle, &record(100, NOW + HOUR))
            .await
            .unwrap();
        let barrier = Arc::new(Barrier::new(WRITERS as usize));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let store = stores[writer as usize % stores.len()].clone();
            let barrier = Arc::clone(&barrier);
            writers.spawn(async move {
                barrier.wait().await;
                let new = record(writer, NOW + HOUR);
                let outcome = store.update(&handle, &new, v(100), now()).await.unwrap();
                (outcome, new)
            });
        }
        let (done, refused): (Vec<_>, Vec<_>) = without_hanging(writers.join_all())
            .await
            .into_iter()
            .partition(|(outcome, _)| *outcome == Outcome::Done);
        assert_eq!(done.len(), 1);
        assert!(
            refused
                .iter()
                .all(|(outcome, _)| *outcome == Outcome::Conflict)
        );
        let stored = stores[0].load(&handle).await.unwrap();
        assert_eq!(stored.as_ref(), Some(&done[0].1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_creates_of_one_handle_one_takes_effect() {
    let place = Place::new();
    let store = place.migrated().await;
    let barrier = Arc::new(Barrier::new(8));
    let mut creators = JoinSet::new();
    for creator in 0..8 {
        let (store, barrier) = (store.clone(), Arc::clone(&barrier));
        creators.spawn(async move {
            barrier.wait().await;
            store.create(&HANDLE, &record(creator, NOW)).await
        });
    }
    let results = without_hanging(creators.join_all()).await;
    let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert_eq!(errors.len(), 7);
    assert!(
        errors
            .iter()
            .all(|error| error.kind() == StoreErrorKind::HandleInUse)
    );
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let place = Place::new();
    let store = place.migrated().await;
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    store.migrate().await.unwrap();
    assert!(store.load(&HANDLE).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tasks_migrate_at_once() {
    let place = Place::new();
    let store = SqliteStore::connect(place.file()).await.unwrap();
    migrate_at_once(vec![store.clone(); 10]).await;
    assert_eq!(count(&store).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_pools_migrate_a_new_file_at_once() {
    for _ in 0..10 {
        let place = Place::new();
        let mut stores = Vec::new();
        for _ in 0..6 {
            stores.push(place.store_of_one().await);
        }
        migrate_at_once(stores.clone()).await;
        for (index, store) in stores.iter().enumerate() {
            let handle = Handle::from_bytes([index as u8; 16]);
            store.create(&handle, &record(1, NOW)).await.unwrap();
        }
        assert_eq!(count(&stores[0]).await, 6);
    }
}

async fn migrate_at_once(stores: Vec<SqliteStore>) {
    let barrier = Arc::new(Barrier::new(stores.len()));
    let mut tasks = JoinSet::new();
    for store in stores {
        let barrier = Arc::clone(&barrier);
        tasks.spawn(async move {
            barrier.wait().await;
            store.migrate().await.unwrap();
        });
    }
    without_hanging(tasks.join_all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_waits_for_a_file_that_somebody_writes_to() {
    let place = Place::new();
    let writing = place.store_of_one().await;
    run(&writing, "CREATE TABLE others (id)").await.unwrap();
    let lock = writing.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
    let reading = place.store_of_one().await;
    let store = place.store_of_one().await;
    let migration = tokio::spawn({
        let store = store.clone();
        async move { store.migrate().await }
    });
    // Time in which a migration that does not wait would have failed.
    for _ in 0..200 {
        run(&reading, "SELECT count(*) FROM others").await.unwrap();
    }
    assert!(!migration.is_finished());
    lock.rollback().await.unwrap();
    without_hanging(migration).await.unwrap().unwrap();
    assert_eq!(count(&store).await, 0);
}

/// Runs itself in several processes, which learn from the environment that they are such.
#[tokio::test]
async fn several_processes_migrate_a_new_file_at_once() {
    const FILE: &str = "CLOAKROOM_TEST_SQLITE_FILE";
    if let Some(file) = std::env::var_os(FILE) {
        let store = SqliteStore::connect(PathBuf::from(file)).await.unwrap();
        store.migrate().await.unwrap();
        let id = crate::id::SessionId::generate().unwrap();
        store.create(&id.handle, &record(1, NOW)).await.unwrap();
        return;
    }
    const PROCESSES: usize = 4;
    let place = Place::new();
    let processes: Vec<_> = (0..PROCESSES)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .arg("--exact")
                .arg("store::sqlite::tests::several_processes_migrate_a_new_file_at_once")
                .env(FILE, place.file())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for process in processes {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let store = SqliteStore::connect(place.file()).await.unwrap();
    assert_eq!(count(&store).await, PROCESSES as i64);
}

#[tokio::test]
async fn the_pool_of_connect_waits_for_locks_and_survives_a_power_failure() {
    let place = Place::new();
    let store = place.migrated().await;
    for (pragma, value) in [
        ("PRAGMA busy_timeout", "5000"),
        ("PRAGMA synchronous", "2"),
        ("PRAGMA journal_mode", "wal"),
    ] {
        let row = sqlx::query(pragma).fetch_one(store.pool()).await.unwrap();
        let text = row
            .try_get::<i64, _>(0)
            .map(|number| number.to_string())
            .unwrap_or_else(|_| row.get(0));
        assert_eq!(text, value, "{pragma}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_named() {
    let place = Place::new();
    let path = place.0.path().join("nowhere").join("sessions.db");
    let error = SqliteStore::connect(&path).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
}

#[tokio::test]
async fn migrate_turns_a_pool_of_another_journal_mode_to_wal() {
    let place = Place::new();
    let options = place.options().journal_mode(SqliteJournalMode::Truncate);
    let store = store_of(SqlitePoolOptions::new().max_connections(1), options).await;
    store.migrate().await.unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(mode, "wal");
}

/// Locks of a kind that WAL cannot do with.
#[cfg(unix)]
#[tokio::test]
async fn a_database_that_cannot_be_switched_to_wal_is_refused() {
    let place = Place::new();
    let options = place.options().vfs("unix-dotfile");
    let store = store_of(SqlitePoolOptions::new().max_connections(1), options).await;
    let error = store.migrate().await.unwrap_err();
    assert!(error.to_string().contains("WAL"), "{error:?}");
}

#[tokio::test]
async fn a_database_in_memory_is_refused_to_a_pool_that_would_lose_it() {
    let one = || SqlitePoolOptions::new().max_connections(1);
    let everlasting = |pool: SqlitePoolOptions| pool.idle_timeout(None).max_lifetime(None);
    for pool in [
        one(),
        one().idle_timeout(None),
        one().max_lifetime(None),
        everlasting(SqlitePoolOptions::new().max_connections(2)),
    ] {
        let store = store_of(pool, "sqlite::memory:".parse().unwrap()).await;
        let error = store.migrate().await.unwrap_err();
        assert!(error.to_string().contains("in memory"), "{error:?}");
    }
    for options in [
        "sqlite::memory:".parse().unwrap(),
        SqliteConnectOptions::new(),
    ] {
        let store = store_of(everlasting(one()), options).await;
        store.migrate().await.unwrap();
        store.create(&HANDLE, &record(1, NOW)).await.unwrap();
        assert!(store.load(&HANDLE).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn stores_with_tables_of_their_own_share_a_database() {
    let place = Place::new();
    let default = place.migrated().await;
    let order = default.clone().with_table("order").unwrap();
    let error = order.load(&HANDLE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    order.migrate().await.unwrap();
    order.create(&HANDLE, &record(1, NOW)).await.unwrap();
    assert!(order.load(&HANDLE).await.unwrap().is_some());
    assert!(default.load(&HANDLE).await.unwrap().is_none());
}

#[tokio::test]
async fn a_name_that_is_none_of_a_table_is_refused_with_a_reason() {
    let place = Place::new();
    let store = place.migrated().await;
    for (name, reason) in [
        ("a\"; DROP TABLE cloakroom_sessions; --", "ASCII letters"),
        ("", "1 to 48"),
        ("SQLite_sessions", "sqlite_"),
    ] {
        let error = store.clone().with_table(name).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_table_of_the_same_name_that_is_none_of_sessions_is_refused() {
    let place = Place::new();
    let store = place.store_of_one().await;
    run(
        &store,
        "CREATE TABLE cloakroom_sessions (handle, expires_at, user_id)",
    )
    .await
    .unwrap();
    let error = store.migrate().await.unwrap_err();
    assert!(
        error.to_string().contains("cloakroom_sessions"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_row_of_other_types_cannot_be_written() {
    let place = Place::new();
    let store = place.migrated().await;
    store.create(&HANDLE, &record(1, NOW)).await.unwrap();
    for change in [
        "version = 'one'",
        "payload = 'text'",
        "payload = NULL",
        "handle = X'00'",
        "handle = NULL",
    ] {
        run(&store, &format!("UPDATE cloakroom_sessions SET {change}"))
            .await
            .unwrap_err();
    }
}

/// Gives the table of a store neither types nor rules.
async fn make_lax(store: &SqliteStore) {
    run(
        store,
        "DROP TABLE cloakroom_sessions;
        CREATE TABLE cloakroom_sessions
        (handle PRIMARY KEY, version, created_at, expires_at, user_id, payload)",
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_an_error_and_is_left_in_place() {
    let place = Place::new();
    let store = place.store_of_one().await;
    store.migrate().await.unwrap();
    make_lax(&store).await;
    for change in [
        "version = NULL",
        "version = 'seven'",
        "version = '7'",
        "version = 1.5",
        "created_at = NULL",
        "created_at = -9223372036854775808",
        "expires_at = NULL",
        "expires_at = X'00'",
        "expires_at = 9223372036854775807",
        "user_id = 7",
        "user_id = X'61'",
        "user_id = CAST(X'FF' AS TEXT)",
        "payload = NULL",
        "payload = 'text'",
        "payload = 7",
    ] {
        store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
        assert!(store.load(&HANDLE).await.unwrap().is_some());
        run(&store, &format!("UPDATE cloakroom_sessions SET {change}"))
            .await
            .unwrap();
        let error = store.load(&HANDLE).await.expect_err(change);
        assert_eq!(error.kind(), StoreErrorKind::Undecodable, "{change}");
        assert_eq!(count(&store).await, 1);
        assert!(store.delete(&HANDLE).await.unwrap());
    }
}

#[tokio::test]
async fn a_locked_database_can_be_read_and_fails_writes_by_the_busy_timeout() {
    let place = Place::new();
    let store = place.migrated().await;
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    let impatient = store_of(
        SqlitePoolOptions::new(),
        place.options().busy_timeout(Duration::from_millis(30)),
    )
    .await;
    let other = Handle::from_bytes([8; 16]);
    let new = record(2, NOW + HOUR);

    let lock = store.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
    assert!(impatient.load(&HANDLE).await.unwrap().is_some());
    let errors = without_hanging(async {
        [
            impatient.create(&other, &new).await.unwrap_err(),
            impatient
                .update(&HANDLE, &new, v(1), now())
                .await
                .unwrap_err(),
            impatient
                .touch(&HANDLE, now(), v(1), now())
                .await
                .unwrap_err(),
            impatient.delete(&HANDLE).await.unwrap_err(),
            impatient.delete_expired(now(), 1).await.unwrap_err(),
        ]
    })
    .await;
    for error in errors {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.to_string().contains("locked"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
    lock.rollback().await.unwrap();

    assert_eq!(
        impatient.load(&HANDLE).await.unwrap(),
        Some(record(1, NOW + HOUR))
    );
    assert_eq!(count(&impatient).await, 1);
    let outcome = impatient.update(&HANDLE, &new, v(1), now()).await.unwrap();
    assert_eq!(outcome, Outcome::Done);
}

#[tokio::test]
async fn a_pool_without_a_free_connection_is_a_timeout() {
    let place = Place::new();
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_millis(30));
    let store = store_of(pool, place.options()).await;
    let _held = store.pool().acquire().await.unwrap();
    let error = store.load(&HANDLE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut);
    assert!(error.to_string().contains("acquire timeout"), "{error}");
}

#[tokio::test]
async fn a_full_database_is_an_error_and_changes_nothing() {
    let place = Place::new();
    let store = place.store_of_one().await;
    store.migrate().await.unwrap();
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    run(&store, "PRAGMA max_page_count = 1").await.unwrap();
    let large = Record {
        payload: vec![1; 65_536].into(),
        ..record(2, NOW + HOUR)
    };
    let other = Handle::from_bytes([8; 16]);
    for error in [
        store.create(&other, &large).await.unwrap_err(),
        store
            .update(&HANDLE, &large, v(1), now())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    }
    assert_eq!(
        store.load(&HANDLE).await.unwrap(),
        Some(record(1, NOW + HOUR))
    );
    assert_eq!(store.load(&other).await.unwrap(), None);
    assert!(store.delete(&HANDLE).await.unwrap());
}

/// A constraint that is checked when the statement commits stands for whatever else can fail then.
#[tokio::test]
async fn a_write_whose_commit_fails_is_not_reported_as_done() {
    let place = Place::new();
    let store = place.store_of_one().await;
    store.migrate().await.unwrap();
    run(
        &store,
        "CREATE TABLE users (id TEXT PRIMARY KEY);
        INSERT INTO users VALUES ('user 1');
        DROP TABLE cloakroom_sessions;
        CREATE TABLE cloakroom_sessions
        (handle PRIMARY KEY, version, created_at, expires_at,
        user_id REFERENCES users DEFERRABLE INITIALLY DEFERRED, payload)",
    )
    .await
    .unwrap();
    let old = record(1, NOW + HOUR);
    let new = record(2, NOW + HOUR);
    store.create(&HANDLE, &old).await.unwrap();
    store.update(&HANDLE, &new, v(1), now()).await.unwrap_err();
    let other = Handle::from_bytes([8; 16]);
    store.create(&other, &new).await.unwrap_err();
    assert_eq!(store.load(&HANDLE).await.unwrap(), Some(old));
    assert_eq!(store.load(&other).await.unwrap(), None);
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Create,
    Load,
    Update,
    RefusedUpdate,
    Touch,
    Delete,
    Sweep,
}

impl Operation {
    const ALL: [Self; 7] = [
        Self::Create,
        Self::Load,
        Self::Update,
        Self::RefusedUpdate,
        Self::Touch,
        Self::Delete,
        Self::Sweep,
    ];

    fn before(self) -> Option<Record> {
        match self {
            Self::Create => None,
            Self::Sweep => Some(record(1, NOW - HOUR)),
            _ => Some(record(1, NOW + HOUR)),
        }
    }

    fn after(self) -> Option<Record> {
        match self {
            Self::Create | Self::Update => Some(record(2, NOW + HOUR)),
            Self::Load | Self::RefusedUpdate => self.before(),
            Self::Touch => Some(record(1, NOW + 2 * HOUR)),
            Self::Delete | Self::Sweep => None,
        }
    }

    async fn run(self, store: &SqliteStore) {
        let new = record(2, NOW + HOUR);
        let later = from_unix_millis(NOW + 2 * HOUR);
        match self {
            Self::Create => store.create(&HANDLE, &new).await.unwrap(),
            Self::Load => assert!(store.load(&HANDLE).await.unwrap().is_some()),
            Self::Update => {
                let outcome = store.update(&HANDLE, &new, v(1), now()).await.unwrap();
                assert_eq!(outcome, Outcome::Done);
            }
            Self::RefusedUpdate => {
                let outcome = store.update(&HANDLE, &new, v(9), now()).await.unwrap();
                assert_eq!(outcome, Outcome::Conflict);
            }
            Self::Touch => {
                let outcome = store.touch(&HANDLE, later, v(1), now()).await.unwrap();
                assert_eq!(outcome, Outcome::Done);
            }
            Self::Delete => assert!(store.delete(&HANDLE).await.unwrap()),
            Self::Sweep => assert_eq!(store.delete_expired(now(), 10).await.unwrap(), 1),
        }
    }
}

/// Polls the future so many times and drops it; `true` if it was ready before.
async fn drop_after_polls(future: impl Future<Output = ()>, polls: usize) -> bool {
    let mut future = pin!(future);
    let mut done = 0;
    poll_fn(|context| {
        if done == polls {
            return Poll::Ready(false);
        }
        done += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if done == polls => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_is_dropped_leaves_all_or_nothing_and_no_lock() {
    const REPEATS: usize = 5;
    let place = Place::new();
    let store = place.store_of_one().await;
    store.migrate().await.unwrap();
    let other = place.migrated().await;
    for operation in Operation::ALL {
        for polls in 0.. {
            let mut always_ready = true;
            for _ in 0..REPEATS {
                store.delete(&HANDLE).await.unwrap();
                if let Some(record) = operation.before() {
                    store.create(&HANDLE, &record).await.unwrap();
                }
                let ready = drop_after_polls(operation.run(&store), polls).await;
                always_ready &= ready;

                let lock = other.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
                lock.rollback().await.unwrap();
                // The only connection of the store is free once it is through with the operation.
                let found = without_hanging(store.load(&HANDLE)).await.unwrap();
                if ready || found != operation.before() {
                    assert_eq!(
                        found,
                        operation.after(),
                        "{operation:?} after {polls} polls"
                    );
                }
            }
            if always_ready {
                break;
            }
            assert!(polls < 100, "{operation:?} is never ready");
        }
    }
}
