use std::net::SocketAddr;

use cloakroom::store::MySqlStore;
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, Connection};

use super::*;
use crate::proxy::Proxy;
use crate::sql::MySqlPlace;

/// The place, or the end of the test where there is no server.
macro_rules! place {
    () => {
        match MySqlPlace::new().await {
            Some(place) => place,
            None => return,
        }
    };
}

mod lists;

async fn run(pool: &MySqlPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await
        .unwrap();
}

async fn ask(pool: &MySqlPool, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(pool)
        .await
        .unwrap()
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

#[tokio::test(flavor = "multi_thread")]
async fn ten_nodes_complete_at_once_what_is_there_in_part() {
    let place = place!();
    let store = place.migrated(1).await;
    run(
        store.pool(),
        "DROP INDEX cloakroom_sessions_expires_at ON cloakroom_sessions;
        DROP INDEX cloakroom_sessions_user_id ON cloakroom_sessions",
    )
    .await;
    let mut migrations = Vec::new();
    for _ in 0..10 {
        let store = place.store(1).await;
        migrations.push(async move { store.migrate().await });
    }
    for result in at_once(migrations).await {
        result.unwrap();
    }
    let indexes = format!(
        "SELECT count(*) FROM information_schema.statistics WHERE table_schema = '{}'",
        place.database
    );
    // Of the sessions; and of the lists, whose key is of two columns, and of the marks.
    assert_eq!(ask(store.pool(), &indexes).await, 3 + 3 + 2);
}

#[tokio::test]
async fn a_table_of_the_same_name_that_is_none_of_sessions_is_refused() {
    let place = place!();
    let store = place.migrated(1).await;
    for (number, change) in [
        "MODIFY user_id VARCHAR(255)",
        "MODIFY payload BLOB NOT NULL",
        "MODIFY payload MEDIUMBLOB",
        "MODIFY expires_at BIGINT UNSIGNED NOT NULL",
        "DROP COLUMN payload",
        "ADD COLUMN more BLOB",
        "DROP PRIMARY KEY",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("sessions_{number}");
        let store = store.clone().with_table(&name).unwrap();
        store.migrate().await.unwrap();
        run(store.pool(), &format!("ALTER TABLE {name} {change}")).await;
        let error = store.migrate().await.expect_err(change);
        assert!(error.to_string().contains("none of sessions"), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
    }
}

#[tokio::test]
async fn a_user_that_may_only_read_and_write_can_migrate_what_is_there() {
    let place = place!();
    let owner = place.migrated(1).await;
    // 32 characters are the most that a user's name may have.
    let (database, user) = (
        &place.database,
        place.database.replace("cloakroom_test", "u"),
    );
    run(
        owner.pool(),
        &format!(
            "CREATE USER {user} IDENTIFIED BY 'secret';
            GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO {user}"
        ),
    )
    .await;
    let options = place.options.clone().username(&user).password("secret");
    let store = MySqlStore::new(place.pool_with(1, options).await);
    store.migrate().await.unwrap();
    every_operation_works(&store).await;
    by_user::every_operation_works(&store).await;

    let error = store.clone().with_table("others").unwrap().migrate().await;
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::Unavailable);

    store.pool().close().await;
    run(owner.pool(), &format!("DROP USER {user}")).await;
}

#[tokio::test]
async fn words_that_sql_reserves_are_names_as_good_as_any() {
    let place = place!();
    let mut store = place.migrated(1).await;
    for name in ["select", "order", "user", &"x".repeat(48)] {
        store = store.with_table(name).unwrap();
        store.migrate().await.unwrap();
        every_operation_works(&store).await;
    }
    let tables = format!(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = '{}'",
        place.database
    );
    assert_eq!(ask(store.pool(), &tables).await, 5 * 3);
    for name in ["", "a`b", "a.b", &"x".repeat(49)] {
        assert!(store.clone().with_table(name).is_err(), "{name}");
    }
}

#[tokio::test]
async fn a_store_by_url_works() {
    let place = place!();
    let url = servers::url("CLOAKROOM_TEST_MYSQL_URL").unwrap();
    let mut url: Vec<_> = url.split('/').collect();
    *url.last_mut().unwrap() = &place.database;
    let store = MySqlStore::connect(&url.join("/")).await.unwrap();
    store.migrate().await.unwrap();
    every_operation_works(&store).await;
}

#[tokio::test]
async fn connections_that_commit_nothing_are_refused() {
    let place = place!();
    let pool = MySqlPoolOptions::new()
        .max_connections(1)
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql("SET autocommit = 0")
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .connect_with(place.options.clone())
        .await
        .unwrap();
    let error = MySqlStore::new(pool).migrate().await.unwrap_err();
    assert!(error.to_string().contains("do not commit"), "{error}");
}

#[tokio::test]
async fn user_ids_are_told_apart_byte_by_byte() {
    let place = place!();
    let store = place.migrated(1).await;
    create_similar_users(&store).await;
    for user_id in SIMILAR_USER_IDS {
        let found: i64 =
            sqlx::query_scalar("SELECT count(*) FROM cloakroom_sessions WHERE user_id = ?")
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

/// A server in such a mode would take it, and keep only the beginning.
#[tokio::test]
async fn what_a_column_does_not_hold_is_refused_where_the_mode_is_not_strict() {
    let place = place!();
    let store = place.migrated(1).await;
    run(store.pool(), "SET sql_mode = ''").await;
    let old = record(1, NOW + HOUR);
    store.create(&HANDLE, &old).await.unwrap();
    for new in [
        Record {
            user_id: Some("x".repeat(256).into()),
            ..record(2, NOW + HOUR)
        },
        Record {
            payload: vec![0; 1 << 24].into(),
            ..record(2, NOW + HOUR)
        },
    ] {
        for error in [
            store.create(&OTHER, &new).await.unwrap_err(),
            store.update(&HANDLE, &new, v(1), now()).await.unwrap_err(),
        ] {
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains("more than"), "{error:?}");
        }
    }
    assert_eq!(store.load(&HANDLE).await.unwrap(), Some(old));
    assert_eq!(store.load(&OTHER).await.unwrap(), None);
}

#[tokio::test]
async fn round_trips_are_one_but_for_logins_sweeps_and_what_finds_nothing() {
    const PING: &[u8] = b"\x01\0\0\0\x0E";
    let place = place!();
    place.migrated(1).await;
    let proxy = Proxy::new(server(&place)).await;
    let options = place
        .options
        .clone()
        .host("127.0.0.1")
        .port(proxy.address.port());
    let store = MySqlStore::new(place.pool_with(1, options).await);
    let pool = store.pool().clone();
    let by_user = by_user::count_round_trips(&store, &proxy, PING, || pool.num_idle() == 1).await;
    assert_eq!(
        by_user,
        by_user::Operation::ALL.map(|operation| match operation {
            // To begin, to lock the user, to read the marks, to write the entry, and to commit; and to read
            // the list, if there is a limit to be kept.
            by_user::Operation::Link => (operation, 5),
            by_user::Operation::LinkWithinLimit => (operation, 6),
            by_user::Operation::LinkBeyondLimit => (operation, 5),
            by_user::Operation::LinkOvertaken => (operation, 4),
            by_user::Operation::DeleteLinked => (operation, 3),
            _ => (operation, 1),
        })
    );
    let counts = count_round_trips(&store, &proxy, PING, || pool.num_idle() == 1).await;
    let expected = Operation::ALL.map(|operation| match operation {
        Operation::UpdateOfNothing => (operation, 2),
        // One for sessions, one for entries of lists, one for marks.
        Operation::Sweep => (operation, 3),
        operation => (operation, 1),
    });
    assert_eq!(counts, expected);
}

fn server(place: &MySqlPlace) -> SocketAddr {
    use std::net::ToSocketAddrs;

    let server = (place.options.get_host(), place.options.get_port());
    server.to_socket_addrs().unwrap().next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_leaves_its_connection_in_step() {
    let place = place!();
    let store = place.migrated(1).await;
    let connection = "SELECT CONVERT(connection_id(), SIGNED)";
    let before = ask(store.pool(), connection).await;
    drop_everything_everywhere(&store).await;
    assert_eq!(ask(store.pool(), connection).await, before);
}

/// A table of its own name, so that the server's list of transactions can tell it.
async fn in_table_of_its_own(place: &MySqlPlace) -> MySqlStore {
    let store = place.store(1).await.with_table(&place.database).unwrap();
    store.migrate().await.unwrap();
    store
}

/// Waits until a statement on this table waits for another one, and returns it.
///
/// By what InnoDB says of itself: `information_schema.innodb_trx` is a copy that grows old while it is asked.
async fn waiting_statement(pool: &MySqlPool, table: &str) -> String {
    let mut statement = None;
    wait_until(async || {
        let status = sqlx::raw_sql("SHOW ENGINE INNODB STATUS")
            .fetch_one(pool)
            .await
            .unwrap();
        let status: String = sqlx::Row::get(&status, "Status");
        statement = status
            .split("---TRANSACTION ")
            .filter(|transaction| transaction.contains("LOCK WAIT"))
            .find_map(|transaction| {
                let from = transaction
                    .find("UPDATE `")
                    .or(transaction.find("DELETE FROM `"))?;
                let to = from + transaction[from..].find("\n-------")?;
                let statement = &transaction[from..to];
                statement.contains(table).then(|| statement.to_owned())
            });
        statement.is_some()
    })
    .await;
    statement.unwrap()
}

/// What another one does to the row while an operation waits for it.
async fn while_it_waits<T>(
    place: &MySqlPlace,
    store: &MySqlStore,
    meanwhile: &str,
    commits: bool,
    operation: impl AsyncFnOnce(MySqlStore) -> T,
) -> T {
    let other = place.pool(2).await;
    let mut transaction = other.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(meanwhile.replace("TABLE", &place.database)))
        .execute(&mut *transaction)
        .await
        .unwrap();
    let watch = async {
        waiting_statement(&other, &place.database).await;
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
    let store = in_table_of_its_own(&place).await;
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
    let store = in_table_of_its_own(&place).await;
    for handle in [HANDLE, OTHER] {
        store.create(&handle, &record(1, NOW - HOUR)).await.unwrap();
    }
    let touch = format!(
        "UPDATE TABLE SET expires_at = {} WHERE handle = X'{HANDLE}'",
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
    sqlx::raw_sql("DELETE FROM cloakroom_sessions")
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

#[tokio::test]
async fn a_statement_that_is_rolled_back_in_a_deadlock_is_run_again() {
    let place = place!();
    let store = in_table_of_its_own(&place).await;
    store
        .create(&HANDLE, &record(1, NOW - 2 * HOUR))
        .await
        .unwrap();
    store.create(&OTHER, &record(1, NOW - HOUR)).await.unwrap();
    let other = place.pool(2).await;
    let mut transaction = other.begin().await.unwrap();
    let table = &place.database;
    let lock = |handle| format!("SELECT 1 FROM {table} WHERE handle = X'{handle}' FOR UPDATE");
    // The server rolls back the one that has changed fewer rows.
    let mut changes = format!("{}; ", lock(OTHER));
    for number in 0..100_u8 {
        let handle = Handle::from_bytes([100 + number; 16]);
        changes += &format!("INSERT INTO {table} VALUES (X'{handle}', 1, 0, {NOW}, NULL, '');");
    }
    sqlx::raw_sql(AssertSqlSafe(changes))
        .execute(&mut *transaction)
        .await
        .unwrap();
    let get_in_its_way = async {
        waiting_statement(&other, table).await;
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

#[tokio::test]
async fn a_row_that_cannot_be_read_is_an_error_and_is_left_in_place() {
    let place = place!();
    let store = place.migrated(1).await;
    for change in [
        "created_at = -9223372036854775808",
        "expires_at = 9223372036854775807",
        "user_id = X'FF'",
    ] {
        store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
        run(
            store.pool(),
            &format!("UPDATE cloakroom_sessions SET {change}"),
        )
        .await;
        assert_undecodable(&store, change).await;
    }
}

/// As after a failover, when what was the primary is a replica.
#[tokio::test]
async fn a_connection_that_takes_no_writes_is_named_and_replaced() {
    let place = place!();
    let store = place.migrated(1).await;
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    run(store.pool(), "SET SESSION TRANSACTION READ ONLY").await;
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
    let pool = MySqlPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(2))
        .connect_with(place.options.clone())
        .await
        .unwrap();
    let store = MySqlStore::new(pool);
    let _held = store.pool().acquire().await.unwrap();
    let error = store.load(&HANDLE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TimedOut);
    assert!(error.to_string().contains("acquire timeout"), "{error}");
}

#[tokio::test]
async fn a_url_that_is_none_is_an_error_without_the_password() {
    let error = MySqlStore::connect("mysql://app:hunter2@db:port/app")
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
    assert_no_server_is_named(MySqlStore::connect("mysql://app:hunter2@127.0.0.1:1/app").await);
}

#[tokio::test]
async fn a_closed_connection_is_an_error_once() {
    let place = place!();
    let store = place.migrated(1).await;
    let mut other = sqlx::MySqlConnection::connect_with(&place.options)
        .await
        .unwrap();
    let id = ask(store.pool(), "SELECT CONVERT(connection_id(), SIGNED)").await;
    // Given back, so that the pool does not notice by itself.
    wait_until(async || store.pool().num_idle() == 1).await;
    sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}")))
        .execute(&mut other)
        .await
        .unwrap();
    let error = store.load(&HANDLE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert_eq!(without_hanging(store.load(&HANDLE)).await.unwrap(), None);
}

/// The plan of an operation, by its own statement: the server says what that is while it waits.
async fn plan<T>(
    place: &MySqlPlace,
    store: &MySqlStore,
    operation: impl AsyncFnOnce(MySqlStore) -> T,
) -> Vec<(String, String)> {
    let other = place.pool(2).await;
    let mut transaction = other.begin().await.unwrap();
    let lock = format!("SELECT 1 FROM {} FOR UPDATE", place.database);
    sqlx::raw_sql(AssertSqlSafe(lock))
        .execute(&mut *transaction)
        .await
        .unwrap();
    let find = async {
        let statement = waiting_statement(&other, &place.database).await;
        transaction.rollback().await.unwrap();
        statement
    };
    let (_, statement) =
        without_hanging(async { tokio::join!(operation(store.clone()), find) }).await;
    // The values of a statement that was prepared are not said.
    let statement = statement
        .replace("handle = ?", "handle = X'07'")
        .replace("expires_at <= ?", &format!("expires_at <= {NOW}"))
        .replace('?', "7");
    explain(&other, &format!("EXPLAIN {statement}")).await
}

/// Key and remarks of each table of a plan.
async fn explain(pool: &MySqlPool, sql: &str) -> Vec<(String, String)> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .fetch_all(pool)
        .await
        .unwrap()
        .iter()
        .map(|row| {
            let text =
                |column| sqlx::Row::get::<Option<String>, _>(row, column).unwrap_or_default();
            (text("key"), text("Extra"))
        })
        .collect()
}

#[tokio::test]
async fn a_sweep_goes_over_the_index_and_every_change_over_the_key() {
    let place = place!();
    let store = in_table_of_its_own(&place).await;
    let table = &place.database;
    let small = Record {
        payload: [0][..].into(),
        ..record(1, NOW + HOUR)
    };
    store.create(&HANDLE, &small).await.unwrap();
    // With one row, a scan of the table is cheap, and with many it is not.
    for rows in [1, 10_000] {
        if rows > 1 {
            run(
                store.pool(),
                &format!(
                    "CREATE TABLE digits SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3
                    UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7
                    UNION ALL SELECT 8 UNION ALL SELECT 9;
                    INSERT INTO {table} SELECT UNHEX(MD5(n)), 1, 0, {NOW} - 560000 + n * 1000,
                    CONCAT('user ', n), '' FROM (
                        SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n AS n
                        FROM digits AS a, digits AS b, digits AS c, digits AS d
                    ) AS numbers;
                    ANALYZE TABLE {table}"
                ),
            )
            .await;
        }
        let update = plan(&place, &store, async |store| {
            store.update(&HANDLE, &small, v(1), now()).await.unwrap()
        })
        .await;
        let touch = plan(&place, &store, async |store| {
            store.touch(&HANDLE, now(), v(1), now()).await.unwrap()
        })
        .await;
        for plan in [update, touch] {
            assert_eq!(plan.len(), 1, "{rows} rows: {plan:?}");
            assert_eq!(plan[0].0, "PRIMARY", "{rows} rows: {plan:?}");
        }
    }
    let sweep = plan(&place, &store, async |store| {
        assert_eq!(store.delete_expired(now(), 100).await.unwrap(), 100);
    })
    .await;
    let key = format!("{table}_expires_at");
    assert_eq!(sweep, [(key, "Using where".to_owned())]);

    let by_user = format!("EXPLAIN SELECT handle FROM {table} WHERE user_id = 'user 7'");
    let by_user = explain(store.pool(), &by_user).await;
    assert_eq!(by_user[0].0, format!("{table}_user_id"));
}
