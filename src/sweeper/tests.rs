use std::collections::VecDeque;
use std::sync::{Mutex, Weak};

use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::clock::from_unix_millis;
use crate::events::recorded;
use crate::store::{Handle, Outcome, Record, UserIndex, Version, async_trait};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Tokio's timers round up to whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

/// What a call of the store comes to.
#[derive(Debug)]
enum Step {
    Deletes(usize),
    Fails,
    Panics,
    Hangs,
    DeletesWhenTold(usize),
}

use Step::{Deletes, DeletesWhenTold, Fails, Hangs, Panics};

/// Does what it is told, call by call, and from then on has nothing to delete.
#[derive(Debug)]
struct ScriptedStore {
    script: Mutex<VecDeque<Step>>,
    calls: UnboundedSender<Call>,
    told: Arc<Semaphore>,
}

#[derive(Debug)]
struct Call {
    at: Instant,
    now: OffsetDateTime,
    limit: usize,
}

/// A store, and the calls that it gets. The calls end when nobody holds the store any more.
fn scripted(script: impl IntoIterator<Item = Step>) -> (Arc<ScriptedStore>, Calls) {
    let (sender, receiver) = unbounded_channel();
    let store = Arc::new(ScriptedStore {
        script: Mutex::new(script.into_iter().collect()),
        calls: sender,
        told: Arc::new(Semaphore::new(0)),
    });
    let calls = Calls {
        receiver,
        last: Instant::now(),
    };
    (store, calls)
}

struct Calls {
    receiver: UnboundedReceiver<Call>,
    last: Instant,
}

impl Calls {
    async fn next(&mut self) -> Call {
        let call = timeout(100 * DAY, self.receiver.recv()).await;
        call.expect("the sweeper is stuck").expect("it has ended")
    }

    /// How long it takes until the next call.
    async fn pause(&mut self) -> Duration {
        let at = self.next().await.at;
        let pause = at - self.last;
        self.last = at;
        pause
    }

    async fn assert_ended(&mut self, store: &Weak<ScriptedStore>) {
        let call = timeout(100 * DAY, self.receiver.recv()).await;
        let call = call.expect("something still holds the store");
        assert!(call.is_none(), "{call:?}");
        assert_eq!(store.strong_count(), 0);
    }
}

#[async_trait]
impl SessionStore for ScriptedStore {
    async fn create(&self, _: &Handle, _: &Record) -> Result<(), StoreError> {
        unreachable!("a sweeper creates nothing")
    }

    async fn load(&self, _: &Handle) -> Result<Option<Record>, StoreError> {
        unreachable!("a sweeper loads nothing")
    }

    async fn update(
        &self,
        _: &Handle,
        _: &Record,
        _: Version,
        _: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        unreachable!("a sweeper updates nothing")
    }

    async fn touch(
        &self,
        _: &Handle,
        _: OffsetDateTime,
        _: Version,
        _: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        unreachable!("a sweeper touches nothing")
    }

    async fn delete(&self, _: &Handle) -> Result<bool, StoreError> {
        unreachable!("a sweeper deletes only what expired")
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        let at = Instant::now();
        // A test that is over listens no more.
        let _ = self.calls.send(Call { at, now, limit });
        let step = self.script.lock().unwrap().pop_front();
        match step.unwrap_or(Deletes(0)) {
            Deletes(records) => Ok(records),
            Fails => Err(StoreError::unavailable("no way in", "door shut")),
            Panics => panic!("scripted"),
            Hangs => std::future::pending().await,
            DeletesWhenTold(records) => {
                self.told.acquire().await.unwrap().forget();
                Ok(records)
            }
        }
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        None
    }
}

