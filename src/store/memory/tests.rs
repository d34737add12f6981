use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::clock::from_unix_millis;
use crate::events::recorded;
use crate::store::StoreErrorKind;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// The time from which the tests count, in unix milliseconds.
const START: i64 = 1_700_000_000_000;

fn at(millis: i64) -> OffsetDateTime {
    from_unix_millis(START + millis)
}

/// With the number spread over all of its bits, as those of a real handle are random: the hash is made for such.
fn handle(number: u32) -> Handle {
    let mut bytes = [0; 16];
    let odd = [0x9E37_79B9_7F4A_7C15_u64, 0xC2B2_AE3D_27D4_EB4F];
    for (half, odd) in bytes.chunks_exact_mut(8).zip(odd) {
        half.copy_from_slice(&u64::from(number).wrapping_mul(odd).to_be_bytes());
    }
    Handle::from_bytes(bytes)
}

fn version(number: u64) -> Version {
    Version::from_u64(number)
}

fn anonymous(created_at: i64, expires_at: i64) -> Record {
    Record {
        version: version(1),
        created_at: at(created_at),
        expires_at: at(expires_at),
        user_id: None,
        payload: b"payload"[..].into(),
    }
}

fn users(created_at: i64, expires_at: i64) -> Record {
    Record {
        user_id: Some("alice".into()),
        ..anonymous(created_at, expires_at)
    }
}

/// A store with room for so many records, filled with these under the handles 0, 1, 2, …
async fn full_of(records: &[Record]) -> MemoryStore {
    let store = MemoryStore::new().max_records(records.len());
    for (number, record) in (0..).zip(records) {
        store.create(&handle(number), record).await.unwrap();
    }
    store
}

/// Which of the handles 0, 1, 2, … up to the limit and a bit have a record.
async fn held(store: &MemoryStore) -> Vec<u32> {
    let mut held = Vec::new();
    for number in 0..store.max_records as u32 + 5 {
        if store.load(&handle(number)).await.unwrap().is_some() {
            held.push(number);
        }
    }
    held
}

/// The number of records in the tables, all locked at once.
fn count(store: &MemoryStore) -> usize {
    let tables: Vec<_> = store
        .shards
        .iter()
        .map(|shard| shard.lock(&store.users))
        .collect();
    tables
        .iter()
        .flat_map(|table| Owner::ALL.map(|owner| table.len_of(owner)))
        .sum()
}

#[tokio::test]
async fn a_loaded_record_shares_its_payload_and_user_with_the_store() {
    let store = MemoryStore::new();
    let record = users(0, HOUR);
    store.create(&handle(1), &record).await.unwrap();
    let loaded = store.load(&handle(1)).await.unwrap().unwrap();
    assert_eq!(loaded, record);
    assert!(Arc::ptr_eq(&loaded.payload, &record.payload));
    let again = store.load(&handle(1)).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&again.payload, &loaded.payload));
    assert!(Arc::ptr_eq(
        &again.user_id.unwrap(),
        &loaded.user_id.unwrap()
    ));
}

#[tokio::test]
async fn the_default_limit_is_a_million_records() {
    assert_eq!(MemoryStore::default().max_records, 1_000_000);
    assert_eq!(
        MemoryStore::new().max_records(usize::MAX).max_records,
        4_294_967_294
    );
}

#[tokio::test]
async fn beyond_the_limit_the_anonymous_record_nearest_to_expiry_goes_first() {
    let expiries = [5, 2, 9, 1, 7, 3, 8, 4, 6, 0].map(|hours| (hours + 1) * HOUR);
    let store = full_of(&expiries.map(|expires_at| anonymous(0, expires_at))).await;
    let mut rest: Vec<_> = (0..).zip(expiries).collect();
    rest.sort_by_key(|&(_, expires_at)| expires_at);
    for number in 10..15 {
        store
            .create(&handle(number), &anonymous(0, 24 * HOUR))
            .await
            .unwrap();
        let (evicted, _) = rest.remove(0);
        assert_eq!(store.load(&handle(evicted)).await.unwrap(), None);
        assert_eq!(count(&store), 10);
    }
    let mut expected: Vec<_> = rest.iter().map(|&(number, _)| number).collect();
    expected.extend(10..15);
    expected.sort_unstable();
    assert_eq!(held(&store).await, expected);
}

