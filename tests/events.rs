//! What is told of sessions: the same in the log and to the app's callback, as the table in the docs of
//! `cloakroom::events` says; and what a callback cannot do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/captured_logs.rs"]
mod captured_logs;
#[path = "support/contended_store.rs"]
mod contended_store;
#[path = "support/http_surface.rs"]
mod http_surface;
#[path = "support/told.rs"]
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::Request;
use axum::response::Result;
use axum::routing::{get, post};
use cloakroom::clock::{Clock, SystemClock};
use cloakroom::csrf::CsrfGuard;
use cloakroom::events::{Event, EventKind};
use cloakroom::store::{
    Handle, MemoryStore, OffsetDateTime, Outcome, Record, SessionStore, StoreError, StoreErrorKind,
    UserIndex, Version, async_trait,
};
use cloakroom::testing::{FailingStore, ManualClock, Operation, Times, When};
use cloakroom::{ErrorKind, Session, SessionLayer, SessionLayerBuilder, Sweeper};
use tokio::sync::MutexGuard;

use self::captured_logs::Log;
use self::contended_store::ContendedStore;
use self::http_surface::{Answer, call, get as get_with, visit};
use self::told::{Seen, Told};

const MINUTE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);

/// What this process logs, which the tests take one after another.
async fn log() -> (Log, MutexGuard<'static, ()>) {
    static LOG: LazyLock<Log> = LazyLock::new(Log::of_this_process);
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let turn = TURN.lock().await;
    LOG.clear();
    (LOG.clone(), turn)
}

// The table.

/// A row of the docs' table of events.
struct Row {
    level: String,
    fields: BTreeSet<String>,
}

/// The rows by the event's name and its cause.
fn table() -> BTreeMap<(String, String), Row> {
    let docs = include_str!("../src/events.rs");
    let table = docs.split("| `event` |").nth(1).unwrap();
    let rows = table.lines().skip(2);
    rows.map_while(|line| line.strip_prefix("//! | "))
        .map(|row| {
            let row = row.replace('`', "");
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let fields = cells[3].split(", ").filter(|field| !field.is_empty());
            let row = Row {
                level: cells[2].to_uppercase(),
                fields: fields.map(str::to_owned).collect(),
            };
            ((cells[0].to_owned(), cells[1].to_owned()), row)
        })
        .collect()
}

/// An event of the log: its level and its fields.
#[derive(Debug)]
struct Line {
    level: String,
    fields: BTreeMap<String, String>,
}

