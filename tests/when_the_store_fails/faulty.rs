//! An app whose store fails as it is told.

use std::future::pending;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use cloakroom::clock::from_unix_millis;
use cloakroom::store::{Handle, Outcome, Record, Version};
use cloakroom::testing::{FailingStore, ManualClock, Operation, SpyStore, Times, When};
use cloakroom::{Session, SessionLayer, SessionStore};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::subscriber::DefaultGuard;

use super::answer::Answer;
use super::captured_logs::Log;
use super::support::{
    BoxFuture, COOKIE, Client, Hooked, Setup, app, handle_of, in_memory, with_errors_shown,
};

/// What a [`FailingStore`] cannot do.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    /// From this operation on, nothing is answered.
    SilentFrom(Operation),
    /// This operation is done, and not answered.
    NoAnswerTo(Operation),
    /// Once this operation was called, no load succeeds.
    DownAfter(Operation),
    /// This operation panics.
    PanicAt(Operation),
    /// Another node is a moment earlier with each update.
    Contended,
    /// Nothing is answered.
    Silent,
}

/// A browser with `a=1` in its session, at an app with the limits of time that a layer has by default.
pub(super) struct Faulty {
    pub(super) client: Client,
    /// Works, whatever the app's store does.
    pub(super) setup: Setup,
    pub(super) failing: FailingStore<Arc<dyn SessionStore>>,
    pub(super) spy: SpyStore<Hooked>,
    /// How often the handler of `/handled` ran.
    pub(super) handled: Arc<AtomicUsize>,
    fault: Arc<Mutex<Option<Fault>>>,
    log: Log,
    _logging: DefaultGuard,
}

impl Faulty {
    pub(super) async fn new() -> Self {
        let (log, logging) = Log::of_this_thread();
        let setup = in_memory();
        let failing = setup.failing();
        let fault = Arc::new(Mutex::new(None));
        let spy = SpyStore::new(hooked(&failing, &fault, setup.store.clone()));
        let handled = Arc::new(AtomicUsize::new(0));
        let client = client(&setup.clock, &spy, &handled);
        client.post("/set/a/1").await.assert_status(StatusCode::OK);
        spy.reset();
        Self {
            client,
            setup,
            failing,
            spy,
            handled,
            fault,
            log,
            _logging: logging,
        }
    }

    pub(super) fn fault(&self, fault: Fault) {
        *lock(&self.fault) = Some(fault);
    }

    /// The store works again.
    pub(super) fn heal(&self) {
        *lock(&self.fault) = None;
        self.failing.heal();
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        Answer::to_get(&self.client, path, &self.log).await
    }

    pub(super) async fn post(&self, path: &str) -> Answer {
        Answer::to_post(&self.client, path, &self.log).await
    }

    /// What the session holds, once the store works again, and that nothing is amiss.
    pub(super) async fn is_unharmed(&self, contents: &str) {
        self.heal();
        let answer = self.get("/show").await;
        answer.is_the_page(contents).logs(&[]).is_at_once();
    }

    pub(super) fn handle(&self) -> Handle {
        handle_of(&self.client.cookie(COOKIE).unwrap())
    }

    pub(super) async fn record(&self) -> Record {
        let found = self.setup.store.load(&self.handle()).await;
        found.unwrap().unwrap()
    }

    /// Has the record hold this, as if a disk or another program had done so.
    pub(super) async fn overwrite(&self, payload: &[u8]) {
        let found = self.record().await;
        let record = Record {
            version: Version::from_u64(found.version.to_u64().wrapping_add(1)),
            payload: payload.into(),
            ..found
        };
        overtake(&*self.setup.store, &self.handle(), found.version, record).await;
    }
}

fn client(clock: &ManualClock, spy: &SpyStore<Hooked>, handled: &Arc<AtomicUsize>) -> Client {
    let layer = SessionLayer::builder(spy.clone()).clock(clock.clone());
    let handled = handled.clone();
    let counted = async move |_: Session| {
        handled.fetch_add(1, Ordering::Relaxed);
    };
    let router = app()
        .merge(Router::new().route("/handled", get(counted)))
        .layer(layer.build().unwrap())
        .layer(CatchPanicLayer::new());
    let transport = super::support::Transport::InProcess(with_errors_shown(router));
    Client::with_body(transport).clock(clock.clone())
}

fn hooked(
    failing: &FailingStore<Arc<dyn SessionStore>>,
    fault: &Arc<Mutex<Option<Fault>>>,
    beneath: Arc<dyn SessionStore>,
) -> Hooked {
    let (before, after, down) = (fault.clone(), fault.clone(), failing.clone());
    let versions = Arc::new(AtomicU64::new(0));
    Hooked::new(
        Arc::new(failing.clone()),
        move |operation, handle| {
            let (fault, beneath, versions) = (before.clone(), beneath.clone(), versions.clone());
            Box::pin(async move {
                let now = *lock(&fault);
                match now {
                    Some(Fault::SilentFrom(first)) if first == operation => {
                        *lock(&fault) = Some(Fault::Silent);
                        pending().await
                    }
                    Some(Fault::Silent) => pending().await,
                    Some(Fault::PanicAt(that)) if that == operation => panic!("the store panics"),
                    Some(Fault::Contended) if operation == Operation::Update => {
                        let handle = handle.unwrap();
                        let found = beneath.load(&handle).await.unwrap().unwrap();
                        let version = versions.fetch_add(1, Ordering::Relaxed);
                        let record = Record {
                            version: Version::from_u64(version),
                            ..found.clone()
                        };
                        overtake(&*beneath, &handle, found.version, record).await;
                    }
                    _ => {}
                }
            }) as BoxFuture<()>
        },
        move |operation, _| {
            let (fault, down) = (after.clone(), down.clone());
            Box::pin(async move {
                let now = *lock(&fault);
                match now {
                    Some(Fault::NoAnswerTo(that)) if that == operation => {
                        *lock(&fault) = None;
                        pending().await
                    }
                    Some(Fault::DownAfter(that)) if that == operation => {
                        down.fail(Operation::Load, When::BeforeEffect, Times::Always);
                    }
                    _ => {}
                }
            })
        },
    )
}

async fn overtake(store: &dyn SessionStore, handle: &Handle, expected: Version, record: Record) {
    let updated = store.update(handle, &record, expected, from_unix_millis(0));
    assert_eq!(updated.await.unwrap(), Outcome::Done);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
