//! The account: its page, its password, its end.

use axum::Router;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response, Result};
use axum::routing::get;
use cloakroom::Session;
use cloakroom::guards::RequireFreshLogin;
use maud::Markup;
use serde::Deserialize;

use super::member::Member;
use super::passwords::NewPassword;
use super::users::Users;
use super::{MESSAGE, pages};

pub(crate) fn routes() -> Router<Users> {
    Router::new()
        .route("/password", get(password_form).post(change_password))
        .route("/delete", get(delete_form).post(delete))
}

/// The only page for everybody. `None` where there is no live session: then nothing is stored, and no cookie
/// is set.
pub(crate) async fn home(member: Option<Member>, session: Option<Session>) -> Result<Markup> {
    let message = session.map(|session| session.take(MESSAGE)).transpose()?;
    let user = member.map(|member| member.user);
    Ok(pages::home(user.as_ref(), message.flatten().as_deref()))
}

async fn password_form(Member { user, .. }: Member) -> Markup {
    pages::password(&user, None)
}

#[derive(Deserialize)]
struct PasswordChange {
    current: String,
    new: String,
}

/// Asks for the current password (OWASP ASVS 5.0 6.2.3), and logs out everywhere else: whoever knew the old
/// password may be there.
async fn change_password(
    State(users): State<Users>,
    Member { user, session }: Member,
    Form(PasswordChange { current, new }): Form<PasswordChange>,
) -> Result<Response> {
    let refused = |status, problem| (status, pages::password(&user, Some(problem))).into_response();
    let Some(new) = NewPassword::new(new) else {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, pages::TOO_SHORT));
    };
    if !users.change_password(user.id, current, new).await? {
        return Ok(refused(
            StatusCode::FORBIDDEN,
            "The current password is wrong.",
        ));
    }
    // In this order. The other way round, somebody could log in between the two with the old password, and
    // stay. This also refuses a login that has verified the old password and is not through yet.
    let ended = session.end_other_sessions().await?;
    let message = format!(
        "Your password is changed. {}",
        pages::logged_out_elsewhere(ended)
    );
    session.insert(MESSAGE, message)?;
    Ok(Redirect::to("/places").into_response())
}

/// For what nobody may do who finds an open browser: who logged in longer ago proves the password again.
type Fresh = RequireFreshLogin<10, i64>;

async fn delete_form(_: Fresh, Member { user, .. }: Member) -> Markup {
    pages::delete(&user)
}

async fn delete(
    State(users): State<Users>,
    _: Fresh,
    Member { user, session }: Member,
) -> Result<Redirect> {
    // First the user, so that nobody logs in any more; then the sessions, here and everywhere.
    users.remove(user.id).await?;
    session.end_all_sessions().await?;
    // In a new session, which is nobody's.
    session.insert(MESSAGE, "Your account is deleted.".into())?;
    Ok(Redirect::to("/"))
}
