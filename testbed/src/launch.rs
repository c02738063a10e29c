//! How each daemon of the lab is started: program, arguments, environment. The one place that knows command lines.
//!
//! # Contract
//! - In: the spec, the lab's folder, the tools found. Out: a [`ProcessRecord`] without an id, ready to be spawned.
//!
//! # Invariants
//! - Everything a daemon writes lies under its node's folder, so that two hypervisors on one machine never meet.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    Error, LabSpec, Result,
    command::find_program,
    process::ProcessRecord,
    spec::{
        AGENT_METRICS_PORT, API_PORT, CONTROLLER_METRICS_PORT, Daemon, NB_PORT, Node, PEER_PORT, SB_PORT,
    },
};

/// The programs a lab cannot do without, found once.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    ovsdb_server: PathBuf,
    vswitchd: PathBuf,
    pub(crate) schema: PathBuf,
}

impl Tools {
    /// Finds them, or names the first that is missing and the package that brings it.
    pub(crate) fn find(spec: &LabSpec) -> Result<Self> {
        find_program("ip", "iproute2")?;
        find_program("ethtool", "ethtool")?;
        find_program("ovs-vsctl", "openvswitch-switch")?;
        find_program("ovsdb-tool", "openvswitch-switch")?;
        let schema = PathBuf::from(OVS_SCHEMA);
        if !schema.is_file() {
            return Err(Error::MissingFile { what: "database schema of Open vSwitch", path: schema });
        }
        if let Some(programs) = &spec.programs {
            for (what, path) in
                [("quantumnet-controller", &programs.controller), ("quantumnet-agent", &programs.agent)]
            {
                if !path.is_file() {
                    return Err(Error::MissingFile { what, path: path.clone() });
                }
            }
        }
        Ok(Self {
            ovsdb_server: find_program("ovsdb-server", "openvswitch-switch")?,
            vswitchd: find_program("ovs-vswitchd", "openvswitch-switch")?,
            schema,
        })
    }
}

/// Where a lab keeps the files of its nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folders<'a>(pub(crate) &'a Path);

impl Folders<'_> {
    pub(crate) fn node(self, node: Node) -> PathBuf {
        self.0.join(node.to_string())
    }

    /// The OVSDB socket of hypervisor `n`.
    pub(crate) fn ovsdb_socket(self, n: u16) -> PathBuf {
        self.node(Node::Hypervisor(n)).join("db.sock")
    }

    pub(crate) fn ovsdb_file(self, n: u16) -> PathBuf {
        self.node(Node::Hypervisor(n)).join("conf.db")
    }

    pub(crate) fn vswitchd_unixctl(self, n: u16) -> PathBuf {
        self.node(Node::Hypervisor(n)).join("ovs-vswitchd.ctl")
    }

    /// OVN_Northbound of controller `n` for callers outside its namespace.
    pub(crate) fn nb_socket(self, n: u16) -> PathBuf {
        self.node(Node::Controller(n)).join("nb.sock")
    }

    /// OVN_Southbound of controller `n` for callers outside its namespace.
    pub(crate) fn sb_socket(self, n: u16) -> PathBuf {
        self.node(Node::Controller(n)).join("sb.sock")
    }

    /// The API of controller `n` for callers outside its namespace.
    pub(crate) fn api_socket(self, n: u16) -> PathBuf {
        self.node(Node::Controller(n)).join("api.sock")
    }
}

/// The API address of controller `n` in the management network.
pub(crate) fn api_address(n: u16) -> SocketAddr {
    SocketAddr::new(Node::Controller(n).management_address().into(), API_PORT)
}

/// Where controller `n` serves the other members, in the management network.
fn peer_address(n: u16) -> SocketAddr {
    SocketAddr::new(Node::Controller(n).management_address().into(), PEER_PORT)
}

/// Where the daemon's metrics are, if it has any.
pub(crate) fn metrics_address(daemon: Daemon) -> Option<SocketAddr> {
    let port = match daemon {
        Daemon::Controller(_) => CONTROLLER_METRICS_PORT,
        Daemon::Agent(_) => AGENT_METRICS_PORT,
        Daemon::Vswitchd(_) | Daemon::OvsdbServer(_) => return None,
    };
    Some(SocketAddr::new(daemon.node().management_address().into(), port))
}

/// The environment in which OVS programs of hypervisor `n` find their database and sockets.
pub(crate) fn switch_environment(folders: Folders<'_>, n: u16) -> BTreeMap<String, String> {
    let folder = text(folders.node(Node::Hypervisor(n)));
    ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"].map(|key| (key.to_owned(), folder.clone())).into()
}

/// The value of `external_ids:quantumnet-remote`: every controller an agent may talk to.
pub(crate) fn controller_remotes(spec: &LabSpec) -> String {
    let remotes: Vec<String> = (1..=spec.controllers).map(|n| format!("http://{}", api_address(n))).collect();
    remotes.join(",")
}

/// The record of a daemon that has not been started.
pub(crate) fn record(
    spec: &LabSpec,
    tools: &Tools,
    folders: Folders<'_>,
    daemon: Daemon,
) -> Result<ProcessRecord> {
    let node = daemon.node();
    let folder = folders.node(node);
    let (argv, env) = match daemon {
        Daemon::OvsdbServer(n) => (ovsdb_server(tools, folders, n), switch_environment(folders, n)),
        Daemon::Vswitchd(n) => (vswitchd(tools, folders, n), switch_environment(folders, n)),
        Daemon::Controller(n) => controller(spec, folders, n)?,
        Daemon::Agent(n) => agent(spec, folders, n)?,
    };
    let log = folder.join(format!("{daemon}.log"));
    Ok(ProcessRecord { netns: spec.netns(node), argv, env, folder, log, pid: None, started_ticks: None })
}

