//! How others reach an outer address: its MAC on the attached network and within the router.
//!
//! # Contract
//! - `nat_reach`: owner one outer address of a gateway port or gateway router. Reads: all its rules there, the router's ports.
//!   RouterNeighbour: who asks for it by ARP or ND on the gateway port is answered where it is served; on a gateway router by
//!   any port. NextHop: it is at the gateway, or at the floating IP's own MAC; what came in for it by the gateway port and is
//!   still for it goes nowhere. Where a rule says so (`add_route`), routers on the attached switch have a route to it.
//! - `nat_mac`: owner one rule. Forward, RouterAdmit: frames for a floating IP's own MAC come in where its port is. RouterGateway:
//!   what it sends leaves there too; of a virtual port that nobody has, nowhere.
//! - RouterInput: what comes in by the gateway port from an address that sources are given is no forgery.
//!
//! # Invariants
//! - An outer address is answered for by one hypervisor, with the MAC that it sends with.

use std::net::IpAddr;

use ipnet::IpNet;
use ofpacket::{Action, field};
use quantumnet_model::{address::Mac, host::HostSelf};

use super::{
    address::rules,
    condition::{Counts, Flows, Side},
    rule::{self, Kind, Rule},
};
use crate::compile::{
    index::By,
    logical::{self, RouterPort, SwitchPort, go, on_switch, send},
    owner::{Owner, Owners, Relation, address},
    punt::{Protocol, PuntReason},
    register,
    sink::Sink,
    stage::{
        Stage, admit, arp_respond,
        nd_respond::solicited_node,
        router::{
            self,
            route::{self, Class},
        },
    },
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 172,
    name: "nat_reach",
    owners: Owners::Facts(Relation::ExternalAddresses),
    tables: &[Table::RouterInput, Table::RouterNeighbour, Table::NextHop, Table::Route],
    relations: &[],
    emit,
};

pub(in crate::compile) const MAC: Stage = Stage {
    number: 173,
    name: "nat_mac",
    owners: Owners::Facts(Relation::Translations),
    tables: &[Table::Forward, Table::RouterAdmit, Table::RouterGateway],
    relations: &[],
    emit: own_mac,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let rules = rules(view, fact.of, fact.value);
    let external = address(fact.value);
    let Some(first) = rules.first() else { return };
    let is_shared = rules.iter().any(Rule::adds_route);
    let Some(gateway) = &first.gateway else {
        for port in view.related(Relation::RouterPorts, first.router, 0) {
            if let Some(port) = RouterPort::read(view, port) {
                answer(view, &port, external, port.mac, out);
                if is_shared {
                    share(view, &port, external, port.mac, out);
                }
            }
        }
        return;
    };
    let port = &gateway.port;
    let still = rule::destination(port.to(), IpNet::from(external)).with(register::IN_PORT, port.key);
    out.flow(Table::NextHop, 150, still, []);
    let mac = |rule: &Rule<'_>| rule.distributed.map_or(port.mac, |distributed| distributed.mac);
    router::next_hop::resolve(port, external, mac(first), router::next_hop::KNOWN, None, out);
    if is_shared {
        share(view, port, external, mac(first), out);
    }
    if gateway.faces_gateway(view) {
        // Whoever asks on another port is told that it is there, as OVN has it.
        for port in view.related(Relation::RouterPorts, first.router, 0) {
            if let Some(port) = RouterPort::read(view, port) {
                answer(view, &port, external, port.mac, out);
            }
        }
        return;
    }
    if let Some(served) = rules.iter().find(|rule| rule.serves_outbound(view)) {
        answer(view, port, external, mac(served), out);
    }
    if view.holds(Relation::Translates, first.router) && rules.iter().any(|rule| rule.kind == Kind::Source) {
        let from = rule::source(port.from(), IpNet::from(external));
        out.flow(Table::RouterInput, 120, from, [go(Table::RouterTrack)]);
    }
}

/// Other routers on the port's switch have a route to the address, and its MAC (ovn-nb(5), `NAT.options:add_route`).
fn share(view: &View<'_>, port: &RouterPort<'_>, ip: IpAddr, mac: Mac, out: &mut Sink) {
    let Some(side) = port.switch_port(view) else { return };
    for other in router::next_hop::routers(view, &side).filter(|other| other.router != port.router) {
        let net = IpNet::from(ip);
        let matches = route::destination(on_switch(other.router_key), net);
        let actions = [vec![Action::DecNwTtl], route::itself(net), route::by(view, &other)].concat();
        out.flow(Table::Route, route::priority(net, Class::Static), matches, actions);
        router::next_hop::resolve(&other, ip, mac, router::next_hop::KNOWN, None, out);
    }
}

