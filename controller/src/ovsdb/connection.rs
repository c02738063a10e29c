//! One client's connection: the socket and the task around a [`Session`].
//!
//! # Invariants
//! - A client that does not read is not read from, and is shown nothing new, while more than [`BACKLOG_BYTES`] wait for
//!   it. What it missed meanwhile it gets at once, merged, when it reads again.
//! - A client that stays that far behind for [`BEHIND_MAX`], longer than the store remembers, is given up.
//! - Unfinished messages and transactions of all clients together hold at most [`HELD_BYTES_MAX`] octets; whoever
//!   exceeds that with a large message is disconnected.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{
    StreamExt as _,
    future::{BoxFuture, Either, ready},
    stream::FuturesUnordered,
};
use quantumnet_model::{Database, Uuid};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    directory::Directory,
    forward,
    locks::{Locks, Notice},
    metrics::Metrics,
    session::{Effect, Input, Limits, Piece, Reason, Session, Store, Transact, World},
    target::Target,
    transact::{self, Attempt, Outcome, Request},
};
use crate::{
    peer::Leader,
    replica::Replica,
    store::{Context, Evaluated, ResumeToken, State, Transaction, evaluate},
    threads::Threads,
};

/// One server: a database, and what its sessions share.
pub(super) struct Service {
    pub(super) replica: Replica,
    pub(super) leader: Leader,
    pub(super) database: Database,
    pub(super) directory: Arc<Directory>,
    pub(super) locks: Locks,
    pub(super) server_id: Uuid,
    pub(super) metrics: Arc<Metrics>,
    /// Where its sessions are served.
    pub(super) threads: Arc<Threads>,
    /// Octets that sessions hold of messages and transactions that are not done.
    pub(super) held: AtomicUsize,
    /// Places for sessions.
    pub(super) places: Arc<Semaphore>,
}

/// How a remote's sessions are treated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Options {
    /// They may not write.
    pub(super) read_only: bool,
    /// A client that gave no sign of life for so long is probed; zero never.
    pub(super) probe: Duration,
    /// The longest pause between two calls.
    pub(super) backoff_max: Duration,
}

impl Options {
    /// What holds where nothing else is said, as in ovsdb-server.
    pub(super) const fn of(target: &Target) -> Self {
        let probe = if target.needs_probes() { PROBE } else { Duration::ZERO };
        Self { read_only: false, probe, backoff_max: BACKOFF_MAX }
    }
}

impl Store for Replica {
    fn state(&self) -> Arc<State> {
        Self::state(self)
    }

    fn since(&self, token: &ResumeToken) -> (Arc<State>, Option<Vec<Arc<Transaction>>>) {
        Self::since(self, token)
    }
}

/// Serves a connection until either side ends it.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Send>(
    service: Arc<Service>,
    stream: S,
    peer: &str,
    options: watch::Receiver<Options>,
) -> io::Result<()> {
    Connection::new(service, peer, options).run(stream).await
}

struct Connection {
    service: Arc<Service>,
    /// As the log shows it, and the transactions that it asks for.
    peer: Arc<str>,
    options: watch::Receiver<Options>,
    session: Session,
    notices: mpsc::UnboundedReceiver<Notice>,
    outbox: Outbox,
    transacts: FuturesUnordered<BoxFuture<'static, (u64, Result<Outcome, String>)>>,
    /// What is counted for this connection in [`Service::held`].
    held: usize,
    behind_since: Option<Instant>,
    closing: Option<Reason>,
}

impl Connection {
    fn new(service: Arc<Service>, peer: &str, options: watch::Receiver<Options>) -> Self {
        let (locks, notices) = service.locks.join();
        let limits = Limits { probe: options.borrow().probe, ..Limits::default() };
        let now = Instant::now().into_std();
        // A client may know from another member how far the database has come.
        service.directory.refresh(&service.replica);
        service.metrics.session_began();
        let session = Session::new(now, service.database, service.server_id, locks, limits);
        Self {
            peer: format!("ovsdb:{peer}").into(),
            options,
            session,
            notices,
            outbox: Outbox::default(),
            transacts: FuturesUnordered::new(),
            held: 0,
            behind_since: None,
            closing: None,
            service,
        }
    }

