//! The sessions by user: what the SQL stores share of it.
//!
//! Two tables stand next to the one of sessions:
//!
//! 1. `…_links` has an entry for each session on a user's list.
//! 2. `…_marks` has a row for each mark, and everyone's. On a server, a login also locks its user by the row
//!    there, and makes one that marks nothing where there is none: so the logins of a user, and their mark,
//!    come one after the other, and what each reads once it has the lock is what those before it left.
//!
//! User ids are bytes there, which every engine compares one by one.

use sqlx::{ColumnIndex, Database, Decode, Encode, Executor, IntoArguments, Row, SqlStr, Type};
use time::OffsetDateTime;

use super::{SWEEP_GRACE, sql_str};
use crate::clock::{from_unix_millis, to_unix_millis};
use crate::store::{Handle, Link, Linked, LinkedSession, LoginProgress, MARK_KEPT, Position};
use crate::timeouts::millis;

/// The key of everyone's mark, which is no user's: user ids are UTF-8.
pub(in crate::store) const EVERYONE: &[u8] = &[0xFF];

/// The names of the two tables, after that of the table of sessions.
pub(in crate::store) const LINKS: &str = "_links";
pub(in crate::store) const MARKS: &str = "_marks";

/// What differs between the engines in the statements below.
pub(in crate::store) struct Syntax {
    /// How parameters are written, from the `?` that stand in the order in which they are bound.
    pub(in crate::store) parameters: fn(String) -> String,
    /// What comes before the columns to be changed, where a row with this key is there.
    pub(in crate::store) on_conflict: fn(&str) -> String,
    pub(in crate::store) greatest: &'static str,
    /// Whether a transaction has to lock what nobody may change before it ends.
    pub(in crate::store) locks_rows: bool,
    /// How it locks the marks that it reads, where another transaction would not see that it has read them.
    pub(in crate::store) keep_marks: &'static str,
}

/// The SQL of the index, written once for the names of the tables.
pub(in crate::store) struct IndexStatements {
    lock: Option<SqlStr>,
    marks: SqlStr,
    put: SqlStr,
    pub(in crate::store) list: SqlStr,
    pub(in crate::store) extend: SqlStr,
    pub(in crate::store) unlink: SqlStr,
    pub(in crate::store) mark: SqlStr,
}

impl IndexStatements {
    /// With the names as they stand in SQL.
    pub(in crate::store) fn new(syntax: &Syntax, links: &str, marks: &str) -> Self {
        let Syntax {
            parameters,
            on_conflict,
            greatest,
            locks_rows,
            keep_marks,
        } = syntax;
        let sql = |text: String| sql_str(parameters(text));
        let of_user = on_conflict("user_id");
        let of_entry = on_conflict("user_id, handle");
        Self {
            lock: locks_rows.then(|| {
                sql(format!(
                    "INSERT INTO {marks} (user_id, marked_at) VALUES (?, {NO_MARK})
                    {of_user} marked_at = {marks}.marked_at"
                ))
            }),
            marks: sql(format!(
                "SELECT marked_at FROM {marks} WHERE user_id IN (?, ?) {keep_marks}"
            )),
            put: sql(format!(
                "INSERT INTO {links} (user_id, handle, linked_at, expires_at, pending)
                VALUES (?, ?, ?, ?, ?) {of_entry} linked_at = ?, expires_at = ?, pending = ?"
            )),
            list: sql(format!(
                "SELECT handle, linked_at, pending FROM {links}
                WHERE user_id = ? AND expires_at > ? ORDER BY linked_at, handle"
            )),
            extend: sql(format!(
                "UPDATE {links} SET expires_at = {greatest}(expires_at, ?)
                WHERE user_id = ? AND handle = ?"
            )),
            unlink: sql(format!(
                "DELETE FROM {links} WHERE user_id = ? AND handle = ?"
            )),
            mark: sql(format!(
                "INSERT INTO {marks} (user_id, marked_at) VALUES (?, ?)
                {of_user} marked_at = {greatest}({marks}.marked_at, ?)"
            )),
        }
    }
}

/// In a row that marks nothing.
const NO_MARK: i64 = 0;

