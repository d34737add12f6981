//! A small HTTP client, and the cookies of a browser around it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cookie::{Cookie, time::Duration as MaxAge};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, LOCATION, SET_COOKIE, TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};

/// After that, a server that does not answer fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a request to this port of localhost, on a connection of its own, and reads the response.
pub(crate) fn exchange(port: u16, request: &Request<String>) -> Response<String> {
    let mut stream = TcpStream::connect(("localhost", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&encoded(port, request)).unwrap();
    read_response(&mut stream)
}

fn encoded(port: u16, request: &Request<String>) -> Vec<u8> {
    let body = request.body();
    let mut bytes = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri()).into_bytes();
    let own = [
        (HOST, format!("localhost:{port}")),
        (CONNECTION, "close".into()),
        (CONTENT_LENGTH, body.len().to_string()),
    ]
    .map(|(name, value)| (name, HeaderValue::try_from(value).unwrap()));
    let given = request.headers().iter();
    for (name, value) in own.iter().map(|(name, value)| (name, value)).chain(given) {
        bytes.extend(name.as_str().as_bytes());
        bytes.extend(b": ");
        bytes.extend(value.as_bytes());
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    bytes.extend(body.as_bytes());
    bytes
}

fn read_response(stream: &mut TcpStream) -> Response<String> {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    let mut head = Vec::new();
    while !head.ends_with(END_OF_HEAD) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let mut response = Response::builder().status(status);
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        response = response.header(name, value.trim());
    }
    let headers = response.headers_ref().unwrap();
    assert!(
        !headers.contains_key(TRANSFER_ENCODING),
        "this client reads no chunks"
    );
    let mut body = Vec::new();
    match headers.get(CONTENT_LENGTH) {
        Some(length) => {
            body.resize(length.to_str().unwrap().parse().unwrap(), 0);
            stream.read_exact(&mut body).unwrap();
        }
        None => {
            stream.read_to_end(&mut body).unwrap();
        }
    }
    response.body(String::from_utf8(body).unwrap()).unwrap()
}

/// A browser at `http://localhost`: it keeps cookies and sends them back, those that are `Secure` included,
/// as Chrome and Firefox do there. It follows no redirects, so that a test sees each.
#[derive(Clone)]
pub(crate) struct Client {
    port: u16,
    cookies: BTreeMap<String, String>,
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            cookies: BTreeMap::new(),
        }
    }

    /// The same browser, with the cookies that it has by now, at another port. To browsers it is the same site.
    #[allow(dead_code)]
    pub(crate) fn at(&self, port: u16) -> Self {
        Self {
            port,
            ..self.clone()
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> Response<String> {
        self.send(Request::get(path).body(String::new()).unwrap())
    }

    #[allow(dead_code)]
    pub(crate) fn post(&mut self, path: &str, form: &str) -> Response<String> {
        let request = Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(form.into()).unwrap())
    }

    pub(crate) fn send(&mut self, mut request: Request<String>) -> Response<String> {
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            let cookies = HeaderValue::try_from(cookies.join("; ")).unwrap();
            request.headers_mut().insert(COOKIE, cookies);
        }
        let response = exchange(self.port, &request);
        for cookie in response.headers().get_all(SET_COOKIE) {
            self.keep(&Cookie::parse(cookie.to_str().unwrap()).unwrap());
        }
        response
    }

    /// The only cookie that it has.
    pub(crate) fn cookie(&self) -> Option<(&str, &str)> {
        assert!(self.cookies.len() <= 1, "{:?}", self.cookies.keys());
        let (name, value) = self.cookies.first_key_value()?;
        Some((name, value))
    }

    fn keep(&mut self, cookie: &Cookie<'_>) {
        if cookie.name().starts_with("__Host-") {
            let fits = cookie.secure() == Some(true)
                && cookie.path() == Some("/")
                && cookie.domain().is_none();
            assert!(fits, "a browser would reject {cookie}");
        }
        if cookie.max_age() == Some(MaxAge::ZERO) {
            self.cookies.remove(cookie.name());
        } else {
            self.cookies
                .insert(cookie.name().into(), cookie.value().into());
        }
    }
}

/// The value of a header that a response has once, or not at all.
pub(crate) fn header(response: &Response<String>, name: HeaderName) -> Option<&str> {
    let mut values = response.headers().get_all(&name).iter();
    let value = values.next()?.to_str().unwrap();
    assert!(values.next().is_none(), "{name} is there more than once");
    Some(value)
}

/// Checks that a response redirects to this path, as one to a form has to: by a `GET`.
#[track_caller]
pub(crate) fn assert_leads_to(response: &Response<String>, path: &str) {
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(header(response, LOCATION), Some(path));
}
