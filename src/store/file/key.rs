//! What files are named by: the handles of sessions, and hashes of users' ids.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::id::Handle;

/// What a file is kept under. Its directory, and its lock, follow from the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The record of a session.
    Session(Handle),
    /// The list of a user.
    User(UserKey),
}

/// The SHA-256 of a user's id. An id may be of any length and any characters, so it is no name of a file;
/// and who sees the names of a backup's files need not see who is logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UserKey([u8; 32]);

impl Key {
    /// The first-level directory, and the lock.
    pub(super) fn shard(&self) -> u8 {
        self.bytes()[0]
    }

    /// The second-level directory.
    pub(super) fn digit(&self) -> u8 {
        self.bytes()[1] >> 4
    }

    /// The key of this name without its ending.
    pub(super) fn parse(stem: &str) -> Option<Self> {
        let session = stem.parse().ok().map(Self::Session);
        session.or_else(|| UserKey::parse(stem).map(Self::User))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Session(handle) => handle.as_bytes(),
            Self::User(user) => &user.0,
        }
    }
}

impl UserKey {
    pub(super) const BYTES: usize = 32;

    pub(super) fn of(user_id: &str) -> Self {
        Self(Sha256::digest(user_id).into())
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The last one in this shard that there could be.
    pub(super) fn last_of(shard: u8) -> Self {
        let mut bytes = [u8::MAX; 32];
        bytes[0] = shard;
        Self(bytes)
    }

    pub(super) fn shard(&self) -> u8 {
        Key::User(*self).shard()
    }

    /// Exactly 64 lowercase hexadecimal digits: two handles, so to say.
    fn parse(stem: &str) -> Option<Self> {
        let (one, two) = stem.split_at_checked(32)?;
        let (one, two): (Handle, Handle) = (one.parse().ok()?, two.parse().ok()?);
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(one.as_bytes());
        bytes[16..].copy_from_slice(two.as_bytes());
        Some(Self(bytes))
    }
}

impl From<&Handle> for Key {
    fn from(handle: &Handle) -> Self {
        Self::Session(*handle)
    }
}

impl From<&UserKey> for Key {
    fn from(user: &UserKey) -> Self {
        Self::User(*user)
    }
}

/// As it stands in the file's name, before the ending.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.bytes().iter();
        bytes.try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
