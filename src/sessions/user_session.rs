//! What a list of a user's sessions says of each.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::clock::{from_unix_millis, to_unix_millis};
use crate::error::Error;
use crate::id::Handle;
use crate::record::payload::Header;
use crate::settings::Settings;
use crate::store::{LoginProgress, Record, StoreError, StoreErrorKind};
use crate::timeouts::millis;

/// One of the places where a user is logged in.
///
/// Made by [`Sessions::list`](crate::Sessions::list) and
/// [`Session::user_sessions`](crate::Session::user_sessions). Nothing in it opens the session.
#[derive(Clone, Debug)]
pub struct UserSession {
    handle: Handle,
    created_at: OffsetDateTime,
    authenticated_at: OffsetDateTime,
    last_seen_at: Option<OffsetDateTime>,
    expires_at: OffsetDateTime,
    label: Option<Arc<str>>,
    is_current: bool,
}

impl UserSession {
    /// By which the session is [ended](crate::Session::end_user_session).
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// When the session was created, which may be before the login.
    pub fn created_at(&self) -> OffsetDateTime {
        self.created_at
    }

    /// When the user logged in with it, or last did so again.
    pub fn authenticated_at(&self) -> OffsetDateTime {
        self.authenticated_at
    }

    /// When the session was last in use: up to 1/16 of its idle timeout earlier than it really was, as
    /// reads are not all written. `None` if it has no idle timeout, so that no use of it is noted.
    pub fn last_seen_at(&self) -> Option<OffsetDateTime> {
        self.last_seen_at
    }

    /// When the session ends if it is not used any more.
    pub fn expires_at(&self) -> OffsetDateTime {
        self.expires_at
    }

    /// What its login was [labelled](crate::Login::label) with.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Whether it is the session that has asked. Never so for [`Sessions::list`](crate::Sessions::list),
    /// which is asked by none.
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    pub(crate) fn new(
        handle: Handle,
        record: &Record,
        header: &Header,
        is_current: bool,
    ) -> Option<Self> {
        let authenticated_at = header.authenticated_at.map(from_unix_millis)?;
        let expires_at = to_unix_millis(record.expires_at);
        let seen_before_expiry =
            |idle: Duration| from_unix_millis(expires_at.saturating_sub(millis(idle)));
        Some(Self {
            handle,
            created_at: record.created_at,
            authenticated_at,
            last_seen_at: header
                .timeouts
                .idle()
                .map(|idle| seen_before_expiry(idle).max(authenticated_at)),
            expires_at: record.expires_at,
            label: header.label.clone(),
            is_current,
        })
    }
}

/// The live sessions of a user who is logged in with them, the latest login first.
///
/// # Errors
///
/// When the store fails, or keeps no list of users.
pub(crate) async fn list(
    settings: &Settings,
    user_id: &str,
    current: Option<Handle>,
) -> Result<Vec<UserSession>, Error> {
    let now = settings.now();
    let mut sessions = Vec::new();
    for entry in settings.list(user_id, now).await?.into_iter().rev() {
        if entry.progress == LoginProgress::Pending {
            continue;
        }
        let record = match settings.load(&entry.handle).await {
            Ok(record) => record,
            Err(error) if error.kind() == StoreErrorKind::Undecodable => {
                settings.events.undecodable(&(&entry.handle).into(), &error);
                continue;
            }
            Err(error) => {
                return Err(Error::store(
                    "a session of the user could not be loaded",
                    error,
                ));
            }
        };
        let Some(record) = record else {
            // It has ended, and its handle never comes back.
            settings.unlink(user_id, &entry.handle).await;
            continue;
        };
        let is_theirs = record.user_id.as_deref() == Some(user_id);
        if !is_theirs || to_unix_millis(record.expires_at) <= now {
            continue;
        }
        match Header::decode(&record.payload) {
            Ok((header, _)) => {
                let is_current = current == Some(entry.handle);
                sessions.extend(UserSession::new(entry.handle, &record, &header, is_current));
            }
            Err(error) => {
                let error = StoreError::from(error);
                settings.events.undecodable(&(&entry.handle).into(), &error);
            }
        }
    }
    Ok(sessions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SecretDigest;
    use crate::timeouts::Timeouts;

    #[test]
    fn a_damaged_record_with_times_out_of_all_bounds_is_listed_without_a_panic() {
        let record = Record {
            version: crate::record::Version::from_u64(1),
            created_at: from_unix_millis(0),
            expires_at: from_unix_millis(i64::MIN),
            user_id: Some("alice".into()),
            payload: [].into(),
        };
        let header = Header {
            secret: SecretDigest::from_bytes([1; 32]),
            retired: Vec::new(),
            started_at: 0,
            renewed_at: 0,
            timeouts: Timeouts::new(Duration::MAX, Duration::MAX),
            authenticated_at: Some(7),
            persistent_cookie: false,
            carrier: crate::carrier::Carrier::Cookie,
            csrf: crate::csrf::CsrfKey::from_bytes([1; 32]),
            label: None,
        };
        let listed = UserSession::new(Handle::from_bytes([1; 16]), &record, &header, false);
        assert_eq!(
            listed.and_then(|listed| listed.last_seen_at),
            Some(from_unix_millis(7))
        );
    }
}
