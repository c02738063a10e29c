//! Mirrors to a logical port (ovn-nb(5), `Mirror` of type `lport`), and what is mirrored by the switch itself.
//!
//! # Contract
//! - `mirror_scope`: owner one local port. Reads its mirrors, and the ports of type `mirror` on its switch that lead to their
//!   targets. States where it is mirrored, whether by a mirror of the switch's database, and whether it has a queue there.
//! - `mirror_pass`: owner one direction of a switch with such ports. Out: what is not mirrored goes on.
//! - `mirror`: owner one direction of one port. Reads its mirrors and their rules. Out: a copy for each target, and on.
//! - `mirror_port`: owner one port of type `mirror`, wherever it is. Reads its binding, and its target's interface. Out: copies to the
//!   target's interface here, or into the tunnel to where it is.
//! - In: what ports send, behind port security and before all filters; what they are sent, behind the filters. As in OVN's stages
//!   `ls_in_mirror` and `ls_out_mirror`.
//!
//! # Invariants
//! - Traffic of switches without such mirrors does not come here.
//! - A port without rules that match is mirrored whole. Of rules, the one of highest priority decides, over all mirrors of the
//!   port; where two of one priority and match differ in their target, both get a copy.
//! - A copy meets neither filters nor QoS nor port security, and its packet goes on as if there were none.

use std::collections::{BTreeMap, BTreeSet};

use ofpacket::{Action, Field, Port};
use ovsdb::value::Atom;
use quantumnet_expr::Expr;
use quantumnet_model::{
    host::HostTunnel,
    nb::{LogicalSwitchPort, Mirror, MirrorRule},
    sb::PortBinding,
};
use uuid::Uuid;

use crate::compile::{
    expression::{self, Part, Place, RuleFlows, parts},
    index::By,
    logical::{self, Interface, SwitchPort, go, on_switch},
    owner::{Owner, Owners, Relation},
    register,
    sink::Sink,
    stage::{Stage, qos::Direction},
    table::Table,
    view::View,
};

pub(super) const SCOPE: Stage = Stage {
    number: 85,
    name: "mirror_scope",
    owners: Owners::Facts(Relation::LocalPorts),
    tables: &[],
    relations: &[Relation::Mirrored, Relation::MirroredPorts, Relation::CopiedPorts, Relation::QueuedPorts],
    emit: scope,
};

pub(super) const PASS: Stage = Stage {
    number: 86,
    name: "mirror_pass",
    owners: Owners::Facts(Relation::Mirrored),
    tables: &[Table::AdmitNeighbour, Table::MirrorFrom, Table::MirrorTo],
    relations: &[],
    emit: pass,
};

pub(super) const STAGE: Stage = Stage {
    number: 87,
    name: "mirror",
    owners: Owners::Facts(Relation::MirroredPorts),
    tables: &[Table::MirrorFrom, Table::MirrorTo],
    relations: &[],
    emit,
};

pub(super) const PORT: Stage = Stage {
    number: 88,
    name: "mirror_port",
    owners: Owners::Facts(Relation::MirrorPorts),
    tables: &[Table::Output, Table::Deliver],
    relations: &[],
    emit: port,
};

/// Whether ports of a switch are mirrored to ports, in that direction.
pub(in crate::compile) fn mirrors(view: &View<'_>, switch: Uuid, direction: Direction) -> bool {
    view.related(Relation::Mirrored, switch, direction as u32).next().is_some()
}

const fn table(direction: Direction) -> Table {
    match direction {
        Direction::From => Table::MirrorFrom,
        Direction::To => Table::MirrorTo,
    }
}

fn onward(view: &View<'_>, switch: Uuid, direction: Direction) -> Action {
    go(match direction {
        Direction::From => logical::unmirrored(view, switch),
        Direction::To => logical::shaped(view, switch).unwrap_or(Table::AdmitOut),
    })
}

fn is_of(mirror: &Mirror, direction: Direction) -> bool {
    match direction {
        Direction::From => &*mirror.filter != "to-lport",
        Direction::To => &*mirror.filter != "from-lport",
    }
}