impl Line {
    fn parse(line: &str) -> Self {
        let (level, _) = line.split_once(' ').unwrap();
        let parts: Vec<_> = line.split('=').collect();
        let name = |part: &str| part.rsplit(' ').next().unwrap().to_owned();
        let value = |part: &str, last: bool| match last {
            true => part.to_owned(),
            false => part.rsplit_once(' ').unwrap().0.to_owned(),
        };
        let fields = parts.windows(2).enumerate().map(|(at, pair)| {
            let last = at + 2 == parts.len();
            let value = value(pair[1], last).trim_matches('"').to_owned();
            (name(pair[0]), value)
        });
        Self {
            level: level.to_owned(),
            fields: fields.collect(),
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

// The app.

type Meanwhile = Arc<Mutex<Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>>>;

struct Rig {
    app: Router,
    layer: SessionLayer,
    clock: ManualClock,
    store: FailingStore<MemoryStore>,
    told: Told,
    log: Log,
    /// What happens while `/meanwhile/…` runs.
    meanwhile: Meanwhile,
    seen: BTreeSet<(String, String)>,
}

impl Rig {
    /// With all that can be told switched on.
    fn new(log: &Log, choose: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder) -> Self {
        let (clock, told) = (ManualClock::new(), Told::default());
        let store = FailingStore::new(MemoryStore::new());
        let builder = SessionLayer::builder(store.clone())
            .clock(clock.clone())
            .user_ids_in_events()
            .on_event(told.callback());
        let layer = choose(builder).build().unwrap();
        let meanwhile = Meanwhile::default();
        Self {
            app: routes(&meanwhile).layer(layer.clone()),
            layer,
            clock,
            store,
            told,
            log: log.clone(),
            meanwhile,
            seen: BTreeSet::new(),
        }
    }

    async fn get(&self, path: &str, pair: &str) -> Answer {
        get_with(&self.app, path, &[pair]).await
    }

    /// Logs alice in.
    async fn logged_in(&mut self) -> String {
        let answer = visit(&self.app, "/login/alice").await;
        self.expect(&["created", "logged_in"], &answer);
        answer.pair()
    }

    fn meanwhile(&self, happens: impl Future<Output = ()> + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::pin(happens));
    }

    /// These were told, in this order, to the callback and in the log, about the session of this response if
    /// that sets a cookie; and as the table says.
    #[track_caller]
    fn expect(&mut self, names: &[&str], answer: &Answer) {
        let seen = self.expect_told(names);
        let set = answer
            .set_cookies()
            .first()
            .is_some_and(|line| line.contains("<id>"));
        if let (Some(last), true) = (seen.last(), set) {
            assert_eq!(last.handle, Some(handle_of(&answer.id())), "{last:?}");
        }
    }

    #[track_caller]
    fn expect_told(&mut self, names: &[&str]) -> Vec<Seen> {
        let seen = self.told.take();
        let lines = self.log.having(" event=\"");
        self.log.clear();
        let lines: Vec<_> = lines.iter().map(|line| Line::parse(line)).collect();
        let table = table();
        assert_eq!(lines.len(), seen.len(), "{lines:?} and {seen:?}");
        let told = seen.iter().map(|seen| match seen.kind.cause() {
            Some(cause) => format!("{}: {cause}", seen.kind.name()),
            None => seen.kind.name().to_owned(),
        });
        assert_eq!(told.collect::<Vec<_>>(), names);
        for (seen, line) in seen.iter().zip(&lines) {
            let (name, cause) = (seen.kind.name(), seen.kind.cause());
            assert_eq!(line.field("event"), Some(name));
            assert_eq!(line.field("cause"), cause);
            let handle = seen.handle.map(|handle| handle.to_string());
            assert_eq!(line.field("handle"), handle.as_deref());
            assert_eq!(line.field("user_id"), seen.user_id.as_deref());
            let key = (name.to_owned(), cause.unwrap_or_default().to_owned());
            let row = table.get(&key).expect("the table has it");
            assert_eq!(line.level, row.level, "{line:?}");
            let usual = ["event", "cause", "handle", "user_id"];
            let others = line
                .fields
                .keys()
                .filter(|name| !usual.contains(&name.as_str()));
            let others: BTreeSet<_> = others.cloned().collect();
            assert_eq!(others, row.fields, "{line:?}");
            self.seen.insert(key);
        }
        seen
    }
}

fn routes(meanwhile: &Meanwhile) -> Router {
    let meanwhile = meanwhile.clone();
    Router::new()
        .route("/unused", get("unused"))
        .route(
            "/read",
            get(async |session: Session| session.keys().join(" ")),
        )
        .route(
            "/set/{key}",
            get(
                async |session: Session, Path(key): Path<String>| -> Result<()> {
                    Ok(session.insert(&key, "x".repeat(60))?)
                },
            ),
        )
        .route(
            "/save",
            get(async |session: Session| -> Result<()> {
                session.insert("saved", 1)?;
                Ok(session.save().await?)
            }),
        )
        .route(
            "/login/{user}",
            get(
                async |session: Session, Path(user): Path<String>| -> Result<()> {
                    Ok(session.login(user).await?)
                },
            ),
        )
        .route(
            "/renew",
            get(async |session: Session| -> Result<()> { Ok(session.renew_id()?) }),
        )
        .route(
            "/logout",
            get(async |session: Session| -> Result<()> { Ok(session.logout().await?) }),
        )
        .route(
            "/logout-again",
            get(async |session: Session| -> Result<()> {
                let error = session.logout().await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::EndingFailed);
                Ok(session.logout().await?)
            }),
        )
        .route(
            "/meanwhile/{what}",
            get(
                async move |session: Session, Path(what): Path<String>| -> Result<()> {
                    match &*what {
                        "set" => session.insert("set", "x".repeat(60))?,
                        _ => {
                            session.update("set", |text: &mut String| {
                                assert!(text.is_empty(), "marker-of-a-panic");
                                text.push('!');
                            })?;
                        }
                    }
                    let happens = meanwhile.lock().unwrap().take();
                    happens.unwrap().await;
                    Ok(())
                },
            ),
        )
}

fn handle_of(id: &str) -> Handle {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = Vec::new();
    for group in id.as_bytes()[..24].chunks(4) {
        let bits = group.iter().fold(0_u32, |bits, char| {
            let digit = ALPHABET.iter().position(|known| known == char).unwrap();
            bits << 6 | u32::try_from(digit).unwrap()
        });
        bytes.extend(&bits.to_be_bytes()[1..]);
    }
    Handle::from_bytes(bytes[..16].try_into().unwrap())
}

fn id_of(pair: &str) -> &str {
    pair.split_once('=').unwrap().1
}

/// Gives the record of this session another payload.
async fn spoil(rig: &Rig, handle: &Handle, format: u8) {
    let record = rig.store.load(handle).await.unwrap().unwrap();
    let spoilt = Record {
        payload: Arc::from([format, 0, 0]),
        ..record.clone()
    };
    let outcome = rig
        .store
        .update(handle, &spoilt, record.version, SystemClock.now())
        .await;
    assert_eq!(outcome.unwrap(), Outcome::Done);
}

// Each event, in the log and to the callback.

#[tokio::test(start_paused = true)]
async fn each_event_of_the_table_is_told_to_the_log_and_to_the_callback() {
    let (log, _turn) = log().await;
    let mut seen = BTreeSet::new();
    seen.append(&mut lives(&log).await);
    seen.append(&mut ids(&log).await);
    seen.append(&mut cookies(&log).await);
    seen.append(&mut headers(&log).await);
    seen.append(&mut forgeries(&log).await);
    seen.append(&mut changes(&log).await);
    seen.append(&mut failures(&log).await);
    seen.append(&mut sweeps(&log).await);
    // What is ended for the sake of a user's other sessions is in the tests of those.
    for elsewhere in ["other_session", "limit", "failed_login"] {
        seen.insert(("ended".to_owned(), elsewhere.to_owned()));
    }
    let documented: BTreeSet<_> = table().into_keys().collect();
    assert_eq!(seen, documented);
}

async fn lives(log: &Log) -> BTreeSet<(String, String)> {
    let mut rig = Rig::new(log, |layer| {
        layer
            .renew_ids_every(MINUTE * 30)
            .end_session_on_copied_id()
    });
    let first = visit(&rig.app, "/set/a").await;
    rig.expect(&["created"], &first);
    let login = rig.get("/login/alice", &first.pair()).await;
    let seen = rig.expect_told(&["renewed: login", "logged_in"]);
    assert_eq!(seen[0].handle, Some(handle_of(&login.id())));
    assert_eq!(seen[0].user_id.as_deref(), Some("alice"));
    let renewed = rig.get("/renew", &login.pair()).await;
    rig.expect(&["renewed: renew_id"], &renewed);
    rig.clock.advance(MINUTE * 30);
    let scheduled = rig.get("/read", &renewed.pair()).await;
    rig.expect(&["renewed: schedule"], &scheduled);
    let out = rig.get("/logout", &scheduled.pair()).await;
    rig.expect(&["ended: request", "logged_out"], &out);

    // Nobody logs out of a session that is nobody's.
    let nobody = visit(&rig.app, "/set/a").await;
    rig.expect(&["created"], &nobody);
    rig.get("/logout", &nobody.pair()).await;
    rig.expect_told(&["ended: request"]);
    // A logout that succeeds at the second try is one.
    let alice = rig.logged_in().await;
    let fails = Times::Next(1);
    rig.store.fail(Operation::Delete, When::BeforeEffect, fails);
    rig.get("/logout-again", &alice).await;
    let seen = rig.expect_told(&["store_failed", "ended: request", "logged_out"]);
    assert_eq!(seen[2].user_id.as_deref(), Some("alice"));

    let alice = rig.logged_in().await;
    let bob = rig.get("/login/bob", &alice).await;
    let seen = rig.expect_told(&["ended: another_user", "created", "logged_in"]);
    assert_eq!(seen[0].handle, Some(handle_of(id_of(&alice))));
    assert_eq!(seen[0].user_id.as_deref(), Some("alice"));
    assert_eq!(seen[2].handle, Some(handle_of(&bob.id())));
    assert_eq!(seen[2].user_id.as_deref(), Some("bob"));
    let handle = handle_of(&bob.id());
    assert!(rig.layer.sessions().end(&handle).await.unwrap());
    assert_eq!(rig.expect_told(&["ended: app"])[0].handle, Some(handle));
    assert!(!rig.layer.sessions().end(&handle).await.unwrap());
    rig.expect_told(&[]);

    let copied = rig.logged_in().await;
    rig.clock.advance(MINUTE * 30);
    let current = rig.get("/read", &copied).await.pair();
    rig.get("/read", &current).await;
    rig.clock.advance(GRACE);
    rig.expect_told(&["renewed: schedule"]);
    rig.get("/read", &copied).await;
    let seen = rig.expect_told(&["copy_in_use", "ended: copy_in_use"]);
    assert!(
        seen.iter()
            .all(|seen| seen.user_id.as_deref() == Some("alice"))
    );
    rig.seen
}

async fn ids(log: &Log) -> BTreeSet<(String, String)> {
    let mut rig = Rig::new(log, |layer| layer);
    let alice = rig.logged_in().await;
    let (name, id) = alice.split_once('=').unwrap();
    rig.get("/read", &format!("{name}=abc")).await;
    assert_eq!(rig.expect_told(&["refused: malformed"])[0].handle, None);
    let made_up = format!("{name}={}", "A".repeat(48));
    rig.get("/read", &made_up).await;
    let seen = rig.expect_told(&["refused: unknown"]);
    assert_eq!(seen[0].handle, Some(Handle::from_bytes([0; 16])));
    let wrong = format!("{name}={}{}", &id[..22], "A".repeat(26));
    rig.get("/read", &wrong).await;
    rig.expect_told(&["refused: wrong_secret"]);

    let current = rig.get("/renew", &alice).await.pair();
    rig.expect_told(&["renewed: renew_id"]);
    for wait in [Duration::ZERO, GRACE] {
        rig.clock.advance(wait);
        rig.get("/read", &alice).await;
        rig.expect_told(&["retired_id_used"]);
    }
    rig.clock.advance(MINUTE * 60);
    rig.get("/read", &current).await;
    let seen = rig.expect_told(&["expired"]);
    assert_eq!(seen[0].user_id.as_deref(), Some("alice"));

    let spoilt = rig.logged_in().await;
    spoil(&rig, &handle_of(id_of(&spoilt)), 0).await;
    rig.get("/read", &spoilt).await;
    rig.expect_told(&["refused: undecodable"]);
    spoil(&rig, &handle_of(id_of(&spoilt)), 200).await;
    assert_eq!(rig.get("/read", &spoilt).await.status, 503);
    rig.expect_told(&["store_failed"]);
    rig.seen
}

async fn headers(log: &Log) -> BTreeSet<(String, String)> {
    let mut rig = Rig::new(log, |layer| layer.id_header("X-Auth-Token"));
    let read = async |rig: &Rig, values: &[&str]| {
        let mut request = Request::get("/read");
        for value in values {
            request = request.header("x-auth-token", *value);
        }
        call(&rig.app, request.body(Body::empty()).unwrap()).await
    };
    let pair = rig.logged_in().await;
    let answer = read(&rig, &[id_of(&pair)]).await;
    rig.expect(&["refused: other_carrier"], &answer);
    let answer = read(&rig, &["a", "b"]).await;
    rig.expect(&["refused: differing_headers"], &answer);
    rig.seen
}

async fn forgeries(log: &Log) -> BTreeSet<(String, String)> {
    let mut rig = Rig::new(log, |layer| layer);
    rig.app = Router::new()
        .route("/guarded", post(async |_: CsrfGuard| "done"))
        .layer(rig.layer.clone())
        .merge(rig.app);
    let send = async |rig: &Rig, lines: &[(&str, &str)]| {
        let mut request = Request::post("/guarded");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        call(&rig.app, request.body(Body::empty()).unwrap()).await
    };
    let pair = rig.logged_in().await;
    for (lines, told) in [
        (vec![("cookie", &*pair)], "csrf_refused: missing_token"),
        (
            vec![("cookie", &*pair), ("x-csrf-token", "x")],
            "csrf_refused: wrong_token",
        ),
        (
            vec![("sec-fetch-site", "cross-site")],
            "csrf_refused: cross_origin",
        ),
    ] {
        let answer = send(&rig, &lines).await;
        assert_eq!(answer.status, 403);
        rig.expect(&[told], &answer);
    }
    rig.seen
}

async fn cookies(log: &Log) -> BTreeSet<(String, String)> {
    let mut rig = Rig::new(log, |layer| {
        layer.path("/").max_cookies(3).max_cookie_bytes(300)
    });
    let alice = rig.logged_in().await;
    rig.get("/read", &format!("{alice}; {alice}")).await;
    rig.expect_told(&["duplicate_cookie: same_value"]);
    rig.get("/read", &format!("{alice}; {alice}x")).await;
    rig.expect_told(&["duplicate_cookie: too_many_values"]);
    rig.get("/read", &format!("{alice}; a; b; c")).await;
    rig.expect_told(&["cookies_over_limit: cookies"]);
    rig.get("/read", &format!("{alice}; {}", "a".repeat(300)))
        .await;
    rig.expect_told(&["cookies_over_limit: bytes"]);

    let mut seen = rig.seen;
    let mut rig = Rig::new(log, |layer| layer.path("/read"));
    let (one, other) = (rig.logged_in().await, rig.logged_in().await);
    rig.get("/read", &format!("{one}; {other}")).await;
    rig.expect_told(&[
        "duplicate_cookie: two_values",
        "duplicate_cookie: two_sessions",
    ]);
    seen.append(&mut rig.seen);
    seen
}

async fn changes(log: &Log) -> BTreeSet<(String, String)> {
    let mut rig = Rig::new(log, |layer| layer.max_session_size(100));
    let alice = rig.logged_in().await;
    let handle = handle_of(id_of(&alice));
    let sessions = rig.layer.sessions();
    rig.meanwhile(async move { assert!(sessions.end(&handle).await.unwrap()) });
    assert_eq!(rig.get("/meanwhile/set", &alice).await.status, 200);
    let seen = rig.expect_told(&["ended: app", "changes_dropped: ended"]);
    assert_eq!(seen[1].handle, Some(handle));
    assert_eq!(seen[1].user_id.as_deref(), Some("alice"));

    let alice = rig.logged_in().await;
    let clock = rig.clock.clone();
    rig.meanwhile(async move { clock.advance(MINUTE * 60) });
    rig.get("/meanwhile/set", &alice).await;
    rig.expect_told(&["changes_dropped: expired"]);

    let alice = rig.logged_in().await;
    let (app, pair) = (rig.app.clone(), alice.clone());
    rig.meanwhile(async move { assert_eq!(get_with(&app, "/renew", &[pair]).await.status, 200) });
    rig.get("/meanwhile/set", &alice).await;
    rig.expect_told(&["renewed: renew_id", "changes_dropped: retired"]);

    // Each fits alone, and both together do not.
    let alice = rig.logged_in().await;
    let (app, pair) = (rig.app.clone(), alice.clone());
    rig.meanwhile(async move { assert_eq!(get_with(&app, "/set/a", &[pair]).await.status, 200) });
    assert_eq!(rig.get("/meanwhile/set", &alice).await.status, 500);
    let seen = rig.expect_told(&["changes_failed", "response_replaced"]);
    assert!(
        seen.iter()
            .all(|seen| seen.handle == Some(handle_of(id_of(&alice))))
    );

    let alice = rig.logged_in().await;
    let (app, pair) = (rig.app.clone(), alice.clone());
    rig.meanwhile(async move { assert_eq!(get_with(&app, "/set/set", &[pair]).await.status, 200) });
    assert_eq!(rig.get("/meanwhile/update", &alice).await.status, 503);
    rig.expect_told(&["write_panicked", "changes_failed"]);
    rig.seen
}

async fn failures(log: &Log) -> BTreeSet<(String, String)> {
    let mut rig = Rig::new(log, |layer| layer);
    let alice = rig.logged_in().await;
    rig.store
        .fail(Operation::Update, When::BeforeEffect, Times::Next(1));
    assert_eq!(rig.get("/save", &alice).await.status, 503);
    let seen = rig.expect_told(&["store_failed", "changes_failed"]);
    assert_eq!(seen[0].handle, Some(handle_of(id_of(&alice))));

    let told = Told::default();
    let layer = SessionLayer::builder(ContendedStore::default())
        .retry_for(Duration::ZERO)
        .user_ids_in_events()
        .on_event(told.callback());
    rig.app = routes(&rig.meanwhile).layer(layer.build().unwrap());
    rig.told = told;
    let alice = rig.logged_in().await;
    assert_eq!(rig.get("/set/a", &alice).await.status, 503);
    rig.expect_told(&["contention", "changes_failed"]);
    rig.seen
}

async fn sweeps(log: &Log) -> BTreeSet<(String, String)> {
    let mut rig = Rig::new(log, |layer| layer);
    rig.logged_in().await;
    rig.clock.advance(MINUTE * 62);
    rig.store
        .fail(Operation::DeleteExpired, When::BeforeEffect, Times::Next(1));
    let (sender, mut swept) = tokio::sync::mpsc::unbounded_channel();
    let note = rig.told.callback();
    let sweeper = Sweeper::builder(rig.store.clone())
        .clock(rig.clock.clone())
        .on_event(move |event| {
            note(event);
            sender.send((event.kind(), event.deleted())).unwrap();
        })
        .spawn(MINUTE);
    assert_eq!(swept.recv().await, Some((EventKind::SweepFailed, Some(0))));
    assert_eq!(swept.recv().await, Some((EventKind::Swept, Some(1))));
    sweeper.stop().await;
    rig.expect_told(&["sweep_failed", "swept"]);
    rig.seen
}

// What is told, and what is not.

#[tokio::test]
async fn an_unused_session_and_a_plain_read_tell_nothing() {
    let (log, _turn) = log().await;
    let mut rig = Rig::new(&log, |layer| layer);
    let alice = rig.logged_in().await;
    for path in ["/unused", "/read"] {
        for pair in ["", &alice] {
            rig.get(path, pair).await;
        }
    }
    // Written as activity, which is no news either.
    rig.clock.advance(MINUTE * 10);
    rig.get("/read", &alice).await;
    rig.get("/set/a", &alice).await;
    rig.expect_told(&[]);
    assert!(log.having("").is_empty());
}

#[tokio::test]
async fn users_are_not_named_unless_that_is_allowed() {
    let (log, _turn) = log().await;
    let told = Told::default();
    let layer = SessionLayer::builder(MemoryStore::new()).on_event(told.callback());
    let app = routes(&Meanwhile::default()).layer(layer.build().unwrap());
    let alice = visit(&app, "/login/alice").await.pair();
    let alice = get_with(&app, "/renew", &[alice]).await.pair();
    get_with(&app, "/logout", &[alice]).await;
    let seen = told.take();
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert!(seen.iter().all(|seen| seen.user_id.is_none()));
    assert!(seen.iter().all(|seen| seen.handle.is_some()));
    let lines = log.having(" event=");
    assert_eq!(lines.len(), 5);
    assert!(
        lines
            .iter()
            .all(|line| !line.contains("alice") && !line.contains("user_id"))
    );
}

#[tokio::test]
async fn a_failure_is_told_with_what_failed_and_how() {
    // What it logs would be in the way of others.
    let (_log, _turn) = log().await;
    let failures = Arc::new(Mutex::new(Vec::new()));
    let noted = failures.clone();
    let store = FailingStore::new(MemoryStore::new());
    let layer = SessionLayer::builder(store.clone()).on_event(move |event: &Event<'_>| {
        noted.lock().unwrap().push((
            event.kind(),
            event.operation(),
            event.store_error_kind(),
            event.error().map(ToString::to_string),
            event.error_kind(),
        ));
    });
    let app = routes(&Meanwhile::default()).layer(layer.build().unwrap());
    let timed_out = || StoreError::timed_out("too slow");
    store.fail_with(
        Operation::Create,
        When::BeforeEffect,
        Times::Next(1),
        timed_out,
    );
    assert_eq!(visit(&app, "/save").await.status, 503);
    assert_eq!(
        *failures.lock().unwrap(),
        [
            (
                EventKind::StoreFailed,
                Some("create"),
                Some(StoreErrorKind::TimedOut),
                Some("too slow".to_owned()),
                None
            ),
            (
                EventKind::ChangesFailed,
                None,
                None,
                None,
                Some(ErrorKind::Store)
            ),
        ]
    );
}

