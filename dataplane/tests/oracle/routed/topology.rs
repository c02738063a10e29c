//! Random topologies: three switches, of which the third is the outside, joined by one router or by an inner one and one to the
//! outside, which is pinned to its chassis or has a gateway port. Guests are on either of two hypervisors.

use std::net::IpAddr;

use ipnet::IpNet;
use quantumnet_model::{
    Strong,
    address::Mac,
    host::HostRouterZones,
    nb::{LogicalRouter, LogicalRouterStaticRoute, Nat},
};

use super::super::{
    common::{
        Kind, Model, PortSpec, RouterPortSpec, id, interpreter::Random, mac, options, ovs::PHYSICAL, plain,
        router_mac, text,
    },
    switch::PORTS,
};

/// Number of the router that the inner switches are on.
const INNER: u32 = 20;
/// Number of the router that the outside is on.
const GATEWAY: u32 = 21;

/// Number of the switch between them, where there is one.
const JOIN: u32 = 4;
/// Hypervisors.
const CHASSIS: u32 = 2;

/// A topology.
#[derive(Clone, Debug)]
pub struct Topology {
    /// The hypervisor of each guest.
    places: [u32; PORTS as usize],
    /// The hypervisor of the gateway.
    pub gateway_at: u32,
    /// The outside is a physical network that both hypervisors are on.
    pub physical: bool,
    /// An inner router besides the gateway.
    pub two: bool,
    /// The way out is a gateway port of a distributed router, not a router of one chassis.
    pub gateway_port: bool,
    /// Static routes of the router that the inner switches are on.
    pub routes: Vec<(IpNet, Hop)>,
    /// Translations of the gateway.
    pub rules: Vec<Rule>,
}

/// Where a static route leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hop {
    /// A guest that routes.
    Guest(u32),
    Discard,
}

/// A translation.
#[derive(Clone, Debug)]
pub struct Rule {
    pub kind: RuleKind,
    pub external: IpAddr,
    pub logical: IpNet,
    /// The guest whose hypervisor translates, and not the gateway.
    pub distributed: Option<u32>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RuleKind {
    Snat,
    Dnat,
    Both,
}

impl Topology {
    pub fn random(random: &mut Random) -> Self {
        let mut this = Self {
            places: [(); PORTS as usize].map(|()| 1 + random.below(CHASSIS as usize) as u32),
            gateway_at: 1 + random.below(CHASSIS as usize) as u32,
            physical: random.one_in(2),
            two: random.one_in(2),
            gateway_port: random.one_in(2),
            routes: Vec::new(),
            rules: Vec::new(),
        };
        if this.gateway_port && !this.physical {
            // Frames for a gateway port's MAC reach its hypervisor by the physical network only, as in OVN.
            this.places[4..].fill(this.gateway_at);
        }
        for _ in 0..random.below(4) {
            this.add_route(random);
        }
        for _ in 0..random.below(5) {
            this.add_rule(random);
        }
        this
    }

    /// All on the first hypervisor, with one router.
    pub fn on_one(gateway_port: bool, rules: Vec<Rule>) -> Self {
        Self {
            places: [1; PORTS as usize],
            gateway_at: 1,
            physical: false,
            two: false,
            gateway_port,
            routes: Vec::new(),
            rules,
        }
    }

    pub fn change(&mut self, random: &mut Random) {
        match random.below(4) {
            0 if !self.routes.is_empty() => _ = self.routes.remove(0),
            1 if !self.rules.is_empty() => _ = self.rules.remove(0),
            2 => self.add_route(random),
            _ => self.add_rule(random),
        }
    }

    fn add_route(&mut self, random: &mut Random) {
        let prefixes =
            ["192.0.2.0/24", "192.0.2.128/25", "192.0.2.130/32", "198.51.100.0/24", "fd77::/64", "fd77::/48"];
        let prefix: IpNet = random.pick(&prefixes).parse().expect("a prefix");
        if self.routes.iter().any(|(other, _)| *other == prefix) {
            return;
        }
        let hop = if random.one_in(4) { Hop::Discard } else { Hop::Guest(1 + random.below(4) as u32) };
        self.routes.push((prefix, hop));
    }

    /// No two rules for one outer or one inner address, so that what wins is said somewhere.
    fn add_rule(&mut self, random: &mut Random) {
        let kind = *random.pick(&[RuleKind::Snat, RuleKind::Dnat, RuleKind::Both]);
        let six = random.one_in(3);
        let external = outer(random.below(6), six);
        let guest = 1 + random.below(4) as u32;
        let whole = if six {
            ["fd01::/64", "fd02::/64", "fd00::/8"]
        } else {
            ["10.0.1.0/24", "10.0.2.0/24", "10.0.0.0/16"]
        };
        let logical: IpNet = match kind {
            RuleKind::Snat if random.one_in(2) => random.pick(&whole).parse().expect("a prefix"),
            _ => IpNet::from(self.address(guest, six)),
        };
        let may = kind == RuleKind::Both && self.gateway_port && self.physical;
        let distributed = (may && !random.one_in(3)).then_some(guest);
        let known = |rule: &Rule| rule.external == external || rule.logical == logical;
        if !self.rules.iter().any(known) {
            self.rules.push(Rule { kind, external, logical, distributed });
        }
    }

