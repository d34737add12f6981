//! How long the operations take.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cloakroom::clock::{from_unix_millis, to_unix_millis};
use cloakroom::store::{Handle, OffsetDateTime, Outcome, Record, SessionStore, Version};
use tokio::task::JoinSet;

use crate::engine::Engine;
use crate::options::Options;
use crate::report::Report;
use crate::{Result, micros};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Load,
    Touch,
    Update,
    Create,
    Delete,
}

/// In this order, so that what is created is deleted again, and the number of sessions stays.
const OPERATIONS: [Operation; 5] = [
    Operation::Load,
    Operation::Touch,
    Operation::Update,
    Operation::Create,
    Operation::Delete,
];

/// One session that an operation is about. It was loaded before, so that only the operation is timed.
pub(crate) type Job = (Handle, Record);

pub(crate) async fn measure(
    engine: &dyn Engine,
    handles: &[Handle],
    callers: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let mut rounds: HashMap<(Operation, &str), Vec<f64>> = HashMap::new();
    for round in 0..options.rounds {
        let known = sample(handles, options.operations, round);
        let mut known = load_all(&*engine.store(), known).await?;
        let mut fresh: Vec<Job> = known
            .iter()
            .map(|(_, record)| (fresh_handle(), record.clone()))
            .collect();
        for operation in OPERATIONS {
            let jobs = match operation {
                Operation::Create | Operation::Delete => &mut fresh,
                _ => &mut known,
            };
            let log_before = engine.log_bytes().await?;
            let (latencies, took) = timed(engine.store(), operation, jobs, callers).await?;
            let mut add = |what, figure| rounds.entry((operation, what)).or_default().push(figure);
            add("p50", percentile(&latencies, 0.50));
            add("p99", percentile(&latencies, 0.99));
            add("rate", jobs.len() as f64 / took.as_secs_f64());
            if let (Some(before), Some(after)) = (log_before, engine.log_bytes().await?) {
                add(
                    "log",
                    after.saturating_sub(before) as f64 / jobs.len() as f64,
                );
            }
        }
    }
    for operation in OPERATIONS {
        for (what, unit) in [
            ("p50", "µs"),
            ("p99", "µs"),
            ("rate", "/s"),
            ("log", "bytes each"),
        ] {
            if let Some(rounds) = rounds.get(&(operation, what)) {
                let name = format!("{operation:?}").to_lowercase();
                report.figure(&format!("{name} {what}, callers: {callers}"), unit, rounds)?;
            }
        }
    }
    Ok(())
}

/// Does the operation to each of the sessions, and says how long each took, in order of length, and how long
/// all took.
pub(crate) async fn timed(
    store: Arc<dyn SessionStore>,
    operation: Operation,
    jobs: &mut Vec<Job>,
    callers: usize,
) -> Result<(Vec<Duration>, Duration)> {
    let count = jobs.len();
    let mut shares = std::mem::take(jobs);
    let share = count.div_ceil(callers);
    let mut running = JoinSet::new();
    let started = Instant::now();
    while !shares.is_empty() {
        let mut share = shares.split_off(shares.len().saturating_sub(share));
        let store = store.clone();
        running.spawn(async move {
            let mut latencies = Vec::with_capacity(share.len());
            for job in &mut share {
                latencies.push(once(&*store, operation, job).await?);
            }
            Result::Ok((share, latencies))
        });
    }
    let mut latencies = Vec::with_capacity(count);
    while let Some(done) = running.join_next().await {
        let (share, taken) = done??;
        jobs.extend(share);
        latencies.extend(taken);
    }
    let took = started.elapsed();
    latencies.sort();
    Ok((latencies, took))
}

async fn once(
    store: &dyn SessionStore,
    operation: Operation,
    (handle, record): &mut Job,
) -> Result<Duration> {
    let now = OffsetDateTime::now_utc();
    let expected = record.version;
    let mut new = record.clone();
    if matches!(operation, Operation::Touch | Operation::Update) {
        // As the layer does, whose updates extend the idle timeout, too.
        new.expires_at = from_unix_millis(to_unix_millis(record.expires_at) + 300_000);
    }
    let started = Instant::now();
    let worked = match operation {
        Operation::Load => store.load(handle).await?.is_some(),
        Operation::Touch => {
            store.touch(handle, new.expires_at, expected, now).await? == Outcome::Done
        }
        Operation::Update => {
            new.version = Version::from_u64(random());
            store.update(handle, &new, expected, now).await? == Outcome::Done
        }
        Operation::Create => store.create(handle, record).await.map(|()| true)?,
        Operation::Delete => store.delete(handle).await?,
    };
    let took = started.elapsed();
    *record = new;
    if worked {
        Ok(took)
    } else {
        Err(format!("a {operation:?} of a session that is there had no effect").into())
    }
}

pub(crate) async fn load_all(store: &dyn SessionStore, handles: Vec<Handle>) -> Result<Vec<Job>> {
    let mut loaded = Vec::with_capacity(handles.len());
    for handle in handles {
        let record = store
            .load(&handle)
            .await?
            .ok_or("a session that was made is not there")?;
        loaded.push((handle, record));
    }
    Ok(loaded)
}

/// So many of the handles, from all over, none twice, and others in each round.
pub(crate) fn sample(handles: &[Handle], most: usize, round: usize) -> Vec<Handle> {
    let count = most.min(handles.len());
    let stride = handles.len() / count;
    let offset = round % stride;
    handles
        .iter()
        .skip(offset)
        .step_by(stride)
        .take(count)
        .copied()
        .collect()
}

pub(crate) fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share) as usize;
    sorted
        .get(place.min(sorted.len().saturating_sub(1)))
        .copied()
        .map_or(f64::NAN, micros)
}

fn fresh_handle() -> Handle {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random().to_be_bytes());
    bytes[8..].copy_from_slice(&random().to_be_bytes());
    Handle::from_bytes(bytes)
}

/// Random enough for handles and versions that nobody guesses at (splitmix64).
pub(crate) fn random() -> u64 {
    static STATE: AtomicU64 = AtomicU64::new(0x5EED);
    let step = 0x9E37_79B9_7F4A_7C15;
    let mut z = STATE.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
