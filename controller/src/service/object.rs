//! What projects, networks, ports, routers and floating addresses have in common as rows.

use std::collections::BTreeMap;

use imbl::OrdMap;
use quantumnet_api::v1::{ObjectMeta, ObjectRef};
use quantumnet_model::{
    Row, Uuid,
    column::Text,
    intent::{FloatingIp, Port, Project, Router, SecurityGroup, SecurityPolicy, VirtualNetwork},
    nb::PortGroup,
    row::TableId,
};

use crate::{
    replica::DEFAULT_PROJECT,
    service::error::invalid,
    store::{Class, Refusal, State, Touched, Txn},
};

/// A row that clients know as an object.
pub(super) trait Object: Row {
    /// As in `Port web-1 (uuid)`.
    const WORD: &'static str;
    /// What clients are sent.
    type Message: Clone + Send + 'static;
    /// Tables whose row of the same uuid shows in the message, its own among them.
    const TABLES: &'static [TableId];
    /// The object that counts the row among what it holds, if the row came or went.
    fn counted_in(_: &Touched) -> Option<Uuid> {
        None
    }
    fn project(&self) -> Option<Uuid>;
    fn name(&self) -> &Text;
    fn labels(&self) -> &OrdMap<Text, Text>;
    fn stamp(&mut self) -> Stamp<'_>;
    fn revision(&self) -> i64;
    fn times(&self) -> (i64, i64);
    fn description(&self) -> &Text;
    /// The object as it is in the state.
    fn message(&self, uuid: Uuid, state: &State) -> Self::Message;
}

/// Columns that every object has.
pub(super) struct Stamp<'a> {
    pub(super) name: &'a mut Text,
    pub(super) description: &'a mut Text,
    pub(super) labels: &'a mut OrdMap<Text, Text>,
    pub(super) created_at: &'a mut i64,
    pub(super) updated_at: &'a mut i64,
    pub(super) revision: &'a mut i64,
}

macro_rules! common {
    () => {
        fn name(&self) -> &Text {
            &self.name
        }

        fn labels(&self) -> &OrdMap<Text, Text> {
            &self.labels
        }

        fn stamp(&mut self) -> Stamp<'_> {
            Stamp {
                name: &mut self.name,
                description: &mut self.description,
                labels: &mut self.labels,
                created_at: &mut self.created_at,
                updated_at: &mut self.updated_at,
                revision: &mut self.revision,
            }
        }

        fn revision(&self) -> i64 {
            self.revision
        }

        fn times(&self) -> (i64, i64) {
            (self.created_at, self.updated_at)
        }

        fn description(&self) -> &Text {
            &self.description
        }
    };
}

impl Object for Project {
    const WORD: &'static str = "Project";
    type Message = quantumnet_api::v1::Project;
    const TABLES: &'static [TableId] = &[Self::TABLE];

    fn project(&self) -> Option<Uuid> {
        None
    }

    fn message(&self, uuid: Uuid, _: &State) -> Self::Message {
        quantumnet_api::v1::Project { meta: Some(meta(self, uuid)) }
    }

    common!();
}

impl Object for VirtualNetwork {
    const WORD: &'static str = "VirtualNetwork";
    type Message = quantumnet_api::v1::VirtualNetwork;
    const TABLES: &'static [TableId] = &[Self::TABLE, quantumnet_model::sb::DatapathBinding::TABLE];

    fn counted_in(touched: &Touched) -> Option<Uuid> {
        match (touched.before::<Port>(), touched.after::<Port>()) {
            (None, Some(port)) | (Some(port), None) => Some(port.network.uuid()),
            _ => None,
        }
    }

    fn project(&self) -> Option<Uuid> {
        Some(self.project.uuid())
    }

    fn message(&self, uuid: Uuid, state: &State) -> Self::Message {
        super::network::message(self, uuid, state)
    }

    common!();
}

impl Object for Port {
    const WORD: &'static str = "Port";
    type Message = quantumnet_api::v1::Port;
    const TABLES: &'static [TableId] = &[Self::TABLE, quantumnet_model::sb::PortBinding::TABLE];

    fn project(&self) -> Option<Uuid> {
        Some(self.project.uuid())
    }

    fn message(&self, uuid: Uuid, state: &State) -> Self::Message {
        super::port::message(self, uuid, state)
    }

    common!();
}

impl Object for Router {
    const WORD: &'static str = "Router";
    type Message = quantumnet_api::v1::Router;
    const TABLES: &'static [TableId] = &[Self::TABLE, quantumnet_model::sb::DatapathBinding::TABLE];

    fn project(&self) -> Option<Uuid> {
        Some(self.project.uuid())
    }

    fn message(&self, uuid: Uuid, state: &State) -> Self::Message {
        super::router::message(self, uuid, state)
    }

    common!();
}

impl Object for FloatingIp {
    const WORD: &'static str = "FloatingIp";
    type Message = quantumnet_api::v1::FloatingIp;
    const TABLES: &'static [TableId] = &[Self::TABLE, quantumnet_model::nb::Nat::TABLE];

    fn project(&self) -> Option<Uuid> {
        Some(self.project.uuid())
    }

    fn message(&self, uuid: Uuid, state: &State) -> Self::Message {
        super::floating_ip::message(self, uuid, state)
    }

    common!();
}

/// A reference to an object as clients are sent it: by id, and by the names that people know.
pub(super) fn reference<T: Object>(state: &State, uuid: Uuid) -> ObjectRef {
    let row = state.get::<T>(uuid);
    let project = row.and_then(Object::project).and_then(|project| state.get::<Project>(project));
    ObjectRef {
        id: uuid.to_string(),
        name: row.map(|row| row.name().to_string()).unwrap_or_default(),
        project: project.map(|project| project.name.to_string()).unwrap_or_default(),
    }
}

