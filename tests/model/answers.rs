//! Responses, lists, and what must hold at the end.

use std::collections::BTreeSet;

use cloakroom::store::Handle;
use http::StatusCode;

use crate::browser::Carrier;
use crate::gate::Who;
use crate::history::{SessionNumber, VersionNumber};
use crate::program::{Limit, User};
use crate::reference::{Doing, Reference, SentId};
use crate::support_id::handle_of;

/// What a response says about the session's cookie.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SetCookie {
    To(String),
    Remove,
}

impl Reference {
    /// A response is on its way.
    pub(crate) fn responds(&mut self, who: Who, status: StatusCode, told: &[(Carrier, SetCookie)]) {
        if told.len() > 1 {
            self.violated(format!("the response to party {who} tells of two ids"));
        }
        if let Some(problem) = self.told_wrongly(who, told) {
            self.violated(problem);
        }
        for (carrier, cookie) in told {
            if *carrier != self.parties[who].brought.carrier {
                self.violated(format!("party {who} is told of its id by a {carrier:?}"));
            }
            if let SetCookie::To(value) = cookie {
                self.sends(who, value);
            }
        }
        let party = &self.parties[who];
        if party.doing == Doing::Commit && status != StatusCode::OK && !party.call_failed {
            self.violated(format!(
                "party {who} is answered {status}, and its store works"
            ));
        }
        let acknowledged = self.parties[who].doing == Doing::Commit && status == StatusCode::OK;
        if acknowledged
            && self.has_something_to_write(who)
            && !self.wrote_now(who)
            && !self.may_have_been_lost(who)
        {
            self.violated(format!(
                "the changes of party {who} are lost, and its client was told that all is well"
            ));
        }
        if acknowledged && self.wrote_now(who) && self.has_something_to_write(who) {
            self.acknowledged(who);
        }
        self.parties[who].doing = Doing::Over;
    }

    fn sends(&mut self, who: Who, value: &str) {
        let party = &self.parties[who];
        if let Some(id) = self.ids.iter().position(|id| id.value == value) {
            if !party.brought.ids.contains(&id) {
                self.violated(format!("party {who} was sent an id that another was sent"));
            } else if party.dead_ids.contains(&id) {
                self.violated(format!(
                    "party {who} was sent its old id again, which was dead by then"
                ));
            }
            return;
        }
        let Some(version) = party.wrote else {
            self.violated(format!("party {who} was sent an id that was not saved"));
            return;
        };
        let session = self.history.versions[version].session;
        if handle_of(value) != self.history.sessions[session].handle {
            self.violated(format!(
                "party {who} was sent an id of a session that it did not write"
            ));
        }
        let known = &mut self.history.versions[version];
        if !known.issues {
            self.tally.count("an id renewed on a schedule is sent");
        }
        known.issues = true;
        known.may_issue = true;
        self.ids.push(SentId {
            value: value.to_owned(),
            version,
            presented: false,
        });
    }

    /// Whether an end, an expiry or a renewal by others came in between, so that changes are dropped.
    pub(crate) fn may_have_been_lost(&self, who: Who) -> bool {
        let party = &self.parties[who];
        let had = party.had.iter();
        party.came_late || had.copied().any(|had| self.may_be_closed_to(who, had))
    }

    /// Whether the session that a party had in this version may have become closed to it.
    fn may_be_closed_to(&self, who: Who, had: VersionNumber) -> bool {
        let session = self.history.versions[had].session;
        let known = &self.history.sessions[session];
        // What a late write extended was dead to whoever looked before that.
        let began_at = self.parties[who].began_at;
        let expired = known.tip.is_some() && !self.has_lived(session, began_at, self.now());
        let retired = self.history.attempts_after(had).any(|later| {
            let version = &self.history.versions[later];
            // Its own login or renewal, too, if it was never told that this took effect.
            let is_known = self.parties[who].had.contains(&later);
            version.privileged && !is_known
        });
        let ids = self.parties[who].brought.ids.iter();
        let mut own =
            ids.filter(|id| self.history.versions[self.ids[**id].version].session == session);
        let superseded = own.any(|id| self.may_be_superseded(self.ids[*id].version));
        known.may_have_ended || expired || retired || superseded
    }

