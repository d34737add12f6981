//! A vector in chunks.

use std::ops::{Index, IndexMut};

/// The first chunk has this many elements, and each one after it twice as many as the one before, up to the
/// largest: few elements take little memory, and many are not scattered all over it.
const FIRST: usize = 8;
const LARGEST: usize = 1_024;

/// How many chunks there are in which each is twice as large as the one before.
const GROWING: usize = (LARGEST / FIRST).ilog2() as usize + 1;

/// A vector that grows and shrinks by a chunk at a time.
///
/// A `Vec` doubles: with a hundred thousand elements a single push moves them all. Here no push moves anything
/// but the pointers to the chunks, memory goes back with the elements, and of many elements no more than one
/// chunk is unused; of fewer than some thousands up to half.
#[derive(Debug)]
pub(super) struct Chunks<T>(Vec<Vec<T>>);

impl<T> Chunks<T> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn len(&self) -> u32 {
        let Some(last) = self.0.last() else { return 0 };
        // The store holds fewer than 2^32 records.
        (start_of(self.0.len() - 1) + last.len()) as u32
    }

    pub(super) fn push(&mut self, element: T) {
        let chunks = self.0.len();
        match self.0.last_mut() {
            Some(chunk) if chunk.len() < size_of_chunk(chunks - 1) => chunk.push(element),
            _ => {
                let mut chunk = Vec::with_capacity(size_of_chunk(chunks));
                chunk.push(element);
                self.0.push(chunk);
            }
        }
    }

    pub(super) fn pop(&mut self) -> Option<Popped<T>> {
        let chunk = self.0.last_mut()?;
        let element = chunk.pop()?;
        let emptied = if chunk.is_empty() { self.0.pop() } else { None };
        Some(Popped {
            element,
            _emptied: emptied,
        })
    }

    /// Takes out an element, and puts the last one in its place.
    ///
    /// Panics if there is no such element, as indexing does.
    pub(super) fn swap_remove(&mut self, index: u32) -> Option<Popped<T>> {
        let mut popped = self.pop()?;
        if index != self.len() {
            std::mem::swap(&mut self[index], &mut popped.element);
        }
        Some(popped)
    }
}

/// How many elements the chunk of this number has room for.
fn size_of_chunk(chunk: usize) -> usize {
    FIRST << chunk.min(GROWING - 1)
}

/// The index of the first element of the chunk of this number.
fn start_of(chunk: usize) -> usize {
    match chunk.checked_sub(GROWING) {
        None => (FIRST << chunk) - FIRST,
        Some(further) => (FIRST << GROWING) - FIRST + further * LARGEST,
    }
}

/// The number of the chunk that this element is in, and its place there.
fn place_of(index: u32) -> (usize, usize) {
    // Counted from here, each growing chunk begins at a power of two.
    let index = index as usize + FIRST;
    match index.checked_sub(FIRST << GROWING) {
        None => {
            let power = index.ilog2();
            (
                power as usize - FIRST.ilog2() as usize,
                index - (1 << power),
            )
        }
        Some(further) => (GROWING + further / LARGEST, further % LARGEST),
    }
}

/// What was taken out of a vector.
#[derive(Debug)]
pub(super) struct Popped<T> {
    pub(super) element: T,
    /// The chunk that it was the last element of: whoever holds a lock may free it later.
    pub(super) _emptied: Option<Vec<T>>,
}

impl<T> Index<u32> for Chunks<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        let (chunk, place) = place_of(index);
        &self.0[chunk][place]
    }
}

impl<T> IndexMut<u32> for Chunks<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        let (chunk, place) = place_of(index);
        &mut self.0[chunk][place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: u32) -> Chunks<u32> {
        let mut chunks = Chunks::new();
        for number in 0..count {
            assert_eq!(chunks.len(), number);
            chunks.push(number);
        }
        chunks
    }

    #[test]
    fn elements_come_out_as_from_a_stack() {
        let mut chunks = numbers(4_100);
        for number in (0..4_100).rev() {
            assert_eq!(chunks[number], number);
            assert_eq!(chunks.pop().unwrap().element, number);
            assert_eq!(chunks.len(), number);
        }
        assert!(chunks.pop().is_none());
    }

    #[test]
    fn the_last_element_takes_the_place_of_a_removed_one() {
        let mut chunks = numbers(65);
        assert_eq!(chunks.swap_remove(3).unwrap().element, 3);
        assert_eq!((chunks[3], chunks.len()), (64, 64));
        assert_eq!(chunks.swap_remove(63).unwrap().element, 63);
        assert_eq!((chunks[62], chunks.len()), (62, 63));
        // Where a chunk ends, and where the next one begins.
        for count in [9, 10, 24, 25, 1_016, 1_017, 2_040, 2_041, 3_064, 3_065] {
            let mut chunks = numbers(count);
            assert_eq!(chunks.swap_remove(7).unwrap().element, 7);
            assert_eq!((chunks[7], chunks.len()), (count - 1, count - 1));
            let all: u64 = (0..count - 1).map(|index| u64::from(chunks[index])).sum();
            assert_eq!(all, (0..u64::from(count)).sum::<u64>() - 7);
        }
    }

    #[test]
    fn memory_goes_back_with_the_elements() {
        let mut chunks = numbers(FIRST as u32 + 1);
        assert_eq!(chunks.0.len(), 2);
        let emptied = chunks.pop().unwrap()._emptied;
        assert_eq!(emptied.map(|chunk| chunk.capacity()), Some(2 * FIRST));
        assert_eq!(chunks.0.len(), 1);
        assert!(chunks.pop().unwrap()._emptied.is_none());
    }

    #[test]
    fn chunks_grow_to_the_largest_and_no_push_moves_an_element() {
        let mut chunks = numbers(100);
        let first = std::ptr::from_ref(&chunks[0]);
        for number in 100..10_000 {
            chunks.push(number);
        }
        assert_eq!(std::ptr::from_ref(&chunks[0]), first);
        let sizes: Vec<_> = chunks.0.iter().map(Vec::capacity).collect();
        assert_eq!(sizes[..8], [8, 16, 32, 64, 128, 256, 512, 1_024]);
        assert!((0..10_000).all(|number| chunks[number] == number));
        assert_eq!(chunks.len(), 10_000);
    }
}
