//! What programs are made of does happen, and takes effect, often enough to find anything.

use std::cell::RefCell;

use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::places::Place;
use crate::program::programs;
use crate::search::MOST_MOVES;
use crate::tally::Tally;

const PROGRAMS: u32 = 1_000;

const OFTEN_ENOUGH: &[(&str, u32)] = &[];

#[test]
fn all_that_programs_are_made_of_happens_often_enough() {
    let config = Config {
        cases: PROGRAMS,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0),
        ..Config::default()
    };
    let tally = RefCell::new(Tally::default());
    let run = TestRunner::new(config).run(&programs(MOST_MOVES), |program| {
        let run = Place::Memory.run(&program, None, false);
        tally.borrow_mut().add(&run.tally);
        Ok(())
    });
    run.unwrap();
    let tally = tally.into_inner();
    let seldom = OFTEN_ENOUGH
        .iter()
        .filter(|(what, times)| tally.of(what) < *times);
    let seldom: Vec<_> = seldom
        .map(|(what, times)| (what, *times, tally.of(what)))
        .collect();
    assert!(
        seldom.is_empty(),
        "what happens, how often it should, and does: {seldom:#?}\n{tally:#?}"
    );
    println!("{tally:#?}");
}
