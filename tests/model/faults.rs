//! Stores with a fault each, which the model has to find.
//!
//! They lie above the gate: what they do in several steps, others come in between.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use cloakroom::SessionStore;
use cloakroom::store::{
    DeletedSessions, Handle, Link, Linked, LinkedSession, OffsetDateTime, Outcome, Position,
    Record, SWEEP_GRACE, StoreError, StoreErrorKind, UserIndex, Version, Whose, async_trait,
};

use crate::gate::Gate;

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Creates the record if it is gone: a logout is undone.
    UpdateUpserts,
    /// Writes over whatever version is there.
    UpdateIgnoresTheVersion,
    /// Deletes the record and creates it anew, as some renew ids.
    UpdateDeletesAndCreates,
    /// Answers before it writes.
    UpdateIsLate,
    /// Names versions by a counter, so that a failed write is taken for another one that came after it.
    VersionsAreCounted,
    /// Writes the record that it found back, though it is gone by then.
    TouchRevives,
    /// Sets the expiry, be it earlier than it was by then.
    TouchLowers,
    /// Answers before it deletes.
    DeleteIsLate,
    /// Takes the session from its user's list first, and fails then.
    DeleteUnlinksFirst,
    /// Finds what has expired, and deletes it without looking again.
    SweepLooksFirst,
    /// Says that there is nothing where it failed to look.
    LoadTakesFailuresForAbsence,
    /// Takes what this node has seen last for the truth.
    LoadIsCached,
    /// Lets logins in that began before their user's sessions were ended.
    LinkIgnoresMarks,
    /// Looks at the user's list first, and adds to it then.
    LinkLooksFirst,
    /// Forgets the list of a user's sessions.
    LinkDoesNothing,
    /// Forgets that sessions were ended: a login that began before comes through.
    MarkDoesNothing,
    /// Ends the sessions of everyone by forgetting where they are.
    DeleteLinkedDoesNothing,
    /// Says that it is done where too few replicas have confirmed it.
    UnconfirmedIsDone,
}

use Fault::*;

/// The stores of one program that have this fault.
pub(crate) struct Faults {
    fault: Fault,
    shared: Arc<Mutex<Shared>>,
}

/// What the stores of all parties have in common.
#[derive(Default)]
struct Shared {
    created: BTreeSet<Handle>,
    /// What each of two nodes has seen last of a session.
    caches: [HashMap<Handle, Record>; 2],
}

struct Faulty {
    fault: Fault,
    shared: Arc<Mutex<Shared>>,
    gate: Gate,
    /// The version by which this party takes a count for its own write.
    tried: Mutex<HashMap<(Handle, Version), Version>>,
    /// The count of each version that it has loaded.
    counts: Mutex<HashMap<(Handle, Version), u64>>,
}

impl Faults {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            fault,
            shared: Arc::default(),
        }
    }

    pub(crate) fn around(&self, gate: Gate) -> Arc<dyn SessionStore> {
        Arc::new(Faulty {
            fault: self.fault,
            shared: self.shared.clone(),
            gate,
            tried: Mutex::default(),
            counts: Mutex::default(),
        })
    }
}

impl Faulty {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    fn node(&self) -> usize {
        self.gate.who % 2
    }

    /// The record as an engine has it that counts versions: what makes it the crate's again is at the end
    /// of the payload.
    fn counted(&self, handle: &Handle, record: &Record, before: u64) -> Record {
        let version = Version::from_u64(before + 1);
        let tried = (*handle, version);
        self.tried.lock().unwrap().insert(tried, record.version);
        let written = (*handle, record.version);
        self.counts.lock().unwrap().insert(written, before + 1);
        let payload = [&record.payload[..], &record.version.to_u64().to_be_bytes()].concat();
        Record {
            version,
            payload: payload.into(),
            ..record.clone()
        }
    }

