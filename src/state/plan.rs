//! What a commit, or a login, does to the store.

use std::sync::Arc;

use super::data::Loaded;
use super::{CookieEffect, Job, Live, Standing, State, Wishes};
use crate::clock::from_unix_millis;
use crate::csrf::CsrfKey;
use crate::error::Error;
use crate::events::{EventKind, RenewedBy};
use crate::id::{SecretDigest, SessionId};
use crate::login::Login;
use crate::random::RandomSourceError;
use crate::record::payload::{Header, MAX_RETIRED, RetiredSecret, Retirement};
use crate::record::{Record, Version};
use crate::settings::Rules;
use crate::store::LoginProgress;

/// One step on the store.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing is written.
    Nothing,
    /// The session is not there to take the changes: they are dropped, with an event.
    Drop(Dropped),
    /// Activity is written: the session lives until then.
    Touch { expires_at: i64 },
    /// A record comes into being.
    Create(Write),
    /// The record is replaced, if it still has the version of `Live` that the plan was made for.
    Update {
        write: Write,
        importance: Importance,
    },
}

/// Why changes were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// The session was ended meanwhile, or its record is gone.
    Ended,
    Expired,
    /// Our id was retired meanwhile by a login or a renewal.
    Retired,
}

/// Whether anybody waits for the outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Importance {
    /// A handler's changes: they succeed, or the client is told.
    Changes,
    /// Our own bookkeeping: if another request came first, so much the better.
    Upkeep,
}

/// A record to write, and what it means to the request once it is written.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) live: Box<Live>,
    pub(crate) loaded: Loaded,
    /// What to tell the browser, if anything.
    pub(crate) cookie: Option<CookieEffect>,
    /// What is to be told of the session once this is written.
    pub(crate) told: Option<EventKind>,
}

/// What a commit does about the staged changes of a request, all of which go together.
///
/// `fresh_id` is asked for an id at most once, and only if one is to be issued.
///
/// # Errors
///
/// When `fresh_id` has none.
pub(crate) fn plan(
    standing: &Standing,
    job: &Job,
    now: i64,
    rules: &Rules,
    fresh_id: impl FnOnce() -> Result<SessionId, RandomSourceError>,
) -> Result<Plan, Error> {
    let has_changes = job.has_changes;
    let live = match standing {
        Standing::EndingFailed(..) => return Ok(Plan::Nothing),
        Standing::Lost(why) if has_changes => return Ok(Plan::Drop(*why)),
        Standing::Lost(_) => return Ok(Plan::Nothing),
        // Wishes alone make no session: a visitor who writes nothing gets no cookie and no record.
        Standing::Absent if job.data.is_empty() => return Ok(Plan::Nothing),
        Standing::Absent => {
            let draft = Draft::new(fresh_id()?, job, now, rules);
            return Ok(Plan::Create(
                draft.write(job, Issue::New(EventKind::Created)),
            ));
        }
        Standing::Live(live) => live,
    };
    let upkeep = upkeep(live, job.id_is_unsent, now, rules);
    if live.expires_at() <= now {
        return Ok(match has_changes {
            true => Plan::Drop(Dropped::Expired),
            false => Plan::Nothing,
        });
    }
    if has_changes || upkeep.is_some() {
        let importance = match has_changes {
            true => Importance::Changes,
            false => Importance::Upkeep,
        };
        let write = update(live, job, upkeep, now, fresh_id)?;
        return Ok(Plan::Update { write, importance });
    }
    Ok(match touch(live, &job.wishes, now, rules) {
        Some(expires_at) => Plan::Touch { expires_at },
        None => Plan::Nothing,
    })
}

/// Whether [`plan`] certainly has nothing to do: the common case, in which no commit is needed.
pub(crate) fn is_idle(state: &State, now: impl FnOnce() -> i64, rules: &Rules) -> bool {
    match &state.standing {
        Standing::EndingFailed(..) => true,
        Standing::Absent => state.data.is_empty(),
        Standing::Lost(_) => !state.may_have_staged(),
        Standing::Live(_) if state.may_have_staged() => false,
        Standing::Live(live) => {
            let now = now();
            live.expires_at() <= now
                || upkeep(live, state.id_is_unsent, now, rules).is_none()
                    && touch(live, &state.wishes, now, rules).is_none()
        }
    }
}

/// A change to the id that is due without anybody asking for it.
#[derive(Clone, Copy, PartialEq)]
enum Upkeep {
    /// The id has reached its age, and is renewed.
    Renew,
    /// The successor of an id that was renewed on a schedule is in use: its days are counted from now on.
    Supersede,
}

