//! A node: a process that serves an app.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::extract::{Form, State};
use axum::response::Result;
use axum::routing::{get, post};
use axum::{Router, http::StatusCode};
use cloakroom::store::SessionLimit;
use cloakroom::{Session, SessionLayer, SessionStore};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::child;
use crate::places::Place;

/// Longer than a busy machine takes, so that no test fails for being slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many sessions a user may have, where the store lists them.
pub(crate) const LIMIT: usize = 3;

/// What a node says when it listens, before the port.
const LISTENING: &str = "the node listens on port ";

/// A node that runs. It is killed when this is dropped.
pub(crate) struct Node {
    pub(crate) port: u16,
    process: Child,
    /// A node ends when this is closed, and so with the process that started it.
    _alive: ChildStdin,
}

impl Node {
    /// Starts a node by running this test again.
    pub(crate) fn start(test: &str, place: &Place) -> Self {
        let mut process = child::again(test, place.folder())
            .env(Place::VARIABLE, place.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let alive = process.stdin.take().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| Some(line.unwrap().strip_prefix(LISTENING)?.parse()));
        Self {
            port: port.expect("the node ended before it listened").unwrap(),
            process,
            _alive: alive,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // They fail only where the process has ended by itself.
        let _: std::io::Result<()> = self.process.kill();
        let _: std::io::Result<_> = self.process.wait();
    }
}

/// What a node does.
#[tokio::main]
pub(crate) async fn serve(open: impl AsyncFn() -> Arc<dyn SessionStore>) {
    thread::spawn(|| {
        let mut nothing = Vec::new();
        let end = std::io::stdin().read_to_end(&mut nothing);
        std::process::exit(i32::from(end.is_err()));
    });
    let store = open().await;
    let lists_users = store.user_index().is_some();
    let mut builder = SessionLayer::builder(store)
        .retry_for(PATIENCE)
        .store_timeout(PATIENCE);
    if lists_users {
        builder = builder.limit_sessions_per_user(SessionLimit::EndOldest(LIMIT));
    }
    let layer = builder.build().unwrap();
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    // Ends the line that the test harness began.
    println!("\n{LISTENING}{}", listener.local_addr().unwrap().port());
    axum::serve(listener, app(lists_users).layer(layer))
        .await
        .unwrap();
}

#[derive(Default)]
struct Turns {
    loaded: Notify,
    told: Notify,
}

fn app(lists_users: bool) -> Router {
    Router::new()
        .route("/", get(show))
        .route("/add", post(add))
        .route(
            "/lists-users",
            get(move || async move { lists_users.to_string() }),
        )
        .route("/login", post(log_in))
        .route("/login-when-told", post(log_in_when_told))
        .route("/end-all", post(end_all))
        .route("/logout", post(log_out))
        .route("/add-when-told", post(add_when_told))
        .route("/wait-for-it", post(wait_for_it))
        .route("/tell-it", post(tell_it))
        .with_state(Arc::new(Turns::default()))
}

async fn show(session: Option<Session>) -> Result<String> {
    let Some(session) = session else {
        return Ok("no session".into());
    };
    let user_id = session.user_id();
    let count: u64 = session.get("count")?.unwrap_or(0);
    Ok(format!(
        "{}, {count}",
        user_id.as_deref().unwrap_or("nobody")
    ))
}

async fn add(session: Session) -> Result<()> {
    session.update("count", |count: &mut u64| *count += 1)?;
    Ok(())
}

#[derive(Deserialize)]
struct Visitor {
    name: String,
}

async fn log_in(session: Session, Form(visitor): Form<Visitor>) -> Result<()> {
    Ok(session.login(visitor.name).await?)
}

async fn log_out(session: Session) -> Result<()> {
    Ok(session.logout().await?)
}

async fn log_in_when_told(
    State(turns): State<Arc<Turns>>,
    session: Session,
    Form(visitor): Form<Visitor>,
) -> Result<()> {
    turns.loaded.notify_one();
    turns.told.notified().await;
    Ok(session.login(visitor.name).await?)
}

async fn end_all(session: Session) -> Result<String> {
    Ok(session.end_all_sessions().await?.to_string())
}

async fn add_when_told(State(turns): State<Arc<Turns>>, session: Session) -> Result<StatusCode> {
    turns.loaded.notify_one();
    turns.told.notified().await;
    session.update("count", |count: &mut u64| *count += 1)?;
    Ok(StatusCode::OK)
}

async fn wait_for_it(State(turns): State<Arc<Turns>>) {
    turns.loaded.notified().await;
}

async fn tell_it(State(turns): State<Arc<Turns>>) {
    turns.told.notify_one();
}
