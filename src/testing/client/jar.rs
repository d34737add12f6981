//! The cookies of a browser that is at `https://app.example.com`.

use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;

use super::TEST_HOST;

/// The longest that a browser keeps a cookie: 400 days (RFC 6265bis §5.5).
const LONGEST: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// The most bytes of name and value together that a browser takes (RFC 6265bis §5.6).
const MOST_BYTES: usize = 4096;

/// A `Set-Cookie` header that a browser would have refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedCookie {
    /// The header's value; what is not UTF-8 in it is replaced.
    pub header: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Jar {
    /// In the order of their creation.
    cookies: Vec<Stored>,
    rejected: Vec<RejectedCookie>,
    /// What is no cookie: the header that the client sends as it came last.
    pub(super) sent_back: Option<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Debug)]
struct Stored {
    cookie: Cookie<'static>,
    /// The path that a request must have or be below.
    path: String,
    /// The domain it was set for; `None` for this host alone.
    domain: Option<String>,
    /// `None` until the browser is closed.
    expires_at: Option<OffsetDateTime>,
}

impl Stored {
    fn is_same(&self, other: &Self) -> bool {
        self.cookie.name() == other.cookie.name()
            && self.path == other.path
            && self.domain == other.domain
    }

    fn is_live(&self, now: OffsetDateTime) -> bool {
        self.expires_at.is_none_or(|expires_at| expires_at > now)
    }
}

impl Jar {
    pub(super) fn cookies(&self, now: OffsetDateTime) -> Vec<Cookie<'static>> {
        self.live(now).map(|stored| stored.cookie.clone()).collect()
    }

    pub(super) fn rejected(&self) -> &[RejectedCookie] {
        &self.rejected
    }

    pub(super) fn put(&mut self, name: &str, value: &str) {
        self.store(Stored {
            cookie: Cookie::new(name.to_owned(), value.to_owned()),
            path: "/".into(),
            domain: None,
            expires_at: None,
        });
    }

    pub(super) fn clear(&mut self) {
        self.cookies.clear();
    }

    pub(super) fn end_browser_session(&mut self) {
        self.cookies.retain(|stored| stored.expires_at.is_some());
    }

    /// The value of the `Cookie` header of a request for this path: longer paths first, then older cookies
    /// (RFC 6265bis §5.8.3).
    pub(super) fn header(&self, path: &str, now: OffsetDateTime) -> String {
        let mut due: Vec<_> = self
            .live(now)
            .filter(|stored| path_matches(path, &stored.path))
            .collect();
        due.sort_by_key(|stored| std::cmp::Reverse(stored.path.len()));
        let pairs: Vec<_> = due
            .iter()
            .map(|stored| format!("{}={}", stored.cookie.name(), stored.cookie.value()))
            .collect();
        pairs.join("; ")
    }

    /// Does with the `Set-Cookie` headers of a response what a browser does.
    pub(super) fn store_all<'a>(
        &mut self,
        headers: impl IntoIterator<Item = &'a HeaderValue>,
        request_path: &str,
        now: OffsetDateTime,
    ) {
        for header in headers {
            match accept(header, request_path, now) {
                Ok(stored) if stored.is_live(now) => self.store(stored),
                Ok(dead) => self.cookies.retain(|stored| !stored.is_same(&dead)),
                Err(reason) => self.rejected.push(RejectedCookie {
                    header: String::from_utf8_lossy(header.as_bytes()).into_owned(),
                    reason,
                }),
            }
        }
    }

    pub(super) fn keep_sent_back(&mut self, response: &HeaderMap) {
        if let Some((name, value)) = &mut self.sent_back
            && let Some(told) = response.get(&*name)
        {
            *value = told.clone();
        }
    }

    /// Stores a cookie; one that it replaces leaves it its place (RFC 6265bis §5.7).
    fn store(&mut self, new: Stored) {
        match self.cookies.iter_mut().find(|stored| stored.is_same(&new)) {
            Some(stored) => *stored = new,
            None => self.cookies.push(new),
        }
    }

    fn live(&self, now: OffsetDateTime) -> impl Iterator<Item = &Stored> {
        self.cookies
            .iter()
            .filter(move |stored| stored.is_live(now))
    }
}

