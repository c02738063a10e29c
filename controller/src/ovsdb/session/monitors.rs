//! The session's monitors, and how far they have come.

use std::{sync::Arc, time::Instant};

use ovsdb::{ErrorKind, json::parse_uuid};
use quantumnet_model::{Database, Uuid, server::ServedDatabase};
use serde_json::{Value, json};

use super::{Piece, REPLY_REST, Reason, Session, World, reply_head, request::syntax};
use crate::{
    ovsdb::{
        json,
        monitor::{Change, Dump, Form, Spec, between, net},
        token,
        transact::fault::Fault,
    },
    store::{ResumeToken, State},
};

/// A monitor.
#[derive(Debug)]
pub(super) struct Monitor {
    /// Any JSON, chosen by the client.
    id: Value,
    database: Database,
    form: Form,
    spec: Arc<Spec>,
}

/// What may not change under a client that did not say that it copes: the cluster, and whether this member joined it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Identity {
    cluster: Option<Uuid>,
    joined: bool,
}

impl Session {
    pub(super) fn begin_monitor(&mut self, world: &World<'_>, form: Form, id: Value, params: &[Value]) {
        if let Err(fault) = self.try_begin_monitor(world, form, &id, params) {
            self.refuse(id, fault.to_json());
        }
    }

    fn try_begin_monitor(
        &mut self,
        world: &World<'_>,
        form: Form,
        id: &Value,
        params: &[Value],
    ) -> Result<(), Fault> {
        let (method, since) = match form {
            Form::Update => ("monitor", false),
            Form::Update2 => ("monitor_cond", false),
            Form::Update3 => ("monitor_cond_since", true),
        };
        let database = self.known_database(world, method, params)?;
        let (monitor, requests, last) = match params {
            [_, monitor, requests] if !since => (monitor, requests, None),
            [_, monitor, requests, last] if since => (monitor, requests, Some(last)),
            _ => return Err(Fault::syntax(&params.to_vec().into(), "invalid parameters")),
        };
        if !requests.is_object() {
            return Err(Fault::syntax(requests, "monitor-requests must be object"));
        }
        if self.monitor(monitor).is_some() {
            return Err(Fault::syntax(monitor, "duplicate monitor ID"));
        }
        if self.monitors.len() >= self.limits.monitors_max {
            let details = format!("a session has at most {} monitors", self.limits.monitors_max);
            return Err(Fault::new(ErrorKind::ResourcesExhausted, details));
        }
        let spec = Arc::new(Spec::from_json(database, form, requests)?);
        let last = last.map(read_txn_id).transpose()?;
        let at = match database {
            Database::Server => self.server_at.get_or_insert_with(|| world.server.clone()),
            _ => self.store_at.get_or_insert_with(|| world.store.state()),
        };
        let at = at.clone();
        self.monitors.push(Monitor { id: monitor.clone(), database, form, spec: spec.clone() });

        let mut head = reply_head(id);
        let Some(last) = last else {
            self.push(Piece::Dump(Box::new(Dump::new(spec, at, head, REPLY_REST.to_vec()))));
            return Ok(());
        };
        let now = txn_id(database, &at);
        match missed(world, database, &at, last) {
            Some(updates) => {
                head.extend_from_slice(b"[true,");
                json::uuid_text(&mut head, now);
                head.push(b',');
                head.extend(spec.updates(net(&updates)).unwrap_or_else(|| b"{}".to_vec()));
                head.push(b']');
                head.extend_from_slice(REPLY_REST);
                self.send(head);
            }
            None => {
                head.extend_from_slice(b"[false,");
                json::uuid_text(&mut head, now);
                head.push(b',');
                let rest = [b"]".as_slice(), REPLY_REST].concat();
                self.push(Piece::Dump(Box::new(Dump::new(spec, at, head, rest))));
            }
        }
        Ok(())
    }

    pub(super) fn change_monitor(&mut self, params: &[Value]) -> Result<Value, Value> {
        let [id, new_id, requests] = params else {
            return Err(syntax(params.to_vec(), "invalid parameters"));
        };
        let place = self.monitor(id);
        let place = place.ok_or_else(|| Fault::syntax(id, "unknown monitor session").to_json())?;
        if id != new_id && self.monitor(new_id).is_some() {
            return Err(Fault::syntax(new_id, "duplicate monitor ID").to_json());
        }
        let monitor = &mut self.monitors[place];
        let changed = monitor.spec.with_conditions(monitor.database, requests);
        let former =
            std::mem::replace(&mut monitor.spec, Arc::new(changed.map_err(|fault| fault.to_json())?));
        monitor.id.clone_from(new_id);
        let at = match monitor.database {
            Database::Server => &self.server_at,
            _ => &self.store_at,
        };
        // The difference goes before the reply.
        if let Some(at) = at
            && let Some(updates) = monitor.spec.condition_updates(&former, at.rows())
        {
            let message = monitor.message(txn_id(monitor.database, at), &updates);
            self.send(message);
        }
        Ok(json!({}))
    }

    pub(super) fn cancel_monitor(&mut self, params: &[Value]) -> Result<Value, Value> {
        let [id] = params else { return Err("invalid parameters".into()) };
        let place = self.monitor(id).ok_or("unknown monitor")?;
        self.monitors.remove(place);
        // Without monitors there is no snapshot to hold on to.
        let of_server = |monitor: &Monitor| monitor.database == Database::Server;
        if !self.monitors.iter().any(of_server) {
            self.server_at = None;
        }
        if self.monitors.iter().all(of_server) {
            self.store_at = None;
        }
        Ok(json!({}))
    }