fn ovsdb_server(tools: &Tools, folders: Folders<'_>, n: u16) -> Vec<String> {
    vec![
        text(&tools.ovsdb_server),
        text(folders.ovsdb_file(n)),
        format!("--remote=punix:{}", folders.ovsdb_socket(n).display()),
        format!("--unixctl={}", folders.node(Node::Hypervisor(n)).join("ovsdb-server.ctl").display()),
        "-vsyslog:off".into(),
    ]
}

fn vswitchd(tools: &Tools, folders: Folders<'_>, n: u16) -> Vec<String> {
    vec![
        text(&tools.vswitchd),
        format!("unix:{}", folders.ovsdb_socket(n).display()),
        format!("--unixctl={}", folders.vswitchd_unixctl(n).display()),
        "-vsyslog:off".into(),
        // Only makes a port type available that has no device behind it; measurements of scale bind ports to such.
        "--enable-dummy".into(),
    ]
}

type Start = (Vec<String>, BTreeMap<String, String>);

fn controller(spec: &LabSpec, folders: Folders<'_>, n: u16) -> Result<Start> {
    let programs = spec.programs.as_ref().ok_or_else(no_programs)?;
    let mut argv = vec![
        text(&programs.controller),
        "--data-dir".into(),
        text(folders.node(Node::Controller(n)).join("data")),
        "--listen".into(),
        api_address(n).to_string(),
        "--listen-unix".into(),
        text(folders.api_socket(n)),
        "--member-id".into(),
        n.to_string(),
    ];
    for (option, port, socket) in
        [("--nb", NB_PORT, folders.nb_socket(n)), ("--sb", SB_PORT, folders.sb_socket(n))]
    {
        let address = Node::Controller(n).management_address();
        argv.extend([option.into(), format!("ptcp:{port}:{address},punix:{}", socket.display())]);
    }
    if spec.controllers > 1 {
        let peers: Vec<String> = (1..=spec.controllers).map(|n| format!("{n}={}", peer_address(n))).collect();
        argv.extend(["--peer-listen".into(), peer_address(n).to_string(), "--peers".into(), peers.join(",")]);
    }
    if let Some(metrics) = metrics_address(Daemon::Controller(n)) {
        argv.extend(["--metrics".into(), metrics.to_string()]);
    }
    argv.extend(programs.controller_args.iter().cloned());
    Ok((argv, programs.env.clone()))
}

fn agent(spec: &LabSpec, folders: Folders<'_>, n: u16) -> Result<Start> {
    let programs = spec.programs.as_ref().ok_or_else(no_programs)?;
    let mut argv = vec![
        text(&programs.agent),
        "--ovsdb".into(),
        format!("unix:{}", folders.ovsdb_socket(n).display()),
        "--controller".into(),
        controller_remotes(spec),
        "--state-dir".into(),
        text(folders.node(Node::Hypervisor(n)).join("agent")),
    ];
    if let Some(metrics) = metrics_address(Daemon::Agent(n)) {
        argv.extend(["--metrics".into(), metrics.to_string()]);
    }
    argv.extend(programs.agent_args.iter().cloned());
    let mut env = switch_environment(folders, n);
    env.extend(programs.env.clone());
    Ok((argv, env))
}

fn no_programs() -> Error {
    Error::Unknown { what: "program under test", name: "programs".into(), known: "Open vSwitch alone".into() }
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

const OVS_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Programs;

    fn lines(daemon: Daemon) -> String {
        let spec =
            LabSpec { controllers: 2, programs: Some(Programs::in_folder("/opt/qn")), ..LabSpec::default() };
        let tools =
            Tools { ovsdb_server: "ovsdb-server".into(), vswitchd: "vswitchd".into(), schema: "".into() };
        record(&spec, &tools, Folders(Path::new("/lab")), daemon).unwrap().argv.join(" ")
    }

    #[test]
    fn agents_know_every_controller() {
        assert_eq!(
            lines(Daemon::Agent(1)),
            "/opt/qn/quantumnet-agent --ovsdb unix:/lab/hv1/db.sock \
             --controller http://10.254.0.1:9640,http://10.254.0.2:9640 \
             --state-dir /lab/hv1/agent --metrics 10.254.1.1:9642"
        );
    }

    #[test]
    fn controllers_listen_on_their_own_address_and_on_a_socket_for_outsiders_and_know_each_other() {
        assert_eq!(
            lines(Daemon::Controller(2)),
            "/opt/qn/quantumnet-controller --data-dir /lab/controller2/data --listen 10.254.0.2:9640 \
             --listen-unix /lab/controller2/api.sock --member-id 2 \
             --nb ptcp:6641:10.254.0.2,punix:/lab/controller2/nb.sock \
             --sb ptcp:6642:10.254.0.2,punix:/lab/controller2/sb.sock \
             --peer-listen 10.254.0.2:9643 --peers 1=10.254.0.1:9643,2=10.254.0.2:9643 \
             --metrics 10.254.0.2:9641"
        );
    }
}
