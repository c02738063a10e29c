//! Questions to agents: what only a hypervisor's switch knows.
//!
//! # Contract
//! - [`Queries::ask`] asks the agent of a chassis, on whichever member its stream is, and returns its answer or why there is
//!   none. Adding a question is a message in `query.proto` and an [`Asked`] for it.
//! - Refuses to know what is asked, and asks nothing twice.
//!
//! # Invariants
//! - A question ends with its answer, its deadline, the stream that it went over or its asker, whichever is first, and leaves
//!   nothing behind.
//! - Questions to one agent that are under way are bounded, and so are questions and answers themselves: an agent that never
//!   answers, or answers what nobody asked, costs nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use quantumnet_api::{
    peer::v1::{AgentAsk, AgentAskFailed, AgentAskFailure, AgentAsked, agent_asked},
    v1::{
        AgentQuery, AgentQueryAnswer, AgentQueryError, AgentQueryErrorKind, ControllerMessage,
        DropCountsAnswer, DropCountsQuery, RuleCountsAnswer, RuleCountsQuery, TraceAnswer, TraceQuery,
        agent_query::Query, agent_query_answer::Answer, controller_message,
    },
};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tonic::Status;

use crate::{
    agents::AgentRegistry,
    peer::{self, Handler, Kind, Leader},
};

/// What can be asked of an agent.
pub trait Asked: Sized {
    /// What it answers.
    type Answer;

    /// As the stream carries it.
    fn query(self) -> Query;

    /// The answer, if it is one to this kind of question.
    fn answer(answer: Answer) -> Option<Self::Answer>;
}

impl Asked for TraceQuery {
    type Answer = TraceAnswer;

    fn query(self) -> Query {
        Query::Trace(self)
    }

    fn answer(answer: Answer) -> Option<TraceAnswer> {
        if let Answer::Trace(answer) = answer { Some(answer) } else { None }
    }
}

impl Asked for RuleCountsQuery {
    type Answer = RuleCountsAnswer;

    fn query(self) -> Query {
        Query::RuleCounts(self)
    }

    fn answer(answer: Answer) -> Option<RuleCountsAnswer> {
        if let Answer::RuleCounts(answer) = answer { Some(answer) } else { None }
    }
}

impl Asked for DropCountsQuery {
    type Answer = DropCountsAnswer;

    fn query(self) -> Query {
        Query::DropCounts(self)
    }

    fn answer(answer: Answer) -> Option<DropCountsAnswer> {
        if let Answer::DropCounts(answer) = answer { Some(answer) } else { None }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum AskError {
    /// There is no stream of it.
    #[error("the agent of hypervisor {chassis} is not connected; `qnctl get nodes` shows which are")]
    NotConnected {
        /// Its chassis.
        chassis: String,
    },
    /// The member that has its stream does not know questions, or is gone.
    #[error(
        "controller {member}, which serves the agent of hypervisor {chassis}, passes no questions on: it is of an older version or out of reach"
    )]
    Member {
        /// Its number.
        member: u64,
        /// The agent's chassis.
        chassis: String,
    },
    /// It is older than questions, or than this one.
    #[error("the agent of hypervisor {chassis} is of a version that does not know this question; upgrade it")]
    OldAgent {
        /// Its chassis.
        chassis: String,
    },
    /// Too many are under way.
    #[error("too many questions to the agent of hypervisor {chassis} are under way; try again")]
    Busy {
        /// Its chassis.
        chassis: String,
    },
    /// It took too long.
    #[error("the agent of hypervisor {chassis} gave no answer within {} s", .within.as_secs_f32())]
    Deadline {
        /// Its chassis.
        chassis: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// It can't answer this one.
    #[error("hypervisor {chassis}: {message}")]
    Refused {
        /// Its chassis.
        chassis: String,
        /// What kind of reason it has.
        kind: AgentQueryErrorKind,
        /// In its words.
        message: String,
    },
    /// It is no answer.
    #[error("what the agent of hypervisor {chassis} answered is no answer to the question")]
    Strange {
        /// Its chassis.
        chassis: String,
    },
    /// It is too large to be asked.
    #[error("the question has {got} octets, at most {max} can be asked")]
    TooLarge {
        /// The bound.
        max: usize,
        /// Its size.
        got: usize,
    },
}

/// Questions under way, and the way to agents.
pub struct Queries {
    registry: Arc<AgentRegistry>,
    leader: Leader,
    streams: Mutex<BTreeMap<String, Stream>>,
}

type Out = mpsc::Sender<Result<ControllerMessage, Status>>;

/// The stream of an agent to this member.
struct Stream {
    number: u64,
    /// The agent knows questions.
    answers: bool,
    out: Out,
    waiting: BTreeMap<u64, oneshot::Sender<AgentQueryAnswer>>,
    last: u64,
}

impl Queries {
    /// Asks agents of `registry`; those of other members over the ways that `leader` has to them.
    pub fn new(registry: Arc<AgentRegistry>, leader: Leader) -> Arc<Self> {
        let queries =
            Arc::new(Self { registry, leader: leader.clone(), streams: Mutex::new(BTreeMap::new()) });
        leader.register(Kind::Query, Arc::new(Passed(queries.clone())));
        queries
    }

