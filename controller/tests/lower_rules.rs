//! Rules of lowering, one by one.

#![allow(clippy::unwrap_used)] // in helpers of tests too: a panic is the test's failure

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use quantumnet_controller::{
    lower::{self, address, binding, keys, owner},
    store::{Class, Context, Refusal, State, Txn, evaluate},
};
use quantumnet_model::{
    Strong, Uuid,
    column::Text,
    intent::{Port, Problem, Project, Subnet, VirtualNetwork},
    nb::{DhcpOptions, LogicalRouter, LogicalSwitch, LogicalSwitchPort, NbGlobal},
    sb::{Chassis, ChassisInterface, ChassisPrivate, DatapathBinding, Encap, PortBinding, SbGlobal},
};

const SWITCH: Uuid = Uuid::from_u128(100);
const PORT: Uuid = Uuid::from_u128(200);

/// The switch that has [`PORT`].
fn switch_of_port() -> LogicalSwitch {
    LogicalSwitch { name: "sw".into(), ports: OrdSet::unit(Strong::new(PORT)), ..LogicalSwitch::default() }
}

struct Store {
    state: State,
    now_ms: i64,
}

impl Store {
    fn new() -> Self {
        let mut store = Self { state: State::default(), now_ms: 1_000_000 };
        store.run(|txn| {
            txn.put(Uuid::from_u128(1), NbGlobal::default());
            for (number, hostname) in [(1, "alpha"), (2, "beta"), (3, "gamma")] {
                chassis(txn, number, hostname, 1_500);
            }
            Ok(())
        });
        store
    }

