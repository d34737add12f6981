//! Cross-site request forgery: tokens of the session, what the browser says, and tower-http's layer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, ORIGIN, UPGRADE};
use axum::http::{HeaderName, Method, Request, StatusCode};
use axum::middleware::from_extractor;
use axum::response::{IntoResponse, Response, Result};
use axum::routing::{any, get, post};
use axum::{Router, middleware::map_response};
use cloakroom::csrf::{self, CsrfForm, CsrfGuard, CsrfRejection, CsrfRejectionKind, CsrfToken};
use cloakroom::events::{CsrfRefusal, EventKind};
use cloakroom::store::MemoryStore;
use cloakroom::testing::{
    Calls, FailingStore, ManualClock, Operation, SpyStore, TestClient, TestResponse, Times, When,
    new_session,
};
use cloakroom::{Session, SessionLayer, SessionLayerBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_http::csrf::CsrfLayer;

const TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    article: u32,
}

fn routes() -> Router {
    let order = async |CsrfForm(order): CsrfForm<Order>| format!("ordered {}", order.article);
    let page = async |token: CsrfToken| token.to_string();
    let first_page = async |session: Session, token: CsrfToken| -> Result<String> {
        session.insert("seen", true)?;
        Ok(token.to_string())
    };
    let renewing_page = async |session: Session| -> Result<String> {
        session.renew_id()?;
        Ok(CsrfToken::of(&session)?.to_string())
    };
    let log_in = async |session: Session| -> Result<String> {
        session.login("alice").await?;
        Ok(CsrfToken::of(&session)?.to_string())
    };
    let log_out = async |session: Session| -> Result<()> { Ok(session.logout().await?) };
    let renew = async |session: Session| -> Result<()> { Ok(session.renew_id()?) };
    Router::new()
        .route("/page", get(page))
        .route("/first-page", get(first_page))
        .route("/renewing-page", get(renewing_page))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .route("/renew", post(renew))
        .route("/order", any(order))
        .route("/guarded", any(async |_: CsrfGuard| "done"))
}

type Store = SpyStore<MemoryStore>;

fn store() -> Store {
    SpyStore::new(MemoryStore::new())
}

fn app(choose: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder) -> Router {
    app_on(store(), choose)
}

fn app_on(store: Store, choose: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder) -> Router {
    routes().layer(choose(SessionLayer::builder(store)).build().unwrap())
}

/// A browser at the app, in which somebody is logged in, and a token of theirs.
async fn logged_in(app: Router) -> (TestClient<Router>, String) {
    let client = TestClient::new(app);
    let token = client.post("/login").await.text().to_owned();
    (client, token)
}

async fn send(
    client: &TestClient<Router>,
    method: Method,
    path: &str,
    lines: &[(HeaderName, &str)],
) -> TestResponse {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in lines {
        request = request.header(name, *value);
    }
    client.send(request.body(Default::default()).unwrap()).await
}

async fn order(client: &TestClient<Router>, token: &str) -> StatusCode {
    let fields = &[("csrf_token", token), ("article", "7")];
    client.post_form("/order", fields).await.status()
}

const OK: StatusCode = StatusCode::OK;
const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;

// The token.

#[tokio::test]
async fn a_form_needs_the_token_of_its_session() {
    let (client, token) = logged_in(app(|layer| layer)).await;
    let response = client
        .post_form("/order", &[("csrf_token", &token), ("article", "7")])
        .await;
    assert_eq!(response.text(), "ordered 7");

    let missing = client.post_form("/order", &[("article", "7")]).await;
    assert_eq!(missing.status(), FORBIDDEN);
    let (_, of_another) = logged_in(app(|layer| layer)).await;
    for wrong in ["", "x", &token[1..], &of_another, &token.to_lowercase()] {
        let fields = &[("csrf_token", wrong), ("article", "7")];
        let refused = client.post_form("/order", fields).await;
        assert_eq!(refused.status(), FORBIDDEN, "{wrong}");
        // It does not say which check failed.
        assert_eq!(refused.text(), missing.text());
        assert_eq!(refused.header(CACHE_CONTROL), Some("no-store"));
    }
    let twice = &[
        ("csrf_token", &*token),
        ("csrf_token", &token),
        ("article", "7"),
    ];
    assert_eq!(client.post_form("/order", twice).await.status(), FORBIDDEN);
}

