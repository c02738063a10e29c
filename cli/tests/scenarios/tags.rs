//! Policies by label against a model: random labels and policies, and for each pair of ports and some protocols what the real
//! switches do with a packet, as `qnctl trace` finds it. The model is written from docs/firewall.md.
//!
//! `QN_TAGS_SEED` runs one seed in place of those here; a failure names its seed.

use std::{collections::BTreeMap, fmt::Write as _};

use quantumnet_testbed::{Daemon, Signal};
use serde_json::Value;

use crate::support::{Net, text};

const PORTS: [(&str, u16); 5] = [("p0", 1), ("p1", 1), ("p2", 1), ("p3", 2), ("p4", 2)];
const PACKETS: [&str; 3] = ["tcp/80", "tcp/5432", "udp/53"];
const SEEDS: [u64; 3] = [6, 9, 12];
/// Sets of labels and policies of one seed.
const ROUNDS: usize = 2;

/// Numbers by splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

type Labels = BTreeMap<&'static str, &'static str>;

/// What labels there may be.
const LABELS: [(&str, [&str; 3]); 2] = [("role", ["web", "app", "db"]), ("env", ["prod", "test", "lab"])];

#[derive(Debug)]
enum Selector {
    Is(&'static str, &'static str),
    IsNot(&'static str, &'static str),
    In(&'static str, [&'static str; 2]),
    NotIn(&'static str, [&'static str; 2]),
    Has(&'static str),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

impl Selector {
    fn random(random: &mut Random, depth: usize) -> Self {
        let (key, values) = random.of(&LABELS);
        let two = [values[random.below(2)], values[2]];
        let part = |random: &mut Random| Box::new(Self::random(random, depth + 1));
        match random.below(if depth < 2 { 9 } else { 6 }) {
            0 | 1 => Self::Is(key, random.of(&values)),
            2 => Self::IsNot(key, random.of(&values)),
            3 => Self::In(key, two),
            4 => Self::NotIn(key, two),
            5 => Self::Has(key),
            6 => Self::Not(part(random)),
            7 => Self::And(part(random), part(random)),
            _ => Self::Or(part(random), part(random)),
        }
    }

    fn matches(&self, labels: &Labels) -> bool {
        let value = |key: &str| labels.get(key).copied();
        match self {
            Self::Is(key, wanted) => value(key) == Some(*wanted),
            Self::IsNot(key, wanted) => value(key) != Some(*wanted),
            Self::In(key, wanted) => value(key).is_some_and(|value| wanted.contains(&value)),
            Self::NotIn(key, wanted) => value(key).is_none_or(|value| !wanted.contains(&value)),
            Self::Has(key) => value(key).is_some(),
            Self::Not(part) => !part.matches(labels),
            Self::And(one, other) => one.matches(labels) && other.matches(labels),
            Self::Or(one, other) => one.matches(labels) || other.matches(labels),
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Is(key, value) => write!(out, "{key}={value}"),
            Self::IsNot(key, value) => write!(out, "{key}!={value}"),
            Self::In(key, [one, other]) => write!(out, "{key} in ({one}, {other})"),
            Self::NotIn(key, [one, other]) => write!(out, "{key} not in ({one}, {other})"),
            Self::Has(key) => out.write_str(key),
            Self::Not(part) => write!(out, "not ({part})"),
            Self::And(one, other) => write!(out, "({one}) and ({other})"),
            Self::Or(one, other) => write!(out, "({one}) or ({other})"),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Action {
    Allow,
    Drop,
    Pass,
}

/// No selector is `*`.
#[derive(Debug)]
struct Rule {
    source: Option<Selector>,
    destination: Option<Selector>,
    service: &'static str,
    action: Action,
}

impl Rule {
    fn random(random: &mut Random, order: Order, everybody: bool) -> Self {
        let actions = match order {
            Order::Project => &[Action::Allow, Action::Allow, Action::Drop, Action::Pass][..],
            Order::Default => &[Action::Allow, Action::Drop],
        };
        let which = if everybody { random.below(6) } else { 5 };
        Self {
            source: (which != 0).then(|| Selector::random(random, 0)),
            destination: (which != 1).then(|| Selector::random(random, 0)),
            service: random.of(&["80", "tcp/5432", "udp/53", "tcp", "any"]),
            action: random.of(actions),
        }
    }

    fn matches(&self, from: &Labels, to: &Labels, packet: &str) -> bool {
        let is = |selector: &Option<Selector>, labels| {
            selector.as_ref().is_none_or(|selector| selector.matches(labels))
        };
        let service = match self.service {
            "any" => true,
            "80" => packet == "tcp/80",
            "tcp" => packet.starts_with("tcp/"),
            service => packet == service,
        };
        service && is(&self.source, from) && is(&self.destination, to)
    }

    /// A rule is asked at the ports that its selectors are about; one that stops, where that is enough.
    const fn is_asked(&self, end: End) -> bool {
        match end {
            End::Sender => self.source.is_some() && !(self.stops() && self.destination.is_some()),
            End::Receiver => self.destination.is_some(),
        }
    }

    const fn stops(&self) -> bool {
        matches!(self.action, Action::Drop)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    Project,
    Default,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Sender,
    Receiver,
}

#[derive(Debug)]
struct Policy {
    order: Order,
    priority: usize,
    isolate: &'static str,
    rules: Vec<Rule>,
}

/// Labels of the ports, and the policies about them.
#[derive(Debug)]
struct World {
    labels: Vec<Labels>,
    policies: Vec<Policy>,
}

impl World {
    fn random(random: &mut Random) -> Self {
        let labels = |random: &mut Random| -> Labels {
            let some = LABELS.iter().filter(|_| random.below(4) > 0).collect::<Vec<_>>();
            some.into_iter().map(|(key, values)| (*key, random.of(values))).collect()
        };
        let labels = PORTS.iter().map(|_| labels(random)).collect();
        // Whether a sender that is left with what is allowed may send what a rule about receivers alone allows is left open.
        let everybody = random.below(2) == 0;
        let isolations = if everybody { &["NOTHING", "DESTINATIONS"][..] } else { &["DESTINATIONS", "BOTH"] };
        let mut policy = |number: usize| {
            let order = random.of(&[Order::Project, Order::Project, Order::Default]);
            let isolate = random.of(isolations);
            let rules = (0..=random.below(3)).map(|_| Rule::random(random, order, everybody)).collect();
            Policy { order, priority: number * 10 + random.below(10), isolate, rules }
        };
        Self { labels, policies: (0..3).map(&mut policy).collect() }
    }

    fn yaml(&self) -> String {
        let mut yaml = String::new();
        for (((port, _), labels), place) in PORTS.iter().zip(&self.labels).zip(11..) {
            let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}: {value}")).collect();
            _ = write!(
                yaml,
                "kind: Port\nmetadata: {{ name: {port}, labels: {{ {} }} }}\n\
                 spec: {{ network: net, addresses: [10.0.0.{place}] }}\n---\n",
                labels.join(", ")
            );
        }
        for (number, policy) in self.policies.iter().enumerate() {
            let Policy { order, priority, isolate, rules } = policy;
            let order = if *order == Order::Project { "PROJECT" } else { "DEFAULT" };
            _ = write!(
                yaml,
                "kind: SecurityPolicy\nmetadata: {{ name: policy-{number} }}\n\
                 spec:\n  order: {order}\n  priority: {priority}\n  isolate: {isolate}\n  rules:\n"
            );
            for rule in rules {
                let end =
                    |end: &Option<Selector>| end.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string);
                let (from, to) = (end(&rule.source), end(&rule.destination));
                let action = format!("{:?}", rule.action).to_uppercase();
                _ = writeln!(
                    yaml,
                    "    - {{ match: '{from} -> {to} : {}', action: {action} }}",
                    rule.service
                );
            }
            yaml.push_str("---\n");
        }
        yaml
    }

    /// Whether a packet that opens a connection arrives.
    fn passes(&self, from: usize, to: usize, packet: &str) -> bool {
        [End::Sender, End::Receiver].into_iter().all(|end| self.passes_end(end, from, to, packet))
    }

    fn passes_end(&self, end: End, from: usize, to: usize, packet: &str) -> bool {
        let (from, to) = (&self.labels[from], &self.labels[to]);
        for order in [Order::Project, Order::Default] {
            let mut policies: Vec<&Policy> =
                self.policies.iter().filter(|policy| policy.order == order).collect();
            policies.sort_by_key(|policy| std::cmp::Reverse(policy.priority));
            let mut rules = policies.iter().flat_map(|policy| &policy.rules);
            let decides = rules.find(|rule| rule.is_asked(end) && rule.matches(from, to, packet));
            match decides.map(|rule| rule.action) {
                Some(Action::Allow) => return true,
                Some(Action::Drop) => return false,
                Some(Action::Pass) | None => {}
            }
        }
        let port = if end == End::Sender { from } else { to };
        !self.policies.iter().any(|policy| {
            let isolates =
                policy.isolate == "BOTH" || policy.isolate == "DESTINATIONS" && end == End::Receiver;
            let mut allows = policy.rules.iter().filter(|rule| rule.action == Action::Allow);
            isolates
                && allows.any(|rule| {
                    let selector = if end == End::Sender { &rule.source } else { &rule.destination };
                    selector.as_ref().is_some_and(|selector| selector.matches(port))
                })
        })
    }
}

#[test]
fn random_policies_by_label_do_what_the_model_says() {
    let seeds =
        std::env::var("QN_TAGS_SEED").map_or_else(|_| SEEDS.to_vec(), |seed| vec![seed.parse().unwrap()]);
    let net = Net::up("tags", 2);
    net.apply("kind: VirtualNetwork\nmetadata: { name: net }\nspec: { subnets: [{ cidr: 10.0.0.0/24 }] }\n");
    let mut vms = Vec::new();
    let (mut passed, mut stopped) = (0, 0);
    for seed in seeds {
        let mut random = Random(seed);
        for round in 0..ROUNDS {
            let world = World::random(&mut random);
            if round == 1 {
                // What is applied while an agent begins anew is no different.
                net.lab.restart(Daemon::Agent(1), Signal::SIGKILL).unwrap();
            }
            net.apply(&world.yaml());
            if vms.is_empty() {
                vms = PORTS.iter().map(|(port, hypervisor)| net.vm(*hypervisor, port)).collect();
            }
            for (from, (source, _)) in PORTS.iter().enumerate() {
                for (to, (destination, _)) in PORTS.iter().enumerate().filter(|(to, _)| *to != from) {
                    for packet in PACKETS {
                        let printed = net.qnctl(&["trace", "-o", "json", source, destination, packet]);
                        let trace: Value = serde_json::from_str(&printed).unwrap();
                        let verdict = text(&trace, "/verdict/kind");
                        let passes = world.passes(from, to, packet);
                        let wanted = if passes { "DELIVERED" } else { "DROPPED" };
                        *(if passes { &mut passed } else { &mut stopped }) += 1;
                        assert_eq!(
                            verdict,
                            wanted,
                            "seed {seed}, round {round}: {source} to {destination} {packet}\n{}\n{trace:#}",
                            world.yaml()
                        );
                    }
                }
            }
        }
    }
    assert!(passed > 20 && stopped > 20, "{passed} passed, {stopped} stopped: nothing is said by that");
}
