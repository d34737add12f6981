//! Writes that overlap with `delete_expired`: it checks the expiry in the step that deletes.

use std::sync::Arc;

use time::OffsetDateTime;

use super::support::{DAY, HOUR, MILLISECOND, ROUNDS, Subject, handle, now, race, record, touched};
use crate::store::{Handle, Outcome, Record, SWEEP_GRACE, SessionStore};

/// A record that a `touch` extends while `delete_expired` runs is never deleted: either the touch is
/// [`Missing`](Outcome::Missing), or the record stays.
pub async fn a_sweep_spares_what_is_touched_meanwhile(store: Arc<dyn SessionStore>) {
    during_sweeps(
        Subject(store),
        |store, handle, old, live_until| async move {
            let now = old.expires_at - MILLISECOND;
            match store.touch(&handle, live_until, old.version, now).await {
                Outcome::Done => Meanwhile::Written(touched(&old, live_until)),
                Outcome::Missing => Meanwhile::Swept,
                Outcome::Conflict => panic!("touch: a conflict, though nothing updates"),
            }
        },
    )
    .await;
}

/// A record that an `update` extends while `delete_expired` runs is never deleted: either the update is
/// [`Missing`](Outcome::Missing), or the record stays.
pub async fn a_sweep_spares_what_is_updated_meanwhile(store: Arc<dyn SessionStore>) {
    during_sweeps(
        Subject(store),
        |store, handle, old, live_until| async move {
            let now = old.expires_at - MILLISECOND;
            let new = record(1_000 + old.version.to_u64(), live_until);
            match store.update(&handle, &new, old.version, now).await {
                Outcome::Done => Meanwhile::Written(new),
                Outcome::Missing => Meanwhile::Swept,
                Outcome::Conflict => panic!("update: a conflict, though nothing else updates"),
            }
        },
    )
    .await;
}

/// A record that is created on the handle of an expired one, which was deleted, while `delete_expired`
/// runs, is never taken for the expired one.
pub async fn a_sweep_spares_what_is_created_anew_meanwhile(store: Arc<dyn SessionStore>) {
    during_sweeps(
        Subject(store),
        |store, handle, old, live_until| async move {
            let new = record(1_000 + old.version.to_u64(), live_until);
            let found = store.delete(&handle).await;
            assert!(
                store.try_create(&handle, &new).await,
                "create: a handle whose record was deleted is refused"
            );
            if found {
                Meanwhile::Written(new)
            } else {
                Meanwhile::SweptAndWritten(new)
            }
        },
    )
    .await;
}

/// What became of an expired record while sweeps ran.
enum Meanwhile {
    /// It was replaced before a sweep took it: this one must be there.
    Written(Record),
    /// A sweep took it.
    Swept,
    /// A sweep took it, and another was written: this one must be there.
    SweptAndWritten(Record),
}

/// Runs sweeps by a clock that is ahead against writes by one that is behind.
async fn during_sweeps<F, R>(store: Subject, write: F)
where
    F: Fn(Subject, Handle, Record, OffsetDateTime) -> R + Send + Sync,
    R: Future<Output = Meanwhile> + Send + 'static,
{
    const TASKS: usize = 16;
    let start = now();
    let expires_at = start + HOUR;
    let swept_at = expires_at + SWEEP_GRACE;
    for round in 0..ROUNDS {
        // One sweep for three writes, so that they start among each other.
        let sweeps = |task: usize| task % 4 == round as usize % 4;
        let handle = |task: usize| handle(round << 32 | task as u64);
        let expired = |task: usize| record(task as u64, expires_at);
        for task in (0..TASKS).filter(|&task| !sweeps(task)) {
            store.create(&handle(task), &expired(task)).await;
        }
        let results = race(TASKS, |task| {
            let store = store.clone();
            let write = (!sweeps(task))
                .then(|| write(store.clone(), handle(task), expired(task), start + DAY));
            async move {
                match write {
                    Some(write) => Ok(write.await),
                    None => Err(store.delete_expired(swept_at, TASKS).await),
                }
            }
        })
        .await;

        let mut counted = 0;
        let mut missed = 0;
        for (task, result) in results.iter().enumerate() {
            let handle = handle(task);
            match result {
                Err(deleted) => counted += deleted,
                Ok(Meanwhile::Written(record)) => {
                    let when = "after it was written while delete_expired ran";
                    store.holds(&handle, record, when).await;
                }
                Ok(Meanwhile::Swept) => {
                    missed += 1;
                    let when = "after delete_expired has taken it";
                    store.holds_none(&handle, when).await;
                }
                Ok(Meanwhile::SweptAndWritten(record)) => {
                    missed += 1;
                    let when = "after it was created while delete_expired ran";
                    store.holds(&handle, record, when).await;
                }
            }
        }
        assert_eq!(
            counted, missed,
            "what delete_expired says it deleted, and what was found deleted"
        );
    }
}
