//! Addresses `dynamic` of Northbound ports (ovn-nb(5), `Logical_Switch_Port.addresses`): allocated, kept, given back.
//!
//! # Contract
//! - Reads `Logical_Switch`, `Logical_Switch_Port`, `Logical_Router_Port`; writes
//!   `Logical_Switch_Port.dynamic_addresses`, and pools of addresses and MACs.
//! - Static addresses come first: a port whose dynamic one another is given by hand gets the next free one.
//! - An address that is given back is given again at once, as OVN does, so that equal histories give equal addresses.
//!
//! # Invariants
//! - Of an IPv4 address in the subnet of a switch, and of a MAC that begins with the prefix of dynamic ones, every
//!   port has a `Lookup` row, and exactly those with one are taken from their pool.
//! - A port waits, by a `Lookup` row, only for what nobody can give it at present.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use quantumnet_model::{
    Strong, Uuid,
    address::{LspAddress, Mac, v4},
    column::Text,
    nb::{LogicalRouterPort, LogicalSwitch, LogicalSwitchPort},
};

use crate::{
    ipam::{
        key_of,
        northbound::{Given, KEYS, MacPrefix, Plan, SUFFIXES, Wish, eui64, router_addresses},
        range::ip_of,
    },
    lower::{Dirty, global, keys, lookup, problem::Problems},
    store::{State, Touched, Txn},
};

/// Ports that are in a switch, with it.
pub(super) type Placed = BTreeMap<Uuid, Uuid>;

/// Marks the ports whose addresses may change with a switch, or with the router port behind them.
pub(super) fn mark(txn: &mut Txn<'_>, dirty: &mut Dirty) {
    for touched in txn.touched_in::<LogicalSwitch>() {
        replanned(txn, &touched, dirty);
    }
    let prefix = global::mac_prefix(txn.state());
    for touched in txn.touched_in::<LogicalRouterPort>() {
        dirty.work.rows += 1;
        for row in [touched.before::<LogicalRouterPort>(), touched.after()].into_iter().flatten() {
            dirty.ports.extend(lookup::rows(txn.state(), lookup::ROUTER_PORT, &row.name));
        }
        router_port(txn, touched.uuid, prefix);
    }
}

/// A router port's MAC, so that no port is given it.
pub(super) fn router_port(txn: &mut Txn<'_>, uuid: Uuid, prefix: MacPrefix) {
    let mac = txn.get::<LogicalRouterPort>(uuid).and_then(|row| row.mac.parse().ok());
    use_macs(txn, uuid, prefix, &mac.into_iter().collect());
}

/// A switch with other settings begins anew: its ports name their addresses again.
fn replanned(txn: &mut Txn<'_>, touched: &Touched, dirty: &mut Dirty) {
    let settings =
        |row: Option<&LogicalSwitch>| KEYS.map(|key| row.and_then(|row| row.other_config.get(key)).cloned());
    let (old, new) = (touched.before::<LogicalSwitch>(), touched.after::<LogicalSwitch>());
    if settings(old) == settings(new) {
        return;
    }
    let own = format!("{} ", touched.uuid);
    for port in [old, new].into_iter().flatten().flat_map(|row| row.ports.iter().map(Strong::uuid)) {
        // A port that comes from another switch has addresses of that one.
        let mut named = lookup::keys(txn.state(), lookup::ADDRESS, port);
        named.retain(|key| !key.starts_with(&own));
        lookup::set(txn, lookup::ADDRESS, port, &named);
        dirty.ports.insert(port);
    }
    keys::forget(txn, &keys::addresses_of(touched.uuid));
}

/// Gives the ports their addresses; ports that must give way to them, or waited for what they left, are added to
/// `placed`. Returns what is wrong, by port.
pub(super) fn assign(
    txn: &mut Txn<'_>,
    placed: &mut Placed,
    gone: &[Uuid],
    dirty: &mut Dirty,
) -> BTreeMap<Uuid, Problems> {
    let mut round = Round {
        prefix: global::mac_prefix(txn.state()),
        plans: BTreeMap::new(),
        freed: BTreeSet::new(),
        queue: BTreeSet::new(),
        problems: BTreeMap::new(),
    };
    for port in gone {
        round.leave(txn, *port);
    }
    // What is given by hand, and what was given before, so that whoever needs another gets none of these.
    for (port, switch) in placed.clone() {
        round.restate(txn, port, switch, placed);
    }
    loop {
        while let Some((_, port)) = round.queue.pop_first() {
            if let Some(switch) = placed.get(&port) {
                dirty.work.rows += 1;
                round.give(txn, port, *switch);
            }
        }
        for key in std::mem::take(&mut round.freed) {
            for (port, switch) in waiting(txn.state(), &key) {
                placed.insert(port, switch);
                round.enqueue(txn.state(), port);
            }
        }
        if round.queue.is_empty() {
            return round.problems;
        }
    }
}

