//! A lab: controllers and hypervisors in network namespaces of one machine, with real Open vSwitch.
//!
//! # Contract
//! - [`Lab::up`] builds one, [`Lab::open`] finds one that any process built, [`Lab::down`] removes every trace.
//! - A `Lab` is a cheap handle (a name and a folder); what it knows it reads from the state file, so any number of
//!   handles in any number of processes may work on one lab.
//!
//! # Invariants
//! - Nothing is made in the root namespace. Everything made is in the state file before it is made.
//! - `down` may be called at any moment, any number of times, also on what a crash left behind.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    Error, LabSpec, Netns, Result,
    command::{Cmd, Output},
    error::IoContext,
    hypervisor::Hypervisor,
    launch::{self, Folders, Tools},
    process::{Children, end_all, same_boot},
    spec::{Daemon, Datapath, Link, NB_PORT, Node, namespace_prefix},
    state::{Phase, Registry, State, StateFile, join},
    wait::{wait_ok, wait_until},
};

/// A lab that exists, or existed.
#[derive(Clone, Debug)]
pub struct Lab(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    file: StateFile,
    children: Children,
    spec: OnceLock<LabSpec>,
}

/// Whoever wants to know how far a long work is.
pub trait Progress {
    /// The work has this many steps.
    fn begin(&mut self, steps: usize);
    /// The next step starts.
    fn step(&mut self, what: &str);
}

/// Progress that nobody looks at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&mut self, _steps: usize) {}
    fn step(&mut self, _what: &str) {}
}

/// How `up` and its like behave beyond the spec.
#[derive(Clone, Debug, Default)]
pub struct UpOptions {
    /// Where labs are registered.
    pub registry: Registry,
    /// Leave a lab that failed to start as it is, for looking into it.
    pub keep_on_failure: bool,
}

impl Lab {
    /// Builds a lab in the default registry; when it fails, nothing is left of it.
    pub fn up(spec: &LabSpec, progress: &mut dyn Progress) -> Result<Self> {
        Self::up_with(spec, &UpOptions::default(), progress)
    }

    /// Builds a lab.
    pub fn up_with(spec: &LabSpec, options: &UpOptions, progress: &mut dyn Progress) -> Result<Self> {
        spec.validate()?;
        require_root()?;
        let tools = Tools::find(spec)?;
        short_enough(&options.registry.folder(&spec.name))?;
        let lab = Self::from_file(&spec.name, options.registry.claim(spec)?);
        let built = {
            let _building = lab.0.file.lock(BUILD_LOCK)?;
            lab.build(spec, &tools, progress)
        };
        match built {
            Ok(()) => Ok(lab),
            Err(error) if options.keep_on_failure => {
                tracing::warn!(lab = spec.name, %error, "lab failed to start and is kept");
                Err(error)
            }
            Err(error) => {
                if let Err(leftover) = lab.down() {
                    tracing::error!(lab = spec.name, error = %leftover, "cleaning up after a failed start failed too");
                }
                Err(error)
            }
        }
    }

    /// Finds a lab of the default registry by name.
    pub fn open(name: &str) -> Result<Self> {
        Self::open_in(&Registry::default(), name)
    }

    /// Finds a lab by name.
    pub fn open_in(registry: &Registry, name: &str) -> Result<Self> {
        Ok(Self::from_file(name, registry.open(name)?))
    }

    /// Names of the labs of the default registry.
    pub fn list() -> Result<Vec<String>> {
        Registry::default().names()
    }

    fn from_file(name: &str, file: StateFile) -> Self {
        let (children, spec) = (Children::default(), OnceLock::new());
        Self(Arc::new(Inner { name: name.to_owned(), file, children, spec }))
    }

    // ---- what there is -----------------------------------------------------------------------------------------

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The folder with everything the lab writes: one folder per node, logs inside.
    pub fn folder(&self) -> &Path {
        self.0.file.folder()
    }

    /// What the lab was asked to be.
    pub fn spec(&self) -> Result<LabSpec> {
        if let Some(spec) = self.0.spec.get() {
            return Ok(spec.clone());
        }
        let spec = self.state()?.spec;
        Ok(self.0.spec.get_or_init(|| spec).clone())
    }

    /// Hypervisor `n`, counted from 1.
    pub fn hypervisor(&self, n: u16) -> Result<Hypervisor> {
        let spec = self.spec()?;
        if (1..=spec.hypervisors).contains(&n) {
            return Ok(Hypervisor::new(self.clone(), n));
        }
        let known = join((1..=spec.hypervisors).map(|n| Node::Hypervisor(n).to_string()));
        Err(Error::Unknown { what: "hypervisor", name: n.to_string(), known })
    }

