//! DHCPv4 requests of ports that have options go to the agent, which answers.
//!
//! # Contract
//! - `dhcp_punt`: owner one local port. Reads: it, its northbound row, its `DHCP_Options`, its interface.
//! - `dhcp_external`: owner one external port that this hypervisor answers for. Its requests come by the localnet ports.
//! - In: UDP to 255.255.255.255, or to the port's server. Out: requests (68 to 67) from the port's own MAC, to the agent
//!   with the port's uuid; every message type, since the types are told apart by the agent, which sends on what it does
//!   not answer. Other packets return to their path.
//!
//! # Invariants
//! - Without `server_id`, `server_mac` and `lease_time`, or without an IPv4 address inside `cidr`, nothing is taken.
//! - A port cannot cause more packets than the reason's rate, or that of the switch's `Copp`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use ofpacket::field;
use quantumnet_model::{
    address::{self, Mac},
    nb::{DhcpOptions, LogicalSwitchPort},
};

use crate::compile::{
    logical::{SwitchPort, go},
    owner::{Owner, Owners, Relation},
    punt::{Protocol, Punt, PuntReason},
    sink::Sink,
    stage::{Stage, admit},
    table::Table,
    view::View,
};

pub(super) const STAGE: Stage = Stage {
    number: 26,
    name: "dhcp_punt",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[Table::Steer, Table::Dhcp],
    relations: &[],
    emit,
};

pub(super) const EXTERNAL: Stage = Stage {
    number: 39,
    name: "dhcp_external",
    owners: Owners::Facts(Relation::ExternalPorts),
    tables: &[Table::Steer, Table::Dhcp],
    relations: &[],
    emit: external,
};

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    requests(view, &port, &port, out);
}

/// The requests of an external port's host come in from the physical network.
fn external(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    for localnet in view.related(Relation::Localnet, port.switch, 0) {
        if let Some(localnet) = SwitchPort::read(view, localnet) {
            requests(view, &port, &localnet, out);
        }
    }
}

/// Takes the requests of a port that come in by another, or by itself.
fn requests(view: &View<'_>, port: &SwitchPort<'_>, by: &SwitchPort<'_>, out: &mut Sink) {
    let Some(interface) = by.interface(view) else { return };
    let Some(options) = view.row::<LogicalSwitchPort>(port.uuid).and_then(|row| row.dhcpv4_options) else {
        return;
    };
    let Some((subnet, server)) = view.row::<DhcpOptions>(options.uuid()).and_then(usable) else { return };

    let punt = Punt { reason: PuntReason::Dhcpv4, row: port.uuid };
    let mut tell = None;
    for (mac, ips) in port.addresses() {
        for offer in address::v4(&ips).filter(|ip| subnet.contains(ip)) {
            let request = by
                .from()
                .with(field::ETH_SRC, mac.0)
                .ipv4()
                .ip_proto(admit::UDP)
                .with(field::UDP_SRC, 68u16)
                .with(field::UDP_DST, 67u16);
            let tell = tell.get_or_insert_with(|| {
                punt.metered(view, port.switch, Protocol::Dhcpv4Opts, interface.meters, out)
            });
            for (from, to) in [
                (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST),
                (Ipv4Addr::UNSPECIFIED, server),
                (offer, Ipv4Addr::BROADCAST),
                (offer, server),
            ] {
                let matches = request.clone().with(field::IPV4_SRC, from).with(field::IPV4_DST, to);
                out.flow(Table::Dhcp, 100, matches, [tell.clone()]);
            }
            let to_server = by.from().ipv4().ip_proto(admit::UDP).with(field::IPV4_DST, server);
            out.flow(Table::Steer, 105, to_server, [go(Table::Dhcp)]);
        }
    }
}

/// The subnet and the server, if the options are complete.
fn usable(options: &DhcpOptions) -> Option<(Ipv4Net, Ipv4Addr)> {
    let option = |name: &str| options.options.get(name);
    option("server_mac")?.parse::<Mac>().ok()?;
    option("lease_time")?.parse::<u32>().ok()?;
    Some((options.cidr.parse().ok()?, option("server_id")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::compile::testing::{Port, check};

    #[test]
    fn requests_of_a_port_with_options() {
        check(
            &STAGE,
            &[Port {
                number: 1,
                addresses: &["0a:00:00:00:00:01 10.0.0.1 fd00::1"],
                dhcp: true,
                ..Port::default()
            }],
            expect![[r#"
                Steer 105 udp,reg14=0x1,metadata=0x7,nw_dst=10.0.0.254 => resubmit(,15)
                Dhcp 100 udp,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_src=0.0.0.0,nw_dst=10.0.0.254,tp_src=68,tp_dst=67 => controller(userdata=01.01.00.00.00.00.00.01.00.00.00.00.00.00.00.00.d7.b8.c8.c7,meter_id=17)
                Dhcp 100 udp,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_src=0.0.0.0,nw_dst=255.255.255.255,tp_src=68,tp_dst=67 => controller(userdata=01.01.00.00.00.00.00.01.00.00.00.00.00.00.00.00.d7.b8.c8.c7,meter_id=17)
                Dhcp 100 udp,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_src=10.0.0.1,nw_dst=10.0.0.254,tp_src=68,tp_dst=67 => controller(userdata=01.01.00.00.00.00.00.01.00.00.00.00.00.00.00.00.d7.b8.c8.c7,meter_id=17)
                Dhcp 100 udp,reg14=0x1,metadata=0x7,dl_src=0a:00:00:00:00:01,nw_src=10.0.0.1,nw_dst=255.255.255.255,tp_src=68,tp_dst=67 => controller(userdata=01.01.00.00.00.00.00.01.00.00.00.00.00.00.00.00.d7.b8.c8.c7,meter_id=17)
            "#]],
        );
    }

    #[test]
    fn an_address_outside_of_the_subnet() {
        check(
            &STAGE,
            &[Port {
                number: 1,
                dhcp: true,
                addresses: &["0a:00:00:00:00:01 192.168.0.1"],
                ..Port::default()
            }],
            expect![[""]],
        );
    }
}
