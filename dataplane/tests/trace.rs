//! Compiled flows in a real Open vSwitch: what it does with packets, by `ofproto/trace` and with frames.

mod common;

use common::{
    Kind, Model, PortSpec, id, interpreter, mac,
    ovs::{Ovs, Trace},
    plain,
};
use quantumnet_dataplane::compile::table::{PATHS, Status, Table};

/// Ports 1 and 2 here, 3 on hv2, all on switch 7; 1 has port security and DHCP.
fn topology() -> Model {
    let mut model = Model::hypervisor(2);
    model.switch(7);
    model.dhcp(1, "10.0.0.0/24", "10.0.0.254");
    let mut secured = plain(1, 7, 1);
    secured.security = vec![format!("{} 10.0.0.1 fd00::1", mac(1))];
    secured.dhcp = Some(1);
    model.port(&secured);
    model.port(&plain(2, 7, 1));
    model.port(&plain(3, 7, 2));
    model
}

fn loaded(model: &mut Model) -> Option<Ovs> {
    let ovs = Ovs::start(6, 4)?;
    let compiler = model.compiled();
    ovs.load(&compiler);
    assert_eq!(ovs.flows(), compiler.flows(), "the switch holds what was compiled");
    Some(ovs)
}

fn udp(port: u32, from: &str, to: &str, ips: (&str, &str)) -> String {
    format!(
        "in_port={port},dl_src={from},dl_dst={to},udp,nw_src={},nw_dst={},nw_ttl=64,udp_src=1000,udp_dst=2000",
        ips.0, ips.1
    )
}

fn built(name: &str) -> Vec<u8> {
    let path =
        PATHS.iter().find(|path| path.name == name && path.status == Status::Built).expect("a declared path");
    path.tables.iter().map(|table| table.number()).collect()
}

#[track_caller]
fn follows(trace: &Trace, path: &str) {
    assert_eq!(trace.tables, built(path), "{path}: {}", trace.text);
}

#[test]
fn packets_of_a_small_network() {
    let Some(ovs) = loaded(&mut topology()) else { return };
    let ips = ("10.0.0.1", "10.0.0.2");

    let local = ovs.trace(&udp(2, &mac(2), &mac(1), ("10.0.0.2", "10.0.0.1")));
    assert_eq!(local.ports(), ["p1"], "{}", local.text);
    follows(&local, "switched, one hypervisor");

    let remote = ovs.trace(&udp(1, &mac(1), &mac(3), ips));
    assert_eq!(remote.ports(), ["t2"], "{}", remote.text);
    follows(&remote, "switched, sender");
    assert_eq!(remote.final_field("tun_id").as_deref(), Some("0x7"), "{}", remote.text);
    assert_eq!(remote.option(), Some(("0x1".into(), "0x3".into())), "{}", remote.text);

    let received = ovs.trace(&format!(
        "{},tun_id=0x7,tun_metadata0=0x30001",
        udp(1002, &mac(3), &mac(1), ("10.0.0.3", "10.0.0.1"))
    ));
    assert_eq!(received.ports(), ["p1"], "{}", received.text);
    follows(&received, "switched, receiver");
    let not_here =
        ovs.trace(&format!("{},tun_id=0x7,tun_metadata0=0x10003", udp(1002, &mac(1), &mac(3), ips)));
    assert_eq!(not_here.ports(), [""; 0], "never back into a tunnel: {}", not_here.text);

    let broadcast = ovs.trace(&udp(1, &mac(1), "ff:ff:ff:ff:ff:ff", ("10.0.0.1", "10.0.0.255")));
    assert_eq!(broadcast.ports(), ["p2", "t2"], "{}", broadcast.text);
    assert_eq!(broadcast.option(), Some(("0x1".into(), "0x8000".into())), "{}", broadcast.text);
    let flooded = ovs
        .trace(&format!("{},tun_id=0x7,tun_metadata0=0x38000", udp(1002, &mac(3), "ff:ff:ff:ff:ff:ff", ips)));
    assert_eq!(flooded.ports(), ["p1", "p2"], "{}", flooded.text);

    let nobody = ovs.trace(&udp(2, &mac(2), "0a:99:00:00:00:01", ips));
    assert!(nobody.outputs.is_empty(), "{}", nobody.text);
    let forged = ovs.trace(&udp(1, &mac(1), &mac(2), ("10.0.0.77", "10.0.0.2")));
    assert!(forged.outputs.is_empty(), "{}", forged.text);
    let tagged = ovs.trace(&format!("{},dl_vlan=5,dl_vlan_pcp=0", udp(2, &mac(2), &mac(1), ips)));
    assert!(tagged.outputs.is_empty(), "{}", tagged.text);
    let unknown_port = ovs.trace(&udp(5, &mac(2), &mac(1), ips));
    assert!(unknown_port.outputs.is_empty(), "{}", unknown_port.text);
}

