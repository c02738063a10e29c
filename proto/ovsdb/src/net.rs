//! The socket and the task around a [`Session`] (feature `net`).
//!
//! # Contract
//! In: a [`Target`] and a [`ReplicaRequest`]. Out: [`ReplicaEvent`]s, snapshots, and outcomes of transactions.
//! The task connects, connects again with back-off, and ends when the last [`ClientHandle`] is dropped.
//!
//! # Invariants
//! - A reader of events that falls behind gets fewer and larger ones, and misses no change: the queue merges changes of
//!   one row, so that it is bounded by the rows there are.
//! - When `transact` returns, [`ClientHandle::replica`] shows what it changed.
//! - A peer that does not read its socket makes us stop reading ours; the inactivity probe ends that.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{Input, Limits, Output, Session, SessionError};
use crate::operation::Operation;
use crate::replica::{Replica, RowChange};
use crate::request::ReplicaRequest;
use crate::result::{OpResult, TransactError};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `tcp:IP:PORT`, an IPv6 address in brackets.
    Tcp(SocketAddr),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError { got: text.to_owned() };
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) => address.parse().map(Self::Tcp).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// Text that names no server.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("target: expected unix:PATH or tcp:IP:PORT, got {got:?}")]
pub struct TargetError {
    /// The text.
    pub got: String,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// Of the session.
    pub limits: Limits,
    /// The first pause after a lost connection; doubles each time.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// How long a connect may take.
    pub connect_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// What a client tells its user.
#[derive(Clone, Debug)]
pub enum ReplicaEvent {
    /// The replica is what the server has.
    Synced {
        /// The whole of it, `changes` included, later events not.
        replica: Arc<Replica>,
        /// Whether the server sent only what came after the last transaction seen.
        resumed: bool,
        /// What changed since the last event.
        changes: Vec<RowChange>,
    },
    /// Rows changed.
    Changed(Vec<RowChange>),
    /// The connection is gone; the client tries again.
    Disconnected {
        /// Why.
        why: Disconnect,
    },
}

/// Why there is no connection.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Disconnect {
    /// The peer closed it.
    #[error("closed by the server")]
    Closed,
    /// The socket failed, or there is none.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// We closed it.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl From<io::Error> for Disconnect {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// Starts clients.
#[derive(Debug)]
pub struct Client;

impl Client {
    /// Starts a client with default options. Must be called inside a tokio runtime.
    pub fn connect(target: Target, request: ReplicaRequest) -> (ClientHandle, mpsc::Receiver<ReplicaEvent>) {
        Self::connect_with(target, request, ClientOptions::default())
    }

    /// Starts a client. Must be called inside a tokio runtime.
    pub fn connect_with(
        target: Target,
        request: ReplicaRequest,
        options: ClientOptions,
    ) -> (ClientHandle, mpsc::Receiver<ReplicaEvent>) {
        let (commands, command_rx) = mpsc::channel(COMMANDS_MAX);
        let (event_tx, events) = mpsc::channel(EVENTS_MAX);
        let (state_tx, state) = watch::channel(State::default());
        let task = Task {
            target,
            options,
            session: Session::new(request, options.limits),
            commands: command_rx,
            events: Some(event_tx),
            queue: EventQueue::default(),
            state: state_tx,
            waiting: HashMap::new(),
            next_token: 0,
            backoff: options.backoff_min,
        };
        tokio::spawn(task.run());
        (ClientHandle { commands, state }, events)
    }
}

/// The user's end of a client. The client ends with the last of its handles.
#[derive(Clone, Debug)]
pub struct ClientHandle {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<State>,
}

impl ClientHandle {
    /// Carries out a transaction. Dropping the future cancels nothing.
    pub async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<OpResult>, TransactError> {
        let (reply, outcome) = oneshot::channel();
        let command = Command { operations, reply };
        self.commands.send(command).await.map_err(|_| TransactError::NotConnected)?;
        outcome.await.map_err(|_| TransactError::Lost)?
    }

    /// The replica as it is. While disconnected, as it was last.
    pub fn replica(&self) -> Arc<Replica> {
        self.state.borrow().replica.clone()
    }

    /// Whether the replica follows the server.
    pub fn is_synced(&self) -> bool {
        self.state.borrow().synced
    }

    /// Waits until the replica follows the server and is as wanted; `None` if the client has ended.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&Replica) -> bool) -> Option<Arc<Replica>> {
        let mut state = self.state.clone();
        let state = state.wait_for(|state| state.synced && wanted(&state.replica)).await.ok()?;
        Some(state.replica.clone())
    }

