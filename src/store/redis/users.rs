//! The sessions by user.
//!
//! A user's list and mark are one key, everyone's mark is another, and so are records: in a cluster they lie on
//! different servers, and no step takes two of them.
//!
//! A login is linked and its user noted *before* everyone's mark is looked at, and the link is taken back where
//! that refuses it. The other way round, a mark and an ending of all that is linked could come in between, and
//! miss it. So whichever comes first, the look or the mark, either the look finds the mark, or the ending, which
//! begins after the mark, finds the login.
//!
//! That users are noted is for the ending to find them. A `SCAN` would do without, but its promise to return what
//! was there all along holds for one process of one server: after a restart or a failover its cursors mean
//! nothing any more, and a slot that moves to a server which was scanned already is missed. Besides, it goes
//! through all sessions of all visitors.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use redis::{Cmd, RedisResult, ServerErrorKind, Value};
use time::OffsetDateTime;

use super::prefix::UserHash;
use super::replicas::{Answer, Way};
use super::script::StoredScript;
use super::{RedisStore, decimal, unexpected};
use crate::clock::{from_unix_millis, to_unix_millis};
use crate::store::{
    DeletedSessions, Handle, Link, Linked, LinkedSession, LoginProgress, MARK_KEPT, Position,
    SWEEP_GRACE, SessionLimit, StoreError, UserIndex, Whose, async_trait,
};
use crate::timeouts::millis;

const MARK: &[u8] = b"mark";

#[async_trait]
impl UserIndex for RedisStore {
    async fn link(
        &self,
        user_id: &str,
        handle: &Handle,
        link: &Link,
    ) -> Result<Linked, StoreError> {
        const DOING: &str = "list a login in Redis";
        let user = UserHash::of(user_id);
        let way = self.confirmed();
        let sent = || self.send_link(way, &user, handle, link);
        let [noted, linked, everyones_mark] = way.answer(DOING, sent).await?;
        let Value::Array(mut parts) = linked.value.clone() else {
            return Err(unexpected(DOING, &linked.value));
        };
        let before = parts
            .get_mut(2)
            .map(|before| std::mem::replace(before, Value::Nil));
        let others = parts.get(1).map_or_else(Vec::new, linked_sessions);
        match parts.first() {
            Some(Value::Int(0)) => Ok(Linked::Overtaken),
            Some(Value::Int(-1)) => Ok(Linked::Full(others)),
            Some(Value::Int(1)) => {
                let everyones_mark = match &everyones_mark.value {
                    Value::Nil => None,
                    mark => Some(score(mark).ok_or_else(|| unexpected(DOING, mark))?),
                };
                if everyones_mark >= Some(forgotten_at(link.refused_by_marks_from)) {
                    let before = before.unwrap_or(Value::Nil);
                    self.take_back(&user, handle, link, &before).await?;
                    return Ok(Linked::Overtaken);
                }
                noted.confirmed(DOING)?;
                linked.confirmed(DOING)?;
                Ok(Linked::Done(others))
            }
            _ => Err(unexpected(DOING, &linked.value)),
        }
    }

