use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::routing::{any, get};
use http::StatusCode;
use http::header::HeaderMap;

use super::*;
use crate::testing::ManualClock;

/// An app that answers with the `Cookie` header, and sets the cookies that the request asks for: one in
/// each `x-set` header.
fn app() -> Router {
    Router::new().fallback(any(async |headers: HeaderMap| {
        let mut answer = HeaderMap::new();
        for value in headers.get_all("x-set") {
            answer.append(SET_COOKIE, value.clone());
        }
        let cookies = headers.get(COOKIE).map(|value| value.as_bytes().to_vec());
        (answer, cookies.unwrap_or_default())
    }))
}

async fn set(client: &TestClient<Router>, path: &str, set_cookies: &[&str]) -> TestResponse {
    let mut request = Request::get(path);
    for value in set_cookies {
        request = request.header("x-set", *value);
    }
    client.send(request.body(Full::default()).unwrap()).await
}

async fn sent(client: &TestClient<Router>, path: &str) -> String {
    client.get(path).await.text().to_owned()
}

#[tokio::test]
async fn cookies_are_kept_sent_and_replaced() {
    let client = TestClient::new(app());
    assert_eq!(sent(&client, "/").await, "");
    set(&client, "/", &["a=1; Secure", "b=\"2 %20\"; Path=/"]).await;
    assert_eq!(sent(&client, "/").await, "a=1; b=\"2 %20\"");
    set(&client, "/", &["a=3"]).await;
    assert_eq!(sent(&client, "/").await, "a=3; b=\"2 %20\"");
    assert_eq!(client.cookie("a").as_deref(), Some("3"));
    assert_eq!(client.cookie("c"), None);
    assert_eq!(client.cookies().len(), 2);
    client.clear_cookies();
    assert_eq!(sent(&client, "/").await, "");
}

#[tokio::test]
async fn a_removal_removes() {
    for removal in [
        "a=; Max-Age=0",
        "a=; Max-Age=-1",
        "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "a=; Max-Age=0; Expires=Thu, 01 Jan 2970 00:00:00 GMT",
    ] {
        let client = TestClient::new(app());
        set(&client, "/", &["a=1", "b=2"]).await;
        set(&client, "/", &[removal]).await;
        assert_eq!(sent(&client, "/").await, "b=2", "{removal}");
        assert!(client.rejected_cookies().is_empty());
    }
}

#[tokio::test]
async fn cookies_expire_by_the_clock() {
    let clock = ManualClock::new();
    let client = TestClient::new(app()).clock(clock.clone());
    set(
        &client,
        "/",
        &["a=1; Max-Age=60", "b=2", "c=3; Max-Age=99999999999"],
    )
    .await;
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(sent(&client, "/").await, "a=1; b=2; c=3");
    clock.advance(Duration::from_millis(1));
    assert_eq!(sent(&client, "/").await, "b=2; c=3");
    assert_eq!(client.cookie("a"), None);
    clock.advance(Duration::from_secs(400 * 24 * 60 * 60));
    assert_eq!(sent(&client, "/").await, "b=2");
}

#[tokio::test]
async fn closing_the_browser_ends_the_cookies_without_a_time() {
    let client = TestClient::new(app());
    set(
        &client,
        "/",
        &[
            "a=1; Max-Age=60",
            "b=2",
            "c=3; Expires=Thu, 01 Jan 2970 00:00:00 GMT",
        ],
    )
    .await;
    client.set_cookie("d", "4");
    client.end_browser_session();
    assert_eq!(sent(&client, "/").await, "a=1; c=3");
}