#[tokio::test]
async fn a_flood_of_anonymous_records_evicts_no_user() {
    let store = full_of(&[
        users(0, HOUR),
        anonymous(0, 9 * HOUR),
        users(0, 2 * HOUR),
        users(0, 3 * HOUR),
    ])
    .await;
    for number in 100..1_100 {
        store
            .create(&handle(number), &anonymous(0, 8 * HOUR))
            .await
            .unwrap();
        assert_eq!(count(&store), 4);
    }
    assert_eq!(held(&store).await, [0, 2, 3]);
}

#[tokio::test]
async fn where_all_belong_to_users_a_create_fails_and_names_the_limit_and_the_setting() {
    let store = full_of(&[users(0, HOUR), users(0, 2 * HOUR)]).await;
    for record in [anonymous(0, HOUR), users(0, HOUR)] {
        let error = store.create(&handle(2), &record).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Full);
        let text = error.to_string();
        assert!(text.contains("2 records"), "{text}");
        assert!(text.contains("MemoryStore::max_records"), "{text}");
    }
    assert_eq!(held(&store).await, [0, 1]);
    assert!(store.delete(&handle(0)).await.unwrap());
    store.create(&handle(2), &users(0, HOUR)).await.unwrap();
    assert_eq!(held(&store).await, [1, 2]);
}

#[tokio::test]
async fn expired_records_are_evicted_before_any_live_one() {
    let store = full_of(&[
        anonymous(0, 3 * HOUR),
        users(0, HOUR + 1),
        users(0, HOUR),
        anonymous(0, 2 * HOUR),
    ])
    .await;
    // Not even the grace of a sweep has passed.
    for (number, evicted) in [(4, 2), (5, 3), (6, 0)] {
        store
            .create(&handle(number), &anonymous(HOUR, 9 * HOUR))
            .await
            .unwrap();
        assert_eq!(store.load(&handle(evicted)).await.unwrap(), None);
    }
    assert_eq!(held(&store).await, [1, 4, 5, 6]);
    store
        .create(&handle(7), &anonymous(HOUR + 1, 9 * HOUR))
        .await
        .unwrap();
    assert_eq!(held(&store).await, [4, 5, 6, 7]);
}

#[tokio::test]
async fn a_login_protects_a_record_and_a_logout_gives_it_up() {
    let store = full_of(&[anonymous(0, HOUR), users(0, 2 * HOUR)]).await;
    for (number, record) in [(0, users(0, HOUR)), (1, anonymous(0, 2 * HOUR))] {
        let outcome = store
            .update(&handle(number), &record, version(1), at(0))
            .await;
        assert_eq!(outcome.unwrap(), Outcome::Done);
    }
    store.create(&handle(2), &users(0, HOUR)).await.unwrap();
    assert_eq!(held(&store).await, [0, 2]);
    let error = store
        .create(&handle(3), &anonymous(0, HOUR))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
}

#[tokio::test]
async fn a_touch_moves_a_record_back_in_the_order_of_eviction() {
    let store = full_of(&[anonymous(0, HOUR), anonymous(0, 2 * HOUR)]).await;
    let outcome = store
        .touch(&handle(0), at(3 * HOUR), version(1), at(0))
        .await;
    assert_eq!(outcome.unwrap(), Outcome::Done);
    store.create(&handle(2), &anonymous(0, HOUR)).await.unwrap();
    assert_eq!(held(&store).await, [0, 2]);
}

#[tokio::test]
async fn a_record_that_is_touched_just_before_it_is_evicted_stays() {
    let store = full_of(&[users(0, HOUR)]).await;
    let now = START + HOUR;
    let candidate = store.candidate(now).unwrap();
    // A request that began a millisecond earlier.
    let outcome = store
        .touch(&handle(0), at(2 * HOUR), version(1), at(HOUR - 1))
        .await;
    assert_eq!(outcome.unwrap(), Outcome::Done);
    assert!(!store.evict(candidate, now));
    assert_eq!(held(&store).await, [0]);
}

