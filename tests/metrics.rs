//! What goes to the recorder of the `metrics` facade.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/http_surface.rs"]
mod http_surface;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::response::Result;
use axum::routing::get;
use cloakroom::store::{MemoryStore, StoreError};
use cloakroom::testing::{FailingStore, ManualClock, Operation, Times, When};
use cloakroom::{Session, SessionLayer, Sweeper};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use self::http_surface::{get as get_with, visit};

const MINUTE: Duration = Duration::from_secs(60);

/// The sum of each counter and the number of values of each histogram, by `name{label=value,…}`.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<BTreeMap<String, u64>>>);

impl Recorded {
    /// What was recorded since the last time, in the order of the names.
    fn take(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut *self.0.lock().unwrap())
            .into_iter()
            .collect()
    }

    fn value(&self, key: &Key) -> Arc<Value> {
        let labels = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()));
        let labels: Vec<_> = labels.collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        let recorded = self.clone();
        Arc::new(Value { recorded, name })
    }
}

struct Value {
    recorded: Recorded,
    name: String,
}

impl Value {
    fn add(&self, value: u64) {
        let mut values = self.recorded.0.lock().unwrap();
        *values.entry(self.name.clone()).or_default() += value;
    }
}

impl CounterFn for Value {
    fn increment(&self, value: u64) {
        self.add(value);
    }

    fn absolute(&self, _: u64) {
        unreachable!("counters are only incremented");
    }
}

impl HistogramFn for Value {
    fn record(&self, value: f64) {
        assert!((0.0..60.0).contains(&value), "seconds: {value}");
        self.add(1);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        unreachable!("there is no gauge");
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.value(key))
    }
}

fn routes() -> Router {
    Router::new()
        .route("/unused", get("unused"))
        .route(
            "/read",
            get(async |session: Session| session.is_new().to_string()),
        )
        .route(
            "/write",
            get(async |session: Session| -> Result<()> {
                session.update("n", |n: &mut u64| *n += 1)?;
                Ok(())
            }),
        )
        .route(
            "/login",
            get(async |session: Session| -> Result<()> { Ok(session.login("alice").await?) }),
        )
        .route(
            "/logout",
            get(async |session: Session| -> Result<()> { Ok(session.logout().await?) }),
        )
}

fn counted(event: &str, cause: &str) -> (String, u64) {
    let name = format!("cloakroom_events_total{{event={event},cause={cause}}}");
    (name, 1)
}

fn called(operation: &str, outcome: &str, times: u64) -> (String, u64) {
    let labels = format!("operation={operation},outcome={outcome}");
    (
        format!("cloakroom_store_call_duration_seconds{{{labels}}}"),
        times,
    )
}

#[tokio::test]
async fn events_and_store_calls_are_counted() {
    let recorded = Recorded::default();
    let _guard = metrics::set_default_local_recorder(&recorded);
    let clock = ManualClock::new();
    let store = FailingStore::new(MemoryStore::new());
    let layer = SessionLayer::builder(store.clone()).clock(clock.clone());
    let app = routes().layer(layer.build().unwrap());

    visit(&app, "/unused").await;
    visit(&app, "/read").await;
    assert_eq!(recorded.take(), [], "unused is free");
    let pair = visit(&app, "/write").await.pair();
    assert_eq!(
        recorded.take(),
        [counted("created", ""), called("create", "ok", 1)]
    );
    get_with(&app, "/unused", &[&pair]).await;
    assert_eq!(recorded.take(), [], "unused is free");
    get_with(&app, "/read", &[&pair]).await;
    assert_eq!(recorded.take(), [called("load", "ok", 1)]);
    clock.advance(MINUTE * 10);
    get_with(&app, "/read", &[&pair]).await;
    assert_eq!(
        recorded.take(),
        [called("load", "ok", 1), called("touch", "ok", 1)]
    );
    let pair = get_with(&app, "/login", &[&pair]).await.pair();
    assert_eq!(
        recorded.take(),
        [
            counted("logged_in", ""),
            counted("renewed", "login"),
            called("link", "ok", 1),
            // The response looks once more.
            called("load", "ok", 2),
            called("update", "ok", 1),
        ]
    );

    store.fail(Operation::Update, When::AfterEffect, Times::Next(1));
    get_with(&app, "/write", &[&pair]).await;
    assert_eq!(
        recorded.take(),
        [
            counted("store_failed", ""),
            // Whether it took effect is asked of the store.
            called("load", "ok", 2),
            called("update", "unavailable", 1),
        ]
    );
    for (error, outcome) in [
        (
            StoreError::handle_in_use as fn() -> StoreError,
            "handle_in_use",
        ),
        (|| StoreError::full("x"), "full"),
        (|| StoreError::timed_out("x"), "timed_out"),
        (|| StoreError::unconfirmed("x"), "unconfirmed"),
        (|| StoreError::undecodable("x", "y"), "undecodable"),
    ] {
        store.fail_with(Operation::Delete, When::BeforeEffect, Times::Next(1), error);
        get_with(&app, "/logout", &[&pair]).await;
        let metrics = recorded.take();
        assert!(
            metrics.contains(&called("delete", outcome, 1)),
            "{metrics:?}"
        );
    }
    get_with(&app, "/logout", &[&pair]).await;
    assert_eq!(
        recorded.take(),
        [
            counted("ended", "request"),
            counted("logged_out", ""),
            called("delete", "ok", 1),
            called("load", "ok", 1),
            called("unlink", "ok", 1),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn swept_sessions_are_counted() {
    let recorded = Recorded::default();
    let _guard = metrics::set_default_local_recorder(&recorded);
    let clock = ManualClock::new();
    let store = Arc::new(MemoryStore::new());
    let layer = SessionLayer::builder(store.clone()).clock(clock.clone());
    let app = routes().layer(layer.build().unwrap());
    for _ in 0..3 {
        visit(&app, "/write").await;
    }
    recorded.take();
    clock.advance(MINUTE * 62);
    let (sender, mut swept) = tokio::sync::mpsc::unbounded_channel();
    let sweeper = Sweeper::builder(store)
        .clock(clock)
        .on_event(move |_| sender.send(()).unwrap())
        .spawn(MINUTE);
    swept.recv().await.unwrap();
    sweeper.stop().await;
    assert_eq!(
        recorded.take(),
        [
            counted("swept", ""),
            ("cloakroom_swept_sessions_total{}".to_owned(), 3)
        ]
    );
}

#[tokio::test]
async fn a_callback_that_panics_is_counted() {
    let recorded = Recorded::default();
    let _guard = metrics::set_default_local_recorder(&recorded);
    let layer = SessionLayer::builder(MemoryStore::new())
        .on_event(|_| std::panic::resume_unwind(Box::new("on purpose")));
    let app = routes().layer(layer.build().unwrap());
    assert_eq!(visit(&app, "/write").await.status, 200);
    assert_eq!(
        recorded.take(),
        [
            counted("callback_panicked", ""),
            counted("created", ""),
            called("create", "ok", 1)
        ]
    );
}

/// Each name of the docs' table of metrics is one of the code, and the other way round.
#[test]
fn the_table_has_every_metric() {
    let docs = include_str!("../src/events.rs");
    let rows = docs
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `cloakroom_"));
    let documented: Vec<_> = rows.map(|row| row.split('`').next().unwrap()).collect();
    let code = include_str!("../src/events/metrics.rs");
    let coded: Vec<_> = code
        .split("\"cloakroom_")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(documented, coded);
}
