//! What ids that are renewed on a schedule tell of copies, and what they do not: whoever uses an old id long
//! after its successor came into use has a copy, and nobody else is taken for one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use cloakroom::clock::Clock;
use cloakroom::events::{EndedBy, EventKind};
use cloakroom::testing::{Operation, TestResponse, Times, When};
use cloakroom::{ErrorKind, SessionStore};
use tokio::sync::Barrier;
use tokio::task::JoinHandle;

// Each test file uses its part of it.
#[allow(dead_code, unused_imports, unused_macros)]
mod support;
#[path = "support/told.rs"]
mod told;

use self::support::{COOKIE, Client, Hooked, Setup, handle_of, nothing, on_every_store};
use self::told::{Seen, Told};

on_every_store! {
    a_copy_in_use_ends_the_session_for_both_where_that_is_set,
    a_copy_in_use_takes_the_session_from_the_list_of_its_user,
    without_the_setting_a_copy_in_use_is_told_and_opens_nothing,
    a_lost_response_ends_no_session,
    a_lost_response_of_a_request_that_saved_itself_ends_no_session,
    a_renewal_whose_answer_from_the_store_got_lost_ends_no_session,
    twenty_requests_at_once_end_no_session,
    twenty_requests_that_take_longer_than_the_grace_end_no_session,
    an_id_planted_before_a_login_ends_no_session,
    an_id_from_before_renew_id_ends_no_session,
    a_made_up_secret_ends_no_session,
    an_ending_that_fails_is_a_503_and_the_next_use_of_the_copy_tries_again,
    an_ending_whose_answer_got_lost_has_succeeded,
    an_ending_goes_on_when_the_client_hangs_up,
    ;
    over TCP:
    a_copy_in_use_ends_the_session_for_both_where_that_is_set,
    twenty_requests_at_once_end_no_session,
}

const GRACE: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A browser at an app that renews ids every minute, and ends sessions of which a copy is in use.
async fn strict(setup: &Setup, store: impl SessionStore) -> (Client, Told) {
    let told = Told::default();
    let layer = setup
        .builder(store)
        .renew_ids_every(MINUTE)
        .end_session_on_copied_id()
        .user_ids_in_events()
        .on_event(told.callback());
    (setup.client_of(layer.build().unwrap()).await, told)
}

/// A browser with the current id of alice's session, and a thief with the one before that, whose grace is
/// over.
async fn robbed(setup: &Setup, store: impl SessionStore) -> (Client, Client, Told) {
    let (client, told) = strict(setup, store).await;
    write(&client, "/login/alice").await;
    let thief = client.clone();
    setup.clock.advance(MINUTE);
    renewed(&client).await;
    assert_eq!(shown(&client).await, "alice:");
    setup.clock.advance(GRACE);
    told.take();
    (client, thief, told)
}

async fn write(client: &Client, path: &str) -> TestResponse {
    client.post(path).await.assert_status(StatusCode::OK)
}

async fn shown(client: &Client) -> String {
    let response = client.get("/show").await.assert_status(StatusCode::OK);
    response.text().to_owned()
}

/// A request whose response has a new id.
async fn renewed(client: &Client) {
    assert_eq!(client.get("/show").await.set_cookies().len(), 1);
}

fn id(client: &Client) -> String {
    client.cookie(COOKIE).unwrap()
}

fn begin(client: &Client, path: &str) -> JoinHandle<TestResponse> {
    let (window, path) = (client.new_window(), path.to_owned());
    tokio::spawn(async move { window.post(&path).await })
}

/// Nothing was taken for a copy, and no session was ended.
#[track_caller]
fn assert_no_alarm(told: &Told) {
    let seen = told.take();
    assert!(!seen.is_empty());
    for seen in seen {
        assert!(
            !matches!(seen.kind, EventKind::CopyInUse | EventKind::Ended(_)),
            "{seen:?}"
        );
    }
}

async fn a_copy_in_use_takes_the_session_from_the_list_of_its_user(setup: Setup) {
    let (_, thief, _) = robbed(&setup, setup.store.clone()).await;
    let listed = async || {
        let index = setup.store.user_index().unwrap();
        index.list("alice", setup.clock.now()).await.unwrap().len()
    };
    assert_eq!(listed().await, 1);
    assert_eq!(shown(&thief).await, "no session");
    assert_eq!(listed().await, 0);
}

