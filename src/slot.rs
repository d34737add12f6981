//! The place of a session in a request: private, and empty until somebody asks for the session.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Notify;

use crate::carrier::{Brought, Carrier, Carriers};
use crate::error::Error;
use crate::settings::Settings;
use crate::state::State;

/// What the layer puts into a request's extensions. It is private, so that nobody reads a session that was
/// not loaded.
#[derive(Clone, Debug)]
pub(crate) struct SlotRef {
    /// That of the innermost layer around.
    pub(crate) slot: Arc<Slot>,
    /// Those of the layers further out.
    outer: Option<Arc<SlotRef>>,
}

impl SlotRef {
    pub(crate) fn inside(outer: Option<Self>, slot: Arc<Slot>) -> Self {
        let outer = outer.map(Arc::new);
        Self { slot, outer }
    }

    /// The slot of a layer around that looks for ids where these carriers do, if there is one.
    pub(crate) fn of_carriers(&self, carriers: &Carriers) -> Option<&Arc<Slot>> {
        if self.slot.settings.carriers.overlap(carriers) {
            return Some(&self.slot);
        }
        self.outer.as_ref()?.of_carriers(carriers)
    }
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) settings: Arc<Settings>,
    cookies: Lines,
    /// Of the layer's header.
    ids: Lines,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    stage: Stage,
    /// How many [shares](Entered::share) there are of the right to call the store, which one at a time has:
    /// store calls of one request go one after another.
    shares: u32,
    /// How many wait to enter.
    waiting: u32,
    /// Wakes one of those who wait to enter. Made by the first of them, since hardly any request has one.
    left: Option<Arc<Notify>>,
}

/// What becomes of somebody who wants to load the session.
#[derive(Debug)]
pub(crate) enum Entry<'a> {
    Granted(Entered<&'a Slot>),
    /// It was loaded before, with this outcome.
    Refused(Result<(), Error>),
    /// Somebody else is at it.
    Busy,
}

impl Stage {
    /// What came of the load; `None` before it.
    pub(crate) fn outcome(&self) -> Option<Result<(), Error>> {
        match self {
            Self::Untouched => None,
            Self::Loaded(_) => Some(Ok(())),
            Self::Failed(error) => Some(Err(error.clone())),
            Self::Closed => Some(Err(Error::closed())),
        }
    }

    fn close(&mut self) {
        match self {
            Self::Loaded(state) => state.closed = true,
            stage => *stage = Self::Closed,
        }
    }
}

/// The stage, locked, and with it the gate to the store.
#[derive(Debug)]
pub(crate) struct LockedStage<'a>(MutexGuard<'a, Inner>);

impl LockedStage<'_> {
    /// Whether a store call of this request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.0.shares > 0
    }
}

impl Deref for LockedStage<'_> {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.0.stage
    }
}

impl DerefMut for LockedStage<'_> {
    fn deref_mut(&mut self) -> &mut Stage {
        &mut self.0.stage
    }
}

/// How far the session of a request has come.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Nobody has asked for it.
    Untouched,
    /// It could not be loaded; so every extractor of the request says the same, without asking again.
    Failed(Error),
    /// It was loaded, and may be anything from live to absent.
    ///
    /// Boxed, since a request that does not ask would pay for the room.
    Loaded(Box<State>),
    /// The request ended before anybody asked.
    Closed,
}

impl Slot {
    pub(crate) fn new(settings: Arc<Settings>, headers: &HeaderMap) -> Self {
        let header = settings.carriers.header();
        Self {
            ids: header.map_or_else(Lines::default, |header| Lines::of(header.name(), headers)),
            settings,
            cookies: Lines::of(&COOKIE, headers),
            inner: Mutex::new(Inner {
                stage: Stage::Untouched,
                shares: 0,
                waiting: 0,
                left: None,
            }),
        }
    }

