//! Commands that come at about the same time, sent as one.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value};
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;

use super::{all_of, pipeline};

/// A connection over which the commands of operations that begin at about the same time go as one pipeline. Each by
/// itself would mostly be a write to the socket and a read from it, for the app and for the server. A script is not,
/// and so goes alone: in a batch its answer would come with those of all others, and the app have nothing to do meanwhile.
///
/// No command waits for time to pass, nor to be sent until another one has its answer. What finds nothing under way goes
/// at once, as over any connection. What comes meanwhile goes in a batch, once those had their turn who were ready to run
/// when its first command came: the more there is to do, the more go together.
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
    waiting: VecDeque<Waiting>,
    /// Single commands and batches that are yet to be sent, or to be answered.
    under_way: usize,
    /// That of the senders. Another one does not leave its commands to them: this one may stand still, as one does that
    /// a thread only blocks on now and then.
    runtime: Option<Id>,
}

/// A command, and where its answer goes.
struct Waiting {
    command: Cmd,
    asker: Asker,
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
            Turn::Soon(answered) => answered.await.unwrap_or_else(|_| Err(sender_ended())),
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
        let (asker, answered) = oneshot::channel();
        let has_sender = !queue.waiting.len().is_multiple_of(MOST);
        queue.waiting.push_back(Waiting { command, asker });
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
    to_the_back().await;
    let mut batch = sender.take();
    // Nobody waits for those any more.
    batch.retain(|waiting| !waiting.asker.is_closed());
    if batch.is_empty() {
        return;
    }
    let (commands, mut askers): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|waiting| (waiting.command, waiting.asker))
        .unzip();
    let (pipeline, count) = pipeline(commands);
    let request = connection.req_packed_commands(&pipeline, 0, count);
    let Some(values) = unless_all_go(request, &mut askers).await else {
        return;
    };
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

/// Goes to the end of the tasks that are ready to run. Not `tokio::task::yield_now`, after which a task is none of those
/// until its thread looks for more to do: no other thread could take it meanwhile, from one that is busy for long.
async fn to_the_back() {
    let mut was_there = false;
    poll_fn(|context| {
        if std::mem::replace(&mut was_there, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What comes of a request; `None` once nobody waits for it any more. It is given up then, as whoever sends a command
/// alone gives it up: while the client connects anew it would be kept, and sent at last.
async fn unless_all_go<T>(request: impl Future<Output = T>, askers: &mut [Asker]) -> Option<T> {
    let mut request = pin!(request);
    let mut all_gone = pin!(async {
        for asker in askers {
            asker.closed().await;
        }
    });
    poll_fn(|context| match request.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => all_gone.as_mut().poll(context).map(|()| None),
    })
    .await
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

/// Whether the command was sent is not known.
fn sender_ended() -> RedisError {
    RedisError::from((
        ErrorKind::Io,
        "the runtime of the task that sends commands ended before the answer came",
    ))
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

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
        /// Answers nothing.
        is_silent: bool,
        /// Answers that are lacking.
        lacks: usize,
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
            if self.is_silent {
                std::future::pending::<()>().await;
            }
            if self.is_broken {
                return Err(RedisError::from((ErrorKind::Io, "broken")));
            }
            let answered = commands.iter().skip(self.lacks);
            Ok(answered.map(|command| echo(command)).collect())
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

    /// Waits until nothing is under way: a sender ends after those whom it tells.
    async fn until_at_rest(batches: &Batches<Echo>) {
        for _ in 0..10_000 {
            if batches.queue.lock().unwrap().under_way == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_is_at_rest(batches);
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
        until_at_rest(&batches).await;
    }

    #[tokio::test]
    async fn one_after_another_goes_at_once() {
        let connection = Echo::default();
        let batches = Batches::new(connection.clone());
        for number in 0..3 {
            let sending = begin(&batches, number);
            // Before anything else had a turn.
            assert_eq!(connection.sent().len(), number + 1);
            assert_eq!(sending.await.unwrap(), echo(&numbered(number)));
            assert_is_at_rest(&batches);
        }
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
        until_at_rest(&batches).await;
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
            until_at_rest(&batches).await;
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
        until_at_rest(&batches).await;
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
        until_at_rest(&batches).await;
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_given_up() {
        let connection = Echo {
            is_silent: true,
            ..Echo::default()
        };
        let batches = Batches::new(connection.clone());
        let at_once = begin(&batches, 0);
        let (one, other) = (begin(&batches, 1), begin(&batches, 2));
        let sent = async {
            while connection.sent() != [1, 2] {
                yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), sent)
            .await
            .unwrap();
        drop((at_once, one));
        for _ in 0..10 {
            yield_now().await;
        }
        // For the other one's sake.
        assert_eq!(batches.queue.lock().unwrap().under_way, 1);
        drop(other);
        until_at_rest(&batches).await;
    }

    #[tokio::test]
    async fn where_an_answer_is_lacking_nobody_gets_that_of_another() {
        let batches = Batches::new(Echo {
            lacks: 1,
            ..Echo::default()
        });
        // So that both go together.
        let under_way = UnderWay::new(&mut lock(&batches.queue), &batches.queue);
        let (one, other) = (begin(&batches, 1), begin(&batches, 2));
        for sending in [one, other] {
            let error = sending.await.unwrap_err().to_string();
            assert!(error.contains("another number of answers"), "{error}");
        }
        drop(under_way);
    }

    /// The thread that the sender began on has something else to do, and for a minute unless the answer comes.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thread_that_is_busy_keeps_nobody_waiting() {
        let batches = Batches::new(Echo::default());
        let (occupied, is_occupied) = oneshot::channel();
        let (let_go, may_go) = std::sync::mpsc::channel();
        // The other thread takes nothing from the busy one before that is busy.
        let other = tokio::spawn(async move {
            occupied.send(()).unwrap();
            may_go.recv_timeout(Duration::from_secs(60)).unwrap();
        });
        is_occupied.await.unwrap();
        let busy = tokio::spawn(async move {
            let under_way = UnderWay::new(&mut lock(&batches.queue), &batches.queue);
            let mut sending = begin(&batches, 0);
            // The sender has its first turn.
            to_the_back().await;
            let_go.send(()).unwrap();
            let mut context = Context::from_waker(Waker::noop());
            let answered = (0..60_000).any(|_| {
                std::thread::sleep(Duration::from_millis(1));
                sending.as_mut().poll(&mut context).is_ready()
            });
            drop((sending, under_way));
            answered
        });
        assert!(busy.await.unwrap());
        other.await.unwrap();
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
        let connection = Echo::default();
        let batches = Batches::new(connection.clone());
        let mut all = [begin(&batches, 0), begin(&batches, 1)];
        assert_eq!(connection.sent(), [1, 1]);
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