#[tokio::test]
async fn a_record_is_missing_from_the_millisecond_of_its_expiry_on() {
    for (now, expected) in [(HOUR - 1, Outcome::Done), (HOUR, Outcome::Missing)] {
        let store = full_of(&[users(0, HOUR)]).await;
        let touched = store.touch(&handle(0), at(HOUR), version(1), at(now)).await;
        assert_eq!(touched.unwrap(), expected);
        let updated = store
            .update(&handle(0), &users(0, HOUR), version(1), at(now))
            .await;
        assert_eq!(updated.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_handle_in_use_evicts_nothing() {
    let store = full_of(&[users(0, HOUR), anonymous(0, HOUR)]).await;
    let error = store
        .create(&handle(0), &anonymous(0, HOUR))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::HandleInUse);
    assert_eq!(held(&store).await, [0, 1]);
}

#[tokio::test]
async fn a_store_for_no_records_takes_none() {
    let store = MemoryStore::new().max_records(0);
    let error = store
        .create(&handle(0), &anonymous(0, HOUR))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
    assert!(store.is_empty());
}

#[tokio::test]
async fn a_flood_of_evictions_is_told_in_a_few_events() {
    let store = full_of(&[anonymous(0, HOUR)]).await;
    let events = recorded::events();
    for number in 1..=1_000 {
        store
            .create(&handle(number), &anonymous(0, HOUR))
            .await
            .unwrap();
    }
    let events = events.taken();
    assert_eq!(events.len(), 10, "at 1, 2, 4, … 512: {events:?}");
    assert!(
        events[0].contains("evictions=1 max_records=1"),
        "{events:?}"
    );
    assert!(events[9].contains("evictions=512 "), "{events:?}");
}

#[tokio::test]
async fn the_eviction_of_an_expired_record_is_no_news() {
    let store = full_of(&[users(0, HOUR)]).await;
    let events = recorded::events();
    store
        .create(&handle(1), &anonymous(HOUR, 2 * HOUR))
        .await
        .unwrap();
    assert_eq!(events.taken(), [""; 0]);
}

/// A store of a thousand records that expire at [`HOUR`], and one under handle 5000 that does not.
async fn about_to_expire() -> MemoryStore {
    let store = MemoryStore::new();
    for number in 0..1_000 {
        let record = match number % 2 {
            0 => anonymous(0, HOUR),
            _ => users(0, HOUR),
        };
        store.create(&handle(number), &record).await.unwrap();
    }
    store
        .create(&handle(5_000), &users(0, 24 * HOUR))
        .await
        .unwrap();
    store
}

#[tokio::test]
async fn calls_about_one_session_remove_all_expired_ones_a_few_at_a_time() {
    for touching in [true, false] {
        let store = about_to_expire().await;
        let now = at(HOUR + MINUTE);
        for _ in 0..5_000 {
            let before = count(&store);
            let outcome = if touching {
                store
                    .touch(&handle(5_000), at(24 * HOUR), version(1), now)
                    .await
            } else {
                let record = users(0, 24 * HOUR);
                store.update(&handle(5_000), &record, version(1), now).await
            };
            assert_eq!(outcome.unwrap(), Outcome::Done);
            assert!(before - count(&store) <= 2);
            assert_eq!(store.len(), count(&store));
        }
        assert_eq!(count(&store), 1);
    }
}

#[tokio::test]
async fn with_each_new_record_more_expired_ones_go_than_come() {
    let store = about_to_expire().await;
    for number in 10_000..15_000 {
        let before = count(&store);
        let record = anonymous(HOUR + MINUTE, 9 * HOUR);
        store.create(&handle(number), &record).await.unwrap();
        let after = count(&store);
        assert!(after <= before + 1 && before + 1 - after <= 2);
    }
    assert_eq!(count(&store), 5_001, "nothing expired is left");
}

#[tokio::test]
async fn a_call_about_a_record_that_expired_long_enough_ago_removes_it() {
    let store = MemoryStore::new();
    store.create(&handle(0), &users(0, HOUR)).await.unwrap();
    let outcome = store
        .touch(&handle(0), at(9 * HOUR), version(1), at(HOUR + MINUTE))
        .await;
    assert_eq!(outcome.unwrap(), Outcome::Missing);
    assert!(store.is_empty());
}

#[tokio::test]
async fn no_call_removes_what_expired_less_than_the_grace_ago() {
    let store = about_to_expire().await;
    let now = at(HOUR + MINUTE - 1);
    for _ in 0..200 {
        store
            .touch(&handle(5_000), at(24 * HOUR), version(1), now)
            .await
            .unwrap();
    }
    assert_eq!(store.delete_expired(now, 10_000).await.unwrap(), 0);
    assert_eq!(count(&store), 1_001);
}

#[tokio::test]
async fn a_clock_that_was_wrong_for_one_call_costs_no_more_than_that_call() {
    let store = about_to_expire().await;
    let record = anonymous(365 * 24 * HOUR, 366 * 24 * HOUR);
    store.create(&handle(6_000), &record).await.unwrap();
    let left = count(&store);
    assert!(left >= 1_002 - 2);
    for number in 7_000..7_200 {
        let record = anonymous(MINUTE, HOUR);
        store.create(&handle(number), &record).await.unwrap();
        store.load(&handle(number)).await.unwrap();
        store.delete(&handle(number)).await.unwrap();
    }
    assert_eq!(count(&store), left);
}

#[tokio::test]
async fn delete_expired_deletes_up_to_its_limit_and_only_what_expired() {
    let store = about_to_expire().await;
    let now = at(HOUR + MINUTE);
    for (limit, deleted) in [(0, 0), (1, 1), (499, 499), (499, 499), (499, 1), (499, 0)] {
        assert_eq!(store.delete_expired(now, limit).await.unwrap(), deleted);
    }
    assert_eq!((count(&store), store.len()), (1, 1));
    assert!(store.load(&handle(5_000)).await.unwrap().is_some());
}

#[tokio::test]
async fn delete_expired_takes_a_few_of_each_shard_in_turn_however_it_is_called() {
    for per_call in [1, DELETED_PER_LOCK, SHARDS * DELETED_PER_LOCK] {
        let store = MemoryStore::new();
        let all = 64 * DELETED_PER_LOCK * SHARDS;
        for number in 0..all as u32 {
            let record = anonymous(0, HOUR);
            store.create(&handle(number), &record).await.unwrap();
        }
        let records = || -> Vec<_> {
            let shards = store.shards.iter();
            shards
                .map(|shard| shard.lock(&store.users).len_of(Owner::Nobody))
                .collect()
        };
        let before = records();
        for _ in 0..SHARDS {
            let most = per_call.min(DELETED_PER_LOCK * SHARDS);
            let now = at(HOUR + MINUTE);
            assert_eq!(store.delete_expired(now, most).await.unwrap(), most);
            if per_call > DELETED_PER_LOCK {
                break;
            }
        }
        let each = per_call.min(DELETED_PER_LOCK);
        let after: Vec<_> = before.iter().map(|records| records - each).collect();
        assert_eq!(records(), after);
    }
}

#[tokio::test]
async fn a_touched_record_is_not_swept() {
    let store = MemoryStore::new();
    let record = anonymous(0, HOUR);
    store.create(&handle(0), &record).await.unwrap();
    store
        .touch(&handle(0), at(2 * HOUR), version(1), at(0))
        .await
        .unwrap();
    assert_eq!(store.delete_expired(at(HOUR * 2), 9).await.unwrap(), 0);
    let later = at(2 * HOUR + MINUTE);
    assert_eq!(store.delete_expired(later, 9).await.unwrap(), 1);
}

/// Runs this on eight threads that start at once.
fn on_eight_threads(run: impl Fn(u32) + Sync) {
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (barrier, run) = (&barrier, &run);
            scope.spawn(move || {
                barrier.wait();
                run(thread);
            });
        }
    });
}