    fn try_run(&mut self, request: impl FnOnce(&mut Txn<'_>) -> Result<(), Refusal>) -> Result<(), Refusal> {
        let context = Context { now_ms: self.now_ms, principal: Arc::from("test") };
        self.state = evaluate(&self.state, &context, request, &lower::run)?.state;
        assert!(self.state.check());
        Ok(())
    }

    fn run(&mut self, request: impl FnOnce(&mut Txn<'_>) -> Result<(), Refusal>) {
        self.try_run(request).unwrap();
    }

    /// A switch with one port, made by a northbound client.
    fn with_port(options: &[(&str, &str)]) -> Self {
        let mut store = Self::new();
        store.run(|txn| {
            txn.put(SWITCH, switch_of_port());
            let port = LogicalSwitchPort {
                name: "vm".into(),
                options: pairs(options),
                ..LogicalSwitchPort::default()
            };
            txn.insert(PORT, port)
        });
        store
    }

    fn plug(&mut self, number: u8, claim: i64) {
        self.plug_version(number, claim, "");
    }

    fn plug_version(&mut self, number: u8, claim: i64, version: &str) {
        let row = ChassisInterface {
            chassis: Strong::new(hv(number)),
            iface_id: "vm".into(),
            iface_id_ver: version.into(),
            claim,
            claimed_at: self.now_ms,
            ..ChassisInterface::default()
        };
        self.run(|txn| {
            txn.put(Uuid::from_u128(300 + u128::from(number)), row);
            Ok(())
        });
    }

    fn unplug(&mut self, number: u8) {
        self.run(|txn| {
            txn.delete::<ChassisInterface>(Uuid::from_u128(300 + u128::from(number)));
            Ok(())
        });
    }

    fn holder(&self) -> Option<Uuid> {
        self.state.get::<PortBinding>(PORT).unwrap().chassis.map(|chassis| chassis.uuid())
    }

    fn problems(&self) -> Vec<String> {
        self.state
            .iter::<Problem>()
            .map(|(_, row)| format!("{}.{}: {}", row.table, row.column, row.message))
            .collect()
    }
}

fn pairs(pairs: &[(&str, &str)]) -> OrdMap<Text, Text> {
    pairs.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect()
}

fn texts(texts: &[&str]) -> OrdSet<Text> {
    texts.iter().map(|text| Text::from(*text)).collect()
}

fn hv(number: u8) -> Uuid {
    Uuid::from_u128(10 + u128::from(number))
}

fn chassis(txn: &mut Txn<'_>, number: u8, hostname: &str, mtu: u32) {
    let encap = Uuid::from_u128(20 + u128::from(number));
    txn.put(
        encap,
        Encap { r#type: "geneve".into(), ip: format!("192.0.2.{number}").into(), ..Encap::default() },
    );
    let row = Chassis {
        name: format!("hv{number}").into(),
        hostname: hostname.into(),
        encaps: OrdSet::unit(Strong::new(encap)),
        other_config: pairs(&[("underlay-mtu", &mtu.to_string())]),
        ..Chassis::default()
    };
    txn.put(hv(number), row);
}

#[test]
fn the_latest_claim_holds_the_port_and_a_quarrel_is_damped_and_named() {
    let mut store = Store::with_port(&[]);
    assert_eq!(store.holder(), None);
    store.plug(1, 1);
    assert_eq!(store.holder(), Some(hv(1)));
    store.plug(2, 2);
    assert_eq!(store.holder(), Some(hv(2)));
    assert_eq!(store.problems(), ["Port_Binding.chassis: port vm is claimed by hv1 and hv2; hv2 holds it"]);
    // hv1 claims it again at once: it has to wait.
    store.now_ms += 500;
    store.plug(1, 3);
    assert_eq!(store.holder(), Some(hv(2)));
    assert_eq!(binding::due(&store.state), Some(1_000_000 + binding::HOLD_MS));
    store.now_ms += 1_499;
    store.run(binding::relower_damped);
    assert_eq!(store.holder(), Some(hv(2)));
    store.now_ms += 1;
    store.run(binding::relower_damped);
    assert_eq!(store.holder(), Some(hv(1)));
    assert_eq!(binding::due(&store.state), None);
    // Whoever is left gets it at once.
    store.unplug(1);
    assert_eq!(store.holder(), Some(hv(2)));
    assert!(store.problems().is_empty());
    store.unplug(2);
    assert_eq!(store.holder(), None);
}

#[test]
fn a_requested_chassis_is_known_by_name_or_host_name_and_may_come_later() {
    let mut store = Store::with_port(&[("requested-chassis", "delta")]);
    store.plug(1, 1);
    assert_eq!(store.holder(), None);
    store.run(|txn| {
        chassis(txn, 1, "delta", 1_500);
        Ok(())
    });
    assert_eq!(store.holder(), Some(hv(1)));
    assert_eq!(
        store.state.get::<PortBinding>(PORT).unwrap().requested_chassis.map(|chassis| chassis.uuid()),
        Some(hv(1))
    );
    store.plug(2, 2);
    assert_eq!(store.holder(), Some(hv(1)));
    store.run(|txn| {
        txn.update::<LogicalSwitchPort>(PORT, |row| row.options = pairs(&[("requested-chassis", "hv2,hv1")]));
        Ok(())
    });
    let row = store.state.get::<PortBinding>(PORT).unwrap();
    assert_eq!(row.chassis.map(|chassis| chassis.uuid()), Some(hv(2)));
    assert_eq!(row.additional_chassis.iter().map(|chassis| chassis.uuid()).collect::<Vec<_>>(), [hv(1)]);
    // The chassis goes, with all that it had.
    store.run(|txn| {
        txn.delete::<ChassisInterface>(Uuid::from_u128(302));
        txn.delete::<Chassis>(hv(2));
        Ok(())
    });
    assert_eq!(store.holder(), None);
}

#[test]
fn an_interface_of_another_version_is_not_eligible() {
    let mut store = Store::with_port(&[("iface-id-ver", "v2")]);
    store.plug_version(1, 1, "v1");
    assert_eq!(store.holder(), None);
    store.plug_version(2, 2, "v2");
    store.plug_version(1, 3, "v1");
    assert_eq!(store.holder(), Some(hv(2)));
}

#[test]
fn up_follows_the_holder() {
    let mut store = Store::with_port(&[]);
    store.plug(1, 1);
    let up = |store: &Store| {
        (
            store.state.get::<PortBinding>(PORT).unwrap().up,
            store.state.get::<LogicalSwitchPort>(PORT).unwrap().up,
        )
    };
    assert_eq!(up(&store), (Some(false), Some(false)));
    store.run(|txn| {
        txn.update::<PortBinding>(PORT, |row| row.up = Some(true));
        Ok(())
    });
    assert_eq!(up(&store), (Some(true), Some(true)));
    store.plug(2, 2);
    assert_eq!(up(&store), (Some(false), Some(false)));
}

#[test]
fn nested_ports_follow_their_parent_and_get_a_tag() {
    let mut store = Store::with_port(&[]);
    let child = Uuid::from_u128(201);
    store.run(|txn| {
        let row = LogicalSwitchPort {
            name: "child".into(),
            parent_name: Some("vm".into()),
            tag_request: Some(0),
            ..LogicalSwitchPort::default()
        };
        txn.insert(child, row)?;
        txn.update::<LogicalSwitch>(SWITCH, |switch| _ = switch.ports.insert(Strong::new(child)));
        Ok(())
    });
    store.plug(1, 1);
    let row = store.state.get::<PortBinding>(child).unwrap();
    assert_eq!((row.chassis.map(|chassis| chassis.uuid()), row.tag), (Some(hv(1)), Some(1)));
    assert_eq!(store.state.get::<LogicalSwitchPort>(child).unwrap().tag, Some(1));
    store.unplug(1);
    assert_eq!(store.state.get::<PortBinding>(child).unwrap().chassis, None);
}

#[test]
fn northbound_rows_that_cannot_be_lowered_are_kept_and_named_until_mended() {
    let mut store = Store::with_port(&[("requested-tnl-key", "70000")]);
    assert_eq!(
        store.problems(),
        [
            "Logical_Switch_Port.options: requested-tnl-key is \"70000\", expected 1 to 32767; another is used instead"
        ]
    );
    store.run(|txn| {
        txn.update::<LogicalSwitchPort>(PORT, |row| {
            row.options = pairs(&[("requested-tnl-key", "7")]);
            row.addresses = texts(&["0a:00:00:00:00:01 10.0.0", "0a:00:00:00:00:01 10.0.0.5", "dynamic"]);
        });
        Ok(())
    });
    let row = store.state.get::<PortBinding>(PORT).unwrap();
    assert_eq!(row.tunnel_key, 7);
    assert_eq!(row.mac.len(), 1);
    assert_eq!(store.problems().len(), 1, "{:?}", store.problems());
    assert!(
        store.problems()[0].contains("\"0a:00:00:00:00:01 10.0.0\" has no effect")
            && store.problems()[0].contains("the switch has no other_config:subnet")
    );
    // A second port asks for the same key and loses.
    let other = Uuid::from_u128(202);
    store.run(|txn| {
        txn.update::<LogicalSwitchPort>(PORT, |row| row.addresses = OrdSet::new());
        txn.insert(
            other,
            LogicalSwitchPort {
                name: "b".into(),
                options: pairs(&[("requested-tnl-key", "7")]),
                ..LogicalSwitchPort::default()
            },
        )?;
        txn.update::<LogicalSwitch>(SWITCH, |switch| _ = switch.ports.insert(Strong::new(other)));
        Ok(())
    });
    assert_eq!(
        store.problems(),
        ["Logical_Switch_Port.options: requested-tnl-key 7 is in use; another is used instead"]
    );
    assert_ne!(store.state.get::<PortBinding>(other).unwrap().tunnel_key, 7);
    // The first one goes in the same transaction in which the second is looked at again.
    store.run(|txn| {
        txn.delete::<LogicalSwitchPort>(PORT);
        txn.update::<LogicalSwitch>(SWITCH, |switch| _ = switch.ports.remove(&Strong::new(PORT)));
        txn.update::<LogicalSwitchPort>(other, |row| row.enabled = Some(true));
        Ok(())
    });
    assert_eq!(store.state.get::<PortBinding>(other).unwrap().tunnel_key, 7);
    assert!(store.problems().is_empty(), "{:?}", store.problems());
    store.run(|txn| {
        txn.update::<LogicalSwitchPort>(other, |row| row.r#type = "teapot".into());
        Ok(())
    });
    assert_eq!(
        store.problems(),
        ["Logical_Switch_Port.type: unknown port type \"teapot\"; the port has no effect"]
    );
    store.run(|txn| {
        txn.delete::<LogicalSwitch>(SWITCH);
        Ok(())
    });
    assert!(store.problems().is_empty());
    assert_eq!(store.state.iter::<DatapathBinding>().count() + store.state.iter::<PortBinding>().count(), 0);
}

#[test]
fn configuration_numbers_follow_the_slowest_hypervisor() {
    let mut store = Store::new();
    let global = |store: &Store| {
        let (_, row) = store.state.iter::<NbGlobal>().next().unwrap();
        (row.nb_cfg, row.sb_cfg, row.hv_cfg)
    };
    let ask = |store: &mut Store, cfg: i64| {
        store.run(|txn| {
            txn.update::<NbGlobal>(Uuid::from_u128(1), |row| row.nb_cfg = cfg);
            Ok(())
        });
    };
    ask(&mut store, 3);
    assert_eq!(global(&store), (3, 3, 3));
    let private = |number: u128, nb_cfg: i64, at: i64| {
        move |txn: &mut Txn<'_>| {
            let row = ChassisPrivate {
                name: format!("hv{number}").into(),
                nb_cfg,
                nb_cfg_timestamp: at,
                ..ChassisPrivate::default()
            };
            txn.put(Uuid::from_u128(400 + number), row);
            Ok(())
        }
    };
    store.run(private(1, 3, 5));
    store.run(private(2, 2, 6));
    assert_eq!(global(&store), (3, 3, 2));
    store.run(private(2, 3, 7));
    assert_eq!(global(&store), (3, 3, 3));
    assert_eq!(store.state.iter::<NbGlobal>().next().unwrap().1.hv_cfg_timestamp, 7);
    ask(&mut store, 4);
    assert_eq!(global(&store), (4, 4, 3));
    let (_, southbound) = store.state.iter::<SbGlobal>().next().unwrap();
    assert_eq!((southbound.nb_cfg, southbound.nb_cfg_timestamp), (4, store.now_ms));
}

/// A client that begins with a new `NB_Global` does not take the hypervisors' former numbers for new ones.
#[test]
fn configuration_numbers_begin_anew_with_their_row() {
    let mut store = Store::new();
    store.run(|txn| {
        let row = ChassisPrivate { name: "hv1".into(), nb_cfg: 57, ..ChassisPrivate::default() };
        txn.put(Uuid::from_u128(401), row);
        txn.update::<NbGlobal>(Uuid::from_u128(1), |row| row.nb_cfg = 57);
        Ok(())
    });
    let global =
        |store: &Store| store.state.iter::<NbGlobal>().next().map(|(uuid, row)| (uuid, row.clone())).unwrap();
    assert_eq!(global(&store).1.hv_cfg, 57);
    store.run(|txn| {
        txn.delete::<NbGlobal>(Uuid::from_u128(1));
        Ok(())
    });
    let (uuid, row) = global(&store);
    assert_ne!(uuid, Uuid::from_u128(1));
    assert_eq!((row.nb_cfg, row.sb_cfg, row.hv_cfg), (0, 0, 0));
    store.run(|txn| {
        txn.update::<NbGlobal>(uuid, |row| row.nb_cfg = 1);
        Ok(())
    });
    assert_eq!((global(&store).1.sb_cfg, global(&store).1.hv_cfg), (1, 0));
    store.run(|txn| {
        txn.update::<ChassisPrivate>(Uuid::from_u128(401), |row| row.nb_cfg = 1);
        Ok(())
    });
    assert_eq!(global(&store).1.hv_cfg, 1);
}

#[test]
fn what_nothing_acts_on_is_warned_of_until_it_goes() {
    let mut store =
        Store::with_port(&[("receive_multicast", "false"), ("hostname", "vm"), ("colour", "red")]);
    store.run(|txn| {
        txn.update::<LogicalSwitchPort>(PORT, |row| row.external_ids = pairs(&[("colour", "red")]));
        let config = pairs(&[("mcast_snoop", "true"), ("mcast_querier", "true"), ("vlan-passthru", "true")]);
        txn.update::<LogicalSwitch>(SWITCH, |row| row.other_config = config);
        let options = pairs(&[("mcast_relay", "true")]);
        txn.insert(
            Uuid::from_u128(9),
            LogicalRouter { name: "lr".into(), options, ..LogicalRouter::default() },
        )
    });
    let mut problems = store.problems();
    problems.sort_unstable();
    assert_eq!(
        problems,
        [
            "Logical_Router.options: options:mcast_relay: nothing acts on it yet (multicast); it is kept",
            "Logical_Switch.other_config: other_config:mcast_snoop: nothing acts on it yet (multicast); it is kept",
            "Logical_Switch_Port.options: options:colour: the key is not known; nothing acts on it; \
             options:receive_multicast: nothing acts on it yet (l2); it is kept",
        ]
    );
    assert!(store.state.iter::<Problem>().all(|(_, row)| &*row.severity == "warning"));
    // Beside an error of the same column.
    store.run(|txn| {
        txn.update::<LogicalSwitch>(SWITCH, |row| {
            row.other_config = pairs(&[("subnet", "x"), ("colour", "red")])
        });
        txn.delete::<LogicalRouter>(Uuid::from_u128(9));
        txn.update::<LogicalSwitchPort>(PORT, |row| row.options = pairs(&[("hostname", "vm")]));
        Ok(())
    });
    assert_eq!(store.problems().len(), 2, "{:?}", store.problems());
    store.run(|txn| {
        txn.delete::<LogicalSwitch>(SWITCH);
        Ok(())
    });
    assert!(store.problems().is_empty(), "{:?}", store.problems());
}

fn with_intent() -> (Store, Uuid, Uuid, Uuid) {
    let mut store = Store::new();
    let (project, network, subnet, port) =
        (Uuid::from_u128(2), Uuid::from_u128(3), Uuid::from_u128(4), Uuid::from_u128(5));
    store.run(|txn| {
        txn.put(project, Project { name: "p".into(), ..Project::default() });
        let row = Subnet {
            cidr: "10.0.0.0/24".into(),
            gateway: Some("10.0.0.1".into()),
            dhcp: true,
            dns_servers: "9.9.9.9,1.1.1.1".into(),
            domain_name: "example.org".into(),
            ..Subnet::default()
        };
        txn.put(subnet, row);
        let subnets = OrdSet::unit(Strong::new(subnet));
        txn.put(
            network,
            VirtualNetwork {
                project: Strong::new(project),
                name: "web".into(),
                r#type: "overlay".into(),
                subnets,
                ..VirtualNetwork::default()
            },
        );
        let row = Port {
            project: Strong::new(project),
            name: "vm".into(),
            network: Strong::new(network),
            mac: "0a:00:00:00:00:09".into(),
            addresses: texts(&["10.0.0.9"]),
            allowed_address_pairs: texts(&["* 10.0.0.100", "0a:00:00:00:00:77 10.0.0.200"]),
            receive_unknown: true,
            host: "beta".into(),
            ..Port::default()
        };
        txn.insert(port, row)
    });
    (store, network, subnet, port)
}

#[test]
fn intent_becomes_what_northbound_clients_know() {
    let (mut store, network, subnet, port) = with_intent();
    let row = store.state.get::<LogicalSwitchPort>(port).unwrap();
    let listed = |set: &OrdSet<Text>| set.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(listed(&row.addresses), ["0a:00:00:00:00:09 10.0.0.9", "unknown"]);
    assert_eq!(
        listed(&row.port_security),
        ["0a:00:00:00:00:09 10.0.0.9 10.0.0.100", "0a:00:00:00:00:77 10.0.0.200"]
    );
    assert_eq!(row.dhcpv4_options.map(|options| options.uuid()), Some(subnet));
    assert_eq!(row.options, pairs(&[("hostname", "vm"), ("requested-chassis", "beta")]));
    let binding = store.state.get::<PortBinding>(port).unwrap();
    assert_eq!(binding.requested_chassis.map(|chassis| chassis.uuid()), Some(hv(2)));
    let options = |store: &Store| store.state.get::<DhcpOptions>(subnet).unwrap().options.clone();
    let option =
        |store: &Store, name: &str| options(store).get(name).map(ToString::to_string).unwrap_or_default();
    assert_eq!(option(&store, "router"), "10.0.0.1");
    assert_eq!(option(&store, "server_id"), "10.0.0.1");
    assert_eq!(option(&store, "dns_server"), "{9.9.9.9, 1.1.1.1}");
    assert_eq!(option(&store, "domain_name"), "\"example.org\"");
    assert_eq!(option(&store, "mtu"), "1442");
    assert_eq!(option(&store, "lease_time"), "3600");
    // The least MTU of all hypervisors counts, less what Geneve over that family of addresses adds.
    store.run(|txn| {
        chassis(txn, 3, "gamma", 1_400);
        Ok(())
    });
    assert_eq!(option(&store, "mtu"), "1342");
    store.run(|txn| {
        txn.update::<Encap>(Uuid::from_u128(23), |row| row.ip = "2001:db8::3".into());
        Ok(())
    });
    assert_eq!(option(&store, "mtu"), "1322");
    store.run(|txn| {
        txn.update::<VirtualNetwork>(network, |row| row.mtu = 9_000);
        Ok(())
    });
    assert_eq!(option(&store, "mtu"), "9000");
    // Turned off and on again.
    for (dhcp, expected) in [(false, None), (true, Some(subnet))] {
        store.run(|txn| {
            txn.update::<Subnet>(subnet, |row| row.dhcp = dhcp);
            Ok(())
        });
        let row = store.state.get::<LogicalSwitchPort>(port).unwrap();
        assert_eq!(row.dhcpv4_options.map(|options| options.uuid()), expected);
    }
}

#[test]
fn rows_of_intent_are_changed_through_the_api_only() {
    let (mut store, network, _, port) = with_intent();
    let refused = |store: &mut Store, change: &dyn Fn(&mut Txn<'_>)| {
        store
            .try_run(|txn| {
                change(txn);
                owner::refuse_owned(txn)
            })
            .unwrap_err()
            .to_string()
    };
    let message = refused(&mut store, &|txn| {
        _ = txn.update::<LogicalSwitchPort>(port, |row| row.enabled = Some(false))
    });
    assert_eq!(
        message,
        format!(
            "row {port} of table Logical_Switch_Port belongs to Port vm ({port}); change that object through the API instead"
        )
    );
    let message =
        refused(&mut store, &|txn| _ = txn.update::<DatapathBinding>(network, |row| row.tunnel_key = 9));
    assert!(message.contains("belongs to Virtual_Network web"), "{message}");
    let message = refused(&mut store, &|txn| _ = txn.delete::<Port>(port));
    assert!(message.contains("changed through the API only"), "{message}");
    store.run(|txn| {
        txn.put(SWITCH, LogicalSwitch { name: "theirs".into(), ..LogicalSwitch::default() });
        owner::refuse_owned(txn)
    });
}

#[test]
fn a_vlan_network_has_a_port_to_its_physical_network() {
    let (mut store, network, subnet, port) = with_intent();
    let segment = |store: &mut Store, network: Uuid, r#type: &'static str, vlan_id: i64| {
        store.try_run(move |txn| {
            txn.update::<VirtualNetwork>(network, |row| {
                row.r#type = r#type.into();
                row.vlan_id = vlan_id;
                row.physical_network = "physnet1".into();
            });
            Ok(())
        })
    };
    segment(&mut store, network, "vlan", 100).unwrap();
    let (localnet, row) =
        store.state.iter::<LogicalSwitchPort>().find(|(_, row)| &*row.r#type == "localnet").unwrap();
    assert_eq!(
        (&*row.name, row.tag, row.tag_request),
        (&*format!("{network}-localnet"), Some(100), Some(100))
    );
    assert_eq!(row.options, pairs(&[("network_name", "physnet1")]));
    assert_eq!(row.addresses, texts(&["unknown"]));
    assert_eq!(store.state.get::<PortBinding>(localnet).unwrap().tag, Some(100));
    assert!(store.state.get::<LogicalSwitchPort>(port).unwrap().dhcpv4_options.is_some());
    assert!(store.problems().is_empty(), "{:?}", store.problems());
    // Its rows are the network's.
    for change in [
        (|txn, uuid| _ = Txn::update::<LogicalSwitchPort>(txn, uuid, |row| row.tag = None))
            as fn(&mut Txn<'_>, Uuid),
        |txn, uuid| _ = txn.delete::<LogicalSwitchPort>(uuid),
        |txn, uuid| _ = txn.update::<PortBinding>(uuid, |row| row.tag = None),
    ] {
        let refused = store.try_run(|txn| {
            change(txn, localnet);
            owner::refuse_owned(txn)
        });
        assert_eq!(refused.unwrap_err().reason(), "OWNED_BY_INTENT");
    }
    // A VLAN is one network's.
    let other = Uuid::from_u128(33);
    let row = VirtualNetwork {
        name: "other".into(),
        subnets: OrdSet::new(),
        ..store.state.get::<VirtualNetwork>(network).cloned().unwrap()
    };
    let refusal = store.try_run(|txn| txn.insert(other, row.clone())).unwrap_err();
    assert_eq!((refusal.class(), refusal.reason()), (Class::AlreadyExists, "VLAN_IN_USE"));
    segment(&mut store, network, "vlan", 0).unwrap();
    assert_eq!(store.state.get::<PortBinding>(localnet).unwrap().tag, None);
    store.run(|txn| txn.insert(other, row));
    // A northbound client has the name.
    store.run(|txn| {
        txn.put(SWITCH, switch_of_port());
        let name = format!("{}-localnet", Uuid::from_u128(34)).into();
        txn.insert(PORT, LogicalSwitchPort { name, ..LogicalSwitchPort::default() })
    });
    let row = VirtualNetwork {
        name: "third".into(),
        vlan_id: 7,
        ..store.state.get::<VirtualNetwork>(other).cloned().unwrap()
    };
    assert_eq!(
        store.try_run(|txn| txn.insert(Uuid::from_u128(34), row)).unwrap_err().reason(),
        "NAME_IN_USE"
    );
    store.run(|txn| {
        txn.delete::<Port>(port);
        txn.delete::<VirtualNetwork>(network);
        txn.delete::<VirtualNetwork>(other);
        Ok(())
    });
    assert!(store.state.get::<DhcpOptions>(subnet).is_none());
    assert_eq!(store.state.iter::<LogicalSwitchPort>().map(|(uuid, _)| uuid).collect::<Vec<_>>(), [PORT]);
}

#[test]
fn addresses_are_given_once_and_rest() {
    let (mut store, network, subnet, port) = with_intent();
    let other = Uuid::from_u128(6);
    let refusal =
        store.try_run(|txn| address::claim_ip(txn, network, other, "10.0.0.9".parse().unwrap())).unwrap_err();
    assert_eq!((refusal.class(), refusal.reason()), (Class::AlreadyExists, "ADDRESS_IN_USE"));
    assert!(refusal.to_string().contains(&format!("Port vm ({port})")), "{refusal}");
    for (ip, reason) in [
        ("10.0.0.1", "ADDRESS_NOT_ALLOWED"),
        ("10.0.0.255", "ADDRESS_NOT_ALLOWED"),
        ("10.0.1.1", "ADDRESS_OUTSIDE_SUBNET"),
    ] {
        let refusal =
            store.try_run(|txn| address::claim_ip(txn, network, other, ip.parse().unwrap())).unwrap_err();
        assert_eq!(refusal.reason(), reason);
    }
    // A subnet in use stays.
    let refusal = store.try_run(|txn| {
        txn.update::<VirtualNetwork>(network, |row| row.subnets = OrdSet::new());
        Ok(())
    });
    assert_eq!(refusal.unwrap_err().reason(), "SUBNET_IN_USE");
    // Given back, the address rests; who names it gets it none the less.
    store.run(|txn| {
        txn.update::<Port>(port, |row| row.addresses = OrdSet::unit("10.0.0.2".into()));
        Ok(())
    });
    store.run(|txn| {
        txn.update::<Port>(port, |row| row.addresses = OrdSet::unit("10.0.0.9".into()));
        Ok(())
    });
    assert_eq!(address::usage(&store.state, subnet, store.state.get::<Subnet>(subnet).unwrap()).0, 1);
    store.run(|txn| {
        assert_eq!(address::claim_next(txn, network, subnet, port)?.to_string(), "10.0.0.3");
        address::release(txn, network, port, "10.0.0.3");
        Ok(())
    });
}

#[test]
fn without_a_key_intent_is_refused_and_a_northbound_row_waits() {
    let (mut store, network, _, port) = with_intent();
    store.run(|txn| {
        txn.put(SWITCH, LogicalSwitch { name: "sw".into(), ..LogicalSwitch::default() });
        for datapath in [SWITCH, network] {
            let pool = keys::ports_of(datapath);
            while keys::take_first(txn, &pool, keys::PORT_KEYS, &[keys::PORT_KEYS]).is_ok() {}
        }
        Ok(())
    });
    let another = |txn: &mut Txn<'_>| {
        let row = txn.get::<Port>(port).cloned().unwrap();
        let mac = "0a:00:00:00:00:33".into();
        txn.insert(Uuid::from_u128(7), Port { name: "other".into(), mac, addresses: OrdSet::new(), ..row })
    };
    let refusal = store.try_run(another).unwrap_err();
    assert_eq!((refusal.class(), refusal.reason()), (Class::ResourceExhausted, "PORT_KEYS_EXHAUSTED"));
    store.run(|txn| {
        txn.update::<LogicalSwitch>(SWITCH, |switch| _ = switch.ports.insert(Strong::new(PORT)));
        txn.insert(PORT, LogicalSwitchPort { name: "vm".into(), ..LogicalSwitchPort::default() })
    });
    assert!(store.state.get::<PortBinding>(PORT).is_none());
    assert!(store.problems()[0].contains("no port key is left out of 32767"), "{:?}", store.problems());
    // One that is given back rests first; then the row is served when it is next looked at.
    store.run(|txn| {
        keys::release(txn, &keys::ports_of(SWITCH), 9);
        Ok(())
    });
    let touch = |enabled: bool| {
        move |txn: &mut Txn<'_>| {
            txn.update::<LogicalSwitchPort>(PORT, |row| row.enabled = Some(enabled));
            Ok(())
        }
    };
    store.run(touch(true));
    assert!(store.state.get::<PortBinding>(PORT).is_none());
    store.now_ms += quantumnet_controller::ipam::REST_MS;
    store.run(touch(false));
    assert_eq!(store.state.get::<PortBinding>(PORT).unwrap().tunnel_key, 9);
    assert!(store.problems().is_empty());
}
