//! A disk that fails: no folder, no room, no entry.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use cloakroom::store::{FileStore, Record, SessionStore, StoreErrorKind};

use super::*;

#[tokio::test]
async fn a_root_that_is_a_file_is_an_error_that_names_it() {
    let (_folder, root) = folder();
    fs::write(&root, b"").unwrap();
    for path in [root.clone(), root.join("deeper")] {
        let error = FileStore::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_names(&error, &path);
        assert_eq!(io_kind(&error), ErrorKind::NotADirectory);
    }
}

#[tokio::test]
async fn a_root_in_which_nothing_can_be_made_is_an_error_that_names_it() {
    // Not even the superuser makes files in /proc.
    let root = Path::new("/proc/self");
    if root.exists() {
        let error = FileStore::open(root).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_names(&error, root);
    }
}

#[tokio::test]
async fn a_folder_that_went_away_is_a_failure_and_not_a_store_without_sessions() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    create(&store, 1, &record(1, LATER)).await.unwrap();
    fs::remove_dir_all(&root).unwrap();
    // As an unmounted volume leaves it, too.
    for _ in 0..2 {
        for error in [
            store.load(&handle(1)).await.unwrap_err(),
            create(&store, 2, &record(1, LATER)).await.unwrap_err(),
            store.delete(&handle(1)).await.unwrap_err(),
            sweep(&store, 1).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Unavailable);
            assert_names(&error, &root);
            assert_eq!(io_kind(&error), ErrorKind::NotFound);
        }
        fs::create_dir_all(&root).unwrap();
    }
}

#[tokio::test]
async fn directories_of_sessions_may_be_deleted_while_the_store_is_in_use() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    create(&store, 1, &record(1, LATER)).await.unwrap();
    fs::remove_dir_all(root.join("01")).unwrap();
    assert_eq!(store.load(&handle(1)).await.unwrap(), None);
    assert!(!store.delete(&handle(1)).await.unwrap());
    create(&store, 1, &record(2, LATER)).await.unwrap();
    assert_eq!(
        store.load(&handle(1)).await.unwrap(),
        Some(record(2, LATER))
    );
}

#[tokio::test]
async fn a_directory_that_cannot_be_entered_is_a_failure_and_ends_the_sweep_of_it_alone() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    for number in [0x00, 0x01, 0x02] {
        create(&store, number, &record(1, LONG_AGO)).await.unwrap();
    }
    let damaged = root.join("01");
    fs::remove_dir_all(&damaged).unwrap();
    fs::write(&damaged, b"").unwrap();

    for error in [
        store.load(&handle(1)).await.unwrap_err(),
        create(&store, 1, &record(1, LATER)).await.unwrap_err(),
        store.delete(&handle(1)).await.unwrap_err(),
        sweep(&store, 10).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_names(&error, &damaged);
        assert_eq!(io_kind(&error), ErrorKind::NotADirectory);
    }
    // The next call goes on behind it.
    assert!(store.load(&handle(2)).await.unwrap().is_some());
    sweep(&store, 10).await.unwrap_err();
    assert_eq!(store.load(&handle(2)).await.unwrap(), None);
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file_and_harms_no_record() {
    const THIS: &str = "failures::a_full_disk_is_an_error_that_names_the_file_and_harms_no_record";
    let Some(root) = child::folder() else {
        let (_folder, root) = folder();
        // A limit on the size of files fails a write as a full disk does, midway, and needs no rights.
        // The signal that comes with it would end the process.
        let limit = "trap '' XFSZ; ulimit -f 8";
        return run(child::again_after(limit, THIS, &root));
    };
    block_on(async {
        let store = FileStore::open(&root).await.unwrap();
        create(&store, 1, &record(1, LATER)).await.unwrap();
        let too_large = Record {
            payload: vec![7; 100_000].into(),
            ..record(2, LATER)
        };
        for (error, number) in [
            (update(&store, 1, &too_large, 1, NOW).await.unwrap_err(), 1),
            (create(&store, 2, &too_large).await.unwrap_err(), 2),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Unavailable);
            let path = session_file(&root, &handle(number)).with_extension("tmp");
            assert_names(&error, &path);
            assert_eq!(io_kind(&error), ErrorKind::FileTooLarge);
            assert!(!path.exists(), "it gives back what it took");
        }
        assert_eq!(
            store.load(&handle(1)).await.unwrap(),
            Some(record(1, LATER))
        );
        assert_eq!(store.load(&handle(2)).await.unwrap(), None);
        create(&store, 2, &record(1, LATER)).await.unwrap();
    });
}
