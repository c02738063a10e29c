//! Properties of the codec: what is written is read back, and no bytes make it panic.

use std::net::{Ipv4Addr, Ipv6Addr};

use ofpacket::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn bytes(longest: usize) -> impl Strategy<Value = Box<[u8]>> {
    vec(any::<u8>(), 0..=longest).prop_map(Into::into)
}

/// Declared fields that actions and matches name by value, without those that a match renames.
fn known_field() -> impl Strategy<Value = Field> {
    (select(field::ALL), 1u8..=124).prop_map(|(field, width)| field.of_width(width))
}

fn unknown_field() -> impl Strategy<Value = Field> {
    let class = prop_oneof![Just(0x7777u16), Just(0xffff), Just(0x8000)];
    (class, 60u8..=127, 0xffu32..=0xffff, 1u8..=60).prop_map(|(class, number, experimenter, width)| {
        Field::from_numbers(class, number, experimenter, width)
    })
}

/// Field, value and mask.
type Condition = (Field, Vec<u8>, Option<Vec<u8>>);

fn with_value(fields: impl Strategy<Value = Field>) -> impl Strategy<Value = Condition> {
    fields.prop_flat_map(|field| {
        let width = usize::from(field.width());
        // Masked, an OXM has 255 bytes for value, mask and experimenter.
        let masked =
            if width <= 124 { option::of(vec(any::<u8>(), width)).boxed() } else { Just(None).boxed() };
        (Just(field), vec(any::<u8>(), width), masked)
    })
}

fn matches() -> impl Strategy<Value = Match> {
    vec(prop_oneof![8 => with_value(known_field()).boxed(), 1 => with_value(unknown_field()).boxed()], 0..8)
        .prop_map(|fields| {
            let add = |matches: Match, (field, value, mask): Condition| {
                matches.with_bytes(field, &value, mask.as_deref())
            };
            fields.into_iter().fold(Match::new(), add)
        })
}

/// Subfields that fit the packed form, of fields that have a short header.
fn subfield() -> impl Strategy<Value = Subfield> {
    let plain =
        [field::REG0, field::XXREG3, field::XREG1, field::ETH_DST, field::METADATA, field::NXM_IN_PORT];
    let tunnel = Field::tun_metadata(7, 20);
    let fields =
        select([plain.as_slice(), &[field::CT_LABEL, field::IPV4_SRC, field::VLAN_VID, tunnel]].concat());
    (fields, 0u16..=0x3ff, 1u16..=64).prop_map(|(field, offset, bits)| field.range(offset, bits))
}

fn port16() -> impl Strategy<Value = Port> {
    any::<u16>().prop_map(Port::from_u16)
}

fn nat() -> impl Strategy<Value = Nat> {
    let v4 = (any::<u32>(), option::of(any::<u32>()))
        .prop_map(|(low, high)| NatRange::V4(Ipv4Addr::from(low), high.map(Ipv4Addr::from)));
    let v6 = (any::<u128>(), option::of(any::<u128>()))
        .prop_map(|(low, high)| NatRange::V6(Ipv6Addr::from(low), high.map(Ipv6Addr::from)));
    (any::<u16>(), prop_oneof![Just(NatRange::Any), v4, v6], option::of(any::<(u16, Option<u16>)>()))
        .prop_map(|(flags, addresses, ports)| Nat { flags: NatFlags(flags), addresses, ports })
}

fn learn_spec() -> impl Strategy<Value = LearnSpec> {
    (subfield(), subfield(), any::<u128>(), 0..5).prop_map(|(to, from, value, form)| match form {
        0 => LearnSpec::match_field(to, from),
        1 => LearnSpec::match_value(to, value),
        2 => LearnSpec::load_field(to, from),
        3 => LearnSpec::load_value(to, value),
        _ => LearnSpec::output(from),
    })
}

fn learn() -> impl Strategy<Value = Learn> {
    let numbers = (any::<[u16; 5]>(), any::<u64>(), any::<u8>(), 0u16..4);
    (numbers, any::<u32>(), option::of(subfield()), vec(learn_spec(), 0..5)).prop_map(
        |((n, cookie, table, flags), flows, result, specs)| Learn {
            idle_timeout: n[0],
            hard_timeout: n[1],
            priority: n[2],
            fin_idle_timeout: n[3],
            fin_hard_timeout: n[4],
            cookie,
            flags: LearnFlags(flags),
            table: TableId(table),
            limit: LearnLimit { flows, result: result.map(|bits| bits.field.bit(bits.offset)) },
            specs,
        },
    )
}

