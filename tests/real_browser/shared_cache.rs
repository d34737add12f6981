//! A cache that many users share, nginx's, between browsers and the app.

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, ETAG};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Redirect, Result};
use axum::routing::get;
use cloakroom::guards::RequireUser;
use cloakroom::store::MemoryStore;
use cloakroom::testing::{FailingStore, Operation, Times, When};
use cloakroom::{Session, SessionLayer};
use serde::Deserialize;

use crate::browser::{Browser, Programs, Setting};
use crate::jar;
use crate::nginx::{Cache, Nginx};
use crate::server::{HTTP_1, Server, browser_at};

/// As nginx comes: what may be stored is what the response says.
const AS_IT_COMES: Cache = Cache {
    host: "plain.shop.test",
    directives: "",
};

/// What is found in many a recipe: everything is stored whose response says nothing, whatever its status, and is
/// served where the app fails.
const EAGER: Cache = Cache {
    host: "eager.shop.test",
    directives: "proxy_cache_valid any 10m;
                 proxy_cache_key $host$uri;
                 proxy_cache_lock on;
                 proxy_cache_revalidate on;
                 proxy_cache_background_update on;
                 proxy_cache_use_stale error timeout updating http_500 http_503 http_404;",
};

/// One that takes no cookie of a response for a reason not to store it.
const BLIND: Cache = Cache {
    host: "blind.shop.test",
    directives: "proxy_cache_valid any 10m;
                 proxy_ignore_headers Set-Cookie;",
};

/// One that is told not to listen to what keeps users apart.
const CARELESS: Cache = Cache {
    host: "careless.shop.test",
    directives: "proxy_cache_valid any 10m;
                 proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;",
};

/// Pages that look at the session, to say who is logged in.
const LOOKING: [&str; 6] = [
    "/account",
    "/moved",
    "/missing",
    "/broken",
    "/tagged",
    "/settings",
];

/// Pages that change it, and so set a cookie at least once.
const CHANGING: [&str; 3] = ["/written", "/renewed", "/renewed-in-public"];

/// One that looks at it, and says that it is public all the same.
const PUBLISHED: &str = "/published";

const PUBLIC: [(HeaderName, &str); 1] = [(CACHE_CONTROL, "public, max-age=600")];

type Store = FailingStore<MemoryStore>;

fn app(store: &Store) -> Router {
    let sessions = SessionLayer::builder(store.clone()).build().unwrap();
    Router::new()
        .route("/public", get(async || (PUBLIC, "for everybody")))
        .route("/silent", get(async || "for everybody"))
        .route(
            "/of/{user}",
            get(async |Path(user): Path<String>| ([(CACHE_CONTROL, "no-store")], user)),
        )
        .route("/login/{user}", get(log_in))
        .route("/logout", get(log_out))
        .route("/account", get(user))
        .route("/moved", get(moved))
        .route(
            "/missing",
            get(async |session: Session| (StatusCode::NOT_FOUND, user(session).await)),
        )
        .route(
            "/broken",
            get(async |session: Session| (StatusCode::INTERNAL_SERVER_ERROR, user(session).await)),
        )
        .route("/tagged", get(tagged))
        .route("/settings", get(settings))
        .route(
            "/published",
            get(async |session: Session| (PUBLIC, user(session).await)),
        )
        .route("/written", get(written))
        .route("/renewed", get(renewed))
        .route(
            "/renewed-in-public",
            get(async |session: Session| (PUBLIC, renewed(session).await)),
        )
        .layer(sessions)
}

async fn user(session: Session) -> String {
    session.user_id().as_deref().unwrap_or("nobody").to_owned()
}

async fn log_in(session: Session, Path(name): Path<String>) -> Result<String> {
    session.login(name).await?;
    Ok(user(session).await)
}

async fn log_out(session: Session) -> Result<String> {
    session.logout().await?;
    Ok(user(session).await)
}

async fn moved(session: Session) -> Redirect {
    Redirect::to(&format!("/of/{}", user(session).await))
}

async fn tagged(session: Session) -> impl IntoResponse {
    let user = user(session).await;
    ([(ETAG, format!("\"{user}\""))], user)
}

/// For users alone.
async fn settings(user: Option<RequireUser>) -> (StatusCode, String) {
    match user {
        Some(RequireUser(user)) => (StatusCode::OK, user),
        None => (StatusCode::UNAUTHORIZED, "nobody".into()),
    }
}

async fn written(session: Session) -> Result<String> {
    session.update("n", |n: &mut u64| *n += 1)?;
    Ok(user(session).await)
}

async fn renewed(session: Session) -> Result<String> {
    session.renew_id()?;
    Ok(user(session).await)
}

/// An app and a shared cache in front of it.
struct Rig {
    store: Store,
    programs: Programs,
    nginx: Nginx,
    _app: Server,
}

impl Rig {
    fn start(caches: &[Cache]) -> Option<Self> {
        let programs = Programs::find()?;
        let program = Nginx::find()?;
        let store = FailingStore::new(MemoryStore::new());
        let app = app(&store);
        let sites = caches.iter().map(|cache| (cache.host, app.clone()));
        let server = Server::start(HTTP_1, sites);
        let nginx = Nginx::start(&program, server.port, caches);
        Some(Self {
            store,
            programs,
            nginx,
            _app: server,
        })
    }

