//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use crate::Result;
use crate::engine::STORES;

pub(crate) const USAGE: &str = "stores [STORE...] [OPTION...]

STORE is memory, file, sqlite, postgres, mysql or redis; all of them if none is named.
  --sessions N,N,...  sizes at which to measure, ascending (1000,100000,1000000)
  --expired N         expired sessions to sweep at the end (as many as the last size)
  --users             each session has a user who is logged in
  --value-bytes N     length of the one value in a session (8)
  --rounds N          rounds of each measurement (5)
  --operations N      operations in a round (2000)
  --callers N,N,...   how many call at once (1,16)
  --readers-for N     seconds for which readers are measured without a sweep (10)
  --alone COMMAND     what keeps other work off the machine: it runs while something is measured, which begins
                      at its first line of output, and ends when its standard input does
  --out FOLDER        writes a STORE.csv there, too
  --quick             small numbers, to see that the program works; options after it still count";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) stores: Vec<String>,
    pub(crate) sessions: Vec<usize>,
    expired: Option<usize>,
    pub(crate) users: bool,
    pub(crate) value_bytes: usize,
    pub(crate) rounds: usize,
    pub(crate) operations: usize,
    pub(crate) callers: Vec<usize>,
    pub(crate) readers_for: f64,
    pub(crate) alone: Option<String>,
    pub(crate) out: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            stores: Vec::new(),
            sessions: vec![1_000, 100_000, 1_000_000],
            expired: None,
            users: false,
            value_bytes: 8,
            rounds: 5,
            operations: 2_000,
            callers: vec![1, 16],
            readers_for: 10.0,
            alone: None,
            out: None,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let missing = || format!("{argument} wants a value\n\n{USAGE}");
                arguments.next().ok_or_else(missing)
            };
            match argument.as_str() {
                "--sessions" => options.sessions = numbers(&value()?)?,
                "--expired" => options.expired = Some(number(&value()?)?),
                "--users" => options.users = true,
                "--value-bytes" => options.value_bytes = number(&value()?)?,
                "--rounds" => options.rounds = number(&value()?)?,
                "--operations" => options.operations = number(&value()?)?,
                "--callers" => options.callers = numbers(&value()?)?,
                "--readers-for" => options.readers_for = number(&value()?)?,
                "--alone" => options.alone = Some(value()?),
                "--out" => options.out = Some(value()?.into()),
                "--quick" => options.be_quick(),
                store if STORES.contains(&store) => options.stores.push(store.to_owned()),
                other => return Err(format!("what is {other:?}?\n\n{USAGE}").into()),
            }
        }
        if options.stores.is_empty() {
            options.stores = STORES.map(String::from).into();
        }
        options.check()?;
        Ok(options)
    }

    /// Sessions to sweep.
    pub(crate) fn expired(&self) -> usize {
        self.expired
            .unwrap_or_else(|| self.sessions.last().copied().unwrap_or_default())
    }

    fn be_quick(&mut self) {
        self.sessions = vec![100, 1_000];
        self.rounds = 2;
        self.operations = 50;
        self.callers = vec![1, 4];
        self.readers_for = 0.5;
    }

    fn check(&self) -> Result<()> {
        let ascending = self.sessions.is_sorted();
        let counts = [self.rounds, self.operations];
        let all = counts.iter().chain(&self.sessions).chain(&self.callers);
        if !ascending || self.sessions.is_empty() || all.min() == Some(&0) {
            return Err("sizes ascend, and no number is 0".into());
        }
        Ok(())
    }
}

fn numbers(text: &str) -> Result<Vec<usize>> {
    text.split(',').map(number).collect()
}

fn number<T: FromStr>(text: &str) -> Result<T> {
    let bad = || format!("{text:?} is no such number\n\n{USAGE}").into();
    text.replace('_', "").parse().map_err(|_| bad())
}
