//! Runs a [`Plan`] on the store.
//!
//! A commit is one store call, nearly always. Where it takes more (another request came first, or an
//! answer got lost), the rest runs in a task of its own, so that it comes to its end whatever becomes of
//! the request.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use tracing::Instrument;

use crate::error::{Error, ErrorKind};
use crate::events::Subject;
use crate::id::SessionId;
use crate::load::open;
use crate::record::Version;
use crate::settings::Settings;
use crate::slot::{Entered, Slot};
use crate::state::data::Data;
use crate::state::plan::{Dropped, Importance, Plan, Write, plan};
use crate::state::{CookieEffect, Job, Live, Standing, State};
use crate::store::{Outcome, StoreError, StoreErrorKind};

pub(crate) mod endings;
pub(crate) mod identity;
pub(crate) mod index;

/// The first pause between two tries, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// How often what is staged during a write is put on top of it, where it changes again meanwhile.
const MOST_TRIES: usize = 1_000;

/// What the status of the handler's response says about its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerVerdict {
    Success,
    /// A handler that answers 5xx changes nothing.
    ServerError,
}

impl HandlerVerdict {
    pub(crate) fn of(status: StatusCode) -> Self {
        match status.is_server_error() {
            true => Self::ServerError,
            false => Self::Success,
        }
    }
}

/// Commits what is staged when the response is ready. The session takes no changes from here on.
///
/// # Errors
///
/// When the store fails, or other requests keep changing the session, or the changes do not fit on top of
/// theirs. What was staged is dropped then.
pub(crate) async fn commit(slot: Arc<Slot>, verdict: HandlerVerdict) -> Result<(), Error> {
    let (entered, cookie_may_be_stale) = slot.enter_and_close().await;
    let committed = match verdict {
        HandlerVerdict::ServerError => {
            slot.with(|state| state.discard_staged());
            Ok(())
        }
        HandlerVerdict::Success => run_or_discard(slot.clone(), entered).await,
    };
    if cookie_may_be_stale && let Some(id) = id_to_check(&slot) {
        // Rare, as are the other futures that are boxed here: each would make that of every commit larger.
        Box::pin(check_cookie(&slot, id)).await;
    }
    match committed {
        Ok(()) => Ok(()),
        // The session ended while the request ran. It was reported; the response stands.
        Err(error) if error.kind() == ErrorKind::Ended => Ok(()),
        Err(error) => {
            // Those were reported where they arose.
            if !matches!(error.kind(), ErrorKind::Store | ErrorKind::Contention) {
                let events = &slot.settings.events;
                events.response_replaced(subject(&slot).as_ref(), &error);
            }
            Err(error)
        }
    }
}

/// The id that a save or a login has prepared a cookie with, if nothing was written since that would say
/// whether it is still the session's.
fn id_to_check(slot: &Slot) -> Option<SessionId> {
    let id = slot.with(|state| match &state.cookie {
        CookieEffect::Set { id, .. } if state.cookie_may_be_stale => Some(id.clone()),
        _ => None,
    });
    id.flatten()
}

/// Keeps a cookie to itself whose id is not the session's any more: it could push a newer one out of the
/// browser. Where the store cannot tell, a new id goes out all the same, or its login would be lost.
async fn check_cookie(slot: &Slot, id: SessionId) {
    let opened = open(slot, &id, slot.settings.now()).await;
    slot.with(|state| {
        let is_good = match opened {
            Ok((Standing::Live(live), _)) => live.is_current,
            Ok(_) => false,
            Err(_) => state.id_is_unsent,
        };
        if !is_good {
            state.cookie = CookieEffect::Keep;
        }
    });
}

/// Commits what is staged now, in a task of its own: a save that was given up half-way would leave it
/// unknown whether the changes are to be applied again.
///
/// # Errors
///
/// As [`commit`], and when the session ended meanwhile.
pub(crate) async fn save(slot: Arc<Slot>) -> Result<(), Error> {
    let entered = slot.enter().await;
    slot.change(|_| Ok(()))?;
    in_task(slot.settings.clone(), run_or_discard(slot, entered)).await
}

