//! Stages: pure functions from one owner to its flows. A stage reads through [`View`] only and keeps nothing.

use quantumnet_model::{
    Rows,
    row::{Database, TableId},
    tables,
};
use uuid::Uuid;

use super::{
    derive::{gateway, globals, placement, routes, tunnels},
    owner::{Owner, Owners, Relation},
    sink::Sink,
    table::Table,
    view::View,
};

mod admit;
mod admit_out;
mod arp_respond;
mod chassis_mac;
mod classify;
mod deliver;
mod dhcp_punt;
pub(crate) mod filter;
mod flood;
mod forward;
mod learn;
pub(crate) mod mirror;
mod nd_respond;
mod neighbour_reply;
pub(crate) mod qos;
mod queue;
pub(super) mod router;
mod steer;
mod tunnel_out;
mod virtual_claim;

/// A stage as declared.
#[derive(Debug)]
pub struct Stage {
    /// Upper half of its flows' cookies; never given to another stage.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// What it compiles.
    pub owners: Owners,
    /// Tables it puts flows into.
    pub tables: &'static [Table],
    /// Relations it states facts of.
    pub relations: &'static [Relation],
    /// Compiles one owner: same rows, same owner, same result.
    pub emit: fn(&View<'_>, Owner, &mut Sink),
}

/// All stages. Those that state facts of a relation stand before those that read it.
pub const STAGES: &[&Stage] = &[
    &globals::OWN_CHASSIS,
    &globals::REQUIRE_UP,
    &globals::VLAN_PASSTHRU,
    &globals::ENABLED_ROUTERS,
    &globals::COMMON_ZONE,
    &gateway::LIVENESS,
    &gateway::ELECTION,
    &globals::COPP,
    &globals::ROUTER_COPP,
    &placement::STAGE,
    &tunnels::TUNNEL_TO,
    &tunnels::TUNNEL_PEERS,
    &gateway::WATCHED,
    &tunnels::WANTED_TUNNELS,
    &placement::WANTED_PATCHES,
    &placement::ANNOUNCED,
    &routes::STATIC,
    &routes::POLICIES,
    &router::translate::scope::GATEWAY,
    &router::translate::scope::ROUTER,
    &router::translate::scope::SCOPE,
    &router::translate::scope::NEEDS,
    &router::translate::scope::LOOKS,
    &filter::scope::GROUP_SWITCHES,
    &filter::scope::GROUP_PLACES,
    &filter::scope::GROUP_SIZE,
    &filter::scope::ACL_NEEDS,
    &filter::scope::GROUP_NEEDS,
    &filter::scope::SWITCH_NEEDS,
    &qos::SCOPE,
    &mirror::SCOPE,
    &classify::PORT,
    &classify::WAITING,
    &classify::TUNNEL,
    &admit::STAGE,
    &admit::COMMON,
    &learn::PORT,
    &learn::FDB,
    &filter::track::STAGE,
    &filter::track::UNTRACKED,
    &filter::track::AROUND,
    &filter::rule::STAGE,
    &filter::conjunction::STAGE,
    &filter::set::SET,
    &filter::set::MEMBER,
    &filter::verdict::STAGE,
    &filter::verdict::TIERS,
    &mirror::PASS,
    &mirror::STAGE,
    &mirror::PORT,
    &qos::PASS,
    &qos::STAGE,
    &steer::STAGE,
    &arp_respond::STAGE,
    &nd_respond::STAGE,
    &neighbour_reply::STAGE,
    &dhcp_punt::STAGE,
    &dhcp_punt::EXTERNAL,
    &virtual_claim::STAGE,
    &forward::STAGE,
    &flood::UNKNOWN,
    &deliver::OUTPUT,
    &tunnel_out::REMOTE,
    &tunnel_out::HEADER,
    &flood::GROUP,
    &flood::CHUNK,
    &admit_out::STAGE,
    &deliver::RETURN,
    &deliver::RETURN_COMMON,
    &deliver::DELIVER,
    &chassis_mac::STAGE,
    &queue::STAGE,
    &router::admit::STAGE,
    &router::admit::COMMON,
    &router::input::STAGE,
    &router::input::COMMON,
    &router::neighbour::STAGE,
    &router::neighbour::COMMON,
    &router::neighbour::HERE,
    &router::neighbour::LEARNED,
    &router::neighbour::STATIC,
    &router::large::STAGE,
    &router::route::CONNECTED,
    &router::route::STATIC,
    &router::symmetric::STAGE,
    &router::policy::STAGE,
    &router::policy::DEFAULT,
    &router::next_hop::PORT,
    &router::next_hop::ROUTER,
    &router::next_hop::COMMON,
    &router::output::STAGE,
    &router::translate::address::STAGE,
    &router::translate::reach::STAGE,
    &router::translate::reach::MAC,
    &router::translate::inbound::STAGE,
    &router::translate::outbound::STAGE,
    &router::translate::outbound::FORCED,
    &router::translate::leave::PASS,
    &router::translate::leave::LEAVE,
    &router::gateway::STAGE,
    &router::gateway::COMMON,
    &router::bfd::STAGE,
];

/// The stage that made a flow, by its cookie, and the first 32 bits of the row's uuid.
pub fn stage_of(cookie: u64) -> (Option<&'static Stage>, u32) {
    let [number, row] = [cookie >> 32, cookie & 0xffff_ffff];
    (STAGES.iter().copied().find(|stage| u64::from(stage.number) == number), row as u32) // masked above
}

/// The row that a flow was made for, by its cookie. `None` if it is for the hypervisor as such, and where rows begin alike:
/// 32 bits do not tell all uuids apart.
pub fn row_of(rows: &Rows, cookie: u64) -> Option<(TableId, Uuid)> {
    let (stage, start) = stage_of(cookie);
    let tables = owner_tables(stage?);
    let mut found = tables.iter().flat_map(|table| alike(rows, *table, start).map(|row| (*table, row)));
    let row = found.next().filter(|_| start != 0)?;
    found.all(|(_, other)| other == row.1).then_some(row)
}

/// Whether a flow may be of a row that is there still, or is of none.
pub fn is_held(rows: &Rows, cookie: u64) -> bool {
    let (stage, start) = stage_of(cookie);
    let held = |table: &TableId| alike(rows, *table, start).next().is_some();
    start == 0 || stage.is_some_and(|stage| owner_tables(stage).iter().any(held))
}

/// Rows of a table whose uuids begin so.
pub fn alike(rows: &Rows, table: TableId, start: u32) -> impl Iterator<Item = Uuid> + use<'_> {
    let first = u128::from(start) << 96;
    let all = Uuid::from_u128(first)..=Uuid::from_u128(first | u128::MAX >> 32);
    rows.table(table).range(all).map(|(uuid, _)| *uuid)
}

/// Where the rows are that a stage makes flows for.
fn owner_tables(stage: &Stage) -> Vec<TableId> {
    match stage.owners {
        Owners::Switch => Vec::new(),
        Owners::Rows(table) => vec![table],
        // A port and its binding have one uuid.
        Owners::Facts(_) => [Database::Northbound, Database::Southbound]
            .into_iter()
            .flat_map(|database| tables::ids().filter(move |id| tables::decl(*id).database == database))
            .collect(),
    }
}

const _: () = {
    assert!(STAGES.len() < u8::MAX as usize, "a stage's place fits a byte");
    let mut a = 0;
    while a < STAGES.len() {
        let mut b = a + 1;
        while b < STAGES.len() {
            assert!(STAGES[a].number != STAGES[b].number, "cookies tell stages apart");
            b += 1;
        }
        a += 1;
    }
};
