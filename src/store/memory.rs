//! Sessions in this process's memory.

/// Keeps sessions in this process's memory.
#[derive(Debug)]
pub struct MemoryStore;
