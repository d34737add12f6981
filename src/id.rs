//! Session ids: a public handle and a secret.
//!
//! An id is 36 bytes of the operating system's random source, written as 48 characters of unpadded
//! base64url: a 16-byte [`Handle`] that names the session, and a 20-byte secret that opens it. The store
//! is given the handle, and the SHA-256 of the secret inside the record's payload; so neither a stolen
//! dump of the store nor a log line opens a session.
//!
//! 160 bits of secret are more than the 128 bits of OWASP ASVS 5.0 7.2.3 and the 64 bits of
//! NIST SP 800-63B-4 §5.1.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::random::{RandomSourceError, fill_random};

const HANDLE_BYTES: usize = 16;
const SECRET_BYTES: usize = 20;
const ID_BYTES: usize = HANDLE_BYTES + SECRET_BYTES;

/// Characters of an id in a cookie. 36 bytes are exactly 48 characters of base64, so there is no padding,
/// no unused bit, and one spelling only for each id.
pub(crate) const ID_CHARS: usize = 48;

/// The public name of a session: 16 random bytes, which last as long as the session does.
///
/// A handle opens nothing. It is what a store keys its records by, what logs and spans carry, and what a
/// page that lists a user's devices can put into a form. It is displayed, and parsed, as 32 lowercase
/// hexadecimal digits.
///
/// ```
/// use cloakroom::store::Handle;
///
/// let handle = Handle::from_bytes([0xAB; 16]);
/// assert_eq!(handle.to_string(), "abababababababababababababababab");
/// assert_eq!(handle.to_string().parse::<Handle>().unwrap(), handle);
/// assert!("../../etc/passwd".parse::<Handle>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle([u8; HANDLE_BYTES]);

impl Handle {
    /// The handle of these 16 bytes, as a store finds it in a key column.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes of this handle: the key of the session's record in a store.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({self})")
    }
}

impl FromStr for Handle {
    type Err = ParseHandleError;

    /// Parses exactly 32 lowercase hexadecimal digits, so that a handle has one spelling.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 2 * HANDLE_BYTES {
            return Err(ParseHandleError);
        }
        let mut bytes = [0; HANDLE_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn hex_digit(digit: u8) -> Result<u8, ParseHandleError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(ParseHandleError),
    }
}

/// The text is not a [`Handle`]: it is not 32 lowercase hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseHandleError;

impl fmt::Display for ParseHandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a session handle is 32 lowercase hexadecimal digits")
    }
}

impl std::error::Error for ParseHandleError {}

/// What opens a session: 20 random bytes that only the client keeps.
#[derive(Clone)]
pub(crate) struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// The SHA-256 of the secret: what the record holds of it.
    ///
    /// A plain hash is enough, since a secret of 160 random bits cannot be guessed or tabulated.
    pub(crate) fn digest(&self) -> SecretDigest {
        SecretDigest(Sha256::digest(self.0).into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// The SHA-256 of a [`Secret`]. Compared in constant time, so that timing tells nothing about it.
#[derive(Clone, Copy)]
pub(crate) struct SecretDigest([u8; 32]);

impl SecretDigest {
    pub(crate) const BYTES: usize = 32;

    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for SecretDigest {
    fn eq(&self, other: &Self) -> bool {
        equal_in_constant_time(&self.0, &other.0)
    }
}

/// Whether they are the same, in a time that does not tell how far they are.
pub(crate) fn equal_in_constant_time(first: &[u8; 32], second: &[u8; 32]) -> bool {
    // By words: byte by byte takes several times as long.
    let words = |bytes: &[u8; 32]| {
        let (words, _) = bytes.as_chunks();
        [0, 1, 2, 3].map(|word: usize| u64::from_ne_bytes(words[word]))
    };
    words(first).ct_eq(&words(second)).into()
}

impl Eq for SecretDigest {}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(redacted)")
    }
}

/// A well-formed session id, as a client holds it. Deliberately without `Display` and `Serialize`.
#[derive(Clone, Debug)]
pub(crate) struct SessionId {
    pub(crate) handle: Handle,
    pub(crate) secret: Secret,
}

impl SessionId {
    /// A new id, under a new handle: both of one call to the operating system's random source.
    ///
    /// # Errors
    ///
    /// When the random source fails. A guessable id must never be issued, so there is no fallback.
    pub(crate) fn generate() -> Result<Self, RandomSourceError> {
        let mut bytes = [0; ID_BYTES];
        fill_random(&mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }

    /// The id of a cookie's value; `None` for anything but 48 characters of the base64url alphabet.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let value: &[u8; ID_CHARS] = value.try_into().ok()?;
        decode_base64url(value).map(Self::from_bytes)
    }

    fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        let (mut handle, mut secret) = ([0; HANDLE_BYTES], [0; SECRET_BYTES]);
        handle.copy_from_slice(&bytes[..HANDLE_BYTES]);
        secret.copy_from_slice(&bytes[HANDLE_BYTES..]);
        Self {
            handle: Handle(handle),
            secret: Secret(secret),
        }
    }

    /// The cookie's value: 48 ASCII characters, none of which needs quoting or escaping.
    pub(crate) fn encode(&self) -> [u8; ID_CHARS] {
        let mut bytes = [0; ID_BYTES];
        bytes[..HANDLE_BYTES].copy_from_slice(&self.handle.0);
        bytes[HANDLE_BYTES..].copy_from_slice(&self.secret.0);
        encode_base64url(&bytes)
    }
}

/// In place of a value: the two highest bits are set in no other.
const NOT_IN_ALPHABET: u8 = 0xFF;

