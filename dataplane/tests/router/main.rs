//! Routers in a real Open vSwitch: what they do with packets, by `ofproto/trace`.

#[path = "../common/mod.rs"]
mod common;
mod physical;

use common::{
    Kind, Model, PortSpec, RouterPortSpec, id, mac, options,
    ovs::{Ovs, Trace},
    plain, router_mac, text, texts,
};
use quantumnet_dataplane::compile::table::{PATHS, Status, Table};
use quantumnet_model::{
    Strong, Weak,
    host::HostMeter,
    nb::{Copp, LogicalRouterPolicy, LogicalRouterStaticRoute, LogicalSwitch, Meter, MeterBand, Qos},
    sb::{MacBinding, StaticMacBinding},
};

/// Router 9 with port 1 on switch 7 and 2 on switch 8; there ports 1 here and 3 on hv2, here 2 here and 4 on hv2.
fn topology() -> Model {
    let mut model = Model::hypervisor(2);
    [7, 8].into_iter().for_each(|switch| model.switch(switch));
    model.router(9);
    for (number, switch) in [(1, 7), (2, 8)] {
        model.router_port(&router_port(number, switch));
    }
    for (number, switch, chassis) in [(1, 7, 1), (2, 8, 1), (3, 7, 2), (4, 8, 2)] {
        model.port(&guest(number, switch, chassis));
    }
    model
}

/// On 10.1.0.0/24 of switch 7, 10.2.0.0/24 of switch 8, and so on.
fn router_port(number: u32, switch: u32) -> RouterPortSpec {
    let networks = vec![format!("10.{number}.0.254/24"), format!("fd0{number}::fe/64")];
    RouterPortSpec { number, router: 9, networks, switch: Some(switch), ..RouterPortSpec::default() }
}

fn guest(number: u32, switch: u32, chassis: u32) -> PortSpec {
    let net = switch - 6;
    PortSpec {
        addresses: vec![format!("{} 10.{net}.0.{number} fd0{net}::{number}", mac(number))],
        ..plain(number, switch, chassis)
    }
}

fn loaded(model: &mut Model) -> Option<Ovs> {
    let ovs = Ovs::start(6, 4)?;
    load(&ovs, model);
    Some(ovs)
}

fn load(ovs: &Ovs, model: &mut Model) {
    model.number_groups();
    model.number_conjunctions(Some(1));
    let compiler = model.compiled();
    ovs.load(&compiler);
    assert_eq!(ovs.flows(), compiler.flows(), "the switch holds what was compiled");
}

/// A datagram from a guest to its router.
fn udp(port: u32, router: u32, ips: (&str, &str), ttl: u8) -> String {
    let family = if ips.0.contains(':') { ("udp6", "ipv6") } else { ("udp", "nw") };
    format!(
        "in_port={port},dl_src={},dl_dst={},{},{}_src={},{}_dst={},nw_ttl={ttl},udp_src=1000,udp_dst=2000",
        mac(port),
        router_mac(router),
        family.0,
        family.1,
        ips.0,
        family.1,
        ips.1
    )
}

fn built(name: &str) -> Vec<u8> {
    let path =
        PATHS.iter().find(|path| path.name == name && path.status == Status::Built).expect("a declared path");
    path.tables.iter().map(|table| table.number()).collect()
}

fn megaflow(trace: &Trace) -> &str {
    trace.text.lines().find_map(|line| line.strip_prefix("Megaflow: ")).expect("trace says")
}

