//! Random histories of intent and hypervisors: intent, Northbound and Southbound agree at every revision.

#![allow(clippy::unwrap_used)] // in helpers of tests too: a panic is the test's failure

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::OrdSet;
use proptest::prelude::*;
use quantumnet_controller::{
    ipam::pool,
    lower::{self, address, binding, keys},
    store::{Context, Evaluated, Refusal, State, Txn, evaluate},
};
use quantumnet_model::{
    Row, Strong, Uuid,
    intent::{Address, Pool, Port, Project, Subnet, Takeover, VirtualNetwork},
    nb::{DhcpOptions, LogicalSwitch, LogicalSwitchPort},
    sb::{Chassis, ChassisInterface, DatapathBinding, Encap, PortBinding},
};

const CIDRS: [&str; 4] = ["10.0.0.0/29", "10.0.1.0/24", "fd00::/64", "10.0.0.0/24"];

#[derive(Clone, Debug)]
enum Step {
    MakeNetwork { network: u8, subnets: Vec<u8>, mtu: bool },
    DeleteNetwork { network: u8 },
    ToggleDhcp { network: u8 },
    MakePort { port: u8, network: u8, fixed: Option<u8> },
    ChangePort { port: u8, what: u8, value: u8 },
    DeletePort { port: u8 },
    MakeChassis { chassis: u8, mtu: u16 },
    DeleteChassis { chassis: u8 },
    Plug { chassis: u8, port: u8 },
    Unplug { chassis: u8, port: u8 },
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let (network, port, chassis) = (0..3_u8, 0..8_u8, 0..3_u8);
    prop_oneof![
        2 => (network.clone(), prop::collection::vec(0..4_u8, 0..3), any::<bool>())
            .prop_map(|(network, subnets, mtu)| Step::MakeNetwork { network, subnets, mtu }),
        1 => network.clone().prop_map(|network| Step::DeleteNetwork { network }),
        1 => network.clone().prop_map(|network| Step::ToggleDhcp { network }),
        4 => (port.clone(), network, prop::option::of(0..8_u8))
            .prop_map(|(port, network, fixed)| Step::MakePort { port, network, fixed }),
        3 => (port.clone(), 0..6_u8, 0..4_u8).prop_map(|(port, what, value)| Step::ChangePort { port, what, value }),
        2 => port.clone().prop_map(|port| Step::DeletePort { port }),
        1 => (chassis.clone(), 1_400..1_600_u16).prop_map(|(chassis, mtu)| Step::MakeChassis { chassis, mtu }),
        1 => chassis.clone().prop_map(|chassis| Step::DeleteChassis { chassis }),
        3 => (chassis.clone(), port.clone()).prop_map(|(chassis, port)| Step::Plug { chassis, port }),
        1 => (chassis, port).prop_map(|(chassis, port)| Step::Unplug { chassis, port }),
        1 => Just(Step::Wait),
    ]
}

fn id(kind: u128, number: u8) -> Uuid {
    Uuid::from_u128((kind << 64) | u128::from(number))
}

const PROJECT: Uuid = Uuid::from_u128(1);