    /// A slot in which there is a new session already.
    #[cfg(feature = "testing")]
    pub(crate) fn with_new_session(settings: Arc<Settings>) -> Self {
        let mut state = State::nothing(&settings.rules);
        state.loaded_at = settings.now();
        let slot = Self::new(settings, &HeaderMap::new());
        state.carrier = slot.carrier();
        *slot.stage() = Stage::Loaded(Box::new(state));
        slot
    }

    /// What the request brought as its id.
    pub(crate) fn brought(&self) -> Brought<'_> {
        let carriers = &self.settings.carriers;
        carriers.find(self.cookies.iter(), self.ids.iter())
    }

    /// What the request's id travels in.
    pub(crate) fn carrier(&self) -> Carrier {
        self.settings.carriers.of_request(self.ids.iter())
    }

    /// The stage, locked. Nothing of the user's runs under the lock, and nothing is awaited.
    pub(crate) fn stage(&self) -> LockedStage<'_> {
        LockedStage(self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `act` on the session, if it was loaded.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> Option<R> {
        match &mut *self.stage() {
            Stage::Loaded(state) => Some(act(state)),
            _ => None,
        }
    }

    /// Runs `change` on the session, if it still takes changes: the one way by which anything is staged.
    pub(crate) fn change<R>(
        &self,
        change: impl FnOnce(&mut State) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let changed = self.with(|state| {
            state.check_open()?;
            let changed = change(state)?;
            state.generation += 1;
            Ok(changed)
        });
        changed.unwrap_or_else(|| Err(Error::closed()))
    }

    /// As [`change`](Self::change), but only if nothing has changed since this generation: `None` if
    /// something has.
    pub(crate) fn change_unless_changed<R>(
        &self,
        since: u64,
        change: impl FnOnce(&mut State) -> Result<R, Error>,
    ) -> Result<Option<R>, Error> {
        let changed = self.with(|state| {
            state.check_open()?;
            if state.generation != since {
                return Ok(None);
            }
            let changed = change(state)?;
            state.generation += 1;
            Ok(Some(changed))
        });
        changed.unwrap_or_else(|| Err(Error::closed()))
    }

    /// Waits for the store calls of this request that are under way, and keeps others out.
    pub(crate) async fn enter(self: &Arc<Self>) -> Entered<Arc<Self>> {
        if self.lock().try_enter() {
            return Entered::new(self.clone());
        }
        let entered = self.wait_to_enter().await;
        entered.with_slot(self.clone())
    }

    /// Enters as [`enter`](Self::enter), and closes the session before anybody else can enter. Also says whether its
    /// cookie may be stale, which it cannot become later on.
    pub(crate) async fn enter_and_close(self: &Arc<Self>) -> (Entered<Arc<Self>>, bool) {
        let close = |inner: &mut Inner| {
            inner.stage.close();
            matches!(&inner.stage, Stage::Loaded(state) if state.cookie_may_be_stale)
        };
        {
            let mut inner = self.lock();
            if inner.try_enter() {
                let cookie_may_be_stale = close(&mut inner);
                return (Entered::new(self.clone()), cookie_may_be_stale);
            }
        }
        let entered = self.wait_to_enter().await.with_slot(self.clone());
        let cookie_may_be_stale = close(&mut self.lock());
        (entered, cookie_may_be_stale)
    }

    /// Enters to load the session, if that is still to be done and nobody else is in.
    pub(crate) fn enter_untouched(&self) -> Entry<'_> {
        let mut inner = self.lock();
        match inner.stage.outcome() {
            Some(outcome) => Entry::Refused(outcome),
            None if inner.try_enter() => Entry::Granted(Entered::new(self)),
            None => Entry::Busy,
        }
    }

    /// Enters once those who are in have left.
    pub(crate) async fn wait_to_enter(&self) -> Entered<&Self> {
        // Rare, and boxed: its room would be in the future of every handler.
        Box::pin(async {
            let waiting = Waiting::new(self);
            loop {
                // Made before the look, so that no leaving in between is missed.
                let left = waiting.left.notified();
                if self.lock().try_enter() {
                    return Entered::new(self);
                }
                left.await;
            }
        })
        .await
    }

    /// From now on every change is an error.
    pub(crate) fn close(&self) {
        self.stage().close();
    }
}