#[test]
fn east_and_west() {
    let Some(ovs) = loaded(&mut topology()) else { return };
    let local = ovs.trace(&udp(1, 1, ("10.1.0.1", "10.2.0.2"), 64));
    assert_eq!(local.ports(), ["p2"], "{}", local.text);
    assert_eq!(local.tables, built("routed, one hypervisor"), "{}", local.text);
    assert!(!megaflow(&local).contains("tp_"), "{}", local.text);
    for (field, value) in [("dl_src", router_mac(2)), ("dl_dst", mac(2)), ("nw_ttl", "63".into())] {
        assert_eq!(local.final_field(field), Some(value), "{field}: {}", local.text);
    }
    let local = ovs.trace(&udp(1, 1, ("fd01::1", "fd02::2"), 64));
    assert_eq!(local.ports(), ["p2"], "{}", local.text);
    assert_eq!(local.tables, built("routed, one hypervisor"), "{}", local.text);

    let remote = ovs.trace(&udp(1, 1, ("10.1.0.1", "10.2.0.4"), 64));
    assert_eq!(remote.ports(), ["t2"], "{}", remote.text);
    assert_eq!(remote.final_field("tun_id").as_deref(), Some("0x8"), "{}", remote.text);
    assert_eq!(remote.option(), Some(("0x3ea".into(), "0x4".into())), "{}", remote.text);

    let nobody = ovs.trace(&udp(1, 1, ("10.1.0.1", "10.2.0.77"), 64));
    assert_eq!(
        (nobody.ports().len(), nobody.text.contains("pause")),
        (0, true),
        "asked for: {}",
        nobody.text
    );
    let nowhere = ovs.trace(&udp(1, 1, ("10.1.0.1", "192.0.2.1"), 64));
    assert_eq!((nowhere.ports().len(), nowhere.punts), (0, 0), "{}", nowhere.text);
    let back = ovs.trace(&udp(1, 1, ("10.1.0.99", "10.1.0.1"), 64));
    assert_eq!(back.ports(), ["p1"], "by where it came from: {}", back.text);
}

#[test]
fn what_a_router_does_not_take() {
    let Some(ovs) = loaded(&mut topology()) else { return };
    for source in ["10.1.0.254", "10.2.0.255", "255.255.255.255", "127.0.0.1", "224.0.0.5", "0.0.0.1"] {
        let forged = ovs.trace(&udp(1, 1, (source, "10.2.0.2"), 64));
        assert_eq!((forged.ports().len(), forged.punts), (0, 0), "{source}: {}", forged.text);
    }
    let other = ovs.trace(&udp(1, 2, ("10.1.0.1", "10.2.0.2"), 64));
    assert_eq!(other.ports(), [""; 0], "the other port's MAC: {}", other.text);
    for ttl in [0, 1] {
        let expired = ovs.trace(&udp(1, 1, ("10.1.0.1", "10.2.0.2"), ttl));
        assert_eq!((expired.ports().len(), expired.punts), (0, 1), "{}", expired.text);
    }
    let group = udp(1, 1, ("10.1.0.1", "10.2.0.255"), 64).replace(&router_mac(1), "ff:ff:ff:ff:ff:ff");
    let group = ovs.trace(&group);
    assert_eq!(group.ports(), ["t2"], "flooded and not routed: {}", group.text);
    let service = ovs.trace(&udp(1, 1, ("10.1.0.1", "10.2.0.254"), 64));
    assert_eq!((service.ports().len(), service.punts), (0, 1), "nothing is there: {}", service.text);
}

#[test]
fn routers_answer_for_themselves() {
    let Some(ovs) = loaded(&mut topology()) else { return };
    let echo = |to: &str| {
        let (kind, family) =
            if to.contains(':') { ("icmp6,icmpv6_type=128", "ipv6") } else { ("icmp,icmp_type=8", "nw") };
        let from = if to.contains(':') { "fd01::1" } else { "10.1.0.1" };
        ovs.trace(&format!(
            "in_port=1,dl_src={},dl_dst={},{kind},{}_code=0,{family}_src={from},{family}_dst={to},nw_ttl=64",
            mac(1),
            router_mac(1),
            if to.contains(':') { "icmpv6" } else { "icmp" },
        ))
    };
    for to in ["10.1.0.254", "10.2.0.254", "fd01::fe", "fd02::fe"] {
        let answer = echo(to);
        assert_eq!(answer.ports(), ["p1"], "{}", answer.text);
        let field = if to.contains(':') { "ipv6_src" } else { "nw_src" };
        assert_eq!(answer.final_field(field).as_deref(), Some(to), "{}", answer.text);
        assert_eq!(answer.final_field("nw_ttl").as_deref(), Some("254"), "{}", answer.text);
        assert!(answer.tables.len() <= 40, "{}", answer.text);
    }
    let ask = |target: &str| {
        ovs.trace(&format!(
            "in_port=1,dl_src={m},dl_dst=ff:ff:ff:ff:ff:ff,arp,arp_op=1,arp_sha={m},arp_spa=10.1.0.1,arp_tpa={target},arp_tha=00:00:00:00:00:00",
            m = mac(1),
        ))
    };
    let answer = ask("10.1.0.254");
    assert_eq!(answer.ports(), ["p1"], "{}", answer.text);
    assert_eq!(answer.final_field("arp_sha"), Some(router_mac(1)), "{}", answer.text);
    let other = ask("10.1.0.77");
    assert_eq!(
        (other.ports(), other.punts),
        (vec!["t2"], 1),
        "flooded, and the router learns: {}",
        other.text
    );
}

