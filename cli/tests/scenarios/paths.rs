//! What people look at networks with, through every kind of path: `ping`, `traceroute`, `tracepath` and TCP at full size, over IPv4
//! and IPv6. Where a path takes shorter packets than its ends, routers say so and connections get through.

use std::{net::IpAddr, time::Duration};

use quantumnet_testbed::{PingOptions, Vm, mac_of, wait_ok};

use crate::support::{Net, ip};

const WITHIN: Duration = Duration::from_secs(20);
/// MTU of guests, and of the host outside.
const MTU: u32 = 1_500;
/// What the gateways' ports take.
const NARROW: u32 = 1_400;

/// Networks n0, where rules let nobody speak to a but who is answered, and n1 behind a distributed router whose gateway is hv1; n2 behind a gateway router on hv2; and the physical
/// network that both lead to. 172.16.0.50 leads to d. `join ROUTER SWITCH MAC NETWORKS` stands for what joins them.
const NETWORKS: &str = "
ls-add n0 -- lsp-add n0 a -- lsp-set-addresses a 'MAC-a 10.0.0.11 fd00:10::11'
lsp-add n0 b -- lsp-set-addresses b 'MAC-b 10.0.0.12 fd00:10::12'
acl-add n0 from-lport 1000 'ip4.src == 10.0.0.0/24 || ip6.src == fd00:10::/64' allow-related
acl-add n0 to-lport 1000 'ip4.dst == 10.0.0.12 || ip6.dst == fd00:10::12' allow-related
acl-add n0 to-lport 900 'ip4.dst == 10.0.0.11 || ip6.dst == fd00:10::11' drop
ls-add n1 -- lsp-add n1 c -- lsp-set-addresses c 'MAC-c 10.0.1.11 fd00:11::11'
lsp-add n1 d -- lsp-set-addresses d 'MAC-d 10.0.1.12 fd00:11::12'
ls-add n2 -- lsp-add n2 e -- lsp-set-addresses e 'MAC-e 10.0.2.11 fd00:12::11'
ls-add pub -- lsp-add pub phys -- lsp-set-type phys localnet -- lsp-set-options phys network_name=physnet1
lsp-set-addresses phys unknown
lr-add lr
join lr n0 0a:ff:00:00:00:10 10.0.0.1/24 fd00:10::1/64
join lr n1 0a:ff:00:00:00:11 10.0.1.1/24 fd00:11::1/64
join lr pub 0a:ff:00:00:00:01 172.16.0.1/24 fd16::1/64
lrp-set-gateway-chassis lr-pub hv1 -- set Logical_Router_Port lr-pub options:gateway_mtu=1400
lr-nat-add lr snat 172.16.0.1 10.0.0.0/24 -- lr-nat-add lr snat fd16::1 fd00:10::/64
lr-nat-add lr dnat_and_snat 172.16.0.50 10.0.1.12 -- lr-nat-add lr dnat_and_snat fd16::50 fd00:11::12
lr-add gr -- set Logical_Router gr options:chassis=hv2
join gr n2 0a:ff:00:00:00:12 10.0.2.1/24 fd00:12::1/64
join gr pub 0a:ff:00:00:00:02 172.16.0.2/24 fd16::2/64
set Logical_Router_Port gr-pub options:gateway_mtu=1400
lr-nat-add gr snat 172.16.0.2 10.0.2.0/24 -- lr-nat-add gr snat fd16::2 fd00:12::/64
";

/// The floating addresses once more.
const STATELESS: &str = "
lr-nat-del lr dnat_and_snat 172.16.0.50 -- lr-nat-del lr dnat_and_snat fd16::50
--stateless lr-nat-add lr dnat_and_snat 172.16.0.50 10.0.1.12
--stateless lr-nat-add lr dnat_and_snat fd16::50 fd00:11::12
";

/// A way that packets go.
struct Path<'a> {
    what: &'a str,
    from: &'a Vm,
    to: &'a str,
    /// Addresses by which routers on it speak to the sender.
    through: &'a [&'a str],
    mtu: u32,
}

/// Runs ovn-nbctl with each line.
fn nbctl(net: &Net, lines: &str) {
    let remotes = format!("--db={}", net.lab.nb_remotes().unwrap());
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let arguments = ["ovn-nbctl".to_owned(), remotes.clone(), "--no-leader-only".to_owned()];
        let output = net.lab.exec("net", arguments.into_iter().chain(command(line))).unwrap();
        assert!(output.ok(), "{line}: {output:?}");
    }
}

