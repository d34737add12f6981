//! A model test of the guarantees: random programs, run against a reference model.
//!
//! A [program](program::Program) is a few dozen moves: browsers send requests that read, change, save, renew,
//! log in and end sessions; clients hang up; operators end sessions of others; records are swept; time
//! passes; responses reach browsers in any order, or never; and whoever sends an id may have stolen or
//! invented it. Requests are cut at every call of the store, before and after its effect, and the program
//! says who goes on there, whose call fails, and whose call takes effect after it was given up. The whole
//! layer runs, as a tower service; only the network is left out.
//!
//! The [reference model](reference::Reference) sees what an app and its clients see, and the calls that the
//! crate makes on its store. It knows nothing of how the crate works, and holds it to this:
//!
//! 1. **No change is lost.** Every write builds on all that were there before, each load has all that were
//!    acknowledged, and every handler sees exactly what they come to. Who is told that changes are saved,
//!    has saved them; who answers 5xx, panics, or is gone before, writes nothing.
//! 2. **An end is final.** No id opens its session after an ending of it returned, one by one or by user,
//!    or after a login or a renewal retired the id. Nobody ends what is not theirs.
//! 3. **Expiry is never late**, by the timeouts of the session and its last activity.
//! 4. **What is alive opens**, to its current id, and to the one before that was renewed on a schedule
//!    until the new one is in use.
//! 5. **No session is seen in another**: every value is written once, and each session knows its own.
//! 6. **Clients choose nothing**: what was not sent opens nothing, and causes no write.
//! 7. **At most one cookie** in a response: an id that was saved for it, or the one it came with if that is
//!    still good.
//! 8. **The limit on sessions of a user** holds once all is quiet.
//!
//! At the end everybody comes to the end, and each id that was ever sent is looked at: at once, right before
//! its session may expire, and when it must have.
//!
//! # Running it
//!
//! `CLOAKROOM_MODEL_PROGRAMS` is how many programs run on the memory store, and a hundredth of it on each of
//! the others; 16,000 by default. From that number on [`happens`] asks whether they come to all that they are
//! for. A failure is shrunk and printed with what happened, as Rust that goes into `kept.rs`.
//!
//! # Whether it finds anything
//!
//! [`faults`] has stores with a fault each, and a test that asserts that every one is found.
//!
//! Of mutations of the crate itself, these were tried by hand and seen caught: a commit of what a handler
//! staged before it answered 5xx, a load that does not look at the expiry, a retry that does not apply the
//! changes to the newest version, a failed write always taken for done, a failed delete taken for done, a login
//! that retires the old id as a scheduled renewal does, and an ending of a user's sessions without the mark.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod bites;
mod browser;
mod deletes;
mod driver;
mod faults;
mod gate;
mod handler;
mod happens;
mod history;
mod kept;
mod opening;
mod places;
mod program;
mod redis_by_clock;
mod reference;
mod refusals;
mod returns;
mod search;
#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/sql.rs"]
mod sql;
mod store_calls;
#[path = "../support/id.rs"]
#[allow(dead_code)]
mod support_id;
mod tally;
mod told;
mod watch;
