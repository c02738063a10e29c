//! Gateway ports: what leaves by one leaves the hypervisor that is its gateway, wherever it was routed (ovn-nb(5),
//! `Logical_Router_Port`, "Distributed Gateway Ports").
//!
//! # Contract
//! - Owner: one router port that is here and has a gateway; reads it, its `chassisredirect` binding, the members of its group and the
//!   tunnels to them.
//! - RouterGateway. In: `OUT_PORT`, all else done. Out: on the active member to Output; else `OUT_PORT` is that of the binding.
//!   With `redirect-type` bridged the packet goes to the gateway's MAC by the physical network of the port's switch.
//! - Output: what goes to the binding goes into the tunnel of the first member that BFD has alive: the switch itself changes to
//!   the next, without flows. What came for it by a tunnel leaves by the port itself, where the binding is resident.
//!
//! # Invariants
//! - What came from a tunnel goes into none.
//! - Who hands over sends what is its own to the successor, and serves others while they change.

use ofpacket::{Action, Bundle, BundleAlgorithm, HashFields, Match, Port, field};
use ovsdb::value::Atom;
use quantumnet_model::{host::HostTunnel, sb::PortBinding};
use uuid::Uuid;

use crate::compile::{
    derive::gateway,
    index::By,
    logical::{self, Kind, RouterPort, SwitchPort, go, on_switch, peer, port_key},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 143,
    name: "router_gateway",
    owners: Owners::Facts(Relation::RouterPorts),
    tables: &[Table::RouterGateway, Table::Output],
    relations: &[],
    emit,
};

pub(in crate::compile) const COMMON: Stage = Stage {
    number: 146,
    name: "router_gateway_common",
    owners: Owners::Switch,
    tables: &[Table::RouterGateway],
    relations: &[],
    emit: common,
};

/// The `chassisredirect` binding of a router port.
pub(in crate::compile) struct Gateway<'a> {
    pub(in crate::compile) uuid: Uuid,
    pub(in crate::compile) binding: &'a PortBinding,
    pub(in crate::compile) key: u16,
    pub(in crate::compile) group: Option<Uuid>,
}

impl<'a> Gateway<'a> {
    /// That of a port, if it has one.
    pub(in crate::compile) fn of(view: &View<'a>, port: &RouterPort<'_>) -> Option<Self> {
        let name = format!("cr-{}", port.binding.logical_port);
        let (uuid, binding) = view.find_one::<PortBinding>(By::LogicalPort, &[Atom::String(name.into())])?;
        let is_its = binding.options.get("distributed-port") == Some(&port.binding.logical_port);
        if &*binding.r#type != "chassisredirect" || !is_its || binding.datapath.uuid() != port.router {
            return None;
        }
        let group = binding.ha_chassis_group.map(|group| group.uuid());
        Some(Self { uuid, binding, key: port_key(binding.tunnel_key)?, group })
    }

    /// Whether this hypervisor is the one that others send to.
    fn is_active(&self, view: &View<'_>) -> bool {
        self.group.is_some_and(|group| view.holds(Relation::Active, group))
    }

    /// Whether packets reach it by the physical network of the port's switch, and not by a tunnel.
    pub(in crate::compile) fn is_bridged(&self) -> bool {
        self.binding.options.get("redirect-type").is_some_and(|kind| &**kind == "bridged")
    }

    /// Whether packets for it are taken here.
    pub(in crate::compile) fn is_resident(&self, view: &View<'_>) -> bool {
        view.holds(Relation::Resident, self.uuid)
    }
}

/// Whether a port is its router's to the outside world here: it takes frames for its MAC and answers for its addresses. A gateway
/// port does so where it is resident, one with `reside-on-redirect-chassis` where the only gateway of its router is, as far as
/// its switch has a physical network; all others everywhere.
pub(in crate::compile) fn speaks(view: &View<'_>, port: &RouterPort<'_>) -> bool {
    if let Some(gateway) = Gateway::of(view, port) {
        return gateway.is_resident(view);
    }
    let resides = port.row.options.get("reside-on-redirect-chassis").is_some_and(|value| &**value == "true");
    if !resides || !on_physical_network(view, port) {
        return true;
    }
    match gateways(view, port.router).as_slice() {
        [only] => only.is_resident(view),
        _ => true,
    }
}

/// Whether a port that speaks here also says where it is: a gateway that another member has taken over does not, though it
/// takes what still comes.
pub(in crate::compile) fn answers(view: &View<'_>, port: &RouterPort<'_>) -> bool {
    let taken_over =
        Gateway::of(view, port).is_some_and(|gateway| gateway.group.is_some() && !gateway.is_active(view));
    !taken_over && speaks(view, port)
}

