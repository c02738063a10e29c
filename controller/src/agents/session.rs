//! One agent's stream, from hello to end.
//!
//! # Contract
//! - Three loops in one task: what the agent says, what it reported and waits to be stored, what it is sent. The first
//!   that ends ends the stream.
//! - Works on any member: what is to be stored goes to the leader, rows come from this member's own state.
//! - A slow agent holds up only itself: its queue overflows, and it is brought up to date from history or a snapshot.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quantumnet_api::{
    AGENT_FORMAT,
    v1::{
        self, AgentHello, AgentMessage, AgentReport, ControllerHello, ControllerMessage, ReportStored,
        RowChanges, agent_message, controller_message,
    },
};
use quantumnet_model::Uuid;
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status, Streaming};

use crate::{
    agents::{
        Agents, Facts, InputError, Interface, Learned, Neighbour, Report, calls, hub::Attached, input,
        limits::Limiter, queries::Attachment, registry::now_ms,
    },
    metrics::BadInput,
    store::ResumeToken,
};

type Out = mpsc::Sender<Result<ControllerMessage, Status>>;

/// Serves a stream until either side ends it.
pub(crate) async fn run(agents: Agents, mut inbound: Streaming<AgentMessage>, out: Out) {
    if let Err(status) = serve(&agents, &mut inbound, &out).await {
        tracing::info!(code = ?status.code(), reason = status.message(), "agent stream ended");
        // The agent may have gone.
        _ = out.send(Err(status)).await;
    }
}

struct Session<'a> {
    agents: &'a Agents,
    out: &'a Out,
    name: String,
    chassis: Uuid,
    stream: u64,
    /// Revision of the registration.
    registered: u64,
    /// Revisions with changes for the agent that are not acknowledged yet.
    sent: Mutex<VecDeque<(u64, Instant)>>,
    /// Questions go over this stream.
    _asked: Attachment,
}

/// Marks the agent as gone, however its stream ends.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.agents.registry.disconnect(&self.name, self.stream);
    }
}

async fn serve(agents: &Agents, inbound: &mut Streaming<AgentMessage>, out: &Out) -> Result<(), Status> {
    let first = timeout(HELLO_WITHIN, next(agents, inbound)).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello came within 10 seconds"))??;
    let Some(agent_message::Message::Hello(hello)) = first.and_then(|message| message.message) else {
        agents.metrics.refused(BadInput::AgentOrder);
        return Err(Status::invalid_argument("the first message of an agent's stream is its hello"));
    };
    if hello.format != AGENT_FORMAT {
        agents.metrics.refused(BadInput::AgentFormat);
        let (expected, got) = (AGENT_FORMAT, hello.format);
        let text =
            format!("the agent speaks format {got}, this controller {expected}; upgrade the older one");
        return Err(Status::failed_precondition(text));
    }
    let token = hello.resume.as_ref().and_then(parse_token);
    let session = greet(agents, out, hello).await?;
    tracing::info!(chassis = session.name, "agent connected");
    let (reports, reported) = mpsc::channel(REPORTS_MAX);
    let ended = tokio::select! {
        ended = session.listen(inbound, reports) => ended,
        ended = session.store(reported) => ended,
        ended = session.send_rows(token) => ended,
    };
    tracing::info!(chassis = session.name, "agent disconnected");
    ended
}

/// Registers the chassis.
async fn greet<'a>(agents: &'a Agents, out: &'a Out, mut hello: AgentHello) -> Result<Session<'a>, Status> {
    let bad = |error: InputError| invalid(agents, &error);
    let name = input::chassis_name(hello.chassis.clone()).map_err(bad)?;
    Facts::parse(hello.facts.clone().unwrap_or_default()).map_err(bad)?;
    Interface::parse_all(hello.interfaces.clone()).map_err(bad)?;
    let version = hello.version.chars().take(VERSION_MAX).collect();
    let answers = hello.queries;
    // Of no use to the leader.
    hello.resume = None;
    let registered = calls::registered(&agents.leader, hello).await?;
    let chassis = Uuid::from_slice(&registered.chassis).map_err(|_| {
        Status::internal("the leader named no chassis: the members are of different versions")
    })?;
    let stream = agents.registry.connect(&name, chassis, registered.revision, version, registered.problems);
    let registered = registered.revision;
    let asked = agents.queries.attach(&name, stream, answers, out.clone());
    Ok(Session { agents, out, name, chassis, stream, registered, sent: Mutex::default(), _asked: asked })
}