    /// Waits until there is no connection.
    pub async fn disconnected(&self) {
        // An error means that the client has ended, and its connection with it.
        let _ = self.state.clone().wait_for(|state| !state.synced).await;
    }
}

#[derive(Debug)]
struct Command {
    operations: Vec<Operation>,
    reply: oneshot::Sender<Result<Vec<OpResult>, TransactError>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    replica: Arc<Replica>,
    synced: bool,
}

struct Task {
    target: Target,
    options: ClientOptions,
    session: Session,
    commands: mpsc::Receiver<Command>,
    /// `None` once the user dropped the receiver.
    events: Option<mpsc::Sender<ReplicaEvent>>,
    queue: EventQueue,
    state: watch::Sender<State>,
    waiting: HashMap<u64, oneshot::Sender<Result<Vec<OpResult>, TransactError>>>,
    next_token: u64,
    backoff: Duration,
}

/// The last handle is gone.
struct Ended;

/// What one connection still has to do.
#[derive(Default)]
struct Outcome {
    /// To be written.
    bytes: VecDeque<u8>,
    close: Option<SessionError>,
}

impl Task {
    async fn run(mut self) {
        loop {
            let why = match self.connection().await {
                Ok(why) => why,
                Err(Ended) => return,
            };
            let mut outcome = Outcome::default();
            self.step(Input::Disconnected, &mut outcome);
            self.state.send_modify(|state| state.synced = false);
            tracing::debug!(target = %self.target, %why, "ovsdb connection is gone");
            self.queue.push(ReplicaEvent::Disconnected { why });
            let again = Instant::now() + self.backoff;
            self.backoff = (self.backoff * 2).min(self.options.backoff_max);
            if self.pause(again).await.is_err() {
                return;
            }
        }
    }

    /// Waits, and refuses transactions meanwhile.
    async fn pause(&mut self, until: Instant) -> Result<(), Ended> {
        let mut outcome = Outcome::default();
        loop {
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                command = self.commands.recv() => self.command(command, &mut outcome)?,
                () = deliver(&mut self.events, &mut self.queue) => {}
            }
        }
    }

    /// From connect to the end of the connection.
    async fn connection(&mut self) -> Result<Disconnect, Ended> {
        let target = self.target.clone();
        let deadline = Instant::now() + self.options.connect_timeout;
        let connect = async move { timeout_at(deadline, open(&target)).await };
        tokio::pin!(connect);
        let mut outcome = Outcome::default();
        let stream = loop {
            tokio::select! {
                stream = &mut connect => break stream,
                command = self.commands.recv() => self.command(command, &mut outcome)?,
                () = deliver(&mut self.events, &mut self.queue) => {}
            }
        };
        let (mut reader, mut writer) = match stream {
            Ok(Ok(stream)) => tokio::io::split(stream),
            Ok(Err(error)) => return Ok(error.into()),
            Err(_) => return Ok(io::Error::from(io::ErrorKind::TimedOut).into()),
        };
        self.step(Input::Connected, &mut outcome);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if let Some(error) = outcome.close {
                return Ok(error.into());
            }
            let timeout = self.session.poll_timeout().map(Instant::from_std);
            let congested = outcome.bytes.len() > WRITE_BYTES_MAX;
            tokio::select! {
                read = reader.read(&mut buffer), if !congested => match read {
                    Ok(0) => return Ok(Disconnect::Closed),
                    Ok(count) => self.step(Input::Received(buffer[..count].to_vec()), &mut outcome),
                    Err(error) => return Ok(error.into()),
                },
                written = writer.write(outcome.bytes.as_slices().0), if !outcome.bytes.is_empty() => match written {
                    Ok(0) => return Ok(Disconnect::Closed),
                    Ok(count) => drop(outcome.bytes.drain(..count)),
                    Err(error) => return Ok(error.into()),
                },
                command = self.commands.recv(), if !congested => self.command(command, &mut outcome)?,
                () = sleep_until(timeout.unwrap_or_else(Instant::now)), if timeout.is_some() => {
                    self.step(Input::Timeout, &mut outcome);
                }
                () = deliver(&mut self.events, &mut self.queue) => {}
            }
        }
    }

    fn command(&mut self, command: Option<Command>, outcome: &mut Outcome) -> Result<(), Ended> {
        let Command { operations, reply } = command.ok_or(Ended)?;
        self.next_token += 1;
        self.waiting.insert(self.next_token, reply);
        self.step(Input::Transact { token: self.next_token, operations }, outcome);
        Ok(())
    }

    /// Feeds the session and does what it wants.
    fn step(&mut self, input: Input, outcome: &mut Outcome) {
        for output in self.session.handle(Instant::now().into_std(), input) {
            match output {
                Output::Send(bytes) => outcome.bytes.extend(bytes),
                Output::Synced { replica, resumed, changes } => {
                    self.backoff = self.options.backoff_min;
                    self.publish();
                    let replica = Arc::new(replica);
                    self.queue.push(ReplicaEvent::Synced { replica, resumed, changes });
                }
                Output::Changed(changes) => {
                    self.publish();
                    self.queue.push(ReplicaEvent::Changed(changes));
                }
                Output::Transacted { token, result } => {
                    if let Some(reply) = self.waiting.remove(&token) {
                        // Whoever no longer waits does not want to know.
                        let _ = reply.send(result);
                    }
                }
                Output::Close(error) => outcome.close = Some(error),
            }
        }
    }

    fn publish(&self) {
        let replica = Arc::new(self.session.replica().clone());
        self.state.send_replace(State { replica, synced: self.session.is_synced() });
    }
}

