//! Sessions end by themselves: after a time without activity and after a time at all, kept per session and
//! enforced by the server to the millisecond (guarantee 9).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Result;
use axum::routing::{get, post};
use cloakroom::clock::Clock;
use cloakroom::testing::{Calls, ManualClock, Operation, TestResponse};
use cloakroom::{ErrorKind, Login, Session, Timeouts};
use tokio::sync::Notify;

// Each test file uses its part of it.
#[allow(dead_code, unused_imports, unused_macros)]
mod support;

use self::support::{COOKIE, Client, Setup, contents, handle_of, on_every_store};

on_every_store! {
    a_session_without_activity_ends_at_the_millisecond,
    reads_are_activity,
    a_read_is_written_from_a_sixteenth_of_the_window_on,
    every_read_can_be_written,
    a_session_ends_at_its_absolute_timeout_however_much_it_is_used,
    a_read_that_does_not_extend_is_no_activity,
    a_write_that_does_not_extend_is_saved_and_is_no_activity,
    each_assurance_level_ends_a_session_at_its_own_times,
    timeouts_of_its_own_survive_later_writes_and_reads,
    shorter_timeouts_end_a_session_earlier,
    an_absolute_timeout_that_has_passed_ends_the_session_with_the_request,
    timeouts_of_its_own_are_no_session_by_themselves,
    timeouts_that_cannot_be_meant_are_an_error_and_change_nothing,
    a_login_starts_both_timeouts_anew,
    a_login_that_remembers_has_timeouts_and_a_cookie_of_its_own,
    a_login_without_remember_me_has_a_cookie_that_ends_with_the_browser,
    a_login_can_take_back_that_the_session_is_remembered,
    a_session_without_an_idle_timeout_is_never_touched,
    an_overlapping_touch_does_not_shorten_a_session,
    a_session_that_is_kept_alive_while_its_record_is_on_the_way_is_not_said_to_be_dead,
    a_session_that_expires_during_a_request_takes_no_changes,
    a_session_that_others_keep_alive_during_a_request_takes_its_changes,
    an_expired_session_stays_dead_while_its_record_is_there,
    ;
    over TCP:
    a_session_without_activity_ends_at_the_millisecond,
    reads_are_activity,
    a_login_that_remembers_has_timeouts_and_a_cookie_of_its_own,
    a_login_without_remember_me_has_a_cookie_that_ends_with_the_browser,
    a_login_can_take_back_that_the_session_is_remembered,
}

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// The default.
const IDLE: Duration = HOUR;
const ABSOLUTE: Duration = DAY;

async fn shown(client: &Client) -> String {
    let response = client.get("/show").await.assert_status(StatusCode::OK);
    assert!(response.set_cookies().is_empty());
    response.text().to_owned()
}

async fn write(client: &Client, path: &str) -> TestResponse {
    client.post(path).await.assert_status(StatusCode::OK)
}

/// Uses the session every half of its idle window, for this long.
async fn use_for(client: &Client, clock: &ManualClock, duration: Duration) {
    let end = clock.now() + duration;
    while clock.now() < end {
        clock.advance((IDLE / 2).min((end - clock.now()).try_into().unwrap()));
        if clock.now() < end {
            assert_ne!(shown(client).await, "no session");
        }
    }
}

async fn a_session_without_activity_ends_at_the_millisecond(setup: Setup) {
    let client = setup.client(setup.store.clone()).await;
    write(&client, "/set/a/1").await;
    let late = client.clone();
    setup.clock.advance(IDLE - MILLISECOND);
    assert_eq!(shown(&client).await, "nobody: a=1");

    let client = late;
    write(&client, "/set/b/2").await;
    setup.clock.advance(IDLE);
    assert_eq!(shown(&client).await, "no session");
}

