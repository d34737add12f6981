//! The connections of a pool, and how they go from one operation to the next.
//!
//! sqlx tests each connection that it gets back: it sends something to the server, and waits for the answer. Where
//! nobody waits for a connection, that goes unnoticed. Where all are in use, the next operation would have to wait for
//! it, and the server be asked twice for each. So a connection is handed on to an operation that waits, and goes to
//! the pool after some of them, so that others who use the pool get theirs.
//!
//! There are as many turns as the pool may have connections, and an operation has one until its connection is handed
//! on, or on its way back to the pool. Who waits for a turn has not asked the pool for anything, and who has asked it is
//! handed none: so nothing that the pool has begun for somebody, such as to open a connection, is broken off for
//! another connection.

use std::ops::DerefMut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// After how many operations a connection goes back to the pool if few wait.
const OPERATIONS: usize = 4;

/// The connections of a pool. Clones share them.
pub(in crate::store) struct Connections<DB: Database>(Arc<Shared<DB>>);

struct Shared<DB: Database> {
    pool: Pool<DB>,
    turns: Arc<Semaphore>,
    waiters: Mutex<Waiters<DB>>,
}

/// Who waits for a turn.
struct Waiters<DB: Database> {
    count: usize,
    /// Connections for them, never more than there are of them.
    handed_on: Vec<Borrowed<DB>>,
}

/// A connection that goes back to the pool when it is dropped.
struct Borrowed<DB: Database> {
    connection: PoolConnection<DB>,
    /// For how many operations more it may be used.
    operations_left: usize,
}

impl<DB: Database> Connections<DB> {
    pub(in crate::store) fn of(pool: Pool<DB>) -> Self {
        let turns = Arc::new(Semaphore::new(most(&pool)));
        let waiters = Mutex::new(Waiters {
            count: 0,
            handed_on: Vec::new(),
        });
        let shared = Shared {
            pool,
            turns,
            waiters,
        };
        Self(Arc::new(shared))
    }

    pub(in crate::store) fn pool(&self) -> &Pool<DB> {
        &self.0.pool
    }

    /// A connection for one operation.
    ///
    /// # Errors
    ///
    /// As those of the pool, also when it takes longer than the pool lets anybody wait.
    pub(super) async fn lease(&self) -> sqlx::Result<Lease<DB>> {
        match self.0.turns.clone().try_acquire_owned() {
            // One who waits may not stand in line for a turn yet, and have been handed a connection: whoever has a
            // turn takes what there is.
            Ok(turn) => self.lease_of(self.0.handed_on(), turn).await,
            Err(_) => {
                let limit = self.0.pool.options().get_acquire_timeout();
                // Boxed, so that those who need not wait have no room for it.
                let lease = Box::pin(tokio::time::timeout(limit, self.wait()));
                lease.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
            }
        }
    }

    async fn wait(&self) -> sqlx::Result<Lease<DB>> {
        let waiter = Waiter::of(&self.0);
        let turn = self.0.turns.clone().acquire_owned();
        let turn = self.0.pool.close_event().do_until(turn).await?;
        let turn = turn.map_err(|_closed| sqlx::Error::PoolClosed)?;
        let handed_on = self.0.handed_on();
        drop(waiter);
        self.lease_of(handed_on, turn).await
    }

    async fn lease_of(
        &self,
        handed_on: Option<Borrowed<DB>>,
        turn: OwnedSemaphorePermit,
    ) -> sqlx::Result<Lease<DB>> {
        let borrowed = match handed_on {
            Some(borrowed) => borrowed,
            None => self.borrow().await?,
        };
        Ok(Lease {
            borrowed: Some(borrowed),
            shared: self.0.clone(),
            _turn: turn,
        })
    }

    async fn borrow(&self) -> sqlx::Result<Borrowed<DB>> {
        let Shared { pool, .. } = &*self.0;
        // Boxed, since what it takes to make a connection is 9 KB, which would be there until the operation is done.
        let connection = Box::pin(pool.acquire()).await?;
        // If each who waits stood in the pool's own line, whoever comes to that now would be behind all of them.
        let waiting = self.0.waiters().count;
        Ok(Borrowed {
            connection,
            operations_left: OPERATIONS.max(waiting.div_ceil(most(pool))),
        })
    }
}

/// How many connections a pool may have.
fn most<DB: Database>(pool: &Pool<DB>) -> usize {
    let most = usize::try_from(pool.options().get_max_connections()).unwrap_or(usize::MAX);
    most.clamp(1, Semaphore::MAX_PERMITS)
}

