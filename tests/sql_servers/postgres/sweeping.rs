//! Sweeps go by a time of their own, which is the expiry or before it: so what changes while a session lives is in no
//! index, and a change writes the row alone.

use std::ops::RangeInclusive;

use super::*;

const BEFORE: i64 = NOW - 3 * HOUR;

fn small(version: u64, expires_at: i64) -> Record {
    Record {
        user_id: Some("alice".into()),
        payload: vec![version as u8; 94].into(),
        ..record(version, expires_at)
    }
}

fn handle(number: u8) -> Handle {
    Handle::from_bytes([number; 16])
}

async fn update(store: &PostgresStore, handle: &Handle, from: u64, expires_at: i64) {
    let new = small(from + 1, expires_at);
    let outcome = store
        .update(handle, &new, v(from), from_unix_millis(BEFORE))
        .await;
    assert_eq!(outcome.unwrap(), Outcome::Done);
}

async fn touch(store: &PostgresStore, handle: &Handle, version: u64, expires_at: i64) {
    let outcome = store
        .touch(
            handle,
            from_unix_millis(expires_at),
            v(version),
            from_unix_millis(BEFORE),
        )
        .await;
    assert_eq!(outcome.unwrap(), Outcome::Done);
}

async fn count_where(place: &PostgresPlace, store: &PostgresStore, condition: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {} WHERE {condition}", place.table());
    ask(store.pool(), &sql).await
}

/// Few enough that all versions fit into one page, whatever keeps the server from clearing it up meanwhile.
#[tokio::test]
async fn a_session_that_lives_on_takes_no_new_entry_in_an_index() {
    let place = place!();
    let store = place.migrated(1).await;
    store.create(&HANDLE, &small(0, NOW)).await.unwrap();
    for version in 0..10 {
        let later = NOW + version as i64 * 1_000;
        touch(&store, &HANDLE, version, later).await;
        update(&store, &HANDLE, version, later + 500).await;
    }
    run(store.pool(), "SELECT pg_stat_force_next_flush()").await;
    let of_table = format!(
        "FROM pg_stat_user_tables WHERE schemaname = '{}' AND relname = 'cloakroom_sessions'",
        place.schema
    );
    let updates = format!("SELECT n_tup_upd {of_table}");
    wait_until(async || ask(store.pool(), &updates).await == 20).await;
    let in_place = format!("SELECT n_tup_hot_upd {of_table}");
    assert_eq!(ask(store.pool(), &in_place).await, 20);
}

#[tokio::test]
async fn a_sweep_finds_what_expired_behind_what_lives_on_and_puts_that_off() {
    let place = place!();
    let store = place.migrated(1).await;
    for number in 0..35 {
        let expires_at = NOW - 2 * HOUR + i64::from(number);
        let record = small(1, expires_at);
        store.create(&handle(number), &record).await.unwrap();
    }
    for number in 0..30 {
        match number % 2 {
            0 => touch(&store, &handle(number), 1, NOW + HOUR).await,
            _ => update(&store, &handle(number), 1, NOW + HOUR).await,
        }
    }
    let due = format!("sweep_at <= {NOW}");
    assert_eq!(count_where(&place, &store, &due).await, 35);

    assert_eq!(store.delete_expired(now(), 10).await.unwrap(), 5);
    assert_eq!(count(&place, &store).await, 30);
    assert_eq!(
        count_where(&place, &store, "sweep_at = expires_at").await,
        30
    );
    assert_eq!(store.delete_expired(now(), 10).await.unwrap(), 0);
    let when_expired = from_unix_millis(NOW + 2 * HOUR);
    assert_eq!(store.delete_expired(when_expired, 100).await.unwrap(), 30);
}

#[tokio::test]
async fn a_sweep_deletes_no_more_than_it_may_however_many_lookups_that_takes() {
    let place = place!();
    let store = place.migrated(1).await;
    for number in 0..40 {
        let expires_at = NOW - 2 * HOUR + i64::from(number);
        let record = small(1, expires_at);
        store.create(&handle(number), &record).await.unwrap();
        // Every other one lives on.
        if number % 2 == 0 {
            touch(&store, &handle(number), 1, NOW + HOUR).await;
        }
    }
    for left in [13, 6, 0] {
        let expected = if left > 0 { 7 } else { 6 };
        assert_eq!(store.delete_expired(now(), 7).await.unwrap(), expected);
        let expired = format!("expires_at <= {NOW}");
        assert_eq!(count_where(&place, &store, &expired).await, left);
    }
    assert_eq!(count(&place, &store).await, 20);
}

