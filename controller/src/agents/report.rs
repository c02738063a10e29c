//! Agents' reports as transactions.
//!
//! # Invariants
//! - A chassis speaks only for itself: of other chassis it changes nothing, but that it takes an endpoint over
//!   from one of its own host that is not connected.
//! - `claim` grows with each appearance of an interface anywhere, and stays when one is merely restated.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use imbl::OrdSet;
use quantumnet_api::v1;
use quantumnet_model::{
    Strong, Uuid, Weak,
    column::Text,
    intent::Cluster,
    nb::LogicalSwitch,
    sb::{Chassis, ChassisInterface, ChassisPrivate, DatapathBinding, Encap, Fdb, PortBinding},
};

use crate::{
    agents::{
        Claimed, Facts, InputError, Interface, Learned, Neighbour, aging, input, limits::LEARNED_REFRESH_MS,
        neighbours,
    },
    lower::{bfd, gateway},
    store::{Class, Refusal, Txn},
};

/// What changed on a hypervisor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Absent when unchanged.
    pub facts: Option<Facts>,
    /// Interfaces that came or changed, by iface-id.
    pub added: BTreeMap<String, Interface>,
    /// Interfaces that went.
    pub removed: Vec<String>,
    /// MACs that were learned.
    pub learned: Vec<Learned>,
    /// Virtual ports that have a parent here.
    pub claims: Vec<Claimed>,
    /// Ports that waited here and have shown themselves, by name.
    pub activated: Vec<String>,
    /// Gateways and external ports that the chassis serves, by name. Absent when unchanged.
    pub serves: Option<BTreeSet<String>>,
    /// Neighbours of router ports that were learned or are in use.
    pub neighbours: Vec<Neighbour>,
    /// States of BFD sessions that run on the chassis.
    pub bfd: BTreeMap<Uuid, String>,
}

impl Report {
    /// Parses what an agent sent.
    pub fn parse(report: v1::AgentReport) -> Result<Self, InputError> {
        Ok(Self {
            facts: report.facts.map(Facts::parse).transpose()?,
            added: Interface::parse_all(report.interfaces_added)?,
            removed: Interface::parse_removed(report.interfaces_removed)?,
            learned: Learned::parse_all(&report.macs_learned)?,
            claims: Claimed::parse_all(&report.virtual_claims)?,
            activated: input::activated(report.activated)?,
            serves: report.serves.map(input::serves).transpose()?,
            neighbours: Neighbour::parse_all(&report.neighbours_learned)?,
            bfd: input::bfd(report.bfd)?,
        })
    }
}

/// Registers a chassis with all its facts and interfaces; what it had before and no longer has goes. Returns its row
/// and what is wrong with the registration. `connected` are the names of chassis whose agents are.
pub fn register(
    txn: &mut Txn<'_>,
    name: &str,
    facts: &Facts,
    interfaces: &BTreeMap<String, Interface>,
    connected: &OrdSet<String>,
) -> Result<(Uuid, Vec<String>), Refusal> {
    let chassis = txn.find::<Chassis>(&[("name", name.into())]).unwrap_or_else(Uuid::new_v4);
    let problems = describe(txn, chassis, name, facts, connected)?;
    let private = txn.find::<ChassisPrivate>(&[("name", name.into())]);
    let refers = Some(Weak::new(chassis));
    if let Some(private) = private {
        txn.update::<ChassisPrivate>(private, |row| row.chassis = refers);
    } else {
        let row = ChassisPrivate { name: name.into(), chassis: refers, ..ChassisPrivate::default() };
        txn.insert(Uuid::new_v4(), row)?;
    }
    let gone: Vec<Uuid> = txn
        .referrers_through::<Chassis, ChassisInterface>(chassis, "chassis")
        .filter(|row| {
            let kept = txn.get::<ChassisInterface>(*row);
            kept.is_some_and(|row| !interfaces.contains_key(row.iface_id.as_ref()))
        })
        .collect();
    for row in gone {
        txn.delete::<ChassisInterface>(row);
    }
    interfaces.values().try_for_each(|interface| claim(txn, chassis, interface))?;
    Ok((chassis, problems))
}

