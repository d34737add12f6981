//! Clients that are no browsers: the id in a header of the layer's, besides the cookie or instead of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, SET_COOKIE, VARY};
use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Result};
use axum::routing::{get, post};
use axum::{Router, middleware::Next};
use cloakroom::events::{Event, EventKind, Refusal};
use cloakroom::guards::RequireUser;
use cloakroom::store::MemoryStore;
use cloakroom::testing::{
    Calls, FailingStore, ManualClock, Operation, SpyStore, TestClient, TestResponse, Times, When,
};
use cloakroom::{Session, SessionLayer, SessionLayerBuilder, SessionStore, SiteData, Timeouts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// 48 characters that no session has.
const UNKNOWN: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

type Store = SpyStore<MemoryStore>;

fn store() -> Store {
    SpyStore::new(MemoryStore::new())
}

fn routes() -> Router {
    let visits = async |session: Session| -> Result<String> {
        Ok(session.update("visits", |n: &mut u64| *n += 1)?.to_string())
    };
    let user = async |session: Session| session.user_id().as_deref().unwrap_or("nobody").to_owned();
    let log_in = async |session: Session| -> Result<()> { Ok(session.login("alice").await?) };
    let log_out = async |session: Session| -> Result<()> { Ok(session.logout().await?) };
    let renew = async |session: Session| -> Result<()> { Ok(session.renew_id()?) };
    let persist = async |session: Session| -> Result<()> { Ok(session.persistent_cookie()?) };
    let says = async |_: Session| ([(CACHE_CONTROL, "public, max-age=60")], "cached");
    let says_so = async |session: Session| -> Result<_> {
        session.insert("a", 1)?;
        Ok([(CACHE_CONTROL, "public, max-age=60")])
    };
    let forges = async |session: Session| -> Result<_> {
        session.insert("a", 1)?;
        Ok([(TOKEN, "forged"), (SET_COOKIE, "theme=dark")])
    };
    let fails = async |session: Session| -> Result<StatusCode> {
        session.login("alice").await?;
        Ok(StatusCode::INTERNAL_SERVER_ERROR)
    };
    Router::new()
        .route("/unused", get("unused"))
        .route("/visits", get(visits))
        .route("/user", get(user))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .route("/renew", post(renew))
        .route("/persist", post(persist))
        .route("/says", get(says))
        .route("/says-so", post(says_so))
        .route("/forges", post(forges))
        .route("/fails", post(fails))
        .route(
            "/for-users",
            get(async |RequireUser(user): RequireUser| user),
        )
}

fn builder(store: &(impl SessionStore + Clone)) -> SessionLayerBuilder {
    SessionLayer::builder(store.clone())
}

/// A cookie for browsers, and a header besides.
fn both(store: &(impl SessionStore + Clone)) -> Router {
    let layer = builder(store).id_header("X-Auth-Token").build().unwrap();
    routes().layer(layer)
}

fn bearer(store: &Store) -> Router {
    let layer = builder(store).authorization_bearer().build().unwrap();
    routes().layer(layer)
}

fn header_alone(store: &Store) -> Router {
    let layer = builder(store).id_header("X-Auth-Token").without_cookie();
    routes().layer(layer.build().unwrap())
}

/// A program that gets its id in `X-Auth-Token`.
fn program(app: &Router) -> TestClient<Router> {
    TestClient::new(app.clone()).sends_back(TOKEN, "new")
}

/// A request with exactly these headers, by a client without any of its own.
async fn send(
    app: &Router,
    method: Method,
    path: &str,
    lines: &[(HeaderName, &str)],
) -> TestResponse {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in lines {
        request = request.header(name, *value);
    }
    TestClient::<_, Body>::with_body(app.clone())
        .send(request.body(Body::empty()).unwrap())
        .await
}

async fn visit(app: &Router, path: &str, lines: &[(HeaderName, &str)]) -> TestResponse {
    send(app, Method::GET, path, lines).await
}

async fn post_to(app: &Router, path: &str, lines: &[(HeaderName, &str)]) -> TestResponse {
    send(app, Method::POST, path, lines).await
}

/// The id of a user who is logged in by the header.
async fn id_in_header(app: &Router) -> String {
    let response = post_to(app, "/login", &[(TOKEN, "new")]).await;
    response.header(TOKEN).unwrap().to_owned()
}

/// The id of a user who is logged in by the cookie.
async fn id_in_cookie(app: &Router) -> String {
    let browser = TestClient::new(app.clone());
    browser.post("/login").await;
    browser.cookie("__Host-Http-id").unwrap()
}

fn cookie(id: &str) -> String {
    format!("__Host-Http-id={id}")
}

fn assert_tells_nothing(response: &TestResponse) {
    for name in [TOKEN, AUTHORIZATION, SET_COOKIE] {
        assert!(!response.headers().contains_key(&name), "{response:?}");
    }
}

// What a program gets.

#[tokio::test]
async fn a_program_sends_back_what_it_got_from_login_to_logout() {
    let store = store();
    for app in [both(&store), header_alone(&store)] {
        let program = program(&app);
        assert_eq!(program.get("/user").await.text(), "nobody");
        program
            .get("/for-users")
            .await
            .assert_status(StatusCode::UNAUTHORIZED);
        let response = program.post("/login").await;
        assert_eq!(response.header(TOKEN).unwrap().len(), 48);
        assert_eq!(program.get("/user").await.text(), "alice");
        assert_eq!(program.get("/for-users").await.text(), "alice");

        let old = response.header(TOKEN).unwrap().to_owned();
        let response = program.post("/renew").await;
        assert_ne!(response.header(TOKEN), Some(&*old));
        assert_eq!(program.get("/user").await.text(), "alice");
        assert_eq!(
            visit(&app, "/user", &[(TOKEN, &old)]).await.text(),
            "nobody"
        );

        let response = program.post("/logout").await;
        assert_eq!(response.header(TOKEN), Some(""));
        assert_eq!(program.get("/user").await.text(), "nobody");
        let response = program.post("/login").await;
        assert_eq!(response.header(TOKEN).unwrap().len(), 48);
        assert_eq!(program.get("/user").await.text(), "alice");
        assert!(program.cookies().is_empty() && program.rejected_cookies().is_empty());
    }
}

#[tokio::test]
async fn the_same_with_authorization_bearer() {
    for first in ["Bearer new", "Bearer", "bearer", "BEARER  new "] {
        let program = TestClient::new(bearer(&store())).sends_back(AUTHORIZATION, first);
        let response = program.post("/login").await;
        let told = response.header(AUTHORIZATION).unwrap();
        assert_eq!(told.strip_prefix("Bearer ").unwrap().len(), 48);
        assert_eq!(program.get("/user").await.text(), "alice");
        let response = program.post("/logout").await;
        assert_eq!(response.header(AUTHORIZATION), Some("Bearer"));
        assert_eq!(program.get("/user").await.text(), "nobody");
        assert!(program.cookies().is_empty());
    }
}

#[tokio::test]
async fn asking_makes_no_session_and_writing_does() {
    let store = store();
    for asked in ["new", "", "  new\t"] {
        for app in [both(&store), header_alone(&store)] {
            store.reset();
            let response = visit(&app, "/user", &[(TOKEN, asked)]).await;
            assert_tells_nothing(&response);
            assert_eq!(store.calls(), Calls::default());
            let response = visit(&app, "/visits", &[(TOKEN, asked)]).await;
            assert_eq!(response.header(TOKEN).unwrap().len(), 48);
            assert_eq!(store.calls().create, 1);
        }
    }
}

#[tokio::test]
async fn a_read_and_a_write_of_a_session_tell_no_id() {
    let app = both(&store());
    let id = id_in_header(&app).await;
    assert_tells_nothing(&visit(&app, "/user", &[(TOKEN, &id)]).await);
    assert_tells_nothing(&visit(&app, "/visits", &[(TOKEN, &id)]).await);
}

#[tokio::test]
async fn a_browser_goes_on_with_its_cookie_and_sees_no_header() {
    let app = both(&store());
    let browser = TestClient::new(app);
    for path in ["/login", "/renew", "/persist", "/logout"] {
        let response = browser.post(path).await;
        assert_eq!(response.set_cookies().len(), 1, "{path}");
        assert!(!response.headers().contains_key(TOKEN), "{path}");
    }
    browser.get("/visits").await;
    assert_eq!(browser.get("/visits").await.text(), "2");
}

#[tokio::test]
async fn without_a_cookie_every_client_is_told_in_the_header() {
    let app = header_alone(&store());
    let response = post_to(&app, "/login", &[]).await;
    assert_eq!(response.header(TOKEN).unwrap().len(), 48);
    assert!(response.set_cookies().is_empty());
    // Nor does a cookie open anything.
    let id = response.header(TOKEN).unwrap();
    let response = visit(&app, "/user", &[(COOKIE, &cookie(id))]).await;
    assert_eq!(response.text(), "nobody");
}

#[tokio::test]
async fn what_concerns_cookies_alone_sets_none() {
    let app = both(&store());
    let id = id_in_header(&app).await;
    let response = post_to(&app, "/persist", &[(TOKEN, &id)]).await;
    assert!(response.set_cookies().is_empty());
    assert_eq!(visit(&app, "/user", &[(TOKEN, &id)]).await.text(), "alice");
}

// By which way.

#[tokio::test]
async fn no_header_tells_the_id_of_a_cookie_whatever_is_asked_for() {
    let app = both(&store());
    let id = id_in_cookie(&app).await;
    for asked in ["new", "", UNKNOWN, &id] {
        let lines = &[(COOKIE, &*cookie(&id)), (TOKEN, asked)];
        // The header wins, so nobody is logged in.
        assert_eq!(visit(&app, "/user", lines).await.text(), "nobody");
        for path in ["/renew", "/persist", "/logout"] {
            assert!(
                !post_to(&app, path, lines)
                    .await
                    .headers()
                    .contains_key(SET_COOKIE)
            );
        }
        let response = visit(&app, "/visits", lines).await;
        let told = response.header(TOKEN).unwrap();
        assert_ne!(told[..22], id[..22], "a session of its own");
        assert_eq!(response.text(), "1");
    }
    let response = visit(&app, "/user", &[(COOKIE, &cookie(&id))]).await;
    assert_eq!(
        response.text(),
        "alice",
        "the cookie's session is as it was"
    );
}

#[tokio::test]
async fn an_id_works_only_by_the_way_it_was_issued_for() {
    let store = store();
    let app = both(&store);
    let (by_cookie, by_header) = (id_in_cookie(&app).await, id_in_header(&app).await);
    store.reset();
    let right = [(COOKIE, cookie(&by_cookie)), (TOKEN, by_header.clone())];
    let wrong = [(COOKIE, cookie(&by_header)), (TOKEN, by_cookie.clone())];
    for (name, value) in wrong {
        let response = visit(&app, "/user", &[(name.clone(), &value)]).await;
        assert_eq!(response.text(), "nobody", "{name}");
        post_to(&app, "/logout", &[(name, &value)]).await;
    }
    assert_eq!(store.calls().delete, 0);
    for (name, value) in right {
        let response = visit(&app, "/user", &[(name.clone(), &value)]).await;
        assert_eq!(response.text(), "alice", "{name}");
    }
}

#[tokio::test]
async fn the_way_is_that_of_the_session_and_not_the_name_of_the_header() {
    let store = store();
    let id = id_in_header(&both(&store)).await;
    let cookie_id = id_in_cookie(&both(&store)).await;
    let app = bearer(&store);
    let response = visit(&app, "/user", &[(AUTHORIZATION, &format!("Bearer {id}"))]).await;
    assert_eq!(response.text(), "alice");
    let response = visit(
        &app,
        "/user",
        &[(AUTHORIZATION, &format!("Bearer {cookie_id}"))],
    )
    .await;
    assert_eq!(response.text(), "nobody");
    // The cookie stays what it was with a layer of both, and means nothing to one without it.
    let response = visit(&app, "/user", &[(COOKIE, &cookie(&cookie_id))]).await;
    assert_eq!(response.text(), "alice");
    let without = header_alone(&store);
    for lines in [(COOKIE, cookie(&cookie_id)), (TOKEN, cookie_id)] {
        let response = visit(&without, "/user", &[(lines.0, &lines.1)]).await;
        assert_eq!(response.text(), "nobody");
    }
    // And a layer of the cookie alone takes no id of a header.
    let alone = routes().layer(builder(&store).build().unwrap());
    for lines in [(COOKIE, cookie(&id)), (TOKEN, id)] {
        let response = visit(&alone, "/user", &[(lines.0, &lines.1)]).await;
        assert_eq!(response.text(), "nobody");
    }
}

#[tokio::test]
async fn an_authorization_of_another_scheme_leaves_the_cookie_to_count() {
    let app = bearer(&store());
    let id = id_in_cookie(&app).await;
    for other in ["Basic YTpi", "Bearertoken", "", "Digest Bearer"] {
        let response = visit(
            &app,
            "/user",
            &[(AUTHORIZATION, other), (COOKIE, &cookie(&id))],
        )
        .await;
        assert_eq!(response.text(), "alice", "{other}");
    }
    // A bearer token of somebody else is no session, and counts before the cookie.
    let lines = &[
        (AUTHORIZATION, "Bearer eyJhbGciOi.J9.x"),
        (COOKIE, &*cookie(&id)),
    ];
    assert_eq!(visit(&app, "/user", lines).await.text(), "nobody");
}

// What is no id.

#[tokio::test]
async fn spaces_and_the_case_of_the_scheme_do_not_count() {
    let store = store();
    let (app, id) = (both(&store), id_in_header(&both(&store)).await);
    for line in [format!(" {id}"), format!("\t{id}\t "), id.clone()] {
        assert_eq!(
            visit(&app, "/user", &[(TOKEN, &line)]).await.text(),
            "alice",
            "{line:?}"
        );
    }
    let app = bearer(&store);
    for line in [
        format!("Bearer {id}"),
        format!("bearer {id}"),
        format!("BEARER    {id}  "),
        format!(" \tBearer \t{id}"),
    ] {
        let response = visit(&app, "/user", &[(AUTHORIZATION, &line)]).await;
        assert_eq!(response.text(), "alice", "{line:?}");
    }
}

#[tokio::test]
async fn several_lines_count_as_one_if_they_are_equal_and_as_none_if_not() {
    let store = store();
    let app = both(&store);
    let (id, other) = (id_in_header(&app).await, id_in_header(&app).await);
    store.reset();
    let user =
        async |lines: &[(HeaderName, &str)]| visit(&app, "/user", lines).await.text().to_owned();
    assert_eq!(user(&[(TOKEN, &id), (TOKEN, &id)]).await, "alice");
    assert_eq!(store.calls().load, 1);
    store.reset();
    for second in [&*other, UNKNOWN, "new", ""] {
        assert_eq!(
            user(&[(TOKEN, &id), (TOKEN, second)]).await,
            "nobody",
            "{second:?}"
        );
        assert_eq!(
            user(&[(TOKEN, second), (TOKEN, &id)]).await,
            "nobody",
            "{second:?}"
        );
    }
    let merged = format!("{id}, {id}");
    assert_eq!(user(&[(TOKEN, &merged)]).await, "nobody");
    assert_eq!(store.calls(), Calls::default());
}

#[tokio::test]
async fn what_is_no_id_is_no_session_and_a_write_is_told_in_the_header() {
    let store = store();
    let app = both(&store);
    let too_long = "A".repeat(4_000);
    for value in ["x", "nEw", "Bearer new", &too_long, "\u{e9}", UNKNOWN] {
        store.reset();
        let response = visit(&app, "/user", &[(TOKEN, value)]).await;
        assert_eq!(response.text(), "nobody");
        assert_tells_nothing(&response);
        let loads = u64::from(value == UNKNOWN);
        assert_eq!(store.calls().load, loads as usize, "{value:?}");
        let response = visit(&app, "/visits", &[(TOKEN, value)]).await;
        let told = response.header(TOKEN).unwrap();
        assert_eq!((told.len(), response.text()), (48, "1"));
        assert!(response.set_cookies().is_empty());
    }
}

#[tokio::test]
async fn a_retired_id_gets_no_session_and_a_login_under_it_a_fresh_one() {
    let app = both(&store());
    let id = id_in_header(&app).await;
    let renewed = post_to(&app, "/renew", &[(TOKEN, &id)]).await;
    let current = renewed.header(TOKEN).unwrap();
    assert_eq!(visit(&app, "/user", &[(TOKEN, &id)]).await.text(), "nobody");
    // Its changes are dropped, and nothing replaces the id that the program got meanwhile.
    assert_tells_nothing(&visit(&app, "/visits", &[(TOKEN, &id)]).await);
    let fresh = post_to(&app, "/login", &[(TOKEN, &id)]).await;
    assert_ne!(fresh.header(TOKEN).unwrap()[..22], current[..22]);
    assert_eq!(
        visit(&app, "/user", &[(TOKEN, current)]).await.text(),
        "alice"
    );
}

#[tokio::test]
async fn an_id_that_was_renewed_on_a_schedule_works_until_the_new_one_is_used() {
    let (store, clock) = (store(), ManualClock::new());
    let layer = builder(&store)
        .id_header("X-Auth-Token")
        .clock(clock.clone())
        .renew_ids_every(Duration::from_secs(60));
    let app = routes().layer(layer.build().unwrap());
    let id = id_in_header(&app).await;
    clock.advance(Duration::from_secs(60));
    let response = visit(&app, "/user", &[(TOKEN, &id)]).await;
    let next = response.header(TOKEN).unwrap();
    assert_ne!(next, id);
    assert_eq!(response.header(CACHE_CONTROL), Some("no-store"));
    assert_eq!(visit(&app, "/user", &[(TOKEN, &id)]).await.text(), "alice");
    assert_eq!(visit(&app, "/user", &[(TOKEN, next)]).await.text(), "alice");
    clock.advance(Duration::from_secs(11));
    assert_eq!(visit(&app, "/user", &[(TOKEN, &id)]).await.text(), "nobody");
    assert_eq!(visit(&app, "/user", &[(TOKEN, next)]).await.text(), "alice");
}

#[tokio::test]
async fn an_expired_session_is_no_session_and_the_next_login_tells_a_new_id() {
    let (store, clock) = (store(), ManualClock::new());
    let layer = builder(&store)
        .id_header("X-Auth-Token")
        .clock(clock.clone())
        .timeouts(Timeouts::without_idle(Duration::from_secs(60)));
    let program = program(&routes().layer(layer.build().unwrap()));
    program.post("/login").await;
    clock.advance(Duration::from_secs(60));
    assert_eq!(program.get("/user").await.text(), "nobody");
    program.post("/login").await;
    assert_eq!(program.get("/user").await.text(), "alice");
}

#[tokio::test]
async fn a_logout_is_told_to_whoever_brought_something_to_throw_away() {
    let app = both(&store());
    for (brought, told) in [
        ("new", None),
        ("", None),
        (UNKNOWN, Some("")),
        ("x", Some("")),
    ] {
        let response = post_to(&app, "/logout", &[(TOKEN, brought)]).await;
        assert_eq!(response.header(TOKEN), told, "{brought:?}");
        assert!(response.set_cookies().is_empty());
    }
}

#[tokio::test]
async fn a_login_is_told_on_any_response_and_a_failed_logout_on_none() {
    let store = FailingStore::new(MemoryStore::new());
    let app = both(&store);
    let response = post_to(&app, "/fails", &[(TOKEN, "new")]).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let id = response.header(TOKEN).unwrap();
    assert_eq!(visit(&app, "/user", &[(TOKEN, id)]).await.text(), "alice");
    store.fail(Operation::Delete, When::BeforeEffect, Times::Always);
    let response = post_to(&app, "/logout", &[(TOKEN, id)]).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_tells_nothing(&response);
}

// Caches, logs and other layers.

#[tokio::test]
async fn vary_names_every_header_that_is_looked_at() {
    let store = store();
    for (app, expected) in [
        (both(&store), "Cookie, x-auth-token"),
        (bearer(&store), "Cookie, authorization"),
        (header_alone(&store), "x-auth-token"),
    ] {
        for path in ["/user", "/visits", "/says", "/for-users"] {
            let response = visit(&app, path, &[]).await;
            assert_eq!(response.header(VARY), Some(expected), "{path}");
            let response = visit(&app, path, &[(TOKEN, "new")]).await;
            assert_eq!(response.header(VARY), Some(expected), "{path}");
        }
        let response = visit(&app, "/unused", &[(TOKEN, UNKNOWN)]).await;
        assert_eq!(response.header(VARY), None);
    }
}

#[tokio::test]
async fn a_response_with_an_id_or_of_a_live_session_is_not_stored() {
    let app = both(&store());
    let id = id_in_header(&app).await;
    let lines = &[(TOKEN, &*id)];
    let caching = async |method, path: &str, lines: &[(HeaderName, &str)]| {
        let response = send(&app, method, path, lines).await;
        response.header(CACHE_CONTROL).map(str::to_owned)
    };
    let no_store = Some("no-store".to_owned());
    assert_eq!(
        caching(Method::POST, "/login", &[(TOKEN, "new")]).await,
        no_store
    );
    assert_eq!(
        caching(Method::POST, "/says-so", &[(TOKEN, "new")]).await,
        no_store
    );
    assert_eq!(caching(Method::GET, "/user", lines).await, no_store);
    assert_eq!(caching(Method::POST, "/renew", &[(TOKEN, "x")]).await, None);
    // Whatever the handler says: a cache that knows nothing of the header would give it to anybody.
    assert_eq!(caching(Method::GET, "/says", lines).await, no_store);
    let said = caching(Method::GET, "/says", &[(TOKEN, "new")]).await;
    assert_eq!(said.as_deref(), Some("public, max-age=60"));
    assert_eq!(caching(Method::GET, "/user", &[(TOKEN, "new")]).await, None);
    assert_eq!(caching(Method::POST, "/logout", lines).await, no_store);
}

#[tokio::test]
async fn a_store_that_fails_is_a_503_that_no_cache_keeps() {
    let store = FailingStore::new(MemoryStore::new());
    let app = both(&store);
    store.fail(Operation::Load, When::BeforeEffect, Times::Always);
    let response = visit(&app, "/user", &[(TOKEN, UNKNOWN)]).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.header(CACHE_CONTROL), Some("no-store"));
    assert_eq!(response.header(VARY), Some("Cookie, x-auth-token"));
}

