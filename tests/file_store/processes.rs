//! Other processes, their locks, and callers that leave.

use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::process::Stdio;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cloakroom::store::{FileStore, Handle, Outcome, Record, SessionStore, StoreErrorKind, Version};

use super::*;

#[test]
fn increments_of_several_processes_and_tasks_add_up() {
    const THIS: &str = "processes::increments_of_several_processes_and_tasks_add_up";
    const PROCESSES: u64 = 4;
    const TASKS: u64 = 3;
    const INCREMENTS: u64 = 20;

    async fn increment(store: FileStore) {
        for _ in 0..INCREMENTS {
            loop {
                let old = store.load(&handle(1)).await.unwrap().unwrap();
                let count = u64::from_be_bytes((*old.payload).try_into().unwrap()) + 1;
                let new = Record {
                    version: Version::from_u64(rand::random()),
                    payload: count.to_be_bytes()[..].into(),
                    ..old.clone()
                };
                let updated = update(&store, 1, &new, old.version.to_u64(), NOW).await;
                if updated.unwrap() == Outcome::Done {
                    break;
                }
            }
        }
    }

    if let Some(root) = child::folder() {
        return block_on(async {
            let store = FileStore::builder(&root)
                .without_sync()
                .lock_timeout(NEVER)
                .open()
                .await
                .unwrap();
            println!("\nready");
            let tasks = (0..TASKS).map(|_| tokio::spawn(increment(store.clone())));
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        });
    }
    let (_folder, root) = folder();
    let store = block_on(FileStore::open(&root)).unwrap();
    let zero = Record {
        payload: 0_u64.to_be_bytes()[..].into(),
        ..record(1, LATER)
    };
    block_on(store.create(&handle(1), &zero)).unwrap();
    // Holds all of them back until the last one is there.
    let start = hold_lock(&root, 1);
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|_| {
            child::again(THIS, &root)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in &mut children {
        let output = BufReader::new(child.stdout.as_mut().unwrap());
        let ready = output.lines().any(|line| line.unwrap() == "ready");
        assert!(ready, "the child is gone");
    }
    drop(start);
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
    }
    let sum = block_on(store.load(&handle(1))).unwrap().unwrap();
    let count = u64::from_be_bytes((*sum.payload).try_into().unwrap());
    assert_eq!(count, PROCESSES * TASKS * INCREMENTS);
}

#[tokio::test]
async fn a_lock_that_another_process_keeps_is_an_error_that_names_it_and_nothing_changes() {
    let (_folder, root) = folder();
    let store = FileStore::builder(&root)
        .lock_timeout(Duration::from_millis(20))
        .open()
        .await
        .unwrap();
    create(&store, 1, &record(1, LONG_AGO)).await.unwrap();
    let lock = hold_lock(&root, 1);
    let before = LONG_AGO - 1;
    for error in [
        create(&store, 1, &record(1, LATER)).await.unwrap_err(),
        update(&store, 1, &record(2, LATER), 1, before)
            .await
            .unwrap_err(),
        touch(&store, 1, LATER, 1, before).await.unwrap_err(),
        store.delete(&handle(1)).await.unwrap_err(),
        sweep(&store, 1).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::TimedOut);
        assert_names(&error, &root.join("locks/01.lock"));
        assert!(error.to_string().contains("20ms"), "{error}");
    }
    // Reading waits for nobody.
    let loaded = store.load(&handle(1)).await.unwrap();
    assert_eq!(loaded, Some(record(1, LONG_AGO)));
    drop(lock);
    assert!(store.delete(&handle(1)).await.unwrap());
}

#[tokio::test]
async fn callers_that_wait_for_one_lock_take_no_threads_from_the_others() {
    let (_folder, root) = folder();
    let store = FileStore::builder(&root)
        .lock_timeout(NEVER)
        .max_concurrency(NonZeroUsize::new(2).unwrap())
        .open()
        .await
        .unwrap();
    let lock = hold_lock(&root, 1);
    let waiting: Vec<_> = (0..10)
        .map(|number| {
            let store = store.clone();
            let mut bytes = [number; 16];
            bytes[0] = 1;
            tokio::spawn(async move {
                let handle = Handle::from_bytes(bytes);
                store.create(&handle, &record(1, LATER)).await
            })
        })
        .collect();
    // Let each of them come to where it waits.
    tokio::task::yield_now().await;
    let others = async {
        create(&store, 2, &record(1, LATER)).await.unwrap();
        store.load(&handle(2)).await.unwrap().unwrap();
    };
    tokio::time::timeout(Duration::from_secs(30), others)
        .await
        .expect("the other shards go on");
    drop(lock);
    for task in waiting {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_change_whose_caller_left_while_it_waited_never_happens() {
    let (_folder, root) = folder();
    let store = FileStore::builder(&root)
        .lock_timeout(NEVER)
        .open()
        .await
        .unwrap();
    create(&store, 1, &record(1, LATER)).await.unwrap();
    let lock = hold_lock(&root, 1);
    {
        let handle = handle(1);
        let deletion = pin!(store.delete(&handle));
        assert!(poll_once(deletion).is_pending());
    }
    drop(lock);
    // Queues behind what is left of the deletion.
    let touched = touch(&store, 1, LATER + 1, 1, NOW).await;
    assert_eq!(touched.unwrap(), Outcome::Done);
}

#[test]
fn a_runtime_that_is_shut_down_is_an_error_and_no_panic() {
    let (_folder, root) = folder();
    let store = block_on(FileStore::open(&root)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let dead = runtime.handle().clone();
    drop(runtime);
    let _entered = dead.enter();
    for result in [
        poll_once(pin!(store.load(&handle(1)))).map(|result| result.map(drop)),
        poll_once(pin!(create(&store, 1, &record(1, LATER)))),
        poll_once(pin!(FileStore::open(&root))).map(|result| result.map(drop)),
    ] {
        let Poll::Ready(Err(error)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    }
}

#[test]
fn a_runtime_without_timers_and_io_is_enough() {
    let (_folder, root) = folder();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = FileStore::open(&root).await.unwrap();
        create(&store, 1, &record(1, LATER)).await.unwrap();
        assert_eq!(sweep(&store, 1).await.unwrap(), 0);
    });
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
