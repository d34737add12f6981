//! What each store costs: bytes per session, latencies as it grows, and what a sweep does to readers.
//!
//! How to run it stands in `benches/README.md`.

use std::alloc::System;
use std::error::Error;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

mod alone;
mod embedded;
mod engine;
mod fill;
mod measure;
mod options;
mod redis;
mod report;
mod sql;
mod sweep;

use self::alone::Alone;
use self::engine::Engine;
use self::fill::{Kind, fill};
use self::options::Options;
use self::report::Report;

/// Counts what the memory store takes.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

type Failure = Box<dyn Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    for store in &options.stores {
        let engine = engine::open(store).await?;
        let mut report = Report::new(store, &options)?;
        let mut alone = Alone::by(options.alone.clone());
        let outcome = run(&*engine, &options, &mut alone, &mut report).await;
        alone.end().await?;
        engine.close().await?;
        outcome.map_err(|error| format!("{store}: {error}"))?;
    }
    Ok(())
}

async fn run(
    engine: &dyn Engine,
    options: &Options,
    alone: &mut Alone,
    report: &mut Report,
) -> Result<()> {
    for setting in engine.settings().await? {
        report.note(&setting)?;
    }
    // Taken up before the sizes are, so that the handles are none of the store's bytes.
    let mut handles =
        Vec::with_capacity(options.sessions.iter().copied().max().unwrap_or_default());
    let empty = engine.sizes().await?;
    for &count in &options.sessions {
        report.sessions = count;
        let missing = count.saturating_sub(handles.len());
        alone.before_filling(missing).await?;
        let started = Instant::now();
        fill(engine.filler(), Kind::Live, missing, options, &mut handles).await?;
        let took = started.elapsed();
        engine.settle().await?;
        report.sizes("", &empty, &engine.sizes().await?, count)?;
        let rate = missing as f64 / took.as_secs_f64();
        report.figure("filled", "sessions/s", &[rate])?;
        alone.begin().await?;
        let syncs: Vec<f64> = (0..options.rounds)
            .map(|_| embedded::sync_time())
            .collect::<Result<_>>()?;
        report.figure("4 KiB to a file and a sync of it", "µs", &syncs)?;
        for &callers in &options.callers {
            measure::measure(engine, &handles, callers, options, report).await?;
        }
        report.sizes(
            "after the measurements: ",
            &empty,
            &engine.sizes().await?,
            count,
        )?;
        engine.extra(&handles, options, report).await?;
    }
    sweep::sweep(engine, &handles, options, alone, report).await?;
    report.sizes(
        "after the sweep: ",
        &empty,
        &engine.sizes().await?,
        handles.len(),
    )?;
    still_there(engine, &handles).await
}

/// A bench of a store that lost its sessions says nothing.
async fn still_there(engine: &dyn Engine, handles: &[cloakroom::store::Handle]) -> Result<()> {
    for handle in handles.iter().step_by((handles.len() / 1_000).max(1)) {
        if engine.store().load(handle).await?.is_none() {
            return Err("a live session is gone".into());
        }
    }
    Ok(())
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
