//! The stores on SQL servers keep the store contract.
#![cfg(all(feature = "postgres", feature = "mysql", feature = "testing"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/servers.rs"]
mod servers;
#[path = "support/sql.rs"]
mod sql;

/// Connections of each store, fewer than the tasks of a race, so that some wait for one.
const CONNECTIONS: u32 = 8;

mod postgres {
    use super::CONNECTIONS;
    use super::sql::{Guarded, PostgresPlace};

    async fn make_store() -> Guarded {
        match PostgresPlace::new().await {
            Some(place) => Guarded::new(place.migrated(CONNECTIONS).await, place),
            None => Guarded::left_out(),
        }
    }

    cloakroom::store_tests!(make_store);

    mod by_user {
        cloakroom::user_index_tests!(super::make_store);
    }
}

/// As where the database's default is stricter, and the pool is the user's own.
mod postgres_serializable {
    use super::CONNECTIONS;
    use super::sql::{Guarded, PostgresPlace};

    async fn make_store() -> Guarded {
        let Some(place) = PostgresPlace::new().await else {
            return Guarded::left_out();
        };
        let options = place.options.clone();
        let options = options.options([("default_transaction_isolation", "serializable")]);
        let store = place.store_on(place.pool_with(CONNECTIONS, options).await);
        store.migrate().await.unwrap();
        Guarded::new(store, place)
    }

    cloakroom::store_tests!(make_store);

    mod by_user {
        cloakroom::user_index_tests!(super::make_store);
    }
}

/// As where the database's default is stricter, by what the lists of users can meet.
mod postgres_by_user_at_repeatable_read {
    use super::CONNECTIONS;
    use super::sql::{Guarded, PostgresPlace};

    async fn make_store() -> Guarded {
        let Some(place) = PostgresPlace::new().await else {
            return Guarded::left_out();
        };
        let options = place.options.clone();
        let options = options.options([("default_transaction_isolation", "repeatable read")]);
        let store = place.store_on(place.pool_with(CONNECTIONS, options).await);
        store.migrate().await.unwrap();
        Guarded::new(store, place)
    }

    cloakroom::user_index_tests!(make_store);
}

/// As for more sessions than one table is good for.
mod postgres_partitioned {
    use super::CONNECTIONS;
    use super::sql::{Guarded, PostgresPlace};

    async fn make_store() -> Guarded {
        match PostgresPlace::new().await {
            Some(place) => Guarded::new(place.partitioned(CONNECTIONS, 4).await, place),
            None => Guarded::left_out(),
        }
    }

    cloakroom::store_tests!(make_store);

    mod by_user {
        cloakroom::user_index_tests!(super::make_store);
    }
}

/// MySQL or MariaDB.
mod mysql {
    use super::CONNECTIONS;
    use super::sql::{Guarded, MySqlPlace};

    async fn make_store() -> Guarded {
        match MySqlPlace::new().await {
            Some(place) => Guarded::new(place.migrated(CONNECTIONS).await, place),
            None => Guarded::left_out(),
        }
    }

    cloakroom::store_tests!(make_store);

    mod by_user {
        cloakroom::user_index_tests!(super::make_store);
    }
}

/// As where the server's default is another, and the pool is the user's own.
mod mysql_by_user_at {
    use super::CONNECTIONS;
    use super::sql::{Guarded, MySqlPlace};

    async fn make_store(isolation: &str) -> Guarded {
        let Some(place) = MySqlPlace::new().await else {
            return Guarded::left_out();
        };
        let sql = format!("SET SESSION TRANSACTION ISOLATION LEVEL {isolation}");
        let pool = sqlx::mysql::MySqlPoolOptions::new()
            .max_connections(CONNECTIONS)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let sql = sqlx::AssertSqlSafe(sql.clone());
                Box::pin(async move {
                    sqlx::Executor::execute(connection, sqlx::raw_sql(sql))
                        .await
                        .map(drop)
                })
            });
        let pool = pool.connect_with(place.options.clone()).await.unwrap();
        let store = cloakroom::store::MySqlStore::new(pool);
        store.migrate().await.unwrap();
        Guarded::new(store, place)
    }

    mod read_committed {
        cloakroom::user_index_tests!(|| super::make_store("READ COMMITTED"));
    }

    mod serializable {
        cloakroom::user_index_tests!(|| super::make_store("SERIALIZABLE"));
    }
}
