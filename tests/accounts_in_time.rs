//! The example `accounts` as time passes, and as its database fails.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use axum::Router;
use cloakroom::testing::{FailingStore, Operation, TestClient, TestResponse, Times, When};
use http::header::{ACCEPT, CONTENT_TYPE, REFERER};
use http::{Request, StatusCode};

#[path = "support/accounts.rs"]
mod support;

use support::{Accounts, MINUTE};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

type Browser = TestClient<Router>;

const EMAIL: (&str, &str) = ("email", "alice@example.org");
const PASSWORD: (&str, &str) = ("password", "correct horse battery");
const REMEMBER_ME: (&str, &str) = ("remember_me", "true");

/// A browser in which alice, who has signed up, has logged in.
async fn logged_in(accounts: &Accounts, with: &[(&str, &str)]) -> Browser {
    let browser = TestClient::new(accounts.app.clone()).clock(accounts.clock.clone());
    browser.post_form("/signup", &[EMAIL, PASSWORD]).await;
    log_in(&browser, "/login", with).await;
    browser
}

async fn log_in(browser: &Browser, address: &str, with: &[(&str, &str)]) {
    let form = [&[EMAIL, PASSWORD], with].concat();
    let response = browser.post_form(address, &form).await;
    response.assert_status(StatusCode::SEE_OTHER);
}

async fn visit(browser: &Browser, path: &str) -> TestResponse {
    let request = Request::get(path).header(ACCEPT, "text/html");
    browser
        .send(request.body(Default::default()).unwrap())
        .await
}

#[track_caller]
fn assert_leads_to(response: &TestResponse, address: &str) {
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(response.header("location"), Some(address));
}

async fn assert_logged_in(browser: &Browser) {
    assert_eq!(visit(browser, "/places").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_session_that_expired_leads_to_the_login_and_back_to_where_one_was() {
    let accounts = Accounts::new().await;
    let browser = logged_in(&accounts, &[]).await;
    accounts.clock.advance(HOUR - MINUTE);
    assert_logged_in(&browser).await;
    accounts.clock.advance(HOUR);
    assert_leads_to(&visit(&browser, "/password").await, "/login?next=/password");
    log_in(&browser, "/login?next=/password", &[]).await;
    let done = visit(&browser, "/login/done?next=/password").await;
    assert_leads_to(&done, "/password");
    assert_eq!(visit(&browser, "/password").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_is_remembered_may_stay_away_for_two_weeks_and_is_asked_again_after_three_months() {
    let accounts = Accounts::new().await;
    let browser = logged_in(&accounts, &[REMEMBER_ME]).await;
    for _ in 0..6 {
        accounts.clock.advance(DAY * 14 - MINUTE);
        assert_logged_in(&browser).await;
    }
    accounts.clock.advance(DAY * 6);
    assert_logged_in(&browser).await;
    accounts.clock.advance(HOUR);
    assert_leads_to(&visit(&browser, "/places").await, "/login?next=/places");

    log_in(&browser, "/login", &[REMEMBER_ME]).await;
    accounts.clock.advance(DAY * 14);
    assert_leads_to(&visit(&browser, "/places").await, "/login?next=/places");
}

#[tokio::test]
async fn the_account_is_deleted_by_who_proved_the_password_in_the_last_ten_minutes() {
    let accounts = Accounts::new().await;
    let browser = logged_in(&accounts, &[REMEMBER_ME]).await;
    accounts.clock.advance(MINUTE * 10);
    assert_logged_in(&browser).await;
    assert_leads_to(&visit(&browser, "/delete").await, "/login?next=/delete");
    // A page that was open for longer leads back to itself; the form is not sent again.
    let late = Request::post("/delete")
        .header(ACCEPT, "text/html")
        .header("sec-fetch-site", "same-origin")
        .header(REFERER, "http://localhost/delete");
    let late = browser.send(late.body(Default::default()).unwrap()).await;
    assert_leads_to(&late, "/login?next=/delete");

    let form = visit(&browser, "/login?next=/delete").await;
    assert!(form.text().contains("prove that it is you"));
    let wrong = [EMAIL, ("password", "wrong")];
    let wrong = browser.post_form("/login?next=/delete", &wrong).await;
    let wrong = wrong.assert_status(StatusCode::FORBIDDEN);
    assert!(wrong.text().contains("prove that it is you"));
    assert!(wrong.text().contains("password is wrong"));
    assert_leads_to(&visit(&browser, "/delete").await, "/login?next=/delete");

    log_in(&browser, "/login?next=/delete", &[]).await;
    assert_eq!(visit(&browser, "/delete").await.status(), StatusCode::OK);
    let deleted = browser.post("/delete").await;
    assert_leads_to(&deleted, "/");
    assert!(
        visit(&browser, "/")
            .await
            .text()
            .contains("Your account is deleted.")
    );
}

#[tokio::test]
async fn who_proves_the_password_again_is_still_remembered() {
    let accounts = Accounts::new().await;
    let browser = logged_in(&accounts, &[REMEMBER_ME]).await;
    log_in(&browser, "/login?next=/delete", &[]).await;
    browser.end_browser_session();
    accounts.clock.advance(DAY * 13);
    assert_logged_in(&browser).await;
}

#[tokio::test]
async fn a_browser_that_ends_forgets_who_is_not_remembered() {
    let accounts = Accounts::new().await;
    let browser = logged_in(&accounts, &[]).await;
    browser.end_browser_session();
    assert_leads_to(&visit(&browser, "/places").await, "/login?next=/places");
}

#[tokio::test]
async fn a_user_who_is_gone_is_logged_out_though_the_session_lived_on() {
    let accounts = Accounts::new().await;
    let [one, another] = [
        logged_in(&accounts, &[]).await,
        logged_in(&accounts, &[]).await,
    ];
    let pool = accounts.database.pool();
    sqlx::query("DELETE FROM users")
        .execute(pool)
        .await
        .unwrap();
    // The next user has another id, even under the same address.
    let next = logged_in(&accounts, &[]).await;

    assert_leads_to(&visit(&one, "/places").await, "/login");
    assert!(one.cookies().is_empty());
    let home = visit(&another, "/").await;
    assert!(home.text().contains("You are not logged in"));
    assert!(another.cookies().is_empty());
    assert_logged_in(&next).await;
}

#[tokio::test]
async fn while_the_database_fails_every_page_says_so_and_no_password_is_looked_at() {
    let mut failing = None;
    let accounts =
        Accounts::with_store(|database| failing.insert(FailingStore::new(database)).clone()).await;
    let failing = failing.unwrap();
    let browser = logged_in(&accounts, &[]).await;
    failing.fail(Operation::Load, When::BeforeEffect, Times::Always);
    for page in ["/", "/places", "/login"] {
        let page = visit(&browser, page).await;
        let page = page.assert_status(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(page.header(CONTENT_TYPE), Some("text/html; charset=utf-8"));
        assert!(page.text().contains("Please try again."));
    }
    let answers = [PASSWORD, ("password", "wrong")];
    for password in answers {
        let answer = browser.post_form("/login", &[EMAIL, password]).await;
        answer.assert_status(StatusCode::SERVICE_UNAVAILABLE);
    }
    failing.heal();
    assert_logged_in(&browser).await;

    // The users are gone as well, but not the sessions.
    let pool = accounts.database.pool();
    sqlx::query("DROP TABLE users").execute(pool).await.unwrap();
    let page = visit(&browser, "/places").await;
    let page = page.assert_status(StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.text().contains("Please try again."));
}
