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
//! - After an error in the rows the resume token is dropped: the next stream begins with a snapshot.

use std::collections::{BTreeMap, BTreeSet};

use quantumnet_api::{
    AGENT_FORMAT,
    v1::{
        AgentApplied, AgentHello, AgentMessage, AgentReport, BfdState, ChassisFacts, ControllerHello,
        ControllerMessage, LearnedMac, LearnedNeighbour, LocalInterface, ResumeToken, RowChanges,
        ServedPorts, VirtualClaim, agent_message, controller_message,
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
}

/// What a session wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send this.
    Send(Box<AgentMessage>),
    /// The rows are these now.
    Rows(RowsUpdate),
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
        }
        self.tell(&mut out);
        out
    }

    fn greet(&mut self, out: &mut Vec<Output>) {
        self.close();
        self.phase = Phase::Greeting;
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
mod tests {
    use super::*;
    use quantumnet_api::v1::ReportStored;
    use quantumnet_model::{change::ChangeKind, row::Row, sb::Chassis};
    use uuid::Uuid;

    fn received(message: controller_message::Message) -> Input {
        Input::Received(Box::new(ControllerMessage { message: Some(message) }))
    }

    fn hello(snapshot: bool) -> Input {
        received(controller_message::Message::Hello(ControllerHello {
            format: AGENT_FORMAT,
            cluster_id: "c".into(),
            history_id: "h".into(),
            snapshot,
        }))
    }

    fn rows(revision: u64, complete: bool) -> Input {
        let change = RowChange {
            table: Chassis::TABLE,
            uuid: Uuid::from_u128(revision.into()),
            kind: ChangeKind::Insert(vec![]),
        };
        received(controller_message::Message::Changes(RowChanges {
            rows: vec![change.encode().into()],
            revision,
            complete,
        }))
    }

    fn interfaces(ids: &[&str]) -> Input {
        let interface = |id: &&str| {
            (
                (*id).to_owned(),
                LocalInterface { iface_id: (*id).to_owned(), generation: 1, ..Default::default() },
            )
        };
        Input::Interfaces(ids.iter().map(interface).collect())
    }

    fn sent(out: &[Output]) -> Vec<&agent_message::Message> {
        let message = |output: &'_ Output| matches!(output, Output::Send(_));
        out.iter()
            .filter(|output| message(output))
            .filter_map(|output| if let Output::Send(m) = output { m.message.as_ref() } else { None })
            .collect()
    }

    fn reports(out: &[Output]) -> Vec<&AgentReport> {
        sent(out)
            .into_iter()
            .filter_map(|message| {
                if let agent_message::Message::Report(report) = message { Some(report) } else { None }
            })
            .collect()
    }

    #[test]
    fn what_is_served_and_the_states_of_sessions_are_told_once_a_stream() {
        let mut session = Session::new("hv1", None, 0);
        session.handle(Input::Serves(["cr-a".to_owned()].into()));
        session.handle(Input::Bfd([("s".to_owned(), "up".to_owned())].into()));
        let neighbour =
            LearnedNeighbour { datapath_key: 1, port_key: 2, ip: "192.0.2.1".into(), mac: "02::".into() };
        session.handle(Input::Neighbours(vec![neighbour.clone()]));
        for _ in 0..2 {
            session.handle(Input::Connected);
            let out = session.handle(hello(true));
            let [report] = reports(&out)[..] else { panic!("{out:?}") };
            assert_eq!(report.serves.as_ref().unwrap().ports, ["cr-a"]);
            assert_eq!((report.bfd.len(), report.bfd[0].status.as_str()), (1, "up"));
            // Not stored, so it is repeated.
            assert_eq!(report.neighbours_learned, std::slice::from_ref(&neighbour));
        }
        let stored = ReportStored { sequence: session.sequence };
        let out = session.handle(received(controller_message::Message::ReportStored(stored)));
        assert!(reports(&out).is_empty(), "{out:?}");
        let out = session.handle(Input::Serves(BTreeSet::new()));
        let [report] = reports(&out)[..] else { panic!("{out:?}") };
        assert_eq!(report.serves, Some(ServedPorts { ports: Vec::new() }), "nothing any more");
        assert!(report.bfd.is_empty() && report.neighbours_learned.is_empty());
    }

    #[test]
    fn rows_are_handed_on_when_complete() {
        let mut session = Session::new("hv1", None, 0);
        session.handle(Input::Connected);
        session.handle(hello(true));
        assert!(session.handle(rows(1, false)).is_empty());
        let out = session.handle(rows(2, true));
        let [Output::Rows(update)] = out.as_slice() else { panic!("{out:?}") };
        assert!(update.snapshot && update.changes.len() == 2 && update.resume.revision == 2);
        let out = session.handle(rows(3, true));
        assert!(matches!(out.as_slice(), [Output::Rows(update)] if !update.snapshot));
        let out = session.handle(Input::Applied(3));
        assert!(matches!(sent(&out)[..], [agent_message::Message::Applied(AgentApplied { revision: 3 })]));
        assert!(session.handle(Input::Applied(3)).is_empty());
    }

    #[test]
    fn a_snapshot_amid_the_stream_starts_over() {
        let mut session = Session::new("hv1", None, 0);
        session.handle(Input::Connected);
        session.handle(hello(true));
        session.handle(rows(900, true));
        session.handle(Input::Applied(900));
        session.handle(rows(901, false));
        assert!(session.handle(hello(true)).is_empty(), "the stream goes on");
        assert!(session.handle(Input::Applied(901)).is_empty(), "of the history before");
        let out = session.handle(rows(5, true));
        assert!(
            matches!(out.as_slice(), [Output::Rows(update)] if update.snapshot && update.changes.len() == 1)
        );
        let out = session.handle(Input::Applied(5));
        assert!(matches!(sent(&out)[..], [agent_message::Message::Applied(AgentApplied { revision: 5 })]));
        let out = session.handle(hello(false));
        assert!(matches!(out.as_slice(), [Output::Close(StreamError::Order { .. })]), "no reason to greet");
    }

    #[test]
    fn a_report_is_repeated_until_stored() {
        let mut session = Session::new("hv1", None, 10);
        session.handle(interfaces(&["a"]));
        let out = session.handle(Input::Connected);
        assert!(
            matches!(sent(&out)[..], [agent_message::Message::Hello(hello)] if hello.interfaces.len() == 1)
        );
        session.handle(hello(true));
        let mac = LearnedMac { mac: "0a:00:00:00:00:01".into(), datapath_key: 1, port_key: 1 };
        let out = session.handle(Input::Learned(vec![mac]));
        assert!(matches!(sent(&out)[..], [agent_message::Message::Report(report)] if report.sequence == 11));
        assert!(session.handle(interfaces(&["b"])).is_empty(), "one at a time");
        session.handle(Input::Disconnected);
        let out = session.handle(Input::Connected);
        assert!(
            matches!(sent(&out)[..], [agent_message::Message::Hello(hello)] if hello.interfaces[0].iface_id == "b")
        );
        let out = session.handle(hello(false));
        assert!(matches!(sent(&out)[..], [agent_message::Message::Report(report)]
            if report.macs_learned.len() == 1 && report.interfaces_added.is_empty()));
        let stored = received(controller_message::Message::ReportStored(ReportStored { sequence: 12 }));
        session.handle(stored);
        let out = session.handle(interfaces(&[]));
        assert!(matches!(sent(&out)[..], [agent_message::Message::Report(report)]
            if report.interfaces_removed == ["b"]));
    }

    #[test]
    fn malformed_rows_drop_the_token() {
        let resume = Resume { cluster_id: "c".into(), history_id: "h".into(), revision: 5 };
        let mut session = Session::new("hv1", Some(resume), 0);
        let out = session.handle(Input::Connected);
        assert!(matches!(sent(&out)[..], [agent_message::Message::Hello(hello)] if hello.resume.is_some()));
        session.handle(hello(false));
        let bad = RowChanges { rows: vec![vec![1, 2, 3].into()], revision: 6, complete: true };
        let out = session.handle(received(controller_message::Message::Changes(bad)));
        assert!(matches!(out.as_slice(), [Output::Close(StreamError::Rows { revision: 6, .. })]));
        let out = session.handle(Input::Connected);
        assert!(matches!(sent(&out)[..], [agent_message::Message::Hello(hello)] if hello.resume.is_none()));
    }
}