/// Ports that wait for an address, or for any of its switch, with that switch.
fn waiting(state: &State, key: &Text) -> Vec<(Uuid, Uuid)> {
    let Some((switch, _)) = address_of(key) else { return Vec::new() };
    let any = lookup::rows(state, lookup::WAITS, &switch.to_string());
    let this = lookup::rows(state, lookup::WAITS, key);
    any.into_iter().chain(this).map(|port| (port, switch)).collect()
}

struct Round {
    prefix: MacPrefix,
    plans: BTreeMap<Uuid, Plan>,
    /// Addresses that nobody has any more.
    freed: BTreeSet<Text>,
    /// Ports to give addresses to, in the order of their names.
    queue: BTreeSet<(Text, Uuid)>,
    problems: BTreeMap<Uuid, Problems>,
}

impl Round {
    fn plan(&mut self, state: &State, switch: Uuid) -> &Plan {
        self.plans.entry(switch).or_insert_with(|| {
            state.get::<LogicalSwitch>(switch).map(|row| Plan::parse(&row.other_config).0).unwrap_or_default()
        })
    }

    fn enqueue(&mut self, state: &State, port: Uuid) {
        let name = state.get::<LogicalSwitchPort>(port).map(|row| row.name.clone()).unwrap_or_default();
        self.queue.insert((name, port));
    }

    /// A port that is in no switch has no address.
    fn leave(&mut self, txn: &mut Txn<'_>, port: Uuid) {
        self.use_addresses(txn, port, None, &BTreeSet::new());
        use_macs(txn, port, self.prefix, &BTreeSet::new());
        lookup::set(txn, lookup::WAITS, port, &[]);
        lookup::set(txn, lookup::ROUTER_PORT, port, &[]);
    }

