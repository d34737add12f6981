//! A store that fails, hangs, panics or holds what cannot be read: the client is told, and no session is lost
//! or made up for it (guarantee 10). And nothing goes on for ever (guarantee 13).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::future::pending;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Result;
use axum::routing::post;
use cloakroom::clock::from_unix_millis;
use cloakroom::store::{Handle, Outcome, Record, StoreError, StoreErrorKind, Version};
use cloakroom::testing::{
    Calls, FailingStore, Operation, PausingStore, SpyStore, TestResponse, Times, When,
};
use cloakroom::{Error, ErrorKind, Session, SessionStore};
use tower_http::catch_panic::CatchPanicLayer;

// Each test file uses its part of it.
#[allow(dead_code, unused_imports, unused_macros)]
mod support;

use self::support::{
    BoxFuture, COOKIE, Client, Hooked, Setup, app, contents, handle_of, in_memory, nothing,
    on_every_store, with_errors_shown,
};

on_every_store! {
    a_load_that_fails_is_a_503_and_writes_nothing,
    a_handler_that_ignores_a_failed_load_has_no_session,
    a_create_that_fails_is_a_503_without_a_cookie,
    an_update_that_fails_is_a_503_and_changes_nothing,
    a_full_store_is_a_503_for_newcomers_and_others_go_on,
    a_write_whose_answer_got_lost_has_succeeded_once,
    a_write_whose_outcome_cannot_be_learnt_is_a_503,
    a_contended_write_whose_answer_got_lost_has_succeeded_once,
    a_touch_that_fails_is_no_business_of_the_client,
    a_scheduled_renewal_that_fails_is_no_business_of_the_client,
    a_login_that_fails_leaves_the_session_as_it_was,
    a_login_whose_answer_got_lost_has_succeeded,
    a_logout_that_fails_is_a_503_without_a_removal_and_takes_no_more_writes,
    a_logout_that_failed_can_be_tried_again,
    a_logout_whose_answer_got_lost_has_succeeded,
    a_save_that_fails_drops_the_changes_and_says_so,
    what_a_failed_save_has_dropped_is_not_saved_with_the_response,
    what_a_save_wrote_before_its_store_panicked_is_not_applied_again_with_the_response,
    a_record_that_cannot_be_decoded_is_no_session_and_is_left_as_it_is,
    a_record_of_a_newer_format_is_a_503_and_is_left_as_it_is,
    a_store_that_does_not_answer_is_a_503_in_time,
    a_write_that_took_effect_without_an_answer_in_time_has_succeeded,
    a_session_that_others_keep_changing_is_a_503_in_time,
    a_store_that_panics_is_an_error_and_no_hang,
    a_value_that_does_not_fit_is_an_error_and_changes_nothing,
    a_session_may_be_exactly_as_large_as_the_limit,
    ;
    over TCP:
    a_load_that_fails_is_a_503_and_writes_nothing,
    an_update_that_fails_is_a_503_and_changes_nothing,
    a_logout_that_fails_is_a_503_without_a_removal_and_takes_no_more_writes,
    a_store_that_panics_is_an_error_and_no_hang,
}

type Failing = FailingStore<Arc<dyn SessionStore>>;

const EFFECTS: [When; 2] = [When::BeforeEffect, When::AfterEffect];

async fn shown(client: &Client) -> String {
    let response = client.get("/show").await.assert_status(StatusCode::OK);
    response.text().to_owned()
}

async fn write(client: &Client, path: &str) -> TestResponse {
    client.post(path).await.assert_status(StatusCode::OK)
}

fn handle(client: &Client) -> Handle {
    handle_of(&client.cookie(COOKIE).unwrap())
}

/// The response is a 503 that says no more than that, to a client without and an app with an error.
#[track_caller]
fn assert_failed(response: &TestResponse, kind: ErrorKind) {
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let kind = format!("{kind:?}");
    assert_eq!(response.header("x-session-error"), Some(&*kind));
    assert!(response.set_cookies().is_empty());
    assert!(!response.text().contains("store"), "{}", response.text());
}

/// A browser with `a=1` in its session, at an app whose store fails when it is told, and the spy around it.
async fn client(setup: &Setup, routes: Router) -> (Client, Failing, SpyStore<Failing>) {
    let failing = setup.failing();
    let spy = SpyStore::new(failing.clone());
    let client = setup.client_with(spy.clone(), routes).await;
    write(&client, "/set/a/1").await;
    spy.reset();
    (client, failing, spy)
}

