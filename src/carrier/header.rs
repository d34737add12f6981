//! The header that carries an id: which one of a request it is, and how a response tells of it.
//!
//! # How a request's header is read
//!
//! 1. `Authorization` is ours where its scheme is `Bearer`, in any case (RFC 9110 §11.1); another scheme is
//!    somebody else's, and is passed over. A header with a name of its own is always ours.
//! 2. Space and tab are trimmed off both ends of the value, and between scheme and value. Nothing is
//!    decoded, no case folded, no list taken apart: `a, b` is no id.
//! 3. Nothing, or the word `new`, in place of an id asks for one: it is no id, and not malformed.
//! 4. Several lines of ours with the same value count as one. With differing ones there is no session:
//!    which one a program in front of this one has looked at cannot be known.
//!
//! # How a response tells of it
//!
//! The value is what the client sends with its next request, as it stands; at an ending it is that without
//! an id, which asks for a new one.

use std::fmt;

use http::header::{AUTHORIZATION, HeaderMap};
use http::{HeaderName, HeaderValue};

use super::Line;
use crate::id::SessionId;

const SCHEME: &[u8] = b"Bearer";

/// What asks for an id, besides nothing: some clients cannot send an empty header.
const NEW: &[u8] = b"new";

/// The header of a layer.
#[derive(Clone, Debug)]
pub(crate) struct IdHeader {
    name: HeaderName,
    has_scheme: bool,
}

/// What our lines of a request hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential<'h> {
    /// No id, which asks for one.
    None,
    Value(&'h [u8]),
    Differing,
}

/// Without the value: it is a secret.
impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Value(_) => "Value(redacted)",
            Self::Differing => "Differing",
        })
    }
}

impl IdHeader {
    pub(crate) fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Whether one of these lines is ours.
    pub(crate) fn is_in<'h>(&self, lines: impl Iterator<Item = &'h HeaderValue>) -> bool {
        self.ours(lines).next().is_some()
    }

    /// What our lines hold; `None` if none is ours.
    pub(crate) fn find<'h>(
        &self,
        lines: impl Iterator<Item = &'h HeaderValue>,
    ) -> Option<Credential<'h>> {
        let mut ours = self.ours(lines);
        let value = ours.next()?;
        Some(match value {
            _ if !ours.all(|other| other == value) => Credential::Differing,
            b"" | NEW => Credential::None,
            value => Credential::Value(value),
        })
    }

    /// The values of our lines.
    fn ours<'h>(
        &self,
        lines: impl Iterator<Item = &'h HeaderValue>,
    ) -> impl Iterator<Item = &'h [u8]> {
        lines.filter_map(|line| {
            let line = trim(line.as_bytes());
            if !self.has_scheme {
                return Some(line);
            }
            let end = line.iter().position(is_space).unwrap_or(line.len());
            let (scheme, value) = line.split_at(end);
            scheme.eq_ignore_ascii_case(SCHEME).then(|| trim(value))
        })
    }

    /// Keeps the values of a request out of what is logged of it further in.
    pub(crate) fn mark_sensitive(&self, headers: &mut HeaderMap) {
        if let http::header::Entry::Occupied(mut lines) = headers.entry(&self.name) {
            lines.iter_mut().for_each(|line| line.set_sensitive(true));
        }
    }

    pub(super) fn tell(&self, id: &SessionId) -> Line {
        self.line(&id.encode())
    }

    pub(super) fn revoke(&self) -> Line {
        self.line(b"")
    }

    fn line(&self, id: &[u8]) -> Line {
        let value = match (self.has_scheme, id) {
            (true, b"") => SCHEME.to_vec(),
            (true, id) => [SCHEME, b" ", id].concat(),
            (false, id) => id.to_vec(),
        };
        // Those characters cannot spoil a header. If they did, a client without a session would be better
        // than one with half an id.
        let mut value =
            HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        Line::Header(self.name.clone(), value)
    }
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The header as it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdHeaderOptions {
    AuthorizationBearer,
    Named(String),
}

impl IdHeaderOptions {
    /// The header of this choice; `None` if it cannot be meant, with the reason added to the problems.
    pub(crate) fn build(&self, problems: &mut Vec<String>) -> Option<IdHeader> {
        let name = match self {
            Self::AuthorizationBearer => {
                return Some(IdHeader {
                    name: AUTHORIZATION,
                    has_scheme: true,
                });
            }
            Self::Named(name) => name,
        };
        let Ok(header) = HeaderName::try_from(name) else {
            problems.push(format!(
                "the id_header {name:?} is no name of a header: use letters and digits of ASCII, and \
                 !#$%&'*+-.^_`|~, such as \"X-Auth-Token\""
            ));
            return None;
        };
        if header == AUTHORIZATION {
            problems.push(
                "the id_header is Authorization, whose value begins with a scheme: use \
                 authorization_bearer, or a name of your own, such as \"X-Auth-Token\""
                    .into(),
            );
            return None;
        }
        if is_taken(header.as_str()) {
            problems.push(format!(
                "the id_header {name:?} means something else in HTTP, or is set by browsers or proxies: \
                 give a name of your own, such as \"X-Auth-Token\""
            ));
            return None;
        }
        Some(IdHeader {
            name: header,
            has_scheme: false,
        })
    }
}

