//! The agent's end of `AgentService.Sync`, without sockets or clock.
//!
//! # Contract
//! - In: what came from the stream, and what changed on the host. Out: messages for the stream and complete revisions.
//!
//! # Invariants
//! - Rows are handed on only once they are complete; until then, and after any error, the earlier ones stay effective.
//! - A report is repeated on each new stream until it is stored; at most one is under way.
//! - Revisions are reported as applied only when told so by [`Input::Applied`], the highest first, never backwards
//!   within a history.
//! - A question is answered over the stream that it came by, or not at all.
//! - After an error in the rows the resume token is dropped: the next stream begins with a snapshot.

use std::collections::{BTreeMap, BTreeSet};

use quantumnet_api::{
    AGENT_FORMAT,
    v1::{
        AgentApplied, AgentHello, AgentMessage, AgentQuery, AgentQueryAnswer, AgentReport, BfdState,
        ChassisFacts, ControllerHello, ControllerMessage, LearnedMac, LearnedNeighbour, LocalInterface,
        ResumeToken, RowChanges, ServedPorts, VirtualClaim, agent_message, controller_message,
    },
};
use quantumnet_model::change::{ChangeError, RowChange};
use thiserror::Error;

use crate::disk::Resume;

/// What happens to a session.
#[derive(Clone, Debug)]
pub enum Input {
    /// There is a new stream.
    Connected,
    /// A message came.
    Received(Box<ControllerMessage>),
    /// The stream is gone.
    Disconnected,
    /// The chassis is like this now.
    Facts(ChassisFacts),
    /// These are the interfaces now.
    Interfaces(BTreeMap<String, LocalInterface>),
    /// MACs were seen.
    Learned(Vec<LearnedMac>),
    /// A parent has a virtual port's address.
    Claimed(VirtualClaim),
    /// A port that waited has shown itself.
    Activated(String),
    /// These are the gateways and external ports, by name, that this hypervisor serves now.
    Serves(BTreeSet<String>),
    /// Router ports learned MACs of neighbours, or found them in use.
    Neighbours(Vec<LearnedNeighbour>),
    /// These are the states of the BFD sessions that run here now, by the uuid of their row.
    Bfd(BTreeMap<String, String>),
    /// This revision is in the switch, past the barrier.
    Applied(u64),
    /// The answer to a question that came over the stream of that number.
    Answered(u64, Box<AgentQueryAnswer>),
}

/// What a session wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send this.
    Send(Box<AgentMessage>),
    /// The rows are these now.
    Rows(RowsUpdate),
    /// A question came over the stream of that number.
    Asked(u64, AgentQuery),
    /// Close the stream and open another one.
    Close(StreamError),
}

/// A complete revision, or several at once.
#[derive(Clone, Debug)]
pub struct RowsUpdate {
    /// The rows held before are void; the changes are all insertions.
    pub snapshot: bool,
    /// In order.
    pub changes: Vec<RowChange>,
    /// The point in history that the rows are of now.
    pub resume: Resume,
}

/// Why a stream is given up.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum StreamError {
    /// A program of another version.
    #[error("the controller speaks format {got} of the agents' protocol, this agent {AGENT_FORMAT}")]
    Format {
        /// Its version.
        got: u32,
    },
    /// The first message must be a hello, and only that.
    #[error("{what} is out of order")]
    Order {
        /// What came.
        what: &'static str,
    },
    /// A change that can't be read or does not fit.
    #[error("revision {revision}: {source}")]
    Rows {
        /// The revision.
        revision: u64,
        /// Why.
        #[source]
        source: ChangeError,
    },
    /// A revision is too large to hold.
    #[error("revision {revision} has more than {limit} row changes")]
    TooLarge {
        /// The revision.
        revision: u64,
        /// The most that are held.
        limit: usize,
    },
}

