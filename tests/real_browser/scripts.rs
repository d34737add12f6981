//! No script of the app's own pages reads the cookie, or puts another in its place.

use serde_json::{Value, json};

use crate::browser::{Browser, Programs};
use crate::configurations::{ALL, Configuration, READABLE, STRICTEST};
use crate::jar::{self, Kept};
use crate::server::{HTTP_2, Server};
use crate::shop::{self, cookie_of};

/// What a script may try to put NAME=VALUE into the place of the cookie, or to take that away.
const TRIES: [&str; 8] = [
    "document.cookie = 'NAME=VALUE; Path=PATH'",
    "document.cookie = 'NAME=VALUE; Path=PATH; Secure'",
    "document.cookie = 'NAME=VALUE; Path=PATH; Secure; HttpOnly'",
    "document.cookie = 'NAME=; Path=PATH; Secure; Max-Age=0'",
    "document.cookie = '=NAME=VALUE; Path=PATH; Secure'",
    "return cookieStore.set({name: 'NAME', value: 'VALUE', path: 'PATH'}).catch(() => {})",
    "return cookieStore.set({name: 'NAME', value: '', path: 'PATH', expires: 1}).catch(() => {})",
    "return cookieStore.delete({name: 'NAME', path: 'PATH'}).catch(() => {})",
];

/// What a script can read of the cookies that are kept, and of one that is about to be set.
const READ: &str = "const kept = [document.cookie, (await cookieStore.getAll()).map(one => one.value)]; \
                    const answer = await fetch('LOGIN', {credentials: 'include'}); \
                    return [...kept, answer.headers.getSetCookie(), answer.headers.has('set-cookie')]";

#[test]
fn no_script_reads_the_cookie_or_takes_its_place() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let sites: Vec<_> = ALL.iter().map(Configuration::site).collect();
    let server = Server::start(HTTP_2, sites.clone());
    let browser = server.browser(&programs);
    for (configuration, (_, app)) in ALL.iter().zip(&sites) {
        if !configuration.is_http_only {
            continue;
        }
        jar::clear(&browser);
        browser.open(&configuration.url("/login/alice"));
        assert_eq!(read(&browser, configuration), json!(["", [], [], false]));
        let kept = jar::only(&browser);
        let of_mallory = cookie_of(app, &configuration.path_of("/login/mallory"));
        let mut others_were_planted = false;
        for script in TRIES {
            try_to_plant(&browser, configuration, script, &of_mallory);
            let (own, others): (Vec<_>, Vec<_>) =
                jar::all(&browser).into_iter().partition(|one| *one == kept);
            assert_eq!(own.len(), 1, "{script}");
            // Of a name that vouches for no host and path, there is room for another cookie.
            if !others.is_empty() {
                assert_eq!(configuration.name, "__Secure-id", "{script}: {others:?}");
                browser.open(&configuration.url("/who"));
                browser.assert_shows("nobody is here");
                others_were_planted = true;
            }
        }
        // So the tries do plant, where they may.
        assert_eq!(others_were_planted, configuration.name == "__Secure-id");
        if !others_were_planted {
            browser.open(&configuration.url("/who"));
            browser.assert_shows("alice is here");
        }
    }
}

#[test]
fn where_there_is_none_no_script_plants_a_cookie_of_the_default_name() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let app = shop::shop(STRICTEST.choose);
    let server = Server::start(HTTP_2, [(STRICTEST.host, app.clone())]);
    let browser = server.browser(&programs);
    browser.open(&STRICTEST.url("/who"));
    let of_mallory = cookie_of(&app, "/login/mallory");
    for script in TRIES {
        try_to_plant(&browser, &STRICTEST, script, &of_mallory);
        assert_eq!(jar::all(&browser), Vec::<Kept>::new(), "{script}");
    }
}

#[test]
fn a_cookie_that_is_readable_by_scripts_is_read_and_replaced() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let (host, app) = READABLE.site();
    let server = Server::start(HTTP_2, [(host, app.clone())]);
    let browser = server.browser(&programs);
    browser.open(&READABLE.url("/login/alice"));
    let Kept { name, value, .. } = jar::only(&browser);
    let pair = format!("{name}={value}");
    assert_eq!(read(&browser, &READABLE), json!([pair, [value], [], false]));
    let of_mallory = cookie_of(&app, "/login/mallory");
    try_to_plant(&browser, &READABLE, TRIES[1], &of_mallory);
    assert_eq!(jar::only(&browser).pair(), of_mallory);
}

fn read(browser: &Browser, configuration: &Configuration) -> Value {
    let script = READ.replace("LOGIN", &configuration.path_of("/login/alice"));
    browser.run(&format!("return (async () => {{ {script} }})()"))
}

fn try_to_plant(browser: &Browser, configuration: &Configuration, script: &str, pair: &str) {
    let (name, value) = pair.split_once('=').unwrap();
    let script = script
        .replace("NAME", name)
        .replace("VALUE", value)
        .replace("PATH", configuration.path);
    browser.run(&script);
}