async fn a_load_that_fails_is_a_503_and_writes_nothing(setup: Setup) {
    for when in EFFECTS {
        let (client, failing, spy) = client(&setup, Router::new()).await;
        failing.fail(Operation::Load, when, Times::Always);
        assert_failed(&client.get("/show").await, ErrorKind::Store);
        for path in ["/set/a/2", "/clear", "/login/alice", "/logout"] {
            assert_failed(&client.post(path).await, ErrorKind::Store);
        }
        assert_eq!(
            spy.calls(),
            Calls {
                load: 5,
                ..Calls::default()
            }
        );
        // Who does not use the session is not concerned.
        client.get("/unused").await.assert_status(StatusCode::OK);
        failing.heal();
        assert_eq!(shown(&client).await, "nobody: a=1");
    }
}

async fn a_handler_that_ignores_a_failed_load_has_no_session(setup: Setup) {
    let stubborn = async |first: Result<Session, Error>, second: Result<Session, Error>| {
        assert_eq!(first.unwrap_err().kind(), ErrorKind::Store);
        assert_eq!(second.unwrap_err().kind(), ErrorKind::Store);
        "never mind"
    };
    let routes = Router::new().route("/stubborn", post(stubborn));
    let (client, failing, spy) = client(&setup, routes).await;
    failing.fail(Operation::Load, When::BeforeEffect, Times::Next(1));
    let response = write(&client, "/stubborn").await;
    assert!(response.set_cookies().is_empty());
    assert_eq!(spy.calls().total(), 1);
    assert_eq!(shown(&client).await, "nobody: a=1");
}

async fn a_create_that_fails_is_a_503_without_a_cookie(setup: Setup) {
    for path in ["/set/a/1", "/login/alice"] {
        let (client, failing, spy) = client(&setup, Router::new()).await;
        client.clear_cookies();
        failing.fail(Operation::Create, When::BeforeEffect, Times::Always);
        assert_failed(&client.post(path).await, ErrorKind::Store);
        assert_eq!(client.cookie(COOKIE), None);
        let made = spy.log()[0].handle.unwrap();
        assert!(!setup.holds(&made).await);
        failing.heal();
        write(&client, path).await;
        assert_ne!(shown(&client).await, "no session");
    }
}

async fn an_update_that_fails_is_a_503_and_changes_nothing(setup: Setup) {
    for path in ["/set/a/2", "/add/n", "/clear", "/renew"] {
        let (client, failing, spy) = client(&setup, Router::new()).await;
        failing.fail(Operation::Update, When::BeforeEffect, Times::Always);
        let before = setup.store.load(&handle(&client)).await.unwrap();
        assert_failed(&client.post(path).await, ErrorKind::Store);
        // It was looked up whether the write had succeeded, and not written again.
        assert_eq!(
            spy.calls(),
            Calls {
                load: 2,
                update: 1,
                ..Calls::default()
            }
        );
        let after = setup.store.load(&handle(&client)).await.unwrap();
        assert_eq!(after, before);
        assert_eq!(shown(&client).await, "nobody: a=1");
    }
}

async fn a_full_store_is_a_503_for_newcomers_and_others_go_on(setup: Setup) {
    let (client, failing, _) = client(&setup, Router::new()).await;
    let full = || StoreError::full("there is no room");
    failing.fail_with(Operation::Create, When::BeforeEffect, Times::Always, full);
    let newcomer = client.clone();
    newcomer.clear_cookies();
    let response = newcomer.post("/set/a/2").await;
    assert_failed(&response, ErrorKind::Store);
    assert!(response.set_cookies().is_empty());
    write(&client, "/set/b/2").await;
    assert_eq!(shown(&client).await, "nobody: a=1 b=2");
}

async fn a_write_whose_answer_got_lost_has_succeeded_once(setup: Setup) {
    let (client, failing, _) = client(&setup, Router::new()).await;
    for (operation, path, expected) in [
        (Operation::Update, "/add/n", "nobody: a=1 n=1"),
        (Operation::Update, "/add/n", "nobody: a=1 n=2"),
        (Operation::Update, "/renew", "nobody: a=1 n=2"),
        (Operation::Create, "/add/n", "nobody: n=1"),
    ] {
        if operation == Operation::Create {
            client.clear_cookies();
        }
        failing.fail(operation, When::AfterEffect, Times::Next(1));
        let failures = failing.failures();
        write(&client, path).await;
        assert_eq!(failing.failures(), failures + 1);
        assert_eq!(shown(&client).await, expected, "{path}");
    }
}

