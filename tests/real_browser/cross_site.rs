//! Which requests that another site causes carry the cookie, and which of the responses to them set one.

use axum::http::Method;
use axum::middleware::from_extractor;
use cloakroom::csrf::CsrfGuard;
use serde_json::json;
use tower_http::csrf::CsrfLayer;

use crate::browser::{Browser, Programs, Setting};
use crate::configurations::{Configuration, NONE, PARTITIONED, STRICT, STRICTEST};
use crate::jar::{self, Kept};
use crate::server::{HTTP_2, Server};
use crate::shop::{blank, shop_with};

const OTHER: &str = "https://other.test/";
const THIRD: &str = "https://third.test/";
/// Of the same site as the apps.
const SIBLING: &str = "https://evil.shop.test/";
/// Of another one, since the scheme counts.
const SIBLING_BY_HTTP: &str = "http://evil.shop.test/";

const LAX: Configuration = STRICTEST;
const SAME_SITES: [Configuration; 4] = [LAX, STRICT, NONE, PARTITIONED];

const WITH_THIRD_PARTIES: Setting = Setting {
    third_party_cookies: Some(true),
    ..Setting::PLAIN
};
const WITHOUT_THIRD_PARTIES: Setting = Setting {
    third_party_cookies: Some(false),
    ..Setting::PLAIN
};

/// What a page does to have a request made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    Link,
    Form,
    Frame,
    FormInFrame,
    Image,
    Fetch,
}

use Deed::{Fetch, Form, FormInFrame, Frame, Image, Link};

impl Deed {
    const fn method(self) -> Method {
        match self {
            Link | Frame | Image => Method::GET,
            Form | FormInFrame | Fetch => Method::POST,
        }
    }

    /// Has a page of `from` make the request, which may be open already.
    fn ask(self, browser: &Browser, from: &str, url: &str) {
        browser.leave_frames();
        if browser.run("return location.href") != from {
            browser.open(from);
        }
        let body = match self {
            Link => format!("<a id=go href='{url}'>go</a>"),
            Form => format!("<form method=post action='{url}'><button id=go>go</button></form>"),
            Frame => format!("<iframe src='{url}'></iframe>"),
            FormInFrame => format!(
                "<iframe name=in></iframe>\
                 <form method=post action='{url}' target=in><button id=go>go</button></form>"
            ),
            Image => format!("<img src='{url}'>"),
            Fetch => String::new(),
        };
        browser.run(&format!("document.body.innerHTML = {}", json!(body)));
        match self {
            Link | Form | FormInFrame => browser.click("#go"),
            Frame | Image => {}
            Fetch => {
                let options = "{method: 'POST', credentials: 'include'}";
                let text = browser.run(&format!(
                    "return fetch('{url}', {options}).then(answer => answer.text())"
                ));
                assert!(text.as_str().unwrap().contains(" is here"), "{text}");
            }
        }
    }
}

fn start() -> Server {
    let pages = ["other.test", "third.test", "evil.shop.test"].map(|host| (host, blank()));
    let apps = SAME_SITES.iter().map(Configuration::site);
    Server::start(HTTP_2, apps.chain(pages))
}

#[test]
fn a_request_carries_the_cookie_as_its_same_site_says() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let server = start();
    let browser = server.browser_with(&programs, WITH_THIRD_PARTIES);
    for app in &SAME_SITES {
        browser.open(&app.url("/login/alice"));
        browser.assert_shows("alice is here");
    }
    let every = [Fetch, Image, Frame, FormInFrame, Link, Form];
    let none: &[Deed] = &[];
    for (from, app, tried, carrying) in [
        (OTHER, &LAX, &every[..], &[Link][..]),
        (OTHER, &STRICT, &every, none),
        (OTHER, &NONE, &every, &every),
        // At the top level it is the app's own, and in another's page it is that one's.
        (OTHER, &PARTITIONED, &every, &[Link, Form]),
        (SIBLING, &LAX, &[Fetch, Frame, Form], &[Fetch, Frame, Form]),
        (
            SIBLING,
            &STRICT,
            &[Fetch, Frame, Form],
            &[Fetch, Frame, Form],
        ),
        (SIBLING_BY_HTTP, &LAX, &[Fetch, Link, Form], &[Link]),
        (SIBLING_BY_HTTP, &STRICT, &[Fetch, Link, Form], none),
    ] {
        for deed in tried {
            server.forget();
            deed.ask(&browser, from, &app.url("/who"));
            let seen = server.seen(app.host, "/who");
            assert_eq!(seen.method, deed.method());
            assert_eq!(
                !seen.cookies.is_empty(),
                carrying.contains(deed),
                "{deed:?} of {from} to {}",
                app.host
            );
        }
    }
}

