//! What sessions there are, and every version of each that was ever on its way to the store.
//!
//! A version is named by the nonce that its record carries, so whatever a load returns tells which of the
//! writes it comes from; and each write builds on the version that it expected. So the versions of a session
//! are a tree, and those that took effect have to be one line in it.

use std::collections::BTreeMap;

use cloakroom::store::{Handle, Version};

use crate::browser::Carrier;
use crate::program::{Key, Lasting, User};

/// What a session holds: for each key the tokens that were written there. No token is ever written twice,
/// so none can come from another session or another write.
pub(crate) type Content = BTreeMap<Key, Vec<u32>>;

/// A change that a handler has staged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Set(Key, u32),
    Append(Key, u32),
    Removed(Key),
    Cleared,
}

pub(crate) fn apply(changes: &[Change], content: &Content) -> Content {
    let mut content = content.clone();
    for change in changes {
        match *change {
            Change::Set(key, token) => {
                content.insert(key, vec![token]);
            }
            Change::Append(key, token) => content.entry(key).or_default().push(token),
            Change::Removed(key) => {
                content.remove(&key);
            }
            Change::Cleared => content.clear(),
        }
    }
    content
}

/// Who is logged in, and whether a second factor is pending.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LoggedIn {
    pub(crate) user: User,
    pub(crate) pending: bool,
}

/// Numbers of sessions and versions: by these everything else names them.
pub(crate) type SessionNumber = usize;
pub(crate) type VersionNumber = usize;

#[derive(Debug)]
pub(crate) struct KnownSession {
    pub(crate) handle: Handle,
    pub(crate) carrier: Carrier,
    /// The latest version that is known to have taken effect.
    pub(crate) tip: Option<VersionNumber>,
    /// An ending of it returned: no id opens it.
    pub(crate) ended: bool,
    /// An ending of it has begun: it may open, or not.
    pub(crate) may_have_ended: bool,
    /// When a write that began before it expired was last seen to take effect after that: until then it was
    /// dead to whoever looked.
    pub(crate) extended_late_at: Option<i64>,
}

#[derive(Debug)]
pub(crate) struct KnownVersion {
    pub(crate) session: SessionNumber,
    pub(crate) nonce: Version,
    pub(crate) parent: Option<VersionNumber>,
    pub(crate) writer: usize,
    pub(crate) at: i64,
    pub(crate) content: Content,
    pub(crate) logged_in: Option<LoggedIn>,
    /// When the request was extracted that logged this user in, where this version is a login.
    pub(crate) login_loaded_at: Option<i64>,
    /// It kills every id that was sent before.
    pub(crate) privileged: bool,
    /// The store has answered that it did not write it.
    pub(crate) refused: bool,
    /// Whether it has an id of its own, as far as can be told: a scheduled renewal shows in the response
    /// alone.
    pub(crate) may_issue: bool,
    pub(crate) issues: bool,
    /// The id that the request brought which wrote it.
    pub(crate) brought: Option<usize>,
    pub(crate) lasting: Option<Lasting>,
    pub(crate) started_at: i64,
    /// It is dead from `latest_end` on at the latest, and alive until `earliest_end`.
    pub(crate) earliest_end: i64,
    pub(crate) latest_end: i64,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) sessions: Vec<KnownSession>,
    pub(crate) versions: Vec<KnownVersion>,
}

impl History {
    pub(crate) fn session(&self, handle: &Handle) -> Option<SessionNumber> {
        self.sessions
            .iter()
            .position(|known| known.handle == *handle)
    }

    pub(crate) fn version(&self, session: SessionNumber, nonce: Version) -> Option<VersionNumber> {
        let is_it = |known: &KnownVersion| known.session == session && known.nonce == nonce;
        self.versions.iter().position(is_it)
    }

    /// This version and those that it builds on, the latest first.
    pub(crate) fn line(&self, version: VersionNumber) -> impl Iterator<Item = VersionNumber> {
        std::iter::successors(Some(version), |&version| self.versions[version].parent)
    }

    pub(crate) fn builds_on(&self, version: VersionNumber, earlier: VersionNumber) -> bool {
        self.line(version).any(|before| before == earlier)
    }

    /// The versions after `earlier` on the line to `version`.
    pub(crate) fn since(
        &self,
        version: VersionNumber,
        earlier: VersionNumber,
    ) -> impl Iterator<Item = &KnownVersion> {
        self.line(version)
            .take_while(move |&later| later != earlier)
            .map(|later| &self.versions[later])
    }

    /// Every version that builds on this one and may be in the store, or have been there.
    pub(crate) fn attempts_after(
        &self,
        earlier: VersionNumber,
    ) -> impl Iterator<Item = VersionNumber> {
        (earlier + 1..self.versions.len())
            .filter(move |&later| self.builds_on(later, earlier) && self.is_possible(later))
    }

    /// Whether a version may be in the store, have been there, or come to be: not one that was refused, nor
    /// one on another branch than what is known to have taken effect.
    pub(crate) fn is_possible(&self, version: VersionNumber) -> bool {
        let known = &self.versions[version];
        let tip = self.sessions[known.session].tip;
        !known.refused
            && tip.is_none_or(|tip| self.builds_on(tip, version) || self.builds_on(version, tip))
    }

    /// This version was seen in the store.
    ///
    /// # Errors
    ///
    /// If it does not build on what was there, so that this is lost.
    pub(crate) fn took_effect(&mut self, version: VersionNumber) -> Result<(), String> {
        let session = self.versions[version].session;
        match self.sessions[session].tip {
            Some(tip) if self.builds_on(tip, version) => Ok(()),
            Some(tip) if !self.builds_on(version, tip) => Err(format!(
                "a change is lost: version {tip} of session {session} took effect, and so did version \
                 {version}, which does not build on it"
            )),
            _ => {
                self.sessions[session].tip = Some(version);
                Ok(())
            }
        }
    }
}
