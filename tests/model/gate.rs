//! A store in which every call waits before and after its effect, until the driver says what becomes of it.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cloakroom::SessionStore;
use cloakroom::store::{
    DeletedSessions, Handle, Link, Linked, LinkedSession, Outcome, Position, Record, StoreError,
    UserIndex, Version, Whose, async_trait,
};
use time::OffsetDateTime;
use tokio::sync::oneshot;

use crate::program::Fate;
use crate::reference::Reference;

/// A call that takes effect later than its caller knows of waits as a party of its own.
const LATE: Who = 1_000;
/// So does the second task of a request, between its steps.
pub(crate) const SECOND: Who = 1_000_000;

/// Who calls the store: a request, an operator or a sweep, by the number in which they began.
pub(crate) type Who = usize;

/// The store calls that wait.
#[derive(Clone, Default)]
pub(crate) struct Board {
    waiting: Arc<Mutex<Vec<Waiting>>>,
    arrivals: Arc<AtomicUsize>,
    inside: Arc<AtomicUsize>,
}

/// A call that was let into the store, until it is out again or dropped.
struct Inside(Arc<AtomicUsize>);

struct Waiting {
    who: Who,
    arrival: usize,
    what: String,
    release: oneshot::Sender<(Fate, Inside)>,
}

impl Board {
    /// Those who have a call that waits, in the order in which they began. Not in the order of arrival:
    /// that depends on how long a commit chose to wait before it tried again.
    pub(crate) fn waiting(&self) -> Vec<Who> {
        let mut waiting = self.waiting.lock().unwrap();
        waiting.retain(|call| !call.release.is_closed());
        waiting.sort_by_key(|call| (call.who, call.arrival));
        waiting.iter().map(|call| call.who).collect()
    }

    /// Lets the first waiting call of this party go its way, and says which it was.
    pub(crate) fn release(&self, who: Who, fate: Fate) -> String {
        let _sorted = self.waiting();
        let mut waiting = self.waiting.lock().unwrap();
        let Some(index) = waiting.iter().position(|call| call.who == who) else {
            return "nothing".to_owned();
        };
        let call = waiting.remove(index);
        // Whoever waited may have been dropped: then there is nobody to tell.
        let _gone = call.release.send((fate, Inside::new(&self.inside)));
        call.what
    }

    /// Whether the store works on a call. One in memory never does for long, others go on by themselves.
    pub(crate) fn is_busy(&self) -> bool {
        self.inside.load(Ordering::Relaxed) > 0
    }

    /// Waits until the program says that a task of a request goes on.
    pub(crate) async fn turn(&self, who: Who) {
        self.wait(who, "the next step".to_owned()).await;
    }

    async fn wait(&self, who: Who, what: String) -> (Fate, Option<Inside>) {
        let (release, released) = oneshot::channel();
        self.waiting.lock().unwrap().push(Waiting {
            who,
            arrival: self.arrivals.fetch_add(1, Ordering::Relaxed),
            what,
            release,
        });
        match released.await {
            Ok((fate, inside)) => (fate, Some(inside)),
            // The program is over.
            Err(_) => (Fate::Fail, None),
        }
    }
}

impl Inside {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The store as one party sees it.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) who: Who,
    pub(crate) board: Board,
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) reference: Arc<Mutex<Reference>>,
}

/// Which answers of a call replicas have to confirm, where the master's word is not enough.
type Confirmed<T> = Option<fn(&T) -> bool>;

impl Gate {
    async fn pass<T: Send + 'static>(
        &self,
        operation: &'static str,
        confirmed: Confirmed<T>,
        effect: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (fate, inside) = self
            .board
            .wait(self.who, format!("{operation}, before"))
            .await;
        match (fate, confirmed) {
            (Fate::GoOn, _) => {}
            (Fate::Unconfirmed, Some(needs_it)) => {
                let answer = effect.await;
                return self.unconfirmed(operation, answer, needs_it);
            }
            (Fate::Fail | Fate::Unconfirmed, _) => {
                self.tell(|reference| reference.call_failed(self.who, "fails before its effect"));
                return Err(failure("before"));
            }
            (Fate::FailAndTakeEffectLater, _) => {
                self.tell(|reference| {
                    reference.call_failed(self.who, "fails, and is to take effect later")
                });
                let (board, who) = (self.board.clone(), LATE + self.who);
                let reference = self.reference.clone();
                tokio::spawn(async move {
                    let (_, inside) = board.wait(who, format!("{operation}, late")).await;
                    if effect.await.is_ok() {
                        reference.lock().unwrap().tally.count("takes effect late");
                    }
                    drop(inside);
                });
                return Err(StoreError::timed_out("the model's store was too slow"));
            }
        }
        let answer = effect.await;
        drop(inside);
        match self
            .board
            .wait(self.who, format!("{operation}, after"))
            .await
            .0
        {
            Fate::GoOn => {
                if answer.is_ok() {
                    self.tell(|reference| reference.call_succeeded(self.who, operation));
                }
                answer
            }
            Fate::Unconfirmed if let Some(needs_it) = confirmed => {
                self.unconfirmed(operation, answer, needs_it)
            }
            Fate::Fail | Fate::FailAndTakeEffectLater | Fate::Unconfirmed => {
                self.tell(|reference| reference.call_failed(self.who, "fails after its effect"));
                Err(failure("after"))
            }
        }
    }

    fn unconfirmed<T>(
        &self,
        operation: &'static str,
        answer: Result<T, StoreError>,
        needs_it: fn(&T) -> bool,
    ) -> Result<T, StoreError> {
        if !answer.as_ref().is_ok_and(needs_it) {
            return answer;
        }
        self.tell(|reference| reference.call_is_unconfirmed(self.who, operation));
        Err(StoreError::unconfirmed("0 of the model's replicas"))
    }

    fn tell(&self, what: impl FnOnce(&mut Reference)) {
        what(&mut self.reference.lock().unwrap());
    }

    async fn pass_to_index<T: Send + 'static, F>(
        &self,
        operation: &'static str,
        confirmed: Confirmed<T>,
        effect: impl FnOnce(Arc<dyn SessionStore>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        self.pass(operation, confirmed, effect(self.store.clone()))
            .await
    }
}

