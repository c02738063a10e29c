//! Port security of what comes from a port: which MAC and IP addresses it may use (ovn-sb(5), Port_Binding.port_security).
//!
//! # Contract
//! - Owner: one local port; reads it. `admit_common` has what no port changes.
//! - In: keys of switch and port. Out: what may pass goes on; port security of ARP and ND is decided in a table of
//!   its own, because it looks inside.
//!
//! # Invariants
//! - A frame from a group address never passes, nor one with a further VLAN tag behind that of its port.
//! - Without port security everything else passes. With it, what no entry allows is dropped: an entry without IP
//!   addresses allows all of its MAC, one with addresses of one family none of the other.
//! - A prefix with host bits zero allows every host of it, any other prefix just its address.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ofpacket::{Match, field};
use quantumnet_model::address::{Mac, PortSecurity};

use crate::compile::{
    logical::{GROUP_BIT, Kind, SwitchPort, admitted, go},
    owner::{Owner, Owners, Relation},
    sink::Sink,
    stage::Stage,
    table::Table,
    view::View,
};

pub(super) const STAGE: Stage = Stage {
    number: 18,
    name: "admit",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[Table::Admit, Table::AdmitNeighbour],
    relations: &[],
    emit,
};

pub(super) const COMMON: Stage = Stage {
    number: 19,
    name: "admit_common",
    owners: Owners::Switch,
    tables: &[Table::Admit, Table::AdmitNeighbour],
    relations: &[],
    emit: common,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    if port.kind.leads_on() {
        // What crosses into the switch comes in behind this.
        return;
    }
    let stripped = port.kind.is_physical() || port.kind == Kind::Nested;
    if stripped && !view.holds(Relation::VlanPassthru, port.switch) {
        out.flow(Table::Admit, 105, port.from().tagged(), []);
    }
    let Some(security) = port.security() else {
        let next = if port.learns() { Table::LearnMac } else { admitted(view, port.switch) };
        out.flow(Table::Admit, 50, port.from(), [go(next)]);
        return;
    };
    let next = admitted(view, port.switch);
    if !security.is_empty() {
        out.flow(Table::Admit, 95, port.from().arp(), [go(Table::AdmitNeighbour)]);
    }
    for entry in &security {
        let from = port.from().with(field::ETH_SRC, entry.mac.0);
        let (v4, v6) = families(entry);
        if entry.ips.is_empty() {
            out.flow(Table::Admit, 90, from.clone(), [go(Table::AdmitNeighbour)]);
        }
        if !v4.is_empty() {
            ipv4(&from, &v4, next, out);
        }
        if !v6.is_empty() {
            ipv6(&from, entry.mac, &v6, next, out);
        }
        if !v4.is_empty() || entry.ips.is_empty() {
            arp(&from, entry.mac, &v4, next, out);
        }
        if !v6.is_empty() || entry.ips.is_empty() {
            neighbour_discovery(&from, entry.mac, &v6, next, out);
        }
    }
}

fn ipv4(from: &Match, allowed: &[Ipv4Net], next: Table, out: &mut Sink) {
    let from = from.clone().ipv4();
    for net in allowed {
        let matches = from.clone().with_prefix(field::IPV4_SRC, net.addr(), length(IpNet::V4(*net)));
        out.flow(Table::Admit, 90, matches, [go(next)]);
    }
    let dhcp = from
        .ip_proto(UDP)
        .with(field::IPV4_SRC, 0u32)
        .with(field::IPV4_DST, u32::MAX)
        .with(field::UDP_SRC, 68u16)
        .with(field::UDP_DST, 67u16);
    out.flow(Table::Admit, 90, dhcp, [go(next)]);
}

fn ipv6(from: &Match, mac: Mac, allowed: &[Ipv6Net], next: Table, out: &mut Sink) {
    let from = from.clone().ipv6();
    let own = Ipv6Net::from(mac.link_local());
    for net in allowed.iter().chain([&own]) {
        let matches = from.clone().with_prefix(field::IPV6_SRC, net.addr(), length(IpNet::V6(*net)));
        out.flow(Table::Admit, 90, matches, [go(Table::AdmitNeighbour)]);
    }
    // Before a host has an address: listener reports (MLD) and duplicate address detection.
    let unspecified = from
        .with(field::IPV6_SRC, 0u128)
        .with_prefix(field::IPV6_DST, 0xff02u128 << 112, 16)
        .ip_proto(ICMPV6);
    for (kind, next) in [(131u8, next), (143, next), (NS, Table::AdmitNeighbour)] {
        let matches = unspecified.clone().with(field::ICMPV6_TYPE, kind).with(field::ICMPV6_CODE, 0u8);
        out.flow(Table::Admit, 90, matches, [go(next)]);
    }
}

