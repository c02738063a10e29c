//! Which other hypervisors this one talks to, and by which tunnel port.
//!
//! # Contract
//! - `tunnel_to`: of one `Chassis`; reads its endpoints and the tunnel ports that exist. The preferred one is that of
//!   a Geneve endpoint marked `is_default`, else of the first by address.
//! - `tunnel_peers`: of one switch or router that is here; reads which chassis have ports of it.
//! - `wanted_tunnels`: of one peer; all its Geneve endpoints, if both are in a common transport zone, or in none.

use std::net::IpAddr;

use ovsdb::value::Atom;
use quantumnet_model::{
    Row,
    host::HostTunnel,
    sb::{Chassis, DatapathBinding, Encap},
};
use uuid::Uuid;

use crate::compile::{
    index::By,
    logical,
    owner::{Owner, Owners, Relation},
    sink::Sink,
    stage::Stage,
    view::View,
};

pub(in crate::compile) const TUNNEL_TO: Stage = Stage {
    number: 5,
    name: "tunnel_to",
    owners: Owners::Rows(Chassis::TABLE),
    tables: &[],
    relations: &[Relation::TunnelTo],
    emit: tunnel_to,
};

pub(in crate::compile) const TUNNEL_PEERS: Stage = Stage {
    number: 6,
    name: "tunnel_peers",
    owners: Owners::Rows(DatapathBinding::TABLE),
    tables: &[],
    relations: &[Relation::TunnelPeers],
    emit: tunnel_peers,
};

pub(in crate::compile) const WANTED_TUNNELS: Stage = Stage {
    number: 7,
    name: "wanted_tunnels",
    owners: Owners::Facts(Relation::TunnelPeers),
    tables: &[],
    relations: &[Relation::WantedTunnels],
    emit: wanted_tunnels,
};

fn tunnel_to(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let tunnels = view.find::<HostTunnel>(By::TunnelChassis, &[Atom::Uuid(owner.row())]);
    let usable = tunnels.into_iter().filter(|(_, tunnel)| logical::ofport(tunnel.ofport).is_some());
    let best = usable.filter_map(|(uuid, tunnel)| {
        let encap = view.row::<Encap>(tunnel.encap)?;
        let ip = endpoint(encap)?;
        let default = encap.options.get("is_default").is_some_and(|value| &**value == "true");
        Some((!default, ip, uuid))
    });
    if let Some((.., tunnel)) = best.min() {
        out.fact(Relation::TunnelTo, owner.row(), 0, tunnel);
    }
}

fn tunnel_peers(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let any = |here: &[Relation]| here.iter().any(|here| view.holds(*here, owner.row()));
    let here = any(&[Relation::LocalSwitches, Relation::LocalRouters]);
    // Copies come here from where the switch has ports, and go from here to where the targets are.
    if here || any(&[Relation::MirrorTargets]) {
        for chassis in view.related(Relation::RemoteChassis, owner.row(), 0) {
            out.fact(Relation::TunnelPeers, Uuid::nil(), 0, chassis);
        }
    }
    if here {
        for chassis in view.related(Relation::RemoteMirrors, owner.row(), 0) {
            out.fact(Relation::TunnelPeers, Uuid::nil(), 0, chassis);
        }
    }
}

fn wanted_tunnels(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(own) = view.related_one(Relation::OwnChassis, Uuid::nil()) else { return };
    let (Some(own), Some(peer)) = (view.row::<Chassis>(own), view.row::<Chassis>(owner.row())) else {
        return;
    };
    let (ours, theirs) = (&own.transport_zones, &peer.transport_zones);
    let zoneless = ours.is_empty() && theirs.is_empty();
    if !zoneless && !ours.iter().any(|zone| theirs.contains(zone)) {
        return;
    }
    for encap in &peer.encaps {
        if view.row::<Encap>(encap.uuid()).and_then(endpoint).is_some() {
            out.fact(Relation::WantedTunnels, Uuid::nil(), 0, encap.uuid());
        }
    }
}

/// The address of a Geneve endpoint.
fn endpoint(encap: &Encap) -> Option<IpAddr> {
    if &*encap.r#type == "geneve" { encap.ip.parse().ok() } else { None }
}
