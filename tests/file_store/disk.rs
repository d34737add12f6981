//! What lies on the disk, and with which rights.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cloakroom::clock::from_unix_millis;
use cloakroom::store::{FileStore, Outcome, Record, SessionStore, StoreErrorKind, Version};

use super::*;

#[tokio::test]
async fn a_session_lies_in_a_file_of_its_handle_and_nothing_else_lies_there() {
    let (folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    for number in [0x00, 0x2e, 0x2f, 0xff] {
        create(&store, number, &record(1, LATER)).await.unwrap();
        let updated = update(&store, number, &record(2, LATER), 1, NOW).await;
        assert_eq!(updated.unwrap(), Outcome::Done);
    }
    assert_eq!(
        names(&root),
        [
            "00",
            "00/0",
            "00/0/00000000000000000000000000000000.session",
            "2e",
            "2e/2",
            "2e/2/2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e2e.session",
            "2f",
            "2f/2",
            "2f/2/2f2f2f2f2f2f2f2f2f2f2f2f2f2f2f2f.session",
            "ff",
            "ff/f",
            "ff/f/ffffffffffffffffffffffffffffffff.session",
            "locks",
            "locks/00.lock",
            "locks/2e.lock",
            "locks/2f.lock",
            "locks/ff.lock",
            "locks/open.lock",
        ]
    );
    // Nothing beside the folder, either.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_record_comes_back_in_another_process_as_it_was_given() {
    let (_folder, root) = folder();
    let given = Record {
        version: Version::from_u64(u64::MAX),
        created_at: from_unix_millis(-1),
        expires_at: from_unix_millis(253_402_300_799_999),
        user_id: None,
        payload: (0..=255).collect::<Vec<u8>>().into(),
    };
    let store = FileStore::open(&root).await.unwrap();
    store.create(&handle(1), &given).await.unwrap();
    drop(store);
    let store = FileStore::open(&root).await.unwrap();
    assert_eq!(store.load(&handle(1)).await.unwrap(), Some(given));
    assert_eq!(store.load(&handle(2)).await.unwrap(), None);
}

#[tokio::test]
async fn a_touch_moves_the_expiry_alone_and_never_back() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    create(&store, 1, &record(1, LATER)).await.unwrap();
    for (expires_at, then) in [
        (LATER + 1, LATER + 1),
        (LATER, LATER + 1),
        (LATER + 2, LATER + 2),
    ] {
        let touched = touch(&store, 1, expires_at, 1, NOW).await;
        assert_eq!(touched.unwrap(), Outcome::Done);
        let loaded = store.load(&handle(1)).await.unwrap();
        assert_eq!(loaded, Some(record(1, then)));
    }
}

#[tokio::test]
async fn only_a_live_record_of_the_expected_version_is_changed() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    create(&store, 1, &record(1, NOW)).await.unwrap();
    for (number, version, now, outcome) in [
        (1, 2, NOW - 1, Outcome::Conflict),
        (1, 1, NOW, Outcome::Missing),
        (1, 2, NOW, Outcome::Missing),
        (2, 1, NOW - 1, Outcome::Missing),
    ] {
        let updated = update(&store, number, &record(3, LATER), version, now).await;
        assert_eq!(updated.unwrap(), outcome);
        let touched = touch(&store, number, LATER, version, now).await;
        assert_eq!(touched.unwrap(), outcome);
    }
    assert_eq!(store.load(&handle(1)).await.unwrap(), Some(record(1, NOW)));
    assert_eq!(store.load(&handle(2)).await.unwrap(), None);
}

#[tokio::test]
async fn a_handle_in_use_is_refused_and_nothing_overwritten() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    create(&store, 1, &record(1, LATER)).await.unwrap();
    create(&store, 2, &record(1, LONG_AGO)).await.unwrap();
    create(&store, 3, &record(1, LATER)).await.unwrap();
    fs::write(session_file(&root, &handle(3)), b"broken").unwrap();

    for number in [1, 2, 3] {
        let path = session_file(&root, &handle(number));
        let before = fs::read(&path).unwrap();
        let error = create(&store, number, &record(2, LATER)).await;
        assert_eq!(error.unwrap_err().kind(), StoreErrorKind::HandleInUse);
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn directories_and_files_are_for_the_owner_alone_whatever_the_umask() {
    const THIS: &str = "disk::directories_and_files_are_for_the_owner_alone_whatever_the_umask";
    if let Some(root) = child::folder() {
        return block_on(async {
            let store = FileStore::open(&root).await.unwrap();
            create(&store, 1, &record(1, LATER)).await.unwrap();
            let touched = touch(&store, 1, LATER + 1, 1, NOW).await;
            assert_eq!(touched.unwrap(), Outcome::Done);
        });
    }
    for umask in ["000", "022", "077"] {
        let (_folder, parent) = folder();
        let root = parent.join("deeper");
        run(child::again_after(&format!("umask {umask}"), THIS, &root));
        assert_eq!(mode(&parent), 0o700);
        for path in walk(&parent) {
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&path), expected, "{} at {umask}", path.display());
        }
    }
}

#[test]
fn a_root_with_wider_rights_keeps_them_and_is_warned_of() {
    let (_folder, root) = folder();
    fs::create_dir(&root).unwrap();
    for (rights, warned) in [(0o755, false), (0o775, true), (0o757, true), (0o700, false)] {
        fs::set_permissions(&root, fs::Permissions::from_mode(rights)).unwrap();
        let warnings = warnings(|| {
            block_on(FileStore::open(&root)).unwrap();
        });
        assert_eq!(!warnings.is_empty(), warned, "{rights:o}: {warnings:?}");
        assert_eq!(mode(&root), rights);
    }
}

#[tokio::test]
async fn what_a_crash_left_hinders_no_write_and_is_swept() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    let leftover = session_file(&root, &handle(1)).with_extension("tmp");
    let other = session_file(&root, &handle(2)).with_extension("tmp");
    create(&store, 1, &record(1, LATER)).await.unwrap();
    create(&store, 2, &record(1, LATER)).await.unwrap();

    // Wider rights than ours, to see that a leftover is not written into.
    fs::write(&leftover, b"half a rec").unwrap();
    fs::set_permissions(&leftover, fs::Permissions::from_mode(0o666)).unwrap();
    let updated = update(&store, 1, &record(2, LATER), 1, NOW).await;
    assert_eq!(updated.unwrap(), Outcome::Done);
    assert!(!leftover.exists());
    assert_eq!(mode(&session_file(&root, &handle(1))), 0o600);

    fs::write(&leftover, b"half a rec").unwrap();
    fs::write(&other, b"").unwrap();
    let swept = sweep(&store, 1).await;
    assert_eq!(swept.unwrap(), 0, "no records");
    assert!(!leftover.exists() && !other.exists());
    assert_eq!(
        store.load(&handle(1)).await.unwrap(),
        Some(record(2, LATER))
    );
}

#[tokio::test]
async fn a_temporary_file_that_is_being_written_is_not_swept() {
    let (_folder, root) = folder();
    let store = FileStore::builder(&root)
        .lock_timeout(Duration::from_millis(1))
        .open()
        .await
        .unwrap();
    create(&store, 1, &record(1, LATER)).await.unwrap();
    let temporary = session_file(&root, &handle(1)).with_extension("tmp");
    fs::write(&temporary, b"half a rec").unwrap();

    let writer = hold_lock(&root, 1);
    let error = sweep(&store, 1).await;
    assert_eq!(error.unwrap_err().kind(), StoreErrorKind::TimedOut);
    assert!(temporary.exists());
    drop(writer);
}
