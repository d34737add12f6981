//! The connections of a pool, and how they go from one statement to the next.
//!
//! sqlx tests each connection that it gets back: it sends something to the server, and waits for the answer. Where
//! nobody waits for a connection, that goes unnoticed. Where all are in use, the next statement would have to wait for
//! it, and the server be asked twice for each. So a connection is left for a statement that waits, and goes to the
//! pool after some of them, so that others who use the pool get their turn.
//!
//! There are as many turns as the pool may have connections, and a statement has one from before it asks the pool for
//! a connection until its own is back. So whoever waits, waits here, and not for the pool and somebody's connection
//! at once: nobody breaks off what the pool has begun for them.

use std::ops::DerefMut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// After how many statements a connection goes back to the pool, whoever waits for it.
const MOST_STATEMENTS: u32 = 4;

/// The connections of a pool. Clones share them.
pub(in crate::store) struct Connections<DB: Database>(Arc<Shared<DB>>);

struct Shared<DB: Database> {
    pool: Pool<DB>,
    turns: Arc<Semaphore>,
    queue: Mutex<Queue<DB>>,
}

struct Queue<DB: Database> {
    /// How many wait for a turn.
    waiting: usize,
    /// Connections that were left for them: never more than wait.
    left: Vec<InUse<DB>>,
}

/// A connection that goes back to the pool when it is dropped.
struct InUse<DB: Database> {
    connection: PoolConnection<DB>,
    /// How many it has had since it left the pool.
    statements: u32,
}

impl<DB: Database> Connections<DB> {
    pub(in crate::store) fn of(pool: Pool<DB>) -> Self {
        let most = usize::try_from(pool.options().get_max_connections()).unwrap_or(usize::MAX);
        let turns = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        let queue = Mutex::new(Queue {
            waiting: 0,
            left: Vec::new(),
        });
        Self(Arc::new(Shared { pool, turns, queue }))
    }

    pub(in crate::store) fn pool(&self) -> &Pool<DB> {
        &self.0.pool
    }

    /// A connection for one statement.
    ///
    /// # Errors
    ///
    /// As those of the pool, also when it takes longer than the pool lets anybody wait.
    pub(super) async fn lease(&self) -> sqlx::Result<Lease<DB>> {
        match self.0.turns.clone().try_acquire_owned() {
            Ok(turn) => self.lease_from_pool(turn).await,
            Err(_) => {
                let limit = self.0.pool.options().get_acquire_timeout();
                let lease = tokio::time::timeout(limit, self.wait());
                lease.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
            }
        }
    }

    async fn wait(&self) -> sqlx::Result<Lease<DB>> {
        let waiting = Waiting::begin(&self.0);
        let turn = self.0.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|_closed| sqlx::Error::PoolClosed)?;
        match waiting.end() {
            Some(in_use) => Ok(self.lease_of(in_use, turn)),
            None => self.lease_from_pool(turn).await,
        }
    }

    async fn lease_from_pool(&self, turn: OwnedSemaphorePermit) -> sqlx::Result<Lease<DB>> {
        // Boxed, since what it takes to make a connection is 9 KB, which would be there until the statement is done.
        let connection = Box::pin(self.0.pool.acquire()).await?;
        let in_use = InUse {
            connection,
            statements: 0,
        };
        Ok(self.lease_of(in_use, turn))
    }

    fn lease_of(&self, in_use: InUse<DB>, turn: OwnedSemaphorePermit) -> Lease<DB> {
        Lease {
            in_use: Some(in_use),
            shared: self.0.clone(),
            _turn: turn,
        }
    }
}

impl<DB: Database> Clone for Connections<DB> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<DB: Database> Shared<DB> {
    /// Leaves a connection for one who waits. Gives it back if there is none.
    fn leave(&self, in_use: InUse<DB>) -> Result<(), InUse<DB>> {
        let mut queue = self.queue();
        if queue.left.len() == queue.waiting {
            return Err(in_use);
        }
        queue.left.push(in_use);
        Ok(())
    }

    fn queue(&self) -> MutexGuard<'_, Queue<DB>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits for a turn, until dropped.
struct Waiting<'a, DB: Database>(&'a Shared<DB>);

