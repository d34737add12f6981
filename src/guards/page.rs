//! Who is led to the login page, and where from.

use axum::extract::OriginalUri;
use http::header::{ACCEPT, HeaderName, REFERER};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};

use super::local_path::LocalPath;
use crate::events::notices;
use crate::settings::Settings;
use crate::slot::SlotRef;

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where the login page is for this request: `None` if it is not a browser's that goes to a page or sends a
/// form, or if there is no login page.
pub(super) fn login_address(parts: &Parts, settings: &Settings) -> Option<String> {
    let login_page = settings.login_page.as_ref()?;
    if !is_navigation(parts) {
        return None;
    }
    if address(parts).path() == login_page.path() {
        notices::login_page_guarded(login_page.path());
        return None;
    }
    let next = match parts.method {
        Method::POST => page_of_form(&parts.headers),
        _ => local(address(parts).path_and_query()),
    };
    Some(match next.filter(|next| next.path() != login_page.path()) {
        Some(next) => login_page.leading_to(&next),
        None => login_page.to_string(),
    })
}

/// The address that the client asked for, which is more than is left of it in a nested router.
pub(super) fn address(parts: &Parts) -> &Uri {
    let original = parts.extensions.get::<OriginalUri>();
    original.map_or(&parts.uri, |OriginalUri(uri)| uri)
}

/// Whether this is the login page of the layer around the request.
pub(super) fn leads_to_login(next: &LocalPath, parts: &Parts) -> bool {
    let around = parts.extensions.get::<SlotRef>();
    let login_page = around.and_then(|around| around.slot.settings.login_page.as_ref());
    login_page.is_some_and(|login_page| login_page.path() == next.path())
}

/// Whether a browser shows the user what is answered.
fn is_navigation(parts: &Parts) -> bool {
    let is_for_page = matches!(parts.method, Method::GET | Method::HEAD | Method::POST);
    // A script that asks for a part of a page accepts HTML, too, and would put the login form in its place.
    let mode = parts.headers.get(SEC_FETCH_MODE);
    is_for_page && mode.is_none_or(|mode| mode == "navigate") && accepts_html(&parts.headers)
}

/// Whether `text/html` is accepted by name. `*/*` is what programs send that think of no page.
fn accepts_html(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).iter();
    let mut ranges = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("text/html"));
        is_html && !parts.any(is_zero_weight)
    })
}

/// `q=0`, with which a client refuses (RFC 9110 §12.4.2).
fn is_zero_weight(parameter: &str) -> bool {
    let weight = parameter
        .split_once('=')
        .filter(|(name, _)| name.eq_ignore_ascii_case("q"));
    let weight = weight.and_then(|(_, weight)| weight.parse::<f32>().ok());
    weight.is_some_and(|weight| weight <= 0.0)
}

/// The page that a form was on, if the browser says that it was one of this site: another site could make a
/// login lead to any page of ours.
fn page_of_form(headers: &HeaderMap) -> Option<LocalPath> {
    if headers.get(SEC_FETCH_SITE)? != "same-origin" {
        return None;
    }
    let referer: Uri = headers.get(REFERER)?.to_str().ok()?.parse().ok()?;
    local(referer.path_and_query())
}

fn local(page: Option<&PathAndQuery>) -> Option<LocalPath> {
    page?.as_str().parse().ok()
}
