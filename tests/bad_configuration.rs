//! Settings that cannot be meant are refused when the layer is built; and the defaults are as documented.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/contended_store.rs"]
mod contended_store;
#[path = "support/http_surface.rs"]
mod http_surface;

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Result;
use axum::routing::get;
use cloakroom::store::{MemoryStore, StoreErrorKind};
use cloakroom::testing::{Calls, ManualClock, Operation, PausingStore, SpyStore};
use cloakroom::{
    Error, ErrorKind, Login, SameSite, Session, SessionLayer, SessionLayerBuilder, Timeouts,
};
use tokio::time::Instant;

use self::contended_store::ContendedStore;
use self::http_surface::{get as get_with, visit};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

type Choose = fn(SessionLayerBuilder) -> SessionLayerBuilder;

fn builder() -> SessionLayerBuilder {
    SessionLayer::builder(MemoryStore::new())
}

fn problems(choose: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder) -> Vec<String> {
    match choose(builder()).build() {
        Ok(_) => Vec::new(),
        Err(error) => error.problems().to_vec(),
    }
}

/// Each bad setting, what its problem says is wrong, and what it says to do.
const BAD: [(Choose, &str, &str); 43] = [
    (
        |b| b.timeouts(Timeouts::new(Duration::ZERO, DAY)),
        "the idle timeout is zero",
        "use Timeouts::without_idle",
    ),
    (
        |b| b.timeouts(Timeouts::new(Duration::from_micros(999), DAY)),
        "the idle timeout is zero",
        "give a longer one",
    ),
    (
        |b| b.timeouts(Timeouts::new(HOUR, Duration::ZERO)),
        "the absolute timeout is zero",
        "give the longest time",
    ),
    (
        |b| b.timeouts(Timeouts::without_idle(Duration::ZERO)),
        "the absolute timeout is zero",
        "give the longest time",
    ),
    (
        |b| b.timeouts(Timeouts::new(DAY, HOUR)),
        "an idle timeout of 86400s is longer than the absolute timeout of 3600s",
        "give a shorter one",
    ),
    (
        |b| b.timeouts(Timeouts::without_idle(Duration::MAX)),
        "longer than ten years",
        "check the unit",
    ),
    (
        |b| b.timeouts(Timeouts::new(HOUR, DAY * 3_651)),
        "longer than ten years",
        "check the unit",
    ),
    (
        |b| b.renew_ids_every(Duration::ZERO),
        "renew_ids_every is zero",
        "leave it out",
    ),
    (
        |b| b.renew_ids_every(Duration::from_micros(999)),
        "renew_ids_every is zero",
        "give the age",
    ),
    (
        |b| b.end_session_on_copied_id(),
        "end_session_on_copied_id without renew_ids_every",
        "give the age",
    ),
    (
        |b| b.retired_id_grace(DAY + MILLISECOND),
        "retired_id_grace of 86400.001s is longer than a day",
        "such as 10 seconds",
    ),
    (
        |b| b.store_timeout(Duration::ZERO),
        "store_timeout of 0ns is zero",
        "such as 5 seconds",
    ),
    (
        |b| b.store_timeout(DAY * 2),
        "store_timeout of 172800s",
        "such as 5 seconds",
    ),
    (
        |b| b.retry_for(DAY * 2),
        "retry_for of 172800s is longer than a day",
        "such as 2 seconds",
    ),
    (
        |b| b.max_session_size(0),
        "max_session_size of 0 bytes",
        "keep large data elsewhere",
    ),
    (
        |b| b.max_session_size(16 * 1024 * 1024 + 1),
        "max_session_size of 16777217 bytes",
        "keep large data elsewhere",
    ),
    (
        |b| b.max_cookie_bytes(0),
        "limit of 0 bytes of cookies has no room",
        "give at least 63",
    ),
    (
        |b| b.max_cookie_bytes(62),
        "limit of 62 bytes of cookies has no room",
        "give at least 63",
    ),
    (
        |b| b.max_cookies(0),
        "limit of 0 cookies has no room",
        "give at least 1",
    ),
    (
        |b| b.cookie_name(""),
        "the cookie's name is empty",
        "such as \"id\"",
    ),
    (
        |b| b.cookie_name("my session"),
        "contains ' '",
        "use only letters and digits",
    ),
    (
        |b| b.cookie_name("id=1"),
        "contains '='",
        "use only letters and digits",
    ),
    (
        |b| b.cookie_name("id;"),
        "contains ';'",
        "use only letters and digits",
    ),
    (
        |b| b.cookie_name("s\u{e9}ance"),
        "contains 'é'",
        "use only letters and digits",
    ),
    (
        |b| b.cookie_name("id\r\nX: y"),
        "contains '\\r'",
        "use only letters and digits",
    ),
    (
        |b| b.cookie_name("x".repeat(257)),
        "257 bytes long",
        "at most 256",
    ),
    (
        |b| b.cookie_name("__Host-id"),
        "begins with __Host-",
        "give only what follows, \"id\"",
    ),
    (
        |b| b.cookie_name("__SECURE-id"),
        "begins with __SECURE-",
        "give only what follows, \"id\"",
    ),
    (|b| b.domain(""), "is empty", "or none"),
    (
        |b| b.domain("https://example.com"),
        "contains ':'",
        "a bare name such as \"example.com\"",
    ),
    (
        |b| b.domain("127.0.0.1"),
        "is an IP address",
        "give no domain",
    ),
    (
        |b| b.domain(".example.com"),
        "begins with a dot",
        "give it without",
    ),
    (
        |b| b.domain("localhost"),
        "is a single label",
        "give no domain",
    ),
    (
        |b| b.path("app"),
        "does not begin with a slash",
        "such as \"/\" or \"/app\"",
    ),
    (
        |b| b.path("/a; Domain=evil.example"),
        "contains ';'",
        "leave it out",
    ),
    (
        |b| b.same_site(SameSite::None).insecure_for_development(),
        "reject a SameSite=None cookie that is not Secure",
        "leave Secure on",
    ),
    (
        |b| b.partitioned(),
        "Partitioned cookie is for pages that other sites embed",
        "choose SameSite::None too",
    ),
    (
        |b| b.login_page("login"),
        "the login_page \"login\" cannot be led to: this is no path of this site: it does not begin",
        "give a path such as \"/login\"",
    ),
    (
        |b| b.login_page("https://example.com/login"),
        "the login_page \"https://example.com/login\" cannot be led to",
        "give a path such as",
    ),
    (
        |b| b.login_page("//example.com"),
        "two slashes, which name another host",
        "give a path such as",
    ),
    (
        |b| b.login_page("/login#form"),
        "or a fragment",
        "give a path such as",
    ),
    (
        |b| b.login_page("/login?a=b&next=/c"),
        "the login_page \"/login?a=b&next=/c\" has a `next` in its query",
        "leave it out",
    ),
    (
        |b| b.clear_site_data_at_logout([]),
        "clear_site_data_at_logout names nothing to clear",
        "leave it out",
    ),
];