#[test]
fn who_follows_a_link_to_a_strict_cookies_app_is_logged_in_from_the_next_click_on() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let server = start();
    let browser = server.browser(&programs);
    browser.open(&STRICT.url("/login/alice"));
    Link.ask(&browser, OTHER, &STRICT.url("/who"));
    browser.assert_shows("nobody is here");
    browser.click("a");
    browser.assert_shows("alice is here");
}

/// Chromium sends a cookie without `SameSite` with such posts for its first two minutes.
#[test]
fn a_post_of_another_site_carries_no_cookie_of_a_minute_ago() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let server = start();
    let browser = server.browser(&programs);
    browser.open(&LAX.url("/login/alice"));
    browser.run("document.cookie = 'unsaid=1; Secure; Path=/'");
    browser.run("document.cookie = 'said=1; Secure; Path=/; SameSite=Lax'");
    server.forget();
    Form.ask(&browser, OTHER, &LAX.url("/who"));
    browser.assert_shows("nobody is here");
    assert_eq!(server.seen(LAX.host, "/who").pairs(), ["unsaid=1"]);
}

#[test]
fn what_another_site_embeds_or_fetches_sets_and_removes_no_cookie() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let server = start();
    let browser = server.browser_with(&programs, WITH_THIRD_PARTIES);
    for app in [LAX, STRICT] {
        browser.open(&app.url("/login/alice"));
        let own = jar::only(&browser);
        for page in ["/login/mallory", "/write", "/logout"] {
            for deed in [Fetch, Frame] {
                ask_and_wait(&browser, deed, &app.url(page));
                assert_eq!(
                    jar::all(&browser),
                    std::slice::from_ref(&own),
                    "{deed:?} {page}"
                );
            }
        }
        jar::clear(&browser);
    }
    // What it does where it may.
    for deed in [Fetch, Frame] {
        jar::clear(&browser);
        ask_and_wait(&browser, deed, &NONE.url("/login/mallory"));
        assert_eq!(jar::only(&browser).domain, NONE.host, "{deed:?}");
    }
}

/// Has a page of another site make the request, and waits for the response.
fn ask_and_wait(browser: &Browser, deed: Deed, url: &str) {
    deed.ask(browser, OTHER, url);
    if deed == Frame {
        browser.enter_frame("iframe");
        browser.assert_shows(" is here");
    }
}