    async fn run<S: AsyncRead + AsyncWrite + Send>(mut self, stream: S) -> io::Result<()> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (mut applied, mut server) = (self.service.replica.applied(), self.service.directory.subscribe());
        let mut octets = BytesMut::with_capacity(READ_BYTES);
        while self.closing.is_none() {
            let behind = self.is_behind();
            let wake = self.wake_at(behind);
            tokio::select! {
                read = reader.read_buf(&mut octets), if !behind && self.session.wants_input() => {
                    if read? == 0 {
                        return Ok(());
                    }
                    self.service.metrics.received(octets.len());
                    self.handle(Input::Received(&octets));
                    octets.clear();
                    octets.reserve(READ_BYTES);
                }
                sent = self.outbox.step(&mut writer), if self.outbox.wants_to_send() => {
                    let sent = sent?;
                    self.service.metrics.sent(sent);
                    self.handle(Input::Sent);
                }
                changed = applied.changed(), if !behind && self.session.follows_store() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.handle(Input::Moved);
                }
                changed = server.changed(), if !behind => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.handle(Input::Moved);
                }
                changed = self.options.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let options = *self.options.borrow_and_update();
                    self.session.set_probe(options.probe);
                }
                Some(notice) = self.notices.recv() => self.handle(Input::Lock(notice)),
                Some((ticket, outcome)) = self.transacts.next() => self.handle(Input::Answered { ticket, outcome }),
                () = sleep_until(wake) => self.timeout(),
            }
            self.account();
        }
        if let Some(reason) = &self.closing {
            self.service.metrics.disconnected(reason);
            tracing::info!(peer = %self.peer, database = self.service.database.name(), %reason, "OVSDB client disconnected");
            // What was answered before is still to be read, but not waited for.
            let rest = async {
                while self.outbox.wants_to_send() {
                    self.outbox.step(&mut writer).await?;
                }
                writer.shutdown().await
            };
            _ = timeout(FAREWELL_WITHIN, rest).await;
        }
        Ok(())
    }

    fn handle(&mut self, input: Input<'_>) {
        let server = self.service.directory.state();
        let world = World { store: &self.service.replica, server: &server, metrics: &self.service.metrics };
        let effects = self.session.handle(Instant::now().into_std(), &world, input);
        let mut begun = 0;
        for effect in effects {
            match effect {
                Effect::Send(piece) => self.outbox.push(piece),
                Effect::Transact { ticket, transact } => {
                    begun += 1;
                    let read_only = self.options.borrow().read_only;
                    let answer = run(&self.service, &self.peer, read_only, transact);
                    self.transacts.push(Box::pin(async move { (ticket, answer.await) }));
                }
                Effect::Close(reason) => self.closing = Some(reason),
            }
        }
        if begun > 0 {
            self.service.replica.begin(begun == 1 && self.transacts.len() == 1);
        }
    }

    fn timeout(&mut self) {
        self.handle(Input::Timeout);
        let long = self.behind_since.is_some_and(|since| since.elapsed() >= BEHIND_MAX);
        let server = self.service.directory.state();
        let world = World { store: &self.service.replica, server: &server, metrics: &self.service.metrics };
        if long && self.session.fell_behind(&world) {
            self.closing = Some(Reason::Slow);
        }
    }

    /// Whether the client has to read first.
    fn is_behind(&mut self) -> bool {
        let behind = self.outbox.is_long();
        match (behind, self.behind_since) {
            (true, None) => self.behind_since = Some(Instant::now()),
            (false, Some(_)) => self.behind_since = None,
            _ => {}
        }
        behind
    }

    fn wake_at(&self, behind: bool) -> Instant {
        let now = Instant::now();
        let latest = if behind { now + BEHIND_EVERY } else { now + IDLE };
        self.session.poll_timeout().map_or(latest, |at| latest.min(at.into()))
    }

    /// Keeps the sum of what sessions hold, and its bound.
    fn account(&mut self) {
        let held = self.session.held();
        if held == self.held {
            return;
        }
        let total = if held > self.held {
            self.service.held.fetch_add(held - self.held, Ordering::Relaxed) + (held - self.held)
        } else {
            self.service.held.fetch_sub(self.held - held, Ordering::Relaxed) - (self.held - held)
        };
        self.held = held;
        if total > HELD_BYTES_MAX && held > HELD_FREE_BYTES && self.closing.is_none() {
            let what = "octets of unfinished messages";
            self.closing = Some(Reason::TooMany { what, max: HELD_BYTES_MAX });
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.service.held.fetch_sub(self.held, Ordering::Relaxed);
        self.service.metrics.session_ended();
    }
}

