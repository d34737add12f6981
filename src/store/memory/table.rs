//! The records of one shard.

use std::sync::Arc;

use super::chunks::{Chunks, Popped};
use super::hash::HandleHasher;
use super::heap::{Heap, Item};
use super::index::{Bucket, Index};
use crate::clock::{from_unix_millis, to_unix_millis};
use crate::store::{Handle, Record, Version};

/// A hash table of records that also knows which expire first, and in which every step is small: growing
/// and shrinking go a few records at a time, so that no call pays for a million others.
///
/// - The records lie side by side in `nodes`. When one is removed, the last one takes its slot.
/// - The [`Index`] finds the slot of a handle.
/// - One [`Heap`] for each [`Owner`] has the records in the order of expiry.
#[derive(Debug)]
pub(super) struct Table {
    hasher: HandleHasher,
    nodes: Chunks<Node>,
    index: Index,
    heaps: [Heap; Owner::ALL.len()],
}

/// Where a record is, until the next change of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// Whose a record is, which decides whether it may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    User,
}

/// A record: 72 bytes, and 32 more in the index and the heaps. The expiry is in the heap alone.
#[derive(Debug)]
struct Node {
    handle: Handle,
    version: Version,
    created_at: i64,
    user_id: Option<Arc<str>>,
    payload: Arc<[u8]>,
    /// Where this record is in the heap of its owner.
    place: u32,
}

/// A record that was removed, and the memory that goes with it.
///
/// To free memory may take the allocator long: now and then it gives back many megabytes at once. So drop
/// this where no lock is held.
#[derive(Debug)]
#[must_use = "is to be dropped after the unlock"]
pub(super) struct Removed {
    _node: Option<Popped<Node>>,
    _bucket: Option<Popped<Bucket>>,
    _item: Option<Popped<Item>>,
}

impl Owner {
    pub(super) const ALL: [Self; 2] = [Self::Nobody, Self::User];

    fn of(user_id: &Option<Arc<str>>) -> Self {
        match user_id {
            None => Self::Nobody,
            Some(_) => Self::User,
        }
    }
}

impl Table {
    /// A table that hashes with a secret key: else a client who collects ids that fall into one bucket
    /// could make that one long.
    pub(super) fn new(hasher: HandleHasher) -> Self {
        Self {
            hasher,
            nodes: Chunks::new(),
            index: Index::new(),
            heaps: [Heap::new(), Heap::new()],
        }
    }

    pub(super) fn len_of(&self, owner: Owner) -> usize {
        self.heaps[owner as usize].len() as usize
    }

    /// The record of a handle with this hash, by the hasher that the table was made with.
    pub(super) fn find(&self, handle: &Handle, hash: u64) -> Option<Slot> {
        let is_it = |slot| self.nodes[slot].handle == *handle;
        self.index.find(hash, is_it).map(Slot)
    }

    /// The record in this slot. It shares the payload.
    pub(super) fn record(&self, slot: Slot) -> Record {
        let node = &self.nodes[slot.0];
        Record {
            version: node.version,
            created_at: from_unix_millis(node.created_at),
            expires_at: from_unix_millis(self.expires_at(slot)),
            user_id: node.user_id.clone(),
            payload: Arc::clone(&node.payload),
        }
    }

    pub(super) fn version(&self, slot: Slot) -> Version {
        self.nodes[slot.0].version
    }

    pub(super) fn expires_at(&self, slot: Slot) -> i64 {
        let node = &self.nodes[slot.0];
        self.heaps[Owner::of(&node.user_id) as usize].expires_at(node.place)
    }

    /// The record of this owner that expires first, and when.
    pub(super) fn first(&self, owner: Owner) -> Option<(Slot, i64)> {
        let first = self.heaps[owner as usize].first()?;
        Some((Slot(first.slot), first.expires_at))
    }

    /// Adds the record of a handle that has none, with the hash of that.
    pub(super) fn insert(&mut self, handle: &Handle, hash: u64, record: &Record) {
        let slot = self.nodes.len();
        self.nodes.push(Node {
            handle: *handle,
            version: record.version,
            created_at: to_unix_millis(record.created_at),
            user_id: record.user_id.clone(),
            payload: Arc::clone(&record.payload),
            place: 0,
        });
        self.index.insert(hash, slot);
        self.push_to_heap(slot, to_unix_millis(record.expires_at));
    }

    pub(super) fn replace(&mut self, slot: Slot, record: &Record) {
        let Slot(slot) = slot;
        let node = &mut self.nodes[slot];
        let before = Owner::of(&node.user_id);
        node.version = record.version;
        node.created_at = to_unix_millis(record.created_at);
        node.user_id.clone_from(&record.user_id);
        node.payload = Arc::clone(&record.payload);
        let expires_at = to_unix_millis(record.expires_at);
        if Owner::of(&record.user_id) == before {
            self.set_expires_at(Slot(slot), expires_at);
        } else {
            self.remove_from_heap(before, slot);
            self.push_to_heap(slot, expires_at);
        }
    }

    pub(super) fn set_expires_at(&mut self, slot: Slot, expires_at: i64) {
        let Self { nodes, heaps, .. } = self;
        let node = &nodes[slot.0];
        let place = node.place;
        heaps[Owner::of(&node.user_id) as usize].set_expires_at(
            place,
            expires_at,
            |slot, place| nodes[slot].place = place,
        );
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Removed {
        let Slot(slot) = slot;
        Removed {
            _bucket: self.index.remove(self.hash_of(slot), slot),
            _item: self.remove_from_heap(Owner::of(&self.nodes[slot].user_id), slot),
            _node: self.move_last_to(slot),
        }
    }

    /// Frees this slot, and has the last record live there.
    fn move_last_to(&mut self, slot: u32) -> Option<Popped<Node>> {
        let last = self.nodes.len() - 1;
        if slot != last {
            self.index.redirect(self.hash_of(last), last, slot);
            let node = &self.nodes[last];
            self.heaps[Owner::of(&node.user_id) as usize].set_slot(node.place, slot);
        }
        self.nodes.swap_remove(slot)
    }

    fn push_to_heap(&mut self, slot: u32, expires_at: i64) {
        let Self { nodes, heaps, .. } = self;
        let owner = Owner::of(&nodes[slot].user_id);
        heaps[owner as usize].push(Item { expires_at, slot }, |slot, place| {
            nodes[slot].place = place;
        });
    }

    fn remove_from_heap(&mut self, owner: Owner, slot: u32) -> Option<Popped<Item>> {
        let Self { nodes, heaps, .. } = self;
        let place = nodes[slot].place;
        heaps[owner as usize].remove(place, |slot, place| nodes[slot].place = place)
    }

    fn hash_of(&self, slot: u32) -> u64 {
        self.hasher.hash(&self.nodes[slot].handle)
    }
}

#[cfg(test)]
mod tests;
