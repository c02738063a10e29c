//! Hypervisors as network namespaces with real Open vSwitch, and VMs to try networks with.
//!
//! Used by `qnctl lab`, by scenario tests and by benches. Blocking, no runtime: calls return when the thing is done.
//!
//! ```no_run
//! use quantumnet_testbed::{LabGuard, LabSpec, PingOptions, Programs};
//!
//! # fn main() -> quantumnet_testbed::Result<()> {
//! let programs = Programs::in_folder("target/debug");
//! let lab = LabGuard::up(&LabSpec::with_programs("l2", 1, 2, programs))?;
//! // ... create network and ports through lab.api_socket(1) ...
//! let a = lab.add_vm(1, "a", "port-a", "02:00:00:00:00:0a")?;
//! let b = lab.add_vm(2, "b", "port-b", "02:00:00:00:00:0b")?;
//! let lease = a.dhcp(&Default::default())?;
//! b.dhcp(&Default::default())?;
//! assert!(b.ping(lease.ip.into(), &PingOptions::default())?.all_answered());
//! # Ok(())
//! # }
//! ```
//!
//! # Contract
//! - Needs root, iproute2, ethtool and Open vSwitch; what is missing is an error that names the package.
//! - The controller and the agent are programs to be started, named by path: this crate knows their command lines
//!   (`launch.rs`) and nothing else of them.
//!
//! # Invariants
//! - Nothing is made in the root namespace, and nothing is left after [`Lab::down`].
//! - No fixed pauses: everything waits for a condition with a deadline ([`wait_until`]).

mod api;
mod background;
mod capture;
mod cluster;
mod command;
mod dhcp;
mod dhcp_message;
mod error;
mod forward;
mod frames;
mod guard;
mod hypervisor;
mod lab;
mod launch;
mod netns;
mod ping;
mod probe;
mod process;
mod spec;
mod state;
mod status;
mod vm;
mod wait;
mod writes;

pub use nix::sys::signal::Signal;

pub use crate::{
    capture::Capture,
    cluster::Member,
    command::{Cmd, Output, find_program},
    dhcp::{DhcpClient, DhcpOptions, Lease},
    dhcp_message::{DhcpKind, DhcpReply, DhcpRequest},
    error::{Error, Result},
    forward::Forward,
    frames::Flood,
    guard::LabGuard,
    hypervisor::Hypervisor,
    lab::{Lab, Progress, Quiet, UpOptions},
    netns::Netns,
    ping::{PingOptions, PingResult},
    probe::{Probe, ProbeReport},
    spec::{
        AGENT_METRICS_PORT, API_PORT, CONTROLLER_METRICS_PORT, Daemon, Datapath, LabSpec, Link, NB_PORT,
        Node, PEER_PORT, PHYSICAL_NETWORK, Programs, SB_PORT, Underlay,
    },
    state::{Phase, Registry},
    status::{DaemonStatus, LabStatus, NodeStatus, VmStatus},
    vm::{Place, Vm, VmSpec, mac_of},
    wait::{wait_for, wait_ok, wait_until},
    writes::{Writes, Written},
};
