//! Opening a data directory and starting the member's thread.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Instant,
};

use quantumnet_consensus::{
    ClusterId, Config, DiskLog, DiskOptions, Driver, LogError, MemberId,
    log::vfs::{StdVfs, Vfs},
};
use quantumnet_model::Uuid;
use tokio::sync::{Semaphore, watch};

use crate::{
    metrics::Metrics,
    replica::{Replica, StartError, Status, handle::Shared, job::LowerFn, member::Member},
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

/// What a member is made with.
pub struct Options {
    /// Where the log and the snapshots are.
    pub data_dir: PathBuf,
    /// This member's number.
    pub member: u64,
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
    thread::Builder::new().name("replica".into()).spawn(move || member.run()).map_err(StartError::Thread)?;
    Ok(replica)
}

/// A member that does not run yet.
pub(super) fn open<V>(vfs: V, options: Options) -> Result<(Replica, Member<V>), StartError>
where
    V: Vfs + Clone + Send + 'static,
    V::File: Send,
    V::Lock: Send,
{
    let cluster_id = identity(&options.data_dir)?;
    let cluster = ClusterId(cluster_id.as_u128());
    let me = MemberId(options.member);
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
        ..Config::new(cluster, me, vec![me])
    };
    let entry_bytes_max = config.entry_bytes_max;
    let driver = Driver::new(config, log, recovered)?;
    let state = Arc::new(state);
    let status = Status { member: options.member, voters: vec![options.member], ..Status::default() };
    let shared = Arc::new(Shared {
        places: Arc::new(Semaphore::new(PROPOSALS_MAX)),
        applied: watch::Sender::new(state.clone()),
        history: Mutex::new(History::new(options.history_transactions_max)),
        status: watch::Sender::new(status),
        consensus: Mutex::new(driver.metrics()),
        metrics: options.metrics.clone(),
    });
    let (queue, inputs) = mpsc::channel();
    let replica = Replica { queue: queue.clone(), shared: shared.clone() };
    let member = Member {
        driver,
        inputs,
        queue,
        shared,
        lower: options.lower,
        observers: options.observers,
        cluster_id,
        entry_bytes_max,
        started: Instant::now(),
        head: state.as_ref().clone(),
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
    };
    Ok((replica, member))
}

/// The cluster's identity, chosen at the first start and kept beside the log.
fn identity(data_dir: &Path) -> Result<Uuid, StartError> {
    let path = data_dir.join(IDENTITY_FILE);
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Directory { doing, path, source }
    };
    fs::create_dir_all(data_dir).map_err(failed("create", data_dir))?;
    match fs::read(&path) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            text.trim().parse().map_err(|_| StartError::Identity {
                path: path.clone(),
                got: text.chars().take(64).collect(),
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = Uuid::new_v4();
            let unfinished = data_dir.join("cluster.tmp");
            let mut file = fs::File::create(&unfinished).map_err(failed("create", &unfinished))?;
            writeln!(file, "{id}").and_then(|()| file.sync_all()).map_err(failed("write", &unfinished))?;
            fs::rename(&unfinished, &path).map_err(failed("write", &path))?;
            let synced = fs::File::open(data_dir).and_then(|dir| dir.sync_all());
            synced.map_err(failed("write", data_dir))?;
            Ok(id)
        }
        Err(error) => Err(failed("read", &path)(error)),
    }
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
const IDENTITY_FILE: &str = "cluster";
