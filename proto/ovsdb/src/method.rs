//! The methods of the protocol: requests, replies and notifications (RFC 7047, section 4.1; ovsdb-server(7), section 4.1).
//!
//! # Contract
//! Both roles: a client prints what a server reads, and the other way round. What one operation of `transact` holds is
//! read later, one by one, because a malformed operation fails alone: the ones before it have results.
//!
//! # Invariants
//! - `Request::from_parts` undoes `Request::into_message`; likewise for notifications.
//! - Ids are JSON values and compared as such: libovsdb's are objects.

use serde_json::Value;
use uuid::Uuid;

use crate::json::parse_uuid;
use crate::jsonrpc::Message;
use crate::members::{RequestError, array, boolean, exactly, object, string, strings};
use crate::monitor::{MonitorRequest, MonitorRequests, RowUpdate, RowUpdate2, TableUpdates};
use crate::operation::Operation;

/// What a client asks of a server; `echo` goes both ways.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Names of the databases.
    ListDbs,
    /// A database's schema.
    GetSchema {
        /// The database.
        db: String,
    },
    /// Operations that happen together or not at all.
    Transact {
        /// The database.
        db: String,
        /// Each for [`Operation::from_json`].
        operations: Vec<Value>,
    },
    /// Tell me the rows and their changes as `update`.
    Monitor {
        /// The database.
        db: String,
        /// Chosen by the client.
        id: Value,
        /// Which rows.
        requests: MonitorRequests,
    },
    /// Tell me the rows and their changes as `update2`.
    MonitorCond {
        /// The database.
        db: String,
        /// Chosen by the client.
        id: Value,
        /// Which rows.
        requests: MonitorRequests,
    },
    /// Tell me the changes since a transaction, and later ones as `update3`.
    MonitorCondSince {
        /// The database.
        db: String,
        /// Chosen by the client.
        id: Value,
        /// Which rows.
        requests: MonitorRequests,
        /// The last transaction seen; the nil UUID if none.
        last_txn_id: Uuid,
    },
    /// Other conditions for a monitor.
    MonitorCondChange {
        /// The monitor.
        id: Value,
        /// Its new id.
        new_id: Value,
        /// The new conditions.
        requests: MonitorRequests,
    },
    /// Ends a monitor.
    MonitorCancel {
        /// The monitor.
        id: Value,
    },
    /// Asks for a lock.
    Lock {
        /// The lock.
        name: String,
    },
    /// Takes a lock away from whoever has it.
    Steal {
        /// The lock.
        name: String,
    },
    /// Gives a lock back.
    Unlock {
        /// The lock.
        name: String,
    },
    /// Are you there?
    Echo {
        /// Come back as they are.
        params: Vec<Value>,
    },
    /// Keep the connection when databases come, go or change.
    SetDbChangeAware {
        /// Whether to.
        aware: bool,
    },
    /// Which server process is this?
    GetServerId,
    /// Changes a database's schema.
    Convert {
        /// The database.
        db: String,
        /// The new schema.
        schema: Value,
    },
    /// To be answered with `"unknown method"`.
    Unknown {
        /// The method.
        method: String,
    },
}

