//! What is logged: nothing that opens a session or is of its data, and what an operator has to know.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/captured_logs.rs"]
mod captured_logs;
#[path = "support/contended_store.rs"]
mod contended_store;
#[path = "support/http_surface.rs"]
mod http_surface;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{Extensions, Request};
use axum::response::Result;
use axum::routing::{get, post};
use cloakroom::clock::{Clock, SystemClock};
use cloakroom::csrf::{CsrfGuard, CsrfToken};
use cloakroom::events::Event;
use cloakroom::store::{Handle, MemoryStore, Record, StoreError};
use cloakroom::testing::{
    FailingStore, ManualClock, Operation, PausingStore, SpyStore, Times, When,
};
use cloakroom::{Key, Login, Session, SessionLayer, SessionStore, Timeouts};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tower::Layer;

use self::captured_logs::Log;
use self::contended_store::ContendedStore;
use self::http_surface::{Answer, call, get as get_with, get_over_tcp, serve, visit};

const DATA: &str = "marker-of-the-data";
const KEY: &str = "marker-of-the-key";
const USER_ID: &str = "marker-of-the-user";
const LABEL: &str = "marker-of-the-label";

const MINUTE: Duration = Duration::from_secs(60);

type Store = FailingStore<Arc<dyn SessionStore>>;

/// What this process logs, which the tests take one after another.
async fn log() -> (Log, MutexGuard<'static, ()>) {
    static LOG: LazyLock<Log> = LazyLock::new(Log::of_this_process);
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    LOG.clear();
    (LOG.clone(), turn)
}

// What must not be seen.

/// Text in which nothing secret may stand.
#[derive(Default)]
struct Secrets(Vec<String>);

impl Secrets {
    fn with_markers() -> Self {
        let mut secrets = Self::default();
        for marker in [DATA, KEY, USER_ID, LABEL] {
            secrets.note_text(marker);
        }
        secrets
    }

    /// Notes a text, as it is and as a list of its bytes.
    fn note_text(&mut self, text: &str) {
        self.0.push(text.to_owned());
        self.note_bytes(text.as_bytes());
    }

    fn note_bytes(&mut self, bytes: &[u8]) {
        let list = format!("{bytes:?}");
        self.0.push(list.trim_matches(['[', ']']).to_owned());
    }

    /// Notes an id, and all the ways in which its secret and the digest of that might be written.
    fn note(&mut self, id: &str) {
        let bytes = decode_base64url(id);
        let (handle, secret) = bytes.split_at(16);
        assert_eq!((handle.len(), secret.len()), (16, 20));
        // The characters that are of the secret alone, wherever they stand.
        self.note_text(&id[22..]);
        for bytes in [secret, &Sha256::digest(secret)[..], &bytes] {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            self.0.push(hex.to_uppercase());
            self.0.push(hex);
            // In base64 of any alignment: what is in the middle of it.
            for skipped in 0..3 {
                let url = encode_base64url(&bytes[skipped..]);
                let middle = url[..url.len() - 2].to_owned();
                self.0.push(middle.replace('-', "+").replace('_', "/"));
                self.0.push(middle);
            }
            self.note_bytes(bytes);
        }
    }

    fn leaks(&self, text: &str) -> Vec<&str> {
        let lower = text.to_lowercase();
        let leaked = |secret: &&String| text.contains(*secret) || lower.contains(*secret);
        self.0.iter().filter(leaked).map(String::as_str).collect()
    }

