//! The store calls of a layer: each ends in time, and each failure is reported once, here.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::Sleep;

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
    pub(crate) fn load<'a>(&'a self, handle: &'a Handle) -> Call<'a, Option<Record>> {
        self.call("load", Some(handle), self.store.load(handle))
    }

    pub(crate) fn create<'a>(&'a self, handle: &'a Handle, record: &'a Record) -> Call<'a, ()> {
        self.call("create", Some(handle), self.store.create(handle, record))
    }

    pub(crate) fn update<'a>(
        &'a self,
        handle: &'a Handle,
        record: &'a Record,
        expected: Version,
        now: i64,
    ) -> Call<'a, Outcome> {
        let now = from_unix_millis(now);
        let update = self.store.update(handle, record, expected, now);
        self.call("update", Some(handle), update)
    }

    pub(crate) fn touch<'a>(
        &'a self,
        handle: &'a Handle,
        expires_at: i64,
        expected: Version,
        now: i64,
    ) -> Call<'a, Outcome> {
        let (expires_at, now) = (from_unix_millis(expires_at), from_unix_millis(now));
        let touch = self.store.touch(handle, expires_at, expected, now);
        self.call("touch", Some(handle), touch)
    }

    pub(crate) fn delete<'a>(&'a self, handle: &'a Handle) -> Call<'a, bool> {
        self.call("delete", Some(handle), self.store.delete(handle))
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

    fn call<'a, T>(
        &'a self,
        operation: &'static str,
        handle: Option<&'a Handle>,
        call: StoreCall<'a, T>,
    ) -> Call<'a, T> {
        Call {
            settings: self,
            operation,
            handle,
            call: Some(call),
            timer: Timer::start(),
            deadline: None,
        }
    }
}

/// A call of the store, as its trait has it.
type StoreCall<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A call of the store, which ends in the time that the layer allows, and tells of its failure once it is over.
///
/// No `async` block, which would take several times the room, in the future of every handler.
#[must_use = "the store is not called unless this is awaited"]
pub(crate) struct Call<'a, T> {
    settings: &'a Settings,
    operation: &'static str,
    handle: Option<&'a Handle>,
    /// Until it is over.
    call: Option<StoreCall<'a, T>>,
    timer: Timer,
    /// Made once the call has to be waited for: a store in memory is ready at once. It takes nothing of the task's
    /// budget, or else a store that leaves none of that could not be given up.
    deadline: Option<Pin<Box<Unconstrained<Sleep>>>>,
}

impl<T> Future for Call<'_, T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(call) = &mut self.call else {
            // Polled after it was ready: there is nothing to come.
            return Poll::Pending;
        };
        let result = match call.as_mut().poll(context) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ready!(self.poll_late(context))),
        };
        // First: what it holds, such as a connection, is free again when somebody is told.
        self.call = None;
        self.tell(&result);
        Poll::Ready(result)
    }
}

impl<T> Call<'_, T> {
    /// Ready when the call has taken too long. It is given up then.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<StoreError> {
        let limit = self.settings.store_timeout;
        let sleep = || Box::pin(unconstrained(tokio::time::sleep(limit)));
        let deadline = self.deadline.get_or_insert_with(sleep);
        deadline.as_mut().poll(context).map(|()| {
            StoreError::timed_out(format!(
                "no answer to `{}` within {limit:?} (SessionLayerBuilder::store_timeout)",
                self.operation
            ))
        })
    }

    fn tell(&self, result: &Result<T, StoreError>) {
        self.timer.stop(self.operation, result);
        if let Err(error) = result {
            // Such a record is reported with what becomes of it.
            if self.operation != "load" || error.kind() != StoreErrorKind::Undecodable {
                let subject = self.handle.map(Subject::from);
                let events = &self.settings.events;
                events.store_failed(self.operation, subject.as_ref(), error);
            }
        }
    }
}
