//! The cookie over the wire: how it is set and removed, to the byte, and what a request's cookies open.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/http_surface.rs"]
mod http_surface;

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{AppendHeaders, IntoResponse, Result};
use axum::routing::get;
use cloakroom::store::MemoryStore;
use cloakroom::testing::{Calls, ManualClock, SpyStore, TestClient};
use cloakroom::{SameSite, Session, SessionLayer, SessionLayerBuilder, Timeouts};

use self::http_surface::{get as get_with, get_both_ways, visit};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

const SET: &str = "__Host-Http-id=<id>; HttpOnly; SameSite=Lax; Secure; Path=/";
const REMOVED: &str = "__Host-Http-id=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0; \
                       Expires=Thu, 01 Jan 1970 00:00:00 GMT";

type Spy = SpyStore<MemoryStore>;
type Choose = fn(SessionLayerBuilder) -> SessionLayerBuilder;

struct Rig {
    app: Router,
    spy: Spy,
    clock: ManualClock,
}

fn rig(choose: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder) -> Rig {
    let spy = SpyStore::new(MemoryStore::new());
    let clock = ManualClock::new();
    let builder = SessionLayer::builder(spy.clone()).clock(clock.clone());
    let app = Router::new()
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/renew", get(renew))
        .route("/persist", get(persist))
        .route("/login", get(log_in))
        .route("/logout", get(log_out))
        .route("/everything", get(everything))
        .route("/clobber", get(clobber))
        .route("/clobber-and-read", get(clobber_and_read))
        .layer(choose(builder).build().unwrap());
    Rig { app, spy, clock }
}

fn defaults() -> Rig {
    rig(|builder| builder)
}

async fn read(session: Session) -> &'static str {
    match session.is_new() {
        true => "none",
        false => "live",
    }
}

async fn write(session: Session) -> Result<()> {
    session.update("n", |n: &mut u64| *n += 1)?;
    Ok(())
}

async fn renew(session: Session) -> Result<()> {
    Ok(session.renew_id()?)
}

async fn persist(session: Session) -> Result<()> {
    session.insert("n", 1)?;
    Ok(session.persistent_cookie()?)
}

async fn log_in(session: Session) -> Result<()> {
    Ok(session.login("alice").await?)
}

async fn log_out(session: Session) -> Result<()> {
    Ok(session.logout().await?)
}

/// Each thing that sets or removes a cookie, in one request.
async fn everything(session: Session) -> Result<()> {
    session.insert("n", 1)?;
    session.save().await?;
    session.login("alice").await?;
    session.renew_id()?;
    session.save().await?;
    session.logout().await?;
    session.insert("n", 2)?;
    session.persistent_cookie()?;
    Ok(())
}

/// Cookies of the handler's own, among which are some of the session's name.
const CLOBBERED: AppendHeaders<[(axum::http::HeaderName, &str); 5]> = AppendHeaders([
    (SET_COOKIE, "a=1"),
    (SET_COOKIE, "__Host-Http-id=evil; Path=/; Secure"),
    (SET_COOKIE, "a=2; Path=/x"),
    (SET_COOKIE, " \t__Host-Http-id =worse"),
    (SET_COOKIE, "__Host-Http-id2=3"),
]);

async fn clobber(session: Session) -> Result<impl IntoResponse> {
    session.insert("n", 1)?;
    Ok(CLOBBERED)
}

async fn clobber_and_read(session: Session) -> impl IntoResponse {
    assert!(!session.contains_key("n"));
    AppendHeaders([(SET_COOKIE, "a=1"), (SET_COOKIE, "b=2")])
}

/// The live session that a first write makes, as `name=id`.
async fn live(rig: &Rig) -> String {
    let pair = visit(&rig.app, "/write").await.pair();
    rig.spy.reset();
    pair
}

// How the cookie is set and removed.

