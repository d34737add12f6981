//! The store on Redis, found by the variable that `tests/with_servers.sh` sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloakroom::store::{Handle, RedisStore, SessionStore, async_trait};
use redis::aio::ConnectionManager;

use crate::Result;
use crate::engine::{Engine, Sizes};
use crate::measure::{Operation, load_all, sample, timed};
use crate::options::Options;
use crate::report::Report;
use crate::sql::url;

/// In a database of its own, which has to be empty: a server that others use would be measured with them.
pub(crate) struct Redis {
    connection: ConnectionManager,
    store: Arc<RedisStore>,
}

impl Redis {
    pub(crate) async fn open() -> Result<Self> {
        let client = redis::Client::open(url("CLOAKROOM_TEST_REDIS_URL")?)?;
        let config = redis::aio::ConnectionManagerConfig::new()
            .set_response_timeout(Some(Duration::from_secs(30)));
        let connection = client.get_connection_manager_with_config(config).await?;
        let engine = Self {
            store: Arc::new(RedisStore::new(connection.clone())),
            connection,
        };
        match engine.count().await? {
            0 => Ok(engine),
            keys => {
                Err(format!("the Redis database holds {keys} keys: give it an empty one").into())
            }
        }
    }

    async fn count(&self) -> Result<usize> {
        Ok(redis::cmd("DBSIZE")
            .query_async(&mut self.connection.clone())
            .await?)
    }

    async fn info(&self, name: &str) -> Result<String> {
        let info: String = redis::cmd("INFO")
            .query_async(&mut self.connection.clone())
            .await?;
        let value = info
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .ok_or_else(|| format!("INFO says nothing of {name}"))?;
        Ok(value.trim().to_owned())
    }

    async fn number(&self, name: &str) -> Result<u64> {
        Ok(self.info(name).await?.parse()?)
    }

    async fn config(&self, name: &str) -> Result<String> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        let pair: Vec<String> = command.query_async(&mut self.connection.clone()).await?;
        Ok(pair.join(" = "))
    }

    async fn is_saving(&self) -> Result<bool> {
        Ok(self.number("rdb_bgsave_in_progress").await?
            + self.number("aof_rewrite_in_progress").await?
            > 0)
    }
}

#[async_trait]
impl Engine for Redis {
    fn store(&self) -> Arc<dyn SessionStore> {
        self.store.clone()
    }

    async fn settings(&self) -> Result<Vec<String>> {
        let mut settings = vec![format!(
            "redis_version = {}",
            self.info("redis_version").await?
        )];
        for name in [
            "appendonly",
            "appendfsync",
            "save",
            "maxmemory",
            "maxmemory-policy",
            "hz",
        ] {
            settings.push(self.config(name).await?);
        }
        settings.push("one connection".into());
        Ok(settings)
    }

    async fn sizes(&self) -> Result<Sizes> {
        let mut sizes = Vec::new();
        for (what, name) in [
            ("used_memory", "used_memory"),
            ("resident", "used_memory_rss"),
        ] {
            sizes.push((what, self.number(name).await?));
        }
        let file = self.number("aof_current_size").await.unwrap_or_default();
        sizes.push(("append-only file", file));
        Ok(sizes)
    }

    async fn settle(&self) -> Result<()> {
        while self.is_saving().await? {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn log_bytes(&self) -> Result<Option<u64>> {
        // There is no such file without `appendonly`.
        Ok(self.number("aof_current_size").await.ok())
    }

    async fn self_sweeping(&self) -> Result<Option<usize>> {
        Ok(Some(self.count().await?))
    }

    /// What a snapshot costs while sessions are being touched: pages that are changed meanwhile are copied.
    async fn extra(
        &self,
        handles: &[Handle],
        options: &Options,
        report: &mut Report,
    ) -> Result<()> {
        let jobs = load_all(&*self.store, sample(handles, 10 * options.operations, 0)).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let (store, is_stopped) = (self.store(), stop.clone());
        let touching = tokio::spawn(async move {
            let mut jobs = jobs;
            let mut touched = 0;
            while !is_stopped.load(Ordering::Relaxed) {
                timed(store.clone(), Operation::Touch, &mut jobs, 16).await?;
                touched += jobs.len();
            }
            Result::Ok(touched)
        });
        let started = Instant::now();
        let _: String = redis::cmd("BGSAVE")
            .query_async(&mut self.connection.clone())
            .await?;
        while self.is_saving().await? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let took = started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let touched = touching.await??;
        report.figure("snapshot, time", "s", &[took])?;
        report.figure("snapshot, touches meanwhile", "", &[touched as f64])?;
        report.figure(
            "snapshot, fork",
            "µs",
            &[self.number("latest_fork_usec").await? as f64],
        )?;
        report.figure(
            "snapshot, copied on write",
            "bytes",
            &[self.number("rdb_last_cow_size").await? as f64],
        )
    }

    async fn close(&self) -> Result<()> {
        Ok(redis::cmd("FLUSHDB")
            .query_async(&mut self.connection.clone())
            .await?)
    }
}
