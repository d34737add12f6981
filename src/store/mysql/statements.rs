//! The SQL of the operations.

use std::sync::Arc;

use sqlx::SqlStr;

use crate::store::sql::index::{IndexStatements, LINKS, MARKS, Syntax};
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
    pub(super) index: Arc<IndexStatements>,
    pub(super) page: SqlStr,
    pub(super) delete_linked: SqlStr,
    pub(super) delete_links: SqlStr,
    pub(super) delete_expired_links: SqlStr,
    pub(super) delete_old_marks: SqlStr,
}

impl Statements {
    pub(super) fn new(table: &TableName) -> Self {
        let table = table.as_str();
        let links = &format!("`{table}{LINKS}`");
        let marks = &format!("`{table}{MARKS}`");
        // Written so that the ranges of the key are found in it, as no server finds them in a comparison of
        // pairs.
        let after = "(link.user_id > ? OR link.user_id = ? AND link.handle > ?)";
        let up_to = "(link.user_id < ? OR link.user_id = ? AND link.handle <= ?)";
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
            index: Arc::new(IndexStatements::new(&SYNTAX, links, marks)),
            page: sql_str(format!(
                "SELECT user_id, handle FROM {links} AS link WHERE {after}
                ORDER BY user_id, handle LIMIT ?"
            )),
            delete_linked: sql_str(format!(
                "DELETE session FROM {links} AS link
                STRAIGHT_JOIN `{table}` AS session ON session.handle = link.handle
                WHERE {after} AND {up_to}"
            )),
            // With their sessions, if there are some again: a login may have come in between. A statement that
            // took the entries alone would leave its session alive, and on no list.
            delete_links: sql_str(format!(
                "DELETE link, session FROM {links} AS link
                LEFT JOIN `{table}` AS session ON session.handle = link.handle
                WHERE {after} AND {up_to}"
            )),
            delete_expired_links: sql_str(format!(
                "DELETE FROM {links} WHERE expires_at <= ?
                ORDER BY expires_at, user_id, handle LIMIT ?"
            )),
            // Everyone's stays, so that logins find it to be locked.
            delete_old_marks: sql_str(format!(
                "DELETE FROM {marks} WHERE marked_at <= ? AND user_id <> X'FF'
                ORDER BY marked_at, user_id LIMIT ?"
            )),
        }
    }
}

/// How an `update` or a `touch` judges the row of its key. What it found comes back as the last insert id,
/// which is the only number that an UPDATE can send besides that of the rows it changed.
const AS_EXPECTED: u64 = 1;
pub(super) const OTHER_VERSION: u64 = 2;
pub(super) const EXPIRED: u64 = 3;

const SYNTAX: Syntax = Syntax {
    parameters: |sql| sql,
    on_conflict: |_| "ON DUPLICATE KEY UPDATE".to_owned(),
    greatest: "GREATEST",
    locks_rows: true,
    // MariaDB does not know FOR SHARE.
    keep_marks: "LOCK IN SHARE MODE",
};
