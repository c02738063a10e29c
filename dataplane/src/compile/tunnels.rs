//! Tunnels that are needed, for the part of the agent that makes tunnel ports.

use std::{collections::BTreeSet, net::IpAddr};

use quantumnet_model::sb::{Chassis, Encap};
use uuid::Uuid;

use super::{engine::Compiler, owner::Relation};

/// A Geneve port that should exist; its `Host_Tunnel` row reports it back with `chassis`, `encap` and the port's number.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct WantedTunnel {
    /// The other `Chassis`.
    pub chassis: Uuid,
    /// Its name.
    pub chassis_name: String,
    /// Its `Encap`.
    pub encap: Uuid,
    /// The endpoint.
    pub ip: IpAddr,
    /// UDP port, when it is not the usual one.
    pub dst_port: Option<u16>,
    /// UDP checksums are wanted; Geneve's default.
    pub csum: bool,
}

impl Compiler {
    /// Tunnels to every endpoint of each chassis that shares a switch with a port here. Kept as rows change.
    pub fn wanted_tunnels(&self) -> BTreeSet<WantedTunnel> {
        let encaps: BTreeSet<Uuid> = self.related(Relation::WantedTunnels, Uuid::nil()).collect();
        let mut wanted = BTreeSet::new();
        for uuid in self.related(Relation::TunnelPeers, Uuid::nil()) {
            let Some(chassis) = self.rows().get::<Chassis>(uuid) else { continue };
            for encap in chassis.encaps.iter().filter(|encap| encaps.contains(&encap.uuid())) {
                let Some(row) = self.rows().get::<Encap>(encap.uuid()) else { continue };
                let Ok(ip) = row.ip.parse() else { continue };
                wanted.insert(WantedTunnel {
                    chassis: uuid,
                    chassis_name: chassis.name.to_string(),
                    encap: encap.uuid(),
                    ip,
                    dst_port: row.options.get("dst_port").and_then(|port| port.parse().ok()),
                    csum: row.options.get("csum").is_none_or(|csum| &**csum != "false"),
                });
            }
        }
        wanted
    }
}
