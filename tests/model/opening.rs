//! Whether an id may open its session: the rules of ends, renewals and expiry.

use crate::gate::Who;
use crate::history::{KnownVersion, SessionNumber, VersionNumber};
use crate::reference::{Brought, Doing, Reference, Seen};
use crate::store_calls::RENEWED_AFTER;

/// For how long a retired id is known as such, and one that was retired on a schedule still opens.
const GRACE: i64 = 10_000;

impl Reference {
    /// The handler of this party has its session.
    pub(crate) fn extracted(&mut self, who: Who, seen: &Seen) {
        let now = self.now();
        let problem = match seen.handle {
            // What is alive when a load begins may open, however long that takes.
            Some(_) => self.must_not_open(who, self.parties[who].since),
            None => self.must_open(who, now),
        };
        if let Some(problem) = problem {
            self.violated(format!("party {who}: {problem}"));
        }
        let party = &mut self.parties[who];
        party.loaded_at = now;
        party.doing = Doing::Nothing;
        party.had.extend(party.load.and_then(|load| load.session));
        if seen.handle.is_some() {
            party.base = party.load.and_then(|load| load.found);
        }
        self.sees(who, seen);
    }

    /// Why the id that this party brought must not have opened what it did.
    fn must_not_open(&self, who: Who, now: i64) -> Option<String> {
        let party = &self.parties[who];
        let Brought::Id(id) = party.brought else {
            return Some("a session was opened without an id that was sent to anybody".into());
        };
        let Some(load) = party.load else {
            return Some("a session was opened without being loaded".into());
        };
        let Some(found) = load.found else {
            return Some("a session was opened that is not in the store".into());
        };
        let version = &self.history.versions[found];
        let session = version.session;
        let id = &self.ids[id];
        if self.history.versions[id.version].session != session {
            return Some(format!(
                "its id opened session {session}, which is another's"
            ));
        }
        if load.ended {
            return Some(format!("session {session} opened after it was ended"));
        }
        if let Some(after) = self.is_revoked(found, load.revocations) {
            return Some(format!(
                "session {session} opened after all sessions of {after} were ended"
            ));
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
        if now >= version.latest_end {
            return Some(format!(
                "session {session} opened {} ms after it expired",
                now - version.latest_end
            ));
        }
        None
    }

    /// Whose sessions were ended that this is one of.
    fn is_revoked(&self, found: VersionNumber, revocations: usize) -> Option<String> {
        let session = self.history.versions[found].session;
        let revoked = self.revocations[..revocations].iter().find(|revocation| {
            let is_before = |version: &KnownVersion| {
                version
                    .login_loaded_at
                    .is_some_and(|loaded_at| loaded_at < revocation.loaded_before)
                    && (revocation.user.is_none()
                        || revocation.user == version.logged_in.map(|logged_in| logged_in.user))
            };
            let mut line = self.history.line(found);
            revocation.but != Some(session)
                && line.any(|version| is_before(&self.history.versions[version]))
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

    /// Why the id that this party brought must have opened its session.
    fn must_open(&self, who: Who, now: i64) -> Option<String> {
        let party = &self.parties[who];
        let Brought::Id(id) = party.brought else {
            return None;
        };
        let version = self.ids[id].version;
        let session = self.history.versions[version].session;
        let load = party.load?;
        // What extends it while it is loaded may come too late for that.
        let earliest_end = load.earliest_end.min(self.earliest_end_since(load.tip?));
        let alive =
            self.may_not_have_ended(session) && self.is_surely_good(version) && now < earliest_end;
        alive.then(|| format!("session {session} is alive, and did not open to its id"))
    }

    fn may_not_have_ended(&self, session: SessionNumber) -> bool {
        !self.history.sessions[session].may_have_ended
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
        let presented = |sent: &crate::reference::SentId| {
            sent.presented && self.history.builds_on(sent.version, renewal)
        };
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

    /// Until when a session lives at the least, whichever write came last.
    pub(crate) fn earliest_end_since(&self, tip: VersionNumber) -> i64 {
        let later = self.history.attempts_after(tip).chain([tip]);
        later
            .map(|version| self.history.versions[version].earliest_end)
            .min()
            .unwrap_or(i64::MIN)
    }
}
