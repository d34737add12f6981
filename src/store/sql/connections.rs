//! The connections of a pool, and how they go from one statement to the next.
//!
//! sqlx tests each connection that it gets back: it sends something to the server, and waits for the answer. Where
//! nobody waits for a connection, that goes unnoticed. Where all are in use, the next statement would have to wait for
//! it, and the server be asked twice for each. So a connection then goes straight to the next statement, and to the
//! pool after some of them, so that others who use the pool get their turn.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::DerefMut;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};
use tokio::sync::oneshot;

/// After how many statements a connection goes back to the pool, whoever waits for it.
const MOST_STATEMENTS: u32 = 16;

/// The connections of a pool. Clones share them.
pub(in crate::store) struct Connections<DB: Database>(Arc<Shared<DB>>);

struct Shared<DB: Database> {
    pool: Pool<DB>,
    waiting: Mutex<Waiting<DB>>,
}

/// Who waits for a connection, by a number that grows.
struct Waiting<DB: Database> {
    places: BTreeMap<u64, oneshot::Sender<InUse<DB>>>,
    next: u64,
}

/// A connection that goes back to the pool when it is dropped.
struct InUse<DB: Database> {
    connection: PoolConnection<DB>,
    /// How many it has had since it left the pool.
    statements: u32,
}

impl<DB: Database> Connections<DB> {
    pub(in crate::store) fn of(pool: Pool<DB>) -> Self {
        let waiting = Mutex::new(Waiting {
            places: BTreeMap::new(),
            next: 0,
        });
        Self(Arc::new(Shared { pool, waiting }))
    }

    pub(in crate::store) fn pool(&self) -> &Pool<DB> {
        &self.0.pool
    }

    /// A connection for one statement.
    ///
    /// # Errors
    ///
    /// As those of the pool.
    pub(super) async fn lease(&self) -> sqlx::Result<Lease<DB>> {
        // Boxed, since what it takes to make a connection is 9 KB, which would be there until the statement is done.
        let acquire = Box::pin(self.0.pool.acquire());
        let in_use = if self.0.are_all_in_use() {
            self.0.wait(acquire).await?
        } else {
            InUse::new(acquire.await?)
        };
        Ok(Lease {
            in_use: Some(in_use),
            shared: self.0.clone(),
        })
    }
}

impl<DB: Database> Clone for Connections<DB> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<DB: Database> Shared<DB> {
    /// Whether whoever wants a connection has to wait for another one's. Not while the pool still makes new ones: to
    /// break that off would leave the server with nothing but beginnings.
    fn are_all_in_use(&self) -> bool {
        self.pool.num_idle() == 0 && self.pool.size() >= self.pool.options().get_max_connections()
    }

    /// Waits for a connection that is handed over, or that `acquire` gets from the pool.
    async fn wait(
        &self,
        mut acquire: Pin<Box<impl Future<Output = sqlx::Result<PoolConnection<DB>>>>>,
    ) -> sqlx::Result<InUse<DB>> {
        let mut place = Place::of(self);
        poll_fn(|context| {
            if let Poll::Ready(Ok(in_use)) = Pin::new(&mut place.handed_over).poll(context) {
                return Poll::Ready(Ok(in_use));
            }
            acquire
                .as_mut()
                .poll(context)
                .map(|acquired| acquired.map(InUse::new))
        })
        .await
    }

