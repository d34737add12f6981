//! Deletes expired records on a schedule.

/// Deletes expired records on a schedule.
#[derive(Debug)]
pub struct Sweeper;
