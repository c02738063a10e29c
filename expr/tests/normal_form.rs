//! The normal form means what the reference evaluator says, for random expressions and packets. `SEED=n` runs one case.

mod generator;

use generator::{Guest, Random, expression};
use ofpacket::Match as FlowMatch;
use quantumnet_expr::{Clause, Constant, Dimension, Expr, Family, Field, Packet, Term, TooComplex};

fn holds(clause: &Clause, guest: &Guest) -> bool {
    clause.dimensions().iter().all(|dimension| dimension.terms().iter().any(|term| satisfied(term, guest)))
}

fn satisfied(term: &Term, guest: &Guest) -> bool {
    let ones = |width: u8| if width == 128 { u128::MAX } else { (1 << width) - 1 };
    match term {
        Term::Match(wanted) => {
            guest.field(wanted.field).is_some_and(|value| value & wanted.mask == wanted.value)
        }
        Term::Port { field, name } => guest.port(*field) == Some(name),
        Term::PortGroup { field, name } => {
            guest.port(*field).is_some_and(|port| guest.is_in_port_group(name, port))
        }
        Term::Resident { name, negated } => guest.is_resident(name) != *negated,
        Term::AddressSet(set) => guest.field(set.field).is_some_and(|value| {
            let bits = value >> set.low & ones(set.width);
            let among = |member: &Constant| {
                let mask = member.mask().unwrap_or(u128::MAX) & ones(set.width);
                member.is_of_family(set.symbol_width) && bits & mask == member.value() & mask
            };
            guest.address_set(&set.name).iter().any(among) != set.negated
        }),
    }
}

fn seeds(count: u64) -> Vec<u64> {
    std::env::var("SEED")
        .map_or_else(|_| (0..count).collect(), |seed| vec![seed.parse().expect("SEED is a number")])
}

fn normal(expr: &Expr) -> Option<Vec<Clause>> {
    match expr.normalize() {
        Ok(clauses) => Some(clauses),
        Err(TooComplex::Clauses { .. } | TooComplex::Terms { .. } | TooComplex::Masks { .. }) => None,
        Err(error) => panic!("{expr}: {error}"),
    }
}

#[test]
fn normal_form_and_evaluator_agree() {
    let (mut matched, mut compared) = (0, 0);
    for seed in seeds(5_000) {
        let mut random = Random::new(seed);
        let text = expression(&mut random, 3);
        let expr = Expr::parse(&text).unwrap_or_else(|error| panic!("SEED={seed} {text}: {error}"));
        let Some(clauses) = normal(&expr) else { continue };
        for _ in 0..24 {
            let guest = Guest::new(&mut random);
            let expected = expr.eval(&guest);
            let found = clauses.iter().any(|clause| holds(clause, &guest));
            let printed: Vec<_> = clauses.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "SEED={seed}\n{text}\n{}\n{guest:?}", printed.join("\n"));
            matched += u64::from(expected);
            compared += 1;
        }
    }
    assert!(std::env::var("SEED").is_ok() || matched > compared / 10, "{matched} of {compared} matched");
}

#[test]
fn order_of_parts_does_not_matter() {
    for seed in seeds(2_500) {
        let mut random = Random::new(seed);
        let expr = Expr::parse(&expression(&mut random, 3)).unwrap();
        let other = generator::shuffled(&expr, &mut random);
        assert_eq!(normal(&expr), normal(&other), "SEED={seed}\n{expr}\n{other}");
    }
}

#[test]
fn printed_expressions_parse_to_themselves() {
    for seed in seeds(5_000) {
        let text = expression(&mut Random::new(seed), 4);
        let expr = Expr::parse(&text).unwrap();
        assert_eq!(Expr::parse(&expr.to_string()).as_ref(), Ok(&expr), "SEED={seed} {text}");
    }
}

/// The field in a flow. `vlan.tci` needs nothing, and becomes two fields that do.
fn openflow(field: Field) -> Option<ofpacket::Field> {
    field.openflow().filter(|_| field != Field::VlanTci)
}

