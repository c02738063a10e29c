//! Random histories over tiny id spaces, so that rows meet, dangle and collide.

use proptest::{collection::vec, prelude::*};
use quantumnet_model::{
    Row, Strong, Weak,
    host::{HostActivated, HostHandover, HostInterface, HostOldMac, HostPatch, HostSelf, HostTunnel},
    nb::{DhcpOptions, LogicalSwitch, LogicalSwitchPort, NbGlobal},
    sb::{Chassis, DatapathBinding, Encap, Fdb, HaChassis, HaChassisGroup, PortBinding},
};

use super::{
    Kind, Model, PortSpec,
    filters::{self, FilterStep},
    id, mac, options,
    qos::{self, QosStep},
    routers::{self, RouterStep},
    text,
    translations::{self, NatStep},
};

/// One change of one object.
#[derive(Clone, Debug)]
pub enum Step {
    Port(PortSpec),
    PortKind(u32, u8),
    PortUp(u32, Option<bool>),
    DropPort(u32, bool),
    Switch(u32, i64, bool),
    DropSwitch(u32),
    Chassis(u32, u8),
    DropChassis(u32),
    Encap(u32, u8),
    Interface(u32, i64, i64),
    DropInterface(u32),
    Tunnel(u32, u32, u32, i64, u8),
    DropTunnel(u32),
    Members(u32, Vec<(u32, i64)>, Vec<u32>),
    DropMembers(u32),
    Served(u32, Option<u32>),
    Handover(u32, bool),
    Own(u32, i64),
    DropOwn,
    Dhcp(u32, bool),
    DropDhcp(u32),
    Fdb(u32, u32, i64, u32),
    DropFdb(u32),
    LspDown(bool),
    PortEncap(u32, Option<u32>),
    Nest(u32, Option<u32>, Option<i64>),
    Moving(u32, Option<u32>, u8),
    Options(u32, usize),
    Patch(u32, i64),
    DropPatch(u32),
    Activated(u32, bool),
    OldMac(u32, bool),
    Filter(FilterStep),
    Router(RouterStep),
    Nat(NatStep),
    Qos(QosStep),
}

const KINDS: &[&str] = &[
    "",
    "router",
    "localnet",
    "localport",
    "l2gateway",
    "external",
    "virtual",
    "chassisredirect",
    "nonsense",
];
const OPTIONS: &[&[(&str, &str)]] = &[
    &[],
    &[("virtual-ip", "10.0.0.9"), ("virtual-parents", "p0, p1,p2")],
    &[("virtual-ip", "fd00::9"), ("virtual-parents", "p1")],
    &[("localnet_learn_fdb", "true"), ("network_name", "physnet1")],
    &[("activation-strategy", "rarp,garp,na")],
    &[("activation-strategy", "rarp"), ("additional-chassis-activated", "hv1")],
    &[("disable_garp_rarp", "true"), ("lsp_learn_fdb", "false"), ("disable_arp_nd_rsp", "true")],
    &[("force_fdb_lookup", "true"), ("arp_proxy", "10.9.0.0/16 fd09::/64 10.0.0.77")],
];

const ADDRESSES: &[&str] = &[
    "unknown",
    "0a:00:00:00:00:01 10.0.0.1",
    "0a:00:00:00:00:02 10.0.0.2 fd00::2",
    "0a:00:00:00:00:03",
    "dynamic",
    "nonsense",
    "0a:00:00:00:00:01 fd00::1 fd00::9",
];
const SECURITY: &[&str] = &[
    "0a:00:00:00:00:01",
    "0a:00:00:00:00:01 10.0.0.1 10.1.0.0/16",
    "0a:00:00:00:00:02 fd00::2/64",
    "what",
    "0a:00:00:00:00:02 10.0.0.2/24 fd00::2",
];

fn port() -> impl Strategy<Value = PortSpec> {
    let subset = |from: &'static [&'static str], max| proptest::sample::subsequence(from.to_vec(), 0..=max);
    (
        0..4u32,
        0..3u32,
        -1..4i64,
        proptest::option::of(0..4u32),
        subset(ADDRESSES, 3),
        subset(SECURITY, 2),
        any::<bool>(),
        proptest::option::of(0..2u32),
    )
        .prop_map(|(number, switch, key, chassis, addresses, security, disabled, dhcp)| PortSpec {
            number,
            switch,
            key: if key == 3 { 0x201 } else { key },
            chassis,
            addresses: addresses.into_iter().map(str::to_owned).collect(),
            security: security.into_iter().map(str::to_owned).collect(),
            disabled,
            dhcp,
            ..PortSpec::default()
        })
}

