//! Sessions in this process's memory.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use time::OffsetDateTime;

use self::hash::HandleHasher;
use self::shard::{LockedShard, NEVER, Shard};
use self::table::Owner;
use self::users::Users;
use super::{
    DeletedSessions, Handle, Link, Linked, LinkedSession, Outcome, Position, Record, SWEEP_GRACE,
    SessionStore, StoreError, UserIndex, Version, Whose,
};
use crate::clock::to_unix_millis;
use crate::events::notices;
use crate::timeouts::millis;

mod chunks;
mod hash;
mod heap;
mod index;
mod shard;
mod table;
mod users;

/// Keeps sessions in this process's memory: for one process that may lose them when it ends, and for
/// tests.
///
/// Share it as an `Arc<MemoryStore>`, which is a store, too.
///
/// # Memory
///
/// A session with one small key takes 210 to 290 bytes, everything included. A loaded record shares its payload with
/// the store. Memory goes back as sessions end; no call ever pays for the growth of a table or for a million sessions
/// that expire at once, since all of that goes in small steps.
///
/// # Expiry
///
/// Nothing runs in the background. Each `create`, `update` and `touch` removes at most two records that
/// expired at least [`SWEEP_GRACE`] before the time of that call (a record's `created_at`, for a
/// `create`), so more of them go than new ones come. A `load` and a `delete` are not told the time, and
/// clean up nothing. No time is remembered from call to call: a clock that jumps ahead and back again
/// costs no more than what the calls in between removed. To get memory back without waiting for calls,
/// start a [`Sweeper`](crate::Sweeper).
///
/// # The limit
///
/// The store never holds more than [`max_records`](Self::max_records). A `create` beyond that first evicts
/// one record, and of the whole store that is:
///
/// 1. the record that expired first, if one has expired by the new record's `created_at`,
/// 2. else, of the records without a `user_id`, the one that is nearest to its expiry.
///
/// If all belong to users who are logged in, the `create` fails with
/// [`StoreErrorKind::Full`](super::StoreErrorKind::Full): a flood of anonymous visits logs nobody out.
///
/// The limit is on records and not on bytes: the layer's limit on the size of a session bounds those.
///
/// ```
/// use cloakroom::clock::from_unix_millis;
/// use cloakroom::store::{Handle, MemoryStore, Record, SessionStore, StoreError, Version};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), StoreError> {
/// let store = MemoryStore::new().max_records(2);
/// let record = Record {
///     version: Version::from_u64(1),
///     created_at: from_unix_millis(0),
///     expires_at: from_unix_millis(60_000),
///     user_id: None,
///     payload: b"opaque"[..].into(),
/// };
/// let alice = Record { user_id: Some("alice".into()), ..record.clone() };
/// let [first, second, third] = [1, 2, 3].map(|byte| Handle::from_bytes([byte; 16]));
///
/// store.create(&first, &alice).await?;
/// store.create(&second, &record).await?;
/// store.create(&third, &record).await?;
/// assert_eq!(store.len(), 2);
/// assert_eq!(store.load(&first).await?, Some(alice));
/// assert_eq!(store.load(&second).await?, None);
/// # Ok(())
/// # }
/// ```
pub struct MemoryStore {
    shards: Box<[Shard]>,
    hasher: HandleHasher,
    /// Records in the shards, and places for records that are about to be there.
    places: AtomicUsize,
    /// Records in the shards that belong to users.
    users: AtomicUsize,
    index: Users,
    max_records: usize,
    /// Live records that the limit cost.
    evictions: AtomicU64,
    /// Counts the calls that swept shards other than their own, so that each shard gets its turn.
    sweeps: AtomicUsize,
}

/// So that threads rarely wait for each other. More would cost small stores memory, and large ones gain
/// nothing: nothing that is done under a lock depends on how many records there are.
const SHARDS: usize = 64;

/// How many bits of a hash number the shards. They are the highest: the tables use the lowest.
const SHARD_BITS: u32 = SHARDS.ilog2();

