//! Whether a response tells its client of its id what it has to, and nothing that it must not.

use crate::answers::SetCookie;
use crate::browser::Carrier;
use crate::gate::Who;
use crate::history::{SessionNumber, VersionNumber};
use crate::opening::GRACE;
use crate::reference::{Doing, Reference};
use crate::support_id::handle_of;

impl Reference {
    /// The party was told that its session is ended.
    pub(crate) fn has_ended_own(&mut self, who: Who, own: SessionNumber) {
        let session_of = |id: usize| self.history.versions[self.ids[id].version].session;
        let party = &self.parties[who];
        let mut brought = party.brought.ids.iter();
        // Who ended it first tells of it.
        let forgets = party.deleted.contains(&own) && brought.any(|&id| session_of(id) == own);
        self.parties[who].must_forget |= forgets;
    }

    /// What is wrong with what a response says. Where a call failed, it may know too little.
    pub(crate) fn told_wrongly(&self, who: Who, told: &[(Carrier, SetCookie)]) -> Option<String> {
        let party = &self.parties[who];
        if party.call_failed {
            return None;
        }
        if told.is_empty() && party.must_forget {
            return Some(format!(
                "party {who} has ended its session, and its client is not told to forget the id"
            ));
        }
        let removes = told.iter().any(|(_, what)| *what == SetCookie::Remove);
        let lost_it = !party.had.is_empty() && party.deleted.is_empty();
        if removes && (lost_it || self.was_retired(who)) {
            return Some(format!(
                "party {who} is told to forget its id, which may push a newer one out"
            ));
        }
        let issued = self.issued(who)?;
        let handle = self.history.sessions[self.history.versions[issued].session].handle;
        let is_it = |(_, what): &(Carrier, SetCookie)| match what {
            SetCookie::To(value) => {
                handle_of(value) == handle && !self.ids.iter().any(|id| id.value == *value)
            }
            SetCookie::Remove => false,
        };
        (!told.iter().any(is_it)).then(|| {
            format!(
                "party {who} has written version {issued}, and its client is not told the new id"
            )
        })
    }

    /// A session comes into being: not for changes to one that was lost meanwhile, as its new id may push a newer
    /// one out.
    pub(crate) fn begins_a_session(&mut self, who: Who) {
        let party = &self.parties[who];
        let for_changes = matches!(party.doing, Doing::Save | Doing::Commit);
        let lost_it = !party.had.is_empty() && party.deleted.is_empty();
        if for_changes && !party.call_failed && (lost_it || self.was_retired(who)) {
            self.violated(format!(
                "party {who} has lost its session, and its changes begin another one"
            ));
        }
    }

    /// The latest version of this party with a new id, if that is the current one for sure.
    fn issued(&self, who: Who) -> Option<VersionNumber> {
        let is_own = |version: &VersionNumber| {
            let known = &self.history.versions[*version];
            known.writer == who && known.issues
        };
        let issued = (0..self.history.versions.len()).rev().find(is_own)?;
        let session = self.history.versions[issued].session;
        let known = &self.history.sessions[session];
        let took_effect = known
            .tip
            .is_some_and(|tip| self.history.builds_on(tip, issued));
        let renewed = self.history.attempts_after(issued).any(|later| {
            let later = &self.history.versions[later];
            later.writer != who && (later.may_issue || later.privileged)
        });
        let lives = self.has_lived(session, self.parties[who].began_at, self.now());
        (took_effect && lives && !renewed && !known.may_have_ended).then_some(issued)
    }

    /// Whether a login or a renewal had just retired the id that a party brought, as it saw, and it has not
    /// logged in since.
    fn was_retired(&self, who: Who) -> bool {
        let party = &self.parties[who];
        let ([id], [load], None) = (&party.brought.ids[..], &party.loads[..], party.wrote) else {
            return false;
        };
        let id = self.ids[*id].version;
        let session = &self.history.sessions[self.history.versions[id].session];
        // One that came by the other carrier is nothing that a newer one replaced there.
        let came_as_sent = session.carrier == party.brought.carrier;
        came_as_sent
            && load.found.is_some_and(|found| {
                let mut later = self.history.since(found, id);
                party.began_at < self.history.versions[found].earliest_end
                    && self.history.since(found, id).count() <= 1
                    && later.any(|later| later.privileged && party.began_at < later.at + GRACE)
            })
    }
}