/// The agent's end of the stream.
#[derive(Debug)]
pub struct Session {
    chassis: String,
    phase: Phase,
    /// Number of the stream.
    stream: u64,
    facts: ChassisFacts,
    interfaces: BTreeMap<String, LocalInterface>,
    /// What the stream was last told.
    told_facts: ChassisFacts,
    told_interfaces: BTreeMap<String, LocalInterface>,
    learned: Vec<LearnedMac>,
    claims: Vec<VirtualClaim>,
    activated: BTreeSet<String>,
    /// Gateways and external ports that this hypervisor serves, by name; `None` while nobody has said.
    serves: Option<BTreeSet<String>>,
    told_serves: Option<BTreeSet<String>>,
    neighbours: Vec<LearnedNeighbour>,
    /// States of sessions by the uuid of their row.
    bfd: BTreeMap<String, String>,
    told_bfd: BTreeMap<String, String>,
    /// The report that is not stored yet.
    under_way: Option<AgentReport>,
    sequence: u64,
    resume: Option<Resume>,
    /// Changes of a revision that is not complete.
    buffered: Vec<RowChange>,
    history: (String, String),
    snapshot: bool,
    applied: Option<u64>,
    told_applied: Option<u64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Closed,
    /// Our hello is out, theirs is awaited.
    Greeting,
    Open,
}

impl Session {
    /// A session without a stream. `sequence` begins above that of any earlier process: reports are numbered by it.
    pub fn new(chassis: &str, resume: Option<Resume>, sequence: u64) -> Self {
        Self {
            chassis: chassis.to_owned(),
            phase: Phase::Closed,
            stream: 0,
            facts: ChassisFacts::default(),
            interfaces: BTreeMap::new(),
            told_facts: ChassisFacts::default(),
            told_interfaces: BTreeMap::new(),
            learned: Vec::new(),
            claims: Vec::new(),
            activated: BTreeSet::new(),
            serves: None,
            told_serves: None,
            neighbours: Vec::new(),
            bfd: BTreeMap::new(),
            told_bfd: BTreeMap::new(),
            under_way: None,
            sequence,
            resume,
            buffered: Vec::new(),
            history: (String::new(), String::new()),
            snapshot: false,
            applied: None,
            told_applied: None,
        }
    }

    /// Whether a controller answers.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// The chassis this session is of.
    pub fn chassis(&self) -> &str {
        &self.chassis
    }

    /// What the rows that were handed on are of.
    pub fn resume(&self) -> Option<&Resume> {
        self.resume.as_ref()
    }

    /// The rows did not fit: forget what they are of, so that the next stream begins with all of them.
    pub fn refuse_rows(&mut self, error: StreamError) -> Vec<Output> {
        let mut out = Vec::new();
        self.give_up(error, &mut out);
        out
    }

