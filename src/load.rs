//! From what a request brought as its id to its session.

use std::sync::Arc;

use crate::carrier::Carrier;
use crate::commit::identity::end_copied;
use crate::error::Error;
use crate::events::{EventKind, Refusal, Subject};
use crate::id::{Handle, SessionId};
use crate::slot::{Slot, Stage};
use crate::state::data::Loaded;
use crate::state::plan::Dropped;
use crate::state::{Standing, State, Verdict, judge};
use crate::store::{StoreError, StoreErrorKind};

/// Loads the session of this request, once, however often it is asked for.
///
/// # Errors
///
/// When the store fails, or the request is over.
pub(crate) async fn load(slot: &Arc<Slot>) -> Result<(), Error> {
    if let Some(outcome) = outcome(slot) {
        return outcome;
    }
    let _entered = slot.enter().await;
    if let Some(outcome) = outcome(slot) {
        return outcome;
    }
    let loaded = resolve(slot).await;
    let mut stage = slot.stage();
    if matches!(*stage, Stage::Closed) {
        return Err(Error::closed());
    }
    match loaded {
        Ok(state) => {
            *stage = Stage::Loaded(Box::new(state));
            Ok(())
        }
        Err(error) => {
            *stage = Stage::Failed(error.clone());
            Err(error)
        }
    }
}

/// What was loaded before; `None` if nothing was.
fn outcome(slot: &Slot) -> Option<Result<(), Error>> {
    match &*slot.stage() {
        Stage::Untouched => None,
        Stage::Loaded(_) => Some(Ok(())),
        Stage::Failed(error) => Some(Err(error.clone())),
        Stage::Closed => Some(Err(Error::closed())),
    }
}

async fn resolve(slot: &Slot) -> Result<State, Error> {
    let settings = &*slot.settings;
    let brought = slot.brought();
    if let Some(oddity) = brought.oddity() {
        let is_cookie = brought.carrier() == Carrier::Cookie;
        let cookie = is_cookie.then(|| settings.carriers.name());
        settings.events.odd_lines(oddity, cookie);
    }
    let now = settings.now();
    let mut opened = (Standing::Absent, Loaded::nothing());
    let mut live = 0_usize;
    let mut copied = Vec::new();
    for value in brought.values() {
        let Some(id) = SessionId::parse(value) else {
            settings.events.malformed_id();
            continue;
        };
        let (standing, loaded, told) = look_up(slot, &id, now).await?;
        match told {
            Some((EventKind::CopyInUse, subject)) => copied.push(subject),
            Some((kind, subject)) => settings.events.tell(kind, &subject),
            None => {}
        }
        match standing {
            Standing::Absent => {}
            Standing::Live(found) => {
                // Two ids may be of one session: an old one that still opens it, and the current one.
                let again = is_of(&opened.0, found.handle());
                live += usize::from(!again);
                if !again || found.is_current {
                    opened = (Standing::Live(found), loaded);
                }
            }
            other if live == 0 => opened = (other, loaded),
            _ => {}
        }
    }
    for subject in copied {
        // Rare, and boxed: it would make the future of every load larger.
        Box::pin(copied_id_used(slot, subject, &opened.0)).await?;
    }
    // Two live sessions under one name: which one is the user's cannot be told, so neither is.
    if live > 1 {
        settings.events.two_live_sessions(settings.carriers.name());
        opened = (Standing::Absent, Loaded::nothing());
    }
    let (standing, loaded) = opened;
    let mut state = State::new(standing, loaded, &settings.rules);
    state.loaded_at = now;
    state.carrier = brought.carrier();
    state.brought_id = brought.is_some();
    Ok(state)
}

fn is_of(standing: &Standing, handle: &Handle) -> bool {
    matches!(standing, Standing::Live(live) if live.handle() == handle)
}

/// An id came that was renewed on a schedule, and whose successor has long been in use.
///
/// # Errors
///
/// When its session is to be ended, and the store fails.
async fn copied_id_used(slot: &Slot, subject: Subject, opened: &Standing) -> Result<(), Error> {
    let settings = &slot.settings;
    // Who brings the current id as well holds both: a browser that keeps an old cookie of another path. A
    // party that has only a copy cannot do that.
    if is_of(opened, &subject.handle) {
        settings.events.tell(EventKind::RetiredIdUsed, &subject);
        return Ok(());
    }
    settings.events.tell(EventKind::CopyInUse, &subject);
    if settings.end_on_copied_id {
        end_copied(settings.clone(), subject).await?;
    }
    Ok(())
}

/// What an id opens by now, in the course of a request that has brought it before.
///
/// # Errors
///
/// As [`look_up`].
pub(crate) async fn open(
    slot: &Slot,
    id: &SessionId,
    now: i64,
) -> Result<(Standing, Loaded), Error> {
    let (standing, loaded, told) = look_up(slot, id, now).await?;
    // What became of it meanwhile is told with what becomes of the request's changes.
    let standing = match told {
        Some((EventKind::Expired, _)) => Standing::Lost(Dropped::Expired),
        Some((EventKind::RetiredIdUsed | EventKind::CopyInUse, _)) => {
            Standing::Lost(Dropped::Retired)
        }
        _ => standing,
    };
    Ok((standing, loaded))
}

/// What is to be told of an id that opens nothing.
type Told = Option<(EventKind, Subject)>;

/// What an id opens now.
///
/// # Errors
///
/// When the store fails, or the record is of a newer format: neither says that there is no session.
async fn look_up(slot: &Slot, id: &SessionId, now: i64) -> Result<(Standing, Loaded, Told), Error> {
    let settings = &*slot.settings;
    let nothing = |standing, told| Ok((standing, Loaded::nothing(), told));
    let refused = |refusal, subject| {
        nothing(
            Standing::Absent,
            Some((EventKind::Refused(refusal), subject)),
        )
    };
    let record = match settings.load(&id.handle).await {
        Ok(Some(record)) => record,
        Ok(None) => return refused(Refusal::Unknown, (&id.handle).into()),
        Err(error) if error.kind() == StoreErrorKind::Undecodable => {
            let subject = (&id.handle).into();
            settings.events.undecodable(&subject, &error);
            return nothing(Standing::Absent, None);
        }
        Err(error) => return Err(Error::store("the session could not be loaded", error)),
    };
    let subject = Subject::of_record(&id.handle, &record);
    let verdict = match judge(
        id,
        id.secret.digest(),
        slot.carrier(),
        record,
        now,
        &settings.rules,
    ) {
        Ok(verdict) => verdict,
        Err(error) => {
            let error = StoreError::from(error);
            if error.kind() == StoreErrorKind::Undecodable {
                settings.events.undecodable(&subject, &error);
                return nothing(Standing::Absent, None);
            }
            let told = Some(&subject);
            settings.events.store_failed("load", told, &error);
            return Err(Error::store("the session could not be loaded", error));
        }
    };
    match verdict {
        Verdict::Live(live, loaded) => Ok((Standing::Live(live), loaded, None)),
        Verdict::Retired => nothing(
            Standing::Lost(Dropped::Retired),
            Some((EventKind::RetiredIdUsed, subject)),
        ),
        Verdict::LongRetired => {
            nothing(Standing::Absent, Some((EventKind::RetiredIdUsed, subject)))
        }
        Verdict::Expired => nothing(Standing::Absent, Some((EventKind::Expired, subject))),
        Verdict::Reused => nothing(Standing::Absent, Some((EventKind::CopyInUse, subject))),
        Verdict::WrongSecret => refused(Refusal::WrongSecret, subject),
        Verdict::OtherCarrier => refused(Refusal::OtherCarrier, subject),
    }
}
