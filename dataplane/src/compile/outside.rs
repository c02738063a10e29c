//! Tunnels, patches and announcements that are needed, for the parts of the agent that make them.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ovsdb::value::Atom;
use quantumnet_model::{
    address::{self, LspAddress},
    host::HostInterface,
    sb::{Chassis, DatapathBinding, Encap, PortBinding},
};
use uuid::Uuid;

use super::{engine::Compiler, index::By, logical, owner::Relation};
use crate::punt::announce::Announcement;

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

/// A patch to a physical network that should exist; its `Host_Patch` row reports it back with its port's number.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct WantedPatch {
    /// The logical port that it is for.
    pub logical_port: String,
    /// The physical network.
    pub network: String,
    /// It is that of an l2gateway.
    pub gateway: bool,
}

impl Compiler {
    /// Patches for each port to a physical network that this hypervisor should have.
    pub fn wanted_patches(&self) -> BTreeSet<WantedPatch> {
        let ports = self.related(Relation::WantedPatches, Uuid::nil());
        let patch = |uuid| {
            let binding = self.rows().get::<PortBinding>(uuid)?;
            Some(WantedPatch {
                logical_port: binding.logical_port.to_string(),
                network: binding.options.get("network_name").map(ToString::to_string).unwrap_or_default(),
                gateway: &*binding.r#type == "l2gateway",
            })
        };
        ports.filter_map(patch).collect()
    }

    /// Ports here whose connections are tracked in a zone of their own, by name.
    pub fn zoned_ports(&self) -> Vec<(Uuid, Arc<str>)> {
        let name = |uuid| Some((uuid, self.rows().get::<PortBinding>(uuid)?.logical_port.clone()));
        self.related(Relation::ZonedPorts, Uuid::nil()).filter_map(name).collect()
    }

    /// Conjunctions that need a `Host_Conjunction` row of that uuid, in order.
    pub fn conjunctions(&self) -> impl Iterator<Item = Uuid> {
        self.related(Relation::Numbered, Uuid::nil())
    }

    /// Whether the last batch changed which those are.
    pub fn conjunctions_changed(&self) -> bool {
        self.changed(Relation::Numbered)
    }

    /// Routers here that need zones.
    pub fn zoned_routers(&self) -> Vec<Uuid> {
        self.related(Relation::ZonedRouters, Uuid::nil()).collect()
    }

    /// Interfaces whose ports are bound to this hypervisor.
    pub fn bound_interfaces(&self) -> BTreeSet<Uuid> {
        self.related(Relation::BoundInterfaces, Uuid::nil()).collect()
    }

    /// What the physical networks are to be told of.
    pub fn announcements(&self) -> Vec<Announcement> {
        let rows = self.rows();
        let of = |uuid| {
            let binding = rows.get::<PortBinding>(uuid)?;
            let datapath = rows.get::<DatapathBinding>(binding.datapath.uuid())?;
            let name = binding.parent_port.as_ref().unwrap_or(&binding.logical_port);
            let interface = self.find::<HostInterface>(By::InterfaceId, &[Atom::String(name.clone())])?;
            let known = binding.mac.iter().find_map(|text| match text.parse() {
                Ok(LspAddress::Known { mac, ips }) => Some((mac, ips)),
                _ => None,
            });
            let (mac, ips) = known?;
            Some(Announcement {
                datapath: u32::try_from(datapath.tunnel_key).ok()?,
                port: u32::try_from(binding.tunnel_key).ok()?,
                mac,
                ip: address::v4(&ips).next(),
                ofport: logical::ofport(interface.ofport)?,
            })
        };
        self.related(Relation::Announced, Uuid::nil()).filter_map(of).collect()
    }

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