async fn a_write_whose_outcome_cannot_be_learnt_is_a_503(setup: Setup) {
    for (operation, path) in [
        (Operation::Update, "/add/n"),
        (Operation::Create, "/add/n"),
        (Operation::Update, "/login/alice"),
        (Operation::Create, "/login/alice"),
    ] {
        let store = setup.failing();
        let failing = store.clone();
        // Once it has failed, it does not answer a load either.
        let breaks = move |called, _| -> BoxFuture<()> {
            if called == operation {
                failing.fail(Operation::Load, When::BeforeEffect, Times::Always);
            }
            Box::pin(async {})
        };
        let hooked = Hooked::new(Arc::new(store.clone()), breaks, nothing);
        let client = setup.client(hooked).await;
        if operation == Operation::Update {
            write(&client, "/set/a/1").await;
        }
        store.fail(operation, When::AfterEffect, Times::Next(1));
        assert_failed(&client.post(path).await, ErrorKind::Store);
    }
}

async fn a_contended_write_whose_answer_got_lost_has_succeeded_once(setup: Setup) {
    let pausing = setup.pausing();
    let failing = FailingStore::new(pausing.clone());
    let client = setup.client(failing.clone()).await;
    write(&client, "/add/n").await;
    let pause = pausing.pause_before(Operation::Update);
    let overtaken = tokio::spawn({
        let window = client.new_window();
        async move { window.post("/add/n").await }
    });
    pause.reached().await;
    write(&client, "/add/n").await;
    // The next update to begin is the second try.
    failing.fail(Operation::Update, When::AfterEffect, Times::Next(1));
    pause.release();
    overtaken.await.unwrap().assert_status(StatusCode::OK);
    assert_eq!(failing.failures(), 1);
    assert_eq!(shown(&client).await, "nobody: n=3");
}

async fn a_touch_that_fails_is_no_business_of_the_client(setup: Setup) {
    for when in EFFECTS {
        let (client, failing, _) = client(&setup, Router::new()).await;
        setup.clock.advance(Duration::from_secs(1_800));
        failing.fail(Operation::Touch, when, Times::Next(1));
        let response = client.get("/show").await.assert_status(StatusCode::OK);
        assert_eq!(failing.failures(), 1);
        assert_eq!(response.text(), "nobody: a=1");
        assert!(response.set_cookies().is_empty());
        assert_eq!(response.header("x-session-error"), None);
    }
}

async fn a_scheduled_renewal_that_fails_is_no_business_of_the_client(setup: Setup) {
    for when in EFFECTS {
        let failing = setup.failing();
        let minute = Duration::from_secs(60);
        let layer = setup.builder(failing.clone()).renew_ids_every(minute);
        let client = setup.client_of(layer.build().unwrap()).await;
        write(&client, "/set/a/1").await;
        setup.clock.advance(minute);
        failing.fail(Operation::Update, when, Times::Next(1));
        let response = client.get("/show").await.assert_status(StatusCode::OK);
        assert_eq!(failing.failures(), 1);
        assert!(response.set_cookies().is_empty());
        assert_eq!(shown(&client).await, "nobody: a=1");
    }
}

async fn a_login_that_fails_leaves_the_session_as_it_was(setup: Setup) {
    let (client, failing, _) = client(&setup, Router::new()).await;
    failing.fail(Operation::Update, When::BeforeEffect, Times::Next(1));
    let response = client.post("/login/alice").await;
    assert_failed(&response, ErrorKind::Store);
    assert_eq!(shown(&client).await, "nobody: a=1");

    // Where the session of somebody else cannot be ended, there is no login either.
    write(&client, "/login/bob").await;
    failing.fail(Operation::Delete, When::BeforeEffect, Times::Next(1));
    let response = client.post("/login/alice").await;
    assert_failed(&response, ErrorKind::EndingFailed);
    assert_eq!(shown(&client).await, "bob: a=1");
}

async fn a_login_whose_answer_got_lost_has_succeeded(setup: Setup) {
    let (client, failing, _) = client(&setup, Router::new()).await;
    let old = client.clone();
    failing.fail(Operation::Update, When::AfterEffect, Times::Next(1));
    let response = write(&client, "/login/bob").await;
    assert_eq!(response.set_cookies().len(), 1);
    assert_eq!(shown(&client).await, "bob: a=1");
    assert_eq!(shown(&old).await, "no session");

    failing.fail(Operation::Delete, When::AfterEffect, Times::Next(1));
    failing.fail(Operation::Create, When::AfterEffect, Times::Next(1));
    write(&client, "/login/alice").await;
    assert_eq!(failing.failures(), 3);
    assert_eq!(shown(&client).await, "alice:");
}

