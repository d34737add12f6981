//! The reference model: what every party has done so far, and whether what it saw can be right.
//!
//! It sees what an app sees (the values in its sessions, what its calls return, the responses) and the calls
//! that the crate makes on its store, as a log would have them. It decides nothing by itself: whatever
//! contradicts a guarantee is a violation, of which the first is told.

use cloakroom::clock::{Clock, to_unix_millis};
use cloakroom::store::Handle;
use cloakroom::testing::ManualClock;
use cloakroom::{ErrorKind, Timeouts};

use crate::browser::Carrier;
use crate::gate::Who;
use crate::history::{Change, Content, History, LoggedIn, SessionNumber, VersionNumber, apply};
use crate::program::{How, Lasting, Operation, Rules, User};
use crate::tally::Tally;

/// Marks refuse logins that were extracted less than this after them, in milliseconds.
pub(crate) const CLOCK_SKEW: i64 = 1_000;

pub(crate) struct Reference {
    pub(crate) clock: ManualClock,
    pub(crate) rules: Rules,
    pub(crate) history: History,
    pub(crate) parties: Vec<Party>,
    /// Every id that was sent in a response, be it on its way or lost.
    pub(crate) ids: Vec<SentId>,
    pub(crate) revocations: Vec<Revocation>,
    pub(crate) endings_begun: Vec<EndingBegun>,
    pub(crate) violations: Vec<String>,
    pub(crate) tally: Tally,
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

/// An ending of all sessions of a user, or of everyone, that has begun, by this party.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndingBegun {
    pub(crate) user: Option<User>,
    pub(crate) by: Who,
}

/// What a request brings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Brought {
    pub(crate) carrier: Carrier,
    /// Up to two of [`Reference::ids`]; what nobody was sent is none of them.
    pub(crate) ids: Vec<usize>,
}

impl Brought {
    pub(crate) fn by(carrier: Carrier, ids: Vec<usize>) -> Self {
        Self { carrier, ids }
    }

    /// By an operator, or a sweep.
    pub(crate) fn nothing() -> Self {
        Self::by(Carrier::Cookie, Vec::new())
    }
}

/// One of the tasks of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Task {
    First,
    Second,
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
    /// The task whose call is under way, and the call that waits for it.
    pub(crate) running: Option<Task>,
    pub(crate) queued: Option<(Task, Doing)>,
    /// The loads of what it brought, in this order.
    pub(crate) loads: Vec<Load>,
    /// When its session was extracted, and when that began.
    pub(crate) loaded_at: i64,
    pub(crate) began_at: i64,
    /// The version that its session goes on from.
    pub(crate) base: Option<VersionNumber>,
    /// The version that another request had left by then, when it tried again.
    pub(crate) reloaded: Option<VersionNumber>,
    /// The session that it had, and has begun to end since `doing` began.
    pub(crate) ending: Option<SessionNumber>,
    /// The session whose ending failed.
    pub(crate) ending_failed: Option<SessionNumber>,
    /// Sessions that it had, each with the version that it had then.
    pub(crate) had: Vec<VersionNumber>,
    /// Whether a login or a renewal had just retired the id that it brought.
    pub(crate) came_late: bool,
    pub(crate) staged: Vec<Change>,
    pub(crate) wishes: Wishes,
    /// What was staged when `doing` began, and how much of what is staged that is.
    pub(crate) taken: (Vec<Change>, Wishes),
    pub(crate) taken_of_staged: usize,
    /// The last version of its own that took effect, of all and since `doing` began.
    pub(crate) wrote: Option<VersionNumber>,
    pub(crate) wrote_now: Option<VersionNumber>,
    /// The sessions that had ended when `doing` began.
    pub(crate) ended_before: Vec<SessionNumber>,
    /// How many versions there were when `doing` began.
    pub(crate) versions_before: VersionNumber,
    /// Which of the ids that it brought were dead already when the handler answered.
    pub(crate) dead_ids: Vec<usize>,
    /// The sessions that it has ended itself, of those that it may have had.
    pub(crate) deleted: Vec<SessionNumber>,
    /// Whether its client is to be told that its id is good for nothing.
    pub(crate) must_forget: bool,
    /// Whether it could not load what it brought.
    pub(crate) load_failed: bool,
    /// Whether a store call of it has failed.
    pub(crate) call_failed: bool,
    /// Calls since `doing` began that too few replicas have confirmed.
    pub(crate) unconfirmed: Vec<&'static str>,
}

