use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn handle(number: u8) -> Handle {
    Handle::from_bytes([number; 16])
}

fn record(rng: &mut StdRng) -> Record {
    Record {
        version: Version::from_u64(rng.random()),
        created_at: from_unix_millis(rng.random_range(0..1_000)),
        expires_at: from_unix_millis(rng.random_range(0..100)),
        user_id: rng.random_ratio(1, 3).then(|| "alice".into()),
        payload: rng.random::<u64>().to_be_bytes()[..].into(),
    }
}

fn find(table: &Table, handle: &Handle) -> Option<Slot> {
    table.find(handle, table.hasher.hash(handle))
}

/// Checks each link between nodes, index and heaps.
fn assert_consistent(table: &Table, model: &HashMap<Handle, Record>) {
    assert_eq!(table.nodes.len() as usize, model.len());
    let in_heaps: usize = Owner::ALL.map(|owner| table.len_of(owner)).iter().sum();
    assert_eq!(in_heaps, model.len());
    for (handle, record) in model {
        let slot = find(table, handle).unwrap();
        assert_eq!(table.record(slot), *record);
    }
    for owner in Owner::ALL {
        let first = model
            .values()
            .filter(|record| Owner::of(&record.user_id) == owner)
            .map(|record| to_unix_millis(record.expires_at))
            .min();
        assert_eq!(table.first(owner).map(|(_, expires_at)| expires_at), first);
    }
}

#[test]
fn after_random_operations_the_table_and_its_indexes_agree_with_a_plain_map() {
    let mut rng = StdRng::seed_from_u64(2);
    let mut table = Table::new(HandleHasher::new());
    let mut model = HashMap::new();
    for round in 0..20_000_u32 {
        // The map grows and shrinks in turns, so that records change their slots at every size.
        let growing = (round / 500).is_multiple_of(2);
        let handle = handle(rng.random());
        match find(&table, &handle) {
            None if growing => {
                let record = record(&mut rng);
                table.insert(&handle, table.hasher.hash(&handle), &record);
                model.insert(handle, record);
            }
            Some(slot) if !growing || rng.random_ratio(1, 8) => {
                drop(table.remove(slot));
                model.remove(&handle);
            }
            Some(slot) if rng.random() => {
                let record = record(&mut rng);
                table.replace(slot, &record);
                model.insert(handle, record);
            }
            Some(slot) => {
                let expires_at = rng.random_range(0..100);
                table.set_expires_at(slot, expires_at);
                let record = model.get_mut(&handle).unwrap();
                record.expires_at = from_unix_millis(expires_at);
            }
            None => {}
        }
        assert_eq!(find(&table, &handle).is_some(), model.contains_key(&handle));
        if round.is_multiple_of(16) {
            assert_consistent(&table, &model);
        }
    }
}

#[test]
fn a_record_takes_no_more_room_than_was_planned() {
    assert_eq!(size_of::<Node>(), 72);
    assert_eq!(size_of::<Item>(), 16);
}

#[test]
fn room_for_what_is_deleted_under_one_lock_is_no_small_block() {
    // Of more than this, glibc's allocator joins what was freed before.
    assert!(super::super::DELETED_PER_LOCK * size_of::<Removed>() > 1_032);
}
