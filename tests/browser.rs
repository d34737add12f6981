//! A real browser takes the session's cookie by the defaults, at `http://localhost`.
#![allow(clippy::unwrap_used)]

use serde_json::json;

#[path = "support/browser.rs"]
mod browser;
#[path = "support/example.rs"]
mod example;
#[path = "support/example_client.rs"]
#[allow(dead_code)]
mod example_client;

use browser::{Browser, Programs};
use example::{Example, quickstart};

#[test]
fn a_browser_is_logged_in_from_the_login_over_a_restart_until_the_logout() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut app = Example::start(quickstart(&folder.path().join("sessions.db")));
    let browser = Browser::start(&programs);
    let home = format!("http://localhost:{}/", app.port);

    browser.open(&home);
    browser.assert_shows("You are not logged in");
    assert_eq!(browser.cookies(), Vec::<serde_json::Value>::new());

    browser.click("main a");
    browser.assert_shows("Password");
    log_in(&browser, "looking-glass, almost");
    browser.assert_shows("The name or the password is wrong.");
    log_in(&browser, "looking-glass");
    browser.assert_shows("Welcome, alice!");
    browser.assert_shows("Views in this session: 1");
    assert_cookie_is_strict(&browser);

    browser.reload();
    browser.assert_shows("Views in this session: 2");

    app.restart();
    browser.reload();
    browser.assert_shows("Views in this session: 3");
    assert_cookie_is_strict(&browser);

    browser.click("form[action='/logout'] button");
    browser.assert_shows("You are not logged in");
    assert_eq!(browser.cookies(), Vec::<serde_json::Value>::new());

    // The account is not shown from a cache, either.
    browser.go_back();
    browser.assert_shows("/login");
    browser.assert_shows("Password");

    browser.open(&format!("{home}login/done"));
    browser.assert_shows("Your browser did not keep the cookie");
}

fn log_in(browser: &Browser, password: &str) {
    browser.type_into("#name", "alice");
    browser.type_into("#password", password);
    browser.click("form button");
}

/// The browser keeps the cookie of this host alone, and no script can read it.
fn assert_cookie_is_strict(browser: &Browser) {
    let mut cookies = browser.cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let value = cookies[0]["value"].take();
    assert_eq!(value.as_str().unwrap().len(), 48);
    assert_eq!(
        cookies[0],
        json!({
            "name": "__Host-Http-id",
            "value": null,
            // With a dot in front, it would be of the subdomains, too.
            "domain": "localhost",
            "path": "/",
            "httpOnly": true,
            "secure": true,
            "sameSite": "Lax",
            // No expiry: it ends with the browser.
        })
    );
    assert_eq!(browser.run("return document.cookie"), "");
}
