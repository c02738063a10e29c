//! Normal forms and messages, as they read.

use std::borrow::Cow;

use expect_test::{Expect, expect};
use quantumnet_expr::{Constant, Expr, Term};

#[track_caller]
fn normal(text: &str, expected: Expect) {
    let clauses = Expr::parse(text).unwrap().normalize().unwrap();
    expected.assert_eq(&clauses.iter().map(|clause| format!("{clause}\n")).collect::<String>());
}

#[track_caller]
fn wrong(text: &str, expected: Expect) {
    expected.assert_eq(&Expr::parse(text).unwrap_err().to_string());
}

#[test]
fn constants() {
    normal("1", expect![""]);
    normal("0", expect![""]);
    normal("!(1 && (0 || 0))", expect![""]);
}

#[test]
fn prerequisites() {
    normal("tcp.dst == 80", expect![""]);
    normal("ip4 && tcp.dst == 80", expect![""]);
    normal("!(tcp.dst == 80) && ip6", expect![""]);
    normal("nd.target == fe80::1", expect![""]);
    normal("vlan.vid == 10 && vlan.pcp == 3", expect![""]);
    normal("!ct.new", expect![""]);
    normal("rarp.op == 3", expect![""]);
    normal("igmp", expect![""]);
}

#[test]
fn contradictions() {
    normal("ip4 && ip6", expect![""]);
    normal("tcp && udp", expect![""]);
    normal("ip4.src == 10.0.0.1 && ip4.src == 10.0.0.2", expect![""]);
    normal("tcp.dst == {80, 443} && tcp.dst == {443, 8080} && ip4", expect![""]);
    normal("100 < tcp.dst < 1", expect![""]);
    normal(r#"inport == "a" && inport == "b""#, expect![""]);
    normal(r#"inport == {"a", "b"} && inport == {"b", "c"}"#, expect![""]);
    normal("ip4.src == $a && ip4.src != $a", expect![""]);
    normal(r#"is_chassis_resident("p") && !is_chassis_resident("p")"#, expect![""]);
}

#[test]
fn inequalities() {
    normal("ip4 && 1000 <= tcp.dst < 2000", expect![""]);
    normal("ip4 && tcp.dst > 0", expect![""]);
    normal("ip4 && tcp.dst >= 0", expect![""]);
    normal("reg0[0..2] != 5", expect![""]);
    normal("ip4.src != 10.0.0.1/255.0.0.255", expect![""]);
    normal("ip4.src != {10.0.0.0/8, 128.0.0.0/1}", expect![""]);
    normal("!ip4.mcast", expect![""]);
}

#[test]
fn dimensions() {
    normal("ip4.src == {10.0.0.1, 10.0.0.2} && ip4.dst == $web && tcp && tcp.dst == {80, 443}", expect![""]);
    normal("ip4 && (tcp.dst == 80 || tcp.dst == 443)", expect![""]);
    normal("ip4 && (tcp.dst == 80 || udp.dst == 53)", expect![""]);
    normal("ip4.src == {10.0.0.0/9, 10.128.0.0/9, 10.0.0.1}", expect![""]);
    normal("ip4.src == 10.0.0.0/8 && ip4.src == $a", expect![""]);
    normal("ip4.src != {$a, $b, 10.0.0.1}", expect![""]);
    normal("ip4.src == $a || ip4.src == $b", expect![""]);
    normal("ip4.src == $a || ip4.dst == $a", expect![""]);
    normal("ip4.src == {0.0.0.0/1, $a} && ip4.src == 10.0.0.0/8", expect![""]);
    normal("reg0[0..7] == $a", expect![""]);
    normal(r#"inport == {@pg, "x"} && outport == @pg"#, expect![""]);
    normal(r#"outport == "lp" && ip6 && is_chassis_resident("cr-lrp")"#, expect![""]);
    normal("ct.est || ct.new", expect![""]);
    normal("ip.proto == 6/6 && ip4", expect![""]);
    normal("arp || (arp && arp.op == 1)", expect![""]);
}

#[test]
fn printed() {
    let print = |text: &str, expected: Expect| expected.assert_eq(&Expr::parse(text).unwrap().to_string());
    print("!(ip4.src==10.0.0.1/8&&!(tcp.dst>5))", expect![""]);
    print("eth.bcast == 1 && ct.new != 1 && !reg0 && reg1[3]", expect![""]);
    print(r#"{"a\u0001\"",@pg} == inport || !is_chassis_resident(^p)"#, expect![""]);
    print("1 < tcp.dst <= 3 && (ip4 || (ip6 && (arp || rarp)))", expect![""]);
    print("eth.src == {00:00:5E:00:53:01/ff:ff:ff:00:00:00 0x5, ^m, $s,}", expect![""]);
}

#[test]
fn messages() {
    wrong("", expect![""]);
    wrong("ip4 &&", expect![""]);
    wrong("ip4 && tcp || udp", expect![""]);
    wrong("ip4 tcp", expect![""]);
    wrong("(ip4", expect![""]);
    wrong("ip4 && foo == 1", expect![""]);
    wrong("tcp.dst", expect![""]);
    wrong("tcp.dst = 80", expect![""]);
    wrong("tcp.dst == ip4", expect![""]);
    wrong("tcp.dst == {80, 65536}", expect![""]);
    wrong("tcp.dst == {80, \"a\"}", expect![""]);
    wrong("inport == 1", expect![""]);
    wrong("ip.ttl > 1", expect![""]);
    wrong("ip.proto != 6", expect![""]);
    wrong("!ip4", expect![""]);
    wrong("eth.bcast < 1", expect![""]);
    wrong("!tcp.dst == 80", expect![""]);
    wrong("tcp.dst < {1, 2}", expect![""]);
    wrong("ip4.src < 10.0.0.0/8", expect![""]);
    wrong("1 < tcp.dst > 3", expect![""]);
    wrong("tcp.dst[3..1] == 1", expect![""]);
    wrong("tcp.dst[3..16] == 1", expect![""]);
    wrong("ip.proto[0]", expect![""]);
    wrong("inport[0]", expect![""]);
    wrong("tcp.dst[x]", expect![""]);
    wrong("tcp.dst[0", expect![""]);
    wrong("ip4.src == 10.0.0.0/33", expect![""]);
    wrong("ip4.src == 10.0.0.300", expect![""]);
    wrong("tcp.dst == 080", expect![""]);
    wrong("tcp.dst == 0xq", expect![""]);
    wrong("ip4.src == $", expect![""]);
    wrong("inport == \"lp", expect![""]);
    wrong(r#"inport == "\x""#, expect![""]);
    wrong("ip4 & tcp", expect![""]);
    wrong("ip4 /* && tcp", expect![""]);
    wrong("is_chassis_resident(lp)", expect![""]);
    wrong("drop(\"x\")", expect![""]);
    wrong("2", expect![""]);
    wrong("^x", expect![""]);
    wrong("ip4 == $s", expect![""]);
}

#[test]
fn references_are_found() {
    let text = r#"inport == {@pg, "lp"} && ip4.src != {$a, ^t} && is_chassis_resident("cr") || 0"#;
    let references = Expr::parse(&format!("({}) || 0", text.trim_end_matches(" || 0"))).unwrap().references();
    expect![""].assert_debug_eq(&references);
}

#[test]
fn templates() {
    let expand = |text: &str, expected: Expect| {
        let lookup = |name: &str| match name {
            "ip" => Some(Cow::Borrowed("10.0.0.1")),
            "ips" => Some("{10.0.0.1, 10.0.0.2}".into()),
            "list" => Some("10.0.0.3, 10.0.0.4".into()),
            "port" => Some("\"lp\"".into()),
            "again" => Some("^ip".into()),
            "bad" => Some("10.0.0.1 &&".into()),
            "mac" => Some("00:00:5e:00:53:01".into()),
            _ => None,
        };
        let expr = Expr::parse(text).unwrap();
        assert!(matches!(expr.normalize(), Err(quantumnet_expr::TooComplex::Template { .. })));
        expected.assert_eq(
            &expr.expand_templates(lookup).map_or_else(|e| format!("error: {e}"), |e| e.to_string()),
        );
    };
    expand("ip4.src == ^ip", expect![""]);
    expand("ip4.src == ^ips", expect![""]);
    expand("ip4.src != {^list, 10.0.0.9, ^ip}", expect![""]);
    expand("inport == ^port && is_chassis_resident(^port)", expect![""]);
    expand("ip4.src < ^ip", expect![""]);
    expand("ip4.src < ^ips", expect![""]);
    expand("ip4.src == ^list", expect![""]);
    expand("ip4.src == {^ips}", expect![""]);
    expand("ip4.src == ^again", expect![""]);
    expand("ip4.src == ^bad", expect![""]);
    expand("ip4.src == ^mac", expect![""]);
    expand("ip4.src == ^port", expect![""]);
    expand("ip4 && ip4.src == ^unknown", expect![""]);
    expand("is_chassis_resident(^again)", expect![""]);
    expand("is_chassis_resident(^ip)", expect![""]);
    expand("ip4 == ^ip", expect![""]);
}

#[test]
fn address_sets_resolve_to_matches() {
    let members: Vec<Constant> =
        ["10.0.0.0/8", "10.1.0.0/16", "::1", "11.0.0.0/8"].map(|text| text.parse().unwrap()).into();
    let resolve = |text: &str, members: &[Constant], expected: Expect| {
        let clauses = Expr::parse(text).unwrap().normalize().unwrap();
        let mut terms =
            clauses.iter().flat_map(|clause| clause.wide()).flat_map(|dimension| dimension.terms());
        let Some(Term::AddressSet(set)) = terms.next() else { panic!("{text}") };
        let matches = set.matches(members).unwrap();
        expected.assert_eq(&matches.iter().map(|one| format!("{one}\n")).collect::<String>());
    };
    resolve("ip4.src == $a", &members, expect![""]);
    resolve("ip4.src != $a", &members, expect![""]);
    resolve("ip6.src == $a", &members, expect![""]);
    resolve("eth.src == $a", &members, expect![""]);
    resolve("eth.src != $a", &[], expect![""]);
    resolve("ip4.src[24..31] == $a", &["10.0.0.5".parse().unwrap()], expect![""]);
}