const DEFAULT_MAX_RECORDS: usize = 1_000_000;

/// Slots are numbered with 32 bits, of which one number is not a slot.
const MOST_RECORDS: usize = u32::MAX as usize - 1;

/// How many expired records a call removes from its own shard, and as many from another. Both together are
/// more than the one that a `create` adds.
const SWEPT_PER_SHARD: usize = 1;

/// How many records are deleted under one lock by `delete_expired`, so that nobody waits for it for long.
const DELETED_PER_LOCK: usize = 8;

/// A record that may be evicted.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    shard: &'a Shard,
    owner: Owner,
    expires_at: i64,
}

impl MemoryStore {
    /// An empty store for up to 1,000,000 records.
    pub fn new() -> Self {
        let hasher = HandleHasher::new();
        Self {
            shards: (0..SHARDS).map(|_| Shard::new(hasher)).collect(),
            hasher,
            places: AtomicUsize::new(0),
            users: AtomicUsize::new(0),
            index: Users::default(),
            max_records: DEFAULT_MAX_RECORDS,
            evictions: AtomicU64::new(0),
            sweeps: AtomicUsize::new(0),
        }
    }

    /// How many records the store holds at most, expired ones that are not removed yet included. The
    /// default is 1,000,000, which is about 200 MB of small sessions; more than 4,294,967,294 is taken as
    /// that.
    ///
    /// It is meant for a store that is still empty. A limit below what the store holds deletes nothing:
    /// from then on each new record takes the place of another.
    #[must_use]
    pub fn max_records(mut self, max_records: usize) -> Self {
        self.max_records = max_records.min(MOST_RECORDS);
        self
    }

    /// How many records the store holds, expired ones that are not removed yet included. While records are
    /// being created, those may be counted already.
    pub fn len(&self) -> usize {
        self.places.load(Ordering::Acquire)
    }

    /// Whether the store holds no record at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shard that a handle belongs to, and the hash of the handle.
    fn shard_of(&self, handle: &Handle) -> (&Shard, u64) {
        let hash = self.hasher.hash(handle);
        let shard = &self.shards[(hash >> (u64::BITS - SHARD_BITS)) as usize];
        (shard, hash)
    }

    /// Adds a record, and returns the shard that it is in.
    fn insert(&self, handle: &Handle, record: &Record, now: i64) -> Result<&Shard, StoreError> {
        let (shard, hash) = self.shard_of(handle);
        let mut table = shard.lock(&self.users);
        if table.find(handle, hash).is_some() {
            return Err(StoreError::handle_in_use());
        }
        if self.take_place() {
            table.insert(handle, hash, record);
            return Ok(shard);
        }
        // The record to evict may be in any shard, and two locks at once invite a deadlock.
        drop(table);
        self.make_room(now)?;
        let mut table = shard.lock(&self.users);
        if table.find(handle, hash).is_some() {
            self.give_back_places(1);
            return Err(StoreError::handle_in_use());
        }
        table.insert(handle, hash, record);
        Ok(shard)
    }

    /// Removes a record; `true` if there was one.
    fn remove(&self, handle: &Handle) -> bool {
        let (shard, hash) = self.shard_of(handle);
        let mut table = shard.lock(&self.users);
        let Some(slot) = table.find(handle, hash) else {
            return false;
        };
        let removed = table.remove(slot);
        drop(table);
        self.give_back_places(1);
        drop(removed);
        true
    }