#[test]
fn every_bad_setting_is_one_problem_that_says_what_to_do() {
    for (choose, wrong, to_do) in BAD {
        let problems = problems(choose);
        let [problem] = &problems[..] else {
            panic!("not one problem with {wrong:?}: {problems:?}");
        };
        assert!(problem.contains(wrong), "{wrong:?} is not in {problem:?}");
        let advice = problem
            .find(": ")
            .map(|at| &problem[at..])
            .unwrap_or_default();
        assert!(advice.contains(to_do), "{to_do:?} is not in {advice:?}");
    }
}

#[test]
fn a_partitioned_cookie_that_is_not_secure_is_refused() {
    let problems = problems(|b| {
        b.partitioned()
            .same_site(SameSite::None)
            .insecure_for_development()
    });
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("SameSite=None cookie that is not Secure"),
        "{problems:?}"
    );
    assert!(
        problems[1].contains("Partitioned cookie that is not Secure"),
        "{problems:?}"
    );
}

#[test]
fn all_problems_are_listed_at_once() {
    let error = builder()
        .cookie_name("")
        .path("app")
        .domain("localhost")
        .same_site(SameSite::None)
        .partitioned()
        .insecure_for_development()
        .max_cookies(0)
        .timeouts(Timeouts::new(DAY, HOUR))
        .renew_ids_every(Duration::ZERO)
        .retired_id_grace(DAY * 2)
        .max_session_size(0)
        .store_timeout(Duration::ZERO)
        .retry_for(DAY * 2)
        .build()
        .unwrap_err();
    let problems = error.problems();
    assert_eq!(problems.len(), 12, "{problems:#?}");
    let message = error.to_string();
    assert!(
        message.starts_with("the session layer cannot be built: "),
        "{message}"
    );
    for problem in problems {
        assert!(
            message.contains(problem.as_str()),
            "{problem:?} is not in the message"
        );
    }
}

