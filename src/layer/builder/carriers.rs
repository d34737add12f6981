//! What ids travel in besides the cookie, or instead of it.

use super::SessionLayerBuilder;
use crate::carrier::{Carriers, IdHeaderOptions};

impl SessionLayerBuilder {
    /// Has programs, which keep no cookies, send the session's id in a header of this name, as in
    /// `X-Auth-Token: <id>`. Browsers go on with the cookie, unless it is
    /// [switched off](Self::without_cookie). Default: none.
    ///
    /// # How a program gets its id
    ///
    /// It sends back, with each request, what this header had in the last response that had it.
    ///
    /// 1. Before the first one it sends `new`, or nothing, after the colon. That asks for a session in the
    ///    header; it makes none.
    /// 2. When a session begins, or its id is renewed, such as by a login, the header of the response has
    ///    the new id.
    /// 3. When the session is ended by the request, such as by a logout, the header of the response is
    ///    there and empty. What to send next is the same as in the beginning.
    ///
    /// # What a request with the header is
    ///
    /// 1. The header wins: whatever is in it, cookies are not looked at, and none is set. What is no id of a
    ///    live session (unknown, expired, malformed, retired) is no session, as with the cookie, and a new
    ///    one is told in the header.
    /// 2. A response has the header only if the request has it. Otherwise a script could read there the id
    ///    that `HttpOnly` keeps it from. Where there is no cookie, every request counts as one that has it.
    /// 3. An id works only by the way it was issued for: one of a cookie opens nothing when it comes in the
    ///    header, nor the other way round. The way is part of the session. The name of the header is not, so
    ///    that a new name logs nobody out.
    /// 4. Spaces around the value do not count. The header twice with one value is the header once; with
    ///    differing values there is no session.
    /// 5. A response that tells an id is `no-store`, and so is one to which a live session was read,
    ///    whatever the handler says. `Vary` names the header, and `Cookie` as well if there is one.
    /// 6. Its values are marked as sensitive, so that layers that log headers do not show them.
    ///
    /// What only concerns cookies, such as
    /// [`persistent_cookie`](crate::Session::persistent_cookie), does nothing there.
    ///
    /// # Scripts of other origins
    ///
    /// A page of another origin sends and reads the header only if your CORS layer lets it: its name has to
    /// be among the allowed request headers and among the exposed response headers
    /// (`Access-Control-Allow-Headers`, `Access-Control-Expose-Headers`). It needs no
    /// `Access-Control-Allow-Credentials`, which is about cookies. Scripts of a site of your own are better
    /// off with the cookie: a script that another one was injected into keeps no secret.
    ///
    /// ```
    /// use axum::{Router, http::Request, response::Result, routing::{get, post}};
    /// use cloakroom::testing::TestClient;
    /// use cloakroom::{Session, SessionLayer, store::MemoryStore};
    ///
    /// async fn log_in(session: Session) -> Result<()> {
    ///     Ok(session.login("alice").await?)
    /// }
    ///
    /// async fn who(session: Session) -> String {
    ///     session.user_id().as_deref().unwrap_or("nobody").to_owned()
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), cloakroom::ConfigError> {
    /// let sessions = SessionLayer::builder(MemoryStore::new()).id_header("X-Auth-Token").build()?;
    /// let app = Router::new().route("/login", post(log_in)).route("/", get(who)).layer(sessions);
    /// let client = TestClient::new(app);
    ///
    /// let request = Request::post("/login").header("x-auth-token", "new").body(Default::default()).unwrap();
    /// let response = client.send(request).await;
    /// let id = response.header("x-auth-token").unwrap();
    ///
    /// let request = Request::get("/").header("x-auth-token", id).body(Default::default()).unwrap();
    /// assert_eq!(client.send(request).await.text(), "alice");
    /// assert!(client.cookies().is_empty());
    /// # Ok(()) }
    /// ```
    pub fn id_header(self, name: impl Into<String>) -> Self {
        self.with_id_header(IdHeaderOptions::Named(name.into()))
    }

    /// Has programs send the session's id as `Authorization: Bearer <id>` (RFC 6750 §2.1). All that is said
    /// of an [`id_header`](Self::id_header) holds for it, with these differences. Default: off.
    ///
    /// The scheme is written in any case. `Authorization` with another scheme is none of ours: then the
    /// cookie counts. `Authorization: Bearer`, alone or with `new`, asks for a session. Responses tell the id
    /// in the same header, with the scheme, so that here, too, a program sends back what it got; after a
    /// logout that is `Authorization: Bearer`.
    ///
    /// Bearer tokens of somebody else, such as access tokens of OAuth, are no ids: a request with one has no
    /// session, whatever cookie it brings. Use a header of your own beside them.
    ///
    /// ```
    /// use cloakroom::{SessionLayer, store::MemoryStore};
    ///
    /// let for_programs_alone = SessionLayer::builder(MemoryStore::new())
    ///     .authorization_bearer()
    ///     .without_cookie()
    ///     .build()?;
    /// # Ok::<(), cloakroom::ConfigError>(())
    /// ```
    pub fn authorization_bearer(self) -> Self {
        self.with_id_header(IdHeaderOptions::AuthorizationBearer)
    }

    /// Sets and reads no cookie: ids travel in the [`id_header`](Self::id_header) or the
    /// [`authorization_bearer`](Self::authorization_bearer) alone, one of which it needs. What is set of the
    /// cookie then means nothing. Default: off.
    pub fn without_cookie(mut self) -> Self {
        self.without_cookie = true;
        self
    }

    /// What ids travel in; whatever is wrong with it is added to the problems.
    pub(super) fn carriers(&self, problems: &mut Vec<String>) -> Carriers {
        let cookie = match self.without_cookie {
            true => None,
            false => self.cookie.build(problems),
        };
        if self.two_id_headers {
            problems.push(
                "there are two headers for the session id: give authorization_bearer or one id_header, and \
                 not both"
                    .into(),
            );
        }
        if self.without_cookie && self.id_header.is_none() {
            problems.push(
                "without_cookie leaves no way for the session id: give authorization_bearer or an \
                 id_header, or leave it out"
                    .into(),
            );
        }
        let header = self.id_header.as_ref();
        Carriers::new(cookie, header.and_then(|header| header.build(problems)))
    }

    fn with_id_header(mut self, header: IdHeaderOptions) -> Self {
        self.two_id_headers |= self
            .id_header
            .as_ref()
            .is_some_and(|first| *first != header);
        self.id_header = Some(header);
        self
    }
}
