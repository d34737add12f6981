//! Ids that an attacker planted, made up, guessed, or read.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::{get, post as on_post};
use cloakroom::csrf::{CsrfGuard, CsrfToken};
use cloakroom::testing::Operation;

use super::captured_logs::Log;
use super::support::{COOKIE, forged, handle_of, in_files, in_memory, secret_of};
use super::{id, post, shown};

/// A login keeps the id of the anonymous session, which an attacker may have planted.
async fn a_planted_id_is_worth_nothing_after_the_login() {
    let setup = in_memory();
    let victim = setup.client(setup.store.clone()).await;
    post(&victim, "/set/a/1").await;
    let attacker = victim.clone();
    post(&victim, "/login/alice").await;
    assert_ne!(id(&victim), id(&attacker));
    assert_eq!(shown(&victim).await, "alice: a=1");
    assert_eq!(shown(&attacker).await, "no session");
}

/// passport keeps the id across a login.
#[tokio::test]
async fn cve_2022_25896() {
    a_planted_id_is_worth_nothing_after_the_login().await;
}

/// So does fastify-passport.
#[tokio::test]
async fn cve_2023_29019() {
    a_planted_id_is_worth_nothing_after_the_login().await;
}

/// fastify-passport keeps what was in the session across a login, and with it a CSRF token that the attacker knows.
#[tokio::test]
async fn cve_2023_29020() {
    let setup = in_memory();
    let routes = Router::new()
        .route("/token", get(async |token: CsrfToken| token.to_string()))
        .route("/guarded", on_post(async |_: CsrfGuard| "done"));
    let attacker = setup.client_with(setup.store.clone(), routes).await;
    post(&attacker, "/set/a/1").await;
    let planted = attacker.get("/token").await.text().to_owned();
    let victim = attacker.clone();
    let guarded = async |token: &str| {
        let request = Request::post("/guarded").header("x-csrf-token", token);
        let response = victim.send(request.body(Body::empty()).unwrap()).await;
        response.status()
    };
    assert_eq!(guarded(&planted).await, StatusCode::OK);
    post(&victim, "/login/alice").await;
    assert_eq!(guarded(&planted).await, StatusCode::FORBIDDEN);
    let own = victim.get("/token").await.text().to_owned();
    assert_eq!(guarded(&own).await, StatusCode::OK);
}

/// aiohttp-session loads and then saves a session under whatever id the client brings.
#[tokio::test]
async fn cve_2018_1000519() {
    let setup = in_memory();
    for path in ["/set/a/1", "/add/n", "/login/alice"] {
        let client = setup.client(setup.store.clone()).await;
        client.set_cookie(COOKIE, &forged(1));
        post(&client, path).await;
        assert_ne!(handle_of(&id(&client)), handle_of(&forged(1)), "{path}");
        assert!(!setup.holds(&handle_of(&forged(1))).await, "{path}");
    }
}

/// Fiber takes an id that it does not know for that of a new session.
#[tokio::test]
async fn cve_2024_38513() {
    let setup = in_memory();
    let victim = setup.client(setup.store.clone()).await;
    victim.set_cookie(COOKIE, &forged(2));
    let attacker = victim.clone();
    post(&victim, "/login/alice").await;
    assert_eq!(shown(&victim).await, "alice:");
    assert_eq!(shown(&attacker).await, "no session");
}

/// Rack looks ids up in an index as they come, so that the time it takes tells how much of one is right.
#[tokio::test]
async fn cve_2019_16782() {
    let setup = in_memory();
    let spy = setup.spy();
    let client = setup.client(spy.clone()).await;
    post(&client, "/set/a/1").await;
    let good = id(&client);
    let record = setup.store.load(&handle_of(&good)).await.unwrap().unwrap();
    let secret = secret_of(&good);
    assert!(
        !record
            .encode()
            .windows(secret.len())
            .any(|bytes| bytes == secret)
    );
    // Whoever knows the public half gets as far as anybody with another wrong secret.
    for last in ["A", "B"] {
        client.clear_cookies();
        client.set_cookie(COOKIE, &format!("{}{}{last}", &good[..22], "x".repeat(25)));
        spy.reset();
        assert_eq!(shown(&client).await, "no session");
        assert_eq!(spy.log().len(), 1);
        assert_eq!(spy.log()[0].operation, Operation::Load);
    }
}

/// Spring Session logs the ids of those whose client carries them in a header.
#[tokio::test]
async fn cve_2023_20866() {
    const HEADER: &str = "x-session";
    let (log, _guard) = Log::of_this_thread();
    let setup = in_memory();
    let layer = setup.builder(setup.store.clone());
    let layer = layer.id_header(HEADER).without_cookie();
    let client = setup.client_of(layer.build().unwrap()).await;
    let mut ids = Vec::new();
    let mut brought = String::new();
    for path in ["/set/a/1", "/login/alice", "/set/b/2", "/logout"] {
        let request = Request::post(path).header(HEADER, &brought);
        let response = client.send(request.body(Body::empty()).unwrap()).await;
        if let Some(id) = response.header(HEADER).filter(|id| !id.is_empty()) {
            brought = id.to_owned();
            ids.push(brought.clone());
        }
    }
    assert_eq!(ids.len(), 2);
    // And of those in a cookie.
    let client = setup.client(setup.store.clone()).await;
    for path in ["/set/a/1", "/login/alice"] {
        post(&client, path).await;
        ids.push(id(&client));
    }
    post(&client, "/logout").await;
    let lines = log.lines();
    for id in ids {
        let handle = handle_of(&id).to_string();
        assert!(lines.iter().any(|line| line.contains(&handle)));
        // The 22nd character is of both halves.
        assert!(!lines.iter().any(|line| line.contains(&id[22..])));
    }
}

