//! Sessions that go on after their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Result;
use axum::routing::post as on_post;
use cloakroom::Session;
use cloakroom::events::{Event, EventKind};
use cloakroom::testing::Operation;

use super::support::{COOKIE, handle_of, in_memory};
use super::{id, post, shown};

async fn a_save_under_way_does_not_restore_what_a_logout_deleted(path: &'static str) {
    let setup = in_memory();
    for after_the_load in [true, false] {
        let store = setup.pausing();
        let client = setup.client(store.clone()).await;
        post(&client, "/login/alice").await;
        let (slow, handle) = (client.clone(), handle_of(&id(&client)));
        let pause = match after_the_load {
            true => store.pause_after(Operation::Load),
            false => store.pause_before(Operation::Update),
        };
        let saving = tokio::spawn(async move { (slow.post(path).await, slow) });
        pause.reached().await;
        post(&client, "/logout").await;
        pause.release();
        let (response, slow) = saving.await.unwrap();
        assert!(response.set_cookies().is_empty());
        assert!(!setup.holds(&handle).await);
        assert_eq!(shown(&slow).await, "no session");
    }
}

/// A save of Rack::Session::Pool puts back what another request has deleted meanwhile.
#[tokio::test]
async fn cve_2025_46336() {
    a_save_under_way_does_not_restore_what_a_logout_deleted("/set/a/1").await;
}

/// So does the pool of Rack, from before it was a library of its own. Here the save is of a renewal.
#[tokio::test]
async fn cve_2025_32441() {
    a_save_under_way_does_not_restore_what_a_logout_deleted("/renew").await;
}

/// Spring Security's logout clears the context of the request, and does not save that it is empty.
#[tokio::test]
async fn cve_2023_20862() {
    let setup = in_memory();
    let client = setup.client(setup.store.clone()).await;
    post(&client, "/login/alice").await;
    let kept = client.clone();
    assert_eq!(shown(&kept).await, "alice:");
    post(&client, "/logout").await;
    assert!(!setup.holds(&handle_of(&id(&kept))).await);
    assert_eq!(shown(&kept).await, "no session");
}

/// Jetty notices that a user was revoked, and honours them for the request that noticed.
#[tokio::test]
async fn cve_2023_41900() {
    let setup = in_memory();
    let layer = setup.builder(setup.store.clone()).build().unwrap();
    let sessions = layer.sessions();
    let client = setup.client_of(layer).await;
    post(&client, "/login/alice").await;
    assert_eq!(shown(&client).await, "alice:");
    setup.clock.advance(Duration::from_secs(2));
    assert_eq!(sessions.end_all("alice").await.unwrap(), 1);
    assert_eq!(shown(&client).await, "no session");
}

async fn a_cookie_that_is_kept_for_longer_opens_nothing() {
    let setup = in_memory();
    let remembered = async |session: Session| -> Result<()> {
        session.insert("a", 1)?;
        Ok(session.persistent_cookie()?)
    };
    let routes = Router::new().route("/remembered", on_post(remembered));
    let client = setup.client_with(setup.store.clone(), routes).await;
    post(&client, "/remembered").await;
    let kept = id(&client);
    assert_eq!(shown(&client).await, "nobody: a=1");
    setup.clock.advance(Duration::from_secs(60 * 60));
    client.clear_cookies();
    client.set_cookie(COOKIE, &kept);
    // The record is still there: nobody has swept it.
    assert!(setup.holds(&handle_of(&kept)).await);
    assert_eq!(shown(&client).await, "no session");
}

/// fastify-session, where the cookie has a `Max-Age`, moves its expiry on whenever it reads the session back, so
/// that none is ever found to have expired.
#[tokio::test]
async fn cve_2024_35220() {
    a_cookie_that_is_kept_for_longer_opens_nothing().await;
}

/// aiohttp-session leaves it to the client to forget a cookie in time: what is in it says nothing of its age.
#[tokio::test]
async fn cve_2018_1000814() {
    a_cookie_that_is_kept_for_longer_opens_nothing().await;
}

/// An exception of a listener keeps Jetty from invalidating the session.
#[tokio::test]
async fn cve_2021_34428() {
    let setup = in_memory();
    let failures = Arc::new(AtomicUsize::new(0));
    let failed = failures.clone();
    let layer = setup
        .builder(setup.store.clone())
        .on_event(move |event: &Event<'_>| {
            if matches!(event.kind(), EventKind::Ended(_)) {
                failed.fetch_add(1, Ordering::Relaxed);
                panic!("the listener fails");
            }
        })
        .build()
        .unwrap();
    let client = setup.client_of(layer).await;
    post(&client, "/login/alice").await;
    let kept = client.clone();
    assert_eq!(shown(&kept).await, "alice:");
    let response = client.post("/logout").await.assert_status(StatusCode::OK);
    assert_eq!(failures.load(Ordering::Relaxed), 1);
    assert_eq!(response.set_cookies().len(), 1);
    assert!(!setup.holds(&handle_of(&id(&kept))).await);
    assert_eq!(shown(&kept).await, "no session");
}

/// Django keeps sessions in the cache under the bare key, where what the app keeps under a key of the user's
/// choice is taken for one. Here the app's keys are apart from what is known of a session itself.
#[tokio::test]
async fn cve_2011_4136() {
    let setup = in_memory();
    let client = setup.client(setup.store.clone()).await;
    for key in [
        "user_id",
        "user",
        "digest",
        "secret",
        "expires_at",
        "authenticated_at",
        "idle",
        "version",
    ] {
        post(&client, &format!("/set/{key}/admin")).await;
        assert!(shown(&client).await.starts_with("nobody:"), "{key}");
    }
    let record = setup
        .store
        .load(&handle_of(&id(&client)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record.user_id, None);
    setup.clock.advance(Duration::from_secs(60 * 60));
    assert_eq!(shown(&client).await, "no session");
}