#[test]
fn a_disabled_router_or_port_passes_nothing() {
    let mut model = topology();
    let Some(ovs) = loaded(&mut model) else { return };
    let packet = udp(1, 1, ("10.1.0.1", "10.2.0.2"), 64);
    model.edit_router(9, |row| row.enabled = Some(false));
    load(&ovs, &mut model);
    assert_eq!(ovs.trace(&packet).ports(), [""; 0]);
    model.edit_router(9, |row| row.enabled = None);
    model.router_port(&RouterPortSpec { disabled: true, ..router_port(2, 8) });
    load(&ovs, &mut model);
    assert_eq!(ovs.trace(&packet).ports(), [""; 0]);
    model.router_port(&router_port(2, 8));
    load(&ovs, &mut model);
    assert_eq!(ovs.trace(&packet).ports(), ["p2"]);
}

fn route(prefix: &str, next_hop: &str) -> LogicalRouterStaticRoute {
    LogicalRouterStaticRoute {
        ip_prefix: text(prefix),
        nexthop: text(next_hop),
        ..LogicalRouterStaticRoute::default()
    }
}

#[test]
fn static_routes() {
    let mut model = topology();
    model.route(1, 9, route("0.0.0.0/0", "10.2.0.2"));
    model.route(2, 9, route("192.0.2.0/24", "10.1.0.3"));
    model.route(3, 9, route("192.0.2.128/25", "10.2.0.4"));
    model.route(4, 9, route("192.0.2.200", "discard"));
    model.route(5, 9, route("203.0.113.0/24", "10.99.0.1"));
    model.route(6, 9, route("198.51.100.0/24", "fd02::4"));
    let by_source =
        LogicalRouterStaticRoute { policy: Some(text("src-ip")), ..route("10.1.0.0/24", "10.2.0.4") };
    model.route(7, 9, by_source);
    let Some(ovs) = loaded(&mut model) else { return };
    let to = |to: &str| {
        let trace = ovs.trace(&udp(1, 1, ("10.1.0.1", to), 64));
        trace.final_field("dl_dst").filter(|_| !trace.ports().is_empty())
    };
    assert_eq!(to("192.0.2.1"), Some(mac(3)));
    assert_eq!(to("192.0.2.129"), Some(mac(4)), "the longest prefix");
    assert_eq!(to("192.0.2.200"), None, "discarded");
    assert_eq!(to("203.0.113.1"), Some(mac(4)), "a next hop that no port reaches is none; by source");
    assert_eq!(to("198.51.100.1"), Some(mac(4)), "by a next hop of the other family");
    assert_eq!(to("10.2.0.2"), Some(mac(2)), "networks before routes");
    let trace = ovs.trace(&udp(2, 2, ("10.2.0.2", "203.0.113.1"), 64));
    assert_eq!(trace.ports(), ["p2"], "the default route, back where it came from: {}", trace.text);
}

