//! Finds one cookie among a request's cookies, byte by byte. The rules are those of the
//! [module](super).

use std::fmt;

use memchr::memchr;

use crate::events::{CookieLimit, DuplicateCookie, EventKind};

#[cfg(any(test, fuzzing))]
pub(crate) mod reference;

/// How much of a request's cookies is looked at. A request that has more has no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CookieLimits {
    /// Bytes of all `Cookie` lines together. 64 KiB by default: web servers commonly take 8 to 32 KiB
    /// of headers, so no client that works elsewhere is turned away.
    pub(crate) max_bytes: usize,
    /// Cookies of all `Cookie` lines together, empty and nameless ones included. 1,024 by default:
    /// browsers keep a few hundred for a site.
    pub(crate) max_pairs: usize,
}

impl Default for CookieLimits {
    fn default() -> Self {
        Self {
            max_bytes: 64 * 1024,
            max_pairs: 1_024,
        }
    }
}

/// What a request has under the name of the session's cookie. Values are as they came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'h> {
    /// Nothing.
    None,
    /// One cookie.
    One(&'h [u8]),
    /// Several cookies with the same value, which count as one.
    Repeated(&'h [u8]),
    /// Cookies with two differing values, in their order. Only of a name without `__Host-`, of which a
    /// browser may keep several, with other paths or domains. Both are to be looked up, and the session is
    /// open only if exactly one of them is live.
    Two(&'h [u8], &'h [u8]),
    /// Cookies with differing values under a `__Host-` name, or with more than two under any name. No
    /// session.
    Conflicting,
    /// More cookies than [`CookieLimits`] allow. No session, whatever was found before.
    OverLimit(Limit),
}

/// The limit that a request's cookies exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// [`CookieLimits::max_bytes`].
    Bytes,
    /// [`CookieLimits::max_pairs`].
    Pairs,
}

impl<'h> Found<'h> {
    /// The values that may open a session.
    pub(crate) fn values(self) -> [Option<&'h [u8]>; 2] {
        match self {
            Self::One(value) | Self::Repeated(value) => [Some(value), None],
            Self::Two(first, second) => [Some(first), Some(second)],
            Self::None | Self::Conflicting | Self::OverLimit(_) => [None, None],
        }
    }

    /// What the operator should hear of these cookies, where no browser that is left in peace sends them.
    pub(crate) fn oddity(self) -> Option<EventKind> {
        match self {
            Self::None | Self::One(_) => None,
            Self::Repeated(_) => Some(EventKind::DuplicateCookie(DuplicateCookie::SameValue)),
            Self::Two(..) => Some(EventKind::DuplicateCookie(DuplicateCookie::TwoValues)),
            Self::Conflicting => Some(EventKind::DuplicateCookie(DuplicateCookie::TooManyValues)),
            Self::OverLimit(Limit::Bytes) => Some(EventKind::CookiesOverLimit(CookieLimit::Bytes)),
            Self::OverLimit(Limit::Pairs) => {
                Some(EventKind::CookiesOverLimit(CookieLimit::Cookies))
            }
        }
    }

    fn and(self, value: &'h [u8], host_locked: bool) -> Self {
        match self {
            Self::None => Self::One(value),
            Self::One(first) | Self::Repeated(first) if first == value => Self::Repeated(first),
            Self::One(first) | Self::Repeated(first) if !host_locked => Self::Two(first, value),
            Self::Two(first, second) if first == value || second == value => self,
            // Not the first two of three: whoever can set one cookie of another path or domain can set
            // two, and would push the user's own out of what is looked up.
            Self::One(_) | Self::Repeated(_) | Self::Two(..) | Self::Conflicting => {
                Self::Conflicting
            }
            Self::OverLimit(_) => self,
        }
    }
}

