//! Tools to test stores and apps: feature `testing`.
//!
//! - [`contract`]: whether a store keeps the contract, races and dropped futures included.
//! - [`SpyStore`], [`FailingStore`], [`PausingStore`]: stores around a store, which say what they were
//!   called for, fail where they are told, or pause there. They can be put around each other.
//! - [`ManualClock`]: time that passes when the test says so.
//! - [`TestClient`]: a browser's cookies around an app, without a network.
//! - [`new_session`]: a session without a request, to test code that takes one.
//!
//! # An app's own test
//!
//! It logs in, lets time pass, and looks. Nothing listens, and nothing sleeps:
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, response::Result, routing::{get, post}};
//! use cloakroom::store::MemoryStore;
//! use cloakroom::testing::{ManualClock, SpyStore, TestClient};
//! use cloakroom::{Session, SessionLayer};
//! use http::StatusCode;
//!
//! async fn log_in(session: Session) -> Result<()> {
//!     Ok(session.login("alice").await?)
//! }
//!
//! async fn account(session: Session) -> Result<String, StatusCode> {
//!     let user_id = session.user_id().ok_or(StatusCode::UNAUTHORIZED)?;
//!     Ok(format!("Hello, {user_id}"))
//! }
//!
//! fn app(sessions: SessionLayer) -> Router {
//!     let routes = Router::new().route("/login", post(log_in)).route("/account", get(account));
//!     routes.layer(sessions)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! // #[tokio::test]
//! // async fn a_login_ends_after_an_hour_without_activity() {
//! let clock = ManualClock::new();
//! let store = SpyStore::new(MemoryStore::new());
//! let sessions = SessionLayer::builder(store.clone()).clock(clock.clone()).build().unwrap();
//! let client = TestClient::new(app(sessions));
//!
//! client.get("/account").await.assert_status(StatusCode::UNAUTHORIZED);
//! let anonymous = client.cookie("__Host-Http-id");
//! client.post("/login").await.assert_status(StatusCode::OK);
//! assert_ne!(client.cookie("__Host-Http-id"), anonymous);
//!
//! clock.advance(Duration::from_secs(59 * 60));
//! assert_eq!(client.get("/account").await.text(), "Hello, alice");
//! clock.advance(Duration::from_secs(60 * 60));
//! client.get("/account").await.assert_status(StatusCode::UNAUTHORIZED);
//! assert_eq!(store.calls().create, 1);
//! # }
//! ```
//!
//! None of these tools belongs into a program that serves users: they panic where a test has to fail.

mod client;
mod clock;
pub mod contract;
mod failing;
mod pausing;
mod session;
mod spy;

pub use cookie::Cookie;

use crate::store::{SessionStore, StoreError, UserIndex};

pub use self::client::{RejectedCookie, TestClient, TestResponse};
pub use self::clock::ManualClock;
pub use self::failing::{FailingStore, Times, When};
pub use self::pausing::{Pause, PausingStore};
pub use self::session::new_session;
pub use self::spy::{Call, Calls, SpyStore};

/// One of the operations of a [`SessionStore`] or its
/// [`UserIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`create`](crate::store::SessionStore::create).
    Create,
    /// [`load`](crate::store::SessionStore::load).
    Load,
    /// [`update`](crate::store::SessionStore::update).
    Update,
    /// [`touch`](crate::store::SessionStore::touch).
    Touch,
    /// [`delete`](crate::store::SessionStore::delete).
    Delete,
    /// [`delete_expired`](crate::store::SessionStore::delete_expired).
    DeleteExpired,
    /// [`link`](crate::store::UserIndex::link).
    Link,
    /// [`extend`](crate::store::UserIndex::extend).
    Extend,
    /// [`unlink`](crate::store::UserIndex::unlink).
    Unlink,
    /// [`list`](crate::store::UserIndex::list).
    List,
    /// [`mark`](crate::store::UserIndex::mark).
    Mark,
    /// [`delete_linked`](crate::store::UserIndex::delete_linked).
    DeleteLinked,
}

/// Locks a mutex that no panic leaves half-changed.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The index of a store that has one, for the stores around it: they have one only then.
fn index_of(store: &impl SessionStore) -> Result<&dyn UserIndex, StoreError> {
    store
        .user_index()
        .ok_or_else(|| StoreError::unavailable("no user index", "the store inside has none"))
}
