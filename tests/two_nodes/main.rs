//! Two processes of an app share the sessions of one store: what happens on one holds on the other from its
//! next request on.
//!
//! Each node is this test again, in a process of its own that serves HTTP.
#![cfg(all(
    feature = "axum",
    feature = "file",
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::thread;

use http::StatusCode;
use http::header::SET_COOKIE;

#[path = "../support/child.rs"]
mod child;
#[allow(dead_code)]
#[path = "../support/example_client.rs"]
mod example_client;
mod node;
mod places;
#[path = "../support/servers.rs"]
mod servers;
#[path = "../support/sql.rs"]
mod sql;

use example_client::{Client, header};
use node::Node;
use places::Place;

/// One test for a kind of place: that of the nodes, or a node.
macro_rules! two_nodes {
    ($($test:ident: $place:ident),+ $(,)?) => {
        $(#[test]
        fn $test() {
            match child::folder() {
                Some(_) => node::serve(places::$place::open),
                None => places::$place::new().into_iter().for_each(|place| run(stringify!($test), &place)),
            }
        })+
    };
}

two_nodes! {
    on_postgresql: postgres,
    on_mariadb: mariadb,
    on_redis: redis,
    on_a_redis_cluster: redis_cluster,
    on_sqlite: sqlite,
    on_files: files,
}

fn run(test: &str, place: &Place) {
    let nodes = [Node::start(test, place), Node::start(test, place)];
    let [one, two] = [nodes[0].port, nodes[1].port];
    a_login_on_one_is_seen_on_the_other(one, two);
    a_logout_on_one_ends_the_session_on_the_other(one, two);
    a_request_under_way_on_one_does_not_undo_a_logout_on_the_other(one, two);
    increments_over_both_add_up(one, two);
    if Client::new(one).get("/lists-users").body() == "true" {
        an_ending_of_all_on_one_ends_the_sessions_on_the_other(one, two);
        a_login_under_way_on_one_does_not_survive_an_ending_of_all_on_the_other(one, two);
        a_limit_holds_over_both(one, two);
    }
    let mut client = Client::new(one);
    client.post("/login", "name=alice");
    let [first, _second] = nodes;
    drop(first);
    assert_is(&mut client.at(two), "alice, 0");
}

fn a_login_on_one_is_seen_on_the_other(one: u16, two: u16) {
    for (here, there) in [(one, two), (two, one)] {
        let mut client = Client::new(here);
        client.post("/add", "");
        let mut before = client.at(there);
        assert_is(&mut before, "nobody, 1");

        client.post("/login", "name=alice");
        assert_is(&mut client.at(there), "alice, 1");
        // The id of before the login is dead there, too.
        assert_is(&mut before, "no session");
        let mut other_browser = Client::new(there);
        assert_is(&mut other_browser, "no session");
    }
}

fn a_logout_on_one_ends_the_session_on_the_other(one: u16, two: u16) {
    for (here, there) in [(one, two), (two, one)] {
        let mut client = Client::new(here);
        client.post("/login", "name=alice");
        let mut copy = client.at(there);
        copy.post("/add", "");
        assert_is(&mut client, "alice, 1");

        let response = client.post("/logout", "");
        assert_eq!(response.status(), StatusCode::OK);
        assert_is(&mut copy, "no session");
        // What it writes then is in a session of its own.
        let dead = copy.clone();
        copy.post("/add", "");
        assert_is(&mut copy, "nobody, 1");
        assert_ne!(copy.cookie(), dead.cookie());
        for port in [here, there] {
            assert_is(&mut dead.at(port), "no session");
        }
    }
}

fn a_request_under_way_on_one_does_not_undo_a_logout_on_the_other(one: u16, two: u16) {
    let mut client = Client::new(one);
    client.post("/login", "name=alice");
    let mut copy = client.at(two);
    let response = thread::scope(|scope| {
        let under_way = scope.spawn(|| copy.post("/add-when-told", ""));
        // Answered once that one has loaded its session.
        Client::new(two).post("/wait-for-it", "");
        assert_eq!(client.post("/logout", "").status(), StatusCode::OK);
        Client::new(two).post("/tell-it", "");
        under_way.join().unwrap()
    });
    assert_eq!(header(&response, SET_COOKIE), None);
    for port in [one, two] {
        assert_is(&mut copy.at(port), "no session");
    }
}

fn increments_over_both_add_up(one: u16, two: u16) {
    const BROWSERS: u64 = 4;
    const INCREMENTS: u64 = 25;
    let mut client = Client::new(one);
    client.post("/login", "name=alice");
    thread::scope(|scope| {
        for port in [one, two] {
            for _ in 0..BROWSERS {
                let mut copy = client.at(port);
                scope.spawn(move || {
                    for _ in 0..INCREMENTS {
                        assert_eq!(copy.post("/add", "").status(), StatusCode::OK);
                    }
                });
            }
        }
    });
    let sum = format!("alice, {}", 2 * BROWSERS * INCREMENTS);
    for port in [one, two] {
        assert_is(&mut client.at(port), &sum);
    }
}

fn an_ending_of_all_on_one_ends_the_sessions_on_the_other(one: u16, two: u16) {
    let [mut laptop, mut phone, mut other] = [one, two, two].map(Client::new);
    for (client, form) in [
        (&mut laptop, "name=bob"),
        (&mut phone, "name=bob"),
        (&mut other, "name=carol"),
    ] {
        assert_eq!(client.post("/login", form).status(), StatusCode::OK);
    }
    assert_eq!(laptop.post("/end-all", "").body(), "2");
    assert_is(&mut laptop, "no session");
    for port in [one, two] {
        assert_is(&mut phone.at(port), "no session");
        assert_is(&mut other.at(port), "carol, 0");
    }
}

/// As that of somebody who knew the old password.
fn a_login_under_way_on_one_does_not_survive_an_ending_of_all_on_the_other(one: u16, two: u16) {
    let mut owner = Client::new(two);
    owner.post("/login", "name=dave");
    let mut intruder = Client::new(one);
    let response = thread::scope(|scope| {
        let under_way = scope.spawn(|| intruder.post("/login-when-told", "name=dave"));
        Client::new(one).post("/wait-for-it", "");
        assert_eq!(owner.post("/end-all", "").body(), "1");
        Client::new(one).post("/tell-it", "");
        under_way.join().unwrap()
    });
    assert_ne!(response.status(), StatusCode::OK);
    assert_is(&mut intruder, "no session");
}

fn a_limit_holds_over_both(one: u16, two: u16) {
    let mut clients: Vec<_> = (0..12)
        .map(|number| Client::new([one, two][number % 2]))
        .collect();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| client.post("/login", "name=erin"));
        }
    });
    let is_logged_in = |client: &mut Client| client.get("/").body() == "erin, 0";
    let logged_in = clients
        .iter_mut()
        .filter_map(|client| is_logged_in(client).then_some(()));
    assert_eq!(logged_in.count(), node::LIMIT);
}

/// Checks what a browser is shown of its session: whose it is, and the count.
#[track_caller]
fn assert_is(client: &mut Client, expected: &str) {
    let response = client.get("/");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.body(), expected);
}