    /// A browser behind the cache.
    fn browser(&self) -> Browser {
        browser_at(self.nginx.port, &self.programs, Setting::PLAIN)
    }
}

/// What a script of the page that is open gets.
#[derive(Debug, Deserialize)]
struct Got {
    path: String,
    status: u16,
    text: String,
    /// What the cache says that it did.
    cache: String,
}

fn get_of(browser: &Browser, path: &str) -> Got {
    get_all_of(browser, &[path]).remove(0)
}

fn get_all_of(browser: &Browser, paths: &[&str]) -> Vec<Got> {
    // Past the browser's own cache, which is nobody else's.
    let script = format!(
        "const got = []; \
         for (const path of {}) {{ \
             const answer = await fetch(path, {{cache: 'no-store'}}); \
             const {{status, headers}} = answer; \
             const cache = headers.get('x-cache-status'); \
             got.push({{path, status, text: await answer.text(), cache}}); \
         }} \
         return got",
        serde_json::json!(paths)
    );
    let got = browser.run(&format!("return (async () => {{ {script} }})()"));
    serde_json::from_value(got).unwrap()
}

#[test]
fn a_shared_cache_gives_nobody_what_was_made_for_another() {
    let caches = [AS_IT_COMES, EAGER, BLIND];
    let Some(rig) = Rig::start(&caches) else {
        return;
    };
    let (alice, other) = (rig.browser(), rig.browser());
    for cache in &caches {
        rig.keeps_apart(cache.host, cache.host != AS_IT_COMES.host, &alice, &other);
    }
}

impl Rig {
    fn keeps_apart(&self, host: &str, stores_silent: bool, alice: &Browser, other: &Browser) {
        let home = |page: &str| format!("https://{host}{page}");
        for browser in [alice, other] {
            jar::clear(browser);
            browser.open(&home("/of/nobody"));
        }
        // It does store, and for both.
        for (page, is_stored) in [("/public", true), ("/silent", stores_silent)] {
            let first = get_of(alice, page).cache;
            let second = get_of(other, page).cache;
            let expected = if is_stored { "HIT" } else { "MISS" };
            assert_eq!((&*first, &*second), ("MISS", expected), "{page} of {host}");
        }
        // What visitors without a cookie look at, too, where it stores what says nothing.
        shows(other, &[&LOOKING, &[PUBLISHED]], "nobody");
        let looked_at = get_of(other, "/account").cache;
        assert_eq!(looked_at == "HIT", stores_silent);

        alice.open(&home("/login/alice"));
        let all: [&[&str]; 3] = [&LOOKING, &CHANGING, &[PUBLISHED]];
        shows(alice, &all, "alice");
        shows(other, &[&LOOKING, &[PUBLISHED]], "nobody");
        // The second time, with the cookie of the first: none was stored.
        for got in get_all_of(alice, &[&LOOKING[..], &LOOKING, &CHANGING].concat()) {
            assert_eq!(got.cache, "MISS", "{} of {host}", got.path);
        }

        // The very address by which the other one got a cookie.
        other.open(&home("/login/alice"));
        assert_ne!(jar::only(other).value, jar::only(alice).value);
        other.open(&home("/login/bob"));
        shows(other, &all, "bob");
        shows(alice, &all, "alice");

        self.store
            .fail(Operation::Load, When::BeforeEffect, Times::Next(1));
        assert_eq!(get_of(alice, "/account").status, 503);
        shows(alice, &all, "alice");

        // The cookie of an ended session opens nothing, but for what was said to be public.
        let old = jar::only(alice);
        alice.open(&home("/logout"));
        shows(alice, &[&LOOKING, &[PUBLISHED]], "nobody");
        jar::put(alice, &old);
        shows(alice, &[&LOOKING], "nobody");
        shows(alice, &[&[PUBLISHED]], "alice");

        let stored = self.nginx.stored(host);
        assert!(stored.iter().any(|one| one.contains("for everybody")));
        for one in stored {
            let is_published = one.contains("/published\n");
            assert!(
                is_published || !one.contains("alice") && !one.contains("bob"),
                "{one}"
            );
            assert!(!one.contains("__Host-Http-id"), "{one}");
        }
    }
}

/// Checks who each of these pages says that it is, the second time as well as the first.
#[track_caller]
fn shows(browser: &Browser, pages: &[&[&str]], whose: &str) {
    let pages = pages.concat();
    for got in get_all_of(browser, &[&pages[..], &pages].concat()) {
        assert_eq!(got.text, whose, "{} by a {}", got.path, got.cache);
    }
}

#[test]
fn a_cache_that_is_told_to_heed_no_header_gives_one_users_session_to_another() {
    let Some(rig) = Rig::start(&[CARELESS]) else {
        return;
    };
    let browser = &rig.browser();
    let login = format!("https://{}/login/alice", CARELESS.host);
    browser.open(&login);
    assert_eq!(get_of(browser, "/account").text, "alice");
    let own = jar::only(browser);
    // Another user's browser has none of alice's cookies.
    jar::clear(browser);
    assert_eq!(get_of(browser, "/account").cache, "HIT");
    assert_eq!(get_of(browser, "/account").text, "alice");
    browser.open(&login);
    assert_eq!(jar::only(browser), own);
}
