//! Random bytes that nobody can guess: those of the operating system.

use std::fmt;

use rand::TryRng;
use rand::rngs::{SysError, SysRng};

/// The operating system's random source failed.
#[derive(Debug)]
pub(crate) struct RandomSourceError(SysError);

impl fmt::Display for RandomSourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operating system's random source failed")
    }
}

impl std::error::Error for RandomSourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Fills a buffer from the operating system, without a generator or a reserve of our own in between, which a
/// fork of the process or a snapshot of the machine would repeat.
///
/// # Errors
///
/// When the random source fails: then there is no id, rather than one that could be guessed.
pub(crate) fn fill_random(buffer: &mut [u8]) -> Result<(), RandomSourceError> {
    SysRng.try_fill_bytes(buffer).map_err(RandomSourceError)
}