async fn a_copy_in_use_ends_the_session_for_both_where_that_is_set(setup: Setup) {
    let (client, thief, told) = robbed(&setup, setup.store.clone()).await;
    let handle = handle_of(&id(&client));
    let response = thief.get("/show").await.assert_status(StatusCode::OK);
    assert_eq!(response.text(), "no session");
    // A removal could push a newer cookie out of the browser, if it is the user who has the old id.
    assert!(response.set_cookies().is_empty());
    let seen = |kind| Seen {
        kind,
        handle: Some(handle),
        user_id: Some("alice".to_owned()),
    };
    assert_eq!(
        told.take(),
        [
            seen(EventKind::CopyInUse),
            seen(EventKind::Ended(EndedBy::CopyInUse))
        ]
    );
    assert!(!setup.holds(&handle).await);
    assert_eq!(shown(&client).await, "no session");
    assert_eq!(shown(&thief).await, "no session");
    assert_eq!(told.names(), ["refused: unknown", "refused: unknown"]);
}

async fn without_the_setting_a_copy_in_use_is_told_and_opens_nothing(setup: Setup) {
    let told = Told::default();
    let layer = setup.builder(setup.store.clone()).renew_ids_every(MINUTE);
    let layer = layer.on_event(told.callback()).build().unwrap();
    let client = setup.client_of(layer).await;
    write(&client, "/login/alice").await;
    let thief = client.clone();
    setup.clock.advance(MINUTE);
    renewed(&client).await;
    shown(&client).await;
    setup.clock.advance(GRACE - MILLISECOND);
    assert_eq!(shown(&thief).await, "alice:", "it may be on its way");
    told.take();
    setup.clock.advance(MILLISECOND);
    assert_eq!(shown(&thief).await, "no session");
    assert_eq!(told.names(), ["copy_in_use"]);
    assert_eq!(shown(&client).await, "alice:");
    assert!(told.take().is_empty());
}

async fn a_lost_response_ends_no_session(setup: Setup) {
    let (client, told) = strict(&setup, setup.store.clone()).await;
    write(&client, "/set/a/1").await;
    for round in 0..6 {
        // The browser never sees these.
        let lost = client.clone();
        setup.clock.advance(MINUTE);
        renewed(&lost).await;
        for _ in 0..3 {
            setup.clock.advance(MINUTE / 4);
            assert_eq!(shown(&client).await, "nobody: a=1", "round {round}");
        }
    }
    setup.clock.advance(MINUTE);
    renewed(&client).await;
    assert_eq!(shown(&client).await, "nobody: a=1");
    setup.clock.advance(GRACE);
    assert_eq!(shown(&client).await, "nobody: a=1");
    assert_no_alarm(&told);
}

/// That the request goes on with the new id does not mean that its client has it.
async fn a_lost_response_of_a_request_that_saved_itself_ends_no_session(setup: Setup) {
    let (client, told) = strict(&setup, setup.store.clone()).await;
    write(&client, "/set/a/1").await;
    let lost = client.clone();
    setup.clock.advance(MINUTE);
    let response = write(&lost, "/save/a/2").await;
    assert_eq!(response.set_cookies().len(), 1);
    setup.clock.advance(GRACE);
    assert_eq!(shown(&client).await, "nobody: a=2");
    assert_no_alarm(&told);
}

async fn a_renewal_whose_answer_from_the_store_got_lost_ends_no_session(setup: Setup) {
    let failing = setup.failing();
    let (client, told) = strict(&setup, failing.clone()).await;
    write(&client, "/set/a/1").await;
    for _ in 0..3 {
        setup.clock.advance(MINUTE);
        failing.fail(Operation::Update, When::AfterEffect, Times::Next(1));
        assert!(client.get("/show").await.set_cookies().is_empty());
        setup.clock.advance(GRACE);
        assert_eq!(shown(&client).await, "nobody: a=1");
    }
    assert_eq!(failing.failures(), 3);
    setup.clock.advance(MINUTE);
    renewed(&client).await;
    shown(&client).await;
    setup.clock.advance(GRACE);
    assert_eq!(shown(&client).await, "nobody: a=1");
    assert_no_alarm(&told);
}

