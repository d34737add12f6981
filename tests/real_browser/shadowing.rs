//! A sibling subdomain plants cookies for the whole domain, which come to the app beside or instead of its own.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Html;
use serde_json::json;

use crate::browser::{Browser, Programs};
use crate::configurations::{FOR_DEVELOPMENT, OF_A_PATH, STRICTEST};
use crate::jar;
use crate::server::{HTTP_1, HTTP_2, Server};
use crate::shop::cookie_of;

const SIBLING: &str = "evil.shop.test";

/// A sibling subdomain, whose pages set these cookies.
#[derive(Clone, Default)]
struct Sibling(Arc<Mutex<Vec<Vec<u8>>>>);

impl Sibling {
    fn site(&self) -> (&'static str, Router) {
        let lines = self.0.clone();
        let page = async move || {
            let lines = lines.lock().unwrap().clone();
            let lines = lines.into_iter().map(|line| {
                let line = HeaderValue::try_from(line).unwrap();
                (SET_COOKIE, line)
            });
            let headers: HeaderMap = lines.collect();
            (headers, Html("<title>evil</title><body>evil</body>"))
        };
        (SIBLING, Router::new().fallback(page))
    }

    fn plant(&self, browser: &Browser, way: Way, lines: &[Vec<u8>]) {
        let in_headers = if way == Way::Script { &[] } else { lines };
        *self.0.lock().unwrap() = in_headers.to_vec();
        let scheme = if way == Way::Http { "http" } else { "https" };
        browser.open(&format!("{scheme}://{SIBLING}/"));
        let protocol = browser.run("return location.protocol");
        assert_eq!(protocol, format!("{scheme}:"));
        if way == Way::Script {
            let lines: Vec<_> = lines
                .iter()
                .map(|line| str::from_utf8(line).unwrap())
                .collect();
            let script = format!(
                "for (const line of {}) document.cookie = line",
                json!(lines)
            );
            browser.run(&script);
        }
    }
}

/// What the browser refuses from a sibling, or from a script of it.
const REFUSED: [&str; 19] = [
    // A prefix vouches that the host itself set it, in whatever case.
    "__Host-Http-id=ID; Domain=shop.test; Path=/; Secure; HttpOnly",
    "__Host-Http-id=ID; Domain=shop.test; Path=/; Secure",
    "__Host-Http-id=ID; Domain=shop.test; Path=/who; Secure; HttpOnly",
    "__Host-Http-id=ID; Domain=shop.test",
    "__Host-id=ID; Domain=shop.test; Path=/; Secure; HttpOnly",
    "__HOST-http-id=ID; Domain=shop.test; Path=/; Secure; HttpOnly",
    "__host-http-id=ID; Domain=shop.test",
    "__Host-Http-id; Domain=shop.test",
    // What it trims.
    "__Host-Http-id =ID; Domain=shop.test",
    "\t__Host-Http-id=ID; Domain=shop.test",
    "__Host-Http-id\t=ID; Domain=shop.test",
    // What follows our name.
    "__Host-Http-id\u{2000}=ID; Domain=shop.test",
    "__Host-Http-id\u{A0}=ID; Domain=shop.test",
    // What would look like ours without its empty name.
    "=__Host-Http-id=ID; Domain=shop.test",
    "==__Host-Http-id=ID; Domain=shop.test",
    "= __Host-Http-id=ID; Domain=shop.test",
    "=\u{2000}__Host-Http-id=ID; Domain=shop.test",
    // Not the sibling's own host, nor a parent of it.
    "id=ID; Domain=app.shop.test",
    "id=ID; Domain=test",
];

/// What it takes for another cookie, and sends to the app, in this order.
const SENT: [&str; 18] = [
    "$Version=1; Domain=shop.test; Path=/who",
    "q=\"; Domain=shop.test; Path=/who",
    "%5F%5FHost-Http-id=ID; Domain=shop.test",
    "__Host%2DHttp-id=ID; Domain=shop.test",
    "\u{2000}__Host-Http-id=ID; Domain=shop.test",
    "\u{A0}__Host-Http-id=ID; Domain=shop.test",
    "\u{85}__Host-Http-id=ID; Domain=shop.test",
    "\u{FEFF}__Host-Http-id=ID; Domain=shop.test",
    "\u{3000}__Host-Http-id=ID; Domain=shop.test",
    "\u{200B}__Host-Http-id=ID; Domain=shop.test",
    "\"__Host-Http-id\"=ID; Domain=shop.test",
    "r=\"; Domain=shop.test",
    "c=1,__Host-Http-id=ID; Domain=shop.test",
    "d=1 __Host-Http-id=ID; Domain=shop.test",
    "..Host-Http-id=ID; Domain=shop.test",
    // A letter of which the other case is one of ASCII.
    "__Ho\u{17F}t-Http-id=ID; Domain=shop.test",
    "_\u{FF3F}Host-Http-id=ID; Domain=shop.test",
    "id=ID; Domain=shop.test",
];

