//! The prefixes of cookie names, by which a browser vouches for a cookie's attributes.

/// What a cookie's name begins with. It follows from the attributes: nobody chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// `Secure`, `Path=/`, no `Domain`, `HttpOnly`. A browser that does not know it enforces it as
    /// [`Host`](Self::Host), whose name it begins with.
    HostHttp,
    /// `Secure`, `Path=/`, no `Domain`.
    Host,
    /// `Secure`. There is `__Http-` too, for `Secure` with `HttpOnly`, but a browser that does not know
    /// that one enforces nothing at all, whereas every browser knows this.
    Secure,
    /// A browser vouches for nothing.
    None,
}

impl Prefix {
    /// Prefixes that a base name must not bring along, the longer ones before those they begin with.
    const KNOWN: [&str; 4] = ["__Host-Http-", "__Host-", "__Secure-", "__Http-"];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::HostHttp => "__Host-Http-",
            Self::Host => "__Host-",
            Self::Secure => "__Secure-",
            Self::None => "",
        }
    }

    /// Whether a browser keeps at most one cookie of a name with this prefix for a host, and nobody but
    /// the host itself can set it.
    pub(super) const fn is_host_locked(self) -> bool {
        matches!(self, Self::HostHttp | Self::Host)
    }

    /// The known prefix that a name begins with, and the rest of the name.
    ///
    /// In any case, as browsers enforce them (RFC 6265bis §5.4).
    pub(super) fn split_off(name: &str) -> Option<(&str, &str)> {
        Self::KNOWN.iter().find_map(|prefix| {
            let (start, rest) = name.split_at_checked(prefix.len())?;
            start.eq_ignore_ascii_case(prefix).then_some((start, rest))
        })
    }
}