    /// Asks the agent of a chassis.
    pub async fn ask<Q: Asked>(
        &self,
        chassis: &str,
        question: Q,
        within: Duration,
    ) -> Result<Q::Answer, AskError> {
        let query = question.query();
        let status = self.registry.status(chassis).filter(|status| status.connected);
        let status = status.ok_or_else(|| AskError::NotConnected { chassis: chassis.to_owned() })?;
        let answer = match status.registered.member {
            0 => self.here(chassis, query, within).await?,
            member => self.there(member, chassis, query, within).await?,
        };
        let chassis = || chassis.to_owned();
        match answer.answer {
            Some(Answer::Error(error)) => Err(refused(chassis(), error)),
            Some(answer) => Q::answer(answer).ok_or_else(|| AskError::Strange { chassis: chassis() }),
            None => Err(AskError::Strange { chassis: chassis() }),
        }
    }

    /// Asks an agent whose stream is on this member.
    async fn here(
        &self,
        chassis: &str,
        query: Query,
        within: Duration,
    ) -> Result<AgentQueryAnswer, AskError> {
        let gone = || AskError::NotConnected { chassis: chassis.to_owned() };
        let (answer, answered) = oneshot::channel();
        let (waits, out) = {
            let mut streams = self.lock();
            let stream = streams.get_mut(chassis).ok_or_else(gone)?;
            if !stream.answers {
                return Err(AskError::OldAgent { chassis: chassis.to_owned() });
            }
            if stream.waiting.len() >= UNDER_WAY_MAX {
                return Err(AskError::Busy { chassis: chassis.to_owned() });
            }
            stream.last += 1;
            stream.waiting.insert(stream.last, answer);
            let waits = Waits { queries: self, chassis, stream: stream.number, id: stream.last };
            (waits, stream.out.clone())
        };
        let query = AgentQuery { id: waits.id, query: Some(query) };
        let (got, max) = (query.encoded_len(), QUERY_BYTES_MAX);
        if got > max {
            return Err(AskError::TooLarge { max, got });
        }
        let message = ControllerMessage { message: Some(controller_message::Message::Query(query)) };
        let exchange = async {
            out.send(Ok(message)).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())
        };
        let late = |_| AskError::Deadline { chassis: chassis.to_owned(), within };
        timeout(within, exchange).await.map_err(late)?
    }

    /// Has another member ask.
    async fn there(
        &self,
        member: u64,
        chassis: &str,
        query: Query,
        within: Duration,
    ) -> Result<AgentQueryAnswer, AskError> {
        let chassis = chassis.to_owned();
        let query = AgentQuery { id: 0, query: Some(query) }.encode_to_vec();
        if query.len() > QUERY_BYTES_MAX {
            return Err(AskError::TooLarge { max: QUERY_BYTES_MAX, got: query.len() });
        }
        let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        let ask = AgentAsk { chassis: chassis.clone(), query: query.into(), within_ms };
        let asked = self.leader.ask(member, Kind::Query, ask.encode_to_vec().into());
        // Its own deadline comes first, unless it is gone.
        let asked = timeout(within + PASSING_ON, asked).await;
        let Ok(Some(answer)) = asked else { return Err(AskError::Member { member, chassis }) };
        let result = AgentAsked::decode(answer).ok().and_then(|asked| asked.result);
        match result {
            Some(agent_asked::Result::Answer(answer)) => {
                AgentQueryAnswer::decode(answer).map_err(|_| AskError::Strange { chassis })
            }
            Some(agent_asked::Result::Failed(failed)) => Err(failed_there(failed, chassis, within)),
            None => Err(AskError::Member { member, chassis }),
        }
    }

    /// An agent has a stream to this member, until the value returned goes.
    pub(super) fn attach(
        self: &Arc<Self>,
        chassis: &str,
        stream: u64,
        answers: bool,
        out: Out,
    ) -> Attachment {
        let connected = Stream { number: stream, answers, out, waiting: BTreeMap::new(), last: 0 };
        // Who waits for a former stream hears that it is gone.
        self.lock().insert(chassis.to_owned(), connected);
        Attachment { queries: self.clone(), chassis: chassis.to_owned(), stream }
    }

