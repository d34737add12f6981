//! Changes of identity: they take effect at once, and nothing undoes them.

use std::sync::Arc;

use super::index::{check_room, end_listed, link};
use super::{Base, Patience, finish, in_task, took_effect};
use crate::error::{Error, ErrorKind};
use crate::events::{EndedBy, EventKind, Subject};
use crate::id::{Handle, SessionId};
use crate::load::open;
use crate::login::Login;
use crate::settings::Settings;
use crate::slot::{Entered, Slot};
use crate::state::data::Loaded;
use crate::state::plan::{Dropped, LoginPlan, Write, plan_login};
use crate::state::{CookieEffect, Job, Live, Standing};
use crate::store::{LoginProgress, Outcome, StoreErrorKind};

/// Logs a user in, in a task of its own.
///
/// # Errors
///
/// When the login cannot be meant, the session is closed, the store fails, or other requests keep changing
/// the session.
pub(crate) async fn login(slot: Arc<Slot>, login: Login) -> Result<(), Error> {
    login.check()?;
    let entered = slot.enter().await;
    slot.change(|_| Ok(()))?;
    in_task(slot.settings.clone(), log_in(slot, entered, login)).await
}

async fn log_in(slot: Arc<Slot>, _entered: Entered<Arc<Slot>>, login: Login) -> Result<(), Error> {
    let settings = slot.settings.clone();
    let mut patience = Patience::new(settings.clone());
    let staged = slot.with(|state| (state.job(), state.live().cloned().map(Box::new)));
    let (mut job, live) = staged.ok_or_else(Error::closed)?;
    let own = live.as_ref().map(|live| *live.handle());
    check_room(&settings, &login, own.as_ref()).await?;
    let completes = live.as_ref().is_some_and(|live| is_step_of(live, &login));
    let mut standing = live.map_or(Standing::Absent, Standing::Live);
    loop {
        // Its first factor was ended with it, and may be a password that was changed since.
        if completes && !matches!(standing, Standing::Live(_)) {
            return Err(Error::overtaken());
        }
        let now = settings.now();
        // By what was loaded it has expired; another request may have kept it alive since.
        if let Standing::Live(live) = &standing
            && live.expires_at() <= now
        {
            standing = reload(&slot, &live.id, &mut job).await?;
        }
        let base = match &standing {
            Standing::Live(live) => Some((Base::of(live), Subject::of(live))),
            _ => None,
        };
        let fresh = SessionId::generate()?;
        match (
            plan_login(&standing, &job, &login, now, &settings.rules, fresh),
            base,
        ) {
            (LoginPlan::Update(write), Some((base, subject))) => {
                let record = &write.live.record;
                let update = settings.update(&base.id.handle, record, base.version, now);
                match update.await {
                    Ok(Outcome::Done) => return logged_in(&slot, write, &job).await,
                    Ok(Outcome::Missing) => absent(&mut standing, &mut job)?,
                    Ok(Outcome::Conflict) => {
                        patience.pause(&subject).await?;
                        standing = reload(&slot, &base.id, &mut job).await?;
                    }
                    Err(error) if took_effect(&slot, &write, &error).await => {
                        return logged_in(&slot, write, &job).await;
                    }
                    Err(error) => return Err(Error::store("the login could not be saved", error)),
                }
            }
            (LoginPlan::End, Some((_, subject))) => {
                end(&slot, subject, EndedBy::AnotherUser).await?;
                absent(&mut standing, &mut job)?;
            }
            (LoginPlan::Create(write), _) => {
                let created = settings
                    .create(write.live.handle(), &write.live.record)
                    .await;
                return match created {
                    Err(error) if !took_effect(&slot, &write, &error).await => {
                        Err(Error::store("the login could not be saved", error))
                    }
                    _ => logged_in(&slot, write, &job).await,
                };
            }
            (LoginPlan::Update(_) | LoginPlan::End, None) => absent(&mut standing, &mut job)?,
        }
    }
}

/// Whether this login goes on from one of the same user whose second factor was still to come.
fn is_step_of(live: &Live, login: &Login) -> bool {
    live.header.progress() == LoginProgress::Pending
        && live.record.user_id.as_ref() == Some(login.user_id())
}

/// The login is saved, and its id not sent yet: it is put on the list of its user, and the request goes on
/// from it.
async fn logged_in(slot: &Slot, write: Write, job: &Job) -> Result<(), Error> {
    let subject = Subject::of(&write.live);
    let loaded_at = slot.with(|state| state.loaded_at).unwrap_or(i64::MIN);
    if let Err(error) = link(&slot.settings, &write.live, loaded_at).await {
        // Nobody holds its id. If it cannot be deleted, it is closed to this request all the same, and that
        // was reported.
        let _reported = end(slot, subject, EndedBy::FailedLogin).await;
        return Err(error);
    }
    let finished = finish(slot, write, job);
    slot.settings.events.tell(EventKind::LoggedIn, &subject);
    finished
}

