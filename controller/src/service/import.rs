//! `ImportRows`: the rows of another installation, as one transaction.
//!
//! # Contract
//! - In: rows of OVN_Northbound with their uuids, and the tunnel keys that they had. Out: the same rows here, lowered
//!   as if clients had made them, with those keys: the bindings are put in place before lowering looks, which keeps
//!   the key of a binding that is there. No column that clients see is touched for it.
//! - What is there goes, if the request says so; what intent owns stays, and an import that would write it is refused.
//!
//! # Invariants
//! - All or nothing: a row or a key that cannot be had refuses the import and names it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use ovsdb::value::Datum;
use quantumnet_api::v1::{ImportRowsRequest, ImportedCount};
use quantumnet_model::{
    Database, Row, Strong, Uuid,
    nb::{LogicalSwitch, LogicalSwitchPort, NbGlobal},
    row::{DynRow, TableId},
    sb::{DatapathBinding, PortBinding},
    tables,
};
use serde_json::{Map, Value};

use crate::{
    ipam::range::Run,
    lower::{self, keys, owner::owner},
    service::{database::table, error::invalid},
    store::{self, Class, Refusal, State, Txn, evaluate},
};

/// Rows that were read and fit their tables.
pub(super) struct Import {
    rows: BTreeMap<(TableId, Uuid), Arc<dyn DynRow>>,
    keys: BTreeMap<Uuid, u32>,
    replace: bool,
}

impl Import {
    /// Reads the request; refuses what does not fit the declarations.
    pub(super) fn new(request: ImportRowsRequest) -> Result<Self, Refusal> {
        let mut rows = BTreeMap::new();
        for (place, row) in request.rows.iter().enumerate() {
            let at = |field: &str| format!("rows[{place}].{field}");
            let id = table(Database::Northbound, &row.table, &at("table"))?;
            let uuid = uuid(&row.uuid, &at("uuid"))?;
            let decl = tables::decl(id);
            let columns: Map<String, Value> = serde_json::from_str(&row.columns)
                .map_err(|error| invalid(at("columns"), "JSON_INVALID", error.to_string()))?;
            let mut made = (decl.new_row)();
            for (name, json) in &columns {
                let wrong = |message: String| {
                    let message = format!("{} {uuid} column {name:?}: {message}", decl.name);
                    invalid(at("columns"), "COLUMN_INVALID", message)
                };
                let column = decl.column(name).ok_or_else(|| wrong("there is no such column".to_owned()))?;
                let datum = Datum::from_json(json, &decl.column_decl(column).ty)
                    .map_err(|error| wrong(error.to_string()))?;
                if !made.set_datum(column, &datum) {
                    return Err(wrong(format!("{datum} is not of its type")));
                }
            }
            if rows.insert((id, uuid), Arc::from(made)).is_some() {
                let message = format!("{} {uuid} comes twice", decl.name);
                return Err(invalid(at("uuid"), "ROW_REPEATED", message));
            }
        }
        let mut keys = BTreeMap::new();
        for (place, key) in request.keys.iter().enumerate() {
            keys.insert(uuid(&key.uuid, &format!("keys[{place}].uuid"))?, key.key);
        }
        Ok(Self { rows, keys, replace: request.replace })
    }

    /// How many rows of which table.
    pub(super) fn counts(&self) -> Vec<ImportedCount> {
        let mut counts: BTreeMap<TableId, u64> = BTreeMap::new();
        for (table, _) in self.rows.keys() {
            *counts.entry(*table).or_default() += 1;
        }
        let count = |(table, rows)| ImportedCount { table: tables::decl(table).name.into(), rows };
        counts.into_iter().map(count).collect()
    }

