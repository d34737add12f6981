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
    Calls, FailingStore, ManualClock, Operation, SpyStore, TestClient, Times, When, new_session,
};
use cloakroom::{ErrorKind, Session, SessionLayer, Sessions};
use http::StatusCode;

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