    /// An agent answers. Returns whether the answer is of a size that may be.
    pub(super) fn answered(&self, chassis: &str, stream: u64, mut answer: AgentQueryAnswer) -> bool {
        let fits = answer.encoded_len() <= ANSWER_BYTES_MAX;
        if !fits {
            let kind = AgentQueryErrorKind::AnswerTooLarge.into();
            let message = format!("its answer has more than {ANSWER_BYTES_MAX} octets");
            answer.answer = Some(Answer::Error(AgentQueryError { kind, message }));
        }
        let waiting = {
            let mut streams = self.lock();
            let stream = streams.get_mut(chassis).filter(|current| current.number == stream);
            stream.and_then(|stream| stream.waiting.remove(&answer.id))
        };
        // It may be late, or nobody has asked.
        if let Some(waiting) = waiting {
            _ = waiting.send(answer);
        }
        fits
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Stream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question under way, which is forgotten with it.
struct Waits<'a> {
    queries: &'a Queries,
    chassis: &'a str,
    stream: u64,
    id: u64,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut streams = self.queries.lock();
        let stream = streams.get_mut(self.chassis).filter(|current| current.number == self.stream);
        stream.map(|stream| stream.waiting.remove(&self.id));
    }
}

/// The stream of an agent, as far as questions go.
pub(super) struct Attachment {
    queries: Arc<Queries>,
    chassis: String,
    stream: u64,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut streams = self.queries.lock();
        if streams.get(&self.chassis).is_some_and(|current| current.number == self.stream) {
            streams.remove(&self.chassis);
        }
    }
}

/// Questions that other members pass on.
struct Passed(Arc<Queries>);

impl Handler for Passed {
    fn start(&self, body: Bytes) -> peer::Answer {
        let queries = self.0.clone();
        Box::pin(async move {
            let result = match queries.passed(body).await {
                Ok(answer) => agent_asked::Result::Answer(answer.encode_to_vec().into()),
                Err(error) => agent_asked::Result::Failed(failed_here(&error)),
            };
            Ok(AgentAsked { result: Some(result) }.encode_to_vec().into())
        })
    }
}

impl Queries {
    async fn passed(&self, body: Bytes) -> Result<AgentQueryAnswer, AskError> {
        let strange = |chassis: &str| AskError::Strange { chassis: chassis.to_owned() };
        let AgentAsk { chassis, query, within_ms } = AgentAsk::decode(body).map_err(|_| strange("?"))?;
        let query = AgentQuery::decode(query).map_err(|_| strange(&chassis))?.query;
        // A question of a later version is none to this member.
        let query = query.ok_or_else(|| AskError::OldAgent { chassis: chassis.clone() })?;
        let within = Duration::from_millis(within_ms.into()).min(WITHIN_MAX);
        self.here(&chassis, query, within).await
    }
}

fn refused(chassis: String, AgentQueryError { kind, message }: AgentQueryError) -> AskError {
    match AgentQueryErrorKind::try_from(kind) {
        Ok(AgentQueryErrorKind::UnknownQuery) => AskError::OldAgent { chassis },
        Ok(AgentQueryErrorKind::QueryBusy) => AskError::Busy { chassis },
        Ok(kind) => AskError::Refused { chassis, kind, message: message.chars().take(MESSAGE_MAX).collect() },
        Err(_) => AskError::Strange { chassis },
    }
}

fn failed_here(error: &AskError) -> AgentAskFailed {
    let failure = match error {
        AskError::NotConnected { .. } => AgentAskFailure::NotConnected,
        AskError::OldAgent { .. } => AgentAskFailure::OldAgent,
        AskError::Busy { .. } => AgentAskFailure::Busy,
        AskError::Deadline { .. } => AgentAskFailure::Deadline,
        AskError::Strange { .. }
        | AskError::Member { .. }
        | AskError::Refused { .. }
        | AskError::TooLarge { .. } => AgentAskFailure::Strange,
    };
    AgentAskFailed { failure: failure.into(), message: error.to_string() }
}

fn failed_there(failed: AgentAskFailed, chassis: String, within: Duration) -> AskError {
    match failed.failure() {
        AgentAskFailure::NotConnected => AskError::NotConnected { chassis },
        AgentAskFailure::OldAgent => AskError::OldAgent { chassis },
        AgentAskFailure::Busy => AskError::Busy { chassis },
        AgentAskFailure::Deadline => AskError::Deadline { chassis, within },
        AgentAskFailure::Strange | AgentAskFailure::Unspecified => AskError::Strange { chassis },
    }
}

/// Questions to one agent that are under way.
const UNDER_WAY_MAX: usize = 16;
const QUERY_BYTES_MAX: usize = 64 << 10;
/// Below what a stream's message may have, so that such an answer ends its question and not the stream.
const ANSWER_BYTES_MAX: usize = 2 << 20;
/// Characters of an agent's words that are passed on.
const MESSAGE_MAX: usize = 1_024;
/// How long another member's question may wait.
const WITHIN_MAX: Duration = Duration::from_secs(60);
/// The way to another member and back.
const PASSING_ON: Duration = Duration::from_secs(3);