/// Stores several reports of a registered chassis, in order. Returns what is wrong with its registration when facts
/// were reported.
pub fn store_reports(
    txn: &mut Txn<'_>,
    name: &str,
    reports: &[Report],
    connected: &OrdSet<String>,
) -> Result<Option<Vec<String>>, Refusal> {
    let chassis = txn.find::<Chassis>(&[("name", name.into())]).ok_or_else(|| {
        let message = format!("chassis {name} is not registered any more; its agent must connect again");
        Refusal::service(Class::FailedPrecondition, "CHASSIS_UNKNOWN", message)
    })?;
    let mut problems = None;
    for report in reports {
        if let Some(facts) = &report.facts {
            problems = Some(describe(txn, chassis, name, facts, connected)?);
        }
        report.added.values().try_for_each(|interface| claim(txn, chassis, interface))?;
        for iface_id in &report.removed {
            if let Some(row) = interface_row(txn, chassis, iface_id) {
                txn.delete::<ChassisInterface>(row);
            }
        }
        report.learned.iter().try_for_each(|learned| learn(txn, chassis, learned))?;
        report.claims.iter().for_each(|claimed| adopt(txn, chassis, claimed));
        report.activated.iter().for_each(|port| activate(txn, chassis, name, port));
        if let Some(ports) = &report.serves {
            gateway::serve(txn, chassis, ports);
        }
        report.neighbours.iter().for_each(|learned| neighbours::learn(txn, learned));
        report.bfd.iter().for_each(|(session, status)| bfd::report(txn, chassis, *session, status));
    }
    Ok(problems)
}

/// Writes the `Chassis` and its endpoints.
fn describe(
    txn: &mut Txn<'_>,
    chassis: Uuid,
    name: &str,
    facts: &Facts,
    connected: &OrdSet<String>,
) -> Result<Vec<String>, Refusal> {
    let mut problems = facts.problems.clone();
    let mut encaps = OrdSet::new();
    for ((kind, ip), options) in &facts.encaps {
        match endpoint(txn, chassis, facts, kind, *ip, connected) {
            Ok(free) => {
                let row = free.unwrap_or_else(Uuid::new_v4);
                let encap = Encap {
                    r#type: kind.as_str().into(),
                    options: texts(options),
                    ip: ip.to_string().into(),
                    chassis_name: name.into(),
                };
                txn.put(row, encap);
                encaps.insert(Strong::new(row));
            }
            Err(problem) => problems.push(problem),
        }
    }
    if encaps.is_empty() {
        let message = format!("chassis {name} has no usable tunnel endpoint: {}", problems.join("; "));
        return Err(Refusal::service(Class::FailedPrecondition, "NO_ENCAP", message).at("facts.encaps"));
    }
    let mut row = txn.get::<Chassis>(chassis).cloned().unwrap_or_default();
    row.name = name.into();
    row.hostname = facts.hostname.as_str().into();
    row.encaps = encaps;
    row.other_config = texts(&facts.other_config);
    txn.put(chassis, row);
    Ok(problems)
}

/// The `Encap` row of an endpoint if the chassis has it already, none if it is free, or why it is not.
fn endpoint(
    txn: &mut Txn<'_>,
    chassis: Uuid,
    facts: &Facts,
    kind: &str,
    ip: IpAddr,
    connected: &OrdSet<String>,
) -> Result<Option<Uuid>, String> {
    let Some(row) = txn.find::<Encap>(&[("type", kind.into()), ("ip", ip.to_string().into())]) else {
        return Ok(None);
    };
    let holders: Vec<Uuid> = txn.referrers_through::<Encap, Chassis>(row, "encaps").collect();
    for holder in holders.into_iter().filter(|holder| *holder != chassis) {
        let Some(other) = txn.get::<Chassis>(holder) else { continue };
        let (name, hostname) = (other.name.clone(), other.hostname.clone());
        if connected.contains::<str>(&name) {
            return Err(format!(
                "endpoint {kind} {ip} is held by chassis {name} on {hostname}, which is connected"
            ));
        }
        if hostname.as_ref() != facts.hostname {
            return Err(format!(
                "endpoint {kind} {ip} is held by chassis {name} on {hostname}; delete that node if it is gone for good"
            ));
        }
        // This host's former identity: it will not come back beside this one.
        forget(txn, holder, &name);
    }
    Ok(Some(row))
}

/// Deletes the interfaces of a chassis.
pub(crate) fn unplug(txn: &mut Txn<'_>, chassis: Uuid) {
    let interfaces: Vec<Uuid> =
        txn.referrers_through::<Chassis, ChassisInterface>(chassis, "chassis").collect();
    for row in interfaces {
        txn.delete::<ChassisInterface>(row);
    }
}