/// Runs a transaction; put when this returns, see [`Replica::begin`]. What it changed or saw is applied here when it is answered.
fn run(
    service: &Arc<Service>,
    peer: &Arc<str>,
    read_only: bool,
    transact: Transact,
) -> impl Future<Output = Result<Outcome, String>> + Send + use<> {
    let Transact { database, operations, locks, waited } = transact;
    let read_only = read_only || database == Database::Server;
    let request = Request { database: database.name().to_owned(), operations, locks, read_only, waited };
    if database == Database::Server {
        return Either::Left(ready(on_server(&service.directory.state(), peer.clone(), &request)));
    }
    let forwarded = forward::run(&service.replica, &service.leader, peer, request);
    Either::Right(answer(service.replica.clone(), forwarded))
}

async fn answer(
    replica: Replica,
    outcome: impl Future<Output = Result<Outcome, String>>,
) -> Result<Outcome, String> {
    let outcome = outcome.await?;
    if let Outcome::Done { revision, .. } = outcome {
        replica.reached(revision).await;
    }
    Ok(outcome)
}

/// Runs a transaction on `_Server`, which nobody may write.
fn on_server(state: &State, principal: Arc<str>, request: &Request) -> Result<Outcome, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let context = Context { now_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX), principal };
    match evaluate(state, &context, |txn| Ok(transact::run(txn, request)), &|_| Ok(())) {
        Ok(Evaluated { result: Attempt::Done(results), .. }) => Ok(Outcome::Done { results, revision: 0 }),
        Ok(Evaluated { result: Attempt::Blocked(timeout), .. }) => {
            Ok(Outcome::Blocked { revision: state.revision(), timeout })
        }
        Err(refusal) => Err(refusal.to_string()),
    }
}

/// What waits to be sent.
#[derive(Debug, Default)]
struct Outbox {
    pieces: VecDeque<Piece>,
    /// Of the pieces that are octets.
    octets: usize,
    /// Being sent.
    current: Bytes,
    unflushed: bool,
}

impl Outbox {
    fn push(&mut self, piece: Piece) {
        if let Piece::Octets(octets) = &piece {
            self.octets += octets.len();
        }
        self.pieces.push_back(piece);
    }

    /// Whether the client has to read before it is told more.
    fn is_long(&self) -> bool {
        self.octets + self.current.len() >= BACKLOG_BYTES
            || self.pieces.iter().any(|piece| matches!(piece, Piece::Dump(_)))
    }

    fn wants_to_send(&self) -> bool {
        self.unflushed || !self.current.is_empty() || !self.pieces.is_empty()
    }

    /// Sends some; loses nothing when dropped half way.
    async fn step(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<usize> {
        if self.current.is_empty() {
            self.fill();
        }
        if self.current.is_empty() {
            writer.flush().await?;
            self.unflushed = false;
            return Ok(0);
        }
        let sent = writer.write(&self.current).await?;
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.current.advance(sent);
        Ok(sent)
    }

    /// Puts small pieces together; takes a large one as it is.
    fn fill(&mut self) {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_BYTES {
            match self.pieces.front_mut() {
                None => break,
                Some(Piece::Dump(dump)) => {
                    if !dump.write(CHUNK_BYTES, &mut chunk) {
                        self.pieces.pop_front();
                    }
                }
                Some(Piece::Octets(octets)) if octets.len() >= CHUNK_BYTES && !chunk.is_empty() => break,
                Some(Piece::Octets(octets)) => {
                    let octets = std::mem::take(octets);
                    self.octets -= octets.len();
                    self.pieces.pop_front();
                    if octets.len() >= CHUNK_BYTES {
                        self.current = octets;
                        return;
                    }
                    chunk.extend_from_slice(&octets);
                }
            }
        }
        self.current = chunk.into();
    }
}

const READ_BYTES: usize = 64 << 10;
const CHUNK_BYTES: usize = 64 << 10;
/// Octets that may wait for a client before it has to read.
const BACKLOG_BYTES: usize = 1 << 20;
/// How long a client may be that far behind if the store no longer remembers what it missed.
const BEHIND_MAX: Duration = Duration::from_secs(120);
const BEHIND_EVERY: Duration = Duration::from_secs(1);
/// A session without timers is looked at all the same.
const IDLE: Duration = Duration::from_secs(3_600);
/// Octets of unfinished messages and transactions, of all clients of a server.
const HELD_BYTES_MAX: usize = 512 << 20;
/// A client that holds less is never to blame.
const HELD_FREE_BYTES: usize = 1 << 20;
/// ovsdb-server's, for peers that may vanish without a word.
const PROBE: Duration = Duration::from_secs(5);
/// ovsdb-server's.
const BACKOFF_MAX: Duration = Duration::from_secs(8);
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);
