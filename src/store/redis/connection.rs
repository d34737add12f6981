//! The client's connection: to one server, or to a cluster.

use std::fmt;

use redis::aio::{ConnectionLike, ConnectionManager};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, Pipeline, RedisResult, Value};

/// A connection for a [`RedisStore`](super::RedisStore): made `from` a
/// [`ConnectionManager`] or a [`ClusterConnection`] of the `redis` crate.
///
/// Other connections of that crate have no place here: they are for good over when the server restarts.
#[derive(Clone)]
pub struct RedisConnection(Client);

#[derive(Clone)]
enum Client {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl From<ConnectionManager> for RedisConnection {
    fn from(connection: ConnectionManager) -> Self {
        Self(Client::Single(connection))
    }
}

impl From<ClusterConnection> for RedisConnection {
    fn from(connection: ClusterConnection) -> Self {
        Self(Client::Cluster(connection))
    }
}

impl RedisConnection {
    /// Sends a command to the server that has this key, and waits for its answer.
    pub(super) async fn send(&self, key: &[u8], command: Cmd) -> RedisResult<Value> {
        let answer = match self.0.clone() {
            // The client gives a box here. Below it does not, so that the store does it: what a cluster's command takes
            // would be part of the future of every operation, and be copied with it.
            Client::Single(mut connection) => connection.req_packed_command(&command).await,
            Client::Cluster(mut connection) => {
                let route = RoutingInfo::SingleNode(master_of(key));
                Box::pin(connection.route_command(command, route)).await
            }
        };
        answer?.extract_error()
    }

    /// Sends commands in one go to the server that has this key, and waits for the answers, each of which
    /// may be an error of its own. The server runs them in this order, but not as one step.
    pub(super) async fn send_all(
        &self,
        key: &[u8],
        commands: Vec<Cmd>,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let count = commands.len();
        let mut pipeline = Pipeline::with_capacity(count);
        for command in commands {
            pipeline.add_command(command);
        }
        let answers = match self.0.clone() {
            Client::Single(mut connection) => {
                connection.req_packed_commands(&pipeline, 0, count).await
            }
            Client::Cluster(mut connection) => {
                let route = master_of(key);
                Box::pin(connection.route_pipeline(pipeline, 0, count, route)).await
            }
        };
        let answers: Vec<_> = answers?.into_iter().map(Value::extract_error).collect();
        if answers.len() != count {
            return Err(redis::RedisError::from((
                redis::ErrorKind::UnexpectedReturnType,
                "another number of answers than of commands",
            )));
        }
        Ok(answers)
    }

    /// Whether different keys may be on different servers.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.0, Client::Cluster(_))
    }
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
