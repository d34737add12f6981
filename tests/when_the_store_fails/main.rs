//! The rows of `docs/when-the-store-fails.md`, a test each: what the client is told, what the log says, and how
//! long that takes.
//!
//! Time is tokio's, and stands still unless somebody waits for it: so what passes is exactly what a limit of the
//! layer lets pass, on a slow machine, too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/captured_logs.rs"]
mod captured_logs;
// Each test file uses its part of it.
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../support/mod.rs"]
mod support;

mod answer;
mod any_store;
mod faulty;
