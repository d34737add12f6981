//! Whether a record opens to an id.

use super::*;

/// The verdict in words.
pub(super) fn verdict(record: &Record, secret: u64, now: i64, rules: &Rules) -> String {
    verdict_by(Carrier::Cookie, record, secret, now, rules)
}

fn verdict_by(carrier: Carrier, record: &Record, secret: u64, now: i64, rules: &Rules) -> String {
    let id = id(secret);
    match judge(&id, id.secret.digest(), carrier, record.clone(), now, rules) {
        Ok(Verdict::Live(live, _)) if live.is_current => "live".into(),
        Ok(Verdict::Live(..)) => "live, retired".into(),
        Ok(Verdict::Expired) => "expired".into(),
        Ok(Verdict::WrongSecret) => "wrong secret".into(),
        Ok(Verdict::OtherCarrier) => "other carrier".into(),
        Ok(Verdict::Retired) => "retired".into(),
        Ok(Verdict::LongRetired) => "long retired".into(),
        Ok(Verdict::Reused) => "reused".into(),
        Err(error) if error.is_newer_format() => "newer format".into(),
        Err(error) => error.to_string(),
    }
}

fn record(request: &Request) -> Record {
    request.state.live().unwrap().record.clone()
}

#[test]
fn an_id_is_worth_what_the_record_and_the_time_say() {
    use Retirement::{Privileged, Routine, Superseded};
    let under = |retirement| live().expires(90_000).under_retired(retirement);
    let since = at(5_000);
    for (name, request, millis, expected) in [
        ("the current secret", live(), 0, "live"),
        ("1 ms before the expiry", live(), 15_999, "live"),
        ("exactly at the expiry", live(), 16_000, "expired"),
        ("long after the expiry", live(), 99_999, "expired"),
        (
            "privileged, at once",
            under(Privileged { at: since }),
            5_000,
            "retired",
        ),
        (
            "privileged, 1 ms left",
            under(Privileged { at: since }),
            14_999,
            "retired",
        ),
        (
            "privileged, grace over",
            under(Privileged { at: since }),
            15_000,
            "long retired",
        ),
        (
            "privileged, by a clock ahead of ours",
            under(Privileged { at: since }),
            0,
            "retired",
        ),
        ("routine", under(Routine), 5_000, "live, retired"),
        (
            "routine has no limit of its own",
            under(Routine),
            89_999,
            "live, retired",
        ),
        (
            "superseded, at once",
            under(Superseded { at: since }),
            5_000,
            "live, retired",
        ),
        (
            "superseded, 1 ms left",
            under(Superseded { at: since }),
            14_999,
            "live, retired",
        ),
        (
            "superseded, grace over",
            under(Superseded { at: since }),
            15_000,
            "reused",
        ),
        ("expired and routine", under(Routine), 90_000, "expired"),
        (
            "expired and privileged, within the grace",
            under(Privileged { at: at(89_000) }),
            90_000,
            "expired",
        ),
        (
            "expired and superseded",
            under(Superseded { at: since }),
            90_000,
            "expired",
        ),
    ] {
        let verdict = verdict(&record(&request), OURS, at(millis), &rules());
        assert_eq!(verdict, expected, "{name}");
    }
}

#[test]
fn a_secret_of_another_session_opens_nothing() {
    for request in [live(), live().under_retired(Retirement::Routine)] {
        for millis in [0, 16_000] {
            let verdict = verdict(&record(&request), 99, at(millis), &rules());
            assert_eq!(verdict, "wrong secret");
        }
    }
}

