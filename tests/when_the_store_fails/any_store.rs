//! What holds whichever store it is: the first table.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::StatusCode;
use cloakroom::store::StoreError;
use cloakroom::testing::{Calls, Operation, Times, When};

use super::answer::By;
use super::faulty::{Fault, Faulty};
use super::support::COOKIE;

/// `SessionLayerBuilder::store_timeout`, by default.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// `SessionLayerBuilder::retry_for`, by default.
const RETRY_FOR: Duration = Duration::from_secs(2);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

const LOAD: &str = "ERROR cloakroom the session store failed event=\"store_failed\" handle=<handle> \
                    operation=\"load\" error=the store fails: the test has told it to";
const CREATE: &str = "ERROR cloakroom the session store failed event=\"store_failed\" handle=<handle> \
                      operation=\"create\" error=the store fails: the test has told it to";
const UPDATE: &str = "ERROR cloakroom the session store failed event=\"store_failed\" handle=<handle> \
                      operation=\"update\" error=the store fails: the test has told it to";
const TOUCH: &str = "ERROR cloakroom the session store failed event=\"store_failed\" handle=<handle> \
                     operation=\"touch\" error=the store fails: the test has told it to";
const DELETE: &str = "ERROR cloakroom the session store failed event=\"store_failed\" handle=<handle> \
                      operation=\"delete\" error=the store fails: the test has told it to";

