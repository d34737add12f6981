//! Accounts: sign up, log in, see where you are logged in and end that, change the password, delete the
//! account. Run it, and open http://localhost:3000.
//!
//! Users and sessions are in one SQLite database, so that a restart logs nobody out. `PORT` chooses another
//! port, and `CLOAKROOM_DB` another file.
//!
//! Where to look for what:
//!
//! - `access`: sign-up, login with "remember me", the password again, logout
//! - `places`: where a user is logged in, and the ends of that
//! - `account`: a changed password, a deleted account
//! - `member`: who may see a page
//! - `users`, `passwords`: the users' table, and what is kept of a password
//!
//! What an app that serves people has besides:
//!
//! - **HTTPS**, without which no browser keeps the cookie, but on `localhost`.
//! - **A limit on attempts**, wherever a password is asked for: by account (some ten in a row, then ever longer
//!   pauses) and by network, since whoever tries one password on every account fails once at each. Here
//!   nothing but the cost of the hash slows anybody down.
//! - **Mails**: one that confirms the address at the sign-up, one for a password that was forgotten, and one
//!   that reports each changed password.
//! - **A list of passwords** that are known from breaches, and are refused (NIST SP 800-63B-4 §3.1.1.2).
//! - **A second factor**: see `Login::second_factor_pending`.

mod access;
mod account;
mod device;
mod failure;
#[path = "../web/layout.rs"]
mod layout;
mod member;
mod pages;
mod passwords;
mod places;
#[path = "../web/server.rs"]
mod server;
pub(crate) mod users;

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::middleware::map_response;
use axum::{Router, routing::get};
use cloakroom::store::{SessionLimit, SessionStore, SqliteStore};
use cloakroom::{Key, SessionLayer, SessionLayerBuilder, Sweeper};
use tower_http::csrf::CsrfLayer;

use self::server::{Problem, serve};
use self::users::Users;

/// What the next page tells the user, once.
const MESSAGE: Key<String> = Key::new("message");

#[tokio::main]
async fn main() -> Result<(), Problem> {
    // What the sessions have to report, such as a store that fails, goes to the log.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();

    let database = database()?;
    let store = SqliteStore::connect(&database).await?;
    store.migrate().await?;
    let users = Users::open(store.pool().clone()).await?;
    let sweeper = Sweeper::spawn(store.clone(), Duration::from_secs(10 * 60));

    println!("users and sessions are kept in {}", database.display());
    serve(app(users, sessions(store.clone()).build()?)).await?;

    sweeper.stop().await;
    store.pool().close().await;
    Ok(())
}

/// The database: next to the program, unless `CLOAKROOM_DB` names another.
fn database() -> std::io::Result<PathBuf> {
    match env::var_os("CLOAKROOM_DB") {
        Some(path) => Ok(path.into()),
        None => Ok(env::current_exe()?.with_extension("db")),
    }
}

/// How sessions are here: as they are by default, which is an hour without use, and a day at most.
pub(crate) fn sessions(store: impl SessionStore) -> SessionLayerBuilder {
    SessionLayer::builder(store)
        // Where the guards lead those who are not logged in.
        .login_page("/login")
        // The list of a user's sessions has to stay one that can be looked through.
        .limit_sessions_per_user(SessionLimit::EndOldest(20))
}

pub(crate) fn app(users: Users, sessions: SessionLayer) -> Router {
    Router::new()
        .route("/", get(account::home))
        .merge(access::routes())
        .merge(places::routes())
        .merge(account::routes())
        .fallback(pages::not_found)
        .layer(sessions)
        .layer(map_response(failure::as_page))
        .layer(map_response(pages::with_headers))
        // More than any form here has.
        .layer(DefaultBodyLimit::max(16 * 1024))
        // The cookie is SameSite=Lax, so that no other site's form can act for somebody who is logged in.
        // This refuses such forms altogether: one that logs somebody in, and one of a neighbour under the
        // same domain, too.
        .layer(CsrfLayer::new())
        .with_state(users)
}
