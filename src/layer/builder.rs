//! The settings of a layer, and what they must be.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::{ConfigError, SessionLayer};
use crate::carrier::{Carriers, IdHeaderOptions};
use crate::clock::{Clock, SystemClock};
use crate::cookie::{CookieOptions, SameSite};
use crate::events::{Event, Reporter, notices};
#[cfg(feature = "axum")]
use crate::guards::LocalPath;
use crate::settings::{Rules, Settings};
use crate::site_data::SiteData;
use crate::store::{SessionLimit, SessionStore};
use crate::timeouts::{Timeouts, millis};

mod carriers;

/// Chooses the settings of a [`SessionLayer`].
///
/// # Defaults
///
/// | Setting | Default | Why |
/// |---|---|---|
/// | [`timeouts`](Self::timeouts) | 1 hour idle, 24 hours absolute | AAL2 of NIST SP 800-63B-4 |
/// | [`touch_every_read`](Self::touch_every_read) | off | a read is written once 1/16 of the idle timeout has passed |
/// | [`renew_ids_every`](Self::renew_ids_every) | never | a login renews the id, which is what session fixation needs |
/// | [`end_session_on_copied_id`](Self::end_session_on_copied_id) | off | it logs the user out together with whoever has the copy |
/// | [`retired_id_grace`](Self::retired_id_grace) | 10 s | longer than requests are on their way |
/// | [`max_session_size`](Self::max_session_size) | 64 KiB | sessions hold state, not documents |
/// | [`retry_for`](Self::retry_for) | 2 s | longer than a burst of overlapping requests |
/// | [`store_timeout`](Self::store_timeout) | 5 s | a client should learn of an outage before it gives up |
/// | [`limit_sessions_per_user`](Self::limit_sessions_per_user) | none | people have phones, tablets and laptops |
/// | [`cookie_name`](Self::cookie_name) | `id`, sent as `__Host-Http-id` | says nothing of the software (OWASP) |
/// | [`same_site`](Self::same_site) | `Lax` | no cookie with another site's posts |
/// | `Secure`, `HttpOnly`, `Path=/`, no `Domain` | on | only this host, over HTTPS, out of scripts' reach |
/// | cookie lifetime | ends with the browser | until [`persistent_cookie`](crate::Session::persistent_cookie) or a login that remembers |
/// | [`id_header`](Self::id_header), [`authorization_bearer`](Self::authorization_bearer) | none | browsers keep cookies, and scripts cannot read ours |
/// | `login_page` (feature `axum`) | none | where it is, only the app knows; without one, guards answer 401 and 403 |
/// | [`clear_site_data_at_logout`](Self::clear_site_data_at_logout) | nothing | it goes beyond the session |
/// | [`max_cookie_bytes`](Self::max_cookie_bytes) | 64 KiB | more than browsers send |
/// | [`max_cookies`](Self::max_cookies) | 1,024 | more than browsers keep for a site |
/// | [`on_event`](Self::on_event) | none | the log tells all |
/// | [`user_ids_in_events`](Self::user_ids_in_events) | off | they are personal data |
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
    without_cookie: bool,
    id_header: Option<IdHeaderOptions>,
    two_id_headers: bool,
    timeouts: Timeouts,
    touch_every_read: bool,
    renew_ids_every: Option<Duration>,
    retired_id_grace: Duration,
    max_session_size: usize,
    retry_for: Duration,
    store_timeout: Duration,
    session_limit: Option<SessionLimit>,
    end_session_on_copied_id: bool,
    events: Reporter,
    #[cfg(feature = "axum")]
    login_page: Option<Result<LocalPath, String>>,
    clear_site_data: Option<Vec<SiteData>>,
}

impl SessionLayerBuilder {
    pub(super) fn new(store: Arc<dyn SessionStore>) -> Self {
        Self {
            store,
            clock: Arc::new(SystemClock),
            cookie: CookieOptions::default(),
            without_cookie: false,
            id_header: None,
            two_id_headers: false,
            timeouts: Timeouts::default(),
            touch_every_read: false,
            renew_ids_every: None,
            retired_id_grace: Duration::from_secs(10),
            max_session_size: 64 * 1024,
            retry_for: Duration::from_secs(2),
            store_timeout: Duration::from_secs(5),
            session_limit: None,
            end_session_on_copied_id: false,
            events: Reporter::default(),
            #[cfg(feature = "axum")]
            login_page: None,
            clear_site_data: None,
        }
    }

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

