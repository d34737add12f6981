//! Sessions in Redis, for any number of nodes. Redis removes what has expired by itself, so there is no sweeper.
//!
//! ```sh
//! export REDIS_URL=redis://localhost         # of a cluster: redis://node1,redis://node2,…
//! cargo run --example redis
//! PORT=3001 cargo run --example redis        # another node, in another terminal
//! ```

mod demo;

use std::env;
use std::time::Duration;

use cloakroom::SessionLayer;
use cloakroom::store::{RedisConnection, RedisStore};
use redis::aio::ConnectionManagerConfig;
use redis::cluster::ClusterClient;
use redis::{Client, RedisError};
use tower_http::csrf::CsrfLayer;

use self::demo::server::{Problem, serve};
use self::demo::{Place, routes};

const PLACE: Place = Place {
    title: "Sessions in Redis",
    look: |handle| format!("redis-cli GET cloakroom:{handle}"),
    another_node: "PORT=3001 cargo run --example redis",
};

#[tokio::main]
async fn main() -> Result<(), Problem> {
    // What the sessions have to report, such as a server that fails, goes to the log.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let urls = env::var("REDIS_URL").map_err(|_| {
        Problem::new("set REDIS_URL to the server of the sessions, such as redis://localhost")
    })?;

    let connection = connect(&urls).await.map_err(|error| {
        Problem::new(format!(
            "cannot connect to the server of REDIS_URL: {error}"
        ))
    })?;
    let sessions = SessionLayer::new(RedisStore::new(connection));

    let app = routes(PLACE).layer(sessions).layer(CsrfLayer::new());
    serve(app).await
}

/// Connects to a server, or, by the URLs of some of its nodes, to a cluster.
async fn connect(urls: &str) -> Result<RedisConnection, RedisError> {
    if urls.contains(',') {
        let cluster = ClusterClient::builder(urls.split(','))
            .response_timeout(Duration::from_secs(1))
            .build()?;
        return Ok(cluster.get_async_connection().await?.into());
    }
    // What is to be done while the server is down fails soon, and the next request tries again.
    let config = ConnectionManagerConfig::new().set_number_of_retries(2);
    let client = Client::open(urls)?;
    let manager = client.get_connection_manager_with_config(config).await?;
    Ok(manager.into())
}
