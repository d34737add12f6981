//! What can be chosen about the session's cookie, and what of it browsers would not take.

use std::net::IpAddr;

use super::prefix::Prefix;
use super::{CookieLimits, SameSite, SessionCookie};

/// A name is sent with every request, and name and value share 4,096 bytes (RFC 6265bis §5.6).
const MAX_NAME_BYTES: usize = 256;

/// Browsers ignore a longer attribute (RFC 6265bis §5.6).
const MAX_PATH_BYTES: usize = 1_024;

/// RFC 1035 §2.3.4, less the root's empty label.
const MAX_DOMAIN_BYTES: usize = 253;

/// RFC 1035 §2.3.4.
const MAX_LABEL_BYTES: usize = 63;

/// The choices about the session's cookie, as they were made.
#[derive(Clone, Debug)]
pub(crate) struct CookieOptions {
    /// The name without its prefix, which follows from the attributes. `id` by default.
    pub(crate) base_name: String,
    /// The paths that the cookie is sent to. `/` by default. It confines nothing: a page of another path
    /// of the host can still get at what the cookie opens (RFC 6265bis §8.5).
    pub(crate) path: String,
    /// The domain whose hosts all get the cookie; none by default, so that only the host itself does.
    ///
    /// Browsers refuse a public suffix such as `co.uk` or `github.io`. Their list changes often, so this is
    /// the one refusal that is not foreseen here.
    pub(crate) domain: Option<String>,
    /// [`SameSite::Lax`] by default.
    pub(crate) same_site: SameSite,
    /// Whether the cookie goes over HTTPS only. On by default.
    pub(crate) secure: bool,
    /// Whether the cookie is kept from scripts. On by default.
    pub(crate) http_only: bool,
    /// Whether the cookie is kept apart for each site that embeds the application. Off by default.
    pub(crate) partitioned: bool,
    /// How much of a request's cookies is looked at.
    pub(crate) limits: CookieLimits,
}

impl Default for CookieOptions {
    fn default() -> Self {
        Self {
            base_name: "id".into(),
            path: "/".into(),
            domain: None,
            same_site: SameSite::Lax,
            secure: true,
            http_only: true,
            partitioned: false,
            limits: CookieLimits::default(),
        }
    }
}

impl CookieOptions {
    /// The cookie of these choices; `None` if a browser would not take it, with every reason added to the
    /// problems, in words that say what to do.
    pub(crate) fn build(&self, problems: &mut Vec<String>) -> Option<SessionCookie> {
        let found = self.problems();
        if !found.is_empty() {
            problems.extend(found);
            return None;
        }
        SessionCookie::new(self)
            .map_err(|error| problems.push(format!("the cookie is no valid header: {error}")))
            .ok()
    }

    /// The strictest prefix that the attributes allow.
    pub(super) fn prefix(&self) -> Prefix {
        let host_only = self.domain.is_none() && self.path == "/";
        match (self.secure, host_only, self.http_only) {
            (false, _, _) => Prefix::None,
            (true, false, _) => Prefix::Secure,
            (true, true, false) => Prefix::Host,
            (true, true, true) => Prefix::HostHttp,
        }
    }

