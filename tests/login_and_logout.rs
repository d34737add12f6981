//! An end is final, and a login makes the old id worthless, whatever overlaps with them (guarantee 4).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Result;
use axum::routing::post;
use cloakroom::testing::{Calls, Operation, Pause, PausingStore, TestResponse, Times, When};
use cloakroom::{Session, SessionStore};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

// Each test file uses its part of it.
#[allow(dead_code, unused_imports, unused_macros)]
mod support;

use self::support::{COOKIE, Client, Setup, contents, handle_of, on_every_store};

on_every_store! {
    an_ending_during_a_renewal_is_final_at_every_step,
    a_logout_during_a_slow_write_is_final_and_the_write_sets_no_cookie,
    a_logout_during_a_slow_touch_is_final,
    of_two_logouts_at_once_one_removes_the_cookie,
    a_logout_and_then_a_write_make_a_fresh_session,
    an_ending_from_elsewhere_is_final,
    a_login_makes_a_new_id_and_keeps_the_data_and_the_old_id_is_dead_at_once,
    a_login_merges_with_an_overlapping_write,
    of_two_overlapping_logins_each_gets_a_session_of_its_own,
    a_login_as_somebody_else_ends_the_session_and_takes_nothing_of_it_along,
    a_login_as_somebody_else_ends_a_session_that_is_written_to_meanwhile,
    a_login_as_somebody_else_after_a_clear_keeps_what_is_set_later,
    a_login_again_keeps_the_data_under_a_new_id,
    a_login_on_a_session_that_expired_during_the_request_takes_nothing_of_it_along,
    a_write_that_a_login_overtakes_is_dropped_without_a_cookie,
    a_cookie_that_a_save_has_prepared_gives_way_to_a_later_login,
    a_cookie_that_a_save_has_prepared_is_sent_where_nothing_came_between,
    a_session_that_ended_after_its_login_is_not_given_to_the_browser,
    a_login_is_not_lost_where_the_store_fails_after_it,
    a_request_on_its_way_with_the_id_from_before_a_login_has_no_session_and_writes_nothing,
    the_id_from_before_a_login_is_unknown_once_the_grace_is_over,
    a_login_under_a_retired_id_makes_a_fresh_session,
    a_late_write_under_an_id_that_was_renewed_on_a_schedule_is_merged,
    a_renewal_on_a_schedule_whose_response_got_lost_is_made_up_for_when_the_next_is_due,
    an_id_that_was_renewed_on_a_schedule_works_until_its_successor_has_been_used_for_the_grace,
    a_scheduled_renewal_that_another_request_overtakes_issues_one_id,
    a_login_also_kills_the_ids_that_were_renewed_on_a_schedule,
    ;
    over TCP:
    an_ending_during_a_renewal_is_final_at_every_step,
    a_logout_during_a_slow_write_is_final_and_the_write_sets_no_cookie,
    a_login_makes_a_new_id_and_keeps_the_data_and_the_old_id_is_dead_at_once,
    a_write_that_a_login_overtakes_is_dropped_without_a_cookie,
    a_request_on_its_way_with_the_id_from_before_a_login_has_no_session_and_writes_nothing,
}

type Pausing = PausingStore<Arc<dyn SessionStore>>;

const GRACE: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Sends a request in a window of this browser, in a task of its own.
fn begin(client: &Client, path: &str) -> JoinHandle<TestResponse> {
    let (window, path) = (client.new_window(), path.to_owned());
    tokio::spawn(async move { window.post(&path).await })
}

async fn write(client: &Client, path: &str) -> TestResponse {
    client.post(path).await.assert_status(StatusCode::OK)
}

async fn shown(client: &Client) -> String {
    let response = client.get("/show").await.assert_status(StatusCode::OK);
    response.text().to_owned()
}

