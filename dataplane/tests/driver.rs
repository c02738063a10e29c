//! The driver against a model of ovs-vswitchd that refuses, forgets and hangs up at random.
#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ofpacket::{
    Action, BundleControl, BundleControlType, CtState, ErrorMessage, ErrorType, FlowMod, FlowModCommand,
    FlowStats, Framer, Hello, Instruction, Match, Message, MeterConfig, MeterFeatures, MeterMod,
    MeterModCommand, MultipartReply, MultipartRequest, PacketIn2, Port, ReplyBody, TlvMap, TlvTableReply,
    Version, field,
};
use proptest::prelude::*;
use quantumnet_dataplane::{
    compile::{DesiredFlow, FlowDelta, FlowKey, FlowValue, MeterSpec},
    switch::{Abilities, Driver, Input, Limits, Output},
};

type Flow = (u64, Vec<Action>);

/// A switch.
#[derive(Default)]
struct Model {
    framer: Framer,
    flows: BTreeMap<(u8, u16, Match), Flow>,
    meters: BTreeMap<u32, MeterMod>,
    bundle: Vec<(u32, FlowMod)>,
    slots: Vec<TlvMap>,
    /// Flow-mods from now on of which every so-manieth is refused; 0 for none.
    refuse_every: u32,
    refuse_count: u32,
    /// No meter can be had.
    no_meters: bool,
    /// It holds its sockets open and does nothing.
    hangs: bool,
    /// Priorities that are always refused.
    poison: Option<u16>,
    /// How it tracks SCTP.
    sctp: Sctp,
    writes: usize,
    wholesale: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Sctp {
    #[default]
    ByPort,
    ByAddress,
    /// What is sent through it does not come back.
    Silent,
    /// It has no connection tracking.
    Refused,
}

fn reply(message: Message, xid: u32) -> Vec<u8> {
    message.encode_as(Version::V1_3, xid).unwrap()
}

fn refusal(kind: ErrorType, code: u16) -> Message {
    Message::Error(ErrorMessage { kind, code, experimenter: None, data: Box::default() })
}

impl Model {
    fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.framer.push(bytes);
        let mut out = Vec::new();
        while let Some(bytes) = self.framer.next_message().unwrap().map(<[u8]>::to_vec) {
            let (header, message) = Message::decode(&bytes).unwrap();
            for answer in self.message(header.xid, message) {
                out.extend(reply(answer, header.xid));
            }
        }
        out
    }