#[test]
fn settings_at_the_edge_of_what_can_be_meant_are_taken() {
    let taken: [Choose; 16] = [
        |b| b.timeouts(Timeouts::new(MILLISECOND, MILLISECOND)),
        |b| b.timeouts(Timeouts::without_idle(DAY * 3_650)),
        |b| b.renew_ids_every(MILLISECOND),
        |b| b.renew_ids_every(Duration::MAX),
        |b| b.retired_id_grace(Duration::ZERO),
        |b| b.retired_id_grace(DAY),
        |b| b.store_timeout(DAY),
        |b| b.retry_for(Duration::ZERO),
        |b| b.max_session_size(1),
        |b| b.max_session_size(16 * 1024 * 1024),
        |b| b.max_cookie_bytes(63),
        |b| b.max_cookie_bytes(usize::MAX).max_cookies(usize::MAX),
        |b| b.max_cookies(1),
        |b| b.cookie_name("!#$%&'*+-.^_`|~"),
        |b| b.domain("xn--bcher-kva.example").path("/a/b"),
        |b| b.partitioned().same_site(SameSite::None),
    ];
    for (number, choose) in taken.into_iter().enumerate() {
        assert_eq!(problems(choose), Vec::<String>::new(), "setting {number}");
    }
}

#[tokio::test]
async fn timeouts_that_cannot_be_meant_are_refused_by_a_session_and_a_login_too() {
    let bad = [
        Timeouts::new(DAY, HOUR),
        Timeouts::new(Duration::ZERO, HOUR),
        Timeouts::without_idle(Duration::MAX),
    ];
    let routes = Router::new().route(
        "/",
        get(async move |session: Session| {
            for timeouts in bad {
                let refused = [
                    session.set_timeouts(timeouts).unwrap_err(),
                    session
                        .login(Login::new("a").remember_me(timeouts))
                        .await
                        .unwrap_err(),
                ];
                for error in refused {
                    assert_eq!(error.kind(), ErrorKind::InvalidTimeouts);
                    assert!(error.to_string().contains(": give a"), "{error}");
                }
            }
        }),
    );
    let spy = SpyStore::new(MemoryStore::new());
    let answer = visit(&routes.layer(SessionLayer::new(spy.clone())), "/").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(spy.total(), 0);
}

// The defaults, one by one as `SessionLayerBuilder` lists them, by what they do.

struct Defaults {
    app: Router,
    spy: SpyStore<MemoryStore>,
    clock: ManualClock,
}

/// The layer of an app that chooses nothing (but the clock).
fn defaults() -> Defaults {
    let spy = SpyStore::new(MemoryStore::new());
    let clock = ManualClock::new();
    let layer = SessionLayer::builder(spy.clone()).clock(clock.clone());
    Defaults {
        app: routes().layer(layer.build().unwrap()),
        spy,
        clock,
    }
}

fn routes() -> Router {
    Router::new()
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/timeouts", get(timeouts))
        .route("/login", get(log_in))
        .route("/insert/{bytes}", get(insert))
}

async fn read(session: Session) -> &'static str {
    match session.is_new() {
        true => "none",
        false => "live",
    }
}

