//! No cache gives one visitor's response to another: `Vary`, `Cache-Control`, and what leaves them alone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/http_surface.rs"]
mod http_surface;

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, SET_COOKIE, VARY};
use axum::http::{Extensions, HeaderName, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{AppendHeaders, IntoResponse, Response, Result};
use axum::routing::get;
use cloakroom::store::MemoryStore;
use cloakroom::testing::{FailingStore, ManualClock, Operation, Times, When};
use cloakroom::{Session, SessionLayer};

use self::http_surface::{Answer, get as get_with, get_both_ways, visit};

type Store = FailingStore<MemoryStore>;

fn store() -> Store {
    FailingStore::new(MemoryStore::new())
}

/// These routes, and `/write`, with sessions.
fn app(routes: Router, store: &Store) -> Router {
    routes
        .route("/write", get(write))
        .layer(SessionLayer::new(store.clone()))
}

async fn write(session: Session) -> Result<()> {
    Ok(session.insert("n", 1)?)
}

/// A live session, as `name=id`.
async fn live(app: &Router) -> String {
    visit(app, "/write").await.pair()
}

/// The lines of `Vary`, `Cache-Control` and `Set-Cookie` together: what a cache looks at.
fn seen_by_caches(answer: &Answer) -> (Vec<&str>, Vec<&str>) {
    (answer.all(VARY), answer.all(CACHE_CONTROL))
}

// Which requests are varied by cookie.

async fn nobody() {}

async fn extracted(_: Session) {}

async fn extracted_option(_: Option<Session>) {}

async fn extracted_result(session: std::result::Result<Session, cloakroom::Error>) {
    drop(session);
}

async fn loaded(extensions: Extensions) {
    Session::load(&extensions).await.unwrap();
}

async fn existence_checked(session: Session) -> &'static str {
    match session.contains_key("n") {
        true => "there",
        false => "not there",
    }
}

async fn read_by_a_clone(session: Session) -> String {
    let clone = session.clone();
    drop(session);
    tokio::spawn(async move { clone.keys().len().to_string() })
        .await
        .unwrap()
}

async fn user_asked_for(session: Session) -> String {
    format!("{:?}", session.user_id())
}

async fn loading_middleware(request: Request, next: Next) -> Response {
    Session::load(request.extensions()).await.unwrap();
    next.run(request).await
}

async fn extracting_middleware(_: Session, request: Request, next: Next) -> Response {
    next.run(request).await
}

fn accessors() -> Router {
    Router::new()
        .route("/extracted", get(extracted))
        .route("/option", get(extracted_option))
        .route("/result", get(extracted_result))
        .route("/loaded", get(loaded))
        .route("/existence", get(existence_checked))
        .route("/clone", get(read_by_a_clone))
        .route("/user", get(user_asked_for))
        .route(
            "/middleware",
            get(nobody).layer(from_fn(extracting_middleware)),
        )
        .route(
            "/loading-middleware",
            get(nobody).layer(from_fn(loading_middleware)),
        )
        .route(
            "/both",
            get(extracted).layer(from_fn(extracting_middleware)),
        )
}

const ACCESSES: [&str; 10] = [
    "/extracted",
    "/option",
    "/result",
    "/loaded",
    "/existence",
    "/clone",
    "/user",
    "/middleware",
    "/loading-middleware",
    "/both",
];

