//! Where a user is logged in: lists, endings from elsewhere, limits, and logins that overlap with them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use cloakroom::events::{EndedBy, EventKind};
use cloakroom::store::{Handle, MemoryStore, SessionLimit, SessionStore, UserIndex};
use cloakroom::testing::{
    Calls, FailingStore, ManualClock, Operation, PausingStore, SpyStore, Times, When, new_session,
};
use cloakroom::{ErrorKind, Login, Session, SessionLayer, Timeouts};

mod places;
#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/sql.rs"]
mod sql;

use places::Place;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// A test of each rule, on each of these stores.
macro_rules! on_each {
    ($place:ident) => {
        on_each! {
            @rules $place;
            a_list_says_where_a_user_is_logged_in
            what_has_ended_is_not_listed
            a_session_is_ended_by_its_own_user_alone
            ending_the_others_leaves_this_session_under_a_new_id
            ending_all_takes_every_session_of_the_user
            ending_everyone_spares_visitors
            a_login_that_began_before_an_ending_of_all_never_survives_it
            a_login_within_a_second_of_an_ending_of_all_is_refused_for_the_clocks_sake
            a_request_that_lasts_longer_than_a_mark_is_kept_cannot_log_in
            a_pending_second_factor_is_nobody_and_ends_with_the_others
            a_limit_ends_the_oldest_and_counts_only_the_living
            a_limit_refuses_a_login_and_leaves_its_session_alone
            a_hundred_logins_at_once_leave_as_many_as_the_limit_allows
            a_login_that_cannot_be_listed_fails_and_leaves_no_session
            an_ending_that_fails_for_one_session_ends_the_others_and_says_so
            a_session_that_is_given_longer_stays_on_the_list
        }
    };
    (@rules $place:ident; $($rule:ident)+) => {
        mod $place {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $rule() {
                if let Some(place) = crate::places::$place() {
                    crate::$rule(place).await;
                }
            })+
        }
    };
}

on_each!(memory);
on_each!(file);
on_each!(sqlite);
on_each!(postgres);
on_each!(mysql);
on_each!(redis);
on_each!(redis_cluster);

struct App {
    layer: SessionLayer,
    clock: ManualClock,
}

impl App {
    fn on(store: impl SessionStore) -> Self {
        Self::with_limit(store, None)
    }

    fn with_limit(store: impl SessionStore, limit: Option<SessionLimit>) -> Self {
        let clock = ManualClock::new();
        let builder = SessionLayer::builder(store).clock(clock.clone());
        let builder = match limit {
            Some(limit) => builder.limit_sessions_per_user(limit),
            None => builder,
        };
        let layer = builder.build().unwrap();
        Self { layer, clock }
    }

    /// A device on which the user has logged in, a second after everything before.
    async fn device(&self, user_id: &str) -> Session {
        self.clock.advance(2 * SECOND);
        let session = new_session(&self.layer);
        session.login(user_id).await.unwrap();
        session
    }

    async fn handles(&self, user_id: &str) -> Vec<Handle> {
        let list = self.layer.sessions().list(user_id).await.unwrap();
        list.iter().map(|session| *session.handle()).collect()
    }
}

fn handle(session: &Session) -> Handle {
    session.handle().unwrap()
}

async fn a_list_says_where_a_user_is_logged_in(place: Place) {
    let app = App::on(place.store().await);
    let laptop = new_session(&app.layer);
    laptop.insert("cart", 1).unwrap();
    laptop.save().await.unwrap();
    let created_at = laptop.created_at().unwrap();
    app.clock.advance(60 * SECOND);
    let login = Login::new("alice").label("Firefox on Linux");
    laptop.login(login).await.unwrap();
    let phone = app.device("alice").await;
    app.device("bob").await;

    let list = phone.user_sessions().await.unwrap();
    let seen: Vec<_> = list
        .iter()
        .map(|one| (*one.handle(), one.label(), one.is_current()))
        .collect();
    let expected = [
        (handle(&phone), None, true),
        (handle(&laptop), Some("Firefox on Linux"), false),
    ];
    assert_eq!(seen, expected);
    assert_eq!(list[1].created_at(), created_at);
    assert_eq!(list[1].authenticated_at(), created_at + 60 * SECOND);
    assert_eq!(list[1].last_seen_at(), Some(list[1].authenticated_at()));
    assert_eq!(list[1].expires_at(), laptop.expires_at().unwrap());

    let visitor = new_session(&app.layer);
    assert!(visitor.user_sessions().await.unwrap().is_empty());
}

