//! Random networks: switches with ports here, groups, address sets and rules; and changes of them.

use quantumnet_model::{
    Strong, Weak,
    address::Mac,
    host::HostZone,
    nb::{Acl, LogicalSwitch, NbGlobal, PortGroup},
    sb::AddressSet,
};

use super::{
    common::{Kind, Model, id, interpreter::Random, mac, options, plain, text, texts},
    rule::{Rule, address},
    switch::PORTS,
};

/// Port groups.
pub const GROUPS: usize = 2;
/// Address sets.
pub const SETS: usize = 2;

/// A network.
#[derive(Clone, Debug, Default)]
pub struct Network {
    pub rules: Vec<(Place, Rule)>,
    /// Ports of each group.
    pub groups: [Vec<u32>; GROUPS],
    /// Members of each address set: the addresses of both families of these ports.
    pub sets: [Vec<u32>; SETS],
    pub default_drop: bool,
    /// Number of the next rule.
    pub next: i64,
}

/// Whose rule it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    Switch(u32),
    Group(usize),
}

/// Priority of no rule: number of the one that passes what those of the first round passed.
const BEHIND: u32 = 99_999;

impl Network {
    pub fn random(random: &mut Random) -> Self {
        let mut this = Self { default_drop: random.one_in(4), next: 1, ..Self::default() };
        for group in &mut this.groups {
            *group = (1..=PORTS).filter(|_| random.one_in(2)).collect();
        }
        for set in &mut this.sets {
            *set = (1..=PORTS).filter(|_| random.one_in(2)).collect();
        }
        for _ in 0..2 + random.below(6) {
            this.add_rule(random);
        }
        this
    }

    /// Changes one thing and says which.
    pub fn change(&mut self, random: &mut Random) -> String {
        let port = 1 + random.below(PORTS as usize) as u32;
        let flip = |members: &mut Vec<u32>| match members.iter().position(|member| *member == port) {
            Some(at) => _ = members.remove(at),
            None => members.push(port),
        };
        match random.below(6) {
            0 if !self.rules.is_empty() => {
                let at = random.below(self.rules.len());
                format!("removed {:?}", self.rules.remove(at))
            }
            1 if !self.rules.is_empty() => {
                let at = random.below(self.rules.len());
                let number = self.rules[at].1.priority;
                self.rules[at].1 = Rule::random(random, number);
                format!("changed to {:?}", self.rules[at])
            }
            2 => {
                let group = random.below(GROUPS);
                flip(&mut self.groups[group]);
                format!("p{port} in or out of group {group}")
            }
            3 => {
                let set = random.below(SETS);
                flip(&mut self.sets[set]);
                format!("address of p{port} in or out of set {set}")
            }
            4 => {
                self.default_drop = !self.default_drop;
                format!("default_acl_drop={}", self.default_drop)
            }
            _ => {
                self.add_rule(random);
                format!("added {:?}", self.rules.last().expect("it was added"))
            }
        }
    }

    fn add_rule(&mut self, random: &mut Random) {
        let place = if random.one_in(2) {
            Place::Switch(1 + random.below(2) as u32)
        } else {
            Place::Group(random.below(GROUPS))
        };
        self.rules.push((place, Rule::random(random, self.next)));
        self.next += 1;
    }

    /// The first four ports are of switch 1, the others of switch 2.
    pub fn switch_of(&self, port: u32) -> u32 {
        if port <= 4 { 1 } else { 2 }
    }

    pub fn mac_of(&self, port: u32) -> [u8; 6] {
        mac(port).parse::<Mac>().expect("numbers of ports are small").0
    }

    /// Rules that apply on a switch: its own, and those of groups with a port of it.
    pub fn rules_on(&self, switch: u32) -> impl Iterator<Item = &Rule> {
        let applies = move |place: &Place| match place {
            Place::Switch(of) => *of == switch,
            Place::Group(group) => self.groups[*group].iter().any(|port| self.switch_of(*port) == switch),
        };
        self.rules.iter().filter(move |(place, _)| applies(place)).map(|(_, rule)| rule)
    }

    /// The rows that say the same.
    pub fn model(&self) -> Model {
        let mut model = Model::hypervisor(1);
        let acls = |of: Place| {
            let of_place = self.rules.iter().filter(move |(place, _)| *place == of);
            of_place.map(|(_, rule)| Strong::new(id(Kind::Acl, rule.priority as u32))).collect()
        };
        for number in [1, 2] {
            model.switch(number);
            let mut rules: imbl::OrdSet<_> = acls(Place::Switch(number));
            // The default to drop holds behind load balancing too.
            if self.default_drop && self.rules_on(number).next().is_some() {
                rules.insert(Strong::new(id(Kind::Acl, BEHIND)));
            }
            let row =
                LogicalSwitch { name: text(&format!("sw{number}")), acls: rules, ..LogicalSwitch::default() };
            model.put(id(Kind::Switch, number), row);
        }
        for port in 1..=PORTS {
            model.port(&plain(port, self.switch_of(port), 1));
            model.put(id(Kind::Port, port), HostZone { zone: port.into() });
        }
        for (number, ports) in self.groups.iter().enumerate() {
            let row = PortGroup {
                name: text(&format!("g{number}")),
                ports: ports.iter().map(|port| Weak::new(id(Kind::Port, *port))).collect(),
                acls: acls(Place::Group(number)),
                ..PortGroup::default()
            };
            model.put(id(Kind::Group, number as u32), row);
        }
        for (number, hosts) in self.sets.iter().enumerate() {
            let addresses =
                hosts.iter().flat_map(|host| [false, true].map(|six| address(*host, six).to_string()));
            let row = AddressSet {
                name: text(&format!("s{number}")),
                addresses: texts(addresses),
                ..AddressSet::default()
            };
            model.put(id(Kind::Set, number as u32), row);
        }
        for (_, rule) in &self.rules {
            let uuid = id(Kind::Acl, rule.priority as u32);
            let persist: &[(&str, &str)] =
                if rule.persist { &[("persist-established", "true")] } else { &[] };
            let row = Acl {
                priority: rule.priority,
                tier: rule.tier,
                direction: text(if rule.to_lport { "to-lport" } else { "from-lport" }),
                r#match: text(&rule.expr.text(rule.to_lport)),
                action: text(&rule.action.to_string()),
                options: options(persist),
                ..Acl::default()
            };
            model.put(uuid, row);
        }
        let behind = Acl {
            direction: text("from-lport"),
            r#match: text("ip"),
            action: text("allow"),
            options: options(&[("apply-after-lb", "true")]),
            ..Acl::default()
        };
        model.put(id(Kind::Acl, BEHIND), behind);
        let drop = if self.default_drop { "true" } else { "false" };
        let row = NbGlobal { options: options(&[("default_acl_drop", drop)]), ..NbGlobal::default() };
        model.put(id(Kind::Own, 1), row);
        model.number_conjunctions(Some(1));
        model
    }
}
