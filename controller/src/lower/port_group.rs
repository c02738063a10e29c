//! `Port_Group`: Northbound -> Southbound. Each switch that has members gets a row `<datapath key>_<group>`; the
//! addresses of all members are the address sets `<group>_ip4` and `<group>_ip6`.
//!
//! # Contract
//! - Reads `Port_Group`, the ports that groups name and their bindings; writes Southbound `Port_Group`, and the
//!   `Address_Set` rows of groups. Returns the names of those that came or went.
//!
//! # Invariants
//! - Cost follows the members that change: a group's other members are not looked at, but when it is renamed or goes.
//! - A `Lookup` row says what each member contributes; what no member contributes is in no row.

use std::{collections::BTreeSet, net::IpAddr};

use imbl::OrdSet;
use quantumnet_model::{
    ColumnId, Row, Uuid,
    address::LspAddress,
    column::Text,
    nb::{self, LogicalSwitchPort},
    sb::{AddressSet, DatapathBinding, PortBinding, PortGroup},
    tables,
};
use uuid::uuid;

use crate::{
    lower::{Dirty, address_set::SUFFIXES, lookup},
    store::{Touched, Txn},
};

const NAMESPACE: Uuid = uuid!("6d1f2b0e-5a35-4a5c-9d0c-7d1f6a7c3e21");

/// What a member adds to the rows of a group. The text of it is what its `Lookup` row holds.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Part {
    /// Its name to the group's row of its switch.
    Name { group: Uuid, datapath: Uuid, port: Text },
    /// An address to the group's set of that family.
    Address { group: Uuid, ip: IpAddr },
}

pub(super) fn lower(txn: &mut Txn<'_>, dirty: &mut Dirty) -> BTreeSet<Text> {
    let mut names = BTreeSet::new();
    let mut ports: BTreeSet<Uuid> = BTreeSet::new();
    for touched in txn.touched_in::<nb::PortGroup>() {
        dirty.work.rows += 1;
        mark_members(&touched, &mut ports);
        let name = |row: Option<&nb::PortGroup>| row.map(|row| row.name.clone());
        let (old, new) = (name(touched.before()), name(touched.after()));
        if old != new {
            rename(txn, touched.uuid, new.as_ref(), dirty);
            let both = old.into_iter().chain(new);
            names.extend(both.flat_map(|name| SUFFIXES.map(|suffix| set_name(&name, suffix))));
        }
    }
    for touched in txn.touched_in::<DatapathBinding>() {
        let key = |row: Option<&DatapathBinding>| row.map(|row| row.tunnel_key);
        if key(touched.before()) != key(touched.after()) {
            for row in lookup::rows(txn.state(), lookup::PORT_GROUP, &touched.uuid.to_string()) {
                dirty.work.rows += 1;
                rename_row(txn, row);
            }
        }
    }
    for touched in txn.touched_in::<PortBinding>() {
        let place = |row: Option<&PortBinding>| row.map(|row| (row.datapath, row.logical_port.clone()));
        if place(touched.before()) != place(touched.after()) {
            ports.insert(touched.uuid);
        }
    }
    for touched in txn.touched_in::<LogicalSwitchPort>() {
        let addresses = |row: Option<&LogicalSwitchPort>| {
            row.map(|row| (row.addresses.clone(), row.dynamic_addresses.clone()))
        };
        if addresses(touched.before()) != addresses(touched.after()) {
            ports.insert(touched.uuid);
        }
    }
    members(txn, ports, dirty);
    names
}

fn mark_members(touched: &Touched, ports: &mut BTreeSet<Uuid>) {
    let column = tables::decl(nb::PortGroup::TABLE).column("ports").unwrap_or(ColumnId(0));
    let mut mark = |port: Uuid, _: bool| _ = ports.insert(port);
    match (&touched.old, &touched.new) {
        (Some(old), Some(new)) => old.reference_changes(new.as_ref(), column, &mut mark),
        (Some(row), None) | (None, Some(row)) => row.each_reference(column, &mut |port| mark(port, true)),
        (None, None) => {}
    }
}

/// Looks at ports that are members, or were.
fn members(txn: &mut Txn<'_>, ports: BTreeSet<Uuid>, dirty: &mut Dirty) {
    let (mut left, mut joined) = (BTreeSet::new(), BTreeSet::new());
    for port in ports {
        let before: BTreeSet<Part> = lookup::keys(txn.state(), lookup::MEMBER, port)
            .iter()
            .filter_map(|key| Part::read(key))
            .collect();
        let after = parts(txn, port);
        if before == after {
            continue;
        }
        dirty.work.rows += 1;
        let keys: Vec<Text> = after.iter().map(Part::key).collect();
        lookup::set(txn, lookup::MEMBER, port, &keys);
        left.extend(before.difference(&after).cloned());
        joined.extend(after.difference(&before).cloned());
    }
    for part in left {
        // Two ports may have one address, or exchange their names.
        if !lookup::finds(txn.state(), lookup::MEMBER, &part.key()) {
            part.leave(txn);
        }
    }
    for part in joined {
        part.join(txn);
    }
}

