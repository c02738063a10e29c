//! A lab with a network in it, and qnctl.

use std::{
    io::Write as _,
    net::IpAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use quantumnet_testbed::{LabGuard, LabSpec, Programs, Underlay, Vm, wait_ok};
use serde_json::Value;

/// A lab of three controllers and some hypervisors.
pub(crate) struct Net {
    pub(crate) lab: LabGuard,
}

impl Net {
    /// Builds it; everything is removed again when it goes out of scope.
    pub(crate) fn up(purpose: &str, hypervisors: u16) -> Self {
        Self::with(purpose, hypervisors, |_| {})
    }

    /// Builds it with a change to the spec.
    pub(crate) fn with(purpose: &str, hypervisors: u16, change: impl FnOnce(&mut LabSpec)) -> Self {
        let programs = Programs::in_folder(programs());
        let mut spec = LabSpec::with_programs(purpose, CONTROLLERS, hypervisors, programs);
        change(&mut spec);
        let lab = LabGuard::up(&spec).unwrap_or_else(|error| panic!("building the lab: {error}"));
        lab.wait_leader(Duration::from_secs(15)).unwrap();
        Self { lab }
    }

    /// The network `net` with ports a and b for hypervisor 1, c for hypervisor 2, and their VMs with leases.
    pub(crate) fn three_vms(purpose: &str) -> (Self, [Vm; 3]) {
        let net = Self::up(purpose, 2);
        net.apply(THREE);
        let vms = [("a", 1), ("b", 1), ("c", 2)].map(|(name, hypervisor)| net.vm(hypervisor, name));
        for (vm, place) in vms.iter().zip(11..) {
            let lease = vm.dhcp(&Default::default()).unwrap();
            assert_eq!(lease.ip.to_string(), format!("10.0.0.{place}"));
        }
        // The tunnel's own next hop is resolved by the first packet, which is lost; that is not what tests count.
        vms[0].wait_reachable(ip("10.0.0.13"), Duration::from_secs(5)).unwrap();
        (net, vms)
    }

    /// Runs qnctl against the lab and returns what it printed; its failure fails the test.
    pub(crate) fn qnctl(&self, args: &[&str]) -> String {
        self.qnctl_with(args, "").unwrap_or_else(|error| panic!("qnctl {}: {error}", args.join(" ")))
    }

    /// Runs qnctl with standard input; the error is what it printed on standard error.
    pub(crate) fn qnctl_with(&self, args: &[&str], input: &str) -> Result<String, String> {
        self.qnctl_at(1..=CONTROLLERS, args, input)
    }

    /// The same with only controller `n` to ask.
    pub(crate) fn qnctl_of(&self, n: u16, args: &[&str], input: &str) -> Result<String, String> {
        self.qnctl_at(n..=n, args, input)
    }

    fn qnctl_at(
        &self,
        controllers: RangeInclusive<u16>,
        args: &[&str],
        input: &str,
    ) -> Result<String, String> {
        let addresses: Vec<String> =
            controllers.map(|n| format!("unix:{}", self.lab.api_socket(n).display())).collect();
        let mut child = Command::new(env!("CARGO_BIN_EXE_qnctl"))
            .args(["--controller", &addresses.join(",")])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// Applies YAML and waits until it is in every switch.
    pub(crate) fn apply(&self, yaml: &str) {
        self.qnctl_with(&["apply", "--wait", "-f", "-"], yaml)
            .unwrap_or_else(|error| panic!("apply: {error}"));
    }

    /// What a refused apply says.
    pub(crate) fn apply_refused(&self, yaml: &str) -> String {
        match self.qnctl_with(&["apply", "-f", "-"], yaml) {
            Ok(text) => panic!("was applied, but should have been refused: {text}"),
            Err(error) => error,
        }
    }

    /// An object as JSON.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Value {
        self.get_in("default", kind, name)
    }

    /// An object of a project.
    pub(crate) fn get_in(&self, project: &str, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.qnctl(&["get", kind, name, "-p", project, "-o", "json"])).unwrap()
    }

    /// A VM for the port of that name, plugged in, its port up.
    pub(crate) fn vm(&self, hypervisor: u16, port: &str) -> Vm {
        self.vm_in("default", hypervisor, port)
    }

    /// A VM for a port of a project.
    pub(crate) fn vm_in(&self, project: &str, hypervisor: u16, port: &str) -> Vm {
        let object = self.get_in(project, "port", port);
        let (id, mac) = (text(&object, "/meta/id"), text(&object, "/status/mac"));
        let vm = self.lab.add_vm(hypervisor, port, &id, &mac).unwrap();
        self.wait_port_in(project, port, &format!("up on hv{hypervisor}"), |port| {
            port.pointer("/status/up") == Some(&Value::Bool(true))
                && text(port, "/status/chassis") == format!("hv{hypervisor}")
        });
        vm
    }

    /// Waits until the port is as `condition` wants it.
    pub(crate) fn wait_port(&self, port: &str, what: &str, condition: impl Fn(&Value) -> bool) {
        self.wait_port_in("default", port, what, condition);
    }

    fn wait_port_in(&self, project: &str, port: &str, what: &str, condition: impl Fn(&Value) -> bool) {
        wait_ok(Duration::from_secs(10), &format!("port {port} to be {what}"), || {
            let object = self.get_in(project, "port", port);
            if condition(&object) { Ok(()) } else { Err(object["status"].to_string()) }
        })
        .unwrap();
    }

    /// The value of a metric of a daemon, summed over its labels; `None` while it cannot be had.
    pub(crate) fn metric(&self, daemon: quantumnet_testbed::Daemon, name: &str) -> Option<f64> {
        self.lab.metric(daemon, name)
    }
}

/// A string member of an object; empty when there is none.
pub(crate) fn text(object: &Value, place: &str) -> String {
    object.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Parses an address.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The folder of the programs, which is qnctl's.
fn programs() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_qnctl")).parent().unwrap();
    for program in ["quantumnet-controller", "quantumnet-agent"] {
        let path = folder.join(program);
        assert!(path.is_file(), "{} is missing; run: cargo build --workspace", path.display());
    }
    folder.to_owned()
}

/// The network `net` with port a at 10.0.0.11 and another.
pub(crate) fn pair(other: &str, place: u8) -> String {
    format!(
        "kind: VirtualNetwork
metadata: {{ name: net }}
spec: {{ subnets: [{{ cidr: 10.0.0.0/24 }}] }}
---
kind: Port
metadata: {{ name: a }}
spec: {{ network: net, addresses: [10.0.0.11] }}
---
kind: Port
metadata: {{ name: {other} }}
spec: {{ network: net, addresses: [10.0.0.{place}] }}
"
    )
}

/// Tunnels over IPv6.
pub(crate) fn over_ipv6(spec: &mut LabSpec) {
    spec.underlay = Underlay::Ipv6;
}

/// Members of the cluster in every scenario.
const CONTROLLERS: u16 = 3;

const THREE: &str = "
kind: VirtualNetwork
metadata: { name: net }
spec: { subnets: [{ cidr: 10.0.0.0/24, gateway: 10.0.0.1 }, { cidr: 'fd00::/64' }] }
---
kind: Port
metadata: { name: a }
spec: { network: net, addresses: [10.0.0.11, 'fd00::11'] }
---
kind: Port
metadata: { name: b }
spec: { network: net, addresses: [10.0.0.12, 'fd00::12'] }
---
kind: Port
metadata: { name: c }
spec: { network: net, addresses: [10.0.0.13, 'fd00::13'] }
";