#[tokio::test]
async fn what_a_browser_refuses_is_not_stored_and_can_be_seen() {
    let long = format!("long={}", "x".repeat(4_093));
    let refused = [
        ("__Host-a=1; Path=/", "the prefix of its name needs Secure"),
        ("__Host-a=1; Secure", "the prefix of its name needs Path=/"),
        (
            "__Host-a=1; Secure; Path=/a",
            "the prefix of its name needs Path=/",
        ),
        (
            "__Host-a=1; Secure; Path=/; Domain=example.com",
            "the prefix of its name allows no Domain",
        ),
        (
            "__Host-Http-a=1; Secure; Path=/",
            "the prefix of its name needs HttpOnly",
        ),
        (
            "__Host-Http-a=1; Secure; HttpOnly",
            "the prefix of its name needs Path=/",
        ),
        (
            "__Host-Http-a=1; HttpOnly; Path=/",
            "the prefix of its name needs Secure",
        ),
        (
            "__Http-a=1; Secure",
            "the prefix of its name needs HttpOnly",
        ),
        (
            "__Secure-a=1; Path=/",
            "the prefix of its name needs Secure",
        ),
        ("__hOsT-a=1; Path=/", "the prefix of its name needs Secure"),
        ("a=1; SameSite=None", "SameSite=None needs Secure"),
        ("a=1; Partitioned", "Partitioned needs Secure"),
        (
            "a=1; Domain=example.org",
            "its Domain is not that of the request's host",
        ),
        (
            "a=1; Domain=ample.com",
            "its Domain is not that of the request's host",
        ),
        (
            "a=1; Domain=com",
            "its Domain is not that of the request's host",
        ),
        (
            "a=1; Domain=www.app.example.com",
            "its Domain is not that of the request's host",
        ),
        ("=1", "it has no name, or no value"),
        ("a", "it has no name, or no value"),
        (&long, "name and value have more than 4096 bytes"),
    ];
    for (header, reason) in refused {
        let client = TestClient::new(app());
        set(&client, "/", &[header]).await;
        assert_eq!(sent(&client, "/").await, "", "{header}");
        let expected = RejectedCookie {
            header: header.to_owned(),
            reason,
        };
        assert_eq!(client.rejected_cookies(), [expected]);
    }
}

#[tokio::test]
async fn what_a_browser_accepts_is_stored() {
    let longest = format!("long={}", "x".repeat(4_092));
    for header in [
        "__Host-a=1; Secure; Path=/",
        "__Host-Http-a=1; Secure; HttpOnly; Path=/; SameSite=Lax",
        "__Http-a=1; Secure; HttpOnly; Path=/; Domain=example.com",
        "__Secure-a=1; secure; path=/",
        "a=1; SameSite=None; Secure; Partitioned",
        "a=1; Domain=example.com",
        "a=1; Domain=.EXAMPLE.com",
        "a=1; Domain=app.example.com",
        "a=",
        &longest,
    ] {
        let client = TestClient::new(app());
        set(&client, "/", &[header]).await;
        let pair = header.split(';').next().unwrap();
        assert_eq!(sent(&client, "/").await, pair);
        assert!(client.rejected_cookies().is_empty(), "{header}");
    }
}

#[tokio::test]
async fn a_removal_that_a_browser_refuses_removes_nothing() {
    let client = TestClient::new(app());
    set(&client, "/", &["__Host-a=1; Secure; Path=/"]).await;
    set(&client, "/", &["__Host-a=; Path=/; Max-Age=0"]).await;
    assert_eq!(sent(&client, "/").await, "__Host-a=1");
    assert_eq!(client.rejected_cookies().len(), 1);
}

#[tokio::test]
async fn cookies_go_to_their_path_and_those_of_longer_paths_first() {
    let client = TestClient::new(app());
    set(
        &client,
        "/shop/cart",
        &["a=root; Path=/", "a=shop; Path=/shop", "b=default"],
    )
    .await;
    assert_eq!(sent(&client, "/shop").await, "a=shop; b=default; a=root");
    assert_eq!(
        sent(&client, "/shop/cart?x=1").await,
        "a=shop; b=default; a=root"
    );
    assert_eq!(sent(&client, "/shopping").await, "a=root");
    set(&client, "/", &["a=; Path=/shop; Max-Age=0"]).await;
    assert_eq!(sent(&client, "/shop").await, "b=default; a=root");
}

#[tokio::test]
async fn a_clone_is_another_browser_and_a_window_is_the_same() {
    let client = TestClient::new(app());
    set(&client, "/", &["a=1"]).await;
    let window = client.new_window();
    let other = client.clone();
    set(&client, "/", &["a=2"]).await;
    assert_eq!(sent(&window, "/").await, "a=2");
    assert_eq!(sent(&other, "/").await, "a=1");
    other.clear_cookies();
    set(&window, "/", &["a=3"]).await;
    assert_eq!(client.cookie("a").as_deref(), Some("3"));
}