/// Who asks for the address on that port gets the MAC.
fn answer(view: &View<'_>, port: &RouterPort<'_>, ip: IpAddr, mac: Mac, out: &mut Sink) {
    let known = || port.from().with_bits(register::NEIGHBOUR_KNOWN, 1u8);
    let mut answer =
        vec![Action::load(register::ANSWER_MAC, arp_respond::bits(mac)), go(Table::NeighbourReply)];
    let able = view.find_one::<HostSelf>(By::HostSelf, &[]).is_some_and(|(_, host)| host.nd_extensions);
    if ip.is_ipv6() && !able {
        answer = vec![router::punt(view, port, PuntReason::RouterSolicited, Some(Protocol::NdNa), out)];
    }
    match ip {
        IpAddr::V4(ip) => {
            let request = known().arp().with(field::ARP_OP, 1u16).with(field::ARP_TPA, ip);
            out.flow(Table::RouterNeighbour, 92, request, answer);
        }
        IpAddr::V6(ip) => {
            for to in [ip, solicited_node(ip)] {
                let solicit = admit::discovery(known(), admit::NS).with(field::ND_TARGET, ip);
                out.flow(Table::RouterNeighbour, 92, solicit.with(field::IPV6_DST, to), answer.clone());
            }
        }
    }
}

