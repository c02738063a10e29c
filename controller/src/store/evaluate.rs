//! Running a request against a head: what the leader does with every proposal.

use std::sync::Arc;

use quantumnet_model::change::RowChange;

use crate::store::{Refusal, State, Touched, Txn};

/// What a transaction is told besides the state.
#[derive(Clone, Debug)]
pub struct Context {
    /// The leader's clock, in milliseconds since the epoch.
    pub now_ms: i64,
    /// Who asks.
    pub principal: Arc<str>,
}

/// What a request did.
#[derive(Debug)]
pub struct Evaluated<R> {
    /// The state after it; of the head's revision when nothing changed, else of the next.
    pub state: State,
    /// Net changes, by table and uuid; empty when nothing changed.
    pub changes: Vec<RowChange>,
    /// The rows of these changes, before and after.
    pub touched: Vec<Touched>,
    /// What the request answers.
    pub result: R,
}

/// Runs `request` on a clone of `head`, makes the result consistent, runs `lower` on it and makes that consistent
/// too. A refusal leaves no trace. A request without net effect changes nothing, not even the revision.
pub fn evaluate<R>(
    head: &State,
    context: &Context,
    request: impl FnOnce(&mut Txn<'_>) -> Result<R, Refusal>,
    lower: &dyn Fn(&mut Txn<'_>) -> Result<(), Refusal>,
) -> Result<Evaluated<R>, Refusal> {
    let mut txn = Txn::begin(head, context);
    let result = request(&mut txn)?;
    txn.enforce()?;
    lower(&mut txn)?;
    txn.enforce()?;
    let (mut state, touched) = txn.finish();
    let changes: Vec<RowChange> = touched.iter().filter_map(Touched::change).collect();
    if !changes.is_empty() {
        state.set_revision(head.revision() + 1);
    }
    Ok(Evaluated { state, changes, touched, result })
}
