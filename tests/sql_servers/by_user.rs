//! The sessions by user: what is the same on every server.

use std::sync::atomic::{AtomicU64, Ordering};

use cloakroom::store::{
    Link, Linked, LoginProgress, MARK_KEPT, SWEEP_GRACE, SessionLimit, UserIndex, Whose,
};

use super::*;

const DAY: i64 = 24 * HOUR;

fn index(store: &dyn SessionStore) -> &dyn UserIndex {
    store.user_index().unwrap()
}

/// Of a login at this time, whose request came a minute before.
fn link_at(linked_at: i64) -> Link {
    Link {
        linked_at: from_unix_millis(linked_at),
        expires_at: from_unix_millis(linked_at + DAY),
        refused_by_marks_from: from_unix_millis(linked_at - 60_000),
        progress: LoginProgress::Complete,
        limit: None,
    }
}

fn limited(limit: SessionLimit) -> Link {
    Link {
        limit: Some(limit),
        ..link_at(NOW)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operation {
    Link,
    LinkWithinLimit,
    LinkBeyondLimit,
    LinkOvertaken,
    Extend,
    Unlink,
    List,
    MarkUser,
    MarkEveryone,
    DeleteLinked,
}

impl Operation {
    pub(crate) const ALL: [Self; 10] = [
        Self::Link,
        Self::LinkWithinLimit,
        Self::LinkBeyondLimit,
        Self::LinkOvertaken,
        Self::Extend,
        Self::Unlink,
        Self::List,
        Self::MarkUser,
        // What it marks refuses no login of these.
        Self::MarkEveryone,
        Self::DeleteLinked,
    ];

    /// With [`HANDLE`] on the list of alice.
    async fn run(self, store: &dyn SessionStore) {
        let index = index(store);
        let link = async |link| index.link("alice", &OTHER, &link).await.unwrap();
        let early = from_unix_millis(NOW - HOUR);
        match self {
            Self::Link => assert_eq!(link(link_at(NOW)).await, Linked::Done(Vec::new())),
            Self::LinkWithinLimit => {
                let linked = link(limited(SessionLimit::EndOldest(1))).await;
                assert!(matches!(linked, Linked::Done(others) if others.len() == 1));
            }
            Self::LinkBeyondLimit => {
                let linked = link(limited(SessionLimit::RefuseLogin(1))).await;
                assert!(matches!(linked, Linked::Full(others) if others.len() == 1));
            }
            Self::LinkOvertaken => {
                let link = link_at(NOW);
                let linked = index.link("bob", &OTHER, &link).await.unwrap();
                assert_eq!(linked, Linked::Overtaken);
            }
            Self::Extend => {
                let later = from_unix_millis(NOW + 2 * DAY);
                index.extend("alice", &HANDLE, later).await.unwrap();
            }
            Self::Unlink => index.unlink("alice", &HANDLE).await.unwrap(),
            Self::List => assert_eq!(index.list("alice", now()).await.unwrap().len(), 1),
            Self::MarkUser => index.mark(Whose::User("alice"), early).await.unwrap(),
            Self::MarkEveryone => index.mark(Whose::Everyone, early).await.unwrap(),
            Self::DeleteLinked => {
                let done = index.delete_linked(None, 10).await.unwrap();
                assert_eq!((done.deleted, done.next), (1, None));
            }
        }
    }
}

async fn begin(store: &dyn SessionStore) {
    while index(store)
        .delete_linked(None, 100)
        .await
        .unwrap()
        .next
        .is_some()
    {}
    store.delete(&HANDLE).await.unwrap();
    store.create(&HANDLE, &record(1, NOW + HOUR)).await.unwrap();
    let linked = index(store).link("alice", &HANDLE, &link_at(NOW)).await;
    assert_eq!(linked.unwrap(), Linked::Done(Vec::new()));
    index(store).mark(Whose::User("bob"), now()).await.unwrap();
}

pub(crate) async fn every_operation_works(store: &dyn SessionStore) {
    for operation in Operation::ALL {
        begin(store).await;
        operation.run(store).await;
    }
}

/// As [`super::count_round_trips`].
pub(crate) async fn count_round_trips(
    store: &dyn SessionStore,
    proxy: &proxy::Proxy,
    ping: &[u8],
    is_free: impl Fn() -> bool,
) -> Vec<(Operation, usize)> {
    let settled = async || wait_until(async || is_free()).await;
    every_operation_works(store).await;
    let mut counts = Vec::new();
    for operation in Operation::ALL {
        begin(store).await;
        settled().await;
        proxy.take_flights();
        operation.run(store).await;
        settled().await;
        let flights = proxy.take_flights();
        let others = flights.iter().filter(|flight| flight.as_slice() != ping);
        counts.push((operation, others.count()));
    }
    counts
}

/// With a store of one connection: an operation that is dropped, wherever, is not half done, holds no lock, and
/// leaves the connection in step.
pub(crate) async fn drop_everything_everywhere(store: &dyn SessionStore) {
    for operation in Operation::ALL {
        for polls in 0.. {
            begin(store).await;
            let ready = drop_after_polls(operation.run(store), polls).await;
            let loaded = without_hanging(store.load(&HANDLE)).await.unwrap();
            let listed = index(store).list("alice", now()).await.unwrap();
            let is_listed = listed.iter().any(|one| one.handle == HANDLE);
            match operation {
                // The session first, and then its entry.
                Operation::DeleteLinked => assert!(is_listed || loaded.is_none()),
                Operation::Unlink => assert!(loaded.is_some()),
                _ => assert!(is_listed && loaded.is_some(), "{operation:?} {polls}"),
            }
            if ready {
                break;
            }
        }
    }
}

/// User ids that a collation may take for one another, and the longest.
pub(crate) async fn users_are_told_apart_byte_by_byte(store: &dyn SessionStore) {
    let longest = ["x".repeat(255), "x".repeat(254), "\u{1F600}".repeat(63)];
    let users: Vec<&str> = SIMILAR_USER_IDS
        .into_iter()
        .chain(["\u{1F600}", "\u{1F601}", "a\0", "a\0\0"])
        .chain(longest.iter().map(String::as_str))
        .collect();
    for (number, user_id) in (0..).zip(&users) {
        let handle = Handle::from_bytes([number; 16]);
        let linked = index(store).link(user_id, &handle, &link_at(NOW)).await;
        assert_eq!(linked.unwrap(), Linked::Done(Vec::new()));
    }
    index(store).mark(Whose::User("a"), now()).await.unwrap();
    for (number, user_id) in (0..).zip(&users) {
        let listed = index(store).list(user_id, now()).await.unwrap();
        let handles: Vec<_> = listed.iter().map(|one| one.handle).collect();
        assert_eq!(handles, [Handle::from_bytes([number; 16])], "{user_id:?}");
        let linked = index(store).link(user_id, &HANDLE, &link_at(NOW)).await;
        let is_refused = linked.unwrap() == Linked::Overtaken;
        assert_eq!(is_refused, *user_id == "a", "{user_id:?}");
    }

    let too_long = "x".repeat(256);
    let linked = index(store).link(&too_long, &HANDLE, &link_at(NOW)).await;
    linked.unwrap_err();
    let marked = index(store).mark(Whose::User(&too_long), now()).await;
    marked.unwrap_err();
    let listed = index(store).list(&longest[0], now()).await.unwrap();
    assert_eq!(listed.len(), 2, "a longer user id was cut");
}

/// A sweep deletes entries and marks that are of no use any more, in batches, and says nothing of them. `rows`
/// counts those of both tables.
pub(crate) async fn a_sweep_takes_old_entries_and_marks(
    store: &dyn SessionStore,
    rows: impl AsyncFn() -> (i64, i64),
) {
    for number in 0..5 {
        let handle = Handle::from_bytes([number; 16]);
        let link = link_at(NOW + i64::from(number));
        index(store).link("alice", &handle, &link).await.unwrap();
        let user_id = format!("user {number}");
        let mark = index(store).mark(Whose::User(&user_id), link.linked_at);
        mark.await.unwrap();
    }
    index(store).mark(Whose::Everyone, now()).await.unwrap();
    // And the rows of alice and of everyone, by which logins lock them.
    assert_eq!(rows().await, (5, 7));

    let just_kept = from_unix_millis(NOW - 1) + MARK_KEPT + SWEEP_GRACE;
    for _ in 0..3 {
        assert_eq!(store.delete_expired(just_kept, 10).await.unwrap(), 0);
    }
    assert_eq!(rows().await, (5, 6), "a mark that counts is gone");
    let later = just_kept + Duration::from_millis(10);
    for left in [(3, 4), (1, 2), (0, 1), (0, 1)] {
        assert_eq!(store.delete_expired(later, 2).await.unwrap(), 0);
        assert_eq!(rows().await, left);
    }
}

/// Logins, endings and sweeps at once, on the same few users: whatever gets in each other's way, none fails,
/// and what is left is listed.
pub(crate) async fn nothing_fails_under_load(store: Arc<dyn SessionStore>) {
    const ROUNDS: u64 = 40;
    let numbers = Arc::new(AtomicU64::new(0));
    let logins = (0..6_u64).map(|task| {
        let (store, numbers) = (store.clone(), numbers.clone());
        let login = async move {
            for round in 0..ROUNDS {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let mut bytes = [0; 16];
                bytes[..8]
                    .copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
                let handle = Handle::from_bytes(bytes);
                let user_id = format!("user {}", (task + round) % 3);
                // Some sessions have expired already, for the sweeps.
                let expires_at = NOW + HOUR * (round as i64 % 3 - 1);
                store
                    .create(&handle, &record(number, expires_at))
                    .await
                    .unwrap();
                let link = Link {
                    expires_at: from_unix_millis(expires_at),
                    ..limited(SessionLimit::EndOldest(3))
                };
                let linked = index(&*store).link(&user_id, &handle, &link).await.unwrap();
                let Linked::Done(others) = linked else {
                    panic!("{linked:?}");
                };
                for other in others.iter().rev().skip(2) {
                    store.delete(&other.handle).await.unwrap();
                    index(&*store)
                        .unlink(&user_id, &other.handle)
                        .await
                        .unwrap();
                }
            }
        };
        Box::pin(login) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
    });
    let others = (0..4).map(|task| {
        let store = store.clone();
        let other = async move {
            for _ in 0..ROUNDS {
                let early = from_unix_millis(NOW - HOUR);
                match task {
                    0 => drop(index(&*store).delete_linked(None, 10).await.unwrap()),
                    1 => drop(store.delete_expired(now(), 10).await.unwrap()),
                    2 => index(&*store).mark(Whose::Everyone, early).await.unwrap(),
                    _ => index(&*store)
                        .mark(Whose::User("user 1"), early)
                        .await
                        .unwrap(),
                }
            }
        };
        Box::pin(other) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
    });
    at_once(logins.chain(others).collect()).await;

    // Every session that lives is on a list: with those, all are gone.
    while index(&*store)
        .delete_linked(None, 100)
        .await
        .unwrap()
        .next
        .is_some()
    {}
    for number in 0..6 * ROUNDS {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        let Some(record) = store.load(&Handle::from_bytes(bytes)).await.unwrap() else {
            continue;
        };
        assert!(record.expires_at < now(), "alive and on no list");
    }
}
