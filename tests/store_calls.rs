//! What a request costs: a session that is not used is free (guarantee 1), reading one is one store call and
//! writing it one more (guarantee 2).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{Response, Result};
use axum::routing::{get, post};
use cloakroom::store::Handle;
use cloakroom::testing::{Calls, Operation, SpyStore, TestResponse};
use cloakroom::{ErrorKind, Session, SessionStore};

// Each test file uses its part of it.
#[allow(dead_code, unused_imports, unused_macros)]
mod support;

use self::support::{
    BoxFuture, COOKIE, Client, Hooked, Setup, app, contents, nothing, on_every_store,
};

on_every_store! {
    a_request_that_does_not_use_its_session_costs_nothing_and_says_nothing,
    a_visitor_who_writes_nothing_gets_no_cookie_and_no_record,
    each_thing_that_a_handler_does_costs_what_is_said,
    what_changes_nothing_writes_nothing_and_sets_no_cookie,
    what_another_request_has_changed_to_the_same_is_not_written_again,
    everybody_in_a_request_shares_one_session_that_is_loaded_once,
    an_optional_session_is_there_only_if_it_is_live,
    a_call_that_waits_is_polled_again_only_when_it_is_woken,
    ;
    over TCP:
    a_request_that_does_not_use_its_session_costs_nothing_and_says_nothing,
    a_visitor_who_writes_nothing_gets_no_cookie_and_no_record,
    each_thing_that_a_handler_does_costs_what_is_said,
}

const NONE: Calls = Calls {
    create: 0,
    load: 0,
    update: 0,
    touch: 0,
    delete: 0,
    delete_expired: 0,
    link: 0,
    extend: 0,
    unlink: 0,
    list: 0,
    mark: 0,
    delete_linked: 0,
};
const CREATE: Calls = Calls { create: 1, ..NONE };
const LOAD: Calls = Calls { load: 1, ..NONE };
const LOAD_AND_UPDATE: Calls = Calls { update: 1, ..LOAD };

fn says_nothing_of_a_session(response: &TestResponse) -> bool {
    ["set-cookie", "vary", "cache-control"]
        .iter()
        .all(|name| !response.headers().contains_key(*name))
}

async fn a_request_that_does_not_use_its_session_costs_nothing_and_says_nothing(setup: Setup) {
    let spy = setup.spy();
    let client = setup.client(spy.clone()).await;
    assert!(says_nothing_of_a_session(&client.get("/unused").await));
    client.post("/login/alice").await;
    spy.reset();
    let response = client.get("/unused").await.assert_status(StatusCode::OK);
    assert!(says_nothing_of_a_session(&response));
    assert!(says_nothing_of_a_session(
        &client.get("/no-such-page").await
    ));
    assert_eq!(spy.calls(), NONE);
}

async fn a_visitor_who_writes_nothing_gets_no_cookie_and_no_record(setup: Setup) {
    let spy = setup.spy();
    let client = setup.client(spy.clone()).await;
    client.get("/show").await.assert_status(StatusCode::OK);
    client.get("/handle").await.assert_status(StatusCode::OK);
    for path in ["/remove/a", "/clear", "/renew", "/logout"] {
        let response = client.post(path).await.assert_status(StatusCode::OK);
        assert!(response.set_cookies().is_empty(), "{path}");
    }
    assert_eq!(spy.calls(), NONE);
    assert!(client.cookies().is_empty());
}

/// Routes for what takes more than one step.
fn combinations() -> Router {
    let read_and_write = async |session: Session| -> Result<String> {
        session.get::<String>("a")?;
        session.insert("a", "2")?;
        session.insert("b", "3")?;
        session.update("n", |n: &mut u64| *n += 1)?;
        session.remove("b")?;
        Ok(contents(&session))
    };
    let login_and_write = async |session: Session| -> Result<String> {
        session.insert("before", 1)?;
        session.login("alice").await?;
        session.insert("after", 2)?;
        Ok(contents(&session))
    };
    let save = async |session: Session| -> Result<String> {
        session.insert("a", "saved")?;
        session.save().await?;
        session.save().await?;
        Ok(contents(&session))
    };
    let set_and_unset = async |session: Session| -> Result<String> {
        session.insert("a", 1)?;
        session.take::<u64>("a")?;
        Ok(contents(&session))
    };
    let logout_and_write = async |session: Session| -> Result<String> {
        session.logout().await?;
        session.insert("a", 1)?;
        Ok(contents(&session))
    };
    let change_and_fail = async |session: Session| -> Result<StatusCode> {
        session.insert("a", 1)?;
        session.renew_id()?;
        Ok(StatusCode::INTERNAL_SERVER_ERROR)
    };
    Router::new()
        .route("/read-and-write", post(read_and_write))
        .route("/login-and-write", post(login_and_write))
        .route("/save", post(save))
        .route("/set-and-unset", post(set_and_unset))
        .route("/logout-and-write", post(logout_and_write))
        .route("/change-and-fail", post(change_and_fail))
}

