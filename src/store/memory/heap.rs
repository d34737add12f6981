//! Records in the order of their expiry.

use super::chunks::{Chunks, Popped};

/// A heap that has the record nearest to its expiry first, and from which any record can be taken.
///
/// Each place has four children, which makes half as many levels as two would: a record that moves costs a look
/// at the memory for each, and so does every one that it passes.
///
/// Each record knows its place in the heap, so that a touch or a delete finds it at once: every method
/// that moves records calls `placed(slot, place)` for each record that it moved.
#[derive(Debug)]
pub(super) struct Heap(Chunks<Item>);

/// Children of a place.
const CHILDREN: u32 = 4;

/// A record in a [`Heap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Unix milliseconds. Kept here and nowhere else, so that finding the order reads no record.
    pub(super) expires_at: i64,
    /// Where the record is in the table.
    pub(super) slot: u32,
}

impl Heap {
    pub(super) const fn new() -> Self {
        Self(Chunks::new())
    }

    pub(super) fn len(&self) -> u32 {
        self.0.len()
    }

    pub(super) fn first(&self) -> Option<Item> {
        (self.0.len() > 0).then(|| self.0[0])
    }

    pub(super) fn expires_at(&self, place: u32) -> i64 {
        self.0[place].expires_at
    }

    pub(super) fn push(&mut self, item: Item, placed: impl FnMut(u32, u32)) {
        let place = self.0.len();
        self.0.push(item);
        self.move_to_its_place(place, item, placed);
    }

    pub(super) fn remove(
        &mut self,
        place: u32,
        placed: impl FnMut(u32, u32),
    ) -> Option<Popped<Item>> {
        let popped = self.0.swap_remove(place);
        if place < self.0.len() {
            self.move_to_its_place(place, self.0[place], placed);
        }
        popped
    }

    pub(super) fn set_expires_at(
        &mut self,
        place: u32,
        expires_at: i64,
        placed: impl FnMut(u32, u32),
    ) {
        let slot = self.0[place].slot;
        self.move_to_its_place(place, Item { expires_at, slot }, placed);
    }

    /// Notes that the record at this place of the heap is in another slot of the table now.
    pub(super) fn set_slot(&mut self, place: u32, slot: u32) {
        self.0[place].slot = slot;
    }

    /// Puts an item where it belongs, from a place that is free for it.
    fn move_to_its_place(&mut self, mut place: u32, item: Item, mut placed: impl FnMut(u32, u32)) {
        while let Some(parent) = place.checked_sub(1).map(|above| above / CHILDREN)
            && item.expires_at < self.0[parent].expires_at
        {
            self.put(place, self.0[parent], &mut placed);
            place = parent;
        }
        while let Some(child) = self.first_child(place)
            && self.0[child].expires_at < item.expires_at
        {
            self.put(place, self.0[child], &mut placed);
            place = child;
        }
        self.put(place, item, &mut placed);
    }

    fn put(&mut self, place: u32, item: Item, placed: &mut impl FnMut(u32, u32)) {
        self.0[place] = item;
        placed(item.slot, place);
    }

    /// Of the children of a place, the one that is nearest to its expiry.
    fn first_child(&self, place: u32) -> Option<u32> {
        let first = place.checked_mul(CHILDREN)?.checked_add(1)?;
        let end = first.saturating_add(CHILDREN).min(self.0.len());
        (first..end).min_by_key(|&child| self.0[child].expires_at)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Checks the order, and that every record knows its place.
    fn assert_consistent(heap: &Heap, places: &[Option<u32>]) {
        for place in 0..heap.len() {
            let item = heap.0[place];
            assert!(heap.0[place.saturating_sub(1) / CHILDREN].expires_at <= item.expires_at);
            assert_eq!(places[item.slot as usize], Some(place));
        }
        assert_eq!(heap.len() as usize, places.iter().flatten().count());
    }

    #[test]
    fn whatever_is_pushed_moved_and_removed_the_order_holds_and_each_knows_its_place() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut heap = Heap::new();
        let mut places = [None; 100];
        for _ in 0..20_000 {
            let slot = rng.random_range(0..100_u32);
            let expires_at = rng.random_range(0..50);
            let place = places[slot as usize];
            let remove = rng.random_ratio(1, 3);
            if remove {
                places[slot as usize] = None;
            }
            let placed = |slot: u32, place| places[slot as usize] = Some(place);
            match place {
                Some(place) if remove => {
                    let removed = heap.remove(place, placed).unwrap().element;
                    assert_eq!(removed.slot, slot);
                }
                Some(place) => heap.set_expires_at(place, expires_at, placed),
                None if remove => {}
                None => heap.push(Item { expires_at, slot }, placed),
            }
            assert_consistent(&heap, &places);
        }
    }
}
