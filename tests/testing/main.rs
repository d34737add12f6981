//! The tools of `cloakroom::testing`, as an app and a store outside of the crate use them.
#![allow(clippy::unwrap_used)]

mod broken_stores;
mod contract;
mod other_stores;
mod reference_store;
mod stores;
