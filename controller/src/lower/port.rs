//! `Logical_Switch_Port` -> `Port_Binding` (ovn-semantics: northd's `ovn_port_update_sbrec`).
//!
//! # Contract
//! - Reads `Logical_Switch_Port` and the switch that refers to it; writes every column of `Port_Binding` but those of
//!   the binding (`chassis`, `additional_chassis`, `up`, `virtual_parent`, encaps), and keeps the options that
//!   agents write.

use std::net::IpAddr;

use imbl::OrdSet;
use quantumnet_model::{
    Row, Strong, Uuid, Weak,
    address::{LspAddress, PortSecurity},
    column::Text,
    intent::Takeover,
    nb::{LogicalSwitch, LogicalSwitchPort},
    sb::{DatapathBinding, PortBinding},
};

use crate::{
    lower::{
        Dirty, announce,
        dynamic::{self, Placed},
        facts, keys, lookup, mirror,
        owner::owner,
        problem::{self, Problems},
        qos, router, router_port, switch,
    },
    store::{Class, Refusal, State, Txn},
};

/// Options of a `Port_Binding` that are state and not from the Northbound row.
const KEPT_OPTIONS: [&str; 5] = [ACTIVATED, "vport-last-claim", "vport-backoff", qos::QUEUE, qos::NETWORK];

/// Additional chassis that agents have activated.
const ACTIVATED: &str = "additional-chassis-activated";

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) -> Result<(), Refusal> {
    for touched in txn.touched_in::<LogicalSwitchPort>() {
        dirty.ports.insert(touched.uuid);
        for row in [touched.before::<LogicalSwitchPort>(), touched.after()].into_iter().flatten() {
            if let Some(name) = row.options.get("router-port") {
                // Of several that lead there one is the first.
                router::mark_behind(txn.state(), name, dirty);
            }
        }
    }
    dynamic::mark(txn, dirty);
    let ports = std::mem::take(&mut dirty.ports);
    // Keys that are given back first, so that a port may take over what another leaves in the same transaction.
    let (mut staying, mut gone) = (Placed::new(), Vec::new());
    for uuid in ports {
        dirty.work.rows += 1;
        match datapath_of(txn, uuid) {
            Some(datapath) => _ = staying.insert(uuid, datapath),
            None => {
                remove(txn, uuid, dirty);
                gone.push(uuid);
            }
        }
    }
    let mut problems = dynamic::assign(txn, &mut staying, &gone, dirty);
    for (uuid, datapath) in staying {
        one(txn, uuid, datapath, problems.remove(&uuid).unwrap_or_default(), dirty)?;
    }
    switch::sweep(txn);
    Ok(())
}

/// The datapath that the port belongs to.
fn datapath_of(txn: &Txn<'_>, port: Uuid) -> Option<Uuid> {
    txn.get::<LogicalSwitchPort>(port)?;
    let switch = txn.referrers_through::<LogicalSwitchPort, LogicalSwitch>(port, "ports").next()?;
    txn.get::<DatapathBinding>(switch).map(|_| switch)
}

fn remove(txn: &mut Txn<'_>, uuid: Uuid, dirty: &mut Dirty) {
    if let Some(binding) = txn.get::<PortBinding>(uuid).cloned() {
        give_back(txn, &binding);
        // Ports nested in it lose their binding.
        dirty.interfaces.insert(binding.logical_port);
        txn.delete::<PortBinding>(uuid);
    }
    txn.delete::<Takeover>(uuid);
    lookup::set(txn, lookup::REQUESTED_CHASSIS, uuid, &[]);
    lookup::set(txn, lookup::PARENT, uuid, &[]);
    announce::localnet(txn, uuid, None, dirty);
    lookup::set(txn, lookup::ANNOUNCES, uuid, &[]);
    mirror::detach(txn, uuid, dirty);
    problem::set::<LogicalSwitchPort>(txn, uuid, Vec::new());
    problem::set::<PortBinding>(txn, uuid, Vec::new());
}

