//! Programs that once failed, or came near to it: what they showed is in their names.

use crate::places::Place;
use crate::program::{
    Carriers, Cookie::*, End::*, Fate::*, How::*, Lasting::*, Limit, Move::*, Operation::*,
    Program, Rules, Step::*, Time::*, both, steps,
};
use crate::search::assert_holds;

fn plainly(moves: Vec<crate::program::Move>) {
    let rules = Rules::PLAIN;
    assert_holds(Place::Memory, &Program { rules, moves });
}

#[test]
fn changes_that_others_made_needless_are_not_lost() {
    plainly(vec![
        Send(0, Own, steps([Insert(1)]), Ok),
        Finish(0),
        Send(0, Stolen(0), steps([Clear]), Ok),
        Send(0, Stolen(0), steps([Remove(1)]), Ok),
        Go(1, GoOn),
        Finish(0),
    ]);
}

#[test]
fn timeouts_that_were_staged_survive_a_login_that_failed() {
    plainly(vec![
        Send(
            0,
            Own,
            steps([SetTimeouts(Longer), Login(0, Plain), Insert(0)]),
            Ok,
        ),
        Go(0, Fail),
    ]);
}

#[test]
fn timeouts_that_were_staged_survive_a_save_of_nothing() {
    plainly(vec![Send(
        0,
        Own,
        steps([SetTimeouts(Longer), Save, Login(0, Plain)]),
        Ok,
    )]);
}

#[test]
fn a_destroy_ends_what_a_failed_login_could_not() {
    plainly(vec![
        Send(0, Own, steps([Login(0, Plain), Destroy]), Ok),
        Go(0, GoOn),
        Go(0, GoOn),
        Go(0, Fail),
        Go(0, Fail),
    ]);
}

#[test]
fn a_session_that_expires_while_it_is_created_makes_room_for_another() {
    let rules = Rules {
        limit: Limit::RefuseLogin(1),
        ..Rules::PLAIN
    };
    let moves = vec![
        Send(2, Own, steps([Login(1, Plain), Login(1, Plain)]), Ok),
        Go(0, GoOn),
        Go(0, GoOn),
        Pass(Idle),
        Finish(0),
    ];
    assert_holds(Place::Memory, &Program { rules, moves });
}

#[test]
fn a_handle_ends_its_session_whatever_else_is_under_way() {
    plainly(vec![
        Send(0, Own, steps([Login(0, Plain)]), Ok),
        Go(0, GoOn),
        Go(0, GoOn),
        Operate(End(0)),
        Go(1, GoOn),
    ]);
}

#[test]
fn an_id_opens_until_its_successor_is_presented_by_a_client() {
    let rules = Rules {
        renew_ids: true,
        ..Rules::PLAIN
    };
    let moves = vec![
        Send(0, Own, steps([Insert(0)]), Ok),
        Finish(0),
        Pass(Minutes),
        Pass(Minutes),
        Send(0, Stolen(0), steps([Insert(0), Save]), Ok),
        Finish(0),
        Pass(Minutes),
        Send(0, Stolen(1), steps([]), Ok),
        Finish(0),
    ];
    assert_holds(Place::Memory, &Program { rules, moves });
}

#[test]
fn a_login_that_may_have_retired_the_id_drops_what_comes_after_it() {
    plainly(vec![
        SendAndLoad(0, Own, steps([Insert(0)]), Ok),
        SendAndLoad(0, Stolen(0), steps([Append(0), Login(0, Plain)]), Ok),
        Go(0, Unconfirmed),
    ]);
}

#[test]
fn what_a_failed_save_has_dropped_is_in_no_login_of_another_task() {
    plainly(vec![
        Send(0, Own, both([Login(0, Plain)], [Insert(0), Save]), Ok),
        GoOnFor(1, 2),
        Go(0, GoOn),
        Go(0, Fail),
    ]);
}

#[test]
fn what_is_staged_after_a_login_has_ended_the_session_of_another_user_survives_its_failure() {
    plainly(vec![
        SendAndLoad(0, Own, steps([Insert(0)]), Ok),
        SendAndLoad(
            0,
            Stolen(0),
            both([Login(0, Plain)], [Login(1, Plain), Insert(0)]),
            Ok,
        ),
        GoOnFor(1, 2),
        GoOnFor(0, 9),
        Go(1, GoOn),
        Go(0, Fail),
    ]);
}

#[test]
fn what_is_staged_during_a_login_is_in_the_session_that_it_makes_of_a_retired_one() {
    let rules = Rules {
        limit: Limit::EndOldest(1),
        ..Rules::PLAIN
    };
    let moves = vec![
        Send(0, Own, steps([Login(0, Plain)]), Ok),
        Finish(0),
        SendAndLoad(0, Stolen(0), both([Insert(0)], [Login(0, RememberMe)]), Ok),
        Go(1, GoOn),
        Send(0, Stolen(0), steps([Login(0, Plain)]), Ok),
        GoOnFor(1, 3),
    ];
    assert_holds(Place::Memory, &Program { rules, moves });
}

#[test]
fn a_session_that_is_kept_alive_during_a_look_at_it_is_alive() {
    plainly(vec![
        Send(0, Own, steps([Insert(0)]), Ok),
        Finish(0),
        Operate(IsAlive(0)),
        Go(0, GoOn),
        Pass(NearlyIdle),
        Send(0, Stolen(0), steps([Append(0)]), Ok),
        Finish(1),
        Pass(Minutes),
    ]);
}