impl Session<'_> {
    /// Takes what the agent says.
    async fn listen(
        &self,
        inbound: &mut Streaming<AgentMessage>,
        reports: mpsc::Sender<AgentReport>,
    ) -> Result<(), Status> {
        let mut limiter = Limiter::default();
        while let Some(message) = next(self.agents, inbound).await? {
            match message.message {
                Some(agent_message::Message::Applied(applied)) => self.applied(applied.revision),
                Some(agent_message::Message::Report(report)) => {
                    let report = self.admit(report, &mut limiter)?;
                    if reports.send(report).await.is_err() {
                        return Ok(());
                    }
                }
                Some(agent_message::Message::Answer(answer)) => {
                    if !self.agents.queries.answered(&self.name, self.stream, answer) {
                        self.agents.metrics.refused(BadInput::AgentSize);
                    }
                }
                Some(agent_message::Message::Hello(_)) | None => {
                    self.agents.metrics.refused(BadInput::AgentOrder);
                    return Err(Status::invalid_argument(
                        "expected a report, an acknowledgement or an answer after the hello",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Checks a report, and takes out what is over the limits.
    fn admit(&self, mut report: AgentReport, limiter: &mut Limiter) -> Result<AgentReport, Status> {
        let parsed = Report::parse(report.clone()).map_err(|error| invalid(self.agents, &error))?;
        let learned = limiter.admit(&self.agents.hub, parsed.learned, Instant::now());
        self.agents.metrics.macs_dropped(report.macs_learned.len() - learned.len());
        report.macs_learned = learned.iter().map(Learned::message).collect();
        let neighbours = limiter.admit_neighbours(&self.agents.hub, parsed.neighbours, Instant::now());
        self.agents.metrics.neighbours_dropped(report.neighbours_learned.len() - neighbours.len());
        report.neighbours_learned = neighbours.iter().map(Neighbour::message).collect();
        Ok(report)
    }

    fn applied(&self, revision: u64) {
        let revision = self.agents.hub.acknowledge(self.chassis, revision);
        let now = Instant::now();
        {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some((_, applied_at)) = sent.pop_front_if(|(at, _)| *at <= revision) {
                self.agents.metrics.in_switch(now.saturating_duration_since(applied_at));
            }
        }
        self.agents.registry.update(&self.name, self.stream, |status| {
            status.applied_revision = status.applied_revision.max(revision);
            status.last_seen_ms = now_ms();
        });
    }

    /// Stores what was reported; what comes while the log is busy goes into one transaction.
    async fn store(&self, mut reported: mpsc::Receiver<AgentReport>) -> Result<(), Status> {
        loop {
            let mut batch = Vec::new();
            if reported.recv_many(&mut batch, REPORTS_MAX).await == 0 {
                // The agent closed its side; `listen` ends the stream.
                return std::future::pending().await;
            }
            let sequences: Vec<u64> = batch.iter().map(|report| report.sequence).collect();
            let stored = calls::stored(&self.agents.leader, self.name.clone(), batch).await?;
            if let Some(problems) = stored {
                self.agents.registry.update(&self.name, self.stream, |status| status.problems = problems);
            }
            for sequence in sequences {
                self.send(controller_message::Message::ReportStored(ReportStored { sequence })).await?;
            }
        }
    }

    /// Sends rows: what brings the agent up to date, then every change as it is committed.
    async fn send_rows(&self, mut token: Option<ResumeToken>) -> Result<(), Status> {
        let mut revision = self.agents.hub.revision();
        let mut first = true;
        loop {
            let attached = self.agents.hub.attach(self.chassis, token.as_ref());
            let attached =
                attached.ok_or_else(|| Status::unavailable("the store has no identity yet; retry"))?;
            if self.agents.hub.is_unregistered(self.chassis, self.registered) {
                self.agents.hub.detach(self.chassis, attached.number);
                let text = format!("a row of chassis {} was deleted; its agent registers again", self.name);
                return Err(Status::aborted(text));
            }
            if first || attached.snapshot {
                self.send(controller_message::Message::Hello(hello(&attached))).await?;
                first = false;
            }
            let Attached { rows, token: mut at, mut queue, number, .. } = attached;
            self.sent_at(at.revision, Instant::now());
            let sent = self.send_changes(rows, at.revision).await;
            let followed = match sent {
                Ok(()) => self.follow(&mut queue, &mut revision, &mut at).await,
                Err(status) => Err(status),
            };
            self.agents.hub.detach(self.chassis, number);
            followed?;
            if !self.agents.registry.is_current(&self.name, self.stream) {
                return Err(Status::aborted("another agent connected with the same chassis name"));
            }
            token = Some(at);
        }
    }

    /// Sends what is queued until the queue ends; `at` says up to where.
    async fn follow(
        &self,
        queue: &mut mpsc::Receiver<crate::agents::Push>,
        revision: &mut tokio::sync::watch::Receiver<u64>,
        at: &mut ResumeToken,
    ) -> Result<(), Status> {
        let mut moved = true;
        let mut told_at = tokio::time::Instant::now();
        loop {
            tokio::select! {
                biased;
                push = queue.recv() => {
                    let Some(push) = push else { return Ok(()) };
                    self.push(push, at).await?;
                }
                changed = revision.changed(), if !moved => {
                    changed.map_err(|_| Status::unavailable("the controller is shutting down"))?;
                    moved = true;
                }
                // Revisions without changes for this agent are told seldom, and several at once.
                () = tokio::time::sleep_until(told_at), if moved => {
                    moved = false;
                    let reached = *revision.borrow_and_update();
                    // Queues are filled before the revision moves: what is up to it is in the queue now, or sent.
                    loop {
                        match queue.try_recv() {
                            Ok(push) => self.push(push, at).await?,
                            Err(mpsc::error::TryRecvError::Empty) => break,
                            Err(mpsc::error::TryRecvError::Disconnected) => return Ok(()),
                        }
                    }
                    if at.revision < reached {
                        at.revision = reached;
                        self.send_changes(Vec::new(), reached).await?;
                    }
                    told_at = tokio::time::Instant::now() + TELL_EVERY;
                }
            }
        }
    }

    async fn push(&self, push: crate::agents::Push, at: &mut ResumeToken) -> Result<(), Status> {
        self.sent_at(push.revision, push.applied_at);
        at.revision = push.revision;
        self.send_changes(push.rows, push.revision).await
    }

    fn sent_at(&self, revision: u64, applied_at: Instant) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push_back((revision, applied_at));
        if sent.len() > UNACKNOWLEDGED_MAX {
            sent.pop_front();
        }
    }

    /// Sends row changes of one revision, in messages of bounded size.
    async fn send_changes(&self, rows: Vec<Bytes>, revision: u64) -> Result<(), Status> {
        let mut part = Vec::new();
        let mut bytes = 0;
        for row in rows {
            if bytes + row.len() > PART_BYTES_MAX && !part.is_empty() {
                self.send_part(std::mem::take(&mut part), bytes, revision, false).await?;
                bytes = 0;
            }
            bytes += row.len();
            part.push(row);
        }
        self.send_part(part, bytes, revision, true).await
    }

    async fn send_part(
        &self,
        rows: Vec<Bytes>,
        bytes: usize,
        revision: u64,
        complete: bool,
    ) -> Result<(), Status> {
        self.agents.metrics.agent_sent(bytes);
        self.send(controller_message::Message::Changes(RowChanges { rows, revision, complete })).await
    }

    async fn send(&self, message: controller_message::Message) -> Result<(), Status> {
        let message = ControllerMessage { message: Some(message) };
        self.out.send(Ok(message)).await.map_err(|_| Status::cancelled("the agent went away"))
    }
}

/// The agent's next message; counts what tonic refuses.
async fn next(
    agents: &Agents,
    inbound: &mut Streaming<AgentMessage>,
) -> Result<Option<AgentMessage>, Status> {
    inbound.message().await.inspect_err(|status| {
        if matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted) {
            agents.metrics.refused(BadInput::AgentSize);
        }
    })
}

fn hello(attached: &Attached) -> ControllerHello {
    ControllerHello {
        format: AGENT_FORMAT,
        cluster_id: attached.token.cluster_id.to_string(),
        history_id: attached.token.history_id.to_string(),
        snapshot: attached.snapshot,
    }
}

/// A token that is no token is none: the agent gets a snapshot.
fn parse_token(token: &v1::ResumeToken) -> Option<ResumeToken> {
    let (cluster_id, history_id) = (token.cluster_id.parse().ok()?, token.history_id.parse().ok()?);
    Some(ResumeToken { cluster_id, history_id, revision: token.revision })
}

fn invalid(agents: &Agents, error: &InputError) -> Status {
    let kind =
        if matches!(error, InputError::TooMany { .. }) { BadInput::AgentSize } else { BadInput::AgentValue };
    agents.metrics.refused(kind);
    Status::invalid_argument(error.to_string())
}

const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Reports that wait to be stored.
const REPORTS_MAX: usize = 64;
/// Octets of row changes in one message, unless a single one has more.
const PART_BYTES_MAX: usize = 512 << 10;
/// Between two messages that only say how far the store is.
const TELL_EVERY: Duration = Duration::from_millis(10);
/// Revisions remembered until they are acknowledged, for the latency histogram.
const UNACKNOWLEDGED_MAX: usize = 4_096;
const VERSION_MAX: usize = 64;
