//! A program: what browsers, operators, the clock and the store do, step by step.
//!
//! Ids come from the random source of the system, so a program refers to them by who got them, and to
//! whatever else there may be or not by a number that is taken modulo how many there are.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;

/// Prints as the Rust that makes it, so that one which fails can be kept as a test.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) rules: Rules,
    pub(crate) moves: Vec<Move>,
}

/// How the layer is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rules {
    pub(crate) touch_every_read: bool,
    /// Whether ids are renewed every five minutes.
    pub(crate) renew_ids: bool,
    /// Whether a copy of an id ends its session, where ids are renewed.
    pub(crate) end_on_copied_id: bool,
    pub(crate) carriers: Carriers,
    pub(crate) limit: Limit,
}

/// What ids travel in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Carriers {
    /// A cookie of which no browser sends two.
    HostCookie,
    /// A cookie without such a prefix, of which there may be two.
    PlainCookie,
    /// The third browser is a program, which has its id in a header.
    CookieAndHeader,
}

/// How many sessions a user may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    None,
    EndOldest(usize),
    RefuseLogin(usize),
}

#[derive(Clone, Debug)]
pub(crate) enum Move {
    /// A browser sends a request, which runs until it calls the store.
    Send(Browser, Cookie, Steps, End),
    /// So it does, and its session is loaded at once: what comes of it meets what others do meanwhile.
    SendAndLoad(Browser, Cookie, Steps, End),
    /// One of the store calls under way comes one step further, by its fate.
    Go(u8, Fate),
    /// Somebody who is under way comes so many steps further, with a store that works.
    GoOnFor(u8, u8),
    /// Somebody who is under way comes to the end, with a store that works.
    Finish(u8),
    /// One of the clients under way hangs up: its request is dropped where it is.
    HangUp(u8),
    /// One of the responses under way reaches its browser.
    Deliver(u8),
    /// The clock advances.
    Pass(Time),
    /// A sweep for expired records begins.
    Sweep,
    /// An operator begins to end sessions.
    Operate(Operation),
}

/// One of the browsers, by number.
pub(crate) type Browser = u8;

/// What a request brings as the session's cookie.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cookie {
    /// What the browser has.
    Own,
    /// One of the ids that were ever sent to anybody, counted from the latest.
    Stolen(u8),
    /// A well-formed id that nobody was sent.
    Forged,
    /// The handle of a session, with a secret that is made up.
    Guessed(u8),
    /// Two of the ids that were ever sent, under one name.
    Two(u8, u8),
    /// What it has, and a stolen id in the carrier that it does not use.
    Beside(u8),
}

/// What a handler does, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Insert(Key),
    /// Adds to a list, by a closure of `update`.
    Append(Key),
    Remove(Key),
    Take(Key),
    Clear,
    Save,
    RenewId,
    PersistentCookie,
    SetTimeouts(Lasting),
    DoNotExtend,
    Login(User, How),
    Destroy,
    /// Ends one of the sessions that there ever were, if it is the user's.
    EndOne(u8),
    EndOthers,
    EndAll,
    /// Looks where the user is logged in.
    List,
}

/// The steps of one request: of its handler, and of a second task that uses the same session.
#[derive(Clone)]
pub(crate) struct Steps(pub(crate) Vec<Step>, pub(crate) Vec<Step>);

/// How a handler ends, if no step of it failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Ok,
    ServerError,
    Panic,
}