impl<DB: Database> Clone for Connections<DB> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<DB: Database> Shared<DB> {
    /// Hands a connection on to one who waits. Gives it back if there is none.
    fn hand_on(&self, borrowed: Borrowed<DB>) -> Option<Borrowed<DB>> {
        let mut waiters = self.waiters();
        if waiters.handed_on.len() >= waiters.count {
            return Some(borrowed);
        }
        waiters.handed_on.push(borrowed);
        None
    }

    /// A connection that was handed on, for one who has a turn.
    fn handed_on(&self) -> Option<Borrowed<DB>> {
        self.waiters().handed_on.pop()
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters<DB>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits for a turn, until dropped.
struct Waiter<'a, DB: Database>(&'a Shared<DB>);

impl<'a, DB: Database> Waiter<'a, DB> {
    fn of(shared: &'a Shared<DB>) -> Self {
        shared.waiters().count += 1;
        Self(shared)
    }
}

impl<DB: Database> Drop for Waiter<'_, DB> {
    fn drop(&mut self) {
        let mut waiters = self.0.waiters();
        waiters.count -= 1;
        let for_nobody = waiters.handed_on.len() > waiters.count;
        // Outside of a runtime it cannot go back to the pool: then whoever has the next turn takes it.
        if for_nobody && Handle::try_current().is_ok() {
            let borrowed = waiters.handed_on.pop();
            // It goes back outside of the lock.
            drop(waiters);
            drop(borrowed);
        }
    }
}

/// A connection that is closed when this is dropped, unless it was passed on or given back.
pub(super) struct Lease<DB: Database> {
    /// `None` once it was.
    borrowed: Option<Borrowed<DB>>,
    shared: Arc<Shared<DB>>,
    /// It ends after that.
    _turn: OwnedSemaphorePermit,
}

impl<DB: Database> Lease<DB> {
    /// `None` once it was passed on or given back.
    pub(super) fn connection(&mut self) -> Option<&mut DB::Connection> {
        let borrowed = self.borrowed.as_mut()?;
        Some(borrowed.connection.deref_mut())
    }

    /// All went well: the next operation may have the connection as it is.
    pub(super) fn pass_on(&mut self) {
        let Some(mut borrowed) = self.borrowed.take() else {
            return;
        };
        borrowed.operations_left -= 1;
        if borrowed.operations_left > 0 && !self.shared.pool.is_closed() {
            // To the pool, if nobody waits.
            drop(self.shared.hand_on(borrowed));
        }
    }

    /// To the pool, which tests it first.
    pub(super) fn give_back(&mut self) {
        self.borrowed = None;
    }
}

