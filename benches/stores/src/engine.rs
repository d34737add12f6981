//! What the bench asks of a store beyond its operations.

use std::sync::Arc;

use cloakroom::store::{Handle, SessionStore, async_trait};

use crate::options::Options;
use crate::report::Report;
use crate::{Result, embedded, redis, sql};

pub(crate) const STORES: [&str; 6] = ["memory", "file", "sqlite", "postgres", "mysql", "redis"];

/// What a store takes up, by name, in bytes. The names are always the same, in the same order.
pub(crate) type Sizes = Vec<(&'static str, u64)>;

#[async_trait]
pub(crate) trait Engine: Send + Sync {
    /// The store as an app has it.
    fn store(&self) -> Arc<dyn SessionStore>;

    /// The same sessions, for filling: may be less durable, so that a million of them take minutes.
    fn filler(&self) -> Arc<dyn SessionStore> {
        self.store()
    }

    /// What has a say in the figures: versions and settings.
    async fn settings(&self) -> Result<Vec<String>>;

    async fn sizes(&self) -> Result<Sizes>;

    /// Brings to an end what filling left to be done later, so that it does not disturb measurements.
    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// How many bytes of log the engine has written so far, if it has one.
    async fn log_bytes(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// How many records there are, where the engine removes expired ones by itself.
    async fn self_sweeping(&self) -> Result<Option<usize>> {
        Ok(None)
    }

    /// What is of interest of this engine alone.
    async fn extra(
        &self,
        _handles: &[Handle],
        _options: &Options,
        _report: &mut Report,
    ) -> Result<()> {
        Ok(())
    }

    /// Removes the bench's sessions.
    async fn close(&self) -> Result<()>;
}

pub(crate) async fn open(store: &str) -> Result<Box<dyn Engine>> {
    Ok(match store {
        "memory" => Box::new(embedded::Memory::open()),
        "file" => Box::new(embedded::File::open().await?),
        "sqlite" => Box::new(embedded::Sqlite::open().await?),
        "postgres" => Box::new(sql::Postgres::open().await?),
        "mysql" => Box::new(sql::MySql::open().await?),
        "redis" => Box::new(redis::Redis::open().await?),
        other => return Err(format!("there is no store {other:?}").into()),
    })
}