#[tokio::test]
async fn the_header_stands_once_in_a_response_and_other_cookies_stay() {
    let response = post_to(&both(&store()), "/forges", &[(TOKEN, "new")]).await;
    assert_eq!(response.header(TOKEN).unwrap().len(), 48);
    assert_eq!(response.header(SET_COOKIE), Some("theme=dark"));
}

#[tokio::test]
async fn clear_site_data_goes_out_with_the_empty_header() {
    let layer = builder(&store())
        .id_header("X-Auth-Token")
        .clear_site_data_at_logout([SiteData::Storage]);
    let program = program(&routes().layer(layer.build().unwrap()));
    program.post("/login").await;
    let response = program.post("/logout").await;
    assert_eq!(response.header("clear-site-data"), Some("\"storage\""));
}

/// What a layer outside and one inside see of the headers in `Debug`.
#[tokio::test]
async fn the_values_are_sensitive_in_the_request_and_in_the_response() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = |headers: &HeaderMap, seen: &Mutex<Vec<String>>| {
        seen.lock().unwrap().push(format!("{headers:?}"));
    };
    let inside = {
        let seen = seen.clone();
        from_fn(move |request: Request<Body>, next: Next| {
            log(request.headers(), &seen);
            next.run(request)
        })
    };
    let outside = {
        let seen = seen.clone();
        from_fn(move |request: Request<Body>, next: Next| {
            let seen = seen.clone();
            async move {
                let response = next.run(request).await;
                log(response.headers(), &seen);
                response.into_response()
            }
        })
    };
    let layer = builder(&store()).id_header("X-Auth-Token").build().unwrap();
    let app = routes().layer(inside).layer(layer).layer(outside);
    let mut ids = vec![id_in_header(&app).await];
    let renewed = post_to(&app, "/renew", &[(TOKEN, &ids[0])]).await;
    ids.push(renewed.header(TOKEN).unwrap().to_owned());
    post_to(&app, "/logout", &[(TOKEN, &ids[1])]).await;
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 6);
    for line in seen.iter() {
        assert!(line.contains("Sensitive"), "{line}");
        assert!(!ids.iter().any(|id| line.contains(&id[22..])), "{line}");
    }
}

