//! What comes from a client and goes into a redirect never leads to another site, whatever browser reads it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use axum::Router;
use axum::extract::{Form, Query};
use axum::http::{Request, StatusCode};
use axum::routing::{get, post};
use cloakroom::guards::{LocalPath, ReturnTo};
use cloakroom::store::MemoryStore;
use cloakroom::testing::TestClient;
use cloakroom::{SessionLayer, SessionLayerBuilder};
use serde::Deserialize;
use url::Url;

const SITE: &str = "https://app.example";

const LOCAL: [&str; 23] = [
    "/",
    "/a",
    "/a/",
    "/a/b?c=d&e=f",
    "/?",
    "/?next=//evil.example",
    "/?a=../..",
    "/?a=%0d%0a%5c%2f",
    "/a//b",
    "/a:b@c",
    "/@evil.example",
    "/:80",
    "/evil.example",
    "/https://evil.example",
    "/files/a%2Fb",
    "/caf%C3%A9",
    "/a%20b",
    "/100%",
    "/%zz%4",
    "/.well-known/change-password",
    "/...",
    "/a.b/..c",
    "/a;b=c,d!$&(x)*+~_{}|^[]",
];

/// Each with what is wrong with it.
const ELSEWHERE: [(&str, &str); 58] = [
    ("", "begin with a slash"),
    ("a", "begin with a slash"),
    (" /a", "begin with a slash"),
    ("?a", "begin with a slash"),
    ("#a", "begin with a slash"),
    (".", "begin with a slash"),
    ("../a", "begin with a slash"),
    ("https://evil.example", "begin with a slash"),
    ("HTTPS://evil.example/", "begin with a slash"),
    ("https:evil.example", "begin with a slash"),
    ("https:/evil.example", "begin with a slash"),
    ("https:", "begin with a slash"),
    ("javascript:alert(1)", "begin with a slash"),
    ("data:text/html,x", "begin with a slash"),
    ("\t//evil.example", "begin with a slash"),
    ("\u{1}/a", "begin with a slash"),
    ("\\\\evil.example", "begin with a slash"),
    ("\\/evil.example", "begin with a slash"),
    ("%2f%2fevil.example", "begin with a slash"),
    ("\u{ff0f}/evil.example", "begin with a slash"),
    ("//", "two slashes"),
    ("//evil.example", "two slashes"),
    ("///evil.example", "two slashes"),
    ("//evil.example:443/a", "two slashes"),
    ("//user@evil.example", "two slashes"),
    ("//app.example@evil.example/", "two slashes"),
    ("/%2fevil.example", "two slashes"),
    ("/%2F/evil.example", "two slashes"),
    ("/\\evil.example", "character"),
    ("/\\/evil.example", "character"),
    ("/a\\b", "character"),
    ("/?a=\\", "character"),
    ("/\t/evil.example", "character"),
    ("/\n/evil.example", "character"),
    ("/\r/evil.example", "character"),
    ("/\r\nSet-Cookie: a=b", "character"),
    ("/\0/evil.example", "character"),
    ("/a\u{7f}", "character"),
    ("/a b", "character"),
    ("/a ", "character"),
    ("/\u{e9}", "character"),
    ("/\u{2215}evil.example", "character"),
    ("/\u{2028}/evil.example", "character"),
    ("/#//evil.example", "character"),
    ("/\"><script>", "character"),
    ("/'", "character"),
    ("/`", "character"),
    ("/%5cevil.example", "encoded backslash"),
    ("/%5Cevil.example", "encoded backslash"),
    ("/%09/evil.example", "control character"),
    ("/%0d%0aSet-Cookie:a=b", "control character"),
    ("/.//evil.example", "segment"),
    ("/..//evil.example", "segment"),
    ("/a/..//evil.example", "segment"),
    ("/a/../../b", "segment"),
    ("/%2e//evil.example", "segment"),
    ("/a/%2E.//evil.example", "segment"),
    ("/a%2f..", "segment"),
];

/// Where a browser goes that is led to this address by a page of the site (WHATWG URL).
fn led_to(address: &str, page: &str) -> Url {
    Url::parse(SITE)
        .unwrap()
        .join(page)
        .unwrap()
        .join(address)
        .unwrap()
}

#[test]
fn an_address_of_this_site_is_kept_as_it_is() {
    for address in LOCAL {
        let path: LocalPath = address
            .parse()
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        assert_eq!(path.as_str(), address);
        assert_eq!(path.to_string(), address);
        assert_eq!(path.as_ref(), address);
        let (path_alone, _) = address.split_once('?').unwrap_or((address, ""));
        assert_eq!(path.path(), path_alone);
    }
}

