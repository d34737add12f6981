//! Tests of the state machine: what a request found and staged, as tables of what becomes of it.
//!
//! Times are milliseconds after the session began, at which it was last active, too. It dies at 16 000
//! without activity, and at 100 000 in any case; activity is worth a write after 1 000.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::data::{Loaded, Replay};
use super::plan::{Dropped, Importance, LoginPlan, Plan, Write, is_idle, plan, plan_login};
use super::{CookieEffect, Live, Standing, State, Verdict, judge};
use crate::carrier::Carrier;
use crate::clock::{from_unix_millis, to_unix_millis};
use crate::csrf::CsrfKey;
use crate::error::{Error, ErrorKind};
use crate::id::SessionId;
use crate::login::Login;
use crate::record::payload::{
    Entries, Header, MAX_RETIRED, RetiredSecret, Retirement, encode_entry,
};
use crate::record::{Record, Version};
use crate::settings::Rules;
use crate::timeouts::Timeouts;

mod carried;
mod combined;
mod csrf;
mod idle;
mod judged;
mod login;
mod planned;
mod random;
mod renewed;
mod stages;

const BEGUN: i64 = 1_700_000_000_000;
const IDLE: i64 = 16_000;
const ABSOLUTE: i64 = 100_000;
const GRACE: i64 = 10_000;
const TIMEOUTS: Timeouts = timeouts(IDLE as u64, ABSOLUTE as u64);

/// The id that a request brings.
const OURS: u64 = 1;
/// The session's current id, where the request brings one that was retired.
const SUCCESSOR: u64 = 2;
/// The id that is given out if one is asked for.
const FRESH: u64 = 3;

const fn timeouts(idle: u64, absolute: u64) -> Timeouts {
    Timeouts::new(Duration::from_millis(idle), Duration::from_millis(absolute))
}

fn at(millis: i64) -> i64 {
    BEGUN + millis
}

/// An id of its own for each number: another handle and another secret.
fn id(number: u64) -> SessionId {
    SessionId::parse(format!("{number:020}____{number:024}").as_bytes()).unwrap()
}

fn retired(number: u64, retirement: Retirement) -> RetiredSecret {
    RetiredSecret {
        digest: id(number).secret.digest(),
        retirement,
    }
}

fn rules() -> Rules {
    Rules {
        timeouts: TIMEOUTS,
        touch_every_read: false,
        renew_after: None,
        retired_grace: GRACE,
        max_size: 1_000,
    }
}

/// A request: what its id was found to be worth, and what it staged.
struct Request {
    state: State,
    rules: Rules,
}

/// A session of nobody that holds `old`, and a request that brings its current id.
fn live() -> Request {
    let id = id(OURS);
    let header = Header {
        secret: id.secret.digest(),
        retired: Vec::new(),
        started_at: BEGUN,
        renewed_at: BEGUN,
        timeouts: TIMEOUTS,
        authenticated_at: None,
        persistent_cookie: false,
        label: None,
        carrier: Carrier::Cookie,
        csrf: CsrfKey::of(&id.secret.digest()),
    };
    let record = Record {
        version: Version::from_u64(1),
        created_at: from_unix_millis(BEGUN),
        expires_at: from_unix_millis(at(IDLE)),
        user_id: None,
        payload: Arc::default(),
    };
    let live = Live {
        presented: id.secret.digest(),
        is_current: true,
        id,
        record,
        header,
    };
    Request::over(Standing::Live(Box::new(live))).edit(|_| {})
}

fn absent() -> Request {
    Request::over(Standing::Absent)
}

fn lost(why: Dropped) -> Request {
    Request::over(Standing::Lost(why))
}

fn ending_failed() -> Request {
    let error = Error::new(ErrorKind::EndingFailed, "the store was away".to_owned());
    Request::over(Standing::EndingFailed((&id(OURS).handle).into(), error))
}

/// What the session is.
impl Request {
    fn over(standing: Standing) -> Self {
        let rules = rules();
        let state = State::new(standing, Loaded::nothing(), &rules);
        Self { state, rules }
    }

    /// Changes the record, before anything is staged.
    fn edit(self, change: impl FnOnce(&mut Live)) -> Self {
        assert!(!self.state.has_staged(), "the record comes first");
        let Standing::Live(mut live) = self.state.standing else {
            panic!("there is no record");
        };
        change(&mut live);
        let mut payload = live.header.encode(0);
        let start = payload.len();
        encode_entry(&mut payload, "old", b"1");
        live.record.payload = payload[..].into();
        let loaded = Loaded::new(live.record.payload.clone(), start).unwrap();
        Self {
            state: State::new(Standing::Live(live), loaded, &self.rules),
            rules: self.rules,
        }
    }

    /// The request's id is to travel in the header.
    fn by_header(self) -> Self {
        let mut request = match self.state.live() {
            Some(_) => self.edit(|live| live.header.carrier = Carrier::Header),
            None => self,
        };
        request.state.carrier = Carrier::Header;
        request
    }

