//! `qnctl lab`: a whole cluster in network namespaces of this machine. Thin over the testbed crate.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use quantumnet_testbed::{Daemon, Lab, LabSpec, Link, Node, Programs, Progress, Signal, Underlay, mac_of};
use serde_json::{Value, json};

use quantumnet_cli::client::{Address, Client};

use crate::{kind::Kind, show::table};

/// `qnctl lab …`.
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Build a lab: controllers, and hypervisors with an Open vSwitch each. Needs root.
    Up(Up),
    /// What the lab is made of and what of it runs.
    Status {
        /// Name of the lab.
        #[arg(long, default_value = "default")]
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run a command in a node (controller1, hv1 …) or a VM of the lab.
    Exec {
        /// Name of the lab.
        #[arg(long, default_value = "default")]
        name: String,
        /// Node or VM.
        place: String,
        /// The command with its arguments.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Make a VM (a namespace with one interface) and plug it into a port.
    AddVm {
        /// Name of the lab.
        #[arg(long, default_value = "default")]
        name: String,
        /// Number of the hypervisor, from 1.
        #[arg(long)]
        hypervisor: u16,
        /// Name or id of the port.
        #[arg(long)]
        port: String,
        /// Project of the port.
        #[arg(long, default_value = "default")]
        project: String,
        /// Do not ask for an address by DHCP.
        #[arg(long)]
        no_dhcp: bool,
        /// Name of the VM.
        vm: String,
    },
    /// Make a host on the physical network, outside of all networks of the lab.
    AddOutside {
        /// Name of the lab.
        #[arg(long, default_value = "default")]
        name: String,
        /// VLAN of the physical network that the host is in; untagged when not given.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4094))]
        vlan: Option<u16>,
        /// An address of the host, such as 203.0.113.1/24; may be repeated.
        #[arg(long = "address", required = true)]
        addresses: Vec<String>,
        /// Name of the host.
        host: String,
    },
    /// Remove a VM, or a host on the physical network.
    RemoveVm {
        /// Name of the lab.
        #[arg(long, default_value = "default")]
        name: String,
        /// Name of the VM.
        vm: String,
    },
    /// Move a VM to another hypervisor.
    MoveVm {
        /// Name of the lab.
        #[arg(long, default_value = "default")]
        name: String,
        /// Number of the hypervisor, from 1.
        #[arg(long)]
        hypervisor: u16,
        /// Name of the VM.
        vm: String,
    },
    /// End a daemon (controller1, agent2, vswitchd1 …) and leave it down.
    Stop {
        /// Name of the lab.
        #[arg(long, default_value = "default")]
        name: String,
        /// Kill it, as a crash would, instead of asking it to end.
        #[arg(long)]
        kill: bool,
        /// The daemon, or `leader` for the controller that leads.
        daemon: String,
    },
    /// Start a daemon that does not run.
    Start {
        /// Name of the lab.
        #[arg(long, default_value = "default")]
        name: String,
        /// The daemon.
        daemon: String,
    },
    /// Pull a node's cable to a network, or put it back.
    Link {
        /// Name of the lab.
        #[arg(long, default_value = "default")]
        name: String,
        /// controllerN or hvN.
        node: String,
        /// management, underlay or physical.
        #[arg(value_parser = link)]
        network: Link,
        /// up or down.
        #[arg(value_parser = ["up", "down"])]
        state: String,
    },
    /// Remove a lab and everything in it. Fine to repeat.
    Down {
        /// Name of the lab.
        #[arg(long, default_value = "default")]
        name: String,
    },
    /// Names of the labs on this machine.
    List,
}

/// What `qnctl lab up` takes.
#[derive(Args, Debug)]
pub(crate) struct Up {
    /// Name of the lab; several may exist side by side.
    #[arg(long, default_value = "default")]
    name: String,
    /// Controllers, which form one cluster; an odd number.
    #[arg(long, default_value_t = 1, value_parser = controllers)]
    controllers: u16,
    /// Hypervisors.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=200))]
    hypervisors: u16,
    /// IP version of the network that carries the tunnels: ipv4, ipv6 or dual.
    #[arg(long, default_value = "ipv4", value_parser = underlay)]
    underlay: Underlay,
    /// MTU of that network.
    #[arg(long, default_value_t = LabSpec::default().mtu)]
    mtu: u32,
    /// Folder of quantumnet-controller and quantumnet-agent; that of qnctl when not given.
    #[arg(long)]
    programs: Option<PathBuf>,
}

/// Runs a lab command.
pub(crate) async fn run(command: LabCommand) -> Result<()> {
    match command {
        LabCommand::Up(up) => build(&up),
        LabCommand::Status { name, json } => status(&name, json),
        LabCommand::Exec { name, place, command } => {
            let code = exec(&name, &place, &command)?;
            // The command's own status is the answer; nothing is left to clean up here.
            std::process::exit(code)
        }
        LabCommand::AddVm { name, hypervisor, port, project, no_dhcp, vm } => {
            add_vm(&name, hypervisor, &port, &project, !no_dhcp, &vm).await
        }
        LabCommand::AddOutside { name, vlan, addresses, host } => add_outside(&name, vlan, &addresses, &host),
        LabCommand::RemoveVm { name, vm } => Ok(Lab::open(&name)?.remove_vm(&vm)?),
        LabCommand::MoveVm { name, hypervisor, vm } => Ok(Lab::open(&name)?.move_vm(&vm, hypervisor)?),
        LabCommand::Stop { name, kill, daemon } => stop(&Lab::open(&name)?, kill, &daemon),
        LabCommand::Start { name, daemon } => Ok(Lab::open(&name)?.start(daemon.parse()?)?),
        LabCommand::Link { name, node, network, state } => {
            Ok(Lab::open(&name)?.set_link(node.parse::<Node>()?, network, state == "up")?)
        }
        LabCommand::Down { name } => match Lab::open(&name) {
            Ok(lab) => Ok(lab.down()?),
            // Gone is what was asked for.
            Err(_) if !Lab::list()?.contains(&name) => {
                println!("there is no lab {name}");
                Ok(())
            }
            Err(error) => Err(error.into()),
        },
        LabCommand::List => {
            for name in Lab::list()? {
                println!("{name}");
            }
            Ok(())
        }
    }
}

/// The APIs of a lab's controllers.
pub(crate) fn addresses(name: &str) -> Result<Vec<Address>> {
    let lab = Lab::open(name)?;
    let controllers = lab.spec()?.controllers;
    Ok((1..=controllers).map(|n| Address::Unix(lab.api_socket(n))).collect())
}

fn build(up: &Up) -> Result<()> {
    let programs = match &up.programs {
        Some(folder) => folder.canonicalize().with_context(|| format!("the folder {}", folder.display()))?,
        None => {
            let own = std::env::current_exe().context("finding the folder of qnctl")?;
            own.parent().context("qnctl is in no folder")?.to_owned()
        }
    };
    let spec = LabSpec {
        name: up.name.clone(),
        controllers: up.controllers,
        hypervisors: up.hypervisors,
        underlay: up.underlay,
        mtu: up.mtu,
        programs: Some(Programs::in_folder(programs)),
        ..LabSpec::default()
    };
    let mut bar = Bar(ProgressBar::hidden());
    let lab = Lab::up(&spec, &mut bar)?;
    bar.0.finish_and_clear();
    let leader = lab.wait_leader(LEADER_WITHIN)?;
    let controllers = match up.controllers {
        1 => "1 controller".to_owned(),
        several => format!("{several} controllers, of which controller{leader} leads"),
    };
    println!("lab {} is up: {controllers}, {} hypervisors", up.name, up.hypervisors);
    println!("  qnctl --lab {} status", up.name);
    println!("  files and logs in {}", lab.folder().display());
    Ok(())
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn begin(&mut self, steps: usize) {
        self.0 = ProgressBar::new(steps as u64);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
        self.0.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    }

    fn step(&mut self, what: &str) {
        self.0.set_message(what.to_owned());
        self.0.inc(1);
    }
}

fn status(name: &str, as_json: bool) -> Result<()> {
    let lab = Lab::open(name)?;
    let status = lab.status()?;
    if as_json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        println!("lab {} is {:?}, in {}", status.name, status.phase, status.folder);
        let leader = lab.leader()?.map(Daemon::Controller);
        let mut rows = Vec::new();
        for node in &status.nodes {
            let state = if node.exists { "up" } else { "missing" };
            rows.push(vec![
                node.name.clone(),
                state.to_owned(),
                node.address.clone(),
                node.tunnel_addresses.join(","),
            ]);
        }
        for daemon in &status.daemons {
            let leads = leader.is_some_and(|leader| daemon.name == leader.to_string());
            let state = match (daemon.alive, leads) {
                (true, true) => "up, leads",
                (true, false) => "up",
                (false, _) => "down",
            };
            let pid = daemon.pid.map_or_else(|| "-".to_owned(), |pid| format!("pid {pid}"));
            rows.push(vec![daemon.name.clone(), state.to_owned(), pid, daemon.log.clone()]);
        }
        for vm in &status.vms {
            rows.push(vec![
                format!("VM {}", vm.name),
                format!("{:?}", vm.place),
                vm.mac.clone(),
                vm.iface_id.clone(),
            ]);
        }
        let header = ["WHAT", "STATE", "WHERE", "MORE"].map(str::to_owned).to_vec();
        print!("{}", table(header, rows));
    }
    if !status.healthy() {
        bail!("something of lab {name} is missing or does not run");
    }
    Ok(())
}