#[tokio::test]
async fn the_cookie_is_set_on_creation_renewal_and_login_and_removed_on_logout() {
    let Rig { app, clock, .. } = defaults();
    let client = TestClient::new(app).clock(clock);
    let mut ids = Vec::new();
    for (path, expected) in [
        ("/read", None),
        ("/write", Some(SET)),
        ("/read", None),
        ("/write", None),
        ("/renew", Some(SET)),
        ("/read", None),
        ("/login", Some(SET)),
        ("/write", None),
        ("/login", Some(SET)),
        ("/logout", Some(REMOVED)),
        ("/read", None),
        ("/logout", None),
        ("/write", Some(SET)),
    ] {
        let response = client.get(path).await.assert_status(StatusCode::OK);
        let lines: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        let lines: Vec<_> = lines.iter().map(|line| line.to_str().unwrap()).collect();
        let shown: Vec<_> = lines
            .iter()
            .map(|line| http_surface::without_id(line))
            .collect();
        assert_eq!(shown, Vec::from_iter(expected), "{path}");
        if expected == Some(SET) {
            ids.push(lines[0].to_owned());
        }
    }
    assert!(client.rejected_cookies().is_empty());
    let issued = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), issued, "no id was issued twice");
}

#[tokio::test]
async fn the_cookie_is_the_same_over_a_real_connection() {
    let rig = defaults();
    for answer in get_both_ways::<&str>(&rig.app, "/write", &[]).await {
        assert_eq!(answer.set_cookies(), [SET]);
        let removed = get_both_ways(&rig.app, "/logout", &[answer.pair()]).await;
        // The second one comes after the session ended, and so only tells a browser to forget it.
        for answer in removed {
            assert_eq!(answer.set_cookies(), [REMOVED]);
        }
    }
}

#[tokio::test]
async fn a_touch_sets_no_cookie() {
    let rig = defaults();
    let pair = live(&rig).await;
    rig.clock.advance(HOUR / 2);
    let answer = get_with(&rig.app, "/read", &[&pair]).await;
    assert_eq!(answer.body, "live");
    assert_eq!(
        rig.spy.calls(),
        Calls {
            load: 1,
            touch: 1,
            ..Calls::default()
        }
    );
    assert!(answer.set_cookies().is_empty());
}

#[tokio::test]
async fn a_renewal_on_schedule_sets_the_cookie_once_it_is_due() {
    let rig = rig(|builder| builder.renew_ids_every(HOUR / 2));
    let pair = live(&rig).await;
    rig.clock.advance(HOUR / 2 - Duration::from_millis(1));
    let early = get_with(&rig.app, "/read", &[&pair]).await;
    assert!(early.set_cookies().is_empty());
    rig.clock.advance(Duration::from_millis(1));
    let due = get_with(&rig.app, "/read", &[&pair]).await;
    assert_eq!(due.set_cookies(), [SET]);
    assert_ne!(due.pair(), pair);
    assert_eq!(
        get_with(&rig.app, "/read", &[due.pair()]).await.body,
        "live"
    );
}