/// The cookie of a `Set-Cookie` header.
pub(super) fn parse(header: &HeaderValue) -> Result<Cookie<'static>, &'static str> {
    let text = std::str::from_utf8(header.as_bytes()).map_err(|_| "it is not UTF-8")?;
    Cookie::parse(text.to_owned()).map_err(|_| "it has no name, or no value")
}

/// The cookie as it is stored, or the rule by which a browser refuses it (RFC 6265bis §5.6 and §5.7).
fn accept(
    header: &HeaderValue,
    request_path: &str,
    now: OffsetDateTime,
) -> Result<Stored, &'static str> {
    let cookie = parse(header)?;
    if cookie.name().len() + cookie.value().len() > MOST_BYTES {
        return Err("name and value have more than 4096 bytes");
    }
    let secure = cookie.secure() == Some(true);
    let http_only = cookie.http_only() == Some(true);
    if cookie.same_site() == Some(SameSite::None) && !secure {
        return Err("SameSite=None needs Secure");
    }
    if cookie.partitioned() == Some(true) && !secure {
        return Err("Partitioned needs Secure");
    }

    let has_prefix = |prefix: &str| {
        let start = cookie.name().get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let host = has_prefix("__Host-");
    let http = has_prefix("__Http-") || has_prefix("__Host-Http-");
    if (host || http || has_prefix("__Secure-")) && !secure {
        return Err("the prefix of its name needs Secure");
    }
    if http && !http_only {
        return Err("the prefix of its name needs HttpOnly");
    }
    if host && cookie.path() != Some("/") {
        return Err("the prefix of its name needs Path=/");
    }
    if host && cookie.domain().is_some() {
        return Err("the prefix of its name allows no Domain");
    }

    let domain = match cookie.domain() {
        None | Some("") => None,
        Some(domain) if !domain_matches(domain) => {
            return Err("its Domain is not that of the request's host");
        }
        Some(domain) => Some(domain.to_ascii_lowercase()),
    };
    let path = match cookie.path() {
        Some(path) if path.starts_with('/') => path.to_owned(),
        _ => default_path(request_path).to_owned(),
    };
    Ok(Stored {
        expires_at: expires_at(&cookie, now),
        cookie,
        path,
        domain,
    })
}

/// When the cookie expires; `None` when the browser is closed. `Max-Age` counts more than `Expires`.
fn expires_at(cookie: &Cookie<'_>, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let expires_at = match cookie.max_age() {
        Some(age) => now.saturating_add(age),
        None => cookie.expires_datetime()?,
    };
    Some(expires_at.min(now + LONGEST))
}

/// Whether a cookie of this `Domain` is for the test host (RFC 6265bis §5.1.3).
fn domain_matches(domain: &str) -> bool {
    let domain = domain.to_ascii_lowercase();
    // A browser knows from a list that all the world registers names below it.
    let is_public_suffix = domain == "com";
    let is_above = || {
        let rest = TEST_HOST.strip_suffix(domain.as_str());
        rest.is_some_and(|rest| rest.ends_with('.'))
    };
    !is_public_suffix && (domain == TEST_HOST || is_above())
}

/// Whether a request for this path sends the cookies of that one (RFC 6265bis §5.1.4).
fn path_matches(request_path: &str, cookie_path: &str) -> bool {
    let Some(rest) = request_path.strip_prefix(cookie_path) else {
        return false;
    };
    rest.is_empty() || cookie_path.ends_with('/') || rest.starts_with('/')
}

/// The path of a cookie that comes without one (RFC 6265bis §5.1.4).
fn default_path(request_path: &str) -> &str {
    match request_path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &request_path[..end],
    }
}
