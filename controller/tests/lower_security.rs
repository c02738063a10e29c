//! Security groups and policies as port groups and ACLs: what they become, that histories don't matter, and what a
//! change costs.

#![allow(clippy::unwrap_used)] // in helpers of tests too: a panic is the test's failure

use std::{cell::RefCell, collections::BTreeMap};

use imbl::{OrdMap, OrdSet};
use proptest::prelude::*;
use quantumnet_controller::{
    lower::{self, address, owner},
    store::{Class, Context, Refusal, State, Txn, evaluate},
};
use quantumnet_model::{
    Row, Strong, Uuid,
    column::Text,
    intent::{
        Lookup, Port, Project, SecurityGroup, SecurityGroupRule, SecurityPolicy, SecurityPolicyRule,
        SelectorGroup, VirtualNetwork,
    },
    nb::{Acl, PortGroup},
    sb,
};

const SYSTEM: Uuid = Uuid::from_u128(1);

fn id(kind: u128, number: u8) -> Uuid {
    Uuid::from_u128((kind << 64) | u128::from(number))
}

fn project(number: u8) -> Uuid {
    id(2, number)
}

fn network(number: u8) -> Uuid {
    id(3, number)
}

fn port(number: u8) -> Uuid {
    id(4, number)
}

fn group(number: u8) -> Uuid {
    id(5, number)
}

fn policy(number: u8) -> Uuid {
    id(6, number)
}

fn transact(
    head: &State,
    request: impl FnOnce(&mut Txn<'_>) -> Result<(), Refusal>,
) -> Result<(State, u64), Refusal> {
    let work = RefCell::new(0);
    let counted = |txn: &mut Txn<'_>| {
        *work.borrow_mut() = lower::run_counted(txn)?.rows;
        Ok(())
    };
    let context = Context { now_ms: 0, principal: "test".into() };
    let done = evaluate(head, &context, request, &counted)?;
    Ok((done.state, work.into_inner()))
}

