//! The stores that programs run on: each program has an empty one.

use std::sync::Arc;

use cloakroom::SessionStore;
use cloakroom::store::{FileStore, MemoryStore, SqliteStore};
use tempfile::TempDir;
use tokio::runtime::Builder;

use crate::driver::{self, Run};
use crate::faults::Fault;
use crate::happens::assert_often_enough;
use crate::program::Program;
use crate::redis_by_clock;
use crate::search::{assert_all_hold, programs_wanted};
use crate::servers;
use crate::sql::{MySqlPlace, PostgresPlace};
use crate::tally::Tally;

/// Of each store on an SQL server. A program runs one store call at a time, but those that take effect late
/// and an ending of everyone's sessions may meet.
const CONNECTIONS: u32 = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Memory,
    File,
    Sqlite,
    Postgres,
    MySql,
    Redis,
    RedisCluster,
}

/// An empty store, and what goes with it when the program is over.
struct Opened {
    store: Arc<dyn SessionStore>,
    cleanup: Cleanup,
}

enum Cleanup {
    Nothing,
    Folder(TempDir),
    Postgres(Box<PostgresPlace>),
    MySql(Box<MySqlPlace>),
    Redis(Arc<redis_by_clock::Store>),
}

impl Place {
    pub(crate) fn run(self, program: &Program, fault: Option<Fault>, traced: bool) -> Run {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let Opened { store, cleanup } = self.open().await;
            // From here on, time passes where the driver waits.
            tokio::time::pause();
            let run = driver::run(program, store, fault, traced).await;
            tokio::time::resume();
            cleanup.finish().await;
            run
        })
    }

    async fn open(self) -> Opened {
        let (store, cleanup): (Arc<dyn SessionStore>, _) = match self {
            Self::Memory => (Arc::new(MemoryStore::new()), Cleanup::Nothing),
            Self::File => {
                let folder = tempfile::tempdir().unwrap();
                // No power fails here.
                let store = FileStore::builder(folder.path().join("sessions")).without_sync();
                let store = store.open().await.unwrap();
                (Arc::new(store), Cleanup::Folder(folder))
            }
            Self::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("sessions.db");
                let store = SqliteStore::connect(path).await.unwrap();
                store.migrate().await.unwrap();
                (Arc::new(store), Cleanup::Folder(folder))
            }
            Self::Postgres => {
                let place = PostgresPlace::new().await.expect(IS_THERE);
                let store = place.migrated(CONNECTIONS).await;
                (Arc::new(store), Cleanup::Postgres(Box::new(place)))
            }
            Self::MySql => {
                let place = MySqlPlace::new().await.expect(IS_THERE);
                let store = place.migrated(CONNECTIONS).await;
                (Arc::new(store), Cleanup::MySql(Box::new(place)))
            }
            Self::Redis => {
                let url = servers::url(redis_by_clock::SERVER).expect(IS_THERE);
                let store = Arc::new(redis_by_clock::Store::on_server(&url).await);
                (store.clone(), Cleanup::Redis(store))
            }
            Self::RedisCluster => {
                let urls = servers::url(redis_by_clock::CLUSTER).expect(IS_THERE);
                let store = Arc::new(redis_by_clock::Store::on_cluster(&urls).await);
                (store.clone(), Cleanup::Redis(store))
            }
        };
        Opened { store, cleanup }
    }

    /// The variable that says where its server is.
    const fn server(self) -> Option<&'static str> {
        match self {
            Self::Memory | Self::File | Self::Sqlite => None,
            Self::Postgres => Some("CLOAKROOM_TEST_POSTGRES_URL"),
            Self::MySql => Some("CLOAKROOM_TEST_MYSQL_URL"),
            Self::Redis => Some(redis_by_clock::SERVER),
            Self::RedisCluster => Some(redis_by_clock::CLUSTER),
        }
    }
}

const IS_THERE: &str = "that there is such a server was asked before";

impl Cleanup {
    async fn finish(self) {
        match self {
            Self::Nothing => {}
            Self::Folder(folder) => folder.close().unwrap(),
            // Dropped, they remove what they have made.
            Self::Postgres(place) => drop(place),
            Self::MySql(place) => drop(place),
            Self::Redis(store) => store.remove_all().await,
        }
    }
}

#[test]
fn the_guarantees_hold_on_the_memory_store() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = u32::try_from(threads).unwrap();
    let programs = programs_wanted().div_ceil(threads);
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| assert_all_hold(Place::Memory, programs)))
            .collect();
        for thread in running {
            tally.add(&thread.join().expect("a program fails, as was said"));
        }
    });
    assert_often_enough(&tally, programs * threads);
}

#[test]
fn the_guarantees_hold_on_the_file_store() {
    hold_on(Place::File);
}

#[test]
fn the_guarantees_hold_on_the_sqlite_store() {
    hold_on(Place::Sqlite);
}

#[test]
fn the_guarantees_hold_on_postgresql() {
    hold_on(Place::Postgres);
}

#[test]
fn the_guarantees_hold_on_mysql_or_mariadb() {
    hold_on(Place::MySql);
}

#[test]
fn the_guarantees_hold_on_redis() {
    hold_on(Place::Redis);
}

#[test]
fn the_guarantees_hold_on_a_redis_cluster() {
    hold_on(Place::RedisCluster);
}

/// A hundredth of the programs, if there is such a server.
fn hold_on(place: Place) {
    let is_there = |variable| servers::url(variable).is_some();
    if place.server().is_none_or(is_there) {
        assert_all_hold(place, programs_wanted().div_ceil(100));
    }
}