fn assert_about(pause: Duration, expected: Duration) {
    let range = expected * 3 / 4..=expected * 5 / 4 + ROUNDING;
    assert!(
        range.contains(&pause),
        "{pause:?} is not about {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_sweep_deletes_batches_until_one_is_not_full() {
    let (store, mut calls) = scripted([Deletes(7), Deletes(7), Deletes(6)]);
    let events = recorded::events();
    let _sweeper = Sweeper::builder(store).batch(7).spawn(MINUTE);
    let first = calls.next().await;
    assert_eq!(first.limit, 7);
    calls.last = first.at;
    for _ in 0..2 {
        assert!(calls.pause().await <= ROUNDING);
    }
    assert_about(calls.pause().await, MINUTE);
    assert_eq!(
        events.taken()[0],
        "INFO deleted expired sessions event=\"swept\" deleted=20"
    );
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_finds_nothing_is_told_to_debuggers_only() {
    let (store, mut calls) = scripted([]);
    let events = recorded::events();
    let _sweeper = Sweeper::spawn(store, MINUTE);
    calls.next().await;
    calls.next().await;
    assert_eq!(
        events.taken()[0],
        "DEBUG deleted expired sessions event=\"swept\" deleted=0"
    );
}

#[tokio::test(start_paused = true)]
async fn the_defaults_are_250_records_by_the_systems_clock() {
    let (store, mut calls) = scripted([]);
    let before = OffsetDateTime::now_utc();
    let _sweeper = Sweeper::spawn(store, MINUTE);
    let call = calls.next().await;
    assert_eq!(call.limit, 250);
    assert!((before..=OffsetDateTime::now_utc()).contains(&call.now));
}

#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> OffsetDateTime {
        from_unix_millis(1_700_000_000_123)
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_judged_by_the_clock_that_was_set() {
    let (store, mut calls) = scripted([]);
    let _sweeper = Sweeper::builder(store).clock(StoppedClock).spawn(MINUTE);
    assert_eq!(calls.next().await.now, StoppedClock.now());
}

#[tokio::test(start_paused = true)]
async fn sweeps_are_an_interval_apart_give_or_take_a_quarter_at_random() {
    let (store, mut calls) = scripted([]);
    let _sweeper = Sweeper::spawn(store, MINUTE);
    assert!(calls.pause().await <= MINUTE + ROUNDING);
    let mut pauses = Vec::new();
    for _ in 0..50 {
        let pause = calls.pause().await;
        assert_about(pause, MINUTE);
        pauses.push(pause);
    }
    let spread = pauses
        .iter()
        .max()
        .unwrap()
        .saturating_sub(*pauses.iter().min().unwrap());
    assert!(spread > MINUTE / 10, "{spread:?}");
}

#[tokio::test(start_paused = true)]
async fn sweepers_that_start_together_sweep_first_at_different_times() {
    let mut starts = Vec::new();
    for _ in 0..50 {
        let (store, mut calls) = scripted([]);
        let _sweeper = Sweeper::spawn(store, MINUTE);
        starts.push(calls.pause().await);
    }
    assert!(*starts.iter().min().unwrap() < MINUTE / 3, "{starts:?}");
    assert!(*starts.iter().max().unwrap() > MINUTE * 2 / 3, "{starts:?}");
}

#[tokio::test(start_paused = true)]
async fn an_interval_of_no_time_or_for_ever_is_taken_as_the_nearest_that_makes_sense() {
    for (every, taken_as) in [(Duration::ZERO, SECOND), (Duration::MAX, 30 * DAY)] {
        let (store, mut calls) = scripted([Deletes(0), Deletes(0), Fails]);
        let _sweeper = Sweeper::spawn(store, every);
        assert!(calls.pause().await <= taken_as + ROUNDING);
        assert_about(calls.pause().await, taken_as);
        assert_about(calls.pause().await, taken_as);
        assert_about(calls.pause().await, (taken_as * 2).min(taken_as.max(HOUR)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_none_is_a_batch_of_one() {
    let (store, mut calls) = scripted([]);
    let _sweeper = Sweeper::builder(store).batch(0).spawn(MINUTE);
    assert_eq!(calls.next().await.limit, 1);
    calls.last = Instant::now();
    assert_about(calls.pause().await, MINUTE);
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_double_the_wait_up_to_an_hour_and_a_success_ends_that() {
    let (store, mut calls) = scripted([Fails, Fails, Fails, Fails, Fails, Fails, Fails, Fails]);
    let events = recorded::events();
    let _sweeper = Sweeper::spawn(store, MINUTE);
    calls.pause().await;
    for minutes in [2, 4, 8, 16, 32, 60, 60, 60] {
        assert_about(calls.pause().await, minutes * MINUTE);
    }
    assert_about(calls.pause().await, MINUTE);
    let events = events.taken();
    assert_eq!(
        events[1],
        "ERROR could not delete expired sessions; the sweeper tries again later \
         event=\"sweep_failed\" error=the store failed: no way in: door shut deleted=0 failures=2"
    );
    assert!(events[7].ends_with("failures=8"), "{events:?}");
    assert!(events[8].starts_with("DEBUG"), "{events:?}");
}

#[test]
fn no_number_of_failures_overflows_the_wait() {
    assert_eq!(backoff(MINUTE, u32::MAX), HOUR);
    assert_eq!(backoff(2 * HOUR, u32::MAX), 2 * HOUR);
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_some_batches_tells_what_those_deleted() {
    let (store, mut calls) = scripted([Deletes(250), Fails]);
    let events = recorded::events();
    let _sweeper = Sweeper::spawn(store, MINUTE);
    for _ in 0..3 {
        calls.next().await;
    }
    let events = events.taken();
    assert!(events[0].ends_with("deleted=250 failures=1"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_is_tried_again() {
    let (store, mut calls) = scripted([Panics, Deletes(3)]);
    let events = recorded::events();
    let _sweeper = Sweeper::spawn(store, MINUTE);
    calls.pause().await;
    assert_about(calls.pause().await, 2 * MINUTE);
    assert_about(calls.pause().await, MINUTE);
    let events = events.taken();
    assert!(
        events[0].contains("error=the store panicked "),
        "{events:?}"
    );
    assert!(events[1].contains("deleted=3"), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_given_up_after_the_time_limit_and_tried_again() {
    let (store, mut calls) = scripted([Hangs]);
    let weak = Arc::downgrade(&store);
    let events = recorded::events();
    let sweeper = Sweeper::builder(store).time_limit(5 * SECOND).spawn(MINUTE);
    calls.pause().await;
    assert_about(calls.pause().await - 5 * SECOND, 2 * MINUTE);
    let events = events.taken();
    assert!(events[0].contains("time_limit of 5s "), "{events:?}");
    sweeper.stop().await;
    // The call that hung was dropped, or it would still hold the store.
    calls.assert_ended(&weak).await;
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_when_the_handle_is_dropped() {
    let (store, mut calls) = scripted([]);
    let weak = Arc::downgrade(&store);
    let sweeper = Sweeper::spawn(store, MINUTE);
    calls.next().await;
    drop(sweeper);
    calls.assert_ended(&weak).await;
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_dropped_during_a_batch_leaves_that_to_its_end_and_starts_no_other() {
    let (store, mut calls) = scripted([DeletesWhenTold(250)]);
    let (weak, told) = (Arc::downgrade(&store), Arc::clone(&store.told));
    let events = recorded::events();
    let sweeper = Sweeper::spawn(store, MINUTE);
    calls.next().await;
    drop(sweeper);
    told.add_permits(1);
    calls.assert_ended(&weak).await;
    assert_eq!(
        events.taken(),
        ["INFO deleted expired sessions event=\"swept\" deleted=250"]
    );
}

#[tokio::test(start_paused = true)]
async fn stop_waits_for_the_batch_and_then_the_task_is_gone() {
    let (store, mut calls) = scripted([DeletesWhenTold(250)]);
    let (weak, told) = (Arc::downgrade(&store), Arc::clone(&store.told));
    let sweeper = Sweeper::spawn(store, MINUTE);
    calls.next().await;
    let mut stop = std::pin::pin!(sweeper.stop());
    // The clock of this test moves only once nothing else can.
    let early = timeout(SECOND, &mut stop).await;
    assert!(early.is_err(), "it did not wait for the batch");
    told.add_permits(1);
    stop.await;
    assert_eq!(weak.strong_count(), 0);
    calls.assert_ended(&weak).await;
}

#[tokio::test(start_paused = true)]
async fn stop_returns_at_once_between_sweeps() {
    let (store, mut calls) = scripted([]);
    let sweeper = Sweeper::spawn(store, HOUR);
    let stopped_at = calls.next().await.at;
    sweeper.stop().await;
    assert!(stopped_at.elapsed() <= ROUNDING);
}
