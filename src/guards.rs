//! Guards: handlers and routes that are for users who are logged in.
//!
//! A guard is an extractor. A handler that takes one runs only for those whom the guard lets through, and
//! with [`axum::middleware::from_extractor`] it guards any number of routes as a layer. It costs the one
//! load of the session, which it shares with every other guard of the request and with the handler's own
//! [`Session`](crate::Session).
//!
//! | Guard | Lets through |
//! |---|---|
//! | [`RequireUser<T>`] | who is logged in |
//! | [`Option<RequireUser<T>>`](RequireUser#pages-for-everybody) | everybody, and says who is logged in |
//! | [`RequireFreshLogin<MINUTES, T>`](RequireFreshLogin) | who logged in less than so many minutes ago |
//!
//! # Who gets which answer
//!
//! 1. The session could not be loaded: the answer of [`Error`](crate::Error), which is 503 if the store
//!    failed, and 500 if there is no [`SessionLayer`](crate::SessionLayer) around. It never counts as «not
//!    logged in».
//! 2. **A browser that goes to a page** is led to the
//!    [login page](crate::SessionLayerBuilder::login_page) with a 303, and `?next=` says where it wanted
//!    to go. These are GET and HEAD requests that accept `text/html`; where the browser sends
//!    `Sec-Fetch-Mode`, which all current ones do over HTTPS, it has to be `navigate`.
//! 3. **A browser that sends a form** (a POST of that kind) is led there, too. The post is not replayed:
//!    `next` is the page that the form was on, if the browser says that it was one of this site's
//!    (`Sec-Fetch-Site: same-origin`, and a `Referer`). Otherwise there is no `next`.
//! 4. **Everybody else** (scripts, apps, WebSockets, and browsers where no login page is set) gets a
//!    status:
//!
//! | Status | Says | What helps |
//! |---|---|---|
//! | 401 | nobody is logged in (RFC 9110 §15.5.2) | to log in |
//! | 403 with `error="insufficient_user_authentication"` | the user is known, but logged in too long ago | to log in again |
//! | 403 of your own | the user is known, and must not do this | nothing |
//!
//! A 401 has to come with a challenge (RFC 9110 §11.6.1). There is no registered scheme for a login by form
//! and cookie, so it is `WWW-Authenticate: Session`; browsers do not know it, and show no password dialog.
//! Where the login is too old, the challenge has the parameters of RFC 9470, `error` and `max_age` in
//! seconds. The RFC sends them with a 401, for access tokens. Here it is 403, since clients commonly take a
//! 401 for the end of the session, which it is not.
//!
//! Every one of these answers is `no-store` and varies by what the id travels in: no cache gives it to somebody else, nor
//! to the same browser after its login.
//!
//! # Leading back
//!
//! The login page finds out by [`ReturnTo`] where the user wanted to go. Whatever stands in the query, that
//! is a [`LocalPath`], which no browser takes for another site, or nothing. A form without `action` posts to
//! its own address, so that the query is there again when the password is verified:
//!
//! ```
//! use axum::response::{Html, Redirect, Result};
//! use axum::routing::get;
//! use axum::{Router, http::StatusCode};
//! use cloakroom::guards::{RequireUser, ReturnTo};
//! use cloakroom::testing::TestClient;
//! use cloakroom::{Session, SessionLayer, store::MemoryStore};
//!
//! async fn account(RequireUser(user_id): RequireUser) -> String {
//!     format!("Hello, {user_id}")
//! }
//!
//! async fn login_form() -> Html<&'static str> {
//!     Html(r#"<form method="post">…</form>"#)
//! }
//!
//! async fn log_in(session: Session, ReturnTo(next): ReturnTo) -> Result<Redirect> {
//!     // … verify the password …
//!     session.login("alice").await?;
//!     Ok(next.unwrap_or_default().redirect())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cloakroom::ConfigError> {
//! let sessions = SessionLayer::builder(MemoryStore::new()).login_page("/login").build()?;
//! let app = Router::new()
//!     .route("/account", get(account))
//!     .route("/login", get(login_form).post(log_in))
//!     .layer(sessions);
//!
//! let client = TestClient::new(app);
//! # let visit = |path: &str| axum::http::Request::get(path).header("accept", "text/html").body(Default::default()).unwrap();
//! let response = client.send(visit("/account?tab=2")).await.assert_status(StatusCode::SEE_OTHER);
//! assert_eq!(response.header("location"), Some("/login?next=/account%3Ftab%3D2"));
//!
//! let response = client.post("/login?next=/account%3Ftab%3D2").await;
//! assert_eq!(response.header("location"), Some("/account?tab=2"));
//! assert_eq!(client.get("/account?tab=2").await.text(), "Hello, alice");
//!
//! let response = client.post("/login?next=//evil.example").await;
//! assert_eq!(response.header("location"), Some("/"));
//! # Ok(()) }
//! ```
//!
//! The login page has to show its form to those who are logged in as well: [`RequireFreshLogin`] leads them
//! there, and a login page that sends them back at once sends them round in circles. For the same reason a
//! guard never leads from the login page to itself, and `next` never names it.
//!
//! # As layers
//!
//! The guard goes inside of the [`SessionLayer`](crate::SessionLayer), so it is added before that:
//!
//! ```
//! use axum::middleware::from_extractor;
//! use axum::{Router, http::StatusCode, routing::get};
//! use cloakroom::guards::RequireUser;
//! use cloakroom::testing::TestClient;
//! use cloakroom::{SessionLayer, store::MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let app = Router::new()
//!     .route("/reports", get("for users only"))
//!     .route_layer(from_extractor::<RequireUser>())
//!     .route("/about", get("for everybody"))
//!     .layer(SessionLayer::new(MemoryStore::new()));
//!
//! let client = TestClient::new(app);
//! client.get("/reports").await.assert_status(StatusCode::UNAUTHORIZED);
//! client.get("/about").await.assert_status(StatusCode::OK);
//! # }
//! ```
//!
//! # Pages of your own
//!
//! A handler that takes `Result<RequireUser, GuardRejection>` answers as it likes; and for a whole app, one
//! outer `map_response` finds the [`GuardRejection`] in the extensions of the response.

mod fresh_login;
mod local_path;
mod page;
mod rejection;
mod return_to;
mod user;

pub use self::fresh_login::RequireFreshLogin;
pub use self::local_path::{InvalidLocalPath, LocalPath};
pub use self::rejection::{GuardRejection, GuardRejectionKind};
pub use self::return_to::ReturnTo;
pub use self::user::RequireUser;
