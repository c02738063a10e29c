//! A request on its way through the log, without its type.

use std::sync::Arc;

use quantumnet_model::change::RowChange;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    replica::{Committed, ProposeError},
    store::{Context, Evaluated, Refusal, State, Touched, Txn, evaluate},
};

/// Lowers a transaction; see `lower::run`.
pub(crate) type LowerFn = dyn Fn(&mut Txn<'_>) -> Result<(), Refusal> + Send + Sync;

/// A request that waits to be evaluated.
pub(crate) struct Job {
    pub(crate) principal: Arc<str>,
    run: Box<dyn FnOnce(Input<'_>) -> Outcome + Send>,
}

struct Input<'a> {
    head: Option<(&'a State, &'a Context, &'a LowerFn)>,
    error: Option<ProposeError>,
}

/// What evaluation gave.
pub(crate) struct Outcome {
    /// `None` when nothing changed.
    pub(crate) next: Option<Next>,
    /// To be told how the entry, or what it rests on, ended.
    pub(crate) answer: Answer,
}

/// The next state and what leads to it.
pub(crate) struct Next {
    pub(crate) state: State,
    pub(crate) changes: Vec<RowChange>,
    pub(crate) touched: Vec<Touched>,
}

/// Gives the client its answer, once.
pub(crate) struct Answer {
    give: Box<dyn FnOnce(Result<(), ProposeError>) + Send>,
}

impl Answer {
    /// The state that the answer rests on was applied.
    pub(crate) fn applied(self) {
        (self.give)(Ok(()));
    }

    /// It was not, or it is not known.
    pub(crate) fn failed(self, error: ProposeError) {
        (self.give)(Err(error));
    }
}

impl Job {
    /// Wraps a request; its place in the queue is held until the answer is given.
    pub(crate) fn new<R: Send + 'static>(
        principal: Arc<str>,
        request: impl FnOnce(&mut Txn<'_>) -> Result<R, Refusal> + Send + 'static,
        reply: oneshot::Sender<Result<Committed<R>, ProposeError>>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let run = move |input: Input<'_>| {
            let evaluated = match (input.head, input.error) {
                (Some((head, context, lower)), _) => {
                    evaluate(head, context, request, &|txn: &mut Txn<'_>| lower(txn))
                        .map_err(ProposeError::from)
                }
                (None, error) => Err(error.unwrap_or(ProposeError::Retry)),
            };
            let (next, result) = match evaluated {
                Ok(done) => {
                    let committed = Committed { revision: done.state.revision(), result: done.result };
                    let Evaluated { state, changes, touched, .. } = done;
                    let next = (!changes.is_empty()).then_some(Next { state, changes, touched });
                    (next, Ok(committed))
                }
                Err(error) => (None, Err(error)),
            };
            let give = move |ended: Result<(), ProposeError>| {
                // A client that went away needs no answer.
                _ = reply.send(ended.and(result));
                drop(place);
            };
            Outcome { next, answer: Answer { give: Box::new(give) } }
        };
        Self { principal, run: Box::new(run) }
    }

    /// Evaluates the request.
    pub(crate) fn evaluate(self, head: &State, context: &Context, lower: &LowerFn) -> Outcome {
        (self.run)(Input { head: Some((head, context, lower)), error: None })
    }

    /// Answers without evaluating.
    pub(crate) fn fail(self, error: ProposeError) {
        let outcome = (self.run)(Input { head: None, error: Some(error.clone()) });
        outcome.answer.failed(error);
    }
}
