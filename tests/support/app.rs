//! The app: a route for each thing that a handler can do with its session.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Path;
use axum::middleware::map_response;
use axum::response::{Response, Result};
use axum::routing::{get, post};
use cloakroom::{Error, Session};

/// Each route answers with what the session holds then.
pub(crate) fn app() -> Router {
    Router::new()
        .route("/unused", get("unused"))
        .route("/show", get(show))
        .route("/handle", get(handle))
        .route("/set/{key}/{value}", post(set))
        .route("/save/{key}/{value}", post(save))
        .route("/add/{key}", post(add))
        .route("/remove/{key}", post(remove))
        .route("/clear", post(clear))
        .route("/renew", post(renew))
        .route("/login/{user}", post(log_in))
        .route("/logout", post(log_out))
}

/// Says the kind of a session's error in a header, as an app would render it in a page of its own.
pub(crate) fn with_errors_shown(router: Router) -> Router {
    router.layer(map_response(async |mut response: Response| {
        if let Some(error) = response.extensions().get::<Error>() {
            let kind = format!("{:?}", error.kind());
            response
                .headers_mut()
                .insert("x-session-error", kind.parse().unwrap());
        }
        response
    }))
}

/// Who is logged in and what the session holds, as `alice: key=value other=value`.
pub(crate) fn contents(session: &Session) -> String {
    let mut text = session
        .user_id()
        .map_or("nobody:".to_owned(), |user| format!("{user}:"));
    let values: BTreeMap<_, _> = session
        .keys()
        .into_iter()
        .map(|key| {
            let value: serde_json::Value = session.get(&key).unwrap().unwrap();
            (key, value)
        })
        .collect();
    for (key, value) in values {
        text.push_str(&format!(" {key}={}", value.to_string().trim_matches('"')));
    }
    text
}

async fn show(session: Option<Session>) -> String {
    session.map_or("no session".to_owned(), |session| contents(&session))
}

async fn handle(session: Session) -> String {
    session
        .handle()
        .map_or("no session".to_owned(), |handle| handle.to_string())
}

async fn set(session: Session, Path((key, value)): Path<(String, String)>) -> Result<String> {
    session.insert(&key, value)?;
    Ok(contents(&session))
}

async fn save(session: Session, Path((key, value)): Path<(String, String)>) -> Result<()> {
    session.insert(&*key, value)?;
    Ok(session.save().await?)
}

async fn add(session: Session, Path(key): Path<String>) -> Result<String> {
    session.update(&key, |n: &mut u64| *n += 1)?;
    Ok(contents(&session))
}

async fn remove(session: Session, Path(key): Path<String>) -> Result<String> {
    session.remove(key)?;
    Ok(contents(&session))
}

async fn clear(session: Session) -> Result<String> {
    session.clear()?;
    Ok(contents(&session))
}

async fn renew(session: Session) -> Result<String> {
    session.renew_id()?;
    Ok(contents(&session))
}

async fn log_in(session: Session, Path(user): Path<String>) -> Result<String> {
    session.login(user).await?;
    Ok(contents(&session))
}

async fn log_out(session: Session) -> Result<String> {
    session.logout().await?;
    Ok(contents(&session))
}
