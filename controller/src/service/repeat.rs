//! Requests that carry an id are answered once, however often they come.
//!
//! # Invariants
//! - At most [`REQUESTS_MAX`] are remembered, none for longer than [`REMEMBERED_MS`].

use std::sync::Arc;

use prost::Message;
use quantumnet_model::{Row, Uuid, intent::Request};

use crate::{
    service::{authorize::Call, error::invalid},
    store::{Class, Refusal, Txn},
};

/// How long an answer is remembered: a day.
const REMEMBERED_MS: i64 = 24 * 3_600 * 1_000;
/// How many answers are remembered.
const REQUESTS_MAX: usize = 10_000;
/// Answers forgotten with each that is remembered.
const FORGOTTEN_PER_CALL: usize = 16;
const NAMESPACE: Uuid = uuid::uuid!("4f0c1c44-8a56-4f3e-9a0f-3d53a1f1b6f7");

/// A request as it is recognised.
#[derive(Clone)]
pub(super) struct Repeat {
    principal: Arc<str>,
    request_id: Option<Arc<str>>,
    fingerprint: String,
}

impl Repeat {
    /// Of a call with this body.
    pub(super) fn new(call: &Call, method: &str, body: &impl Message) -> Self {
        let digest = Uuid::new_v5(&NAMESPACE, &body.encode_to_vec());
        Self {
            principal: call.principal.name.clone(),
            request_id: call.request_id.clone(),
            fingerprint: format!("{method} {digest}"),
        }
    }

    /// Runs the request unless it was answered before; returns the object it made or changed. `present` says whether
    /// the object of the first answer is still to be seen.
    pub(super) fn once(
        &self,
        txn: &mut Txn<'_>,
        present: impl FnOnce(&Txn<'_>, Uuid) -> bool,
        request: impl FnOnce(&mut Txn<'_>) -> Result<Uuid, Refusal>,
    ) -> Result<Uuid, Refusal> {
        let Some(id) = &self.request_id else { return request(txn) };
        let key = [("principal", (&*self.principal).into()), ("request_id", (&**id).into())];
        let known = txn.find::<Request>(&key).and_then(|uuid| txn.get::<Request>(uuid)).cloned();
        if let Some(known) = known.filter(|known| known.answered_at + REMEMBERED_MS > txn.now_ms()) {
            if *known.fingerprint != self.fingerprint {
                let message = format!("request id {id:?} was used for another request; choose a new one");
                return Err(invalid("x-quantumnet-request-id", "REQUEST_ID_REUSED", message));
            }
            return known.object.filter(|object| present(txn, *object)).ok_or_else(|| {
                let message =
                    format!("request {id:?} was answered before and its object has been deleted since");
                Refusal::service(Class::FailedPrecondition, "OBJECT_GONE", message)
            });
        }
        let object = request(txn)?;
        self.remember(txn, id, object);
        Ok(object)
    }

    fn remember(&self, txn: &mut Txn<'_>, id: &Arc<str>, object: Uuid) {
        for _ in 0..FORGOTTEN_PER_CALL {
            // The first index of the table is by time.
            let Some(oldest) = txn.find::<Request>(&[]) else { break };
            let old =
                txn.get::<Request>(oldest).is_some_and(|row| row.answered_at + REMEMBERED_MS <= txn.now_ms());
            if !old && txn.rows().len(Request::TABLE) < REQUESTS_MAX {
                break;
            }
            txn.delete::<Request>(oldest);
        }
        let row = Request {
            principal: self.principal.clone(),
            request_id: id.clone(),
            fingerprint: self.fingerprint.as_str().into(),
            object: Some(object),
            revision: i64::try_from(txn.next_revision()).unwrap_or(i64::MAX),
            answered_at: txn.now_ms(),
        };
        let uuid = Uuid::new_v5(&NAMESPACE, format!("{} {id}", self.principal).as_bytes());
        txn.put(uuid, row);
    }
}
