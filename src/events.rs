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
