//! Where a login leads back to.

use std::convert::Infallible;

use axum_core::extract::FromRequestParts;
use http::request::Parts;
use serde::{Deserialize, Deserializer};

use super::local_path::LocalPath;
use super::page::{address, leads_to_login};

/// Where the user wanted to go before the login, as the `next` of the query says; `None` if it says nothing,
/// or nothing that is a [`LocalPath`].
///
/// As an extractor it never fails: a `next` that leads to another site is taken for none, and so is one that
/// leads to the login page, or to the very page that is asked for.
///
/// It can also be a field of a form or a query that serde reads, with `#[serde(default)]` for those that lack
/// it. A text that is no local path is `None` there, too; only that it may name the login page is not known
/// there.
///
/// ```
/// use axum::{Router, routing::get};
/// use cloakroom::guards::ReturnTo;
/// use cloakroom::testing::TestClient;
///
/// async fn next(ReturnTo(next): ReturnTo) -> String {
///     next.unwrap_or_default().to_string()
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let client = TestClient::new(Router::new().route("/login", get(next)));
/// assert_eq!(client.get("/login?next=/orders/7").await.text(), "/orders/7");
/// assert_eq!(client.get("/login?next=//evil.example").await.text(), "/");
/// assert_eq!(client.get("/login").await.text(), "/");
/// # }
/// ```
///
/// ```
/// use cloakroom::guards::ReturnTo;
///
/// #[derive(serde::Deserialize)]
/// struct Credentials {
///     name: String,
///     password: String,
///     #[serde(default)]
///     next: ReturnTo,
/// }
///
/// let form = r#"{ "name": "alice", "password": "…", "next": "https://evil.example" }"#;
/// assert_eq!(serde_json::from_str::<Credentials>(form)?.next, ReturnTo(None));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReturnTo(pub Option<LocalPath>);

impl<S: Sync> FromRequestParts<S> for ReturnTo {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let address = address(parts);
        let query = address.query().unwrap_or_default();
        let next = form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "next")
            .and_then(|(_, next)| next.parse().ok());
        // A login page that leads to itself does so for ever, if it lets those through who are logged in.
        let leads_on =
            |next: &LocalPath| next.path() != address.path() && !leads_to_login(next, parts);
        Ok(Self(next.filter(leads_on)))
    }
}

/// A text that is no local path is no next page, and not an error.
impl<'de> Deserialize<'de> for ReturnTo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(Self(text.and_then(|text| text.parse().ok())))
    }
}