async fn reads_are_activity(setup: Setup) {
    let client = setup.client(setup.store.clone()).await;
    write(&client, "/set/a/1").await;
    for _ in 0..5 {
        setup.clock.advance(IDLE - MILLISECOND);
        assert_eq!(shown(&client).await, "nobody: a=1");
    }
    setup.clock.advance(IDLE);
    assert_eq!(shown(&client).await, "no session");
}

async fn a_read_is_written_from_a_sixteenth_of_the_window_on(setup: Setup) {
    let spy = setup.spy();
    let client = setup.client(spy.clone()).await;
    write(&client, "/set/a/1").await;
    let step = IDLE / 16;
    spy.reset();
    setup.clock.advance(step - MILLISECOND);
    shown(&client).await;
    assert_eq!(spy.calls().touch, 0);
    setup.clock.advance(MILLISECOND);
    shown(&client).await;
    assert_eq!(
        spy.calls(),
        Calls {
            load: 2,
            touch: 1,
            ..Calls::default()
        }
    );
    // From the touch on, another window.
    shown(&client).await;
    setup.clock.advance(step - MILLISECOND);
    shown(&client).await;
    assert_eq!(spy.calls().touch, 1);
    // So the session ends up to a sixteenth early, and never late.
    setup.clock.advance(IDLE - step);
    assert_eq!(shown(&client).await, "nobody: a=1");
    setup.clock.advance(IDLE);
    assert_eq!(shown(&client).await, "no session");
}

async fn every_read_can_be_written(setup: Setup) {
    let spy = setup.spy();
    let layer = setup.builder(spy.clone()).touch_every_read();
    let client = setup.client_of(layer.build().unwrap()).await;
    write(&client, "/set/a/1").await;
    spy.reset();
    shown(&client).await;
    assert_eq!(spy.calls().touch, 0);
    setup.clock.advance(MILLISECOND);
    shown(&client).await;
    assert_eq!(spy.calls().touch, 1);
    setup.clock.advance(IDLE - MILLISECOND);
    assert_eq!(shown(&client).await, "nobody: a=1");
}

async fn a_session_ends_at_its_absolute_timeout_however_much_it_is_used(setup: Setup) {
    for reads_only in [true, false] {
        let client = setup.client(setup.store.clone()).await;
        write(&client, "/set/a/1").await;
        use_for(&client, &setup.clock, ABSOLUTE - MILLISECOND).await;
        if !reads_only {
            write(&client, "/set/b/2").await;
            write(&client, "/renew").await;
        }
        assert!(shown(&client).await.starts_with("nobody: a=1"));
        setup.clock.advance(MILLISECOND);
        assert_eq!(shown(&client).await, "no session");
    }
}

async fn a_read_that_does_not_extend_is_no_activity(setup: Setup) {
    let poll = async |session: Session| -> Result<String> {
        session.do_not_extend()?;
        Ok(contents(&session))
    };
    let spy = setup.spy();
    let layer = setup.builder(spy.clone()).touch_every_read();
    let routes = Router::new().route("/poll", get(poll));
    let client = setup.client_at(layer.build().unwrap(), routes).await;
    write(&client, "/set/a/1").await;
    spy.reset();
    for _ in 0..3 {
        setup.clock.advance(IDLE / 4);
        assert_eq!(client.get("/poll").await.text(), "nobody: a=1");
    }
    assert_eq!(spy.calls().touch, 0);
    setup.clock.advance(IDLE / 4);
    assert_eq!(client.get("/poll").await.text(), "nobody:");
}

async fn a_write_that_does_not_extend_is_saved_and_is_no_activity(setup: Setup) {
    let poll = async |session: Session| -> Result<String> {
        session.do_not_extend()?;
        session.update("n", |n: &mut u64| *n += 1)?;
        Ok(contents(&session))
    };
    let routes = Router::new().route("/poll", post(poll));
    let client = setup.client_with(setup.store.clone(), routes).await;
    write(&client, "/set/a/1").await;
    setup.clock.advance(IDLE - MILLISECOND);
    write(&client, "/poll").await;
    let handle = handle_of(&client.cookie(COOKIE).unwrap());
    let record = setup.store.load(&handle);
    assert_eq!(
        record.await.unwrap().unwrap().expires_at,
        setup.clock.now() + MILLISECOND
    );
    let other = client.clone();
    assert_eq!(shown(&other).await, "nobody: a=1 n=1");
}

