//! Browsers: each has at most one id, and responses reach it in any order.

use http::{HeaderMap, HeaderName, Response, header};

use crate::answers::SetCookie;
use crate::program::{Browser, Carriers, Cookie, Rules};
use crate::reference::{Brought, Reference};
use crate::support_id::{COOKIE, forged};

/// The header for ids, where a layer has one.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-auth-token");

/// The name of the cookie where it has no prefix.
const PLAIN_COOKIE: &str = "id";

/// What an id travels in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Carrier {
    Cookie,
    Header,
}

impl Carrier {
    /// That of this browser.
    pub(crate) fn of(browser: Browser, rules: &Rules) -> Self {
        match (rules.carriers, browser) {
            (Carriers::CookieAndHeader, 2) => Self::Header,
            _ => Self::Cookie,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Cookie => Self::Header,
            Self::Header => Self::Cookie,
        }
    }
}

pub(crate) fn cookie_name(rules: &Rules) -> &'static str {
    match rules.carriers {
        Carriers::PlainCookie => PLAIN_COOKIE,
        Carriers::HostCookie | Carriers::CookieAndHeader => COOKIE,
    }
}

#[derive(Default)]
pub(crate) struct Browsers {
    cookies: [Option<String>; 3],
    /// What responses say that no browser has seen yet.
    on_the_way: Vec<(Browser, SetCookie)>,
}

impl Browsers {
    /// The headers of a request, and what the reference model is told of them.
    pub(crate) fn request(
        &self,
        browser: Browser,
        cookie: Cookie,
        reference: &Reference,
    ) -> (HeaderMap, Brought) {
        let rules = &reference.rules;
        let carrier = Carrier::of(browser, rules);
        let name = cookie_name(rules);
        let mut headers = HeaderMap::new();
        let own = self.own(browser, reference);
        let (values, ids) = match cookie {
            Cookie::Own => own,
            Cookie::Beside(back) if rules.carriers == Carriers::CookieAndHeader => {
                let stolen = stolen(back, reference);
                put(&mut headers, carrier.other(), name, &stolen.0);
                match carrier {
                    // Where a request has the header, its cookies are not looked at.
                    Carrier::Cookie if !stolen.1.is_empty() => {
                        put(&mut headers, carrier, name, &own.0);
                        return (headers, Brought::by(Carrier::Header, stolen.1));
                    }
                    _ => own,
                }
            }
            Cookie::Stolen(back) | Cookie::Beside(back) => stolen(back, reference),
            Cookie::Forged => (vec![forged(7)], Vec::new()),
            Cookie::Guessed(which) => match usize::from(which).checked_rem(reference.ids.len()) {
                // The first 22 of its characters have the handle, and a bit more.
                Some(which) => {
                    let value = &reference.ids[which].value;
                    let guessed = format!("{}{}", &value[..22], &forged(7)[22..]);
                    (vec![guessed], Vec::new())
                }
                None => (Vec::new(), Vec::new()),
            },
            Cookie::Two(one, other) => {
                let (mut values, mut ids) = stolen(one, reference);
                let (more_values, more_ids) = stolen(other, reference);
                if ids != more_ids {
                    values.extend(more_values);
                    ids.extend(more_ids);
                }
                (values, ids)
            }
        };
        put(&mut headers, carrier, name, &values);
        if carrier == Carrier::Header && values.is_empty() {
            headers.insert(HEADER, "new".parse().expect("it is ASCII"));
        }
        (headers, Brought::by(carrier, ids))
    }

    fn own(&self, browser: Browser, reference: &Reference) -> (Vec<String>, Vec<usize>) {
        let own = self.cookies[usize::from(browser)].as_ref();
        let known = reference.ids.iter().position(|id| Some(&id.value) == own);
        known.map_or_else(Default::default, |id| {
            (own.cloned().into_iter().collect(), vec![id])
        })
    }

    pub(crate) fn is_on_its_way(&mut self, browser: Browser, cookie: SetCookie) {
        self.on_the_way.push((browser, cookie));
    }

    /// Whether the response that was delivered is not the one that was sent first.
    pub(crate) fn deliver(&mut self, which: u8) -> bool {
        let Some(which) = usize::from(which).checked_rem(self.on_the_way.len()) else {
            return false;
        };
        let (browser, cookie) = self.on_the_way.remove(which);
        self.cookies[usize::from(browser)] = match cookie {
            SetCookie::To(value) => Some(value),
            SetCookie::Remove => None,
        };
        let is_same = |(other, _): &(Browser, SetCookie)| *other == browser;
        self.on_the_way[..which].iter().any(is_same)
    }

    /// What a response says about our id, and in which carrier.
    pub(crate) fn ids_told<B>(response: &Response<B>, rules: &Rules) -> Vec<(Carrier, SetCookie)> {
        let what = |value: &str| match value {
            "" => SetCookie::Remove,
            value => SetCookie::To(value.to_owned()),
        };
        let lines = response.headers().get_all(header::SET_COOKIE).iter();
        let cookies = lines.filter_map(|line| {
            let (name, rest) = line.to_str().ok()?.split_once('=')?;
            let value = rest.split(';').next()?;
            (name == cookie_name(rules)).then(|| (Carrier::Cookie, what(value)))
        });
        let lines = response.headers().get_all(HEADER).iter();
        let headers = lines.filter_map(|line| Some((Carrier::Header, what(line.to_str().ok()?))));
        cookies.chain(headers).collect()
    }
}

/// One of the ids that were ever sent, counted from the latest.
fn stolen(back: u8, reference: &Reference) -> (Vec<String>, Vec<usize>) {
    let ids = &reference.ids;
    let Some(back) = usize::from(back).checked_rem(ids.len()) else {
        return Default::default();
    };
    let id = ids.len() - 1 - back;
    (vec![ids[id].value.clone()], vec![id])
}

fn put(headers: &mut HeaderMap, carrier: Carrier, name: &str, values: &[String]) {
    for value in values {
        let (header, line) = match carrier {
            Carrier::Cookie => (header::COOKIE, format!("{name}={value}")),
            Carrier::Header => (HEADER, value.clone()),
        };
        headers.append(header, line.parse().expect("ids are ASCII"));
    }
}
