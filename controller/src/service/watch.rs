//! Watches: a snapshot or what came after a resume token, then every change.
//!
//! # Invariants
//! - Events come in the order of revisions; the token of an event covers everything before it.
//! - The queue to a client is bounded. A client that is too slow falls out of the store's own queue, resumes from the
//!   store's history, and when that too is gone starts over with RESET.

use std::{collections::BTreeMap, sync::Arc};

use quantumnet_api::v1::{ResumeToken as ApiToken, WatchEventKind, WatchOptions};
use quantumnet_model::{Row, Uuid, intent::Project};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    replica::Replica,
    service::{
        Api,
        authorize::Call,
        error,
        object::{Object, project_of},
    },
    store::{Refusal, ResumeToken, State, Touched, Transaction},
};

/// Events that wait for a client.
const QUEUE_EVENTS: usize = 256;

/// The stream that a watch answers with.
pub(super) type Events<R> = ReceiverStream<Result<R, Status>>;

/// One event, before it is put into the method's own message.
pub(super) type Make<M, R> = fn(WatchEventKind, Option<M>, Option<ApiToken>) -> R;

/// Begins a watch.
pub(super) async fn start<W, R>(
    api: &Api,
    call: Call,
    options: Option<WatchOptions>,
    make: Make<W::Message, R>,
) -> Result<Events<R>, Status>
where
    W: Watched,
    R: Send + 'static,
{
    let options = options.unwrap_or_default();
    let state = api.read().await?;
    let project = match options.project.as_str() {
        "" => None,
        text => Some(W::project(&state, text).map_err(error::refused)?),
    };
    let resume = options.resume.as_ref().and_then(stored_token);
    let (sender, receiver) = mpsc::channel(QUEUE_EVENTS);
    let watch = Watch::<W, R> {
        replica: api.context().replica.clone(),
        call,
        project,
        make,
        sender,
        api: api.clone(),
    };
    tokio::spawn(watch.run(resume));
    Ok(ReceiverStream::new(receiver))
}

/// What can be watched.
pub(super) trait Watched: Send + Sync + 'static {
    /// What clients are sent.
    type Message: Send + 'static;
    /// The project that a watch is narrowed to.
    fn project(state: &State, text: &str) -> Result<Uuid, Refusal>;
    /// Uuids of objects that a row shows in.
    fn objects(touched: &Touched) -> Option<Uuid>;
    /// The object's own row.
    fn is_own(touched: &Touched) -> bool;
    /// Every object.
    fn all(state: &State) -> Vec<Uuid>;
    /// The project's id, of the object or its last row.
    fn project_id(state: &State, last: Option<&Touched>, uuid: Uuid) -> Option<Uuid>;
    /// The object as it is.
    fn message(api: &Api, state: &State, uuid: Uuid) -> Option<Self::Message>;
    /// The object as it was last.
    fn last(api: &Api, state: &State, touched: &Touched) -> Option<Self::Message>;
}

impl<T: Object> Watched for T {
    type Message = <T as Object>::Message;

    fn project(state: &State, text: &str) -> Result<Uuid, Refusal> {
        if T::TABLE == Project::TABLE {
            return Err(error::invalid(
                "options.project",
                "PROJECT_UNUSED",
                "projects do not nest; leave it empty",
            ));
        }
        project_of(state, text, "options.project")
    }

    fn objects(touched: &Touched) -> Option<Uuid> {
        T::TABLES.contains(&touched.table).then_some(touched.uuid)
    }

    fn is_own(touched: &Touched) -> bool {
        touched.table == T::TABLE
    }

    fn all(state: &State) -> Vec<Uuid> {
        state.iter::<T>().map(|(uuid, _)| uuid).collect()
    }

    fn project_id(state: &State, last: Option<&Touched>, uuid: Uuid) -> Option<Uuid> {
        let row = state.get::<T>(uuid).or_else(|| last.and_then(|touched| touched.before::<T>()));
        row.and_then(Object::project)
    }

    fn message(_: &Api, state: &State, uuid: Uuid) -> Option<Self::Message> {
        state.get::<T>(uuid).map(|row| Object::message(row, uuid, state))
    }

    fn last(_: &Api, state: &State, touched: &Touched) -> Option<Self::Message> {
        touched.before::<T>().map(|row| Object::message(row, touched.uuid, state))
    }
}

