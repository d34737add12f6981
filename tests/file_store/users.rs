//! The lists of users, and the marks.

use std::fs;
use std::sync::Arc;

use cloakroom::store::{
    Handle, Link, Linked, LoginProgress, SessionLimit, StoreErrorKind, UserIndex, Whose,
};

use super::*;

/// The SHA-256 of `alice`.
const ALICE: &str = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90";
const DAY: i64 = 24 * HOUR;

fn link(expires_at: i64) -> Link {
    Link {
        linked_at: from_unix_millis(NOW),
        expires_at: from_unix_millis(expires_at),
        refused_by_marks_from: from_unix_millis(NOW - 1_000),
        progress: LoginProgress::Complete,
        limit: None,
    }
}

async fn linked(store: &FileStore, user_id: &str, number: u8, expires_at: i64) {
    let linked = store
        .link(user_id, &handle(number), &link(expires_at))
        .await;
    assert_eq!(linked.unwrap(), Linked::Done(Vec::new()));
}

async fn listed(store: &FileStore, user_id: &str) -> Vec<Handle> {
    let list = store.list(user_id, from_unix_millis(NOW)).await.unwrap();
    list.iter().map(|entry| entry.handle).collect()
}

async fn mark(store: &FileStore, whose: Whose<'_>, at: i64) {
    store.mark(whose, from_unix_millis(at)).await.unwrap();
}

fn list_of_alice(root: &Path) -> PathBuf {
    root.join(format!("2b/d/{ALICE}.user"))
}

/// Deletes all that is linked, in steps of one.
async fn delete_linked(store: &FileStore) -> Result<usize, StoreError> {
    let (mut deleted, mut from) = (0, None);
    loop {
        let step = store.delete_linked(from.as_ref(), 1).await?;
        assert!(step.deleted <= 1);
        deleted += step.deleted;
        from = match step.next {
            None => return Ok(deleted),
            next => next,
        };
    }
}

#[tokio::test]
async fn a_users_list_lies_in_a_file_of_the_hash_of_their_id() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    linked(&store, "alice", 1, LATER).await;
    for user_id in ["../../etc/passwd", "", "\0", &"x".repeat(10_000)] {
        linked(&store, user_id, 2, LATER).await;
        assert_eq!(listed(&store, user_id).await, [handle(2)], "{user_id:?}");
    }
    mark(&store, Whose::Everyone, NOW).await;
    let files: Vec<_> = walk(&root)
        .into_iter()
        .filter(|path| path.is_file())
        .collect();
    let lists = files
        .iter()
        .filter(|path| path.extension().unwrap() == "user");
    assert_eq!(lists.count(), 5);
    assert!(list_of_alice(&root).exists());
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
        let content = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
        assert!(!content.contains("alice"), "{}", file.display());
    }
    for number in [1, 1, 3] {
        store.unlink("alice", &handle(number)).await.unwrap();
    }
    assert!(!list_of_alice(&root).exists());
}

#[tokio::test]
async fn lists_and_marks_survive_a_restart() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    linked(&store, "alice", 1, LATER).await;
    mark(&store, Whose::User("bob"), NOW).await;
    mark(&store, Whose::Everyone, NOW - DAY).await;
    mark(&store, Whose::Everyone, NOW - DAY - HOUR).await;
    drop(store);

    let store = FileStore::open(&root).await.unwrap();
    assert_eq!(listed(&store, "alice").await, [handle(1)]);
    let bobs = store.link("bob", &handle(2), &link(LATER)).await;
    assert_eq!(bobs.unwrap(), Linked::Overtaken);
    for (refused_from, outcome) in [
        (NOW - DAY, Linked::Overtaken),
        (NOW - DAY + 1, Linked::Done(Vec::new())),
    ] {
        let link = Link {
            refused_by_marks_from: from_unix_millis(refused_from),
            ..link(LATER)
        };
        let carols = store.link("carol", &handle(3), &link).await;
        assert_eq!(carols.unwrap(), outcome);
    }
}

#[tokio::test]
async fn stores_on_one_folder_let_in_as_many_as_the_limit() {
    let (_folder, root) = folder();
    let mut stores = Vec::new();
    for _ in 0..2 {
        let builder = FileStore::builder(&root).without_sync().lock_timeout(NEVER);
        stores.push(builder.open().await.unwrap());
    }
    let start = Arc::new(tokio::sync::Barrier::new(20));
    let logins = (0..20).map(|number| {
        let (store, start) = (stores[usize::from(number) % 2].clone(), start.clone());
        tokio::spawn(async move {
            let link = Link {
                limit: Some(SessionLimit::RefuseLogin(3)),
                ..link(LATER)
            };
            start.wait().await;
            store.link("alice", &handle(number), &link).await.unwrap()
        })
    });
    let mut let_in = 0;
    for login in logins.collect::<Vec<_>>() {
        let_in += usize::from(matches!(login.await.unwrap(), Linked::Done(_)));
    }
    assert_eq!(let_in, 3);
    for store in &stores {
        assert_eq!(listed(store, "alice").await.len(), 3);
    }
}

