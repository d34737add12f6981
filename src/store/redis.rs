//! Sessions in Redis.

use std::fmt;
use std::sync::Arc;

use redis::{RedisError, Value};
use time::OffsetDateTime;

use self::failure::failed;
use self::prefix::KeyPrefix;
use self::script::{CONFLICT, DONE, MISSING, Scripts};
use super::{Handle, Outcome, Record, SWEEP_GRACE, SessionStore, StoreError, Version, async_trait};
use crate::clock::to_unix_millis;

mod connection;
mod failure;
mod prefix;
mod script;

pub use self::connection::RedisConnection;
pub use self::prefix::InvalidKeyPrefix;

/// Keeps sessions in Redis.
#[derive(Clone)]
pub struct RedisStore {
    connection: RedisConnection,
    prefix: KeyPrefix,
    scripts: Arc<Scripts>,
}

impl RedisStore {
    /// Keeps sessions in this server or cluster, under keys that begin with `cloakroom:`.
    pub fn new(connection: impl Into<RedisConnection>) -> Self {
        Self {
            connection: connection.into(),
            prefix: KeyPrefix::default(),
            scripts: Arc::new(Scripts::new()),
        }
    }

    /// Keeps sessions under keys that begin with `prefix`: 1 to 64 ASCII letters, digits and characters of
    /// `-_.:/`.
    ///
    /// # Errors
    ///
    /// If the prefix has another character, or is empty or too long.
    pub fn with_prefix(self, prefix: &str) -> Result<Self, InvalidKeyPrefix> {
        let prefix = KeyPrefix::parse(prefix)?;
        Ok(Self { prefix, ..self })
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        const DOING: &str = "create a session in Redis";
        let key = self.prefix.key(handle);
        let mut command = redis::cmd("SET");
        command
            .arg(&key)
            .arg(record.encode())
            .arg("NX")
            .arg("PXAT")
            .arg(removal(record.expires_at));
        match self.connection.send(&key, command).await {
            Ok(Value::Okay) => Ok(()),
            Ok(Value::Nil) => Err(StoreError::handle_in_use()),
            Ok(answer) => Err(unexpected(DOING, &answer)),
            Err(error) => Err(failed(DOING, error)),
        }
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        const DOING: &str = "load a session from Redis";
        let key = self.prefix.key(handle);
        // To a server, it is a write, so no replica answers it.
        let mut command = redis::cmd("GETEX");
        command.arg(&key);
        match self.connection.send(&key, command).await {
            Ok(Value::BulkString(bytes)) => Ok(Some(Record::decode(&bytes)?)),
            Ok(Value::Nil) => Ok(None),
            Ok(answer) => Err(unexpected(DOING, &answer)),
            Err(error) => Err(failed(DOING, error)),
        }
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        const DOING: &str = "update a session in Redis";
        let key = self.prefix.key(handle);
        let arguments = [
            version_bytes(expected),
            decimal(to_unix_millis(now)),
            version_bytes(record.version),
            decimal(removal(record.expires_at)),
            record.encode(),
        ];
        let answer = self.scripts.update.call(&self.connection, &key, &arguments);
        outcome(DOING, answer.await)
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        const DOING: &str = "touch a session in Redis";
        let key = self.prefix.key(handle);
        let expiry = to_unix_millis(expires_at);
        let arguments = [
            version_bytes(expected),
            decimal(to_unix_millis(now)),
            decimal(expiry),
            expiry.to_be_bytes().to_vec(),
            decimal(removal(expires_at)),
        ];
        let answer = self.scripts.touch.call(&self.connection, &key, &arguments);
        outcome(DOING, answer.await)
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        const DOING: &str = "delete a session from Redis";
        let key = self.prefix.key(handle);
        let mut command = redis::cmd("DEL");
        command.arg(&key);
        match self.connection.send(&key, command).await {
            Ok(Value::Int(deleted)) => Ok(deleted > 0),
            Ok(answer) => Err(unexpected(DOING, &answer)),
            Err(error) => Err(failed(DOING, error)),
        }
    }

    /// Always 0: Redis removes expired records by itself.
    async fn delete_expired(
        &self,
        _now: OffsetDateTime,
        _limit: usize,
    ) -> Result<usize, StoreError> {
        Ok(0)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("connection", &self.connection)
            .field("prefix", &self.prefix.as_str())
            .finish_non_exhaustive()
    }
}

/// The version as it stands in an encoded record.
fn version_bytes(version: Version) -> Vec<u8> {
    version.to_u64().to_be_bytes().to_vec()
}

fn decimal(number: i64) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// When Redis removes the record by itself, in unix milliseconds.
fn removal(expires_at: OffsetDateTime) -> i64 {
    let grace = i64::try_from(SWEEP_GRACE.as_millis()).unwrap_or(i64::MAX);
    // Redis refuses times before 1970.
    to_unix_millis(expires_at).saturating_add(grace).max(1)
}

/// What a script's answer says.
fn outcome(doing: &'static str, answer: Result<Value, RedisError>) -> Result<Outcome, StoreError> {
    match answer {
        Ok(Value::Int(DONE)) => Ok(Outcome::Done),
        Ok(Value::Int(MISSING)) => Ok(Outcome::Missing),
        Ok(Value::Int(CONFLICT)) => Ok(Outcome::Conflict),
        Ok(Value::BulkString(head)) => Err(match Record::decode(&head) {
            Err(error) => error.into(),
            Ok(_) => unexpected(doing, &Value::BulkString(head)),
        }),
        Ok(answer) => Err(unexpected(doing, &answer)),
        Err(error) => Err(failed(doing, error)),
    }
}

/// The error for an answer that Redis never gives. It is not shown: it could be of a session's data.
fn unexpected(doing: &'static str, answer: &Value) -> StoreError {
    let kind = match answer {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
        _ => "something else",
    };
    StoreError::unavailable(
        format!("cannot {doing}"),
        format!("the server answered with {kind}: is it Redis?"),
    )
}