#[test]
fn the_main_path_is_not_split_by_connection() {
    let Some(ovs) = loaded(&mut topology()) else { return };
    for (port, to) in [(1, 2), (2, 3), (2, 1)] {
        let from = format!("10.0.0.{port}");
        let trace = ovs.trace(&udp(port, &mac(port), &mac(to), (&from, &format!("10.0.0.{to}"))));
        let megaflow = trace
            .text
            .lines()
            .find_map(|line| line.strip_prefix("Megaflow: "))
            .expect("trace says")
            .to_owned();
        assert!(
            !megaflow.contains("tp_") && !megaflow.contains("udp_src") && !megaflow.contains("udp_dst"),
            "{megaflow}"
        );
    }
}

#[test]
fn arp_is_answered() {
    let Some(ovs) = loaded(&mut topology()) else { return };
    let request = |port: u32, target: &str| {
        ovs.trace(&format!(
            "in_port={port},dl_src={m},dl_dst=ff:ff:ff:ff:ff:ff,arp,arp_op=1,arp_sha={m},arp_spa=10.0.0.{port},arp_tpa={target}",
            m = mac(port),
        ))
    };
    let answer = request(1, "10.0.0.3");
    assert_eq!(answer.ports(), ["p1"], "{}", answer.text);
    follows(&answer, "ARP or ND request, answered");
    for (field, value) in [
        ("arp_op", "2".to_owned()),
        ("arp_sha", mac(3)),
        ("arp_spa", "10.0.0.3".to_owned()),
        ("arp_tha", mac(1)),
        ("arp_tpa", "10.0.0.1".to_owned()),
        ("dl_src", mac(3)),
        ("dl_dst", mac(1)),
    ] {
        assert_eq!(answer.final_field(field), Some(value), "{field}: {}", answer.text);
    }
    let own = request(1, "10.0.0.1");
    assert_eq!(own.ports(), ["p2", "t2"], "{}", own.text);
    let unknown = request(1, "10.0.0.77");
    assert_eq!(unknown.ports(), ["p2", "t2"], "{}", unknown.text);
    follows(&unknown, "broadcast");
}

#[test]
fn dhcp_goes_to_the_agent() {
    let Some(ovs) = loaded(&mut topology()) else { return };
    let request = |port: u32, to: &str, ips: (&str, &str)| {
        let flow = udp(port, &mac(port), to, ips).replace("=1000", "=68").replace("=2000", "=67");
        ovs.trace(&flow)
    };
    let discover = request(1, "ff:ff:ff:ff:ff:ff", ("0.0.0.0", "255.255.255.255"));
    assert_eq!((discover.punts, discover.outputs.len()), (1, 0), "{}", discover.text);
    follows(&discover, "DHCP request");
    let renew = request(1, "0a:dd:00:00:00:01", ("10.0.0.1", "10.0.0.254"));
    assert_eq!((renew.punts, renew.outputs.len()), (1, 0), "{}", renew.text);
    let without_options = request(2, "ff:ff:ff:ff:ff:ff", ("0.0.0.0", "255.255.255.255"));
    assert_eq!(
        (without_options.punts, without_options.ports()),
        (0, vec!["p1", "t2"]),
        "{}",
        without_options.text
    );
    let another_server = request(1, &mac(2), ("10.0.0.1", "10.0.0.2"));
    assert_eq!((another_server.punts, another_server.ports()), (0, vec!["p2"]), "{}", another_server.text);
}

