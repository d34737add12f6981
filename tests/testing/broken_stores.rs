//! Stores that each break the contract in one way.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use cloakroom::clock::{from_unix_millis, to_unix_millis};
use cloakroom::store::{
    Handle, Outcome, Record, SWEEP_GRACE, SessionStore, StoreError, UserIndex, Version, async_trait,
};
use time::OffsetDateTime;
use tokio::task::yield_now;

use crate::reference_store::{ReferenceStore, dead};

const MILLISECOND: Duration = Duration::from_millis(1);

/// What is wrong with a [`BrokenStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    LoadInventsARecord,
    VersionsAreFloats,
    VersionsAreSigned,
    EmptyUserIdIsNone,
    UserIdIsTrimmed,
    PayloadIsText,
    PayloadIsCutAt64KiBLessOne,
    TimesAreSeconds,
    HandlesLackABit,
    CreateOverwrites,
    CreateOverwritesTheExpired,
    CreateLooksFirst,
    CreateInTwoSteps,
    LoadBreaksOffWithTheLock,
    UpdateUpserts,
    UpdateIgnoresTheVersion,
    UpdateKeepsTheUser,
    UpdateKeepsTheCreation,
    UpdateNeverLowersTheExpiry,
    UpdateIgnoresTheExpiry,
    UpdateIsAMillisecondLate,
    UpdateIsAMillisecondEarly,
    UpdateComparesVersionsFirst,
    UpdateHasItsOwnClock,
    UpdateLooksFirst,
    UpdateInTwoSteps,
    UpdateDeletesAndInserts,
    TouchCreates,
    TouchIgnoresTheVersion,
    TouchLowers,
    TouchChangesTheVersion,
    TouchLosesTheUser,
    TouchDoesNothing,
    TouchIgnoresTheExpiry,
    TouchIsAMillisecondLate,
    TouchIsAMillisecondEarly,
    TouchComparesVersionsFirst,
    TouchHasItsOwnClock,
    TouchLooksFirst,
    TouchDeletesAndInserts,
    DeleteSaysTrue,
    DeleteSaysFalse,
    DeleteFailsWhereNothingIs,
    DeleteSparesTheExpired,
    DeleteKeepsTheHandle,
    DeleteLooksFirst,
    DeleteInTwoSteps,
    SweepTakesAll,
    SweepIgnoresTheGrace,
    SweepIsAMillisecondEarly,
    SweepIsAMillisecondLate,
    SweepDoesNothing,
    SweepOnlyCounts,
    SweepMiscounts,
    SweepIgnoresItsLimit,
    SweepStopsShortOfItsLimit,
    SweepTakesALimitOfZeroForNone,
    SweepFailsOnALargeLimit,
    SweepGoesByTheFirstExpiry,
    SweepLooksFirst,
    SweepInTwoSteps,
}

use Fault::*;

/// A [`ReferenceStore`] with one fault.
#[derive(Debug)]
pub(crate) struct BrokenStore {
    fault: Fault,
    right: ReferenceStore,
    first_expiries: Mutex<HashMap<Handle, OffsetDateTime>>,
    deleted: Mutex<Vec<Handle>>,
    engine: tokio::sync::Semaphore,
}