async fn each_thing_that_a_handler_does_costs_what_is_said(setup: Setup) {
    let delete = Calls { delete: 1, ..LOAD };
    let delete_and_create = Calls {
        create: 1,
        ..delete
    };
    let create_and_update = Calls {
        update: 1,
        ..CREATE
    };
    let create_and_load = Calls { load: 1, ..CREATE };
    let load_twice = Calls {
        load: 2,
        ..LOAD_AND_UPDATE
    };
    let update_twice = Calls { update: 2, ..LOAD };
    // The path, what it costs without a session, and with one; and whether it sets a cookie then.
    for (path, absent, live, sets_cookie) in [
        ("/set/a/1", CREATE, LOAD_AND_UPDATE, false),
        // The value that is there already.
        ("/set/a/0", CREATE, LOAD, false),
        ("/add/n", CREATE, LOAD_AND_UPDATE, false),
        ("/remove/a", NONE, LOAD_AND_UPDATE, false),
        ("/clear", NONE, LOAD_AND_UPDATE, false),
        ("/renew", NONE, LOAD_AND_UPDATE, true),
        // A cookie of before the response takes a look at whether its session is still there.
        ("/login/alice", create_and_load, load_twice, true),
        ("/logout", NONE, delete, true),
        ("/read-and-write", CREATE, LOAD_AND_UPDATE, false),
        ("/login-and-write", create_and_update, update_twice, true),
        ("/save", create_and_load, LOAD_AND_UPDATE, false),
        ("/set-and-unset", NONE, LOAD_AND_UPDATE, false),
        ("/logout-and-write", CREATE, delete_and_create, true),
        ("/change-and-fail", NONE, LOAD, false),
    ] {
        let spy = setup.spy();
        let client = setup.client_with(spy.clone(), combinations()).await;
        // A store that keeps sessions by user is told of a login.
        let has_link = path.starts_with("/login") && spy.user_index().is_some();
        let link = usize::from(has_link);
        let (absent, live) = (Calls { link, ..absent }, Calls { link, ..live });
        let response = client.post(path).await;
        assert_eq!(spy.calls(), absent, "{path}, without a session");
        let created = usize::from(absent.create > 0);
        assert_eq!(response.set_cookies().len(), created, "{path}");

        client.clear_cookies();
        client.post("/set/a/0").await;
        spy.reset();
        let response = client.post(path).await;
        assert_eq!(spy.calls(), live, "{path}, with a session");
        assert_eq!(
            response.set_cookies().len(),
            usize::from(sets_cookie),
            "{path}"
        );
        assert_eq!(client.rejected_cookies(), []);
    }
}

async fn what_changes_nothing_writes_nothing_and_sets_no_cookie(setup: Setup) {
    let nothing = async |session: Session| -> Result<String> {
        session.get::<String>("a")?;
        session.get::<String>("b")?;
        session.contains_key("a");
        session.is_empty();
        session.keys();
        session.handle();
        session.user_id();
        session.expires_at();
        session.remove("b")?;
        session.take::<String>("b")?;
        session.do_not_extend()?;
        // Neither wrong types nor values that cannot be written change anything.
        assert_eq!(
            session.get::<u64>("a").unwrap_err().kind(),
            ErrorKind::Decode
        );
        assert_eq!(
            session.take::<u64>("a").unwrap_err().kind(),
            ErrorKind::Decode
        );
        assert_eq!(
            session
                .update("a", |n: &mut u64| *n += 1)
                .unwrap_err()
                .kind(),
            ErrorKind::Decode
        );
        let unwritable = std::collections::HashMap::from([((1, 2), 3)]);
        assert_eq!(
            session.insert("a", unwritable).unwrap_err().kind(),
            ErrorKind::Encode
        );
        session.save().await?;
        Ok(contents(&session))
    };
    let spy = setup.spy();
    let routes = Router::new().route("/nothing", get(nothing));
    let client = setup.client_with(spy.clone(), routes).await;
    client.post("/set/a/1").await;
    spy.reset();
    for path in ["/show", "/handle", "/nothing"] {
        let response = client.get(path).await.assert_status(StatusCode::OK);
        assert!(response.set_cookies().is_empty());
    }
    assert_eq!(spy.calls(), Calls { load: 3, ..NONE });
    assert_eq!(client.get("/show").await.text(), "nobody: a=1");
}

