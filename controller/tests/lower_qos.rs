//! Lowering of meters, limits of protocols, QoS rules, mirrors and queues.

#![allow(clippy::unwrap_used)] // in helpers of tests too: a panic is the test's failure

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use quantumnet_controller::{
    lower,
    store::{Context, State, Txn, evaluate},
};
use quantumnet_model::{
    Strong, Uuid, Weak,
    column::Text,
    intent::Problem,
    nb::{
        Acl, Copp, LogicalSwitch, LogicalSwitchPort, Meter, MeterBand, Mirror, MirrorRule, NbGlobal, Qos,
        Sample, SampleCollector, SamplingApp,
    },
    sb::{self, Chassis, ChassisInterface, PortBinding},
};

const SWITCH: Uuid = Uuid::from_u128(100);
/// Its tunnel endpoint.
const ENCAP: Uuid = Uuid::from_u128(0xb);
const HV: Uuid = Uuid::from_u128(10);
const METER: Uuid = Uuid::from_u128(500);
const ACL: Uuid = Uuid::from_u128(600);
const MIRROR: Uuid = Uuid::from_u128(700);

fn port(number: u128) -> Uuid {
    Uuid::from_u128(200 + number)
}

struct Store(State);

impl Store {
    /// A switch with the ports p1 to p3.
    fn new() -> Self {
        let mut store = Self(State::default());
        store.run(|txn| {
            txn.put(Uuid::from_u128(1), NbGlobal::default());
            let encap = sb::Encap {
                r#type: "geneve".into(),
                ip: "192.0.2.1".into(),
                chassis_name: "hv1".into(),
                ..sb::Encap::default()
            };
            txn.put(ENCAP, encap);
            let encaps = std::iter::once(Strong::new(ENCAP)).collect();
            txn.put(
                HV,
                Chassis { name: "hv1".into(), hostname: "alpha".into(), encaps, ..Chassis::default() },
            );
            let ports: OrdSet<_> = (1..=3).map(|number| Strong::new(port(number))).collect();
            txn.put(SWITCH, LogicalSwitch { name: "sw".into(), ports, ..LogicalSwitch::default() });
            for number in 1..=3 {
                let name = format!("p{number}").into();
                txn.put(port(number), LogicalSwitchPort { name, ..LogicalSwitchPort::default() });
            }
        });
        store
    }

    fn run(&mut self, change: impl FnOnce(&mut Txn<'_>)) {
        let context = Context { now_ms: 1_000_000, principal: Arc::from("test") };
        let request = |txn: &mut Txn<'_>| {
            change(txn);
            Ok(())
        };
        self.0 = evaluate(&self.0, &context, request, &lower::run).unwrap().state;
        assert!(self.0.check());
    }

    fn problems(&self) -> Vec<String> {
        let problems = self.0.iter::<Problem>();
        let mut texts: Vec<String> =
            problems.map(|(_, row)| format!("{}.{}: {}", row.table, row.column, row.message)).collect();
        texts.sort();
        texts
    }

    fn binding(&self, number: u128) -> &PortBinding {
        self.0.get(port(number)).unwrap()
    }

    fn option(&self, number: u128, key: &str) -> Option<String> {
        self.binding(number).options.get(key).map(ToString::to_string)
    }

    /// Names of southbound meters with their rates.
    fn meters(&self) -> Vec<(String, Vec<i64>)> {
        let rates = |row: &sb::Meter| {
            let bands = row.bands.iter().map(|band| self.0.get::<sb::MeterBand>(band.uuid()).unwrap().rate);
            (row.name.to_string(), bands.collect())
        };
        let mut meters: Vec<_> = self.0.iter::<sb::Meter>().map(|(_, row)| rates(row)).collect();
        meters.sort();
        meters
    }

    fn mirror_port(&self) -> Option<&PortBinding> {
        self.0.iter::<PortBinding>().map(|(_, row)| row).find(|row| &*row.r#type == "mirror")
    }
}

fn pairs(pairs: &[(&str, &str)]) -> OrdMap<Text, Text> {
    pairs.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect()
}

fn set_options(store: &mut Store, number: u128, options: &[(&str, &str)]) {
    store.run(|txn| _ = txn.update::<LogicalSwitchPort>(port(number), |row| row.options = pairs(options)));
}

#[test]
fn meters_are_shown_and_fair_ones_once_more_for_each_acl_that_logs() {
    let mut store = Store::new();
    let band = Uuid::from_u128(501);
    store.run(|txn| {
        txn.put(band, MeterBand { action: "drop".into(), rate: 10, ..MeterBand::default() });
        let bands = OrdSet::unit(Strong::new(band));
        let row =
            Meter { name: "m".into(), unit: "pktps".into(), bands, fair: Some(true), ..Meter::default() };
        txn.put(METER, row);
        let acl = Acl {
            direction: "to-lport".into(),
            r#match: "ip4".into(),
            action: "drop".into(),
            log: true,
            meter: Some("m".into()),
            ..Acl::default()
        };
        txn.put(ACL, acl);
        txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.acls.insert(Strong::new(ACL)));
    });
    let own = format!("m__{ACL}");
    assert_eq!(store.meters(), [("m".to_owned(), vec![10]), (own.clone(), vec![10])]);
    assert_eq!(store.problems(), [""; 0]);