    /// The record as the crate has it, and its count is noted. The same count is taken for the same write.
    fn uncounted(&self, handle: &Handle, record: &Record) -> Record {
        let (payload, nonce) = record
            .payload
            .split_last_chunk::<8>()
            .expect("it was put there");
        let written = Version::from_u64(u64::from_be_bytes(*nonce));
        let tried = self
            .tried
            .lock()
            .unwrap()
            .get(&(*handle, record.version))
            .copied();
        let version = tried.unwrap_or(written);
        self.counts
            .lock()
            .unwrap()
            .insert((*handle, version), record.version.to_u64());
        Record {
            version,
            payload: payload.into(),
            ..record.clone()
        }
    }

    fn count_of(&self, handle: &Handle, version: Version) -> u64 {
        let counts = self.counts.lock().unwrap();
        let tried = self.tried.lock().unwrap();
        let own = tried
            .iter()
            .find(|(key, own)| key.0 == *handle && **own == version);
        let own = own.map(|(key, _)| key.1.to_u64());
        counts
            .get(&(*handle, version))
            .copied()
            .or(own)
            .unwrap_or(0)
    }
}

fn done_anyhow<T>(answer: Result<T, StoreError>, done: T) -> Result<T, StoreError> {
    match answer {
        Err(error) if error.kind() == StoreErrorKind::Unconfirmed => Ok(done),
        answer => answer,
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Faulty").field(&self.fault).finish()
    }
}

#[async_trait]
impl SessionStore for Faulty {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        self.shared().created.insert(*handle);
        match self.fault {
            VersionsAreCounted => {
                let counted = self.counted(handle, record, 0);
                self.gate.create(handle, &counted).await
            }
            _ => self.gate.create(handle, record).await,
        }
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        if self.fault == LoadIsCached {
            let cached = self.shared().caches[self.node()].get(handle).cloned();
            if cached.is_some() {
                return Ok(cached);
            }
        }
        let loaded = match self.gate.load(handle).await {
            Err(_) if self.fault == LoadTakesFailuresForAbsence => return Ok(None),
            loaded => loaded?,
        };
        if let Some(record) = &loaded
            && self.fault == LoadIsCached
        {
            self.shared().caches[self.node()].insert(*handle, record.clone());
        }
        match self.fault {
            VersionsAreCounted => Ok(loaded.map(|record| self.uncounted(handle, &record))),
            _ => Ok(loaded),
        }
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.shared().caches[self.node()].remove(handle);
        match self.fault {
            UpdateUpserts => {
                let outcome = self.gate.update(handle, record, expected, now).await?;
                if outcome == Outcome::Missing {
                    self.gate.create(handle, record).await?;
                    return Ok(Outcome::Done);
                }
                Ok(outcome)
            }
            UpdateIgnoresTheVersion => {
                let Some(there) = self.gate.load(handle).await? else {
                    return Ok(Outcome::Missing);
                };
                self.gate.update(handle, record, there.version, now).await
            }
            UpdateDeletesAndCreates => {
                match self.gate.load(handle).await? {
                    Some(there) if there.version == expected => {}
                    Some(_) => return Ok(Outcome::Conflict),
                    None => return Ok(Outcome::Missing),
                }
                self.gate.delete(handle).await?;
                self.gate.create(handle, record).await?;
                Ok(Outcome::Done)
            }
            UpdateIsLate => {
                let (gate, handle, record) = (self.gate.clone(), *handle, record.clone());
                tokio::spawn(async move { gate.update(&handle, &record, expected, now).await });
                Ok(Outcome::Done)
            }
            VersionsAreCounted => {
                let before = self.count_of(handle, expected);
                let counted = self.counted(handle, record, before);
                let expected = Version::from_u64(before);
                let outcome = self.gate.update(handle, &counted, expected, now).await?;
                // What became of it is known: only where it is not, the count has to tell.
                let tried = (*handle, counted.version);
                self.tried.lock().unwrap().remove(&tried);
                Ok(outcome)
            }
            UnconfirmedIsDone => done_anyhow(
                self.gate.update(handle, record, expected, now).await,
                Outcome::Done,
            ),
            _ => self.gate.update(handle, record, expected, now).await,
        }
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let expected = match self.fault {
            VersionsAreCounted => Version::from_u64(self.count_of(handle, expected)),
            _ => expected,
        };
        if !matches!(self.fault, TouchRevives | TouchLowers) {
            return self.gate.touch(handle, expires_at, expected, now).await;
        }
        let Some(there) = self.gate.load(handle).await? else {
            return Ok(Outcome::Missing);
        };
        if there.version != expected {
            return Ok(Outcome::Conflict);
        }
        let expires_at = match self.fault {
            TouchRevives => expires_at.max(there.expires_at),
            _ => expires_at,
        };
        let touched = Record {
            expires_at,
            ..there
        };
        let outcome = self.gate.update(handle, &touched, expected, now).await?;
        if self.fault == TouchRevives && outcome == Outcome::Missing {
            self.gate.create(handle, &touched).await?;
        }
        Ok(outcome)
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        self.shared().caches[self.node()].remove(handle);
        match self.fault {
            DeleteIsLate => {
                let (gate, handle) = (self.gate.clone(), *handle);
                tokio::spawn(async move { gate.delete(&handle).await });
                Ok(true)
            }
            DeleteUnlinksFirst => {
                let record = self.gate.load(handle).await?;
                if let Some(user_id) = record.and_then(|record| record.user_id) {
                    self.gate.unlink(&user_id, handle).await?;
                }
                self.gate.delete(handle).await
            }
            UnconfirmedIsDone => done_anyhow(self.gate.delete(handle).await, true),
            _ => self.gate.delete(handle).await,
        }
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        if self.fault != SweepLooksFirst {
            return self.gate.delete_expired(now, limit).await;
        }
        let created = self.shared().created.clone();
        let mut dead = Vec::new();
        for handle in created {
            let record = self.gate.load(&handle).await?;
            dead.extend(
                record
                    .filter(|record| record.expires_at + SWEEP_GRACE <= now)
                    .map(|_| handle),
            );
        }
        for handle in &dead {
            self.gate.delete(handle).await?;
        }
        Ok(dead.len())
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        self.gate.user_index().map(|_| self as &dyn UserIndex)
    }
}

