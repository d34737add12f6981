//! The browser takes each cookie, as what it was meant to be, and sends it back.

use crate::browser::Programs;
use crate::configurations::{ALL, Configuration, STRICTEST};
use crate::jar;
use crate::server::{HTTP_1, HTTP_2, Server};

#[test]
fn every_cookie_is_kept_as_it_was_meant_and_sent_back() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let server = Server::start(HTTP_2, ALL.iter().map(Configuration::site));
    let browser = server.browser(&programs);
    for configuration in &ALL {
        for login in configuration.logins() {
            jar::clear(&browser);
            browser.open(&configuration.url(login));
            browser.assert_shows("alice is here");
            let kept = jar::only(&browser);
            assert_eq!(
                kept,
                configuration.kept(&kept.value, *login == "/login/alice")
            );
            assert_eq!(kept.value.len(), 48);

            browser.open(&configuration.url("/who"));
            browser.assert_shows("alice is here");
            let seen = server.seen(configuration.host, &configuration.path_of("/who"));
            assert_eq!((seen.scheme, seen.pairs()), ("https", vec![kept.pair()]));
        }
    }
}

#[test]
fn over_plain_http_the_cookie_is_neither_sent_nor_taken() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let server = Server::start(HTTP_1, [STRICTEST.site()]);
    let browser = server.browser(&programs);
    browser.open(&STRICTEST.url("/login/alice"));
    let kept = jar::only(&browser);
    for path in ["/who", "/write", "/logout", "/login/mallory"] {
        browser.open(&format!("http://{}{path}", STRICTEST.host));
        let seen = server.seen(STRICTEST.host, path);
        assert_eq!((seen.scheme, seen.pairs().len()), ("http", 0));
        assert_eq!(jar::only(&browser), kept, "{path}");
    }
    browser.open(&STRICTEST.url("/who"));
    browser.assert_shows("alice is here");
}
