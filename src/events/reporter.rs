//! The one place that every event goes through.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::Level;

use super::{
    CsrfRefusal, DropCause, DuplicateCookie, EndedBy, Event, EventKind, Refusal, metrics,
    notices::{self, Chain, TARGET},
};
use crate::error::Error;
use crate::id::Handle;
use crate::state::Live;
use crate::state::plan::Dropped;
use crate::store::{Record, StoreError};

/// Tells events to the log, to the metrics, and to the app.
///
/// Each event is a function of it, so that a reviewer sees in one place that none carries a secret or data of
/// a session. None is to be called under a lock, or while a call of the store is under way: the app's
/// callback runs in it.
#[derive(Default)]
pub(crate) struct Reporter {
    pub(crate) callback: Option<Arc<Callback>>,
    pub(crate) user_ids: bool,
    panics: AtomicU64,
}

pub(crate) type Callback = dyn Fn(&Event<'_>) + Send + Sync;

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter")
            .field("has_callback", &self.callback.is_some())
            .field("user_ids", &self.user_ids)
            .finish_non_exhaustive()
    }
}

/// The session that an event is about.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) handle: Handle,
    /// Whose it is, if that is known.
    pub(crate) user_id: Option<Arc<str>>,
}

impl Subject {
    pub(crate) fn of(live: &Live) -> Self {
        Self::of_record(live.handle(), &live.record)
    }

    pub(crate) fn of_record(handle: &Handle, record: &Record) -> Self {
        Self {
            handle: *handle,
            user_id: record.user_id.clone(),
        }
    }
}

/// A session of which no more is known.
impl From<&Handle> for Subject {
    fn from(handle: &Handle) -> Self {
        Self {
            handle: *handle,
            user_id: None,
        }
    }
}

/// Without the user.
impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subject").field(&self.handle).finish()
    }
}

impl Reporter {
    /// What happened to a session, and needs no more words.
    pub(crate) fn tell(&self, kind: EventKind, subject: &Subject) {
        self.report(Event::about(kind, subject));
    }

    /// A session was ended.
    pub(crate) fn ended(&self, by: EndedBy, subject: &Subject) {
        self.tell(EventKind::Ended(by), subject);
        if by == EndedBy::Request && subject.user_id.is_some() {
            self.tell(EventKind::LoggedOut, subject);
        }
    }

    /// What a request brought as its id cannot be one.
    pub(crate) fn malformed_id(&self) {
        self.report(Event::new(EventKind::Refused(Refusal::Malformed)));
    }

    /// A record was left in place that cannot be read.
    pub(crate) fn undecodable(&self, subject: &Subject, error: &StoreError) {
        self.report(Event {
            error: Some(error),
            ..Event::about(EventKind::Refused(Refusal::Undecodable), subject)
        });
    }

    /// The lines that a request brought its id in are not those of one client.
    pub(crate) fn odd_lines(&self, kind: EventKind, cookie: Option<&str>) {
        self.report(Event {
            cookie,
            ..Event::new(kind)
        });
    }

    /// Two cookies of one name open two sessions.
    pub(crate) fn two_live_sessions(&self, cookie: &str) {
        let kind = EventKind::DuplicateCookie(DuplicateCookie::TwoSessions);
        self.odd_lines(kind, Some(cookie));
    }

    /// A request was refused, since another site may have caused it.
    pub(crate) fn csrf_refused(&self, why: CsrfRefusal, subject: Option<&Subject>) {
        self.report(Event::maybe_about(EventKind::CsrfRefused(why), subject));
    }

    /// Staged changes were dropped, since their session is no more.
    pub(crate) fn changes_dropped(&self, why: Dropped, subject: Option<&Subject>) {
        let cause = match why {
            Dropped::Ended => DropCause::Ended,
            Dropped::Expired => DropCause::Expired,
            Dropped::Retired => DropCause::Retired,
        };
        self.report(Event::maybe_about(
            EventKind::ChangesDropped(cause),
            subject,
        ));
    }

    /// Staged changes were not saved, and a client or a handler was told.
    pub(crate) fn changes_failed(&self, subject: Option<&Subject>, error: &Error) {
        self.report(Event {
            failed: Some(error),
            ..Event::maybe_about(EventKind::ChangesFailed, subject)
        });
    }