struct Watch<W: Watched, R> {
    api: Api,
    replica: Replica,
    call: Call,
    project: Option<Uuid>,
    make: Make<W::Message, R>,
    sender: mpsc::Sender<Result<R, Status>>,
}

/// The client went away.
struct Gone;

impl<W: Watched, R: Send + 'static> Watch<W, R> {
    async fn run(self, mut resume: Option<ResumeToken>) {
        let mut first = true;
        loop {
            // Before the history is read, so that nothing falls between.
            let mut transactions = self.replica.transactions();
            let Ok(token) = self.catch_up(resume, first).await else { return };
            let mut at = token;
            first = false;
            loop {
                let received = tokio::select! {
                    received = transactions.recv() => received,
                    () = self.sender.closed() => return,
                };
                match received {
                    Ok(transaction) if at.is_some_and(|at| transaction.revision <= at.revision) => {}
                    Ok(transaction) => {
                        let state = self.replica.state();
                        let Ok(token) = self.changes(&state, &transaction).await else { return };
                        at = token.or(at);
                    }
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                }
            }
            resume = at;
        }
    }

    /// Sends what the client lacks: changes where the token allows, else a snapshot.
    async fn catch_up(&self, resume: Option<ResumeToken>, first: bool) -> Result<Option<ResumeToken>, Gone> {
        let (state, known) = match &resume {
            Some(token) => self.replica.since(token),
            None => (self.replica.state(), None),
        };
        let now = ResumeToken::of(&state);
        if let Some(transactions) = known {
            for transaction in transactions {
                self.changes(&state, &transaction).await?;
            }
            if first {
                self.send(WatchEventKind::Synced, None, now).await?;
            }
            return Ok(now);
        }
        self.send(WatchEventKind::Reset, None, None).await?;
        for uuid in W::all(&state) {
            if self.wants(&state, None, uuid)
                && let Some(message) = W::message(&self.api, &state, uuid)
            {
                self.send(WatchEventKind::Created, Some(message), None).await?;
            }
        }
        self.send(WatchEventKind::Synced, None, now).await?;
        Ok(now)
    }

    async fn changes(
        &self,
        state: &Arc<State>,
        transaction: &Transaction,
    ) -> Result<Option<ResumeToken>, Gone> {
        let token = ResumeToken::of(state).map(|now| ResumeToken { revision: transaction.revision, ..now });
        // The object's own row, where it was touched too, says what happened.
        let mut objects: BTreeMap<Uuid, Option<&Touched>> = BTreeMap::new();
        for touched in &transaction.touched {
            if let Some(uuid) = W::objects(touched) {
                let own = objects.entry(uuid).or_default();
                if W::is_own(touched) {
                    *own = Some(touched);
                }
            }
        }
        for (uuid, own) in objects {
            if !self.wants(state, own, uuid) {
                continue;
            }
            let (kind, message) = match own {
                Some(own) if own.new.is_none() => (WatchEventKind::Deleted, W::last(&self.api, state, own)),
                Some(own) if own.old.is_none() => {
                    (WatchEventKind::Created, W::message(&self.api, state, uuid))
                }
                _ => (WatchEventKind::Updated, W::message(&self.api, state, uuid)),
            };
            // An object that is gone by now: a later transaction says so.
            if let Some(message) = message {
                self.send(kind, Some(message), token).await?;
            }
        }
        Ok(token)
    }

    fn wants(&self, state: &State, own: Option<&Touched>, uuid: Uuid) -> bool {
        let project = W::project_id(state, own, uuid);
        let narrowed = self.project.is_none_or(|wanted| project == Some(wanted));
        narrowed && project.is_none_or(|project| self.call.may(&project.to_string()).is_ok())
    }

    async fn send(
        &self,
        kind: WatchEventKind,
        message: Option<W::Message>,
        token: Option<ResumeToken>,
    ) -> Result<(), Gone> {
        self.sender.send(Ok((self.make)(kind, message, token.map(api_token)))).await.map_err(|_| Gone)
    }
}

fn api_token(token: ResumeToken) -> ApiToken {
    ApiToken {
        cluster_id: token.cluster_id.to_string(),
        history_id: token.history_id.to_string(),
        revision: token.revision,
    }
}

/// A token that can't be read is one of another cluster: it is answered by a snapshot.
fn stored_token(token: &ApiToken) -> Option<ResumeToken> {
    Some(ResumeToken {
        cluster_id: token.cluster_id.parse().ok()?,
        history_id: token.history_id.parse().ok()?,
        revision: token.revision,
    })
}
