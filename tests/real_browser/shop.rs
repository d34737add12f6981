//! The app with sessions, and the pages without any around it.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::Request;
use axum::http::header::SET_COOKIE;
use axum::response::{Html, Result};
use axum::routing::any;
use cloakroom::store::MemoryStore;
use cloakroom::{Session, SessionLayer, SessionLayerBuilder};
use tower::ServiceExt;
use tower_http::cors::CorsLayer;

pub(crate) type Choose = fn(SessionLayerBuilder) -> SessionLayerBuilder;

/// The app, with sessions as they were chosen. Every page says who is logged in.
pub(crate) fn shop(choose: Choose) -> Router {
    let builder = SessionLayer::builder(MemoryStore::new());
    let sessions = choose(builder).build().unwrap();
    let pages = Router::new()
        .route("/login/{user}", any(log_in))
        .route("/remember/{user}", any(log_in_for_long))
        .route("/logout", any(log_out))
        .route("/write", any(write))
        .route("/who", any(who));
    Router::new()
        .merge(pages.clone())
        .nest("/app", pages)
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

async fn log_in(session: Session, Path(user): Path<String>) -> Result<Html<String>> {
    session.login(user).await?;
    Ok(page(&session))
}

async fn log_in_for_long(session: Session, Path(user): Path<String>) -> Result<Html<String>> {
    session.login(user).await?;
    session.persistent_cookie()?;
    Ok(page(&session))
}

async fn log_out(session: Session) -> Result<Html<String>> {
    session.logout().await?;
    Ok(page(&session))
}

async fn write(session: Session) -> Result<Html<String>> {
    session.update("n", |n: &mut u64| *n += 1)?;
    Ok(page(&session))
}

async fn who(session: Session) -> Html<String> {
    page(&session)
}

fn page(session: &Session) -> Html<String> {
    let user = session.user_id();
    let user = user.as_deref().unwrap_or("nobody");
    Html(format!(
        "<title>shop</title><body>{user} is here <a href=''>again</a></body>"
    ))
}
