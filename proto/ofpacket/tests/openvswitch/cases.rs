//! One flow for every match field and action that Open vSwitch 3.1 takes over OpenFlow 1.3.

use std::net::{Ipv4Addr, Ipv6Addr};

use ofpacket::*;

fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("an IPv4 address")
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an IPv6 address")
}

/// Matches, each in a flow of its own.
pub(crate) fn matches() -> Vec<Match> {
    use field::*;
    let any = Match::new;
    let mac = [2, 0, 0, 0, 0, 0x5a];
    let mask = [0xff, 0xff, 0xff, 0, 0, 0];
    let tracked = || any().ipv4().ct_state(CtState::TRK, CtState::INV);
    let mut all = vec![
        any(),
        any().in_port(Port(7)),
        any().in_port(Port::LOCAL),
        any().in_port(Port::CONTROLLER),
        any().with(CONJ_ID, 12),
        any().with(ACTSET_OUTPUT, 3),
        any().with(PKT_MARK, 0x1234),
        any().with_masked(PKT_MARK, 0x10, 0xf0),
        any().with(ETH_SRC, mac).with_masked(ETH_DST, mac, mask),
        any().with_masked(ETH_DST, [1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]),
        any().eth_type(0x88cc),
        any().vlan(100),
        any().vlan(0).with(VLAN_PCP, 3),
        any().vlan(100).with(VLAN_PCP, 0),
        any().tagged(),
        any().untagged(),
        any().with_masked(VLAN_VID, 0x1005, 0x100f),
        any().tagged().with(VLAN_PCP, 5),
        any().with_masked(NXM_VLAN_TCI, 0, 0x1000),
        any().eth_type(0x8847).with(MPLS_LABEL, 1000).with(MPLS_TC, 3).with(MPLS_BOS, 1).with(MPLS_TTL, 64),
        any().eth_type(0x8848).with(MPLS_LABEL, 0),
        any().ipv4(),
        any().ipv4().with(IPV4_SRC, v4("10.0.0.1")).with_prefix(IPV4_DST, v4("10.1.0.0"), 16),
        any().ipv4().with_masked(IPV4_SRC, v4("10.0.0.1"), v4("255.0.0.255")),
        any().ipv4().with(IP_DSCP, 10).with(IP_ECN, 2).with(IP_TTL, 64),
        any().ipv4().ip_proto(47),
        any().ipv4().ip_proto(2),
        any().ipv6().ip_proto(89),
        any().ipv4().with(IP_FRAG, 1),
        any().ipv4().with(IP_FRAG, 0),
        any().ipv4().with(IP_FRAG, 3),
        any().ipv4().with_masked(IP_FRAG, 1, 1),
        any().ipv4().with_masked(IP_FRAG, 0, 2),
        any().ipv6().with(IPV6_SRC, v6("fe80::1")).with_prefix(IPV6_DST, v6("2001:db8::"), 32),
        any().ipv6().with_masked(IPV6_DST, v6("ff02::1:ff00:0"), v6("ffff:ffff:ffff:ffff:ffff:ffff:ff00:0")),
        any().ipv6().with(IPV6_LABEL, 0x12345),
        any().ipv6().with_masked(IPV6_LABEL, 0x5, 0xf),
        any().arp(),
        any().arp().with(ARP_OP, 1).with(ARP_SPA, v4("10.0.0.1")).with_prefix(ARP_TPA, v4("10.0.0.0"), 24),
        any().arp().with(ARP_SHA, mac).with_masked(ARP_THA, mac, mask),
        any().eth_type(0x8035).with(ARP_OP, 3),
        any().ipv4().ip_proto(6),
        any().ipv4().with(TCP_SRC, 80).with_masked(TCP_DST, 0x1000, 0xfff0).with_prerequisites(),
        any().ipv6().with(TCP_SRC, 80).with_prerequisites(),
        any().ipv4().with_masked(TCP_FLAGS, 2, 0x12).with_prerequisites(),
        any().ipv4().with(TCP_FLAGS, 0x12).with_prerequisites(),
        any().ipv4().with(UDP_SRC, 67).with(UDP_DST, 68).with_prerequisites(),
        any().ipv6().with(UDP_SRC, 546).with_masked(UDP_DST, 0x200, 0xff00).with_prerequisites(),
        any().ipv4().with(SCTP_SRC, 1).with(SCTP_DST, 2).with_prerequisites(),
        any().ipv6().with(SCTP_SRC, 1).with_prerequisites(),
        any().with(ICMPV4_TYPE, 8).with(ICMPV4_CODE, 0).with_prerequisites(),
        any().with(ICMPV6_TYPE, 133).with(ICMPV6_CODE, 0).with_prerequisites(),
        any().with(ND_SLL, mac).with(ND_TARGET, v6("fe80::2")).with_prerequisites(),
        any()
            .with_masked(ND_TLL, mac, mask)
            .with_prefix(ND_TARGET, v6("2001:db8::"), 64)
            .with_prerequisites(),
        any()
            .with(ICMPV6_TYPE, 136)
            .with(ND_RESERVED, 0x6000_0000u32)
            .with(ND_OPTIONS_TYPE, 2)
            .with_prerequisites(),
        any().with(TUNNEL_ID, 0x1234_5678_9abcu64),
        any().with_masked(TUNNEL_ID, 5, 0xff),
        any().with(TUN_SRC, v4("192.0.2.1")).with_prefix(TUN_DST, v4("192.0.2.0"), 24),
        any().with(TUN_IPV6_SRC, v6("2001:db8::1")).with_prefix(TUN_IPV6_DST, v6("2001:db8::"), 32),
        any().with_masked(TUN_FLAGS, 1, 1),
        any().with_masked(TUN_FLAGS, 0, 1),
        any().with(TUN_GBP_ID, 7),
        any().with_masked(TUN_GBP_ID, 7, 0xf),
        any().with(TUN_GBP_FLAGS, 8),
        any().with(Field::tun_metadata(0, 4), 0x0001_8002u32),
        any().with_masked(Field::tun_metadata(0, 4), 0x0001_0000u32, 0x7fff_0000u32),
        any().with(Field::tun_metadata(1, 8), 0x0102_0304_0506_0708u64),
        any().with_masked(Field::tun_metadata(0, 4), 0, 0),
        any().metadata(0xdead_beef),
        any().with_masked(METADATA, 3, 0xff),
        any().with(XREG0, 0x0000_0001_0000_0002u64),
        any().with_masked(XREG3, 0x1_0000_0000u64, 0xff_0000_0000u64),
        any().with(XXREG1, v6("2001:db8::1")),
        any().with_masked(XXREG0, 5, 0xff),
        any().ct_state(CtState::TRK | CtState::NEW, CtState::EST | CtState::INV),
        any().with(CT_STATE, CtState::TRK | CtState::EST | CtState::RPL),
        any().ct_state(CtState::NONE, CtState::TRK),
        any().ct_state(CtState::SNAT | CtState::DNAT | CtState::REL, CtState::NONE),
        any().with(CT_ZONE, 42),
        any().with(CT_MARK, 3),
        any().with_masked(CT_MARK, 1, 3),
        any().with(CT_LABEL, 5),
        any().with_masked(CT_LABEL, 1u128 << 96, 0xffu128 << 96),
        tracked()
            .with(CT_NW_SRC, v4("10.0.0.1"))
            .with_prefix(CT_NW_DST, v4("10.0.0.0"), 8)
            .with(CT_NW_PROTO, 6),
        tracked().with(CT_NW_PROTO, 17).with(CT_TP_SRC, 53).with_masked(CT_TP_DST, 0x400, 0xff00),
        any()
            .ipv6()
            .ct_state(CtState::TRK | CtState::EST, CtState::NONE)
            .with(CT_IPV6_SRC, v6("2001:db8::1"))
            .with_prefix(CT_IPV6_DST, v6("2001:db8::"), 32),
        any().eth_type(0x894f).with(NSH_SPI, 0x1234).with(NSH_SI, 255).with(NSH_MDTYPE, 1).with(NSH_C1, 0x11),
        any().eth_type(0x894f).with(NSH_FLAGS, 1).with(NSH_NP, 1).with(NSH_TTL, 3),
    ];
    all.extend((0..16).map(|n| any().reg(n, u32::from(n) * 0x1111)));
    all.extend((0..16).map(|n| any().reg_masked(n, 0x10, 0xf0)));
    all
}

