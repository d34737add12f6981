//! The check of a request, by its headers.

use axum_core::extract::FromRequestParts;
use http::Method;
use http::header::{HeaderName, UPGRADE};
use http::request::Parts;

use super::origin::Source;
use super::{CsrfRejection, CsrfToken, verify};
use crate::error::Error;
use crate::events::CsrfRefusal;
use crate::session::Session;

/// In which scripts send the token.
const HEADER: HeaderName = HeaderName::from_static("x-csrf-token");

/// Lets through what this site's own pages have caused, by the [rules of the module](super#the-rules): for
/// scripts, which send the token in the header `X-CSRF-Token`, and for WebSockets.
///
/// As an extractor it guards a handler, and with [`axum::middleware::from_extractor`] any number of routes:
/// it lets every GET, HEAD, OPTIONS and TRACE pass that is not for an upgrade, since those change nothing
/// (RFC 9110 §9.2.1). Forms cannot set headers: for them there is [`CsrfForm`](super::CsrfForm).
///
/// ```
/// use axum::{Router, http::{Request, StatusCode}, response::Result, routing::{delete, get, post}};
/// use cloakroom::csrf::{CsrfGuard, CsrfToken};
/// use cloakroom::testing::TestClient;
/// use cloakroom::{Session, SessionLayer, store::MemoryStore};
///
/// async fn page(token: CsrfToken) -> String {
///     token.to_string() // … in a `<meta name="csrf-token">`, where the script finds it
/// }
///
/// async fn log_in(session: Session) -> Result<()> {
///     Ok(session.login("alice").await?)
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let app = Router::new()
///     .route("/", get(page))
///     .route("/orders/7", delete(async |_: CsrfGuard| "deleted"))
///     .route("/login", post(log_in))
///     .layer(SessionLayer::new(MemoryStore::new()));
/// let client = TestClient::new(app);
/// client.post("/login").await;
/// let token = client.get("/").await.text().to_owned();
///
/// let request = || Request::delete("/orders/7");
/// let forged = request().body(Default::default()).unwrap();
/// client.send(forged).await.assert_status(StatusCode::FORBIDDEN);
/// let ours = request().header("x-csrf-token", token).body(Default::default()).unwrap();
/// client.send(ours).await.assert_status(StatusCode::OK);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CsrfGuard(());

impl<S: Sync> FromRequestParts<S> for CsrfGuard {
    type Rejection = CsrfRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, CsrfRejection> {
        let is_upgrade = parts.headers.contains_key(UPGRADE) || parts.method == Method::CONNECT;
        if is_safe(&parts.method) && !is_upgrade {
            return Ok(Self(()));
        }
        let session = Session::load(&parts.extensions).await?;
        match is_upgrade {
            true => check_upgrade(&session, parts)?,
            false => check(&session, parts, None)?,
        }
        Ok(Self(()))
    }
}

impl<S: Sync> FromRequestParts<S> for CsrfToken {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        Self::of(&Session::load(&parts.extensions).await?)
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    )
}

/// The check of a request that has this token in its form, or one in its header.
pub(super) fn check(
    session: &Session,
    parts: &Parts,
    in_form: Option<&str>,
) -> Result<(), CsrfRejection> {
    if session.is_carried_by_header() {
        return Ok(());
    }
    if session.is_new() {
        return match Source::of(parts) {
            Source::Own | Source::Unknown => Ok(()),
            Source::Other => Err(CsrfRejection::refused(CsrfRefusal::CrossOrigin, session)),
        };
    }
    let in_header = || parts.headers.get(HEADER);
    match (in_form, in_header()) {
        (Some(token), _) => verify(session, token),
        // What is no text is no token.
        (None, Some(token)) => verify(session, token.to_str().unwrap_or_default()),
        (None, None) => Err(CsrfRejection::refused(CsrfRefusal::MissingToken, session)),
    }
}

/// A script cannot set headers of an upgrade; but every browser says where it comes from (RFC 6455 §4.1).
fn check_upgrade(session: &Session, parts: &Parts) -> Result<(), CsrfRejection> {
    if session.is_carried_by_header() || Source::of(parts) == Source::Own {
        return Ok(());
    }
    Err(CsrfRejection::refused(CsrfRefusal::CrossOrigin, session))
}
