//! The model finds every store that has a fault.
//!
//! Each test has the seed of programs that find its fault soon. On a change to the programs they may take
//! longer, up to the number of programs that the memory store is tested with. For faults that show so seldom
//! that this takes too long, there is a program.

use std::cell::RefCell;

use crate::faults::Fault::{self, *};
use crate::places::Place;
use crate::program::{
    Cookie::*, End::Ok, Fate::*, How::*, Limit, Move::*, Operation::*, Program, Rules, Step::*,
    Time::*, steps,
};
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
    a_touch_that_lowers: TouchLowers, 3;
    a_delete_that_is_late: DeleteIsLate, 5;
    a_load_that_takes_failures_for_absence: LoadTakesFailuresForAbsence, 0;
    a_load_from_a_cache_of_the_node: LoadIsCached, 0;
    a_link_that_ignores_marks: LinkIgnoresMarks, 0;
    a_link_that_does_nothing: LinkDoesNothing, 0;
    a_mark_that_does_nothing: MarkDoesNothing, 0;
    an_ending_of_everyone_that_does_nothing: DeleteLinkedDoesNothing, 0;
    an_unconfirmed_write_taken_for_done: UnconfirmedIsDone, 0;
}

fn is_found(fault: Fault, seed: u64) {
    let search = Search {
        place: Place::Memory,
        fault: Some(fault),
        programs: 20_000,
        seed: Some(seed),
        shrinks: 0,
    };
    let found = search
        .run(&RefCell::default())
        .expect("a store with this fault passes");
    println!(
        "{fault:?}, by program {}: {}",
        found.programs, found.violation
    );
}

/// Fails unless the model finds this fault by this program, which passes without the fault.
fn is_found_by(fault: Fault, program: &Program) {
    let run = |fault| Place::Memory.run(program, fault, true);
    assert_eq!(run(None).violation, None);
    let found = run(Some(fault));
    let trace = found.trace.join("\n");
    let violation = found
        .violation
        .unwrap_or_else(|| panic!("it is not found:\n{trace}"));
    println!("{fault:?}: {violation}");
}

const EVERY_READ: Rules = Rules {
    touch_every_read: true,
    ..Rules::PLAIN
};

#[test]
fn versions_that_are_counted() {
    let moves = vec![
        Send(0, Own, steps([Insert(0)]), Ok),
        Finish(0),
        Send(0, Stolen(0), steps([Append(0)]), Ok),
        Send(1, Stolen(0), steps([Append(1)]), Ok),
        Go(0, GoOn),
        Go(0, GoOn),
        Go(0, Fail),
        Finish(1),
        Finish(0),
    ];
    let rules = Rules::PLAIN;
    is_found_by(VersionsAreCounted, &Program { rules, moves });
}

#[test]
fn a_touch_that_revives() {
    let moves = vec![
        Send(0, Own, steps([Insert(0)]), Ok),
        Finish(0),
        Send(1, Stolen(0), steps([]), Ok),
        Go(0, GoOn),
        Go(0, GoOn),
        Go(0, GoOn),
        Go(0, GoOn),
        Operate(End(0)),
        Finish(1),
        Finish(0),
    ];
    let rules = EVERY_READ;
    is_found_by(TouchRevives, &Program { rules, moves });
}

#[test]
fn a_delete_that_unlinks_first() {
    let moves = vec![
        Send(0, Own, steps([Login(0, Plain)]), Ok),
        Finish(0),
        Operate(End(0)),
        Go(0, GoOn),
        Go(0, GoOn),
        Go(0, GoOn),
        Go(0, GoOn),
        Go(0, Fail),
        Operate(crate::program::Operation::EndAll(0)),
        Finish(0),
    ];
    let rules = Rules::PLAIN;
    is_found_by(DeleteUnlinksFirst, &Program { rules, moves });
}

#[test]
fn a_sweep_that_looks_first() {
    let moves = vec![
        Send(0, Own, steps([Insert(0)]), Ok),
        Finish(0),
        Pass(NearlyIdle),
        Send(0, Stolen(0), steps([]), Ok),
        Go(0, GoOn),
        Go(0, GoOn),
        Pass(Minutes),
        Sweep,
        Go(1, GoOn),
        Go(1, GoOn),
        Finish(0),
        Finish(0),
    ];
    let rules = EVERY_READ;
    is_found_by(SweepLooksFirst, &Program { rules, moves });
}

#[test]
fn a_link_that_looks_first() {
    let moves = vec![
        Send(0, Own, steps([Login(0, Plain)]), Ok),
        Send(1, Own, steps([Login(0, Plain)]), Ok),
        Go(0, GoOn),
        Go(0, GoOn),
        Go(0, GoOn),
        Go(0, GoOn),
        Go(1, GoOn),
        Go(1, GoOn),
        Go(1, GoOn),
        Go(1, GoOn),
        Finish(0),
        Finish(0),
    ];
    let rules = Rules {
        limit: Limit::EndOldest(1),
        ..Rules::PLAIN
    };
    is_found_by(LinkLooksFirst, &Program { rules, moves });
}
