//! Sites of several hosts at one port of loopback, by HTTPS and HTTP, and what was asked of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::header::{COOKIE, HOST};
use axum::http::{Method, Request, StatusCode};
use axum::response::IntoResponse;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::browser::{Browser, Programs, Setting, Sites};
use crate::certificate::CERTIFICATE;

/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What TLS begins with: a record of the kind "handshake" (RFC 8446 §5.1).
const TLS: u8 = 22;

/// What HTTPS speaks, the best first.
pub(crate) const HTTP_1: &[&str] = &["http/1.1"];
pub(crate) const HTTP_2: &[&str] = &["h2", "http/1.1"];

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) scheme: &'static str,
    pub(crate) host: String,
    pub(crate) method: Method,
    /// With its query.
    pub(crate) path: String,
    /// The `Cookie` lines.
    pub(crate) cookies: Vec<Vec<u8>>,
}

/// Sites that are served until this value ends, and so when the test fails as well.
pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    _runtime: Runtime,
}

#[derive(Clone)]
struct Site {
    hosts: Arc<BTreeMap<&'static str, Router>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub(crate) fn start(
        protocols: &[&str],
        hosts: impl IntoIterator<Item = (&'static str, Router)>,
    ) -> Self {
        let site = Site {
            hosts: Arc::new(hosts.into_iter().collect()),
            seen: Arc::default(),
        };
        let seen = site.seen.clone();
        let tls = TlsAcceptor::from(CERTIFICATE.server(protocols));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, tls.clone(), site.clone()));
            }
        });
        Self {
            port,
            seen,
            _runtime: runtime,
        }
    }

    /// A browser with a fresh profile, to which these are the sites under `test`.
    pub(crate) fn browser(&self, programs: &Programs) -> Browser {
        self.browser_with(programs, Setting::PLAIN)
    }

    pub(crate) fn browser_with(&self, programs: &Programs, setting: Setting) -> Browser {
        browser_at(self.port, programs, setting)
    }

    /// The last request that came with this path and query. Waits until one has come.
    #[track_caller]
    pub(crate) fn seen(&self, host: &str, path: &str) -> Seen {
        let started = Instant::now();
        loop {
            let seen = self.seen.lock().unwrap().clone();
            let fits = |seen: &&Seen| seen.host == host && seen.path == path;
            if let Some(seen) = seen.iter().rev().find(fits) {
                return seen.clone();
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{path} of {host} was not asked for, but {seen:?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Forgets what came so far.
    pub(crate) fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }
}

impl Seen {
    /// The cookies, each as `name=value`, in the order in which they came.
    pub(crate) fn pairs(&self) -> Vec<String> {
        let lines = self.cookies.iter();
        let pairs = lines.flat_map(|line| line.split(|&byte| byte == b';'));
        pairs
            .map(|pair| pair.strip_prefix(b" ").unwrap_or(pair))
            .map(|pair| pair.escape_ascii().to_string())
            .collect()
    }
}

/// A browser to which the sites under `test` are at this port.
pub(crate) fn browser_at(port: u16, programs: &Programs, setting: Setting) -> Browser {
    let key = &CERTIFICATE.key_hash;
    let sites = Some(Sites { port, key });
    Browser::start(programs, Setting { sites, ..setting })
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, site: Site) {
    let mut first = [0];
    // A browser may connect in advance and then hang up, which is no concern of a test's.
    let Ok(1) = stream.peek(&mut first).await else {
        return;
    };
    if first != [TLS] {
        return answer(stream, "http", site).await;
    }
    if let Ok(stream) = tls.accept(stream).await {
        answer(stream, "https", site).await;
    }
}

async fn answer<S>(stream: S, scheme: &'static str, site: Site)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let site = site.clone();
        async move { site.respond(scheme, request).await }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    // A browser that ends in the middle of a request, likewise.
    let _: Result<_, _> = server.serve_connection(TokioIo::new(stream), service).await;
}

impl Site {
    async fn respond(
        &self,
        scheme: &'static str,
        request: Request<hyper::body::Incoming>,
    ) -> Result<axum::response::Response, std::convert::Infallible> {
        let seen = Seen::of(scheme, &request);
        let router = self.hosts.get(&*seen.host).cloned();
        self.seen.lock().unwrap().push(seen);
        match router {
            Some(router) => router.oneshot(request).await,
            None => Ok(StatusCode::NOT_FOUND.into_response()),
        }
    }
}

impl Seen {
    fn of<B>(scheme: &'static str, request: &Request<B>) -> Self {
        // HTTP/2 has it in the URI (RFC 9113 §8.3.1).
        let host = request.headers().get(HOST);
        let host = host.map(|host| host.to_str().unwrap());
        let host = host.or(request.uri().host()).unwrap();
        let cookies = request.headers().get_all(COOKIE).iter();
        Self {
            scheme,
            host: host.split(':').next().unwrap().to_owned(),
            method: request.method().clone(),
            path: request.uri().path_and_query().unwrap().to_string(),
            cookies: cookies.map(|line| line.as_bytes().to_vec()).collect(),
        }
    }
}
