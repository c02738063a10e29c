//! Connection tracking zones: one for each port here whose connections are tracked, two for each router here that translates, and one
//! for each that sends replies back as their requests came.
//!
//! # Invariants
//! - A zone is emptied before the first flow that names it is in the switch. Who has a zone keeps it, also over restarts, as
//!   long as the store knows the port or router: connections outlive what happens to an interface.
//! - A zone that a router asks for (ovn-nb(5), `snat-ct-zone`) is taken from whoever was given it by chance.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use ovsdb::value::Atom;
use quantumnet_model::{
    DynRow, Row, TableId,
    host::{HostRouterZones, HostZone},
    sb::{DatapathBinding, PortBinding},
};
use uuid::Uuid;

use crate::{
    agent::{Agent, Effect},
    compile::{By, Compiler, FlowDelta},
    switch,
};

/// Who has a zone.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Holder {
    /// A port.
    Port(Uuid),
    /// A router, for destinations.
    Destinations(Uuid),
    /// A router, for sources.
    Sources(Uuid),
    /// A router, for the ways of connections.
    Ways(Uuid),
}

/// Someone here that needs a zone.
struct Wanting {
    holder: Holder,
    name: String,
    /// The only zone that will do.
    asked: Option<u16>,
}

impl Agent {
    /// Gives whoever came a zone, and adds to `delta` what follows.
    pub(super) fn with_zones(
        &mut self,
        now: Instant,
        mut delta: FlowDelta,
        out: &mut Vec<Effect>,
    ) -> FlowDelta {
        let wanting = wanting(&self.compiler);
        let has = |zone: Option<u16>, wanting: &Wanting| {
            zone.is_some_and(|zone| wanting.asked.is_none_or(|asked| asked == zone))
        };
        if wanting.iter().any(|wanting| !has(self.zones.of(&wanting.name), wanting)) {
            if self.rows_known {
                let compiler = &self.compiler;
                self.zones.retain(|name| is_known(compiler, name));
            }
            // Those that ask first: it may be that they take one that another needs a new one for.
            let (asking, others): (Vec<&Wanting>, Vec<&Wanting>) =
                wanting.iter().partition(|wanting| wanting.asked.is_some());
            for wanting in asking.iter().chain(&others) {
                if has(self.zones.of(&wanting.name), wanting) {
                    continue;
                }
                let zone = match wanting.asked {
                    Some(zone) => {
                        let entitled = |name: &str| {
                            asking.iter().any(|other| other.name == name && other.asked == Some(zone))
                        };
                        self.zones.take(&wanting.name, zone, entitled);
                        Some(zone)
                    }
                    None => self.zones.give(&wanting.name),
                };
                let Some(zone) = zone else {
                    let holder = wanting.holder;
                    tracing::error!(
                        ?holder,
                        "no connection tracking zone is left; its IP traffic is dropped"
                    );
                    continue;
                };
                let outputs = self.driver.handle(now, switch::Input::Forget { zone });
                self.switch_outputs(now, outputs, out);
            }
            out.push(Effect::StoreZones(self.zones.clone()));
        }
        let zones: BTreeMap<Holder, u16> = wanting
            .iter()
            .filter_map(|wanting| Some((wanting.holder, self.zones.of(&wanting.name)?)))
            .collect();
        if zones != self.zones_here {
            let after = rows(&zones);
            let before = rows(&self.zones_here);
            let gone = before.keys().filter(|key| !after.contains_key(key));
            let gone: Vec<_> = gone.map(|(table, uuid)| (*table, *uuid, None)).collect();
            let there = after.into_iter().map(|((table, uuid), row)| (table, uuid, Some(row)));
            delta.then(self.compiler.apply(gone.into_iter().chain(there)));
            self.zones_here = zones;
        }
        delta
    }
}

fn wanting(compiler: &Compiler) -> Vec<Wanting> {
    let ports = compiler.zoned_ports().into_iter();
    let ports = ports.map(|(port, name)| Wanting {
        holder: Holder::Port(port),
        name: (*name).to_owned(),
        asked: None,
    });
    let routers = compiler.zoned_routers().into_iter().flat_map(|router| {
        let holders = [Holder::Destinations(router), Holder::Sources(router)];
        holders.map(|holder| Wanting {
            holder,
            name: router_name(holder, router),
            asked: asked(compiler, holder, router),
        })
    });
    let ways = compiler.symmetric_routers().into_iter().map(|router| Wanting {
        holder: Holder::Ways(router),
        name: router_name(Holder::Ways(router), router),
        asked: None,
    });
    ports.chain(routers).chain(ways).collect()
}

/// What a router asks for.
fn asked(compiler: &Compiler, holder: Holder, router: Uuid) -> Option<u16> {
    let row: &DatapathBinding = compiler.rows().get(router)?;
    let zone = row.external_ids.get("snat-ct-zone").filter(|_| matches!(holder, Holder::Sources(_)))?;
    zone.trim().parse().ok()
}

/// What a router's zone is remembered by: no port's name has a control character.
fn router_name(holder: Holder, router: Uuid) -> String {
    let which = match holder {
        Holder::Sources(_) => SOURCES,
        Holder::Ways(_) => WAYS,
        Holder::Port(_) | Holder::Destinations(_) => DESTINATIONS,
    };
    format!("{which}{router}")
}

fn is_known(compiler: &Compiler, name: &str) -> bool {
    match [DESTINATIONS, SOURCES, WAYS].iter().find_map(|which| name.strip_prefix(which)) {
        Some(router) => {
            router.parse().is_ok_and(|router| compiler.rows().get::<DatapathBinding>(router).is_some())
        }
        None => compiler.find_uuid::<PortBinding>(By::LogicalPort, &[Atom::String(name.into())]).is_some(),
    }
}

/// Rows of the host for those zones.
pub(super) fn rows(zones: &BTreeMap<Holder, u16>) -> BTreeMap<(TableId, Uuid), Arc<dyn DynRow>> {
    let mut rows: BTreeMap<(TableId, Uuid), Arc<dyn DynRow>> = BTreeMap::new();
    for (holder, zone) in zones {
        match holder {
            Holder::Port(of) | Holder::Ways(of) => {
                rows.insert((HostZone::TABLE, *of), Arc::new(HostZone { zone: i64::from(*zone) }));
            }
            Holder::Destinations(router) => {
                if let Some(snat) = zones.get(&Holder::Sources(*router)) {
                    let row = HostRouterZones { dnat: i64::from(*zone), snat: i64::from(*snat) };
                    rows.insert((HostRouterZones::TABLE, *router), Arc::new(row));
                }
            }
            Holder::Sources(_) => {}
        }
    }
    rows
}

const DESTINATIONS: &str = "\u{1}dnat ";
const SOURCES: &str = "\u{1}snat ";
const WAYS: &str = "\u{1}way ";
