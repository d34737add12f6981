//! Changes of data are saved together or not at all; logins and endings take effect when they are awaited,
//! and nothing undoes them (guarantee 11).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::response::Result;
use axum::routing::post;
use cloakroom::testing::{Call, Operation, SpyStore};
use cloakroom::{ErrorKind, Session, SessionStore};
use tokio::sync::Notify;
use tower_http::catch_panic::CatchPanicLayer;

// Each test file uses its part of it.
#[allow(dead_code, unused_imports, unused_macros)]
mod support;

use self::support::{
    COOKIE, Client, Hooked, Setup, app, contents, handle_of, on_every_store, poll_times,
    with_errors_shown,
};

on_every_store! {
    a_handler_that_answers_5xx_changes_nothing,
    a_handler_that_answers_4xx_changes_what_it_changed,
    what_was_saved_before_a_5xx_is_kept,
    a_login_before_a_5xx_loses_nothing,
    a_login_as_somebody_else_before_a_5xx_loses_nothing,
    a_logout_before_a_5xx_is_final_and_removes_the_cookie,
    a_handler_that_panics_changes_nothing,
    a_login_before_a_panic_took_effect,
    a_write_that_is_given_up_at_any_poll_happens_wholly_or_not,
    a_first_write_that_is_given_up_at_any_poll_leaves_one_record_at_most,
    a_login_that_is_given_up_at_any_poll_loses_no_session,
    a_login_as_somebody_else_that_is_given_up_at_any_poll_comes_to_its_end,
    a_logout_that_is_given_up_at_any_poll_ends_the_session_or_not,
    a_contended_write_that_is_given_up_at_any_poll_loses_no_other_one,
    a_login_whose_client_hangs_up_comes_to_its_end,
    a_logout_whose_client_hangs_up_comes_to_its_end,
    a_contended_write_whose_client_hangs_up_comes_to_its_end,
    a_session_takes_no_changes_while_it_is_committed,
    a_session_that_was_kept_beyond_its_request_takes_no_changes,
    ;
    over TCP:
    a_handler_that_answers_5xx_changes_nothing,
    a_login_before_a_5xx_loses_nothing,
    a_logout_before_a_5xx_is_final_and_removes_the_cookie,
    a_handler_that_panics_changes_nothing,
    a_login_whose_client_hangs_up_comes_to_its_end,
    a_logout_whose_client_hangs_up_comes_to_its_end,
    a_session_that_was_kept_beyond_its_request_takes_no_changes,
}

async fn shown(client: &Client) -> String {
    let response = client.get("/show").await.assert_status(StatusCode::OK);
    response.text().to_owned()
}

async fn write(client: &Client, path: &str) {
    client.post(path).await.assert_status(StatusCode::OK);
}

fn id(client: &Client) -> String {
    client.cookie(COOKIE).unwrap()
}

/// Routes that change something and answer with the status in their path.
fn failing() -> Router {
    async fn change(session: &Session) -> Result<()> {
        session.insert("a", "changed")?;
        session.update("n", |n: &mut u64| *n += 1)?;
        session.remove("b")?;
        Ok(())
    }
    let changes = async |session: Session, Path(status): Path<u16>| -> Result<StatusCode> {
        change(&session).await?;
        session.renew_id()?;
        session.persistent_cookie()?;
        Ok(StatusCode::from_u16(status).unwrap())
    };
    let save = async |session: Session, Path(status): Path<u16>| -> Result<StatusCode> {
        change(&session).await?;
        session.save().await?;
        session.insert("later", 1)?;
        session.clear()?;
        Ok(StatusCode::from_u16(status).unwrap())
    };
    let login = async |session: Session, Path(status): Path<u16>| -> Result<StatusCode> {
        session.insert("before", 1)?;
        session.login("alice").await?;
        session.insert("after", 1)?;
        Ok(StatusCode::from_u16(status).unwrap())
    };
    let logout = async |session: Session, Path(status): Path<u16>| -> Result<StatusCode> {
        session.insert("before", 1)?;
        session.logout().await?;
        session.insert("after", 1)?;
        Ok(StatusCode::from_u16(status).unwrap())
    };
    Router::new()
        .route("/change/{status}", post(changes))
        .route("/save/{status}", post(save))
        .route("/login-then/{status}", post(login))
        .route("/logout-then/{status}", post(logout))
}

