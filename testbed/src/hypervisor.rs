//! One hypervisor: a namespace with its own Open vSwitch, attached to the three networks.
//!
//! ```text
//!   namespace net                namespace hvN
//!   bridge mg  ------veth------  mgmt  10.254.1.N     agent <-> controllers
//!   bridge ul  ------veth------  eth0 - br-phy 172.31.0.N / fd00:31::N  ~ Geneve
//!   bridge px  ------veth------  eth1 - br-ex         physnet1
//!                                br-int (made by the agent) - v-NAME --veth-- eth0 of a VM
//! ```
//!
//! # Invariants
//! - With the userspace datapath the tunnel address sits on a bridge of OVS (br-phy), because OVS then routes and
//!   resolves tunnels itself, from the bridge's own address. With the kernel datapath it sits on eth0.
//! - br-int is never made here: the agent makes it, closed. Tests without an agent ask for it ([`Hypervisor::add_bridge`]).

use std::time::Duration;

use crate::{
    LabSpec, Netns, Result,
    command::{Cmd, Output},
    lab::Lab,
    launch::{Folders, controller_remotes, switch_environment},
    spec::{Datapath, Link, Node, PHYSICAL_NETWORK},
    wait::wait_until,
};

/// A hypervisor of a lab.
#[derive(Clone, Debug)]
pub struct Hypervisor {
    lab: Lab,
    number: u16,
}

impl Hypervisor {
    pub(crate) fn new(lab: Lab, number: u16) -> Self {
        Self { lab, number }
    }

    /// Counted from 1.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The node, for the calls of [`Lab`] that take one.
    pub fn node(&self) -> Node {
        Node::Hypervisor(self.number)
    }

    /// Name and `system-id`, `hvN`.
    pub fn name(&self) -> String {
        self.node().to_string()
    }

    /// The namespace.
    pub fn netns(&self) -> Netns {
        self.lab.netns(self.node())
    }

    /// Runs a command in the hypervisor's namespace, where OVS programs find its database.
    pub fn exec<S: AsRef<std::ffi::OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Result<Output> {
        self.command(argv).run()
    }

