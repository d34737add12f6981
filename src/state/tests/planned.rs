//! What a commit does about what is staged.

use super::*;
use Retirement::{Privileged, Routine, Superseded};

/// Timeouts that are not the layer's: 8 000 idle, so that activity is worth a write after 500.
const SHORT: Timeouts = timeouts(8_000, 50_000);
const NO_IDLE: Timeouts = Timeouts::without_idle(Duration::from_millis(ABSOLUTE as u64));

#[test]
fn a_read_is_written_when_it_moves_the_expiry_far_enough() {
    assert_outcomes([
        ("at once", live(), 0, "nothing"),
        ("1 ms before a sixteenth", live(), 999, "nothing"),
        ("at a sixteenth", live(), 1_000, "touch until 17000"),
        ("just before the end", live(), 15_999, "touch until 31999"),
        ("at the end", live(), 16_000, "nothing"),
        (
            "every read",
            live().touching_every_read(),
            1,
            "touch until 16001",
        ),
        (
            "every read, twice in a millisecond",
            live().touching_every_read(),
            0,
            "nothing",
        ),
        ("no activity", live().do_not_extend(), 5_000, "nothing"),
        (
            "no activity, even where every read is written",
            live().touching_every_read().do_not_extend(),
            5_000,
            "nothing",
        ),
        (
            "no idle timeout",
            live().with_timeouts(NO_IDLE),
            50_000,
            "nothing",
        ),
        (
            "no idle timeout, every read",
            live().with_timeouts(NO_IDLE).touching_every_read(),
            50_000,
            "nothing",
        ),
        ("its own step", live().with_timeouts(SHORT), 499, "nothing"),
        (
            "its own timeouts",
            live().with_timeouts(SHORT),
            500,
            "touch until 8500",
        ),
        (
            "up to the absolute deadline",
            live().expires(99_000),
            95_000,
            "touch until 100000",
        ),
        ("too near to it", live().expires(99_001), 95_000, "nothing"),
        ("at it", live().expires(ABSOLUTE), 99_999, "nothing"),
        (
            "under a routine-retired id",
            live().under_retired(Routine),
            1_000,
            "touch until 17000",
        ),
        ("the clock went back", live(), -5_000, "nothing"),
        ("no session", absent(), 0, "nothing"),
        ("no more session", lost(Dropped::Ended), 0, "nothing"),
        ("an ending failed", ending_failed(), 0, "nothing"),
    ]);
}

#[test]
fn only_data_makes_a_session() {
    assert_outcomes([
        (
            "data",
            absent().set("a", "1"),
            5,
            "create until 16005, fresh cookie",
        ),
        (
            "an update",
            absent().append("a", "+"),
            5,
            "create until 16005, fresh cookie",
        ),
        (
            "clear, then data",
            absent().clear().set("a", "1"),
            5,
            "create until 16005, fresh cookie",
        ),
        ("a renewal alone", absent().renew(), 5, "nothing"),
        ("timeouts alone", absent().set_timeouts(SHORT), 5, "nothing"),
        (
            "a persistent cookie alone",
            absent().persist(),
            5,
            "nothing",
        ),
        ("a clear alone", absent().clear(), 5, "nothing"),
        ("a removal alone", absent().remove("a"), 5, "nothing"),
        (
            "data, removed again",
            absent().set("a", "1").remove("a").renew(),
            5,
            "nothing",
        ),
        (
            "data, cleared again",
            absent().set("a", "1").clear().persist(),
            5,
            "nothing",
        ),
        (
            "timeouts of its own",
            absent().set("a", "1").set_timeouts(SHORT),
            5,
            "create until 8005, fresh cookie",
        ),
        (
            "a persistent cookie, until the absolute deadline",
            absent().set("a", "1").persist(),
            5,
            "create until 16005, fresh cookie until 100005",
        ),
        (
            "a renewal of what is new anyway",
            absent().set("a", "1").renew(),
            5,
            "create until 16005, fresh cookie",
        ),
        (
            "no activity: a beginning all the same",
            absent().set("a", "1").do_not_extend(),
            5,
            "create until 16005, fresh cookie",
        ),
    ]);
}

#[test]
fn a_created_session_begins_now_under_an_id_of_our_own() {
    let write = absent().set("a", "1").set_timeouts(SHORT).written(7);
    let Live {
        id, record, header, ..
    } = *write.live;
    assert_eq!(id.encode(), self::id(FRESH).encode());
    assert_eq!(record.created_at, from_unix_millis(at(7)));
    assert_eq!(record.user_id, None);
    assert_eq!(contents(&record), "a=1");
    let secret = *self::id(FRESH).secret.digest().as_bytes();
    let expected: Facts<'_> = (secret, &[], [at(7); 2], SHORT, None, false, None);
    assert_eq!(facts(&header), expected);
}

