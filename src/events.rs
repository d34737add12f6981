//! What the crate tells of sessions: in the log, to the app, and as metrics.
//!
//! 1. **Log**: each event is a [`tracing`] event with the target `cloakroom`, the event's name in the field
//!    `event`, and what is in the table below.
//! 2. **App**: a callback that is registered with
//!    [`SessionLayerBuilder::on_event`](crate::SessionLayerBuilder::on_event) gets the same as an [`Event`].
//! 3. **Metrics**: with the feature `metrics`, the same are [counted](#metrics).
//!
//! No event has an id, a secret, or data of a session: at most its [handle](Handle), which is public. It has
//! the user's id only if
//! [`user_ids_in_events`](crate::SessionLayerBuilder::user_ids_in_events) allows it.
//!
//! A request that does not use its session causes none, and neither does one that only reads a live session,
//! unless its id is due for renewal. Where nobody listens, an event costs next to nothing: no text is made of
//! it.
//!
//! # The events
//!
//! The names are stable: none is renamed or changes its meaning without a new major version. New ones may
//! come, and so may fields. Besides what is listed, each event of a session has the fields `handle` and, if
//! allowed and known, `user_id`.
//!
//! | `event` | `cause` | Level | Other fields | When |
//! |---|---|---|---|---|
//! | `created` | | debug | | a session came into being |
//! | `renewed` | `login` | debug | | a login gave the session a new id |
//! | `renewed` | `renew_id` | debug | | a handler asked for a new id |
//! | `renewed` | `schedule` | debug | | the id had reached its age |
//! | `logged_in` | | debug | | a user logged in; after `created` or `renewed` |
//! | `logged_out` | | debug | | the session that was ended by its own request had a user; after `ended` |
//! | `ended` | `request` | debug | | `logout` or `destroy` |
//! | `ended` | `other_session` | debug | | another session of the same user ended this one |
//! | `ended` | `app` | debug | | the app ended it through `Sessions` |
//! | `ended` | `limit` | debug | | a login went over the limit of sessions of one user |
//! | `ended` | `failed_login` | debug | | a login was refused or could not be listed after it was written |
//! | `ended` | `another_user` | debug | | another user logged in on it |
//! | `ended` | `copy_in_use` | debug | | a copy of its id was used; after `copy_in_use` |
//! | `expired` | | debug | | a request brought the id of an expired session |
//! | `refused` | `malformed` | debug | | what a request brought is no id; there is no handle |
//! | `refused` | `unknown` | debug | | there is no such session: ended, swept, or made up |
//! | `refused` | `wrong_secret` | warn | | the id is none that the session had lately |
//! | `refused` | `undecodable` | error | `error` | the record cannot be read; it is left in place |
//! | `refused` | `other_carrier` | warn | | the id was issued for the cookie and came in the header, or the other way round |
//! | `refused` | `differing_headers` | warn | | the header of the id came with differing values; none is used, and there is no handle |
//! | `retired_id_used` | | debug | | the id was retired by a login or `renew_id` |
//! | `copy_in_use` | | warn | | the id was renewed on a schedule, and its successor has been in use for longer than the grace period |
//! | `duplicate_cookie` | `same_value` | warn | `cookie` | the cookie came twice with one value; it is used |
//! | `duplicate_cookie` | `two_values` | warn | `cookie` | it came with two values; both are looked up |
//! | `duplicate_cookie` | `too_many_values` | warn | `cookie` | it came with too many values; none is used |
//! | `duplicate_cookie` | `two_sessions` | warn | `cookie` | two cookies opened two sessions; neither is used |
//! | `cookies_over_limit` | `bytes` | warn | `cookie` | the request has too many bytes of cookies, so no session |
//! | `cookies_over_limit` | `cookies` | warn | `cookie` | the request has too many cookies, so no session |
//! | `csrf_refused` | `missing_token` | warn | | a request that needs a [CSRF token](crate::csrf) has none |
//! | `csrf_refused` | `wrong_token` | warn | | its token is not that of the session, or not any more |
//! | `csrf_refused` | `cross_origin` | warn | | the browser says that it is of another origin, or does not say of which |
//! | `changes_dropped` | `ended` | debug | | the session was ended while the request ran |
//! | `changes_dropped` | `expired` | debug | | it expired while the request ran |
//! | `changes_dropped` | `retired` | debug | | another request retired the id of this one |
//! | `changes_failed` | | debug | `kind`, `status` | changes could not be saved; the handler or the client was told |
//! | `response_replaced` | | error | `kind`, `status` | changes could not be saved, and only the client heard of it |
//! | `write_panicked` | | error | | the store panicked, or a closure of `update`; there is no handle |
//! | `contention` | | warn | `limit` | other requests kept changing the session for longer than `retry_for` |
//! | `store_failed` | | error | `operation`, `error` | a call of the store failed, or took too long |
//! | `swept` | | info | `deleted` | a sweep was done; debug if it found none; there is no handle |
//! | `sweep_failed` | | error | `error`, `deleted`, `failures` | a sweep failed; there is no handle |
//!
//! The crate logs a few things more that are of no session and go to no callback: warnings of how it was set
//! up, and a callback that panicked.
//!
//! # The callback
//!
//! It is called on the spot, on the thread that serves the request. So it must not block: count, or send to
//! a channel, and do what takes time elsewhere. It is called with no lock of this crate held, and between the
//! calls of a store. What it is told has happened; nothing that it does changes the outcome. If it panics,
//! that is logged (the first time, and at each doubling, without what it panicked with) and goes no further.
//! That needs the default `panic = "unwind"`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::mpsc;
//! use cloakroom::events::{EventKind, RenewedBy};
//! use cloakroom::{SessionLayer, store::MemoryStore};
//!
//! let (audit, trail) = mpsc::channel();
//! let layer = SessionLayer::builder(MemoryStore::new())
//!     .user_ids_in_events()
//!     .on_event(move |event| {
//!         let user_id = event.user_id().map(str::to_owned);
//!         // It fails only when nobody listens any more.
//!         let _ = audit.send((event.kind(), user_id));
//!     })
//!     .build()?;
//! # let session = cloakroom::testing::new_session(&layer);
//!
//! session.login("alice").await?;
//! assert_eq!(trail.try_recv()?, (EventKind::Created, Some("alice".into())));
//! assert_eq!(trail.try_recv()?, (EventKind::LoggedIn, Some("alice".into())));
//! session.login("alice").await?;
//! assert_eq!(trail.try_recv()?.0, EventKind::Renewed(RenewedBy::Login));
//! # Ok(())
//! # }
//! ```
//!
//! # Metrics
//!
//! With the feature `metrics`, these go to the recorder of the [`metrics`](https://docs.rs/metrics) facade:
//!
//! | Metric | Type | Labels | What |
//! |---|---|---|---|
//! | `cloakroom_events_total` | counter | `event`, `cause` (empty where there is none) | the events above, and `callback_panicked` |
//! | `cloakroom_store_call_duration_seconds` | histogram | `operation`, `outcome` | the calls of the store for requests and `Sessions`, with the time that each took |
//! | `cloakroom_swept_sessions_total` | counter | | the expired sessions that a sweeper deleted |
//!
//! `operation` is `load`, `create`, `update`, `touch` or `delete`, or one of a user index: `link`, `extend`,
//! `unlink`, `list`, `mark` or `delete_linked`. `outcome` is `ok`, or what went wrong:
//! `unavailable`, `handle_in_use`, `undecodable`, `newer_format`, `full`, `timed_out` or `unconfirmed`.

