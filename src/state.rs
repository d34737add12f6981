//! The state machine of a session in one request: pure, without I/O, clock or randomness.
//!
//! What was loaded ([`Standing`]) and what is staged on top of it go in; what is to be done to the store (a
//! [`Plan`](plan::Plan)) comes out. Everything that requests contend for is decided here:
//!
//! 1. A record opens to the secret whose digest it holds, or to one that was retired on a schedule and is
//!    still in its grace; to no other, and to none that comes by another carrier than it was issued for
//!    ([`judge`]).
//! 2. What was loaded live is only ever updated, under the version that was loaded. If the record has moved
//!    on, it is judged again, and the changes are applied to what it is now.
//! 3. What has ended, has expired, or no longer opens to our secret takes no changes, and gets no cookie:
//!    that could push a newer one out of the browser.
//! 4. Only what was not loaded as a session is created, under a fresh id that this server chose.

use crate::carrier::Carrier;
use crate::clock::to_unix_millis;
use crate::csrf::CsrfKey;
use crate::error::Error;
use crate::events::Subject;
use crate::id::{Handle, SecretDigest, SessionId};
use crate::record::payload::{Header, RetiredSecret, Retirement};
use crate::record::{Record, RecordDecodeError};
use crate::settings::Rules;

pub(crate) mod data;
pub(crate) mod plan;
#[cfg(test)]
mod tests;

use self::data::{Data, Loaded};
use self::plan::Dropped;

/// What the id of a request is worth.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It opens a live session. Boxed, since it goes through many hands, and each would copy it.
    Live(Box<Live>),
    /// It opens nothing: a write gets a fresh id.
    Absent,
    /// It opened a session until a moment ago: changes are dropped, without a cookie.
    Lost(Dropped),
    /// An ending of the session failed: nothing more is written under its handle.
    EndingFailed(Subject, Error),
}

/// A live session, as it was last loaded or written.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    /// The id that the request brought, or was issued since.
    pub(crate) id: SessionId,
    pub(crate) presented: SecretDigest,
    /// Whether the id is the session's current one, and not one that was retired on a schedule.
    pub(crate) is_current: bool,
    pub(crate) record: Record,
    pub(crate) header: Header,
}

impl Live {
    pub(crate) fn handle(&self) -> &Handle {
        &self.id.handle
    }

    pub(crate) fn expires_at(&self) -> i64 {
        to_unix_millis(self.record.expires_at)
    }
}

/// What [`judge`] says of a record and the secret that was presented for it.
#[derive(Debug)]
pub(crate) enum Verdict {
    Live(Box<Live>, Loaded),
    Expired,
    /// The secret was never that of this session, or is long forgotten.
    WrongSecret,
    /// The id was issued for the cookie and came in the header, or the other way round.
    OtherCarrier,
    /// The secret was retired by a change of privilege, within the grace period.
    Retired,
    /// The secret was retired by a change of privilege, before the grace period.
    LongRetired,
    /// The secret was retired on a schedule, and its successor has been in use for longer than the grace
    /// period: two parties hold ids of this session.
    Reused,
}

/// Whether a record opens to this id, which came by this carrier, now.
///
/// # Errors
///
/// When the payload cannot be decoded.
pub(crate) fn judge(
    id: &SessionId,
    presented: SecretDigest,
    carrier: Carrier,
    record: Record,
    now: i64,
    rules: &Rules,
) -> Result<Verdict, RecordDecodeError> {
    let (header, start) = Header::decode(&record.payload)?;
    let retirement = if presented == header.secret {
        None
    } else {
        let is_presented = |retired: &&RetiredSecret| retired.digest == presented;
        match header.retired.iter().find(is_presented) {
            Some(retired) => Some(retired.retirement),
            None => return Ok(Verdict::WrongSecret),
        }
    };
    if header.carrier != carrier {
        return Ok(Verdict::OtherCarrier);
    }
    if to_unix_millis(record.expires_at) <= now {
        return Ok(Verdict::Expired);
    }
    let in_grace = |at: i64| now < at.saturating_add(rules.retired_grace);
    match retirement {
        Some(Retirement::Privileged { at }) if in_grace(at) => return Ok(Verdict::Retired),
        Some(Retirement::Privileged { .. }) => return Ok(Verdict::LongRetired),
        Some(Retirement::Superseded { at }) if !in_grace(at) => return Ok(Verdict::Reused),
        Some(Retirement::Superseded { .. } | Retirement::Routine) | None => {}
    }
    let loaded = Loaded::new(record.payload.clone(), start)?;
    let live = Box::new(Live {
        id: id.clone(),
        presented,
        is_current: retirement.is_none(),
        record,
        header,
    });
    Ok(Verdict::Live(live, loaded))
}