    store.run(|txn| _ = txn.update::<MeterBand>(band, |row| row.rate = 20));
    assert_eq!(store.meters(), [("m".to_owned(), vec![20]), (own, vec![20])]);
    store.run(|txn| _ = txn.update::<Meter>(METER, |row| row.fair = None));
    assert_eq!(store.meters(), [("m".to_owned(), vec![20])]);
    store.run(|txn| _ = txn.update::<Acl>(ACL, |row| row.meter = Some("other".into())));
    assert_eq!(store.problems(), ["ACL.meter: no meter is called \"other\""]);
    store.run(|txn| _ = txn.update::<Acl>(ACL, |row| row.log = false));
    assert_eq!(store.problems(), [""; 0]);
    store.run(|txn| _ = txn.delete::<Meter>(METER));
    assert_eq!(store.meters(), []);
    assert_eq!(store.0.iter::<sb::MeterBand>().count(), 0);
}

#[test]
fn what_a_copp_can_not_limit_is_told() {
    let mut store = Store::new();
    store.run(|txn| {
        let meters = pairs(&[("dhcpv4-opts", "m"), ("telnet", "m")]);
        txn.put(Uuid::from_u128(800), Copp { name: "c".into(), meters, ..Copp::default() });
    });
    assert_eq!(
        store.problems(),
        [
            "Copp.meters: dhcpv4-opts: no meter is called \"m\"; telnet: no protocol of that name can be limited",
            "Copp.meters: meters:telnet: the key is not known; nothing acts on it",
        ]
    );
}

#[test]
fn samples_that_nobody_gets_are_told() {
    let mut store = Store::new();
    let (sample, collector) = (Uuid::from_u128(850), Uuid::from_u128(851));
    store.run(|txn| {
        txn.put(collector, SampleCollector { id: 1, set_id: 1, ..SampleCollector::default() });
        txn.put(sample, Sample { metadata: 7, ..Sample::default() });
        let acl = Acl {
            direction: "to-lport".into(),
            r#match: "ip4".into(),
            action: "allow-stateless".into(),
            sample_new: Some(Strong::new(sample)),
            sample_est: Some(Strong::new(sample)),
            ..Acl::default()
        };
        txn.put(ACL, acl);
        txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.acls.insert(Strong::new(ACL)));
        for (number, kind) in [(852, "acl-new"), (853, "drop")] {
            let row = SamplingApp { r#type: kind.into(), id: 3, ..SamplingApp::default() };
            txn.put(Uuid::from_u128(number), row);
        }
    });
    assert_eq!(
        store.problems(),
        [
            "ACL.sample_est: packets that \"allow-stateless\" matches belong to no connection of its; see sample_new",
            "Sample.collectors: empty; nothing is sampled",
            "Sampling_App.type: dropped packets are sampled only where an ACL with sample_new drops them, as acl-new",
        ]
    );
    store.run(|txn| {
        txn.update::<Acl>(ACL, |row| row.action = "allow-related".into());
        txn.update::<Sample>(sample, |row| _ = row.collectors.insert(Strong::new(collector)));
        txn.delete::<SamplingApp>(Uuid::from_u128(853));
    });
    assert_eq!(store.problems(), [""; 0]);
}

#[test]
fn rules_without_effect_are_told() {
    let mut store = Store::new();
    let rule = Uuid::from_u128(900);
    store.run(|txn| {
        let row = Qos {
            direction: "from-lport".into(),
            r#match: "ip4.src =".into(),
            action: OrdMap::unit("dscp".into(), 64),
            bandwidth: OrdMap::unit("burst".into(), 1),
            ..Qos::default()
        };
        txn.put(rule, row);
        txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.qos_rules.insert(Strong::new(rule)));
    });
    let problems = store.problems();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(problems[0], "QoS.action: dscp is 64, expected 0 to 63; it is not set");
    assert_eq!(problems[1], "QoS.bandwidth: a burst without a rate limits nothing");
    assert!(problems[2].ends_with("; the QoS rule has no effect"), "{problems:?}");
    store.run(|txn| _ = txn.update::<LogicalSwitch>(SWITCH, |row| row.qos_rules.clear()));
    assert_eq!(store.problems(), [""; 0]);
}

