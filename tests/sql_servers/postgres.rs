use std::net::SocketAddr;

use cloakroom::store::PostgresStore;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection};

use super::*;
use crate::proxy::Proxy;
use crate::sql::PostgresPlace;

/// The place, or the end of the test where there is no server.
macro_rules! place {
    () => {
        match PostgresPlace::new().await {
            Some(place) => place,
            None => return,
        }
    };
}

mod lists;
mod partitioned;
mod sweeping;

async fn run(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await
        .unwrap();
}

async fn ask(pool: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn count(place: &PostgresPlace, store: &PostgresStore) -> i64 {
    ask(
        store.pool(),
        &format!("SELECT count(*) FROM {}", place.table()),
    )
    .await
}

/// Waits until a statement on this place's table waits for another one.
async fn wait_for_a_waiting_statement(place: &PostgresPlace, pool: &PgPool) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{}%'",
        place.schema
    );
    wait_until(async || ask(pool, &sql).await > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_nodes_migrate_at_once() {
    for _ in 0..5 {
        let place = place!();
        let mut stores = Vec::new();
        for _ in 0..10 {
            stores.push(place.store(1).await);
        }
        let migrations = stores
            .clone()
            .into_iter()
            .map(|store| async move { store.migrate().await });
        for result in at_once(migrations.collect()).await {
            result.unwrap();
        }
        every_operation_works(&stores[9]).await;
    }
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let place = place!();
    let store = place.migrated(1).await;
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    store.migrate().await.unwrap();
    assert_eq!(
        store.load(&HANDLE).await.unwrap(),
        Some(record(1, NOW + HOUR))
    );
}

#[tokio::test]
async fn migrating_completes_what_is_there_in_part() {
    let place = place!();
    let store = place.migrated(1).await;
    let schema = &place.schema;
    run(
        store.pool(),
        &format!(
            "DROP INDEX {schema}.cloakroom_sessions_sweep_at, {schema}.cloakroom_sessions_links_expires_at"
        ),
    )
    .await;
    store.migrate().await.unwrap();
    let indexes = format!("SELECT count(*) FROM pg_indexes WHERE schemaname = '{schema}'");
    assert_eq!(ask(store.pool(), &indexes).await, 6);
}

#[tokio::test]
async fn a_table_of_the_same_name_that_is_none_of_sessions_is_refused() {
    let place = place!();
    let store = place.migrated(1).await;
    for (number, change) in [
        "ALTER COLUMN user_id TYPE varchar(255)",
        "ALTER COLUMN payload DROP NOT NULL",
        "DROP COLUMN payload",
        "ADD COLUMN more bytea",
        "DROP CONSTRAINT sessions_4_pkey",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("sessions_{number}");
        let store = store.clone().with_table(&name).unwrap();
        store.migrate().await.unwrap();
        let sql = format!("ALTER TABLE {}.{name} {change}", place.schema);
        run(store.pool(), &sql).await;
        let error = store.migrate().await.expect_err(change);
        assert!(error.to_string().contains("none of sessions"), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
    }
}

#[tokio::test]
async fn a_role_that_may_only_read_and_write_can_migrate_what_is_there() {
    let place = place!();
    let owner = place.migrated(1).await;
    let role = format!("{}_role", place.schema);
    let (schema, table) = (&place.schema, place.table());
    run(
        owner.pool(),
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT USAGE ON SCHEMA {schema} TO {role};
            GRANT SELECT, INSERT, UPDATE, DELETE ON {table}, {table}_links, {table}_marks TO {role}"
        ),
    )
    .await;
    let options = place.options.clone().username(&role).password("secret");
    let store = place.store_on(place.pool_with(1, options).await);
    store.migrate().await.unwrap();
    every_operation_works(&store).await;
    by_user::every_operation_works(&store).await;

    let error = store.clone().with_table("others").unwrap().migrate().await;
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::Unavailable);

    // In a schema that is there, the right to create tables in it is enough.
    run(
        owner.pool(),
        &format!("GRANT CREATE ON SCHEMA {schema} TO {role}"),
    )
    .await;
    let store = store.with_table("others").unwrap();
    store.migrate().await.unwrap();
    every_operation_works(&store).await;

    store.pool().close().await;
    run(
        owner.pool(),
        &format!("DROP OWNED BY {role}; DROP ROLE {role}"),
    )
    .await;
}