    fn message(&mut self, xid: u32, message: Message) -> Vec<Message> {
        match message {
            Message::Hello(_) => vec![Message::Hello(Hello::new(&[Version::V1_3]))],
            Message::TlvTableRequest => vec![Message::TlvTableReply(TlvTableReply {
                max_option_space: 256,
                max_fields: 64,
                maps: self.slots.clone(),
            })],
            Message::TlvTableMod(change) => {
                self.slots.extend(change.maps);
                vec![]
            }
            Message::BarrierRequest => vec![Message::BarrierReply],
            Message::EchoRequest(data) => vec![Message::EchoReply(data)],
            Message::MultipartRequest(request) => self.multipart(&request),
            Message::MeterMod(change) => self.meter(change),
            Message::BundleControl(control) => self.control(control),
            Message::BundleAdd(add) => {
                let Message::FlowMod(flow) = *add.message else { panic!("only flows are in bundles") };
                self.bundle.push((xid, flow));
                vec![]
            }
            Message::SetConfig(_) | Message::SetPacketInFormat(_) | Message::SetAsync(_) => vec![],
            Message::PacketOut(packet) => self.packet(&packet),
            // What the driver tries to learn what the datapath can do; everything else comes in bundles.
            Message::FlowMod(flow) if flow.table.0 == 253 => vec![],
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Only the second packet of the question comes back.
    fn packet(&self, packet: &ofpacket::PacketOut) -> Vec<Message> {
        let [Action::Ct(ct)] = &packet.actions[..] else { panic!("unexpected {packet:?}") };
        let state = match self.sctp {
            Sctp::Silent => return vec![],
            Sctp::Refused => return vec![refusal(ErrorType::BAD_ACTION, 0)],
            _ if ct.table.is_none() => return vec![],
            Sctp::ByPort => CtState::TRK | CtState::NEW,
            Sctp::ByAddress => CtState::TRK | CtState::EST | CtState::RPL,
        };
        vec![Message::PacketIn2(PacketIn2 {
            metadata: Some(Match::new().ct_state(state, CtState::NONE)),
            userdata: Some(Box::from(*b"sctp")),
            ..PacketIn2::default()
        })]
    }

    fn multipart(&self, request: &MultipartRequest) -> Vec<Message> {
        let bodies = match request {
            MultipartRequest::MeterFeatures => vec![ReplyBody::MeterFeatures(MeterFeatures {
                max_meters: 100,
                band_types: 2,
                capabilities: 15,
                max_bands: 1,
                max_color: 0,
            })],
            MultipartRequest::Table => vec![ReplyBody::Table(Vec::new())],
            MultipartRequest::GroupDesc13 => vec![ReplyBody::GroupDesc13(Vec::new())],
            MultipartRequest::MeterConfig(_) => {
                let config = |meter: &MeterMod| MeterConfig {
                    flags: meter.flags,
                    meter: meter.meter,
                    bands: meter.bands.clone(),
                };
                vec![ReplyBody::MeterConfig(self.meters.values().map(config).collect())]
            }
            MultipartRequest::Flow(_) => {
                let flow =
                    |((table, priority, matches), (cookie, actions)): (&(u8, u16, Match), &Flow)| FlowStats {
                        table: (*table).into(),
                        duration_sec: 0,
                        duration_nsec: 0,
                        priority: *priority,
                        idle_timeout: 0,
                        hard_timeout: 0,
                        flags: ofpacket::FlowModFlags::NONE,
                        cookie: *cookie,
                        packets: 0,
                        bytes: 0,
                        matches: matches.clone(),
                        instructions: if actions.is_empty() {
                            vec![]
                        } else {
                            vec![Instruction::ApplyActions(actions.clone())]
                        },
                    };
                let all: Vec<FlowStats> = self.flows.iter().map(flow).collect();
                all.chunks(3)
                    .map(|part| ReplyBody::Flow(part.to_vec()))
                    .chain([ReplyBody::Flow(vec![])])
                    .collect()
            }
            other => panic!("unexpected {other:?}"),
        };
        let last = bodies.len() - 1;
        let part = |(at, body)| Message::MultipartReply(MultipartReply { more: at != last, body });
        bodies.into_iter().enumerate().map(part).collect()
    }

    fn meter(&mut self, change: MeterMod) -> Vec<Message> {
        let exists = self.meters.contains_key(&change.meter.0);
        match change.command {
            MeterModCommand::ADD if self.no_meters => return vec![refusal(ErrorType::METER_MOD_FAILED, 11)],
            MeterModCommand::ADD if exists => return vec![refusal(ErrorType::METER_MOD_FAILED, 1)],
            MeterModCommand::MODIFY if !exists => return vec![refusal(ErrorType::METER_MOD_FAILED, 2)],
            MeterModCommand::DELETE => drop(self.meters.remove(&change.meter.0)),
            _ => drop(self.meters.insert(change.meter.0, change)),
        }
        vec![]
    }

    /// Like ovs-vswitchd: the errors carry the numbers of the additions, so a commit writes them itself.
    fn control(&mut self, control: BundleControl) -> Vec<Message> {
        let answer = |kind| vec![Message::BundleControl(BundleControl { kind, ..control.clone() })];
        match control.kind {
            BundleControlType::OPEN_REQUEST => {
                self.bundle.clear();
                answer(BundleControlType::OPEN_REPLY)
            }
            BundleControlType::COMMIT_REQUEST => {
                for (_, flow) in &self.bundle {
                    self.refuse_count += 1;
                    let unlucky =
                        self.refuse_every > 0 && self.refuse_count.is_multiple_of(self.refuse_every);
                    if unlucky || self.poison == Some(flow.priority) {
                        return vec![refusal(ErrorType::BUNDLE_FAILED, 15)];
                    }
                }
                for (_, flow) in std::mem::take(&mut self.bundle) {
                    self.writes += 1;
                    let key = (flow.table.0, flow.priority, flow.matches);
                    match flow.command {
                        FlowModCommand::ADD => {
                            let actions = flow.instructions.into_iter().flat_map(|instruction| {
                                if let Instruction::ApplyActions(actions) = instruction {
                                    actions
                                } else {
                                    vec![]
                                }
                            });
                            self.flows.insert(key, (flow.cookie, actions.collect()));
                        }
                        FlowModCommand::DELETE_STRICT => drop(self.flows.remove(&key)),
                        _ => self.wholesale = true,
                    }
                }
                answer(BundleControlType::COMMIT_REPLY)
            }
            _ => panic!("unexpected {control:?}"),
        }
    }

    /// The number of the first flow that is poison, as ovs-vswitchd tells it.
    fn poisoned(&self, bytes: &[u8]) -> Option<u32> {
        let mut framer = Framer::new();
        framer.push(bytes);
        let mut found = None;
        while let Some(message) = framer.next_message().unwrap() {
            if let (header, Message::BundleAdd(add)) = Message::decode(message).unwrap()
                && let Message::FlowMod(flow) = *add.message
                && self.poison == Some(flow.priority)
            {
                found = found.or(Some(header.xid));
            }
        }
        found
    }
}

/// Driver and switch with the wire between them.
struct World {
    driver: Driver,
    model: Model,
    now: Instant,
    connected: bool,
    applied: Vec<u64>,
    ups: Vec<Abilities>,
    given_up: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self {
            driver: Driver::new(Limits::default()),
            model: Model::default(),
            now: Instant::now(),
            connected: false,
            applied: Vec::new(),
            ups: Vec::new(),
            given_up: Vec::new(),
        }
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.driver.handle(self.now, input) {
                match output {
                    Output::Send(bytes) if self.connected && !self.model.hangs => {
                        let mut answers = Vec::new();
                        if let Some(xid) = self.model.poisoned(&bytes) {
                            answers.extend(reply(refusal(ErrorType::BAD_ACTION, 4), xid));
                        }
                        answers.extend(self.model.receive(&bytes));
                        inputs.insert(0, Input::Received(answers));
                    }
                    Output::Applied(tag) => self.applied.push(tag),
                    Output::Up(abilities) => self.ups.push(abilities),
                    Output::Close(error) if self.model.hangs => self.given_up.push(error.to_string()),
                    Output::Close(error) => panic!("{error}"),
                    _ => {}
                }
            }
        }
    }