#[tokio::test]
async fn an_unused_session_is_free_whatever_the_header_says() {
    let store = store();
    let app = both(&store);
    for value in ["new", UNKNOWN, "x"] {
        let response = visit(&app, "/unused", &[(TOKEN, value), (TOKEN, "y")]).await;
        assert_tells_nothing(&response);
        assert!(response.header(VARY).is_none() && response.header(CACHE_CONTROL).is_none());
    }
    assert_eq!(store.calls(), Calls::default());
}

#[tokio::test]
async fn a_layer_with_the_same_header_inside_is_the_same_session() {
    let store = store();
    let layer = |name: &str| {
        builder(&store)
            .cookie_name(name)
            .id_header("X-Auth-Token")
            .build()
            .unwrap()
    };
    let program = program(&routes().layer(layer("a")).layer(layer("b")));
    assert_eq!(program.get("/visits").await.text(), "1");
    assert_eq!(program.get("/visits").await.text(), "2");
    assert_eq!(store.calls().create, 1);
}

#[tokio::test]
async fn layers_with_other_headers_have_sessions_of_their_own() {
    let store = store();
    let layer = |name: &str| {
        builder(&store)
            .without_cookie()
            .id_header(name)
            .build()
            .unwrap()
    };
    let app = routes().layer(layer("X-Inner")).layer(layer("X-Outer"));
    let response = visit(&app, "/visits", &[]).await;
    assert!(response.header("x-inner").is_some());
    assert!(response.header("x-outer").is_none());
}

