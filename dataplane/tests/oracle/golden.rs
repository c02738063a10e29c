//! The reference itself, held against what OVN 26.03 was recorded to do (the conformance kit's golden files; the names are
//! those of its scenarios). Hosts a, b and c are ports 1, 2 and 3.

use super::{
    exchange::{Exchange, Kind},
    network::{Network, Place},
    reference::Reference,
    rule::{Action, Addresses, Expr, Rule},
};

const A: u32 = 1;
const B: u32 = 2;
const C: u32 = 3;
const WEB: Kind = Kind::Tcp(80);
const SSH: Kind = Kind::Tcp(22);
const DNS: Kind = Kind::Udp(53);

/// A rule of switch 1. Rules of one priority do not meet in these scenarios, so that the order does not matter.
fn rule(to_lport: bool, priority: i64, expr: Expr, action: Action) -> (Place, Rule) {
    (Place::Switch(1), Rule { priority, tier: 0, to_lport, action, persist: false, expr })
}

fn on(port: u32, what: Expr) -> Expr {
    Expr::And(vec![Expr::Ports(vec![port]), what])
}

fn four() -> Expr {
    Expr::To(Addresses::Hosts { six: false, hosts: vec![9] }, false)
}

/// Whether a client gets its answer.
fn works(network: &Network, reference: &mut Reference, client: u32, server: u32, kind: Kind) -> bool {
    let mut exchange = Exchange::new(client, server, kind, 7_000 + client as u16);
    let mut first_three = (0..3).filter_map(|_| exchange.next(network)).collect::<Vec<_>>().into_iter();
    first_three.all(|packet| !reference.send(network, &packet).is_empty())
}

#[track_caller]
fn expect(rules: Vec<(Place, Rule)>, checks: &[(u32, u32, Kind, bool)]) {
    let network = Network { rules, ..Network::default() };
    for (client, server, kind, answered) in checks {
        let mut reference = Reference::default();
        let got = works(&network, &mut reference, *client, *server, *kind);
        assert_eq!(got, *answered, "{client} to {server}, {kind:?}");
    }
}

#[test]
fn from_lport_drop() {
    let rules = vec![rule(false, 1000, on(A, Expr::UdpTo(vec![53])), Action::Drop)];
    expect(rules, &[(A, B, WEB, true), (A, B, DNS, false), (B, A, DNS, true)]);
}

#[test]
fn priorities() {
    let from_c = Expr::From(Addresses::Hosts { six: false, hosts: vec![C] }, true);
    let rules = vec![
        rule(true, 1000, on(B, Expr::All), Action::Drop),
        rule(true, 1001, on(B, Expr::TcpTo(80, 80, true)), Action::AllowRelated),
        rule(true, 1002, Expr::And(vec![on(B, Expr::TcpTo(80, 80, true)), from_c]), Action::Drop),
    ];
    expect(rules, &[(A, B, WEB, true), (A, B, SSH, false), (C, B, WEB, false)]);
}

#[test]
fn allow_stateless() {
    let mut rules = vec![
        rule(false, 1000, four(), Action::AllowRelated),
        rule(true, 900, four(), Action::Drop),
        rule(false, 2000, Expr::Tcp, Action::AllowStateless),
        rule(true, 2001, Expr::TcpTo(80, 80, true), Action::AllowStateless),
    ];
    expect(rules.clone(), &[(A, B, DNS, false), (A, B, WEB, false)]);
    // The source port of the answer: 7000 plus the client's number is where it goes.
    rules.push(rule(true, 2002, Expr::TcpTo(7_001, 7_001, true), Action::AllowStateless));
    expect(rules, &[(A, B, WEB, true)]);
}

#[test]
fn reply_direction_drop() {
    let rules = vec![
        rule(false, 1000, on(A, four()), Action::AllowRelated),
        rule(true, 1001, on(B, four()), Action::AllowRelated),
        rule(false, 900, on(B, four()), Action::Drop),
    ];
    expect(rules, &[(A, B, WEB, true), (B, A, WEB, false)]);
}

#[test]
fn tiers() {
    let of_tier = |tier: i64, (place, rule): (Place, Rule)| (place, Rule { tier, ..rule });
    let rules = vec![
        of_tier(1, rule(true, 1000, on(B, Expr::TcpTo(80, 80, true)), Action::Pass)),
        of_tier(1, rule(true, 900, on(B, Expr::TcpTo(22, 22, true)), Action::Drop)),
        of_tier(2, rule(true, 1001, on(B, Expr::TcpTo(80, 80, true)), Action::Drop)),
        of_tier(2, rule(true, 1002, on(B, Expr::TcpTo(22, 22, true)), Action::Allow)),
    ];
    expect(rules, &[(A, B, WEB, false), (A, B, SSH, false), (A, B, DNS, true)]);
}

#[test]
fn port_groups() {
    let mut network = Network { groups: [vec![B], vec![]], sets: [vec![A], vec![]], ..Network::default() };
    let of_group = |(_, rule): (Place, Rule)| (Place::Group(0), rule);
    let clients = Expr::From(Addresses::Set { six: false, set: 0 }, true);
    network.rules = vec![
        of_group(rule(true, 1000, Expr::And(vec![Expr::Group(0), four()]), Action::Drop)),
        of_group(rule(true, 1001, Expr::And(vec![Expr::Group(0), clients]), Action::AllowRelated)),
    ];
    let works =
        |network: &Network, client, server| works(network, &mut Reference::default(), client, server, WEB);
    assert!(works(&network, A, B), "client");
    assert!(!works(&network, C, B), "not a client");
    assert!(works(&network, C, A), "others are free");
    network.sets[0].push(C);
    assert!(works(&network, C, B), "now a client");
    network.groups[0].push(A);
    assert!(!works(&network, B, A), "a new member is guarded");
}

#[test]
fn connection_survives_unrelated_change() {
    let mut network = Network {
        rules: vec![
            rule(true, 1000, on(B, four()), Action::Drop),
            rule(true, 1001, on(B, Expr::TcpTo(80, 80, true)), Action::AllowRelated),
            rule(false, 1002, four(), Action::AllowRelated),
        ],
        ..Network::default()
    };
    let mut reference = Reference::default();
    let mut exchange = Exchange::new(A, B, WEB, 7_001);
    let mut next = |network: &Network| {
        let packet = exchange.next(network).expect("it goes on");
        !reference.send(network, &packet).is_empty()
    };
    assert!((0..3).all(|_| next(&network)), "new");
    network.rules.push(rule(true, 1003, on(B, Expr::UdpTo(vec![53])), Action::AllowRelated));
    assert!((0..2).all(|_| next(&network)), "after the change");
}
