//! Runs a program: one step at a time, and after each until nothing moves any more.
//!
//! All runs in one thread, and the time of the runtime stands still but for the pauses of a commit that
//! tries again. So what happens depends on the program alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::events::{Event, EventKind};
use cloakroom::store::SessionLimit;
use cloakroom::testing::ManualClock;
use cloakroom::{SessionLayer, SessionStore};
use http::{Request, Response, header};
use tokio::task::{JoinHandle, yield_now};
use tower::{Layer, ServiceExt, service_fn};

use crate::browser::Browsers;
use crate::faults::{Fault, Faults};
use crate::gate::{Board, Gate, Who};
use crate::handler::{Handler, PlannedPanic, session_of};
use crate::program::{
    Cookie, End, Fate, Limit, Move, Operation, Program, Rules, Step, Steps, Time,
};
use crate::reference::{Brought, Doing, Reference, TIMEOUTS};
use crate::store_calls::{RENEWED_AFTER, user_name};
use crate::watch::Watch;

/// Longer than a commit ever pauses before it tries again.
const SETTLED_AFTER: Duration = Duration::from_millis(100);
/// Longer than any program takes: how long commits try, and calls may wait.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// More steps than anybody takes to come to the end.
const MOST_STEPS: usize = 2_000;

pub(crate) struct Run {
    pub(crate) violation: Option<String>,
    /// What happened, if that was asked for.
    pub(crate) trace: Vec<String>,
}

/// Runs a program on a store that is empty, with a fault, if any.
pub(crate) async fn run(
    program: &Program,
    store: Arc<dyn SessionStore>,
    fault: Option<Fault>,
    traced: bool,
) -> Run {
    let clock = ManualClock::new();
    let mut driver = Driver {
        reference: Arc::new(Mutex::new(Reference::new(clock.clone(), program.rules))),
        board: Board::default(),
        store,
        faults: fault.map(Faults::new),
        rules: program.rules,
        clock,
        browsers: Browsers::default(),
        open: BTreeMap::new(),
        trace: traced.then(Vec::new),
    };
    for step in &program.moves {
        driver.make(step).await;
        if let Some(violation) = driver.violation() {
            return driver.over(Some(violation));
        }
    }
    driver.finish_all().await;
    if driver.violation().is_none() {
        driver.probe().await;
    }
    let violation = driver.violation();
    driver.over(violation)
}

struct Driver {
    reference: Arc<Mutex<Reference>>,
    board: Board,
    store: Arc<dyn SessionStore>,
    faults: Option<Faults>,
    rules: Rules,
    clock: ManualClock,
    browsers: Browsers,
    open: BTreeMap<Who, Open>,
    trace: Option<Vec<String>>,
}

/// Somebody who is under way.
enum Open {
    Request(u8, JoinHandle<Response<String>>),
    Other(JoinHandle<()>),
}

impl Driver {
    async fn make(&mut self, step: &Move) {
        self.note(|| format!("{step:?}"));
        match step {
            Move::Send(browser, cookie, steps, end) => {
                self.send(*browser, *cookie, steps.clone(), *end);
            }
            Move::Go(which, fate) => {
                if let Some(who) = pick(&self.board.waiting(), *which) {
                    self.release(who, *fate);
                }
            }
            Move::Finish(which) => {
                if let Some(who) = pick(&self.board.waiting(), *which) {
                    self.finish(who).await;
                }
            }
            Move::HangUp(which) => self.hang_up(*which),
            Move::Deliver(which) => self.browsers.deliver(*which),
            Move::Pass(time) => self.clock.advance(time.duration()),
            Move::Sweep => self.sweep(),
            Move::Operate(operation) => self.operate(*operation),
        }
        self.settle().await;
        // So that no two things happen at the same time, of which nobody could say which came first.
        self.clock.advance(Duration::from_millis(1));
    }

