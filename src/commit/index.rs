//! Keeps the lists of users' sessions in step with logins and endings.
//!
//! A login has written its record when it comes here, and its id is not sent yet: so what fails here ends
//! that session, and nobody has held its id.

use std::sync::Arc;

use super::Patience;
use crate::clock::{from_unix_millis, to_unix_millis};
use crate::commit::identity::delete;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::events::{EndedBy, Subject};
use crate::id::Handle;
use crate::login::Login;
use crate::settings::Settings;
use crate::state::Live;
use crate::store::{
    Link, Linked, LinkedSession, LoginProgress, MARK_KEPT, SessionLimit, StoreErrorKind,
};
use crate::timeouts::millis;

/// How far the clocks of two nodes may be apart, in milliseconds.
const CLOCK_SKEW: i64 = 1_000;

/// Refuses a login that would be one too many, before anything is written for it.
///
/// Another login may come in between: [`link`] is what decides.
///
/// # Errors
///
/// [`TooManySessions`](ErrorKind::TooManySessions), or when the store fails.
pub(super) async fn check_room(
    settings: &Settings,
    login: &Login,
    own: Option<&Handle>,
) -> Result<(), Error> {
    let Some(SessionLimit::RefuseLogin(most)) = settings.session_limit else {
        return Ok(());
    };
    if login.progress() == LoginProgress::Pending {
        return Ok(());
    }
    let now = settings.now();
    let listed = settings.list(login.user_id(), now).await?;
    let mut alive = 0;
    for other in listed {
        let counts = other.progress == LoginProgress::Complete && own != Some(&other.handle);
        if counts && is_alive(settings, login.user_id(), &other.handle, now).await? {
            alive += 1;
        }
    }
    if alive >= most {
        return Err(Error::too_many_sessions(most));
    }
    Ok(())
}

/// Puts the session of a login on the list of its user, and ends what the limit asks for.
///
/// # Errors
///
/// [`Overtaken`](ErrorKind::Overtaken), [`TooManySessions`](ErrorKind::TooManySessions), or when the store
/// fails: the session is to be ended then.
pub(super) async fn link(
    settings: &Arc<Settings>,
    live: &Live,
    loaded_at: i64,
) -> Result<(), Error> {
    let Some(user_id) = &live.record.user_id else {
        return Ok(());
    };
    let now = settings.now();
    // A mark that would refuse it may be forgotten by now.
    if now.saturating_sub(loaded_at) >= millis(MARK_KEPT) - CLOCK_SKEW {
        return Err(Error::overtaken());
    }
    let link = Link {
        linked_at: from_unix_millis(now),
        expires_at: from_unix_millis(live.header.timeouts.deadline(live.header.started_at)),
        refused_by_marks_from: from_unix_millis(loaded_at.saturating_sub(CLOCK_SKEW)),
        progress: live.header.progress(),
        limit: settings.session_limit,
    };
    let mut patience = Patience::new(settings.clone());
    loop {
        match settings.link(user_id, live.handle(), &link).await? {
            Linked::Done(others) => {
                return match settings.session_limit {
                    Some(SessionLimit::EndOldest(most)) => {
                        end_surplus(settings, user_id, others, most, now).await
                    }
                    _ => Ok(()),
                };
            }
            Linked::Overtaken => return Err(Error::overtaken()),
            Linked::Full(others) => {
                let mut freed = false;
                for other in &others {
                    if !is_alive(settings, user_id, &other.handle, now).await? {
                        end_listed(settings, user_id, &other.handle, EndedBy::Limit).await?;
                        freed = true;
                    }
                }
                if !freed {
                    return Err(Error::too_many_sessions(others.len()));
                }
                patience.pause(&Subject::of(live)).await?;
            }
        }
    }
}

/// Ends the oldest of these sessions, so that `most` are left with the one that logs in.
///
/// All logins together leave the right number: the one that was linked last has seen all others.
async fn end_surplus(
    settings: &Settings,
    user_id: &Arc<str>,
    others: Vec<LinkedSession>,
    most: usize,
    now: i64,
) -> Result<(), Error> {
    let mut kept = 1;
    for other in others.iter().rev() {
        if kept < most && is_alive(settings, user_id, &other.handle, now).await? {
            kept += 1;
        } else if kept >= most {
            end_listed(settings, user_id, &other.handle, EndedBy::Limit).await?;
        }
    }
    Ok(())
}

/// Whether a session on a user's list can still be opened, as far as this node can tell.
async fn is_alive(
    settings: &Settings,
    user_id: &str,
    handle: &Handle,
    now: i64,
) -> Result<bool, Error> {
    match settings.load(handle).await {
        Ok(Some(record)) => {
            Ok(record.user_id.as_deref() == Some(user_id)
                && to_unix_millis(record.expires_at) > now)
        }
        Ok(None) => Ok(false),
        // Another version of the program may be able to open it.
        Err(error) if error.kind() == StoreErrorKind::Undecodable => Ok(true),
        Err(error) => Err(Error::store(
            "a session of the user could not be loaded",
            error,
        )),
    }
}

/// Ends a session that is on a user's list: the record first, so that a crash in between leaves no session
/// that is alive and not listed. `false` if it had ended before.
///
/// # Errors
///
/// When the store fails to delete the record. An entry that stays on the list does no harm.
pub(crate) async fn end_listed(
    settings: &Settings,
    user_id: &Arc<str>,
    handle: &Handle,
    by: EndedBy,
) -> Result<bool, Error> {
    let deleted = delete(settings, handle).await?;
    settings.unlink(user_id, handle).await;
    if deleted {
        let subject = Subject {
            handle: *handle,
            user_id: Some(user_id.clone()),
        };
        settings.events.ended(by, &subject);
    }
    Ok(deleted)
}

/// Has the entry of a session stay for as long as the session can live.
///
/// # Errors
///
/// When the store fails.
pub(super) async fn extend(settings: &Settings, live: &Live) -> Result<(), Error> {
    let Some(user_id) = &live.record.user_id else {
        return Ok(());
    };
    let deadline = live.header.timeouts.deadline(live.header.started_at);
    settings
        .extend(user_id, live.handle(), from_unix_millis(deadline))
        .await
}
