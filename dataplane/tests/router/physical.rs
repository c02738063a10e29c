//! Routers on physical networks: whose MAC frames have there, and which hypervisor routes.

use quantumnet_model::sb::{Chassis, PortBinding};

use crate::{
    common::{
        self, Kind, Model, PortSpec, RouterPortSpec, id, mac, options,
        ovs::{Ovs, Trace},
        router_mac, text,
    },
    datagram, loaded, route, router_port, topology, udp,
};

/// The MAC of a hypervisor on the physical network.
fn chassis_mac(number: u32) -> String {
    format!("0c:00:00:00:00:{number:02x}")
}

/// As [`topology`], with switch 7 in VLAN 70 of the physical network, by port 5, and switch 8 in VLAN 80, by port 6.
fn physical() -> Model {
    let mut model = topology();
    for (number, switch, tag) in [(5, 7, 70), (6, 8, 80)] {
        model.port(&PortSpec {
            number,
            switch,
            key: number.into(),
            kind: "localnet".to_owned(),
            tag: Some(tag),
            addresses: vec!["unknown".to_owned()],
            options: vec![("network_name".to_owned(), "physnet1".to_owned())],
            ..PortSpec::default()
        });
    }
    for number in [1, 2] {
        let uuid = id(Kind::Chassis, number);
        let row = model.rows.get::<Chassis>(uuid).cloned().expect("the hypervisor is there");
        let mappings = format!("physnet0:0c:00:00:00:00:ff,physnet1:{}", chassis_mac(number));
        let other_config = options(&[("ovn-chassis-mac-mappings", &mappings)]);
        model.put(uuid, Chassis { other_config, ..row });
    }
    model
}

/// Makes the gateway of router port 2 one that is reached by the physical network.
fn bridge(model: &mut Model) {
    let uuid = id(Kind::Redirect, 2);
    let row = model.rows.get::<PortBinding>(uuid).cloned().expect("the gateway is there");
    let options = row.options.update(text("redirect-type"), text("bridged"));
    model.put(uuid, PortBinding { options, ..row });
}

fn octets(mac: &str) -> Vec<u8> {
    mac.split(':').map(|octet| u8::from_str_radix(octet, 16).expect("a MAC")).collect()
}

/// A frame in a VLAN.
fn tagged(frame: &[u8], vlan: u8) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, vlan], &frame[12..]].concat()
}

/// The only frame that left by a port: its destination, its source, its VLAN, and the time that it has left to live.
fn only(ovs: &Ovs, port: &str) -> (Vec<u8>, Vec<u8>, Option<u8>, u8) {
    let frame = common::wait_for(|| {
        let sent = ovs.sent(port);
        assert!(sent.len() < 2, "{port}: {sent:02x?}");
        sent.into_iter().next()
    });
    let vlan = (frame[12..14] == [0x81, 0]).then(|| frame[15]);
    let ip = if vlan.is_some() { 18 } else { 14 };
    (frame[..6].to_vec(), frame[6..12].to_vec(), vlan, frame[ip + 8])
}

#[test]
fn what_a_router_sends_to_the_physical_network_has_the_hypervisor_s_mac() {
    let Some(ovs) = loaded(&mut physical()) else { return };
    // To a guest on the other hypervisor: routed here, by the VLAN of its switch.
    ovs.receive("p1", &datagram(mac(1), router_mac(1), [10, 1, 0, 1], [10, 2, 0, 4]));
    assert_eq!(only(&ovs, "p6"), (octets(&mac(4)), octets(&chassis_mac(1)), Some(80), 63));
    assert!(ovs.sent("t2").is_empty());

    // What the other hypervisor's router sends is the router's again where it arrives.
    let routed = datagram(chassis_mac(2), mac(2), [10, 1, 0, 3], [10, 2, 0, 2]);
    ovs.receive("p6", &tagged(&routed, 80));
    assert_eq!(only(&ovs, "p2"), (octets(&mac(2)), octets(&router_mac(2)), None, 64));
}

#[test]
fn what_guests_send_to_the_physical_network_keeps_their_mac() {
    let Some(ovs) = loaded(&mut physical()) else { return };
    ovs.receive("p1", &datagram(mac(1), mac(3), [10, 1, 0, 1], [10, 1, 0, 3]));
    assert_eq!(only(&ovs, "p5"), (octets(&mac(3)), octets(&mac(1)), Some(70), 64));
    // Of another network the hypervisor's MAC is nothing special.
    let other = datagram("0c:00:00:00:00:ff".to_owned(), mac(2), [10, 2, 0, 4], [10, 2, 0, 2]);
    ovs.receive("p6", &tagged(&other, 80));
    assert_eq!(only(&ovs, "p2"), (octets(&mac(2)), octets("0c:00:00:00:00:ff"), None, 64));
}

