//! The pool that a store on a server makes for itself.

use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::{Connection, Pool};

use super::dialect::{Dialect, failed};
use crate::store::StoreError;

/// How long an operation waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// After how long without use a connection is tested.
const TEST_AFTER: Duration = Duration::from_secs(60);

/// A pool that costs no round trip for each use of a connection, and hands out none that broke while nobody
/// used it. `server` says where it leads, without a password.
///
/// # Errors
///
/// If there is no connection within the time for which an operation waits for one, or the server refuses.
pub(in crate::store) async fn connect<DB: Dialect>(
    server: &str,
    options: <DB::Connection as Connection>::Options,
) -> Result<Pool<DB>, StoreError> {
    PoolOptions::new()
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection: &mut DB::Connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TEST_AFTER {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_with(options)
        .await
        .map_err(|error| match error {
            // A connection that is refused is tried again until then, since the server may be starting.
            sqlx::Error::PoolTimedOut => StoreError::timed_out(format!(
                "cannot connect to {server} within {ACQUIRE_TIMEOUT:?}: is the server running there?"
            )),
            error => failed::<DB>(&format!("connect to {server}"), error),
        })
}
