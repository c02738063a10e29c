//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;

/// A member of the QuantumNet controller cluster: the replicated store and the APIs.
#[derive(Clone, Debug, Parser)]
#[command(name = "quantumnet-controller", version)]
pub struct Config {
    /// Directory of the log and the snapshots; made if it is missing. Belongs to one member.
    #[arg(long, env = "QUANTUMNET_DATA_DIR", default_value = "/var/lib/quantumnet/controller")]
    pub data_dir: PathBuf,

    /// Number of this member, from 1; never given to another member later.
    #[arg(long, env = "QUANTUMNET_MEMBER_ID", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub member_id: u64,

    /// Address of the gRPC and JSON API and of the agents' streams; may be given several times. Whoever reaches it
    /// administers the network: keep it on loopback or on the management network.
    #[arg(long, env = "QUANTUMNET_LISTEN", default_value = "127.0.0.1:9640", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,

    /// Path of a unix socket with the same API, for users of this machine; its mode is 0660.
    #[arg(long, env = "QUANTUMNET_LISTEN_UNIX")]
    pub listen_unix: Option<PathBuf>,

    /// Address of the Prometheus endpoint `/metrics`.
    #[arg(long, env = "QUANTUMNET_METRICS", default_value = "127.0.0.1:9641")]
    pub metrics: SocketAddr,
}
