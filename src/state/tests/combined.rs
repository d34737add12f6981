//! Everything at once: what contends within one request.

use super::*;
use Retirement::{Routine, Superseded};

const SHORT: Timeouts = timeouts(8_000, 50_000);

/// All that can be staged.
fn everything(request: Request) -> Request {
    request
        .set("gone", "1")
        .clear()
        .renew()
        .set("a", "1")
        .append("a", "+")
        .set_timeouts(SHORT)
        .persist()
}

#[test]
fn all_that_is_staged_goes_together_as_one_write() {
    assert_outcomes([
        (
            "current",
            everything(live()),
            5,
            "update until 8005, fresh cookie until 50000",
        ),
        (
            "of a user",
            everything(live().with_user("alice")),
            5,
            "update until 8005, fresh cookie until 50000",
        ),
        (
            "under a routine-retired id",
            everything(live().under_retired(Routine)),
            5,
            "update until 8005, fresh cookie until 50000",
        ),
        (
            "under a superseded id",
            everything(live().under_retired(Superseded { at: at(0) })),
            5,
            "update until 8005, fresh cookie until 50000",
        ),
        (
            "a scheduled renewal due",
            everything(live().renewing_after(5)),
            5,
            "update until 8005, fresh cookie until 50000",
        ),
        (
            "nothing loaded",
            everything(absent()),
            5,
            "create until 8005, fresh cookie until 50005",
        ),
        ("expired", everything(live()), 16_000, "drop Expired"),
        ("ended", everything(lost(Dropped::Ended)), 5, "drop Ended"),
        (
            "retired",
            everything(lost(Dropped::Retired)),
            5,
            "drop Retired",
        ),
        (
            "an ending failed",
            everything(ending_failed()),
            5,
            "nothing",
        ),
    ]);
    for request in [live(), absent()] {
        let write = everything(request).written(5);
        assert_eq!(contents(&write.live.record), "a=1+");
        assert!(write.live.header.persistent_cookie);
        assert_eq!(write.live.header.timeouts, SHORT);
    }
}

#[test]
fn each_pair_does_what_both_say() {
    assert_outcomes([
        (
            "renew, clear",
            live().renew().clear(),
            5,
            "update until 16005, fresh cookie",
        ),
        (
            "renew, timeouts",
            live().renew().set_timeouts(SHORT),
            5,
            "update until 8005, fresh cookie",
        ),
        (
            "renew, scheduled renewal",
            live().renew().renewing_after(5),
            5,
            "update until 16005, fresh cookie",
        ),
        (
            "clear, persist",
            live().clear().persist(),
            5,
            "update until 16005, same cookie until 100000",
        ),
        (
            "clear of nothing, renew: no record",
            absent().clear().renew(),
            5,
            "nothing",
        ),
        (
            "set, clear, renew: no record",
            absent().set("a", "1").clear().renew(),
            5,
            "nothing",
        ),
        (
            "clear, no activity",
            live().clear().do_not_extend(),
            5,
            "update until 16000, no cookie",
        ),
    ]);
}

#[test]
fn a_renewal_that_is_asked_for_is_privileged_even_where_a_scheduled_one_is_due() {
    let request = live().renewing_after(5).with_retired(11, Routine).renew();
    let write = request.written(5);
    let now = Retirement::Privileged { at: at(5) };
    assert_eq!(
        write.live.header.retired,
        [retired(OURS, now), retired(11, now)]
    );
    assert_dead(&write.live.record, OURS, at(5));
    assert_dead(&write.live.record, 11, at(5));
}

#[test]
fn a_cleared_session_lives_on_empty() {
    let write = live().with_user("alice").clear().written(5);
    assert_eq!(contents(&write.live.record), "");
    assert_eq!(write.live.record.user_id.as_deref(), Some("alice"));
}

#[test]
fn a_login_takes_all_that_is_staged_with_it() {
    let expected = "until 8005, fresh cookie until 50005";
    let outcome = |request| everything(request).login_outcome("alice", 5);
    assert_eq!(outcome(live()), format!("update {expected}"));
    assert_eq!(outcome(absent()), format!("create {expected}"));
    for request in [live(), absent()] {
        let write = everything(request).logged_in("alice", 5);
        assert_eq!(contents(&write.live.record), "a=1+");
    }
}
