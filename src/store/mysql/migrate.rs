//! Makes the tables and their indexes.

use sqlx::{AssertSqlSafe, Executor, MySql, MySqlConnection, Row};

use super::failure::{failed, has_number};
use super::{MySqlStore, StoreError};
use crate::store::sql::dialect::Dialect;
use crate::store::sql::index::{LINKS, MARKS};

/// The tables: that of sessions, and those next to it.
const TABLES: [Table; 3] = [
    Table {
        suffix: "",
        columns: &[
            ("handle", &["binary(16)"], "NO", KEY),
            ("version", BIGINT, "NO", ""),
            ("created_at", BIGINT, "NO", ""),
            ("expires_at", BIGINT, "NO", INDEX),
            ("user_id", &["varbinary(255)"], "YES", INDEX),
            ("payload", &["mediumblob"], "NO", ""),
        ],
        // User ids are bytes, and no text. The collations that compare byte by byte and are known to both
        // MySQL and MariaDB take no notice of spaces at the end: 'alice ' would be 'alice'.
        //
        // A BLOB would hold 64 KiB, less one byte.
        definition: "
            handle BINARY(16) NOT NULL PRIMARY KEY,
            version BIGINT NOT NULL,
            created_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL,
            user_id VARBINARY(255),
            payload MEDIUMBLOB NOT NULL",
    },
    Table {
        suffix: LINKS,
        columns: &[
            ("user_id", &["varbinary(255)"], "NO", KEY),
            ("handle", &["binary(16)"], "NO", KEY),
            ("linked_at", BIGINT, "NO", ""),
            ("expires_at", BIGINT, "NO", INDEX),
            ("pending", &["tinyint(1)"], "NO", ""),
        ],
        definition: "
            user_id VARBINARY(255) NOT NULL,
            handle BINARY(16) NOT NULL,
            linked_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL,
            pending BOOLEAN NOT NULL,
            PRIMARY KEY (user_id, handle)",
    },
    Table {
        suffix: MARKS,
        columns: &[
            ("user_id", &["varbinary(255)"], "NO", KEY),
            ("marked_at", BIGINT, "NO", INDEX),
        ],
        definition: "
            user_id VARBINARY(255) NOT NULL PRIMARY KEY,
            marked_at BIGINT NOT NULL",
    },
];

struct Table {
    suffix: &'static str,
    /// Name, type, whether it can be NULL, and kind of index that it is in, of each column. MariaDB says how
    /// wide an integer is shown.
    columns: &'static [(
        &'static str,
        &'static [&'static str],
        &'static str,
        &'static str,
    )],
    definition: &'static str,
}

const BIGINT: &[&str] = &["bigint", "bigint(20)"];
const KEY: &str = "PRI";
const INDEX: &str = "MUL";

/// What there is of a table.
enum Found {
    Nothing,
    /// Without an index on these columns.
    Unfinished(Vec<&'static str>),
    Complete,
    /// Its columns are others.
    Another,
}

impl MySqlStore {
    /// Makes the database ready for sessions: creates the tables and their indexes.
    ///
    /// Call it whenever the program starts: where all is there already, nothing changes, and no right to
    /// create anything is needed, `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the tables being enough. Any
    /// number of tasks and nodes may do so at once. It has no time limit once it is connected: where a server
    /// that hangs must not hold up the start, put it into a `tokio::time::timeout`.
    ///
    /// # Errors
    ///
    /// If the engine failed or refused, if the server is read-only, as a replica is, if connections do not
    /// commit by themselves, or if there is a table of this name that is none of sessions.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut connection = self.pool().acquire().await.map_err(migration_failed)?;
        // Should this be dropped half-way, nothing is known of the connection.
        connection.close_on_drop();
        refuse_what_loses_writes(&mut connection).await?;
        for table in &TABLES {
            self.make(&mut connection, table).await?;
        }
        Ok(())
    }

    async fn make(
        &self,
        connection: &mut MySqlConnection,
        table: &Table,
    ) -> Result<(), StoreError> {
        match self.find(connection, table).await? {
            Found::Complete => return Ok(()),
            Found::Another => return Err(self.not_ours(table)),
            Found::Nothing => self.create_table(connection, table).await?,
            Found::Unfinished(columns) => {
                self.create_indexes(connection, table, &columns).await?;
            }
        }
        match self.find(connection, table).await? {
            Found::Complete => Ok(()),
            Found::Nothing | Found::Unfinished(_) | Found::Another => Err(self.not_ours(table)),
        }
    }

