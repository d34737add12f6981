//! Operations that overlap on one record: each is one step, before or after every other.

use std::sync::Arc;

use tokio::task::yield_now;

use super::support::{
    DAY, HOUR, MILLISECOND, ROUNDS, Subject, assert_same, handle, now, race, record, touched,
    version,
};
use crate::store::{Handle, Outcome, Record, SessionStore};

/// How many tasks run against each other.
const TASKS: usize = 24;

/// Of many `create`s of one handle one succeeds, and its record is the one stored.
pub async fn of_many_creates_one_wins(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let expires_at = now() + HOUR;
    for round in 0..ROUNDS {
        let created = race(TASKS, |task| {
            let store = store.clone();
            async move {
                let record = record(task as u64, expires_at);
                store.try_create(&handle(round), &record).await
            }
        })
        .await;
        let winner = only(&created, |created| *created, "of many creates");
        let expected = record(winner as u64, expires_at);
        let when = "after the race of many creates, for the one that succeeded";
        store.holds(&handle(round), &expected, when).await;
    }
}

/// Of many `update`s that expect one version one is [`Done`](Outcome::Done) and the others are a
/// [`Conflict`](Outcome::Conflict), and the record of the one is stored.
pub async fn of_many_updates_one_wins(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    let replacement = move |task: usize| record(100 + task as u64, start + HOUR);
    for round in 0..ROUNDS {
        store.create(&handle(round), &record(1, start + HOUR)).await;
        let outcomes = race(TASKS, |task| {
            let store = store.clone();
            async move {
                store
                    .update(&handle(round), &replacement(task), version(1), start)
                    .await
            }
        })
        .await;
        let winner = only(
            &outcomes,
            |outcome| *outcome == Outcome::Done,
            "of many updates that expect one version",
        );
        assert!(
            !outcomes.contains(&Outcome::Missing),
            "update: missing, though the record was there all the time"
        );
        let when = "after the race of many updates, for the one that was done";
        store
            .holds(&handle(round), &replacement(winner), when)
            .await;
    }
}

/// Of many `delete`s one says that there was a record.
pub async fn of_many_deletes_one_finds_the_record(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let expires_at = now() + HOUR;
    for round in 0..ROUNDS {
        store.create(&handle(round), &record(1, expires_at)).await;
        let found = race(TASKS, |_| {
            let store = store.clone();
            async move {
                let found = store.delete(&handle(round)).await;
                store.holds_none(&handle(round), "after a delete").await;
                found
            }
        })
        .await;
        only(&found, |found| *found, "of many deletes of one record");
    }
}

/// Of many `touch`es the latest expiry stays, in whatever order they take effect.
pub async fn of_many_touches_the_latest_expiry_stays(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    for round in 0..ROUNDS {
        let original = record(round, start + HOUR);
        store.create(&handle(round), &original).await;
        let outcomes = race(TASKS, |task| {
            let store = store.clone();
            // Not in the order in which they start.
            let expires_at = start + HOUR + MILLISECOND * (1 + task * 7 % TASKS) as u32;
            async move {
                store
                    .touch(&handle(round), expires_at, version(round), start)
                    .await
            }
        })
        .await;
        assert!(
            outcomes.iter().all(|outcome| *outcome == Outcome::Done),
            "touches of one version are not in each other's way: {outcomes:?}"
        );
        let latest = touched(&original, start + HOUR + MILLISECOND * TASKS as u32);
        let when = "after the race of many touches";
        store.holds(&handle(round), &latest, when).await;
    }
}

/// Increments add up, if each is a `load` and an `update` of the version loaded, tried again at a
/// conflict.
pub async fn increments_by_compare_and_swap_add_up(store: Arc<dyn SessionStore>) {
    const INCREMENTS: u64 = 3;
    const INCREMENTING: usize = 12;
    let store = Subject(store);
    let start = now();
    let counter = move |version: u64, count: u64| Record {
        payload: count.to_be_bytes()[..].into(),
        ..record(version, start + HOUR)
    };
    store.create(&handle(1), &counter(0, 0)).await;
    race(INCREMENTING, |task| {
        let store = store.clone();
        async move {
            // A new version for each try.
            let mut next_version = (task as u64 + 1) << 32;
            for _ in 0..INCREMENTS {
                loop {
                    let loaded = store.load(&handle(1)).await;
                    let Some(loaded) = loaded else {
                        panic!("load: the record is gone while it is updated");
                    };
                    let count = count_in(&loaded);
                    next_version += 1;
                    // So that they overlap on one thread, too.
                    yield_now().await;
                    let next = counter(next_version, count + 1);
                    match store.update(&handle(1), &next, loaded.version, start).await {
                        Outcome::Done => break,
                        Outcome::Conflict => {}
                        Outcome::Missing => panic!("update: missing, though nothing deletes"),
                    }
                }
            }
        }
    })
    .await;
    let Some(last) = store.load(&handle(1)).await else {
        panic!("load: the record is gone after its updates");
    };
    assert_eq!(
        count_in(&last),
        INCREMENTING as u64 * INCREMENTS,
        "increments by compare and swap"
    );
}

fn count_in(record: &Record) -> u64 {
    match record.payload[..].try_into() {
        Ok(bytes) => u64::from_be_bytes(bytes),
        Err(_) => panic!(
            "load: a payload of {} bytes, where all of 8 bytes were written",
            record.payload.len()
        ),
    }
}

