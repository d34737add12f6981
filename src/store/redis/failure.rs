//! What Redis's errors say to the operator.

use redis::RedisError;

use crate::store::StoreError;

/// The error for an operation that Redis failed at; `doing` completes "cannot …".
pub(super) fn failed(doing: &str, error: RedisError) -> StoreError {
    if error.is_timeout() {
        return StoreError::timed_out(format!(
            "cannot {doing}: no answer within the client's response timeout, or no connection within its \
             connection timeout"
        ));
    }
    if error.code() == Some("WRONGTYPE") {
        return StoreError::undecodable(
            format!("cannot {doing}: the key holds something of another type"),
            error,
        );
    }
    match reason(&error) {
        Some(reason) => StoreError::unavailable(format!("cannot {doing}: {reason}"), error),
        None => StoreError::unavailable(format!("cannot {doing}"), error),
    }
}

/// What an error code means for sessions, where that is not plain from the server's own words.
fn reason(error: &RedisError) -> Option<&'static str> {
    match error.code() {
        Some("READONLY") => {
            Some("the server is a read-only replica, of which no sessions are loaded either")
        }
        Some("OOM") => Some(
            "the server has reached its maxmemory, and its maxmemory-policy (rightly) evicts nothing",
        ),
        Some("LOADING") => Some("the server is still loading its data"),
        Some("MASTERDOWN") => Some("the server is a replica that has lost its master"),
        Some("CLUSTERDOWN") => Some("the cluster is down, or no master has this key's slot"),
        Some("NOREPLICAS") => Some("the server has fewer replicas than its min-replicas-to-write"),
        Some("MISCONF") => Some("the server cannot write to its disk"),
        Some("BUSY") => Some("the server is busy with somebody's script"),
        Some("NOPERM") => Some("the client's user may not run the command, or not on these keys"),
        Some("NOAUTH" | "WRONGPASS") => Some("the client has not authenticated"),
        Some(_) => None,
        None if error.is_connection_refusal() => Some("the connection was refused"),
        None if error.is_connection_dropped() => Some("the connection broke"),
        None => None,
    }
}
