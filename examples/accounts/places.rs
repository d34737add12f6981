//! Where a user is logged in.

use axum::Router;
use axum::extract::Form;
use axum::http::StatusCode;
use axum::response::{Redirect, Result};
use axum::routing::{get, post};
use cloakroom::store::Handle;
use maud::Markup;
use serde::Deserialize;

use super::member::Member;
use super::users::Users;
use super::{MESSAGE, pages};

pub(crate) fn routes() -> Router<Users> {
    Router::new()
        .route("/places", get(list))
        .route("/places/end", post(end_one))
        .route("/places/end-others", post(end_others))
}

async fn list(Member { user, session }: Member) -> Result<Markup> {
    let message = session.take(MESSAGE)?;
    let mut places = session.user_sessions().await?;
    // The latest login comes first; but before all, the browser that asks.
    places.sort_by_key(|place| !place.is_current());
    Ok(pages::places(&user, &places, message.as_deref()))
}

#[derive(Deserialize)]
struct Place {
    handle: String,
}

/// The handle comes from a form, and may be anything. Only a session of this very user ends by it.
async fn end_one(
    Member { session, .. }: Member,
    Form(Place { handle }): Form<Place>,
) -> Result<Redirect> {
    let handle: Handle = handle.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    let message = match session.end_user_session(&handle).await? {
        true => "You are logged out there.",
        false => "You were logged out there already.",
    };
    session.insert(MESSAGE, message.into())?;
    Ok(Redirect::to("/places"))
}

async fn end_others(Member { session, .. }: Member) -> Result<Redirect> {
    let ended = session.end_other_sessions().await?;
    session.insert(MESSAGE, pages::logged_out_elsewhere(ended))?;
    Ok(Redirect::to("/places"))
}
