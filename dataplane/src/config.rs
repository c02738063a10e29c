//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use ovsdb::net::Target;

use crate::error::AgentError;

/// QuantumNet's agent of one hypervisor.
#[derive(Clone, Debug, Parser)]
#[command(name = "quantumnet-agent", version)]
pub struct Options {
    /// Open vSwitch's database, as unix:PATH or tcp:IP:PORT.
    #[arg(long, default_value = "unix:/var/run/openvswitch/db.sock")]
    pub ovsdb: Target,
    /// Controllers, as http://IP:PORT; external_ids:quantumnet-remote otherwise.
    #[arg(long, value_delimiter = ',')]
    pub controller: Vec<String>,
    /// Where ovs-vswitchd has its sockets; the folder of the database's socket otherwise.
    #[arg(long)]
    pub run_dir: Option<PathBuf>,
    /// Where the agent keeps what it must not forget.
    #[arg(long, default_value = "/var/lib/quantumnet/agent")]
    pub state_dir: PathBuf,
    /// Where Prometheus finds /metrics.
    #[arg(long, default_value = "127.0.0.1:9476")]
    pub metrics: SocketAddr,
}

impl Options {
    /// The folder of ovs-vswitchd's sockets.
    pub fn run_dir(&self) -> Result<PathBuf, AgentError> {
        match (&self.run_dir, &self.ovsdb) {
            (Some(folder), _) => Ok(folder.clone()),
            (None, Target::Unix(path)) => path.parent().map(PathBuf::from).ok_or(AgentError::NoRunDir),
            (None, Target::Tcp(_)) => Err(AgentError::NoRunDir),
        }
    }
}
