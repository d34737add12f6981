//! Browsers: each has at most one session cookie, and responses reach it in any order.

use http::{Response, header};

use crate::answers::SetCookie;
use crate::program::Cookie;
use crate::reference::{Brought, Reference};
use crate::support_id::{COOKIE, forged};

#[derive(Default)]
pub(crate) struct Browsers {
    cookies: [Option<String>; 3],
    /// What responses say that no browser has seen yet.
    on_the_way: Vec<(u8, SetCookie)>,
}

impl Browsers {
    /// What a request brings, and what the reference model is told of it.
    pub(crate) fn cookie(
        &self,
        browser: u8,
        cookie: Cookie,
        reference: &Reference,
    ) -> (Option<String>, Brought) {
        let ids = &reference.ids;
        let nothing = (None, Brought::Nothing);
        match cookie {
            Cookie::Own => {
                let own = self.cookies[usize::from(browser)].as_ref();
                let known = ids.iter().position(|id| Some(&id.value) == own);
                known.map_or(nothing, |id| (own.cloned(), Brought::Id(id)))
            }
            Cookie::Stolen(back) => {
                let Some(back) = usize::from(back).checked_rem(ids.len()) else {
                    return nothing;
                };
                let id = ids.len() - 1 - back;
                (Some(ids[id].value.clone()), Brought::Id(id))
            }
            Cookie::Forged => (Some(forged(7)), Brought::Invented),
            Cookie::Guessed(which) => {
                let Some(which) = usize::from(which).checked_rem(ids.len()) else {
                    return nothing;
                };
                // The first 22 of its characters have the handle, and a bit more.
                let guessed = format!("{}{}", &ids[which].value[..22], &forged(7)[22..]);
                (Some(guessed), Brought::Invented)
            }
        }
    }

    pub(crate) fn is_on_its_way(&mut self, browser: u8, cookie: SetCookie) {
        self.on_the_way.push((browser, cookie));
    }

    pub(crate) fn deliver(&mut self, which: u8) {
        let Some(which) = usize::from(which).checked_rem(self.on_the_way.len()) else {
            return;
        };
        let (browser, cookie) = self.on_the_way.remove(which);
        self.cookies[usize::from(browser)] = match cookie {
            SetCookie::To(value) => Some(value),
            SetCookie::Remove => None,
        };
    }

    /// What a response says about our cookie.
    pub(crate) fn cookies_of<B>(response: &Response<B>) -> Vec<SetCookie> {
        let lines = response.headers().get_all(header::SET_COOKIE).iter();
        let ours = lines.filter_map(|line| {
            let (name, rest) = line.to_str().ok()?.split_once('=')?;
            let value = rest.split(';').next()?;
            (name == COOKIE).then(|| match value {
                "" => SetCookie::Remove,
                value => SetCookie::To(value.to_owned()),
            })
        });
        ours.collect()
    }
}
