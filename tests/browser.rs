//! The example `accounts` in real browsers, at `http://localhost`, by the defaults.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

#[path = "support/accounts.rs"]
mod accounts;
#[path = "support/browser.rs"]
mod browser;
#[path = "support/example.rs"]
mod example;
#[path = "support/example_client.rs"]
#[allow(dead_code)]
mod example_client;

use accounts::{MINUTE, Served};
use browser::{Browser, Programs, Setting};
use example::Example;

const EMAIL: &str = "alice@example.org";
const PASSWORD: &str = "correct horse battery";
const NEW_PASSWORD: &str = "staple battery horse";

const SCRIPTS: Setting = Setting::PLAIN;
const NO_SCRIPTS: Setting = Setting {
    without_scripts: true,
    ..Setting::PLAIN
};
const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 \
                     (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1";

/// How a login leaves the cookie.
#[derive(Clone, Copy)]
enum Remembered {
    Yes,
    No,
}

#[test]
fn two_browsers_are_logged_in_and_see_each_other_and_end_each_other() {
    two_browsers(SCRIPTS);
}

#[test]
fn without_scripts_two_browsers_see_each_other_and_end_each_other() {
    let Some(programs) = Programs::find() else {
        return;
    };
    assert_runs_no_scripts(&programs);
    two_browsers(NO_SCRIPTS);
}

fn two_browsers(setting: Setting) {
    let Some(programs) = Programs::find() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut app = Example::start(example::accounts(&folder.path().join("accounts.db")));
    let home = format!("http://localhost:{}", app.port);
    let computer = Browser::start(&programs, setting);
    let phone = Browser::start(
        &programs,
        Setting {
            user_agent: Some(PHONE),
            ..setting
        },
    );

    computer.open(&home);
    computer.assert_shows("You are not logged in");
    sign_up(&computer);
    assert_eq!(computer.cookies().len(), 1, "for the message");
    log_in(&computer, "wrong", Remembered::No);
    computer.assert_shows("The e-mail address or the password is wrong.");
    log_in(&computer, PASSWORD, Remembered::No);
    computer.assert_shows("You are logged in as alice@example.org.");
    assert_cookie_is_strict(&computer, Remembered::No);

    computer.click("a[href='/places']");
    computer.assert_shows("You are logged in nowhere else.");
    phone.open(&format!("{home}/login"));
    log_in(&phone, PASSWORD, Remembered::Yes);
    phone.assert_shows("You are logged in as");
    assert_cookie_is_strict(&phone, Remembered::Yes);

    // Both are listed, with their labels, and each knows itself.
    computer.reload();
    assert_eq!(
        places(&computer),
        [("Chrome on Linux", true), ("Safari on iPhone", false)].map(named)
    );
    phone.open(&format!("{home}/places"));
    assert_eq!(
        places(&phone),
        [("Safari on iPhone", true), ("Chrome on Linux", false)].map(named)
    );

    app.restart();
    computer.reload();
    computer.assert_shows("Safari on iPhone");
    phone.reload();
    phone.assert_shows("Chrome on Linux");

    // One ends the other, which notices at its next click, and comes back to where it was.
    computer.click("form[action='/places/end'] button");
    computer.assert_shows("You are logged out there.");
    computer.assert_shows("You are logged in nowhere else.");
    phone.click("a[href='/password']");
    phone.assert_shows("Log in to go on.");
    log_in(&phone, PASSWORD, Remembered::Yes);
    phone.assert_shows("Change the password");

    // All others.
    phone.open(&format!("{home}/places"));
    phone.click("form[action='/places/end-others'] button");
    phone.assert_shows("You are logged out in one other place.");
    assert_cookie_is_strict(&phone, Remembered::Yes);
    computer.reload();
    computer.assert_shows("Log in to go on.");
    // For a second, no login counts as one that began after the ending: clocks of nodes differ.
    std::thread::sleep(std::time::Duration::from_secs(1));
    log_in(&computer, PASSWORD, Remembered::No);
    computer.assert_shows("Where you are logged in");

    // A changed password ends the others.
    computer.click("a[href='/password']");
    computer.type_into("#current", PASSWORD);
    computer.type_into("#new", NEW_PASSWORD);
    computer.click("main form button");
    computer.assert_shows("Your password is changed. You are logged out in one other place.");
    phone.reload();
    log_in(&phone, PASSWORD, Remembered::No);
    phone.assert_shows("The e-mail address or the password is wrong.");

    // The logout leaves nothing, not even in the browser's cache. (Only the very page to which a response with
    // a new id led is shown again by Chromium 156, although it says `no-store`.)
    computer.click("a[href='/password']");
    computer.assert_shows("Current password");
    computer.click("form[action='/logout'] button");
    computer.assert_shows("You are not logged in");
    assert_eq!(computer.cookies(), [Value::Null; 0]);
    computer.go_back();
    computer.assert_shows("Log in to go on.");

    computer.open(&format!("{home}/login/done"));
    computer.assert_shows("Your browser did not keep the cookie");
}

#[test]
fn a_session_expires_and_the_way_back_leads_to_where_one_was() {
    expired_and_fresh(SCRIPTS);
}

#[test]
fn without_scripts_a_session_expires_and_the_way_back_leads_to_where_one_was() {
    expired_and_fresh(NO_SCRIPTS);
}

/// Here the server is in this process, where time passes when told.
fn expired_and_fresh(setting: Setting) {
    let Some(programs) = Programs::find() else {
        return;
    };
    let app = Served::start();
    let browser = Browser::start(&programs, setting);
    browser.open(&format!("http://localhost:{}", app.port));
    sign_up(&browser);
    log_in(&browser, PASSWORD, Remembered::No);
    browser.assert_shows("You are logged in as");

    app.clock.advance(MINUTE * 60);
    browser.click("a[href='/places']");
    browser.assert_shows("Log in to go on.");
    log_in(&browser, "wrong", Remembered::No);
    browser.assert_shows("The e-mail address or the password is wrong.");
    log_in(&browser, PASSWORD, Remembered::No);
    browser.assert_shows("Where you are logged in");

    // The sensitive action, of which the page was open for too long.
    browser.click("a[href='/']");
    browser.click("a[href='/delete']");
    browser.assert_shows("will be gone for good");
    app.clock.advance(MINUTE * 10);
    browser.click("main form button");
    browser.assert_shows("To go on, prove that it is you.");
    browser.type_into("#password", PASSWORD);
    browser.click("main form button");
    browser.assert_shows("will be gone for good");
    browser.click("main form button");
    browser.assert_shows("Your account is deleted.");
    browser.click("a[href='/login']");
    log_in(&browser, PASSWORD, Remembered::No);
    browser.assert_shows("The e-mail address or the password is wrong.");
}

fn sign_up(browser: &Browser) {
    browser.click("a[href='/signup']");
    browser.assert_shows("At least 15 characters");
    browser.type_into("#email", EMAIL);
    browser.type_into("#password", PASSWORD);
    browser.click("main form button");
    browser.assert_shows("If this address is new here, your account is ready");
}

fn log_in(browser: &Browser, password: &str, remembered: Remembered) {
    browser.assert_shows("Remember me");
    browser.clear("#email");
    browser.type_into("#email", EMAIL);
    browser.type_into("#password", password);
    if let Remembered::Yes = remembered {
        browser.click("[name=remember_me]");
    }
    browser.click("main form button");
}

/// The label of each place in the list, and whether it is marked as this browser.
fn places(browser: &Browser) -> Vec<(String, bool)> {
    browser.assert_shows("Where you are logged in");
    let script = "return Array.from(document.querySelectorAll('li h2'), h2 => \
                  [h2.firstChild.textContent, h2.querySelector('.badge') !== null])";
    serde_json::from_value(browser.run(script)).unwrap()
}

fn named((label, is_current): (&str, bool)) -> (String, bool) {
    (label.into(), is_current)
}

/// The browser keeps the cookie of this host alone, and no script can read it.
fn assert_cookie_is_strict(browser: &Browser, remembered: Remembered) {
    let mut cookies = browser.cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let mut cookie = cookies.remove(0);
    let value = cookie["value"].take();
    assert_eq!(value.as_str().unwrap().len(), 48);
    // Without an expiry, it ends with the browser.
    let expiry = cookie.as_object_mut().unwrap().remove("expiry");
    assert_eq!(expiry.is_some(), matches!(remembered, Remembered::Yes));
    assert_eq!(
        cookie,
        json!({
            "name": "__Host-Http-id",
            "value": null,
            // With a dot in front, it would be of the subdomains, too.
            "domain": "localhost",
            "path": "/",
            "httpOnly": true,
            "secure": true,
            "sameSite": "Lax",
        })
    );
    assert_eq!(browser.run("return document.cookie"), "");
}

/// Checks that the setting does what it says: else the tests without scripts would show nothing.
fn assert_runs_no_scripts(programs: &Programs) {
    const PAGE: &str =
        "data:text/html,<p>plain</p><script>document.body.textContent = 'scripted'</script>";
    for (setting, shows) in [(SCRIPTS, "scripted"), (NO_SCRIPTS, "plain")] {
        let browser = Browser::start(programs, setting);
        browser.open(PAGE);
        browser.assert_shows(shows);
    }
}