    /// The hypervisor of a guest.
    fn place(&self, port: u32) -> u32 {
        self.places[port as usize - 1]
    }

    /// The hypervisor that takes what comes from the outside for an address.
    pub fn served_at(&self, to: IpAddr) -> u32 {
        let rule = self.rules.iter().find(|rule| rule.external == to);
        rule.and_then(|rule| rule.distributed).map_or(self.gateway_at, |guest| self.place(guest))
    }

    /// The hypervisor by which an address gets to the outside.
    pub fn leaves_at(&self, source: IpAddr) -> u32 {
        self.distributed(source).map_or(self.gateway_at, |guest| self.place(guest))
    }

    /// The guest of that address, if its hypervisor translates it.
    fn distributed(&self, source: IpAddr) -> Option<u32> {
        let rule = self.rules.iter().find(|rule| rule.logical == IpNet::from(source))?;
        rule.distributed
    }

    /// Whether answers leave by a hypervisor that has not seen the questions: what a switch makes of the second packet of a TCP
    /// connection alone is not asked.
    pub fn is_one_way(&self, client: u32, to: IpAddr) -> bool {
        self.switch_of(client) == 3 && self.distributed(to).is_some()
    }

    /// Two ports a switch.
    pub fn switch_of(&self, port: u32) -> u32 {
        port.div_ceil(2)
    }

    /// The number of a switch's router port.
    pub fn router_port(&self, switch: u32) -> u32 {
        switch
    }

    pub fn mac(&self, port: u32) -> [u8; 6] {
        octets(&mac(port))
    }

    pub fn router_mac(&self, router_port: u32) -> [u8; 6] {
        octets(&router_mac(router_port))
    }

    pub fn address(&self, port: u32, six: bool) -> IpAddr {
        let switch = self.switch_of(port);
        let text = match (six, switch) {
            (true, _) => format!("fd0{switch}::{port:x}"),
            (false, 3) => format!("172.16.0.{port}"),
            (false, _) => format!("10.0.{switch}.{port}"),
        };
        text.parse().expect("numbers are small")
    }

    /// Networks of a switch.
    pub fn networks(&self, switch: u32) -> [IpNet; 2] {
        let four = if switch == 3 { "172.16.0.254/24".to_owned() } else { format!("10.0.{switch}.254/24") };
        [four, format!("fd0{switch}::fe/64")].map(|text| text.parse().expect("numbers are small"))
    }

    /// Whom a guest sends to: the one that has the address, if that is on its own network, else its router. On the outside
    /// each address that is translated where its guest is has a MAC of its own.
    pub fn first_hop(&self, port: u32, to: IpAddr) -> [u8; 6] {
        let rule = self.rules.iter().find(|rule| rule.external == to);
        if let Some(guest) = rule.and_then(|rule| rule.distributed).filter(|_| self.switch_of(port) == 3) {
            return octets(&external_mac(guest));
        }
        let switch = self.switch_of(port);
        let neighbour = (1..=PORTS)
            .find(|other| self.switch_of(*other) == switch && self.address(*other, to.is_ipv6()) == to);
        match neighbour {
            Some(neighbour) => self.mac(neighbour),
            None => self.router_mac(self.router_port(switch)),
        }
    }

    /// What a guest tries: all guests, all outer addresses, and some that lead elsewhere or nowhere.
    pub fn destinations(&self, client: u32, random: &mut Random) -> Vec<IpAddr> {
        let guests = (1..=PORTS).filter(|port| *port != client);
        let mut all: Vec<IpAddr> = guests.map(|port| self.address(port, random.one_in(3))).collect();
        all.extend((0..6).flat_map(|place: usize| [outer(place, false), outer(place, true)]));
        let others = [
            "192.0.2.1",
            "192.0.2.130",
            "192.0.2.200",
            "198.51.100.9",
            "203.0.113.1",
            "fd77::1",
            "10.0.1.77",
        ];
        all.extend(others.map(|text| text.parse::<IpAddr>().expect("an address")));
        all.retain(|_| !random.one_in(3));
        all
    }

    /// The rows that say the same, as each hypervisor has them.
    pub fn models(&self) -> Vec<Model> {
        (1..=CHASSIS).map(|here| self.model(here)).collect()
    }

