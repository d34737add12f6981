//! The store calls of a layer: each ends in time, and each failure is reported once, here.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use crate::clock::from_unix_millis;
use crate::error::Error;
use crate::events::Subject;
use crate::events::metrics::Timer;
use crate::id::Handle;
use crate::settings::Settings;
use crate::store::{
    DeletedSessions, Link, Linked, LinkedSession, OffsetDateTime, Outcome, Position, Record,
    StoreError, StoreErrorKind, UserIndex, Version, Whose,
};

impl Settings {
    pub(crate) async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        self.call("load", Some(handle), self.store.load(handle))
            .await
    }

    pub(crate) async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        self.call("create", Some(handle), self.store.create(handle, record))
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
        self.call("update", Some(handle), update).await
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
        self.call("touch", Some(handle), touch).await
    }

    pub(crate) async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        self.call("delete", Some(handle), self.store.delete(handle))
            .await
    }

    /// Puts a session on the list of its user; in a store without lists it is done with that.
    pub(crate) async fn link(
        &self,
        user_id: &str,
        handle: &Handle,
        link: &Link,
    ) -> Result<Linked, Error> {
        let Some(index) = self.store.user_index() else {
            return Ok(Linked::Done(Vec::new()));
        };
        let link = index.link(user_id, handle, link);
        let linked = self.call("link", Some(handle), link).await;
        linked.map_err(|error| Error::store("the login could not be listed", error))
    }

    /// Has the entry of a session stay on the list until then.
    pub(crate) async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> Result<(), Error> {
        let Some(index) = self.store.user_index() else {
            return Ok(());
        };
        let extend = index.extend(user_id, handle, expires_at);
        let extended = self.call("extend", Some(handle), extend).await;
        extended.map_err(|error| Error::store("the session could not be listed for longer", error))
    }

    /// Takes a session that has ended from the list of its user. What stays there is passed over, so a
    /// failure is told to the operator alone.
    pub(crate) async fn unlink(&self, user_id: &str, handle: &Handle) {
        if let Some(index) = self.store.user_index() {
            let unlink = index.unlink(user_id, handle);
            // It was reported, and whoever ended the session has done so.
            let _reported = self.call("unlink", Some(handle), unlink).await;
        }
    }

    pub(crate) async fn list(&self, user_id: &str, now: i64) -> Result<Vec<LinkedSession>, Error> {
        let list = self.index()?.list(user_id, from_unix_millis(now));
        let listed = self.call("list", None, list).await;
        listed.map_err(|error| Error::store("the sessions of the user could not be listed", error))
    }

    pub(crate) async fn mark(&self, whose: Whose<'_>, at: i64) -> Result<(), Error> {
        let mark = self.index()?.mark(whose, from_unix_millis(at));
        let marked = self.call("mark", None, mark).await;
        marked.map_err(|error| Error::store("the sessions could not be ended", error))
    }

    pub(crate) async fn delete_linked(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, Error> {
        let delete = self.index()?.delete_linked(after, limit);
        let deleted = self.call("delete_linked", None, delete).await;
        deleted.map_err(|error| Error::store("not all sessions could be ended", error))
    }

    fn index(&self) -> Result<&dyn UserIndex, Error> {
        self.store.user_index().ok_or_else(Error::no_user_index)
    }

    /// Waits for a store call, and tells of its failure once it is over.
    async fn call<T>(
        &self,
        operation: &'static str,
        handle: Option<&Handle>,
        mut call: StoreCall<'_, T>,
    ) -> Result<T, StoreError> {
        let timer = Timer::start();
        // A store in memory is ready at once, and needs no timer.
        let result = match poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
            Poll::Ready(result) => result,
            // Boxed, so that a handler's future has no room for a timer.
            Poll::Pending => Box::pin(self.in_time(operation, call)).await,
        };
        timer.stop(operation, &result);
        if let Err(error) = &result {
            // Such a record is reported with what becomes of it.
            if operation != "load" || error.kind() != StoreErrorKind::Undecodable {
                let subject = handle.map(Subject::from);
                self.events.store_failed(operation, subject.as_ref(), error);
            }
        }
        result
    }

    /// Waits for a store call, which is not ready yet, for as long as the layer allows. One that takes longer
    /// is dropped.
    async fn in_time<T>(
        &self,
        operation: &'static str,
        mut call: StoreCall<'_, T>,
    ) -> Result<T, StoreError> {
        let mut deadline = pin!(tokio::time::sleep(self.store_timeout));
        // It was polled right before, so that it can have nothing new to say.
        let mut is_new = true;
        poll_fn(|context| {
            if !is_new && let Poll::Ready(result) = call.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            is_new = false;
            deadline.as_mut().poll(context).map(|()| {
                Err(StoreError::timed_out(format!(
                    "no answer to `{operation}` within {:?} (SessionLayerBuilder::store_timeout)",
                    self.store_timeout
                )))
            })
        })
        .await
    }
}

/// A call of the store, as its trait has it.
type StoreCall<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;