#[test]
fn flows_name_every_prerequisite_and_clauses_keep_their_invariants() {
    for seed in seeds(5_000) {
        let expr = Expr::parse(&expression(&mut Random::new(seed), 3)).unwrap();
        let Some(clauses) = normal(&expr) else { continue };
        assert!(
            clauses.is_sorted() && clauses.windows(2).all(|pair| pair[0] != pair[1]),
            "SEED={seed} {expr}"
        );
        for clause in &clauses {
            let mut fixed = FlowMatch::default();
            for one in clause.fixed().filter(|one| one.is_matchable()) {
                if let Some(field) = openflow(one.field) {
                    fixed = fixed.with_masked(field, one.value, one.mask);
                }
            }
            let terms = clause.dimensions().iter().flat_map(|dimension| dimension.terms());
            for term in terms {
                let (field, value, mask) = match term {
                    Term::Match(one) if one.is_matchable() => (one.field, one.value, one.mask),
                    Term::Match(one) => {
                        assert!(matches!(one.field, Field::EthType), "SEED={seed} {expr}: {clause}");
                        continue;
                    }
                    Term::AddressSet(set) => (set.field, 0, 1),
                    Term::Port { .. } | Term::PortGroup { .. } | Term::Resident { .. } => continue,
                };
                let Some(openflow) = openflow(field) else { continue };
                let flow = fixed.clone().with_masked(openflow, value, mask);
                assert_eq!(flow.missing_prerequisite(), None, "SEED={seed} {expr}: {clause}");
            }
            for dimension in clause.dimensions() {
                assert!(
                    !dimension.terms().is_empty() && dimension.terms().is_sorted(),
                    "SEED={seed} {expr}: {clause}"
                );
                let literal = |d: &&Dimension| {
                    d.family() == dimension.family() && d.terms().iter().all(|t| matches!(t, Term::Match(_)))
                };
                assert!(
                    dimension.family() == Family::Residence
                        || clause.dimensions().iter().filter(literal).count() <= 1
                );
            }
        }
    }
}

#[test]
fn mangled_expressions_are_refused_or_keep_their_meaning() {
    const TEXTS: [&str; 5] = [
        include_str!("corpus/booleans.txt"),
        include_str!("corpus/constants.txt"),
        include_str!("corpus/references.txt"),
        include_str!("corpus/relations.txt"),
        include_str!("corpus/symbols.txt"),
    ];
    let cases: Vec<&str> = TEXTS
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| Some(line.split_once('\t')?.1))
        .collect();
    let mut parsed = 0;
    for seed in seeds(50_000) {
        let mut random = Random::new(seed);
        let mut text: Vec<char> = random.pick(&cases).chars().collect();
        for _ in 0..=random.below(3) {
            let at = random.below(text.len() + 1);
            let other: Vec<char> = random.pick(&cases).chars().collect();
            let from = random.below(other.len() + 1);
            let to = from + random.below((other.len() - from).min(12) + 1);
            let end = (at + random.below(4)).min(text.len());
            text.splice(at..end, other[from..to].iter().copied());
        }
        let text: String = text.into_iter().collect();
        match Expr::parse(&text) {
            Err(error) => {
                assert!(
                    error.at.end <= text.len() && error.at.start <= error.at.end,
                    "SEED={seed} {text:?}: {error:?}"
                );
                assert!(text.get(error.at).is_some(), "SEED={seed} {text:?}");
            }
            Ok(expr) => {
                assert_eq!(Expr::parse(&expr.to_string()).as_ref(), Ok(&expr), "SEED={seed} {text:?}");
                let Ok(clauses) = expr.normalize() else { continue };
                let guest = Guest::new(&mut random);
                let found = clauses.iter().any(|clause| holds(clause, &guest));
                assert_eq!(found, expr.eval(&guest), "SEED={seed} {text:?}");
                parsed += 1;
            }
        }
    }
    assert!(std::env::var("SEED").is_ok() || parsed > 1000, "{parsed}");
}