    /// Takes a place for one more record, if there is one.
    fn take_place(&self) -> bool {
        self.places
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |places| {
                (places < self.max_records).then_some(places + 1)
            })
            .is_ok()
    }

    /// Gives back the places of records that were removed. After their removal, never before: else there
    /// could be more records than places.
    fn give_back_places(&self, count: usize) {
        self.places.fetch_sub(count, Ordering::AcqRel);
    }

    /// Takes a place for one more record: a free one, or that of a record which it evicts.
    fn make_room(&self, now: i64) -> Result<(), StoreError> {
        loop {
            if self.take_place() {
                return Ok(());
            }
            match self.candidate(now) {
                Some(candidate) if self.evict(candidate, now) => return Ok(()),
                // Another call was faster, or a touch; the next candidate may be elsewhere.
                Some(_) => {}
                None if self.users.load(Ordering::Acquire) >= self.max_records => {
                    return Err(self.full());
                }
                // Some places belong to calls that are just about to put a record there.
                None => std::thread::yield_now(),
            }
        }
    }

    /// Of all records that may be evicted, the one that expires first.
    fn candidate(&self, now: i64) -> Option<Candidate<'_>> {
        let nobodys = self.first_to_expire(Owner::Nobody);
        let users = self
            .first_to_expire(Owner::User)
            .filter(|candidate| candidate.expires_at <= now);
        nobodys
            .into_iter()
            .chain(users)
            .min_by_key(|candidate| candidate.expires_at)
    }

    fn first_to_expire(&self, owner: Owner) -> Option<Candidate<'_>> {
        self.shards
            .iter()
            .map(|shard| Candidate {
                shard,
                owner,
                expires_at: shard.earliest(owner),
            })
            .min_by_key(|candidate| candidate.expires_at)
            .filter(|candidate| candidate.expires_at != NEVER)
    }

    /// Removes the candidate, or what became the first of its shard meanwhile and expires no later;
    /// `false` if there is no such record. Its place goes to the caller.
    fn evict(&self, candidate: Candidate<'_>, now: i64) -> bool {
        let mut table = candidate.shard.lock(&self.users);
        let Some((slot, expires_at)) = table.first(candidate.owner) else {
            return false;
        };
        if expires_at > candidate.expires_at {
            return false;
        }
        let removed = table.remove(slot);
        drop(table);
        drop(removed);
        if expires_at > now {
            let evictions = self.evictions.fetch_add(1, Ordering::Relaxed) + 1;
            notices::anonymous_session_evicted(evictions, self.max_records);
        }
        true
    }

    fn full(&self) -> StoreError {
        let max_records = self.max_records;
        StoreError::full(format!(
            "the memory store is full: each of its {max_records} records belongs to a user who is logged \
             in; set a higher limit with MemoryStore::max_records"
        ))
    }

    /// Removes a few records that expired long enough ago, from this shard and from the next one in turn:
    /// also where all calls are about few sessions, each shard gets its turn.
    fn sweep_a_little(&self, shard: &Shard, now: i64) {
        let cutoff = before_grace(now);
        if shard.has_expired_by(cutoff) {
            self.sweep(|| Some(shard.lock(&self.users)), cutoff, SWEPT_PER_SHARD);
        }
        let turn = self.sweeps.fetch_add(1, Ordering::Relaxed);
        let another = &self.shards[turn % SHARDS];
        if another.has_expired_by(cutoff) {
            self.sweep(|| another.try_lock(&self.users), cutoff, SWEPT_PER_SHARD);
        }
    }

    /// Removes up to `most` expired records of the shard that `lock` locks, and returns how many. What
    /// they held is freed after the unlock, but for the few further lines of the index.
    fn sweep<'a>(
        &self,
        lock: impl FnOnce() -> Option<LockedShard<'a>>,
        cutoff: i64,
        most: usize,
    ) -> usize {
        // Over two kilobytes, whatever `most` is: glibc's allocator lets small blocks that are freed pile up until a larger
        // one is asked for, and only then joins them. After thousands of records that would take one call milliseconds.
        let mut removed = Vec::with_capacity(DELETED_PER_LOCK.max(most));
        if let Some(mut table) = lock() {
            table.remove_expired(cutoff, most, &mut removed);
        }
        self.give_back_places(removed.len());
        removed.len()
    }

    /// Changes a record by `change`, if it is live and has this version.
    fn change(
        &self,
        handle: &Handle,
        expected: Version,
        now: i64,
        change: impl FnOnce(&mut table::Table, table::Slot),
    ) -> Outcome {
        let (shard, hash) = self.shard_of(handle);
        let mut table = shard.lock(&self.users);
        let outcome = match table.find(handle, hash) {
            Some(slot) if table.expires_at(slot) <= now => Outcome::Missing,
            Some(slot) if table.version(slot) != expected => Outcome::Conflict,
            Some(slot) => {
                change(&mut table, slot);
                Outcome::Done
            }
            None => Outcome::Missing,
        };
        drop(table);
        self.sweep_a_little(shard, now);
        outcome
    }
}

