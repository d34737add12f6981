//! Ends sessions of a user, or of all, wherever they are.

use std::sync::Arc;

use super::identity::end_own;
use super::index::end_listed;
use super::{in_task, run_or_discard};
use crate::error::Error;
use crate::events::EndedBy;
use crate::id::Handle;
use crate::settings::Settings;
use crate::slot::Slot;
use crate::store::{StoreErrorKind, Whose};

/// How many sessions of all users are deleted by one call of the store.
const DELETED_PER_CALL: usize = 500;

/// Ends every session of a user but this one, in a task of its own, and returns how many that were.
///
/// The mark comes first: a login that began before is refused from then on, so what is on the list after it
/// is all there is.
///
/// # Errors
///
/// When the store fails, or keeps no list of users. Some of them may have ended then.
pub(crate) async fn end_of_user(
    settings: Arc<Settings>,
    user_id: Arc<str>,
    but: Option<Handle>,
    by: EndedBy,
) -> Result<usize, Error> {
    in_task(settings.clone(), async move {
        end_all_but(&settings, &user_id, but, by).await
    })
    .await
}

/// Ends every other session of the user of this request, then gives its own a new id, all in one task: a
/// client that hangs up in between leaves nobody with an id from before.
///
/// # Errors
///
/// As [`end_of_user`], when the session takes no changes, and when it cannot be saved. The id is renewed with
/// the response then.
pub(crate) async fn end_others(
    slot: Arc<Slot>,
    user_id: Arc<str>,
    own: Option<Handle>,
) -> Result<usize, Error> {
    let entered = slot.enter().await;
    slot.change(|state| {
        state.wishes.renew = true;
        Ok(())
    })?;
    let settings = slot.settings.clone();
    in_task(settings.clone(), async move {
        let ended = end_all_but(&settings, &user_id, own, EndedBy::OtherSession).await?;
        run_or_discard(slot, entered).await?;
        Ok(ended)
    })
    .await
}

/// Ends every session of the user of this request, its own one last, all in one task; so a client that hangs
/// up in between leaves none of them.
///
/// # Errors
///
/// As [`end_of_user`], and when the session is closed. Its own session lives on then, to try again with.
pub(crate) async fn end_all_and_own(
    slot: Arc<Slot>,
    user_id: Arc<str>,
    own: Option<Handle>,
) -> Result<usize, Error> {
    let entered = slot.enter().await;
    // Here, and not in the task, as in `destroy`.
    if slot.with(|state| state.closed) != Some(false) {
        return Err(Error::closed());
    }
    let settings = slot.settings.clone();
    in_task(settings.clone(), async move {
        let others = end_all_but(&settings, &user_id, own, EndedBy::OtherSession).await?;
        end_own(slot, entered).await?;
        Ok(others + 1)
    })
    .await
}

/// One that cannot be ended keeps none of the others alive; its error is returned when they have ended.
async fn end_all_but(
    settings: &Arc<Settings>,
    user_id: &Arc<str>,
    but: Option<Handle>,
    by: EndedBy,
) -> Result<usize, Error> {
    let now = settings.now();
    settings.mark(Whose::User(user_id), now).await?;
    let mut ended = 0;
    let mut failed = None;
    for session in settings.list(user_id, now).await? {
        if Some(session.handle) == but {
            continue;
        }
        match end_listed(settings, user_id, &session.handle, by).await {
            Ok(was_there) => ended += usize::from(was_there),
            // Each of the others would take as long.
            Err(error) if error.store_error_kind() == Some(StoreErrorKind::TimedOut) => {
                return Err(error);
            }
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(ended), Err)
}

/// Ends this session if it is one of this user's, in a task of its own; `false` if it is not.
///
/// A session that has a user never gets another one, so nothing can come between the look and the ending.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn end_one(
    settings: Arc<Settings>,
    user_id: Arc<str>,
    handle: Handle,
    by: EndedBy,
) -> Result<bool, Error> {
    in_task(settings.clone(), async move {
        let record = settings.load(&handle).await;
        let record = record
            .map_err(|error| Error::store("the session of the user could not be loaded", error))?;
        match record {
            Some(record) if record.user_id.as_ref() == Some(&user_id) => {
                end_listed(&settings, &user_id, &handle, by).await
            }
            _ => Ok(false),
        }
    })
    .await
}

/// Ends every session of every user, in a task of its own, and returns how many that were.
///
/// # Errors
///
/// As [`end_of_user`].
pub(crate) async fn end_of_everyone(settings: Arc<Settings>) -> Result<usize, Error> {
    in_task(settings.clone(), async move {
        settings.mark(Whose::Everyone, settings.now()).await?;
        let mut ended = 0;
        let mut from = None;
        loop {
            let deleted = settings
                .delete_linked(from.as_ref(), DELETED_PER_CALL)
                .await?;
            ended += deleted.deleted;
            from = match deleted.next {
                None => return Ok(ended),
                next => next,
            };
        }
    })
    .await
}