// Events.

#[tokio::test]
async fn a_wrong_way_and_differing_lines_are_told() {
    let told: Arc<Mutex<Vec<(EventKind, bool)>>> = Arc::default();
    let heard = told.clone();
    let layer = builder(&store())
        .id_header("X-Auth-Token")
        .on_event(move |event: &Event<'_>| {
            heard
                .lock()
                .unwrap()
                .push((event.kind(), event.handle().is_some()));
        });
    let app = routes().layer(layer.build().unwrap());
    let (by_cookie, by_header) = (id_in_cookie(&app).await, id_in_header(&app).await);
    told.lock().unwrap().clear();
    for (lines, kind, has_handle) in [
        (
            vec![(TOKEN, &*by_cookie)],
            Some(Refusal::OtherCarrier),
            true,
        ),
        (
            vec![(COOKIE, &*cookie(&by_header))],
            Some(Refusal::OtherCarrier),
            true,
        ),
        (
            vec![(TOKEN, &by_header), (TOKEN, "x")],
            Some(Refusal::DifferingHeaders),
            false,
        ),
        (vec![(TOKEN, "x")], Some(Refusal::Malformed), false),
        (vec![(TOKEN, UNKNOWN)], Some(Refusal::Unknown), true),
        (vec![(TOKEN, "new")], None, false),
        (vec![(TOKEN, "")], None, false),
    ] {
        visit(&app, "/user", &lines).await;
        let told: Vec<_> = told.lock().unwrap().drain(..).collect();
        let expected: Vec<_> = kind
            .map(|kind| (EventKind::Refused(kind), has_handle))
            .into_iter()
            .collect();
        assert_eq!(told, expected);
    }
}