/// The session of one request: its standing, its data, and what is staged.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) standing: Standing,
    pub(crate) data: Data,
    pub(crate) wishes: Wishes,
    /// What the request's id travels in, and so do those that it is given.
    pub(crate) carrier: Carrier,
    /// Whether the request brought something in place of its id, whatever it was worth.
    pub(crate) brought_id: bool,
    /// Whether a live session was read: a response to that is private.
    pub(crate) was_live: bool,
    /// Whether the id was issued to this request: no client has presented it yet.
    pub(crate) id_is_unsent: bool,
    /// What the response says to the client about its id.
    pub(crate) cookie: CookieEffect,
    /// Whether that cookie is of a save or a login before the response: its id may have been retired since, or
    /// its session ended, and it would then push a newer one out of the browser.
    pub(crate) cookie_may_be_stale: bool,
    /// When the session was extracted, by the clock of the layer: what the handler verifies, it verifies
    /// after that.
    pub(crate) loaded_at: i64,
    /// No more changes: the response was committed, or the request is gone.
    pub(crate) closed: bool,
    /// Counts changes, so that `update` sees whether another task of this request came in between.
    pub(crate) generation: u64,
}

/// What is staged apart from data.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Wishes {
    pub(crate) renew: bool,
    pub(crate) timeouts: Option<crate::Timeouts>,
    pub(crate) persistent_cookie: bool,
    /// This request does not count as activity.
    pub(crate) do_not_extend: bool,
    /// The key of CSRF tokens, if the session begins, or gets a new one, with this request: a page has a
    /// token of it. It is no change by itself.
    pub(crate) csrf: Option<CsrfKey>,
}

impl Wishes {
    /// Whether any of them is a change that a record is written for.
    pub(crate) fn any_change(&self) -> bool {
        self.renew || self.timeouts.is_some() || self.persistent_cookie
    }

    /// What remains to be done after `done` was.
    fn without(self, done: Self) -> Self {
        Self {
            renew: self.renew && !done.renew,
            timeouts: self.timeouts.filter(|_| self.timeouts != done.timeouts),
            persistent_cookie: self.persistent_cookie && !done.persistent_cookie,
            do_not_extend: self.do_not_extend,
            csrf: self.csrf.filter(|_| self.csrf != done.csrf),
        }
    }
}

/// What a response says to the client about its id, in the cookie or in the header.
#[derive(Clone, Debug)]
pub(crate) enum CookieEffect {
    Keep,
    /// Set it to this one; a cookie until this deadline (unix milliseconds), or until the browser ends.
    Set {
        id: SessionId,
        until: Option<i64>,
    },
    Remove,
}

