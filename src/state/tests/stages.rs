//! How the state goes on from what was done.

use super::*;
use crate::state::{Job, Wishes};

const SHORT: Timeouts = timeouts(8_000, 50_000);

fn everything_wished() -> Wishes {
    Wishes {
        renew: true,
        timeouts: Some(SHORT),
        persistent_cookie: true,
        do_not_extend: true,
        csrf: Some(CsrfKey::from_bytes([7; 32])),
    }
}

fn shown(state: &State) -> String {
    let entry = |key: &String| {
        let value = state.data.get(key).unwrap();
        format!("{key}={}", std::str::from_utf8(&value).unwrap())
    };
    let mut entries: Vec<_> = state.data.keys().iter().map(entry).collect();
    entries.sort();
    entries.join(" ")
}

/// Takes over a write as a commit does.
fn advance(state: &mut State, write: Write, job: &Job) -> Result<(), Error> {
    advance_to(state, write.live, write.loaded, job)
}

fn advance_to(state: &mut State, live: Box<Live>, loaded: Loaded, job: &Job) -> Result<(), Error> {
    let mut data = state.data.clone();
    let advanced = data.advance(job.data.changes(), loaded);
    state.advance(state.generation, live, data, job).unwrap();
    advanced
}

#[test]
fn what_was_saved_is_no_longer_staged() {
    let mut request = live().set("a", "1").append("n", "+").renew().persist();
    let (job, write) = (request.state.job(), request.written(5));
    let version = write.live.record.version;
    let generation = request.state.generation;
    advance(&mut request.state, write, &job).unwrap();
    let state = &request.state;
    assert!(!state.has_staged());
    assert_eq!(state.live().unwrap().record.version, version);
    assert_eq!(shown(state), "a=1 n=+ old=1");
    assert!(
        state.generation > generation,
        "a closure of `update` is run again"
    );
    assert_eq!(request.outcome(5), "nothing");
}

#[test]
fn what_was_staged_during_a_save_is_still_to_be_done() {
    let mut request = live().set("a", "1").append("n", "+").renew();
    let (job, write) = (request.state.job(), request.written(5));
    request = request
        .set("b", "2")
        .append("n", "*")
        .persist()
        .set_timeouts(SHORT);
    advance(&mut request.state, write, &job).unwrap();
    assert_eq!(shown(&request.state), "a=1 b=2 n=+* old=1");
    let wishes = Wishes {
        renew: false,
        do_not_extend: false,
        csrf: None,
        ..everything_wished()
    };
    assert_eq!(request.state.wishes, wishes);
    // The renewal is done: the id of now is sent again, as it was asked for.
    assert_eq!(
        request.outcome(5),
        "update until 8005, fresh cookie until 50000"
    );
    let write = request.written(5);
    assert_eq!(
        write.live.header.retired.len(),
        1,
        "it is not renewed twice"
    );
}

#[test]
fn a_created_session_is_live() {
    let mut request = absent().set("a", "1");
    assert!(!request.state.was_live);
    let (job, write) = (request.state.job(), request.written(5));
    advance(&mut request.state, write, &job).unwrap();
    assert!(request.state.was_live);
    assert_eq!(
        request.set("b", "2").outcome(6),
        "update until 16006, no cookie"
    );
}

#[test]
fn what_does_not_fit_on_top_of_what_was_saved_is_dropped_and_that_stays() {
    let mut request = live().set("a", "1");
    let (job, write) = (request.state.job(), request.written(5));
    // Another request's large value was merged into what was saved.
    let theirs = write.live.header.clone();
    let mut payload = theirs.encode(0);
    let start = payload.len();
    encode_entry(&mut payload, "theirs", "x".repeat(900).as_bytes());
    let loaded = Loaded::new(payload[..].into(), start).unwrap();
    request = request.set("b", &"y".repeat(200));
    let error = advance_to(&mut request.state, write.live, loaded, &job).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    request.state.discard_staged();
    // Otherwise the next write would put back what the session was before.
    assert_eq!(request.state.data.keys(), ["theirs"]);
    assert!(!request.state.has_staged());
}

#[test]
fn what_is_staged_while_a_write_is_taken_over_is_not_overlooked() {
    let mut request = live().set("a", "1");
    let (job, write) = (request.state.job(), request.written(5));
    let before = request.state.generation;
    request = request.set("b", "2");
    request.state.generation += 1;
    let data = request.state.data.clone();
    let refused = request.state.advance(before, write.live, data, &job);
    assert!(refused.is_err());
    assert_eq!(shown(&request.state), "a=1 b=2 old=1");
    assert!(request.state.has_staged());
}

/// A login on the session of somebody else: that one is ended, and what `staged` holds goes into a fresh
/// one, while the handler stages `meanwhile`.
fn change_user(staged: Request, meanwhile: impl FnOnce(Request) -> Request) -> Request {
    let mut request = staged;
    let mut job = request.state.job();
    request.state.become_absent(Standing::Absent);
    job.rebase(Loaded::nothing()).unwrap();
    request = meanwhile(request);
    let login = Login::new("alice");
    let rules = &request.rules;
    match plan_login(&Standing::Absent, &job, &login, at(5), rules, id(FRESH)) {
        LoginPlan::Create(write) => advance(&mut request.state, write, &job).unwrap(),
        other => panic!("{other:?}"),
    }
    request
}

