//! Where committed transactions meet the agents' queues.
//!
//! # Contract
//! - Runs on the replica's thread for each applied transaction: follows the interest index, encodes each change
//!   once, and puts it into the queues of those concerned. Never waits.
//!
//! # Invariants
//! - An agent whose `Chassis` or `Chassis_Private` row goes is not told so, but that it must register again.
//! - A session's queue holds every push after the revision that it attached at, in order, or is closed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use quantumnet_model::{
    Row, Uuid,
    change::RowChange,
    row::{DynRow, TableId},
    sb::{Chassis, ChassisPrivate, Fdb, MacBinding},
};
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    agents::{
        neighbours,
        pending::{Due, Pending},
        referring::Referring,
    },
    metrics::Metrics,
    replica::Observer,
    store::{
        ResumeToken, State, Touched, Transaction,
        scopes::{Delivery, ScopeChanges, Scopes, View, deliveries},
    },
};

/// The agents' queues and what they are filled from.
#[derive(Debug)]
pub struct Hub {
    inner: Mutex<Inner>,
    revision: watch::Sender<u64>,
    /// Wakes whoever writes derived columns.
    pub(crate) wake: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Inner {
    state: Arc<State>,
    scopes: Scopes,
    steps: VecDeque<Arc<Step>>,
    steps_max: usize,
    steps_bytes: usize,
    sessions: BTreeMap<Uuid, Session>,
    /// Keys of `sessions`.
    connected: BTreeSet<Uuid>,
    session_last: u64,
    pending: Pending,
    referring: Referring,
}

#[derive(Debug)]
struct Session {
    number: u64,
    queue: mpsc::Sender<Push>,
}

/// A transaction with what it did to the interest index.
#[derive(Debug)]
struct Step {
    transaction: Arc<Transaction>,
    scopes: ScopeChanges,
}

/// Row changes of one revision for one agent.
#[derive(Clone, Debug)]
pub struct Push {
    /// Encoded row changes.
    pub rows: Vec<Bytes>,
    /// The revision they lead to.
    pub revision: u64,
    /// When it was applied here.
    pub applied_at: Instant,
}

/// What an agent that attached is sent first, and where the rest comes from.
#[derive(Debug)]
pub struct Attached {
    /// What it held is void; `rows` are all it is to hold.
    pub snapshot: bool,
    /// Encoded row changes.
    pub rows: Vec<Bytes>,
    /// The revision they lead to, in its history.
    pub token: ResumeToken,
    /// What comes after; ends when the agent fell behind and must attach again, or another stream took its place.
    pub queue: mpsc::Receiver<Push>,
    /// Tells this attachment from others of the same chassis.
    pub number: u64,
}

impl Hub {
    /// A hub that remembers so many transactions for agents that resume.
    pub fn new(steps_max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let inner = Inner {
            state: Arc::default(),
            scopes: Scopes::default(),
            steps: VecDeque::new(),
            steps_max,
            steps_bytes: 0,
            sessions: BTreeMap::new(),
            connected: BTreeSet::new(),
            session_last: 0,
            pending: Pending::default(),
            referring: Referring::default(),
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            revision: watch::Sender::new(0),
            wake: Notify::new(),
            metrics,
        })
    }

    /// Follows the revision; it moves after the queues were filled.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Attaches the agent of a chassis, at most one at a time: an earlier attachment ends. `None` while the store has
    /// no identity yet.
    pub fn attach(&self, chassis: Uuid, token: Option<&ResumeToken>) -> Option<Attached> {
        let mut inner = self.lock();
        let now = ResumeToken::of(&inner.state)?;
        let steps = token.and_then(|token| inner.since(token, &now));
        let (state, view) = (inner.state.clone(), inner.scopes.view().clone());
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        inner.session_last += 1;
        let number = inner.session_last;
        inner.sessions.insert(chassis, Session { number, queue: sender });
        inner.connected.insert(chassis);
        drop(inner);
        // The rest looks at snapshots only.
        let resumed = steps.and_then(|steps| resume(chassis, &state, &view, &steps));
        let (snapshot, rows) = match resumed {
            Some(rows) => (false, rows),
            None => (true, projection(chassis, &state, &view)),
        };
        Some(Attached { snapshot, rows, token: now, queue, number })
    }

