//! The pages.

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use cloakroom::UserSession;
use maud::{Markup, html};
use time::{Duration, OffsetDateTime};

use super::layout;
use super::passwords::SHORTEST;
use super::users::User;

pub(crate) const NO_EMAIL: &str = "This is no e-mail address.";
pub(crate) const TOO_SHORT: &str =
    "The password needs at least 15 characters. A few words make one that is easy to remember.";

/// What every page tells the browser.
pub(crate) async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    // After a logout, the back button must not show a page of somebody's own from the browser's cache.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // There are no scripts. In another site's frame, users could be led to click on what they do not see.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'",
        ),
    );
    response
}

pub(crate) fn home(user: Option<&User>, message: Option<&str>) -> Markup {
    let content = match user {
        Some(user) => html! {
            p { "You are logged in as " strong { (user.email) } "." }
            (way("/places", "Where you are logged in", "Every browser that is logged in to your account. End what you do not know."))
            (way("/password", "Change the password", "It logs you out everywhere else."))
            (way("/delete", "Delete the account", "It asks for your password again, if you logged in more than ten minutes ago."))
        },
        None => html! {
            div.card {
                p {
                    "You are not logged in, and nothing about you is stored. Sign up, log in from two browsers, \
                     and end one login from the other."
                }
                p.buttons {
                    a.button href="/login" { "Log in" }
                    a.button.secondary href="/signup" { "Sign up" }
                }
            }
        },
    };
    let title = if user.is_some() {
        "Your account"
    } else {
        "Accounts"
    };
    page(title, user, html! { (status(message)) (content) })
}

fn way(path: &str, name: &str, about: &str) -> Markup {
    html! {
        div.card {
            h2 { a href=(path) { (name) } }
            p.hint { (about) }
        }
    }
}

pub(crate) fn sign_up(email: &str, problem: Option<&str>) -> Markup {
    let content = html! {
        form.card method="post" {
            (alert(problem))
            (email_field(email))
            (new_password("password", "Password"))
            p.buttons {
                button { "Sign up" }
                span { "You have an account? " a href="/login" { "Log in" } }
            }
        }
        p.hint { "This is a demonstration: it sends no mail, so any address does." }
    };
    page("Sign up", None, content)
}

#[derive(Default)]
pub(crate) struct LoginForm<'a> {
    /// Who is logged in already, and proves the password once more.
    pub(crate) again: Option<&'a User>,
    pub(crate) email: &'a str,
    pub(crate) message: Option<&'a str>,
    pub(crate) problem: Option<&'a str>,
    /// Whether the user was on the way to another page.
    pub(crate) leads_on: bool,
}

/// The form has no `action`, so that it posts to its own address, and the `next` of that is not lost.
pub(crate) fn log_in(form: &LoginForm) -> Markup {
    match form.again {
        Some(user) => log_in_again(form, user),
        None => log_in_first(form),
    }
}

fn log_in_first(form: &LoginForm) -> Markup {
    let content = html! {
        (status(form.message))
        form.card method="post" {
            @if form.leads_on { p { "Log in to go on." } }
            (alert(form.problem))
            (email_field(form.email))
            (current_password("password", "Password", !form.email.is_empty()))
            label.choice {
                input type="checkbox" name="remember_me" value="true";
                "Remember me on this device, for two weeks without a visit"
            }
            p.buttons {
                button { "Log in" }
                span { "You are new here? " a href="/signup" { "Sign up" } }
            }
        }
    };
    page("Log in", None, content)
}

fn log_in_again(form: &LoginForm, user: &User) -> Markup {
    let content = html! {
        (status(form.message))
        form.card method="post" {
            p { "You are logged in as " strong { (user.email) } ". To go on, prove that it is you." }
            (alert(form.problem))
            // For password managers, which look for a name next to a password.
            input type="hidden" name="email" value=(user.email) autocomplete="username";
            (current_password("password", "Password", true))
            p.buttons {
                button { "Go on" }
                a href="/" { "Cancel" }
            }
        }
    };
    page("Your password, please", Some(user), content)
}

pub(crate) fn places(user: &User, places: &[UserSession], message: Option<&str>) -> Markup {
    let now = OffsetDateTime::now_utc();
    let elsewhere = places.iter().filter(|place| !place.is_current());
    let content = html! {
        (status(message))
        ul.plain {
            @for place in places { li.card.row { (one_place(place, now)) } }
        }
        @match elsewhere.count() {
            0 => p.hint { "You are logged in nowhere else." },
            _ => form method="post" action="/places/end-others" {
                p { button.secondary { "Log out everywhere else" } }
            }
        }
        p.hint {
            "If there is one that you do not know, "
            a href="/password" { "change your password" }
            ": that ends it, too."
        }
    };
    page("Where you are logged in", Some(user), content)
}

fn one_place(place: &UserSession, now: OffsetDateTime) -> Markup {
    let label = place.label().unwrap_or("An unknown device");
    html! {
        div {
            h2 { (label) @if place.is_current() { span.badge { "this browser" } } }
            p.hint {
                "Logged in " (ago(now - place.authenticated_at()))
                @match place.last_seen_at() {
                    Some(at) if !place.is_current() => { ", last seen " (ago(now - at)) }
                    _ => {}
                }
            }
        }
        @if !place.is_current() {
            form method="post" action="/places/end" {
                input type="hidden" name="handle" value=(place.handle());
                button.secondary aria-label={ "Log out " (label) } { "Log out" }
            }
        }
    }
}

