//! The lists of users, and the marks.

use std::collections::BTreeSet;

use cloakroom::clock::from_unix_millis;
use cloakroom::store::{
    Handle, Link, Linked, LoginProgress, MARK_KEPT, SessionLimit, UserIndex, Whose,
};
use redis::cluster::ClusterClientBuilder;
use time::OffsetDateTime;

use super::*;

/// The SHA-256 of `alice`.
const ALICE: &str = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90";
const DAY: Duration = Duration::from_secs(24 * 3_600);
const SECOND: Duration = Duration::from_secs(1);

fn link(expires_at: OffsetDateTime) -> Link {
    Link {
        linked_at: now(),
        expires_at,
        refused_by_marks_from: now() - SECOND,
        progress: LoginProgress::Complete,
        limit: None,
    }
}

async fn linked(store: &RedisStore, user_id: &str, number: u64) {
    let linked = store
        .link(user_id, &handle(number), &link(now() + DAY))
        .await;
    assert_eq!(linked.unwrap(), Linked::Done(Vec::new()));
}

async fn listed(store: &RedisStore, user_id: &str) -> Vec<Handle> {
    let list = store.list(user_id, now()).await.unwrap();
    list.iter().map(|entry| entry.handle).collect()
}

fn user_key() -> String {
    format!("cloakroom:{ALICE}:user")
}

#[tokio::test]
async fn a_user_has_one_key_of_the_hash_of_their_id_and_is_noted_in_another() {
    let server = server!();
    let store = server.store().await;
    linked(&store, "alice", 1).await;
    linked(&store, "alice", 2).await;
    let keys = async || server.ask::<BTreeSet<String>>(&["KEYS", "*"]).await;
    let note = "cloakroom:2b:users".to_owned();
    assert_eq!(keys().await, [note.clone(), user_key()].into());
    store.mark(Whose::Everyone, now() - DAY).await.unwrap();
    assert!(keys().await.contains("cloakroom:everyone"));
    for number in [1, 2, 3] {
        store.unlink("alice", &handle(number)).await.unwrap();
    }
    assert!(!keys().await.contains(&user_key()));

    for user_id in ["", "{x}", "a}{b", "\r\n*", "\0", &"ä".repeat(10_000)] {
        linked(&store, user_id, 7).await;
        assert_eq!(listed(&store, user_id).await, [handle(7)], "{user_id:?}");
    }
    let shop = server.store().await.with_prefix("shop:").unwrap();
    assert!(listed(&shop, "").await.is_empty());
}

#[tokio::test]
async fn a_users_key_is_removed_a_grace_period_after_its_last_entry_and_its_mark() {
    let server = server!();
    let store = server.store().await;
    let start = now();
    let removed_at = async || {
        let key = user_key();
        let millis: i64 = server.ask(&["PEXPIRETIME", &key]).await;
        from_unix_millis(millis) - SWEEP_GRACE
    };
    let short = start + HOUR + Duration::from_millis(7);
    let long = start + 2 * HOUR + Duration::from_millis(9);
    for (number, expires_at) in [(1, long), (2, short)] {
        let (handle, link) = (handle(number), link(expires_at));
        store.link("alice", &handle, &link).await.unwrap();
        assert_eq!(removed_at().await, long);
    }
    store.unlink("alice", &handle(1)).await.unwrap();
    assert_eq!(removed_at().await, short);
    let second = handle(2);
    store.extend("alice", &second, long + HOUR).await.unwrap();
    store.extend("alice", &second, short).await.unwrap();
    assert_eq!(removed_at().await, long + HOUR);
    let note: i64 = server.ask(&["PEXPIRETIME", "cloakroom:2b:users"]).await;
    assert_eq!(from_unix_millis(note) - SWEEP_GRACE, long + HOUR);
    store.mark(Whose::User("alice"), start).await.unwrap();
    assert_eq!(removed_at().await, start + MARK_KEPT);
    store.unlink("alice", &second).await.unwrap();
    assert_eq!(removed_at().await, start + MARK_KEPT);
    store.mark(Whose::Everyone, start).await.unwrap();
    let everyone: i64 = server.ask(&["PEXPIRETIME", "cloakroom:everyone"]).await;
    assert_eq!(from_unix_millis(everyone) - SWEEP_GRACE, start + MARK_KEPT);
}

#[tokio::test]
async fn a_link_drops_what_is_of_no_use_from_the_list_and_the_notes() {
    let server = server!();
    let store = server.store().await;
    let start = now();
    for number in 0..20 {
        linked(&store, "alice", number).await;
    }
    // Of the same key as alice.
    let neighbour = "user 28";
    let later = Link {
        linked_at: start + 2 * DAY,
        ..link(start + 3 * DAY)
    };
    for user_id in ["alice", neighbour] {
        store.link(user_id, &handle(99), &later).await.unwrap();
    }
    let members: i64 = server.ask(&["ZCARD", &user_key()]).await;
    assert_eq!(members, 2);
    let noted: i64 = server.ask(&["ZCARD", "cloakroom:2b:users"]).await;
    assert_eq!(noted, 1, "alice, whose note was extended");
}

