//! What a handler holds of its session.

use std::fmt;
use std::sync::Arc;

use http::Extensions;

use crate::carrier::Carrier;
use crate::commit::save;
use crate::csrf::CsrfKey;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::events::{CsrfRefusal, Subject};
use crate::load::load;
use crate::random::RandomSourceError;
#[cfg(any(feature = "axum", feature = "testing"))]
use crate::settings::Settings;
use crate::slot::{Slot, SlotRef, Stage};
use crate::state::{Live, State};

mod identity;
mod key;
mod lifetime;
mod user_sessions;
mod values;

pub use self::key::{Key, KeyOf};

/// The session of a request.
///
/// In axum it is an extractor: it is loaded when it is extracted, which is where a store failure shows, as
/// the rejection. `Option<Session>` is `None` where there is no live session; a missing layer or a store
/// failure is an error there, too. Elsewhere, [`Session::load`] gets it from a request's extensions.
///
/// Reading and changing is synchronous. Changes are staged, and saved as one write when the response is
/// ready: all of them, or none if the handler panics, is cancelled, or answers 5xx. Changes of overlapping
/// requests merge key by key; see [`update`](Self::update) for those that depend on the value before.
/// [`login`](Self::login), [`logout`](Self::logout) and [`destroy`](Self::destroy) take effect when they
/// are awaited, and nothing that comes later undoes them.
///
/// Clones share one state, so that a middleware and a handler see the same session.
///
/// # Errors
///
/// After the response was committed, or the request was dropped or panicked, every change is an error of
/// kind [`Closed`](ErrorKind::Closed).
#[derive(Clone)]
pub struct Session {
    slot: Arc<Slot>,
}

impl Session {
    /// The session of the request with these extensions; it is loaded the first time that anybody asks.
    ///
    /// # Errors
    ///
    /// [`MissingLayer`](ErrorKind::MissingLayer) if no layer is around, [`Store`](ErrorKind::Store) if the
    /// store fails, [`Closed`](ErrorKind::Closed) if the request is over.
    ///
    /// ```
    /// use cloakroom::{ErrorKind, Session};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let request = http::Request::new(());
    /// let error = Session::load(request.extensions()).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::MissingLayer);
    /// # }
    /// ```
    pub async fn load(extensions: &Extensions) -> Result<Self, Error> {
        let around: &SlotRef = extensions.get().ok_or_else(Error::missing_layer)?;
        let slot = around.slot.clone();
        load(&slot).await?;
        Ok(Self { slot })
    }

    #[cfg(feature = "testing")]
    pub(crate) fn without_request(settings: &Arc<Settings>) -> Self {
        Self {
            slot: Arc::new(Slot::with_new_session(settings.clone())),
        }
    }

    /// Whether the request came without a live session, and none was made since.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// assert!(session.is_new());
    /// session.insert("theme", "dark")?;
    /// session.save().await?;
    /// assert!(!session.is_new());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_new(&self) -> bool {
        self.with(|state| state.live().is_none())
    }

    /// Saves what is staged now, instead of when the response is ready: so that what comes after, such as
    /// a payment, can rely on it.
    ///
    /// # Errors
    ///
    /// [`Store`](ErrorKind::Store), [`Contention`](ErrorKind::Contention), or [`Ended`](ErrorKind::Ended)
    /// if the session ended meanwhile. What was staged is dropped then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.insert("order", 4711)?;
    /// assert!(session.is_new());
    /// session.save().await?;
    /// assert!(!session.is_new());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn save(&self) -> Result<(), Error> {
        save(self.slot.clone()).await
    }

    #[cfg(feature = "axum")]
    pub(crate) fn settings(&self) -> &Settings {
        &self.slot.settings
    }

    pub(crate) fn is_carried_by_header(&self) -> bool {
        self.with(|state| state.carrier == Carrier::Header)
    }

    /// The key of the session's CSRF tokens, if it is live.
    pub(crate) fn csrf_key(&self) -> Option<CsrfKey> {
        self.live(|live| live.header.csrf)
    }

    /// As [`State::csrf_key_to_come`].
    pub(crate) fn csrf_key_to_come(
        &self,
        fresh: impl FnOnce() -> Result<CsrfKey, RandomSourceError>,
    ) -> Result<CsrfKey, Error> {
        let key = self.slot.with(|state| state.csrf_key_to_come(fresh));
        Ok(key.ok_or_else(Error::closed)??)
    }

    pub(crate) fn report_forgery(&self, why: CsrfRefusal) {
        let subject = self.live(Subject::of);
        self.slot
            .settings
            .events
            .csrf_refused(why, subject.as_ref());
    }

    fn live<R>(&self, read: impl FnOnce(&Live) -> R) -> Option<R> {
        self.with(|state| state.live().map(read))
    }

    fn with<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        match &*self.slot.stage() {
            Stage::Loaded(state) => read(state),
            // A `Session` is only made of a slot that was loaded, and that does not go back.
            _ => unreachable!("a session is loaded before it is handed out"),
        }
    }
}

/// Says which session it is, and nothing of its data, its user or its id.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
