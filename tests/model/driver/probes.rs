//! What is looked at when a program is over.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::store::Handle;

use super::{Driver, Open};
use crate::browser::Carrier;
use crate::gate::Who;
use crate::program::{Cookie, End, Step, Steps};
use crate::reference::{Brought, Doing};
use crate::store_calls::user_name;

impl Driver {
    /// Looks what each id opens that was ever sent: now, right before its session has to expire, and when it
    /// has.
    pub(super) async fn probe(&mut self) {
        let sent = self.tell().ids.len();
        let mut probes = Vec::new();
        for id in 0..sent {
            probes.push(self.look_at(id).await);
        }
        if self.has_index() {
            let listed = [self.list(0).await, self.list(1).await];
            self.tell().ends(&probes, &listed);
        }
        let moments = self.tell().moments();
        for (at, id) in moments {
            let wait = at - self.tell().now();
            self.clock
                .advance(Duration::from_millis(wait.max(0).unsigned_abs()));
            self.look_at(id).await;
        }
    }

    /// Where a user is logged in, as an operator is told.
    async fn list(&mut self, user: u8) -> Vec<Handle> {
        let who = self.tell().begin(Brought::nothing(), Doing::List);
        let sessions = self.layer(who).sessions();
        let listed = Arc::new(Mutex::new(Vec::new()));
        let task = {
            let listed = listed.clone();
            tokio::spawn(async move {
                let list = sessions.list(user_name(user)).await;
                let list = list.expect("the store works");
                *listed.lock().unwrap() = list.iter().map(|one| *one.handle()).collect();
            })
        };
        self.open.insert(who, Open::Other(task));
        self.settle().await;
        self.finish(who).await;
        std::mem::take(&mut *listed.lock().unwrap())
    }

    async fn look_at(&mut self, id: usize) -> Who {
        let back = self.tell().ids.len() - 1 - id;
        let back = u8::try_from(back).unwrap_or(u8::MAX);
        self.note(|| format!("id {id} is looked at"));
        let steps = Steps(vec![Step::DoNotExtend], Vec::new());
        let session = {
            let reference = self.tell();
            reference.history.versions[reference.ids[id].version].session
        };
        // By the carrier that it was sent in.
        let browser = match self.tell().history.sessions[session].carrier {
            Carrier::Cookie => 0,
            Carrier::Header => 2,
        };
        let who = self.send(browser, Cookie::Stolen(back), steps, End::ServerError);
        self.settle().await;
        self.finish(who).await;
        who
    }
}
