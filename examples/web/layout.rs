//! What every page has.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// A page with these links to others. Everything that is put into `html!` is escaped, so that text of a user
/// is never markup.
pub(crate) fn page(title: &str, nav: Markup, content: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                header { nav { (nav) } }
                main {
                    h1 { (title) }
                    (content)
                }
            }
        }
    }
}
