//! Tunnels, patches and announcements that are needed, for the parts of the agent that make them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use ovsdb::value::Atom;
use quantumnet_model::{
    Strong,
    address::{self, LspAddress, Mac},
    host::HostInterface,
    nb::{Bfd, LogicalSwitchPort, Mirror},
    sb::{Chassis, DatapathBinding, Encap, HaChassis, HaChassisGroup, PortBinding},
};
use uuid::Uuid;

use super::{engine::Compiler, index::By, logical, owner::Relation};
use crate::punt::{
    announce::Announcement,
    bfd::{Params, Peering},
};

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

/// A mirror that the switch itself should make.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct WantedMirror {
    /// Its name.
    pub name: String,
    /// The northbound row.
    pub mirror: Uuid,
    /// Where copies go.
    pub way: MirrorWay,
    /// Interfaces of ports whose sent packets are copied.
    pub sends: BTreeSet<Uuid>,
    /// Interfaces of ports whose received packets are copied.
    pub receives: BTreeSet<Uuid>,
    /// Ports here that can't be mirrored, because others use their interface too or they have none.
    pub without_interface: BTreeSet<String>,
}

/// Where the copies of a mirror go.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum MirrorWay {
    /// Into a tunnel of this type.
    Tunnel {
        /// `gre` or `erspan`.
        kind: String,
        /// Options of its interface, in order.
        options: Vec<(String, String)>,
    },
    /// To the interface here that says so.
    Local {
        /// external_ids:mirror-id.
        id: String,
    },
}

/// The queue of a port on the way to a physical network.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct WantedQueue {
    /// The port.
    pub port: String,
    /// Its number.
    pub number: i64,
    /// The physical network.
    pub network: String,
    /// Rates, in the words of `Queue.other_config`.
    pub config: BTreeMap<String, String>,
}

impl Compiler {
    /// Mirrors of ports here that the switch itself makes.
    pub fn wanted_mirrors(&self) -> BTreeSet<WantedMirror> {
        let mut wanted: BTreeMap<Uuid, WantedMirror> = BTreeMap::new();
        for port in self.related(Relation::CopiedPorts, Uuid::nil()) {
            let (Some(binding), Some(row)) =
                (self.rows().get::<PortBinding>(port), self.rows().get::<LogicalSwitchPort>(port))
            else {
                continue;
            };
            let own = [Atom::String(binding.logical_port.clone())];
            let interface = self.find_uuid::<HostInterface>(By::InterfaceId, &own);
            for mirror in &row.mirror_rules {
                let Some(found) = self.rows().get::<Mirror>(mirror.uuid()) else { continue };
                let Some(way) = way(found) else { continue };
                let entry = wanted.entry(mirror.uuid()).or_insert_with(|| WantedMirror {
                    name: found.name.to_string(),
                    mirror: mirror.uuid(),
                    way,
                    sends: BTreeSet::new(),
                    receives: BTreeSet::new(),
                    without_interface: BTreeSet::new(),
                });
                let Some(interface) = interface.filter(|_| binding.parent_port.is_none()) else {
                    entry.without_interface.insert(binding.logical_port.to_string());
                    continue;
                };
                if &*found.filter != "to-lport" {
                    entry.sends.insert(interface);
                }
                if &*found.filter != "from-lport" {
                    entry.receives.insert(interface);
                }
            }
        }
        wanted.into_values().collect()
    }

    /// Queues of ports here.
    pub fn wanted_queues(&self) -> BTreeSet<WantedQueue> {
        let queue = |port| {
            let binding = self.rows().get::<PortBinding>(port)?;
            let rate =
                |option: &str| binding.options.get(option)?.parse::<u64>().ok().filter(|rate| *rate > 0);
            let config = [("min-rate", "qos_min_rate"), ("max-rate", "qos_max_rate"), ("burst", "qos_burst")];
            let config = config.into_iter().filter_map(|(key, option)| Some((key, rate(option)?)));
            Some(WantedQueue {
                port: binding.logical_port.to_string(),
                number: binding.options.get("qdisc_queue_id")?.parse().ok()?,
                network: binding.options.get("qos_physical_network")?.to_string(),
                config: config.map(|(key, rate)| (key.to_owned(), rate.to_string())).collect(),
            })
        };
        self.related(Relation::QueuedPorts, Uuid::nil()).filter_map(queue).collect()
    }

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