fn own_mac(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let Some(rule) = Rule::read(view, fact.of, fact.value) else { return };
    let (Some(distributed), Some(gateway)) = (rule.distributed, &rule.gateway) else { return };
    let is_virtual =
        SwitchPort::read(view, distributed.port).is_some_and(|port| port.kind == logical::Kind::Virtual);
    if is_virtual {
        out.flow(Table::RouterGateway, 80, rule.outbound(), []);
    }
    if !view.holds(Relation::Resident, distributed.port) {
        return;
    }
    let mac = distributed.mac.0;
    let leave = [Action::set_field(field::ETH_SRC, mac), go(Table::Output)];
    if rule.is_stateless() && rule.row.allowed_ext_ips.is_some() {
        // To others it is not translated, and goes by the gateway as it is.
        let flows = Flows { view, rule: &rule, table: Table::RouterGateway, priority: 75, side: Side::Out };
        flows.put(Counts::All, &|matches| matches, &leave, out);
    } else {
        out.flow(Table::RouterGateway, 100, rule.outbound(), leave);
    }
    let looked_at: Vec<Action> = router::large::look(view, &gateway.port).into_iter().collect();
    let entry = [looked_at, router::admit::entry(&gateway.port)].concat();
    out.flow(Table::RouterAdmit, 50, gateway.port.from().with(field::ETH_DST, mac), entry);
    if let Some(side) = gateway.port.switch_port(view) {
        out.flow(Table::Forward, 50, on_switch(side.switch_key).with(field::ETH_DST, mac), send(side.key));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::{
        super::testing::{World, distributed, rule},
        *,
    };

    #[test]
    fn outer_addresses_are_answered_for_where_they_are_served() {
        let world = World::of([
            rule("snat", "172.16.0.1", "10.0.0.0/24"),
            rule("dnat_and_snat", "172.16.0.50", "10.0.0.2"),
            rule("dnat_and_snat", "fd16::50", "fd00::1"),
        ]);
        world.check(&[&STAGE], expect![[r#"
            RouterInput 120 ip,reg14=0x2,nw_src=172.16.0.1 => resubmit(,21)
            RouterNeighbour 92 arp,reg10=0x8/0x8,reg14=0x2,arp_tpa=172.16.0.1,arp_op=1 => load:0xaff00000002->OXM_OF_PKT_REG1[0..47],resubmit(,14)
            RouterNeighbour 92 arp,reg10=0x8/0x8,reg14=0x2,arp_tpa=172.16.0.50,arp_op=1 => load:0xaff00000002->OXM_OF_PKT_REG1[0..47],resubmit(,14)
            RouterNeighbour 92 icmp6,reg10=0x8/0x8,reg14=0x2,ipv6_dst=fd16::50,nw_ttl=255,icmp_type=135,icmp_code=0,nd_target=fd16::50 => load:0xaff00000002->OXM_OF_PKT_REG1[0..47],resubmit(,14)
            RouterNeighbour 92 icmp6,reg10=0x8/0x8,reg14=0x2,ipv6_dst=ff02::1:ff00:50,nw_ttl=255,icmp_type=135,icmp_code=0,nd_target=fd16::50 => load:0xaff00000002->OXM_OF_PKT_REG1[0..47],resubmit(,14)
            NextHop 100 reg4=0,reg5=0,reg6=0,reg7=0xac100001,reg15=0x2 => set_field:0a:ff:00:00:00:02->eth_dst,resubmit(,32)
            NextHop 100 reg4=0,reg5=0,reg6=0,reg7=0xac100032,reg15=0x2 => set_field:0a:ff:00:00:00:02->eth_dst,resubmit(,32)
            NextHop 100 reg4=0xfd160000,reg5=0,reg6=0,reg7=0x50,reg15=0x2 => set_field:0a:ff:00:00:00:02->eth_dst,resubmit(,32)
            NextHop 150 ip,reg14=0x2,reg15=0x2,nw_dst=172.16.0.1 => drop
            NextHop 150 ip,reg14=0x2,reg15=0x2,nw_dst=172.16.0.50 => drop
            NextHop 150 ipv6,reg14=0x2,reg15=0x2,ipv6_dst=fd16::50 => drop
        "#]]);
        World { elsewhere: true, ..world.clone() }.check(&[&STAGE], expect![[r#"
            NextHop 100 reg4=0,reg5=0,reg6=0,reg7=0xac100001,reg15=0x2 => set_field:0a:ff:00:00:00:02->eth_dst,resubmit(,32)
            NextHop 100 reg4=0,reg5=0,reg6=0,reg7=0xac100032,reg15=0x2 => set_field:0a:ff:00:00:00:02->eth_dst,resubmit(,32)
            NextHop 100 reg4=0xfd160000,reg5=0,reg6=0,reg7=0x50,reg15=0x2 => set_field:0a:ff:00:00:00:02->eth_dst,resubmit(,32)
            NextHop 150 ip,reg14=0x2,reg15=0x2,nw_dst=172.16.0.1 => drop
            NextHop 150 ip,reg14=0x2,reg15=0x2,nw_dst=172.16.0.50 => drop
            NextHop 150 ipv6,reg14=0x2,reg15=0x2,ipv6_dst=fd16::50 => drop
        "#]]);
        World { pinned: true, ..world }.check(&[&STAGE], expect![[r#"
            RouterNeighbour 92 arp,reg10=0x8/0x8,reg14=0x1,arp_tpa=172.16.0.1,arp_op=1 => load:0xaff00000001->OXM_OF_PKT_REG1[0..47],resubmit(,14)
            RouterNeighbour 92 arp,reg10=0x8/0x8,reg14=0x2,arp_tpa=172.16.0.1,arp_op=1 => load:0xaff00000002->OXM_OF_PKT_REG1[0..47],resubmit(,14)
            RouterNeighbour 92 arp,reg10=0x8/0x8,reg14=0x1,arp_tpa=172.16.0.50,arp_op=1 => load:0xaff00000001->OXM_OF_PKT_REG1[0..47],resubmit(,14)
            RouterNeighbour 92 arp,reg10=0x8/0x8,reg14=0x2,arp_tpa=172.16.0.50,arp_op=1 => load:0xaff00000002->OXM_OF_PKT_REG1[0..47],resubmit(,14)
            RouterNeighbour 92 icmp6,reg10=0x8/0x8,reg14=0x1,ipv6_dst=fd16::50,nw_ttl=255,icmp_type=135,icmp_code=0,nd_target=fd16::50 => load:0xaff00000001->OXM_OF_PKT_REG1[0..47],resubmit(,14)
            RouterNeighbour 92 icmp6,reg10=0x8/0x8,reg14=0x2,ipv6_dst=fd16::50,nw_ttl=255,icmp_type=135,icmp_code=0,nd_target=fd16::50 => load:0xaff00000002->OXM_OF_PKT_REG1[0..47],resubmit(,14)
            RouterNeighbour 92 icmp6,reg10=0x8/0x8,reg14=0x1,ipv6_dst=ff02::1:ff00:50,nw_ttl=255,icmp_type=135,icmp_code=0,nd_target=fd16::50 => load:0xaff00000001->OXM_OF_PKT_REG1[0..47],resubmit(,14)
            RouterNeighbour 92 icmp6,reg10=0x8/0x8,reg14=0x2,ipv6_dst=ff02::1:ff00:50,nw_ttl=255,icmp_type=135,icmp_code=0,nd_target=fd16::50 => load:0xaff00000002->OXM_OF_PKT_REG1[0..47],resubmit(,14)
        "#]]);
    }

    #[test]
    fn a_floating_ip_has_its_own_mac_where_its_port_is() {
        let world = World::of([distributed("172.16.0.50", "10.0.0.1")]);
        World { elsewhere: true, ..world.clone() }.check(&[&STAGE, &MAC], expect![[r#"
            Forward 50 metadata=0x6,dl_dst=0a:f1:00:00:00:01 => load:0x1->NXM_NX_REG15[],resubmit(,32)
            RouterAdmit 50 reg14=0x2,dl_dst=0a:f1:00:00:00:01 => resubmit(,19)
            RouterNeighbour 92 arp,reg10=0x8/0x8,reg14=0x2,arp_tpa=172.16.0.50,arp_op=1 => load:0xaf100000001->OXM_OF_PKT_REG1[0..47],resubmit(,14)
            NextHop 100 reg4=0,reg5=0,reg6=0,reg7=0xac100032,reg15=0x2 => set_field:0a:f1:00:00:00:01->eth_dst,resubmit(,32)
            NextHop 150 ip,reg14=0x2,reg15=0x2,nw_dst=172.16.0.50 => drop
            RouterGateway 100 ip,reg15=0x2,nw_src=10.0.0.1 => set_field:0a:f1:00:00:00:01->eth_src,resubmit(,32)
        "#]]);
        World { guest_elsewhere: true, ..world }.check(&[&STAGE, &MAC], expect![[r#"
            NextHop 100 reg4=0,reg5=0,reg6=0,reg7=0xac100032,reg15=0x2 => set_field:0a:f1:00:00:00:01->eth_dst,resubmit(,32)
            NextHop 150 ip,reg14=0x2,reg15=0x2,nw_dst=172.16.0.50 => drop
        "#]]);
    }
}
