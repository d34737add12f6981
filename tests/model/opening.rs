//! Whether an id may open its session: the rules of ends, renewals and expiry.

use crate::browser::Carrier;
use crate::gate::Who;
use crate::history::{KnownVersion, SessionNumber, VersionNumber};
use crate::reference::{Doing, Load, Reference, Seen, SentId};
use crate::store_calls::RENEWED_AFTER;

/// For how long a retired id is known as such, and one that was retired on a schedule still opens.
pub(crate) const GRACE: i64 = 10_000;

/// How many retired ids are known.
const MOST_RETIRED: usize = 4;

/// Which logins of a session are judged by the endings of their user's sessions.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum LoginsThatCount {
    All,
    /// Those whose id was sent. One that is under way is undone by the login itself, before that.
    Sent,
}

impl Reference {
    /// The handler of this party has its session.
    pub(crate) fn extracted(&mut self, who: Who, seen: &Seen) {
        let now = self.now();
        let since = self.parties[who].since;
        let opened = seen.handle.and_then(|handle| self.history.session(&handle));
        let problem = match (seen.handle, opened) {
            _ if self.parties[who].load_failed => {
                Some("its handler runs, and its store has failed".into())
            }
            (None, _) => self.must_have_opened(who, now),
            // What is alive when a load begins may open, however long that takes.
            (Some(_), Some(opened)) => self.must_not_have_opened(who, opened, since),
            (Some(_), None) => Some("a session was opened that nobody created".into()),
        };
        if let Some(problem) = problem {
            self.violated(format!("party {who}: {problem}"));
        }
        self.parties[who].came_late = opened.is_none() && self.came_late(who);
        if opened.is_none() {
            self.copies_have_ended(who);
        }
        let base = opened.and_then(|opened| self.loaded(who, opened, seen));
        let party = &mut self.parties[who];
        party.loaded_at = now;
        party.doing = Doing::Nothing;
        party.base = base;
        party.had.extend(base);
        if base.is_some() {
            self.tally.count("a session opens");
        }
        self.sees(who, seen);
    }

    /// The ids that a party brought, with what was loaded for each.
    fn brought(&self, who: Who) -> impl Iterator<Item = (&SentId, &Load)> {
        let party = &self.parties[who];
        let ids = party.brought.ids.iter().map(|&id| &self.ids[id]);
        ids.zip(&party.loads)
    }

    /// The version of its session that was loaded. With two ids of one session it may be either.
    fn loaded(&self, who: Who, session: SessionNumber, seen: &Seen) -> Option<VersionNumber> {
        let party = &self.parties[who];
        // One that a renewal between the two loads had retired by its own has not opened it.
        let of_session = self.brought(who).filter(|(id, load)| {
            let carrier = party.brought.carrier;
            load.session == Some(session)
                && self.must_not_open(carrier, id, load, party.since).is_none()
        });
        let found: Vec<_> = of_session.filter_map(|(_, load)| load.found).collect();
        let is_seen = |version: &&VersionNumber| {
            let version = &self.history.versions[**version];
            version.content == seen.content && version.logged_in == seen.logged_in
        };
        found.iter().rev().find(is_seen).or(found.last()).copied()
    }

    /// Why what this party brought must not have opened this session.
    fn must_not_have_opened(&self, who: Who, opened: SessionNumber, now: i64) -> Option<String> {
        let party = &self.parties[who];
        let (mine, others): (Vec<_>, Vec<_>) = self
            .brought(who)
            .partition(|(_, load)| load.session == Some(opened));
        if mine.is_empty() {
            return Some(format!(
                "session {opened} was opened without an id of it that was sent to anybody"
            ));
        }
        for (id, load) in others {
            if self.must_open(who, id, load, self.now()).is_some() {
                return Some(format!(
                    "session {opened} was opened, and another one is alive whose id it brought"
                ));
            }
        }
        let mut problem = None;
        for (id, load) in mine {
            problem = Some(self.must_not_open(party.brought.carrier, id, load, now)?);
        }
        problem
    }

