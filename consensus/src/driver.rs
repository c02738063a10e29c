//! A node and its log together: every `Persist` effect is carried out here, so a program sees only outputs.
//!
//! # Contract
//! * [`Driver::handle_all`] takes everything the program's queue holds: all of it shares one batch and one sync.
//! * With peers, [`Driver::take`] and [`Driver::flush`] are its two halves: what `take` gives to be sent leaves before
//!   this member's own disk is waited for, so that all disks write at once.
//! * It blocks for the disk. Call it from a thread of its own, or from `spawn_blocking`; it never sleeps.
//! * Outputs are in order, and each may rely on the ones before.
//! * A full disk stops writing, not the member: outputs that need the disk wait, and every later call tries again.
//!
//! ```
//! use std::time::Duration;
//! use quantumnet_consensus::{
//!     Answer, ClusterId, Config, DiskLog, DiskOptions, Driver, Event, MemberId, Output, RequestId,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let (cluster, me) = (ClusterId(1), MemberId(1));
//! let (log, recovered) = DiskLog::open(dir, cluster, me, DiskOptions::default())?;
//! // If recovered.snapshot is present, install it into the state machine before the first output.
//! let mut driver = Driver::new(Config::new(cluster, me, vec![me]), log, recovered)?;
//!
//! let (mut inputs, mut state, mut acknowledged) = (vec![Event::Tick], Vec::new(), false);
//! for tick in 1..100 {
//!     // In a real loop: wait for the first input, then take everything else that is queued.
//!     for output in driver.handle_all(Duration::from_millis(100 * tick), inputs.drain(..))? {
//!         match output {
//!             Output::Send { to, bytes } => drop((to, bytes)), // hand to the stream to that member
//!             Output::Apply { entries } => state.extend(entries.into_iter().map(|entry| entry.data)),
//!             Output::InstallSnapshot(snapshot) => state = vec![snapshot.data],
//!             Output::Answer { request, answer } => {
//!                 acknowledged |= request == RequestId(1) && matches!(answer, Answer::Committed { .. });
//!             }
//!             Output::LeaderChanged(now) if now.may_propose => inputs.push(Event::Propose {
//!                 request: RequestId(1),
//!                 term: now.term,
//!                 data: b"hello".as_slice().into(),
//!             }),
//!             Output::LeaderChanged(_) => {} // fail what waits for this member to lead
//!             Output::TakeSnapshot => {} // clone the state; on another thread: encode, write with
//!                                        // `snapshot_writer()`, then queue Event::SnapshotTaken
//!             Output::Stalled { error } => eprintln!("writes wait: {error}"),
//!         }
//!     }
//!     inputs.push(Event::Tick); // every 100 ms
//! }
//! assert!(acknowledged);
//! assert_eq!(state.last().map(|data| &data[..]), Some(&b"hello"[..]));
//! # Ok(())
//! # }
//! ```

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use crate::{
    config::Config,
    error::{ConfigError, FatalError, LogError},
    event::{
        Answer, Batch, BatchId, Committed, Effect, Event, Leadership, MemberId, Recovered, RequestId,
        Snapshot,
    },
    log::{
        LogStore,
        disk::{DiskLog, SnapshotWriter},
        vfs::Vfs,
    },
    metrics::Metrics,
    node::Node,
};

/// What is left for the program to do. The meanings are those of [`Effect`].
#[derive(Debug)]
pub enum Output {
    /// Hand to the transport; may be lost.
    Send {
        /// Receiver.
        to: MemberId,
        /// Opaque.
        bytes: Bytes,
    },
    /// Apply in order; an entry with empty data is a new leader's and changes nothing.
    Apply {
        /// Committed entries.
        entries: Vec<Committed>,
    },
    /// Replace the state machine.
    InstallSnapshot(Snapshot),
    /// A request is done.
    Answer {
        /// Whose.
        request: RequestId,
        /// How it ended.
        answer: Answer,
    },
    /// The leader, the term, or the right to propose changed.
    LeaderChanged(Leadership),
    /// Take a snapshot when convenient.
    TakeSnapshot,
    /// The disk is full: writes wait and are tried again at every call.
    Stalled {
        /// What the log said.
        error: LogError,
    },
}

/// A node with its log.
#[derive(Debug)]
pub struct Driver<L> {
    node: Node,
    log: L,
    /// Handed out by the node, not yet on disk.
    unwritten: VecDeque<Batch>,
    /// Appended to the log, not yet synced.
    unsynced: Option<BatchId>,
    stalled: bool,
}