fn controller() -> impl Strategy<Value = Controller> {
    let flat = any::<(u16, u16, u8, bool)>();
    (flat, option::of(bytes(20)), option::of(any::<u32>())).prop_map(|(flat, userdata, meter)| {
        let (max_len, controller_id, reason, pause) = flat;
        let reason = PacketInReason(reason);
        Controller { max_len, controller_id, reason, userdata, pause, meter: meter.map(MeterId) }
    })
}

fn leaf() -> impl Strategy<Value = Action> {
    let unknown = (any::<u16>(), vec(any::<u8>(), 4), 100u16..=200).prop_map(|(subtype, body, kind)| {
        let vendor = [0u8, 0, 0x23, 0x20];
        let tail = [subtype.to_be_bytes().as_slice(), &body, &[0, 0]].concat();
        let (kind, middle) = if subtype % 2 == 0 { (kind, [9; 4]) } else { (0xffff, vendor) };
        // An odd subtype of Nicira beyond those that exist.
        let tail = if kind == 0xffff { [&[7, 7], &tail[2..]].concat() } else { tail };
        let raw = [kind.to_be_bytes().as_slice(), &[0, 16], &middle, &tail].concat();
        Action::Unknown(raw.into())
    });
    let set = with_value(known_field()).prop_map(|(field, value, mask)| {
        let (value, mask) = (value.into(), mask.map(Into::into));
        Action::SetField(SetField { field, value, mask })
    });
    let sample = (any::<(u16, u32, u32, u32)>(), port16(), any::<u8>()).prop_map(|(n, port, direction)| {
        let (probability, collector_set, domain, point) = n;
        let direction = SampleDirection(direction);
        Action::Sample3(Sample { probability, collector_set, domain, point, port, direction })
    });
    let multipath = (any::<(u16, u16, u16, u16, u32)>(), subfield()).prop_map(|(n, target)| {
        let (fields, algorithm) = (HashFields(n.0), MultipathAlgorithm(n.2));
        Action::Multipath(Multipath { fields, basis: n.1, algorithm, max_link: n.3, argument: n.4, target })
    });
    let bundle =
        (any::<(u16, u16, u16)>(), subfield(), vec(port16(), 0..5)).prop_map(|(n, target, members)| {
            let (algorithm, fields) = (BundleAlgorithm(n.0), HashFields(n.1));
            Action::BundleLoad(Bundle { algorithm, fields, basis: n.2, target: Some(target), members })
        });
    prop_oneof![
        any::<(u32, u16)>().prop_map(|(port, max_len)| Action::Output(Output { port: Port(port), max_len })),
        (any::<u32>(), any::<u16>(), any::<u8>(), 0..12).prop_map(|(long, short, byte, form)| match form {
            0 => Action::PushVlan(short),
            1 => Action::PopVlan,
            2 => Action::SetMplsTtl(byte),
            3 => Action::PushMpls(short),
            4 => Action::PopMpls(short),
            5 => Action::SetQueue(QueueId(long)),
            6 => Action::Group(GroupId(long)),
            7 => Action::SetNwTtl(byte),
            8 => Action::SetTunnel(long),
            9 => Action::conjunction(long, byte, 3),
            10 => Action::DecTtlCounterIds(CounterIds(vec![short; usize::from(byte % 5)])),
            _ => Action::CtClear,
        }),
        (port16(), any::<u8>())
            .prop_map(|(in_port, table)| Action::Resubmit(Resubmit { in_port, table: TableId(table) })),
        (port16(), any::<u32>())
            .prop_map(|(port, max_len)| Action::OutputTrunc(OutputTrunc { port, max_len })),
        (subfield(), any::<u64>()).prop_map(|(target, value)| Action::load(target, value)),
        (subfield(), subfield())
            .prop_map(|(from, to)| Action::copy(from, to.field.range(to.offset, from.bits))),
        subfield().prop_map(Action::StackPush),
        subfield().prop_map(Action::StackPop),
        (subfield(), any::<u16>())
            .prop_map(|(source, max_len)| Action::OutputReg(OutputReg { source, max_len })),
        (subfield(), any::<u16>())
            .prop_map(|(source, max_len)| Action::OutputReg2(OutputReg { source, max_len })),
        (subfield(), any::<u16>()).prop_map(|(bits, length)| {
            Action::CheckPacketLarger(CheckPacketLarger { length, target: bits.field.bit(bits.offset) })
        }),
        bytes(40).prop_map(|data| Action::Note(Note::new(&data))),
        any::<u64>().prop_map(Action::SetTunnel64),
        any::<u32>().prop_map(|packet_type| Action::Decap(Decap { packet_type })),
        known_field().prop_map(Action::DeleteField),
        learn().prop_map(Action::Learn2),
        learn().prop_map(|learn| Action::Learn(Learn { limit: LearnLimit::default(), ..learn })),
        controller().prop_map(Action::Controller2),
        nat().prop_map(Action::Nat),
        set,
        sample,
        multipath,
        bundle,
        unknown,
    ]
}

