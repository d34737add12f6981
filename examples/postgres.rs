//! Sessions in PostgreSQL, for any number of nodes.
//!
//! ```sh
//! export DATABASE_URL=postgres://user:password@localhost/database
//! cargo run --example postgres
//! PORT=3001 cargo run --example postgres   # another node, in another terminal
//! ```

mod demo;

use std::env;
use std::time::Duration;

use cloakroom::store::PostgresStore;
use cloakroom::{SessionLayer, Sweeper};
use tower_http::csrf::CsrfLayer;

use self::demo::server::{Problem, serve};
use self::demo::{Place, routes};

const PLACE: Place = Place {
    title: "Sessions in PostgreSQL",
    look: |handle| {
        format!(
            r#"psql "$DATABASE_URL" -c "SELECT * FROM cloakroom_sessions WHERE handle = '\x{handle}'""#
        )
    },
    another_node: "PORT=3001 cargo run --example postgres",
};

#[tokio::main]
async fn main() -> Result<(), Problem> {
    // What the sessions have to report, such as a server that fails, goes to the log.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let url = env::var("DATABASE_URL").map_err(|_| {
        Problem::new(
            "set DATABASE_URL to the database of the sessions, such as \
             postgres://user:password@localhost/database",
        )
    })?;

    let store = PostgresStore::connect(&url).await?;
    // Makes the table if it is not there. Nodes may do so at once.
    store.migrate().await?;
    // Deletes what has expired. Each node may have one.
    let sweeper = Sweeper::spawn(store.clone(), Duration::from_secs(10 * 60));

    let app = routes(PLACE)
        .layer(SessionLayer::new(store.clone()))
        .layer(CsrfLayer::new());
    serve(app).await?;

    sweeper.stop().await;
    store.pool().close().await;
    Ok(())
}
