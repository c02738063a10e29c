//! What a router does with a packet before it looks for a route (RFC 1812, section 5.3).
//!
//! # Contract
//! - `router_input`: owner one router port that is here; reads it, and what its router is. Out: echo requests for its addresses
//!   answered; what else is for them to the agent, which says that nothing is there, or dropped where a gateway may translate it;
//!   expired packets that came by it to the agent.
//! - `router_input_common`: addresses that no packet may have, groups, ARP and ND, and that the rest is routed.
//!
//! # Invariants
//! - Priorities are OVN's, so that of two reasons the same one counts.
//! - An IPv4 packet with a source of the router's own, or the broadcast address of one of its networks, is dropped, unless the
//!   router itself has sent it back in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ofpacket::{Action, Match, field};

use crate::compile::{
    logical::{RouterPort, go, on_switch},
    owner::{Owner, Owners, Relation},
    punt::{Protocol, PuntReason},
    register,
    sink::Sink,
    stage::{Stage, admit, router::gateway},
    table::Table,
    view::View,
};

pub(in crate::compile) const STAGE: Stage = Stage {
    number: 52,
    name: "router_input",
    owners: Owners::Facts(Relation::RouterPorts),
    tables: &[Table::RouterInput],
    relations: &[],
    emit,
};

pub(in crate::compile) const COMMON: Stage = Stage {
    number: 53,
    name: "router_input_common",
    owners: Owners::Switch,
    tables: &[Table::RouterInput],
    relations: &[],
    emit: common,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = RouterPort::read(view, owner.row()) else { return };
    let translates = view.holds(Relation::Translates, port.router);
    let next = if translates { Table::RouterTrack } else { Table::Route };
    if translates {
        out.flow(Table::RouterInput, 1, on_switch(port.router_key), [go(next)]);
    }
    for net in port.v4() {
        for source in [net.addr(), net.broadcast()] {
            let forged = on_switch(port.router_key).ipv4().with(field::IPV4_SRC, source);
            out.flow(Table::RouterInput, 100, forged.with_bits(register::EGRESS_LOOPBACK, 0u8), []);
        }
    }
    let answers = !view.holds(Relation::Gateways, port.router);
    for net in port.all() {
        let own = own_address(&port, net.addr());
        out.flow(Table::RouterInput, 90, echo_request(own.clone()), echo_reply(net.addr(), next));
        if answers {
            let tell = super::punt(
                view,
                &port,
                PuntReason::RouterUnreachable,
                Some(error(net.addr().is_ipv4())),
                out,
            );
            let reset =
                super::punt(view, &port, PuntReason::RouterUnreachable, Some(Protocol::TcpReset), out);
            if reset != tell {
                out.flow(Table::RouterInput, 80, first_fragment(own.clone().ip_proto(TCP)), [reset]);
            }
            out.flow(Table::RouterInput, 70, first_fragment(own.clone()), [tell]);
        }
        // Where addresses are translated, be it on another hypervisor, it is known only later whether it is for the router.
        if !view.holds(Relation::Translations, port.router) {
            out.flow(Table::RouterInput, 60, own, []);
        }
    }
    if !gateway::speaks(view, &port) {
        return;
    }
    for (family, v4) in [(Match::ipv4 as fn(Match) -> Match, true), (Match::ipv6, false)] {
        let expired = super::punt(view, &port, PuntReason::TimeExceeded, Some(error(v4)), out);
        for ttl in [0u8, 1] {
            let dying = family(port.from()).with(field::IP_TTL, ttl);
            out.flow(Table::RouterInput, 30, first_fragment(dying), [expired.clone()]);
        }
    }
}

/// Packets for one of the port's addresses, by whichever port of the router they come; for the link-local one by its own.
fn own_address(port: &RouterPort<'_>, ip: IpAddr) -> Match {
    match ip {
        IpAddr::V4(ip) => on_switch(port.router_key).ipv4().with(field::IPV4_DST, ip),
        IpAddr::V6(ip) if ip == port.mac.link_local() => port.from().ipv6().with(field::IPV6_DST, ip),
        IpAddr::V6(ip) => on_switch(port.router_key).ipv6().with(field::IPV6_DST, ip),
    }
}