    fn model(&self, here: u32) -> Model {
        let mut model = Model::of(here, CHASSIS);
        (1..=3).for_each(|switch| model.switch(switch));
        for port in 1..=PORTS {
            let addresses =
                vec![format!("{} {} {}", mac(port), self.address(port, false), self.address(port, true))];
            model.port(&PortSpec { addresses, ..plain(port, self.switch_of(port), self.place(port)) });
        }
        if self.physical {
            model.port(&PortSpec {
                number: PHYSICAL,
                switch: 3,
                key: PHYSICAL.into(),
                kind: "localnet".to_owned(),
                addresses: vec!["unknown".to_owned()],
                options: vec![("network_name".to_owned(), "physnet1".to_owned())],
                ..PortSpec::default()
            });
        }
        if self.two {
            model.router(INNER);
        }
        model.router(GATEWAY);
        for switch in 1..=3 {
            let inner = self.two && switch != 3;
            model.router_port(&RouterPortSpec {
                number: self.router_port(switch),
                router: if inner { INNER } else { GATEWAY },
                networks: self.networks(switch).map(|net| net.to_string()).to_vec(),
                switch: Some(switch),
                chassis: (!inner && !self.gateway_port).then_some(self.gateway_at),
                ..RouterPortSpec::default()
            });
        }
        if self.gateway_port {
            model.gateway_at(self.router_port(3), GATEWAY, self.gateway_at);
        }
        if self.two {
            // A router of one chassis is joined to one of all by a switch, as in OVN.
            if !self.gateway_port {
                model.switch(JOIN);
            }
            for (number, peer, router, last) in [(4, 5, INNER, 1), (5, 4, GATEWAY, 2)] {
                model.router_port(&RouterPortSpec {
                    number,
                    router,
                    networks: vec![format!("10.0.99.{last}/24"), format!("fd99::{last}/64")],
                    peer: self.gateway_port.then_some(peer),
                    switch: (!self.gateway_port).then_some(JOIN),
                    chassis: (router == GATEWAY && !self.gateway_port).then_some(self.gateway_at),
                    ..RouterPortSpec::default()
                });
            }
        }
        self.routers(&mut model);
        model.number_conjunctions(Some(1));
        model.number_groups();
        model
    }

    fn routers(&self, model: &mut Model) {
        let mut number = 0;
        let mut route = |model: &mut Model, prefix: String, hop: String| {
            number += 1;
            let uuid = id(Kind::Route, number);
            let row = LogicalRouterStaticRoute {
                ip_prefix: text(&prefix),
                nexthop: text(&hop),
                ..LogicalRouterStaticRoute::default()
            };
            model.put(uuid, row);
            Strong::new(uuid)
        };
        let mut own: imbl::OrdSet<_> = imbl::OrdSet::new();
        for (prefix, hop) in &self.routes {
            let hop = match hop {
                Hop::Guest(guest) => self.address(*guest, prefix.addr().is_ipv6()).to_string(),
                Hop::Discard => "discard".to_owned(),
            };
            own.insert(route(model, prefix.to_string(), hop));
        }
        let mut gateway = LogicalRouter {
            name: text("gateway"),
            options: match self.gateway_port {
                true => options(&[]),
                false => options(&[("chassis", &format!("hv{}", self.gateway_at))]),
            },
            ..LogicalRouter::default()
        };
        if self.two {
            own.insert(route(model, "0.0.0.0/0".into(), "10.0.99.2".into()));
            own.insert(route(model, "::/0".into(), "fd99::2".into()));
            let back = [("10.0.0.0/16", "10.0.99.1"), ("fd01::/64", "fd99::1"), ("fd02::/64", "fd99::1")];
            gateway.static_routes =
                back.into_iter().map(|(prefix, hop)| route(model, prefix.into(), hop.into())).collect();
            let inner = LogicalRouter { name: text("inner"), static_routes: own, ..LogicalRouter::default() };
            model.put(id(Kind::Switch, INNER), inner);
        } else {
            gateway.static_routes = own;
        }
        for (number, rule) in (0..).zip(&self.rules) {
            let uuid = id(Kind::Nat, number);
            let kind = match rule.kind {
                RuleKind::Snat => "snat",
                RuleKind::Dnat => "dnat",
                RuleKind::Both => "dnat_and_snat",
            };
            let single = rule.logical.prefix_len() == rule.logical.max_prefix_len();
            let logical = if single { rule.logical.addr().to_string() } else { rule.logical.to_string() };
            let row = Nat {
                r#type: text(kind),
                external_ip: text(&rule.external.to_string()),
                logical_ip: text(&logical),
                logical_port: rule.distributed.map(|guest| text(&format!("p{guest}"))),
                external_mac: rule.distributed.map(|guest| text(&external_mac(guest))),
                ..Nat::default()
            };
            model.put(uuid, row);
            gateway.nat.insert(Strong::new(uuid));
        }
        model.put(id(Kind::Switch, GATEWAY), gateway);
        model.put(id(Kind::Switch, GATEWAY), HostRouterZones { dnat: 101, snat: 102 });
    }
}

/// An outer address, one of six.
fn outer(place: usize, six: bool) -> IpAddr {
    let text = if six { format!("fd03::{:x}", 0x100 + place) } else { format!("172.16.0.{}", 100 + place) };
    text.parse().expect("numbers are small")
}

/// The MAC that the outside knows a guest by.
fn external_mac(guest: u32) -> String {
    format!("0a:f1:00:00:00:{guest:02x}")
}

fn octets(mac: &str) -> [u8; 6] {
    mac.parse::<Mac>().expect("numbers are small").0
}
