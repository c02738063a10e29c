//! `ovn-sbctl` of an installed OVN against us and against a real ovsdb-server with ovn-northd: the same script, line by
//! line, must exit and print the same. Where hypervisors are concerned, ours has agents; at OVN's side this test writes
//! what ovn-controller would.
//!
//! What is masked: uuids and the times of log lines always, of records the columns of [`MASKED`], and the address set
//! `svc_monitor_mac`, which comes with load balancing.

use std::collections::BTreeMap;

use crate::{
    hypervisor::Hypervisor,
    nbctl,
    system::{Ended, Members, Mode, System},
};

/// Columns by a column that only their table has, and why they may differ.
const MASKED: [(&str, &str, &str); 7] = [
    ("ipsec", "nb_cfg", "of SB_Global: playing a hypervisor at OVN's side counts one up"),
    ("nb_cfg_timestamp", "nb_cfg_timestamp", "a time"),
    ("nb_cfg_timestamp", "nb_cfg", "of Chassis_Private: no ovn-controller is there to say how far it is"),
    ("ipsec", "options", "of SB_Global: ovn-northd keeps its own version and random MACs there"),
    ("ref_chassis", "ref_chassis", "chassis whose agents hold the router, of which OVN's side has none"),
    ("disc", "disc", "a random number"),
    ("disc", "src_port", "a random port"),
];

#[test]
fn one_member_shows_what_ovn_does() {
    replay(1);
}

#[test]
fn three_members_show_what_ovn_does() {
    replay(3);
}

