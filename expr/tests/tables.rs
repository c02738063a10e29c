//! Normal forms, as they read.

use expect_test::{Expect, expect};
use quantumnet_expr::{Constant, Expr, Term};

#[track_caller]
fn normal(text: &str, expected: Expect) {
    let clauses = Expr::parse(text).expect("an expression").normalize().expect("not too complex");
    expected.assert_eq(&clauses.iter().map(|clause| format!("{clause}\n")).collect::<String>());
}

#[test]
fn constants() {
    normal(
        "1",
        expect![[r#"
        1
    "#]],
    );
    normal("0", expect![""]);
    normal(
        "!(1 && (0 || 0))",
        expect![[r#"
        1
    "#]],
    );
}

#[test]
fn prerequisites() {
    normal(
        "tcp.dst == 80",
        expect![[r#"
        eth.type=0x800 && ip.proto=0x6 && tcp.dst=0x50
        eth.type=0x86dd && ip.proto=0x6 && tcp.dst=0x50
    "#]],
    );
    normal(
        "ip4 && tcp.dst == 80",
        expect![[r#"
        eth.type=0x800 && ip.proto=0x6 && tcp.dst=0x50
    "#]],
    );
    normal(
        "!(tcp.dst == 80) && ip6",
        expect![[r#"
        eth.type=0x86dd && ip.proto=0x6 && (tcp.dst=0x0/0xffc0 | tcp.dst=0x40/0xfff0 | tcp.dst=0x51 | tcp.dst=0x52/0xfffe | tcp.dst=0x54/0xfffc | tcp.dst=0x58/0xfff8 | tcp.dst=0x60/0xffe0 | tcp.dst=0x80/0xff80 | tcp.dst=0x100/0xff00 | tcp.dst=0x200/0xfe00 | tcp.dst=0x400/0xfc00 | tcp.dst=0x800/0xf800 | tcp.dst=0x1000/0xf000 | tcp.dst=0x2000/0xe000 | tcp.dst=0x4000/0xc000 | tcp.dst=0x8000/0x8000)
    "#]],
    );
    normal(
        "nd.target == fe80::1",
        expect![[r#"
        eth.type=0x86dd && ip.proto=0x3a && ip.ttl=0xff && icmp6.type=0x87 && icmp6.code=0x0 && nd.target=0xfe800000000000000000000000000001
        eth.type=0x86dd && ip.proto=0x3a && ip.ttl=0xff && icmp6.type=0x88 && icmp6.code=0x0 && nd.target=0xfe800000000000000000000000000001
    "#]],
    );
    normal(
        "vlan.vid == 10 && vlan.pcp == 3",
        expect![[r#"
        vlan.tci=0x700a
    "#]],
    );
    normal(
        "!ct.new",
        expect![[r#"
        ct_state=0x20/0x21
    "#]],
    );
    normal(
        "rarp.op == 3",
        expect![[r#"
        eth.type=0x8035 && arp.op=0x3
    "#]],
    );
    normal(
        "igmp",
        expect![[r#"
        eth.type=0x800 && eth.dst=0x10000000000/0x10000000000 && ip.proto=0x2 && ip4.dst=0xe0000000/0xf0000000
    "#]],
    );
}

#[test]
fn contradictions() {
    normal("ip4 && ip6", expect![""]);
    normal("tcp && udp", expect![""]);
    normal("ip4.src == 10.0.0.1 && ip4.src == 10.0.0.2", expect![""]);
    normal(
        "tcp.dst == {80, 443} && tcp.dst == {443, 8080} && ip4",
        expect![[r#"
        eth.type=0x800 && ip.proto=0x6 && tcp.dst=0x1bb
    "#]],
    );
    normal("100 < tcp.dst < 1", expect![""]);
    normal(r#"inport == "a" && inport == "b""#, expect![""]);
    normal(
        r#"inport == {"a", "b"} && inport == {"b", "c"}"#,
        expect![[r#"
        inport="b"
    "#]],
    );
    normal("ip4.src == $a && ip4.src != $a", expect![""]);
    normal(r#"is_chassis_resident("p") && !is_chassis_resident("p")"#, expect![""]);
}

#[test]
fn inequalities() {
    normal(
        "ip4 && 1000 <= tcp.dst < 2000",
        expect![[r#"
        eth.type=0x800 && ip.proto=0x6 && (tcp.dst=0x3e8/0xfff8 | tcp.dst=0x3f0/0xfff0 | tcp.dst=0x400/0xfe00 | tcp.dst=0x600/0xff00 | tcp.dst=0x700/0xff80 | tcp.dst=0x780/0xffc0 | tcp.dst=0x7c0/0xfff0)
    "#]],
    );
    normal(
        "ip4 && tcp.dst > 0",
        expect![[r#"
        eth.type=0x800 && ip.proto=0x6 && (tcp.dst=0x1 | tcp.dst=0x2/0xfffe | tcp.dst=0x4/0xfffc | tcp.dst=0x8/0xfff8 | tcp.dst=0x10/0xfff0 | tcp.dst=0x20/0xffe0 | tcp.dst=0x40/0xffc0 | tcp.dst=0x80/0xff80 | tcp.dst=0x100/0xff00 | tcp.dst=0x200/0xfe00 | tcp.dst=0x400/0xfc00 | tcp.dst=0x800/0xf800 | tcp.dst=0x1000/0xf000 | tcp.dst=0x2000/0xe000 | tcp.dst=0x4000/0xc000 | tcp.dst=0x8000/0x8000)
    "#]],
    );
    normal(
        "ip4 && tcp.dst >= 0",
        expect![[r#"
        eth.type=0x800 && ip.proto=0x6
    "#]],
    );
    normal(
        "reg0[0..2] != 5",
        expect![[r#"
        (xxreg0=0x0/0x4000000000000000000000000 | xxreg0=0x4000000000000000000000000/0x7000000000000000000000000 | xxreg0=0x6000000000000000000000000/0x6000000000000000000000000)
    "#]],
    );
    normal(
        "ip4.src != 10.0.0.1/255.0.0.255",
        expect![[r#"
        eth.type=0x800 && (ip4.src=0x0/0xf8000000 | ip4.src=0x8000000/0xfe000000 | ip4.src=0xa000000/0xff0000ff | ip4.src=0xa000002/0xff0000fe | ip4.src=0xa000004/0xff0000fc | ip4.src=0xa000008/0xff0000f8 | ip4.src=0xa000010/0xff0000f0 | ip4.src=0xa000020/0xff0000e0 | ip4.src=0xa000040/0xff0000c0 | ip4.src=0xa000080/0xff000080 | ip4.src=0xb000000/0xff000000 | ip4.src=0xc000000/0xfc000000 | ip4.src=0x10000000/0xf0000000 | ip4.src=0x20000000/0xe0000000 | ip4.src=0x40000000/0xc0000000 | ip4.src=0x80000000/0x80000000)
    "#]],
    );
    normal(
        "ip4.src != {10.0.0.0/8, 128.0.0.0/1}",
        expect![[r#"
        eth.type=0x800 && (ip4.src=0x0/0xf8000000 | ip4.src=0x8000000/0xfe000000 | ip4.src=0xb000000/0xff000000 | ip4.src=0xc000000/0xfc000000 | ip4.src=0x10000000/0xf0000000 | ip4.src=0x20000000/0xe0000000 | ip4.src=0x40000000/0xc0000000)
    "#]],
    );
    normal(
        "!ip4.mcast",
        expect![[r#"
        (eth.type=0x0/0xf800 | eth.type=0x801 | eth.type=0x802/0xfffe | eth.type=0x804/0xfffc | eth.type=0x808/0xfff8 | eth.type=0x810/0xfff0 | eth.type=0x820/0xffe0 | eth.type=0x840/0xffc0 | eth.type=0x880/0xff80 | eth.type=0x900/0xff00 | eth.type=0xa00/0xfe00 | eth.type=0xc00/0xfc00 | eth.type=0x1000/0xf000 | eth.type=0x2000/0xe000 | eth.type=0x4000/0xc000 | eth.type=0x8000/0x8000)
        eth.type=0x800 && (ip4.dst=0x0/0x80000000 | ip4.dst=0x80000000/0xc0000000 | ip4.dst=0xc0000000/0xe0000000 | ip4.dst=0xf0000000/0xf0000000)
        eth.dst=0x0/0x10000000000
    "#]],
    );
}

#[test]
fn dimensions() {
    normal(
        "ip4.src == {10.0.0.1, 10.0.0.2} && ip4.dst == $web && tcp && tcp.dst == {80, 443}",
        expect![[r#"
        eth.type=0x800 && ip.proto=0x6 && (ip4.src=0xa000001 | ip4.src=0xa000002) && ip4.dst=$web && (tcp.dst=0x50 | tcp.dst=0x1bb)
    "#]],
    );
    normal(
        "ip4 && (tcp.dst == 80 || tcp.dst == 443)",
        expect![[r#"
        eth.type=0x800 && ip.proto=0x6 && (tcp.dst=0x50 | tcp.dst=0x1bb)
    "#]],
    );
    normal(
        "ip4 && (tcp.dst == 80 || udp.dst == 53)",
        expect![[r#"
        eth.type=0x800 && ip.proto=0x6 && tcp.dst=0x50
        eth.type=0x800 && ip.proto=0x11 && udp.dst=0x35
    "#]],
    );
    normal(
        "ip4.src == {10.0.0.0/9, 10.128.0.0/9, 10.0.0.1}",
        expect![[r#"
        eth.type=0x800 && ip4.src=0xa000000/0xff000000
    "#]],
    );
    normal(
        "ip4.src == 10.0.0.0/8 && ip4.src == $a",
        expect![[r#"
        eth.type=0x800 && ip4.src=$a && ip4.src=0xa000000/0xff000000
    "#]],
    );
    normal(
        "ip4.src != {$a, $b, 10.0.0.1}",
        expect![[r#"
        eth.type=0x800 && ip4.src!=$a && ip4.src!=$b && (ip4.src=0x0/0xf8000000 | ip4.src=0x8000000/0xfe000000 | ip4.src=0xa000000 | ip4.src=0xa000002/0xfffffffe | ip4.src=0xa000004/0xfffffffc | ip4.src=0xa000008/0xfffffff8 | ip4.src=0xa000010/0xfffffff0 | ip4.src=0xa000020/0xffffffe0 | ip4.src=0xa000040/0xffffffc0 | ip4.src=0xa000080/0xffffff80 | ip4.src=0xa000100/0xffffff00 | ip4.src=0xa000200/0xfffffe00 | ip4.src=0xa000400/0xfffffc00 | ip4.src=0xa000800/0xfffff800 | ip4.src=0xa001000/0xfffff000 | ip4.src=0xa002000/0xffffe000 | ip4.src=0xa004000/0xffffc000 | ip4.src=0xa008000/0xffff8000 | ip4.src=0xa010000/0xffff0000 | ip4.src=0xa020000/0xfffe0000 | ip4.src=0xa040000/0xfffc0000 | ip4.src=0xa080000/0xfff80000 | ip4.src=0xa100000/0xfff00000 | ip4.src=0xa200000/0xffe00000 | ip4.src=0xa400000/0xffc00000 | ip4.src=0xa800000/0xff800000 | ip4.src=0xb000000/0xff000000 | ip4.src=0xc000000/0xfc000000 | ip4.src=0x10000000/0xf0000000 | ip4.src=0x20000000/0xe0000000 | ip4.src=0x40000000/0xc0000000 | ip4.src=0x80000000/0x80000000)
    "#]],
    );
    normal(
        "ip4.src == $a || ip4.src == $b",
        expect![[r#"
        eth.type=0x800 && (ip4.src=$a | ip4.src=$b)
    "#]],
    );
    normal(
        "ip4.src == $a || ip4.dst == $a",
        expect![[r#"
        eth.type=0x800 && ip4.src=$a
        eth.type=0x800 && ip4.dst=$a
    "#]],
    );
    normal(
        "ip4.src == {0.0.0.0/1, $a} && ip4.src == 10.0.0.0/8",
        expect![[r#"
        eth.type=0x800 && ip4.src=0xa000000/0xff000000
    "#]],
    );
    normal(
        "reg0[0..7] == $a",
        expect![[r#"
        xxreg0[96..103]=$a
    "#]],
    );
    normal(
        r#"inport == {@pg, "x"} && outport == @pg"#,
        expect![[r#"
        (inport=@pg | inport="x") && outport=@pg
    "#]],
    );
    normal(
        r#"outport == "lp" && ip6 && is_chassis_resident("cr-lrp")"#,
        expect![[r#"
        outport="lp" && eth.type=0x86dd && resident("cr-lrp")
    "#]],
    );
    normal(
        "ct.est || ct.new",
        expect![[r#"
        (ct_state=0x21/0x21 | ct_state=0x22/0x22)
    "#]],
    );
    normal(
        "ip.proto == 6/254 && ip4",
        expect![[r#"
        eth.type=0x800 && ip.proto=0x6
        eth.type=0x800 && ip.proto=0x7
    "#]],
    );
    normal(
        "arp.op == 0/1 && arp.tpa == {10.0.0.1, 10.0.0.2}",
        expect![[r#"
        eth.type=0x806 && arp.op=0x0/0x1 && (arp.tpa=0xa000001 | arp.tpa=0xa000002)
    "#]],
    );
    normal(
        "!ip.is_frag && tcp.dst == 80",
        expect![[r#"
        eth.type=0x800 && ip.proto=0x6 && ip.frag=0x0/0x1 && tcp.dst=0x50
        eth.type=0x86dd && ip.proto=0x6 && ip.frag=0x0/0x1 && tcp.dst=0x50
    "#]],
    );
    normal(
        "ip6.dst == {ff02::/16, ::1} && eth.src == 00:00:5e:00:53:01",
        expect![[r#"
        eth.type=0x86dd && eth.src=0x5e005301 && (ip6.dst=0x1 | ip6.dst=0xff020000000000000000000000000000/0xffff0000000000000000000000000000)
    "#]],
    );
    normal(
        "arp || (arp && arp.op == 1)",
        expect![[r#"
        eth.type=0x806
    "#]],
    );
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
    resolve(
        "ip4.src == $a",
        &members,
        expect![[r#"
        ip4.src=0xa000000/0xfe000000
    "#]],
    );
    resolve(
        "ip4.src != $a",
        &members,
        expect![[r#"
        ip4.src=0x0/0xf8000000
        ip4.src=0x8000000/0xfe000000
        ip4.src=0xc000000/0xfc000000
        ip4.src=0x10000000/0xf0000000
        ip4.src=0x20000000/0xe0000000
        ip4.src=0x40000000/0xc0000000
        ip4.src=0x80000000/0x80000000
    "#]],
    );
    resolve(
        "ip6.src == $a",
        &members,
        expect![[r#"
        ip6.src=0x1
    "#]],
    );
    resolve("eth.src == $a", &members, expect![""]);
    resolve(
        "eth.src != $a",
        &[],
        expect![[r#"
        eth.src=0x0/0x0
    "#]],
    );
    resolve(
        "ip4.src[24..31] == $a",
        &["10.0.0.5".parse().unwrap()],
        expect![[r#"
        ip4.src=0x5000000/0xff000000
    "#]],
    );
}