async fn a_handler_that_answers_5xx_changes_nothing(setup: Setup) {
    let spy = setup.spy();
    let client = setup.client_with(spy.clone(), failing()).await;
    let response = client.post("/change/500").await;
    assert!(response.set_cookies().is_empty());
    assert_eq!(spy.total(), 0);

    write(&client, "/set/a/1").await;
    write(&client, "/set/b/2").await;
    spy.reset();
    for status in [500, 502, 503, 599] {
        let response = client.post(&format!("/change/{status}")).await;
        assert_eq!(response.status().as_u16(), status);
        assert!(response.set_cookies().is_empty());
    }
    assert_eq!(spy.total(), spy.calls().load);
    assert_eq!(shown(&client).await, "nobody: a=1 b=2");
}

async fn a_handler_that_answers_4xx_changes_what_it_changed(setup: Setup) {
    let client = setup.client_with(setup.store.clone(), failing()).await;
    write(&client, "/set/b/2").await;
    let response = client.post("/change/499").await;
    assert_eq!(response.set_cookies().len(), 1);
    assert_eq!(shown(&client).await, "nobody: a=changed n=1");
}

async fn what_was_saved_before_a_5xx_is_kept(setup: Setup) {
    let client = setup.client_with(setup.store.clone(), failing()).await;
    for n in 1..=2 {
        let response = client.post("/save/500").await;
        assert_eq!(response.set_cookies().len(), usize::from(n == 1));
        assert_eq!(shown(&client).await, format!("nobody: a=changed n={n}"));
    }
}

async fn a_login_before_a_5xx_loses_nothing(setup: Setup) {
    for live in [true, false] {
        let client = setup.client_with(setup.store.clone(), failing()).await;
        if live {
            write(&client, "/set/cart/shoes").await;
        }
        let old = client.clone();
        let response = client.post("/login-then/500").await;
        assert_eq!(response.set_cookies().len(), 1);
        let kept = if live { " cart=shoes" } else { "" };
        assert_eq!(shown(&client).await, format!("alice: before=1{kept}"));
        assert_eq!(shown(&old).await, "no session");
    }
}

async fn a_login_as_somebody_else_before_a_5xx_loses_nothing(setup: Setup) {
    let client = setup.client_with(setup.store.clone(), failing()).await;
    write(&client, "/set/cart/shoes").await;
    write(&client, "/login/bob").await;
    let bob = client.clone();
    let response = client.post("/login-then/500").await;
    assert_eq!(response.set_cookies().len(), 1);
    assert_eq!(shown(&client).await, "alice: before=1");
    assert_eq!(shown(&bob).await, "no session");
}

async fn a_logout_before_a_5xx_is_final_and_removes_the_cookie(setup: Setup) {
    let spy = setup.spy();
    let client = setup.client_with(spy.clone(), failing()).await;
    write(&client, "/login/alice").await;
    let old = client.clone();
    spy.reset();
    let response = client.post("/logout-then/500").await;
    assert_eq!(response.set_cookies()[0].value(), "");
    let calls = spy.calls();
    assert_eq!((calls.load, calls.delete), (1, 1));
    // A store that keeps sessions by user is told of it; nothing else is written.
    assert_eq!(calls.total(), 2 + calls.unlink);
    assert_eq!(client.cookie(COOKIE), None);
    assert!(!setup.holds(&handle_of(&id(&old))).await);
    assert_eq!(shown(&old).await, "no session");
}

/// Changes, or logs in, and panics.
fn panicking() -> Router {
    let changes = async |session: Session| -> Result<()> {
        session.insert("a", "changed")?;
        session.update("n", |n: &mut u64| *n += 1)?;
        panic!("the handler panics");
    };
    let login = async |session: Session| -> Result<()> {
        session.insert("before", 1)?;
        session.login("alice").await?;
        session.insert("after", 1)?;
        panic!("the handler panics");
    };
    Router::new()
        .route("/panic", post(changes))
        .route("/login-and-panic", post(login))
}