#[tokio::test]
async fn every_access_to_a_live_session_makes_the_response_private_and_varied() {
    let app = app(accessors(), &store());
    let pair = live(&app).await;
    for path in ACCESSES {
        for answer in get_both_ways(&app, path, &[&pair]).await {
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            assert_eq!(
                seen_by_caches(&answer),
                (vec!["Cookie"], vec!["private"]),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn every_access_to_an_absent_session_makes_the_response_varied_alone() {
    let app = app(accessors(), &store());
    let unknown = format!("__Host-Http-id={}", "A".repeat(48));
    for path in ACCESSES {
        for cookies in [
            vec![],
            vec!["a=1"],
            vec![&*unknown],
            vec!["__Host-Http-id=evil"],
        ] {
            let answer = get_with(&app, path, &cookies).await;
            assert_eq!(
                seen_by_caches(&answer),
                (vec!["Cookie"], vec![]),
                "{path} {cookies:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_unused_session_leaves_the_response_alone() {
    let routes = Router::new()
        .route("/", get(nobody))
        .route(
            "/public",
            get(async || [(CACHE_CONTROL, "public, max-age=60"), (VARY, "Accept")]),
        )
        .route("/own", get(async || [(SET_COOKIE, "__Host-Http-id=mine")]));
    let app = app(routes, &store());
    let pair = live(&app).await;
    for cookies in [vec![], vec![&*pair], vec!["__Host-Http-id=evil"]] {
        for answer in get_both_ways(&app, "/", &cookies).await {
            assert_eq!(seen_by_caches(&answer), (vec![], vec![]));
            assert!(answer.set_cookies().is_empty());
        }
        let public = get_with(&app, "/public", &cookies).await;
        assert_eq!(
            seen_by_caches(&public),
            (vec!["Accept"], vec!["public, max-age=60"])
        );
        let own = get_with(&app, "/own", &cookies).await;
        assert_eq!(own.set_cookies(), ["__Host-Http-id=mine"]);
    }
}

#[tokio::test]
async fn a_route_that_is_not_there_is_as_unused_as_any() {
    let app = app(Router::new(), &store());
    let pair = live(&app).await;
    let answer = get_with(&app, "/nowhere", &[pair]).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(seen_by_caches(&answer), (vec![], vec![]));
}

// What a handler said itself.

/// A handler that reads the session and answers with these headers.
fn saying<const N: usize>(headers: [(HeaderName, &'static str); N]) -> axum::routing::MethodRouter {
    get(async move |_: Session| AppendHeaders(headers))
}

#[tokio::test]
async fn cookie_is_merged_once_into_what_the_handler_varies_by() {
    let routes = Router::new()
        .route("/one", saying([(VARY, "Accept-Encoding")]))
        .route("/list", saying([(VARY, "Accept, Origin")]))
        .route("/lines", saying([(VARY, "Accept"), (VARY, "Origin")]))
        .route("/already", saying([(VARY, "Accept, cookie")]))
        .route(
            "/second",
            saying([(VARY, "Accept"), (VARY, "COOKIE , Origin")]),
        )
        .route("/alike", saying([(VARY, "X-Cookie, Cookie2")]))
        .route("/star", saying([(VARY, "*")]))
        .route("/star-in-list", saying([(VARY, "Accept"), (VARY, "*")]))
        .route("/empty", saying([(VARY, "")]));
    let app = app(routes, &store());
    let pair = live(&app).await;
    for (path, expected) in [
        ("/one", &["Accept-Encoding, Cookie"][..]),
        ("/list", &["Accept, Origin, Cookie"]),
        ("/lines", &["Accept, Cookie", "Origin"]),
        ("/already", &["Accept, cookie"]),
        ("/second", &["Accept", "COOKIE , Origin"]),
        ("/alike", &["X-Cookie, Cookie2, Cookie"]),
        ("/star", &["*"]),
        ("/star-in-list", &["Accept", "*"]),
        // An empty element of a list is allowed, and ignored (RFC 9110 §5.6.1).
        ("/empty", &[", Cookie"]),
    ] {
        for cookies in [vec![], vec![&pair]] {
            let answer = get_with(&app, path, &cookies).await;
            assert_eq!(answer.all(VARY), expected, "{path} {cookies:?}");
        }
    }
}

#[tokio::test]
async fn a_handler_decides_itself_whether_what_it_read_is_cached() {
    let routes = Router::new()
        .route("/public", saying([(CACHE_CONTROL, "public, max-age=60")]))
        .route("/no-cache", saying([(CACHE_CONTROL, "no-cache")]))
        .route(
            "/lines",
            saying([(CACHE_CONTROL, "public"), (CACHE_CONTROL, "max-age=60")]),
        )
        .route("/silent", saying([]));
    let app = app(routes, &store());
    let pair = live(&app).await;
    for (path, expected) in [
        ("/public", &["public, max-age=60"][..]),
        ("/no-cache", &["no-cache"]),
        ("/lines", &["public", "max-age=60"]),
        ("/silent", &["private"]),
    ] {
        let answer = get_with(&app, path, &[&pair]).await;
        assert_eq!(
            seen_by_caches(&answer),
            (vec!["Cookie"], expected.to_vec()),
            "{path}"
        );
    }
}

// Responses with our cookie.

#[tokio::test]
async fn a_response_with_our_cookie_is_never_stored_whatever_the_handler_said() {
    async fn write_public(session: Session) -> Result<impl IntoResponse> {
        session.insert("n", 1)?;
        let headers = [
            (CACHE_CONTROL, "public, max-age=60"),
            (CACHE_CONTROL, "immutable"),
            (VARY, "Accept"),
        ];
        Ok(AppendHeaders(headers))
    }
    async fn log_in(session: Session) -> Result<impl IntoResponse> {
        session.login("alice").await?;
        Ok([(CACHE_CONTROL, "public")])
    }
    async fn log_out(session: Session) -> Result<impl IntoResponse> {
        session.logout().await?;
        Ok([(CACHE_CONTROL, "public")])
    }
    async fn renew(session: Session) -> Result<()> {
        Ok(session.renew_id()?)
    }
    let routes = Router::new()
        .route("/public", get(write_public))
        .route("/login", get(log_in))
        .route("/logout", get(log_out))
        .route("/renew", get(renew));
    let app = app(routes, &store());
    for answer in get_both_ways::<&str>(&app, "/public", &[]).await {
        assert_eq!(
            seen_by_caches(&answer),
            (vec!["Accept, Cookie"], vec!["no-store"])
        );
        assert_eq!(answer.all(SET_COOKIE).len(), 1);
    }
    let mut pair = live(&app).await;
    for path in ["/renew", "/login", "/logout"] {
        let answer = get_with(&app, path, &[&pair]).await;
        assert_eq!(
            seen_by_caches(&answer),
            (vec!["Cookie"], vec!["no-store"]),
            "{path}"
        );
        pair = answer.pair();
    }
}

#[tokio::test]
async fn a_write_to_a_live_session_is_private_and_a_first_one_unsaved_is_not() {
    let routes = Router::new().route(
        "/broken",
        get(async |session: Session| {
            session.insert("n", 1).unwrap();
            StatusCode::INTERNAL_SERVER_ERROR
        }),
    );
    let app = app(routes, &store());
    let pair = live(&app).await;
    let written = get_with(&app, "/write", &[&pair]).await;
    assert_eq!(seen_by_caches(&written), (vec!["Cookie"], vec!["private"]));
    let broken = visit(&app, "/broken").await;
    assert_eq!(seen_by_caches(&broken), (vec!["Cookie"], vec![]));
    let broken = get_with(&app, "/broken", &[&pair]).await;
    assert_eq!(seen_by_caches(&broken), (vec!["Cookie"], vec!["private"]));
}

#[tokio::test]
async fn a_renewal_on_schedule_is_never_stored() {
    let clock = ManualClock::new();
    let layer = SessionLayer::builder(MemoryStore::new())
        .clock(clock.clone())
        .renew_ids_every(Duration::from_secs(60))
        .build()
        .unwrap();
    let app = Router::new()
        .route("/write", get(write))
        .route("/public", saying([(CACHE_CONTROL, "public")]))
        .layer(layer);
    let pair = live(&app).await;
    clock.advance(Duration::from_secs(60));
    let answer = get_with(&app, "/public", &[pair]).await;
    assert_eq!(answer.set_cookies().len(), 1);
    assert_eq!(seen_by_caches(&answer), (vec!["Cookie"], vec!["no-store"]));
}

// Failures.

#[tokio::test]
async fn a_session_that_could_not_be_loaded_is_never_stored() {
    let store = store();
    let app = app(accessors(), &store);
    let pair = live(&app).await;
    store.fail(Operation::Load, When::BeforeEffect, Times::Always);
    for path in ["/extracted", "/option", "/middleware"] {
        for answer in get_both_ways(&app, path, &[&pair]).await {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert_eq!(
                seen_by_caches(&answer),
                (vec!["Cookie"], vec!["no-store"]),
                "{path}"
            );
        }
    }
    // The handler that caught the error answers for itself.
    let caught = get_with(&app, "/result", &[&pair]).await;
    assert_eq!(caught.status, StatusCode::OK);
    assert_eq!(caught.all(VARY), ["Cookie"]);
}

#[tokio::test]
async fn a_session_that_could_not_be_saved_is_never_stored() {
    let store = store();
    let routes = Router::new().route(
        "/public",
        get(async |session: Session| {
            session.update("n", |n: &mut u64| *n += 1).unwrap();
            [(CACHE_CONTROL, "public, max-age=60")]
        }),
    );
    let app = app(routes, &store);
    let pair = live(&app).await;
    for (operation, cookies) in [
        (Operation::Create, vec![]),
        (Operation::Update, vec![&pair]),
    ] {
        store.fail(operation, When::BeforeEffect, Times::Always);
        for answer in get_both_ways(&app, "/public", &cookies).await {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(seen_by_caches(&answer), (vec!["Cookie"], vec!["no-store"]));
            assert_eq!(answer.body, "");
            assert!(answer.set_cookies().is_empty());
        }
        store.heal();
    }
}

#[tokio::test]
async fn the_cookie_of_a_login_goes_out_on_the_503_of_a_later_failure() {
    let store = store();
    let failing = store.clone();
    let routes = Router::new().route(
        "/",
        get(async move |session: Session| -> Result<()> {
            session.login("alice").await?;
            failing.fail(Operation::Update, When::BeforeEffect, Times::Always);
            Ok(session.insert("n", 1)?)
        }),
    );
    let app = app(routes, &store);
    let answer = visit(&app, "/").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(seen_by_caches(&answer), (vec!["Cookie"], vec!["no-store"]));
    assert_eq!(answer.set_cookies().len(), 1);
}
