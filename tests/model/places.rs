//! The stores that programs run on: each program has an empty one.

use std::sync::Arc;

use cloakroom::SessionStore;
use cloakroom::store::{FileStore, MemoryStore, SqliteStore};
use tokio::runtime::Builder;

use crate::driver::{self, Run};
use crate::faults::Fault;
use crate::program::Program;
use crate::search::{assert_all_hold, programs_wanted};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Memory,
    File,
    Sqlite,
}

impl Place {
    pub(crate) fn run(self, program: &Program, fault: Option<Fault>, traced: bool) -> Run {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder;
            let store: Arc<dyn SessionStore> = match self {
                Self::Memory => Arc::new(MemoryStore::new()),
                Self::File => {
                    folder = tempfile::tempdir().unwrap();
                    // No power fails here.
                    let store = FileStore::builder(folder.path().join("sessions")).without_sync();
                    Arc::new(store.open().await.unwrap())
                }
                Self::Sqlite => {
                    folder = tempfile::tempdir().unwrap();
                    let path = folder.path().join("sessions.db");
                    let store = SqliteStore::connect(path).await.unwrap();
                    store.migrate().await.unwrap();
                    Arc::new(store)
                }
            };
            // From here on, time passes where the driver waits.
            tokio::time::pause();
            driver::run(program, store, fault, traced).await
        })
    }
}

#[test]
fn the_guarantees_hold_on_the_memory_store() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = u32::try_from(threads).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| assert_all_hold(Place::Memory, programs_wanted().div_ceil(threads)));
        }
    });
}

#[test]
fn the_guarantees_hold_on_the_file_store() {
    assert_all_hold(Place::File, programs_wanted().div_ceil(100));
}

#[test]
fn the_guarantees_hold_on_the_sqlite_store() {
    assert_all_hold(Place::Sqlite, programs_wanted().div_ceil(100));
}