/// Apps that catch panics within the layer, and outside of it.
async fn panicking_apps(setup: &Setup) -> [Client; 2] {
    let layer = setup.builder(setup.store.clone()).build().unwrap();
    let app = app().merge(panicking());
    let within = app
        .clone()
        .layer(CatchPanicLayer::new())
        .layer(layer.clone());
    let around = app.layer(layer).layer(CatchPanicLayer::new());
    [setup.browser(within).await, setup.browser(around).await]
}

async fn a_handler_that_panics_changes_nothing(setup: Setup) {
    for client in panicking_apps(&setup).await {
        let response = client.post("/panic").await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.set_cookies().is_empty());
        write(&client, "/set/a/1").await;
        let response = client.post("/panic").await;
        assert!(response.set_cookies().is_empty());
        assert_eq!(shown(&client).await, "nobody: a=1");
    }
}

async fn a_login_before_a_panic_took_effect(setup: Setup) {
    for (client, has_cookie) in panicking_apps(&setup).await.into_iter().zip([true, false]) {
        write(&client, "/set/a/1").await;
        let old = client.clone();
        let response = client.post("/login-and-panic").await;
        assert_eq!(response.set_cookies().len(), usize::from(has_cookie));
        assert_eq!(shown(&old).await, "no session");
        let record = setup.store.load(&handle_of(&id(&old))).await.unwrap();
        assert_eq!(record.unwrap().user_id.as_deref(), Some("alice"));
        if has_cookie {
            assert_eq!(shown(&client).await, "alice: a=1 before=1");
        }
    }
}

/// How many of the records that were created are still there.
async fn records(spy: &SpyStore<Arc<dyn SessionStore>>, setup: &Setup) -> usize {
    let mut records = 0;
    for Call { operation, handle } in spy.log() {
        if operation == Operation::Create && setup.holds(&handle.unwrap()).await {
            records += 1;
        }
    }
    records
}

/// Begins a request and gives it up after so many polls; whether it was answered before.
async fn give_up(setup: &Setup, client: &Client, path: &str, polls: usize) -> bool {
    let response = poll_times(client.post(path), polls).await;
    setup.settled().await;
    response
        .map(|response| response.assert_status(StatusCode::OK))
        .is_some()
}

/// A browser at an app whose store takes several polls for each operation, and the spy in that store.
async fn slow_client(setup: &Setup) -> (Client, SpyStore<Arc<dyn SessionStore>>) {
    let spy = setup.spy();
    let slow = Hooked::with_several_polls(Arc::new(spy.clone()));
    (setup.client(slow).await, spy)
}

/// So that the test knows that it looked at each of these outcomes.
///
/// On disks the answers come from other threads, and how many polls they take is not the same each time.
fn assert_all_seen(setup: &Setup, outcomes: &[(bool, bool)], expected: &[(bool, bool)]) {
    if setup.folder.is_none() {
        for outcome in expected {
            assert!(outcomes.contains(outcome), "{outcome:?} among {outcomes:?}");
        }
    }
}

async fn a_write_that_is_given_up_at_any_poll_happens_wholly_or_not(setup: Setup) {
    for polls in 0.. {
        let (client, spy) = slow_client(&setup).await;
        write(&client, "/add/n").await;
        let answered = give_up(&setup, &client, "/add/n", polls).await;
        let text = shown(&client).await;
        assert!(
            text == "nobody: n=2" || !answered && text == "nobody: n=1",
            "{polls}: {text}"
        );
        assert_eq!(records(&spy, &setup).await, 1);
        if answered {
            break;
        }
    }
}

async fn a_first_write_that_is_given_up_at_any_poll_leaves_one_record_at_most(setup: Setup) {
    for polls in 0.. {
        let (client, spy) = slow_client(&setup).await;
        let answered = give_up(&setup, &client, "/add/n", polls).await;
        let records = records(&spy, &setup).await;
        assert!(records == 1 || !answered && records == 0, "{polls}");
        let expected = if answered {
            "nobody: n=1"
        } else {
            "no session"
        };
        assert_eq!(shown(&client).await, expected);
        if answered {
            break;
        }
    }
}

