//! The declared pipeline: its document, and the cost of paths.

mod common;

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use common::{Kind, Model, PortSpec, RouterPortSpec, flow_text, id, mac, options, plain, text, texts};
use quantumnet_dataplane::compile::{
    punt::PuntReason,
    register::{BITS, Place, ZONES},
    stage_of,
    table::{PATHS, Status, TABLES, Table},
};
use quantumnet_model::{
    Strong, Weak,
    host::{HostMeter, HostRouterZones, HostZone},
    nb::{
        Acl, LogicalRouter, LogicalRouterPolicy, LogicalRouterStaticRoute, LogicalSwitch, LogicalSwitchPort,
        Mirror, Nat, Qos,
    },
    sb::{MacBinding, PortBinding},
};

/// A network in which every built table has a flow.
fn example() -> Model {
    let mut model = Model::hypervisor(2);
    model.switch(7);
    model.dhcp(1, "10.0.0.0/24", "10.0.0.254");
    model.port(&PortSpec {
        security: vec![format!("{} 10.0.0.1 fd00::1", mac(1))],
        dhcp: Some(1),
        ..plain(1, 7, 1)
    });
    model.port(&PortSpec { addresses: vec!["unknown".into()], ..plain(2, 7, 1) });
    model.port(&plain(3, 7, 2));
    model.fdb(1, 7, 2, "0a:44:00:00:00:01");
    model.switch(8);
    model.port(&plain(4, 8, 1));
    for (number, step) in (0..).zip([("from-lport", 0), ("from-lport", 1), ("to-lport", 0)]) {
        let (direction, option) = step;
        let after = [("apply-after-lb", "true")];
        let acl = Acl {
            priority: 1_000,
            direction: text(direction),
            r#match: text("ip4.src == {10.0.0.1, 10.0.0.2} && tcp.dst == {80, 443}"),
            action: text("allow-related"),
            options: options(&after[..option]),
            ..Acl::default()
        };
        model.put(id(Kind::Acl, number), acl);
    }
    model.put(id(Kind::Port, 4), HostZone { zone: 1 });
    let acls = (0..3).map(|number| Strong::new(id(Kind::Acl, number))).collect();
    model.put(id(Kind::Switch, 8), LogicalSwitch { acls, ..LogicalSwitch::default() });
    model.router(9);
    for (number, switch) in [(1, 7), (2, 8)] {
        let networks = vec![format!("10.{number}.0.254/24"), format!("fd0{number}::fe/64")];
        model.router_port(&RouterPortSpec {
            number,
            router: 9,
            networks,
            switch: Some(switch),
            // The second one takes no jumbo frames.
            options: (number == 2).then(|| ("gateway_mtu".into(), "1400".into())).into_iter().collect(),
            ..RouterPortSpec::default()
        });
    }
    let route = |prefix: &str, next_hop: &str| LogicalRouterStaticRoute {
        ip_prefix: text(prefix),
        nexthop: text(next_hop),
        ..LogicalRouterStaticRoute::default()
    };
    model.route(1, 9, route("0.0.0.0/0", "10.1.0.9"));
    model.route(2, 9, route("192.0.2.0/24", "10.1.0.9"));
    model.route(3, 9, route("192.0.2.0/24", "10.2.0.9"));
    model.number_groups();
    let policy = LogicalRouterPolicy {
        priority: 100,
        r#match: text("ip4.src == 10.1.0.0/24 && ip4.dst == 198.51.100.0/24"),
        action: text("reroute"),
        nexthops: texts(["10.2.0.9"]),
        ..LogicalRouterPolicy::default()
    };
    model.policy(1, 9, policy);
    let neighbour = MacBinding {
        logical_port: text("r1"),
        ip: text("10.1.0.9"),
        mac: text("0a:44:00:00:00:09"),
        timestamp: 0,
        datapath: id(Kind::Switch, 9).into(),
    };
    model.put(id(Kind::Neighbour, 1), neighbour);
    model.switch(10);
    model.port(&plain(5, 10, 1));
    for (number, direction) in (0..).zip(["from-lport", "to-lport"]) {
        let qos = Qos {
            priority: 100,
            direction: text(direction),
            r#match: text("ip4"),
            action: std::iter::once((text("dscp"), 46)).collect(),
            bandwidth: std::iter::once((text("rate"), 10_000)).collect(),
            ..Qos::default()
        };
        model.put(id(Kind::Qos, number), qos);
        model.put(id(Kind::Qos, number), HostMeter { number: 32_768 - i64::from(number) });
    }
    let qos_rules = (0..2).map(|number| Strong::new(id(Kind::Qos, number))).collect();
    model.put(id(Kind::Switch, 10), LogicalSwitch { qos_rules, ..LogicalSwitch::default() });
    let mirror = Mirror {
        name: text("mirror"),
        r#type: text("lport"),
        filter: text("both"),
        sink: text("p4"),
        ..Mirror::default()
    };
    model.put(id(Kind::Mirror, 1), mirror);
    let mut mirrored = model.rows.get::<LogicalSwitchPort>(id(Kind::Port, 5)).cloned().unwrap_or_default();
    mirrored.mirror_rules.insert(Weak::new(id(Kind::Mirror, 1)));
    model.put(id(Kind::Port, 5), mirrored);
    let to_target = PortBinding {
        logical_port: text("mp-sw10-p4"),
        r#type: text("mirror"),
        datapath: id(Kind::Switch, 10).into(),
        tunnel_key: 6,
        mirror_port: Some(text("p4")),
        chassis: Some(id(Kind::Chassis, 1).into()),
        ..PortBinding::default()
    };
    model.put(id(Kind::MirrorPort, 1), to_target);
    model.switch(11);
    model.router(12);
    for (number, switch, networks) in
        [(3, 10, ["10.3.0.254/24", "fd03::fe/64"]), (4, 11, ["172.16.0.254/24", "fd16::fe/64"])]
    {
        model.router_port(&RouterPortSpec {
            number,
            router: 12,
            networks: networks.map(str::to_owned).to_vec(),
            switch: Some(switch),
            ..RouterPortSpec::default()
        });
    }
    model.gateway(4, 12);
    let rules = [("snat", "172.16.0.1", "10.3.0.0/24"), ("dnat_and_snat", "172.16.0.50", "10.3.0.5")];
    let mut translating = LogicalRouter::default();
    for (number, (kind, external, logical)) in (0..).zip(rules) {
        let rule = Nat {
            r#type: text(kind),
            external_ip: text(external),
            logical_ip: text(logical),
            ..Nat::default()
        };
        model.put(id(Kind::Nat, number), rule);
        translating.nat.insert(Strong::new(id(Kind::Nat, number)));
    }
    model.put(id(Kind::Switch, 12), translating);
    model.put(id(Kind::Switch, 12), HostRouterZones { dnat: 11, snat: 12 });
    model.number_conjunctions(Some(1));
    model
}