/// Deletes a chassis and what is its own.
pub(crate) fn forget(txn: &mut Txn<'_>, chassis: Uuid, name: &str) {
    unplug(txn, chassis);
    if let Some(private) = txn.find::<ChassisPrivate>(&[("name", name.into())]) {
        txn.delete::<ChassisPrivate>(private);
    }
    txn.delete::<Chassis>(chassis);
}

fn interface_row(txn: &Txn<'_>, chassis: Uuid, iface_id: &str) -> Option<Uuid> {
    txn.find::<ChassisInterface>(&[("iface_id", iface_id.into()), ("chassis", chassis.into())])
}

fn claim(txn: &mut Txn<'_>, chassis: Uuid, interface: &Interface) -> Result<(), Refusal> {
    let row = interface_row(txn, chassis, &interface.iface_id);
    let known = row.and_then(|row| txn.get::<ChassisInterface>(row));
    let restated = known.filter(|known| interface.generation <= known.generation);
    let (claim, claimed_at) = match restated {
        Some(known) => (known.claim, known.claimed_at),
        None => (next_claim(txn)?, txn.now_ms()),
    };
    let stored = ChassisInterface {
        chassis: Strong::new(chassis),
        iface_id: interface.iface_id.as_str().into(),
        iface_id_ver: interface.iface_id_ver.as_str().into(),
        generation: interface.generation,
        claim,
        claimed_at,
    };
    txn.put(row.unwrap_or_else(Uuid::new_v4), stored);
    Ok(())
}

fn next_claim(txn: &mut Txn<'_>) -> Result<i64, Refusal> {
    let Some((row, cluster)) = txn.iter::<Cluster>().next() else {
        let message = "the store has no identity yet; retry shortly";
        return Err(Refusal::service(Class::FailedPrecondition, "NOT_READY", message));
    };
    let claim = cluster.last_claim + 1;
    txn.update::<Cluster>(row, |cluster| cluster.last_claim = claim);
    Ok(claim)
}

/// Learns a MAC on a port that the chassis holds, or that every chassis shares.
fn learn(txn: &mut Txn<'_>, chassis: Uuid, learned: &Learned) -> Result<(), Refusal> {
    let Some(datapath) = txn.find::<DatapathBinding>(&[("tunnel_key", learned.datapath_key.into())]) else {
        return Ok(());
    };
    let port = [("datapath", datapath.into()), ("tunnel_key", learned.port_key.into())];
    let binding = txn.find::<PortBinding>(&port).and_then(|row| txn.get::<PortBinding>(row));
    let here = Some(Weak::new(chassis));
    // The port may have gone, or moved away, since the report.
    let here = |binding: &PortBinding| {
        binding.chassis == here || here.is_some_and(|here| binding.additional_chassis.contains(&here))
    };
    let physical = |binding: &PortBinding| binding.r#type.as_ref() == "localnet";
    let Some(binding) = binding.filter(|binding| here(binding) || physical(binding)) else { return Ok(()) };
    let from_outside = physical(binding);
    let mac = learned.mac.to_string();
    let known = txn.find::<Fdb>(&[("mac", mac.as_str().into()), ("dp_key", learned.datapath_key.into())]);
    let now_ms = txn.now_ms();
    if let Some(row) = known {
        let Some(fdb) = txn.get::<Fdb>(row) else { return Ok(()) };
        let same = fdb.port_key == learned.port_key;
        // Where MACs grow old, an agent says that one is alive in time for this.
        let lives = txn.get::<LogicalSwitch>(datapath).and_then(aging::threshold);
        let refresh = lives.map_or(LEARNED_REFRESH_MS, |lives| LEARNED_REFRESH_MS.min(lives / 4));
        let fresh = same && now_ms.saturating_sub(fdb.timestamp) < refresh;
        // What a guest sends passes on the physical network too.
        let key = [("datapath", datapath.into()), ("tunnel_key", fdb.port_key.into())];
        let present = txn.find::<PortBinding>(&key).and_then(|row| txn.get::<PortBinding>(row));
        let of_guest = !same && from_outside && present.is_some_and(|present| !physical(present));
        if !fresh && !of_guest {
            txn.update::<Fdb>(row, |row| {
                row.port_key = learned.port_key;
                row.timestamp = now_ms;
            });
        }
        return Ok(());
    }
    let row =
        Fdb { mac: mac.into(), dp_key: learned.datapath_key, port_key: learned.port_key, timestamp: now_ms };
    txn.insert(Uuid::new_v4(), row)
}