    /// The name as browsers see it.
    pub(super) fn full_name(&self) -> String {
        format!("{}{}", self.prefix().as_str(), self.base_name)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.name_problem());
        problems.extend(path_problem(&self.path));
        problems.extend(self.domain.as_deref().and_then(domain_problem));
        if self.same_site == SameSite::None && !self.secure {
            problems.push(
                "browsers reject a SameSite=None cookie that is not Secure: leave Secure on, or choose \
                 SameSite::Lax"
                    .into(),
            );
        }
        if self.partitioned && !self.secure {
            problems.push(
                "browsers reject a Partitioned cookie that is not Secure: leave Secure on, or leave \
                 Partitioned off"
                    .into(),
            );
        }
        if self.partitioned && self.same_site != SameSite::None {
            problems.push(format!(
                "a Partitioned cookie is for pages that other sites embed, and browsers reject a \
                 SameSite={:?} cookie there: choose SameSite::None too, or leave Partitioned off",
                self.same_site
            ));
        }
        problems.extend(self.limits_problem());
        problems
    }

    fn name_problem(&self) -> Option<String> {
        let name = self.base_name.as_str();
        if name.is_empty() {
            return Some("the cookie's name is empty: give one, such as \"id\"".into());
        }
        if name.len() > MAX_NAME_BYTES {
            return Some(format!(
                "the cookie's name is {} bytes long: give one of at most {MAX_NAME_BYTES}",
                name.len()
            ));
        }
        if let Some(char) = name.chars().find(|&char| !is_token_char(char)) {
            return Some(format!(
                "the cookie's name {name:?} contains {char:?}: use only letters and digits of ASCII, and \
                 !#$%&'*+-.^_`|~"
            ));
        }
        if let Some((prefix, rest)) = Prefix::split_off(name) {
            return Some(format!(
                "the cookie's name {name:?} begins with {prefix}: give only what follows, {rest:?}, since \
                 the attributes decide on the prefix, and it is added by itself"
            ));
        }
        // `__Host-` and `Http-…` would add up to a prefix that demands what this cookie lacks.
        let full_name = self.full_name();
        if self.prefix() == Prefix::Host
            && Prefix::split_off(&full_name).is_some_and(|(_, rest)| rest != name)
        {
            return Some(format!(
                "the cookie's name {name:?} becomes {full_name:?}, which browsers reject without \
                 HttpOnly: leave HttpOnly on, or give a name that does not begin with \"Http-\""
            ));
        }
        None
    }

    fn limits_problem(&self) -> Option<String> {
        let CookieLimits {
            max_bytes,
            max_pairs,
        } = self.limits;
        let needed = self.full_name().len() + "=".len() + crate::id::ID_CHARS;
        if max_bytes < needed {
            return Some(format!(
                "a limit of {max_bytes} bytes of cookies has no room for the session's own: give at \
                 least {needed}"
            ));
        }
        (max_pairs == 0).then(|| {
            "a limit of 0 cookies has no room for the session's own: give at least 1".to_owned()
        })
    }
}

/// What a token consists of (RFC 9110 §5.6.2), as which RFC 6265bis §4.1.1 defines a cookie's name.
fn is_token_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char)
}

fn path_problem(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(format!(
            "the cookie's path {path:?} does not begin with a slash, so browsers ignore it: give one \
             such as \"/\" or \"/app\""
        ));
    }
    if path.len() > MAX_PATH_BYTES {
        return Some(format!(
            "the cookie's path is {} bytes long, and browsers ignore one of more than {MAX_PATH_BYTES}: \
             give a shorter one",
            path.len()
        ));
    }
    // Browsers compare it with the path of the URL as they send it, in which none of these can stand.
    let wrong = |char: &char| !char.is_ascii_graphic() || ";?#".contains(*char);
    path.chars().find(wrong).map(|char| {
        format!(
            "the cookie's path {path:?} contains {char:?}, which no path of a request does: leave it out, \
             or percent-encode it as browsers do"
        )
    })
}

