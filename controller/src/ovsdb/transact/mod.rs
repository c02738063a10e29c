//! A client's transaction on the store: `transact` of RFC 7047 (section 4.1.3), with ovsdb-server's results and errors.
//!
//! # Contract
//! - In: a [`Request`]; out: an [`Outcome`]. What fails inside a transaction is a result, never an `Err`: `n` results
//!   for `n` operations, with the error in the place of the first that failed and nulls behind it, or `n + 1` when the
//!   commit failed.
//! - A transaction sees the head of the store, everything acknowledged before it included, and is all or nothing. What
//!   it wrote is lowered in the same transaction.
//! - A row that belongs to intent is not changed: `permission error` with the owner's name, at commit. It is what
//!   ovsdb-server says when RBAC forbids a change, and clients take it for final.
//! - Refuses to know sessions: locks held, whether the session only reads, and how long a `wait` has waited are told.

pub(crate) mod access;
pub mod column;
mod commit;
pub mod condition;
mod decode;
mod execute;
pub mod fault;
mod members;
mod mutation;
mod names;
mod query;
mod request;
mod words;

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use ovsdb::result::ErrorKind;
use serde_json::Value;

pub use self::request::{Outcome, REQUEST_BYTES_MAX, Request, RequestError};
use self::{
    execute::{Execution, Stop},
    fault::Fault,
};
use crate::{
    lower::owner,
    replica::{ProposeError, Replica},
    store::Txn,
};

/// What the operations gave, before lowering and the log.
#[derive(Debug)]
pub enum Attempt {
    /// Results to answer; an error is in them when the transaction wrote nothing.
    Done(Vec<Value>),
    /// A `wait` waits; the least timeout of all waits so far, counted from the request's arrival.
    Blocked(Option<std::time::Duration>),
}

/// Runs a transaction on the leader's head, replicates it, and answers when it is applied here. It is put when this
/// returns, to be followed by [`Replica::begin`]: transactions are run in the order of the calls.
///
/// `Err` means that it is not known to be done: this member does not lead, leadership changed, it is overloaded or
/// stopped. What can't be written for its size or a full disk is a result, as clients expect it.
pub fn start(
    replica: &Replica,
    principal: Arc<str>,
    request: Request,
) -> impl Future<Output = Result<Outcome, ProposeError>> + Send + 'static {
    // Lowering may refuse what the operations did; their results are told all the same.
    let kept: Arc<Mutex<Option<(Attempt, u64)>>> = Arc::default();
    let keep = kept.clone();
    let proposed = replica.put(principal, move |txn: &mut Txn<'_>| {
        let attempt = run(txn, &request);
        *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some((attempt, txn.state().revision()));
        Ok(())
    });
    async move {
        let proposed = proposed.await;
        let attempt = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        finish(proposed.map(|committed| committed.revision), attempt)
    }
}

fn finish(
    proposed: Result<u64, ProposeError>,
    attempt: Option<(Attempt, u64)>,
) -> Result<Outcome, ProposeError> {
    let fault = |error: &ProposeError| match error {
        ProposeError::Refused(refusal) => Some(commit::late(refusal)),
        ProposeError::TooLarge { .. } => Some(Fault::new(ErrorKind::ResourcesExhausted, error.to_string())),
        ProposeError::DiskFull { .. } => Some(Fault::new(ErrorKind::IoError, error.to_string())),
        _ => None,
    };
    match (proposed, attempt) {
        (Ok(revision), Some((Attempt::Done(results), _))) => Ok(Outcome::Done { results, revision }),
        (Ok(revision), Some((Attempt::Blocked(timeout), _))) => Ok(Outcome::Blocked { revision, timeout }),
        (Ok(_), None) => Err(ProposeError::Dropped),
        (Err(error), Some((Attempt::Done(mut results), revision))) => match fault(&error) {
            Some(fault) => {
                results.push(fault.to_json());
                Ok(Outcome::Done { results, revision })
            }
            None => Err(error),
        },
        (Err(error), _) => Err(error),
    }
}

/// Runs the operations and the checks that ovsdb-server makes at commit. Unless they all succeed the transaction is
/// left as it began.
pub fn run(txn: &mut Txn<'_>, request: &Request) -> Attempt {
    let of = request.operations.len();
    let Some(database) = access::database(&request.database) else {
        let details = format!("transact request specifies unknown database {}", request.database);
        return Attempt::Done(vec![Fault::new(ErrorKind::UnknownDatabase, details).to_json()]);
    };
    let mut results = Vec::with_capacity(of);
    let mut execution = Execution::new(request, database, txn);
    for (at, operation) in request.operations.iter().enumerate() {
        match execution.operation(operation, (at + 1, of)) {
            Ok(result) => results.push(result),
            Err(Stop::Failed(fault)) => {
                results.push(fault.to_json());
                results.resize(of, Value::Null);
                txn.reset();
                return Attempt::Done(results);
            }
            Err(Stop::Blocked) => {
                let timeout = execution.timeout;
                txn.reset();
                return Attempt::Blocked(timeout);
            }
        }
    }
    let refused = txn.enforce().and_then(|()| owner::refuse_owned(txn));
    if let Err(refusal) = refused {
        results.push(commit::fault(txn, &refusal).to_json());
        txn.reset();
    }
    Attempt::Done(results)
}
