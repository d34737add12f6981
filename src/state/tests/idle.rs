//! The short cut past a commit agrees with the plan that a commit would make.

use super::*;
use Retirement::{Privileged, Routine, Superseded};

type Named<T> = (&'static str, T);
type Change = fn(Request) -> Request;

const SESSIONS: [Named<fn() -> Request>; 14] = [
    ("current", live),
    ("with a user", || live().with_user("alice")),
    ("short timeouts", || {
        live().with_timeouts(timeouts(8_000, 50_000))
    }),
    ("no idle timeout", || {
        live().with_timeouts(Timeouts::without_idle(Duration::from_secs(100)))
    }),
    ("near the absolute deadline", || live().expires(99_500)),
    ("after a scheduled renewal", || {
        live().with_retired(11, Routine)
    }),
    ("after its first use", || {
        live().with_retired(11, Superseded { at: at(0) })
    }),
    ("after a login", || {
        live().with_retired(11, Privileged { at: at(0) })
    }),
    ("routine-retired", || live().under_retired(Routine)),
    ("superseded", || {
        live().under_retired(Superseded { at: at(0) })
    }),
    ("absent", absent),
    ("ended", || lost(Dropped::Ended)),
    ("retired", || lost(Dropped::Retired)),
    ("ending failed", ending_failed),
];

const LAYERS: [Named<Change>; 4] = [
    ("defaults", |request| request),
    ("every read", Request::touching_every_read),
    ("renewing", |request| request.renewing_after(3_000)),
    ("renewing, every read", |request| {
        request.renewing_after(3_000).touching_every_read()
    }),
];

const STAGED: [Named<Change>; 11] = [
    ("nothing", |request| request),
    ("no activity", Request::do_not_extend),
    ("data", |request| request.set("a", "1")),
    ("an update", |request| request.append("a", "+")),
    ("a removal", |request| request.remove("old")),
    ("a clear", Request::clear),
    ("data, cleared again", |request| {
        request.set("a", "1").clear()
    }),
    ("data, removed again", |request| {
        request.set("a", "1").remove("a")
    }),
    ("a renewal", Request::renew),
    ("timeouts", |request| {
        request.set_timeouts(timeouts(8_000, 50_000))
    }),
    ("a persistent cookie", Request::persist),
];

const TIMES: [i64; 13] = [
    -1, 0, 1, 499, 500, 999, 1_000, 2_999, 3_000, 15_999, 16_000, 99_999, 100_000,
];

#[test]
fn a_request_is_idle_where_its_plan_is_to_do_nothing() {
    let mut idle = 0;
    let mut busy = 0;
    for (session, found) in SESSIONS {
        for (layer, configure) in LAYERS {
            for (staged, stage) in STAGED {
                let request = stage(configure(found()));
                for millis in TIMES {
                    let is_idle = is_idle(&request.state, || at(millis), &request.rules);
                    let outcome = request.outcome(millis);
                    // What is staged may make no difference, which the short cut does not look at.
                    let may_miss = request.state.may_have_staged();
                    assert!(
                        match &*outcome {
                            "nothing" => is_idle || may_miss,
                            _ => !is_idle,
                        },
                        "{session}, {layer}, {staged}, at {millis}: {outcome}"
                    );
                    *(if is_idle { &mut idle } else { &mut busy }) += 1;
                }
            }
        }
    }
    assert!(idle > 1_000 && busy > 1_000, "{idle} idle, {busy} busy");
}
