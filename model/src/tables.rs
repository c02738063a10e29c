//! All tables, in one list. A table that is not in it does not compile.

use std::sync::LazyLock;

use ovsdb::schema::{ColumnSchema, DatabaseSchema, TableSchema};

use crate::{
    host, intent, nb,
    row::{Database, Row, TableDecl, TableId},
    sb, server,
};

macro_rules! tables {
    ($($row:path),* $(,)?) => {
        const NAMES: &[(Database, &str)] = &[ $( (<$row as Row>::DATABASE, <$row as Row>::NAME) ),* ];
        static DECLARATIONS: LazyLock<Vec<TableDecl>> = LazyLock::new(|| vec![ $( <$row as Row>::declare() ),* ]);
    };
}

tables![
    intent::Cluster,
    intent::Project,
    intent::VirtualNetwork,
    intent::Subnet,
    intent::Port,
    intent::Router,
    intent::FloatingIp,
    intent::SecurityGroup,
    intent::SecurityGroupRule,
    intent::SecurityPolicy,
    intent::SecurityPolicyRule,
    intent::SelectorGroup,
    intent::Pool,
    intent::Address,
    intent::Lookup,
    intent::Takeover,
    intent::Request,
    intent::Problem,
    nb::NbGlobal,
    nb::SampleCollector,
    nb::Sample,
    nb::Copp,
    nb::LogicalSwitch,
    nb::LogicalSwitchPort,
    nb::NetworkFunctionHealthCheck,
    nb::NetworkFunction,
    nb::NetworkFunctionGroup,
    nb::LogicalSwitchPortHealthCheck,
    nb::ForwardingGroup,
    nb::AddressSet,
    nb::PortGroup,
    nb::LoadBalancer,
    nb::LoadBalancerGroup,
    nb::LoadBalancerHealthCheck,
    nb::Acl,
    nb::Qos,
    nb::Mirror,
    nb::MirrorRule,
    nb::Meter,
    nb::MeterBand,
    nb::LogicalRouter,
    nb::LogicalRouterPort,
    nb::LogicalRouterStaticRoute,
    nb::LogicalRouterPolicy,
    nb::Nat,
    nb::DhcpOptions,
    nb::DhcpRelay,
    nb::Connection,
    nb::Dns,
    nb::Ssl,
    nb::GatewayChassis,
    nb::HaChassis,
    nb::HaChassisGroup,
    nb::Bfd,
    nb::StaticMacBinding,
    nb::ChassisTemplateVar,
    nb::SamplingApp,
    sb::Chassis,
    sb::ChassisPrivate,
    sb::Encap,
    sb::ChassisInterface,
    sb::DatapathBinding,
    sb::PortBinding,
    sb::Fdb,
    sb::GatewayChassis,
    sb::HaChassis,
    sb::HaChassisGroup,
    sb::AclId,
    sb::AddressSet,
    sb::ChassisTemplateVar,
    sb::LoadBalancer,
    sb::LogicalDpGroup,
    sb::LogicalFlow,
    sb::Meter,
    sb::MeterBand,
    sb::Mirror,
    sb::MulticastGroup,
    sb::PortGroup,
    sb::Connection,
    sb::RbacPermission,
    sb::RbacRole,
    sb::SbGlobal,
    sb::Ssl,
    sb::AdvertisedMacBinding,
    sb::AdvertisedRoute,
    sb::EcmpNexthop,
    sb::IgmpGroup,
    sb::IpMulticast,
    sb::LearnedRoute,
    sb::MacBinding,
    sb::StaticMacBinding,
    sb::Bfd,
    sb::ControllerEvent,
    sb::DhcpOptions,
    sb::Dhcpv6Options,
    sb::Dns,
    sb::ServiceMonitor,
    server::ServedDatabase,
    host::HostSelf,
    host::HostInterface,
    host::HostTunnel,
    host::HostPatch,
    host::HostActivated,
    host::HostOldMac,
    host::HostZone,
    host::HostRouterZones,
    host::HostConjunction,
    host::HostHandover,
    host::HostRouterPort,
    host::HostNeighbour,
    host::HostGroup,
    host::HostRule,
    host::HostMeter,
];

/// Declarations of all tables; a [`TableId`] is a place in it.
pub fn all() -> &'static [TableDecl] {
    &DECLARATIONS
}

/// The declaration of a table.
pub fn decl(table: TableId) -> &'static TableDecl {
    &DECLARATIONS[usize::from(table.0)]
}

/// Ids of all tables.
pub fn ids() -> impl Iterator<Item = TableId> {
    (0..NAMES.len()).map(|place| TableId(place as u16)) // `id_of` proves that the places fit
}

/// The table of that name.
pub fn find(database: Database, name: &str) -> Option<TableId> {
    ids().find(|id| NAMES[usize::from(id.0)] == (database, name))
}

/// The tables of a database as an OVSDB schema.
pub fn schema(database: Database, version: &str) -> DatabaseSchema {
    let tables = all().iter().filter(|table| table.database == database);
    DatabaseSchema {
        name: database.name().to_owned(),
        version: version.to_owned(),
        cksum: None,
        tables: tables.map(|table| (table.name.to_owned(), table_schema(table))).collect(),
    }
}

fn table_schema(table: &TableDecl) -> TableSchema {
    let column = |column: &crate::row::ColumnDecl| ColumnSchema {
        ephemeral: column.ephemeral,
        mutable: !column.immutable,
        ..ColumnSchema::new(column.name, column.ty.clone())
    };
    TableSchema {
        columns: table.columns.iter().map(|decl| (decl.name.to_owned(), column(decl))).collect(),
        max_rows: table.max_rows.map(|rows| rows as u64),
        is_root: table.root,
        indexes: table
            .indexes
            .iter()
            .map(|index| index.iter().map(|column| table.column_decl(*column).name.to_owned()).collect())
            .collect(),
    }
}

/// The place of a table, at compile time. Fails to compile for a table that is not listed.
#[doc(hidden)]
pub const fn id_of(database: Database, name: &str) -> TableId {
    let mut place = 0;
    while place < NAMES.len() {
        if NAMES[place].0 as u8 == database as u8 && same(NAMES[place].1.as_bytes(), name.as_bytes()) {
            assert!(place <= u16::MAX as usize);
            return TableId(place as u16);
        }
        place += 1;
    }
    panic!("the table is missing in model/src/tables.rs")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}