    /// Does all of it on a copy; returns the revision of the state and how many keys would be kept.
    pub(super) fn try_on(self, state: &State, principal: Arc<str>) -> Result<(u64, u64), Refusal> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let context = store::Context { now_ms, principal };
        let tried = evaluate(state, &context, |txn| self.apply(txn), &lower::run)?;
        Ok((state.revision(), tried.result))
    }

    /// The transaction; returns how many keys are kept.
    pub(super) fn apply(self, txn: &mut Txn<'_>) -> Result<u64, Refusal> {
        self.make_room(txn)?;
        for ((table, uuid), row) in &self.rows {
            if let Some(owner) = owner(txn.state(), *table, *uuid) {
                let message = format!("row {uuid} of table {} belongs to {owner}", tables::decl(*table).name);
                return Err(Refusal::service(Class::FailedPrecondition, "OWNED_BY_INTENT", message)
                    .blocked_by([owner]));
            }
            txn.put_dyn(*uuid, row.clone());
        }
        self.take_keys(txn)
    }

    /// Deletes what is there and not owned by intent, with the bindings of what does not come back.
    fn make_room(&self, txn: &mut Txn<'_>) -> Result<(), Refusal> {
        let tables = tables::ids().filter(|id| tables::decl(*id).database == Database::Northbound);
        let present: Vec<(TableId, Uuid)> =
            tables.flat_map(|table| txn.rows().table(table).keys().map(move |uuid| (table, *uuid))).collect();
        // The one row that every database has does not make it used.
        if !self.replace
            && let Some((table, uuid)) = present.iter().find(|(table, _)| *table != NbGlobal::TABLE)
        {
            let name = tables::decl(*table).name;
            let message = format!(
                "the database is not empty ({name} {uuid}, and perhaps more); say that it may be replaced"
            );
            return Err(
                Refusal::service(Class::FailedPrecondition, "DATABASE_NOT_EMPTY", message).at("replace")
            );
        }
        let imports_global = self.rows.keys().any(|(table, _)| *table == NbGlobal::TABLE);
        for (table, uuid) in present {
            if owner(txn.state(), table, uuid).is_some() || table == NbGlobal::TABLE && !imports_global {
                continue;
            }
            txn.delete_dyn(table, uuid);
            // Bindings go now and not when it is lowered, so that a row that comes can have the key of one that goes.
            if table == LogicalSwitchPort::TABLE
                && let Some(binding) = txn.get::<PortBinding>(uuid).cloned()
            {
                let switch = binding.datapath.uuid();
                if !self.comes::<LogicalSwitchPort>(uuid) || !self.comes::<LogicalSwitch>(switch) {
                    release(txn, &keys::ports_of(switch), binding.tunnel_key);
                    txn.delete::<PortBinding>(uuid);
                }
            } else if table == LogicalSwitch::TABLE
                && !self.comes::<LogicalSwitch>(uuid)
                && let Some(key) = txn.get::<DatapathBinding>(uuid).map(|datapath| datapath.tunnel_key)
            {
                release(txn, keys::DATAPATHS, key);
                keys::forget(txn, &keys::ports_of(uuid));
                txn.delete::<DatapathBinding>(uuid);
            }
        }
        Ok(())
    }

    fn comes<T: Row>(&self, uuid: Uuid) -> bool {
        self.rows.contains_key(&(T::TABLE, uuid))
    }

    /// Gives switches and ports the keys that they had.
    fn take_keys(&self, txn: &mut Txn<'_>) -> Result<u64, Refusal> {
        let mut wanted = Vec::new();
        for (uuid, key) in &self.keys {
            if txn.get::<LogicalSwitch>(*uuid).is_some() {
                wanted.push((Place::Switch(*uuid), *key));
            } else if let Some(port) = txn.get::<LogicalSwitchPort>(*uuid) {
                let name = port.name.clone();
                let switch = txn.referrers_through::<LogicalSwitchPort, LogicalSwitch>(*uuid, "ports").next();
                // A port that no switch lists is not kept, whatever its key.
                wanted.extend(switch.map(|switch| (Place::Port { uuid: *uuid, switch, name }, *key)));
            }
        }
        let kept = wanted.len() as u64;
        wanted.retain(|(place, key)| place.present(txn) != Some(i64::from(*key)));
        // All that change are given back before any is taken: two may exchange theirs.
        for (place, _) in &wanted {
            if let Some(key) = place.present(txn) {
                release(txn, &place.pool(), key);
            }
        }
        // Switches before their ports, whose bindings refer to theirs.
        for (place, key) in wanted.iter().filter(|(place, _)| matches!(place, Place::Switch(_))) {
            place.take(txn, *key)?;
        }
        for (place, key) in wanted.iter().filter(|(place, _)| matches!(place, Place::Port { .. })) {
            place.take(txn, *key)?;
        }
        Ok(kept)
    }
}

/// What a key is for.
enum Place {
    Switch(Uuid),
    Port { uuid: Uuid, switch: Uuid, name: quantumnet_model::column::Text },
}

impl Place {
    const fn uuid(&self) -> Uuid {
        match self {
            Self::Switch(uuid) | Self::Port { uuid, .. } => *uuid,
        }
    }

    fn present(&self, txn: &Txn<'_>) -> Option<i64> {
        match self {
            Self::Switch(uuid) => txn.get::<DatapathBinding>(*uuid).map(|row| row.tunnel_key),
            Self::Port { uuid, switch, .. } => {
                let binding = txn.get::<PortBinding>(*uuid)?;
                (binding.datapath.uuid() == *switch).then_some(binding.tunnel_key)
            }
        }
    }

    fn pool(&self) -> String {
        match self {
            Self::Switch(_) => keys::DATAPATHS.to_owned(),
            Self::Port { switch, .. } => keys::ports_of(*switch),
        }
    }

    const fn range(&self) -> Run {
        match self {
            Self::Switch(_) => keys::DATAPATH_KEYS,
            Self::Port { .. } => keys::PORT_KEYS,
        }
    }

    fn take(&self, txn: &mut Txn<'_>, key: u32) -> Result<(), Refusal> {
        let range = self.range();
        let refused = |why: String| {
            let message = format!("tunnel key {key} of {}: {why}", self.uuid());
            Refusal::service(Class::FailedPrecondition, "TUNNEL_KEY_UNAVAILABLE", message).at("keys")
        };
        if !(range.0..=range.1).contains(&u128::from(key)) {
            return Err(refused(format!("keys are from {} to {}", range.0, range.1)));
        }
        keys::take(txn, &self.pool(), range, key.into()).map_err(|error| refused(error.to_string()))?;
        let tunnel_key = i64::from(key);
        match self {
            Self::Switch(uuid) => {
                let present = txn.get::<DatapathBinding>(*uuid).cloned().unwrap_or_default();
                txn.put(*uuid, DatapathBinding { tunnel_key, ..present });
            }
            Self::Port { uuid, switch, name } => {
                if txn.get::<DatapathBinding>(*switch).is_none() {
                    return Err(refused(format!("its switch {switch} comes without a key")));
                }
                let present = txn.get::<PortBinding>(*uuid).cloned().unwrap_or_default();
                let (datapath, logical_port) = (Strong::new(*switch), name.clone());
                txn.put(*uuid, PortBinding { tunnel_key, datapath, logical_port, ..present });
            }
        }
        Ok(())
    }
}

fn release(txn: &mut Txn<'_>, pool: &str, key: i64) {
    if let Ok(key) = u128::try_from(key) {
        keys::release(txn, pool, key);
    }
}

fn uuid(text: &str, field: &str) -> Result<Uuid, Refusal> {
    text.parse().map_err(|_| invalid(field, "UUID_INVALID", format!("{text:?} is no uuid")))
}