    /// Shows the monitors what happened, and gives the replies that waited for it.
    pub(super) fn follow(&mut self, now: Instant, world: &World<'_>) {
        self.follow_server(world);
        self.follow_store(world);
        self.answer(self.shown());
        self.retry(now, world);
    }

    /// The revision that the session's monitors have shown.
    pub(super) fn shown(&self) -> u64 {
        self.store_at.as_ref().map_or(u64::MAX, |at| at.revision())
    }

    /// Whether the store no longer knows what came after what was shown.
    pub fn fell_behind(&self, world: &World<'_>) -> bool {
        let token = self.store_at.as_ref().and_then(|at| ResumeToken::of(at));
        token.is_some_and(|token| world.store.since(&token).1.is_none())
    }

    fn follow_server(&mut self, world: &World<'_>) {
        let identity = Identity::of(self.database, world.server);
        let former = self.identity.replace(identity);
        if former.is_some_and(|former| former != identity) && !self.aware {
            return self.close(Reason::DatabaseChanged { database: self.database.name() });
        }
        let Some(at) = &self.server_at else { return };
        if Arc::ptr_eq(at, world.server) {
            return;
        }
        let at = std::mem::replace(self.server_at.get_or_insert_default(), world.server.clone());
        self.show(Database::Server, Uuid::nil(), |spec| between(spec, at.rows(), world.server.rows()));
    }

    fn follow_store(&mut self, world: &World<'_>) {
        let Some(at) = self.store_at.clone() else { return };
        let token = ResumeToken::of(&at);
        let (state, known) = match &token {
            Some(token) => world.store.since(token),
            None => (world.store.state(), None),
        };
        if Arc::ptr_eq(&at, &state) {
            return;
        }
        match (known, token) {
            (Some(transactions), Some(token)) => {
                for transaction in &transactions {
                    let revision = transaction.revision;
                    let id = token::txn_id(&ResumeToken { revision, ..token });
                    self.show(self.database, id, |_| transaction.touched.iter().map(Change::from).collect());
                    self.answer(revision);
                }
            }
            // A snapshot was installed, or the store began anew: the difference is told at once.
            _ => {
                let id = txn_id(self.database, &state);
                self.show(self.database, id, |spec| between(spec, at.rows(), state.rows()));
            }
        }
        self.store_at = Some(state);
    }

    /// Sends each monitor of a database its updates.
    fn show<'a>(&mut self, database: Database, id: Uuid, changes: impl Fn(&Spec) -> Vec<Change<'a>>) {
        let mut messages = Vec::new();
        for monitor in self.monitors.iter().filter(|monitor| monitor.database == database) {
            if let Some(updates) = monitor.spec.updates(changes(&monitor.spec)) {
                messages.push(monitor.message(id, &updates));
            }
        }
        messages.into_iter().for_each(|message| self.send(message));
    }

    fn monitor(&self, id: &Value) -> Option<usize> {
        self.monitors.iter().position(|monitor| monitor.id == *id)
    }
}

impl Monitor {
    /// The notification that carries these updates.
    fn message(&self, last: Uuid, updates: &[u8]) -> Vec<u8> {
        let method = match self.form {
            Form::Update => "update",
            Form::Update2 => "update2",
            Form::Update3 => "update3",
        };
        let mut out = Vec::with_capacity(updates.len() + 128);
        out.extend_from_slice(b"{\"id\":null,\"method\":\"");
        out.extend_from_slice(method.as_bytes());
        out.extend_from_slice(b"\",\"params\":[");
        json::value(&mut out, &self.id);
        out.push(b',');
        if self.form == Form::Update3 {
            json::uuid_text(&mut out, last);
            out.push(b',');
        }
        out.extend_from_slice(updates);
        out.extend_from_slice(b"]}");
        out
    }
}

impl Identity {
    fn of(database: Database, server: &State) -> Self {
        let row = server.iter::<ServedDatabase>().find(|(_, row)| *row.name == *database.name());
        let row = row.map(|(_, row)| row);
        Self { cluster: row.and_then(|row| row.cid), joined: row.is_some_and(|row| row.schema.is_some()) }
    }
}

/// The `last-txn-id` of a state.
fn txn_id(database: Database, state: &State) -> Uuid {
    let token = if database == Database::Server { None } else { ResumeToken::of(state) };
    token.map_or(Uuid::nil(), |token| token::txn_id(&token))
}

/// What a client that saw `last` missed until `at`; `None` when that is not known.
fn missed(
    world: &World<'_>,
    database: Database,
    at: &State,
    last: Uuid,
) -> Option<Vec<Arc<crate::store::Transaction>>> {
    if database == Database::Server {
        return None;
    }
    let from = token::resume(last, &ResumeToken::of(at)?)?;
    let mut transactions = world.store.since(&from).1?;
    transactions.retain(|transaction| transaction.revision <= at.revision());
    Some(transactions)
}

fn read_txn_id(json: &Value) -> Result<Uuid, Fault> {
    let text = json.as_str().ok_or_else(|| Fault::syntax(json, "last-txn-id must be string"))?;
    parse_uuid(text).map_err(|_| Fault::syntax(json, "last-txn-id must be UUID format."))
}
