//! Logical routers (ovn-architecture(7), "Logical Routers and Logical Patch Ports"), one table a file.
//!
//! # Contract
//! - In: a packet that has crossed into a router by one of its ports. Out: the packet into the datapath of the peer of the
//!   port that it leaves by; or into a tunnel, to the gateway of that port.
//!
//! # Invariants
//! - A router works on the hypervisor that a packet comes from; a tunnel is crossed once, and after it nothing is routed.
//! - Only for what is for the router itself is anything beyond IP addresses and TTL looked at, so that no flow of the datapath
//!   is made per connection.
//! - No flow, no way: a router or port that is disabled has none.

pub(super) mod admit;
pub(super) mod bfd;
pub(in crate::compile::stage) mod expression;
pub(in crate::compile) mod gateway;
pub(super) mod input;
pub(super) mod large;
pub(super) mod neighbour;
pub(super) mod next_hop;
pub(super) mod output;
pub(super) mod policy;
pub(in crate::compile) mod route;
pub(super) mod symmetric;
pub(super) mod translate;

use ofpacket::{Action, Controller};
use quantumnet_model::host::HostRouterPort;

use crate::compile::{
    logical::RouterPort,
    punt::{Protocol, Punt, PuntReason},
    sink::Sink,
    table::Table,
    view::View,
};

/// Where a packet goes whose next hop has a MAC.
fn onward(port: &RouterPort<'_>) -> Table {
    if port.gateway_mtu().is_some() { Table::RouterLarge } else { beyond(port) }
}

/// Where it goes once its length has been looked at.
fn beyond(port: &RouterPort<'_>) -> Table {
    if port.has_gateway() { Table::RouterGateway } else { Table::Output }
}

/// The first of a router port's meters.
fn meters(view: &View<'_>, port: &RouterPort<'_>) -> Option<u32> {
    let row = view.row::<HostRouterPort>(port.uuid)?;
    u32::try_from(row.meter).ok().filter(|base| *base > 0)
}

/// To the agent, with the meter that the router's `Copp` has for the protocol, else with the port's for that reason.
fn punt(
    view: &View<'_>,
    port: &RouterPort<'_>,
    reason: PuntReason,
    protocol: Option<Protocol>,
    out: &mut Sink,
) -> Action {
    Action::Controller2(limited(view, port, reason, protocol, out))
}

/// As [`punt`], and the packet waits until the agent lets it go on: the beginning of a flow's actions.
fn punt_and_wait(
    view: &View<'_>,
    port: &RouterPort<'_>,
    reason: PuntReason,
    protocol: Protocol,
    out: &mut Sink,
) -> Vec<Action> {
    Punt::waiting(limited(view, port, reason, Some(protocol), out)).collect()
}

fn limited(
    view: &View<'_>,
    port: &RouterPort<'_>,
    reason: PuntReason,
    protocol: Option<Protocol>,
    out: &mut Sink,
) -> Controller {
    Punt { reason, row: port.uuid }.limited(view, port.router, protocol, meters(view, port), out)
}