/// `SameSite` says which requests carry the cookie, and not which responses set it.
#[test]
fn a_post_of_another_site_logs_in_and_out_unless_it_is_refused() {
    /// By the layer of tower-http.
    const GUARDED: Configuration = Configuration {
        host: "guarded.shop.test",
        ..LAX
    };
    /// By tokens of the session, and by the origin where there is none.
    const TOKENS: Configuration = Configuration {
        host: "tokens.shop.test",
        ..LAX
    };
    const UNHARMED: &str = "alice is here, 0 writes";
    let Some(programs) = Programs::find() else {
        return;
    };
    let by_origin = shop_with(GUARDED.choose, |pages| pages.layer(CsrfLayer::new()));
    let by_token = shop_with(GUARDED.choose, |pages| {
        pages.layer(from_extractor::<CsrfGuard>())
    });
    let pages = ["other.test", "evil.shop.test"].map(|host| (host, blank()));
    let guarded = [(GUARDED.host, by_origin), (TOKENS.host, by_token)];
    let sites = [LAX.site(), STRICT.site()].into_iter().chain(guarded);
    let server = Server::start(HTTP_2, sites.chain(pages));
    let browser = server.browser(&programs);
    for (from, app, page, left) in [
        (OTHER, &LAX, "/login/mallory", "mallory is here, 0 writes"),
        (
            OTHER,
            &STRICT,
            "/login/mallory",
            "mallory is here, 0 writes",
        ),
        (SIBLING, &LAX, "/login/mallory", "mallory is here, 0 writes"),
        // Without the cookie, it begins a session of nobody, and with it, it is a write to the user's.
        (OTHER, &LAX, "/write", "nobody is here, 1 writes"),
        (SIBLING, &LAX, "/write", "alice is here, 1 writes"),
        (OTHER, &GUARDED, "/login/mallory", UNHARMED),
        (SIBLING, &GUARDED, "/login/mallory", UNHARMED),
        (OTHER, &GUARDED, "/write", UNHARMED),
        (SIBLING, &GUARDED, "/write", UNHARMED),
        (OTHER, &TOKENS, "/login/mallory", UNHARMED),
        (SIBLING, &TOKENS, "/login/mallory", UNHARMED),
        (OTHER, &TOKENS, "/write", UNHARMED),
        (SIBLING, &TOKENS, "/write", UNHARMED),
    ] {
        jar::clear(&browser);
        browser.open(&app.url("/login/alice"));
        let own = jar::only(&browser);
        server.forget();
        Form.ask(&browser, from, &app.url(page));
        server.seen(app.host, page);
        browser.open(&app.url("/who"));
        browser.assert_shows(left);
        assert_eq!(jar::only(&browser) == own, left.starts_with("alice"));
    }
    for app in [GUARDED, TOKENS] {
        // A form of its own is no such post.
        jar::clear(&browser);
        Form.ask(&browser, &app.url("/who"), &app.url("/login/bob"));
        browser.assert_shows("bob is here");
        // Nor is a link, which neither guard looks at.
        Link.ask(&browser, OTHER, &app.url("/login/mallory"));
        browser.assert_shows("mallory is here");
    }
}

#[test]
fn where_third_parties_have_no_cookies_an_embedded_app_has_a_partitioned_one() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let server = start();
    let browser = server.browser_with(&programs, WITHOUT_THIRD_PARTIES);
    let framed = |site: &str, app: &Configuration, page: &str, whose: &str| {
        Frame.ask(&browser, site, &app.url(page));
        browser.enter_frame("iframe");
        browser.assert_shows(&format!("{whose} is here"));
    };
    framed(OTHER, &NONE, "/login/alice", "alice");
    assert_eq!(jar::all(&browser), Vec::<Kept>::new());
    framed(OTHER, &NONE, "/who", "nobody");

    // A jar of its own in each site's pages, and in the app's.
    framed(OTHER, &PARTITIONED, "/login/alice", "alice");
    framed(THIRD, &PARTITIONED, "/who", "nobody");
    framed(THIRD, &PARTITIONED, "/login/bob", "bob");
    browser.open(&PARTITIONED.url("/who"));
    browser.assert_shows("nobody is here");
    framed(OTHER, &PARTITIONED, "/who", "alice");
    let sites = || {
        let mut sites: Vec<_> = jar::all(&browser)
            .into_iter()
            .map(|kept| kept.partition_key.unwrap().top_level_site)
            .collect();
        sites.sort();
        sites
    };
    assert_eq!(sites(), ["https://other.test", "https://third.test"]);

    framed(OTHER, &PARTITIONED, "/logout", "nobody");
    assert_eq!(sites(), ["https://third.test"]);
    framed(OTHER, &PARTITIONED, "/who", "nobody");
    framed(THIRD, &PARTITIONED, "/who", "bob");
}
