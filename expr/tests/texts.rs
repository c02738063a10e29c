//! Messages and printed forms, as they read.

use std::borrow::Cow;

use expect_test::{Expect, expect};
use quantumnet_expr::Expr;

#[track_caller]
fn wrong(text: &str, expected: Expect) {
    expected.assert_eq(&Expr::parse(text).expect_err("no expression").to_string());
}

#[test]
fn printed() {
    let print = |text: &str, expected: Expect| expected.assert_eq(&Expr::parse(text).unwrap().to_string());
    print("!(ip4.src==10.0.0.1/8&&!(tcp.dst>5))", expect!["ip4.src != 10.0.0.0/8 || tcp.dst > 5"]);
    print(
        "eth.bcast == 1 && ct.new != 1 && !reg0 && reg1[3]",
        expect!["eth.bcast && !ct.new && reg0 == 0x0 && reg1[3]"],
    );
    print(
        r#"{"a\u0001\"",@pg} == inport || !is_chassis_resident(^p)"#,
        expect![[r#"inport == {"a\u0001\"", @pg} || !is_chassis_resident(^p)"#]],
    );
    print(
        "1 < tcp.dst <= 3 && (ip4 || (ip6 && (arp || rarp)))",
        expect!["tcp.dst > 1 && tcp.dst <= 3 && (ip4 || (ip6 && (arp || rarp)))"],
    );
    print(
        "eth.src == {00:00:5E:00:53:01/ff:ff:ff:00:00:00 0x5, ^m, $s,}",
        expect!["eth.src == {00:00:5e:00:00:00/ff:ff:ff:00:00:00, 0x5, ^m, $s}"],
    );
}

#[test]
fn messages() {
    wrong("", expect!["column 1: expected a constant, found the end"]);
    wrong("ip4 &&", expect!["column 7: expected a constant, found the end"]);
    wrong("ip4 && tcp || udp", expect!["column 12: expected parentheses where `&&` and `||` meet"]);
    wrong("ip4 tcp", expect!["column 5: expected `&&`, `||` or the end, found `tcp`"]);
    wrong("(ip4", expect!["column 5: expected `)`, found the end"]);
    wrong(
        "ip4 && foo == 1",
        expect!["column 8: expected a field or predicate, found the unknown name `foo`"],
    );
    wrong(
        "tcp.dst",
        expect![
            "column 1: expected a relational operator: `tcp.dst` has 16 bits, of which none is its truth"
        ],
    );
    wrong("tcp.dst = 80", expect!["column 9: expected a relational operator, found `=`"]);
    wrong("tcp.dst == ip4", expect!["column 12: expected a constant, found `ip4`"]);
    wrong(
        "tcp.dst == {80, 65536}",
        expect!["column 17: expected no more bits than the 16 of `tcp.dst`, found 17"],
    );
    wrong(
        "tcp.dst == {80, \"a\"}",
        expect![[r#"column 17: expected an integer constant for `tcp.dst`, found "a""#]],
    );
    wrong("inport == 1", expect!["column 11: expected a string for `inport`, found 1"]);
    wrong("ip.ttl > 1", expect!["column 1: expected `==` or `!=` for the nominal field `ip.ttl`"]);
    wrong(
        "ip.proto != 6",
        expect![
            "column 1: nominal field `ip.proto` can only be tested for equality, counting each `!` around it"
        ],
    );
    wrong(
        "!ip4",
        expect![
            "column 2: nominal predicate `ip4` can only be tested for being true, counting each `!` around it"
        ],
    );
    wrong("eth.bcast < 1", expect!["column 1: expected `==` or `!=` for the Boolean field `eth.bcast`"]);
    wrong("!tcp.dst == 80", expect!["column 2: expected parentheses around the comparison after `!`"]);
    wrong("tcp.dst < {1, 2}", expect!["column 1: expected `==` or `!=`: sets have no order"]);
    wrong(
        "ip4.src < 10.0.0.0/8",
        expect![
            "column 1: expected `==` or `!=`: masked constants have no order, but bits like `x[0..7]` do"
        ],
    );
    wrong("1 < tcp.dst > 3", expect!["column 1: expected a range like `1 < x <= 2` or `2 > x >= 1`"]);
    wrong("tcp.dst[3..1] == 1", expect!["column 1: `tcp.dst` has no bits 3 to 1: the lower bit comes first"]);
    wrong("tcp.dst[3..16] == 1", expect!["column 1: `tcp.dst` has no bits 3 to 16: it is not that wide"]);
    wrong("ip.proto[0]", expect!["column 1: `ip.proto` has no bits 0 to 0: nominal fields are indivisible"]);
    wrong("inport[0]", expect!["column 1: `inport` has no bits 0 to 0: it is a string"]);
    wrong("tcp.dst[x]", expect!["column 9: expected the number of a bit, found `x`"]);
    wrong("tcp.dst[0", expect!["column 10: expected `]`, found the end"]);
    wrong(
        "ip4.src == 10.0.0.0/33",
        expect![
            "column 12: expected a mask in the format of its value, or a prefix length behind an IP address"
        ],
    );
    wrong(
        "ip4.src == 10.0.0.300",
        expect!["column 12: invalid constant: expected a number, a MAC or an IP address"],
    );
    wrong(
        "tcp.dst == 080",
        expect!["column 12: invalid constant: expected a decimal number without leading zeros"],
    );
    wrong("tcp.dst == 0xq", expect!["column 12: invalid constant: expected hexadecimal digits after 0x"]);
    wrong("ip4.src == $", expect!["column 12: expected a name after `$`"]);
    wrong("inport == \"lp", expect![[r#"column 11: expected `"` before the end of the text"#]]);
    wrong(r#"inport == "\x""#, expect!["column 12: expected a JSON escape sequence"]);
    wrong("ip4 & tcp", expect!["column 5: character '&' has no meaning here"]);
    wrong("ip4 /* && tcp", expect!["column 5: expected `*/` before the end of the line"]);
    wrong("is_chassis_resident(lp)", expect!["column 21: expected a string, found `lp`"]);
    wrong(
        "drop(\"x\")",
        expect!["column 1: expected `is_chassis_resident`, the only function, found `drop`"],
    );
    wrong("2", expect!["column 2: expected a relational operator, found the end"]);
    wrong("^x", expect!["column 3: expected a relational operator, found the end"]);
    wrong("ip4 == $s", expect!["column 8: expected 0 or 1 for `ip4`, found $s"]);
}

#[test]
fn references_are_found() {
    let text = r#"inport == {@pg, "lp"} && ip4.src != {$a, ^t} && (is_chassis_resident("cr") || ip4)"#;
    let references = Expr::parse(text).unwrap().references();
    expect![[r#"
        References {
            address_sets: {
                "a",
            },
            port_groups: {
                "pg",
            },
            ports: {
                "lp",
            },
            templates: {
                "t",
            },
            residents: {
                "cr",
            },
        }
    "#]]
    .assert_debug_eq(&references);
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
    expand("ip4.src == ^ip", expect!["ip4.src == 10.0.0.1"]);
    expand("ip4.src == ^ips", expect!["ip4.src == {10.0.0.1, 10.0.0.2}"]);
    expand(
        "ip4.src != {^list, 10.0.0.9, ^ip}",
        expect!["ip4.src != {10.0.0.3, 10.0.0.4, 10.0.0.9, 10.0.0.1}"],
    );
    expand(
        "inport == ^port && is_chassis_resident(^port)",
        expect![[r#"inport == "lp" && is_chassis_resident("lp")"#]],
    );
    expand("ip4.src < ^ip", expect!["ip4.src < 10.0.0.1"]);
    expand(
        "ip4.src < ^ips",
        expect!["error: template `^ips`: column 1: expected `==` or `!=`: sets have no order"],
    );
    expand(
        "ip4.src == ^list",
        expect!["error: template `^list`: column 9: expected `&&`, `||` or the end, found `,`"],
    );
    expand("ip4.src == {^ips}", expect!["error: template `^ips`: column 1: expected a constant, found `{`"]);
    expand(
        "ip4.src == ^again",
        expect!["error: template `^again`: column 1: expected a constant, found another template"],
    );
    expand(
        "ip4.src == ^bad",
        expect!["error: template `^bad`: column 10: expected `&&`, `||` or the end, found `&&`"],
    );
    expand(
        "ip4.src == ^mac",
        expect!["error: template `^mac`: column 1: expected no more bits than the 32 of `ip4.src`, found 48"],
    );
    expand(
        "ip4.src == ^port",
        expect![[
            r#"error: template `^port`: column 1: expected an integer constant for `ip4.src`, found "lp""#
        ]],
    );
    expand("ip4 && ip4.src == ^unknown", expect!["error: template `^unknown` has no value here"]);
    expand(
        "is_chassis_resident(^again)",
        expect!["error: template `^again`: column 1: expected a constant, found another template"],
    );
    expand(
        "is_chassis_resident(^ip)",
        expect!["error: template `^ip`: column 1: expected a string, found `10.0.0.1`"],
    );
    expand(
        "ip4 == ^ip",
        expect!["error: template `^ip`: column 1: expected no more bits than the 1 of `ip4`, found 32"],
    );
}
