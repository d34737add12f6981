//! From the hash of a handle to the slot of its record.

use super::chunks::{Chunks, Popped};

/// A hash table of slots that grows and shrinks by a bucket at a time (Litwin's linear hashing): no call pays
/// for a million others.
///
/// A bucket is one cache line, in which the hashes stand with the slots. So a handle that is not there mostly costs
/// one look at the memory, as every new session's has to be; and a bucket is split without a look at a record.
#[derive(Debug)]
pub(super) struct Index {
    buckets: Chunks<Bucket>,
    len: usize,
}

/// Entries that a line has room for.
const PER_LINE: usize = 7;

/// Records for each bucket, on average, of the seven that fit in its line. More would have more of them overflow, and
/// fewer would take more memory.
const PER_BUCKET: usize = 4;

#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Bucket(Line);

/// The entries of a bucket, the first ones first. Where they are more than fit, there is a further line.
#[derive(Debug, Default)]
struct Line {
    entries: [Entry; PER_LINE],
    more: Option<Box<Line>>,
}

/// Where a record is, with the low bits of the hash of its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    hash: u32,
    slot: u32,
}

impl Entry {
    const FREE: Self = Self {
        hash: 0,
        slot: u32::MAX,
    };

    fn is_free(self) -> bool {
        self.slot == Self::FREE.slot
    }
}

impl Default for Entry {
    fn default() -> Self {
        Self::FREE
    }
}

impl Index {
    pub(super) const fn new() -> Self {
        Self {
            buckets: Chunks::new(),
            len: 0,
        }
    }

    /// The slot with this hash that `is_it`.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let hash = hash as u32;
        let bucket = &self.buckets[self.bucket_of(hash)];
        bucket
            .0
            .entries()
            .find(|entry| entry.hash == hash && is_it(entry.slot))
            .map(|entry| entry.slot)
    }

    /// Adds a slot that is not there.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) {
        if self.len == self.buckets.len() as usize * PER_BUCKET {
            self.add_bucket();
        }
        self.len += 1;
        let hash = hash as u32;
        self.put(Entry { hash, slot });
    }

    /// Takes out a slot, which is there. What is returned may be freed outside of a lock.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) -> Option<Popped<Bucket>> {
        let bucket = self.bucket_of(hash as u32);
        self.buckets[bucket].0.remove(slot);
        self.len -= 1;
        (self.len <= (self.buckets.len() as usize - 1) * PER_BUCKET)
            .then(|| self.remove_bucket())
            .flatten()
    }

    /// Notes that the record in slot `from` is in slot `to` now.
    pub(super) fn redirect(&mut self, hash: u64, from: u32, to: u32) {
        let bucket = self.bucket_of(hash as u32);
        if let Some(entry) = self.buckets[bucket].0.entry_mut(from) {
            entry.slot = to;
        }
    }

    /// The bucket of a hash: as many low bits of it as number the buckets, and one bit less where that bucket
    /// does not exist yet.
    fn bucket_of(&self, hash: u32) -> u32 {
        let mask = u32::MAX
            .checked_shr((self.buckets.len() - 1).leading_zeros())
            .unwrap_or(0);
        let bucket = hash & mask;
        if bucket < self.buckets.len() {
            bucket
        } else {
            bucket & (mask >> 1)
        }
    }

    fn put(&mut self, entry: Entry) {
        let bucket = self.bucket_of(entry.hash);
        self.buckets[bucket].0.push(entry);
    }

    /// Adds a bucket, and moves to it what belongs there: all of that is in the bucket whose number lacks the
    /// highest bit.
    fn add_bucket(&mut self) {
        let added = self.buckets.len();
        self.buckets.push(Bucket::default());
        if let Some(highest) = added.checked_ilog2() {
            let split = added ^ (1 << highest);
            let Bucket(line) = std::mem::take(&mut self.buckets[split]);
            self.put_all(&line);
        }
    }

    fn remove_bucket(&mut self) -> Option<Popped<Bucket>> {
        let mut popped = self.buckets.pop()?;
        let Bucket(line) = std::mem::take(&mut popped.element);
        if self.buckets.len() > 0 {
            self.put_all(&line);
        }
        Some(popped)
    }

    fn put_all(&mut self, line: &Line) {
        for entry in line.entries() {
            self.put(*entry);
        }
    }
}

