//! Sessions from outside a request.

use std::sync::Arc;

use crate::clock::to_unix_millis;
use crate::commit::endings::{end_of_everyone, end_of_user, end_one};
use crate::error::{Error, ErrorKind};
use crate::events::EndedBy;
use crate::settings::Settings;
use crate::store::Handle;

pub(crate) mod user_session;

pub use self::user_session::UserSession;
use self::user_session::list;

/// The sessions of a layer, for work outside a request: a command line, a websocket, an admin's page.
///
/// Made by [`SessionLayer::sessions`](crate::SessionLayer::sessions). A clone is cheap.
///
/// In axum it is an extractor, too, which costs nothing; or keep it in the state of the router.
#[derive(Clone, Debug)]
pub struct Sessions {
    settings: Arc<Settings>,
}

impl Sessions {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings }
    }

    /// Ends the session of this handle, whatever its id is by now; `true` if there was one.
    ///
    /// Every request that begins after it returned finds no session, on every node.
    ///
    /// # Errors
    ///
    /// When the store fails: then the session may live on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// use cloakroom::{SessionLayer, store::{Handle, MemoryStore}};
    ///
    /// let layer = SessionLayer::new(MemoryStore::new());
    /// let handle = Handle::from_bytes([7; 16]);
    /// assert!(!layer.sessions().end(&handle).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn end(&self, handle: &Handle) -> Result<bool, Error> {
        let ended = self.settings.delete(handle).await.map_err(|error| {
            Error::with_source(
                ErrorKind::EndingFailed,
                "the session could not be ended",
                error,
            )
        })?;
        if ended {
            self.settings.events.ended(EndedBy::App, &handle.into());
        }
        Ok(ended)
    }

    /// Whether the session of this handle is alive: for a websocket or a stream that goes on after its
    /// request, and has to end with the session. It takes one call of the store, and is no activity.
    ///
    /// # Errors
    ///
    /// When the store fails: that says nothing of the session.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.login("alice").await?;
    /// let handle = session.handle().unwrap();
    /// assert!(layer.sessions().is_alive(&handle).await?);
    /// session.logout().await?;
    /// assert!(!layer.sessions().is_alive(&handle).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn is_alive(&self, handle: &Handle) -> Result<bool, Error> {
        // Before the look: another request may extend the session while its record is on the way here.
        let now = self.settings.now();
        let record = self.settings.load(handle).await;
        let record =
            record.map_err(|error| Error::store("the session could not be loaded", error))?;
        Ok(record.is_some_and(|record| to_unix_millis(record.expires_at) > now))
    }

    /// Where a user is logged in, the latest login first. It takes one call of the store, and one more for
    /// each session.
    ///
    /// # Errors
    ///
    /// [`NoUserIndex`](ErrorKind::NoUserIndex) if the store keeps no list, or [`Store`](ErrorKind::Store).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// use cloakroom::Login;
    ///
    /// session.login(Login::new("alice").label("Firefox on Linux")).await?;
    /// let places = layer.sessions().list("alice").await?;
    /// assert_eq!(places.len(), 1);
    /// assert_eq!(places[0].label(), Some("Firefox on Linux"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list(&self, user_id: &str) -> Result<Vec<UserSession>, Error> {
        list(&self.settings, user_id, None).await
    }

    /// Ends the session of this handle if it is one of this user's; `true` if it was.
    ///
    /// For an admin's page, which is given a handle by a browser: it never ends the session of somebody
    /// else.
    ///
    /// # Errors
    ///
    /// [`Store`](ErrorKind::Store) or [`EndingFailed`](ErrorKind::EndingFailed): then the session may live
    /// on.
    pub async fn end_of_user(&self, user_id: &str, handle: &Handle) -> Result<bool, Error> {
        end_one(self.settings.clone(), user_id.into(), *handle, EndedBy::App).await
    }

    /// Ends every session of a user, and returns how many that were: for an account that is disabled or
    /// removed, and for a password that was changed.
    ///
    /// A login that began before (that extracted its session before, or less than a second later) never
    /// survives it: it fails with [`Overtaken`](ErrorKind::Overtaken). Change the password first, and call
    /// this then.
    ///
    /// # Errors
    ///
    /// [`NoUserIndex`](ErrorKind::NoUserIndex), [`Store`](ErrorKind::Store) or
    /// [`EndingFailed`](ErrorKind::EndingFailed): then some sessions may live on. Call it again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.login("alice").await?;
    /// assert_eq!(layer.sessions().end_all("alice").await?, 1);
    /// assert!(layer.sessions().list("alice").await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "revoke")]
    #[doc(alias = "logout_everywhere")]
    pub async fn end_all(&self, user_id: &str) -> Result<usize, Error> {
        end_of_user(self.settings.clone(), user_id.into(), None, EndedBy::App).await
    }

    /// Ends every session of every user, and returns how many that were. Sessions of visitors who are not
    /// logged in stay. As with [`end_all`](Self::end_all), no login that began before survives it.
    ///
    /// # Errors
    ///
    /// As [`end_all`](Self::end_all).
    pub async fn end_everyone(&self) -> Result<usize, Error> {
        end_of_everyone(self.settings.clone()).await
    }
}
