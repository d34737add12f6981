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
//! 7. **At most one cookie** in a response: the new id after a login or a renewal, the removal after an
//!    ending, or the id that the request came with if that is still good; and nothing that could push a newer
//!    id out of the browser.
//! 8. **Fails closed.** No handler runs whose session could not be loaded.
//! 9. **What goes on in a task of its own comes to its end**, be the client gone or not.
//! 10. **The limit on sessions of a user** holds once all is quiet, and who is logged in is on that user's list.
//!
//! At the end everybody comes to the end, and each id that was ever sent is looked at: at once, right before
//! its session may expire, and when it must have.
//!
//! Left out are a handler that gives up a call of its session and goes on (`all_or_nothing.rs` has it), and a
//! commit that gives up contending, since nothing takes long here (`overlapping_requests.rs`). Of a response to
//! a request for which a store call failed only the first half of 7 is asked.
//!
//! # Running it
//!
//! `CLOAKROOM_MODEL_PROGRAMS` is how many programs run on the memory store, and a hundredth of it on each of
//! the others; 16,000 by default. With `--release` many more run in the same time. From the default number on
//! [`happens`] asks whether they come to all that they are for. A failure is shrunk and printed with what
//! happened, as Rust that goes into [`kept`].
//!
//! # Whether it finds anything
//!
//! [`faults`] has stores with a fault each, and [`bites`] asserts that every one is found: an update that
//! upserts, ignores the version, deletes and creates, or answers first; a touch that revives or lowers; a
//! delete that is late; a cache of the node; a failure taken for absence; and so on.
//!
//! Faults of the crate cannot be kept. These were put into it by hand, one at a time, and each was found with
//! each seed of three (of two: a fresh session for a lost one); the number is the most programs that it took.
//!
//! | fault | programs |
//! |---|---|
//! | a login deletes the record and creates it anew | 13 |
//! | `renew_id` does | 12 |
//! | a conflict is answered by the same data under the newest version | 76 |
//! | a login does that | 302 |
//! | a change to a session that was ended creates it again | 424 |
//! | a touch does | 418 |
//! | a change to a session that was lost begins a fresh one | 151 |
//! | after a failed ending the handle takes writes | 3,706 |
//! | `renew_id` retires the old id as a scheduled renewal does | 52 |
//! | a login does | 20 |
//! | ids that were retired before, on a schedule, go on | 571 |
//! | an id that was renewed on a schedule opens for ever | 200 |
//! | the expiry is judged by the creation alone, or a millisecond late | 2 |
//! | a touch ignores the absolute timeout | 298 |
//! | a write forgets a session's own timeouts | 31 |
//! | a store that fails is taken for no session | 79 |
//! | a write that failed is taken for done | 112 |
//! | what failed to be saved stays staged | 637 |
//! | a delete that failed is taken for done | 1,800 |
//! | too few replicas have confirmed an ending, or a write, and that is no failure | 614 |
//! | a 5xx saves, or keeps the cookie of a login to itself | 41 |
//! | data of one user are in the session of the next | 142 |
//! | a secret, or the carrier, is not checked | 73 |
//! | of two live sessions the last one opens | 482 |
//! | a user's sessions are ended without the mark | 194 |
//! | a user ends another's session | 20 |
//! | an ending of all sessions spares the own one | 234 |
//! | an ending of the others leaves the own id | 278 |
//! | a login is not put on the list | 3 |
//! | a login that an ending overtook is not undone | 48 |
//! | no cookie after a login | 29 |
//! | two cookies | 2 |
//! | no removal after `destroy` | 26 |
//! | a removal to an id that was just retired, or for changes that were lost | 483 |
//! | a scheduled renewal that nobody is told of | 290 |
//! | store calls of one request overlap | 3 |
//! | a save, or a login, ends with the client that hangs up | 580 |
//! | `destroy` does | 1,504 |
//!
//! Three were not found. `end_all_sessions` that ends with the client: not within minutes of programs
//! (`sessions_in_handlers.rs` does). A commit that leaves the look at the expiry to the store: each store has
//! it, too. A write that took effect, and whose lost answer is told as a failure, as if nothing could be said
//! of it: no guarantee forbids that, and `store_failures.rs` asks for more.
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
