//! The memory store with many sessions: what it takes up, whether threads get into each other's way, and what a call
//! takes while a million sessions expire at once. That needs a second thread, which has a part in what the machine can do;
//! so what a call usually takes is measured alone, and while the other thread sweeps another store of the same kind.
//!
//!     cargo run --release --bin memory -- [SESSIONS] [FILE.csv]
//!     cargo run --bin memory -- --quick
//!
//! `--quick` takes few sessions and short measurements, to see that the program works.

use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloakroom::clock::from_unix_millis;
use cloakroom::store::{Handle, MemoryStore, Outcome, Record, SessionStore, Version};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const START: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;
/// What the layer writes for a session with one small key and nobody logged in.
const PAYLOAD: usize = 94;
const ROUNDS: usize = 5;
/// What a `Sweeper` deletes at a time, by default.
const BATCH: usize = 250;

/// How a store is swept.
#[derive(Clone, Copy, PartialEq)]
enum Pace {
    /// With a pause after each batch, for as long as that took.
    Sweeper,
    WithoutPause,
}

/// How much is measured.
struct Extent {
    sessions: u64,
    /// How long each measurement of threads goes on.
    a_while: Duration,
    /// How many calls are timed in a round, at most.
    calls: usize,
}

impl Extent {
    fn of(argument: Option<&str>) -> Result<Self> {
        let full = Self {
            sessions: 10_000_000,
            a_while: Duration::from_secs(1),
            calls: 1_000_000,
        };
        Ok(match argument {
            None => full,
            Some("--quick") => Self {
                sessions: 10_000,
                a_while: Duration::from_millis(20),
                calls: 10_000,
            },
            Some(sessions) => Self {
                sessions: sessions.parse()?,
                ..full
            },
        })
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let extent = Extent::of(arguments.next().as_deref())?;
    let sessions = extent.sessions;
    let mut csv = arguments.next().map(File::create).transpose()?;
    let mut report = |what: &str, figure: f64, unit: &str| -> Result<()> {
        println!("{what:<58}{figure:>12.2} {unit}");
        if let Some(csv) = &mut csv {
            writeln!(csv, "\"{what}\",{figure:.2},{unit}")?;
        }
        Ok(())
    };
    report("sessions", sessions as f64, "")?;

    let store = Arc::new(MemoryStore::new().max_records(usize::MAX));
    let mut took = Duration::ZERO;
    let counted = allocation_counter::measure(|| took = fill(&store, sessions));
    report(
        "live bytes of a session",
        counted.bytes_current as f64 / sessions as f64,
        "bytes",
    )?;
    report("create", took.as_nanos() as f64 / sessions as f64, "ns")?;

    for (what, is_hot) in [("different sessions", false), ("one session", true)] {
        let mut ratios = Vec::new();
        let mut of_one = Vec::new();
        for _ in 0..ROUNDS {
            let one = reads(&store, &extent, 1, is_hot)?;
            let two = reads(&store, &extent, 2, is_hot)?;
            of_one.push(one);
            ratios.push(two / one);
        }
        let [lowest, median, highest] = spread(of_one);
        report(
            &format!("reads a second of {what}, one thread: lowest"),
            lowest,
            "/s",
        )?;
        report(
            &format!("reads a second of {what}, one thread: median"),
            median,
            "/s",
        )?;
        report(
            &format!("reads a second of {what}, one thread: highest"),
            highest,
            "/s",
        )?;
        let [lowest, median, highest] = spread(ratios);
        report(
            &format!("two threads to one, {what}: lowest"),
            lowest,
            "times",
        )?;
        report(
            &format!("two threads to one, {what}: median"),
            median,
            "times",
        )?;
        report(
            &format!("two threads to one, {what}: highest"),
            highest,
            "times",
        )?;
    }

    let another = Arc::new(MemoryStore::new().max_records(usize::MAX));
    let crowd = sessions..sessions + sessions / 10;
    for round in 1..=ROUNDS {
        let mut measured = vec![("alone", calls(&store, &extent, None)?)];
        for (what, swept, pace) in [
            (
                "while many expire in another store",
                &another,
                Pace::Sweeper,
            ),
            ("while many expire", &store, Pace::Sweeper),
            (
                "while many go without a pause in another store",
                &another,
                Pace::WithoutPause,
            ),
            ("while many go without a pause", &store, Pace::WithoutPause),
        ] {
            expire_at_once(swept, crowd.clone())?;
            measured.push((what, calls(&store, &extent, Some((swept, pace)))?));
        }
        for (what, [median, most, worst]) in measured {
            report(&format!("round {round}, {what}: median call"), median, "us")?;
            report(
                &format!("round {round}, {what}: 99.9 % of calls"),
                most,
                "us",
            )?;
            report(&format!("round {round}, {what}: worst call"), worst, "us")?;
        }
    }

    let started = Instant::now();
    let mut deleted = 0;
    loop {
        let now = from_unix_millis(START + 2 * HOUR);
        match block_on(store.delete_expired(now, 10_000))?? {
            0 => break,
            some => deleted += some as u64,
        }
    }
    let took = started.elapsed();
    report("expired and deleted", deleted as f64, "")?;
    report("delete", took.as_nanos() as f64 / deleted as f64, "ns")?;
    report("left", store.len() as f64, "")
}

fn fill(store: &MemoryStore, sessions: u64) -> Duration {
    let started = Instant::now();
    for number in 0..sessions {
        let expires_at = START + (mix(number) % HOUR as u64) as i64;
        let created = block_on(store.create(&handle(number), &record(expires_at, number)));
        black_box(created.is_ok());
    }
    started.elapsed()
}

/// Reads a second of so many threads, of sessions at random or all of one.
fn reads(store: &Arc<MemoryStore>, extent: &Extent, threads: u64, is_hot: bool) -> Result<f64> {
    let stop = AtomicBool::new(false);
    let counts: Result<Vec<u64>> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads)
            .map(|thread| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let number = if is_hot {
                            0
                        } else {
                            mix(count * threads + thread) % extent.sessions
                        };
                        if block_on(store.load(&handle(number)))??.is_none() {
                            return Err("a session is not there".into());
                        }
                        count += 1;
                    }
                    Ok(count)
                })
            })
            .collect();
        std::thread::sleep(extent.a_while);
        stop.store(true, Ordering::Relaxed);
        readers
            .into_iter()
            .map(|reader| {
                reader
                    .join()
                    .unwrap_or_else(|_| Err("a reader panicked".into()))
            })
            .collect()
    });
    Ok(counts?.iter().sum::<u64>() as f64 / extent.a_while.as_secs_f64())
}

