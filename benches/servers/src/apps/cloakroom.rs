//! The app with this crate.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use cloakroom::store::{MemoryStore, PostgresStore, RedisStore};
use cloakroom::{Error, Session, SessionLayer};

use super::{postgres_url, redis_url, shown, unused};
use crate::Result;
use crate::scenarios::Store;

/// With the defaults. Sliding, each read is written, and not only one in a sixteenth of the idle timeout.
pub(super) async fn app(store: Store, sliding: bool) -> Result<Router> {
    let builder = match store {
        Store::Memory => SessionLayer::builder(MemoryStore::new().max_records(100_000_000)),
        Store::Redis => {
            let client = redis::Client::open(redis_url()?)?;
            SessionLayer::builder(RedisStore::new(client.get_connection_manager().await?))
        }
        Store::Postgres | Store::PostgresUnsynced => {
            let store = PostgresStore::connect(&postgres_url(store)?).await?;
            store.migrate().await?;
            SessionLayer::builder(store)
        }
    };
    let builder = if sliding {
        builder.touch_every_read()
    } else {
        builder
    };
    Ok(Router::new()
        .route("/unused", get(unused))
        .route("/read", get(read))
        .route("/write", get(write))
        .layer(builder.build()?))
}

async fn read(session: Session) -> std::result::Result<String, StatusCode> {
    let n = session.get::<u64>("n");
    shown(n.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?)
}

async fn write(session: Session) -> std::result::Result<String, Error> {
    let n = session.get::<u64>("n")?.unwrap_or_default() + 1;
    session.insert("n", n)?;
    Ok(n.to_string())
}
