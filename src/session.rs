//! What a handler holds of its session.

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use http::Extensions;
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;

use crate::clock::from_unix_millis;
use crate::commit::identity;
use crate::commit::save;
use crate::error::{Error, ErrorKind};
use crate::load::load;
use crate::login::Login;
use crate::slot::{Slot, SlotRef, Stage};
use crate::state::data::Replay;
use crate::state::{Live, State};
use crate::store::Handle;
use crate::timeouts::Timeouts;

mod key;

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

    /// The value under a key; `None` if there is none.
    ///
    /// To change a value by what it is, use [`update`](Self::update): between a `get` and an `insert`
    /// another request may change it, and then the last writer wins.
    ///
    /// # Errors
    ///
    /// [`Decode`](ErrorKind::Decode) if the value is of another type; it stays as it is.
    pub fn get<T: DeserializeOwned>(&self, key: impl KeyOf<T>) -> Result<Option<T>, Error> {
        let value = self.with(|state| state.data.get(key.name()));
        value.map(|json| decode(key.name(), &json)).transpose()
    }

    /// Sets the value under a key, in place of the one that is there.
    ///
    /// # Errors
    ///
    /// [`Encode`](ErrorKind::Encode) if it cannot be written as JSON,
    /// [`TooLarge`](ErrorKind::TooLarge) if the session would grow past its limit; nothing is changed then.
    #[doc(alias = "set")]
    pub fn insert<T: Serialize>(&self, key: impl KeyOf<T>, value: T) -> Result<(), Error> {
        let json = encode(key.name(), &value)?;
        self.slot.change(|state| state.data.set(key.name(), json))
    }

    /// Changes the value under a key, and returns what it is then. Where there is none, the change begins
    /// with the type's default.
    ///
    /// Where another request changed the session in the meantime, the closure runs again, on the value that
    /// the other one left: twenty overlapping increments add up to 20. So it may run several times, and
    /// should do nothing but change the value. What is returned is exact only once it is saved.
    ///
    /// # Errors
    ///
    /// [`Decode`](ErrorKind::Decode) if the value there is of another type, and as
    /// [`insert`](Self::insert).
    pub fn update<T, F>(&self, key: impl KeyOf<T>, change: F) -> Result<T, Error>
    where
        T: Default + Serialize + DeserializeOwned,
        F: Fn(&mut T) + Send + Sync + 'static,
    {
        let name: Arc<str> = key.name().into();
        let change = Arc::new(change);
        loop {
            let (before, generation) = self.with(|state| (state.data.get(&name), state.generation));
            // The closure is the user's, and may use this very session: it runs outside the lock.
            let value = changed(&name, before.as_deref(), &*change)?;
            let json = encode(&name, &value)?;
            let replay: Replay = {
                let (name, change) = (name.clone(), change.clone());
                Arc::new(move |before| encode(&name, &changed(&name, before, &*change)?))
            };
            let staged = self.slot.change(|state| {
                if state.generation != generation {
                    return Ok(false);
                }
                state.data.update(&name, json, replay).map(|()| true)
            });
            if staged? {
                return Ok(value);
            }
        }
    }

    /// Removes the value under a key, and returns it.
    ///
    /// # Errors
    ///
    /// [`Decode`](ErrorKind::Decode) if the value is of another type; it stays as it is.
    pub fn take<T: DeserializeOwned>(&self, key: impl KeyOf<T>) -> Result<Option<T>, Error> {
        loop {
            let (json, generation) =
                self.with(|state| (state.data.get(key.name()), state.generation));
            let Some(json) = json else {
                return self.slot.change(|_| Ok(None));
            };
            let value = decode(key.name(), &json)?;
            let removed = self.slot.change(|state| {
                Ok(state.generation == generation && state.data.remove(key.name()))
            });
            if removed? {
                return Ok(Some(value));
            }
        }
    }

    /// Removes the value under a key; `true` if there was one.
    ///
    /// # Errors
    ///
    /// When the session takes no changes.
    #[doc(alias = "delete")]
    pub fn remove(&self, key: impl AsRef<str>) -> Result<bool, Error> {
        self.slot
            .change(|state| Ok(state.data.remove(key.as_ref())))
    }

    /// Removes every value. The session itself lives on, under its id; [`destroy`](Self::destroy) ends it.
    ///
    /// # Errors
    ///
    /// When the session takes no changes.
    pub fn clear(&self) -> Result<(), Error> {
        self.slot.change(|state| {
            state.data.clear();
            Ok(())
        })
    }

    /// Whether there is a value under a key.
    pub fn contains_key(&self, key: impl AsRef<str>) -> bool {
        self.with(|state| state.data.get(key.as_ref()).is_some())
    }

    /// The keys that have a value, in no particular order.
    pub fn keys(&self) -> Vec<String> {
        self.with(|state| state.data.keys())
    }

    /// Whether there is no value at all.
    pub fn is_empty(&self) -> bool {
        self.with(|state| state.data.is_empty())
    }

    /// Whether the request came without a live session, and none was made since.
    pub fn is_new(&self) -> bool {
        self.with(|state| state.live().is_none())
    }

    /// Logs a user in, at once: renews the id against session fixation, records the user and the time,
    /// starts both timeouts anew, and saves what was staged so far. Call it after the password was
    /// verified, and extract the session before that.
    ///
    /// On the session of somebody else it ends that one, and starts one with nothing of it.
    ///
    /// # Errors
    ///
    /// [`InvalidLogin`](ErrorKind::InvalidLogin) or [`InvalidTimeouts`](ErrorKind::InvalidTimeouts) if the
    /// login cannot be meant, [`Store`](ErrorKind::Store), or [`Contention`](ErrorKind::Contention).
    #[doc(alias = "authenticate")]
    pub async fn login(&self, login: impl Into<Login>) -> Result<(), Error> {
        identity::login(self.slot.clone(), login.into()).await
    }

    /// Logs the user out, at once: the same as [`destroy`](Self::destroy).
    ///
    /// # Errors
    ///
    /// As [`destroy`](Self::destroy).
    #[doc(alias = "sign_out")]
    pub async fn logout(&self) -> Result<(), Error> {
        self.destroy().await
    }

    /// Ends the session, at once and for good: no id of it opens it again, whatever other requests are
    /// under way. What is set afterwards goes into a fresh session.
    ///
    /// # Errors
    ///
    /// [`EndingFailed`](ErrorKind::EndingFailed) if the store failed. The session may live on then, takes
    /// no more changes from this request, and the browser keeps its cookie; call it again to retry.
    #[doc(alias = "flush")]
    #[doc(alias = "purge")]
    #[doc(alias = "invalidate")]
    pub async fn destroy(&self) -> Result<(), Error> {
        identity::destroy(self.slot.clone()).await
    }

    /// Saves what is staged now, instead of when the response is ready: so that what comes after, such as
    /// a payment, can rely on it.
    ///
    /// # Errors
    ///
    /// [`Store`](ErrorKind::Store), [`Contention`](ErrorKind::Contention), or [`Ended`](ErrorKind::Ended)
    /// if the session ended meanwhile. What was staged is dropped then.
    pub async fn save(&self) -> Result<(), Error> {
        save(self.slot.clone()).await
    }

    /// Gives the session a new id when it is saved; the old one is dead from then on. For changes of
    /// privilege other than a login, which does so itself (ASVS 7.2.4).
    ///
    /// # Errors
    ///
    /// When the session takes no changes.
    #[doc(alias = "cycle_id")]
    #[doc(alias = "regenerate")]
    #[doc(alias = "rotate")]
    pub fn renew_id(&self) -> Result<(), Error> {
        self.slot.change(|state| {
            state.wishes.renew = true;
            Ok(())
        })
    }

    /// Gives this session timeouts of its own, which its later writes keep.
    ///
    /// The absolute one counts from when the session began, or its user last logged in; where that is
    /// longer ago, the session ends with this request.
    ///
    /// # Errors
    ///
    /// [`InvalidTimeouts`](ErrorKind::InvalidTimeouts) if they cannot be meant.
    #[doc(alias = "set_expiry")]
    pub fn set_timeouts(&self, timeouts: Timeouts) -> Result<(), Error> {
        if let Some(problem) = timeouts.problem() {
            return Err(Error::new(ErrorKind::InvalidTimeouts, problem));
        }
        self.slot.change(|state| {
            state.wishes.timeouts = Some(timeouts);
            Ok(())
        })
    }

    /// Lets the cookie outlive the browser, until the session's absolute timeout, for 400 days at most.
    ///
    /// # Errors
    ///
    /// When the session takes no changes.
    pub fn persistent_cookie(&self) -> Result<(), Error> {
        self.slot.change(|state| {
            state.wishes.persistent_cookie = true;
            Ok(())
        })
    }

    /// Does not count this request as activity: for a page that polls, which would otherwise keep a
    /// session alive that nobody is using.
    ///
    /// # Errors
    ///
    /// When the session takes no changes.
    pub fn do_not_extend(&self) -> Result<(), Error> {
        self.slot.change(|state| {
            state.wishes.do_not_extend = true;
            Ok(())
        })
    }

    /// Who is logged in.
    pub fn user_id(&self) -> Option<Arc<str>> {
        self.live(|live| live.record.user_id.clone())?
    }

    /// When the user who is logged in was authenticated.
    pub fn authenticated_at(&self) -> Option<OffsetDateTime> {
        self.live(|live| live.header.authenticated_at.map(from_unix_millis))?
    }

    /// When the session was created; `None` if it is new.
    pub fn created_at(&self) -> Option<OffsetDateTime> {
        self.live(|live| live.record.created_at)
    }

    /// When the session ends if there is no more activity, as it was last saved; `None` if it is new.
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        self.live(|live| live.record.expires_at)
    }

    /// The session's timeouts, as they were last saved; `None` if it is new.
    pub fn timeouts(&self) -> Option<Timeouts> {
        self.live(|live| live.header.timeouts)
    }

    /// The session's public name, for logs and lists; `None` if it is new. It opens nothing.
    pub fn handle(&self) -> Option<Handle> {
        self.live(|live| *live.handle())
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

/// The value after a change of the one before.
fn changed<T>(name: &str, before: Option<&[u8]>, change: &impl Fn(&mut T)) -> Result<T, Error>
where
    T: Default + DeserializeOwned,
{
    let mut value = match before {
        Some(json) => decode(name, json)?,
        None => T::default(),
    };
    change(&mut value);
    Ok(value)
}

/// Reads a value. What the decoder says of it is left out, since that could quote it.
fn decode<T: DeserializeOwned>(name: &str, json: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|_| {
        Error::new(
            ErrorKind::Decode,
            format!(
                "the value under the key {name:?} is not a {}: it was stored as another type; read it as \
                 that, or remove it",
                type_name::<T>()
            ),
        )
    })
}

fn encode<T: Serialize>(name: &str, value: &T) -> Result<Arc<[u8]>, Error> {
    let json = serde_json::to_vec(value).map_err(|_| {
        Error::new(
            ErrorKind::Encode,
            format!(
                "the value for the key {name:?} of type {} cannot be written as JSON: a map needs keys \
                 that are strings or numbers",
                type_name::<T>()
            ),
        )
    })?;
    Ok(json.into())
}
