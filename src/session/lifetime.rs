//! How long a session lasts, and its cookie.

use time::OffsetDateTime;

use super::Session;
use crate::error::{Error, ErrorKind};
use crate::timeouts::Timeouts;

impl Session {
    /// Gives this session timeouts of its own, which its later writes keep.
    ///
    /// The absolute one counts from when the session began, or its user last logged in; where that is
    /// longer ago, the session ends with this request.
    ///
    /// # Errors
    ///
    /// [`InvalidTimeouts`](ErrorKind::InvalidTimeouts) if they cannot be meant.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// use std::time::Duration;
    /// use cloakroom::{ErrorKind, Timeouts};
    ///
    /// let short = Timeouts::new(Duration::from_secs(60), Duration::from_secs(600));
    /// session.insert("kiosk", true)?;
    /// session.set_timeouts(short)?;
    /// session.save().await?;
    /// assert_eq!(session.timeouts(), Some(short));
    ///
    /// let error = session.set_timeouts(Timeouts::without_idle(Duration::ZERO)).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidTimeouts);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.insert("theme", "dark")?;
    /// session.persistent_cookie()?; // the response sets it with `Max-Age`
    /// # session.save().await?;
    /// # assert!(!session.is_new());
    /// # Ok(())
    /// # }
    /// ```
    pub fn persistent_cookie(&self) -> Result<(), Error> {
        self.slot.change(|state| {
            state.wishes.persistent_cookie = true;
            Ok(())
        })
    }

    /// Does not count this request as activity: for a page that polls, which would otherwise keep a
    /// session alive that nobody is using.
    ///
    /// It had better only read: where it changes a value, it writes the expiry that it loaded, and so undoes
    /// the activity of a read that overlaps with it, until the next one.
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
    /// let expires_at = session.expires_at();
    /// session.do_not_extend()?;
    /// session.insert("polled", true)?;
    /// session.save().await?;
    /// assert_eq!(session.expires_at(), expires_at);
    /// # Ok(())
    /// # }
    /// ```
    pub fn do_not_extend(&self) -> Result<(), Error> {
        self.slot.change(|state| {
            state.wishes.do_not_extend = true;
            Ok(())
        })
    }

    /// The session's timeouts, as they were last saved; `None` if it is new.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.login("alice").await?;
    /// assert_eq!(session.timeouts(), Some(cloakroom::Timeouts::AAL2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeouts(&self) -> Option<Timeouts> {
        self.live(|live| live.header.timeouts)
    }

    /// When the session was created; `None` if it is new.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// assert_eq!(session.created_at(), None);
    /// session.login("alice").await?;
    /// assert!(session.created_at() < session.expires_at());
    /// # Ok(())
    /// # }
    /// ```
    pub fn created_at(&self) -> Option<OffsetDateTime> {
        self.live(|live| live.record.created_at)
    }

    /// When the session ends if there is no more activity, as it was last saved; `None` if it is new.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// session.login("alice").await?;
    /// let idle = session.expires_at().zip(session.created_at()).map(|(end, start)| end - start);
    /// assert_eq!(idle, Some(time::Duration::HOUR));
    /// # Ok(())
    /// # }
    /// ```
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        self.live(|live| live.record.expires_at)
    }
}
