//! The reference model: what every party has done so far, and whether what it saw can be right.
//!
//! It sees what an app sees (the values in its sessions, what its calls return, the responses) and the calls
//! that the crate makes on its store, as a log would have them. It decides nothing by itself: whatever
//! contradicts a guarantee is a violation, of which the first is told.

use cloakroom::clock::{Clock, to_unix_millis};
use cloakroom::store::Handle;
use cloakroom::testing::ManualClock;
use cloakroom::{ErrorKind, Timeouts};

use crate::gate::Who;
use crate::history::{Change, Content, History, LoggedIn, SessionNumber, VersionNumber, apply};
use crate::program::{How, Lasting, Operation, Rules, User};

/// Marks refuse logins that were extracted less than this after them, in milliseconds.
const CLOCK_SKEW: i64 = 1_000;

pub(crate) struct Reference {
    pub(crate) clock: ManualClock,
    pub(crate) rules: Rules,
    pub(crate) history: History,
    pub(crate) parties: Vec<Party>,
    /// Every id that was sent in a response, be it on its way or lost.
    pub(crate) ids: Vec<SentId>,
    pub(crate) revocations: Vec<Revocation>,
    pub(crate) violations: Vec<String>,
    tokens: u32,
}

/// An id, by the version that it was made for.
#[derive(Debug)]
pub(crate) struct SentId {
    pub(crate) value: String,
    pub(crate) version: VersionNumber,
    /// Whether any request has brought it.
    pub(crate) presented: bool,
}

/// All sessions of a user, or of everyone, were ended that were logged in by requests from before.
#[derive(Clone, Debug)]
pub(crate) struct Revocation {
    pub(crate) user: Option<User>,
    pub(crate) loaded_before: i64,
    pub(crate) but: Option<SessionNumber>,
}

/// What a request brings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Brought {
    Nothing,
    /// One of [`Reference::ids`].
    Id(usize),
    /// What nobody was sent.
    Invented,
}

/// What a party is waiting for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Doing {
    Nothing,
    Extract,
    Save,
    Login(User, How),
    Destroy,
    EndOne(Option<SessionNumber>),
    EndOthers,
    EndAll,
    List,
    /// The handler has answered, and its changes are to be saved.
    Commit,
    Sweep,
    Operate(Operation),
    /// Nothing more may be written.
    Over,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) renew: bool,
    pub(crate) timeouts: Option<Lasting>,
    pub(crate) persistent_cookie: bool,
    pub(crate) do_not_extend: bool,
}

#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) brought: Brought,
    pub(crate) doing: Doing,
    /// When `doing` began.
    pub(crate) since: i64,
    /// The load of what it brought.
    pub(crate) load: Option<Load>,
    pub(crate) loaded_at: i64,
    /// The version that its session goes on from.
    pub(crate) base: Option<VersionNumber>,
    /// The version that another request had left by then, when it tried again.
    pub(crate) reloaded: Option<VersionNumber>,
    /// The session whose ending failed.
    pub(crate) ending_failed: Option<SessionNumber>,
    /// Sessions that it had, or brought the id of.
    pub(crate) had: Vec<SessionNumber>,
    pub(crate) staged: Vec<Change>,
    pub(crate) wishes: Wishes,
    /// The last version of its own that took effect, of all and since `doing` began.
    pub(crate) wrote: Option<VersionNumber>,
    pub(crate) wrote_now: Option<VersionNumber>,
    /// How many versions there were when `doing` began.
    pub(crate) versions_before: VersionNumber,
    /// Whether the id that it brought was dead already when the handler answered.
    pub(crate) own_id_is_dead: bool,
}

/// What was known when a load began, and what it returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) session: Option<SessionNumber>,
    pub(crate) tip: Option<VersionNumber>,
    /// Until when the session was to live at the least, when the load began.
    pub(crate) earliest_end: i64,
    pub(crate) ended: bool,
    pub(crate) revocations: usize,
    pub(crate) found: Option<VersionNumber>,
}

/// What a handler sees of its session.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) handle: Option<Handle>,
    pub(crate) logged_in: Option<LoggedIn>,
    pub(crate) content: Content,
}

impl Reference {
    pub(crate) fn new(clock: ManualClock, rules: Rules) -> Self {
        Self {
            clock,
            rules,
            history: History::default(),
            parties: Vec::new(),
            ids: Vec::new(),
            revocations: Vec::new(),
            violations: Vec::new(),
            tokens: 0,
        }
    }

    pub(crate) fn now(&self) -> i64 {
        to_unix_millis(self.clock.now())
    }

