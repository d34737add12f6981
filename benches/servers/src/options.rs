//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use crate::Result;
use crate::scenarios::{App, Scenario, Store};

const USAGE: &str = "servers [STORE...] [OPTION...]

STORE is memory, redis, postgres or postgres-unsynced; all of them if none is named.
  --scenarios NAME,...  of unused, read, sliding, write, new (all)
  --apps NAME,...       of no session, by hand, cloakroom, tower-sessions, express-session (all)
  --rounds N            rounds of each measurement (5)
  --seconds N           how long each takes (5)
  --warm-up N           seconds of the same requests before it (1)
  --connections N       how many requests are under way at once (32)
  --sessions N          sessions that the requests are of, in turn (1000)
  --load PROGRAM        who sends the requests: wrk, or own, which is built in (wrk)
  --tries N             how often one is measured in which other programs had more than 0.15 of a core; the last
                        counts in any case (1)
  --app-core N          the core that each app runs on (any)
  --alone COMMAND       what keeps other work off the machine: it runs while something is measured, about a minute at a
                        time, which begins at its first line of output, and ends when its standard input does
  --out FILE            adds a row for each measurement to this CSV file; its rounds are counted on
  --quick               one short round with the load that is built in, to see that the program works; options after
                        it still count
  --summary FILE        measures nothing, and sums up what is in this file";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) stores: Vec<Store>,
    scenarios: Option<Vec<String>>,
    apps: Option<Vec<String>>,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) warm_up: f64,
    pub(crate) connections: usize,
    pub(crate) sessions: usize,
    pub(crate) load: Load,
    pub(crate) tries: usize,
    pub(crate) app_core: Option<usize>,
    pub(crate) alone: Option<String>,
    pub(crate) out: Option<PathBuf>,
}

/// What sends the requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    Wrk,
    Own,
}

impl Load {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wrk => "wrk",
            Self::Own => "own",
        }
    }
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            stores: Vec::new(),
            scenarios: None,
            apps: None,
            rounds: 5,
            seconds: 5.0,
            warm_up: 1.0,
            connections: 32,
            sessions: 1_000,
            load: Load::Wrk,
            tries: 1,
            app_core: None,
            alone: None,
            out: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let missing = || format!("{argument} needs a value\n\n{USAGE}");
                arguments.next().ok_or_else(missing)
            };
            match &*argument {
                "--scenarios" => {
                    options.scenarios = Some(names(&value()?, Scenario::ALL.map(Scenario::name))?)
                }
                "--apps" => options.apps = Some(names(&value()?, App::ALL.map(App::name))?),
                "--rounds" => options.rounds = number(&value()?)?,
                "--seconds" => options.seconds = number(&value()?)?,
                "--warm-up" => options.warm_up = number(&value()?)?,
                "--connections" => options.connections = number(&value()?)?,
                "--sessions" => options.sessions = number(&value()?)?,
                "--app-core" => options.app_core = Some(number(&value()?)?),
                "--alone" => options.alone = Some(value()?),
                "--tries" => options.tries = number(&value()?)?,
                "--out" => options.out = Some(value()?.into()),
                "--load" => {
                    options.load = match &*value()? {
                        "wrk" => Load::Wrk,
                        "own" => Load::Own,
                        other => {
                            return Err(format!("{other:?} sends no requests\n\n{USAGE}").into());
                        }
                    }
                }
                "--quick" => options.quick(),
                "--summary" => {
                    options.out = Some(value()?.into());
                    options.rounds = 0;
                }
                "--help" => return Err(USAGE.into()),
                option if option.starts_with('-') => {
                    return Err(format!("there is no {option}\n\n{USAGE}").into());
                }
                store => options.stores.push(Store::named(store)?),
            }
        }
        if options.connections == 0 || options.sessions < options.connections {
            return Err("there must be connections, and no fewer sessions than those".into());
        }
        if options.stores.is_empty() {
            options.stores = Store::ALL.to_vec();
        }
        Ok(options)
    }

    fn quick(&mut self) {
        self.rounds = 1;
        self.seconds = 0.2;
        self.warm_up = 0.0;
        self.connections = 4;
        self.sessions = 20;
        self.load = Load::Own;
    }

    pub(crate) fn wants(&self, scenario: Scenario) -> bool {
        let is_named = |names: &Vec<String>| names.iter().any(|name| name == scenario.name());
        self.scenarios.as_ref().is_none_or(is_named)
    }

    pub(crate) fn apps(&self, store: Store) -> Vec<App> {
        let is_wanted = |app: &App| {
            let is_named = |names: &Vec<String>| names.iter().any(|name| name == app.name());
            app.is_for(store) && self.apps.as_ref().is_none_or(is_named)
        };
        App::ALL.into_iter().filter(is_wanted).collect()
    }
}

fn names<const N: usize>(list: &str, known: [&str; N]) -> Result<Vec<String>> {
    let names: Vec<String> = list.split(',').map(str::to_owned).collect();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(unknown) => Err(format!("{unknown:?} is none of {known:?}").into()),
        None => Ok(names),
    }
}

fn number<T: FromStr>(text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| format!("{text:?} is no number that fits here\n\n{USAGE}").into())
}
