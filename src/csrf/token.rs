//! The token as an app puts it into its pages.

use std::fmt;

use super::key::TOKEN_CHARS;
use super::{CsrfKey, CsrfRejection, FIELD};
use crate::error::Error;
use crate::events::CsrfRefusal;
use crate::session::Session;

/// The token of a session, masked anew: for a hidden field of a form, or for scripts to send in
/// `X-CSRF-Token`.
///
/// In axum it is an extractor. It costs the load of the session, which it shares with the handler's own
/// [`Session`], and no write: a visitor without a session gets none by it. It displays as the text to send,
/// which is 64 characters that need no escaping in HTML, in a header, or in an address.
///
/// A login and [`renew_id`](Session::renew_id) end the tokens from before. A handler that does so, and then
/// renders a form, takes its token [of the session](Self::of) after that.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), cloakroom::Error> {
/// # let layer = cloakroom::SessionLayer::new(cloakroom::store::MemoryStore::new());
/// # let session = cloakroom::testing::new_session(&layer);
/// use cloakroom::csrf::{self, CsrfToken};
///
/// session.login("alice").await?;
/// let token = CsrfToken::of(&session)?;
/// assert!(token.hidden_field().starts_with(r#"<input type="hidden" name="csrf_token" value=""#));
/// assert!(csrf::verify(&session, &token.to_string()).is_ok());
///
/// session.login("alice").await?;
/// assert!(csrf::verify(&session, &token.to_string()).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CsrfToken([u8; TOKEN_CHARS]);

impl CsrfToken {
    /// The token of this session as it will be once the response is ready: also of one that begins with this
    /// request, or is renewed by it.
    ///
    /// # Errors
    ///
    /// When the random source fails.
    pub fn of(session: &Session) -> Result<Self, Error> {
        let key = session.csrf_key_to_come(CsrfKey::generate)?;
        Ok(Self(key.masked_token()))
    }

    /// `<input type="hidden" name="csrf_token" value="…">`, to be put into a form as it stands.
    pub fn hidden_field(&self) -> String {
        format!(r#"<input type="hidden" name="{FIELD}" value="{self}">"#)
    }
}

impl fmt::Display for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

/// Without the token: it is for pages, and not for logs.
impl fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CsrfToken(redacted)")
    }
}

/// Whether this is a token of the session: for tokens that come in a way of the app's own, such as a part of
/// a multipart form, a member of a JSON body, or the first message of a WebSocket.
///
/// It is compared in constant time. Where the id travels in a [header](super#requests-that-need-no-token),
/// none is needed, and any is right.
///
/// # Errors
///
/// When it is not. Where there is no live session there is no right one.
pub fn verify(session: &Session, token: &str) -> Result<(), CsrfRejection> {
    if session.is_carried_by_header()
        || session
            .csrf_key()
            .is_some_and(|key| key.opens_to(token.as_bytes()))
    {
        return Ok(());
    }
    Err(CsrfRejection::refused(CsrfRefusal::WrongToken, session))
}
