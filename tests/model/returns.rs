//! What the calls of an app return, and what its session is to it from then on.

use cloakroom::ErrorKind;

use crate::gate::Who;
use crate::history::SessionNumber;
use crate::program::{How, Operation, User};
use crate::reference::{CLOCK_SKEW, Doing, Reference, Revocation, Seen, Wishes};

impl Reference {
    /// A save returned.
    pub(crate) fn saved(&mut self, who: Who, result: Result<(), ErrorKind>) {
        if result.is_ok() && self.has_something_to_write(who) && !self.wrote_now(who) {
            self.violated(format!(
                "party {who} was told that its changes were saved: they were not"
            ));
        }
        match result {
            Ok(()) if self.wrote_now(who) => self.acknowledged(who),
            Ok(()) => {}
            Err(ErrorKind::Ended) if !self.may_have_been_lost(who) => {
                self.violated(format!(
                    "party {who} was told that its session has ended, which is alive"
                ));
            }
            Err(error) => self.failed(who, error),
        }
        match result {
            Ok(()) if !self.wrote_now(who) => self.has_found_it_saved(who),
            Ok(()) => self.has_saved(who),
            Err(error) => self.has_dropped(who, error == ErrorKind::Ended),
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
        if let Err(error) = result {
            self.login_failed(who, login, error);
        }
        if result.is_ok() {
            self.acknowledged(who);
            let wrote = self.parties[who].wrote_now;
            let logged_in = wrote.and_then(|version| self.history.versions[version].logged_in);
            if logged_in.map(|logged_in| logged_in.user) != Some(login.0) {
                self.violated(format!(
                    "party {who} was told of a login that was not saved"
                ));
            }
            self.has_saved(who);
            self.parties[who].came_late = false;
        } else if let Some(gone) = self.gone_with_a_login(who)
            && seen.handle.is_none()
        {
            match result {
                // What was staged to the session before went when its ending began. What is staged since waits for
                // a session to come.
                Err(error) if !self.wrote_now(who) && error != ErrorKind::EndingFailed => {
                    self.parties[who].doing = Doing::Nothing;
                }
                // What is staged to the session that the login had begun goes with it; and where an ending failed,
                // nothing may be staged.
                _ => self.has_no_session(who),
            }
            // Where that could not be ended, `destroy` tries again.
            self.parties[who].ending_failed = Some(gone);
        } else {
            self.parties[who].doing = Doing::Nothing;
        }
    }

    /// The session that a login which failed has begun to end.
    fn gone_with_a_login(&self, who: Who) -> Option<SessionNumber> {
        let party = &self.parties[who];
        let wrote = party
            .wrote_now
            .map(|version| self.history.versions[version].session);
        wrote.or(party.ending)
    }

    /// `destroy` returned.
    pub(crate) fn destroyed(&mut self, who: Who, result: Result<(), ErrorKind>) {
        match result {
            Ok(()) => self.acknowledged(who),
            Err(error) => self.failed(who, error),
        }
        let party = &self.parties[who];
        let own = party.base.map(|base| self.history.versions[base].session);
        let own = party.ending.or(own).or(party.ending_failed);
        if let (Some(own), Ok(())) = (own, result) {
            self.history.sessions[own].ended = true;
            self.has_ended_own(who, own);
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
            self.acknowledged(who);
            self.revoked(Some(user), self.parties[who].since, Some(own));
            if !self.wrote_now(who) {
                self.violated(format!(
                    "party {who} was told that its own id was renewed: it was not"
                ));
            }
        }
        match result {
            Ok(()) => self.has_saved(who),
            Err(error) => {
                if error != ErrorKind::Ended {
                    self.failed(who, error);
                }
                self.has_dropped(who, true);
            }
        }
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
            self.acknowledged(who);
            self.history.sessions[target].ended = true;
            if own == Some(target) {
                self.has_ended_own(who, target);
            }
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
        self.acknowledged(who);
        // No call of it failed, so none takes effect later.
        self.parties[who].doing = Doing::Over;
        match (operation, target) {
            (Operation::IsAlive(_), Some(target)) => self.told_of_life(who, target, ended),
            (Operation::End(_), Some(target)) => self.history.sessions[target].ended = true,
            (Operation::EndOfUser(..), Some(target)) if ended => {
                self.history.sessions[target].ended = true;
            }
            (Operation::EndAll(user), _) => self.revoked(Some(user), since, None),
            (Operation::EndEveryone, _) => self.revoked(None, since, None),
            _ => {}
        }
    }

    /// Everybody has come to the end. What a client did not wait for has come to its end, too, as if it had.
    pub(crate) fn all_is_over(&mut self) {
        for who in 0..self.parties.len() {
            let party = &self.parties[who];
            if party.call_failed {
                continue;
            }
            let since = party.since;
            match party.doing {
                Doing::Save
                    if self.has_something_to_write(who)
                        && !self.wrote_now(who)
                        && !self.may_have_been_lost(who) =>
                {
                    self.violated(format!(
                        "the client of party {who} hung up, and its changes were not saved"
                    ));
                }
                Doing::Destroy => self.destroyed(who, Ok(())),
                Doing::EndAll => self.ended_all(who, Ok(())),
                Doing::EndOthers => {
                    if let Some((user, own)) = self.user_of(who) {
                        self.revoked(Some(user), since, Some(own));
                    }
                }
                _ => {}
            }
        }
    }

    fn revoked(&mut self, user: Option<User>, marked_at: i64, but: Option<SessionNumber>) {
        self.revocations.push(Revocation {
            user,
            loaded_before: marked_at + CLOCK_SKEW,
            but,
        });
    }

    /// What was staged when the party's call began is saved, and what was staged since lies on top of it.
    fn has_saved(&mut self, who: Who) {
        let party = &mut self.parties[who];
        party.base = party.wrote_now.or(party.base);
        party.had.extend(party.base);
        party.staged.drain(..party.taken_of_staged);
        let (_, done) = party.taken;
        party.wishes.renew &= !done.renew;
        party.wishes.persistent_cookie &= !done.persistent_cookie;
        party.wishes.timeouts = party
            .wishes
            .timeouts
            .filter(|_| party.wishes.timeouts != done.timeouts);
        party.doing = Doing::Nothing;
    }

    /// What was staged when the party's save began was there already. What a session to come is to be like
    /// waits for that session.
    fn has_found_it_saved(&mut self, who: Who) {
        let party = &mut self.parties[who];
        party.base = party.reloaded.or(party.base);
        party.staged.drain(..party.taken_of_staged);
        party.doing = Doing::Nothing;
    }

    /// What was staged is dropped, be it staged since the call began.
    fn has_dropped(&mut self, who: Who, ended: bool) {
        let party = &mut self.parties[who];
        if ended {
            party.base = None;
        }
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
