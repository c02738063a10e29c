//! Against what Open vSwitch 3.1.0 printed.

use std::{cell::RefCell, future::ready};

use expect_test::{Expect, expect};
use quantumnet_model::{Row, nb::Acl, row::DynRow};
use std::sync::Arc;
use uuid::Uuid;

use super::*;
use crate::trace::text::passes;

fn check(text: &str, expected: Expect) {
    let mut lines = String::new();
    for pass in passes(text) {
        lines += &format!("{:?} {} -> {}\n", pass.recirculation, pass.flow.len(), pass.actions);
        for step in &pass.steps {
            let matched = match &step.matched {
                Some(matched) => format!("{} {} {:#x}", matched.matches, matched.priority, matched.cookie),
                None => "miss".to_owned(),
            };
            lines += &format!("  {} {} [{matched}] {}\n", step.bridge, step.table, step.actions.join(" | "));
        }
        let (connections, otherwise) = (pass.conntrack(), pass.is_resumed_otherwise());
        lines += &format!("  connections {connections:?}, otherwise {otherwise}, fails {:?}\n", pass.failure);
    }
    expected.assert_eq(&lines);
}

#[test]
fn lookups_and_connections() {
    check(
        include_str!("recorded/filtered.txt"),
        expect![[r#"
            None 187 -> ct(zone=5),recirc(0xc)
              br 0 [in_port=1,vlan_tci=0x0000/0x1fff 100 0x1000000aa] load:0x8->OXM_OF_METADATA[] | load:0x4->NXM_NX_REG14[] | resubmit(,4)
              br 4 [ip,reg14=0x4,metadata=0x8 100 0x2d000000bb] load:0->NXM_NX_REG0[] | load:0x5->NXM_NX_REG13[0..15] | ct(table=5,zone=NXM_NX_REG13[0..15]) | drop | -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 5. | -> Sets the packet to an untracked state, and clears all the conntrack fields.
              connections [("ct(zone=5)", Some(12))], otherwise false, fails None
            Some(12) 265 -> ct(commit,zone=5,mark=0/0x1),ct(zone=6),recirc(0xd)
              br 5 [tcp,metadata=0x8,tp_dst=80 2000 0x2c000000cc] load:0x1->NXM_NX_REG0[0..2] | resubmit(,6)
              br 6 [ct_state=+new-est+trk,ip,reg0=0x1/0x7 210 0x0] ct(commit,zone=NXM_NX_REG13[0..15],exec(load:0->NXM_NX_CT_MARK[0])) | load:0->NXM_NX_CT_MARK[0] | -> Sets the packet to an untracked state, and clears all the conntrack fields. | resubmit(,40)
              br 40 [ip 100 0x0] load:0->NXM_NX_REG0[] | load:0x6->NXM_NX_REG13[0..15] | ct(table=41,zone=NXM_NX_REG13[0..15]) | drop | -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 41. | -> Sets the packet to an untracked state, and clears all the conntrack fields.
              connections [("ct(commit,zone=5,mark=0/0x1)", None), ("ct(zone=6)", Some(13))], otherwise false, fails None
            Some(13) 265 -> 4,userspace(pid=0,controller(reason=1,dont_send=1,continuation=0,recirc_id=14,rule_cookie=0,controller_id=0,max_len=65535)),3
              br 41 [ct_state=+trk 10 0x0] clone(load:0x3->NXM_NX_REG15[],output:3) | load:0x3->NXM_NX_REG15[] | output:3 | load:0x2->NXM_NX_REG15[] | controller(userdata=01.04.00.00.01.02.03.04.05.06.07.08.09.0a.0b.0c.0d.0e.0f.10) | resubmit(,45)
              br 45 [reg15=0x2 10 0x99] output:2
              connections [], otherwise false, fails None
        "#]],
    );
}

#[test]
fn other_bridges_are_told_apart() {
    check(
        include_str!("recorded/bridges.txt"),
        expect![[r#"
            None 202 -> 6,5,3,4,3,7,4,3
              br 54 [ip 3 0x0] output:9 | output:2 | clone(load:0x1->NXM_NX_REG1[],resubmit(,55)) | load:0x1->NXM_NX_REG1[] | resubmit(,55) | output:12 | resubmit(,55)
              brx 0 [ 0 0x0] NORMAL | -> no learned MAC for destination, flooding
              br 55 [ip 3 0x0] output:3 | group:4 | -> using bucket 1 | bucket 1 | load:0x4->NXM_NX_REG2[] | resubmit(,56)
              br 56 [ip 3 0x0] output:2
              br 55 [ip 3 0x0] output:3 | group:4 | -> using bucket 1 | bucket 1 | load:0x4->NXM_NX_REG2[] | resubmit(,56)
              br 56 [ip 3 0x0] output:2
              connections [], otherwise false, fails None
        "#]],
    );
}

#[test]
fn what_matches_nothing() {
    check(
        include_str!("recorded/miss.txt"),
        expect![[r#"
            None 187 -> drop
              br 0 [miss] drop
              connections [], otherwise false, fails None
        "#]],
    );
}

#[test]
fn garbage_is_nothing() {
    for text in
        ["", "Flow: ", "Flow: x\n 0. \n", "bridge(\"\n99999. x", "Flow: é\n  é. é, priority é, cookie 0x"]
    {
        passes(text);
    }
    assert!(passes("unknown bridge").is_empty());
}

fn job() -> Job {
    let mut rows = Rows::default();
    let acl: Arc<dyn DynRow> = Arc::new(Acl::default());
    rows.set(Acl::TABLE, Uuid::from_u128(0xcc << 96 | 7), Some(acl));
    let ports = [
        (1, Place::Interface("one".into())),
        (2, Place::Interface("two".into())),
        (9, Place::Physical("outside".into())),
        (12, Place::Tunnel("hv2".into())),
    ];
    Job {
        bridge: "br".into(),
        datapath: "dummy@ovs-dummy".into(),
        flow: "in_port=1".into(),
        ports: ports.into(),
        option: 0,
        tracked: Vec::new(),
        rows,
    }
}

/// Runs a job with a switch that says these things in turn, and returns what it was asked.
fn answered(job: &Job, said: &[&str]) -> (TraceAnswer, Vec<String>) {
    let asked = RefCell::new(Vec::new());
    let call = |command: &'static str, arguments: Vec<String>| {
        let mut asked = asked.borrow_mut();
        let text = said.get(asked.len()).copied().unwrap_or_default();
        asked.push(format!("{command} {}", arguments.join(" ")));
        ready(Ok(text.to_owned()))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answer = runtime.block_on(run(job, call)).unwrap();
    (answer, asked.into_inner())
}

const SECOND: &str = "\
Flow: ct_state=est|trk,tcp,in_port=1

bridge(\"br\")
------------
    resubmit(,5)
 5. tcp,metadata=0x8,tp_dst=80, priority 2000, cookie 0x2c000000cc
    output:2

Final flow: unchanged
Datapath actions: 3
";

#[test]
fn a_packet_goes_on_with_what_its_connection_says() {
    let zone = "tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=40000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=40000),zone=5,mark=1,labels=0x500000000,protoinfo=(state=ESTABLISHED)\n\
                tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=40001,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=40001),zone=5,protoinfo=(state=ESTABLISHED)\n";
    let said = [include_str!("recorded/filtered.txt"), zone, SECOND];
    let (answer, asked) = answered(&job(), &said);
    expect![[r#"
        ofproto/trace br in_port=1
        dpctl/dump-conntrack dummy@ovs-dummy zone=5
        ofproto/trace-packet-out br ct_state=est|trk,ct_zone=5,tcp,reg13=0x5,reg14=0x4,metadata=0x8,in_port=1,vlan_tci=0x0000,dl_src=0a:00:00:00:00:01,dl_dst=0a:00:00:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=no,tp_src=40000,tp_dst=80,tcp_flags=syn,ct_mark=0x1,ct_label=0x500000000,dp_hash=0x1 resubmit(,5)"#]]
    .assert_eq(&asked.join("\n"));
    let connection = answer.passes[1].connection.clone().unwrap();
    assert_eq!(
        connection,
        TraceConnection {
            zone: 5,
            state: "est|trk".into(),
            known: true,
            mark: 1,
            translated: false,
            alike: 2
        }
    );
    let step = &answer.passes[1].steps[0];
    assert_eq!((step.stage.as_str(), step.row_table.as_str()), ("acl", "ACL"));
    assert_eq!(step.row, Uuid::from_u128(0xcc << 96 | 7).to_string());
    assert_eq!(step.table_name, "FromPolicy");
    let to: Vec<_> = answer.exits.iter().map(|exit| exit.to.clone().unwrap()).collect();
    assert_eq!(to, [To::Interface("two".into())]);
}

#[test]
fn unknown_connections_begin_or_answer_the_one_that_is_traced() {
    let said = [include_str!("recorded/filtered.txt"), "", SECOND];
    let state = |job: &Job| {
        let (answer, _) = answered(job, &said);
        answer.passes[1].connection.clone().unwrap()
    };
    let new = state(&job());
    assert_eq!((new.state.as_str(), new.known), ("new|trk", false));
    let request = TracePacket {
        ip_src: "10.0.0.2".into(),
        ip_dst: "10.0.0.1".into(),
        protocol: 6,
        src: 80,
        dst: 40_000,
        ..TracePacket::default()
    };
    let before = TracePacket { src: 8080, ..request.clone() };
    let tracked = |zone| TraceTracked { zone, before: Some(before.clone()), after: Some(request.clone()) };
    let answer = state(&Job { tracked: vec![tracked(5)], ..job() });
    assert_eq!((answer.state.as_str(), answer.known), ("est|rpl|trk", false));
    assert!(!answer.translated, "the lookup translates nothing");
    let elsewhere = state(&Job { tracked: vec![tracked(6)], ..job() });
    assert_eq!(elsewhere.state, "new|trk");
}

#[test]
fn new_translations_are_followed() {
    let said = [include_str!("recorded/translated.txt"), "", SECOND];
    let (answer, asked) = answered(&job(), &said);
    assert!(asked[2].contains("nw_src=9.9.9.9") && asked[2].ends_with("resubmit(,50)"), "{asked:?}");
    assert!(answer.passes[1].connection.as_ref().unwrap().translated);
    let [made] = &answer.tracked[..] else { panic!("{:?}", answer.tracked) };
    let ip = |packet: &Option<TracePacket>| packet.clone().unwrap().ip_src;
    assert_eq!((made.zone, ip(&made.before).as_str(), ip(&made.after).as_str()), (7, "10.0.0.1", "9.9.9.9"));
}

#[test]
fn translations_that_tables_do_not_see_are_followed() {
    let trace = |actions: &str| {
        format!(
            "Flow: tcp,in_port=1,nw_src=10.0.2.11,nw_dst=203.0.113.11,nw_ttl=64,tp_src=1000,tp_dst=80\n\nbridge(\"br\")\n\
             ------------\n 0. priority 0\n    output:2\n\nFinal flow: unchanged\nDatapath actions: {actions}\n"
        )
    };
    let ends =
        |packet: &TracePacket| format!("{}:{} {}:{}", packet.ip_src, packet.src, packet.ip_dst, packet.dst);
    let known = "tcp,orig=(src=10.0.2.11,dst=203.0.113.11,sport=1000,dport=80),reply=(src=10.0.1.11,dst=203.0.113.10,sport=8080,dport=1024),zone=2,protoinfo=(state=ESTABLISHED)";
    for (actions, zone, expected) in [
        ("ct(commit,zone=2,nat(src=203.0.113.10)),3", "", "203.0.113.10:1000 203.0.113.11:80"),
        (
            "ct(commit,zone=2,nat(src=203.0.113.10-203.0.113.12:1-9)),3",
            "",
            "203.0.113.10:1000 203.0.113.11:80",
        ),
        ("ct(commit,zone=2,nat(dst=10.0.1.11:8080)),3", "", "10.0.2.11:1000 10.0.1.11:8080"),
        ("ct(commit,zone=2,nat(src=203.0.113.10)),3", known, "203.0.113.10:1024 10.0.1.11:8080"),
        ("ct(commit,zone=2),3", known, "10.0.2.11:1000 203.0.113.11:80"),
    ] {
        let (answer, _) = answered(&job(), &[&trace(actions), zone]);
        assert_eq!(ends(answer.exits[0].packet.as_ref().unwrap()), expected, "{actions}");
        let made = answer
            .tracked
            .first()
            .map(|made| (ends(made.before.as_ref().unwrap()), ends(made.after.as_ref().unwrap())));
        if zone.is_empty() {
            assert_eq!(
                made,
                Some(("10.0.2.11:1000 203.0.113.11:80".to_owned(), expected.to_owned())),
                "{actions}"
            );
        }
    }
    // What it changed is what the next lookup finds.
    let later = trace("drop").replace("Flow: tcp", "Flow: recirc_id=0x5,ct_state=new|trk,ct_zone=1,eth,tcp");
    let first = trace("ct(commit,zone=2,nat(src=203.0.113.10)),ct(commit,zone=1,nat(dst=10.0.1.11)),recirc(0x5)")
        .replace("    output:2\n", "     -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 23.\n");
    let later = format!(
        "recirc(0x5) - resume conntrack with default ct_state=trk|new (use --ct-next to customize)\n Initial flow: \
         nw_src=10.0.2.11,tp_src=1000,nw_dst=203.0.113.11,tp_dst=80\n{}",
        later.replace("nw_dst=203.0.113.11", "nw_dst=10.0.1.11")
    );
    let (answer, asked) = answered(&job(), &[&format!("{first}{later}"), "", "", &trace("3")]);
    let last = asked.last().unwrap();
    assert!(
        last.contains("nw_src=203.0.113.10,nw_dst=10.0.1.11") && last.ends_with("resubmit(,23)"),
        "{asked:?}"
    );
    let made: Vec<String> = answer.tracked.iter().map(|made| ends(made.after.as_ref().unwrap())).collect();
    assert_eq!(made, ["203.0.113.10:1000 203.0.113.11:80", "203.0.113.10:1000 10.0.1.11:80"]);
}

#[test]
fn ways_out() {
    let exits = |text: &str| {
        let (answer, _) = answered(&job(), &[text]);
        answer.exits.into_iter().map(|exit| exit.to.unwrap()).collect::<Vec<_>>()
    };
    let keys = TraceTunnel { chassis: "hv2".into(), datapath_key: 7, in_port_key: 3, out_port_key: 5 };
    assert_eq!(exits(include_str!("recorded/tunnel.txt")), [To::Tunnel(keys)]);
    let all = exits(include_str!("recorded/bridges.txt"));
    assert!(all.contains(&To::Physical("outside".into())), "{all:?}");
    assert!(all.contains(&To::Interface("two".into())), "{all:?}");
    assert!(exits(include_str!("recorded/miss.txt")).is_empty());
    assert_eq!(
        reason("userdata=01.04.00.00.01.02.03.04.05.06.07.08.09.0a.0b.0c.0d.0e.0f.10)"),
        "RejectedFrom"
    );
}

#[test]
fn packets_are_written_and_read() {
    for (protocol, ips, expected) in [
        (
            6,
            ("10.0.0.1", "10.0.0.2"),
            "tcp,dl_src=0a:00:00:00:00:01,dl_dst=0a:00:00:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_ttl=64,tp_src=8,tp_dst=0,tcp_flags=syn",
        ),
        (
            17,
            ("10.0.0.1", "10.0.0.2"),
            "udp,dl_src=0a:00:00:00:00:01,dl_dst=0a:00:00:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_ttl=64,udp_src=8,udp_dst=0",
        ),
        (
            132,
            ("fd00::1", "fd00::2"),
            "sctp6,dl_src=0a:00:00:00:00:01,dl_dst=0a:00:00:00:00:02,ipv6_src=fd00::1,ipv6_dst=fd00::2,nw_ttl=64,sctp_src=8,sctp_dst=0",
        ),
        (
            58,
            ("fd00::1", "fd00::2"),
            "icmp6,dl_src=0a:00:00:00:00:01,dl_dst=0a:00:00:00:00:02,ipv6_src=fd00::1,ipv6_dst=fd00::2,nw_ttl=64,icmpv6_type=8,icmpv6_code=0",
        ),
        (
            47,
            ("fd00::1", "fd00::2"),
            "ipv6,nw_proto=47,dl_src=0a:00:00:00:00:01,dl_dst=0a:00:00:00:00:02,ipv6_src=fd00::1,ipv6_dst=fd00::2,nw_ttl=64",
        ),
    ] {
        let packet = TracePacket {
            eth_src: "0a:00:00:00:00:01".into(),
            eth_dst: "0a:00:00:00:00:02".into(),
            ip_src: ips.0.into(),
            ip_dst: ips.1.into(),
            protocol,
            src: if protocol == 47 { 0 } else { 8 },
            dst: 0,
            ttl: 64,
            syn: protocol == 6,
            vlan: 0,
        };
        let text = flow::text(&packet).unwrap();
        assert_eq!(text, expected);
        assert_eq!(flow::packet(&Flow::parse(&text)), Some(packet.clone()));
        assert_eq!(packet.answer().answer().ip_src, packet.ip_src);
        for wrong in [
            TracePacket { ip_src: "x".into(), ..packet.clone() },
            TracePacket { eth_src: "x,tp_dst=1".into(), ..packet.clone() },
            TracePacket {
                ip_src: if ips.0.contains(':') { "10.0.0.1" } else { "fd00::1" }.into(),
                ..packet.clone()
            },
            TracePacket { protocol: 0, ..packet.clone() },
        ] {
            assert!(flow::text(&wrong).is_err(), "{wrong:?}");
        }
    }
    let printed = "recirc_id=0x1,ct_state=new|trk,ct_nw_src=1.1.1.1,eth,icmp6,tun_src=9.9.9.9,tun_id=0x7,in_port=ANY,icmp_type=128,icmp_code=0";
    let readable = Flow::parse(printed).readable().to_string();
    assert_eq!(readable, "ct_state=new|trk,icmp6,tun_id=0x7,in_port=0,icmpv6_type=128,icmpv6_code=0");
}
