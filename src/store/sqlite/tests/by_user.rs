//! The sessions by user: the tables of them, what sweeps leave there, and what is dropped half-way.

use super::*;
use crate::store::{
    Link, Linked, LinkedSession, LoginProgress, MARK_KEPT, SWEEP_GRACE, SessionLimit, Whose,
};

const DAY: i64 = 24 * HOUR;

fn link_at(linked_at: i64) -> Link {
    Link {
        linked_at: from_unix_millis(linked_at),
        expires_at: from_unix_millis(linked_at + DAY),
        refused_by_marks_from: from_unix_millis(linked_at - 60_000),
        progress: LoginProgress::Complete,
        limit: None,
    }
}

async fn ask(store: &SqliteStore, sql: &'static str) -> i64 {
    let answer = sqlx::query_scalar(sql).fetch_one(store.pool()).await;
    answer.unwrap()
}

async fn rows(store: &SqliteStore) -> (i64, i64) {
    let links = ask(store, "SELECT count(*) FROM cloakroom_sessions_links").await;
    let marks = ask(store, "SELECT count(*) FROM cloakroom_sessions_marks").await;
    (links, marks)
}

#[tokio::test]
async fn migrating_adds_the_lists_to_a_database_that_has_sessions_alone() {
    let place = Place::new();
    let store = place.migrated().await;
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    run(
        &store,
        "DROP TABLE cloakroom_sessions_links; DROP TABLE cloakroom_sessions_marks",
    )
    .await
    .unwrap();
    let error = store.unlink("alice", &HANDLE).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("call the store's migrate()"), "{error}");

    store.migrate().await.unwrap();
    assert!(store.load(&HANDLE).await.unwrap().is_some());
    let linked = store.link("alice", &HANDLE, &link_at(NOW)).await.unwrap();
    assert_eq!(linked, Linked::Done(Vec::new()));
}

#[tokio::test]
async fn tables_of_these_names_that_are_none_of_lists_are_refused() {
    for table in ["cloakroom_sessions_links", "cloakroom_sessions_marks"] {
        let place = Place::new();
        let store = place.store_of_one().await;
        let sql = format!("CREATE TABLE {table} (user_id, expires_at, marked_at)");
        run(&store, &sql).await.unwrap();
        let error = store.migrate().await.unwrap_err();
        assert!(error.to_string().contains(table), "{error:?}");
    }
}

#[tokio::test]
async fn every_operation_goes_over_a_key_or_an_index() {
    let place = Place::new();
    let store = place.migrated().await;
    let statements = &store.statements;
    for sql in [
        &statements.index.list,
        &statements.index.extend,
        &statements.index.unlink,
        &statements.page,
        &statements.delete_linked,
        &statements.delete_links,
        &statements.delete_expired_links,
        &statements.delete_old_marks,
    ] {
        let plan = plan(&store, sql).await.join("\n");
        assert!(!plan.contains("SCAN"), "{plan}");
        // A user's list is sorted, and no other.
        let sorts = plan.contains("TEMP B-TREE");
        assert!(
            !sorts || sql.as_str() == statements.index.list.as_str(),
            "{plan}"
        );
    }
}

#[tokio::test]
async fn a_sweep_takes_entries_and_marks_that_are_of_no_use_any_more_in_batches() {
    let place = Place::new();
    let store = place.migrated().await;
    for number in 0..5 {
        let link = link_at(NOW + i64::from(number));
        let handle = Handle::from_bytes([number; 16]);
        store.link("alice", &handle, &link).await.unwrap();
        let user_id = format!("user {number}");
        let mark = store.mark(Whose::User(&user_id), link.linked_at);
        mark.await.unwrap();
    }
    store
        .mark(Whose::Everyone, from_unix_millis(NOW + 5))
        .await
        .unwrap();
    assert_eq!(rows(&store).await, (5, 6));

    let just_kept = from_unix_millis(NOW - 1) + MARK_KEPT + SWEEP_GRACE;
    assert_eq!(store.delete_expired(just_kept, 2).await.unwrap(), 0);
    assert_eq!(rows(&store).await, (5, 6));
    let now = just_kept + Duration::from_millis(4);
    for left in [(3, 4), (1, 2), (1, 2)] {
        // No session expired, whatever else went.
        assert_eq!(store.delete_expired(now, 2).await.unwrap(), 0);
        assert_eq!(rows(&store).await, left);
    }
    store
        .delete_expired(now + Duration::from_millis(2), 2)
        .await
        .unwrap();
    assert_eq!(rows(&store).await, (0, 0));
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Link,
    LinkRefused,
    Extend,
    Unlink,
    MarkUser,
    MarkEveryone,
    DeleteLinked,
}

