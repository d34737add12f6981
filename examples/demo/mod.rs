//! The app of the examples `postgres` and `redis`: a number that a session counts, and a login. It is the same on
//! every store.

#[path = "../web/layout.rs"]
mod layout;
#[path = "../web/server.rs"]
pub(crate) mod server;

use axum::Router;
use axum::extract::{Form, State};
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Redirect, Response, Result};
use axum::routing::{get, post};
use cloakroom::{Key, Session};
use maud::{Markup, html};
use serde::Deserialize;

const COUNT: Key<u64> = Key::new("count");

/// What the page says of the place where sessions are kept.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) title: &'static str,
    /// A command that shows the session of a handle.
    pub(crate) look: fn(handle: &str) -> String,
    /// A command that starts another node of this app.
    pub(crate) another_node: &'static str,
}

pub(crate) fn routes(place: Place) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/add", post(add))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .with_state(place)
}

/// `None` where there is no live session: then nothing is stored, and no cookie is set.
async fn home(State(place): State<Place>, session: Option<Session>) -> Result<Response> {
    let Some(session) = session else {
        let content = html! {
            p { "You have no session, and nothing about you is stored." }
            (add_form())
            (login_form())
        };
        return Ok(page(place, content).into_response());
    };
    let count = session.get(COUNT)?.unwrap_or(0);
    let handle = session.handle().map(|handle| handle.to_string());
    let content = html! {
        p { "Counted in this session: " strong { (count) } }
        (add_form())
        @match session.user_id() {
            Some(user_id) => {
                p { "You are logged in as " strong { (user_id) } "." }
                p { form method="post" action="/logout" { button { "Log out" } } }
            }
            None => (login_form()),
        }
        p { "Your session is kept here:" br; code { ((place.look)(&handle.unwrap_or_default())) } }
    };
    // After a logout, the browser's back button must not show this page from its cache.
    Ok(([(CACHE_CONTROL, "no-store")], page(place, content)).into_response())
}

/// The first time, it makes the session, and the cookie.
async fn add(session: Session) -> Result<Redirect> {
    session.update(COUNT, |count: &mut u64| *count += 1)?;
    Ok(Redirect::to("/"))
}

#[derive(Deserialize)]
struct Visitor {
    name: String,
}

/// Anybody may be anybody here. An app verifies a password first: see the example `accounts`.
async fn log_in(session: Session, Form(visitor): Form<Visitor>) -> Result<Redirect> {
    // A new id, so that one which somebody else may know from before the login opens nothing.
    session.login(visitor.name).await?;
    Ok(Redirect::to("/"))
}

/// It has ended on every node when this returns.
async fn log_out(session: Session) -> Result<Redirect> {
    session.logout().await?;
    Ok(Redirect::to("/"))
}

fn add_form() -> Markup {
    html! { p { form method="post" action="/add" { button { "Add one" } } } }
}

fn login_form() -> Markup {
    html! {
        form.card method="post" action="/login" {
            label for="name" { "Name" }
            input #name name="name" autocomplete="username" autocapitalize="none" required;
            button { "Log in" }
        }
    }
}

fn page(place: Place, content: Markup) -> Markup {
    let content = html! {
        (content)
        p.hint {
            "Process " (std::process::id()) " answered. Start another node by" br;
            code { (place.another_node) } br;
            "and open " a href="http://localhost:3001" { "http://localhost:3001" } ": it is the same session there."
        }
    };
    layout::page(place.title, html! { a href="/" { "Home" } }, content)
}
