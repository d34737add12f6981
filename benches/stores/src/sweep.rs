//! How long it takes to get rid of expired sessions, and what that does to those who read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloakroom::store::{Handle, OffsetDateTime, SessionStore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::alone::Alone;
use crate::engine::Engine;
use crate::fill::{IDLE, Kind, fill};
use crate::measure::{percentile, random};
use crate::options::Options;
use crate::report::Report;
use crate::{Result, micros};

/// What `Sweeper` deletes at a time by default.
const BATCH: usize = 250;

const READERS: usize = 4;

/// Between two loads of a reader: so readers come at a steady rate, and do not fill up the machine.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) async fn sweep(
    engine: &dyn Engine,
    handles: &[Handle],
    options: &Options,
    alone: &mut Alone,
    report: &mut Report,
) -> Result<()> {
    let expired = options.expired();
    if expired == 0 {
        return Ok(());
    }
    if engine.self_sweeping().await?.is_some() {
        // Filling is part of it, since that has to be done in time.
        alone.begin().await?;
        return watch(engine, handles, options, report).await;
    }
    alone.before_filling(expired).await?;
    let mut gone = Vec::with_capacity(expired);
    let long_ago = OffsetDateTime::now_utc() - 2 * IDLE;
    fill(
        engine.filler(),
        Kind::Expired(long_ago),
        expired,
        options,
        &mut gone,
    )
    .await?;
    engine.settle().await?;
    alone.begin().await?;
    let quiet = Readers::start(engine.store(), handles);
    sleep(Duration::from_secs_f64(options.readers_for)).await;
    quiet.stop("readers without a sweep", report).await?;

    // The first half as `Sweeper` does it, the second without a pause.
    let half = expired / 2;
    let mut deleted = 0;
    for (how, most, pauses) in [
        ("as Sweeper does", half, true),
        ("without pauses", usize::MAX, false),
    ] {
        let readers = Readers::start(engine.store(), handles);
        let swept = Swept::of(&*engine.store(), most, pauses).await?;
        readers
            .stop(&format!("readers while sweeping {how}"), report)
            .await?;
        deleted += swept.deleted;
        swept.say(how, report)?;
    }
    if deleted != expired {
        return Err(format!("{deleted} sessions were swept of {expired} that had expired").into());
    }
    Ok(())
}

struct Swept {
    deleted: usize,
    took: Duration,
    batches: Vec<Duration>,
}

impl Swept {
    /// Deletes up to `most`, until none is left.
    async fn of(store: &dyn SessionStore, most: usize, pauses: bool) -> Result<Self> {
        let started = Instant::now();
        let (mut deleted, mut batches) = (0, Vec::new());
        while deleted < most {
            let batch_started = Instant::now();
            let in_batch = store
                .delete_expired(OffsetDateTime::now_utc(), BATCH)
                .await?;
            let took = batch_started.elapsed();
            deleted += in_batch;
            batches.push(took);
            if in_batch < BATCH {
                break;
            }
            if pauses {
                sleep(took).await;
            }
        }
        Ok(Self {
            deleted,
            took: started.elapsed(),
            batches,
        })
    }

    fn say(mut self, how: &str, report: &mut Report) -> Result<()> {
        let first = self.batches.first().copied().map_or(f64::NAN, micros);
        self.batches.sort();
        let rate = self.deleted as f64 / self.took.as_secs_f64();
        report.figure(&format!("swept {how}"), "sessions", &[self.deleted as f64])?;
        report.figure(
            &format!("swept {how}, time"),
            "s",
            &[self.took.as_secs_f64()],
        )?;
        report.figure(&format!("swept {how}, rate"), "/s", &[rate])?;
        report.figure(&format!("swept {how}, first batch"), "µs", &[first])?;
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("longest", 1.0)] {
            let figure = percentile(&self.batches, share);
            report.figure(&format!("swept {how}, batch {name}"), "µs", &[figure])?;
        }
        Ok(())
    }
}

/// The same where the engine removes what expired by itself: all at one moment, which is the worst case.
async fn watch(
    engine: &dyn Engine,
    handles: &[Handle],
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let count = async || Result::Ok(engine.self_sweeping().await?.unwrap_or_default());
    let expired = options.expired();
    let before = count().await?;
    // They are removed a minute after they expired. Before that, all have to be there.
    let patience = Duration::from_secs(5 + expired as u64 / 10_000);
    let moment = Instant::now() + patience;
    let expires_at = OffsetDateTime::now_utc() + patience - cloakroom::store::SWEEP_GRACE;
    let mut gone = Vec::with_capacity(expired);
    fill(
        engine.filler(),
        Kind::Expired(expires_at),
        expired,
        options,
        &mut gone,
    )
    .await?;
    if Instant::now() > moment || count().await? < before + expired {
        return Err(
            "filling took so long that the first sessions were gone before the last were there"
                .into(),
        );
    }
    let left = moment - Instant::now();
    let quiet = Readers::start(engine.store(), handles);
    let quiet_for = Duration::from_secs_f64(options.readers_for).min(left.mul_f64(0.8));
    sleep(quiet_for).await;
    quiet.stop("readers without a sweep", report).await?;
    tokio::time::sleep_until(moment.into()).await;
    let readers = Readers::start(engine.store(), handles);
    while count().await? > before {
        sleep(Duration::from_millis(20)).await;
        if moment.elapsed() > Duration::from_secs(600) {
            return Err("the engine did not remove what expired within ten minutes".into());
        }
    }
    let took = moment.elapsed().as_secs_f64();
    readers
        .stop("readers while the engine removes", report)
        .await?;
    report.figure("removed by the engine", "sessions", &[expired as f64])?;
    report.figure("removed by the engine, time", "s", &[took])?;
    report.figure(
        "removed by the engine, rate",
        "/s",
        &[expired as f64 / took],
    )
}

/// Tasks that load live sessions at a steady rate.
struct Readers {
    stop: Arc<AtomicBool>,
    running: JoinHandle<Result<Vec<Duration>>>,
}

impl Readers {
    fn start(store: Arc<dyn SessionStore>, handles: &[Handle]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let some = crate::measure::sample(handles, 100_000, 0);
        let is_stopped = stop.clone();
        let running = tokio::spawn(async move {
            let mut readers = JoinSet::new();
            for _ in 0..READERS {
                let (store, some, stop) = (store.clone(), some.clone(), is_stopped.clone());
                readers.spawn(async move { read(&*store, &some, &stop).await });
            }
            let mut latencies = Vec::new();
            while let Some(reader) = readers.join_next().await {
                latencies.extend(reader??);
            }
            latencies.sort();
            Ok(latencies)
        });
        Self { stop, running }
    }

    async fn stop(self, what: &str, report: &mut Report) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let latencies = self.running.await??;
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("longest", 1.0)] {
            report.figure(
                &format!("{what}: load {name}"),
                "µs",
                &[percentile(&latencies, share)],
            )?;
        }
        report.figure(&format!("{what}: loads"), "", &[latencies.len() as f64])
    }
}

async fn read(
    store: &dyn SessionStore,
    handles: &[Handle],
    stop: &AtomicBool,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    // At least one, however soon it is stopped.
    while latencies.is_empty() || !stop.load(Ordering::Relaxed) {
        let handle = &handles[random() as usize % handles.len()];
        let started = Instant::now();
        if store.load(handle).await?.is_none() {
            return Err("a reader found a live session gone".into());
        }
        latencies.push(started.elapsed());
        sleep(PAUSE).await;
    }
    Ok(latencies)
}
