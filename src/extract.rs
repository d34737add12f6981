//! The session, and all sessions, as extractors of axum.

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use crate::error::Error;
use crate::session::Session;
use crate::sessions::Sessions;
use crate::slot::SlotRef;

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        Self::load(&parts.extensions).await
    }
}

/// `None` where there is no live session. A missing layer or a store failure is no `None`, but an error.
impl<S: Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Error> {
        let session = Self::load(&parts.extensions).await?;
        Ok((!session.is_new()).then_some(session))
    }
}

/// Loads nothing: a handler that takes `Sessions` and no [`Session`] uses no session of its own.
impl<S: Sync> FromRequestParts<S> for Sessions {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        let around: &SlotRef = parts.extensions.get().ok_or_else(Error::missing_layer)?;
        Ok(Self::new(around.slot.settings.clone()))
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.body_text()).into_response();
        response.extensions_mut().insert(self);
        response
    }
}