fn id(client: &Client) -> String {
    client.cookie(COOKIE).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Renewal {
    Asked,
    Login,
    Scheduled,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// By a request that found the session before its id was renewed.
    Logout,
    FromElsewhere,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Before,
    After,
}

/// Where a request is when the session ends.
#[derive(Clone, Copy, Debug)]
struct Step {
    operation: Operation,
    place: Place,
    /// Whether it is at its second try, since another request has written in between.
    at_retry: bool,
}

impl Step {
    fn pause(self, store: &Pausing) -> Pause {
        match self.place {
            Place::Before => store.pause_before(self.operation),
            Place::After => store.pause_after(self.operation),
        }
    }
}

async fn an_ending_during_a_renewal_is_final_at_every_step(setup: Setup) {
    for renewal in [Renewal::Asked, Renewal::Login, Renewal::Scheduled] {
        for ending in [Ending::Logout, Ending::FromElsewhere] {
            for at_retry in [false, true] {
                for (operation, place) in [
                    (Operation::Load, Place::Before),
                    (Operation::Load, Place::After),
                    (Operation::Update, Place::Before),
                    (Operation::Update, Place::After),
                ] {
                    let step = Step {
                        operation,
                        place,
                        at_retry,
                    };
                    ends_for_good(&setup, renewal, ending, step).await;
                }
            }
        }
    }
}

async fn ends_for_good(setup: &Setup, renewal: Renewal, ending: Ending, step: Step) {
    let case = format!("{renewal:?}, {ending:?}, {step:?}");
    let store = setup.pausing();
    let mut layer = setup.builder(store.clone());
    if renewal == Renewal::Scheduled {
        layer = layer.renew_ids_every(MINUTE);
    }
    let layer = layer.build().unwrap();
    let sessions = layer.sessions();
    let client = setup.client_of(layer).await;
    write(&client, "/set/old/1").await;
    let ended = handle_of(&id(&client));
    setup.clock.advance(MINUTE);

    let leaving = client.clone();
    let logout = match ending {
        Ending::Logout => {
            let deleting = store.pause_before(Operation::Delete);
            let logout = begin(&leaving, "/logout");
            // It has found the session, and is about to end it.
            deleting.reached().await;
            Some((deleting, logout))
        }
        Ending::FromElsewhere => None,
    };

    let renewing = client.clone();
    let path = match renewal {
        Renewal::Asked => "/renew",
        Renewal::Login => "/login/alice",
        Renewal::Scheduled => "/set/late/1",
    };
    let (pause, renewed) = if step.at_retry {
        let first = store.pause_before(Operation::Update);
        let renewed = begin(&renewing, path);
        first.reached().await;
        write(&client, "/set/other/1").await;
        if (step.operation, step.place) == (Operation::Update, Place::After) {
            // The first try gets its answer.
            let answered = step.pause(&store);
            first.release();
            answered.reached().await;
            let pause = step.pause(&store);
            answered.release();
            (pause, renewed)
        } else {
            let pause = step.pause(&store);
            first.release();
            (pause, renewed)
        }
    } else {
        (step.pause(&store), begin(&renewing, path))
    };
    pause.reached().await;
    if let Some((deleting, logout)) = logout {
        deleting.release();
        let response = logout.await.unwrap().assert_status(StatusCode::OK);
        assert_eq!(response.set_cookies()[0].value(), "", "{case}");
    } else {
        assert!(sessions.end(&ended).await.unwrap(), "{case}");
    }
    pause.release();
    let response = renewed.await.unwrap().assert_status(StatusCode::OK);

    assert!(!setup.holds(&ended).await, "{case}");
    assert_eq!(shown(&client).await, "no session", "{case}");
    let took_effect = step.operation == Operation::Update && step.place == Place::After;
    let found_nothing =
        step.operation == Operation::Load && step.place == Place::Before && !step.at_retry;
    let fresh = match renewal {
        Renewal::Asked => None,
        Renewal::Login => (!took_effect).then_some("alice:"),
        // A request that came after the ending, with an id that is unknown by now.
        Renewal::Scheduled => found_nothing.then_some("nobody: late=1"),
    };
    assert_eq!(
        shown(&renewing).await,
        fresh.unwrap_or("no session"),
        "{case}"
    );
    // Another request has renewed the id in between: what it was renewed to is not sent again.
    let already_renewed = renewal == Renewal::Scheduled && step.at_retry;
    // The response to a login looks whether the session is still there.
    let has_cookie =
        fresh.is_some() || took_effect && renewal != Renewal::Login && !already_renewed;
    assert_eq!(
        response.set_cookies().len(),
        usize::from(has_cookie),
        "{case}"
    );
    if fresh.is_some() {
        assert_ne!(handle_of(&id(&renewing)), ended, "{case}");
    }
}

async fn a_logout_during_a_slow_write_is_final_and_the_write_sets_no_cookie(setup: Setup) {
    for path in ["/set/late/1", "/add/n", "/remove/n", "/clear"] {
        for step in [
            (Operation::Load, Place::After),
            (Operation::Update, Place::Before),
            (Operation::Update, Place::After),
        ] {
            let store = setup.pausing();
            let client = setup.client(store.clone()).await;
            write(&client, "/add/n").await;
            let handle = handle_of(&id(&client));
            let slow = client.clone();
            let pause = Step {
                operation: step.0,
                place: step.1,
                at_retry: false,
            }
            .pause(&store);
            let writing = begin(&slow, path);
            pause.reached().await;
            let response = write(&client, "/logout").await;
            assert_eq!(response.set_cookies()[0].value(), "");
            assert_eq!(client.cookie(COOKIE), None);
            pause.release();
            let response = writing.await.unwrap().assert_status(StatusCode::OK);
            assert!(response.set_cookies().is_empty(), "{path} {step:?}");
            assert!(!setup.holds(&handle).await, "{path} {step:?}");
            assert_eq!(shown(&slow).await, "no session");
        }
    }
}

async fn a_logout_during_a_slow_touch_is_final(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client(store.clone()).await;
    write(&client, "/set/a/1").await;
    let handle = handle_of(&id(&client));
    setup.clock.advance(10 * MINUTE);
    let pause = store.pause_before(Operation::Touch);
    let reading = tokio::spawn({
        let slow = client.clone();
        async move { slow.get("/show").await }
    });
    pause.reached().await;
    write(&client, "/logout").await;
    pause.release();
    let response = reading.await.unwrap().assert_status(StatusCode::OK);
    assert_eq!(response.text(), "nobody: a=1");
    assert!(response.set_cookies().is_empty());
    assert!(!setup.holds(&handle).await);
}

async fn of_two_logouts_at_once_one_removes_the_cookie(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client(store.clone()).await;
    write(&client, "/set/a/1").await;
    let pause = store.pause_before(Operation::Delete);
    let late = begin(&client, "/logout");
    pause.reached().await;
    let first = write(&client, "/logout").await;
    assert_eq!(first.set_cookies()[0].value(), "");
    // The browser may have logged in again by now.
    write(&client, "/login/alice").await;
    pause.release();
    let late = late.await.unwrap().assert_status(StatusCode::OK);
    assert!(late.set_cookies().is_empty());
    assert_eq!(shown(&client).await, "alice:");
}

async fn a_logout_and_then_a_write_make_a_fresh_session(setup: Setup) {
    let again = async |session: Session| -> Result<String> {
        session.logout().await?;
        assert_eq!(contents(&session), "nobody:");
        session.insert("flash", "bye")?;
        Ok(contents(&session))
    };
    let routes = Router::new().route("/again", post(again));
    let client = setup.client_with(setup.store.clone(), routes).await;
    write(&client, "/set/a/1").await;
    write(&client, "/login/alice").await;
    let old = client.clone();
    let response = write(&client, "/again").await;
    assert_eq!(response.set_cookies().len(), 1);
    assert!(!setup.holds(&handle_of(&id(&old))).await);
    assert_ne!(handle_of(&id(&client)), handle_of(&id(&old)));
    assert_eq!(shown(&client).await, "nobody: flash=bye");
    assert_eq!(shown(&old).await, "no session");
}

async fn an_ending_from_elsewhere_is_final(setup: Setup) {
    let layer = setup.builder(setup.store.clone()).build().unwrap();
    let sessions = layer.sessions();
    let client = setup.client_of(layer).await;
    write(&client, "/login/alice").await;
    let handle = handle_of(&id(&client));
    assert!(sessions.end(&handle).await.unwrap());
    assert!(!sessions.end(&handle).await.unwrap());
    assert_eq!(shown(&client).await, "no session");
    write(&client, "/set/a/1").await;
    assert_ne!(handle_of(&id(&client)), handle);
    assert_eq!(shown(&client).await, "nobody: a=1");
}

async fn a_login_makes_a_new_id_and_keeps_the_data_and_the_old_id_is_dead_at_once(setup: Setup) {
    let client = setup.client(setup.store.clone()).await;
    write(&client, "/set/cart/shoes").await;
    let old = client.clone();
    let response = write(&client, "/login/alice").await;
    assert_eq!(response.set_cookies().len(), 1);
    assert_eq!(shown(&client).await, "alice: cart=shoes");
    assert_ne!(id(&client), id(&old));
    assert_eq!(handle_of(&id(&client)), handle_of(&id(&old)));
    assert_eq!(shown(&old).await, "no session");

    let old = client.clone();
    let response = write(&client, "/renew").await;
    assert_eq!(response.set_cookies().len(), 1);
    assert_eq!(shown(&client).await, "alice: cart=shoes");
    assert_eq!(shown(&old).await, "no session");
}

async fn a_login_merges_with_an_overlapping_write(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client(store.clone()).await;
    write(&client, "/set/a/1").await;
    let writing = client.clone();
    let pause = store.pause_before(Operation::Update);
    let login = begin(&client, "/login/alice");
    pause.reached().await;
    write(&writing, "/set/b/2").await;
    pause.release();
    let response = login.await.unwrap().assert_status(StatusCode::OK);
    assert_eq!(response.text(), "alice: a=1 b=2");
    assert_eq!(shown(&client).await, "alice: a=1 b=2");
    assert_eq!(shown(&writing).await, "no session");
}

async fn of_two_overlapping_logins_each_gets_a_session_of_its_own(setup: Setup) {
    for (first, second) in [("alice", "alice"), ("alice", "bob")] {
        let store = setup.pausing();
        let client = setup.client(store.clone()).await;
        write(&client, "/set/a/1").await;
        let other = client.clone();
        let pause = store.pause_before(Operation::Update);
        let overtaken = begin(&client, &format!("/login/{first}"));
        pause.reached().await;
        write(&other, &format!("/login/{second}")).await;
        pause.release();
        overtaken.await.unwrap().assert_status(StatusCode::OK);
        assert_eq!(shown(&other).await, format!("{second}: a=1"));
        assert_eq!(shown(&client).await, format!("{first}:"));
        assert_ne!(handle_of(&id(&client)), handle_of(&id(&other)));
    }
}

/// Sets something, logs in, and sets something more.
fn staged_login() -> Router {
    let handler = async |session: Session, Path(user): Path<String>| -> Result<String> {
        session.insert("before", 1)?;
        session.login(user).await?;
        session.insert("after", 2)?;
        Ok(contents(&session))
    };
    Router::new().route("/staged-login/{user}", post(handler))
}

async fn a_login_as_somebody_else_ends_the_session_and_takes_nothing_of_it_along(setup: Setup) {
    let client = setup.client_with(setup.store.clone(), staged_login()).await;
    write(&client, "/set/secret/1").await;
    write(&client, "/login/bob").await;
    let bob = client.clone();
    let response = write(&client, "/staged-login/alice").await;
    assert_eq!(response.set_cookies().len(), 1);
    assert_ne!(response.set_cookies()[0].value(), "");
    assert_eq!(response.text(), "alice: after=2 before=1");
    assert_eq!(shown(&client).await, "alice: after=2 before=1");
    assert_ne!(handle_of(&id(&client)), handle_of(&id(&bob)));
    assert!(!setup.holds(&handle_of(&id(&bob))).await);
    assert_eq!(shown(&bob).await, "no session");
}

async fn a_login_as_somebody_else_ends_a_session_that_is_written_to_meanwhile(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client(store.clone()).await;
    write(&client, "/login/bob").await;
    let bob = client.clone();
    let pause = store.pause_before(Operation::Delete);
    let login = begin(&client, "/login/alice");
    pause.reached().await;
    write(&bob, "/set/b/2").await;
    pause.release();
    login.await.unwrap().assert_status(StatusCode::OK);
    assert_eq!(shown(&client).await, "alice:");
    assert_eq!(shown(&bob).await, "no session");
}

async fn a_login_as_somebody_else_after_a_clear_keeps_what_is_set_later(setup: Setup) {
    let handler = async |session: Session| -> Result<String> {
        session.clear()?;
        session.update("n", |n: &mut u64| *n += 1)?;
        session.login("alice").await?;
        session.update("n", |n: &mut u64| *n += 1)?;
        Ok(contents(&session))
    };
    let routes = Router::new().route("/clear-and-login", post(handler));
    let client = setup.client_with(setup.store.clone(), routes).await;
    write(&client, "/login/bob").await;
    write(&client, "/add/n").await;
    write(&client, "/clear-and-login").await;
    assert_eq!(shown(&client).await, "alice: n=2");
    write(&client, "/add/n").await;
    assert_eq!(shown(&client).await, "alice: n=3");
}

async fn a_login_again_keeps_the_data_under_a_new_id(setup: Setup) {
    let client = setup.client(setup.store.clone()).await;
    write(&client, "/login/alice").await;
    write(&client, "/set/a/1").await;
    let old = client.clone();
    write(&client, "/login/alice").await;
    assert_eq!(shown(&client).await, "alice: a=1");
    assert_ne!(id(&client), id(&old));
    assert_eq!(handle_of(&id(&client)), handle_of(&id(&old)));
    assert_eq!(shown(&old).await, "no session");
}

async fn a_login_on_a_session_that_expired_during_the_request_takes_nothing_of_it_along(
    setup: Setup,
) {
    let clock = setup.clock.clone();
    let handler = async move |session: Session| -> Result<String> {
        clock.advance(61 * MINUTE);
        session.login("alice").await?;
        Ok(contents(&session))
    };
    let routes = Router::new().route("/slow-login", post(handler));
    let client = setup.client_with(setup.store.clone(), routes).await;
    write(&client, "/set/secret/1").await;
    let old = handle_of(&id(&client));
    assert_eq!(write(&client, "/slow-login").await.text(), "alice:");
    assert_ne!(handle_of(&id(&client)), old);
    assert_eq!(shown(&client).await, "alice:");
}

async fn a_write_that_a_login_overtakes_is_dropped_without_a_cookie(setup: Setup) {
    for overtakes in ["/login/alice", "/renew"] {
        for late in ["/set/late/1", "/add/n", "/clear", "/renew"] {
            let store = setup.pausing();
            let client = setup.client(store.clone()).await;
            write(&client, "/add/n").await;
            let slow = client.clone();
            let pause = store.pause_before(Operation::Update);
            let writing = begin(&slow, late);
            pause.reached().await;
            write(&client, overtakes).await;
            pause.release();
            let response = writing.await.unwrap().assert_status(StatusCode::OK);
            assert!(response.set_cookies().is_empty(), "{late}, {overtakes}");
            let user = shown(&client).await;
            assert!(user.ends_with(": n=1"), "{late}, {overtakes}: {user}");
            assert_eq!(shown(&slow).await, "no session");
        }
    }
}

/// What the response of a handler sets that saves a persistent cookie, when the rest of it takes until
/// after `meanwhile`.
async fn persisted_before(
    setup: Setup,
    status: StatusCode,
    meanwhile: impl AsyncFnOnce(&Client),
) -> Vec<String> {
    let (saved, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let persist = {
        let (saved, go_on) = (saved.clone(), go_on.clone());
        async move |session: Session| -> Result<StatusCode> {
            session.persistent_cookie()?;
            session.save().await?;
            saved.notify_one();
            go_on.notified().await;
            Ok(status)
        }
    };
    let routes = Router::new().route("/persist", post(persist));
    let client = setup.client_with(setup.store.clone(), routes).await;
    client.post("/set/a/1").await;
    let window = client.new_window();
    let persisted = tokio::spawn(async move { window.post("/persist").await });
    saved.notified().await;
    meanwhile(&client).await;
    go_on.notify_one();
    let response = persisted.await.unwrap().assert_status(status);
    let lines = response.set_cookies();
    lines.iter().map(|cookie| cookie.to_string()).collect()
}

async fn a_cookie_that_a_save_has_prepared_gives_way_to_a_later_login(setup: Setup) {
    let log_in = async |client: &Client| {
        client
            .post("/login/alice")
            .await
            .assert_status(StatusCode::OK);
    };
    let cookies = persisted_before(setup, StatusCode::OK, log_in).await;
    assert!(cookies.is_empty(), "it would push out that of the login");
    let cookies =
        persisted_before(crate::support::in_memory(), StatusCode::BAD_GATEWAY, log_in).await;
    assert!(cookies.is_empty());
}

async fn a_cookie_that_a_save_has_prepared_is_sent_where_nothing_came_between(setup: Setup) {
    let write = async |client: &Client| {
        client.post("/add/n").await.assert_status(StatusCode::OK);
    };
    let cookies = persisted_before(setup, StatusCode::OK, write).await;
    assert!(
        cookies.len() == 1 && cookies[0].contains("Max-Age="),
        "{cookies:?}"
    );
}

async fn a_session_that_ended_after_its_login_is_not_given_to_the_browser(setup: Setup) {
    let store = setup.store.clone();
    let log_in = async move |session: Session| -> Result<StatusCode> {
        session.login("alice").await?;
        // The disabling of the user, from elsewhere, after which the browser may have logged in anew.
        store.delete(&session.handle().unwrap()).await.unwrap();
        Ok(StatusCode::IM_A_TEAPOT)
    };
    let routes = Router::new().route("/disabled", post(log_in));
    let client = setup.client_with(setup.store.clone(), routes).await;
    let response = client.post("/disabled").await;
    let response = response.assert_status(StatusCode::IM_A_TEAPOT);
    assert!(response.set_cookies().is_empty());
}

async fn a_login_is_not_lost_where_the_store_fails_after_it(setup: Setup) {
    let store = setup.failing();
    let client = setup.client(store.clone()).await;
    store.fail(Operation::Load, When::BeforeEffect, Times::Always);
    client
        .post("/login/alice")
        .await
        .assert_status(StatusCode::OK);
    assert_eq!(store.failures(), 1, "the look at the session");
    store.heal();
    assert_eq!(shown(&client).await, "alice:");
}

async fn a_request_on_its_way_with_the_id_from_before_a_login_has_no_session_and_writes_nothing(
    setup: Setup,
) {
    for renewal in ["/login/alice", "/renew"] {
        let spy = setup.spy();
        let client = setup.client(spy.clone()).await;
        write(&client, "/set/a/1").await;
        let old = client.clone();
        write(&client, renewal).await;
        setup.clock.advance(GRACE - MILLISECOND);
        spy.reset();
        let late = [
            "/set/b/2",
            "/add/n",
            "/remove/a",
            "/clear",
            "/renew",
            "/logout",
        ];
        for path in late {
            let response = write(&old, path).await;
            assert!(response.set_cookies().is_empty(), "{path}");
            let text = response.text();
            assert!(
                text.starts_with("nobody:") && !text.contains("a=1"),
                "{path}"
            );
        }
        assert_eq!(shown(&old).await, "no session");
        let loads = late.len() + 1;
        assert_eq!(
            spy.calls(),
            Calls {
                load: loads,
                ..Calls::default()
            }
        );
        assert!(shown(&client).await.ends_with(": a=1"));
    }
}

async fn the_id_from_before_a_login_is_unknown_once_the_grace_is_over(setup: Setup) {
    let client = setup.client(setup.store.clone()).await;
    write(&client, "/set/a/1").await;
    let old = client.clone();
    write(&client, "/login/alice").await;
    setup.clock.advance(GRACE);
    assert_eq!(shown(&old).await, "no session");
    let response = write(&old, "/set/b/2").await;
    assert_eq!(response.set_cookies().len(), 1);
    assert_eq!(shown(&old).await, "nobody: b=2");
    assert_ne!(handle_of(&id(&old)), handle_of(&id(&client)));
    assert_eq!(shown(&client).await, "alice: a=1");
}

async fn a_login_under_a_retired_id_makes_a_fresh_session(setup: Setup) {
    let client = setup.client_with(setup.store.clone(), staged_login()).await;
    write(&client, "/set/a/1").await;
    let old = client.clone();
    write(&client, "/login/alice").await;
    let response = write(&old, "/staged-login/alice").await;
    assert_eq!(response.set_cookies().len(), 1);
    assert_eq!(shown(&old).await, "alice: after=2 before=1");
    assert_eq!(shown(&client).await, "alice: a=1");
    assert_ne!(handle_of(&id(&old)), handle_of(&id(&client)));
}

/// A browser at an app that renews ids every minute.
async fn renewing(setup: &Setup, store: impl SessionStore) -> Client {
    let layer = setup.builder(store).renew_ids_every(MINUTE);
    setup.client_of(layer.build().unwrap()).await
}

async fn a_late_write_under_an_id_that_was_renewed_on_a_schedule_is_merged(setup: Setup) {
    let store = setup.pausing();
    let client = renewing(&setup, store.clone()).await;
    write(&client, "/set/a/1").await;
    let slow = client.clone();
    let pause = store.pause_before(Operation::Update);
    let writing = begin(&slow, "/set/late/1");
    pause.reached().await;
    setup.clock.advance(MINUTE);
    let renewed = client.get("/show").await;
    assert_eq!(renewed.set_cookies().len(), 1);
    assert_ne!(id(&client), id(&slow));
    pause.release();
    let response = writing.await.unwrap().assert_status(StatusCode::OK);
    assert!(response.set_cookies().is_empty());
    assert_eq!(shown(&client).await, "nobody: a=1 late=1");

    // And one that begins only now, while its id is still good.
    let response = write(&slow, "/set/later/1").await;
    assert!(response.set_cookies().is_empty());
    assert_eq!(shown(&client).await, "nobody: a=1 late=1 later=1");
}

async fn a_renewal_on_a_schedule_whose_response_got_lost_is_made_up_for_when_the_next_is_due(
    setup: Setup,
) {
    let client = renewing(&setup, setup.store.clone()).await;
    write(&client, "/set/a/1").await;
    for _ in 0..6 {
        let lost = client.clone();
        setup.clock.advance(MINUTE);
        assert_eq!(lost.get("/show").await.set_cookies().len(), 1);
    }
    setup.clock.advance(MINUTE - MILLISECOND);
    assert!(client.get("/show").await.set_cookies().is_empty());
    let old = client.clone();
    setup.clock.advance(MILLISECOND);
    let renewed = client.get("/show").await;
    assert_eq!(renewed.set_cookies().len(), 1);
    assert_eq!(shown(&client).await, "nobody: a=1");
    setup.clock.advance(GRACE);
    assert_eq!(shown(&client).await, "nobody: a=1");
    assert_eq!(shown(&old).await, "no session");
}

async fn an_id_that_was_renewed_on_a_schedule_works_until_its_successor_has_been_used_for_the_grace(
    setup: Setup,
) {
    let client = renewing(&setup, setup.store.clone()).await;
    write(&client, "/set/a/1").await;
    let old = client.clone();
    setup.clock.advance(MINUTE - MILLISECOND);
    assert!(client.get("/show").await.set_cookies().is_empty());
    setup.clock.advance(MILLISECOND);
    assert_eq!(client.get("/show").await.set_cookies().len(), 1);
    // The response with the new id may have been lost: nobody has used it yet, however often the old one is
    // used.
    for _ in 0..3 {
        let response = old.get("/show").await;
        assert_eq!(response.text(), "nobody: a=1");
        assert!(response.set_cookies().is_empty());
        setup.clock.advance(MINUTE / 4);
    }
    assert_eq!(shown(&old).await, "nobody: a=1");
    assert_eq!(shown(&client).await, "nobody: a=1");
    setup.clock.advance(GRACE - MILLISECOND);
    assert_eq!(shown(&old).await, "nobody: a=1");
    assert!(old.get("/show").await.set_cookies().is_empty());
    setup.clock.advance(MILLISECOND);
    assert_eq!(shown(&old).await, "no session");
    assert_eq!(shown(&client).await, "nobody: a=1");
}

async fn a_scheduled_renewal_that_another_request_overtakes_issues_one_id(setup: Setup) {
    let store = setup.pausing();
    let client = renewing(&setup, store.clone()).await;
    write(&client, "/set/a/1").await;
    setup.clock.advance(MINUTE);
    for path in ["/show", "/set/late/1"] {
        let (client, slow) = (client.clone(), client.clone());
        let pause = store.pause_before(Operation::Update);
        let overtaken = tokio::spawn({
            let slow = slow.new_window();
            let get = path == "/show";
            async move {
                match get {
                    true => slow.get(path).await,
                    false => slow.post(path).await,
                }
            }
        });
        pause.reached().await;
        let first = client.get("/show").await;
        let issued = usize::from(path == "/show");
        assert_eq!(first.set_cookies().len(), issued);
        pause.release();
        let response = overtaken.await.unwrap().assert_status(StatusCode::OK);
        assert!(response.set_cookies().is_empty());
        assert!(shown(&slow).await.starts_with("nobody: a=1"));
    }
}

async fn a_login_also_kills_the_ids_that_were_renewed_on_a_schedule(setup: Setup) {
    let client = renewing(&setup, setup.store.clone()).await;
    write(&client, "/set/a/1").await;
    let oldest = client.clone();
    setup.clock.advance(MINUTE);
    client.get("/show").await;
    let older = client.clone();
    assert_eq!(shown(&oldest).await, "nobody: a=1");
    write(&client, "/login/alice").await;
    assert_eq!(shown(&oldest).await, "no session");
    assert_eq!(shown(&older).await, "no session");
    assert_eq!(shown(&client).await, "alice: a=1");
    for old in [oldest, older] {
        assert!(write(&old, "/set/b/2").await.set_cookies().is_empty());
    }
}