/// What tells a sender of that family of trouble.
pub(super) const fn error(v4: bool) -> Protocol {
    if v4 { Protocol::Icmp4Error } else { Protocol::Icmp6Error }
}

/// Neither of a fragmented packet nor a later part of one.
fn first_fragment(matches: Match) -> Match {
    matches.with_masked(field::IP_FRAG, 0u8, LATER_FRAGMENT)
}

fn echo_request(own: Match) -> Match {
    if own.get(field::IPV4_DST).is_some() {
        own.ip_proto(ICMP).with(field::ICMPV4_TYPE, 8u8).with(field::ICMPV4_CODE, 0u8)
    } else {
        own.ip_proto(ICMPV6).with(field::ICMPV6_TYPE, 128u8).with(field::ICMPV6_CODE, 0u8)
    }
}

fn echo_reply(own: IpAddr, next: Table) -> Vec<Action> {
    let (source, destination, reply) = match own {
        IpAddr::V4(_) => (field::IPV4_SRC, field::IPV4_DST, Action::set_field(field::ICMPV4_TYPE, 0u8)),
        IpAddr::V6(_) => (field::IPV6_SRC, field::IPV6_DST, Action::set_field(field::ICMPV6_TYPE, 129u8)),
    };
    let own = match own {
        IpAddr::V4(ip) => Action::set_field(source, ip),
        IpAddr::V6(ip) => Action::set_field(source, ip),
    };
    vec![
        Action::copy(source, destination),
        own,
        Action::SetNwTtl(255),
        reply,
        Action::load(register::LOOPBACK, 1),
        go(next),
    ]
}

