//! What a logical network does with a packet, written from the semantics of logical switches (ovn-nb(5), ovn-sb(5),
//! "port security") and sharing nothing with the compiler. Hypervisor 1 is "here".

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use quantumnet_model::address::{LspAddress, Mac, PortSecurity};

use super::{Model, PortSpec, mac};

/// A small generator: the same packets for the same seed, everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).expect("64 bits") % limit
    }

    pub fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A network.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub ports: Vec<PortSpec>,
    pub passthru: Option<u32>,
    pub learned: Vec<(u32, u32, String)>,
}

/// Where a packet comes in.
#[derive(Clone, Debug)]
pub enum From {
    Port(u32),
    Tunnel { chassis: u32, switch: u32, key: u16 },
}

/// What it is.
#[derive(Clone, Debug)]
pub enum Payload {
    Udp { source: IpAddr, to: IpAddr, ports: (u16, u16) },
    Icmp6 { source: Ipv6Addr, to: Ipv6Addr, kind: u8, hops: u8, target: Ipv6Addr, option: Option<Mac> },
    Arp { operation: u8, sender: (Mac, Ipv4Addr), target: Ipv4Addr },
    Other,
}

/// A packet.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from: From,
    pub source: Mac,
    pub to: Mac,
    pub vlan: Option<i64>,
    pub payload: Payload,
}

/// What happens to it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    pub outputs: BTreeMap<String, usize>,
    pub punts: usize,
    /// The MAC that an ARP request or solicitation was answered with.
    pub answer: Option<String>,
}

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

impl World {
    /// Two switches with ports 1 to 4 here and 5, 6 elsewhere, in all variants, some of them on two hypervisors. Perhaps
    /// 7 to a physical network, 8 nested in 1, and 9 on every hypervisor.
    pub fn random(random: &mut Random) -> Self {
        let mut this = Self { passthru: random.one_in(3).then_some(2), ..Self::default() };
        for number in 1..=6u32 {
            let switch = 1 + u32::from(random.one_in(3));
            let chassis = if number <= 4 { 1 } else { number - 3 };
            let mut port = PortSpec {
                number,
                switch,
                key: i64::from(number) + 0x100 * i64::from(random.one_in(2)),
                chassis: Some(chassis),
                ..PortSpec::default()
            };
            let (mac, v4, v6) = (mac(number), format!("10.0.0.{number}"), format!("fd00::{number}"));
            if !random.one_in(5) {
                port.addresses.push(format!("{mac} {v4} {v6}"));
            }
            if random.one_in(4) {
                port.addresses.push("unknown".into());
            }
            let entry = [
                mac.clone(),
                format!("{mac} {v4}"),
                format!("{mac} {v6}"),
                format!("{mac} {v4}/24 {v6}/64"),
                format!("{mac} 10.0.0.0/24"),
                format!("{mac} fd00::/64"),
                "nonsense".into(),
            ];
            if random.one_in(2) {
                port.security.push(random.pick(&entry).clone());
            }
            if random.one_in(6) {
                port.security.push(entry[1].replace(&mac, "0a:55:00:00:00:01"));
            }
            port.disabled = random.one_in(8);
            port.dhcp = random.one_in(3).then_some(1);
            match number {
                4 if random.one_in(4) => port.further = vec![2],
                5 if random.one_in(4) => port.further = vec![if random.one_in(2) { 1 } else { 3 }],
                _ => {}
            }
            this.ports.push(port);
        }
        for _ in 0..random.below(3) {
            let port = this.ports[random.below(6)].clone();
            let mac = format!("0a:44:00:00:00:0{}", random.below(2));
            if !this.learned.iter().any(|(_, switch, known)| (*switch, known) == (port.switch, &mac)) {
                this.learned.push((port.number, port.switch, mac));
            }
        }
        let special = |number: u32, kind: &str| PortSpec {
            number,
            switch: 1,
            key: i64::from(number),
            addresses: vec![format!("{} 10.0.0.{number} fd00::{number}", mac(number))],
            kind: kind.into(),
            ..PortSpec::default()
        };
        if random.one_in(2) {
            let tag = random.one_in(2).then_some(10);
            this.ports.push(PortSpec { tag, addresses: vec!["unknown".into()], ..special(7, "localnet") });
        }
        if random.one_in(2) {
            this.ports.push(PortSpec { parent: Some(1), tag: Some(20), chassis: Some(1), ..special(8, "") });
        }
        if random.one_in(2) {
            this.ports.push(special(9, "localport"));
        }
        this
    }

