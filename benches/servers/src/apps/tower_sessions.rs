//! The app with tower-sessions and its own stores.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tower_sessions::session::Error;
use tower_sessions::{Expiry, MemoryStore, Session, SessionManagerLayer, SessionStore};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike, Config, Pool};
use tower_sessions_sqlx_store::PostgresStore;
use tower_sessions_sqlx_store::sqlx::postgres::PgPoolOptions;

use super::{CONNECTIONS, IDLE, postgres_url, redis_url, shown, unused};
use crate::Result;
use crate::scenarios::Store;

/// As many as in the example of its documentation.
const REDIS_CONNECTIONS: usize = 6;

/// With the defaults. Sliding, it is told to save after each request, without which it does not slide.
pub(super) async fn app(store: Store, sliding: bool) -> Result<Router> {
    Ok(match store {
        Store::Memory => routes(MemoryStore::default(), sliding),
        Store::Redis => {
            let pool = Pool::new(
                Config::from_url(&redis_url()?)?,
                None,
                None,
                None,
                REDIS_CONNECTIONS,
            )?;
            pool.connect();
            pool.wait_for_connect().await?;
            routes(RedisStore::new(pool), sliding)
        }
        Store::Postgres | Store::PostgresUnsynced => {
            // As cloakroom's own pool: a test of a connection before each use would be a round trip more.
            let pool = PgPoolOptions::new()
                .max_connections(CONNECTIONS)
                .test_before_acquire(false)
                .connect(&postgres_url(store)?)
                .await?;
            let store = PostgresStore::new(pool);
            store.migrate().await?;
            routes(store, sliding)
        }
    })
}

fn routes<S: SessionStore + Clone>(store: S, sliding: bool) -> Router {
    let layer = SessionManagerLayer::new(store);
    let layer = if sliding {
        let idle = IDLE.try_into().unwrap_or(time::Duration::HOUR);
        layer
            .with_expiry(Expiry::OnInactivity(idle))
            .with_always_save(true)
    } else {
        layer
    };
    Router::new()
        .route("/unused", get(unused))
        .route("/read", get(read))
        .route("/write", get(write))
        .layer(layer)
}

async fn read(session: Session) -> std::result::Result<String, StatusCode> {
    shown(session.get::<u64>("n").await.map_err(failed)?)
}

async fn write(session: Session) -> std::result::Result<String, StatusCode> {
    let n = session.get::<u64>("n").await.map_err(failed)?;
    let n = n.unwrap_or_default() + 1;
    session.insert("n", n).await.map_err(failed)?;
    Ok(n.to_string())
}

fn failed(_: Error) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}