impl<'a, DB: Database> Waiting<'a, DB> {
    fn begin(shared: &'a Shared<DB>) -> Self {
        shared.queue().waiting += 1;
        Self(shared)
    }

    /// With a connection, if one was left. That may be one that was meant for another: who comes later then asks the
    /// pool, which has one for each turn.
    fn end(self) -> Option<InUse<DB>> {
        self.0.queue().left.pop()
    }
}

impl<DB: Database> Drop for Waiting<'_, DB> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.waiting -= 1;
        // Of those who have given up. It goes back to the pool, outside of the lock.
        let surplus = (queue.left.len() > queue.waiting).then(|| queue.left.pop());
        drop(queue);
        drop(surplus);
    }
}

/// A connection that is closed, unless it is given back.
pub(super) struct Lease<DB: Database> {
    /// Until then.
    in_use: Option<InUse<DB>>,
    shared: Arc<Shared<DB>>,
    /// It ends when the connection is back.
    _turn: OwnedSemaphorePermit,
}

impl<DB: Database> Lease<DB> {
    /// `None` once it was given back.
    pub(super) fn connection(&mut self) -> Option<&mut DB::Connection> {
        let in_use = self.in_use.as_mut()?;
        Some(in_use.connection.deref_mut())
    }

    /// All went well: the next statement may have the connection as it is.
    pub(super) fn pass_on(&mut self) {
        let Some(mut in_use) = self.in_use.take() else {
            return;
        };
        in_use.statements += 1;
        if in_use.statements < MOST_STATEMENTS && !self.shared.pool.is_closed() {
            // What comes back goes to the pool.
            let _to_pool = self.shared.leave(in_use);
        }
    }

    /// To the pool, which tests it first.
    pub(super) fn give_back(&mut self) {
        self.in_use = None;
    }
}

impl<DB: Database> Drop for Lease<DB> {
    fn drop(&mut self) {
        if let Some(mut in_use) = self.in_use.take() {
            in_use.connection.close_on_drop();
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
            while self.0.queue().waiting != count {
                yield_now().await;
            }
        }

        async fn until_idle(&self, count: usize) {
            while self.pool().num_idle() != count {
                yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_connection_goes_from_statement_to_statement_and_back_after_some() {
        let (connections, counts) = one().await;
        let mut first = connections.lease().await.unwrap();
        let others = 3 * MOST_STATEMENTS as usize - 1;
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
        connections.until_waiting(0).await;
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

    #[tokio::test]
    async fn after_an_error_of_the_database_the_pool_tests_it_whoever_waits() {
        let (connections, counts) = one().await;
        let mut first = connections.lease().await.unwrap();
        let next = connections.spawn_use();
        connections.until_waiting(1).await;
        first.give_back();
        drop(first);
        next.await.unwrap();
        connections.until_idle(1).await;
        assert_eq!((counts.made(), counts.returned()), (1, 2));
    }

    #[tokio::test]
    async fn what_is_not_given_back_is_closed_and_the_next_one_gets_another() {
        let (connections, counts) = one().await;
        let first = connections.lease().await.unwrap();
        let next = connections.spawn_use();
        connections.until_waiting(1).await;
        drop(first);
        next.await.unwrap();
        connections.until_idle(1).await;
        assert_eq!((counts.made(), counts.returned()), (2, 1));
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
        assert_eq!(connections.0.queue().left.len(), 1);
        drop(gives_up);
        assert_eq!(connections.0.queue().left.len(), 0);
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
        // For one that is made meanwhile, and for the first lease.
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
    async fn nobody_waits_longer_than_the_pool_lets_them() {
        let counts = Counts::default();
        let options = options(&counts, 1).acquire_timeout(Duration::from_millis(10));
        let connections = connect(options).await;
        let _first = connections.lease().await.unwrap();
        let late = connections.lease().await.map(drop);
        assert!(matches!(late, Err(sqlx::Error::PoolTimedOut)));
        assert_eq!(connections.0.queue().waiting, 0);
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
        first.pass_on();
        drop(first);
        closing.await;
        assert!(matches!(next.await.unwrap(), Err(sqlx::Error::PoolClosed)));
    }
}
