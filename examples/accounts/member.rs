//! Who may see a page.

use axum::RequestPartsExt;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use cloakroom::Session;
use cloakroom::guards::RequireUser;

use super::users::{User, Users};

/// A user who is logged in. A handler that takes this is for them only: everybody else is led to the login
/// page, and back from there.
pub(crate) struct Member {
    pub(crate) user: User,
    /// The same session that a handler gets which takes `Session`: it is loaded once.
    pub(crate) session: Session,
}

impl FromRequestParts<Users> for Member {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, users: &Users) -> Result<Self, Response> {
        let user = parts.extract::<RequireUser<i64>>().await;
        let RequireUser(id) = user.map_err(IntoResponse::into_response)?;
        let member = member(parts, users, id).await?;
        member.ok_or_else(|| Redirect::to("/login").into_response())
    }
}

/// `None` where nobody is logged in.
impl OptionalFromRequestParts<Users> for Member {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        users: &Users,
    ) -> Result<Option<Self>, Response> {
        let user = parts.extract::<Option<RequireUser<i64>>>().await;
        match user.map_err(IntoResponse::into_response)? {
            Some(RequireUser(id)) => member(parts, users, id).await,
            None => Ok(None),
        }
    }
}

/// The session says who it is, and the table whether they are still a user: an account may be deleted while
/// the sessions cannot be ended.
async fn member(parts: &Parts, users: &Users, id: i64) -> Result<Option<Member>, Response> {
    let session = Session::load(&parts.extensions)
        .await
        .map_err(IntoResponse::into_response)?;
    match users.find(id).await.map_err(IntoResponse::into_response)? {
        Some(user) => Ok(Some(Member { user, session })),
        None => {
            let ended = session.logout().await;
            ended.map(|()| None).map_err(IntoResponse::into_response)
        }
    }
}