    /// `ovs-vsctl ARGS`: waits for ovs-vswitchd unless told `--no-wait`; an error when it fails.
    pub fn ovs_vsctl<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let database = format!("--db=unix:{}", self.folders().ovsdb_socket(self.number).display());
        self.command(["ovs-vsctl", &database, "--timeout=15"]).args(args).check()
    }

    /// `ovs-ofctl -O OpenFlow15 ARGS`; an error when it fails.
    pub fn ovs_ofctl<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        self.command(["ovs-ofctl", "-O", "OpenFlow15"]).args(args).check()
    }

    /// `ovs-appctl ARGS`, asked of ovs-vswitchd; an error when it fails.
    pub fn ovs_appctl<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let target = self.folders().vswitchd_unixctl(self.number);
        self.command(["ovs-appctl", "-t"]).arg(target).args(args).check()
    }

    /// `ofproto/trace` of a packet given as a flow, in br-int.
    pub fn trace(&self, flow: &str) -> Result<String> {
        self.ovs_appctl(["ofproto/trace", "br-int", flow])
    }

    /// Flows of a bridge in the text form of `ovs-ofctl`, without counters, sorted: for comparing tables.
    pub fn flows(&self, bridge: &str) -> Result<Vec<String>> {
        let text = self.ovs_ofctl(["--no-stats", "--no-names", "dump-flows", bridge])?;
        let mut flows: Vec<String> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("OFPST"))
            .map(str::to_owned)
            .collect();
        flows.sort();
        Ok(flows)
    }

    /// Replaces all flows of a bridge at once.
    pub fn replace_flows(&self, bridge: &str, flows: &[&str]) -> Result<()> {
        self.command(["ovs-ofctl", "-O", "OpenFlow15", "--bundle", "replace-flows", bridge, "-"])
            .stdin(flows.join("\n") + "\n")
            .check()
            .map(drop)
    }

    /// The OpenFlow port number of an interface; waits until the switch has given it one.
    pub fn ofport(&self, interface: &str) -> Result<u32> {
        let wanted = format!("the OpenFlow port of {interface} on {}", self.name());
        crate::wait::wait_ok(Duration::from_secs(10), &wanted, || {
            let text = self
                .ovs_vsctl(["--if-exists", "get", "Interface", interface, "ofport"])
                .map_err(|error| error.to_string())?;
            text.trim().parse().map_err(|_| format!("ofport is {text:?}"))
        })
    }

    /// Makes a closed bridge with the lab's datapath, as the agent makes br-int.
    pub fn add_bridge(&self, bridge: &str) -> Result<()> {
        let datapath = format!("datapath_type={}", self.lab.spec()?.datapath.name());
        self.ovs_vsctl([
            "add-br",
            bridge,
            "--",
            "set",
            "Bridge",
            bridge,
            &datapath,
            "fail_mode=secure",
            "other_config:disable-in-band=true",
        ])
        .map(drop)
    }

    /// Makes a Geneve port to another hypervisor on br-int; VNI and options are set by flows.
    pub fn add_tunnel(&self, port: &str, peer: u16) -> Result<()> {
        let spec = self.lab.spec()?;
        let (here, there) = (spec.tunnel_addresses(self.number), spec.tunnel_addresses(peer));
        let (Some(here), Some(there)) = (here.first(), there.first()) else { return Ok(()) };
        self.ovs_vsctl([
            "add-port",
            "br-int",
            port,
            "--",
            "set",
            "Interface",
            port,
            "type=geneve",
            &format!("options:local_ip=\"{here}\""),
            &format!("options:remote_ip=\"{there}\""),
            "options:key=flow",
        ])
        .map(drop)
    }

    /// Binds logical ports to OVS ports that have no device behind them: for measurements of scale.
    pub fn add_deviceless_ports<S: AsRef<str>>(&self, iface_ids: impl IntoIterator<Item = S>) -> Result<()> {
        let mut args: Vec<String> = Vec::new();
        for id in iface_ids {
            let (id, port) = (id.as_ref(), crate::vm::interface_name("d-", id.as_ref()));
            if !args.is_empty() {
                args.push("--".into());
            }
            args.extend(
                ["add-port", "br-int", &port, "--", "set", "Interface", &port, "type=dummy"]
                    .map(String::from),
            );
            args.push(format!("external_ids:iface-id={id}"));
        }
        if args.is_empty() { Ok(()) } else { self.ovs_vsctl(args).map(drop) }
    }

    fn command<S: AsRef<std::ffi::OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Cmd {
        switch_environment(self.folders(), self.number)
            .into_iter()
            .fold(self.netns().command(argv), |command, (key, value)| command.env(key, value))
    }

    fn folders(&self) -> Folders<'_> {
        self.lab.folders()
    }

    // ---- building, called by `Lab` -----------------------------------------------------------------------------

    /// After ovsdb-server runs and before ovs-vswitchd does: the facts an agent finds on a prepared host.
    pub(crate) fn write_host_facts(&self, spec: &LabSpec) -> Result<()> {
        self.ovs_vsctl(["--no-wait", "init"])?;
        let addresses: Vec<String> =
            spec.tunnel_addresses(self.number).iter().map(ToString::to_string).collect();
        let mut facts = vec![
            ("system-id", self.name()),
            ("hostname", self.name()),
            ("ovn-encap-type", "geneve".to_owned()),
            ("ovn-encap-ip", addresses.join(",")),
            ("ovn-bridge-datapath-type", spec.datapath.name().to_owned()),
            ("ovn-bridge-mappings", format!("{PHYSICAL_NETWORK}:br-ex")),
        ];
        if spec.controllers > 0 {
            facts.push(("quantumnet-remote", controller_remotes(spec)));
        }
        let facts = facts.into_iter().map(|(key, value)| format!("external_ids:{key}=\"{value}\""));
        let set = ["--no-wait", "set", "Open_vSwitch", "."].map(String::from);
        self.ovs_vsctl(set.into_iter().chain(facts)).map(drop)
    }

    /// The bridges a prepared host has; br-phy only where OVS itself carries the tunnels.
    pub(crate) fn add_host_bridges(&self, spec: &LabSpec) -> Result<()> {
        let bridges: &[(&str, Link)] = match spec.datapath {
            Datapath::Netdev => &[("br-phy", Link::Underlay), ("br-ex", Link::Physical)],
            Datapath::System => &[("br-ex", Link::Physical)],
        };
        let datapath = format!("datapath_type={}", spec.datapath.name());
        for (bridge, link) in bridges {
            self.ovs_vsctl([
                "add-br",
                bridge,
                "--",
                "set",
                "Bridge",
                bridge,
                &datapath,
                "--",
                "add-port",
                bridge,
                link.interface(),
            ])?;
        }
        Ok(())
    }

    /// Addresses of the host; again after ovs-vswitchd restarted, since its bridges' devices are new then.
    pub(crate) fn configure_host(&self, spec: &LabSpec) -> Result<()> {
        let netns = self.netns();
        let device = match spec.datapath {
            Datapath::Netdev => "br-phy",
            Datapath::System => Link::Underlay.interface(),
        };
        for bridge in [device, "br-ex"] {
            let what = format!("{bridge} of {} to appear", self.name());
            wait_until(Duration::from_secs(10), &what, || {
                netns.command(["ip", "link", "show", "dev", bridge]).run().is_ok_and(|output| output.ok())
            })?;
        }
        let mut commands =
            vec![format!("link set {device} mtu {} up", spec.mtu), "link set br-ex up".to_owned()];
        for address in spec.tunnel_addresses(self.number) {
            let (length, option) = if address.is_ipv4() { (24, "") } else { (64, " nodad") };
            commands.push(format!("addr replace {address}/{length} dev {device}{option}"));
        }
        netns.ip(&commands.iter().map(String::as_str).collect::<Vec<_>>())?;
        netns.offload_off(device)
    }
}
