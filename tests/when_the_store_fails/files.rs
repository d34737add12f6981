//! Files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cloakroom::store::FileStore;

use super::answer::By;
use super::app_on::{AppOn, UNDECODABLE, failed};
use super::child;
use super::limited::{Room, WITHOUT_SIGNALS, again, block_on};

async fn app(root: &Path) -> AppOn {
    AppOn::new(FileStore::open(root).await.unwrap()).await
}

fn session_file(root: &Path, app: &AppOn) -> PathBuf {
    let name = app.handle().to_string();
    root.join(&name[..2])
        .join(&name[2..3])
        .join(format!("{name}.session"))
}

/// Sets the rights of this folder and all below.
fn set_mode(folder: &Path, mode: u32) {
    // Who may not enter a folder cannot change what is in it, so first or last.
    fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            set_mode(&path, mode);
        }
    }
    fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn files_read_only_are_a_503_for_writes_and_reading_goes_on() {
    const THIS: &str = "files::files_read_only_are_a_503_for_writes_and_reading_goes_on";
    // The superuser would write all the same.
    const WITHOUT_PRIVILEGES: &str = "[ \"$(id -u)\" != 0 ] || exec setpriv \
        --bounding-set=-dac_override,-dac_read_search \"$0\" \"$@\"";
    let Some(root) = child::folder() else {
        return again(WITHOUT_PRIVILEGES, THIS);
    };
    block_on(async {
        let app = app(&root).await;
        set_mode(&root, 0o500);
        app.refuses_writes_and_logouts().await;
        set_mode(&root, 0o700);
        app.is_unharmed("nobody: a=1").await;
        app.post("/set/a/2").await.is_the_page("nobody: a=2");
    });
}

#[test]
fn files_on_a_full_disk_are_a_503_for_what_does_not_fit_and_the_others_go_on() {
    const THIS: &str =
        "files::files_on_a_full_disk_are_a_503_for_what_does_not_fit_and_the_others_go_on";
    // It fails a write as a full disk does, midway.
    let small = format!("{WITHOUT_SIGNALS}; ulimit -f 8");
    let Some(root) = child::folder() else {
        return again(&small, THIS);
    };
    block_on(async {
        let app = app(&root).await;
        let large = format!("/set/b/{}", "x".repeat(20_000));
        let newcomer = app.newcomer();
        let answer = newcomer.post(&large).await;
        answer
            .is_unavailable(By::Commit)
            .logs_what_begins(&[&failed("create")]);
        let answer = app.post(&large).await;
        answer
            .is_unavailable(By::Commit)
            .logs_what_begins(&[&failed("update")]);
        app.is_unharmed("nobody: a=1").await;
        app.post("/set/a/2")
            .await
            .is_the_page("nobody: a=2")
            .logs(&[]);
        newcomer.post("/set/b/2").await.logs(&[]);
    });
}

#[test]
fn files_on_a_disk_without_any_room_are_a_503_for_writes_and_logouts_go_on() {
    const THIS: &str =
        "files::files_on_a_disk_without_any_room_are_a_503_for_writes_and_logouts_go_on";
    let Some(root) = child::folder() else {
        return again(WITHOUT_SIGNALS, THIS);
    };
    block_on(async {
        let app = app(&root).await;
        let other = app.newcomer();
        other.post("/set/b/1").await.logs(&[]);
        let file = session_file(&root, &other);
        Room::None.for_files();
        app.refuses_writes().await;
        assert!(file.exists());
        other.post("/logout").await.logs(&[]);
        assert!(!file.exists());
        Room::Plenty.for_files();
        app.is_unharmed("nobody: a=1").await;
        app.post("/set/a/2").await.is_the_page("nobody: a=2");
    });
}

#[tokio::test]
async fn files_whose_folder_is_gone_are_a_503_and_no_store_without_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let (root, away) = (folder.path().join("sessions"), folder.path().join("away"));
    let app = app(&root).await;
    fs::rename(&root, &away).unwrap();
    for empty in [false, true] {
        if empty {
            // As an unmounted volume leaves it.
            fs::create_dir(&root).unwrap();
        }
        for path in ["/set/a/2", "/logout"] {
            let answer = app.post(path).await;
            answer
                .is_unavailable(By::Extractor)
                .logs_what_begins(&[&failed("load")]);
        }
    }
    fs::remove_dir_all(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    app.is_unharmed("nobody: a=1").await;
}

#[tokio::test]
async fn files_garbage_in_a_record_is_no_session_and_the_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let app = app(folder.path()).await;
    let file = session_file(folder.path(), &app);
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for garbage in [&b"garbage that nobody wrote"[..], b"", &flipped] {
        fs::write(&file, garbage).unwrap();
        let answer = app.get("/show").await;
        answer
            .is_the_page("no session")
            .logs_what_begins(&[UNDECODABLE]);
        assert_eq!(fs::read(&file).unwrap(), garbage);
    }
    fs::write(&file, whole).unwrap();
    app.is_unharmed("nobody: a=1").await;
}