#[tokio::test]
async fn a_persistent_cookie_lasts_until_the_absolute_timeout() {
    let rig = defaults();
    let client = TestClient::new(rig.app.clone()).clock(rig.clock.clone());
    let set = |response: cloakroom::testing::TestResponse| {
        let lines = response.headers().get_all(SET_COOKIE).iter();
        let lines = lines.map(|line| http_surface::without_id(line.to_str().unwrap()));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(
        set(client.get("/persist").await),
        [format!("{SET}; Max-Age=86400")]
    );
    assert!(set(client.get("/write").await).is_empty());
    rig.clock.advance(HOUR / 2);
    // The deadline stays where it is, however often the cookie is sent.
    assert_eq!(
        set(client.get("/renew").await),
        [format!("{SET}; Max-Age=84600")]
    );
    assert_eq!(
        set(client.get("/persist").await),
        [format!("{SET}; Max-Age=84600")]
    );
    client.end_browser_session();
    assert_eq!(client.get("/read").await.text(), "live");
}

#[tokio::test]
async fn no_cookie_is_asked_to_last_longer_than_400_days() {
    let rig = rig(|builder| builder.timeouts(Timeouts::without_idle(DAY * 1_000)));
    let answer = visit(&rig.app, "/persist").await;
    assert_eq!(answer.set_cookies(), [format!("{SET}; Max-Age=34560000")]);
}

/// Each option of the builder, and the cookie without its value.
const OPTIONS: [(Choose, &str, &str); 10] = [
    (
        |b| b.cookie_name("sid"),
        "__Host-Http-sid",
        "; HttpOnly; SameSite=Lax; Secure; Path=/",
    ),
    (
        |b| b.domain("Example.COM"),
        "__Secure-id",
        "; HttpOnly; SameSite=Lax; Secure; Path=/; Domain=example.com",
    ),
    (
        |b| b.path("/app"),
        "__Secure-id",
        "; HttpOnly; SameSite=Lax; Secure; Path=/app",
    ),
    (
        |b| b.same_site(SameSite::Strict),
        "__Host-Http-id",
        "; HttpOnly; SameSite=Strict; Secure; Path=/",
    ),
    (
        |b| b.same_site(SameSite::None),
        "__Host-Http-id",
        "; HttpOnly; SameSite=None; Secure; Path=/",
    ),
    (
        |b| b.same_site(SameSite::None).partitioned(),
        "__Host-Http-id",
        "; HttpOnly; SameSite=None; Partitioned; Secure; Path=/",
    ),
    (
        |b| b.insecure_readable_by_scripts(),
        "__Host-id",
        "; SameSite=Lax; Secure; Path=/",
    ),
    (
        |b| b.insecure_for_development(),
        "id",
        "; HttpOnly; SameSite=Lax; Path=/",
    ),
    (
        |b| b.insecure_for_development().insecure_readable_by_scripts(),
        "id",
        "; SameSite=Lax; Path=/",
    ),
    (
        |b| {
            b.cookie_name("sid")
                .domain("example.com")
                .path("/app")
                .insecure_for_development()
        },
        "sid",
        "; HttpOnly; SameSite=Lax; Path=/app; Domain=example.com",
    ),
];

#[tokio::test]
async fn every_option_makes_one_cookie_that_sets_removes_and_is_found_again() {
    for (choose, name, attributes) in OPTIONS {
        let rig = rig(choose);
        let set = visit(&rig.app, "/write").await;
        assert_eq!(set.set_cookies(), [format!("{name}=<id>{attributes}")]);
        assert_eq!(
            get_with(&rig.app, "/read", &[set.pair()]).await.body,
            "live",
            "{name}"
        );
        let removed = get_with(&rig.app, "/logout", &[set.pair()]).await;
        assert_eq!(
            removed.set_cookies(),
            [format!(
                "{name}={attributes}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
            )]
        );
    }
}

#[tokio::test]
async fn our_cookie_appears_once_however_much_happens_in_a_request() {
    let rig = defaults();
    let old = live(&rig).await;
    for cookies in [vec![], vec![old]] {
        let answer = get_with(&rig.app, "/everything", &cookies).await;
        assert_eq!(answer.set_cookies(), [format!("{SET}; Max-Age=86400")]);
        assert_eq!(
            get_with(&rig.app, "/read", &[answer.pair()]).await.body,
            "live"
        );
    }
}

#[tokio::test]
async fn of_a_handlers_cookies_those_of_our_name_give_way_and_the_others_stay_in_order() {
    let rig = defaults();
    for answer in get_both_ways::<&str>(&rig.app, "/clobber", &[]).await {
        assert_eq!(
            answer.set_cookies(),
            ["a=1", "a=2; Path=/x", "__Host-Http-id2=3", SET]
        );
    }
    let untouched = visit(&rig.app, "/clobber-and-read").await;
    assert_eq!(untouched.set_cookies(), ["a=1", "b=2"]);
}

// What a request's cookies open.

#[tokio::test]
async fn what_is_no_id_never_reaches_the_store_and_is_no_failure() {
    let rig = defaults();
    let pair = live(&rig).await;
    let id = pair.strip_prefix("__Host-Http-id=").unwrap();
    let percent_encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let values: Vec<Vec<u8>> = [
        &b""[..],
        b"\0",
        b"\r\n",
        b"abc\r\nX-Injected: yes",
        b"../../../../etc/passwd",
        b"../../../../etc/passwd/./././././././././././././",
        b"' OR 1=1 --",
        b"1'; DROP TABLE sessions; --",
        b"null",
        b"[object Object]",
        b"=",
        b"\xFF\xFE\xFD",
    ]
    .into_iter()
    .map(<[u8]>::to_vec)
    .chain(
        [
            "x".repeat(10 * 1024),
            "A".repeat(47),
            "A".repeat(49),
            "A".repeat(96),
            "\u{e4}".repeat(24),
            format!("\"{id}\""),
            format!("'{id}'"),
            format!("\"{id}"),
            percent_encoded,
            format!("%{:02X}{}", id.as_bytes()[0], &id[1..]),
            id[..47].to_owned(),
            id[1..].to_owned(),
            format!("{id}="),
            format!("{id}=="),
            format!("{}=", &id[..47]),
            format!("{id}A"),
            format!("{id}.signature"),
            format!("s:{id}"),
            format!("{id},{id}"),
            format!("{id} {id}"),
            format!("+{}", &id[1..]),
            format!("{}/", &id[..47]),
            format!("\u{2000}{id}"),
            format!("{id}\u{a0}"),
        ]
        .map(String::into_bytes),
    )
    .collect();
    for value in values {
        let line = [b"__Host-Http-id=", &*value].concat();
        for path in ["/read", "/write", "/renew", "/logout"] {
            for answer in get_both_ways(&rig.app, path, &[&line]).await {
                let shown = String::from_utf8_lossy(&line);
                assert!(!answer.status.is_server_error(), "{shown:?}: {answer:?}");
                assert!(path != "/read" || answer.body != "live", "{shown:?}");
                assert_eq!(rig.spy.calls().load, 0, "{shown:?} was looked up");
                assert!(!answer.headers.contains_key("x-injected"));
            }
        }
        assert_eq!(rig.spy.calls().total(), rig.spy.calls().create);
        rig.spy.reset();
    }
    assert_eq!(
        get_with(&rig.app, "/read", &[pair]).await.body,
        "live",
        "the session is as it was"
    );
}

#[tokio::test]
async fn an_id_in_another_case_is_another_id() {
    let rig = defaults();
    let pair = live(&rig).await;
    let (name, id) = pair.split_once('=').unwrap();
    let swapped: String = id
        .chars()
        .map(|char| match char.is_ascii_lowercase() {
            true => char.to_ascii_uppercase(),
            false => char.to_ascii_lowercase(),
        })
        .collect();
    let answer = get_with(&rig.app, "/read", &[format!("{name}={swapped}")]).await;
    assert_eq!(answer.body, "none");
    assert_eq!(
        rig.spy.calls(),
        Calls {
            load: 1,
            ..Calls::default()
        }
    );
}

#[tokio::test]
async fn a_name_that_only_resembles_ours_is_another_cookie() {
    let rig = defaults();
    let pair = live(&rig).await;
    let id = pair.strip_prefix("__Host-Http-id=").unwrap();
    let names: [&[u8]; 23] = [
        b"%5F%5FHost-Http-id",
        b"_%5FHost-Http-id",
        b"__Host-Http-%69d",
        b"__HOST-HTTP-ID",
        b"__host-http-id",
        b"__Host-Http-ID",
        "\u{2000}__Host-Http-id".as_bytes(),
        "__Host-Http-id\u{2000}".as_bytes(),
        "\u{a0}__Host-Http-id".as_bytes(),
        b"\xA0__Host-Http-id",
        b"__Host-Http-id\x85",
        b"\x0B__Host-Http-id",
        b"\x0C__Host-Http-id",
        b"=__Host-Http-id",
        b" =__Host-Http-id",
        b"x=__Host-Http-id",
        b"\"__Host-Http-id\"",
        b"$Version=1, __Host-Http-id",
        b"__Host-Http-id2",
        b"__Host-Http-id ;",
        b"__Host-id",
        b"__Secure-id",
        b"id",
    ];
    for name in names {
        let shown = String::from_utf8_lossy(name);
        let line = [name, b"=", id.as_bytes()].concat();
        for answer in get_both_ways(&rig.app, "/read", &[&line]).await {
            // A byte that no header may hold is refused before it comes to us.
            let refused = answer.status == StatusCode::BAD_REQUEST;
            assert!(answer.body == "none" || refused, "{shown:?}: {answer:?}");
        }
        assert_eq!(rig.spy.total(), 0, "{shown:?} was looked up");
        // Nor does it stand in the way of our own.
        let other = [name, b"=evil"].concat();
        let both = [&*other, b"; ", pair.as_bytes(), b"; ", &*other].concat();
        for answer in get_both_ways(&rig.app, "/read", &[&both]).await {
            let refused = answer.status == StatusCode::BAD_REQUEST;
            assert!(answer.body == "live" || refused, "{shown:?}: {answer:?}");
        }
        rig.spy.reset();
    }
}

#[tokio::test]
async fn our_cookie_is_found_among_any_others() {
    let rig = defaults();
    let pair = live(&rig).await;
    let lines: [&[u8]; 9] = [
        b"a=1; {}; b=2",
        b"a=1;{};b=2",
        b" \t {} \t; b=2",
        b"a=\"1; {}",
        b"a=\xFF\xFE; {}",
        b"\xC3\xBC=\xF0\x9F\x8D\xAA; {}",
        b";; ;=;{};",
        b"$Version=1; {}; $Path=/",
        b"__Host-Http-id; {}; =__Host-Http-id=evil",
    ];
    for line in lines {
        let at = line.windows(2).position(|window| window == b"{}").unwrap();
        let line = [&line[..at], pair.as_bytes(), &line[at + 2..]].concat();
        for answer in get_both_ways(&rig.app, "/read", &[&line]).await {
            assert_eq!(answer.body, "live", "{:?}", String::from_utf8_lossy(&line));
        }
    }
}

#[tokio::test]
async fn all_cookie_lines_count_together_as_http_2_sends_them() {
    let rig = defaults();
    let pair = live(&rig).await;
    for lines in [
        vec!["a=1", &pair, "b=2"],
        vec![&pair, "a=1"],
        vec!["a=1", "", &pair],
        vec![&pair, &pair],
    ] {
        for answer in get_both_ways(&rig.app, "/read", &lines).await {
            assert_eq!(answer.body, "live", "{lines:?}");
        }
    }
    rig.spy.reset();
    for answer in get_both_ways(&rig.app, "/read", &[&*pair, "__Host-Http-id=evil"]).await {
        assert_eq!(
            answer.body, "none",
            "a second line cannot contradict the first"
        );
    }
    assert_eq!(rig.spy.total(), 0);
}

#[tokio::test]
async fn more_cookies_than_the_limits_are_no_session_and_no_work_for_the_store() {
    let rig = defaults();
    let pair = live(&rig).await;
    let padding = "x".repeat(64 * 1024);
    let pairs = vec!["a=1"; 5_000].join("; ");
    for lines in [
        vec![format!("{pair}; a={padding}")],
        vec![format!("a={padding}; {pair}")],
        vec![pair.clone(), format!("a={padding}")],
        vec![format!("{pair}; {pairs}")],
        vec![format!("{pairs}; {pair}")],
        vec![pair.clone(), pairs.clone()],
        vec![format!("{pair}{}", ";".repeat(5_000))],
    ] {
        for answer in get_both_ways(&rig.app, "/read", &lines).await {
            assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "none"));
        }
        assert_eq!(rig.spy.total(), 0);
    }
}