/// A guest at `NETWORK.HOST`.
fn guest(net: &Net, name: &str, hypervisor: u16, place: &str) -> Vm {
    let vm = net.lab.add_vm(hypervisor, name, name, &mac_of(name)).unwrap();
    let (subnet, host) = place.split_once('.').unwrap();
    vm.add_address(&format!("10.0.{subnet}.{host}/24")).unwrap();
    vm.add_address(&format!("fd00:1{subnet}::{host}/64")).unwrap();
    vm.set_default_route(ip(&format!("10.0.{subnet}.1"))).unwrap();
    vm.set_default_route(ip(&format!("fd00:1{subnet}::1"))).unwrap();
    vm
}

#[test]
fn tools_through_every_kind_of_path() {
    let net = Net::up("paths", 2);
    nbctl(&net, NETWORKS);
    let guest = |name: &str, hypervisor: u16, place: &str| guest(&net, name, hypervisor, place);
    let (a, b) = (guest("a", 1, "0.11"), guest("b", 2, "0.12"));
    let (c, d, e) = (guest("c", 1, "1.11"), guest("d", 2, "1.12"), guest("e", 1, "2.11"));
    let outside = net.lab.add_outside("outside", &mac_of("outside")).unwrap();
    for address in ["172.16.0.100/24", "fd16::100/64"] {
        outside.add_address(address).unwrap();
    }
    for server in [&b, &c, &d, &outside] {
        assert!(server.exec(["iperf3", "-s", "-D"]).unwrap().ok());
    }

    let path = |what, from, to, through, mtu| Path { what, from, to, through, mtu };
    for path in [
        path("one network, across hosts", &a, "10.0.0.12", &[] as &[&str], MTU),
        path("one network, across hosts", &a, "fd00:10::12", &[], MTU),
        path("routed, one host", &a, "10.0.1.11", &["10.0.0.1"], MTU),
        path("routed, one host", &a, "fd00:11::11", &["fd00:10::1"], MTU),
        path("routed, across hosts", &a, "10.0.1.12", &["10.0.0.1"], MTU),
        path("routed, across hosts", &a, "fd00:11::12", &["fd00:10::1"], MTU),
        path("source translation at this host", &a, "172.16.0.100", &["10.0.0.1"], NARROW),
        path("source translation at this host", &a, "fd16::100", &["fd00:10::1"], NARROW),
        path("source translation at another host", &b, "172.16.0.100", &["10.0.0.1"], NARROW),
        path("source translation at another host", &b, "fd16::100", &["fd00:10::1"], NARROW),
        path("from a floating address", &d, "172.16.0.100", &["10.0.1.1"], NARROW),
        path("from a floating address", &d, "fd16::100", &["fd00:11::1"], NARROW),
        path("to a floating address", &outside, "172.16.0.50", &["172.16.0.1"], NARROW),
        path("to a floating address", &outside, "fd16::50", &["fd16::1"], NARROW),
        path("by a gateway router", &e, "172.16.0.100", &["10.0.2.1"], NARROW),
        path("by a gateway router", &e, "fd16::100", &["fd00:12::1"], NARROW),
    ] {
        path.check();
    }

    // Without memory of connections, errors from outside are still known for one's own by what they quote.
    nbctl(&net, STATELESS);
    for path in [
        path("from a floating address without memory", &d, "172.16.0.100", &["10.0.1.1"], NARROW),
        path("from a floating address without memory", &d, "fd16::100", &["fd00:11::1"], NARROW),
        path("to a floating address without memory", &outside, "172.16.0.50", &["172.16.0.1"], NARROW),
        path("to a floating address without memory", &outside, "fd16::50", &["fd16::1"], NARROW),
    ] {
        path.check();
    }
}

#[test]
fn replies_leave_as_their_requests_came() {
    let net = Net::up("symmetric", 2);
    nbctl(&net, NETWORKS);
    nbctl(
        &net,
        "
--ecmp-symmetric-reply lr-route-add gr 0.0.0.0/0 172.16.0.101
--ecmp-symmetric-reply lr-route-add gr 0.0.0.0/0 172.16.0.102
lr-nat-add gr dnat_and_snat 172.16.0.60 10.0.2.11
",
    );
    let e = guest(&net, "e", 1, "2.11");
    // Both have the same addresses behind them: whose answer goes to the other is not answered.
    let sources: Vec<IpAddr> = (1..=8).map(|last| ip(&format!("198.51.100.{last}"))).collect();
    let routers = ["101", "102"].map(|last| {
        let router = net.lab.add_outside(&format!("out{last}"), &mac_of(last)).unwrap();
        router.add_address(&format!("172.16.0.{last}/24")).unwrap();
        for source in &sources {
            router.add_address_to("lo", &format!("{source}/32")).unwrap();
        }
        let inside = ["ip", "route", "add", "10.0.2.0/24", "via", "172.16.0.2"];
        assert!(router.exec(inside).unwrap().ok());
        router
    });
    e.wait_reachable(ip("172.16.0.101"), WITHIN).unwrap();
    for to in ["10.0.2.11", "172.16.0.60"] {
        for router in &routers {
            router.wait_reachable(ip(to), WITHIN).unwrap();
            for source in &sources {
                let options = PingOptions { source: Some(*source), ..PingOptions::default() };
                let result = router.ping(ip(to), &options).unwrap();
                assert!(result.all_answered(), "{} as {source} to {to}: {result:?}", router.name());
            }
        }
    }
    // What begins inside stays on the way that was chosen first.
    for source in &sources {
        let result = e.ping(*source, &PingOptions::default()).unwrap();
        assert!(result.all_answered(), "{source}: {result:?}");
    }
}

