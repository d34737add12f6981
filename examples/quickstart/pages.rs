//! The HTML.

use axum::response::Html;

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
    let title = escaped(title);
    Html(format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<header><nav><a href="/">Home</a> <a href="/account">Account</a></nav></header>
<main>
<h1>{title}</h1>
{content}
</main>
</body>
</html>
"#
    ))
}

/// Text as it has to stand in HTML. Whatever came from a user goes through here, so that it is never markup.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(char),
        }
    }
    html
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: light-dark(#d5d5dd, #44444f); --accent: light-dark(#5b2a86, #c9a0f0); }
body { margin: 0; font: 1.0625rem/1.5 system-ui, sans-serif; }
header, main { max-width: 32rem; margin: 0 auto; padding: 1rem 1.25rem; }
header { border-bottom: 1px solid var(--line); }
nav a { margin-right: 1rem; }
a { color: var(--accent); }
h1 { font-size: 1.6rem; line-height: 1.2; }
label { display: block; margin-top: 1rem; font-weight: 600; }
input { box-sizing: border-box; width: 100%; padding: .5rem .6rem; font: inherit; border: 1px solid #85858f;
  border-radius: .4rem; }
button, .button { display: inline-block; margin-top: 1.25rem; padding: .5rem 1.1rem; font: inherit; border: 0;
  border-radius: .4rem; background: var(--accent); color: light-dark(#fff, #1c1c24); text-decoration: none;
  cursor: pointer; }
.message, .problem { padding: .6rem .9rem; border-left: .3rem solid var(--accent);
  background: light-dark(#f3eef8, #2c2536); }
.problem { border-color: light-dark(#b3261e, #f2b8b5); background: light-dark(#fbeceb, #3a2422); }
.hint { opacity: .75; font-size: .95rem; }
";