async fn what_has_ended_is_not_listed(place: Place) {
    let app = App::on(place.store().await);
    let short = new_session(&app.layer);
    short.login("alice").await.unwrap();
    let long = new_session(&app.layer);
    let remember = Timeouts::new(10 * HOUR, 20 * HOUR);
    long.login(Login::new("alice").remember_me(remember))
        .await
        .unwrap();
    let left = app.device("alice").await;
    left.logout().await.unwrap();
    let revoked = app.device("alice").await;
    assert!(app.layer.sessions().end(&handle(&revoked)).await.unwrap());
    assert_eq!(app.handles("alice").await.len(), 2);
    app.clock.advance(2 * HOUR);
    assert_eq!(app.handles("alice").await, [handle(&long)]);
}

async fn a_session_is_ended_by_its_own_user_alone(place: Place) {
    let app = App::on(place.store().await);
    let alice = app.device("alice").await;
    let phone = app.device("alice").await;
    let bob = app.device("bob").await;
    assert!(!bob.end_user_session(&handle(&alice)).await.unwrap());
    let sessions = app.layer.sessions();
    assert!(!sessions.end_of_user("bob", &handle(&alice)).await.unwrap());
    assert!(
        !new_session(&app.layer)
            .end_user_session(&handle(&alice))
            .await
            .unwrap()
    );
    assert_eq!(app.handles("alice").await.len(), 2);

    assert!(alice.end_user_session(&handle(&phone)).await.unwrap());
    assert!(!alice.end_user_session(&handle(&phone)).await.unwrap());
    assert_eq!(app.handles("alice").await, [handle(&alice)]);
    phone.insert("late", 1).unwrap();
    assert_eq!(phone.save().await.unwrap_err().kind(), ErrorKind::Ended);
    assert!(alice.end_user_session(&handle(&alice)).await.unwrap());
    assert!(alice.is_new());
    assert_eq!(app.handles("bob").await, [handle(&bob)]);
}

async fn ending_the_others_leaves_this_session_under_a_new_id(place: Place) {
    let store = place.store().await;
    let app = App::on(store.clone());
    let laptop = app.device("alice").await;
    app.device("alice").await;
    app.device("alice").await;
    let before = store.load(&handle(&laptop)).await.unwrap().unwrap();
    assert_eq!(laptop.end_other_sessions().await.unwrap(), 2);
    assert_eq!(app.handles("alice").await, [handle(&laptop)]);
    let after = store.load(&handle(&laptop)).await.unwrap().unwrap();
    // The digest of the secret is at the front of the payload, after the format.
    assert_ne!(before.payload[1..33], after.payload[1..33]);
}

async fn ending_all_takes_every_session_of_the_user(place: Place) {
    let app = App::on(place.store().await);
    let laptop = app.device("alice").await;
    app.device("alice").await;
    let bob = app.device("bob").await;
    assert_eq!(laptop.end_all_sessions().await.unwrap(), 2);
    assert!(laptop.is_new());
    assert!(app.handles("alice").await.is_empty());
    app.device("alice").await;
    assert_eq!(app.layer.sessions().end_all("alice").await.unwrap(), 1);
    assert_eq!(app.handles("bob").await, [handle(&bob)]);
}

async fn ending_everyone_spares_visitors(place: Place) {
    let app = App::on(place.store().await);
    for user in 0..7 {
        app.device(&format!("user {user}")).await;
    }
    let visitor = new_session(&app.layer);
    visitor.insert("cart", 1).unwrap();
    visitor.save().await.unwrap();
    let began_before = new_session(&app.layer);
    assert_eq!(app.layer.sessions().end_everyone().await.unwrap(), 7);
    let error = began_before.login("alice").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overtaken);
    visitor.insert("cart", 2).unwrap();
    visitor.save().await.unwrap();
    let alice = app.device("alice").await;
    assert_eq!(app.handles("alice").await, [handle(&alice)]);
}

