//! The model finds every store that has a fault.
//!
//! Each test has the seed of programs that find its fault soon. On a change to the programs they may take
//! longer, up to the number of programs that the memory store is tested with.

use crate::faults::Fault::{self, *};
use crate::places::Place;
use crate::search::Search;

macro_rules! found {
    ($($test:ident: $fault:expr, $seed:expr;)+) => {
        $(#[test] fn $test() { is_found($fault, $seed); })+
    };
}

found! {
    an_update_that_upserts: UpdateUpserts, 0;
    an_update_that_ignores_the_version: UpdateIgnoresTheVersion, 1;
    an_update_that_deletes_and_creates: UpdateDeletesAndCreates, 15;
    an_update_that_is_late: UpdateIsLate, 0;
    versions_that_are_counted: VersionsAreCounted, 0;
    a_touch_that_revives: TouchRevives, 0;
    a_touch_that_lowers: TouchLowers, 2;
    a_delete_that_is_late: DeleteIsLate, 5;
    a_delete_that_unlinks_first: DeleteUnlinksFirst, 0;
    a_sweep_that_looks_first: SweepLooksFirst, 0;
    a_load_that_takes_failures_for_absence: LoadTakesFailuresForAbsence, 0;
    a_load_from_a_cache_of_the_node: LoadIsCached, 0;
    a_link_that_ignores_marks: LinkIgnoresMarks, 0;
    a_link_that_looks_first: LinkLooksFirst, 0;
    a_link_that_does_nothing: LinkDoesNothing, 0;
}

fn is_found(fault: Fault, seed: u64) {
    let search = Search {
        place: Place::Memory,
        fault: Some(fault),
        programs: 20_000,
        seed: Some(seed),
        shrinks: 0,
    };
    let found = search.run().expect("a store with this fault passes");
    println!(
        "{fault:?}, by program {}: {}",
        found.programs, found.violation
    );
}