    #[track_caller]
    fn assert_absent(&self, what: &str, text: &str) {
        let leaks = self.leaks(text);
        assert!(leaks.is_empty(), "{what} tells {leaks:?}: {text}");
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn decode_base64url(text: &str) -> Vec<u8> {
    let mut bits = 0_u32;
    let mut bytes = Vec::new();
    for (number, char) in text.bytes().enumerate() {
        let value = ALPHABET.iter().position(|&known| known == char).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        if number % 4 == 3 {
            bytes.extend(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    bytes
}

fn encode_base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for position in 0..=group.len() {
            text.push(char::from(
                ALPHABET[(bits >> (18 - 6 * position) & 0x3F) as usize],
            ));
        }
    }
    text
}

#[test]
fn a_secret_is_found_in_whatever_way_it_is_written() {
    let bytes: Vec<u8> = (0..36).map(|n: u8| n.wrapping_mul(151)).collect();
    let id = encode_base64url(&bytes);
    assert_eq!(decode_base64url(&id), bytes);
    let mut secrets = Secrets::with_markers();
    secrets.note(&id);
    let secret = &bytes[16..];
    let digest = Sha256::digest(secret);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    for text in [
        id.clone(),
        id[20..].to_owned(),
        encode_base64url(secret),
        encode_base64url(secret).replace('-', "+").replace('_', "/"),
        encode_base64url(&[b"xy", secret].concat()),
        encode_base64url(&digest),
        hex.clone(),
        hex.to_uppercase(),
        format!("{secret:?}"),
        format!("Secret({:?})", secret.to_vec()),
        format!("{:?}", id.as_bytes()),
        format!("{:?}", DATA.repeat(2).as_bytes()),
        format!("hello {USER_ID}"),
    ] {
        assert!(
            !secrets.leaks(&format!("INFO {text} end")).is_empty(),
            "{text}"
        );
    }
    let handle: [u8; 16] = bytes[..16].try_into().unwrap();
    let public = format!("{:?}", Handle::from_bytes(handle));
    assert!(secrets.leaks(&public).is_empty(), "a handle is public");
}

// The app.

fn routes() -> Router {
    Router::new().route("/{what}", get(act))
}

async fn act(Path(what): Path<String>, session: Session) -> Result<String> {
    match &*what {
        "read" => {
            session.get::<String>(KEY)?;
        }
        "write" => session.insert(KEY, DATA)?,
        "update" => {
            session.update(KEY, |text: &mut String| text.push('!'))?;
        }
        "renew" => session.renew_id()?,
        "persist" => session.persistent_cookie()?,
        "login" => {
            let timeouts = Timeouts::new(MINUTE * 60, MINUTE * 600);
            session
                .login(Login::new(USER_ID).label(LABEL).remember_me(timeouts))
                .await?;
        }
        "login-as-another" => session.login(format!("{USER_ID}-2")).await?,
        "logout" => session.logout().await?,
        "wrong-type" => {
            session.get::<u64>(KEY)?;
        }
        "wrong-type-in-update" => {
            session.update(KEY, |n: &mut u64| *n += 1)?;
        }
        "too-large" => session.insert(KEY, DATA.repeat(10_000))?,
        "no-json" => session.insert(KEY, BTreeMap::from([((1, 2), DATA)]))?,
        "no-user" => session.login("").await?,
        "save" => {
            session.update(KEY, |text: &mut String| text.push('!'))?;
            session.save().await?;
        }
        "5xx" => {
            session.insert(KEY, DATA)?;
            return Err(axum::http::StatusCode::INTERNAL_SERVER_ERROR.into());
        }
        other => unreachable!("{other}"),
    }
    Ok(if session.is_new() { "none" } else { "live" }.to_owned())
}

/// A client that tells every id it was issued.
struct Client {
    address: std::net::SocketAddr,
    pair: String,
    secrets: Secrets,
}

impl Client {
    async fn of(app: Router) -> Self {
        Self {
            address: serve(app).await,
            pair: String::new(),
            secrets: Secrets::with_markers(),
        }
    }

    async fn get(&mut self, path: &str) -> Answer {
        let pair = self.pair.clone();
        self.get_with(path, &pair).await
    }

    async fn get_with(&mut self, path: &str, cookies: &str) -> Answer {
        let answer = get_over_tcp(self.address, path, &[cookies]).await;
        if answer
            .set_cookies()
            .iter()
            .any(|line| line.contains("<id>"))
        {
            self.pair = answer.pair();
            self.secrets.note(&answer.id());
        }
        answer
    }

    fn handle(&self) -> Handle {
        let (_, id) = self.pair.split_once('=').unwrap();
        let bytes = decode_base64url(id);
        Handle::from_bytes(bytes[..16].try_into().unwrap())
    }
}

/// Writes a record of this session that has another payload.
async fn spoil(store: &Store, handle: &Handle, change: impl FnOnce(&mut Vec<u8>)) {
    let record = store.load(handle).await.unwrap().unwrap();
    let mut payload = record.payload.to_vec();
    change(&mut payload);
    let spoilt = Record {
        payload: payload.into(),
        ..record.clone()
    };
    store
        .update(handle, &spoilt, record.version, SystemClock.now())
        .await
        .unwrap();
}

/// All that can happen to sessions, on this store.
async fn whole_story(store: Arc<dyn SessionStore>) {
    let (log, _turn) = log().await;
    let store = FailingStore::new(store);
    let clock = ManualClock::new();
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let layer = SessionLayer::builder(store.clone())
        .clock(clock.clone())
        .renew_ids_every(MINUTE * 30)
        .on_event({
            let told = told.clone();
            move |event| told.lock().unwrap().push(everything_of(event))
        })
        .build()
        .unwrap();
    let mut client = Client::of(routes().layer(layer.clone())).await;

    // The usual.
    for path in [
        "/read", "/write", "/read", "/update", "/persist", "/renew", "/login", "/login",
    ] {
        client.get(path).await;
    }
    assert!(log.one("a session was created").starts_with("DEBUG "));
    let handle = client.handle().to_string();
    for (message, times) in [
        ("a user logged in", 2),
        ("the id of a session was renewed", 3),
    ] {
        let lines = log.having(message);
        assert_eq!(lines.len(), times, "{message}: {lines:?}");
        assert!(
            lines
                .iter()
                .all(|line| line.starts_with("DEBUG ") && line.contains(&handle))
        );
    }

    // Ids that no longer open.
    let current = client.pair.clone();
    let (name, id) = current.split_once('=').unwrap();
    client.get("/renew").await;
    client.get_with("/write", &current).await;
    assert!(
        log.one("a retired session id was used")
            .starts_with("DEBUG ")
    );
    let wrong_secret = format!("{}{}", &id[..22], "A".repeat(26));
    client
        .get_with("/write", &format!("{name}={wrong_secret}"))
        .await;
    assert!(log.one("a wrong secret").starts_with("WARN "));
    client.secrets.note(&wrong_secret);
    // What a wrong secret wrote is a session of its own; here goes on that of the user.
    client.get("/login").await;
    let old = client.pair.clone();
    clock.advance(MINUTE * 30);
    client.get("/read").await;
    assert_ne!(client.pair, old, "it was renewed on schedule");
    client.get("/read").await;
    clock.advance(MINUTE);
    client.get_with("/read", &old).await;
    let copied = log.one("another party may hold a copy");
    assert!(copied.starts_with("WARN "), "{copied}");

    // Mistakes of the program.
    for path in [
        "/write",
        "/wrong-type",
        "/wrong-type-in-update",
        "/too-large",
        "/no-json",
        "/no-user",
        "/5xx",
    ] {
        client.get(path).await;
    }

    // Cookies that no browser sends.
    let pair = client.pair.clone();
    client
        .get_with("/read", "__Host-Http-id=marker-of-the-data")
        .await;
    assert!(log.one("no well-formed id").starts_with("DEBUG "));
    client.get_with("/read", &format!("{pair}; {pair}")).await;
    let twice = log.one("came more than once, with the same value");
    assert!(
        twice.starts_with("WARN ") && twice.contains("__Host-Http-id"),
        "{twice}"
    );
    client.get_with("/read", &format!("{pair}; {old}")).await;
    assert!(log.one("too many differing values").starts_with("WARN "));
    client
        .get_with("/read", &format!("{pair}{}", "; a=1".repeat(1_024)))
        .await;
    assert!(
        log.one("more cookies than are looked at")
            .starts_with("WARN ")
    );
    client
        .get_with("/read", &format!("{pair}; a={}", "x".repeat(65_536)))
        .await;
    assert!(
        log.one("more bytes of cookies than are looked at")
            .starts_with("WARN ")
    );

    // Failures of the store.
    for (operation, when, path) in [
        (Operation::Load, When::BeforeEffect, "/update"),
        (Operation::Update, When::BeforeEffect, "/update"),
        (Operation::Update, When::AfterEffect, "/save"),
        (Operation::Update, When::BeforeEffect, "/login"),
        (Operation::Touch, When::BeforeEffect, "/read"),
        (Operation::Delete, When::BeforeEffect, "/logout"),
        (Operation::Delete, When::BeforeEffect, "/login-as-another"),
    ] {
        if operation == Operation::Touch {
            clock.advance(MINUTE * 5);
        }
        log.clear_but_check(&client.secrets);
        store.fail(operation, when, Times::Next(1));
        client.get(path).await;
        let failure = log.one("the session store failed");
        assert!(failure.starts_with("ERROR "), "{failure}");
        for words in [
            format!("operation=\"{}\"", format!("{operation:?}").to_lowercase()),
            format!("handle={}", client.handle()),
            "the store fails: the test has told it to".to_owned(),
        ] {
            assert!(
                failure.contains(&words),
                "{operation:?} at {path}: {failure}"
            );
        }
    }
    store.heal();
    store.fail(Operation::Create, When::BeforeEffect, Times::Next(1));
    client.get_with("/write", "").await;
    assert!(log.having("operation=\"create\"").len() == 1);

    // Records that cannot be read.
    client.get_with("/login", "").await;
    spoil(&store, &client.handle(), |payload| payload[0] = 200).await;
    client.get("/write").await;
    let newer = log.one("newer than this version");
    assert!(
        newer.starts_with("ERROR ") && newer.contains("operation=\"load\""),
        "{newer}"
    );
    spoil(&store, &client.handle(), |payload| {
        payload[0] = 0;
        payload.extend(DATA.as_bytes());
    })
    .await;
    client.get("/read").await;
    let undecodable = log.one("cannot be decoded; it is left as it is");
    assert!(undecodable.starts_with("ERROR "), "{undecodable}");
    assert!(
        undecodable.contains(&client.handle().to_string()),
        "{undecodable}"
    );

    // Endings.
    client.get_with("/login", "").await;
    log.clear_but_check(&client.secrets);
    client.get("/login-as-another").await;
    client.get("/logout").await;
    client.get("/write").await;
    assert_eq!(log.having("a session was ended").len(), 2);
    client.get_with("/login", "").await;
    assert!(layer.sessions().end(&client.handle()).await.unwrap());
    assert!(log.having("a session was ended").len() == 3);
    client.get_with("/login", "").await;
    clock.advance(MINUTE * 60);
    client.get("/read").await;
    assert!(log.one("the session has expired").starts_with("DEBUG "));

    log.clear_but_check(&client.secrets);
    let told = told.lock().unwrap();
    assert!(told.len() > 40, "{}", told.len());
    for event in &*told {
        client.secrets.assert_absent("an event", event);
    }
}

/// All that an event says, as text.
fn everything_of(event: &Event<'_>) -> String {
    let mut text = format!(
        "{event:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        event.handle(),
        event.user_id(),
        event.operation(),
        event.store_error_kind(),
        event.error_kind(),
        event.deleted()
    );
    let mut source = event.error().map(|error| error as &dyn std::error::Error);
    while let Some(error) = source {
        text.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    text
}

impl Log {
    /// Begins anew, if nothing so far holds a secret.
    #[track_caller]
    fn clear_but_check(&self, secrets: &Secrets) {
        let lines = self.lines();
        assert!(!lines.is_empty());
        for line in lines {
            secrets.assert_absent("the log", &line);
        }
        self.clear();
    }
}

#[tokio::test]
async fn a_whole_story_in_memory_is_logged_without_a_secret() {
    whole_story(Arc::new(MemoryStore::new())).await;
}

#[cfg(feature = "file")]
#[tokio::test]
async fn a_whole_story_in_files_is_logged_without_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let store = cloakroom::store::FileStore::open(folder.path()).await;
    whole_story(Arc::new(store.unwrap())).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_whole_story_in_sqlite_is_logged_without_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let store = cloakroom::store::SqliteStore::connect(path).await.unwrap();
    store.migrate().await.unwrap();
    whole_story(Arc::new(store)).await;
}

/// By the header that is looked at, by one that is not, and by a cookie with the id of a header.
#[tokio::test]
async fn the_id_of_a_program_is_logged_nowhere() {
    let (log, _turn) = log().await;
    let layer = SessionLayer::builder(MemoryStore::new()).id_header("X-Auth-Token");
    let app = routes().layer(layer.build().unwrap());
    let mut secrets = Secrets::with_markers();
    let send = async |path: &str, lines: &[(&str, &str)]| {
        let mut request = Request::get(path);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let answer = call(&app, request.body(Body::empty()).unwrap()).await;
        let told = answer.headers.get("x-auth-token");
        told.map(|told| told.to_str().unwrap().to_owned())
    };
    let mut id = "new".to_owned();
    for path in ["/login", "/write", "/renew", "/login", "/save", "/read"] {
        if let Some(told) = send(path, &[("x-auth-token", &id)]).await {
            secrets.note(&told);
            id = told;
        }
    }
    for lines in [
        vec![("x-auth-token", &*id), ("x-auth-token", DATA)],
        vec![("x-auth-token", DATA)],
        vec![("authorization", &*format!("Bearer {id}"))],
        vec![("cookie", &*format!("__Host-Http-id={id}"))],
    ] {
        send("/read", &lines).await;
    }
    for said in [
        "came with differing values",
        "no well-formed id",
        "or the other way round",
    ] {
        log.one(said);
    }
    assert_eq!(
        send("/logout", &[("x-auth-token", &id)]).await.as_deref(),
        Some("")
    );
    log.clear_but_check(&secrets);
}

#[tokio::test]
async fn csrf_tokens_are_logged_nowhere_right_or_wrong() {
    let (log, _turn) = log().await;
    let app = Router::new()
        .route("/", post(async |_: CsrfGuard| "done"))
        .route("/token", get(async |token: CsrfToken| token.to_string()))
        .merge(routes())
        .layer(SessionLayer::new(MemoryStore::new()));
    let pair = visit(&app, "/login").await.pair();
    let mut secrets = Secrets::with_markers();
    let token = get_with(&app, "/token", &[&pair]).await.body;
    secrets.note_text(&token);
    for (sent, status) in [(&*token, 200), (&token[1..], 403), (DATA, 403)] {
        let request = Request::post("/")
            .header("cookie", &pair)
            .header("x-csrf-token", sent);
        let answer = call(&app, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status);
        secrets.note_text(&token[1..]);
    }
    assert_eq!(
        log.having("its CSRF token is not that of the session")
            .len(),
        2
    );
    log.clear_but_check(&secrets);
}

#[tokio::test]
async fn a_user_who_may_be_named_is_named_in_one_field() {
    let (log, _turn) = log().await;
    let layer = SessionLayer::builder(MemoryStore::new()).user_ids_in_events();
    let mut client = Client::of(routes().layer(layer.build().unwrap())).await;
    let field = format!(" user_id=\"{USER_ID}\"");
    let mut named = 0;
    for path in ["/login", "/read", "/write", "/renew", "/logout"] {
        client.get(path).await;
        for line in log.lines() {
            named += line.matches(&field).count();
            let rest = line.replace(&field, "");
            client.secrets.assert_absent("the log", &rest);
        }
        log.clear();
    }
    assert_eq!(named, 5, "created, logged in, renewed, ended, logged out");
}

// What an operator has to know, apart from the story.

#[tokio::test]
async fn a_layer_with_an_insecure_cookie_is_a_warning() {
    let (log, _turn) = log().await;
    let builder = SessionLayer::builder(MemoryStore::new()).cookie_name("plain");
    let _layer = builder.insecure_for_development().build().unwrap();
    let warning = log.one("insecure_for_development is for development only");
    assert!(
        warning.starts_with("WARN ") && warning.contains("plain"),
        "{warning}"
    );
    log.clear();
    let _layer = SessionLayer::new(MemoryStore::new());
    assert!(log.having("").is_empty());
}

#[tokio::test]
async fn a_layer_inside_itself_is_a_warning_at_the_first_request() {
    let (log, _turn) = log().await;
    let layer = SessionLayer::new(MemoryStore::new());
    let app = routes().layer(layer.clone()).layer(layer);
    for _ in 0..3 {
        visit(&app, "/read").await;
    }
    let warning = log.one("lies inside another");
    assert!(
        warning.starts_with("WARN ") && warning.contains("__Host-Http-id"),
        "{warning}"
    );
}

#[tokio::test]
async fn two_live_sessions_under_one_name_are_a_warning() {
    let (log, _turn) = log().await;
    let layer = SessionLayer::builder(MemoryStore::new())
        .path("/app")
        .build()
        .unwrap();
    let app = routes().layer(layer);
    let (one, other) = (
        visit(&app, "/write").await.pair(),
        visit(&app, "/write").await.pair(),
    );
    get_with(&app, "/read", &[one, other]).await;
    assert!(log.one("came with two values").starts_with("WARN "));
    assert!(
        log.one("two session cookies open two sessions")
            .starts_with("WARN ")
    );
}

#[tokio::test]
async fn contention_is_a_warning_with_the_limit() {
    let (log, _turn) = log().await;
    let layer = SessionLayer::builder(ContendedStore::default()).retry_for(Duration::ZERO);
    let app = routes().layer(layer.build().unwrap());
    let first = visit(&app, "/write").await;
    get_with(&app, "/update", &[first.pair()]).await;
    let warning = log.one("other requests kept changing the session");
    assert!(
        warning.starts_with("WARN ") && warning.contains("limit=0ns"),
        "{warning}"
    );
    let mut secrets = Secrets::with_markers();
    secrets.note(&first.id());
    log.clear_but_check(&secrets);
}

/// What `first` answers, where `second` writes to the same session between its load and its update.
async fn overlapped(app: &Router, store: &PausingStore<MemoryStore>, path: &str) -> Answer {
    let pair = visit(app, "/write").await.pair();
    let pause = store.pause_before(Operation::Update);
    let first = tokio::spawn({
        let (app, path, pair) = (app.clone(), path.to_owned(), pair.clone());
        async move { get_with(&app, &path, &[pair]).await }
    });
    pause.reached().await;
    assert_eq!(get_with(app, "/other", &[pair]).await.status, 200);
    pause.release();
    first.await.unwrap()
}

#[tokio::test]
async fn a_failure_that_the_handler_did_not_meet_is_an_error_of_the_log() {
    let (log, _turn) = log().await;
    let store = PausingStore::new(MemoryStore::new());
    let layer = SessionLayer::builder(store.clone()).max_session_size(200);
    let own = Router::new()
        .route(
            "/other",
            get(async |session: Session| -> Result<()> {
                session.insert("other", "o".repeat(50))?;
                session.insert(KEY, "short")?;
                Ok(())
            }),
        )
        .route(
            "/large",
            get(async |session: Session| -> Result<()> {
                Ok(session.insert("large", "l".repeat(90))?)
            }),
        )
        .route(
            "/panic",
            get(async |session: Session| -> Result<()> {
                session.update(KEY, |text: &mut String| {
                    if text == "short" {
                        std::panic::resume_unwind(Box::new(DATA));
                    }
                    text.push('!');
                })?;
                Ok(())
            }),
        );
    let app = routes().merge(own).layer(layer.build().unwrap());

    assert_eq!(overlapped(&app, &store, "/large").await.status, 500);
    let replaced = log.one("its response was replaced by an error");
    assert!(
        replaced.starts_with("ERROR ") && replaced.contains("kind=TooLarge status=500"),
        "{replaced}"
    );

    log.clear();
    assert_eq!(overlapped(&app, &store, "/panic").await.status, 503);
    let panicked = log.one("the task that writes a session panicked");
    assert!(panicked.starts_with("ERROR "), "{panicked}");
    log.clear_but_check(&Secrets::with_markers());
}

#[tokio::test]
async fn an_app_without_trouble_logs_nothing_above_debug() {
    let (log, _turn) = log().await;
    let app = routes().layer(SessionLayer::new(MemoryStore::new()));
    let mut pair = visit(&app, "/write").await.pair();
    for path in [
        "/read", "/update", "/renew", "/read", "/login", "/update", "/logout",
    ] {
        let answer = get_with(&app, path, &[&pair]).await;
        if !answer.set_cookies().is_empty() {
            pair = answer.pair();
        }
    }
    let lines = log.having("");
    assert!(lines.len() >= 4, "{lines:?}");
    let quiet = |line: &String| line.starts_with("DEBUG ") || line.starts_with("TRACE ");
    assert!(lines.iter().all(quiet), "{lines:?}");
}

// What prints itself.

/// How things look that a program may log.
struct Shown(Vec<(&'static str, String)>);

impl Shown {
    fn add(&mut self, what: &'static str, shown: &dyn std::fmt::Debug) {
        self.0.push((what, format!("{shown:?}")));
        self.0.push((what, format!("{shown:#?}")));
    }
}

#[tokio::test]
async fn nothing_public_prints_an_id_or_data_or_the_user() {
    // What it logs would be in the way of others.
    let (_log, _turn) = log().await;
    let (sender, mut stages) = mpsc::unbounded_channel();
    let app = Router::new().route(
        "/",
        get(
            async move |extensions: Extensions, session: Session| -> Result<()> {
                let mut shown = Shown(Vec::new());
                shown.add("the extensions of a request", &extensions);
                shown.add("a session as it came", &session);
                session.insert(KEY, DATA)?;
                session.update(KEY, |text: &mut String| text.push('!'))?;
                shown.add("a session with changes", &session);
                shown.add("an error of a value", &session.get::<u64>("none"));
                session.login(Login::new(USER_ID).label(LABEL)).await?;
                shown.add("a session with a user", &session);
                session.renew_id()?;
                session.save().await?;
                shown.add("a session with a new id", &session);
                sender.send((shown, session)).unwrap();
                Ok(())
            },
        ),
    );
    let memory = Arc::new(MemoryStore::new());
    let store = FailingStore::new(SpyStore::new(memory.clone()));
    let layer = SessionLayer::new(store.clone());
    let app = app.layer(layer.clone());

    let mut secrets = Secrets::with_markers();
    let first = visit(&app, "/").await;
    secrets.note(&first.id());
    let (mut shown, _) = stages.recv().await.unwrap();
    // With a cookie that opens one, and with others that do not.
    let second = get_with(&app, "/", &[first.pair(), first.pair()]).await;
    secrets.note(&second.id());
    let (more, session) = stages.recv().await.unwrap();
    shown.0.extend(more.0);
    shown.add("a closed session", &session);
    shown.add("a response's headers", &second.headers);

    let handle = session.handle().unwrap();
    let record = memory.load(&handle).await.unwrap().unwrap();
    shown.add("a record", &record);
    let wrong = Record::decode(&[&[0], DATA.as_bytes()].concat()).unwrap_err();
    shown.add("an error of a record", &wrong);
    shown.add("an error of a store", &StoreError::from(wrong));
    shown.add("a handle", &handle);
    shown.add("a memory store", &memory);
    shown.add("stores for tests", &store);
    shown.add("a layer", &layer);
    shown.add("a builder", &SessionLayer::builder(store.clone()));
    shown.add("the sessions of a layer", &layer.sessions());
    shown.add("a login", &Login::new(USER_ID).label(LABEL));
    let mut service = layer.layer(tower::service_fn(async |request: Request<()>| {
        drop(request);
        Ok::<_, std::convert::Infallible>(axum::response::Response::new(String::new()))
    }));
    let request = Request::get("/")
        .header("cookie", second.pair())
        .body(())
        .unwrap();
    shown.add("a future", &tower::Service::call(&mut service, request));
    shown.add("an error", &session.insert(KEY, DATA).unwrap_err());

    assert!(shown.0.len() > 40, "{}", shown.0.len());
    for (what, text) in shown.0 {
        secrets.assert_absent(what, &text);
    }
    // A key is the program's own text, and prints as such.
    assert_eq!(
        format!("{:?}", Key::<u64>::new("visits")),
        "Key(\"visits\")"
    );
}
