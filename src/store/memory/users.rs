//! The sessions by user.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{from_unix_millis, to_unix_millis};
use crate::store::{Handle, Link, Linked, LinkedSession, LoginProgress, MARK_KEPT};
use crate::timeouts::millis;

/// The lists and marks of all users, under one lock: it is taken by logins and endings alone.
///
/// A tree, since a hash table that grows moves all that it holds in one call.
#[derive(Debug, Default)]
pub(super) struct Users(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    users: BTreeMap<Arc<str>, User>,
    everyones_mark: Option<i64>,
    /// The user who was tidied up last.
    tidied: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct User {
    mark: Option<i64>,
    sessions: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    handle: Handle,
    linked_at: i64,
    expires_at: i64,
    progress: LoginProgress,
}

/// How many users each link tidies up: more than the one that it may add.
const TIDIED_PER_LINK: usize = 2;

impl Users {
    pub(super) fn link(&self, user_id: &str, handle: &Handle, link: &Link) -> Linked {
        let mut lists = self.lock();
        let now = to_unix_millis(link.linked_at);
        lists.tidy_up(now);
        let refused_from = to_unix_millis(link.refused_by_marks_from);
        let mark = lists.users.get(user_id).and_then(|user| user.mark);
        if mark.max(lists.everyones_mark) >= Some(refused_from) {
            return Linked::Overtaken;
        }
        let user = lists.users.entry(user_id.into()).or_default();
        let others = user
            .live(now)
            .filter(|entry| entry.handle != *handle)
            .map(Entry::to_linked);
        match link.judge(others) {
            Err(others) => Linked::Full(others),
            Ok(others) => {
                user.sessions.retain(|entry| entry.handle != *handle);
                user.sessions.push(Entry {
                    handle: *handle,
                    linked_at: now,
                    expires_at: to_unix_millis(link.expires_at),
                    progress: link.progress,
                });
                Linked::Done(others)
            }
        }
    }

    pub(super) fn extend(&self, user_id: &str, handle: &Handle, expires_at: i64) {
        let mut lists = self.lock();
        let Some(user) = lists.users.get_mut(user_id) else {
            return;
        };
        for entry in &mut user.sessions {
            if entry.handle == *handle {
                entry.expires_at = entry.expires_at.max(expires_at);
            }
        }
    }

    pub(super) fn unlink(&self, user_id: &str, handles: &[Handle]) {
        let mut lists = self.lock();
        if let Some(user) = lists.users.get_mut(user_id) {
            user.sessions
                .retain(|entry| !handles.contains(&entry.handle));
            if user.is_empty() {
                lists.users.remove(user_id);
            }
        }
    }

    pub(super) fn list(&self, user_id: &str, now: i64) -> Vec<LinkedSession> {
        let lists = self.lock();
        let Some(user) = lists.users.get(user_id) else {
            return Vec::new();
        };
        let mut list: Vec<_> = user.live(now).map(Entry::to_linked).collect();
        list.sort_by_key(|entry| entry.linked_at);
        list
    }

    pub(super) fn mark_user(&self, user_id: &str, at: i64) {
        let mut lists = self.lock();
        lists.tidy_up(at);
        let user = lists.users.entry(user_id.into()).or_default();
        user.mark = user.mark.max(Some(at));
    }

    pub(super) fn mark_everyone(&self, at: i64) {
        let mut lists = self.lock();
        lists.everyones_mark = lists.everyones_mark.max(Some(at));
    }

    /// The next user after this one, with the handles of their sessions.
    pub(super) fn next(&self, after: Option<&str>) -> Option<(Arc<str>, Vec<Handle>)> {
        let lists = self.lock();
        let (user_id, user) = lists.after(after)?;
        let handles = user.sessions.iter().map(|entry| entry.handle).collect();
        Some((user_id.clone(), handles))
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lists {
    fn after(&self, user_id: Option<&str>) -> Option<(&Arc<str>, &User)> {
        let from = user_id.map_or(Bound::Unbounded, Bound::Excluded);
        self.users.range::<str, _>((from, Bound::Unbounded)).next()
    }

    /// Drops what is of no use any more of a few users, each in turn.
    fn tidy_up(&mut self, now: i64) {
        for _ in 0..TIDIED_PER_LINK {
            let next = self.after(self.tidied.as_deref());
            let Some(user_id) = next.map(|(user_id, _)| user_id.clone()) else {
                self.tidied = None;
                return;
            };
            if let Some(user) = self.users.get_mut(&user_id) {
                user.sessions.retain(|entry| entry.expires_at > now);
                let kept = millis(MARK_KEPT);
                user.mark = user.mark.filter(|mark| now < mark.saturating_add(kept));
                if user.is_empty() {
                    self.users.remove(&user_id);
                }
            }
            self.tidied = Some(user_id);
        }
    }
}

impl User {
    fn live(&self, now: i64) -> impl Iterator<Item = &Entry> {
        self.sessions
            .iter()
            .filter(move |entry| entry.expires_at > now)
    }

    fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.mark.is_none()
    }
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