/// Routes that give a session timeouts of its own.
fn own_timeouts() -> Router {
    let set = |timeouts: Timeouts| {
        async move |session: Session| -> Result<String> {
            session.insert("own", 1)?;
            session.set_timeouts(timeouts)?;
            Ok(contents(&session))
        }
    };
    let only = async |session: Session| -> Result<String> {
        session.set_timeouts(Timeouts::AAL3)?;
        Ok(contents(&session))
    };
    let wrong = async |session: Session| -> Result<String> {
        for timeouts in [
            Timeouts::new(HOUR, MINUTE),
            Timeouts::new(Duration::ZERO, HOUR),
            Timeouts::without_idle(DAY * 36_500),
        ] {
            let error = session.set_timeouts(timeouts).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidTimeouts);
            let login = Login::new("alice").remember_me(timeouts);
            let error = session.login(login).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidTimeouts);
        }
        Ok(contents(&session))
    };
    Router::new()
        .route("/longer", post(set(Timeouts::new(5 * DAY, 10 * DAY))))
        .route("/shorter", post(set(Timeouts::new(MINUTE, HOUR))))
        .route("/without-idle", post(set(Timeouts::without_idle(5 * HOUR))))
        .route("/only", post(only))
        .route("/wrong", post(wrong))
}

/// NIST SP 800-63B-4 §2.1.3, §2.2.3 and §2.3.3.
async fn each_assurance_level_ends_a_session_at_its_own_times(setup: Setup) {
    for (level, idle, absolute) in [
        (Timeouts::AAL1, None, 30 * DAY),
        (Timeouts::AAL2, Some(HOUR), DAY),
        (Timeouts::AAL3, Some(15 * MINUTE), 12 * HOUR),
    ] {
        let layer = setup.builder(setup.store.clone()).timeouts(level);
        let client = setup.client_of(layer.build().unwrap()).await;
        if let Some(idle) = idle {
            for (unused, expected) in [(idle - MILLISECOND, "alice:"), (idle, "no session")] {
                write(&client, "/login/alice").await;
                setup.clock.advance(unused);
                assert_eq!(shown(&client).await, expected, "{level:?} after {unused:?}");
            }
        }
        write(&client, "/login/alice").await;
        let step = idle.map_or(absolute, |idle| idle / 2);
        let mut left = absolute;
        while left > step {
            setup.clock.advance(step);
            left -= step;
            assert_eq!(shown(&client).await, "alice:", "{level:?}");
        }
        setup.clock.advance(left - MILLISECOND);
        assert_eq!(shown(&client).await, "alice:", "{level:?}");
        setup.clock.advance(MILLISECOND);
        assert_eq!(shown(&client).await, "no session", "{level:?}");
    }
}

async fn timeouts_of_its_own_survive_later_writes_and_reads(setup: Setup) {
    let client = setup.client_with(setup.store.clone(), own_timeouts()).await;
    write(&client, "/set/a/1").await;
    write(&client, "/longer").await;
    setup.clock.advance(5 * DAY - MILLISECOND);
    write(&client, "/set/b/2").await;
    setup.clock.advance(2 * DAY);
    assert_eq!(shown(&client).await, "nobody: a=1 b=2 own=1");
    write(&client, "/renew").await;
    setup.clock.advance(3 * DAY - MILLISECOND);
    assert_eq!(shown(&client).await, "nobody: a=1 b=2 own=1");
    setup.clock.advance(2 * MILLISECOND);
    assert_eq!(shown(&client).await, "no session");
}