#[tokio::test]
async fn words_that_sql_reserves_are_names_as_good_as_any() {
    let place = place!();
    let mut store = place.migrated(1).await;
    for name in ["select", "Select", "user", &"x".repeat(48)] {
        store = store.with_table(name).unwrap();
        store.migrate().await.unwrap();
        every_operation_works(&store).await;
    }
    let tables = format!(
        "SELECT count(*) FROM pg_tables WHERE schemaname = '{}'",
        place.schema
    );
    assert_eq!(ask(store.pool(), &tables).await, 5 * 3);
    for name in ["", "a\"b", "a.b", &"x".repeat(49)] {
        assert!(store.clone().with_table(name).is_err(), "{name}");
        assert!(store.clone().with_schema(name).is_err(), "{name}");
    }
    let error = store.with_schema("pg_catalog").unwrap_err();
    assert!(error.to_string().contains("pg_"), "{error}");
}

#[tokio::test]
async fn without_a_schema_the_search_path_finds_the_table() {
    let place = place!();
    let schema = place.schema.as_str();
    run(&place.pool(1).await, &format!("CREATE SCHEMA {schema}")).await;
    let options = place.options.clone().options([("search_path", schema)]);
    let store = PostgresStore::new(place.pool_with(1, options).await);
    store.migrate().await.unwrap();
    every_operation_works(&store).await;
    assert_eq!(count(&place, &store).await, 0);
}

#[tokio::test]
async fn a_store_by_url_works() {
    let place = place!();
    let url = servers::url("CLOAKROOM_TEST_POSTGRES_URL").unwrap();
    let store = PostgresStore::connect(&url).await.unwrap();
    let store = store.with_schema(&place.schema).unwrap();
    store.migrate().await.unwrap();
    every_operation_works(&store).await;
}

#[tokio::test]
async fn user_ids_are_told_apart_byte_by_byte() {
    let place = place!();
    let store = place.migrated(1).await;
    create_similar_users(&store).await;
    let sql = format!("SELECT count(*) FROM {} WHERE user_id = $1", place.table());
    for user_id in SIMILAR_USER_IDS {
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(sql.clone()))
            .bind(user_id)
            .fetch_one(store.pool())
            .await
            .unwrap();
        assert_eq!(found, 1, "{user_id:?}");
    }
}

#[tokio::test]
async fn payloads_beyond_the_limits_of_columns_and_packets_come_back() {
    let place = place!();
    large_payloads_come_back(&place.migrated(1).await).await;
}

#[tokio::test]
async fn round_trips_are_one_but_for_logins_the_ending_of_everyone_and_what_changes_nothing() {
    const SYNC: &[u8] = b"S\0\0\0\x04";
    let place = place!();
    place.migrated(1).await;
    let proxy = Proxy::new(server(&place)).await;
    let options = place
        .options
        .clone()
        .host("127.0.0.1")
        .port(proxy.address.port());
    let store = place.store_on(place.pool_with(1, options).await);
    let pool = store.pool().clone();
    let by_user = by_user::count_round_trips(&store, &proxy, SYNC, || pool.num_idle() == 1).await;
    assert_eq!(
        by_user,
        by_user::Operation::ALL.map(|operation| match operation {
            // To begin, to lock the user, to read the marks, to write the entry, and to commit; and to read
            // the list, if there is a limit to be kept.
            by_user::Operation::Link => (operation, 5),
            by_user::Operation::LinkWithinLimit => (operation, 6),
            by_user::Operation::LinkBeyondLimit => (operation, 5),
            by_user::Operation::LinkOvertaken => (operation, 4),
            by_user::Operation::MarkEveryone => (operation, 4),
            _ => (operation, 1),
        })
    );
    let counts = count_round_trips(&store, &proxy, SYNC, || pool.num_idle() == 1).await;
    assert_eq!(
        counts,
        Operation::ALL.map(|operation| match operation {
            // A look at what there is.
            Operation::UpdateInConflict
            | Operation::UpdateOfExpired
            | Operation::UpdateOfNothing
            | Operation::TouchInConflict => (operation, 2),
            _ => (operation, 1),
        })
    );
}