    /// Gives a connection to who has waited longest, or else to the pool.
    fn hand_over(&self, mut in_use: InUse<DB>) {
        while in_use.statements < MOST_STATEMENTS && !self.pool.is_closed() {
            // Not in the condition, which would hold the lock for as long as the body runs.
            let first = self.waiting().places.pop_first();
            let Some((_, place)) = first else { return };
            match place.send(in_use) {
                Ok(()) => return,
                // That one has one from the pool by now, or is gone.
                Err(back) => in_use = back,
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<DB>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<DB: Database> InUse<DB> {
    fn new(connection: PoolConnection<DB>) -> Self {
        Self {
            connection,
            statements: 0,
        }
    }
}

/// A place among those who wait, until dropped.
struct Place<'a, DB: Database> {
    shared: &'a Shared<DB>,
    number: u64,
    handed_over: oneshot::Receiver<InUse<DB>>,
}

impl<'a, DB: Database> Place<'a, DB> {
    fn of(shared: &'a Shared<DB>) -> Self {
        let (sender, handed_over) = oneshot::channel();
        let mut waiting = shared.waiting();
        let number = waiting.next;
        waiting.next += 1;
        waiting.places.insert(number, sender);
        Self {
            shared,
            number,
            handed_over,
        }
    }
}

impl<DB: Database> Drop for Place<'_, DB> {
    fn drop(&mut self) {
        self.shared.waiting().places.remove(&self.number);
        // Handed over to somebody who does not need it any more.
        if let Ok(in_use) = self.handed_over.try_recv() {
            self.shared.hand_over(in_use);
        }
    }
}

/// A connection that is closed, unless it is given back.
pub(super) struct Lease<DB: Database> {
    /// Until then.
    in_use: Option<InUse<DB>>,
    shared: Arc<Shared<DB>>,
}

impl<DB: Database> Lease<DB> {
    /// `None` once it was given back.
    pub(super) fn connection(&mut self) -> Option<&mut DB::Connection> {
        let in_use = self.in_use.as_mut()?;
        Some(in_use.connection.deref_mut())
    }

    /// It is where the next statement can begin.
    pub(super) fn give_back(&mut self) {
        if let Some(mut in_use) = self.in_use.take() {
            in_use.statements += 1;
            self.shared.hand_over(in_use);
        }
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

    use sqlx::sqlite::{Sqlite, SqlitePoolOptions};
    use tokio::task::JoinSet;

    use super::*;

    /// The connections of a pool that has one, and a count of those that it got back.
    async fn one() -> (Connections<Sqlite>, Arc<AtomicU32>) {
        let returned = Arc::new(AtomicU32::new(0));
        let count = returned.clone();
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .after_release(move |_, _| {
                count.fetch_add(1, Ordering::Relaxed);
                Box::pin(async { Ok(true) })
            })
            .connect("sqlite::memory:")
            .await
            .unwrap();
        // What it was made for: the pool has it back, and nobody waits.
        while pool.num_idle() == 0 {
            tokio::task::yield_now().await;
        }
        returned.store(0, Ordering::Relaxed);
        (Connections::of(pool), returned)
    }

    impl Connections<Sqlite> {
        async fn use_once(&self) {
            let mut lease = self.lease().await.unwrap();
            assert!(lease.connection().is_some());
            lease.give_back();
            assert!(lease.connection().is_none());
        }

        /// Until so many wait.
        async fn until_waiting(&self, count: usize) {
            while self.0.waiting().places.len() != count {
                tokio::task::yield_now().await;
            }
        }

        async fn until_idle(&self) {
            while self.pool().num_idle() == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_connection_goes_from_statement_to_statement_and_back_after_some() {
        let (connections, returned) = one().await;
        let mut first = connections.lease().await.unwrap();
        let mut others = JoinSet::new();
        for _ in 0..3 * MOST_STATEMENTS - 1 {
            let connections = connections.clone();
            others.spawn(async move { connections.use_once().await });
        }
        connections
            .until_waiting(3 * MOST_STATEMENTS as usize - 1)
            .await;
        first.give_back();
        others.join_all().await;
        connections.until_idle().await;
        assert_eq!(returned.load(Ordering::Relaxed), 3);
        connections.until_waiting(0).await;
    }

    #[tokio::test]
    async fn where_nobody_waits_each_goes_back() {
        let (connections, returned) = one().await;
        for count in 1..=5 {
            connections.use_once().await;
            connections.until_idle().await;
            assert_eq!(returned.load(Ordering::Relaxed), count);
        }
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
        let (connections, returned) = one().await;
        let mut first = connections.lease().await.unwrap();
        let mut gives_up = Box::pin(connections.lease());
        let mut next = Box::pin(connections.lease());
        let noop = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert!(gives_up.as_mut().poll(noop).is_pending());
        assert!(next.as_mut().poll(noop).is_pending());
        first.give_back();
        // It was handed over to this one, which never looks.
        drop(gives_up);
        next.await.unwrap().give_back();
        connections.until_idle().await;
        assert_eq!(returned.load(Ordering::Relaxed), 1);
        assert!(connections.0.waiting().places.is_empty());
    }

    #[tokio::test]
    async fn what_is_not_given_back_is_closed_and_the_next_one_gets_another() {
        let (connections, returned) = one().await;
        let first = connections.lease().await.unwrap();
        let next = tokio::spawn({
            let connections = connections.clone();
            async move { connections.use_once().await }
        });
        connections.until_waiting(1).await;
        drop(first);
        next.await.unwrap();
        connections.until_idle().await;
        assert_eq!(returned.load(Ordering::Relaxed), 1);
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
        first.give_back();
        closing.await;
        assert!(matches!(next.await.unwrap(), Err(sqlx::Error::PoolClosed)));
    }
}
