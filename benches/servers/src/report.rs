//! What was measured, as CSV, and summed up for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;

use crate::Result;
use crate::options::Options;
use crate::scenarios::{App, Scenario, Store};

const HEADER: &str = "store,scenario,app,round,load,connections,seconds,requests,requests_per_second,p50_ms,p99_ms,\
    app_cpu_us,store_cpu_us,others_cores";

/// One measurement.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) store: Store,
    pub(crate) scenario: Scenario,
    pub(crate) app: App,
    pub(crate) round: usize,
    pub(crate) load: String,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Microseconds of a core that a request took the app, and the store's server.
    pub(crate) app_cpu_us: f64,
    pub(crate) store_cpu_us: Option<f64>,
    /// How many cores on average were taken by what has no part in this, a virtual machine's host included.
    pub(crate) others_cores: f64,
}

impl Row {
    /// Whether others had more than a seventh of a core: then this says little of the app.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.others_cores > 0.15
    }

    fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    pub(crate) fn to_csv(&self) -> String {
        let store_cpu = self
            .store_cpu_us
            .map_or(String::new(), |micros| format!("{micros:.1}"));
        format!(
            "{},{},{},{},{},{},{:.3},{},{:.0},{:.3},{:.3},{:.1},{store_cpu},{:.2}",
            self.store.name(),
            self.scenario.name(),
            self.app.name(),
            self.round,
            self.load,
            self.connections,
            self.seconds,
            self.requests,
            self.rate(),
            self.p50_ms,
            self.p99_ms,
            self.app_cpu_us,
            self.others_cores,
        )
    }

    fn of_csv(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split(',').collect();
        let [
            store,
            scenario,
            app,
            round,
            load,
            connections,
            seconds,
            requests,
            _,
            p50,
            p99,
            app_cpu,
            store_cpu,
            others,
        ] = fields[..]
        else {
            return Err(format!("another number of columns: {line}").into());
        };
        let scenario = Scenario::ALL
            .into_iter()
            .find(|known| known.name() == scenario);
        Ok(Self {
            store: Store::named(store)?,
            scenario: scenario.ok_or_else(|| format!("an unknown scenario: {line}"))?,
            app: App::named(app)?,
            round: round.parse()?,
            load: load.to_owned(),
            connections: connections.parse()?,
            seconds: seconds.parse()?,
            requests: requests.parse()?,
            p50_ms: p50.parse()?,
            p99_ms: p99.parse()?,
            app_cpu_us: app_cpu.parse()?,
            store_cpu_us: if store_cpu.is_empty() {
                None
            } else {
                Some(store_cpu.parse()?)
            },
            others_cores: others.parse()?,
        })
    }
}

pub(crate) struct Report<'a> {
    options: &'a Options,
    rows: Vec<Row>,
}

impl<'a> Report<'a> {
    /// With the rows that the file has already.
    pub(crate) fn open(options: &'a Options) -> Result<Self> {
        let mut rows = Vec::new();
        if let Some(out) = options.out.as_ref().filter(|out| out.exists()) {
            let csv = std::fs::read_to_string(out)?;
            let mut lines = csv.lines();
            if lines.next() != Some(HEADER) {
                return Err(format!("{} has other columns", out.display()).into());
            }
            for line in lines {
                rows.push(Row::of_csv(line)?);
            }
        }
        Ok(Self { options, rows })
    }

    pub(crate) fn next_round(&self) -> usize {
        self.rows.iter().map(|row| row.round).max().unwrap_or(0) + 1
    }

    pub(crate) fn row(&mut self, row: &Row) -> Result<()> {
        let line = row.to_csv();
        println!("{line}");
        if let Some(out) = &self.options.out {
            let mut csv = OpenOptions::new().append(true).create(true).open(out)?;
            if csv.metadata()?.len() == 0 {
                writeln!(csv, "{HEADER}")?;
            }
            writeln!(csv, "{line}")?;
        }
        self.rows.push(row.clone());
        Ok(())
    }

