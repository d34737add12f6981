//! What a guard answers.

use std::fmt;

use axum::response::Redirect;
use axum_core::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::page::login_address;
use crate::error::Error;
use crate::settings::Settings;

/// A guard did not let a request through.
///
/// As a response it leads to the login page, or says what is missing; [the rules](super#who-gets-which-answer)
/// are those of the module. A copy is in that response's extensions, so that one outer `map_response` can
/// render every one.
///
/// ```
/// use axum::response::{Html, IntoResponse, Response};
/// use axum::{Router, http::StatusCode, routing::get};
/// use cloakroom::guards::{GuardRejection, GuardRejectionKind, RequireUser};
/// use cloakroom::testing::TestClient;
/// use cloakroom::{SessionLayer, store::MemoryStore};
///
/// async fn account(user: Result<RequireUser, GuardRejection>) -> Response {
///     match user {
///         Ok(RequireUser(user_id)) => format!("Hello, {user_id}").into_response(),
///         Err(rejection) if rejection.kind() == GuardRejectionKind::NotLoggedIn => {
///             (rejection.status(), Html("<h1>Who are you?</h1>")).into_response()
///         }
///         Err(rejection) => rejection.into_response(),
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let app = Router::new().route("/", get(account)).layer(SessionLayer::new(MemoryStore::new()));
/// let response = TestClient::new(app).get("/").await.assert_status(StatusCode::UNAUTHORIZED);
/// assert_eq!(response.text(), "<h1>Who are you?</h1>");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GuardRejection {
    reason: Reason,
    login_address: Option<String>,
}

#[derive(Clone, Debug)]
enum Reason {
    NotLoggedIn,
    LoginTooOld { max_age: u64 },
    Session(Error),
}

/// The category of a [`GuardRejection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GuardRejectionKind {
    /// Nobody is logged in. 303 to the login page, or 401.
    NotLoggedIn,
    /// The user logged in too long ago. 303 to the login page, or 403.
    LoginTooOld,
    /// The session could not be loaded, or its user id not be read. The status is that of the [`Error`].
    Session,
}

impl GuardRejection {
    pub(super) fn not_logged_in(parts: &Parts, settings: &Settings) -> Self {
        Self {
            reason: Reason::NotLoggedIn,
            login_address: login_address(parts, settings),
        }
    }

    /// `max_age` is in seconds.
    pub(super) fn login_too_old(max_age: u64, parts: &Parts, settings: &Settings) -> Self {
        Self {
            reason: Reason::LoginTooOld { max_age },
            login_address: login_address(parts, settings),
        }
    }

    /// Why the request was not let through.
    pub fn kind(&self) -> GuardRejectionKind {
        match self.reason {
            Reason::NotLoggedIn => GuardRejectionKind::NotLoggedIn,
            Reason::LoginTooOld { .. } => GuardRejectionKind::LoginTooOld,
            Reason::Session(_) => GuardRejectionKind::Session,
        }
    }

    /// Where the login page is, with the `next` to come back to; `None` if the request is not to be led
    /// there.
    pub fn login_address(&self) -> Option<&str> {
        self.login_address.as_deref()
    }

    /// The status of the response that this rejection turns into.
    pub fn status(&self) -> StatusCode {
        match &self.reason {
            Reason::Session(error) => error.status(),
            _ if self.login_address.is_some() => StatusCode::SEE_OTHER,
            Reason::NotLoggedIn => StatusCode::UNAUTHORIZED,
            Reason::LoginTooOld { .. } => StatusCode::FORBIDDEN,
        }
    }

    /// The body of the response that this rejection turns into: empty where it leads to the login page.
    pub fn body_text(&self) -> &'static str {
        match &self.reason {
            Reason::Session(error) => error.body_text(),
            _ if self.login_address.is_some() => "",
            Reason::NotLoggedIn => "You are not logged in.",
            Reason::LoginTooOld { .. } => {
                "You logged in too long ago for this. Please log in again."
            }
        }
    }

    /// The challenge, for a client that is not led to the login page.
    fn challenge(&self) -> Option<HeaderValue> {
        match self.reason {
            Reason::NotLoggedIn => Some(HeaderValue::from_static("Session")),
            Reason::LoginTooOld { max_age } => HeaderValue::try_from(format!(
                r#"Session error="insufficient_user_authentication", max_age="{max_age}""#
            ))
            .ok(),
            Reason::Session(_) => None,
        }
    }
}

impl From<Error> for GuardRejection {
    fn from(error: Error) -> Self {
        Self {
            reason: Reason::Session(error),
            login_address: None,
        }
    }
}

impl IntoResponse for GuardRejection {
    fn into_response(self) -> Response {
        let mut response = match (&self.reason, &self.login_address) {
            (Reason::Session(error), _) => error.clone().into_response(),
            (_, Some(address)) => Redirect::to(address).into_response(),
            (_, None) => {
                let mut headers = HeaderMap::new();
                headers.extend(
                    self.challenge()
                        .map(|challenge| (WWW_AUTHENTICATE, challenge)),
                );
                (self.status(), headers, self.body_text()).into_response()
            }
        };
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(CACHE_CONTROL, no_store);
        response.extensions_mut().insert(self);
        response
    }
}

impl fmt::Display for GuardRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::NotLoggedIn => f.write_str("nobody is logged in"),
            Reason::LoginTooOld { max_age } => {
                write!(f, "the user logged in {max_age} seconds ago or earlier")
            }
            Reason::Session(_) => f.write_str("the session could not be used"),
        }
    }
}

/// Its source is the [`Error`] of the session, if there was one.
impl std::error::Error for GuardRejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Session(error) => Some(error),
            _ => None,
        }
    }
}