    /// Routers here that need a zone for the ways of connections.
    pub fn symmetric_routers(&self) -> Vec<Uuid> {
        self.related(Relation::SymmetricRouters, Uuid::nil()).collect()
    }

    /// What needs a group of the switch.
    pub fn wanted_groups(&self) -> BTreeSet<Uuid> {
        self.related(Relation::WantedGroups, Uuid::nil()).collect()
    }

    /// Router ports and ports between switches that are here, by name: they have meters.
    pub fn metered_ports(&self) -> Vec<(Uuid, Arc<str>)> {
        let name = |uuid| Some((uuid, self.rows().get::<PortBinding>(uuid)?.logical_port.clone()));
        self.related(Relation::MeteredPorts, Uuid::nil()).filter_map(name).collect()
    }

    /// Interfaces whose ports are bound to this hypervisor.
    pub fn bound_interfaces(&self) -> BTreeSet<Uuid> {
        self.related(Relation::BoundInterfaces, Uuid::nil()).collect()
    }

    /// Chassis whose tunnels are to be watched by BFD.
    pub fn watched_chassis(&self) -> BTreeSet<Uuid> {
        self.related(Relation::Watched, Uuid::nil()).collect()
    }

    /// HA chassis groups of which this hypervisor is the active member.
    pub fn active_groups(&self) -> BTreeSet<Uuid> {
        self.related(Relation::ActiveGroups, Uuid::nil()).collect()
    }

    /// Whether each HA chassis group of which this hypervisor is a member has another among the chassis that forward.
    pub fn others_can_serve(&self, forwarding: &BTreeSet<Uuid>) -> bool {
        let Some(own) = self.related(Relation::OwnChassis, Uuid::nil()).next() else { return false };
        let chassis = |member: &Strong<HaChassis>| self.rows().get::<HaChassis>(member.uuid())?.chassis;
        self.rows().iter::<HaChassisGroup>().all(|(_, group)| {
            let members = || group.ha_chassis.iter().filter_map(chassis).map(|chassis| chassis.uuid());
            !members().any(|member| member == own) || members().any(|member| forwarding.contains(&member))
        })
    }

    /// Whether there is, for all that this hypervisor knows, another member of a group to take over from it.
    pub fn is_succeeded(&self, group: Uuid) -> bool {
        let Some(row) = self.rows().get::<HaChassisGroup>(group) else { return false };
        row.ha_chassis.len() == 1 || self.related(Relation::Heard, Uuid::nil()).next().is_some()
    }

    /// Gateway and external ports that this hypervisor serves as the active member of their groups, by name.
    pub fn served_ports(&self) -> BTreeSet<String> {
        let groups = self.related(Relation::ActiveGroups, Uuid::nil());
        let ports = groups.flat_map(|group| self.group_ports(group));
        ports.map(|(_, binding)| binding.logical_port.to_string()).collect()
    }

    /// Such ports that a chassis holds as far as the store knows.
    pub fn held_ports(&self, chassis: Uuid) -> BTreeSet<String> {
        let groups = self.rows().iter::<HaChassisGroup>();
        let ports = groups.flat_map(|(group, _)| self.group_ports(group));
        let held =
            ports.filter(|(_, binding)| binding.chassis.is_some_and(|holder| holder.uuid() == chassis));
        held.map(|(_, binding)| binding.logical_port.to_string()).collect()
    }