#[test]
fn route_tables_belong_to_ports() {
    let mut model = topology();
    let table = [("route_table".to_owned(), "blue".to_owned())].to_vec();
    model.router_port(&RouterPortSpec { options: table, ..router_port(1, 7) });
    model.route(1, 9, route("192.0.2.0/24", "10.2.0.2"));
    let blue = LogicalRouterStaticRoute { route_table: text("blue"), ..route("198.51.100.0/24", "10.2.0.2") };
    model.route(2, 9, blue);
    let Some(ovs) = loaded(&mut model) else { return };
    let ports = |by: (u32, &str), to: &str| ovs.trace(&udp(by.0, by.0, (by.1, to), 64)).ports().len();
    assert_eq!(ports((1, "10.1.0.1"), "192.0.2.1"), 0, "the main table is not for it");
    assert_eq!(ports((1, "10.1.0.1"), "198.51.100.1"), 1);
    assert_eq!(ports((1, "10.1.0.1"), "10.2.0.2"), 1, "networks are in every table");
    assert_eq!(ports((2, "10.2.0.2"), "192.0.2.1"), 1);
    assert_eq!(ports((2, "10.2.0.2"), "198.51.100.1"), 0);
}

#[test]
fn equal_routes_share() {
    let mut model = topology();
    model.route(1, 9, route("192.0.2.0/24", "10.2.0.2"));
    model.route(2, 9, route("192.0.2.0/24", "10.2.0.4"));
    let Some(ovs) = loaded(&mut model) else { return };
    // The choice is made by a hash that a trace does not make.
    for last in 1..=40 {
        ovs.receive("p1", &datagram(mac(1), router_mac(1), [10, 1, 0, last], [192, 0, 2, 1]));
    }
    let sent = || (ovs.sent("p2").len(), ovs.sent("t2").len());
    let (here, there) = common::wait_for(|| Some(sent()).filter(|(here, there)| here + there == 40));
    assert!(here > 4 && there > 4, "{here} to one, {there} to the other");
}