/// Whether what is for a switch's port to a router is taken there here. Of gateway ports it goes where the gateway is: by the
/// physical network, as what is for anybody outside.
pub(in crate::compile) fn takes(view: &View<'_>, side: &SwitchPort<'_>) -> bool {
    let port = peer(view, side.binding).and_then(|port| RouterPort::read(view, port));
    port.is_none_or(|port| speaks(view, &port))
}

/// Whether the port's switch reaches a physical network on some hypervisor.
fn on_physical_network(view: &View<'_>, port: &RouterPort<'_>) -> bool {
    let Some(side) = port.switch_port(view) else { return false };
    let mut physical = view.related(Relation::PhysicalPorts, side.switch, 0);
    physical.any(|port| SwitchPort::read(view, port).is_some_and(|port| port.kind == Kind::Localnet))
}

/// Gateways of a router's ports.
fn gateways<'a>(view: &View<'a>, router: Uuid) -> Vec<Gateway<'a>> {
    let ports: Vec<Uuid> = view.related(Relation::RouterPorts, router, 0).collect();
    let ports = ports.into_iter().filter_map(|port| RouterPort::read(view, port));
    ports.filter_map(|port| Gateway::of(view, &port)).collect()
}

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = RouterPort::read(view, owner.row()) else { return };
    let Some(gateway) = Gateway::of(view, &port) else { return };
    let elsewhere = || vec![Action::load(register::OUT_PORT, gateway.key.into()), go(Table::Output)];
    let way = if gateway.is_active(view) {
        vec![go(Table::Output)]
    } else if gateway.is_bridged() {
        bridged(view, &port)
    } else {
        elsewhere()
    };
    out.flow(Table::RouterGateway, 50, port.to(), way);

    let to = || on_switch(port.router_key).with(register::OUT_PORT, gateway.key);
    let here = |bit: u8| to().with_bits(register::FROM_TUNNEL, bit);
    if gateway.is_resident(view) {
        let leave = vec![Action::load(register::OUT_PORT, port.key.into()), go(Table::Output)];
        out.flow(Table::Output, 100, here(1), leave);
    }
    let tunnels = tunnels(view, gateway.group);
    let send = match tunnels.as_slice() {
        [] => return,
        [only] => Action::load(register::TUNNEL, (*only).into()),
        several => Action::BundleLoad(Bundle {
            algorithm: BundleAlgorithm::ACTIVE_BACKUP,
            fields: HashFields::ETH_SRC,
            basis: 0,
            target: Some(register::TUNNEL),
            members: several.iter().map(|ofport| Port((*ofport).into())).collect(),
        }),
    };
    out.flow(Table::Output, 100, here(0), [send, go(Table::TunnelOut)]);
}

fn common(_: &View<'_>, _: Owner, out: &mut Sink) {
    out.flow(Table::RouterGateway, 0, Match::new(), [go(Table::Output)]);
}

/// Tunnels to a group's other members, the first choice first.
fn tunnels(view: &View<'_>, group: Option<Uuid>) -> Vec<u16> {
    let Some(own) = view.related_one(Relation::OwnChassis, Uuid::nil()) else { return Vec::new() };
    let members = group.map(|group| gateway::members(view, group)).unwrap_or_default();
    let others = members.into_iter().filter(|member| *member != own);
    let tunnel = |chassis| {
        let tunnel: &HostTunnel = view.row(view.related_one(Relation::TunnelTo, chassis)?)?;
        logical::ofport(tunnel.ofport)
    };
    others.filter_map(tunnel).collect()
}

