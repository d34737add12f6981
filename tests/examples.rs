//! The examples do what they say, as programs, over HTTP.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;

use http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE, VARY};
use http::{Request, Response, StatusCode};
use tempfile::TempDir;

#[path = "support/example.rs"]
mod example;
#[path = "support/example_client.rs"]
mod example_client;

use example::{Example, Running, assert_ends_with, command, quickstart};
use example_client::{Client, assert_leads_to, exchange, header};

const COOKIE_NAME: &str = "__Host-Http-id";
const ALICE: &str = "name=alice&password=looking-glass";
const BOB: &str = "name=bob&password=bricks-and-mortar";

/// The quickstart, the folder of its database, and a browser.
fn quickstart_and_client() -> (Example, TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let example = Example::start(quickstart(&folder.path().join("sessions.db")));
    let client = Client::new(example.port);
    (example, folder, client)
}

fn log_in(client: &mut Client, credentials: &str) {
    assert_leads_to(&client.post("/login", credentials), "/login/done");
}

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
fn the_quickstart_says_where_it_is_and_who_can_log_in() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("sessions.db");
    let mut command = quickstart(&database);
    command.env("PORT", "0").stdout(Stdio::piped());
    let mut process = Running(command.spawn().unwrap());
    let output = BufReader::new(process.0.stdout.take().unwrap());
    let lines: Vec<_> = output.lines().take(4).map(Result::unwrap).collect();
    assert_eq!(
        lines[..3],
        [
            format!("sessions are kept in {}", database.display()),
            "log in as alice with the password looking-glass".into(),
            "log in as bob with the password bricks-and-mortar".into(),
        ]
    );
    let port = lines[3].strip_prefix("listening on http://localhost:");
    let mut client = Client::new(port.unwrap().parse().unwrap());
    log_in(&mut client, ALICE);
    log_in(&mut client, BOB);
}

#[test]
fn a_port_that_the_quickstart_cannot_have_is_a_sentence_on_how_to_choose_another() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("localhost:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    for (port, sentence) in [
        ("abc", "PORT is \"abc\", and has to be a number"),
        ("65536", "PORT is \"65536\", and has to be a number"),
        ("", "PORT is \"\", and has to be a number"),
        (&taken, &format!("port {taken} is in use")),
    ] {
        let mut command = quickstart(&folder.path().join("sessions.db"));
        assert_ends_with(command.env("PORT", port), sentence);
    }
}

#[test]
fn the_quickstart_gives_a_visitor_no_cookie() {
    let (_example, _folder, mut client) = quickstart_and_client();
    let home = client.get("/");
    assert_eq!(home.status(), StatusCode::OK);
    assert!(home.body().contains("You are not logged in"));
    assert_leads_to(&client.get("/account"), "/login");
    let form = client.get("/login");
    assert_eq!(form.status(), StatusCode::OK);
    // It does not ask for the session, and so does not depend on the cookie.
    assert_eq!(header(&form, VARY), None);
    assert_eq!(client.cookie(), None);
}

#[test]
fn the_quickstart_answers_a_wrong_password_and_an_unknown_name_alike() {
    let (_example, _folder, mut client) = quickstart_and_client();
    let mut answer = |credentials| {
        let mut response = client.post("/login", credentials);
        response.headers_mut().remove("date");
        assert_eq!(client.cookie(), None, "{credentials}");
        (
            response.status(),
            response.headers().clone(),
            response.into_body(),
        )
    };
    let wrong_password = answer("name=alice&password=tweedledee");
    assert_eq!(wrong_password.0, StatusCode::FORBIDDEN);
    assert!(
        wrong_password
            .2
            .contains("The name or the password is wrong.")
    );
    for credentials in [
        "name=mallory&password=tweedledee",
        "name=mallory&password=looking-glass",
        // What the hash that stands in for an unknown user's was made of.
        "name=mallory&password=",
        "name=&password=",
        "name=bob&password=looking-glass",
    ] {
        assert_eq!(answer(credentials), wrong_password, "{credentials}");
    }
}

