//! What the reference model makes of a delete: whether it may be, and of whom.

use cloakroom::store::Handle;

use crate::gate::Who;
use crate::history::{SessionNumber, VersionNumber};
use crate::program::{Limit, Operation};
use crate::reference::{Doing, Reference, Wishes};

impl Reference {
    pub(crate) fn delete_begins(&mut self, who: Who, handle: &Handle) {
        let Some(session) = self.history.session(handle) else {
            self.violated(format!("party {who} deletes a session that nobody created"));
            return;
        };
        if !self.may_end(who, session) {
            let doing = self.parties[who].doing;
            self.violated(format!("party {who} ends session {session} by {doing:?}"));
        }
        self.history.sessions[session].may_have_ended = true;
        let party = &mut self.parties[who];
        let session_of = |version: VersionNumber| self.history.versions[version].session;
        let own = party.base.map(session_of);
        // A login that has begun another session ends the one before by the limit alone: what is staged since
        // is in the new one.
        let is_left = party
            .wrote_now
            .map(session_of)
            .is_some_and(|wrote| wrote != session);
        let ends_own = matches!(party.doing, Doing::Destroy | Doing::Login(..));
        if ends_own && own == Some(session) && !is_left {
            // What is staged to it goes with it, but for what a login has taken already.
            party.ending = own;
            party.base = None;
            party.staged.clear();
            party.taken_of_staged = 0;
            party.wishes = Wishes::default();
        }
    }

    /// A delete succeeded that found the session.
    pub(crate) fn delete_ends(&mut self, who: Who, handle: &Handle) {
        let own = matches!(
            self.parties[who].doing,
            Doing::Destroy | Doing::Login(..) | Doing::EndAll | Doing::EndOne(_)
        );
        if let (true, Some(session)) = (own, self.history.session(handle)) {
            self.parties[who].deleted.push(session);
        }
    }

    /// Whether what this party does is to end this session.
    fn may_end(&self, who: Who, session: SessionNumber) -> bool {
        let party = &self.parties[who];
        let own = party.base.map(|base| self.history.versions[base].session);
        let is_own = own.or(party.ending_failed) == Some(session);
        let of_user = |user| {
            let mut versions = self.history.versions.iter();
            versions.any(|version| {
                version.session == session
                    && version
                        .logged_in
                        .is_some_and(|logged_in| logged_in.user == user)
            })
        };
        match party.doing {
            Doing::Destroy => is_own,
            Doing::Login(user, _) => {
                let by_limit = match self.rules.limit {
                    Limit::None => false,
                    Limit::EndOldest(_) => true,
                    // What cannot be alive any more makes room.
                    Limit::RefuseLogin(_) => self.may_be_dead(session),
                };
                let wrote = party
                    .wrote_now
                    .map(|wrote| self.history.versions[wrote].session);
                is_own || wrote == Some(session) || by_limit && of_user(user)
            }
            Doing::Extract => {
                let mut ids = party.brought.ids.iter();
                self.rules.end_on_copied_id
                    && ids.any(|&id| {
                        let id = self.ids[id].version;
                        self.history.versions[id].session == session && self.may_be_superseded(id)
                    })
            }
            Doing::EndOne(target) => target == Some(session),
            Doing::EndOthers => !is_own && self.user_of(who).is_some_and(|(user, _)| of_user(user)),
            Doing::EndAll => self.user_of(who).is_some_and(|(user, _)| of_user(user)),
            Doing::Operate(Operation::EndOfUser(user, _) | Operation::EndAll(user)) => {
                of_user(user)
            }
            Doing::Operate(_) => true,
            _ => false,
        }
    }

    fn may_be_dead(&self, session: SessionNumber) -> bool {
        let known = &self.history.sessions[session];
        let is_past = |tip| self.now() >= self.earliest_end_since(tip);
        known.may_have_ended || known.tip.is_none_or(is_past)
    }
}