// Settings that cannot be meant.

#[test]
fn a_header_that_cannot_be_meant_is_refused_when_the_layer_is_built() {
    for (name, says) in [
        ("", "is no name of a header"),
        ("X Auth", "is no name of a header"),
        ("größe", "is no name of a header"),
        ("X-Auth:", "is no name of a header"),
        ("Authorization", "use authorization_bearer"),
        ("Cookie", "means something else in HTTP"),
        ("set-cookie", "means something else in HTTP"),
        ("Vary", "means something else in HTTP"),
        ("Cache-Control", "means something else in HTTP"),
        ("Clear-Site-Data", "means something else in HTTP"),
        ("WWW-Authenticate", "means something else in HTTP"),
        ("Host", "means something else in HTTP"),
        ("Origin", "means something else in HTTP"),
        ("Sec-Fetch-Site", "means something else in HTTP"),
        ("Proxy-Authorization", "means something else in HTTP"),
        ("X-Forwarded-For", "means something else in HTTP"),
        ("X-CSRF-Token", "means something else in HTTP"),
        (
            "Access-Control-Expose-Headers",
            "means something else in HTTP",
        ),
    ] {
        let error = builder(&store()).id_header(name).build().unwrap_err();
        let [problem] = error.problems() else {
            panic!("{name}: {error}");
        };
        assert!(
            problem.contains(says) && problem.contains(": "),
            "{problem}"
        );
    }
    for name in ["X-Auth-Token", "x-session", "Session", "X_Id"] {
        assert!(builder(&store()).id_header(name).build().is_ok(), "{name}");
    }
}

