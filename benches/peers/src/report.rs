//! What was measured, for people on the standard output, and as CSV.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use crate::Result;
use crate::apps::Library;
use crate::measure::Time;
use crate::options::Options;
use crate::scenarios::{Scenario, Size};

pub(crate) struct Report {
    out: Option<PathBuf>,
}

/// Each writes its rows as they are measured.
pub(crate) struct Scenarios(Option<File>);
pub(crate) struct SizesTable(Option<File>);
pub(crate) struct LiveBytes(Option<File>);

impl Report {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        if let Some(out) = &options.out {
            std::fs::create_dir_all(out)?;
        }
        Ok(Self {
            out: options.out.clone(),
        })
    }

    pub(crate) fn scenarios(&self) -> Result<Scenarios> {
        println!(
            "nanoseconds and allocations of a request, over those of a layer that does nothing"
        );
        println!(
            "{:<20}{:<16}{:>9}{:>9}  {:<16}{:>12}",
            "scenario", "library", "lowest", "median", "(quartiles)", "allocations"
        );
        let header = "scenario,library,lowest_ns,q1_ns,median_ns,q3_ns,allocations";
        self.csv("peers.csv", header).map(Scenarios)
    }

    pub(crate) fn sizes(&self) -> Result<SizesTable> {
        println!("\nthe same by what is in the session besides the one small key");
        println!(
            "{:<10}{:>6}{:>8}  {:<16}{:>10}{:>10}  (quartiles)",
            "scenario", "keys", "bytes", "library", "lowest", "median"
        );
        let header = "scenario,keys,bytes,library,lowest_ns,q1_ns,median_ns,q3_ns";
        self.csv("sizes.csv", header).map(SizesTable)
    }

    pub(crate) fn live_bytes(&self) -> Result<LiveBytes> {
        println!("\nlive bytes of a session with one small key in the memory store");
        println!("{:<16}{:>10}{:>9}", "library", "sessions", "bytes");
        let header = "library,sessions,bytes_a_session";
        self.csv("live-bytes.csv", header).map(LiveBytes)
    }

    fn csv(&self, name: &str, header: &str) -> Result<Option<File>> {
        let Some(out) = &self.out else {
            return Ok(None);
        };
        let mut csv = File::create(out.join(name))?;
        writeln!(csv, "{header}")?;
        Ok(Some(csv))
    }
}

impl Scenarios {
    pub(crate) fn row(
        &mut self,
        scenario: Scenario,
        library: Library,
        time: &Time,
        allocations: u64,
    ) -> Result<()> {
        let (scenario, library) = (scenario.name(), library.name());
        let (lowest, [q1, median, q3]) = (time.lowest, time.quartiles);
        let spread = format!("({q1:.0} to {q3:.0})");
        println!(
            "{scenario:<20}{library:<16}{lowest:>9.0}{median:>9.0}  {spread:<16}{allocations:>12}"
        );
        if let Some(csv) = &mut self.0 {
            writeln!(
                csv,
                "{scenario},{library},{lowest:.1},{q1:.1},{median:.1},{q3:.1},{allocations}"
            )?;
        }
        Ok(())
    }
}

impl SizesTable {
    pub(crate) fn row(
        &mut self,
        scenario: Scenario,
        size: Size,
        library: Library,
        time: &Time,
    ) -> Result<()> {
        let (scenario, library) = (scenario.name(), library.name());
        let (lowest, [q1, median, q3]) = (time.lowest, time.quartiles);
        let Size { keys, bytes } = size;
        println!(
            "{scenario:<10}{keys:>6}{bytes:>8}  {library:<16}{lowest:>10.0}{median:>10.0}  \
             ({q1:.0} to {q3:.0})"
        );
        if let Some(csv) = &mut self.0 {
            writeln!(
                csv,
                "{scenario},{keys},{bytes},{library},{lowest:.1},{q1:.1},{median:.1},{q3:.1}"
            )?;
        }
        Ok(())
    }
}

impl LiveBytes {
    pub(crate) fn row(&mut self, library: Library, sessions: usize, bytes: f64) -> Result<()> {
        let library = library.name();
        println!("{library:<16}{sessions:>10}{bytes:>9.0}");
        if let Some(csv) = &mut self.0 {
            writeln!(csv, "{library},{sessions},{bytes:.1}")?;
        }
        Ok(())
    }
}
