//! Commands that come at about the same time, sent as one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value};
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;

use super::{all_of, pipeline};

/// A connection over which the commands of operations that begin at about the same time go as one pipeline. Each by
/// itself would mostly be a write to the socket and a read from it, for the app and for the server. A script is not,
/// and so goes alone: in a batch its answer would come with those of all others, and the app have nothing to do meanwhile.
///
/// No command waits for the answer to another one, nor for time to pass. What finds nothing under way goes at once, as
/// over any connection. What comes meanwhile goes in a batch, once those had their turn who are ready to run: the more
/// there is to do, the more go together.
#[derive(Clone)]
pub(super) struct Batches<C> {
    connection: C,
    queue: Arc<Mutex<Queue>>,
}

/// How many commands go together at most. All have their answers with that of the last one.
const MOST: usize = 16;

/// The commands that are yet to be sent. For every [`MOST`] of them, and for the rest, there is a [`Sender`].
#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Single commands and batches that are yet to be sent, or to be answered.
    under_way: usize,
    /// That of the senders. Another one does not leave its commands to them: this one may stand still, as one does that
    /// a thread only blocks on now and then.
    runtime: Option<Id>,
}

/// A command, and where its answer goes.
struct Waiting {
    command: Cmd,
    answer: Asker,
}

type Asker = oneshot::Sender<RedisResult<Value>>;

/// When a command is sent.
enum Turn {
    Now(Cmd, UnderWay),
    /// By a [`Sender`].
    Soon(oneshot::Receiver<RedisResult<Value>>),
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Batches<C> {
    pub(super) fn new(connection: C) -> Self {
        Self {
            connection,
            queue: Arc::default(),
        }
    }

    /// The connection alone, whose commands go as they come.
    pub(super) fn connection(&self) -> C {
        self.connection.clone()
    }

    /// Sends a command, and waits for its answer.
    pub(super) async fn send(&self, command: Cmd) -> RedisResult<Value> {
        match self.turn(command) {
            Turn::Now(command, _until_answered) => {
                self.connection().req_packed_command(&command).await
            }
            Turn::Soon(answered) => answered.await.unwrap_or_else(|_| Err(not_sent())),
        }
    }

    /// Sends a command by itself, whatever else is under way, and waits for its answer.
    pub(super) async fn send_alone(&self, command: Cmd) -> RedisResult<Value> {
        let _until_answered = UnderWay::new(&mut lock(&self.queue), &self.queue);
        self.connection().req_packed_command(&command).await
    }

    fn turn(&self, command: Cmd) -> Turn {
        let mut queue = lock(&self.queue);
        let runtime = match queue.under_way {
            0 => None,
            _ => Handle::try_current().ok(),
        };
        let is_for_senders = |runtime: &Handle| {
            queue.waiting.is_empty() || queue.runtime.is_some_and(|id| id == runtime.id())
        };
        let Some(runtime) = runtime.filter(is_for_senders) else {
            return Turn::Now(command, UnderWay::new(&mut queue, &self.queue));
        };
        let (answer, answered) = oneshot::channel();
        let has_sender = !queue.waiting.len().is_multiple_of(MOST);
        queue.waiting.push(Waiting { command, answer });
        if !has_sender {
            queue.runtime = Some(runtime.id());
            let sender = Sender {
                under_way: UnderWay::new(&mut queue, &self.queue),
                has_taken: false,
            };
            drop(queue);
            // In a task: whoever waits for its answer may be given up, and with it what it does for others.
            runtime.spawn(send_next(self.connection(), sender));
        }
        Turn::Soon(answered)
    }
}

/// Sends the next commands, once all had their turn who are about to add theirs.
async fn send_next<C: ConnectionLike>(mut connection: C, mut sender: Sender) {
    tokio::task::yield_now().await;
    let mut batch = sender.take();
    // Nobody waits for those any more.
    batch.retain(|waiting| !waiting.answer.is_closed());
    if batch.len() <= 1 {
        if let Some(Waiting { command, answer }) = batch.pop() {
            tell(answer, connection.req_packed_command(&command).await);
        }
        return;
    }
    let (commands, askers): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|waiting| (waiting.command, waiting.answer))
        .unzip();
    let (pipeline, count) = pipeline(commands);
    let values = connection.req_packed_commands(&pipeline, 0, count).await;
    match values.and_then(|values| all_of(count, values)) {
        Ok(values) => askers
            .into_iter()
            .zip(values)
            .for_each(|(asker, value)| tell(asker, Ok(value))),
        Err(error) => askers
            .into_iter()
            .for_each(|asker| tell(asker, Err(error.clone()))),
    }
}

fn tell(asker: Asker, value: RedisResult<Value>) {
    // Who has gone meanwhile does not want to know.
    let _gone = asker.send(value);
}