// The same name twice.

/// Ids that open a session each.
async fn two_live(rig: &Rig) -> (String, String) {
    (live(rig).await, live(rig).await)
}

/// What such lines open, in either order.
async fn read_in_either_order(rig: &Rig, one: &str, other: &str) -> String {
    let there = get_with(&rig.app, "/read", &[format!("{one}; {other}")]).await;
    let back = get_with(&rig.app, "/read", &[format!("{other}; {one}")]).await;
    let lines = get_with(&rig.app, "/read", &[one, other]).await;
    assert!(
        there.body == back.body && there.body == lines.body,
        "the order does not matter"
    );
    there.body
}

#[tokio::test]
async fn equal_values_count_as_one() {
    for choose in [
        (|b| b) as Choose,
        |b| b.path("/app"),
        |b| b.insecure_for_development(),
    ] {
        let rig = rig(choose);
        let pair = live(&rig).await;
        let thrice = format!("{pair}; a=1; {pair}; {pair}");
        assert_eq!(get_with(&rig.app, "/read", &[thrice]).await.body, "live");
        assert_eq!(
            rig.spy.calls(),
            Calls {
                load: 1,
                ..Calls::default()
            }
        );
    }
}

#[tokio::test]
async fn differing_values_under_a_host_name_are_no_session() {
    for choose in [(|b| b) as Choose, |b| b.insecure_readable_by_scripts()] {
        let rig = rig(choose);
        let (one, other) = two_live(&rig).await;
        let (name, _) = one.split_once('=').unwrap();
        for other in [other, format!("{name}=evil"), format!("{name}=")] {
            assert_eq!(
                read_in_either_order(&rig, &one, &other).await,
                "none",
                "{other}"
            );
        }
        assert_eq!(rig.spy.total(), 0);
    }
}