    /// Ends an attachment.
    pub fn detach(&self, chassis: Uuid, number: u64) {
        let mut inner = self.lock();
        if inner.sessions.get(&chassis).is_some_and(|session| session.number == number) {
            inner.end(chassis);
        }
    }

    /// Whether the attachment was ended by another one of the same chassis.
    pub fn was_replaced(&self, chassis: Uuid, number: u64) -> bool {
        self.lock().sessions.get(&chassis).is_some_and(|session| session.number != number)
    }

    /// An agent has everything up to the revision in its switch. Returns what of that is believed: it can't have
    /// what does not exist, and a claim to the contrary would make `up` come true early.
    ///
    /// The bound is the state that sessions are fed from, under its lock: an agent may answer before anybody else
    /// has heard of the revision.
    pub fn acknowledge(&self, chassis: Uuid, revision: u64) -> u64 {
        let mut inner = self.lock();
        let revision = revision.min(inner.state.revision());
        inner.pending.acknowledge(chassis, revision);
        drop(inner);
        self.wake.notify_one();
        revision
    }

    /// An agent of another member has everything up to the revision in its switch. That member has bounded it by what
    /// it had applied itself, which may be a little more than this one has.
    pub(crate) fn acknowledge_elsewhere(&self, chassis: Uuid, revision: u64) {
        self.lock().pending.acknowledge(chassis, revision);
        self.wake.notify_one();
    }

    /// Whether a chassis that was registered at a revision is no longer: someone deleted its row.
    pub(crate) fn is_unregistered(&self, chassis: Uuid, registered: u64) -> bool {
        let inner = self.lock();
        let state = &inner.state;
        state.revision() >= registered
            && (state.get::<Chassis>(chassis).is_none()
                || state.referrers_through::<Chassis, ChassisPrivate>(chassis, "chassis").next().is_none())
    }

    /// Ends the attachment of a chassis whose agent is connected elsewhere.
    pub(crate) fn evict(&self, chassis: Uuid) {
        self.lock().end(chassis);
    }

    /// Takes the derived columns that are due.
    pub(crate) fn due(&self) -> Due {
        let mut inner = self.lock();
        let Inner { state, scopes, pending, referring, .. } = &mut *inner;
        let referring = referring.take_due(state, scopes.view());
        Due { referring, ..pending.take_due(state) }
    }

    /// Says that what was taken with [`Self::due`] could not be written: it is due again.
    pub(crate) fn due_again(&self) {
        let mut inner = self.lock();
        inner.pending.due_again();
        inner.referring = Referring::of(&inner.state);
    }

    /// MACs learned on the port, and in its network.
    pub(crate) fn learned(&self, datapath_key: i64, port_key: i64) -> (usize, usize) {
        self.lock().pending.learned(datapath_key, port_key)
    }

    /// Whether the MAC is known in the network, at whatever port.
    pub(crate) fn knows(&self, datapath_key: i64, mac: &str) -> bool {
        self.lock().state.find::<Fdb>(&[("mac", mac.into()), ("dp_key", datapath_key.into())]).is_some()
    }