/// To the gateway by the physical network of the port's switch, as a frame of the port for itself.
fn bridged(view: &View<'_>, port: &RouterPort<'_>) -> Vec<Action> {
    let Some(side) = port.switch_port(view) else { return Vec::new() };
    let Some(localnet) = logical::localnet(view, side.switch) else { return Vec::new() };
    vec![
        Action::set_field(field::ETH_SRC, port.mac.0),
        Action::set_field(field::ETH_DST, port.mac.0),
        Action::CtClear,
        Action::load(field::METADATA, side.switch_key.into()),
        Action::load(register::IN_PORT, side.key.into()),
        Action::load(register::OUT_PORT, localnet.key.into()),
        logical::forget_interface(),
        go(Table::Deliver),
    ]
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, sync::Arc};

    use expect_test::{Expect, expect};
    use quantumnet_model::{
        Row, Strong, Weak,
        column::Text,
        host::{HostHandover, HostPatch, HostSelf},
        nb::{LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort},
        sb::{Chassis, DatapathBinding, Encap, HaChassis, HaChassisGroup},
    };

    use super::*;
    use crate::compile::{Compiler, RowUpdate};

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number << 64 | 1)
    }

    fn put<T: Row>(number: u128, row: T) -> RowUpdate {
        (T::TABLE, id(number), Some(Arc::new(row)))
    }

    fn map(pairs: &[(&str, &str)]) -> imbl::OrdMap<Text, Text> {
        pairs.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect()
    }

    /// Router 9 on this hypervisor, hv1: its port 2 has the gateway port 3, served by these members. All others are alive.
    fn world(members: &[(u128, i64)]) -> Vec<RowUpdate> {
        let mut rows = vec![put(0, HostSelf { chassis: "hv1".into(), ..HostSelf::default() })];
        for number in 1..=3u128 {
            let encap =
                Encap { r#type: "geneve".into(), ip: format!("192.0.2.{number}").into(), ..Encap::default() };
            rows.push(put(20 + number, encap));
            let encaps = imbl::OrdSet::unit(Strong::new(id(20 + number)));
            rows.push(put(
                10 + number,
                Chassis { name: format!("hv{number}").into(), encaps, ..Chassis::default() },
            ));
            if number > 1 {
                let (chassis, encap, ofport) = (id(10 + number), id(20 + number), 1000 + number as i64);
                rows.push(put(30 + number, HostTunnel { chassis, encap, ofport, heard: true, alive: true }));
            }
        }
        for (number, priority) in members {
            let chassis = Some(Weak::new(id(10 + number)));
            rows.push(put(40 + number, HaChassis { chassis, priority: *priority, ..HaChassis::default() }));
        }
        let ha_chassis = members.iter().map(|(number, _)| Strong::new(id(40 + number))).collect();
        rows.push(put(50, HaChassisGroup { name: "g".into(), ha_chassis, ..HaChassisGroup::default() }));
        let datapath = DatapathBinding {
            tunnel_key: 9,
            r#type: Some("logical-router".into()),
            ..DatapathBinding::default()
        };
        rows.push(put(60, datapath));
        rows.push(put(60, LogicalRouter::default()));
        rows.push(put(62, LogicalRouterPort { name: "out".into(), ..LogicalRouterPort::default() }));
        let binding = |name: &str, key, kind: &str| PortBinding {
            logical_port: name.into(),
            datapath: Strong::new(id(60)),
            tunnel_key: key,
            r#type: kind.into(),
            mac: imbl::OrdSet::unit("0a:00:00:00:00:09 172.16.0.1/24".into()),
            ..PortBinding::default()
        };
        rows.push(put(62, binding("out", 2, "patch")));
        let redirect = PortBinding {
            options: map(&[("distributed-port", "out")]),
            ha_chassis_group: Some(Strong::new(id(50))),
            ..binding("cr-out", 3, "chassisredirect")
        };
        rows.push(put(63, redirect));
        rows
    }

    #[track_caller]
    fn check(rows: Vec<RowUpdate>, expect: Expect) {
        let mut compiler = Compiler::new();
        compiler.apply(rows);
        let mut text = String::new();
        for (key, value) in compiler.table() {
            if value.cookie >> 32 == u64::from(STAGE.number) {
                let actions: Vec<String> = value.actions.iter().map(ToString::to_string).collect();
                writeln!(text, "{} {} {} => {}", key.table, key.priority, key.matches, actions.join(","))
                    .expect("strings do not fail");
            }
        }
        expect.assert_eq(&text);
    }

    /// The same with the physical network behind the gateway port, by which packets are to go to the gateway.
    fn bridged(members: &[(u128, i64)]) -> Vec<RowUpdate> {
        let on_switch = |name: &str, key, kind: &str, options: &[(&str, &str)]| PortBinding {
            logical_port: name.into(),
            datapath: Strong::new(id(70)),
            tunnel_key: key,
            r#type: kind.into(),
            options: map(options),
            ..PortBinding::default()
        };
        let switch = DatapathBinding {
            tunnel_key: 7,
            r#type: Some("logical-switch".into()),
            ..DatapathBinding::default()
        };
        let port = |kind: &str| LogicalSwitchPort { r#type: kind.into(), ..LogicalSwitchPort::default() };
        let patch = HostPatch { logical_port: "phys".into(), ofport: 9, meter: 0 };
        let mut rows = world(members);
        for (_, uuid, row) in &mut rows {
            let Some(binding) = row.as_ref().and_then(|row| row.as_any().downcast_ref::<PortBinding>())
            else {
                continue;
            };
            let (key, value) = match (*uuid == id(62), *uuid == id(63)) {
                (true, _) => ("peer", "public-out"),
                (_, true) => ("redirect-type", "bridged"),
                _ => continue,
            };
            let options = binding.options.update(key.into(), value.into());
            *row = Some(Arc::new(PortBinding { options, ..binding.clone() }));
        }
        rows.extend([
            put(70, switch),
            put(70, LogicalSwitch::default()),
            put(71, port("router")),
            put(71, on_switch("public-out", 1, "patch", &[("peer", "out")])),
            put(72, port("localnet")),
            put(72, on_switch("phys", 2, "localnet", &[("network_name", "physnet1")])),
            put(73, patch),
        ]);
        rows
    }

    #[test]
    fn bridged_gateways_are_reached_by_the_physical_network() {
        check(
            bridged(&[(2, 10), (3, 20)]),
            expect![[r#"
                28 50 reg15=0x2,metadata=0x9 => set_field:0a:00:00:00:00:09->eth_src,set_field:0a:00:00:00:00:09->eth_dst,ct_clear,load:0x7->OXM_OF_METADATA[],load:0x1->NXM_NX_REG14[],load:0x2->NXM_NX_REG15[],load:0xffff->NXM_OF_IN_PORT[],resubmit(,45)
                32 100 reg10=0/0x10000,reg15=0x3,metadata=0x9 => bundle_load(eth_src,0,active_backup,ofport,NXM_NX_REG9[0..15],members:1003,1002),resubmit(,33)
            "#]],
        );
        check(
            bridged(&[(1, 10)]),
            expect![[r#"
            28 50 reg15=0x2,metadata=0x9 => resubmit(,32)
            32 100 reg10=0x10000/0x10000,reg15=0x3,metadata=0x9 => load:0x2->NXM_NX_REG15[],resubmit(,32)
        "#]],
        );
    }

    #[test]
    fn elsewhere_the_first_member_that_lives_gets_it() {
        check(
            world(&[(2, 10), (3, 20)]),
            expect![[r#"
                28 50 reg15=0x2,metadata=0x9 => load:0x3->NXM_NX_REG15[],resubmit(,32)
                32 100 reg10=0/0x10000,reg15=0x3,metadata=0x9 => bundle_load(eth_src,0,active_backup,ofport,NXM_NX_REG9[0..15],members:1003,1002),resubmit(,33)
            "#]],
        );
        check(
            world(&[(2, 10)]),
            expect![[r#"
                28 50 reg15=0x2,metadata=0x9 => load:0x3->NXM_NX_REG15[],resubmit(,32)
                32 100 reg10=0/0x10000,reg15=0x3,metadata=0x9 => load:0x3ea->NXM_NX_REG9[0..15],resubmit(,33)
            "#]],
        );
    }

    #[test]
    fn the_active_member_takes_it_from_tunnels_and_sends_it_out_itself() {
        check(
            world(&[(1, 20), (2, 10)]),
            expect![[r#"
                28 50 reg15=0x2,metadata=0x9 => resubmit(,32)
                32 100 reg10=0/0x10000,reg15=0x3,metadata=0x9 => load:0x3ea->NXM_NX_REG9[0..15],resubmit(,33)
                32 100 reg10=0x10000/0x10000,reg15=0x3,metadata=0x9 => load:0x2->NXM_NX_REG15[],resubmit(,32)
            "#]],
        );
    }

    #[test]
    fn a_member_that_waits_takes_nothing_unless_it_hands_over() {
        let waits = || world(&[(1, 10), (2, 20)]);
        check(
            waits(),
            expect![[r#"
                28 50 reg15=0x2,metadata=0x9 => load:0x3->NXM_NX_REG15[],resubmit(,32)
                32 100 reg10=0/0x10000,reg15=0x3,metadata=0x9 => load:0x3ea->NXM_NX_REG9[0..15],resubmit(,33)
            "#]],
        );
        let handover = put(50, HostHandover { name: "g".into() });
        check(
            waits().into_iter().chain([handover]).collect(),
            expect![[r#"
                28 50 reg15=0x2,metadata=0x9 => load:0x3->NXM_NX_REG15[],resubmit(,32)
                32 100 reg10=0/0x10000,reg15=0x3,metadata=0x9 => load:0x3ea->NXM_NX_REG9[0..15],resubmit(,33)
                32 100 reg10=0x10000/0x10000,reg15=0x3,metadata=0x9 => load:0x2->NXM_NX_REG15[],resubmit(,32)
            "#]],
        );
    }
}