/// Takes the next commands off the queue, once; at the latest when it is dropped, as when its runtime ends before it ran.
/// They are not sent then, and whoever waits for their answers is told.
struct Sender {
    under_way: UnderWay,
    has_taken: bool,
}

impl Sender {
    fn take(&mut self) -> Vec<Waiting> {
        self.has_taken = true;
        let mut queue = lock(&self.under_way.0);
        let count = queue.waiting.len().min(MOST);
        queue.waiting.drain(..count).collect()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.has_taken {
            drop(self.take());
        }
    }
}

/// Counts as one of those under way, until it is dropped.
struct UnderWay(Arc<Mutex<Queue>>);

impl UnderWay {
    /// Of this queue, which is locked.
    fn new(locked: &mut Queue, queue: &Arc<Mutex<Queue>>) -> Self {
        locked.under_way += 1;
        Self(queue.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.0).under_way -= 1;
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_sent() -> RedisError {
    RedisError::from((
        ErrorKind::Io,
        "the task that sends commands ended before the answer came",
    ))
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use redis::{Pipeline, RedisFuture, cmd};
    use tokio::runtime::{Builder, Runtime};
    use tokio::task::{JoinSet, yield_now};

    use super::*;

    /// A connection that notes what is sent over it, and after a while answers each command with the command.
    #[derive(Clone, Default)]
    struct Echo {
        /// How many commands went together.
        sent: Arc<Mutex<Vec<usize>>>,
        is_broken: bool,
    }

    impl Echo {
        fn sent(&self) -> Vec<usize> {
            self.sent.lock().unwrap().clone()
        }

        async fn answer(&self, commands: &[&Cmd]) -> RedisResult<Vec<Value>> {
            self.sent.lock().unwrap().push(commands.len());
            for _ in 0..3 {
                yield_now().await;
            }
            match self.is_broken {
                true => Err(RedisError::from((ErrorKind::Io, "broken"))),
                false => Ok(commands.iter().map(|command| echo(command)).collect()),
            }
        }
    }

    impl ConnectionLike for Echo {
        fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
            Box::pin(async move { Ok(self.answer(&[command]).await?.remove(0)) })
        }

        fn req_packed_commands<'a>(
            &'a mut self,
            pipeline: &'a Pipeline,
            _offset: usize,
            _count: usize,
        ) -> RedisFuture<'a, Vec<Value>> {
            Box::pin(async move {
                let commands: Vec<_> = pipeline.cmd_iter().collect();
                self.answer(&commands).await
            })
        }

