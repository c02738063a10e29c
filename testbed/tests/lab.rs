//! The lab's own promises: it comes up, it leaves nothing, it survives crashes, labs do not meet.
//!
//! Needs root and Open vSwitch and fails, naming what is missing, without them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use quantumnet_testbed::{
    Daemon, Error, Lab, LabGuard, LabSpec, Node, Phase, Programs, Progress, Quiet, Registry, Signal,
    UpOptions, wait_until,
};

fn registry() -> (tempfile::TempDir, UpOptions) {
    let folder = tempfile::Builder::new().prefix("qn").tempdir().unwrap();
    let options = UpOptions { registry: Registry::at(folder.path()), keep_on_failure: false };
    (folder, options)
}

/// Namespaces of one lab, by name.
fn namespaces(lab: &str) -> BTreeSet<String> {
    let prefix = format!("qn-{lab}.");
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect()
}

fn root_links() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn up_and_down_leave_nothing() {
    let (folder, options) = registry();
    let spec = LabSpec::switches_only("nothing", 2);
    let links = root_links();
    let lab = Lab::up_with(&spec, &options, &mut Quiet).unwrap();
    assert_eq!(root_links(), links, "nothing may be made in the root namespace");
    assert_eq!(namespaces(&spec.name).len(), 3);
    lab.hypervisor(1).unwrap().add_bridge("br-int").unwrap();
    lab.add_vm(1, "a", "port-a", "02:00:00:00:00:0a").unwrap();
    lab.add_outside("router", "02:00:00:00:01:01").unwrap();

    let status = lab.status().unwrap();
    assert!(status.healthy(), "{status:?}");
    let pids: Vec<i32> = status.daemons.iter().filter_map(|daemon| daemon.pid).collect();
    assert_eq!(pids.len(), 4);

    lab.down().unwrap();
    lab.down().unwrap();
    assert_eq!(namespaces(&spec.name), BTreeSet::new());
    assert!(pids.iter().all(|pid| !runs(*pid)), "{pids:?}");
    assert!(!lab.folder().exists());
    assert_eq!(options.registry.names().unwrap(), Vec::<String>::new());
    assert_eq!(root_links(), links);
    Lab::remove(&options.registry, &spec.name).unwrap();
    drop(folder);
}

#[test]
fn another_handle_sees_and_removes_the_lab() {
    let (_folder, options) = registry();
    let spec = LabSpec::switches_only("handle", 1);
    let lab = LabGuard::up_with(&spec, &options).unwrap();
    let other = Lab::open_in(&options.registry, &spec.name).unwrap();
    assert_eq!(other.spec().unwrap(), spec);
    assert_eq!(
        other
            .exec("hv1", ["ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids:system-id"])
            .unwrap()
            .stdout
            .trim(),
        "hv1"
    );
    assert!(matches!(other.exec("hv2", ["true"]), Err(Error::Unknown { .. })));
    other.down().unwrap();
    assert!(lab.status().is_err());
    assert_eq!(namespaces(&spec.name), BTreeSet::new());
}

#[test]
fn two_labs_live_side_by_side() {
    let (_folder, options) = registry();
    let (one, two) = (LabSpec::switches_only("side", 1), LabSpec::switches_only("side", 1));
    let first = LabGuard::up_with(&one, &options).unwrap();
    let second = LabGuard::up_with(&two, &options).unwrap();
    assert!(matches!(Lab::up_with(&one, &options, &mut Quiet), Err(Error::Exists { .. })));
    drop(first);
    assert!(second.status().unwrap().healthy(), "the end of one lab must not touch the other");
}

/// Stops the building at its n-th step by pulling a namespace away from under it.
struct Saboteur<'a> {
    spec: &'a LabSpec,
    at: &'a str,
}

impl Progress for Saboteur<'_> {
    fn begin(&mut self, _steps: usize) {}

    fn step(&mut self, what: &str) {
        if what == self.at {
            let name = format!("qn-{}.net", self.spec.name);
            quantumnet_testbed::Netns::named(name).delete().unwrap();
        }
    }
}

#[test]
fn a_failure_in_the_middle_cleans_up() {
    let (_folder, options) = registry();
    let spec = LabSpec::switches_only("failing", 2);
    let error = Lab::up_with(&spec, &options, &mut Saboteur { spec: &spec, at: "hv2" }).unwrap_err();
    assert!(matches!(error, Error::Command { .. }), "{error}");
    assert_eq!(namespaces(&spec.name), BTreeSet::new());
    assert_eq!(options.registry.names().unwrap(), Vec::<String>::new());
}

#[test]
fn a_program_that_dies_at_once_is_named_with_its_log() {
    let (folder, options) = registry();
    let broken = folder.path().join("broken");
    fs::write(&broken, "#!/bin/sh\necho cannot read the stars >&2\nexit 1\n").unwrap();
    fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let programs = Programs { controller: broken.clone(), agent: broken, ..Programs::default() };
    let spec = LabSpec::with_programs("broken", 1, 1, programs);
    let error = Lab::up_with(&spec, &options, &mut Quiet).unwrap_err().to_string();
    assert!(
        error.contains("controller1 ended unasked") && error.contains("cannot read the stars"),
        "{error}"
    );
    assert_eq!(namespaces(&spec.name), BTreeSet::new());
}

