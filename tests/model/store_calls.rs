//! What the reference model makes of the calls that the crate makes on its store.

use cloakroom::clock::to_unix_millis;
use cloakroom::store::{Handle, Outcome, Record, StoreError, Version};
use time::OffsetDateTime;

use crate::gate::Who;
use crate::history::{
    Content, KnownSession, KnownVersion, LoggedIn, SessionNumber, VersionNumber, apply,
};
use crate::program::{How, Lasting, Operation};
use crate::reference::{Doing, Load, Party, Reference, TIMEOUTS};

/// After which time ids are renewed, if they are, in milliseconds.
pub(crate) const RENEWED_AFTER: i64 = 5 * 60_000;

impl Reference {
    pub(crate) fn load_begins(&mut self, handle: &Handle) -> Load {
        let session = self.history.session(handle);
        let known = session.map(|session| &self.history.sessions[session]);
        Load {
            session,
            tip: known.and_then(|known| known.tip),
            ended: known.is_some_and(|known| known.ended),
            revocations: self.revocations.len(),
            found: None,
        }
    }

    pub(crate) fn load_ends(&mut self, who: Who, mut load: Load, loaded: Option<&Record>) {
        if let (Some(session), Some(record)) = (load.session, loaded) {
            load.found = self.history.version(session, record.version);
            match load.found {
                None => self.violated(format!("session {session} was loaded as nobody wrote it")),
                Some(found) => self.is_in_the_store(who, found),
            }
            if let (Some(found), Some(tip)) = (load.found, load.tip)
                && !self.history.builds_on(found, tip)
            {
                self.violated(format!(
                    "a change is lost: version {found} of session {session} was loaded after version {tip}"
                ));
            }
        } else if loaded.is_some() {
            self.violated("a record was loaded that nobody created");
        }
        let party = &mut self.parties[who];
        match party.doing {
            Doing::Extract | Doing::Operate(Operation::IsAlive(_)) => party.loads.push(load),
            Doing::Save | Doing::Commit => party.reloaded = load.found,
            _ => {}
        }
    }

    pub(crate) fn load_fails(&mut self, who: Who) {
        let party = &mut self.parties[who];
        party.load_failed |= party.doing == Doing::Extract;
    }

    pub(crate) fn create_begins(&mut self, who: Who, handle: &Handle, record: &Record) {
        self.may_write(who);
        self.begins_a_session(who);
        if self.history.session(handle).is_some() {
            self.violated(format!(
                "party {who} creates a session under a handle that is in use"
            ));
        }
        self.history.sessions.push(KnownSession {
            handle: *handle,
            carrier: self.parties[who].brought.carrier,
            tip: None,
            ended: false,
            may_have_ended: false,
            extended_late_at: None,
        });
        let session = self.history.sessions.len() - 1;
        let now = to_unix_millis(record.created_at);
        self.is_not_ahead(who, now);
        self.attempts(who, session, record, None, now);
    }

    pub(crate) fn create_ends(
        &mut self,
        who: Who,
        handle: &Handle,
        result: &Result<(), StoreError>,
    ) {
        let version = self.history.session(handle).and_then(|session| {
            self.history
                .versions
                .iter()
                .position(|version| version.session == session)
        });
        if let (Some(version), Ok(())) = (version, result) {
            self.is_in_the_store(who, version);
        }
    }

    pub(crate) fn update_begins(
        &mut self,
        who: Who,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) {
        self.may_write(who);
        let Some(parent) = self.known(who, handle, expected) else {
            return;
        };
        let now = to_unix_millis(now);
        self.is_not_ahead(who, now);
        self.attempts(
            who,
            self.history.versions[parent].session,
            record,
            Some(parent),
            now,
        );
    }

    pub(crate) fn update_ends(
        &mut self,
        who: Who,
        handle: &Handle,
        version: Version,
        result: &Result<Outcome, StoreError>,
    ) {
        let session = self.history.session(handle);
        let version = session.and_then(|session| self.history.version(session, version));
        match (version, result) {
            (Some(version), Ok(Outcome::Done)) => self.is_in_the_store(who, version),
            (Some(version), Ok(outcome)) => {
                self.tally.count(format!("an update: {outcome:?}"));
                self.history.versions[version].refused = true;
            }
            _ => {}
        }
    }

    pub(crate) fn touch_begins(
        &mut self,
        who: Who,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) {
        self.may_write(who);
        let Some(touched) = self.known(who, handle, expected) else {
            return;
        };
        let now = to_unix_millis(now);
        self.is_not_ahead(who, now);
        let version = &mut self.history.versions[touched];
        let end = version.end_if_active(now);
        version.latest_end = version.latest_end.max(end);
        if to_unix_millis(expires_at) > end {
            self.violated(format!("party {who} extends version {touched} too far"));
        }
    }

    pub(crate) fn touch_ends(
        &mut self,
        handle: &Handle,
        expected: Version,
        now: OffsetDateTime,
        result: &Result<Outcome, StoreError>,
    ) {
        let session = self.history.session(handle);
        let touched = session.and_then(|session| self.history.version(session, expected));
        if let (Some(touched), Ok(Outcome::Done)) = (touched, result) {
            self.extends(touched);
            let version = &mut self.history.versions[touched];
            let end = version.end_if_active(to_unix_millis(now));
            version.earliest_end = version.earliest_end.max(end);
            self.tally.count("a touch");
        }
    }

    fn may_write(&mut self, who: Who) {
        let doing = self.parties[who].doing;
        let may = matches!(
            doing,
            Doing::Save | Doing::Login(..) | Doing::EndOthers | Doing::Commit
        );
        if !may {
            self.violated(format!("party {who} writes, and does {doing:?}"));
        }
    }