    /// The namespace of a node.
    pub fn netns(&self, node: Node) -> Netns {
        Netns::named(format!("{}{node}", namespace_prefix(self.name())))
    }

    /// The address of controller `n`'s API inside the lab's management network.
    pub fn api_address(&self, n: u16) -> SocketAddr {
        launch::api_address(n)
    }

    /// The socket of controller `n`'s API, for callers in the root namespace.
    pub fn api_socket(&self, n: u16) -> PathBuf {
        self.folders().api_socket(n)
    }

    /// OVN_Northbound on every controller, as `ovn-nbctl --db` takes it inside the management network.
    pub fn nb_remotes(&self) -> Result<String> {
        let remote = |n| format!("tcp:{}:{NB_PORT}", Node::Controller(n).management_address());
        Ok((1..=self.spec()?.controllers).map(remote).collect::<Vec<_>>().join(","))
    }

    /// The socket of OVN_Northbound on controller `n`, for callers in the root namespace.
    pub fn nb_socket(&self, n: u16) -> PathBuf {
        self.folders().nb_socket(n)
    }

    /// The socket of OVN_Southbound on controller `n`, for callers in the root namespace.
    pub fn sb_socket(&self, n: u16) -> PathBuf {
        self.folders().sb_socket(n)
    }

    /// Where a daemon serves its metrics, inside the management network.
    pub fn metrics_address(&self, daemon: Daemon) -> Option<SocketAddr> {
        launch::metrics_address(daemon)
    }

    /// The value of a metric of a daemon, summed over its labels; `None` while it cannot be had.
    pub fn metric(&self, daemon: Daemon, name: &str) -> Option<f64> {
        let address = self.metrics_address(daemon)?;
        let answer = self.netns(daemon.node()).within(move || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(METRICS_WITHIN))?;
            write!(stream, "GET /metrics HTTP/1.0\r\nhost: {address}\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        });
        let text = answer.ok()?.ok()?;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
        });
        let values: Vec<f64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// The OVSDB socket of hypervisor `n`.
    pub fn ovsdb_socket(&self, n: u16) -> PathBuf {
        self.folders().ovsdb_socket(n)
    }

    /// Runs a command in the namespace of a node or of a VM (`hv1`, `controller1`, `net`, or the VM's name).
    pub fn exec<S: AsRef<std::ffi::OsStr>>(
        &self,
        place: &str,
        argv: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        self.command(place, argv)?.run()
    }

    /// Like [`Lab::exec`], as a command still to be completed (stdin, environment, deadline).
    pub fn command<S: AsRef<std::ffi::OsStr>>(
        &self,
        place: &str,
        argv: impl IntoIterator<Item = S>,
    ) -> Result<Cmd> {
        let state = self.state()?;
        if state.vms.contains_key(place) {
            return Ok(state.spec.netns(place).command(argv));
        }
        let known = || join(state.spec.nodes().map(|node| node.to_string()).chain(state.vms.keys().cloned()));
        let node = place.parse::<Node>().ok().filter(|node| state.spec.nodes().any(|known| known == *node));
        let Some(node) = node else {
            return Err(Error::Unknown { what: "node or VM", name: place.into(), known: known() });
        };
        let command = state.spec.netns(node).command(argv);
        Ok(match node {
            Node::Hypervisor(n) => launch::switch_environment(self.folders(), n)
                .into_iter()
                .fold(command, |command, (key, value)| command.env(key, value)),
            Node::Net | Node::Controller(_) => command,
        })
    }

    // ---- breaking and mending things ---------------------------------------------------------------------------

    /// True while the daemon runs.
    pub fn alive(&self, daemon: Daemon) -> Result<bool> {
        self.0.children.reap();
        Ok(self.process(daemon)?.alive())
    }

    /// Sends a signal to a daemon; false when it was not running.
    pub fn signal(&self, daemon: Daemon, signal: Signal) -> Result<bool> {
        self.process(daemon)?.signal(signal)
    }

    /// Ends a daemon with a signal (SIGKILL: a crash; SIGTERM: an orderly stop) and waits until it is gone.
    pub fn stop(&self, daemon: Daemon, signal: Signal) -> Result<()> {
        let record = self.process(daemon)?;
        record.signal(signal)?;
        wait_until(STOP_WITHIN, &format!("{daemon} to end after {signal}"), || {
            self.0.children.reap();
            !record.alive()
        })
    }

