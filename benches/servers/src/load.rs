//! Sends requests for some time, and says how many were answered.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::task::JoinSet;

use crate::Result;
use crate::client::{Connection, request};
use crate::options::{Load, Options};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// Milliseconds within which half of them were answered, and 99 of 100.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Requests of one path, each of the next session.
pub(crate) struct Requests<'a> {
    pub(crate) port: u16,
    pub(crate) path: &'static str,
    /// Empty where the requests bring none.
    pub(crate) cookies: &'a [String],
    /// Where a file with the cookies may be.
    pub(crate) folder: &'a Path,
}

impl Requests<'_> {
    /// Sends them for so long.
    ///
    /// # Errors
    ///
    /// When one of them is not answered with a 2xx: then the figure would be of something else.
    pub(crate) async fn send(&self, seconds: f64, options: &Options) -> Result<Answered> {
        match options.load {
            Load::Wrk => self.by_wrk(seconds, options.connections).await,
            Load::Own => self.by_ourselves(seconds, options.connections).await,
        }
    }

    async fn by_wrk(&self, seconds: f64, connections: usize) -> Result<Answered> {
        let mut command = Command::new("wrk");
        command
            .arg("--threads=1")
            .arg(format!("--connections={connections}"))
            .arg(format!("--duration={}s", seconds.ceil()))
            .arg(concat!("--script=", env!("CARGO_MANIFEST_DIR"), "/wrk.lua"))
            .arg(format!("http://127.0.0.1:{}", self.port))
            .args(["--", self.path]);
        if !self.cookies.is_empty() {
            let file = self.folder.join("cookies");
            std::fs::write(&file, self.cookies.join("\n") + "\n")?;
            command.arg(file);
        }
        let output = command
            .output()
            .await
            .map_err(|error| format!("cannot run wrk (see --load): {error}"))?;
        let output = String::from_utf8(output.stdout)?;
        let numbers: Vec<u64> = output
            .lines()
            .find_map(|line| line.strip_prefix("measured "))
            .ok_or_else(|| format!("wrk did not measure: {output}"))?
            .split(' ')
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?;
        let [requests, micros, failed, p50, p99] = numbers[..] else {
            return Err(format!("wrk does not say what wrk.lua is to say: {output}").into());
        };
        if failed > 0 {
            return Err(format!("{failed} of {requests} requests failed").into());
        }
        Ok(Answered {
            requests,
            seconds: micros as f64 / 1e6,
            p50_ms: p50 as f64 / 1e3,
            p99_ms: p99 as f64 / 1e3,
        })
    }

    async fn by_ourselves(&self, seconds: f64, connections: usize) -> Result<Answered> {
        let requests: Arc<Vec<String>> = Arc::new(match self.cookies {
            [] => vec![request(self.path, None)],
            cookies => cookies
                .iter()
                .map(|cookie| request(self.path, Some(cookie)))
                .collect(),
        });
        let latencies = Arc::new(Mutex::new(Vec::new()));
        let started = Instant::now();
        let mut senders = JoinSet::new();
        for first in 0..connections {
            let mut connection = Connection::open(self.port).await?;
            let (requests, latencies) = (requests.clone(), latencies.clone());
            senders.spawn(async move {
                // Each has sessions of its own, so that no two requests of one session overlap.
                let mut number = first;
                while started.elapsed() < Duration::from_secs_f64(seconds) {
                    let sent = Instant::now();
                    let reply = connection
                        .send(requests[number % requests.len()].as_bytes())
                        .await?;
                    if !(200..300).contains(&reply.status) {
                        return Err(format!("a request was answered with {}", reply.status).into());
                    }
                    number += connections;
                    if number >= requests.len() {
                        number = first;
                    }
                    let latency = sent.elapsed().as_secs_f64() * 1e3;
                    latencies
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(latency);
                }
                Result::Ok(())
            });
        }
        while let Some(sender) = senders.join_next().await {
            sender??;
        }
        let seconds = started.elapsed().as_secs_f64();
        let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
        latencies.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (latencies.len() as f64 * part) as usize;
            latencies.get(index).copied().unwrap_or_default()
        };
        Ok(Answered {
            requests: latencies.len() as u64,
            seconds,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
        })
    }
}