/// The attacker has verified the old password, the victim changes it and ends all, the attacker's login then
/// commits: before and after each step of it.
async fn a_login_that_began_before_an_ending_of_all_never_survives_it(place: Place) {
    for (operation, on_session) in [
        (Operation::Create, false),
        (Operation::Update, true),
        (Operation::Link, false),
        (Operation::Link, true),
    ] {
        for after in [false, true] {
            let store = PausingStore::new(place.store().await);
            let app = App::on(store.clone());
            let victim = app.device("alice").await;
            app.clock.advance(HOUR / 2);
            let attacker = new_session(&app.layer);
            if on_session {
                attacker.insert("cart", 1).unwrap();
                attacker.save().await.unwrap();
            }
            let pause = match after {
                false => store.pause_before(operation),
                true => store.pause_after(operation),
            };
            let login = tokio::spawn({
                let attacker = attacker.clone();
                async move { attacker.login("alice").await }
            });
            pause.reached().await;
            victim.end_other_sessions().await.unwrap();
            pause.release();
            let outcome = login.await.unwrap();
            let when = format!("{operation:?}, after its effect: {after}");
            // What was listed before the ending is ended by it, and its login may think that it succeeded.
            if !(operation == Operation::Link && after) {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Overtaken, "{when}");
                assert_eq!(attacker.user_id(), None, "{when}");
            }
            assert_eq!(app.handles("alice").await, [handle(&victim)], "{when}");
            attacker.insert("late", 1).unwrap();
            // It goes into a session of nobody, or nowhere.
            let saved = attacker.save().await.map_err(|error| error.kind());
            assert!(matches!(saved, Ok(()) | Err(ErrorKind::Ended)), "{when}");
            assert_eq!(attacker.user_id(), None, "{when}");
        }
    }
}

async fn a_login_within_a_second_of_an_ending_of_all_is_refused_for_the_clocks_sake(place: Place) {
    let app = App::on(place.store().await);
    app.layer.sessions().end_all("alice").await.unwrap();
    app.clock.advance(SECOND);
    let error = new_session(&app.layer).login("alice").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overtaken);
    app.clock.advance(Duration::from_millis(1));
    new_session(&app.layer).login("alice").await.unwrap();
}

async fn a_request_that_lasts_longer_than_a_mark_is_kept_cannot_log_in(place: Place) {
    let app = App::on(place.store().await);
    let slow = new_session(&app.layer);
    app.clock.advance(24 * HOUR);
    let error = slow.login("alice").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overtaken);
    assert!(app.handles("alice").await.is_empty());
}

async fn a_pending_second_factor_is_nobody_and_ends_with_the_others(place: Place) {
    let app = App::on(place.store().await);
    let session = new_session(&app.layer);
    let pending = Login::new("alice").second_factor_pending();
    session.login(pending).await.unwrap();
    assert_eq!(session.user_id(), None);
    assert_eq!(session.authenticated_at(), None);
    assert_eq!(session.pending_user_id().as_deref(), Some("alice"));
    assert!(app.handles("alice").await.is_empty());

    app.clock.advance(2 * SECOND);
    assert_eq!(app.layer.sessions().end_all("alice").await.unwrap(), 1);
    session.insert("code", 1).unwrap();
    assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Ended);
}

async fn a_limit_ends_the_oldest_and_counts_only_the_living(place: Place) {
    let app = App::with_limit(place.store().await, Some(SessionLimit::EndOldest(2)));
    let first = app.device("alice").await;
    let second = app.device("alice").await;
    second.login("alice").await.unwrap();
    assert_eq!(
        app.handles("alice").await.len(),
        2,
        "who logs in again does not count"
    );
    let ended = app.device("alice").await;
    assert_eq!(
        app.handles("alice").await,
        [handle(&ended), handle(&second)]
    );
    assert!(app.layer.sessions().end(&handle(&ended)).await.unwrap());
    let third = app.device("alice").await;
    assert_eq!(
        app.handles("alice").await,
        [handle(&third), handle(&second)]
    );
    first.insert("late", 1).unwrap();
    assert_eq!(first.save().await.unwrap_err().kind(), ErrorKind::Ended);
}