/// Neither as if it worked, nor as if it were known in any other way: a copy that comes by another carrier
/// must not end the session.
#[test]
fn an_id_that_comes_by_another_carrier_opens_nothing_whatever_it_is_worth() {
    use Carrier::{Cookie, Header};
    use Retirement::{Privileged, Routine, Superseded};
    for (name, request) in [
        ("current", live()),
        ("expired", live().expires(0)),
        ("routine", live().under_retired(Routine)),
        (
            "superseded",
            live().under_retired(Superseded { at: at(-GRACE) }),
        ),
        ("privileged", live().under_retired(Privileged { at: at(0) })),
    ] {
        let in_header = record(&request.edit(|live| live.header.carrier = Header));
        let verdict = verdict_by(Cookie, &in_header, OURS, at(0), &rules());
        assert_eq!(verdict, "other carrier", "{name}");
    }
    let in_header = record(&live().edit(|live| live.header.carrier = Header));
    let in_cookie = record(&live());
    let verdict = |carrier, record| verdict_by(carrier, record, OURS, at(0), &rules());
    assert_eq!(verdict(Header, &in_header), "live");
    assert_eq!(verdict(Header, &in_cookie), "other carrier");
    // Nobody learns the carrier of a session without an id of it.
    let stranger = verdict_by(Cookie, &in_header, 99, at(0), &rules());
    assert_eq!(stranger, "wrong secret");
}

#[test]
fn each_secret_of_the_list_is_judged_by_its_own_retirement() {
    let request = live()
        .with_retired(11, Retirement::Routine)
        .with_retired(12, Retirement::Superseded { at: at(0) })
        .with_retired(13, Retirement::Privileged { at: at(0) });
    let record = record(&request);
    let verdicts = |now| [OURS, 11, 12, 13].map(|secret| verdict(&record, secret, now, &rules()));
    assert_eq!(
        verdicts(at(9_999)),
        ["live", "live, retired", "live, retired", "retired"]
    );
    assert_eq!(
        verdicts(at(10_000)),
        ["live", "live, retired", "reused", "long retired"]
    );
}

#[test]
fn without_a_grace_a_retired_secret_is_dead_in_the_same_millisecond() {
    let rules = Rules {
        retired_grace: 0,
        ..rules()
    };
    let superseded = live().under_retired(Retirement::Superseded { at: at(1) });
    assert_eq!(verdict(&record(&superseded), OURS, at(1), &rules), "reused");
    let privileged = live().under_retired(Retirement::Privileged { at: at(1) });
    assert_eq!(
        verdict(&record(&privileged), OURS, at(1), &rules),
        "long retired"
    );
}

#[test]
fn a_live_session_is_what_its_record_says() {
    let request = live().with_user("alice").with_label("Firefox");
    let record = record(&request);
    let id = id(OURS);
    let verdict = judge(
        &id,
        id.secret.digest(),
        Carrier::Cookie,
        record.clone(),
        at(0),
        &rules(),
    )
    .unwrap();
    let Verdict::Live(live, loaded) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(live.record, record);
    assert_eq!(live.header.label.as_deref(), Some("Firefox"));
    assert_eq!(live.id.encode(), id.encode());
    assert_eq!(live.presented, id.secret.digest());
    let state = State::new(Standing::Live(live), loaded, &rules());
    assert_eq!(state.data.keys(), ["old"]);
    assert!(state.was_live);
}

#[test]
fn a_payload_that_cannot_be_read_is_an_error_and_no_session() {
    let good = record(&live());
    let with = |change: fn(&mut Vec<u8>)| {
        let mut payload = good.payload.to_vec();
        change(&mut payload);
        Record {
            payload: payload.into(),
            ..good.clone()
        }
    };
    let judged = |record: &Record, secret, millis| verdict(record, secret, at(millis), &rules());
    let early_end = "it ends too early";

    assert_eq!(judged(&with(|payload| payload.clear()), OURS, 0), early_end);
    assert_eq!(
        judged(&with(|payload| payload[0] = 0), OURS, 0),
        "it has no format"
    );
    let newer = with(|payload| payload[0] = 3);
    // Whether a newer record opens to this secret cannot be told, expired or not.
    for (secret, millis) in [(OURS, 0), (OURS, 16_000), (99, 0)] {
        assert_eq!(judged(&newer, secret, millis), "newer format");
    }

    let cut_entry = with(|payload| payload.truncate(payload.len() - 1));
    assert_eq!(judged(&cut_entry, OURS, 0), early_end);
    let stray = with(|payload| payload.push(7));
    assert_eq!(judged(&stray, OURS, 0), early_end);
    // Whoever has no business with the session learns nothing of what it holds.
    assert_eq!(judged(&cut_entry, 99, 0), "wrong secret");
    assert_eq!(judged(&cut_entry, OURS, 16_000), "expired");
}