fn done(head: &State, request: impl FnOnce(&mut Txn<'_>)) -> (State, u64) {
    transact(head, |txn| {
        request(txn);
        Ok(())
    })
    .unwrap()
}

/// Two projects with a network each, of even and odd numbers.
fn begin() -> State {
    let (state, _) = done(&State::default(), |txn| {
        txn.put(SYSTEM, Project { name: "system".into(), ..Project::default() });
        (0..2).for_each(|number| make_project(txn, number));
    });
    state
}

fn make_project(txn: &mut Txn<'_>, number: u8) {
    txn.put(project(number), Project { name: format!("p{number}").into(), ..Project::default() });
    let row = VirtualNetwork {
        project: Strong::new(project(number)),
        name: "net".into(),
        r#type: "overlay".into(),
        ..VirtualNetwork::default()
    };
    txn.put(network(number), row);
}

fn make_port(txn: &mut Txn<'_>, number: u8, labels: &[(&str, &str)]) {
    let project = number % 2;
    let mac = address::claim_next_mac(txn, network(project), port(number)).unwrap();
    let row = Port {
        project: Strong::new(self::project(project)),
        name: format!("port{number}").into(),
        network: Strong::new(network(project)),
        mac: mac.to_string().into(),
        labels: pairs(labels),
        ..Port::default()
    };
    txn.put(port(number), row);
}

fn pairs(labels: &[(&str, &str)]) -> OrdMap<Text, Text> {
    labels.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect()
}

fn make_policy(
    txn: &mut Txn<'_>,
    number: u8,
    of: Uuid,
    rules: &[(&str, &str)],
    change: impl FnOnce(&mut SecurityPolicy),
) {
    let mut set = OrdSet::new();
    for (position, (traffic, action)) in (0..).zip(rules) {
        let uuid = Uuid::new_v5(&policy(number), format!("{position} {traffic} {action}").as_bytes());
        let row = SecurityPolicyRule {
            position,
            traffic: (*traffic).into(),
            action: (*action).into(),
            ..SecurityPolicyRule::default()
        };
        txn.put(uuid, row);
        set.insert(Strong::new(uuid));
    }
    let mut row = SecurityPolicy {
        project: Strong::new(of),
        name: format!("policy{number}").into(),
        rules: set,
        ..SecurityPolicy::default()
    };
    change(&mut row);
    txn.put(policy(number), row);
}

fn rule(txn: &mut Txn<'_>, of: u8, change: impl FnOnce(&mut SecurityGroupRule)) -> Strong<SecurityGroupRule> {
    let mut row = SecurityGroupRule::default();
    change(&mut row);
    let uuid = Uuid::new_v5(&group(of), format!("{row:?}").as_bytes());
    txn.put(uuid, row);
    Strong::new(uuid)
}

fn make_group(
    txn: &mut Txn<'_>,
    number: u8,
    rules: OrdSet<Strong<SecurityGroupRule>>,
    change: impl FnOnce(&mut SecurityGroup),
) {
    let mut row = SecurityGroup {
        project: Strong::new(project(number % 2)),
        name: format!("group{number}").into(),
        rules,
        ..SecurityGroup::default()
    };
    change(&mut row);
    txn.put(group(number), row);
}

/// As the service does.
fn delete_group(txn: &mut Txn<'_>, number: u8) {
    let rules = txn.get::<SecurityGroup>(group(number)).map(|row| row.rules.clone()).unwrap_or_default();
    txn.delete::<SecurityGroup>(group(number));
    rules.iter().for_each(|rule| _ = txn.delete::<SecurityGroupRule>(rule.uuid()));
}

/// ACLs of a state as people read them, with groups by what they are of.
fn acls(state: &State) -> Vec<String> {
    let named = |text: &str| {
        let mut text = text.to_owned();
        for (uuid, row) in state.iter::<PortGroup>() {
            let what = match (state.get::<SelectorGroup>(uuid), state.get::<SecurityGroup>(uuid)) {
                (Some(selector), _) => format!("[{}]", selector.selector),
                (_, Some(group)) => format!("<{}>", group.name),
                _ => continue,
            };
            text = text.replace(&*row.name, &what);
        }
        text
    };
    let mut lines: Vec<(i64, &str, i64, String)> = Vec::new();
    for (_, acl) in state.iter::<Acl>() {
        let staged = acl
            .external_ids
            .get("quantumnet:staged")
            .map(|action| format!(" ({action})"))
            .unwrap_or_default();
        let kept = if acl.options.is_empty() { "" } else { " persist" };
        let rest = format!(
            "{} {}{staged}{kept} {}",
            acl.name.as_deref().unwrap_or(""),
            acl.action,
            named(&acl.r#match)
        );
        lines.push((acl.tier, if &*acl.direction == "to-lport" { "in" } else { "out" }, -acl.priority, rest));
    }
    lines.sort_unstable();
    lines
        .into_iter()
        .map(|(tier, way, priority, rest)| format!("{tier} {way} {} {rest}", -priority))
        .collect()
}

fn members(state: &State, selector: &str) -> Vec<Text> {
    let (group, _) = state.iter::<SelectorGroup>().find(|(_, row)| &*row.selector == selector).unwrap();
    let ports = state.get::<PortGroup>(group).unwrap().ports.iter();
    ports.map(|port| state.get::<Port>(port.uuid()).unwrap().name.clone()).collect()
}

const NEIGHBOURS: &str = "icmp6.type == {130, 131, 132, 133, 134, 135, 136, 143}";

#[test]
fn a_group_is_its_rules_and_its_defaults() {
    let (state, _) = done(&begin(), |txn| {
        let ssh = rule(txn, 0, |row| {
            row.name = "ssh".into();
            row.protocol = "tcp".into();
            row.ports = "22".into();
            row.remote_prefix = "10.0.0.0/8".into();
            row.persist_established = true;
        });
        let peers = rule(txn, 0, |row| {
            row.position = 1;
            row.remote_group = Some(Strong::new(group(0)));
        });
        let no_smtp = rule(txn, 0, |row| {
            row.position = 2;
            row.direction = "egress".into();
            row.action = "reject".into();
            row.protocol = "tcp".into();
            row.ports = "25,465".into();
            row.priority = 2_000;
        });
        make_group(txn, 0, [ssh, peers, no_smtp].into_iter().collect(), |_| {});
    });
    assert_eq!(
        acls(&state),
        [
            "3 in 22000 group0/rules[1] allow-related outport == @<group0> && (ip4.src == $<group0>_ip4 || ip6.src == $<group0>_ip6)",
            "3 in 22000 group0/ssh allow-related persist outport == @<group0> && ip4.src == 10.0.0.0/8 && tcp.dst == 22",
            &format!("3 in 3 group0/default-ingress allow outport == @<group0> && {NEIGHBOURS}"),
            "3 in 2 group0/default-ingress drop outport == @<group0> && ip",
            "3 out 24001 group0/rules[2] reject inport == @<group0> && (tcp.dst == 25 || tcp.dst == 465)",
            "3 out 1 group0/default-egress allow-related inport == @<group0> && ip",
        ]
    );
    let (state, _) = done(&state, |txn| delete_group(txn, 0));
    assert_eq!((acls(&state).len(), state.iter::<PortGroup>().count()), (0, 0), "it named itself, and goes");
    assert_eq!(state.iter::<SecurityGroupRule>().count(), 0);
}

#[test]
fn a_policy_holds_at_both_ends_and_isolates_its_destinations() {
    let (state, _) = done(&begin(), |txn| {
        make_port(txn, 0, &[("role", "web")]);
        make_port(txn, 2, &[("role", "db")]);
        make_policy(
            txn,
            0,
            project(0),
            &[("role=web -> role=db : 5432", ""), ("role=db -> * : tcp", "drop")],
            |_| {},
        );
    });
    assert_eq!(
        acls(&state),
        [
            "2 in 199 policy0/rules[0] allow-related outport == @[role=db] && (ip4.src == $[role=web]_ip4 || ip6.src == $[role=web]_ip6) && tcp.dst == 5432",
            "2 out 199 policy0/rules[0] allow-related inport == @[role=web] && (ip4.dst == $[role=db]_ip4 || ip6.dst == $[role=db]_ip6) && tcp.dst == 5432",
            "2 out 198 policy0/rules[1] drop inport == @[role=db] && tcp",
            &format!("3 in 3 policy0/isolate allow outport == @[role=db] && {NEIGHBOURS}"),
            "3 in 2 policy0/isolate drop outport == @[role=db] && ip",
        ]
    );
    assert_eq!(members(&state, "role=web"), ["port0".into()]);
}

#[test]
fn a_staged_policy_only_passes() {
    let (state, _) = done(&begin(), |txn| {
        make_policy(txn, 0, project(0), &[("role=web -> role=db", ""), ("* -> * : 23", "reject")], |row| {
            row.staged = true;
            row.priority = 7;
        });
    });
    let acls = acls(&state);
    assert_eq!(
        acls,
        [
            "0 in 10999 policy0/rules[0] pass (allow-related) outport == @[role=db] && (ip4.src == $[role=web]_ip4 || ip6.src == $[role=web]_ip6)",
            "0 in 10998 policy0/rules[1] pass (reject) outport == @[*] && tcp.dst == 23",
            "0 in 3 policy0/isolate allow-related 0",
            &format!("0 in 3 policy0/isolate pass (allow) outport == @[role=db] && {NEIGHBOURS}"),
            "0 in 2 policy0/isolate pass (drop) outport == @[role=db] && ip",
            "0 out 10999 policy0/rules[0] pass (allow-related) inport == @[role=web] && (ip4.dst == $[role=db]_ip4 || ip6.dst == $[role=db]_ip6)",
            "0 out 10998 policy0/rules[1] pass (reject) inport == @[*] && tcp.dst == 23",
        ]
    );
    let (state, _) =
        done(&state, |txn| _ = txn.update::<SecurityPolicy>(policy(0), |row| row.staged = false));
    assert!(self::acls(&state).iter().all(|acl| !acl.starts_with('0') && !acl.contains("pass")));
}

#[test]
fn a_policy_of_the_platform_is_for_each_project_by_itself() {
    let (state, _) = done(&begin(), |txn| {
        make_port(txn, 0, &[("role", "web")]);
        make_port(txn, 1, &[("role", "web")]);
        make_policy(txn, 0, SYSTEM, &[("not role=web -> role=web : 22", "drop")], |row| row.priority = 100);
    });
    let acls = acls(&state);
    assert_eq!(acls.len(), 2, "{acls:?}");
    assert!(
        acls.iter().all(|acl| acl.starts_with("1 in 10199 policy0/rules[0] drop outport == @[role=web] && "))
    );
    assert_eq!(state.iter::<SelectorGroup>().count(), 4);
    assert!(state.iter::<PortGroup>().all(|(_, group)| group.ports.len() <= 1));
    // A project that comes later has it at once, and takes it with it.
    let (state, _) = done(&state, |txn| make_project(txn, 2));
    assert_eq!(state.iter::<Acl>().count(), 3);
    let (state, _) = done(&state, |txn| {
        txn.delete::<VirtualNetwork>(network(2));
        txn.delete::<Project>(project(2));
    });
    assert_eq!((state.iter::<Acl>().count(), state.iter::<SelectorGroup>().count()), (2, 4));
}

#[test]
fn ports_without_groups_are_in_their_networks_default() {
    let (state, _) = done(&begin(), |txn| {
        make_group(txn, 0, OrdSet::new(), |_| {});
        make_group(txn, 2, OrdSet::new(), |_| {});
        (0..6).step_by(2).for_each(|number| make_port(txn, number, &[]));
        txn.update::<Port>(port(2), |row| row.security_groups = OrdSet::unit(Strong::new(group(2))));
        txn.update::<Port>(port(4), |row| row.no_security_groups = true);
    });
    let members = |state: &State, number: u8| {
        let ports = &state.get::<PortGroup>(group(number)).unwrap().ports;
        ports.iter().map(|port| port.uuid()).collect::<Vec<_>>()
    };
    assert_eq!((members(&state, 0), members(&state, 2)), (vec![], vec![port(2)]));
    let default = |group: Option<u8>| {
        move |txn: &mut Txn<'_>| {
            let group = group.map(|number| Strong::new(self::group(number)));
            txn.update::<VirtualNetwork>(network(0), |row| row.default_security_group = group);
        }
    };
    let (state, _) = done(&state, default(Some(0)));
    assert_eq!((members(&state, 0), members(&state, 2)), (vec![port(0)], vec![port(2)]));
    let (state, _) = done(&state, default(Some(2)));
    assert_eq!((members(&state, 0), members(&state, 2)), (vec![], vec![port(0), port(2)]));
    let refused = transact(&state, |txn| {
        txn.delete::<SecurityGroup>(group(2));
        Ok(())
    });
    assert!(refused.is_err(), "a network and a port name it");
}

#[test]
fn rows_of_groups_and_policies_belong_to_them() {
    let (state, _) = done(&begin(), |txn| {
        make_group(txn, 0, OrdSet::new(), |_| {});
        make_policy(txn, 0, project(0), &[("* -> role=db", "")], |_| {});
    });
    let groups: Vec<Uuid> = state.iter::<PortGroup>().map(|(uuid, _)| uuid).collect();
    let acls: Vec<Uuid> = state.iter::<Acl>().map(|(uuid, _)| uuid).collect();
    let refused = |request: &dyn Fn(&mut Txn<'_>)| {
        let request = |txn: &mut Txn<'_>| {
            request(txn);
            owner::refuse_owned(txn)
        };
        let refusal = transact(&state, request).unwrap_err();
        assert_eq!(refusal.class(), Class::FailedPrecondition);
        refusal.to_string()
    };
    for (uuid, row) in state.iter::<PortGroup>() {
        let error = refused(&|txn| _ = txn.update::<PortGroup>(uuid, |row| row.acls = OrdSet::new()));
        let owner = if row.name.starts_with("sg_") {
            "Security_Group group0 ("
        } else {
            "Security_Policy policy0, which selects role=db"
        };
        assert!(error.contains(owner), "{error}");
    }
    for acl in acls {
        for request in [&(|txn: &mut Txn<'_>| _ = txn.delete::<Acl>(acl)) as &dyn Fn(&mut Txn<'_>), &|txn| {
            _ = txn.update::<Acl>(acl, |row| row.priority += 1)
        }] {
            let error = refused(request);
            assert!(
                error.contains("Security_Group group0 (") || error.contains("Security_Policy policy0 ("),
                "{error}"
            );
        }
        let ids = &state.get::<Acl>(acl).unwrap().external_ids;
        for key in ["owner", "name", "project", "id", "rule"] {
            assert!(ids.contains_key(format!("quantumnet:{key}").as_str()), "{key} of {ids:?}");
        }
    }
    assert_eq!(groups.len(), 2);
}

