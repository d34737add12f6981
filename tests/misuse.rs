//! What can be done wrong with a session, and what then says so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/captured_logs.rs"]
mod captured_logs;
#[path = "support/http_surface.rs"]
mod http_surface;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Extensions, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response, Result};
use axum::routing::get;
use cloakroom::store::{MemoryStore, StoreError};
use cloakroom::testing::{
    Calls, FailingStore, Operation, PausingStore, SpyStore, TestClient, Times, When, new_session,
};
use cloakroom::{Error, ErrorKind, Key, Session, SessionLayer, SessionStore, Timeouts};
use http_body::Frame;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use self::captured_logs::Log;
use self::http_surface::{get as get_with, request_bytes, serve, visit};

fn with_sessions(routes: Router) -> Router {
    routes.layer(SessionLayer::new(MemoryStore::new()))
}

// No layer.

#[tokio::test]
async fn without_a_layer_every_way_to_a_session_says_which_one_is_missing_and_where_it_goes() {
    async fn extracted(_: Session) {}
    async fn option(_: Option<Session>) {}
    async fn loaded(extensions: Extensions) -> Result<()> {
        Session::load(&extensions).await?;
        Ok(())
    }
    async fn message(session: std::result::Result<Session, Error>) -> String {
        session.unwrap_err().to_string()
    }
    let app = Router::new()
        .route("/extracted", get(extracted))
        .route("/option", get(option))
        .route("/loaded", get(loaded))
        .route("/message", get(message));
    for path in ["/extracted", "/option", "/loaded"] {
        let answer = visit(&app, path).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        for word in [
            "cloakroom",
            "SessionLayer",
            "Router::layer after the routes",
        ] {
            assert!(answer.body.contains(word), "{path}: {}", answer.body);
        }
    }
    let message = visit(&app, "/message").await.body;
    for words in [
        "cloakroom::SessionLayer",
        "Router::layer after the routes that need it",
        "the layer added last runs first",
        "tower::ServiceBuilder",
        "the layer added first runs first",
    ] {
        assert!(message.contains(words), "{words:?} is not in {message:?}");
    }
}

#[tokio::test]
async fn a_route_that_was_added_after_the_layer_has_none() {
    let app = with_sessions(Router::new().route("/before", get(async |_: Session| ())))
        .route("/after", get(async |_: Session| ()));
    assert_eq!(visit(&app, "/before").await.status, StatusCode::OK);
    assert_eq!(
        visit(&app, "/after").await.status,
        StatusCode::INTERNAL_SERVER_ERROR
    );
}

// Values.

/// The error of a handler, with a way to see what it left.
async fn refused(change: fn(&Session) -> std::result::Result<(), Error>) -> Error {
    let errors = Arc::new(Mutex::new(Vec::new()));
    let noted = errors.clone();
    let routes = Router::new()
        .route(
            "/begin",
            get(async |session: Session| -> Result<()> {
                session.insert("name", "alice")?;
                session.insert("n", 7)?;
                Ok(())
            }),
        )
        .route(
            "/misuse",
            get(async move |session: Session| {
                noted.lock().unwrap().push(change(&session).unwrap_err());
            }),
        )
        .route("/end", get(contents));
    let layer = SessionLayer::builder(MemoryStore::new())
        .max_session_size(200)
        .build()
        .unwrap();
    let client = TestClient::new(routes.layer(layer));
    client.get("/begin").await;
    client.get("/misuse").await.assert_status(StatusCode::OK);
    assert_eq!(
        client.get("/end").await.text(),
        "name=alice n=7",
        "the data is intact"
    );
    errors.lock().unwrap().remove(0)
}

async fn contents(session: Session) -> Result<String> {
    assert_eq!(session.keys().len(), 2);
    let name: Option<String> = session.get("name")?;
    let n: Option<u64> = session.get("n")?;
    Ok(format!("name={} n={}", name.unwrap(), n.unwrap()))
}

