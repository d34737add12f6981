//! The sessions by user, in PostgreSQL.

use sqlx::{PgConnection, Postgres, Row};
use time::OffsetDateTime;

use super::{PostgresStore, failed};
use crate::clock::to_unix_millis;
use crate::store::sql::index::{self, Place};
use crate::store::sql::server_index::ServerIndex;
use crate::store::sql::statement::{Running, fetch, query, transact};
use crate::store::sql::{self};
use crate::store::{
    DeletedSessions, Handle, Link, Linked, LinkedSession, Position, StoreError, UserIndex, Whose,
    async_trait,
};

#[async_trait]
impl UserIndex for PostgresStore {
    async fn link(
        &self,
        user_id: &str,
        handle: &Handle,
        link: &Link,
    ) -> Result<Linked, StoreError> {
        let linked = self.index().link(user_id, handle, link).await;
        linked.map_err(|error| failed("link a session to its user in PostgreSQL", error))
    }

    async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let extended = self.index().extend(user_id, handle, expires_at).await;
        extended.map_err(|error| failed("extend a user's entry in PostgreSQL", error))
    }

    async fn unlink(&self, user_id: &str, handle: &Handle) -> Result<(), StoreError> {
        let unlinked = self.index().unlink(user_id, handle).await;
        unlinked.map_err(|error| failed("unlink a session from its user in PostgreSQL", error))
    }

    async fn list(
        &self,
        user_id: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<LinkedSession>, StoreError> {
        let list = self.index().list(user_id, now).await;
        list.map_err(|error| failed("list a user's sessions in PostgreSQL", error))
    }

    async fn mark(&self, whose: Whose<'_>, at: OffsetDateTime) -> Result<(), StoreError> {
        let marked = match whose {
            Whose::User(user_id) => self.index().mark(user_id.as_bytes(), at).await,
            Whose::Everyone => self.mark_everyone(to_unix_millis(at)).await,
        };
        marked.map_err(|error| failed("mark the end of sessions in PostgreSQL", error))
    }

    async fn delete_linked(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, StoreError> {
        let after = Place::after(after);
        self.delete_page(&after, index::page(limit))
            .await
            .map_err(|error| failed("delete sessions of users from PostgreSQL", error))
    }
}

impl PostgresStore {
    fn index(&self) -> ServerIndex<'_, Postgres> {
        ServerIndex {
            connections: &self.connections,
            sql: &self.statements.index,
        }
    }

    /// Once no login is under way that has not seen it.
    async fn mark_everyone(&self, at: i64) -> sqlx::Result<()> {
        transact(&self.connections, || {
            let statements = self.statements.clone();
            move |connection: &mut PgConnection| -> Running<'_, _> {
                Box::pin(async move {
                    query::<Postgres>(&statements.lock_marks)
                        .execute(&mut *connection)
                        .await?;
                    query::<Postgres>(&statements.index.mark)
                        .bind(index::EVERYONE)
                        .bind(at)
                        .bind(at)
                        .execute(connection)
                        .await
                        .map(drop)
                })
            }
        })
        .await
    }

    async fn delete_page(&self, after: &Place, limit: usize) -> sqlx::Result<DeletedSessions> {
        let rows = fetch(&self.connections, || {
            query(&self.statements.delete_linked)
                .bind(&after.user_id[..])
                .bind(&after.handle[..])
                .bind(sql::limit(limit))
        })
        .await?;
        let Some(row) = rows.first() else {
            return Ok(DeletedSessions {
                deleted: 0,
                next: None,
            });
        };
        let last = Place {
            user_id: row.try_get(0)?,
            handle: row.try_get(1)?,
        };
        let is_last = row.try_get::<i64, _>(2)? < sql::limit(limit);
        Ok(DeletedSessions {
            deleted: sql::count(row.try_get::<i64, _>(3)?.unsigned_abs()),
            next: (!is_last).then(|| last.to_position()),
        })
    }
}