    /// Where the user of this party is logged in, by what the party was told.
    pub(crate) fn listed(&mut self, who: Who, handles: &[Handle]) {
        let Some((user, _)) = self.user_of(who) else {
            if !handles.is_empty() {
                self.violated(format!("party {who} has no user, and sees sessions of one"));
            }
            self.parties[who].doing = Doing::Nothing;
            return;
        };
        for handle in handles {
            self.must_be_theirs(user, handle);
        }
        self.parties[who].doing = Doing::Nothing;
    }

    /// Who is logged in to this session, whether or not anybody was told, if it is alive for sure.
    fn has_surely(&self, session: SessionNumber) -> Option<User> {
        let known = &self.history.sessions[session];
        let mut line = self
            .history
            .line(known.tip?)
            .map(|version| &self.history.versions[version]);
        let login = line.find(|version| version.login_loaded_at.is_some())?;
        let logged_in = login.logged_in.filter(|logged_in| !logged_in.pending)?;
        let is_sure = !known.may_have_ended
            && !self.parties[login.writer].call_failed
            && self.has_lived(session, self.now(), self.now());
        is_sure.then_some(logged_in.user)
    }

    fn must_be_theirs(&mut self, user: User, handle: &Handle) {
        let is_theirs = self.history.versions.iter().any(|version| {
            self.history.sessions[version.session].handle == *handle
                && version
                    .logged_in
                    .is_some_and(|logged_in| logged_in.user == user)
        });
        if !is_theirs {
            self.violated(format!(
                "on the list of user {user} is a session of another"
            ));
        }
    }

    /// When to look at which id: right before its session may expire, and when it must have.
    pub(crate) fn moments(&self) -> Vec<(i64, usize)> {
        let now = self.now();
        let mut moments = Vec::new();
        for (id, sent) in self.ids.iter().enumerate() {
            let session = &self.history.sessions[self.history.versions[sent.version].session];
            if let Some(tip) = session.tip
                && !session.ended
            {
                let latest_end = self.history.versions[tip].latest_end;
                moments.extend([(self.earliest_end_since(tip) - 1, id), (latest_end, id)]);
            }
        }
        moments.retain(|(at, _)| *at > now);
        moments.sort_unstable();
        moments
    }

    /// Everybody has come to the end, and these parties have looked at what each id opens.
    pub(crate) fn ends(&mut self, probes: &[Who], listed: &[Vec<Handle>]) {
        let logged_in: BTreeSet<_> = probes.iter().filter_map(|&who| self.user_of(who)).collect();
        for &(user, session) in &logged_in {
            let handle = self.history.sessions[session].handle;
            if !listed[usize::from(user)].contains(&handle) {
                self.violated(format!(
                    "session {session} of user {user} is alive, and on no list"
                ));
            }
        }
        for session in 0..self.history.sessions.len() {
            let handle = self.history.sessions[session].handle;
            if let Some(user) = self.has_surely(session)
                && !listed[usize::from(user)].contains(&handle)
            {
                self.violated(format!(
                    "session {session} is logged in as user {user}, and on no list"
                ));
            }
        }
        for (user, handles) in (0..).zip(listed) {
            for handle in handles {
                self.must_be_theirs(user, handle);
            }
        }
        let most = match self.rules.limit {
            Limit::None => return,
            Limit::EndOldest(most) | Limit::RefuseLogin(most) => most,
        };
        for user in 0..2 {
            let sessions = logged_in.iter().filter(|(of, _)| *of == user).count();
            if sessions > most {
                self.violated(format!(
                    "user {user} has {sessions} sessions, and may have {most}"
                ));
            }
        }
    }
}
