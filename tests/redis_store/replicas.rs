//! What waiting for replicas costs, and what it says where they are missing.

use super::*;

/// For a replica that is there, and for one that is not.
const AMPLE: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(50);

async fn replica_of(master: &Server) -> Option<Server> {
    let port = master.port().to_string();
    let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {port}")]).await?;
    master.until_followed().await;
    Some(replica)
}

async fn waiting_store(master: &Server, timeout: Duration) -> RedisStore {
    let store = master.store().await;
    store.wait_for_replicas(1, timeout, master.connect().await)
}

async fn still_waits(master: &Server) -> bool {
    let info: String = master.ask(&["INFO", "clients"]).await;
    info.contains("blocked_clients:1\r\n")
}

/// What a `WAIT` itself writes for replicas: the question how far they are.
const QUESTION: u64 = 37;

/// How many bytes the master has written for replicas.
async fn replicated(master: &Server) -> u64 {
    let info: String = master.ask(&["INFO", "replication"]).await;
    let offset = info
        .lines()
        .find_map(|line| line.strip_prefix("master_repl_offset:"));
    offset.unwrap().parse().unwrap()
}

#[tokio::test]
async fn with_a_replica_everything_is_as_without() {
    let master = server!();
    let Some(replica) = replica_of(&master).await else {
        return;
    };
    let store = waiting_store(&master, AMPLE).await;
    store.create(&handle(1), &record(1)).await.unwrap();
    update_and_touch(&store, 1).await;
    assert!(store.delete(&handle(1)).await.unwrap());
    assert!(!store.delete(&handle(1)).await.unwrap());
    drop(replica);
}

#[tokio::test]
async fn without_one_a_login_and_an_ending_are_unconfirmed_however_often_they_are_tried() {
    let master = server!();
    let Some(mut replica) = replica_of(&master).await else {
        return;
    };
    let patient = waiting_store(&master, AMPLE).await;
    patient.create(&handle(1), &record(1)).await.unwrap();
    let store = waiting_store(&master, SOON).await;
    replica.kill();
    master
        .until_info_says("replication", "connected_slaves:0")
        .await;

    let (first, login, other) = (Version::from_u64(1), record(2), record(3));
    for _ in 0..2 {
        // From Redis 7.2 on, a WAIT waits for nothing where its connection has written nothing.
        let before = replicated(&master).await;
        let outcome = store.update(&handle(1), &login, first, now()).await;
        assert!(replicated(&master).await > before + QUESTION);
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unconfirmed);
        assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
    }
    let outcome = store.update(&handle(1), &other, first, now()).await;
    assert_eq!(outcome.unwrap(), Outcome::Conflict);
    let fresh_login = store.create(&handle(2), &record(1)).await;
    assert_eq!(fresh_login.unwrap_err().kind(), StoreErrorKind::Unconfirmed);
    for _ in 0..3 {
        let before = replicated(&master).await;
        let error = store.delete(&handle(1)).await.unwrap_err();
        assert!(replicated(&master).await > before + QUESTION);
        assert_eq!(error.kind(), StoreErrorKind::Unconfirmed);
    }
    assert!(store.load(&handle(1)).await.unwrap().is_none());

    // Only an activity, or a visitor nobody knows.
    let anonymous = Record {
        user_id: None,
        ..record(1)
    };
    store.create(&handle(3), &anonymous).await.unwrap();
    let (later, version) = (now() + 2 * HOUR, anonymous.version);
    let outcome = store.touch(&handle(3), later, version, now()).await;
    assert_eq!(outcome.unwrap(), Outcome::Done);

    replica.restart().await;
    master.until_followed().await;
    assert!(!patient.delete(&handle(1)).await.unwrap());
    assert!(patient.delete(&handle(2)).await.unwrap());
}

#[tokio::test]
async fn it_holds_up_no_load() {
    let master = server!();
    let store = waiting_store(&master, AMPLE).await;
    let anonymous = Record {
        user_id: None,
        ..record(1)
    };
    store.create(&handle(1), &anonymous).await.unwrap();
    // The server knows the script from here on, so it is asked to wait only once below.
    let hasty = waiting_store(&master, SOON).await;
    assert!(hasty.delete(&handle(2)).await.is_err());
    let ending = tokio::spawn({
        let store = store.clone();
        async move { store.delete(&handle(2)).await }
    });
    master.until_info_says("clients", "blocked_clients:1").await;
    assert!(store.load(&handle(1)).await.unwrap().is_some());
    assert!(still_waits(&master).await);
    ending.abort();
}

#[tokio::test]
async fn the_write_and_the_wait_are_one_round_trip() {
    let master = server!();
    let Some(_replica) = replica_of(&master).await else {
        return;
    };
    let proxy = Proxy::to(master.port()).await;
    let connection = connect(proxy.url()).await;
    let store = master.store().await;
    let store = store.wait_for_replicas(1, AMPLE, connection);
    for number in 0..2 {
        let before = proxy.round_trips();
        store.create(&handle(number), &record(1)).await.unwrap();
        update_and_touch(&store, number).await;
        store.delete(&handle(number)).await.unwrap();
        // The first time, each script is told to the server.
        let trips = proxy.round_trips() - before;
        assert_eq!(trips, if number == 0 { 5 } else { 3 });
    }
}

/// So it is not the layer that gives up, which would look on the master whether it was done.
#[tokio::test]
async fn one_that_waits_behind_others_is_unconfirmed_in_the_end() {
    let master = server!();
    let connection = master.connect().await;
    let patient = master.store().await;
    let patient = patient.wait_for_replicas(1, AMPLE, connection.clone());
    let hasty = master.store().await.wait_for_replicas(1, SOON, connection);
    let in_front = tokio::spawn(async move { patient.delete(&handle(1)).await });
    master.until_info_says("clients", "blocked_clients:1").await;
    let error = hasty.delete(&handle(2)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unconfirmed);
    assert!(error.to_string().contains("within 1.05s"), "{error}");
    assert!(still_waits(&master).await);
    in_front.abort();
}