/// The same, by HTTPS alone, and not from a script.
const SENT_BY_HTTPS: [&str; 2] = [
    "__Http-id=ID; Domain=shop.test; Path=/; Secure; HttpOnly",
    "__Secure-id=ID; Domain=shop.test; Path=/; Secure; HttpOnly",
];

/// The same, of bytes that no script has: spaces of Latin-1.
const SENT_BY_HEADER: [&[u8]; 2] = [
    b"\xA0__Host-Http-id=ID; Domain=shop.test",
    b"\x85__Host-Http-id=ID; Domain=shop.test",
];

/// How a sibling plants its cookies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Https,
    Http,
    Script,
}

#[test]
fn no_lookalike_of_a_sibling_is_taken_for_the_cookie() {
    plant_lookalikes(HTTP_1, &[Way::Https, Way::Http, Way::Script]);
}

#[test]
fn no_lookalike_of_a_sibling_is_taken_for_the_cookie_over_http_2() {
    plant_lookalikes(HTTP_2, &[Way::Https]);
}

fn plant_lookalikes(protocols: &[&str], ways: &[Way]) {
    let Some(programs) = Programs::find() else {
        return;
    };
    let (host, app) = STRICTEST.site();
    let sibling = Sibling::default();
    let server = Server::start(protocols, [(host, app.clone()), sibling.site()]);
    let browser = server.browser(&programs);
    // What opens a session where it is taken for ours.
    let of_mallory = cookie_of(&app, "/login/mallory");
    let (_, id) = of_mallory.split_once('=').unwrap();
    for &way in ways {
        let mut lines = Vec::from(REFUSED.map(str::as_bytes));
        let mut sent = Vec::from(SENT.map(str::as_bytes));
        sent.extend(SENT_BY_HEADER.iter().filter(|_| way != Way::Script));
        sent.extend(
            (SENT_BY_HTTPS.iter().map(|line| line.as_bytes())).filter(|_| way == Way::Https),
        );
        lines.extend(&sent);
        let lines: Vec<_> = lines.iter().map(|line| with_id(line, id)).collect();
        let expected: Vec<_> = sent
            .iter()
            .map(|line| pair_of(&with_id(line, id)))
            .collect();

        jar::clear(&browser);
        sibling.plant(&browser, way, &lines);
        assert_eq!(received(&server, &browser, "nobody"), expected, "{way:?}");

        jar::clear(&browser);
        browser.open(&STRICTEST.url("/login/alice"));
        let own = jar::only(&browser);
        sibling.plant(&browser, way, &lines);
        let mut received = received(&server, &browser, "alice");
        assert!(received.contains(&own.pair()), "{way:?}");
        received.retain(|pair| *pair != own.pair());
        assert_eq!(received, expected, "{way:?}");
        let lines = server.seen(host, "/who").cookies;
        // HTTP/2 has a line for each (RFC 9113 §8.2.3).
        let lines_expected = if protocols == HTTP_2 {
            expected.len() + 1
        } else {
            1
        };
        assert_eq!(lines.len(), lines_expected);
    }
}

/// What the app receives, and whose it finds it to be.
#[track_caller]
fn received(server: &Server, browser: &Browser, whose: &str) -> Vec<String> {
    server.forget();
    browser.open(&STRICTEST.url("/who"));
    browser.assert_shows(&format!("{whose} is here"));
    server.seen(STRICTEST.host, "/who").pairs()
}

fn with_id(line: &[u8], id: &str) -> Vec<u8> {
    let at = line.windows(2).position(|two| two == b"ID");
    match at {
        Some(at) => [&line[..at], id.as_bytes(), &line[at + 2..]].concat(),
        None => line.to_vec(),
    }
}

fn pair_of(line: &[u8]) -> String {
    let pair = line.split(|&byte| byte == b';').next().unwrap();
    pair.escape_ascii().to_string()
}

