//! Passwords, and what is kept of them.

use std::sync::Arc;
use std::thread::available_parallelism;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use super::failure::Failure;

/// How many characters a password has at least, where it is the only factor (NIST SP 800-63B-4 §3.1.1.2).
pub(crate) const SHORTEST: usize = 15;

/// A password that may be chosen.
pub(crate) struct NewPassword(String);

impl NewPassword {
    /// `None` if it is too short. There are no rules on its characters: they make passwords worse.
    pub(crate) fn new(password: String) -> Option<Self> {
        (password.chars().count() >= SHORTEST).then_some(Self(password))
    }
}

/// Hashes passwords, by Argon2id at the crate's default cost, which is one that OWASP recommends.
#[derive(Clone)]
pub(crate) struct Hasher {
    turns: Arc<Semaphore>,
    of_nobody: Arc<str>,
}

impl Hasher {
    pub(crate) fn new() -> Result<Self, argon2::password_hash::Error> {
        Ok(Self {
            // A hash takes one processor and 19 MiB for as long as it runs, so that many at once, which
            // anybody can ask for, only end later.
            turns: Arc::new(Semaphore::new(
                available_parallelism().map_or(1, usize::from),
            )),
            of_nobody: hash("")?.into(),
        })
    }

    pub(crate) async fn hash(&self, NewPassword(password): NewPassword) -> Result<String, Failure> {
        self.in_turn(move || hash(&password)).await
    }

    /// Whether this is the password of which that hash is kept. Where there is none, since there is no such
    /// user, it takes as long to say no: else the time would tell who is a user.
    pub(crate) async fn verify(
        &self,
        password: String,
        kept: Option<&str>,
    ) -> Result<bool, Failure> {
        let is_user = kept.is_some();
        let kept = PasswordHash::new(kept.unwrap_or(&self.of_nobody))?;
        let verify = move || {
            let verified = Argon2::default().verify_password(password.as_bytes(), &kept);
            Ok(verified.is_ok())
        };
        Ok(self.in_turn(verify).await? && is_user)
    }

    /// Runs this on a thread where it holds up no other request.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, argon2::password_hash::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let _turn = self.turns.acquire().await?;
        Ok(tokio::task::spawn_blocking(work).await??)
    }
}

/// With a random salt.
fn hash(password: &str) -> Result<String, argon2::password_hash::Error> {
    let hash: PasswordHash = Argon2::default().hash_password(password.as_bytes())?;
    Ok(hash.to_string())
}