impl State {
    /// No session, and nothing staged.
    pub(crate) fn nothing(rules: &Rules) -> Self {
        Self {
            was_live: false,
            id_is_unsent: false,
            standing: Standing::Absent,
            data: Data::new(Loaded::nothing(), rules.max_size),
            wishes: Wishes::default(),
            carrier: Carrier::default(),
            brought_id: false,
            cookie: CookieEffect::Keep,
            cookie_may_be_stale: false,
            loaded_at: i64::MIN,
            closed: false,
            generation: 0,
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn new(standing: Standing, loaded: Loaded, rules: &Rules) -> Self {
        let mut state = Self::nothing(rules);
        state.open(standing, loaded);
        state
    }

    /// Takes in what was loaded.
    pub(crate) fn open(&mut self, standing: Standing, loaded: Loaded) {
        self.was_live = matches!(standing, Standing::Live(_));
        self.standing = standing;
        self.data = Data::new(loaded, self.data.max_size());
    }

    pub(crate) fn live(&self) -> Option<&Live> {
        match &self.standing {
            Standing::Live(live) => Some(live),
            _ => None,
        }
    }

    /// Whether the session takes changes.
    ///
    /// # Errors
    ///
    /// When the request is over, or an ending of the session failed.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        match &self.standing {
            _ if self.closed => Err(Error::closed()),
            Standing::EndingFailed(_, error) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Whether anything is staged that makes a difference.
    pub(crate) fn has_staged(&self) -> bool {
        self.data.is_changed() || self.wishes.any_change()
    }

    /// Whether anything is staged at all, which takes no look at what was loaded.
    pub(crate) fn may_have_staged(&self) -> bool {
        self.data.has_changes() || self.wishes.any_change()
    }

    /// Drops what is staged and not saved.
    pub(crate) fn discard_staged(&mut self) {
        self.data.discard_changes();
        self.wishes = Wishes {
            do_not_extend: self.wishes.do_not_extend,
            ..Wishes::default()
        };
        self.generation += 1;
    }

    /// There is no session any more, and nothing of it is left to see.
    pub(crate) fn become_absent(&mut self, standing: Standing) {
        self.standing = standing;
        self.data = Data::new(Loaded::nothing(), self.data.max_size());
        self.wishes = Wishes::default();
        self.generation += 1;
    }

    /// Takes over what was written to the store: `live`, with the wishes of `job`, and `data`, which is what
    /// [`Data::advance`] made of the data as of this generation. Returns what `data` replaces, which may hold
    /// closures of the user's, to be dropped outside of the lock.
    ///
    /// # Errors
    ///
    /// When something was staged since that generation: `live` and `data` are given back, and nothing was
    /// changed.
    pub(crate) fn advance(
        &mut self,
        generation: u64,
        live: Box<Live>,
        data: Data,
        job: &Job,
    ) -> Result<Data, (Box<Live>, Data)> {
        if self.generation != generation {
            return Err((live, data));
        }
        self.standing = Standing::Live(live);
        self.was_live = true;
        self.wishes = self.wishes.without(job.wishes);
        self.generation += 1;
        Ok(std::mem::replace(&mut self.data, data))
    }

    /// The key of the session's CSRF tokens once what is staged is written.
    ///
    /// # Errors
    ///
    /// When a new one is to be made, and `fresh` has none.
    pub(crate) fn csrf_key_to_come<E>(
        &mut self,
        fresh: impl FnOnce() -> Result<CsrfKey, E>,
    ) -> Result<CsrfKey, E> {
        if let Standing::Live(live) = &self.standing
            && !self.wishes.renew
        {
            return Ok(live.header.csrf);
        }
        let key = match self.wishes.csrf {
            Some(key) => key,
            None => fresh()?,
        };
        self.wishes.csrf = Some(key);
        Ok(key)
    }

    /// What a commit works on while the handler may go on.
    pub(crate) fn job(&self) -> Job {
        Job {
            has_changes: self.has_staged(),
            data: self.data.clone(),
            wishes: self.wishes,
            carrier: self.carrier,
            id_is_unsent: self.id_is_unsent,
            generation: self.generation,
        }
    }
}

/// The staged changes, as a commit takes them to the store.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) data: Data,
    pub(crate) wishes: Wishes,
    /// What the id of a new session travels in.
    pub(crate) carrier: Carrier,
    /// As in the state.
    pub(crate) id_is_unsent: bool,
    /// That of the state when it was taken.
    pub(crate) generation: u64,
    /// Whether they make any difference to what they are on top of.
    pub(crate) has_changes: bool,
}

impl Job {
    /// Puts the changes on top of what the session is now.
    ///
    /// # Errors
    ///
    /// As [`Data::rebase`].
    pub(crate) fn rebase(&mut self, loaded: Loaded) -> Result<(), Error> {
        self.data = self.data.rebase(loaded)?;
        self.has_changes = self.data.is_changed() || self.wishes.any_change();
        Ok(())
    }
}