#[test]
fn in_the_quickstart_a_login_lasts_over_a_restart_and_until_the_logout() {
    let (mut example, _folder, mut client) = quickstart_and_client();

    let response = client.post("/login", ALICE);
    assert_leads_to(&response, "/login/done");
    assert_eq!(header(&response, CACHE_CONTROL), Some("no-store"));
    let (name, value) = client.cookie().unwrap();
    assert_eq!(
        header(&response, SET_COOKIE).unwrap(),
        format!("{name}={value}; HttpOnly; SameSite=Lax; Secure; Path=/")
    );
    assert_eq!(name, COOKIE_NAME);
    assert_leads_to(&client.get("/login/done"), "/account");

    let account = client.get("/account");
    assert_eq!(account.status(), StatusCode::OK);
    assert_eq!(header(&account, CACHE_CONTROL), Some("no-store"));
    assert_eq!(header(&account, VARY), Some("Cookie"));
    assert_shows(
        &account,
        &["Welcome, alice!", "<strong>alice</strong>", "<strong>1<"],
    );
    let home = client.get("/");
    assert_shows(&home, &["<strong>alice</strong>"]);
    assert_eq!(header(&home, CACHE_CONTROL), Some("no-store"));

    example.restart();

    let account = client.get("/account");
    assert_shows(&account, &["<strong>alice</strong>", "<strong>2<"]);
    assert!(
        !account.body().contains("Welcome"),
        "the message is for one page"
    );

    let mut copy_of_the_cookie = client.clone();
    let response = client.post("/logout", "");
    assert_leads_to(&response, "/");
    assert_eq!(
        header(&response, SET_COOKIE).unwrap(),
        "__Host-Http-id=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0; \
         Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    );
    assert_eq!(header(&response, CACHE_CONTROL), Some("no-store"));
    assert_eq!(client.cookie(), None);
    assert_leads_to(&client.get("/account"), "/login");
    assert_leads_to(&copy_of_the_cookie.get("/account"), "/login");
    example.restart();
    assert_leads_to(&copy_of_the_cookie.get("/account"), "/login");
}

#[test]
fn in_the_quickstart_a_login_renews_the_id() {
    let (_example, _folder, mut client) = quickstart_and_client();
    log_in(&mut client, ALICE);
    let mut before = client.clone();
    assert_eq!(before.get("/account").status(), StatusCode::OK);

    log_in(&mut client, ALICE);
    assert_ne!(client.cookie(), before.cookie());
    assert_leads_to(&before.get("/account"), "/login");
    // The same session: the views go on.
    assert_shows(&client.get("/account"), &["<strong>2<"]);

    let mut of_alice = client.clone();
    log_in(&mut client, BOB);
    assert_ne!(client.cookie(), of_alice.cookie());
    assert_leads_to(&of_alice.get("/account"), "/login");
    // Another user, and so nothing of the session of before.
    assert_shows(
        &client.get("/account"),
        &["<strong>bob</strong>", "<strong>1<"],
    );
}

#[test]
fn the_quickstart_tells_a_browser_that_did_not_keep_the_cookie() {
    let (example, _folder, mut client) = quickstart_and_client();
    log_in(&mut client, ALICE);
    let mut without_cookie = Client::new(example.port);
    let page = without_cookie.get("/login/done");
    assert_eq!(page.status(), StatusCode::OK);
    assert_shows(&page, &["did not keep the cookie", "Safari", "HTTPS"]);
    assert_eq!(without_cookie.cookie(), None);
}

#[test]
fn the_quickstart_refuses_forms_of_other_sites() {
    let (example, _folder, mut client) = quickstart_and_client();
    log_in(&mut client, ALICE);
    let (name, value) = client.cookie().unwrap();
    for (header, origin) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://elsewhere.example"),
    ] {
        let request = Request::post("/logout")
            .header(COOKIE, format!("{name}={value}"))
            .header(header, origin);
        let response = exchange(example.port, &request.body(String::new()).unwrap());
        assert_eq!(
            response.status(),
            StatusCode::FORBIDDEN,
            "{header}: {origin}"
        );
    }
    assert_eq!(client.get("/account").status(), StatusCode::OK);
}

#[track_caller]
fn assert_shows(page: &Response<String>, texts: &[&str]) {
    for text in texts {
        assert!(
            page.body().contains(text),
            "{text:?} is not in {}",
            page.body()
        );
    }
}