#[tokio::test]
async fn a_script_sends_it_in_a_header_to_a_guard_or_with_a_form() {
    let (client, token) = logged_in(app(|layer| layer)).await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        for (lines, expected) in [
            (vec![(TOKEN, &*token)], OK),
            (vec![], FORBIDDEN),
            (vec![(TOKEN, "x")], FORBIDDEN),
            (vec![(TOKEN, "\u{e9}")], FORBIDDEN),
            // What the browser says of the origin is no substitute.
            (vec![(SITE, "same-origin")], FORBIDDEN),
        ] {
            let response = send(&client, method.clone(), "/guarded", &lines).await;
            assert_eq!(response.status(), expected, "{method} {lines:?}");
        }
    }
    let request = Request::post("/order")
        .header(TOKEN, token)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body("article=8".to_owned().into())
        .unwrap();
    assert_eq!(client.send(request).await.text(), "ordered 8");
}

#[tokio::test]
async fn every_response_has_another_text_and_all_of_them_are_right() {
    let (client, first) = logged_in(app(|layer| layer)).await;
    let second = client.get("/page").await.text().to_owned();
    assert_ne!(first, second);
    assert_eq!(second.len(), 64);
    for token in [&first, &second, &first] {
        assert_eq!(order(&client, token).await, OK);
    }
}

#[tokio::test]
async fn a_login_a_renewal_and_a_logout_end_it() {
    let (client, before) = logged_in(app(|layer| layer)).await;
    for path in ["/login", "/renew"] {
        let before = client.get("/page").await.text().to_owned();
        client.post(path).await;
        assert_eq!(order(&client, &before).await, FORBIDDEN, "{path}");
        let after = client.get("/page").await.text().to_owned();
        assert_eq!(order(&client, &after).await, OK, "{path}");
    }
    client.post("/logout").await;
    client.post("/login").await;
    assert_eq!(order(&client, &before).await, FORBIDDEN);
}

#[tokio::test]
async fn a_renewal_on_a_schedule_leaves_open_forms_alone() {
    let clock = ManualClock::new();
    let minute = Duration::from_secs(60);
    let layer = |layer: SessionLayerBuilder| layer.clock(clock.clone()).renew_ids_every(minute);
    let (client, token) = logged_in(app(layer)).await;
    let first = client.cookie("__Host-Http-id");
    for _ in 0..10 {
        clock.advance(minute);
        client.get("/page").await;
    }
    assert_ne!(client.cookie("__Host-Http-id"), first);
    assert_eq!(order(&client, &token).await, OK);
}

#[tokio::test]
async fn the_token_of_a_page_is_of_the_session_that_begins_or_is_renewed_with_it() {
    let client = TestClient::new(app(|layer| layer));
    let token = client.get("/first-page").await.text().to_owned();
    assert_eq!(order(&client, &token).await, OK);
    assert_eq!(order(&client, "x").await, FORBIDDEN);
    let token = client.get("/renewing-page").await.text().to_owned();
    assert_eq!(order(&client, &token).await, OK);
}

#[tokio::test]
async fn a_token_costs_one_load_and_no_write_and_makes_no_session() {
    let store = store();
    let app = app_on(store.clone(), |layer| layer);
    let visitor = TestClient::new(app.clone());
    visitor.get("/page").await.assert_status(OK);
    assert!(visitor.cookies().is_empty());
    assert_eq!(store.calls(), Calls::default());

    let (client, token) = logged_in(app).await;
    store.reset();
    client.get("/page").await;
    order(&client, &token).await;
    let calls = store.calls();
    assert_eq!(
        (calls.load, calls.update, calls.create, calls.touch),
        (2, 0, 0, 0)
    );
}

