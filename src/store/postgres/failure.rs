//! What PostgreSQL's errors mean.

use sqlx::Postgres;

use crate::store::StoreError;
use crate::store::sql::dialect::{self, Dialect};

impl Dialect for Postgres {
    /// Whatever the database's default is.
    const BEGIN: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED";

    fn is_rolled_back(error: &sqlx::Error) -> bool {
        const SERIALIZATION_FAILURE: &str = "40001";
        const DEADLOCK_DETECTED: &str = "40P01";
        has_code(error, &[SERIALIZATION_FAILURE, DEADLOCK_DETECTED])
    }

    fn is_read_only(error: &sqlx::Error) -> bool {
        const READ_ONLY_SQL_TRANSACTION: &str = "25006";
        has_code(error, &[READ_ONLY_SQL_TRANSACTION])
    }

    fn is_missing_table(error: &sqlx::Error) -> bool {
        const UNDEFINED_TABLE: &str = "42P01";
        has_code(error, &[UNDEFINED_TABLE])
    }
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| codes.contains(&&*code))
}

/// The error for an operation that PostgreSQL failed at; `doing` completes "cannot …".
pub(super) fn failed(doing: &str, error: sqlx::Error) -> StoreError {
    dialect::failed::<Postgres>(doing, error)
}
