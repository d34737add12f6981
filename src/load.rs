//! From what a request brought as its id to its session.

use crate::carrier::Carrier;
use crate::commit::identity::end_copied;
use crate::error::Error;
use crate::events::{EventKind, Refusal, Subject};
use crate::id::{Handle, SessionId};
use crate::record::Record;
use crate::slot::{Entry, Slot, Stage};
use crate::state::data::Loaded;
use crate::state::plan::Dropped;
use crate::state::{Standing, State, Verdict, judge};
use crate::store::{StoreError, StoreErrorKind};

/// Loads the session of this request, once, however often it is asked for.
///
/// # Errors
///
/// When the store fails, or the request is over.
pub(crate) async fn load(slot: &Slot) -> Result<(), Error> {
    let entered = match slot.enter_untouched() {
        Entry::Granted(entered) => entered,
        Entry::Refused(outcome) => return outcome,
        Entry::Busy => {
            let entered = slot.wait_to_enter().await;
            if let Some(outcome) = slot.stage().outcome() {
                return outcome;
            }
            entered
        }
    };
    let opened = resolve(slot).await;
    let mut stage = slot.stage();
    if matches!(*stage, Stage::Untouched) {
        *stage = match opened {
            Ok(opening) => Stage::Loaded(opening.state),
            Err(error) => Stage::Failed(error),
        };
    }
    let outcome = stage.outcome();
    entered.leave(stage);
    outcome.unwrap_or(Ok(()))
}

async fn resolve(slot: &Slot) -> Result<Opening, Error> {
    let now = slot.settings.now();
    let presented = Presented::of(slot);
    let [first, second] = &presented.ids;
    let mut opening = match first {
        Some(id) => {
            let record = slot.settings.load(&id.handle).await;
            // Made after that: what is there while the store is waited for takes room in the future of every handler.
            let mut opening = Opening::new(slot, &presented, now);
            opening.open(slot, id, record)?;
            opening
        }
        None => Opening::new(slot, &presented, now),
    };
    if second.is_some() || !opening.copied.is_empty() {
        // Rare. Without the box it would take room in the future of every handler, too.
        Box::pin(opening.settle_rare_cases(slot, second.as_ref())).await?;
    }
    Ok(opening)
}

/// What a request brought in place of its id.
struct Presented {
    carrier: Carrier,
    /// Whatever it was worth.
    brought_anything: bool,
    /// What may be an id of it: none, one, or two.
    ids: [Option<SessionId>; 2],
}

impl Presented {
    fn of(slot: &Slot) -> Self {
        let settings = &*slot.settings;
        let brought = slot.brought();
        if let Some(oddity) = brought.oddity() {
            let is_cookie = brought.carrier() == Carrier::Cookie;
            let cookie = is_cookie.then(|| settings.carriers.name());
            settings.events.odd_lines(oddity, cookie);
        }
        let mut ids = brought.values().filter_map(|value| {
            let id = SessionId::parse(value);
            if id.is_none() {
                settings.events.malformed_id();
            }
            id
        });
        Self {
            carrier: brought.carrier(),
            brought_anything: brought.is_some(),
            ids: [ids.next(), ids.next()],
        }
    }
}

/// What the ids of a request have opened so far.
struct Opening {
    state: Box<State>,
    /// How many live sessions were opened.
    live: usize,
    /// Sessions of which a copy of an id came.
    copied: Vec<Subject>,
}

impl Opening {
    /// Nothing is opened yet.
    fn new(slot: &Slot, presented: &Presented, now: i64) -> Self {
        let mut state = Box::new(State::nothing(&slot.settings.rules));
        state.loaded_at = now;
        state.carrier = presented.carrier;
        state.brought_id = presented.brought_anything;
        Self {
            state,
            live: 0,
            copied: Vec::new(),
        }
    }

    /// Takes in what was found under an id.
    ///
    /// # Errors
    ///
    /// As [`look_at`].
    fn open(
        &mut self,
        slot: &Slot,
        id: &SessionId,
        record: Result<Option<Record>, StoreError>,
    ) -> Result<(), Error> {
        let (standing, loaded, told) = look_at(slot, id, record, self.state.loaded_at)?;
        match told {
            Some((EventKind::CopyInUse, subject)) => self.copied.push(subject),
            Some((kind, subject)) => slot.settings.events.tell(kind, &subject),
            None => {}
        }
        match standing {
            Standing::Absent => {}
            Standing::Live(found) => {
                // Two ids may be of one session: an old one that still opens it, and the current one.
                let again = is_of(&self.state.standing, found.handle());
                self.live += usize::from(!again);
                if !again || found.is_current {
                    self.state.open(Standing::Live(found), loaded);
                }
            }
            other if self.live == 0 => self.state.open(other, loaded),
            _ => {}
        }
        Ok(())
    }

    /// What is left to do for the rare request that brought two ids, or a copy of one.
    ///
    /// # Errors
    ///
    /// When the store fails.
    async fn settle_rare_cases(
        &mut self,
        slot: &Slot,
        id: Option<&SessionId>,
    ) -> Result<(), Error> {
        if let Some(id) = id {
            let record = slot.settings.load(&id.handle).await;
            self.open(slot, id, record)?;
        }
        for subject in std::mem::take(&mut self.copied) {
            copied_id_used(slot, subject, &self.state.standing).await?;
        }
        // Two live sessions under one name: which one is the user's cannot be told, so neither is.
        if self.live > 1 {
            let settings = &slot.settings;
            settings.events.two_live_sessions(settings.carriers.name());
            self.state.open(Standing::Absent, Loaded::nothing());
        }
        Ok(())
    }
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
/// As [`look_at`].
pub(crate) async fn open(
    slot: &Slot,
    id: &SessionId,
    now: i64,
) -> Result<(Standing, Loaded), Error> {
    let record = slot.settings.load(&id.handle).await;
    let (standing, loaded, told) = look_at(slot, id, record, now)?;
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

/// What an id opens now, given what the store said of its handle.
///
/// # Errors
///
/// When the store fails, or the record is of a newer format: neither says that there is no session.
fn look_at(
    slot: &Slot,
    id: &SessionId,
    record: Result<Option<Record>, StoreError>,
    now: i64,
) -> Result<(Standing, Loaded, Told), Error> {
    let settings = &*slot.settings;
    let nothing = |standing, told| Ok((standing, Loaded::nothing(), told));
    let refused = |refusal, subject| {
        nothing(
            Standing::Absent,
            Some((EventKind::Refused(refusal), subject)),
        )
    };
    let record = match record {
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
