//! What the errors of a database server mean.

use sqlx::Database;

use crate::store::StoreError;

/// What the server's errors say about a statement, or a connection.
pub(in crate::store) trait Dialect: Database {
    /// Begins a transaction in which a statement sees what was committed when it began, even by those for whose
    /// locks the statements before it have waited.
    const BEGIN: &'static str;

    /// The server rolled the statement back, since it and others were in each other's way.
    fn is_rolled_back(error: &sqlx::Error) -> bool;

    /// The server does not take writes, as a replica does not. After a failover the pool still has connections
    /// to what was the primary.
    fn is_read_only(error: &sqlx::Error) -> bool;

    /// The statement names a table that is not there.
    fn is_missing_table(error: &sqlx::Error) -> bool;
}

/// The error for an operation that the server failed at; `doing` completes "cannot …".
pub(in crate::store) fn failed<DB: Dialect>(doing: &str, error: sqlx::Error) -> StoreError {
    if DB::is_read_only(&error) {
        let message = format!("cannot {doing}: the server takes no writes, as a replica does");
        StoreError::unavailable(message, error)
    } else if DB::is_missing_table(&error) {
        super::table_is_missing(doing, error)
    } else {
        super::failed(doing, error)
    }
}