    fn restate(&mut self, txn: &mut Txn<'_>, port: Uuid, switch: Uuid, placed: &mut Placed) {
        let Some(row) = txn.get::<LogicalSwitchPort>(port).cloned() else { return };
        let router = (&*row.r#type == "router").then(|| row.options.get("router-port").cloned()).flatten();
        lookup::set(txn, lookup::ROUTER_PORT, port, router.as_slice());
        let plan = self.plan(txn.state(), switch).clone();
        let (mut ips, mut macs) = by_hand(txn.state(), &row);
        let given = row.dynamic_addresses.as_ref().and_then(|text| Given::parse(text));
        let is_dynamic = Wish::parse(&row.addresses, &mut Vec::new()).is_some();
        if let Some(given) = given.filter(|_| is_dynamic && plan.is_active()) {
            ips.extend(given.v4);
            macs.insert(given.mac);
        }
        use_macs(txn, port, self.prefix, &macs);
        let came = self.use_addresses(txn, port, Some(switch), &ips);
        // Whoever was given one of these may have to give way.
        for key in came {
            for other in lookup::rows(txn.state(), lookup::ADDRESS, &key) {
                let row = txn.get::<LogicalSwitchPort>(other).filter(|_| other != port);
                if row.is_some_and(|row| row.dynamic_addresses.is_some()) {
                    placed.entry(other).or_insert(switch);
                    self.enqueue(txn.state(), other);
                }
            }
        }
        if is_dynamic || row.dynamic_addresses.is_some() {
            self.enqueue(txn.state(), port);
        } else {
            lookup::set(txn, lookup::WAITS, port, &[]);
        }
    }

    /// Decides on a port's dynamic addresses.
    fn give(&mut self, txn: &mut Txn<'_>, port: Uuid, switch: Uuid) {
        let Some(row) = txn.get::<LogicalSwitchPort>(port).cloned() else { return };
        let mut wrong = Vec::new();
        let wish = Wish::parse(&row.addresses, &mut wrong);
        let plan = self.plan(txn.state(), switch).clone();
        let (mut ips, mut macs) = by_hand(txn.state(), &row);
        let mut waits = Vec::new();
        let given = wish.filter(|_| plan.is_active()).and_then(|wish| {
            let before = row.dynamic_addresses.as_ref().and_then(|text| Given::parse(text));
            let ip = self.v4(txn, port, switch, &plan, wish, before, &mut waits, &mut wrong);
            let kept = before.map(|given| given.mac).filter(|mac| self.prefix.suffix(*mac).is_some());
            let mac = wish.mac.or(kept).or_else(|| next_mac(txn, self.prefix, ip));
            if mac.is_none() {
                wrong.push(format!("no MAC that begins with {} is left; delete ports", self.prefix));
                unchoose(txn, switch, ip);
            }
            mac.map(|mac| Given { mac, v4: ip, v6: v6(&plan, wish, mac, &mut wrong) })
        });
        if wish.is_some() && !plan.is_active() {
            wrong.push("the switch has no other_config:subnet, ipv6_prefix or mac_only; set one".to_owned());
        }
        if let Some(given) = given {
            ips.extend(given.v4);
            macs.insert(given.mac);
        }
        use_macs(txn, port, self.prefix, &macs);
        self.use_addresses(txn, port, Some(switch), &ips);
        lookup::set(txn, lookup::WAITS, port, &waits);
        let text = given.map(|given| Text::from(given.to_string()));
        if row.dynamic_addresses != text {
            txn.update::<LogicalSwitchPort>(port, |row| row.dynamic_addresses = text);
        }
        self.problems.insert(port, wrong.into_iter().map(|message| ("addresses", message)).collect());
    }

    #[allow(clippy::too_many_arguments)] // one decision, of which all of these are part
    fn v4(
        &self,
        txn: &mut Txn<'_>,
        port: Uuid,
        switch: Uuid,
        plan: &Plan,
        wish: Wish,
        before: Option<Given>,
        waits: &mut Vec<Text>,
        wrong: &mut Vec<String>,
    ) -> Option<Ipv4Addr> {
        let Some(subnet) = &plan.v4 else {
            if let Some(ip) = wish.v4 {
                wrong.push(format!("{ip} is not given: the switch has no other_config:subnet"));
            }
            return None;
        };
        let is_free = |ip: &Ipv4Addr| {
            let users = lookup::rows(txn.state(), lookup::ADDRESS, &key(switch, *ip));
            subnet.gives(*ip) && users.iter().all(|user| *user == port)
        };
        if let Some(ip) = wish.v4 {
            if is_free(&ip) {
                return Some(ip);
            }
            if subnet.gives(ip) {
                waits.push(key(switch, ip));
                wrong.push(format!("{ip} is in use by another port; another address is given"));
            } else {
                wrong.push(format!("{ip} is not one that the switch gives; another address is given"));
            }
        }
        if let Some(ip) = before.and_then(|given| given.v4).filter(is_free) {
            return Some(ip);
        }
        let taken = keys::take_first(txn, &keys::addresses_of(switch), subnet.whole(), &subnet.given);
        let ip = taken.ok().and_then(|key| ip_of(key, subnet.net.network().into()));
        if ip.is_none() {
            waits.push(switch.to_string().into());
            wrong.push(format!("no address is left in {}; widen it or delete ports", subnet.net));
        }
        ip.and_then(|ip| v4(&[ip]).next())
    }

    /// Makes these the addresses of the port, as far as they are in the subnet of the switch. Returns those that came.
    fn use_addresses(
        &mut self,
        txn: &mut Txn<'_>,
        port: Uuid,
        switch: Option<Uuid>,
        ips: &BTreeSet<Ipv4Addr>,
    ) -> Vec<Text> {
        let before: BTreeSet<Text> = lookup::keys(txn.state(), lookup::ADDRESS, port).into_iter().collect();
        let (mut now, mut came) = (Vec::new(), Vec::new());
        let subnet = switch.and_then(|switch| Some((switch, self.plan(txn.state(), switch).v4.clone()?)));
        if let Some((switch, subnet)) = subnet {
            for ip in ips.iter().filter(|ip| subnet.net.contains(*ip)) {
                let key = key(switch, *ip);
                now.push(key.clone());
                if !before.contains(&key) {
                    // Taken already where another has it too, or where it was chosen just now.
                    _ = keys::take(txn, &keys::addresses_of(switch), subnet.whole(), key_of((*ip).into()));
                    came.push(key);
                }
            }
        }
        lookup::set(txn, lookup::ADDRESS, port, &now);
        for key in before {
            if now.contains(&key) || !lookup::rows(txn.state(), lookup::ADDRESS, &key).is_empty() {
                continue;
            }
            if let Some((switch, ip)) = address_of(&key) {
                keys::give_back(txn, &keys::addresses_of(switch), key_of(ip.into()));
            }
            self.freed.insert(key);
        }
        came
    }
}

fn v6(plan: &Plan, wish: Wish, mac: Mac, wrong: &mut Vec<String>) -> Option<Ipv6Addr> {
    let Some(prefix) = plan.v6 else {
        if let Some(ip) = wish.v6 {
            wrong.push(format!("{ip} is not given: the switch has no other_config:ipv6_prefix"));
        }
        return None;
    };
    let within = |ip: &Ipv6Addr| u128::from(*ip) >> 64 == u128::from(prefix) >> 64;
    if let Some(ip) = wish.v6.filter(|ip| !within(ip)) {
        wrong.push(format!("{ip} is outside {prefix}/64; the one of the MAC is given"));
    }
    Some(wish.v6.filter(within).unwrap_or_else(|| eui64(prefix, mac)))
}

fn next_mac(txn: &mut Txn<'_>, prefix: MacPrefix, ip: Option<Ipv4Addr>) -> Option<Mac> {
    let suffix = keys::take_first(txn, &keys::macs_of(prefix), SUFFIXES, &MacPrefix::candidates(ip));
    suffix.ok().map(|suffix| prefix.mac(suffix))
}

/// Makes these the MACs of the port or router port, as far as they begin with the prefix.
fn use_macs(txn: &mut Txn<'_>, row: Uuid, prefix: MacPrefix, macs: &BTreeSet<Mac>) {
    let own = macs.iter().filter(|mac| prefix.suffix(**mac).is_some());
    let now: Vec<Text> = own.map(|mac| mac.to_string().into()).collect();
    let before = lookup::keys(txn.state(), lookup::MAC, row);
    if before == now {
        return;
    }
    for mac in now.iter().filter(|mac| !before.contains(mac)).filter_map(|text| text.parse().ok()) {
        if let Some(suffix) = prefix.suffix(mac) {
            // Taken already where another has it too, or where it was chosen just now.
            _ = keys::take(txn, &keys::macs_of(prefix), SUFFIXES, suffix);
        }
    }
    lookup::set(txn, lookup::MAC, row, &now);
    for text in before.iter().filter(|text| !now.contains(text)) {
        let Ok(mac) = text.parse::<Mac>() else { continue };
        let [a, b, c, ..] = mac.0;
        let own = MacPrefix([a, b, c]);
        let suffix = own.suffix(mac).filter(|suffix| (SUFFIXES.0..=SUFFIXES.1).contains(suffix));
        if let Some(suffix) = suffix.filter(|_| lookup::rows(txn.state(), lookup::MAC, text).is_empty()) {
            keys::give_back(txn, &keys::macs_of(own), suffix);
        }
    }
}

/// What the port is given by hand, or by the router port behind it.
fn by_hand(state: &State, row: &LogicalSwitchPort) -> (BTreeSet<Ipv4Addr>, BTreeSet<Mac>) {
    let (mut ips, mut macs) = (BTreeSet::new(), BTreeSet::new());
    for text in &row.addresses {
        if let Ok(LspAddress::Known { mac, ips: known }) = text.parse() {
            macs.insert(mac);
            ips.extend(v4(&known));
        }
    }
    let router = row.options.get("router-port").filter(|_| &*row.r#type == "router");
    let router = router.and_then(|name| state.find::<LogicalRouterPort>(&[("name", (&**name).into())]));
    if let Some(router) = router.and_then(|uuid| state.get::<LogicalRouterPort>(uuid)) {
        ips.extend(router_addresses(&router.networks));
    }
    (ips, macs)
}

/// Gives an address back that was chosen for a port which cannot have it after all.
fn unchoose(txn: &mut Txn<'_>, switch: Uuid, ip: Option<Ipv4Addr>) {
    let unused = |ip: &Ipv4Addr| lookup::rows(txn.state(), lookup::ADDRESS, &key(switch, *ip)).is_empty();
    if let Some(ip) = ip.filter(unused) {
        keys::give_back(txn, &keys::addresses_of(switch), key_of(ip.into()));
    }
}

fn key(switch: Uuid, ip: Ipv4Addr) -> Text {
    format!("{switch} {ip}").into()
}

fn address_of(key: &str) -> Option<(Uuid, Ipv4Addr)> {
    let (switch, ip) = key.split_once(' ')?;
    Some((switch.parse().ok()?, ip.parse().ok()?))
}
