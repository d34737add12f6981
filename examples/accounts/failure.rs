//! What went wrong: for the log, and as a page.

use std::error::Error;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::pages;

/// The app could not do its work, because of a database or the like. The log says why, and the client gets a
/// 503.
pub(crate) struct Failure;

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        tracing::error!("a request fails: {error}");
        Self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let page = pages::failure("Something does not work at the moment. Please try again.");
        (StatusCode::SERVICE_UNAVAILABLE, page).into_response()
    }
}

/// Shows a failure of the session as a page. The status and the headers stay: there may be a cookie among them.
pub(crate) async fn as_page(response: Response) -> Response {
    let Some(error) = response.extensions().get::<cloakroom::Error>() else {
        return response;
    };
    let page = pages::failure(error.body_text()).into_response();
    let (mut parts, _) = response.into_parts();
    let (of_page, body): (_, Body) = page.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    if let Some(html) = of_page.headers.get(CONTENT_TYPE) {
        parts.headers.insert(CONTENT_TYPE, html.clone());
    }
    Response::from_parts(parts, body)
}
