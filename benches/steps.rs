//! What the single steps of a request cost, in process, on the memory store: `cargo bench --bench steps`.
//!
//! Those of a session run inside a request that stays open meanwhile; those of the store are its calls, as the layer
//! makes them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use cloakroom::clock::from_unix_millis;
use cloakroom::store::{Handle, MemoryStore, Outcome, Record, SessionStore, Version};
use cloakroom::{Session, SessionLayer};
use divan::{Bencher, black_box};
use http::{Request, Response};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tower::{ServiceBuilder, ServiceExt};

fn main() {
    divan::main();
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Calls `bench` with the session of a request that is not answered before. It holds so many keys, saved already.
fn in_a_request(keys: usize, bench: impl FnOnce(&Runtime, &Session)) {
    let runtime = runtime();
    let answer = Arc::new(Notify::new());
    let (given, has_given) = (Arc::new(Mutex::new(None)), Arc::new(Notify::new()));
    let handler = {
        let (given, has_given, answer) = (given.clone(), has_given.clone(), answer.clone());
        move |request: Request<Body>| {
            let (given, has_given, answer) = (given.clone(), has_given.clone(), answer.clone());
            async move {
                let session = Session::load(request.extensions()).await.unwrap();
                for key in 0..keys {
                    session.insert(&format!("key{key}"), 1_u64).unwrap();
                }
                session.save().await.unwrap();
                *given.lock().unwrap() = Some(session);
                has_given.notify_one();
                answer.notified().await;
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        }
    };
    let app = ServiceBuilder::new()
        .layer(SessionLayer::new(MemoryStore::new()))
        .service_fn(handler);
    let request = runtime.spawn(app.oneshot(Request::new(Body::empty())));
    runtime.block_on(has_given.notified());
    let session = given.lock().unwrap().take().unwrap();
    bench(&runtime, &session);
    answer.notify_one();
    runtime.block_on(request).unwrap().unwrap();
}

#[divan::bench(args = [1, 20, 200])]
fn get(bencher: Bencher<'_, '_>, keys: usize) {
    in_a_request(keys, |_, session| {
        bencher.bench_local(|| {
            let value = session.get::<u64>(black_box("key0")).unwrap();
            assert!(value.is_some());
        });
    });
}

#[divan::bench(args = [1, 20, 200])]
fn insert(bencher: Bencher<'_, '_>, keys: usize) {
    in_a_request(keys, |_, session| {
        let mut value = 1_u64;
        bencher.bench_local(|| {
            value += 1;
            session.insert(black_box("key0"), value).unwrap();
        });
    });
}

#[divan::bench(args = [1, 20, 200])]
fn insert_and_save(bencher: Bencher<'_, '_>, keys: usize) {
    in_a_request(keys, |runtime, session| {
        let mut value = 1_u64;
        bencher.bench_local(|| {
            value += 1;
            session.insert(black_box("key0"), value).unwrap();
            runtime.block_on(session.save()).unwrap();
        });
    });
}

#[divan::bench]
fn save_of_nothing(bencher: Bencher<'_, '_>) {
    in_a_request(1, |runtime, session| {
        bencher.bench_local(|| runtime.block_on(session.save()).unwrap());
    });
}

#[divan::bench]
fn renew_id_and_save(bencher: Bencher<'_, '_>) {
    in_a_request(1, |runtime, session| {
        bencher.bench_local(|| {
            session.renew_id().unwrap();
            runtime.block_on(session.save()).unwrap();
        });
    });
}

const RECORDS: u64 = 10_000;

fn handle(number: u64) -> Handle {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Handle::from_bytes(bytes)
}

fn record() -> Record {
    Record {
        version: Version::from_u64(1),
        created_at: from_unix_millis(0),
        expires_at: from_unix_millis(3_600_000),
        user_id: None,
        payload: [0; 94][..].into(),
    }
}

/// Calls `bench` with a store of 10,000 records of 94 bytes, and a count that goes round their numbers.
fn with_records(bench: impl FnOnce(&Runtime, &MemoryStore, &mut dyn FnMut() -> Handle)) {
    let (runtime, store) = (runtime(), MemoryStore::new());
    for number in 0..RECORDS {
        runtime
            .block_on(store.create(&handle(number), &record()))
            .unwrap();
    }
    let mut number = 0;
    bench(&runtime, &store, &mut || {
        number = (number + 1) % RECORDS;
        handle(number)
    });
}

#[divan::bench]
fn memory_store_load(bencher: Bencher<'_, '_>) {
    with_records(|runtime, store, next| {
        bencher.bench_local(|| {
            let found = runtime.block_on(store.load(&next())).unwrap();
            assert!(found.is_some());
        });
    });
}

#[divan::bench]
fn memory_store_touch(bencher: Bencher<'_, '_>) {
    with_records(|runtime, store, next| {
        let (mut expiry, now) = (3_600_000, from_unix_millis(1));
        bencher.bench_local(|| {
            expiry += 1;
            let handle = next();
            let touch = store.touch(&handle, from_unix_millis(expiry), Version::from_u64(1), now);
            assert_eq!(runtime.block_on(touch).unwrap(), Outcome::Done);
        });
    });
}

#[divan::bench]
fn memory_store_update(bencher: Bencher<'_, '_>) {
    with_records(|runtime, store, next| {
        let (record, now) = (record(), from_unix_millis(1));
        bencher.bench_local(|| {
            let handle = next();
            let update = store.update(&handle, &record, record.version, now);
            assert_eq!(runtime.block_on(update).unwrap(), Outcome::Done);
        });
    });
}

#[divan::bench]
fn memory_store_create_and_delete(bencher: Bencher<'_, '_>) {
    with_records(|runtime, store, _| {
        let (record, mut number) = (record(), RECORDS);
        bencher.bench_local(|| {
            number += 1;
            let handle = handle(number);
            runtime.block_on(store.create(&handle, &record)).unwrap();
            assert!(runtime.block_on(store.delete(&handle)).unwrap());
        });
    });
}
