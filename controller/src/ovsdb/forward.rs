//! Transactions of clients on their way to the leader.
//!
//! # Invariants
//! - What another member sends ends in a transaction or in a refusal, and is bounded.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::transact::{self, Outcome, REQUEST_BYTES_MAX, Request};
use crate::{
    peer::{Answer, Elsewhere, Handler, Kind, Leader},
    replica::{ProposeError, Replica},
};

/// Runs a transaction on whoever leads; put when this returns, see [`Replica::begin`], or on its way.
///
/// `Err` says why it is not known to be done: the client has to ask again.
pub(super) fn run(
    replica: &Replica,
    leader: &Leader,
    principal: &Arc<str>,
    request: Request,
) -> BoxFuture<'static, Result<Outcome, String>> {
    // Most transactions need no way to the leader, nor its encoding.
    if replica.status().writable {
        let outcome = transact::start(replica, principal.clone(), request);
        return Box::pin(async move { outcome.await.map_err(|error| error.to_string()) });
    }
    let asked = encode(&Asked { principal: principal.as_ref().into(), request });
    let asked = asked.map(|body| leader.start(Kind::Transact, body));
    Box::pin(async move {
        let body = asked?.await.map_err(|error| error.to_string())?;
        serde_json::from_slice::<Result<Outcome, String>>(&body).map_err(|error| error.to_string())?
    })
}

/// What travels.
#[derive(Debug, Deserialize, Serialize)]
struct Asked {
    principal: Box<str>,
    request: Request,
}

/// Runs what followers ask.
pub(super) struct OnLeader {
    pub(super) replica: Replica,
}

impl Handler for OnLeader {
    fn start(&self, body: Bytes) -> Answer {
        let asked = match decode(&body) {
            Ok(asked) => asked,
            Err(error) => return Box::pin(async move { Ok(reply(&Err(error))) }),
        };
        let outcome = transact::start(&self.replica, asked.principal.into(), asked.request);
        self.replica.begin(false);
        Box::pin(async move {
            match outcome.await {
                // Nothing was done.
                Err(ProposeError::NotLeader { .. } | ProposeError::Retry | ProposeError::Busy) => {
                    Err(Elsewhere)
                }
                outcome => Ok(reply(&outcome.map_err(|error| error.to_string()))),
            }
        })
    }
}

fn encode(asked: &Asked) -> Result<Bytes, String> {
    let bytes = serde_json::to_vec(asked).map_err(|error| error.to_string())?;
    bounded(bytes.len()).map(|()| bytes.into())
}

fn decode(bytes: &[u8]) -> Result<Asked, String> {
    bounded(bytes.len())?;
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn bounded(octets: usize) -> Result<(), String> {
    if octets <= REQUEST_BYTES_MAX {
        return Ok(());
    }
    Err(format!("a transaction of {octets} octets, at most {REQUEST_BYTES_MAX} are taken"))
}

fn reply(outcome: &Result<Outcome, String>) -> Bytes {
    serde_json::to_vec(outcome).expect("memory is the only thing that this encoding can lack").into()
}
