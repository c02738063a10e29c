//! One client's session, as a value that knows no socket and no clock.
//!
//! # Contract
//! - In: [`Input`], and the [`World`] as it is. Out: [`Effect`]s, to be carried out in order.
//! - `request` reads and answers methods, `monitors` follows the store, `transacts` keeps transactions under way.
//! - The owner asks [`Session::wants_input`] before it hands over more of the client's octets, and hands over none
//!   while too much waits to be sent.
//!
//! # Invariants
//! - What a transaction changed is sent before the transaction's reply.
//! - Updates of a monitor are sent in the order of commits; each monitor has shown the same revision.
//! - Transactions are answered in the order of their requests; one that waits for a condition holds up no other.
//! - After [`Effect::Close`] there are no further effects.
//! - A client's octets end in replies, errors or a close, never in a panic, and what they make us hold is bounded by
//!   [`Limits`].

mod monitors;
mod request;
mod transacts;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ovsdb::jsonrpc::{FrameLimits, Framer, Message, MessageError};
use quantumnet_model::{Database, Uuid};
use serde_json::Value;
use thiserror::Error;

use self::{monitors::Monitor, transacts::Slot};
use crate::{
    ovsdb::{
        json,
        locks::{Holder, Notice},
        metrics::Metrics,
        monitor::Dump,
        transact::Outcome,
    },
    store::{ResumeToken, State, Transaction},
};

/// What a session may hold and how long it keeps silent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of a message.
    pub frame: FrameLimits,
    /// Transactions under way.
    pub transactions_max: usize,
    /// Their octets, as they came.
    pub transaction_bytes_max: usize,
    /// Transactions that wait for a condition.
    pub parked_max: usize,
    /// Monitors.
    pub monitors_max: usize,
    /// Locks owned or waited for.
    pub locks_max: usize,
    /// After so long without a sign of life the client is asked for an `echo`, after as long again it is given up.
    /// Zero: never.
    pub probe: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: FrameLimits::default(),
            transactions_max: 128,
            transaction_bytes_max: 64 << 20,
            parked_max: 256,
            monitors_max: 1_024,
            locks_max: 1_024,
            probe: Duration::from_secs(5),
        }
    }
}

/// What a session sees besides its client.
pub struct World<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The `_Server` database.
    pub server: &'a Arc<State>,
    /// What is counted.
    pub metrics: &'a Metrics,
}

/// The store as sessions see it.
pub trait Store {
    /// The newest applied state.
    fn state(&self) -> Arc<State>;
    /// As [`crate::replica::Replica::since`].
    fn since(&self, token: &ResumeToken) -> (Arc<State>, Option<Vec<Arc<Transaction>>>);
}

/// What happens to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// Octets came; none, to look again at those that were held back.
    Received(&'a [u8]),
    /// Octets were taken by the client's side.
    Sent,
    /// The world is another.
    Moved,
    /// A lock changed hands.
    Lock(Notice),
    /// A transaction ended.
    Answered {
        /// Of [`Effect::Transact`].
        ticket: u64,
        /// How; what is done is applied here. An error says why it is not known, or can't be done now: the client has
        /// to connect again, and try again.
        outcome: Result<Outcome, String>,
    },
    /// It is [`Session::poll_timeout`] or later.
    Timeout,
}

/// What a session wants done.
#[derive(Debug)]
pub enum Effect {
    /// Send this.
    Send(Piece),
    /// Run a transaction.
    Transact {
        /// Comes back with the answer.
        ticket: u64,
        /// What to run.
        transact: Transact,
    },
    /// Close the connection once everything is sent that can be at once.
    Close(Reason),
}

/// Something to send.
#[derive(Debug)]
pub enum Piece {
    /// Octets.
    Octets(Bytes),
    /// A reply that is written while it is sent.
    Dump(Box<Dump>),
}

/// A transaction to run.
#[derive(Debug)]
pub struct Transact {
    /// The database.
    pub database: Database,
    /// The operations, as they came.
    pub operations: Vec<Value>,
    /// Locks owned.
    pub locks: BTreeSet<String>,
    /// How long the client waits already.
    pub waited: Duration,
}

/// Why a session ends.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// Octets that are no messages.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A reply to nothing that was asked.
    #[error("a reply to no request")]
    Unexpected,
    /// No answer to a probe.
    #[error("no sign of life for {} ms", .silent.as_millis())]
    Silent {
        /// For how long.
        silent: Duration,
    },
    /// A transaction's outcome is not known, or there is no leader.
    #[error("a transaction got no answer: {why}")]
    Lost {
        /// Why.
        why: String,
    },
    /// The client fell too far behind.
    #[error("the client does not read what it asked for")]
    Slow,
    /// Too much for this server.
    #[error("more {what} than {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// The client did not say that it copes with a database that comes or changes.
    #[error("database {database} was added, removed or replaced")]
    DatabaseChanged {
        /// Its name.
        database: &'static str,
    },
}

/// A session.
#[derive(Debug)]
pub struct Session {
    /// The database besides `_Server`.
    database: Database,
    server_id: Uuid,
    limits: Limits,
    framer: Framer,
    locks: Holder,
    /// Locks owned or waited for.
    locks_asked: BTreeSet<String>,
    monitors: Vec<Monitor>,
    /// What the monitors of the store have shown; `None` without such monitors.
    store_at: Option<Arc<State>>,
    /// What the monitors of `_Server` have shown; `None` without such monitors.
    server_at: Option<Arc<State>>,
    slots: VecDeque<Slot>,
    next_ticket: u64,
    /// The client copes with changes of databases.
    aware: bool,
    /// What `_Server` said of the database's identity; `None` before the first look.
    identity: Option<monitors::Identity>,
    heard: Instant,
    probed: bool,
    effects: Vec<Effect>,
    closed: bool,
}

