//! Vulnerabilities of other session libraries and cookie parsers, replayed against this one: a test a case, named
//! by its id, with the cause of it in one line.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/captured_logs.rs"]
mod captured_logs;
// Each test file uses its part of it.
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../support/mod.rs"]
mod support;

mod caches;
mod cookies;
mod endings;
mod ids;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::COOKIE as COOKIE_HEADER;
use cloakroom::testing::TestResponse;

use self::support::{COOKIE, Client};

/// What the session of this `Cookie` line holds.
async fn shown_with(client: &Client, line: &str) -> String {
    let request = Request::get("/show")
        .header(COOKIE_HEADER, line)
        .body(Body::empty())
        .unwrap();
    client.send(request).await.text().to_owned()
}

async fn shown(client: &Client) -> String {
    client.get("/show").await.text().to_owned()
}

async fn post(client: &Client, path: &str) -> TestResponse {
    let response = client.post(path).await;
    assert!(response.status().is_success(), "{path}");
    response
}

fn id(client: &Client) -> String {
    client.cookie(COOKIE).unwrap()
}