/// Without the values: they are secrets.
impl fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::One(_) => f.write_str("One(redacted)"),
            Self::Repeated(_) => f.write_str("Repeated(redacted)"),
            Self::Two(..) => f.write_str("Two(redacted)"),
            Self::Conflicting => f.write_str("Conflicting"),
            Self::OverLimit(limit) => write!(f, "OverLimit({limit:?})"),
        }
    }
}

/// Looks for the cookies of exactly this name in all `Cookie` lines.
///
/// It allocates nothing, its work is linear in the bytes that the limits admit, and a line that exceeds
/// them is not looked at.
pub(crate) fn find<'h>(
    name: &[u8],
    host_locked: bool,
    limits: CookieLimits,
    lines: impl Iterator<Item = &'h [u8]>,
) -> Found<'h> {
    let mut found = Found::None;
    let (mut bytes_left, mut pairs_left) = (limits.max_bytes, limits.max_pairs);
    for line in lines {
        match bytes_left.checked_sub(line.len()) {
            Some(left) => bytes_left = left,
            None => return Found::OverLimit(Limit::Bytes),
        }
        // An empty line is one empty pair, so that endless empty lines meet the limit as well.
        let mut rest = Some(line);
        while let Some(bytes) = rest {
            match pairs_left.checked_sub(1) {
                Some(left) => pairs_left = left,
                None => return Found::OverLimit(Limit::Pairs),
            }
            let end = memchr(b';', bytes).unwrap_or(bytes.len());
            if let Some(value) = value_of(name, &bytes[..end]) {
                found = found.and(value, host_locked);
            }
            rest = bytes.get(end + 1..);
        }
    }
    found
}

/// The value of a pair if it has this name, which is a token: it has no `=` that could be taken for the
/// pair's, and no space at its ends.
fn value_of<'h>(name: &[u8], pair: &'h [u8]) -> Option<&'h [u8]> {
    let behind_name = trim_start(pair).strip_prefix(name)?;
    trim_start(behind_name).strip_prefix(b"=").map(trim)
}

/// The name of the cookie that a `Set-Cookie` line sets, as a browser reads it (RFC 6265bis §5.6); `None`
/// if it has none.
pub(crate) fn set_cookie_name(line: &[u8]) -> Option<&[u8]> {
    let pair = line.split(|&byte| byte == b';').next()?;
    split_pair(pair).map(|(name, _)| name)
}

/// Name and value of a pair; `None` if it lacks the `=`, for then it is a value without a name.
fn split_pair(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = pair.iter().position(|&byte| byte == b'=')?;
    Some((trim(&pair[..equals]), trim(&pair[equals + 1..])))
}

