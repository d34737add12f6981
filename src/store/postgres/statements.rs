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
    pub(super) lock_marks: SqlStr,
    pub(super) delete_linked: SqlStr,
}

impl Statements {
    pub(super) fn new(schema: Option<&TableName>, table: &TableName) -> Self {
        let links = &qualified(schema, table, LINKS);
        let marks = &qualified(schema, table, MARKS);
        let table = &qualified(schema, table, "");
        Self {
            create: sql_str(format!(
                "INSERT INTO {table} (handle, {RECORD_COLUMNS}, sweep_at)
                VALUES ($1, $2, $3, $4, $5, $6, $4)"
            )),
            load: sql_str(format!(
                "SELECT {RECORD_COLUMNS} FROM {table} WHERE handle = $1"
            )),
            update: sql_str(change(
                table,
                "version = $4, created_at = $5, expires_at = $6, user_id = $7, payload = $8,
                sweep_at = least(session.sweep_at, $6)",
            )),
            touch: sql_str(change(
                table,
                "expires_at = greatest(session.expires_at, $4)",
            )),
            is_live: sql_str(format!(
                "SELECT 1 FROM {table} WHERE handle = $1 AND expires_at > $2"
            )),
            delete: sql_str(format!("DELETE FROM {table} WHERE handle = $1")),
            // By `sweep_at`, which is the expiry or a time before it: a session that lives on is not entered anew
            // in an index with each change, but looked at once when that time has come, and entered for its
            // expiry of then.
            //
            // The arrays are made once, so no plan deletes more than the limit, as one that runs a subquery
            // again could. A row that was extended, or will expire earlier, since they were made is found by
            // the conditions around them, which are checked on the newest version of the row, under its lock;
            // they add 0, since otherwise a plan may go through all that has expired by the index, and pick
            // out these. Both go by the key, so that two sweeps take the locks in one order.
            //
            // Not SKIP LOCKED: then a sweep would say that nothing is left when all is locked. Of entries and
            // marks it says nothing, so it waits for none of them. Everyone's row stays, so that logins find
            // it.
            delete_expired: sql_str(format!(
                "WITH links AS (\
                    DELETE FROM {links} WHERE ctid = ANY (ARRAY(\
                        SELECT ctid FROM {links} WHERE expires_at <= $1 ORDER BY expires_at LIMIT $4 \
                        FOR UPDATE SKIP LOCKED\
                    ))\
                ), marks AS (\
                    DELETE FROM {marks} WHERE ctid = ANY (ARRAY(\
                        SELECT ctid FROM {marks} WHERE marked_at <= $3 AND user_id <> decode('ff', 'hex') \
                        ORDER BY marked_at LIMIT $4 FOR UPDATE SKIP LOCKED\
                    ))\
                ), due AS MATERIALIZED (\
                    SELECT handle, expires_at FROM {table} WHERE sweep_at <= $1 ORDER BY sweep_at LIMIT $2\
                ), deleted AS (\
                    DELETE FROM {table} WHERE expires_at + 0 <= $1 AND handle = ANY (ARRAY(\
                        SELECT handle FROM due WHERE expires_at <= $1 LIMIT $4\
                    )) RETURNING 1\
                ), moved AS (\
                    UPDATE {table} SET sweep_at = expires_at WHERE expires_at + 0 > $1 AND handle = ANY (ARRAY(\
                        SELECT handle FROM due WHERE expires_at > $1\
                    )) RETURNING 1\
                ) SELECT (SELECT count(*) FROM deleted), (SELECT count(*) FROM moved), (SELECT count(*) FROM due)"
            )),
            index: Arc::new(IndexStatements::new(&SYNTAX, links, marks)),
            // A login writes to this table before it reads the marks there, so this waits until it has linked
            // its session, and those that come later wait for this. A row lock of every login on
            // everyone's row would do as well, but the row would be written to by each of them, and
            // with one login overlapping the next, this might never get its turn.
            lock_marks: sql_str(format!("LOCK TABLE {marks} IN SHARE ROW EXCLUSIVE MODE")),
            delete_linked: sql_str(format!(
                "WITH page AS MATERIALIZED (
                    SELECT user_id, handle FROM {links} WHERE (user_id, handle) > ($1, $2)
                    ORDER BY user_id, handle LIMIT $3
                ), sessions AS (
                    DELETE FROM {table} WHERE handle = ANY (ARRAY(SELECT handle FROM page)) RETURNING 1
                ), entries AS (
                    DELETE FROM {links} AS link USING page
                    WHERE link.user_id = page.user_id AND link.handle = page.handle
                )
                SELECT user_id, handle, (SELECT count(*) FROM page), (SELECT count(*) FROM sessions)
                FROM page ORDER BY user_id DESC, handle DESC LIMIT 1"
            )),
        }
    }
}

/// Changes a row if it has the version `$2` and has not expired at `$3`. What is set must change no indexed
/// column of a session that lives on: then the server writes the row alone.
///
/// An UPDATE that waited for another one judges by these conditions what that one left.
fn change(table: &str, set: &str) -> String {
    format!(
        "UPDATE {table} AS session SET {set}
        WHERE handle = $1 AND version = $2 AND expires_at > $3"
    )
}

/// The name of the table of sessions, or of one next to it, as it stands in SQL.
pub(super) fn qualified(schema: Option<&TableName>, table: &TableName, suffix: &str) -> String {
    let table = table.as_str();
    match schema {
        Some(schema) => format!(r#""{}"."{table}{suffix}""#, schema.as_str()),
        None => format!(r#""{table}{suffix}""#),
    }
}

const SYNTAX: Syntax = Syntax {
    parameters: numbered,
    on_conflict: |key| format!("ON CONFLICT ({key}) DO UPDATE SET"),
    greatest: "greatest",
    locks_rows: true,
    // Everyone's mark waits for the whole transaction, by the lock of the table.
    keep_marks: "",
};

fn numbered(sql: String) -> String {
    let mut parts = sql.split('?');
    let mut numbered = parts.next().unwrap_or_default().to_owned();
    for (number, part) in (1..).zip(parts) {
        numbered += &format!("${number}{part}");
    }
    numbered
}