/// Counters, not time: a label that moves writes the groups that it changes, however many others and ports there are.
#[test]
fn a_label_that_moves_costs_the_groups_that_it_changes() {
    let cost = |others: u8| {
        let (state, _) = done(&begin(), |txn| {
            (0..40 + others).step_by(2).for_each(|number| make_port(txn, number, &[("role", "other")]));
            txn.update::<Port>(port(0), |row| row.labels = pairs(&[("role", "db")]));
            make_policy(
                txn,
                0,
                project(0),
                &[("role=web -> role=db : 5432", ""), ("role!=db -> role in (db, cache)", "")],
                |_| {},
            );
            for number in 1..=others {
                let traffic = format!("role=app{number} -> zone=z{number}");
                make_policy(txn, number, project(0), &[(&traffic, "")], |_| {});
            }
        });
        let (after, work) = done(&state, |txn| {
            txn.update::<Port>(port(0), |row| row.labels = pairs(&[("role", "other")]));
            txn.update::<Port>(port(2), |row| row.labels = pairs(&[("role", "db")]));
        });
        assert_eq!(members(&after, "role=db"), ["port2".into()]);
        assert!(!members(&after, "not role=db").contains(&"port2".into()));
        let changed = state
            .iter::<PortGroup>()
            .filter(|(uuid, row)| after.get::<PortGroup>(*uuid) != Some(row))
            .count();
        assert_eq!(changed, 3);
        assert_eq!(state.iter::<Acl>().collect::<Vec<_>>(), after.iter::<Acl>().collect::<Vec<_>>());
        work
    };
    assert_eq!(cost(2), cost(100));
}

