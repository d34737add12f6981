//! Clients choose nothing: an id that this server did not issue, or that is worth nothing any more, is no
//! session and causes no write (guarantee 5). And the store holds nothing that opens a session
//! (guarantee 6).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Result;
use axum::routing::post;
use cloakroom::Session;
use cloakroom::testing::Calls;

// Each test file uses its part of it.
#[allow(dead_code, unused_imports, unused_macros)]
mod support;

use self::support::{
    COOKIE, Setup, contents, forged, handle_of, in_memory, on_every_store, secret_of,
};

on_every_store! {
    no_mutator_adopts_an_id_that_a_client_made_up,
    unknown_ids_cause_no_write,
    a_known_handle_with_another_secret_opens_nothing_and_harms_nothing,
    an_expired_id_is_no_session_and_a_write_gets_a_fresh_one,
    the_id_of_an_ended_session_is_not_used_again,
    malformed_ids_never_reach_the_store,
    a_removal_cookie_goes_out_for_an_id_that_is_worth_nothing,
    the_store_holds_neither_an_id_nor_a_secret,
    what_the_store_holds_opens_no_session,
    ;
    over TCP:
    no_mutator_adopts_an_id_that_a_client_made_up,
    malformed_ids_never_reach_the_store,
}

/// Each way to write something, the first of which leave nothing in the end.
fn mutators() -> Router {
    let cleared = async |session: Session| -> Result<String> {
        session.clear()?;
        session.insert("a", 1)?;
        Ok(contents(&session))
    };
    let destroyed = async |session: Session| -> Result<String> {
        session.destroy().await?;
        session.insert("a", 1)?;
        Ok(contents(&session))
    };
    let renewed = async |session: Session| -> Result<String> {
        session.renew_id()?;
        session.persistent_cookie()?;
        session.insert("a", 1)?;
        Ok(contents(&session))
    };
    let saved = async |session: Session| -> Result<String> {
        session.insert("a", 1)?;
        session.save().await?;
        Ok(contents(&session))
    };
    Router::new()
        .route("/cleared", post(cleared))
        .route("/destroyed", post(destroyed))
        .route("/renewed", post(renewed))
        .route("/saved", post(saved))
}

async fn no_mutator_adopts_an_id_that_a_client_made_up(setup: Setup) {
    let client = setup.client_with(setup.store.clone(), mutators()).await;
    for (number, path) in [
        "/set/a/1",
        "/add/n",
        "/login/alice",
        "/cleared",
        "/destroyed",
        "/renewed",
        "/saved",
    ]
    .into_iter()
    .enumerate()
    {
        let forged = forged(number as u64);
        client.clear_cookies();
        client.set_cookie(COOKIE, &forged);
        let response = client.post(path).await.assert_status(StatusCode::OK);
        assert_eq!(response.set_cookies().len(), 1, "{path}");
        let issued = client.cookie(COOKIE).unwrap();
        assert_ne!(handle_of(&issued), handle_of(&forged), "{path}");
        assert_ne!(secret_of(&issued), secret_of(&forged), "{path}");
        assert!(!setup.holds(&handle_of(&forged)).await, "{path}");
        assert!(setup.holds(&handle_of(&issued)).await, "{path}");
        assert_ne!(client.get("/show").await.text(), "no session", "{path}");
    }
}

async fn unknown_ids_cause_no_write(setup: Setup) {
    let set_and_remove = async |session: Session| -> Result<String> {
        session.insert("a", 1)?;
        session.remove("a")?;
        session.set_timeouts(cloakroom::Timeouts::AAL3)?;
        session.save().await?;
        Ok(contents(&session))
    };
    let spy = setup.spy();
    let routes = Router::new().route("/set-and-remove", post(set_and_remove));
    let client = setup.client_with(spy.clone(), routes).await;
    let paths = [
        "/show",
        "/remove/a",
        "/clear",
        "/renew",
        "/logout",
        "/set-and-remove",
    ];
    // Disks are slower.
    let ids = if setup.folder.is_none() { 10_000 } else { 300 };
    for number in 0..ids {
        client.clear_cookies();
        client.set_cookie(COOKIE, &forged(number));
        let path = paths[number as usize % paths.len()];
        let response = match path {
            "/show" => client.get(path).await,
            _ => client.post(path).await,
        };
        let response = response.assert_status(StatusCode::OK);
        let is_removal = |cookie: &cloakroom::testing::Cookie<'_>| cookie.value().is_empty();
        assert!(response.set_cookies().iter().all(is_removal), "{path}");
    }
    let load = ids as usize;
    assert_eq!(
        spy.calls(),
        Calls {
            load,
            ..Calls::default()
        }
    );
}

