//! Counts visits: the smallest app with sessions. Run it, and load http://localhost:3000 a few times.

use axum::{Router, routing::get};
use cloakroom::{Session, SessionLayer, store::MemoryStore};

async fn visits(session: Session) -> axum::response::Result<String> {
    let n = session.update("visits", |n: &mut u64| *n += 1)?; // adds up, however many requests overlap
    Ok(format!("visit {n}"))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let sessions = SessionLayer::new(MemoryStore::new());
    let app = Router::new().route("/", get(visits)).layer(sessions);
    let port = std::env::var("PORT").unwrap_or("3000".into());
    let listener = tokio::net::TcpListener::bind(format!("localhost:{port}")).await?;
    println!("listening on http://localhost:{port}");
    axum::serve(listener, app).await
}
