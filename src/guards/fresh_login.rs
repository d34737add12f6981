//! Who logged in recently.

use std::str::FromStr;

use axum_core::extract::FromRequestParts;
use http::request::Parts;

use super::rejection::GuardRejection;
use super::user::user_of;
use crate::clock::to_unix_millis;
use crate::session::Session;

/// By how many milliseconds a login may lie in the future: clocks of several nodes differ.
const CLOCK_SKEW: i64 = 60_000;

/// Lets through who logged in less than `MINUTES` minutes ago, and says who that is: for what an unattended
/// browser, or a stolen cookie, must not do, such as changing a password (OWASP ASVS 5.0 7.5.1, 7.5.3).
///
/// Who is not logged in gets the answer of [`RequireUser`](super::RequireUser). Who logged in too long ago
/// stays logged in, and is led to the login page or gets a 403, by the
/// [rules of the module](super#who-gets-which-answer). Another [`Session::login`] as the same user makes the
/// login fresh and keeps the session's data.
///
/// The time is that of [`Session::authenticated_at`], by the clock of the layer. Once exactly `MINUTES`
/// minutes have passed, the login is too old. One that lies in the future by up to a minute is fresh, since
/// the clocks of several nodes differ; one by more is not, since a clock that was put back would keep it
/// fresh for as long.
///
/// `T` is how your program knows its users, as with [`RequireUser`](super::RequireUser).
///
/// ```
/// use std::time::Duration;
///
/// use axum::{Router, http::StatusCode, response::Result, routing::post};
/// use cloakroom::guards::RequireFreshLogin;
/// use cloakroom::testing::{ManualClock, TestClient};
/// use cloakroom::{Session, SessionLayer, store::MemoryStore};
///
/// async fn change_password(RequireFreshLogin(user_id): RequireFreshLogin<10>) -> String {
///     format!("changed that of {user_id}")
/// }
///
/// async fn log_in(session: Session) -> Result<()> {
///     Ok(session.login("alice").await?)
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cloakroom::ConfigError> {
/// let clock = ManualClock::new();
/// let sessions = SessionLayer::builder(MemoryStore::new()).clock(clock.clone()).build()?;
/// let app = Router::new()
///     .route("/password", post(change_password))
///     .route("/login", post(log_in))
///     .layer(sessions);
///
/// let client = TestClient::new(app);
/// client.post("/password").await.assert_status(StatusCode::UNAUTHORIZED);
/// client.post("/login").await;
/// assert_eq!(client.post("/password").await.text(), "changed that of alice");
///
/// clock.advance(Duration::from_secs(10 * 60));
/// client.post("/password").await.assert_status(StatusCode::FORBIDDEN);
/// client.post("/login").await;
/// client.post("/password").await.assert_status(StatusCode::OK);
/// # Ok(()) }
/// ```
///
/// No login is fresh for zero minutes, so that does not compile:
///
/// ```compile_fail,E0080
/// use axum::{Router, middleware::from_extractor};
/// use cloakroom::guards::RequireFreshLogin;
///
/// let app: Router = Router::new().layer(from_extractor::<RequireFreshLogin<0>>());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequireFreshLogin<const MINUTES: u64, T = String>(pub T);

impl<const MINUTES: u64, T> RequireFreshLogin<MINUTES, T> {
    const SECONDS: u64 = {
        assert!(MINUTES > 0, "no login is fresh for zero minutes");
        MINUTES.saturating_mul(60)
    };

    fn is_fresh(session: &Session) -> bool {
        let Some(login) = session.authenticated_at() else {
            return false;
        };
        let age = session
            .settings()
            .now()
            .saturating_sub(to_unix_millis(login));
        let limit = i64::try_from(Self::SECONDS.saturating_mul(1_000)).unwrap_or(i64::MAX);
        (-CLOCK_SKEW..limit).contains(&age)
    }
}

impl<const MINUTES: u64, T: FromStr, S: Sync> FromRequestParts<S>
    for RequireFreshLogin<MINUTES, T>
{
    type Rejection = GuardRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, GuardRejection> {
        let session = Session::load(&parts.extensions).await?;
        let Some(user) = user_of(&session)? else {
            return Err(GuardRejection::not_logged_in(parts, session.settings()));
        };
        match Self::is_fresh(&session) {
            true => Ok(Self(user)),
            false => Err(GuardRejection::login_too_old(
                Self::SECONDS,
                parts,
                session.settings(),
            )),
        }
    }
}
