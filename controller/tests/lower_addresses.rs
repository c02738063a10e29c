//! Dynamic addresses of Northbound ports: what OVN gives, what it keeps, and what it costs.

#![allow(clippy::unwrap_used)] // in helpers of tests too: a panic is the test's failure

use imbl::{OrdMap, OrdSet};
use quantumnet_controller::{
    lower,
    store::{Context, State, Txn, evaluate, visits},
};
use quantumnet_model::{
    Strong, Uuid,
    column::Text,
    intent::Problem,
    nb::{LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort, NbGlobal},
    sb::PortBinding,
};

const SWITCH: Uuid = Uuid::from_u128(100);

struct Store {
    state: State,
    work: lower::Work,
}

impl Store {
    fn new(config: &[(&str, &str)]) -> Self {
        let mut store = Self { state: State::default(), work: lower::Work::default() };
        store.run(|txn| {
            let options = pairs(&[("mac_prefix", "0a:bc:de")]);
            txn.put(Uuid::from_u128(1), NbGlobal { options, ..NbGlobal::default() });
            let row =
                LogicalSwitch { name: "sw".into(), other_config: pairs(config), ..LogicalSwitch::default() };
            txn.put(SWITCH, row);
        });
        store
    }

    fn run(&mut self, request: impl FnOnce(&mut Txn<'_>)) {
        let context = Context { now_ms: 1, principal: "test".into() };
        let work = std::cell::Cell::new(lower::Work::default());
        let counted = |txn: &mut Txn<'_>| {
            work.set(lower::run_counted(txn)?);
            Ok(())
        };
        let request = |txn: &mut Txn<'_>| {
            request(txn);
            Ok(())
        };
        self.state = evaluate(&self.state, &context, request, &counted).unwrap().state;
        self.work = work.get();
    }

    fn add(&mut self, number: u128, addresses: &[&str]) -> String {
        self.run(|txn| add(txn, number, addresses));
        self.dynamic(number)
    }

    fn set(&mut self, number: u128, addresses: &[&str]) -> String {
        let addresses = texts(addresses);
        self.run(|txn| _ = txn.update::<LogicalSwitchPort>(port(number), |row| row.addresses = addresses));
        self.dynamic(number)
    }

    fn delete(&mut self, number: u128) {
        self.run(|txn| {
            let gone = Strong::new(port(number));
            txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.ports.remove(&gone));
        });
    }

    fn config(&mut self, config: &[(&str, &str)]) {
        let config = pairs(config);
        self.run(|txn| _ = txn.update::<LogicalSwitch>(SWITCH, |row| row.other_config = config));
    }

    fn dynamic(&self, number: u128) -> String {
        let row = self.state.get::<LogicalSwitchPort>(port(number)).unwrap();
        row.dynamic_addresses.as_deref().unwrap_or_default().to_owned()
    }

    fn errors(&self) -> Vec<String> {
        let errors = self.state.iter::<Problem>().filter(|(_, row)| &*row.severity == "error");
        errors.map(|(_, row)| row.message.to_string()).collect()
    }
}

fn port(number: u128) -> Uuid {
    Uuid::from_u128((7 << 64) | number)
}

fn add(txn: &mut Txn<'_>, number: u128, addresses: &[&str]) {
    let row = LogicalSwitchPort {
        name: format!("p{number:05}").into(),
        addresses: texts(addresses),
        ..LogicalSwitchPort::default()
    };
    txn.insert(port(number), row).unwrap();
    txn.update::<LogicalSwitch>(SWITCH, |switch| _ = switch.ports.insert(Strong::new(port(number))));
}

fn pairs(pairs: &[(&str, &str)]) -> OrdMap<Text, Text> {
    pairs.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect()
}

fn texts(texts: &[&str]) -> OrdSet<Text> {
    texts.iter().map(|text| Text::from(*text)).collect()
}

