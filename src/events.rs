//! What the crate tells the operator, as `tracing` events.
//!
//! Every event of the crate is a function here, so that a reviewer sees in one place that none carries a
//! secret or data of a session: at most the session's handle, which is public.
//!
//! `error` is for what an operator has to mend, `warn` for what a browser or an app should not do, `debug`
//! for what becomes of sessions.

use std::time::Duration;

use crate::error::Error;
use crate::id::Handle;
use crate::state::Verdict;
use crate::state::plan::Dropped;
use crate::store::StoreError;

/// An error and its sources, as one line.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// A handle in a field of an event, or nothing.
fn shown(handle: Option<&Handle>) -> Option<tracing::field::DisplayValue<&Handle>> {
    handle.map(tracing::field::display)
}

/// A store call failed.
pub(crate) fn store_failed(operation: &'static str, handle: Option<&Handle>, error: &StoreError) {
    tracing::error!(
        operation,
        handle = shown(handle),
        error = %Chain(error),
        "the session store failed"
    );
}

/// A record was left in place that cannot be read.
pub(crate) fn undecodable(handle: &Handle, error: &StoreError) {
    tracing::error!(
        %handle,
        error = %Chain(error),
        "a session record cannot be decoded; it is left as it is, and is no session"
    );
}

/// Staged changes were not saved, and a client or a handler was told.
pub(crate) fn changes_failed(error: &Error) {
    tracing::debug!(kind = ?error.kind(), "changes of a session were not saved");
}

/// A handler's response was replaced, since its changes could not be saved: nobody but the client would hear
/// of it.
///
/// The kind alone, since the message may name a key.
pub(crate) fn response_replaced(error: &Error) {
    tracing::error!(
        kind = ?error.kind(),
        status = error.status().as_u16(),
        "the changes of a session could not be saved, so its response was replaced by an error"
    );
}

/// A task that wrote a session panicked: the store did, or a closure of `update`.
pub(crate) fn write_panicked() {
    tracing::error!(
        "the task that writes a session panicked: the store did, or a closure of update"
    );
}

/// Other requests kept changing a session.
pub(crate) fn contention(handle: &Handle, limit: Duration) {
    tracing::warn!(%handle, ?limit, "other requests kept changing the session; its changes are dropped");
}

/// Staged changes were dropped, since their session is no more.
pub(crate) fn changes_dropped(handle: Option<&Handle>, why: Dropped) {
    tracing::debug!(
        handle = shown(handle),
        ?why,
        "changes of a session that is no more were dropped"
    );
}

/// A cookie of our name holds nothing that could be an id.
pub(crate) fn malformed_id() {
    tracing::debug!("a session cookie holds no well-formed id");
}

/// A well-formed id opened no session.
pub(crate) fn refused(handle: &Handle, verdict: &Verdict) {
    match verdict {
        Verdict::Expired => tracing::debug!(%handle, "the session has expired"),
        Verdict::WrongSecret => tracing::warn!(%handle, "a session id with a wrong secret"),
        Verdict::Reused => tracing::warn!(
            %handle,
            "a session id was used after its renewal: another party may hold a copy"
        ),
        Verdict::Retired | Verdict::LongRetired => retired_id_used(handle),
        Verdict::Live(..) => {}
    }
}

/// An id was used that a login or a renewal had retired.
pub(crate) fn retired_id_used(handle: &Handle) {
    tracing::debug!(%handle, "a retired session id was used");
}

/// Two cookies of one name open two sessions.
pub(crate) fn two_live_sessions() {
    tracing::warn!("two session cookies open two sessions; neither is used");
}

/// A user logged in.
pub(crate) fn logged_in(handle: &Handle) {
    tracing::debug!(%handle, "a user logged in");
}

/// A session came into being.
pub(crate) fn created(handle: &Handle) {
    tracing::debug!(%handle, "a session was created");
}