    fn connect(&mut self) {
        self.disconnect();
        self.connected = true;
        self.model.framer = Framer::new();
        self.input(Input::Connected);
    }

    fn disconnect(&mut self) {
        if self.connected {
            self.connected = false;
            self.input(Input::Disconnected);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.driver.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Timeout);
        }
        self.now = end;
    }
}

fn key(number: u16) -> Arc<FlowKey> {
    let matches = Match::new().with(field::METADATA, u64::from(number));
    Arc::new(FlowKey { table: (number % 3) as u8, priority: 100 + number, matches })
}

fn value(number: u32) -> FlowValue {
    FlowValue { cookie: number.into(), actions: [Action::output(Port(number))].into() }
}

fn put(number: u16, to: u32) -> FlowDelta {
    FlowDelta { put: vec![DesiredFlow { key: key(number), value: value(to) }], ..FlowDelta::default() }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u16, u32),
    Delete(u16),
    Meter(u32, u32),
    DropMeter(u32),
    Reconnect,
    Disconnect,
    /// ovs-vswitchd starts anew: its tables are empty.
    Restart,
    /// Somebody else writes a flow.
    Foreign(u16, u32),
    RefuseEvery(u32),
    Pass(u64),
    Complete,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12u16, 1..4u32).prop_map(|(key, to)| Step::Put(key, to)),
        3 => (0..12u16).prop_map(Step::Delete),
        1 => (1..4u32, 1..3u32).prop_map(|(meter, rate)| Step::Meter(meter, rate)),
        1 => (1..4u32).prop_map(Step::DropMeter),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Restart),
        1 => (0..16u16, 5..8u32).prop_map(|(key, to)| Step::Foreign(key, to)),
        1 => (2..5u32).prop_map(Step::RefuseEvery),
        2 => (1..5_000u64).prop_map(Step::Pass),
        1 => Just(Step::Complete),
    ]
}