    /// Starts a daemon that does not run and waits until it is ready.
    pub fn start(&self, daemon: Daemon) -> Result<()> {
        let spec = self.spec()?;
        let tools = Tools::find(&spec)?;
        self.launch(&spec, &tools, daemon)?;
        match daemon {
            // The bridges' devices are new and have lost their addresses, as on a host they would get them back.
            Daemon::Vswitchd(n) => self.hypervisor(n)?.configure_host(&spec),
            Daemon::Controller(_) | Daemon::Agent(_) | Daemon::OvsdbServer(_) => Ok(()),
        }
    }

    /// Ends every controller at once, as when their machines lose power (SIGKILL) or are shut down (SIGTERM).
    pub fn stop_controllers(&self, signal: Signal) -> Result<()> {
        let controllers = 1..=self.spec()?.controllers;
        for n in controllers.clone() {
            self.signal(Daemon::Controller(n), signal)?;
        }
        controllers.map(Daemon::Controller).try_for_each(|daemon| self.stop(daemon, signal))
    }

    /// Starts every controller, all before any is waited for: one member alone is no cluster.
    pub fn start_controllers(&self) -> Result<()> {
        let spec = self.spec()?;
        self.spawn_controllers(&spec, &Tools::find(&spec)?)
    }

    /// [`Lab::stop`] and [`Lab::start`].
    pub fn restart(&self, daemon: Daemon, signal: Signal) -> Result<()> {
        self.stop(daemon, signal)?;
        self.start(daemon)
    }

    /// Everything a daemon wrote to stdout and stderr.
    pub fn log(&self, daemon: Daemon) -> Result<String> {
        let record = self.process(daemon)?;
        fs::read_to_string(&record.log).doing(|| format!("read {}", record.log.display()))
    }

    /// Pulls a node's cable to a network, or puts it back: a controller without its management cable is cut off.
    pub fn set_link(&self, node: Node, link: Link, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.netns(Node::Net).ip(&[&format!("link set {} {state}", node.near_link(link))])
    }

    // ---- the end -----------------------------------------------------------------------------------------------

