//! The command line.

use std::path::PathBuf;

use crate::Result;
use crate::apps::Library;
use crate::scenarios::Scenario;

const USAGE: &str = "peers [NAME...] [OPTION...]

NAME is a library or a scenario to which to keep; all of them if none is named.
  --rounds N    rounds of 20 requests (5000)
  --scenarios-only
                leaves out sessions of many sizes, and live bytes
  --out FOLDER  writes peers.csv, sizes.csv and live-bytes.csv there, too
  --quick       small numbers, to see that the program works";

pub(crate) struct Options {
    names: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) scenarios_only: bool,
    pub(crate) out: Option<PathBuf>,
    pub(crate) quick: bool,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            names: Vec::new(),
            rounds: 5_000,
            scenarios_only: false,
            out: None,
            quick: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or(format!("{argument} wants a value\n\n{USAGE}"))
            };
            match argument.as_str() {
                "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
                "--out" => options.out = Some(value()?.into()),
                "--scenarios-only" => options.scenarios_only = true,
                "--quick" => (options.quick, options.rounds) = (true, options.rounds.min(20)),
                name if is_name(name) => options.names.push(name.to_owned()),
                other => return Err(format!("what is {other:?}?\n\n{USAGE}").into()),
            }
        }
        Ok(options)
    }

    /// Whether a library or a scenario is to be measured: all are of which none was named.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let is_library = |name: &str| Library::ALL.iter().any(|library| library.name() == name);
        let kind = is_library(name);
        let mut same_kind = self
            .names
            .iter()
            .filter(|other| is_library(other) == kind)
            .peekable();
        same_kind.peek().is_none() || same_kind.any(|other| other == name)
    }

    pub(crate) fn live_sessions(&self) -> &'static [usize] {
        match self.quick {
            true => &[1_000],
            false => &[1_000, 100_000, 1_000_000],
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut libraries = Library::ALL.iter().map(|library| library.name());
    let mut scenarios = Scenario::ALL.iter().map(|scenario| scenario.name());
    libraries.any(|library| library == name) || scenarios.any(|scenario| scenario == name)
}
