//! What a server may be set to: to evict sessions, and to let the store do no more than it needs.

use cloakroom::store::{Link, Linked, LoginProgress, UserIndex, Whose};
use time::OffsetDateTime;

use super::*;

/// To its user a session that was evicted has ended, and none of it comes back.
#[tokio::test]
async fn a_session_that_the_server_evicts_is_gone_and_no_other_is_stale() {
    const SESSIONS: u64 = 1_000;
    let server = server!("--maxmemory-policy", "allkeys-lru");
    let store = server.store().await;
    let large = |version| Record {
        payload: vec![version as u8; 10_000].into(),
        ..record(version)
    };
    let version = Version::from_u64;
    for number in 0..SESSIONS {
        let handle = handle(number);
        store.create(&handle, &large(1)).await.unwrap();
        let update = store.update(&handle, &large(2), version(1), now()).await;
        assert_eq!(update.unwrap(), Outcome::Done);
        if number % 10 == 0 {
            assert!(store.delete(&handle).await.unwrap());
        }
    }
    let half = (used_memory(&server).await / 2).to_string();
    server
        .ask::<()>(&["CONFIG", "SET", "maxmemory", &half])
        .await;

    let (mut kept, mut evicted) = (0, 0);
    for number in 0..SESSIONS {
        let handle = handle(number);
        let touched = store.touch(&handle, now() + HOUR, version(2), now()).await;
        let found = store.load(&handle).await.unwrap();
        match (touched.unwrap(), found) {
            (Outcome::Done, Some(found)) => {
                assert_eq!(found.payload, large(2).payload);
                kept += 1;
            }
            // The server evicts between the calls as well, so that one that was touched may be gone.
            (Outcome::Done | Outcome::Missing, None) => {
                let update = store.update(&handle, &large(3), version(2), now()).await;
                assert_eq!(update.unwrap(), Outcome::Missing);
                evicted += 1;
            }
            (touched, found) => panic!("{touched:?} with version 2, and then {found:?}"),
        }
        if number % 10 == 0 {
            assert!(store.load(&handle).await.unwrap().is_none());
        }
    }
    assert!(kept > 0 && evicted > SESSIONS / 10, "{kept}, {evicted}");
}

/// The commands that the documentation lists are all that the store needs.
#[tokio::test]
async fn a_user_with_the_documented_rights_alone_is_enough() {
    let server = server!();
    let rights = "~cloakroom:* +set +getex +del +setrange +getrange +exists +pexpireat +eval +evalsha \
                  +zadd +zrem +zscore +zrange +zrangebyscore +zrevrangebyscore +zremrangebyscore +wait";
    let mut words = vec!["ACL", "SETUSER", "app", "on", ">secret"];
    words.extend(rights.split_whitespace());
    server.ask::<()>(&words).await;
    let url = server.url().replace("://", "://app:secret@");
    let store = RedisStore::new(connect(url.clone()).await);
    let waiting = store.clone().wait_for_replicas(0, HOUR, connect(url).await);
    for store in [&store, &waiting] {
        store.create(&handle(1), &record(1)).await.unwrap();
        update_and_touch(store, 1).await;
        assert!(store.load(&handle(1)).await.unwrap().is_some());
        assert!(store.delete(&handle(1)).await.unwrap());
        assert!(!store.delete(&handle(1)).await.unwrap());
        let any = Version::from_u64(1);
        let update = store.update(&handle(1), &record(2), any, now()).await;
        assert_eq!(update.unwrap(), Outcome::Missing);
        sessions_by_user(store).await;
    }
    let elsewhere = store.with_prefix("other:").unwrap();
    let error = elsewhere.load(&handle(1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("may not run"), "{error}");
}

/// Every operation of the lists of users.
async fn sessions_by_user(store: &RedisStore) {
    let link = |now: OffsetDateTime| Link {
        linked_at: now,
        expires_at: now + HOUR,
        refused_by_marks_from: now,
        progress: LoginProgress::Complete,
        limit: None,
    };
    for number in [1, 2] {
        store.create(&handle(number), &record(1)).await.unwrap();
        let linked = store.link("alice", &handle(number), &link(now())).await;
        assert_eq!(linked.unwrap(), Linked::Done(Vec::new()));
    }
    let later = now() + 2 * HOUR;
    store.extend("alice", &handle(1), later).await.unwrap();
    assert_eq!(store.list("alice", now()).await.unwrap().len(), 2);
    store.unlink("alice", &handle(1)).await.unwrap();
    assert_eq!(store.list("alice", now()).await.unwrap().len(), 1);
    for whose in [Whose::User("alice"), Whose::Everyone] {
        store.mark(whose, now() - HOUR).await.unwrap();
    }
    let mut after = None;
    loop {
        let deleted = store.delete_linked(after.as_ref(), 100).await.unwrap();
        after = deleted.next;
        if after.is_none() {
            break;
        }
    }
    assert!(store.load(&handle(2)).await.unwrap().is_none());
    assert!(store.delete(&handle(1)).await.unwrap());
}