fn replay(count: usize) {
    let mut real = System::real(Mode::OneShot);
    real.set("OVN_NBCTL_OPTIONS", "--timeout=20 --wait=sb");
    real.set("OVN_SBCTL_OPTIONS", "--timeout=20");
    let mut ours = Ours::start(count);
    let mut differences = Vec::new();
    let script = include_str!("sbctl.txt").lines().enumerate();
    let commands = script.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let mut run = 0;
    for (number, line) in commands {
        run += 1;
        if let Some(step) = line.strip_prefix("hv ") {
            let step: Vec<&str> = step.split_whitespace().collect();
            ours.hypervisor(&step);
            play(&real, &step);
            continue;
        }
        let (name, command) = nbctl::variable(line);
        let (expected, got) = (real.run_shell(command), ours.run(command));
        if let Some(name) = name {
            real.remember(name, &expected.stdout);
            ours.environment.insert(name.to_owned(), got.stdout.trim().to_owned());
        }
        let (expected, got) = (normal(&expected), normal(&got));
        if expected != got {
            differences
                .push(format!("line {}: {line}\n--- OVN\n{expected}--- QuantumNet\n{got}", number + 1));
        }
    }
    assert!(run > 130, "the script is there");
    assert!(
        differences.is_empty(),
        "{} of {run} lines differ:\n\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// Members, and agents of theirs.
struct Ours {
    members: Members,
    environment: BTreeMap<String, String>,
    hypervisors: BTreeMap<String, Hypervisor>,
}

impl Ours {
    fn start(count: usize) -> Self {
        let members = Members::start(count);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let environment = [
            pair("OVN_NBCTL_OPTIONS", "--timeout=20 --wait=sb"),
            pair("OVN_SBCTL_OPTIONS", "--timeout=20 --no-leader-only"),
        ];
        Self { members, environment: environment.into(), hypervisors: BTreeMap::new() }
    }

    fn run(&self, line: &str) -> Ended {
        self.members.run_shell(line, &self.environment)
    }

    fn hypervisor(&mut self, step: &[&str]) {
        let of = |name: &str| panic!("no agent of {name} is connected");
        match *step {
            ["register", name, ip] => {
                let hypervisor = Hypervisor::register(self.members.listen(""), name, ip);
                self.hypervisors.insert(name.to_owned(), hypervisor);
            }
            ["plug", name, port] => self.hypervisors.get_mut(name).unwrap_or_else(|| of(name)).plug(port),
            ["learn", name, mac, datapath, port] => {
                let hypervisor = self.hypervisors.get_mut(name).unwrap_or_else(|| of(name));
                hypervisor.learn(mac, datapath.parse().unwrap(), port.parse().unwrap());
            }
            ["stop", name] => drop(self.hypervisors.remove(name)),
            _ => panic!("no such step: {step:?}"),
        }
    }
}

/// What ovn-controller would write.
fn play(real: &System, step: &[&str]) {
    let line = match *step {
        ["register", name, ip] => format!(
            "ovn-sbctl --id=@e create Encap type=geneve ip={ip} chassis_name={name} options:csum=true \
             -- --id=@c create Chassis name={name} hostname={name}.example encaps=@e \
             -- create Chassis_Private name={name} chassis=@c"
        ),
        // With what is nested in it.
        ["plug", name, port] => format!(
            "for port in {port} $(ovn-sbctl --bare --columns=logical_port find Port_Binding parent_port={port}); \
             do ovn-sbctl lsp-bind $port {name}; done"
        ),
        ["learn", _, mac, datapath, port] => {
            format!("ovn-sbctl create FDB mac='\"{mac}\"' dp_key={datapath} port_key={port}")
        }
        _ => return,
    };
    let ended = real.run_shell(&line);
    assert_eq!(ended.status, 0, "{line}: {}", ended.stderr);
    let synced = real.run_shell("ovn-nbctl sync");
    assert_eq!(synced.status, 0, "{}", synced.stderr);
}

/// What a command printed and returned, without what may differ: records in order, uuids masked.
fn normal(ended: &Ended) -> String {
    let text = |text: &str| -> String {
        let lines: Vec<String> = text.lines().map(nbctl::mask_line).collect();
        let mut records: Vec<Vec<String>> = if lines.iter().any(String::is_empty) || is_record(&lines) {
            lines.split(String::is_empty).map(<[String]>::to_vec).collect()
        } else {
            lines.into_iter().map(|line| vec![line]).collect()
        };
        records.iter_mut().for_each(mask);
        records.retain(|record| !record.is_empty());
        records.sort();
        records.concat().join("\n")
    };
    format!("status {}\n{}\n{}\n", ended.status, text(&ended.stdout), text(&ended.stderr))
}

fn column(line: &str) -> Option<(&str, &str)> {
    let (column, value) = line.split_once(':')?;
    Some((column.trim_end(), value.trim()))
}

fn is_record(lines: &[String]) -> bool {
    !lines.is_empty() && lines.iter().all(|line| column(line).is_some())
}

fn mask(record: &mut Vec<String>) {
    let has = |name: &str| record.iter().any(|line| column(line).is_some_and(|(column, _)| column == name));
    let masked: Vec<&str> =
        MASKED.iter().filter(|(only, ..)| has(only)).map(|(_, column, _)| *column).collect();
    if record.iter().any(|line| column(line) == Some(("name", "svc_monitor_mac"))) {
        record.clear();
    }
    let is_patch = record.iter().any(|line| matches!(column(line), Some(("type", "patch" | "l3gateway"))));
    for line in record {
        let Some((column, value)) = column(line) else { continue };
        // Of a port that leads to a router ovn-northd copies the word `router`.
        if masked.contains(&column) || is_patch && column == "mac" && !value.contains('/') {
            *line = format!("{column}: masked");
        }
    }
}

/// Flows are nobody's here: the table is there, and empty.
#[test]
fn there_are_no_logical_flows() {
    let ours = Ours::start(1);
    assert_eq!(ours.run("ovn-nbctl ls-add s0").status, 0);
    for command in ["lflow-list", "lflow-list s0", "dump-flows", "count-flows s0", "count-flows"] {
        let ended = ours.run(&format!("ovn-sbctl {command}"));
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{command}");
        assert!(!ended.stdout.contains("table="), "{command}: {}", ended.stdout);
    }
    let nosuch = ours.run("ovn-sbctl lflow-list nosuch");
    assert!(!nosuch.stdout.contains("table="), "{}", nosuch.stdout);
}

/// What follows from other rows is refused by name, where OVN would take it and its centre or agents undo it.
#[test]
fn writes_of_what_follows_from_other_rows_are_refused() {
    let mut ours = Ours::start(1);
    ours.hypervisor(&["register", "hv1", "192.0.2.1"]);
    assert_eq!(ours.run("ovn-nbctl ls-add s0 -- lsp-add s0 p0").status, 0);
    for (command, named) in [
        ("lsp-bind p0 hv1", "column chassis in table Port_Binding"),
        ("chassis-add hv2 geneve 192.0.2.2", "insert operation not allowed on table"),
        ("set Port_Binding p0 external_ids:a=b", "column external_ids in table Port_Binding"),
        ("set Chassis hv1 hostname=x", "clients may write external_ids only"),
        ("set SB_Global . nb_cfg=7", "column nb_cfg in table SB_Global"),
        ("destroy Port_Binding p0", "delete operation not allowed on table Port_Binding"),
        ("create Address_Set name=x", "insert operation not allowed on table Address_Set"),
    ] {
        let ended = ours.run(&format!("ovn-sbctl {command}"));
        assert_eq!(ended.status, 1, "{command}");
        assert!(ended.stderr.contains("not allowed") && ended.stderr.contains(named), "{}", ended.stderr);
    }
    let unchanged = ours.run("ovn-sbctl --bare --columns=chassis,external_ids list Port_Binding");
    assert_eq!(unchanged.stdout.trim(), "");
}

/// A chassis that somebody deletes although its agent lives comes back when the agent registers again, as with OVN.
#[test]
fn the_agent_of_a_chassis_that_is_deleted_registers_again() {
    let mut ours = Ours::start(1);
    assert_eq!(ours.run("ovn-nbctl ls-add s0 -- lsp-add s0 p0").status, 0);
    for (command, left) in
        [("destroy Chassis hv1", "hv1"), ("destroy Chassis_Private hv1", ""), ("chassis-del hv1", "")]
    {
        ours.hypervisor(&["register", "hv1", "192.0.2.1"]);
        ours.hypervisor(&["plug", "hv1", "p0"]);
        assert_eq!(ours.run("ovn-sbctl wait-until Port_Binding p0 up=true").status, 0);
        assert_eq!(ours.run(&format!("ovn-sbctl {command}")).status, 0, "{command}");
        ours.hypervisors.get_mut("hv1").unwrap().ended();
        let private = ours.run("ovn-sbctl --bare --columns=name list Chassis_Private");
        assert_eq!(private.stdout.trim(), left, "{command}");
    }
    ours.hypervisor(&["register", "hv1", "192.0.2.1"]);
    ours.hypervisor(&["plug", "hv1", "p0"]);
    assert_eq!(ours.run("ovn-sbctl wait-until Port_Binding p0 up=true").status, 0);
    assert_eq!(ours.run("ovn-sbctl --bare --columns=name find Chassis_Private chassis!=[]").stdout, "hv1\n");
}
