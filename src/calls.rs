//! The store calls of a layer: each ends in time, and each failure is reported once, here.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use crate::clock::from_unix_millis;
use crate::events;
use crate::id::Handle;
use crate::settings::Settings;
use crate::store::{Outcome, Record, StoreError, StoreErrorKind, Version};

impl Settings {
    pub(crate) async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        self.call("load", handle, self.store.load(handle)).await
    }

    pub(crate) async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        self.call("create", handle, self.store.create(handle, record))
            .await
    }

    pub(crate) async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: i64,
    ) -> Result<Outcome, StoreError> {
        let now = from_unix_millis(now);
        let update = self.store.update(handle, record, expected, now);
        self.call("update", handle, update).await
    }

    pub(crate) async fn touch(
        &self,
        handle: &Handle,
        expires_at: i64,
        expected: Version,
        now: i64,
    ) -> Result<Outcome, StoreError> {
        let (expires_at, now) = (from_unix_millis(expires_at), from_unix_millis(now));
        let touch = self.store.touch(handle, expires_at, expected, now);
        self.call("touch", handle, touch).await
    }

    pub(crate) async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        self.call("delete", handle, self.store.delete(handle)).await
    }

    /// Waits for a store call for as long as the layer allows.
    async fn call<T>(
        &self,
        operation: &'static str,
        handle: &Handle,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut call = pin!(call);
        // A store in memory is ready at once, and needs no timer.
        let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        let result = match first {
            Poll::Ready(result) => result,
            Poll::Pending => match tokio::time::timeout(self.store_timeout, call).await {
                Ok(result) => result,
                Err(_) => Err(StoreError::timed_out(format!(
                    "no answer to `{operation}` within {:?} (SessionLayerBuilder::store_timeout)",
                    self.store_timeout
                ))),
            },
        };
        if let Err(error) = &result {
            // Such a record is reported with what becomes of it.
            if operation != "load" || error.kind() != StoreErrorKind::Undecodable {
                events::store_failed(operation, Some(handle), error);
            }
        }
        result
    }
}
