//! Port security of what goes to a port: unicast for its MACs and IP addresses only.
//!
//! # Contract
//! - Owner: one local port; reads it, and whether its switch has filters or QoS, behind which all that is for the port comes
//!   here; else only unicast does, and only for a port with port security. Out: to delivery, or dropped.
//!
//! # Invariants
//! - An entry without IP addresses lets all through that is for its MAC. One with addresses lets IP through only to those
//!   of the same family, to groups, and for IPv4 to the broadcast addresses; what is not IP passes.
//! - Frames to groups pass.

use ipnet::IpNet;
use ofpacket::{Match, field};
use quantumnet_model::address::PortSecurity;

use crate::compile::{
    logical::{self, SwitchPort, go, to_group},
    owner::{Owner, Owners, Relation},
    sink::Sink,
    stage::{Stage, admit},
    table::Table,
    view::View,
};

pub(super) const STAGE: Stage = Stage {
    number: 33,
    name: "admit_out",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[Table::AdmitOut],
    relations: &[],
    emit,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    if logical::detour(view, port.switch).is_some() {
        // All that is for the port comes by, frames to groups too.
        out.flow(Table::AdmitOut, 110, to_group(port.to()), [go(Table::Deliver)]);
        if port.security().is_none() {
            out.flow(Table::AdmitOut, 50, port.to(), [go(Table::Deliver)]);
        }
    }
    for entry in port.security().into_iter().flatten() {
        let to = port.to().with(field::ETH_DST, entry.mac.0);
        out.flow(Table::AdmitOut, 85, to.clone(), [go(Table::Deliver)]);
        if !entry.ips.is_empty() {
            out.flow(Table::AdmitOut, 90, to.clone().ipv4(), []);
            out.flow(Table::AdmitOut, 90, to.clone().ipv6(), []);
            addresses(&to, &entry, out);
        }
    }
}

fn addresses(to: &Match, entry: &PortSecurity, out: &mut Sink) {
    let (v4, v6) = admit::families(entry);
    let mut pass = |matches: Match| out.flow(Table::AdmitOut, 95, matches, [go(Table::Deliver)]);
    let to4 =
        |address: std::net::Ipv4Addr, length| to.clone().ipv4().with_prefix(field::IPV4_DST, address, length);
    for net in &v4 {
        let length = admit::length(IpNet::V4(*net));
        pass(to4(net.addr(), length));
        if length == 32 && net.prefix_len() < 32 {
            pass(to4(net.broadcast(), 32));
        }
    }
    if !v4.is_empty() {
        pass(to4(std::net::Ipv4Addr::BROADCAST, 32));
        pass(to4(std::net::Ipv4Addr::new(224, 0, 0, 0), 4));
    }
    let to6 =
        |address: std::net::Ipv6Addr, length| to.clone().ipv6().with_prefix(field::IPV6_DST, address, length);
    for net in &v6 {
        pass(to6(net.addr(), admit::length(IpNet::V6(*net))));
    }
    if !v6.is_empty() {
        pass(to6(entry.mac.link_local(), 128));
        pass(to6(std::net::Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::{Port, check};

    #[test]
    fn without_security_nothing_comes_here() {
        check(&STAGE, &[Port { number: 1, ..Port::default() }], expect![[""]]);
    }

    #[test]
    fn a_mac() {
        check(
            &STAGE,
            &[Port { number: 1, security: &["0a:00:00:00:00:01"], ..Port::default() }],
            expect![[r#"
            AdmitOut 85 reg15=0x1,metadata=0x7,dl_dst=0a:00:00:00:00:01 => resubmit(,45)
        "#]],
        );
    }

    #[test]
    fn addresses() {
        check(
            &STAGE,
            &[Port { number: 1, security: &["0a:00:00:00:00:01 10.0.0.1/24 fd00::1"], ..Port::default() }],
            expect![[r#"
            AdmitOut 85 reg15=0x1,metadata=0x7,dl_dst=0a:00:00:00:00:01 => resubmit(,45)
            AdmitOut 90 ip,reg15=0x1,metadata=0x7,dl_dst=0a:00:00:00:00:01 => drop
            AdmitOut 90 ipv6,reg15=0x1,metadata=0x7,dl_dst=0a:00:00:00:00:01 => drop
            AdmitOut 95 ip,reg15=0x1,metadata=0x7,dl_dst=0a:00:00:00:00:01,nw_dst=10.0.0.1 => resubmit(,45)
            AdmitOut 95 ip,reg15=0x1,metadata=0x7,dl_dst=0a:00:00:00:00:01,nw_dst=10.0.0.255 => resubmit(,45)
            AdmitOut 95 ip,reg15=0x1,metadata=0x7,dl_dst=0a:00:00:00:00:01,nw_dst=255.255.255.255 => resubmit(,45)
            AdmitOut 95 ip,reg15=0x1,metadata=0x7,dl_dst=0a:00:00:00:00:01,nw_dst=224.0.0.0/4 => resubmit(,45)
            AdmitOut 95 ipv6,reg15=0x1,metadata=0x7,dl_dst=0a:00:00:00:00:01,ipv6_dst=fd00::1 => resubmit(,45)
            AdmitOut 95 ipv6,reg15=0x1,metadata=0x7,dl_dst=0a:00:00:00:00:01,ipv6_dst=fe80::800:ff:fe00:1 => resubmit(,45)
            AdmitOut 95 ipv6,reg15=0x1,metadata=0x7,dl_dst=0a:00:00:00:00:01,ipv6_dst=ff00::/8 => resubmit(,45)
        "#]],
        );
    }
}
