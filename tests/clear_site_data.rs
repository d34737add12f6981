//! A logout tells the browser to throw away what it keeps of the site, where the app wants that and the
//! session has ended.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Result};
use axum::routing::{get, post};
use cloakroom::store::MemoryStore;
use cloakroom::testing::{FailingStore, Operation, TestClient, TestResponse, Times, When};
use cloakroom::{Session, SessionLayer, SiteData};

const HEADER: &str = "clear-site-data";
const CACHE_AND_STORAGE: Option<&str> = Some(r#""cache", "storage""#);

type Store = FailingStore<MemoryStore>;

async fn log_in(session: Session, Path(user): Path<String>) -> Result<()> {
    Ok(session.login(user).await?)
}

async fn log_out(session: Session) -> Result<()> {
    Ok(session.logout().await?)
}

async fn log_out_and_fail(session: Session) -> Result<StatusCode> {
    session.logout().await?;
    Ok(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn log_out_and_greet(session: Session) -> Result<()> {
    session.logout().await?;
    Ok(session.insert("message", "Bye")?)
}

async fn log_out_with_its_own(session: Session) -> Result<impl IntoResponse> {
    session.logout().await?;
    Ok([(HEADER, r#""executionContexts""#)])
}

async fn user(session: Session) -> String {
    session.user_id().as_deref().unwrap_or("nobody").to_owned()
}

fn app(store: &Store, data: &[SiteData]) -> Router {
    let mut builder = SessionLayer::builder(store.clone());
    if !data.is_empty() {
        builder = builder.clear_site_data_at_logout(data.to_vec());
    }
    Router::new()
        .route("/login/{user}", post(log_in))
        .route("/logout", post(log_out))
        .route("/logout-and-fail", post(log_out_and_fail))
        .route("/logout-and-greet", post(log_out_and_greet))
        .route("/logout-with-its-own", post(log_out_with_its_own))
        .route("/user", get(user))
        .route("/unused", get("unused"))
        .layer(builder.build().unwrap())
}

/// A browser in which alice is logged in, of an app that clears the cache and the storage.
async fn alice() -> (TestClient<Router>, Store) {
    let store = FailingStore::new(MemoryStore::new());
    let client = TestClient::new(app(&store, &[SiteData::Storage, SiteData::Cache]));
    let response = client.post("/login/alice").await;
    assert_eq!(response.header(HEADER), None);
    (client, store)
}

/// Whether the response removes the session's cookie.
fn removes_cookie(response: &TestResponse) -> bool {
    let cookies = response.set_cookies();
    cookies.iter().any(|cookie| cookie.value().is_empty())
}

#[tokio::test]
async fn a_logout_clears_what_the_layer_was_told_to_and_by_default_nothing() {
    use SiteData::{Cache, Cookies, Storage};
    for (data, expected) in [
        (&[][..], None),
        (&[Cache], Some(r#""cache""#)),
        (&[Cookies], Some(r#""cookies""#)),
        (&[Storage], Some(r#""storage""#)),
        (&[Storage, Cache, Storage], CACHE_AND_STORAGE),
        (
            &[Storage, Cookies, Cache],
            Some(r#""cache", "cookies", "storage""#),
        ),
    ] {
        let client = TestClient::new(app(&FailingStore::new(MemoryStore::new()), data));
        client.post("/login/alice").await;
        let response = client.post("/logout").await.assert_status(StatusCode::OK);
        assert!(removes_cookie(&response));
        assert_eq!(response.header(HEADER), expected, "{data:?}");
    }
}

#[tokio::test]
async fn nothing_but_an_ending_clears_anything() {
    let (client, _) = alice().await;
    for path in ["/user", "/unused"] {
        assert_eq!(client.get(path).await.header(HEADER), None);
    }
    // Ends the session of alice, and begins one of bob.
    for user in ["alice", "bob"] {
        let response = client.post(&format!("/login/{user}")).await;
        assert_eq!(response.header(HEADER), None);
        assert_eq!(client.get("/user").await.text(), user);
    }
    let visitor = TestClient::new(app(
        &FailingStore::new(MemoryStore::new()),
        &[SiteData::Cache],
    ));
    assert_eq!(visitor.post("/logout").await.header(HEADER), None);
}

#[tokio::test]
async fn a_logout_in_a_response_that_fails_clears_all_the_same() {
    let (client, _) = alice().await;
    let response = client.post("/logout-and-fail").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(removes_cookie(&response));
    assert_eq!(response.header(HEADER), CACHE_AND_STORAGE);
}

#[tokio::test]
async fn a_logout_that_failed_clears_nothing() {
    let (client, store) = alice().await;
    store.fail(Operation::Delete, When::BeforeEffect, Times::Next(1));
    let response = client.post("/logout").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!removes_cookie(&response));
    assert_eq!(response.header(HEADER), None);
    assert_eq!(client.get("/user").await.text(), "alice");
    assert_eq!(
        client.post("/logout").await.header(HEADER),
        CACHE_AND_STORAGE
    );
}

#[tokio::test]
async fn a_logout_with_a_new_session_in_the_same_request_does_not_clear_its_cookie() {
    let (client, _) = alice().await;
    let response = client.post("/logout-and-greet").await;
    assert_eq!(response.header(HEADER), None);
    assert!(!removes_cookie(&response));
}

#[tokio::test]
async fn a_logout_under_an_id_that_opens_nothing_clears_with_the_cookie() {
    let (client, _) = alice().await;
    let thief = client.clone();
    client.post("/logout").await;
    let response = thief.post("/logout").await;
    assert!(removes_cookie(&response));
    assert_eq!(response.header(HEADER), CACHE_AND_STORAGE);
    // Now there is no cookie, and nothing to remove.
    assert_eq!(thief.post("/logout").await.header(HEADER), None);
}

/// It may have set a newer cookie by now, which would be cleared.
#[tokio::test]
async fn a_logout_of_a_session_that_another_request_ended_clears_nothing() {
    let layer = SessionLayer::builder(MemoryStore::new())
        .clear_site_data_at_logout([SiteData::Cookies])
        .build()
        .unwrap();
    let sessions = layer.sessions();
    let overtaken = async move |session: Session| -> Result<()> {
        assert!(sessions.end(&session.handle().unwrap()).await?);
        Ok(session.logout().await?)
    };
    let routes = Router::new()
        .route("/login/{user}", post(log_in))
        .route("/overtaken", post(overtaken));
    let client = TestClient::new(routes.layer(layer));
    client.post("/login/alice").await;
    let response = client
        .post("/overtaken")
        .await
        .assert_status(StatusCode::OK);
    assert!(!removes_cookie(&response));
    assert_eq!(response.header(HEADER), None);
}

#[tokio::test]
async fn what_the_handler_says_itself_stays() {
    let (client, _) = alice().await;
    let response = client.post("/logout-with-its-own").await;
    assert_eq!(response.header(HEADER), Some(r#""executionContexts""#));
}