    /// Ends a session when a copy of its id is in use: when an id comes that was renewed on a
    /// [schedule](Self::renew_ids_every), though its successor has been in use for longer than the
    /// [grace period](Self::retired_id_grace). One of the two parties is not the user, and which one cannot
    /// be told, so both lose it. Needs `renew_ids_every`. Default: off; the
    /// [event](crate::events::EventKind::CopyInUse) tells of it either way.
    ///
    /// A lost response, overlapping requests, and an id that a login has retired never end a session. What
    /// may is a browser that comes back with cookies from before a crash, or a response with a new id that
    /// is on its way for longer than `renew_ids_every`: make that much longer than any response takes.
    ///
    /// If the store fails to end it, the request is an error
    /// ([`EndingFailed`](crate::ErrorKind::EndingFailed), 503), and the next use of the copy tries again.
    /// Until then the session lives on under its current id, and the copy opens nothing.
    pub fn end_session_on_copied_id(mut self) -> Self {
        self.end_session_on_copied_id = true;
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

    /// How many sessions a user may be logged in with at once, and what becomes of a login that would be
    /// one more. Exact also where logins come at the same time. Needs a store with a
    /// [user index](crate::store::UserIndex). Default: any number.
    pub fn limit_sessions_per_user(mut self, limit: SessionLimit) -> Self {
        self.session_limit = Some(limit);
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

    /// Calls this with each [event](crate::events), such as for an audit trail. It must not block; a panic of
    /// it is logged, and changes nothing. A second call replaces the first. Default: none.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use cloakroom::events::{Event, EventKind};
    /// use cloakroom::{SessionLayer, store::MemoryStore};
    ///
    /// let copies = Arc::new(AtomicU64::new(0));
    /// let counted = Arc::clone(&copies);
    /// let layer = SessionLayer::builder(MemoryStore::new())
    ///     .on_event(move |event: &Event<'_>| {
    ///         if event.kind() == EventKind::CopyInUse {
    ///             counted.fetch_add(1, Ordering::Relaxed);
    ///         }
    ///     })
    ///     .build()?;
    /// assert_eq!(copies.load(Ordering::Relaxed), 0);
    /// # Ok::<(), cloakroom::ConfigError>(())
    /// ```
    pub fn on_event(mut self, callback: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.events.callback = Some(Arc::new(callback));
        self
    }

    /// Puts user ids into [events](crate::events): into the log, and into what a callback gets. Default: off,
    /// since they are personal data.
    pub fn user_ids_in_events(mut self) -> Self {
        self.events.user_ids = true;
        self
    }

    /// The page with the login form, to which the [guards](crate::guards) lead browsers that nobody is logged
    /// in with, such as `/login`: the path that a browser asks for, whatever routers are nested. It may have
    /// a query, to which `next` is added. Default: none, so that guards answer 401 and 403.
    ///
    /// ```
    /// use cloakroom::{SessionLayer, store::MemoryStore};
    ///
    /// let builder = || SessionLayer::builder(MemoryStore::new());
    /// assert!(builder().login_page("/login").build().is_ok());
    /// assert!(builder().login_page("https://example.com/login").build().is_err());
    /// ```
    #[cfg(feature = "axum")]
    pub fn login_page(mut self, path: impl Into<String>) -> Self {
        self.login_page = Some(login_page(path.into()));
        self
    }

    /// What the browser throws away with the session: at a logout, or another ending by the request itself,
    /// the response has `Clear-Site-Data` besides the cookie's removal (W3C Clear Site Data; OWASP ASVS 5.0
    /// 14.3.1). There is none where the ending failed, where another request ended the session, or where a
    /// new session begins in the same request; and one that the handler set itself stays as it is.
    ///
    /// Default: nothing, since it goes beyond the session: [`SiteData::Cookies`] clears the cookies of all
    /// other hosts of the domain, too, `example.com` and `shop.example.com` for `app.example.com`. Browsers
    /// heed it over HTTPS only, may take seconds for a large cache, and not all know it: what must not stay
    /// has to be `no-store` in the first place.
    ///
    /// ```
    /// use cloakroom::{SessionLayer, SiteData, store::MemoryStore};
    ///
    /// let layer = SessionLayer::builder(MemoryStore::new())
    ///     .clear_site_data_at_logout([SiteData::Cache, SiteData::Storage])
    ///     .build()?;
    /// # Ok::<(), cloakroom::ConfigError>(())
    /// ```
    pub fn clear_site_data_at_logout(mut self, data: impl IntoIterator<Item = SiteData>) -> Self {
        self.clear_site_data = Some(data.into_iter().collect());
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
        let carriers = self.carriers(&mut problems);
        problems.extend(self.timeouts.problem());
        self.check_limits(&mut problems);
        self.check_site_data(&mut problems);
        #[cfg(feature = "axum")]
        if let Some(Err(problem)) = &self.login_page {
            problems.push(problem.clone());
        }
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        if let Some(cookie) = carriers.cookie()
            && !self.cookie.secure
        {
            notices::insecure_cookie(cookie.name());
        }
        Ok(self.into_layer(carriers))
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
        if self.end_session_on_copied_id && self.renew_ids_every.is_none() {
            problems.push(
                "end_session_on_copied_id without renew_ids_every: a copy is noticed only where ids are \
                 renewed on a schedule, so give the age at which they are"
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
        match self.session_limit {
            Some(SessionLimit::EndOldest(0) | SessionLimit::RefuseLogin(0)) => problems.push(
                "limit_sessions_per_user is zero, so nobody could log in: give 1 or more, or leave it out"
                    .into(),
            ),
            Some(_) if self.store.user_index().is_none() => problems.push(
                "limit_sessions_per_user needs a store that keeps sessions by user \
                 (SessionStore::user_index): use one, or leave the limit out"
                    .into(),
            ),
            _ => {}
        }
        if self.retry_for > DAY {
            problems.push(format!(
                "a retry_for of {:?} is longer than a day: give the time that a response may wait, such \
                 as 2 seconds",
                self.retry_for
            ));
        }
    }

    fn check_site_data(&self, problems: &mut Vec<String>) {
        if self.clear_site_data.as_ref().is_some_and(Vec::is_empty) {
            problems.push(
                "clear_site_data_at_logout names nothing to clear: give what the browser is to throw away, \
                 or leave it out"
                    .into(),
            );
        }
    }

    pub(super) fn into_layer(self, carriers: Carriers) -> SessionLayer {
        let settings = Settings {
            store: self.store,
            clock: self.clock,
            carriers,
            rules: Rules {
                timeouts: self.timeouts,
                touch_every_read: self.touch_every_read,
                renew_after: self.renew_ids_every.map(millis),
                retired_grace: millis(self.retired_id_grace),
                max_size: self.max_session_size,
            },
            #[cfg(feature = "axum")]
            login_page: self.login_page.and_then(Result::ok),
            clear_site_data: self.clear_site_data.as_deref().and_then(SiteData::header),
            retry_for: self.retry_for,
            store_timeout: self.store_timeout,
            session_limit: self.session_limit,
            events: self.events,
            end_on_copied_id: self.end_session_on_copied_id,
            warned_of_nesting: AtomicBool::new(false),
        };
        SessionLayer {
            settings: Arc::new(settings),
        }
    }
}

/// A page for guards to lead to, or what is wrong with it.
#[cfg(feature = "axum")]
fn login_page(path: String) -> Result<LocalPath, String> {
    let page: LocalPath = path.parse().map_err(|error| {
        format!("the login_page {path:?} cannot be led to: {error}; give a path such as \"/login\"")
    })?;
    if page.has_next() {
        return Err(format!(
            "the login_page {path:?} has a `next` in its query, which the guards add: leave it out"
        ));
    }
    Ok(page)
}