fn failure(when: &str) -> StoreError {
    StoreError::unavailable("the model's store fails", when.to_owned())
}

fn index(store: &dyn SessionStore) -> &dyn UserIndex {
    store.user_index().expect("it was asked for")
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gate").field(&self.who).finish()
    }
}

#[async_trait]
impl SessionStore for Gate {
    async fn create(&self, handle: &Handle, record: &Record) -> Result<(), StoreError> {
        let (store, handle, record) = (self.store.clone(), *handle, record.clone());
        let effect = async move { store.create(&handle, &record).await };
        self.pass("create", Some(|()| true), effect).await
    }

    async fn load(&self, handle: &Handle) -> Result<Option<Record>, StoreError> {
        let (store, handle) = (self.store.clone(), *handle);
        self.pass("load", None, async move { store.load(&handle).await })
            .await
    }

    async fn update(
        &self,
        handle: &Handle,
        record: &Record,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let (store, handle, record) = (self.store.clone(), *handle, record.clone());
        let effect = async move { store.update(&handle, &record, expected, now).await };
        let is_done = |outcome: &Outcome| *outcome == Outcome::Done;
        self.pass("update", Some(is_done), effect).await
    }

    async fn touch(
        &self,
        handle: &Handle,
        expires_at: OffsetDateTime,
        expected: Version,
        now: OffsetDateTime,
    ) -> Result<Outcome, StoreError> {
        let (store, handle) = (self.store.clone(), *handle);
        let effect = async move { store.touch(&handle, expires_at, expected, now).await };
        self.pass("touch", None, effect).await
    }

    async fn delete(&self, handle: &Handle) -> Result<bool, StoreError> {
        let (store, handle) = (self.store.clone(), *handle);
        let effect = async move { store.delete(&handle).await };
        self.pass("delete", Some(|_| true), effect).await
    }

    async fn delete_expired(&self, now: OffsetDateTime, limit: usize) -> Result<usize, StoreError> {
        let store = self.store.clone();
        let effect = async move { store.delete_expired(now, limit).await };
        self.pass("delete_expired", None, effect).await
    }

    fn user_index(&self) -> Option<&dyn UserIndex> {
        self.store.user_index().map(|_| self as &dyn UserIndex)
    }
}

#[async_trait]
impl UserIndex for Gate {
    async fn link(
        &self,
        user_id: &str,
        handle: &Handle,
        link: &Link,
    ) -> Result<Linked, StoreError> {
        let (user_id, handle, link) = (user_id.to_owned(), *handle, *link);
        let effect = |store: Arc<dyn SessionStore>| async move {
            index(&*store).link(&user_id, &handle, &link).await
        };
        let is_done = |linked: &Linked| matches!(linked, Linked::Done(_));
        self.pass_to_index("link", Some(is_done), effect).await
    }

    async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let (user_id, handle) = (user_id.to_owned(), *handle);
        let effect = |store: Arc<dyn SessionStore>| async move {
            index(&*store).extend(&user_id, &handle, expires_at).await
        };
        self.pass_to_index("extend", Some(|()| true), effect).await
    }

    async fn unlink(&self, user_id: &str, handle: &Handle) -> Result<(), StoreError> {
        let (user_id, handle) = (user_id.to_owned(), *handle);
        let effect = |store: Arc<dyn SessionStore>| async move {
            index(&*store).unlink(&user_id, &handle).await
        };
        self.pass_to_index("unlink", None, effect).await
    }

    async fn list(
        &self,
        user_id: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<LinkedSession>, StoreError> {
        let user_id = user_id.to_owned();
        let effect =
            |store: Arc<dyn SessionStore>| async move { index(&*store).list(&user_id, now).await };
        self.pass_to_index("list", None, effect).await
    }

    async fn mark(&self, whose: Whose<'_>, at: OffsetDateTime) -> Result<(), StoreError> {
        let user_id = match whose {
            Whose::User(user_id) => Some(user_id.to_owned()),
            Whose::Everyone => None,
        };
        let effect = |store: Arc<dyn SessionStore>| async move {
            let whose = user_id.as_deref().map_or(Whose::Everyone, Whose::User);
            index(&*store).mark(whose, at).await
        };
        self.pass_to_index("mark", Some(|()| true), effect).await
    }

    async fn delete_linked(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, StoreError> {
        let after = after.cloned();
        let effect = |store: Arc<dyn SessionStore>| async move {
            index(&*store).delete_linked(after.as_ref(), limit).await
        };
        self.pass_to_index("delete_linked", Some(|_| true), effect)
            .await
    }
}
