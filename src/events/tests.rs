//! The table of the module's docs is what the code does.

use std::collections::BTreeSet;

use super::*;

/// Every kind there is.
const ALL: &[EventKind] = &[
    EventKind::Created,
    EventKind::Renewed(RenewedBy::Login),
    EventKind::Renewed(RenewedBy::RenewId),
    EventKind::Renewed(RenewedBy::Schedule),
    EventKind::LoggedIn,
    EventKind::LoggedOut,
    EventKind::Ended(EndedBy::Request),
    EventKind::Ended(EndedBy::OtherSession),
    EventKind::Ended(EndedBy::App),
    EventKind::Ended(EndedBy::Limit),
    EventKind::Ended(EndedBy::FailedLogin),
    EventKind::Ended(EndedBy::AnotherUser),
    EventKind::Ended(EndedBy::CopyInUse),
    EventKind::Expired,
    EventKind::Refused(Refusal::Malformed),
    EventKind::Refused(Refusal::Unknown),
    EventKind::Refused(Refusal::WrongSecret),
    EventKind::Refused(Refusal::Undecodable),
    EventKind::Refused(Refusal::OtherCarrier),
    EventKind::Refused(Refusal::DifferingHeaders),
    EventKind::RetiredIdUsed,
    EventKind::CopyInUse,
    EventKind::DuplicateCookie(DuplicateCookie::SameValue),
    EventKind::DuplicateCookie(DuplicateCookie::TwoValues),
    EventKind::DuplicateCookie(DuplicateCookie::TooManyValues),
    EventKind::DuplicateCookie(DuplicateCookie::TwoSessions),
    EventKind::CookiesOverLimit(CookieLimit::Bytes),
    EventKind::CookiesOverLimit(CookieLimit::Cookies),
    EventKind::CsrfRefused(CsrfRefusal::MissingToken),
    EventKind::CsrfRefused(CsrfRefusal::WrongToken),
    EventKind::CsrfRefused(CsrfRefusal::CrossOrigin),
    EventKind::ChangesDropped(DropCause::Ended),
    EventKind::ChangesDropped(DropCause::Expired),
    EventKind::ChangesDropped(DropCause::Retired),
    EventKind::ChangesFailed,
    EventKind::ResponseReplaced,
    EventKind::WritePanicked,
    EventKind::Contention,
    EventKind::StoreFailed,
    EventKind::Swept,
    EventKind::SweepFailed,
];

/// The cells of each row of the docs' table of events, without their backticks.
fn documented() -> Vec<Vec<String>> {
    let docs = include_str!("../events.rs");
    let table = docs.split("| `event` |").nth(1).unwrap();
    let rows = table.lines().skip(2);
    rows.map_while(|line| line.strip_prefix("//! | "))
        .map(|row| {
            row.split('|')
                .map(|cell| cell.trim().replace('`', ""))
                .collect()
        })
        .collect()
}

#[test]
fn the_table_has_every_event_with_its_cause_and_level() {
    let documented: Vec<_> = documented()
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone(), row[2].to_uppercase()))
        .collect();
    let coded: Vec<_> = ALL
        .iter()
        .map(|kind| {
            (
                kind.name().to_owned(),
                kind.cause().unwrap_or_default().to_owned(),
                kind.level().to_string(),
            )
        })
        .collect();
    assert_eq!(documented, coded);
}

/// A kind that is in the code but not in `ALL` has an arm there that names it.
#[test]
fn the_list_has_every_name_and_cause_of_the_code() {
    let code = include_str!("kind.rs");
    let arms = code.lines().filter_map(|line| {
        let (kinds, name) = line.trim().split_once(" => \"")?;
        let name = name.strip_suffix("\",")?;
        let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        (is_name && kinds.starts_with("Self::")).then_some(name)
    });
    let arms: Vec<_> = arms.collect();
    let names: BTreeSet<_> = ALL.iter().map(|kind| kind.name()).collect();
    let causes = ALL.iter().filter_map(|kind| kind.cause());
    let mut listed: Vec<_> = names.into_iter().chain(causes).collect();
    let mut coded = arms.clone();
    listed.sort_unstable();
    coded.sort_unstable();
    assert_eq!(coded, listed);
}

#[test]
fn names_and_causes_tell_kinds_apart() {
    let names: BTreeSet<_> = ALL.iter().map(|kind| (kind.name(), kind.cause())).collect();
    assert_eq!(names.len(), ALL.len());
}

#[test]
fn a_sweep_that_finds_nothing_is_no_news() {
    for (deleted, level) in [(0, Level::DEBUG), (1, Level::INFO)] {
        let event = Event {
            deleted: Some(deleted),
            ..Event::new(EventKind::Swept)
        };
        assert_eq!(event.level(), level);
    }
    let failed = Event {
        deleted: Some(0),
        ..Event::new(EventKind::SweepFailed)
    };
    assert_eq!(failed.level(), Level::ERROR);
}

#[test]
fn an_event_prints_neither_the_user_nor_an_error() {
    let error = StoreError::unavailable("marker-of-the-error", "x");
    let event = Event {
        user_id: Some("marker-of-the-user"),
        error: Some(&error),
        ..Event::new(EventKind::StoreFailed)
    };
    let text = format!("{event:?}");
    assert!(
        text.contains("StoreFailed") && !text.contains("marker"),
        "{text}"
    );
}