async fn a_login_that_is_given_up_at_any_poll_loses_no_session(setup: Setup) {
    let mut outcomes = Vec::new();
    for polls in 0.. {
        let (client, spy) = slow_client(&setup).await;
        write(&client, "/set/cart/shoes").await;
        let old = client.clone();
        let answered = give_up(&setup, &client, "/login/alice", polls).await;
        assert_eq!(records(&spy, &setup).await, 1, "{polls}");
        let record = setup
            .store
            .load(&handle_of(&id(&old)))
            .await
            .unwrap()
            .unwrap();
        let payload = String::from_utf8_lossy(&record.payload).into_owned();
        assert!(payload.contains("shoes"), "{polls}");
        let logged_in = record.user_id.as_deref() == Some("alice");
        let under_old_id = shown(&old).await;
        if logged_in {
            assert_eq!(under_old_id, "no session", "{polls}");
        } else {
            assert_eq!(under_old_id, "nobody: cart=shoes", "{polls}");
        }
        outcomes.push((logged_in, answered));
        if answered {
            assert_eq!(shown(&client).await, "alice: cart=shoes");
            break;
        }
    }
    assert_all_seen(
        &setup,
        &outcomes,
        &[(false, false), (true, false), (true, true)],
    );
}

async fn a_login_as_somebody_else_that_is_given_up_at_any_poll_comes_to_its_end(setup: Setup) {
    let mut outcomes = Vec::new();
    for polls in 0.. {
        let (client, spy) = slow_client(&setup).await;
        write(&client, "/login/bob").await;
        let bob = client.clone();
        let answered = give_up(&setup, &client, "/login/alice", polls).await;
        // Neither both nor none: what has begun comes to its end.
        assert_eq!(records(&spy, &setup).await, 1, "{polls}");
        let bob_is_alive = setup.holds(&handle_of(&id(&bob))).await;
        assert_eq!(
            shown(&bob).await,
            if bob_is_alive { "bob:" } else { "no session" }
        );
        outcomes.push((bob_is_alive, answered));
        if answered {
            assert_eq!(shown(&client).await, "alice:");
            break;
        }
    }
    assert_all_seen(
        &setup,
        &outcomes,
        &[(true, false), (false, false), (false, true)],
    );
}

async fn a_logout_that_is_given_up_at_any_poll_ends_the_session_or_not(setup: Setup) {
    let mut outcomes = Vec::new();
    for polls in 0.. {
        let (client, spy) = slow_client(&setup).await;
        write(&client, "/set/cart/shoes").await;
        let old = client.clone();
        let answered = give_up(&setup, &client, "/logout", polls).await;
        let alive = records(&spy, &setup).await == 1;
        let expected = if alive {
            "nobody: cart=shoes"
        } else {
            "no session"
        };
        assert_eq!(shown(&old).await, expected, "{polls}");
        outcomes.push((alive, answered));
        if answered {
            break;
        }
    }
    assert_all_seen(
        &setup,
        &outcomes,
        &[(true, false), (false, false), (false, true)],
    );
}

async fn a_contended_write_that_is_given_up_at_any_poll_loses_no_other_one(setup: Setup) {
    for polls in 0.. {
        let store = setup.pausing();
        let slow = Hooked::with_several_polls(Arc::new(store.clone()));
        let client = setup.client(slow).await;
        write(&client, "/add/n").await;
        let pause = store.pause_before(Operation::Update);
        let overlaps = async {
            pause.reached().await;
            write(&client, "/set/other/1").await;
            pause.release();
            std::future::pending::<()>().await;
        };
        let answered = tokio::select! {
            answered = give_up(&setup, &client, "/add/n", polls) => answered,
            () = overlaps => false,
        };
        let text = shown(&client).await;
        let n = if text.contains("n=2") { 2 } else { 1 };
        let other = if text.contains("other") {
            " other=1"
        } else {
            ""
        };
        assert_eq!(text, format!("nobody: n={n}{other}"), "{polls}");
        if answered {
            assert_eq!(text, "nobody: n=2 other=1");
            break;
        }
    }
}

