//! Sessions in Redis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{RedisResult, Value};
use time::OffsetDateTime;

use self::prefix::KeyPrefix;
use self::replicas::{Answer, Replicas, Way};
use self::script::{CONFLICT, DONE, MISSING, Scripts};
use super::{Handle, Outcome, Record, SWEEP_GRACE, SessionStore, StoreError, Version, async_trait};
use crate::clock::to_unix_millis;

mod connection;
mod failure;
mod prefix;
mod replicas;
mod script;

pub use self::connection::RedisConnection;
pub use self::prefix::InvalidKeyPrefix;

/// Keeps sessions in Redis.
#[derive(Clone)]
pub struct RedisStore {
    connection: RedisConnection,
    replicas: Option<Arc<Replicas>>,
    prefix: KeyPrefix,
    scripts: Arc<Scripts>,
}

impl RedisStore {
    /// Keeps sessions in this server or cluster, under keys that begin with `cloakroom:`.
    pub fn new(connection: impl Into<RedisConnection>) -> Self {
        Self {
            connection: connection.into(),
            replicas: None,
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

    /// WAITDOC
    pub fn wait_for_replicas(
        self,
        replicas: u32,
        timeout: Duration,
        connection: impl Into<RedisConnection>,
    ) -> Self {
        let replicas = Replicas {
            count: replicas,
            timeout,
            connection: connection.into(),
        };
        Self {
            replicas: Some(Arc::new(replicas)),
            ..self
        }
    }

    /// The way of what may be lost in a failover.
    fn plain(&self) -> Way<'_> {
        Way::Plain(&self.connection)
    }

    /// The way of what must not be lost, if the store is told so.
    fn confirmed(&self) -> Way<'_> {
        match &self.replicas {
            Some(replicas) => Way::Confirmed(replicas),
            None => self.plain(),
        }
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
        // A visitor whose session is lost gets another.
        let way = match record.user_id {
            Some(_) => self.confirmed(),
            None => self.plain(),
        };
        let answer = way.send(&key, command).await;
        let answer = answer.map_err(|error| way.failed(DOING, error))?;
        match &answer.value {
            Value::Okay => answer.confirmed(DOING),
            Value::Nil => Err(StoreError::handle_in_use()),
            value => Err(unexpected(DOING, value)),
        }
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        const DOING: &str = "load a session from Redis";
        let key = self.prefix.key(handle);
        // A GET that counts as a write. So no replica answers it, nor a master that takes no writes: it may
        // be one whose place another has taken, and which does not know that a session has ended.
        let mut command = redis::cmd("GETEX");
        command.arg(&key);
        let answer = self.connection.send(&key, command).await;
        match answer.map_err(|error| self.plain().failed(DOING, error))? {
            Value::BulkString(bytes) => Ok(Some(Record::decode(&bytes)?)),
            Value::Nil => Ok(None),
            value => Err(unexpected(DOING, &value)),
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
        let way = self.confirmed();
        let answer = self.scripts.update.call(way, &key, &arguments).await;
        outcome(DOING, way, answer)
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
        let way = self.plain();
        let answer = self.scripts.touch.call(way, &key, &arguments).await;
        outcome(DOING, way, answer)
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        const DOING: &str = "delete a session from Redis";
        let key = self.prefix.key(handle);
        let way = self.confirmed();
        let answer = match way {
            Way::Plain(_) => {
                let mut command = redis::cmd("DEL");
                command.arg(&key);
                way.send(&key, command).await
            }
            Way::Confirmed(_) => self.scripts.delete.call(way, &key, &[]).await,
        };
        let answer = answer.map_err(|error| way.failed(DOING, error))?;
        match &answer.value {
            Value::Int(deleted) => answer.confirmed(DOING).map(|()| *deleted > 0),
            value => Err(unexpected(DOING, value)),
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
            .field("replicas", &self.replicas)
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

/// What the answer of a script says.
fn outcome(
    doing: &'static str,
    way: Way<'_>,
    answer: RedisResult<Answer>,
) -> Result<Outcome, StoreError> {
    let answer = answer.map_err(|error| way.failed(doing, error))?;
    match &answer.value {
        Value::Int(DONE) => answer.confirmed(doing).map(|()| Outcome::Done),
        Value::Int(MISSING) => Ok(Outcome::Missing),
        Value::Int(CONFLICT) => Ok(Outcome::Conflict),
        value @ Value::BulkString(head) => Err(match Record::decode(head) {
            Err(error) => error.into(),
            Ok(_) => unexpected(doing, value),
        }),
        value => Err(unexpected(doing, value)),
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