#[tokio::test]
async fn a_value_of_another_type_is_an_error_that_names_the_key_and_the_type() {
    const NAME: Key<u64> = Key::new("name");
    for change in [
        (|session| session.get(NAME).map(drop)) as fn(&Session) -> _,
        |session| session.get::<u64>("name").map(drop),
        |session| session.take(NAME).map(drop),
        |session| session.update(NAME, |n| *n += 1).map(drop),
    ] {
        let error = refused(change).await;
        assert_eq!(error.kind(), ErrorKind::Decode);
        let message = error.to_string();
        assert!(
            message.contains("\"name\"") && message.contains("u64"),
            "{message}"
        );
        let shown = format!("{error:?}");
        let bytes = format!("{:?}", b"alice");
        for data in ["alice", bytes.trim_matches(['[', ']'])] {
            assert!(!shown.contains(data), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_value_that_is_too_large_is_an_error_that_names_the_limit_and_the_setting() {
    for change in [
        (|session| session.insert("name", "x".repeat(200))) as fn(&Session) -> _,
        |session| session.insert("k".repeat(200).as_str(), 1),
        |session| {
            session
                .update("name", |name: &mut String| *name = name.repeat(50))
                .map(drop)
        },
    ] {
        let error = refused(change).await;
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let message = error.to_string();
        assert!(message.contains("limit of 200"), "{message}");
        assert!(
            message.contains("SessionLayerBuilder::max_session_size"),
            "{message}"
        );
        assert!(
            !message.contains("alice") && !message.contains("xxx"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_value_that_is_no_json_is_an_error_that_names_the_key_and_the_type() {
    fn keyed_by_pairs() -> BTreeMap<(u8, u8), &'static str> {
        BTreeMap::from([((1, 2), "marker")])
    }
    #[derive(Default, serde::Deserialize)]
    struct Unwritable;
    impl serde::Serialize for Unwritable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("marker"))
        }
    }
    for change in [
        (|session| session.insert("name", keyed_by_pairs())) as fn(&Session) -> _,
        |session| session.insert("name", Unwritable),
        |session| {
            session
                .update("unwritable", |_: &mut Unwritable| ())
                .map(drop)
        },
    ] {
        let error = refused(change).await;
        assert_eq!(error.kind(), ErrorKind::Encode);
        let message = error.to_string();
        assert!(
            message.contains("name\"") || message.contains("unwritable\""),
            "{message}"
        );
        assert!(
            message.contains("BTreeMap") || message.contains("Unwritable"),
            "{message}"
        );
        assert!(!format!("{error:?}").contains("marker"), "{error:?}");
    }
}

// Changes that come too late.

/// Every change, on a session that takes none any more.
async fn assert_closed(session: &Session) {
    let changes = [
        session.insert("n", 1),
        session.update("n", |n: &mut u64| *n += 1).map(drop),
        session.take::<u64>("n").map(drop),
        session.take::<u64>("absent").map(drop),
        session.remove("n").map(drop),
        session.clear(),
        session.renew_id(),
        session.set_timeouts(Timeouts::AAL3),
        session.persistent_cookie(),
        session.do_not_extend(),
        session.save().await,
        session.login("alice").await,
        session.logout().await,
        session.destroy().await,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let error = change.expect_err("a change of a closed session is an error");
        assert_eq!(error.kind(), ErrorKind::Closed, "change {number}");
        assert!(
            error.to_string().contains("before the handler returns"),
            "{error}"
        );
    }
}

/// A body that hands its session over when it is sent, which is after the response was committed.
struct LateBody(Option<Session>, mpsc::UnboundedSender<Session>);

impl http_body::Body for LateBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        let Some(session) = self.0.take() else {
            return Poll::Ready(None);
        };
        let changed = session.insert("late", true);
        self.1.send(session).unwrap();
        let text = match changed {
            Ok(()) => "changed".to_owned(),
            Err(error) => error.to_string(),
        };
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

#[tokio::test]
async fn a_change_from_a_streaming_body_is_an_error() {
    let (sender, mut sessions) = mpsc::unbounded_channel();
    let spy = SpyStore::new(MemoryStore::new());
    let routes = Router::new()
        .route(
            "/",
            get(async move |session: Session| Body::new(LateBody(Some(session), sender))),
        )
        .route(
            "/write",
            get(async |session: Session| session.insert("n", 1).unwrap()),
        );
    let app = routes.layer(SessionLayer::new(spy.clone()));
    let pair = visit(&app, "/write").await.pair();
    for cookies in [vec![], vec![pair]] {
        spy.reset();
        for answer in http_surface::get_both_ways(&app, "/", &cookies).await {
            assert!(answer.body.contains("the session is closed"), "{answer:?}");
            let session = sessions.recv().await.unwrap();
            assert_closed(&session).await;
            // What was read stays readable.
            assert_eq!(session.contains_key("n"), !cookies.is_empty());
        }
        let calls = spy.calls();
        assert_eq!(calls.total(), calls.load, "nothing was written");
    }
}

/// Says that the handler which holds it was dropped.
struct SaysDropped(mpsc::UnboundedSender<()>);

impl Drop for SaysDropped {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
    }
}

#[tokio::test]
async fn a_change_from_a_task_is_an_error_once_the_client_hung_up() {
    let (sender, mut sessions) = mpsc::unbounded_channel();
    let (says_dropped, mut dropped) = mpsc::unbounded_channel();
    let spy = SpyStore::new(MemoryStore::new());
    let app = Router::new()
        .route(
            "/",
            get(async move |session: Session| {
                let _says_dropped = SaysDropped(says_dropped);
                session.insert("n", 1).unwrap();
                sender.send(session).unwrap();
                std::future::pending::<()>().await;
            }),
        )
        .layer(SessionLayer::new(spy.clone()));

    let address = serve(app).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let bytes = request_bytes::<&str>("/", &[]);
    stream.write_all(&bytes).await.unwrap();
    let session = sessions.recv().await.unwrap();
    session.insert("n", 2).expect("the request is under way");
    drop(stream);
    dropped.recv().await.unwrap();
    tokio::spawn(async move { assert_closed(&session).await })
        .await
        .unwrap();
    assert_eq!(spy.total(), 0, "a request that was dropped changes nothing");
}

#[tokio::test]
async fn a_change_after_the_request_was_dropped_is_an_error() {
    let (sender, mut sessions) = mpsc::unbounded_channel();
    let app = with_sessions(Router::new().route(
        "/",
        get(async move |session: Session| {
            sender.send(session).unwrap();
            std::future::pending::<()>().await;
        }),
    ));
    let request = tokio::spawn(async move { visit(&app, "/").await });
    let session = sessions.recv().await.unwrap();
    session.insert("n", 1).unwrap();
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    assert_closed(&session).await;
}

#[tokio::test]
async fn a_change_after_a_panic_is_an_error_and_what_was_staged_is_dropped() {
    let (sender, mut sessions) = mpsc::unbounded_channel();
    let spy = SpyStore::new(MemoryStore::new());
    let app = Router::new()
        .route(
            "/",
            get(async move |session: Session| {
                session.insert("n", 1).unwrap();
                sender.send(session.clone()).unwrap();
                if session.contains_key("n") {
                    std::panic::resume_unwind(Box::new("the handler panics"));
                }
            }),
        )
        .layer(SessionLayer::new(spy.clone()));
    let request = tokio::spawn(async move { visit(&app, "/").await });
    assert!(request.await.unwrap_err().is_panic());
    assert_closed(&sessions.recv().await.unwrap()).await;
    assert_eq!(spy.total(), 0);
}

#[tokio::test]
async fn a_session_that_is_asked_for_after_the_response_is_an_error() {
    let (sender, mut late) = mpsc::unbounded_channel();
    let app = with_sessions(Router::new().route(
        "/",
        get(async move |extensions: Extensions| sender.send(extensions).unwrap()),
    ));
    visit(&app, "/").await;
    let error = Session::load(&late.recv().await.unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

// Layers around layers.

async fn count(session: Session) -> Result<String> {
    let n = session.update("n", |n: &mut u64| *n += 1)?;
    Ok(n.to_string())
}

/// A middleware that changes the session it sees.
async fn mark(
    session: Session,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    session.update("marked", |n: &mut u64| *n += 1).unwrap();
    next.run(request).await
}

#[tokio::test]
async fn the_same_layer_twice_is_one_session_and_one_warning() {
    let (log, _guard) = Log::of_this_thread();
    let spy = SpyStore::new(MemoryStore::new());
    let layer = SessionLayer::new(spy.clone());
    let app = Router::new()
        .route("/", get(count))
        .layer(layer.clone())
        .layer(axum::middleware::from_fn(mark))
        .layer(layer);
    let first = visit(&app, "/").await;
    assert_eq!(first.set_cookies().len(), 1);
    assert_eq!(
        spy.calls(),
        Calls {
            create: 1,
            ..Calls::default()
        }
    );
    for expected in ["2", "3"] {
        spy.reset();
        assert_eq!(get_with(&app, "/", &[first.pair()]).await.body, expected);
        assert_eq!(
            spy.calls(),
            Calls {
                load: 1,
                update: 1,
                ..Calls::default()
            }
        );
    }
    let warning = log.one("SessionLayer lies inside another");
    assert!(warning.starts_with("WARN "), "{warning}");
    assert!(warning.contains("__Host-Http-id"), "{warning}");
}

#[tokio::test]
async fn of_two_layers_with_one_cookie_name_the_outer_one_is_used_and_a_warning_says_so() {
    let (log, _guard) = Log::of_this_thread();
    let (inner, outer) = (
        SpyStore::new(MemoryStore::new()),
        SpyStore::new(MemoryStore::new()),
    );
    let app = Router::new()
        .route("/", get(count))
        .layer(SessionLayer::new(inner.clone()))
        .layer(SessionLayer::new(outer.clone()));
    let first = visit(&app, "/").await;
    assert_eq!(get_with(&app, "/", &[first.pair()]).await.body, "2");
    assert_eq!((inner.total(), outer.total()), (0, 3));
    assert!(log.one("only the outer one is used").starts_with("WARN "));
}

#[tokio::test]
async fn two_layers_with_different_names_are_two_sessions_of_which_the_inner_one_is_extracted() {
    let (log, _guard) = Log::of_this_thread();
    let layer = |name: &str, spy: &SpyStore<MemoryStore>| {
        let builder = SessionLayer::builder(spy.clone()).cookie_name(name);
        builder.build().unwrap()
    };
    let (inner, outer) = (
        SpyStore::new(MemoryStore::new()),
        SpyStore::new(MemoryStore::new()),
    );
    let app = Router::new()
        .route("/", get(count))
        .layer(layer("inner", &inner))
        .layer(axum::middleware::from_fn(mark))
        .layer(layer("outer", &outer));
    let client = TestClient::new(app);
    let first = client.get("/").await;
    let set = first.set_cookies();
    let names: Vec<_> = set.iter().map(|cookie| cookie.name()).collect();
    assert_eq!(names, ["__Host-Http-inner", "__Host-Http-outer"]);
    assert_eq!(first.header("vary"), Some("Cookie"));
    assert_eq!(first.header("cache-control"), Some("no-store"));
    assert_eq!(client.get("/").await.text(), "2");
    for spy in [inner, outer] {
        assert_eq!(
            spy.calls(),
            Calls {
                create: 1,
                load: 1,
                update: 1,
                ..Calls::default()
            }
        );
    }
    assert!(log.having("SessionLayer").is_empty());
}

#[tokio::test]
async fn a_layer_that_returns_inside_another_one_gives_the_session_that_it_gave_before() {
    let (log, _guard) = Log::of_this_thread();
    let spies = [(); 2].map(|()| SpyStore::new(MemoryStore::new()));
    let [layer, between] = [("id", &spies[0]), ("between", &spies[1])].map(|(name, spy)| {
        let builder = SessionLayer::builder(spy.clone()).cookie_name(name);
        builder.build().unwrap()
    });
    let app = Router::new()
        .route("/", get(count))
        .layer(between.clone())
        .layer(layer.clone())
        .layer(axum::middleware::from_fn(mark))
        .layer(between)
        .layer(axum::middleware::from_fn(mark))
        .layer(layer);
    let client = TestClient::new(app);
    let first = client.get("/").await;
    let set = first.set_cookies();
    let names: Vec<_> = set.iter().map(|cookie| cookie.name()).collect();
    assert_eq!(names, ["__Host-Http-between", "__Host-Http-id"]);
    assert_eq!(client.get("/").await.text(), "2");
    for spy in spies {
        // No session is made that no cookie opens, and none is loaded or written twice.
        let calls = Calls {
            create: 1,
            load: 1,
            update: 1,
            ..Calls::default()
        };
        assert_eq!(spy.calls(), calls);
    }
    for name in ["__Host-Http-id", "__Host-Http-between"] {
        assert!(log.one(name).contains("lies inside another"));
    }
}

// Errors as responses.

/// Fails in a way of its own, by the path.
async fn fail(
    State(store): State<FailingStore<MemoryStore>>,
    axum::extract::Path(how): axum::extract::Path<String>,
    session: Session,
) -> Result<String> {
    let fail = |operation| {
        store.fail(operation, When::BeforeEffect, Times::Always);
    };
    match &*how {
        "decode" => {
            session.insert("name", "marker")?;
            session.get::<u64>("name")?;
        }
        "encode" => session.insert("k", BTreeMap::from([((1, 2), "marker")]))?,
        "too-large" => session.insert("k", "marker".repeat(100_000))?,
        "timeouts" => session.set_timeouts(Timeouts::without_idle(Duration::ZERO))?,
        "login" => session.login("").await?,
        "save" => {
            fail(Operation::Create);
            session.insert("n", "marker")?;
            session.save().await?;
        }
        "destroy" => {
            session.insert("n", 1)?;
            session.save().await?;
            fail(Operation::Delete);
            session.destroy().await?;
        }
        "ended" => {
            session.insert("n", 1)?;
            session.save().await?;
            store.delete(&session.handle().unwrap()).await.unwrap();
            session.insert("n", 2)?;
            session.save().await?;
        }
        _ => unreachable!(),
    }
    Ok(String::new())
}

#[tokio::test]
async fn every_error_is_a_response_that_says_nothing_of_the_server() {
    for (how, kind, status) in [
        ("decode", ErrorKind::Decode, 500),
        ("encode", ErrorKind::Encode, 500),
        ("too-large", ErrorKind::TooLarge, 500),
        ("timeouts", ErrorKind::InvalidTimeouts, 500),
        ("login", ErrorKind::InvalidLogin, 500),
        ("save", ErrorKind::Store, 503),
        ("destroy", ErrorKind::EndingFailed, 503),
        ("ended", ErrorKind::Ended, 409),
    ] {
        let answer = visit(&failing_app(), &format!("/{how}")).await;
        assert_eq!(answer.status.as_u16(), status, "{how}");
        assert_eq!(answer.headers["x-error"], format!("{kind:?}"), "{how}");
        assert!(
            answer.body.starts_with("The session")
                || answer.body == "Something went wrong with the session.",
            "{}",
            answer.body
        );
        for internal in [
            "marker",
            "key",
            "store",
            "SessionLayerBuilder",
            "u64",
            "test has told",
        ] {
            assert!(!answer.body.contains(internal), "{how}: {}", answer.body);
        }
    }
}

fn failing_app() -> Router {
    let store = FailingStore::new(MemoryStore::new());
    Router::new()
        .route("/{how}", get(fail))
        .with_state(store.clone())
        .layer(SessionLayer::new(store))
        .layer(map_response(name_the_error))
}

/// What an app does to render every session error in its own way.
async fn name_the_error(response: Response) -> Response {
    match response.extensions().get::<Error>() {
        Some(error) => ([("x-error", format!("{:?}", error.kind()))], response).into_response(),
        None => response,
    }
}

#[tokio::test]
async fn one_outer_map_response_renders_failures_of_loading_and_of_the_commit_alike() {
    async fn render(response: Response) -> Response {
        let Some(error) = response.extensions().get::<Error>() else {
            return response;
        };
        let page = format!("sorry: {:?} {:?}", error.kind(), error.store_error_kind());
        let status = error.status();
        let (mut parts, _) = response.into_parts();
        parts.headers.remove("content-length");
        assert_eq!(parts.status, status);
        Response::from_parts(parts, page.into())
    }
    let store = FailingStore::new(MemoryStore::new());
    let app = Router::new()
        .route("/", get(count))
        .layer(SessionLayer::new(store.clone()))
        .layer(map_response(render));
    let pair = visit(&app, "/").await.pair();
    for operation in [Operation::Load, Operation::Update] {
        store.fail_with(operation, When::BeforeEffect, Times::Always, || {
            StoreError::timed_out("the marker did not answer")
        });
        for answer in http_surface::get_both_ways(&app, "/", &[&pair]).await {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.body, "sorry: Store Some(TimedOut)", "{operation:?}");
            assert_eq!(answer.headers["vary"], "Cookie");
        }
        store.heal();
    }
    assert_eq!(
        get_with(&app, "/", &[pair]).await.body,
        "2",
        "no failed request counted"
    );
}

// Closures of `update`.

/// What becomes of a save that adds 1 to `n`, while `meanwhile` stages more; and how the session goes on.
///
/// On a runtime of its own, since what could go wrong here blocks a thread for good.
fn during_a_save<R: Send + 'static>(
    meanwhile: impl FnOnce(Session) + Send + 'static,
    then: impl AsyncFnOnce(std::result::Result<(), Error>, Session) -> R + Send + 'static,
) -> R {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let store = PausingStore::new(MemoryStore::new());
    let session = new_session(&SessionLayer::new(store.clone()));
    let outcome = runtime.block_on(async move {
        session.insert("step", 2).unwrap();
        session.save().await.unwrap();
        session.update("n", |n: &mut u64| *n += 1).unwrap();
        let pause = store.pause_before(Operation::Update);
        let saving = tokio::spawn({
            let session = session.clone();
            async move { session.save().await }
        });
        pause.reached().await;
        meanwhile(session.clone());
        pause.release();
        let saved = tokio::time::timeout(Duration::from_secs(20), saving).await;
        match saved {
            Ok(saved) => Some(then(saved.unwrap(), session).await),
            Err(_) => None,
        }
    });
    runtime.shutdown_background();
    outcome.expect("the save is stuck")
}

#[test]
fn a_closure_of_update_may_use_the_session_also_when_it_is_run_again_after_a_save() {
    let add_step = |session: Session| {
        let seen = session.clone();
        let add = move |n: &mut u64| *n += seen.get::<u64>("step").unwrap().unwrap();
        session.update("n", add).unwrap();
    };
    let n = during_a_save(add_step, async |saved, session| {
        saved.unwrap();
        session.get::<u64>("n").unwrap()
    });
    assert_eq!(n, Some(3));
}

#[test]
fn a_closure_of_update_that_changes_the_session_after_a_save_is_an_error_and_no_endless_loop() {
    let change = |session: Session| {
        let (changed, runs) = (session.clone(), AtomicU64::new(0));
        let meddle = move |n: &mut u64| {
            *n += 1;
            let run = runs.fetch_add(1, Ordering::Relaxed);
            if run > 0 {
                changed.insert("run", run).unwrap();
            }
        };
        session.update("n", meddle).unwrap();
    };
    let (error, n) = during_a_save(change, async |saved, session| {
        (saved.unwrap_err(), session.get::<u64>("n").unwrap())
    });
    assert_eq!(error.kind(), ErrorKind::Contention);
    assert_eq!(n, Some(1), "what was saved stays");
}

#[test]
fn what_was_saved_is_not_saved_again_after_a_closure_of_update_panicked() {
    let panic_once = |session: Session| {
        let runs = AtomicU64::new(0);
        let panic = move |n: &mut u64| {
            *n += 1;
            if runs.fetch_add(1, Ordering::Relaxed) == 1 {
                std::panic::resume_unwind(Box::new("the second run"));
            }
        };
        session.update("n", panic).unwrap();
    };
    let (error, n) = during_a_save(panic_once, async |saved, session| {
        session.insert("more", 1).unwrap();
        session.save().await.unwrap();
        (saved.unwrap_err(), session.get::<u64>("n").unwrap())
    });
    assert_eq!(error.kind(), ErrorKind::Store);
    assert_eq!(n, Some(1));
}

#[tokio::test]
async fn a_closure_that_changes_its_own_session_is_an_error() {
    let layer = SessionLayer::new(MemoryStore::new());
    let session = cloakroom::testing::new_session(&layer);
    let same = session.clone();
    let update = session.update("n", move |n: &mut u64| {
        *n += 1;
        same.insert("m", *n).unwrap();
    });
    let error = update.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Contention);
    assert!(error.to_string().contains("must not change the session"));
    // One that only reads it is fine.
    let same = session.clone();
    let update = session.update("n", move |n: &mut u64| {
        *n += same.get::<u64>("m").unwrap().unwrap();
    });
    assert_eq!(update.unwrap(), 1);
}
