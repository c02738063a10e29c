//! Rows that northbound clients make: port types, tags, learned MACs, and random histories of all of them.

#![allow(clippy::unwrap_used)] // in helpers of tests too: a panic is the test's failure

use std::collections::{BTreeMap, BTreeSet};

use imbl::{OrdMap, OrdSet};
use proptest::prelude::*;
use quantumnet_controller::{
    lower::{self, binding},
    store::{Context, State, Txn, evaluate},
};
use quantumnet_model::{
    Row, Strong, Uuid, Weak,
    column::Text,
    intent::{Lookup, Pool, Problem},
    nb::{self, LogicalSwitch, LogicalSwitchPort, NbGlobal},
    sb::{
        AddressSet, Chassis, ChassisInterface, DatapathBinding, Dns, Encap, Fdb, HaChassisGroup, PortBinding,
        PortGroup,
    },
};

struct Store {
    state: State,
    now_ms: i64,
}

impl Store {
    fn new() -> Self {
        let mut store = Self { state: State::default(), now_ms: 1_000_000 };
        store.run(|txn| {
            let options = pairs(&[("mac_prefix", "0a:bc:de")]);
            txn.put(Uuid::from_u128(1), NbGlobal { options, ..NbGlobal::default() });
            for number in 0..2 {
                let row = LogicalSwitch { name: format!("sw{number}").into(), ..LogicalSwitch::default() };
                txn.put(switch(number), row);
            }
        });
        store
    }

    fn run(&mut self, request: impl FnOnce(&mut Txn<'_>)) {
        let context = Context { now_ms: self.now_ms, principal: "test".into() };
        let request = |txn: &mut Txn<'_>| {
            request(txn);
            Ok(())
        };
        self.state = evaluate(&self.state, &context, request, &lower::run).unwrap().state;
        assert!(self.state.check());
    }

    fn binding(&self, number: u8) -> &PortBinding {
        self.state.get(port(number)).unwrap()
    }

    fn holder(&self, number: u8) -> Option<Uuid> {
        self.binding(number).chassis.map(|chassis| chassis.uuid())
    }

    fn errors(&self) -> Vec<String> {
        let errors = self.state.iter::<Problem>().filter(|(_, row)| &*row.severity == "error");
        errors.map(|(_, row)| format!("{}: {}", row.column, row.message)).collect()
    }
}

fn id(kind: u128, number: u8) -> Uuid {
    Uuid::from_u128((kind << 64) | u128::from(number))
}

fn switch(number: u8) -> Uuid {
    id(2, number)
}

fn port(number: u8) -> Uuid {
    id(3, number)
}

fn hv(number: u8) -> Uuid {
    id(4, number)
}

fn pairs(pairs: &[(&str, &str)]) -> OrdMap<Text, Text> {
    pairs.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect()
}

