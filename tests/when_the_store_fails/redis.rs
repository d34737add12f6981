//! Redis.

use cloakroom::store::RedisStore;

use super::answer::By;
use super::app_on::{AppOn, STORE_TIMEOUT, UNDECODABLE, failed, late};
use super::proxy::Proxy;
use super::redis_server::{Server, connect, key};

/// Starts a server of the test's own, or leaves the test out.
macro_rules! server {
    ($($option:expr),*) => {
        match Server::start(&[$($option),*]).await {
            Some(server) => server,
            None => return,
        }
    };
}

#[tokio::test]
async fn redis_down_is_a_503_in_the_time_for_one_call() {
    let mut server = server!("--appendonly", "yes", "--appendfsync", "always");
    let mut app = AppOn::new(server.store().await).await;
    app.impatiently_over(server.store().await);
    server.kill();
    let answer = app.post_in_still_time("/set/a/2").await;
    answer
        .is_unavailable(By::Extractor)
        .logs_what_begins(&[&failed("load")])
        .takes_at_most(STORE_TIMEOUT);
    server.restart().await;
    app.is_unharmed_in_the_end("nobody: a=1").await;
}

#[tokio::test]
async fn redis_silent_is_a_503_after_the_time_for_one_call() {
    let server = server!();
    let proxy = Proxy::to(server.port()).await;
    let mut app = AppOn::new(server.store().await).await;
    app.impatiently_over(RedisStore::new(connect(proxy.url()).await));
    app.is_unharmed("nobody: a=1").await;
    proxy.stall();
    let answer = app.post_in_still_time("/set/a/2").await;
    answer
        .is_unavailable(By::Extractor)
        .logs(&[&late("load")])
        .takes(STORE_TIMEOUT);
    proxy.resume();
    app.is_unharmed_in_the_end("nobody: a=1").await;
}

/// Not even read: a replica may not have heard of an ending yet.
#[tokio::test]
async fn redis_read_only_as_a_replica_is_a_503_for_every_session() {
    let (server, master) = (server!(), server!());
    let app = AppOn::new(server.store().await).await;
    let port = master.port().to_string();
    // It keeps its own data until it has heard of its master's, which it never does.
    server
        .ask::<()>(&["CONFIG", "SET", "masterauth", "wrong"])
        .await;
    master
        .ask::<()>(&["CONFIG", "SET", "requirepass", "other"])
        .await;
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).await;
    let line = failed("load")
        + "cannot load a session from Redis: the server is a read-only replica, of which no sessions are loaded either";
    for path in ["/set/a/2", "/logout"] {
        let answer = app.post(path).await;
        answer
            .is_unavailable(By::Extractor)
            .logs_what_begins(&[&line]);
    }
    server.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    app.is_unharmed("nobody: a=1").await;
}

#[tokio::test]
async fn redis_with_too_few_replicas_is_a_503_for_every_session() {
    let server = server!();
    let app = AppOn::new(server.store().await).await;
    server
        .ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"])
        .await;
    let line = failed("load")
        + "cannot load a session from Redis: the server has fewer replicas than its min-replicas-to-write";
    for path in ["/set/a/2", "/logout"] {
        let answer = app.post(path).await;
        answer
            .is_unavailable(By::Extractor)
            .logs_what_begins(&[&line]);
    }
    server
        .ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"])
        .await;
    app.is_unharmed("nobody: a=1").await;
}

#[tokio::test]
async fn redis_full_is_a_503_for_writes_and_reading_goes_on() {
    let server = server!("--maxmemory-policy", "noeviction");
    let app = AppOn::new(server.store().await).await;
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    const WHY: &str =
        "the server has reached its maxmemory, and its maxmemory-policy (rightly) evicts nothing";
    let create = format!(
        "{}cannot create a session in Redis: {WHY}",
        failed("create")
    );
    let update = format!(
        "{}cannot update a session in Redis: {WHY}",
        failed("update")
    );
    let newcomer = app.newcomer();
    let answer = newcomer.post("/set/b/2").await;
    answer
        .is_unavailable(By::Commit)
        .logs_what_begins(&[&create]);
    let answer = app.post("/set/a/2").await;
    answer
        .is_unavailable(By::Commit)
        .logs_what_begins(&[&update]);
    app.is_unharmed("nobody: a=1").await;
    // What gives room back goes on.
    app.post("/logout").await.logs(&[]);

    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let answer = newcomer.post("/set/b/2").await;
    answer.logs(&[]);
    newcomer.is_unharmed("nobody: b=2").await;
}

#[tokio::test]
async fn redis_garbage_in_a_record_is_no_session_and_the_record_stays() {
    let server = server!();
    let app = AppOn::new(server.store().await).await;
    let key = key(&app.handle());
    let whole: Vec<u8> = server.ask(&["GET", &key]).await;
    for garbage in ["\u{1}garbage that nobody wrote", "", "\u{1}"] {
        server.ask::<()>(&["SET", &key, garbage]).await;
        let answer = app.get("/show").await;
        answer
            .is_the_page("no session")
            .logs_what_begins(&[UNDECODABLE]);
        assert_eq!(server.ask::<String>(&["GET", &key]).await, garbage);
    }
    let mut command = redis::cmd("SET");
    command.arg(&key).arg(whole);
    let mut connection = server.connect().await;
    command.query_async::<()>(&mut connection).await.unwrap();
    app.is_unharmed("nobody: a=1").await;
}

#[tokio::test]
async fn redis_another_type_under_the_key_is_no_session_and_stays() {
    let server = server!();
    let app = AppOn::new(server.store().await).await;
    let key = key(&app.handle());
    let away = format!("{key}-away");
    server.ask::<()>(&["RENAME", &key, &away]).await;
    server.ask::<()>(&["RPUSH", &key, "a list"]).await;
    let answer = app.get("/show").await;
    answer
        .is_the_page("no session")
        .logs_what_begins(&[&format!(
            "{UNDECODABLE}cannot load a session from Redis: the key holds something of another type"
        )]);
    assert_eq!(server.ask::<String>(&["TYPE", &key]).await, "list");
    server.ask::<()>(&["RENAME", &away, &key]).await;
    app.is_unharmed("nobody: a=1").await;
}
