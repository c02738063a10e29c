//! A client's session with an OVSDB server: keeps a [`Replica`] and carries transactions, without sockets or clock.
//!
//! # Contract
//! In: [`Input`], from whoever has the socket and the clock. Out: [`Output`], to be carried out in order.
//! On connection: `set_db_change_aware`, `get_schema`, then `monitor_cond_since` from the last transaction seen; a server
//! that answers `unknown method` is asked `monitor_cond`, then `monitor`.
//!
//! # Invariants
//! - What a transaction changed is in the replica, and in an [`Output::Changed`], before its [`Output::Transacted`].
//! - Each accepted transaction has exactly one [`Output::Transacted`].
//! - After [`Output::Close`] nothing is said until [`Input::Connected`].
//! - Memory is bounded by [`Limits`], whatever the peer sends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use crate::jsonrpc::{FrameLimits, Framer, Message, MessageError};
use crate::members::RequestError;
use crate::method::{Notification, Request, SinceReply};
use crate::monitor::{MonitorRequest, MonitorRequests, RowUpdate, RowUpdate2, TableUpdates};
use crate::operation::Operation;
use crate::replica::{Replica, RowChange, UpdateError};
use crate::request::ReplicaRequest;
use crate::result::{ErrorKind, OpError, OpResult, TransactError};
use crate::schema::DatabaseSchema;
use crate::schema_json::SchemaError;

/// How a session behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest and deepest message.
    pub frame: FrameLimits,
    /// The most rows in the replica.
    pub rows_max: usize,
    /// The most transactions that wait for replies.
    pub in_flight_max: usize,
    /// After so long without a byte from the peer it is asked for an `echo`; after as long again it is given up.
    /// Zero: never.
    pub probe_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: FrameLimits::default(),
            rows_max: 1_000_000,
            in_flight_max: 1_024,
            probe_interval: Duration::from_secs(5),
        }
    }
}

/// What happens to a session.
#[derive(Clone, Debug)]
pub enum Input {
    /// There is a new connection.
    Connected,
    /// Bytes came.
    Received(Vec<u8>),
    /// The connection is gone.
    Disconnected,
    /// The user wants this done.
    Transact {
        /// Comes back with the outcome. The user's own, unique among those in flight.
        token: u64,
        /// What to do.
        operations: Vec<Operation>,
    },
    /// The user no longer wants this done. The outcome comes all the same.
    Cancel {
        /// The transaction.
        token: u64,
    },
    /// It is [`Session::poll_timeout`] or later.
    Timeout,
}

/// What a session wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send these bytes.
    Send(Vec<u8>),
    /// The replica is what the server has.
    Synced {
        /// The replica at this very point of the outputs; [`Session::replica`] may be further on.
        replica: Replica,
        /// Whether the server knew the last transaction seen and sent only what came after.
        resumed: bool,
        /// What changed since the last time it was.
        changes: Vec<RowChange>,
    },
    /// Rows changed.
    Changed(Vec<RowChange>),
    /// A transaction has an outcome.
    Transacted {
        /// Which.
        token: u64,
        /// A result for each operation, or why not.
        result: Result<Vec<OpResult>, TransactError>,
    },
    /// Close the connection.
    Close(SessionError),
}

/// Why a session gives a connection up.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SessionError {
    /// Bytes that are no messages.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A reply or notification that is none.
    #[error(transparent)]
    Form(#[from] RequestError),
    /// A schema that is none.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// An update that does not fit.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The server refused what the session can't do without.
    #[error("{method} refused: {error}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// The answer.
        error: OpError,
    },
    /// The schema does not have a table asked for.
    #[error("database {db} has no table {table}")]
    NoTable {
        /// The database.
        db: String,
        /// The table.
        table: String,
    },
    /// The schema does not have a column asked for.
    #[error("table {table} has no column {column}")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The server only has `monitor`, which knows no conditions.
    #[error("the server can't monitor table {table} with conditions")]
    NoConditions {
        /// The table.
        table: String,
    },
    /// More rows than allowed.
    #[error("the replica would hold {got} rows, {rows_max} are allowed")]
    TooManyRows {
        /// The limit.
        rows_max: usize,
        /// How many there would be.
        got: usize,
    },
    /// The peer did not answer.
    #[error("no answer to an inactivity probe for {after:?}")]
    Inactive {
        /// For so long.
        after: Duration,
    },
}