impl Operation {
    const ALL: [Self; 7] = [
        Self::Link,
        Self::LinkRefused,
        Self::Extend,
        Self::Unlink,
        Self::MarkUser,
        Self::MarkEveryone,
        Self::DeleteLinked,
    ];

    async fn run(self, store: &SqliteStore) {
        match self {
            Self::Link => {
                let link = link_at(NOW + HOUR);
                let linked = store.link("alice", &OTHER, &link).await.unwrap();
                assert_eq!(linked, Linked::Done(Vec::new()));
            }
            Self::LinkRefused => {
                let link = Link {
                    limit: Some(SessionLimit::RefuseLogin(1)),
                    ..link_at(NOW + HOUR)
                };
                let linked = store.link("alice", &OTHER, &link).await.unwrap();
                assert!(matches!(linked, Linked::Full(_)));
            }
            Self::Extend => {
                let later = from_unix_millis(NOW + 2 * DAY);
                store.extend("alice", &HANDLE, later).await.unwrap();
            }
            Self::Unlink => store.unlink("alice", &HANDLE).await.unwrap(),
            Self::MarkUser => store.mark(Whose::User("alice"), now()).await.unwrap(),
            Self::MarkEveryone => store.mark(Whose::Everyone, now()).await.unwrap(),
            Self::DeleteLinked => {
                let done = store.delete_linked(None, 10).await.unwrap();
                assert_eq!((done.deleted, done.next), (1, None));
            }
        }
    }

    /// What is listed a day later, marked, and held, if it took effect.
    fn after(self) -> State {
        let before = State {
            listed: vec![HANDLE],
            listed_late: vec![],
            marks: 0,
            is_held: true,
        };
        match self {
            Self::LinkRefused => before,
            Self::Link => State {
                listed: vec![HANDLE, OTHER],
                listed_late: vec![OTHER],
                ..before
            },
            Self::Extend => State {
                listed_late: vec![HANDLE],
                ..before
            },
            Self::Unlink => State {
                listed: vec![],
                ..before
            },
            Self::MarkUser | Self::MarkEveryone => State { marks: 1, ..before },
            Self::DeleteLinked => State {
                listed: vec![],
                is_held: false,
                ..before
            },
        }
    }
}

const OTHER: Handle = Handle::from_bytes([8; 16]);

#[derive(Debug, PartialEq)]
struct State {
    listed: Vec<Handle>,
    listed_late: Vec<Handle>,
    marks: i64,
    is_held: bool,
}

async fn state(store: &SqliteStore) -> State {
    let handles = |list: Vec<LinkedSession>| list.iter().map(|one| one.handle).collect();
    let late = from_unix_millis(NOW + DAY);
    State {
        listed: handles(store.list("alice", now()).await.unwrap()),
        listed_late: handles(store.list("alice", late).await.unwrap()),
        marks: rows(store).await.1,
        is_held: store.load(&HANDLE).await.unwrap().is_some(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_leaves_all_or_nothing_and_no_lock() {
    const REPEATS: usize = 5;
    let place = Place::new();
    let store = place.store_of_one().await;
    store.migrate().await.unwrap();
    let other = place.migrated().await;
    for operation in Operation::ALL {
        for polls in 0.. {
            let mut always_ready = true;
            for _ in 0..REPEATS {
                run(
                    &store,
                    "DELETE FROM cloakroom_sessions; DELETE FROM cloakroom_sessions_links;
                    DELETE FROM cloakroom_sessions_marks",
                )
                .await
                .unwrap();
                store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
                store.link("alice", &HANDLE, &link_at(NOW)).await.unwrap();
                let before = state(&store).await;
                let ready = drop_after_polls(operation.run(&store), polls).await;
                always_ready &= ready;

                let lock = other.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
                lock.rollback().await.unwrap();
                // The only connection of the store is free once it is through with the operation.
                let found = without_hanging(state(&store)).await;
                if ready || found != before {
                    assert_eq!(
                        found,
                        operation.after(),
                        "{operation:?} after {polls} polls"
                    );
                }
            }
            if always_ready {
                break;
            }
            assert!(polls < 100, "{operation:?} is never ready");
        }
    }
}
