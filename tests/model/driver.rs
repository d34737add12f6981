//! Runs a program: one step at a time, and after each until nothing moves any more.
//!
//! All runs in one thread, and the time of the runtime stands still but for the pauses of a commit that
//! tries again. So what happens depends on the program alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloakroom::SessionStore;
use cloakroom::testing::ManualClock;
use http::{Request, Response};
use tokio::task::{JoinHandle, yield_now};
use tower::{Layer, ServiceExt, service_fn};

use crate::browser::Browsers;
use crate::faults::{Fault, Faults};
use crate::gate::{Board, Who};
use crate::handler::{Handler, PlannedPanic, session_of};
use crate::program::{Cookie, End, Fate, Move, Operation, Program, Rules, Steps, Time};
use crate::reference::{Brought, Doing, Reference};
use crate::store_calls::user_name;
use crate::tally::Tally;

mod layer;
mod probes;

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
    pub(crate) tally: Tally,
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
    driver.tell().all_is_over();
    // What follows happens to every program.
    let tally = std::mem::take(&mut driver.tell().tally);
    if driver.violation().is_none() {
        driver.probe().await;
    }
    driver.tell().tally = tally;
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
            Move::SendAndLoad(browser, cookie, steps, end) => {
                let who = self.send(*browser, *cookie, steps.clone(), *end);
                self.settle().await;
                self.go_on_for(who, 2).await;
            }
            Move::Go(which, fate) => {
                if let Some(who) = pick(&self.board.waiting(), *which) {
                    self.release(who, *fate);
                }
            }
            Move::GoOnFor(which, steps) => {
                if let Some(who) = pick(&self.board.waiting(), *which) {
                    self.go_on_for(who, usize::from(*steps)).await;
                }
            }
            Move::Finish(which) => {
                if let Some(who) = pick(&self.board.waiting(), *which) {
                    self.finish(who).await;
                }
            }
            Move::HangUp(which) => self.hang_up(*which),
            Move::Deliver(which) => {
                if self.browsers.deliver(*which) {
                    self.tell().tally.count("a response overtakes another");
                }
            }
            Move::Pass(time) => self.clock.advance(time.duration()),
            Move::Sweep => self.sweep(),
            Move::Operate(operation) => self.operate(*operation),
        }
        self.settle().await;
        // So that no two things happen at the same time, of which nobody could say which came first.
        self.clock.advance(Duration::from_millis(1));
    }

    fn send(&mut self, browser: u8, cookie: Cookie, steps: Steps, end: End) -> Who {
        let (headers, brought) = self.browsers.request(browser, cookie, &self.tell());
        self.note(|| format!("  it brings {brought:?}"));
        let who = self.tell().begin(brought, Doing::Extract);
        self.note(|| format!("  as party {who}"));
        let mut handler = Some(Handler {
            who,
            reference: self.reference.clone(),
            board: self.board.clone(),
            steps,
            end,
        });
        let service = self.layer(who).layer(service_fn(move |request| {
            let handler = handler.take().expect("it is called once");
            async move { Ok::<_, std::convert::Infallible>(handler.handle(request).await) }
        }));
        let mut request = Request::new(());
        *request.headers_mut() = headers;
        let task = tokio::spawn(async move {
            match service.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        });
        self.open.insert(who, Open::Request(browser, task));
        who
    }

    fn hang_up(&mut self, which: u8) {
        let is_request = |open: &&Who| matches!(self.open[*open], Open::Request(..));
        let requests: Vec<_> = self.open.keys().filter(is_request).copied().collect();
        let Some(who) = pick(&requests, which) else {
            return;
        };
        self.note(|| format!("  party {who} hangs up"));
        if let Some(Open::Request(_, task)) = self.open.remove(&who) {
            self.tell().tally.count("a client hangs up");
            task.abort();
            self.tell().hung_up(who);
        }
    }

    fn sweep(&mut self) {
        let who = self.tell().begin(Brought::nothing(), Doing::Sweep);
        let store = self.store_for(who);
        let now = cloakroom::clock::Clock::now(&self.clock);
        let reference = self.reference.clone();
        let task = tokio::spawn(async move {
            if let Ok(1..) = store.delete_expired(now, 100).await {
                reference.lock().unwrap().tally.count("a sweep removes");
            }
        });
        self.open.insert(who, Open::Other(task));
    }

    fn operate(&mut self, operation: Operation) {
        let who = self
            .tell()
            .begin(Brought::nothing(), Doing::Operate(operation));
        let sessions = self.layer(who).sessions();
        let reference = self.reference.clone();
        let target = match operation {
            Operation::End(which) | Operation::EndOfUser(_, which) | Operation::IsAlive(which) => {
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
                (Operation::IsAlive(_), Some((_, handle))) => sessions.is_alive(handle).await,
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
                let mut reference = reference.lock().unwrap();
                reference.tally.count(operation.name(ended));
                reference.operated(who, operation, target, ended);
            }
        });
        self.open.insert(who, Open::Other(task));
    }

    fn release(&mut self, who: Who, fate: Fate) {
        let what = self.board.release(who, fate);
        self.note(|| format!("  party {who}: {what}: {fate:?}"));
    }

    async fn finish(&mut self, who: Who) {
        self.go_on_for(who, MOST_STEPS).await;
        if self.board.waiting().contains(&who) {
            self.tell()
                .violated(format!("party {who} does not come to the end"));
        }
    }

    async fn go_on_for(&mut self, who: Who, steps: usize) {
        for _ in 0..steps {
            if !self.board.waiting().contains(&who) {
                return;
            }
            self.release(who, Fate::GoOn);
            self.settle().await;
        }
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
        let cookies = Browsers::ids_told(response, &self.rules);
        let status = response.status();
        self.note(|| {
            format!(
                "  party {who} is answered {status}, {} cookie(s)",
                cookies.len()
            )
        });
        self.tell().responds(who, status, &cookies);
        if let Some((_, cookie)) = cookies.first() {
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
        let tally = std::mem::take(&mut self.tell().tally);
        Run {
            violation,
            tally,
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

impl Operation {
    /// What is counted of it, and of whether it found anything.
    fn name(self, found: bool) -> &'static str {
        match (self, found) {
            (Self::End(_), true) => "an operator ends one",
            (Self::EndOfUser(..), true) => "an operator ends one of a user",
            (Self::EndAll(_), true) => "an operator ends all of a user",
            (Self::EndEveryone, true) => "an operator ends everyone's",
            (Self::IsAlive(_), true) => "an operator sees one alive",
            (Self::IsAlive(_), false) => "an operator sees one dead",
            _ => "an operator finds nothing to end",
        }
    }
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