async fn shorter_timeouts_end_a_session_earlier(setup: Setup) {
    let client = setup.client_with(setup.store.clone(), own_timeouts()).await;
    write(&client, "/set/a/1").await;
    write(&client, "/shorter").await;
    setup.clock.advance(MINUTE - MILLISECOND);
    write(&client, "/set/b/2").await;
    setup.clock.advance(MINUTE - MILLISECOND);
    assert_eq!(shown(&client).await, "nobody: a=1 b=2 own=1");
    setup.clock.advance(MINUTE);
    assert_eq!(shown(&client).await, "no session");
}

async fn an_absolute_timeout_that_has_passed_ends_the_session_with_the_request(setup: Setup) {
    let client = setup.client_with(setup.store.clone(), own_timeouts()).await;
    write(&client, "/set/a/1").await;
    use_for(&client, &setup.clock, HOUR).await;
    write(&client, "/shorter").await;
    assert_eq!(shown(&client).await, "no session");
}

async fn timeouts_of_its_own_are_no_session_by_themselves(setup: Setup) {
    let spy = setup.spy();
    let client = setup.client_with(spy.clone(), own_timeouts()).await;
    write(&client, "/only").await;
    assert_eq!(spy.total(), 0);
    assert_eq!(client.cookie(COOKIE), None);
    // And with data they are there from the beginning.
    write(&client, "/longer").await;
    setup.clock.advance(4 * DAY);
    assert_eq!(shown(&client).await, "nobody: own=1");
}

async fn timeouts_that_cannot_be_meant_are_an_error_and_change_nothing(setup: Setup) {
    let spy = setup.spy();
    let client = setup.client_with(spy.clone(), own_timeouts()).await;
    write(&client, "/set/a/1").await;
    spy.reset();
    write(&client, "/wrong").await;
    assert_eq!(spy.calls().total(), 1);
    setup.clock.advance(IDLE - MILLISECOND);
    assert_eq!(shown(&client).await, "nobody: a=1");
}

async fn a_login_starts_both_timeouts_anew(setup: Setup) {
    let client = setup.client_with(setup.store.clone(), own_timeouts()).await;
    write(&client, "/set/a/1").await;
    // The settings of the anonymous session end with it.
    write(&client, "/shorter").await;
    setup.clock.advance(MINUTE - MILLISECOND);
    for _ in ["the first login", "the same user again"] {
        write(&client, "/login/alice").await;
        use_for(&client, &setup.clock, ABSOLUTE - MILLISECOND).await;
        assert_eq!(shown(&client).await, "alice: a=1 own=1");
    }
    setup.clock.advance(MILLISECOND);
    assert_eq!(shown(&client).await, "no session");

    write(&client, "/login/alice").await;
    setup.clock.advance(IDLE);
    assert_eq!(shown(&client).await, "no session");
}

async fn a_login_that_remembers_has_timeouts_and_a_cookie_of_its_own(setup: Setup) {
    let remember = async |session: Session| -> Result<String> {
        let login = Login::new("alice").remember_me(Timeouts::new(14 * DAY, 90 * DAY));
        session.login(login).await?;
        Ok(contents(&session))
    };
    let routes = Router::new().route("/remember", post(remember));
    let client = setup.client_with(setup.store.clone(), routes).await;
    write(&client, "/set/a/1").await;
    let forgetful = client.clone();
    forgetful.end_browser_session();
    assert_eq!(forgetful.cookie(COOKIE), None);
    write(&client, "/remember").await;
    client.end_browser_session();
    setup.clock.advance(14 * DAY - MILLISECOND);
    assert_eq!(shown(&client).await, "alice: a=1");
    // Logging in again goes on as before.
    write(&client, "/login/alice").await;
    client.end_browser_session();
    for _ in 0..6 {
        setup.clock.advance(14 * DAY - MILLISECOND);
        assert_eq!(shown(&client).await, "alice: a=1");
    }
    let thief = client.clone();
    thief.set_cookie(COOKIE, &client.cookie(COOKIE).unwrap());
    setup.clock.advance(6 * DAY + 6 * MILLISECOND);
    assert_eq!(client.cookie(COOKIE), None);
    assert_eq!(shown(&thief).await, "no session");
}