/// The value of a character in the alphabet. By comparisons, and not out of a table: so the compiler does many
/// characters at once, and the caches of the processor learn nothing of them.
fn value_of(char: u8) -> u8 {
    let mut value = NOT_IN_ALPHABET;
    for (first, last, of_first) in [
        (b'A', b'Z', 0),
        (b'a', b'z', 26),
        (b'0', b'9', 52),
        (b'-', b'-', 62),
        (b'_', b'_', 63),
    ] {
        if first <= char && char <= last {
            value = char.wrapping_sub(first).wrapping_add(of_first);
        }
    }
    value
}

/// The character of a value of six bits.
fn char_of(value: u8) -> u8 {
    let mut char = b'_';
    for (first, last, of_first) in [
        (0, 25, b'A'),
        (26, 51, b'a'),
        (52, 61, b'0'),
        (62, 62, b'-'),
    ] {
        if first <= value && value <= last {
            char = value.wrapping_sub(first).wrapping_add(of_first);
        }
    }
    char
}

/// The text of bytes that need no padding, in groups of six: eight characters for each.
pub(crate) fn encode_base64url<const BYTES: usize, const CHARS: usize>(
    bytes: &[u8; BYTES],
) -> [u8; CHARS] {
    const { assert!(BYTES.is_multiple_of(6) && CHARS == BYTES / 6 * 8) };
    let mut text = [0; CHARS];
    for (values, group) in text.as_chunks_mut().0.iter_mut().zip(bytes.as_chunks().0) {
        let [a, b, c, d, e, f]: [u8; 6] = *group;
        let bits = u64::from_be_bytes([0, a, b, c, 0, d, e, f]);
        // From twice 24 bits to four times twelve, and to eight times six.
        let pairs = bits & 0x0000_0FFF_0000_0FFF | bits << 4 & 0x0FFF_0000_0FFF_0000;
        let sixes = pairs & 0x003F_003F_003F_003F | pairs << 2 & 0x3F00_3F00_3F00_3F00;
        *values = sixes.to_be_bytes();
    }
    text.map(char_of)
}

/// The bytes of such a text, in groups of eight characters; `None` for any other character.
pub(crate) fn decode_base64url<const BYTES: usize, const CHARS: usize>(
    text: &[u8; CHARS],
) -> Option<[u8; BYTES]> {
    const { assert!(BYTES.is_multiple_of(6) && CHARS == BYTES / 6 * 8) };
    let mut values = [0; CHARS];
    let mut any = 0;
    for (value, &char) in values.iter_mut().zip(text) {
        *value = value_of(char);
        any |= *value;
    }
    let mut bytes = [0; BYTES];
    for (group, values) in bytes.as_chunks_mut().0.iter_mut().zip(values.as_chunks().0) {
        let values = u64::from_be_bytes(*values);
        // From eight times six bits to four times twelve, and to twice 24.
        let pairs = values & 0x003F_003F_003F_003F | values >> 2 & 0x0FC0_0FC0_0FC0_0FC0;
        let bits = pairs & 0x0000_0FFF_0000_0FFF | pairs >> 4 & 0x00FF_F000_00FF_F000;
        let [_, a, b, c, _, d, e, f] = bits.to_be_bytes();
        *group = [a, b, c, d, e, f];
    }
    (any < 64).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_way_through_the_cookie() {
        for _ in 0..1_000 {
            let id = SessionId::generate().unwrap();
            let back = SessionId::parse(&id.encode()).unwrap();
            assert_eq!(back.handle, id.handle);
            assert_eq!(back.secret.digest(), id.secret.digest());
        }
    }

    /// RFC 4648, table 2.
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    #[test]
    fn each_value_has_its_character() {
        for (value, &char) in (0..).zip(ALPHABET) {
            assert_eq!(char_of(value), char);
            assert_eq!(value_of(char), value);
        }
    }

    #[test]
    fn base64url_is_the_one_of_rfc_4648() {
        let mut bytes = [0; ID_BYTES];
        bytes[..6].copy_from_slice(&[0xFB, 0xFF, 0xFE, 0x14, 0xFB, 0x9C]);
        let text: [u8; ID_CHARS] = encode_base64url(&bytes);
        assert_eq!(&text[..8], b"-__-FPuc");
        assert!(text[8..].iter().all(|&char| char == b'A'));
    }

    #[test]
    fn another_length_or_character_is_no_id() {
        let good = SessionId::generate().unwrap().encode();
        for length in 0..ID_CHARS {
            assert!(SessionId::parse(&good[..length]).is_none());
        }
        assert!(SessionId::parse(&[good.as_slice(), b"A"].concat()).is_none());
        for byte in 0..=255u8 {
            for position in 0..ID_CHARS {
                let mut value = good;
                value[position] = byte;
                assert_eq!(SessionId::parse(&value).is_some(), ALPHABET.contains(&byte));
            }
        }
    }

    #[test]
    fn debug_reveals_neither_secret_nor_digest() {
        let id = SessionId::generate().unwrap();
        let text = format!("{id:?} {:?}", id.secret.digest());
        assert_eq!(
            text,
            format!(
                "SessionId {{ handle: Handle({}), secret: Secret(redacted) }} SecretDigest(redacted)",
                id.handle
            )
        );
    }

    #[test]
    fn a_handle_has_one_spelling() {
        let handle = Handle::from_bytes([0xAB; 16]);
        assert!(handle.to_string().to_uppercase().parse::<Handle>().is_err());
        assert!(format!("{handle}0").parse::<Handle>().is_err());
        assert!("".parse::<Handle>().is_err());
    }
}
