//! The list and the mark of one user, for stores that keep them as a whole.

use super::{Handle, Link, Linked, LinkedSession, LoginProgress, MARK_KEPT};
use crate::clock::{from_unix_millis, to_unix_millis};
use crate::timeouts::millis;

/// Times are unix milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UserList {
    pub(super) mark: Option<i64>,
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) handle: Handle,
    pub(super) linked_at: i64,
    pub(super) expires_at: i64,
    pub(super) progress: LoginProgress,
}

impl UserList {
    pub(super) fn link(
        &mut self,
        handle: &Handle,
        link: &Link,
        everyones_mark: Option<i64>,
    ) -> Linked {
        let refused_from = to_unix_millis(link.refused_by_marks_from);
        if self.mark.max(everyones_mark) >= Some(refused_from) {
            return Linked::Overtaken;
        }
        let now = to_unix_millis(link.linked_at);
        let others = self
            .live(now)
            .filter(|entry| entry.handle != *handle)
            .map(Entry::to_linked);
        match link.judge(others) {
            Err(others) => Linked::Full(others),
            Ok(others) => {
                self.entries.retain(|entry| entry.handle != *handle);
                self.entries.push(Entry {
                    handle: *handle,
                    linked_at: now,
                    expires_at: to_unix_millis(link.expires_at),
                    progress: link.progress,
                });
                Linked::Done(others)
            }
        }
    }

    pub(super) fn extend(&mut self, handle: &Handle, expires_at: i64) {
        for entry in &mut self.entries {
            if entry.handle == *handle {
                entry.expires_at = entry.expires_at.max(expires_at);
            }
        }
    }

    pub(super) fn unlink(&mut self, handles: &[Handle]) {
        self.entries
            .retain(|entry| !handles.contains(&entry.handle));
    }

    pub(super) fn list(&self, now: i64) -> Vec<LinkedSession> {
        let mut list: Vec<_> = self.live(now).map(Entry::to_linked).collect();
        list.sort_by_key(|entry| entry.linked_at);
        list
    }

    pub(super) fn mark(&mut self, at: i64) {
        self.mark = self.mark.max(Some(at));
    }

    pub(super) fn handles(&self) -> Vec<Handle> {
        self.entries.iter().map(|entry| entry.handle).collect()
    }

    /// Drops what is of no use any more.
    pub(super) fn tidy_up(&mut self, now: i64) {
        self.entries.retain(|entry| entry.expires_at > now);
        self.mark = self.mark.filter(|mark| now < kept_until(*mark));
    }

    /// Until when any of it is of use; `None` if it is empty.
    #[cfg(feature = "file")]
    pub(super) fn of_use_until(&self) -> Option<i64> {
        let entries = self.entries.iter().map(|entry| entry.expires_at).max();
        entries.max(self.mark.map(kept_until))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.mark.is_none()
    }

    fn live(&self, now: i64) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(move |entry| entry.expires_at > now)
    }
}

fn kept_until(mark: i64) -> i64 {
    mark.saturating_add(millis(MARK_KEPT))
}

impl Entry {
    fn to_linked(&self) -> LinkedSession {
        LinkedSession {
            handle: self.handle,
            linked_at: from_unix_millis(self.linked_at),
            progress: self.progress,
        }
    }
}
