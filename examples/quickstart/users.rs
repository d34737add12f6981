//! Who may log in.

use std::collections::HashMap;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error, PasswordHasher, PasswordVerifier};

/// The users of this demonstration, and their passwords.
pub(crate) const DEMO: [(&str, &str); 2] =
    [("alice", "looking-glass"), ("bob", "bricks-and-mortar")];

/// Users by name, each with the hash of a password.
pub(crate) struct Users {
    hashes: HashMap<String, PasswordHash>,
    hash_for_unknown_users: PasswordHash,
}

impl Users {
    pub(crate) fn demo() -> Result<Self, Error> {
        let hash = |(name, password): (&str, &str)| Ok((name.to_owned(), hash(password)?));
        Ok(Self {
            hashes: DEMO.into_iter().map(hash).collect::<Result<_, Error>>()?,
            hash_for_unknown_users: self::hash("")?,
        })
    }

    /// The id of the user of this name, if this is their password.
    ///
    /// This is slow, and meant to be: call it where it may block.
    pub(crate) fn verify(&self, name: &str, password: &str) -> Option<String> {
        let known = self.hashes.get(name);
        // As much work for an unknown name, so that the time it takes does not tell who is a user.
        let hash = known.unwrap_or(&self.hash_for_unknown_users);
        let matches = Argon2::default()
            .verify_password(password.as_bytes(), hash)
            .is_ok();
        (matches && known.is_some()).then(|| name.to_owned())
    }
}

/// With a random salt, and the crate's default cost, which is one that OWASP recommends.
fn hash(password: &str) -> Result<PasswordHash, Error> {
    Argon2::default().hash_password(password.as_bytes())
}
