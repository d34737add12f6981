//! The layer works around any tower service of `http` types, and at any place of an axum app.
// That futures need not be `Send` is what is tested.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::future_not_send)]

#[path = "support/http_surface.rs"]
mod http_surface;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, Ready, pending, poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request as AxumRequest;
use axum::http::header::{SET_COOKIE, VARY};
use axum::http::{HeaderValue, Request, Response, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Result;
use axum::routing::get;
use cloakroom::service::{ResponseFuture, SessionService};
use cloakroom::store::MemoryStore;
use cloakroom::testing::{Calls, FailingStore, Operation, SpyStore, TestClient, Times, When};
use cloakroom::{Session, SessionLayer};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{BodyExt, Empty, Full};
use tower::{Layer, Service, ServiceBuilder, service_fn};

use self::http_surface::visit;

type Spy = SpyStore<MemoryStore>;

fn spy() -> Spy {
    SpyStore::new(MemoryStore::new())
}

fn set_cookie<B>(response: &Response<B>) -> String {
    let line = response.headers()[SET_COOKIE].to_str().unwrap();
    line.split(';').next().unwrap().to_owned()
}

/// A request as no HTTP server makes it: its body is of our own.
fn request<B: Default>(cookie: Option<&str>) -> Request<B> {
    let mut request = Request::new(B::default());
    if let Some(cookie) = cookie {
        let cookie = HeaderValue::from_str(cookie).unwrap();
        request.headers_mut().insert("cookie", cookie);
    }
    request
}

// Services that nothing else takes.

/// Neither `Clone` nor `Send` nor `'static`; nor is its future, or the bodies of its requests.
struct Local<'a> {
    borrowed: &'a Cell<u32>,
    shared: Rc<RefCell<Vec<String>>>,
}

impl<'a> Service<Request<Rc<str>>> for Local<'a> {
    type Response = Response<Full<Bytes>>;
    type Error = Rc<str>;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Response, Rc<str>>> + 'a>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Rc<str>>) -> Self::Future {
        let (borrowed, shared) = (self.borrowed, self.shared.clone());
        Box::pin(async move {
            borrowed.set(borrowed.get() + 1);
            let (parts, body) = request.into_parts();
            if &*body == "fail" {
                return Err("failed".into());
            }
            let session = Session::load(&parts.extensions).await.unwrap();
            let n = session.update("n", |n: &mut u32| *n += 1).unwrap();
            shared.borrow_mut().push(format!("{body}{n}"));
            Ok(Response::new(n.to_string().into()))
        })
    }
}

#[tokio::test]
async fn the_inner_service_may_be_neither_clone_nor_send_nor_static() {
    let calls = Cell::new(0);
    let shared = Rc::new(RefCell::new(Vec::new()));
    let spy = spy();
    let local = Local {
        borrowed: &calls,
        shared: shared.clone(),
    };
    let mut service = SessionLayer::new(spy.clone()).layer(local);

    let first = call(&mut service, request::<Rc<str>>(None)).await.unwrap();
    let pair = set_cookie(&first);
    let second = call(&mut service, request::<Rc<str>>(Some(&pair)))
        .await
        .unwrap();
    assert_eq!(second.into_body().collect().await.unwrap().to_bytes(), "2");
    assert_eq!(
        spy.calls(),
        Calls {
            create: 1,
            load: 1,
            update: 1,
            ..Calls::default()
        }
    );

    let failing = Request::new(Rc::from("fail"));
    assert_eq!(&*call(&mut service, failing).await.unwrap_err(), "failed");
    assert_eq!(calls.get(), 3);
    assert_eq!(*shared.borrow(), ["1", "2"]);
}

/// What a server does: waits until the service is ready, and calls it.
async fn call<S, B>(
    service: &mut S,
    request: Request<B>,
) -> std::result::Result<S::Response, S::Error>
where
    S: Service<Request<B>>,
{
    poll_fn(|context| service.poll_ready(context)).await?;
    service.call(request).await
}

#[tokio::test]
async fn it_runs_on_a_local_set() {
    let tasks = tokio::task::LocalSet::new();
    let spy = spy();
    let layer = SessionLayer::new(spy.clone());
    tasks
        .run_until(async move {
            let shared = Rc::new(Cell::new(0));
            let inner = shared.clone();
            let mut service = layer.layer(service_fn(move |request: Request<String>| {
                let inner = inner.clone();
                async move {
                    let session = Session::load(request.extensions()).await.unwrap();
                    session.login("alice").await.unwrap();
                    inner.set(inner.get() + 1);
                    Ok::<_, Infallible>(Response::new(String::new()))
                }
            }));
            let response = tokio::task::spawn_local(async move {
                call(&mut service, request(None)).await.unwrap()
            });
            set_cookie(&response.await.unwrap());
            assert_eq!(shared.get(), 1);
        })
        .await;
    assert_eq!(
        spy.calls(),
        Calls {
            create: 1,
            link: 1,
            load: 1,
            ..Calls::default()
        }
    );
}

// Readiness.