/// Adds sessions that have expired.
fn expire_at_once(store: &MemoryStore, numbers: Range<u64>) -> Result<()> {
    for number in numbers {
        block_on(store.create(&handle(number), &record(START - 2 * HOUR, number)))??;
    }
    Ok(())
}

/// Microseconds of the median call, of one in a thousand, and of the worst. If a store is to be swept, another thread
/// does that, and there are calls until it has no expired session any more.
fn calls(
    store: &MemoryStore,
    extent: &Extent,
    to_sweep: Option<(&Arc<MemoryStore>, Pace)>,
) -> Result<[f64; 3]> {
    let now = from_unix_millis(START);
    let sweep = to_sweep.map(|(store, pace)| {
        let store = store.clone();
        std::thread::spawn(move || -> Result<()> {
            loop {
                let started = Instant::now();
                if block_on(store.delete_expired(now, BATCH))?? == 0 {
                    return Ok(());
                }
                if pace == Pace::Sweeper {
                    std::thread::sleep(started.elapsed());
                }
            }
        })
    });
    let mut times = Vec::with_capacity(extent.calls);
    let mut number = 0;
    while times.len() < extent.calls
        && (sweep.is_none() || sweep.as_ref().is_some_and(|sweep| !sweep.is_finished()))
    {
        number += 1;
        let handle = handle(mix(number) % extent.sessions);
        let started = Instant::now();
        let record = block_on(store.load(&handle))??.ok_or("a session is not there")?;
        times.push(started.elapsed());
        let started = Instant::now();
        let touched = block_on(store.touch(&handle, record.expires_at, record.version, now))??;
        times.push(started.elapsed());
        if touched == Outcome::Conflict {
            return Err("nobody else writes".into());
        }
    }
    if let Some(sweep) = sweep {
        sweep.join().map_err(|_| "the sweep panicked")??;
    }
    times.sort_unstable();
    let at =
        |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_nanos() as f64 / 1_000.0;
    Ok([at(0.5), at(0.999), at(1.0)])
}

fn record(expires_at: i64, number: u64) -> Record {
    Record {
        version: Version::from_u64(number),
        created_at: from_unix_millis(START - 3 * HOUR),
        expires_at: from_unix_millis(expires_at),
        user_id: None,
        payload: [0; PAYLOAD][..].into(),
    }
}

fn handle(number: u64) -> Handle {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mix(number).to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Handle::from_bytes(bytes)
}

/// Scatters numbers (splitmix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The store is ready at once, so nothing is ever waited for.
fn block_on<T>(call: impl Future<Output = T>) -> Result<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(call).poll(&mut context) {
        std::task::Poll::Ready(result) => Ok(result),
        std::task::Poll::Pending => Err("the memory store is not ready at once".into()),
    }
}

fn spread(mut figures: Vec<f64>) -> [f64; 3] {
    figures.sort_by(f64::total_cmp);
    [
        figures[0],
        figures[figures.len() / 2],
        figures[figures.len() - 1],
    ]
}
