//! The app: a handler that does what the program says with its session, and tells the reference model what
//! it sees.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use cloakroom::store::Handle;
use cloakroom::{Error, ErrorKind, Login, Session};
use http::{Extensions, Request, Response, StatusCode};

use crate::gate::{Board, SECOND, Who};
use crate::history::{Change, LoggedIn, SessionNumber};
use crate::program::{End, How, Lasting, Step, Steps, User};
use crate::reference::{Doing, Reference, Seen, Task};
use crate::store_calls::user_name;

/// What the handler panics with.
pub(crate) struct PlannedPanic;

pub(crate) struct Handler {
    pub(crate) who: Who,
    pub(crate) reference: Arc<Mutex<Reference>>,
    pub(crate) board: Board,
    pub(crate) steps: Steps,
    pub(crate) end: End,
}

/// Why a handler goes no further: it answers 500.
struct GivenUp;

impl From<Error> for GivenUp {
    fn from(_: Error) -> Self {
        Self
    }
}

impl Handler {
    pub(crate) async fn handle(self, request: Request<()>) -> Response<String> {
        let status = match self.run(request).await {
            Ok(()) => match self.end {
                End::Ok => StatusCode::OK,
                End::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
                End::Panic => {
                    self.drops("a panic drops changes");
                    self.does(Doing::Over);
                    // Not by `panic!`, whose message would be printed thousands of times.
                    std::panic::resume_unwind(Box::new(PlannedPanic));
                }
            },
            Err(GivenUp) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        self.does(match status {
            StatusCode::OK => Doing::Commit,
            _ => {
                self.drops("a 5xx drops changes");
                Doing::Over
            }
        });
        let mut response = Response::new(String::new());
        *response.status_mut() = status;
        response
    }

    async fn run(&self, request: Request<()>) -> Result<(), GivenUp> {
        let extensions = request.extensions();
        if self.steps.1.is_empty() {
            return self.task(extensions, Task::First).await;
        }
        self.tell(|reference| reference.tally.count("two tasks"));
        let first = pin!(self.task(extensions, Task::First));
        let second = pin!(self.task(extensions, Task::Second));
        self.both(first, second).await
    }

    /// Runs two tasks at once. Where both are woken, that goes first whose call is over, as the reference
    /// model has it.
    async fn both<T: Future<Output = Result<(), GivenUp>>>(
        &self,
        first: Pin<&mut T>,
        second: Pin<&mut T>,
    ) -> Result<(), GivenUp> {
        let mut tasks = [Some(first), Some(second)];
        let mut given_up = false;
        std::future::poll_fn(|context| {
            let running = self.tell(|reference| reference.parties[self.who].running);
            if running == Some(Task::Second) {
                tasks.reverse();
            }
            for task in &mut tasks {
                if let Some(future) = task
                    && let Poll::Ready(result) = future.as_mut().poll(context)
                {
                    *task = None;
                    given_up |= result.is_err();
                }
            }
            if running == Some(Task::Second) {
                tasks.reverse();
            }
            match (&tasks, given_up) {
                ([None, None], false) => Poll::Ready(Ok(())),
                ([None, None], true) => Poll::Ready(Err(GivenUp)),
                _ => Poll::Pending,
            }
        })
        .await
    }

    async fn task(&self, extensions: &Extensions, task: Task) -> Result<(), GivenUp> {
        let session = Session::load(extensions).await?;
        let seen = see(&session);
        match task {
            Task::First => self.tell(|reference| reference.extracted(self.who, &seen)),
            Task::Second => self.tell(|reference| reference.sees(self.who, &seen)),
        }
        let steps = match task {
            Task::First => &self.steps.0,
            Task::Second => &self.steps.1,
        };
        for step in steps {
            match task {
                _ if self.steps.1.is_empty() => {}
                Task::First => self.board.turn(self.who).await,
                Task::Second => self.board.turn(SECOND + self.who).await,
            }
            self.step(&session, task, *step).await?;
            let seen = see(&session);
            self.tell(|reference| {
                reference.tally.count(step.name());
                reference.sees(self.who, &seen);
            });
        }
        Ok(())
    }

    async fn step(&self, session: &Session, task: Task, step: Step) -> Result<(), GivenUp> {
        match step {
            Step::Insert(key) => {
                let token = self.tell(Reference::fresh_token);
                session.insert(name(key), vec![token])?;
                self.stages(Change::Set(key, token));
            }
            Step::Append(key) => {
                let token = self.tell(Reference::fresh_token);
                session.update(name(key), move |tokens: &mut Vec<u32>| tokens.push(token))?;
                self.stages(Change::Append(key, token));
            }
            Step::Remove(key) => {
                if session.remove(name(key))? {
                    self.stages(Change::Removed(key));
                }
            }
            Step::Take(key) => {
                if session.take::<Vec<u32>>(name(key))?.is_some() {
                    self.stages(Change::Removed(key));
                }
            }
            Step::Clear => {
                let was_empty = session.is_empty();
                session.clear()?;
                if !was_empty {
                    self.stages(Change::Cleared);
                }
            }
            Step::RenewId => {
                session.renew_id()?;
                self.wishes(|wishes| wishes.renew = true);
            }
            Step::PersistentCookie => {
                session.persistent_cookie()?;
                self.wishes(|wishes| wishes.persistent_cookie = true);
            }
            Step::SetTimeouts(lasting) => {
                session.set_timeouts(lasting.timeouts())?;
                self.wishes(|wishes| wishes.timeouts = Some(lasting));
            }
            Step::DoNotExtend => {
                session.do_not_extend()?;
                self.wishes(|wishes| wishes.do_not_extend = true);
            }
            Step::Save => {
                self.calls(task, Doing::Save);
                let result = kind(session.save().await);
                self.tell(|reference| reference.saved(self.who, result));
                self.called();
            }
            Step::Login(user, how) => self.log_in(session, task, user, how).await,
            Step::Destroy => self.destroy(session, task).await,
            Step::EndOne(_) | Step::EndOthers | Step::EndAll => self.end(session, step).await?,
            Step::List => self.list(session).await?,
        }
        Ok(())
    }

    async fn log_in(&self, session: &Session, task: Task, user: User, how: How) {
        self.calls(task, Doing::Login(user, how));
        let login = Login::new(user_name(user));
        let login = match how {
            How::Plain => login,
            How::SecondFactorPending => login.second_factor_pending(),
            How::RememberMe => login.remember_me(Lasting::Longer.timeouts()),
            How::ForgetMe => login.forget_me(),
        };
        let result = kind(session.login(login).await);
        let seen = see(session);
        self.tell(|reference| reference.logged_in(self.who, (user, how), result, &seen));
        self.called();
    }

    async fn destroy(&self, session: &Session, task: Task) {
        self.calls(task, Doing::Destroy);
        let result = kind(session.destroy().await);
        self.tell(|reference| reference.destroyed(self.who, result));
        self.called();
    }

    async fn end(&self, session: &Session, step: Step) -> Result<(), GivenUp> {
        match step {
            Step::EndOthers => {
                self.does(Doing::EndOthers);
                let result = session.end_other_sessions().await;
                let told = kind(result.clone().map(drop));
                self.tell(|reference| reference.ended_others(self.who, told));
                result?;
            }
            Step::EndAll => {
                self.does(Doing::EndAll);
                let result = session.end_all_sessions().await;
                let told = kind(result.clone().map(drop));
                self.tell(|reference| reference.ended_all(self.who, told));
                result?;
            }
            Step::EndOne(which) => {
                let Some((target, handle)) = self.tell(|reference| session_of(reference, which))
                else {
                    return Ok(());
                };
                self.does(Doing::EndOne(Some(target)));
                let result = session.end_user_session(&handle).await;
                let ended = result.as_ref().is_ok_and(|&ended| ended);
                self.tell(|reference| reference.ended_one(self.who, Some(target), ended));
                result?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn list(&self, session: &Session) -> Result<(), GivenUp> {
        self.does(Doing::List);
        let listed = session.user_sessions().await?;
        let handles: Vec<_> = listed.iter().map(|listed| *listed.handle()).collect();
        self.tell(|reference| reference.listed(self.who, &handles));
        Ok(())
    }

    fn drops(&self, what: &'static str) {
        self.tell(|reference| {
            if !reference.parties[self.who].staged.is_empty() {
                reference.tally.count(what);
            }
        });
    }

    fn tell<T>(&self, what: impl FnOnce(&mut Reference) -> T) -> T {
        what(&mut self.reference.lock().unwrap())
    }

    fn does(&self, doing: Doing) {
        self.tell(|reference| reference.does(self.who, doing));
    }

    fn calls(&self, task: Task, doing: Doing) {
        self.tell(|reference| reference.calls(self.who, task, doing));
    }

    fn called(&self) {
        self.tell(|reference| reference.called(self.who));
    }

    fn stages(&self, change: Change) {
        self.tell(|reference| reference.stages(self.who, change));
    }

    fn wishes(&self, wish: impl FnOnce(&mut crate::reference::Wishes)) {
        self.tell(|reference| wish(&mut reference.parties[self.who].wishes));
    }
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Insert(_) => "insert",
            Self::Append(_) => "append",
            Self::Remove(_) => "remove",
            Self::Take(_) => "take",
            Self::Clear => "clear",
            Self::Save => "save",
            Self::RenewId => "renew id",
            Self::PersistentCookie => "persistent cookie",
            Self::SetTimeouts(_) => "set timeouts",
            Self::DoNotExtend => "do not extend",
            Self::Login(..) => "login",
            Self::Destroy => "destroy",
            Self::EndOne(_) => "end one",
            Self::EndOthers => "end others",
            Self::EndAll => "end all",
            Self::List => "list",
        }
    }
}

/// One of the sessions that there ever were. Before it is created nobody knows its handle.
pub(crate) fn session_of(reference: &Reference, which: u8) -> Option<(SessionNumber, Handle)> {
    let sessions = reference.history.sessions.iter().enumerate();
    let created: Vec<_> = sessions
        .filter(|(_, session)| session.tip.is_some())
        .collect();
    let index = usize::from(which).checked_rem(created.len())?;
    let (number, session) = created[index];
    Some((number, session.handle))
}

fn see(session: &Session) -> Seen {
    let logged_in = |user_id: &str, pending| LoggedIn {
        user: (0..2)
            .find(|&user| user_name(user) == user_id)
            .unwrap_or(u8::MAX),
        pending,
    };
    let user_id = session.user_id();
    let pending = session.pending_user_id();
    let content: BTreeMap<_, _> = session
        .keys()
        .into_iter()
        .map(|key| {
            let tokens: Vec<u32> = session.get(&key).ok().flatten().unwrap_or_default();
            (key.parse().unwrap_or(u8::MAX), tokens)
        })
        .collect();
    Seen {
        handle: session.handle(),
        logged_in: user_id
            .map(|user_id| logged_in(&user_id, false))
            .or(pending.map(|user_id| logged_in(&user_id, true))),
        content,
    }
}

fn name(key: u8) -> &'static str {
    ["0", "1"][usize::from(key)]
}

fn kind(result: Result<(), Error>) -> Result<(), ErrorKind> {
    result.map_err(|error| error.kind())
}