#[test]
fn equal_routes_share_by_the_fields_that_they_name() {
    let mut model = topology();
    for (number, hop) in [(1, "10.2.0.2"), (2, "10.2.0.4")] {
        let row =
            LogicalRouterStaticRoute { selection_fields: texts(["ip_src"]), ..route("192.0.2.0/24", hop) };
        model.route(number, 9, row);
    }
    // A longer prefix, with a choice of its own, and one without.
    for (number, hop) in [(3, "10.1.0.1"), (4, "10.1.0.3")] {
        let row =
            LogicalRouterStaticRoute { selection_fields: texts(["ip_dst"]), ..route("192.0.2.128/25", hop) };
        model.route(number, 9, row);
    }
    model.route(5, 9, route("192.0.2.255", "10.2.0.2"));
    let Some(ovs) = loaded(&mut model) else { return };
    let hop = |source: u8, destination: u8, port: u16| {
        let ips = (format!("10.1.0.{source}"), format!("192.0.2.{destination}"));
        let packet = udp(1, 1, (&ips.0, &ips.1), 64).replace("udp_src=1000", &format!("udp_src={port}"));
        let trace = ovs.trace(&packet);
        assert_eq!(trace.final_field("nw_ttl").as_deref(), Some("63"), "{}", trace.text);
        trace.final_field("dl_dst").expect("it has one")
    };
    let (mut by_source, mut by_destination) =
        (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for last in 1..=40 {
        let chosen = hop(last, 1, 1000);
        assert_eq!(
            (hop(last, 2, 1000), hop(last, 1, 1001)),
            (chosen.clone(), chosen.clone()),
            "10.1.0.{last}"
        );
        by_source.insert(chosen);
        let chosen = hop(1, 128 + last, 1000);
        assert_eq!(hop(2, 128 + last, 1001), chosen, "192.0.2.{}", 128 + last);
        by_destination.insert(chosen);
        assert_eq!(hop(last, 255, 1000), mac(2));
    }
    assert_eq!(by_source, [mac(2), mac(4)].into());
    assert_eq!(by_destination, [mac(1), mac(3)].into());
    let trace = ovs.trace(&udp(1, 1, ("10.1.0.1", "192.0.2.1"), 64));
    assert!(!megaflow(&trace).contains("tp_"), "{}", trace.text);
}

/// A datagram as a frame.
fn datagram(from: String, to: String, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let octets = |mac: String| {
        let octets = mac.split(':').map(|octet| u8::from_str_radix(octet, 16).expect("a MAC"));
        octets.collect::<Vec<u8>>()
    };
    let mut ip = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend(source);
    ip.extend(destination);
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    [octets(to), octets(from), vec![8, 0], ip, vec![3, 0xe8, 7, 0xd0, 0, 8, 0, 0]].concat()
}

#[test]
fn policies_overrule_routes() {
    let mut model = topology();
    model.route(1, 9, route("0.0.0.0/0", "10.2.0.2"));
    let policy = |priority: i64, matches: &str, action: &str, hops: &[&str]| LogicalRouterPolicy {
        priority,
        r#match: text(matches),
        action: text(action),
        nexthops: texts(hops),
        ..LogicalRouterPolicy::default()
    };
    model.policy(1, 9, policy(100, "ip4.dst == 192.0.2.0/24", "drop", &[]));
    model.policy(2, 9, policy(110, "ip4.dst == 192.0.2.8", "allow", &[]));
    model.policy(3, 9, policy(100, "ip4.dst == 198.51.100.0/24", "reroute", &["10.2.0.4"]));
    model.policy(
        4,
        9,
        policy(
            100,
            "inport == \"r1\" && udp.dst == 2000 && ip4.dst == 203.0.113.9",
            "reroute",
            &["10.1.0.3"],
        ),
    );
    let jump = LogicalRouterPolicy {
        jump_chain: Some(text("c")),
        ..policy(100, "ip4.dst == 203.0.113.10", "jump", &[])
    };
    model.policy(5, 9, jump);
    let chained = LogicalRouterPolicy { chain: Some(text("c")), ..policy(1, "udp", "drop", &[]) };
    model.policy(6, 9, chained);
    let marked = LogicalRouterPolicy {
        options: options(&[("pkt_mark", "9")]),
        ..policy(90, "ip4.dst == 203.0.113.11", "allow", &[])
    };
    model.policy(7, 9, marked);
    // As good as none: next hops of both families, and a port for several of them.
    model.policy(8, 9, policy(100, "ip4.dst == 203.0.113.12", "reroute", &["10.2.0.4", "fd02::4"]));
    let mixed = policy(100, "ip4.dst == 203.0.113.13", "reroute", &["10.1.0.3", "10.2.0.4"]);
    model.policy(9, 9, LogicalRouterPolicy { output_port: Some(id(Kind::RouterPort, 2).into()), ..mixed });
    let Some(ovs) = loaded(&mut model) else { return };
    let to = |to: &str| {
        let trace = ovs.trace(&udp(1, 1, ("10.1.0.1", to), 64));
        trace.final_field("dl_dst").filter(|_| !trace.ports().is_empty())
    };
    assert_eq!(to("203.0.113.1"), Some(mac(2)));
    assert_eq!((to("192.0.2.1"), to("192.0.2.8")), (None, Some(mac(2))));
    assert_eq!(to("198.51.100.1"), Some(mac(4)));
    assert_eq!((to("203.0.113.9"), to("203.0.113.10")), (Some(mac(3)), None));
    assert_eq!((to("203.0.113.12"), to("203.0.113.13")), (Some(mac(2)), Some(mac(2))));
    let marked = ovs.trace(&udp(1, 1, ("10.1.0.1", "203.0.113.11"), 64));
    assert_eq!(marked.final_field("pkt_mark").as_deref(), Some("0x9"), "{}", marked.text);
    let packet = ovs.trace(&udp(1, 1, ("10.1.0.1", "203.0.113.1"), 64));
    assert_eq!(packet.tables, built("routed by a policy, one hypervisor"), "{}", packet.text);
}

#[test]
fn neighbours_that_were_learned() {
    let mut model = topology();
    let (router, ip) = (id(Kind::Switch, 9), || text("10.2.0.77"));
    let learned = MacBinding {
        logical_port: text("r2"),
        ip: ip(),
        mac: text("0a:44:00:00:00:01"),
        timestamp: 0,
        datapath: router.into(),
    };
    model.put(id(Kind::Neighbour, 1), learned);
    let Some(ovs) = loaded(&mut model) else { return };
    let mac_of = |ovs: &Ovs| ovs.trace(&udp(1, 1, ("10.1.0.1", "10.2.0.77"), 64)).final_field("dl_dst");
    assert_eq!(mac_of(&ovs).as_deref(), Some("0a:44:00:00:00:01"));
    for (overrides, expected) in [(false, "0a:44:00:00:00:01"), (true, "0a:44:00:00:00:02")] {
        let given = StaticMacBinding {
            logical_port: text("r2"),
            ip: ip(),
            mac: text("0a:44:00:00:00:02"),
            override_dynamic_mac: overrides,
            datapath: router.into(),
        };
        model.put(id(Kind::Neighbour, 2), given);
        load(&ovs, &mut model);
        assert_eq!(mac_of(&ovs).as_deref(), Some(expected));
    }
}

#[test]
fn routers_behind_routers() {
    let mut model = topology();
    model.router(10);
    let link = |number: u32, router: u32, peer: u32, net: &str| RouterPortSpec {
        number,
        router,
        networks: vec![net.to_owned()],
        peer: Some(peer),
        ..RouterPortSpec::default()
    };
    model.router_port(&link(11, 9, 12, "10.100.0.1/30"));
    model.router_port(&link(12, 10, 11, "10.100.0.2/30"));
    model.switch(6);
    model.router_port(&RouterPortSpec { router: 10, ..router_port(3, 6) });
    model.port(&PortSpec { addresses: vec![format!("{} 10.3.0.5", mac(5))], ..plain(5, 6, 1) });
    model.route(1, 9, route("10.3.0.0/24", "10.100.0.2"));
    let Some(ovs) = loaded(&mut model) else { return };
    let through = ovs.trace(&udp(1, 1, ("10.1.0.1", "10.3.0.5"), 64));
    assert_eq!(through.ports(), ["p5"], "{}", through.text);
    assert_eq!(through.final_field("nw_ttl").as_deref(), Some("62"), "{}", through.text);
    let met = through.tables.iter().filter(|table| **table == Table::Route.number()).count();
    assert_eq!(met, 2, "{}", through.text);
}

#[test]
fn a_gateway_router_elsewhere_is_known_by_its_switch() {
    let mut model = topology();
    model.router(10);
    model.switch(6);
    let joined = |number: u32, router: u32, chassis| RouterPortSpec {
        number,
        router,
        networks: vec![format!("10.100.0.{number}/24")],
        switch: Some(6),
        chassis,
        ..RouterPortSpec::default()
    };
    model.router_port(&joined(11, 9, None));
    model.router_port(&joined(12, 10, Some(2)));
    model.route(1, 9, route("0.0.0.0/0", "10.100.0.12"));
    let Some(ovs) = loaded(&mut model) else { return };
    let packet = udp(1, 1, ("10.1.0.1", "192.0.2.1"), 64);
    let out = ovs.trace(&packet);
    assert_eq!((out.ports(), out.final_field("dl_dst")), (vec!["t2"], Some(router_mac(12))), "{}", out.text);
    // Who is to ask for other routers asks for this one too.
    model.edit_router(9, |row| row.options = options(&[("dynamic_neigh_routers", "true")]));
    load(&ovs, &mut model);
    let asks = ovs.trace(&packet);
    assert!(asks.ports().is_empty() && asks.text.contains("pause"), "{}", asks.text);
}

#[test]
fn what_is_too_large_for_a_port_is_told() {
    let mut model = topology();
    let options = [("gateway_mtu", "1000"), ("gateway_mtu_bypass", "udp.dst == 2000")];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    model.router_port(&RouterPortSpec { options, ..router_port(2, 8) });
    let Some(ovs) = loaded(&mut model) else { return };
    let trace = |ports: &str, larger: &str| {
        let packet = udp(1, 1, ("10.1.0.1", "10.2.0.2"), 64).replace("udp_dst=2000", ports);
        ovs.trace(&format!("{packet} {larger}"))
    };
    let small = trace("udp_dst=2001", "");
    // A trace shows both branches: out of the port, and to the agent.
    assert!(small.text.contains("check_pkt_larger(1014)"), "{}", small.text);
    assert!(small.text.contains("output:p2") && small.text.contains("controller(userdata"), "{}", small.text);
    let excepted = trace("udp_dst=2000", "");
    assert!(!excepted.text.contains("check_pkt_larger"), "{}", excepted.text);
}

#[test]
fn who_asks_for_a_router_that_does_not_answer_is_led_to_it() {
    let mut model = topology();
    // The switch's side has no addresses of its own, so that the switch does not answer.
    let side = id(Kind::Port, 1 + common::SWITCH_SIDE);
    let mut row = model.rows.get::<quantumnet_model::sb::PortBinding>(side).cloned().expect("it is there");
    row.mac = texts([router_mac(1)]);
    model.put(side, row);
    let Some(ovs) = loaded(&mut model) else { return };
    let ask = |target: &str, sender: &str| {
        ovs.trace(&format!(
            "in_port=1,dl_src={m},dl_dst=ff:ff:ff:ff:ff:ff,arp,arp_op=1,arp_sha={m},arp_spa={sender},arp_tpa={target},arp_tha=00:00:00:00:00:00",
            m = mac(1),
        ))
    };
    let answer = ask("10.1.0.254", "10.1.0.1");
    assert_eq!(answer.ports(), ["p1"], "answered by the router, and flooded to nobody: {}", answer.text);
    let announced = ask("10.1.0.254", "10.1.0.254");
    assert_eq!((announced.ports(), announced.punts), (vec!["t2"], 0), "for no router: {}", announced.text);
}

#[test]
fn a_copp_limits_what_a_router_hands_to_the_agent() {
    let mut model = topology();
    let mut meters = Vec::new();
    for (number, protocol) in (0..).zip(["arp", "nd-ns", "arp-resolve", "icmp4-error", "tcp-reset"]) {
        let band = id(Kind::Meter, 100 + number);
        model.put(band, MeterBand { action: text("drop"), rate: 10, ..MeterBand::default() });
        model.put(
            id(Kind::Meter, number),
            Meter {
                name: text(protocol),
                unit: text("pktps"),
                bands: std::iter::once(Strong::new(band)).collect(),
                ..Meter::default()
            },
        );
        model.put(id(Kind::Meter, number), HostMeter { number: 9_000 + i64::from(number) });
        meters.push((text(protocol), text(protocol)));
    }
    meters.push((text("icmp6-error"), text("of no meter")));
    let copp = Copp { name: text("limits"), meters: meters.into_iter().collect(), ..Copp::default() };
    model.put(id(Kind::Copp, 0), copp);
    model.edit_router(9, |row| row.copp = Some(Weak::new(id(Kind::Copp, 0))));

    let Some(ovs) = loaded(&mut model) else { return };
    let metered = |what: &str, trace: &Trace, meter: Option<u32>| {
        let named = trace.text.split("meter_id=").nth(1).or_else(|| trace.text.split(" meter:").nth(1));
        let found = named.and_then(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u32>().ok()
        });
        match meter {
            Some(_) => {
                assert_eq!(found, meter, "{what}: {}", trace.text);
                // What the switch makes of it: of an action that pauses, nothing.
                let limits = |line: &str| line.starts_with("Datapath actions: ") && line.contains("meter(");
                assert!(trace.text.lines().any(limits), "{what}: {}", trace.text);
            }
            None => assert!(found.is_none_or(|found| found < 9_000), "{what}: {}", trace.text),
        }
    };
    let to_itself = |kind: &str, rest: &str| {
        format!("in_port=1,{kind},dl_src={},dl_dst={},{rest}", mac(1), router_mac(1))
    };
    metered("no MAC", &ovs.trace(&udp(1, 1, ("10.1.0.1", "10.2.0.77"), 64)), Some(9_002));
    metered("no MAC, IPv6", &ovs.trace(&udp(1, 1, ("fd01::1", "fd02::77"), 64)), None);
    metered("TTL", &ovs.trace(&udp(1, 1, ("10.1.0.1", "10.2.0.2"), 1)), Some(9_003));
    metered("hop limit", &ovs.trace(&udp(1, 1, ("fd01::1", "fd02::2"), 1)), None);
    metered("UDP to the router", &ovs.trace(&udp(1, 1, ("10.1.0.1", "10.1.0.254"), 64)), Some(9_003));
    let tcp = "nw_src=10.1.0.1,nw_dst=10.1.0.254,nw_ttl=64,tcp_dst=22";
    metered("TCP to the router", &ovs.trace(&to_itself("tcp", tcp)), Some(9_004));
    // Requests for the router's address are the switch's to answer.
    let arp =
        format!("arp_op=2,arp_spa=10.1.0.9,arp_tpa=10.1.0.254,arp_sha={},arp_tha={}", mac(1), router_mac(1));
    metered("ARP", &ovs.trace(&to_itself("arp", &arp)), Some(9_000));
}