#[test]
fn shaped_ports_have_queues_where_their_switch_has_a_physical_network() {
    let mut store = Store::new();
    set_options(&mut store, 1, &[("qos_max_rate", "1000000")]);
    assert_eq!(store.option(1, "qdisc_queue_id"), None);
    store.run(|txn| {
        txn.update::<LogicalSwitchPort>(port(3), |row| {
            row.r#type = "localnet".into();
            row.options = pairs(&[("network_name", "physnet1")]);
        });
    });
    assert_eq!(store.option(1, "qdisc_queue_id").as_deref(), Some("1"));
    assert_eq!(store.option(1, "qos_physical_network").as_deref(), Some("physnet1"));
    set_options(&mut store, 2, &[("qos_min_rate", "1000"), ("qos_burst", "many")]);
    assert_eq!(store.option(2, "qdisc_queue_id").as_deref(), Some("2"));
    assert_eq!(
        store.problems(),
        ["Logical_Switch_Port.options: qos_burst is \"many\", expected a number; it has no effect"]
    );
    set_options(&mut store, 1, &[]);
    assert_eq!(store.option(1, "qdisc_queue_id"), None);
    assert_eq!(store.option(2, "qdisc_queue_id").as_deref(), Some("2"));
    set_options(&mut store, 1, &[("qos_max_rate", "5")]);
    assert_eq!(store.option(1, "qdisc_queue_id").as_deref(), Some("1"), "given back and given again");
    store.run(|txn| {
        _ = txn.update::<LogicalSwitch>(SWITCH, |row| _ = row.ports.remove(&Strong::new(port(3))))
    });
    assert_eq!([store.option(1, "qdisc_queue_id"), store.option(2, "qos_physical_network")], [None, None]);
}

#[test]
fn mirrors_are_shown_and_those_to_a_port_have_one_on_the_switch() {
    let mut store = Store::new();
    store.run(|txn| {
        let row = Mirror {
            name: "m".into(),
            filter: "both".into(),
            r#type: "lport".into(),
            sink: "p3".into(),
            ..Mirror::default()
        };
        txn.put(MIRROR, row);
        for number in [1, 2] {
            txn.update::<LogicalSwitchPort>(port(number), |row| {
                row.mirror_rules.insert(Weak::new(MIRROR));
            });
        }
    });
    assert_eq!(store.problems(), [""; 0]);
    assert_eq!(&*store.0.get::<sb::Mirror>(MIRROR).unwrap().sink, "p3");
    assert!(store.binding(1).mirror_rules.contains(&Weak::new(MIRROR)));
    let made = store.mirror_port().unwrap();
    assert_eq!(
        (&*made.logical_port, made.mirror_port.as_deref(), made.chassis),
        ("mp-sw-p3", Some("p3"), None)
    );
    assert_eq!(store.0.iter::<PortBinding>().count(), 4, "one for both ports");

    // It is where its target is.
    store.run(|txn| {
        let row = ChassisInterface {
            chassis: Strong::new(HV),
            iface_id: "p3".into(),
            claim: 1,
            ..ChassisInterface::default()
        };
        txn.put(Uuid::from_u128(300), row);
    });
    assert_eq!(store.mirror_port().unwrap().chassis, Some(Weak::new(HV)));
    store.run(|txn| _ = txn.delete::<ChassisInterface>(Uuid::from_u128(300)));
    assert_eq!(store.mirror_port().unwrap().chassis, None);

    store.run(|txn| _ = txn.update::<LogicalSwitch>(SWITCH, |row| row.name = "other".into()));
    assert_eq!(&*store.mirror_port().unwrap().logical_port, "mp-other-p3");
    store.run(|txn| _ = txn.update::<Mirror>(MIRROR, |row| row.sink = "p9".into()));
    assert_eq!(store.problems(), ["Mirror.sink: no port is called \"p9\"; nothing is copied"]);
    assert!(store.mirror_port().is_none());
    store.run(|txn| _ = txn.update::<LogicalSwitchPort>(port(3), |row| row.name = "p9".into()));
    assert_eq!(store.problems(), [""; 0]);
    assert_eq!(&*store.mirror_port().unwrap().logical_port, "mp-other-p9");
    store.run(|txn| {
        for number in [1, 2] {
            txn.update::<LogicalSwitchPort>(port(number), |row| row.mirror_rules.clear());
        }
    });
    assert!(store.mirror_port().is_none());
    assert!(store.binding(1).mirror_rules.is_empty());
    store.run(|txn| _ = txn.delete::<Mirror>(MIRROR));
    assert!(store.0.get::<sb::Mirror>(MIRROR).is_none());
}

#[test]
fn mirrors_that_copy_nothing_are_told() {
    let mut store = Store::new();
    store.run(|txn| {
        let rule = Uuid::from_u128(701);
        txn.put(rule, MirrorRule { r#match: "nonsense".into(), action: "skip".into(), priority: 1 });
        let row = Mirror {
            name: "m".into(),
            filter: "both".into(),
            r#type: "gre".into(),
            sink: "here".into(),
            mirror_rules: OrdSet::unit(Strong::new(rule)),
            ..Mirror::default()
        };
        txn.put(MIRROR, row);
    });
    let problems = store.problems();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(problems[0], "Mirror.mirror_rules: rules are for mirrors to logical ports only");
    assert_eq!(problems[1], "Mirror.sink: \"here\" is no IP address; nothing is copied");
    assert!(problems[2].starts_with("Mirror_Rule.match: "), "{problems:?}");
}