    /// Why an id, brought by this carrier, must not have opened what was loaded for it.
    fn must_not_open(
        &self,
        carrier: Carrier,
        id: &SentId,
        load: &Load,
        now: i64,
    ) -> Option<String> {
        let Some(found) = load.found else {
            return Some("a session was opened that is not in the store".into());
        };
        let version = &self.history.versions[found];
        let session = version.session;
        if self.history.versions[id.version].session != session {
            return Some(format!(
                "its id opened session {session}, which is another's"
            ));
        }
        if self.history.sessions[session].carrier != carrier {
            return Some(format!("session {session} opened by a {carrier:?}"));
        }
        if !self.history.builds_on(found, id.version) {
            return Some(format!(
                "version {found} of session {session} opened to an id of later"
            ));
        }
        let later = || self.history.since(found, id.version);
        if later().any(|version| version.privileged) {
            return Some(format!(
                "session {session} opened to an id that a login or renewal had retired"
            ));
        }
        if let Some(at) = self.superseded_at(found, id.version)
            && now >= at + GRACE
        {
            return Some(format!(
                "session {session} opened to an id whose successor has long been in use"
            ));
        }
        self.must_be_dead(load, found, now, LoginsThatCount::All)
    }

    /// Why the session of which this was loaded must be dead.
    pub(crate) fn must_be_dead(
        &self,
        load: &Load,
        found: VersionNumber,
        now: i64,
        logins: LoginsThatCount,
    ) -> Option<String> {
        let version = &self.history.versions[found];
        let session = version.session;
        if load.ended {
            return Some(format!("session {session} opened after it was ended"));
        }
        if let Some(after) = self.is_revoked(found, load.revocations, logins) {
            return Some(format!(
                "session {session} opened after all sessions of {after} were ended"
            ));
        }
        if now >= version.latest_end {
            return Some(format!(
                "session {session} opened {} ms after it expired",
                now - version.latest_end
            ));
        }
        None
    }

    /// Whose sessions were ended that this is one of.
    fn is_revoked(
        &self,
        found: VersionNumber,
        revocations: usize,
        logins: LoginsThatCount,
    ) -> Option<String> {
        let session = self.history.versions[found].session;
        let revoked = self.revocations[..revocations].iter().find(|revocation| {
            let is_before = |version: &KnownVersion| {
                version
                    .login_loaded_at
                    .is_some_and(|loaded_at| loaded_at < revocation.loaded_before)
                    && (revocation.user.is_none()
                        || revocation.user == version.logged_in.map(|logged_in| logged_in.user))
            };
            let counts = |login: VersionNumber| {
                let mut ids = self.ids.iter();
                logins == LoginsThatCount::All
                    || ids.any(|id| self.history.builds_on(id.version, login))
            };
            let mut line = self.history.line(found);
            revocation.but != Some(session)
                && line.any(|login| is_before(&self.history.versions[login]) && counts(login))
        })?;
        Some(
            revoked
                .user
                .map_or("everyone".into(), |user| format!("user {user}")),
        )
    }

    /// Since when a later id, made on a schedule, is known to be in use.
    fn superseded_at(&self, found: VersionNumber, id: VersionNumber) -> Option<i64> {
        let first_use = self.history.since(found, id).filter(|version| {
            let Some(brought) = version.brought.map(|brought| self.ids[brought].version) else {
                return false;
            };
            let Some(parent) = version.parent else {
                return false;
            };
            brought != id
                && self.history.builds_on(brought, id)
                && self.history.builds_on(parent, brought)
                // It was the current one then.
                && !self.history.since(parent, brought).any(|version| version.may_issue)
        });
        first_use.map(|version| version.at).min()
    }

    /// Whether a later id, made on a schedule, may have been in use for longer than the grace.
    pub(crate) fn may_be_superseded(&self, id: VersionNumber) -> bool {
        let now = self.now();
        let mut later = self.history.attempts_after(id);
        later.any(|later| {
            let later = &self.history.versions[later];
            let brought = self.parties[later.writer].brought.ids.iter();
            let mut brought = brought.map(|&brought| self.ids[brought].version);
            now >= later.at + GRACE
                && brought.any(|brought| brought != id && self.history.builds_on(brought, id))
        })
    }

    /// Why what this party brought must have opened a session.
    fn must_have_opened(&self, who: Who, now: i64) -> Option<String> {
        let brought: Vec<_> = self.brought(who).collect();
        let carrier = self.parties[who].brought.carrier;
        brought.iter().find_map(|&(id, load)| {
            // Of two that are alive neither opens, since nobody knows which is the user's.
            let is_dead = |&(other, its): &(&SentId, &Load)| {
                its.session == load.session
                    || self
                        .must_not_open(carrier, other, its, self.parties[who].since)
                        .is_some()
            };
            let problem = self.must_open(who, id, load, now)?;
            brought.iter().all(is_dead).then_some(problem)
        })
    }