#[derive(Clone, Debug)]
enum Step {
    MakePort {
        port: u8,
        labels: Vec<(&'static str, &'static str)>,
    },
    Relabel {
        port: u8,
        vm: bool,
        labels: Vec<(&'static str, &'static str)>,
    },
    Regroup {
        port: u8,
        groups: Vec<u8>,
        none: bool,
    },
    DeletePort {
        port: u8,
    },
    MakeGroup {
        group: u8,
        rules: Vec<(bool, u8, Option<u8>)>,
        ingress: &'static str,
        egress: &'static str,
    },
    DeleteGroup {
        group: u8,
    },
    Default {
        network: u8,
        group: Option<u8>,
    },
    MakePolicy {
        policy: u8,
        project: u8,
        rules: Vec<(&'static str, &'static str)>,
        order: u8,
        staged: bool,
        isolate: &'static str,
    },
    DeletePolicy {
        policy: u8,
    },
    MakeProject,
    DeleteProject,
}

fn labels() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let label = (prop_oneof![Just("role"), Just("env")], prop_oneof![Just("web"), Just("db"), Just("x")]);
    prop::collection::vec(label, 0..3)
}

fn step() -> impl Strategy<Value = Step> {
    let action = prop_oneof![Just(""), Just("allow"), Just("drop"), Just("reject")];
    let traffic = prop_oneof![
        Just("role=web -> role=db : 5432"),
        Just("role!=web -> role=db"),
        Just("env and not role in (db, x) -> * : udp/53"),
        Just("* -> env=web : icmp"),
        Just("10.0.0.0/8 -> *"),
        Just("* -> *"),
        Just("vm=vm1 -> role : 1-9"),
    ];
    let rules = prop::collection::vec((traffic, action.clone()), 0..4);
    let group_rules = prop::collection::vec((any::<bool>(), 0..3_u8, prop::option::of(0..4_u8)), 0..3);
    prop_oneof![
        4 => (0..8_u8, labels()).prop_map(|(port, labels)| Step::MakePort { port, labels }),
        4 => (0..8_u8, any::<bool>(), labels()).prop_map(|(port, vm, labels)| Step::Relabel { port, vm, labels }),
        3 => (0..8_u8, prop::collection::vec(0..4_u8, 0..3), any::<bool>())
            .prop_map(|(port, groups, none)| Step::Regroup { port, groups, none }),
        2 => (0..8_u8).prop_map(|port| Step::DeletePort { port }),
        3 => (0..4_u8, group_rules, action.clone(), action)
            .prop_map(|(group, rules, ingress, egress)| Step::MakeGroup { group, rules, ingress, egress }),
        1 => (0..4_u8).prop_map(|group| Step::DeleteGroup { group }),
        2 => (0..2_u8, prop::option::of(0..4_u8)).prop_map(|(network, group)| Step::Default { network, group }),
        4 => (0..4_u8, 0..3_u8, rules, 0..2_u8, any::<bool>(), prop_oneof![Just(""), Just("nothing"), Just("both")])
            .prop_map(|(policy, project, rules, order, staged, isolate)| Step::MakePolicy { policy, project, rules, order, staged, isolate }),
        1 => (0..4_u8).prop_map(|policy| Step::DeletePolicy { policy }),
        1 => Just(Step::MakeProject),
        1 => Just(Step::DeleteProject),
    ]
}

