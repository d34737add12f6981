//! What the SQL stores share.

use std::fmt;
use std::sync::Arc;

use sqlx::{AssertSqlSafe, ColumnIndex, Decode, Row, SqlSafeStr, SqlStr, Type};
use time::OffsetDateTime;

use super::{Record, SWEEP_GRACE, StoreError, Version};
use crate::clock::{from_unix_millis, to_unix_millis};

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) mod connections;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) mod dialect;
pub(super) mod index;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) mod pool;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) mod server_index;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) mod statement;

/// The table of sessions, unless a store is given another name: one that no application's own table has by
/// chance.
const DEFAULT_TABLE: &str = "cloakroom_sessions";

/// The name of a table: checked, so that it can stand in SQL.
///
/// What it may consist of needs no escaping inside quotes, in any engine; the quotes are there for the
/// words that SQL reserves.
#[derive(Clone, Debug)]
pub(super) struct TableName(String);

impl TableName {
    /// The engines' own limits are 63 bytes and more, and the names of indexes are longer than the
    /// table's.
    const MAX_BYTES: usize = 48;

    pub(super) fn parse(name: &str) -> Result<Self, InvalidTableName> {
        let starts_well =
            name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let is_plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if starts_well && is_plain && name.len() <= Self::MAX_BYTES {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidTableName::new(
                name,
                "it must be 1 to 48 ASCII letters, digits and underscores, and not begin with a digit",
            ))
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TableName {
    fn default() -> Self {
        Self(DEFAULT_TABLE.to_owned())
    }
}

/// The name cannot be that of a table of sessions; the message says why.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use cloakroom::store::SqliteStore;
///
/// let store = SqliteStore::connect(directory.path().join("sessions.db")).await?;
/// let error = store.with_table("robert'; drop table students").unwrap_err();
/// assert!(error.to_string().contains("ASCII letters"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTableName {
    name: String,
    problem: &'static str,
}

impl InvalidTableName {
    pub(super) fn new(name: &str, problem: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            problem,
        }
    }
}

impl fmt::Display for InvalidTableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} cannot be the name of a table of sessions: {}",
            self.name, self.problem
        )
    }
}

impl std::error::Error for InvalidTableName {}

/// SQL into which nothing was formatted but a [`TableName`] and constants of ours. Cheap to clone.
///
/// On one line, since servers say of a statement that is running only its first 1024 bytes or so.
pub(super) fn sql_str(sql: String) -> SqlStr {
    let sql = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    AssertSqlSafe(Arc::<str>::from(sql)).into_sql_str()
}

/// The columns of a record, in the order in which [`record`] reads them.
pub(super) const RECORD_COLUMNS: &str = "version, created_at, expires_at, user_id, payload";

/// The place of the user id among these.
pub(super) const USER_ID: usize = 3;

/// The record of a row of [`RECORD_COLUMNS`].
///
/// # Errors
///
/// [`StoreError::undecodable`] where a column is NULL that must not be, or holds what is not of its type.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) fn record<'r, R>(row: &'r R) -> Result<Record, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    &'r str: Decode<'r, R::Database> + Type<R::Database>,
    &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
{
    record_of(row, optional(row, USER_ID)?)
}

/// The same, for an engine whose user ids are no text to the driver.
pub(super) fn record_of<'r, R>(row: &'r R, user_id: Option<&str>) -> Result<Record, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
{
    Ok(Record {
        version: version(required(row, 0)?),
        created_at: time(required(row, 1)?)?,
        expires_at: time(required(row, 2)?)?,
        user_id: user_id.map(Into::into),
        payload: required::<&[u8], R>(row, 4)?.into(),
    })
}

/// The expiry up to which records are swept at this time, as a column holds it.
pub(super) fn swept_until(now: OffsetDateTime) -> i64 {
    let grace = i64::try_from(SWEEP_GRACE.as_millis()).unwrap_or(i64::MAX);
    to_unix_millis(now).saturating_sub(grace)
}

/// A limit as SQL takes it.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A number of rows as the stores say it.
pub(super) fn count(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}

/// A version as a signed column holds it: bit for bit.
pub(super) fn version_bits(version: Version) -> i64 {
    version.to_u64().cast_signed()
}

fn version(bits: i64) -> Version {
    Version::from_u64(bits.cast_unsigned())
}

fn time(millis: i64) -> Result<OffsetDateTime, StoreError> {
    let time = from_unix_millis(millis);
    if to_unix_millis(time) == millis {
        Ok(time)
    } else {
        Err(undecodable("a time in it is out of range"))
    }
}

/// Asks for an `Option`, since not every driver makes an error of a NULL: SQLite's reads it as 0.
fn required<'r, T, R>(row: &'r R, column: usize) -> Result<T, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    T: Decode<'r, R::Database> + Type<R::Database>,
{
    optional(row, column)?.ok_or_else(|| undecodable("a column that cannot be NULL is NULL"))
}

pub(super) fn optional<'r, T, R>(row: &'r R, column: usize) -> Result<Option<T>, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    T: Decode<'r, R::Database> + Type<R::Database>,
    Option<T>: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get(column).map_err(undecodable)
}

/// The error for a row that is there and cannot be read.
pub(super) fn undecodable(
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::undecodable("the row of the session cannot be decoded", cause)
}

/// The error for an operation that the driver failed at; `doing` completes "cannot …".
pub(super) fn failed(doing: &str, error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::PoolTimedOut => StoreError::timed_out(format!(
            "cannot {doing}: within its acquire timeout, the pool neither had a free connection nor could \
             open one"
        )),
        error => StoreError::unavailable(format!("cannot {doing}"), error),
    }
}

/// The error for an operation on a table that nobody has made.
pub(super) fn table_is_missing(doing: &str, error: sqlx::Error) -> StoreError {
    StoreError::unavailable(
        format!(
            "cannot {doing}: the table of sessions is not there; call the store's migrate() when the program \
             starts"
        ),
        error,
    )
}

/// Whether a row with this key is there already.
pub(super) fn is_unique_violation(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_name_is_a_plain_identifier() {
        let longest = "a".repeat(48);
        for name in ["sessions", "_s", "Order", "s2", DEFAULT_TABLE, &longest] {
            assert_eq!(TableName::parse(name).unwrap().as_str(), name);
        }
        let too_long = "a".repeat(49);
        for name in [
            "", "2s", "a-b", "a b", "a.b", "a\"b", "a;b", "a\0", "ä", &too_long,
        ] {
            let error = TableName::parse(name).unwrap_err();
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
    }

    #[test]
    fn a_version_keeps_all_its_bits() {
        for number in [0, 1, u64::MAX, 1 << 63, (1 << 63) - 1] {
            let bits = version_bits(Version::from_u64(number));
            assert_eq!(version(bits).to_u64(), number);
        }
    }

    #[test]
    fn a_time_out_of_range_is_undecodable_and_not_another_time() {
        for millis in [i64::MIN, i64::MAX, 253_402_300_800_000] {
            let error = time(millis).unwrap_err();
            assert_eq!(error.kind(), crate::store::StoreErrorKind::Undecodable);
        }
        assert!(time(253_402_300_799_999).is_ok());
    }
}