/// A browser that keeps an old cookie of another path, which no newer one replaces, brings both for good.
#[tokio::test]
async fn who_brings_the_current_id_as_well_has_no_copy() {
    let (log, _turn) = log().await;
    let mut rig = Rig::new(&log, |layer| {
        let layer = layer.renew_ids_every(MINUTE).end_session_on_copied_id();
        layer.path("/read")
    });
    let old = rig.logged_in().await;
    rig.get("/set/a", &old).await;
    rig.clock.advance(MINUTE);
    let current = rig.get("/read", &old).await.pair();
    rig.expect_told(&["renewed: schedule"]);
    for both in [format!("{old}; {current}"), format!("{current}; {old}")] {
        assert_eq!(rig.get("/read", &both).await.body, "a");
        rig.clock.advance(GRACE);
        rig.told.take();
        rig.log.clear();
        assert_eq!(rig.get("/read", &both).await.body, "a");
        rig.expect_told(&["duplicate_cookie: two_values", "retired_id_used"]);
    }
    rig.get("/read", &current).await;
    rig.expect_told(&[]);
}

// What a callback cannot do.

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("marker-of-a-panic"));
    }
}

/// The answers of an app to a whole story.
async fn story(layer: SessionLayerBuilder, store: &FailingStore<MemoryStore>) -> Vec<String> {
    let layer = layer.build().unwrap();
    let app = routes(&Meanwhile::default()).layer(layer.clone());
    let (mut pair, mut answers) = (String::new(), Vec::new());
    for path in [
        "/set/a",
        "/read",
        "/renew",
        "/login/alice",
        "/set/b",
        "/save",
        "!load",
        "/read",
        "!update",
        "/save",
        "!update",
        "/login/alice",
        "/login/alice",
        "/login/bob",
        "!delete",
        "/logout",
        "/read",
        "/logout-again",
        "/logout",
        "/read",
        "/set/c",
        "/login/alice",
        "/logout",
        "/read",
    ] {
        match path {
            "!load" => store.fail(Operation::Load, When::BeforeEffect, Times::Next(1)),
            "!update" => store.fail(Operation::Update, When::BeforeEffect, Times::Next(1)),
            "!delete" => store.fail(Operation::Delete, When::BeforeEffect, Times::Next(1)),
            "/logout-again" => {
                store.fail(Operation::Delete, When::BeforeEffect, Times::Next(1));
                answers.push(format!("{:?}", get_with(&app, path, &[&pair]).await.status));
                pair = visit(&app, "/login/alice").await.pair();
            }
            _ => {
                let answer = get_with(&app, path, &[&pair]).await;
                let set = answer.set_cookies();
                answers.push(format!("{path} {} {} {set:?}", answer.status, answer.body));
                if set.first().is_some_and(|line| line.contains("<id>")) {
                    pair = answer.pair();
                }
            }
        }
    }
    answers
}