fn scope(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(port) = SwitchPort::read(view, owner.row()) else { return };
    if port.binding.options.contains_key("qdisc_queue_id") {
        out.fact(Relation::QueuedPorts, Uuid::nil(), 0, port.uuid);
    }
    for (_, mirror) in mirrors_of(view, port.uuid) {
        if &*mirror.r#type != TO_PORT {
            out.fact(Relation::CopiedPorts, Uuid::nil(), 0, port.uuid);
            continue;
        }
        if target(view, port.switch, mirror).is_none() {
            continue;
        }
        for direction in [Direction::From, Direction::To] {
            if is_of(mirror, direction) {
                out.fact(Relation::Mirrored, port.switch, direction as u32, Uuid::nil());
                out.fact(Relation::MirroredPorts, port.switch, direction as u32, port.uuid);
            }
        }
    }
}

/// The mirrors of a port.
fn mirrors_of<'a>(view: &View<'a>, port: Uuid) -> Vec<(Uuid, &'a Mirror)> {
    let row = view.row::<LogicalSwitchPort>(port);
    let mirrors = row.into_iter().flat_map(|row| row.mirror_rules.iter());
    mirrors.filter_map(|mirror| Some((mirror.uuid(), view.row::<Mirror>(mirror.uuid())?))).collect()
}

/// Key of the port by which copies leave a switch for a mirror's target.
fn target(view: &View<'_>, switch: Uuid, mirror: &Mirror) -> Option<u16> {
    let key = [Atom::Uuid(switch), Atom::String(mirror.sink.clone())];
    let (_, binding) = view.find_one::<PortBinding>(By::MirrorPort, &key)?;
    logical::port_key(binding.tunnel_key)
}

fn pass(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let Some(key) = logical::switch_key(view, fact.of) else { return };
    let direction = Direction::of_part(fact.part);
    out.flow(table(direction), 0, on_switch(key), [onward(view, fact.of, direction)]);
    if direction == Direction::From {
        // Neighbour discovery of secured ports comes by there.
        out.flow(Table::AdmitNeighbour, 1, on_switch(key), [go(Table::MirrorFrom)]);
    }
}

