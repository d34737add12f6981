//! Sessions in an SQLite database.

/// Keeps sessions in an SQLite database.
#[derive(Debug)]
pub struct SqliteStore;
