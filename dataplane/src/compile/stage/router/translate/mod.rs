//! Address translation (ovn-nb(5), `NAT`): at a gateway, or for a floating IP at the hypervisor of its port.
//!
//! # Contract
//! - [`scope`]: which rules hold on which routers here, and what those need.
//! - [`address`]: what comes in for an outer address: undone, translated, answered for.
//! - [`inbound`]: what comes in where an outer address alone does not decide.
//! - [`outbound`]: what leaves: undo of destination translation, source translation.
//! - [`reach`]: how others find an outer address, and a floating IP's own MAC.
//! - [`leave`]: what leaves for an outer address of the router comes in again; the rest goes across.
//!
//! # Invariants
//! - Two zones a router, as in OVN: one holds what became of destinations, the other of sources. A floating IP that no other
//!   rule touches is kept in one of them alone, whoever opened the connection.
//! - A connection's translation is applied by the flow that commits it: established and new ones take one way and are looked up
//!   once. What a connection has stays with it as long as flows lead to it; when a rule goes they do not.
//! - Connections to inner addresses that come in untranslated are known to the zone, so that their replies stay so.
//! - After source translation the datapath sees the packet again only where something still looks at its source: until then the
//!   flow has the source from before. Whoever comes back in by an outer address is looked up before anybody asks.
//! - Priorities are OVN's, shifted: which of several rules wins is visible to users.
//! - Nothing is translated, and nothing passes untranslated, while the router has no zones yet.

use ofpacket::{Action, Conntrack, ConntrackZone, Nat as Translation};
use quantumnet_model::host::HostRouterZones;
use uuid::Uuid;

use self::rule::Rule;
use crate::compile::{
    logical::RouterPort,
    owner::Relation,
    punt::{Punt, PuntReason},
    sink::Sink,
    table::Table,
    view::View,
};

pub(in crate::compile) mod address;
mod condition;
pub(in crate::compile) mod inbound;
pub(in crate::compile) mod leave;
pub(in crate::compile) mod outbound;
pub(in crate::compile) mod reach;
mod rule;
pub(in crate::compile) mod scope;
#[cfg(test)]
pub(in crate::compile::stage::router) mod testing;

/// The zones of a router.
#[derive(Clone, Copy, Debug)]
struct Zones {
    /// Of destination translations, and of plain floating IPs of gateway routers.
    destinations: u16,
    /// Of source translations, and of plain floating IPs behind gateway ports.
    sources: u16,
}

impl Zones {
    /// The zones that the agent gave the router. With `use_common_zone` a router that is not one chassis' uses one for both.
    fn of(view: &View<'_>, router: Uuid) -> Option<Self> {
        let row: &HostRouterZones = view.row(router)?;
        let destinations = u16::try_from(row.dnat).ok()?;
        let common =
            view.holds(Relation::CommonZone, Uuid::nil()) && !view.holds(Relation::GatewayRouters, router);
        let sources = if common { destinations } else { u16::try_from(row.snat).ok()? };
        Some(Self { destinations, sources })
    }
}

/// To the agent, which translates the packet that an ICMP error quotes; the error waits meanwhile.
fn quoted(view: &View<'_>, rule: &Rule<'_>, out: &mut Sink) -> Vec<Action> {
    let own = rule.gateway.as_ref().map(|gateway| gateway.port.clone());
    let port = own.or_else(|| {
        let mut ports = view.related(Relation::RouterPorts, rule.router, 0);
        ports.find_map(|port| RouterPort::read(view, port))
    });
    let base = port.and_then(|port| super::meters(view, &port));
    let punt = Punt { reason: PuntReason::InnerAddress, row: rule.uuid };
    Punt::waiting(punt.limited(view, rule.router, None, base, out)).collect()
}

/// Looks up, applies what the connection has, and goes on.
fn restore(zone: u16, next: Table) -> Action {
    lookup(zone).nat(Translation::restore()).table(next.number()).into()
}

/// Commits with that translation, or applies what the connection has, and goes on.
fn translate(zone: u16, translation: Translation, next: Table) -> Action {
    lookup(zone).commit().nat(translation).table(next.number()).into()
}

fn lookup(zone: u16) -> Conntrack {
    Conntrack::new(ConntrackZone::Immediate(zone))
}

/// Of what comes in for an outer address: above what comes in for inner ones.
const PRIORITY_OUTER: u16 = 1_000;
