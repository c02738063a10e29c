//! The interest index and what agents are sent, against an evaluation of the declared rules from nothing.

#![allow(clippy::unwrap_used)] // a test's helpers, like a test, fail by a panic

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ovsdb::value::{Atom, Datum};
use proptest::prelude::*;
use quantumnet_controller::{
    agents::{Attached, Hub},
    metrics::Metrics,
    replica::Observer,
    store::{
        Context, Refusal, ResumeToken, State, Transaction, Txn, evaluate, reference_columns, scopes::Scopes,
    },
};
use quantumnet_model::{
    Database, Row, Rows, Scope, Strong, Uuid, Weak,
    change::RowChange,
    column::Text,
    intent::Cluster,
    nb::{Acl, DhcpOptions, LogicalSwitch, LogicalSwitchPort, PortGroup},
    row::TableId,
    sb::{AddressSet, Chassis, DatapathBinding, Encap, Fdb, HaChassis, HaChassisGroup, PortBinding},
    tables,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

const CHASSIS: u128 = 4;
const SWITCHES: u128 = 5;
const PORTS: u128 = 6;
const PATCHES: u128 = 8;
const GROUPS: u128 = 2;

fn uuid(kind: u128, n: u128) -> Uuid {
    Uuid::from_u128(kind << 32 | (n + 1))
}

fn chassis(n: u128) -> Uuid {
    uuid(1, n)
}

fn set<T: Row>(uuids: impl IntoIterator<Item = Uuid>) -> imbl::OrdSet<Strong<T>> {
    uuids.into_iter().map(Strong::new).collect()
}

fn context() -> Context {
    Context { now_ms: 1_000, principal: "test".into() }
}

/// Makes random changes; what does not hold together is refused and changes nothing.
fn change(txn: &mut Txn<'_>, rng: &mut StdRng) -> Result<(), Refusal> {
    for _ in 0..rng.random_range(1..5) {
        let (c, s, p) =
            (rng.random_range(0..CHASSIS), rng.random_range(0..SWITCHES), rng.random_range(0..PORTS));
        match rng.random_range(0..24) {
            0 => {
                let encap = Encap { r#type: "geneve".into(), ip: c.to_string().into(), ..Encap::default() };
                txn.put(uuid(2, c), encap);
                let name = c.to_string().as_str().into();
                txn.put(chassis(c), Chassis { name, encaps: set([uuid(2, c)]), ..Chassis::default() });
            }
            1 => _ = txn.delete::<Chassis>(chassis(c)),
            2 => {
                let tunnel_key = i64::try_from(s).unwrap() + if rng.random() { 1 } else { 10 };
                txn.put(uuid(3, s), DatapathBinding { tunnel_key, ..DatapathBinding::default() });
                if txn.get::<LogicalSwitch>(uuid(3, s)).is_none() {
                    txn.put(uuid(3, s), LogicalSwitch::default());
                }
            }
            3 => {
                txn.delete::<DatapathBinding>(uuid(3, s));
                txn.delete::<LogicalSwitch>(uuid(3, s));
                for p in 0..PORTS {
                    let here = txn
                        .get::<PortBinding>(uuid(4, p))
                        .is_some_and(|row| row.datapath.uuid() == uuid(3, s));
                    if here && rng.random_bool(0.9) {
                        txn.delete::<PortBinding>(uuid(4, p));
                    }
                }
            }
            4..8 => {
                let somewhere = |rng: &mut StdRng| {
                    let c = rng.random_range(0..CHASSIS);
                    rng.random_bool(0.6).then(|| Weak::new(chassis(c)))
                };
                let row = PortBinding {
                    logical_port: p.to_string().into(),
                    datapath: Strong::new(uuid(3, s)),
                    tunnel_key: i64::try_from(p).unwrap() + 1,
                    chassis: somewhere(rng),
                    additional_chassis: somewhere(rng).into_iter().collect(),
                    requested_chassis: somewhere(rng).filter(|_| rng.random_bool(0.3)),
                    ..PortBinding::default()
                };
                txn.put(uuid(4, p), row);
                let options = txn.get::<DhcpOptions>(uuid(5, p % 2)).is_some();
                let dhcpv4_options = options.then(|| Weak::new(uuid(5, p % 2)));
                let name = p.to_string().as_str().into();
                txn.put(
                    uuid(4, p),
                    LogicalSwitchPort { name, dhcpv4_options, ..LogicalSwitchPort::default() },
                );
                for other in 0..SWITCHES {
                    txn.update::<LogicalSwitch>(uuid(3, other), |row| {
                        if other == s {
                            row.ports.insert(Strong::new(uuid(4, p)))
                        } else {
                            row.ports.remove(&Strong::new(uuid(4, p)))
                        };
                    });
                }
            }
            8 => _ = txn.delete::<PortBinding>(uuid(4, p)),
            9 => {
                let cidr = rng.random_range(0..3).to_string().as_str().into();
                txn.put(uuid(5, p % 2), DhcpOptions { cidr, ..DhcpOptions::default() });
            }
            10 => {
                let dp_key = i64::from(rng.random_range(1..5_u8));
                txn.put(uuid(6, p), Fdb { mac: p.to_string().into(), dp_key, port_key: 1, timestamp: 0 });
            }
            11 => _ = txn.delete::<DhcpOptions>(uuid(5, p % 2)),
            12 => {
                let addresses = std::iter::once(Text::from(c.to_string())).collect();
                let name = format!("set{}", s % 2).into();
                txn.put(uuid(7, s % 2), AddressSet { name, addresses, ..AddressSet::default() });
            }
            13 => _ = txn.delete::<AddressSet>(uuid(7, s % 2)),
            14 => {
                let ports = (0..PORTS).filter(|_| rng.random()).map(|p| uuid(4, p));
                let ports = ports.filter(|port| txn.get::<LogicalSwitchPort>(*port).is_some());
                let ports = ports.map(Weak::new).collect();
                let acls = acls(txn, rng);
                txn.put(uuid(8, 0), PortGroup { name: "group".into(), ports, acls, ..PortGroup::default() });
            }
            15 => _ = txn.delete::<PortGroup>(uuid(8, 0)),
            16..20 => patch(txn, rng),
            20 => _ = txn.delete::<PortBinding>(uuid(10, rng.random_range(0..PATCHES))),
            21 => group(txn, rng),
            22 => gateway(txn, rng),
            _ => {
                let acls = acls(txn, rng);
                txn.update::<LogicalSwitch>(uuid(3, s), |row| row.acls = acls);
            }
        }
    }
    Ok(())
}

fn text(name: &str, n: u128) -> Text {
    format!("{name}{n}").into()
}

/// A port of a pair: to the other of two neighbours, mostly.
fn patch(txn: &mut Txn<'_>, rng: &mut StdRng) {
    let (s, n) = (rng.random_range(0..SWITCHES), rng.random_range(0..PATCHES));
    let peer = if rng.random_bool(0.8) { n ^ 1 } else { rng.random_range(0..PATCHES) };
    let mut options = imbl::OrdMap::unit("peer".into(), text("r", peer));
    if rng.random_bool(0.3) {
        options.insert("chassis-redirect-port".into(), text("cr", n));
    }
    let row = PortBinding {
        logical_port: text("r", n),
        r#type: if rng.random_bool(0.9) { "patch" } else { "l3gateway" }.into(),
        options,
        datapath: Strong::new(uuid(3, s)),
        tunnel_key: i64::try_from(n).unwrap() + 100,
        ..PortBinding::default()
    };
    txn.put(uuid(10, n), row);
}

fn group(txn: &mut Txn<'_>, rng: &mut StdRng) {
    let g = rng.random_range(0..GROUPS);
    let members: Vec<Uuid> = (0..CHASSIS).filter(|_| rng.random()).map(|c| uuid(13, g << 8 | c)).collect();
    for (c, member) in members.iter().enumerate() {
        let chassis = rng.random_bool(0.9).then(|| Weak::new(chassis(c as u128)));
        txn.put(*member, HaChassis { chassis, ..HaChassis::default() });
    }
    let row =
        HaChassisGroup { name: text("group", g), ha_chassis: set(members), ..HaChassisGroup::default() };
    txn.put(uuid(12, g), row);
}

/// Where the traffic of a port goes that is redirected, always or not; or an external port.
fn gateway(txn: &mut Txn<'_>, rng: &mut StdRng) {
    let (s, n) = (rng.random_range(0..SWITCHES), rng.random_range(0..PATCHES));
    let datapath = txn.get::<PortBinding>(uuid(10, n)).map_or_else(|| uuid(3, s), |row| row.datapath.uuid());
    let group = uuid(12, rng.random_range(0..GROUPS));
    let group = txn.get::<HaChassisGroup>(group).map(|_| Strong::new(group));
    let mut options = imbl::OrdMap::unit("distributed-port".into(), text("r", n));
    if rng.random_bool(0.7) {
        options.insert("always-redirect".into(), "true".into());
    }
    let row = PortBinding {
        logical_port: text("cr", n),
        r#type: if rng.random_bool(0.9) { "chassisredirect" } else { "external" }.into(),
        options,
        datapath: Strong::new(datapath),
        tunnel_key: i64::try_from(n).unwrap() + 200,
        ha_chassis_group: group.filter(|_| rng.random_bool(0.9)),
        ..PortBinding::default()
    };
    txn.put(uuid(11, n), row);
}

/// Filters that name address sets, made or changed, of which some are to be referred to.
fn acls(txn: &mut Txn<'_>, rng: &mut StdRng) -> imbl::OrdSet<Strong<Acl>> {
    let texts = ["ip4", "ip4.src == $set0", "ip4.src == {$set0, $set1} && tcp", "inport == \"$set1\""];
    let chosen: Vec<Uuid> = (0..3).filter(|_| rng.random()).map(|n| uuid(9, n)).collect();
    for acl in &chosen {
        let r#match = texts[rng.random_range(0..texts.len())].into();
        let row = Acl { direction: "from-lport".into(), action: "drop".into(), r#match, ..Acl::default() };
        txn.put(*acl, row);
    }
    set(chosen)
}

/// Scopes of a row, by recursion over the declarations.
fn scopes(state: &State, table: TableId, row: Uuid) -> BTreeSet<Uuid> {
    let decl = tables::decl(table);
    let mut found = BTreeSet::new();
    let Some(dynamic) = state.rows().dyn_row(table, row) else { return found };
    for rule in &decl.scopes {
        match rule {
            Scope::Global => _ = found.insert(Uuid::nil()),
            Scope::Own => _ = found.insert(row),
            Scope::Of(column) => {
                let column = decl.column(column).unwrap();
                let target = reference_columns(table)
                    .iter()
                    .find(|declared| declared.column == column)
                    .unwrap()
                    .target;
                dynamic.each_reference(column, &mut |by| found.extend(scopes(state, target, by)));
            }
            Scope::Referrers { table: by, column } => {
                let by = tables::find(decl.database, by).unwrap();
                let column = tables::decl(by).column(column).unwrap();
                for (uuid, referring) in state.rows().table(by) {
                    let mut refers = false;
                    referring.each_reference(column, &mut |target| refers |= target == row);
                    if refers {
                        found.extend(scopes(state, by, *uuid));
                    }
                }
            }
            Scope::Key { column, table: by, key } => {
                let by = tables::find(decl.database, by).unwrap();
                let (column, key) = (decl.column(column).unwrap(), tables::decl(by).column(key).unwrap());
                for (uuid, carrier) in state.rows().table(by) {
                    if carrier.datum(key) == dynamic.datum(column) {
                        found.extend(scopes(state, by, *uuid));
                    }
                }
            }
            Scope::Named { column, database, table: by, by: text, sigil } => {
                let by = tables::find(*database, by).unwrap();
                let text = tables::decl(by).column(text).unwrap();
                let name = string(&dynamic.datum(decl.column(column).unwrap())).unwrap();
                for (uuid, carrier) in state.rows().table(by) {
                    let names = match (string(&carrier.datum(text)), sigil) {
                        (Some(text), Some(sigil)) => {
                            let words = text.split(|c: char| !(c.is_alphanumeric() || c == *sigil));
                            words.map(str::to_owned).any(|word| word == format!("{sigil}{name}"))
                        }
                        (text, _) => text.is_some_and(|text| text == name),
                    };
                    if names {
                        found.extend(scopes(state, by, *uuid));
                    }
                }
            }
        }
    }
    found
}

fn string(datum: &Datum) -> Option<String> {
    match datum {
        Datum::Set(atoms) => atoms.iter().find_map(|atom| match atom {
            Atom::String(text) => Some(text.to_string()),
            _ => None,
        }),
        Datum::Map(_) => None,
    }
}

fn held(state: &State, chassis: Uuid) -> BTreeSet<Uuid> {
    if state.get::<Chassis>(chassis).is_none() {
        return BTreeSet::new();
    }
    let members = |row: &PortBinding| -> bool {
        let group = row.ha_chassis_group.and_then(|group| state.get::<HaChassisGroup>(group.uuid()));
        let members = group.into_iter().flat_map(|group| group.ha_chassis.iter());
        let mut members = members.filter_map(|member| state.get::<HaChassis>(member.uuid()).unwrap().chassis);
        members.any(|by| by.uuid() == chassis)
    };
    let here = |row: &PortBinding| {
        let single = row.chassis.iter().chain(&row.requested_chassis);
        let more = row.additional_chassis.iter().chain(row.requested_additional_chassis.iter());
        single.chain(more).any(|by| by.uuid() == chassis) || members(row)
    };
    let bound = state.iter::<PortBinding>().filter(|(_, row)| here(row)).map(|(_, row)| row.datapath.uuid());
    let mut held: BTreeSet<Uuid> = bound.collect();
    loop {
        let before = held.len();
        for (_, from) in state.iter::<PortBinding>() {
            let to = state.iter::<PortBinding>().map(|(_, row)| row).find(|to| {
                let names = |a: &PortBinding, b: &PortBinding| a.options.get("peer") == Some(&b.logical_port);
                &*from.r#type == "patch" && &*to.r#type == "patch" && names(from, to) && names(to, from)
            });
            let redirect = from.options.get("chassis-redirect-port");
            let gateway = |name: &Text| {
                state.iter::<PortBinding>().map(|(_, row)| row).find(|row| row.logical_port == *name)
            };
            let crosses = redirect.is_none_or(|name| {
                gateway(name).is_some_and(|row| !row.options.contains_key("always-redirect") || members(row))
            });
            // A member holds the gateway's router anyway, where there is one.
            let from_here = held.contains(&from.datapath.uuid())
                || redirect.and_then(gateway).is_some_and(|row| row.options.contains_key("always-redirect"));
            if let Some(to) = to.filter(|_| crosses && from_here) {
                held.insert(to.datapath.uuid());
            }
        }
        if held.len() == before {
            break;
        }
    }
    held.extend([chassis, Uuid::nil()]);
    held
}

/// Rows that an agent is to hold, without the columns that it is not sent.
fn expected(state: &State, chassis: Uuid) -> BTreeMap<(TableId, Uuid), Vec<Datum>> {
    let held = held(state, chassis);
    let mut rows = BTreeMap::new();
    for table in tables::ids().filter(|table| tables::decl(*table).database != Database::Host) {
        for (uuid, row) in state.rows().table(table) {
            if !scopes(state, table, *uuid).is_disjoint(&held) {
                rows.insert((table, *uuid), columns(table, row.as_ref()));
            }
        }
    }
    rows
}

fn columns(table: TableId, row: &dyn quantumnet_model::DynRow) -> Vec<Datum> {
    let decl = tables::decl(table);
    decl.column_ids()
        .filter(|column| !decl.column_decl(*column).central)
        .map(|column| row.datum(column))
        .collect()
}

/// An agent's end of a stream.
struct Agent {
    chassis: Uuid,
    rows: Rows,
    token: Option<ResumeToken>,
    attached: Option<Attached>,
    snapshots: usize,
}

impl Agent {
    fn attach(&mut self, hub: &Hub) {
        let mut attached = hub.attach(self.chassis, self.token.as_ref()).unwrap();
        if attached.snapshot {
            self.rows = Rows::default();
            self.snapshots += 1;
        }
        self.apply(&std::mem::take(&mut attached.rows));
        self.token = Some(attached.token);
        self.attached = Some(attached);
    }

    /// Takes what is queued; a queue that ended means attaching again.
    fn take(&mut self, hub: &Hub, revision: u64) {
        let Some(mut attached) = self.attached.take() else { return };
        while let Ok(push) = attached.queue.try_recv() {
            self.apply(&push.rows);
            self.token.as_mut().unwrap().revision = push.revision;
        }
        if attached.queue.is_closed() {
            self.attach(hub);
        } else {
            self.token.as_mut().unwrap().revision = revision;
            self.attached = Some(attached);
        }
    }

    fn apply(&mut self, rows: &[bytes::Bytes]) {
        for row in rows {
            RowChange::decode(row).unwrap().apply(&mut self.rows).unwrap();
        }
    }

    fn holds(&self) -> BTreeMap<(TableId, Uuid), Vec<Datum>> {
        let rows = |table: TableId| {
            let rows = self.rows.table(table).iter();
            rows.map(move |(uuid, row)| ((table, *uuid), columns(table, row.as_ref())))
        };
        tables::ids().flat_map(rows).collect()
    }
}

/// A random history with agents that come, fall behind, go and resume. Returns how many attached and got a snapshot.
fn history(seed: u64, count: usize, remembered: usize) -> (usize, usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut hub = Hub::new(remembered, Arc::new(Metrics::default()));
    let mut state = Arc::new(State::default());
    hub.replaced(&state);
    let mut index = Scopes::default();
    let new =
        |n| Agent { chassis: chassis(n), rows: Rows::default(), token: None, attached: None, snapshots: 0 };
    let mut agents: Vec<Agent> = (0..CHASSIS).map(new).collect();
    let mut attached = 0;
    for _ in 0..count {
        let request = |txn: &mut Txn<'_>| {
            if txn.iter::<Cluster>().next().is_none() {
                let cluster = Cluster { cluster_id: uuid(7, 0), history_id: uuid(7, 1), last_claim: 0 };
                txn.insert(uuid(7, 2), cluster)?;
            }
            change(txn, &mut rng)
        };
        let Ok(done) = evaluate(&state, &context(), request, &|_| Ok(())) else { continue };
        if done.changes.is_empty() {
            continue;
        }
        let mut next = state.as_ref().clone();
        let revision = next.revision() + 1;
        let touched = next.apply(revision, &done.changes).unwrap();
        let transaction =
            Arc::new(Transaction { revision, time_ms: 1, principal: "test".into(), touched, bytes: 0 });
        index.follow(&state, &next, &transaction.touched);
        state = Arc::new(next);
        hub.applied(&state, &transaction);

        assert_eq!(index, Scopes::of(&state), "incremental and rebuilt index differ, seed {seed}");
        for table in tables::ids() {
            for uuid in state.rows().table(table).keys() {
                let found: BTreeSet<Uuid> = index.view().scopes_of(table, *uuid).collect();
                assert_eq!(
                    found,
                    scopes(&state, table, *uuid),
                    "{} {uuid}, seed {seed}",
                    tables::decl(table).name
                );
            }
        }
        for agent in &mut agents {
            assert_eq!(
                index.view().held_by(agent.chassis).collect::<BTreeSet<_>>(),
                held(&state, agent.chassis)
            );
            match rng.random_range(0..10) {
                0 => {
                    // Its stream breaks; it keeps its rows.
                    agent.take(&hub, revision);
                    agent.attached = None;
                }
                1..3 if agent.attached.is_none() && state.get::<Chassis>(agent.chassis).is_some() => {
                    agent.attach(&hub);
                    attached += 1;
                }
                3 => {} // It is slow.
                _ => agent.take(&hub, revision),
            }
            let current =
                agent.attached.is_some() && agent.token.is_some_and(|token| token.revision == revision);
            if current {
                assert_eq!(
                    agent.holds(),
                    expected(&state, agent.chassis),
                    "chassis {}, seed {seed}",
                    agent.chassis
                );
            }
        }
    }
    (attached, agents.iter().map(|agent| agent.snapshots).sum())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn agents_hold_the_projection_of_the_state(seed in any::<u64>(), count in 1_usize..60, remembered in 0_usize..30) {
        history(seed, count, remembered);
    }
}

#[test]
fn histories_resume_as_well_as_begin_anew() {
    let (mut attached, mut snapshots) = (0, 0);
    for seed in 0..20 {
        let (a, s) = history(seed, 80, 10);
        (attached, snapshots) = (attached + a, snapshots + s);
    }
    assert!(snapshots > 0 && attached > snapshots, "{attached} attached, {snapshots} by snapshot");
}

/// A store of one registered chassis.
fn one_chassis() -> Arc<State> {
    let make = |txn: &mut Txn<'_>| {
        let cluster = Cluster { cluster_id: uuid(7, 0), history_id: uuid(7, 1), last_claim: 0 };
        txn.insert(uuid(7, 2), cluster)?;
        let encap = Encap { r#type: "geneve".into(), ip: "10.0.0.1".into(), ..Encap::default() };
        txn.insert(uuid(2, 0), encap)?;
        txn.insert(
            chassis(0),
            Chassis { name: "hv1".into(), encaps: set([uuid(2, 0)]), ..Chassis::default() },
        )
    };
    Arc::new(evaluate(&State::default(), &context(), make, &|_| Ok(())).unwrap().state)
}

/// A change of that chassis.
fn touched(state: &State, nb_cfg: i64) -> (Arc<State>, Arc<Transaction>) {
    let touch = |txn: &mut Txn<'_>| {
        txn.update::<Chassis>(chassis(0), |row| row.nb_cfg = nb_cfg);
        Ok(())
    };
    let done = evaluate(state, &context(), touch, &|_| Ok(())).unwrap();
    let mut next = state.clone();
    let revision = next.revision() + 1;
    let touched = next.apply(revision, &done.changes).unwrap();
    let transaction = Transaction { revision, time_ms: 1, principal: "test".into(), touched, bytes: 0 };
    (Arc::new(next), Arc::new(transaction))
}

/// The queues are filled before the watch of revisions moves, so an agent may answer in between. It is believed.
#[test]
fn an_acknowledgement_that_precedes_the_watch_of_revisions_counts() {
    let mut hub = Hub::new(10, Arc::new(Metrics::default()));
    let state = one_chassis();
    hub.replaced(&state);
    let mut queue = hub.attach(chassis(0), None).unwrap().queue;
    let watch = hub.revision();
    // While this is held the watch can't move.
    let held = watch.borrow();
    let (next, transaction) = touched(&state, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| hub.clone().applied(&next, &transaction));
        let push = queue.blocking_recv().unwrap();
        assert_eq!((push.revision, *held), (next.revision(), state.revision()));
        assert_eq!(hub.acknowledge(chassis(0), push.revision), push.revision);
        assert_eq!(hub.acknowledge(chassis(0), push.revision + 1), push.revision, "no more than there is");
        drop(held);
    });
    assert_eq!(*watch.borrow(), next.revision());
}