#[tokio::test]
async fn of_two_values_under_another_name_exactly_one_live_one_opens() {
    for choose in [(|b| b.path("/app")) as Choose, |b| {
        b.insecure_for_development()
    }] {
        let rig = rig(choose);
        let (one, other) = two_live(&rig).await;
        let (name, _) = one.split_once('=').unwrap();
        let unknown = format!("{name}={}", "A".repeat(48));
        let ended = live(&rig).await;
        get_with(&rig.app, "/logout", &[&ended]).await;
        for (second, expected) in [
            (&*unknown, "live"),
            (&*ended, "live"),
            (&*format!("{name}=evil"), "live"),
            (&*format!("{name}="), "live"),
            (&*other, "none"),
        ] {
            assert_eq!(
                read_in_either_order(&rig, &one, second).await,
                expected,
                "{second}"
            );
        }
        assert_eq!(read_in_either_order(&rig, &unknown, &ended).await, "none");
    }
}

#[tokio::test]
async fn of_three_differing_values_none_is_looked_up() {
    let rig = rig(|builder| builder.insecure_for_development());
    let (one, _) = two_live(&rig).await;
    for line in [
        format!("{one}; id=a; id=b"),
        format!("id=a; {one}; id=b"),
        format!("id=a; id=b; {one}"),
    ] {
        assert_eq!(get_with(&rig.app, "/read", &[line]).await.body, "none");
    }
    assert_eq!(rig.spy.total(), 0);
}

#[tokio::test]
async fn two_live_sessions_are_both_left_alone_by_a_write() {
    let rig = rig(|builder| builder.insecure_for_development());
    let (one, other) = two_live(&rig).await;
    let fresh = get_with(&rig.app, "/write", &[format!("{one}; {other}")]).await;
    assert_eq!(
        rig.spy.calls(),
        Calls {
            load: 2,
            create: 1,
            ..Calls::default()
        }
    );
    let fresh = fresh.pair();
    assert!(fresh != one && fresh != other);
}
