//! Refusals as gRPC statuses.

use prost::Message;
use quantumnet_api::v1::ErrorDetail;
use tonic::{Code, Status};

use crate::{
    peer::ForwardError,
    replica::{ProposeError, ReadError},
    store::{Class, Refusal},
};

/// `google.rpc.Status`, which gRPC carries in `grpc-status-details-bin`; its details hold one
/// `quantumnet.v1.ErrorDetail`.
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    /// gRPC code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// The detail.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<prost_types::Any>,
}

const DETAIL_TYPE: &str = "type.googleapis.com/quantumnet.v1.ErrorDetail";

impl RpcStatus {
    /// The detail of a status, if it has one.
    pub fn detail(status: &Status) -> Option<ErrorDetail> {
        let details = Self::decode(status.details()).ok()?.details;
        let any = details.into_iter().find(|any| any.type_url == DETAIL_TYPE)?;
        ErrorDetail::decode(any.value.as_slice()).ok()
    }
}

/// The status code of a kind of refusal.
pub(crate) const fn code(class: Class) -> Code {
    match class {
        Class::InvalidArgument => Code::InvalidArgument,
        Class::NotFound => Code::NotFound,
        Class::AlreadyExists => Code::AlreadyExists,
        Class::FailedPrecondition => Code::FailedPrecondition,
        Class::ResourceExhausted => Code::ResourceExhausted,
        Class::PermissionDenied => Code::PermissionDenied,
        Class::Aborted => Code::Aborted,
    }
}

/// A refusal of the store or of a service.
pub(super) fn refused(refusal: Refusal) -> Status {
    let code = code(refusal.class());
    let (field, blocking) = match &refusal {
        Refusal::Service(refusal) => (refusal.field.clone(), refusal.blocking.clone()),
        _ => (String::new(), Vec::new()),
    };
    let message = if field.is_empty() { refusal.to_string() } else { format!("{field}: {refusal}") };
    detailed(code, message, ErrorDetail { reason: refusal.reason().into(), field, blocking })
}

/// A proposal that has no result.
pub(super) fn status(error: ProposeError) -> Status {
    let (code, reason) = match &error {
        ProposeError::Refused(refusal) => return refused(refusal.clone()),
        ProposeError::NotLeader { .. } => (Code::Unavailable, "NOT_LEADER"),
        ProposeError::Retry => (Code::Aborted, "LEADERSHIP_CHANGED"),
        ProposeError::DiskFull { .. } => (Code::Unavailable, "DISK_FULL"),
        ProposeError::TooLarge { .. } => (Code::InvalidArgument, "TOO_LARGE"),
        ProposeError::Unknown { .. } => (Code::Unknown, "OUTCOME_UNKNOWN"),
        ProposeError::Busy => (Code::Unavailable, "BUSY"),
        ProposeError::Dropped => (Code::Internal, "REQUEST_DROPPED"),
        ProposeError::Stopped { .. } => (Code::Unavailable, "STOPPED"),
    };
    detailed(code, error.to_string(), ErrorDetail { reason: reason.into(), ..ErrorDetail::default() })
}

/// Reasons of answers that say that nothing was written, for lack of leadership.
pub(super) const NOTHING_WRITTEN: [&str; 2] = ["NOT_LEADER", "LEADERSHIP_CHANGED"];

/// A call that has no answer of the leader.
pub(super) fn undelivered(error: ForwardError) -> Status {
    let reason = match &error {
        ForwardError::NoLeader { .. } => "NO_LEADER",
        ForwardError::Busy => "BUSY",
        ForwardError::TooLarge { .. } => "TOO_LARGE",
        ForwardError::Unknown { .. } => "OUTCOME_UNKNOWN",
        ForwardError::Stopped { .. } => "STOPPED",
    };
    let detail = ErrorDetail { reason: reason.into(), ..ErrorDetail::default() };
    detailed(Code::Unavailable, error.to_string(), detail)
}

/// A read that was not possible.
pub(super) fn unreadable(error: ReadError) -> Status {
    let detail = ErrorDetail { reason: "READ_UNAVAILABLE".into(), ..ErrorDetail::default() };
    detailed(Code::Unavailable, error.to_string(), detail)
}

fn detailed(code: Code, message: String, detail: ErrorDetail) -> Status {
    let any = prost_types::Any { type_url: DETAIL_TYPE.into(), value: detail.encode_to_vec() };
    let status = RpcStatus { code: code as i32, message: message.clone(), details: vec![any] };
    Status::with_details(code, message, status.encode_to_vec().into())
}

/// The request is wrong at `field`.
pub(super) fn invalid(field: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::service(Class::InvalidArgument, reason, message).at(field)
}