/// Routes by which alice logs in and is remembered, or forgotten.
fn remembering() -> Router {
    async fn log_in(session: Session, login: Login) -> Result<String> {
        session.login(login).await?;
        Ok(contents(&session))
    }
    let remember = async |session: Session| {
        let timeouts = Timeouts::new(14 * DAY, 90 * DAY);
        log_in(session, Login::new("alice").remember_me(timeouts)).await
    };
    let forget = async |session: Session| log_in(session, Login::new("alice").forget_me()).await;
    Router::new()
        .route("/remember", post(remember))
        .route("/forget", post(forget))
}

/// The `Max-Age` in seconds of the one cookie that is set.
fn max_age(response: &TestResponse) -> Option<i64> {
    let [cookie] = &response.set_cookies()[..] else {
        panic!("not one cookie is set: {response:?}");
    };
    assert_eq!(cookie.expires(), None);
    cookie.max_age().map(|age| age.whole_seconds())
}

async fn a_login_without_remember_me_has_a_cookie_that_ends_with_the_browser(setup: Setup) {
    let client = setup.client_with(setup.store.clone(), remembering()).await;
    assert_eq!(max_age(&write(&client, "/login/alice").await), None);
    client.end_browser_session();
    assert_eq!(shown(&client).await, "no session");

    assert_eq!(
        max_age(&write(&client, "/remember").await),
        Some(90 * 86_400)
    );
    client.end_browser_session();
    assert_eq!(shown(&client).await, "alice:");

    // Somebody else at the same browser is not remembered with her.
    assert_eq!(max_age(&write(&client, "/login/bob").await), None);
    client.end_browser_session();
    assert_eq!(shown(&client).await, "no session");

    // Nor is she, once her session has ended.
    write(&client, "/remember").await;
    write(&client, "/logout").await;
    assert_eq!(max_age(&write(&client, "/login/alice").await), None);
}

async fn a_login_can_take_back_that_the_session_is_remembered(setup: Setup) {
    let client = setup.client_with(setup.store.clone(), remembering()).await;
    write(&client, "/remember").await;
    // The password again, as before a payment.
    assert_eq!(
        max_age(&write(&client, "/login/alice").await),
        Some(90 * 86_400)
    );
    assert_eq!(max_age(&write(&client, "/forget").await), None);
    let thief = client.clone();
    client.end_browser_session();
    assert_eq!(client.cookie(COOKIE), None);
    // The layer's timeouts hold.
    setup.clock.advance(IDLE - MILLISECOND);
    assert_eq!(shown(&thief).await, "alice:");
    setup.clock.advance(IDLE);
    assert_eq!(shown(&thief).await, "no session");
}

async fn a_session_without_an_idle_timeout_is_never_touched(setup: Setup) {
    let spy = setup.spy();
    let layer = setup.builder(spy.clone()).touch_every_read();
    let client = setup
        .client_at(layer.build().unwrap(), own_timeouts())
        .await;
    write(&client, "/without-idle").await;
    spy.reset();
    setup.clock.advance(5 * HOUR - MILLISECOND);
    assert_eq!(shown(&client).await, "nobody: own=1");
    assert_eq!(spy.calls().total(), 1);
    setup.clock.advance(MILLISECOND);
    assert_eq!(shown(&client).await, "no session");
}

async fn an_overlapping_touch_does_not_shorten_a_session(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client_with(store.clone(), own_timeouts()).await;
    write(&client, "/set/a/1").await;
    setup.clock.advance(IDLE / 2);
    let pause = store.pause_before(Operation::Touch);
    let reading = tokio::spawn({
        let window = client.new_window();
        async move { window.get("/show").await }
    });
    pause.reached().await;
    write(&client, "/longer").await;
    pause.release();
    reading.await.unwrap().assert_status(StatusCode::OK);
    setup.clock.advance(4 * DAY);
    assert_eq!(shown(&client).await, "nobody: a=1 own=1");
}

