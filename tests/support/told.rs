//! What a layer's callback was told.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};

use cloakroom::events::{Event, EventKind};
use cloakroom::store::Handle;

/// What was told so far, in order; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<Seen>>>);

/// An event, as far as it can be kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) kind: EventKind,
    pub(crate) handle: Option<Handle>,
    pub(crate) user_id: Option<String>,
}

impl Told {
    /// The callback of a layer.
    pub(crate) fn callback(&self) -> impl Fn(&Event<'_>) + Send + Sync + 'static {
        let told = self.clone();
        move |event| told.note(event)
    }

    fn note(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(Seen {
            kind: event.kind(),
            handle: event.handle().copied(),
            user_id: event.user_id().map(str::to_owned),
        });
    }

    /// What was told since the last time that this was asked.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// The names of what was told since the last time, with their causes, as `renewed: schedule`.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = |seen: Seen| match seen.kind.cause() {
            Some(cause) => format!("{}: {cause}", seen.kind.name()),
            None => seen.kind.name().to_owned(),
        };
        self.take().into_iter().map(name).collect()
    }
}