impl Object for SecurityGroup {
    const WORD: &'static str = "SecurityGroup";
    type Message = quantumnet_api::v1::SecurityGroup;
    const TABLES: &'static [TableId] = &[Self::TABLE, PortGroup::TABLE];

    fn project(&self) -> Option<Uuid> {
        Some(self.project.uuid())
    }

    fn message(&self, uuid: Uuid, state: &State) -> Self::Message {
        super::security_group::message(self, uuid, state)
    }

    common!();
}

impl Object for SecurityPolicy {
    const WORD: &'static str = "SecurityPolicy";
    type Message = quantumnet_api::v1::SecurityPolicy;
    const TABLES: &'static [TableId] = &[Self::TABLE];

    fn project(&self) -> Option<Uuid> {
        Some(self.project.uuid())
    }

    fn message(&self, uuid: Uuid, state: &State) -> Self::Message {
        super::security_policy::message(self, uuid, state)
    }

    common!();
}

/// `ObjectMeta` of a row.
pub(super) fn meta<T: Object>(row: &T, uuid: Uuid) -> ObjectMeta {
    let (created_at, updated_at) = row.times();
    let labels: BTreeMap<String, String> =
        row.labels().iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    ObjectMeta {
        id: uuid.to_string(),
        name: row.name().to_string(),
        project: row.project().map(|project| project.to_string()).unwrap_or_default(),
        description: row.description().to_string(),
        labels,
        revision: u64::try_from(row.revision()).unwrap_or(0),
        created_at: Some(timestamp(created_at)),
        updated_at: Some(timestamp(updated_at)),
    }
}

/// Milliseconds since the epoch as the API has time.
pub(super) fn timestamp(ms: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(1_000) * 1_000_000).expect("less than a second");
    prost_types::Timestamp { seconds: ms.div_euclid(1_000), nanos }
}

/// `Port web-1 (uuid)`.
pub(super) fn named<T: Object>(state: &State, uuid: Uuid) -> String {
    let name = state.get::<T>(uuid).map_or("?", |row| row.name());
    format!("{} {name} ({uuid})", T::WORD)
}

/// The project of that id or name; `default` when the text is empty.
pub(super) fn project_of(state: &State, text: &str, field: &str) -> Result<Uuid, Refusal> {
    let text = if text.is_empty() { DEFAULT_PROJECT } else { text };
    let by_id = text.parse::<Uuid>().ok().filter(|uuid| state.get::<Project>(*uuid).is_some());
    by_id.or_else(|| state.find::<Project>(&[("name", text.into())])).ok_or_else(|| {
        let message = format!("there is no project {text:?}; create it first or name another");
        Refusal::service(Class::NotFound, "PROJECT_NOT_FOUND", message).at(field)
    })
}

/// The object that a reference names.
pub(super) fn find<T: Object>(
    state: &State,
    reference: Option<&ObjectRef>,
    field: &str,
) -> Result<Uuid, Refusal> {
    let missing = |what: String| {
        let message = format!("there is no {} {what}", T::WORD);
        Err(Refusal::service(Class::NotFound, "NOT_FOUND", message).at(field))
    };
    let empty = ObjectRef::default();
    let reference = reference.unwrap_or(&empty);
    if !reference.id.is_empty() {
        let Ok(uuid) = reference.id.parse::<Uuid>() else {
            let message = format!("{:?} is no UUID", reference.id);
            return Err(invalid(format!("{field}.id"), "ID_INVALID", message));
        };
        return if state.get::<T>(uuid).is_some() {
            Ok(uuid)
        } else {
            missing(format!("with the id {uuid}"))
        };
    }
    if reference.name.is_empty() {
        return Err(invalid(field, "REFERENCE_EMPTY", format!("name the {} by `id` or by `name`", T::WORD)));
    }
    let found = if T::TABLE == Project::TABLE {
        state.find::<T>(&[("name", reference.name.as_str().into())])
    } else {
        let project = project_of(state, &reference.project, &format!("{field}.project"))?;
        state.find::<T>(&[("project", project.into()), ("name", reference.name.as_str().into())])
    };
    found.map_or_else(|| missing(format!("named {:?}", reference.name)), Ok)
}

/// Refuses an object that changed since the client read it; 0 expects nothing.
pub(super) fn expect_revision<T: Object>(txn: &Txn<'_>, uuid: Uuid, expected: u64) -> Result<(), Refusal> {
    let got = txn.get::<T>(uuid).map_or(0, |row| u64::try_from(row.revision()).unwrap_or(0));
    if expected == 0 || expected == got {
        return Ok(());
    }
    Err(Refusal::StaleRevision { table: T::TABLE, row: uuid, expected, got })
}

/// Writes a row whose columns beside the stamp may have changed; the stamp follows if they have.
pub(super) fn rewrite<T: Object>(txn: &mut Txn<'_>, uuid: Uuid, row: T) {
    rewrite_if(txn, uuid, row, false);
}

/// As [`rewrite`]; `forced` stamps the row though it has not changed itself.
pub(super) fn rewrite_if<T: Object>(txn: &mut Txn<'_>, uuid: Uuid, mut row: T, forced: bool) {
    if !forced && txn.get::<T>(uuid) == Some(&row) {
        return;
    }
    let (now_ms, revision) = (txn.now_ms(), i64::try_from(txn.next_revision()).unwrap_or(i64::MAX));
    let stamp = row.stamp();
    *stamp.updated_at = now_ms;
    *stamp.revision = revision;
    txn.put(uuid, row);
}