#[test]
fn a_session_may_be_said_to_be_dead_before_a_late_touch_extends_it() {
    plainly(vec![
        Send(0, Own, both([Login(0, Plain)], [Save]), Ok),
        Finish(0),
        Operate(IsAlive(0)),
        Pass(NearlyIdle),
        GoOnFor(1, 2),
        Pass(Minutes),
        Go(1, GoOn),
    ]);
}

#[test]
fn an_update_staged_while_what_it_began_with_is_saved_brings_nothing_of_that_into_another_session()
{
    plainly(vec![
        Send(
            0,
            Own,
            both([Insert(0), Login(0, Plain)], [Append(0), Login(0, Plain)]),
            Ok,
        ),
        GoOnFor(0, 2),
        Pass(Idle),
        GoOnFor(1, 2),
    ]);
}

#[test]
fn a_session_that_ends_while_a_login_looks_at_it_may_still_count() {
    let rules = Rules {
        limit: Limit::RefuseLogin(1),
        ..Rules::PLAIN
    };
    let moves = vec![
        Send(0, Own, steps([Login(1, Plain)]), Ok),
        SendAndLoad(0, Own, steps([Login(1, Plain)]), Ok),
        Finish(0),
        GoOnFor(0, 5),
        Send(0, Stolen(0), steps([Destroy]), Ok),
        Finish(1),
    ];
    assert_holds(Place::Memory, &Program { rules, moves });
}

#[test]
fn a_load_need_not_see_the_touch_that_comes_before_its_answer() {
    plainly(vec![
        Send(0, Own, steps([Login(0, Plain)]), Ok),
        Finish(0),
        Pass(NearlyIdle),
        Send(0, Stolen(0), steps([]), Ok),
        Go(0, GoOn),
        Go(0, GoOn),
        Pass(Minutes),
        Send(0, Stolen(0), steps([]), Ok),
        Go(1, GoOn),
        Finish(0),
    ]);
}

#[test]
fn a_login_that_is_overtaken_may_be_seen_before_it_is_undone() {
    plainly(vec![
        Operate(crate::program::Operation::EndAll(0)),
        SendAndLoad(0, Own, steps([Insert(0)]), Ok),
        Go(1, GoOn),
        GoOnFor(0, 4),
        Send(0, Stolen(0), steps([Login(0, Plain)]), Ok),
        Operate(IsAlive(0)),
        GoOnFor(0, 3),
        GoOnFor(1, 2),
    ]);
}

#[test]
fn changes_are_lost_with_a_session_that_a_late_write_extends_after_the_look_at_it() {
    plainly(vec![
        Send(0, Own, steps([Insert(0)]), Ok),
        Finish(0),
        Pass(NearlyIdle),
        SendAndLoad(0, Stolen(0), steps([Remove(0)]), Ok),
        Send(1, Stolen(0), steps([Insert(0)]), Ok),
        Pass(NearlyIdle),
        GoOnFor(1, 3),
        Finish(0),
        Finish(0),
    ]);
}

#[test]
fn an_id_that_comes_by_the_other_carrier_may_be_removed_though_it_was_just_retired() {
    let rules = Rules {
        carriers: Carriers::CookieAndHeader,
        ..Rules::PLAIN
    };
    let moves = vec![
        Send(0, Own, steps([Insert(0)]), Ok),
        Finish(0),
        Send(0, Stolen(0), steps([RenewId]), Ok),
        Finish(0),
        Send(2, Own, steps([Insert(0)]), Ok),
        Finish(0),
        Send(0, Beside(2), steps([Destroy]), Ok),
        Finish(0),
    ];
    assert_holds(Place::Memory, &Program { rules, moves });
}

#[test]
fn of_two_ids_the_one_that_was_retired_between_their_loads_has_not_opened_the_session() {
    let rules = Rules {
        renew_ids: true,
        carriers: Carriers::PlainCookie,
        ..Rules::PLAIN
    };
    let moves = vec![
        Send(0, Own, steps([Insert(0)]), Ok),
        Finish(0),
        Pass(NearlyIdle),
        Send(0, Stolen(0), steps([]), Ok),
        Finish(0),
        Send(0, Two(0, 1), steps([Clear]), Ok),
        Go(0, GoOn),
        Go(0, GoOn),
        Send(1, Stolen(1), steps([RenewId]), Ok),
        Finish(1),
        Finish(0),
    ];
    assert_holds(Place::Memory, &Program { rules, moves });
}

#[test]
fn a_session_that_a_late_write_makes_pending_may_count_by_the_list_from_before() {
    let rules = Rules {
        limit: Limit::RefuseLogin(1),
        ..Rules::PLAIN
    };
    let moves = vec![
        Send(0, Own, steps([Login(1, Plain)]), Ok),
        Finish(0),
        Deliver(0),
        Pass(NearlyIdle),
        SendAndLoad(0, Own, steps([Login(1, SecondFactorPending)]), Ok),
        Pass(Minutes),
        Send(1, Own, steps([Login(1, Plain)]), Ok),
        Go(1, GoOn),
        Finish(0),
        Finish(0),
    ];
    assert_holds(Place::Memory, &Program { rules, moves });
}
