//! What the id of a session travels in.

use super::*;

/// Of each request: by what it came, the session that it leaves is carried on.
#[test]
fn a_session_begins_by_the_carrier_of_its_request_and_keeps_it() {
    let began: [fn() -> Request; 3] = [absent, || lost(Dropped::Retired), live];
    for request in began {
        for (request, carrier) in [
            (request(), Carrier::Cookie),
            (request().by_header(), Carrier::Header),
        ] {
            let write = request.set("a", "1").logged_in("alice", 5);
            assert_eq!(write.live.header.carrier, carrier);
        }
    }
    for (request, carrier) in [
        (absent(), Carrier::Cookie),
        (absent().by_header(), Carrier::Header),
        (live(), Carrier::Cookie),
        (live().by_header(), Carrier::Header),
        (live().by_header().renew(), Carrier::Header),
        (live().by_header().renewing_after(1), Carrier::Header),
    ] {
        let write = request.set("a", "1").written(5);
        assert_eq!(write.live.header.carrier, carrier);
        let (written, _) = Header::decode(&write.live.record.payload).unwrap();
        assert_eq!(written.carrier, carrier);
    }
}

#[test]
fn a_session_after_another_of_the_same_request_has_the_same_carrier() {
    let mut request = live().by_header();
    request.state.become_absent(Standing::Absent);
    let write = request.set("a", "1").written(5);
    assert_eq!(write.live.header.carrier, Carrier::Header);
}

#[test]
fn by_header_the_same_is_planned_as_by_cookie() {
    for (name, request) in [
        ("read", live as fn() -> Request),
        ("changes", || live().set("a", "1")),
        ("renewal", || live().renew()),
        ("schedule", || live().renewing_after(1)),
        ("created", || absent().set("a", "1")),
        ("nothing", absent),
        ("lost", || lost(Dropped::Ended).set("a", "1")),
    ] {
        let staged = request();
        let mut by_header = request();
        by_header.state.carrier = Carrier::Header;
        assert_eq!(by_header.outcome(5), staged.outcome(5), "{name}");
    }
}
