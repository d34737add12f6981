//! Who logs in, and how.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::store::LoginProgress;
use crate::timeouts::Timeouts;

const MAX_USER_ID: usize = 255;
const MAX_LABEL: usize = 255;

/// A login: who it is, for how long, and what to call it.
///
/// A plain user id converts into one, so that `session.login("alice").await?` is enough.
///
/// ```
/// use std::time::Duration;
/// use cloakroom::{Login, Timeouts};
///
/// const DAY: Duration = Duration::from_secs(86_400);
///
/// let login = Login::new("alice")
///     .remember_me(Timeouts::new(14 * DAY, 90 * DAY))
///     .label("Firefox on Linux");
/// ```
#[derive(Clone)]
pub struct Login {
    user_id: Arc<str>,
    timeouts: Option<Timeouts>,
    forget_me: bool,
    label: Option<Arc<str>>,
    progress: LoginProgress,
}

impl Login {
    /// A login of this user: 1 to 255 bytes, by which your program knows them.
    pub fn new(user_id: impl Into<Arc<str>>) -> Self {
        Self {
            user_id: user_id.into(),
            timeouts: None,
            forget_me: false,
            label: None,
            progress: LoginProgress::Complete,
        }
    }

    /// Gives the session timeouts of its own, and a cookie that outlives the browser.
    ///
    /// Without it the layer's timeouts hold, and the cookie ends with the browser; but where the same user
    /// logs in again on a session of theirs, that keeps the timeouts and the cookie that it has: who proves
    /// the password before a payment is not forgotten for it. [`forget_me`](Self::forget_me) says otherwise.
    pub fn remember_me(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = Some(timeouts);
        self.forget_me = false;
        self
    }

    /// Takes back an earlier `remember_me` of the session: from this login on the layer's timeouts hold, and
    /// the cookie ends with the browser. For a login form whose box "remember me" was left empty.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloakroom::Error> {
    /// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
    /// # let session = cloakroom::testing::new_session(&layer);
    /// use cloakroom::{Login, Timeouts};
    ///
    /// session.login(Login::new("alice").remember_me(Timeouts::AAL1)).await?;
    /// session.login("alice").await?; // the password again, before a payment
    /// assert_eq!(session.timeouts(), Some(Timeouts::AAL1));
    /// session.login(Login::new("alice").forget_me()).await?;
    /// assert_eq!(session.timeouts(), Some(Timeouts::AAL2)); // those of the layer
    /// # Ok(())
    /// # }
    /// ```
    pub fn forget_me(mut self) -> Self {
        self.timeouts = None;
        self.forget_me = true;
        self
    }

    /// What to call this session in a list of the user's devices: at most 255 bytes, empty for nothing.
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Says that a second factor is still to come: nobody is
    /// [logged in](crate::Session::user_id) yet, but [`Session::pending_user_id`](crate::Session::pending_user_id)
    /// says who has come this far. Complete it with a second `login`, or end it with a logout.
    ///
    /// It is on the list of the user's sessions to be ended with them, so that a password which was changed
    /// meanwhile is good for nothing; it is in no list that is shown, and counts for no limit.
    pub fn second_factor_pending(mut self) -> Self {
        self.progress = LoginProgress::Pending;
        self
    }

    pub(crate) fn progress(&self) -> LoginProgress {
        self.progress
    }

    pub(crate) fn user_id(&self) -> &Arc<str> {
        &self.user_id
    }

    pub(crate) fn timeouts(&self) -> Option<Timeouts> {
        self.timeouts
    }

    pub(crate) fn forgets(&self) -> bool {
        self.forget_me
    }

    pub(crate) fn label_text(&self) -> Option<&Arc<str>> {
        self.label.as_ref()
    }

    /// Whether this login can be meant.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |message| Err(Error::new(ErrorKind::InvalidLogin, message));
        if self.user_id.is_empty() {
            return invalid(
                "the user id of the login is empty: give the id of the user who was verified"
                    .into(),
            );
        }
        if self.user_id.contains('\0') {
            return invalid(
                "the user id of the login contains a NUL character, which databases cannot keep: \
                 leave it out"
                    .into(),
            );
        }
        if self.user_id.len() > MAX_USER_ID {
            return invalid(format!(
                "the user id of the login is {} bytes long, more than {MAX_USER_ID}: use a shorter id",
                self.user_id.len()
            ));
        }
        match &self.label {
            Some(label) if label.len() > MAX_LABEL => {
                return invalid(format!(
                    "the label of the login is {} bytes long, more than {MAX_LABEL}: shorten it",
                    label.len()
                ));
            }
            _ => {}
        }
        match self.timeouts.and_then(|timeouts| timeouts.problem()) {
            Some(problem) => Err(Error::new(ErrorKind::InvalidTimeouts, problem)),
            None => Ok(()),
        }
    }
}

/// Says nothing of the user, so that a login can be logged.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

impl<T: Into<Arc<str>>> From<T> for Login {
    fn from(user_id: T) -> Self {
        Self::new(user_id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_login_that_cannot_be_meant_says_so() {
        let long = "x".repeat(256);
        for (login, kind, says) in [
            (
                Login::new(""),
                ErrorKind::InvalidLogin,
                "user id of the login is empty",
            ),
            (
                Login::new("a\0b"),
                ErrorKind::InvalidLogin,
                "contains a NUL",
            ),
            (
                Login::new(long.clone()),
                ErrorKind::InvalidLogin,
                "256 bytes long",
            ),
            (
                Login::new("a").label(long.clone()),
                ErrorKind::InvalidLogin,
                "label of the login is 256",
            ),
            (
                Login::new("a").remember_me(Timeouts::without_idle(Duration::ZERO)),
                ErrorKind::InvalidTimeouts,
                "absolute timeout is zero",
            ),
        ] {
            let error = login.check().unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(says), "{error}");
        }
        assert!(
            Login::new("x".repeat(255))
                .label("x".repeat(255))
                .check()
                .is_ok()
        );
    }

    #[test]
    fn strings_are_logins() {
        for login in [Login::from("a"), Login::from("a".to_owned())] {
            assert_eq!(&**login.user_id(), "a");
        }
    }
}
