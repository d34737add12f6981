//! The servers that the sessions are on, found by the variables that `tests/with_servers.sh` sets.

use redis::aio::ConnectionManager;
use sqlx::postgres::{PgPool, PgPoolOptions};

use crate::Result;
use crate::child::{cpu_micros, parent};
use crate::scenarios::{App, Store};

pub(crate) fn redis_url() -> Result<String> {
    variable("CLOAKROOM_TEST_REDIS_URL")
}

pub(crate) fn postgres_url(store: Store) -> Result<String> {
    let url = variable("CLOAKROOM_TEST_POSTGRES_URL")?;
    Ok(match store {
        Store::PostgresUnsynced => format!("{url}?options=-c%20synchronous_commit%3Doff"),
        _ => url,
    })
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).map_err(|_| format!("{name} is not set: use benches/servers/run.sh").into())
}

/// A server, or none for what is kept in the app's memory.
pub(crate) enum Server {
    None,
    Redis(ConnectionManager),
    Postgres(PgPool),
}

impl Server {
    pub(crate) async fn of(store: Store) -> Result<Self> {
        Ok(match store {
            Store::Memory => Self::None,
            Store::Redis => {
                let client = redis::Client::open(redis_url()?)?;
                Self::Redis(client.get_connection_manager().await?)
            }
            Store::Postgres | Store::PostgresUnsynced => {
                let pool = PgPoolOptions::new().max_connections(1);
                Self::Postgres(pool.connect(&postgres_url(store)?).await?)
            }
        })
    }

    /// Removes what the apps have there. It is a server for benches, in which nothing else is.
    pub(crate) async fn empty(&self) -> Result<()> {
        match self {
            Self::None => {}
            Self::Redis(connection) => {
                redis::cmd("FLUSHALL")
                    .exec_async(&mut connection.clone())
                    .await?
            }
            Self::Postgres(pool) => {
                for schema in ["public", "tower_sessions"] {
                    let drop = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
                    sqlx::query(sqlx::AssertSqlSafe(drop)).execute(pool).await?;
                }
                sqlx::query("CREATE SCHEMA public").execute(pool).await?;
                // What earlier ones left to be written and cleaned up is not to be done while this one is measured.
                sqlx::query("CHECKPOINT").execute(pool).await?;
            }
        }
        Ok(())
    }

    /// How many sessions are there, where that can be asked.
    pub(crate) async fn sessions(&self, app: App) -> Result<Option<u64>> {
        Ok(match self {
            Self::None => None,
            Self::Redis(connection) => {
                let count = redis::cmd("DBSIZE")
                    .query_async(&mut connection.clone())
                    .await?;
                Some(count)
            }
            Self::Postgres(pool) => {
                let table = match app {
                    App::TowerSessions => "tower_sessions.session",
                    _ => "public.cloakroom_sessions",
                };
                let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
                let count: i64 = sqlx::query_scalar(count).fetch_one(pool).await?;
                Some(u64::try_from(count)?)
            }
        })
    }

    /// Microseconds for which the server's processes have had a core, if it runs on this machine.
    pub(crate) async fn cpu_micros(&self) -> Result<Option<u64>> {
        let pids = match self {
            Self::None => return Ok(None),
            Self::Redis(connection) => {
                let info: String = redis::cmd("INFO")
                    .arg("server")
                    .query_async(&mut connection.clone())
                    .await?;
                let pid = info
                    .lines()
                    .find_map(|line| line.strip_prefix("process_id:"));
                let pid = pid.ok_or("INFO says no process_id")?.trim().parse()?;
                is_named(pid, "redis-server").then(|| vec![pid])
            }
            Self::Postgres(pool) => {
                let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
                    .fetch_one(pool)
                    .await?;
                let pid = u32::try_from(pid)?;
                let server = is_named(pid, "postgres").then(|| parent(pid)).flatten();
                server.map(children).transpose()?
            }
        };
        let Some(pids) = pids else {
            return Ok(None);
        };
        // One that ended just now is none of those that serve the app.
        Ok(Some(
            pids.into_iter()
                .filter_map(|pid| cpu_micros(pid).ok())
                .sum(),
        ))
    }
}

fn is_named(pid: u32, name: &str) -> bool {
    let found = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    found.is_ok_and(|found| found.trim() == name)
}

fn children(of: u32) -> Result<Vec<u32>> {
    let mut children = vec![of];
    for entry in std::fs::read_dir("/proc")? {
        let pid = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        children.extend(pid.filter(|&pid| parent(pid) == Some(of)));
    }
    Ok(children)
}