fn nat_cases() -> Vec<(Match, Action)> {
    let ct = || Conntrack::new(ConntrackZone::Immediate(9)).commit();
    let one = |text: &str| NatRange::one(text.parse::<std::net::IpAddr>().expect("an address"));
    let nats = vec![
        Nat::restore(),
        Nat::source(NatRange::Any),
        Nat::destination(one("10.0.0.1")),
        Nat::source(one("10.0.0.1")).ports(1024, Some(65535)).with(NatFlags::RANDOM),
        Nat::source(NatRange::V4(v4("10.0.0.1"), Some(v4("10.0.0.9"))))
            .with(NatFlags::PERSISTENT | NatFlags::HASH),
        Nat::destination(one("10.0.0.1")).ports(80, None),
        Nat::destination(one("2001:db8::1")).ports(80, None),
        Nat::source(NatRange::V6(v6("2001:db8::1"), Some(v6("2001:db8::9")))),
        Nat::source(NatRange::V6(v6("2001:db8::1"), Some(v6("2001:db8::9")))).ports(1, Some(9)),
    ];
    let family = |nat: &Nat| match nat.addresses {
        NatRange::V6(..) => Match::new().ipv6(),
        _ => Match::new().ipv4(),
    };
    nats.into_iter().map(|nat| (family(&nat), ct().nat(nat).into())).collect()
}

