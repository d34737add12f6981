//! Waiting for a lock file, for a limited time and only while somebody wants the result.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::folder::{failed, private_file};
use crate::store::StoreError;

const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// The file, locked; the lock ends when it is dropped, or when the process does.
///
/// It tries again and again instead of waiting in the kernel: a process that hangs with the lock in its
/// hands would keep a thread of this one there for good, and its runtime from shutting down.
///
/// # Errors
///
/// [`StoreError::timed_out`] if another has held the lock for `timeout`, or if the caller left meanwhile;
/// or another if the file cannot be opened or locked.
pub(super) fn acquire(path: &Path, timeout: Duration, caller: &Caller) -> Result<File, StoreError> {
    // On a fresh descriptor each time: these locks belong to the descriptor, so a kept one would not
    // exclude the threads that share it, and would miss that the folder was replaced.
    let file = private_file()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| failed("open the lock file", path, error))?;
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = file.try_lock();
        // After the attempt, so that no step begins whose caller left while another held the lock.
        caller.check()?;
        match attempt {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed("lock", path, error)),
            Err(TryLockError::WouldBlock) if started.elapsed() >= timeout => {
                return Err(StoreError::timed_out(format!(
                    "another process has held {} for the lock timeout of {timeout:?}",
                    path.display()
                )));
            }
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Whoever waits for a blocking step, as that step sees them: they may have left.
#[derive(Debug)]
pub(super) struct Caller(Arc<AtomicBool>);

/// Held by the future that waits: when it is dropped, the caller has left.
#[derive(Debug)]
pub(super) struct Waiting(Arc<AtomicBool>);

impl Caller {
    pub(super) fn new() -> (Self, Waiting) {
        let left = Arc::new(AtomicBool::new(false));
        (Self(Arc::clone(&left)), Waiting(left))
    }

    /// # Errors
    ///
    /// If the caller has left. Nobody gets to see it.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.0.load(Ordering::Acquire) {
            return Err(StoreError::timed_out("the caller no longer waits"));
        }
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