    async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        const DOING: &str = "list a session for longer in Redis";
        let user = UserHash::of(user_id);
        let way = self.confirmed();
        let expiry = positive(expires_at);
        let note = [user.0.to_vec(), decimal(expiry), decimal(0)];
        let entry = [handle.as_bytes().to_vec(), decimal(expiry)];
        // The user first: an entry that outlives its user's note is not found.
        let scripts = &self.user_scripts;
        let note_key = self.prefix.note_of(&user);
        let noting = || scripts.put.call(way, &note_key, &note);
        way.answer(DOING, noting).await?.confirmed(DOING)?;
        let key = self.prefix.user(&user);
        let extending = || scripts.extend.call(way, &key, &entry);
        way.answer(DOING, extending).await?.confirmed(DOING)
    }

    async fn unlink(&self, user_id: &str, handle: &Handle) -> Result<(), StoreError> {
        self.unlink_all(&UserHash::of(user_id), &[*handle]).await
    }

    async fn list(
        &self,
        user_id: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<LinkedSession>, StoreError> {
        let entries = self.entries(&UserHash::of(user_id)).await?;
        let now = to_unix_millis(now);
        let is_live = |session: &LinkedSession| {
            let expires_at = entries.expiries.get(&session.handle);
            expires_at.is_some_and(|expires_at| *expires_at > now)
        };
        Ok(entries.logins.into_iter().filter(is_live).collect())
    }

    async fn mark(&self, whose: Whose<'_>, at: OffsetDateTime) -> Result<(), StoreError> {
        const DOING: &str = "mark in Redis that sessions end";
        let key = match whose {
            Whose::User(user_id) => self.prefix.user(&UserHash::of(user_id)),
            Whose::Everyone => self.prefix.everyone(),
        };
        let arguments = [MARK.to_vec(), decimal(forgotten_at(at)), decimal(0)];
        let way = self.confirmed();
        let sent = || self.user_scripts.put.call(way, &key, &arguments);
        way.answer(DOING, sent).await?.confirmed(DOING)
    }

    async fn delete_linked(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, StoreError> {
        self.delete_linked_after(after, limit).await
    }
}

/// What is on a user's list.
pub(super) struct Entries {
    pub(super) expiries: HashMap<Handle, i64>,
    /// By their time.
    logins: Vec<LinkedSession>,
}

impl RedisStore {
    /// What the answers are to: noting the user, the link, and a look at everyone's mark.
    ///
    /// In one round trip to a single server, which runs them in this order; and in two to a cluster.
    async fn send_link(
        &self,
        way: Way<'_>,
        user: &UserHash,
        handle: &Handle,
        link: &Link,
    ) -> RedisResult<[Answer; 3]> {
        let (key, note_key) = (self.prefix.user(user), self.prefix.note_of(user));
        let arguments = link_arguments(handle, link);
        let expiry = decimal(positive(link.expires_at));
        let note = [user.0.to_vec(), expiry, decimal(dropped_until(link))];
        let (put, linking) = (&self.user_scripts.put, &self.user_scripts.link);
        if way.is_cluster() {
            let noting = put.call(way, &note_key, &note);
            let linking = linking.call(way, &key, &arguments);
            let (noted, linked) = both(noting, linking).await;
            let (noted, linked) = (noted?, linked?);
            let everyone = self.prefix.everyone();
            let looked = self.plain().send(&everyone, self.look_at_everyones_mark());
            return Ok([noted, linked, looked.await?]);
        }
        let commands = |form: fn(&StoredScript, &[u8], &[Vec<u8>]) -> Cmd| {
            vec![
                form(put, &note_key, &note),
                form(linking, &key, &arguments),
                self.look_at_everyones_mark(),
            ]
        };
        let mut answers = way.send_all(&key, commands(StoredScript::by_hash)).await?;
        if answers.iter().any(is_of_unknown_script) {
            answers = way.send_all(&key, commands(StoredScript::by_code)).await?;
        }
        let answers: Vec<_> = answers.into_iter().collect::<RedisResult<_>>()?;
        answers.try_into().map_err(|_| {
            redis::RedisError::from((
                redis::ErrorKind::UnexpectedReturnType,
                "another number of answers than of commands",
            ))
        })
    }

    /// Its score, if there is one. As a write that changes nothing, so that no replica answers it.
    fn look_at_everyones_mark(&self) -> Cmd {
        let mut command = redis::cmd("ZADD");
        command.arg(self.prefix.everyone());
        command.arg("XX").arg("INCR").arg(0).arg(MARK);
        command
    }

    async fn take_back(
        &self,
        user: &UserHash,
        handle: &Handle,
        link: &Link,
        before: &Value,
    ) -> Result<(), StoreError> {
        const DOING: &str = "take a refused login from a list in Redis";
        let mut arguments = vec![
            handle.as_bytes().to_vec(),
            login_member(handle, link.progress),
            decimal(positive(link.expires_at)),
            decimal(-positive(link.linked_at)),
        ];
        arguments.extend(
            before
                .as_sequence()
                .unwrap_or_default()
                .iter()
                .filter_map(bytes),
        );
        let way = self.plain();
        let key = self.prefix.user(user);
        let sent = || self.user_scripts.take_back.call(way, &key, &arguments);
        way.answer(DOING, sent).await.map(drop)
    }

    pub(super) async fn unlink_all(
        &self,
        user: &UserHash,
        handles: &[Handle],
    ) -> Result<(), StoreError> {
        const DOING: &str = "take a session from a list in Redis";
        let handles: Vec<_> = handles.iter().map(|one| one.as_bytes().to_vec()).collect();
        let way = self.plain();
        let key = self.prefix.user(user);
        let sent = || self.user_scripts.unlink.call(way, &key, &handles);
        way.answer(DOING, sent).await.map(drop)
    }

    pub(super) async fn entries(&self, user: &UserHash) -> Result<Entries, StoreError> {
        const DOING: &str = "list the sessions of a user in Redis";
        let all = [b"-inf".to_vec(), decimal(0), decimal(-1)];
        let key = self.prefix.user(user);
        let list = self.read(DOING, &key, &all).await?;
        let expiries = members(&list)
            .filter_map(|(member, score)| {
                Some((Handle::from_bytes(member.try_into().ok()?), score))
            })
            .collect();
        let mut logins = linked_sessions(&list);
        logins.sort_by_key(|session| session.linked_at);
        Ok(Entries { expiries, logins })
    }

    /// A sorted set, or a part of it: members, each with its score behind it.
    pub(super) async fn read(
        &self,
        doing: &'static str,
        key: &[u8],
        which: &[Vec<u8>],
    ) -> Result<Value, StoreError> {
        let way = self.plain();
        let sent = || self.user_scripts.read.call(way, key, which);
        match way.answer(doing, sent).await?.value {
            list @ Value::Array(_) => Ok(list),
            value => Err(unexpected(doing, &value)),
        }
    }
}

fn link_arguments(handle: &Handle, link: &Link) -> Vec<Vec<u8>> {
    let (limit, most) = match (link.limit, link.progress) {
        (Some(SessionLimit::EndOldest(most)), LoginProgress::Complete) => ("oldest", most),
        (Some(SessionLimit::RefuseLogin(most)), LoginProgress::Complete) => ("refuse", most),
        _ => ("", 0),
    };
    vec![
        handle.as_bytes().to_vec(),
        decimal(positive(link.linked_at)),
        decimal(positive(link.expires_at)),
        decimal(forgotten_at(link.refused_by_marks_from)),
        login_member(handle, link.progress)[..1].to_vec(),
        decimal(dropped_until(link)),
        limit.into(),
        most.to_string().into_bytes(),
    ]
}

/// The member that says when the login was.
fn login_member(handle: &Handle, progress: LoginProgress) -> Vec<u8> {
    let kind = match progress {
        LoginProgress::Complete => b"c",
        LoginProgress::Pending => b"p",
    };
    [kind.as_slice(), handle.as_bytes()].concat()
}

/// The logins among these members, in the order in which they stand there.
fn linked_sessions(list: &Value) -> Vec<LinkedSession> {
    let login = |(member, score): (Vec<u8>, i64)| {
        let (kind, handle) = member.split_first()?;
        Some(LinkedSession {
            handle: Handle::from_bytes(handle.try_into().ok()?),
            linked_at: from_unix_millis(-score),
            progress: match kind {
                b'c' => LoginProgress::Complete,
                b'p' => LoginProgress::Pending,
                _ => return None,
            },
        })
    };
    members(list).filter_map(login).collect()
}

/// The members of a sorted set, with their scores.
pub(super) fn members(list: &Value) -> impl Iterator<Item = (Vec<u8>, i64)> {
    let list = list.as_sequence().unwrap_or_default();
    list.chunks_exact(2)
        .filter_map(|pair| Some((bytes(&pair[0])?, score(&pair[1])?)))
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

fn score(value: &Value) -> Option<i64> {
    match value {
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        // As newer protocols have it; milliseconds are exact in it.
        Value::Double(score) => Some(*score as i64),
        _ => None,
    }
}

/// The score of a time: those before 1970 would be taken for something else.
fn positive(time: OffsetDateTime) -> i64 {
    to_unix_millis(time).max(1)
}

/// The score of a mark at this time.
fn forgotten_at(mark: OffsetDateTime) -> i64 {
    to_unix_millis(mark)
        .saturating_add(millis(MARK_KEPT))
        .max(1)
}

/// Up to which expiry entries are dropped: they are spared for as long as their records are.
fn dropped_until(link: &Link) -> i64 {
    to_unix_millis(link.linked_at).saturating_sub(millis(SWEEP_GRACE))
}

fn is_of_unknown_script(answer: &RedisResult<Answer>) -> bool {
    let kind = answer.as_ref().err().map(redis::RedisError::kind);
    kind == Some(ServerErrorKind::NoScript.into())
}

/// Waits for both at once.
async fn both<A, B>(one: impl Future<Output = A>, two: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut two) = (pin!(one), pin!(two));
    let (mut first, mut second) = (None, None);
    poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(output) = one.as_mut().poll(context)
        {
            first = Some(output);
        }
        if second.is_none()
            && let Poll::Ready(output) = two.as_mut().poll(context)
        {
            second = Some(output);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (one, two) => {
                (first, second) = (one, two);
                Poll::Pending
            }
        }
    })
    .await
}
