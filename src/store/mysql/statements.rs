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
        // With the primary key forced, no other row is judged, as a scan of the table could: of a table with
        // few rows, that may be the cheaper plan.
        let condition = format!(
            "handle = ? AND LAST_INSERT_ID(CASE
                WHEN expires_at <= ? THEN {EXPIRED}
                WHEN version <> ? THEN {OTHER_VERSION}
                ELSE {AS_EXPECTED}
            END) = {AS_EXPECTED}"
        );
        Self {
            create: sql_str(format!(
                "INSERT INTO `{table}` (handle, {RECORD_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
            )),
            load: sql_str(format!(
                "SELECT {RECORD_COLUMNS} FROM `{table}` WHERE handle = ?"
            )),
            update: sql_str(format!(
                "UPDATE `{table}` FORCE INDEX (PRIMARY)
                SET version = ?, created_at = ?, expires_at = ?, user_id = ?, payload = ?
                WHERE {condition}"
            )),
            touch: sql_str(format!(
                "UPDATE `{table}` FORCE INDEX (PRIMARY) SET expires_at = GREATEST(expires_at, ?)
                WHERE {condition}"
            )),
            is_live: sql_str(format!(
                "SELECT 1 FROM `{table}` WHERE handle = ? AND expires_at > ?"
            )),
            delete: sql_str(format!("DELETE FROM `{table}` WHERE handle = ?")),
            // A statement that writes reads the newest version of each row, under its lock, so none that
            // was extended meanwhile is deleted. The order is that of the index, whose entries end with the
            // key; and it is complete, so that a replica that repeats the statement deletes the same.
            delete_expired: sql_str(format!(
                "DELETE FROM `{table}` WHERE expires_at <= ? ORDER BY expires_at, handle LIMIT ?"
            )),
        }
    }
}

/// How an `update` or a `touch` judges the row of its key. What it found comes back as the last insert id,
/// which is the only number that an UPDATE can send besides that of the rows it changed.
const AS_EXPECTED: u64 = 1;
pub(super) const OTHER_VERSION: u64 = 2;
pub(super) const EXPIRED: u64 = 3;