/// A session got a new id.
pub(crate) fn renewed(handle: &Handle) {
    tracing::debug!(%handle, "the id of a session was renewed");
}

/// A session was ended.
pub(crate) fn ended(handle: &Handle) {
    tracing::debug!(%handle, "a session was ended");
}

/// A layer lies around itself, or around another with the same cookie.
pub(crate) fn layered_twice(cookie: &str) {
    tracing::warn!(
        cookie,
        "a SessionLayer lies inside another with the same cookie: only the outer one is used"
    );
}

/// The layer's cookie is sent over plain connections, too.
pub(crate) fn insecure_cookie(cookie: &str) {
    tracing::warn!(
        cookie,
        "the session cookie is not Secure: insecure_for_development is for development only"
    );
}

/// The cookies of a request are not those of one browser.
pub(crate) fn odd_cookies(cookie: &str, warning: &'static str) {
    tracing::warn!(cookie, "{warning}");
}

/// The memory store was full, and gave up the session of a visitor who is not logged in.
///
/// It may happen with every request, so it is told at the first time and at each doubling.
#[cfg(feature = "memory")]
pub(crate) fn anonymous_session_evicted(evictions: u64, max_records: usize) {
    if evictions.is_power_of_two() {
        tracing::warn!(
            evictions,
            max_records,
            "the memory store is full and evicts sessions of visitors who are not logged in"
        );
    }
}

/// A sweep deleted this many expired records.
pub(crate) fn swept(deleted: usize) {
    if deleted == 0 {
        tracing::debug!(deleted, "no expired session to delete");
    } else {
        tracing::info!(deleted, "deleted expired sessions");
    }
}

/// A sweep failed after it had deleted this many records; so many have failed in a row.
pub(crate) fn sweep_failed(
    error: &(dyn std::error::Error + 'static),
    deleted: usize,
    failures: u32,
) {
    tracing::error!(
        error = %Chain(error),
        deleted,
        failures,
        "could not delete expired sessions; the sweeper tries again later"
    );
}

/// A sweep went past records that it cannot read.
#[cfg(feature = "file")]
pub(crate) fn records_unreadable(records: usize, example: &StoreError) {
    tracing::warn!(
        records,
        example = %Chain(example),
        "session records cannot be read; they were left in place"
    );
}

/// The folder of the file store was there already, with rights that its own directories do not have.
#[cfg(feature = "file")]
pub(crate) fn folder_writable_by_others(path: &std::path::Path) {
    tracing::warn!(
        path = %path.display(),
        "the folder of the session files can be written by others than its owner, who can so delete \
         sessions"
    );
}

/// Records events in tests.
#[cfg(test)]
pub(crate) mod recorded {
    use std::fmt::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::DefaultGuard;
    use tracing::{Event, Metadata, Subscriber};

    /// Records the events of this thread until it is dropped.
    pub(crate) fn events() -> Recorded {
        let events = Recorder::default();
        Recorded {
            events: Arc::clone(&events.0),
            _guard: tracing::subscriber::set_default(events),
        }
    }

    pub(crate) struct Recorded {
        events: Arc<Mutex<Vec<String>>>,
        _guard: DefaultGuard,
    }

    impl Recorded {
        /// Each event since the last call, as `LEVEL message name=value name=value`.
        pub(crate) fn taken(&self) -> Vec<String> {
            std::mem::take(&mut self.events.lock().unwrap())
        }
    }

    #[derive(Default)]
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Recorder {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut text = Text::default();
            event.record(&mut text);
            let level = event.metadata().level();
            let line = format!("{level} {}{}", text.message, text.fields);
            self.0.lock().unwrap().push(line);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[derive(Default)]
    struct Text {
        message: String,
        fields: String,
    }

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                write!(self.message, "{value:?}").unwrap();
            } else {
                write!(self.fields, " {field}={value:?}").unwrap();
            }
        }
    }
}