    fn is_not_ahead(&mut self, who: Who, now: i64) {
        if now > self.now() {
            self.violated(format!("party {who} writes as of a time to come"));
        }
    }

    fn known(&mut self, who: Who, handle: &Handle, version: Version) -> Option<VersionNumber> {
        let session = self.history.session(handle);
        let known = session.and_then(|session| self.history.version(session, version));
        if known.is_none() {
            self.violated(format!(
                "party {who} writes to a session that nobody created"
            ));
        }
        known
    }

    /// Whether someone is ending all sessions, or has been cut off while at it.
    fn everyone_may_end(&self) -> bool {
        let ends = |party: &Party| party.doing == Doing::Operate(Operation::EndEveryone);
        self.parties.iter().any(ends)
    }

    /// A session that lived as long as this version says lives on.
    fn extends(&mut self, version: VersionNumber) {
        let now = self.now();
        let version = &self.history.versions[version];
        if now >= version.earliest_end {
            self.history.sessions[version.session].extended_late_at = Some(now);
            self.tally.count("a session is extended late");
        }
    }

    fn is_in_the_store(&mut self, who: Who, version: VersionNumber) {
        let known = &self.history.versions[version];
        if let Some(tip) = self.history.sessions[known.session].tip
            && tip != version
            && self.history.builds_on(version, tip)
        {
            self.extends(tip);
        }
        if let Err(lost) = self.history.took_effect(version) {
            self.violated(lost);
        }
        let writer = self.history.versions[version].writer;
        if writer == who && version >= self.parties[who].versions_before {
            let party = &mut self.parties[who];
            party.wrote_now = Some(version);
            party.wrote = Some(version);
            party.must_forget = false;
            party.had.push(version);
        }
    }

    /// A version is on its way to the store: works out what must be in it.
    fn attempts(
        &mut self,
        who: Who,
        session: SessionNumber,
        record: &Record,
        parent: Option<VersionNumber>,
        now: i64,
    ) {
        let party = &self.parties[who];
        let (staged, wishes) = &party.taken;
        let parent_version = parent.map(|parent| &self.history.versions[parent]);
        let nothing = Content::new();
        let before = parent_version.map_or(&nothing, |parent| &parent.content);
        let login = match party.doing {
            Doing::Login(user, how) => Some((user, how)),
            _ => None,
        };
        let logged_in = match login {
            Some((user, how)) => Some(LoggedIn {
                user,
                pending: how == How::SecondFactorPending,
            }),
            None => parent_version.and_then(|parent| parent.logged_in),
        };
        let remembered = login
            .filter(|(_, how)| *how == How::RememberMe)
            .map(|_| Lasting::Longer);
        let forgets = login.is_some_and(|(_, how)| how == How::ForgetMe);
        let timeouts = wishes.timeouts;
        let kept = parent_version
            .filter(|parent| login.is_none() || parent.logged_in.is_some() && !forgets)
            .and_then(|parent| parent.lasting);
        let started_at = match (login, parent_version) {
            (None, Some(parent)) => parent.started_at,
            _ => now,
        };
        let renewed_at = parent.and_then(|parent| {
            let mut line = self
                .history
                .line(parent)
                .map(|version| &self.history.versions[version]);
            line.find(|version| version.issues)
                .map(|version| version.at)
        });
        let privileged = login.is_some() || wishes.renew;
        let issues = privileged || parent.is_none();
        let is_due = |at| self.rules.renew_ids && now >= at + RENEWED_AFTER;
        let mut version = KnownVersion {
            session,
            nonce: record.version,
            parent,
            writer: who,
            at: now,
            content: apply(staged, before),
            logged_in,
            login_loaded_at: login.map(|_| party.loaded_at),
            privileged,
            refused: false,
            issues,
            may_issue: issues || renewed_at.is_some_and(is_due),
            brought: match (&party.brought.ids[..], party.wrote) {
                ([id], None) => Some(*id),
                _ => None,
            },
            lasting: remembered.or(timeouts).or(kept),
            started_at,
            earliest_end: 0,
            latest_end: 0,
        };
        let end = version.end_if_active(now);
        version.earliest_end = end;
        version.latest_end = end;
        if wishes.do_not_extend
            && wishes.timeouts.is_none()
            && login.is_none()
            && let Some(parent) = parent_version
        {
            version.latest_end = parent.latest_end;
            // As the writer has loaded it.
            version.earliest_end = to_unix_millis(record.expires_at);
        }
        if to_unix_millis(record.expires_at) > version.latest_end {
            self.violated(format!(
                "party {who} writes session {session} to expire late"
            ));
        }
        if let Some(user_id) = record.user_id.as_deref()
            && Some(user_id) != version.logged_in.map(|logged_in| user_name(logged_in.user))
        {
            self.violated(format!(
                "party {who} writes session {session} to be {user_id}'s"
            ));
        }
        if version.logged_in.is_some() && self.everyone_may_end() {
            self.history.sessions[session].may_have_ended = true;
        }
        self.history.versions.push(version);
    }
}

pub(crate) fn user_name(user: u8) -> &'static str {
    ["alice", "bob"][usize::from(user)]
}

impl KnownVersion {
    /// When the session ends by itself if it is active at this time.
    fn end_if_active(&self, now: i64) -> i64 {
        let timeouts = self.lasting.map_or(TIMEOUTS, Lasting::timeouts);
        let millis = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap();
        let idle = timeouts.idle().map_or(i64::MAX, |idle| now + millis(idle));
        idle.min(self.started_at + millis(timeouts.absolute()))
    }
}