async fn write(session: Session) -> Result<()> {
    session.update("n", |n: &mut u64| *n += 1)?;
    Ok(())
}

async fn timeouts(session: Session) -> String {
    format!("{:?}", session.timeouts())
}

async fn log_in(session: Session) -> Result<()> {
    Ok(session.login("alice").await?)
}

async fn insert(
    axum::extract::Path(bytes): axum::extract::Path<usize>,
    session: Session,
) -> std::result::Result<(), Error> {
    session.insert("k", "x".repeat(bytes))
}

#[tokio::test]
async fn by_default_a_session_lasts_for_1_hour_idle_and_24_hours_at_most() {
    let Defaults { app, clock, .. } = defaults();
    let pair = visit(&app, "/write").await.pair();
    let told = get_with(&app, "/timeouts", &[&pair]).await.body;
    assert_eq!(told, format!("{:?}", Some(Timeouts::new(HOUR, DAY))));

    clock.advance(HOUR - MILLISECOND);
    assert_eq!(get_with(&app, "/read", &[&pair]).await.body, "live");

    let pair = visit(&app, "/write").await.pair();
    clock.advance(HOUR);
    assert_eq!(
        get_with(&app, "/read", &[&pair]).await.body,
        "none",
        "idle for an hour"
    );

    let pair = visit(&app, "/write").await.pair();
    for _ in 0..47 {
        clock.advance(HOUR / 2);
        assert_eq!(get_with(&app, "/read", &[&pair]).await.body, "live");
    }
    clock.advance(HOUR / 2 - MILLISECOND);
    assert_eq!(get_with(&app, "/read", &[&pair]).await.body, "live");
    clock.advance(MILLISECOND);
    assert_eq!(
        get_with(&app, "/read", &[&pair]).await.body,
        "none",
        "24 hours old"
    );
}

#[tokio::test]
async fn by_default_a_read_is_written_once_a_sixteenth_of_the_idle_timeout_has_passed() {
    let Defaults { app, spy, clock } = defaults();
    let pair = visit(&app, "/write").await.pair();
    spy.reset();
    clock.advance(HOUR / 16 - MILLISECOND);
    get_with(&app, "/read", &[&pair]).await;
    assert_eq!(
        spy.calls(),
        Calls {
            load: 1,
            ..Calls::default()
        }
    );
    spy.reset();
    clock.advance(MILLISECOND);
    get_with(&app, "/read", &[&pair]).await;
    assert_eq!(
        spy.calls(),
        Calls {
            load: 1,
            touch: 1,
            ..Calls::default()
        }
    );
}

#[tokio::test]
async fn by_default_no_id_is_renewed_but_by_a_login() {
    let Defaults { app, clock, .. } = defaults();
    let pair = visit(&app, "/write").await.pair();
    for _ in 0..47 {
        clock.advance(HOUR / 2);
        assert!(
            get_with(&app, "/read", &[&pair])
                .await
                .set_cookies()
                .is_empty()
        );
    }
    assert_ne!(get_with(&app, "/login", &[&pair]).await.pair(), pair);
}

#[tokio::test]
async fn by_default_an_id_is_known_as_retired_for_10_seconds() {
    let Defaults { app, spy, clock } = defaults();
    let pair = visit(&app, "/write").await.pair();
    get_with(&app, "/login", &[&pair]).await;
    clock.advance(SECOND * 10 - MILLISECOND);
    spy.reset();
    let late = get_with(&app, "/write", &[&pair]).await;
    assert!(late.set_cookies().is_empty());
    assert_eq!(
        spy.calls(),
        Calls {
            load: 1,
            ..Calls::default()
        }
    );
    clock.advance(MILLISECOND);
    assert_ne!(get_with(&app, "/write", &[&pair]).await.pair(), pair);
}

#[tokio::test]
async fn by_default_a_session_holds_64_kib_of_keys_and_values() {
    let Defaults { app, .. } = defaults();
    // 8 bytes for the key, one for its only letter, two for the quotes of the value.
    let fits = 64 * 1024 - 8 - 1 - 2;
    assert_eq!(
        visit(&app, &format!("/insert/{fits}")).await.status,
        StatusCode::OK
    );
    let refused = visit(&app, &format!("/insert/{}", fits + 1)).await;
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(refused.set_cookies().is_empty());
}

