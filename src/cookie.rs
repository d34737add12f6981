//! The session's cookie: which one of a request it is, and how it is set and removed.
//!
//! # How a request's cookie is found
//!
//! Most parsers of `Cookie` lines were written to be generous, and each generosity lets somebody set a
//! cookie that a browser takes for a harmless one and the server for the session's. So this one reads
//! bytes, in this order:
//!
//! 1. All `Cookie` lines count together: HTTP/2 may send one for each cookie (RFC 9113 §8.2.3).
//! 2. Lines with more bytes, or more pairs, than [`CookieLimits`] allow are no longer looked at, and the
//!    request has no session, whatever was found before: what lies behind the limit might contradict it.
//! 3. A line splits into pairs at each `;`, and nowhere else. Quotes protect nothing, a comma is a
//!    character like any other.
//! 4. A pair's name is what stands before its first `=`. A pair without one is a value without a name, and
//!    `=__Host-Http-id=…` has an empty name; neither is ours (RFC 6265bis §5.6, §5.7).
//! 5. Space and tab are trimmed off both ends of name and value, as browsers do when they store a cookie
//!    (RFC 6265bis §5.6). No other space is: U+2000 before `__Host-Http-id` makes another name, which
//!    browsers let any subdomain set.
//! 6. The name is ours if its bytes are. Nothing is decoded, no case folded: `%5F%5FHost-Http-id` and
//!    `__HOST-HTTP-ID` are not ours. Other cookies may hold any bytes.
//! 7. The value is as it came. Quotes are not taken off; an id has none.
//! 8. Equal values of several cookies of our name count as one. Two differing ones are both looked up,
//!    unless the name begins with `__Host-`: of such a name a browser keeps one cookie only, so somebody
//!    else's hand is in it, and there is no session. Nor is there with more than two.
//!
//! # How it is named
//!
//! | `Secure` | `Path=/`, no `Domain` | `HttpOnly` | prefix | vouches for |
//! |---|---|---|---|---|
//! | yes | yes | yes | `__Host-Http-` | all of them |
//! | yes | yes | no | `__Host-` | `Secure`, and that only this host can have set it |
//! | yes | no | either | `__Secure-` | `Secure` |
//! | no | either | either | none | nothing |
//!
//! `__Secure-` and `__Host-` are those of RFC 6265bis §4.1.3, `__Host-Http-` is that of its successor
//! (draft-ietf-httpbis-layered-cookies §4.1.3.4).
//!
//! # How it is set
//!
//! One function renders the attributes, once, when the layer is built; the cookie that sets and the one
//! that removes both consist of them. A removal with other attributes removes nothing: browsers reject one
//! of a `__Host-` name that is not `Secure`.

use std::time::Duration;

use http::HeaderValue;
use http::header::InvalidHeaderValue;
use time::OffsetDateTime;

use crate::id::SessionId;

mod config;
pub(crate) mod parse;
mod prefix;

pub(crate) use self::config::CookieOptions;
pub(crate) use self::parse::{CookieLimits, Found};

/// The longest lifetime of a cookie: 400 days, to which browsers shorten a longer one (RFC 6265bis §5.5).
const LONGEST_LIFETIME: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// Which requests that another site caused carry the session's cookie (RFC 6265bis §4.1.2.7).
///
/// The default is [`Lax`](Self::Lax).
///
/// ```
/// use cloakroom::SameSite;
///
/// assert_eq!(SameSite::default(), SameSite::Lax);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SameSite {
    /// None at all. Who follows a link from another site arrives logged out, until they load a page of
    /// yours from a page of yours.
    Strict,
    /// Those that navigate to a page: a link followed, an address typed, but no form posted, no image, frame
    /// or `fetch`.
    #[default]
    Lax,
    /// All of them. For applications that other sites embed; it takes `Secure`, and a protection of your own
    /// against cross-site request forgery.
    None,
}

/// The session's cookie, with attributes that browsers take together.
#[derive(Clone, Debug)]
pub(crate) struct SessionCookie {
    name: String,
    host_locked: bool,
    limits: CookieLimits,
    /// What follows the value in the header: `; HttpOnly; …`.
    attributes: String,
    removal: HeaderValue,
}

