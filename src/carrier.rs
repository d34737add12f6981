//! How an id travels: in the session's cookie, or in a header of the layer's.
//!
//! 1. Where a request has the header, with whatever in it, its id travels in that, and its cookies are not
//!    looked at. Otherwise its id travels in the cookie, if the layer has one.
//! 2. A session is of one carrier, from its creation to its end. An id that comes by the other one opens
//!    nothing. Or else a script that can name a header could do with a cookie's id what the cookie is kept
//!    from, and whoever can plant a cookie could log a browser in to the session of a program.
//! 3. An id is told by the carrier of its request alone: no header tells the id of a cookie.
//!
//! The cookie has [a room of its own](crate::cookie), and so has the [header](self::header).

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::cookie::{Found, SessionCookie};
use crate::events::{EventKind, Refusal};
use crate::id::SessionId;

mod header;

use self::header::Credential;
pub(crate) use self::header::{IdHeader, IdHeaderOptions};

/// What a session's id travels in. The name of the cookie or the header is not part of it: a layer that
/// gets another one logs nobody out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Carrier {
    #[default]
    Cookie,
    Header,
}

/// The carriers of a layer: a cookie, a header, or both.
#[derive(Clone, Debug)]
pub(crate) struct Carriers {
    cookie: Option<SessionCookie>,
    header: Option<IdHeader>,
}

/// The cookie of the default options alone.
impl Default for Carriers {
    fn default() -> Self {
        Self {
            cookie: Some(SessionCookie::default()),
            header: None,
        }
    }
}

impl Carriers {
    pub(crate) fn new(cookie: Option<SessionCookie>, header: Option<IdHeader>) -> Self {
        Self { cookie, header }
    }

    pub(crate) fn cookie(&self) -> Option<&SessionCookie> {
        self.cookie.as_ref()
    }

    pub(crate) fn header(&self) -> Option<&IdHeader> {
        self.header.as_ref()
    }

    /// The name that an operator knows them by: the cookie's, or else the header's.
    pub(crate) fn name(&self) -> &str {
        let header = || self.header().map(|header| header.name().as_str());
        let cookie = self.cookie().map(SessionCookie::name);
        cookie.or_else(header).unwrap_or_default()
    }

    /// Whether an id for the one would be looked at by the other, too.
    pub(crate) fn overlap(&self, other: &Self) -> bool {
        let cookie = |carriers: &Self| carriers.cookie().map(|cookie| cookie.name().to_owned());
        let header = |carriers: &Self| carriers.header().map(|header| header.name().clone());
        cookie(self).is_some() && cookie(self) == cookie(other)
            || header(self).is_some() && header(self) == header(other)
    }

    /// What the id of a request with these header lines travels in.
    pub(crate) fn of_request<'h>(&self, lines: impl Iterator<Item = &'h HeaderValue>) -> Carrier {
        let has_header = self.header().is_some_and(|header| header.is_in(lines));
        match has_header || self.cookie.is_none() {
            true => Carrier::Header,
            false => Carrier::Cookie,
        }
    }

    /// What a request brought as its id, given its `Cookie` lines and those of the header.
    pub(crate) fn find<'h>(
        &self,
        cookies: impl Iterator<Item = &'h HeaderValue>,
        lines: impl Iterator<Item = &'h HeaderValue>,
    ) -> Brought<'h> {
        let credential = self.header().and_then(|header| header.find(lines));
        match (credential, self.cookie()) {
            (Some(credential), _) => Brought::InHeader(credential),
            (None, Some(cookie)) => Brought::InCookie(cookie.find(cookies)),
            (None, None) => Brought::InHeader(Credential::None),
        }
    }

    /// The line that gives a client this id. A cookie lasts for `max_age`, or until the browser ends.
    pub(crate) fn tell(
        &self,
        carrier: Carrier,
        id: &SessionId,
        max_age: Option<Duration>,
    ) -> Option<Line> {
        match carrier {
            Carrier::Cookie => Some(Line::SetCookie(self.cookie()?.set(id, max_age))),
            Carrier::Header => self.header().map(|header| header.tell(id)),
        }
    }

    /// The line that takes its id from a client.
    pub(crate) fn revoke(&self, carrier: Carrier) -> Option<Line> {
        match carrier {
            Carrier::Cookie => Some(Line::SetCookie(self.cookie()?.removal())),
            Carrier::Header => self.header().map(IdHeader::revoke),
        }
    }
}

/// A line of a response that tells a client of its id.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    SetCookie(HeaderValue),
    Header(HeaderName, HeaderValue),
}

/// What a request brought as its id. It prints without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Brought<'h> {
    InCookie(Found<'h>),
    InHeader(Credential<'h>),
}

impl<'h> Brought<'h> {
    /// The values that may open a session: at most two.
    pub(crate) fn values(self) -> impl Iterator<Item = &'h [u8]> {
        let values = match self {
            Self::InCookie(found) => found.values(),
            Self::InHeader(Credential::Value(value)) => [Some(value), None],
            Self::InHeader(Credential::None | Credential::Differing) => [None, None],
        };
        values.into_iter().flatten()
    }

    pub(crate) fn carrier(self) -> Carrier {
        match self {
            Self::InCookie(_) => Carrier::Cookie,
            Self::InHeader(_) => Carrier::Header,
        }
    }

    /// Whether the client holds anything that it could throw away.
    pub(crate) fn is_some(self) -> bool {
        !matches!(
            self,
            Self::InCookie(Found::None) | Self::InHeader(Credential::None)
        )
    }

    /// What the operator should hear of it.
    pub(crate) fn oddity(self) -> Option<EventKind> {
        match self {
            Self::InCookie(found) => found.oddity(),
            Self::InHeader(Credential::Differing) => {
                Some(EventKind::Refused(Refusal::DifferingHeaders))
            }
            Self::InHeader(_) => None,
        }
    }
}
