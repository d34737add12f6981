//! The SQL of the operations.

use sqlx::SqlStr;

use crate::store::sql::{RECORD_COLUMNS, TableName, sql_str};

/// The SQL of every operation, written once for the name of the table.
pub(super) struct Statements {
    pub(super) create: SqlStr,
    pub(super) load: SqlStr,
    pub(super) update: SqlStr,
    pub(super) touch: SqlStr,
    pub(super) delete: SqlStr,
    pub(super) delete_expired: SqlStr,
}

impl Statements {
    pub(super) fn new(schema: Option<&TableName>, table: &TableName) -> Self {
        let table = &qualified(schema, table);
        Self {
            create: sql_str(format!(
                "INSERT INTO {table} (handle, {RECORD_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)"
            )),
            load: sql_str(format!(
                "SELECT {RECORD_COLUMNS} FROM {table} WHERE handle = $1"
            )),
            update: sql_str(change(
                table,
                "version = $4, created_at = $5, expires_at = $6, user_id = $7, payload = $8",
            )),
            touch: sql_str(change(
                table,
                "expires_at = greatest(session.expires_at, $4)",
            )),
            delete: sql_str(format!("DELETE FROM {table} WHERE handle = $1")),
            // The array is made once, so no plan deletes more than the limit, as one that runs a
            // subquery again could. A row that was extended after the array was made is found by the
            // condition around it, which is checked on the newest version of the row, under its lock;
            // it adds 0, since otherwise a plan may go through all that has expired by the index, and
            // pick out these.
            //
            // Not SKIP LOCKED: then a sweep would say that nothing is left when all is locked.
            delete_expired: sql_str(format!(
                "DELETE FROM {table} WHERE expires_at + 0 <= $1 AND handle = ANY (ARRAY(
                    SELECT handle FROM {table} WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
                ))"
            )),
        }
    }
}

/// Changes a row if it has the version `$2` and has not expired at `$3`, and says whether it is live, and
/// whether it was changed; no row where there is none.
///
/// An UPDATE with these conditions alone, and a look at the row in the same statement if it changed nothing,
/// would be wrong: the look sees what was there when the statement began, and the UPDATE may have waited
/// for another one meanwhile. A row that was deleted in between would be a conflict, and no absence. So the
/// row is locked first, by its key alone, and what is locked is its newest version: that one is judged,
/// and that one is changed.
fn change(table: &str, set: &str) -> String {
    format!(
        "WITH found AS MATERIALIZED (
            SELECT version, expires_at FROM {table} WHERE handle = $1 FOR NO KEY UPDATE
        ), changed AS (
            UPDATE {table} AS session SET {set} FROM found
            WHERE session.handle = $1 AND found.version = $2 AND found.expires_at > $3
            RETURNING 1
        )
        SELECT expires_at > $3, EXISTS (SELECT FROM changed) FROM found"
    )
}

/// The name of the table as it stands in SQL.
pub(super) fn qualified(schema: Option<&TableName>, table: &TableName) -> String {
    let table = table.as_str();
    match schema {
        Some(schema) => format!(r#""{}"."{table}""#, schema.as_str()),
        None => format!(r#""{table}""#),
    }
}
