//! What a layer was built with, shared by every request that goes through it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::HeaderValue;

use crate::carrier::Carriers;
use crate::clock::Clock;
use crate::events::Reporter;
#[cfg(feature = "axum")]
use crate::guards::LocalPath;
use crate::store::{SessionLimit, SessionStore};
use crate::timeouts::Timeouts;

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) carriers: Carriers,
    pub(crate) rules: Rules,
    /// Where guards lead browsers.
    #[cfg(feature = "axum")]
    pub(crate) login_page: Option<LocalPath>,
    /// What the browser clears when the session's cookie is removed.
    pub(crate) clear_site_data: Option<HeaderValue>,
    /// The longest that conflicts with other requests are retried.
    pub(crate) retry_for: Duration,
    /// The longest that one store call may take.
    pub(crate) store_timeout: Duration,
    /// How many sessions a user may have.
    pub(crate) session_limit: Option<SessionLimit>,
    pub(crate) events: Reporter,
    /// Whether a session is ended when a copy of its id is in use.
    pub(crate) end_on_copied_id: bool,
    /// Whether it was said already that the layer lies around itself.
    pub(crate) warned_of_nesting: AtomicBool,
}

/// The settings that the state machine decides by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The timeouts of a new session, and of a login.
    pub(crate) timeouts: Timeouts,
    /// Whether each read is written, and not only one in a sixteenth of the idle window.
    pub(crate) touch_every_read: bool,
    /// After how many milliseconds an id is renewed by itself; `None` for never.
    pub(crate) renew_after: Option<i64>,
    /// For how many milliseconds a retired id is known as such.
    pub(crate) retired_grace: i64,
    /// Bytes that a session's keys and values may take up.
    pub(crate) max_size: usize,
}

impl Settings {
    /// The time now, in unix milliseconds.
    pub(crate) fn now(&self) -> i64 {
        self.clock.unix_millis()
    }
}
