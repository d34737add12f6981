//! Whose session it is: logins, endings, and the id.

use std::sync::Arc;

use time::OffsetDateTime;

use super::Session;
use crate::clock::from_unix_millis;
use crate::commit::identity;
use crate::error::Error;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::login::Login;
use crate::store::{Handle, LoginProgress};

impl Session {
    /// Logs a user in, at once: renews the id against session fixation, records the user and the time,
    /// starts both timeouts anew, and saves what was staged so far. Call it after the password was
    /// verified, and extract the session before that.
    ///
    /// On the session of somebody else it ends that one, and starts one with nothing of it.
    ///
    /// If nothing is written after it, the response looks with one load whether the session is still there: a
    /// cookie of one that was ended meanwhile could push a newer one out of the browser.
    ///
    /// # Errors
    ///
    /// [`InvalidLogin`](ErrorKind::InvalidLogin) or [`InvalidTimeouts`](ErrorKind::InvalidTimeouts) if the
    /// login cannot be meant; [`Overtaken`](ErrorKind::Overtaken) if all sessions of the user were ended
    /// after this session was extracted; [`TooManySessions`](ErrorKind::TooManySessions) if the layer's
    /// limit refuses it; [`Store`](ErrorKind::Store), or [`Contention`](ErrorKind::Contention).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// use std::time::Duration;
    /// use cloakroom::{Login, Timeouts};
    ///
    /// const DAY: Duration = Duration::from_secs(86_400);
    ///
    /// session.login("alice").await?;
    /// assert_eq!(session.user_id().as_deref(), Some("alice"));
    ///
    /// // Or with "remember me":
    /// let remember_me = Timeouts::new(14 * DAY, 90 * DAY);
    /// session.login(Login::new("alice").remember_me(remember_me)).await?;
    /// assert_eq!(session.timeouts(), Some(remember_me));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "authenticate")]
    pub async fn login(&self, login: impl Into<Login>) -> Result<(), Error> {
        identity::login(self.slot.clone(), login.into()).await
    }

    /// Logs the user out, at once: the same as [`destroy`](Self::destroy).
    ///
    /// # Errors
    ///
    /// As [`destroy`](Self::destroy).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.login("alice").await?;
    /// session.logout().await?;
    /// assert_eq!(session.user_id(), None);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "sign_out")]
    pub async fn logout(&self) -> Result<(), Error> {
        self.destroy().await
    }

    /// Ends the session, at once and for good: no id of it opens it again, whatever other requests are
    /// under way. What is set afterwards goes into a fresh session. Where nothing was loaded, the cookie
    /// that the request brought, if any, is removed from the browser all the same.
    ///
    /// # Errors
    ///
    /// [`EndingFailed`](ErrorKind::EndingFailed) if the store failed. The session may live on then, takes
    /// no more changes from this request, and the browser keeps its cookie; call it again to retry.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.insert("cart", [1, 2])?;
    /// session.save().await?;
    /// session.destroy().await?;
    /// assert!(session.is_new() && session.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "flush")]
    #[doc(alias = "purge")]
    #[doc(alias = "invalidate")]
    pub async fn destroy(&self) -> Result<(), Error> {
        identity::destroy(self.slot.clone()).await
    }

    /// Gives the session a new id when it is saved; the old one is dead from then on. For changes of
    /// privilege other than a login, which does so itself (ASVS 7.2.4).
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
    /// session.login("alice").await?;
    /// // … she proves a second factor …
    /// session.renew_id()?;
    /// session.save().await?; // or when the response is ready
    /// assert_eq!(session.user_id().as_deref(), Some("alice"));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "cycle_id")]
    #[doc(alias = "regenerate")]
    #[doc(alias = "rotate")]
    pub fn renew_id(&self) -> Result<(), Error> {
        self.slot.change(|state| {
            state.wishes.renew = true;
            Ok(())
        })
    }

    /// Who is logged in.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// assert_eq!(session.user_id(), None);
    /// session.login("alice").await?;
    /// assert_eq!(session.user_id().as_deref(), Some("alice"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn user_id(&self) -> Option<Arc<str>> {
        self.user_if(LoginProgress::Complete)
    }

    /// Who has begun to log in, where a [second factor](Login::second_factor_pending) is still to come.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// use cloakroom::Login;
    ///
    /// // … the password is right …
    /// session.login(Login::new("alice").second_factor_pending()).await?;
    /// assert_eq!(session.user_id(), None);
    /// assert_eq!(session.pending_user_id().as_deref(), Some("alice"));
    ///
    /// // … and so is the code …
    /// session.login("alice").await?;
    /// assert_eq!(session.user_id().as_deref(), Some("alice"));
    /// assert_eq!(session.pending_user_id(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn pending_user_id(&self) -> Option<Arc<str>> {
        self.user_if(LoginProgress::Pending)
    }

    fn user_if(&self, progress: LoginProgress) -> Option<Arc<str>> {
        let user = self.live(|live| {
            let user_id = live.record.user_id.clone();
            user_id.filter(|_| live.header.progress() == progress)
        });
        user.flatten()
    }

    /// When the user who is logged in was authenticated.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// assert_eq!(session.authenticated_at(), None);
    /// session.login("alice").await?;
    /// assert_eq!(session.authenticated_at(), session.created_at());
    /// # Ok(())
    /// # }
    /// ```
    pub fn authenticated_at(&self) -> Option<OffsetDateTime> {
        self.live(|live| live.header.authenticated_at.map(from_unix_millis))?
    }

    /// The session's public name, for logs and lists; `None` if it is new. It opens nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// assert_eq!(session.handle(), None);
    /// session.login("alice").await?;
    /// let handle = session.handle();
    /// session.renew_id()?;
    /// session.save().await?;
    /// assert_eq!(session.handle(), handle, "it lasts as long as the session");
    /// # Ok(())
    /// # }
    /// ```
    pub fn handle(&self) -> Option<Handle> {
        self.live(|live| *live.handle())
    }
}
