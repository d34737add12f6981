//! A login app: users with hashed passwords, pages for those who are logged in, and sessions in a file, so
//! that a restart logs nobody out. Run it, and open http://localhost:3000.
//!
//! `PORT` chooses another port, and `CLOAKROOM_DB` another file for the sessions.
//!
//! What an app that serves people has besides: HTTPS, users in a database, and a limit on the attempts to
//! log in.

mod html;
mod pages;
mod server;
mod users;

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Form, FromRequestParts, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response, Result};
use axum::routing::{get, post};
use cloakroom::store::SqliteStore;
use cloakroom::{Key, Session, SessionLayer, Sweeper};
use serde::Deserialize;
use tower_http::csrf::CsrfLayer;

use crate::server::{Problem, serve};
use crate::users::Users;

/// A message for the next page, which takes it.
const MESSAGE: Key<String> = Key::new("message");

const VISITS: Key<u64> = Key::new("visits");

#[tokio::main]
async fn main() -> Result<(), Problem> {
    // What the sessions have to report, such as a store that fails, goes to the log.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();

    let database = database()?;
    let store = SqliteStore::connect(&database).await?;
    store.migrate().await?;
    let sweeper = Sweeper::spawn(store.clone(), Duration::from_secs(10 * 60));

    let app = Router::new()
        .route("/", get(home))
        .route("/login", get(login_form).post(log_in))
        .route("/login/done", get(login_done))
        .route("/account", get(account))
        .route("/logout", post(log_out))
        .layer(SessionLayer::new(store.clone()))
        // The cookie is SameSite=Lax, so that no other site's form can act for somebody who is logged in.
        // This refuses such forms altogether: one that logs somebody in, and one of a neighbour under the
        // same domain, too.
        .layer(CsrfLayer::new())
        .with_state(Arc::new(Users::demo()?));

    println!("sessions are kept in {}", database.display());
    for (name, password) in users::DEMO {
        println!("log in as {name} with the password {password}");
    }
    serve(app).await?;

    sweeper.stop().await;
    store.pool().close().await;
    Ok(())
}

/// The file of the sessions: next to the program, unless `CLOAKROOM_DB` names another.
fn database() -> std::io::Result<PathBuf> {
    match env::var_os("CLOAKROOM_DB") {
        Some(path) => Ok(path.into()),
        None => Ok(env::current_exe()?.with_extension("db")),
    }
}

/// `None` where there is no live session: then nothing is stored, and no cookie is set.
async fn home(session: Option<Session>) -> Response {
    match session.and_then(|session| session.user_id()) {
        Some(user_id) => (NOT_KEPT, pages::home(Some(&user_id))).into_response(),
        None => pages::home(None).into_response(),
    }
}

/// It does not ask for the session, so the session costs it nothing.
async fn login_form() -> Html<String> {
    pages::login(None)
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
}

/// The session is an argument, and so it is loaded before the password is looked at: while the store is
/// down, everybody gets the same answer, and no one learns from it whether a password was right.
async fn log_in(
    State(users): State<Arc<Users>>,
    session: Session,
    Form(Credentials { name, password }): Form<Credentials>,
) -> Result<Response> {
    let verified = tokio::task::spawn_blocking(move || users.verify(&name, &password))
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let Some(user_id) = verified else {
        // One answer to a wrong password and to an unknown name, so that nobody can find out who is a user.
        let form = pages::login(Some("The name or the password is wrong."));
        return Ok((StatusCode::FORBIDDEN, form).into_response());
    };
    session.insert(MESSAGE, format!("Welcome, {user_id}! You are logged in."))?;
    // A new id, so that one which somebody else may know from before the login opens nothing.
    session.login(user_id).await?;
    Ok(Redirect::to("/login/done").into_response())
}

/// Where a login leads: to the account, or, if the browser did not keep the cookie, to the reason why.
async fn login_done(session: Option<Session>) -> Response {
    match session {
        Some(_) => Redirect::to("/account").into_response(),
        None => pages::cookie_not_kept().into_response(),
    }
}

async fn account(Member { user_id, session }: Member) -> Result<impl IntoResponse> {
    let message = session.take(MESSAGE)?;
    let visits = session.update(VISITS, |visits: &mut u64| *visits += 1)?;
    let page = pages::account(&user_id, message.as_deref(), visits);
    Ok((NOT_KEPT, page))
}

async fn log_out(session: Session) -> Result<Redirect> {
    session.logout().await?;
    // No message for the next page: it would need a session again.
    Ok(Redirect::to("/"))
}

/// For pages of somebody's own: after a logout, the browser's back button must not show them from its cache.
const NOT_KEPT: [(HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

/// Somebody who is logged in. A handler that takes this is for them only: everybody else gets the login
/// form.
struct Member {
    user_id: Arc<str>,
    session: Session,
}

impl<S: Sync> FromRequestParts<S> for Member {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        let session = Session::load(&parts.extensions)
            .await
            .map_err(IntoResponse::into_response)?;
        match session.user_id() {
            Some(user_id) => Ok(Self { user_id, session }),
            None => Err(Redirect::to("/login").into_response()),
        }
    }
}