fn arp(from: &Match, mac: Mac, allowed: &[Ipv4Net], next: Table, out: &mut Sink) {
    let from = from.clone().arp().with(field::ARP_SHA, mac.0);
    if allowed.is_empty() {
        out.flow(Table::AdmitNeighbour, 90, from, [go(next)]);
        return;
    }
    for net in allowed {
        let matches = from.clone().with_prefix(field::ARP_SPA, net.addr(), length(IpNet::V4(*net)));
        out.flow(Table::AdmitNeighbour, 90, matches, [go(next)]);
    }
}

fn neighbour_discovery(from: &Match, mac: Mac, allowed: &[Ipv6Net], next: Table, out: &mut Sink) {
    for option in [[0; 6], mac.0] {
        let solicit = discovery(from.clone(), NS).with(field::ND_SLL, option);
        out.flow(Table::AdmitNeighbour, 90, solicit, [go(next)]);
        let advert = discovery(from.clone(), NA).with(field::ND_TLL, option);
        if allowed.is_empty() {
            out.flow(Table::AdmitNeighbour, 90, advert, [go(next)]);
            continue;
        }
        let own = Ipv6Net::from(mac.link_local());
        for net in allowed.iter().chain([&own]) {
            let matches = advert.clone().with_prefix(field::ND_TARGET, net.addr(), length(IpNet::V6(*net)));
            out.flow(Table::AdmitNeighbour, 90, matches, [go(next)]);
        }
    }
}

fn common(_: &View<'_>, _: Owner, out: &mut Sink) {
    out.flow(Table::Admit, 110, Match::new().with_masked(field::ETH_SRC, GROUP_BIT, GROUP_BIT), []);
    out.flow(Table::AdmitNeighbour, 80, Match::new().arp(), []);
    out.flow(Table::AdmitNeighbour, 80, discovery(Match::new(), NS), []);
    out.flow(Table::AdmitNeighbour, 80, discovery(Match::new(), NA), []);
    out.flow(Table::AdmitNeighbour, 0, Match::new(), [go(Table::FromTrack)]);
}

/// A well-formed neighbour discovery message of that type.
pub(super) fn discovery(matches: Match, kind: u8) -> Match {
    matches
        .ipv6()
        .ip_proto(ICMPV6)
        .with(field::IP_TTL, 255u8)
        .with(field::ICMPV6_TYPE, kind)
        .with(field::ICMPV6_CODE, 0u8)
}

/// The addresses of an entry by family.
pub(super) fn families(entry: &PortSecurity) -> (Vec<Ipv4Net>, Vec<Ipv6Net>) {
    let v4 = entry.ips.iter().filter_map(|net| if let IpNet::V4(net) = net { Some(*net) } else { None });
    let v6 = entry.ips.iter().filter_map(|net| if let IpNet::V6(net) = net { Some(*net) } else { None });
    (v4.collect(), v6.collect())
}

/// How many bits of a listed address count: those of the prefix, when it names the network itself.
pub(super) fn length(net: IpNet) -> u8 {
    if net.addr() == net.network() { net.prefix_len() } else { net.max_prefix_len() }
}

