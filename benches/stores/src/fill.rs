//! Makes sessions as apps do: by a layer, which puts them into the store.

use std::sync::Arc;
use std::time::Duration;

use cloakroom::clock::Clock;
use cloakroom::store::{Handle, OffsetDateTime, SessionStore};
use cloakroom::testing::new_session;
use cloakroom::{SessionLayer, Timeouts};
use tokio::task::JoinSet;

use crate::Result;
use crate::options::Options;

/// How many sessions are made at a time.
const CALLERS: usize = 32;

/// The idle timeout of the sessions, which is what they expire by.
pub(crate) const IDLE: Duration = Duration::from_secs(60 * 60);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Live for days.
    Live,
    /// Expired at this time, or about to.
    Expired(OffsetDateTime),
}

/// Adds `count` sessions to the store, and their handles to `handles`.
pub(crate) async fn fill(
    store: Arc<dyn SessionStore>,
    kind: Kind,
    count: usize,
    options: &Options,
    handles: &mut Vec<Handle>,
) -> Result<()> {
    let day = 24 * IDLE;
    let builder = SessionLayer::builder(store).store_timeout(Duration::from_secs(60));
    let layer = match kind {
        // Longer than any run, so that what is measured is a live session.
        Kind::Live => builder.timeouts(Timeouts::new(10 * day, 20 * day)),
        Kind::Expired(at) => builder
            .timeouts(Timeouts::new(IDLE, day))
            .clock(Stopped(at - IDLE)),
    }
    .build()?;
    let mut makers = JoinSet::new();
    for caller in 0..CALLERS {
        let layer = layer.clone();
        let value = "v".repeat(options.value_bytes);
        let users = options.users;
        let numbers = (handles.len() + caller..handles.len() + count).step_by(CALLERS);
        makers.spawn(async move {
            let mut made = Vec::new();
            for number in numbers {
                made.push(make(&layer, &value, users.then_some(number)).await?);
            }
            Result::Ok(made)
        });
    }
    while let Some(made) = makers.join_next().await {
        handles.extend(made??);
    }
    Ok(())
}

async fn make(layer: &SessionLayer, value: &str, user: Option<usize>) -> Result<Handle> {
    let session = new_session(layer);
    session.insert("cart", value)?;
    match user {
        Some(number) => session.login(format!("user-{number:09}")).await?,
        None => session.save().await?,
    }
    session
        .handle()
        .ok_or_else(|| "a saved session has no handle".into())
}

/// A clock at which sessions are made that have expired by now.
#[derive(Clone, Copy, Debug)]
struct Stopped(OffsetDateTime);

impl Clock for Stopped {
    fn now(&self) -> OffsetDateTime {
        self.0
    }
}
