//! The layer of each party, as the rules of the program set it, and the store below.

use std::sync::Arc;
use std::time::Duration;

use cloakroom::SessionLayer;
use cloakroom::events::{Event, EventKind};
use cloakroom::store::SessionLimit;

use super::{Driver, PATIENCE};
use crate::browser::HEADER;
use crate::gate::{Gate, Who};
use crate::program::{Carriers, Limit};
use crate::reference::TIMEOUTS;
use crate::store_calls::RENEWED_AFTER;
use crate::watch::Watch;

impl Driver {
    pub(super) fn layer(&self, who: Who) -> SessionLayer {
        let reference = self.reference.clone();
        let builder = SessionLayer::builder(self.store_for(who))
            .clock(self.clock.clone())
            .timeouts(TIMEOUTS)
            .retry_for(PATIENCE)
            .store_timeout(PATIENCE)
            .on_event(move |event: &Event<'_>| {
                let mut reference = reference.lock().unwrap();
                reference.tally.count(format!("{:?}", event.kind()));
                if event.kind() == EventKind::WritePanicked {
                    reference.violated("a write panicked");
                }
            });
        let builder = match self.rules.touch_every_read {
            true => builder.touch_every_read(),
            false => builder,
        };
        let builder = match self.rules.renew_ids {
            true => builder.renew_ids_every(Duration::from_millis(RENEWED_AFTER.unsigned_abs())),
            false => builder,
        };
        let builder = match self.rules.end_on_copied_id {
            true => builder.end_session_on_copied_id(),
            false => builder,
        };
        let builder = match self.rules.carriers {
            Carriers::HostCookie => builder,
            Carriers::PlainCookie => builder.insecure_for_development(),
            Carriers::CookieAndHeader => builder.id_header(HEADER.as_str()),
        };
        let builder = match self.rules.limit {
            Limit::EndOldest(most) if self.has_index() => {
                builder.limit_sessions_per_user(SessionLimit::EndOldest(most))
            }
            Limit::RefuseLogin(most) if self.has_index() => {
                builder.limit_sessions_per_user(SessionLimit::RefuseLogin(most))
            }
            _ => builder,
        };
        builder.build().expect("the settings are right")
    }

    pub(super) fn has_index(&self) -> bool {
        self.store.user_index().is_some()
    }

    /// The store as this party sees it: what the crate does is watched, then may go wrong, and each call that
    /// comes of it waits.
    pub(super) fn store_for(&self, who: Who) -> Watch {
        let gate = Gate {
            who,
            board: self.board.clone(),
            store: self.store.clone(),
            reference: self.reference.clone(),
        };
        Watch {
            who,
            reference: self.reference.clone(),
            store: match &self.faults {
                Some(faults) => faults.around(gate),
                None => Arc::new(gate),
            },
        }
    }
}
