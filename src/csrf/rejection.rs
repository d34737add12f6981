//! What a forged request is answered.

use std::fmt;

#[cfg(feature = "axum")]
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;

use crate::error::Error;
use crate::events::CsrfRefusal;
use crate::session::Session;

/// A request was refused, since another site may have caused it.
///
/// The answer is a 403 with the same words whatever was wrong, so that nobody learns from it which checks
/// there are. What was wrong is for the operator: it is an [event](crate::events), in the log as
/// `csrf_refused`, and here as [`kind`](Self::kind). A copy is in the response's extensions.
///
/// ```
/// use axum::{Router, http::StatusCode, response::{Html, IntoResponse, Response}, routing::post};
/// use cloakroom::csrf::{CsrfGuard, CsrfRejection, CsrfRejectionKind};
/// use cloakroom::testing::TestClient;
/// use cloakroom::{SessionLayer, store::MemoryStore};
///
/// async fn order(guard: Result<CsrfGuard, CsrfRejection>) -> Response {
///     match guard {
///         Ok(_) => "ordered".into_response(),
///         Err(rejection) if rejection.kind() == CsrfRejectionKind::CrossOrigin => {
///             (rejection.status(), Html("<h1>Please order on our own page.</h1>")).into_response()
///         }
///         Err(rejection) => rejection.into_response(),
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let app = Router::new().route("/", post(order)).layer(SessionLayer::new(MemoryStore::new()));
/// let client = TestClient::new(app);
/// # let request = axum::http::Request::post("/").header("sec-fetch-site", "cross-site").body(Default::default()).unwrap();
/// let response = client.send(request).await.assert_status(StatusCode::FORBIDDEN);
/// assert_eq!(response.text(), "<h1>Please order on our own page.</h1>");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CsrfRejection {
    reason: Reason,
}

#[derive(Clone, Debug)]
enum Reason {
    Refused(CsrfRefusal),
    #[cfg(feature = "axum")]
    Form {
        status: StatusCode,
        text: String,
    },
    Session(Error),
}

/// The category of a [`CsrfRejection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CsrfRejectionKind {
    /// The session needs a token, and none came. 403.
    MissingToken,
    /// The token is not that of the session, or not any more. 403.
    WrongToken,
    /// The browser says that the request is of another origin, or does not say of which. 403.
    CrossOrigin,
    /// The token is right, or none is needed, and the form cannot be read. The status is that of axum's
    /// `Form`.
    Form,
    /// The session could not be loaded. The status is that of the [`Error`].
    Session,
}

impl CsrfRejection {
    /// Refuses a request, and tells the operator why.
    pub(super) fn refused(why: CsrfRefusal, session: &Session) -> Self {
        session.report_forgery(why);
        Self {
            reason: Reason::Refused(why),
        }
    }

    #[cfg(feature = "axum")]
    pub(super) fn form(status: StatusCode, text: String) -> Self {
        Self {
            reason: Reason::Form { status, text },
        }
    }

    /// Why the request was refused.
    pub fn kind(&self) -> CsrfRejectionKind {
        match self.reason {
            Reason::Refused(CsrfRefusal::MissingToken) => CsrfRejectionKind::MissingToken,
            Reason::Refused(CsrfRefusal::WrongToken) => CsrfRejectionKind::WrongToken,
            Reason::Refused(CsrfRefusal::CrossOrigin) => CsrfRejectionKind::CrossOrigin,
            #[cfg(feature = "axum")]
            Reason::Form { .. } => CsrfRejectionKind::Form,
            Reason::Session(_) => CsrfRejectionKind::Session,
        }
    }

    /// The status of the response that this rejection turns into.
    pub fn status(&self) -> StatusCode {
        match &self.reason {
            Reason::Refused(_) => StatusCode::FORBIDDEN,
            #[cfg(feature = "axum")]
            Reason::Form { status, .. } => *status,
            Reason::Session(error) => error.status(),
        }
    }

    /// The body of the response that this rejection turns into.
    pub fn body_text(&self) -> &str {
        match &self.reason {
            Reason::Refused(_) => {
                "This request could not be verified. Please reload the page, and try again."
            }
            #[cfg(feature = "axum")]
            Reason::Form { text, .. } => text,
            Reason::Session(error) => error.body_text(),
        }
    }
}

impl From<Error> for CsrfRejection {
    fn from(error: Error) -> Self {
        Self {
            reason: Reason::Session(error),
        }
    }
}

#[cfg(feature = "axum")]
impl IntoResponse for CsrfRejection {
    fn into_response(self) -> Response {
        let mut response = match &self.reason {
            Reason::Session(error) => error.clone().into_response(),
            _ => (self.status(), self.body_text().to_owned()).into_response(),
        };
        let no_store = http::HeaderValue::from_static("no-store");
        response
            .headers_mut()
            .insert(http::header::CACHE_CONTROL, no_store);
        response.extensions_mut().insert(self);
        response
    }
}

impl fmt::Display for CsrfRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Refused(CsrfRefusal::MissingToken) => f.write_str("the CSRF token is missing"),
            Reason::Refused(CsrfRefusal::WrongToken) => {
                f.write_str("the CSRF token is not that of the session")
            }
            Reason::Refused(CsrfRefusal::CrossOrigin) => {
                f.write_str("the request is not known to be of this origin")
            }
            #[cfg(feature = "axum")]
            Reason::Form { text, .. } => f.write_str(text),
            Reason::Session(_) => f.write_str("the session could not be used"),
        }
    }
}

/// Its source is the [`Error`] of the session, if there was one.
impl std::error::Error for CsrfRejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Session(error) => Some(error),
            _ => None,
        }
    }
}