/// The result of a future of this store, which is always ready at once.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("the memory store never waits"),
    }
}

#[test]
fn concurrent_creates_never_exceed_the_limit_and_evict_no_user() {
    let store = MemoryStore::new().max_records(20);
    for number in 0..5 {
        ready(store.create(&handle(number), &users(0, HOUR))).unwrap();
    }
    on_eight_threads(|thread| {
        for round in 0..500 {
            let number = 1_000 * (thread + 1) + round;
            let record = anonymous(0, HOUR + i64::from(round));
            ready(store.create(&handle(number), &record)).unwrap();
            if round % 5 == 0 {
                ready(store.delete(&handle(number))).unwrap();
            }
            let count = count(&store);
            assert!(count <= 20, "{count} records");
        }
    });
    for number in 0..5 {
        assert!(ready(store.load(&handle(number))).unwrap().is_some());
    }
    assert_eq!(store.len(), count(&store));
}

#[test]
fn anonymous_creates_never_fail_however_few_the_places_they_compete_for() {
    for limit in [1, 2, 9] {
        let store = MemoryStore::new().max_records(limit);
        on_eight_threads(|thread| {
            for round in 0..500 {
                let number = 1_000 * thread + round;
                ready(store.create(&handle(number), &anonymous(0, HOUR))).unwrap();
            }
        });
        assert_eq!((count(&store), store.len()), (limit, limit));
    }
}

