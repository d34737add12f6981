//! The check of a form.

use axum::Form;
use axum::extract::RawForm;
use axum_core::body::Body;
use axum_core::extract::{FromRequest, Request};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::de::DeserializeOwned;

use super::guard::check;
use super::{CsrfRejection, FIELD};
use crate::session::Session;

/// A form that a page of this site has sent, by the [rules of the module](super#the-rules): axum's
/// [`Form<T>`](axum::Form), after a look at the token in the field `csrf_token`.
///
/// The field is taken out before `T` is made of the rest, so that `T` need not name it. Where the form has no
/// such field, the token may come in the header `X-CSRF-Token`, as scripts send it. Every method is checked,
/// GET as well, so that a handler for several is not open by one.
///
/// **Do not send forms with a token by GET**: the token is in the address then, which logs, histories and the
/// `Referer` of the next page tell on. A handler that changes something is none of GET anyhow.
///
/// The body is read within axum's limit for bodies. What is no form, too long, or no `T` is answered as by
/// `Form<T>`, once the token was found right. For multipart forms there is [`verify`](super::verify).
///
/// ```
/// use axum::{Router, http::StatusCode, response::{Html, Result}, routing::get};
/// use cloakroom::csrf::{CsrfForm, CsrfToken};
/// use cloakroom::testing::TestClient;
/// use cloakroom::{Session, SessionLayer, store::MemoryStore};
///
/// #[derive(serde::Deserialize)]
/// struct Name {
///     name: String,
/// }
///
/// async fn form(session: Session, token: CsrfToken) -> Result<Html<String>> {
///     session.insert("seen", true)?;
///     Ok(Html(format!(r#"<form method="post">{} <input name="name"></form>"#, token.hidden_field())))
/// }
///
/// async fn rename(CsrfForm(form): CsrfForm<Name>) -> String {
///     form.name
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let app = Router::new()
///     .route("/", get(form).post(rename))
///     .layer(SessionLayer::new(MemoryStore::new()));
/// let client = TestClient::new(app);
/// let page = client.get("/").await;
/// let (_, field) = page.text().split_once(r#"name="csrf_token" value=""#).unwrap();
/// let token = &field[..64];
///
/// let response = client.post_form("/", &[("csrf_token", token), ("name", "Ada")]).await;
/// assert_eq!(response.text(), "Ada");
/// client.post_form("/", &[("name", "Eve")]).await.assert_status(StatusCode::FORBIDDEN);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CsrfForm<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for CsrfForm<T> {
    type Rejection = CsrfRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, CsrfRejection> {
        let (mut parts, body) = request.into_parts();
        let session = Session::load(&parts.extensions).await?;
        let form = Request::from_parts(parts.clone(), body);
        let RawForm(form) = RawForm::from_request(form, state)
            .await
            .map_err(|rejection| CsrfRejection::form(rejection.status(), rejection.body_text()))?;
        let (token, rest) = take_token(&form);
        check(&session, &parts, token.as_deref())?;

        // As a body whatever the method: what is in a query has no token any more, either.
        parts.method = Method::POST;
        let urlencoded = HeaderValue::from_static("application/x-www-form-urlencoded");
        parts.headers.insert(CONTENT_TYPE, urlencoded);
        let rest = Request::from_parts(parts, Body::from(rest));
        match Form::from_request(rest, state).await {
            Ok(Form(form)) => Ok(Self(form)),
            Err(rejection) => Err(CsrfRejection::form(
                rejection.status(),
                rejection.body_text(),
            )),
        }
    }
}

/// The token of a form, and the form without it. Two tokens are none that could be right.
fn take_token(form: &[u8]) -> (Option<String>, Vec<u8>) {
    let mut tokens = Vec::new();
    let mut rest = Vec::new();
    for pair in form.split(|&byte| byte == b'&') {
        match form_urlencoded::parse(pair).next() {
            Some((name, value)) if name == FIELD => tokens.push(value.into_owned()),
            _ => rest.push(pair),
        }
    }
    let token = match tokens.len() {
        0 => None,
        1 => tokens.pop(),
        _ => Some(String::new()),
    };
    (token, rest.join(&b'&'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_taken_out_and_the_rest_stays_to_the_byte() {
        for (form, token, rest) in [
            ("", None, ""),
            ("a=1&b=2", None, "a=1&b=2"),
            ("csrf_token=x", Some("x"), ""),
            ("a=1&csrf_token=x&b=%FF+", Some("x"), "a=1&b=%FF+"),
            ("csrf%5Ftoken=x%41&a", Some("xA"), "a"),
            ("csrf_token&a=1", Some(""), "a=1"),
            ("CSRF_token=x", None, "CSRF_token=x"),
            ("a=csrf_token=x", None, "a=csrf_token=x"),
            ("csrf_token=x&csrf_token=x", Some(""), ""),
        ] {
            let (taken, left) = take_token(form.as_bytes());
            assert_eq!(
                (taken.as_deref(), left.as_slice()),
                (token, rest.as_bytes()),
                "{form}"
            );
        }
    }
}