async fn a_logout_that_fails_is_a_503_without_a_removal_and_takes_no_more_writes(setup: Setup) {
    let stubborn = async |session: Session| -> Result<String> {
        session.insert("before", 1)?;
        let error = session.logout().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EndingFailed);
        assert_eq!(contents(&session), "nobody:");
        for result in [
            session.insert("after", 1),
            session.clear(),
            session.renew_id(),
            session.save().await,
            session.login("alice").await,
        ] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::EndingFailed);
        }
        Ok("never mind".to_owned())
    };
    let routes = Router::new().route("/stubborn", post(stubborn));
    let (client, failing, spy) = client(&setup, routes).await;
    failing.fail(Operation::Delete, When::BeforeEffect, Times::Always);
    assert_failed(&client.post("/logout").await, ErrorKind::EndingFailed);
    spy.reset();
    let response = write(&client, "/stubborn").await;
    assert!(response.set_cookies().is_empty());
    // The second load asked whether it was deleted all the same.
    assert_eq!(
        spy.calls(),
        Calls {
            load: 2,
            delete: 1,
            ..Calls::default()
        }
    );
    assert_eq!(shown(&client).await, "nobody: a=1");
    failing.heal();
    write(&client, "/logout").await;
    assert_eq!(shown(&client).await, "no session");
}

async fn a_logout_that_failed_can_be_tried_again(setup: Setup) {
    let twice = async |session: Session| -> Result<String> {
        session.logout().await.unwrap_err();
        session.logout().await?;
        session.insert("fresh", 1)?;
        Ok(contents(&session))
    };
    let routes = Router::new().route("/twice", post(twice));
    let (client, failing, _) = client(&setup, routes).await;
    let old = client.clone();
    failing.fail(Operation::Delete, When::BeforeEffect, Times::Next(1));
    write(&client, "/twice").await;
    assert_eq!(shown(&old).await, "no session");
    assert_eq!(shown(&client).await, "nobody: fresh=1");
    assert_ne!(handle(&client), handle(&old));
}

async fn a_logout_whose_answer_got_lost_has_succeeded(setup: Setup) {
    let (client, failing, _) = client(&setup, Router::new()).await;
    let old = client.clone();
    failing.fail(Operation::Delete, When::AfterEffect, Times::Next(1));
    let response = write(&client, "/logout").await;
    assert_eq!(failing.failures(), 1);
    assert_eq!(response.set_cookies()[0].value(), "");
    assert_eq!(shown(&old).await, "no session");

    // Where that cannot be learnt, it counts as failed.
    let (client, failing, _) = self::client(&setup, Router::new()).await;
    let (loads, fails) = (AtomicUsize::new(0), failing.clone());
    let second_load_fails = move |operation, _| -> BoxFuture<()> {
        if operation == Operation::Load && loads.fetch_add(1, Ordering::Relaxed) == 1 {
            fails.fail(Operation::Load, When::BeforeEffect, Times::Next(1));
        }
        Box::pin(async {})
    };
    let hooked = Hooked::new(Arc::new(failing.clone()), second_load_fails, nothing);
    let other = setup.client(hooked).await;
    other.set_cookie(COOKIE, &client.cookie(COOKIE).unwrap());
    failing.fail(Operation::Delete, When::AfterEffect, Times::Next(1));
    assert_failed(&other.post("/logout").await, ErrorKind::EndingFailed);
}

async fn a_save_that_fails_drops_the_changes_and_says_so(setup: Setup) {
    let stubborn = async |session: Session| -> Result<String> {
        session.insert("lost", 1)?;
        let error = session.save().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert_eq!(error.store_error_kind(), Some(StoreErrorKind::Unavailable));
        session.insert("kept", 1)?;
        Ok(contents(&session))
    };
    let routes = Router::new().route("/stubborn", post(stubborn));
    let (client, failing, _) = client(&setup, routes).await;
    failing.fail(Operation::Update, When::BeforeEffect, Times::Next(1));
    assert_eq!(
        write(&client, "/stubborn").await.text(),
        "nobody: a=1 kept=1"
    );
    assert_eq!(shown(&client).await, "nobody: a=1 kept=1");
}