/// Places at which operations of a store wait for each other.
#[derive(Clone)]
struct Meeting {
    left: Arc<AtomicUsize>,
    barrier: Arc<Barrier>,
}

impl Meeting {
    /// Of so many, the test included if it comes as well.
    fn of(size: usize) -> Self {
        Self {
            left: Arc::default(),
            barrier: Arc::new(Barrier::new(size)),
        }
    }

    /// The next so many operations come.
    fn invite(&self, operations: usize) {
        self.left.store(operations, Ordering::SeqCst);
    }

    /// Whether this operation is one of them.
    fn is_invited(&self) -> bool {
        let take = |left: usize| left.checked_sub(1);
        let taken = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        taken.is_ok()
    }
}

async fn twenty_requests_at_once_end_no_session(setup: Setup) {
    let meeting = Meeting::of(20);
    let meet = {
        let meeting = meeting.clone();
        move |operation, _| -> support::BoxFuture<()> {
            let meeting = meeting.clone();
            Box::pin(async move {
                if operation == Operation::Load && meeting.is_invited() {
                    meeting.barrier.wait().await;
                }
            })
        }
    };
    let store = Hooked::new(setup.store.clone(), nothing, meet);
    let (client, told) = strict(&setup, store).await;
    write(&client, "/set/a/1").await;
    for round in 0..3 {
        setup.clock.advance(MINUTE);
        let before = id(&client);
        // All of them have loaded the session under one id before any renews it.
        meeting.invite(20);
        let requests: Vec<_> = (0..20)
            .map(|n| {
                let window = client.new_window();
                tokio::spawn(async move {
                    match n % 2 {
                        0 => window.get("/show").await,
                        _ => window.post(&format!("/set/k{n}/{round}")).await,
                    }
                })
            })
            .collect();
        let mut issued = 0;
        for request in requests {
            let response = request.await.unwrap().assert_status(StatusCode::OK);
            issued += response.set_cookies().len();
        }
        assert_eq!(issued, 1);
        assert!(!meeting.is_invited(), "all have met");
        assert_ne!(id(&client), before);
        assert!(shown(&client).await.contains(&format!("k19={round}")));
        setup.clock.advance(GRACE);
        assert!(shown(&client).await.contains("a=1"));
    }
    assert_no_alarm(&told);
}

