//! The examples that keep sessions on a server do what they say, as programs, over HTTP.
#![cfg(all(feature = "postgres", feature = "mysql", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

use http::header::CACHE_CONTROL;
use http::{Response, StatusCode};

#[path = "support/example.rs"]
mod example;
#[path = "support/example_client.rs"]
mod example_client;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/sql.rs"]
mod sql;

use example::{Example, assert_ends_with, command};
use example_client::{Client, assert_leads_to, header};

/// The example, with its table in a schema of the test's own.
fn on_postgres(schema: &str) -> Command {
    let url = servers::url("CLOAKROOM_TEST_POSTGRES_URL").unwrap();
    let separator = if url.contains('?') { '&' } else { '?' };
    let mut command = command("postgres");
    command.env(
        "DATABASE_URL",
        format!("{url}{separator}options=-csearch_path%3D{schema}"),
    );
    command
}

#[test]
fn sessions_in_postgresql_are_shared_by_nodes_and_survive_them() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(place) = runtime.block_on(sql::PostgresPlace::new()) else {
        return;
    };
    // It makes the schema, and a table that the example finds.
    runtime.block_on(place.migrated(1)).pool();
    shared_by_nodes(
        || on_postgres(&place.schema),
        |handle| format!("WHERE handle = '\\x{handle}'"),
    );
}

#[test]
fn sessions_in_redis_are_shared_by_nodes_and_survive_them() {
    on_redis("CLOAKROOM_TEST_REDIS_URL");
}

#[test]
fn sessions_in_a_redis_cluster_are_shared_by_nodes_and_survive_them() {
    on_redis("CLOAKROOM_TEST_REDIS_CLUSTER_URLS");
}

fn on_redis(variable: &str) {
    let Some(urls) = servers::url(variable) else {
        return;
    };
    shared_by_nodes(
        || {
            let mut command = command("redis");
            command.env("REDIS_URL", &urls);
            command
        },
        |handle| format!("GET cloakroom:{handle}"),
    );
}

fn shared_by_nodes(command: impl Fn() -> Command, look: impl Fn(&str) -> String) {
    let mut one = Example::start(command());
    let two = Example::start(command());
    let mut client = Client::new(one.port);
    let page = client.get("/");
    assert_shows(&page, &["nothing about you is stored"]);
    assert_eq!(client.cookie(), None);

    assert_leads_to(&client.post("/add", ""), "/");
    assert_leads_to(&client.post("/login", "name=alice%3C"), "/");
    let handle = client.cookie().unwrap().1.to_owned();
    let handle = handle_in_hexadecimal(&handle);
    let page = client.get("/");
    assert_eq!(header(&page, CACHE_CONTROL), Some("no-store"));
    assert_shows(&page, &["<strong>1<", "<strong>alice&lt;<", &look(&handle)]);

    let mut there = client.at(two.port);
    assert_leads_to(&there.post("/add", ""), "/");
    assert_shows(&there.get("/"), &["<strong>2<", "<strong>alice&lt;<"]);
    one.restart();
    assert_shows(&client.get("/"), &["<strong>2<", "<strong>alice&lt;<"]);

    assert_leads_to(&there.post("/logout", ""), "/");
    assert_shows(&client.get("/"), &["nothing about you is stored"]);
}

/// The first 16 bytes of a session id, as logs and stores show them.
fn handle_in_hexadecimal(id: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = 0_u128;
    // 22 digits are 132 bits.
    for digit in &id.as_bytes()[..21] {
        let value = ALPHABET.iter().position(|known| known == digit).unwrap();
        bits = bits << 6 | value as u128;
    }
    let last = ALPHABET
        .iter()
        .position(|known| *known == id.as_bytes()[21]);
    format!("{:032x}", bits << 2 | last.unwrap() as u128 >> 4)
}

/// As `docker stop` and a service manager do.
#[cfg(unix)]
#[test]
fn told_to_stop_an_example_gives_its_connections_back_and_ends_well() {
    use std::process::Stdio;

    let Some(url) = servers::url("CLOAKROOM_TEST_REDIS_URL") else {
        return;
    };
    let mut command = command("redis");
    command.env("REDIS_URL", url).stdout(Stdio::null());
    let port = example::free_port();
    let mut process = example::listening(&mut command, port).unwrap();
    let told = Command::new("kill")
        .args(["-TERM", &process.0.id().to_string()])
        .status()
        .unwrap();
    assert!(told.success());
    assert!(process.0.wait().unwrap().success());
}

#[test]
fn a_server_that_is_not_named_or_not_there_is_a_sentence() {
    assert_ends_with(
        command("postgres").env_remove("DATABASE_URL"),
        "set DATABASE_URL to the database of the sessions, such as postgres://",
    );
    assert_ends_with(
        command("postgres").env("DATABASE_URL", "postgres://app:hunter2@127.0.0.1:1/app"),
        "cannot connect to PostgreSQL at 127.0.0.1:1 within 5s: is the server running there?",
    );
    assert_ends_with(
        command("redis").env_remove("REDIS_URL"),
        "set REDIS_URL to the server of the sessions, such as redis://",
    );
    for urls in [
        "redis://127.0.0.1:1",
        "redis://127.0.0.1:1,redis://127.0.0.1:2",
    ] {
        assert_ends_with(
            command("redis").env("REDIS_URL", urls),
            "cannot connect to the server of REDIS_URL: ",
        );
    }
}

#[test]
fn a_port_that_is_none_is_a_sentence() {
    if let Some(url) = servers::url("CLOAKROOM_TEST_REDIS_URL") {
        assert_ends_with(
            command("redis").env("REDIS_URL", url).env("PORT", "abc"),
            "PORT is \"abc\", and has to be a number",
        );
    }
}

#[track_caller]
fn assert_shows(page: &Response<String>, texts: &[&str]) {
    assert_eq!(page.status(), StatusCode::OK);
    for text in texts {
        assert!(
            page.body().contains(text),
            "{text:?} is not in {}",
            page.body()
        );
    }
}
