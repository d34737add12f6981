//! What can go wrong with a session.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::random::RandomSourceError;
use crate::store::{StoreError, StoreErrorKind};

/// A session could not be loaded, read, changed or saved.
///
/// It is what the [`Session`](crate::Session) extractor rejects with. Returned from a handler it is the
/// response: [`status`](Self::status) with a text that tells a client nothing about the server. A copy is
/// in that response's extensions, so that one outer `map_response` can render every one.
///
/// [`Display`](fmt::Display) says one level, without the cause; the cause is
/// [`source`](std::error::Error::source). Nothing in it is secret or of the session's data.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The category of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No `SessionLayer` is around the handler. 500.
    MissingLayer,
    /// The store failed. 503.
    Store,
    /// Other requests kept changing the session for as long as the layer retries. 503.
    Contention,
    /// The session ended, or its id was renewed by a login, while the request ran: its changes were
    /// dropped. 409.
    Ended,
    /// The response was committed, or the request was dropped or panicked: the session takes no more
    /// changes. 500.
    Closed,
    /// A value could not be read as the type that was asked for. 500.
    Decode,
    /// A value could not be written as JSON. 500.
    Encode,
    /// The session would grow past the limit. 500.
    TooLarge,
    /// Timeouts that cannot be meant. 500.
    InvalidTimeouts,
    /// A login with a user id that is empty or too long, or with such a label. 500.
    InvalidLogin,
    /// All sessions of the user were ended after this request extracted its session, so its login does not
    /// count. 409.
    Overtaken,
    /// The user has as many sessions as the layer allows, and the login was refused. 403.
    TooManySessions,
    /// The store keeps no sessions by user. 500.
    NoUserIndex,
    /// An ending of the session failed, so that it takes no more changes. 503.
    EndingFailed,
    /// The operating system's random source failed, so no id can be made. 503.
    RandomSource,
}

const MISSING_LAYER: &str = "no cloakroom::SessionLayer is around this handler: add one with Router::layer \
    after the routes that need it (axum wraps only the routes added before, and the layer added last runs \
    first), or before the layers that use the session in a tower::ServiceBuilder (there the layer added \
    first runs first)";

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            source: None,
        }))
    }

    pub(crate) fn with_source(
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            source: Some(source.into()),
        }))
    }

    pub(crate) fn missing_layer() -> Self {
        Self::new(ErrorKind::MissingLayer, MISSING_LAYER)
    }

    pub(crate) fn closed() -> Self {
        Self::new(
            ErrorKind::Closed,
            "the session is closed: its response was committed, or its request was dropped or panicked; \
             change it before the handler returns",
        )
    }

    pub(crate) fn ended() -> Self {
        Self::new(
            ErrorKind::Ended,
            "the session ended, or its id was renewed by a login, while the request ran: its changes \
             were dropped",
        )
    }

    pub(crate) fn overtaken() -> Self {
        Self::new(
            ErrorKind::Overtaken,
            "all sessions of the user were ended after this request extracted its session: what it \
             verified may not hold any more, so the login does not count; have the user log in again",
        )
    }

    pub(crate) fn too_many_sessions(most: usize) -> Self {
        Self::new(
            ErrorKind::TooManySessions,
            format!(
                "the user has {most} sessions, as many as the layer allows \
                 (SessionLayerBuilder::limit_sessions_per_user): the login was refused"
            ),
        )
    }

    pub(crate) fn no_user_index() -> Self {
        Self::new(
            ErrorKind::NoUserIndex,
            "the store keeps no list of sessions by user (SessionStore::user_index): use a store that \
             does, such as MemoryStore",
        )
    }

    pub(crate) fn contention(limit: Duration) -> Self {
        Self::new(
            ErrorKind::Contention,
            format!(
                "other requests kept changing the session for {limit:?} \
                 (SessionLayerBuilder::retry_for): the changes were dropped"
            ),
        )
    }

    pub(crate) fn store(message: &'static str, error: StoreError) -> Self {
        Self::with_source(ErrorKind::Store, message, error)
    }

    /// The category of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The status of the response that this error turns into: 503 where trying again later may help, and
    /// 500 where the program is wrong.
    pub fn status(&self) -> StatusCode {
        match self.0.kind {
            ErrorKind::Store
            | ErrorKind::Contention
            | ErrorKind::EndingFailed
            | ErrorKind::RandomSource => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Ended | ErrorKind::Overtaken => StatusCode::CONFLICT,
            ErrorKind::TooManySessions => StatusCode::FORBIDDEN,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The body of the response that this error turns into: for the client, so without any detail.
    pub fn body_text(&self) -> &'static str {
        match self.0.kind {
            // A mistake of wiring, met by the developer on the first request and never in production.
            ErrorKind::MissingLayer => MISSING_LAYER,
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => {
                "The session is unavailable at the moment. Please try again."
            }
            ErrorKind::Ended => "The session ended. Please try again.",
            ErrorKind::Overtaken => "You were logged out everywhere. Please log in again.",
            ErrorKind::TooManySessions => "You are logged in in too many places.",
            _ => "Something went wrong with the session.",
        }
    }

    /// The kind of the store's failure, if it was one.
    pub fn store_error_kind(&self) -> Option<StoreErrorKind> {
        let source = self.0.source.as_deref()?;
        source.downcast_ref::<StoreError>().map(StoreError::kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}

impl From<RandomSourceError> for Error {
    fn from(error: RandomSourceError) -> Self {
        Self::with_source(
            ErrorKind::RandomSource,
            "no session id could be made",
            error,
        )
    }
}
