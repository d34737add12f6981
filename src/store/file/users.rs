//! The sessions by user.

use async_trait::async_trait;
use time::OffsetDateTime;

use super::FileStore;
use super::folder::{SHARDS, is_of_the_record};
use super::key::UserKey;
use crate::clock::to_unix_millis;
use crate::store::{
    DeletedSessions, Handle, Link, Linked, LinkedSession, Position, SessionStore, StoreError,
    UserIndex, Whose,
};

/// How many shards one call of `delete_linked` looks through: each is 16 directories to list.
const SHARDS_PER_CALL: usize = 16;

#[async_trait]
impl UserIndex for FileStore {
    async fn link(
        &self,
        user_id: &str,
        handle: &Handle,
        link: &Link,
    ) -> Result<Linked, StoreError> {
        let (user, handle, link) = (UserKey::of(user_id), *handle, *link);
        self.change(user.shard(), move |shard| shard.link(&user, &handle, &link))
            .await
    }

    async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let (user, handle) = (UserKey::of(user_id), *handle);
        let expires_at = to_unix_millis(expires_at);
        self.change(user.shard(), move |shard| {
            shard.change_list(&user, |list| list.extend(&handle, expires_at))
        })
        .await
    }

    async fn unlink(&self, user_id: &str, handle: &Handle) -> Result<(), StoreError> {
        self.unlink_all(UserKey::of(user_id), vec![*handle]).await
    }

    /// Under the lock, unlike a load: a login that has not seen a mark is on the list then.
    async fn list(
        &self,
        user_id: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<LinkedSession>, StoreError> {
        let (user, now) = (UserKey::of(user_id), to_unix_millis(now));
        self.change(user.shard(), move |shard| Ok(shard.list(&user)?.list(now)))
            .await
    }

    async fn mark(&self, whose: Whose<'_>, at: OffsetDateTime) -> Result<(), StoreError> {
        let at = to_unix_millis(at);
        match whose {
            Whose::User(user_id) => {
                let user = UserKey::of(user_id);
                self.change(user.shard(), move |shard| {
                    shard.change_list(&user, |list| list.mark(at))
                })
                .await
            }
            Whose::Everyone => {
                self.step(move |folder, caller| folder.mark_everyone(at, caller))
                    .await
            }
        }
    }

    async fn delete_linked(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, StoreError> {
        let limit = limit.max(1);
        let mut place = after.map(Place::decode).transpose()?.unwrap_or_default();
        let (mut deleted, mut handled) = (0, 0);
        for _ in 0..SHARDS_PER_CALL {
            let (shard, after) = (place.shard(), place.after);
            let users = self
                .step(move |folder, caller| folder.users(shard, after, caller))
                .await?;
            for user in users {
                if handled >= limit {
                    return Ok(place.going_on(deleted));
                }
                match self.delete_linked_of(user, limit - handled).await {
                    Ok(batch) => {
                        deleted += batch.deleted;
                        handled += batch.handled;
                        if !batch.was_last {
                            return Ok(place.going_on(deleted));
                        }
                    }
                    // The sessions of the others end all the same.
                    Err(error) if is_of_the_record(&error) => {
                        place.unreadable.get_or_insert(user);
                    }
                    Err(error) => return Err(error),
                }
                place.after = Some(user);
            }
            place.after = Some(UserKey::last_of(shard));
            if usize::from(shard) + 1 == SHARDS {
                return self.came_to_the_end(place, deleted).await;
            }
        }
        Ok(place.going_on(deleted))
    }
}

struct Batch {
    deleted: usize,
    handled: usize,
    was_last: bool,
}

impl FileStore {
    /// Deletes the records of up to `limit` sessions of this user, and then their entries.
    async fn delete_linked_of(&self, user: UserKey, limit: usize) -> Result<Batch, StoreError> {
        let list = self.change(user.shard(), move |shard| shard.list(&user));
        let mut handles = list.await?.handles();
        let was_last = handles.len() <= limit;
        handles.truncate(limit);
        let mut deleted = 0;
        for handle in &handles {
            deleted += usize::from(self.delete(handle).await?);
        }
        let handled = handles.len();
        if handled > 0 {
            self.unlink_all(user, handles).await?;
        }
        Ok(Batch {
            deleted,
            handled,
            was_last,
        })
    }

    async fn unlink_all(&self, user: UserKey, handles: Vec<Handle>) -> Result<(), StoreError> {
        self.change(user.shard(), move |shard| {
            shard.change_list(&user, |list| list.unlink(&handles))
        })
        .await
    }

    async fn came_to_the_end(
        &self,
        place: Place,
        deleted: usize,
    ) -> Result<DeletedSessions, StoreError> {
        if let Some(user) = place.unreadable {
            // What is wrong with it, with its path.
            self.change(user.shard(), move |shard| shard.list(&user))
                .await?;
        }
        Ok(DeletedSessions {
            deleted,
            next: None,
        })
    }
}

/// Where a call of `delete_linked` goes on.
#[derive(Default)]
struct Place {
    /// Everything up to here is done.
    after: Option<UserKey>,
    /// The first user whose list could not be read: an error, but one that is told at the end.
    unreadable: Option<UserKey>,
}

impl Place {
    fn shard(&self) -> u8 {
        match self.after {
            None => 0,
            Some(after) if after == UserKey::last_of(after.shard()) => {
                after.shard().saturating_add(1)
            }
            Some(after) => after.shard(),
        }
    }

    fn going_on(self, deleted: usize) -> DeletedSessions {
        let keys = self.after.iter().chain(&self.unreadable);
        let next = keys.flat_map(|key| *key.as_bytes()).collect();
        DeletedSessions {
            deleted,
            next: Some(Position(next)),
        }
    }

    fn decode(position: &Position) -> Result<Self, StoreError> {
        let mut keys = position.0.chunks(UserKey::BYTES).map(|bytes| {
            let bytes = <[u8; UserKey::BYTES]>::try_from(bytes);
            let of_another =
                |error| StoreError::unavailable("the position is another store's", error);
            bytes.map(UserKey::from_bytes).map_err(of_another)
        });
        Ok(Self {
            after: keys.next().transpose()?,
            unreadable: keys.next().transpose()?,
        })
    }
}
