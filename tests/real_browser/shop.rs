//! The app with sessions, and the pages without any around it.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::Request;
use axum::http::header::SET_COOKIE;
use axum::response::Html;
use axum::routing::any;
use cloakroom::store::MemoryStore;
use cloakroom::{Error, Key, Session, SessionLayer, SessionLayerBuilder};
use tower::ServiceExt;
use tower_http::cors::CorsLayer;

const WRITES: Key<u64> = Key::new("writes");

pub(crate) type Choose = fn(SessionLayerBuilder) -> SessionLayerBuilder;

/// The app, with sessions as they were chosen. Every page says who is logged in, and
/// how often it was written.
pub(crate) fn shop(choose: Choose) -> Router {
    shop_with(choose, |pages| pages)
}

/// The same, with something between the sessions and the pages.
pub(crate) fn shop_with(choose: Choose, around: fn(Router) -> Router) -> Router {
    let builder = SessionLayer::builder(MemoryStore::new());
    let sessions = choose(builder).build().unwrap();
    let pages = Router::new()
        .route("/login/{user}", any(log_in))
        .route("/remember/{user}", any(log_in_for_long))
        .route("/logout", any(log_out))
        .route("/account/logout", any(log_out))
        .route("/write", any(write))
        .route("/who", any(who));
    around(Router::new().merge(pages.clone()).nest("/app", pages))
        .layer(sessions)
        .layer(CorsLayer::very_permissive())
}

/// A page without a session.
pub(crate) fn blank() -> Router {
    Router::new().fallback(async || Html("<title>blank</title><body>blank</body>"))
}

/// The cookie of another user's live session, as `name=value`.
pub(crate) fn cookie_of(app: &Router, path: &str) -> String {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let response = runtime.unwrap().block_on(app.clone().oneshot(request));
    let response = response.unwrap();
    let line = response.headers()[SET_COOKIE].to_str().unwrap();
    line.split(';').next().unwrap().to_owned()
}

async fn log_in(session: Session, Path(user): Path<String>) -> Result<Html<String>, Error> {
    session.login(user).await?;
    page(&session)
}

async fn log_in_for_long(
    session: Session,
    Path(user): Path<String>,
) -> Result<Html<String>, Error> {
    session.login(user).await?;
    session.persistent_cookie()?;
    page(&session)
}

async fn log_out(session: Session) -> Result<Html<String>, Error> {
    session.logout().await?;
    page(&session)
}

async fn write(session: Session) -> Result<Html<String>, Error> {
    session.update(WRITES, |writes| *writes += 1)?;
    page(&session)
}

async fn who(session: Session) -> Result<Html<String>, Error> {
    page(&session)
}

fn page(session: &Session) -> Result<Html<String>, Error> {
    let user = session.user_id();
    let user = user.as_deref().unwrap_or("nobody");
    let writes = session.get(WRITES)?.unwrap_or_default();
    Ok(Html(format!(
        "<title>shop</title><body>{user} is here, {writes} writes <a href=''>again</a></body>"
    )))
}
