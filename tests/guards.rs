//! Guards let through who is logged in, lead browsers to the login page and back, and tell everybody else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/captured_logs.rs"]
mod captured_logs;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, Path, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, HeaderName, REFERER};
use axum::http::{Method, Request, StatusCode};
use axum::middleware::{from_extractor, from_extractor_with_state, map_response};
use axum::response::{IntoResponse, Response, Result};
use axum::routing::{any, get, post};
use cloakroom::clock::{Clock, from_unix_millis};
use cloakroom::guards::{
    GuardRejection, GuardRejectionKind, RequireFreshLogin, RequireUser, ReturnTo,
};
use cloakroom::store::MemoryStore;
use cloakroom::testing::{
    Calls, FailingStore, ManualClock, Operation, SpyStore, TestClient, TestResponse, Times, When,
};
use cloakroom::{Error, ErrorKind, Session, SessionLayer, SessionLayerBuilder, SessionStore};

use self::captured_logs::Log;

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What Chromium sends where it goes to a page.
const BROWSER: [(HeaderName, &str); 2] = [
    (
        ACCEPT,
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
    ),
    (SEC_FETCH_MODE, "navigate"),
];

type Client = TestClient<Router, Body>;

async fn account(RequireUser(user_id): RequireUser) -> String {
    user_id
}

async fn number(RequireUser(number): RequireUser<u64>) -> String {
    format!("number {number}")
}

async fn home(user: Option<RequireUser>) -> String {
    user.map_or("nobody".to_owned(), |RequireUser(user_id)| user_id)
}

async fn home_of_number(user: Option<RequireUser<u64>>) -> String {
    user.map_or("nobody".to_owned(), |RequireUser(number)| {
        format!("number {number}")
    })
}

async fn sensitive(RequireFreshLogin(user_id): RequireFreshLogin<10>) -> String {
    format!("{user_id}, lately")
}

async fn sensitive_number(RequireFreshLogin(number): RequireFreshLogin<10, u64>) -> String {
    format!("number {number}, lately")
}

async fn log_in(
    session: Session,
    Path(user): Path<String>,
    ReturnTo(next): ReturnTo,
) -> Result<impl IntoResponse> {
    session.login(user).await?;
    Ok(next.unwrap_or_default().redirect())
}

async fn log_out(session: Session) -> Result<()> {
    Ok(session.logout().await?)
}

async fn set(session: Session, Path(value): Path<String>) -> Result<()> {
    Ok(session.insert("value", value)?)
}

async fn value(session: Session) -> Result<String> {
    Ok(session.get("value")?.unwrap_or_default())
}

fn routes() -> Router {
    Router::new()
        .route("/account", any(account))
        .route("/number", get(number))
        .route("/home", get(home))
        .route("/home-of-number", get(home_of_number))
        .route("/sensitive", any(sensitive))
        .route("/sensitive-number", get(sensitive_number))
        .route("/login", get("the form"))
        .route("/login/{user}", post(log_in))
        .route("/logout", post(log_out))
        .route("/set/{value}", post(set))
        .route("/value", get(value))
        .nest("/admin", Router::new().route("/users/{id}", get(account)))
}

fn builder(store: impl SessionStore) -> SessionLayerBuilder {
    SessionLayer::builder(store).login_page("/login")
}

fn client_at(router: Router) -> Client {
    TestClient::with_body(router)
}

/// A browser at the app with a login page, and the clock of both.
fn client() -> (Client, ManualClock) {
    let clock = ManualClock::new();
    let layer = builder(MemoryStore::new())
        .clock(clock.clone())
        .build()
        .unwrap();
    (client_at(routes().layer(layer)).clock(clock.clone()), clock)
}

/// One at the app without a login page.
fn without_login_page() -> Client {
    client_at(routes().layer(SessionLayer::new(MemoryStore::new())))
}

fn request(method: Method, path: &str, headers: &[(HeaderName, &str)]) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    request
}