/// Links a session, within a transaction that is the caller's to commit, whatever comes out.
///
/// # Errors
///
/// If the engine failed.
pub(in crate::store) async fn link<DB>(
    connection: &mut DB::Connection,
    sql: &IndexStatements,
    user_id: &[u8],
    handle: &Handle,
    link: &Link,
) -> sqlx::Result<Linked>
where
    DB: Database,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'t> &'t [u8]: Encode<'t, DB> + Type<DB>,
    for<'t> i64: Encode<'t, DB> + Decode<'t, DB> + Type<DB>,
    for<'t> bool: Encode<'t, DB> + Decode<'t, DB> + Type<DB>,
    for<'t> Vec<u8>: Decode<'t, DB> + Type<DB>,
    usize: ColumnIndex<DB::Row>,
{
    lock::<DB>(connection, sql, user_id).await?;
    let mut found = marks::<DB>(connection, sql, user_id).await?;
    if sql.lock.is_some() && found.len() < 2 {
        // The first login of all: everyone's row is not there to be locked.
        lock::<DB>(connection, sql, EVERYONE).await?;
        found = marks::<DB>(connection, sql, user_id).await?;
    }
    let refused_from = to_unix_millis(link.refused_by_marks_from);
    if found.iter().any(|&mark| mark >= refused_from) {
        return Ok(Linked::Overtaken);
    }
    let linked_at = to_unix_millis(link.linked_at);
    let mut others = Vec::new();
    if link.limit.is_some() && link.progress == LoginProgress::Complete {
        let query = sqlx::query(sql.list.clone()).bind(user_id).bind(linked_at);
        others = linked_sessions(&query.fetch_all(&mut *connection).await?)?;
        others.retain(|other| other.handle != *handle);
    }
    let others = match link.judge(others) {
        Err(others) => return Ok(Linked::Full(others)),
        Ok(others) => others,
    };
    let expires_at = to_unix_millis(link.expires_at);
    let pending = link.progress == LoginProgress::Pending;
    sqlx::query(sql.put.clone())
        .bind(user_id)
        .bind(&handle.as_bytes()[..])
        .bind(linked_at)
        .bind(expires_at)
        .bind(pending)
        .bind(linked_at)
        .bind(expires_at)
        .bind(pending)
        .execute(connection)
        .await?;
    Ok(Linked::Done(others))
}

/// Has other logins of this user, and their mark, wait until the transaction ends.
async fn lock<DB>(
    connection: &mut DB::Connection,
    sql: &IndexStatements,
    user_id: &[u8],
) -> sqlx::Result<()>
where
    DB: Database,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'t> &'t [u8]: Encode<'t, DB> + Type<DB>,
{
    let Some(lock) = &sql.lock else {
        return Ok(());
    };
    let query = sqlx::query(lock.clone()).bind(user_id);
    query.execute(connection).await.map(drop)
}

/// The user's row and everyone's, as far as there are such.
async fn marks<DB>(
    connection: &mut DB::Connection,
    sql: &IndexStatements,
    user_id: &[u8],
) -> sqlx::Result<Vec<i64>>
where
    DB: Database,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'t> &'t [u8]: Encode<'t, DB> + Type<DB>,
    for<'t> i64: Decode<'t, DB> + Type<DB>,
    usize: ColumnIndex<DB::Row>,
{
    let query = sqlx::query(sql.marks.clone()).bind(user_id).bind(EVERYONE);
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The entries that the rows of `list` are.
pub(in crate::store) fn linked_sessions<R>(rows: &[R]) -> sqlx::Result<Vec<LinkedSession>>
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'t> i64: Decode<'t, R::Database> + Type<R::Database>,
    for<'t> bool: Decode<'t, R::Database> + Type<R::Database>,
    for<'t> Vec<u8>: Decode<'t, R::Database> + Type<R::Database>,
{
    rows.iter()
        .map(|row| {
            Ok(LinkedSession {
                handle: handle(&row.try_get::<Vec<u8>, _>(0)?)?,
                linked_at: from_unix_millis(row.try_get(1)?),
                progress: match row.try_get(2)? {
                    true => LoginProgress::Pending,
                    false => LoginProgress::Complete,
                },
            })
        })
        .collect()
}

fn handle(bytes: &[u8]) -> sqlx::Result<Handle> {
    let bytes = bytes
        .try_into()
        .map_err(|_| sqlx::Error::Decode("a handle has 16 bytes".into()))?;
    Ok(Handle::from_bytes(bytes))
}

/// The place of an entry among all, in the order of the primary key.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Place {
    pub(in crate::store) user_id: Vec<u8>,
    pub(in crate::store) handle: Vec<u8>,
}

impl Place {
    /// After `None`, or a position that is none of these stores', come all entries.
    pub(in crate::store) fn after(position: Option<&Position>) -> Self {
        position
            .and_then(|position| position.0.split_at_checked(HANDLE_BYTES))
            .map(|(handle, user_id)| Self {
                user_id: user_id.to_vec(),
                handle: handle.to_vec(),
            })
            .unwrap_or_default()
    }

    pub(in crate::store) fn to_position(&self) -> Position {
        Position([&self.handle[..], &self.user_id[..]].concat())
    }
}

const HANDLE_BYTES: usize = 16;

/// How many entries one call deletes with their sessions: one at least, or else it would come to no end.
pub(in crate::store) fn page(limit: usize) -> usize {
    limit.max(1)
}

/// The marks up to this time are of no use any more at `now`. As for sessions, the clocks of other nodes may
/// be behind.
pub(in crate::store) fn marks_swept_until(now: OffsetDateTime) -> i64 {
    to_unix_millis(now)
        .saturating_sub(millis(MARK_KEPT))
        .saturating_sub(millis(SWEEP_GRACE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_from_its_position() {
        for user_id in ["", "alice", "\u{1F600} "] {
            let place = Place {
                user_id: user_id.into(),
                handle: vec![7; HANDLE_BYTES],
            };
            let found = Place::after(Some(&place.to_position()));
            assert_eq!(found.user_id, place.user_id);
            assert_eq!(found.handle, place.handle);
        }
    }
}