#[test]
fn learning_ports() {
    let mut model = topology();
    let unknown =
        |number, chassis| PortSpec { addresses: vec!["unknown".into()], ..plain(number, 7, chassis) };
    model.port(&unknown(4, 1));
    model.port(&unknown(5, 1));
    model.port(&unknown(6, 2));
    model.fdb(1, 7, 4, "0a:44:00:00:00:01");
    let Some(ovs) = loaded(&mut model) else { return };

    let fresh = ovs.trace(&udp(4, "0a:44:00:00:00:02", "0a:99:00:00:00:01", ("10.0.0.4", "10.0.0.9")));
    assert_eq!((fresh.punts, fresh.ports()), (1, vec!["p5", "t2"]), "{}", fresh.text);
    follows(&fresh, "first frame of an unknown MAC");
    let known = ovs.trace(&udp(4, "0a:44:00:00:00:01", &mac(1), ("10.0.0.4", "10.0.0.1")));
    assert_eq!((known.punts, known.ports()), (0, vec!["p1"]), "{}", known.text);
    let moved = ovs.trace(&udp(5, "0a:44:00:00:00:01", &mac(1), ("10.0.0.4", "10.0.0.1")));
    assert_eq!((moved.punts, moved.ports()), (1, vec!["p1"]), "{}", moved.text);
    let to_learned = ovs.trace(&udp(2, &mac(2), "0a:44:00:00:00:01", ("10.0.0.2", "10.0.0.4")));
    assert_eq!(to_learned.ports(), ["p4"], "{}", to_learned.text);
    let from_tunnel = ovs.trace(&format!(
        "{},tun_id=0x7,tun_metadata0=0x38001",
        udp(1002, &mac(3), "0a:99:00:00:00:01", ("10.0.0.3", "10.0.0.9"))
    ));
    assert_eq!(from_tunnel.ports(), ["p4", "p5"], "{}", from_tunnel.text);
}

/// A solicitation as a frame, since a trace does not show checksums.
fn solicitation(
    source: std::net::Ipv6Addr,
    to: std::net::Ipv6Addr,
    target: std::net::Ipv6Addr,
    option: bool,
) -> Vec<u8> {
    let mut icmp = vec![135, 0, 0, 0, 0, 0, 0, 0];
    icmp.extend(target.octets());
    if option {
        icmp.extend([1, 1, 0x0a, 0, 0, 0, 0, 1]);
    }
    let mut frame = vec![
        0x33,
        0x33,
        0xff,
        0,
        0,
        2,
        0x0a,
        0,
        0,
        0,
        0,
        1,
        0x86,
        0xdd,
        0x60,
        0,
        0,
        0,
        0,
        icmp.len() as u8,
        58,
        255,
    ];
    frame.extend(source.octets());
    frame.extend(to.octets());
    let sum = checksum(source, to, &icmp);
    icmp[2..4].copy_from_slice(&(!sum).to_be_bytes());
    frame.extend(icmp);
    frame
}

