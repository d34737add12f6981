//! What the keys of sessions begin with.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::id::Handle;

const DEFAULT: &str = "cloakroom:";

/// How many keys the users are noted in, so that no key grows large, and a cluster's masters share them.
pub(super) const NOTES: u8 = 64;

/// Checked, so that it means nothing in a `SCAN MATCH`, an ACL rule or a shell, and puts no key of a cluster
/// into a slot that others share.
#[derive(Clone, Debug)]
pub(super) struct KeyPrefix(String);

impl KeyPrefix {
    const MAX_BYTES: usize = 64;

    pub(super) fn parse(prefix: &str) -> Result<Self, InvalidKeyPrefix> {
        let is_plain = prefix
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte));
        if is_plain && (1..=Self::MAX_BYTES).contains(&prefix.len()) {
            Ok(Self(prefix.to_owned()))
        } else {
            Err(InvalidKeyPrefix(prefix.to_owned()))
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of this handle's record.
    ///
    /// In hexadecimal digits, as the handle stands in logs: 16 bytes more than the handle itself would
    /// take, for a key that can be typed, and copied from a log line into `redis-cli`. And since what
    /// comes after the prefix has one length, no key of one prefix is a key of another.
    pub(super) fn key(&self, handle: &Handle) -> Vec<u8> {
        let mut key = self.followed_by(2 * handle.as_bytes().len());
        push_hexadecimal(&mut key, handle.as_bytes());
        key
    }

    /// The key of a user's list and mark.
    ///
    /// By a hash, since an id of any bytes and any length could be part of another prefix, or choose a slot
    /// of a cluster (`{…}`). All kinds of keys differ in how they end, so that here, too, no key of one
    /// prefix is a key of another.
    pub(super) fn user(&self, user: &UserHash) -> Vec<u8> {
        const END: &[u8] = b":user";
        let mut key = self.followed_by(2 * user.0.len() + END.len());
        push_hexadecimal(&mut key, &user.0);
        key.extend(END);
        key
    }

    /// The key in which this user is noted as one that has a list.
    pub(super) fn note_of(&self, user: &UserHash) -> Vec<u8> {
        self.note(user.0[0] % NOTES)
    }

    pub(super) fn note(&self, number: u8) -> Vec<u8> {
        format!("{}{number:02x}:users", self.0).into_bytes()
    }

    /// The key of everyone's mark.
    pub(super) fn everyone(&self) -> Vec<u8> {
        format!("{}everyone", self.0).into_bytes()
    }

    /// The prefix, with room for so many bytes more.
    fn followed_by(&self, bytes: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.0.len() + bytes);
        key.extend_from_slice(self.0.as_bytes());
        key
    }
}

/// With `format!`, each byte takes a call through the formatter, on every load of a session. Computed, and not looked up
/// in a table, many digits are made at once.
fn push_hexadecimal<const N: usize>(key: &mut Vec<u8>, bytes: &[u8; N]) {
    const LETTERS: u8 = b'a' - b'9' - 1;
    let digit = |value: u8| b'0' + value + if value > 9 { LETTERS } else { 0 };
    let digits = bytes.map(|byte| [digit(byte >> 4), digit(byte & 0xf)]);
    key.extend_from_slice(digits.as_flattened());
}

/// The SHA-256 of a user's id.
#[derive(Clone, Copy)]
pub(super) struct UserHash(pub(super) [u8; 32]);

impl UserHash {
    pub(super) fn of(user_id: &str) -> Self {
        Self(Sha256::digest(user_id).into())
    }
}

impl Default for KeyPrefix {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

/// The text cannot be what the keys of sessions begin with; the message says why.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cloakroom::store::RedisStore;
///
/// let client = redis::Client::open("redis://127.0.0.1/")?;
/// let connection = client.get_connection_manager_lazy(Default::default())?;
/// let error = RedisStore::new(connection).with_prefix("{shop}").unwrap_err();
/// assert!(error.to_string().contains("ASCII letters"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidKeyPrefix(String);

impl fmt::Display for InvalidKeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} cannot be the prefix of sessions' keys: it must be 1 to 64 ASCII letters, digits and \
             characters of -_.:/",
            self.0
        )
    }
}

impl std::error::Error for InvalidKeyPrefix {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_prefix_and_the_handle_as_logs_have_it() {
        let handle = Handle::from_bytes(
            *b"\x00\x01\x0f\x10\x9f\xa0\xf9\xff\x12\x34\x56\x78\x9a\xbc\xde\xf0",
        );
        let key = KeyPrefix::default().key(&handle);
        assert_eq!(key, b"cloakroom:00010f109fa0f9ff123456789abcdef0");
        assert_eq!(key, format!("cloakroom:{handle}").into_bytes());
    }

    #[test]
    fn a_users_key_has_the_hash_of_the_user_id_in_hexadecimal_digits() {
        let key = KeyPrefix::default().user(&UserHash::of("alice"));
        let expected =
            "cloakroom:2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90:user";
        assert_eq!(key, expected.as_bytes());
    }

    /// Or a store could be made to find its keys in another's.
    #[test]
    fn no_kind_of_key_ends_in_a_whole_other_one() {
        let nothing = KeyPrefix(String::new());
        let user = UserHash::of("alice");
        let keys = [
            nothing.key(&Handle::from_bytes([0xAB; 16])),
            nothing.user(&user),
            nothing.note_of(&user),
            nothing.everyone(),
        ];
        for key in &keys {
            let ending_in_it = keys.iter().filter(|other| other.ends_with(key));
            assert_eq!(ending_in_it.count(), 1, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn what_means_something_elsewhere_is_no_prefix() {
        for good in ["s", "shop:sessions:", "a-b_c.d/E9", &"x".repeat(64)] {
            assert_eq!(KeyPrefix::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "{shop}",
            "a b",
            "a*",
            "a?",
            "[a]",
            "a\\",
            "a\n",
            "\0",
            "ä",
            &"x".repeat(65),
        ] {
            let message = KeyPrefix::parse(bad).unwrap_err().to_string();
            assert!(message.contains("64 ASCII letters"), "{message}");
        }
    }
}
