//! Browsers that write sessions while a server fails, and what each knows of what has to be there.
#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Result;
use axum::routing::{get, post};
use cloakroom::testing::TestClient;
use cloakroom::{Session, SessionLayer, SessionStore};

pub(crate) fn app(store: Arc<dyn SessionStore>, store_timeout: Duration) -> Router {
    let layer = SessionLayer::builder(store)
        .store_timeout(store_timeout)
        .build()
        .unwrap();
    Router::new()
        .route(
            "/",
            get(async |session: Session| -> Result<String> {
                let count = session.get::<u64>("count")?;
                Ok(count.map_or("none".into(), |count| count.to_string()))
            }),
        )
        .route(
            "/add",
            post(async |session: Session| -> Result<()> {
                session.update("count", |count: &mut u64| *count += 1)?;
                Ok(())
            }),
        )
        .route(
            "/end",
            post(async |session: Session| -> Result<()> { Ok(session.destroy().await?) }),
        )
        .layer(layer)
}

/// What a browser knows of its session.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) client: TestClient<Router>,
    /// What was acknowledged.
    added: u64,
    /// What may have been done: the answer was a 503.
    pub(crate) maybe_added: u64,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    None,
    Maybe,
    Acknowledged,
}

impl Known {
    /// Makes a session, counts in it, and ends every second one, until a request fails.
    pub(crate) async fn make(app: &Router, number: usize) -> Self {
        // Another browser, with no cookie as yet.
        let mut known = Self {
            client: TestClient::new(app.clone()),
            added: 0,
            maybe_added: 0,
            end: End::None,
        };
        for _ in 0..5 {
            if succeeds(&known.client, "/add").await {
                known.added += 1;
            } else {
                known.maybe_added += 1;
                return known;
            }
        }
        // To end a session, a browser needs to have got one.
        if number.is_multiple_of(2) {
            // What ends it is not the cookie that a browser has then, but a thief's.
            known.end = match succeeds(&known.client.clone(), "/end").await {
                true => End::Acknowledged,
                false => End::Maybe,
            };
        }
        known
    }

    pub(crate) fn went_well(&self) -> bool {
        self.maybe_added == 0 && self.end != End::Maybe
    }

    /// Whether the store answers. Then it has to have what was acknowledged, and nothing else but what may
    /// have been done.
    pub(crate) async fn is_there_as_acknowledged(&self) -> bool {
        let response = self.client.get("/").await;
        if response.status() != StatusCode::OK {
            return false;
        }
        let found = response.text();
        let is_right = match found.parse::<u64>() {
            Ok(count) => {
                self.end != End::Acknowledged
                    && (self.added..=self.added + self.maybe_added).contains(&count)
            }
            Err(_) => self.end != End::None || self.added == 0,
        };
        assert!(is_right, "{found} is there of {self:?}");
        true
    }
}

/// Whether a request is done. If not, it is the store that was unavailable.
async fn succeeds(client: &TestClient<Router>, path: &str) -> bool {
    match client.post(path).await.status() {
        StatusCode::OK => true,
        status => {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            false
        }
    }
}