impl Request {
    /// A transaction.
    pub fn transact<'a>(db: impl Into<String>, operations: impl IntoIterator<Item = &'a Operation>) -> Self {
        Self::Transact { db: db.into(), operations: operations.into_iter().map(Operation::to_json).collect() }
    }

    /// The method's name.
    pub fn method(&self) -> &str {
        match self {
            Self::ListDbs => "list_dbs",
            Self::GetSchema { .. } => "get_schema",
            Self::Transact { .. } => "transact",
            Self::Monitor { .. } => "monitor",
            Self::MonitorCond { .. } => "monitor_cond",
            Self::MonitorCondSince { .. } => "monitor_cond_since",
            Self::MonitorCondChange { .. } => "monitor_cond_change",
            Self::MonitorCancel { .. } => "monitor_cancel",
            Self::Lock { .. } => "lock",
            Self::Steal { .. } => "steal",
            Self::Unlock { .. } => "unlock",
            Self::Echo { .. } => "echo",
            Self::SetDbChangeAware { .. } => "set_db_change_aware",
            Self::GetServerId => "get_server_id",
            Self::Convert { .. } => "convert",
            Self::Unknown { method } => method,
        }
    }

    /// Reads a request.
    pub fn from_parts(method: &str, params: Vec<Value>) -> Result<Self, RequestError> {
        Ok(match method {
            "list_dbs" => exactly("list_dbs", params).map(|[]: [Value; 0]| Self::ListDbs)?,
            "get_schema" => {
                let [db] = exactly("get_schema", params)?;
                Self::GetSchema { db: string("get_schema", db)? }
            }
            "transact" => {
                let mut params = params.into_iter();
                let db =
                    params.next().ok_or(RequestError::Count { what: "transact", expected: 1, got: 0 })?;
                Self::Transact { db: string("transact", db)?, operations: params.collect() }
            }
            "monitor" => {
                let [db, id, requests] = exactly("monitor", params)?;
                Self::Monitor {
                    db: string("monitor", db)?,
                    id,
                    requests: MonitorRequest::map_from_json(requests)?,
                }
            }
            "monitor_cond" => {
                let [db, id, requests] = exactly("monitor_cond", params)?;
                let requests = MonitorRequest::map_from_json(requests)?;
                Self::MonitorCond { db: string("monitor_cond", db)?, id, requests }
            }
            "monitor_cond_since" => {
                let [db, id, requests, last] = exactly("monitor_cond_since", params)?;
                let requests = MonitorRequest::map_from_json(requests)?;
                let last_txn_id = txn_id(last)?;
                Self::MonitorCondSince { db: string("monitor_cond_since", db)?, id, requests, last_txn_id }
            }
            "monitor_cond_change" => {
                let [id, new_id, requests] = exactly("monitor_cond_change", params)?;
                Self::MonitorCondChange { id, new_id, requests: MonitorRequest::map_from_json(requests)? }
            }
            "monitor_cancel" => exactly("monitor_cancel", params).map(|[id]| Self::MonitorCancel { id })?,
            "lock" => Self::Lock { name: lock_name("lock", params)? },
            "steal" => Self::Steal { name: lock_name("steal", params)? },
            "unlock" => Self::Unlock { name: lock_name("unlock", params)? },
            "echo" => Self::Echo { params },
            "set_db_change_aware" => {
                let [aware] = exactly("set_db_change_aware", params)?;
                Self::SetDbChangeAware { aware: boolean("set_db_change_aware", &aware)? }
            }
            "get_server_id" => Self::GetServerId,
            "convert" => {
                let [db, schema] = exactly("convert", params)?;
                Self::Convert { db: string("convert", db)?, schema }
            }
            _ => Self::Unknown { method: method.to_owned() },
        })
    }

    /// The parameters.
    pub fn into_params(self) -> Vec<Value> {
        match self {
            Self::ListDbs | Self::GetServerId | Self::Unknown { .. } => Vec::new(),
            Self::GetSchema { db } => vec![db.into()],
            Self::Transact { db, operations } => std::iter::once(db.into()).chain(operations).collect(),
            Self::Monitor { db, id, requests } | Self::MonitorCond { db, id, requests } => {
                vec![db.into(), id, MonitorRequest::map_to_json(&requests)]
            }
            Self::MonitorCondSince { db, id, requests, last_txn_id } => {
                vec![db.into(), id, MonitorRequest::map_to_json(&requests), last_txn_id.to_string().into()]
            }
            Self::MonitorCondChange { id, new_id, requests } => {
                vec![id, new_id, MonitorRequest::map_to_json(&requests)]
            }
            Self::MonitorCancel { id } => vec![id],
            Self::Lock { name } | Self::Steal { name } | Self::Unlock { name } => vec![name.into()],
            Self::Echo { params } => params,
            Self::SetDbChangeAware { aware } => vec![aware.into()],
            Self::Convert { db, schema } => vec![db.into(), schema],
        }
    }

    /// The message to send.
    pub fn into_message(self, id: impl Into<Value>) -> Message {
        let method = self.method().to_owned();
        Message::Request { id: id.into(), method, params: self.into_params() }
    }
}

