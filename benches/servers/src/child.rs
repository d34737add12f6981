//! An app, running as a program of its own.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Result;
use crate::options::Options;
use crate::scenarios::{App, Scenario, Store};

/// It ends when this is dropped, or the bench itself has ended.
pub(crate) struct Running {
    child: Child,
    pub(crate) port: u16,
}

impl Running {
    pub(crate) async fn start(
        app: App,
        store: Store,
        scenario: Scenario,
        options: &Options,
    ) -> Result<Self> {
        let sliding = if scenario == Scenario::Sliding {
            "sliding"
        } else {
            "fixed"
        };
        let mut words: Vec<String> = Vec::new();
        if let Some(core) = options.app_core {
            words.extend(["taskset".into(), "--cpu-list".into(), core.to_string()]);
        }
        match app {
            App::ExpressSession => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/express/app.js");
                words.extend(["node", script, sliding].map(String::from));
            }
            _ => {
                let program = std::env::current_exe()?;
                let program = program.to_str().ok_or("a path that is no text")?;
                words.extend(
                    [program, "serve", app.name(), store.name(), sliding].map(String::from),
                );
            }
        }
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env("NODE_ENV", "production")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", words[0]))?;
        let stdout = child
            .stdout
            .take()
            .ok_or("the app has no standard output")?;
        let port = BufReader::new(stdout).lines().next_line().await?;
        let port = port.ok_or_else(|| format!("the app of {} did not start", app.name()))?;
        Ok(Self {
            child,
            port: port.parse()?,
        })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().ok_or_else(|| "the app has ended".into())
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(())
    }
}

/// Microseconds for which a process has had a core, with all of its threads.
pub(crate) fn cpu_micros(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = fields(&stat)?;
    let ticks =
        |field: usize| -> Result<u64> { Ok(fields.get(field).ok_or("a short stat")?.parse()?) };
    // Linux counts in hundredths of a second to whoever asks, whatever it is built with.
    Ok((ticks(11)? + ticks(12)?) * 10_000)
}

/// As [`cpu_micros`], of this process and of those that it started and has seen the end of.
pub(crate) fn own_cpu_micros() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let ticks = fields(&stat)?.into_iter().skip(11).take(4);
    Ok(ticks
        .map(str::parse::<u64>)
        .sum::<std::result::Result<u64, _>>()?
        * 10_000)
}

/// As [`cpu_micros`], of everything on the machine, and of what a virtual one had to leave to its host.
pub(crate) fn machine_cpu_micros() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().ok_or("an empty stat")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    let [
        user,
        nice,
        system,
        _idle,
        _waiting,
        irq,
        softirq,
        stolen,
        ..,
    ] = ticks[..]
    else {
        return Err("a short stat".into());
    };
    Ok((user + nice + system + irq + softirq + stolen) * 10_000)
}

/// The process that started this one, if both are still there.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    fields(&stat).ok()?.get(1)?.parse().ok()
}

/// Those after the name, which may have spaces in it.
fn fields(stat: &str) -> Result<Vec<&str>> {
    let (_, after_name) = stat.rsplit_once(") ").ok_or("a stat without a name")?;
    Ok(after_name.split(' ').collect())
}