/// A route that adds to `n`, and answers while another task saves that.
fn saving_aside(store: &PausingStore<impl SessionStore>, told: &Told) -> Router {
    let (store, told) = (store.clone(), told.clone());
    let aside = async move |session: Session| -> Result<()> {
        session.update("n", |n: &mut u64| *n += 1)?;
        let pause = store.pause_before(Operation::Update);
        tokio::spawn(async move {
            let saved = session.save().await;
            *told.lock().unwrap() = Some(saved.map_err(|error| error.kind()));
        });
        pause.reached().await;
        // The save goes on when the response waits for it.
        pause.release();
        Ok(())
    };
    Router::new().route("/aside", post(aside))
}

type Told = Arc<Mutex<Option<std::result::Result<(), ErrorKind>>>>;

/// Asks for that route, in a task of its own: it is then woken in turn, as at a server.
async fn save_aside(setup: &Setup, client: &Client) {
    let window = client.new_window();
    let request = tokio::spawn(async move { write(&window, "/aside").await });
    request.await.unwrap();
    setup.settled().await;
}

async fn what_a_failed_save_has_dropped_is_not_saved_with_the_response(setup: Setup) {
    let told = Told::default();
    let failing = setup.failing();
    let store = PausingStore::new(failing.clone());
    let routes = saving_aside(&store, &told);
    let client = setup.client_with(store, routes).await;
    write(&client, "/add/n").await;
    failing.fail(Operation::Update, When::BeforeEffect, Times::Next(1));
    save_aside(&setup, &client).await;
    assert_eq!(*told.lock().unwrap(), Some(Err(ErrorKind::Store)));
    assert_eq!(shown(&client).await, "nobody: n=1");
}

async fn what_a_save_wrote_before_its_store_panicked_is_not_applied_again_with_the_response(
    setup: Setup,
) {
    let told = Told::default();
    let updates = Arc::new(AtomicUsize::new(0));
    let panicking = Hooked::new(setup.store.clone(), nothing, move |called, _| {
        let updates = updates.clone();
        Box::pin(async move {
            if called == Operation::Update && updates.fetch_add(1, Ordering::Relaxed) == 0 {
                panic!("the store panics");
            }
        })
    });
    let store = PausingStore::new(panicking);
    let routes = saving_aside(&store, &told);
    let client = setup.client_with(store, routes).await;
    write(&client, "/add/n").await;
    save_aside(&setup, &client).await;
    assert_eq!(*told.lock().unwrap(), Some(Err(ErrorKind::Store)));
    assert_eq!(shown(&client).await, "nobody: n=2");
}

/// Replaces what the record of this browser's session holds.
async fn replace_payload(setup: &Setup, client: &Client, payload: &[u8]) -> Record {
    let handle = handle(client);
    let found = setup.store.load(&handle).await.unwrap().unwrap();
    let record = Record {
        version: Version::from_u64(found.version.to_u64().wrapping_add(1)),
        payload: payload.into(),
        ..found
    };
    let now = from_unix_millis(0);
    let updated = setup.store.update(&handle, &record, found.version, now);
    assert_eq!(updated.await.unwrap(), Outcome::Done);
    record
}

async fn a_record_that_cannot_be_decoded_is_no_session_and_is_left_as_it_is(setup: Setup) {
    let (client, failing, spy) = client(&setup, Router::new()).await;
    let whole = setup.store.load(&handle(&client)).await.unwrap().unwrap();
    // The entry of `a`, without which the rest is a session that is empty.
    let entry = 4 + 1 + 4 + 3;
    let lengths = 0..whole.payload.len();
    for length in lengths.filter(|length| *length != whole.payload.len() - entry) {
        let client = client.clone();
        let record = replace_payload(&setup, &client, &whole.payload[..length]).await;
        let broken = handle(&client);
        spy.reset();
        assert_eq!(shown(&client).await, "no session", "{length}");
        write(&client, "/clear").await;
        write(&client, "/renew").await;
        write(&client.clone(), "/logout").await;
        assert_eq!(spy.calls().total(), spy.calls().load);
        write(&client, "/set/b/2").await;
        assert_ne!(handle(&client), broken);
        assert_eq!(shown(&client).await, "nobody: b=2");
        assert_eq!(setup.store.load(&broken).await.unwrap(), Some(record));
    }
    // The store cannot read it either.
    replace_payload(&setup, &client, &whole.payload).await;
    failing.fail_with(Operation::Load, When::BeforeEffect, Times::Next(3), || {
        StoreError::undecodable("bad bytes", "a torn page")
    });
    assert_eq!(shown(&client).await, "no session");
    write(&client.clone(), "/logout").await;
    let other = client.clone();
    write(&other, "/login/alice").await;
    assert_ne!(handle(&other), handle(&client));
    assert_eq!(shown(&other).await, "alice:");
    assert_eq!(shown(&client).await, "nobody: a=1");
}