/// What a peer tells without being asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Notification {
    /// Rows of a `monitor` changed.
    Update {
        /// The monitor.
        id: Value,
        /// The rows.
        updates: TableUpdates<RowUpdate>,
    },
    /// Rows of a `monitor_cond` changed.
    Update2 {
        /// The monitor.
        id: Value,
        /// The rows.
        updates: TableUpdates<RowUpdate2>,
    },
    /// Rows of a `monitor_cond_since` changed.
    Update3 {
        /// The monitor.
        id: Value,
        /// The transaction after which it is so.
        last_txn_id: Uuid,
        /// The rows.
        updates: TableUpdates<RowUpdate2>,
    },
    /// The lock is yours now.
    Locked {
        /// The lock.
        name: String,
    },
    /// The lock is no longer yours.
    Stolen {
        /// The lock.
        name: String,
    },
    /// The server ended a monitor, because its database went or changed.
    MonitorCanceled {
        /// The monitor.
        id: Value,
    },
    /// The client does not want a transaction's outcome any more.
    Cancel {
        /// The id of the transact request.
        id: Value,
    },
    /// To be ignored.
    Unknown {
        /// The method.
        method: String,
    },
}

impl Notification {
    /// The method's name.
    pub fn method(&self) -> &str {
        match self {
            Self::Update { .. } => "update",
            Self::Update2 { .. } => "update2",
            Self::Update3 { .. } => "update3",
            Self::Locked { .. } => "locked",
            Self::Stolen { .. } => "stolen",
            Self::MonitorCanceled { .. } => "monitor_canceled",
            Self::Cancel { .. } => "cancel",
            Self::Unknown { method } => method,
        }
    }

    /// Reads a notification.
    pub fn from_parts(method: &str, params: Vec<Value>) -> Result<Self, RequestError> {
        Ok(match method {
            "update" => {
                let [id, updates] = exactly("update", params)?;
                Self::Update { id, updates: TableUpdates::from_json(updates)? }
            }
            "update2" => {
                let [id, updates] = exactly("update2", params)?;
                Self::Update2 { id, updates: TableUpdates::from_json(updates)? }
            }
            "update3" => {
                let [id, last, updates] = exactly("update3", params)?;
                Self::Update3 { id, last_txn_id: txn_id(last)?, updates: TableUpdates::from_json(updates)? }
            }
            "locked" => Self::Locked { name: lock_name("locked", params)? },
            "stolen" => Self::Stolen { name: lock_name("stolen", params)? },
            "monitor_canceled" => {
                exactly("monitor_canceled", params).map(|[id]| Self::MonitorCanceled { id })?
            }
            "cancel" => exactly("cancel", params).map(|[id]| Self::Cancel { id })?,
            _ => Self::Unknown { method: method.to_owned() },
        })
    }

    /// The message to send.
    pub fn into_message(self) -> Message {
        let method = self.method().to_owned();
        let params = match self {
            Self::Update { id, updates } => vec![id, updates.to_json()],
            Self::Update2 { id, updates } => vec![id, updates.to_json()],
            Self::Update3 { id, last_txn_id, updates } => {
                vec![id, last_txn_id.to_string().into(), updates.to_json()]
            }
            Self::Locked { name } | Self::Stolen { name } => vec![name.into()],
            Self::MonitorCanceled { id } | Self::Cancel { id } => vec![id],
            Self::Unknown { .. } => Vec::new(),
        };
        Message::Notification { method, params }
    }
}

/// The reply to `monitor_cond_since`.
#[derive(Clone, Debug, PartialEq)]
pub struct SinceReply {
    /// Whether the transaction asked for is in the server's history; if not, the updates are all rows there are.
    pub found: bool,
    /// The transaction after which it is so.
    pub last_txn_id: Uuid,
    /// The rows.
    pub updates: TableUpdates<RowUpdate2>,
}

