//! What programs are made of does happen, and takes effect, often enough to find anything.

use crate::tally::Tally;

/// In how many programs each of these has to happen once, on average. The rarest happens seven times as often,
/// so that no choice of programs makes this fail.
const PROGRAMS_FOR_EACH: u32 = 4_000;

/// In fewer programs than that, chance alone may leave something out.
const ENOUGH_PROGRAMS: u32 = 16_000;

/// The events of the crate by their kind, steps of handlers by their name, and what the model sees.
const EXPECTED: &[&str] = &[
    "ChangesDropped(Ended)",
    "ChangesDropped(Expired)",
    "ChangesDropped(Retired)",
    "ChangesFailed",
    "CopyInUse",
    "Created",
    "DuplicateCookie(TooManyValues)",
    "DuplicateCookie(TwoSessions)",
    "DuplicateCookie(TwoValues)",
    "Ended(AnotherUser)",
    "Ended(App)",
    "Ended(CopyInUse)",
    "Ended(FailedLogin)",
    "Ended(Limit)",
    "Ended(OtherSession)",
    "Ended(Request)",
    "Expired",
    "LoggedIn",
    "LoggedOut",
    "Refused(DifferingHeaders)",
    "Refused(OtherCarrier)",
    "Refused(Unknown)",
    "Refused(WrongSecret)",
    "Renewed(Login)",
    "Renewed(RenewId)",
    "Renewed(Schedule)",
    "RetiredIdUsed",
    "StoreFailed",
    "a 5xx drops changes",
    "a call waits for that of another task",
    "a client hangs up",
    "a client hangs up during a call",
    "a client hangs up during the commit",
    "a copy ends its session",
    "a login fails: EndingFailed",
    "a login fails: Overtaken",
    "a login fails: Store",
    "a login fails: TooManySessions",
    "a panic drops changes",
    "a response overtakes another",
    "a session is extended late",
    "a session opens",
    "a sweep removes",
    "a touch",
    "an id in a header",
    "an id renewed on a schedule is sent",
    "an operator ends all of a user",
    "an operator ends everyone's",
    "an operator ends one",
    "an operator ends one of a user",
    "an operator finds nothing to end",
    "an operator sees one alive",
    "an operator sees one dead",
    "an update: Conflict",
    "an update: Missing",
    "append",
    "clear",
    "destroy",
    "do not extend",
    "end all",
    "end one",
    "end others",
    "fails after its effect",
    "fails before its effect",
    "fails, and is to take effect later",
    "insert",
    "is staged during a call",
    "is unconfirmed",
    "list",
    "login",
    "persistent cookie",
    "remove",
    "renew id",
    "save",
    "set timeouts",
    "take",
    "takes effect late",
    "two ids in one request",
    "two tasks",
];

/// Fails if something happens too seldom in this many programs, where those are enough to tell.
pub(crate) fn assert_often_enough(tally: &Tally, programs: u32) {
    println!("{tally:#?}");
    if programs < ENOUGH_PROGRAMS {
        return println!("too few programs to say what they have to make happen");
    }
    let least = programs / PROGRAMS_FOR_EACH;
    let seldom: Vec<_> = EXPECTED
        .iter()
        .map(|what| (what, tally.of(what)))
        .filter(|(_, times)| *times < least)
        .collect();
    assert!(
        seldom.is_empty(),
        "in {programs} programs each of these has to happen {least} times: {seldom:#?}"
    );
}