async fn what_another_request_has_changed_to_the_same_is_not_written_again(setup: Setup) {
    let store = setup.pausing();
    let spy = SpyStore::new(store.clone());
    let client = setup.client(spy.clone()).await;
    client.post("/set/a/1").await;
    spy.reset();
    let pause = store.pause_before(Operation::Update);
    let window = client.new_window();
    let slow = tokio::spawn(async move { window.post("/set/a/2").await });
    pause.reached().await;
    client.post("/set/a/2").await.assert_status(StatusCode::OK);
    pause.release();
    slow.await.unwrap().assert_status(StatusCode::OK);
    // The slow one's update found another version, and its second load what it was about to write.
    let expected = Calls {
        load: 3,
        update: 2,
        ..NONE
    };
    assert_eq!(spy.calls(), expected);
    assert_eq!(client.get("/show").await.text(), "nobody: a=2");
}

async fn everybody_in_a_request_shares_one_session_that_is_loaded_once(setup: Setup) {
    let middleware = from_fn(async |session: Session, request, next: Next| -> Response {
        session.insert("middleware", 1).unwrap();
        let response = next.run(request).await;
        assert!(session.contains_key("handler"));
        response
    });
    let handler = async |first: Session, second: Option<Session>| -> Result<String> {
        // It is not live yet: nothing was saved.
        assert!(second.is_none());
        assert!(first.contains_key("middleware"));
        first.insert("handler", 2)?;
        Ok(contents(&first))
    };
    let spy = setup.spy();
    let router = app()
        .route("/shared", post(handler))
        .layer(middleware)
        .layer(setup.builder(spy.clone()).build().unwrap());
    let client = setup.browser(router).await;
    client.set_cookie(COOKIE, &support::forged(1));
    client.post("/shared").await.assert_status(StatusCode::OK);
    assert_eq!(spy.calls(), Calls { load: 1, ..CREATE });
}

async fn an_optional_session_is_there_only_if_it_is_live(setup: Setup) {
    let client: Client = setup.client(setup.store.clone()).await;
    assert_eq!(client.get("/show").await.text(), "no session");
    client.set_cookie(COOKIE, &support::forged(1));
    assert_eq!(client.get("/show").await.text(), "no session");
    client.post("/set/a/1").await;
    assert_eq!(client.get("/show").await.text(), "nobody: a=1");
    client.post("/clear").await;
    // It is empty, and it is there.
    assert_eq!(client.get("/show").await.text(), "nobody:");
    client.post("/logout").await;
    assert_eq!(client.get("/show").await.text(), "no session");
}

async fn a_call_that_waits_is_polled_again_only_when_it_is_woken(setup: Setup) {
    let polls = Arc::new(AtomicUsize::new(0));
    let waits = {
        let polls = polls.clone();
        move |operation, _: Option<Handle>| -> BoxFuture<()> {
            let polls = polls.clone();
            if operation != Operation::Load {
                return Box::pin(async {});
            }
            // Another task, so that it is not ready before the request has waited.
            let mut answer = tokio::spawn(async {});
            Box::pin(poll_fn(move |context| {
                polls.fetch_add(1, Ordering::Relaxed);
                Pin::new(&mut answer)
                    .poll(context)
                    .map(|answer| answer.unwrap())
            }))
        }
    };
    let hooked = Hooked::new(setup.store.clone(), waits, nothing);
    let client = setup.client(hooked).await;
    client.post("/set/a/1").await.assert_status(StatusCode::OK);
    client.get("/show").await.assert_status(StatusCode::OK);
    assert_eq!(polls.load(Ordering::Relaxed), 2);
}