#[tokio::test]
async fn a_session_with_a_shorter_timeout_is_swept_when_that_has_passed() {
    let place = place!();
    let store = place.migrated(1).await;
    store
        .create(&HANDLE, &small(1, NOW + 9 * HOUR))
        .await
        .unwrap();
    store
        .create(&OTHER, &small(1, NOW + 9 * HOUR))
        .await
        .unwrap();
    update(&store, &HANDLE, 1, NOW - 2 * HOUR).await;
    // And with a longer one after that, when it has passed or before.
    update(&store, &OTHER, 1, NOW - 2 * HOUR).await;
    update(&store, &OTHER, 2, NOW + HOUR).await;
    assert_eq!(
        count_where(&place, &store, "sweep_at <= expires_at").await,
        2
    );

    assert_eq!(store.delete_expired(now(), 10).await.unwrap(), 1);
    assert!(store.load(&HANDLE).await.unwrap().is_none());
    assert!(store.load(&OTHER).await.unwrap().is_some());
}

#[tokio::test]
async fn a_sweep_leaves_what_expires_earlier_since_it_looked_to_the_next_one() {
    let place = place!();
    let store = place.migrated(1).await;
    store
        .create(&HANDLE, &small(1, NOW - 2 * HOUR))
        .await
        .unwrap();
    touch(&store, &HANDLE, 1, NOW + HOUR).await;
    let earlier = format!("UPDATE TABLE SET expires_at = {BEFORE}");
    let deleted = while_it_waits(&place, &store, &earlier, true, async |store| {
        store.delete_expired(now(), 10).await.unwrap()
    })
    .await;
    assert_eq!(deleted, 0);
    assert_eq!(store.delete_expired(now(), 10).await.unwrap(), 1);
}

/// Sessions of these numbers, which expire then, and are to be looked at one after another from then on.
async fn insert(
    place: &PostgresPlace,
    store: &PostgresStore,
    numbers: RangeInclusive<i64>,
    expires_at: i64,
    sweep_at: i64,
) {
    let (first, last) = numbers.into_inner();
    let sql = format!(
        "INSERT INTO {} SELECT decode(md5(n::text), 'hex'), 1, 0, {expires_at}, NULL, '\\x00', {sweep_at} + n
        FROM generate_series({first}, {last}) AS n",
        place.table()
    );
    run(store.pool(), &sql).await;
}

/// A page is 250 sessions.
#[tokio::test]
async fn a_sweep_goes_on_behind_pages_of_sessions_that_live_on() {
    let place = place!();
    let store = place.migrated(1).await;
    let expired = NOW - 2 * HOUR;
    insert(&place, &store, 1..=600, NOW + HOUR, BEFORE).await;
    insert(&place, &store, 601..=620, expired, expired).await;

    assert_eq!(store.delete_expired(now(), 15).await.unwrap(), 15);
    assert_eq!(store.delete_expired(now(), 15).await.unwrap(), 5);
    assert_eq!(count(&place, &store).await, 600);
    let due = format!("sweep_at <= {NOW}");
    assert_eq!(count_where(&place, &store, &due).await, 0);
}

/// Or one call would take as long as there are sessions that live on.
#[tokio::test]
async fn a_sweep_puts_off_50_000_sessions_that_live_on_and_leaves_the_others_to_the_next_one() {
    let place = place!();
    let store = place.migrated(1).await;
    let expired = NOW - 2 * HOUR;
    insert(&place, &store, 1..=60_000, NOW + HOUR, BEFORE).await;
    insert(&place, &store, 60_001..=60_003, expired, expired).await;
    let due = format!("sweep_at <= {NOW}");

    assert_eq!(store.delete_expired(now(), 10_000).await.unwrap(), 0);
    assert_eq!(count_where(&place, &store, &due).await, 10_003);
    assert_eq!(store.delete_expired(now(), 10_000).await.unwrap(), 3);
    assert_eq!(count_where(&place, &store, &due).await, 0);
}
