//! Requests a second of apps whose sessions are on real servers, over HTTP: with this crate, with others, and with
//! handlers that make the store's calls by hand.
//!
//! How to run it stands in `benches/README.md`.

use std::error::Error;
use std::time::{Duration, Instant};

use crate::alone::Alone;
use crate::options::Options;
use crate::report::Report;
use crate::scenarios::Scenario;

// What the bench of the stores has, too.
#[allow(dead_code)]
#[path = "../../stores/src/alone.rs"]
mod alone;
mod apps;
mod child;
mod client;
mod load;
mod measure;
mod options;
mod report;
mod scenarios;
mod stores;

type Failure = Box<dyn Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => {
            // One thread for the requests, of every app alike.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?;
            runtime.block_on(apps::serve(&arguments[1..]))
        }
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(bench(Options::parse(arguments.into_iter())?))
        }
    }
}

async fn bench(options: Options) -> Result<()> {
    let mut report = Report::open(&options)?;
    let mut alone = Alone::by(options.alone.clone());
    let outcome = rounds(&options, &mut alone, &mut report).await;
    alone.end().await?;
    outcome?;
    report.summary()
}

async fn rounds(options: &Options, alone: &mut Alone, report: &mut Report<'_>) -> Result<()> {
    // Others get in between, so that nobody waits for much longer than a minute.
    const TURN: Duration = Duration::from_secs(35);
    let mut begun = Instant::now();
    for _ in 0..options.rounds {
        let round = report.next_round();
        for &store in &options.stores {
            for scenario in Scenario::ALL {
                if options.wants(scenario) && scenario.is_for(store) {
                    if begun.elapsed() > TURN {
                        alone.end().await?;
                    }
                    if alone.begin().await? {
                        begun = Instant::now();
                    }
                    measure::in_turn(store, scenario, options, report, round).await?;
                }
            }
        }
    }
    Ok(())
}
