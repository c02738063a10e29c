//! Which datapaths each agent holds: those that one of its ports is in, and what is reached from there over patches.
//!
//! # Contract
//! - A port leads to its datapath for the chassis that hold it or may be asked to, and for every member of its group of
//!   chassis, whether active or not.
//! - A pair of ports of type `patch` that name each other leads from one datapath to the other. Not out of a router by a
//!   gateway port whose traffic is always redirected: there only the members of the gateway's group go on. A pair of
//!   type `l3gateway` leads nowhere; both its ports are held by their chassis.
//! - Reads `Port_Binding`, `HA_Chassis_Group` and `HA_Chassis`.
//!
//! # Invariants
//! - A port more where the agent has one costs a count. Where the last of a datapath goes, the agent's datapaths are
//!   searched until another port is found by which it is still reached.

use std::collections::{BTreeMap, BTreeSet};

use imbl::{OrdMap, OrdSet};
use quantumnet_model::{
    Row, Uuid,
    sb::{HaChassis, HaChassisGroup, PortBinding},
};

use super::{ByTable, View};
use crate::store::State;

/// What leads to datapaths, at one revision. Cloning is cheap.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reach {
    /// How many ports lead each chassis to each datapath.
    seeds: OrdMap<(Uuid, Uuid), i64>,
    /// How many pairs lead from a datapath to another.
    edges: OrdMap<(Uuid, Uuid), i64>,
    /// The same pairs the other way round.
    back: OrdSet<(Uuid, Uuid)>,
}

/// Counts that change.
#[derive(Debug, Default)]
struct Deltas {
    seeds: BTreeMap<(Uuid, Uuid), i64>,
    edges: BTreeMap<(Uuid, Uuid), i64>,
}

/// Datapaths that chassis gained and lost, net: a second change takes the first back.
#[derive(Debug, Default)]
struct Journal(BTreeMap<(Uuid, Uuid), bool>);

impl Reach {
    /// Follows a transaction from `before` to `after`; tells which chassis gained (`true`) and lost datapaths.
    pub(super) fn follow(
        &mut self,
        view: &mut View,
        before: &State,
        after: &State,
        by_table: &ByTable<'_>,
    ) -> Vec<(Uuid, Uuid, bool)> {
        let mut deltas = Deltas::default();
        for port in affected(before, after, by_table) {
            deltas.add(before, port, -1);
            deltas.add(after, port, 1);
        }
        let seeds = flips(&mut self.seeds, &deltas.seeds);
        let edges = flips(&mut self.edges, &deltas.edges);
        for ((from, to), gained) in &edges {
            if *gained {
                self.back.insert((*to, *from))
            } else {
                self.back.remove(&(*to, *from))
            };
        }
        let mut journal = Journal::default();
        let lost = |flips: &[((Uuid, Uuid), bool)]| -> Vec<(Uuid, Uuid)> {
            flips.iter().filter(|(_, gained)| !gained).map(|(pair, _)| *pair).collect()
        };
        for (chassis, datapath) in lost(&seeds) {
            self.leave(view, chassis, datapath, &mut journal);
        }
        for (from, to) in lost(&edges) {
            for chassis in view.holders_of(from).collect::<Vec<_>>() {
                self.leave(view, chassis, to, &mut journal);
            }
        }
        for ((chassis, datapath), _) in seeds.into_iter().filter(|(_, gained)| *gained) {
            self.enter(view, chassis, datapath, &mut journal);
        }
        for ((from, to), _) in edges.into_iter().filter(|(_, gained)| *gained) {
            for chassis in view.holders_of(from).collect::<Vec<_>>() {
                self.enter(view, chassis, to, &mut journal);
            }
        }
        journal.0.into_iter().map(|((chassis, datapath), gained)| (chassis, datapath, gained)).collect()
    }

    /// The chassis holds the datapath, and what it leads to.
    fn enter(&self, view: &mut View, chassis: Uuid, datapath: Uuid, journal: &mut Journal) {
        let mut found = vec![datapath];
        while let Some(datapath) = found.pop() {
            if !view.holds(chassis, datapath) {
                view.set_agent(chassis, datapath, true);
                journal.note(chassis, datapath, true);
                found.extend(self.led_to(datapath));
            }
        }
    }

    /// Something that led the chassis to the datapath has gone; unless something else does, the chassis gives it up,
    /// and what it alone led to.
    fn leave(&self, view: &mut View, chassis: Uuid, datapath: Uuid, journal: &mut Journal) {
        let mut doubtful = vec![datapath];
        while let Some(datapath) = doubtful.pop() {
            if !view.holds(chassis, datapath) {
                continue;
            }
            let mut seen = BTreeSet::from([datapath]);
            let mut open = vec![datapath];
            let mut is_reached = false;
            while let Some(at) = open.pop() {
                if self.seeds.contains_key(&(chassis, at)) {
                    is_reached = true;
                    break;
                }
                open.extend(
                    self.leading_to(at).filter(|from| view.holds(chassis, *from) && seen.insert(*from)),
                );
            }
            if is_reached {
                continue;
            }
            // Nothing that leads there is reached itself.
            for at in &seen {
                view.set_agent(chassis, *at, false);
                journal.note(chassis, *at, false);
            }
            doubtful.extend(seen.iter().flat_map(|at| self.led_to(*at)));
        }
    }

    fn led_to(&self, from: Uuid) -> impl Iterator<Item = Uuid> + use<'_> {
        self.edges.range((from, Uuid::nil())..=(from, Uuid::max())).map(|((_, to), _)| *to)
    }

    fn leading_to(&self, to: Uuid) -> impl Iterator<Item = Uuid> + use<'_> {
        self.back.range((to, Uuid::nil())..=(to, Uuid::max())).map(|(_, from)| *from)
    }
}