#[test]
fn an_address_that_may_lead_elsewhere_is_refused_with_the_reason_and_without_being_repeated() {
    for (address, reason) in ELSEWHERE {
        let error = address.parse::<LocalPath>().expect_err(address).to_string();
        assert!(
            error.starts_with("this is no path of this site: "),
            "{error}"
        );
        assert!(error.contains(reason), "{address:?}: {error}");
        assert!(!error.contains("evil"), "{error}");
    }
}

#[test]
fn an_address_has_at_most_2048_bytes() {
    let longest = format!("/{}", "a".repeat(2_047));
    assert!(longest.parse::<LocalPath>().is_ok());
    let error = format!("{longest}a").parse::<LocalPath>().unwrap_err();
    assert!(
        error.to_string().contains("longer than 2,048 bytes"),
        "{error}"
    );
}

/// Every address of up to six of the pieces that attacks are made of, a third of a million.
fn for_every_attack(mut check: impl FnMut(&str)) {
    const PIECES: [&str; 8] = ["/", "\\", ".", "%2e", "%2F", "%5c", "\t", "e:"];
    let mut addresses = vec![String::from("/")];
    for _ in 0..6 {
        let extend = |address: &String| PIECES.map(|piece| format!("{address}{piece}"));
        addresses = addresses.iter().flat_map(extend).collect();
        addresses.iter().for_each(|address| check(address));
    }
}

#[test]
fn no_combination_of_what_browsers_normalise_leads_to_another_site() {
    let (mut accepted, mut dangerous) = (0, 0);
    for_every_attack(|address| {
        let elsewhere = |page| match Url::parse(SITE).unwrap().join(page).unwrap().join(address) {
            Ok(url) => url.origin() != Url::parse(SITE).unwrap().origin(),
            Err(_) => true,
        };
        if elsewhere("/") {
            dangerous += 1;
        }
        if let Ok(path) = address.parse::<LocalPath>() {
            accepted += 1;
            assert!(!elsewhere("/"), "{address:?}");
            assert!(!elsewhere("/login?a=b"), "{address:?}");
            assert_is_settled(&path);
        }
    });
    // Or else this test would see nothing.
    assert!(accepted > 1_000, "{accepted}");
    assert!(dangerous > 10_000, "{dangerous}");
}

#[test]
fn the_addresses_of_the_table_stay_on_this_site_in_a_browser() {
    for address in LOCAL {
        for page in ["/", "/login", "/a/b/c?d=//e"] {
            let url = led_to(address, page);
            assert_eq!(url.origin().ascii_serialization(), SITE, "{address}");
        }
        assert_is_settled(&address.parse().unwrap());
    }
}

/// A browser changes nothing of where it leads, and neither does one that decodes the path first.
fn assert_is_settled(path: &LocalPath) {
    let url = led_to(path.as_str(), "/");
    assert_eq!(
        url.path().matches('/').count(),
        path.path().matches('/').count(),
        "{path}"
    );
    let decoded = percent_decoded(path.path());
    // An unencoded `?` or `#` ends the path, and leads nowhere else.
    let url = led_to(&decoded, "/");
    assert_eq!(
        url.origin().ascii_serialization(),
        SITE,
        "{path} as {decoded}"
    );
}

fn percent_decoded(text: &str) -> String {
    let pairs = format!("x={}", text.replace('+', "%2B").replace('&', "%26"));
    let (_, value) = url::form_urlencoded::parse(pairs.as_bytes())
        .next()
        .unwrap();
    value.into_owned()
}

#[test]
fn every_byte_alone_is_refused_unless_an_address_may_hold_it() {
    for byte in 0..=255u8 {
        let character = char::from(byte);
        let allowed = character.is_ascii_graphic() && !r#"\#"'<>`"#.contains(character);
        for address in [format!("/a{character}b"), format!("/?a{character}b")] {
            assert_eq!(address.parse::<LocalPath>().is_ok(), allowed, "{address:?}");
        }
    }
}

#[derive(Deserialize)]
struct Strict {
    next: LocalPath,
}

#[derive(Deserialize)]
struct Lenient {
    #[serde(default)]
    next: ReturnTo,
}

fn shown(ReturnTo(next): ReturnTo) -> String {
    next.map_or("none".to_owned(), |next| next.to_string())
}

