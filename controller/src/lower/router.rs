//! `Logical_Router` -> `Datapath_Binding`, which differs from that of a switch in what northd says of it.
//!
//! # Contract
//! - Reads `Logical_Router`; writes `Datapath_Binding` and the pool of datapath keys; marks router ports that joined,
//!   left or lost their router, and the switch ports that lead to a router which changed its place.
//! - A router that is disabled keeps its rows: agents see that it is.

use imbl::OrdMap;
use quantumnet_model::{
    Column, Strong, Uuid,
    column::Text,
    nb::{LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort},
    sb::{DatapathBinding, PortBinding},
    threshold::Thresholds,
};

use crate::{
    lower::{
        Dirty, announce, keys, lookup,
        problem::{self, Problems},
        switch,
    },
    store::{Refusal, State, Touched, Txn},
};

/// The router port that a switch port of type `router` leads to, and its router.
pub(super) struct Behind<'s> {
    /// The router port.
    pub(super) uuid: Uuid,
    /// Its row.
    pub(super) port: &'s LogicalRouterPort,
    /// Its router.
    pub(super) router_uuid: Uuid,
    /// Its row.
    pub(super) router: &'s LogicalRouter,
}

/// What is behind a switch port, if it is of type `router` and there is anything.
pub(super) fn behind<'s>(state: &'s State, port: &LogicalSwitchPort) -> Option<Behind<'s>> {
    let name = port.options.get("router-port").filter(|_| &*port.r#type == "router")?;
    let uuid = state.find::<LogicalRouterPort>(&[("name", (&**name).into())])?;
    let router = of(state, uuid)?;
    Some(Behind { uuid, port: state.get(uuid)?, router_uuid: router, router: state.get(router)? })
}

/// The router that lists the port.
pub(super) fn of(state: &State, port: Uuid) -> Option<Uuid> {
    state.referrers_through::<LogicalRouterPort, LogicalRouter>(port, "ports").next()
}

/// The name of the chassis that a gateway router is on.
pub(super) fn chassis(router: &LogicalRouter) -> Option<&Text> {
    router.options.get("chassis").filter(|name| !name.is_empty())
}

/// Marks the switch ports that lead to a router port of that name.
pub(super) fn mark_behind(state: &State, name: &str, dirty: &mut Dirty) {
    dirty.ports.extend(lookup::rows(state, lookup::ROUTER_PORT, name));
}

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) -> Result<(), Refusal> {
    let touched = txn.touched_in::<LogicalRouter>();
    for touched in &touched {
        let mut moved = Vec::new();
        touched.each_moved("ports", &mut |port| moved.push(port));
        for port in moved {
            dirty.router_ports.insert(port);
            if let Some(port) = txn.get::<LogicalRouterPort>(port) {
                mark_behind(txn.state(), &port.name, dirty);
            }
        }
        let (old, new) = (touched.before::<LogicalRouter>(), touched.after::<LogicalRouter>());
        if old.and_then(chassis) != new.and_then(chassis) {
            for port in [old, new].into_iter().flatten().flat_map(|row| row.ports.iter().map(Strong::uuid)) {
                dirty.router_ports.insert(port);
                if let Some(port) = txn.get::<LogicalRouterPort>(port) {
                    mark_behind(txn.state(), &port.name, dirty);
                }
            }
        }
        let is_mute = |row: Option<&LogicalRouter>| row.is_some_and(|row| announce::is_mute(&row.options));
        if is_mute(old) != is_mute(new) {
            dirty.announcing.insert(touched.uuid);
        }
        if new.is_none() {
            dirty.work.rows += 1;
            dirty
                .router_ports
                .extend(txn.referrers_through::<DatapathBinding, PortBinding>(touched.uuid, "datapath"));
        }
    }
    for touched in touched.iter().filter(|touched| touched.new.is_some()) {
        dirty.work.rows += 1;
        one(txn, touched, dirty)?;
    }
    Ok(())
}

/// Deletes the datapaths of routers that went; their ports are gone by now.
pub(super) fn sweep(txn: &mut Txn<'_>) {
    for touched in txn.touched_in::<LogicalRouter>() {
        if touched.new.is_none() {
            switch::forget(txn, touched.uuid);
            problem::set::<LogicalRouter>(txn, touched.uuid, Vec::new());
        }
    }
}

fn one(txn: &mut Txn<'_>, touched: &Touched, dirty: &mut Dirty) -> Result<(), Refusal> {
    let uuid = touched.uuid;
    let Some(router) = touched.after::<LogicalRouter>() else { return Ok(()) };
    let mut problems = Problems::new();
    if txn.get::<LogicalSwitch>(uuid).is_some() {
        let message = "a switch has the same uuid; the router has no effect".to_owned();
        problem::set::<LogicalRouter>(txn, uuid, vec![("_uuid", message)]);
        return Ok(());
    }
    let present = txn.get::<DatapathBinding>(uuid).map(|datapath| datapath.tunnel_key);
    let wish = router.options.get("requested-tnl-key");
    let whole = keys::DATAPATH_KEYS;
    let key = switch::pick(txn, keys::DATAPATHS, whole, wish, "options", present, &mut problems);
    let key = match key {
        Ok(key) => key,
        Err(error) => {
            let message = format!("no datapath key is left out of {}: {error}; delete networks", whole.1);
            problem::set::<LogicalRouter>(txn, uuid, vec![("_uuid", message)]);
            return Ok(());
        }
    };
    if present.is_none() {
        // Ports that wait for the datapath.
        dirty.router_ports.extend(router.ports.iter().map(Strong::uuid));
    }
    if let Some(Err(wrong)) =
        router.options.get("mac_binding_age_threshold").map(|text| Thresholds::parse(text))
    {
        problems.push(("options", format!("mac_binding_age_threshold: {wrong}; neighbours live for ever")));
    }
    problems.extend(switch::limit_problem("options", &router.options));
    let datapath = DatapathBinding {
        tunnel_key: key,
        load_balancers: Column::zero(),
        r#type: Some("logical-router".into()),
        nb_uuid: Some(uuid),
        external_ids: external_ids(uuid, router),
    };
    if txn.get::<DatapathBinding>(uuid) != Some(&datapath) {
        txn.put(uuid, datapath);
    }
    problem::set::<LogicalRouter>(txn, uuid, problems);
    Ok(())
}

/// What northd writes there: the router by uuid and names, and settings that OVN's agents read there.
fn external_ids(uuid: Uuid, router: &LogicalRouter) -> OrdMap<Text, Text> {
    let setting = |key: &str| router.options.get(key);
    let number = |key: &str| setting(key).and_then(|value| value.trim().parse::<u32>().ok());
    let text = |number: u32| Text::from(number.to_string());
    let second = router.external_ids.get("neutron:router_name").filter(|name| !name.is_empty());
    let is_mute = announce::is_mute(&router.options);
    let learns_little = setting("always_learn_from_arp_request").is_some_and(|value| &**value == "false");
    let pairs = [
        ("logical-router", Some(uuid.to_string().into())),
        ("name", Some(router.name.clone())),
        ("name2", second.cloned()),
        ("snat-ct-zone", number("snat-ct-zone").map(text)),
        ("ct-zone-limit", number("ct-zone-limit").filter(|limit| *limit > 0).map(text)),
        ("disable_garp_rarp", is_mute.then(|| "true".into())),
        ("always_learn_from_arp_request", learns_little.then(|| "false".into())),
        ("mac_binding_age_threshold", Thresholds::of(router).least().map(|least| least.to_string().into())),
    ];
    pairs.into_iter().filter_map(|(key, value)| Some((Text::from(key), value?))).collect()
}
