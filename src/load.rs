//! From the cookie of a request to its session.

use std::sync::Arc;

use crate::cookie::Found;
use crate::error::Error;
use crate::events;
use crate::id::SessionId;
use crate::slot::{Slot, Stage};
use crate::state::data::Loaded;
use crate::state::plan::Dropped;
use crate::state::{Standing, State, Verdict, judge};
use crate::store::StoreErrorKind;

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
            *stage = Stage::Loaded(state);
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
    let found = settings.cookie.find(slot.cookies());
    if let Some(warning) = found.warning() {
        events::odd_cookies(settings.cookie.name(), warning);
    }
    let now = settings.now();
    let mut opened = (Standing::Absent, Loaded::nothing());
    let mut live = 0;
    for value in found.values() {
        let Some(id) = SessionId::parse(value) else {
            events::malformed_id();
            continue;
        };
        match open(slot, &id, now).await? {
            (Standing::Absent, _) => {}
            (standing @ Standing::Live(_), loaded) => {
                live += 1;
                opened = (standing, loaded);
            }
            other if live == 0 => opened = other,
            _ => {}
        }
    }
    // Two live sessions under one name: which one is the user's cannot be told, so neither is.
    if live > 1 {
        events::two_live_sessions();
        opened = (Standing::Absent, Loaded::nothing());
    }
    let (standing, loaded) = opened;
    let mut state = State::new(standing, loaded, &settings.rules);
    state.brought_cookie = !matches!(found, Found::None);
    Ok(state)
}

/// What an id opens now.
///
/// # Errors
///
/// When the store fails, or the record is of a newer format: neither says that there is no session.
pub(crate) async fn open(
    slot: &Slot,
    id: &SessionId,
    now: i64,
) -> Result<(Standing, Loaded), Error> {
    let settings = &*slot.settings;
    let nothing = |standing| Ok((standing, Loaded::nothing()));
    let record = match settings.load(&id.handle).await {
        Ok(Some(record)) => record,
        Ok(None) => return nothing(Standing::Absent),
        Err(error) if error.kind() == StoreErrorKind::Undecodable => {
            events::undecodable(&id.handle, &error);
            return nothing(Standing::Absent);
        }
        Err(error) => return Err(Error::store("the session could not be loaded", error)),
    };
    match judge(id, id.secret.digest(), record, now, &settings.rules) {
        Ok(Verdict::Live(live, loaded)) => Ok((Standing::Live(live), loaded)),
        Ok(Verdict::Retired) => {
            events::retired_id_used(&id.handle);
            nothing(Standing::Lost(Dropped::Retired))
        }
        Ok(verdict) => {
            events::refused(&id.handle, &verdict);
            nothing(Standing::Absent)
        }
        Err(error) => {
            let error = error.into();
            if StoreErrorKind::Undecodable == crate::store::StoreError::kind(&error) {
                events::undecodable(&id.handle, &error);
                return nothing(Standing::Absent);
            }
            events::store_failed("load", Some(&id.handle), &error);
            Err(Error::store("the session could not be loaded", error))
        }
    }
}