async fn a_limit_refuses_a_login_and_leaves_its_session_alone(place: Place) {
    let app = App::with_limit(place.store().await, Some(SessionLimit::RefuseLogin(1)));
    let first = app.device("alice").await;
    let second = new_session(&app.layer);
    second.insert("cart", 7).unwrap();
    second.save().await.unwrap();
    let error = second.login("alice").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManySessions);
    assert_eq!(second.get::<u32>("cart").unwrap(), Some(7));
    second.save().await.unwrap();
    first.login("alice").await.unwrap();
    // It ended without its entry being taken away.
    assert!(app.layer.sessions().end(&handle(&first)).await.unwrap());
    second.login("alice").await.unwrap();
    assert_eq!(app.handles("alice").await, [handle(&second)]);
}

async fn a_hundred_logins_at_once_leave_as_many_as_the_limit_allows(place: Place) {
    for limit in [SessionLimit::EndOldest(3), SessionLimit::RefuseLogin(3)] {
        let app = App::with_limit(place.store().await, Some(limit));
        let logins: Vec<_> = (0..100)
            .map(|_| new_session(&app.layer))
            .map(|session| tokio::spawn(async move { session.login("alice").await.is_ok() }))
            .collect();
        let mut succeeded = 0;
        for login in logins {
            succeeded += usize::from(login.await.unwrap());
        }
        assert_eq!(app.handles("alice").await.len(), 3, "{limit:?}");
        if limit == SessionLimit::RefuseLogin(3) {
            assert_eq!(succeeded, 3);
        }
    }
}

async fn a_login_that_cannot_be_listed_fails_and_leaves_no_session(place: Place) {
    for when in [When::BeforeEffect, When::AfterEffect] {
        let store = FailingStore::new(place.store().await);
        let app = App::on(store.clone());
        let session = new_session(&app.layer);
        session.insert("cart", 1).unwrap();
        session.save().await.unwrap();
        let before = handle(&session);
        store.fail(Operation::Link, when, Times::Next(1));
        let error = session.login("alice").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert_eq!(store.failures(), 1);
        assert!(store.load(&before).await.unwrap().is_none());
        assert!(app.handles("alice").await.is_empty());
        session.login("alice").await.unwrap();
        assert_ne!(handle(&session), before);
    }
}

async fn an_ending_that_fails_for_one_session_ends_the_others_and_says_so(place: Place) {
    let store = FailingStore::new(place.store().await);
    let app = App::on(store.clone());
    for _ in 0..3 {
        app.device("alice").await;
    }
    store.fail(Operation::Delete, When::BeforeEffect, Times::Next(1));
    let error = app.layer.sessions().end_all("alice").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EndingFailed);
    assert_eq!(store.failures(), 1);
    assert_eq!(app.handles("alice").await.len(), 1);
    assert_eq!(app.layer.sessions().end_all("alice").await.unwrap(), 1);
    assert!(app.handles("alice").await.is_empty());
}

/// Each of the others would take as long.
#[tokio::test(start_paused = true)]
async fn an_ending_of_many_that_a_store_does_not_answer_is_over_after_the_time_for_two_calls() {
    let store = PausingStore::new(MemoryStore::new());
    let app = App::on(store.clone());
    for _ in 0..5 {
        app.device("alice").await;
    }
    let never = store.pause_before(Operation::Delete);
    let also = store.pause_before(Operation::Load);
    let start = tokio::time::Instant::now();
    let error = app.layer.sessions().end_all("alice").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EndingFailed);
    assert_eq!(start.elapsed().as_secs(), 10);
    drop((never, also));
    assert_eq!(app.handles("alice").await.len(), 5);
    assert_eq!(app.layer.sessions().end_all("alice").await.unwrap(), 5);
}

#[tokio::test]
async fn a_login_takes_one_call_more_and_so_does_a_logout() {
    let spy = SpyStore::new(MemoryStore::new());
    let app = App::on(spy.clone());
    let session = new_session(&app.layer);
    session.login("alice").await.unwrap();
    let login = Calls {
        create: 1,
        link: 1,
        ..Calls::default()
    };
    assert_eq!(spy.calls(), login);
    spy.reset();
    session.logout().await.unwrap();
    let logout = Calls {
        delete: 1,
        unlink: 1,
        ..Calls::default()
    };
    assert_eq!(spy.calls(), logout);
}