fn server(place: &PostgresPlace) -> SocketAddr {
    use std::net::ToSocketAddrs;

    let server = (place.options.get_host(), place.options.get_port());
    server.to_socket_addrs().unwrap().next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_leaves_its_connection_in_step() {
    let place = place!();
    let store = place.migrated(1).await;
    let connection = "SELECT pg_backend_pid()::bigint";
    let before = ask(store.pool(), connection).await;
    drop_everything_everywhere(&store).await;
    assert_eq!(ask(store.pool(), connection).await, before);
}

/// What another one does to the row while an operation waits for it.
async fn while_it_waits<T>(
    place: &PostgresPlace,
    store: &PostgresStore,
    meanwhile: &str,
    commits: bool,
    operation: impl AsyncFnOnce(PostgresStore) -> T,
) -> T {
    let other = place.pool(2).await;
    let mut transaction = other.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(meanwhile.replace("TABLE", &place.table())))
        .execute(&mut *transaction)
        .await
        .unwrap();
    let watch = async {
        wait_for_a_waiting_statement(place, &other).await;
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
    };
    let (result, ()) =
        without_hanging(async { tokio::join!(operation(store.clone()), watch) }).await;
    other.close().await;
    result
}

#[tokio::test]
async fn an_operation_that_waited_for_another_judges_what_that_left() {
    let place = place!();
    let store = place.migrated(1).await;
    let old = record(1, NOW + HOUR);
    let extended = NOW + 3 * HOUR;
    for (meanwhile, commits, outcome) in [
        ("DELETE FROM TABLE", true, Outcome::Missing),
        ("DELETE FROM TABLE", false, Outcome::Done),
        ("UPDATE TABLE SET version = 9", true, Outcome::Conflict),
        ("UPDATE TABLE SET version = 9", false, Outcome::Done),
        (
            "UPDATE TABLE SET expires_at = 1700010800000",
            true,
            Outcome::Done,
        ),
        ("UPDATE TABLE SET expires_at = 1", true, Outcome::Missing),
        (
            "UPDATE TABLE SET version = 9, expires_at = 1",
            true,
            Outcome::Missing,
        ),
    ] {
        store.delete(&HANDLE).await.unwrap();
        store.create(&HANDLE, &old).await.unwrap();
        let updated = while_it_waits(&place, &store, meanwhile, commits, async |store| {
            let new = record(2, NOW + 2 * HOUR);
            store.update(&HANDLE, &new, v(1), now()).await.unwrap()
        })
        .await;
        assert_eq!(updated, outcome, "update, {meanwhile}, {commits}");
        if outcome == Outcome::Done {
            let stored = store.load(&HANDLE).await.unwrap();
            assert_eq!(stored, Some(record(2, NOW + 2 * HOUR)));
        }

        store.delete(&HANDLE).await.unwrap();
        store.create(&HANDLE, &old).await.unwrap();
        let touched = while_it_waits(&place, &store, meanwhile, commits, async |store| {
            let to = from_unix_millis(NOW + 2 * HOUR);
            store.touch(&HANDLE, to, v(1), now()).await.unwrap()
        })
        .await;
        assert_eq!(touched, outcome, "touch, {meanwhile}, {commits}");
        if outcome == Outcome::Done {
            // Never lowered, the one that was there in between included.
            let expiry = if meanwhile.contains("expires_at") {
                extended
            } else {
                NOW + 2 * HOUR
            };
            assert_eq!(store.load(&HANDLE).await.unwrap(), Some(record(1, expiry)));
        }
    }
}

#[tokio::test]
async fn a_sweep_spares_what_was_touched_while_it_waited_and_takes_the_rest() {
    let place = place!();
    let store = place.migrated(1).await;
    for handle in [HANDLE, OTHER] {
        store.create(&handle, &record(1, NOW - HOUR)).await.unwrap();
    }
    let touch = format!(
        "UPDATE TABLE SET expires_at = {} WHERE handle = '\\x{HANDLE}'",
        NOW + HOUR
    );
    let deleted = while_it_waits(&place, &store, &touch, true, async |store| {
        store.delete_expired(now(), 10).await.unwrap()
    })
    .await;
    assert_eq!(deleted, 1);
    assert!(store.load(&HANDLE).await.unwrap().is_some());
    assert!(store.load(&OTHER).await.unwrap().is_none());
}

