//! The examples do what they say, as programs, over HTTP.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;

use http::{Request, StatusCode};

#[path = "support/example.rs"]
mod example;
#[path = "support/example_client.rs"]
#[allow(dead_code)]
mod example_client;

use example::{Example, Running, accounts, assert_ends_with, command};
use example_client::Client;

const COOKIE_NAME: &str = "__Host-Http-id";

fn assert_counts_visits(name: &str) {
    let example = Example::start(command(name));
    let mut client = Client::new(example.port);
    assert_eq!(client.get("/").body(), "visit 1", "{name}");
    assert_eq!(client.get("/").body(), "visit 2", "{name}");
    let mut another = Client::new(example.port);
    assert_eq!(another.get("/").body(), "visit 1", "{name}");
    assert_eq!(client.get("/").body(), "visit 3", "{name}");
    assert_eq!(client.cookie().unwrap().0, COOKIE_NAME);
}

#[test]
fn the_counter_counts_visits() {
    assert_counts_visits("counter");
}

#[test]
fn the_counter_says_where_it_is() {
    let port = example::free_port().to_string();
    let mut command = command("counter");
    command.env("PORT", &port).stdout(Stdio::piped());
    let mut process = Running(command.spawn().unwrap());
    let mut output = BufReader::new(process.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, format!("listening on http://localhost:{port}\n"));
}

#[test]
fn no_two_tests_get_the_same_port() {
    let ports: BTreeSet<_> = (0..2_000).map(|_| example::free_port()).collect();
    assert_eq!(ports.len(), 2_000);
}

#[test]
fn the_custom_store_keeps_sessions() {
    assert_counts_visits("custom_store");
}

#[test]
fn tower_alone_has_sessions() {
    assert_counts_visits("tower_only");
}

#[test]
fn the_typed_cart_fills_up() {
    let example = Example::start(command("typed"));
    let mut client = Client::new(example.port);
    assert_eq!(client.get("/cart").body(), r#"{"pieces":{}}"#);
    assert_eq!(client.cookie(), None);
    assert_eq!(
        client.post("/cart/apple", "").body(),
        r#"{"pieces":{"apple":1}}"#
    );
    let with_pear = r#"{"pieces":{"apple":1,"pear":1}}"#;
    assert_eq!(client.post("/cart/pear", "").body(), with_pear);
    assert_eq!(
        client.post("/cart/plum", "").status(),
        StatusCode::BAD_REQUEST
    );
    assert_eq!(client.get("/cart").body(), with_pear);
    let empty = Request::delete("/cart").body(String::new()).unwrap();
    assert_eq!(client.send(empty).status(), StatusCode::OK);
    assert_eq!(client.get("/cart").body(), r#"{"pieces":{}}"#);
}

#[test]
fn overlapping_requests_each_put_their_piece_into_the_typed_cart() {
    const PER_BROWSER: u32 = 25;
    let example = Example::start(command("typed"));
    let mut client = Client::new(example.port);
    client.post("/cart/pear", "");
    thread::scope(|scope| {
        for _ in 0..8 {
            let mut client = client.clone();
            scope.spawn(move || {
                for _ in 0..PER_BROWSER {
                    let response = client.post("/cart/apple", "");
                    assert_eq!(response.status(), StatusCode::OK);
                }
            });
        }
    });
    assert_eq!(
        client.get("/cart").body(),
        r#"{"pieces":{"apple":200,"pear":1}}"#
    );
}

#[test]
fn a_port_that_an_example_cannot_have_is_a_sentence_on_how_to_choose_another() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("localhost:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    for (port, sentence) in [
        ("abc", "PORT is \"abc\", and has to be a number"),
        ("65536", "PORT is \"65536\", and has to be a number"),
        ("", "PORT is \"\", and has to be a number"),
        (&taken, &format!("port {taken} is in use")),
    ] {
        let mut command = accounts(&folder.path().join("accounts.db"));
        assert_ends_with(command.env("PORT", port), sentence);
    }
}
