//! What a session costs a request, of this crate and of others, each with its memory store: the same requests in one
//! process and in turn, so that the figures are made under the same conditions.

use std::error::Error;

use tokio::runtime::{Builder, Runtime};

use crate::apps::{App, Library};
use crate::measure::{allocations, live_bytes, over_nothing, time};
use crate::options::Options;
use crate::report::Report;
use crate::scenarios::{Scenario, Size, sizes};

mod apps;
mod by_hand;
mod measure;
mod options;
mod report;
mod scenarios;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    // One thread, and nothing but the requests on it.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let report = Report::new(&options)?;
    compare(&runtime, &options, report.scenarios()?)?;
    if options.scenarios_only {
        return Ok(());
    }
    compare_sizes(&runtime, &options, report.sizes()?)?;
    compare_live_bytes(&runtime, &options, report.live_bytes()?)
}

fn compare(runtime: &Runtime, options: &Options, mut report: report::Scenarios) -> Result<()> {
    for scenario in Scenario::ALL {
        if !options.wants(scenario.name()) {
            continue;
        }
        let mut apps = apps(runtime, options, |app| app.prepare(runtime, scenario))?;
        let times = time(runtime, &mut apps, options.rounds);
        let counts: Vec<_> = apps
            .iter_mut()
            .map(|app| allocations(runtime, app))
            .collect();
        for (app, (time, count)) in apps.iter().zip(over_nothing(&times).zip(&counts)).skip(1) {
            let over = count.saturating_sub(counts[0]);
            report.row(scenario, app.library, &time, over)?;
        }
    }
    Ok(())
}

/// What one scenario took at one size, so far.
struct Cell {
    scenario: Scenario,
    size: Size,
    apps: Vec<App>,
    times: Vec<Vec<f64>>,
}

/// Each cell is measured in as many parts, with all others in between, so that what disturbs the machine for a second
/// makes no cell.
const PARTS: usize = 10;

fn compare_sizes(
    runtime: &Runtime,
    options: &Options,
    mut report: report::SizesTable,
) -> Result<()> {
    let mut cells = Vec::new();
    for size in sizes(options.quick) {
        for scenario in [Scenario::Read, Scenario::Write] {
            let apps = apps(runtime, options, |app| app.fill(runtime, scenario, size))?;
            cells.push(Cell {
                scenario,
                size,
                times: vec![Vec::new(); apps.len()],
                apps,
            });
        }
    }
    for _ in 0..PARTS {
        for cell in &mut cells {
            let part = time(runtime, &mut cell.apps, options.rounds / 10 / PARTS + 1);
            for (times, part) in cell.times.iter_mut().zip(part) {
                times.extend(part);
            }
        }
    }
    for cell in &cells {
        let apps = cell.apps.iter().zip(over_nothing(&cell.times));
        for (app, time) in apps.skip(1) {
            report.row(cell.scenario, cell.size, app.library, &time)?;
        }
    }
    Ok(())
}

fn compare_live_bytes(
    runtime: &Runtime,
    options: &Options,
    mut report: report::LiveBytes,
) -> Result<()> {
    for app in apps(runtime, options, |app| app.prepare(runtime, Scenario::New))?
        .iter_mut()
        .skip(1)
    {
        for &sessions in options.live_sessions() {
            report.row(app.library, sessions, live_bytes(runtime, app, sessions))?;
        }
    }
    Ok(())
}

/// A fresh app with each library, the one without a session first, made ready for what is to be measured.
fn apps(
    runtime: &Runtime,
    options: &Options,
    ready: impl Fn(&mut App) -> Result<()>,
) -> Result<Vec<App>> {
    Library::ALL
        .into_iter()
        .filter(|library| *library == Library::None || options.wants(library.name()))
        .map(|library| {
            let mut app = App::new(runtime, library)?;
            ready(&mut app)?;
            Ok(app)
        })
        .collect()
}