#[test]
fn a_bridged_gateway_is_reached_by_the_physical_network() {
    let mut model = physical();
    model.gateway_at(2, 9, 2);
    bridge(&mut model);
    model.route(1, 9, route("0.0.0.0/0", "10.2.0.4"));
    let Some(ovs) = loaded(&mut model) else { return };
    ovs.receive("p1", &datagram(mac(1), router_mac(1), [10, 1, 0, 1], [198, 51, 100, 1]));
    assert_eq!(only(&ovs, "p6"), (octets(&router_mac(2)), octets(&chassis_mac(1)), Some(80), 63));
    assert!(ovs.sent("t2").is_empty(), "by no tunnel");
}

#[test]
fn a_bridged_gateway_routes_what_comes_by_the_physical_network() {
    let mut model = physical();
    model.gateway_at(2, 9, 1);
    bridge(&mut model);
    model.route(1, 9, route("0.0.0.0/0", "10.2.0.4"));
    let Some(ovs) = loaded(&mut model) else { return };
    let sent = datagram(chassis_mac(2), router_mac(2), [10, 1, 0, 3], [198, 51, 100, 1]);
    ovs.receive("p6", &tagged(&sent, 80));
    assert_eq!(only(&ovs, "p6"), (octets(&mac(4)), octets(&router_mac(2)), Some(80), 63));
}

/// Router port 1 resides where the gateway of port 2 is: on that hypervisor.
fn resident(chassis: u32) -> Model {
    let mut model = physical();
    let options = vec![("reside-on-redirect-chassis".to_owned(), "true".to_owned())];
    model.router_port(&RouterPortSpec { options, ..router_port(1, 7) });
    model.gateway_at(2, 9, chassis);
    model
}

/// Who has the router's address, asked by port 1 of switch 7 or by the physical network behind port 5.
fn ask(ovs: &Ovs, by: &str, asker: u32) -> Trace {
    ovs.trace(&format!(
        "{by},dl_src={m},dl_dst=ff:ff:ff:ff:ff:ff,arp,arp_op=1,arp_sha={m},arp_spa=10.1.0.{asker},arp_tpa=10.1.0.254,arp_tha=00:00:00:00:00:00",
        m = mac(asker),
    ))
}

#[test]
fn a_port_that_resides_at_the_gateway_is_reached_there_by_its_vlan() {
    let Some(ovs) = loaded(&mut resident(2)) else { return };
    let asked = ask(&ovs, "in_port=1", 1);
    assert_eq!(asked.ports(), ["p5.70"], "the gateway answers: {}", asked.text);
    assert_eq!(asked.final_field("arp_op").as_deref(), Some("1"), "{}", asked.text);
    // Between two networks of the router whose ports are both here, too.
    let sent = ovs.trace(&udp(1, 1, ("10.1.0.1", "10.2.0.2"), 64));
    assert_eq!(sent.ports(), ["p5.70"], "{}", sent.text);
    ovs.receive("p1", &datagram(mac(1), router_mac(1), [10, 1, 0, 1], [10, 2, 0, 2]));
    assert_eq!(only(&ovs, "p5"), (octets(&router_mac(1)), octets(&mac(1)), Some(70), 64));
    // What the gateway sends for the guest comes by the VLAN, from the router's MAC.
    let back = datagram(router_mac(1), mac(1), [10, 2, 0, 2], [10, 1, 0, 1]);
    ovs.receive("p5", &tagged(&back, 70));
    assert_eq!(only(&ovs, "p1"), (octets(&mac(1)), octets(&router_mac(1)), None, 64));
}

#[test]
fn the_gateway_routes_for_a_port_that_resides_there() {
    let Some(ovs) = loaded(&mut resident(1)) else { return };
    let asked = ask(&ovs, "in_port=5,dl_vlan=70", 3);
    let answer = format!("op=2,sha={}", router_mac(1));
    assert!(asked.text.contains(&answer), "{}", asked.text);
    assert_eq!(asked.ports(), ["p5.70"], "{}", asked.text);
    let own = ask(&ovs, "in_port=1", 1);
    assert_eq!(own.ports(), ["p1"], "{}", own.text);

    let sent = datagram(mac(3), router_mac(1), [10, 1, 0, 3], [10, 2, 0, 2]);
    ovs.receive("p5", &tagged(&sent, 70));
    assert_eq!(only(&ovs, "p2"), (octets(&mac(2)), octets(&router_mac(2)), None, 63));
    let back = datagram(mac(2), router_mac(2), [10, 2, 0, 2], [10, 1, 0, 3]);
    ovs.receive("p2", &back);
    assert_eq!(only(&ovs, "p5"), (octets(&mac(3)), octets(&chassis_mac(1)), Some(70), 63));
}
