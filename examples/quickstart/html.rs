//! HTML.

use axum::response::Html;

/// A page with these links to others, and this content, which is HTML.
pub(crate) fn page(title: &str, links: &[(&str, &str)], content: &str) -> Html<String> {
    let title = escaped(title);
    let links = links
        .iter()
        .map(|(path, name)| format!(r#"<a href="{}">{}</a>"#, escaped(path), escaped(name)))
        .collect::<Vec<_>>()
        .join(" ");
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
<header><nav>{links}</nav></header>
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
pub(crate) fn escaped(text: &str) -> String {
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