/// Makes a parent that the chassis holds that of a virtual port, if it is one of those that may be.
fn adopt(txn: &mut Txn<'_>, chassis: Uuid, claimed: &Claimed) {
    let Some(datapath) = txn.find::<DatapathBinding>(&[("tunnel_key", claimed.datapath_key.into())]) else {
        return;
    };
    let port = |key: i64| {
        let found = txn.find::<PortBinding>(&[("datapath", datapath.into()), ("tunnel_key", key.into())])?;
        txn.get::<PortBinding>(found).map(|row| (found, row))
    };
    let (Some((uuid, virtual_port)), Some((_, parent))) = (port(claimed.port_key), port(claimed.parent_key))
    else {
        return;
    };
    let parents = virtual_port.options.get("virtual-parents").map_or("", |parents| &**parents);
    let may = virtual_port.r#type.as_ref() == "virtual"
        && parent.chassis == Some(Weak::new(chassis))
        && parents.split(',').any(|name| name.trim() == &*parent.logical_port);
    let name = parent.logical_port.clone();
    if may && virtual_port.virtual_parent.as_ref() != Some(&name) {
        txn.update::<PortBinding>(uuid, |row| row.virtual_parent = Some(name));
    }
}

/// Notes that a port has shown itself on a further chassis that has it.
fn activate(txn: &mut Txn<'_>, chassis: Uuid, name: &str, port: &str) {
    let Some(uuid) = txn.find::<PortBinding>(&[("logical_port", port.into())]) else { return };
    let Some(binding) = txn.get::<PortBinding>(uuid) else { return };
    let already = binding.options.get(ACTIVATED).map_or("", |names| &**names);
    let mut names: Vec<&str> = already.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if !binding.additional_chassis.contains(&Weak::new(chassis)) || names.contains(&name) {
        return;
    }
    names.push(name);
    let names = Text::from(names.join(","));
    txn.update::<PortBinding>(uuid, |row| _ = row.options.insert(ACTIVATED.into(), names));
}

fn texts(pairs: &BTreeMap<String, String>) -> imbl::OrdMap<Text, Text> {
    pairs.iter().map(|(name, value)| (Text::from(name.as_str()), Text::from(value.as_str()))).collect()
}