pub(crate) fn logged_out_elsewhere(ended: usize) -> String {
    match ended {
        0 => "You were logged in nowhere else.".into(),
        1 => "You are logged out in one other place.".into(),
        _ => format!("You are logged out in {ended} other places."),
    }
}

pub(crate) fn password(user: &User, problem: Option<&str>) -> Markup {
    let content = html! {
        form.card method="post" {
            (alert(problem))
            input type="hidden" name="email" value=(user.email) autocomplete="username";
            (current_password("current", "Current password", true))
            (new_password("new", "New password"))
            p.buttons { button { "Change the password" } a href="/" { "Cancel" } }
        }
        p.hint { "You stay logged in here, and are logged out everywhere else." }
    };
    page("Change the password", Some(user), content)
}

pub(crate) fn delete(user: &User) -> Markup {
    let content = html! {
        form.card method="post" {
            p { "The account " strong { (user.email) } " will be gone for good, and you will be logged out everywhere." }
            p.buttons { button.danger { "Delete the account" } a href="/" { "Keep it" } }
        }
    };
    page("Delete the account", Some(user), content)
}

pub(crate) fn cookie_not_kept() -> Markup {
    let content = html! {
        p {
            "The e-mail address and the password were right, but your browser came back without the session's \
             cookie. So you are not logged in."
        }
        ul {
            li {
                "Safari keeps no " code { "Secure" } " cookie of " code { "http://localhost" }
                ". Use Chrome or Firefox there, or serve the app over HTTPS."
            }
            li {
                "Over plain " code { "http://" } ", no browser keeps it for a host other than your own machine. \
                 Open the app as " code { "http://localhost" } ", or serve it over HTTPS."
            }
            li { "Cookies may be blocked for this site. Allow them in the browser's settings." }
        }
        p { a.button href="/login" { "Try again" } }
    };
    page("Your browser did not keep the cookie", None, content)
}

pub(crate) fn failure(text: &str) -> Markup {
    let content = html! {
        p.problem role="alert" { (text) }
        p { a.button href="/" { "To the first page" } }
    };
    layout::page("That did not work", brand(), content)
}

pub(crate) async fn not_found() -> (StatusCode, Markup) {
    let content = html! {
        p { "There is nothing at this address." }
        p { a.button href="/" { "To the first page" } }
    };
    (
        StatusCode::NOT_FOUND,
        layout::page("No such page", brand(), content),
    )
}

fn page(title: &str, user: Option<&User>, content: Markup) -> Markup {
    let nav = html! {
        (brand())
        @match user {
            Some(_) => {
                a href="/places" { "Devices" }
                a href="/password" { "Password" }
                form method="post" action="/logout" { button.secondary { "Log out" } }
            }
            None => {
                a href="/login" { "Log in" }
                a href="/signup" { "Sign up" }
            }
        }
    };
    layout::page(title, nav, content)
}

fn brand() -> Markup {
    html! { a.brand href="/" { "Accounts" } }
}

fn status(message: Option<&str>) -> Markup {
    html! { @if let Some(message) = message { p.message role="status" { (message) } } }
}

fn alert(problem: Option<&str>) -> Markup {
    html! { @if let Some(problem) = problem { p.problem role="alert" { (problem) } } }
}

fn email_field(value: &str) -> Markup {
    html! {
        label for="email" { "E-mail address" }
        input #email name="email" type="email" value=(value) autocomplete="username" required
            autofocus[value.is_empty()];
    }
}

fn current_password(name: &str, label: &str, has_focus: bool) -> Markup {
    html! {
        label for=(name) { (label) }
        input id=(name) name=(name) type="password" autocomplete="current-password" required
            autofocus[has_focus];
    }
}

fn new_password(name: &str, label: &str) -> Markup {
    html! {
        label for=(name) { (label) }
        input id=(name) name=(name) type="password" autocomplete="new-password" minlength=(SHORTEST) required
            aria-describedby={ (name) "-hint" };
        p.hint.under-field id={ (name) "-hint" } { "At least " (SHORTEST) " characters, such as a few words." }
    }
}

/// In words that need no time zone, of which the server knows nothing.
fn ago(passed: Duration) -> String {
    let (count, unit) = match passed.whole_seconds() {
        ..60 => return "just now".into(),
        60..3_600 => (passed.whole_minutes(), "minute"),
        3_600..86_400 => (passed.whole_hours(), "hour"),
        _ => (passed.whole_days(), "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_has_passed_is_told_in_the_largest_unit() {
        for (seconds, says) in [
            // The clocks of a server and its database may differ.
            (-5, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (3_599, "59 minutes ago"),
            (3_600, "1 hour ago"),
            (86_399, "23 hours ago"),
            (86_400, "1 day ago"),
            (90 * 86_400, "90 days ago"),
        ] {
            assert_eq!(ago(Duration::seconds(seconds)), says);
        }
    }
}
