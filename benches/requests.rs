//! What a session costs a request, in process, on the memory store: `cargo bench`.
//!
//! The service inside does nothing, so `no_layer` is what the measuring itself costs.
#![allow(missing_docs, clippy::unwrap_used)]

use std::convert::Infallible;

use axum::body::Body;
use cloakroom::store::MemoryStore;
use cloakroom::{Session, SessionLayer};
use divan::Bencher;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderValue, Request, Response};
use tokio::runtime::Runtime;
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt, service_fn};

type App = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

fn main() {
    divan::main();
}

/// What the handler does with its session.
#[derive(Clone, Copy, Debug)]
enum Does {
    Nothing,
    Read,
    Write,
}

async fn handle(request: Request<Body>, does: Does) -> Result<Response<Body>, Infallible> {
    if !matches!(does, Does::Nothing) {
        let session = Session::load(request.extensions()).await.unwrap();
        if matches!(does, Does::Read) {
            divan::black_box(session.get::<u64>("n").unwrap());
        } else {
            session.insert("n", 1_u64).unwrap();
        }
    }
    Ok(Response::default())
}

fn app(layer: &SessionLayer, does: Does) -> App {
    let service = ServiceBuilder::new()
        .layer(layer.clone())
        .service_fn(move |request| handle(request, does));
    BoxCloneSyncService::new(service)
}

fn request(cookie: Option<&HeaderValue>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    if let Some(cookie) = cookie {
        request.headers_mut().insert(COOKIE, cookie.clone());
    }
    request
}

/// The cookie of a session that holds one small key.
fn live_cookie(runtime: &Runtime, layer: &SessionLayer) -> HeaderValue {
    let response = runtime
        .block_on(app(layer, Does::Write).oneshot(request(None)))
        .unwrap();
    let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().parse().unwrap()
}

fn measure(bencher: Bencher<'_, '_>, with_cookie: bool, does: Does) {
    let runtime = Runtime::new().unwrap();
    let layer = SessionLayer::new(MemoryStore::new());
    let cookie = with_cookie.then(|| live_cookie(&runtime, &layer));
    let app = app(&layer, does);
    bencher
        .with_inputs(|| request(cookie.as_ref()))
        .bench_values(|request| runtime.block_on(app.clone().oneshot(request)).unwrap());
}

#[divan::bench]
fn no_layer(bencher: Bencher<'_, '_>) {
    let runtime = Runtime::new().unwrap();
    let app = App::new(service_fn(|request| handle(request, Does::Nothing)));
    bencher
        .with_inputs(|| request(None))
        .bench_values(|request| runtime.block_on(app.clone().oneshot(request)).unwrap());
}

#[divan::bench]
fn unused_without_cookie(bencher: Bencher<'_, '_>) {
    measure(bencher, false, Does::Nothing);
}

#[divan::bench]
fn unused_with_cookie(bencher: Bencher<'_, '_>) {
    measure(bencher, true, Does::Nothing);
}

#[divan::bench]
fn read(bencher: Bencher<'_, '_>) {
    measure(bencher, true, Does::Read);
}

#[divan::bench]
fn write(bencher: Bencher<'_, '_>) {
    measure(bencher, true, Does::Write);
}

#[divan::bench]
fn new_session(bencher: Bencher<'_, '_>) {
    measure(bencher, false, Does::Write);
}