/// Option of a `Port_Binding`: names of the further chassis on which the port has shown itself.
const ACTIVATED: &str = "additional-chassis-activated";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quantumnet_model::address::Mac;

    use super::*;
    use crate::store::{Context, State, evaluate};

    const DATAPATH: Uuid = Uuid::from_u128(7);
    const START_MS: i64 = 1_000_000;

    fn chassis(number: u128) -> Uuid {
        Uuid::from_u128(0x100 + number)
    }

    fn port(key: i64) -> Uuid {
        Uuid::from_u128(0x200 + u128::from(key.unsigned_abs()))
    }

    fn run(state: &State, now_ms: i64, request: impl FnOnce(&mut Txn<'_>) -> Result<(), Refusal>) -> State {
        let context = Context { now_ms, principal: Arc::from("test") };
        evaluate(state, &context, request, &|_| Ok(())).unwrap().state
    }

    fn binding(key: i64, r#type: &str, chassis_of: Option<u128>) -> PortBinding {
        PortBinding {
            logical_port: format!("p{key}").into(),
            r#type: r#type.into(),
            datapath: Strong::new(DATAPATH),
            tunnel_key: key,
            chassis: chassis_of.map(|number| Weak::new(chassis(number))),
            ..PortBinding::default()
        }
    }

    /// Chassis hv1 and hv2, and a datapath with key 7.
    fn store(ports: Vec<PortBinding>) -> State {
        run(&State::default(), START_MS, |txn| {
            for number in 1..=2 {
                let (encap, name) = (Uuid::from_u128(number), format!("hv{number}"));
                txn.put(
                    encap,
                    Encap { r#type: "geneve".into(), ip: name.as_str().into(), ..Encap::default() },
                );
                let encaps = OrdSet::unit(Strong::new(encap));
                txn.put(chassis(number), Chassis { name: name.into(), encaps, ..Chassis::default() });
            }
            txn.put(DATAPATH, DatapathBinding { tunnel_key: 7, ..DatapathBinding::default() });
            ports.into_iter().for_each(|row| txn.put(port(row.tunnel_key), row));
            Ok(())
        })
    }

    fn told(state: &State, now_ms: i64, name: &str, report: Report) -> State {
        run(state, now_ms, |txn| store_reports(txn, name, &[report], &OrdSet::new()).map(drop))
    }

    #[test]
    fn a_virtual_port_goes_to_the_parent_that_claims_it() {
        let options = [("virtual-ip", "10.0.0.50"), ("virtual-parents", "p1, p2")];
        let options = options.into_iter().map(|(key, value)| (Text::from(key), Text::from(value))).collect();
        let virtual_port = PortBinding { options, ..binding(9, "virtual", None) };
        let ports =
            vec![binding(1, "", Some(1)), binding(2, "", Some(2)), binding(3, "", Some(1)), virtual_port];
        let mut state = store(ports);
        let parent_of = |state: &State| state.get::<PortBinding>(port(9)).unwrap().virtual_parent.clone();
        for (chassis, parent_key, expected) in [
            ("hv1", 1, Some("p1")),
            ("hv1", 2, Some("p1")), // held by hv2
            ("hv1", 3, Some("p1")), // none of its parents
            ("hv2", 2, Some("p2")),
        ] {
            let claimed = Claimed { datapath_key: 7, port_key: 9, parent_key };
            state = told(&state, START_MS, chassis, Report { claims: vec![claimed], ..Report::default() });
            assert_eq!(parent_of(&state).as_deref(), expected, "{chassis} {parent_key}");
        }
        let claimed = Claimed { datapath_key: 7, port_key: 1, parent_key: 2 };
        let state = told(&state, START_MS, "hv2", Report { claims: vec![claimed], ..Report::default() });
        assert_eq!(state.get::<PortBinding>(port(1)).unwrap().virtual_parent, None, "not a virtual port");
    }

    #[test]
    fn activations_are_noted_of_further_chassis_only() {
        let further = OrdSet::unit(Weak::new(chassis(2)));
        let mut state = store(vec![PortBinding { additional_chassis: further, ..binding(1, "", Some(1)) }]);
        for chassis in ["hv1", "hv2", "hv2"] {
            let report = Report { activated: vec!["p1".into()], ..Report::default() };
            state = told(&state, START_MS, chassis, report);
        }
        let options = &state.get::<PortBinding>(port(1)).unwrap().options;
        assert_eq!(options.get(ACTIVATED).map(|names| &**names), Some("hv2"));
    }

    #[test]
    fn macs_stay_with_guests_and_grow_old() {
        let mut state = store(vec![binding(1, "", Some(1)), binding(2, "localnet", None)]);
        let seen = |state: &State, now_ms, chassis: &str, port_key| {
            let learned = Learned { mac: Mac([2, 0, 0, 0, 0, 1]), datapath_key: 7, port_key };
            told(state, now_ms, chassis, Report { learned: vec![learned], ..Report::default() })
        };
        let row = |state: &State| state.iter::<Fdb>().next().map(|(_, row)| (row.port_key, row.timestamp));
        state = seen(&state, START_MS, "hv1", 1);
        state = seen(&state, START_MS + 1, "hv2", 2);
        assert_eq!(row(&state), Some((1, START_MS)), "its frames pass on the physical network too");
        state = seen(&state, START_MS + 10_000, "hv1", 1);
        assert_eq!(row(&state), Some((1, START_MS)), "a time as young as this stays");

        state = run(&state, START_MS, |txn| {
            let aging = [(Text::from("fdb_age_threshold"), Text::from("20"))].into_iter().collect();
            txn.put(DATAPATH, LogicalSwitch { other_config: aging, ..LogicalSwitch::default() });
            Ok(())
        });
        state = seen(&state, START_MS + 10_000, "hv1", 1);
        assert_eq!(row(&state), Some((1, START_MS + 10_000)), "half its life is over");
        state = run(&state, START_MS + 29_999, aging::forget);
        assert!(row(&state).is_some());
        state = run(&state, START_MS + 30_000, aging::forget);
        assert_eq!(row(&state), None);
    }
}