    /// The rows that say the same.
    pub fn model(&self) -> Model {
        let mut model = Model::hypervisor(3);
        (1..=2).for_each(|switch| model.switch(switch));
        self.passthru.into_iter().for_each(|switch| model.vlan_passthru(switch));
        model.dhcp(1, "10.0.0.0/24", &SERVER.to_string());
        self.ports.iter().for_each(|port| model.port(port));
        for (row, (port, switch, mac)) in (0..).zip(&self.learned) {
            let key = self.ports.iter().find(|spec| spec.number == *port).map_or(0, |spec| spec.key);
            model.fdb(row, *switch, key, mac);
        }
        model
    }

    /// A packet that may mean something here.
    pub fn packet(&self, random: &mut Random) -> Packet {
        let port = *random.pick(&[1, 2, 3, 4, 1, 2, 3, 4, 7, 9]);
        let macs: Vec<Mac> = (1..=6)
            .map(mac)
            .chain([
                "0a:44:00:00:00:00".into(),
                "0a:44:00:00:00:01".into(),
                "0a:55:00:00:00:01".into(),
                "0a:99:00:00:00:01".into(),
                mac(8),
                mac(9),
            ])
            .map(|mac| mac.parse().expect("a MAC"))
            .collect();
        let groups: [Mac; 3] = [Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1]), Mac([0x33, 0x33, 0xff, 0, 0, 2])];
        let own: Mac = mac(port).parse().expect("a MAC");
        let v4 = |random: &mut Random| {
            *random.pick(&[
                Ipv4Addr::new(10, 0, 0, 1),
                Ipv4Addr::new(10, 0, 0, 2),
                Ipv4Addr::new(10, 0, 0, 3),
                Ipv4Addr::new(10, 0, 0, 5),
                Ipv4Addr::new(10, 0, 0, 77),
                Ipv4Addr::new(10, 9, 0, 1),
                Ipv4Addr::UNSPECIFIED,
                Ipv4Addr::BROADCAST,
                SERVER,
                Ipv4Addr::new(10, 0, 0, 255),
                Ipv4Addr::new(224, 0, 0, 251),
            ])
        };
        let v6 = |random: &mut Random| {
            let near = format!("fd00::{}", 1 + random.below(6));
            let solicited = format!("ff02::1:ff00:{}", 1 + random.below(6));
            let local = own.link_local().to_string();
            random
                .pick(&[
                    near,
                    "fd00::77".into(),
                    "fd01::1".into(),
                    "::".into(),
                    solicited,
                    "ff02::16".into(),
                    local,
                ])
                .parse::<Ipv6Addr>()
                .expect("an address")
        };
        let own4 = Ipv4Addr::new(10, 0, 0, port as u8);
        let own6: Ipv6Addr = format!("fd00::{port}").parse().expect("an address");
        let option = |random: &mut Random| *random.pick(&[Some(own), None, Some(macs[9])]);
        let payload = match random.below(8) {
            0 | 1 => Payload::Udp {
                source: if random.one_in(2) { own4.into() } else { v4(random).into() },
                to: v4(random).into(),
                ports: *random.pick(&[(68, 67), (1000, 2000)]),
            },
            2 => Payload::Udp {
                source: if random.one_in(2) { own6.into() } else { v6(random).into() },
                to: v6(random).into(),
                ports: (1000, 2000),
            },
            3 | 4 => Payload::Icmp6 {
                source: if random.one_in(2) { own6 } else { v6(random) },
                to: v6(random),
                kind: *random.pick(&[135, 135, 136, 128, 143]),
                hops: if random.one_in(6) { 64 } else { 255 },
                target: v6(random),
                option: option(random),
            },
            5 | 6 => Payload::Arp {
                operation: 1 + random.one_in(3) as u8,
                sender: (option(random).unwrap_or(own), if random.one_in(3) { v4(random) } else { own4 }),
                target: v4(random),
            },
            _ => Payload::Other,
        };
        let payload = match payload {
            // So that more of them are asked as they should be.
            Payload::Icmp6 { source, kind: 135, hops, target, option, to } if random.one_in(2) => {
                let [.., low] = target.segments();
                let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, low);
                Payload::Icmp6 {
                    source,
                    kind: 135,
                    hops,
                    target,
                    option,
                    to: if random.one_in(3) { to } else { solicited },
                }
            }
            other => other,
        };
        let broadcast = random.one_in(2) && !matches!(payload, Payload::Udp { to: IpAddr::V6(_), .. });
        let to = if broadcast {
            groups[random.below(3) * usize::from(random.one_in(2))]
        } else {
            *random.pick(&macs)
        };
        let source = match random.below(8) {
            0 => *random.pick(&macs),
            1 => groups[1],
            _ => own,
        };
        let from = if random.one_in(5) {
            let key = *random.pick(&[0x8000, 0x8001, 1, 2, 0x102, 0x104, 5, 99]);
            From::Tunnel { chassis: 2 + random.below(2) as u32, switch: 1 + random.below(2) as u32, key }
        } else {
            From::Port(port)
        };
        let vlan = match port {
            7 => *random.pick(&[None, Some(10), Some(10), Some(9)]),
            1 => *random.pick(&[None, None, None, Some(9), Some(20)]),
            _ => random.one_in(8).then_some(9),
        };
        Packet { from, source, to, vlan, payload }
    }

    fn is_here(&self, port: &PortSpec) -> bool {
        let bound = port.chassis == Some(1) || port.further.contains(&1);
        !port.disabled
            && (bound || is_everywhere(port))
            && (port.parent.is_none() || self.plugged(port.parent))
    }

    /// Whether the parent's interface is here: that of a disabled parent too.
    fn plugged(&self, parent: Option<u32>) -> bool {
        self.ports.iter().any(|port| Some(port.number) == parent && port.chassis == Some(1))
    }

    /// The port that a frame from an interface belongs to.
    fn entered(&self, number: u32, vlan: Option<i64>) -> Option<&PortSpec> {
        let nested = self.ports.iter().find(|port| port.parent == Some(number) && port.tag == vlan);
        let own = || {
            let port = self.ports.iter().find(|port| port.number == number && port.parent.is_none())?;
            let fits = port.tag == vlan || port.tag.is_none() && self.passthru == Some(port.switch);
            fits.then_some(port)
        };
        nested.or_else(own).filter(|port| self.is_here(port))
    }

    /// The way to the physical network.
    fn localnet(&self, switch: u32) -> Option<&PortSpec> {
        self.ports.iter().find(|port| port.switch == switch && port.kind == "localnet")
    }

    /// What the logical model does with it.
    pub fn send(&self, packet: &Packet) -> Outcome {
        let mut outcome = Outcome::default();
        match packet.from {
            From::Tunnel { switch, key, .. } => self.receive(packet, switch, key, &mut outcome),
            From::Port(number) => {
                if let Some(port) = self.entered(number, packet.vlan) {
                    self.switch(packet, port, &mut outcome);
                }
            }
        }
        outcome
    }

    /// Receiving side: only what is here.
    fn receive(&self, packet: &Packet, switch: u32, key: u16, outcome: &mut Outcome) {
        for port in self.ports.iter().filter(|port| port.switch == switch) {
            let member = match key {
                0x8000 => port.kind != "localport",
                0x8001 => is_unknown(port),
                key => port.key == i64::from(key),
            };
            if !member {
                continue;
            }
            if self.is_here(port) {
                if key == 0x8000 || out_allowed(port, packet) {
                    *outcome.outputs.entry(name(port)).or_default() += 1;
                }
            } else if key < 0x8000
                && port.further.is_empty()
                && let Some(localnet) = self.localnet(switch)
            {
                *outcome.outputs.entry(name(localnet)).or_default() += 1;
            }
        }
    }

    fn switch(&self, packet: &Packet, port: &PortSpec, outcome: &mut Outcome) {
        if packet.source.is_multicast() || !in_allowed(port, packet) {
            return;
        }
        let source = packet.source.to_string();
        if is_unknown(port) && port.security.is_empty() && port.kind.is_empty() {
            let known = self.learned.iter().any(|(number, _, mac)| *number == port.number && *mac == source);
            outcome.punts += usize::from(!known);
        }
        if let Some(mac) = self.answer(packet, port) {
            outcome.answer = Some(mac.to_string());
            *outcome.outputs.entry(name(port)).or_default() += 1;
            return;
        }
        if asks_dhcp(port, packet) {
            outcome.punts += 1;
            return;
        }
        self.forward(packet, port, outcome);
    }

    /// Who answers an ARP request or solicitation in the place of its target.
    fn answer(&self, packet: &Packet, asker: &PortSpec) -> Option<Mac> {
        if self.passthru == Some(asker.switch) {
            return None;
        }
        let target: IpAddr = match packet.payload {
            Payload::Arp { operation: 1, target, .. } if packet.to == Mac::BROADCAST => target.into(),
            Payload::Icmp6 { kind: 135, hops: 255, target, to, .. } => {
                let bytes = target.octets();
                let solicited = Ipv6Addr::new(
                    0xff02,
                    0,
                    0,
                    0,
                    0,
                    1,
                    0xff00 | u16::from(bytes[13]),
                    u16::from(bytes[14]) << 8 | u16::from(bytes[15]),
                );
                if to != target && to != solicited {
                    return None;
                }
                target.into()
            }
            _ => return None,
        };
        let owns = |port: &&PortSpec| {
            !port.disabled
                && !is_unknown(port)
                && addresses(port).iter().any(|(_, ips)| ips.contains(&target))
        };
        let owner = self.ports.iter().filter(|port| port.switch == asker.switch).find(owns)?;
        if owner.number == asker.number || asker.kind == "localnet" && owner.chassis != Some(1) {
            return None;
        }
        addresses(owner).into_iter().find(|(_, ips)| ips.contains(&target)).map(|(mac, _)| mac)
    }

    fn forward(&self, packet: &Packet, port: &PortSpec, outcome: &mut Outcome) {
        let peers =
            || self.ports.iter().filter(|peer| peer.switch == port.switch && peer.number != port.number);
        let (localnet, inside) = (self.localnet(port.switch), port.kind == "localport");
        let moving = port.chassis.into_iter().chain(port.further.iter().copied()).any(|chassis| chassis != 1);
        let outputs = &mut outcome.outputs;
        let mut deliver = |peer: &PortSpec, checked: bool, group: bool| {
            let here = self.is_here(peer);
            let barred = inside && peer.kind == "localnet";
            if here && !barred && (!checked || out_allowed(peer, packet)) {
                *outputs.entry(name(peer)).or_default() += 1;
            }
            if is_everywhere(peer) || inside {
                return;
            }
            let all = peer.chassis.into_iter().chain(peer.further.iter().copied());
            let elsewhere: Vec<u32> = all.filter(|chassis| *chassis != 1).collect();
            match localnet {
                Some(_) if group => {}
                Some(localnet) if !here && peer.further.is_empty() && (!moving || elsewhere.is_empty()) => {
                    if localnet.number != port.number {
                        *outputs.entry(name(localnet)).or_default() += 1;
                    }
                }
                // However many ports a hypervisor has, one copy goes there.
                _ => elsewhere.iter().for_each(|chassis| _ = outputs.insert(format!("t{chassis}"), 1)),
            }
        };
        if packet.to.is_multicast() {
            peers().filter(|peer| !peer.disabled).for_each(|peer| deliver(peer, false, true));
            return;
        }
        let owner = self
            .ports
            .iter()
            .filter(|peer| peer.switch == port.switch)
            .find(|peer| addresses(peer).iter().any(|(mac, _)| *mac == packet.to));
        if let Some(owner) = owner {
            if !owner.disabled && owner.number != port.number {
                deliver(owner, true, false);
            }
            return;
        }
        let learned = self.learned.iter().find(|(number, switch, mac)| {
            let learns = |port: &PortSpec| {
                port.number == *number && is_unknown(port) && port.security.is_empty() && !port.disabled
            };
            *switch == port.switch && *mac == packet.to.to_string() && self.ports.iter().any(learns)
        });
        match learned {
            Some((number, ..)) => {
                peers().filter(|peer| peer.number == *number).for_each(|peer| deliver(peer, true, false))
            }
            None => peers()
                .filter(|peer| is_unknown(peer) && !peer.disabled)
                .for_each(|peer| deliver(peer, true, true)),
        }
    }
}