/// What the conformance set recorded of OVN.
#[test]
fn addresses_are_those_that_ovn_gives() {
    let mut store = Store::new(&[("subnet", "10.7.0.0/24"), ("exclude_ips", "10.7.0.2..10.7.0.9 10.7.0.11")]);
    assert_eq!(store.add(1, &["dynamic"]), "0a:bc:de:07:00:0b 10.7.0.10");
    assert_eq!(store.add(2, &["dynamic"]), "0a:bc:de:07:00:0d 10.7.0.12");
    assert_eq!(store.add(3, &["0a:00:00:00:33:33 dynamic"]), "0a:00:00:00:33:33 10.7.0.13");
    assert_eq!(store.add(4, &["dynamic 10.7.0.200"]), "0a:bc:de:07:00:c9 10.7.0.200");
    let binding = store.state.get::<PortBinding>(port(4)).unwrap();
    assert_eq!(binding.mac, texts(&["0a:bc:de:07:00:c9 10.7.0.200"]));
    // Given back, the lowest is given again at once.
    store.delete(1);
    assert_eq!(store.add(5, &["dynamic"]), "0a:bc:de:07:00:0b 10.7.0.10");
    assert!(store.errors().is_empty(), "{:?}", store.errors());

    let mut store = Store::new(&[("ipv6_prefix", "fd07::")]);
    assert_eq!(store.add(1, &["0a:00:00:00:11:11 dynamic"]), "0a:00:00:00:11:11 fd07::800:ff:fe00:1111");
    assert_eq!(store.add(2, &["dynamic fd07::9"]), "0a:bc:de:00:00:01 fd07::9");
    let mut store = Store::new(&[("mac_only", "true")]);
    assert_eq!(store.add(1, &["dynamic"]), "0a:bc:de:00:00:01");
    assert_eq!(store.add(2, &["dynamic", "unknown"]), "0a:bc:de:00:00:02");
}

#[test]
fn what_is_given_by_hand_comes_first() {
    let mut store = Store::new(&[("subnet", "10.0.0.0/24")]);
    store.add(1, &["0a:00:00:00:00:01 10.0.0.2 fd00::2"]);
    assert_eq!(store.add(2, &["dynamic"]), "0a:bc:de:00:00:04 10.0.0.3");
    // The MAC stays where only the address has to go.
    store.add(3, &["0a:00:00:00:00:03 10.0.0.3"]);
    assert_eq!(store.dynamic(2), "0a:bc:de:00:00:04 10.0.0.4");
    assert_eq!(store.state.get::<PortBinding>(port(2)).unwrap().mac, texts(&["0a:bc:de:00:00:04 10.0.0.4"]));
    // A MAC by hand keeps others from it.
    store.add(4, &["0a:bc:de:00:00:06"]);
    assert_eq!(store.add(5, &["dynamic"]), "0a:bc:de:00:00:07 10.0.0.5");
    assert!(store.errors().is_empty(), "{:?}", store.errors());
    // Two by hand are the client's affair; the address is free when both have gone.
    store.add(6, &["0a:00:00:00:00:06 10.0.0.6"]);
    store.add(7, &["0a:00:00:00:00:07 10.0.0.6"]);
    store.delete(6);
    assert_eq!(store.add(8, &["dynamic"]), "0a:bc:de:00:00:08 10.0.0.7");
    store.delete(7);
    assert_eq!(store.add(9, &["dynamic"]), "0a:bc:de:00:00:09 10.0.0.6");
}

#[test]
fn the_router_port_behind_a_port_has_its_addresses() {
    let mut store = Store::new(&[("subnet", "10.0.0.0/24")]);
    store.run(|txn| {
        add(txn, 1, &["router"]);
        txn.update::<LogicalSwitchPort>(port(1), |row| {
            row.r#type = "router".into();
            row.options = pairs(&[("router-port", "lrp")]);
        });
    });
    assert_eq!(store.add(2, &["dynamic"]), "0a:bc:de:00:00:03 10.0.0.2");
    let router_port = Uuid::from_u128(51);
    store.run(|txn| {
        let row = LogicalRouterPort {
            name: "lrp".into(),
            mac: "0a:bc:de:00:00:04".into(),
            networks: texts(&["10.0.0.2/24", "fd00::1/64"]),
            ..LogicalRouterPort::default()
        };
        txn.put(router_port, row);
        let ports = OrdSet::unit(Strong::new(router_port));
        txn.put(Uuid::from_u128(50), LogicalRouter { name: "lr".into(), ports, ..LogicalRouter::default() });
    });
    assert_eq!(store.dynamic(2), "0a:bc:de:00:00:03 10.0.0.3");
    // Neither its address nor its MAC.
    assert_eq!(store.add(3, &["dynamic"]), "0a:bc:de:00:00:05 10.0.0.4");
    store.run(|txn| _ = txn.delete::<LogicalRouter>(Uuid::from_u128(50)));
    assert_eq!(store.add(4, &["dynamic"]), "0a:bc:de:00:00:04 10.0.0.2");
}

