//! What expressions mean is what OVN 23.03 says they mean: verdicts that `record-corpus` took from ovn-trace, against the
//! evaluator and against the normal form with its references resolved.

use quantumnet_expr::{Clause, Constant, Expr, Field, Packet, Term};

/// What OVN decides otherwise, and why we do not.
const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "\tip6.src == $mixed\tip6 && ip6.src==::10.0.0.1",
        "an IPv4 address in a set is no IPv6 address, where OVN takes it for the number that it is",
    ),
    (
        "\tip4.src != $none\tip6",
        "a comparison implies its prerequisite whatever is in the set; OVN forgets that while the set is empty",
    ),
];

/// A packet by the conjunction of equalities that describes it; what that leaves out is 0.
struct Described {
    fields: Vec<(Field, u128)>,
    sets: Vec<(&'static str, Vec<Constant>)>,
}

impl Described {
    fn new(text: &str) -> Self {
        let clauses = Expr::parse(text).expect("a packet").normalize().expect("a small one");
        let [clause] = clauses.as_slice() else { panic!("{text} is {} packets", clauses.len()) };
        let sets: &[(&'static str, &[&str])] = &[
            ("v4", &["10.0.0.1", "10.0.1.0/24"]),
            ("v6", &["2001:db8::1", "2001:db8:1::/48"]),
            ("mac", &["00:00:5e:00:53:01", "00:00:5e:00:53:02"]),
            ("mixed", &["10.0.0.1", "2001:db8::1"]),
            ("none", &[]),
        ];
        let members = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a member")).collect();
        Self {
            fields: clause.fixed().map(|one| (one.field, one.value)).collect(),
            sets: sets.iter().map(|(name, texts)| (*name, members(texts))).collect(),
        }
    }
}

impl Packet for Described {
    fn field(&self, field: Field) -> Option<u128> {
        Some(self.fields.iter().find(|(name, _)| *name == field).map_or(0, |(_, value)| *value))
    }

    fn port(&self, field: Field) -> Option<&str> {
        (field == Field::Inport).then_some("lp1")
    }

    fn address_set(&self, name: &str) -> &[Constant] {
        self.sets.iter().find(|(set, _)| *set == name).map_or(&[], |(_, members)| members)
    }

    fn is_in_port_group(&self, group: &str, port: &str) -> bool {
        group == "pg" && ["lp1", "lp2"].contains(&port)
    }

    fn is_resident(&self, port: &str) -> bool {
        ["lp1", "lp2"].contains(&port)
    }
}

/// As a switch would: with matches only, references resolved.
fn holds(clause: &Clause, packet: &Described) -> bool {
    let bits = |field, value, mask| packet.field(field).is_some_and(|found| found & mask == value);
    clause.dimensions().iter().all(|dimension| {
        dimension.terms().iter().any(|term| match term {
            Term::Match(one) => bits(one.field, one.value, one.mask),
            Term::AddressSet(set) => {
                let matches = set.matches(packet.address_set(&set.name)).expect("few members");
                matches.iter().any(|one| bits(one.field, one.value, one.mask))
            }
            Term::Port { field, name } => packet.port(*field) == Some(name),
            Term::PortGroup { field, name } => {
                packet.port(*field).is_some_and(|port| packet.is_in_port_group(name, port))
            }
            Term::Resident { name, negated } => packet.is_resident(name) != *negated,
        })
    })
}

#[test]
fn meanings_are_those_of_ovn() {
    let mut wrong = Vec::new();
    for line in include_str!("corpus/meanings.txt").lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [verdict, text, packet] = columns.as_slice() else { panic!("{line}") };
        let expr = Expr::parse(text).expect("an expression");
        let packet = Described::new(packet);
        let evaluated = expr.eval(&packet);
        let matched = expr.normalize().expect("a small one").iter().any(|clause| holds(clause, &packet));
        assert_eq!(evaluated, matched, "{line}");
        let excepted = EXCEPTIONS.iter().any(|(exception, _)| line.ends_with(exception));
        if excepted != (matched != (*verdict == "match")) {
            wrong.push(line);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
