//! What a request got.

use std::fmt;

use bytes::Bytes;
use cookie::Cookie;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, SET_COOKIE};

use super::jar::parse;

/// A response with its whole body.
///
/// ```
/// # use axum::{Router, routing::get};
/// use axum::http::StatusCode;
/// use cloakroom::testing::TestClient;
///
/// # #[tokio::main] async fn main() {
/// let app = Router::new().route("/", get(async || ([("x-answer", "42")], "hello")));
/// let response = TestClient::new(app).get("/").await.assert_status(StatusCode::OK);
/// assert_eq!(response.header("x-answer"), Some("42"));
/// assert_eq!(response.text(), "hello");
/// assert!(response.set_cookies().is_empty());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TestResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl TestResponse {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The value of the header of this name; `None` if the response has none.
    ///
    /// # Panics
    ///
    /// If there are several, of which the test should not see the first alone, or it is not ASCII.
    pub fn header(&self, name: impl TryInto<HeaderName, Error: fmt::Debug>) -> Option<&str> {
        let name = match name.try_into() {
            Ok(name) => name,
            Err(error) => panic!("this is not the name of a header: {error:?}"),
        };
        let mut values = self.headers.get_all(&name).iter();
        let value = values.next()?;
        assert!(
            values.next().is_none(),
            "the response has several headers {name}"
        );
        match value.to_str() {
            Ok(value) => Some(value),
            Err(_) => panic!("the header {name} is not ASCII: {value:?}"),
        }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body as text.
    ///
    /// # Panics
    ///
    /// If it is not UTF-8.
    pub fn text(&self) -> &str {
        match std::str::from_utf8(&self.body) {
            Ok(text) => text,
            Err(error) => panic!("the body of the response is not text: {error}"),
        }
    }

    /// What the response's `Set-Cookie` headers say, in their order, whether a browser would accept it or
    /// not.
    ///
    /// # Panics
    ///
    /// If one of them is not a cookie at all.
    pub fn set_cookies(&self) -> Vec<Cookie<'static>> {
        let headers = self.headers.get_all(SET_COOKIE).iter();
        headers
            .map(|header| match parse(header) {
                Ok(cookie) => cookie,
                Err(reason) => panic!("Set-Cookie: {header:?} is not a cookie: {reason}"),
            })
            .collect()
    }

    /// Returns the response if it has this status.
    ///
    /// # Panics
    ///
    /// If it has another, with the response's body in the message.
    pub fn assert_status(self, expected: StatusCode) -> Self {
        assert!(
            self.status == expected,
            "the status is {} and should be {expected}; the body is {:?}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        self
    }
}