/// As a browser goes to a page.
async fn visit(client: &Client, path: &str) -> TestResponse {
    client.send(request(Method::GET, path, &BROWSER)).await
}

async fn location(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(HeaderName, &str)],
) -> String {
    let response = client.send(request(method, path, headers)).await;
    match response.status() {
        StatusCode::SEE_OTHER => response.header("location").unwrap().to_owned(),
        status => status.as_u16().to_string(),
    }
}

async fn log_in_as(client: &Client, user: &str) {
    client
        .post(&format!("/login/{user}"))
        .await
        .assert_status(StatusCode::SEE_OTHER);
}

// Who is let through.

#[tokio::test]
async fn who_is_logged_in_is_let_through_and_named_as_any_type() {
    let (client, _) = client();
    log_in_as(&client, "4711").await;
    for (path, expected) in [
        ("/account", "4711"),
        ("/number", "number 4711"),
        ("/home", "4711"),
        ("/home-of-number", "number 4711"),
        ("/sensitive", "4711, lately"),
        ("/sensitive-number", "number 4711, lately"),
    ] {
        let response = client.get(path).await.assert_status(StatusCode::OK);
        assert_eq!(response.text(), expected, "{path}");
        assert_eq!(visit(&client, path).await.text(), expected, "{path}");
    }
}