/// A `load` during `update`s returns one of the records written, whole.
pub async fn loads_during_updates_see_whole_records(store: Arc<dyn SessionStore>) {
    const WRITES: u64 = 12;
    let store = Subject(store);
    let start = now();
    // Some longer than others, and than what is written in one piece.
    let written = move |number: u64| Record {
        payload: number
            .to_be_bytes()
            .repeat(1 + number as usize % 3 * 2_000)
            .into(),
        ..record(number, start + HOUR)
    };
    store.create(&handle(1), &written(0)).await;
    race(12, |task| {
        let store = store.clone();
        async move {
            for number in 0..WRITES {
                if task == 0 {
                    let next = written(number + 1);
                    let outcome = store
                        .update(&handle(1), &next, version(number), start)
                        .await;
                    assert_eq!(outcome, Outcome::Done, "update of the only writer");
                }
                // So that they overlap on one thread, too, and not in step.
                for _ in 0..(task as u64 + number) % 4 {
                    yield_now().await;
                }
                let Some(found) = store.load(&handle(1)).await else {
                    panic!("load: the record is gone while it is updated");
                };
                let expected = written(found.version.to_u64());
                assert_same(&found, &expected, "during an update");
            }
        }
    })
    .await;
    store
        .holds(&handle(1), &written(WRITES), "after the updates")
        .await;
}

/// An `update` among `touch`es is [`Done`](Outcome::Done), and no touch that expects the version before it
/// changes anything afterwards.
pub async fn an_update_among_touches_wins_and_stays(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let start = now();
    let updated = record(2, start + 2 * HOUR);
    for round in 0..ROUNDS {
        let odd_one = odd_one(round, TASKS);
        store.create(&handle(round), &record(1, start + HOUR)).await;
        race(TASKS, |task| {
            let store = store.clone();
            let updated = updated.clone();
            async move {
                if task == odd_one {
                    let outcome = store
                        .update(&handle(round), &updated, version(1), start)
                        .await;
                    assert_eq!(outcome, Outcome::Done, "update among touches");
                } else {
                    let outcome = store
                        .touch(&handle(round), start + DAY, version(1), start)
                        .await;
                    assert_ne!(outcome, Outcome::Missing, "touch where nothing deletes");
                }
            }
        })
        .await;
        let when = "after the race of an update and touches";
        store.holds(&handle(round), &updated, when).await;
    }
}

/// Once a `delete` has returned there is no record, however many `touch`es overlap with it.
pub async fn touches_do_not_revive_what_is_deleted(store: Arc<dyn SessionStore>) {
    let start = now();
    nothing_revives(Subject(store), move |store, handle, _| async move {
        store.touch(&handle, start + DAY, version(1), start).await
    })
    .await;
}

/// Once a `delete` has returned there is no record, however many `update`s overlap with it.
pub async fn updates_do_not_revive_what_is_deleted(store: Arc<dyn SessionStore>) {
    let start = now();
    nothing_revives(Subject(store), move |store, handle, task| async move {
        let replacement = record(100 + task as u64, start + DAY);
        store.update(&handle, &replacement, version(1), start).await
    })
    .await;
}

async fn nothing_revives<F, R>(store: Subject, write: F)
where
    F: Fn(Subject, Handle, usize) -> R + Send + Sync,
    R: Future<Output = Outcome> + Send + 'static,
{
    let expires_at = now() + HOUR;
    for round in 0..ROUNDS {
        let handle = handle(round);
        let odd_one = odd_one(round, TASKS);
        store.create(&handle, &record(1, expires_at)).await;
        race(TASKS, |task| {
            let store = store.clone();
            let write = write(store.clone(), handle, task);
            async move {
                if task == odd_one {
                    let found = store.delete(&handle).await;
                    assert!(found, "delete: false, though there was a record");
                    let when = "after a delete that overlapped with writes";
                    store.holds_none(&handle, when).await;
                } else {
                    write.await;
                }
            }
        })
        .await;
        let when = "after a delete and the writes that overlapped with it";
        store.holds_none(&handle, when).await;
    }
}

/// A `create` among `delete`s either finds the old record and fails, or comes after the `delete` that took
/// it; and what it created is there unless a later one took it, too.
pub async fn a_create_among_deletes_is_before_or_after_each(store: Arc<dyn SessionStore>) {
    let store = Subject(store);
    let expires_at = now() + HOUR;
    let new = record(2, expires_at);
    for round in 0..ROUNDS {
        let odd_one = odd_one(round, 8);
        store.create(&handle(round), &record(1, expires_at)).await;
        let results = race(8, |task| {
            let store = store.clone();
            let new = new.clone();
            async move {
                if task == odd_one {
                    (store.try_create(&handle(round), &new).await, false)
                } else {
                    (false, store.delete(&handle(round)).await)
                }
            }
        })
        .await;
        let created = results.iter().any(|(created, _)| *created);
        let deletions = results.iter().filter(|(_, deleted)| *deleted).count();
        match (created, deletions) {
            (true, 1) => {
                let when = "after a create that came last among deletes";
                store.holds(&handle(round), &new, when).await;
            }
            (false, 1) | (true, 2) => {
                let when = "after as many deletes as there were records";
                store.holds_none(&handle(round), when).await;
            }
            _ => panic!(
                "delete: {deletions} deletes found a record, where one was there before and the create \
                 among them {}",
                if created { "succeeded" } else { "was refused" }
            ),
        }
    }
}

/// Which of the tasks does something else than the others: another in each round. In the first round it is
/// the last to come to the start, which on a single thread is the first to leave it.
fn odd_one(round: u64, tasks: usize) -> usize {
    tasks - 1 - round as usize * tasks / ROUNDS as usize
}

/// The index of the only result of this kind.
fn only<T>(results: &[T], is: impl Fn(&T) -> bool, what: &str) -> usize {
    let winners: Vec<_> = (0..results.len())
        .filter(|&index| is(&results[index]))
        .collect();
    match winners[..] {
        [winner] => winner,
        _ => panic!("{what}, {} succeeded, and not one", winners.len()),
    }
}