    pub(crate) fn violated(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    pub(crate) fn fresh_token(&mut self) -> u32 {
        self.tokens += 1;
        self.tokens
    }

    pub(crate) fn begin(&mut self, brought: Brought, doing: Doing) -> Who {
        if let Brought::Id(id) = brought {
            self.ids[id].presented = true;
        }
        self.parties.push(Party {
            brought,
            doing: Doing::Nothing,
            since: 0,
            load: None,
            loaded_at: 0,
            base: None,
            reloaded: None,
            ending_failed: None,
            had: Vec::new(),
            staged: Vec::new(),
            wishes: Wishes::default(),
            wrote: None,
            wrote_now: None,
            versions_before: 0,
            own_id_is_dead: false,
        });
        let who = self.parties.len() - 1;
        self.does(who, doing);
        who
    }

    /// The party begins to do this.
    pub(crate) fn does(&mut self, who: Who, doing: Doing) {
        let now = self.now();
        let party = &mut self.parties[who];
        party.doing = doing;
        party.since = now;
        party.wrote_now = None;
        party.versions_before = self.history.versions.len();
        party.reloaded = None;
        if doing == Doing::EndOthers && self.user_of(who).is_some() {
            self.parties[who].wishes.renew = true;
        }
        let party = &self.parties[who];
        if matches!(doing, Doing::Commit | Doing::Over)
            && let Brought::Id(id) = party.brought
        {
            self.parties[who].own_id_is_dead = self.is_dead(self.ids[id].version);
        }
        if doing == Doing::Operate(Operation::EndEveryone) {
            for session in &mut self.history.sessions {
                session.may_have_ended = true;
            }
        }
    }

    /// Whether the id that was made for this version is known not to be the session's any more.
    fn is_dead(&self, id: VersionNumber) -> bool {
        let session = &self.history.sessions[self.history.versions[id].session];
        let renewed = |tip| self.history.since(tip, id).any(|later| later.issues);
        session.ended || session.tip.is_some_and(renewed)
    }

    /// The client is gone: a call under way comes to its end, and nothing new begins.
    pub(crate) fn hung_up(&mut self, who: Who) {
        let party = &mut self.parties[who];
        if matches!(party.doing, Doing::Nothing | Doing::Extract) {
            party.doing = Doing::Over;
        }
    }

    pub(crate) fn stages(&mut self, who: Who, change: Change) {
        self.parties[who].staged.push(change);
    }

    /// What the handler must see by now.
    pub(crate) fn expected_content(&self, who: Who) -> Content {
        let party = &self.parties[who];
        let base = match party.base {
            Some(base) => self.history.versions[base].content.clone(),
            None => Content::new(),
        };
        apply(&party.staged, &base)
    }

    pub(crate) fn sees(&mut self, who: Who, seen: &Seen) {
        let expected = self.expected_content(who);
        if seen.content != expected {
            self.violated(format!(
                "party {who} sees {:?} in its session, where there is {expected:?}",
                seen.content
            ));
        }
        let base = self.parties[who]
            .base
            .map(|base| &self.history.versions[base]);
        let logged_in = base.and_then(|version| version.logged_in);
        let handle = base.map(|version| self.history.sessions[version.session].handle);
        if seen.logged_in != logged_in || seen.handle != handle {
            self.violated(format!(
                "party {who} sees {:?} logged in and the session {:?}, where there is {logged_in:?} in \
                 {handle:?}",
                seen.logged_in, seen.handle
            ));
        }
    }

    /// A save returned.
    pub(crate) fn saved(&mut self, who: Who, result: Result<(), ErrorKind>) {
        if result.is_ok() && self.has_something_to_write(who) && !self.wrote_now(who) {
            self.violated(format!(
                "party {who} was told that its changes were saved: they were not"
            ));
        }
        match result {
            // There was nothing to write, so it is still staged.
            Ok(()) if !self.wrote_now(who) => self.parties[who].doing = Doing::Nothing,
            _ => self.goes_on_from(who, result == Err(ErrorKind::Ended)),
        }
    }

    /// A login returned.
    pub(crate) fn logged_in(
        &mut self,
        who: Who,
        login: (User, How),
        result: Result<(), ErrorKind>,
        seen: &Seen,
    ) {
        if result.is_ok() {
            let wrote = self.parties[who].wrote_now;
            let logged_in = wrote.and_then(|version| self.history.versions[version].logged_in);
            if logged_in.map(|logged_in| logged_in.user) != Some(login.0) {
                self.violated(format!(
                    "party {who} was told of a login that was not saved"
                ));
            }
            self.goes_on_from(who, false);
        } else if seen.handle.is_none() && (self.parties[who].base.is_some() || self.wrote_now(who))
        {
            // What it had went with the session that the login had begun, or with that of another user. Where
            // that could not be ended, `destroy` tries again.
            let party = &self.parties[who];
            let gone = party.wrote_now.or(party.base);
            let gone = gone.map(|version| self.history.versions[version].session);
            self.has_no_session(who);
            self.parties[who].ending_failed = gone;
        } else {
            self.parties[who].doing = Doing::Nothing;
        }
    }

    /// `destroy` returned.
    pub(crate) fn destroyed(&mut self, who: Who, result: Result<(), ErrorKind>) {
        let party = &self.parties[who];
        let own = party.base.map(|base| self.history.versions[base].session);
        let own = own.or(party.ending_failed);
        if let (Some(own), Ok(())) = (own, result) {
            self.history.sessions[own].ended = true;
        }
        self.has_no_session(who);
        self.parties[who].ending_failed = own.filter(|_| result.is_err());
    }

    /// `end_other_sessions` returned.
    pub(crate) fn ended_others(&mut self, who: Who, result: Result<(), ErrorKind>) {
        let Some((user, own)) = self.user_of(who) else {
            self.parties[who].doing = Doing::Nothing;
            return;
        };
        if result.is_ok() {
            self.revoked(Some(user), self.parties[who].since, Some(own));
            if !self.wrote_now(who) {
                self.violated(format!(
                    "party {who} was told that its own id was renewed: it was not"
                ));
            }
        }
        self.goes_on_from(who, result.is_err());
    }

    /// `end_all_sessions` returned.
    pub(crate) fn ended_all(&mut self, who: Who, result: Result<(), ErrorKind>) {
        let Some((user, _)) = self.user_of(who) else {
            self.parties[who].doing = Doing::Nothing;
            return;
        };
        if result.is_ok() {
            self.revoked(Some(user), self.parties[who].since, None);
        }
        self.destroyed(who, result);
    }

    /// `end_user_session` returned.
    pub(crate) fn ended_one(&mut self, who: Who, target: Option<SessionNumber>, ended: bool) {
        let own = self.parties[who]
            .base
            .map(|base| self.history.versions[base].session);
        if let (Some(target), true) = (target, ended) {
            self.history.sessions[target].ended = true;
        }
        match target.is_some() && own == target && ended {
            true => self.has_no_session(who),
            false => self.parties[who].doing = Doing::Nothing,
        }
    }

    /// What an operator did returned.
    pub(crate) fn operated(
        &mut self,
        who: Who,
        operation: Operation,
        target: Option<SessionNumber>,
        ended: bool,
    ) {
        let since = self.parties[who].since;
        match (operation, target) {
            (Operation::End(_), Some(target)) => self.history.sessions[target].ended = true,
            (Operation::EndOfUser(..), Some(target)) if ended => {
                self.history.sessions[target].ended = true;
            }
            (Operation::EndAll(user), _) => self.revoked(Some(user), since, None),
            (Operation::EndEveryone, _) => self.revoked(None, since, None),
            _ => {}
        }
    }

    fn revoked(&mut self, user: Option<User>, marked_at: i64, but: Option<SessionNumber>) {
        self.revocations.push(Revocation {
            user,
            loaded_before: marked_at + CLOCK_SKEW,
            but,
        });
    }

    /// The user who is logged in with this party, and their session.
    pub(crate) fn user_of(&self, who: Who) -> Option<(User, SessionNumber)> {
        let base = &self.history.versions[self.parties[who].base?];
        let logged_in = base.logged_in.filter(|logged_in| !logged_in.pending)?;
        Some((logged_in.user, base.session))
    }

    pub(crate) fn wrote_now(&self, who: Who) -> bool {
        self.parties[who].wrote_now.is_some()
    }

    /// Whether what is staged makes any difference.
    pub(crate) fn has_something_to_write(&self, who: Who) -> bool {
        let party = &self.parties[who];
        let Some(base) = party.reloaded.or(party.base) else {
            return !self.expected_content(who).is_empty();
        };
        let content = &self.history.versions[base].content;
        let wishes = party.wishes;
        wishes.renew
            || wishes.timeouts.is_some()
            || wishes.persistent_cookie
            || apply(&party.staged, content) != *content
    }

    /// What was staged is saved or dropped.
    fn goes_on_from(&mut self, who: Who, lost: bool) {
        let party = &mut self.parties[who];
        party.base = match lost {
            true => None,
            false => party.wrote_now.or(party.base),
        };
        party.staged.clear();
        party.wishes = Wishes {
            do_not_extend: party.wishes.do_not_extend,
            ..Wishes::default()
        };
        party.doing = Doing::Nothing;
    }

    fn has_no_session(&mut self, who: Who) {
        let party = &mut self.parties[who];
        party.base = None;
        party.staged.clear();
        party.wishes = Wishes::default();
        party.doing = Doing::Nothing;
    }
}

/// The timeouts of the layer.
pub(crate) const TIMEOUTS: Timeouts = Timeouts::new(minutes(16), minutes(120));

const fn minutes(minutes: u64) -> std::time::Duration {
    std::time::Duration::from_secs(60 * minutes)
}

impl Lasting {
    pub(crate) const fn timeouts(self) -> Timeouts {
        match self {
            Self::Shorter => Timeouts::new(minutes(8), minutes(30)),
            Self::Longer => Timeouts::new(minutes(32), minutes(240)),
        }
    }
}