async fn a_record_of_a_newer_format_is_a_503_and_is_left_as_it_is(setup: Setup) {
    let (client, failing, spy) = client(&setup, Router::new()).await;
    let whole = setup.store.load(&handle(&client)).await.unwrap().unwrap();
    let mut newer = whole.payload.to_vec();
    newer[0] = u8::MAX;
    let record = replace_payload(&setup, &client, &newer).await;
    spy.reset();
    assert_failed(&client.get("/show").await, ErrorKind::Store);
    for path in ["/set/a/2", "/clear", "/login/alice", "/logout"] {
        assert_failed(&client.post(path).await, ErrorKind::Store);
    }
    assert_eq!(spy.calls().total(), 5);
    let found = setup.store.load(&handle(&client)).await.unwrap();
    assert_eq!(found, Some(record));

    // Where the store says so.
    replace_payload(&setup, &client, &whole.payload).await;
    let newer = || {
        let mut bytes = vec![0; 64];
        bytes[0] = u8::MAX;
        Record::decode(&bytes).unwrap_err().into()
    };
    failing.fail_with(Operation::Load, When::BeforeEffect, Times::Next(1), newer);
    assert_failed(&client.get("/show").await, ErrorKind::Store);
    assert_eq!(shown(&client).await, "nobody: a=1");
}

/// Lets tokio's time pass, so that a timeout is over.
async fn wait_out(timeout: Duration) {
    tokio::time::pause();
    tokio::time::advance(timeout).await;
    tokio::time::resume();
}

/// Longer than any call takes that is answered.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

async fn a_store_that_does_not_answer_is_a_503_in_time(setup: Setup) {
    for (operation, path, kind) in [
        (Operation::Load, "/add/n", Some(ErrorKind::Store)),
        (Operation::Update, "/add/n", Some(ErrorKind::Store)),
        (Operation::Update, "/login/alice", Some(ErrorKind::Store)),
        (Operation::Create, "/add/n", Some(ErrorKind::Store)),
        (Operation::Create, "/login/alice", Some(ErrorKind::Store)),
        (Operation::Delete, "/logout", Some(ErrorKind::EndingFailed)),
        (Operation::Touch, "/remove/none", None),
    ] {
        let store = setup.pausing();
        let layer = setup.builder(store.clone()).store_timeout(STORE_TIMEOUT);
        let client = setup.client_of(layer.build().unwrap()).await;
        if operation != Operation::Create {
            write(&client, "/set/a/1").await;
        }
        setup.clock.advance(Duration::from_secs(1_800));
        let never = store.pause_before(operation);
        let request = tokio::spawn({
            let (window, path) = (client.new_window(), path.to_owned());
            async move { window.post(&path).await }
        });
        never.reached().await;
        tokio::task::yield_now().await;
        assert!(!request.is_finished());
        wait_out(STORE_TIMEOUT).await;
        let response = request.await.unwrap();
        match kind {
            Some(kind) => assert_failed(&response, kind),
            None => drop(response.assert_status(StatusCode::OK)),
        }
        let expected = match operation {
            Operation::Create => "no session",
            _ => "nobody: a=1",
        };
        assert_eq!(shown(&client).await, expected, "{operation:?}");
    }
}

async fn a_write_that_took_effect_without_an_answer_in_time_has_succeeded(setup: Setup) {
    for (operation, path, expected) in [
        (Operation::Update, "/add/n", "nobody: a=1 n=1"),
        (Operation::Update, "/login/alice", "alice: a=1"),
        (Operation::Create, "/add/n", "nobody: n=1"),
        (Operation::Create, "/login/alice", "alice:"),
        (Operation::Delete, "/logout", "no session"),
    ] {
        let store = setup.pausing();
        let layer = setup.builder(store.clone()).store_timeout(STORE_TIMEOUT);
        let client = setup.client_of(layer.build().unwrap()).await;
        if operation != Operation::Create {
            write(&client, "/set/a/1").await;
        }
        let never = store.pause_after(operation);
        let request = tokio::spawn({
            let (window, path) = (client.new_window(), path.to_owned());
            async move { window.post(&path).await }
        });
        never.reached().await;
        wait_out(STORE_TIMEOUT).await;
        request.await.unwrap().assert_status(StatusCode::OK);
        assert_eq!(shown(&client).await, expected, "{operation:?}");
    }
}