    /// Whether the neighbour of a router port is known, and how many of that port are.
    pub(crate) fn neighbours(&self, datapath_key: i64, port_key: i64, ip: IpAddr) -> (bool, usize) {
        let inner = self.lock();
        let Some((port, _)) = neighbours::port(&inner.state, datapath_key, port_key) else {
            return (false, 0);
        };
        let name = &*port.logical_port;
        let by_ip = [("logical_port", name.into()), ("ip", ip.to_string().into())];
        (inner.state.find::<MacBinding>(&by_ip).is_some(), inner.pending.neighbours(name))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, state: &Arc<State>, transaction: &Arc<Transaction>) {
        let applied_at = Instant::now();
        let mut inner = self.lock();
        let before = inner.scopes.view().clone();
        let last = inner.state.clone();
        let changes = inner.scopes.follow(&last, state, &transaction.touched);
        inner.state = state.clone();
        inner.pending.follow(transaction.revision, &transaction.touched);
        inner.referring.follow(state, &transaction.touched, &changes);
        for chassis in unregistered(&transaction.touched) {
            // Not told of it: it keeps what it has until it is registered again.
            inner.end(chassis);
        }
        if !inner.sessions.is_empty() {
            let touched: BTreeMap<_, _> =
                transaction.touched.iter().map(|row| ((row.table, row.uuid), row.old.clone())).collect();
            let rows = touched.keys().copied().collect();
            let told = deliveries(&before, inner.scopes.view(), &rows, &changes, &inner.connected);
            let mut encoder = Encoder { state, old: &touched, done: BTreeMap::new() };
            for (chassis, deliveries) in told {
                let rows: Vec<Bytes> = deliveries.into_iter().filter_map(|one| encoder.encode(one)).collect();
                let push = Push { rows, revision: transaction.revision, applied_at };
                let sent = push.rows.is_empty()
                    || inner
                        .sessions
                        .get(&chassis)
                        .is_none_or(|session| session.queue.try_send(push).is_ok());
                if !sent {
                    // It is too slow, or gone; a closed queue makes it attach again.
                    inner.end(chassis);
                    self.metrics.agent_resync();
                }
            }
        }
        inner.remember(Step { transaction: transaction.clone(), scopes: changes });
        let due = inner.pending.is_due() || inner.referring.is_due();
        drop(inner);
        self.revision.send_replace(transaction.revision);
        if due {
            self.wake.notify_one();
        }
    }

    fn replace(&self, state: &Arc<State>) {
        let mut inner = self.lock();
        inner.scopes = Scopes::of(state);
        inner.state = state.clone();
        inner.steps.clear();
        inner.steps_bytes = 0;
        inner.sessions.clear();
        inner.connected.clear();
        // What is in a switch stays there.
        inner.pending = Pending::of(state, std::mem::take(&mut inner.pending));
        inner.referring = Referring::of(state);
        drop(inner);
        self.revision.send_replace(state.revision());
    }
}

/// The replica's side of a hub.
impl Observer for Arc<Hub> {
    fn applied(&mut self, state: &Arc<State>, transaction: &Arc<Transaction>) {
        self.apply(state, transaction);
    }

    fn replaced(&mut self, state: &Arc<State>) {
        self.replace(state);
    }
}

impl Step {
    /// About how many octets of memory it keeps.
    fn bytes(&self) -> usize {
        self.transaction.bytes + (self.scopes.rows.len() + self.scopes.agents.len()) * SCOPE_CHANGE_BYTES
    }
}

impl Inner {
    fn end(&mut self, chassis: Uuid) {
        self.sessions.remove(&chassis);
        self.connected.remove(&chassis);
    }

    fn remember(&mut self, step: Step) {
        self.steps_bytes += step.bytes();
        self.steps.push_back(Arc::new(step));
        while self.steps.len() > self.steps_max || self.steps_bytes > STEPS_BYTES_MAX {
            let Some(gone) = self.steps.pop_front() else { return };
            self.steps_bytes -= gone.bytes();
        }
    }

    /// What came after the token, unless that is not known.
    fn since(&self, token: &ResumeToken, now: &ResumeToken) -> Option<Vec<Arc<Step>>> {
        if !token.precedes(now) {
            return None;
        }
        if token.revision == now.revision {
            return Some(Vec::new());
        }
        let first = self.steps.front()?.transaction.revision;
        let skip = usize::try_from((token.revision + 1).checked_sub(first)?).ok()?;
        Some(self.steps.iter().skip(skip).cloned().collect())
    }
}