/// Actions that work on any packet.
fn actions_for_any() -> Vec<Action> {
    use field::*;
    let mac = [2, 0, 0, 0, 0, 0x5a];
    let learn = || {
        Learn::new(20)
            .spec(LearnSpec::match_field(ETH_DST, ETH_SRC))
            .spec(LearnSpec::match_field(NXM_VLAN_TCI.range(0, 12), NXM_VLAN_TCI.range(0, 12)))
            .spec(LearnSpec::match_value(ETH_TYPE, 0x0800))
            .spec(LearnSpec::match_field(REG3, REG2))
            .spec(LearnSpec::match_value(REG1.range(0, 8), 0xab))
            .spec(LearnSpec::match_value(METADATA, 0x77))
            .spec(LearnSpec::match_value(XXREG0, 0x12_3456_789a_bcde_f012_3456_789au128))
            .spec(LearnSpec::load_value(REG0.range(0, 16), 0x1234))
            .spec(LearnSpec::load_value(XXREG1, 1))
            .spec(LearnSpec::load_field(REG1.range(16, 16), NXM_IN_PORT))
            .spec(LearnSpec::output(NXM_IN_PORT))
    };
    vec![
        Action::output(Port(1)),
        Action::output(Port::IN_PORT),
        Action::output(Port::LOCAL),
        Action::output(Port::NORMAL),
        Action::output(Port::FLOOD),
        Action::output(Port::ALL),
        Action::output(Port::CONTROLLER),
        Action::Output(Output { port: Port::CONTROLLER, max_len: 128 }),
        Action::group(1),
        Action::SetQueue(QueueId(3)),
        Action::PopQueue,
        Action::PushVlan(0x8100),
        Action::PushVlan(0x88a8),
        Action::PushMpls(0x8847),
        Action::resubmit(5),
        Action::Resubmit(Resubmit { in_port: Port(3), table: TableId(5) }),
        Action::Resubmit(Resubmit { in_port: Port(3), table: TableId::ALL }),
        Action::Resubmit(Resubmit { in_port: Port::LOCAL, table: TableId(7) }),
        Action::SetTunnel(7),
        Action::SetTunnel64(0x1_0000_0007),
        Action::SetTunnel64(3),
        Action::copy(REG0.range(0, 16), REG1.range(16, 16)),
        Action::copy(XXREG0, XXREG1),
        Action::copy(NXM_IN_PORT, REG14.range(0, 16)),
        Action::copy(ETH_SRC, ETH_DST),
        Action::copy(METADATA.range(0, 32), REG2),
        Action::load(REG0, 0x1234),
        Action::load(REG0.bit(3), 1),
        Action::load(REG0.range(4, 8), 0),
        Action::load(METADATA, u64::MAX),
        Action::load(NXM_IN_PORT, 0),
        Action::load(XXREG0.range(64, 64), 5),
        Action::load(XREG4.range(0, 48), 0x1234_5678),
        Action::load(PKT_MARK, 1),
        Action::load(ETH_SRC, 0x0200_0000_0001),
        Action::load(TUN_FLAGS.bit(0), 1),
        Action::set_field(REG5, 9),
        Action::set_field(XREG1, 9),
        Action::set_field(XXREG2, v6("2001:db8::1")),
        Action::set_masked(REG5, 0x50, 0xf0),
        Action::set_masked(XXREG2, 1u128 << 100, 0xffu128 << 100),
        Action::set_masked(METADATA, 0x50, 0xf0),
        Action::set_field(ETH_DST, mac),
        Action::set_masked(ETH_DST, [1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]),
        Action::set_field(METADATA, 0x1234),
        Action::set_field(TUNNEL_ID, 0x1234),
        Action::set_field(TUN_DST, v4("192.0.2.7")),
        Action::set_field(TUN_IPV6_DST, v6("2001:db8::7")),
        Action::set_field(PKT_MARK, 0),
        Action::set_field(Field::tun_metadata(0, 4), 0x0001_8002u32),
        Action::set_masked(Field::tun_metadata(0, 4), 0x0001_0000u32, 0x7fff_0000u32),
        Action::copy(REG14.range(0, 16), Field::tun_metadata(0, 4).range(16, 16)),
        Action::load(Field::tun_metadata(0, 4).range(0, 16), 7),
        Action::DeleteField(Field::tun_metadata(0, 4)),
        Action::push(REG0),
        Action::pop(REG0),
        Action::push(ETH_DST),
        Action::push(XXREG0.range(0, 32)),
        Action::pop(METADATA.range(8, 4)),
        Action::Note(Note::new(&[1, 2, 3])),
        Action::Note(Note::new(&[9; 20])),
        Action::Exit,
        Action::CtClear,
        Action::Clone(vec![Action::load(REG0, 1), Action::resubmit(9), Action::output(Port(2))]),
        Action::Clone(vec![Action::Clone(vec![Action::output(Port(1))]), Action::CtClear]),
        Action::CheckPacketLarger(CheckPacketLarger { length: 1500, target: REG9.bit(1) }),
        Action::OutputReg(OutputReg { source: REG15.range(0, 16), max_len: 0 }),
        Action::OutputReg2(OutputReg { source: REG15.all(), max_len: 0 }),
        Action::OutputTrunc(OutputTrunc { port: Port(3), max_len: 200 }),
        Action::Learn(learn()),
        Action::Learn(Learn {
            idle_timeout: 10,
            hard_timeout: 20,
            fin_idle_timeout: 1,
            fin_hard_timeout: 2,
            priority: 77,
            cookie: 0xabc,
            flags: LearnFlags::SEND_FLOW_REM | LearnFlags::DELETE_LEARNED,
            ..learn()
        }),
        Action::Learn2(Learn { limit: LearnLimit { flows: 100, result: Some(REG0.bit(0)) }, ..learn() }),
        Action::Learn2(Learn { limit: LearnLimit { flows: 5, result: None }, ..learn() }),
        Action::Multipath(Multipath {
            fields: HashFields::SYMMETRIC_L3L4_UDP,
            basis: 50,
            algorithm: MultipathAlgorithm::HRW,
            max_link: 11,
            argument: 0,
            target: REG2.all(),
        }),
        Action::Bundle(Bundle {
            algorithm: BundleAlgorithm::ACTIVE_BACKUP,
            fields: HashFields::ETH_SRC,
            basis: 0,
            target: None,
            members: vec![Port(4), Port(5), Port(6)],
        }),
        Action::BundleLoad(Bundle {
            algorithm: BundleAlgorithm::HRW,
            fields: HashFields::NW_SRC,
            basis: 1,
            target: Some(REG1.range(0, 16)),
            members: vec![Port(4), Port(5)],
        }),
        Action::Controller(Controller { max_len: 99, controller_id: 3, ..Controller::default() }),
        Action::Controller(Controller { reason: PacketInReason::NO_MATCH, ..Controller::default() }),
        Action::Controller(Controller::default()),
        Action::punt(&[0, 0, 0, 5]),
        Action::punt_and_pause(&[1, 2, 3, 4, 5, 6, 7, 8, 9]),
        Action::Controller2(Controller {
            max_len: 300,
            controller_id: 2,
            reason: PacketInReason::INVALID_TTL,
            userdata: Some([7].into()),
            pause: true,
            meter: Some(MeterId(1)),
        }),
        Action::Sample(Sample {
            probability: 100,
            collector_set: 1,
            domain: 2,
            point: 3,
            port: Port::NONE,
            direction: SampleDirection::DEFAULT,
        }),
        Action::Sample2(Sample {
            probability: 100,
            collector_set: 1,
            domain: 2,
            point: 3,
            port: Port(4),
            direction: SampleDirection::DEFAULT,
        }),
        Action::Sample3(Sample {
            probability: 65535,
            collector_set: 1,
            domain: 2,
            point: 3,
            port: Port(4),
            direction: SampleDirection::EGRESS,
        }),
        Action::Encap(Encap { header_size: 0, packet_type: 0x0001_894f, properties: Box::default() }),
    ]
}