fn upkeep(live: &Live, id_is_unsent: bool, now: i64, rules: &Rules) -> Option<Upkeep> {
    let mut routine = live
        .header
        .retired
        .iter()
        .filter(|retired| retired.retirement == Retirement::Routine);
    let is_due = |after| now >= live.header.renewed_at.saturating_add(after);
    let is_due = rules.renew_after.is_some_and(is_due);
    match live.is_current {
        true if is_due => Some(Upkeep::Renew),
        // This request was issued it, in an earlier save: the client has yet to present it.
        true if id_is_unsent => None,
        true => routine.next().map(|_| Upkeep::Supersede),
        // The response with the new id got lost, as it seems: nobody has presented it for a whole interval.
        false if is_due => routine
            .find(|retired| retired.digest == live.presented)
            .map(|_| Upkeep::Renew),
        false => None,
    }
}

/// Until when a read moves the expiry, if that is worth a write.
fn touch(live: &Live, wishes: &Wishes, now: i64, rules: &Rules) -> Option<i64> {
    if wishes.do_not_extend {
        return None;
    }
    let timeouts = live.header.timeouts;
    let expires_at = timeouts.expires_at(live.header.started_at, now);
    let step = match rules.touch_every_read {
        true => 1,
        false => timeouts.touch_step(),
    };
    (expires_at.saturating_sub(live.expires_at()) >= step).then_some(expires_at)
}

/// The session with the changes of this request.
fn update(
    live: &Live,
    job: &Job,
    upkeep: Option<Upkeep>,
    now: i64,
    fresh_id: impl FnOnce() -> Result<SessionId, RandomSourceError>,
) -> Result<Write, Error> {
    let wishes = job.wishes;
    let mut draft = Draft::of(live);
    if let Some(timeouts) = wishes.timeouts {
        draft.live.header.timeouts = timeouts;
    }
    draft.live.header.persistent_cookie |= wishes.persistent_cookie;
    if !wishes.do_not_extend || wishes.timeouts.is_some() {
        let header = &draft.live.header;
        draft.expires_at = header.timeouts.expires_at(header.started_at, now);
    }
    if upkeep.is_some() && live.is_current && !job.id_is_unsent {
        supersede(&mut draft.live.header, now);
    }
    let issue = if wishes.renew {
        retire_all(&mut draft.live.header, now);
        draft.renew(fresh_id()?, now);
        draft.live.header.csrf = wishes
            .csrf
            .unwrap_or(CsrfKey::of(&draft.live.header.secret));
        Issue::New(EventKind::Renewed(RenewedBy::RenewId))
    } else if upkeep == Some(Upkeep::Renew) {
        retire(&mut draft.live.header, Retirement::Routine);
        keep_presented(&mut draft.live.header, live.presented);
        draft.renew(fresh_id()?, now);
        Issue::New(EventKind::Renewed(RenewedBy::Schedule))
    } else if wishes.persistent_cookie && live.is_current {
        Issue::Same
    } else {
        // An id that was retired on a schedule is not sent again: it would replace its successor.
        Issue::Nothing
    };
    Ok(draft.write(job, issue))
}

/// What a login does to the store.
#[derive(Debug)]
pub(crate) enum LoginPlan {
    /// The session goes on under a new secret, with the user in it.
    Update(Write),
    /// A session of somebody else, or one that expired since it was loaded, is ended first; then there is
    /// none.
    End,
    /// A fresh session, with what this request staged and nothing of an old one.
    Create(Write),
}

pub(crate) fn plan_login(
    standing: &Standing,
    job: &Job,
    login: &Login,
    now: i64,
    rules: &Rules,
    fresh_id: SessionId,
) -> LoginPlan {
    let live = match standing {
        Standing::Live(live) if live.expires_at() > now => live,
        // The data that was loaded lies under what is staged, and may be somebody else's: not into a fresh
        // session.
        Standing::Live(_) => return LoginPlan::End,
        _ => {
            let mut draft = Draft::new(fresh_id, job, now, rules);
            draft.log_in(login, job, now);
            return LoginPlan::Create(draft.write(job, Issue::New(EventKind::Created)));
        }
    };
    let mut draft = Draft::of(live);
    match &live.record.user_id {
        Some(user_id) if user_id != login.user_id() => return LoginPlan::End,
        // Who logs in again goes on as before, but for what is asked for.
        Some(_) if !login.forgets() => {}
        // An anonymous session's own settings end with it.
        _ => {
            draft.live.header.timeouts = rules.timeouts;
            draft.live.header.persistent_cookie = false;
        }
    }
    retire_all(&mut draft.live.header, now);
    draft.renew(fresh_id, now);
    draft.log_in(login, job, now);
    let told = EventKind::Renewed(RenewedBy::Login);
    LoginPlan::Update(draft.write(job, Issue::New(told)))
}

/// Retires the current secret in this way.
fn retire(header: &mut Header, retirement: Retirement) {
    let digest = header.secret;
    let retired = RetiredSecret { digest, retirement };
    header.retired.insert(0, retired);
    header.retired.truncate(MAX_RETIRED);
}