pub(super) const UDP: u8 = 17;
const ICMPV6: u8 = 58;
pub(super) const NS: u8 = 135;
pub(super) const NA: u8 = 136;

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::{Port, check};

    #[test]
    fn a_port_without_security() {
        check(
            &STAGE,
            &[Port { number: 1, ..Port::default() }],
            expect![[r#"
                Admit 50 reg14=0x1,metadata=0x7 => resubmit(,12)
            "#]],
        );
    }

    #[test]
    fn a_learning_port() {
        check(
            &STAGE,
            &[Port { number: 4, addresses: &["unknown"], ..Port::default() }],
            expect![[r#"
            Admit 50 reg14=0x4,metadata=0x7 => resubmit(,3)
        "#]],
        );
    }

    #[test]
    fn a_mac() {
        check(
            &STAGE,
            &[Port { number: 1, security: &["0a:00:00:00:00:01"], ..Port::default() }],
            expect![[r#"
                Admit 90 reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01 => resubmit(,2)
                Admit 95 arp,reg14=0x1,metadata=0x7 => resubmit(,2)
                AdmitNeighbour 90 arp,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,arp_sha=0a:00:00:00:00:01 => resubmit(,12)
                AdmitNeighbour 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_ttl=255,icmp_type=135,icmp_code=0,nd_sll=00:00:00:00:00:00 => resubmit(,12)
                AdmitNeighbour 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_ttl=255,icmp_type=135,icmp_code=0,nd_sll=0a:00:00:00:00:01 => resubmit(,12)
                AdmitNeighbour 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_ttl=255,icmp_type=136,icmp_code=0,nd_tll=00:00:00:00:00:00 => resubmit(,12)
                AdmitNeighbour 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_ttl=255,icmp_type=136,icmp_code=0,nd_tll=0a:00:00:00:00:01 => resubmit(,12)
            "#]],
        );
    }

    #[test]
    fn ipv4_addresses() {
        check(
            &STAGE,
            &[Port {
                number: 1,
                security: &["0a:00:00:00:00:01 10.0.0.1/24 10.1.0.0/16"],
                ..Port::default()
            }],
            expect![[r#"
                Admit 90 udp,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_src=0.0.0.0,nw_dst=255.255.255.255,tp_src=68,tp_dst=67 => resubmit(,12)
                Admit 90 ip,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_src=10.0.0.1 => resubmit(,12)
                Admit 90 ip,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_src=10.1.0.0/16 => resubmit(,12)
                Admit 95 arp,reg14=0x1,metadata=0x7 => resubmit(,2)
                AdmitNeighbour 90 arp,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,arp_spa=10.0.0.1,arp_sha=0a:00:00:00:00:01 => resubmit(,12)
                AdmitNeighbour 90 arp,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,arp_spa=10.1.0.0/16,arp_sha=0a:00:00:00:00:01 => resubmit(,12)
            "#]],
        );
    }

    #[test]
    fn ipv6_addresses() {
        check(
            &STAGE,
            &[Port { number: 1, security: &["0a:00:00:00:00:01 fd00::1"], ..Port::default() }],
            expect![[r#"
                Admit 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,ipv6_src=::,ipv6_dst=ff02::/16,icmp_type=131,icmp_code=0 => resubmit(,12)
                Admit 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,ipv6_src=::,ipv6_dst=ff02::/16,icmp_type=135,icmp_code=0 => resubmit(,2)
                Admit 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,ipv6_src=::,ipv6_dst=ff02::/16,icmp_type=143,icmp_code=0 => resubmit(,12)
                Admit 90 ipv6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,ipv6_src=fd00::1 => resubmit(,2)
                Admit 90 ipv6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,ipv6_src=fe80::800:ff:fe00:1 => resubmit(,2)
                Admit 95 arp,reg14=0x1,metadata=0x7 => resubmit(,2)
                AdmitNeighbour 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_ttl=255,icmp_type=135,icmp_code=0,nd_sll=00:00:00:00:00:00 => resubmit(,12)
                AdmitNeighbour 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_ttl=255,icmp_type=135,icmp_code=0,nd_sll=0a:00:00:00:00:01 => resubmit(,12)
                AdmitNeighbour 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_ttl=255,icmp_type=136,icmp_code=0,nd_target=fd00::1,nd_tll=00:00:00:00:00:00 => resubmit(,12)
                AdmitNeighbour 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_ttl=255,icmp_type=136,icmp_code=0,nd_target=fd00::1,nd_tll=0a:00:00:00:00:01 => resubmit(,12)
                AdmitNeighbour 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_ttl=255,icmp_type=136,icmp_code=0,nd_target=fe80::800:ff:fe00:1,nd_tll=00:00:00:00:00:00 => resubmit(,12)
                AdmitNeighbour 90 icmp6,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_ttl=255,icmp_type=136,icmp_code=0,nd_target=fe80::800:ff:fe00:1,nd_tll=0a:00:00:00:00:01 => resubmit(,12)
            "#]],
        );
    }

    #[test]
    fn an_entry_that_does_not_parse_allows_nothing() {
        check(&STAGE, &[Port { number: 1, security: &["nonsense"], ..Port::default() }], expect![[""]]);
    }
}
