//! A part of the store under a lock of its own.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::hash::HandleHasher;
use super::table::{Owner, Removed, Table};

/// A table under a lock, and outside of the lock what all shards are searched for.
///
/// Aligned, so that threads that work on neighbouring shards do not share a cache line.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    table: Mutex<Table>,
    /// For each owner, when the first record expires, in unix milliseconds; [`NEVER`] without a record.
    /// As of the last unlock, so whoever acts on it checks again under the lock.
    earliest: [AtomicI64; Owner::ALL.len()],
}

/// How often a lock that somebody holds is tried again before the thread sleeps until it is free, and how often the
/// processor is told to pause before each try. On many processors that is some 70 µs, and longer than a sweep has the lock.
const TRIES: usize = 100;
const PAUSES: usize = 20;

/// Later than any expiry.
pub(super) const NEVER: i64 = i64::MAX;

/// The table of a shard, locked. What is known of it outside of the lock is brought up to date with the
/// unlock, so no change can be forgotten.
#[derive(Debug)]
pub(super) struct LockedShard<'a> {
    table: MutexGuard<'a, Table>,
    shard: &'a Shard,
    /// How many records of users the whole store holds.
    users: &'a AtomicUsize,
    users_before: usize,
}

impl Shard {
    pub(super) fn new(hasher: HandleHasher) -> Self {
        Self {
            table: Mutex::new(Table::new(hasher)),
            earliest: [const { AtomicI64::new(NEVER) }; Owner::ALL.len()],
        }
    }

    /// Locks the shard; `users` counts the records of users in all shards.
    pub(super) fn lock<'a>(&'a self, users: &'a AtomicUsize) -> LockedShard<'a> {
        // A thread that sleeps may be woken milliseconds after the lock is free, up to a tick of the scheduler. What is done
        // under the lock takes a hundredth of that.
        for _ in 0..TRIES {
            if let Some(locked) = self.try_lock(users) {
                return locked;
            }
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
        }
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        self.locked(table, users)
    }

    /// Locks the shard if nobody else has.
    pub(super) fn try_lock<'a>(&'a self, users: &'a AtomicUsize) -> Option<LockedShard<'a>> {
        let table = match self.table.try_lock() {
            Ok(table) => table,
            // Only a mistake in the table could poison the lock. Then the other sessions shall still be found,
            // rather than every call panic.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(self.locked(table, users))
    }

    fn locked<'a>(
        &'a self,
        table: MutexGuard<'a, Table>,
        users: &'a AtomicUsize,
    ) -> LockedShard<'a> {
        LockedShard {
            users_before: table.len_of(Owner::User),
            table,
            shard: self,
            users,
        }
    }

    pub(super) fn earliest(&self, owner: Owner) -> i64 {
        self.earliest[owner as usize].load(Ordering::Relaxed)
    }

    /// Whether a record expired at this time or before.
    pub(super) fn has_expired_by(&self, cutoff: i64) -> bool {
        Owner::ALL
            .iter()
            .any(|&owner| self.earliest(owner) <= cutoff)
    }
}

impl LockedShard<'_> {
    /// Moves up to `most` records that expired at `cutoff` or before into `removed`, which was empty.
    pub(super) fn remove_expired(&mut self, cutoff: i64, most: usize, removed: &mut Vec<Removed>) {
        for owner in Owner::ALL {
            while removed.len() < most
                && let Some((slot, expires_at)) = self.first(owner)
                && expires_at <= cutoff
            {
                removed.push(self.remove(slot));
            }
        }
    }
}

impl Deref for LockedShard<'_> {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.table
    }
}

impl DerefMut for LockedShard<'_> {
    fn deref_mut(&mut self) -> &mut Table {
        &mut self.table
    }
}

impl Drop for LockedShard<'_> {
    fn drop(&mut self) {
        let users = self.table.len_of(Owner::User);
        if users != self.users_before {
            // Wraps around where it is fewer than before, and so subtracts.
            let added = users.wrapping_sub(self.users_before);
            self.users.fetch_add(added, Ordering::AcqRel);
        }
        for owner in Owner::ALL {
            let earliest = self.table.first(owner).map_or(NEVER, |(_, at)| at);
            if earliest != self.shard.earliest(owner) {
                self.shard.earliest[owner as usize].store(earliest, Ordering::Relaxed);
            }
        }
    }
}