fn stop(lab: &Lab, kill: bool, daemon: &str) -> Result<()> {
    let daemon = match daemon {
        "leader" => Daemon::Controller(lab.leader()?.context("no controller leads")?),
        name => name.parse()?,
    };
    lab.stop(daemon, if kill { Signal::SIGKILL } else { Signal::SIGTERM })?;
    println!("{daemon} is down");
    Ok(())
}

fn exec(name: &str, place: &str, command: &[String]) -> Result<i32> {
    let lab = Lab::open(name)?;
    // Terminal and signals are the command's own, so this does not go through the testbed's capture.
    let mut command = lab.command(place, command)?.to_std()?;
    let status = command.status().with_context(|| format!("running a command in {place}"))?;
    Ok(status.code().unwrap_or(SIGNALLED))
}

async fn add_vm(name: &str, hypervisor: u16, port: &str, project: &str, dhcp: bool, vm: &str) -> Result<()> {
    let client = Client::new(addresses(name)?, None);
    let kind = Kind::find("port").map_err(anyhow::Error::msg)?;
    let object =
        client.call(kind.service, "GetPort", &json!({ "port": kind.reference(port, project) })).await?;
    let text = |place: &str| object.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (id, mac) = (text("/meta/id"), text("/status/mac"));
    let lab = Lab::open(name)?;
    let made = lab.add_vm(hypervisor, vm, &id, &mac)?;
    println!("VM {vm} is plugged into hv{hypervisor} as port {port} ({mac})");
    if dhcp {
        wait_until_up(&client, &id).await?;
        let lease = made.dhcp(&Default::default())?;
        let mtu = lease.mtu.map_or_else(|| "default".to_owned(), |mtu| mtu.to_string());
        println!("VM {vm} has the lease {}/{}, MTU {mtu}", lease.ip, lease.prefix);
    }
    Ok(())
}

