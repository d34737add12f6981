//! The example `accounts` does what it says, as a program, over HTTP.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, COOKIE, SET_COOKIE, USER_AGENT, VARY};
use http::{Request, Response, StatusCode};
use tempfile::TempDir;

#[path = "support/example.rs"]
mod example;
#[path = "support/example_client.rs"]
mod example_client;

use example::{Example, Running, accounts};
use example_client::{Client, assert_leads_to, exchange, header};

const PASSWORD: &str = "correct horse battery";
const ALICE: &str = "email=alice@example.org&password=correct horse battery";
const BOB: &str = "email=bob@example.org&password=correct horse battery";

const LINUX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const PHONE: &str =
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1";

/// The program, and the folder of its database.
fn start() -> (Example, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let example = Example::start(accounts(&folder.path().join("accounts.db")));
    (example, folder)
}

/// A browser that asks for pages.
#[derive(Clone)]
struct Browser {
    client: Client,
    agent: &'static str,
}

impl Browser {
    fn new(example: &Example, agent: &'static str) -> Self {
        let client = Client::new(example.port);
        Self { client, agent }
    }

    /// One that has signed up and logged in.
    fn of(example: &Example, agent: &'static str, credentials: &str) -> Self {
        let mut browser = Self::new(example, agent);
        assert_leads_to(&browser.post("/signup", credentials), "/login");
        browser.log_in(credentials);
        browser
    }

    fn log_in(&mut self, credentials: &str) {
        assert_leads_to(&self.post("/login", credentials), "/login/done");
        assert_leads_to(&self.get("/login/done"), "/");
    }

    fn get(&mut self, path: &str) -> Response<String> {
        self.send(Request::get(path), "")
    }

    fn post(&mut self, path: &str, form: &str) -> Response<String> {
        let form_type = "application/x-www-form-urlencoded";
        self.send(Request::post(path).header(CONTENT_TYPE, form_type), form)
    }

    fn send(&mut self, request: http::request::Builder, body: &str) -> Response<String> {
        let request = request
            .header(ACCEPT, "text/html")
            .header(USER_AGENT, self.agent);
        self.client.send(request.body(body.into()).unwrap())
    }

    #[track_caller]
    fn assert_logged_in(&mut self) {
        assert_eq!(self.get("/places").status(), StatusCode::OK);
    }

    #[track_caller]
    fn assert_logged_out(&mut self) {
        assert_leads_to(&self.get("/places"), "/login?next=/places");
    }
}

#[test]
fn it_says_where_it_is_and_where_it_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("accounts.db");
    let mut command = accounts(&database);
    command.env("PORT", "0").stdout(Stdio::piped());
    let mut process = Running(command.spawn().unwrap());
    let output = BufReader::new(process.0.stdout.take().unwrap());
    let lines: Vec<_> = output.lines().take(2).map(Result::unwrap).collect();
    assert_eq!(
        lines[0],
        format!("users and sessions are kept in {}", database.display())
    );
    let port = lines[1].strip_prefix("listening on http://localhost:");
    let mut client = Client::new(port.unwrap().parse().unwrap());
    assert_eq!(client.get("/").status(), StatusCode::OK);
}

#[test]
fn a_visitor_gets_no_cookie() {
    let (example, _folder) = start();
    let mut browser = Browser::new(&example, LINUX);
    assert_shows(&browser.get("/"), &["You are not logged in"]);
    browser.assert_logged_out();
    for page in ["/login", "/signup"] {
        assert_eq!(browser.get(page).status(), StatusCode::OK);
    }
    // It does not ask for the session, and so does not depend on the cookie.
    assert_eq!(header(&browser.get("/signup"), VARY), None);
    assert_eq!(browser.get("/nowhere").status(), StatusCode::NOT_FOUND);
    assert_eq!(browser.client.cookie(), None);
}

#[test]
fn no_page_is_kept_in_a_cache_or_shown_in_a_frame() {
    let (example, _folder) = start();
    let mut browser = Browser::of(&example, LINUX, ALICE);
    for page in [
        "/",
        "/places",
        "/password",
        "/delete",
        "/login",
        "/signup",
        "/nowhere",
    ] {
        let page = browser.get(page);
        assert_eq!(header(&page, CACHE_CONTROL), Some("no-store"));
        let policy = header(&page, http::header::CONTENT_SECURITY_POLICY).unwrap();
        assert!(policy.contains("frame-ancestors 'none'"));
    }
}