impl Inner {
    /// Enters unless somebody else is in; whoever is in makes an [`Entered`] of it.
    fn try_enter(&mut self) -> bool {
        if self.shares > 0 {
            return false;
        }
        self.shares = 1;
        true
    }
}

/// The right to call the store for this request; it ends when its last share is dropped. It owns the slot
/// where it can go into a task that outlives the request.
#[derive(Debug)]
pub(crate) struct Entered<S: Deref<Target = Slot>> {
    slot: S,
    is_in: bool,
}

impl<S: Deref<Target = Slot>> Entered<S> {
    /// Of one of the shares.
    fn new(slot: S) -> Self {
        Self { slot, is_in: true }
    }

    /// The same right, for a task that may outlive the borrow.
    fn with_slot<T: Deref<Target = Slot>>(mut self, slot: T) -> Entered<T> {
        self.is_in = false;
        Entered::new(slot)
    }

    /// Ends it, under a lock that the caller holds anyway.
    pub(crate) fn leave(mut self, stage: LockedStage<'_>) {
        self.is_in = false;
        give_back(stage);
    }
}

impl<S: Deref<Target = Slot> + Clone> Entered<S> {
    /// A share for a task that may outlive whoever waits for it, and has something left to do after it.
    pub(crate) fn share(&self) -> Self {
        self.slot.lock().shares += 1;
        Self::new(self.slot.clone())
    }
}

impl<S: Deref<Target = Slot>> Drop for Entered<S> {
    fn drop(&mut self) {
        if self.is_in {
            give_back(self.slot.stage());
        }
    }
}

/// Gives back a share; if it was the last one, the next of those who wait may enter.
fn give_back(LockedStage(mut inner): LockedStage<'_>) {
    inner.shares -= 1;
    if inner.shares == 0
        && inner.waiting > 0
        && let Some(left) = inner.left.clone()
    {
        drop(inner);
        left.notify_one();
    }
}

/// Is counted among those who wait to enter, until dropped.
struct Waiting<'a> {
    slot: &'a Slot,
    left: Arc<Notify>,
}

impl<'a> Waiting<'a> {
    fn new(slot: &'a Slot) -> Self {
        let mut inner = slot.lock();
        inner.waiting += 1;
        let left = inner.left.get_or_insert_default().clone();
        Self { slot, left }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.slot.lock().waiting -= 1;
    }
}

/// The lines of a request that an id may be in, as they came. A browser sends one of `Cookie`, HTTP/2 may
/// split it into many.
///
/// They print as redacted: an id is among them.
#[derive(Debug, Default)]
enum Lines {
    #[default]
    None,
    One(HeaderValue),
    /// Boxed, as it is rare, and each request has the room.
    Many(Box<[HeaderValue]>),
}

impl Lines {
    fn of(name: &HeaderName, headers: &HeaderMap) -> Self {
        let redacted = |line: &HeaderValue| {
            let mut line = line.clone();
            line.set_sensitive(true);
            line
        };
        let mut lines = headers.get_all(name).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Self::None,
            (Some(line), None) => Self::One(redacted(line)),
            (Some(_), Some(_)) => Self::Many(headers.get_all(name).iter().map(redacted).collect()),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &HeaderValue> {
        let lines = match self {
            Self::None => &[],
            Self::One(line) => std::slice::from_ref(line),
            Self::Many(lines) => lines,
        };
        lines.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_do_not_print() {
        let mut headers = HeaderMap::new();
        for line in ["__Host-Http-id=secret", "a=secret"] {
            headers.append(COOKIE, HeaderValue::from_static(line));
        }
        let cookies = Lines::of(&COOKIE, &headers);
        assert_eq!(cookies.iter().count(), 2);
        assert!(!format!("{cookies:?}").contains("secret"));
    }
}