/// Django makes a record for each unknown id that it is asked for.
#[tokio::test]
async fn cve_2015_5143() {
    let setup = in_memory();
    let spy = setup.spy();
    let client = setup.client(spy.clone()).await;
    for number in 0..20 {
        client.set_cookie(COOKIE, &forged(number));
        assert_eq!(shown(&client).await, "no session");
    }
    assert_eq!((spy.calls().load, spy.total()), (20, 20));
}

/// Django's logout makes an empty record for whoever has none.
#[tokio::test]
async fn cve_2015_5963() {
    let setup = in_memory();
    let spy = setup.spy();
    let client = setup.client(spy.clone()).await;
    post(&client, "/logout").await;
    client.set_cookie(COOKIE, &forged(1));
    post(&client, "/logout").await;
    assert_eq!(spy.calls().create, 0);
    assert_eq!(client.cookie(COOKIE), None);
}

/// Django's flush leaves an empty id behind, under which everybody meets who was logged out.
#[tokio::test]
async fn cve_2015_3982() {
    let setup = in_memory();
    let spy = setup.spy();
    let client = setup.client(spy.clone()).await;
    post(&client, "/set/a/1").await;
    post(&client, "/logout").await;
    spy.reset();
    client.set_cookie(COOKIE, "");
    assert_eq!(shown(&client).await, "no session");
    assert_eq!(spy.total(), 0);
    post(&client, "/set/b/1").await;
    assert_eq!(id(&client).len(), 48);
}

async fn no_id_is_a_path() {
    let setup = in_files().await;
    let outside = setup.folder.as_ref().unwrap().path();
    std::fs::write(outside.join("passwd"), "root").unwrap();
    let before = files_below(outside);
    let spy = setup.spy();
    let client = setup.client(spy.clone()).await;
    let long = format!("{}passwd", "../".repeat(14));
    assert_eq!(long.len(), 48);
    for path in [
        "../passwd",
        "..\\passwd",
        "/etc/passwd",
        "..%2fpasswd",
        &long,
    ] {
        client.set_cookie(COOKIE, path);
        assert_eq!(shown(&client).await, "no session");
        post(&client, "/logout").await;
        // What is no session's is not read, either, and then found to be none.
        assert_eq!(spy.total(), 0, "{path}");
    }
    assert_eq!(files_below(outside), before);
    assert_eq!(std::fs::read(outside.join("passwd")).unwrap(), b"root");
}

fn files_below(folder: &Path) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        files.insert(path.display().to_string());
        if path.is_dir() {
            files.extend(files_below(&path));
        }
    }
    files
}

/// CherryPy puts the id into the path of a file.
#[tokio::test]
async fn cve_2008_0252() {
    no_id_is_a_path().await;
}

/// Django does so, too, and checks for one of the two slashes of Windows alone.
#[tokio::test]
async fn cve_2011_0698() {
    no_id_is_a_path().await;
}

/// Fiber makes an id of zeros when the random source fails.
#[cfg(target_os = "linux")]
#[test]
fn cve_2025_66630() {
    // The standard library asks with flags, for the seeds of its hash maps.
    const BROKEN: &str = "#define _GNU_SOURCE\n#include <errno.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
        ssize_t getrandom(void *buffer, size_t length, unsigned flags) {\n\
        if (flags == 0) { errno = EIO; return -1; }\n\
        return syscall(SYS_getrandom, buffer, length, flags); }\n";
    if std::env::var_os("CLOAKROOM_TEST_BROKEN_RANDOM_SOURCE").is_some() {
        return on_a_broken_random_source();
    }
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (
        folder.path().join("broken.c"),
        folder.path().join("broken.so"),
    );
    std::fs::write(&source, BROKEN).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .status();
    assert!(compiled.unwrap().success());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ids::cve_2025_66630", "--nocapture"])
        .env("CLOAKROOM_TEST_BROKEN_RANDOM_SOURCE", "1")
        .env("LD_PRELOAD", &library)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("503 and no id"),
        "{text} {output:?}"
    );
}

#[cfg(target_os = "linux")]
fn on_a_broken_random_source() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let setup = in_memory();
        let client = setup.client(setup.store.clone()).await;
        for path in ["/set/a/1", "/login/alice"] {
            let response = client
                .post(path)
                .await
                .assert_status(StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.header("x-session-error"), Some("RandomSource"));
            assert!(response.set_cookies().is_empty());
        }
        println!("503 and no id");
    });
}
