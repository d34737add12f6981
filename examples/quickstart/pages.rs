//! The pages.

use axum::response::Html;

use crate::html::{self, escaped};

pub(crate) fn home(user_id: Option<&str>) -> Html<String> {
    page(
        "Quickstart",
        &match user_id {
            Some(user_id) => format!(
                r#"<p>You are logged in as <strong>{}</strong>.</p>
<p><a class="button" href="/account">Your account</a></p>"#,
                escaped(user_id)
            ),
            None => r#"<p>You are not logged in, and nothing about you is stored.</p>
<p><a class="button" href="/login">Log in</a></p>"#
                .into(),
        },
    )
}

pub(crate) fn login(problem: Option<&str>) -> Html<String> {
    let problem = problem.map_or_else(String::new, |problem| {
        format!(
            r#"<p class="problem" role="alert">{}</p>"#,
            escaped(problem)
        )
    });
    page(
        "Log in",
        &format!(
            r#"{problem}
<form method="post" action="/login">
<label for="name">Name</label>
<input id="name" name="name" autocomplete="username" autocapitalize="none" required autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>Log in</button>
</form>
<p class="hint">The terminal shows who can log in.</p>"#
        ),
    )
}

pub(crate) fn account(user_id: &str, message: Option<&str>, visits: u64) -> Html<String> {
    let message = message.map_or_else(String::new, |message| {
        format!(
            r#"<p class="message" role="status">{}</p>"#,
            escaped(message)
        )
    });
    page(
        "Your account",
        &format!(
            r#"{message}
<p>Only <strong>{}</strong> can see this page. Views in this session: <strong>{visits}</strong>.</p>
<p>Restart the server and reload: you are still logged in.</p>
<form method="post" action="/logout"><button>Log out</button></form>"#,
            escaped(user_id)
        ),
    )
}

pub(crate) fn cookie_not_kept() -> Html<String> {
    page(
        "Your browser did not keep the cookie",
        r#"<p>The name and the password were right, but your browser came back without the session's cookie.
So you are not logged in.</p>
<ul>
<li>Safari keeps no <code>Secure</code> cookie of <code>http://localhost</code>. Use Chrome or Firefox there, or
serve the app over HTTPS.</li>
<li>Over plain <code>http://</code>, no browser keeps it for a host other than your own machine. Open the app
as <code>http://localhost</code>, or serve it over HTTPS.</li>
<li>Cookies may be blocked for this site. Allow them in the browser's settings.</li>
</ul>
<p><a class="button" href="/login">Try again</a></p>"#,
    )
}

/// A page with this content, which is HTML.
fn page(title: &str, content: &str) -> Html<String> {
    html::page(title, &[("/", "Home"), ("/account", "Account")], content)
}
