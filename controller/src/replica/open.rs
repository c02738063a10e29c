//! Opening a data directory and starting the member's thread.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, Weak},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quantumnet_consensus::{
    ClusterId, Config, DiskLog, DiskOptions, Driver, LogError, MemberId,
    log::vfs::{StdVfs, Vfs},
};
use quantumnet_model::Uuid;
use tokio::sync::{Semaphore, watch};

use crate::{
    metrics::Metrics,
    replica::{
        Replica, StartError, Status,
        announce::Announcement,
        handle::{RECEIVED_BYTES_MAX, Shared},
        identity::identity,
        job::LowerFn,
        member::Member,
        pacer::Pacer,
        queue::Queue,
        rounds::{Helper, Rounds},
    },
    store::{History, State, Transaction},
};

/// Lowers a transaction: `lower::run`, or nothing in tests of the store alone.
pub type Lower = Arc<LowerFn>;

/// Is told of every applied transaction on the member's thread: must be quick and must not wait.
pub trait Observer: Send {
    /// A transaction led to `state`.
    fn applied(&mut self, state: &Arc<State>, transaction: &Arc<Transaction>);
    /// The state was replaced: at the start, or by a leader's snapshot.
    fn replaced(&mut self, state: &Arc<State>);
}

/// Takes messages to the other members.
pub trait Transport: Send + Sync {
    /// Takes a message, or says that it was dropped; must not wait. What is taken may be lost all the same.
    fn send(&self, to: u64, bytes: Bytes) -> bool;
}

/// The other members.
pub struct Peers {
    /// All members with the addresses at which they reach each other, this one among them.
    pub addresses: BTreeMap<u64, SocketAddr>,
    /// The way to them.
    pub transport: Arc<dyn Transport>,
}

/// What a member is made with.
pub struct Options {
    /// Where the log and the snapshots are.
    pub data_dir: PathBuf,
    /// This member's number.
    pub member: u64,
    /// The others; `None` for a cluster of one.
    pub peers: Option<Peers>,
    /// Transactions remembered for whoever resumes.
    pub history_transactions_max: usize,
    /// Growth of the log after which a snapshot is taken.
    pub snapshot_after_bytes: u64,
    /// Turns intent into Northbound into Southbound.
    pub lower: Lower,
    /// Told in this order.
    pub observers: Vec<Box<dyn Observer>>,
    /// Where the member counts.
    pub metrics: Arc<Metrics>,
}

/// Opens the data directory, reads the log back and starts the member.
pub fn start(options: Options) -> Result<Replica, StartError> {
    start_on(StdVfs, options)
}

/// Like [`start`], with the log on another file system.
pub fn start_on<V>(vfs: V, options: Options) -> Result<Replica, StartError>
where
    V: Vfs + Clone + Send + 'static,
    V::File: Send,
    V::Lock: Send,
{
    let (replica, member) = open(vfs, options)?;
    let rounds = Rounds::new(member);
    let helper: Weak<dyn Helper> = Arc::downgrade(&(rounds.clone() as Arc<dyn Helper>));
    _ = replica.shared.helper.set(helper);
    thread::Builder::new().name("replica".into()).spawn(move || rounds.run()).map_err(StartError::Thread)?;
    Ok(replica)
}