    fn group_ports(&self, group: Uuid) -> impl Iterator<Item = (Uuid, &PortBinding)> {
        let ports = self.find_all::<PortBinding>(By::GroupPorts, &[Atom::Uuid(group)]);
        ports.filter(|(_, binding)| matches!(&*binding.r#type, "chassisredirect" | "external"))
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
                ip: address::v4(&ips).next().map(IpAddr::V4),
                ofport: Some(logical::ofport(interface.ofport)?),
                gateway: false,
            })
        };
        self.related(Relation::Announced, Uuid::nil()).filter_map(of).collect()
    }

    /// What the physical networks are to be told of the gateways that are here: `Port_Binding.nat_addresses`, entry by entry
    /// where the port is resident that it names, or on the gateway router's own chassis. Addresses of both families, each.
    pub fn gateway_announcements(&self) -> Vec<Announcement> {
        let ports = self.related(Relation::AnnouncedNat, Uuid::nil());
        let ports = ports.filter_map(|uuid| Some((uuid, self.rows().get::<PortBinding>(uuid)?)));
        ports.flat_map(|(uuid, binding)| self.nat_announcements(uuid, binding)).collect()
    }

    fn nat_announcements(&self, port: Uuid, binding: &PortBinding) -> Vec<Announcement> {
        let switch = binding.datapath.uuid();
        let key = self.rows().get::<DatapathBinding>(switch).map(|row| u32::try_from(row.tunnel_key));
        let (Some(Ok(datapath)), Ok(port_key)) = (key, u32::try_from(binding.tunnel_key)) else {
            return Vec::new();
        };
        if self.related(Relation::Localnet, switch).next().is_none() {
            return Vec::new();
        }
        let mut announcements = Vec::new();
        for entry in binding.nat_addresses.iter().filter_map(|text| NatAddresses::parse(text)) {
            let here = match &entry.resident {
                Some(name) => self.announces_for(name),
                None => &*binding.r#type == "l3gateway" && self.is_resident(port),
            };
            if !here {
                continue;
            }
            let ips: Vec<Option<IpAddr>> =
                if entry.ips.is_empty() { vec![None] } else { entry.ips.into_iter().map(Some).collect() };
            announcements.extend(ips.into_iter().map(|ip| Announcement {
                datapath,
                port: port_key,
                mac: entry.mac,
                ip,
                ofport: None,
                gateway: true,
            }));
        }
        announcements
    }

    /// BFD sessions that are to be run here: of router ports whose gateway is here (ovn-nb(5), `BFD`).
    pub fn bfd_sessions(&self) -> BTreeMap<Uuid, Peering> {
        let sessions = self.rows().iter::<Bfd>();
        sessions.filter_map(|(uuid, row)| Some((uuid, self.bfd_session(row)?))).collect()
    }

    fn bfd_session(&self, row: &Bfd) -> Option<Peering> {
        let named = |name: &str| -> Option<(Uuid, &PortBinding)> {
            self.find_all::<PortBinding>(By::LogicalPort, &[Atom::String(name.into())]).next()
        };
        let (uuid, binding) = named(&row.logical_port)?;
        let here = match &*binding.r#type {
            "l3gateway" => self.is_resident(uuid),
            _ => {
                named(&format!("cr-{}", row.logical_port)).is_some()
                    && self.announces_for(&format!("cr-{}", row.logical_port))
            }
        };
        let router = self.rows().get::<DatapathBinding>(binding.datapath.uuid())?;
        let peer: IpAddr = row.dst_ip.parse().ok()?;
        let mut words = binding.mac.iter().next()?.split_whitespace();
        let mac = words.next()?.parse().ok()?;
        let networks: Vec<IpNet> = words.filter_map(|word| word.parse().ok()).collect();
        let near = networks.iter().find(|net| net.contains(&peer));
        let source =
            near.or_else(|| networks.iter().find(|net| net.addr().is_ipv4() == peer.is_ipv4()))?.addr();
        // Microseconds of a packet go up to an hour and more.
        let millis = |value: Option<i64>| {
            let value = value.unwrap_or(BFD_INTERVAL_MS).clamp(0, BFD_INTERVAL_MAX_MS);
            Duration::from_millis(value.unsigned_abs())
        };
        let params = Params {
            min_tx: millis(row.min_tx),
            min_rx: millis(row.min_rx),
            detect_mult: u8::try_from(row.detect_mult.unwrap_or(BFD_MULTIPLIER).clamp(1, 255)).ok()?,
        };
        here.then_some(Peering {
            router: u32::try_from(router.tunnel_key).ok()?,
            port: u32::try_from(binding.tunnel_key).ok()?,
            binding: uuid,
            mac,
            source,
            peer,
            near: near.is_some(),
            params,
        })
    }

    fn is_resident(&self, port: Uuid) -> bool {
        self.related(Relation::Resident, port).next().is_some()
    }

    /// Whether what goes to a port comes here by now: who is handing a gateway over announces nothing any more.
    fn announces_for(&self, port: &str) -> bool {
        let name = [Atom::String(port.into())];
        let Some((uuid, binding)) = self.find_all::<PortBinding>(By::LogicalPort, &name).next() else {
            return false;
        };
        match binding.ha_chassis_group {
            Some(group) if &*binding.r#type == "chassisredirect" => {
                self.related(Relation::Active, group.uuid()).next().is_some()
            }
            _ => self.is_resident(uuid),
        }
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