fn run_step(txn: &mut Txn<'_>, step: &Step) {
    match step {
        Step::MakePort { port, labels } => make_port(txn, *port, labels),
        Step::Relabel { port, vm, labels } => {
            let change = |row: &mut Port| {
                if *vm {
                    (row.vm, row.vm_labels) = (format!("vm{port}").into(), pairs(labels));
                } else {
                    row.labels = pairs(labels);
                }
            };
            txn.update(self::port(*port), change);
        }
        Step::Regroup { port, groups, none } => {
            let known =
                |number: &&u8| txn.get::<SecurityGroup>(group(**number)).is_some() && *number % 2 == port % 2;
            let groups: OrdSet<Strong<SecurityGroup>> =
                groups.iter().filter(known).map(|number| Strong::new(group(*number))).collect();
            let change = |row: &mut Port| {
                row.no_security_groups = *none && groups.is_empty();
                row.security_groups = groups;
            };
            txn.update(self::port(*port), change);
        }
        Step::DeletePort { port } => _ = txn.delete::<Port>(self::port(*port)),
        Step::MakeGroup { group, rules, ingress, egress } => {
            let rules = rules.iter().map(|(egress, what, remote)| {
                rule(txn, *group, |row| {
                    row.direction = if *egress { "egress" } else { "" }.into();
                    row.protocol = ["", "tcp", "icmp"][usize::from(*what)].into();
                    row.ports = ["", "22,80-89", ""][usize::from(*what)].into();
                    row.remote_group = remote
                        .filter(|remote| remote % 2 == group % 2)
                        .map(|remote| Strong::new(self::group(remote)));
                })
            });
            let rules = rules.collect::<Vec<_>>().into_iter().collect();
            make_group(txn, *group, rules, |row| {
                (row.default_ingress, row.default_egress) = ((*ingress).into(), (*egress).into());
            });
        }
        Step::DeleteGroup { group } => delete_group(txn, *group),
        Step::Default { network, group } => {
            let group = group.filter(|group| txn.get::<SecurityGroup>(self::group(*group)).is_some());
            let default = group.map(|group| Strong::new(self::group(group)));
            txn.update::<VirtualNetwork>(self::network(*network), |row| row.default_security_group = default);
        }
        Step::MakePolicy { policy, project, rules, order, staged, isolate } => {
            let of = if *project == 2 { SYSTEM } else { self::project(*project) };
            make_policy(txn, *policy, of, rules, |row| {
                row.order = ["", "default"][usize::from(*order)].into();
                (row.staged, row.isolate) = (*staged, (*isolate).into());
            });
        }
        Step::DeletePolicy { policy } => _ = txn.delete::<SecurityPolicy>(self::policy(*policy)),
        Step::MakeProject => make_project(txn, 2),
        Step::DeleteProject => {
            txn.delete::<VirtualNetwork>(network(2));
            txn.delete::<Project>(project(2));
        }
    }
}

