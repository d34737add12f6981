//! What the crate tells the operator, as `tracing` events.
//!
//! Every event of the crate is a function here, so that a reviewer sees in one place that none carries a
//! secret or data of a session: at most the session's handle, which is public.

use crate::store::StoreError;

/// The source of an error and the sources behind it, as one line.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// A store call failed.
pub(crate) fn store_failed(operation: &'static str, error: &StoreError) {
    tracing::error!(operation, error = %Chain(error), "the session store failed");
}

/// A sweep went past records that it cannot read.
#[cfg(feature = "file")]
pub(crate) fn records_unreadable(records: usize, example: &StoreError) {
    tracing::warn!(
        records,
        example = %Chain(example),
        "session records cannot be read; they were left in place"
    );
}

/// The folder of the file store was there already, with rights that its own directories do not have.
#[cfg(feature = "file")]
pub(crate) fn folder_writable_by_others(path: &std::path::Path) {
    tracing::warn!(
        path = %path.display(),
        "the folder of the session files can be written by others than its owner, who can so delete \
         sessions"
    );
}