/// The cookie of the default options, which cannot fail to build: a test holds it to what they build.
impl Default for SessionCookie {
    fn default() -> Self {
        Self {
            name: "__Host-Http-id".into(),
            host_locked: true,
            limits: CookieLimits::default(),
            attributes: "; HttpOnly; SameSite=Lax; Secure; Path=/".into(),
            removal: HeaderValue::from_static(
                "__Host-Http-id=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0; \
                 Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            ),
        }
    }
}

impl SessionCookie {
    fn new(options: &CookieOptions) -> Result<Self, InvalidHeaderValue> {
        let name = options.full_name();
        let mut cookie = cookie_of(&name, options);
        let attributes = cookie.to_string().split_off(name.len() + "=".len());
        cookie.set_max_age(time::Duration::ZERO);
        // For what is no browser: some cookie jars know no Max-Age.
        cookie.set_expires(OffsetDateTime::UNIX_EPOCH);
        let removal = HeaderValue::try_from(cookie.to_string())?;
        Ok(Self {
            host_locked: options.prefix().is_host_locked(),
            limits: options.limits,
            name,
            attributes,
            removal,
        })
    }

    /// The name with its prefix, as the browser sees it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The `Set-Cookie` header that gives the client this id.
    ///
    /// The cookie lasts until the browser ends, or for `max_age`: whole seconds, rounded down, and at most
    /// 400 days. Less than a second is a removal.
    pub(crate) fn set(&self, id: &SessionId, max_age: Option<Duration>) -> HeaderValue {
        let lifetime = max_age
            .map(|age| format!("; Max-Age={}", age.min(LONGEST_LIFETIME).as_secs()))
            .unwrap_or_default();
        let header = [
            self.name.as_bytes(),
            b"=",
            &id.encode(),
            self.attributes.as_bytes(),
            lifetime.as_bytes(),
        ]
        .concat();
        // An id and digits cannot spoil a header whose other parts the removal was made of. If they did, a
        // client without a session would be better than one with half a cookie.
        let mut header = HeaderValue::try_from(header).unwrap_or_else(|_| self.removal());
        header.set_sensitive(true);
        header
    }

    /// The `Set-Cookie` header that takes the cookie from the client.
    pub(crate) fn removal(&self) -> HeaderValue {
        self.removal.clone()
    }

    /// The cookie among those of a request, given its `Cookie` headers.
    pub(crate) fn find<'h>(&self, headers: impl Iterator<Item = &'h HeaderValue>) -> Found<'h> {
        let lines = headers.map(HeaderValue::as_bytes);
        parse::find(self.name.as_bytes(), self.host_locked, self.limits, lines)
    }

    /// Whether this `Set-Cookie` header, of whatever origin, sets or removes a cookie of our name.
    pub(crate) fn is_set_by(&self, set_cookie: &HeaderValue) -> bool {
        parse::set_cookie_name(set_cookie.as_bytes()) == Some(self.name.as_bytes())
    }
}