#[test]
fn of_concurrent_creates_of_one_handle_one_succeeds_also_in_a_full_store() {
    const ROUNDS: u32 = 300;
    let store = MemoryStore::new().max_records(30);
    for number in 0..30 {
        ready(store.create(&handle(1_000 + number), &anonymous(0, HOUR))).unwrap();
    }
    let (created, barrier) = (AtomicUsize::new(0), Barrier::new(8));
    on_eight_threads(|_| {
        for number in 0..ROUNDS {
            // Later than all others, so that it is not what the losers evict.
            let record = anonymous(0, 2 * HOUR + i64::from(number));
            barrier.wait();
            match ready(store.create(&handle(number), &record)) {
                Ok(()) => {
                    created.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::HandleInUse),
            }
        }
    });
    assert_eq!(created.into_inner(), ROUNDS as usize);
    assert_eq!(store.len(), count(&store));
}

#[test]
fn concurrent_logins_fill_the_store_exactly_to_the_limit() {
    let store = MemoryStore::new().max_records(100);
    let created = AtomicUsize::new(0);
    on_eight_threads(|thread| {
        for round in 0..100 {
            let number = 1_000 * thread + round;
            match ready(store.create(&handle(number), &users(0, HOUR))) {
                Ok(()) => {
                    created.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::Full),
            }
        }
    });
    assert_eq!(created.into_inner(), 100);
    assert_eq!((count(&store), store.len()), (100, 100));
    assert_eq!(store.users.into_inner(), 100);
}

/// What the store should hold, searched through in full for everything.
struct Model {
    records: BTreeMap<Handle, Record>,
    limit: usize,
}

impl Model {
    /// Which record a new one would replace: `Err` if there is none to spare.
    fn evicted_at(&self, now: OffsetDateTime) -> Result<Option<Handle>, ()> {
        if self.records.len() < self.limit {
            return Ok(None);
        }
        self.records
            .iter()
            .filter(|(_, record)| record.user_id.is_none() || record.expires_at <= now)
            .min_by_key(|(_, record)| record.expires_at)
            .map(|(handle, _)| Some(*handle))
            .ok_or(())
    }

    fn outcome(&self, handle: &Handle, expected: Version, now: OffsetDateTime) -> Outcome {
        match self.records.get(handle) {
            Some(record) if record.expires_at <= now => Outcome::Missing,
            Some(record) if record.version != expected => Outcome::Conflict,
            Some(_) => Outcome::Done,
            None => Outcome::Missing,
        }
    }
}