/// Is ready when it is told, for one call at a time.
struct Gate {
    readiness: Rc<Cell<Poll<std::result::Result<(), &'static str>>>>,
    was_ready: bool,
}

impl Service<Request<()>> for Gate {
    type Response = Response<String>;
    type Error = &'static str;
    type Future = Ready<std::result::Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        self.was_ready = self.readiness.get() == Poll::Ready(Ok(()));
        self.readiness.get()
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(
            self.was_ready,
            "the instance that was asked is the one that is called"
        );
        self.was_ready = false;
        ready(Ok(Response::new("called".to_owned())))
    }
}

#[tokio::test]
async fn readiness_is_that_of_the_inner_service() {
    let readiness = Rc::new(Cell::new(Poll::Pending));
    let gate = Gate {
        readiness: readiness.clone(),
        was_ready: false,
    };
    let mut service = SessionLayer::new(spy()).layer(gate);
    let mut context = Context::from_waker(Waker::noop());
    for state in [
        Poll::Pending,
        Poll::Ready(Err("broken")),
        Poll::Ready(Ok(())),
    ] {
        readiness.set(state);
        assert_eq!(service.poll_ready(&mut context), state);
    }
    assert_eq!(
        service.call(Request::new(())).await.unwrap().into_body(),
        "called"
    );
}

// The future.

/// A future that is as large as a handler's can be.
struct Large([u8; 4_096]);

impl Future for Large {
    type Output = std::result::Result<Response<String>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::new(self.0.len().to_string())))
    }
}

#[tokio::test]
async fn the_inner_future_is_held_in_place_and_named() {
    let inner = service_fn(|_: Request<()>| Large([0; 4_096]));
    let mut service = SessionLayer::new(spy()).layer(inner);
    let future: ResponseFuture<Large, String> = service.call(Request::new(()));
    let (size, inner) = (size_of_val(&future), size_of::<Large>());
    assert!(size >= inner, "the inner future is not boxed");
    assert!(size <= inner + 256, "there is little around it: {size}");
    assert_eq!(future.await.unwrap().into_body(), "4096");
}

#[tokio::test]
async fn an_unused_session_costs_no_further_poll() {
    // `ready` is asked once, and that is all: nothing is awaited behind it.
    let inner =
        service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(String::new()))));
    let spy = spy();
    let mut service = SessionLayer::new(spy.clone()).layer(inner);
    let unknown = format!("__Host-Http-id={}", "A".repeat(48));
    let mut future = Box::pin(service.call(request(Some(&unknown))));
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut context) else {
        panic!("the response was ready");
    };
    assert!(response.headers().is_empty());
    assert_eq!(spy.total(), 0);
}

