//! What the crate tells the operator, as `tracing` events.
//!
//! Every event of the crate is a function here, so that a reviewer sees in one place that none carries a
//! secret or data of a session: at most the session's handle, which is public.

use crate::store::StoreError;

/// The source of an error and the sources behind it, as one line.
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

/// A store call failed.
pub(crate) fn store_failed(operation: &'static str, error: &StoreError) {
    tracing::error!(operation, error = %Chain(error), "the session store failed");
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
