//! The layer and its settings.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tower_layer::Layer;

use crate::clock::{Clock, SystemClock};
use crate::cookie::{CookieOptions, SameSite, SessionCookie};
use crate::events;
use crate::service::SessionService;
use crate::sessions::Sessions;
use crate::settings::{Rules, Settings};
use crate::store::SessionStore;
use crate::timeouts::{Timeouts, millis};

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
        let builder = Self::builder(store);
        let cookie = SessionCookie::default();
        builder.into_layer(cookie)
    }

    /// A layer whose settings are chosen before it is built.
    pub fn builder(store: impl SessionStore) -> SessionLayerBuilder {
        SessionLayerBuilder {
            store: Arc::new(store),
            clock: Arc::new(SystemClock),
            cookie: CookieOptions::default(),
            timeouts: Timeouts::default(),
            touch_every_read: false,
            renew_ids_every: None,
            retired_id_grace: Duration::from_secs(10),
            max_session_size: 64 * 1024,
            retry_for: Duration::from_secs(2),
            store_timeout: Duration::from_secs(5),
        }
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

/// Chooses the settings of a [`SessionLayer`].
///
/// # Defaults
///
/// | Setting | Default | Why |
/// |---|---|---|
/// | [`timeouts`](Self::timeouts) | 1 hour idle, 24 hours absolute | AAL2 of NIST SP 800-63B-4 |
/// | [`touch_every_read`](Self::touch_every_read) | off | a read is written once 1/16 of the idle timeout has passed |
/// | [`renew_ids_every`](Self::renew_ids_every) | never | a login renews the id, which is what session fixation needs |
/// | [`retired_id_grace`](Self::retired_id_grace) | 10 s | longer than requests are on their way |
/// | [`max_session_size`](Self::max_session_size) | 64 KiB | sessions hold state, not documents |
/// | [`retry_for`](Self::retry_for) | 2 s | longer than a burst of overlapping requests |
/// | [`store_timeout`](Self::store_timeout) | 5 s | a client should learn of an outage before it gives up |
/// | [`cookie_name`](Self::cookie_name) | `id`, sent as `__Host-Http-id` | says nothing of the software (OWASP) |
/// | [`same_site`](Self::same_site) | `Lax` | no cookie with another site's posts |
/// | `Secure`, `HttpOnly`, `Path=/`, no `Domain` | on | only this host, over HTTPS, out of scripts' reach |
/// | cookie lifetime | ends with the browser | until [`persistent_cookie`](crate::Session::persistent_cookie) or a login that remembers |
/// | [`max_cookie_bytes`](Self::max_cookie_bytes) | 64 KiB | more than browsers send |
/// | [`max_cookies`](Self::max_cookies) | 1,024 | more than browsers keep for a site |
///
/// ```
/// use std::time::Duration;
/// use cloakroom::{SameSite, SessionLayer, Timeouts, store::MemoryStore};
///
/// let layer = SessionLayer::builder(MemoryStore::new())
///     .timeouts(Timeouts::AAL3)
///     .same_site(SameSite::Strict)
///     .build()?;
///
/// let error = SessionLayer::builder(MemoryStore::new())
///     .cookie_name("my session")
///     .timeouts(Timeouts::new(Duration::from_secs(60), Duration::from_secs(30)))
///     .build()
///     .unwrap_err();
/// assert_eq!(error.problems().len(), 2);
/// # Ok::<(), cloakroom::ConfigError>(())
/// ```
#[derive(Debug)]
#[must_use = "call `build` to get the layer"]
pub struct SessionLayerBuilder {
    store: Arc<dyn SessionStore>,
    clock: Arc<dyn Clock>,
    cookie: CookieOptions,
    timeouts: Timeouts,
    touch_every_read: bool,
    renew_ids_every: Option<Duration>,
    retired_id_grace: Duration,
    max_session_size: usize,
    retry_for: Duration,
    store_timeout: Duration,
}

impl SessionLayerBuilder {
    /// When a session ends by itself. A session can have timeouts of its own
    /// ([`Session::set_timeouts`](crate::Session::set_timeouts)); those of existing sessions do not change
    /// with this setting. Default: [`Timeouts::AAL2`].
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Writes every read to the store, so that no session ends before its idle timeout is over. By default
    /// a read is written once 1/16 of the idle timeout has passed since the last write, so a session may
    /// end up to that much earlier.
    pub fn touch_every_read(mut self) -> Self {
        self.touch_every_read = true;
        self
    }

    /// Renews the id of a session in use whenever it is this old. The old id works until the new one is
    /// first presented, and for the [grace period](Self::retired_id_grace) more. Default: never.
    pub fn renew_ids_every(mut self, age: Duration) -> Self {
        self.renew_ids_every = Some(age);
        self
    }

    /// How long an id is known as retired. Requests that were on their way with it when the id was renewed
    /// keep their place: they neither get a new session nor set a cookie. Default: 10 seconds.
    pub fn retired_id_grace(mut self, grace: Duration) -> Self {
        self.retired_id_grace = grace;
        self
    }

    /// The bytes that a session's keys and values may take up, with 8 for each key. Default: 65,536.
    pub fn max_session_size(mut self, bytes: usize) -> Self {
        self.max_session_size = bytes;
        self
    }

    /// How long a commit is tried again when other requests change the session at the same time. Default:
    /// 2 seconds.
    pub fn retry_for(mut self, limit: Duration) -> Self {
        self.retry_for = limit;
        self
    }

    /// How long one call of the store may take; then it has failed. Default: 5 seconds.
    pub fn store_timeout(mut self, limit: Duration) -> Self {
        self.store_timeout = limit;
        self
    }

    /// The cookie's name without its prefix. The prefix follows from the attributes and is put in front:
    /// `__Host-Http-`, `__Host-`, `__Secure-` or none (RFC 6265bis §4.1.3). Default: `id`.
    pub fn cookie_name(mut self, base: impl Into<String>) -> Self {
        self.cookie.base_name = base.into();
        self
    }

    /// The domain whose hosts share the cookie, such as `example.com`. Every one of them can then read and
    /// set it. Default: none, so that only this host gets it.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.cookie.domain = Some(domain.into());
        self
    }

    /// The path that the cookie is sent to. It is no boundary between apps on one host (RFC 6265bis §8.6).
    /// Default: `/`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.cookie.path = path.into();
        self
    }

    /// Which requests of other sites carry the cookie. Default: [`SameSite::Lax`].
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.cookie.same_site = same_site;
        self
    }

    /// Keeps the cookie apart for each site that embeds this one (`Partitioned`). Goes with
    /// [`SameSite::None`]. Default: off.
    pub fn partitioned(mut self) -> Self {
        self.cookie.partitioned = true;
        self
    }

    /// Lets scripts read the cookie, so that an injected script can take the session away. Default: off.
    pub fn insecure_readable_by_scripts(mut self) -> Self {
        self.cookie.http_only = false;
        self
    }

    /// Sends the cookie over plain HTTP as well, without a prefix; building the layer then logs a warning.
    ///
    /// `http://localhost` does not need it in Chrome, Firefox and curl. Default: off.
    pub fn insecure_for_development(mut self) -> Self {
        self.cookie.secure = false;
        self
    }

    /// The bytes of `Cookie` lines that are looked at; a request with more has no session. Default: 65,536.
    pub fn max_cookie_bytes(mut self, bytes: usize) -> Self {
        self.cookie.limits.max_bytes = bytes;
        self
    }

    /// The cookies of a request that are looked at; a request with more has no session. Default: 1,024.
    pub fn max_cookies(mut self, cookies: usize) -> Self {
        self.cookie.limits.max_pairs = cookies;
        self
    }

    /// The clock by which sessions expire. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The layer of these settings.
    ///
    /// # Errors
    ///
    /// When a setting cannot be meant, or a browser would reject the cookie. The error lists every problem
    /// at once, each with what to do.
    pub fn build(self) -> Result<SessionLayer, ConfigError> {
        let mut problems = Vec::new();
        let cookie = self.cookie.build(&mut problems);
        problems.extend(self.timeouts.problem());
        self.check_limits(&mut problems);
        match cookie {
            Some(cookie) if problems.is_empty() => {
                if !self.cookie.secure {
                    events::insecure_cookie(cookie.name());
                }
                Ok(self.into_layer(cookie))
            }
            _ => Err(ConfigError { problems }),
        }
    }

    fn check_limits(&self, problems: &mut Vec<String>) {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        const LARGEST_SESSION: usize = 16 * 1024 * 1024;
        if self.renew_ids_every.is_some_and(|age| millis(age) == 0) {
            problems.push(
                "renew_ids_every is zero: give the age at which an id is renewed, or leave it out"
                    .into(),
            );
        }
        if self.retired_id_grace > DAY {
            problems.push(format!(
                "a retired_id_grace of {:?} is longer than a day: give the time that requests may be on \
                 their way, such as 10 seconds",
                self.retired_id_grace
            ));
        }
        if !(1..=LARGEST_SESSION).contains(&self.max_session_size) {
            problems.push(format!(
                "a max_session_size of {} bytes is not between 1 byte and 16 MiB: keep large data \
                 elsewhere, and its key in the session",
                self.max_session_size
            ));
        }
        if self.store_timeout.is_zero() || self.store_timeout > DAY {
            problems.push(format!(
                "a store_timeout of {:?} is zero or longer than a day: give the time that one call may \
                 take, such as 5 seconds",
                self.store_timeout
            ));
        }
        if self.retry_for > DAY {
            problems.push(format!(
                "a retry_for of {:?} is longer than a day: give the time that a response may wait, such \
                 as 2 seconds",
                self.retry_for
            ));
        }
    }

    fn into_layer(self, cookie: SessionCookie) -> SessionLayer {
        let settings = Settings {
            store: self.store,
            clock: self.clock,
            cookie,
            rules: Rules {
                timeouts: self.timeouts,
                touch_every_read: self.touch_every_read,
                renew_after: self.renew_ids_every.map(millis),
                retired_grace: millis(self.retired_id_grace),
                max_size: self.max_session_size,
            },
            retry_for: self.retry_for,
            store_timeout: self.store_timeout,
            warned_of_nesting: AtomicBool::new(false),
        };
        SessionLayer {
            settings: Arc::new(settings),
        }
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