#[test]
fn after_random_operations_the_store_agrees_with_a_naive_model() {
    for seed in 0..4 {
        let (swept, refused) = run_beside_a_naive_model(seed, usize::MAX);
        assert!(swept > 0 && refused == 0);
        let (_, refused) = run_beside_a_naive_model(seed, 40);
        // With seed 0 there are no users, with seed 3 three quarters of the records are theirs.
        assert!(if seed == 3 {
            refused > 0
        } else {
            seed > 0 || refused == 0
        });
    }
}

/// Returns how many records were swept in passing, and how many creates found the store full.
fn run_beside_a_naive_model(seed: u64, limit: usize) -> (usize, usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let store = MemoryStore::new().max_records(limit);
    let mut model = Model {
        records: BTreeMap::new(),
        limit,
    };
    let (mut swept, mut refused) = (0, 0);
    for round in 0..2_000_i64 {
        let now = round * 400;
        // No two records ever expire at the same time, so that the model knows which one goes.
        let expires_at = (now / 5_000 + rng.random_range(-2..40)) * 5_000 + round;
        let handle = handle(rng.random_range(0..120));
        let mut record = anonymous(now, expires_at);
        record.version = version(rng.random_range(0..2));
        record.payload = rng.random::<u64>().to_be_bytes()[..].into();
        if rng.random_ratio(seed as u32, 4) {
            record.user_id = Some("alice".into());
        }
        let expected = version(rng.random_range(0..2));
        match rng.random_range(0..10) {
            0..5 => {
                let created = ready(store.create(&handle, &record));
                if model.records.contains_key(&handle) {
                    assert_eq!(created.unwrap_err().kind(), StoreErrorKind::HandleInUse);
                } else if let Ok(evicted) = model.evicted_at(at(now)) {
                    created.unwrap();
                    evicted.map(|evicted| model.records.remove(&evicted));
                    model.records.insert(handle, record);
                } else {
                    assert_eq!(created.unwrap_err().kind(), StoreErrorKind::Full);
                    refused += 1;
                }
            }
            5..7 => {
                let outcome = ready(store.update(&handle, &record, expected, at(now))).unwrap();
                assert_eq!(outcome, model.outcome(&handle, expected, at(now)));
                if outcome == Outcome::Done {
                    model.records.insert(handle, record);
                }
            }
            7..9 => {
                let expiry = record.expires_at;
                let outcome = ready(store.touch(&handle, expiry, expected, at(now))).unwrap();
                assert_eq!(outcome, model.outcome(&handle, expected, at(now)));
                if outcome == Outcome::Done {
                    let touched = model.records.get_mut(&handle).unwrap();
                    touched.expires_at = touched.expires_at.max(expiry);
                }
            }
            _ => {
                let deleted = ready(store.delete(&handle)).unwrap();
                assert_eq!(deleted, model.records.remove(&handle).is_some());
            }
        }
        swept += assert_agrees(&store, &mut model, at(now));
    }
    let gone = ready(store.delete_expired(at(1_000 * HOUR), usize::MAX)).unwrap();
    assert_eq!(gone, model.records.len());
    assert!(store.is_empty());
    (swept, refused)
}

/// Takes from the model what the store may have swept in a call at this time, and returns how much that
/// was. Otherwise the two must hold the same.
fn assert_agrees(store: &MemoryStore, model: &mut Model, now: OffsetDateTime) -> usize {
    let before = model.records.len();
    model.records.retain(|handle, record| {
        let stored = ready(store.load(handle)).unwrap();
        match &stored {
            Some(stored) => assert_eq!(stored, record),
            None => assert!(record.expires_at <= now - SWEEP_GRACE),
        }
        stored.is_some()
    });
    let swept = before - model.records.len();
    assert!(swept <= 2, "one call swept {swept} records");
    assert_eq!(count(store), model.records.len());
    assert_eq!(store.len(), model.records.len());
    let users = model
        .records
        .values()
        .filter(|record| record.user_id.is_some());
    assert_eq!(store.users.load(Ordering::Relaxed), users.count());
    swept
}