/// Actions that need a match, and the match.
fn actions_for_some() -> Vec<(Match, Action)> {
    use field::*;
    let any = Match::new;
    let tcp = || any().ipv4().ip_proto(6);
    let ip_zone = |table| Conntrack::zone_from(REG13.range(0, 16)).table(table);
    vec![
        (
            any().ipv4(),
            Action::Clone(vec![Conntrack::new(ConntrackZone::Immediate(1)).into(), Action::CtClear]),
        ),
        (any().vlan(5), Action::PopVlan),
        (any().vlan(5), Action::set_field(VLAN_VID, VLAN_PRESENT | 100)),
        (any().vlan(5), Action::set_field(VLAN_PCP, 3)),
        (any().vlan(5), Action::copy(NXM_VLAN_TCI.range(0, 12), REG0.range(0, 12))),
        (any().eth_type(0x8847), Action::SetMplsTtl(9)),
        (any().eth_type(0x8847), Action::DecMplsTtl),
        (any().eth_type(0x8847), Action::PopMpls(0x0800)),
        (any().eth_type(0x8847), Action::set_field(MPLS_LABEL, 99)),
        (any().ipv4(), Action::DecNwTtl),
        (any().ipv4(), Action::SetNwTtl(64)),
        (any().ipv4(), Action::DecTtlCounterIds(CounterIds(vec![1, 2, 3]))),
        (any().ipv4(), Action::set_field(IPV4_SRC, v4("10.0.0.1"))),
        (any().ipv4(), Action::set_masked(IPV4_DST, v4("10.0.0.0"), v4("255.0.0.0"))),
        (any().ipv4(), Action::copy(IPV4_SRC, IPV4_DST)),
        (any().ipv4(), Action::set_field(IP_DSCP, 10)),
        (any().ipv4(), Action::set_field(IP_ECN, 1)),
        (any().ipv4(), Action::set_field(IP_TTL, 5)),
        (any().ipv4(), Action::load(IP_TTL, 5)),
        (any().ipv6(), Action::set_field(IPV6_DST, v6("fe80::1"))),
        (any().ipv6(), Action::set_field(IPV6_LABEL, 0x12345)),
        (any().ipv6(), Action::copy(IPV6_SRC, XXREG0)),
        (any().arp(), Action::load(ARP_OP, 2)),
        (any().arp(), Action::set_field(ARP_OP, 2)),
        (any().arp(), Action::copy(ARP_SHA, ARP_THA)),
        (any().arp(), Action::set_field(ARP_SPA, v4("10.0.0.1"))),
        (any().arp(), Action::set_field(ARP_SHA, [2, 0, 0, 0, 0, 1])),
        (tcp(), Action::set_field(TCP_DST, 80)),
        (tcp(), Action::load(TCP_SRC, 80)),
        (tcp(), Action::FinTimeout(FinTimeout { idle_timeout: 5, hard_timeout: 10 })),
        (tcp(), Action::FinTimeout(FinTimeout { idle_timeout: 0, hard_timeout: 10 })),
        (any().ipv4().ip_proto(17), Action::set_field(UDP_SRC, 53)),
        (any().ipv6().ip_proto(132), Action::set_field(SCTP_DST, 7)),
        (any().ipv4().ip_proto(1), Action::set_field(ICMPV4_TYPE, 0)),
        (any().ipv6().ip_proto(58), Action::load(ICMPV6_TYPE, 136)),
        (
            any().with(ND_SLL, [2, 0, 0, 0, 0, 1]).with_prerequisites().without(ND_SLL),
            Action::copy(ND_TARGET, XXREG0),
        ),
        (
            any().with(ND_TLL, [2, 0, 0, 0, 0, 1]).with_prerequisites().without(ND_TLL),
            Action::set_field(ND_TLL, [2, 0, 0, 0, 0, 9]),
        ),
        (
            any().with(ND_TARGET, v6("fe80::1")).with(ICMPV6_TYPE, 136).with_prerequisites(),
            Action::load(ND_OPTIONS_TYPE, 2),
        ),
        (
            any().ipv4().ct_state(CtState::TRK | CtState::EST, CtState::NONE),
            Action::ResubmitCt(Resubmit { in_port: Port::IN_PORT, table: TableId(9) }),
        ),
        (any().ipv4(), ip_zone(5).into()),
        (any().ipv4(), ip_zone(5).commit().force().exec(Action::load(CT_MARK, 1)).into()),
        (
            any().ipv4(),
            ip_zone(6)
                .commit()
                .nat(Nat::destination(NatRange::V4(v4("10.0.0.1"), None)))
                .exec(Action::set_masked(CT_MARK, 2, 2))
                .exec(Action::load(CT_LABEL.range(96, 32), 5))
                .exec(Action::copy(ETH_SRC, CT_LABEL.range(32, 48)))
                .into(),
        ),
        (any().ipv4(), ip_zone(6).commit().exec(Action::set_field(CT_LABEL, 5)).into()),
        (tcp(), Conntrack { helper: 21, ..Conntrack::new(ConntrackZone::Immediate(3)).commit() }.into()),
        (any().ipv4().ip_proto(17), Conntrack { helper: 69, ..ip_zone(4).commit() }.into()),
        (any().eth_type(0x894f), Action::Decap(Decap { packet_type: 0xfffe })),
        (any().eth_type(0x894f), Action::DecNshTtl),
    ]
}