impl<DB: Database> Drop for Lease<DB> {
    fn drop(&mut self) {
        let Some(Borrowed { mut connection, .. }) = self.borrowed.take() else {
            return;
        };
        match Handle::try_current() {
            Ok(_) => connection.close_on_drop(),
            // Without a runtime the server is not told.
            Err(_) => drop(connection.detach()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use sqlx::sqlite::{Sqlite, SqlitePoolOptions};
    use tokio::sync::Notify;
    use tokio::task::{JoinHandle, JoinSet, yield_now};

    use super::*;

    /// How often a pool has made a connection, and got one back.
    #[derive(Clone, Default)]
    struct Counts {
        made: Arc<AtomicU32>,
        returned: Arc<AtomicU32>,
    }

    fn count(in_which: &Arc<AtomicU32>) {
        in_which.fetch_add(1, Ordering::Relaxed);
    }

    fn options(counts: &Counts, most: u32) -> SqlitePoolOptions {
        let Counts { made, returned } = counts.clone();
        SqlitePoolOptions::new()
            .max_connections(most)
            .after_connect(move |_, _| {
                count(&made);
                Box::pin(async { Ok(()) })
            })
            .after_release(move |_, _| {
                count(&returned);
                Box::pin(async { Ok(true) })
            })
    }

    async fn connect(options: SqlitePoolOptions) -> Connections<Sqlite> {
        Connections::of(options.connect("sqlite::memory:").await.unwrap())
    }

    /// The connections of a pool that has one, which is idle.
    async fn one() -> (Connections<Sqlite>, Counts) {
        let counts = Counts::default();
        let connections = connect(options(&counts, 1)).await;
        connections.until_idle(1).await;
        counts.returned.store(0, Ordering::Relaxed);
        (connections, counts)
    }

    async fn until(is_so: impl Fn() -> bool + Send + Sync) {
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            while !is_so() {
                yield_now().await;
            }
        });
        waited.await.expect("what is waited for never comes");
    }

    impl Counts {
        fn made(&self) -> u32 {
            self.made.load(Ordering::Relaxed)
        }

        fn returned(&self) -> u32 {
            self.returned.load(Ordering::Relaxed)
        }
    }

    impl Connections<Sqlite> {
        async fn use_once(&self) {
            let mut lease = self.lease().await.unwrap();
            assert!(lease.connection().is_some());
            lease.pass_on();
            assert!(lease.connection().is_none());
        }

        fn spawn_use(&self) -> JoinHandle<()> {
            let connections = self.clone();
            tokio::spawn(async move { connections.use_once().await })
        }

        async fn until_waiting(&self, count: usize) {
            until(|| self.0.waiters().count == count).await;
        }

        async fn until_idle(&self, count: usize) {
            until(|| self.pool().num_idle() == count).await;
        }
    }

    #[tokio::test]
    async fn a_connection_goes_from_operation_to_operation_and_back_after_some() {
        let (connections, counts) = one().await;
        let mut first = connections.lease().await.unwrap();
        // They go on with it after four, as many as still wait then, and one.
        let others = 3 * OPERATIONS;
        let mut uses = JoinSet::new();
        for _ in 0..others {
            let connections = connections.clone();
            uses.spawn(async move { connections.use_once().await });
        }
        connections.until_waiting(others).await;
        first.pass_on();
        drop(first);
        uses.join_all().await;
        connections.until_idle(1).await;
        assert_eq!((counts.made(), counts.returned()), (1, 3));
        assert_eq!(connections.0.waiters().count, 0);
    }

    #[tokio::test]
    async fn where_nobody_waits_each_goes_back() {
        let (connections, counts) = one().await;
        for count in 1..=5 {
            connections.use_once().await;
            connections.until_idle(1).await;
            assert_eq!(counts.returned(), count);
        }
    }

    /// How often the connection of a pool was made, and came back, when one lease of it ended so while another waited.
    async fn while_another_waits(end: impl FnOnce(Lease<Sqlite>)) -> (u32, u32) {
        let (connections, counts) = one().await;
        let first = connections.lease().await.unwrap();
        let next = connections.spawn_use();
        connections.until_waiting(1).await;
        end(first);
        next.await.unwrap();
        connections.until_idle(1).await;
        (counts.made(), counts.returned())
    }

    #[tokio::test]
    async fn after_an_error_of_the_database_the_pool_tests_it_whoever_waits() {
        let given_back = while_another_waits(|mut first| first.give_back());
        assert_eq!(given_back.await, (1, 2));
    }

    #[tokio::test]
    async fn what_is_not_given_back_is_closed_and_the_next_one_gets_another() {
        assert_eq!(while_another_waits(drop).await, (2, 1));
    }

    #[tokio::test]
    async fn others_who_use_the_pool_get_their_turn() {
        let (connections, _) = one().await;
        let mut ours = JoinSet::new();
        for _ in 0..4 {
            let connections = connections.clone();
            ours.spawn(async move {
                loop {
                    connections.use_once().await;
                }
            });
        }
        connections.until_waiting(3).await;
        // It fails after the pool's own limit, of 30 seconds.
        drop(connections.pool().acquire().await.unwrap());
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_connection_to_the_next() {
        let (connections, counts) = one().await;
        let mut first = connections.lease().await.unwrap();
        let mut gives_up = Box::pin(connections.lease());
        let mut next = Box::pin(connections.lease());
        let noop = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert!(gives_up.as_mut().poll(noop).is_pending());
        assert!(next.as_mut().poll(noop).is_pending());
        first.pass_on();
        drop(first);
        // It has the turn now, and never looks.
        drop(gives_up);
        next.await.unwrap().pass_on();
        connections.until_idle(1).await;
        assert_eq!(counts.returned(), 1);
        connections.until_waiting(0).await;
    }

    #[tokio::test]
    async fn where_all_give_up_the_connection_goes_back() {
        let (connections, counts) = one().await;
        let mut first = connections.lease().await.unwrap();
        let mut gives_up = Box::pin(connections.lease());
        let noop = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert!(gives_up.as_mut().poll(noop).is_pending());
        first.pass_on();
        drop(first);
        assert_eq!(connections.0.waiters().handed_on.len(), 1);
        drop(gives_up);
        assert_eq!(connections.0.waiters().handed_on.len(), 0);
        connections.until_idle(1).await;
        assert_eq!((counts.made(), counts.returned()), (1, 1));
        connections.use_once().await;
    }

    #[tokio::test]
    async fn a_connection_that_the_pool_is_testing_is_not_lost_to_one_that_is_left() {
        let counts = Counts::default();
        let (testing, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, may_end) = (testing.clone(), go_on.clone());
        let options = options(&counts, 2).before_acquire(move |_, _| {
            let (begins, may_end) = (begins.clone(), may_end.clone());
            Box::pin(async move {
                begins.notify_one();
                may_end.notified().await;
                Ok(true)
            })
        });
        // For `connect`, which has one tested, and for the first lease.
        go_on.notify_one();
        let connections = connect(options.min_connections(2)).await;
        connections.until_idle(2).await;
        testing.notified().await;
        go_on.notify_one();
        let mut first = connections.lease().await.unwrap();
        testing.notified().await;
        // The second of two connections is being tested for this one.
        let tested = connections.spawn_use();
        testing.notified().await;
        let next = connections.spawn_use();
        connections.until_waiting(1).await;
        first.pass_on();
        drop(first);
        next.await.unwrap();
        go_on.notify_one();
        tested.await.unwrap();
        connections.until_idle(2).await;
        assert_eq!((connections.pool().size(), counts.made()), (2, 2));
    }

    #[tokio::test]
    async fn who_has_a_turn_takes_what_one_was_handed_who_is_not_in_line_yet() {
        let (connections, counts) = one().await;
        let mut first = connections.lease().await.unwrap();
        let late = Waiter::of(&connections.0);
        first.pass_on();
        drop(first);
        assert_eq!(connections.0.waiters().handed_on.len(), 1);
        connections.use_once().await;
        drop(late);
        connections.until_idle(1).await;
        assert_eq!((counts.made(), counts.returned()), (1, 1));
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_the_pool_lets_them() {
        let (connections, _) = one().await;
        let _first = connections.lease().await.unwrap();
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        let late = connections.lease().await.map(drop);
        assert!(matches!(late, Err(sqlx::Error::PoolTimedOut)));
        let limit = connections.pool().options().get_acquire_timeout();
        assert!(began.elapsed() >= limit && began.elapsed() < 2 * limit);
        assert_eq!(connections.0.waiters().count, 0);
    }

    #[tokio::test]
    async fn a_pool_that_is_closed_gets_its_connections_back() {
        let (connections, _) = one().await;
        let mut first = connections.lease().await.unwrap();
        let next = tokio::spawn({
            let connections = connections.clone();
            async move { connections.lease().await.map(drop) }
        });
        connections.until_waiting(1).await;
        let closing = connections.pool().close();
        // It need not wait for its turn.
        assert!(matches!(next.await.unwrap(), Err(sqlx::Error::PoolClosed)));
        first.pass_on();
        drop(first);
        closing.await;
    }

    #[test]
    fn what_is_dropped_outside_of_a_runtime_is_dropped_without_a_panic() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (connections, counts) = runtime.block_on(one());
        drop(runtime.block_on(connections.lease()).unwrap());
        let mut first = runtime.block_on(connections.lease()).unwrap();
        let waiter = Waiter::of(&connections.0);
        first.pass_on();
        drop(first);
        drop(waiter);
        runtime.block_on(connections.use_once());
        runtime.block_on(connections.until_idle(1));
        assert_eq!((counts.made(), counts.returned()), (2, 1));
    }

    /// On several threads, with some who give up, some who fail and some who use the pool themselves.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn none_is_lost_whatever_comes_together() {
        let counts = Counts::default();
        let connections = connect(options(&counts, 3)).await;
        let mut all = JoinSet::new();
        for number in 0..60_u32 {
            let connections = connections.clone();
            all.spawn(async move {
                for round in 0..50 {
                    match (number + round) % 5 {
                        0 => drop(connections.pool().acquire().await.unwrap()),
                        1 => connections.lease().await.unwrap().give_back(),
                        2 => {
                            let lease = connections.lease();
                            // Some get one, and close it.
                            drop(tokio::time::timeout(Duration::from_micros(50), lease).await);
                        }
                        _ => connections.use_once().await,
                    }
                }
            });
        }
        all.join_all().await;
        assert_eq!(connections.0.waiters().count, 0);
        assert_eq!(connections.0.waiters().handed_on.len(), 0);
        assert_eq!(connections.0.turns.available_permits(), 3);
        until(|| connections.pool().num_idle() == connections.pool().size() as usize).await;
    }
}
