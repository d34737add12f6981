//! As much of an HTTP client as it takes to make sessions, to look into them, and to send requests in numbers.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;

/// A connection that is kept open, for one request at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// What `Set-Cookie` says the cookie is, its name included.
    pub(crate) cookie: Option<String>,
    pub(crate) body: String,
}

impl Connection {
    pub(crate) async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    pub(crate) async fn get(&mut self, path: &str, cookie: Option<&str>) -> Result<Reply> {
        self.send(request(path, cookie).as_bytes()).await
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Reply> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the app closed the connection".into());
            }
            if let Some(reply) = parse(&self.buffer)? {
                return Ok(reply);
            }
        }
    }
}

pub(crate) fn request(path: &str, cookie: Option<&str>) -> String {
    let cookie = cookie.map_or(String::new(), |cookie| format!("Cookie: {cookie}\r\n"));
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n")
}

/// The reply, once all of it is there.
fn parse(bytes: &[u8]) -> Result<Option<Reply>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end])?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or("the app does not answer with HTTP")?;
    let (mut length, mut cookie) = (None, None);
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header without a colon")?;
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>()?);
        } else if name.eq_ignore_ascii_case("set-cookie") {
            cookie = value.trim().split(';').next().map(str::to_owned);
        }
    }
    let body = &bytes[end + 4..];
    let length = length.ok_or("a reply that does not say how long it is")?;
    if body.len() < length {
        return Ok(None);
    }
    let body = String::from_utf8(body[..length].to_vec())?;
    Ok(Some(Reply {
        status,
        cookie,
        body,
    }))
}
