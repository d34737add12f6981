//! What programs are made of does happen, and takes effect, often enough to find anything.

use crate::tally::Tally;

/// In how many programs each of these has to happen once, on average.
const PROGRAMS_FOR_EACH: u32 = 2_000;

const EXPECTED: &[&str] = &[];

/// Fails if something happens too seldom in this many programs.
pub(crate) fn assert_often_enough(tally: &Tally, programs: u32) {
    println!("{tally:#?}");
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