/// A client's session.
#[derive(Debug)]
pub struct Session {
    request: ReplicaRequest,
    limits: Limits,
    framer: Framer,
    phase: Phase,
    replica: Replica,
    /// The tables of the server's present schema, without rows.
    blank: Replica,
    last_txn_id: Uuid,
    /// Of the current monitor; changes with each, so that late updates of an earlier one are known as such.
    monitor_id: u64,
    next_id: u64,
    asked: HashMap<u64, Asked>,
    /// Transactions that wait for the replica: sent earlier they would be answered before it shows them.
    held: Vec<(u64, Vec<Operation>)>,
    /// Transactions without an outcome, held or sent.
    in_flight: usize,
    heard_at: Option<Instant>,
    probed_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// No connection, or one given up.
    Closed,
    /// The schema was asked for.
    Schema,
    /// The monitor was asked for.
    Monitor,
    /// Updates flow.
    Synced,
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Aware,
    Schema,
    Monitor { level: Level, monitor_id: u64 },
    Probe,
    Transact { token: u64, count: usize },
}

/// The monitor methods, best first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    Since,
    Conditional,
    Plain,
}

impl Session {
    /// A session without a connection.
    pub fn new(request: ReplicaRequest, limits: Limits) -> Self {
        Self {
            framer: Framer::new(limits.frame),
            request,
            limits,
            phase: Phase::Closed,
            replica: Replica::default(),
            blank: Replica::default(),
            last_txn_id: Uuid::nil(),
            monitor_id: 0,
            next_id: 0,
            asked: HashMap::new(),
            held: Vec::new(),
            in_flight: 0,
            heard_at: None,
            probed_at: None,
        }
    }

    /// The copy. While [`Self::is_synced`] is false it is what the server had last, or empty.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whether the copy is complete and follows the server.
    pub fn is_synced(&self) -> bool {
        self.phase == Phase::Synced
    }