    /// Why an id must have opened its session.
    fn must_open(&self, who: Who, id: &SentId, load: &Load, now: i64) -> Option<String> {
        let session = self.history.versions[id.version].session;
        let known = &self.history.sessions[session];
        load.tip?;
        let alive = !known.may_have_ended
            && known.carrier == self.parties[who].brought.carrier
            && self.is_surely_good(id.version)
            && self.has_lived(session, self.parties[who].since, now);
        alive.then(|| format!("session {session} is alive, and did not open to its id"))
    }

    /// Whether what this party brought may have been retired by a login or renewal a moment ago. Then it has
    /// no session, and its changes are dropped, so that no cookie of it pushes a newer one out.
    fn came_late(&self, who: Who) -> bool {
        let since = self.parties[who].since;
        self.brought(who).any(|(id, _)| {
            self.history.attempts_after(id.version).any(|later| {
                let later = &self.history.versions[later];
                later.privileged && since < later.at + GRACE
            })
        })
    }

    /// Where a copy ends its session, the party has brought one if it brought an id whose successor has long
    /// been in use, and nothing else: its session has ended.
    fn copies_have_ended(&mut self, who: Who) {
        let party = &self.parties[who];
        if !self.rules.end_on_copied_id {
            return;
        }
        let (since, carrier) = (party.since, party.brought.carrier);
        let copies = self.brought(who).filter_map(|(id, load)| {
            let found = load.found?;
            let version = &self.history.versions[found];
            let since_then: Vec<_> = self.history.since(found, id.version).collect();
            let is_copy = self.superseded_at(found, id.version)? + GRACE <= since
                && self.history.sessions[version.session].carrier == carrier
                && since < version.earliest_end
                && !since_then.iter().any(|later| later.privileged)
                // Older ones are forgotten.
                && since_then.iter().filter(|later| later.may_issue).count() <= MOST_RETIRED;
            is_copy.then_some(version.session)
        });
        let copies: Vec<_> = copies.collect();
        for session in copies {
            self.tally.count("a copy ends its session");
            self.history.sessions[session].ended = true;
        }
    }

    /// Whether an id is the current one, or the one before it whose successor nobody has presented.
    fn is_surely_good(&self, id: VersionNumber) -> bool {
        let renewals = self.history.attempts_after(id).filter(|&later| {
            let later = &self.history.versions[later];
            later.may_issue || later.privileged
        });
        let mut first: Option<VersionNumber> = None;
        for renewal in renewals {
            let Some(first) = first else {
                first = Some(renewal);
                continue;
            };
            if !self.is_same_renewal(first, renewal) {
                return false;
            }
        }
        let Some(renewal) = first else {
            return true;
        };
        let presented =
            |sent: &SentId| sent.presented && self.history.builds_on(sent.version, renewal);
        let privileged = self
            .history
            .attempts_after(id)
            .any(|later| self.history.versions[later].privileged);
        !privileged && !self.ids.iter().any(presented)
    }

    /// Whether of two writes that may have renewed the id on a schedule only one can have: they are of one
    /// request, and of less than an interval.
    fn is_same_renewal(&self, first: VersionNumber, second: VersionNumber) -> bool {
        let (first, second) = (
            &self.history.versions[first],
            &self.history.versions[second],
        );
        first.writer == second.writer && second.at < first.at + RENEWED_AFTER
    }

    /// Whether a session has lived from one time to another without a gap.
    pub(crate) fn has_lived(&self, session: SessionNumber, from: i64, to: i64) -> bool {
        let known = &self.history.sessions[session];
        known
            .tip
            .is_some_and(|tip| to < self.earliest_end_since(tip))
            && known.extended_late_at.is_none_or(|at| at < from)
    }

    /// Until when a session lives at the least, whichever write came last.
    pub(crate) fn earliest_end_since(&self, tip: VersionNumber) -> i64 {
        let later = self.history.attempts_after(tip).chain([tip]);
        later
            .map(|version| self.history.versions[version].earliest_end)
            .min()
            .unwrap_or(i64::MIN)
    }
}