#[tokio::test]
async fn a_session_without_a_user_lets_nobody_through() {
    let (client, _) = client();
    client.post("/set/cart").await.assert_status(StatusCode::OK);
    assert_eq!(client.get("/value").await.text(), "cart");
    for path in ["/account", "/number", "/sensitive"] {
        client
            .get(path)
            .await
            .assert_status(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(client.get("/home").await.text(), "nobody");
    log_in_as(&client, "alice").await;
    client.get("/account").await.assert_status(StatusCode::OK);
    client.post("/logout").await;
    client
        .get("/account")
        .await
        .assert_status(StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_page_for_everybody_knows_nobody_only_where_nobody_is_logged_in() {
    let (client, _) = client();
    for path in ["/home", "/home-of-number"] {
        let response = client.get(path).await.assert_status(StatusCode::OK);
        assert_eq!(response.text(), "nobody");
    }
}

#[tokio::test]
async fn a_user_id_of_another_type_is_an_error_that_is_logged_without_it_and_no_401() {
    let (client, _) = client();
    log_in_as(&client, "alice-the-name").await;
    for path in ["/number", "/home-of-number", "/sensitive-number"] {
        let (log, guard) = Log::of_this_thread();
        let response = visit(&client, path).await;
        drop(guard);
        assert_eq!(
            response.status(),
            StatusCode::INTERNAL_SERVER_ERROR,
            "{path}"
        );
        assert_eq!(response.text(), "Something went wrong with the session.");
        let line = log.one("the user id of a session cannot be read");
        assert!(line.starts_with("ERROR") && line.contains("u64"), "{line}");
        assert!(line.contains("handle="), "{line}");
        assert_eq!(log.having("alice-the-name"), [""; 0]);
    }
    // As text it can be read.
    assert_eq!(client.get("/account").await.text(), "alice-the-name");
}

// Who is told what.

#[tokio::test]
async fn without_a_login_page_everybody_gets_a_401_with_a_challenge_that_opens_no_dialog() {
    let client = without_login_page();
    for path in ["/account", "/sensitive"] {
        for headers in [&[][..], &BROWSER] {
            let response = client.send(request(Method::GET, path, headers)).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(response.header("www-authenticate"), Some("Session"));
            assert_eq!(response.header("location"), None);
            assert_eq!(response.text(), "You are not logged in.");
        }
    }
}

#[tokio::test]
async fn only_a_browser_that_goes_to_a_page_or_sends_a_form_is_led_to_the_login_page() {
    const PAGE: &str = "/login?next=/account";
    const HTML: (HeaderName, &str) = (ACCEPT, "text/html");
    let mode = |mode| (SEC_FETCH_MODE, mode);
    let (client, _) = client();
    for (method, headers, expected) in [
        (Method::GET, &BROWSER[..], PAGE),
        (Method::HEAD, &BROWSER, PAGE),
        (Method::POST, &BROWSER, "/login"),
        (Method::PUT, &BROWSER, "401"),
        (Method::DELETE, &BROWSER, "401"),
        (Method::OPTIONS, &BROWSER, "401"),
        // Browsers that send no `Sec-Fetch-Mode`: old ones, and all over plain HTTP.
        (Method::GET, &[HTML], PAGE),
        (Method::GET, &[(ACCEPT, "Text/HTML")], PAGE),
        (Method::GET, &[(ACCEPT, "a/b , text/html ; q=0.1")], PAGE),
        (Method::GET, &[(ACCEPT, "a/b"), HTML], PAGE),
        (Method::POST, &[HTML], "/login"),
        // Programs, and what asks for no page.
        (Method::GET, &[], "401"),
        (Method::GET, &[(ACCEPT, "*/*")], "401"),
        (Method::GET, &[(ACCEPT, "text/*")], "401"),
        (Method::GET, &[(ACCEPT, "application/json")], "401"),
        (Method::GET, &[(ACCEPT, "text/html;q=0")], "401"),
        (Method::GET, &[(ACCEPT, "text/html; Q=0.000, */*")], "401"),
        (Method::GET, &[(ACCEPT, "text/htmlx")], "401"),
        (Method::GET, &[mode("navigate")], "401"),
        (Method::GET, &[(ACCEPT, "*/*"), mode("navigate")], "401"),
        // A script that asks for a part of a page, an image, a WebSocket.
        (Method::GET, &[HTML, mode("cors")], "401"),
        (Method::GET, &[HTML, mode("same-origin")], "401"),
        (Method::GET, &[HTML, mode("no-cors")], "401"),
        (Method::GET, &[HTML, mode("websocket")], "401"),
        (Method::POST, &[HTML, mode("cors")], "401"),
    ] {
        let answer = location(&client, method.clone(), "/account", headers).await;
        assert_eq!(answer, expected, "{method} {headers:?}");
    }
}

#[tokio::test]
async fn the_page_that_was_asked_for_comes_next() {
    let (client, _) = client();
    for (path, expected) in [
        ("/account", "/login?next=/account"),
        ("/account?", "/login?next=/account%3F"),
        (
            "/account?a=b&c=%20d+e",
            "/login?next=/account%3Fa%3Db%26c%3D%2520d%2Be",
        ),
        ("/account?next=/home", "/login?next=/account%3Fnext%3D/home"),
        ("https://app.example/account?a", "/login?next=/account%3Fa"),
        // Whatever is stripped off on the way to the handler.
        ("/admin/users/7?all", "/login?next=/admin/users/7%3Fall"),
    ] {
        let answer = location(&client, Method::GET, path, &BROWSER).await;
        assert_eq!(answer, expected, "{path}");
    }
    let long = format!("/account?{}", "a".repeat(2_048));
    for path in [
        "/admin/users/..",
        "/admin/users/%2e%2e",
        "/admin/users/%5c",
        "/account?'",
        &long,
    ] {
        let answer = location(&client, Method::GET, path, &BROWSER).await;
        assert_eq!(answer, "/login", "{path}");
    }
}

#[tokio::test]
async fn the_login_page_may_have_a_query_of_its_own() {
    let layer = builder(MemoryStore::new())
        .login_page("/login?lang=en")
        .build()
        .unwrap();
    let client = client_at(routes().layer(layer));
    let answer = location(&client, Method::GET, "/account", &BROWSER).await;
    assert_eq!(answer, "/login?lang=en&next=/account");
    let answer = location(&client, Method::POST, "/account", &BROWSER).await;
    assert_eq!(answer, "/login?lang=en");
}

#[tokio::test]
async fn a_session_layer_inside_of_a_nested_router_leads_to_the_whole_path_too() {
    let layer = builder(MemoryStore::new())
        .login_page("/app/login")
        .build()
        .unwrap();
    let client = client_at(Router::new().nest("/app", routes().layer(layer)));
    let answer = location(&client, Method::GET, "/app/admin/users/7", &BROWSER).await;
    assert_eq!(answer, "/app/login?next=/app/admin/users/7");
}

#[tokio::test]
async fn a_form_is_not_sent_again_and_the_page_that_it_was_on_comes_next_if_that_is_ours() {
    let (client, _) = client();
    for (site, referer, expected) in [
        (
            Some("same-origin"),
            Some("https://app.example.com/orders?a=b"),
            "/login?next=/orders%3Fa%3Db",
        ),
        (
            Some("same-origin"),
            Some("https://app.example.com"),
            "/login?next=/",
        ),
        (
            Some("same-origin"),
            Some("https://app.example.com//evil.example"),
            "/login",
        ),
        (
            Some("same-origin"),
            Some("https://app.example.com/login?next=/a"),
            "/login",
        ),
        (Some("same-origin"), Some("about:blank"), "/login"),
        (Some("same-origin"), Some("\u{e9}"), "/login"),
        (Some("same-origin"), None, "/login"),
        // Nobody else decides where a login leads.
        (
            Some("same-site"),
            Some("https://app.example.com/orders"),
            "/login",
        ),
        (
            Some("cross-site"),
            Some("https://evil.example/orders"),
            "/login",
        ),
        (
            Some("none"),
            Some("https://app.example.com/orders"),
            "/login",
        ),
        (None, Some("https://app.example.com/orders"), "/login"),
    ] {
        let mut headers = BROWSER.to_vec();
        headers.extend(site.map(|site| (SEC_FETCH_SITE, site)));
        headers.extend(referer.map(|referer| (REFERER, referer)));
        for path in ["/account?secret", "/sensitive"] {
            let answer = location(&client, Method::POST, path, &headers).await;
            assert_eq!(answer, expected, "{site:?} {referer:?}");
        }
    }
    // Nor does a link tell of more than itself.
    let mut headers = BROWSER.to_vec();
    headers.push((SEC_FETCH_SITE, "same-origin"));
    headers.push((REFERER, "https://app.example.com/orders"));
    let answer = location(&client, Method::GET, "/account", &headers).await;
    assert_eq!(answer, "/login?next=/account");
}

#[tokio::test]
async fn a_guard_on_the_login_page_is_no_loop_but_an_error_in_the_log() {
    let layer = builder(MemoryStore::new()).build().unwrap();
    let guarded = routes().layer(from_extractor::<RequireUser>()).layer(layer);
    let client = client_at(guarded);
    let (log, _guard) = Log::of_this_thread();
    let answer = location(&client, Method::GET, "/login?a=b", &BROWSER).await;
    assert_eq!(answer, "401");
    let line = log.one("a guard is on the login page itself");
    assert!(
        line.starts_with("ERROR") && line.contains("/login"),
        "{line}"
    );
    let answer = location(&client, Method::GET, "/account", &BROWSER).await;
    assert_eq!(answer, "/login?next=/account");
}

// To the login page and back.

async fn follow(client: &Client, path: &str) -> (String, String) {
    let to_login = location(client, Method::GET, path, &BROWSER).await;
    assert_eq!(visit(client, &to_login).await.text(), "the form");
    let post = to_login.replace("/login?", "/login/alice?");
    let back = location(client, Method::POST, &post, &BROWSER).await;
    let page = visit(client, &back).await;
    (back, page.text().to_owned())
}

#[tokio::test]
async fn a_browser_is_led_to_the_login_page_and_back() {
    let (client, _) = client();
    let path = "/admin/users/7?tab=2&q=a%26b";
    assert_eq!(
        follow(&client, path).await,
        (path.to_owned(), "alice".to_owned())
    );
}

#[tokio::test]
async fn an_expired_session_leads_to_the_login_page_and_back() {
    let (client, clock) = client();
    log_in_as(&client, "alice").await;
    clock.advance(HOUR - MILLISECOND);
    assert_eq!(visit(&client, "/account").await.text(), "alice");
    let path = "/account?tab=2";
    clock.advance(HOUR);
    let answer = (path.to_owned(), "alice".to_owned());
    assert_eq!(follow(&client, path).await, answer, "the idle timeout");
    for _ in 0..48 {
        assert_eq!(visit(&client, "/account").await.text(), "alice");
        clock.advance(HOUR / 2);
    }
    assert_eq!(follow(&client, path).await, answer, "the absolute timeout");
}

// A fresh login.

async fn status_of_sensitive(client: &Client) -> u16 {
    client.get("/sensitive").await.status().as_u16()
}

#[tokio::test]
async fn a_login_is_fresh_until_exactly_so_many_minutes_have_passed() {
    let (client, clock) = client();
    assert_eq!(status_of_sensitive(&client).await, 401);
    log_in_as(&client, "alice").await;
    assert_eq!(status_of_sensitive(&client).await, 200);
    clock.advance(10 * MINUTE - MILLISECOND);
    assert_eq!(status_of_sensitive(&client).await, 200);
    clock.advance(MILLISECOND);
    assert_eq!(status_of_sensitive(&client).await, 403);
    // She stays logged in, and using the session is no login.
    assert_eq!(client.get("/account").await.text(), "alice");
    client.post("/set/a").await;
    assert_eq!(status_of_sensitive(&client).await, 403);
}

#[tokio::test]
async fn a_login_again_as_the_same_user_makes_it_fresh_and_keeps_the_data() {
    let (client, clock) = client();
    log_in_as(&client, "alice").await;
    client.post("/set/cart").await;
    clock.advance(30 * MINUTE);
    assert_eq!(status_of_sensitive(&client).await, 403);
    log_in_as(&client, "alice").await;
    assert_eq!(status_of_sensitive(&client).await, 200);
    assert_eq!(client.get("/value").await.text(), "cart");
}

#[tokio::test]
async fn a_login_too_long_ago_is_told_apart_from_none() {
    let (client, clock) = client();
    log_in_as(&client, "alice").await;
    clock.advance(10 * MINUTE);
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let response = client.send(request(method, "/sensitive", &[])).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(
            response.header("www-authenticate"),
            Some(r#"Session error="insufficient_user_authentication", max_age="600""#)
        );
        assert_eq!(
            response.text(),
            "You logged in too long ago for this. Please log in again."
        );
    }
}

#[tokio::test]
async fn a_browser_whose_login_is_too_long_ago_is_led_to_the_login_page_and_back() {
    let (client, clock) = client();
    log_in_as(&client, "alice").await;
    clock.advance(10 * MINUTE);
    let (back, page) = follow(&client, "/sensitive?a=b").await;
    assert_eq!((&*back, &*page), ("/sensitive?a=b", "alice, lately"));

    clock.advance(10 * MINUTE);
    let mut headers = BROWSER.to_vec();
    headers.push((SEC_FETCH_SITE, "same-origin"));
    headers.push((REFERER, "https://app.example.com/settings"));
    let answer = location(&client, Method::POST, "/sensitive", &headers).await;
    assert_eq!(answer, "/login?next=/settings");
}

/// A clock that is set, backwards as well.
#[derive(Clone, Debug)]
struct SetClock(Arc<AtomicI64>);

impl Clock for SetClock {
    fn now(&self) -> time::OffsetDateTime {
        from_unix_millis(self.0.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn a_login_in_the_future_is_fresh_within_the_skew_of_clocks_and_no_further() {
    const LOGIN: i64 = 1_800_000_000_000;
    let millis = Arc::new(AtomicI64::new(LOGIN));
    let layer = builder(MemoryStore::new()).clock(SetClock(millis.clone()));
    let client = client_at(routes().layer(layer.build().unwrap()));
    log_in_as(&client, "alice").await;
    for (now, expected) in [
        (LOGIN, 200),
        (LOGIN - 60_000, 200),
        (LOGIN - 60_001, 403),
        (LOGIN - 600_000_000, 403),
        (LOGIN + 599_999, 200),
        (LOGIN + 600_000, 403),
    ] {
        millis.store(now, Ordering::Relaxed);
        assert_eq!(
            status_of_sensitive(&client).await,
            expected,
            "{}",
            now - LOGIN
        );
        // She is logged in all the time.
        assert_eq!(client.get("/account").await.text(), "alice");
    }
}

// What is no answer to «who is logged in».

#[tokio::test]
async fn a_store_that_fails_is_a_503_for_every_guard_and_never_nobody() {
    let store = FailingStore::new(MemoryStore::new());
    let client = client_at(routes().layer(builder(store.clone()).build().unwrap()));
    log_in_as(&client, "4711").await;
    store.fail(Operation::Load, When::BeforeEffect, Times::Always);
    for path in [
        "/account",
        "/number",
        "/home",
        "/home-of-number",
        "/sensitive",
        "/admin/users/7",
    ] {
        for headers in [&[][..], &BROWSER] {
            let response = client.send(request(Method::GET, path, headers)).await;
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert_eq!(response.header("location"), None, "{path}");
            assert_eq!(response.header("www-authenticate"), None, "{path}");
            assert_eq!(response.header(CACHE_CONTROL), Some("no-store"), "{path}");
        }
    }
}

#[tokio::test]
async fn without_a_session_layer_around_it_every_guard_says_where_that_belongs() {
    let inside_out = [
        ("no layer", client_at(routes())),
        (
            "the guard outside of the layer",
            client_at(
                routes()
                    .layer(builder(MemoryStore::new()).build().unwrap())
                    .layer(from_extractor::<RequireUser>()),
            ),
        ),
    ];
    for (name, client) in inside_out {
        for path in ["/account", "/home", "/sensitive"] {
            let response = visit(&client, path).await;
            assert_eq!(
                response.status(),
                StatusCode::INTERNAL_SERVER_ERROR,
                "{name}"
            );
            let text = response.text();
            assert!(
                text.contains("no cloakroom::SessionLayer is around this handler"),
                "{text}"
            );
            assert!(text.contains("the layer added last runs first"), "{text}");
        }
    }
}

// What it costs, and as layers.

#[derive(Clone)]
struct AppState(&'static str);

impl FromRef<AppState> for &'static str {
    fn from_ref(state: &AppState) -> Self {
        state.0
    }
}

#[tokio::test]
async fn guards_share_one_load_with_each_other_and_with_the_session_of_the_handler() {
    async fn all(
        RequireUser(user_id): RequireUser,
        _: Option<RequireUser>,
        _: RequireFreshLogin<10>,
        session: Session,
        _: Option<Session>,
    ) -> String {
        assert_eq!(session.user_id().as_deref(), Some(&*user_id));
        user_id
    }
    let spy = SpyStore::new(MemoryStore::new());
    let routes = routes()
        .route("/all", get(all))
        .route_layer(from_extractor::<Option<RequireUser>>())
        .merge(
            Router::new()
                .route("/guarded", get(all))
                .route_layer(from_extractor::<RequireFreshLogin<10>>())
                .route_layer(from_extractor::<RequireUser>()),
        )
        .route("/unguarded", get("free"));
    let client = client_at(routes.layer(builder(spy.clone()).build().unwrap()));

    // Without a cookie there is nothing to load.
    for path in ["/all", "/guarded", "/account"] {
        client
            .get(path)
            .await
            .assert_status(StatusCode::UNAUTHORIZED);
    }
    assert_eq!(spy.total(), 0);
    log_in_as(&client, "alice").await;
    for path in ["/all", "/guarded", "/account", "/home", "/sensitive"] {
        spy.reset();
        client.get(path).await.assert_status(StatusCode::OK);
        assert_eq!(
            spy.calls(),
            Calls {
                load: 1,
                ..Calls::default()
            },
            "{path}"
        );
    }
    spy.reset();
    client.get("/unguarded").await.assert_status(StatusCode::OK);
    assert_eq!(spy.total(), 0);
}

#[tokio::test]
async fn a_guard_as_a_layer_guards_its_routes_and_no_others() {
    let guarded = Router::new()
        .route("/plain", get("let through"))
        .route_layer(from_extractor::<RequireUser>());
    let with_state = Router::new()
        .route(
            "/with-state",
            get(async |State(state): State<&'static str>| state),
        )
        .route_layer(from_extractor_with_state::<RequireFreshLogin<10>, _>(
            AppState(""),
        ))
        .with_state(AppState("let through"));
    let layer = builder(MemoryStore::new()).build().unwrap();
    let client = client_at(routes().merge(guarded).merge(with_state).layer(layer));
    for path in ["/plain", "/with-state"] {
        client
            .get(path)
            .await
            .assert_status(StatusCode::UNAUTHORIZED);
        let answer = location(&client, Method::GET, path, &BROWSER).await;
        assert_eq!(answer, format!("/login?next={path}"));
    }
    client.get("/login").await.assert_status(StatusCode::OK);
    client
        .get("/not-there")
        .await
        .assert_status(StatusCode::NOT_FOUND);
    log_in_as(&client, "alice").await;
    for path in ["/plain", "/with-state"] {
        let response = client.get(path).await.assert_status(StatusCode::OK);
        assert_eq!(response.text(), "let through");
    }
}

#[tokio::test]
async fn a_handler_that_is_not_let_through_does_not_run() {
    let layer = builder(MemoryStore::new()).build().unwrap();
    let routes = Router::new()
        .route("/panics", any(async || -> () { panic!("the handler ran") }))
        .route_layer(from_extractor::<RequireUser>());
    let client = client_at(routes.layer(layer));
    for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE] {
        let answer = location(&client, method, "/panics", &[]).await;
        assert_eq!(answer, "401");
    }
}

// What caches see.

#[tokio::test]
async fn no_cache_keeps_what_a_guard_answers() {
    let (client, clock) = client();
    let seen = async |path: &str, headers: &[(HeaderName, &str)]| {
        let response = client.send(request(Method::GET, path, headers)).await;
        let header = |name| response.header(name).map(str::to_owned);
        (
            response.status().as_u16(),
            header("vary"),
            header("cache-control"),
        )
    };
    let cached = |status, caching: Option<&str>| {
        (
            status,
            Some("Cookie".to_owned()),
            caching.map(str::to_owned),
        )
    };
    assert_eq!(seen("/account", &[]).await, cached(401, Some("no-store")));
    assert_eq!(
        seen("/account", &BROWSER).await,
        cached(303, Some("no-store"))
    );
    assert_eq!(seen("/home", &BROWSER).await, cached(200, None));

    client.post("/set/anonymous").await;
    assert_eq!(
        seen("/account", &BROWSER).await,
        cached(303, Some("no-store"))
    );

    log_in_as(&client, "alice").await;
    assert_eq!(
        seen("/account", &BROWSER).await,
        cached(200, Some("private"))
    );
    assert_eq!(seen("/home", &BROWSER).await, cached(200, Some("private")));
    assert_eq!(seen("/number", &[]).await, cached(500, Some("no-store")));
    clock.advance(10 * MINUTE);
    assert_eq!(seen("/sensitive", &[]).await, cached(403, Some("no-store")));
    assert_eq!(
        seen("/sensitive", &BROWSER).await,
        cached(303, Some("no-store"))
    );
}

// Answers of one's own.

#[tokio::test]
async fn an_app_can_answer_in_a_way_of_its_own() {
    async fn own(user: std::result::Result<RequireUser<u64>, GuardRejection>) -> Response {
        match user {
            Ok(RequireUser(number)) => number.to_string().into_response(),
            Err(rejection) => {
                let text = format!(
                    "{:?} {}",
                    rejection.kind(),
                    rejection.login_address().is_some()
                );
                (rejection.status(), text).into_response()
            }
        }
    }
    let layer = builder(MemoryStore::new()).build().unwrap();
    let client = client_at(routes().route("/own", get(own)).layer(layer));
    let answer = async |headers: &[(HeaderName, &str)]| {
        let response = client.send(request(Method::GET, "/own", headers)).await;
        (response.status().as_u16(), response.text().to_owned())
    };
    assert_eq!(answer(&[]).await, (401, "NotLoggedIn false".into()));
    assert_eq!(answer(&BROWSER).await, (303, "NotLoggedIn true".into()));
    log_in_as(&client, "alice").await;
    assert_eq!(answer(&BROWSER).await, (500, "Session false".into()));
    log_in_as(&client, "7").await;
    assert_eq!(answer(&BROWSER).await, (200, "7".into()));
}

/// Says in a header what an outer layer finds in the extensions of a response.
async fn found_outside(mut response: Response) -> Response {
    let rejection = response.extensions().get::<GuardRejection>();
    let error = response.extensions().get::<Error>();
    let text = format!(
        "{:?}, {:?}, {:?}",
        rejection.map(GuardRejection::kind),
        error.map(Error::kind),
        rejection.and_then(GuardRejection::login_address),
    );
    response
        .headers_mut()
        .insert("x-found", text.parse().unwrap());
    response
}

#[tokio::test]
async fn one_outer_layer_can_render_every_rejection() {
    let clock = ManualClock::new();
    let layer = builder(MemoryStore::new())
        .clock(clock.clone())
        .build()
        .unwrap();
    let client = client_at(routes().layer(layer).layer(map_response(found_outside)));
    let found = |response: TestResponse| response.header("x-found").unwrap().to_owned();
    let seen = async |path: &str| found(visit(&client, path).await);
    assert_eq!(
        seen("/account").await,
        r#"Some(NotLoggedIn), None, Some("/login?next=/account")"#
    );
    assert_eq!(
        found(client.get("/account").await),
        "Some(NotLoggedIn), None, None"
    );
    log_in_as(&client, "alice").await;
    assert_eq!(seen("/account").await, "None, None, None");
    assert_eq!(seen("/number").await, "Some(Session), Some(Decode), None");
    clock.advance(10 * MINUTE);
    assert_eq!(
        seen("/sensitive").await,
        r#"Some(LoginTooOld), None, Some("/login?next=/sensitive")"#
    );
}

#[tokio::test]
async fn a_rejection_says_what_it_is_and_what_it_comes_from() {
    let extract = async |extensions| {
        let mut parts = Request::new(()).into_parts().0;
        parts.extensions = extensions;
        use axum::extract::FromRequestParts;
        <RequireUser>::from_request_parts(&mut parts, &())
            .await
            .unwrap_err()
    };
    let rejection = extract(Default::default()).await;
    assert_eq!(rejection.kind(), GuardRejectionKind::Session);
    assert_eq!(rejection.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        rejection.body_text().contains("SessionLayer"),
        "{}",
        rejection.body_text()
    );
    assert_eq!(rejection.to_string(), "the session could not be used");
    let source = std::error::Error::source(&rejection).unwrap();
    let error = source.downcast_ref::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::MissingLayer);
}