    /// When to say [`Input::Timeout`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Closed || self.limits.probe_interval.is_zero() {
            return None;
        }
        self.probed_at.or(self.heard_at).map(|at| at + self.limits.probe_interval)
    }

    /// Takes what happened, tells what to do.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Connected => {
                self.close(&mut out);
                self.framer = Framer::new(self.limits.frame);
                (self.heard_at, self.probed_at) = (Some(now), None);
                self.ask(Asked::Aware, Request::SetDbChangeAware { aware: true }, &mut out);
                self.ask_schema(&mut out);
            }
            Input::Received(bytes) => {
                if self.phase != Phase::Closed {
                    (self.heard_at, self.probed_at) = (Some(now), None);
                    if let Err(error) = self.receive(&bytes, &mut out) {
                        self.give_up(error, &mut out);
                    }
                }
            }
            Input::Disconnected => self.close(&mut out),
            Input::Transact { token, operations } => self.transact(token, operations, &mut out),
            Input::Cancel { token } => self.cancel(token, &mut out),
            Input::Timeout => {
                if self.poll_timeout().is_some_and(|at| at <= now) {
                    if self.probed_at.is_some() {
                        let after = self.limits.probe_interval;
                        self.give_up(SessionError::Inactive { after }, &mut out);
                    } else {
                        self.probed_at = Some(now);
                        self.ask(Asked::Probe, Request::Echo { params: Vec::new() }, &mut out);
                    }
                }
            }
        }
        out
    }

    fn receive(&mut self, bytes: &[u8], out: &mut Vec<Output>) -> Result<(), SessionError> {
        self.framer.push(bytes);
        while let Some(message) = self.framer.next_message()? {
            match message {
                Message::Request { id, method, params } => {
                    let reply = if method == "echo" {
                        Message::Response { id, result: params.into() }
                    } else {
                        Message::Error { id, error: ErrorKind::UnknownMethod.text().into() }
                    };
                    send(&reply, out);
                }
                Message::Notification { method, params } => {
                    self.notified(Notification::from_parts(&method, params)?, out)?;
                }
                Message::Response { id, result } => {
                    if let Some(asked) = id.as_u64().and_then(|id| self.asked.remove(&id)) {
                        self.answered(asked, result, out)?;
                    }
                }
                Message::Error { id, error } => {
                    if let Some(asked) = id.as_u64().and_then(|id| self.asked.remove(&id)) {
                        self.refused(asked, OpError::from_json(error)?, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn notified(&mut self, notification: Notification, out: &mut Vec<Output>) -> Result<(), SessionError> {
        if self.phase == Phase::Schema {
            // Of a monitor that was canceled; the next one has another name.
            return Ok(());
        }
        let early = self.phase == Phase::Monitor;
        let current = self.monitor_name();
        match notification {
            Notification::Update { id, .. }
            | Notification::Update2 { id, .. }
            | Notification::Update3 { id, .. }
                if early && id == current =>
            {
                let (what, expected) = ("update", "the monitor's reply first");
                Err(RequestError::Form { what, expected, got: "an update".to_owned() }.into())
            }
            Notification::Update { id, updates } if id == current => {
                let changes = self.replica.stage1(updates)?;
                self.changed(changes, out)
            }
            Notification::Update2 { id, updates } if id == current => {
                let changes = self.replica.stage2(updates)?;
                self.changed(changes, out)
            }
            Notification::Update3 { id, last_txn_id, updates } if id == current => {
                let changes = self.replica.stage2(updates)?;
                self.changed(changes, out)?;
                self.last_txn_id = last_txn_id;
                Ok(())
            }
            Notification::MonitorCanceled { id } if id == current => {
                // The database went or changed its schema: start over on this connection.
                self.monitor_id += 1;
                self.ask_schema(out);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn changed(&mut self, changes: Vec<RowChange>, out: &mut Vec<Output>) -> Result<(), SessionError> {
        self.bound(self.replica.row_count(), &changes)?;
        self.replica.apply(&changes);
        if !changes.is_empty() {
            out.push(Output::Changed(changes));
        }
        Ok(())
    }

    fn bound(&self, rows: usize, changes: &[RowChange]) -> Result<(), SessionError> {
        let come = changes.iter().filter(|change| change.old.is_none()).count();
        let go = changes.iter().filter(|change| change.new.is_none()).count();
        let (rows_max, got) = (self.limits.rows_max, rows + come - go);
        if got > rows_max { Err(SessionError::TooManyRows { rows_max, got }) } else { Ok(()) }
    }

    fn answered(&mut self, asked: Asked, result: Value, out: &mut Vec<Output>) -> Result<(), SessionError> {
        match asked {
            Asked::Aware | Asked::Probe => Ok(()),
            Asked::Transact { token, count } => {
                self.in_flight -= 1;
                out.push(Output::Transacted { token, result: OpResult::list_from_json(result, count) });
                Ok(())
            }
            Asked::Schema => {
                let schema = DatabaseSchema::from_json(&result)?;
                self.blank = Replica::new(self.request.layouts(&schema)?);
                if !self.blank.same_layout(&self.replica) {
                    // Rows of another layout can't be continued. They stay until the new ones are there.
                    self.last_txn_id = Uuid::nil();
                }
                if self.blank.tables().next().is_none() {
                    return self.synced(false, Uuid::nil(), Fresh::Two(TableUpdates::default()), out);
                }
                self.ask_monitor(Level::Since, out)
            }
            Asked::Monitor { monitor_id, .. } if monitor_id != self.monitor_id => Ok(()),
            Asked::Monitor { level, .. } => {
                let (found, last_txn_id, fresh) = match level {
                    Level::Since => {
                        let reply = SinceReply::from_json(result)?;
                        (reply.found, reply.last_txn_id, Fresh::Two(reply.updates))
                    }
                    Level::Conditional => (false, Uuid::nil(), Fresh::Two(TableUpdates::from_json(result)?)),
                    Level::Plain => (false, Uuid::nil(), Fresh::One(TableUpdates::from_json(result)?)),
                };
                self.synced(found, last_txn_id, fresh, out)
            }
        }
    }

    fn synced(
        &mut self,
        resumed: bool,
        last_txn_id: Uuid,
        fresh: Fresh,
        out: &mut Vec<Output>,
    ) -> Result<(), SessionError> {
        // Without a transaction to resume from, whatever came is everything.
        let resumed = resumed && !self.last_txn_id.is_nil();
        let stage = |base: &Replica| match fresh {
            Fresh::One(updates) => base.stage1(updates),
            Fresh::Two(updates) => base.stage2(updates),
        };
        let changes = if resumed {
            let changes = stage(&self.replica)?;
            self.bound(self.replica.row_count(), &changes)?;
            self.replica.apply(&changes);
            changes
        } else {
            let mut whole = self.blank.clone();
            let rows = stage(&whole)?;
            self.bound(0, &rows)?;
            whole.apply(&rows);
            let changes = self.replica.changes_to(&whole);
            self.replica = whole;
            changes
        };
        self.last_txn_id = last_txn_id;
        self.phase = Phase::Synced;
        out.push(Output::Synced { replica: self.replica.clone(), resumed, changes });
        for (token, operations) in std::mem::take(&mut self.held) {
            self.send_transact(token, &operations, out);
        }
        Ok(())
    }

    fn refused(&mut self, asked: Asked, error: OpError, out: &mut Vec<Output>) -> Result<(), SessionError> {
        let method = match asked {
            // An older server: it closes the connection instead of telling about changes of databases.
            Asked::Aware | Asked::Probe => return Ok(()),
            Asked::Transact { token, .. } => {
                self.in_flight -= 1;
                out.push(Output::Transacted { token, result: Err(TransactError::Refused { error }) });
                return Ok(());
            }
            Asked::Schema => "get_schema",
            Asked::Monitor { monitor_id, .. } if monitor_id != self.monitor_id => return Ok(()),
            Asked::Monitor { level, .. } => match (level, &error.kind) {
                (Level::Since, ErrorKind::UnknownMethod) => return self.ask_monitor(Level::Conditional, out),
                (Level::Conditional, ErrorKind::UnknownMethod) => return self.ask_monitor(Level::Plain, out),
                (Level::Since, _) => "monitor_cond_since",
                (Level::Conditional, _) => "monitor_cond",
                (Level::Plain, _) => "monitor",
            },
        };
        Err(SessionError::Refused { method, error })
    }

    fn transact(&mut self, token: u64, operations: Vec<Operation>, out: &mut Vec<Output>) {
        let in_flight_max = self.limits.in_flight_max;
        let refusal = match self.phase {
            Phase::Closed => TransactError::NotConnected,
            _ if self.in_flight >= in_flight_max => TransactError::TooMany { in_flight_max },
            phase => {
                self.in_flight += 1;
                if phase == Phase::Synced {
                    self.send_transact(token, &operations, out);
                } else {
                    self.held.push((token, operations));
                }
                return;
            }
        };
        out.push(Output::Transacted { token, result: Err(refusal) });
    }

    fn send_transact(&mut self, token: u64, operations: &[Operation], out: &mut Vec<Output>) {
        let count = operations.len();
        self.ask(Asked::Transact { token, count }, Request::transact(&self.request.db, operations), out);
    }

    fn cancel(&mut self, token: u64, out: &mut Vec<Output>) {
        if let Some(at) = self.held.iter().position(|(held, _)| *held == token) {
            self.held.remove(at);
            self.in_flight -= 1;
            let error = OpError { kind: ErrorKind::Canceled, details: None };
            out.push(Output::Transacted { token, result: Err(TransactError::Refused { error }) });
            return;
        }
        let ours = |asked: &Asked| matches!(asked, Asked::Transact { token: t, .. } if *t == token);
        if let Some((id, _)) = self.asked.iter().find(|(_, asked)| ours(asked)) {
            send(&Notification::Cancel { id: (*id).into() }.into_message(), out);
        }
    }

    fn ask_schema(&mut self, out: &mut Vec<Output>) {
        self.phase = Phase::Schema;
        self.ask(Asked::Schema, Request::GetSchema { db: self.request.db.clone() }, out);
    }

    fn ask_monitor(&mut self, level: Level, out: &mut Vec<Output>) -> Result<(), SessionError> {
        self.monitor_id += 1;
        let mut requests = MonitorRequests::new();
        for (name, table) in self.blank.tables() {
            let mut request = MonitorRequest::columns(table.layout().columns().map(|(column, _)| column));
            let conditions =
                self.request.tables.get(name).map(|table| table.conditions.as_slice()).unwrap_or_default();
            if !conditions.is_empty() {
                if level == Level::Plain {
                    return Err(SessionError::NoConditions { table: name.to_owned() });
                }
                request.conditions = Some(conditions.to_vec());
            }
            requests.insert(name.to_owned(), vec![request]);
        }
        let (db, id) = (self.request.db.clone(), self.monitor_name());
        let request = match level {
            Level::Since => Request::MonitorCondSince { db, id, requests, last_txn_id: self.last_txn_id },
            Level::Conditional => Request::MonitorCond { db, id, requests },
            Level::Plain => Request::Monitor { db, id, requests },
        };
        self.phase = Phase::Monitor;
        self.ask(Asked::Monitor { level, monitor_id: self.monitor_id }, request, out);
        Ok(())
    }

    fn monitor_name(&self) -> Value {
        format!("replica-{}", self.monitor_id).into()
    }

    fn ask(&mut self, asked: Asked, request: Request, out: &mut Vec<Output>) {
        self.next_id += 1;
        self.asked.insert(self.next_id, asked);
        send(&request.into_message(self.next_id), out);
    }

    fn give_up(&mut self, error: SessionError, out: &mut Vec<Output>) {
        if matches!(error, SessionError::Update(_)) {
            // We and the server disagree: nothing of this copy can be continued.
            self.last_txn_id = Uuid::nil();
        }
        self.close(out);
        out.push(Output::Close(error));
    }

    /// Forgets the connection; what was in flight is lost.
    fn close(&mut self, out: &mut Vec<Output>) {
        self.phase = Phase::Closed;
        (self.heard_at, self.probed_at) = (None, None);
        self.in_flight = 0;
        for (token, _) in self.held.drain(..) {
            out.push(Output::Transacted { token, result: Err(TransactError::NotConnected) });
        }
        let mut asked: Vec<(u64, Asked)> = self.asked.drain().collect();
        asked.sort_unstable_by_key(|(id, _)| *id);
        for (_, asked) in asked {
            if let Asked::Transact { token, .. } = asked {
                out.push(Output::Transacted { token, result: Err(TransactError::Lost) });
            }
        }
    }
}

/// The rows in a monitor's reply.
enum Fresh {
    One(TableUpdates<RowUpdate>),
    Two(TableUpdates<RowUpdate2>),
}

fn send(message: &Message, out: &mut Vec<Output>) {
    out.push(Output::Send(message.encode()));
}
