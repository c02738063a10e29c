//! What a port costs: as much in a store of many as in a store of few.

#![allow(clippy::unwrap_used)] // a test's helpers, like a test, fail by a panic

use quantumnet_controller::{
    lower::{self, address},
    store::{Context, State, Txn, evaluate, scopes::Scopes, visits},
};
use quantumnet_model::{
    Strong, Uuid,
    intent::{Port, Project, Subnet, VirtualNetwork},
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