fn run_step(txn: &mut Txn<'_>, step: &Step) -> Result<(), Refusal> {
    match step {
        Step::Wait => {}
        Step::MakeNetwork { network, subnets, mtu } => {
            let uuid = id(2, *network);
            let mut cidrs: Vec<&str> = subnets.iter().map(|subnet| CIDRS[usize::from(*subnet)]).collect();
            cidrs.dedup();
            if cidrs.contains(&CIDRS[0]) {
                cidrs.retain(|cidr| *cidr != CIDRS[3]);
            }
            let before = txn.get::<VirtualNetwork>(uuid).cloned().unwrap_or_default();
            let mut set = OrdSet::new();
            for cidr in cidrs {
                let known = before
                    .subnets
                    .iter()
                    .find(|known| txn.get::<Subnet>(known.uuid()).is_some_and(|row| &*row.cidr == cidr));
                let subnet = known.map_or_else(
                    || Uuid::new_v5(&uuid, format!("{cidr}{}", txn.next_revision()).as_bytes()),
                    |known| known.uuid(),
                );
                if txn.get::<Subnet>(subnet).is_none() {
                    txn.put(subnet, Subnet { cidr: cidr.into(), dhcp: true, ..Subnet::default() });
                }
                set.insert(Strong::new(subnet));
            }
            let row = VirtualNetwork {
                project: Strong::new(PROJECT),
                name: format!("net{network}").into(),
                r#type: "overlay".into(),
                mtu: if *mtu { 1_300 } else { 0 },
                subnets: set,
                ..before
            };
            txn.put(uuid, row);
        }
        Step::DeleteNetwork { network } => _ = txn.delete::<VirtualNetwork>(id(2, *network)),
        Step::ToggleDhcp { network } => {
            let subnets: Vec<Uuid> =
                address::subnets(txn.state(), id(2, *network)).into_iter().map(|(uuid, _)| uuid).collect();
            for subnet in subnets {
                txn.update::<Subnet>(subnet, |row| row.dhcp = !row.dhcp);
            }
        }
        Step::MakePort { port, network, fixed } => {
            let (uuid, network) = (id(3, *port), id(2, *network));
            if txn.get::<Port>(uuid).is_some() || txn.get::<VirtualNetwork>(network).is_none() {
                return Ok(());
            }
            let mac = address::claim_next_mac(txn, network, uuid)?;
            let mut addresses = OrdSet::new();
            let subnets: Vec<Uuid> =
                address::subnets(txn.state(), network).into_iter().map(|(uuid, _)| uuid).collect();
            match fixed {
                Some(host) => {
                    addresses.insert(format!("10.0.0.{host}").into());
                }
                None => {
                    for subnet in subnets {
                        addresses.insert(address::claim_next(txn, network, subnet, uuid)?.to_string().into());
                    }
                }
            }
            let row = Port {
                project: Strong::new(PROJECT),
                name: format!("port{port}").into(),
                network: Strong::new(network),
                mac: mac.to_string().into(),
                addresses,
                ..Port::default()
            };
            txn.insert(uuid, row)?;
        }
        Step::ChangePort { port, what, value } => {
            let change = |row: &mut Port| match what {
                0 => row.disabled = value % 2 == 0,
                1 => row.receive_unknown = value % 2 == 0,
                2 => row.host = if *value == 3 { "".into() } else { format!("host{value}").into() },
                3 => row.addresses = OrdSet::unit(format!("10.0.0.{value}").into()),
                4 => row.mac = format!("0a:00:00:00:00:0{value}").into(),
                _ => row.name = format!("renamed{port}-{value}").into(),
            };
            txn.update(id(3, *port), change);
        }
        Step::DeletePort { port } => _ = txn.delete::<Port>(id(3, *port)),
        Step::MakeChassis { chassis, mtu } => {
            let (uuid, encap) = (id(4, *chassis), id(5, *chassis));
            txn.put(
                encap,
                Encap {
                    r#type: "geneve".into(),
                    ip: format!("192.0.2.{chassis}").into(),
                    ..Encap::default()
                },
            );
            let row = Chassis {
                name: format!("hv{chassis}").into(),
                hostname: format!("host{chassis}").into(),
                encaps: OrdSet::unit(Strong::new(encap)),
                other_config: imbl::OrdMap::unit("underlay-mtu".into(), mtu.to_string().into()),
                ..Chassis::default()
            };
            txn.put(uuid, row);
        }
        Step::DeleteChassis { chassis } => {
            let uuid = id(4, *chassis);
            let interfaces: Vec<Uuid> =
                txn.referrers_through::<Chassis, ChassisInterface>(uuid, "chassis").collect();
            for interface in interfaces {
                txn.delete::<ChassisInterface>(interface);
            }
            txn.delete::<Chassis>(uuid);
        }
        Step::Plug { chassis, port } => {
            if txn.get::<Chassis>(id(4, *chassis)).is_some() {
                let row = ChassisInterface {
                    chassis: Strong::new(id(4, *chassis)),
                    iface_id: id(3, *port).to_string().into(),
                    claim: i64::try_from(txn.next_revision()).unwrap(),
                    claimed_at: txn.now_ms(),
                    ..ChassisInterface::default()
                };
                txn.put(id(6 + u128::from(*chassis), *port), row);
            }
        }
        Step::Unplug { chassis, port } => {
            _ = txn.delete::<ChassisInterface>(id(6 + u128::from(*chassis), *port))
        }
    }
    Ok(())
}

