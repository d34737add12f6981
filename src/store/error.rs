//! What can go wrong in a store.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// A store could not do what it was asked.
///
/// The message names what failed and where (a path, a table, a limit); [`source`](Error::source) is the
/// driver's own error. It goes to the operator's log, never to a client.
///
/// ```
/// use cloakroom::store::{StoreError, StoreErrorKind};
///
/// let disk = std::io::Error::other("disk on fire");
/// let error = StoreError::unavailable("cannot write /var/sessions/ab", disk);
/// assert_eq!(error.kind(), StoreErrorKind::Unavailable);
/// assert_eq!(error.to_string(), "cannot write /var/sessions/ab");
/// ```
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The category of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The engine is down, refused, or failed. Whether the operation took effect is unknown.
    Unavailable,
    /// `create` was given a handle that has a record already.
    HandleInUse,
    /// There is a record, but it cannot be read. It was left as it is.
    Undecodable,
    /// There is a record in a format newer than this version of the crate knows, as a rolling deploy
    /// leaves it. It was left as it is.
    NewerFormat,
    /// A limit of the store leaves no room for a new record.
    Full,
    /// The engine did not answer in time. Whether the operation took effect is unknown.
    TimedOut,
    /// The store is set to have each ending and login on several nodes before it counts, and fewer than
    /// that have confirmed this one. It may have taken effect, and a failover may undo it; so that a
    /// `load` finds it done says nothing. An ending can be tried again.
    Unconfirmed,
}

impl StoreError {
    /// The engine is down, refused, or failed.
    pub fn unavailable(
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind: StoreErrorKind::Unavailable,
            message: message.into(),
            source: Some(source.into()),
        }
    }

    /// `create` was given a handle that has a record already.
    pub fn handle_in_use() -> Self {
        Self::without_source(
            StoreErrorKind::HandleInUse,
            "the handle has a record already",
        )
    }

    /// There is a record, but it cannot be read. A [`RecordDecodeError`](super::RecordDecodeError)
    /// converts into this, or into the kind [`NewerFormat`](StoreErrorKind::NewerFormat), by itself.
    pub fn undecodable(
        message: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind: StoreErrorKind::Undecodable,
            message: message.into(),
            source: Some(source.into()),
        }
    }

    /// A limit of the store, named in the message, leaves no room for a new record.
    pub fn full(message: impl Into<Cow<'static, str>>) -> Self {
        Self::without_source(StoreErrorKind::Full, message)
    }

    /// The engine did not answer in time; the message says within which.
    pub fn timed_out(message: impl Into<Cow<'static, str>>) -> Self {
        Self::without_source(StoreErrorKind::TimedOut, message)
    }

    /// Fewer nodes than the store waits for confirmed the write; the message says how many.
    pub fn unconfirmed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::without_source(StoreErrorKind::Unconfirmed, message)
    }

    /// The category of the failure.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// The same failure, with a message that names the place.
    #[cfg(feature = "file")]
    pub(crate) fn with_message(self, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            ..self
        }
    }

    fn without_source(kind: StoreErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

impl From<super::RecordDecodeError> for StoreError {
    fn from(error: super::RecordDecodeError) -> Self {
        Self {
            kind: if error.is_newer_format() {
                StoreErrorKind::NewerFormat
            } else {
                StoreErrorKind::Undecodable
            },
            message: "the session record cannot be decoded".into(),
            source: Some(Box::new(error)),
        }
    }
}