#[tokio::test]
async fn a_request_that_is_given_up_is_dropped_with_its_future() {
    let dropped = Rc::new(Cell::new(false));
    struct Noted(Rc<Cell<bool>>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let noted = dropped.clone();
    let inner = service_fn(move |_: Request<()>| {
        let noted = Noted(noted.clone());
        async move {
            pending::<()>().await;
            drop(noted);
            Ok::<_, Infallible>(Response::new(String::new()))
        }
    });
    let mut service = SessionLayer::new(spy()).layer(inner);
    let mut future = Box::pin(service.call(Request::new(())));
    assert!(
        future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    assert!(!dropped.get());
    drop(future);
    assert!(dropped.get());
}

#[test]
fn what_can_be_shared_can_be_shared_inside_the_layer_too() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn sent<T: Send>(_: &T) {}
    let layer = SessionLayer::new(spy());
    shared(&layer);
    let mut service: SessionService<_> = layer.layer(service_fn(|_: Request<()>| {
        ready(Ok::<_, Infallible>(Response::new(String::new())))
    }));
    shared(&service);
    sent(&service.call(Request::new(())));
}

// Bodies.

/// A response whose session cannot be saved, and one whose session can, both with this type of body.
async fn with_body<B: Default + From<&'static str> + http_body::Body>()
where
    B::Error: std::fmt::Debug,
{
    body_made_by(|| B::from("body")).await;
}

async fn body_made_by<B: Default + http_body::Body>(make: impl Fn() -> B)
where
    B::Error: std::fmt::Debug,
{
    let store = FailingStore::new(MemoryStore::new());
    let mut service = SessionLayer::new(store.clone()).layer(service_fn(|request: Request<()>| {
        let body = make();
        async move {
            let session = Session::load(request.extensions()).await.unwrap();
            session.insert("n", 1).unwrap();
            Ok::<_, Infallible>(Response::new(body))
        }
    }));
    store.fail(Operation::Create, When::BeforeEffect, Times::Next(1));
    for (status, length) in [
        (StatusCode::SERVICE_UNAVAILABLE, 0),
        (StatusCode::OK, length_of(make()).await),
    ] {
        let response = call(&mut service, Request::new(())).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(length_of(response.into_body()).await, length);
    }
}

async fn length_of<B: http_body::Body>(body: B) -> usize
where
    B::Error: std::fmt::Debug,
{
    let body = body.collect().await;
    let Ok(body) = body else {
        panic!("the body broke off");
    };
    body.to_bytes().len()
}

#[tokio::test]
async fn response_bodies_are_of_any_type_that_can_be_empty() {
    with_body::<String>().await;
    with_body::<Full<Bytes>>().await;
    with_body::<Body>().await;
    body_made_by(Empty::<Bytes>::new).await;
    body_made_by(|| BoxBody::new(Full::new(Bytes::from("body")))).await;
    body_made_by(|| UnsyncBoxBody::new(Full::new(Bytes::from("body")))).await;
}

// Places in an app.

async fn count(session: Session) -> Result<String> {
    let n = session.update("n", |n: &mut u64| *n += 1)?;
    Ok(n.to_string())
}

/// The app counts the visits of this client.
async fn assert_counts(app: Router, path: &str) {
    let client = TestClient::new(app);
    for n in 1..=3 {
        assert_eq!(
            client.get(path).await.assert_status(StatusCode::OK).text(),
            n.to_string()
        );
    }
}

#[tokio::test]
async fn it_goes_around_a_router_a_route_and_the_routes_of_a_router() {
    let layer = SessionLayer::new(MemoryStore::new());
    let routes = || Router::new().route("/", get(count));
    assert_counts(routes().layer(layer.clone()), "/").await;
    assert_counts(routes().route_layer(layer.clone()), "/").await;
    assert_counts(
        Router::new().route("/", get(count).layer(layer.clone())),
        "/",
    )
    .await;
    assert_counts(
        Router::new().route_service("/", layer.clone().layer(routes())),
        "/",
    )
    .await;
    assert_counts(
        Router::new().fallback(count).layer(layer.clone()),
        "/anywhere",
    )
    .await;
    assert_counts(routes().layer(ServiceBuilder::new().layer(layer)), "/").await;
}

#[tokio::test]
async fn it_goes_around_nested_and_merged_routers_and_into_them() {
    let layer = SessionLayer::new(MemoryStore::new());
    let routes = || Router::new().route("/count", get(count));
    assert_counts(
        Router::new().nest("/app", routes()).layer(layer.clone()),
        "/app/count",
    )
    .await;
    assert_counts(
        Router::new().nest("/app", routes().layer(layer.clone())),
        "/app/count",
    )
    .await;
    assert_counts(Router::new().merge(routes()).layer(layer.clone()), "/count").await;
    let inside = Router::new().merge(routes().layer(layer)).route(
        "/outside",
        get(async |session: Result<Session, cloakroom::Error>| session.is_err().to_string()),
    );
    assert_eq!(visit(&inside, "/outside").await.body, "true");
    assert_counts(inside, "/count").await;
}

#[tokio::test]
async fn a_route_layer_leaves_routes_alone_that_are_not_there() {
    let spy = spy();
    let app = Router::new()
        .route("/", get(count))
        .route_layer(SessionLayer::new(spy.clone()));
    let answer = visit(&app, "/nowhere").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(!answer.headers.contains_key(VARY));
    assert_eq!(spy.total(), 0);
}

#[tokio::test]
async fn a_service_builder_runs_its_layers_from_the_first_one_inwards() {
    let wrong = ServiceBuilder::new()
        .layer(from_fn(before))
        .layer(SessionLayer::new(MemoryStore::new()));
    let answer = visit(&Router::new().route("/", get(count)).layer(wrong), "/").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);

    let right = ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::new()))
        .layer(from_fn(before));
    let answer = visit(&Router::new().route("/", get(count)).layer(right), "/").await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "101"));
}

/// A middleware that stages a change before the handler runs.
async fn before(
    session: Session,
    request: AxumRequest,
    next: Next,
) -> Result<axum::response::Response> {
    session.update("n", |n: &mut u64| *n += 100)?;
    Ok(next.run(request).await)
}

/// A middleware that looks at the session after the handler ran, and changes it.
async fn after(request: AxumRequest, next: Next) -> Result<axum::response::Response> {
    let session = Session::load(request.extensions()).await?;
    let mut response = next.run(request).await;
    let n = session.update("n", |n: &mut u64| *n += 1_000)?;
    response.headers_mut().insert("x-n", n.into());
    Ok(response)
}

#[tokio::test]
async fn a_middleware_and_the_handler_see_one_session_and_it_is_written_once() {
    let spy = spy();
    let app = Router::new()
        .route("/", get(count))
        .layer(from_fn(before))
        .layer(from_fn(after))
        .layer(SessionLayer::new(spy.clone()));
    let client = TestClient::new(app);
    let first = client.get("/").await;
    assert_eq!((first.text(), first.header("x-n")), ("101", Some("1101")));
    assert_eq!(
        spy.calls(),
        Calls {
            create: 1,
            ..Calls::default()
        }
    );
    spy.reset();
    let second = client.get("/").await;
    assert_eq!(
        (second.text(), second.header("x-n")),
        ("1202", Some("2202"))
    );
    assert_eq!(
        spy.calls(),
        Calls {
            load: 1,
            update: 1,
            ..Calls::default()
        }
    );
}