fn give_back(txn: &mut Txn<'_>, binding: &PortBinding) {
    if let Ok(key) = u128::try_from(binding.tunnel_key) {
        keys::release(txn, &keys::ports_of(binding.datapath.uuid()), key);
    }
    if let (Some(parent), Some(tag)) =
        (&binding.parent_port, binding.tag.and_then(|tag| u128::try_from(tag).ok()))
    {
        keys::give_back(txn, &keys::tags_of(parent), tag);
    }
}

fn one(
    txn: &mut Txn<'_>,
    uuid: Uuid,
    datapath: Uuid,
    mut problems: Problems,
    dirty: &mut Dirty,
) -> Result<(), Refusal> {
    let Some(port) = txn.get::<LogicalSwitchPort>(uuid).cloned() else { return Ok(()) };
    let mut present = txn.get::<PortBinding>(uuid).cloned();
    if let Some(binding) = present.take_if(|binding| binding.datapath.uuid() != datapath) {
        give_back(txn, &binding);
    }
    if txn.referrers_through::<LogicalSwitchPort, LogicalSwitch>(uuid, "ports").nth(1).is_some() {
        problems.push(("_uuid", "more than one switch lists the port; only one of them has it".to_owned()));
    }

    let pool = keys::ports_of(datapath);
    let wish = port.options.get("requested-tnl-key");
    let before = present.as_ref().map(|binding| binding.tunnel_key);
    let tunnel_key = match switch::pick(txn, &pool, keys::PORT_KEYS, wish, "options", before, &mut problems) {
        Ok(key) => key,
        Err(error) => {
            let message = format!("no port key is left out of {} in the network: {error}", keys::PORT_KEYS.1);
            if owner(txn.state(), LogicalSwitchPort::TABLE, uuid).is_some() {
                return Err(Refusal::service(Class::ResourceExhausted, "PORT_KEYS_EXHAUSTED", message));
            }
            remove(txn, uuid, dirty);
            problem::set::<LogicalSwitchPort>(txn, uuid, vec![("_uuid", message)]);
            return Ok(());
        }
    };

    let parent_port = port.parent_name.clone().filter(|name| !name.is_empty());
    let tag = tag(txn, uuid, &port, parent_port.as_ref(), present.as_ref(), &mut problems);
    let hosts = requested(&port);
    let gateway = port.options.get("l2gateway-chassis").filter(|_| &*port.r#type == "l2gateway");
    let awaited: Vec<Text> = hosts.iter().chain(gateway).cloned().collect();
    let resolve = |host: &Text| facts::chassis_named(txn.state(), host).map(Weak::new);
    let (requested_chassis, others) = match hosts.split_first() {
        Some((first, others)) => (resolve(first), others.iter().filter_map(resolve).collect()),
        None => (None, quantumnet_model::Column::zero()),
    };

    let mut options = port.options.clone();
    // An activation holds as long as the migration.
    let kept = KEPT_OPTIONS.into_iter().filter(|kept| *kept != ACTIVATED || hosts.len() > 1);
    for kept in kept {
        if let Some(value) = present.as_ref().and_then(|binding| binding.options.get(kept)) {
            options.insert(kept.into(), value.clone());
        }
    }
    let r#type = southbound_type(txn.state(), &port, &mut options, &mut problems);
    if !matches!(&*r#type, "patch" | "l3gateway")
        && txn.get::<LogicalSwitch>(datapath).is_some_and(switch::passes_vlans)
    {
        options.insert("vlan-passthru".into(), "true".into());
    }
    announce::localnet(txn, uuid, (&*port.r#type == "localnet").then_some(datapath), dirty);
    if &*port.r#type == "router" || present.as_ref().is_some_and(|binding| !binding.nat_addresses.is_empty())
    {
        dirty.announced.insert(uuid);
    }
    let state = present.clone().unwrap_or_default();
    let binding = PortBinding {
        logical_port: port.name.clone(),
        r#type,
        options,
        datapath: Strong::new(datapath),
        tunnel_key,
        parent_port: parent_port.clone(),
        tag,
        mac: addresses(txn.state(), &port, &mut problems),
        port_security: port
            .port_security
            .iter()
            .filter(|text| security_is_served(text, &mut problems))
            .cloned()
            .collect(),
        external_ids: external_ids(&port),
        requested_chassis,
        requested_additional_chassis: others,
        mirror_rules: mirror::of_port(txn, &port),
        ha_chassis_group: (&*port.r#type == "external")
            .then(|| port.ha_chassis_group.map(|group| Strong::new(group.uuid())))
            .flatten(),
        ..state
    };
    problems.extend(qos::problems(&port));
    problems.extend(switch::limit_problem("options", &port.options));
    mirror::attach(txn, uuid, &port, datapath, dirty);
    lookup::set(txn, lookup::REQUESTED_CHASSIS, uuid, &awaited);
    lookup::set(txn, lookup::PARENT, uuid, parent_port.as_slice());
    if let Some(before) = present.as_ref().filter(|before| before.logical_port != binding.logical_port) {
        dirty.interfaces.insert(before.logical_port.clone());
    }
    if present.as_ref() != Some(&binding) {
        dirty.interfaces.insert(binding.logical_port.clone());
        txn.put(uuid, binding);
    }
    dirty.bindings.insert(uuid);
    problem::set::<LogicalSwitchPort>(txn, uuid, problems);
    Ok(())
}

/// Those of the northbound port, with the name that Neutron gives it.
fn external_ids(port: &LogicalSwitchPort) -> imbl::OrdMap<Text, Text> {
    let mut ids = port.external_ids.clone();
    if let Some(name) = ids.get("neutron:port_name").filter(|name| !name.is_empty()).cloned() {
        ids.insert("name".into(), name);
    }
    ids
}

/// Chassis that the port asks for: the first may hold it, the others may hold it too.
fn requested(port: &LogicalSwitchPort) -> Vec<Text> {
    let hosts = port.options.get("requested-chassis").map_or("", |hosts| &**hosts);
    hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).map(Text::from).collect()
}

/// The type that agents see (ovn-semantics, section 25).
fn southbound_type(
    state: &State,
    port: &LogicalSwitchPort,
    options: &mut imbl::OrdMap<Text, Text>,
    problems: &mut Problems,
) -> Text {
    let mut need = |option: &'static str| {
        if port.options.get(option).is_none_or(|value| value.trim().is_empty()) {
            problems.push(("options", format!("a port of type {} needs {option}", port.r#type)));
        }
    };
    match &*port.r#type {
        "" | "localport" => port.r#type.clone(),
        "localnet" => {
            need("network_name");
            port.r#type.clone()
        }
        "l2gateway" => {
            need("network_name");
            need("l2gateway-chassis");
            port.r#type.clone()
        }
        "virtual" => {
            need("virtual-ip");
            need("virtual-parents");
            if let Some(ip) = port.options.get("virtual-ip").filter(|ip| ip.parse::<IpAddr>().is_err()) {
                problems.push(("options", format!("virtual-ip is {ip:?}, expected an IP address")));
            }
            port.r#type.clone()
        }
        "external" => {
            if port.ha_chassis_group.is_none() {
                problems.push(("ha_chassis_group", "a port of type external needs one".to_owned()));
            }
            port.r#type.clone()
        }
        "vtep" | "remote" => {
            problems.push(("type", format!("nothing acts on ports of type {} yet", port.r#type)));
            port.r#type.clone()
        }
        // A patch says what it leads to, and of the port's own only what its switch answers for.
        "router" => {
            options.clear();
            if let Some(proxied) = port.options.get("arp_proxy") {
                options.insert("arp_proxy".into(), proxied.clone());
            }
            let behind = router::behind(state, port);
            match port.options.get("router-port") {
                Some(peer) => {
                    options.insert("peer".into(), peer.clone());
                    lone(state, port, peer, behind.is_some(), problems);
                }
                None => problems.push(("options", "a port of type router needs router-port".to_owned())),
            }
            match behind.and_then(|behind| router::chassis(behind.router)) {
                Some(chassis) => {
                    options.insert("l3gateway-chassis".into(), chassis.clone());
                    "l3gateway".into()
                }
                None => "patch".into(),
            }
        }
        "switch" => {
            options.clear();
            match &port.peer {
                Some(peer) => _ = options.insert("peer".into(), peer.clone()),
                None => problems.push(("peer", "a port of type switch needs a peer".to_owned())),
            }
            "patch".into()
        }
        other => {
            problems.push(("type", format!("unknown port type {other:?}; the port has no effect")));
            port.r#type.clone()
        }
    }
}

/// Says why nothing crosses from the switch port to the router port that it names.
fn lone(state: &State, port: &LogicalSwitchPort, peer: &str, is_there: bool, problems: &mut Problems) {
    let first = router_port::leading_to(state, peer);
    if !is_there {
        problems.push(("options", format!("router-port is {peer}, and no router has a port of that name")));
    } else if let Some(first) = first.filter(|first| *first != port.name) {
        problems.push(("options", format!("router-port {peer} is that of port {first} already")));
    }
}

/// The port's addresses as they can be read, with what was given in the place of `dynamic` and `router`.
fn addresses(state: &State, port: &LogicalSwitchPort, problems: &mut Problems) -> OrdSet<Text> {
    let mut served = OrdSet::new();
    for text in &port.addresses {
        match text.parse::<LspAddress>() {
            Ok(LspAddress::Dynamic { .. }) => served.extend(port.dynamic_addresses.clone()),
            // As northd does, the word, while nothing is behind.
            Ok(LspAddress::Router) => {
                let behind = router::behind(state, port);
                let addresses = behind.and_then(|behind| router_port::addresses(behind.port));
                served.insert(addresses.unwrap_or_else(|| text.clone()));
            }
            Ok(_) => _ = served.insert(text.clone()),
            Err(error) => problems.push(("addresses", format!("{text:?} has no effect: {error}"))),
        }
    }
    served
}

fn security_is_served(text: &str, problems: &mut Problems) -> bool {
    match text.parse::<PortSecurity>() {
        Ok(_) => true,
        Err(error) => {
            problems.push(("port_security", format!("{text:?} has no effect: {error}")));
            false
        }
    }
}

/// The VLAN tag: as given, as requested, or the next free one below the parent for a request of 0.
fn tag(
    txn: &mut Txn<'_>,
    uuid: Uuid,
    port: &LogicalSwitchPort,
    parent: Option<&Text>,
    present: Option<&PortBinding>,
    problems: &mut Problems,
) -> Option<i64> {
    let Some(parent) = parent else {
        // As OVN does for a port that nothing is told apart from: a request is met, and one of 0 asks for none.
        let tag = port.tag_request.map_or(port.tag, |tag| Some(tag).filter(|tag| *tag != 0));
        if tag != port.tag {
            txn.update::<LogicalSwitchPort>(uuid, |port| port.tag = tag);
        }
        return tag;
    };
    let before = present
        .filter(|binding| binding.parent_port.as_ref() == Some(parent))
        .and_then(|binding| binding.tag);
    let pool = keys::tags_of(parent);
    let wish = port.tag_request.filter(|tag| *tag != 0).or(port.tag);
    let tag = match (wish, before) {
        (wish, Some(before)) if wish.is_none_or(|wish| wish == before) => Some(before),
        (Some(wish), before) => match u128::try_from(wish).map(|key| keys::take(txn, &pool, keys::TAGS, key))
        {
            Ok(Ok(())) => {
                if let Some(before) = before.and_then(|before| u128::try_from(before).ok()) {
                    keys::give_back(txn, &pool, before);
                }
                Some(wish)
            }
            _ => {
                problems.push((
                    "tag_request",
                    format!("tag {wish} is in use below {parent}; the port has no effect"),
                ));
                before
            }
        },
        (None, _) if port.tag_request == Some(0) => {
            let taken = keys::take_first(txn, &pool, keys::TAGS, &[keys::TAGS]).ok();
            if taken.is_none() {
                problems
                    .push(("tag_request", format!("no tag is left below {parent}; the port has no effect")));
            }
            taken.and_then(|tag| i64::try_from(tag).ok())
        }
        (None, _) => None,
    };
    if tag != port.tag {
        txn.update::<LogicalSwitchPort>(uuid, |port| port.tag = tag);
    }
    tag
}