/// The latest expiry that is long enough ago to be swept.
fn before_grace(now: i64) -> i64 {
    now.saturating_sub(millis(SWEEP_GRACE))
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("len", &self.len())
            .field("max_records", &self.max_records)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        let now = to_unix_millis(record.created_at);
        let shard = self.insert(handle, record, now)?;
        self.sweep_a_little(shard, now);
        Ok(())
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        let (shard, hash) = self.shard_of(handle);
        let table = shard.lock(&self.users);
        Ok(table.find(handle, hash).map(|slot| table.record(slot)))
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let outcome = self.change(handle, expected, to_unix_millis(now), |table, slot| {
            table.replace(slot, record);
        });
        Ok(outcome)
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let expires_at = to_unix_millis(expires_at);
        let outcome = self.change(handle, expected, to_unix_millis(now), |table, slot| {
            if expires_at > table.expires_at(slot) {
                table.set_expires_at(slot, expires_at);
            }
        });
        Ok(outcome)
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        Ok(self.remove(handle))
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        let cutoff = before_grace(to_unix_millis(now));
        let start = self.sweeps.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut deleted = 0;
        let mut without_any = 0;
        // Never twice in a row the same shard: whoever waits for its lock would lose it again to this loop,
        // which runs already and is faster than a thread that wakes up.
        for shard in self.shards.iter().cycle().skip(start) {
            if deleted >= limit || without_any == SHARDS {
                break;
            }
            if shard.has_expired_by(cutoff) {
                let most = DELETED_PER_LOCK.min(limit - deleted);
                deleted += self.sweep(|| Some(shard.lock(&self.users)), cutoff, most);
                without_any = 0;
            } else {
                without_any += 1;
            }
        }
        Ok(deleted)
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        Some(self)
    }
}

#[async_trait]
impl UserIndex for MemoryStore {
    async fn link(
        &self,
        user_id: &str,
        handle: &Handle,
        link: &Link,
    ) -> Result<Linked, StoreError> {
        Ok(self.index.link(user_id, handle, link))
    }

    async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let expires_at = to_unix_millis(expires_at);
        self.index.extend(user_id, handle, expires_at);
        Ok(())
    }

    async fn unlink(&self, user_id: &str, handle: &Handle) -> Result<(), StoreError> {
        self.index.unlink(user_id, &[*handle]);
        Ok(())
    }

    async fn list(
        &self,
        user_id: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<LinkedSession>, StoreError> {
        Ok(self.index.list(user_id, to_unix_millis(now)))
    }

    async fn mark(&self, whose: Whose<'_>, at: OffsetDateTime) -> Result<(), StoreError> {
        let at = to_unix_millis(at);
        match whose {
            Whose::User(user_id) => self.index.mark_user(user_id, at),
            Whose::Everyone => self.index.mark_everyone(at),
        }
        Ok(())
    }

    async fn delete_linked(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, StoreError> {
        let mut after: Option<String> =
            after.map(|position| String::from_utf8_lossy(&position.0).into_owned());
        let mut deleted = 0;
        while deleted < limit {
            let Some((user_id, handles)) = self.index.next(after.as_deref()) else {
                return Ok(DeletedSessions {
                    deleted,
                    next: None,
                });
            };
            for handle in &handles {
                deleted += usize::from(self.remove(handle));
            }
            self.index.unlink(&user_id, &handles);
            after = Some(user_id.as_ref().to_owned());
        }
        let next = after.map(|user_id| Position(user_id.into_bytes()));
        Ok(DeletedSessions { deleted, next })
    }
}

#[cfg(test)]
mod tests;