    /// The indexes of all three are named after the first, since the longest names leave no room for more.
    ///
    /// One statement, atomic, of which any number can run at once: the server lets one create the table, and
    /// has the others wait for it.
    async fn create_table(
        &self,
        connection: &mut MySqlConnection,
        table: &Table,
    ) -> Result<(), StoreError> {
        let (name, of_sessions) = (self.name(table), self.table.as_str());
        let indexes = table
            .columns
            .iter()
            .filter(|(_, _, _, index)| *index == INDEX)
            .map(|(column, ..)| format!(", INDEX `{of_sessions}_{column}` ({column})"));
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS `{name}` ({}{}) ENGINE = InnoDB",
            table.definition,
            indexes.collect::<String>()
        );
        run(connection, sql).await.map_err(migration_failed)
    }

    async fn create_indexes(
        &self,
        connection: &mut MySqlConnection,
        table: &Table,
        columns: &[&str],
    ) -> Result<(), StoreError> {
        let (name, of_sessions) = (self.name(table), self.table.as_str());
        for column in columns {
            let sql = format!("CREATE INDEX `{of_sessions}_{column}` ON `{name}` ({column})");
            match run(connection, sql).await {
                Err(error) if is_there_already(&error) => {}
                other => other.map_err(migration_failed)?,
            }
        }
        Ok(())
    }

    /// By what the server says of the table itself: its catalog compares names in its own way.
    async fn find(
        &self,
        connection: &mut MySqlConnection,
        table: &Table,
    ) -> Result<Found, StoreError> {
        let sql = format!("SHOW COLUMNS FROM `{}`", self.name(table));
        let rows = match connection
            .fetch_all(sqlx::raw_sql(AssertSqlSafe(sql)))
            .await
        {
            Err(error) if MySql::is_missing_table(&error) => return Ok(Found::Nothing),
            rows => rows.map_err(migration_failed)?,
        };
        if rows.len() != table.columns.len() {
            return Ok(Found::Another);
        }
        let mut without_index = Vec::new();
        for (row, (name, types, nullable, index)) in rows.iter().zip(table.columns) {
            // As bytes, since servers differ in whether these are text.
            let column = |number: usize| -> Result<&[u8], StoreError> {
                row.try_get_unchecked(number).map_err(migration_failed)
            };
            let is_ours = column(0)? == name.as_bytes()
                && types
                    .iter()
                    .any(|kind| column(1).is_ok_and(|found| found == kind.as_bytes()))
                && column(2)? == nullable.as_bytes();
            match column(3)? {
                _ if !is_ours => return Ok(Found::Another),
                found if found == index.as_bytes() => {}
                _ if *index == INDEX => without_index.push(*name),
                _ if index.is_empty() => {}
                _ => return Ok(Found::Another),
            }
        }
        Ok(if without_index.is_empty() {
            Found::Complete
        } else {
            Found::Unfinished(without_index)
        })
    }

    fn name(&self, table: &Table) -> String {
        format!("{}{}", self.table.as_str(), table.suffix)
    }

    fn not_ours(&self, table: &Table) -> StoreError {
        StoreError::unavailable(
            format!(
                "the table `{}` is there and is none of sessions",
                self.name(table)
            ),
            "its columns or indexes are others; choose another name by with_table",
        )
    }
}

async fn refuse_what_loses_writes(connection: &mut MySqlConnection) -> Result<(), StoreError> {
    let (commits, is_read_only): (i64, i64) = sqlx::query_as(
        "SELECT @@session.autocommit = 1, CAST(@@global.read_only AS CHAR) NOT IN ('0', 'OFF')",
    )
    .fetch_one(connection)
    .await
    .map_err(migration_failed)?;
    if commits == 0 {
        return Err(StoreError::unavailable(
            "the connections to MySQL do not commit what they write",
            "set autocommit = 1, on the server or by after_connect",
        ));
    }
    if is_read_only != 0 {
        return Err(StoreError::unavailable(
            "the MySQL server is read-only",
            "a replica lags, and would open sessions that have ended: connect to the primary",
        ));
    }
    Ok(())
}

async fn run(connection: &mut MySqlConnection, sql: String) -> sqlx::Result<()> {
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(sql)))
        .await
        .map(drop)
}

/// Another one was first.
fn is_there_already(error: &sqlx::Error) -> bool {
    const ER_DUP_KEYNAME: u16 = 1061;
    has_number(error, &[ER_DUP_KEYNAME])
}

fn migration_failed(error: sqlx::Error) -> StoreError {
    failed("make the table of sessions in MySQL", error)
}
