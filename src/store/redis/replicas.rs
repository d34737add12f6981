//! How a command is sent: as it is, or together with a `WAIT` for replicas to have what it wrote.

use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value};

use super::connection::RedisConnection;
use super::failure::failed;
use crate::store::StoreError;

/// The replicas that have to have a write before it counts.
#[derive(Clone, Debug)]
pub(super) struct Replicas {
    pub(super) count: u32,
    pub(super) timeout: Duration,
    /// Redis answers nothing else on a connection that waits, so this is not the one of loads.
    pub(super) connection: RedisConnection,
}

/// How to send a command.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    Plain(&'a RedisConnection),
    Confirmed(&'a Replicas),
}

/// What came back.
pub(super) struct Answer {
    pub(super) value: Value,
    /// Why the write may not last, where replicas were asked for.
    unconfirmed: Option<String>,
}

impl Way<'_> {
    /// # Errors
    ///
    /// If the command failed. That replicas are missing is no error yet: there may have been nothing to
    /// write.
    pub(super) async fn send(self, key: &[u8], command: Cmd) -> RedisResult<Answer> {
        match self {
            Self::Plain(connection) => connection.send(key, command).await.map(Answer::plain),
            Self::Confirmed(replicas) => Box::pin(replicas.send(key, command)).await,
        }
    }

    /// Has the server run a script, as [`send`](Self::send).
    pub(super) async fn run(self, key: &[u8], script: Cmd) -> RedisResult<Answer> {
        match self {
            Self::Plain(connection) => connection.run(key, script).await.map(Answer::plain),
            Self::Confirmed(replicas) => Box::pin(replicas.send(key, script)).await,
        }
    }

    /// Sends commands in one go to the server that has this key, which runs them in this order. One answer
    /// may be an error, and the others not.
    pub(super) async fn send_all(
        self,
        key: &[u8],
        commands: Vec<Cmd>,
    ) -> RedisResult<Vec<RedisResult<Answer>>> {
        match self {
            Self::Plain(connection) => {
                let values = connection.send_all(key, commands).await?.into_iter();
                Ok(values.map(|value| value.map(Answer::plain)).collect())
            }
            Self::Confirmed(replicas) => Box::pin(replicas.send_all(key, commands)).await,
        }
    }

    /// Whether different keys may be on different servers.
    pub(super) fn is_cluster(self) -> bool {
        match self {
            Self::Plain(connection) => connection.is_cluster(),
            Self::Confirmed(replicas) => replicas.connection.is_cluster(),
        }
    }

    /// The answer to what is sent this way.
    ///
    /// It takes a function that begins to send, and no future: an argument that is awaited takes its room twice in the
    /// future of an `async fn`, once as the argument.
    pub(super) async fn answer<T, F>(
        self,
        doing: &str,
        send: impl FnOnce() -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let Self::Confirmed(replicas) = self else {
            return send().await.map_err(|error| failed(doing, error));
        };
        // Not left to the layer's limit, of which the layer thinks that it says nothing of replicas.
        let limit = replicas.timeout.saturating_add(Replicas::QUEUE);
        match Box::pin(tokio::time::timeout(limit, send())).await {
            Ok(Ok(answer)) => Ok(answer),
            // It may have been written, and lie on the master alone.
            Ok(Err(error)) if error.is_timeout() || error.is_connection_dropped() => {
                Err(StoreError::unconfirmed(format!(
                    "cannot {doing}: no replica confirmed it before the connection failed ({error})"
                )))
            }
            Ok(Err(error)) => Err(failed(doing, error)),
            Err(_) => Err(StoreError::unconfirmed(format!(
                "cannot {doing}: no replica confirmed it within {limit:?}"
            ))),
        }
    }
}

impl Replicas {
    /// How long others may keep the connection busy that wait on it, too.
    const QUEUE: Duration = Duration::from_secs(1);

    async fn send(&self, key: &[u8], command: Cmd) -> RedisResult<Answer> {
        let mut answers = self.send_all(key, vec![command]).await?;
        answers.pop().unwrap_or_else(|| Err(no_answer()))
    }

    async fn send_all(
        &self,
        key: &[u8],
        mut commands: Vec<Cmd>,
    ) -> RedisResult<Vec<RedisResult<Answer>>> {
        commands.push(self.wait());
        let mut answers = self.connection.send_all(key, commands).await?;
        let confirmations = answers.pop().unwrap_or_else(|| Err(no_answer()));
        let unconfirmed = match confirmations {
            Ok(Value::Int(count)) if count >= i64::from(self.count) => None,
            Ok(Value::Int(count)) => Some(format!(
                "{count} of {} replicas confirmed it within {:?}",
                self.count, self.timeout
            )),
            Ok(_) => Some("WAIT was answered with something else than a number".into()),
            Err(error) => Some(format!("WAIT failed: {error}")),
        };
        let answer = |value| Answer {
            value,
            unconfirmed: unconfirmed.clone(),
        };
        Ok(answers.into_iter().map(|value| value.map(answer)).collect())
    }

    fn wait(&self) -> Cmd {
        // To Redis, 0 is for ever.
        let timeout = self.timeout.as_millis().max(1);
        let mut command = redis::cmd("WAIT");
        command
            .arg(self.count)
            .arg(u64::try_from(timeout).unwrap_or(u64::MAX));
        command
    }
}

impl Answer {
    /// For which no replica was asked.
    fn plain(value: Value) -> Self {
        Self {
            value,
            unconfirmed: None,
        }
    }

    /// Fails where the write that this is the answer to was not confirmed.
    pub(super) fn confirmed(&self, doing: &str) -> Result<(), StoreError> {
        match &self.unconfirmed {
            None => Ok(()),
            Some(why) => Err(StoreError::unconfirmed(format!(
                "cannot {doing} for good: {why}, so a failover could undo it"
            ))),
        }
    }
}

fn no_answer() -> RedisError {
    RedisError::from((
        ErrorKind::UnexpectedReturnType,
        "fewer answers than commands",
    ))
}