#[test]
fn changes_go_into_the_version_that_was_loaded() {
    assert_outcomes([
        (
            "data",
            live().set("a", "1"),
            5,
            "update until 16005, no cookie",
        ),
        (
            "an update",
            live().append("a", "+"),
            5,
            "update until 16005, no cookie",
        ),
        (
            "a removal",
            live().remove("old"),
            5,
            "update until 16005, no cookie",
        ),
        (
            "a clear",
            live().clear(),
            5,
            "update until 16005, no cookie",
        ),
        ("a removal of nothing", live().remove("a"), 5, "nothing"),
        (
            "no activity",
            live().set("a", "1").do_not_extend(),
            5,
            "update until 16000, no cookie",
        ),
        (
            "timeouts",
            live().set_timeouts(SHORT),
            5,
            "update until 8005, no cookie",
        ),
        (
            "timeouts, which count from the beginning",
            live().set_timeouts(timeouts(8_000, 10_000)),
            5_000,
            "update until 10000, no cookie",
        ),
        (
            "timeouts that are over already",
            live().set_timeouts(timeouts(1_000, 2_000)),
            5_000,
            "update until 2000, no cookie",
        ),
        (
            "timeouts hold at once, even where nothing counts as activity",
            live().set_timeouts(SHORT).do_not_extend(),
            5,
            "update until 8005, no cookie",
        ),
        (
            "its own timeouts survive",
            live().with_timeouts(SHORT).set("a", "1"),
            5,
            "update until 8005, no cookie",
        ),
        (
            "up to the absolute deadline",
            live().expires(99_500).set("a", "1"),
            99_000,
            "update until 100000, no cookie",
        ),
        (
            "1 ms before the end",
            live().set("a", "1"),
            15_999,
            "update until 31999, no cookie",
        ),
        (
            "under a routine-retired id",
            live().under_retired(Routine).set("a", "1"),
            5,
            "update until 16005, no cookie",
        ),
        (
            "under a superseded id in its grace",
            live().under_retired(Superseded { at: at(0) }).set("a", "1"),
            5,
            "update until 16005, no cookie",
        ),
    ]);
}

#[test]
fn what_is_no_more_takes_no_changes_and_gets_no_cookie() {
    assert_outcomes([
        ("expired", live().set("a", "1"), 16_000, "drop Expired"),
        ("expired, renewal", live().renew(), 16_000, "drop Expired"),
        (
            "expired, new timeouts",
            live().set_timeouts(NO_IDLE),
            16_000,
            "drop Expired",
        ),
        (
            "expired, persistent cookie",
            live().persist(),
            16_000,
            "drop Expired",
        ),
        ("expired, nothing staged", live(), 16_000, "nothing"),
        (
            "expired, renewal due",
            live().renewing_after(1),
            16_000,
            "nothing",
        ),
        ("ended", lost(Dropped::Ended).set("a", "1"), 0, "drop Ended"),
        (
            "retired",
            lost(Dropped::Retired).set("a", "1"),
            0,
            "drop Retired",
        ),
        (
            "retired, renewal",
            lost(Dropped::Retired).renew(),
            0,
            "drop Retired",
        ),
        (
            "retired, no activity",
            lost(Dropped::Retired).do_not_extend(),
            0,
            "nothing",
        ),
        (
            "an ending failed",
            ending_failed().set("a", "1").renew(),
            0,
            "nothing",
        ),
    ]);
}

#[test]
fn a_write_keeps_what_it_was_not_asked_to_change() {
    let request = live()
        .with_timeouts(SHORT)
        .with_user("alice")
        .with_label("Firefox")
        .with_persistent_cookie()
        .with_retired(11, Privileged { at: at(1) })
        .set("a", "1");
    let before = request.state.live().unwrap();
    let Live {
        id, record, header, ..
    } = *request.written(5).live;
    assert_eq!(facts(&header), facts(&before.header));
    assert_eq!(id.encode(), before.id.encode());
    assert_eq!(record.created_at, before.record.created_at);
    assert_eq!(record.user_id.as_deref(), Some("alice"));
    assert_eq!(contents(&record), "a=1 old=1");
}

#[test]
fn every_write_has_a_version_of_its_own() {
    let request = live().set("a", "1");
    let versions = [0; 4].map(|now| request.written(now).live.record.version);
    for (index, version) in versions.iter().enumerate() {
        assert!(!versions[..index].contains(version));
    }
}
