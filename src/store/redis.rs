//! Sessions in Redis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use time::OffsetDateTime;

use self::connection::command;
use self::failure::failed;
use self::prefix::KeyPrefix;
use self::replicas::{Answer, Replicas, Way};
use self::script::{CONFLICT, DONE, MISSING, Scripts};
use self::user_scripts::UserScripts;
use super::{
    Handle, Outcome, Record, SWEEP_GRACE, SessionStore, StoreError, UserIndex, Version, async_trait,
};
use crate::clock::to_unix_millis;

mod connection;
mod everyone;
mod failure;
mod prefix;
mod replicas;
mod script;
mod user_scripts;
mod users;

pub use self::connection::RedisConnection;
pub use self::prefix::InvalidKeyPrefix;

/// Keeps sessions in Redis, or in a server that speaks its protocol and scripts, from version 6.2 on.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use cloakroom::SessionLayer;
/// use cloakroom::store::RedisStore;
///
/// let client = redis::Client::open("redis://127.0.0.1/")?;
/// let store = RedisStore::new(client.get_connection_manager().await?);
/// let sessions = SessionLayer::new(store);
/// # Ok(())
/// # }
/// ```
///
/// A clone shares the connection. Each operation on a session is one round trip and one step on one key, so a cluster
/// does as well as a single server: a command of Redis's own, or a script that it knows by its hash, and
/// that is sent again where it does not (after a restart, a failover, or `SCRIPT FLUSH`). Operations that begin
/// while others are under way on a single server go together, up to 16 in one pipeline, unless they are scripts. Each has
/// an answer of its own; the client's timeout for an answer, and a limit on how much it sends at once, are for all of
/// them together.
///
/// # Your own client
///
/// The store takes the connection as you made it: with your TLS, your user, and your timeouts.
///
/// - **A single server**, or a proxy in front of one: a `ConnectionManager`. It connects anew by itself; what
///   was under way when the connection broke fails. It waits 500 ms for an answer by default, and then the
///   operation fails with an unknown outcome.
/// - **A cluster**: a `ClusterConnection` of `redis::cluster_async`. It finds its way to a new master by
///   itself, and sends again what was under way, which the scripts recognise; set its
///   `response_timeout`, since by default there is none but the layer's.
/// - **Sentinel**: a `ConnectionManager` for a name or a proxy that follows the master. Until it does,
///   operations fail: a replica is asked nothing.
///
/// Everything goes to masters, whatever a cluster's client is set to for other commands. Loads are sent
/// as commands that count as writes (`GETEX`), so a replica, and a master that takes no writes for want of
/// replicas (`min-replicas-to-write`) or of disk, refuse them: either may not know that a session has ended.
/// The user that the client authenticates as needs `SET`, `GETEX`, `DEL`, `SETRANGE`, `GETRANGE`, `EXISTS`,
/// `PEXPIREAT`, `EVAL`, `EVALSHA`, and for sessions by user `ZADD`, `ZREM`, `ZSCORE`, `ZRANGE`,
/// `ZRANGEBYSCORE`, `ZREVRANGEBYSCORE` and `ZREMRANGEBYSCORE` on the keys (in an ACL: `~cloakroom:*`), and
/// `WAIT` if the store is told to wait.
///
/// # Keys, values and memory
///
/// A session is a string under `cloakroom:` and its handle in hexadecimal digits, as it stands in logs:
/// `redis-cli DEL cloakroom:ab…` ends the session of a log line. The value is the bytes of
/// [`Record::encode`]. A session with one small key takes about 280 bytes on Redis 7.0, everything
/// included; 16 raw bytes in place of the digits would save 17 of them.
///
/// A value that cannot be read is an error, and is left as it is by everything but a delete.
///
/// # Sessions by user
///
/// | Key, after `cloakroom:` | A sorted set of |
/// |---|---|
/// | the SHA-256 of a user's id in hexadecimal digits, `:user` | the user's sessions and mark |
/// | `00:users` to `3f:users` | the hashes of users who may have sessions |
/// | `everyone` | everyone's mark |
///
/// Each operation is a script on one of them, so in a cluster they may lie anywhere. A login is two commands
/// and a look at everyone's mark: one more round trip than without lists, on a cluster two. To give a
/// session longer timeouts takes two, to list and to mark one. Ending everyone's sessions goes through the
/// users who are noted, whichever masters have them, and however slots move meanwhile.
///
/// A user with one session takes about 415 bytes besides the session's own on Redis 7.0, one with five about
/// 105 for each, and from 65 on, when Redis keeps the set in another way, about 270. The keys are removed 60
/// seconds after the last of their sessions expires, by its absolute timeout, or their mark, after 24 hours.
///
/// # Expiry
///
/// Redis removes a session 60 seconds ([`SWEEP_GRACE`]) after it expires, to the millisecond, by its own
/// clock; so a server whose clock is less than that ahead of the app's ends no session early. Until then
/// the layer refuses it, by the clock of its settings. A server whose clock is further ahead does end
/// sessions early, by as much; one that is behind keeps them longer, which costs memory and opens nothing.
/// [`delete_expired`](SessionStore::delete_expired) has nothing to do, so no [`Sweeper`](crate::Sweeper) is
/// needed.
///
/// # What Redis may forget
///
/// - **`maxmemory-policy noeviction`** is the policy to set (it is the default). Under another, a full
///   server drops sessions of its own choosing, logged-in users first if they come seldom: to them it is
///   a logout. No ended session comes back by it. But it may drop the list or the mark of a user, too: then
///   an ending of all of their sessions misses those that were on it, and a login that began before such an
///   ending is not refused. Under `noeviction` a full server refuses new sessions and
///   changes with [`StoreErrorKind::Unavailable`](super::StoreErrorKind::Unavailable), and still loads,
///   lists and ends sessions; but not all of a user's or of everyone's at once, which needs a mark.
/// - **A restart** loses what is not on disk: with `appendonly yes` and `appendfsync always` nothing that was
///   acknowledged, with `everysec` up to two seconds of it if the machine goes down (none if the process
///   alone does), with snapshots everything since the last one, and without either everything.
/// - **A failover** loses what the replica that takes over has not got. Replication is asynchronous: a write
///   is acknowledged by the master alone, and reaches the replicas a moment later, if the master lives to
///   send it. A master that is cut off goes on acknowledging until it learns that it was replaced (in a
///   cluster, up to `cluster-node-timeout`), and all of that is lost.
///
/// What is lost is not only data. **If a logout is lost, the session is open again; if a login or
/// another renewal of the id is lost, the old id is good again.** That lasts until the session expires, by
/// the deadlines as they were before. [`wait_for_replicas`](Self::wait_for_replicas) is against that. A
/// master that is cut off is best made to refuse writes, by `min-replicas-to-write 1` and a
/// `min-replicas-max-lag` of a few seconds: then it answers no loads either.
#[derive(Clone)]
pub struct RedisStore {
    connection: RedisConnection,
    replicas: Option<Arc<Replicas>>,
    prefix: KeyPrefix,
    scripts: Arc<Scripts>,
    user_scripts: Arc<UserScripts>,
}