/// All that a port contributes.
fn parts(txn: &Txn<'_>, port: Uuid) -> BTreeSet<Part> {
    let mut parts = BTreeSet::new();
    let (Some(row), Some(binding)) = (txn.get::<LogicalSwitchPort>(port), txn.get::<PortBinding>(port))
    else {
        return parts;
    };
    for group in txn.referrers_through::<LogicalSwitchPort, nb::PortGroup>(port, "ports") {
        let (datapath, port) = (binding.datapath.uuid(), binding.logical_port.clone());
        parts.insert(Part::Name { group, datapath, port });
        parts.extend(addresses(row).into_iter().map(|ip| Part::Address { group, ip }));
    }
    parts
}

/// The addresses that the port is known to have.
fn addresses(port: &LogicalSwitchPort) -> Vec<IpAddr> {
    let known = |text: &Text| match text.parse() {
        Ok(LspAddress::Known { ips, .. }) => ips,
        _ => Vec::new(),
    };
    let given = port.addresses.iter().flat_map(|text| match text.parse() {
        Ok(LspAddress::Dynamic { .. }) => port.dynamic_addresses.as_ref().map(known).unwrap_or_default(),
        _ => known(text),
    });
    given.collect()
}

/// Gives the rows of a group their names, and makes its address sets; or deletes them all.
fn rename(txn: &mut Txn<'_>, group: Uuid, name: Option<&Text>, dirty: &mut Dirty) {
    for suffix in SUFFIXES {
        let row = set_row(group, suffix);
        let Some(name) = name.map(|name| set_name(name, suffix)) else {
            txn.delete::<AddressSet>(row);
            continue;
        };
        if !txn.update::<AddressSet>(row, |row| row.name = name.clone()) {
            txn.put(row, AddressSet { name, ..AddressSet::default() });
        }
    }
    for row in lookup::rows(txn.state(), lookup::PORT_GROUP, &group.to_string()) {
        dirty.work.rows += 1;
        match name {
            Some(_) => rename_row(txn, row),
            None => delete_row(txn, row),
        }
    }
}

fn rename_row(txn: &mut Txn<'_>, row: Uuid) {
    let of: Vec<Uuid> = lookup::keys(txn.state(), lookup::PORT_GROUP, row)
        .iter()
        .filter_map(|key| key.parse().ok())
        .collect();
    let [group, datapath] = of[..] else { return };
    // The members of a datapath that goes leave it below.
    if let Some(name) = row_name(txn, group, datapath) {
        txn.update::<PortGroup>(row, |row| row.name = name);
    }
}

fn delete_row(txn: &mut Txn<'_>, row: Uuid) {
    lookup::set(txn, lookup::PORT_GROUP, row, &[]);
    txn.delete::<PortGroup>(row);
}

fn row_name(txn: &Txn<'_>, group: Uuid, datapath: Uuid) -> Option<Text> {
    let key = txn.get::<DatapathBinding>(datapath)?.tunnel_key;
    let name = &txn.get::<nb::PortGroup>(group)?.name;
    Some(format!("{key}_{name}").into())
}

fn set_name(group: &str, suffix: &str) -> Text {
    format!("{group}{suffix}").into()
}

fn set_row(group: Uuid, suffix: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{group}{suffix}").as_bytes())
}

const fn suffix(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { SUFFIXES[0] } else { SUFFIXES[1] }
}

impl Part {
    fn key(&self) -> Text {
        match self {
            Self::Name { group, datapath, port } => format!("name {group} {datapath} {port}").into(),
            Self::Address { group, ip } => format!("address {group} {ip}").into(),
        }
    }

    fn read(key: &str) -> Option<Self> {
        let (kind, rest) = key.split_once(' ')?;
        let (group, rest) = rest.split_once(' ')?;
        let group = group.parse().ok()?;
        if kind == "address" {
            return Some(Self::Address { group, ip: rest.parse().ok()? });
        }
        let (datapath, port) = rest.split_once(' ')?;
        Some(Self::Name { group, datapath: datapath.parse().ok()?, port: port.into() })
    }

    fn join(&self, txn: &mut Txn<'_>) {
        match self {
            Self::Address { group, ip } => {
                let set = set_row(*group, suffix(*ip));
                txn.update::<AddressSet>(set, |row| _ = row.addresses.insert(ip.to_string().into()));
            }
            Self::Name { group, datapath, port } => {
                let row = Self::row(*group, *datapath);
                if txn.update::<PortGroup>(row, |row| _ = row.ports.insert(port.clone())) {
                    return;
                }
                let name = row_name(txn, *group, *datapath);
                let name = name.expect("a member's group and its binding's datapath are there");
                txn.put(row, PortGroup { name, ports: OrdSet::unit(port.clone()) });
                let of = [group, datapath].map(|uuid| Text::from(uuid.to_string()));
                lookup::set(txn, lookup::PORT_GROUP, row, &of);
            }
        }
    }

    fn leave(&self, txn: &mut Txn<'_>) {
        match self {
            Self::Address { group, ip } => {
                let set = set_row(*group, suffix(*ip));
                txn.update::<AddressSet>(set, |row| _ = row.addresses.remove(&*ip.to_string()));
            }
            Self::Name { group, datapath, port } => {
                let row = Self::row(*group, *datapath);
                txn.update::<PortGroup>(row, |row| _ = row.ports.remove(port));
                if txn.get::<PortGroup>(row).is_some_and(|row| row.ports.is_empty()) {
                    delete_row(txn, row);
                }
            }
        }
    }

    /// The group's row of a switch.
    fn row(group: Uuid, datapath: Uuid) -> Uuid {
        Uuid::new_v5(&NAMESPACE, format!("{group} {datapath}").as_bytes())
    }
}
