//! What a session does to the headers of a response.

use http::header::{CACHE_CONTROL, Entry, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::carrier::{Carrier, Carriers, Line};
use crate::settings::Settings;
use crate::state::{CookieEffect, State};

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const VARY_COOKIE: HeaderValue = HeaderValue::from_static("Cookie");
const PRIVATE: HeaderValue = HeaderValue::from_static("private");

/// What is to be said in the response to a request that asked for its session.
#[derive(Debug)]
pub(crate) struct Effects {
    id: Option<Line>,
    caching: Caching,
    clears_site_data: bool,
}

/// What is said to caches where no id is told.
#[derive(Debug)]
enum Caching {
    Nothing,
    /// `private`, unless the handler says something about caching.
    Private,
    /// `no-store`, unless the handler says something.
    NotStored,
    /// `no-store`, whatever the handler says.
    NeverStored,
}

impl Effects {
    pub(crate) fn of(state: &State, settings: &Settings) -> Self {
        let carriers = &settings.carriers;
        let id = match &state.cookie {
            CookieEffect::Keep => None,
            CookieEffect::Remove => carriers.revoke(state.carrier),
            CookieEffect::Set { id, until } => {
                let max_age = until.map(|until| {
                    std::time::Duration::from_millis(
                        u64::try_from(until.saturating_sub(settings.now())).unwrap_or(0),
                    )
                });
                carriers.tell(state.carrier, id, max_age)
            }
        };
        Self {
            id,
            caching: match (state.was_live, state.carrier) {
                (false, _) => Caching::Nothing,
                (true, Carrier::Cookie) => Caching::Private,
                // Caches know that a cookie makes a response somebody's, and nothing of our header.
                (true, Carrier::Header) => Caching::NeverStored,
            },
            // Not where a session begins: its cookie would be cleared, too.
            clears_site_data: matches!(state.cookie, CookieEffect::Remove),
        }
    }

    /// Of a session that could not be loaded: what is answered then is about this moment.
    pub(crate) fn of_failure() -> Self {
        Self {
            id: None,
            caching: Caching::NotStored,
            clears_site_data: false,
        }
    }

    /// Says it: our cookie or header at most once, and nothing that a shared cache could give to somebody
    /// else.
    pub(crate) fn apply(self, headers: &mut HeaderMap, settings: &Settings) {
        vary(headers, &settings.carriers);
        if self.clears_site_data
            && let Some(clear) = &settings.clear_site_data
        {
            headers
                .entry(CLEAR_SITE_DATA)
                .or_insert_with(|| clear.clone());
        }
        match (self.id, self.caching) {
            (Some(Line::SetCookie(cookie)), _) => {
                remove_own_cookies(headers, &settings.carriers);
                headers.append(SET_COOKIE, cookie);
                headers.insert(CACHE_CONTROL, NO_STORE);
            }
            (Some(Line::Header(name, value)), _) => {
                headers.insert(name, value);
                headers.insert(CACHE_CONTROL, NO_STORE);
            }
            (None, Caching::NeverStored) => {
                headers.insert(CACHE_CONTROL, NO_STORE);
            }
            (None, Caching::NotStored) => {
                headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
            }
            (None, Caching::Private) => {
                headers.entry(CACHE_CONTROL).or_insert(PRIVATE);
            }
            (None, Caching::Nothing) => {}
        }
    }
}

/// Takes out every cookie of our name that was set further in: one survives, ours.
fn remove_own_cookies(headers: &mut HeaderMap, carriers: &Carriers) {
    let is_ours = |line: &HeaderValue| {
        carriers
            .cookie()
            .is_some_and(|cookie| cookie.is_set_by(line))
    };
    if !headers.get_all(SET_COOKIE).iter().any(is_ours) {
        return;
    }
    let lines: Vec<_> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    for line in lines {
        if !is_ours(&line) {
            headers.append(SET_COOKIE, line);
        }
    }
}

/// Names in `Vary` every header that an id is looked for in: which one it was depends on both.
fn vary(headers: &mut HeaderMap, carriers: &Carriers) {
    if carriers.cookie().is_some() {
        vary_by(headers, VARY_COOKIE);
    }
    if let Some(header) = carriers.header() {
        vary_by(headers, header.name().clone().into());
    }
}

/// Adds a name to `Vary`, unless it says so already.
fn vary_by(headers: &mut HeaderMap, added: HeaderValue) {
    let present = match headers.entry(VARY) {
        // Nearly always.
        Entry::Vacant(vacant) => {
            vacant.insert(added);
            return;
        }
        Entry::Occupied(present) => present,
    };
    let says_so = |line: &HeaderValue| {
        line.as_bytes().split(|&byte| byte == b',').any(|name| {
            let name = name.trim_ascii();
            name == b"*" || name.eq_ignore_ascii_case(added.as_bytes())
        })
    };
    if present.iter().any(says_so) {
        return;
    }
    if let Some(first) = headers.get_mut(VARY) {
        let line = [first.as_bytes(), b", ", added.as_bytes()].concat();
        match HeaderValue::from_bytes(&line) {
            Ok(merged) => *first = merged,
            Err(_) => {
                headers.append(VARY, added);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vary(lines: &[&'static str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(VARY, HeaderValue::from_static(line));
        }
        vary_by(&mut headers, VARY_COOKIE);
        let lines = headers.get_all(VARY).iter();
        lines
            .map(|line| line.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn cookie_is_merged_into_vary_once() {
        assert_eq!(vary(&[]), ["Cookie"]);
        assert_eq!(vary(&["Accept-Encoding"]), ["Accept-Encoding, Cookie"]);
        assert_eq!(vary(&["Accept", "Origin"]), ["Accept, Cookie", "Origin"]);
        assert_eq!(vary(&["accept , COOKIE"]), ["accept , COOKIE"]);
        assert_eq!(vary(&["Accept", "cookie"]), ["Accept", "cookie"]);
        assert_eq!(vary(&["*"]), ["*"]);
        assert_eq!(vary(&["X-Cookie"]), ["X-Cookie, Cookie"]);
    }
}