    /// A handler's response was replaced, since its changes could not be saved: nobody but the client would
    /// hear of it.
    pub(crate) fn response_replaced(&self, subject: Option<&Subject>, error: &Error) {
        self.report(Event {
            failed: Some(error),
            ..Event::maybe_about(EventKind::ResponseReplaced, subject)
        });
    }

    /// A task that wrote a session panicked.
    pub(crate) fn write_panicked(&self) {
        self.report(Event::new(EventKind::WritePanicked));
    }

    /// Other requests kept changing a session.
    pub(crate) fn contention(&self, subject: &Subject, limit: Duration) {
        self.report(Event {
            limit: Some(limit),
            ..Event::about(EventKind::Contention, subject)
        });
    }

    /// A store call failed.
    pub(crate) fn store_failed(
        &self,
        operation: &'static str,
        subject: Option<&Subject>,
        error: &StoreError,
    ) {
        self.report(Event {
            operation: Some(operation),
            error: Some(error),
            ..Event::maybe_about(EventKind::StoreFailed, subject)
        });
    }

    /// A sweep deleted this many expired records.
    pub(crate) fn swept(&self, deleted: usize) {
        metrics::swept(deleted);
        self.report(Event {
            deleted: Some(deleted),
            ..Event::new(EventKind::Swept)
        });
    }

    /// A sweep failed after it had deleted this many records; so many have failed in a row.
    pub(crate) fn sweep_failed(
        &self,
        error: &(dyn std::error::Error + 'static),
        deleted: usize,
        failures: u32,
    ) {
        metrics::swept(deleted);
        self.report(Event {
            error: Some(error),
            deleted: Some(deleted),
            failures: Some(failures),
            ..Event::new(EventKind::SweepFailed)
        });
    }

    fn report(&self, event: Event<'_>) {
        let event = Event {
            user_id: event.user_id.filter(|_| self.user_ids),
            ..event
        };
        log(&event);
        metrics::event(event.kind);
        self.call_back(&event);
    }

    /// What the callback does is its own business: a panic of it is told, and goes no further.
    fn call_back(&self, event: &Event<'_>) {
        let Some(callback) = &self.callback else {
            return;
        };
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| callback(event))) else {
            return;
        };
        // What it panicked with is the app's as well, and may panic when it is dropped.
        if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(another);
        }
        let panics = self.panics.fetch_add(1, Ordering::Relaxed) + 1;
        notices::callback_panicked(event.kind, panics);
    }
}

impl<'a> Event<'a> {
    fn about(kind: EventKind, subject: &'a Subject) -> Self {
        Self {
            handle: Some(&subject.handle),
            user_id: subject.user_id.as_deref(),
            ..Self::new(kind)
        }
    }

    fn maybe_about(kind: EventKind, subject: Option<&'a Subject>) -> Self {
        match subject {
            Some(subject) => Self::about(kind, subject),
            None => Self::new(kind),
        }
    }
}

/// Fields that an event does not have are not recorded, and none is formatted where nobody listens.
fn log(event: &Event<'_>) {
    // The level and the names of the fields belong to the place of a `tracing` event: one for each level.
    macro_rules! log_at {
        ($level:ident) => {
            tracing::event!(
                target: TARGET,
                Level::$level,
                event = event.kind.name(),
                cause = event.kind.cause(),
                handle = event.handle.map(tracing::field::display),
                user_id = event.user_id,
                cookie = event.cookie,
                operation = event.operation,
                kind = event.failed.map(|error| tracing::field::debug(error.kind())),
                status = event.failed.map(|error| error.status().as_u16()),
                limit = event.limit.map(tracing::field::debug),
                error = event.error.map(|error| tracing::field::display(Chain(error))),
                deleted = event.deleted,
                failures = event.failures,
                "{}",
                event.kind.message()
            )
        };
    }
    match event.level() {
        Level::ERROR => log_at!(ERROR),
        Level::WARN => log_at!(WARN),
        Level::INFO => log_at!(INFO),
        _ => log_at!(DEBUG),
    }
}
