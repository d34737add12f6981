//! How many allocations a session costs a request, over those of a layer that does nothing around the same service.
//! Counted, so that it holds on every machine.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use axum::Router;
use axum::body::Body;
use axum::routing::{RouterIntoService, get};
use cloakroom::store::MemoryStore;
use cloakroom::{Error, Session, SessionLayer};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderValue, Request, Response};
use tokio::runtime::{Builder, Runtime};
use tower::Service;
use tower::layer::util::Identity;

async fn unused() {}

async fn read(session: Session) {
    black_box(session.get::<u64>("n").unwrap());
}

async fn write(session: Session) -> Result<(), Error> {
    let n = session.get::<u64>("n")?.unwrap_or_default();
    session.insert("n", n + 1)
}

fn with_sessions() -> Router {
    Router::new()
        .route("/unused", get(unused))
        .route("/read", get(read))
        .route("/write", get(write))
        .layer(SessionLayer::new(MemoryStore::new()))
        // Routes are made once, and not anew with each request.
        .with_state(())
}

fn without() -> Router {
    Router::new()
        .route("/unused", get(unused))
        .route("/read", get(unused))
        .route("/write", get(unused))
        .layer(Identity::new())
        .with_state(())
}

/// An app, whose requests are counted one by one.
struct Counted {
    runtime: Runtime,
    app: RouterIntoService<Body>,
    cookie: Option<HeaderValue>,
}

impl Counted {
    fn new(app: Router) -> Self {
        Self {
            runtime: Builder::new_current_thread().build().unwrap(),
            app: app.into_service(),
            cookie: None,
        }
    }

    fn with_live_session() -> Self {
        let mut counted = Self::new(with_sessions());
        let (response, _) = counted.visit("/write");
        let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
        counted.cookie = Some(cookie.split(';').next().unwrap().parse().unwrap());
        counted
    }

    fn visit(&mut self, path: &'static str) -> (Response<Body>, u64) {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert(COOKIE, cookie.clone());
        }
        let mut response = None;
        let counted = allocation_counter::measure(|| {
            let answer = self.app.call(request);
            response = Some(self.runtime.block_on(answer).unwrap());
        });
        (response.unwrap(), counted.count_total)
    }

    /// The allocations of a request, where nothing grows: the fewest of some.
    fn allocations(&mut self, path: &'static str) -> u64 {
        (0..20)
            .map(|_| {
                let (response, count) = self.visit(path);
                assert!(response.status().is_success());
                count
            })
            .min()
            .unwrap()
    }
}

#[track_caller]
fn assert_at_most(limit: u64, mut app: Counted, path: &'static str) {
    let with = app.allocations(path);
    let without = Counted::new(without()).allocations(path);
    let over = with - without;
    assert!(
        over <= limit,
        "{path} takes {over} allocations: {with}, and {without} without sessions"
    );
}

#[test]
fn a_request_that_does_not_use_its_session_takes_few_allocations() {
    assert_at_most(3, Counted::new(with_sessions()), "/unused");
    assert_at_most(3, Counted::with_live_session(), "/unused");
}

#[test]
fn a_read_takes_few_allocations() {
    assert_at_most(6, Counted::with_live_session(), "/read");
}

#[test]
fn a_write_takes_few_allocations() {
    assert_at_most(14, Counted::with_live_session(), "/write");
}

#[test]
fn a_new_session_takes_few_allocations() {
    let mut app = Counted::new(with_sessions());
    // Until each part of the store has the room for some more.
    for _ in 0..1_000 {
        app.visit("/write");
    }
    assert_at_most(14, app, "/write");
}

/// It is in the future of every handler that takes a session, and axum allocates that for each request. Up to 1,032
/// bytes glibc's allocator has at hand without a lock (`tcache` in its `malloc.c`).
#[test]
fn loading_a_session_takes_little_room() {
    let request = Request::new(());
    let size = size_of_val(&Session::load(request.extensions()));
    assert!(size <= 384, "{size} bytes");
}