#[tokio::test]
async fn reading_waits_for_nobody() {
    let place = place!();
    let store = place.migrated(1).await;
    store.create(&HANDLE, &record(1, NOW - HOUR)).await.unwrap();
    let other = place.pool(1).await;
    let mut sweep = other.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("DELETE FROM {}", place.table())))
        .execute(&mut *sweep)
        .await
        .unwrap();
    assert!(
        without_hanging(store.load(&HANDLE))
            .await
            .unwrap()
            .is_some()
    );
    sweep.commit().await.unwrap();
    assert!(store.load(&HANDLE).await.unwrap().is_none());
}

/// A constraint that is checked when the statement commits stands for whatever else can fail then.
#[tokio::test]
async fn a_write_whose_commit_fails_is_not_reported_as_done() {
    let place = place!();
    let store = place.migrated(1).await;
    let (schema, table) = (&place.schema, place.table());
    run(
        store.pool(),
        &format!(
            "CREATE TABLE {schema}.users (id TEXT PRIMARY KEY); INSERT INTO {schema}.users VALUES ('user 1');
            ALTER TABLE {table} ADD FOREIGN KEY (user_id) REFERENCES {schema}.users
            DEFERRABLE INITIALLY DEFERRED"
        ),
    )
    .await;
    let old = record(1, NOW + HOUR);
    let new = record(2, NOW + HOUR);
    store.create(&HANDLE, &old).await.unwrap();
    store.update(&HANDLE, &new, v(1), now()).await.unwrap_err();
    store.create(&OTHER, &new).await.unwrap_err();
    assert_eq!(store.load(&HANDLE).await.unwrap(), Some(old));
    assert_eq!(store.load(&OTHER).await.unwrap(), None);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_an_error_and_is_left_in_place() {
    let place = place!();
    let store = place.migrated(1).await;
    for change in [
        "created_at = -9223372036854775808",
        "expires_at = 9223372036854775807",
    ] {
        store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
        run(
            store.pool(),
            &format!("UPDATE {} SET {change}", place.table()),
        )
        .await;
        assert_undecodable(&store, change).await;
    }
}

#[tokio::test]
async fn a_row_that_lacks_something_cannot_be_written() {
    let place = place!();
    let store = place.migrated(1).await;
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    for change in [
        "handle = NULL",
        "version = NULL",
        "created_at = NULL",
        "expires_at = NULL",
        "sweep_at = NULL",
        "payload = NULL",
    ] {
        let sql = format!("UPDATE {} SET {change}", place.table());
        let result = sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(store.pool())
            .await;
        assert!(result.is_err(), "{change}");
    }
}

/// As after a failover, when what was the primary is a replica.
#[tokio::test]
async fn a_connection_that_takes_no_writes_is_named_and_replaced() {
    let place = place!();
    let store = place.migrated(1).await;
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    run(store.pool(), "SET default_transaction_read_only = on").await;
    let new = record(2, NOW + HOUR);
    let error = store.update(&HANDLE, &new, v(1), now()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(
        error.to_string().contains("cannot update a session"),
        "{error}"
    );
    assert!(error.to_string().contains("takes no writes"), "{error}");
    let outcome = without_hanging(store.update(&HANDLE, &new, v(1), now()))
        .await
        .unwrap();
    assert_eq!(outcome, Outcome::Done);
}

#[tokio::test]
async fn a_pool_without_a_free_connection_is_a_timeout() {
    let place = place!();
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(2))
        .connect_with(place.options.clone())
        .await
        .unwrap();
    let store = place.store_on(pool);
    let _held = store.pool().acquire().await.unwrap();
    let error = store.load(&HANDLE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut);
    assert!(error.to_string().contains("acquire timeout"), "{error}");
}

#[tokio::test]
async fn a_url_that_is_none_is_an_error_without_the_password() {
    let error = PostgresStore::connect("postgres://app:hunter2@db:port/app")
        .await
        .unwrap_err();
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn where_the_table_is_missing_every_operation_says_what_to_call() {
    let place = place!();
    assert_missing_table_is_named(&place.store(1).await).await;
}

#[tokio::test]
async fn where_no_server_listens_the_error_says_where_and_not_the_password() {
    assert_no_server_is_named(
        PostgresStore::connect("postgres://app:hunter2@127.0.0.1:1/app").await,
    );
}

#[tokio::test]
async fn a_closed_connection_is_an_error_once() {
    let place = place!();
    let store = place.migrated(1).await;
    let mut other = sqlx::PgConnection::connect_with(&place.options)
        .await
        .unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(store.pool())
        .await
        .unwrap();
    // Given back, so that the pool does not notice by itself.
    wait_until(async || store.pool().num_idle() == 1).await;
    sqlx::query("SELECT pg_terminate_backend($1, 10000)")
        .bind(pid)
        .execute(&mut other)
        .await
        .unwrap();
    let error = store.load(&HANDLE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert_eq!(without_hanging(store.load(&HANDLE)).await.unwrap(), None);
}

#[tokio::test]
async fn a_connection_that_is_closed_during_an_operation_is_not_handed_on_to_the_next() {
    let place = place!();
    let store = place.migrated(1).await;
    wait_until(async || store.pool().num_idle() == 1).await;
    let other = place.pool(2).await;
    let mut transaction = other.begin().await.unwrap();
    let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", place.table());
    sqlx::raw_sql(AssertSqlSafe(lock))
        .execute(&mut *transaction)
        .await
        .unwrap();
    let close = async {
        wait_for_a_waiting_statement(&place, &other).await;
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND query LIKE '%{}%'",
            place.schema
        );
        assert_eq!(ask(&other, &sql).await, 1);
        transaction.rollback().await.unwrap();
    };
    // The second waits for the connection of the first, which is the only one.
    let both = async { tokio::join!(store.load(&HANDLE), store.load(&HANDLE), close) };
    let (closed, next, ()) = without_hanging(both).await;
    assert_eq!(closed.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(next.unwrap(), None);
}

/// The statement of a sweep, which is longer than what the server shows of one that runs.
async fn sweep_statement(store: &PostgresStore) -> String {
    let sql = "SELECT statement FROM pg_prepared_statements WHERE statement LIKE 'WITH links%'";
    sqlx::query_scalar(sql)
        .fetch_one(store.pool())
        .await
        .unwrap()
}

/// The statement that a connection of the store ran last.
async fn last_statement(store: &PostgresStore, pool: &PgPool) -> String {
    // The store's only connection is in the pool again, and so is done with what the pool sends by itself.
    wait_until(async || store.pool().num_idle() == 1).await;
    let schema = store_schema(store);
    sqlx::query_scalar(
        "SELECT query FROM pg_stat_activity
        WHERE query LIKE '%' || $1 || '%' AND pid <> pg_backend_pid()",
    )
    .bind(schema)
    .fetch_one(pool)
    .await
    .unwrap()
}

fn store_schema(store: &PostgresStore) -> String {
    let text = format!("{store:?}");
    text.split('"').nth(1).unwrap().to_owned()
}

async fn plan(pool: &PgPool, statement: &str, arguments: &str, mode: &str) -> String {
    let mut connection = pool.acquire().await.unwrap();
    let sql = format!("SET plan_cache_mode = {mode}; PREPARE it AS {statement}");
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut *connection)
        .await
        .unwrap();
    let sql = format!("EXPLAIN EXECUTE it ({arguments})");
    let lines: Vec<String> = sqlx::raw_sql(AssertSqlSafe(sql))
        .fetch_all(&mut *connection)
        .await
        .unwrap()
        .iter()
        .map(|row| sqlx::Row::get(row, 0))
        .collect();
    sqlx::raw_sql("DEALLOCATE it")
        .execute(&mut *connection)
        .await
        .unwrap();
    lines.join("\n")
}

#[tokio::test]
async fn a_sweep_goes_over_the_index_and_every_other_operation_over_the_key() {
    let place = place!();
    let store = place.migrated(1).await;
    let pool = place.pool(1).await;
    run(
        &pool,
        &format!(
            "INSERT INTO {0} SELECT decode(md5(n::text), 'hex'), 1, 0, {NOW} + n * 1000, 'user ' || n, '\\x00',
            {NOW} + n * 1000
            FROM generate_series(-500, 20000) AS n; ANALYZE {0};
            INSERT INTO {0}_links SELECT convert_to('user ' || n, 'UTF8'), decode(md5(n::text), 'hex'),
            0, {NOW} + n * 1000, false FROM generate_series(-500, 20000) AS n; ANALYZE {0}_links;
            INSERT INTO {0}_marks SELECT convert_to('user ' || n, 'UTF8'), {NOW} + n * 1000
            FROM generate_series(-500, 20000) AS n; ANALYZE {0}_marks",
            place.table()
        ),
    )
    .await;
    let handle = format!("'\\x{HANDLE}'");
    let new = record(2, NOW + HOUR);
    store.create(&HANDLE, &new).await.unwrap();

    store.update(&HANDLE, &new, v(2), now()).await.unwrap();
    let update = last_statement(&store, &pool).await;
    let arguments = format!("{handle}, 2, {NOW}, 3, {NOW}, {NOW}, 'user', '\\x00'");
    let update = plan(&pool, &update, &arguments, "auto").await;
    store.touch(&HANDLE, now(), v(2), now()).await.unwrap();
    let touch = last_statement(&store, &pool).await;
    let touch = plan(&pool, &touch, &format!("{handle}, 2, {NOW}, {NOW}"), "auto").await;
    store.touch(&HANDLE, now(), v(9), now()).await.unwrap();
    let look = last_statement(&store, &pool).await;
    let look = plan(&pool, &look, &format!("{handle}, {NOW}"), "auto").await;
    store.load(&HANDLE).await.unwrap();
    let load = last_statement(&store, &pool).await;
    let load = plan(&pool, &load, &handle, "auto").await;
    store.delete(&HANDLE).await.unwrap();
    let delete = last_statement(&store, &pool).await;
    let delete = plan(&pool, &delete, &handle, "auto").await;
    for plan in [&update, &touch, &look, &load, &delete] {
        assert!(plan.contains("cloakroom_sessions_pkey"), "{plan}");
        assert!(!plan.contains("Seq Scan"), "{plan}");
    }

    assert_eq!(store.delete_expired(now(), 10).await.unwrap(), 10);
    let sweep = sweep_statement(&store).await;
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let plan = plan(&pool, &sweep, &format!("{NOW}, 100, {NOW}, 100"), mode).await;
        assert!(
            plan.contains("Index Scan using cloakroom_sessions_sweep_at"),
            "{plan}"
        );
        assert!(plan.contains("cloakroom_sessions_pkey"), "{plan}");
        assert!(
            !plan.contains("Seq Scan") && !plan.contains("Sort"),
            "{plan}"
        );
    }
}

#[tokio::test]
async fn a_statement_that_is_rolled_back_in_a_deadlock_is_run_again() {
    let place = place!();
    place.migrated(1).await;
    // Of two in a deadlock, the one that waits for longer than this finds out, and is rolled back.
    let options = place.options.clone().options([("deadlock_timeout", "1s")]);
    let store = place.store_on(place.pool_with(1, options).await);
    for handle in [HANDLE, OTHER] {
        store.create(&handle, &record(1, NOW - HOUR)).await.unwrap();
    }
    let other = place.pool(2).await;
    let mut transaction = other.begin().await.unwrap();
    let lock = |handle| {
        let table = place.table();
        format!("SELECT FROM {table} WHERE handle = '\\x{handle}' FOR UPDATE")
    };
    let first = format!("SET LOCAL deadlock_timeout = '1h'; {}", lock(OTHER));
    sqlx::raw_sql(AssertSqlSafe(first))
        .execute(&mut *transaction)
        .await
        .unwrap();
    let get_in_its_way = async {
        wait_for_a_waiting_statement(&place, &other).await;
        sqlx::raw_sql(AssertSqlSafe(lock(HANDLE)))
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.rollback().await.unwrap();
    };
    let sweep = store.delete_expired(now(), 10);
    let (deleted, ()) = without_hanging(async { tokio::join!(sweep, get_in_its_way) }).await;
    assert_eq!(deleted.unwrap(), 2);
}