    /// Takes what happened, tells what to do.
    pub fn handle(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Connected => self.greet(&mut out),
            Input::Received(message) => {
                if self.phase != Phase::Closed
                    && let Err(error) = self.receive(*message, &mut out)
                {
                    self.give_up(error, &mut out);
                }
            }
            Input::Disconnected => self.close(),
            Input::Facts(facts) => self.facts = facts,
            Input::Interfaces(interfaces) => self.interfaces = interfaces,
            Input::Learned(macs) => {
                let room = LEARNED_MAX.saturating_sub(self.learned.len());
                self.learned.extend(macs.into_iter().take(room));
            }
            Input::Claimed(claim) => {
                // The last one to say so has it.
                self.claims.retain(|other| {
                    (other.datapath_key, other.port_key) != (claim.datapath_key, claim.port_key)
                });
                if self.claims.len() < CLAIMS_MAX {
                    self.claims.push(claim);
                }
            }
            Input::Activated(port) => drop(self.activated.insert(port)),
            Input::Serves(ports) => self.serves = Some(ports),
            Input::Neighbours(neighbours) => {
                let room = LEARNED_MAX.saturating_sub(self.neighbours.len());
                self.neighbours.extend(neighbours.into_iter().take(room));
            }
            Input::Bfd(states) => self.bfd = states,
            // While a snapshot is under way, what is in the switch is of an earlier history.
            Input::Applied(_) if self.snapshot => {}
            Input::Applied(revision) => self.applied = self.applied.max(Some(revision)),
            // Whoever asked over another stream has been told that it is gone.
            Input::Answered(stream, answer) => {
                if self.phase == Phase::Open && self.stream == stream {
                    out.push(send(agent_message::Message::Answer(*answer)));
                }
            }
        }
        self.tell(&mut out);
        out
    }

    fn greet(&mut self, out: &mut Vec<Output>) {
        self.close();
        self.phase = Phase::Greeting;
        self.stream += 1;
        let hello = AgentHello {
            format: AGENT_FORMAT,
            chassis: self.chassis.clone(),
            resume: self.resume.as_ref().map(|resume| ResumeToken {
                cluster_id: resume.cluster_id.clone(),
                history_id: resume.history_id.clone(),
                revision: resume.revision,
            }),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            facts: Some(self.facts.clone()),
            interfaces: self.interfaces.values().cloned().collect(),
            queries: true,
        };
        self.told_facts = self.facts.clone();
        self.told_interfaces = self.interfaces.clone();
        self.told_applied = None;
        // Facts and interfaces are in the hello; what was seen, and what is served, is not.
        self.told_serves = None;
        self.told_bfd.clear();
        if let Some(report) = self.under_way.take() {
            self.learned.splice(0..0, report.macs_learned);
            self.claims.splice(0..0, report.virtual_claims);
            self.activated.extend(report.activated);
            self.neighbours.splice(0..0, report.neighbours_learned);
        }
        out.push(send(agent_message::Message::Hello(hello)));
    }

    fn receive(&mut self, message: ControllerMessage, out: &mut Vec<Output>) -> Result<(), StreamError> {
        use controller_message::Message;
        match (self.phase, message.message) {
            (Phase::Greeting, Some(Message::Hello(hello))) => self.greeted(hello),
            // The controller could not keep up with this agent's queue and starts over.
            (Phase::Open, Some(Message::Hello(hello))) if hello.snapshot => {
                self.buffered.clear();
                self.greeted(hello)
            }
            (Phase::Open, Some(Message::Changes(changes))) => self.changes(changes, out),
            (Phase::Open, Some(Message::ReportStored(stored))) => {
                if self.under_way.as_ref().is_some_and(|report| report.sequence <= stored.sequence) {
                    self.under_way = None;
                }
                Ok(())
            }
            (Phase::Open, Some(Message::Query(query))) => {
                out.push(Output::Asked(self.stream, query));
                Ok(())
            }
            // A newer controller may say more than this agent understands.
            (_, None) => Ok(()),
            (_, Some(Message::Hello(_))) => Err(StreamError::Order { what: "a second hello" }),
            (_, Some(_)) => Err(StreamError::Order { what: "a message before the hello" }),
        }
    }

    fn greeted(&mut self, hello: ControllerHello) -> Result<(), StreamError> {
        if hello.format != AGENT_FORMAT {
            return Err(StreamError::Format { got: hello.format });
        }
        self.phase = Phase::Open;
        self.snapshot = hello.snapshot || self.resume.is_none();
        self.history = (hello.cluster_id, hello.history_id);
        if self.snapshot {
            // Until it is complete, no revision of this history is in the switch.
            (self.applied, self.told_applied) = (None, None);
        }
        Ok(())
    }

    fn changes(&mut self, changes: RowChanges, out: &mut Vec<Output>) -> Result<(), StreamError> {
        let revision = changes.revision;
        if self.buffered.len() + changes.rows.len() > BUFFERED_MAX {
            return Err(StreamError::TooLarge { revision, limit: BUFFERED_MAX });
        }
        for bytes in &changes.rows {
            let change = RowChange::decode(bytes).map_err(|source| StreamError::Rows { revision, source })?;
            self.buffered.push(change);
        }
        if !changes.complete {
            return Ok(());
        }
        let (cluster_id, history_id) = self.history.clone();
        let resume = Resume { cluster_id, history_id, revision };
        self.resume = Some(resume.clone());
        let snapshot = std::mem::take(&mut self.snapshot);
        out.push(Output::Rows(RowsUpdate { snapshot, changes: std::mem::take(&mut self.buffered), resume }));
        Ok(())
    }

    /// Says what there is to say.
    fn tell(&mut self, out: &mut Vec<Output>) {
        if self.phase != Phase::Open {
            return;
        }
        if self.under_way.is_none()
            && let Some(report) = self.report()
        {
            self.under_way = Some(report.clone());
            out.push(send(agent_message::Message::Report(report)));
        }
        if let Some(revision) = self.applied.filter(|revision| self.told_applied < Some(*revision)) {
            self.told_applied = Some(revision);
            out.push(send(agent_message::Message::Applied(AgentApplied { revision })));
        }
    }

    fn report(&mut self) -> Option<AgentReport> {
        let facts = (self.facts != self.told_facts).then(|| self.facts.clone());
        let changed = |(id, interface): (&String, &LocalInterface)| {
            (self.told_interfaces.get(id) != Some(interface)).then(|| interface.clone())
        };
        let interfaces_added: Vec<_> = self.interfaces.iter().filter_map(changed).collect();
        let before: BTreeSet<&String> = self.told_interfaces.keys().collect();
        let gone = before.into_iter().filter(|id| !self.interfaces.contains_key(*id));
        let interfaces_removed: Vec<String> = gone.cloned().collect();
        let macs_learned = std::mem::take(&mut self.learned);
        let virtual_claims = std::mem::take(&mut self.claims);
        let activated: Vec<String> = std::mem::take(&mut self.activated).into_iter().collect();
        let serves = self.serves.clone().filter(|_| self.serves != self.told_serves);
        let serves = serves.map(|ports| ServedPorts { ports: ports.into_iter().collect() });
        let neighbours_learned = std::mem::take(&mut self.neighbours);
        let changed = |(session, status): (&String, &String)| {
            let state = BfdState { session: session.clone(), status: status.clone() };
            (self.told_bfd.get(session) != Some(status)).then_some(state)
        };
        let bfd: Vec<BfdState> = self.bfd.iter().filter_map(changed).collect();
        if facts.is_none()
            && interfaces_added.is_empty()
            && interfaces_removed.is_empty()
            && macs_learned.is_empty()
            && virtual_claims.is_empty()
            && activated.is_empty()
            && serves.is_none()
            && neighbours_learned.is_empty()
            && bfd.is_empty()
        {
            return None;
        }
        self.told_facts = self.facts.clone();
        self.told_interfaces = self.interfaces.clone();
        self.told_serves = self.serves.clone();
        self.told_bfd = self.bfd.clone();
        self.sequence += 1;
        Some(AgentReport {
            sequence: self.sequence,
            facts,
            interfaces_added,
            interfaces_removed,
            macs_learned,
            virtual_claims,
            activated,
            serves,
            neighbours_learned,
            bfd,
        })
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        self.buffered.clear();
        self.snapshot = false;
    }

    fn give_up(&mut self, error: StreamError, out: &mut Vec<Output>) {
        if matches!(error, StreamError::Rows { .. } | StreamError::TooLarge { .. }) {
            self.resume = None;
        }
        self.close();
        out.push(Output::Close(error));
    }
}

fn send(message: agent_message::Message) -> Output {
    Output::Send(Box::new(AgentMessage { message: Some(message) }))
}

/// A revision with more changes is no honest one: the plan is for 100,000 ports in all.
const BUFFERED_MAX: usize = 8_000_000;
/// Learned MACs kept while no controller answers.
/// More virtual ports than that do not change hands between two reports.
const CLAIMS_MAX: usize = 1_024;
const LEARNED_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
