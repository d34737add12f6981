//! The rows of `docs/when-the-store-fails.md`, a test each: what the client is told, what the log says, and how
//! long that takes.
//!
//! Time is tokio's, and stands still unless somebody waits for it: so what passes is exactly what a limit of the
//! layer lets pass, on a slow machine, too. With a store that works in part, it runs: what it answers takes as
//! long as it takes, and the log says by its words that it was no limit that ended the wait.
#![cfg(all(
    feature = "file",
    feature = "sqlite",
    feature = "postgres",
    feature = "mysql",
    feature = "redis",
    feature = "testing",
    feature = "axum"
))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/captured_logs.rs"]
mod captured_logs;
#[path = "../support/child.rs"]
mod child;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/sql_server.rs"]
mod sql_server;
// Each test file uses its part of it.
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../support/mod.rs"]
mod support;

mod answer;
mod any_store;
mod app_on;
mod faulty;
mod files;
mod limited;
mod redis;
mod sql;
mod sqlite;
