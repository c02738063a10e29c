//! What Open vSwitch says to our messages, and whether it says flows in our words.
//!
//! Needs root and Open vSwitch, and fails without them.

mod cases;
mod switch;

use std::collections::BTreeMap;

use ofpacket::*;

use self::switch::{Connection, Switch};

const MAPS: [TlvMap; 2] = [
    TlvMap { class: 0x0102, kind: 0x80, length: 4, index: 0 },
    TlvMap { class: 0x0102, kind: 0x81, length: 8, index: 1 },
];

fn prepare(connection: &mut Connection) {
    let group = GroupMod13 {
        command: GroupModCommand::ADD,
        kind: GroupType::ALL,
        group: GroupId(1),
        buckets: vec![Bucket13::new(vec![Action::output(Port(1))])],
    };
    connection.apply(&[
        Message::TlvTableMod(TlvTableMod { command: TlvTableCommand::ADD, maps: MAPS.to_vec() }),
        Message::MeterMod(MeterMod::add_kbps(1, 1000, 100)),
        Message::GroupMod13(group),
    ]);
}

fn flows_of(connection: &mut Connection) -> Vec<FlowStats> {
    let parts = connection.ask_all(MultipartRequest::Flow(FlowRequest::all()));
    let flows = parts.into_iter().map(|part| match part {
        ReplyBody::Flow(flows) => flows,
        other => panic!("flows expected, got {other:?}"),
    });
    flows.flatten().collect()
}

