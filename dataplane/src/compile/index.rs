//! Rows with the indexes that stages look things up by, kept as rows change.
//!
//! # Invariants
//! - An index entry is the hash of the key; who looks up compares the rows, so that a collision costs time only.
//! - A column that holds a set is indexed by each of its elements: reverse references are indexes like others.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use ovsdb::value::{Atom, Datum};
use quantumnet_model::{
    ColumnId, DynRow, Row, Rows, TableId,
    host::{HostInterface, HostPatch, HostSelf, HostTunnel},
    nb::{ChassisTemplateVar, LogicalRouter, LogicalSwitch, Meter, NbGlobal, PortGroup, SamplingApp},
    sb::{AddressSet, Chassis, DatapathBinding, MacBinding, PortBinding},
    tables,
};
use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;
use uuid::Uuid;

/// An index, unique or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Index {
    /// The table.
    pub table: TableId,
    /// OVSDB names of the columns; none indexes all rows of the table under one key.
    pub columns: &'static [&'static str],
}

/// Declares the indexes and gives them numbers.
macro_rules! indexes {
    ($($(#[$doc:meta])* $name:ident = $row:ty, $columns:expr;)*) => {
        /// Numbers of the indexes, in the order of declaration.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[repr(u8)]
        pub enum By { $($(#[$doc])* $name,)* }
        /// All indexes.
        pub const INDEXES: &[Index] = &[$(Index { table: <$row as Row>::TABLE, columns: &$columns }),*];
    };
}

indexes! {
    /// The one row that says who this hypervisor is.
    HostSelf = HostSelf, [];
    /// The one row of global options.
    NbGlobal = NbGlobal, [];
    /// A chassis by its name.
    ChassisName = Chassis, ["name"];
    /// All chassis.
    AnyChassis = Chassis, [];
    /// An interface by the port it is for.
    InterfaceId = HostInterface, ["iface_id"];
    /// Tunnels by the chassis they lead to.
    TunnelChassis = HostTunnel, ["chassis"];
    /// Tunnels by the endpoint they lead to.
    TunnelEncap = HostTunnel, ["encap"];
    /// A switch by the key that packets carry.
    SwitchKey = DatapathBinding, ["tunnel_key"];
    /// A port by switch and the key that packets carry.
    PortKey = PortBinding, ["datapath", "tunnel_key"];
    /// A port by its name.
    LogicalPort = PortBinding, ["logical_port"];
    /// Ports of a switch or router by their type.
    DatapathType = PortBinding, ["datapath", "type"];
    /// Routers by a translation of theirs.
    RouterNat = LogicalRouter, ["nat"];
    /// Ports nested in another, by the other's name.
    ParentPort = PortBinding, ["parent_port"];
    /// Switches by an ACL of theirs.
    SwitchAcls = LogicalSwitch, ["acls"];
    /// Port groups by an ACL of theirs.
    GroupAcls = PortGroup, ["acls"];
    /// Port groups by a member.
    PortGroups = PortGroup, ["ports"];
    /// A port group by its name.
    GroupName = PortGroup, ["name"];
    /// Switches by a QoS rule of theirs.
    SwitchQos = LogicalSwitch, ["qos_rules"];
    /// Ports of mirrors by switch and target.
    MirrorPort = PortBinding, ["datapath", "mirror_port"];
    /// A meter by its name.
    MeterName = Meter, ["name"];
    /// An address set by its name.
    AddressSetName = AddressSet, ["name"];
    /// Ports that the members of a group of chassis serve.
    GroupPorts = PortBinding, ["ha_chassis_group"];
    /// Template variables by the chassis that they are for.
    TemplateChassis = ChassisTemplateVar, ["chassis"];
    /// A learned neighbour by its router port's name and its address.
    MacBinding = MacBinding, ["logical_port", "ip"];
    /// Routers by a static route of theirs.
    RouterRoutes = LogicalRouter, ["static_routes"];
    /// Routers by a policy of theirs.
    RouterPolicies = LogicalRouter, ["policies"];
    /// The way to a physical network, by the port it is for.
    PatchPort = HostPatch, ["logical_port"];
    /// The number under which a kind of samples is exported.
    SamplingType = SamplingApp, ["type"];
}

impl By {
    /// The declaration.
    pub fn index(self) -> Index {
        INDEXES[self as usize]
    }
}

/// Rows and their indexes.
#[derive(Debug, Default)]
pub(crate) struct IndexedRows {
    rows: Rows,
    entries: FxHashMap<(u8, u64), SmallVec<[Uuid; 1]>>,
}

impl IndexedRows {
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Puts or removes a row. Tells every index key that gained or lost a row, and returns the row before.
    pub(crate) fn set(
        &mut self,
        table: TableId,
        uuid: Uuid,
        row: Option<Arc<dyn DynRow>>,
        touched: &mut dyn FnMut(u8, u64),
    ) -> Option<Arc<dyn DynRow>> {
        let new = row.clone();
        let old = self.rows.set(table, uuid, row);
        for (number, index) in (0u8..).zip(INDEXES).filter(|(_, index)| index.table == table) {
            for (key, came) in changed(*index, old.as_deref(), new.as_deref()) {
                if came {
                    let uuids = self.entries.entry((number, key)).or_default();
                    if let Err(at) = uuids.binary_search(&uuid) {
                        uuids.insert(at, uuid);
                    }
                } else if let Some(uuids) = self.entries.get_mut(&(number, key)) {
                    uuids.retain(|other| *other != uuid);
                    if uuids.is_empty() {
                        self.entries.remove(&(number, key));
                    }
                }
                touched(number, key);
            }
        }
        old
    }

    /// Uuids of the rows that have the key, in order.
    pub(crate) fn find(&self, by: By, key: &[Atom]) -> Vec<Uuid> {
        let index = by.index();
        let candidates = self.entries.get(&(by as u8, hash(key)));
        let columns = columns(index);
        let fits = |uuid: &&Uuid| {
            let row = self.rows.dyn_row(index.table, **uuid);
            row.is_some_and(|row| {
                columns.iter().zip(key).all(|(column, atom)| row.element(*column, atom).is_some())
            })
        };
        candidates.into_iter().flatten().filter(fits).copied().collect()
    }
}

/// Hashes of the keys that went (`false`) or came (`true`) with a row's change.
fn changed(index: Index, old: Option<&dyn DynRow>, new: Option<&dyn DynRow>) -> SmallVec<[(u64, bool); 4]> {
    let mut changed: SmallVec<[(u64, bool); 4]> = SmallVec::new();
    if let ([column], Some(old), Some(new)) = (columns(index).as_slice(), old, new)
        && tables::decl(index.table).column_decl(*column).ty.key.ref_table.is_some()
    {
        // Some rows refer to thousands of others: only what differs is looked at.
        old.reference_changes(new, *column, &mut |uuid, came| {
            changed.push((hash(&[Atom::Uuid(uuid)]), came))
        });
        changed.sort_unstable_by_key(|(_, came)| *came);
        return changed;
    }
    let hashes = |row: Option<&dyn DynRow>| -> SmallVec<[u64; 2]> {
        let keys = row.into_iter().flat_map(|row| keys(index, row));
        let mut hashes: SmallVec<[u64; 2]> = keys.map(|key| hash(&key)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    };
    let (before, after) = (hashes(old), hashes(new));
    changed.extend(before.iter().filter(|key| after.binary_search(key).is_err()).map(|key| (*key, false)));
    changed.extend(after.iter().filter(|key| before.binary_search(key).is_err()).map(|key| (*key, true)));
    changed
}

/// A key of an index.
pub(crate) type Key = SmallVec<[Atom; 2]>;

/// The keys under which an index holds a row.
pub(crate) fn keys(index: Index, row: &dyn DynRow) -> impl Iterator<Item = Key> {
    let atoms = |column: ColumnId| match row.datum(column) {
        Datum::Set(atoms) => atoms,
        Datum::Map(_) => Vec::new(),
    };
    let mut keys: Vec<Key> = vec![Key::new()];
    for column in columns(index) {
        let atoms = atoms(column);
        let extend = |key: &Key| {
            atoms
                .iter()
                .map(|atom| [key.as_slice(), std::slice::from_ref(atom)].concat().into())
                .collect::<Vec<Key>>()
        };
        keys = keys.iter().flat_map(extend).collect();
    }
    keys.into_iter()
}

fn columns(index: Index) -> SmallVec<[ColumnId; 2]> {
    let decl = tables::decl(index.table);
    let columns: SmallVec<[ColumnId; 2]> =
        index.columns.iter().filter_map(|name| decl.column(name)).collect();
    assert_eq!(columns.len(), index.columns.len(), "an index names columns of its table");
    columns
}

/// A hash that is the same in every run: it names dependencies.
pub(crate) fn hash(key: &[Atom]) -> u64 {
    let mut hasher = FxHasher::default();
    key.hash(&mut hasher);
    hasher.finish()
}