#[tokio::test]
async fn each_operation_on_lists_is_one_round_trip() {
    let server = server!();
    let proxy = Proxy::to(server.port()).await;
    let store = RedisStore::new(connect(proxy.url()).await);
    let (alice, first) = (Whose::User("alice"), handle(1));
    let each = async || {
        let limited = Link {
            limit: Some(SessionLimit::EndOldest(1)),
            ..link(now() + DAY)
        };
        let before = proxy.round_trips();
        let mut trips = Vec::new();
        store.link("alice", &first, &limited).await.unwrap();
        trips.push(proxy.round_trips());
        listed(&store, "alice").await;
        trips.push(proxy.round_trips());
        store.mark(alice, now() - HOUR).await.unwrap();
        trips.push(proxy.round_trips());
        store.mark(Whose::Everyone, now() - HOUR).await.unwrap();
        trips.push(proxy.round_trips());
        store.extend("alice", &first, now() + DAY).await.unwrap();
        trips.push(proxy.round_trips());
        store.unlink("alice", &first).await.unwrap();
        trips.push(proxy.round_trips());
        trips.iter().map(|trips| trips - before).collect::<Vec<_>>()
    };
    // The first call of each script tells the server about it.
    each().await;
    // An extension is two, one of them for the note.
    assert_eq!(each().await, [1, 2, 3, 4, 6, 7]);
}

/// A login that everyone's mark refuses is taken back, and what was there before it is there again.
#[tokio::test]
async fn a_link_that_everyones_mark_refuses_changes_nothing() {
    let server = server!();
    let store = server.store().await;
    let (first, second) = (handle(1), handle(2));
    let pending = Link {
        progress: LoginProgress::Pending,
        ..link(now() + 2 * DAY)
    };
    store.link("alice", &first, &pending).await.unwrap();
    let all = async || {
        let key = user_key();
        let members: Vec<Vec<u8>> = server.ask(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]).await;
        let removed_at: i64 = server.ask(&["PEXPIRETIME", &key]).await;
        (members, removed_at)
    };
    let before = all().await;
    store.mark(Whose::Everyone, now()).await.unwrap();
    let again = Link {
        linked_at: pending.linked_at + SECOND,
        ..link(now() + 3 * DAY)
    };
    for handle in [&first, &second, &first] {
        let outcome = store.link("alice", handle, &again).await.unwrap();
        assert_eq!(outcome, Linked::Overtaken);
        assert_eq!(all().await, before);
    }
    let bobs = store.link("bob", &second, &again).await.unwrap();
    assert_eq!(bobs, Linked::Overtaken);
    assert!(listed(&store, "bob").await.is_empty());
}

#[tokio::test]
async fn lists_survive_a_flush_of_the_servers_scripts() {
    let server = server!();
    let store = server.store().await;
    for number in 0..3 {
        server.ask::<String>(&["SCRIPT", "FLUSH"]).await;
        linked(&store, "alice", number).await;
        server.ask::<String>(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(listed(&store, "alice").await.len(), 1);
        server.ask::<String>(&["SCRIPT", "FLUSH"]).await;
        store.unlink("alice", &handle(number)).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_without_memory_refuses_logins_and_marks_and_still_takes_from_lists() {
    let server = server!("--maxmemory-policy", "noeviction");
    let store = server.store().await;
    linked(&store, "alice", 1).await;
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let (second, alice) = (handle(2), Whose::User("alice"));
    for error in [
        store
            .link("alice", &second, &link(now() + DAY))
            .await
            .unwrap_err(),
        store.mark(alice, now()).await.unwrap_err(),
        store.mark(Whose::Everyone, now()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.to_string().contains("maxmemory"), "{error}");
    }
    assert_eq!(listed(&store, "alice").await, [handle(1)]);
    store.unlink("alice", &handle(1)).await.unwrap();
    assert!(listed(&store, "alice").await.is_empty());
}

#[tokio::test]
async fn a_replica_is_asked_for_no_list() {
    let master = server!();
    let replica = server!();
    let store = replica.store().await;
    linked(&store, "alice", 1).await;
    let port = master.port().to_string();
    replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).await;
    replica
        .until_info_says("replication", "master_link_status:up")
        .await;
    let (first, alice) = (handle(1), Whose::User("alice"));
    let in_a_day = now() + DAY;
    for error in [
        store.list("alice", now()).await.unwrap_err(),
        store
            .link("alice", &first, &link(in_a_day))
            .await
            .unwrap_err(),
        store.extend("alice", &first, in_a_day).await.unwrap_err(),
        store.unlink("alice", &first).await.unwrap_err(),
        store.mark(alice, now()).await.unwrap_err(),
        store.delete_linked(None, 10).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.to_string().contains("read-only replica"), "{error}");
    }
}

#[tokio::test]
async fn a_key_of_another_type_is_no_list() {
    let server = server!();
    let store = server.store().await;
    server.ask::<()>(&["SET", &user_key(), "x"]).await;
    let first = handle(1);
    for error in [
        store.list("alice", now()).await.unwrap_err(),
        store
            .link("alice", &first, &link(now() + DAY))
            .await
            .unwrap_err(),
        store.mark(Whose::User("alice"), now()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Undecodable);
    }
    assert_eq!(server.ask::<String>(&["GET", &user_key()]).await, "x");
}

/// What a failover loses of them would have a login slip past an ending, or be missed by it.
#[tokio::test]
async fn links_extensions_and_marks_wait_for_replicas() {
    let server = server!();
    let store = server.store().await;
    linked(&store, "alice", 1).await;
    let waiting = store.wait_for_replicas(1, Duration::from_millis(10), server.connect().await);
    let (first, alice) = (handle(1), Whose::User("alice"));
    for _ in 0..2 {
        for error in [
            waiting
                .link("alice", &first, &link(now() + DAY))
                .await
                .unwrap_err(),
            waiting
                .extend("alice", &first, now() + DAY)
                .await
                .unwrap_err(),
            waiting.mark(alice, now() - HOUR).await.unwrap_err(),
            waiting
                .mark(Whose::Everyone, now() - HOUR)
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.kind(), StoreErrorKind::Unconfirmed, "{error}");
        }
    }
    waiting.unlink("alice", &first).await.unwrap();
    waiting.mark(alice, now()).await.unwrap_err();
    let outcome = waiting.link("alice", &first, &link(now() + DAY)).await;
    assert_eq!(
        outcome.unwrap(),
        Linked::Overtaken,
        "there is nothing to confirm"
    );
}

