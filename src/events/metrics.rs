//! Events and store calls as metrics, with the feature of that name; without it, all of this is nothing.

#[cfg(feature = "metrics")]
use std::time::Instant;

use super::EventKind;
use crate::store::StoreError;
#[cfg(feature = "metrics")]
use crate::store::StoreErrorKind;

#[cfg(feature = "metrics")]
const EVENTS: &str = "cloakroom_events_total";
#[cfg(feature = "metrics")]
const STORE_CALLS: &str = "cloakroom_store_call_duration_seconds";
#[cfg(feature = "metrics")]
const SWEPT: &str = "cloakroom_swept_sessions_total";

pub(super) fn event(kind: EventKind) {
    count(kind.name(), kind.cause());
}

pub(super) fn callback_panicked() {
    count("callback_panicked", None);
}

#[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
fn count(event: &'static str, cause: Option<&'static str>) {
    #[cfg(feature = "metrics")]
    // The same labels each time, as exporters want it.
    metrics::counter!(EVENTS, "event" => event, "cause" => cause.unwrap_or_default()).increment(1);
}

#[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
pub(super) fn swept(deleted: usize) {
    #[cfg(feature = "metrics")]
    if deleted > 0 {
        metrics::counter!(SWEPT).increment(deleted as u64);
    }
}

/// Measures a store call; nothing without the feature.
pub(crate) struct Timer {
    #[cfg(feature = "metrics")]
    started: Instant,
}

impl Timer {
    pub(crate) fn start() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            started: Instant::now(),
        }
    }

    #[cfg_attr(not(feature = "metrics"), allow(unused_variables))]
    pub(crate) fn stop<T>(&self, operation: &'static str, result: &Result<T, StoreError>) {
        #[cfg(feature = "metrics")]
        {
            let outcome = result
                .as_ref()
                .err()
                .map_or("ok", |error| name(error.kind()));
            let took = self.started.elapsed();
            // Labels that are known here cost no allocation: those of the calls that requests wait for.
            macro_rules! known {
                ($($operation:literal)*) => {
                    match (operation, outcome) {
                        $(($operation, "ok") => metrics::histogram!(
                            STORE_CALLS, "operation" => $operation, "outcome" => "ok"
                        ),)*
                        _ => metrics::histogram!(
                            STORE_CALLS, "operation" => operation, "outcome" => outcome
                        ),
                    }
                };
            }
            known!("load" "create" "update" "touch").record(took);
        }
    }
}

#[cfg(feature = "metrics")]
fn name(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Unavailable => "unavailable",
        StoreErrorKind::HandleInUse => "handle_in_use",
        StoreErrorKind::Undecodable => "undecodable",
        StoreErrorKind::NewerFormat => "newer_format",
        StoreErrorKind::Full => "full",
        StoreErrorKind::TimedOut => "timed_out",
        StoreErrorKind::Unconfirmed => "unconfirmed",
    }
}
