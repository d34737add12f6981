//! Deletes expired records on a schedule.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, timeout};

use crate::clock::{Clock, SystemClock};
use crate::events::{Event, Reporter};
use crate::store::{SessionStore, StoreError};

/// A task that deletes a store's expired records from time to time. It runs as long as this handle is kept.
///
/// Expired sessions are dead whether or not they are deleted, so this is about space only. A store whose
/// engine expires records by itself needs none.
///
/// - It deletes in batches until one is not full, since none is left for now or the store has looked through
///   enough others, and between two batches pauses for as long as the first one took, so that at least half
///   of the store's time is left to requests.
/// - It waits for a random time between 3/4 and 5/4 of the interval, and before the first sweep for a
///   random part of it, so that many nodes that are started together do not sweep at once.
/// - A failure, a panic of the store, and a batch that takes too long, are logged as errors, and each one in
///   a row doubles the time to wait, up to an hour (or the interval, if that is longer). None ends it.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use cloakroom::Sweeper;
/// use cloakroom::store::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let store = Arc::new(MemoryStore::new());
/// let sweeper = Sweeper::spawn(Arc::clone(&store), Duration::from_secs(60));
/// // … serve with `store` …
/// sweeper.stop().await;
/// assert_eq!(Arc::strong_count(&store), 1);
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping the handle ends the task: keep it, as in `let sweeper = …`; `let _ =` drops it at once"]
pub struct Sweeper {
    /// Never used to send: its end is the signal to stop.
    _running: mpsc::Sender<Infallible>,
    task: JoinHandle<()>,
}

/// Settings of a [`Sweeper`].
///
/// ```
/// use std::time::Duration;
/// use cloakroom::Sweeper;
/// use cloakroom::store::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let sweeper = Sweeper::builder(MemoryStore::new())
///     .batch(100)
///     .time_limit(Duration::from_secs(5))
///     .spawn(Duration::from_secs(60));
/// sweeper.stop().await;
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `spawn`"]
pub struct SweeperBuilder {
    store: Arc<dyn SessionStore>,
    batch: usize,
    time_limit: Duration,
    clock: Arc<dyn Clock>,
    events: Arc<Reporter>,
}

/// Enough that a backlog goes quickly, and few enough that one batch holds nobody up.
const DEFAULT_BATCH: usize = 250;

const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(60);

const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The longest wait after failures, unless the interval is longer.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60 * 60);

impl Sweeper {
    /// Starts to sweep the store about every `every`, with the defaults of [`builder`](Self::builder). An
    /// interval below one second or above 30 days is taken as that.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with time enabled.
    pub fn spawn(store: impl SessionStore, every: Duration) -> Self {
        Self::builder(store).spawn(every)
    }

    /// Settings for a sweeper of this store, which may be an `Arc` of one. By default it deletes 250
    /// records a batch, gives each batch 60 seconds, and goes by the system's clock.
    pub fn builder(store: impl SessionStore) -> SweeperBuilder {
        SweeperBuilder {
            store: Arc::new(store),
            batch: DEFAULT_BATCH,
            time_limit: DEFAULT_TIME_LIMIT,
            clock: Arc::new(SystemClock),
            events: Arc::default(),
        }
    }

    /// Stops sweeping, and waits for the batch that is being deleted, if any.
    ///
    /// Dropping the handle stops it as well, without waiting.
    pub async fn stop(self) {
        let Self { _running, task } = self;
        drop(_running);
        // An error says that the runtime shut the task down first, and then it has ended, too.
        let _: Result<(), JoinError> = task.await;
    }
}

impl SweeperBuilder {
    /// How many records to delete at most in one call of the store: 250 by default, and at least 1.
    pub fn batch(mut self, records: usize) -> Self {
        self.batch = records.max(1);
        self
    }

    /// How long one call of the store may take, before it is dropped and counts as failed: 60 seconds by
    /// default.
    pub fn time_limit(mut self, time_limit: Duration) -> Self {
        self.time_limit = time_limit;
        self
    }

