//! What there is to tell, by name.

use tracing::Level;

/// What happened.
///
/// [`name`](Self::name) and [`cause`](Self::cause) are stable, and the same in logs, metrics and callbacks.
/// The [table](super#the-events) has them all.
///
/// ```
/// use cloakroom::events::{EndedBy, EventKind};
///
/// let kind = EventKind::Ended(EndedBy::CopyInUse);
/// assert_eq!((kind.name(), kind.cause()), ("ended", Some("copy_in_use")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A session came into being.
    Created,
    /// A session got a new id.
    Renewed(RenewedBy),
    /// A user logged in.
    LoggedIn,
    /// A user logged out: the session that a request of theirs ended had a user.
    LoggedOut,
    /// A session was ended.
    Ended(EndedBy),
    /// The id is good, but its session has expired.
    Expired,
    /// An id opened nothing.
    Refused(Refusal),
    /// An id was used that a login or `renew_id` had retired.
    RetiredIdUsed,
    /// An id was used that had been renewed on a schedule, though its successor has been in use for longer
    /// than the grace period: two parties hold ids of this session.
    CopyInUse,
    /// A request brought the session cookie more than once.
    DuplicateCookie(DuplicateCookie),
    /// A request brought more cookies than are looked at.
    CookiesOverLimit(CookieLimit),
    /// A request was refused, since another site may have caused it ([`csrf`](crate::csrf)).
    CsrfRefused(CsrfRefusal),
    /// Changes were not saved, since their session is no more. The response stands, without a cookie.
    ChangesDropped(DropCause),
    /// Changes could not be saved, and the handler or the client was told.
    ChangesFailed,
    /// Changes could not be saved on top of those of another request, so that the handler's response was
    /// replaced by an error.
    ResponseReplaced,
    /// The task that writes a session panicked: the store did, or a closure of `update`.
    WritePanicked,
    /// Other requests kept changing a session for longer than is retried.
    Contention,
    /// A call of the store failed.
    StoreFailed,
    /// A sweep deleted expired sessions, or found none.
    Swept,
    /// A sweep failed.
    SweepFailed,
}

/// What a session got its new id by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RenewedBy {
    /// [`login`](crate::Session::login).
    Login,
    /// [`renew_id`](crate::Session::renew_id).
    RenewId,
    /// The [age](crate::SessionLayerBuilder::renew_ids_every) at which ids are renewed.
    Schedule,
}

/// Whom a session was ended by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndedBy {
    /// A request of its own: [`logout`](crate::Session::logout) or [`destroy`](crate::Session::destroy).
    Request,
    /// Another session of the same user.
    OtherSession,
    /// The app, through [`Sessions`](crate::Sessions).
    App,
    /// A limit on the sessions of a user.
    Limit,
    /// A login of another user on it.
    AnotherUser,
    /// Its own login, which was refused or could not be listed after it was written.
    FailedLogin,
    /// The use of a copy of its id, where the layer is
    /// [told to](crate::SessionLayerBuilder::end_session_on_copied_id).
    CopyInUse,
}

/// Why an id opened nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not what an id looks like.
    Malformed,
    /// There is no such session: it ended, was swept after it expired, or never was.
    Unknown,
    /// There is such a session, and the id is none that it had lately.
    WrongSecret,
    /// There is such a session, and its record cannot be read. It is left in place.
    Undecodable,
    /// It was issued for the cookie and came in the [header](crate::SessionLayerBuilder::id_header), or the
    /// other way round.
    OtherCarrier,
    /// The [header](crate::SessionLayerBuilder::id_header) came more than once, with differing values.
    DifferingHeaders,
}

/// Why a request may be another site's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CsrfRefusal {
    /// The session needs a token, and none came.
    MissingToken,
    /// The token is not that of the session, or not any more.
    WrongToken,
    /// The browser says that the request is of another origin, or does not say of which.
    CrossOrigin,
}

/// What is the matter with session cookies of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DuplicateCookie {
    /// They have the same value, and count as one.
    SameValue,
    /// They have two values, and both are looked up.
    TwoValues,
    /// They have too many values, and none is looked up.
    TooManyValues,
    /// They open two sessions, and neither is used.
    TwoSessions,
}