/// Names that a sibling can set, too: here the server gets both.
#[test]
fn two_cookies_of_a_name_without_a_host_prefix_are_no_takeover() {
    let Some(programs) = Programs::find() else {
        return;
    };
    for configuration in [FOR_DEVELOPMENT, OF_A_PATH] {
        let (host, app) = configuration.site();
        let sibling = Sibling::default();
        let server = Server::start(HTTP_2, [(host, app.clone()), sibling.site()]);
        let browser = server.browser(&programs);
        let name = configuration.name;
        let who = configuration.path_of("/who");
        let planted = |pair: &str, path: &str| {
            format!("{pair}; Domain=shop.test; Path={path}; Secure").into_bytes()
        };
        let of_mallory = cookie_of(&app, &configuration.path_of("/login/mallory"));
        let of_carol = cookie_of(&app, &configuration.path_of("/login/carol"));
        let junk = format!("{name}=junk");
        let unknown = format!("{name}={}", "A".repeat(48));
        browser.open(&configuration.url("/login/alice"));
        let own = jar::only(&browser);
        let received = |whose: &str| {
            server.forget();
            browser.open(&configuration.url("/who"));
            browser.assert_shows(&format!("{whose} is here"));
            server.seen(host, &who).pairs().len()
        };
        for (lines, whose) in [
            // Before the user's own, and after it.
            (vec![planted(&of_mallory, &who)], "nobody"),
            (vec![planted(&of_mallory, "/")], "nobody"),
            (
                vec![planted(&of_mallory, &who), planted(&of_carol, "/")],
                "nobody",
            ),
            (vec![planted(&junk, &who)], "alice"),
            (vec![planted(&junk, "/")], "alice"),
            (vec![planted(&unknown, &who)], "alice"),
            (vec![planted(&junk, &who), planted(&unknown, "/")], "nobody"),
        ] {
            sibling.plant(&browser, Way::Https, &lines);
            assert_eq!(received(whose), lines.len() + 1);
            let gone = lines
                .iter()
                .map(|line| [line, b"; Max-Age=0".as_slice()].concat());
            sibling.plant(&browser, Way::Https, &gone.collect::<Vec<_>>());
            assert_eq!(jar::all(&browser), std::slice::from_ref(&own));
        }
        // What was planted ended no session: without it, the user is there again.
        assert_eq!(received("alice"), 1);
        // Where the user has none, it is what such a name cannot keep out.
        jar::clear(&browser);
        sibling.plant(&browser, Way::Https, &[planted(&of_mallory, "/")]);
        browser.open(&configuration.url("/who"));
        browser.assert_shows("mallory is here");
    }
}

/// A browser keeps so many cookies of a site, siblings included.
#[test]
fn a_flood_of_a_sibling_pushes_the_cookie_out_and_plants_none() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let (host, app) = STRICTEST.site();
    let sibling = Sibling::default();
    let server = Server::start(HTTP_2, [(host, app.clone()), sibling.site()]);
    let browser = server.browser(&programs);
    let flood = |attributes: &str| -> Vec<_> {
        let line = |n| format!("flood{n}=1; Domain=shop.test{attributes}").into_bytes();
        (0..200).map(line).collect()
    };
    browser.open(&STRICTEST.url("/login/alice"));
    let own = jar::only(&browser);
    // Those that are not `Secure` give way first.
    sibling.plant(&browser, Way::Https, &flood(""));
    assert!(jar::all(&browser).contains(&own));
    received(&server, &browser, "alice");

    sibling.plant(&browser, Way::Https, &flood("; Secure"));
    assert!(!jar::all(&browser).contains(&own));
    received(&server, &browser, "nobody");
    let of_mallory = cookie_of(&app, "/login/mallory");
    let lines = REFUSED.map(|line| with_id(line.as_bytes(), of_mallory.split_once('=').unwrap().1));
    sibling.plant(&browser, Way::Https, &lines);
    received(&server, &browser, "nobody");

    browser.open(&STRICTEST.url("/login/alice"));
    received(&server, &browser, "alice");
}

#[test]
fn more_bytes_of_a_sibling_than_the_limit_hide_the_session_and_do_not_end_it() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let sibling = Sibling::default();
    let server = Server::start(HTTP_1, [STRICTEST.site(), sibling.site()]);
    let browser = server.browser(&programs);
    browser.open(&STRICTEST.url("/login/alice"));
    let line = |n, attribute| {
        format!("n{n}={}; Domain=shop.test{attribute}", "x".repeat(4_000)).into_bytes()
    };
    let lines: Vec<_> = (0..17).map(|n| line(n, "")).collect();
    sibling.plant(&browser, Way::Https, &lines);
    assert_eq!(received(&server, &browser, "nobody").len(), 18);
    sibling.plant(&browser, Way::Https, &[line(0, "; Max-Age=0")]);
    assert_eq!(received(&server, &browser, "alice").len(), 17);
}