/// What the id opens by now; what is staged is put on top of that.
async fn reload(slot: &Slot, id: &SessionId, job: &mut Job) -> Result<Standing, Error> {
    let (standing, loaded) = open(slot, id, slot.settings.now()).await?;
    job.rebase(loaded)?;
    Ok(standing)
}

/// There is no session to log in to: what this request staged goes into a fresh one.
fn absent(standing: &mut Standing, job: &mut Job) -> Result<(), Error> {
    *standing = Standing::Absent;
    job.rebase(Loaded::nothing())
}

/// Ends the session of this request, in a task of its own.
///
/// # Errors
///
/// When the session is closed, or the store fails: then no removal cookie goes out, and nothing more is
/// written under the handle.
pub(crate) async fn destroy(slot: Arc<Slot>) -> Result<(), Error> {
    let entered = slot.enter().await;
    // Here, and not in the task: a client that hangs up before that begins does not stop it.
    if slot.with(|state| state.closed) != Some(false) {
        return Err(Error::closed());
    }
    let ended = in_task(slot.settings.clone(), end_own(slot, entered)).await;
    ended.map_err(|error| match error.kind() {
        ErrorKind::EndingFailed => error,
        // The store panicked.
        _ => ending_failed(error),
    })
}

fn ending_failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::with_source(
        ErrorKind::EndingFailed,
        "the session could not be ended",
        source,
    )
}

pub(super) async fn end_own(slot: Arc<Slot>, _entered: Entered<Arc<Slot>>) -> Result<(), Error> {
    let target = slot.with(|state| {
        match &state.standing {
            Standing::Live(live) => Some(Subject::of(live)),
            // Another try at an ending that failed.
            Standing::EndingFailed(subject, _) => Some(subject.clone()),
            Standing::Absent => {
                let cookie = state.brought_id || matches!(state.cookie, CookieEffect::Set { .. });
                state.cookie = if cookie {
                    CookieEffect::Remove
                } else {
                    CookieEffect::Keep
                };
                state.become_absent(Standing::Absent);
                None
            }
            // A removal could push the cookie out that replaced ours.
            Standing::Lost(why) => {
                let why = *why;
                state.become_absent(Standing::Lost(why));
                None
            }
        }
    });
    match target.flatten() {
        Some(subject) => end(&slot, subject, EndedBy::Request).await,
        None => Ok(()),
    }
}

/// Ends the session of this request.
async fn end(slot: &Slot, subject: Subject, by: EndedBy) -> Result<(), Error> {
    let settings = &*slot.settings;
    let fail = |error: &Error| {
        slot.with(|state| {
            state.cookie = CookieEffect::Keep;
            state.become_absent(Standing::EndingFailed(subject.clone(), error.clone()));
        });
    };
    // Until it is known to have succeeded it has failed, so that a store that panics leaves no session to
    // write to.
    fail(&ending_failed("the store has not answered"));
    let deleted = delete(settings, &subject.handle).await;
    // Also where another request has ended it: that one may know of no user.
    if let (Ok(_), Some(user_id)) = (&deleted, &subject.user_id) {
        settings.unlink(user_id, &subject.handle).await;
    }
    let (cookie, standing) = match &deleted {
        Ok(true) => (CookieEffect::Remove, Standing::Absent),
        // Another request ended it, and removes the cookie; or has set a newer one by now.
        Ok(false) => (CookieEffect::Keep, Standing::Lost(Dropped::Ended)),
        Err(error) => {
            fail(error);
            return deleted.map(|_| ());
        }
    };
    slot.with(|state| {
        state.cookie = cookie;
        state.become_absent(standing);
    });
    if let Ok(true) = deleted {
        settings.events.ended(by, &subject);
    }
    Ok(())
}

/// Ends the session of which a copy of an id is in use, in a task of its own.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn end_copied(settings: Arc<Settings>, subject: Subject) -> Result<(), Error> {
    in_task(settings.clone(), async move {
        if let Some(user_id) = &subject.user_id {
            end_listed(&settings, user_id, &subject.handle, EndedBy::CopyInUse).await?;
        } else if delete(&settings, &subject.handle).await? {
            settings.events.ended(EndedBy::CopyInUse, &subject);
        }
        Ok(())
    })
    .await
}

/// Deletes a record; `false` if there was none.
///
/// # Errors
///
/// When the store fails.
pub(super) async fn delete(settings: &Settings, handle: &Handle) -> Result<bool, Error> {
    match settings.delete(handle).await {
        // That it is gone now says nothing then: a failover may bring it back.
        Err(error) if error.kind() == StoreErrorKind::Unconfirmed => Err(ending_failed(error)),
        // It may have taken effect all the same.
        Err(error) => match settings.load(handle).await {
            Ok(None) => Ok(true),
            _ => Err(ending_failed(error)),
        },
        Ok(deleted) => Ok(deleted),
    }
}
