//! The other sessions of the user who is logged in.

use super::Session;
use crate::commit::endings::{end_all_and_own, end_one, end_others};
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::events::EndedBy;
use crate::sessions::UserSession;
use crate::sessions::user_session::list;
use crate::store::Handle;

impl Session {
    /// Where the user of this session is logged in, the latest login first; empty if nobody is logged in.
    /// It takes one call of the store, and one more for each session.
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
    /// # let phone = cloakroom::testing::new_session(&layer);
    /// session.login("alice").await?;
    /// // … and on her phone …
    /// phone.login("alice").await?;
    ///
    /// let places = session.user_sessions().await?;
    /// assert_eq!(places.len(), 2);
    /// let elsewhere = places.iter().find(|place| !place.is_current()).unwrap();
    /// assert!(session.end_user_session(elsewhere.handle()).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn user_sessions(&self) -> Result<Vec<UserSession>, Error> {
        match self.user_id() {
            Some(user_id) => list(&self.slot.settings, &user_id, self.handle()).await,
            None => Ok(Vec::new()),
        }
    }

    /// Ends a session of the user who is logged in, at once; `true` if there was one of theirs under this
    /// handle. It never ends somebody else's, so the handle may come from a form. For this session itself
    /// it is a [`logout`](Self::logout).
    ///
    /// # Errors
    ///
    /// [`Store`](ErrorKind::Store) or [`EndingFailed`](ErrorKind::EndingFailed): then the session may live
    /// on.
    pub async fn end_user_session(&self, handle: &Handle) -> Result<bool, Error> {
        let Some(user_id) = self.user_id() else {
            return Ok(false);
        };
        if self.handle() == Some(*handle) {
            self.logout().await?;
            return Ok(true);
        }
        let settings = self.slot.settings.clone();
        end_one(settings, user_id, *handle, EndedBy::OtherSession).await
    }

    /// Ends every other session of the user who is logged in, gives this one a new id, and returns how many
    /// it has ended: for "log out everywhere else", and for a password that the user has changed. It saves
    /// what was staged so far, and runs to its end also if the client hangs up meanwhile.
    ///
    /// Nothing that began before survives it: a login elsewhere that extracted its session before fails
    /// with [`Overtaken`](ErrorKind::Overtaken). So does one of this very request, and for a second after
    /// it any: change the password first, log in again before this if that is wanted, and call this last.
    ///
    /// # Errors
    ///
    /// [`NoUserIndex`](ErrorKind::NoUserIndex), [`Store`](ErrorKind::Store),
    /// [`EndingFailed`](ErrorKind::EndingFailed) or [`Contention`](ErrorKind::Contention): then some may
    /// live on. [`Ended`](ErrorKind::Ended) if this session was ended meanwhile; the others are.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// # let phone = cloakroom::testing::new_session(&layer);
    /// session.login("alice").await?;
    /// phone.login("alice").await?;
    /// // … the new password is stored …
    /// assert_eq!(session.end_other_sessions().await?, 1);
    /// assert_eq!(session.user_id().as_deref(), Some("alice"));
    /// assert_eq!(session.user_sessions().await?.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "logout_other_devices")]
    pub async fn end_other_sessions(&self) -> Result<usize, Error> {
        let Some(user_id) = self.user_id() else {
            return Ok(0);
        };
        // With a new id, since whoever may hold a copy of this one's is to be out, too.
        end_others(self.slot.clone(), user_id, self.handle()).await
    }

    /// Ends every session of the user who is logged in, this one last, and returns how many that were.
    ///
    /// # Errors
    ///
    /// As [`end_other_sessions`](Self::end_other_sessions).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.login("alice").await?;
    /// assert_eq!(session.end_all_sessions().await?, 1);
    /// assert_eq!(session.user_id(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn end_all_sessions(&self) -> Result<usize, Error> {
        let Some(user_id) = self.user_id() else {
            return Ok(0);
        };
        end_all_and_own(self.slot.clone(), user_id, self.handle()).await
    }
}