/// Where the switch sends a mirror's copies; `None` if it is not the switch that does, or the sink is none.
fn way(mirror: &Mirror) -> Option<MirrorWay> {
    let kind = &*mirror.r#type;
    match kind {
        "local" => Some(MirrorWay::Local { id: mirror.sink.to_string() }),
        "gre" | "erspan" => {
            let remote: IpAddr = mirror.sink.parse().ok()?;
            let index = mirror.index.to_string();
            let mut options = vec![("key", index.clone()), ("remote_ip", remote.to_string())];
            if kind == "erspan" {
                options.extend([("erspan_idx", index), ("erspan_ver", "1".to_owned())]);
            }
            options.sort();
            let options = options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            Some(MirrorWay::Tunnel { kind: kind.to_owned(), options })
        }
        _ => None,
    }
}

const BFD_INTERVAL_MS: i64 = 1_000;
const BFD_INTERVAL_MAX_MS: i64 = 4_000_000;
const BFD_MULTIPLIER: i64 = 5;

/// An entry of `Port_Binding.nat_addresses` (ovn-sb(5)).
#[derive(Clone, Debug, Eq, PartialEq)]
struct NatAddresses {
    mac: Mac,
    ips: Vec<IpAddr>,
    /// Where the port of that name is resident, and nowhere else.
    resident: Option<String>,
}

impl NatAddresses {
    /// `MAC IP... is_chassis_resident("PORT")`, the last part or the addresses perhaps left out.
    fn parse(text: &str) -> Option<Self> {
        let (addresses, resident) = match text.split_once("is_chassis_resident") {
            None => (text, None),
            Some((addresses, rest)) => {
                let name = rest.trim().strip_prefix("(\"")?.strip_suffix("\")")?;
                (addresses, Some(name.to_owned()))
            }
        };
        let mut words = addresses.split_whitespace();
        let mac = words.next()?.parse().ok()?;
        let ips: Result<Vec<IpAddr>, _> = words.map(str::parse).collect();
        Some(Self { mac, ips: ips.ok()?, resident })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_nat_addresses() {
        let parse = |text| {
            let entry = NatAddresses::parse(text)?;
            let ips: Vec<String> = entry.ips.iter().map(ToString::to_string).collect();
            Some(format!("{} [{}] {}", entry.mac, ips.join(" "), entry.resident.unwrap_or_default()))
        };
        for (text, expected) in [
            (r#"0a:00:00:00:00:01 10.0.0.1 fd00::1"#, Some("0a:00:00:00:00:01 [10.0.0.1 fd00::1] ")),
            (
                r#"0a:00:00:00:00:01 10.0.0.1 is_chassis_resident("cr-lr p")"#,
                Some("0a:00:00:00:00:01 [10.0.0.1] cr-lr p"),
            ),
            (r#"0a:00:00:00:00:01"#, Some("0a:00:00:00:00:01 [] ")),
            (r#"0a:00:00:00:00:01 10.0.0.1/24"#, None),
            (r#"0a:00:00:00:00:01 is_chassis_resident(cr)"#, None),
            ("", None),
        ] {
            assert_eq!(parse(text).as_deref(), expected, "{text}");
        }
    }
}