/// Trims what browsers trim when they store a cookie, and nothing else. A trim that knows more kinds of
/// space makes our name out of another one, which browsers let anybody set.
fn trim(bytes: &[u8]) -> &[u8] {
    let mut bytes = trim_start(bytes);
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const NAME: &[u8] = b"__Host-Http-id";

    const LOCKED: bool = true;
    const OPEN: bool = false;

    fn find_in<'h>(host_locked: bool, lines: &[&'h [u8]]) -> Found<'h> {
        find(
            NAME,
            host_locked,
            CookieLimits::default(),
            lines.iter().copied(),
        )
    }

    #[test]
    fn our_cookie_is_found_among_others_with_its_value_as_it_came() {
        for (line, value) in [
            (&b"__Host-Http-id=abc"[..], &b"abc"[..]),
            (b"a=1; __Host-Http-id=abc; b=2", b"abc"),
            (b"a=1;__Host-Http-id=abc;b=2", b"abc"),
            (b" \t__Host-Http-id\t = \tabc \t; b=2", b"abc"),
            (b"__Host-Http-id=", b""),
            (b"__Host-Http-id==", b"="),
            (b"__Host-Http-id=a=b", b"a=b"),
            (b"__Host-Http-id=a b", b"a b"),
            (b"__Host-Http-id=a,b", b"a,b"),
            (b"__Host-Http-id=%61", b"%61"),
            (b"__Host-Http-id=\"abc\"", b"\"abc\""),
            (b"__Host-Http-id=\"a; b=c\"", b"\"a"),
            (b"__Host-Http-id=\xC3\xBC", b"\xC3\xBC"),
            (b"a=\xFF\xFE\x00; __Host-Http-id=abc", b"abc"),
            (b"\xC3\xBC=1; \xA0; __Host-Http-id=abc", b"abc"),
            (b"a=\"1; __Host-Http-id=abc", b"abc"),
            (b"$Version=1; __Host-Http-id=abc; $Path=/", b"abc"),
            (b";; ;=;__Host-Http-id=abc;", b"abc"),
        ] {
            let found = find_in(LOCKED, &[line]);
            assert!(found == Found::One(value), "{line:?}: {found:?}");
            assert_eq!(found.oddity(), None);
        }
    }

    #[test]
    fn what_only_resembles_our_cookie_is_not_ours() {
        for line in [
            &b""[..],
            b"__Host-Http-id",
            b"=__Host-Http-id=abc",
            b" =__Host-Http-id=abc",
            b"=__Host-Http-id",
            b"__HOST-HTTP-ID=abc",
            b"__host-Http-id=abc",
            b"__Host-Http-ID=abc",
            b"%5F%5FHost-Http-id=abc",
            b"__Host-Http-%69d=abc",
            b"__Host-Http-id2=abc",
            b"a__Host-Http-id=abc",
            b"__Host-Http-=abc",
            b"__Host-id=abc",
            b"id=abc",
            b"\"__Host-Http-id\"=abc",
            b"$__Host-Http-id=abc",
            b"__Host-Http-id[]=abc",
            b"__Host Http id=abc",
            b"a=1, __Host-Http-id=abc",
            b"\xE2\x80\x80__Host-Http-id=abc",
            b"\xC2\xA0__Host-Http-id=abc",
            b"\xA0__Host-Http-id=abc",
            b"\x85__Host-Http-id=abc",
            b"\x0B__Host-Http-id=abc",
            b"\x0C__Host-Http-id=abc",
            b"\x00__Host-Http-id=abc",
            b"\r\n__Host-Http-id=abc",
            b"__Host-Http-id\x00=abc",
            b"__Host-Http-id\x0B=abc",
            b"__Host-Http-id\xC2\xA0=abc",
        ] {
            let found = find_in(LOCKED, &[line]);
            assert!(found == Found::None, "{line:?}: {found:?}");
        }
    }

    #[test]
    fn several_cookies_of_our_name_count_by_their_values() {
        use Found::{Conflicting, One, Repeated, Two};
        for (host_locked, line, expected) in [
            (LOCKED, &b"N=a; N=a"[..], Repeated(b"a")),
            (LOCKED, b"N=a; N=a; N=a", Repeated(b"a")),
            (LOCKED, b"N=a; N= a ", Repeated(b"a")),
            (LOCKED, b"N=a; N=b", Conflicting),
            (LOCKED, b"N=a; N=a; N=b", Conflicting),
            (LOCKED, b"N=a; N=b; N=a", Conflicting),
            (LOCKED, b"N=a; N=", Conflicting),
            (LOCKED, b"N=a; N=\"a\"", Conflicting),
            (LOCKED, b"N=a; n=b; N", One(b"a")),
            (OPEN, b"N=a; N=a", Repeated(b"a")),
            (OPEN, b"N=a; N=b", Two(b"a", b"b")),
            (OPEN, b"N=a; N=a; N=b", Two(b"a", b"b")),
            (OPEN, b"N=b; N=a; N=b; N=a", Two(b"b", b"a")),
            (OPEN, b"N=a; N=b; N=c", Conflicting),
            (OPEN, b"N=a; N=b; N=c; N=a", Conflicting),
        ] {
            let whole = find(
                b"N",
                host_locked,
                CookieLimits::default(),
                [line].into_iter(),
            );
            assert!(whole == expected, "{line:?}: {whole:?}");
            // HTTP/2 clients send each pair in a line of its own (RFC 9113 §8.2.3).
            let pairs = line.split(|&byte| byte == b';');
            let split = find(b"N", host_locked, CookieLimits::default(), pairs);
            assert!(split == expected, "{line:?}: {split:?}");
            assert_eq!(whole.oddity().is_some(), expected != One(b"a"));
        }
    }

    #[test]
    fn only_unambiguous_values_may_open_a_session() {
        for (found, values) in [
            (Found::None, [None, None]),
            (Found::One(b"a"), [Some(&b"a"[..]), None]),
            (Found::Repeated(b"a"), [Some(b"a"), None]),
            (Found::Two(b"a", b"b"), [Some(b"a"), Some(b"b")]),
            (Found::Conflicting, [None, None]),
            (Found::OverLimit(Limit::Bytes), [None, None]),
            (Found::OverLimit(Limit::Pairs), [None, None]),
        ] {
            assert_eq!(found.values(), values);
        }
    }

    #[test]
    fn debug_shows_no_value() {
        for line in [
            &b"N=topsecret"[..],
            b"N=topsecret;N=topsecret",
            b"N=topsecret;N=a",
        ] {
            let found = find(b"N", OPEN, CookieLimits::default(), [line].into_iter());
            assert_eq!(found.values()[0], Some(&b"topsecret"[..]));
            let text = format!("{found:?}");
            assert!(text.ends_with("(redacted)"), "{text}");
        }
    }

    #[test]
    fn the_byte_limit_counts_all_lines_and_a_request_over_it_has_no_session() {
        let limits = CookieLimits {
            max_bytes: 10,
            ..CookieLimits::default()
        };
        let find = |lines: &[&'static [u8]]| find(b"N", LOCKED, limits, lines.iter().copied());
        assert_eq!(find(&[b"N=a; b=345"]), Found::One(b"a"));
        assert_eq!(find(&[b"N=a; b=3456"]), Found::OverLimit(Limit::Bytes));
        assert_eq!(find(&[b"N=a", b"b=34567"]), Found::One(b"a"));
        assert_eq!(find(&[b"N=a", b"b=345678"]), Found::OverLimit(Limit::Bytes));
        assert_eq!(find(&[b"b=345678", b"N=a"]), Found::OverLimit(Limit::Bytes));
    }

    #[test]
    fn the_pair_limit_counts_all_lines_and_empty_pairs_too() {
        let limits = CookieLimits {
            max_pairs: 3,
            ..CookieLimits::default()
        };
        let find = |lines: &[&'static [u8]]| find(b"N", LOCKED, limits, lines.iter().copied());
        assert_eq!(find(&[b"a=1; b=2; N=a"]), Found::One(b"a"));
        assert_eq!(
            find(&[b"a=1; b=2; c=3; N=a"]),
            Found::OverLimit(Limit::Pairs)
        );
        assert_eq!(
            find(&[b"N=a; b=2; c=3; d=4"]),
            Found::OverLimit(Limit::Pairs)
        );
        assert_eq!(find(&[b";;;N=a"]), Found::OverLimit(Limit::Pairs));
        assert_eq!(find(&[b"N=a", b"", b""]), Found::One(b"a"));
        assert_eq!(
            find(&[b"N=a", b"", b"", b""]),
            Found::OverLimit(Limit::Pairs)
        );
    }

    #[test]
    fn the_default_limits_leave_room_for_every_browser_and_stop_floods() {
        let full_jar = vec![b"a=234567890".repeat(9); 600].join(&b"; "[..]);
        assert!(full_jar.len() < 64 * 1024);
        assert_eq!(
            find_in(LOCKED, &[&full_jar, b"__Host-Http-id=abc"]),
            Found::One(b"abc")
        );

        let long = [b"a=", b"x".repeat(64 * 1024).as_slice()].concat();
        assert_eq!(
            find_in(LOCKED, &[&long, b"__Host-Http-id=abc"]),
            Found::OverLimit(Limit::Bytes)
        );

        let many = b"a=1;".repeat(5_000);
        assert_eq!(
            find_in(LOCKED, &[b"__Host-Http-id=abc", &many]),
            Found::OverLimit(Limit::Pairs)
        );
    }

    #[test]
    fn nothing_behind_a_limit_is_looked_at() {
        let taken = |line: &'static [u8], lines: usize| {
            let taken = Cell::new(0);
            let lines = std::iter::repeat_n(line, lines).inspect(|_| taken.set(taken.get() + 1));
            let found = find(NAME, LOCKED, CookieLimits::default(), lines);
            assert!(matches!(found, Found::OverLimit(_)), "{found:?}");
            taken.get()
        };
        assert_eq!(taken(b"a=1", 5_000), 1_025);
        assert_eq!(taken(b"", 5_000), 1_025);
        let kib: &[u8] = Box::leak(b"x".repeat(1_024).into_boxed_slice());
        assert_eq!(taken(kib, 5_000), 65);
    }

    #[test]
    fn a_browser_and_we_read_the_same_name_of_a_set_cookie_line() {
        for (line, name) in [
            (&b"a=1; Path=/"[..], Some(&b"a"[..])),
            (b"a=1", Some(b"a")),
            (b" \ta\t =1", Some(b"a")),
            (b"a=", Some(b"a")),
            (b"a b=1", Some(b"a b")),
            (b"=a=1", Some(b"")),
            (b"a", None),
            (b"a; b=1", None),
            (b"; a=1", None),
            (b"", None),
            (b"\xC2\xA0a=1", Some(b"\xC2\xA0a")),
        ] {
            assert_eq!(set_cookie_name(line), name, "{line:?}");
        }
    }

    #[test]
    fn a_slow_reference_finds_the_same_in_any_soup_of_bytes() {
        // Our name often, and everything that other parsers stumble over.
        const FRAGMENTS: [&[u8]; 32] = [
            b"N",
            b"N=",
            b"N=",
            b"N=a",
            b"N=b",
            b";N=",
            b";N=a;",
            b"; N=a ;",
            b"; N=b",
            b"; N=c",
            b"=",
            b"=",
            b";",
            b"; ",
            b" ",
            b"\t",
            b"\"",
            b"\\",
            b",",
            b"$",
            b"a",
            b"b",
            b"n",
            b"%4E",
            b"\0",
            b"\r\n",
            b"\x0B",
            b"\x0C",
            b"\xA0",
            b"\xC2\xA0",
            b"\xE2\x80\x80",
            b"\xFF",
        ];
        let mut random = StdRng::seed_from_u64(0x00C0_0C1E);
        let mut below = |limit: u32| (random.next_u32() % limit) as usize;
        let mut met = std::collections::BTreeMap::new();
        for _ in 0..50_000 {
            let lines: Vec<Vec<u8>> = (0..below(4))
                .map(|_| {
                    (0..below(12))
                        .flat_map(|_| FRAGMENTS[below(32)].to_vec())
                        .collect()
                })
                .collect();
            let limits = CookieLimits {
                max_bytes: 10 + below(60),
                max_pairs: 1 + below(12),
            };
            for host_locked in [LOCKED, OPEN] {
                let found = find(b"N", host_locked, limits, lines.iter().map(Vec::as_slice));
                let expected = reference::find(b"N", host_locked, limits, &lines);
                let shape = expected.0;
                assert_eq!(reference::seen(found), expected, "{lines:?} {limits:?}");
                *met.entry(shape).or_insert(0) += 1;
            }
        }
        assert!(
            met.len() == 6 && met.values().all(|&times| times > 500),
            "{met:?}"
        );
    }
}
