//! Times and allocations.

use std::hint::black_box;
use std::time::Instant;

use tokio::runtime::Runtime;

use crate::apps::App;

/// Requests that are timed as one: more than the clock's own cost, and less than would use up the turn that the
/// runtime gives a task.
const BATCH: usize = 20;

/// Nanoseconds a request, over those of the app without a session.
pub(crate) struct Time {
    pub(crate) lowest: f64,
    pub(crate) quartiles: [f64; 3],
}

/// Nanoseconds a request, of each app in each round. The apps take turns, so that what disturbs the machine disturbs
/// all of them.
pub(crate) fn time(runtime: &Runtime, apps: &mut [App], rounds: usize) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::with_capacity(rounds); apps.len()];
    for round in 0..rounds + rounds / 10 {
        for (app, times) in apps.iter_mut().zip(&mut times) {
            let time = batch(runtime, app);
            // The first tenth warms up.
            if round >= rounds / 10 {
                times.push(time);
            }
        }
    }
    times
}

fn batch(runtime: &Runtime, app: &mut App) -> f64 {
    let requests: Vec<_> = (0..BATCH).map(|_| app.request()).collect();
    let mut responses = Vec::with_capacity(BATCH);
    let took = runtime.block_on(async {
        let started = Instant::now();
        for request in requests {
            responses.push(app.call(request).await);
        }
        started.elapsed()
    });
    black_box(responses);
    took.as_nanos() as f64 / BATCH as f64
}

/// What each app took over the first of them: the difference of the lowest, and the quartiles of the differences of
/// each round.
pub(crate) fn over_nothing(times: &[Vec<f64>]) -> impl Iterator<Item = Time> {
    let lowest = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    times.iter().map(move |of_app| {
        let both = of_app.iter().zip(&times[0]);
        let mut over: Vec<_> = both.map(|(time, nothing)| time - nothing).collect();
        over.sort_by(f64::total_cmp);
        Time {
            lowest: lowest(of_app) - lowest(&times[0]),
            quartiles: [1, 2, 3].map(|quarter| over[over.len() * quarter / 4]),
        }
    })
}

/// Allocations that a request takes: the median of some, since a table that grows counts only once.
pub(crate) fn allocations(runtime: &Runtime, app: &mut App) -> u64 {
    let mut counts: Vec<_> = (0..101)
        .map(|_| {
            let request = app.request();
            let counted = allocation_counter::measure(|| {
                black_box(runtime.block_on(app.call(request)));
            });
            counted.count_total
        })
        .collect();
    counts.sort_unstable();
    counts[counts.len() / 2]
}

/// Bytes that a session takes up in the store once its request is over.
pub(crate) fn live_bytes(runtime: &Runtime, app: &mut App, sessions: usize) -> f64 {
    let counted = allocation_counter::measure(|| {
        for _ in 0..sessions {
            let request = app.request();
            drop(runtime.block_on(app.call(request)));
        }
    });
    counted.bytes_current as f64 / sessions as f64
}