/// Commits, and drops what is staged if that fails: the handler, or the client, is told, so nothing may
/// apply it later.
///
/// No other call of the request comes in before that: it could save what this one is said to have dropped.
async fn run_or_discard(slot: Arc<Slot>, entered: Entered<Arc<Slot>>) -> Result<(), Error> {
    let _on_panic = DiscardOnPanic(&slot);
    run(slot.clone(), &entered).await.inspect_err(|error| {
        let discarded = slot.with(|state| state.discard_staged());
        // What was dropped with its session was reported as that.
        if discarded.is_some() && error.kind() != ErrorKind::Ended {
            let events = &slot.settings.events;
            events.changes_failed(subject(&slot).as_ref(), error);
        }
    })
}

/// Drops what is staged when the store panics: it may have been saved by then, and must not be applied again.
struct DiscardOnPanic<'a>(&'a Slot);

impl Drop for DiscardOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.with(|state| state.discard_staged());
        }
    }
}

/// The session that the request has now.
fn subject(slot: &Slot) -> Option<Subject> {
    slot.with(|state| state.live().map(Subject::of)).flatten()
}

/// Runs a future to its end, whether or not it is waited for.
pub(crate) async fn in_task<T: Send + 'static>(
    settings: Arc<Settings>,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(result) => result,
        // Without the error: it quotes what was panicked with, which could be data of the session.
        Err(error) if error.is_panic() => {
            settings.events.write_panicked();
            Err(Error::new(
                ErrorKind::Store,
                "the task that writes the session panicked: the store did, or a closure of update",
            ))
        }
        Err(error) => Err(Error::with_source(
            ErrorKind::Store,
            "the task that writes the session did not come to its end",
            error,
        )),
    }
}

async fn run(slot: Arc<Slot>, entered: &Entered<Arc<Slot>>) -> Result<(), Error> {
    let now = slot.settings.now();
    let Some(step) = next_step(&slot, now)? else {
        return Ok(());
    };
    let settings = &*slot.settings;
    let outcome = match (&step.plan, &step.base) {
        (Plan::Nothing, _) => return Ok(()),
        // By what was loaded; another request may have kept it alive since.
        (Plan::Drop(Dropped::Expired), Some(_)) => Ok(Outcome::Conflict),
        (Plan::Drop(why), _) => return lose(&slot, *why),
        (Plan::Touch { expires_at }, Some(base)) => {
            let touch = settings.touch(&base.id.handle, *expires_at, base.version, now);
            // The response stands without it; that it failed was reported.
            if let Ok(Outcome::Missing) = touch.await {
                slot.with(|state| state.cookie = CookieEffect::Keep);
            }
            return Ok(());
        }
        (Plan::Create(write), _) => {
            let create = settings.create(write.live.handle(), &write.live.record);
            create.await.map(|()| Outcome::Done)
        }
        (Plan::Update { write, .. }, Some(base)) => {
            if step.job.wishes.timeouts.is_some() {
                Box::pin(index::extend(settings, &write.live)).await?;
            }
            let update = settings.update(&base.id.handle, &write.live.record, base.version, now);
            update.await
        }
        (Plan::Touch { .. } | Plan::Update { .. }, None) => return Ok(()),
    };
    let Step { plan, job, base } = step;
    match (outcome, plan) {
        (Ok(Outcome::Done), Plan::Create(write) | Plan::Update { write, .. }) => {
            finish(&slot, write, &job)
        }
        // Another request came first, or the session ended: nothing is lost.
        (
            _,
            Plan::Update {
                importance: Importance::Upkeep,
                ..
            },
        ) => Ok(()),
        (Ok(Outcome::Missing), _) => lose(&slot, Dropped::Ended),
        (Err(error), Plan::Create(write) | Plan::Update { write, .. }) => {
            let settings = slot.settings.clone();
            let verified = verify(slot, entered.share(), write, job, error);
            Box::pin(in_task(settings, verified)).await
        }
        (Ok(Outcome::Conflict), _) => match base {
            Some(base) => {
                let settings = slot.settings.clone();
                let contended = contend(slot, entered.share(), base.id, job);
                Box::pin(in_task(settings, contended)).await
            }
            None => Ok(()),
        },
        // Only a write has another outcome.
        (Ok(Outcome::Done) | Err(_), _) => Ok(()),
    }
}