#[async_trait]
impl UserIndex for Faulty {
    async fn link(
        &self,
        user_id: &str,
        handle: &Handle,
        link: &Link,
    ) -> Result<Linked, StoreError> {
        match self.fault {
            LinkIgnoresMarks => {
                let refused_by_marks_from = link.linked_at + time::Duration::days(1);
                let link = Link {
                    refused_by_marks_from,
                    ..*link
                };
                self.gate.link(user_id, handle, &link).await
            }
            LinkLooksFirst => {
                let there = self.gate.list(user_id, link.linked_at).await?;
                let others = there.into_iter().filter(|other| other.handle != *handle);
                match link.judge(others) {
                    Err(others) => Ok(Linked::Full(others)),
                    Ok(others) => {
                        let link = Link {
                            limit: None,
                            ..*link
                        };
                        let linked = self.gate.link(user_id, handle, &link).await?;
                        match linked {
                            Linked::Done(_) => Ok(Linked::Done(others)),
                            refused => Ok(refused),
                        }
                    }
                }
            }
            LinkDoesNothing => Ok(Linked::Done(Vec::new())),
            _ => self.gate.link(user_id, handle, link).await,
        }
    }

    async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.gate.extend(user_id, handle, expires_at).await
    }

    async fn unlink(&self, user_id: &str, handle: &Handle) -> Result<(), StoreError> {
        self.gate.unlink(user_id, handle).await
    }

    async fn list(
        &self,
        user_id: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<LinkedSession>, StoreError> {
        self.gate.list(user_id, now).await
    }

    async fn mark(&self, whose: Whose<'_>, at: OffsetDateTime) -> Result<(), StoreError> {
        if self.fault == MarkDoesNothing {
            return Ok(());
        }
        self.gate.mark(whose, at).await
    }

    async fn delete_linked(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, StoreError> {
        if self.fault == DeleteLinkedDoesNothing {
            return Ok(DeletedSessions {
                deleted: 0,
                next: None,
            });
        }
        self.gate.delete_linked(after, limit).await
    }
}