#[test]
fn a_token_of_another_history_or_of_the_future_gets_a_snapshot() {
    let mut hub = Hub::new(10, Arc::new(Metrics::default()));
    let state = one_chassis();
    hub.replaced(&state);
    let now = ResumeToken::of(&state).unwrap();
    assert!(!hub.attach(chassis(0), Some(&now)).unwrap().snapshot);
    for token in [
        ResumeToken { history_id: uuid(8, 0), ..now },
        ResumeToken { cluster_id: uuid(8, 0), ..now },
        ResumeToken { revision: 2, ..now },
        ResumeToken { revision: 0, ..now },
    ] {
        let attached = hub.attach(chassis(0), Some(&token)).unwrap();
        assert!(attached.snapshot, "{token:?}");
        assert_eq!(attached.rows.len(), 2, "the chassis and its endpoint");
    }
}

/// An agent that reads nothing costs a bounded queue, and is brought up to date when it reads again.
#[test]
fn a_slow_agent_is_cut_off_and_resumes() {
    let mut hub = Hub::new(10_000, Arc::new(Metrics::default()));
    let mut state = one_chassis();
    hub.replaced(&state);
    let mut agent =
        Agent { chassis: chassis(0), rows: Rows::default(), token: None, attached: None, snapshots: 0 };
    agent.attach(&hub);
    for n in 0..1_000 {
        let (next, transaction) = touched(&state, n + 1);
        state = next;
        hub.applied(&state, &transaction);
    }
    assert!(agent.attached.as_ref().unwrap().queue.len() < 1_000);
    agent.take(&hub, state.revision());
    assert_eq!(agent.holds(), expected(&state, chassis(0)));
    assert_eq!(agent.snapshots, 1, "history was enough");
}