/// What a commit is about to do, and what it was planned for.
struct Step {
    plan: Plan,
    job: Job,
    base: Option<Base>,
}

/// The record that a plan was made for.
struct Base {
    id: SessionId,
    version: Version,
}

impl Base {
    fn of(live: &Live) -> Self {
        Self {
            id: live.id.clone(),
            version: live.record.version,
        }
    }
}

/// Plans what is to be done about what is staged; `None` if the session was not loaded.
///
/// # Errors
///
/// When there is no random id.
fn next_step(slot: &Slot, now: i64) -> Result<Option<Step>, Error> {
    let planned = slot.with(|state| {
        let mut job = state.job();
        let base = state.live().map(Base::of);
        // What makes no difference to what was loaded counts as saved: not to be put again on what comes next.
        let saved = (!job.has_changes).then(|| {
            state.data.discard_changes();
            std::mem::replace(&mut job.data, state.data.clone())
        });
        let rules = &slot.settings.rules;
        let plan = plan(&state.standing, &job, now, rules, SessionId::generate)?;
        // It may hold closures of the user's, to be dropped outside of the lock.
        Ok((Step { plan, job, base }, saved))
    });
    let planned: Option<Result<_, Error>> = planned;
    Ok(planned.transpose()?.map(|(step, _saved)| step))
}

/// Another request came first: applies the changes to what the session is now, again and again, for as long
/// as the layer allows.
async fn contend(
    slot: Arc<Slot>,
    entered: Entered<Arc<Slot>>,
    id: SessionId,
    mut job: Job,
) -> Result<(), Error> {
    let settings = slot.settings.clone();
    let mut patience = Patience::new(settings.clone());
    loop {
        let now = settings.now();
        let (standing, loaded) = open(&slot, &id, now).await?;
        let (subject, expected) = match &standing {
            Standing::Live(live) => (Subject::of(live), live.record.version),
            Standing::Lost(why) => return lose(&slot, *why),
            _ => return lose(&slot, Dropped::Ended),
        };
        job.rebase(loaded.clone())?;
        let write = match plan(&standing, &job, now, &settings.rules, SessionId::generate)? {
            Plan::Update { write, .. } => write,
            Plan::Drop(why) => return lose(&slot, why),
            // Others have made the very changes, so these are saved: not to be put again on what comes next.
            _ => {
                let Standing::Live(live) = standing else {
                    return Ok(());
                };
                let write = Write {
                    live,
                    loaded,
                    cookie: None,
                    told: None,
                };
                return finish(&slot, write, &job);
            }
        };
        if job.wishes.timeouts.is_some() {
            index::extend(&settings, &write.live).await?;
        }
        match settings
            .update(&subject.handle, &write.live.record, expected, now)
            .await
        {
            Ok(Outcome::Done) => return finish(&slot, write, &job),
            Ok(Outcome::Missing) => return lose(&slot, Dropped::Ended),
            Ok(Outcome::Conflict) => patience.pause(&subject).await?,
            Err(error) => return verify(slot, entered, write, job, error).await,
        }
    }
}

/// A write failed, and may have taken effect all the same: only the record can tell.
async fn verify(
    slot: Arc<Slot>,
    _entered: Entered<Arc<Slot>>,
    write: Write,
    job: Job,
    error: StoreError,
) -> Result<(), Error> {
    if took_effect(&slot, &write, &error).await {
        return finish(&slot, write, &job);
    }
    Err(Error::store("the session could not be saved", error))
}

/// Whether the record in the store is the one whose write failed.
async fn took_effect(slot: &Slot, write: &Write, error: &StoreError) -> bool {
    // It may be there now, and gone after a failover.
    if error.kind() == StoreErrorKind::Unconfirmed {
        return false;
    }
    let stored = slot.settings.load(write.live.handle()).await;
    matches!(stored, Ok(Some(stored)) if stored.version == write.live.record.version)
}