    fn with_user(self, user_id: &str) -> Self {
        self.edit(|live| {
            live.record.user_id = Some(user_id.into());
            live.header.authenticated_at = Some(at(0));
        })
    }

    fn with_label(self, label: &str) -> Self {
        self.edit(|live| live.header.label = Some(label.into()))
    }

    fn with_persistent_cookie(self) -> Self {
        self.edit(|live| live.header.persistent_cookie = true)
    }

    /// Gives the session timeouts of its own.
    fn with_timeouts(self, timeouts: Timeouts) -> Self {
        self.edit(|live| {
            live.header.timeouts = timeouts;
            live.record.expires_at = from_unix_millis(timeouts.expires_at(BEGUN, BEGUN));
        })
    }

    fn expires(self, millis: i64) -> Self {
        self.edit(|live| live.record.expires_at = from_unix_millis(at(millis)))
    }

    /// A secret that was retired before those which were named so far.
    fn with_retired(self, number: u64, retirement: Retirement) -> Self {
        self.edit(|live| live.header.retired.push(retired(number, retirement)))
    }

    /// The id of the request was retired by now.
    fn under_retired(self, retirement: Retirement) -> Self {
        self.edit(|live| {
            live.is_current = false;
            live.header.secret = id(SUCCESSOR).secret.digest();
            live.header.retired.insert(0, retired(OURS, retirement));
        })
    }
}

/// What the layer is set to.
impl Request {
    fn touching_every_read(mut self) -> Self {
        self.rules.touch_every_read = true;
        self
    }

    fn renewing_after(mut self, millis: i64) -> Self {
        self.rules.renew_after = Some(millis);
        self
    }
}

/// What is staged.
impl Request {
    fn set(mut self, key: &str, value: &str) -> Self {
        let value = value.as_bytes().into();
        self.state.data.set(key, value).unwrap();
        self
    }

    fn append(mut self, key: &str, letter: &'static str) -> Self {
        append(&mut self.state, key, letter);
        self
    }

    fn remove(mut self, key: &str) -> Self {
        self.state.data.remove(key);
        self
    }

    fn clear(mut self) -> Self {
        self.state.data.clear();
        self
    }

    fn renew(mut self) -> Self {
        self.state.wishes.renew = true;
        self
    }

    fn set_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.state.wishes.timeouts = Some(timeouts);
        self
    }

    fn persist(mut self) -> Self {
        self.state.wishes.persistent_cookie = true;
        self
    }

    /// A page of this request has a token, of the key of this number if one is to be made.
    fn with_token(mut self, number: u8) -> Self {
        let fresh = || Ok::<_, ()>(CsrfKey::from_bytes([number; 32]));
        self.state.csrf_key_to_come(fresh).unwrap();
        self
    }

    fn do_not_extend(mut self) -> Self {
        self.state.wishes.do_not_extend = true;
        self
    }
}

/// What becomes of it.
impl Request {
    fn plan(&self, now: i64) -> Plan {
        let issued = Cell::new(false);
        let fresh_id = || {
            issued.set(true);
            Ok(id(FRESH))
        };
        let job = self.state.job();
        let plan = plan(&self.state.standing, &job, now, &self.rules, fresh_id).unwrap();
        if let Plan::Create(write) | Plan::Update { write, .. } = &plan {
            check(&self.state, write);
            let before = self.state.live().map(|live| live.presented);
            let is_renewed = before != Some(write.live.presented);
            assert_eq!(issued.get(), is_renewed, "an id is made if it is issued");
        } else {
            assert!(!issued.get(), "an id was made for nothing");
        }
        plan
    }

    /// The record that is written.
    #[track_caller]
    fn written(&self, millis: i64) -> Write {
        match self.plan(at(millis)) {
            Plan::Create(write) | Plan::Update { write, .. } => write,
            other => panic!("nothing is written: {other:?}"),
        }
    }

    /// The plan in words.
    fn outcome(&self, millis: i64) -> String {
        match self.plan(at(millis)) {
            Plan::Nothing => "nothing".into(),
            Plan::Drop(why) => format!("drop {why:?}"),
            Plan::Touch { expires_at } => format!("touch until {}", expires_at - BEGUN),
            Plan::Create(write) => format!("create {}", words(&write)),
            Plan::Update { write, importance } => match importance {
                Importance::Changes => format!("update {}", words(&write)),
                Importance::Upkeep => format!("upkeep {}", words(&write)),
            },
        }
    }

    fn plan_login(&self, login: &Login, now: i64) -> LoginPlan {
        let job = self.state.job();
        let rules = &self.rules;
        let plan = plan_login(&self.state.standing, &job, login, now, rules, id(FRESH));
        if let LoginPlan::Create(write) | LoginPlan::Update(write) = &plan {
            check(&self.state, write);
            assert!(cookie(write).starts_with("fresh"), "a login renews the id");
        }
        plan
    }