impl Path<'_> {
    fn check(&self) {
        self.from.wait_reachable(self.destination(), WITHIN).unwrap();
        self.forget_mtu();
        self.is_seen_by_traceroute();
        self.takes_packets_up_to_its_mtu();
        self.forget_mtu();
        self.is_measured_by_tracepath();
        self.forget_mtu();
        self.carries_tcp();
    }

    fn destination(&self) -> IpAddr {
        ip(self.to)
    }

    /// `self` in messages.
    fn name(&self) -> String {
        format!("{} ({} to {})", self.what, self.from.name(), self.to)
    }

    /// Forgets what routers said of the path before.
    fn forget_mtu(&self) {
        for family in ["-4", "-6"] {
            assert!(self.from.exec(["ip", family, "route", "flush", "cache"]).unwrap().ok());
        }
    }

    fn is_seen_by_traceroute(&self) {
        for probes in ["-U", "-I"] {
            let output = self
                .from
                .exec(["traceroute", "-n", "-q", "1", "-w", "3", "-m", "5", probes, self.to])
                .unwrap();
            let hops = output.stdout.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
            let hops: Vec<&str> = hops.collect();
            let expected: Vec<&str> = self.through.iter().copied().chain([self.to]).collect();
            assert_eq!(hops, expected, "{}: {output:?}", self.name());
        }
    }

    fn takes_packets_up_to_its_mtu(&self) {
        let headers = if self.destination().is_ipv4() { 28 } else { 48 };
        let of_length = |length: u32, count| {
            let payload_bytes = Some(length - headers);
            let options = PingOptions { payload_bytes, count, dont_fragment: true, ..PingOptions::default() };
            self.from.ping(self.destination(), &options).unwrap()
        };
        let fits = of_length(self.mtu, 3);
        assert!(fits.all_answered(), "{}: {fits:?}", self.name());
        if self.mtu == MTU {
            return;
        }
        let refused = of_length(self.mtu + 1, 1);
        let says = |line: &String| {
            line.contains(&format!("From {} ", self.through[0]))
                && line.to_lowercase().contains("mtu")
                && line.contains(&self.mtu.to_string())
        };
        assert!(refused.none_answered() && refused.errors.iter().any(says), "{}: {refused:?}", self.name());
    }

    fn is_measured_by_tracepath(&self) {
        let output = self.from.exec(["tracepath", "-n", "-m", "5", self.to]).unwrap();
        let hops = self.through.len() + 1;
        let expected = format!("Resume: pmtu {} hops {hops} ", self.mtu);
        assert!(output.stdout.contains(&expected), "{}: no {expected:?} in {output:?}", self.name());
    }

    fn carries_tcp(&self) {
        for direction in [&[] as &[&str], &["-R"]] {
            let command = ["iperf3", "-c", self.to, "-n", "2M", "--connect-timeout", "5000"];
            wait_ok(WITHIN, &format!("TCP {direction:?}, {}", self.name()), || {
                let output =
                    self.from.exec(command.iter().chain(direction)).map_err(|error| error.to_string())?;
                if output.ok() { Ok(()) } else { Err(format!("{output:?}")) }
            })
            .unwrap();
        }
    }
}

/// Words of a command for ovn-nbctl; those between quotes are one, and `MAC-a` is a's.
fn command(line: &str) -> Vec<String> {
    if let Some(join) = line.strip_prefix("join ") {
        let (router, rest) = join.split_once(' ').unwrap();
        let (switch, networks) = rest.split_once(' ').unwrap();
        return command(&format!(
            "lrp-add {router} {router}-{switch} {networks} -- lsp-add {switch} {switch}-{router} \
             -- lsp-set-type {switch}-{router} router -- lsp-set-addresses {switch}-{router} router \
             -- lsp-set-options {switch}-{router} router-port={router}-{switch}"
        ));
    }
    let mut words = Vec::new();
    for (place, part) in line.split('\'').enumerate() {
        match part.strip_prefix("MAC-").map(|rest| rest.split_at(1)) {
            Some((name, rest)) => words.push(mac_of(name) + rest),
            None if place % 2 == 1 => words.push(part.to_owned()),
            None => words.extend(part.split_whitespace().map(str::to_owned)),
        }
    }
    words
}
