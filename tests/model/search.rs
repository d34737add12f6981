//! Searches for a program that violates a guarantee.

use std::cell::{Cell, RefCell};

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use crate::driver::Run;
use crate::faults::Fault;
use crate::places::Place;
use crate::program::{Program, programs};
use crate::tally::Tally;

/// How long a program is at most.
pub(crate) const MOST_MOVES: usize = 40;

pub(crate) struct Search {
    pub(crate) place: Place,
    pub(crate) fault: Option<Fault>,
    pub(crate) programs: u32,
    /// What the programs follow from; chosen anew each time if there is none.
    pub(crate) seed: Option<u64>,
    /// How often a program that fails is made smaller.
    pub(crate) shrinks: u32,
}

pub(crate) struct Found {
    pub(crate) violation: String,
    pub(crate) program: Program,
    /// How many programs it took.
    pub(crate) programs: u32,
}

impl Search {
    pub(crate) fn run(&self, tally: &RefCell<Tally>) -> Option<Found> {
        let config = Config {
            cases: self.programs,
            max_shrink_iters: self.shrinks,
            // What fails is kept as a test that can be read, not as a seed.
            failure_persistence: None,
            rng_seed: self.seed.map_or(RngSeed::Random, RngSeed::Fixed),
            ..Config::default()
        };
        let tried = Cell::new(0);
        let has_failed = Cell::new(false);
        let result = TestRunner::new(config).run(&programs(MOST_MOVES), |program| {
            // After that come smaller ones.
            if !has_failed.get() {
                tried.set(tried.get() + 1);
            }
            let run = self.place.run(&program, self.fault, false);
            tally.borrow_mut().add(&run.tally);
            match run.violation {
                Some(violation) => {
                    has_failed.set(true);
                    Err(TestCaseError::fail(violation))
                }
                None => Ok(()),
            }
        });
        match result {
            Ok(()) => None,
            Err(TestError::Fail(violation, program)) => Some(Found {
                violation: violation.to_string(),
                program,
                programs: tried.get(),
            }),
            Err(TestError::Abort(why)) => panic!("the search was given up: {why}"),
        }
    }
}

/// Fails with what there is to know of a program that violates a guarantee.
pub(crate) fn assert_holds(place: Place, program: &Program) {
    let Run {
        violation, trace, ..
    } = place.run(program, None, true);
    if let Some(violation) = violation {
        panic!("{violation}\n\n{program}\n\n{}", trace.join("\n"));
    }
}

/// Fails if the guarantees do not hold for this many programs; what happened in them, if they do.
pub(crate) fn assert_all_hold(place: Place, programs: u32) -> Tally {
    let search = Search {
        place,
        fault: None,
        programs,
        seed: None,
        shrinks: 10_000,
    };
    let tally = RefCell::default();
    if let Some(found) = search.run(&tally) {
        println!("program {} of this thread fails", found.programs);
        assert_holds(place, &found.program);
        panic!(
            "{}: but not when the program ran once more, so it depends on something else:\n{}",
            found.violation, found.program
        );
    }
    tally.into_inner()
}

/// How many programs run on the memory store.
pub(crate) fn programs_wanted() -> u32 {
    match std::env::var("CLOAKROOM_MODEL_PROGRAMS") {
        Ok(number) => number
            .parse()
            .expect("CLOAKROOM_MODEL_PROGRAMS has to be a number of programs"),
        Err(_) => 16_000,
    }
}