#[test]
fn a_sign_up_answers_alike_whether_or_not_there_is_such_a_user() {
    let (example, _folder) = start();
    let mut alice = Browser::of(&example, LINUX, ALICE);
    let mut answers = [
        "email=alice@example.org&password=a password of mallory's",
        "email=Alice@EXAMPLE.org &password=a password of mallory's",
        "email=nobody@example.org&password=a password of mallory's",
    ]
    .map(|form| {
        let mut browser = Browser::new(&example, LINUX);
        let response = browser.post("/signup", form);
        assert_leads_to(&response, "/login");
        (response.into_body(), browser.get("/login").into_body())
    });
    assert_shows_text(&answers[0].1, &["If this address is new here"]);
    answers.sort();
    assert_eq!(answers[0], answers[2]);

    // And it changed nothing about alice.
    let mut mallory = Browser::new(&example, LINUX);
    let taken = mallory.post(
        "/login",
        "email=alice@example.org&password=a password of mallory's",
    );
    assert_eq!(taken.status(), StatusCode::FORBIDDEN);
    alice.log_in(ALICE);
    alice.log_in("email= Alice@Example.ORG &password=correct horse battery");
    mallory.log_in("email=nobody@example.org&password=a password of mallory's");
}

#[test]
fn what_a_sign_up_lacks_is_said_and_what_was_typed_is_kept_as_text() {
    let (example, _folder) = start();
    let mut browser = Browser::new(&example, LINUX);
    for (form, says) in [
        (
            "email=alice&password=correct horse battery",
            "This is no e-mail address.",
        ),
        (
            "email=@example.org&password=correct horse battery",
            "This is no e-mail address.",
        ),
        (
            "email=a b@example.org&password=correct horse battery",
            "This is no e-mail address.",
        ),
        (
            "email=alice@example.org&password=fourteen chars",
            "at least 15 characters",
        ),
    ] {
        let page = browser.post("/signup", form);
        assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY, "{form}");
        assert_shows(&page, &[says]);
    }
    for path in ["/signup", "/login"] {
        let page = browser.post(path, "email=\"><script>alert(1)</script>&password=short");
        assert_shows(&page, &["&quot;&gt;&lt;script&gt;"]);
        assert!(!page.body().contains("<script"));
    }
    assert_eq!(browser.client.cookie(), None);
}

#[test]
fn a_wrong_password_and_an_unknown_address_are_answered_alike() {
    let (example, _folder) = start();
    let mut browser = Browser::new(&example, LINUX);
    Browser::of(&example, LINUX, ALICE);
    let mut answer = |credentials: &str| {
        let mut response = browser.post("/login", credentials);
        response.headers_mut().remove("date");
        response.headers_mut().remove("content-length");
        assert_eq!(browser.client.cookie(), None, "{credentials}");
        let email = credentials.split(['=', '&']).nth(1).unwrap();
        let body = response
            .body()
            .replace(&format!("value=\"{email}\""), "value");
        (response.status(), response.headers().clone(), body)
    };
    let wrong = answer("email=alice@example.org&password=tweedledee");
    assert_eq!(wrong.0, StatusCode::FORBIDDEN);
    assert_shows_text(&wrong.2, &["The e-mail address or the password is wrong."]);
    for credentials in [
        "email=mallory@example.org&password=tweedledee",
        "email=mallory@example.org&password=correct horse battery",
        // What the hash that stands in for an unknown user's was made of.
        "email=mallory@example.org&password=",
        "email=no address&password=",
    ] {
        assert_eq!(answer(credentials), wrong, "{credentials}");
    }
}

