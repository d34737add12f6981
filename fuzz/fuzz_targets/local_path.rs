//! What is taken for a path of this site is one to the WHATWG URL parser, percent-decoded or not.
#![no_main]

use cloakroom::guards::LocalPath;
use url::Url;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(path) = text.parse::<LocalPath>() else {
        return;
    };
    assert_eq!(path.as_str(), text);
    let site = Url::parse("https://app.example/some/page?query").unwrap();
    for address in [text.to_owned(), decoded(path.path())] {
        let led_to = site.join(&address).unwrap();
        assert_eq!(led_to.origin(), site.origin(), "{address}");
        assert_eq!(led_to.username(), "");
    }
    let led_to = site.join(text).unwrap();
    assert_eq!(decoded(led_to.path()), decoded(path.path()));
});

/// As something on the way might pass it on.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = hex.filter(|_| *first == b'%').and_then(|hex| {
            let digits = hex.bytes().all(|digit| digit.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(hex, 16).ok()).flatten()
        });
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
