//! Overlapping requests on one session lose nothing: their changes merge key by key (guarantee 3).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::response::Result;
use axum::routing::post;
use cloakroom::testing::{Operation, PausingStore};
use cloakroom::{Session, SessionStore};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

// Each test file uses its part of it.
#[allow(dead_code, unused_imports, unused_macros)]
mod support;

use self::support::{Client, Setup, contents, on_every_store};

on_every_store! {
    twenty_increments_started_together_add_up_to_twenty,
    twenty_increments_that_all_loaded_before_any_wrote_add_up_to_twenty,
    writers_of_different_keys_are_both_kept,
    of_two_writers_of_one_key_the_last_wins,
    what_is_set_while_a_clear_is_under_way_is_cleared,
    what_is_set_after_an_overlapping_clear_is_all_there_is,
    an_update_of_a_key_that_was_removed_meanwhile_begins_anew,
    a_removal_removes_what_was_written_meanwhile,
    a_read_that_overlaps_with_a_write_neither_loses_nor_retries_anything,
    a_value_that_was_returned_before_the_save_is_as_it_was_and_the_saved_one_is_exact,
    a_save_in_the_middle_of_a_request_merges_as_well,
    what_a_save_finds_to_be_there_already_is_not_applied_again,
    changes_staged_while_a_save_is_under_way_are_saved_by_the_next_one,
    an_update_staged_while_what_it_began_with_is_saved_adds_to_what_others_make_of_that,
    changes_that_no_longer_fit_on_top_of_others_are_an_error_and_leave_those,
    two_first_visits_at_once_make_a_session_each,
    ;
    over TCP:
    twenty_increments_started_together_add_up_to_twenty,
    twenty_increments_that_all_loaded_before_any_wrote_add_up_to_twenty,
    writers_of_different_keys_are_both_kept,
}

/// Sends the first request, lets it come to where it would write, sends the second one from beginning to
/// end, and lets the first one go on.
async fn overlap(
    store: &PausingStore<Arc<dyn SessionStore>>,
    client: &Client,
    first: &str,
    second: &str,
) {
    let pause = store.pause_before(Operation::Update);
    let overlapped = tokio::spawn({
        let (window, first) = (client.new_window(), first.to_owned());
        async move { window.post(&first).await }
    });
    pause.reached().await;
    client.post(second).await.assert_status(StatusCode::OK);
    pause.release();
    let response = overlapped.await.unwrap().assert_status(StatusCode::OK);
    assert!(response.set_cookies().is_empty());
}

async fn twenty_increments_started_together_add_up_to_twenty(setup: Setup) {
    let client = setup.client(setup.store.clone()).await;
    client.post("/set/a/1").await;
    let together = Arc::new(Barrier::new(20));
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        let (window, together) = (client.new_window(), together.clone());
        requests.spawn(async move {
            together.wait().await;
            window.post("/add/n").await.assert_status(StatusCode::OK)
        });
    }
    for response in requests.join_all().await {
        assert!(response.set_cookies().is_empty());
    }
    assert_eq!(client.get("/show").await.text(), "nobody: a=1 n=20");
}

async fn twenty_increments_that_all_loaded_before_any_wrote_add_up_to_twenty(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client(store.clone()).await;
    client.post("/add/n").await;
    let pauses: Vec<_> = (0..20)
        .map(|_| store.pause_before(Operation::Update))
        .collect();
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        let window = client.new_window();
        requests.spawn(async move { window.post("/add/n").await });
    }
    for pause in &pauses {
        pause.reached().await;
    }
    drop(pauses);
    for response in requests.join_all().await {
        assert_eq!(response.assert_status(StatusCode::OK).text(), "nobody: n=2");
    }
    assert_eq!(client.get("/show").await.text(), "nobody: n=21");
}

async fn writers_of_different_keys_are_both_kept(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client(store.clone()).await;
    client.post("/set/a/1").await;
    overlap(&store, &client, "/set/b/first", "/set/c/second").await;
    assert_eq!(
        client.get("/show").await.text(),
        "nobody: a=1 b=first c=second"
    );
}

async fn of_two_writers_of_one_key_the_last_wins(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client(store.clone()).await;
    client.post("/set/a/1").await;
    overlap(
        &store,
        &client,
        "/set/a/written-last",
        "/set/a/written-first",
    )
    .await;
    assert_eq!(client.get("/show").await.text(), "nobody: a=written-last");
}

async fn what_is_set_while_a_clear_is_under_way_is_cleared(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client(store.clone()).await;
    client.post("/set/a/1").await;
    overlap(&store, &client, "/clear", "/set/b/2").await;
    assert_eq!(client.get("/show").await.text(), "nobody:");
}