fn action() -> impl Strategy<Value = Action> {
    leaf().prop_recursive(3, 16, 4, |inner| {
        let zone = prop_oneof![
            any::<u16>().prop_map(ConntrackZone::Immediate),
            subfield().prop_map(ConntrackZone::Field),
        ];
        let ct = (any::<(u16, u16)>(), zone, option::of(0u8..255), vec(inner.clone(), 0..4)).prop_map(
            |((flags, helper), zone, table, actions)| {
                let (flags, table) = (ConntrackFlags(flags), table.map(TableId));
                Action::Ct(Conntrack { flags, zone, table, helper, actions })
            },
        );
        prop_oneof![ct, vec(inner, 0..4).prop_map(Action::Clone)]
    })
}

fn instructions() -> impl Strategy<Value = Vec<Instruction>> {
    let instruction = prop_oneof![
        4 => vec(action(), 0..5).prop_map(Instruction::ApplyActions),
        1 => vec(action(), 0..5).prop_map(Instruction::WriteActions),
        1 => any::<u8>().prop_map(|table| Instruction::GotoTable(TableId(table))),
        1 => any::<(u64, u64)>().prop_map(|(value, mask)| Instruction::WriteMetadata { value, mask }),
        1 => any::<u32>().prop_map(|meter| Instruction::Meter(MeterId(meter))),
        1 => Just(Instruction::ClearActions),
        1 => vec(any::<u8>(), 4).prop_map(|body| Instruction::Unknown([&[0, 77, 0, 8], &body[..]].concat().into())),
    ];
    vec(instruction, 0..3)
}

fn flow_mod() -> impl Strategy<Value = FlowMod> {
    let numbers = any::<(u64, u64, u8, u8, [u16; 4])>();
    (numbers, any::<(u32, u32, u32)>(), matches(), instructions()).prop_map(
        |(n, ids, matches, instructions)| FlowMod {
            cookie: n.0,
            cookie_mask: n.1,
            table: TableId(n.2),
            command: FlowModCommand(n.3),
            idle_timeout: n.4[0],
            hard_timeout: n.4[1],
            priority: n.4[2],
            buffer: BufferId(ids.0),
            out_port: Port(ids.1),
            out_group: GroupId(ids.2),
            flags: FlowModFlags(n.4[3]),
            matches,
            instructions,
        },
    )
}

fn flow_stats() -> impl Strategy<Value = FlowStats> {
    flow_mod().prop_map(|flow| FlowStats {
        table: flow.table,
        duration_sec: flow.buffer.0,
        duration_nsec: flow.out_port.0,
        priority: flow.priority,
        idle_timeout: flow.idle_timeout,
        hard_timeout: flow.hard_timeout,
        flags: flow.flags,
        cookie: flow.cookie,
        packets: flow.cookie_mask,
        bytes: flow.cookie,
        matches: flow.matches,
        instructions: flow.instructions,
    })
}

fn property(kinds: std::ops::Range<u16>) -> impl Strategy<Value = Property> {
    (kinds, bytes(20)).prop_map(|(kind, value)| Property { kind, value })
}

fn tuple() -> impl Strategy<Value = CtTuple> {
    let addresses = any::<(Option<u128>, Option<u128>)>();
    let ports = any::<(Option<u16>, Option<u16>, Option<u16>, Option<u8>, Option<u8>)>();
    (addresses, ports, vec(property(7..100), 0..2)).prop_map(|((source, destination), ports, unknown)| {
        CtTuple {
            source: source.map(Ipv6Addr::from),
            destination: destination.map(Ipv6Addr::from),
            source_port: ports.0,
            destination_port: ports.1,
            icmp_id: ports.2,
            icmp_type: ports.3,
            icmp_code: ports.4,
            unknown,
        }
    })
}

