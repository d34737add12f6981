//! The users, in the database of the sessions.

use std::str::FromStr;

use sqlx::SqlitePool;

use super::failure::Failure;
use super::passwords::{Hasher, NewPassword};
use super::server::Problem;

pub(crate) struct User {
    /// By which sessions know the user: it lasts, where an address may change.
    pub(crate) id: i64,
    pub(crate) email: String,
}

/// An address that may be one, in the spelling in which it is kept.
pub(crate) struct Email(String);

impl FromStr for Email {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let email = text.trim().to_lowercase();
        let is_text = !email.contains(char::is_whitespace) && !email.contains(char::is_control);
        match email.split_once('@') {
            // Whether mail arrives there, only a mail can tell.
            Some((name, host)) if !name.is_empty() && !host.is_empty() => (is_text
                && email.len() <= 254)
                .then_some(Self(email))
                .ok_or(()),
            _ => Err(()),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Users {
    pool: SqlitePool,
    hasher: Hasher,
}

impl Users {
    pub(crate) async fn open(pool: SqlitePool) -> Result<Self, Problem> {
        // AUTOINCREMENT gives no id twice: sessions of a user who was removed are never the next one's.
        sqlx::query(
            "CREATE TABLE IF NOT EXISTS users (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                email TEXT NOT NULL UNIQUE,
                password_hash TEXT NOT NULL
            ) STRICT",
        )
        .execute(&pool)
        .await?;
        let hasher = Hasher::new()?;
        Ok(Self { pool, hasher })
    }

    /// Makes a user, unless there is one of this address. Which of the two is not told, neither by the answer
    /// nor by the time that it takes: either way it hashes, and writes.
    pub(crate) async fn sign_up(&self, email: Email, password: NewPassword) -> Result<(), Failure> {
        let hash = self.hasher.hash(password).await?;
        sqlx::query(
            "INSERT INTO users (email, password_hash) VALUES (?1, ?2)
            ON CONFLICT (email) DO UPDATE SET email = excluded.email",
        )
        .bind(email.0)
        .bind(hash)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The user of this address, if this is their password. An app limits how often this may be tried.
    pub(crate) async fn verify(
        &self,
        email: &str,
        password: String,
    ) -> Result<Option<User>, Failure> {
        let email = email
            .parse()
            .map_or_else(|()| String::new(), |Email(email)| email);
        let row: Option<(i64, String)> =
            sqlx::query_as("SELECT id, password_hash FROM users WHERE email = ?1")
                .bind(&email)
                .fetch_optional(&self.pool)
                .await?;
        let (id, hash) = row.unzip();
        let is_right = self.hasher.verify(password, hash.as_deref()).await?;
        Ok(id.filter(|_| is_right).map(|id| User { id, email }))
    }

    pub(crate) async fn find(&self, id: i64) -> Result<Option<User>, Failure> {
        let email = sqlx::query_scalar("SELECT email FROM users WHERE id = ?1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        Ok(email.map(|email| User { id, email }))
    }

    /// Whether the current password was right, and so is the old one now.
    pub(crate) async fn change_password(
        &self,
        id: i64,
        current: String,
        new: NewPassword,
    ) -> Result<bool, Failure> {
        let hash: Option<String> =
            sqlx::query_scalar("SELECT password_hash FROM users WHERE id = ?1")
                .bind(id)
                .fetch_optional(&self.pool)
                .await?;
        if !self.hasher.verify(current, hash.as_deref()).await? {
            return Ok(false);
        }
        let new = self.hasher.hash(new).await?;
        // Not if it was changed meanwhile: then the current one is not the current one any more.
        let changed =
            sqlx::query("UPDATE users SET password_hash = ?3 WHERE id = ?1 AND password_hash = ?2")
                .bind(id)
                .bind(hash)
                .bind(new)
                .execute(&self.pool)
                .await?;
        Ok(changed.rows_affected() == 1)
    }

    pub(crate) async fn remove(&self, id: i64) -> Result<(), Failure> {
        sqlx::query("DELETE FROM users WHERE id = ?1")
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