async fn a_known_handle_with_another_secret_opens_nothing_and_harms_nothing(setup: Setup) {
    let spy = setup.spy();
    let client = setup.client(spy.clone()).await;
    client.post("/set/a/1").await;
    let id = client.cookie(COOKIE).unwrap();
    let guess = client.clone();
    let flipped = if id.ends_with('A') { "B" } else { "A" };
    guess.set_cookie(COOKIE, &format!("{}{flipped}", &id[..47]));
    let guessed = guess.cookie(COOKIE).unwrap();
    spy.reset();
    assert_eq!(handle_of(&guessed), handle_of(&id));
    assert_eq!(guess.get("/show").await.text(), "no session");
    guess.post("/clear").await;
    guess.post("/logout").await;
    assert_eq!(
        spy.calls(),
        Calls {
            load: 3,
            ..Calls::default()
        }
    );
    guess.set_cookie(COOKIE, &guessed);
    guess.post("/set/b/2").await;
    assert_ne!(handle_of(&guess.cookie(COOKIE).unwrap()), handle_of(&id));
    assert_eq!(guess.get("/show").await.text(), "nobody: b=2");
    assert_eq!(client.get("/show").await.text(), "nobody: a=1");
}

async fn an_expired_id_is_no_session_and_a_write_gets_a_fresh_one(setup: Setup) {
    let spy = setup.spy();
    let client = setup.client(spy.clone()).await;
    client.post("/set/a/1").await;
    let expired = client.cookie(COOKIE).unwrap();
    setup.clock.advance(Duration::from_secs(3_600));
    spy.reset();
    assert_eq!(client.get("/show").await.text(), "no session");
    client.post("/clear").await;
    assert_eq!(spy.calls().total(), 2);
    client.set_cookie(COOKIE, &expired);
    client.post("/set/b/2").await;
    let fresh = client.cookie(COOKIE).unwrap();
    assert_ne!(handle_of(&fresh), handle_of(&expired));
    assert_eq!(client.get("/show").await.text(), "nobody: b=2");
}

async fn the_id_of_an_ended_session_is_not_used_again(setup: Setup) {
    let client = setup.client(setup.store.clone()).await;
    client.post("/set/a/1").await;
    let ended = client.clone();
    client.post("/logout").await;
    assert_eq!(ended.get("/show").await.text(), "no session");
    let response = ended.post("/set/b/2").await;
    assert_eq!(response.set_cookies().len(), 1);
    assert_eq!(ended.get("/show").await.text(), "nobody: b=2");
}

async fn malformed_ids_never_reach_the_store(setup: Setup) {
    let spy = setup.spy();
    let client = setup.client(spy.clone()).await;
    client.post("/set/a/1").await;
    let id = client.cookie(COOKIE).unwrap();
    spy.reset();
    for malformed in [
        "",
        "x",
        &id[..47],
        &format!("{id}A"),
        &format!("\"{id}\""),
        &format!("{}+", &id[..47]),
        &format!("{}/", &id[..47]),
        &format!("{}=", &id[..47]),
        &format!("{}%41", &id[..47]),
        &"../".repeat(16),
        &"A".repeat(4_000),
    ] {
        client.clear_cookies();
        client.set_cookie(COOKIE, malformed);
        assert_eq!(client.get("/show").await.text(), "no session");
        client.post("/clear").await;
    }
    assert_eq!(spy.total(), 0);
    client.set_cookie(COOKIE, "x");
    client.post("/set/b/2").await;
    assert_eq!(spy.calls().create, 1);
    assert_eq!(client.get("/show").await.text(), "nobody: b=2");
}

async fn a_removal_cookie_goes_out_for_an_id_that_is_worth_nothing(setup: Setup) {
    let client = setup.client(setup.store.clone()).await;
    client.set_cookie(COOKIE, &forged(1));
    let response = client.post("/logout").await.assert_status(StatusCode::OK);
    assert_eq!(response.set_cookies()[0].value(), "");
    assert_eq!(client.cookie(COOKIE), None);
    assert_eq!(client.rejected_cookies(), []);
}