fn addresses(port: &PortSpec) -> Vec<(Mac, Vec<IpAddr>)> {
    let known = |text: &String| match text.parse() {
        Ok(LspAddress::Known { mac, ips }) => Some((mac, ips)),
        _ => None,
    };
    port.addresses.iter().filter_map(known).collect()
}

/// The port that a frame leaves by, with the VLAN that it gets.
fn name(port: &PortSpec) -> String {
    let by = port.parent.unwrap_or(port.number);
    port.tag.map_or_else(|| format!("p{by}"), |tag| format!("p{by}.{tag}"))
}

fn is_everywhere(port: &PortSpec) -> bool {
    matches!(port.kind.as_str(), "localnet" | "localport")
}

fn is_unknown(port: &PortSpec) -> bool {
    port.addresses.iter().any(|text| text == "unknown")
}

fn security(port: &PortSpec) -> Vec<PortSecurity> {
    port.security.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Whether a listed address or network covers an address.
fn covers(entry: &PortSecurity, ip: IpAddr) -> bool {
    entry.ips.iter().any(|net| if net.addr() == net.network() { net.contains(&ip) } else { net.addr() == ip })
}

fn has(entry: &PortSecurity, v4: bool) -> bool {
    entry.ips.iter().any(|net| net.addr().is_ipv4() == v4)
}

fn in_allowed(port: &PortSpec, packet: &Packet) -> bool {
    let allows = |entry: &PortSecurity| {
        if entry.mac != packet.source {
            return false;
        }
        let any = entry.ips.is_empty();
        let local = |ip: Ipv6Addr| covers(entry, ip.into()) || ip == entry.mac.link_local();
        match packet.payload {
            Payload::Other => any,
            Payload::Arp { sender: (mac, ip), .. } => mac == entry.mac && (any || covers(entry, ip.into())),
            Payload::Udp { source: IpAddr::V4(ip), to, ports } => {
                let discover =
                    ip.is_unspecified() && to == IpAddr::V4(Ipv4Addr::BROADCAST) && ports == (68, 67);
                any || covers(entry, ip.into()) || has(entry, true) && discover
            }
            Payload::Udp { source: IpAddr::V6(ip), .. } => any || has(entry, false) && local(ip),
            Payload::Icmp6 { source, to, kind, hops, target, option } => {
                let early = source.is_unspecified() && to.segments()[0] == 0xff02;
                let from =
                    any || has(entry, false) && (local(source) || early && [131, 135, 143].contains(&kind));
                let own_option = option.is_none_or(|mac| mac == entry.mac);
                let inside = match kind {
                    135 if hops == 255 => own_option,
                    136 if hops == 255 => own_option && (any || local(target)),
                    _ => true,
                };
                from && inside
            }
        }
    };
    port.security.is_empty() || security(port).iter().any(allows)
}

fn out_allowed(port: &PortSpec, packet: &Packet) -> bool {
    let allows = |entry: &PortSecurity| {
        if entry.mac != packet.to {
            return false;
        }
        let to = match packet.payload {
            Payload::Udp { to, .. } => to,
            Payload::Icmp6 { to, .. } => to.into(),
            _ => return true,
        };
        if entry.ips.is_empty() || covers(entry, to) {
            return true;
        }
        match to {
            IpAddr::V4(ip) => {
                let broadcast = |net: &ipnet::IpNet| {
                    net.prefix_len() < 32 && net.broadcast() == to && net.addr() != net.network()
                };
                has(entry, true) && (ip.is_broadcast() || ip.is_multicast())
                    || entry.ips.iter().any(broadcast)
            }
            IpAddr::V6(ip) => has(entry, false) && (ip == entry.mac.link_local() || ip.is_multicast()),
        }
    };
    port.security.is_empty() || security(port).iter().any(allows)
}

fn asks_dhcp(port: &PortSpec, packet: &Packet) -> bool {
    let Payload::Udp { source: IpAddr::V4(source), to: IpAddr::V4(to), ports: (68, 67) } = packet.payload
    else {
        return false;
    };
    let offer = |(mac, ips): &(Mac, Vec<IpAddr>)| {
        *mac == packet.source
            && ips.iter().any(|ip| matches!(ip, IpAddr::V4(ip) if *ip == source || source.is_unspecified()))
    };
    port.dhcp.is_some() && (to == SERVER || to.is_broadcast()) && addresses(port).iter().any(offer)
}

impl Packet {
    /// As `ofproto/trace` reads it.
    pub fn flow(&self) -> String {
        let mut flow = match self.from {
            From::Port(number) => format!("in_port={number}"),
            From::Tunnel { chassis, switch, key } => {
                format!(
                    "in_port={},tun_id={switch},tun_metadata0={:#x}",
                    1000 + chassis,
                    0x63 << 16 | u32::from(key)
                )
            }
        };
        flow += &format!(",dl_src={},dl_dst={}", self.source, self.to);
        if let Some(vlan) = self.vlan {
            flow += &format!(",dl_vlan={vlan},dl_vlan_pcp=0");
        }
        flow + &match &self.payload {
            Payload::Udp { source: IpAddr::V4(source), to, ports } => {
                format!(",udp,nw_src={source},nw_dst={to},nw_ttl=64,udp_src={},udp_dst={}", ports.0, ports.1)
            }
            Payload::Udp { source, to, ports } => {
                format!(
                    ",udp6,ipv6_src={source},ipv6_dst={to},nw_ttl=64,udp_src={},udp_dst={}",
                    ports.0, ports.1
                )
            }
            Payload::Icmp6 { source, to, kind, hops, target, option } => {
                let mut text = format!(
                    ",icmp6,ipv6_src={source},ipv6_dst={to},nw_ttl={hops},icmpv6_type={kind},icmpv6_code=0"
                );
                if matches!(kind, 135 | 136) {
                    text += &format!(",nd_target={target}");
                    if let Some(option) = option {
                        let (name, number) = if *kind == 135 { ("nd_sll", 1) } else { ("nd_tll", 2) };
                        text += &format!(",{name}={option},nd_options_type={number}");
                    }
                }
                text
            }
            Payload::Arp { operation, sender: (mac, ip), target } => {
                format!(
                    ",arp,arp_op={operation},arp_sha={mac},arp_spa={ip},arp_tpa={target},arp_tha=00:00:00:00:00:00"
                )
            }
            Payload::Other => ",dl_type=0x88b5".to_owned(),
        }
    }
}