impl Journal {
    fn note(&mut self, chassis: Uuid, datapath: Uuid, gained: bool) {
        if self.0.remove(&(chassis, datapath)).is_none() {
            self.0.insert((chassis, datapath), gained);
        }
    }
}

impl Deltas {
    /// Counts what a port leads to.
    fn add(&mut self, state: &State, port: Uuid, delta: i64) {
        let Some(binding) = state.get::<PortBinding>(port) else { return };
        let datapath = binding.datapath.uuid();
        each_chassis(state, binding, &mut |chassis| self.seed(chassis, datapath, delta));
        let Some(peer) = peer(state, binding) else { return };
        let Some(gateway) = binding.options.get("chassis-redirect-port") else {
            *self.edges.entry((datapath, peer)).or_default() += delta;
            return;
        };
        let gateway = named(state, gateway).and_then(|gateway| state.get::<PortBinding>(gateway));
        let Some(gateway) = gateway else { return };
        if gateway.options.get("always-redirect").is_some_and(|value| &**value == "true") {
            each_member(state, gateway, &mut |chassis| self.seed(chassis, peer, delta));
        } else {
            *self.edges.entry((datapath, peer)).or_default() += delta;
        }
    }

    fn seed(&mut self, chassis: Uuid, datapath: Uuid, delta: i64) {
        *self.seeds.entry((chassis, datapath)).or_default() += delta;
    }
}

/// Ports of which what they lead to may differ between the two states.
fn affected(before: &State, after: &State, by_table: &ByTable<'_>) -> BTreeSet<Uuid> {
    let mut ports = BTreeSet::new();
    let mut groups: BTreeSet<Uuid> =
        by_table.get(&HaChassisGroup::TABLE).into_iter().flatten().map(|row| row.uuid).collect();
    for member in by_table.get(&HaChassis::TABLE).into_iter().flatten() {
        for state in [before, after] {
            groups.extend(state.referrers_through::<HaChassis, HaChassisGroup>(member.uuid, "ha_chassis"));
        }
    }
    let mut gateways: BTreeSet<&str> = BTreeSet::new();
    for group in groups {
        for state in [before, after] {
            for port in state.referrers_through::<HaChassisGroup, PortBinding>(group, "ha_chassis_group") {
                ports.insert(port);
                let options = state.get::<PortBinding>(port).map(|binding| &binding.options);
                gateways
                    .extend(options.and_then(|options| options.get("distributed-port")).map(|name| &**name));
            }
        }
    }
    for row in by_table.get(&PortBinding::TABLE).into_iter().flatten() {
        ports.insert(row.uuid);
        for binding in [row.before::<PortBinding>(), row.after()].into_iter().flatten() {
            let names = ["peer", "distributed-port"].into_iter().filter_map(|key| binding.options.get(key));
            gateways.extend(names.map(|name| &**name));
        }
    }
    for name in gateways {
        ports.extend([before, after].into_iter().filter_map(|state| named(state, name)));
    }
    ports
}

/// The datapath behind a port of a pair, if the other names it too.
fn peer(state: &State, binding: &PortBinding) -> Option<Uuid> {
    let is_patch = |binding: &&PortBinding| &*binding.r#type == "patch";
    let name = Some(binding).filter(is_patch)?.options.get("peer")?;
    let peer = state.get::<PortBinding>(named(state, name)?).filter(is_patch)?;
    (peer.options.get("peer") == Some(&binding.logical_port)).then(|| peer.datapath.uuid())
}

fn named(state: &State, name: &str) -> Option<Uuid> {
    state.find::<PortBinding>(&[("logical_port", name.into())])
}

/// Chassis that hold the port, may be asked to, or are members of its group.
fn each_chassis(state: &State, binding: &PortBinding, visit: &mut dyn FnMut(Uuid)) {
    binding.chassis.iter().chain(&binding.requested_chassis).for_each(|chassis| visit(chassis.uuid()));
    let further = binding.additional_chassis.iter().chain(binding.requested_additional_chassis.iter());
    further.for_each(|chassis| visit(chassis.uuid()));
    each_member(state, binding, visit);
}

fn each_member(state: &State, binding: &PortBinding, visit: &mut dyn FnMut(Uuid)) {
    let group = binding.ha_chassis_group.and_then(|group| state.get::<HaChassisGroup>(group.uuid()));
    let members = group.into_iter().flat_map(|group| group.ha_chassis.iter());
    let members = members.filter_map(|member| state.get::<HaChassis>(member.uuid())?.chassis);
    members.for_each(|chassis| visit(chassis.uuid()));
}

/// Applies deltas; tells which counts became more than none (`true`) or none.
fn flips(
    counts: &mut OrdMap<(Uuid, Uuid), i64>,
    deltas: &BTreeMap<(Uuid, Uuid), i64>,
) -> Vec<((Uuid, Uuid), bool)> {
    let mut flips = Vec::new();
    for (pair, delta) in deltas.iter().filter(|(_, delta)| **delta != 0) {
        let before = counts.get(pair).copied().unwrap_or(0);
        let now = before + delta;
        debug_assert!(now >= 0, "{pair:?} ended more often than it began");
        if now > 0 {
            counts.insert(*pair, now);
        } else {
            counts.remove(pair);
        }
        if (before > 0) != (now > 0) {
            flips.push((*pair, now > 0));
        }
    }
    flips
}