/// The one's complement sum of an ICMPv6 message with its pseudo header: all ones when the checksum is right.
fn checksum(source: std::net::Ipv6Addr, to: std::net::Ipv6Addr, icmp: &[u8]) -> u16 {
    let words =
        [&source.octets()[..], &to.octets(), &[0, 0, 0, icmp.len() as u8, 0, 0, 0, 58], icmp].concat();
    let sum: u32 =
        words.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

#[test]
fn neighbour_solicitations_are_answered() {
    let Some(ovs) = loaded(&mut topology()) else { return };
    let ip = |text: &str| text.parse::<std::net::Ipv6Addr>().expect("an address");
    let (asker, target, group) = (ip("fd00::1"), ip("fd00::2"), ip("ff02::1:ff00:2"));
    let cases = [
        (asker, group, true, "fd00::1", 0x60, 0x0a),
        (asker, target, false, "fd00::1", 0x60, 0x0a),
        (ip("::"), group, false, "ff02::1", 0x20, 0x33),
    ];
    for (at, (source, to, option, answered, flags, first_octet)) in cases.into_iter().enumerate() {
        ovs.receive("p1", &solicitation(source, to, target, option));
        let frames = common::wait_for(|| Some(ovs.sent("p1")).filter(|frames| frames.len() > at));
        let frame = frames.last().expect("an answer");
        assert_eq!(frame[6..12], [0x0a, 0, 0, 0, 0, 2], "from the owner's MAC: {frame:02x?}");
        assert_eq!(frame[0], first_octet, "{frame:02x?}");
        assert_eq!(frame[22..38], target.octets(), "from the target: {frame:02x?}");
        assert_eq!(frame[38..54], ip(answered).octets(), "{frame:02x?}");
        assert_eq!((frame[54], frame[58]), (136, flags), "an advertisement: {frame:02x?}");
        if option {
            assert_eq!(frame[78..86], [2, 1, 0x0a, 0, 0, 0, 0, 2], "the target's address: {frame:02x?}");
        }
        assert_eq!(checksum(target, ip(answered), &frame[54..]), 0xffff, "{frame:02x?}");
    }
    ovs.receive("p1", &solicitation(asker, ip("ff02::1:ff00:1"), asker, true));
    let own = common::wait_for(|| Some(ovs.sent("p2")).filter(|frames| !frames.is_empty()));
    assert_eq!(own[0][54], 135, "one's own address is asked of the others");
}

/// Random small networks and packets: the switch does what the logical model says.
#[test]
fn the_switch_agrees_with_the_logical_model() {
    let Some(ovs) = Ovs::start(9, 4) else { return };
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122u64);
    let networks = std::env::var("NETWORKS").ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    for seed in seed..seed + networks {
        let mut random = interpreter::Random::new(seed);
        let world = interpreter::World::random(&mut random);
        ovs.load(&world.model().compiled());
        for _ in 0..40 {
            let packet = world.packet(&mut random);
            let (expected, trace) = (world.send(&packet), ovs.trace(&packet.flow()));
            let got = interpreter::Outcome {
                outputs: trace.outputs.clone(),
                punts: trace.punts,
                answer: trace
                    .final_field("dl_src")
                    .filter(|_| trace.tables.contains(&Table::NeighbourReply.number())),
            };
            assert_eq!(
                got,
                expected,
                "SEED={seed} NETWORKS=1\n{world:#?}\n{packet:?}\n{}\n{}",
                packet.flow(),
                trace.text
            );
        }
    }
}

#[test]
fn revoked_ports_are_closed() {
    let mut model = topology();
    let Some(ovs) = loaded(&mut model) else { return };
    let mut compiler = model.compiled();
    model.apply(&mut compiler);
    model.port(&PortSpec { disabled: true, ..plain(2, 7, 1) });
    model.apply(&mut compiler);
    ovs.load(&compiler);
    for (port, to) in [(1, mac(2)), (2, mac(1)), (2, "ff:ff:ff:ff:ff:ff".to_owned())] {
        let from = format!("10.0.0.{port}");
        let trace = ovs.trace(&udp(port, &mac(port), &to, (&from, "10.0.0.9")));
        assert!(trace.outputs.is_empty(), "{}", trace.text);
    }
    model.remove::<quantumnet_model::sb::PortBinding>(id(Kind::Port, 1));
    model.apply(&mut compiler);
    ovs.load(&compiler);
    let gone = ovs.trace(&udp(1, &mac(1), &mac(3), ("10.0.0.1", "10.0.0.3")));
    assert_eq!(gone.tables, [Table::Classify.number()], "{}", gone.text);
}