fn pages() -> Router {
    Router::new()
        .route("/login", get(async |next: ReturnTo| shown(next)))
        .route(
            "/strict",
            get(async |Query(query): Query<Strict>| query.next.to_string()),
        )
        .route(
            "/query",
            get(async |Query(query): Query<Lenient>| shown(query.next)),
        )
        .route(
            "/form",
            post(async |Form(form): Form<Lenient>| shown(form.next)),
        )
        .route(
            "/go",
            get(async |ReturnTo(next): ReturnTo| next.unwrap_or_default().redirect()),
        )
}

fn client(choose: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder) -> TestClient<Router> {
    let layer = choose(SessionLayer::builder(MemoryStore::new()))
        .build()
        .unwrap();
    TestClient::new(pages().layer(layer))
}

fn escaped(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test]
async fn a_login_page_finds_the_next_page_in_the_query_or_in_a_form() {
    let client = TestClient::new(pages());
    for address in LOCAL {
        for path in ["/login", "/query", "/strict"] {
            let response = client
                .get(&format!("{path}?a=b&next={}", escaped(address)))
                .await;
            assert_eq!(response.text(), address, "{path}");
        }
        let response = client
            .post_form("/form", &[("a", "b"), ("next", address)])
            .await;
        assert_eq!(response.text(), address);
        let response = client.get(&format!("/go?next={}", escaped(address))).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        assert_eq!(response.header("location"), Some(address));
    }
}

#[tokio::test]
async fn a_next_page_elsewhere_is_none_and_the_redirect_goes_to_the_root() {
    let client = TestClient::new(pages());
    for (address, _) in ELSEWHERE {
        for path in ["/login", "/query"] {
            let response = client
                .get(&format!("{path}?next={}", escaped(address)))
                .await;
            assert_eq!(response.text(), "none", "{path} {address:?}");
        }
        let response = client.post_form("/form", &[("next", address)]).await;
        assert_eq!(response.text(), "none", "{address:?}");
        let response = client.get(&format!("/go?next={}", escaped(address))).await;
        assert_eq!(response.header("location"), Some("/"), "{address:?}");
        let response = client
            .get(&format!("/strict?next={}", escaped(address)))
            .await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{address:?}");
    }
    for path in [
        "/login",
        "/login?",
        "/login?a=/b",
        "/login?next",
        "/login?next=%ff%fe",
        "/query",
    ] {
        assert_eq!(client.get(path).await.text(), "none", "{path}");
    }
    assert_eq!(client.post_form("/form", &[]).await.text(), "none");
}

#[tokio::test]
async fn of_several_next_pages_the_first_counts() {
    let client = TestClient::new(pages());
    assert_eq!(client.get("/login?next=/a&next=/b").await.text(), "/a");
    assert_eq!(client.get("/login?next=//a&next=/b").await.text(), "none");
}

#[tokio::test]
async fn the_login_page_does_not_lead_to_itself() {
    let client = client(|builder| builder.login_page("/login?lang=en"));
    for (path, next) in [
        // The page itself.
        ("/go?next=/go", "/"),
        ("/go?next=/go%3Fnext=/a", "/"),
        // The login page of the layer.
        ("/go?next=/login", "/"),
        ("/go?next=/login%3Fnext=/a", "/"),
        ("/go?next=/login/help", "/login/help"),
        ("/go?next=/log", "/log"),
    ] {
        assert_eq!(
            client.get(path).await.header("location"),
            Some(next),
            "{path}"
        );
    }
}

#[tokio::test]
async fn in_a_nested_router_the_page_itself_is_known_by_its_whole_path() {
    let client = TestClient::new(Router::new().nest("/admin", pages()));
    for (path, next) in [
        ("/admin/go?next=/admin/go", "/"),
        ("/admin/go?next=/go", "/go"),
    ] {
        assert_eq!(
            client.get(path).await.header("location"),
            Some(next),
            "{path}"
        );
    }
    let request = Request::get("https://app.example/admin/go?next=/a").body(Default::default());
    let response = client.send(request.unwrap()).await;
    assert_eq!(response.header("location"), Some("/a"));
}

#[test]
fn a_local_path_reads_and_writes_as_text() {
    let path: LocalPath = serde_json::from_str(r#""/a?b=c""#).unwrap();
    assert_eq!(serde_json::to_string(&path).unwrap(), r#""/a?b=c""#);
    assert_eq!(format!("{path:?}"), r#""/a?b=c""#);
    let error = serde_json::from_str::<LocalPath>(r#""//a""#).unwrap_err();
    assert!(error.to_string().contains("two slashes"), "{error}");
    assert_eq!(
        serde_json::from_str::<ReturnTo>(r#""//a""#).unwrap(),
        ReturnTo(None)
    );
    assert_eq!(
        serde_json::from_str::<ReturnTo>("null").unwrap(),
        ReturnTo(None)
    );
}