// Time stands still in these two, but for the timers that the layer waits for.

#[tokio::test(start_paused = true)]
async fn by_default_a_contended_commit_is_tried_again_for_2_seconds() {
    let app = routes().layer(SessionLayer::new(ContendedStore::default()));
    let pair = visit(&app, "/write").await.pair();
    let start = Instant::now();
    let request = http_surface::request("/write", &[pair]).unwrap();
    let response = tower::ServiceExt::oneshot(app, request).await.unwrap();
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Contention);
    assert!(
        error
            .to_string()
            .contains("2s (SessionLayerBuilder::retry_for)"),
        "{error}"
    );
    let longest_pause = MILLISECOND * 64;
    assert!(start.elapsed() <= SECOND * 2, "{:?}", start.elapsed());
    assert!(
        start.elapsed() >= SECOND * 2 - longest_pause,
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn by_default_a_store_call_may_take_5_seconds() {
    let store = PausingStore::new(MemoryStore::new());
    let app = routes().layer(SessionLayer::new(store.clone()));
    let pair = visit(&app, "/write").await.pair();
    let _pause = store.pause_before(Operation::Load);
    let start = Instant::now();
    let request = http_surface::request("/read", &[pair]).unwrap();
    let response = tower::ServiceExt::oneshot(app, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.store_error_kind(), Some(StoreErrorKind::TimedOut));
    let source = std::error::Error::source(error).unwrap().to_string();
    assert!(
        source.contains("within 5s (SessionLayerBuilder::store_timeout)"),
        "{source}"
    );
    // A timer may fire a millisecond late.
    assert!((SECOND * 5..=SECOND * 5 + MILLISECOND).contains(&start.elapsed()));
}

#[tokio::test]
async fn by_default_the_cookie_is_the_strictest_and_ends_with_the_browser() {
    let set = visit(&defaults().app, "/write").await.set_cookies();
    assert_eq!(
        set,
        ["__Host-Http-id=<id>; HttpOnly; SameSite=Lax; Secure; Path=/"]
    );
}

#[tokio::test]
async fn by_default_64_kib_of_cookies_are_looked_at() {
    let Defaults { app, .. } = defaults();
    let pair = visit(&app, "/write").await.pair();
    for (bytes, expected) in [(65_536, "live"), (65_537, "none")] {
        let line = format!(
            "{pair}; a={}",
            "x".repeat(bytes - pair.len() - "; a=".len())
        );
        assert_eq!(line.len(), bytes);
        assert_eq!(
            get_with(&app, "/read", &[line]).await.body,
            expected,
            "{bytes} bytes"
        );
    }
}

#[tokio::test]
async fn by_default_1_024_cookies_are_looked_at() {
    let Defaults { app, .. } = defaults();
    let pair = visit(&app, "/write").await.pair();
    for (cookies, expected) in [(1_024, "live"), (1_025, "none")] {
        let line = format!("{}{pair}", "a=1; ".repeat(cookies - 1));
        assert_eq!(
            get_with(&app, "/read", &[line]).await.body,
            expected,
            "{cookies} cookies"
        );
    }
}

#[tokio::test]
async fn a_layer_that_is_new_has_the_same_defaults_as_one_that_is_built() {
    let app = routes().layer(SessionLayer::new(MemoryStore::new()));
    let built = visit(&defaults().app, "/write").await;
    let new = visit(&app, "/write").await;
    assert_eq!(new.set_cookies(), built.set_cookies());
    // Everything else, as it prints: the store and the clock are not those of the test.
    let shown = |layer: SessionLayer| {
        let shown = format!("{layer:?}");
        let from = shown.find("cookie: ").unwrap();
        shown[from..].to_owned()
    };
    assert_eq!(
        shown(SessionLayer::new(MemoryStore::new())),
        shown(builder().build().unwrap())
    );
}
