//! Ports that are more than a guest's interface, in a real Open vSwitch: physical networks, nested ports, localports,
//! external and virtual ports, ports that several hypervisors have.

mod common;

use common::{
    Kind, Model, PortSpec, id, mac,
    ovs::{Ovs, Trace},
    plain,
};
use quantumnet_model::{host::HostPatch, sb::PortBinding};

fn of(kind: &str, number: u32) -> PortSpec {
    PortSpec { kind: kind.into(), chassis: None, ..plain(number, 7, 1) }
}

fn localnet(number: u32, tag: Option<i64>) -> PortSpec {
    PortSpec { addresses: vec!["unknown".into()], tag, ..of("localnet", number) }
}

fn options(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Ports 1 and 2 here and 3 on hypervisor 2, all on switch 7.
fn topology() -> Model {
    let mut model = Model::hypervisor(3);
    model.switch(7);
    [plain(1, 7, 1), plain(2, 7, 1), plain(3, 7, 2)].iter().for_each(|port| model.port(port));
    model
}

fn loaded(model: &mut Model) -> Option<Ovs> {
    let ovs = Ovs::start(9, 4)?;
    ovs.load(&model.compiled());
    Some(ovs)
}

fn frame(port: u32, from: &str, to: &str) -> String {
    format!(
        "in_port={port},dl_src={from},dl_dst={to},udp,nw_src=10.0.0.9,nw_dst=10.0.0.8,nw_ttl=64,udp_src=7,udp_dst=8"
    )
}

fn tagged(port: u32, from: &str, to: &str, vlan: u16) -> String {
    format!("{},dl_vlan={vlan},dl_vlan_pcp=0", frame(port, from, to))
}

fn request(port: u32, target: &str) -> String {
    let asker = "0a:99:00:00:00:01";
    format!(
        "in_port={port},dl_src={asker},dl_dst=ff:ff:ff:ff:ff:ff,arp,arp_op=1,arp_sha={asker},arp_spa=10.0.0.9,arp_tpa={target}"
    )
}

#[track_caller]
fn goes(trace: &Trace, to: &[&str]) {
    assert_eq!(trace.ports(), to, "{}", trace.text);
}

const ALL: &str = "ff:ff:ff:ff:ff:ff";
const HOST: &str = "0a:99:00:00:00:01";

#[test]
fn a_switch_on_a_physical_network() {
    let mut model = topology();
    model.port(&localnet(4, None));
    let Some(ovs) = loaded(&mut model) else { return };
    goes(&ovs.trace(&frame(1, &mac(1), &mac(2))), &["p2"]);
    goes(&ovs.trace(&frame(1, &mac(1), &mac(3))), &["p4"]);
    goes(&ovs.trace(&frame(1, &mac(1), HOST)), &["p4"]);
    goes(&ovs.trace(&frame(1, &mac(1), ALL)), &["p2", "p4"]);
    goes(&ovs.trace(&frame(4, HOST, &mac(1))), &["p1"]);
    goes(&ovs.trace(&tagged(4, HOST, &mac(1), 0)), &["p1"]);
    goes(&ovs.trace(&tagged(4, HOST, &mac(1), 5)), &[]);
    goes(&ovs.trace(&frame(4, HOST, ALL)), &["p1", "p2"]);
    goes(&ovs.trace(&frame(4, HOST, &mac(3))), &[]);
    goes(&ovs.trace(&request(4, "10.0.0.1")), &["p4"]);
    goes(&ovs.trace(&request(4, "10.0.0.3")), &["p1", "p2"]);
    goes(&ovs.trace(&request(1, "10.0.0.3")), &["p1"]);

    // Where the network is not, the tunnel takes its place.
    model.remove::<HostPatch>(id(Kind::Patch, 4));
    ovs.load(&model.compiled());
    goes(&ovs.trace(&frame(1, &mac(1), &mac(3))), &["t2"]);
    goes(&ovs.trace(&frame(1, &mac(1), ALL)), &["p2", "t2"]);
    goes(&ovs.trace(&frame(4, HOST, &mac(1))), &[]);
}

#[test]
fn a_switch_on_a_vlan() {
    let mut model = topology();
    model.port(&localnet(4, Some(10)));
    model.port(&localnet(5, Some(20)));
    model.remove::<HostPatch>(id(Kind::Patch, 5));
    let Some(ovs) = loaded(&mut model) else { return };
    goes(&ovs.trace(&frame(1, &mac(1), &mac(3))), &["p4.10"]);
    goes(&ovs.trace(&frame(1, &mac(1), ALL)), &["p2", "p4.10"]);
    goes(&ovs.trace(&tagged(4, HOST, ALL, 10)), &["p1", "p2"]);
    goes(&ovs.trace(&frame(4, HOST, ALL)), &[]);
    goes(&ovs.trace(&tagged(4, HOST, ALL, 20)), &[]);
    let asked = ovs.trace(&format!("{},dl_vlan=10,dl_vlan_pcp=0", request(4, "10.0.0.1")));
    assert_eq!(asked.final_field("dl_vlan").as_deref().unwrap_or("10"), "10", "{}", asked.text);
    assert_eq!(asked.outputs.len(), 1, "{}", asked.text);
}

#[test]
fn nested_ports_share_an_interface() {
    let mut model = topology();
    let nested = |number: u32, tag| PortSpec { parent: Some(1), tag: Some(tag), ..plain(number, 7, 1) };
    model.port(&nested(4, 7));
    model.port(&nested(5, 8));
    let Some(ovs) = loaded(&mut model) else { return };
    goes(&ovs.trace(&tagged(1, &mac(4), &mac(2), 7)), &["p2"]);
    goes(&ovs.trace(&tagged(1, &mac(4), &mac(3), 7)), &["t2"]);
    goes(&ovs.trace(&tagged(1, &mac(4), &mac(5), 7)), &["p1.8"]);
    goes(&ovs.trace(&tagged(1, &mac(4), &mac(1), 7)), &["p1"]);
    goes(&ovs.trace(&tagged(1, &mac(4), &mac(4), 7)), &[]);
    goes(&ovs.trace(&frame(1, &mac(1), &mac(4))), &["p1.7"]);
    goes(&ovs.trace(&frame(1, &mac(1), &mac(1))), &[]);
    goes(&ovs.trace(&frame(2, &mac(2), &mac(5))), &["p1.8"]);
    goes(&ovs.trace(&frame(2, &mac(2), ALL)), &["p1", "p1.7", "p1.8", "t2"]);
    goes(&ovs.trace(&frame(1, &mac(1), ALL)), &["p1.7", "p1.8", "p2", "t2"]);
    goes(&ovs.trace(&tagged(1, &mac(4), ALL, 7)), &["p1", "p1.8", "p2", "t2"]);
    goes(&ovs.trace(&tagged(1, &mac(4), ALL, 9)), &[]);
    let received = format!("{},tun_id=0x7,tun_metadata0=0x30004", frame(1002, &mac(3), &mac(4)));
    goes(&ovs.trace(&received), &["p1.7"]);
}

#[test]
fn a_localport_stays_on_its_hypervisor() {
    let mut model = topology();
    model.port(&of("localport", 4));
    let Some(ovs) = loaded(&mut model) else { return };
    goes(&ovs.trace(&frame(1, &mac(1), &mac(4))), &["p4"]);
    goes(&ovs.trace(&frame(4, &mac(4), &mac(1))), &["p1"]);
    goes(&ovs.trace(&frame(4, &mac(4), &mac(3))), &[]);
    goes(&ovs.trace(&frame(4, &mac(4), ALL)), &["p1", "p2"]);
    goes(&ovs.trace(&frame(1, &mac(1), ALL)), &["p2", "p4", "t2"]);
    let received = format!("{},tun_id=0x7,tun_metadata0=0x38000", frame(1002, &mac(3), ALL));
    goes(&ovs.trace(&received), &["p1", "p2"]);
    goes(&ovs.trace(&request(1, "10.0.0.4")), &["p1"]);

    model.port(&localnet(5, None));
    ovs.load(&model.compiled());
    goes(&ovs.trace(&frame(4, &mac(4), &mac(3))), &[]);
    goes(&ovs.trace(&frame(4, &mac(4), HOST)), &[]);
    goes(&ovs.trace(&frame(4, &mac(4), ALL)), &["p1", "p2"]);
    goes(&ovs.trace(&frame(1, &mac(1), ALL)), &["p2", "p4", "p5"]);

    // A host that this hypervisor answers for is there for the localport.
    model.port(&PortSpec { chassis: Some(1), ..of("external", 6) });
    ovs.load(&model.compiled());
    goes(&ovs.trace(&frame(4, &mac(4), &mac(6))), &["p5"]);
    goes(&ovs.trace(&frame(1, &mac(1), &mac(6))), &["p5"]);
}

#[test]
fn a_host_on_the_physical_network_asks_for_an_address() {
    let mut model = topology();
    model.dhcp(1, "10.0.0.0/24", "10.0.0.254");
    model.port(&localnet(5, Some(10)));
    model.port(&PortSpec { dhcp: Some(1), ..of("external", 6) });
    let Some(ovs) = loaded(&mut model) else { return };
    let discover = format!(
        "in_port=5,dl_vlan=10,dl_vlan_pcp=0,dl_src={},dl_dst={ALL},udp,nw_src=0.0.0.0,nw_dst=255.255.255.255,nw_ttl=64,udp_src=68,udp_dst=67",
        mac(6)
    );
    let elsewhere = ovs.trace(&discover);
    assert_eq!(elsewhere.punts, 0, "{}", elsewhere.text);
    model.port(&PortSpec { dhcp: Some(1), chassis: Some(1), ..of("external", 6) });
    ovs.load(&model.compiled());
    let here = ovs.trace(&discover);
    assert_eq!((here.punts, here.outputs.len()), (1, 0), "{}", here.text);
}

#[test]
fn an_l2gateway_is_on_one_hypervisor() {
    let mut model = topology();
    let gateway = |chassis| PortSpec {
        chassis: Some(chassis),
        addresses: vec!["unknown".into()],
        tag: Some(10),
        ..of("l2gateway", 4)
    };
    model.port(&gateway(1));
    let Some(ovs) = loaded(&mut model) else { return };
    goes(&ovs.trace(&frame(1, &mac(1), HOST)), &["p4.10"]);
    goes(&ovs.trace(&frame(1, &mac(1), &mac(3))), &["t2"]);
    goes(&ovs.trace(&tagged(4, HOST, &mac(3), 10)), &["t2"]);
    goes(&ovs.trace(&tagged(4, HOST, ALL, 10)), &["p1", "p2", "t2"]);
    model.port(&gateway(3));
    ovs.load(&model.compiled());
    goes(&ovs.trace(&frame(1, &mac(1), HOST)), &["t3"]);
    goes(&ovs.trace(&tagged(4, HOST, ALL, 10)), &[]);
}

#[test]
fn parents_of_a_virtual_port_are_heard() {
    let mut model = topology();
    let options = options(&[("virtual-ip", "10.0.0.50"), ("virtual-parents", "p1,p3")]);
    model.port(&PortSpec {
        addresses: vec!["0a:00:00:00:00:50 10.0.0.50".into()],
        options,
        ..of("virtual", 4)
    });
    let Some(ovs) = loaded(&mut model) else { return };
    let announce = |port: u32, operation: u8, to: &str| {
        let own = mac(port);
        format!(
            "in_port={port},dl_src={own},dl_dst={to},arp,arp_op={operation},arp_sha={own},arp_spa=10.0.0.50,arp_tpa=10.0.0.50"
        )
    };
    for (port, operation, to, punts, goes_to) in [
        (1, 2, ALL, 1, vec!["p2", "t2"]),
        (1, 1, ALL, 1, vec!["p2", "t2"]),
        (1, 2, &mac(2), 1, vec!["p2"]),
        (2, 2, ALL, 0, vec!["p1", "t2"]),
    ] {
        let trace = ovs.trace(&announce(port, operation, to));
        assert_eq!(trace.punts, punts, "{}", trace.text);
        goes(&trace, &goes_to);
    }
    goes(&ovs.trace(&request(2, "10.0.0.50")), &["p1", "t2"]);
}

/// Port 4 is on hypervisors 1 and 2.
#[test]
fn a_port_on_two_hypervisors() {
    let mut model = topology();
    let moving = |chassis, further: &[u32]| PortSpec {
        chassis: Some(chassis),
        further: further.to_vec(),
        ..plain(4, 7, chassis)
    };
    model.port(&moving(1, &[2]));
    let Some(ovs) = loaded(&mut model) else { return };
    goes(&ovs.trace(&frame(1, &mac(1), &mac(4))), &["p4", "t2"]);
    goes(&ovs.trace(&frame(4, &mac(4), &mac(1))), &["p1"]);
    let received = format!("{},tun_id=0x7,tun_metadata0=0x30004", frame(1002, &mac(3), &mac(4)));
    goes(&ovs.trace(&received), &["p4"]);
    model.port(&moving(2, &[3]));
    ovs.load(&model.compiled());
    goes(&ovs.trace(&frame(1, &mac(1), &mac(4))), &["t2", "t3"]);

    // Behind a physical network only the tunnels reach both.
    model.port(&localnet(5, None));
    ovs.load(&model.compiled());
    goes(&ovs.trace(&frame(1, &mac(1), &mac(4))), &["t2", "t3"]);
    goes(&ovs.trace(&frame(1, &mac(1), &mac(3))), &["p5"]);
    model.port(&moving(1, &[2]));
    ovs.load(&model.compiled());
    goes(&ovs.trace(&frame(4, &mac(4), &mac(3))), &["t2"]);
}

#[test]
fn a_port_that_must_show_itself_is_closed_until_it_does() {
    let mut model = topology();
    let waiting = PortSpec {
        chassis: Some(2),
        further: vec![1],
        options: options(&[("activation-strategy", "rarp")]),
        ..plain(4, 7, 1)
    };
    model.port(&waiting);
    model.port(&PortSpec {
        parent: Some(4),
        tag: Some(9),
        chassis: Some(2),
        further: vec![1],
        ..plain(5, 7, 1)
    });
    let Some(ovs) = loaded(&mut model) else { return };
    goes(&ovs.trace(&frame(4, &mac(4), &mac(1))), &[]);
    goes(&ovs.trace(&frame(4, &mac(4), ALL)), &[]);
    goes(&ovs.trace(&tagged(4, &mac(5), &mac(1), 9)), &[]);
    goes(&ovs.trace(&frame(1, &mac(1), &mac(4))), &["t2"]);
    goes(&ovs.trace(&frame(1, &mac(1), &mac(5))), &["t2"]);
    goes(&ovs.trace(&frame(1, &mac(1), ALL)), &["p2", "t2"]);
    let rarp = ovs.trace(&format!("in_port=4,dl_src={},dl_dst={ALL},dl_type=0x8035", mac(4)));
    assert_eq!(rarp.punts, 1, "{}", rarp.text);
    goes(&rarp, &["p1", "p2", "t2"]);

    // At once where it has shown itself; everywhere once the store says so.
    model.activated(4);
    ovs.load(&model.compiled());
    goes(&ovs.trace(&frame(4, &mac(4), &mac(1))), &["p1"]);
    goes(&ovs.trace(&tagged(4, &mac(5), &mac(1), 9)), &["p1"]);
    goes(&ovs.trace(&frame(1, &mac(1), &mac(4))), &["p4", "t2"]);
    model.remove::<quantumnet_model::host::HostActivated>(id(Kind::Port, 4));
    let mut row = model.rows.get::<PortBinding>(id(Kind::Port, 4)).cloned().expect("it was put");
    row.options.insert("additional-chassis-activated".into(), "hv3,hv1".into());
    model.put(id(Kind::Port, 4), row);
    ovs.load(&model.compiled());
    goes(&ovs.trace(&frame(4, &mac(4), &mac(1))), &["p1"]);
}

#[test]
fn macs_of_the_physical_network_are_learned_where_that_is_wanted() {
    let mut model = topology();
    let learning = PortSpec { options: options(&[("localnet_learn_fdb", "true")]), ..localnet(5, None) };
    model.port(&learning);
    model.port(&PortSpec { addresses: vec!["unknown".into()], ..plain(6, 7, 2) });
    model.fdb(1, 7, 5, HOST);
    model.fdb(2, 7, 6, "0a:66:00:00:00:01");
    let Some(ovs) = loaded(&mut model) else { return };
    for (source, punts) in [(HOST, 0), ("0a:99:00:00:00:02", 1), ("0a:66:00:00:00:01", 0)] {
        let trace = ovs.trace(&frame(5, source, &mac(1)));
        assert_eq!(trace.punts, punts, "{source}: {}", trace.text);
        goes(&trace, &["p1"]);
    }
    model.port(&localnet(5, None));
    ovs.load(&model.compiled());
    assert_eq!(ovs.trace(&frame(5, "0a:99:00:00:00:02", &mac(1))).punts, 0);
}

#[test]
fn a_port_answers_for_addresses_that_nobody_has() {
    let mut model = topology();
    let proxy = "0a:77:00:00:00:01 10.0.0.77 169.254.0.0/16 fd77::/64";
    model.port(&PortSpec { options: options(&[("arp_proxy", proxy)]), ..plain(3, 7, 2) });
    let Some(ovs) = loaded(&mut model) else { return };
    for target in ["10.0.0.77", "169.254.3.4"] {
        let answer = ovs.trace(&request(1, target));
        goes(&answer, &["p1"]);
        assert_eq!(answer.final_field("arp_sha").as_deref(), Some("0a:77:00:00:00:01"), "{}", answer.text);
        assert_eq!(answer.final_field("arp_spa").as_deref(), Some(target), "{}", answer.text);
    }
    let known = ovs.trace(&request(1, "10.0.0.2"));
    assert_eq!(known.final_field("arp_sha"), Some(mac(2)), "{}", known.text);
    goes(&ovs.trace(&request(1, "10.0.0.78")), &["p2", "t2"]);
}
