//! The hash of a handle.

use std::hash::{BuildHasher, RandomState};

use crate::store::Handle;

/// Hashes handles with a secret key.
///
/// Most handles are random already. The key is for clients who collect ids: without it they could keep those
/// that fall into one bucket, and make that one long. Nobody can choose a handle, nor sees a hash, so that one
/// multiplication folded in half will do, where `SipHash` takes many times as long.
#[derive(Clone, Copy)]
pub(super) struct HandleHasher {
    keys: [u64; 2],
}

impl HandleHasher {
    pub(super) fn new() -> Self {
        // What the standard library keys its own tables with.
        let random = |_| RandomState::new().hash_one(0);
        Self {
            keys: [0, 1].map(random),
        }
    }

    pub(super) fn hash(&self, handle: &Handle) -> u64 {
        let (words, _) = handle.as_bytes().as_chunks();
        let word = |number: usize| u64::from_ne_bytes(words[number]) ^ self.keys[number];
        let product = u128::from(word(0)) * u128::from(word(1));
        product as u64 ^ (product >> 64) as u64
    }
}

/// Says nothing of the keys.
impl std::fmt::Debug for HandleHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandleHasher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 65,536 handles that differ in 16 bits at `place`, the most that share the same ten bits of the hash.
    fn most_in_a_bucket(keys: [u64; 2], place: usize, bits: impl Fn(u64) -> usize) -> usize {
        let hasher = HandleHasher { keys };
        let mut buckets = [0; 1_024];
        for number in 0..=u16::MAX {
            let mut bytes = [0xA5; 16];
            bytes[place..place + 2].copy_from_slice(&number.to_be_bytes());
            buckets[bits(hasher.hash(&Handle::from_bytes(bytes)))] += 1;
        }
        buckets.into_iter().max().unwrap()
    }

    #[test]
    fn handles_that_differ_in_little_are_spread_by_the_low_bits_and_by_the_high_ones() {
        for keys in [
            [0x243F_6A88_85A3_08D3, 0x1319_8A2E_0370_7344],
            [0xA409_3822_299F_31D0, 0x082E_FA98_EC4E_6C89],
        ] {
            for place in 0..15 {
                let low = most_in_a_bucket(keys, place, |hash| (hash % 1_024) as usize);
                let high = most_in_a_bucket(keys, place, |hash| (hash >> 54) as usize);
                // 64 of them in each would be even.
                assert!(low < 160 && high < 160, "byte {place}: {low}, {high}");
            }
        }
    }

    #[test]
    fn two_stores_hash_differently() {
        let handle = Handle::from_bytes([7; 16]);
        let hashes = [0; 4].map(|_: i32| HandleHasher::new().hash(&handle));
        assert_ne!(hashes, [hashes[0]; 4]);
    }
}