fn emit(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(fact) = owner.fact() else { return };
    let Some(port) = SwitchPort::read(view, fact.value) else { return };
    let direction = Direction::of_part(fact.part);
    let of_port = match direction {
        Direction::From => port.from(),
        Direction::To => port.to(),
    };
    // What each rule does, by priority and match: whom it sends a copy, and whose conjunction ids it uses.
    let mut rules: BTreeMap<(i64, &str), (BTreeSet<u16>, Uuid)> = BTreeMap::new();
    let mut whole = BTreeSet::new();
    for (_, mirror) in mirrors_of(view, port.uuid) {
        let Some(to) = target(view, port.switch, mirror).filter(|_| &*mirror.r#type == TO_PORT) else {
            continue;
        };
        if !is_of(mirror, direction) {
            continue;
        }
        whole.insert(to);
        for rule in &mirror.mirror_rules {
            let Some(row) = view.row::<MirrorRule>(rule.uuid()) else { continue };
            let (targets, _) =
                rules.entry((row.priority, &row.r#match)).or_insert_with(|| (BTreeSet::new(), rule.uuid()));
            targets.extend((&*row.action == "mirror").then_some(to));
        }
    }
    let actions = |targets: &BTreeSet<u16>| -> Vec<Action> {
        let copies = targets.iter().map(|to| copy(*to));
        copies.chain([onward(view, port.switch, direction)]).collect()
    };
    out.flow(table(direction), PRIORITY, of_port, actions(&whole));
    for ((priority, text), (targets, rule)) in rules {
        let Some(clauses) = Expr::parse(text).ok().and_then(|expr| expr.normalize().ok()) else { continue };
        let place = Place {
            switch: port.switch,
            key: port.switch_key,
            port: Some((register_of(direction), port.key)),
        };
        let clauses: Vec<Vec<Part>> = clauses.iter().map(|clause| parts(view, place, clause)).collect();
        let flows = RuleFlows {
            table: table(direction),
            priority: u16::try_from(priority).unwrap_or(u16::MAX).saturating_add(PRIORITY + 1),
            place,
            conjunction: expression::conjunction(view, rule),
            ip_only: false,
        };
        flows.put(out, &clauses, &|matches| matches, &actions(&targets));
    }
}

fn register_of(direction: Direction) -> Field {
    match direction {
        Direction::From => register::IN_PORT,
        Direction::To => register::OUT_PORT,
    }
}

/// A copy to the port of that key. It is nobody's frame any more, so that it may leave by where it came from, and for a tunnel too.
fn copy(to: u16) -> Action {
    Action::Clone(vec![
        logical::forget_interface(),
        Action::load(register::FROM_TUNNEL, 0),
        Action::load(register::FROM_LOCALPORT, 0),
        Action::load(register::OUT_PORT, to.into()),
        go(Table::Output),
    ])
}

fn port(view: &View<'_>, owner: Owner, out: &mut Sink) {
    let Some(binding) = view.row::<PortBinding>(owner.row()) else { return };
    let switch = logical::switch_key(view, binding.datapath.uuid());
    let (Some(switch), Some(key)) = (switch, logical::port_key(binding.tunnel_key)) else { return };
    let (Some(own), Some(chassis)) = (view.related_one(Relation::OwnChassis, Uuid::nil()), binding.chassis)
    else {
        return;
    };
    let copies = on_switch(switch).with(register::OUT_PORT, key);
    if chassis.uuid() == own {
        let Some(interface) = target_interface(view, binding) else { return };
        out.flow(Table::Output, 100, copies.clone(), [go(Table::Deliver)]);
        out.flow(Table::Deliver, 100, copies, logical::output(&interface, Port(interface.ofport.into())));
        return;
    }
    let tunnel = view.related_one(Relation::TunnelTo, chassis.uuid());
    let tunnel = tunnel.and_then(|tunnel| view.row::<HostTunnel>(tunnel));
    let Some(ofport) = tunnel.and_then(|tunnel| logical::ofport(tunnel.ofport)) else { return };
    let copies = copies.with_bits(register::FROM_TUNNEL, 0u8);
    out.flow(
        Table::Output,
        100,
        copies,
        [Action::load(register::TUNNEL, ofport.into()), go(Table::TunnelOut)],
    );
}

/// What carries the frames of the port that copies are for.
fn target_interface(view: &View<'_>, binding: &PortBinding) -> Option<Interface> {
    let name = Atom::String(binding.mirror_port.clone()?);
    let (target, _) = view.find_one::<PortBinding>(By::LogicalPort, &[name])?;
    let target = SwitchPort::read(view, target).filter(|target| target.enabled(view))?;
    target.interface(view)
}

/// `Mirror.type` of those to a logical port.
const TO_PORT: &str = "lport";
/// Of what is mirrored whole; below those of rules.
const PRIORITY: u16 = 100;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::expect;
    use quantumnet_model::{Row, Strong, Weak, host::HostRule};

    use super::*;
    use crate::compile::{
        RowUpdate,
        testing::{Port, chassis, check_with, port_uuid, row, switch},
    };

    /// Port 1 is mirrored to port 3 by one mirror, whose port on the switch has the key 9 and is on that hypervisor.
    fn mirrored(filter: &str, on: u32, rules: &[(i64, &str, &str)]) -> Vec<RowUpdate> {
        let mut rows = Vec::new();
        let mut mirror = Mirror {
            name: "m".into(),
            r#type: "lport".into(),
            sink: "p3".into(),
            filter: filter.into(),
            ..Mirror::default()
        };
        for (number, (priority, text, action)) in (1..).zip(rules) {
            let rule = MirrorRule { priority: *priority, r#match: (*text).into(), action: (*action).into() };
            let rule = row(number, rule);
            mirror.mirror_rules.insert(Strong::new(rule.1));
            let number = HostRule { conjunction: i64::from(number) * 256 + 1 };
            rows.push((HostRule::TABLE, rule.1, Some(Arc::new(number) as _)));
            rows.push(rule);
        }
        let mirror = row(1, mirror);
        let port = LogicalSwitchPort {
            name: "p1".into(),
            mirror_rules: std::iter::once(Weak::new(mirror.1)).collect(),
            ..LogicalSwitchPort::default()
        };
        rows.push((LogicalSwitchPort::TABLE, port_uuid(1), Some(Arc::new(port))));
        rows.push(mirror);
        rows.push(row(
            900,
            PortBinding {
                logical_port: "mp-sw-p3".into(),
                r#type: "mirror".into(),
                datapath: switch().into(),
                tunnel_key: 9,
                mirror_port: Some("p3".into()),
                chassis: Some(chassis(on).into()),
                ..PortBinding::default()
            },
        ));
        rows
    }

    fn ports() -> [Port; 2] {
        let port = |number, addresses| Port { number, addresses, ..Port::default() };
        [port(1, &["0a:00:00:00:00:01 10.0.0.1"]), port(3, &["0a:00:00:00:00:03 10.0.0.3"])]
    }

    #[test]
    fn a_port_is_mirrored_whole() {
        check_with(
            &STAGE,
            &ports(),
            mirrored("both", 1, &[]),
            expect![[r#"
                MirrorFrom 100 reg14=0x1,metadata=0x7 => clone(load:0xffff->NXM_OF_IN_PORT[],load:0->NXM_NX_REG10[16],load:0->NXM_NX_REG10[17],load:0x9->NXM_NX_REG15[],resubmit(,32)),resubmit(,12)
                MirrorTo 100 reg15=0x1,metadata=0x7 => clone(load:0xffff->NXM_OF_IN_PORT[],load:0->NXM_NX_REG10[16],load:0->NXM_NX_REG10[17],load:0x9->NXM_NX_REG15[],resubmit(,32)),resubmit(,44)
            "#]],
        );
        check_with(
            &PASS,
            &ports(),
            mirrored("from-lport", 1, &[]),
            expect![[r#"
            AdmitNeighbour 1 metadata=0x7 => resubmit(,47)
            MirrorFrom 0 metadata=0x7 => resubmit(,12)
        "#]],
        );
    }

    #[test]
    fn rules_choose() {
        let rules =
            [(10, "ip4", "skip"), (20, "ip4.dst == {10.0.0.2, 10.0.0.3} && tcp.dst == {80, 443}", "mirror")];
        check_with(
            &STAGE,
            &ports(),
            mirrored("from-lport", 1, &rules),
            expect![[r#"
                MirrorFrom 100 reg14=0x1,metadata=0x7 => clone(load:0xffff->NXM_OF_IN_PORT[],load:0->NXM_NX_REG10[16],load:0->NXM_NX_REG10[17],load:0x9->NXM_NX_REG15[],resubmit(,32)),resubmit(,12)
                MirrorFrom 111 ip,reg14=0x1,metadata=0x7 => resubmit(,12)
                MirrorFrom 121 tcp,reg14=0x1,metadata=0x7,nw_dst=10.0.0.2/31,tp_dst=80 => clone(load:0xffff->NXM_OF_IN_PORT[],load:0->NXM_NX_REG10[16],load:0->NXM_NX_REG10[17],load:0x9->NXM_NX_REG15[],resubmit(,32)),resubmit(,12)
                MirrorFrom 121 tcp,reg14=0x1,metadata=0x7,nw_dst=10.0.0.2/31,tp_dst=443 => clone(load:0xffff->NXM_OF_IN_PORT[],load:0->NXM_NX_REG10[16],load:0->NXM_NX_REG10[17],load:0x9->NXM_NX_REG15[],resubmit(,32)),resubmit(,12)
            "#]],
        );
        let nobody = [(10, "inport == \"p3\"", "skip")];
        check_with(
            &STAGE,
            &ports(),
            mirrored("from-lport", 1, &nobody),
            expect![[r#"
                MirrorFrom 100 reg14=0x1,metadata=0x7 => clone(load:0xffff->NXM_OF_IN_PORT[],load:0->NXM_NX_REG10[16],load:0->NXM_NX_REG10[17],load:0x9->NXM_NX_REG15[],resubmit(,32)),resubmit(,12)
            "#]],
        );
    }

    #[test]
    fn copies_go_to_where_the_target_is() {
        check_with(
            &PORT,
            &ports(),
            mirrored("both", 1, &[]),
            expect![[r#"
            Output 100 reg15=0x9,metadata=0x7 => resubmit(,45)
            Deliver 100 reg15=0x9,metadata=0x7 => output:3
        "#]],
        );
        check_with(
            &PORT,
            &ports(),
            mirrored("both", 2, &[]),
            expect![[r#"
            Output 100 reg10=0/0x10000,reg15=0x9,metadata=0x7 => load:0x3ea->NXM_NX_REG9[0..15],resubmit(,33)
        "#]],
        );
    }
}
