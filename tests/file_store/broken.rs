//! Files that cannot be read: torn, damaged, or newer than this version of the crate.

use std::fs;
use std::path::Path;

use cloakroom::clock::from_unix_millis;
use cloakroom::store::{FileStore, SessionStore, StoreErrorKind};
use sha2::{Digest, Sha256};

use super::*;

#[tokio::test]
async fn a_broken_file_is_an_error_that_names_it_and_stays_as_it_is() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    create(&store, 1, &record(1, LATER)).await.unwrap();
    let path = session_file(&root, &handle(1));
    let whole = fs::read(&path).unwrap();
    let zeros = vec![0; whole.len()];
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for broken in [&whole[..0], &whole[..whole.len() - 1], &zeros, &flipped] {
        fs::write(&path, broken).unwrap();
        assert_refused(&store, &path, StoreErrorKind::Undecodable).await;
        assert_eq!(fs::read(&path).unwrap(), broken);
    }
    // A logout ends it all the same.
    assert!(store.delete(&handle(1)).await.unwrap());
    assert_eq!(store.load(&handle(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_file_of_a_newer_version_of_the_crate_is_known_as_such_and_stays_as_it_is() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    create(&store, 1, &record(1, LATER)).await.unwrap();
    let path = session_file(&root, &handle(1));
    let newer = [&[2], b"what nobody knows yet".as_slice()].concat();
    let checksum = Sha256::digest(&newer);
    let newer = [b"coat", &newer[..1], &checksum[..8], &newer[1..]].concat();
    fs::write(&path, &newer).unwrap();
    assert_refused(&store, &path, StoreErrorKind::NewerFormat).await;
    assert_eq!(fs::read(&path).unwrap(), newer);
}

async fn assert_refused(store: &FileStore, path: &Path, kind: StoreErrorKind) {
    let error = store.load(&handle(1)).await.unwrap_err();
    assert_eq!(error.kind(), kind);
    assert_names(&error, path);
    let updated = update(store, 1, &record(2, LATER), 1, NOW).await;
    assert_eq!(updated.unwrap_err().kind(), kind);
    let touched = touch(store, 1, LATER + 1, 1, NOW).await;
    assert_eq!(touched.unwrap_err().kind(), kind);
    // Long past the time that stood in it, or stands in the file's date.
    let end = from_unix_millis(253_402_300_799_999);
    assert_eq!(store.delete_expired(end, 10).await.unwrap(), 0);
}

#[test]
fn a_sweep_goes_past_broken_files_and_says_so_once_a_round() {
    let (_folder, root) = folder();
    let warnings = warnings(|| {
        block_on(async {
            let store = FileStore::open(&root).await.unwrap();
            for number in 0..6 {
                create(&store, number, &record(1, LONG_AGO)).await.unwrap();
            }
            for broken in [0, 3] {
                fs::write(session_file(&root, &handle(broken)), b"").unwrap();
                age(&session_file(&root, &handle(broken)), LONG_AGO);
            }
            for deleted in [3, 1, 0] {
                assert_eq!(sweep(&store, 3).await.unwrap(), deleted);
            }
        });
    });
    // The first call ended before it had been everywhere.
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[1].contains("records=2"), "{warnings:?}");
    let path = session_file(&root, &handle(0));
    assert!(warnings[1].contains(path.to_str().unwrap()), "{warnings:?}");
}