#[test]
fn what_goes_to_a_router_is_marked_by_its_switch() {
    let mut model = topology();
    let rule = id(Kind::Qos, 0);
    model.put(
        rule,
        Qos {
            priority: 100,
            direction: text("to-lport"),
            r#match: text("outport == \"s1\" && ip4"),
            action: std::iter::once((text("dscp"), 6)).collect(),
            ..Qos::default()
        },
    );
    let qos_rules = std::iter::once(Strong::new(rule)).collect();
    model.put(id(Kind::Switch, 7), LogicalSwitch { qos_rules, ..LogicalSwitch::default() });
    let Some(ovs) = loaded(&mut model) else { return };
    let routed = ovs.trace(&udp(1, 1, ("10.1.0.1", "10.2.0.2"), 64));
    assert_eq!(routed.ports(), ["p2"], "{}", routed.text);
    assert_eq!(routed.final_field("nw_tos").as_deref(), Some("24"), "{}", routed.text);
    let other = ovs.trace(&udp(2, 2, ("10.2.0.2", "10.1.0.1"), 64));
    assert_eq!(other.final_field("nw_tos").as_deref(), Some("0"), "{}", other.text);
}

#[tokio::test]
async fn zones_have_exactly_the_limits_that_they_are_to_have() {
    let Some(ovs) = Ovs::start(1, 1) else { return };
    let datapath = "dummy@ovs-dummy";
    let limits = || {
        let listed = ovs.ask("dpctl/ct-get-limits", &[datapath]);
        let lines =
            listed.lines().filter_map(|line| line.split_once(",count")).map(|(line, _)| line.to_owned());
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        lines
    };
    let set = async |wanted: &[(u16, u32)], free: &[u16]| {
        let (wanted, free) = (wanted.iter().copied().collect(), free.iter().copied().collect());
        quantumnet_dataplane::switch::limits::set(ovs.run_dir(), datapath, &wanted, &free).await
    };
    // Of somebody else.
    ovs.ask("dpctl/ct-set-limits", &[datapath, "zone=60000,limit=9"]);
    set(&[(1, 10), (2, 20)], &[3]).await.expect("it has limits");
    assert_eq!(limits(), ["zone=1,limit=10", "zone=2,limit=20", "zone=60000,limit=9"]);
    set(&[(2, 21), (3, 30)], &[1]).await.expect("it has limits");
    assert_eq!(limits(), ["zone=2,limit=21", "zone=3,limit=30", "zone=60000,limit=9"]);
    set(&[], &[1, 2, 3]).await.expect("it has limits");
    assert_eq!(limits(), ["zone=60000,limit=9"]);
}
