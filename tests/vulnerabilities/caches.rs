//! Responses of one user's that a shared cache gives to another one.

use std::time::Duration;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, SET_COOKIE, VARY};
use axum::response::Result;
use axum::routing::get;
use cloakroom::Session;

use super::support::{Client, in_memory};
use super::{id, post};

/// Each way to look at a session, and a page that says it may be cached.
fn routes() -> Router {
    let page = |text: String| ([(CACHE_CONTROL, "public, max-age=60")], text);
    Router::new()
        .route("/extracted", get(async |_: Session| "page"))
        .route(
            "/optional",
            get(async |session: Option<Session>| session.is_some().to_string()),
        )
        .route(
            "/key",
            get(async |session: Session| session.contains_key("a").to_string()),
        )
        .route(
            "/keys",
            get(async |session: Session| session.keys().len().to_string()),
        )
        .route(
            "/empty",
            get(async |session: Session| session.is_empty().to_string()),
        )
        .route(
            "/user",
            get(async |session: Session| session.user_id().is_some().to_string()),
        )
        .route(
            "/expiry",
            get(async |session: Session| session.expires_at().is_some().to_string()),
        )
        .route(
            "/persistent",
            get(async |session: Session| -> Result<()> { Ok(session.persistent_cookie()?) }),
        )
        .route(
            "/first",
            get(async move |session: Session| -> Result<_> {
                session.insert("b", 1)?;
                Ok(page("page".into()))
            }),
        )
        .route(
            "/private",
            get(async |session: Session| super::support::contents(&session)),
        )
}

const ACCESSES: [&str; 9] = [
    "/extracted",
    "/optional",
    "/key",
    "/keys",
    "/empty",
    "/user",
    "/expiry",
    "/persistent",
    "/private",
];

async fn client() -> Client {
    let setup = in_memory();
    setup.client_with(setup.store.clone(), routes()).await
}

async fn every_access_is_varied() {
    let client = client().await;
    for live in [false, true] {
        for path in ACCESSES {
            let response = client.get(path).await;
            assert_eq!(
                response.header(VARY),
                Some("Cookie"),
                "{path}, live: {live}"
            );
        }
        post(&client, "/set/a/1").await;
    }
}

/// Flask sends a refreshed cookie of a session that the request did not look at, without `Vary: Cookie`.
#[tokio::test]
async fn cve_2023_30861() {
    const MINUTE: Duration = Duration::from_secs(60);
    let setup = in_memory();
    let layer = setup.builder(setup.store.clone()).renew_ids_every(MINUTE);
    let client = setup.client_at(layer.build().unwrap(), routes()).await;
    for path in ["/set/a/1", "/login/alice"] {
        post(&client, path).await;
    }
    client.get("/persistent").await;
    setup.clock.advance(MINUTE);
    // A request that does not look at the session refreshes nothing.
    let response = client.get("/unused").await;
    assert!(response.set_cookies().is_empty());
    assert_eq!(response.header(VARY), None);
    // And one that refreshes says so, even if it looks at nothing in the session.
    let response = client.get("/extracted").await;
    assert_eq!(response.set_cookies().len(), 1);
    assert_eq!(response.header(VARY), Some("Cookie"));
    assert_eq!(response.header(CACHE_CONTROL), Some("no-store"));
}

/// Flask forgets `Vary: Cookie` where a session is only asked whether it holds a key.
#[tokio::test]
async fn cve_2026_27205() {
    every_access_is_varied().await;
}

/// nextjs-auth0 lets a shared cache keep responses that set the session's cookie.
#[tokio::test]
async fn cve_2025_48947() {
    let client = client().await;
    let response = client.get("/first").await;
    assert!(
        response
            .header(SET_COOKIE)
            .is_some_and(|line| line.contains(&id(&client)))
    );
    assert_eq!(response.header(CACHE_CONTROL), Some("no-store"));
}

/// authkit-nextjs sends what a user sees without a word to caches.
#[tokio::test]
async fn cve_2025_64762() {
    let client = client().await;
    post(&client, "/login/alice").await;
    let response = client.get("/private").await;
    assert_eq!(response.text(), "alice:");
    assert_eq!(response.header(CACHE_CONTROL), Some("private"));
    assert_eq!(response.header(VARY), Some("Cookie"));
}
