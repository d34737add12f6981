//! A logout takes the cookie from the browser.

use crate::browser::Programs;
use crate::configurations::{ALL, Configuration};
use crate::jar::{self, Kept};
use crate::server::{HTTP_2, Server};

#[test]
fn a_logout_takes_every_kind_of_cookie_away() {
    let Some(programs) = Programs::find() else {
        return;
    };
    let server = Server::start(HTTP_2, ALL.iter().map(Configuration::site));
    let browser = server.browser(&programs);
    for configuration in &ALL {
        let (first, others) = configuration.logins().split_first().unwrap();
        let ways = [(*first, "/logout"), (*first, "/account/logout")];
        // Below `/account`, a removal that leaves its path to the browser is one of another cookie.
        let others = others.iter().map(|login| (*login, "/account/logout"));
        for (login, logout) in ways.into_iter().chain(others) {
            browser.open(&configuration.url(login));
            assert_eq!(jar::only(&browser).name, configuration.name);
            browser.open(&configuration.url(logout));
            browser.assert_shows("nobody is here");
            assert_eq!(jar::all(&browser), Vec::<Kept>::new(), "{login} {logout}");

            server.forget();
            browser.open(&configuration.url("/who"));
            browser.assert_shows("nobody is here");
            let seen = server.seen(configuration.host, &configuration.path_of("/who"));
            assert_eq!(seen.cookies, Vec::<Vec<u8>>::new());
        }
    }
}