/// Says when it is dropped.
struct Dropped(Arc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A login and a logout that say when their request is dropped.
fn noticing(dropped: &Arc<Notify>) -> Router {
    let (at_login, at_logout) = (dropped.clone(), dropped.clone());
    let login = async move |session: Session| -> Result<String> {
        let _dropped = Dropped(at_login.clone());
        session.login("alice").await?;
        Ok(contents(&session))
    };
    let logout = async move |session: Session| -> Result<String> {
        let _dropped = Dropped(at_logout.clone());
        session.logout().await?;
        Ok(contents(&session))
    };
    Router::new()
        .route("/noticed-login", post(login))
        .route("/noticed-logout", post(logout))
}

async fn a_login_whose_client_hangs_up_comes_to_its_end(setup: Setup) {
    let store = setup.pausing();
    let dropped = Arc::new(Notify::new());
    let client = setup.client_with(store.clone(), noticing(&dropped)).await;
    write(&client, "/set/cart/shoes").await;
    let pause = store.pause_before(Operation::Update);
    let after = store.pause_after(Operation::Update);
    let window = client.new_window();
    let request = tokio::spawn(async move { window.post("/noticed-login").await });
    pause.reached().await;
    request.abort();
    dropped.notified().await;
    pause.release();
    after.reached().await;
    after.release();
    let record = setup.store.load(&handle_of(&id(&client))).await.unwrap();
    assert_eq!(record.unwrap().user_id.as_deref(), Some("alice"));
    assert_eq!(shown(&client).await, "no session");
}

async fn a_logout_whose_client_hangs_up_comes_to_its_end(setup: Setup) {
    let store = setup.pausing();
    let dropped = Arc::new(Notify::new());
    let client = setup.client_with(store.clone(), noticing(&dropped)).await;
    write(&client, "/set/cart/shoes").await;
    let pause = store.pause_before(Operation::Delete);
    let after = store.pause_after(Operation::Delete);
    let window = client.new_window();
    let request = tokio::spawn(async move { window.post("/noticed-logout").await });
    pause.reached().await;
    request.abort();
    dropped.notified().await;
    pause.release();
    after.reached().await;
    after.release();
    assert!(!setup.holds(&handle_of(&id(&client))).await);
    assert_eq!(shown(&client).await, "no session");
}

async fn a_contended_write_whose_client_hangs_up_comes_to_its_end(setup: Setup) {
    for (operation, at) in [
        (Operation::Load, "loads again"),
        (Operation::Update, "writes again"),
    ] {
        let store = setup.pausing();
        let client = setup.client(store.clone()).await;
        write(&client, "/add/n").await;
        let first = store.pause_before(Operation::Update);
        let window = client.new_window();
        let request = tokio::spawn(async move { window.post("/add/n").await });
        first.reached().await;
        write(&client, "/add/n").await;
        let again = store.pause_before(operation);
        first.release();
        again.reached().await;
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        let written = store.pause_after(Operation::Update);
        again.release();
        written.reached().await;
        written.release();
        assert_eq!(shown(&client).await, "nobody: n=3", "{at}");
    }
}

async fn a_session_takes_no_changes_while_it_is_committed(setup: Setup) {
    let kept: Arc<Mutex<Option<Session>>> = Arc::default();
    let keep = {
        let kept = kept.clone();
        async move |session: Session| -> Result<()> {
            session.update("a", |n: &mut u64| *n += 1)?;
            *kept.lock().unwrap() = Some(session);
            Ok(())
        }
    };
    let store = setup.pausing();
    let routes = Router::new().route("/keep", post(keep));
    let client = setup.client_with(store.clone(), routes).await;
    for (operation, then) in [
        (Operation::Create, "nobody: a=1"),
        (Operation::Update, "nobody: a=2"),
    ] {
        let pause = store.pause_before(operation);
        let window = client.new_window();
        let request = tokio::spawn(async move { window.post("/keep").await });
        pause.reached().await;
        let session = kept.lock().unwrap().take().unwrap();
        let error = session.insert("late", 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        pause.release();
        request.await.unwrap().assert_status(StatusCode::OK);
        assert_eq!(shown(&client).await, then);
    }
}

/// Every way to change a session, by name.
async fn refusals(session: &Session) -> Vec<(&'static str, Option<ErrorKind>)> {
    fn kind<T>(result: std::result::Result<T, cloakroom::Error>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }
    vec![
        ("insert", kind(session.insert("a", 2))),
        ("update", kind(session.update("n", |n: &mut u64| *n += 1))),
        ("take", kind(session.take::<String>("a"))),
        ("take", kind(session.take::<String>("none"))),
        ("remove", kind(session.remove("a"))),
        ("remove", kind(session.remove("none"))),
        ("clear", kind(session.clear())),
        ("renew_id", kind(session.renew_id())),
        (
            "set_timeouts",
            kind(session.set_timeouts(cloakroom::Timeouts::AAL1)),
        ),
        ("persistent_cookie", kind(session.persistent_cookie())),
        ("do_not_extend", kind(session.do_not_extend())),
        ("save", kind(session.save().await)),
        ("login", kind(session.login("mallory").await)),
        ("logout", kind(session.logout().await)),
        ("destroy", kind(session.destroy().await)),
    ]
}

async fn a_session_that_was_kept_beyond_its_request_takes_no_changes(setup: Setup) {
    let kept: Arc<Mutex<Option<Session>>> = Arc::default();
    let unloaded: Arc<Mutex<Option<axum::http::Extensions>>> = Arc::default();
    let started = Arc::new(Notify::new());
    let dropped = Arc::new(Notify::new());
    let keep = {
        let (kept, started, dropped) = (kept.clone(), started.clone(), dropped.clone());
        async move |session: Session, Path(end): Path<String>| -> Result<StatusCode> {
            *kept.lock().unwrap() = Some(session.clone());
            match &*end {
                "read" => {}
                "write" => session.insert("written", 1)?,
                "save" => {
                    session.insert("saved", 1)?;
                    session.save().await?;
                }
                "fail" => return Ok(StatusCode::INTERNAL_SERVER_ERROR),
                "panic" => panic!("the handler panics"),
                _ => {
                    let _dropped = Dropped(dropped.clone());
                    started.notify_one();
                    std::future::pending().await
                }
            }
            Ok(StatusCode::OK)
        }
    };
    let ignore = {
        let unloaded = unloaded.clone();
        async move |request: Request| {
            *unloaded.lock().unwrap() = Some(request.extensions().clone());
        }
    };
    let spy = setup.spy();
    let router = app()
        .route("/keep/{end}", post(keep))
        .route("/ignore", post(ignore))
        .layer(setup.builder(spy.clone()).build().unwrap())
        .layer(CatchPanicLayer::new());
    let client = setup.browser(with_errors_shown(router)).await;
    write(&client, "/set/a/1").await;
    for end in ["read", "write", "save", "fail", "panic", "hang-up"] {
        let window = client.new_window();
        let request = tokio::spawn(async move { window.post(&format!("/keep/{end}")).await });
        if end == "hang-up" {
            started.notified().await;
            request.abort();
            dropped.notified().await;
            // What drops the handler goes on to drop the layer's own part.
            tokio::task::yield_now().await;
        } else {
            request.await.unwrap();
        }
        let session = kept.lock().unwrap().take().unwrap();
        spy.reset();
        for (name, refused) in refusals(&session).await {
            assert_eq!(refused, Some(ErrorKind::Closed), "{name} after {end}");
        }
        assert_eq!(spy.total(), 0);
        // It can still be read.
        assert_eq!(session.get::<String>("a").unwrap().unwrap(), "1");
    }
    assert_eq!(shown(&client).await, "nobody: a=1 saved=1 written=1");

    write(&client, "/ignore").await;
    let extensions = unloaded.lock().unwrap().take().unwrap();
    spy.reset();
    let error = Session::load(&extensions).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(spy.total(), 0);
}