fn common(_: &View<'_>, _: Owner, out: &mut Sink) {
    let mut drop = |priority: u16, matches: Match| out.flow(Table::RouterInput, priority, matches, []);
    let v4 = || Match::new().ipv4();
    let group = Ipv4Addr::new(224, 0, 0, 0);
    drop(100, v4().with_prefix(field::IPV4_SRC, group, 4));
    drop(100, v4().with(field::IPV4_SRC, u32::MAX));
    for net in [Ipv4Addr::new(127, 0, 0, 0), Ipv4Addr::UNSPECIFIED] {
        drop(100, v4().with_prefix(field::IPV4_SRC, net, 8));
        drop(100, v4().with_prefix(field::IPV4_DST, net, 8));
    }
    drop(82, v4().with_prefix(field::IPV4_DST, group, 4));
    drop(82, Match::new().ipv6().with_prefix(field::IPV6_DST, Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8));
    for ttl in [0u8, 1] {
        drop(29, v4().with(field::IP_TTL, ttl));
        drop(29, Match::new().ipv6().with(field::IP_TTL, ttl));
    }
    let neighbour = |matches: Match, out: &mut Sink| {
        out.flow(Table::RouterInput, 95, matches, [go(Table::RouterNeighbour)]);
    };
    neighbour(Match::new().arp(), out);
    for kind in [admit::NS, admit::NA] {
        neighbour(admit::discovery(Match::new(), kind), out);
    }
    for ip in [Match::ipv4, Match::ipv6] {
        out.flow(Table::RouterInput, 0, ip(Match::new()), [go(Table::Route)]);
    }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
/// Set in all fragments but the first.
const LATER_FRAGMENT: u8 = 2;

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::stage::router::translate::testing::{World, rule};

    #[test]
    fn what_is_for_a_translated_address_is_routed_to_the_gateway_wherever_that_is() {
        let world = World { elsewhere: true, ..World::of([rule("snat", "172.16.0.1", "10.0.0.0/24")]) };
        world.check(&[&STAGE], expect![[r#"
            RouterInput 30 ip,reg14=0x1,nw_ttl=0,nw_frag=not_later => controller(userdata=01.0a.00.00.00.00.00.15.00.00.00.00.00.00.00.00.00.00.00.01)
            RouterInput 30 ip,reg14=0x1,nw_ttl=1,nw_frag=not_later => controller(userdata=01.0a.00.00.00.00.00.15.00.00.00.00.00.00.00.00.00.00.00.01)
            RouterInput 30 ipv6,reg14=0x1,nw_ttl=0,nw_frag=not_later => controller(userdata=01.0a.00.00.00.00.00.15.00.00.00.00.00.00.00.00.00.00.00.01)
            RouterInput 30 ipv6,reg14=0x1,nw_ttl=1,nw_frag=not_later => controller(userdata=01.0a.00.00.00.00.00.15.00.00.00.00.00.00.00.00.00.00.00.01)
            RouterInput 70 ip,nw_dst=10.0.0.254,nw_frag=not_later => controller(userdata=01.0b.00.00.00.00.00.15.00.00.00.00.00.00.00.00.00.00.00.01)
            RouterInput 70 ip,nw_dst=172.16.0.1,nw_frag=not_later => controller(userdata=01.0b.00.00.00.00.00.16.00.00.00.00.00.00.00.00.00.00.00.01)
            RouterInput 70 ipv6,ipv6_dst=fd00::fe,nw_frag=not_later => controller(userdata=01.0b.00.00.00.00.00.15.00.00.00.00.00.00.00.00.00.00.00.01)
            RouterInput 70 ipv6,ipv6_dst=fd16::1,nw_frag=not_later => controller(userdata=01.0b.00.00.00.00.00.16.00.00.00.00.00.00.00.00.00.00.00.01)
            RouterInput 70 ipv6,reg14=0x1,ipv6_dst=fe80::8ff:ff:fe00:1,nw_frag=not_later => controller(userdata=01.0b.00.00.00.00.00.15.00.00.00.00.00.00.00.00.00.00.00.01)
            RouterInput 70 ipv6,reg14=0x2,ipv6_dst=fe80::8ff:ff:fe00:2,nw_frag=not_later => controller(userdata=01.0b.00.00.00.00.00.16.00.00.00.00.00.00.00.00.00.00.00.01)
            RouterInput 90 icmp,nw_dst=10.0.0.254,icmp_type=8,icmp_code=0 => move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[],set_field:10.0.0.254->ip_src,mod_nw_ttl:255,set_field:0->icmp_type,load:0x1->NXM_NX_REG10[0],resubmit(,23)
            RouterInput 90 icmp,nw_dst=172.16.0.1,icmp_type=8,icmp_code=0 => move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[],set_field:172.16.0.1->ip_src,mod_nw_ttl:255,set_field:0->icmp_type,load:0x1->NXM_NX_REG10[0],resubmit(,23)
            RouterInput 90 icmp6,ipv6_dst=fd00::fe,icmp_type=128,icmp_code=0 => move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[],set_field:fd00::fe->ipv6_src,mod_nw_ttl:255,set_field:129->icmpv6_type,load:0x1->NXM_NX_REG10[0],resubmit(,23)
            RouterInput 90 icmp6,ipv6_dst=fd16::1,icmp_type=128,icmp_code=0 => move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[],set_field:fd16::1->ipv6_src,mod_nw_ttl:255,set_field:129->icmpv6_type,load:0x1->NXM_NX_REG10[0],resubmit(,23)
            RouterInput 90 icmp6,reg14=0x1,ipv6_dst=fe80::8ff:ff:fe00:1,icmp_type=128,icmp_code=0 => move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[],set_field:fe80::8ff:ff:fe00:1->ipv6_src,mod_nw_ttl:255,set_field:129->icmpv6_type,load:0x1->NXM_NX_REG10[0],resubmit(,23)
            RouterInput 90 icmp6,reg14=0x2,ipv6_dst=fe80::8ff:ff:fe00:2,icmp_type=128,icmp_code=0 => move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[],set_field:fe80::8ff:ff:fe00:2->ipv6_src,mod_nw_ttl:255,set_field:129->icmpv6_type,load:0x1->NXM_NX_REG10[0],resubmit(,23)
            RouterInput 100 ip,reg10=0/0x10,nw_src=10.0.0.254 => drop
            RouterInput 100 ip,reg10=0/0x10,nw_src=10.0.0.255 => drop
            RouterInput 100 ip,reg10=0/0x10,nw_src=172.16.0.1 => drop
            RouterInput 100 ip,reg10=0/0x10,nw_src=172.16.0.255 => drop
        "#]]);
    }
}
