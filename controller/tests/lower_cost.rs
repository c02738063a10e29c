//! What a port costs: as much in a store of many as in a store of few.

#![allow(clippy::unwrap_used)] // a test's helpers, like a test, fail by a panic

use quantumnet_controller::{
    lower::{self, address},
    store::{Context, State, Txn, evaluate, scopes::Scopes, visits},
};
use quantumnet_model::{
    Strong, Uuid, Weak,
    intent::{Port, Project, Subnet, VirtualNetwork},
    nb::{LogicalSwitch, LogicalSwitchPort, PortGroup},
    sb,
};

const PROJECT: Uuid = Uuid::from_u128(1);
const NETWORK: Uuid = Uuid::from_u128(2);
const SUBNET: Uuid = Uuid::from_u128(3);

struct Store {
    state: State,
    scopes: Scopes,
}

impl Store {
    fn new() -> Self {
        let mut store = Self { state: State::default(), scopes: Scopes::default() };
        store.run(|txn| {
            txn.put(PROJECT, Project { name: "p".into(), ..Project::default() });
            txn.put(SUBNET, Subnet { cidr: "10.0.0.0/16".into(), dhcp: true, ..Subnet::default() });
            let row = VirtualNetwork {
                project: Strong::new(PROJECT),
                name: "n".into(),
                r#type: "overlay".into(),
                subnets: imbl::OrdSet::unit(Strong::new(SUBNET)),
                ..VirtualNetwork::default()
            };
            txn.put(NETWORK, row);
        });
        store
    }

    /// Evaluated as the leader does, applied and followed as every member does; returns the rows visited.
    fn run(&mut self, request: impl FnOnce(&mut Txn<'_>)) -> u64 {
        let begun = visits();
        let context = Context { now_ms: 1, principal: "test".into() };
        let request = |txn: &mut Txn<'_>| {
            request(txn);
            Ok(())
        };
        let done = evaluate(&self.state, &context, request, &lower::run).unwrap();
        let before = self.state.clone();
        let touched = self.state.apply(before.revision() + 1, &done.changes).unwrap();
        self.scopes.follow(&before, &self.state, &touched);
        visits() - begun
    }

    fn port(&mut self, number: u128) -> u64 {
        self.run(|txn| {
            let uuid = Uuid::from_u128(1_000 + number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c));
            let mac = address::claim_next_mac(txn, NETWORK, uuid).unwrap();
            let ip = address::claim_next(txn, NETWORK, SUBNET, uuid).unwrap();
            let row = Port {
                project: Strong::new(PROJECT),
                network: Strong::new(NETWORK),
                name: format!("port-{number}").into(),
                mac: mac.to_string().into(),
                addresses: imbl::OrdSet::unit(ip.to_string().into()),
                ..Port::default()
            };
            txn.insert(uuid, row).unwrap();
        })
    }
}

#[test]
fn a_member_of_a_port_group_visits_as_many_rows_among_many_as_among_few() {
    let (switch, group) = (Uuid::from_u128(5), Uuid::from_u128(6));
    let mut store = Store::new();
    store.run(|txn| {
        txn.put(switch, LogicalSwitch { name: "s".into(), ..LogicalSwitch::default() });
        txn.put(group, PortGroup { name: "g".into(), ..PortGroup::default() });
    });
    let mut costs = Vec::new();
    for number in 0..=4_000_u128 {
        let port = Uuid::from_u128(1_000 + number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c));
        let address = format!(
            "02:00:00:00:{:02x}:{:02x} 192.0.2.1 10.1.{}.{}",
            number >> 8,
            number & 255,
            number >> 8,
            number & 255
        );
        let joined = store.run(|txn| {
            let row = LogicalSwitchPort {
                name: format!("port-{number}").into(),
                addresses: imbl::OrdSet::unit(address.into()),
                ..LogicalSwitchPort::default()
            };
            txn.insert(port, row).unwrap();
            txn.update::<LogicalSwitch>(switch, |row| _ = row.ports.insert(Strong::new(port)));
            txn.update::<PortGroup>(group, |row| _ = row.ports.insert(Weak::new(port)));
        });
        if [500, 4_000].contains(&number) {
            let left = store
                .run(|txn| _ = txn.update::<PortGroup>(group, |row| _ = row.ports.remove(&Weak::new(port))));
            costs.push((joined, left));
        }
    }
    eprintln!("rows visited by a member that joins and leaves among 500 and 4,000: {costs:?}");
    assert_eq!(costs[0], costs[1]);
    let (_, row) = store.state.iter::<sb::PortGroup>().next().unwrap();
    assert_eq!(row.ports.len(), 3_999);
}

#[test]
fn a_port_visits_as_many_rows_among_many_as_among_few() {
    let mut store = Store::new();
    let mut costs = Vec::new();
    for number in 0..=20_000 {
        let cost = store.port(number);
        if [1_000, 20_000].contains(&number) {
            costs.push(cost);
        }
    }
    eprintln!("rows visited by a port's creation among 1,000 and 20,000: {costs:?}");
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0] < 300, "{costs:?}");
}