#[tokio::test]
async fn a_token_of_a_way_of_the_apps_own_is_verified_by_hand() {
    let session = new_session(&SessionLayer::new(MemoryStore::new()));
    let of_nobody = CsrfToken::of(&session).unwrap().to_string();
    let refused = csrf::verify(&session, &of_nobody).unwrap_err();
    assert_eq!(refused.kind(), CsrfRejectionKind::WrongToken);
    session.login("alice").await.unwrap();
    assert!(csrf::verify(&session, &of_nobody).is_err());
    let token = CsrfToken::of(&session).unwrap();
    assert!(csrf::verify(&session, &token.to_string()).is_ok());
    assert_eq!(format!("{token:?}"), "CsrfToken(redacted)");
    let field = format!(r#"<input type="hidden" name="csrf_token" value="{token}">"#);
    assert_eq!(token.hidden_field(), field);
}

// Forms as such.

#[tokio::test]
async fn a_form_is_read_as_axum_reads_it_once_its_token_is_right() {
    let (client, token) = logged_in(app(|layer| layer)).await;
    let post = async |content_type: &str, body: String| {
        let request = Request::post("/order").header(CONTENT_TYPE, content_type);
        client
            .send(request.body(body.into()).unwrap())
            .await
            .status()
    };
    const URLENCODED: &str = "application/x-www-form-urlencoded";
    let with = |rest: &str| format!("csrf_token={token}&{rest}");
    assert_eq!(post(URLENCODED, with("article=7")).await, OK);
    assert_eq!(
        post(URLENCODED, with("article=x")).await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(
        post(URLENCODED, with("other=1")).await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(
        post("application/json", "{}".into()).await,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    // Who has no token learns nothing of what the form should be.
    assert_eq!(post(URLENCODED, "article=x".into()).await, FORBIDDEN);
}

#[tokio::test]
async fn a_form_in_an_address_is_checked_as_well() {
    let (client, token) = logged_in(app(|layer| layer)).await;
    let forged = client.get("/order?article=7").await;
    assert_eq!(forged.status(), FORBIDDEN);
    let ours = client
        .get(&format!("/order?article=7&csrf_token={token}"))
        .await;
    assert_eq!(ours.text(), "ordered 7");
}

#[tokio::test]
async fn a_form_longer_than_the_limit_of_bodies_is_refused() {
    let layer = SessionLayer::new(MemoryStore::new());
    let app = routes().layer(DefaultBodyLimit::max(200)).layer(layer);
    let (client, token) = logged_in(app).await;
    assert_eq!(order(&client, &token).await, OK);
    let long = "1".repeat(200);
    let fields = &[("csrf_token", &*token), ("article", &long)];
    let response = client.post_form("/order", fields).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

// Who needs no token.

#[tokio::test]
async fn a_visitor_without_a_session_is_judged_by_the_origin() {
    let client = TestClient::new(app(|layer| layer));
    let own = "https://app.example.com";
    for (lines, expected) in [
        (vec![(SITE, "same-origin")], OK),
        (vec![(SITE, "none")], OK),
        (vec![(ORIGIN, own)], OK),
        // No browser.
        (vec![], OK),
        (vec![(SITE, "cross-site")], FORBIDDEN),
        (vec![(SITE, "same-site")], FORBIDDEN),
        (vec![(SITE, "cross-site"), (ORIGIN, own)], FORBIDDEN),
        (vec![(ORIGIN, "https://evil.example")], FORBIDDEN),
        (vec![(ORIGIN, "null")], FORBIDDEN),
    ] {
        let response = send(&client, Method::POST, "/guarded", &lines).await;
        assert_eq!(response.status(), expected, "{lines:?}");
        let mut request = Request::post("/order");
        for (name, value) in &lines {
            request = request.header(name, *value);
        }
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let body = "csrf_token=whatever&article=7".to_owned().into();
        let response = client.send(request.body(body).unwrap()).await;
        assert_eq!(response.status(), expected, "{lines:?}");
    }
    assert!(client.cookies().is_empty());
}

#[tokio::test]
async fn an_id_that_opens_nothing_any_more_is_a_visitor() {
    let (client, token) = logged_in(app(|layer| layer)).await;
    let thief = client.clone();
    client.post("/logout").await;
    assert_eq!(order(&thief, &token).await, OK, "nobody is logged in");
    let lines = &[(SITE, "cross-site"), (TOKEN, &*token)];
    let forged = send(&thief, Method::POST, "/guarded", lines).await;
    assert_eq!(forged.status(), FORBIDDEN);
}

#[tokio::test]
async fn whose_id_travels_in_a_header_needs_no_token() {
    let app = app(|layer| layer.id_header("X-Auth-Token"));
    let program = TestClient::new(app.clone()).sends_back("X-Auth-Token", "new");
    program.post("/login").await;
    assert_eq!(program.post("/guarded").await.status(), OK);
    let response = program.post_form("/order", &[("article", "7")]).await;
    assert_eq!(response.text(), "ordered 7");
    // A browser does, at the same app.
    let (browser, _) = logged_in(app).await;
    assert_eq!(browser.post("/guarded").await.status(), FORBIDDEN);
}

// The guard as a layer.

#[tokio::test]
async fn as_a_layer_the_guard_lets_what_changes_nothing_pass_without_a_load() {
    let store = store();
    let app = Router::new()
        .route("/", any(async || "done"))
        .route_layer(from_extractor::<CsrfGuard>())
        .merge(routes())
        .layer(SessionLayer::new(store.clone()));
    let (client, token) = logged_in(app).await;
    store.reset();
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        let response = send(&client, method, "/", &[(SITE, "cross-site")]).await;
        assert_eq!(response.status(), OK);
    }
    assert_eq!(store.calls(), Calls::default());
    for method in [Method::POST, Method::from_bytes(b"PURGE").unwrap()] {
        let response = send(&client, method.clone(), "/", &[]).await;
        assert_eq!(response.status(), FORBIDDEN);
        let response = send(&client, method, "/", &[(TOKEN, &token)]).await;
        assert_eq!(response.status(), OK);
    }
}

#[tokio::test]
async fn a_missing_layer_and_a_failing_store_are_errors_and_let_nothing_pass() {
    let client = TestClient::new(routes());
    for path in ["/guarded", "/order"] {
        let response = client.post(path).await;
        assert_eq!(
            response.status(),
            StatusCode::INTERNAL_SERVER_ERROR,
            "{path}"
        );
    }
    let store = FailingStore::new(MemoryStore::new());
    let (client, token) = logged_in(routes().layer(SessionLayer::new(store.clone()))).await;
    store.fail(Operation::Load, When::BeforeEffect, Times::Always);
    assert_eq!(
        order(&client, &token).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

// What is told.

#[tokio::test]
async fn the_operator_is_told_why_and_an_outer_layer_can_render_it() {
    let told: Arc<Mutex<Vec<_>>> = Arc::default();
    let heard = told.clone();
    let app = app(|layer| {
        layer.on_event(move |event| {
            if let EventKind::CsrfRefused(why) = event.kind() {
                heard.lock().unwrap().push((why, event.handle().is_some()));
            }
        })
    });
    let app = app.layer(map_response(async |response: Response| {
        let kind = response
            .extensions()
            .get::<CsrfRejection>()
            .map(CsrfRejection::kind);
        match kind {
            Some(kind) => (response.status(), format!("{kind:?}")).into_response(),
            None => response,
        }
    }));
    let visitor = TestClient::new(app.clone());
    let (client, _) = logged_in(app).await;
    for (client, lines, why, has_handle) in [
        (&client, vec![], CsrfRefusal::MissingToken, true),
        (&client, vec![(TOKEN, "x")], CsrfRefusal::WrongToken, true),
        (
            &visitor,
            vec![(SITE, "cross-site")],
            CsrfRefusal::CrossOrigin,
            false,
        ),
    ] {
        let response = send(client, Method::POST, "/guarded", &lines).await;
        assert_eq!(response.status(), FORBIDDEN);
        assert_eq!(response.text(), format!("{why:?}"));
        assert_eq!(*told.lock().unwrap(), [(why, has_handle)]);
        told.lock().unwrap().clear();
    }
}

// Upgrades.

/// Says `hello` to whoever it has upgraded.
async fn upgrade(_: CsrfGuard, request: Request<Body>) -> Response {
    tokio::spawn(async move {
        let upgraded = hyper::upgrade::on(request).await.unwrap();
        let mut io = hyper_util::rt::TokioIo::new(upgraded);
        io.write_all(b"hello").await.unwrap();
    });
    let headers = [(CONNECTION, "upgrade"), (UPGRADE, "websocket")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// What the server answers to the handshake of a WebSocket with these lines, and says after that.
async fn handshake(address: std::net::SocketAddr, lines: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /socket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 1_024];
    let is_whole = |answer: &[u8]| {
        let answer = String::from_utf8_lossy(answer);
        answer.ends_with("hello") || answer.ends_with("try again.")
    };
    while !is_whole(&answer) {
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "{:?}", String::from_utf8_lossy(&answer));
        answer.extend(&buffer[..read]);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_websocket_is_opened_by_pages_of_this_origin_alone() {
    let layer = SessionLayer::builder(MemoryStore::new()).id_header("X-Auth-Token");
    let app = routes()
        .route("/socket", get(upgrade))
        .layer(layer.build().unwrap());
    let (browser, token) = logged_in(app.clone()).await;
    let cookie = format!(
        "Cookie: __Host-Http-id={}\r\n",
        browser.cookie("__Host-Http-id").unwrap()
    );
    let program = TestClient::new(app.clone()).sends_back("X-Auth-Token", "new");
    let response = program.post("/login").await;
    let by_header = format!(
        "X-Auth-Token: {}\r\n",
        response.header("x-auth-token").unwrap()
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    let own = format!("Origin: http://{address}\r\n");
    for lines in [
        format!("{cookie}{own}"),
        format!("{cookie}{own}Sec-Fetch-Site: same-origin\r\n"),
        own.clone(),
        // A program, whose header no browser sends by itself.
        by_header.clone(),
    ] {
        let answer = handshake(address, &lines).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{lines}{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
    }
    let evil = "Origin: https://evil.example\r\n";
    for lines in [
        format!("{cookie}{evil}"),
        format!("{cookie}{own}Sec-Fetch-Site: cross-site\r\n"),
        format!("{cookie}Origin: null\r\n"),
        format!("{cookie}Origin: http://127.0.0.1:1\r\n"),
        cookie.clone(),
        // A token does not make up for it.
        format!("{cookie}{evil}X-CSRF-Token: {token}\r\n"),
        evil.to_owned(),
        String::new(),
    ] {
        let answer = handshake(address, &lines).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{lines}{answer}");
    }
}

#[tokio::test]
async fn the_layer_of_tower_http_lets_upgrades_pass_and_the_guard_does_not() {
    let app = Router::new()
        .route("/open", get(async || "open"))
        .route("/guarded", get(async |_: CsrfGuard| "open"))
        .layer(SessionLayer::new(MemoryStore::new()))
        .layer(CsrfLayer::new());
    let client = TestClient::new(app);
    let lines = &[
        (CONNECTION, "upgrade"),
        (UPGRADE, "websocket"),
        (SITE, "cross-site"),
    ];
    assert_eq!(
        send(&client, Method::GET, "/open", lines).await.status(),
        OK
    );
    assert_eq!(
        send(&client, Method::GET, "/guarded", lines).await.status(),
        FORBIDDEN
    );
}

// tower-http's layer.

#[tokio::test]
async fn the_layer_of_tower_http_goes_with_ours_in_either_order() {
    for is_outside in [true, false] {
        let store = store();
        let sessions = SessionLayer::new(store.clone());
        let app = match is_outside {
            true => routes().layer(sessions).layer(CsrfLayer::new()),
            false => routes().layer(CsrfLayer::new()).layer(sessions),
        };
        let (client, token) = logged_in(app).await;
        store.reset();
        let forged: [&[(HeaderName, &str)]; 3] = [
            &[(SITE, "cross-site")],
            &[(SITE, "same-site")],
            &[(ORIGIN, "https://evil.example")],
        ];
        for lines in forged {
            for path in ["/login", "/logout", "/renew", "/guarded"] {
                let response = send(&client, Method::POST, path, lines).await;
                assert_eq!(response.status(), FORBIDDEN, "{path}");
                assert!(response.set_cookies().is_empty());
            }
        }
        assert_eq!(store.calls(), Calls::default(), "it costs no load");
        // Pages of this site work as ever, links from other sites as well, and tokens with it.
        let lines = &[(SITE, "same-origin"), (TOKEN, &*token)];
        assert_eq!(
            send(&client, Method::POST, "/guarded", lines)
                .await
                .status(),
            OK
        );
        assert_eq!(order(&client, &token).await, OK);
        let response = send(&client, Method::GET, "/page", &[(SITE, "cross-site")]).await;
        assert_eq!(response.status(), OK);
        let lines = &[(SITE, "same-origin"), (HOST, "app.example.com")];
        assert_eq!(
            send(&client, Method::POST, "/logout", lines).await.status(),
            OK
        );
        assert_eq!(client.cookie("__Host-Http-id"), None);
    }
}
