//! `Sessions` in handlers, in the state of a router, and in what goes on after a request.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Result;
use axum::routing::{get, post};
use cloakroom::store::MemoryStore;
use cloakroom::testing::{
    Calls, FailingStore, ManualClock, Operation, Pause, PausingStore, SpyStore, TestClient, Times,
    When, new_session,
};
use cloakroom::{ErrorKind, Session, SessionLayer, Sessions};
use http::StatusCode;
use tokio::runtime::Runtime;

async fn log_in(session: Session, Path(user_id): Path<String>) -> Result<()> {
    Ok(session.login(user_id).await?)
}

async fn who(session: Session) -> String {
    session.user_id().as_deref().unwrap_or("nobody").to_owned()
}

async fn disable(sessions: Sessions, Path(user_id): Path<String>) -> Result<String> {
    Ok(sessions.end_all(&user_id).await?.to_string())
}

async fn disable_by_state(
    State(sessions): State<Sessions>,
    Path(user_id): Path<String>,
) -> Result<String> {
    Ok(sessions.end_all(&user_id).await?.to_string())
}

fn app(layer: SessionLayer) -> Router {
    Router::new()
        .route("/login/{user_id}", post(log_in))
        .route("/", get(who))
        .route("/disable/{user_id}", post(disable))
        .route("/disable-by-state/{user_id}", post(disable_by_state))
        .with_state(layer.sessions())
        .layer(layer)
}

#[tokio::test]
async fn a_handler_ends_the_sessions_of_a_user_by_the_extractor_or_by_the_state() {
    for path in ["/disable/alice", "/disable-by-state/alice"] {
        let app = app(SessionLayer::new(MemoryStore::new()));
        let [alice, bob, admin] = [(); 3].map(|()| TestClient::new(app.clone()));
        alice
            .post("/login/alice")
            .await
            .assert_status(StatusCode::OK);
        bob.post("/login/bob").await.assert_status(StatusCode::OK);

        assert_eq!(admin.post(path).await.text(), "1");
        assert_eq!(alice.get("/").await.text(), "nobody");
        assert_eq!(bob.get("/").await.text(), "bob");
    }
}

#[tokio::test]
async fn the_extractor_loads_no_session_and_says_nothing_to_caches() {
    async fn nothing(_sessions: Sessions) {}
    let spy = SpyStore::new(MemoryStore::new());
    let layer = SessionLayer::new(spy.clone());
    let app = app(layer.clone()).merge(Router::new().route("/nothing", get(nothing)).layer(layer));
    let client = TestClient::new(app);
    client
        .post("/login/alice")
        .await
        .assert_status(StatusCode::OK);
    let before = spy.calls();

    let response = client.get("/nothing").await.assert_status(StatusCode::OK);
    assert_eq!(spy.calls(), before);
    for header in ["vary", "cache-control", "set-cookie"] {
        assert_eq!(response.header(header), None, "{header}");
    }
}

#[tokio::test]
async fn without_a_layer_around_the_extractor_says_so() {
    async fn handler(sessions: Result<Sessions, cloakroom::Error>) -> String {
        format!("{:?}", sessions.unwrap_err().kind())
    }
    let app: Router = Router::new().route("/", get(handler));
    assert_eq!(TestClient::new(app).get("/").await.text(), "MissingLayer");
}

#[tokio::test]
async fn a_websocket_learns_that_its_session_has_ended_and_does_not_keep_it_alive() {
    let clock = ManualClock::new();
    let spy = SpyStore::new(MemoryStore::new());
    let store = FailingStore::new(spy.clone());
    let layer = SessionLayer::builder(store.clone())
        .clock(clock.clone())
        .build()
        .unwrap();
    let sessions = layer.sessions();
    let [ended, expired] = [new_session(&layer), new_session(&layer)];
    for session in [&ended, &expired] {
        session.login("alice").await.unwrap();
    }
    let [ended_handle, expired_handle] =
        [&ended, &expired].map(|session| session.handle().unwrap());
    let before = spy.calls();
    assert!(sessions.is_alive(&ended_handle).await.unwrap());
    let load = before.load + 1;
    assert_eq!(spy.calls(), Calls { load, ..before });

    ended.logout().await.unwrap();
    assert!(!sessions.is_alive(&ended_handle).await.unwrap());
    for (minutes, is_alive) in [(59, true), (1, false)] {
        clock.advance(Duration::from_secs(60 * minutes));
        assert_eq!(sessions.is_alive(&expired_handle).await.unwrap(), is_alive);
    }

    store.fail(Operation::Load, When::BeforeEffect, Times::Next(1));
    let error = sessions.is_alive(&expired_handle).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
}

