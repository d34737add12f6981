//! The sessions by user, in MySQL and MariaDB.

use sqlx::{MySql, Row};
use time::OffsetDateTime;

use super::{MySqlStore, failed};
use crate::store::sql::index::{self, Place};
use crate::store::sql::server_index::ServerIndex;
use crate::store::sql::statement::{execute, fetch, query};
use crate::store::sql::{self};
use crate::store::{
    DeletedSessions, Handle, Link, Linked, LinkedSession, Position, StoreError, UserIndex, Whose,
    async_trait,
};

#[async_trait]
impl UserIndex for MySqlStore {
    async fn link(
        &self,
        user_id: &str,
        handle: &Handle,
        link: &Link,
    ) -> Result<Linked, StoreError> {
        const DOING: &str = "link a session to its user in MySQL";
        Self::refuse_to_cut_user_id(DOING, user_id)?;
        let linked = self.index().link(user_id, handle, link).await;
        linked.map_err(|error| failed(DOING, error))
    }

    async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let extended = self.index().extend(user_id, handle, expires_at).await;
        extended.map_err(|error| failed("extend a user's entry in MySQL", error))
    }

    async fn unlink(&self, user_id: &str, handle: &Handle) -> Result<(), StoreError> {
        let unlinked = self.index().unlink(user_id, handle).await;
        unlinked.map_err(|error| failed("unlink a session from its user in MySQL", error))
    }

    async fn list(
        &self,
        user_id: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<LinkedSession>, StoreError> {
        let list = self.index().list(user_id, now).await;
        list.map_err(|error| failed("list a user's sessions in MySQL", error))
    }

    /// A login holds everyone's row, and its user's, from before it reads them until it has linked its session;
    /// so this waits for it, and those that come later wait for this.
    async fn mark(&self, whose: Whose<'_>, at: OffsetDateTime) -> Result<(), StoreError> {
        const DOING: &str = "mark the end of sessions in MySQL";
        let key = match whose {
            Whose::User(user_id) => {
                Self::refuse_to_cut_user_id(DOING, user_id)?;
                user_id.as_bytes()
            }
            Whose::Everyone => index::EVERYONE,
        };
        let marked = self.index().mark(key, at).await;
        marked.map_err(|error| failed(DOING, error))
    }

    async fn delete_linked(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, StoreError> {
        let after = Place::after(after);
        self.delete_page(&after, index::page(limit))
            .await
            .map_err(|error| failed("delete sessions of users from MySQL", error))
    }
}

impl MySqlStore {
    fn index(&self) -> ServerIndex<'_, MySql> {
        ServerIndex {
            connections: &self.connections,
            sql: &self.statements.index,
        }
    }

    async fn delete_page(&self, after: &Place, limit: usize) -> sqlx::Result<DeletedSessions> {
        let page = fetch(&self.connections, || {
            query(&self.statements.page)
                .bind(&after.user_id[..])
                .bind(&after.user_id[..])
                .bind(&after.handle[..])
                .bind(sql::limit(limit))
        })
        .await?;
        let Some(row) = page.last() else {
            return Ok(DeletedSessions {
                deleted: 0,
                next: None,
            });
        };
        let last = Place {
            user_id: row.try_get(0)?,
            handle: row.try_get(1)?,
        };
        let mut deleted = [0; 2];
        let statements = [
            &self.statements.delete_linked,
            &self.statements.delete_links,
        ];
        for (statement, deleted) in statements.into_iter().zip(&mut deleted) {
            let result = execute(&self.connections, || {
                query(statement)
                    .bind(&after.user_id[..])
                    .bind(&after.user_id[..])
                    .bind(&after.handle[..])
                    .bind(&last.user_id[..])
                    .bind(&last.user_id[..])
                    .bind(&last.handle[..])
            });
            *deleted = result.await?.rows_affected();
        }
        Ok(DeletedSessions {
            deleted: sql::count(deleted[0]),
            next: (page.len() >= limit).then(|| last.to_position()),
        })
    }
}