/// A store in which another node is always a moment earlier: before each update the record gets another
/// version.
fn contended(store: &Arc<dyn SessionStore>, tries: &Arc<AtomicUsize>) -> Hooked {
    let (other, tries) = (store.clone(), tries.clone());
    let version = AtomicU64::new(1);
    let writes_first = move |operation, handle: Option<Handle>| -> BoxFuture<()> {
        let (other, tries) = (other.clone(), tries.clone());
        let version = Version::from_u64(version.fetch_add(1, Ordering::Relaxed));
        Box::pin(async move {
            if operation != Operation::Update {
                return;
            }
            tries.fetch_add(1, Ordering::Relaxed);
            let handle = handle.unwrap();
            let found = other.load(&handle).await.unwrap().unwrap();
            let record = Record {
                version,
                ..found.clone()
            };
            let now = from_unix_millis(0);
            let updated = other.update(&handle, &record, found.version, now).await;
            assert_eq!(updated.unwrap(), Outcome::Done);
        })
    };
    Hooked::new(store.clone(), writes_first, nothing)
}

async fn a_session_that_others_keep_changing_is_a_503_in_time(setup: Setup) {
    let save = async |session: Session| -> Result<String> {
        session.insert("lost", 1)?;
        let error = session.save().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Contention);
        Err(error.into())
    };
    for path in ["/add/n", "/renew", "/login/alice", "/save"] {
        let tries = Arc::new(AtomicUsize::new(0));
        let layer = setup
            .builder(contended(&setup.store, &tries))
            .retry_for(Duration::from_millis(40));
        let routes = Router::new().route("/save", post(save));
        let client = setup.client_at(layer.build().unwrap(), routes).await;
        write(&client, "/set/a/1").await;
        assert_failed(&client.post(path).await, ErrorKind::Contention);
        assert!(tries.load(Ordering::Relaxed) > 1);
        assert_eq!(shown(&client).await, "nobody: a=1");
    }
}

#[tokio::test(start_paused = true)]
async fn contention_ends_after_two_seconds_and_a_silent_store_after_five() {
    let setup = in_memory();
    let tries = Arc::new(AtomicUsize::new(0));
    let layer = cloakroom::SessionLayer::new(contended(&setup.store, &tries));
    let client = setup.client_of(layer).await;
    write(&client, "/set/a/1").await;
    let start = tokio::time::Instant::now();
    assert_failed(&client.post("/add/n").await, ErrorKind::Contention);
    assert!(start.elapsed() <= Duration::from_secs(2));
    // With pauses of 64 ms at most, the next try would have come too late.
    assert!(start.elapsed() > Duration::from_millis(1_900));

    let silent = Hooked::new(setup.store.clone(), |_, _| Box::pin(pending()), nothing);
    let silenced = setup.client_of(cloakroom::SessionLayer::new(silent)).await;
    silenced.set_cookie(COOKIE, &client.cookie(COOKIE).unwrap());
    let start = tokio::time::Instant::now();
    assert_failed(&silenced.get("/show").await, ErrorKind::Store);
    assert_eq!(start.elapsed().as_secs(), 5);
}

/// Such as one whose server always has more to say. Timers of the task have to share the budget with it.
#[tokio::test(start_paused = true)]
async fn a_store_that_leaves_its_task_no_budget_is_given_up_in_time() {
    let setup = in_memory();
    let client = setup.client_of(cloakroom::SessionLayer::new(setup.store.clone()));
    let client = client.await;
    write(&client, "/set/a/1").await;
    let busy = |_, _| -> BoxFuture<()> {
        Box::pin(async {
            loop {
                tokio::task::consume_budget().await;
            }
        })
    };
    let busy = Hooked::new(setup.store.clone(), busy, nothing);
    let waiting = setup.client_of(cloakroom::SessionLayer::new(busy)).await;
    waiting.set_cookie(COOKIE, &client.cookie(COOKIE).unwrap());
    let request = tokio::spawn(async move { waiting.get("/show").await });
    tokio::task::yield_now().await;
    assert!(!request.is_finished());

    tokio::time::advance(Duration::from_secs(5)).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(request.is_finished());
    assert_failed(&request.await.unwrap(), ErrorKind::Store);
}