    /// Removes the lab by name; no error when there is none.
    pub fn remove(registry: &Registry, name: &str) -> Result<()> {
        match registry.open(name) {
            Ok(file) => Self::from_file(name, file).down(),
            Err(Error::Unknown { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends every process of the lab, deletes its namespaces and its folder.
    pub fn down(&self) -> Result<()> {
        if !self.folder().exists() {
            return Ok(());
        }
        let state = self.0.file.read_if_any()?;
        if state.is_some() {
            // A lab that is still being built by another process stops at its next step; then we hold its lock.
            self.0.file.update(|state| {
                state.phase = Phase::Stopping;
                Ok(())
            })?;
        }
        let _building = self.0.file.lock(BUILD_LOCK)?;
        let state = self.0.file.read_if_any()?;
        let namespaces = self.namespaces(state.as_ref());
        let records: Vec<_> = state
            .iter()
            .filter(|state| same_boot(&state.boot))
            .flat_map(|state| state.processes.values())
            .collect();
        end_all(&records, &namespaces, &self.0.children)?;
        for netns in &namespaces {
            netns.delete()?;
        }
        match fs::remove_dir_all(self.folder()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.doing(|| format!("remove {}", self.folder().display())),
        }
    }

    /// Recorded namespaces, and those that bear the lab's name without being recorded (a state file that was lost).
    fn namespaces(&self, state: Option<&State>) -> Vec<Netns> {
        if let Some(state) = state {
            return state.namespaces.clone();
        }
        let prefix = namespace_prefix(self.name());
        let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with(&prefix))
            .map(Netns::named)
            .collect()
    }

    // ---- building ----------------------------------------------------------------------------------------------

    fn build(&self, spec: &LabSpec, tools: &Tools, progress: &mut dyn Progress) -> Result<()> {
        progress.begin(1 + usize::from(spec.controllers) + 2 * usize::from(spec.hypervisors));
        progress.step("networks");
        self.build_net(spec)?;
        for n in 1..=spec.controllers {
            let node = Node::Controller(n);
            progress.step(&format!("{node}"));
            self.make_node(node)?;
            self.cable(spec, node, Link::Management)?;
        }
        self.spawn_controllers(spec, tools)?;
        for n in 1..=spec.hypervisors {
            progress.step(&format!("{}", Node::Hypervisor(n)));
            self.build_hypervisor(spec, tools, n)?;
        }
        for n in 1..=spec.hypervisors {
            if spec.programs.is_some() {
                progress.step(&format!("{}", Daemon::Agent(n)));
                self.launch(spec, tools, Daemon::Agent(n))?;
            }
        }
        self.0.file.record(|state| {
            state.phase = Phase::Up;
            Ok(())
        })
    }

    fn build_net(&self, spec: &LabSpec) -> Result<()> {
        self.make_node(Node::Net)?;
        let netns = self.netns(Node::Net);
        // The bridges only carry frames; an address of their own would answer for hosts it is not.
        netns.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        for link in [Link::Management, Link::Underlay, Link::Physical] {
            let bridge = link.bridge();
            netns.ip(&[
                &format!("link add name {bridge} type bridge mcast_snooping 0"),
                &format!("link set {bridge} mtu {} up", spec.mtu),
            ])?;
        }
        let address = Node::Net.management_address();
        netns.ip(&[&format!("addr add {address}/16 dev {}", Link::Management.bridge())])
    }

    fn build_hypervisor(&self, spec: &LabSpec, tools: &Tools, n: u16) -> Result<()> {
        let hypervisor = Hypervisor::new(self.clone(), n);
        self.make_node(hypervisor.node())?;
        for link in [Link::Management, Link::Underlay, Link::Physical] {
            self.cable(spec, hypervisor.node(), link)?;
        }
        Cmd::new(["ovsdb-tool", "create"]).arg(self.folders().ovsdb_file(n)).arg(&tools.schema).check()?;
        self.launch(spec, tools, Daemon::OvsdbServer(n))?;
        hypervisor.write_host_facts(spec)?;
        self.launch(spec, tools, Daemon::Vswitchd(n))?;
        hypervisor.add_host_bridges(spec)?;
        hypervisor.configure_host(spec)
    }

    fn make_node(&self, node: Node) -> Result<()> {
        self.make_netns(&self.netns(node))?;
        let folder = self.folders().node(node);
        fs::create_dir_all(&folder).doing(|| format!("make {}", folder.display()))
    }

    /// Records a namespace, then makes it.
    pub(crate) fn make_netns(&self, netns: &Netns) -> Result<()> {
        if netns.exists() {
            let hint = "it was not made by this lab; delete it with `ip netns del`";
            return Err(Error::Exists { what: "namespace", name: netns.name().into(), hint });
        }
        self.0.file.record(|state| {
            state.namespaces.push(netns.clone());
            Ok(())
        })?;
        netns.create()
    }

    /// A veth pair from a bridge of the net namespace to a node.
    fn cable(&self, spec: &LabSpec, node: Node, link: Link) -> Result<()> {
        let (near, far) = (node.near_link(link), link.interface());
        self.cable_to(spec, &near, &self.netns(node), far, link)?;
        let netns = self.netns(node);
        if link == Link::Management {
            let address = node.management_address();
            netns.ip(&[&format!("addr add {address}/16 dev {far}")])?;
        } else if spec.datapath == Datapath::Netdev {
            // An address of its own would answer beside the one on OVS's bridge.
            netns.sysctl(&format!("net/ipv6/conf/{far}/disable_ipv6"), "1")?;
        }
        netns.ip(&[&format!("link set {far} up")])
    }

    pub(crate) fn cable_to(
        &self,
        spec: &LabSpec,
        near: &str,
        netns: &Netns,
        far: &str,
        link: Link,
    ) -> Result<()> {
        let (net, mtu) = (self.netns(Node::Net), spec.mtu);
        net.ip(&[
            &format!(
                "link add name {near} mtu {mtu} type veth peer name {far} mtu {mtu} netns {}",
                netns.name()
            ),
            &format!("link set {near} master {} up", link.bridge()),
        ])?;
        if link != Link::Management {
            net.offload_off(near)?;
            netns.offload_off(far)?;
        }
        Ok(())
    }

    fn spawn_controllers(&self, spec: &LabSpec, tools: &Tools) -> Result<()> {
        let mut controllers = (1..=spec.controllers).map(Daemon::Controller);
        controllers.clone().try_for_each(|daemon| self.spawn(spec, tools, daemon))?;
        controllers.try_for_each(|daemon| self.wait_ready(daemon))
    }

    /// Starts a daemon and waits until it is ready.
    fn launch(&self, spec: &LabSpec, tools: &Tools, daemon: Daemon) -> Result<()> {
        self.spawn(spec, tools, daemon)?;
        self.wait_ready(daemon)
    }

    /// Records a daemon, starts it, completes the record.
    fn spawn(&self, spec: &LabSpec, tools: &Tools, daemon: Daemon) -> Result<()> {
        let record = launch::record(spec, tools, self.folders(), daemon)?;
        let started = self.0.file.record(|state| {
            if state.processes.get(&daemon.to_string()).is_some_and(|old| old.alive()) {
                let hint = "stop it first";
                return Err(Error::Exists { what: "running daemon", name: daemon.to_string(), hint });
            }
            state.processes.insert(daemon.to_string(), record);
            Ok(())
        });
        started?;
        // Under the lab's lock: `down` sees the daemon either not started yet, or with its id.
        self.0.file.record(|state| {
            let known = join(state.processes.keys());
            let record = state.processes.get_mut(&daemon.to_string());
            let missing = || Error::Unknown { what: "daemon", name: daemon.to_string(), known };
            self.0.children.keep(record.ok_or_else(missing)?.spawn()?);
            Ok(())
        })
    }

    fn wait_ready(&self, daemon: Daemon) -> Result<()> {
        let record = self.process(daemon)?;
        let mut died = false;
        let waited = wait_ok(READY_WITHIN, &format!("{daemon} to be ready"), || {
            self.0.children.reap();
            if !record.alive() {
                died = true;
                return Ok(());
            }
            self.ready(daemon).map_err(|why| format!("{why}; the end of its log:\n{}", record.log_tail(20)))
        });
        match waited {
            Ok(()) if died => Err(Error::Died { process: daemon.to_string(), log: record.log_tail(40) }),
            other => other,
        }
    }

    fn ready(&self, daemon: Daemon) -> Result<(), String> {
        let connects = |address: SocketAddr| {
            let connect = move || TcpStream::connect_timeout(&address, CONNECT_WITHIN).map(drop);
            let tried = self.netns(daemon.node()).within(connect).map_err(|error| error.to_string())?;
            tried.map_err(|error| format!("cannot connect to {address}: {error}"))
        };
        // That the file is there says nothing: a daemon that was killed leaves it behind.
        let listens = |path: PathBuf| {
            let tried = std::os::unix::net::UnixStream::connect(&path);
            tried.map(drop).map_err(|error| format!("cannot connect to {}: {error}", path.display()))
        };
        match daemon {
            Daemon::OvsdbServer(n) => listens(self.folders().ovsdb_socket(n)),
            Daemon::Vswitchd(n) => listens(self.folders().vswitchd_unixctl(n)),
            Daemon::Controller(n) => {
                connects(launch::api_address(n)).and_then(|()| listens(self.api_socket(n)))
            }
            Daemon::Agent(n) => {
                launch::metrics_address(daemon).map_or(Ok(()), connects)?;
                let hypervisor = Hypervisor::new(self.clone(), n);
                let bridges = hypervisor.ovs_vsctl(["list-br"]).map_err(|error| error.to_string())?;
                bridges
                    .lines()
                    .any(|line| line == "br-int")
                    .then_some(())
                    .ok_or_else(|| "no br-int yet".into())
            }
        }
    }

    pub(crate) fn folders(&self) -> Folders<'_> {
        Folders(self.folder())
    }

    pub(crate) fn state(&self) -> Result<State> {
        self.0.file.read()
    }

    pub(crate) fn file(&self) -> &StateFile {
        &self.0.file
    }

    fn process(&self, daemon: Daemon) -> Result<crate::process::ProcessRecord> {
        let mut processes = self.state()?.processes;
        let name = daemon.to_string();
        let known = join(processes.keys());
        match processes.remove(&name) {
            Some(record) => Ok(record),
            None => Err(Error::Unknown { what: "daemon", name, known }),
        }
    }
}

fn require_root() -> Result<()> {
    match nix::unistd::geteuid() {
        uid if uid.is_root() => Ok(()),
        uid => Err(Error::NotRoot { uid: uid.as_raw() }),
    }
}

/// A path of a Unix socket has at most 107 bytes; the longest ours get is a bridge's control socket.
fn short_enough(folder: &Path) -> Result<()> {
    if folder.as_os_str().len() <= FOLDER_BYTES_MAX {
        return Ok(());
    }
    let rule = format!("at most {FOLDER_BYTES_MAX} bytes, because sockets lie in it; choose a shorter one");
    Err(Error::Invalid { what: "lab folder", value: folder.display().to_string(), rule })
}

const BUILD_LOCK: &str = "build.lock";
const FOLDER_BYTES_MAX: usize = 107 - "/controller1/br-int.snoop.mgmt".len();
const READY_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(20);
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
const METRICS_WITHIN: Duration = Duration::from_secs(5);
