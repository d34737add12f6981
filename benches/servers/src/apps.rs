//! The same app with each library, as a server of its own.
//!
//! `/unused` does not look at the session, `/read` reads the number `n` in it, and `/write` adds one to that.
//! Where there is no number to read, the answer is 404.

use std::io::{Read, Write};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use crate::Result;
use crate::scenarios::{App, Store};
use crate::stores::{postgres_url, redis_url};

mod by_hand;
mod cloakroom;
mod tower_sessions;

/// How long a session may be idle.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// Connections of the pools for PostgreSQL: as many as by default.
const CONNECTIONS: u32 = 10;

/// Serves an app until the standard input ends, and first says on which port.
pub(crate) async fn serve(arguments: &[String]) -> Result<()> {
    let [app, store, sliding] = arguments else {
        return Err("serve APP STORE fixed|sliding".into());
    };
    let (app, store, sliding) = (App::named(app)?, Store::named(store)?, sliding == "sliding");
    let router = match app {
        App::None => without_sessions(),
        App::ByHand => by_hand::app(store, sliding).await?,
        App::Cloakroom => cloakroom::app(store, sliding).await?,
        App::TowerSessions => tower_sessions::app(store, sliding).await?,
        App::ExpressSession => return Err("that one is in express/app.js".into()),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    // The bench is gone, however that came.
    std::thread::spawn(|| {
        let _end = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let listener = listener.tap_io(|stream| {
        let _without_delay = stream.set_nodelay(true);
    });
    // Routes are made once, and not anew with each request.
    axum::serve(listener, router.with_state(())).await?;
    Ok(())
}

async fn unused() -> &'static str {
    "unused"
}

/// The answer to a read.
fn shown(n: Option<u64>) -> std::result::Result<String, StatusCode> {
    n.map(|n| n.to_string()).ok_or(StatusCode::NOT_FOUND)
}

fn without_sessions() -> Router {
    let number = || async { shown(Some(1)) };
    Router::new()
        .route("/unused", get(unused))
        .route("/read", get(number))
        .route("/write", get(number))
}
