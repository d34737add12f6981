//! The contract between a user's logins and where they are kept: [`UserIndex`].

use time::OffsetDateTime;

use super::{Handle, StoreError, async_trait};

/// A store's lists of sessions by user, with which users see where they are logged in, and end it.
///
/// [`SessionStore::user_index`](super::SessionStore::user_index) gives it, where a store has one.
///
/// # Contract
///
/// A user's list and mark are changed and looked at in one atomic step, as if each user were one key. The
/// records of sessions are other keys, and no step here changes both, but for
/// [`delete_linked`](Self::delete_linked).
///
/// 1. A login writes its record first, then [links](Self::link) it, and only then sends the id. An ending
///    deletes the record first, and [unlinks](Self::unlink) then. So a crash in between leaves either an
///    entry without a record, which is passed over, or a record whose id nobody was sent.
/// 2. To end all sessions of a user, a [mark](Self::mark) is stored first, and then is deleted what the
///    list has. A login that is linked later meets the mark, and is refused: so a login that began before
///    such an ending never survives it.
/// 3. An entry stays until it is unlinked, or its session's absolute timeout is over. Whether its session
///    is alive, the caller finds out.
/// 4. An operation whose future is dropped takes effect wholly or not at all, but for
///    [`delete_linked`](Self::delete_linked), which may have deleted some.
#[async_trait]
pub trait UserIndex: Send + Sync {
    /// Puts a session on the list of its user, or replaces its entry there.
    ///
    /// In one step with the look at the user's list and at their mark: see [`Link`] for what refuses it.
    /// Everyone's mark refuses it as well, and may be looked at apart from that step, but not before it: a
    /// mark and an ending of all that is linked could come in between, and miss this login. So look once
    /// [`delete_linked`](Self::delete_linked) would find the link, and take the link back where the mark
    /// refuses it; or look first, under a lock for which `mark` or `delete_linked` waits.
    ///
    /// # Errors
    ///
    /// If the engine failed.
    async fn link(&self, user_id: &str, handle: &Handle, link: &Link)
    -> Result<Linked, StoreError>;

    /// Has the entry of a session, if there is one, stay until then: for a session whose absolute timeout
    /// was moved. It never lowers that time.
    ///
    /// # Errors
    ///
    /// If the engine failed.
    async fn extend(
        &self,
        user_id: &str,
        handle: &Handle,
        expires_at: OffsetDateTime,
    ) -> Result<(), StoreError>;

    /// Takes a session from the list. It is no error if it is not there.
    ///
    /// # Errors
    ///
    /// If the engine failed.
    async fn unlink(&self, user_id: &str, handle: &Handle) -> Result<(), StoreError>;

    /// The entries of a user, in the order of [`linked_at`](LinkedSession::linked_at). Entries whose
    /// session is past its absolute timeout at `now` are left out.
    ///
    /// # Errors
    ///
    /// If the engine failed.
    async fn list(
        &self,
        user_id: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<LinkedSession>, StoreError>;

    /// Marks that the sessions of this user, or of everyone, end at `at`. A mark never goes back in time,
    /// and is kept for [`MARK_KEPT`].
    ///
    /// # Errors
    ///
    /// If the engine failed.
    async fn mark(&self, whose: Whose<'_>, at: OffsetDateTime) -> Result<(), StoreError>;

    /// Deletes records of linked sessions, of whatever user, and then their entries: about `limit` of
    /// them, starting `after` what the call before returned.
    ///
    /// # Errors
    ///
    /// If the engine failed.
    async fn delete_linked(
        &self,
        after: Option<&Position>,
        limit: usize,
    ) -> Result<DeletedSessions, StoreError>;
}

/// How long a mark is kept: 24 hours, which is longer than any request.
pub const MARK_KEPT: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// A session to be put on its user's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// When the login was.
    pub linked_at: OffsetDateTime,
    /// The session's absolute timeout: the entry is of no use from then on.
    pub expires_at: OffsetDateTime,
    /// A mark at this time, or later, refuses the link: [`Linked::Overtaken`].
    pub refused_by_marks_from: OffsetDateTime,
    /// How far the login has come.
    pub progress: LoginProgress,
    /// How many sessions the user may have; `None` for any number.
    pub limit: Option<SessionLimit>,
}

/// How far a login has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginProgress {
    /// The user is logged in.
    Complete,
    /// A second factor is still to come. It counts for no limit, or else who knows a password could fill
    /// the list.
    Pending,
}

/// How many sessions a user may have at once, and what a login does that would be one more. The session
/// that is logging in does not count, if it is on the list already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionLimit {
    /// It ends the oldest ones.
    EndOldest(usize),
    /// It is refused.
    RefuseLogin(usize),
}

/// An entry of a user's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkedSession {
    /// Which session it is.
    pub handle: Handle,
    /// When its login was.
    pub linked_at: OffsetDateTime,
    /// How far that login has come.
    pub progress: LoginProgress,
}

/// What became of a [link](UserIndex::link). Closed by nature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linked {
    /// The session is on the list. If that was to [end the oldest](SessionLimit::EndOldest), these are the
    /// user's other complete logins as of that step, oldest first, provided that they are as many as the
    /// limit or more; else none are given.
    Done(Vec<LinkedSession>),
    /// A mark refuses it. Nothing was changed.
    Overtaken,
    /// That was to [be refused](SessionLimit::RefuseLogin), and these other complete logins are as many as
    /// the limit or more, oldest first. Nothing was changed.
    Full(Vec<LinkedSession>),
}

/// Whose sessions a [mark](UserIndex::mark) ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Those of this user.
    User(&'a str),
    /// Those of every user.
    Everyone,
}

/// What a call of [`UserIndex::delete_linked`] has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedSessions {
    /// How many sessions it ended.
    pub deleted: usize,
    /// From where to go on; `None` if it came to the end.
    pub next: Option<Position>,
}

/// A place in a store's lists, which only the store understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(pub Vec<u8>);

impl Link {
    /// Decides by the user's other entries, as a store does in the step in which it links: the list as it
    /// is to be answered, or `Ok` with what [`Linked::Done`] is to have.
    ///
    /// `others` are the entries of this user that are not of this session, expired ones left out.
    ///
    /// # Errors
    ///
    /// The other complete logins, if the link is refused as the list is full.
    pub fn judge(
        &self,
        others: impl IntoIterator<Item = LinkedSession>,
    ) -> Result<Vec<LinkedSession>, Vec<LinkedSession>> {
        let limit = match (self.limit, self.progress) {
            (Some(limit), LoginProgress::Complete) => limit,
            _ => return Ok(Vec::new()),
        };
        let mut complete: Vec<_> = others
            .into_iter()
            .filter(|other| other.progress == LoginProgress::Complete)
            .collect();
        complete.sort_by_key(|other| other.linked_at);
        match limit {
            SessionLimit::EndOldest(most) if complete.len() >= most => Ok(complete),
            SessionLimit::RefuseLogin(most) if complete.len() >= most => Err(complete),
            _ => Ok(Vec::new()),
        }
    }
}
