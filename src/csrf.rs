//! Cross-site request forgery: another site's page has the browser send a request, and the session's cookie
//! goes along.
//!
//! The cookie's `SameSite=Lax` keeps it off other sites' posts, but not off those of a sibling host such as
//! `blog.example.com`, nor off GET. There are two ways to be sure:
//!
//! 1. **By what the browser says of the origin.** The `csrf` layer of `tower-http` looks at
//!    `Sec-Fetch-Site` and `Origin`, needs nothing in your pages, and is enough for most apps. It goes with a
//!    [`SessionLayer`](crate::SessionLayer) in either order; outside of it, a forged request costs no load.
//!    It lets every GET pass, upgrades of WebSockets as well: guard those with a [`CsrfGuard`].
//! 2. **By a token of the session**, which this module has: in a field of each form ([`CsrfForm`]), or in a
//!    header ([`CsrfGuard`]). It is what NIST SP 800-63B-4 §5.1 asks for: "POST/PUT content SHALL contain a
//!    session identifier that the RP SHALL verify". Take it if you are bound by that, or have to serve
//!    browsers from before 2020.
//!
//! Both together do no harm.
//!
//! **What a handler behind GET changes, neither protects.** A link on any page is a GET that carries the cookie,
//! `SameSite=Lax` or not, and both the layer and [`CsrfGuard`] let it pass: if `/logout` is a GET, a link to it logs
//! out whoever follows it. So change nothing in a handler of `axum::routing::get`, nor in one of `any` for GET and
//! HEAD. Let only POST, PUT, PATCH and DELETE log in, log out and write.
//!
#![cfg_attr(
    feature = "axum",
    doc = r##"
```
use axum::{Router, http::{Request, StatusCode}, routing::post};
use cloakroom::testing::TestClient;
use cloakroom::{Session, SessionLayer, store::MemoryStore};
use tower_http::csrf::CsrfLayer;

# #[tokio::main(flavor = "current_thread")] async fn main() {
let app = Router::new()
    .route("/order", post(async |_: Session| "ordered"))
    .layer(SessionLayer::new(MemoryStore::new()))
    .layer(CsrfLayer::new());

let forged = Request::post("/order").header("sec-fetch-site", "cross-site");
let client = TestClient::new(app);
client.send(forged.body(Default::default()).unwrap()).await.assert_status(StatusCode::FORBIDDEN);
# }
```
"##
)]
//!
//! # The rules
//!
//! A request that changes something is let through:
//!
//! 1. where its id travels in a [header](crate::SessionLayerBuilder::id_header): always, see
//!    [below](#requests-that-need-no-token);
//! 2. where a session is live: if it has that session's token;
//! 3. where none is: unless the browser says that it is of another origin, see
//!    [below](#visitors-without-a-session).
//!
//! An upgrade to a WebSocket is let through by rule 1, or if the browser says that it is of this origin: a
//! script cannot add a header to it, and a token in its address would be in logs. A program that sends no
//! `Origin` and has its session in a cookie is refused there.
//!
//! "Of this origin" means `Sec-Fetch-Site: same-origin` (or `none`, for what the user began); from browsers
//! that do not send that, an `Origin` with the host and port of the request. So a proxy in front has to pass
//! `Host` on as it came.
//!
//! What is refused is answered with a 403 that does not say why, and an [event](crate::events) that does.
//!
//! # The token
//!
//! It is bound to the session, and renewed with it at a login and by
//! [`renew_id`](crate::Session::renew_id); a logout ends it. A renewal on a
//! [schedule](crate::SessionLayerBuilder::renew_ids_every) does not, so that a form may stay open for as long
//! as the session lives. Who has a form open in one tab and logs in in another one gets a 403, and has to
//! reload the form.
//!
//! Making one writes nothing: it is derived from what the record has anyhow. It is another text in each
//! response, so that compression does not give it away (BREACH); all of them are right. It is compared in
//! constant time. It opens nothing without the session's cookie, and an id cannot be found from it.
//!
//! # Visitors without a session
//!
//! A page with a form makes no session, and so no record for each visitor. The token in it is that of the
//! session which begins with that very response, if one does; otherwise it is nobody's, and not looked at:
//! as long as there is no session there is nothing of a user's to protect, but for one thing. Another site
//! could log a visitor in as somebody else, who then reads what they do (login CSRF). So a browser must not
//! say that the request is of another origin. All browsers since 2020 say it with a POST; a request that says
//! nothing is no browser's, and is let through.
//!
//! To have a token count there, too, begin the session with the form: change something of it, however
//! little. It then takes the token, and the visitor has a record.
//!
//! # Requests that need no token
//!
//! A browser adds cookies to other sites' requests by itself, and never a header such as `X-Auth-Token` or
//! `Authorization: Bearer`. Whoever sends that knows the id, and has nothing to forge.

#[cfg(feature = "axum")]
mod form;
#[cfg(feature = "axum")]
mod guard;
mod key;
#[cfg(feature = "axum")]
mod origin;
mod rejection;
mod token;

#[cfg(feature = "axum")]
pub use self::form::CsrfForm;
#[cfg(feature = "axum")]
pub use self::guard::CsrfGuard;
pub(crate) use self::key::CsrfKey;
pub use self::rejection::{CsrfRejection, CsrfRejectionKind};
pub use self::token::{CsrfToken, verify};

/// The name of the field in forms.
const FIELD: &str = "csrf_token";