fn packet_in2() -> impl Strategy<Value = PacketIn2> {
    let blobs = (option::of(bytes(40)), option::of(bytes(20)), option::of(bytes(20)));
    let numbers = any::<(Option<u32>, Option<u32>, Option<u8>, Option<u64>, Option<u8>)>();
    (blobs, numbers, option::of(matches()), vec(property(9..100), 0..3)).prop_map(
        |(blobs, n, metadata, unknown)| PacketIn2 {
            data: blobs.0,
            full_len: n.0,
            buffer: n.1.map(BufferId),
            table: n.2.map(TableId),
            cookie: n.3,
            reason: n.4.map(PacketInReason),
            metadata,
            userdata: blobs.1,
            continuation: blobs.2,
            unknown,
        },
    )
}

fn group_mod() -> impl Strategy<Value = GroupMod> {
    // What 1.5 spells differently is the subject of another test.
    let kept = |actions: Vec<Action>| {
        actions
            .into_iter()
            .filter(|action| matches!(action, Action::Output(_) | Action::Group(_) | Action::Note(_)))
            .collect()
    };
    let bucket = (
        any::<(u32, Option<u16>, Option<u32>, Option<u32>)>(),
        vec(leaf(), 0..6),
        vec(property(3..100), 0..2),
    )
        .prop_map(move |(n, actions, unknown)| Bucket {
            id: BucketId(n.0),
            actions: kept(actions),
            weight: n.1,
            watch_port: n.2.map(Port),
            watch_group: n.3.map(GroupId),
            unknown,
        });
    let selection = ("[a-z_]{0,15}", any::<u64>(), vec(with_value(known_field()), 0..4)).prop_map(
        |(method, parameter, fields)| {
            let fields = fields.into_iter().map(|(field, value, _)| (field, value.into())).collect();
            Selection { method, parameter, fields }
        },
    );
    (any::<(u16, u8, u32, u32)>(), vec(bucket, 0..4), option::of(selection), vec(property(3..100), 0..2))
        .prop_map(|(n, buckets, selection, unknown)| GroupMod {
            command: GroupModCommand(n.0),
            kind: GroupType(n.1),
            group: GroupId(n.2),
            command_bucket: BucketId(n.3),
            buckets,
            selection,
            unknown,
        })
}

