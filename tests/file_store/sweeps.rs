//! Sweeps.

use std::fs;

use cloakroom::clock::from_unix_millis;
use cloakroom::store::{FileStore, Handle, SessionStore};

use super::*;

#[tokio::test]
async fn sweeps_go_on_until_a_call_brings_less_than_its_limit_and_nothing_is_left() {
    let (_folder, root) = folder();
    let store = FileStore::builder(&root)
        .without_sync()
        .open()
        .await
        .unwrap();
    // Many in one directory, more than a batch, and some in each of the others.
    let mut handles: Vec<_> = (0..150)
        .map(|last| {
            let mut bytes = [0x77; 16];
            bytes[15] = last;
            Handle::from_bytes(bytes)
        })
        .collect();
    handles.extend((0..=255).filter(|&number| number != 0x77).map(handle));
    for (index, handle) in handles.iter().enumerate() {
        let expires_at = if index % 3 == 0 { LATER } else { LONG_AGO };
        store.create(handle, &record(1, expires_at)).await.unwrap();
    }
    let expired = handles.len() - handles.len().div_ceil(3);
    for limit in [0, 1, 7, 100] {
        assert_eq!(sweep(&store, limit).await.unwrap(), limit);
    }
    assert_eq!(sweep(&store, usize::MAX).await.unwrap(), expired - 108);
    assert_eq!(sweep(&store, 1).await.unwrap(), 0);
    for (index, handle) in handles.iter().enumerate() {
        let there = store.load(handle).await.unwrap().is_some();
        assert_eq!(there, index % 3 == 0, "{handle}");
    }
}

#[tokio::test]
async fn a_sweep_spares_what_expired_within_the_last_minute() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    create(&store, 1, &record(1, NOW - 59_999)).await.unwrap();
    create(&store, 2, &record(1, NOW - 60_000)).await.unwrap();
    assert_eq!(sweep(&store, 10).await.unwrap(), 1);
    assert!(store.load(&handle(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn the_expiry_in_the_file_decides_and_not_the_date_of_the_file() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    create(&store, 1, &record(1, LATER)).await.unwrap();
    age(&session_file(&root, &handle(1)), LONG_AGO);
    assert_eq!(sweep(&store, 10).await.unwrap(), 0);
    assert!(store.load(&handle(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn files_that_are_not_the_stores_are_left_alone() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    create(&store, 1, &record(1, LONG_AGO)).await.unwrap();
    let own = session_file(&root, &handle(1));
    let directory = own.parent().unwrap();
    let foreign = [
        root.join("README"),
        root.join("x.tmp"),
        root.join("zz"),
        directory.join("notes.txt"),
        directory.join("backup.tmp"),
        directory.join(format!("{}.session~", handle(1))),
        directory.join(format!("{}.session", handle(2))),
        directory.join(format!("{}.tmp", handle(2))),
    ];
    for path in &foreign {
        fs::copy(&own, path).unwrap();
        age(path, LONG_AGO);
    }
    // Dated today.
    let today = [
        directory.join(format!("{}.session", "01".repeat(15) + "02")),
        directory.join(format!("{}.session", "01".repeat(15) + "03")),
    ];
    std::os::unix::fs::symlink(&foreign[0], &today[0]).unwrap();
    fs::create_dir(&today[1]).unwrap();
    let end = from_unix_millis(253_402_300_799_999);
    assert_eq!(store.delete_expired(end, 10).await.unwrap(), 1);
    assert!(!own.exists());
    for path in foreign.iter().chain(&today) {
        assert!(path.exists(), "{}", path.display());
    }
}

#[tokio::test]
async fn files_that_look_expired_and_are_not_do_not_end_a_sweep() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    for second in [0x00, 0x40, 0x80] {
        let mut bytes = [7; 16];
        bytes[1] = second;
        let handle = Handle::from_bytes(bytes);
        let expires_at = if second == 0x80 { LONG_AGO } else { LATER };
        let record = record(1, expires_at);
        store.create(&handle, &record).await.unwrap();
        age(&session_file(&root, &handle), LONG_AGO);
    }
    assert_eq!(sweep(&store, 1).await.unwrap(), 1);
    assert_eq!(sweep(&store, 1).await.unwrap(), 0);
}