/// What was written is now what the request goes on from.
///
/// # Errors
///
/// When changes staged meanwhile do not fit on top of what was written, or never stay the same for long
/// enough to be put there. They are dropped then; what was written stays.
fn finish(slot: &Slot, write: Write, job: &Job) -> Result<(), Error> {
    let Write {
        mut live,
        loaded,
        cookie,
        told,
    } = write;
    let told = told.map(|told| (told, Subject::of(&live)));
    let is_new_id = told.is_some();
    // Nearly always nothing was staged since: then all that was is written.
    let (mut data, mut advanced) = (Data::new(loaded, job.data.max_size()), Ok(()));
    let mut generation = job.generation;
    for tries in 1.. {
        let taken_over = slot.with(|state| {
            if tries == MOST_TRIES && state.generation != generation {
                generation = state.generation;
                data = Data::new(data.into_loaded(), job.data.max_size());
                advanced = Err(Error::new(
                    ErrorKind::Contention,
                    "the session changed again and again while it was saved: a closure of update must \
                     not change the session itself",
                ));
            }
            let taken_over = take_over(state, generation, live, data, (&cookie, is_new_id), job);
            taken_over.map_err(|back| Box::new((back, state.data.clone(), state.generation)))
        });
        match taken_over {
            Some(Ok(_replaced)) => {
                if let Some((told, subject)) = told {
                    slot.settings.events.tell(told, &subject);
                }
                break;
            }
            Some(Err(back)) => {
                let ((back, data_before), since, newer) = *back;
                (live, data, generation) = (back, since, newer);
                // Closures of `update` that were staged meanwhile run here. They are the user's, and may use
                // this very session: so outside of the lock.
                advanced = data.advance(job.data.changes(), data_before.into_loaded());
            }
            None => break,
        }
    }
    advanced
}

/// What `finish` does under the lock: returns the data that was replaced, to be dropped outside of it.
fn take_over(
    state: &mut State,
    generation: u64,
    live: Box<Live>,
    data: Data,
    (cookie, is_new_id): (&Option<CookieEffect>, bool),
    job: &Job,
) -> Result<Data, (Box<Live>, Data)> {
    let is_current = live.is_current;
    let replaced = state.advance(generation, live, data, job)?;
    state.id_is_unsent |= is_new_id;
    if let Some(cookie) = cookie {
        state.cookie = cookie.clone();
        state.cookie_may_be_stale = true;
    } else if !is_current {
        // Another request renewed the id that this one was about to send.
        state.cookie = CookieEffect::Keep;
    }
    // What the response itself writes is as fresh as can be.
    state.cookie_may_be_stale &= !state.closed;
    Ok(replaced)
}

/// The session ended while the request ran: its changes are dropped, and no cookie goes out.
fn lose(slot: &Slot, why: Dropped) -> Result<(), Error> {
    let lost = slot.with(|state| {
        let lost = state.live().map(Subject::of);
        state.become_absent(Standing::Lost(why));
        state.cookie = CookieEffect::Keep;
        lost
    });
    if let Some(lost) = lost {
        slot.settings.events.changes_dropped(why, lost.as_ref());
    }
    Err(Error::ended())
}

/// How long a commit goes on contending with other requests.
struct Patience {
    settings: Arc<Settings>,
    until: Instant,
    pause: Duration,
}

impl Patience {
    fn new(settings: Arc<Settings>) -> Self {
        Self {
            until: Instant::now() + settings.retry_for,
            settings,
            pause: FIRST_PAUSE,
        }
    }

    /// Waits a random time before the next try, so that those who contend come apart.
    ///
    /// # Errors
    ///
    /// When the time is up.
    async fn pause(&mut self, subject: &Subject) -> Result<(), Error> {
        let pause = self.pause.mul_f64(rand::random());
        if Instant::now() + pause >= self.until {
            let limit = self.settings.retry_for;
            self.settings.events.contention(subject, limit);
            return Err(Error::contention(limit));
        }
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