fn domain_problem(domain: &str) -> Option<String> {
    let problem = |what: &str| Some(format!("the cookie's domain {domain:?} {what}"));
    if domain.is_empty() {
        return problem("is empty: give one such as \"example.com\", or none");
    }
    if is_ip_address(domain) {
        return problem(
            "is an IP address, which has no subdomains to share the cookie with: give no domain",
        );
    }
    if domain.starts_with('.') {
        return problem("begins with a dot: give it without, it covers the subdomains anyway");
    }
    if domain.ends_with('.') {
        return problem("ends with a dot, so that it matches no host: give it without");
    }
    if !domain.is_ascii() {
        return problem(
            "is not ASCII: give its Punycode form, with labels such as \"xn--bcher-kva\"",
        );
    }
    if let Some(char) = domain.chars().find(|&char| !is_domain_char(char)) {
        return problem(&format!(
            "contains {char:?}: give a bare name such as \"example.com\", without scheme, port or path"
        ));
    }
    if !domain.contains('.') {
        return problem(
            "is a single label, which browsers treat as a public suffix: give no domain, or one such as \
             \"example.com\"",
        );
    }
    if domain.len() > MAX_DOMAIN_BYTES {
        return problem(&format!(
            "is longer than {MAX_DOMAIN_BYTES} bytes, as no domain is: give a shorter one"
        ));
    }
    domain.split('.').find_map(|label| {
        if label.is_empty() {
            return problem("has an empty label: give it with single dots");
        }
        if label.len() > MAX_LABEL_BYTES {
            return problem(&format!(
                "has a label longer than {MAX_LABEL_BYTES} bytes, as no domain has: give a shorter one"
            ));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return problem(&format!(
                "has the label {label:?}, and labels neither begin nor end with a hyphen: leave it out"
            ));
        }
        None
    })
}

/// Letters, digits and hyphens (RFC 1034 §3.5), and the underscore, which browsers take in a host name.
fn is_domain_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-_.".contains(char)
}