#[tokio::test]
async fn a_list_is_swept_once_nothing_of_it_is_of_use() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    let minute_after = |time: i64| from_unix_millis(time + 60_000);
    // By its last entry, by its mark, and by the time in the file and not that of the file.
    linked(&store, "alice", 1, LATER).await;
    linked(&store, "alice", 2, LATER + 1).await;
    let (second, longer) = (handle(2), from_unix_millis(LATER + 2));
    store.extend("alice", &second, longer).await.unwrap();
    mark(&store, Whose::User("bob"), NOW).await;
    let bobs = || {
        names(&root)
            .iter()
            .filter(|name| name.ends_with(".user"))
            .count()
            == 1
    };
    let list = list_of_alice(&root);
    store
        .delete_expired(minute_after(LATER + 1), 10)
        .await
        .unwrap();
    assert!(list.exists());
    age(&list, LONG_AGO);
    store
        .delete_expired(minute_after(LATER + 1), 10)
        .await
        .unwrap();
    assert!(list.exists());
    store
        .delete_expired(minute_after(LATER + 2), 10)
        .await
        .unwrap();
    assert!(!list.exists());
    store
        .delete_expired(minute_after(NOW + DAY - 1), 10)
        .await
        .unwrap();
    assert!(bobs());
    store
        .delete_expired(minute_after(NOW + DAY), 10)
        .await
        .unwrap();
    assert!(!bobs());
}

#[tokio::test]
async fn a_link_drops_what_is_of_no_use_from_the_list() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    for number in 0..50 {
        linked(&store, "alice", number, NOW - 60_000).await;
    }
    let size = fs::metadata(list_of_alice(&root)).unwrap().len();
    assert!(size < 100, "{size} bytes");
}

#[tokio::test]
async fn what_a_crash_left_of_a_list_is_swept_and_in_nobodys_way() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    linked(&store, "alice", 1, LATER).await;
    let temporary = list_of_alice(&root).with_extension("tmp");
    let everyones = root.join("everyone.tmp");
    fs::write(&temporary, "half a list").unwrap();
    fs::write(&everyones, "half a mark").unwrap();
    assert_eq!(listed(&store, "alice").await, [handle(1)]);
    linked(&store, "alice", 2, LATER).await;
    mark(&store, Whose::Everyone, NOW).await;
    assert!(!temporary.exists() && !everyones.exists());
    fs::write(&temporary, "half a list").unwrap();
    sweep(&store, 1).await.unwrap();
    assert!(!temporary.exists());
}

#[tokio::test]
async fn a_list_that_is_torn_is_an_error_that_names_it_and_stays_as_it_is() {
    let (_folder, root) = folder();
    let store = FileStore::open(&root).await.unwrap();
    let users = ["alice", "bob", "carol"];
    for (number, user_id) in (1..).zip(users) {
        create(&store, number, &record(1, LATER)).await.unwrap();
        linked(&store, user_id, number, LATER).await;
    }
    let path = list_of_alice(&root);
    let whole = fs::read(&path).unwrap();
    let torn = &whole[..whole.len() - 1];
    fs::write(&path, torn).unwrap();
    let now = from_unix_millis(NOW);
    for error in [
        store
            .link("alice", &handle(4), &link(LATER))
            .await
            .unwrap_err(),
        store.extend("alice", &handle(1), now).await.unwrap_err(),
        store.unlink("alice", &handle(1)).await.unwrap_err(),
        store.list("alice", now).await.unwrap_err(),
        store.mark(Whose::User("alice"), now).await.unwrap_err(),
        // After it has ended the others'.
        delete_linked(&store).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Undecodable);
        assert_names(&error, &path);
    }
    for number in 1..=3 {
        let there = store.load(&handle(number)).await.unwrap().is_some();
        assert_eq!(there, number == 1);
    }
    assert_eq!(fs::read(&path).unwrap(), torn);
}

#[tokio::test]
async fn a_list_is_deleted_from_in_as_many_steps_as_it_takes() {
    let (_folder, root) = folder();
    let store = FileStore::builder(&root)
        .without_sync()
        .open()
        .await
        .unwrap();
    for number in 0..10 {
        create(&store, number, &record(1, LATER)).await.unwrap();
        linked(&store, "alice", number, LATER).await;
    }
    // Its record is gone.
    linked(&store, "bob", 99, LATER).await;
    assert_eq!(delete_linked(&store).await.unwrap(), 10);
    assert!(names(&root).iter().all(|name| !name.ends_with(".user")));
}