impl<L: LogStore> Driver<L> {
    /// Continues from what the log recovered.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn new(config: Config, log: L, recovered: Recovered) -> Result<Self, ConfigError> {
        let node = Node::new(config, recovered)?;
        Ok(Self { node, log, unwritten: VecDeque::new(), unsynced: None, stalled: false })
    }

    /// Takes one event; see [`Self::handle_all`].
    ///
    /// # Errors
    /// The member can't go on: stop the process; a restart recovers from disk.
    pub fn handle(&mut self, now: Duration, event: Event) -> Result<Vec<Output>, FatalError> {
        self.handle_all(now, [event])
    }

    /// Takes every event that is waiting, writes what must be written with as few syncs as possible, and returns what is left to do.
    ///
    /// # Errors
    /// The member can't go on: stop the process; a restart recovers from disk.
    pub fn handle_all(
        &mut self,
        now: Duration,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Vec<Output>, FatalError> {
        let mut outputs = self.take(now, events)?;
        outputs.extend(self.flush(now)?);
        Ok(outputs)
    }

    /// Takes every event that is waiting and returns what need not wait for the disk. To be followed by [`Self::flush`].
    ///
    /// # Errors
    /// The member can't go on: stop the process; a restart recovers from disk.
    pub fn take(
        &mut self,
        now: Duration,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Vec<Output>, FatalError> {
        let mut outputs = Vec::new();
        let effects = self.node.step_many(now, events)?;
        self.sort(effects, &mut outputs)?;
        Ok(outputs)
    }

    /// Writes what must be written with as few syncs as possible, and returns what waited for that.
    ///
    /// # Errors
    /// The member can't go on: stop the process; a restart recovers from disk.
    pub fn flush(&mut self, now: Duration) -> Result<Vec<Output>, FatalError> {
        let mut outputs = Vec::new();
        // Ends: what follows a batch being on disk is replies, and at most one more batch with the next hard state.
        while !self.unwritten.is_empty() || self.unsynced.is_some() {
            match self.write() {
                Ok(batch) => {
                    self.stalled = false;
                    let effects = self.node.step(now, Event::Persisted { batch })?;
                    self.sort(effects, &mut outputs)?;
                }
                Err(error) if error.is_retryable() => {
                    if !self.stalled {
                        outputs.push(Output::Stalled { error });
                    }
                    self.stalled = true;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(outputs)
    }

    /// Writes a snapshot on this thread and tells the node; larger states use [`Driver::snapshot_writer`] instead.
    ///
    /// # Errors
    /// The snapshot could not be written; nothing else changed.
    pub fn save_snapshot(&mut self, now: Duration, snapshot: Snapshot) -> Result<Vec<Output>, FatalError> {
        self.log.save_snapshot(&snapshot)?;
        self.handle(now, Event::SnapshotTaken(snapshot))
    }

    /// Who leads, and whether this member may propose.
    #[must_use]
    pub const fn leadership(&self) -> Leadership {
        self.node.leadership()
    }

    /// See [`Node::heartbeats`].
    #[must_use]
    pub fn heartbeats(&self) -> Vec<(MemberId, Bytes)> {
        self.node.heartbeats()
    }

    /// Whether a proposal would be accepted now.
    #[must_use]
    pub const fn may_propose(&self) -> bool {
        self.node.may_propose()
    }

    /// Whether writes wait for space on the disk.
    #[must_use]
    pub const fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Counters and gauges.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.node.metrics()
    }

    /// The node, to look at.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    fn sort(&mut self, effects: Vec<Effect>, outputs: &mut Vec<Output>) -> Result<(), FatalError> {
        for effect in effects {
            outputs.push(match effect {
                Effect::Persist(batch) => {
                    self.unwritten.push_back(batch);
                    continue;
                }
                Effect::Compact { through } => {
                    if let Err(error) = self.log.compact(through) {
                        // Old files stay; the next compaction removes them. A disk that can't unlink shows on write.
                        tracing::warn!(error = &error as &dyn std::error::Error, "log not compacted");
                    }
                    continue;
                }
                Effect::Send { to, bytes } => Output::Send { to, bytes },
                Effect::Apply { entries } => Output::Apply { entries },
                Effect::InstallSnapshot(snapshot) => Output::InstallSnapshot(snapshot),
                Effect::Answer { request, answer } => Output::Answer { request, answer },
                Effect::LeaderChanged(leadership) => Output::LeaderChanged(leadership),
                Effect::TakeSnapshot => Output::TakeSnapshot,
            });
        }
        Ok(())
    }

    /// Appends everything handed out and syncs once.
    fn write(&mut self) -> Result<BatchId, LogError> {
        while let Some(batch) = self.unwritten.front() {
            self.log.append(batch)?;
            self.unsynced = Some(batch.id);
            self.unwritten.pop_front();
        }
        self.log.sync()?;
        Ok(self.unsynced.take().expect("called only when something was appended"))
    }
}

impl<V: Vfs + Clone> Driver<DiskLog<V>> {
    /// Writes snapshots from another thread while this one goes on.
    pub fn snapshot_writer(&self) -> SnapshotWriter<V> {
        self.log.snapshot_writer()
    }
}