use std::fmt;
use std::time::Duration;

use tracing::Level;

use crate::error::ErrorKind;
use crate::store::{Handle, StoreError, StoreErrorKind};

mod kind;
pub(crate) mod metrics;
pub(crate) mod notices;
#[cfg(test)]
pub(crate) mod recorded;
mod reporter;
#[cfg(test)]
mod tests;

pub use self::kind::{
    CookieLimit, CsrfRefusal, DropCause, DuplicateCookie, EndedBy, EventKind, Refusal, RenewedBy,
};
pub(crate) use self::reporter::{Reporter, Subject};

/// Something that happened to a session, or to the store.
///
/// [`EventKind`] says what; see the [module](self) for when, and for the callback that gets it.
pub struct Event<'a> {
    kind: EventKind,
    handle: Option<&'a Handle>,
    user_id: Option<&'a str>,
    cookie: Option<&'a str>,
    operation: Option<&'static str>,
    error: Option<&'a (dyn std::error::Error + 'static)>,
    failed: Option<&'a crate::Error>,
    limit: Option<Duration>,
    deleted: Option<usize>,
    failures: Option<u32>,
}

impl<'a> Event<'a> {
    fn new(kind: EventKind) -> Self {
        Self {
            kind,
            handle: None,
            user_id: None,
            cookie: None,
            operation: None,
            error: None,
            failed: None,
            limit: None,
            deleted: None,
            failures: None,
        }
    }

    /// What happened.
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// The session's public name; `None` where there is no session to name.
    pub fn handle(&self) -> Option<&'a Handle> {
        self.handle
    }

    /// Whose session it is; `None` where that is nobody's, not known, or not
    /// [allowed](crate::SessionLayerBuilder::user_ids_in_events).
    pub fn user_id(&self) -> Option<&'a str> {
        self.user_id
    }

    /// What the store was to do: `load`, `create`, `update`, `touch` or `delete`.
    pub fn operation(&self) -> Option<&'static str> {
        self.operation
    }

    /// What the store, or the sweeper, said. It is for the operator, and for no client.
    pub fn error(&self) -> Option<&'a (dyn std::error::Error + 'static)> {
        self.error
    }

    /// The kind of the store's failure.
    pub fn store_error_kind(&self) -> Option<StoreErrorKind> {
        let error = self.error?;
        error.downcast_ref::<StoreError>().map(StoreError::kind)
    }

    /// Why changes were not saved.
    pub fn error_kind(&self) -> Option<ErrorKind> {
        self.failed.map(crate::Error::kind)
    }

    /// How many expired sessions a sweep deleted.
    pub fn deleted(&self) -> Option<usize> {
        self.deleted
    }

    fn level(&self) -> Level {
        match self.deleted {
            Some(0) if self.kind == EventKind::Swept => Level::DEBUG,
            _ => self.kind.level(),
        }
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("kind", &self.kind)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
