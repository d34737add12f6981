//! Sessions from outside a request.

use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::events;
use crate::settings::Settings;
use crate::store::Handle;

/// The sessions of a layer, for work outside a request: a command line, a websocket, an admin's page.
///
/// Made by [`SessionLayer::sessions`](crate::SessionLayer::sessions). A clone is cheap.
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
            events::ended(handle);
        }
        Ok(ended)
    }
}