async fn what_is_set_after_an_overlapping_clear_is_all_there_is(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client(store.clone()).await;
    client.post("/set/a/1").await;
    overlap(&store, &client, "/set/b/2", "/clear").await;
    assert_eq!(client.get("/show").await.text(), "nobody: b=2");
}

async fn an_update_of_a_key_that_was_removed_meanwhile_begins_anew(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client(store.clone()).await;
    for _ in 0..5 {
        client.post("/add/n").await;
    }
    overlap(&store, &client, "/add/n", "/remove/n").await;
    assert_eq!(client.get("/show").await.text(), "nobody: n=1");
}

async fn a_removal_removes_what_was_written_meanwhile(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client(store.clone()).await;
    client.post("/add/n").await;
    overlap(&store, &client, "/remove/n", "/add/n").await;
    assert_eq!(client.get("/show").await.text(), "nobody:");
}

async fn a_read_that_overlaps_with_a_write_neither_loses_nor_retries_anything(setup: Setup) {
    let store = setup.pausing();
    let spy = cloakroom::testing::SpyStore::new(store.clone());
    let client = setup.client(spy.clone()).await;
    client.post("/add/n").await;
    let pause = store.pause_after(Operation::Load);
    let reading = tokio::spawn({
        let window = client.new_window();
        async move { window.get("/show").await }
    });
    pause.reached().await;
    client.post("/add/n").await;
    spy.reset();
    pause.release();
    assert_eq!(reading.await.unwrap().text(), "nobody: n=1");
    assert_eq!(spy.total(), 0);
    assert_eq!(client.get("/show").await.text(), "nobody: n=2");
}

async fn a_value_that_was_returned_before_the_save_is_as_it_was_and_the_saved_one_is_exact(
    setup: Setup,
) {
    let store = setup.pausing();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = {
        let runs = runs.clone();
        async move |session: Session| -> Result<String> {
            let n = session.update("n", move |n: &mut u64| {
                runs.fetch_add(1, Ordering::Relaxed);
                *n += 1;
            })?;
            let before = session.get::<u64>("n")?.unwrap();
            session.save().await?;
            let after = session.get::<u64>("n")?.unwrap();
            Ok(format!("{n} {before} {after}"))
        }
    };
    let routes = Router::new().route("/counted", post(counted));
    let client = setup.client_with(store.clone(), routes).await;
    client.post("/add/n").await;
    let pause = store.pause_before(Operation::Update);
    let counting = tokio::spawn({
        let window = client.new_window();
        async move { window.post("/counted").await }
    });
    pause.reached().await;
    client.post("/add/n").await;
    pause.release();
    assert_eq!(counting.await.unwrap().text(), "2 2 3");
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    assert_eq!(client.get("/show").await.text(), "nobody: n=3");
}

async fn a_save_in_the_middle_of_a_request_merges_as_well(setup: Setup) {
    let store = setup.pausing();
    let twice = async |session: Session| -> Result<String> {
        session.update("n", |n: &mut u64| *n += 1)?;
        session.insert("saved", "ours")?;
        session.save().await?;
        session.update("n", |n: &mut u64| *n += 1)?;
        session.insert("own", true)?;
        Ok(contents(&session))
    };
    let routes = Router::new().route("/twice", post(twice));
    let client = setup.client_with(store.clone(), routes).await;
    client.post("/add/n").await;
    // Once at the save, and once at the end of the request.
    let saving = store.pause_before(Operation::Update);
    let request = tokio::spawn({
        let window = client.new_window();
        async move { window.post("/twice").await }
    });
    saving.reached().await;
    client.post("/add/n").await;
    // The save is tried again without a pause, and the commit at the end pauses.
    let passes = store.pause_before(Operation::Update);
    saving.release();
    passes.reached().await;
    let committing = store.pause_before(Operation::Update);
    passes.release();
    committing.reached().await;
    client.post("/add/n").await;
    // What was saved is not applied again by the commit.
    client.post("/set/saved/theirs").await;
    committing.release();
    assert_eq!(
        request.await.unwrap().assert_status(StatusCode::OK).text(),
        "nobody: n=4 own=true saved=ours"
    );
    assert_eq!(
        client.get("/show").await.text(),
        "nobody: n=5 own=true saved=theirs"
    );
}