/// Which limit the cookies of a request exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CookieLimit {
    /// [`max_cookie_bytes`](crate::SessionLayerBuilder::max_cookie_bytes).
    Bytes,
    /// [`max_cookies`](crate::SessionLayerBuilder::max_cookies).
    Cookies,
}

/// Why a session does not take changes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropCause {
    /// It was ended while the request ran.
    Ended,
    /// It expired while the request ran.
    Expired,
    /// A login or `renew_id` of another request retired the id of this one.
    Retired,
}

impl EventKind {
    /// The event's name, in `snake_case`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Renewed(_) => "renewed",
            Self::LoggedIn => "logged_in",
            Self::LoggedOut => "logged_out",
            Self::Ended(_) => "ended",
            Self::Expired => "expired",
            Self::Refused(_) => "refused",
            Self::RetiredIdUsed => "retired_id_used",
            Self::CopyInUse => "copy_in_use",
            Self::DuplicateCookie(_) => "duplicate_cookie",
            Self::CookiesOverLimit(_) => "cookies_over_limit",
            Self::CsrfRefused(_) => "csrf_refused",
            Self::ChangesDropped(_) => "changes_dropped",
            Self::ChangesFailed => "changes_failed",
            Self::ResponseReplaced => "response_replaced",
            Self::WritePanicked => "write_panicked",
            Self::Contention => "contention",
            Self::StoreFailed => "store_failed",
            Self::Swept => "swept",
            Self::SweepFailed => "sweep_failed",
        }
    }

    /// By what it came, or why, in `snake_case`, for the kinds of which there are several.
    pub const fn cause(self) -> Option<&'static str> {
        Some(match self {
            Self::Renewed(RenewedBy::Login) => "login",
            Self::Renewed(RenewedBy::RenewId) => "renew_id",
            Self::Renewed(RenewedBy::Schedule) => "schedule",
            Self::Ended(EndedBy::Request) => "request",
            Self::Ended(EndedBy::OtherSession) => "other_session",
            Self::Ended(EndedBy::App) => "app",
            Self::Ended(EndedBy::Limit) => "limit",
            Self::Ended(EndedBy::FailedLogin) => "failed_login",
            Self::Ended(EndedBy::AnotherUser) => "another_user",
            Self::Ended(EndedBy::CopyInUse) => "copy_in_use",
            Self::Refused(Refusal::Malformed) => "malformed",
            Self::Refused(Refusal::Unknown) => "unknown",
            Self::Refused(Refusal::WrongSecret) => "wrong_secret",
            Self::Refused(Refusal::Undecodable) => "undecodable",
            Self::Refused(Refusal::OtherCarrier) => "other_carrier",
            Self::Refused(Refusal::DifferingHeaders) => "differing_headers",
            Self::DuplicateCookie(DuplicateCookie::SameValue) => "same_value",
            Self::DuplicateCookie(DuplicateCookie::TwoValues) => "two_values",
            Self::DuplicateCookie(DuplicateCookie::TooManyValues) => "too_many_values",
            Self::DuplicateCookie(DuplicateCookie::TwoSessions) => "two_sessions",
            Self::CookiesOverLimit(CookieLimit::Bytes) => "bytes",
            Self::CookiesOverLimit(CookieLimit::Cookies) => "cookies",
            Self::CsrfRefused(CsrfRefusal::MissingToken) => "missing_token",
            Self::CsrfRefused(CsrfRefusal::WrongToken) => "wrong_token",
            Self::CsrfRefused(CsrfRefusal::CrossOrigin) => "cross_origin",
            Self::ChangesDropped(DropCause::Ended) => "ended",
            Self::ChangesDropped(DropCause::Expired) => "expired",
            Self::ChangesDropped(DropCause::Retired) => "retired",
            Self::Created
            | Self::LoggedIn
            | Self::LoggedOut
            | Self::Expired
            | Self::RetiredIdUsed
            | Self::CopyInUse
            | Self::ChangesFailed
            | Self::ResponseReplaced
            | Self::WritePanicked
            | Self::Contention
            | Self::StoreFailed
            | Self::Swept
            | Self::SweepFailed => return None,
        })
    }

    /// `ERROR` is for what an operator has to mend, `WARN` for what a browser or an app should not do,
    /// `DEBUG` for what becomes of sessions.
    pub(super) const fn level(self) -> Level {
        match self {
            Self::Refused(Refusal::Undecodable)
            | Self::ResponseReplaced
            | Self::WritePanicked
            | Self::StoreFailed
            | Self::SweepFailed => Level::ERROR,
            Self::Refused(
                Refusal::WrongSecret | Refusal::OtherCarrier | Refusal::DifferingHeaders,
            )
            | Self::CopyInUse
            | Self::DuplicateCookie(_)
            | Self::CookiesOverLimit(_)
            | Self::CsrfRefused(_)
            | Self::Contention => Level::WARN,
            Self::Swept => Level::INFO,
            _ => Level::DEBUG,
        }
    }

    /// What a person reads in the log.
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::Created => "a session was created",
            Self::Renewed(_) => "the id of a session was renewed",
            Self::LoggedIn => "a user logged in",
            Self::LoggedOut => "a user logged out",
            Self::Ended(_) => "a session was ended",
            Self::Expired => "the session has expired",
            Self::Refused(Refusal::Malformed) => {
                "what a request brought as its session id is no well-formed id"
            }
            Self::Refused(Refusal::Unknown) => "a session id of which there is no session",
            Self::Refused(Refusal::WrongSecret) => "a session id with a wrong secret",
            Self::Refused(Refusal::Undecodable) => {
                "a session record cannot be decoded; it is left as it is, and is no session"
            }
            Self::Refused(Refusal::OtherCarrier) => {
                "a session id came in the header that was issued for the cookie, or the other way round"
            }
            Self::Refused(Refusal::DifferingHeaders) => {
                "the header of the session id came with differing values, so the request has no session"
            }
            Self::RetiredIdUsed => "a retired session id was used",
            Self::CopyInUse => {
                "a session id was used after its renewal: another party may hold a copy"
            }
            Self::DuplicateCookie(DuplicateCookie::SameValue) => {
                "the session cookie came more than once, with the same value"
            }
            Self::DuplicateCookie(DuplicateCookie::TwoValues) => {
                "the session cookie came with two values, so both are looked up: it may have been set \
                 with another Path or Domain before, or by another host of the domain"
            }
            Self::DuplicateCookie(DuplicateCookie::TooManyValues) => {
                "the session cookie came with too many differing values, so the request has no session"
            }
            Self::DuplicateCookie(DuplicateCookie::TwoSessions) => {
                "two session cookies open two sessions; neither is used"
            }
            Self::CookiesOverLimit(CookieLimit::Bytes) => {
                "the request has more bytes of cookies than are looked at, so it has no session"
            }
            Self::CookiesOverLimit(CookieLimit::Cookies) => {
                "the request has more cookies than are looked at, so it has no session"
            }
            Self::CsrfRefused(CsrfRefusal::MissingToken) => {
                "a request was refused: its CSRF token is missing"
            }
            Self::CsrfRefused(CsrfRefusal::WrongToken) => {
                "a request was refused: its CSRF token is not that of the session, or not any more"
            }
            Self::CsrfRefused(CsrfRefusal::CrossOrigin) => {
                "a request was refused: it is not known to be of this origin; a proxy in front has to pass \
                 Host on"
            }
            Self::ChangesDropped(_) => "changes of a session that is no more were dropped",
            Self::ChangesFailed => "changes of a session were not saved",
            Self::ResponseReplaced => {
                "the changes of a session could not be saved, so its response was replaced by an error"
            }
            Self::WritePanicked => {
                "the task that writes a session panicked: the store did, or a closure of update"
            }
            Self::Contention => "other requests kept changing the session; its changes are dropped",
            Self::StoreFailed => "the session store failed",
            Self::Swept => "deleted expired sessions",
            Self::SweepFailed => "could not delete expired sessions; the sweeper tries again later",
        }
    }
}