/// What the log says of a store call that took longer than it may.
fn late(operation: &str) -> String {
    format!(
        "ERROR cloakroom the session store failed event=\"store_failed\" handle=<handle> \
         operation=\"{operation}\" error=no answer to `{operation}` within 5s \
         (SessionLayerBuilder::store_timeout)"
    )
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_take_its_session_notices_nothing() {
    let app = Faulty::new().await;
    app.fault(Fault::Silent);
    let answer = app.get("/unused").await;
    answer.is_the_page("unused").logs(&[]).is_at_once();
    assert_eq!(app.spy.calls(), Calls::default());
    app.is_unharmed("nobody: a=1").await;
}

#[tokio::test(start_paused = true)]
async fn down_a_load_is_a_503_before_the_handler_runs() {
    let app = Faulty::new().await;
    app.failing
        .fail(Operation::Load, When::BeforeEffect, Times::Always);
    let answer = app.get("/handled").await;
    answer
        .is_unavailable(By::Extractor)
        .logs(&[LOAD])
        .is_at_once();
    assert_eq!(app.handled.load(Ordering::Relaxed), 0);
    app.is_unharmed("nobody: a=1").await;
    app.get("/handled").await.is_the_page("").logs(&[]);
    assert_eq!(app.handled.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn silent_a_load_is_a_503_after_the_time_for_one_call() {
    let app = Faulty::new().await;
    app.fault(Fault::SilentFrom(Operation::Load));
    let answer = app.get("/handled").await;
    answer
        .is_unavailable(By::Extractor)
        .logs(&[&late("load")])
        .takes(STORE_TIMEOUT);
    assert_eq!(app.handled.load(Ordering::Relaxed), 0);
    app.is_unharmed("nobody: a=1").await;
}

/// The second call asks whether the write took effect.
#[tokio::test(start_paused = true)]
async fn silent_a_write_is_a_503_after_the_time_for_two_calls() {
    for (operation, called, path, by) in [
        (Operation::Create, "create", "/set/b/2", By::Commit),
        (
            Operation::Create,
            "create",
            "/login/alice",
            By::HandlerOfAVisitor,
        ),
        (Operation::Update, "update", "/set/b/2", By::Commit),
        (Operation::Update, "update", "/renew", By::Commit),
        (Operation::Update, "update", "/login/alice", By::Handler),
        (Operation::Delete, "delete", "/logout", By::Handler),
    ] {
        let app = Faulty::new().await;
        let cookie = app.client.cookie(COOKIE).unwrap();
        if operation == Operation::Create {
            app.client.clear_cookies();
        }
        app.fault(Fault::SilentFrom(operation));
        let answer = app.post(path).await;
        answer
            .is_unavailable(by)
            .logs(&[&late(called), &late("load")])
            .takes(2 * STORE_TIMEOUT);
        app.client.set_cookie(COOKIE, &cookie);
        app.is_unharmed("nobody: a=1").await;
    }
}

#[tokio::test(start_paused = true)]
async fn silent_a_touch_makes_the_page_late_and_no_more() {
    let app = Faulty::new().await;
    app.setup.clock.advance(Duration::from_secs(1_800));
    app.fault(Fault::SilentFrom(Operation::Touch));
    let answer = app.get("/show").await;
    answer
        .is_the_page("nobody: a=1")
        .logs(&[&late("touch")])
        .takes(STORE_TIMEOUT);
    app.is_unharmed("nobody: a=1").await;
}

#[tokio::test(start_paused = true)]
async fn slow_a_write_that_took_effect_without_an_answer_in_time_has_succeeded() {
    for (operation, called, path, contents) in [
        (Operation::Update, "update", "/add/n", "nobody: a=1 n=1"),
        (Operation::Update, "update", "/login/alice", "alice: a=1"),
        (Operation::Create, "create", "/add/n", "nobody: n=1"),
        (Operation::Delete, "delete", "/logout", "no session"),
    ] {
        let app = Faulty::new().await;
        if operation == Operation::Create {
            app.client.clear_cookies();
        }
        app.fault(Fault::NoAnswerTo(operation));
        let answer = app.post(path).await;
        assert_eq!(answer.response.status(), StatusCode::OK, "{path}");
        answer.logs(&[&late(called)]).takes(STORE_TIMEOUT);
        app.is_unharmed(contents).await;
    }
}

#[tokio::test(start_paused = true)]
async fn read_only_a_first_write_is_a_503_without_a_cookie() {
    for (path, by) in [
        ("/set/b/2", By::Commit),
        ("/login/alice", By::HandlerOfAVisitor),
    ] {
        let app = Faulty::new().await;
        let cookie = app.client.cookie(COOKIE).unwrap();
        app.client.clear_cookies();
        app.failing
            .fail(Operation::Create, When::BeforeEffect, Times::Always);
        let answer = app.post(path).await;
        answer.is_unavailable(by).logs(&[CREATE]).is_at_once();
        assert_eq!(app.client.cookie(COOKIE), None);
        let made = app.spy.log()[0].handle.unwrap();
        assert!(!app.setup.holds(&made).await);
        app.client.set_cookie(COOKIE, &cookie);
        app.is_unharmed("nobody: a=1").await;
    }
}

#[tokio::test(start_paused = true)]
async fn read_only_a_later_write_is_a_503_and_changes_nothing() {
    for path in ["/set/a/2", "/add/n", "/clear", "/renew"] {
        let app = Faulty::new().await;
        let before = app.record().await;
        app.failing
            .fail(Operation::Update, When::BeforeEffect, Times::Always);
        let answer = app.post(path).await;
        answer
            .is_unavailable(By::Commit)
            .logs(&[UPDATE])
            .is_at_once();
        assert_eq!(app.record().await, before);
        app.is_unharmed("nobody: a=1").await;
    }
}

#[tokio::test(start_paused = true)]
async fn read_only_a_page_is_shown_and_the_idle_timeout_not_extended() {
    let app = Faulty::new().await;
    let before = app.record().await;
    app.setup.clock.advance(Duration::from_secs(1_800));
    app.failing
        .fail(Operation::Touch, When::BeforeEffect, Times::Always);
    let answer = app.get("/show").await;
    answer
        .is_the_page("nobody: a=1")
        .logs(&[TOUCH])
        .is_at_once();
    assert_eq!(app.record().await, before);
    app.is_unharmed("nobody: a=1").await;
    assert!(app.record().await.expires_at > before.expires_at);
}

#[tokio::test(start_paused = true)]
async fn read_only_a_login_is_a_503_and_the_session_keeps_its_id() {
    let app = Faulty::new().await;
    let before = app.record().await;
    app.failing
        .fail(Operation::Update, When::BeforeEffect, Times::Always);
    let answer = app.post("/login/alice").await;
    answer
        .is_unavailable(By::Handler)
        .logs(&[UPDATE])
        .is_at_once();
    assert_eq!(app.record().await, before);
    app.is_unharmed("nobody: a=1").await;
}

#[tokio::test(start_paused = true)]
async fn read_only_a_logout_is_a_503_and_the_cookie_stays_to_try_again() {
    let app = Faulty::new().await;
    let before = app.record().await;
    app.failing
        .fail(Operation::Delete, When::BeforeEffect, Times::Always);
    let answer = app.post("/logout").await;
    answer
        .is_unavailable(By::Handler)
        .logs(&[DELETE])
        .is_at_once();
    assert_eq!(app.record().await, before);
    app.is_unharmed("nobody: a=1").await;
    let answer = app.post("/logout").await;
    assert_eq!(answer.response.set_cookies()[0].value(), "");
    answer.logs(&[]);
    assert_eq!(app.client.cookie(COOKIE), None);
}

#[tokio::test(start_paused = true)]
async fn full_a_new_session_is_a_503_and_those_that_are_there_go_on() {
    let app = Faulty::new().await;
    let cookie = app.client.cookie(COOKIE).unwrap();
    let full = || StoreError::full("there is no room");
    app.failing
        .fail_with(Operation::Create, When::BeforeEffect, Times::Always, full);
    app.client.clear_cookies();
    let answer = app.post("/set/b/2").await;
    answer
        .is_unavailable(By::Commit)
        .logs(&[
            "ERROR cloakroom the session store failed event=\"store_failed\" handle=<handle> \
             operation=\"create\" error=there is no room",
        ])
        .is_at_once();
    app.client.set_cookie(COOKIE, &cookie);
    let answer = app.post("/set/b/2").await;
    answer.is_the_page("nobody: a=1 b=2").logs(&[]).is_at_once();
    app.is_unharmed("nobody: a=1 b=2").await;
}

#[tokio::test(start_paused = true)]
async fn unanswered_a_write_has_succeeded_once_by_one_call_more() {
    for (operation, line, calls, contents) in [
        (
            Operation::Update,
            UPDATE,
            Calls {
                load: 2,
                update: 1,
                ..Calls::default()
            },
            "nobody: a=1 n=1",
        ),
        (
            Operation::Create,
            CREATE,
            Calls {
                create: 1,
                load: 1,
                ..Calls::default()
            },
            "nobody: n=1",
        ),
    ] {
        let app = Faulty::new().await;
        if operation == Operation::Create {
            app.client.clear_cookies();
        }
        app.failing
            .fail(operation, When::AfterEffect, Times::Next(1));
        let answer = app.post("/add/n").await;
        assert_eq!(answer.response.text(), contents);
        answer.logs(&[line]).is_at_once();
        assert_eq!(app.spy.calls(), calls);
        app.is_unharmed(contents).await;
    }
}

/// It took effect, which nobody could know.
#[tokio::test(start_paused = true)]
async fn unanswered_and_then_down_a_write_is_a_503() {
    let app = Faulty::new().await;
    app.failing
        .fail(Operation::Update, When::AfterEffect, Times::Always);
    app.fault(Fault::DownAfter(Operation::Update));
    let answer = app.post("/add/n").await;
    answer
        .is_unavailable(By::Commit)
        .logs(&[UPDATE, LOAD])
        .is_at_once();
    app.is_unharmed("nobody: a=1 n=1").await;
}

#[tokio::test(start_paused = true)]
async fn garbage_in_a_record_is_no_session_and_the_record_stays() {
    let app = Faulty::new().await;
    app.overwrite(b"\x01garbage that nobody wrote").await;
    let before = app.record().await;
    let answer = app.get("/show").await;
    answer
        .is_the_page("no session")
        .logs(&[
            "ERROR cloakroom a session record cannot be decoded; it is left as it is, and is no session \
             event=\"refused\" cause=\"undecodable\" handle=<handle> error=the session record cannot be decoded: it ends \
             too early",
        ])
        .is_at_once();
    assert_eq!(app.record().await, before);

    // A write makes another session.
    let broken = app.handle();
    let answer = app.post("/set/b/2").await;
    assert_eq!(answer.response.set_cookies().len(), 1);
    assert_ne!(app.handle(), broken);
    let left = app.setup.store.load(&broken).await.unwrap();
    assert_eq!(left, Some(before));
    app.is_unharmed("nobody: b=2").await;
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_newer_version_of_the_crate_is_a_503_and_stays() {
    let app = Faulty::new().await;
    let whole = app.record().await.payload;
    let mut newer = whole.to_vec();
    newer[0] = u8::MAX;
    app.overwrite(&newer).await;
    let before = app.record().await;
    for path in ["/set/a/2", "/clear", "/login/alice", "/logout"] {
        let answer = app.post(path).await;
        answer
            .is_unavailable(By::Extractor)
            .logs(&[
                "ERROR cloakroom the session store failed event=\"store_failed\" handle=<handle> \
                 operation=\"load\" error=the session record cannot be decoded: format 255 is newer \
                 than this version of cloakroom can read",
            ])
            .is_at_once();
    }
    assert_eq!(app.record().await, before);
    // A node that knows the format.
    app.overwrite(&whole).await;
    app.is_unharmed("nobody: a=1").await;
}

#[tokio::test(start_paused = true)]
async fn contended_a_write_is_a_503_within_the_time_to_retry() {
    let app = Faulty::new().await;
    for (path, by) in [
        ("/add/n", By::Commit),
        ("/renew", By::Commit),
        ("/login/alice", By::Handler),
    ] {
        app.fault(Fault::Contended);
        let answer = app.post(path).await;
        answer
            .is_unavailable(by)
            .logs(&[
                "WARN cloakroom other requests kept changing the session; its changes are dropped \
                 event=\"contention\" handle=<handle> limit=2s",
            ])
            .takes_at_most(RETRY_FOR)
            // The next try would have come too late.
            .takes_more_than(RETRY_FOR - LONGEST_PAUSE);
        app.is_unharmed("nobody: a=1").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_apps_500_or_a_503_and_harms_nothing() {
    // Who catches a panic in the request itself is the app.
    const APP: &str = "ERROR tower_http::catch_panic Service panicked: the store panics";
    const TASK: &str = "ERROR cloakroom the task that writes a session panicked: the store did, or a \
                        closure of update event=\"write_panicked\"";
    for (operation, path, status, log) in [
        (Operation::Load, "/set/b/2", 500, APP),
        (Operation::Update, "/set/b/2", 500, APP),
        (Operation::Update, "/login/alice", 503, TASK),
        (Operation::Delete, "/logout", 503, TASK),
    ] {
        let app = Faulty::new().await;
        app.fault(Fault::PanicAt(operation));
        let answer = app.post(path).await;
        assert_eq!(answer.response.status().as_u16(), status, "{path}");
        assert!(answer.response.set_cookies().is_empty());
        answer.logs(&[log]).is_at_once();
        app.is_unharmed("nobody: a=1").await;
    }
}

#[tokio::test(start_paused = true)]
async fn unconfirmed_an_ending_is_a_503_and_can_be_tried_again() {
    let app = Faulty::new().await;
    let unconfirmed = || StoreError::unconfirmed("no replica confirms it");
    app.failing.fail_with(
        Operation::Delete,
        When::AfterEffect,
        Times::Next(1),
        unconfirmed,
    );
    let answer = app.post("/logout").await;
    answer
        .is_unavailable(By::Handler)
        .logs(&[
            "ERROR cloakroom the session store failed event=\"store_failed\" handle=<handle> \
             operation=\"delete\" error=no replica confirms it",
        ])
        .is_at_once();
    let answer = app.post("/logout").await;
    assert_eq!(answer.response.set_cookies()[0].value(), "");
    answer.logs(&[]);
}