pub(crate) type Key = u8;
pub(crate) type User = u8;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum How {
    Plain,
    SecondFactorPending,
    RememberMe,
    ForgetMe,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Lasting {
    Shorter,
    Longer,
}

/// What becomes of a store call that waits before or after its effect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    GoOn,
    /// It fails here: nothing more takes effect, and the answer, if there was one, is lost.
    Fail,
    /// It fails, and if it had no effect yet, has it later all the same.
    FailAndTakeEffectLater,
    /// It takes effect, but too few replicas have confirmed that: it is no acknowledgement. A call that
    /// none has to confirm fails.
    Unconfirmed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Time {
    /// Within the grace of a retired id.
    Second,
    /// Longer than that, and worth a touch.
    Minutes,
    /// Nearly the idle timeout.
    NearlyIdle,
    /// Longer than the idle timeout, and than a sweep spares.
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operation {
    /// Ends one of the sessions that there ever were.
    End(u8),
    /// Ends it if it is this user's.
    EndOfUser(User, u8),
    EndAll(User),
    EndEveryone,
    /// Asks whether one of the sessions is alive.
    IsAlive(u8),
}

impl Rules {
    /// The defaults of the layer.
    pub(crate) const PLAIN: Self = Self {
        touch_every_read: false,
        renew_ids: false,
        end_on_copied_id: false,
        carriers: Carriers::HostCookie,
        limit: Limit::None,
    };
}

/// Steps, as a program prints them.
pub(crate) fn steps<const N: usize>(steps: [Step; N]) -> Steps {
    Steps(steps.to_vec(), Vec::new())
}

/// Steps of two tasks at once, as a program prints them.
pub(crate) fn both<const N: usize, const M: usize>(first: [Step; N], second: [Step; M]) -> Steps {
    Steps(first.to_vec(), second.to_vec())
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // On one line, however the program is printed.
        match &self.1[..] {
            [] => write!(f, "steps({:?})", self.0),
            second => write!(f, "both({:?}, {second:?})", self.0),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Program {{\n    rules: {:?},\n    moves: vec![",
            self.rules
        )?;
        for step in &self.moves {
            writeln!(f, "        {step:?},")?;
        }
        write!(f, "    ],\n}}")
    }
}

/// Programs of up to so many moves, each with its own mix of them: so that some come deep into one subject.
pub(crate) fn programs(most_moves: usize) -> impl Strategy<Value = Program> {
    let moves = mix().prop_flat_map(move |mix| vec(a_move(mix), 1..=most_moves));
    let first = prop_oneof![9 => Just(Vec::new()), 1 => Just(a_renewal())];
    (rules(), first, moves).prop_map(|(rules, first, moves)| Program {
        rules,
        moves: [first, moves].concat(),
    })
}

/// An id is renewed on a schedule, where that is the rule, and its successor is in use: whoever brings the one
/// before has a copy. By chance alone it hardly ever comes to that.
fn a_renewal() -> Vec<Move> {
    let visit = || {
        let steps = Steps(vec![Step::Append(0)], Vec::new());
        let send = Move::Send(0, Cookie::Own, steps, End::Ok);
        [send, Move::Finish(0), Move::Deliver(0)]
    };
    let wait = || [Move::Pass(Time::Minutes), Move::Pass(Time::Minutes)];
    let [first, renewing, using] = [visit(), visit(), visit()];
    let [soon, later] = [wait(), wait()];
    let parts = [&first[..], &soon, &renewing, &using, &later];
    parts.concat()
}

/// How often what comes.
#[derive(Clone, Copy, Debug)]
struct Mix {
    data: u32,
    logins: u32,
    endings: u32,
    time: u32,
    failures: u32,
}

fn mix() -> impl Strategy<Value = Mix> {
    let often = || prop_oneof![Just(1_u32), Just(4), Just(12)];
    let parts = (often(), often(), often(), often(), 0..3_u32);
    parts.prop_map(|(data, logins, endings, time, failures)| Mix {
        data,
        logins,
        endings,
        time,
        failures,
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let limit = prop_oneof![
        2 => Just(Limit::None),
        1 => (1..3_usize).prop_map(Limit::EndOldest),
        1 => (1..3_usize).prop_map(Limit::RefuseLogin),
    ];
    let carriers = prop_oneof![
        2 => Just(Carriers::HostCookie),
        1 => Just(Carriers::PlainCookie),
        1 => Just(Carriers::CookieAndHeader),
    ];
    let switches = (any::<bool>(), any::<bool>(), any::<bool>());
    (switches, carriers, limit).prop_map(|(switches, carriers, limit)| {
        let (touch_every_read, renew_ids, end_on_copied_id) = switches;
        Rules {
            touch_every_read,
            renew_ids,
            end_on_copied_id: end_on_copied_id && renew_ids,
            carriers,
            limit,
        }
    })
}

fn a_move(mix: Mix) -> impl Strategy<Value = Move> {
    let end = prop_oneof![12 => Just(End::Ok), 1 => Just(End::ServerError), 1 => Just(End::Panic)];
    let request = (0..3_u8, cookie(), some_steps(mix), end);
    let send = (request, any::<bool>()).prop_map(|(request, load)| {
        let (browser, cookie, steps, end) = request;
        match load {
            false => Move::Send(browser, cookie, steps, end),
            true => Move::SendAndLoad(browser, cookie, steps, end),
        }
    });
    prop_oneof![
        32 => send,
        40 => (any::<u8>(), fate(mix)).prop_map(|(which, fate)| Move::Go(which, fate)),
        32 => (any::<u8>(), 2..6_u8).prop_map(|(which, steps)| Move::GoOnFor(which, steps)),
        24 => any::<u8>().prop_map(Move::Finish),
        4 => any::<u8>().prop_map(Move::HangUp),
        16 => any::<u8>().prop_map(Move::Deliver),
        3 * mix.time => time().prop_map(Move::Pass),
        mix.time => Just(Move::Sweep),
        mix.endings => operation().prop_map(Move::Operate),
    ]
}

fn some_steps(mix: Mix) -> impl Strategy<Value = Steps> {
    let task = || vec(step(mix).prop_map(Step::in_one_of_two), 1..3);
    prop_oneof![
        5 => vec(step(mix), 0..4).prop_map(|steps| Steps(steps, Vec::new())),
        1 => (task(), task()).prop_map(|(first, second)| Steps(first, second)),
    ]
}

impl Step {
    /// Two tasks save, log in and end their own session. What goes beyond that is left to one.
    fn in_one_of_two(self) -> Self {
        match self {
            Self::EndOne(_) | Self::List => Self::Save,
            Self::EndOthers => Self::Login(0, How::Plain),
            Self::EndAll => Self::Destroy,
            step => step,
        }
    }
}

fn cookie() -> impl Strategy<Value = Cookie> {
    prop_oneof![
        12 => Just(Cookie::Own),
        // Mostly that of the latest session, so that requests meet there.
        8 => Just(Cookie::Stolen(0)),
        5 => (0..6_u8).prop_map(Cookie::Stolen),
        2 => Just(Cookie::Stolen(1)),
        1 => Just(Cookie::Forged),
        1 => (0..3_u8).prop_map(Cookie::Guessed),
        2 => (0..4_u8, 0..4_u8).prop_map(|(one, other)| Cookie::Two(one, other)),
        1 => (0..6_u8).prop_map(Cookie::Beside),
    ]
}

fn step(mix: Mix) -> impl Strategy<Value = Step> {
    let key = 0..2_u8;
    let user = 0..2_u8;
    let how = prop_oneof![
        4 => Just(How::Plain),
        1 => Just(How::SecondFactorPending),
        1 => Just(How::RememberMe),
        1 => Just(How::ForgetMe),
    ];
    let lasting = prop_oneof![Just(Lasting::Shorter), Just(Lasting::Longer)];
    let data = prop_oneof![
        4 => key.clone().prop_map(Step::Insert),
        6 => key.clone().prop_map(Step::Append),
        1 => key.clone().prop_map(Step::Remove),
        1 => key.prop_map(Step::Take),
        1 => Just(Step::Clear),
        2 => Just(Step::Save),
    ];
    let renewals = prop_oneof![
        2 => Just(Step::RenewId),
        1 => Just(Step::PersistentCookie),
        1 => lasting.prop_map(Step::SetTimeouts),
        1 => Just(Step::DoNotExtend),
    ];
    let endings = prop_oneof![
        3 => Just(Step::Destroy),
        1 => any::<u8>().prop_map(Step::EndOne),
        1 => Just(Step::EndOthers),
        1 => Just(Step::EndAll),
        1 => Just(Step::List),
    ];
    prop_oneof![
        4 * mix.data => data,
        4 => renewals,
        mix.logins => (user, how).prop_map(|(user, how)| Step::Login(user, how)),
        mix.endings => endings,
    ]
}

fn fate(mix: Mix) -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::GoOn),
        mix.failures => Just(Fate::Fail),
        mix.failures => Just(Fate::FailAndTakeEffectLater),
        mix.failures => Just(Fate::Unconfirmed),
    ]
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        3 => Just(Time::Second),
        3 => Just(Time::Minutes),
        2 => Just(Time::NearlyIdle),
        1 => Just(Time::Idle),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        1 => any::<u8>().prop_map(Operation::End),
        1 => (0..2_u8, any::<u8>()).prop_map(|(user, which)| Operation::EndOfUser(user, which)),
        2 => (0..2_u8).prop_map(Operation::EndAll),
        1 => Just(Operation::EndEveryone),
        1 => any::<u8>().prop_map(Operation::IsAlive),
    ]
}
