//! Tools to test stores and apps: feature `testing`.
//!
//! - [`contract`]: whether a store keeps the contract, races and dropped futures included.
//! - [`SpyStore`], [`FailingStore`], [`PausingStore`]: stores around a store, which say what they were
//!   called for, fail where they are told, or pause there. They can be put around each other.
//! - [`ManualClock`]: time that passes when the test says so.
//! - [`TestClient`]: a browser's cookies around an app, without a network.
//! - [`new_session`]: a session without a request, to test code that takes one.
//!
//! None of them belongs into a program that serves users: they panic where a test has to fail.

mod client;
mod clock;
pub mod contract;
mod failing;
mod pausing;
mod session;
mod spy;

pub use cookie::Cookie;

pub use self::client::{RejectedCookie, TestClient, TestResponse};
pub use self::clock::ManualClock;
pub use self::failing::{FailingStore, Times, When};
pub use self::pausing::{Pause, PausingStore};
pub use self::session::new_session;
pub use self::spy::{Call, Calls, SpyStore};

/// One of the operations of a [`SessionStore`](crate::store::SessionStore).
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
}

/// Locks a mutex that no panic leaves half-changed.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