impl BrokenStore {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            fault,
            right: ReferenceStore::default(),
            first_expiries: Mutex::default(),
            deleted: Mutex::default(),
            engine: tokio::sync::Semaphore::new(1),
        }
    }

    fn records(&self) -> MutexGuard<'_, HashMap<Handle, Record>> {
        self.right.records.lock().unwrap()
    }

    fn get(&self, handle: &Handle) -> Option<Record> {
        self.records().get(handle).cloned()
    }

    fn put(&self, handle: &Handle, record: Record) {
        self.records().insert(*handle, record);
    }

    fn key(&self, handle: &Handle) -> Handle {
        let mut bytes = *handle.as_bytes();
        if self.fault == HandlesLackABit {
            bytes[9] &= 0x7F;
        }
        Handle::from_bytes(bytes)
    }

    /// The record as columns of the wrong type keep it.
    fn squeezed(&self, record: &Record) -> Record {
        let mut record = record.clone();
        match self.fault {
            VersionsAreFloats => {
                record.version = Version::from_u64(record.version.to_u64() as f64 as u64);
            }
            VersionsAreSigned => {
                let version = record.version.to_u64().min(i64::MAX as u64);
                record.version = Version::from_u64(version);
            }
            EmptyUserIdIsNone => record.user_id = record.user_id.filter(|id| !id.is_empty()),
            UserIdIsTrimmed => record.user_id = record.user_id.map(|id| id.trim().into()),
            PayloadIsText => {
                let text = String::from_utf8_lossy(&record.payload);
                record.payload = text.as_bytes().into();
            }
            PayloadIsCutAt64KiBLessOne => {
                let length = record.payload.len().min(64 * 1024 - 1);
                record.payload = record.payload[..length].into();
            }
            TimesAreSeconds => {
                let seconds = |time| from_unix_millis(to_unix_millis(time) / 1_000 * 1_000);
                record.created_at = seconds(record.created_at);
                record.expires_at = seconds(record.expires_at);
            }
            _ => {}
        }
        record
    }

    /// The outcome of comparing the stored record, by the rules or nearly so.
    fn compare(&self, stored: Option<&Record>, expected: Version, now: OffsetDateTime) -> Outcome {
        let now = match self.fault {
            UpdateIgnoresTheExpiry | TouchIgnoresTheExpiry => OffsetDateTime::UNIX_EPOCH,
            UpdateIsAMillisecondLate | TouchIsAMillisecondLate => now - MILLISECOND,
            UpdateIsAMillisecondEarly | TouchIsAMillisecondEarly => now + MILLISECOND,
            UpdateHasItsOwnClock | TouchHasItsOwnClock => OffsetDateTime::now_utc(),
            _ => now,
        };
        let versions_first = matches!(
            self.fault,
            UpdateComparesVersionsFirst | TouchComparesVersionsFirst
        );
        let versions_matter =
            !matches!(self.fault, UpdateIgnoresTheVersion | TouchIgnoresTheVersion);
        let expected = match self.fault {
            VersionsAreFloats => Version::from_u64(expected.to_u64() as f64 as u64),
            VersionsAreSigned => Version::from_u64(expected.to_u64().min(i64::MAX as u64)),
            _ => expected,
        };
        let conflict = |stored: &Record| versions_matter && stored.version != expected;
        match stored {
            None => Outcome::Missing,
            Some(stored) if versions_first && conflict(stored) => Outcome::Conflict,
            Some(stored) if stored.expires_at <= now => Outcome::Missing,
            Some(stored) if conflict(stored) => Outcome::Conflict,
            Some(_) => Outcome::Done,
        }
    }

    fn is_about(&self, operation: &str) -> bool {
        let name = format!("{:?}", self.fault);
        name.starts_with(operation) || name.starts_with("Version")
    }
}

fn expired(record: &Record) -> bool {
    record.expires_at <= OffsetDateTime::now_utc()
}

#[async_trait]
impl SessionStore for BrokenStore {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        let handle = &self.key(handle);
        let record = &self.squeezed(record);
        match self.fault {
            CreateOverwrites => {
                self.put(handle, record.clone());
                Ok(())
            }
            CreateOverwritesTheExpired => {
                if self.get(handle).is_some_and(|stored| expired(&stored)) {
                    self.records().remove(handle);
                }
                self.right.create(handle, record).await
            }
            CreateLooksFirst => {
                if self.get(handle).is_some() {
                    return Err(StoreError::handle_in_use());
                }
                yield_now().await;
                self.put(handle, record.clone());
                Ok(())
            }
            CreateInTwoSteps => {
                let empty = Record {
                    payload: [][..].into(),
                    ..record.clone()
                };
                self.right.create(handle, &empty).await?;
                yield_now().await;
                self.put(handle, record.clone());
                Ok(())
            }
            DeleteKeepsTheHandle if self.deleted.lock().unwrap().contains(handle) => {
                Err(StoreError::handle_in_use())
            }
            _ => {
                let first = (*handle, record.expires_at);
                self.first_expiries.lock().unwrap().extend([first]);
                self.right.create(handle, record).await
            }
        }
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        let handle = &self.key(handle);
        match self.fault {
            LoadInventsARecord => Ok(Some(self.get(handle).unwrap_or(Record {
                version: Version::from_u64(0),
                created_at: OffsetDateTime::UNIX_EPOCH,
                expires_at: OffsetDateTime::UNIX_EPOCH,
                user_id: None,
                payload: [][..].into(),
            }))),
            LoadBreaksOffWithTheLock => {
                self.engine.acquire().await.unwrap().forget();
                yield_now().await;
                self.engine.add_permits(1);
                self.right.load(handle).await
            }
            _ => self.right.load(handle).await,
        }
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let handle = &self.key(handle);
        let mut record = self.squeezed(record);
        if self.fault == UpdateUpserts && self.get(handle).is_none() {
            self.put(handle, record);
            return Ok(Outcome::Done);
        }
        if !self.is_about("Update") {
            return self.right.update(handle, &record, expected, now).await;
        }
        if self.fault == UpdateLooksFirst {
            let outcome = self.compare(self.get(handle).as_ref(), expected, now);
            yield_now().await;
            if outcome == Outcome::Done {
                self.put(handle, record);
            }
            return Ok(outcome);
        }

