//! Sessions in files, one a session.

/// Keeps sessions in files, one a session.
#[derive(Debug)]
pub struct FileStore;