#[tokio::test]
async fn all_that_is_linked_is_found_however_many_share_a_time() {
    let server = server!();
    let store = server.store().await;
    let expires_at = now() + DAY;
    const USERS: u64 = 3_000;
    for number in 0..USERS {
        let (user_id, handle) = (format!("user {number}"), handle(number));
        store
            .link(&user_id, &handle, &link(expires_at))
            .await
            .unwrap();
    }
    // Many sessions of one user, of which some have a record.
    for number in USERS..USERS + 100 {
        linked(&store, "alice", number).await;
    }
    for number in (0..USERS + 100).step_by(10) {
        store.create(&handle(number), &record(1)).await.unwrap();
    }
    let (mut deleted, mut from) = (0, None);
    loop {
        let step = store.delete_linked(from.as_ref(), 50).await.unwrap();
        deleted += step.deleted;
        from = match step.next {
            None => break,
            next => next,
        };
    }
    assert_eq!(deleted, 310);
    let keys: Vec<String> = server.ask(&["KEYS", "*"]).await;
    assert!(keys.iter().all(|key| key.ends_with(":users")), "{keys:?}");
}

#[tokio::test]
async fn a_cluster_is_ended_on_all_of_its_masters() {
    let Some(urls) = servers::url("CLOAKROOM_TEST_REDIS_CLUSTER_URLS") else {
        return;
    };
    let client = ClusterClientBuilder::new(urls.split(',')).build().unwrap();
    let store = RedisStore::new(client.get_async_connection().await.unwrap())
        .with_prefix(&format!("everyone-{}:", rand::random::<u32>()))
        .unwrap();
    for number in 0..200 {
        let handle = handle(number);
        store.create(&handle, &record(1)).await.unwrap();
        linked(&store, &format!("user {number}"), number).await;
    }
    store.mark(Whose::Everyone, now() - HOUR).await.unwrap();
    let step = store.delete_linked(None, 1_000).await.unwrap();
    assert_eq!((step.deleted, step.next), (200, None));
    for number in 0..200 {
        assert!(store.load(&handle(number)).await.unwrap().is_none());
    }
}

/// Of a user with one session, with five, and with a hundred.
#[tokio::test]
async fn a_list_takes_as_much_memory_as_documented() {
    let server = server!();
    let store = server.store().await;
    let mut number = 0;
    for (sessions, documented) in [(1, 390..=470), (5, 95..=125), (100, 235..=300)] {
        let before = used_memory_less_clients(&server).await;
        let users = 2_048 / sessions;
        for user in 0..users {
            for _ in 0..sessions {
                number += 1;
                linked(&store, &format!("user {user} of {sessions}"), number).await;
            }
        }
        let each = (used_memory_less_clients(&server).await - before) / (users * sessions);
        println!("{sessions} sessions a user: {each} bytes each");
        if is_redis_7(&server).await {
            assert!(documented.contains(&each), "{sessions}: {each} bytes");
        }
    }
}
