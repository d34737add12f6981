//! Whether this site itself has caused a request, as far as the browser says.

use http::header::{HOST, HeaderName, ORIGIN};
use http::request::Parts;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a browser says of where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A page of this origin, or the user.
    Own,
    /// A page of another origin, or one that hides its own.
    Other,
    /// It says nothing: it is no browser, or one from before 2020.
    Unknown,
}

impl Source {
    /// By `Sec-Fetch-Site`, which no script can set; where it is missing, by `Origin`, whose host and port
    /// have to be those that were asked for. Its scheme is not looked at there: in front of a proxy that
    /// ends TLS, this server does not know its own.
    pub(super) fn of(parts: &Parts) -> Self {
        if let Some(site) = parts.headers.get(SEC_FETCH_SITE) {
            return match site.as_bytes() {
                b"same-origin" | b"none" => Self::Own,
                _ => Self::Other,
            };
        }
        let Some(origin) = parts.headers.get(ORIGIN) else {
            return Self::Unknown;
        };
        let is_own = origin.to_str().is_ok_and(|origin| {
            let (scheme, authority) = origin.split_once("://").unwrap_or_default();
            let default_port = match scheme {
                "https" => ":443",
                "http" => ":80",
                _ => return false,
            };
            let plain = |authority: &str| {
                let authority = authority.to_ascii_lowercase();
                let plain = authority.strip_suffix(default_port).map(str::to_owned);
                plain.unwrap_or(authority)
            };
            !authority.is_empty()
                && asked_for(parts).is_some_and(|own| plain(own) == plain(authority))
        });
        if is_own { Self::Own } else { Self::Other }
    }
}

/// The host, and the port if it is not the usual one, that the client asked for (RFC 9110 §7.2).
fn asked_for(parts: &Parts) -> Option<&str> {
    let of_target = parts.uri.authority().map(|authority| authority.as_str());
    of_target.or_else(|| parts.headers.get(HOST)?.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(target: &str, headers: &[(&str, &str)]) -> Source {
        let mut request = http::Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Source::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn sec_fetch_site_counts_before_the_origin() {
        for (site, expected) in [
            ("same-origin", Source::Own),
            ("none", Source::Own),
            ("same-site", Source::Other),
            ("cross-site", Source::Other),
            ("", Source::Other),
            ("Same-Origin", Source::Other),
        ] {
            for origin in ["https://a.example", "https://evil.example", "null"] {
                let headers = [
                    ("host", "a.example"),
                    ("origin", origin),
                    ("sec-fetch-site", site),
                ];
                assert_eq!(source("/", &headers), expected, "{site}");
            }
        }
    }

    #[test]
    fn an_origin_is_ours_by_its_host_and_port() {
        for (host, origin, expected) in [
            ("a.example", "https://a.example", Source::Own),
            ("a.example", "http://a.example", Source::Own),
            ("A.example", "https://a.EXAMPLE", Source::Own),
            ("a.example:443", "https://a.example", Source::Own),
            ("a.example", "https://a.example:443", Source::Own),
            ("a.example:8443", "https://a.example:8443", Source::Own),
            ("[::1]:3000", "http://[::1]:3000", Source::Own),
            ("a.example", "https://a.example:80", Source::Other),
            ("a.example:8443", "https://a.example", Source::Other),
            ("a.example", "https://a.example.evil.example", Source::Other),
            ("a.example", "https://evil.example", Source::Other),
            ("a.example", "https://b.a.example", Source::Other),
            ("a.example", "https://a.example@evil.example", Source::Other),
            ("a.example", "null", Source::Other),
            ("a.example", "", Source::Other),
            ("a.example", "a.example", Source::Other),
            ("a.example", "ftp://a.example", Source::Other),
            ("", "https://", Source::Other),
        ] {
            let headers = [("host", host), ("origin", origin)];
            assert_eq!(source("/", &headers), expected, "{host} {origin}");
        }
        assert_eq!(source("/", &[("host", "a.example")]), Source::Unknown);
        assert_eq!(
            source("/", &[("origin", "https://a.example")]),
            Source::Other
        );
    }

    #[test]
    fn the_target_counts_before_the_host() {
        let headers = [("host", "b.example"), ("origin", "https://a.example")];
        assert_eq!(source("https://a.example/", &headers), Source::Own);
        assert_eq!(source("/", &headers), Source::Other);
    }
}