fn chassis(txn: &mut Txn<'_>, number: u8) {
    let (ip, encap) = (format!("192.0.2.{number}"), id(5, number));
    txn.put(encap, Encap { r#type: "geneve".into(), ip: ip.into(), ..Encap::default() });
    let row = Chassis {
        name: format!("hv{number}").into(),
        encaps: OrdSet::unit(Strong::new(encap)),
        ..Chassis::default()
    };
    txn.put(hv(number), row);
}

fn unregister(txn: &mut Txn<'_>, number: u8) {
    let interfaces: Vec<Uuid> =
        txn.referrers_through::<Chassis, ChassisInterface>(hv(number), "chassis").collect();
    for interface in interfaces {
        txn.delete::<ChassisInterface>(interface);
    }
    txn.delete::<Chassis>(hv(number));
}

fn plug(txn: &mut Txn<'_>, number: u8, place: u8) {
    let row = ChassisInterface {
        chassis: Strong::new(hv(place)),
        iface_id: format!("p{number}").into(),
        claim: i64::try_from(txn.next_revision()).unwrap(),
        claimed_at: txn.now_ms(),
        ..ChassisInterface::default()
    };
    txn.put(id(6 + u128::from(place), number), row);
}

fn add(txn: &mut Txn<'_>, number: u8, place: u8, row: LogicalSwitchPort) {
    if txn.get::<LogicalSwitchPort>(port(number)).is_some() {
        return;
    }
    txn.insert(port(number), LogicalSwitchPort { name: format!("p{number}").into(), ..row }).unwrap();
    txn.update::<LogicalSwitch>(switch(place), |row| _ = row.ports.insert(Strong::new(port(number))));
}

fn remove(txn: &mut Txn<'_>, number: u8) {
    for place in 0..2 {
        let listed = Strong::new(port(number));
        if txn.get::<LogicalSwitch>(switch(place)).is_some_and(|row| row.ports.contains(&listed)) {
            txn.update::<LogicalSwitch>(switch(place), |row| _ = row.ports.remove(&listed));
        }
    }
}

fn typed(r#type: &str, options: &[(&str, &str)]) -> LogicalSwitchPort {
    LogicalSwitchPort { r#type: r#type.into(), options: pairs(options), ..LogicalSwitchPort::default() }
}

/// A group of hv0 and hv1, which is preferred.
fn group(txn: &mut Txn<'_>) -> Strong<nb::HaChassisGroup> {
    let members = [(0, 10), (1, 20)];
    for (number, priority) in members {
        let row = nb::HaChassis {
            chassis_name: format!("hv{number}").into(),
            priority,
            ..nb::HaChassis::default()
        };
        txn.put(id(11, number), row);
    }
    let ha_chassis = members.iter().map(|(number, _)| Strong::new(id(11, *number))).collect();
    txn.put(id(10, 0), nb::HaChassisGroup { name: "g".into(), ha_chassis, ..nb::HaChassisGroup::default() });
    Strong::new(id(10, 0))
}

#[test]
fn an_external_port_is_held_by_the_preferred_chassis_that_is_registered() {
    let mut store = Store::new();
    store.run(|txn| add(txn, 1, 0, typed("external", &[])));
    assert_eq!(store.errors(), ["ha_chassis_group: a port of type external needs one"]);
    store.run(|txn| {
        let group = group(txn);
        txn.update::<LogicalSwitchPort>(port(1), |row| row.ha_chassis_group = Some(group));
    });
    assert!(store.errors().is_empty());
    assert_eq!(store.holder(1), None);
    store.run(|txn| chassis(txn, 0));
    assert_eq!(store.holder(1), Some(hv(0)));
    store.run(|txn| chassis(txn, 1));
    assert_eq!((store.holder(1), store.binding(1).up), (Some(hv(1)), Some(false)));
    store.run(|txn| _ = txn.update::<PortBinding>(port(1), |row| row.up = Some(true)));
    assert_eq!(store.state.get::<LogicalSwitchPort>(port(1)).unwrap().up, Some(true));
    let members = store.state.get::<HaChassisGroup>(id(10, 0)).unwrap().ha_chassis.len();
    assert_eq!(members, 2);
    store.run(|txn| _ = txn.update::<nb::HaChassis>(id(11, 0), |row| row.priority = 30));
    assert_eq!((store.holder(1), store.binding(1).up), (Some(hv(0)), Some(false)));
    store.run(|txn| unregister(txn, 0));
    assert_eq!(store.holder(1), Some(hv(1)));
    // Made a plain VIF, it is nobody's until an interface claims it.
    store.run(|txn| _ = txn.update::<LogicalSwitchPort>(port(1), |row| row.r#type = "".into()));
    assert_eq!((store.holder(1), store.binding(1).ha_chassis_group), (None, None));
}

#[test]
fn a_virtual_port_is_where_the_parent_is_that_has_its_address() {
    let mut store = Store::new();
    store.run(|txn| {
        (0..2).for_each(|number| chassis(txn, number));
        (1..4).for_each(|number| add(txn, number, 0, LogicalSwitchPort::default()));
        (1..4).for_each(|number| plug(txn, number, number % 2));
        add(txn, 9, 0, typed("virtual", &[("virtual-ip", "10.0.0.9"), ("virtual-parents", "p1, p2")]));
    });
    assert_eq!(store.holder(9), None);
    let claim = |store: &mut Store, parent: &str| {
        let parent = parent.into();
        store.run(|txn| _ = txn.update::<PortBinding>(port(9), |row| row.virtual_parent = Some(parent)));
    };
    claim(&mut store, "p1");
    assert_eq!(store.holder(9), Some(hv(1)));
    claim(&mut store, "p2");
    assert_eq!(store.holder(9), Some(hv(0)));
    // Its parent moves, and it with it; goes, and it is nowhere.
    store.run(|txn| plug(txn, 2, 1));
    assert_eq!(store.holder(9), Some(hv(1)));
    store.run(|txn| remove(txn, 2));
    assert_eq!((store.holder(9), store.binding(9).virtual_parent.clone()), (None, None));
    // Not every port may be it.
    claim(&mut store, "p3");
    assert_eq!((store.holder(9), store.binding(9).virtual_parent.clone()), (None, None));
    store.run(|txn| {
        let options = pairs(&[("virtual-ip", "10.0.0"), ("virtual-parents", " ")]);
        txn.update::<LogicalSwitchPort>(port(9), |row| row.options = options);
    });
    assert_eq!(
        store.errors(),
        [
            "options: a port of type virtual needs virtual-parents; virtual-ip is \"10.0.0\", expected an IP address"
        ]
    );
}

#[test]
fn a_gateway_is_where_it_says_and_others_are_nowhere() {
    let mut store = Store::new();
    store.run(|txn| {
        let options = [("network_name", "physnet1"), ("l2gateway-chassis", "hv1")];
        add(txn, 1, 0, typed("l2gateway", &options));
        add(txn, 2, 0, typed("localnet", &[]));
        add(txn, 3, 0, typed("vtep", &[]));
        add(txn, 4, 0, LogicalSwitchPort::default());
    });
    assert_eq!(store.holder(1), None);
    store.run(|txn| {
        chassis(txn, 1);
        plug(txn, 4, 1);
    });
    assert_eq!((store.holder(1), store.holder(4)), (Some(hv(1)), Some(hv(1))));
    let mut errors = store.errors();
    errors.sort_unstable();
    assert_eq!(
        errors,
        [
            "options: a port of type localnet needs network_name",
            "type: nothing acts on ports of type vtep yet"
        ]
    );
    store.run(|txn| _ = txn.update::<LogicalSwitchPort>(port(4), |row| row.r#type = "localport".into()));
    assert_eq!((store.holder(4), store.binding(4).up), (None, Some(false)));
}

#[test]
fn a_tag_is_the_one_asked_for_or_the_lowest_that_is_free() {
    let mut store = Store::new();
    let nested = |tag_request| LogicalSwitchPort {
        parent_name: Some("p0".into()),
        tag_request: Some(tag_request),
        ..LogicalSwitchPort::default()
    };
    let tag = |store: &Store, number| store.state.get::<LogicalSwitchPort>(port(number)).unwrap().tag;
    store.run(|txn| {
        add(txn, 1, 0, nested(2));
        add(txn, 2, 0, nested(0));
        add(txn, 3, 0, nested(0));
    });
    assert_eq!([1, 2, 3].map(|number| tag(&store, number)), [Some(2), Some(1), Some(3)]);
    store.run(|txn| add(txn, 4, 0, nested(3)));
    assert_eq!((tag(&store, 4), store.binding(4).tag), (None, None));
    assert_eq!(store.errors(), ["tag_request: tag 3 is in use below p0; the port has no effect"]);
    // Given back, it is given again at once.
    store.run(|txn| remove(txn, 2));
    store.run(|txn| add(txn, 5, 0, nested(0)));
    assert_eq!(tag(&store, 5), Some(1));
    // Where nothing is nested the request is met as it is; one of 0 is for no tag.
    store.run(|txn| {
        let localnet = typed("localnet", &[("network_name", "physnet1")]);
        add(txn, 6, 0, LogicalSwitchPort { tag_request: Some(100), ..localnet.clone() });
        add(txn, 7, 0, LogicalSwitchPort { tag_request: Some(0), tag: Some(5), ..localnet.clone() });
        add(txn, 8, 0, LogicalSwitchPort { tag: Some(7), ..localnet });
    });
    assert_eq!([6, 7, 8].map(|number| tag(&store, number)), [Some(100), None, Some(7)]);
    assert_eq!(store.binding(6).tag, Some(100));
}

#[test]
fn an_activation_lasts_as_long_as_the_migration() {
    let mut store = Store::new();
    store.run(|txn| {
        (0..2).for_each(|number| chassis(txn, number));
        add(txn, 1, 0, typed("", &[("requested-chassis", "hv0,hv1"), ("activation-strategy", "rarp")]));
        (0..2).for_each(|place| plug(txn, 1, place));
    });
    let activated = |store: &Store| store.binding(1).options.get("additional-chassis-activated").cloned();
    store.run(|txn| {
        let set = |row: &mut PortBinding| {
            _ = row.options.insert("additional-chassis-activated".into(), "hv1".into());
        };
        txn.update::<PortBinding>(port(1), set);
    });
    store.run(|txn| _ = txn.update::<LogicalSwitchPort>(port(1), |row| row.enabled = Some(true)));
    assert_eq!(activated(&store).as_deref(), Some("hv1"));
    store.run(|txn| {
        txn.update::<LogicalSwitchPort>(port(1), |row| row.options = pairs(&[("requested-chassis", "hv1")]));
    });
    assert_eq!((activated(&store), store.holder(1)), (None, Some(hv(1))));
}

#[test]
fn learned_macs_go_with_their_port_and_their_switch() {
    let mut store = Store::new();
    store.run(|txn| {
        (1..3).for_each(|number| add(txn, number, 0, LogicalSwitchPort::default()));
        add(txn, 3, 1, LogicalSwitchPort::default());
    });
    store.run(|txn| {
        (1..4).for_each(|number| learn(txn, number));
    });
    let left = |store: &Store| store.state.iter::<Fdb>().map(|(uuid, _)| uuid).collect::<Vec<_>>();
    store.run(|txn| remove(txn, 1));
    assert_eq!(left(&store), [id(20, 2), id(20, 3)]);
    store.run(|txn| {
        let options = pairs(&[("requested-tnl-key", "77")]);
        txn.update::<LogicalSwitchPort>(port(2), |row| row.options = options);
    });
    assert_eq!(left(&store), [id(20, 3)]);
    store.run(|txn| _ = txn.delete::<LogicalSwitch>(switch(1)));
    assert!(left(&store).is_empty());
    assert!(!store.state.iter::<Lookup>().any(|(_, row)| &*row.kind == "fdb"));
}

fn learn(txn: &mut Txn<'_>, number: u8) {
    let Some(binding) = txn.get::<PortBinding>(port(number)) else { return };
    let port_key = binding.tunnel_key;
    if let Some(dp_key) = txn.get::<DatapathBinding>(binding.datapath.uuid()).map(|row| row.tunnel_key) {
        let mac = format!("0a:00:00:00:00:{number:02x}").into();
        txn.put(id(20, number), Fdb { mac, dp_key, port_key, timestamp: txn.now_ms() });
    }
}

#[test]
fn names_are_shown_southbound_while_a_switch_refers_to_them() {
    let mut store = Store::new();
    let records = pairs(&[("VM.example.org", "10.0.0.1 FD00::A")]);
    store.run(|txn| txn.put(id(30, 0), nb::Dns { records, ..nb::Dns::default() }));
    assert_eq!(store.state.iter::<Dns>().count(), 0);
    store.run(|txn| {
        txn.update::<LogicalSwitch>(switch(0), |row| row.dns_records = OrdSet::unit(Weak::new(id(30, 0))));
    });
    let row = store.state.get::<Dns>(id(30, 0)).unwrap();
    assert_eq!(row.records, pairs(&[("VM.example.org", "10.0.0.1 fd00::a")]));
    assert_eq!(row.options, pairs(&[("ovn-owned", "false")]));
    assert_eq!(row.datapaths, OrdSet::unit(Strong::new(switch(0))));
    store.run(|txn| _ = txn.delete::<LogicalSwitch>(switch(0)));
    assert_eq!(store.state.iter::<Dns>().count(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Configure {
        switch: u8,
        what: u8,
    },
    Add {
        port: u8,
        switch: u8,
        kind: u8,
    },
    Addresses {
        port: u8,
        addresses: u8,
    },
    Move {
        port: u8,
        to: u8,
    },
    Remove {
        port: u8,
    },
    Virtual {
        port: u8,
        parent: u8,
    },
    Learn {
        port: u8,
    },
    Group {
        priority: i64,
    },
    Register {
        chassis: u8,
    },
    Unregister {
        chassis: u8,
    },
    Plug {
        port: u8,
        chassis: u8,
    },
    Prefix {
        other: bool,
    },
    /// The bits of `ports` are members; two of them may be renamed, and none means that the group goes.
    Members {
        group: u8,
        ports: u8,
    },
    Set {
        name: u8,
    },
    Several(Vec<Self>),
}

fn simple() -> impl Strategy<Value = Step> {
    let (port, place) = (0..8_u8, 0..2_u8);
    prop_oneof![
        2 => (place.clone(), 0..6_u8).prop_map(|(switch, what)| Step::Configure { switch, what }),
        5 => (port.clone(), place.clone(), 0..7_u8).prop_map(|(port, switch, kind)| Step::Add { port, switch, kind }),
        4 => (port.clone(), 0..7_u8).prop_map(|(port, addresses)| Step::Addresses { port, addresses }),
        1 => (port.clone(), place.clone()).prop_map(|(port, to)| Step::Move { port, to }),
        2 => port.clone().prop_map(|port| Step::Remove { port }),
        1 => (port.clone(), port.clone()).prop_map(|(port, parent)| Step::Virtual { port, parent }),
        1 => port.clone().prop_map(|port| Step::Learn { port }),
        1 => (0..30_i64).prop_map(|priority| Step::Group { priority }),
        1 => place.clone().prop_map(|chassis| Step::Register { chassis }),
        1 => place.clone().prop_map(|chassis| Step::Unregister { chassis }),
        2 => (port, place).prop_map(|(port, chassis)| Step::Plug { port, chassis }),
        1 => any::<bool>().prop_map(|other| Step::Prefix { other }),
        3 => (0_u8..2, any::<u8>()).prop_map(|(group, ports)| Step::Members { group, ports }),
        1 => (0_u8..3).prop_map(|name| Step::Set { name }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![3 => simple(), 1 => prop::collection::vec(simple(), 2..5).prop_map(Step::Several)]
}

const PLANS: [&[(&str, &str)]; 6] = [
    &[],
    &[("subnet", "10.0.0.0/29")],
    &[("subnet", "10.0.0.0/29"), ("exclude_ips", "10.0.0.2..10.0.0.3"), ("ipv6_prefix", "fd00::")],
    &[("subnet", "10.0.0.4/30")],
    &[("mac_only", "true")],
    &[("subnet", "10.0.0.0/24"), ("vlan-passthru", "true")],
];

fn run_step(txn: &mut Txn<'_>, step: &Step) {
    match step {
        Step::Several(steps) => steps.iter().for_each(|step| run_step(txn, step)),
        Step::Configure { switch: place, what } => {
            let config = pairs(PLANS[usize::from(*what)]);
            txn.update::<LogicalSwitch>(switch(*place), |row| row.other_config = config);
        }
        Step::Add { port: number, switch, kind } => {
            let row = match kind {
                0 => typed("virtual", &[("virtual-ip", "10.0.0.9"), ("virtual-parents", "p1,p2")]),
                1 => {
                    let group = txn.get::<nb::HaChassisGroup>(id(10, 0)).map(|_| Strong::new(id(10, 0)));
                    LogicalSwitchPort { ha_chassis_group: group, ..typed("external", &[]) }
                }
                2 => typed("l2gateway", &[("network_name", "n"), ("l2gateway-chassis", "hv1")]),
                3 => typed("localnet", &[("network_name", "n")]),
                _ => LogicalSwitchPort {
                    addresses: OrdSet::unit("dynamic".into()),
                    ..LogicalSwitchPort::default()
                },
            };
            add(txn, *number, *switch, row);
        }
        Step::Addresses { port: number, addresses } => {
            let mac = format!("0a:bc:de:00:00:0{number}");
            let text = match addresses {
                0 | 1 => "dynamic".to_owned(),
                2 => format!("dynamic 10.0.0.{}", number / 2 + 2),
                3 => format!("{mac} dynamic"),
                4 => format!("{mac} 10.0.0.{}", number / 2 + 2),
                5 => format!("{mac} 10.0.0.{number} fd00::{number}"),
                _ => "unknown".to_owned(),
            };
            let addresses = OrdSet::unit(Text::from(text));
            txn.update::<LogicalSwitchPort>(port(*number), |row| row.addresses = addresses);
        }
        Step::Move { port: number, to } => {
            if txn.get::<LogicalSwitchPort>(port(*number)).is_some() {
                remove(txn, *number);
                txn.update::<LogicalSwitch>(switch(*to), |row| {
                    _ = row.ports.insert(Strong::new(port(*number)))
                });
            }
        }
        Step::Remove { port } => remove(txn, *port),
        Step::Virtual { port: number, parent } => {
            let parent = format!("p{parent}").into();
            txn.update::<PortBinding>(port(*number), |row| row.virtual_parent = Some(parent));
        }
        Step::Learn { port } => learn(txn, *port),
        Step::Group { priority } => {
            group(txn);
            txn.update::<nb::HaChassis>(id(11, 0), |row| row.priority = *priority);
        }
        Step::Register { chassis: number } => chassis(txn, *number),
        Step::Unregister { chassis } => unregister(txn, *chassis),
        Step::Plug { port, chassis } => {
            if txn.get::<Chassis>(hv(*chassis)).is_some() {
                plug(txn, *port, *chassis);
            }
        }
        Step::Members { group, ports } => {
            let row = nb::PortGroup {
                name: format!("g{}", u8::from(*ports % 3 == 0) ^ *group).into(),
                ports: (0..6).filter(|n| ports >> n & 1 == 1).map(|n| Weak::new(port(n))).collect(),
                ..nb::PortGroup::default()
            };
            let name = [("name", (&*row.name).into())];
            let other = txn.find::<nb::PortGroup>(&name).filter(|uuid| *uuid != id(40, *group));
            match ports {
                0 => _ = txn.delete::<nb::PortGroup>(id(40, *group)),
                _ if other.is_some() => {}
                _ => txn.put(id(40, *group), row),
            }
        }
        Step::Set { name } => {
            let name = ["as", "g0_ip4", "g1_ip6"][usize::from(*name)].into();
            let row = nb::AddressSet {
                name,
                addresses: OrdSet::unit("192.0.2.0/24".into()),
                ..nb::AddressSet::default()
            };
            txn.put(id(41, 0), row);
        }
        Step::Prefix { other } => {
            let prefix = if *other { "02:11:22" } else { "0a:bc:de" };
            let options = pairs(&[("mac_prefix", prefix)]);
            txn.update::<NbGlobal>(Uuid::from_u128(1), |row| row.options = options);
        }
    }
}

fn rows<T: Row>(state: &State) -> BTreeMap<Uuid, T> {
    state.iter::<T>().map(|(uuid, row)| (uuid, row.clone())).collect()
}

/// The same northbound rows and hypervisors in an empty store, lowered at once.
fn from_nothing(state: &State) -> State {
    let mut store = Store { state: State::default(), now_ms: 0 };
    let inputs = [
        NbGlobal::TABLE,
        LogicalSwitch::TABLE,
        LogicalSwitchPort::TABLE,
        nb::HaChassisGroup::TABLE,
        nb::HaChassis::TABLE,
        Chassis::TABLE,
        Encap::TABLE,
        ChassisInterface::TABLE,
        nb::PortGroup::TABLE,
        nb::AddressSet::TABLE,
    ];
    store.run(|txn| {
        for table in inputs {
            for (uuid, row) in state.rows().table(table) {
                txn.put_dyn(*uuid, row.clone());
            }
        }
    });
    // Agents say again what they saw.
    store.run(|txn| {
        for (uuid, row) in state.iter::<PortBinding>().filter(|(_, row)| row.virtual_parent.is_some()) {
            txn.update::<PortBinding>(uuid, |fresh| fresh.virtual_parent = row.virtual_parent.clone());
        }
    });
    store.state
}

/// Bindings without their keys.
fn bindings(state: &State) -> BTreeMap<Uuid, PortBinding> {
    let mut bindings = rows::<PortBinding>(state);
    bindings.values_mut().for_each(|row| row.tunnel_key = 0);
    bindings
}

/// Port groups without the keys of their datapaths, which are checked.
fn groups(state: &State) -> BTreeMap<Uuid, PortGroup> {
    let mut groups = rows::<PortGroup>(state);
    for row in groups.values_mut() {
        let (key, name) = row.name.split_once('_').unwrap();
        let datapath = [("tunnel_key", key.parse::<i64>().unwrap().into())];
        let datapath = state.find::<DatapathBinding>(&datapath).expect("the datapath is there");
        for port in &row.ports {
            let binding = state.find::<PortBinding>(&[("logical_port", (&**port).into())]).unwrap();
            assert_eq!(state.get::<PortBinding>(binding).unwrap().datapath.uuid(), datapath);
        }
        row.name = name.into();
    }
    groups
}

fn lookups(state: &State) -> BTreeSet<(Text, Text, Uuid)> {
    let kept = state.iter::<Lookup>().filter(|(_, row)| &*row.kind != "fdb");
    kept.map(|(_, row)| (row.kind.clone(), row.key.clone(), row.row)).collect()
}

/// What is taken from each pool of addresses and MACs: pools that have given nothing are as good as none.
fn pools(state: &State) -> BTreeMap<Text, Vec<(Text, Text)>> {
    let kept = state.iter::<Pool>().filter(|(_, row)| {
        (row.name.starts_with("address ") || row.name.starts_with("mac ")) && row.free.len() > 1
    });
    let runs = |row: &Pool| row.free.iter().map(|(first, last)| (first.clone(), last.clone())).collect();
    kept.map(|(_, row)| (row.name.clone(), runs(row))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn lowering_what_changed_equals_lowering_everything(steps in prop::collection::vec(step(), 1..40)) {
        let mut store = Store::new();
        for step in &steps {
            // Far enough apart for every claim to have its turn.
            store.now_ms += 10 * binding::HOLD_MS;
            store.run(|txn| run_step(txn, step));
            let fresh = from_nothing(&store.state);
            prop_assert_eq!(rows::<LogicalSwitchPort>(&store.state), rows::<LogicalSwitchPort>(&fresh));
            prop_assert_eq!(bindings(&store.state), bindings(&fresh));
            prop_assert_eq!(rows::<HaChassisGroup>(&store.state), rows::<HaChassisGroup>(&fresh));
            prop_assert_eq!(rows::<AddressSet>(&store.state), rows::<AddressSet>(&fresh));
            prop_assert_eq!(groups(&store.state), groups(&fresh));
            prop_assert_eq!(rows::<Problem>(&store.state), rows::<Problem>(&fresh));
            prop_assert_eq!(lookups(&store.state), lookups(&fresh));
            prop_assert_eq!(pools(&store.state), pools(&fresh));
            for (_, row) in store.state.iter::<Fdb>() {
                let datapath = store.state.find::<DatapathBinding>(&[("tunnel_key", row.dp_key.into())]);
                let place = [("datapath", datapath.unwrap().into()), ("tunnel_key", row.port_key.into())];
                prop_assert!(store.state.find::<PortBinding>(&place).is_some());
            }
        }
        store.run(|txn| (0..2).for_each(|number| _ = txn.delete::<LogicalSwitch>(switch(number))));
        for table in [PortBinding::TABLE, DatapathBinding::TABLE, Fdb::TABLE] {
            prop_assert_eq!(store.state.rows().len(table), 0, "{:?}", table);
        }
    }
}
