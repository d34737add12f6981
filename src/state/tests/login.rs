//! What a login does.

use super::*;
use Retirement::{Privileged, Routine, Superseded};

const SHORT: Timeouts = timeouts(8_000, 50_000);
const LONG: Timeouts = timeouts(200_000, 900_000);

fn alice() -> Login {
    Login::new("alice")
}

#[track_caller]
fn assert_logins<const N: usize>(rows: [(&str, Request, Login, &str); N]) {
    for (name, request, login, expected) in rows {
        assert_eq!(request.login_outcome(login, 15_000), expected, "{name}");
    }
}

#[test]
fn an_anonymous_session_goes_on_with_the_timeouts_of_the_layer_or_those_asked_for() {
    assert_logins([
        ("plain", live(), alice(), "update until 31000, fresh cookie"),
        (
            "its own timeouts end",
            live().with_timeouts(LONG),
            alice(),
            "update until 31000, fresh cookie",
        ),
        (
            "its persistence ends",
            live().with_persistent_cookie(),
            alice(),
            "update until 31000, fresh cookie",
        ),
        (
            "staged timeouts",
            live().set_timeouts(SHORT),
            alice(),
            "update until 23000, fresh cookie",
        ),
        (
            "staged persistence",
            live().persist(),
            alice(),
            "update until 31000, fresh cookie until 115000",
        ),
        (
            "remembered",
            live(),
            alice().remember_me(LONG),
            "update until 215000, fresh cookie until 915000",
        ),
        (
            "the login's timeouts come before staged ones",
            live().set_timeouts(SHORT),
            alice().remember_me(LONG),
            "update until 215000, fresh cookie until 915000",
        ),
        (
            "a renewal is one anyway",
            live().renew(),
            alice(),
            "update until 31000, fresh cookie",
        ),
        (
            "a login is activity",
            live().do_not_extend(),
            alice(),
            "update until 31000, fresh cookie",
        ),
        (
            "near the absolute deadline, which begins anew",
            live().expires(15_001),
            alice(),
            "update until 31000, fresh cookie",
        ),
        (
            "under a routine-retired id",
            live().under_retired(Routine),
            alice(),
            "update until 31000, fresh cookie",
        ),
    ]);
}

#[test]
fn the_same_user_goes_on_as_before_but_for_what_is_asked_for() {
    let again = || live().with_user("alice").expires(16_000);
    assert_logins([
        (
            "plain",
            again(),
            alice(),
            "update until 31000, fresh cookie",
        ),
        (
            "its own timeouts and persistence stay",
            again().with_timeouts(LONG).with_persistent_cookie(),
            alice(),
            "update until 215000, fresh cookie until 915000",
        ),
        (
            "staged timeouts",
            again().with_timeouts(LONG).set_timeouts(SHORT),
            alice(),
            "update until 23000, fresh cookie",
        ),
        (
            "forgotten, with the timeouts of the layer",
            again().with_timeouts(LONG).with_persistent_cookie(),
            alice().forget_me(),
            "update until 31000, fresh cookie",
        ),
        (
            "forgotten, with staged timeouts",
            again()
                .with_timeouts(LONG)
                .with_persistent_cookie()
                .set_timeouts(SHORT),
            alice().forget_me(),
            "update until 23000, fresh cookie",
        ),
        (
            "of both the last one counts",
            again(),
            alice().forget_me().remember_me(LONG),
            "update until 215000, fresh cookie until 915000",
        ),
        (
            "and the other way round",
            again().with_timeouts(LONG).with_persistent_cookie(),
            alice().remember_me(LONG).forget_me(),
            "update until 31000, fresh cookie",
        ),
        (
            "remembered from now on",
            again(),
            alice().remember_me(LONG),
            "update until 215000, fresh cookie until 915000",
        ),
    ]);
}

