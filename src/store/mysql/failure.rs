//! What the errors of MySQL and MariaDB mean.

use sqlx::MySql;
use sqlx::mysql::MySqlDatabaseError;

use crate::store::StoreError;
use crate::store::sql::dialect::{self, Dialect};

impl Dialect for MySql {
    /// At every isolation level: under `REPEATABLE READ`, what a transaction sees is fixed by its first read
    /// without a lock, and not by its beginning.
    const BEGIN: &'static str = "START TRANSACTION";

    fn is_rolled_back(error: &sqlx::Error) -> bool {
        const ER_CHECKREAD: u16 = 1020;
        const ER_LOCK_DEADLOCK: u16 = 1213;
        has_number(error, &[ER_CHECKREAD, ER_LOCK_DEADLOCK])
    }

    fn is_read_only(error: &sqlx::Error) -> bool {
        const ER_OPTION_PREVENTS_STATEMENT: u16 = 1290;
        const ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION: u16 = 1792;
        const ER_READ_ONLY_MODE: u16 = 1836;
        has_number(
            error,
            &[
                ER_OPTION_PREVENTS_STATEMENT,
                ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION,
                ER_READ_ONLY_MODE,
            ],
        )
    }

    fn is_missing_table(error: &sqlx::Error) -> bool {
        const ER_NO_SUCH_TABLE: u16 = 1146;
        has_number(error, &[ER_NO_SUCH_TABLE])
    }
}

pub(super) fn has_number(error: &sqlx::Error, numbers: &[u16]) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        .is_some_and(|error| numbers.contains(&error.number()))
}

/// The error for an operation that MySQL failed at; `doing` completes "cannot …".
pub(super) fn failed(doing: &str, error: sqlx::Error) -> StoreError {
    dialect::failed::<MySql>(doing, error)
}
