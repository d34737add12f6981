//! An app whose store is a real one.

use std::time::Duration;

use axum::http::StatusCode;
use cloakroom::store::Handle;
use cloakroom::{SessionLayer, SessionStore};
use tracing::subscriber::DefaultGuard;

use super::answer::{Answer, By};
use super::captured_logs::Log;
use super::support::{COOKIE, Client, Transport, app, handle_of, with_errors_shown};

/// The limit for a store call in these apps.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_millis(500);

/// What the log says of a failed store call, up to what the store says itself.
pub(super) fn failed(operation: &str) -> String {
    format!(
        "ERROR cloakroom the session store failed event=\"store_failed\" handle=<handle> \
         operation=\"{operation}\" error="
    )
}

/// What it says of one that took too long.
pub(super) fn late(operation: &str) -> String {
    let failed = failed(operation);
    format!("{failed}no answer to `{operation}` within 500ms (SessionLayerBuilder::store_timeout)")
}

/// What it says of a record that is garbage, up to what is wrong with it.
pub(super) const UNDECODABLE: &str = "ERROR cloakroom a session record cannot be decoded; it is left as it is, and is no session \
     event=\"refused\" cause=\"undecodable\" handle=<handle> error=";

/// A browser with `a=1` in its session.
pub(super) struct AppOn {
    pub(super) client: Client,
    log: Log,
    _logging: Option<DefaultGuard>,
}

impl AppOn {
    pub(super) async fn new(store: impl SessionStore) -> Self {
        let (log, logging) = Log::of_this_thread();
        let app = Self {
            client: client(store, Duration::from_secs(60)),
            log,
            _logging: Some(logging),
        };
        app.post("/set/a/1").await.logs(&[]);
        app
    }

    /// The same browser, with the app on another connection to the store, or another setting of it.
    pub(super) fn over(&mut self, store: impl SessionStore) {
        self.use_client(client(store, Duration::from_secs(60)));
    }

    /// The same, with the short limit for a store call. For a store that is down, or silent.
    pub(super) fn impatiently_over(&mut self, store: impl SessionStore) {
        self.use_client(client(store, STORE_TIMEOUT));
    }

    fn use_client(&mut self, client: Client) {
        client.set_cookie(COOKIE, &self.client.cookie(COOKIE).unwrap());
        self.client = client;
    }

    /// As a browser that has no session yet.
    pub(super) fn newcomer(&self) -> Self {
        let client = self.client.clone();
        client.clear_cookies();
        Self {
            client,
            log: self.log.clone(),
            _logging: None,
        }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        Answer::to_get(&self.client, path, &self.log).await
    }

    pub(super) async fn post(&self, path: &str) -> Answer {
        Answer::to_post(&self.client, path, &self.log).await
    }

    /// With tokio's time: it passes only when nothing else can happen, as when a store does not answer.
    pub(super) async fn post_in_still_time(&self, path: &str) -> Answer {
        tokio::time::pause();
        let answer = self.post(path).await;
        tokio::time::resume();
        answer
    }

    /// Waits until the store answers again, twice in a row, and each time nothing is amiss. Between the two, a
    /// server that has just started may still be late, or reset a connection.
    pub(super) async fn is_unharmed_in_the_end(&self, contents: &str) {
        let until = std::time::Instant::now() + Duration::from_secs(60);
        let mut in_a_row = 0;
        while in_a_row < 2 {
            assert!(std::time::Instant::now() < until, "the store stays away");
            let answer = self.get("/show").await;
            if answer.response.status() == StatusCode::OK {
                answer.is_the_page(contents).logs(&[]);
                in_a_row += 1;
            } else {
                in_a_row = 0;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    pub(super) async fn is_unharmed(&self, contents: &str) {
        self.get("/show").await.is_the_page(contents).logs(&[]);
    }

    /// Nothing can be written, though it can be read: the session, a login on it, or a new session.
    pub(super) async fn refuses_writes(&self) {
        self.refuses("/set/a/2", "update", By::Commit).await;
        self.refuses("/login/alice", "update", By::Handler).await;
        let answer = self.newcomer().post("/set/b/2").await;
        answer
            .is_unavailable(By::Commit)
            .logs_what_begins(&[&failed("create")]);
    }

    /// As [`refuses_writes`](Self::refuses_writes), and nothing can be ended.
    pub(super) async fn refuses_writes_and_logouts(&self) {
        self.refuses_writes().await;
        self.refuses("/logout", "delete", By::Handler).await;
    }

    async fn refuses(&self, path: &str, operation: &str, by: By) {
        let answer = self.post(path).await;
        answer
            .is_unavailable(by)
            .logs_what_begins(&[&failed(operation)]);
        self.is_unharmed("nobody: a=1").await;
    }

    pub(super) fn handle(&self) -> Handle {
        handle_of(&self.client.cookie(COOKIE).unwrap())
    }
}

fn client(store: impl SessionStore, store_timeout: Duration) -> Client {
    let layer = SessionLayer::builder(store).store_timeout(store_timeout);
    let router = app().layer(layer.build().unwrap());
    Client::with_body(Transport::InProcess(with_errors_shown(router)))
}