impl Session {
    /// A session of a client that has just connected.
    pub fn new(now: Instant, database: Database, server_id: Uuid, locks: Holder, limits: Limits) -> Self {
        Self {
            database,
            server_id,
            limits,
            framer: Framer::new(limits.frame),
            locks,
            locks_asked: BTreeSet::new(),
            monitors: Vec::new(),
            store_at: None,
            server_at: None,
            slots: VecDeque::new(),
            next_ticket: 0,
            aware: false,
            identity: None,
            heard: now,
            probed: false,
            effects: Vec::new(),
            closed: false,
        }
    }

    /// Something happened. Cheap when there is nothing to do.
    #[must_use]
    pub fn handle(&mut self, now: Instant, world: &World<'_>, input: Input<'_>) -> Vec<Effect> {
        if self.closed {
            return Vec::new();
        }
        match input {
            Input::Received(octets) => {
                if !octets.is_empty() {
                    self.alive(now);
                }
                self.follow(now, world);
                self.framer.push(octets);
                self.read(now, world);
            }
            Input::Sent => self.alive(now),
            Input::Moved => self.follow(now, world),
            Input::Lock(notice) => self.lock_notice(notice),
            Input::Answered { ticket, outcome } => {
                self.follow(now, world);
                self.answered(now, world, ticket, outcome);
                self.read(now, world);
            }
            Input::Timeout => {
                self.probe(now);
                self.retry(now, world);
            }
        }
        std::mem::take(&mut self.effects)
    }

    /// Another interval between probes; zero for none.
    pub fn set_probe(&mut self, probe: Duration) {
        self.limits.probe = probe;
    }

    /// When to come back with [`Input::Timeout`] at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let idle = if self.probed { self.limits.probe * 2 } else { self.limits.probe };
        let probe = (!self.limits.probe.is_zero()).then(|| self.heard + idle);
        probe.into_iter().chain(self.retry_at()).min()
    }

    /// Whether more of the client's octets may be handed over.
    pub fn wants_input(&self) -> bool {
        !self.closed && !self.is_full()
    }

    /// Whether [`Input::Moved`] is wanted when the store moves.
    pub fn follows_store(&self) -> bool {
        self.store_at.is_some() || self.waits_for_store()
    }

    /// Octets held of messages and transactions that are not done.
    pub fn held(&self) -> usize {
        self.framer.pending() + self.transaction_bytes()
    }

    fn alive(&mut self, now: Instant) {
        self.heard = now;
        self.probed = false;
    }

    fn probe(&mut self, now: Instant) {
        if !self.wants_input() {
            // It may have said something that was not read.
            self.alive(now);
        }
        let (silent, interval) = (now.saturating_duration_since(self.heard), self.limits.probe);
        if interval.is_zero() || silent < interval {
            return;
        }
        if !self.probed {
            self.probed = true;
            self.send(Bytes::from_static(ECHO));
        } else if silent >= interval * 2 {
            self.close(Reason::Silent { silent });
        }
    }

    fn read(&mut self, now: Instant, world: &World<'_>) {
        while self.wants_input() {
            let before = self.framer.pending();
            match self.framer.next_message() {
                Ok(None) => return,
                Ok(Some(message)) => self.message(now, world, message, before - self.framer.pending()),
                Err(error) => self.close(error.into()),
            }
        }
    }

    fn message(&mut self, now: Instant, world: &World<'_>, message: Message, octets: usize) {
        match message {
            Message::Request { id, method, params } => {
                world.metrics.request(&method);
                self.request(now, world, (id, &method, params), octets);
            }
            Message::Notification { method, params } if method == "cancel" => self.cancel(&params),
            // ovsdb-server ignores what it does not know.
            Message::Notification { .. } => {}
            Message::Response { id, .. } | Message::Error { id, .. } => {
                if id != ECHO_ID {
                    self.close(Reason::Unexpected);
                }
            }
        }
    }

    fn lock_notice(&mut self, notice: Notice) {
        let (method, name) = match &notice {
            Notice::Locked(name) => ("locked", name),
            Notice::Stolen(name) => ("stolen", name),
        };
        // It may have been given back meanwhile.
        if self.locks_asked.contains(name) {
            let message = Message::Notification { method: method.into(), params: vec![name.as_str().into()] };
            self.send(message.encode());
        }
    }

    fn send(&mut self, octets: impl Into<Bytes>) {
        self.push(Piece::Octets(octets.into()));
    }

    fn push(&mut self, piece: Piece) {
        if !self.closed {
            self.effects.push(Effect::Send(piece));
        }
    }

    fn close(&mut self, reason: Reason) {
        if !self.closed {
            self.closed = true;
            self.effects.push(Effect::Close(reason));
        }
    }

    /// Sends a reply; `write` appends the result.
    fn reply(&mut self, id: &Value, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = reply_head(id);
        write(&mut out);
        out.extend_from_slice(REPLY_REST);
        self.send(out);
    }

    /// Sends an error reply.
    fn refuse(&mut self, id: Value, error: Value) {
        self.send(Message::Error { id, error }.encode());
    }
}

/// The beginning of a reply, up to its result.
fn reply_head(id: &Value) -> Vec<u8> {
    let mut out = b"{\"id\":".to_vec();
    json::value(&mut out, id);
    out.extend_from_slice(b",\"result\":");
    out
}

/// The end of a reply, after its result.
const REPLY_REST: &[u8] = b",\"error\":null}";
const ECHO: &[u8] = br#"{"id":"echo","method":"echo","params":[]}"#;
const ECHO_ID: &str = "echo";