    fn send(&mut self, browser: u8, cookie: Cookie, steps: Steps, end: End) -> Who {
        let (value, brought) = self.browsers.cookie(browser, cookie, &self.tell());
        let who = self.tell().begin(brought, Doing::Extract);
        self.note(|| format!("  party {who} brings {brought:?}"));
        let mut handler = Some(Handler {
            who,
            reference: self.reference.clone(),
            steps,
            end,
        });
        let service = self.layer(who).layer(service_fn(move |request| {
            let handler = handler.take().expect("it is called once");
            async move { Ok::<_, std::convert::Infallible>(handler.handle(request).await) }
        }));
        let mut request = Request::new(());
        if let Some(value) = value {
            let line = format!("{}={value}", crate::support_id::COOKIE);
            let line = line.parse().expect("ids are ASCII");
            request.headers_mut().insert(header::COOKIE, line);
        }
        let task = tokio::spawn(async move {
            match service.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        });
        self.open.insert(who, Open::Request(browser, task));
        who
    }

    fn layer(&self, who: Who) -> SessionLayer {
        let reference = self.reference.clone();
        let builder = SessionLayer::builder(self.store_for(who))
            .clock(self.clock.clone())
            .timeouts(TIMEOUTS)
            .retry_for(PATIENCE)
            .store_timeout(PATIENCE)
            .on_event(move |event: &Event<'_>| {
                if event.kind() == EventKind::WritePanicked {
                    reference.lock().unwrap().violated("a write panicked");
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

    fn has_index(&self) -> bool {
        self.store.user_index().is_some()
    }

    /// The store as this party sees it: what the crate does is watched, then may go wrong, and each call that
    /// comes of it waits.
    fn store_for(&self, who: Who) -> Watch {
        let gate = Gate {
            who,
            board: self.board.clone(),
            store: self.store.clone(),
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

    fn hang_up(&mut self, which: u8) {
        let is_request = |open: &&Who| matches!(self.open[*open], Open::Request(..));
        let requests: Vec<_> = self.open.keys().filter(is_request).copied().collect();
        let Some(who) = pick(&requests, which) else {
            return;
        };
        self.note(|| format!("  party {who} hangs up"));
        if let Some(Open::Request(_, task)) = self.open.remove(&who) {
            task.abort();
            self.tell().hung_up(who);
        }
    }

    fn sweep(&mut self) {
        let who = self.tell().begin(Brought::Nothing, Doing::Sweep);
        let store = self.store_for(who);
        let now = cloakroom::clock::Clock::now(&self.clock);
        let task = tokio::spawn(async move {
            let _failed = store.delete_expired(now, 100).await;
        });
        self.open.insert(who, Open::Other(task));
    }

    fn operate(&mut self, operation: Operation) {
        let who = self
            .tell()
            .begin(Brought::Nothing, Doing::Operate(operation));
        let sessions = self.layer(who).sessions();
        let reference = self.reference.clone();
        let target = match operation {
            Operation::End(which) | Operation::EndOfUser(_, which) => {
                let target = session_of(&self.tell(), which);
                if target.is_none() {
                    return;
                }
                target
            }
            _ => None,
        };
        let task = tokio::spawn(async move {
            let ended = match (operation, &target) {
                (Operation::End(_), Some((_, handle))) => sessions.end(handle).await,
                (Operation::EndOfUser(user, _), Some((_, handle))) => {
                    sessions.end_of_user(user_name(user), handle).await
                }
                (Operation::EndAll(user), _) => sessions
                    .end_all(user_name(user))
                    .await
                    .map(|ended| ended > 0),
                _ => sessions.end_everyone().await.map(|ended| ended > 0),
            };
            if let Ok(ended) = ended {
                let target = target.map(|(number, _)| number);
                reference
                    .lock()
                    .unwrap()
                    .operated(who, operation, target, ended);
            }
        });
        self.open.insert(who, Open::Other(task));
    }

    fn release(&mut self, who: Who, fate: Fate) {
        let what = self.board.release(who, fate);
        self.note(|| format!("  party {who}: {what}: {fate:?}"));
    }

    async fn finish(&mut self, who: Who) {
        for _ in 0..MOST_STEPS {
            if !self.board.waiting().contains(&who) {
                return;
            }
            self.release(who, Fate::GoOn);
            self.settle().await;
        }
        self.tell()
            .violated(format!("party {who} does not come to the end"));
    }

    async fn finish_all(&mut self) {
        self.note(|| "everybody comes to the end".into());
        while let Some(&who) = self.board.waiting().first() {
            self.finish(who).await;
            if self.violation().is_some() {
                return;
            }
        }
        let stuck: Vec<_> = self.open.keys().copied().collect();
        if !stuck.is_empty() {
            self.tell()
                .violated(format!("parties {stuck:?} wait for nothing"));
        }
    }

    /// Looks what each id opens that was ever sent: now, right before its session has to expire, and when it
    /// has.
    async fn probe(&mut self) {
        let sent = self.tell().ids.len();
        let mut probes = Vec::new();
        for id in 0..sent {
            probes.push(self.look_at(id).await);
        }
        if self.has_index() {
            self.tell().ends(&probes);
        }
        let moments = self.tell().moments();
        for (at, id) in moments {
            let wait = at - self.tell().now();
            self.clock
                .advance(Duration::from_millis(wait.max(0).unsigned_abs()));
            self.look_at(id).await;
        }
    }

    async fn look_at(&mut self, id: usize) -> Who {
        let back = self.tell().ids.len() - 1 - id;
        let back = u8::try_from(back).unwrap_or(u8::MAX);
        self.note(|| format!("id {id} is looked at"));
        let steps = Steps(vec![Step::DoNotExtend]);
        let who = self.send(0, Cookie::Stolen(back), steps, End::ServerError);
        self.settle().await;
        self.finish(who).await;
        who
    }

    /// Runs everything until all that is under way waits for the driver.
    async fn settle(&mut self) {
        loop {
            // While the store works, time must not move: it would at once, as soon as all tasks wait.
            while self.board.is_busy() {
                yield_now().await;
            }
            tokio::time::sleep(SETTLED_AFTER).await;
            if !self.board.is_busy() {
                break;
            }
        }
        self.collect().await;
    }

    /// Takes in what has come to its end.
    async fn collect(&mut self) {
        let is_over = |open: &Open| match open {
            Open::Request(_, task) => task.is_finished(),
            Open::Other(task) => task.is_finished(),
        };
        let over: Vec<_> = self.open.extract_if(.., |_, open| is_over(open)).collect();
        for (who, open) in over {
            let panicked = match open {
                Open::Request(browser, task) => match task.await {
                    Ok(response) => {
                        self.answered(who, browser, &response);
                        None
                    }
                    Err(error) => error.try_into_panic().ok(),
                },
                Open::Other(task) => task
                    .await
                    .err()
                    .and_then(|error| error.try_into_panic().ok()),
            };
            if panicked.is_some_and(|with| !with.is::<PlannedPanic>()) {
                self.tell().violated(format!("party {who} panicked"));
            }
        }
    }

    fn answered(&mut self, who: Who, browser: u8, response: &Response<String>) {
        let cookies = Browsers::cookies_of(response);
        let status = response.status();
        self.note(|| {
            format!(
                "  party {who} is answered {status}, {} cookie(s)",
                cookies.len()
            )
        });
        self.tell().responds(who, status, &cookies);
        if let Some(cookie) = cookies.first() {
            self.browsers.is_on_its_way(browser, cookie.clone());
        }
    }

    fn tell(&self) -> std::sync::MutexGuard<'_, Reference> {
        self.reference.lock().unwrap()
    }

    fn violation(&self) -> Option<String> {
        self.tell().violations.first().cloned()
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(what());
        }
    }

    fn over(self, violation: Option<String>) -> Run {
        Run {
            violation,
            trace: self.trace.unwrap_or_default(),
        }
    }
}

fn pick(from: &[Who], which: u8) -> Option<Who> {
    let mut from = from.to_vec();
    from.dedup();
    let index = usize::from(which).checked_rem(from.len())?;
    Some(from[index])
}

impl Time {
    const fn duration(self) -> Duration {
        match self {
            Self::Second => Duration::from_millis(1_500),
            Self::Minutes => Duration::from_secs(3 * 60),
            Self::NearlyIdle => Duration::from_secs(14 * 60),
            Self::Idle => Duration::from_secs(18 * 60),
        }
    }
}
