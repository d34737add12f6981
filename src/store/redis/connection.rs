//! The client's connection: to one server, or to a cluster.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use redis::aio::{ConnectionLike, ConnectionManager};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value};

use self::batches::Batches;

mod batches;

/// A connection for a [`RedisStore`](super::RedisStore): made `from` a
/// [`ConnectionManager`] or a [`ClusterConnection`] of the `redis` crate.
///
/// Other connections of that crate have no place here: they are for good over when the server restarts.
#[derive(Clone)]
pub struct RedisConnection(Client);

#[derive(Clone)]
enum Client {
    Single(Batches<ConnectionManager>),
    Cluster(ClusterConnection),
}

impl From<ConnectionManager> for RedisConnection {
    fn from(connection: ConnectionManager) -> Self {
        Self(Client::Single(Batches::new(connection)))
    }
}

impl From<ClusterConnection> for RedisConnection {
    fn from(connection: ClusterConnection) -> Self {
        Self(Client::Cluster(connection))
    }
}

impl RedisConnection {
    /// Sends a command to the server that has this key, and waits for its answer. Over one connection to one server, it
    /// may go together with those of other operations.
    pub(super) async fn send(&self, key: &[u8], command: Cmd) -> RedisResult<Value> {
        let answer = match &self.0 {
            Client::Single(batches) => batches.send(command).await,
            Client::Cluster(connection) => route(connection, key, command).await,
        };
        answer?.extract_error()
    }

    /// Sends a command that has the server run a script, as [`send`](Self::send).
    pub(super) async fn run(&self, key: &[u8], script: Cmd) -> RedisResult<Value> {
        let answer = match &self.0 {
            Client::Single(batches) => batches.send_alone(script).await,
            Client::Cluster(connection) => route(connection, key, script).await,
        };
        answer?.extract_error()
    }

    /// Sends commands in one go to the server that has this key, and waits for the answers, each of which
    /// may be an error of its own. The server runs them in this order, with none in between that comes over a clone of
    /// this connection, but not as one step.
    pub(super) async fn send_all(
        &self,
        key: &[u8],
        commands: Vec<Cmd>,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let (pipeline, count) = pipeline(commands);
        let answers = match &self.0 {
            Client::Single(batches) => {
                let mut connection = batches.connection();
                connection.req_packed_commands(&pipeline, 0, count).await
            }
            Client::Cluster(connection) => {
                let mut connection = connection.clone();
                let route = master_of(key);
                Box::pin(connection.route_pipeline(pipeline, 0, count, route)).await
            }
        };
        let answers = all_of(count, answers?)?;
        Ok(answers.into_iter().map(Value::extract_error).collect())
    }

    /// Whether different keys may be on different servers.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.0, Client::Cluster(_))
    }
}

/// Sends a command to the master that has this key.
///
/// Boxed: what a cluster's command takes would be part of the future of every operation, and be copied with it.
fn route<'a>(
    connection: &ClusterConnection,
    key: &'a [u8],
    command: Cmd,
) -> Pin<Box<dyn Future<Output = RedisResult<Value>> + Send + 'a>> {
    let mut connection = connection.clone();
    Box::pin(async move {
        let route = RoutingInfo::SingleNode(master_of(key));
        connection.route_command(command, route).await
    })
}

/// The commands as one pipeline, and how many there are.
fn pipeline(commands: Vec<Cmd>) -> (Pipeline, usize) {
    let count = commands.len();
    let mut pipeline = Pipeline::with_capacity(count);
    for command in commands {
        pipeline.add_command(command);
    }
    (pipeline, count)
}

/// The answers to a pipeline, if each of its commands has one.
fn all_of(count: usize, answers: Vec<Value>) -> RedisResult<Vec<Value>> {
    if answers.len() == count {
        return Ok(answers);
    }
    Err(RedisError::from((
        ErrorKind::UnexpectedReturnType,
        "another number of answers than of commands",
    )))
}

/// A command with these arguments. It has the room for them from the beginning, and does not move them as it grows.
pub(super) fn command<'a>(
    name: &str,
    arguments: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
) -> Cmd {
    let arguments = arguments.into_iter();
    let (mut count, mut bytes) = (1, name.len());
    for argument in arguments.clone() {
        count += 1;
        bytes += argument.len();
    }
    let mut command = Cmd::with_capacity(count, bytes);
    command.arg(name);
    for argument in arguments {
        command.arg(argument);
    }
    command
}

/// Never a replica, whatever the client is set to for other commands: it may not know yet that a session
/// has ended.
fn master_of(key: &[u8]) -> SingleNodeRoutingInfo {
    SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master))
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the client's own, which shows where the server is and as whom it is asked.
        f.write_str(match self.0 {
            Client::Single(_) => "RedisConnection(single server)",
            Client::Cluster(_) => "RedisConnection(cluster)",
        })
    }
}
