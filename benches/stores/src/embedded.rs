//! The stores without a server.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cloakroom::store::{FileStore, MemoryStore, SessionStore, SqliteStore, async_trait};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
use tempfile::TempDir;

use crate::engine::{Engine, Sizes};
use crate::measure::percentile;
use crate::{ALLOCATOR, Result};

pub(crate) struct Memory(Arc<MemoryStore>);

impl Memory {
    pub(crate) fn open() -> Self {
        // Its own limit is a million, which live and expired ones exceed together.
        Self(Arc::new(MemoryStore::new().max_records(100_000_000)))
    }
}

#[async_trait]
impl Engine for Memory {
    fn store(&self) -> Arc<dyn SessionStore> {
        self.0.clone()
    }

    async fn settings(&self) -> Result<Vec<String>> {
        Ok(vec!["in the process of the bench".into()])
    }

    async fn sizes(&self) -> Result<Sizes> {
        let stats = ALLOCATOR.stats();
        // Reallocations count as part of both.
        let allocated = stats.bytes_allocated - stats.bytes_deallocated;
        let resident = std::fs::read_to_string("/proc/self/statm")?
            .split(' ')
            .nth(1)
            .ok_or("no resident set in statm")?
            .parse::<u64>()?
            * 4096;
        Ok(vec![
            ("allocated", allocated as u64),
            ("resident", resident),
        ])
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// Next to the program, since temporary folders are often no disk.
fn folder() -> Result<TempDir> {
    let program = std::env::current_exe()?;
    let target = program.parent().ok_or("the program is in no folder")?;
    Ok(tempfile::Builder::new()
        .prefix("sessions-")
        .tempdir_in(target)?)
}

pub(crate) struct File {
    folder: TempDir,
    store: Arc<FileStore>,
    filler: Arc<FileStore>,
}

impl File {
    pub(crate) async fn open() -> Result<Self> {
        let folder = folder()?;
        Ok(Self {
            store: Arc::new(FileStore::open(folder.path()).await?),
            filler: Arc::new(
                FileStore::builder(folder.path())
                    .without_sync()
                    .open()
                    .await?,
            ),
            folder,
        })
    }
}

#[async_trait]
impl Engine for File {
    fn store(&self) -> Arc<dyn SessionStore> {
        self.store.clone()
    }

    fn filler(&self) -> Arc<dyn SessionStore> {
        self.filler.clone()
    }

    async fn settings(&self) -> Result<Vec<String>> {
        Ok(vec![
            "defaults: each write is synced (filled without that)".into(),
        ])
    }

    async fn sizes(&self) -> Result<Sizes> {
        let mut blocks = 0;
        let mut files = 0;
        add_up(self.folder.path(), &mut blocks, &mut files)?;
        Ok(vec![
            ("blocks on disk", blocks * 512),
            ("content of the files", files),
        ])
    }

    async fn settle(&self) -> Result<()> {
        sync().await
    }

    async fn close(&self) -> Result<()> {
        std::fs::remove_dir_all(self.folder.path()).map_err(Into::into)
    }
}

fn add_up(folder: &Path, blocks: &mut u64, files: &mut u64) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        *blocks += metadata.blocks();
        if metadata.is_dir() {
            add_up(&entry.path(), blocks, files)?;
        } else {
            *files += metadata.len();
        }
    }
    Ok(())
}

/// Lets the operating system write what it holds back, which would slow down the first measurements.
async fn sync() -> Result<()> {
    let status = tokio::process::Command::new("sync").status().await?;
    if status.success() {
        Ok(())
    } else {
        Err("sync failed".into())
    }
}

/// How long this machine's disk takes to keep a block, in microseconds: the least that a durable write costs.
pub(crate) fn sync_time() -> Result<f64> {
    let mut file = tempfile::tempfile_in(folder()?.path())?;
    let mut times = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(percentile(&times, 0.5))
}

pub(crate) struct Sqlite {
    folder: TempDir,
    store: Arc<SqliteStore>,
    filler: Arc<SqliteStore>,
}

impl Sqlite {
    pub(crate) async fn open() -> Result<Self> {
        let folder = folder()?;
        let path = folder.path().join("sessions.db");
        let store = SqliteStore::connect(&path).await?;
        store.migrate().await?;
        let unsynced = SqliteConnectOptions::new()
            .filename(&path)
            .synchronous(SqliteSynchronous::Off);
        let filler = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(unsynced)
            .await?;
        Ok(Self {
            folder,
            store: Arc::new(store),
            filler: Arc::new(SqliteStore::new(filler)),
        })
    }
}

#[async_trait]
impl Engine for Sqlite {
    fn store(&self) -> Arc<dyn SessionStore> {
        self.store.clone()
    }

    fn filler(&self) -> Arc<dyn SessionStore> {
        self.filler.clone()
    }

    async fn settings(&self) -> Result<Vec<String>> {
        let version: String = sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(self.store.pool())
            .await?;
        Ok(vec![
            format!("SQLite {version}"),
            "as SqliteStore::connect opens it: WAL, synchronous = FULL (filled with OFF)".into(),
        ])
    }

    async fn sizes(&self) -> Result<Sizes> {
        let mut sizes = Vec::new();
        for (what, file) in [
            ("database file", "sessions.db"),
            ("WAL file", "sessions.db-wal"),
        ] {
            sizes.push((
                what,
                std::fs::metadata(self.folder.path().join(file))?.len(),
            ));
        }
        Ok(sizes)
    }

    async fn settle(&self) -> Result<()> {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(self.store.pool())
            .await?;
        sync().await
    }

    async fn close(&self) -> Result<()> {
        self.filler.pool().close().await;
        self.store.pool().close().await;
        Ok(())
    }
}