/// Retires the current secret by a change of privilege, and with it every one that still opened the session.
fn retire_all(header: &mut Header, now: i64) {
    for retired in &mut header.retired {
        if !matches!(retired.retirement, Retirement::Privileged { .. }) {
            retired.retirement = Retirement::Privileged { at: now };
        }
    }
    retire(header, Retirement::Privileged { at: now });
}

/// Puts the secret that the client has first among the retired ones, so that it is the last to be forgotten.
fn keep_presented(header: &mut Header, presented: SecretDigest) {
    let mut retired = header.retired.iter();
    if let Some(position) = retired.position(|retired| retired.digest == presented) {
        header.retired[..=position].rotate_right(1);
    }
}

fn supersede(header: &mut Header, now: i64) {
    for retired in &mut header.retired {
        if retired.retirement == Retirement::Routine {
            retired.retirement = Retirement::Superseded { at: now };
        }
    }
}

/// Whether the browser is told the id.
#[derive(Clone, Copy, PartialEq)]
enum Issue {
    /// It is new, of which this is to be told.
    New(EventKind),
    /// The one that it has.
    Same,
    Nothing,
}

/// A session in the making. Its record has yet to get its version, its expiry and its payload.
struct Draft {
    live: Box<Live>,
    expires_at: i64,
}

impl Draft {
    /// A session that nothing was loaded for, under an id of our own.
    fn new(id: SessionId, job: &Job, now: i64, rules: &Rules) -> Self {
        let secret = id.secret.digest();
        let timeouts = job.wishes.timeouts.unwrap_or(rules.timeouts);
        let created_at = from_unix_millis(now);
        let live = Live {
            id,
            presented: secret,
            is_current: true,
            record: Record {
                version: Version::from_u64(0),
                created_at,
                expires_at: created_at,
                user_id: None,
                payload: Arc::default(),
            },
            header: Header {
                secret,
                retired: Vec::new(),
                started_at: now,
                renewed_at: now,
                timeouts,
                authenticated_at: None,
                persistent_cookie: job.wishes.persistent_cookie,
                label: None,
                carrier: job.carrier,
                csrf: job.wishes.csrf.unwrap_or(CsrfKey::of(&secret)),
            },
        };
        Self {
            live: Box::new(live),
            expires_at: timeouts.expires_at(now, now),
        }
    }

    /// The session as it is.
    fn of(live: &Live) -> Self {
        Self {
            live: Box::new(live.clone()),
            expires_at: live.expires_at(),
        }
    }

    /// Gives the session the secret of `fresh`, under the handle that it keeps.
    fn renew(&mut self, fresh: SessionId, now: i64) {
        let live = &mut *self.live;
        live.presented = fresh.secret.digest();
        live.is_current = true;
        live.id.secret = fresh.secret;
        live.header.secret = live.presented;
        live.header.renewed_at = now;
    }

    /// A login ends the CSRF tokens from before, and starts both timeouts anew (NIST SP 800-63B-4 §5.2), with what it asks for, or else with
    /// what this request staged.
    fn log_in(&mut self, login: &Login, job: &Job, now: i64) {
        let header = &mut self.live.header;
        header.started_at = now;
        header.authenticated_at = match login.progress() {
            LoginProgress::Complete => Some(now),
            LoginProgress::Pending => None,
        };
        if let Some(timeouts) = login.timeouts().or(job.wishes.timeouts) {
            header.timeouts = timeouts;
        }
        header.persistent_cookie |= login.timeouts().is_some() || job.wishes.persistent_cookie;
        if let Some(label) = login.label_text() {
            header.label = Some(label.clone()).filter(|label| !label.is_empty());
        }
        header.csrf = CsrfKey::of(&header.secret);
        self.expires_at = header.timeouts.expires_at(now, now);
        self.live.record.user_id = Some(login.user_id().clone());
    }

    fn write(self, job: &Job, issue: Issue) -> Write {
        let mut live = self.live;
        let mut payload = live.header.encode(job.data.size());
        let start = payload.len();
        job.data.encode(&mut payload);
        let payload: Arc<[u8]> = payload[..].into();
        live.record.version = Version::generate();
        live.record.expires_at = from_unix_millis(self.expires_at);
        live.record.payload = payload.clone();
        let cookie = match issue {
            Issue::New(_) | Issue::Same => Some(CookieEffect::Set {
                id: live.id.clone(),
                until: live.header.persistent_until(),
            }),
            Issue::Nothing => None,
        };
        let told = match issue {
            Issue::New(told) => Some(told),
            Issue::Same | Issue::Nothing => None,
        };
        Write {
            live,
            loaded: Loaded::written(payload, start),
            cookie,
            told,
        }
    }
}
