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
