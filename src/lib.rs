//! Server-side sessions for axum and tower.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod calls;
pub mod clock;
mod commit;
mod cookie;
mod error;
mod events;
#[cfg(feature = "axum")]
mod extract;
mod headers;
mod id;
mod layer;
mod load;
mod login;
mod record;
mod service;
mod session;
mod sessions;
mod settings;
mod slot;
mod state;
pub mod store;
mod sweeper;
#[cfg(feature = "testing")]
pub mod testing;
mod timeouts;

pub use crate::cookie::SameSite;
pub use crate::error::{Error, ErrorKind};
pub use crate::layer::{ConfigError, SessionLayer, SessionLayerBuilder};
pub use crate::login::Login;
pub use crate::service::{EmptyBody, ResponseFuture, SessionService};
pub use crate::session::{Key, KeyOf, Session};
pub use crate::sessions::Sessions;
pub use crate::store::SessionStore;
pub use crate::sweeper::Sweeper;
pub use crate::timeouts::Timeouts;