#[test]
fn the_session_of_somebody_else_is_ended_first_and_so_is_one_that_has_expired() {
    let theirs = || live().with_user("bob");
    let login = |request: Request, millis| request.login_outcome(alice(), millis);
    assert_eq!(login(theirs(), 0), "end");
    assert_eq!(login(theirs().under_retired(Routine), 0), "end");
    assert_eq!(login(theirs().set("a", "1").renew(), 0), "end");
    assert_eq!(login(live().with_user(""), 0), "end");

    // Between load and login. Its data must not get into the session that comes.
    for expired in [live(), live().with_user("alice"), theirs()] {
        assert_eq!(login(expired, 16_000), "end");
    }
    assert_eq!(login(live(), 15_999), "update until 31999, fresh cookie");
}

#[test]
fn without_a_session_a_login_makes_one_of_what_the_request_staged() {
    for request in [absent, || lost(Dropped::Retired), || lost(Dropped::Ended)] {
        assert_logins([
            (
                "nothing",
                request(),
                alice(),
                "create until 31000, fresh cookie",
            ),
            (
                "timeouts",
                request().set_timeouts(SHORT),
                alice(),
                "create until 23000, fresh cookie",
            ),
            (
                "persistence",
                request().persist(),
                alice(),
                "create until 31000, fresh cookie until 115000",
            ),
            (
                "remembered",
                request().set_timeouts(SHORT),
                alice().remember_me(LONG),
                "create until 215000, fresh cookie until 915000",
            ),
            (
                "no activity",
                request().do_not_extend(),
                alice(),
                "create until 31000, fresh cookie",
            ),
        ]);
        let write = request()
            .set("a", "1")
            .logged_in(alice().label("Firefox"), 5);
        let Live {
            id, record, header, ..
        } = *write.live;
        assert_eq!(id.encode(), self::id(FRESH).encode());
        assert_eq!(contents(&record), "a=1");
        assert_eq!(record.user_id.as_deref(), Some("alice"));
        assert_eq!(record.created_at, from_unix_millis(at(5)));
        let secret = *self::id(FRESH).secret.digest().as_bytes();
        let label = Some("Firefox");
        let expected: Facts<'_> = (secret, &[], [at(5); 2], TIMEOUTS, Some(at(5)), false, label);
        assert_eq!(facts(&header), expected);
    }
}

#[test]
fn a_login_starts_both_timeouts_anew_and_keeps_the_session() {
    for before in [live(), live().with_user("alice")] {
        let request = before.set("a", "1").remove("old");
        let write = request.logged_in(alice(), 15_000);
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
        assert_eq!(
            (header.started_at, header.renewed_at),
            (at(15_000), at(15_000))
        );
        assert_eq!(header.authenticated_at, Some(at(15_000)));
        assert_eq!(record.created_at, from_unix_millis(at(0)));
        assert_eq!(record.user_id.as_deref(), Some("alice"));
        assert_eq!(contents(&record), "a=1");
    }
}

#[test]
fn a_login_retires_every_secret_that_opened_the_session() {
    let now = Privileged { at: at(5) };
    let before = Privileged { at: at(1) };
    for user in [None, Some("alice")] {
        let known = || match user {
            Some(user) => live().with_user(user),
            None => live(),
        };
        let request = known()
            .with_retired(11, Superseded { at: at(0) })
            .with_retired(12, before)
            .under_retired(Routine);
        let write = request.logged_in(alice(), 5);
        assert_eq!(
            write.live.header.retired,
            [
                retired(SUCCESSOR, now),
                retired(OURS, now),
                retired(11, now),
                retired(12, before),
            ]
        );
        for secret in [OURS, SUCCESSOR, 11, 12] {
            assert_dead(&write.live.record, secret, at(5));
        }
    }
}

#[test]
fn a_label_stays_until_another_one_is_given() {
    let labelled = || live().with_user("alice").with_label("Firefox");
    for (request, login, expected) in [
        (live(), alice(), None),
        (live(), alice().label("Safari"), Some("Safari")),
        (live(), alice().label(""), None),
        (labelled(), alice(), Some("Firefox")),
        (labelled(), alice().label("Safari"), Some("Safari")),
        (labelled(), alice().label(""), None),
    ] {
        let write = request.logged_in(login, 5);
        assert_eq!(write.live.header.label.as_deref(), expected);
    }
}