async fn twenty_requests_that_take_longer_than_the_grace_end_no_session(setup: Setup) {
    let meeting = Meeting::of(21);
    let meet = {
        let meeting = meeting.clone();
        move |operation, _| -> support::BoxFuture<()> {
            let meeting = meeting.clone();
            Box::pin(async move {
                if operation == Operation::Update && meeting.is_invited() {
                    // All have come, and then all go on.
                    meeting.barrier.wait().await;
                    meeting.barrier.wait().await;
                }
            })
        }
    };
    let slow = Hooked::new(setup.store.clone(), meet, nothing);
    let (client, told) = strict(&setup, slow).await;
    write(&client, "/set/a/1").await;
    let old = client.clone();
    meeting.invite(20);
    let requests: Vec<_> = (0..20)
        .map(|n| begin(&old, &format!("/set/k{n}/late")))
        .collect();
    meeting.barrier.wait().await;
    setup.clock.advance(MINUTE);
    renewed(&client).await;
    shown(&client).await;
    setup.clock.advance(GRACE);
    meeting.barrier.wait().await;
    for request in requests {
        let response = request.await.unwrap();
        assert!(response.set_cookies().is_empty());
    }
    // They came when their id was good; that it is not any more when they are done is no sign of a copy.
    assert_eq!(shown(&client).await, "nobody: a=1");
    let names = told.names();
    let dropped = names
        .iter()
        .filter(|name| *name == "changes_dropped: retired");
    assert_eq!(dropped.count(), 20, "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("copy_in_use")));
    assert!(!names.iter().any(|name| name.starts_with("ended")));
}

async fn an_id_planted_before_a_login_ends_no_session(setup: Setup) {
    let (client, told) = strict(&setup, setup.store.clone()).await;
    write(&client, "/set/a/1").await;
    // The attacker has every id that the session had before its user logged in: one that was superseded,
    // one that was renewed without anybody hearing of it, and the one that the login replaced.
    let superseded = client.clone();
    setup.clock.advance(MINUTE);
    renewed(&client).await;
    shown(&client).await;
    let unheard = client.clone();
    setup.clock.advance(MINUTE);
    renewed(&client).await;
    let replaced = client.clone();
    write(&client, "/login/alice").await;
    for wait in [Duration::ZERO, GRACE, MINUTE, MINUTE] {
        setup.clock.advance(wait);
        for planted in [&superseded, &unheard, &replaced] {
            assert_eq!(shown(planted).await, "no session");
        }
        assert_eq!(shown(&client).await, "alice: a=1", "{wait:?}");
    }
    assert_no_alarm(&told);
}

async fn an_id_from_before_renew_id_ends_no_session(setup: Setup) {
    let (client, told) = strict(&setup, setup.store.clone()).await;
    write(&client, "/login/alice").await;
    let superseded = client.clone();
    setup.clock.advance(MINUTE);
    renewed(&client).await;
    shown(&client).await;
    let replaced = client.clone();
    write(&client, "/renew").await;
    setup.clock.advance(GRACE);
    for old in [superseded, replaced] {
        assert_eq!(shown(&old).await, "no session");
    }
    assert_eq!(shown(&client).await, "alice:");
    assert_no_alarm(&told);
}

async fn a_made_up_secret_ends_no_session(setup: Setup) {
    let (client, _, told) = robbed(&setup, setup.store.clone()).await;
    let guesser = client.clone();
    let guess = format!("{}{}", &id(&client)[..22], "A".repeat(26));
    guesser.set_cookie(COOKIE, &guess);
    assert_eq!(shown(&guesser).await, "no session");
    assert_eq!(told.names(), ["refused: wrong_secret"]);
    assert_eq!(shown(&client).await, "alice:");
}

async fn an_ending_that_fails_is_a_503_and_the_next_use_of_the_copy_tries_again(setup: Setup) {
    let failing = setup.failing();
    let (client, thief, told) = robbed(&setup, failing.clone()).await;
    failing.fail(Operation::Delete, When::BeforeEffect, Times::Next(1));
    // Also where a handler would take no session for an answer.
    let response = thief.get("/show").await;
    response.assert_status(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(told.names(), ["copy_in_use", "store_failed"]);
    assert_eq!(shown(&client).await, "alice:");
    failing.fail(Operation::Delete, When::BeforeEffect, Times::Next(1));
    let response = thief.post("/set/a/1").await;
    let kind = format!("{:?}", ErrorKind::EndingFailed);
    assert_eq!(response.header("x-session-error"), Some(&*kind));
    told.take();
    assert_eq!(shown(&thief).await, "no session");
    assert_eq!(told.names(), ["copy_in_use", "ended: copy_in_use"]);
    assert_eq!(shown(&client).await, "no session");
}

async fn an_ending_whose_answer_got_lost_has_succeeded(setup: Setup) {
    let failing = setup.failing();
    let (client, thief, told) = robbed(&setup, failing.clone()).await;
    failing.fail(Operation::Delete, When::AfterEffect, Times::Next(1));
    assert_eq!(shown(&thief).await, "no session");
    assert_eq!(
        told.names(),
        ["copy_in_use", "store_failed", "ended: copy_in_use"]
    );
    assert_eq!(shown(&client).await, "no session");
}

async fn an_ending_goes_on_when_the_client_hangs_up(setup: Setup) {
    let store = setup.pausing();
    let (client, thief, told) = robbed(&setup, store.clone()).await;
    let pause = store.pause_before(Operation::Delete);
    let request = begin(&thief, "/set/a/1");
    pause.reached().await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    pause.release();
    setup.settled().await;
    assert_eq!(told.names(), ["copy_in_use", "ended: copy_in_use"]);
    assert_eq!(shown(&client).await, "no session");
}