async fn a_store_that_panics_is_an_error_and_no_hang(setup: Setup) {
    // One that panics in the middle of a request, where the handler would go on.
    let stubborn = async |session: Session| -> Result<String> {
        session.insert("before", 1)?;
        let error = session.logout().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EndingFailed);
        let error = session.insert("after", 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EndingFailed);
        Ok(contents(&session))
    };
    for (operation, path, status) in [
        (Operation::Load, "/add/n", 500),
        (Operation::Update, "/add/n", 500),
        (Operation::Create, "/add/n", 500),
        (Operation::Touch, "/remove/none", 500),
        (Operation::Update, "/login/alice", 503),
        (Operation::Create, "/login/alice", 503),
        (Operation::Delete, "/logout", 503),
        (Operation::Delete, "/stubborn", 200),
    ] {
        let panics = Arc::new(AtomicUsize::new(0));
        let panicking = {
            let panics = panics.clone();
            Hooked::new(
                setup.store.clone(),
                move |called, _| -> BoxFuture<()> {
                    let panics = panics.clone();
                    Box::pin(async move {
                        if called == operation && panics.load(Ordering::Relaxed) == 1 {
                            panics.store(2, Ordering::Relaxed);
                            panic!("the store panics");
                        }
                    })
                },
                nothing,
            )
        };
        let router = app()
            .route("/stubborn", post(stubborn))
            .layer(setup.builder(panicking).build().unwrap());
        let router = with_errors_shown(router.layer(CatchPanicLayer::new()));
        let client = setup.browser(router).await;
        if operation != Operation::Create {
            write(&client, "/set/a/1").await;
        }
        setup.clock.advance(Duration::from_secs(1_800));
        panics.store(1, Ordering::Relaxed);
        let response = client.post(path).await;
        assert_eq!(panics.load(Ordering::Relaxed), 2, "{operation:?} {path}");
        assert_eq!(response.status().as_u16(), status, "{operation:?} {path}");
        assert!(response.set_cookies().is_empty());
        let expected = match operation {
            Operation::Create => "no session",
            _ => "nobody: a=1",
        };
        assert_eq!(shown(&client).await, expected, "{operation:?} {path}");
    }
}

async fn a_value_that_does_not_fit_is_an_error_and_changes_nothing(setup: Setup) {
    let stubborn = async |session: Session| -> Result<String> {
        let large = "x".repeat(100);
        let error = session.insert("a", &large).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("max_session_size"));
        assert!(!error.to_string().contains("xx"));
        let append = move |text: &mut String| text.push_str(&large);
        let error = session.update("a", append).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        session.insert("b", "2")?;
        Ok(contents(&session))
    };
    let layer = setup.builder(setup.store.clone()).max_session_size(64);
    let routes = Router::new().route("/stubborn", post(stubborn));
    let client = setup.client_at(layer.build().unwrap(), routes).await;
    write(&client, "/set/a/1").await;
    let path = format!("/set/a/{}", "x".repeat(100));
    let response = client.post(&path).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.header("x-session-error"), Some("TooLarge"));
    assert_eq!(shown(&client).await, "nobody: a=1");
    write(&client, "/stubborn").await;
    assert_eq!(shown(&client).await, "nobody: a=1 b=2");
}

async fn a_session_may_be_exactly_as_large_as_the_limit(setup: Setup) {
    let client = setup.client(setup.store.clone()).await;
    // 8 bytes for the entry, 1 for its key, 2 for the quotes.
    let largest = 65_536 - 8 - 1 - 2;
    let fill = async |session: Session, length: String| -> Result<String> {
        session.insert("a", "x".repeat(length.parse().unwrap()))?;
        Ok(String::new())
    };
    let routes = Router::new().route("/fill", post(fill));
    let filling = setup.client_with(setup.store.clone(), routes).await;
    for (length, status) in [
        (largest, StatusCode::OK),
        (largest + 1, StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let request = axum::http::Request::post("/fill")
            .body(length.to_string().into())
            .unwrap();
        filling.send(request).await.assert_status(status);
    }
    client.set_cookie(COOKIE, &filling.cookie(COOKIE).unwrap());
    assert_eq!(shown(&client).await.len(), "nobody: a=".len() + largest);
}
