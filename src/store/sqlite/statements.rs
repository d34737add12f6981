//! The SQL of the operations.

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
    pub(super) index: IndexStatements,
    pub(super) page: SqlStr,
    pub(super) delete_linked: SqlStr,
    pub(super) delete_links: SqlStr,
    pub(super) delete_expired_links: SqlStr,
    pub(super) delete_old_marks: SqlStr,
}

impl Statements {
    pub(super) fn new(table: &TableName) -> Self {
        let table = table.as_str();
        let links = &format!(r#""{table}{LINKS}""#);
        let marks = &format!(r#""{table}{MARKS}""#);
        let on_page = "(user_id, handle) > (?1, ?2) AND (user_id, handle) <= (?3, ?4)";
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
            index: IndexStatements::new(&SYNTAX, links, marks),
            page: sql_str(format!(
                "SELECT user_id, handle FROM {links} WHERE (user_id, handle) > (?1, ?2)
                ORDER BY user_id, handle LIMIT ?3"
            )),
            delete_linked: sql_str(format!(
                r#"DELETE FROM "{table}" WHERE handle IN
                (SELECT handle FROM {links} WHERE {on_page})"#
            )),
            delete_links: sql_str(format!("DELETE FROM {links} WHERE {on_page}")),
            delete_expired_links: sql_str(format!(
                "DELETE FROM {links} WHERE (user_id, handle) IN
                (SELECT user_id, handle FROM {links} WHERE expires_at <= ?1
                ORDER BY expires_at LIMIT ?2)"
            )),
            delete_old_marks: sql_str(format!(
                "DELETE FROM {marks} WHERE user_id IN
                (SELECT user_id FROM {marks} WHERE marked_at <= ?1 ORDER BY marked_at LIMIT ?2)"
            )),
        }
    }
}

const SYNTAX: Syntax = Syntax {
    parameters: |sql| sql,
    on_conflict: |key| format!("ON CONFLICT ({key}) DO UPDATE SET"),
    greatest: "max",
    // Whoever links has the write lock of the whole database.
    locks_rows: false,
    keep_marks: "",
};