impl RedisStore {
    /// Keeps sessions in this server or cluster, under keys that begin with `cloakroom:`.
    ///
    /// It takes a `ConnectionManager` or a `ClusterConnection` of the `redis` crate; what to look out for
    /// in either stands [above](Self#your-own-client).
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use cloakroom::store::RedisStore;
    /// use redis::cluster::ClusterClient;
    /// use std::time::Duration;
    ///
    /// let client = ClusterClient::builder(["redis://10.0.0.1/", "redis://10.0.0.2/"])
    ///     .response_timeout(Duration::from_secs(1))
    ///     .build()?;
    /// let store = RedisStore::new(client.get_async_connection().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(connection: impl Into<RedisConnection>) -> Self {
        Self {
            connection: connection.into(),
            replicas: None,
            prefix: KeyPrefix::default(),
            scripts: Arc::new(Scripts::new()),
            user_scripts: Arc::new(UserScripts::new()),
        }
    }

    /// Keeps sessions under keys that begin with `prefix`: 1 to 64 ASCII letters, digits and characters of
    /// `-_.:/`. No key of one prefix is a key of another, even if the one begins with the other.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use cloakroom::store::RedisStore;
    ///
    /// let client = redis::Client::open("redis://127.0.0.1/")?;
    /// // It connects when it is first used.
    /// let connection = client.get_connection_manager_lazy(Default::default())?;
    /// let store = RedisStore::new(connection).with_prefix("admin:sessions:")?;
    /// assert!(store.with_prefix("admin sessions").is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If the prefix has another character, or is empty or too long.
    pub fn with_prefix(self, prefix: &str) -> Result<Self, InvalidKeyPrefix> {
        let prefix = KeyPrefix::parse(prefix)?;
        Ok(Self { prefix, ..self })
    }

    /// Waits until this many replicas have an ending or a login, before it counts.
    ///
    /// These are sent with a `WAIT`, in the same round trip: each delete, each update (which may renew an
    /// id, or end a privilege), the creation of a session with a user, its entry on the user's list, and
    /// each mark that ends a user's sessions or everyone's. What a failover may lose without harm is not: a
    /// touch, a visitor's first session, and that an ended one is taken from the list.
    ///
    /// If fewer than `replicas` have confirmed it within `timeout`, or the connection fails meanwhile, the
    /// operation fails with [`StoreErrorKind::Unconfirmed`](super::StoreErrorKind::Unconfirmed), and its
    /// outcome is unknown: the master may have it, and a failover may undo it. A logout is then an error to
    /// the handler, which can try again; a login sends no cookie, and may have ended the id that the
    /// client has.
    ///
    /// With `0` replicas none is waited for, but a `WAIT` goes along all the same, over the second connection, and
    /// one that fails midway leaves the outcome unknown, as above. To wait for none, leave this call out.
    ///
    /// `replicas` that confirmed it have it in memory, not on disk. A failover undoes nothing that *all*
    /// replicas of the master had confirmed; of fewer, the most advanced one is preferred as the new
    /// master, but not certain to be.
    ///
    /// **`connection` is one of its own**, and not a clone of the store's: on a connection that waits, Redis
    /// answers nothing else, so while replicas are missing every load would wait with it. Endings and
    /// logins wait for each other on it, for at most a second besides `timeout`; so `timeout` is to be
    /// shorter than the layer's [`store_timeout`](crate::SessionLayerBuilder::store_timeout), of 5 seconds,
    /// by more than that. What the layer itself cuts short it looks up on the master.
    ///
    /// ```no_run
    /// # async fn example(client: redis::Client) -> Result<(), redis::RedisError> {
    /// use cloakroom::store::RedisStore;
    /// use std::time::Duration;
    ///
    /// let store = RedisStore::new(client.get_connection_manager().await?).wait_for_replicas(
    ///     1,
    ///     Duration::from_millis(300),
    ///     client.get_connection_manager().await?,
    /// );
    /// # Ok(())
    /// # }
    /// ```
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
        let (record_bytes, removal) = (record.encode(), decimal(removal(record.expires_at)));
        let command = command("SET", [&*key, &record_bytes, b"NX", b"PXAT", &removal]);
        // A visitor whose session is lost gets another.
        let way = match record.user_id {
            Some(_) => self.confirmed(),
            None => self.plain(),
        };
        let answer = way.answer(DOING, || way.send(&key, command)).await?;
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
        let command = command("GETEX", [&*key]);
        let answer = self.connection.send(&key, command).await;
        match answer.map_err(|error| failed(DOING, error))? {
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
        let sent = || self.scripts.update.call(way, &key, &arguments);
        outcome(DOING, &way.answer(DOING, sent).await?)
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
        let sent = || self.scripts.touch.call(way, &key, &arguments);
        outcome(DOING, &way.answer(DOING, sent).await?)
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        const DOING: &str = "delete a session from Redis";
        let key = self.prefix.key(handle);
        let way = self.confirmed();
        let answer = match way {
            Way::Plain(_) => {
                let command = command("DEL", [&*key]);
                way.answer(DOING, || way.send(&key, command)).await?
            }
            Way::Confirmed(_) => {
                let sent = || self.scripts.delete.call(way, &key, &[]);
                way.answer(DOING, sent).await?
            }
        };
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

    fn user_index(&self) -> Option<&dyn UserIndex> {
        Some(self)
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
fn outcome(doing: &'static str, answer: &Answer) -> Result<Outcome, StoreError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_unix_millis;

    /// Each is allocated anew. Up to 1,032 bytes glibc's allocator has at hand without a lock (`tcache` in its
    /// `malloc.c`).
    #[tokio::test]
    async fn the_futures_of_operations_on_a_session_are_small() {
        let client = redis::Client::open("redis://127.0.0.1/").unwrap();
        let lazy = client.get_connection_manager_lazy(Default::default());
        let store = RedisStore::new(lazy.unwrap());
        let (handle, version, now) = (
            Handle::from_bytes([1; 16]),
            Version::from_u64(1),
            from_unix_millis(0),
        );
        let record = Record {
            version,
            created_at: now,
            expires_at: now,
            user_id: None,
            payload: Arc::default(),
        };
        for (name, size) in [
            ("create", size_of_val(&*store.create(&handle, &record))),
            ("load", size_of_val(&*store.load(&handle))),
            (
                "update",
                size_of_val(&*store.update(&handle, &record, version, now)),
            ),
            (
                "touch",
                size_of_val(&*store.touch(&handle, now, version, now)),
            ),
            ("delete", size_of_val(&*store.delete(&handle))),
        ] {
            assert!(size <= 1_032, "{name}: {size} bytes");
        }
    }
}