/// The bytes of every file below a folder.
fn bytes_below(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => bytes.extend(bytes_below(&path)),
            false => bytes.extend(fs::read(path).unwrap()),
        }
    }
    bytes
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

async fn the_store_holds_neither_an_id_nor_a_secret(setup: Setup) {
    let layer = setup.builder(setup.store.clone());
    let layer = layer.renew_ids_every(Duration::from_secs(60));
    let client = setup.client_of(layer.build().unwrap()).await;
    let mut ids = Vec::new();
    for path in ["/set/a/find-me", "/login/alice", "/renew", "/set/b/2"] {
        client.post(path).await.assert_status(StatusCode::OK);
        ids.push(client.cookie(COOKIE).unwrap());
        setup.clock.advance(Duration::from_secs(60));
    }
    let record = setup
        .store
        .load(&handle_of(&ids[0]))
        .await
        .unwrap()
        .unwrap();
    let mut held = record.encode();
    if let Some(folder) = &setup.folder {
        held.extend(bytes_below(folder.path()));
        let path_names = format!("{:?}", walk(folder.path()));
        held.extend(path_names.into_bytes());
    }
    assert!(contains(&held, b"find-me"));
    for id in ids {
        assert!(!contains(&held, id.as_bytes()));
        assert!(!contains(&held, &secret_of(&id)));
        assert!(!contains(&held, &id.as_bytes()[24..]));
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(walk(&path));
        }
        paths.push(path);
    }
    paths
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The cookie of this handle and secret, as somebody would make it who has a dump of the store.
fn cookie_of(handle: &[u8; 16], secret: &[u8]) -> String {
    let bytes = [handle.as_slice(), secret].concat();
    let groups = bytes.chunks_exact(3).flat_map(|group| {
        let bits = group
            .iter()
            .fold(0, |bits, &byte| bits << 8 | usize::from(byte));
        [18, 12, 6, 0].map(|shift| char::from(ALPHABET[bits >> shift & 63]))
    });
    groups.collect()
}

async fn what_the_store_holds_opens_no_session(setup: Setup) {
    let client = setup.client(setup.store.clone()).await;
    client.post("/login/alice").await;
    let id = client.cookie(COOKIE).unwrap();
    let handle = handle_of(&id);
    assert_eq!(cookie_of(handle.as_bytes(), &secret_of(&id)), id);
    let record = setup.store.load(&handle).await.unwrap().unwrap();
    let thief = client.clone();
    for stolen in record.encode().windows(20) {
        thief.set_cookie(COOKIE, &cookie_of(handle.as_bytes(), stolen));
        assert_eq!(thief.get("/show").await.text(), "no session");
    }
}

#[tokio::test]
async fn ids_do_not_repeat() {
    let setup = in_memory();
    let client = setup.client(setup.store.clone()).await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1_000 {
        client.clear_cookies();
        client.post("/set/a/1").await;
        let id = client.cookie(COOKIE).unwrap();
        assert!(seen.insert(id[..21].to_owned()) && seen.insert(id[22..].to_owned()));
    }
}

/// No part of an id is fixed, counted, or made of who is logged in: each bit is a coin's.
#[tokio::test]
async fn every_bit_of_an_id_is_random_whoever_it_is_for() {
    const IDS: u32 = 1_000;
    let setup = in_memory();
    let client = setup.client(setup.store.clone()).await;
    let mut set = [0_u32; 36 * 8];
    for _ in 0..IDS {
        client.clear_cookies();
        client.post("/login/alice").await;
        let id = client.cookie(COOKIE).unwrap();
        let bytes = [&handle_of(&id).as_bytes()[..], &secret_of(&id)].concat();
        for (bit, count) in set.iter_mut().enumerate() {
            *count += u32::from(bytes[bit / 8] >> (bit % 8) & 1);
        }
    }
    // Seven standard deviations to each side: no fair coin leaves that in the life of a test.
    for (bit, count) in set.into_iter().enumerate() {
        assert!((390..=610).contains(&count), "bit {bit}: {count} of {IDS}");
    }
}