impl Line {
    /// This line and those behind it.
    fn lines(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |line| line.more.as_deref())
    }

    /// The entries of all of them.
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.lines()
            .flat_map(|line| &line.entries)
            .take_while(|entry| !entry.is_free())
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        let mut line = self;
        loop {
            if let Some(place) = line.entries.iter().position(|entry| entry.slot == slot) {
                return Some(&mut line.entries[place]);
            }
            line = line.more.as_deref_mut()?;
        }
    }

    fn push(&mut self, entry: Entry) {
        let mut line = self;
        loop {
            if let Some(free) = line.entries.iter_mut().find(|entry| entry.is_free()) {
                *free = entry;
                return;
            }
            line = line.more.get_or_insert_default();
        }
    }

    /// Takes out the last entry; `None` if there is none.
    fn pop(&mut self) -> Option<Entry> {
        if let Some(more) = &mut self.more
            && let Some(entry) = more.pop()
        {
            if more.entries[0].is_free() {
                self.more = None;
            }
            return Some(entry);
        }
        let last = self.entries.iter_mut().rfind(|entry| !entry.is_free())?;
        Some(std::mem::take(last))
    }

    /// Takes out the entry of a slot; the last one takes its place.
    fn remove(&mut self, slot: u32) {
        if let Some(last) = self.pop()
            && last.slot != slot
            && let Some(entry) = self.entry_mut(slot)
        {
            *entry = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Checks that each slot is found by its hash and no other is, and that no bucket or line is there in vain.
    fn assert_consistent(index: &Index, model: &HashMap<u32, u64>) {
        assert_eq!(index.len, model.len());
        let buckets = index.buckets.len();
        assert_eq!(buckets as usize, model.len().div_ceil(PER_BUCKET));
        for (&slot, &hash) in model {
            assert_eq!(index.find(hash, |found| found == slot), Some(slot));
            assert_eq!(index.find(hash ^ 1 << 20, |found| found == slot), None);
        }
        let mut entries = 0;
        for bucket in 0..buckets {
            let line = &index.buckets[bucket].0;
            let here = line.entries().count();
            let lines = line.lines().count();
            assert_eq!(lines, here.div_ceil(PER_LINE).max(1));
            entries += here;
        }
        assert_eq!(entries, model.len());
    }

    #[test]
    fn after_random_operations_it_agrees_with_a_plain_map() {
        let mut rng = StdRng::seed_from_u64(4);
        let mut index = Index::new();
        let mut model = HashMap::new();
        for round in 0..30_000_u32 {
            // It grows and shrinks in turns, so that buckets are split and merged at every size.
            let growing = !(round / 1_000).is_multiple_of(3);
            let slot = rng.random_range(0..2_000);
            match model.get(&slot).copied() {
                None if growing => {
                    // Many have the same low bits, so that buckets overflow.
                    let hash = rng.random::<u64>() & !rng.random_range(0..32);
                    index.insert(hash, slot);
                    model.insert(slot, hash);
                }
                Some(hash) if !growing => {
                    drop(index.remove(hash, slot));
                    model.remove(&slot);
                }
                Some(hash) => {
                    let other = slot + 2_000;
                    index.redirect(hash, slot, other);
                    assert_eq!(index.find(hash, |found| found == other), Some(other));
                    index.redirect(hash, other, slot);
                }
                None => {}
            }
            if round.is_multiple_of(64) {
                assert_consistent(&index, &model);
            }
        }
        for (slot, hash) in model.drain() {
            drop(index.remove(hash, slot));
        }
        assert_consistent(&index, &model);
    }

    #[test]
    fn equal_hashes_are_told_apart() {
        let mut index = Index::new();
        for slot in 0..100 {
            index.insert(7, slot);
        }
        for slot in 0..100 {
            assert_eq!(index.find(7, |found| found == slot), Some(slot));
        }
        for slot in 0..100 {
            drop(index.remove(7, slot));
            assert_eq!(index.find(7, |found| found == slot), None);
        }
        assert_eq!(index.buckets.len(), 0);
    }

    #[test]
    fn few_buckets_overflow_at_any_size() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut index = Index::new();
        for slot in 0..40_000 {
            index.insert(rng.random(), slot);
            if slot < 1_000 || !slot.is_multiple_of(1_000) {
                continue;
            }
            let lines = |bucket| index.buckets[bucket].0.lines().count();
            let further: usize = (0..index.buckets.len())
                .map(|bucket| lines(bucket) - 1)
                .sum();
            // A bucket that is not split yet holds up to eight records on average. Of all, about one of ten overflows.
            let share = further as f64 / f64::from(index.buckets.len());
            assert!(share < 0.15, "{share} at {slot} records");
            assert!((0..index.buckets.len()).all(|bucket| lines(bucket) < 5));
        }
    }

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!((size_of::<Bucket>(), align_of::<Bucket>()), (64, 64));
    }
}