/// Any step.
pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => port().prop_map(Step::Port),
        4 => (0..4u32, 0..9u8).prop_map(|(port, kind)| Step::PortKind(port, kind)),
        2 => (0..4u32, proptest::option::of(0..4u32), proptest::option::of(-1..3i64))
            .prop_map(|(port, parent, tag)| Step::Nest(port, parent, tag)),
        2 => (0..4u32, proptest::option::of(0..4u32), 0..3u8).prop_map(|(port, chassis, hint)| Step::Moving(port, chassis, hint)),
        3 => (0..4u32, 0..OPTIONS.len()).prop_map(|(port, options)| Step::Options(port, options)),
        3 => (0..4u32, -1..40i64).prop_map(|(port, ofport)| Step::Patch(port, ofport)),
        1 => (0..4u32).prop_map(Step::DropPatch),
        1 => (0..4u32, any::<bool>()).prop_map(|(port, there)| Step::Activated(port, there)),
        1 => (0..3u32, any::<bool>()).prop_map(|(number, there)| Step::OldMac(number, there)),
        1 => (0..4u32, any::<Option<bool>>()).prop_map(|(port, up)| Step::PortUp(port, up)),
        1 => (0..4u32, any::<bool>()).prop_map(|(port, both)| Step::DropPort(port, both)),
        2 => (0..3u32, 0..4i64, any::<bool>()).prop_map(|(switch, key, passthru)| Step::Switch(switch, key, passthru)),
        1 => (0..3u32).prop_map(Step::DropSwitch),
        2 => (0..4u32, 0..4u8).prop_map(|(chassis, kind)| Step::Chassis(chassis, kind)),
        1 => (0..4u32).prop_map(Step::DropChassis),
        1 => (0..4u32, 0..4u8).prop_map(|(encap, kind)| Step::Encap(encap, kind)),
        3 => (0..4u32, -1..4i64, 0..3i64).prop_map(|(port, ofport, meter)| Step::Interface(port, ofport, meter * 16)),
        1 => (0..4u32).prop_map(Step::DropInterface),
        3 => (0..4u32, 0..4u32, 0..4u32, 0..5i64, 0..3u8)
            .prop_map(|(number, chassis, encap, port, bfd)| Step::Tunnel(number, chassis, encap, port, bfd)),
        3 => (0..2u32, vec((0..4u32, 0..3i64), 0..3), vec(0..4u32, 0..3))
            .prop_map(|(group, members, refer)| Step::Members(group, members, refer)),
        1 => (0..2u32).prop_map(Step::DropMembers),
        2 => (0..4u32, proptest::option::of(0..2u32)).prop_map(|(port, group)| Step::Served(port, group)),
        1 => (0..2u32, any::<bool>()).prop_map(|(group, there)| Step::Handover(group, there)),
        1 => (0..4u32).prop_map(Step::DropTunnel),
        1 => (0..3u32, -1..3i64).prop_map(|(name, slot)| Step::Own(name, slot)),
        1 => Just(Step::DropOwn),
        1 => (0..2u32, any::<bool>()).prop_map(|(number, whole)| Step::Dhcp(number, whole)),
        1 => (0..2u32).prop_map(Step::DropDhcp),
        2 => (0..3u32, 0..4u32, 0..4i64, 0..4u32).prop_map(|(number, switch, port, mac)| Step::Fdb(number, switch, port, mac)),
        1 => (0..3u32).prop_map(Step::DropFdb),
        8 => routers::step().prop_map(Step::Router),
        10 => translations::step().prop_map(Step::Nat),
        20 => filters::step().prop_map(Step::Filter),
        15 => qos::step().prop_map(Step::Qos),
        1 => any::<bool>().prop_map(Step::LspDown),
        1 => (0..4u32, proptest::option::of(0..4u32)).prop_map(|(port, encap)| Step::PortEncap(port, encap)),
    ]
}

