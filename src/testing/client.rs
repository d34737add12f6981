//! A browser's cookies around an app, without a network.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cookie::Cookie;
use http::header::{CONTENT_TYPE, COOKIE, HOST, HeaderValue, SET_COOKIE};
use http::{HeaderName, Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower_service::Service;

use super::lock;
use crate::clock::{Clock, SystemClock};

mod jar;
mod response;

use self::jar::Jar;
pub use self::jar::RejectedCookie;
pub use self::response::TestResponse;

/// The host that the requests of a [`TestClient`] go to.
const TEST_HOST: &str = "app.example.com";

/// A browser as far as cookies go, which calls an axum `Router` or any other tower service without a
/// network.
///
/// It keeps the cookies that responses set, and sends them with the requests that follow, by the rules of
/// RFC 6265bis for `https://app.example.com`: path, domain, `Max-Age` and `Expires`, the name prefixes
/// `__Secure-`, `__Host-`, `__Http-` and `__Host-Http-`. A cookie that a browser would refuse is not
/// stored and is among the [`rejected_cookies`](Self::rejected_cookies). What has nothing to do with
/// sessions is left out: it follows no redirect, and takes every request for one from the site itself.
///
/// Requests may overlap, and then share the cookies as the tabs of one browser do. A clone is another
/// browser with a copy of the cookies (as a thief has it who read them); [`new_window`](Self::new_window)
/// shares them.
///
/// ```
/// use axum::Router;
/// use axum::http::{HeaderMap, StatusCode};
/// use axum::routing::{get, post};
/// use cloakroom::testing::TestClient;
///
/// # #[tokio::main] async fn main() {
/// let app = Router::new()
///     .route("/hello", get(async |headers: HeaderMap| {
///         headers.get("cookie").map_or("nobody".into(), |cookie| cookie.to_str().unwrap().to_owned())
///     }))
///     .route("/name", post(async |name: String| [("set-cookie", format!("{name}; Path=/; Secure"))]));
///
/// let client = TestClient::new(app);
/// assert_eq!(client.get("/hello").await.text(), "nobody");
/// let response = client.post_form("/name", &[("name", "alice")]).await;
/// assert_eq!(response.status(), StatusCode::OK);
/// assert_eq!(client.cookie("name").as_deref(), Some("alice"));
/// assert_eq!(client.get("/hello").await.text(), "name=alice");
/// # }
/// ```
///
/// The service is cloned for each request. Its request body is `B`, for which a service that does not take
/// every body needs [`with_body`](Self::with_body).
///
/// A service that fails (with an error, not with a status) makes the test panic, and so does a response
/// body that breaks off.
pub struct TestClient<S, B = Full<Bytes>> {
    service: S,
    jar: Arc<Mutex<Jar>>,
    clock: Arc<dyn Clock>,
    body: PhantomData<fn() -> B>,
}

impl<S> TestClient<S> {
    /// A client without cookies for a service that takes any request body, as an axum `Router` does.
    pub fn new(service: S) -> Self {
        Self::with_body(service)
    }
}

impl<S, B> TestClient<S, B> {
    /// A client without cookies for a service whose request body is `B`.
    ///
    /// ```
    /// use axum::body::Body;
    /// use axum::http::{Request, Response};
    /// use cloakroom::testing::TestClient;
    ///
    /// # #[tokio::main] async fn main() {
    /// let service = tower::service_fn(async |request: Request<Body>| {
    ///     Ok::<_, std::convert::Infallible>(Response::new(request.into_body()))
    /// });
    /// let client = TestClient::<_, Body>::with_body(service);
    /// assert_eq!(client.post_form("/", &[("echo", "1")]).await.text(), "echo=1");
    /// # }
    /// ```
    pub fn with_body(service: S) -> Self {
        Self {
            service,
            jar: Arc::default(),
            clock: Arc::new(SystemClock),
            body: PhantomData,
        }
    }

    /// Lets cookies expire by this clock, which is the one of the operating system by default.
    ///
    /// Give it the [`ManualClock`](super::ManualClock) of the app, and persistent cookies last as long as
    /// they do in a browser.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sends with each request what this header had in the last response that had it, and `first` before
    /// that: as a program does that gets its session's id in an
    /// [`id_header`](crate::SessionLayerBuilder::id_header), and not in a cookie.
    ///
    /// # Panics
    ///
    /// If they are no name or no value of a header.
    ///
    /// ```
    /// use axum::{Router, response::Result, routing::get};
    /// use cloakroom::testing::TestClient;
    /// use cloakroom::{Session, SessionLayer, store::MemoryStore};
    ///
    /// async fn visits(session: Session) -> Result<String> {
    ///     Ok(session.update("visits", |n: &mut u64| *n += 1)?.to_string())
    /// }
    ///
    /// # #[tokio::main] async fn main() -> Result<(), cloakroom::ConfigError> {
    /// let sessions = SessionLayer::builder(MemoryStore::new()).id_header("X-Auth-Token").build()?;
    /// let app = Router::new().route("/", get(visits)).layer(sessions);
    /// let program = TestClient::new(app).sends_back("X-Auth-Token", "new");
    /// assert_eq!(program.get("/").await.text(), "1");
    /// assert_eq!(program.get("/").await.text(), "2");
    /// # Ok(()) }
    /// ```
    pub fn sends_back(
        self,
        header: impl TryInto<HeaderName, Error: fmt::Debug>,
        first: &str,
    ) -> Self {
        match (header.try_into(), HeaderValue::try_from(first)) {
            (Ok(name), Ok(value)) => lock(&self.jar).sent_back = Some((name, value)),
            (Err(error), _) => panic!("this is not the name of a header: {error:?}"),
            (_, Err(error)) => panic!("{first:?} is no value of a header: {error}"),
        }
        self
    }

    /// Another window of the same browser: it has the same cookies, now and later.
    pub fn new_window(&self) -> Self
    where
        S: Clone,
    {
        Self {
            service: self.service.clone(),
            jar: self.jar.clone(),
            clock: self.clock.clone(),
            body: PhantomData,
        }
    }

    /// The cookies that a request to `/` and the paths below may send, in the order of their creation, with
    /// the attributes they were set with.
    pub fn cookies(&self) -> Vec<Cookie<'static>> {
        lock(&self.jar).cookies(self.clock.now())
    }

    /// The value of the cookie of this name, whatever its path.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let cookies = self.cookies();
        let cookie = cookies.iter().find(|cookie| cookie.name() == name)?;
        Some(cookie.value().to_owned())
    }

    /// Puts a cookie into the browser, for all paths and until it is closed, without any of the checks that
    /// one of a response goes through: so that a test can send what an attacker would.
    ///
    /// It takes the place of the cookie of this name that a response set for all paths.
    pub fn set_cookie(&self, name: &str, value: &str) {
        lock(&self.jar).put(name, value);
    }

    /// Removes all cookies.
    pub fn clear_cookies(&self) {
        lock(&self.jar).clear();
    }

    /// Closes the browser and opens it again: only cookies with a `Max-Age` or `Expires` are still there.
    pub fn end_browser_session(&self) {
        lock(&self.jar).end_browser_session();
    }

    /// The `Set-Cookie` headers that a browser would have refused, of all responses so far.
    pub fn rejected_cookies(&self) -> Vec<RejectedCookie> {
        lock(&self.jar).rejected().to_vec()
    }

    /// Sends a GET request.
    pub async fn get<R>(&self, path: &str) -> TestResponse
    where
        S: Service<Request<B>, Response = Response<R>, Error: fmt::Debug, Future: Send>
            + Clone
            + Send
            + Sync,
        B: From<Bytes> + Send,
        R: Body<Data: Send, Error: fmt::Debug> + Send,
    {
        self.send(request(Method::GET, path, Bytes::new())).await
    }

    /// Sends a POST request with an empty body.
    pub async fn post<R>(&self, path: &str) -> TestResponse
    where
        S: Service<Request<B>, Response = Response<R>, Error: fmt::Debug, Future: Send>
            + Clone
            + Send
            + Sync,
        B: From<Bytes> + Send,
        R: Body<Data: Send, Error: fmt::Debug> + Send,
    {
        self.send(request(Method::POST, path, Bytes::new())).await
    }

    /// Sends a POST request with these fields, as an HTML form does
    /// (`application/x-www-form-urlencoded`).
    pub async fn post_form<R>(&self, path: &str, fields: &[(&str, &str)]) -> TestResponse
    where
        S: Service<Request<B>, Response = Response<R>, Error: fmt::Debug, Future: Send>
            + Clone
            + Send
            + Sync,
        B: From<Bytes> + Send,
        R: Body<Data: Send, Error: fmt::Debug> + Send,
    {
        let mut request = request(Method::POST, path, form_urlencoded(fields).into());
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        self.send(request).await
    }

    /// Sends a request with the cookies that are due, and keeps those of its response.
    ///
    /// A request that has a `Cookie` header is sent with that and no other, so that a test can send any
    /// bytes. `Host` is added where it is missing.
    ///
    /// ```
    /// # use axum::{Router, routing::delete};
    /// use axum::http::Request;
    /// use cloakroom::testing::TestClient;
    ///
    /// # #[tokio::main] async fn main() {
    /// # let app = Router::new().route("/account", delete("deleted"));
    /// let client = TestClient::new(app);
    /// let request = Request::delete("/account").body(Default::default()).unwrap();
    /// assert_eq!(client.send(request).await.text(), "deleted");
    /// # }
    /// ```
    pub async fn send<R>(&self, mut request: Request<B>) -> TestResponse
    where
        S: Service<Request<B>, Response = Response<R>, Error: fmt::Debug, Future: Send>
            + Clone
            + Send
            + Sync,
        B: Send,
        R: Body<Data: Send, Error: fmt::Debug> + Send,
    {
        let path = request.uri().path().to_owned();
        self.add_headers(&mut request, &path);

        let mut service = self.service.clone();
        if let Err(error) = poll_fn(|context| service.poll_ready(context)).await {
            panic!("the service is not ready: {error:?}");
        }
        let response = match service.call(request).await {
            Ok(response) => response,
            Err(error) => panic!("the service failed: {error:?}"),
        };

        let (parts, body) = response.into_parts();
        // As a browser does, with the headers, and not after the body.
        lock(&self.jar).store_all(parts.headers.get_all(SET_COOKIE), &path, self.clock.now());
        lock(&self.jar).keep_sent_back(&parts.headers);
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => panic!("the body of the response broke off: {error:?}"),
        };
        TestResponse {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    fn add_headers(&self, request: &mut Request<B>, path: &str) {
        let headers = request.headers_mut();
        if !headers.contains_key(HOST) {
            headers.insert(HOST, HeaderValue::from_static(TEST_HOST));
        }
        if let Some((name, value)) = &lock(&self.jar).sent_back {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        if headers.contains_key(COOKIE) {
            return;
        }
        let cookies = lock(&self.jar).header(path, self.clock.now());
        if cookies.is_empty() {
            return;
        }
        match HeaderValue::try_from(cookies) {
            Ok(cookies) => headers.insert(COOKIE, cookies),
            Err(error) => panic!("a cookie that was set by hand cannot be sent: {error}"),
        };
    }
}

fn request<B: From<Bytes>>(method: Method, path: &str, body: Bytes) -> Request<B> {
    match Request::builder()
        .method(method)
        .uri(path)
        .body(body.into())
    {
        Ok(request) => request,
        Err(error) => panic!("{path:?} is not a path to send a request to: {error}"),
    }
}

/// The fields as `application/x-www-form-urlencoded` (URL standard §5.2).
fn form_urlencoded(fields: &[(&str, &str)]) -> String {
    let mut form = String::new();
    for (name, value) in fields {
        if !form.is_empty() {
            form.push('&');
        }
        push_encoded(&mut form, name);
        form.push('=');
        push_encoded(&mut form, value);
    }
    form
}

fn push_encoded(form: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'*' | b'-' | b'.' | b'_' => {
                form.push(char::from(byte));
            }
            b' ' => form.push('+'),
            _ => form.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// Another browser with a copy of the cookies, and with the same clock.
impl<S: Clone, B> Clone for TestClient<S, B> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            jar: Arc::new(Mutex::new(lock(&self.jar).clone())),
            clock: self.clock.clone(),
            body: PhantomData,
        }
    }
}

impl<S, B> fmt::Debug for TestClient<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClient")
            .field("jar", &lock(&self.jar))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
