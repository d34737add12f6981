//! How an id is replaced, what becomes of the old one, and when the cookie is sent.

use super::*;
use Retirement::{Privileged, Routine, Superseded};

const SHORT: Timeouts = timeouts(8_000, 50_000);
const NO_IDLE: Timeouts = Timeouts::without_idle(Duration::from_millis(ABSOLUTE as u64));

#[test]
fn a_renewal_gives_out_a_fresh_secret_under_the_same_handle() {
    assert_outcomes([
        (
            "alone",
            live().renew(),
            5,
            "update until 16005, fresh cookie",
        ),
        (
            "no activity",
            live().renew().do_not_extend(),
            5,
            "update until 16000, fresh cookie",
        ),
        (
            "of a persistent session",
            live().with_persistent_cookie().renew(),
            5,
            "update until 16005, fresh cookie until 100000",
        ),
        (
            "under a routine-retired id",
            live().under_retired(Routine).renew(),
            5,
            "update until 16005, fresh cookie",
        ),
        (
            "under a superseded id in its grace",
            live().under_retired(Superseded { at: at(0) }).renew(),
            5,
            "update until 16005, fresh cookie",
        ),
    ]);
    let write = live().with_user("alice").set("a", "1").renew().written(5);
    let Live {
        id,
        record,
        header,
        is_current,
        ..
    } = *write.live;
    assert_eq!(id.handle, self::id(OURS).handle);
    assert_eq!(header.secret, self::id(FRESH).secret.digest());
    assert!(is_current);
    assert_eq!((header.started_at, header.renewed_at), (at(0), at(5)));
    assert_eq!(header.authenticated_at, Some(at(0)));
    assert_eq!(record.user_id.as_deref(), Some("alice"));
    assert_eq!(contents(&record), "a=1 old=1");
}

#[test]
fn a_renewal_retires_every_secret_that_still_opened_the_session() {
    let now = Privileged { at: at(5) };
    let before = Privileged { at: at(1) };
    for (name, request, expected) in [
        ("the only one", live(), vec![retired(OURS, now)]),
        (
            "one retired on a schedule",
            live().with_retired(11, Routine),
            vec![retired(OURS, now), retired(11, now)],
        ),
        (
            "one superseded, one dead already",
            live()
                .with_retired(11, Superseded { at: at(0) })
                .with_retired(12, before),
            vec![retired(OURS, now), retired(11, now), retired(12, before)],
        ),
        (
            "the current one, which we do not know",
            live().under_retired(Routine),
            vec![retired(SUCCESSOR, now), retired(OURS, now)],
        ),
        (
            "of more than four, the oldest is forgotten",
            live()
                .with_retired(11, Routine)
                .with_retired(12, Superseded { at: at(0) })
                .with_retired(13, before)
                .with_retired(14, before),
            vec![
                retired(OURS, now),
                retired(11, now),
                retired(12, now),
                retired(13, before),
            ],
        ),
    ] {
        let write = request.renew().written(5);
        assert_eq!(write.live.header.retired, expected, "{name}");
        for secret in [OURS, SUCCESSOR, 11, 12, 13, 14] {
            assert_dead(&write.live.record, secret, at(5));
        }
    }
}

#[test]
fn a_scheduled_renewal_comes_when_it_is_due() {
    let due = || live().renewing_after(3_000);
    assert_outcomes([
        ("1 ms before", due(), 2_999, "touch until 18999"),
        ("on time", due(), 3_000, "upkeep until 19000, fresh cookie"),
        ("late", due(), 9_000, "upkeep until 25000, fresh cookie"),
        ("never", live(), 15_000, "touch until 31000"),
        (
            "no activity",
            due().do_not_extend(),
            3_000,
            "upkeep until 16000, fresh cookie",
        ),
        (
            "with changes, which somebody waits for",
            due().set("a", "1"),
            3_000,
            "update until 19000, fresh cookie",
        ),
        (
            "changes before",
            due().set("a", "1"),
            2_999,
            "update until 18999, no cookie",
        ),
        (
            "of a persistent session",
            due().with_persistent_cookie(),
            3_000,
            "upkeep until 19000, fresh cookie until 100000",
        ),
        (
            "under an id that was renewed a moment ago",
            due()
                .under_retired(Routine)
                .edit(|live| live.header.renewed_at = at(1)),
            3_000,
            "touch until 19000",
        ),
        (
            "under an id whose successor came into use",
            due().under_retired(Superseded { at: at(2_999) }),
            3_000,
            "touch until 19000",
        ),
        ("no session", absent().renewing_after(0), 3_000, "nothing"),
    ]);
}

