//! Watches: a snapshot or what came after a resume token, then every change.
//!
//! # Invariants
//! - Events come in the order of revisions. The token of an event covers nothing that has not been sent: of several
//!   events of one transaction the last alone has its revision, and who resumes between them sees all of them again.
//! - What waits for a client is bounded: a queue of events and a few transactions. Everything else is read from the
//!   store's history when the client has taken those, and when it is gone from there the client starts over with RESET.

use std::{collections::BTreeMap, sync::Arc};

use imbl::{OrdSet, ordset::DiffItem};
use quantumnet_api::v1::{ResumeToken as ApiToken, WatchEventKind, WatchOptions};
use quantumnet_model::{Row, Uuid, intent::Project};
use tokio::sync::{mpsc, watch};
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
/// Transactions that wait for a client.
const TRANSACTIONS_AT_ONCE: usize = 64;

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
    let resume = options.resume.as_ref().and_then(stored_token).filter(|_| W::presence(api).is_none());
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
    /// What objects show that is not in the store: who is connected, by name. As history knows nothing of it, a watch
    /// of such objects begins with a snapshot whatever the token.
    fn presence(_: &Api) -> Option<watch::Receiver<OrdSet<String>>> {
        None
    }
    /// The object that shows whether the name is connected.
    fn present(_: &State, _: &str) -> Option<Uuid> {
        None
    }
    /// Uuids of objects that a row shows in.
    fn objects(touched: &Touched, visit: &mut dyn FnMut(Uuid));
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

    fn objects(touched: &Touched, visit: &mut dyn FnMut(Uuid)) {
        if T::TABLES.contains(&touched.table) {
            visit(touched.uuid);
        }
        T::counted_in(touched).into_iter().for_each(visit);
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
    async fn run(self, mut at: Option<ResumeToken>) {
        let mut applied = self.replica.applied();
        let mut presence = W::presence(&self.api);
        let mut connected =
            presence.as_mut().map(|names| names.borrow_and_update().clone()).unwrap_or_default();
        let mut synced = false;
        loop {
            // Before the history is read, so that nothing falls between.
            applied.mark_unchanged();
            let Ok((reached, all)) = self.catch_up(at, synced).await else { return };
            (at, synced) = (reached, synced || all);
            if !all {
                continue;
            }
            if let Some(names) = &mut presence {
                let now = names.borrow_and_update().clone();
                if self.came_and_went(&connected, &now, at).await.is_err() {
                    return;
                }
                connected = now;
            }
            let changed = tokio::select! {
                changed = applied.changed() => changed.is_ok(),
                changed = changed(&mut presence) => changed,
                () = self.sender.closed() => false,
            };
            if !changed {
                return;
            }
        }
    }

    /// Sends what the client lacks: changes where the token allows, else a snapshot. Says up to where, and whether
    /// that is all.
    async fn catch_up(
        &self,
        from: Option<ResumeToken>,
        synced: bool,
    ) -> Result<(Option<ResumeToken>, bool), Gone> {
        let (state, known) = match &from {
            Some(token) => self.replica.since(token),
            None => (self.replica.state(), None),
        };
        let now = ResumeToken::of(&state);
        if let (Some(mut transactions), Some(from)) = (known, from) {
            let all = transactions.len() <= TRANSACTIONS_AT_ONCE;
            transactions.truncate(TRANSACTIONS_AT_ONCE);
            let mut at = from;
            for transaction in transactions {
                self.changes(&state, &transaction, at).await?;
                at.revision = transaction.revision;
            }
            if all && !synced {
                self.send(WatchEventKind::Synced, None, Some(at)).await?;
            }
            return Ok((Some(at), all));
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
        Ok((now, true))
    }

    /// Sends what a transaction changed; `before` is the token of what was sent before it.
    async fn changes(
        &self,
        state: &Arc<State>,
        transaction: &Transaction,
        before: ResumeToken,
    ) -> Result<(), Gone> {
        // The object's own row, where it was touched too, says what happened.
        let mut objects: BTreeMap<Uuid, Option<&Touched>> = BTreeMap::new();
        for touched in &transaction.touched {
            W::objects(touched, &mut |uuid| {
                let own = objects.entry(uuid).or_default();
                if W::is_own(touched) {
                    *own = Some(touched);
                }
            });
        }
        objects.retain(|uuid, own| self.wants(state, *own, *uuid));
        let last = objects.last_key_value().map(|(uuid, _)| *uuid);
        for (uuid, own) in objects {
            let (kind, message) = match own {
                Some(own) if own.new.is_none() => (WatchEventKind::Deleted, W::last(&self.api, state, own)),
                Some(own) if own.old.is_none() => {
                    (WatchEventKind::Created, W::message(&self.api, state, uuid))
                }
                _ => (WatchEventKind::Updated, W::message(&self.api, state, uuid)),
            };
            // An object that is gone by now: a later transaction says so.
            if let Some(message) = message {
                let revision = if last == Some(uuid) { transaction.revision } else { before.revision };
                self.send(kind, Some(message), Some(ResumeToken { revision, ..before })).await?;
            }
        }
        Ok(())
    }

    /// Sends objects whose names connected or went.
    async fn came_and_went(
        &self,
        before: &OrdSet<String>,
        now: &OrdSet<String>,
        at: Option<ResumeToken>,
    ) -> Result<(), Gone> {
        let state = self.replica.state();
        for uuid in differing(before, now).iter().filter_map(|name| W::present(&state, name)) {
            if self.wants(&state, None, uuid)
                && let Some(message) = W::message(&self.api, &state, uuid)
            {
                self.send(WatchEventKind::Updated, Some(message), at).await?;
            }
        }
        Ok(())
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

/// Names that are in one of the sets.
fn differing(before: &OrdSet<String>, now: &OrdSet<String>) -> Vec<String> {
    let name = |item: DiffItem<'_, '_, String>| match item {
        DiffItem::Add(name) | DiffItem::Remove(name) => name.clone(),
    };
    before.diff(now).map(name).collect()
}

/// False when there will be no more changes.
async fn changed(presence: &mut Option<watch::Receiver<OrdSet<String>>>) -> bool {
    match presence {
        Some(names) => names.changed().await.is_ok(),
        None => std::future::pending().await,
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