/// The cookie with all its attributes and no value: the only place where attributes become a header.
fn cookie_of<'c>(name: &'c str, options: &CookieOptions) -> ::cookie::Cookie<'c> {
    let same_site = match options.same_site {
        SameSite::Strict => ::cookie::SameSite::Strict,
        SameSite::Lax => ::cookie::SameSite::Lax,
        SameSite::None => ::cookie::SameSite::None,
    };
    let mut cookie = ::cookie::Cookie::build((name, ""))
        .path(options.path.clone())
        .same_site(same_site)
        .secure(options.secure)
        .http_only(options.http_only)
        .partitioned(options.partitioned)
        .build();
    if let Some(domain) = &options.domain {
        cookie.set_domain(domain.to_ascii_lowercase());
    }
    cookie
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(change: impl FnOnce(&mut CookieOptions)) -> SessionCookie {
        let mut options = CookieOptions::default();
        change(&mut options);
        options.build(&mut Vec::new()).unwrap()
    }

    fn id() -> SessionId {
        SessionId::parse(&[b'A'; 48]).unwrap()
    }

    fn embedded(options: &mut CookieOptions) {
        options.same_site = SameSite::None;
        options.partitioned = true;
    }

    fn shared(options: &mut CookieOptions) {
        options.domain = Some("Example.COM".into());
        options.path = "/app".into();
        options.same_site = SameSite::Strict;
    }

    fn for_development(options: &mut CookieOptions) {
        options.secure = false;
        options.http_only = false;
    }

    type Change = fn(&mut CookieOptions);

    #[test]
    fn the_default_cookie_is_the_one_that_the_default_options_build() {
        let built = cookie(|_| {});
        let default = SessionCookie::default();
        assert_eq!(format!("{default:?}"), format!("{built:?}"));
        assert_eq!(default.removal(), built.removal());
    }

    /// Each way of setting the cookie, and what stands around the value.
    const RENDERED: [(Change, &str, &str); 4] = [
        (
            |_| (),
            "__Host-Http-id=",
            "; HttpOnly; SameSite=Lax; Secure; Path=/",
        ),
        (
            embedded,
            "__Host-Http-id=",
            "; HttpOnly; SameSite=None; Partitioned; Secure; Path=/",
        ),
        (
            shared,
            "__Secure-id=",
            "; HttpOnly; SameSite=Strict; Secure; Path=/app; Domain=example.com",
        ),
        (for_development, "id=", "; SameSite=Lax; Path=/"),
    ];

    #[test]
    fn the_header_that_sets_is_exactly_this() {
        let value = "A".repeat(48);
        for (change, before, after) in RENDERED {
            let header = cookie(change).set(&id(), None);
            assert_eq!(header.to_str().unwrap(), format!("{before}{value}{after}"));
            let header = cookie(change).set(&id(), Some(Duration::from_secs(60)));
            assert_eq!(
                header.to_str().unwrap(),
                format!("{before}{value}{after}; Max-Age=60")
            );
        }
    }

    #[test]
    fn the_header_that_removes_has_the_attributes_of_the_one_that_sets() {
        for (change, before, after) in RENDERED {
            assert_eq!(
                cookie(change).removal().to_str().unwrap(),
                format!("{before}{after}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
            );
        }
    }

    #[test]
    fn the_header_with_an_id_is_kept_out_of_logs_and_compression() {
        let header = cookie(|_| ()).set(&id(), None);
        assert!(header.is_sensitive());
        assert_eq!(format!("{header:?}"), "Sensitive");
    }

    #[test]
    fn a_lifetime_is_in_whole_seconds_and_at_most_400_days() {
        for (max_age, seconds) in [
            (Duration::from_millis(999), 0),
            (Duration::from_millis(1_999), 1),
            (Duration::from_secs(34_559_999), 34_559_999),
            (Duration::from_secs(34_560_000), 34_560_000),
            (Duration::from_secs(34_560_001), 34_560_000),
            (Duration::MAX, 34_560_000),
        ] {
            let header = cookie(|_| ()).set(&id(), Some(max_age));
            let text = header.to_str().unwrap();
            assert!(text.ends_with(&format!("; Max-Age={seconds}")), "{text}");
        }
    }

    #[test]
    fn what_is_set_is_found_again() {
        for (change, ..) in RENDERED {
            let cookie = cookie(change);
            let set = cookie.set(&id(), None);
            let (pair, _) = set.to_str().unwrap().split_once("; ").unwrap();
            let lines = [
                HeaderValue::from_static("a=1"),
                HeaderValue::try_from(format!("b=2; {pair}")).unwrap(),
                HeaderValue::from_bytes(b"c=\xFF").unwrap(),
            ];
            assert!(cookie.find(lines.iter()) == Found::One(&[b'A'; 48]));
        }
    }

    #[test]
    fn differing_values_are_looked_up_only_where_browsers_may_send_them() {
        for (change, host_locked) in [
            ((|_| ()) as Change, true),
            (|options| options.http_only = false, true),
            (embedded, true),
            (shared, false),
            (for_development, false),
        ] {
            let cookie = cookie(change);
            let name = cookie.name();
            let line = HeaderValue::try_from(format!("{name}=a; {name}=b")).unwrap();
            let expected = if host_locked {
                Found::Conflicting
            } else {
                Found::Two(b"a", b"b")
            };
            assert_eq!(cookie.find([&line].into_iter()), expected);
        }
    }

    #[test]
    fn the_limits_of_the_options_are_in_force() {
        let strict = cookie(|options| options.limits.max_pairs = 1);
        let line = HeaderValue::from_static("a=1; __Host-Http-id=abc");
        assert!(strict.find([&line].into_iter()) == Found::OverLimit(parse::Limit::Pairs));
        let strict = cookie(|options| options.limits.max_bytes = 63);
        let line = HeaderValue::try_from("x".repeat(64)).unwrap();
        assert!(strict.find([&line].into_iter()) == Found::OverLimit(parse::Limit::Bytes));
    }

    #[test]
    fn a_handler_that_sets_our_cookie_is_noticed() {
        let cookie = cookie(|_| ());
        for ours in [
            cookie.set(&id(), None),
            cookie.removal(),
            HeaderValue::from_static(" \t__Host-Http-id\t =x; Path=/"),
        ] {
            assert!(cookie.is_set_by(&ours), "{ours:?}");
        }
        for other in [
            "__Host-Http-id; Path=/",
            "__Host-id=x; Secure; Path=/",
            "__Host-Http-id2=x",
            "__host-http-id=x",
            "=__Host-Http-id=x",
            "a=1; __Host-Http-id=x",
            "%5F%5FHost-Http-id=x",
        ] {
            assert!(
                !cookie.is_set_by(&HeaderValue::from_static(other)),
                "{other}"
            );
        }
    }
}
