//! Whether what an app was refused may have been: a login, and that a session is alive.

use cloakroom::ErrorKind;

use crate::gate::Who;
use crate::history::{KnownVersion, SessionNumber};
use crate::opening::LoginsThatCount;
use crate::program::{How, Limit, User};
use crate::reference::{CLOCK_SKEW, Doing, Reference};

impl Reference {
    /// A login failed.
    pub(crate) fn login_failed(&mut self, who: Who, (user, _): (User, How), error: ErrorKind) {
        self.tally.count(format!("a login fails: {error:?}"));
        let may_be = match error {
            ErrorKind::TooManySessions => self.may_have_too_many(who, user),
            ErrorKind::Overtaken => self.may_be_overtaken(who, user),
            _ => return self.failed(who, error),
        };
        if !may_be {
            self.violated(format!(
                "a login of user {user} by party {who} was refused: {error:?}"
            ));
        }
    }

    /// Whether a user may have had as many other sessions as the limit allows since the login began: what ends
    /// while it looks may still count.
    fn may_have_too_many(&self, who: Who, user: User) -> bool {
        let Limit::RefuseLogin(most) = self.rules.limit else {
            return false;
        };
        let party = &self.parties[who];
        let own = party.base.or(party.wrote_now);
        let own = own.map(|version| self.history.versions[version].session);
        // A late write, of whatever it makes of the login, keeps alive what was on the list.
        let has_come_back = |session: SessionNumber| {
            let extended_late_at = self.history.sessions[session].extended_late_at;
            extended_late_at.is_some_and(|at| party.since <= at)
        };
        let is_theirs = |version: &KnownVersion| {
            let logged_in = version.logged_in;
            logged_in.is_some_and(|logged_in| logged_in.user == user && !logged_in.pending)
                && (party.since < version.latest_end || has_come_back(version.session))
        };
        let may_live = |session: &SessionNumber| {
            let mut versions = self.history.versions.iter();
            Some(*session) != own
                && !party.ended_before.contains(session)
                && versions.any(|version| version.session == *session && is_theirs(version))
        };
        (0..self.history.sessions.len()).filter(may_live).count() >= most
    }

    /// Whether an ending of the user's sessions, or everyone's, may have come after this party's request; or
    /// whether the first factor that its login builds on may have been ended.
    fn may_be_overtaken(&self, who: Who, user: User) -> bool {
        let party = &self.parties[who];
        let by_ending = self.endings_begun.iter().any(|ending| {
            let by = &self.parties[ending.by];
            let goes_on = by.doing != Doing::Over;
            ending.user.is_none_or(|whose| whose == user)
                && (goes_on || by.since + CLOCK_SKEW >= party.began_at)
        });
        let base = party.base.map(|base| &self.history.versions[base]);
        let has_first_factor = base.is_some_and(|base| {
            base.logged_in
                .is_some_and(|logged_in| logged_in.user == user && logged_in.pending)
        });
        by_ending || has_first_factor && self.may_have_been_lost(who)
    }

    /// An operator was told that a session is alive, or not.
    pub(crate) fn told_of_life(&mut self, who: Who, session: SessionNumber, alive: bool) {
        let Some(load) = self.parties[who].loads.last().copied() else {
            return self.violated(format!("party {who} was told of a session without a look"));
        };
        let since = self.parties[who].since;
        let problem = match (alive, load.found, load.tip) {
            (true, Some(found), _) => self.must_be_dead(&load, found, since, LoginsThatCount::Sent),
            (true, None, _) => Some(format!("session {session} is not there")),
            (false, _, Some(_)) => (!self.history.sessions[session].may_have_ended
                && self.has_lived(session, since, self.now()))
            .then(|| format!("session {session} is alive")),
            (false, _, None) => None,
        };
        if let Some(problem) = problem {
            self.violated(format!(
                "party {who} was told that a session is alive: {alive}, but {problem}"
            ));
        }
    }
}
