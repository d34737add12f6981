//! The sessions by user on a server.
//!
//! A login is a transaction: it locks its user, reads the marks, reads the list if there is a limit to be
//! kept, and writes its entry. Every other operation here is one statement.

use std::sync::Arc;

use sqlx::{ColumnIndex, Decode, Encode, Executor, IntoArguments, Type};
use time::OffsetDateTime;

use super::connections::Connections;
use super::dialect::Dialect;
use super::index::{self, IndexStatements};
use super::statement::{Running, execute, fetch, query, transact};
use crate::clock::to_unix_millis;
use crate::store::{Handle, Link, Linked, LinkedSession};

/// The index of a store on a server.
pub(in crate::store) struct ServerIndex<'a, DB: Dialect> {
    pub(in crate::store) connections: &'a Connections<DB>,
    pub(in crate::store) sql: &'a Arc<IndexStatements>,
}

impl<DB> ServerIndex<'_, DB>
where
    DB: Dialect,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    for<'t> &'t [u8]: Encode<'t, DB> + Type<DB>,
    for<'t> i64: Encode<'t, DB> + Decode<'t, DB> + Type<DB>,
    for<'t> bool: Encode<'t, DB> + Decode<'t, DB> + Type<DB>,
    for<'t> Vec<u8>: Decode<'t, DB> + Type<DB>,
    usize: ColumnIndex<DB::Row>,
{
    pub(in crate::store) async fn link(
        &self,
        user_id: &str,
        handle: &Handle,
        link: &Link,
    ) -> sqlx::Result<Linked> {
        transact(self.connections, || {
            let (sql, user_id) = (self.sql.clone(), user_id.as_bytes().to_vec());
            let (handle, link) = (*handle, *link);
            move |connection: &mut DB::Connection| -> Running<'_, _> {
                Box::pin(async move {
                    index::link::<DB>(connection, &sql, &user_id, &handle, &link).await
                })
            }
        })
        .await
    }

    pub(in crate::store) async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> sqlx::Result<()> {
        execute(self.connections, || {
            query(&self.sql.extend)
                .bind(to_unix_millis(expires_at))
                .bind(user_id.as_bytes())
                .bind(&handle.as_bytes()[..])
        })
        .await
        .map(drop)
    }

    pub(in crate::store) async fn unlink(
        &self,
        user_id: &str,
        handle: &Handle,
    ) -> sqlx::Result<()> {
        execute(self.connections, || {
            query(&self.sql.unlink)
                .bind(user_id.as_bytes())
                .bind(&handle.as_bytes()[..])
        })
        .await
        .map(drop)
    }

    pub(in crate::store) async fn list(
        &self,
        user_id: &str,
        now: OffsetDateTime,
    ) -> sqlx::Result<Vec<LinkedSession>> {
        let rows = fetch(self.connections, || {
            query(&self.sql.list)
                .bind(user_id.as_bytes())
                .bind(to_unix_millis(now))
        });
        index::linked_sessions(&rows.await?)
    }

    pub(in crate::store) async fn mark(&self, key: &[u8], at: OffsetDateTime) -> sqlx::Result<()> {
        let at = to_unix_millis(at);
        execute(self.connections, || {
            query(&self.sql.mark).bind(key).bind(at).bind(at)
        })
        .await
        .map(drop)
    }
}
