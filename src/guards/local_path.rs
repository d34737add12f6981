//! Addresses within this site.

use std::fmt;
use std::str::FromStr;

use axum::response::Redirect;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// More than the addresses of pages have; with every byte escaped, a `Location` still holds it.
const MAX_BYTES: usize = 2_048;

/// What is escaped in the value of a query: all but what needs no escape there (RFC 3986 §3.4), and is easier
/// to read without.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// A path of this site with its query, such as `/orders/7?tab=2`: never an address of another one, whatever
/// browser reads it.
///
/// It is what may come from a client and go into a redirect (OWASP ASVS 5.0 3.7.2, CWE-601). It begins with
/// one slash, has at most 2,048 bytes, and holds printable ASCII alone, without `\`, `#`, quotes, backticks
/// and angle brackets; every other character has to be percent-encoded. Its path has no segment `.` or
/// `..`, and neither does it once it is percent-decoded; nor does it hold a backslash or a control character
/// then, or begin with two slashes. So it also stays here if something on the way decodes it, or tidies it
/// up.
///
/// The [default](Self::default) is `/`.
///
/// ```
/// use cloakroom::guards::LocalPath;
///
/// let path: LocalPath = "/orders/7?tab=2".parse()?;
/// assert_eq!(path.as_str(), "/orders/7?tab=2");
///
/// for elsewhere in ["https://evil.example/", "//evil.example", "/\\evil.example", "/.//evil.example", "/\t/evil.example"] {
///     assert!(elsewhere.parse::<LocalPath>().is_err());
/// }
/// assert_eq!(LocalPath::default().as_str(), "/");
/// # Ok::<(), cloakroom::guards::InvalidLocalPath>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LocalPath(Box<str>);

impl LocalPath {
    /// The path and the query, as they stand in an address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        without_query(&self.0)
    }

    /// A 303 that leads there.
    ///
    /// ```
    /// use axum::http::StatusCode;
    /// use axum::response::IntoResponse;
    /// use cloakroom::guards::LocalPath;
    ///
    /// let response = LocalPath::default().redirect().into_response();
    /// assert_eq!(response.status(), StatusCode::SEE_OTHER);
    /// assert_eq!(response.headers()["location"], "/");
    /// ```
    pub fn redirect(&self) -> Redirect {
        Redirect::to(&self.0)
    }

    /// This page with `next` in its query.
    pub(super) fn leading_to(&self, next: &Self) -> String {
        let separator = if self.0.contains('?') { '&' } else { '?' };
        let next = utf8_percent_encode(&next.0, QUERY_VALUE);
        format!("{self}{separator}next={next}")
    }

    /// Whether the query has a `next` already.
    pub(crate) fn has_next(&self) -> bool {
        let query = self.0.split_once('?').map_or("", |(_, query)| query);
        form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "next")
    }
}

fn without_query(text: &str) -> &str {
    text.split_once('?').map_or(text, |(path, _)| path)
}

/// The page `/`.
impl Default for LocalPath {
    fn default() -> Self {
        Self("/".into())
    }
}

impl FromStr for LocalPath {
    type Err = InvalidLocalPath;

    fn from_str(text: &str) -> Result<Self, InvalidLocalPath> {
        match problem(text) {
            Some(problem) => Err(InvalidLocalPath { problem }),
            None => Ok(Self(text.into())),
        }
    }
}

/// Why this is no local path.
fn problem(text: &str) -> Option<&'static str> {
    if !text.starts_with('/') {
        return Some("it does not begin with a slash");
    }
    if text.len() > MAX_BYTES {
        return Some("it is longer than 2,048 bytes");
    }
    // Browsers take a backslash for a slash, and leave out tabs and line breaks (WHATWG URL, basic URL
    // parser). What else is left out here is never in an address that a browser sends, or ends the query.
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(FORBIDDEN) {
        return Some("it has a character that must be percent-encoded, a backslash or a fragment");
    }
    let decoded: Vec<u8> = percent_decode_str(without_query(text)).collect();
    // Two slashes begin the name of a host.
    if decoded.starts_with(b"//") {
        return Some("it begins with two slashes, which name another host");
    }
    if decoded
        .iter()
        .any(|byte| byte.is_ascii_control() || *byte == b'\\')
    {
        return Some("its path has an encoded backslash or control character");
    }
    // `/.//host` becomes `//host` where something resolves the dots before it passes the address on.
    let mut segments = decoded.split(|&byte| byte == b'/');
    if segments.any(|segment| segment == b"." || segment == b"..") {
        return Some("its path has a segment `.` or `..`");
    }
    None
}

const FORBIDDEN: [char; 7] = ['\\', '#', '"', '\'', '<', '>', '`'];

impl fmt::Display for LocalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LocalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for LocalPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Fails on what is no local path; [`ReturnTo`](super::ReturnTo) takes it for nothing instead.
impl<'de> Deserialize<'de> for LocalPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Serialize for LocalPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A text is no [`LocalPath`]. It says why, and nothing of the text, which may come from an attacker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidLocalPath {
    problem: &'static str,
}

impl fmt::Display for InvalidLocalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is no path of this site: {}", self.problem)
    }
}

impl std::error::Error for InvalidLocalPath {}