#[test]
fn a_login_lasts_over_a_restart_and_until_the_logout() {
    let (mut example, _folder) = start();
    let mut browser = Browser::of(&example, LINUX, ALICE);
    let response = browser.post("/login", ALICE);
    let (name, value) = browser.client.cookie().unwrap();
    assert_eq!(
        header(&response, SET_COOKIE).unwrap(),
        format!("{name}={value}; HttpOnly; SameSite=Lax; Secure; Path=/")
    );
    assert_eq!(name, "__Host-Http-id");
    assert_shows(
        &browser.get("/"),
        &["You are logged in as", "alice@example.org"],
    );

    example.restart();
    browser.assert_logged_in();

    let mut copy_of_the_cookie = browser.clone();
    let response = browser.post("/logout", "");
    assert_leads_to(&response, "/");
    assert_eq!(
        header(&response, SET_COOKIE).unwrap(),
        "__Host-Http-id=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0; \
         Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    );
    assert_eq!(browser.client.cookie(), None);
    copy_of_the_cookie.assert_logged_out();
    example.restart();
    copy_of_the_cookie.assert_logged_out();
}

#[test]
fn remember_me_keeps_the_cookie_for_90_days() {
    let (mut example, _folder) = start();
    let mut browser = Browser::of(&example, LINUX, ALICE);
    let response = browser.post("/login", &format!("{ALICE}&remember_me=true"));
    let cookie = header(&response, SET_COOKIE).unwrap();
    let (_, max_age) = cookie.split_once("; Max-Age=").unwrap();
    // Less the time that the login took.
    let days_90 = 90 * 24 * 60 * 60;
    assert!((days_90 - 60..=days_90).contains(&max_age.parse().unwrap()));
    example.restart();
    browser.assert_logged_in();
}

#[test]
fn a_login_renews_the_id_and_one_as_somebody_else_ends_the_session() {
    let (example, _folder) = start();
    Browser::of(&example, LINUX, BOB);
    let mut browser = Browser::of(&example, LINUX, ALICE);
    let mut before = browser.clone();
    before.assert_logged_in();
    browser.log_in(ALICE);
    before.assert_logged_out();
    assert_eq!(
        handles(&browser.get("/places")).len(),
        0,
        "it is one session"
    );

    let mut of_alice = browser.clone();
    browser.log_in(BOB);
    assert_shows(&browser.get("/"), &["bob@example.org"]);
    of_alice.assert_logged_out();
}

#[test]
fn a_login_leads_back_to_the_page_that_wanted_it_and_never_to_another_site() {
    let (example, _folder) = start();
    let mut browser = Browser::of(&example, LINUX, ALICE);
    browser.post("/logout", "");
    let login = "/login?next=/password";
    assert_leads_to(&browser.get("/password"), login);
    let form = browser.get(login);
    assert_shows(&form, &["Log in to go on."]);
    // It posts to its own address.
    assert!(!form.body().contains("action=\"/login"));
    let wrong = browser.post(login, "email=alice@example.org&password=wrong");
    assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
    assert_leads_to(&browser.post(login, ALICE), "/login/done?next=/password");
    assert_leads_to(&browser.get("/login/done?next=/password"), "/password");

    assert_leads_to(&browser.get("/login/done?next=//evil.example"), "/");
    assert_leads_to(&browser.get("/login/done?next=https://evil.example/"), "/");
}

#[test]
fn a_browser_that_did_not_keep_the_cookie_is_told() {
    let (example, _folder) = start();
    Browser::of(&example, LINUX, ALICE);
    let mut browser = Browser::new(&example, LINUX);
    browser.post("/login", ALICE);
    let mut without_cookie = Browser::new(&example, LINUX);
    let page = without_cookie.get("/login/done");
    assert_eq!(page.status(), StatusCode::OK);
    assert_shows(&page, &["did not keep the cookie", "Safari", "HTTPS"]);
    assert_eq!(without_cookie.client.cookie(), None);
}

#[test]
fn a_user_sees_every_place_and_ends_one_or_all_others() {
    let (example, _folder) = start();
    let mut here = Browser::of(&example, LINUX, ALICE);
    let page = here.get("/places");
    assert_shows(
        &page,
        &["Firefox on Linux", "this browser", "logged in nowhere else"],
    );
    assert_eq!(handles(&page), [""; 0]);

    let mut phone = Browser::new(&example, PHONE);
    phone.log_in(ALICE);
    let page = here.get("/places");
    assert_shows(&page, &["Safari on iPhone", "Log out everywhere else"]);
    let here_comes_first =
        page.body().find("Firefox on Linux") < page.body().find("Safari on iPhone");
    assert!(here_comes_first);
    let ended = handles(&page);
    assert_eq!(ended.len(), 1);

    let form = format!("handle={}", ended[0]);
    assert_leads_to(&here.post("/places/end", &form), "/places");
    phone.assert_logged_out();
    assert_shows(&here.get("/places"), &["You are logged out there."]);
    assert!(
        !here.get("/places").body().contains("logged out there"),
        "it is told once"
    );
    here.post("/places/end", &form);
    assert_shows(
        &here.get("/places"),
        &["You were logged out there already."],
    );

    let mut laptop = Browser::new(&example, LINUX);
    phone.log_in(ALICE);
    laptop.log_in(ALICE);
    let mut copy_of_the_cookie = here.clone();
    assert_leads_to(&here.post("/places/end-others", ""), "/places");
    assert_shows(
        &here.get("/places"),
        &["You are logged out in 2 other places."],
    );
    phone.assert_logged_out();
    laptop.assert_logged_out();
    copy_of_the_cookie.assert_logged_out();
}

#[test]
fn nobody_ends_a_session_of_somebody_else() {
    let (example, _folder) = start();
    let mut alice = Browser::of(&example, LINUX, ALICE);
    let mut phone = Browser::new(&example, PHONE);
    phone.log_in(ALICE);
    let mut bob = Browser::of(&example, LINUX, BOB);
    let handle = handles(&alice.get("/places")).remove(0);
    bob.post("/places/end", &format!("handle={handle}"));
    bob.post("/places/end-others", "");
    phone.assert_logged_in();
    let nonsense = bob.post("/places/end", "handle=1");
    assert_eq!(nonsense.status(), StatusCode::BAD_REQUEST);

    let mut nobody = Browser::new(&example, LINUX);
    assert_leads_to(
        &nobody.post("/places/end", &format!("handle={handle}")),
        "/login",
    );
    phone.assert_logged_in();
}

#[test]
fn a_changed_password_ends_every_other_session_and_the_old_password() {
    let (example, _folder) = start();
    let mut here = Browser::of(&example, LINUX, ALICE);
    let mut phone = Browser::new(&example, PHONE);
    phone.log_in(ALICE);

    let wrong = here.post("/password", "current=wrong&new=staple battery horse");
    assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
    assert_shows(&wrong, &["The current password is wrong."]);
    let short = here.post("/password", &format!("current={PASSWORD}&new=short"));
    assert_eq!(short.status(), StatusCode::UNPROCESSABLE_ENTITY);
    phone.assert_logged_in();

    let mut copy_of_the_cookie = here.clone();
    let form = format!("current={PASSWORD}&new=staple battery horse");
    assert_leads_to(&here.post("/password", &form), "/places");
    assert_shows(
        &here.get("/places"),
        &["Your password is changed. You are logged out in one other place."],
    );
    phone.assert_logged_out();
    copy_of_the_cookie.assert_logged_out();
    assert_eq!(phone.post("/login", ALICE).status(), StatusCode::FORBIDDEN);
}

#[test]
fn a_deleted_account_is_logged_out_everywhere_and_opens_nothing_to_the_next_user() {
    let (example, _folder) = start();
    let mut here = Browser::of(&example, LINUX, ALICE);
    let mut phone = Browser::new(&example, PHONE);
    phone.log_in(ALICE);
    assert_shows(
        &here.get("/delete"),
        &["alice@example.org", "gone for good"],
    );
    assert_leads_to(&here.post("/delete", ""), "/");
    assert_shows(
        &here.get("/"),
        &["Your account is deleted.", "You are not logged in"],
    );
    phone.assert_logged_out();
    assert_eq!(here.post("/login", ALICE).status(), StatusCode::FORBIDDEN);

    Browser::of(&example, LINUX, BOB);
    here.assert_logged_out();
    phone.assert_logged_out();
}

#[test]
fn forms_of_other_sites_are_refused() {
    let (example, _folder) = start();
    let mut browser = Browser::of(&example, LINUX, ALICE);
    let (name, value) = browser.client.cookie().unwrap();
    let cookie = format!("{name}={value}");
    for path in ["/logout", "/places/end-others", "/delete", "/login"] {
        for (header, origin) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://elsewhere.example"),
        ] {
            let request = Request::post(path)
                .header(COOKIE, &cookie)
                .header(header, origin);
            let response = exchange(example.port, &request.body(String::new()).unwrap());
            assert_eq!(
                response.status(),
                StatusCode::FORBIDDEN,
                "{path} {header}: {origin}"
            );
        }
    }
    browser.assert_logged_in();
}

/// The handles in the forms of the page, each of which ends a session.
fn handles(page: &Response<String>) -> Vec<String> {
    let parts = page.body().split("name=\"handle\" value=\"").skip(1);
    parts.map(|part| part[..32].to_owned()).collect()
}

#[track_caller]
fn assert_shows(page: &Response<String>, texts: &[&str]) {
    assert_shows_text(page.body(), texts);
}

#[track_caller]
fn assert_shows_text(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "{text:?} is not in {page}");
    }
}
