//! The DHCP tools against a server that is not ours: busybox's udhcpd on the physical network.
//!
//! Needs root and Open vSwitch and fails, naming what is missing, without them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{fs, net::Ipv4Addr, time::Duration};

use quantumnet_testbed::{
    DhcpKind, DhcpOptions, DhcpRequest, LabGuard, LabSpec, Registry, UpOptions, Vm, wait_until,
};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 9, 1);

/// A server and a client on the physical network; the server ends with the lab.
fn network() -> (tempfile::TempDir, LabGuard, Vm, Vm) {
    let folder = tempfile::Builder::new().prefix("qn").tempdir().unwrap();
    let options = UpOptions { registry: Registry::at(folder.path()), keep_on_failure: false };
    let lab = LabGuard::up_with(&LabSpec::switches_only("dhcp", 0), &options).unwrap();
    let server = lab.add_outside("server", "02:00:00:00:00:01").unwrap();
    let client = lab.add_outside("client", "02:00:00:00:00:02").unwrap();
    server.add_address("192.168.9.1/24").unwrap();
    let home = server.folder();
    let file = |name: &str| home.join(name).display().to_string();
    let config = format!(
        "start 192.168.9.50\nend 192.168.9.60\ninterface eth0\nlease_file {}\npidfile {}\n\
         static_lease 02:00:00:00:00:02 192.168.9.77\n\
         option subnet 255.255.255.0\noption router 192.168.9.1\noption dns 9.9.9.9 8.8.8.8\n\
         option domain example.org\noption mtu 1442\noption lease 600\n\
         option staticroutes 10.1.0.0/16 192.168.9.3, 0.0.0.0/0 192.168.9.1\n",
        file("leases"),
        file("pid")
    );
    fs::write(home.join("leases"), "").unwrap();
    fs::write(home.join("udhcpd.conf"), config).unwrap();
    // In the background of a shell: it goes with the lab, like everything in its namespaces.
    let start = "busybox udhcpd -f \"$1\" >/dev/null 2>&1 &";
    assert!(server.exec(["sh", "-c", start, "sh", &file("udhcpd.conf")]).unwrap().ok());
    wait_until(Duration::from_secs(5), "udhcpd to start", || home.join("pid").exists()).unwrap();
    (folder, lab, server, client)
}

#[test]
fn udhcpc_gets_a_lease_and_configures_the_guest() {
    let (_folder, _lab, _server, client) = network();
    let lease = client.dhcp(&DhcpOptions::default()).unwrap();
    assert_eq!((lease.ip, lease.prefix), (Ipv4Addr::new(192, 168, 9, 77), 24));
    assert_eq!(lease.routers, [SERVER]);
    assert_eq!(lease.dns, [Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(8, 8, 8, 8)]);
    assert_eq!((lease.mtu, lease.domain.as_deref()), (Some(1442), Some("example.org")));
    assert_eq!((lease.server, lease.lease_s), (Some(SERVER), Some(600)));
    assert_eq!(lease.routes[0], ("10.1.0.0/16".to_owned(), Ipv4Addr::new(192, 168, 9, 3)));
    assert!(client.ping(SERVER.into(), &Default::default()).unwrap().all_answered());
    let routes = client.exec(["ip", "-4", "route"]).unwrap().stdout;
    assert!(
        routes.contains("default via 192.168.9.1") && routes.contains("10.1.0.0/16 via 192.168.9.3"),
        "{routes}"
    );
    assert!(client.exec(["ip", "link", "show", "eth0"]).unwrap().stdout.contains("mtu 1442"));
}

#[test]
fn a_running_client_renews_and_releases() {
    let (_folder, _lab, _server, client) = network();
    let mut running = client.dhcp_client(&DhcpOptions::default()).unwrap();
    let first = running.wait_lease(Duration::from_secs(10)).unwrap();
    running.renew().unwrap();
    let second = running.wait_lease(Duration::from_secs(10)).unwrap();
    assert_eq!(first.ip, second.ip);
    running.release().unwrap();
    assert!(!client.exec(["ip", "-4", "addr", "show", "eth0"]).unwrap().stdout.contains("inet "));
}

#[test]
fn dhclient_gets_the_same_lease() {
    let (_folder, _lab, _server, client) = network();
    let lease = client.dhclient(Duration::from_secs(20)).unwrap();
    assert_eq!((lease.ip, lease.prefix, lease.mtu), (Ipv4Addr::new(192, 168, 9, 77), 24, Some(1442)));
    assert_eq!((lease.routers, lease.server, lease.lease_s), (vec![SERVER], Some(SERVER), Some(600)));
}

#[test]
fn hand_made_messages_are_answered() {
    let (_folder, _lab, _server, client) = network();
    // dnsmasq looks for three seconds whether the address is in use, before it offers it.
    let listen = Duration::from_secs(20);
    let offer = client.dhcp_raw(&DhcpRequest::new(DhcpKind::Discover, 0x1234), listen).unwrap().unwrap();
    assert_eq!((offer.kind, offer.from), (DhcpKind::Offer, SERVER));
    assert_eq!(offer.addresses(3), [SERVER]);

    let (requested, server) = (Some(offer.your_address), Some(SERVER));
    let request =
        DhcpRequest { requested_address: requested, server, ..DhcpRequest::new(DhcpKind::Request, 0x1235) };
    let ack = client.dhcp_raw(&request, listen).unwrap().unwrap();
    assert_eq!((ack.kind, Some(ack.your_address)), (DhcpKind::Ack, requested));

    let client_address = requested;
    let inform = DhcpRequest { client_address, ..DhcpRequest::new(DhcpKind::Inform, 0x1236) };
    client.add_address("192.168.9.77/24").unwrap();
    let ack = client.dhcp_raw(&inform, listen).unwrap().unwrap();
    assert_eq!((ack.kind, ack.your_address), (DhcpKind::Ack, Ipv4Addr::UNSPECIFIED));

    let release = DhcpRequest { client_address, server, ..DhcpRequest::new(DhcpKind::Release, 0x1237) };
    assert_eq!(client.dhcp_raw(&release, Duration::from_millis(300)).unwrap(), None);
}

#[test]
fn nobody_answers_and_the_client_says_so() {
    let folder = tempfile::Builder::new().prefix("qn").tempdir().unwrap();
    let options = UpOptions { registry: Registry::at(folder.path()), keep_on_failure: false };
    let lab = LabGuard::up_with(&LabSpec::switches_only("nodhcp", 0), &options).unwrap();
    let client = lab.add_outside("client", "02:00:00:00:00:02").unwrap();
    let error = client.dhcp(&DhcpOptions { tries: 2, ..DhcpOptions::default() }).unwrap_err().to_string();
    assert!(error.contains("udhcpc in client to get a lease"), "{error}");
}
