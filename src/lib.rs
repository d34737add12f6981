//! Server-side sessions for axum and tower.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod clock;
mod cookie;
mod error;
mod events;
mod id;
mod record;
pub mod store;
mod sweeper;
#[cfg(feature = "testing")]
pub mod testing;
mod timeouts;

pub use crate::error::{Error, ErrorKind};
pub use crate::sweeper::{Sweeper, SweeperBuilder};
pub use crate::timeouts::Timeouts;