async fn a_session_that_is_kept_alive_while_its_record_is_on_the_way_is_not_said_to_be_dead(
    setup: Setup,
) {
    let store = setup.pausing();
    let layer = setup.builder(store.clone()).build().unwrap();
    let sessions = layer.sessions();
    let client = setup.client_of(layer).await;
    write(&client, "/set/a/1").await;
    let handle = handle_of(&client.cookie(COOKIE).unwrap());
    let pause = store.pause_after(Operation::Load);
    let asking = tokio::spawn(async move { sessions.is_alive(&handle).await });
    pause.reached().await;
    setup.clock.advance(IDLE / 2);
    assert_eq!(shown(&client).await, "nobody: a=1");
    // As of what was loaded, it has expired by now.
    setup.clock.advance(IDLE / 2);
    pause.release();
    assert!(asking.await.unwrap().unwrap());
}

async fn a_session_that_expires_during_a_request_takes_no_changes(setup: Setup) {
    let clock = setup.clock.clone();
    let slow = async move |session: Session| -> Result<String> {
        session.insert("late", 1)?;
        clock.advance(IDLE);
        Ok(contents(&session))
    };
    let spy = setup.spy();
    let routes = Router::new().route("/slow", post(slow));
    let client = setup.client_with(spy.clone(), routes).await;
    write(&client, "/set/a/1").await;
    spy.reset();
    let response = client.post("/slow").await.assert_status(StatusCode::OK);
    assert!(response.set_cookies().is_empty());
    // The second load is to see whether another request has kept the session alive meanwhile.
    assert_eq!((spy.calls().load, spy.calls().total()), (2, 2));
    assert_eq!(shown(&client).await, "no session");
}

async fn a_session_that_others_keep_alive_during_a_request_takes_its_changes(setup: Setup) {
    let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (began, go_on) = (began.clone(), go_on.clone());
        async move |session: Session| -> Result<String> {
            session.insert("late", 1)?;
            began.notify_one();
            go_on.notified().await;
            Ok(contents(&session))
        }
    };
    let log_in_again = {
        let (began, go_on) = (began.clone(), go_on.clone());
        async move |session: Session| -> Result<String> {
            began.notify_one();
            go_on.notified().await;
            session.login("alice").await?;
            Ok(contents(&session))
        }
    };
    let routes = Router::new()
        .route("/slow", post(slow))
        .route("/log-in-again", post(log_in_again));
    let client = setup.client_with(setup.store.clone(), routes).await;
    write(&client, "/set/a/1").await;
    write(&client, "/login/alice").await;
    for (path, then) in [
        ("/slow", "alice: a=1 late=1"),
        ("/log-in-again", "alice: a=1 late=1"),
    ] {
        let long = tokio::spawn({
            let window = client.new_window();
            async move { window.post(path).await }
        });
        began.notified().await;
        setup.clock.advance(IDLE / 2);
        assert!(shown(&client).await.starts_with("alice: a=1"));
        setup.clock.advance(IDLE / 2);
        go_on.notify_one();
        long.await.unwrap().assert_status(StatusCode::OK);
        assert_eq!(shown(&client).await, then, "{path}");
    }
}

async fn an_expired_session_stays_dead_while_its_record_is_there(setup: Setup) {
    let client = setup.client(setup.store.clone()).await;
    write(&client, "/set/a/1").await;
    setup.clock.advance(IDLE);
    for path in ["/logout", "/clear", "/renew"] {
        let late = client.clone();
        write(&late, path).await;
        assert_eq!(shown(&late).await, "no session");
    }
    assert!(
        setup
            .holds(&handle_of(&client.cookie(COOKIE).unwrap()))
            .await
    );
    let swept = setup.store.delete_expired(setup.clock.now() + MINUTE, 10);
    assert_eq!(swept.await.unwrap(), 1);
}
