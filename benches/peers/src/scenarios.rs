//! What is asked of each library.

/// What a request does with its session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scenario {
    /// Nothing, and it brings no cookie.
    Unused,
    /// Nothing, though it brings the cookie of a live session.
    UnusedWithCookie,
    /// Reads one small key of a live session.
    Read,
    /// Reads one small key of a live session, and writes it.
    Write,
    /// Writes one small key, and brings no cookie.
    New,
}

impl Scenario {
    pub(crate) const ALL: [Self; 5] = [
        Self::Unused,
        Self::UnusedWithCookie,
        Self::Read,
        Self::Write,
        Self::New,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::UnusedWithCookie => "unused-with-cookie",
            Self::Read => "read",
            Self::Write => "write",
            Self::New => "new",
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Unused | Self::UnusedWithCookie => "/unused",
            Self::Read => "/read",
            Self::Write | Self::New => "/write",
        }
    }

    pub(crate) fn has_cookie(self) -> bool {
        !matches!(self, Self::Unused | Self::New)
    }
}

/// How much is in a session besides the one small key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) keys: usize,
    /// Of all values together.
    pub(crate) bytes: usize,
}

/// More and more bytes in ten keys, and more and more keys of 20 bytes each.
pub(crate) fn sizes(quick: bool) -> Vec<Size> {
    let by_bytes = [100, 1_000, 4_000, 16_000, 64_000].map(|bytes| Size { keys: 10, bytes });
    let by_keys = [1, 5, 20, 50, 100, 200].map(|keys| Size {
        keys,
        bytes: keys * 20,
    });
    let step = if quick { 4 } else { 1 };
    by_bytes.into_iter().chain(by_keys).step_by(step).collect()
}