    /// Medians of the rounds as tables in Markdown: of rates with the lowest and the highest, and of ratios, which are of
    /// the same round, with what the median is between at 95 % confidence. What was disturbed is left out.
    pub(crate) fn summary(&self) -> Result<()> {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| !row.is_disturbed()).collect();
        let left_out = self.rows.len() - rows.len();
        println!(
            "\n{left_out} of {} measurements were disturbed, and are left out",
            self.rows.len()
        );
        let measured: BTreeSet<_> = rows.iter().map(|row| (row.store, row.scenario)).collect();
        for (store, scenario) in measured {
            let of_both = || {
                let is_of = move |row: &&Row| (row.store, row.scenario) == (store, scenario);
                rows.iter().copied().filter(is_of)
            };
            let floor: BTreeMap<usize, &Row> = of_both()
                .filter(|row| row.app.is_floor())
                .map(|row| (row.round, row))
                .collect();
            println!("\n{}, {}\n", store.name(), scenario.name());
            println!(
                "| | requests/s (lowest to highest) | of the first (95 % confidence, from six rounds on) | p50, p99 ms | app, store µs of a core |"
            );
            println!("|---|---|---|---|---|");
            for app in App::ALL {
                let of_app: Vec<&Row> = of_both().filter(|row| row.app == app).collect();
                if of_app.is_empty() {
                    continue;
                }
                let ratios = of_app
                    .iter()
                    .filter_map(|row| Some(row.rate() / floor.get(&row.round)?.rate()));
                let median_of = |figure: &dyn Fn(&Row) -> Option<f64>| {
                    let figures = of_app.iter().filter_map(|row| figure(row));
                    Spread::of(figures)
                        .map_or("–".to_owned(), |spread| format!("{:.1}", spread.median))
                };
                println!(
                    "| {} | {} | {} | {}, {} | {}, {} |",
                    app.name(),
                    shown(Spread::of(of_app.iter().map(|row| row.rate())), |n| {
                        thousands(n)
                    }),
                    shown(Spread::of_median(ratios), |n| format!("{:.1} %", n * 100.0)),
                    median_of(&|row| Some(row.p50_ms)),
                    median_of(&|row| Some(row.p99_ms)),
                    median_of(&|row| Some(row.app_cpu_us)),
                    median_of(&|row| row.store_cpu_us),
                );
            }
        }
        Ok(())
    }
}

struct Spread {
    lowest: f64,
    median: f64,
    highest: f64,
}

impl Spread {
    /// Of the median, at 95 % confidence: by the order of the figures alone, whatever their distribution. Fewer than six
    /// are too few for that, and give the lowest and the highest.
    fn of_median(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        // How likely no more than `below` of them are below the median: heads of as many coins.
        let count = figures.len() as f64;
        let mut heads = 0.5_f64.powf(count);
        let (mut below, mut likelihood) = (0, heads);
        while likelihood <= 0.025 && below < figures.len() / 2 {
            below += 1;
            heads *= (count + 1.0 - below as f64) / below as f64;
            likelihood += heads;
        }
        let rank = below.max(1);
        Some(Self {
            lowest: *figures.get(rank - 1)?,
            highest: *figures.get(figures.len().checked_sub(rank)?)?,
            ..Self::of(figures.iter().copied())?
        })
    }

    fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        Some(Self {
            lowest: *figures.first()?,
            median: (figures[(figures.len() - 1) / 2] + figures[figures.len() / 2]) / 2.0,
            highest: *figures.last()?,
        })
    }
}

fn shown(spread: Option<Spread>, figure: impl Fn(f64) -> String) -> String {
    spread.map_or("–".to_owned(), |spread| {
        let [lowest, median, highest] = [spread.lowest, spread.median, spread.highest].map(figure);
        format!("{median} ({lowest} to {highest})")
    })
}

fn thousands(number: f64) -> String {
    let number = number.round() as u64;
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", number / 1_000, number % 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Binomial: of 15, no more than 3 are below the median with a likelihood of 1.8 %, and no more than 4 with 5.9 %.
    #[test]
    fn the_median_of_15_is_between_the_fourth_and_the_twelfth() {
        let spread = Spread::of_median((1..=15).map(f64::from)).unwrap();
        assert_eq!(
            (spread.lowest, spread.median, spread.highest),
            (4.0, 8.0, 12.0)
        );
    }

    #[test]
    fn few_are_between_their_lowest_and_highest() {
        let spread = Spread::of_median((1..=5).map(f64::from)).unwrap();
        assert_eq!((spread.lowest, spread.highest), (1.0, 5.0));
        assert!(Spread::of_median(std::iter::empty()).is_none());
    }
}