#[test]
fn what_a_crash_left_is_removed_later() {
    let (_folder, options) = registry();
    let spec = LabSpec::switches_only("crash", 2);
    let keep = UpOptions { keep_on_failure: true, ..options.clone() };
    Lab::up_with(&spec, &keep, &mut Saboteur { spec: &spec, at: "hv2" }).unwrap_err();
    let lab = Lab::open_in(&options.registry, &spec.name).unwrap();
    assert_eq!(lab.status().unwrap().phase, Phase::Starting);
    assert!(lab.alive(Daemon::Vswitchd(1)).unwrap());
    lab.down().unwrap();
    assert_eq!(namespaces(&spec.name), BTreeSet::new());

    // A crash between the folder and the first state, or a state file that was lost.
    let lab = Lab::up_with(&spec, &options, &mut Quiet).unwrap();
    fs::remove_file(lab.folder().join("state.json")).unwrap();
    Lab::remove(&options.registry, &spec.name).unwrap();
    assert_eq!(namespaces(&spec.name), BTreeSet::new());
    assert!(!lab.folder().exists());
}

#[test]
fn down_ends_what_was_started_inside_by_hand() {
    let (_folder, options) = registry();
    let spec = LabSpec::switches_only("stray", 1);
    let lab = LabGuard::up_with(&spec, &options).unwrap();
    let stray = lab.exec("hv1", ["sh", "-c", "trap '' TERM; sleep 1000 >/dev/null 2>&1 & echo $!"]).unwrap();
    let pid: i32 = stray.stdout.trim().parse().unwrap();
    assert!(runs(pid));
    lab.down().unwrap();
    assert!(!runs(pid));
}

#[test]
fn a_panic_takes_the_lab_down() {
    let (_folder, options) = registry();
    let spec = LabSpec::switches_only("panic", 1);
    let result = std::panic::catch_unwind(|| {
        let _lab = LabGuard::up_with(&spec, &options).unwrap();
        panic!("a test fails here on purpose");
    });
    assert!(result.is_err());
    assert_eq!(namespaces(&spec.name), BTreeSet::new());
}

#[test]
fn daemons_are_killed_and_restarted() {
    let (_folder, options) = registry();
    let lab = LabGuard::up_with(&LabSpec::switches_only("restart", 1), &options).unwrap();
    let vswitchd = Daemon::Vswitchd(1);
    lab.stop(vswitchd, Signal::SIGKILL).unwrap();
    assert!(!lab.alive(vswitchd).unwrap());
    assert!(!lab.status().unwrap().healthy());
    lab.start(vswitchd).unwrap();
    assert!(lab.status().unwrap().healthy());
    assert!(matches!(lab.start(vswitchd), Err(Error::Exists { .. })));
    lab.restart(Daemon::OvsdbServer(1), Signal::SIGTERM).unwrap();
    let bridges = lab.hypervisor(1).unwrap().ovs_vsctl(["list-br"]).unwrap();
    assert_eq!(bridges, "br-ex\nbr-phy\n");
    let address = lab.exec("hv1", ["ip", "-o", "addr", "show", "dev", "br-phy"]).unwrap().stdout;
    assert!(address.contains("172.31.0.1/24"), "{address}");
}

#[test]
fn a_port_inside_is_reached_from_outside() {
    let (_folder, options) = registry();
    let lab = LabGuard::up_with(&LabSpec::switches_only("forward", 1), &options).unwrap();
    let address = std::net::SocketAddr::new(Node::Hypervisor(1).management_address().into(), 7777);
    let listen = move || std::net::TcpListener::bind(address);
    let server = lab.netns(Node::Hypervisor(1)).within(listen).unwrap().unwrap();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        std::io::copy(&mut stream.try_clone().unwrap(), &mut stream).unwrap()
    });
    let forward = lab.forward(Node::Net, address).unwrap();
    let mut stream = std::net::TcpStream::connect(forward.address()).unwrap();
    std::io::Write::write_all(&mut stream, b"hello").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    assert_eq!((text.as_str(), echo.join().unwrap()), ("hello", 5));
}

#[test]
fn missing_programs_are_named() {
    let (_folder, options) = registry();
    let spec = LabSpec::with_programs("missing", 1, 1, Programs::in_folder("/nonexistent"));
    let error = Lab::up_with(&spec, &options, &mut Quiet).unwrap_err().to_string();
    assert_eq!(error, "quantumnet-controller not found: /nonexistent/quantumnet-controller");
    let long = Registry::at(Path::new("/tmp").join("x".repeat(100)));
    let options = UpOptions { registry: long, ..UpOptions::default() };
    let error =
        Lab::up_with(&LabSpec::switches_only("long", 1), &options, &mut Quiet).unwrap_err().to_string();
    assert!(error.contains("because sockets lie in it"), "{error}");
}

#[test]
fn conditions_have_deadlines() {
    let error = wait_until(Duration::from_millis(1), "the impossible", || false).unwrap_err();
    assert!(error.to_string().starts_with("waited 1ms in vain for the impossible"));
}
