//! A vector in chunks.

use std::ops::{Index, IndexMut};

const CHUNK: usize = 32;

/// A vector that grows and shrinks by a chunk at a time.
///
/// A `Vec` doubles: with a hundred thousand elements a single push moves them all, and half of the memory
/// may be unused from then on. Here no push moves anything but the pointers to the chunks, and memory goes
/// back with the elements.
#[derive(Debug)]
pub(super) struct Chunks<T>(Vec<Vec<T>>);

impl<T> Chunks<T> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn len(&self) -> u32 {
        let last = self.0.last().map_or(CHUNK, Vec::len);
        // The store holds fewer than 2^32 records.
        (self.0.len() * CHUNK + last - CHUNK) as u32
    }

    pub(super) fn push(&mut self, element: T) {
        match self.0.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(element),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
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
        let index = index as usize;
        &self.0[index / CHUNK][index % CHUNK]
    }
}

impl<T> IndexMut<u32> for Chunks<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        let index = index as usize;
        &mut self.0[index / CHUNK][index % CHUNK]
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
        let mut chunks = numbers(100);
        for number in (0..100).rev() {
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
    }

    #[test]
    fn memory_goes_back_with_the_elements() {
        let mut chunks = numbers(CHUNK as u32 + 1);
        assert_eq!(chunks.0.len(), 2);
        let emptied = chunks.pop().unwrap()._emptied;
        assert_eq!(emptied.map(|chunk| chunk.capacity()), Some(CHUNK));
        assert_eq!(chunks.0.len(), 1);
        assert!(chunks.pop().unwrap()._emptied.is_none());
    }
}