/// Chassis of which a row went: an agent that has it must register again.
fn unregistered(touched: &[Touched]) -> impl Iterator<Item = Uuid> + '_ {
    touched.iter().filter(|touched| touched.new.is_none()).filter_map(|touched| {
        if touched.table == Chassis::TABLE {
            return Some(touched.uuid);
        }
        touched.before::<ChassisPrivate>()?.chassis.map(|chassis| chassis.uuid())
    })
}

/// Encodes each row of a transaction once.
struct Encoder<'a> {
    state: &'a State,
    /// Touched rows as they were.
    old: &'a BTreeMap<(TableId, Uuid), Option<Arc<dyn DynRow>>>,
    done: BTreeMap<Delivery, Option<Bytes>>,
}

impl Encoder<'_> {
    fn encode(&mut self, delivery: Delivery) -> Option<Bytes> {
        if let Some(done) = self.done.get(&delivery) {
            return done.clone();
        }
        let row = |table, uuid| self.state.rows().dyn_row(table, uuid).map(AsRef::as_ref);
        let change = match delivery {
            Delivery::Insert(table, uuid) => RowChange::between(table, uuid, None, row(table, uuid)),
            Delivery::Change(table, uuid) => {
                let old = self.old.get(&(table, uuid)).and_then(Option::as_deref);
                RowChange::between(table, uuid, old, row(table, uuid))
            }
            Delivery::Delete(table, uuid) => {
                Some(RowChange { table, uuid, kind: quantumnet_model::change::ChangeKind::Delete })
            }
        };
        let bytes = change.and_then(|change| change.for_agents()).map(|change| Bytes::from(change.encode()));
        self.done.insert(delivery, bytes.clone());
        bytes
    }
}

/// What leads an agent from the beginning of `steps` to `state`; `None` when it was not registered then.
fn resume(chassis: Uuid, state: &State, view: &View, steps: &[Arc<Step>]) -> Option<Vec<Bytes>> {
    let mut before = view.clone();
    let mut changes = ScopeChanges::default();
    let mut old: BTreeMap<(TableId, Uuid), Option<Arc<dyn DynRow>>> = BTreeMap::new();
    for step in steps.iter().rev() {
        before.revert(&step.scopes);
        changes.rows.extend_from_slice(&step.scopes.rows);
        changes.agents.extend_from_slice(&step.scopes.agents);
        // The oldest wins.
        old.extend(step.transaction.touched.iter().map(|row| ((row.table, row.uuid), row.old.clone())));
    }
    // An agent whose chassis was made anew holds rows of the former one.
    if !before.held_by(chassis).any(|scope| scope == chassis) {
        return None;
    }
    let touched = old.keys().copied().collect();
    let told = deliveries(&before, view, &touched, &changes, &BTreeSet::from([chassis]));
    let mut encoder = Encoder { state, old: &old, done: BTreeMap::new() };
    Some(told.into_values().flatten().filter_map(|delivery| encoder.encode(delivery)).collect())
}

/// Every row that the agent is to hold.
fn projection(chassis: Uuid, state: &State, view: &View) -> Vec<Bytes> {
    let old = BTreeMap::new();
    let mut encoder = Encoder { state, old: &old, done: BTreeMap::new() };
    let rows = view.projection(chassis).into_iter();
    rows.filter_map(|(table, uuid)| encoder.encode(Delivery::Insert(table, uuid))).collect()
}

/// Octets of memory that the steps remembered keep, about; most of them are shared with the store's history.
const STEPS_BYTES_MAX: usize = 64 << 20;
const SCOPE_CHANGE_BYTES: usize = 48;
/// Revisions with changes for it that an agent may be behind before it must attach again.
const QUEUE_MAX: usize = 256;