fn plain_message() -> impl Strategy<Value = Message> {
    let band = any::<(u32, u32, Option<u8>)>().prop_map(|(rate, burst, precedence)| match precedence {
        None => MeterBand::Drop { rate, burst },
        Some(precedence) => MeterBand::DscpRemark { rate, burst, precedence },
    });
    let meter = (any::<(u16, u16, u32)>(), vec(band, 0..4)).prop_map(|((command, flags, meter), bands)| {
        let (command, flags, meter) = (MeterModCommand(command), MeterFlags(flags), MeterId(meter));
        Message::MeterMod(MeterMod { command, flags, meter, bands })
    });
    let out = (any::<(u32, u32)>(), vec(action(), 0..4), bytes(80)).prop_map(
        |((buffer, in_port), actions, data)| {
            let (buffer, in_port) = (BufferId(buffer), Port(in_port));
            Message::PacketOut(PacketOut { buffer, in_port, actions, data })
        },
    );
    let packet_in =
        (any::<(u32, u16, u8, u8, u64)>(), matches(), bytes(80)).prop_map(|(n, metadata, data)| {
            let (buffer, reason, table) = (BufferId(n.0), PacketInReason(n.2), TableId(n.3));
            Message::PacketIn(PacketIn { buffer, total_len: n.1, reason, table, cookie: n.4, metadata, data })
        });
    let flush =
        (any::<(u8, Option<u16>)>(), option::of(tuple()), option::of(tuple()), vec(property(3..100), 0..2))
            .prop_map(|((ip_proto, zone), original, reply, unknown)| {
                Message::CtFlush(CtFlush { ip_proto, original, reply, zone, unknown })
            });
    let group13 = (any::<(u16, u8, u32)>(), vec((any::<(u16, u32, u32)>(), vec(action(), 0..3)), 0..4))
        .prop_map(|((command, kind, group), buckets)| {
            let bucket = |((weight, port, group), actions)| Bucket13 {
                weight,
                watch_port: Port(port),
                watch_group: GroupId(group),
                actions,
            };
            let (command, kind, group) = (GroupModCommand(command), GroupType(kind), GroupId(group));
            Message::GroupMod13(GroupMod13 {
                command,
                kind,
                group,
                buckets: buckets.into_iter().map(bucket).collect(),
            })
        });
    let flows = (any::<bool>(), vec(flow_stats(), 0..4)).prop_map(|(more, flows)| {
        Message::MultipartReply(MultipartReply { more, body: ReplyBody::Flow(flows) })
    });
    let error = (any::<(u16, u16, u32)>(), bytes(64)).prop_map(|((kind, code, experimenter), data)| {
        let kind = if code % 2 == 0 { ErrorType::EXPERIMENTER } else { ErrorType(kind & 0x7fff) };
        let experimenter = Some(experimenter).filter(|_| kind == ErrorType::EXPERIMENTER);
        Message::Error(ErrorMessage { kind, code, experimenter, data })
    });
    let foreign = (any::<(u32, u32)>(), bytes(40)).prop_map(|((experimenter, subtype), body)| {
        Message::Experimenter { experimenter: experimenter | 0x8000_0000, subtype, body }
    });
    let tlv = vec(any::<(u16, u8, u8, u16)>(), 0..5).prop_map(|maps| {
        let map = |(class, kind, length, index)| TlvMap { class, kind, length, index };
        let maps = maps.into_iter().map(map).collect();
        Message::TlvTableMod(TlvTableMod { command: TlvTableCommand::ADD, maps })
    });
    let monitor =
        (any::<(u32, u16, u32, u8)>(), matches()).prop_map(|((id, flags, port, table), matches)| {
            let (flags, out_port, table) = (FlowMonitorFlags(flags), Port(port), TableId(table));
            let request = FlowMonitorRequest { id, flags, out_port, table, matches };
            Message::MultipartRequest(MultipartRequest::FlowMonitor(vec![request]))
        });
    prop_oneof![
        4 => flow_mod().prop_map(Message::FlowMod),
        1 => out,
        1 => packet_in,
        1 => packet_in2().prop_map(Message::PacketIn2),
        1 => packet_in2().prop_map(Message::Resume),
        1 => flush,
        1 => group13,
        1 => group_mod().prop_map(Message::GroupMod),
        1 => flows,
        1 => meter,
        1 => error,
        1 => foreign,
        1 => tlv,
        1 => monitor,
        1 => vec(any::<u32>(), 0..3).prop_map(|words| Message::Hello(Hello { versions: Some(words), ..Hello::default() })),
        1 => bytes(30).prop_map(Message::EchoRequest),
        1 => (35u8.., bytes(30)).prop_map(|(kind, body)| Message::Unknown { kind: Kind(kind), body }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (plain_message(), option::weighted(0.2, any::<(u32, u16)>())).prop_map(|(message, bundle)| match bundle {
        None => message,
        Some((bundle, flags)) => {
            Message::BundleAdd(BundleAdd { bundle, flags: BundleFlags(flags), message: Box::new(message) })
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(message in message(), xid: u32) {
        let bytes = message.encode(xid).unwrap();
        let (header, back) = Message::decode(&bytes).unwrap();
        prop_assert_eq!(usize::from(header.length), bytes.len());
        prop_assert_eq!((header.xid, header.version), (xid, message.version()));
        prop_assert_eq!(&back, &message);
        prop_assert_eq!(back.encode(xid).unwrap(), bytes);
    }

    #[test]
    fn actions_keep_every_byte(bodies in vec((any::<u8>(), 0u16..60, bytes(40)), 1..4)) {
        // Well-formed headers around anything: the actions may be known, unknown or nonsense.
        let mut actions = Vec::new();
        for (kind, subtype, body) in bodies {
            let nicira = [&[0xff, 0xff, 0, 0, 0, 0, 0x23, 0x20][..], &subtype.to_be_bytes()].concat();
            let head = if kind & 1 == 0 { nicira } else { vec![0, kind % 32, 0, 0] };
            let mut raw = [head.as_slice(), &body].concat();
            raw.resize(raw.len().next_multiple_of(8).max(16), 0);
            let length = u16::try_from(raw.len()).unwrap();
            raw[2..4].copy_from_slice(&length.to_be_bytes());
            actions.extend(raw);
        }
        let length = u16::try_from(actions.len()).unwrap();
        let head = [&[0u8; 8][..], &length.to_be_bytes(), &[0; 6]].concat();
        let body = [head.as_slice(), &actions].concat();
        let total = u16::try_from(body.len() + 8).unwrap();
        let bytes = [&[4, 13][..], &total.to_be_bytes(), &[0, 0, 0, 1], &body].concat();
        let (_, message) = Message::decode(&bytes).unwrap();
        prop_assert_eq!(message.encode(1).unwrap(), bytes);
    }

    #[test]
    fn no_bytes_make_it_panic(version in 0u8..8, kind in 0u8..40, body in vec(any::<u8>(), 0..200)) {
        let length = u16::try_from(body.len() + 8).unwrap();
        let bytes = [&[version, kind][..], &length.to_be_bytes(), &[0, 0, 0, 1], &body].concat();
        if let Ok((_, message)) = Message::decode(&bytes) {
            drop(format!("{message:?}"));
        }
    }

    #[test]
    fn no_damage_makes_it_panic(message in message(), cut in 0usize..300, hits in vec((any::<usize>(), any::<u8>()), 0..6)) {
        let mut bytes = message.encode(1).unwrap();
        bytes.truncate(bytes.len().saturating_sub(cut).max(8));
        for (at, value) in hits {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let length = u16::try_from(bytes.len()).unwrap();
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        if let Ok((header, message)) = Message::decode(&bytes)
            && let Ok(again) = message.encode_as(header.version, header.xid)
        {
            let back = Message::decode(&again).unwrap().1;
            prop_assert_eq!(&back, &message);
        }
    }

    #[test]
    fn printing_never_fails(flow in flow_mod(), group in group_mod()) {
        let text = flow.to_string();
        prop_assert!(text.contains("actions="));
        prop_assert!(group.to_string().starts_with("group_id="));
    }

    #[test]
    fn a_match_does_not_depend_on_the_order(fields in vec(with_value(known_field()), 0..6)) {
        // Conditions on different fields commute; registers overlap and are left out.
        let name = |field: &Field| field.name().unwrap_or_default();
        let mut seen = std::collections::BTreeSet::new();
        let fields: Vec<_> = fields
            .into_iter()
            .filter(|(field, ..)| !name(field).contains("reg") && !name(field).contains("vlan"))
            .filter(|(field, ..)| !matches!(*field, field::NXM_IP_TOS | field::IP_DSCP | field::NXM_IN_PORT))
            .filter(|(field, ..)| seen.insert(name(field)))
            .collect();
        let build = |fields: &[Condition]| {
            fields.iter().fold(Match::new(), |all, (field, value, mask)| all.with_bytes(*field, value, mask.as_deref()))
        };
        let mut reversed = fields.clone();
        reversed.reverse();
        prop_assert_eq!(build(&fields), build(&reversed));
    }
}

#[test]
fn nesting_is_limited_and_not_by_the_stack() {
    let clone = |depth: usize| (0..depth).fold(Action::Exit, |inner, _| Action::Clone(vec![inner]));
    let message = |depth| Message::PacketOut(PacketOut::new(vec![clone(depth)], Vec::new()));
    let shallow = message(16).encode(1).unwrap();
    assert_eq!(Message::decode(&shallow).unwrap().1, message(16));
    let deep = message(3000).encode(1).unwrap();
    assert!(matches!(Message::decode(&deep), Err(DecodeError::Nesting { .. })));
}

#[test]
fn what_does_not_fit_is_refused() {
    let buckets = (0..2000).map(|id| Bucket::new(id, vec![Action::output(Port(1)); 3])).collect();
    let group = GroupMod::new(GroupModCommand::ADD, GroupType::SELECT, 1, buckets);
    assert!(matches!(Message::GroupMod(group.clone()).encode(1), Err(EncodeError::TooLong { .. })));
    let over_1_3 = Message::GroupMod(GroupMod { buckets: vec![], ..group }).encode_as(Version::V1_3, 1);
    assert!(matches!(over_1_3, Err(EncodeError::NotExpressible { .. })));
}

#[test]
fn registers_are_one_condition_however_they_are_named() {
    let halves = Match::new().reg(0, 1).reg(1, 2);
    assert_eq!(halves, Match::new().with(field::XREG0, 0x0000_0001_0000_0002u64));
    assert_eq!(
        halves.clone().reg(2, 0).reg(3, 0),
        Match::new().with(field::XXREG0, 1u128 << 96 | 2u128 << 64)
    );
    assert_eq!(halves.clone().with(field::REG1, 3).get(field::REG1), Some((3, 0xffff_ffff)));
    assert_eq!(Match::new().with_bits(field::REG0.range(4, 4), 5), Match::new().reg_masked(0, 0x50, 0xf0));
    assert_eq!(halves.without(field::REG1), Match::new().reg(0, 1));
    assert_eq!(Match::new().with(field::PACKET_TYPE, 0), Match::new());
}
