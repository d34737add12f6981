//! The values of a session: read and changed key by key.

use std::any::type_name;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use super::{KeyOf, Session};
use crate::error::{Error, ErrorKind};
use crate::state::data::Replay;

/// How often a closure runs again because another task of the request changed the session meanwhile. Only
/// one that changes the session itself needs as many.
const MOST_TRIES: usize = 1_000;

impl Session {
    /// The value under a key; `None` if there is none.
    ///
    /// To change a value by what it is, use [`update`](Self::update): between a `get` and an `insert`
    /// another request may change it, and then the last writer wins.
    ///
    /// # Errors
    ///
    /// [`Decode`](ErrorKind::Decode) if the value is of another type; it stays as it is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.insert("theme", "dark")?;
    /// assert_eq!(session.get::<String>("theme")?.as_deref(), Some("dark"));
    /// assert_eq!(session.get::<String>("language")?, None);
    ///
    /// let error = session.get::<u64>("theme").unwrap_err();
    /// assert_eq!(error.kind(), cloakroom::ErrorKind::Decode);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// const THEME: cloakroom::Key<String> = cloakroom::Key::new("theme");
    ///
    /// session.insert(THEME, "dark".to_owned())?;
    /// assert_eq!(session.get(THEME)?.as_deref(), Some("dark"));
    ///
    /// let error = session.insert("page", "x".repeat(64 * 1024)).unwrap_err();
    /// assert_eq!(error.kind(), cloakroom::ErrorKind::TooLarge);
    /// assert_eq!(session.keys(), ["theme"]);
    /// # Ok(())
    /// # }
    /// ```
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
    /// [`insert`](Self::insert). [`Contention`](ErrorKind::Contention) if the closure changes this very
    /// session, for which it would have to run again, and again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// assert_eq!(session.update("visits", |n: &mut u64| *n += 1)?, 1);
    /// assert_eq!(session.update("visits", |n: &mut u64| *n += 1)?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn update<T, F>(&self, key: impl KeyOf<T>, change: F) -> Result<T, Error>
    where
        T: Default + Serialize + DeserializeOwned,
        F: Fn(&mut T) + Send + Sync + 'static,
    {
        let name: Arc<str> = key.name().into();
        let change = Arc::new(change);
        for _ in 0..MOST_TRIES {
            let (before, generation) = self.with(|state| (state.data.get(&name), state.generation));
            // The closure is the user's, and may use this very session: it runs outside the lock.
            let value = changed(&name, before.as_deref(), &*change)?;
            let json = encode(&name, &value)?;
            let replay: Replay = {
                let (name, change) = (name.clone(), change.clone());
                Arc::new(move |before| encode(&name, &changed(&name, before, &*change)?))
            };
            let staged = self
                .slot
                .change_unless_changed(generation, |state| state.data.update(&name, json, replay));
            if staged?.is_some() {
                return Ok(value);
            }
        }
        Err(Error::new(
            ErrorKind::Contention,
            format!(
                "the session changed each of {MOST_TRIES} times while the value under the key {name:?} \
                 was updated: the closure must not change the session itself"
            ),
        ))
    }

    /// Removes the value under a key, and returns it.
    ///
    /// # Errors
    ///
    /// [`Decode`](ErrorKind::Decode) if the value is of another type; it stays as it is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.insert("flash", "Saved.")?;
    /// assert_eq!(session.take::<String>("flash")?.as_deref(), Some("Saved."));
    /// assert_eq!(session.take::<String>("flash")?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn take<T: DeserializeOwned>(&self, key: impl KeyOf<T>) -> Result<Option<T>, Error> {
        loop {
            let (json, generation) =
                self.with(|state| (state.data.get(key.name()), state.generation));
            let Some(json) = json else {
                return self.slot.change(|_| Ok(None));
            };
            let value = decode(key.name(), &json)?;
            let removed = self
                .slot
                .change_unless_changed(generation, |state| Ok(state.data.remove(key.name())));
            if removed?.is_some() {
                return Ok(Some(value));
            }
        }
    }

    /// Removes the value under a key; `true` if there was one.
    ///
    /// # Errors
    ///
    /// When the session takes no changes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.insert("cart", [1, 2])?;
    /// assert!(session.remove("cart")?);
    /// assert!(!session.remove("cart")?);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "delete")]
    pub fn remove(&self, key: impl AsRef<str>) -> Result<bool, Error> {
        let key = key.as_ref();
        self.slot.change(|state| Ok(state.data.remove(key)))
    }

    /// Removes every value. The session itself lives on, under its id; [`destroy`](Self::destroy) ends it.
    ///
    /// # Errors
    ///
    /// When the session takes no changes.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.insert("theme", "dark")?;
    /// session.clear()?;
    /// assert!(session.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn clear(&self) -> Result<(), Error> {
        self.slot.change(|state| {
            state.data.clear();
            Ok(())
        })
    }

    /// Whether there is a value under a key.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.insert("theme", "dark")?;
    /// assert!(session.contains_key("theme"));
    /// assert!(!session.contains_key("language"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn contains_key(&self, key: impl AsRef<str>) -> bool {
        let key = key.as_ref();
        self.with(|state| state.data.get(key).is_some())
    }

    /// The keys that have a value, in no particular order.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.insert("theme", "dark")?;
    /// assert_eq!(session.keys(), ["theme"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn keys(&self) -> Vec<String> {
        self.with(|state| state.data.keys())
    }

    /// Whether there is no value at all.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// assert!(session.is_empty());
    /// session.insert("theme", "dark")?;
    /// assert!(!session.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_empty(&self) -> bool {
        self.with(|state| state.data.is_empty())
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
    // On the stack, if it is short.
    let mut json = SmallVec::<[u8; 128]>::new();
    serde_json::to_writer(&mut json, value).map_err(|_| {
        Error::new(
            ErrorKind::Encode,
            format!(
                "the value for the key {name:?} of type {} cannot be written as JSON: a map needs keys \
                 that are strings or numbers",
                type_name::<T>()
            ),
        )
    })?;
    Ok(json[..].into())
}
