//! Requests and responses to the byte, in process and over a TCP connection.
#![allow(dead_code)]

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{COOKIE, HeaderName, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

/// The characters of an id.
pub(crate) const ID_CHARS: usize = 48;

/// A response with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Every line of this header, in order.
    pub(crate) fn all(&self, name: HeaderName) -> Vec<&str> {
        let lines = self.headers.get_all(name).iter();
        lines.map(|line| line.to_str().unwrap()).collect()
    }

    /// The `Set-Cookie` lines, with `<id>` in place of each id.
    pub(crate) fn set_cookies(&self) -> Vec<String> {
        let lines = self.all(SET_COOKIE);
        lines.into_iter().map(without_id).collect()
    }

    /// The name and the value of the cookie that the only `Set-Cookie` line sets.
    pub(crate) fn pair(&self) -> String {
        let [line] = self.all(SET_COOKIE)[..] else {
            panic!("there is not one Set-Cookie line: {:?}", self.headers);
        };
        line.split("; ").next().unwrap().to_owned()
    }

    /// The value of that cookie.
    pub(crate) fn id(&self) -> String {
        let pair = self.pair();
        let (_, id) = pair.split_once('=').unwrap();
        assert!(is_id(id), "{id:?} is no id");
        id.to_owned()
    }
}

/// A `Set-Cookie` line with `<id>` in place of the id.
pub(crate) fn without_id(line: &str) -> String {
    let Some((name, rest)) = line.split_once('=') else {
        return line.to_owned();
    };
    let (value, attributes) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
    match is_id(value) {
        true => format!("{name}=<id>{attributes}"),
        false => line.to_owned(),
    }
}

fn is_id(value: &str) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    value.len() == ID_CHARS && value.bytes().all(is_base64url)
}

/// A GET request with these `Cookie` lines; `None` if one of them holds bytes that no header can.
pub(crate) fn request<L: AsRef<[u8]> + Sync>(path: &str, cookies: &[L]) -> Option<Request<Body>> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    for line in cookies {
        let line = HeaderValue::from_bytes(line.as_ref()).ok()?;
        request.headers_mut().append(COOKIE, line);
    }
    Some(request)
}

/// The answer to a request that comes without a network.
pub(crate) async fn call(app: &Router, request: Request<Body>) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(body.into()).unwrap(),
    }
}

/// The answer to a GET request with these `Cookie` lines, which comes without a network.
pub(crate) async fn get<L: AsRef<[u8]> + Sync>(app: &Router, path: &str, cookies: &[L]) -> Answer {
    call(app, request(path, cookies).unwrap()).await
}

/// The same for a request without cookies.
pub(crate) async fn visit(app: &Router, path: &str) -> Answer {
    get::<&str>(app, path, &[]).await
}

/// The answers to one and the same GET request in process and over TCP; over TCP alone if its lines hold
/// bytes that no header can.
pub(crate) async fn get_both_ways<L: AsRef<[u8]> + Sync>(
    app: &Router,
    path: &str,
    cookies: &[L],
) -> Vec<Answer> {
    let mut answers = Vec::new();
    if let Some(request) = request(path, cookies) {
        answers.push(call(app, request).await);
    }
    let address = serve(app.clone()).await;
    answers.push(get_over_tcp(address, path, cookies).await);
    answers
}

/// Serves an app on a free port of this machine, for as long as the test runs.
pub(crate) async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// The bytes of a GET request with these `Cookie` lines, whatever is in them.
pub(crate) fn request_bytes<L: AsRef<[u8]> + Sync>(path: &str, cookies: &[L]) -> Vec<u8> {
    let mut bytes =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n").into_bytes();
    for line in cookies {
        bytes.extend(b"Cookie: ");
        bytes.extend(line.as_ref());
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    bytes
}

/// The answer to a GET request with these `Cookie` lines, whose bytes go out as they are.
pub(crate) async fn get_over_tcp<L: AsRef<[u8]> + Sync>(
    address: SocketAddr,
    path: &str,
    cookies: &[L],
) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(&request_bytes(path, cookies))
        .await
        .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    parse(&String::from_utf8(bytes).unwrap())
}

/// A response of HTTP/1.1 whose body ends with the connection.
fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        let name = HeaderName::try_from(name.trim_end_matches(':')).unwrap();
        headers.append(name, HeaderValue::try_from(value).unwrap());
    }
    Answer {
        status: status.parse().unwrap(),
        headers,
        body: body.to_owned(),
    }
}