#[test]
fn a_wish_that_cannot_be_met_is_told_and_met_when_it_can() {
    let mut store = Store::new(&[("subnet", "10.0.0.0/29"), ("exclude_ips", "10.0.0.6")]);
    assert_eq!(store.add(1, &["dynamic"]), "0a:bc:de:00:00:03 10.0.0.2");
    assert_eq!(store.add(2, &["dynamic 10.0.0.2"]), "0a:bc:de:00:00:04 10.0.0.3");
    assert_eq!(store.errors(), ["10.0.0.2 is in use by another port; another address is given"]);
    assert_eq!(store.add(3, &["dynamic 10.0.0.6"]), "0a:bc:de:00:00:05 10.0.0.4");
    assert_eq!(store.add(4, &["dynamic 10.0.0.1 fd00::1"]), "0a:bc:de:00:00:06 10.0.0.5");
    assert_eq!(store.add(5, &["dynamic"]), "0a:bc:de:00:00:01");
    assert!(store.errors().iter().any(|error| error.starts_with("no address is left in 10.0.0.0/29")));
    assert_eq!(store.errors().len(), 4);
    // One that leaves gives its address to whoever asked for it, that one's to whoever has none.
    store.delete(1);
    assert_eq!(store.dynamic(2), "0a:bc:de:00:00:04 10.0.0.2");
    assert_eq!(store.dynamic(5), "0a:bc:de:00:00:01 10.0.0.3");
    assert_eq!(store.errors().len(), 2);
    assert_eq!(store.set(3, &["dynamic"]), "0a:bc:de:00:00:05 10.0.0.4");
    assert_eq!(store.set(4, &["0a:00:00:00:00:09"]), "");
    assert!(store.errors().is_empty(), "{:?}", store.errors());
    store.set(3, &["dynamic", "dynamic 10.0.0.5"]);
    assert_eq!(store.errors(), ["\"dynamic 10.0.0.5\" has no effect: a port has one dynamic address"]);
}

#[test]
fn addresses_follow_the_switch() {
    let mut store = Store::new(&[]);
    assert_eq!(store.add(1, &["dynamic"]), "");
    assert_eq!(store.errors().len(), 1);
    store.config(&[("subnet", "10.0.0.0/24"), ("ipv6_prefix", "fd00::/64")]);
    assert_eq!(store.dynamic(1), "0a:bc:de:00:00:03 10.0.0.2 fd00::8bc:deff:fe00:3");
    assert!(store.errors().is_empty());
    store.config(&[("subnet", "10.0.0.0/24"), ("exclude_ips", "10.0.0.2")]);
    assert_eq!(store.dynamic(1), "0a:bc:de:00:00:03 10.0.0.3");
    store.config(&[("subnet", "192.168.0.0/24")]);
    assert_eq!(store.dynamic(1), "0a:bc:de:00:00:03 192.168.0.2");
    store.run(|txn| {
        txn.update::<NbGlobal>(Uuid::from_u128(1), |row| row.options = pairs(&[("mac_prefix", "02:11:22")]));
    });
    assert_eq!(store.dynamic(1), "02:11:22:a8:00:03 192.168.0.2");
    store.config(&[]);
    assert_eq!(store.dynamic(1), "");
    // Without one of the client's, a prefix is chosen and stays.
    store.run(|txn| _ = txn.delete::<NbGlobal>(Uuid::from_u128(1)));
    store.config(&[("mac_only", "true")]);
    let chosen = store.dynamic(1);
    store.run(|txn| {
        let (row, _) = txn.iter::<NbGlobal>().next().unwrap();
        txn.delete::<NbGlobal>(row);
    });
    assert_eq!(store.dynamic(1), chosen);
    let (_, row) = store.state.iter::<NbGlobal>().next().unwrap();
    assert!(chosen.starts_with(&**row.options.get("mac_prefix").unwrap()), "{chosen}");
}

/// Addresses that a client restores with a row are kept.
#[test]
fn addresses_of_a_former_life_are_kept() {
    let mut store = Store::new(&[("subnet", "10.0.0.0/24")]);
    store.run(|txn| {
        for (number, text) in [(1, "0a:bc:de:00:00:77 10.0.0.77"), (2, "0a:bc:de:00:00:02 10.0.9.9")] {
            add(txn, number, &["dynamic"]);
            txn.update::<LogicalSwitchPort>(port(number), |row| row.dynamic_addresses = Some(text.into()));
        }
    });
    assert_eq!(store.dynamic(1), "0a:bc:de:00:00:77 10.0.0.77");
    assert_eq!(store.dynamic(2), "0a:bc:de:00:00:02 10.0.0.2");
}

/// Rows lowered and visited by a port among many as among few.
#[test]
fn the_cost_of_a_dynamic_port_does_not_follow_their_number() {
    let mut store = Store::new(&[("subnet", "10.0.0.0/16")]);
    let mut costs = Vec::new();
    let mut have = 0;
    for size in [1_000_u128, 20_000] {
        store.run(|txn| (have..size).for_each(|number| add(txn, number, &["dynamic"])));
        have = size;
        let begun = visits();
        store.add(have, &["dynamic"]);
        let added = (store.work, visits() - begun);
        store.delete(5);
        let deleted = store.work;
        store.add(5, &["dynamic"]);
        have += 1;
        costs.push((added, deleted, store.work));
    }
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0].0.1 < 300, "{costs:?}");
}
