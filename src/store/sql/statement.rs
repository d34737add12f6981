//! Runs a statement on a connection to a server: to its end, whatever becomes of the caller.
//!
//! 1. A future that is dropped while it waits for a connection has done nothing.
//! 2. One that is dropped while its statement runs goes on in a task, for at most [`PATIENCE`]. So the answer
//!    is read to its end, and the next statement on the connection cannot be given the rest of it: sqlx's
//!    MySQL connections lose their place in the stream of packets when a future is dropped between the head
//!    of a packet and its body. Closing the connection instead would be as safe, but then anyone who breaks
//!    off requests could make the server open connections all the time.
//! 3. A connection of which it is not known where it stands is closed, and not given back to the pool. For
//!    one whose server does not answer any more, that takes a bounded time, too; giving it back to the
//!    pool would take as long as the operating system retries.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(feature = "postgres")]
use sqlx::postgres::{PgConnection, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{Connection, Database, Executor, IntoArguments, SqlStr};

use super::connections::Connections;
use super::dialect::Dialect;

/// How long a statement goes on whose caller is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a statement is run that the server rolled back for the sake of others. Each time another one got
/// on, so this ends.
const MOST_TRIES: usize = 20;

/// What sqlx's executors return.
pub(in crate::store) type Running<'c, T> =
    Pin<Box<dyn Future<Output = sqlx::Result<T>> + Send + 'c>>;

/// A statement with what is bound to it.
pub(in crate::store) type Statement<DB> = Query<'static, DB, <DB as Database>::Arguments>;

/// A statement, to which what it is about is to be bound.
pub(in crate::store) fn query<DB>(sql: &SqlStr) -> Statement<DB>
where
    DB: Database,
    DB::Arguments: IntoArguments<DB>,
{
    sqlx::query(sql.clone())
}

/// Runs a statement to its end, and says what it did.
pub(in crate::store) async fn execute<DB>(
    connections: &Connections<DB>,
    statement: impl Fn() -> Statement<DB> + Send + Sync,
) -> sqlx::Result<DB::QueryResult>
where
    DB: Dialect,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    run(connections, || {
        let statement = statement();
        move |connection: &mut DB::Connection| -> Running<'_, _> { connection.execute(statement) }
    })
    .await
}

/// Runs a statement to its end, and returns its rows.
///
/// To its end means past the commit: rows that a statement with `RETURNING` yields are no sign yet that
/// what it wrote is kept.
pub(in crate::store) async fn fetch<DB>(
    connections: &Connections<DB>,
    statement: impl Fn() -> Statement<DB> + Send + Sync,
) -> sqlx::Result<Vec<DB::Row>>
where
    DB: Dialect,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    run(connections, || {
        let statement = statement();
        move |connection: &mut DB::Connection| -> Running<'_, _> { connection.fetch_all(statement) }
    })
    .await
}

/// Runs a statement that yields at most one row, and returns that. To its end, too, as sqlx has it for PostgreSQL; for
/// MySQL it stops at the row.
#[cfg(feature = "postgres")]
pub(in crate::store) async fn fetch_one(
    connections: &Connections<Postgres>,
    statement: impl Fn() -> Statement<Postgres> + Send + Sync,
) -> sqlx::Result<Option<PgRow>> {
    run(connections, || {
        let statement = statement();
        move |connection: &mut PgConnection| -> Running<'_, _> {
            connection.fetch_optional(statement)
        }
    })
    .await
}

/// Runs statements in a transaction, to its end; where one of them fails, it is rolled back.
pub(in crate::store) async fn transact<DB, T, S>(
    connections: &Connections<DB>,
    statements: impl Fn() -> S + Send + Sync,
) -> sqlx::Result<T>
where
    DB: Dialect,
    T: Send + 'static,
    S: for<'c> FnOnce(&'c mut DB::Connection) -> Running<'c, T> + Send + 'static,
{
    run(connections, || {
        let statements = statements();
        move |connection: &mut DB::Connection| -> Running<'_, _> {
            Box::pin(async move {
                let mut transaction = connection.begin_with(DB::BEGIN).await?;
                let result = statements(&mut transaction).await?;
                transaction.commit().await?;
                Ok(result)
            })
        }
    })
    .await
}

/// Runs what commits by itself, and again where the server rolled it back for the sake of others.
async fn run<DB, T, S>(
    connections: &Connections<DB>,
    statement: impl Fn() -> S + Send + Sync,
) -> sqlx::Result<T>
where
    DB: Dialect,
    T: Send + 'static,
    S: for<'c> FnOnce(&'c mut DB::Connection) -> Running<'c, T> + Send + 'static,
{
    let mut tries = 1;
    loop {
        let result = run_once(connections, statement()).await;
        match &result {
            Err(error) if DB::is_rolled_back(error) && tries < MOST_TRIES => tries += 1,
            _ => return result,
        }
    }
}

async fn run_once<DB, T, S>(connections: &Connections<DB>, statement: S) -> sqlx::Result<T>
where
    DB: Dialect,
    T: Send + 'static,
    S: for<'c> FnOnce(&'c mut DB::Connection) -> Running<'c, T> + Send + 'static,
{
    let mut lease = connections.lease().await?;
    ToItsEnd::new(async move {
        let result = match lease.connection() {
            Some(connection) => statement(connection).await,
            None => Err(sqlx::Error::PoolClosed),
        };
        match &result {
            Ok(_) => lease.pass_on(),
            Err(error) if is_in_step::<DB>(error) => lease.give_back(),
            Err(_) => {}
        }
        result
    })
    .await
}

/// Whether the connection is where the next statement can begin, and leads to the right server.
fn is_in_step<DB: Dialect>(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(_)) && !DB::is_read_only(error)
}

/// Goes on in a task when it is dropped.
struct ToItsEnd<T>(Option<Pin<Box<dyn Future<Output = T> + Send>>>)
where
    T: Send + 'static;

impl<T: Send + 'static> ToItsEnd<T> {
    fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<T: Send + 'static> Future for ToItsEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(future) = &mut self.0 else {
            // It was ready before: to poll it again is a mistake, which no future answers.
            return Poll::Pending;
        };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        let Some(future) = self.0.take() else {
            return;
        };
        // Without a runtime there is nothing it could go on in: then it ends here.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(PATIENCE, future));
        }
    }
}
