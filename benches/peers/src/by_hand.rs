//! What sessions cost at the least: no library, but the steps that none can do without, written out for this app alone.
//!
//! A cell in the request's extensions, in which the session is found again by the response; the cookie found and decoded;
//! SHA-256 of its secret; one look into a hash table under a lock; the digests compared; a look at the clock; JSON for the one
//! value; `Vary` and `Cache-Control`, or `Set-Cookie`. It lacks what makes a library of that: overlapping writes are lost,
//! nothing is bounded, nothing ends, and no mistake of a client or of a store is told from another.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{FromRequestParts, Path};
use axum::http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE, VARY};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pin_project_lite::pin_project;
use sha2::{Digest, Sha256};
use tower::Service;

type Handle = [u8; 16];
type Store = Arc<Mutex<HashMap<Handle, Record>>>;

const NAME: &str = "__Host-Http-id";
const IDLE: Duration = Duration::from_secs(3_600);

#[derive(Clone)]
struct Record {
    digest: [u8; 32],
    expires_at: SystemTime,
    /// Keys and their JSON.
    data: Arc<[(String, Vec<u8>)]>,
}

/// The session of a request.
struct Cell {
    store: Store,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    loaded: Option<(Handle, Record)>,
    staged: Vec<(String, Vec<u8>)>,
}

#[derive(Clone)]
pub(crate) struct Session(Arc<Cell>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let session: &Self = parts
            .extensions
            .get()
            .ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
        let session = session.clone();
        if let Some(loaded) = parts
            .headers
            .get(COOKIE)
            .and_then(|line| session.find(line))
        {
            lock(&session.0.inner).loaded = Some(loaded);
        }
        Ok(session)
    }
}

impl Session {
    fn find(&self, line: &HeaderValue) -> Option<(Handle, Record)> {
        let mut pairs = line.as_bytes().split(|&byte| byte == b';');
        let value = pairs.find_map(|pair| {
            let behind_name = pair.trim_ascii_start().strip_prefix(NAME.as_bytes())?;
            behind_name.strip_prefix(b"=")
        })?;
        let mut id = [0; 36];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut id).ok()?;
        let (handle, secret) = id[..length].split_first_chunk()?;
        let digest = Sha256::digest(secret);
        let record = lock(&self.0.store).get(handle)?.clone();
        let is_live = *digest == record.digest && record.expires_at > SystemTime::now();
        is_live.then_some((*handle, record))
    }

    pub(crate) fn get(&self, key: &str) -> Option<u64> {
        let inner = lock(&self.0.inner);
        let (_, record) = inner.loaded.as_ref()?;
        let (_, json) = record.data.iter().find(|(name, _)| name == key)?;
        serde_json::from_slice(json).ok()
    }

    pub(crate) fn insert(&self, key: &str, value: impl serde::Serialize) {
        let json = serde_json::to_vec(&value).unwrap_or_default();
        lock(&self.0.inner).staged.push((key.to_owned(), json));
    }
}

impl Cell {
    /// Writes what is staged, and says what the response tells of it.
    fn conclude(&self, response: &mut Response<axum::body::Body>) {
        let mut inner = lock(&self.inner);
        let was_live = inner.loaded.is_some();
        if !inner.staged.is_empty() {
            let mut data = std::mem::take(&mut inner.staged);
            let (handle, digest) = match inner.loaded.take() {
                Some((handle, record)) => {
                    let is_kept =
                        |(key, _): &&(String, _)| data.iter().all(|(name, _)| name != key);
                    let kept: Vec<_> = record.data.iter().filter(is_kept).cloned().collect();
                    data.extend(kept);
                    (handle, record.digest)
                }
                None => self.begin(response),
            };
            let record = Record {
                digest,
                expires_at: SystemTime::now() + IDLE,
                data: data.into(),
            };
            lock(&self.store).insert(handle, record);
        }
        if was_live {
            let headers = response.headers_mut();
            headers.insert(VARY, HeaderValue::from_static("Cookie"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
    }

    /// A fresh id, of which the response tells the browser.
    fn begin(&self, response: &mut Response<axum::body::Body>) -> (Handle, [u8; 32]) {
        let mut id = [0; 36];
        getrandom::fill(&mut id).expect("a random id");
        let (handle, secret) = id.split_at(16);
        let mut text = [0; 48];
        let length = URL_SAFE_NO_PAD.encode_slice(id, &mut text).unwrap_or(0);
        let attributes = b"; HttpOnly; SameSite=Lax; Secure; Path=/";
        let line = [NAME.as_bytes(), b"=", &text[..length], attributes].concat();
        let line = HeaderValue::try_from(line).expect("no byte that a header may not have");
        let headers = response.headers_mut();
        headers.insert(VARY, HeaderValue::from_static("Cookie"));
        headers.insert(SET_COOKIE, line);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        (
            handle.try_into().unwrap_or_default(),
            Sha256::digest(secret).into(),
        )
    }
}

#[derive(Clone)]
struct Layered<S> {
    inner: S,
    store: Store,
}

impl<S, B> Service<Request<B>> for Layered<S>
where
    S: Service<Request<B>, Response = Response<axum::body::Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Concluded<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let cell = Arc::new(Cell {
            store: self.store.clone(),
            inner: Mutex::default(),
        });
        request.extensions_mut().insert(Session(cell.clone()));
        Concluded {
            inner: self.inner.call(request),
            cell,
        }
    }
}

pin_project! {
    struct Concluded<F> {
        #[pin]
        inner: F,
        cell: Arc<Cell>,
    }
}

impl<F, E> Future for Concluded<F>
where
    F: Future<Output = Result<Response<axum::body::Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(context))?;
        this.cell.conclude(&mut response);
        Poll::Ready(Ok(response))
    }
}

pub(crate) fn app(key: fn(usize) -> String, value: fn((usize, usize)) -> String) -> Router {
    async fn unused() {}
    async fn read(session: Session) {
        std::hint::black_box(session.get("n"));
    }
    async fn write(session: Session) {
        let n = session.get("n").unwrap_or_default();
        session.insert("n", n + 1);
    }
    let fill = async move |session: Session, Path(size): Path<(usize, usize)>| {
        session.insert("n", 1);
        for number in 0..size.0 {
            session.insert(&key(number), value(size));
        }
    };
    let store = Store::default();
    Router::new()
        .route("/unused", get(unused))
        .route("/read", get(read))
        .route("/write", get(write))
        .route("/fill/{keys}/{bytes}", get(fill))
        .layer(tower_layer::layer_fn(move |inner| Layered {
            inner,
            store: store.clone(),
        }))
}