proptest! {
    #[test]
    fn what_is_installed_becomes_what_is_desired(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        let mut flows: BTreeMap<u16, u32> = BTreeMap::new();
        let mut meters: BTreeMap<u32, u32> = BTreeMap::new();
        let mut tag = 0;
        let mut complete = false;
        for step in steps {
            let mut delta = FlowDelta::default();
            match step {
                Step::Put(number, to) => {
                    flows.insert(number, to);
                    delta = put(number, to);
                }
                Step::Delete(number) => {
                    if flows.remove(&number).is_some() {
                        delta.delete.push(key(number));
                    }
                }
                Step::Meter(number, rate) => {
                    meters.insert(number, rate);
                    delta.meters_put.push((number, MeterSpec::packets(rate, rate)));
                }
                Step::DropMeter(number) => {
                    if meters.remove(&number).is_some() {
                        delta.meters_delete.push(number);
                    }
                }
                Step::Reconnect => world.connect(),
                Step::Disconnect => world.disconnect(),
                Step::Restart => {
                    world.disconnect();
                    let poison = world.model.poison;
                    world.model = Model { poison, wholesale: world.model.wholesale, ..Model::default() };
                    world.connect();
                }
                Step::Foreign(number, to) => {
                    let key = key(number);
                    let value = value(to);
                    let key = (key.table, key.priority, key.matches.clone());
                    world.model.flows.insert(key, (value.cookie, value.actions.to_vec()));
                }
                Step::RefuseEvery(every) => world.model.refuse_every = every,
                Step::Pass(ms) => world.pass(Duration::from_millis(ms)),
                Step::Complete => {
                    complete = true;
                    world.input(Input::Complete);
                }
            }
            if !complete {
                prop_assert_eq!(world.model.writes, 0, "nothing is written before the table is complete");
            }
            tag += 1;
            world.input(Input::Delta { delta, tag });
        }
        // Peace at last.
        world.model.refuse_every = 0;
        world.input(Input::Complete);
        world.connect();
        world.pass(Duration::from_secs(600));
        tag += 1;
        world.input(Input::Delta { delta: FlowDelta::default(), tag });

        let desired: BTreeMap<_, _> = flows.iter().map(|(number, to)| {
            let (key, value) = (key(*number), value(*to));
            ((key.table, key.priority, key.matches.clone()), (value.cookie, value.actions.to_vec()))
        }).collect();
        prop_assert_eq!(&world.model.flows, &desired);
        prop_assert_eq!(world.model.meters.keys().collect::<Vec<_>>(), meters.keys().collect::<Vec<_>>());
        prop_assert!(!world.model.wholesale, "flows are deleted one by one");
        prop_assert!(world.applied.is_sorted(), "tags never go back: {:?}", world.applied);
        prop_assert_eq!(world.applied.last(), Some(&tag));
        prop_assert_eq!(world.driver.outstanding(), 0);
    }
}

#[test]
fn right_flows_are_left_alone_and_wrong_ones_replaced() {
    let mut world = World::new();
    let insert = |model: &mut Model, number: u16, to: u32| {
        let (key, value) = (key(number), value(to));
        model
            .flows
            .insert((key.table, key.priority, key.matches.clone()), (value.cookie, value.actions.to_vec()));
    };
    for (number, to) in [(1, 1), (2, 9), (4, 1)] {
        insert(&mut world.model, number, to);
    }
    world.connect();
    for (tag, number) in [(1, 1), (2, 2), (3, 3)] {
        world.input(Input::Delta { delta: put(number, 1), tag });
    }
    assert_eq!((world.ups.len(), world.model.writes), (1, 0));
    world.input(Input::Complete);
    assert_eq!(world.model.writes, 3, "one is changed, one added, one deleted; one is right");
    assert_eq!(world.applied, [3]);
    assert_eq!(world.driver.stats().drift, 0);

    // Later somebody meddles: found by the slow check.
    insert(&mut world.model, 3, 7);
    world.pass(Duration::from_secs(300));
    assert_eq!((world.model.writes, world.driver.stats().drift), (4, 1));
}