/// Hands the oldest event over; never ends while there is none.
async fn deliver(events: &mut Option<mpsc::Sender<ReplicaEvent>>, queue: &mut EventQueue) {
    let Some(sender) = events else {
        queue.events.clear();
        return std::future::pending().await;
    };
    if queue.events.is_empty() {
        return std::future::pending().await;
    }
    // Reserving can be dropped half-way by the select around it, sending could not.
    let gone = match sender.reserve().await {
        Ok(permit) => {
            if let Some(event) = queue.events.pop_front() {
                permit.send(event);
            }
            false
        }
        Err(_) => true,
    };
    if gone {
        *events = None;
    }
}

/// Events not yet taken by the user.
#[derive(Debug, Default)]
struct EventQueue {
    events: VecDeque<ReplicaEvent>,
}

impl EventQueue {
    fn push(&mut self, event: ReplicaEvent) {
        self.events.push_back(event);
        if self.events.len() > QUEUE_MAX {
            self.merge();
        }
    }

    /// Makes one or two events of all: what changed in all, and then whether there still is a connection.
    fn merge(&mut self) {
        let (mut changes, mut synced, mut why) = (Vec::new(), None::<(Arc<Replica>, bool)>, None);
        for event in self.events.drain(..) {
            let later = match event {
                ReplicaEvent::Synced { replica, resumed, changes } => {
                    // The event stands for all: resumed only if no full copy was among them.
                    let all_resumed = synced.as_ref().is_none_or(|(_, all)| *all) && resumed;
                    (synced, why) = (Some((replica, all_resumed)), None);
                    changes
                }
                ReplicaEvent::Changed(changes) => {
                    if let Some((replica, _)) = &mut synced {
                        Arc::make_mut(replica).apply(&changes);
                    }
                    changes
                }
                ReplicaEvent::Disconnected { why: reason } => {
                    why = Some(reason);
                    continue;
                }
            };
            changes = RowChange::merge(changes, later);
        }
        match synced {
            Some((replica, resumed)) => {
                self.events.push_back(ReplicaEvent::Synced { replica, resumed, changes });
            }
            None if changes.is_empty() => {}
            None => self.events.push_back(ReplicaEvent::Changed(changes)),
        }
        self.events.extend(why.map(|why| ReplicaEvent::Disconnected { why }));
    }
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for S {}

async fn open(target: &Target) -> io::Result<Box<dyn Stream>> {
    Ok(match target {
        Target::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    })
}

const READ_BYTES: usize = 64 << 10;
/// With more than this to write, nothing is read.
const WRITE_BYTES_MAX: usize = 4 << 20;
const COMMANDS_MAX: usize = 64;
const EVENTS_MAX: usize = 64;
/// With more events than this in the queue, they are merged.
const QUEUE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written_back() {
        for text in ["unix:/run/openvswitch/db.sock", "tcp:127.0.0.1:6640", "tcp:[::1]:6640"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["", "unix:", "tcp:localhost", "ssl:1.2.3.4:5", "/run/x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_slow_reader_gets_merged_events() {
        let mut queue = EventQueue::default();
        let why = || ReplicaEvent::Disconnected { why: Disconnect::Closed };
        for _ in 0..1_000 {
            let synced =
                ReplicaEvent::Synced { replica: Arc::default(), resumed: false, changes: Vec::new() };
            queue.push(synced);
            queue.push(why());
        }
        assert!(queue.events.len() <= QUEUE_MAX + 1);
        queue.merge();
        assert!(matches!(
            queue.events.make_contiguous(),
            [ReplicaEvent::Synced { .. }, ReplicaEvent::Disconnected { .. }]
        ));
    }
}