#[test]
fn flows_read_as_written_and_print_as_ovs_ofctl_prints_them() {
    let switch = Switch::shared();
    let socket = switch.bridge("flows");
    let mut connection = Connection::new(&socket, Version::V1_3);
    prepare(&mut connection);
    let flows = cases::flows();
    let messages: Vec<Message> = flows.iter().cloned().map(Message::FlowMod).collect();
    let refusals: Vec<String> = connection
        .refusals(&messages)
        .iter()
        .map(|(index, error)| format!("{error}: {} {:?}", flows[*index], flows[*index].instructions))
        .collect();
    assert!(refusals.is_empty(), "the switch refused:\n{}", refusals.join("\n"));

    let target = format!("unix:{}", socket.display());
    let text = switch.ofctl(&["-O", "OpenFlow13", "--no-names", "--no-stats", "dump-flows", &target]);
    let text: BTreeMap<&str, &str> =
        text.iter().filter_map(|line| Some((line.split_once(',')?.0, line.as_str()))).collect();
    let read: BTreeMap<u64, FlowStats> =
        flows_of(&mut connection).into_iter().map(|flow| (flow.cookie, flow)).collect();

    let mut wrong = Vec::new();
    for flow in &flows {
        let instructions = flow.reported(Version::V1_3);
        let flow = &FlowMod { instructions, ..flow.clone() };
        let key = format!("cookie={:#x}", flow.cookie);
        let (ours, theirs) = (flow.to_string(), text.get(key.as_str()).copied().unwrap_or("missing"));
        if ours != theirs {
            wrong.push(format!("text\n  ours   {ours}\n  theirs {theirs}"));
        }
        let Some(stats) = read.get(&flow.cookie) else {
            wrong.push(format!("not read back: {ours}"));
            continue;
        };
        if stats.matches != flow.matches {
            wrong.push(format!("match of {ours}\n  ours   {:?}\n  theirs {:?}", flow.matches, stats.matches));
        }
        if stats.instructions != flow.instructions {
            wrong.push(format!(
                "instructions\n  ours   {:?}\n  theirs {:?}",
                flow.instructions, stats.instructions
            ));
        }
        if stats.to_string() != theirs {
            wrong.push(format!("text read back\n  ours   {stats}\n  theirs {theirs}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), flows.len(), wrong.join("\n"));
}

#[test]
fn groups_keep_their_selection_method_over_1_5() {
    let switch = Switch::shared();
    let socket = switch.bridge("groups");
    let mut connection = Connection::new(&socket, Version::V1_5);
    let to = |port| vec![Action::output(Port(port))];
    let ct = |address: [u8; 4]| {
        let nat = Nat::destination(NatRange::one(address)).ports(80, None);
        vec![Action::from(Conntrack::zone_from(field::REG13.range(0, 16)).table(7).commit().nat(nat))]
    };
    let masked = Selection {
        method: "hash".into(),
        parameter: 3,
        fields: vec![(field::IPV4_DST, [255, 255, 0, 0].into()), (field::IP_PROTO, [255].into())],
    };
    let weighted =
        || vec![Bucket::new(0, ct([10, 0, 0, 1])).weight(100), Bucket::new(1, ct([10, 0, 0, 2])).weight(50)];
    let new = |kind, number: u32, buckets| GroupMod::new(GroupModCommand::ADD, kind, number, buckets);
    let groups = [
        new(GroupType::SELECT, 1, weighted()).selection(Selection::dp_hash()),
        new(GroupType::SELECT, 2, weighted()).selection(Selection::hash(&[field::IPV4_SRC, field::IPV4_DST])),
        new(GroupType::SELECT, 3, vec![Bucket::new(5, to(1)).weight(1)]).selection(masked),
        new(GroupType::ALL, 4, vec![Bucket::new(0, to(1)), Bucket::new(1, vec![])]),
        new(GroupType::INDIRECT, 5, vec![Bucket::new(0, vec![Action::resubmit(9)])]),
        new(GroupType::FAST_FAILOVER, 6, vec![Bucket::new(0, to(1)).watch_port(Port(1))]),
        new(GroupType::ALL, 7, vec![]),
        new(
            GroupType::ALL,
            8,
            vec![Bucket::new(
                0,
                vec![
                    Action::set_masked(field::REG0, 1, 3),
                    Action::set_field(field::REG1, 2),
                    Action::output(Port(3)),
                ],
            )],
        ),
    ];
    connection.apply(&groups.clone().map(Message::GroupMod));

    let target = format!("unix:{}", socket.display());
    let text = switch.ofctl(&["-O", "OpenFlow15", "--no-names", "dump-groups", &target]);
    let read: Vec<GroupDesc> = connection
        .ask_all(MultipartRequest::GroupDesc(GroupId::ALL))
        .into_iter()
        .flat_map(|part| match part {
            ReplyBody::GroupDesc(groups) => groups,
            other => panic!("groups expected, got {other:?}"),
        })
        .collect();
    for group in &groups {
        let ours = group.to_string();
        assert!(text.contains(&ours), "ours {ours}\ntheirs {text:#?}");
        let desc = read.iter().find(|desc| desc.group == group.group).expect("the group is there");
        assert_eq!(desc.to_string(), ours);
        assert_eq!((&desc.selection, desc.kind), (&group.selection, group.kind));
        let actions = |buckets: &[Bucket]| {
            buckets.iter().map(|bucket| (bucket.id, bucket.actions.clone())).collect::<Vec<_>>()
        };
        assert_eq!(actions(&desc.buckets), actions(&group.buckets));
    }

    // A load is a masked set-field in 1.5, a move a copy-field.
    let loads = vec![Action::load(field::REG0.range(0, 2), 1), Action::copy(field::REG1, field::REG2)];
    let insert = GroupMod {
        command_bucket: BucketId::LAST,
        ..GroupMod::new(GroupModCommand::INSERT_BUCKET, GroupType::ALL, 7, vec![Bucket::new(3, loads)])
    };
    connection.apply(&[Message::GroupMod(insert)]);
    let text = switch.ofctl(&["-O", "OpenFlow15", "--no-names", "dump-groups", &target, "7"]);
    let expected = "group_id=7,type=all,bucket=bucket_id:3,actions=set_field:0x1/0x3->reg0,move:NXM_NX_REG1[]->NXM_NX_REG2[]";
    assert!(text.iter().any(|line| line == expected), "{text:#?}");

    let exists = connection.refusals(&[Message::GroupMod(new(GroupType::ALL, 4, vec![]))]);
    assert!(exists.get(&0).is_some_and(|error| error.is("OFPGMFC_GROUP_EXISTS")), "{exists:?}");
    connection.apply(&[Message::GroupMod(GroupMod::delete(GroupId::ALL))]);
    assert_eq!(connection.ask_all(MultipartRequest::GroupDesc(GroupId::ALL)), [ReplyBody::GroupDesc(vec![])]);
}

#[test]
fn flows_and_groups_change_together_over_1_5() {
    let switch = Switch::shared();
    let socket = switch.bridge("together");
    let mut connection = Connection::new(&socket, Version::V1_3);
    prepare(&mut connection);
    let mut newer = Connection::new(&socket, Version::V1_5);

    // Flow-mods have the same layout; the meter is an action there.
    let meters = |flow: &FlowMod| flow.instructions.iter().any(|part| matches!(part, Instruction::Meter(_)));
    let flows: Vec<FlowMod> = cases::flows().into_iter().filter(|flow| !meters(flow)).collect();
    let messages: Vec<Message> = flows.iter().cloned().map(Message::FlowMod).collect();
    let refusals = newer.refusals(&messages);
    let refusals: Vec<String> =
        refusals.iter().map(|(at, error)| format!("{error}: {}", flows[*at])).collect();
    assert!(refusals.is_empty(), "the switch refused:\n{}", refusals.join("\n"));
    let read = flows_of(&mut connection);
    assert_eq!(read.len(), flows.len());
    for stats in &read {
        let flow = flows.iter().find(|flow| flow.cookie == stats.cookie).expect("a flow we made");
        assert_eq!(flow.matches, stats.matches, "{flow}");
        assert_eq!(flow.reported(Version::V1_5), stats.instructions, "{flow}");
    }

    let buckets = vec![Bucket::new(0, vec![Action::load(field::REG0, 1), Action::output(Port(1))]).weight(1)];
    let group =
        GroupMod::new(GroupModCommand::ADD, GroupType::SELECT, 9, buckets).selection(Selection::dp_hash());
    let metered = vec![Action::Meter(MeterId(1)), Action::group(9)];
    let changes = vec![
        Message::FlowMod(FlowMod::delete(TableId::ALL, Match::new())),
        Message::GroupMod(group),
        Message::FlowMod(FlowMod::add(1, 5, Match::new().reg(3, 4), metered)),
    ];
    bundle(&mut newer, 7, changes).expect("one bundle for all");
    let read = flows_of(&mut connection);
    let [only] = read.as_slice() else { panic!("one flow expected, got {read:?}") };
    assert_eq!(only.to_string(), "table=1, priority=5,reg3=0x4 actions=meter:1,group:9");
}

#[test]
fn meters_read_as_written() {
    let switch = Switch::shared();
    let socket = switch.bridge("meters");
    let mut connection = Connection::new(&socket, Version::V1_3);
    let meters = [MeterMod::add_kbps(1, 1000, 100), MeterMod::add_pktps(2, 50, 5)];
    connection.apply(&meters.clone().map(Message::MeterMod));
    let configs = connection.ask_all(MultipartRequest::MeterConfig(MeterId::ALL));
    let [ReplyBody::MeterConfig(configs)] = configs.as_slice() else {
        panic!("meters expected, got {configs:?}")
    };
    let target = format!("unix:{}", socket.display());
    let text = switch.ofctl(&["-O", "OpenFlow13", "dump-meters", &target]).join("\n");
    for (meter, config) in meters.iter().zip(configs) {
        assert_eq!((meter.meter, meter.flags, &meter.bands), (config.meter, config.flags, &config.bands));
        assert!(text.contains(&config.to_string()), "ours {config}\ntheirs {text}");
    }
    let stats = connection.ask_all(MultipartRequest::Meter(MeterId::ALL));
    assert!(matches!(stats.as_slice(), [ReplyBody::Meter(stats)] if stats.len() == 2), "{stats:?}");
    let features = connection.ask_all(MultipartRequest::MeterFeatures);
    assert!(matches!(features.as_slice(), [ReplyBody::MeterFeatures(features)] if features.max_meters > 0));
    connection.apply(&[Message::MeterMod(MeterMod::delete(MeterId::ALL))]);
}

fn bundle(connection: &mut Connection, number: u32, messages: Vec<Message>) -> Result<(), ErrorMessage> {
    let flags = BundleFlags::ATOMIC_ORDERED;
    let control = |kind| Message::BundleControl(BundleControl { bundle: number, kind, flags });
    let done = |reply: &Message, kind| {
        // The switch does not repeat the flags.
        matches!(reply, Message::BundleControl(reply) if (reply.bundle, reply.kind) == (number, kind))
    };
    let opened = connection.ask(&control(BundleControlType::OPEN_REQUEST));
    assert!(done(&opened, BundleControlType::OPEN_REPLY), "{opened:?}");
    let add = |message| Message::BundleAdd(BundleAdd { bundle: number, flags, message: Box::new(message) });
    let additions: Vec<Message> = messages.into_iter().map(add).collect();
    // A refused addition does not spoil the bundle: a commit would apply the rest.
    if let Some((_, error)) = connection.refusals(&additions).pop_first() {
        let discarded = connection.ask(&control(BundleControlType::DISCARD_REQUEST));
        assert!(done(&discarded, BundleControlType::DISCARD_REPLY), "{discarded:?}");
        return Err(error);
    }
    match connection.ask(&control(BundleControlType::COMMIT_REQUEST)) {
        Message::Error(error) => Err(error),
        reply => {
            assert!(done(&reply, BundleControlType::COMMIT_REPLY), "{reply:?}");
            Ok(())
        }
    }
}

#[test]
fn bundles_are_all_or_nothing() {
    let switch = Switch::shared();
    let socket = switch.bridge("bundles");
    let mut connection = Connection::new(&socket, Version::V1_3);
    let flow =
        |table: u8| Message::FlowMod(FlowMod::add(table, 5, Match::new().ipv4(), vec![Action::resubmit(9)]));
    bundle(&mut connection, 1, vec![flow(1), flow(2)]).expect("two good flows");
    assert_eq!(flows_of(&mut connection).len(), 2);
    let bad = FlowMod::add(3, 5, Match::new().with(field::TCP_DST, 80), vec![]);
    let refused = bundle(&mut connection, 2, vec![flow(4), Message::FlowMod(bad)]);
    assert!(refused.is_err_and(|error| error.is("OFPBMC_BAD_PREREQ")));
    assert_eq!(flows_of(&mut connection).len(), 2);

    let mut newer = Connection::new(&socket, Version::V1_5);
    let group = || {
        let buckets = vec![Bucket::new(0, vec![Action::output(Port(1))]).weight(1)];
        let group = GroupMod::new(GroupModCommand::ADD, GroupType::SELECT, 9, buckets);
        Message::GroupMod(group.selection(Selection::dp_hash()))
    };
    bundle(&mut newer, 1, vec![group()]).expect("a group");
    let refused = bundle(&mut newer, 2, vec![group()]).expect_err("the group exists");
    assert!(refused.is("OFPGMFC_GROUP_EXISTS") || refused.is("OFPBFC_MSG_FAILED"), "{refused}");
}

#[test]
fn the_switch_describes_itself() {
    let switch = Switch::shared();
    let socket = switch.bridge("describes");
    let mut connection = Connection::new(&socket, Version::V1_3);
    let Message::FeaturesReply(features) = connection.ask(&Message::FeaturesRequest) else {
        panic!("features")
    };
    assert!(
        features.capabilities.contains(Capabilities::FLOW_STATS) && features.tables == 254,
        "{features:?}"
    );
    let desc = connection.ask_all(MultipartRequest::Desc);
    assert!(
        matches!(desc.as_slice(), [ReplyBody::Desc(desc)] if desc.hardware.as_str() == "Open vSwitch"),
        "{desc:?}"
    );
    let ports = connection.ask_all(MultipartRequest::PortDesc);
    let [ReplyBody::PortDesc(ports)] = ports.as_slice() else { panic!("ports expected, got {ports:?}") };
    let local = ports.iter().find(|desc| desc.port == Port::LOCAL).expect("the local port");
    assert_eq!(local.name.as_str(), "describes");
    let counters = connection.ask_all(MultipartRequest::Port(Port::ANY));
    assert!(
        matches!(counters.as_slice(), [ReplyBody::Port(stats)] if stats.len() == ports.len()),
        "{counters:?}"
    );
    let tables: usize = connection
        .ask_all(MultipartRequest::Table)
        .iter()
        .map(|part| if let ReplyBody::Table(tables) = part { tables.len() } else { 0 })
        .sum();
    assert_eq!(tables, 254);
    let sums = connection.ask_all(MultipartRequest::Aggregate(FlowRequest::all()));
    assert!(matches!(sums.as_slice(), [ReplyBody::Aggregate(sums)] if sums.flows == 0), "{sums:?}");
    let groups = connection.ask_all(MultipartRequest::GroupFeatures);
    assert!(
        matches!(groups.as_slice(), [ReplyBody::GroupFeatures(groups)] if groups.types == 0xf),
        "{groups:?}"
    );
    let queues = MultipartRequest::Queue(QueueRequest { port: Port::ANY, queue: QueueId::ALL });
    assert_eq!(connection.ask_all(queues), [ReplyBody::Queue(vec![])]);

    let config = SwitchConfig { flags: 0, miss_send_len: 200 };
    connection.apply(&[Message::SetConfig(config.clone())]);
    assert_eq!(connection.ask(&Message::GetConfigRequest), Message::GetConfigReply(config));
    let state = RoleState { role: Role::MASTER, generation: 5 };
    assert_eq!(connection.ask(&Message::RoleRequest(state.clone())), Message::RoleReply(state));
    let wanted = AsyncConfig::new(7, 7, 15);
    connection.apply(&[Message::SetAsync(wanted.clone()), Message::NxSetAsync(wanted.clone())]);
    assert_eq!(connection.ask(&Message::GetAsyncRequest), Message::GetAsyncReply(wanted));
    assert_eq!(connection.ask(&Message::EchoRequest([1, 2].into())), Message::EchoReply([1, 2].into()));
    let down = PortMod {
        port: Port::LOCAL,
        hardware: local.hardware,
        config: PortConfig::NO_FWD,
        mask: PortConfig::NO_FWD,
        advertise: 0,
    };
    // Before 1.5 whoever changes a port is not told of it.
    let mut watcher = Connection::listening(&socket, Version::V1_3);
    connection.apply(&[Message::PortMod(down)]);
    let Message::PortStatus(status) = watcher.receive().1 else { panic!("port status") };
    assert!(status.desc.config.contains(PortConfig::NO_FWD), "{status:?}");
    let empty = Message::TableMod(TableMod { table: TableId(0), config: 0 });
    connection.apply(&[empty, Message::FlowAge, Message::SetControllerId(7)]);
}

#[test]
fn tunnel_options_map_to_fields() {
    let switch = Switch::shared();
    let socket = switch.bridge("tunnels");
    let mut connection = Connection::new(&socket, Version::V1_3);
    let change =
        |command, maps: &[TlvMap]| Message::TlvTableMod(TlvTableMod { command, maps: maps.to_vec() });
    connection.apply(&[change(TlvTableCommand::ADD, &MAPS)]);
    let Message::TlvTableReply(table) = connection.ask(&Message::TlvTableRequest) else {
        panic!("the table")
    };
    assert_eq!((table.maps.as_slice(), table.max_fields), (&MAPS[..], 64));
    let again = connection.refusals(&[change(TlvTableCommand::ADD, &MAPS[..1])]);
    assert!(again.get(&0).is_some_and(|error| error.is("NXTTMFC_ALREADY_MAPPED")), "{again:?}");
    connection.apply(&[change(TlvTableCommand::DELETE, &MAPS[..1]), change(TlvTableCommand::CLEAR, &[])]);
}

#[test]
fn a_paused_packet_resumes_where_it_stopped() {
    let switch = Switch::shared();
    let socket = switch.bridge("pause");
    let mut connection = Connection::listening(&socket, Version::V1_3);
    let pause =
        vec![Action::load(field::REG3, 0x77), Action::punt_and_pause(&[1, 2, 3]), Action::resubmit(5)];
    let seen = Match::new().reg(3, 0x99);
    connection.apply(&[
        Message::SetPacketInFormat(PACKET_IN_FORMAT_NXT2),
        Message::FlowMod(FlowMod::add(0, 1, Match::new(), pause).cookie(0xc0ffee)),
        Message::FlowMod(FlowMod::add(5, 1, seen, vec![Action::punt(&[4])]).cookie(0xbeef)),
    ]);
    let packet: Vec<u8> =
        [[2u8, 0, 0, 0, 0, 1].as_slice(), &[2, 0, 0, 0, 0, 2], &[0x88, 0xb5], &[7; 46]].concat();
    connection.send(&Message::PacketOut(PacketOut::new(vec![Action::output(Port::TABLE)], packet.clone())));
    let (_, Message::PacketIn2(first)) = connection.receive() else { panic!("packet-in2 expected") };
    assert_eq!(first.userdata.as_deref(), Some(&[1, 2, 3][..]));
    assert_eq!(first.data.as_deref(), Some(packet.as_slice()));
    assert_eq!((first.table, first.reason), (Some(TableId(0)), Some(PacketInReason::ACTION)));
    assert!(first.continuation.is_some());
    let metadata = first.metadata.clone().expect("metadata");
    assert_eq!(metadata.get(field::REG3), Some((0x77, 0xffff_ffff)));
    let resumed = PacketIn2 { metadata: Some(metadata.reg(3, 0x99)), ..first.into_resume() };
    connection.send(&Message::Resume(resumed));
    let (_, Message::PacketIn2(second)) = connection.receive() else { panic!("a second packet-in2") };
    assert_eq!((second.userdata.as_deref(), second.table), (Some(&[4][..]), Some(TableId(5))));
    assert_eq!(second.cookie, Some(0xbeef));

    // The same over the packet-in of OpenFlow 1.3.
    connection.apply(&[Message::SetPacketInFormat(PACKET_IN_FORMAT_STANDARD)]);
    connection
        .send(&Message::PacketOut(PacketOut::new(vec![Action::output(Port::CONTROLLER)], packet.clone())));
    let (_, Message::PacketIn(plain)) = connection.receive() else { panic!("packet-in expected") };
    assert_eq!(&plain.data[..], packet);
    assert_eq!(plain.metadata.get(field::IN_PORT), Some((Port::CONTROLLER.0.into(), 0xffff_ffff)));
}

#[test]
fn connections_can_be_forgotten() {
    let switch = Switch::shared();
    let socket = switch.bridge("flush");
    let mut connection = Connection::new(&socket, Version::V1_3);
    let mapped = |address: [u8; 4]| Some(std::net::Ipv4Addr::from(address).to_ipv6_mapped());
    let tuple = CtTuple { source: mapped([10, 0, 0, 1]), source_port: Some(80), ..CtTuple::default() };
    let icmp = CtTuple {
        source: mapped([10, 0, 0, 1]),
        destination: mapped([10, 0, 0, 2]),
        icmp_id: Some(3),
        icmp_type: Some(8),
        icmp_code: Some(0),
        ..CtTuple::default()
    };
    connection.apply(&[
        Message::CtFlushZone(5),
        Message::CtFlush(CtFlush { ip_proto: 6, original: Some(tuple), zone: Some(5), ..CtFlush::default() }),
        Message::CtFlush(CtFlush {
            ip_proto: 1,
            original: Some(icmp.clone()),
            reply: Some(icmp),
            ..CtFlush::default()
        }),
        Message::CtFlush(CtFlush { zone: Some(9), ..CtFlush::default() }),
    ]);
}

#[test]
fn a_flow_monitor_tells_of_changes() {
    let switch = Switch::shared();
    let socket = switch.bridge("monitor");
    let mut connection = Connection::new(&socket, Version::V1_3);
    let flow = FlowMod::add(4, 7, Match::new().ipv4(), vec![Action::output(Port(3))]).cookie(5);
    connection.apply(&[Message::FlowMod(flow.clone())]);
    let parts = connection.ask_all(MultipartRequest::FlowMonitor(vec![FlowMonitorRequest::all(1)]));
    let there = |event, flow: &FlowMod| FlowUpdate::Full {
        event,
        reason: 0,
        priority: flow.priority,
        idle_timeout: 0,
        hard_timeout: 0,
        table: flow.table,
        cookie: flow.cookie,
        matches: flow.matches.clone(),
        instructions: flow.instructions.clone(),
    };
    assert_eq!(parts, [ReplyBody::FlowMonitor(vec![there(FlowUpdateEvent::ADDED, &flow)])]);
    let other = FlowMod::add(6, 8, Match::new().arp(), vec![Action::output(Port(1))]);
    connection.send(&Message::FlowMod(other.clone()));
    let (_, Message::MultipartReply(reply)) = connection.receive() else { panic!("an update") };
    assert_eq!(reply.body, ReplyBody::FlowMonitor(vec![there(FlowUpdateEvent::ADDED, &other)]));
    connection.apply(&[Message::FlowMonitorCancel(1)]);
}

#[test]
fn a_flow_says_when_it_goes() {
    let switch = Switch::shared();
    let socket = switch.bridge("removed");
    let mut connection = Connection::listening(&socket, Version::V1_3);
    let flow = FlowMod::add(4, 7, Match::new().ipv4(), vec![]).cookie(5);
    let flow = FlowMod { flags: FlowModFlags::SEND_FLOW_REM, ..flow };
    connection.apply(&[Message::FlowMod(flow.clone())]);
    connection.send(&Message::FlowMod(FlowMod::delete(4, Match::new())));
    let (_, Message::FlowRemoved(removed)) = connection.receive() else { panic!("flow removed") };
    assert_eq!((removed.reason, removed.cookie, removed.table), (FlowRemovedReason::DELETE, 5, TableId(4)));
    assert_eq!(removed.matches, flow.matches);
}
