//! The ways in and out: sign-up, login, logout.

use std::time::Duration;

use axum::Router;
use axum::extract::{Form, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response, Result};
use axum::routing::{get, post};
use cloakroom::guards::{RequireUser, ReturnTo};
use cloakroom::{Login, Session, Timeouts};
use maud::Markup;
use serde::Deserialize;

use super::member::Member;
use super::pages::{self, LoginForm};
use super::passwords::NewPassword;
use super::users::{Email, Users};
use super::{MESSAGE, device};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a login lasts with "remember me": two weeks without use, and three months at most.
const REMEMBERED: Timeouts = Timeouts::new(DAY.saturating_mul(14), DAY.saturating_mul(90));

pub(crate) fn routes() -> Router<Users> {
    Router::new()
        .route("/signup", get(sign_up_form).post(sign_up))
        .route("/login", get(log_in_form).post(log_in))
        .route("/login/done", get(log_in_done))
        .route("/logout", post(log_out))
}

/// It does not ask for the session, so the session costs it nothing.
async fn sign_up_form() -> Markup {
    pages::sign_up("", None)
}

#[derive(Deserialize)]
struct SignUp {
    email: String,
    password: String,
}

/// It does not log in, and says the same to a new user and to one who was there: so it cannot be asked who is
/// one. Who wants to know can still try to log in with the password that they have just chosen. An app that
/// sends mail has no such gap: it makes the user when the link in the mail is followed, and sends another mail
/// to those who have an account.
async fn sign_up(
    State(users): State<Users>,
    session: Session,
    Form(SignUp { email, password }): Form<SignUp>,
) -> Result<Response> {
    let problem = match (email.parse::<Email>(), NewPassword::new(password)) {
        (Ok(email), Some(password)) => {
            users.sign_up(email, password).await?;
            let message = "If this address is new here, your account is ready: log in with it.";
            session.insert(MESSAGE, message.into())?;
            return Ok(Redirect::to("/login").into_response());
        }
        (Err(()), _) => pages::NO_EMAIL,
        (_, None) => pages::TOO_SHORT,
    };
    let form = pages::sign_up(&email, Some(problem));
    Ok((StatusCode::UNPROCESSABLE_ENTITY, form).into_response())
}

/// Who is logged in gets the form as well: a guard may want the password again.
async fn log_in_form(
    member: Option<Member>,
    session: Option<Session>,
    ReturnTo(next): ReturnTo,
) -> Result<Markup> {
    let message = session.map(|session| session.take(MESSAGE)).transpose()?;
    Ok(pages::log_in(&LoginForm {
        again: member.as_ref().map(|member| &member.user),
        message: message.flatten().as_deref(),
        leads_on: next.is_some(),
        ..LoginForm::default()
    }))
}

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: String,
    #[serde(default)]
    remember_me: bool,
}

/// The session is an argument, so that it is loaded before the password is looked at. Two things depend on
/// that: if the password is changed meanwhile, and every session ended, this login does not count; and while
/// the store is down everybody gets the same answer, which does not tell whether a password was right.
async fn log_in(
    State(users): State<Users>,
    session: Session,
    member: Option<Member>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    Form(Credentials {
        email,
        password,
        remember_me,
    }): Form<Credentials>,
) -> Result<Response> {
    let Some(user) = users.verify(&email, password).await? else {
        let member = member.filter(|member| member.user.email == email);
        let form = pages::log_in(&LoginForm {
            again: member.as_ref().map(|member| &member.user),
            email: &email,
            // One answer to a wrong password and to an unknown address, so that nobody learns who is a user.
            problem: Some("The e-mail address or the password is wrong."),
            ..LoginForm::default()
        });
        return Ok((StatusCode::FORBIDDEN, form).into_response());
    };
    let mut login = Login::new(user.id.to_string()).label(device::label(&headers));
    if remember_me {
        login = login.remember_me(REMEMBERED);
    }
    // A new id, so that one which somebody else may know from before the login opens nothing. On a session of
    // the same user this makes the login fresh, and keeps what the session has: "remember me", too.
    session.login(login).await?;
    // The query goes along, since it may say where the user wanted to go.
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    Ok(Redirect::to(&format!("/login/done{query}")).into_response())
}

/// Where a login leads: on, or, if the browser did not keep the cookie, to the reason why.
async fn log_in_done(user: Option<RequireUser<i64>>, ReturnTo(next): ReturnTo) -> Response {
    match user {
        Some(_) => next.unwrap_or_default().redirect().into_response(),
        None => pages::cookie_not_kept().into_response(),
    }
}

async fn log_out(session: Session) -> Result<Redirect> {
    session.logout().await?;
    // No message for the next page: it would need a session again.
    Ok(Redirect::to("/"))
}