/// A member that does not run yet.
pub(super) fn open<V>(vfs: V, options: Options) -> Result<(Replica, Member<V>), StartError>
where
    V: Vfs + Clone + Send + 'static,
    V::File: Send,
    V::Lock: Send,
{
    let addresses = options.peers.as_ref().map(|peers| &peers.addresses);
    let cluster = ClusterId(identity(&options.data_dir, options.member, addresses)?.as_u128());
    let me = MemberId(options.member);
    let voters: Vec<u64> =
        addresses.map_or_else(|| vec![options.member], |addresses| addresses.keys().copied().collect());
    let opened = DiskLog::open_on(vfs, options.data_dir.join("log"), cluster, me, DiskOptions::default());
    let (log, recovered) = opened.map_err(|source| StartError::Log {
        path: options.data_dir.clone(),
        advice: advice(&source),
        source,
    })?;
    let state = match &recovered.snapshot {
        Some(snapshot) => State::decode(&snapshot.data)
            .map_err(|source| StartError::Snapshot { path: options.data_dir.clone(), source })?,
        None => State::default(),
    };
    let snapshot_meta = recovered.snapshot.as_ref().map(|snapshot| snapshot.meta.clone()).unwrap_or_default();
    let config = Config {
        snapshot_after_bytes: options.snapshot_after_bytes,
        seed: u64::from_le_bytes(std::array::from_fn(|at| Uuid::new_v4().as_bytes()[at])),
        election_ticks: ELECTION_TICKS,
        heartbeat_ticks: HEARTBEAT_TICKS,
        read_timeout_ticks: READ_TIMEOUT_TICKS,
        announces_commits: false,
        ..Config::new(cluster, me, voters.iter().copied().map(MemberId).collect())
    };
    let entry_bytes_max = config.entry_bytes_max;
    let driver = Driver::new(config, log, recovered)?;
    let state = Arc::new(state);
    let status =
        Status { member: options.member, voters, applied_index: snapshot_meta.index, ..Status::default() };
    let shared = Arc::new(Shared {
        log: cluster,
        places: Arc::new(Semaphore::new(PROPOSALS_MAX)),
        room: Arc::new(Semaphore::new(RECEIVED_BYTES_MAX as usize)),
        applied: watch::Sender::new(state.clone()),
        history: Mutex::new(History::new(options.history_transactions_max)),
        status: watch::Sender::new(status),
        consensus: Mutex::new(driver.metrics()),
        metrics: options.metrics.clone(),
        helper: OnceLock::new(),
    });
    shared.identify(&state);
    let queue = Arc::new(Queue::default());
    let transport = options.peers.map(|peers| peers.transport);
    let paced = transport.clone().map(|transport| Pacer::start(transport, TICK * HEARTBEAT_TICKS));
    let pacer = paced.transpose().map_err(StartError::Thread)?;
    let replica = Replica { queue: queue.clone(), shared: shared.clone() };
    let member = Member {
        driver,
        queue,
        shared,
        lower: options.lower,
        observers: options.observers,
        pacer,
        transport,
        tick: TICK,
        entry_bytes_max,
        started: Instant::now(),
        head: state.clone(),
        applied: state,
        applied_at: snapshot_meta,
        outcomes: BTreeMap::new(),
        waiting: VecDeque::new(),
        flights: BTreeMap::new(),
        reads: BTreeMap::new(),
        request_last: 0,
        diverged: true,
        clock_ms: 0,
        snapshot_under_way: false,
        lone: false,
        announcement: Announcement::default(),
    };
    Ok((replica, member))
}

fn advice(error: &LogError) -> &'static str {
    match error {
        LogError::DiskFull { .. } => "free space on that file system and start again",
        LogError::Permission { .. } => {
            "give this user read and write permission on the directory and its files"
        }
        LogError::Locked { .. } => "another controller uses it: stop that one or choose another --data-dir",
        LogError::Identity { .. } => "check --member-id, or choose another --data-dir",
        LogError::Corrupt { .. } | LogError::Lost { .. } | LogError::Gap { .. } => {
            "restore it from another member or from a backup"
        }
        LogError::Format { .. } => "it may be of a newer program, or no data directory at all",
        _ => "check the disk",
    }
}

/// Proposals without an answer, at most.
const PROPOSALS_MAX: usize = 4_096;
/// With these a leader that was killed is missed after 325 to 600 ms, by the first of two after 405 ms in the median.
/// A tick does not measure time but counts rounds of the member's thread, so a thread or disk that is held up for long
/// delays elections rather than causing them.
const TICK: Duration = Duration::from_millis(25);
const ELECTION_TICKS: u32 = 11;
const HEARTBEAT_TICKS: u32 = 2;
/// Longer than two elections, so that a read that is under way outlives the leader.
const READ_TIMEOUT_TICKS: u64 = 120;
