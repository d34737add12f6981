//! What comes of one request.

use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use cloakroom::testing::TestResponse;
use tokio::time::Instant;

use super::captured_logs::Log;
use super::support::Client;

/// The text of the crate's own errors of a store.
const UNAVAILABLE: &str = "The session is unavailable at the moment. Please try again.";

/// Tokio's timers count in milliseconds, and one that would end between two ends at the next.
const TICK: Duration = Duration::from_millis(2);

/// Whose 503 it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// The session could not be loaded, so no handler ran.
    Extractor,
    /// What the handler staged could not be saved, and its response was replaced by one of the app's type of
    /// body, which is known to have an empty one.
    Commit,
    /// The handler returned the error of a `login` or `logout`, in a session that was read.
    Handler,
    /// The same where there was no session yet: such a 503 is of nobody's.
    HandlerOfAVisitor,
}

/// What the client was told, what the log says from `WARN` on, and how long it took.
pub(super) struct Answer {
    pub(super) response: TestResponse,
    log: Vec<String>,
    took: Duration,
}

impl Answer {
    pub(super) async fn to_get(client: &Client, path: &str, log: &Log) -> Self {
        Self::of(client.get(path), log).await
    }

    pub(super) async fn to_post(client: &Client, path: &str, log: &Log) -> Self {
        Self::of(client.post(path), log).await
    }

    async fn of(request: impl Future<Output = TestResponse>, log: &Log) -> Self {
        log.clear();
        let start = Instant::now();
        let response = request.await;
        let took = start.elapsed();
        let lines = log.lines().into_iter();
        let told = lines.filter(|line| line.starts_with("ERROR ") || line.starts_with("WARN "));
        // What drivers say of their own besides.
        let told = told.filter(|line| !line.contains(" sqlx"));
        Self {
            response,
            log: told.map(|line| without_handle(&line)).collect(),
            took,
        }
    }

    /// A 503 without a cookie that says nothing of the server, and that no shared cache keeps.
    #[track_caller]
    pub(super) fn is_unavailable(&self, by: By) -> &Self {
        assert_eq!(self.response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let (text, caching) = match by {
            By::Extractor => (UNAVAILABLE, Some("no-store")),
            By::Commit => ("", Some("no-store")),
            By::Handler => (UNAVAILABLE, Some("private")),
            By::HandlerOfAVisitor => (UNAVAILABLE, None),
        };
        assert_eq!(self.response.text(), text);
        assert_eq!(self.response.header(CACHE_CONTROL), caching);
        assert!(self.response.set_cookies().is_empty());
        self
    }

    /// What the handler answered, without a cookie.
    #[track_caller]
    pub(super) fn is_the_page(&self, text: &str) -> &Self {
        assert_eq!(self.response.status(), StatusCode::OK);
        assert_eq!(self.response.text(), text);
        assert!(self.response.set_cookies().is_empty());
        self
    }

    /// These lines and no others, each as `LEVEL target message name=value …`, with `<handle>` for a handle.
    #[track_caller]
    pub(super) fn logs(&self, expected: &[&str]) -> &Self {
        assert_eq!(self.log, expected);
        self
    }

    /// As many lines as these, each of which begins with one: what follows are the words of a driver.
    #[track_caller]
    pub(super) fn logs_what_begins(&self, expected: &[&str]) -> &Self {
        let begins = |(line, expected): (&String, &&str)| line.starts_with(expected);
        let all = self.log.iter().zip(expected).all(begins);
        assert!(
            all && self.log.len() == expected.len(),
            "{:#?} and not {expected:#?}",
            self.log
        );
        self
    }

    /// So much of tokio's time has passed.
    #[track_caller]
    pub(super) fn takes(&self, expected: Duration) -> &Self {
        self.takes_more_than(expected - TICK)
            .takes_at_most(expected)
    }

    #[track_caller]
    pub(super) fn is_at_once(&self) -> &Self {
        assert_eq!(self.took, Duration::ZERO);
        self
    }

    #[track_caller]
    pub(super) fn takes_at_most(&self, longest: Duration) -> &Self {
        assert!(self.took < longest + TICK, "{:?}", self.took);
        self
    }

    #[track_caller]
    pub(super) fn takes_more_than(&self, shorter: Duration) -> &Self {
        assert!(self.took > shorter, "{:?}", self.took);
        self
    }
}

fn without_handle(line: &str) -> String {
    let Some((before, after)) = line.split_once(" handle=") else {
        return line.to_owned();
    };
    let (handle, rest) = after.split_at(after.find(' ').unwrap_or(after.len()));
    assert!(handle.len() == 32, "no handle of 16 bytes in hex: {line}");
    format!("{before} handle=<handle>{rest}")
}
