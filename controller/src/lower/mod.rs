//! Lowering: intent becomes Northbound rows, Northbound rows become Southbound rows, within one transaction.
//!
//! # Contract
//! - In: a transaction whose own writes are done and consistent; out: the same with every derived row in place,
//!   or a refusal. Runs inside [`evaluate`](crate::store::evaluate), on the leader only.
//! - Reads the transaction's state and its clock and nothing else, so that equal inputs give equal rows.
//! - Intent that can't be lowered is refused. A Northbound row that can't be lowered is kept, has no effect or only
//!   part of it, and has a `Problem` row until it is mended.
//! - Refuses to know who asks: [`owner::refuse_owned`] is for those who write Northbound rows for clients.
//!
//! # Invariants
//! - The derived rows are a function of the others, but for keys, addresses and bindings, which have a history;
//!   tests lower from nothing and compare.
//! - Cost follows the rows touched: no stage walks a table, with few exceptions. When the least MTU of the underlay
//!   changes, every `DHCP_Options` row whose network derives its MTU is written anew, for it changes; with the prefix
//!   of dynamic MACs every port is looked at, and with the subnet of a switch every port of that switch.
//! - Stages run in the order global, facts, intent with its routers, security, groups, switches, routers, dns, ACLs, samples, meters, QoS,
//!   mirrors, ports, router ports with their neighbours, NAT, conflicts, routes, BFD, announcements, ports of mirrors, queues, port groups,
//!   address sets, bindings, fdb, feedback, features; none writes what an earlier one reads.

mod acl;
pub mod address;
mod address_set;
mod announce;
pub(crate) mod bfd;
pub mod binding;
mod conflict;
pub mod dhcp;
mod dns;
mod dynamic;
pub mod facts;
mod fdb;
pub mod features;
mod feedback;
pub mod gateway;
mod global;
mod group;
pub(crate) mod intent;
pub mod keys;
pub(crate) mod localnet;
mod lookup;
mod matches;
mod meter;
mod mirror;
mod nat;
mod neighbour;
pub mod owner;
mod port;
mod port_group;
mod problem;
mod qos;
mod route;
mod router;
mod router_port;
mod sample;
pub(crate) mod security;
mod switch;
pub(crate) mod tenant;

use std::collections::BTreeSet;

use quantumnet_model::{Uuid, column::Text};

use crate::store::{Refusal, Txn};

/// What one lowering did, for tests of its cost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Work {
    /// Rows lowered, each time they were.
    pub rows: u64,
}

/// What a stage leaves to a later one.
#[derive(Debug, Default)]
struct Dirty {
    /// `Subnet` rows whose `DHCP_Options` may change.
    subnets: BTreeSet<Uuid>,
    /// `Router` rows of which the MTU of a network may change.
    routers: BTreeSet<Uuid>,
    /// `Logical_Switch_Port` rows.
    ports: BTreeSet<Uuid>,
    /// `Logical_Router_Port` rows.
    router_ports: BTreeSet<Uuid>,
    /// `NAT` rows of which it may change whether they can be used.
    nats: BTreeSet<Uuid>,
    /// `Logical_Router_Port` rows whose addresses, or whose place, may change.
    claiming_ports: BTreeSet<Uuid>,
    /// `NAT` rows of which the same is true.
    claiming_nats: BTreeSet<Uuid>,
    /// `Logical_Router` rows whose gateways may announce other addresses.
    announcing: BTreeSet<Uuid>,
    /// `Logical_Switch_Port` rows that lead to routers which may.
    announced: BTreeSet<Uuid>,
    /// Rows by iface-id whose binding may change.
    interfaces: BTreeSet<Text>,
    /// `Port_Binding` rows whose binding may change.
    bindings: BTreeSet<Uuid>,
    /// Switches and targets of mirrors whose port may have to come or go.
    mirrored: BTreeSet<Text>,
    work: Work,
}

/// Lowers what the transaction touched.
pub fn run(txn: &mut Txn<'_>) -> Result<(), Refusal> {
    let work = run_counted(txn)?;
    tracing::trace!(rows = work.rows, "lowered");
    Ok(())
}

/// As [`run`], and says how much there was to do.
pub fn run_counted(txn: &mut Txn<'_>) -> Result<Work, Refusal> {
    let mut dirty = Dirty::default();
    gateway::mark_reported(txn, &mut dirty);
    global::lower(txn, &mut dirty);
    facts::lower(txn, &mut dirty);
    intent::lower(txn, &mut dirty)?;
    tenant::lower(txn, &mut dirty)?;
    security::lower(txn, &mut dirty)?;
    group::lower(txn, &mut dirty);
    switch::lower(txn, &mut dirty)?;
    router::lower(txn, &mut dirty)?;
    dns::lower(txn, &mut dirty);
    acl::lower(txn, &mut dirty);
    sample::lower(txn, &mut dirty);
    meter::lower(txn, &mut dirty);
    qos::lower(txn, &mut dirty);
    mirror::lower(txn, &mut dirty);
    port::lower(txn, &mut dirty)?;
    router_port::lower(txn, &mut dirty);
    nat::lower(txn, &mut dirty);
    conflict::lower(txn, &mut dirty);
    route::lower(txn, &mut dirty);
    bfd::lower(txn, &mut dirty);
    announce::lower(txn, &mut dirty);
    mirror::ports(txn, &mut dirty)?;
    qos::ports(txn, &mut dirty);
    let sets = port_group::lower(txn, &mut dirty);
    address_set::lower(txn, &sets, &mut dirty);
    binding::lower(txn, &mut dirty);
    fdb::lower(txn, &mut dirty);
    feedback::lower(txn, &mut dirty);
    features::lower(txn, &mut dirty);
    Ok(dirty.work)
}
