//! The ending of all that is linked, of whatever user.

use tokio::task::JoinSet;

use super::prefix::{NOTES, UserHash};
use super::users::members;
use super::{RedisStore, decimal};
use crate::store::{DeletedSessions, Position, SessionStore, StoreError};

/// For how many users at once sessions are deleted.
const AT_ONCE: usize = 16;

/// A user among those who are noted, by the order in which they are gone through: a user's score never gets
/// lower, so nobody who was noted before it began is passed over.
#[derive(Clone)]
struct Place {
    /// The number of the key.
    note: u8,
    score: i64,
    user: [u8; 32],
}

/// What was done for a user.
struct Batch {
    deleted: usize,
    handled: usize,
    was_last: bool,
}

impl RedisStore {
    pub(super) async fn delete_linked_after(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, StoreError> {
        let mut place = after.map_or(Ok(Place::before(0)), Place::decode)?;
        let (mut deleted, mut handled) = (0, 0);
        while handled < limit.max(1) {
            let users = self.noted_users(&place).await?;
            if users.is_empty() {
                if place.note + 1 >= NOTES {
                    return Ok(DeletedSessions {
                        deleted,
                        next: None,
                    });
                }
                place = Place::before(place.note + 1);
                continue;
            }
            let each = (limit.saturating_sub(handled) / users.len()).max(1);
            let batches = self.delete_linked_of(&users, each).await?;
            for batch in &batches {
                deleted += batch.deleted;
                handled += batch.handled.max(1);
            }
            // Who has more sessions than that is the next one again.
            let done = users.into_iter().zip(batches);
            let done = done.take_while(|(_, batch)| batch.was_last);
            if let Some((last, _)) = done.last() {
                place = last;
            }
        }
        Ok(DeletedSessions {
            deleted,
            next: Some(place.encode()),
        })
    }

    /// The next users of the same key.
    async fn noted_users(&self, after: &Place) -> Result<Vec<Place>, StoreError> {
        const DOING: &str = "list the users who are logged in, in Redis";
        let key = self.prefix.note(after.note);
        let mut skipped = 0;
        loop {
            let which = [after.score, skipped, AT_ONCE as i64].map(decimal);
            let list = self.read(DOING, &key, &which).await?;
            let mut read = 0;
            let users = members(&list).inspect(|_| read += 1);
            let users = users.filter_map(|(user, score)| {
                let user = user.try_into().ok()?;
                // Those of one score come in the order of their bytes.
                ((score, user) > (after.score, after.user)).then_some(Place {
                    note: after.note,
                    score,
                    user,
                })
            });
            let users: Vec<_> = users.collect();
            if !users.is_empty() || read < AT_ONCE {
                return Ok(users);
            }
            skipped += AT_ONCE as i64;
        }
    }

    /// Deletes up to `each` sessions of each of these users, of all users at once.
    async fn delete_linked_of(
        &self,
        users: &[Place],
        each: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        let mut tasks = JoinSet::new();
        for (index, user) in users.iter().enumerate() {
            let (store, user) = (self.clone(), UserHash(user.user));
            tasks.spawn(async move { (index, store.delete_linked_of_user(&user, each).await) });
        }
        let mut batches = Vec::with_capacity(users.len());
        while let Some(task) = tasks.join_next().await {
            let (index, batch) = task.map_err(|error| {
                StoreError::unavailable("not all sessions could be deleted from Redis", error)
            })?;
            batches.push((index, batch?));
        }
        batches.sort_by_key(|(index, _)| *index);
        Ok(batches.into_iter().map(|(_, batch)| batch).collect())
    }

    async fn delete_linked_of_user(
        &self,
        user: &UserHash,
        limit: usize,
    ) -> Result<Batch, StoreError> {
        let mut handles: Vec<_> = self.entries(user).await?.expiries.into_keys().collect();
        let was_last = handles.len() <= limit;
        handles.truncate(limit);
        let mut deleted = 0;
        for handle in &handles {
            deleted += usize::from(self.delete(handle).await?);
        }
        if !handles.is_empty() {
            self.unlink_all(user, &handles).await?;
        }
        Ok(Batch {
            deleted,
            handled: handles.len(),
            was_last,
        })
    }
}

impl Place {
    /// Before all users of this key.
    fn before(note: u8) -> Self {
        Self {
            note,
            score: 0,
            user: [0; 32],
        }
    }

    fn encode(&self) -> Position {
        let mut bytes = vec![self.note];
        bytes.extend(self.score.to_be_bytes());
        bytes.extend(self.user);
        Position(bytes)
    }

    fn decode(position: &Position) -> Result<Self, StoreError> {
        let parts = || {
            let (note, rest) = position.0.split_first()?;
            let (score, user) = rest.split_first_chunk()?;
            Some(Self {
                note: *note,
                score: i64::from_be_bytes(*score),
                user: user.try_into().ok()?,
            })
        };
        parts().ok_or_else(|| {
            let length = position.0.len();
            StoreError::unavailable(
                "the position is another store's",
                format!("it has {length} bytes"),
            )
        })
    }
}