impl SinceReply {
    /// Reads the reply.
    pub fn from_json(json: Value) -> Result<Self, RequestError> {
        let [found, last, updates] = exactly("monitor_cond_since", array("monitor_cond_since", json)?)?;
        Ok(Self {
            found: boolean("found", &found)?,
            last_txn_id: txn_id(last)?,
            updates: TableUpdates::from_json(updates)?,
        })
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        Value::from(vec![self.found.into(), self.last_txn_id.to_string().into(), self.updates.to_json()])
    }
}

/// Reads the reply to `list_dbs`.
pub fn list_dbs_reply(json: Value) -> Result<Vec<String>, RequestError> {
    strings("list_dbs", json)
}

/// Reads the reply to `lock` and `steal`: whether the lock is ours.
pub fn lock_reply(json: Value) -> Result<bool, RequestError> {
    let mut members = object("lock", json)?;
    let locked = members.remove("locked");
    boolean("locked", &locked.ok_or(RequestError::Missing { what: "lock", member: "locked" })?)
}

fn lock_name(what: &'static str, params: Vec<Value>) -> Result<String, RequestError> {
    let [name] = exactly(what, params)?;
    string(what, name)
}

fn txn_id(json: Value) -> Result<Uuid, RequestError> {
    let text = string("last-txn-id", json)?;
    parse_uuid(&text).map_err(|source| RequestError::Value { what: "last-txn-id", source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_are_read_and_written_back() {
        let zero = Uuid::nil().to_string();
        for (method, params) in [
            ("list_dbs", json!([])),
            ("get_schema", json!(["D"])),
            ("transact", json!(["D", {"op": "abort"}])),
            ("monitor", json!(["D", null, {"T": [{}]}])),
            ("monitor_cond", json!(["D", "x", {"T": [{"where": [false]}]}])),
            ("monitor_cond_since", json!(["D", {"databaseName": "D", "id": "1"}, {}, zero])),
            ("monitor_cond_change", json!(["x", "y", {"T": [{"where": [["a", "==", 1]]}]}])),
            ("monitor_cancel", json!(["x"])),
            ("lock", json!(["l"])),
            ("steal", json!(["l"])),
            ("unlock", json!(["l"])),
            ("echo", json!([1, null, {"a": "b"}])),
            ("set_db_change_aware", json!([true])),
            ("get_server_id", json!([])),
            ("convert", json!(["D", {"name": "D"}])),
            ("what", json!([])),
        ] {
            let Value::Array(list) = params.clone() else { panic!("parameters are arrays") };
            let request = Request::from_parts(method, list).unwrap();
            let message = request.into_message(7).to_json();
            assert_eq!(message, json!({"id": 7, "method": method, "params": params}));
        }
    }

    #[test]
    fn notifications_are_read_and_written_back() {
        let zero = Uuid::nil().to_string();
        for (method, params) in [
            ("update", json!(["m", {"T": {zero.clone(): {"new": {}}}}])),
            ("update2", json!(["m", {"T": {zero.clone(): {"delete": null}}}])),
            ("update3", json!([["m"], zero, {}])),
            ("locked", json!(["l"])),
            ("stolen", json!(["l"])),
            ("monitor_canceled", json!(["m"])),
            ("cancel", json!([4])),
            ("what", json!([])),
        ] {
            let Value::Array(list) = params.clone() else { panic!("parameters are arrays") };
            let message = Notification::from_parts(method, list).unwrap().into_message().to_json();
            assert_eq!(message, json!({"id": null, "method": method, "params": params}));
        }
    }

    #[test]
    fn wrong_parameters_are_named() {
        let error = Request::from_parts("lock", vec![]).unwrap_err();
        assert_eq!(error.to_string(), "lock: expected 1 parameters, got 0");
        let error =
            Request::from_parts("monitor_cond_since", vec!["D".into(), 1.into(), json!({}), "x".into()]);
        assert_eq!(error.unwrap_err().to_string(), r#"last-txn-id: expected a uuid, got "x""#);
    }

    #[test]
    fn since_reply_is_read_and_written_back() {
        let json = json!([false, Uuid::nil().to_string(), {}]);
        assert_eq!(SinceReply::from_json(json.clone()).unwrap().to_json(), json);
        assert_eq!(lock_reply(json!({"locked": true})), Ok(true));
    }
}
