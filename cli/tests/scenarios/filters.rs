//! ACLs on real switches, set with ovn-nbctl as an OVN client does: what they stop, let through, answer and cut.

use std::time::Duration;

use quantumnet_testbed::{Daemon, Signal, wait_ok};

use crate::{
    restarts::{finish, streams},
    support::{Net, ip, text},
};

const WITHIN: Duration = Duration::from_secs(20);

fn nbctl(net: &Net, commands: &[&str]) {
    let remotes = format!("--db={}", net.lab.nb_remotes().unwrap());
    let mut argv = vec!["ovn-nbctl", &remotes, "--no-leader-only", "--timeout=20", "--wait=hv"];
    argv.extend(commands);
    wait_ok(WITHIN, &format!("ovn-nbctl {commands:?}"), || {
        let output = net.lab.exec("net", &argv).unwrap();
        if output.ok() { Ok(()) } else { Err(output.stderr) }
    })
    .unwrap();
}

/// A port of the intent API is a member of a client's group; its rules hold at once on every hypervisor.
#[test]
fn rules_hold_across_hosts_and_restarts_and_cut_when_they_go() {
    let (net, [a, b, c]) = Net::three_vms("filters");
    let id = text(&net.get("port", "c"), "/meta/id");
    a.wait_reachable(ip("10.0.0.13"), WITHIN).unwrap();
    b.wait_reachable(ip("10.0.0.13"), WITHIN).unwrap();

    let all = "outport == @guarded && ip4";
    let web = "outport == @guarded && icmp4 && ip4.src == $friends";
    nbctl(&net, &["pg-add", "guarded", &id, "--", "acl-add", "guarded", "to-lport", "1000", all, "drop"]);
    let answered = |from: &quantumnet_testbed::Vm, to: &str| {
        let result = from.ping(ip(to), &Default::default()).unwrap();
        assert!(result.all_answered() || result.none_answered(), "a rule holds for every packet: {result:?}");
        result.all_answered()
    };
    assert!(!answered(&a, "10.0.0.13") && !answered(&b, "10.0.0.13"));

    nbctl(
        &net,
        &[
            "create",
            "Address_Set",
            "name=friends",
            "addresses=10.0.0.11",
            "--",
            "acl-add",
            "guarded",
            "to-lport",
            "1001",
            web,
            "allow-related",
        ],
    );
    assert!(answered(&a, "10.0.0.13"), "an address of the set");
    assert!(!answered(&b, "10.0.0.13"), "another");
    assert!(answered(&c, "10.0.0.12"), "replies to what the guarded port begins");

    // An agent that comes back finds its zones and connections as they were.
    let probes = streams(&a, &["10.0.0.13"]);
    net.lab.restart(Daemon::Agent(2), Signal::SIGKILL).unwrap();
    nbctl(&net, &["sync"]);
    for report in finish(probes) {
        assert_eq!(report.lost(), 0, "{report:?}");
    }

    // The connection is established; without its rule it ends with the next packet.
    nbctl(&net, &["remove", "Address_Set", "friends", "addresses", "10.0.0.11"]);
    assert!(!answered(&a, "10.0.0.13"), "revocation cuts");
    nbctl(&net, &["pg-del", "guarded"]);
    assert!(answered(&a, "10.0.0.13") && answered(&b, "10.0.0.13"), "nothing is left of it");
}