/// A save that has nothing to write, since what it is of was there when the request began, or was written by
/// another request meanwhile.
async fn what_a_save_finds_to_be_there_already_is_not_applied_again(setup: Setup) {
    for (at_first, meanwhile) in [("ours", None), ("theirs", Some("ours"))] {
        let store = setup.pausing();
        let after_the_save = Arc::new(Barrier::new(2));
        let between = after_the_save.clone();
        let handler = async move |session: Session| -> Result<()> {
            session.insert("saved", "ours")?;
            session.save().await?;
            between.wait().await;
            between.wait().await;
            Ok(session.insert("own", true)?)
        };
        let routes = Router::new().route("/twice", post(handler));
        let client = setup.client_with(store.clone(), routes).await;
        client.post(&format!("/set/saved/{at_first}")).await;
        let saving = meanwhile.map(|_| store.pause_before(Operation::Update));
        let request = tokio::spawn({
            let window = client.new_window();
            async move { window.post("/twice").await }
        });
        if let (Some(saving), Some(value)) = (saving, meanwhile) {
            saving.reached().await;
            client.post(&format!("/set/saved/{value}")).await;
            saving.release();
        }
        after_the_save.wait().await;
        client.post("/set/saved/later").await;
        after_the_save.wait().await;
        request.await.unwrap().assert_status(StatusCode::OK);
        assert_eq!(
            client.get("/show").await.text(),
            "nobody: own=true saved=later",
            "{at_first}, then {meanwhile:?}"
        );
    }
}

async fn changes_staged_while_a_save_is_under_way_are_saved_by_the_next_one(setup: Setup) {
    let store = setup.pausing();
    let pausing = store.clone();
    let handler = async move |session: Session| -> Result<String> {
        session.insert("a", 1)?;
        session.insert("again", 1)?;
        session.update("n", |n: &mut u64| *n += 1)?;
        let pause = pausing.pause_before(Operation::Update);
        let meanwhile = async {
            pause.reached().await;
            session.update("n", |n: &mut u64| *n += 10).unwrap();
            session.insert("b", 2).unwrap();
            session.insert("again", 2).unwrap();
            session.remove("a").unwrap();
            pause.release();
        };
        let (saved, ()) = tokio::join!(session.save(), meanwhile);
        saved?;
        Ok(contents(&session))
    };
    let routes = Router::new().route("/both", post(handler));
    let client = setup.client_with(store.clone(), routes).await;
    client.post("/add/n").await;
    let response = client.post("/both").await.assert_status(StatusCode::OK);
    assert_eq!(response.text(), "nobody: again=2 b=2 n=12");
    assert_eq!(client.get("/show").await.text(), "nobody: again=2 b=2 n=12");
}

async fn an_update_staged_while_what_it_began_with_is_saved_adds_to_what_others_make_of_that(
    setup: Setup,
) {
    let store = setup.pausing();
    let pausing = store.clone();
    let handler = async move |session: Session| -> Result<()> {
        session.insert("n", 10)?;
        let pause = pausing.pause_before(Operation::Update);
        let meanwhile = async {
            pause.reached().await;
            session.update("n", |n: &mut u64| *n += 1).unwrap();
            pause.release();
        };
        let (saved, ()) = tokio::join!(session.save(), meanwhile);
        saved?;
        Ok(())
    };
    let routes = Router::new().route("/reset", post(handler));
    let client = setup.client_with(store.clone(), routes).await;
    client.post("/add/n").await;
    let save = store.pause_after(Operation::Update);
    let resetting = tokio::spawn({
        let window = client.new_window();
        async move { window.post("/reset").await }
    });
    save.reached().await;
    client.post("/add/n").await.assert_status(StatusCode::OK);
    save.release();
    resetting.await.unwrap().assert_status(StatusCode::OK);
    assert_eq!(client.get("/show").await.text(), "nobody: n=12");
}

async fn changes_that_no_longer_fit_on_top_of_others_are_an_error_and_leave_those(setup: Setup) {
    let store = setup.pausing();
    let client = setup
        .client_of(
            setup
                .builder(store.clone())
                .max_session_size(64)
                .build()
                .unwrap(),
        )
        .await;
    client.post("/set/a/1").await;
    let value = "x".repeat(30);
    let pause = store.pause_before(Operation::Update);
    let overlapped = tokio::spawn({
        let (window, path) = (client.new_window(), format!("/set/b/{value}"));
        async move { window.post(&path).await }
    });
    pause.reached().await;
    client
        .post(&format!("/set/c/{value}"))
        .await
        .assert_status(StatusCode::OK);
    pause.release();
    let response = overlapped
        .await
        .unwrap()
        .assert_status(StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.header("x-session-error"), Some("TooLarge"));
    assert_eq!(
        client.get("/show").await.text(),
        format!("nobody: a=1 c={value}")
    );
}

async fn two_first_visits_at_once_make_a_session_each(setup: Setup) {
    let store = setup.pausing();
    let client = setup.client(store.clone()).await;
    let pause = store.pause_before(Operation::Create);
    let other = client.clone();
    let first = tokio::spawn(async move {
        other.post("/set/a/1").await;
        other
    });
    pause.reached().await;
    client.post("/set/b/2").await;
    pause.release();
    let first = first.await.unwrap();
    assert_eq!(first.get("/show").await.text(), "nobody: a=1");
    assert_eq!(client.get("/show").await.text(), "nobody: b=2");
}
