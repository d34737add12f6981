//! A store around another that tells the reference model of each call and its answer.
//!
//! It lies right below the crate, above whatever is wrong with a store. The lists of users pass by it: of
//! those the model judges by what they are for, which sessions end.

use std::fmt;
use std::sync::{Arc, Mutex};

use cloakroom::SessionStore;
use cloakroom::store::{Handle, Outcome, Record, StoreError, UserIndex, Version, async_trait};
use time::OffsetDateTime;

use crate::gate::Who;
use crate::reference::Reference;

pub(crate) struct Watch {
    pub(crate) who: Who,
    pub(crate) reference: Arc<Mutex<Reference>>,
    pub(crate) store: Arc<dyn SessionStore>,
}

impl Watch {
    fn tell<T>(&self, what: impl FnOnce(&mut Reference) -> T) -> T {
        what(&mut self.reference.lock().unwrap())
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.store).finish()
    }
}

#[async_trait]
impl SessionStore for Watch {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        self.tell(|reference| reference.create_begins(self.who, handle, record));
        let result = self.store.create(handle, record).await;
        self.tell(|reference| reference.create_ends(self.who, handle, &result));
        result
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        let load = self.tell(|reference| reference.load_begins(handle));
        let result = self.store.load(handle).await;
        match &result {
            Ok(loaded) => {
                self.tell(|reference| reference.load_ends(self.who, load, loaded.as_ref()));
            }
            Err(_) => self.tell(|reference| reference.load_fails(self.who)),
        }
        result
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.tell(|reference| reference.update_begins(self.who, handle, record, expected, now));
        let result = self.store.update(handle, record, expected, now).await;
        self.tell(|reference| reference.update_ends(self.who, handle, record.version, &result));
        result
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        self.tell(|reference| reference.touch_begins(self.who, handle, expires_at, expected, now));
        let result = self.store.touch(handle, expires_at, expected, now).await;
        self.tell(|reference| reference.touch_ends(handle, expected, now, &result));
        result
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        self.tell(|reference| reference.delete_begins(self.who, handle));
        let result = self.store.delete(handle).await;
        if let Ok(true) = result {
            self.tell(|reference| reference.delete_ends(self.who, handle));
        }
        result
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        self.store.delete_expired(now, limit).await
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        self.store.user_index()
    }
}
