//! The SQL of the operations.

use sqlx::SqlStr;

use crate::store::sql::{RECORD_COLUMNS, TableName, sql_str};

/// The SQL of every operation, written once for the name of the table.
pub(super) struct Statements {
    pub(super) create: SqlStr,
    pub(super) load: SqlStr,
    pub(super) update: SqlStr,
    pub(super) touch: SqlStr,
    pub(super) is_live: SqlStr,
    pub(super) delete: SqlStr,
    pub(super) delete_expired: SqlStr,
}

impl Statements {
    pub(super) fn new(table: &TableName) -> Self {
        let table = table.as_str();
        Self {
            create: sql_str(format!(
                r#"INSERT INTO "{table}" (handle, {RECORD_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"#
            )),
            load: sql_str(format!(
                r#"SELECT {RECORD_COLUMNS} FROM "{table}" WHERE handle = ?1"#
            )),
            update: sql_str(format!(
                r#"UPDATE "{table}"
                SET version = ?2, created_at = ?3, expires_at = ?4, user_id = ?5, payload = ?6
                WHERE handle = ?1 AND version = ?7 AND expires_at > ?8"#
            )),
            touch: sql_str(format!(
                r#"UPDATE "{table}" SET expires_at = max(expires_at, ?2)
                WHERE handle = ?1 AND version = ?3 AND expires_at > ?4"#
            )),
            is_live: sql_str(format!(
                r#"SELECT 1 FROM "{table}" WHERE handle = ?1 AND expires_at > ?2"#
            )),
            delete: sql_str(format!(r#"DELETE FROM "{table}" WHERE handle = ?1"#)),
            // A statement that writes has the write lock before it reads, so the selected rows cannot
            // change before they are deleted.
            delete_expired: sql_str(format!(
                r#"DELETE FROM "{table}" WHERE rowid IN
                (SELECT rowid FROM "{table}" WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)"#
            )),
        }
    }
}
