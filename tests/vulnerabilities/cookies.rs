//! Cookies that a browser takes for others than the server does.

use axum::body::Body;
use axum::http::Request;
use axum::http::header::SET_COOKIE;

use super::support::{COOKIE, Client, in_memory};
use super::{id, post, shown_with};

/// A client and the id of its live session.
async fn live() -> (Client, String) {
    let setup = in_memory();
    let client = setup.client(setup.store.clone()).await;
    post(&client, "/set/a/1").await;
    let id = id(&client);
    assert_eq!(
        shown_with(&client, &format!("{COOKIE}={id}")).await,
        "nobody: a=1"
    );
    (client, id)
}

/// None of these is our cookie, nor does it take the place of ours.
async fn are_other_cookies(lookalikes: &[&str]) {
    let (client, id) = live().await;
    for lookalike in lookalikes {
        let alone = lookalike.replace("ID", &id);
        assert_eq!(shown_with(&client, &alone).await, "no session", "{alone}");
        let planted = lookalike.replace("ID", &"A".repeat(48));
        for line in [
            format!("{planted}; {COOKIE}={id}"),
            format!("{COOKIE}={id}; {planted}"),
        ] {
            assert_eq!(shown_with(&client, &line).await, "nobody: a=1", "{line}");
        }
    }
}

/// Rack percent-decodes names, so that a name which any subdomain may set becomes a `__Host-` name.
#[tokio::test]
async fn cve_2020_8184() {
    are_other_cookies(&[
        "%5F%5FHost-Http-id=ID",
        "__%48ost-Http-id=ID",
        "__Host-Http-%69d=ID",
    ])
    .await;
}

/// So does PHP.
#[tokio::test]
async fn cve_2020_7070() {
    are_other_cookies(&[
        "%5f%5fHost-Http-id=ID",
        "__Host%2dHttp-id=ID",
        "__Host-Http-id%00=ID",
    ])
    .await;
}

/// PHP makes underscores of other characters in names, which makes a `__Host-` name.
#[tokio::test]
async fn cve_2022_31629() {
    are_other_cookies(&[
        "..Host-Http-id=ID",
        "_ Host-Http-id=ID",
        "_[Host-Http-id=ID",
        "  Host-Http-id=ID",
    ])
    .await;
}

/// Werkzeug takes the value of a cookie without a name for a name and a value.
#[tokio::test]
async fn cve_2023_23934() {
    are_other_cookies(&[
        "=__Host-Http-id=ID",
        " =__Host-Http-id=ID",
        "==__Host-Http-id=ID",
    ])
    .await;
}

/// Jetty reads a quoted value across semicolons, so that one cookie swallows others.
#[tokio::test]
async fn cve_2023_26049() {
    let (client, id) = live().await;
    let line = format!("a=\"b; {COOKIE}={id}; c=d\"");
    assert_eq!(shown_with(&client, &line).await, "nobody: a=1");
    are_other_cookies(&["__Host-Http-id\"=ID", "\"__Host-Http-id=ID\""]).await;
    let quoted = format!("{COOKIE}=\"{id}\"");
    assert_eq!(shown_with(&client, &quoted).await, "no session");
}

/// Django's parser begins a new cookie at characters that are part of a value.
#[tokio::test]
async fn cve_2016_7401() {
    are_other_cookies(&[
        "ga=x, __Host-Http-id=ID",
        "ga=x] __Host-Http-id=ID",
        "ga=x __Host-Http-id=ID",
        "ga=x\t__Host-Http-id=ID",
        "ga=\"x\" __Host-Http-id=ID",
    ])
    .await;
}

/// Tomcat leaves `Secure` out where a proxy has ended TLS, and the request came by plain HTTP.
#[tokio::test]
async fn cve_2023_28708() {
    let setup = in_memory();
    let client = setup.client(setup.store.clone()).await;
    for proto in ["https", "http"] {
        for path in ["login/alice", "logout"] {
            let request = Request::post(format!("http://app.example/{path}"))
                .header("x-forwarded-proto", proto)
                .header("forwarded", format!("proto={proto}"))
                .body(Body::empty())
                .unwrap();
            let response = client.send(request).await;
            let line = response.header(SET_COOKIE).unwrap();
            assert!(
                line.split("; ").any(|attribute| attribute == "Secure"),
                "{line}"
            );
        }
    }
}