async fn end_all(session: Session) -> Result<String> {
    Ok(session.end_all_sessions().await?.to_string())
}

async fn end_others(session: Session) -> Result<String> {
    Ok(session.end_other_sessions().await?.to_string())
}

/// Logs in on two clients, has the first one ask for this path, and hangs up when its request has listed the
/// sessions of the user; returns when the store has done this operation.
async fn hang_up_while_ending(path: &'static str, last: Operation) -> [TestClient<Router>; 2] {
    let store = PausingStore::new(MemoryStore::new());
    let clock = ManualClock::new();
    let builder = SessionLayer::builder(store.clone()).clock(clock.clone());
    let layer = builder.build().unwrap();
    let app = Router::new()
        .route("/end-all", post(end_all))
        .route("/end-others", post(end_others))
        .layer(layer.clone())
        .merge(app(layer));
    let [one, other] = [(); 2].map(|()| TestClient::new(app.clone()));
    for client in [&one, &other] {
        client
            .post("/login/alice")
            .await
            .assert_status(StatusCode::OK);
        clock.advance(Duration::from_secs(2));
    }
    let listed = store.pause_after(Operation::List);
    let requesting = tokio::spawn({
        let one = one.clone();
        async move { one.post(path).await }
    });
    listed.reached().await;
    // The first one deletes the other session, the last one its own.
    let of_the_other = store.pause_after(Operation::Delete);
    requesting.abort();
    assert!(requesting.await.unwrap_err().is_cancelled());
    listed.release();
    of_the_other.reached().await;
    let done = store.pause_after(last);
    of_the_other.release();
    let reached = tokio::time::timeout(Duration::from_secs(60), done.reached()).await;
    assert!(reached.is_ok(), "nothing goes on once nobody waits");
    done.release();
    [one, other]
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_an_ending_of_all_half_way() {
    for client in hang_up_while_ending("/end-all", Operation::Delete).await {
        assert_eq!(client.get("/").await.text(), "nobody");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_keep_the_id_from_before_an_ending_of_the_others() {
    for client in hang_up_while_ending("/end-others", Operation::Update).await {
        assert_eq!(client.get("/").await.text(), "nobody");
    }
}

async fn add(session: Session) -> Result<()> {
    Ok(session.insert("cart", 1)?)
}

/// Runs this in a runtime of its own, which goes down with all of its tasks at that step.
fn crash(at: Pause, here: &Runtime, work: impl Future<Output = ()> + Send + 'static) {
    let crashing = Runtime::new().unwrap();
    crashing.spawn(work);
    here.block_on(at.reached());
    drop(crashing);
    at.release();
}

#[test]
fn a_crash_between_any_two_steps_leaves_nobody_logged_in_after_an_ending_of_all() {
    use Operation::{Delete, Link, List, Mark, Unlink, Update};
    let here = Runtime::new().unwrap();
    for (operation, in_login) in [
        (Update, true),
        (Link, true),
        (Mark, false),
        (List, false),
        (Delete, false),
        (Unlink, false),
    ] {
        for after in [false, true] {
            let store = PausingStore::new(MemoryStore::new());
            let layer = SessionLayer::new(store.clone());
            let sessions = layer.sessions();
            let app = Router::new()
                .route("/add", post(add))
                .layer(layer.clone())
                .merge(app(layer));
            let client = TestClient::new(app);
            here.block_on(client.post("/add"));
            if !in_login {
                here.block_on(client.post("/login/alice"));
            }
            let before_crash = client.clone();
            let at = match after {
                false => store.pause_before(operation),
                true => store.pause_after(operation),
            };
            let ending = sessions.clone();
            crash(at, &here, async move {
                if in_login {
                    before_crash.post("/login/alice").await;
                } else {
                    ending.end_all("alice").await.unwrap();
                }
            });

            let step = format!("{operation:?}, after it: {after}");
            here.block_on(sessions.end_all("alice")).unwrap();
            assert_eq!(here.block_on(client.get("/")).text(), "nobody", "{step}");
            assert!(
                here.block_on(sessions.list("alice")).unwrap().is_empty(),
                "{step}"
            );
        }
    }
}