fn transact(
    head: &State,
    now_ms: i64,
    request: impl FnOnce(&mut Txn<'_>) -> Result<(), Refusal>,
) -> Result<State, Refusal> {
    let context = Context { now_ms, principal: "test".into() };
    evaluate(head, &context, request, &lower::run).map(|Evaluated { state, .. }| state)
}

fn begin() -> State {
    transact(&State::default(), 0, |txn| {
        txn.insert(PROJECT, Project { name: "p".into(), ..Project::default() })
    })
    .unwrap()
}

/// The same intent and hypervisors in an empty store, lowered at once.
fn from_nothing(state: &State) -> State {
    let inputs = [
        Project::TABLE,
        VirtualNetwork::TABLE,
        Subnet::TABLE,
        Port::TABLE,
        Chassis::TABLE,
        Encap::TABLE,
        ChassisInterface::TABLE,
    ];
    transact(&State::default(), 0, |txn| {
        for table in inputs {
            for (uuid, row) in state.rows().table(table) {
                txn.put_dyn(*uuid, row.clone());
            }
        }
        Ok(())
    })
    .unwrap()
}

fn rows<T: Row>(state: &State) -> BTreeMap<Uuid, T> {
    state.iter::<T>().map(|(uuid, row)| (uuid, row.clone())).collect()
}

/// Rows without what has a history.
fn without_keys(state: &State) -> (BTreeMap<Uuid, DatapathBinding>, BTreeMap<Uuid, PortBinding>) {
    let mut datapaths = rows::<DatapathBinding>(state);
    datapaths.values_mut().for_each(|row| row.tunnel_key = 0);
    let mut ports = rows::<PortBinding>(state);
    ports.values_mut().for_each(|row| row.tunnel_key = 0);
    (datapaths, ports)
}

fn check(before: &State, after: &State) {
    assert!(after.check());
    let fresh = from_nothing(after);
    assert_eq!(rows::<LogicalSwitch>(after), rows::<LogicalSwitch>(&fresh));
    assert_eq!(rows::<LogicalSwitchPort>(after), rows::<LogicalSwitchPort>(&fresh));
    assert_eq!(rows::<DhcpOptions>(after), rows::<DhcpOptions>(&fresh));
    assert_eq!(without_keys(after), without_keys(&fresh));
    assert_eq!(rows::<Address>(after), rows::<Address>(&fresh));

    // Keys: unique, within their pool, and those of rows that stay stay too.
    let mut keys = BTreeSet::new();
    for (uuid, row) in after.iter::<DatapathBinding>() {
        assert!(keys.insert(row.tunnel_key));
        if let Some(old) = before.get::<DatapathBinding>(uuid) {
            assert_eq!(old.tunnel_key, row.tunnel_key);
        }
    }
    let mut keys = BTreeSet::new();
    for (uuid, row) in after.iter::<PortBinding>() {
        assert!(keys.insert((row.datapath.uuid(), row.tunnel_key)));
        if let Some(old) = before.get::<PortBinding>(uuid).filter(|old| old.datapath == row.datapath) {
            assert_eq!(old.tunnel_key, row.tunnel_key);
        }
    }
    // Every address in use is taken from its pool, and nothing else is.
    for (network, _) in after.iter::<VirtualNetwork>() {
        for (subnet, row) in address::subnets(after, network) {
            let net: ipnet::IpNet = row.cidr.parse().unwrap();
            let (_, users) = address::users(after, network, net);
            let (used, _) = address::usage(after, subnet, row);
            assert_eq!(used, users as u64, "{}", row.cidr);
        }
    }
    let pools: BTreeSet<String> = after
        .iter::<VirtualNetwork>()
        .flat_map(|(uuid, row)| {
            row.subnets
                .iter()
                .map(|subnet| keys::addresses_of(subnet.uuid()))
                .chain([keys::ports_of(uuid)])
                .collect::<Vec<_>>()
        })
        .chain([keys::DATAPATHS.to_owned()])
        .collect();
    for (_, pool) in after.iter::<Pool>() {
        assert!(pools.contains(&*pool.name), "{} is left over", pool.name);
        assert_eq!(pool.resting.len(), pool.queue.len());
    }
    // A binding names an interface that claims the port.
    for (uuid, row) in after.iter::<PortBinding>() {
        let claims = binding::contenders(after, row);
        assert_eq!(row.chassis.map(|chassis| chassis.uuid()), claims.first().copied(), "{uuid}");
    }
    for (uuid, _) in after.iter::<Takeover>() {
        assert!(after.get::<PortBinding>(uuid).is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn lowering_what_changed_equals_lowering_everything(steps in prop::collection::vec(step(), 1..40)) {
        let mut state = begin();
        for (number, step) in steps.iter().enumerate() {
            // Far enough apart for every claim to have its turn.
            let now_ms = (number as i64 + 1) * 10 * binding::HOLD_MS;
            let before = state.clone();
            if let Ok(next) = transact(&state, now_ms, |txn| run_step(txn, step)) {
                state = next;
            }
            if binding::due(&state).is_some_and(|due| due <= now_ms) {
                state = transact(&state, now_ms, binding::relower_damped).unwrap();
            }
            check(&before, &state);
        }
        // Everything deleted leaves nothing.
        let emptied = transact(&state, 1 << 40, |txn| {
            for (uuid, _) in rows::<Port>(&state) {
                txn.delete::<Port>(uuid);
            }
            for (uuid, _) in rows::<VirtualNetwork>(&state) {
                txn.delete::<VirtualNetwork>(uuid);
            }
            Ok(())
        }).unwrap();
        for table in [LogicalSwitch::TABLE, LogicalSwitchPort::TABLE, DhcpOptions::TABLE, DatapathBinding::TABLE, PortBinding::TABLE, Address::TABLE, Subnet::TABLE, Takeover::TABLE] {
            prop_assert_eq!(emptied.rows().len(table), 0, "{:?}", table);
        }
    }

    /// A pool against a model: never twice, rest, exhaustion.
    #[test]
    fn a_pool_never_gives_a_key_twice(steps in prop::collection::vec((0..4_u8, 0..12_u128, 0..30_000_i64), 0..200)) {
        let whole = (2, 9);
        let mut pool = pool::new("p", whole);
        let (mut taken, mut resting) = (BTreeSet::new(), BTreeMap::new());
        let mut now = 0;
        for (what, key, passes) in steps {
            now += passes;
            match what {
                0 => match pool::take_first(&mut pool, &[whole], now) {
                    Ok(key) => {
                        prop_assert!(taken.insert(key));
                        if let Some(at) = resting.remove(&key) {
                            prop_assert!(now - at >= pool::REST_MS);
                        }
                    }
                    Err(_) => {
                        let free = (whole.0..=whole.1).filter(|key| !taken.contains(key));
                        prop_assert!(free.into_iter().all(|key| resting.get(&key).is_some_and(|at| now - at < pool::REST_MS)));
                    }
                },
                1 => {
                    let given = pool::take(&mut pool, key).is_ok();
                    let inside = (whole.0..=whole.1).contains(&key);
                    prop_assert_eq!(given, inside && !taken.contains(&key));
                    if given {
                        taken.insert(key);
                        resting.remove(&key);
                    }
                }
                _ if taken.remove(&key) => {
                    pool::release(&mut pool, key, now);
                    resting.insert(key, now);
                }
                _ => {}
            }
            prop_assert_eq!(pool::count_taken(&pool, whole), taken.len() as u64);
        }
    }
}

/// Counters, not time: what one port costs does not follow how many there are.
#[test]
fn the_cost_of_a_change_does_not_follow_the_size_of_the_store() {
    let costs: Vec<_> = [1_000_u32, 10_000].map(cost_of_one_port).to_vec();
    assert_eq!(costs[0], costs[1]);
}

fn cost_of_one_port(ports: u32) -> (Vec<lower::Work>, Vec<usize>) {
    let network = id(2, 0);
    let mut state = transact(&begin(), 0, |txn| {
        let subnet = Uuid::from_u128(77);
        txn.put(subnet, Subnet { cidr: "10.0.0.0/16".into(), dhcp: true, ..Subnet::default() });
        let subnets = OrdSet::unit(Strong::new(subnet));
        txn.put(
            network,
            VirtualNetwork {
                project: Strong::new(PROJECT),
                name: "net".into(),
                r#type: "overlay".into(),
                subnets,
                ..VirtualNetwork::default()
            },
        );
        Ok(())
    })
    .unwrap();
    let make = |txn: &mut Txn<'_>, number: u32| -> Result<(), Refusal> {
        let uuid = Uuid::from_u128((9 << 64) | u128::from(number));
        let mac = address::claim_next_mac(txn, network, uuid)?.to_string().into();
        let ip = address::claim_next(txn, network, Uuid::from_u128(77), uuid)?.to_string().into();
        let row = Port {
            project: Strong::new(PROJECT),
            name: format!("p{number}").into(),
            network: Strong::new(network),
            mac,
            addresses: OrdSet::unit(ip),
            ..Port::default()
        };
        txn.insert(uuid, row)
    };
    state = transact(&state, 0, |txn| (0..ports).try_for_each(|number| make(txn, number))).unwrap();
    let works = std::cell::RefCell::new(Vec::new());
    let mut changes = Vec::new();
    let counted = |txn: &mut Txn<'_>| {
        works.borrow_mut().push(lower::run_counted(txn)?);
        Ok(())
    };
    let mut run = |request: &dyn Fn(&mut Txn<'_>) -> Result<(), Refusal>| {
        let context = Context { now_ms: 0, principal: Arc::from("test") };
        let done = evaluate(&state, &context, |txn: &mut Txn<'_>| request(txn), &counted).unwrap();
        changes.push(done.changes.len());
        state = done.state;
    };
    run(&|txn| make(txn, ports));
    run(&|txn| run_step(txn, &Step::MakeChassis { chassis: 0, mtu: 1_500 }));
    run(&|txn| {
        let row = ChassisInterface {
            chassis: Strong::new(id(4, 0)),
            iface_id: Uuid::from_u128((9 << 64) | 5).to_string().into(),
            claim: 1,
            ..ChassisInterface::default()
        };
        txn.insert(id(6, 5), row)
    });
    run(&|txn| {
        txn.delete::<Port>(Uuid::from_u128((9 << 64) | 5));
        Ok(())
    });
    (works.into_inner(), changes)
}