async fn a_session_that_is_given_longer_stays_on_the_list(place: Place) {
    let store = place.store().await;
    let app = App::on(store.clone());
    let session = app.device("alice").await;
    let longer = Timeouts::new(100 * HOUR, 200 * HOUR);
    session.set_timeouts(longer).unwrap();
    session.save().await.unwrap();
    app.clock.advance(99 * HOUR);
    assert_eq!(app.handles("alice").await, [handle(&session)]);
    assert_eq!(app.layer.sessions().end_all("alice").await.unwrap(), 1);
}

#[tokio::test]
async fn the_memory_of_users_who_are_gone_is_given_back() {
    let store = Arc::new(MemoryStore::new());
    let app = App::on(store.clone());
    for user in 0..100 {
        app.device(&format!("user {user:03}")).await;
    }
    app.clock.advance(100 * HOUR);
    for user in 100..200 {
        app.device(&format!("user {user:03}")).await;
    }
    // Listed at a time at which they were alive: they are gone, and not only passed over.
    let then = cloakroom::clock::from_unix_millis(0);
    let left = |user: usize| {
        let store = store.clone();
        async move {
            store
                .list(&format!("user {user:03}"), then)
                .await
                .unwrap()
                .len()
        }
    };
    for user in 0..100 {
        assert_eq!(left(user).await, 0, "user {user}");
    }
    assert_eq!(left(199).await, 1);
}

#[tokio::test]
async fn the_endings_of_a_users_sessions_are_told_with_their_cause() {
    let (sender, told) = std::sync::mpsc::channel();
    let store = FailingStore::new(MemoryStore::new());
    let layer = SessionLayer::builder(store.clone())
        .limit_sessions_per_user(SessionLimit::EndOldest(2))
        .on_event(move |event| {
            if let EventKind::Ended(by) = event.kind() {
                sender.send(by).unwrap();
            }
        })
        .build()
        .unwrap();
    let sessions = [(); 3].map(|()| new_session(&layer));
    for session in &sessions {
        session.login("alice").await.unwrap();
    }
    assert_eq!(told.try_recv(), Ok(EndedBy::Limit));
    assert_eq!(sessions[2].end_other_sessions().await.unwrap(), 1);
    assert_eq!(told.try_recv(), Ok(EndedBy::OtherSession));
    store.fail(Operation::Link, When::BeforeEffect, Times::Next(1));
    new_session(&layer).login("bob").await.unwrap_err();
    assert_eq!(told.try_recv(), Ok(EndedBy::FailedLogin));
    assert!(told.try_recv().is_err());
}

/// The ending has stored its mark, and is slow with the rest, when the second factor comes; it has ended the
/// pending login when that is to be completed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_factor_is_of_no_use_once_its_login_was_ended_with_the_others() {
    let store = PausingStore::new(MemoryStore::new());
    let app = App::on(store.clone());
    let routes = axum::Router::new()
        .route(
            "/password",
            axum::routing::post(async |session: Session| {
                let pending = Login::new("alice").second_factor_pending();
                session.login(pending).await
            }),
        )
        .route(
            "/code",
            axum::routing::post(async |session: Session| {
                let user_id = session.pending_user_id().unwrap();
                session.login(&*user_id).await
            }),
        )
        .layer(app.layer.clone());
    let client = Arc::new(cloakroom::testing::TestClient::new(routes));
    client.post("/password").await;

    app.clock.advance(10 * SECOND);
    let slow = store.pause_before(Operation::List);
    let sessions = app.layer.sessions();
    let ending = tokio::spawn(async move { sessions.end_all("alice").await });
    slow.reached().await;
    app.clock.advance(2 * SECOND);
    let completing = store.pause_before(Operation::Update);
    let code = tokio::spawn({
        let client = client.clone();
        async move { client.post("/code").await.status() }
    });
    completing.reached().await;
    slow.release();
    assert_eq!(ending.await.unwrap().unwrap(), 1);
    completing.release();
    assert_eq!(code.await.unwrap(), 409);
    assert!(app.handles("alice").await.is_empty());
}