#[test]
fn after_a_change_of_user_the_request_goes_on_with_what_it_staged() {
    let theirs = || live().with_user("bob");
    for (name, staged, expected) in [
        ("data", theirs().set("a", "1"), "a=1"),
        ("an update", theirs().append("old", "+"), "old=+"),
        ("a clear", theirs().clear(), ""),
        ("a clear, then data", theirs().clear().set("a", "1"), "a=1"),
        (
            "two clears",
            theirs().clear().set("a", "1").clear().append("b", "+"),
            "b=+",
        ),
    ] {
        let request = change_user(staged, |request| request);
        assert_eq!(shown(&request.state), expected, "{name}");
        assert!(!request.state.has_staged(), "{name}");
        let next = request.set("z", "1").written(6);
        let expected = format!("{expected} z=1");
        assert_eq!(contents(&next.live.record), expected.trim_start(), "{name}");
    }
}

#[test]
fn what_is_staged_during_a_change_of_user_is_not_taken_for_saved() {
    let staged = live().with_user("bob").append("n", "-").append("n", "-");
    let request = change_user(staged.set("a", "1"), |request| {
        request.append("n", "*").set("a", "2")
    });
    assert_eq!(shown(&request.state), "a=2 n=--*");
    assert!(request.state.has_staged());
}

#[test]
fn discarding_leaves_what_was_loaded_and_that_it_is_no_activity() {
    let mut request = live().set("a", "1").remove("old").renew().persist();
    request = request.set_timeouts(SHORT).do_not_extend();
    let generation = request.state.generation;
    request.state.discard_staged();
    assert!(!request.state.has_staged());
    assert_eq!(shown(&request.state), "old=1");
    assert!(request.state.wishes.do_not_extend);
    assert!(request.state.generation > generation);
    assert_eq!(request.outcome(5_000), "nothing");
}

#[test]
fn of_a_session_that_is_no_more_nothing_is_left_to_see() {
    for standing in [Standing::Absent, Standing::Lost(Dropped::Ended)] {
        let mut request = live().with_user("alice").set("a", "1").renew();
        let generation = request.state.generation;
        request.state.become_absent(standing);
        let state = &request.state;
        assert!(state.live().is_none() && !state.has_staged());
        assert!(state.data.is_empty() && state.data.get("old").is_none());
        assert_eq!(state.data.max_size(), rules().max_size);
        assert!(state.generation > generation);
        assert!(state.was_live, "the response says what was read of it");
        assert_eq!(request.outcome(5), "nothing");
    }
    let mut request = live().with_user("alice");
    request.state.become_absent(Standing::Absent);
    let write = request.set("a", "1").written(5);
    assert_eq!(contents(&write.live.record), "a=1");
    assert_eq!(write.live.record.user_id, None);
}

#[test]
fn a_wish_is_done_with_once_it_was_fulfilled_as_it_stands() {
    let all = everything_wished();
    let none = Wishes::default();
    let no_activity = Wishes {
        do_not_extend: true,
        ..none
    };
    let renew = Wishes {
        renew: true,
        ..none
    };
    let persist = Wishes {
        persistent_cookie: true,
        ..none
    };
    let timeouts = |timeouts| Wishes {
        timeouts: Some(timeouts),
        ..none
    };
    for (name, staged, done, left) in [
        ("nothing", none, none, none),
        ("all", all, all, no_activity),
        ("nothing was done", all, none, all),
        ("renewal", renew, renew, none),
        ("renewal after another wish", renew, persist, renew),
        ("persistence", persist, persist, none),
        ("timeouts", timeouts(SHORT), timeouts(SHORT), none),
        (
            "other timeouts since",
            timeouts(SHORT),
            timeouts(TIMEOUTS),
            timeouts(SHORT),
        ),
        ("done without being staged any more", none, all, none),
    ] {
        assert_eq!(staged.without(done), left, "{name}");
    }
}

#[test]
fn a_session_takes_no_changes_when_it_is_closed_or_could_not_be_ended() {
    for request in [live(), absent(), lost(Dropped::Retired)] {
        let mut state = request.state;
        assert!(state.check_open().is_ok());
        state.closed = true;
        assert_eq!(state.check_open().unwrap_err().kind(), ErrorKind::Closed);
    }
    let mut state = ending_failed().state;
    let kind = |state: &State| state.check_open().unwrap_err().kind();
    assert_eq!(kind(&state), ErrorKind::EndingFailed);
    state.closed = true;
    assert_eq!(kind(&state), ErrorKind::Closed);
}

#[test]
fn not_to_be_activity_is_nothing_to_write_for() {
    for wishes in [
        Wishes::default(),
        Wishes {
            do_not_extend: true,
            ..Wishes::default()
        },
    ] {
        assert!(!wishes.any_change());
    }
    assert!(live().renew().state.has_staged());
    assert!(live().persist().state.job().has_changes);
    assert!(live().set_timeouts(SHORT).state.has_staged());
    assert!(live().set("a", "1").state.job().has_changes);
    assert!(!live().do_not_extend().state.job().has_changes);
}