fn document() -> String {
    let status = |status: Status| if status == Status::Built { "" } else { "planned" };
    let mut text = String::from(
        "# The pipeline\n\n\
        Generated from `dataplane/src/compile/table.rs`, `register.rs` and `punt.rs` by `dataplane/tests/pipeline.rs`\n\
        (`UPDATE=1 cargo test -p quantumnet-dataplane --test pipeline`). Do not edit.\n\n\
        A packet that matches no flow of a table is dropped, in every table.\n\n",
    );
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("strings do not fail");
    line(format_args!(
        "## Tables\n\n| table | name | what it decides | without match | |\n|---|---|---|---|---|"
    ));
    for table in TABLES {
        line(format_args!(
            "| {} | {} | {} | {} | {} |",
            table.table.number(),
            table.name,
            table.purpose,
            table.miss,
            status(table.status)
        ));
    }
    line(format_args!(
        "\n## Paths\n\nPasses are entries into the datapath of a packet of an established connection.\n"
    ));
    line(format_args!("| packet | tables | passes | through | |\n|---|---|---|---|---|"));
    for path in PATHS {
        let tables: Vec<&str> = path.tables.iter().map(|table| table.decl().name).collect();
        line(format_args!(
            "| {} | {} | {} | {} | {} |",
            path.name,
            tables.len(),
            path.passes,
            tables.join(", "),
            status(path.status)
        ));
    }
    line(format_args!(
        "\n## Metadata, registers and connection marks\n\n| where | bits | name | written by | read by | |\n|---|---|---|---|---|---|"
    ));
    for bits in BITS {
        let place = match bits.place {
            Place::Metadata => "metadata".to_owned(),
            Place::Reg(number) => format!("reg{number}"),
            Place::CtMark => "ct_mark".to_owned(),
        };
        let range = format!("{}..{}", bits.offset, bits.offset + bits.bits - 1);
        line(format_args!(
            "| {place} | {range} | {} | {} | {} | {} |",
            bits.name,
            bits.writer,
            bits.reader,
            status(bits.status)
        ));
    }
    line(format_args!("\n## Connection tracking zones\n\n| zone | given to | |\n|---|---|---|"));
    for (name, purpose, built) in ZONES {
        line(format_args!("| {name} | {purpose} | {} |", status(*built)));
    }
    line(format_args!(
        "\n## Packets for the agent\n\n| reason | number | packets a second and port | at once |\n|---|---|---|---|"
    ));
    for reason in PuntReason::ALL {
        line(format_args!(
            "| {reason:?} | {} | {} | {} |",
            *reason as u8,
            reason.rate().rate,
            reason.rate().burst
        ));
    }
    line(format_args!(
        "\n## Examples\n\nPort 1 (port security, DHCP) and port 2 (unknown addresses) are here, port 3 is on another hypervisor. Port 4 is here on \
        a switch with three stateful ACLs, one of each round. Router 9 joins the two switches. \
        Port 5 is here on a switch with two QoS rules and is mirrored to port 4. Router 12 is between that switch and the outside: \
        its gateway port, which is here, translates sources and a floating IP.\n"
    ));
    let mut flows: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    for (key, value) in example().compiled().table() {
        let stage = stage_of(value.cookie).0.map_or("nobody", |stage| stage.name);
        flows.entry(key.table).or_default().push(format!("# {stage}\n{}", flow_text(&key, &value)));
    }
    for (number, flows) in flows {
        let name = Table::from_number(number).map_or("?", |table| table.decl().name);
        line(format_args!("### {number} {name}\n\n```\n{}\n```\n", flows.join("\n")));
    }
    text
}

