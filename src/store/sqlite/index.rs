//! The sessions by user, in SQLite.
//!
//! What takes several statements is a transaction that has the write lock from its beginning: so nothing
//! changes between them, and none of them meets `SQLITE_BUSY_SNAPSHOT`. Dropped, it is rolled back.

use sqlx::{Sqlite, SqliteTransaction};
use time::OffsetDateTime;

use super::{SqliteStore, failed};
use crate::clock::to_unix_millis;
use crate::store::sql::{self, index};
use crate::store::{
    DeletedSessions, Handle, Link, Linked, LinkedSession, Position, StoreError, UserIndex, Whose,
    async_trait,
};

#[async_trait]
impl UserIndex for SqliteStore {
    async fn link(
        &self,
        user_id: &str,
        handle: &Handle,
        link: &Link,
    ) -> Result<Linked, StoreError> {
        let linked = async {
            let mut transaction = self.begin().await?;
            let sql = &self.statements.index;
            let user_id = user_id.as_bytes();
            let linked =
                index::link::<Sqlite>(&mut transaction, sql, user_id, handle, link).await?;
            transaction.commit().await?;
            Ok(linked)
        };
        linked
            .await
            .map_err(|error| failed("link a session to its user in SQLite", error))
    }

    async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(self.statements.index.extend.clone())
            .bind(to_unix_millis(expires_at))
            .bind(user_id.as_bytes())
            .bind(&handle.as_bytes()[..]);
        self.execute("extend a user's entry in SQLite", query)
            .await?;
        Ok(())
    }

    async fn unlink(&self, user_id: &str, handle: &Handle) -> Result<(), StoreError> {
        let query = sqlx::query(self.statements.index.unlink.clone())
            .bind(user_id.as_bytes())
            .bind(&handle.as_bytes()[..]);
        self.execute("unlink a session from its user in SQLite", query)
            .await?;
        Ok(())
    }

    async fn list(
        &self,
        user_id: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<LinkedSession>, StoreError> {
        sqlx::query(self.statements.index.list.clone())
            .bind(user_id.as_bytes())
            .bind(to_unix_millis(now))
            .fetch_all(&self.pool)
            .await
            .and_then(|rows| index::linked_sessions(&rows))
            .map_err(|error| failed("list a user's sessions in SQLite", error))
    }

    async fn mark(&self, whose: Whose<'_>, at: OffsetDateTime) -> Result<(), StoreError> {
        let key = match whose {
            Whose::User(user_id) => user_id.as_bytes(),
            Whose::Everyone => index::EVERYONE,
        };
        let query = sqlx::query(self.statements.index.mark.clone())
            .bind(key)
            .bind(to_unix_millis(at))
            .bind(to_unix_millis(at));
        self.execute("mark the end of sessions in SQLite", query)
            .await?;
        Ok(())
    }

    async fn delete_linked(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, StoreError> {
        let after = index::Place::after(after);
        self.delete_page(&after, index::page(limit))
            .await
            .map_err(|error| failed("delete sessions of users from SQLite", error))
    }
}

impl SqliteStore {
    async fn begin(&self) -> sqlx::Result<SqliteTransaction<'static>> {
        self.pool.begin_with("BEGIN IMMEDIATE").await
    }

    async fn delete_page(
        &self,
        after: &index::Place,
        limit: usize,
    ) -> sqlx::Result<DeletedSessions> {
        let mut transaction = self.begin().await?;
        let page: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(self.statements.page.clone())
            .bind(&after.user_id)
            .bind(&after.handle)
            .bind(sql::limit(limit))
            .fetch_all(&mut *transaction)
            .await?;
        let is_last = page.len() < limit;
        let Some((user_id, handle)) = page.into_iter().next_back() else {
            return Ok(DeletedSessions {
                deleted: 0,
                next: None,
            });
        };
        let last = index::Place { user_id, handle };
        let mut deleted = [0; 2];
        let statements = [
            &self.statements.delete_linked,
            &self.statements.delete_links,
        ];
        for (statement, deleted) in statements.into_iter().zip(&mut deleted) {
            *deleted = sqlx::query(statement.clone())
                .bind(&after.user_id)
                .bind(&after.handle)
                .bind(&last.user_id)
                .bind(&last.handle)
                .execute(&mut *transaction)
                .await?
                .rows_affected();
        }
        transaction.commit().await?;
        Ok(DeletedSessions {
            deleted: sql::count(deleted[0]),
            next: (!is_last).then(|| last.to_position()),
        })
    }
}