#[tokio::test]
async fn a_cookie_header_of_the_test_is_sent_as_it_is() {
    let client = TestClient::new(app());
    client.set_cookie("a", "1");
    assert_eq!(sent(&client, "/").await, "a=1");
    let request = Request::get("/").header(COOKIE, "b=2;c");
    let response = client.send(request.body(Full::default()).unwrap()).await;
    assert_eq!(response.text(), "b=2;c");
}

#[tokio::test]
async fn requests_are_those_of_a_browser() {
    let app = Router::new().fallback(any(async |request: axum::extract::Request| {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let header = |name| parts.headers.get(name).map(|value| value.to_str().unwrap());
        format!(
            "{} {} {:?} {:?} {}",
            parts.method,
            parts.uri,
            header(HOST),
            header(CONTENT_TYPE),
            String::from_utf8_lossy(&body)
        )
    }));
    let client = TestClient::new(app);
    let host = "Some(\"app.example.com\")";
    assert_eq!(
        client.get("/a?b=c").await.text(),
        format!("GET /a?b=c {host} None ")
    );
    assert_eq!(
        client.post("/a").await.text(),
        format!("POST /a {host} None ")
    );
    let fields = [("name", "a b&=+ü*-._~"), ("empty", "")];
    assert_eq!(
        client.post_form("/a", &fields).await.text(),
        format!(
            "POST /a {host} Some(\"application/x-www-form-urlencoded\") \
             name=a+b%26%3D%2B%C3%BC*-._%7E&empty="
        )
    );
}

#[tokio::test]
async fn a_service_is_ready_before_it_is_called() {
    #[derive(Clone, Default)]
    struct Picky {
        ready: bool,
    }
    impl Service<Request<Full<Bytes>>> for Picky {
        type Response = Response<Full<Bytes>>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            self.ready = true;
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
            assert!(std::mem::take(&mut self.ready));
            std::future::ready(Ok(Response::new("ready".into())))
        }
    }
    let client = TestClient::new(Picky::default());
    assert_eq!(client.get("/").await.text(), "ready");
    assert_eq!(client.get("/").await.text(), "ready");
}

#[tokio::test]
async fn requests_may_overlap_and_run_in_tasks() {
    let meeting = Arc::new(tokio::sync::Barrier::new(2));
    let app = Router::new().route(
        "/",
        get(async move || {
            meeting.wait().await;
            "met"
        }),
    );
    let client = TestClient::new(app);
    let window = client.new_window();
    let other = tokio::spawn(async move { window.get("/").await });
    assert_eq!(client.get("/").await.text(), "met");
    assert_eq!(other.await.unwrap().text(), "met");
}

#[tokio::test]
async fn a_response_is_told_as_it_came() {
    let client = TestClient::new(app());
    let response = set(&client, "/", &["a=1; HttpOnly", "__Host-b=2"]).await;
    let set_cookies = response.set_cookies();
    assert_eq!(set_cookies.len(), 2);
    assert_eq!(set_cookies[0].http_only(), Some(true));
    assert_eq!(set_cookies[1].name(), "__Host-b");
    assert_eq!(response.headers().get_all(SET_COOKIE).iter().count(), 2);
    assert_eq!(response.header("x-none"), None);
    assert_eq!(response.body(), b"");
    assert_eq!(
        response.assert_status(StatusCode::OK).status(),
        StatusCode::OK
    );
}

#[tokio::test]
#[should_panic(expected = "the response has several headers set-cookie")]
async fn one_of_several_headers_is_not_taken_for_all() {
    let client = TestClient::new(app());
    set(&client, "/", &["a=1", "b=2"]).await.header(SET_COOKIE);
}

#[tokio::test]
#[should_panic(expected = "the status is 404 Not Found and should be 200 OK; the body is \"gone\"")]
async fn another_status_is_told_with_the_body() {
    let app = Router::new().route("/", get(async || (StatusCode::NOT_FOUND, "gone")));
    TestClient::new(app)
        .get("/")
        .await
        .assert_status(StatusCode::OK);
}