/// Flows for everything; each has a cookie of its own.
pub(crate) fn flows() -> Vec<FlowMod> {
    let only = |matches| (matches, vec![Instruction::ApplyActions(vec![Action::output(Port(1))])]);
    let apply = |(matches, action)| (matches, vec![Instruction::ApplyActions(vec![action])]);
    let some = |instructions| (Match::new(), instructions);
    let nothing = Match::new;
    let conjunction = vec![Action::conjunction(7, 0, 2), Action::conjunction(8, 2, 3)];
    let set = vec![Action::load(field::REG0, 1), Action::output(Port(2))];
    let with_match = actions_for_some().into_iter().chain(nat_cases());
    let parts = matches().into_iter().map(only).chain(with_match.map(apply));
    let parts = parts.chain(actions_for_any().into_iter().map(|action| apply((nothing(), action)))).chain([
        some(vec![]),
        some(vec![Instruction::ApplyActions(conjunction)]),
        some(vec![Instruction::GotoTable(TableId(200))]),
        some(vec![Instruction::ClearActions]),
        some(vec![Instruction::Meter(MeterId(1)), Instruction::ApplyActions(set.clone())]),
        some(vec![
            Instruction::WriteMetadata { value: 0x12, mask: 0xff },
            Instruction::GotoTable(TableId(9)),
        ]),
        some(vec![Instruction::WriteMetadata { value: 0x12, mask: u64::MAX }]),
        some(vec![
            Instruction::Meter(MeterId(1)),
            Instruction::ApplyActions(set),
            Instruction::ClearActions,
            Instruction::WriteActions(vec![Action::output(Port(9))]),
            Instruction::WriteMetadata { value: 1, mask: 1 },
            Instruction::GotoTable(TableId(6)),
        ]),
    ]);
    // Equal matches need a priority of their own; one table has the default priority.
    let flow = |(index, (matches, instructions)): (u16, _)| FlowMod {
        instructions,
        ..FlowMod::add(3, 100 + index, matches, vec![]).cookie(u64::from(index) + 1)
    };
    let mut flows: Vec<FlowMod> = (0..).zip(parts).map(flow).collect();
    let index = flows.len() as u64;
    flows.push(FlowMod::add(0, DEFAULT_PRIORITY, nothing(), vec![]).cookie(index + 1));
    flows.push(FlowMod {
        idle_timeout: 300,
        hard_timeout: 600,
        flags: FlowModFlags::SEND_FLOW_REM | FlowModFlags::NO_BYTE_COUNTS,
        ..FlowMod::add(0, 1, nothing().ipv4(), vec![]).cookie(index + 2)
    });
    flows
}