impl Step {
    /// Changes the rows.
    pub fn take(&self, model: &mut Model) {
        match self {
            Self::Port(spec) => {
                let interface = model.rows.get::<HostInterface>(id(Kind::Interface, spec.number)).cloned();
                model.port(spec);
                // Interfaces have steps of their own.
                match interface {
                    Some(row) => model.put(id(Kind::Interface, spec.number), row),
                    None if spec.number % 2 == 0 => {
                        model.remove::<HostInterface>(id(Kind::Interface, spec.number))
                    }
                    None => {}
                }
            }
            Self::PortKind(port, kind) => {
                let kind = KINDS[usize::from(*kind)];
                edit::<PortBinding>(model, id(Kind::Port, *port), |row| row.r#type = text(kind));
            }
            Self::PortUp(port, up) => edit::<PortBinding>(model, id(Kind::Port, *port), |row| row.up = *up),
            Self::PortEncap(port, encap) => edit::<PortBinding>(model, id(Kind::Port, *port), |row| {
                row.encap = encap.map(|encap| id(Kind::Encap, encap).into());
            }),
            Self::Nest(port, parent, tag) => edit::<PortBinding>(model, id(Kind::Port, *port), |row| {
                row.parent_port = parent.map(|parent| text(&format!("p{parent}")));
                row.tag = *tag;
            }),
            Self::Moving(port, chassis, hint) => edit::<PortBinding>(model, id(Kind::Port, *port), |row| {
                row.additional_chassis =
                    chassis.iter().map(|chassis| Weak::new(id(Kind::Chassis, *chassis))).collect();
                row.additional_encap =
                    (*hint > 0).then(|| Weak::new(id(Kind::Encap, u32::from(*hint)))).into_iter().collect();
            }),
            Self::Options(port, which) => edit::<PortBinding>(model, id(Kind::Port, *port), |row| {
                row.options = options(OPTIONS[*which]);
            }),
            Self::Patch(port, ofport) => model.patch(*port, *ofport),
            Self::DropPatch(port) => model.remove::<HostPatch>(id(Kind::Patch, *port)),
            Self::Activated(port, true) => model.activated(*port),
            Self::Activated(port, false) => model.remove::<HostActivated>(id(Kind::Port, *port)),
            Self::OldMac(number, true) => {
                model.put(id(Kind::Fdb, *number), HostOldMac { mac: text("0a:44:00:00:00:01") });
            }
            Self::OldMac(number, false) => model.remove::<HostOldMac>(id(Kind::Fdb, *number)),
            Self::DropPort(port, both) => {
                model.remove::<PortBinding>(id(Kind::Port, *port));
                if *both {
                    model.remove::<LogicalSwitchPort>(id(Kind::Port, *port));
                }
            }
            Self::Switch(switch, key, passthru) => {
                model.switch(*switch);
                edit::<DatapathBinding>(model, id(Kind::Switch, *switch), |row| row.tunnel_key = *key);
                if *passthru {
                    model.vlan_passthru(*switch);
                }
            }
            Self::DropSwitch(switch) => {
                model.remove::<DatapathBinding>(id(Kind::Switch, *switch));
                model.remove::<LogicalSwitch>(id(Kind::Switch, *switch));
            }
            Self::Chassis(chassis, kind) => {
                let zone = [None, Some("a"), Some("b"), None][usize::from(*kind)];
                model.put(
                    id(Kind::Chassis, *chassis),
                    Chassis {
                        name: text(&format!("hv{chassis}")),
                        encaps: [*chassis, u32::from(*kind)]
                            .into_iter()
                            .map(|encap| Strong::new(id(Kind::Encap, encap)))
                            .collect(),
                        transport_zones: super::texts(zone),
                        ..Chassis::default()
                    },
                );
            }
            Self::DropChassis(chassis) => model.remove::<Chassis>(id(Kind::Chassis, *chassis)),
            Self::Encap(encap, kind) => model.put(
                id(Kind::Encap, *encap),
                Encap {
                    r#type: text(if *kind == 0 { "vxlan" } else { "geneve" }),
                    ip: text(["192.0.2.1", "192.0.2.2", "fd00::1", "nowhere"][usize::from(*kind)]),
                    options: if *kind == 1 { options(&[("is_default", "true")]) } else { options(&[]) },
                    ..Encap::default()
                },
            ),
            Self::Interface(port, ofport, meter) => model.put(
                id(Kind::Interface, *port),
                HostInterface {
                    name: text(&format!("v{port}")),
                    iface_id: text(&format!("p{}", port % 3)),
                    ofport: *ofport,
                    meter: *meter,
                },
            ),
            Self::DropInterface(port) => model.remove::<HostInterface>(id(Kind::Interface, *port)),
            Self::Tunnel(number, chassis, encap, ofport, bfd) => model.put(
                id(Kind::Tunnel, *number),
                HostTunnel {
                    chassis: id(Kind::Chassis, *chassis),
                    encap: id(Kind::Encap, *encap),
                    ofport: ofport * 100,
                    heard: *bfd > 0,
                    alive: *bfd > 1,
                },
            ),
            Self::Members(group, members, refer) => {
                for (number, priority) in members {
                    let row = HaChassis {
                        // Number 0 is not registered.
                        chassis: (*number > 0).then(|| Weak::new(id(Kind::Chassis, *number))),
                        priority: *priority,
                        external_ids: options(&[("chassis-name", &format!("hv{number}"))]),
                    };
                    model.put(id(Kind::HaChassis, group * 8 + number), row);
                }
                let row = HaChassisGroup {
                    name: text(&format!("g{group}")),
                    ha_chassis: members
                        .iter()
                        .map(|(number, _)| Strong::new(id(Kind::HaChassis, group * 8 + number)))
                        .collect(),
                    ref_chassis: refer.iter().map(|number| Weak::new(id(Kind::Chassis, *number))).collect(),
                    ..HaChassisGroup::default()
                };
                model.put(id(Kind::HaGroup, *group), row);
            }
            Self::DropMembers(group) => model.remove::<HaChassisGroup>(id(Kind::HaGroup, *group)),
            Self::Served(port, group) => edit::<PortBinding>(model, id(Kind::Port, *port), |row| {
                row.ha_chassis_group = group.map(|group| Strong::new(id(Kind::HaGroup, group)));
            }),
            Self::Handover(group, true) => {
                model.put(id(Kind::HaGroup, *group), HostHandover { name: text("g") });
            }
            Self::Handover(group, false) => model.remove::<HostHandover>(id(Kind::HaGroup, *group)),
            Self::DropTunnel(number) => model.remove::<HostTunnel>(id(Kind::Tunnel, *number)),
            Self::Own(name, slot) => model.put(
                id(Kind::Own, 0),
                HostSelf {
                    chassis: text(&format!("hv{name}")),
                    tunnel_option: *slot,
                    nd_extensions: slot % 2 == 0,
                    sctp_ports: slot % 3 > 0,
                },
            ),
            Self::DropOwn => model.remove::<HostSelf>(id(Kind::Own, 0)),
            Self::Dhcp(number, whole) => {
                model.dhcp(*number, "10.0.0.0/24", "10.0.0.254");
                if !whole {
                    edit::<DhcpOptions>(model, id(Kind::Dhcp, *number), |row| {
                        row.options = options(&[("server_id", "10.0.0.254")])
                    });
                }
            }
            Self::DropDhcp(number) => model.remove::<DhcpOptions>(id(Kind::Dhcp, *number)),
            Self::Fdb(number, switch, port, address) => model.fdb(*number, *switch, *port, &mac(*address)),
            Self::Filter(step) => step.take(model),
            Self::Router(step) => step.take(model),
            Self::Nat(step) => step.take(model),
            Self::Qos(step) => step.take(model),
            Self::DropFdb(number) => model.remove::<Fdb>(id(Kind::Fdb, *number)),
            Self::LspDown(ignore) => model.put(
                id(Kind::Own, 9),
                NbGlobal {
                    options: options(&[("ignore_lsp_down", if *ignore { "true" } else { "false" })]),
                    ..NbGlobal::default()
                },
            ),
        }
    }
}

pub(super) fn edit<T: Row>(model: &mut Model, uuid: quantumnet_model::Uuid, change: impl FnOnce(&mut T)) {
    if let Some(mut row) = model.rows.get::<T>(uuid).cloned() {
        change(&mut row);
        model.put(uuid, row);
    }
}
