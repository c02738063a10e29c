//! What agents say, on its way to the leader and as transactions there.
//!
//! # Contract
//! - An agent's member checks what it says and limits what it may teach; the leader parses it again and writes it.
//! - Registrations and reports may be stored twice without harm, so one whose end is not known is sent again.

use std::sync::Arc;

use bytes::Bytes;
use prost::{DecodeError, Message as _};
use quantumnet_api::{
    peer::v1::{
        AgentAnswer, AgentCall, AgentProblems, AgentRefused, AgentRegistered, AgentReports, AgentStored,
        agent_answer::Answer as Answered, agent_call::Call,
    },
    v1::{AgentHello, AgentReport},
};
use quantumnet_model::Uuid;
use thiserror::Error;
use tonic::{Code, Status};

use crate::{
    agents::{
        AgentRegistry, Facts, InputError, Interface, Report, input,
        report::{register, store_reports},
    },
    peer::{Answer, Elsewhere, ForwardError, Handler, Kind, Leader},
    replica::{Committed, ProposeError, Replica},
    service,
    store::Txn,
};

/// Registers a chassis at the leader.
pub(super) async fn registered(leader: &Leader, hello: AgentHello) -> Result<AgentRegistered, Status> {
    match call(leader, Call::Register(hello.encode_to_vec().into())).await? {
        Answered::Registered(registered) => Ok(registered),
        Answered::Stored(_) | Answered::Refused(_) => Err(strange()),
    }
}

/// Stores reports at the leader. Returns what is wrong with the registration if facts were reported.
pub(super) async fn stored(
    leader: &Leader,
    chassis: String,
    reports: Vec<AgentReport>,
) -> Result<Option<Vec<String>>, Status> {
    let reports = reports.iter().map(|report| report.encode_to_vec().into()).collect();
    match call(leader, Call::Store(AgentReports { chassis, reports })).await? {
        Answered::Stored(stored) => Ok(stored.problems.map(|problems| problems.problems)),
        Answered::Registered(_) | Answered::Refused(_) => Err(strange()),
    }
}

async fn call(leader: &Leader, call: Call) -> Result<Answered, Status> {
    let body = Bytes::from(AgentCall { call: Some(call) }.encode_to_vec());
    let mut attempts = 1;
    let answer = loop {
        match leader.start(Kind::Agent, body.clone()).await {
            Err(ForwardError::Unknown { .. }) if attempts < ATTEMPTS_MAX => attempts += 1,
            answer => break answer,
        }
    };
    let answer = answer.map_err(|error| Status::unavailable(error.to_string()))?;
    match AgentAnswer::decode(answer).ok().and_then(|answer| answer.answer) {
        Some(Answered::Refused(AgentRefused { code, message })) => {
            Err(Status::new(Code::from_i32(i32::try_from(code).unwrap_or(Code::Unknown as i32)), message))
        }
        Some(answered) => Ok(answered),
        None => Err(strange()),
    }
}

fn strange() -> Status {
    Status::internal("the leader's answer is none: the members are of different versions")
}

/// Writes what agents of any member say, on the leader.
pub struct AgentCalls {
    replica: Replica,
    registry: Arc<AgentRegistry>,
}

impl AgentCalls {
    /// Writes to the replica; `registry` knows whose agents are connected.
    pub fn new(replica: Replica, registry: Arc<AgentRegistry>) -> Self {
        Self { replica, registry }
    }

    fn register(&self, hello: Bytes) -> Result<Answer, CallError> {
        let hello = AgentHello::decode(hello)?;
        let name = input::chassis_name(hello.chassis)?;
        let facts = Facts::parse(hello.facts.unwrap_or_default())?;
        let interfaces = Interface::parse_all(hello.interfaces)?;
        let (registry, principal) = (self.registry.clone(), principal(&name));
        let request =
            move |txn: &mut Txn<'_>| register(txn, &name, &facts, &interfaces, &registry.connected());
        let queued = self.replica.queue(principal, request);
        Ok(answered(queued, |Committed { revision, result: (chassis, problems) }: Committed<(Uuid, _)>| {
            let chassis = Bytes::copy_from_slice(chassis.as_bytes());
            Answered::Registered(AgentRegistered { chassis, revision, problems })
        }))
    }

    fn store(&self, AgentReports { chassis, reports }: AgentReports) -> Result<Answer, CallError> {
        let name = input::chassis_name(chassis)?;
        let parse = |report: Bytes| Ok(Report::parse(AgentReport::decode(report)?)?);
        let reports = reports.into_iter().map(parse).collect::<Result<Vec<_>, CallError>>()?;
        let (registry, principal) = (self.registry.clone(), principal(&name));
        let request = move |txn: &mut Txn<'_>| store_reports(txn, &name, &reports, &registry.connected());
        let queued = self.replica.queue(principal, request);
        Ok(answered(queued, |committed| {
            let problems = committed.result.map(|problems| AgentProblems { problems });
            Answered::Stored(AgentStored { problems })
        }))
    }
}

impl Handler for AgentCalls {
    fn start(&self, body: Bytes) -> Answer {
        let call = AgentCall::decode(body).map_err(CallError::from);
        let begun = call.and_then(|call| match call.call {
            Some(Call::Register(hello)) => self.register(hello),
            Some(Call::Store(reports)) => self.store(reports),
            None => Err(CallError::Empty),
        });
        begun.unwrap_or_else(|error| {
            let refused = refusal(Code::InvalidArgument, error.to_string());
            Box::pin(async move { Ok(encode(refused)) })
        })
    }
}

/// Why what another member passed on is no call.
#[derive(Debug, Error)]
enum CallError {
    /// The members are of different versions.
    #[error("no call of an agent")]
    Decode(#[from] DecodeError),
    /// The members are of different versions.
    #[error("a call of a kind that this member does not know")]
    Empty,
    /// The agent's member should have refused it.
    #[error(transparent)]
    Input(#[from] InputError),
}

fn answered<R: Send + 'static>(
    queued: impl Future<Output = Result<Committed<R>, ProposeError>> + Send + 'static,
    done: impl FnOnce(Committed<R>) -> Answered + Send + 'static,
) -> Answer {
    Box::pin(async move {
        match queued.await {
            Ok(committed) => Ok(encode(done(committed))),
            Err(error) if error.is_elsewhere() => Err(Elsewhere),
            Err(error) => Ok(encode(refusal(code(&error), error.to_string()))),
        }
    })
}

fn encode(answer: Answered) -> Bytes {
    AgentAnswer { answer: Some(answer) }.encode_to_vec().into()
}

fn refusal(code: Code, message: impl Into<String>) -> Answered {
    Answered::Refused(AgentRefused { code: code as u32, message: message.into() })
}

fn code(error: &ProposeError) -> Code {
    match error {
        ProposeError::Refused(refusal) => service::code(refusal.class()),
        ProposeError::TooLarge { .. } => Code::InvalidArgument,
        _ => Code::Unavailable,
    }
}

fn principal(chassis: &str) -> String {
    format!("agent {chassis}")
}

/// How often what an agent says is sent while its end is not known.
const ATTEMPTS_MAX: usize = 3;
