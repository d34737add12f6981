//! Server-side sessions for axum and tower: hand over your coat, get a ticket.
//!
//! The coat, which is the session's data, stays on the server, in a [store]. The ticket, which is a
//! random session id, goes to the client in a cookie, or to
//! [programs](SessionLayerBuilder::id_header) in a header. Add a [`SessionLayer`] to a router, and take a
//! [`Session`] in handlers:
//!
//! ```
//! # #[cfg(all(feature = "axum", feature = "memory"))] {
//! use axum::{Router, routing::get};
//! use cloakroom::{Session, SessionLayer, store::MemoryStore};
//!
//! async fn visits(session: Session) -> axum::response::Result<String> {
//!     let n = session.update("visits", |n: &mut u64| *n += 1)?; // adds up, however many requests overlap
//!     Ok(format!("visit {n}"))
//! }
//!
//! let app: Router = Router::new()
//!     .route("/", get(visits))
//!     .layer(SessionLayer::new(MemoryStore::new()));
//! # }
//! ```
//!
//! # Logging in
//!
//! ```
//! # #[cfg(feature = "axum")] mod app {
//! use axum::response::{Redirect, Result};
//! use cloakroom::Session;
//! use cloakroom::guards::RequireUser;
//!
//! async fn log_in(session: Session /* , the form */) -> Result<Redirect> {
//!     // … verify the password …
//!     session.login("alice").await?; // a new id, against session fixation
//!     Ok(Redirect::to("/account"))
//! }
//!
//! /// For users only: others are led to the `login_page` of the layer, or get a 401.
//! async fn account(RequireUser(user_id): RequireUser) -> String {
//!     format!("Hello, {user_id}")
//! }
//!
//! async fn log_out(session: Session) -> Result<Redirect> {
//!     session.logout().await?; // at once and for good, whatever other requests are under way
//!     Ok(Redirect::to("/"))
//! }
//! # }
//! ```
//!
//! How a login lives, and what other libraries call it: [docs::sessions_for_authentication]. The [guards] say more about pages for users only, about logins that have to be recent, and about the way
//! to the login page and back.
//!
//! Against other sites' requests there is [`csrf`].
//!
//! # What is promised
//!
//! 1. **Unused is free.** A request whose handler does not take the session makes no store call and sets
//!    no header. A visitor for whom nothing is written gets no cookie and no record.
//! 2. **One round trip.** Reading a session is one store call, writing it one more. Where nothing changed,
//!    nothing is written and no cookie is sent.
//! 3. **No lost update.** Changes of overlapping requests merge key by key, and closures of
//!    [`Session::update`] run again on the newest value: twenty overlapping increments add up to 20.
//! 4. **An end is final.** After a logout, an ending from elsewhere, or the expiry, no id of the session
//!    opens it again, whatever writes, renewals or logins overlap. After a login or
//!    [`Session::renew_id`], neither does the old id.
//! 5. **Clients choose nothing.** An unknown, malformed, expired or retired id is no session. A write then
//!    gets a fresh id, and no such id ever causes a write of its own.
//! 6. **The store holds nothing that opens a session**: a public [handle](store::Handle), and the SHA-256
//!    of a secret. A stolen dump logs nobody in.
//! 7. **Ids never leak.** There is no `Display`, `Serialize` or revealing `Debug` of an id. Logs and
//!    [events] carry at most the handle, and the user's id if you allow it.
//! 8. **Strict cookies.** `__Host-Http-id`, `Secure`, `HttpOnly`, `SameSite=Lax`, `Path=/` by default; what
//!    a browser would reject is an error when the layer is [built](SessionLayerBuilder::build).
//! 9. **Idle and absolute timeouts**, kept per session, enforced on the server, checked on every load. A
//!    read counts as activity.
//! 10. **Fails closed, and says so.** A store failure is a 503 to the client and an `error!` for the
//!     operator, never an empty session. A record that cannot be decoded is left in place; one of a newer
//!     version of this crate is a store failure, so that a rolling deploy logs nobody out.
//! 11. **All or nothing.** Changes of data are saved as one write when the response is ready, and not at all
//!     if the handler panics, is cancelled, or answers 5xx. Logins and endings take effect when they are
//!     awaited, and no later failure undoes them.
//! 12. **Cache-safe.** Asking for the session puts `Cookie` into `Vary` (and the header of programs, if there
//!     is one), reading a live one makes the response `private`, and a response that tells an id is `no-store`.
//! 13. **Bounded.** Sizes, numbers and times have limits, errors that name them, and
//!     [settings](SessionLayerBuilder#defaults).
//!
//! What no library can promise: responses of overlapping requests reach a browser in any order, so two
//! first visits at once may each make a session, of which the browser keeps the one whose cookie came last;
//! and if the response to a login is lost, so is that login. No id revives by it.
//!
//! # Stores
//!
//! | Store | Feature | For |
//! |---|---|---|
//! | `MemoryStore` | `memory` (default) | one process, tests; sessions end with the process |
//! | `FileStore` | `file` | one machine, several processes |
//! | `SqliteStore` | `sqlite` | one machine, next to an app's own database |
//! | `PostgresStore` | `postgres` | any number of nodes |
//! | `MySqlStore` | `mysql` | any number of nodes, on MySQL or MariaDB |
//! | `RedisStore` | `redis` | any number of nodes, on one server or a cluster, of Redis or Valkey |
//!
//! What each costs, keeps and loses: [docs::choosing_a_store]. How many servers it takes: [docs::sizing].
//!
//! A store of your own is six operations on one key: see [`store::SessionStore`], and the contract suite in
//! the `testing` module.
//!
//! # Features
//!
//! Features only add. `axum` (default) makes [`Session`] an extractor and [`Error`] a response; without it,
//! the layer works with any tower service of `http` types, and [`Session::load`] takes the extensions of a
//! request. `metrics` counts [events], and measures calls of the store. `testing` has the contract suite for stores, and a client, a clock and stores that fail, pause
//! or count for tests of apps.
//!
//! # Requirements
//!
//! A Tokio runtime with time enabled: timeouts of store calls use it, and logins, endings and contended
//! writes run in tasks of their own.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod calls;
mod carrier;
pub mod clock;
mod commit;
mod cookie;
pub mod csrf;
#[cfg(any(doc, doctest))]
pub mod docs;
mod error;
pub mod events;
#[cfg(feature = "axum")]
mod extract;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "axum")]
pub mod guards;
mod headers;
mod id;
mod layer;
mod load;
mod login;
mod random;
mod record;
pub mod service;
mod session;
mod sessions;
mod settings;
mod site_data;
mod slot;
mod state;
pub mod store;
mod sweeper;
#[cfg(feature = "testing")]
pub mod testing;
mod timeouts;

pub use crate::cookie::SameSite;
pub use crate::error::{Error, ErrorKind};
pub use crate::layer::{ConfigError, SessionLayer, SessionLayerBuilder};
pub use crate::login::Login;
pub use crate::session::{Key, KeyOf, Session};
pub use crate::sessions::{Sessions, UserSession};
pub use crate::site_data::SiteData;
pub use crate::store::SessionStore;
pub use crate::sweeper::{Sweeper, SweeperBuilder};
pub use crate::timeouts::Timeouts;

/// The examples of the README, as tests.
#[cfg(all(doctest, feature = "axum", feature = "memory", feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;
