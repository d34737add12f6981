//! Who is logged in.

use std::any::type_name;
use std::str::FromStr;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;

use super::rejection::GuardRejection;
use crate::error::{Error, ErrorKind};
use crate::events::notices;
use crate::session::Session;

/// Lets through who is logged in, and says who that is.
///
/// `T` is how your program knows its users: a number, a UUID, anything that can be parsed from the user id
/// that was given to [`Session::login`]; a `String` if nothing is said. A user id that is no `T` is a mistake
/// of the program, since it logged in somebody whom it does not know: it answers 500 and is logged as an
/// error. It is no 401, because a login would not help.
///
/// Who is not logged in, or not any more, gets the [answer of the module](super#who-gets-which-answer).
///
/// ```
/// use axum::{Router, http::StatusCode, response::Result, routing::{get, post}};
/// use cloakroom::guards::RequireUser;
/// use cloakroom::testing::TestClient;
/// use cloakroom::{Session, SessionLayer, store::MemoryStore};
///
/// async fn account(RequireUser(user_id): RequireUser<u64>) -> String {
///     format!("user {user_id}")
/// }
///
/// async fn log_in(session: Session) -> Result<()> {
///     Ok(session.login(4711.to_string()).await?)
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let app = Router::new()
///     .route("/account", get(account))
///     .route("/login", post(log_in))
///     .layer(SessionLayer::new(MemoryStore::new()));
///
/// let client = TestClient::new(app);
/// client.get("/account").await.assert_status(StatusCode::UNAUTHORIZED);
/// client.post("/login").await;
/// assert_eq!(client.get("/account").await.text(), "user 4711");
/// # }
/// ```
///
/// # Pages for everybody
///
/// `Option<RequireUser<T>>` lets everybody through, for a page that greets its users by name. It is `None` if
/// nobody is logged in, and only then: a store that fails, a missing layer and a user id that is no `T` are
/// errors there, too.
///
/// ```
/// use cloakroom::guards::RequireUser;
///
/// async fn home(user: Option<RequireUser>) -> String {
///     match user {
///         Some(RequireUser(user_id)) => format!("Hello, {user_id}"),
///         None => "Hello, stranger".to_owned(),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequireUser<T = String>(pub T);

impl<T: FromStr, S: Sync> FromRequestParts<S> for RequireUser<T> {
    type Rejection = GuardRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, GuardRejection> {
        let session = Session::load(&parts.extensions).await?;
        match user_of(&session)? {
            Some(user) => Ok(Self(user)),
            None => Err(GuardRejection::not_logged_in(parts, session.settings())),
        }
    }
}

/// `None` where nobody is logged in.
impl<T: FromStr, S: Sync> OptionalFromRequestParts<S> for RequireUser<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Error> {
        let session = Session::load(&parts.extensions).await?;
        Ok(user_of(&session)?.map(Self))
    }
}

/// Who is logged in.
///
/// # Errors
///
/// When the user id is no `T`.
pub(super) fn user_of<T: FromStr>(session: &Session) -> Result<Option<T>, Error> {
    let Some(user_id) = session.user_id() else {
        return Ok(None);
    };
    // The parser's own error may repeat the user id, and so is not shown.
    user_id.parse().map(Some).map_err(|_| {
        let wanted = type_name::<T>();
        notices::user_id_unreadable(session.handle().as_ref(), wanted);
        Error::new(
            ErrorKind::Decode,
            format!(
                "the user id of the session is no {wanted}: give `login` what the guard can parse, or \
                 the guard the type of what was given"
            ),
        )
    })
}