#[tokio::test]
async fn a_callback_that_panics_changes_nothing() {
    let (log, _turn) = log().await;
    let store = || FailingStore::new(MemoryStore::new());
    let quiet = store();
    let expected = story(SessionLayer::builder(quiet.clone()), &quiet).await;
    assert!(expected.iter().any(|answer| answer.contains("503")));
    log.clear();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let panicking = store();
    let layer =
        SessionLayer::builder(panicking.clone()).on_event(move |_: &Event<'_>| {
            match counted.fetch_add(1, Ordering::Relaxed) % 2 {
                0 => std::panic::resume_unwind(Box::new("marker-of-a-panic")),
                _ => std::panic::resume_unwind(Box::new(Bomb)),
            }
        });
    assert_eq!(story(layer, &panicking).await, expected);

    // It is called with each event all the same, and told of at each doubling.
    let events = log.having(" event=").len();
    assert_eq!(calls.load(Ordering::Relaxed), events);
    let told: Vec<_> = log.having("the callback of on_event panicked");
    let panics = |n: usize| format!(" panics={n}");
    let doublings: Vec<_> = (0..).map(|n| 1 << n).take_while(|n| *n <= events).collect();
    assert_eq!(told.len(), doublings.len(), "{told:?}");
    for (line, n) in told.iter().zip(doublings) {
        assert!(
            line.starts_with("ERROR ") && line.ends_with(&panics(n)),
            "{line}"
        );
    }
    assert!(log.lines().iter().all(|line| !line.contains("marker")));
}

