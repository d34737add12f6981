//! The sessions by user.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::to_unix_millis;
use crate::store::user_list::UserList;
use crate::store::{Handle, Link, Linked, LinkedSession};

/// The lists and marks of all users, under one lock: it is taken by logins and endings alone.
///
/// A tree, since a hash table that grows moves all that it holds in one call.
#[derive(Debug, Default)]
pub(super) struct Users(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    users: BTreeMap<Arc<str>, UserList>,
    everyones_mark: Option<i64>,
    /// The user who was tidied up last.
    tidied: Option<Arc<str>>,
}

/// How many users each link tidies up: more than the one that it may add.
const TIDIED_PER_LINK: usize = 2;

impl Users {
    pub(super) fn link(&self, user_id: &str, handle: &Handle, link: &Link) -> Linked {
        let mut lists = self.lock();
        lists.tidy_up(to_unix_millis(link.linked_at));
        let everyones_mark = lists.everyones_mark;
        lists.change(user_id, |user| user.link(handle, link, everyones_mark))
    }

    pub(super) fn extend(&self, user_id: &str, handle: &Handle, expires_at: i64) {
        let mut lists = self.lock();
        lists.change(user_id, |user| user.extend(handle, expires_at));
    }

    pub(super) fn unlink(&self, user_id: &str, handles: &[Handle]) {
        let mut lists = self.lock();
        lists.change(user_id, |user| user.unlink(handles));
    }

    pub(super) fn list(&self, user_id: &str, now: i64) -> Vec<LinkedSession> {
        let lists = self.lock();
        let user = lists.users.get(user_id);
        user.map(|user| user.list(now)).unwrap_or_default()
    }

    pub(super) fn mark_user(&self, user_id: &str, at: i64) {
        let mut lists = self.lock();
        lists.tidy_up(at);
        lists.change(user_id, |user| user.mark(at));
    }

    pub(super) fn mark_everyone(&self, at: i64) {
        let mut lists = self.lock();
        lists.everyones_mark = lists.everyones_mark.max(Some(at));
    }

    /// The next user after this one, with the handles of their sessions.
    pub(super) fn next(&self, after: Option<&str>) -> Option<(Arc<str>, Vec<Handle>)> {
        let lists = self.lock();
        let (user_id, user) = lists.after(after)?;
        Some((user_id.clone(), user.handles()))
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lists {
    fn after(&self, user_id: Option<&str>) -> Option<(&Arc<str>, &UserList)> {
        let from = user_id.map_or(Bound::Unbounded, Bound::Excluded);
        self.users.range::<str, _>((from, Bound::Unbounded)).next()
    }

    /// Changes the list of a user, who is kept only if there is something on it then.
    fn change<T>(&mut self, user_id: &str, change: impl FnOnce(&mut UserList) -> T) -> T {
        if let Some(user) = self.users.get_mut(user_id) {
            let result = change(user);
            if user.is_empty() {
                self.users.remove(user_id);
            }
            return result;
        }
        let mut user = UserList::default();
        let result = change(&mut user);
        if !user.is_empty() {
            self.users.insert(user_id.into(), user);
        }
        result
    }

    /// Drops what is of no use any more of a few users, each in turn.
    fn tidy_up(&mut self, now: i64) {
        for _ in 0..TIDIED_PER_LINK {
            let next = self.after(self.tidied.as_deref());
            let Some(user_id) = next.map(|(user_id, _)| user_id.clone()) else {
                self.tidied = None;
                return;
            };
            self.change(&user_id, |user| user.tidy_up(now));
            self.tidied = Some(user_id);
        }
    }
}