/// What was known when a load began, and what it returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) session: Option<SessionNumber>,
    pub(crate) tip: Option<VersionNumber>,
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
            endings_begun: Vec::new(),
            violations: Vec::new(),
            tally: Tally::default(),
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
        if brought.ids.len() > 1 {
            self.tally.count("two ids in one request");
        }
        if brought.carrier == Carrier::Header && !brought.ids.is_empty() {
            self.tally.count("an id in a header");
        }
        for &id in &brought.ids {
            let session = self.history.versions[self.ids[id].version].session;
            let carrier = self.history.sessions[session].carrier;
            self.ids[id].presented |= carrier == brought.carrier;
        }
        self.parties.push(Party {
            brought,
            doing: Doing::Nothing,
            since: 0,
            running: None,
            queued: None,
            loads: Vec::new(),
            loaded_at: 0,
            began_at: self.now(),
            base: None,
            reloaded: None,
            ending: None,
            ending_failed: None,
            had: Vec::new(),
            came_late: false,
            staged: Vec::new(),
            wishes: Wishes::default(),
            taken: Default::default(),
            taken_of_staged: 0,
            wrote: None,
            wrote_now: None,
            ended_before: Vec::new(),
            versions_before: 0,
            dead_ids: Vec::new(),
            deleted: Vec::new(),
            must_forget: false,
            load_failed: false,
            call_failed: false,
            unconfirmed: Vec::new(),
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
        let sessions = self.history.sessions.iter().enumerate();
        let ended = sessions.filter(|(_, session)| session.ended);
        party.ended_before = ended.map(|(number, _)| number).collect();
        party.reloaded = None;
        party.ending = None;
        party.unconfirmed.clear();
        let user = self.user_of(who).map(|(user, _)| user);
        if doing == Doing::EndOthers && user.is_some() {
            self.parties[who].wishes.renew = true;
        }
        let party = &mut self.parties[who];
        party.taken = (party.staged.clone(), party.wishes);
        party.taken_of_staged = party.staged.len();
        if matches!(doing, Doing::Commit | Doing::Over) {
            let ids = self.parties[who].brought.ids.iter().copied();
            let dead = ids.filter(|&id| self.is_dead(self.ids[id].version));
            self.parties[who].dead_ids = dead.collect();
        }
        if doing == Doing::Operate(Operation::EndEveryone) {
            for session in 0..self.history.sessions.len() {
                if self.had_a_user(session) {
                    self.history.sessions[session].may_have_ended = true;
                }
            }
        }
        let user = match doing {
            Doing::Operate(Operation::EndEveryone) => None,
            Doing::Operate(Operation::EndAll(user)) => Some(user),
            Doing::EndOthers | Doing::EndAll if user.is_some() => user,
            _ => return,
        };
        self.endings_begun.push(EndingBegun { user, by: who });
    }

    /// A task of a request begins a call, once the one that is under way is over.
    pub(crate) fn calls(&mut self, who: Who, task: Task, doing: Doing) {
        if self.parties[who].running.is_some() {
            self.tally.count("a call waits for that of another task");
            self.parties[who].queued = Some((task, doing));
        } else {
            self.parties[who].running = Some(task);
            self.does(who, doing);
        }
    }

    /// A call of a task is over, and what it returned was told.
    pub(crate) fn called(&mut self, who: Who) {
        let party = &mut self.parties[who];
        party.running = None;
        if let Some((task, doing)) = party.queued.take() {
            self.calls(who, task, doing);
        }
    }

    pub(crate) fn call_failed(&mut self, who: Who, how: &'static str) {
        self.tally.count(how);
        self.parties[who].call_failed = true;
    }

    pub(crate) fn call_is_unconfirmed(&mut self, who: Who, operation: &'static str) {
        self.tally.count("is unconfirmed");
        self.parties[who].call_failed = true;
        self.parties[who].unconfirmed.push(operation);
    }

    pub(crate) fn call_succeeded(&mut self, who: Who, operation: &'static str) {
        let unconfirmed = &mut self.parties[who].unconfirmed;
        unconfirmed.retain(|other| *other != operation);
    }

    /// What the party did was acknowledged.
    pub(crate) fn acknowledged(&mut self, who: Who) {
        let party = &self.parties[who];
        if let Some(operation) = party.unconfirmed.first() {
            self.violated(format!(
                "party {who} was told that {:?} succeeded, and its {operation} is not confirmed",
                party.doing
            ));
        }
    }

    /// What the party did failed for the store, by what it was told.
    pub(crate) fn failed(&mut self, who: Who, error: ErrorKind) {
        let of_store = matches!(error, ErrorKind::Store | ErrorKind::EndingFailed);
        let party = &self.parties[who];
        if of_store && !party.call_failed || error == ErrorKind::Contention {
            self.violated(format!(
                "party {who} was told {error:?} of {:?}, and its store works",
                party.doing
            ));
        }
    }

    /// Whether anybody was ever to be logged in to this session.
    pub(crate) fn had_a_user(&self, session: SessionNumber) -> bool {
        let mut versions = self.history.versions.iter();
        versions.any(|version| version.session == session && version.logged_in.is_some())
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
        party.queued = None;
        match party.doing {
            Doing::Nothing | Doing::Extract => party.doing = Doing::Over,
            Doing::Commit => self.tally.count("a client hangs up during the commit"),
            _ => self.tally.count("a client hangs up during a call"),
        }
    }

    pub(crate) fn stages(&mut self, who: Who, change: Change) {
        if self.parties[who].running.is_some() {
            self.tally.count("is staged during a call");
        }
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

    /// The user who is logged in with this party, and their session.
    pub(crate) fn user_of(&self, who: Who) -> Option<(User, SessionNumber)> {
        let base = &self.history.versions[self.parties[who].base?];
        let logged_in = base.logged_in.filter(|logged_in| !logged_in.pending)?;
        Some((logged_in.user, base.session))
    }

    pub(crate) fn wrote_now(&self, who: Who) -> bool {
        self.parties[who].wrote_now.is_some()
    }

    /// Whether what was staged when the party's call began makes any difference.
    pub(crate) fn has_something_to_write(&self, who: Who) -> bool {
        let party = &self.parties[who];
        let (staged, wishes) = &party.taken;
        let Some(base) = party.reloaded.or(party.base) else {
            return !apply(staged, &Content::new()).is_empty();
        };
        let content = &self.history.versions[base].content;
        wishes.renew
            || wishes.timeouts.is_some()
            || wishes.persistent_cookie
            || apply(staged, content) != *content
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
            // In all it is less long, so that programs come to the absolute timeout.
            Self::Longer => Timeouts::new(minutes(32), minutes(40)),
        }
    }
}