#[tokio::test]
async fn a_callback_of_a_sweeper_that_panics_does_not_end_it() {
    // What it logs would be in the way of others.
    let (_log, _turn) = log().await;
    tokio::time::pause();
    let (sender, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let _sweeper = Sweeper::builder(MemoryStore::new())
        .on_event(move |_| {
            sender.send(()).unwrap();
            std::panic::resume_unwind(Box::new("marker-of-a-panic"));
        })
        .spawn(MINUTE);
    for _ in 0..3 {
        calls.recv().await.unwrap();
    }
}

/// Each event comes when the session can be used: by a callback that holds it, in another thread.
#[tokio::test]
async fn a_callback_runs_under_no_lock() {
    // What it logs would be in the way of others.
    let (_log, _turn) = log().await;
    let held: Arc<Mutex<Option<Session>>> = Arc::default();
    let names = Arc::new(Mutex::new(BTreeSet::new()));
    let (session, noted) = (held.clone(), names.clone());
    let store = FailingStore::new(MemoryStore::new());
    let clock = ManualClock::new();
    let layer = SessionLayer::builder(store.clone())
        .clock(clock.clone())
        .on_event(move |event: &Event<'_>| {
            let Some(session) = session.lock().unwrap().clone() else {
                return;
            };
            let (done, waits) = mpsc::channel();
            std::thread::spawn(move || done.send(session.handle()));
            let read = waits.recv_timeout(Duration::from_secs(20));
            assert!(read.is_ok(), "the session is locked");
            noted.lock().unwrap().insert(event.kind().name());
        })
        .build()
        .unwrap();
    let keep = held.clone();
    let (sessions, advancing) = (layer.sessions(), clock.clone());
    let app = Router::new().route(
        "/{what}",
        get(
            async move |session: Session, Path(what): Path<String>| -> Result<()> {
                *keep.lock().unwrap() = Some(session.clone());
                session.update("a", |n: &mut u64| *n += 1)?;
                match &*what {
                    "login" => session.login("alice").await?,
                    "renew" => session.renew_id()?,
                    "logout" => session.logout().await?,
                    "end" => {
                        assert!(sessions.end(&session.handle().unwrap()).await.unwrap());
                    }
                    "expire" => advancing.advance(MINUTE * 60),
                    _ => {}
                }
                Ok(())
            },
        ),
    );
    let app = app.layer(layer);
    let mut pair = visit(&app, "/write").await.pair();
    for path in [
        "/login", "/renew", "/!", "/end", "/login", "/logout", "/login", "/expire",
    ] {
        if path == "/!" {
            store.fail(Operation::Update, When::BeforeEffect, Times::Next(1));
        }
        let answer = get_with(&app, path, &[&pair]).await;
        if answer
            .set_cookies()
            .iter()
            .any(|line| line.contains("<id>"))
        {
            pair = answer.pair();
        }
    }
    let expected = [
        "changes_dropped",
        "changes_failed",
        "created",
        "ended",
        "logged_in",
        "logged_out",
        "renewed",
        "store_failed",
    ];
    let names = names.lock().unwrap();
    assert!(names.is_superset(&BTreeSet::from(expected)), "{names:?}");
}

