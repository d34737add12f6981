//! What a session's CSRF tokens are made of, and how long that lasts.

use super::*;

fn key(number: u8) -> CsrfKey {
    CsrfKey::from_bytes([number; 32])
}

fn of(number: u64) -> CsrfKey {
    CsrfKey::of(&id(number).secret.digest())
}

#[test]
fn a_key_lasts_until_a_change_of_privilege() {
    use Retirement::Routine;
    for (name, request, expected) in [
        ("changes", live().set("a", "1"), of(OURS)),
        ("a schedule", live().renewing_after(1), of(OURS)),
        (
            "a schedule, under a token",
            live().renewing_after(1).with_token(7),
            of(OURS),
        ),
        (
            "under an id that a schedule has retired",
            live().under_retired(Routine).set("a", "1"),
            of(OURS),
        ),
        ("renewal", live().renew(), of(FRESH)),
        ("creation", absent().set("a", "1"), of(FRESH)),
    ] {
        assert_eq!(request.written(5).live.header.csrf, expected, "{name}");
    }
    for request in [absent(), live(), live().with_user("alice")] {
        assert_eq!(request.logged_in("alice", 5).live.header.csrf, of(FRESH));
    }
}

#[test]
fn a_token_of_this_response_is_of_the_key_that_the_session_gets_with_it() {
    for (name, request) in [
        ("created", absent().set("a", "1").with_token(7)),
        (
            "created after the page",
            absent().with_token(7).set("a", "1"),
        ),
        ("renewed", live().renew().with_token(7)),
        (
            "rendered twice",
            absent().set("a", "1").with_token(7).with_token(8),
        ),
    ] {
        assert_eq!(request.written(5).live.header.csrf, key(7), "{name}");
    }
    // A login ends whatever was rendered before it.
    for request in [absent().with_token(7), live().renew().with_token(7)] {
        assert_eq!(request.logged_in("alice", 5).live.header.csrf, of(FRESH));
    }
}

#[test]
fn a_token_writes_nothing_and_makes_no_session() {
    for (name, request, expected) in [
        ("nobody", absent().with_token(7), "nothing"),
        ("somebody", live().with_token(7), "nothing"),
        (
            "an ended session",
            lost(Dropped::Ended).with_token(7),
            "nothing",
        ),
    ] {
        assert!(!request.state.has_staged(), "{name}");
        assert!(is_idle(&request.state, || at(5), &request.rules), "{name}");
        assert_eq!(request.outcome(5), expected, "{name}");
    }
}

#[test]
fn a_session_after_another_of_the_same_request_has_a_key_of_its_own() {
    let mut request = live().renew().with_token(7);
    request.state.become_absent(Standing::Absent);
    let request = request.set("a", "1").with_token(8);
    assert_eq!(request.written(5).live.header.csrf, key(8));
}