#[test]
fn carriers_that_cannot_be_meant_together_are_refused() {
    let problems = |builder: SessionLayerBuilder| match builder.build() {
        Ok(_) => Vec::new(),
        Err(error) => error.problems().to_vec(),
    };
    let none = problems(builder(&store()).without_cookie());
    assert!(
        none[0].contains("leaves no way for the session id"),
        "{none:?}"
    );
    let two = builder(&store())
        .authorization_bearer()
        .id_header("X-Auth-Token");
    let two = problems(two);
    assert!(two[0].contains("two headers for the session id"), "{two:?}");
    let twice = builder(&store()).id_header("X-A").id_header("X-B");
    assert_eq!(problems(twice), two);
    let same = builder(&store()).id_header("X-A").id_header("X-A");
    assert!(problems(same).is_empty());
    // What is wrong with a cookie that is not used does not matter; with one that is, it does.
    let cookie = || builder(&store()).cookie_name("a b").id_header("X-A");
    assert_eq!(problems(cookie()).len(), 1);
    assert!(problems(cookie().without_cookie()).is_empty());
}

// Over a connection.

/// The lines of the head of the answer to a request with these lines.
async fn over_tcp(address: std::net::SocketAddr, request: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split("\r\n").map(str::to_owned).collect()
}

#[tokio::test]
async fn over_http_a_program_logs_in_and_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = bearer(&store());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let told = |head: &[String]| {
        let line = head
            .iter()
            .find_map(|line| line.strip_prefix("authorization: "));
        line.map(str::to_owned)
    };

    let head = over_tcp(address, "POST /login HTTP/1.1\r\nAuthorization: Bearer").await;
    let authorization = told(&head).unwrap();
    assert!(
        head.contains(&"vary: Cookie, authorization".to_owned()),
        "{head:?}"
    );
    assert!(
        head.contains(&"cache-control: no-store".to_owned()),
        "{head:?}"
    );
    assert!(
        !head.iter().any(|line| line.starts_with("set-cookie")),
        "{head:?}"
    );

    let request = format!("GET /user HTTP/1.1\r\nauthorization:   {authorization}  ");
    assert_eq!(over_tcp(address, &request).await.last().unwrap(), "alice");
    let request = format!("POST /logout HTTP/1.1\r\nAuthorization: {authorization}");
    assert_eq!(told(&over_tcp(address, &request).await).unwrap(), "Bearer");
    let request = format!("GET /user HTTP/1.1\r\nAuthorization: {authorization}");
    assert_eq!(over_tcp(address, &request).await.last().unwrap(), "nobody");
}

#[tokio::test]
async fn over_http_an_empty_header_asks_and_says_that_the_session_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = both(&store());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let head = over_tcp(address, "POST /login HTTP/1.1\r\nX-Auth-Token:").await;
    let id = head
        .iter()
        .find_map(|line| line.strip_prefix("x-auth-token: "))
        .unwrap();
    assert_eq!(id.len(), 48);
    let request = format!("POST /logout HTTP/1.1\r\nX-Auth-Token: {id}");
    let head = over_tcp(address, &request).await;
    assert!(
        head.iter().any(|line| line.trim_end() == "x-auth-token:"),
        "{head:?}"
    );
}