    /// By which clock records are judged: the same as the session layer's. The system's by default.
    ///
    /// The waits between sweeps go by Tokio's clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Calls this with each [event](crate::events) of the sweeper:
    /// [`Swept`](crate::events::EventKind::Swept) and
    /// [`SweepFailed`](crate::events::EventKind::SweepFailed). As for
    /// [`SessionLayerBuilder::on_event`](crate::SessionLayerBuilder::on_event), it must not block, and a panic
    /// of it is logged and changes nothing. Default: none.
    pub fn on_event(mut self, callback: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        let mut events = Reporter::default();
        events.callback = Some(Arc::new(callback));
        self.events = Arc::new(events);
        self
    }

    /// Starts to sweep about every `every`. An interval below one second or above 30 days is taken as
    /// that.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with time enabled.
    pub fn spawn(self, every: Duration) -> Sweeper {
        let every = every.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
        let (running, stopped) = mpsc::channel(1);
        Sweeper {
            _running: running,
            task: tokio::spawn(self.run(every, Stopped(stopped))),
        }
    }

    async fn run(self, every: Duration, mut stopped: Stopped) {
        let mut failures = 0_u32;
        let mut wait = random_between(Duration::ZERO, every);
        while !stopped.within(wait).await {
            let mut deleted = 0;
            match self.sweep(&mut stopped, &mut deleted).await {
                Ok(()) => {
                    failures = 0;
                    self.events.swept(deleted);
                }
                Err(failure) => {
                    failures = failures.saturating_add(1);
                    self.events.sweep_failed(&failure, deleted, failures);
                }
            }
            let backoff = backoff(every, failures);
            wait = random_between(backoff * 3 / 4, backoff * 5 / 4);
        }
    }

    /// Deletes batches until one is not full, and adds up how many records that were.
    async fn sweep(&self, stopped: &mut Stopped, deleted: &mut usize) -> Result<(), SweepFailure> {
        loop {
            let started = Instant::now();
            let batch = self.delete_batch().await?;
            *deleted = deleted.saturating_add(batch);
            if batch < self.batch {
                return Ok(());
            }
            if stopped.within(started.elapsed()).await {
                return Ok(());
            }
        }
    }

    /// Deletes one batch, in a task of its own, so that a panic in there is a failure like any other.
    async fn delete_batch(&self) -> Result<usize, SweepFailure> {
        let Self {
            store,
            batch,
            time_limit,
            clock,
            events: _,
        } = self.clone();
        let mut task = tokio::spawn(async move { store.delete_expired(clock.now(), batch).await });
        match timeout(time_limit, &mut task).await {
            Ok(Ok(outcome)) => outcome.map_err(SweepFailure::Store),
            Ok(Err(error)) if error.is_panic() => Err(SweepFailure::Panicked),
            // Only the runtime cancels it, when it shuts down; then this task is about to end as well.
            Ok(Err(_)) => Ok(0),
            Err(_) => {
                task.abort();
                Err(SweepFailure::TimedOut(time_limit))
            }
        }
    }
}

/// Tells the task that its handle was dropped.
struct Stopped(mpsc::Receiver<Infallible>);

impl Stopped {
    /// Waits, and says whether the handle was dropped by then.
    async fn within(&mut self, wait: Duration) -> bool {
        timeout(wait, self.0.recv()).await.is_ok()
    }
}

/// How long to wait after so many failures in a row.
fn backoff(every: Duration, failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures);
    every.saturating_mul(factor).min(LONGEST_BACKOFF.max(every))
}

fn random_between(shortest: Duration, longest: Duration) -> Duration {
    shortest + (longest - shortest).mul_f64(rand::random())
}

/// Why a batch was not deleted.
#[derive(Debug)]
enum SweepFailure {
    Store(StoreError),
    Panicked,
    TimedOut(Duration),
}

impl fmt::Display for SweepFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(_) => f.write_str("the store failed"),
            // Not what it panicked with: that could be data of a session.
            Self::Panicked => f.write_str("the store panicked"),
            Self::TimedOut(limit) => write!(
                f,
                "the store took longer for a batch than the sweeper's time_limit of {limit:?}"
            ),
        }
    }
}

impl Error for SweepFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Panicked | Self::TimedOut(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