fn from_nothing(state: &State) -> State {
    let inputs = [
        Project::TABLE,
        VirtualNetwork::TABLE,
        Port::TABLE,
        SecurityGroup::TABLE,
        SecurityGroupRule::TABLE,
        SecurityPolicy::TABLE,
        SecurityPolicyRule::TABLE,
    ];
    let (state, _) = done(&State::default(), |txn| {
        for table in inputs {
            for (uuid, row) in state.rows().table(table) {
                txn.put_dyn(*uuid, row.clone());
            }
        }
    });
    state
}

fn rows<T: Row>(state: &State) -> BTreeMap<Uuid, T> {
    state.iter::<T>().map(|(uuid, row)| (uuid, row.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn lowering_what_changed_equals_lowering_everything(steps in prop::collection::vec(step(), 1..30)) {
        let mut state = begin();
        for step in &steps {
            let request = |txn: &mut Txn<'_>| {
                run_step(txn, step);
                Ok(())
            };
            if let Ok((next, _)) = transact(&state, request) {
                state = next;
            }
            prop_assert!(state.check());
            let fresh = from_nothing(&state);
            prop_assert_eq!(rows::<PortGroup>(&state), rows::<PortGroup>(&fresh));
            prop_assert_eq!(rows::<Acl>(&state), rows::<Acl>(&fresh));
            prop_assert_eq!(rows::<SelectorGroup>(&state), rows::<SelectorGroup>(&fresh));
            prop_assert_eq!(rows::<sb::AddressSet>(&state), rows::<sb::AddressSet>(&fresh));
        }
        let (emptied, _) = done(&state, |txn| {
            for table in [Port::TABLE, VirtualNetwork::TABLE, SecurityPolicy::TABLE, SecurityGroup::TABLE, SecurityGroupRule::TABLE] {
                let uuids: Vec<Uuid> = txn.rows().table(table).keys().copied().collect();
                uuids.into_iter().for_each(|uuid| _ = txn.delete_dyn(table, uuid));
            }
        });
        for table in [PortGroup::TABLE, Acl::TABLE, SelectorGroup::TABLE, SecurityGroupRule::TABLE, SecurityPolicyRule::TABLE, Lookup::TABLE] {
            prop_assert_eq!(emptied.rows().len(table), 0, "{:?}", table);
        }
    }
}
