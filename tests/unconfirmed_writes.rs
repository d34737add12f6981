//! A write that too few nodes have confirmed is not taken for done because a load finds it done: a failover
//! could still undo it.
#![allow(clippy::unwrap_used)]

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Router, response::IntoResponse};
use cloakroom::store::{MemoryStore, StoreError, StoreErrorKind};
use cloakroom::testing::{FailingStore, Operation, TestClient, Times, When};
use cloakroom::{ErrorKind, Session, SessionLayer};

type Store = FailingStore<MemoryStore>;

fn client() -> (TestClient<Router>, Store) {
    let store = FailingStore::new(MemoryStore::new());
    let app = Router::new()
        .route(
            "/count",
            post(async |session: Session| {
                let counted = session.update("visits", |n: &mut u64| *n += 1);
                counted.map(|n| n.to_string())
            }),
        )
        .route(
            "/login",
            post(async |session: Session| session.login("alice").await),
        )
        .route(
            "/logout",
            post(async |session: Session| {
                let ended = session.logout().await;
                ended.map_err(|error| {
                    assert_eq!(error.kind(), ErrorKind::EndingFailed);
                    let kind = error.store_error_kind();
                    assert_eq!(kind, Some(StoreErrorKind::Unconfirmed));
                    error.into_response()
                })
            }),
        )
        .layer(SessionLayer::new(store.clone()));
    (TestClient::new(app), store)
}

/// The next such operation is done, and not confirmed.
fn leave_unconfirmed(store: &Store, operation: Operation) {
    store.fail_with(operation, When::AfterEffect, Times::Next(1), || {
        StoreError::unconfirmed("0 of 1 replicas")
    });
}

#[tokio::test]
async fn a_logout_is_an_error_and_can_be_tried_again() {
    let (client, store) = client();
    client.post("/login").await.assert_status(StatusCode::OK);
    leave_unconfirmed(&store, Operation::Delete);
    let response = client.post("/logout").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.set_cookies().is_empty());
    client.post("/logout").await.assert_status(StatusCode::OK);
    assert_eq!(store.failures(), 1);
}

#[tokio::test]
async fn a_login_is_an_error_without_a_cookie() {
    for (first, operation) in [("/login", Operation::Create), ("/count", Operation::Update)] {
        let (client, store) = client();
        if operation == Operation::Update {
            client.post(first).await.assert_status(StatusCode::OK);
        }
        leave_unconfirmed(&store, operation);
        let response = client.post("/login").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.set_cookies().is_empty());
        client.post("/login").await.assert_status(StatusCode::OK);
        assert_eq!(store.failures(), 1);
    }
}

#[tokio::test]
async fn a_change_of_data_is_an_error() {
    let (client, store) = client();
    client.post("/count").await.assert_status(StatusCode::OK);
    leave_unconfirmed(&store, Operation::Update);
    let response = client.post("/count").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(store.failures(), 1);
}
