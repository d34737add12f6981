//! The layer that gives requests their sessions.

use std::fmt;
use std::sync::Arc;

use tower_layer::Layer;

use crate::carrier::Carriers;
use crate::service::SessionService;
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::store::SessionStore;

mod builder;

pub use self::builder::SessionLayerBuilder;

/// Gives the requests of a service their sessions.
///
/// [`new`](Self::new) takes the defaults, [`builder`](Self::builder) lets you choose. A clone shares the
/// settings and the store.
///
/// In axum, `Router::layer` wraps the routes that were added before it. The layer added last is the
/// outermost; put this one outside of every layer that uses the session.
///
/// ```
/// use axum::{Router, routing::get};
/// use cloakroom::{Session, SessionLayer, store::MemoryStore};
///
/// async fn visits(session: Session) -> axum::response::Result<String> {
///     let n = session.update("visits", |n: &mut u64| *n += 1)?;
///     Ok(format!("visit {n}"))
/// }
///
/// let app: Router = Router::new()
///     .route("/", get(visits))
///     .layer(SessionLayer::new(MemoryStore::new()));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is added to a service"]
pub struct SessionLayer {
    settings: Arc<Settings>,
}

impl SessionLayer {
    /// A layer with the [defaults](SessionLayerBuilder#defaults), which keeps its sessions in this store.
    pub fn new(store: impl SessionStore) -> Self {
        Self::builder(store).into_layer(Carriers::default())
    }

    /// A layer whose settings are chosen before it is built.
    pub fn builder(store: impl SessionStore) -> SessionLayerBuilder {
        SessionLayerBuilder::new(Arc::new(store))
    }

    #[cfg(feature = "testing")]
    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The sessions of this layer, for work outside a request.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(self.settings.clone())
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService::new(inner, self.settings.clone())
    }
}

/// The settings of a layer do not go together. It lists every problem, each with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// The problems, a sentence each; at least one.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session layer cannot be built: ")?;
        f.write_str(&self.problems.join("; "))
    }
}

impl std::error::Error for ConfigError {}