/// Whether browsers would read the host as an IP address: also in the old spellings of IPv4, such as
/// `127.1` or `127.0.0.0x1`, which they tell by a last label that is a number (URL Standard, "ends in a
/// number").
fn is_ip_address(host: &str) -> bool {
    let unbracketed = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.trim_end_matches('.');
    let last_label = host.rsplit('.').next().unwrap_or(host).to_ascii_lowercase();
    let is_number = match last_label.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last_label.is_empty() && last_label.bytes().all(|byte| byte.is_ascii_digit()),
    };
    is_number || unbracketed.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(change: impl FnOnce(&mut CookieOptions)) -> Vec<String> {
        let mut options = CookieOptions::default();
        change(&mut options);
        let mut problems = Vec::new();
        let cookie = options.build(&mut problems);
        assert_eq!(cookie.is_none(), !problems.is_empty());
        problems
    }

    #[track_caller]
    fn assert_one_problem(problems: &[String], says: &str) {
        assert!(
            problems.len() == 1 && problems[0].contains(says) && problems[0].contains(": "),
            "{problems:?} is not one problem that says {says:?}"
        );
    }

    #[test]
    fn the_defaults_are_the_strictest_that_browsers_know() {
        let options = CookieOptions::default();
        assert_eq!(options.base_name, "id");
        assert_eq!(options.path, "/");
        assert_eq!(options.domain, None);
        assert_eq!(options.same_site, SameSite::Lax);
        assert!(options.secure && options.http_only && !options.partitioned);
        assert_eq!(options.limits.max_bytes, 65_536);
        assert_eq!(options.limits.max_pairs, 1_024);
        assert_eq!(problems_of(|_| ()), Vec::<String>::new());
    }

    #[test]
    fn the_prefix_follows_from_the_attributes() {
        for (secure, http_only, path, domain, name) in [
            (true, true, "/", None, "__Host-Http-id"),
            (true, false, "/", None, "__Host-id"),
            (true, true, "/app", None, "__Secure-id"),
            (true, true, "//", None, "__Secure-id"),
            (true, false, "/app", None, "__Secure-id"),
            (true, true, "/", Some("example.com"), "__Secure-id"),
            (true, false, "/app", Some("example.com"), "__Secure-id"),
            (false, true, "/", None, "id"),
            (false, false, "/app", Some("example.com"), "id"),
        ] {
            let options = CookieOptions {
                secure,
                http_only,
                path: path.into(),
                domain: domain.map(Into::into),
                ..CookieOptions::default()
            };
            let cookie = options.build(&mut Vec::new()).unwrap();
            assert_eq!(cookie.name(), name);
        }
    }

    #[test]
    fn a_name_that_browsers_or_servers_would_misread_is_a_problem() {
        for (name, says) in [
            ("", "is empty"),
            ("a b", "\"a b\" contains ' '"),
            ("a=b", "contains '='"),
            ("a;b", "contains ';'"),
            ("a,b", "contains ','"),
            ("\"a\"", "contains '\"'"),
            ("a[]", "contains '['"),
            ("a\t", "contains '\\t'"),
            ("a\r\nSet-Cookie: b", "contains '\\r'"),
            ("a\u{7F}", "contains '\\u{7f}'"),
            ("\u{A0}id", "contains '\\u{a0}'"),
            ("größe", "contains 'ö'"),
            (
                "__Host-sid",
                "begins with __Host-: give only what follows, \"sid\"",
            ),
            (
                "__Host-Http-sid",
                "begins with __Host-Http-: give only what follows, \"sid\"",
            ),
            (
                "__Secure-sid",
                "begins with __Secure-: give only what follows, \"sid\"",
            ),
            (
                "__Http-sid",
                "begins with __Http-: give only what follows, \"sid\"",
            ),
            ("__hOsT-sid", "begins with __hOsT-"),
            ("__Host-", "begins with __Host-"),
        ] {
            assert_one_problem(
                &problems_of(|options| options.base_name = name.into()),
                says,
            );
        }
        let long = "x".repeat(257);
        let problems = problems_of(|options| options.base_name = long);
        assert_one_problem(&problems, "257 bytes long: give one of at most 256");
    }

    #[test]
    fn any_token_up_to_256_bytes_is_a_name() {
        let long = "x".repeat(256);
        for name in [
            "id",
            "ID",
            "0",
            "!#$%&'*+-.^_`|~",
            "__host",
            "Http-id",
            long.as_str(),
        ] {
            let problems = problems_of(|options| options.base_name = name.into());
            assert_eq!(problems, Vec::<String>::new());
        }
    }

    #[test]
    fn a_name_never_adds_up_with_its_prefix_to_a_stricter_one() {
        for name in ["Http-id", "http-id", "HTTP-"] {
            let problems = problems_of(|options| {
                options.base_name = name.into();
                options.http_only = false;
            });
            assert_one_problem(&problems, "browsers reject without HttpOnly");
            let problems = problems_of(|options| {
                options.base_name = name.into();
                options.path = "/app".into();
                options.http_only = false;
            });
            assert_eq!(problems, Vec::<String>::new());
        }
    }

    #[test]
    fn a_path_that_no_request_has_is_a_problem() {
        let long = format!("/{}", "x".repeat(1_024));
        for (path, says) in [
            ("", "\"\" does not begin with a slash"),
            ("app", "\"app\" does not begin with a slash"),
            (" /", "does not begin with a slash"),
            ("/a;b", "\"/a;b\" contains ';'"),
            ("/; Domain=com", "contains ';'"),
            ("/a b", "contains ' '"),
            ("/a ", "contains ' '"),
            ("/a?b", "contains '?'"),
            ("/a#b", "contains '#'"),
            ("/a\r\n", "contains '\\r'"),
            ("/\u{7F}", "contains '\\u{7f}'"),
            ("/ä", "contains 'ä'"),
            (long.as_str(), "1025 bytes long"),
        ] {
            assert_one_problem(&problems_of(|options| options.path = path.into()), says);
        }
        for path in ["/", "/app", "/app/", "/a%20b/~c", &long[..1_024]] {
            assert_eq!(
                problems_of(|options| options.path = path.into()),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn a_domain_that_browsers_would_not_take_is_a_problem() {
        let long_label = format!("{}.com", "x".repeat(64));
        let long = format!("{}com", "abc.".repeat(63));
        assert_eq!(long.len(), 255);
        for (domain, says) in [
            ("", "is empty"),
            (
                ".example.com",
                "\".example.com\" begins with a dot: give it without",
            ),
            (".", "begins with a dot"),
            ("example.com.", "ends with a dot"),
            ("localhost", "\"localhost\" is a single label"),
            ("com", "is a single label"),
            ("127.0.0.1", "\"127.0.0.1\" is an IP address"),
            ("127.0.0.1.", "is an IP address"),
            ("127.1", "is an IP address"),
            ("127.0.0.0x1", "is an IP address"),
            ("1.2.3.0X", "is an IP address"),
            ("::1", "is an IP address"),
            ("[2001:db8::1]", "is an IP address"),
            ("https://example.com", "contains ':'"),
            ("example.com:3000", "contains ':'"),
            ("example.com/app", "contains '/'"),
            ("*.example.com", "contains '*'"),
            ("example.com;a=b", "contains ';'"),
            ("example .com", "contains ' '"),
            ("example.com\r\n", "contains '\\r'"),
            ("bücher.example", "is not ASCII: give its Punycode form"),
            ("example..com", "has an empty label"),
            ("-example.com", "has the label \"-example\""),
            ("example-.com", "has the label \"example-\""),
            (long_label.as_str(), "has a label longer than 63"),
            (long.as_str(), "is longer than 253"),
        ] {
            let problems = problems_of(|options| options.domain = Some(domain.into()));
            assert_one_problem(&problems, says);
        }
        let longest = &long[2..];
        for domain in [
            "example.com",
            "Example.COM",
            "a.b.example.com",
            "xn--bcher-kva.example",
            "my_app.example.com",
            "1.example",
            "0x.example.face",
            longest,
            &long_label[1..],
        ] {
            let problems = problems_of(|options| options.domain = Some(domain.into()));
            assert_eq!(problems, Vec::<String>::new());
        }
    }

    #[test]
    fn attributes_that_browsers_do_not_take_together_are_a_problem() {
        let problems = problems_of(|options| {
            options.same_site = SameSite::None;
            options.secure = false;
        });
        assert_one_problem(
            &problems,
            "reject a SameSite=None cookie that is not Secure",
        );

        let problems = problems_of(|options| options.partitioned = true);
        assert_one_problem(&problems, "reject a SameSite=Lax cookie there");

        let problems = problems_of(|options| {
            options.partitioned = true;
            options.same_site = SameSite::Strict;
        });
        assert_one_problem(&problems, "reject a SameSite=Strict cookie there");

        let problems = problems_of(|options| {
            options.partitioned = true;
            options.same_site = SameSite::None;
        });
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn limits_without_room_for_the_own_cookie_are_a_problem() {
        // __Host-Http-id= and 48 characters.
        let problems = problems_of(|options| options.limits.max_bytes = 62);
        assert_one_problem(&problems, "a limit of 62 bytes");
        assert!(problems[0].contains("at least 63"));
        assert!(problems_of(|options| options.limits.max_bytes = 63).is_empty());

        let problems = problems_of(|options| options.limits.max_pairs = 0);
        assert_one_problem(&problems, "a limit of 0 cookies");
        assert!(problems_of(|options| options.limits.max_pairs = 1).is_empty());
    }

    #[test]
    fn all_problems_are_told_at_once_after_those_of_others() {
        let options = CookieOptions {
            base_name: "__Host-id".into(),
            path: "app".into(),
            domain: Some("localhost".into()),
            same_site: SameSite::None,
            secure: false,
            partitioned: true,
            limits: CookieLimits {
                max_bytes: 0,
                max_pairs: 0,
            },
            ..CookieOptions::default()
        };
        let mut problems = vec!["another setting's".to_owned()];
        assert!(options.build(&mut problems).is_none());
        assert_eq!(problems.len(), 7, "{problems:?}");
        assert_eq!(problems[0], "another setting's");
    }
}