        let outcome = {
            let mut records = self.records();
            let outcome = self.compare(records.get(handle), expected, now);
            if outcome != Outcome::Done {
                return Ok(outcome);
            }
            let stored = records[handle].clone();
            match self.fault {
                UpdateKeepsTheUser => record.user_id = record.user_id.or(stored.user_id),
                UpdateKeepsTheCreation => record.created_at = stored.created_at,
                UpdateNeverLowersTheExpiry => {
                    record.expires_at = record.expires_at.max(stored.expires_at);
                }
                _ => {}
            }
            match self.fault {
                UpdateInTwoSteps => {
                    let payload = stored.payload;
                    records.insert(
                        *handle,
                        Record {
                            payload,
                            ..record.clone()
                        },
                    );
                }
                UpdateDeletesAndInserts => {
                    records.remove(handle);
                }
                _ => {
                    records.insert(*handle, record.clone());
                }
            }
            outcome
        };
        if matches!(self.fault, UpdateInTwoSteps | UpdateDeletesAndInserts) {
            yield_now().await;
            self.put(handle, record);
        }
        Ok(outcome)
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let handle = &self.key(handle);
        if self.fault == TouchCreates && self.get(handle).is_none() {
            let record = Record {
                version: expected,
                created_at: now,
                expires_at,
                user_id: None,
                payload: [][..].into(),
            };
            self.put(handle, record);
            return Ok(Outcome::Done);
        }
        if !self.is_about("Touch") {
            return self.right.touch(handle, expires_at, expected, now).await;
        }
        let stored = self.get(handle);
        let outcome = self.compare(stored.as_ref(), expected, now);
        let (Outcome::Done, Some(mut record)) = (outcome, stored) else {
            return Ok(outcome);
        };
        let latest = record.expires_at.max(expires_at);
        match self.fault {
            TouchLowers => record.expires_at = expires_at,
            TouchDoesNothing => {}
            _ => record.expires_at = latest,
        }
        match self.fault {
            TouchChangesTheVersion => {
                let version = record.version.to_u64().wrapping_add(1);
                record.version = Version::from_u64(version);
            }
            TouchLosesTheUser => record.user_id = None,
            TouchLooksFirst => yield_now().await,
            TouchDeletesAndInserts => {
                self.records().remove(handle);
                yield_now().await;
            }
            _ => {}
        }
        self.put(handle, record);
        Ok(outcome)
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        let handle = &self.key(handle);
        let stored = self.get(handle);
        match self.fault {
            DeleteSparesTheExpired if stored.as_ref().is_some_and(expired) => return Ok(false),
            DeleteKeepsTheHandle => self.deleted.lock().unwrap().push(*handle),
            DeleteLooksFirst => {
                yield_now().await;
                self.records().remove(handle);
                return Ok(stored.is_some());
            }
            DeleteInTwoSteps => {
                if let Some(record) = stored {
                    let empty = Record {
                        user_id: None,
                        payload: [][..].into(),
                        ..record
                    };
                    self.put(handle, empty);
                    yield_now().await;
                }
            }
            _ => {}
        }
        let found = self.right.delete(handle).await?;
        match self.fault {
            DeleteSaysTrue => Ok(true),
            DeleteSaysFalse => Ok(false),
            DeleteFailsWhereNothingIs if !found => {
                Err(StoreError::unavailable("there is nothing", "to delete"))
            }
            _ => Ok(found),
        }
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        if !self.is_about("Sweep") {
            return self.right.delete_expired(now, limit).await;
        }
        let grace = match self.fault {
            SweepIgnoresTheGrace => Duration::ZERO,
            SweepIsAMillisecondEarly => SWEEP_GRACE - MILLISECOND,
            SweepIsAMillisecondLate => SWEEP_GRACE + MILLISECOND,
            _ => SWEEP_GRACE,
        };
        let allowed = match self.fault {
            SweepIgnoresItsLimit => usize::MAX,
            SweepStopsShortOfItsLimit => limit.min(2),
            SweepTakesALimitOfZeroForNone if limit == 0 => usize::MAX,
            _ => limit,
        };
        if self.fault == SweepFailsOnALargeLimit && i64::try_from(limit).is_err() {
            return Err(StoreError::unavailable("cannot sweep", "a negative limit"));
        }
        let found = {
            let records = self.records();
            match self.fault {
                SweepTakesAll => records.keys().copied().collect(),
                SweepDoesNothing => Vec::new(),
                SweepGoesByTheFirstExpiry => {
                    let first_expiries = self.first_expiries.lock().unwrap();
                    let is_dead = |handle: &&Handle| first_expiries[*handle] + grace <= now;
                    records.keys().filter(is_dead).copied().collect()
                }
                _ => dead(&records, now, grace, allowed),
            }
        };
        if self.fault == SweepOnlyCounts {
            return Ok(found.len());
        }
        if self.fault == SweepLooksFirst {
            yield_now().await;
        }
        let mut deleted = 0;
        for handle in &found {
            if self.fault == SweepInTwoSteps {
                let record = self.get(handle);
                if let Some(record) = record {
                    let payload = [][..].into();
                    self.put(handle, Record { payload, ..record });
                    yield_now().await;
                }
            }
            deleted += usize::from(self.records().remove(handle).is_some());
        }
        match self.fault {
            SweepMiscounts => Ok(deleted.saturating_sub(1)),
            // So that the count itself does not give it away.
            SweepIgnoresItsLimit => Ok(deleted.min(limit)),
            _ => Ok(deleted),
        }
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        None
    }
}