#[test]
fn the_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pipeline.md");
    let text = document();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).expect("the document can be written");
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "docs/pipeline.md differs from the declarations: run with UPDATE=1 and read the difference"
    );
}

#[test]
fn paths_keep_their_budgets() {
    let cost = |name: &str| {
        let path = PATHS.iter().find(|path| path.name == name).expect("a declared path");
        (path.tables.len(), path.passes)
    };
    let at_most = |name, tables, passes| {
        let (got, entered) = cost(name);
        assert!(got <= tables && entered <= passes, "{name}: {got} tables, {entered} passes");
    };
    at_most("switched, one hypervisor", 8, 1);
    at_most("switched, sender", 8, 1);
    // Passes are OVN's for now: 3 on one hypervisor.
    at_most("filtered, one hypervisor", 14, 3);
    at_most("filtered, receiver", 8, 2);
    at_most("load balancer of a switch", 14, 2);
    at_most("routed, one hypervisor", 40, 1);
    at_most("source translation, at the gateway", 20, 2);
    at_most("from a floating IP, at the port's hypervisor", 20, 2);
    at_most("to a floating IP, at the port's hypervisor", 20, 2);
    for path in PATHS.iter().filter(|path| path.status == Status::Built) {
        assert!(
            path.tables.iter().all(|table| table.decl().status == Status::Built),
            "{} uses a planned table",
            path.name
        );
    }
}

#[test]
fn built_tables_have_flows_and_planned_ones_none() {
    let table = example().compiled().table();
    for decl in TABLES {
        let filled = table.keys().any(|key| key.table == decl.table.number());
        assert_eq!(filled, decl.status == Status::Built, "{}", decl.name);
    }
}

#[test]
fn cookies_lead_back() {
    for (key, value) in example().compiled().table() {
        let (stage, _) = stage_of(value.cookie);
        let stage = stage.unwrap_or_else(|| panic!("{key:?} has a cookie of nobody"));
        assert!(stage.tables.iter().any(|table| table.number() == key.table), "{} made {key:?}", stage.name);
    }
    assert!(stage_of(0).0.is_none());
}