        fn get_db(&self) -> i64 {
            0
        }
    }

    fn echo(command: &Cmd) -> Value {
        Value::BulkString(command.get_packed_command())
    }

    fn numbered(number: usize) -> Cmd {
        let mut command = cmd("ECHO");
        command.arg(number);
        command
    }

    type Sending<'a> = Pin<Box<dyn Future<Output = RedisResult<Value>> + Send + 'a>>;

    /// Begins to send: as far as that goes until it has to wait.
    fn begin(batches: &Batches<Echo>, number: usize) -> Sending<'_> {
        let mut sending = Box::pin(batches.send(numbered(number)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(sending.as_mut().poll(&mut context).is_pending());
        sending
    }

    /// Sends so many at once, and checks the answers.
    async fn send_at_once(batches: &Batches<Echo>, count: usize) {
        let all: Vec<_> = (0..count).map(|number| begin(batches, number)).collect();
        for (number, sending) in all.into_iter().enumerate() {
            assert_eq!(sending.await.unwrap(), echo(&numbered(number)));
        }
    }

    fn assert_is_at_rest(batches: &Batches<Echo>) {
        let queue = batches.queue.lock().unwrap();
        assert_eq!((queue.waiting.len(), queue.under_way), (0, 0));
    }

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    #[tokio::test]
    async fn what_comes_while_one_is_under_way_goes_together_and_each_has_its_own_answer() {
        let connection = Echo::default();
        let batches = Batches::new(connection.clone());
        send_at_once(&batches, 6).await;
        assert_eq!(connection.sent(), [1, 5]);
        yield_now().await;
        assert_is_at_rest(&batches);
    }

    #[tokio::test]
    async fn one_after_another_goes_at_once_without_a_task() {
        let connection = Echo::default();
        let batches = Batches::new(connection.clone());
        for number in 0..3 {
            let answer = batches.send(numbered(number)).await;
            assert_eq!(answer.unwrap(), echo(&numbered(number)));
            assert_is_at_rest(&batches);
        }
        assert_eq!(connection.sent(), [1, 1, 1]);
    }

    #[tokio::test]
    async fn what_is_sent_alone_is_in_no_batch() {
        let connection = Echo::default();
        let batches = Batches::new(connection.clone());
        let (one, two) = (begin(&batches, 0), begin(&batches, 1));
        let alone = batches.send_alone(numbered(2)).await;
        assert_eq!(alone.unwrap(), echo(&numbered(2)));
        assert_eq!(one.await.unwrap(), echo(&numbered(0)));
        assert_eq!(two.await.unwrap(), echo(&numbered(1)));
        assert_eq!(connection.sent(), [1, 1, 1]);
        yield_now().await;
        assert_is_at_rest(&batches);
    }

    #[tokio::test]
    async fn so_many_go_together_at_most() {
        for (count, expected) in [
            (1 + MOST, vec![1, MOST]),
            (2 + MOST, vec![1, MOST, 1]),
            (4 + 3 * MOST, vec![1, MOST, MOST, MOST, 3]),
        ] {
            let connection = Echo::default();
            let batches = Batches::new(connection.clone());
            send_at_once(&batches, count).await;
            assert_eq!(connection.sent(), expected);
            yield_now().await;
            assert_is_at_rest(&batches);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn from_many_threads_each_has_its_own_answer() {
        let connection = Echo::default();
        let batches = Batches::new(connection.clone());
        let mut tasks = JoinSet::new();
        for task in 0..64 {
            let batches = batches.clone();
            tasks.spawn(async move {
                for number in task * 1_000..task * 1_000 + 200 {
                    // Some are given up, before or after they are sent.
                    let send = batches.send(numbered(number));
                    if number % 7 == 0 {
                        tokio::select! {
                            biased;
                            _ = send => {}
                            () = async { for _ in 0..number % 3 { yield_now().await } } => {}
                        }
                    } else {
                        assert_eq!(send.await.unwrap(), echo(&numbered(number)));
                    }
                }
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        assert!(connection.sent().iter().any(|&count| count > 1));
        while batches.queue.lock().unwrap().under_way > 0 {
            yield_now().await;
        }
        assert_is_at_rest(&batches);
    }

    #[tokio::test]
    async fn where_the_connection_breaks_all_are_told() {
        let connection = Echo {
            is_broken: true,
            ..Echo::default()
        };
        let batches = Batches::new(connection.clone());
        for sending in (0..4)
            .map(|number| begin(&batches, number))
            .collect::<Vec<_>>()
        {
            assert!(sending.await.unwrap_err().to_string().contains("broken"));
        }
        assert_eq!(connection.sent(), [1, 3]);
    }

    #[tokio::test]
    async fn who_gives_up_takes_nothing_from_the_others() {
        let connection = Echo::default();
        let batches = Batches::new(connection.clone());
        let at_once = begin(&batches, 0);
        // For this one the sender was made.
        let given_up = begin(&batches, 1);
        let (one, other) = (begin(&batches, 2), begin(&batches, 3));
        drop((at_once, given_up));
        assert_eq!(one.await.unwrap(), echo(&numbered(2)));
        assert_eq!(other.await.unwrap(), echo(&numbered(3)));
        // Nobody waited any more for the second one when the others were sent.
        assert_eq!(connection.sent(), [1, 2]);
        yield_now().await;
        assert_is_at_rest(&batches);
    }

    #[test]
    fn a_runtime_that_stands_still_keeps_no_other_one_waiting() {
        let (standing, other) = (runtime(), runtime());
        let connection = Echo::default();
        let batches = Batches::new(connection.clone());
        let left = {
            let _entered = standing.enter();
            [begin(&batches, 0), begin(&batches, 1)]
        };
        let answer = other.block_on(batches.send(numbered(2)));
        assert_eq!(answer.unwrap(), echo(&numbered(2)));
        assert_eq!(connection.sent(), [1, 1]);

        drop(standing);
        let [at_once, soon] = left;
        drop(at_once);
        assert_is_at_rest(&batches);
        let told = other.block_on(soon).unwrap_err();
        assert!(
            told.to_string()
                .contains("the task that sends commands ended")
        );
        other.block_on(send_at_once(&batches, 4));
        assert_eq!(connection.sent(), [1, 1, 1, 3]);
    }

    #[test]
    fn without_a_runtime_it_is_left_to_the_client() {
        let batches = Batches::new(Echo::default());
        let mut all = [begin(&batches, 0), begin(&batches, 1)];
        let mut context = Context::from_waker(Waker::noop());
        for (number, sending) in all.iter_mut().enumerate() {
            let answer = loop {
                if let Poll::Ready(answer) = sending.as_mut().poll(&mut context) {
                    break answer;
                }
            };
            assert_eq!(answer.unwrap(), echo(&numbered(number)));
        }
    }
}