#[test]
fn a_renewal_whose_response_got_lost_is_made_up_for_when_the_next_is_due() {
    let unheard = live().renewing_after(3_000).under_retired(Routine);
    let unheard = (20..23).fold(unheard, |live, secret| live.with_retired(secret, Routine));
    assert_eq!(unheard.outcome(3_000), "upkeep until 19000, fresh cookie");
    let write = unheard.written(3_000);
    // The id that the client has is the last to be forgotten, however many responses get lost.
    let kept: Vec<_> = write.live.header.retired.iter().take(2).copied().collect();
    assert_eq!(kept, [retired(OURS, Routine), retired(SUCCESSOR, Routine)]);
    assert_eq!(write.live.header.retired.len(), MAX_RETIRED);
}

#[test]
fn a_scheduled_renewal_counts_from_the_last_one() {
    let renewed = live()
        .renewing_after(3_000)
        .edit(|live| live.header.renewed_at = at(2_000));
    assert_eq!(renewed.outcome(4_999), "touch until 20999");
    assert_eq!(renewed.outcome(5_000), "upkeep until 21000, fresh cookie");
}

#[test]
fn the_old_id_works_until_its_successor_is_presented_and_a_grace_more() {
    let renewal = live()
        .renewing_after(3_000)
        .with_retired(11, Routine)
        .with_retired(12, Superseded { at: at(1) })
        .with_retired(13, Privileged { at: at(1) });
    let write = renewal.written(3_000);
    assert_eq!(
        write.live.header.retired,
        [
            retired(OURS, Routine),
            // Its successor is the id of this very request.
            retired(11, Superseded { at: at(3_000) }),
            retired(12, Superseded { at: at(1) }),
            retired(13, Privileged { at: at(1) }),
        ]
    );
    assert_eq!(write.live.header.renewed_at, at(3_000));

    let first_use = || live().with_retired(11, Routine);
    assert_outcomes([
        ("read", first_use(), 5, "upkeep until 16005, no cookie"),
        (
            "changes",
            first_use().set("a", "1"),
            5,
            "update until 16005, no cookie",
        ),
        (
            "no activity",
            first_use().do_not_extend(),
            5,
            "upkeep until 16000, no cookie",
        ),
        (
            "later uses have nothing to note",
            live().with_retired(11, Superseded { at: at(0) }),
            5,
            "nothing",
        ),
        (
            "the old id notes nothing",
            live().under_retired(Routine).with_retired(11, Routine),
            5,
            "nothing",
        ),
    ]);
    for request in [first_use(), first_use().set("a", "1")] {
        let write = request.written(5);
        let superseded = Superseded { at: at(5) };
        assert_eq!(write.live.header.retired, [retired(11, superseded)]);
        assert_eq!(write.live.header.secret, id(OURS).secret.digest());
        assert_eq!(write.live.header.renewed_at, at(0));
    }
}

#[test]
fn a_write_under_a_retired_id_leaves_the_successor_in_place() {
    let request = live().under_retired(Routine).set("a", "1");
    let before = request.state.live().unwrap();
    let Live {
        id,
        header,
        is_current,
        ..
    } = *request.written(5).live;
    assert_eq!(facts(&header), facts(&before.header));
    assert_eq!(id.encode(), before.id.encode());
    assert!(!is_current);
}

#[test]
fn a_persistent_cookie_is_sent_when_asked_for_unless_it_would_replace_a_newer_one() {
    assert_outcomes([
        (
            "current",
            live().persist(),
            5,
            "update until 16005, same cookie until 100000",
        ),
        (
            "persistent already: asked for again",
            live().with_persistent_cookie().persist(),
            5,
            "update until 16005, same cookie until 100000",
        ),
        (
            "persistent already: a write is no reason",
            live().with_persistent_cookie().set("a", "1"),
            5,
            "update until 16005, no cookie",
        ),
        (
            "no idle timeout",
            live().with_timeouts(NO_IDLE).persist(),
            5,
            "update until 100000, same cookie until 100000",
        ),
        (
            "with timeouts",
            live().set_timeouts(SHORT).persist(),
            5,
            "update until 8005, same cookie until 50000",
        ),
        (
            "under a routine-retired id",
            live().under_retired(Routine).persist(),
            5,
            "update until 16005, no cookie",
        ),
        (
            "under a superseded id",
            live().under_retired(Superseded { at: at(0) }).persist(),
            5,
            "update until 16005, no cookie",
        ),
        (
            "with a renewal",
            live().renew().persist(),
            5,
            "update until 16005, fresh cookie until 100000",
        ),
        (
            "with a renewal under a routine-retired id",
            live().under_retired(Routine).renew().persist(),
            5,
            "update until 16005, fresh cookie until 100000",
        ),
        (
            "with a scheduled renewal",
            live().renewing_after(5).persist(),
            5,
            "update until 16005, fresh cookie until 100000",
        ),
        (
            "while superseding",
            live().with_retired(11, Routine).persist(),
            5,
            "update until 16005, same cookie until 100000",
        ),
    ]);
    for request in [live(), live().under_retired(Routine)] {
        assert!(request.persist().written(5).live.header.persistent_cookie);
    }
}