fn add_outside(name: &str, vlan: Option<u16>, addresses: &[String], host: &str) -> Result<()> {
    let lab = Lab::open(name)?;
    let mac = mac_of(host);
    let made = match vlan {
        Some(vlan) => lab.add_outside_in(vlan, host, &mac)?,
        None => lab.add_outside(host, &mac)?,
    };
    if let Err(error) = addresses.iter().try_for_each(|address| made.add_address(address)) {
        lab.remove_vm(host)?;
        return Err(error.into());
    }
    let place = vlan.map_or_else(String::new, |vlan| format!(" in VLAN {vlan}"));
    println!("{host} is on the physical network{place} with {}", addresses.join(" and "));
    Ok(())
}

/// Asks until the port's flows are in the switch.
async fn wait_until_up(client: &Client, id: &str) -> Result<()> {
    let deadline = tokio::time::Instant::now() + UP_WITHIN;
    loop {
        let port = client.call("PortService", "GetPort", &json!({ "port": { "id": id } })).await?;
        if port.pointer("/status/up") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            bail!(
                "port {id} is not up after {} s; see `qnctl describe port {id}` and `qnctl problems`",
                UP_WITHIN.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn underlay(word: &str) -> Result<Underlay, String> {
    match word {
        "ipv4" => Ok(Underlay::Ipv4),
        "ipv6" => Ok(Underlay::Ipv6),
        "dual" => Ok(Underlay::Dual),
        _ => Err("ipv4, ipv6 or dual".to_owned()),
    }
}

fn link(word: &str) -> Result<Link, String> {
    match word {
        "management" => Ok(Link::Management),
        "underlay" => Ok(Link::Underlay),
        "physical" => Ok(Link::Physical),
        _ => Err("management, underlay or physical".to_owned()),
    }
}

/// An even number of members survives no more losses than the odd one below it.
fn controllers(word: &str) -> Result<u16, String> {
    match word.parse() {
        Ok(n @ (1 | 3 | 5)) => Ok(n),
        _ => Err("1, 3 or 5".to_owned()),
    }
}

const LEADER_WITHIN: Duration = Duration::from_secs(15);
const UP_WITHIN: Duration = Duration::from_secs(15);

/// Exit status for a command that a signal ended.
const SIGNALLED: i32 = 128;
