//! The app whose handlers make the store's calls themselves, and nothing else: no middleware, no secret whose hash is
//! compared, no headers for caches, no id of the operating system's random source.
//!
//! The calls are those of cloakroom's stores, to the letter, through the same client: which script, and which SQL, the
//! server is asked after the store has used it. A change to the stores so changes this app as well. But each call goes by
//! itself, as the client and its pool have it: none with others, and no connection from one straight to the next.

use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use cloakroom::clock::from_unix_millis;
use cloakroom::store::{Handle, OffsetDateTime, Record, SessionStore, Version};

use self::postgres::Postgres;
use self::redis::Redis;
use super::{IDLE, shown, unused};
use crate::Result;
use crate::scenarios::Store;

mod postgres;
mod redis;

pub(super) async fn app(store: Store, sliding: bool) -> Result<Router> {
    match store {
        Store::Redis => Ok(routes(Redis::open().await?, sliding)),
        Store::Postgres | Store::PostgresUnsynced => {
            Ok(routes(Postgres::open(store).await?, sliding))
        }
        Store::Memory => Err("what is in memory needs no calls".into()),
    }
}

/// The calls of a store.
trait Calls: Clone + Send + Sync + 'static {
    fn load(&self, id: &Id) -> impl Future<Output = Result<Option<Row>>> + Send;

    /// Whether it was there, and had this version.
    fn touch(&self, id: &Id, version: u64, now: i64) -> impl Future<Output = Result<bool>> + Send;

    /// Whether it was there, and had this version.
    fn update(
        &self,
        id: &Id,
        version: u64,
        row: &Row,
        now: i64,
    ) -> impl Future<Output = Result<bool>> + Send;

    fn create(&self, id: &Id, row: &Row) -> impl Future<Output = Result<()>> + Send;
}

type Id = [u8; 16];

/// What is kept of a session.
struct Row {
    version: u64,
    created_at: i64,
    expires_at: i64,
    n: u64,
}

impl Row {
    fn new(n: u64, created_at: i64, now: i64) -> Self {
        Self {
            version: rand::random(),
            created_at,
            expires_at: expiry(now),
            n,
        }
    }
}

fn routes<C: Calls>(calls: C, sliding: bool) -> Router {
    let reading = if sliding {
        get(read_and_touch::<C>)
    } else {
        get(read::<C>)
    };
    Router::new()
        .route("/unused", get(unused))
        .route("/read", reading)
        .route("/write", get(write::<C>))
        .with_state(calls)
}

type Answer<T> = std::result::Result<T, StatusCode>;

async fn read<C: Calls>(State(calls): State<C>, headers: HeaderMap) -> Answer<String> {
    let (_, row) = live(&calls, &headers, now())
        .await?
        .ok_or(StatusCode::NOT_FOUND)?;
    shown(Some(row.n))
}

async fn read_and_touch<C: Calls>(State(calls): State<C>, headers: HeaderMap) -> Answer<String> {
    let now = now();
    let (id, row) = live(&calls, &headers, now)
        .await?
        .ok_or(StatusCode::NOT_FOUND)?;
    let touched = calls.touch(&id, row.version, now).await;
    done(touched)?;
    shown(Some(row.n))
}

async fn write<C: Calls>(State(calls): State<C>, headers: HeaderMap) -> Answer<impl IntoResponse> {
    let now = now();
    if let Some((id, row)) = live(&calls, &headers, now).await? {
        let new = Row::new(row.n + 1, row.created_at, now);
        let updated = calls.update(&id, row.version, &new, now).await;
        done(updated)?;
        return Ok((HeaderMap::new(), new.n.to_string()));
    }
    let (id, row) = (rand::random::<Id>(), Row::new(1, now, now));
    calls.create(&id, &row).await.map_err(failed)?;
    let cookie = format!(
        "id={}; HttpOnly; SameSite=Lax; Secure; Path=/",
        hexadecimal(&id)
    );
    let mut headers = HeaderMap::new();
    headers.insert(
        SET_COOKIE,
        cookie
            .parse()
            .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?,
    );
    Ok((headers, "1".to_owned()))
}

/// The session of the request's cookie.
async fn live<C: Calls>(calls: &C, headers: &HeaderMap, now: i64) -> Answer<Option<(Id, Row)>> {
    let Some(id) = brought(headers) else {
        return Ok(None);
    };
    let row = calls.load(&id).await.map_err(failed)?;
    Ok(row.filter(|row| row.expires_at > now).map(|row| (id, row)))
}

fn brought(headers: &HeaderMap) -> Option<Id> {
    let cookies = headers.get(COOKIE)?.to_str().ok()?;
    let digits = cookies
        .split("; ")
        .find_map(|cookie| cookie.strip_prefix("id="))?;
    let id = u128::from_str_radix(digits, 16).ok()?;
    Some(id.to_be_bytes())
}

fn hexadecimal(id: &Id) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    millis(since.unwrap_or_default())
}

fn expiry(now: i64) -> i64 {
    now + millis(IDLE)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn done(changed: Result<bool>) -> Answer<()> {
    match changed {
        Ok(true) => Ok(()),
        // No request overlaps with another one of its session here.
        Ok(false) => Err(StatusCode::CONFLICT),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: crate::Failure) -> StatusCode {
    eprintln!("by hand: {error}");
    StatusCode::INTERNAL_SERVER_ERROR
}

/// A session of the crate's own store, by whose operations the server learns what the store sends.
struct Sample<'a> {
    store: &'a dyn SessionStore,
    handle: Handle,
    record: Record,
    now: OffsetDateTime,
}

impl<'a> Sample<'a> {
    fn of(store: &'a dyn SessionStore) -> Self {
        let now = now();
        Self {
            store,
            handle: Handle::from_bytes(rand::random()),
            record: Record {
                version: Version::from_u64(1),
                created_at: from_unix_millis(now),
                expires_at: from_unix_millis(expiry(now)),
                user_id: None,
                payload: b"sample"[..].into(),
            },
            now: from_unix_millis(now),
        }
    }

    async fn create(&self) -> Result<()> {
        Ok(self.store.create(&self.handle, &self.record).await?)
    }

    async fn load(&self) -> Result<()> {
        self.store.load(&self.handle).await?;
        Ok(())
    }

    async fn update(&self) -> Result<()> {
        let version = self.record.version;
        let update = self
            .store
            .update(&self.handle, &self.record, version, self.now);
        update.await?;
        Ok(())
    }

    async fn touch(&self) -> Result<()> {
        let (expires_at, version) = (self.record.expires_at, self.record.version);
        let touch = self
            .store
            .touch(&self.handle, expires_at, version, self.now);
        touch.await?;
        Ok(())
    }
}