/// Beginnings of names that only browsers set, or that proxies set or take out.
const TAKEN_PREFIXES: [&str; 5] = ["access-control-", "if-", "proxy-", "sec-", "x-forwarded-"];

/// Names that have a meaning of their own in requests or responses (RFC 9110, RFC 9111, RFC 6265bis and
/// the Fetch standard), or in this crate.
const TAKEN: [&str; 59] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "alt-svc",
    "authentication-info",
    "cache-control",
    "clear-site-data",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "cookie2",
    "date",
    "dnt",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "keep-alive",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "referrer-policy",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-content-type-options",
    "x-csrf-token",
    "x-frame-options",
    "x-real-ip",
];

fn is_taken(name: &str) -> bool {
    TAKEN.contains(&name) || TAKEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn header(options: IdHeaderOptions) -> IdHeader {
        options.build(&mut Vec::new()).unwrap()
    }

    fn bearer() -> IdHeader {
        header(IdHeaderOptions::AuthorizationBearer)
    }

    fn named() -> IdHeader {
        header(IdHeaderOptions::Named("X-Auth-Token".into()))
    }

    /// What lines hold, in words.
    fn found(header: &IdHeader, lines: &[&str]) -> String {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| HeaderValue::from_bytes(line.as_bytes()).unwrap())
            .collect();
        let found = header.find(lines.iter());
        assert_eq!(header.is_in(lines.iter()), found.is_some());
        match found {
            None => "not ours".into(),
            Some(Credential::None) => "asks".into(),
            Some(Credential::Differing) => "differing".into(),
            Some(Credential::Value(value)) => format!("{:?}", std::str::from_utf8(value).unwrap()),
        }
    }

    #[test]
    fn a_header_of_its_own_is_always_ours() {
        for (lines, expected) in [
            (&[][..], "not ours"),
            (&["abc"], r#""abc""#),
            (&[" \t abc\t "], r#""abc""#),
            (&["a b"], r#""a b""#),
            (&["a, a"], r#""a, a""#),
            (&["Bearer abc"], r#""Bearer abc""#),
            (&[""], "asks"),
            (&[" \t "], "asks"),
            (&["new"], "asks"),
            (&["New"], r#""New""#),
            (&["abc", " abc"], r#""abc""#),
            (&["abc", "abd"], "differing"),
            (&["abc", "abc", "abd"], "differing"),
            (&["abc", ""], "differing"),
            (&["", "abc"], "differing"),
            (&["", " "], "asks"),
        ] {
            assert_eq!(found(&named(), lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn an_authorization_is_ours_where_its_scheme_is_bearer() {
        for (lines, expected) in [
            (&[][..], "not ours"),
            (&["Bearer abc"], r#""abc""#),
            (&["bearer abc"], r#""abc""#),
            (&["BEARER abc"], r#""abc""#),
            (&["  Bearer \t  abc  "], r#""abc""#),
            (&["Bearer\tabc"], r#""abc""#),
            (&["Bearer a b"], r#""a b""#),
            (&["Bearer"], "asks"),
            (&["Bearer "], "asks"),
            (&["bEARER new"], "asks"),
            (&["Bearerabc"], "not ours"),
            (&["Bearer,abc"], "not ours"),
            (&["abc"], "not ours"),
            (&[""], "not ours"),
            (&["Basic YTpi"], "not ours"),
            (&["Basic YTpi", "Bearer abc"], r#""abc""#),
            (&["Bearer abc", "bearer  abc"], r#""abc""#),
            (&["Bearer abc", "Bearer abd"], "differing"),
            (&["Bearer abc", "Bearer"], "differing"),
        ] {
            assert_eq!(found(&bearer(), lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_told_is_found_again_and_kept_out_of_logs() {
        let id = SessionId::parse(ID.as_bytes()).unwrap();
        for (header, told, revoked) in [
            (bearer(), format!("Bearer {ID}"), "Bearer"),
            (named(), ID.to_owned(), ""),
        ] {
            let Line::Header(name, value) = header.tell(&id) else {
                panic!("it is told in a cookie");
            };
            assert_eq!((&name, value.to_str().unwrap()), (header.name(), &*told));
            assert!(value.is_sensitive());
            assert_eq!(found(&header, &[&told]), format!("{ID:?}"));
            let Line::Header(name, value) = header.revoke() else {
                panic!("it is revoked in a cookie");
            };
            assert_eq!((&name, value.to_str().unwrap()), (header.name(), revoked));
            assert_eq!(found(&header, &[revoked]), "asks");
        }
    }

    #[test]
    fn lines_and_what_they_hold_do_not_print() {
        let lines = [HeaderValue::from_static("secret")];
        let found = named().find(lines.iter());
        assert_eq!(format!("{found:?}"), "Some(Value(redacted))");
        let mut headers = HeaderMap::new();
        headers.append("x-auth-token", HeaderValue::from_static("secret"));
        headers.append("x-auth-token", HeaderValue::from_static("secret too"));
        named().mark_sensitive(&mut headers);
        assert!(!format!("{headers:?}").contains("secret"));
    }

    #[test]
    fn the_lists_of_taken_names_are_in_order_and_lowercase() {
        assert!(TAKEN.is_sorted() && TAKEN_PREFIXES.is_sorted());
        for name in TAKEN.iter().chain(&TAKEN_PREFIXES) {
            assert_eq!(*name, name.to_lowercase());
        }
    }
}