    /// The record that a login writes.
    #[track_caller]
    fn logged_in(&self, login: impl Into<Login>, millis: i64) -> Write {
        match self.plan_login(&login.into(), at(millis)) {
            LoginPlan::Create(write) | LoginPlan::Update(write) => write,
            LoginPlan::End => panic!("the session is ended first"),
        }
    }

    /// The plan for a login in words.
    fn login_outcome(&self, login: impl Into<Login>, millis: i64) -> String {
        match self.plan_login(&login.into(), at(millis)) {
            LoginPlan::End => "end".into(),
            LoginPlan::Create(write) => format!("create {}", words(&write)),
            LoginPlan::Update(write) => format!("update {}", words(&write)),
        }
    }
}

fn words(write: &Write) -> String {
    let expires_at = write.live.expires_at() - BEGUN;
    format!("until {expires_at}, {}", cookie(write))
}

fn cookie(write: &Write) -> String {
    let Some(cookie) = &write.cookie else {
        return "no cookie".into();
    };
    let CookieEffect::Set { id: sent, until } = cookie else {
        panic!("a write does not remove the cookie: {cookie:?}");
    };
    assert_eq!(sent.encode(), write.live.id.encode());
    let is_fresh = sent.secret.digest() == id(FRESH).secret.digest();
    let name = if is_fresh { "fresh" } else { "same" };
    match until {
        Some(until) => format!("{name} cookie until {}", until - BEGUN),
        None => format!("{name} cookie"),
    }
}

/// What holds of every record that is written.
fn check(before: &State, write: &Write) {
    let live = &write.live;
    let record = &live.record;
    let (header, start) = Header::decode(&record.payload).unwrap();
    assert_eq!(facts(&header), facts(&live.header), "the payload says it");
    let mut entries = Vec::new();
    before.data.encode(&mut entries);
    assert_eq!(record.payload[start..], entries[..], "the payload holds it");
    assert!(live.expires_at() <= header.timeouts.deadline(header.started_at));
    assert!(header.retired.len() <= MAX_RETIRED);
    let reused = header.retired.iter().any(|one| one.digest == header.secret);
    assert!(!reused, "the current secret is not a retired one");
    let is_current = live.presented == header.secret;
    assert_eq!(live.is_current, is_current);
    assert!(
        is_current
            || header
                .retired
                .iter()
                .any(|one| one.digest == live.presented)
    );
    assert_eq!(live.id.secret.digest(), live.presented);
    let carrier = before
        .live()
        .map_or(before.carrier, |live| live.header.carrier);
    assert_eq!(header.carrier, carrier, "a session keeps its carrier");
    assert_eq!(header.csrf, live.header.csrf);
    if let Some(before) = before.live() {
        assert_ne!(record.version, before.record.version);
    }
}

type Facts<'a> = (
    [u8; 32],
    &'a [RetiredSecret],
    [i64; 2],
    Timeouts,
    Option<i64>,
    bool,
    Option<&'a str>,
);

/// All that a header says, to be compared.
fn facts(header: &Header) -> Facts<'_> {
    (
        *header.secret.as_bytes(),
        &header.retired,
        [header.started_at, header.renewed_at],
        header.timeouts,
        header.authenticated_at,
        header.persistent_cookie,
        header.label.as_deref(),
    )
}

/// The entries of a record, as `key=value`.
fn contents(record: &Record) -> String {
    let (_, start) = Header::decode(&record.payload).unwrap();
    let entry = |entry: Result<(&str, &[u8]), _>| {
        let (key, value) = entry.unwrap();
        format!("{key}={}", std::str::from_utf8(value).unwrap())
    };
    let mut entries: Vec<_> = Entries::new(&record.payload[start..]).map(entry).collect();
    entries.sort();
    entries.join(" ")
}

/// Appends a letter: as good as an increment, and it shows the order.
fn append(state: &mut State, key: &str, letter: &'static str) {
    let replay: Replay = Arc::new(move |before: Option<&[u8]>| {
        Ok([before.unwrap_or_default(), letter.as_bytes()]
            .concat()
            .into())
    });
    let value = replay(state.data.get(key).as_deref()).unwrap();
    state.data.update(key, value, replay).unwrap();
}

/// Rows of a table: a name, a request, the time, and what becomes of it.
type Row = (&'static str, Request, i64, &'static str);

#[track_caller]
fn assert_outcomes<const N: usize>(rows: [Row; N]) {
    for (name, request, millis, expected) in rows {
        assert_eq!(request.outcome(millis), expected, "{name}");
    }
}

/// That a secret no longer opens the session.
#[track_caller]
fn assert_dead(record: &Record, secret: u64, now: i64) {
    let verdict = judged::verdict(record, secret, now, &rules());
    assert!(
        !verdict.starts_with("live"),
        "secret {secret} opens the session: {verdict}"
    );
}
