//! The same app with each library.

use std::convert::Infallible;
use std::hint::black_box;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderValue, Request, Response};
use axum::routing::{RouterIntoService, get};
use axum_session::{SessionConfig, SessionNullPool};
use tokio::runtime::Runtime;
use tower::Service;
use tower_layer::Identity;

use crate::scenarios::{Scenario, Size};
use crate::{Result, by_hand};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Library {
    /// A layer that does nothing: what the measuring itself costs.
    None,
    /// No library: what nobody can do without, and nothing else.
    ByHand,
    TowerSessions,
    AxumSession,
    Cloakroom,
}

impl Library {
    pub(crate) const ALL: [Self; 5] = [
        Self::None,
        Self::ByHand,
        Self::TowerSessions,
        Self::AxumSession,
        Self::Cloakroom,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no layer",
            Self::ByHand => "by hand",
            Self::TowerSessions => "tower-sessions",
            Self::AxumSession => "axum_session",
            Self::Cloakroom => "cloakroom",
        }
    }
}

/// An app, and the request that it is sent.
pub(crate) struct App {
    pub(crate) library: Library,
    router: RouterIntoService<Body>,
    path: String,
    cookie: Option<HeaderValue>,
}

impl App {
    /// The app with the library's memory store and its default settings.
    pub(crate) fn new(runtime: &Runtime, library: Library) -> Result<Self> {
        let router = match library {
            Library::None => without(),
            Library::ByHand => by_hand::app(key, value),
            Library::TowerSessions => with_tower_sessions(),
            Library::AxumSession => runtime.block_on(with_axum_session())?,
            Library::Cloakroom => with_cloakroom(),
        };
        // One of the layers starts a task when it is put around a route.
        let _entered = runtime.enter();
        Ok(Self {
            library,
            // Routes are made once, and not anew with each request.
            router: router.with_state(()).into_service(),
            path: "/unused".to_owned(),
            cookie: None,
        })
    }

    /// Has it sent the request of this scenario, to a session with one small key.
    pub(crate) fn prepare(&mut self, runtime: &Runtime, scenario: Scenario) -> Result<()> {
        self.visit(runtime, "/write")?;
        self.send(scenario);
        Ok(())
    }

    /// As [`prepare`](Self::prepare), with so much more in the session.
    pub(crate) fn fill(&mut self, runtime: &Runtime, scenario: Scenario, size: Size) -> Result<()> {
        self.visit(runtime, &format!("/fill/{}/{}", size.keys, size.bytes))?;
        self.send(scenario);
        Ok(())
    }

    pub(crate) fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = self.path.parse().unwrap_or_default();
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert(COOKIE, cookie.clone());
        }
        request
    }

    pub(crate) async fn call(&mut self, request: Request<Body>) -> Response<Body> {
        let response: std::result::Result<_, Infallible> = self.router.call(request).await;
        response.unwrap_or_default()
    }

    /// Keeps the cookies of the response.
    fn visit(&mut self, runtime: &Runtime, path: &str) -> Result<()> {
        self.path = path.to_owned();
        self.cookie = None;
        let request = self.request();
        let response = runtime.block_on(self.call(request));
        if !response.status().is_success() {
            return Err(format!("{} answers {}", self.library.name(), response.status()).into());
        }
        let mut cookies = Vec::new();
        for line in response.headers().get_all(SET_COOKIE) {
            cookies.push(line.to_str()?.split(';').next().unwrap_or_default());
        }
        self.cookie = match &*cookies {
            [] if self.library == Library::None => Some(HeaderValue::from_static("id=none")),
            [] => return Err(format!("{} sets no cookie", self.library.name()).into()),
            cookies => Some(cookies.join("; ").parse()?),
        };
        Ok(())
    }

    fn send(&mut self, scenario: Scenario) {
        self.path = scenario.path().to_owned();
        self.cookie.take_if(|_| !scenario.has_cookie());
    }
}

async fn unused() {}

fn key(number: usize) -> String {
    format!("key-{number}")
}

fn value((keys, bytes): (usize, usize)) -> String {
    "x".repeat(bytes / keys)
}

fn without() -> Router {
    Router::new()
        .route("/unused", get(unused))
        .route("/read", get(unused))
        .route("/write", get(unused))
        .route("/fill/{keys}/{bytes}", get(unused))
        .layer(Identity::new())
}

fn with_tower_sessions() -> Router {
    use tower_sessions::session::Error;
    use tower_sessions::{MemoryStore, Session, SessionManagerLayer};

    async fn read(session: Session) {
        black_box(session.get::<u64>("n").await.ok());
    }
    async fn add_one(session: Session) -> std::result::Result<(), Error> {
        let n = session.get::<u64>("n").await?.unwrap_or_default();
        session.insert("n", n + 1).await
    }
    async fn fill(session: Session, Path(size): Path<(usize, usize)>) {
        let filled = async {
            session.insert("n", 1_u64).await?;
            for number in 0..size.0 {
                session.insert(&key(number), value(size)).await?;
            }
            Ok::<_, Error>(())
        };
        filled.await.expect("a memory store does not fail");
    }
    async fn write(session: Session) {
        add_one(session)
            .await
            .expect("a memory store does not fail");
    }
    Router::new()
        .route("/unused", get(unused))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/fill/{keys}/{bytes}", get(fill))
        .layer(SessionManagerLayer::new(MemoryStore::default()))
}

async fn with_axum_session() -> Result<Router> {
    use axum_session::{SessionLayer, SessionStore};
    type Session = axum_session::Session<SessionNullPool>;

    async fn read(session: Session) {
        black_box(session.get::<u64>("n"));
    }
    async fn write(session: Session) {
        let n: u64 = session.get("n").unwrap_or_default();
        session.set("n", n + 1);
    }
    async fn fill(session: Session, Path(size): Path<(usize, usize)>) {
        session.set("n", 1_u64);
        for number in 0..size.0 {
            session.set(&key(number), value(size));
        }
    }
    let store = SessionStore::<SessionNullPool>::new(None, SessionConfig::default()).await?;
    Ok(Router::new()
        .route("/unused", get(unused))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/fill/{keys}/{bytes}", get(fill))
        .layer(SessionLayer::new(store)))
}

fn with_cloakroom() -> Router {
    use cloakroom::store::MemoryStore;
    use cloakroom::{Error, Session, SessionLayer};

    async fn read(session: Session) {
        black_box(session.get::<u64>("n").ok());
    }
    async fn write(session: Session) -> std::result::Result<(), Error> {
        let n = session.get::<u64>("n")?.unwrap_or_default();
        session.insert("n", n + 1)
    }
    async fn fill(
        session: Session,
        Path(size): Path<(usize, usize)>,
    ) -> std::result::Result<(), Error> {
        session.insert("n", 1_u64)?;
        for number in 0..size.0 {
            session.insert(&*key(number), value(size))?;
        }
        Ok(())
    }
    let store = MemoryStore::new().max_records(100_000_000);
    Router::new()
        .route("/unused", get(unused))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/fill/{keys}/{bytes}", get(fill))
        .layer(SessionLayer::new(store))
}