/// A store whose loads never come to an end, and which counts how many are under way.
#[derive(Clone, Debug, Default)]
struct Hanging(Arc<AtomicUsize>);

struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl SessionStore for Hanging {
    async fn create(&self, _: &Handle, _: &Record) -> Result<(), StoreError> {
        Ok(())
    }

    async fn load(&self, _: &Handle) -> Result<Option<Record>, StoreError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let _under_way = UnderWay(self.0.clone());
        std::future::pending().await
    }

    async fn update(
        &self,
        _: &Handle,
        _: &Record,
        _: Version,
        _: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        Ok(Outcome::Missing)
    }

    async fn touch(
        &self,
        _: &Handle,
        _: OffsetDateTime,
        _: Version,
        _: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        Ok(Outcome::Missing)
    }

    async fn delete(&self, _: &Handle) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn delete_expired(&self, _: OffsetDateTime, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_runs_when_a_store_call_that_took_too_long_is_gone() {
    // What it logs would be in the way of others.
    let (_log, _turn) = log().await;
    let store = Hanging::default();
    let under_way = store.0.clone();
    let (sender, told) = mpsc::channel();
    let layer = SessionLayer::builder(store).on_event(move |event: &Event<'_>| {
        let left = under_way.load(Ordering::SeqCst);
        sender.send((event.kind(), left)).unwrap();
    });
    let app = routes(&Meanwhile::default()).layer(layer.build().unwrap());
    let pair = format!("__Host-Http-id={}", "A".repeat(48));
    assert_eq!(get_with(&app, "/read", &[pair]).await.status, 503);
    assert_eq!(told.try_recv().unwrap(), (EventKind::StoreFailed, 0));
}