#[test]
fn a_refused_flow_does_not_keep_the_others_back() {
    let mut world = World::new();
    world.model.poison = Some(key(5).priority);
    world.connect();
    world.input(Input::Complete);
    for (tag, number) in [(1, 4), (2, 5), (3, 6)] {
        world.input(Input::Delta { delta: put(number, 1), tag });
    }
    world.pass(Duration::from_secs(5));
    assert_eq!((world.model.flows.len(), world.driver.refused()), (2, 1));
    assert_eq!(world.applied.last(), Some(&3));
    world.model.poison = None;
    world.pass(Duration::from_secs(120));
    assert_eq!((world.model.flows.len(), world.driver.refused()), (3, 0));
}

#[test]
fn a_meter_that_cannot_be_had_does_not_keep_the_flows_back() {
    let mut world = World::new();
    world.model.no_meters = true;
    world.connect();
    world.input(Input::Complete);
    let meters_put = vec![(1, MeterSpec::packets(1, 1))];
    world.input(Input::Delta { delta: FlowDelta { meters_put, ..put(1, 1) }, tag: 1 });
    world.pass(Duration::from_secs(5));
    assert_eq!((world.model.flows.len(), world.driver.refused()), (1, 1));
    assert_eq!(world.applied.last(), Some(&1));
    world.model.no_meters = false;
    world.pass(Duration::from_secs(120));
    assert_eq!((world.model.meters.len(), world.driver.refused()), (1, 0));
}

#[test]
fn a_switch_that_hangs_is_left_and_found_again() {
    let mut world = World::new();
    world.connect();
    world.input(Input::Complete);
    world.input(Input::Delta { delta: put(1, 1), tag: 1 });
    world.pass(Duration::from_secs(60));
    assert!(world.driver.is_up(), "echoes are answered");
    world.model.hangs = true;
    world.input(Input::Delta { delta: put(2, 1), tag: 2 });
    world.pass(Duration::from_secs(14));
    assert!(world.driver.is_up(), "it may only be busy");
    world.pass(Duration::from_secs(2));
    assert_eq!(
        (world.driver.is_up(), world.given_up.as_slice()),
        (false, &["no answer for 15 s".to_owned()][..])
    );
    assert_eq!(world.driver.poll_timeout(), None);

    // One that has much to do is given more time.
    world.model.hangs = false;
    world.connect();
    world.model.hangs = true;
    let flows = (100..20_100).map(|number| DesiredFlow { key: key(number), value: value(1) });
    world.input(Input::Delta { delta: FlowDelta { put: flows.collect(), ..FlowDelta::default() }, tag: 3 });
    world.pass(Duration::from_secs(30));
    assert!(world.driver.is_up());
    world.pass(Duration::from_secs(10));
    assert!(!world.driver.is_up());

    // One that hangs before its hello.
    world.connect();
    world.pass(Duration::from_secs(6));
    assert_eq!(world.given_up.last().map(String::as_str), Some("no answer for 5 s"));

    world.model.hangs = false;
    world.connect();
    assert_eq!((world.model.flows.len(), world.applied.as_slice()), (20_002, &[0, 1, 2, 3][..]));
}

#[test]
fn a_switch_is_asked_how_it_tracks_sctp() {
    for (sctp, able) in
        [(Sctp::ByPort, true), (Sctp::ByAddress, false), (Sctp::Silent, false), (Sctp::Refused, false)]
    {
        let mut world = World::new();
        world.model.sctp = sctp;
        world.connect();
        assert_eq!(world.ups.is_empty(), matches!(sctp, Sctp::Silent), "{sctp:?}: the answer is waited for");
        world.pass(Duration::from_secs(5));
        assert_eq!(world.ups.iter().map(|up| up.sctp_ports).collect::<Vec<_>>(), [able], "{sctp:?}");
        world.connect();
        world.pass(Duration::from_secs(5));
        assert_eq!(world.ups.len(), 2, "{sctp:?}: asked again");
    }
}
