//! `quantumnet-bench`: the numbers QuantumNet promises, measured; beside real OVN and ovs-ofctl where they are needed.
//!
//! # Contract
//! - Prints Markdown tables with the target of each figure; judges nothing but that the work was done.
//! - What is compared is measured in one run, in turns. Needs root.

mod acl;
mod bind;
mod client;
mod cold;
mod compile;
mod failover;
mod footprint;
mod latency;
mod northbound;
mod ovn;
mod report;
mod routes;
mod scale;
mod transact;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::northbound::Size;

/// Measures QuantumNet.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Folder of quantumnet-controller and quantumnet-agent; that of this program when not given.
    #[arg(long)]
    programs: Option<PathBuf>,
    #[command(subcommand)]
    what: Measurement,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// One port: API acknowledged to flows in both switches, beside OVN's --wait=hv (ovn-central, ovn-host).
    Latency {
        /// Ports made in each system.
        #[arg(long, default_value_t = 50)]
        rounds: usize,
    },
    /// One port's change in the compiler.
    Compile {
        /// Ports of the models.
        #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
        ports: Vec<u32>,
        /// Changes made in each.
        #[arg(long, default_value_t = 500)]
        changes: usize,
    },
    /// Many ACLs over large sets: flows, memory, and one change until the switch has it.
    Acl {
        /// ACLs of one group.
        #[arg(long, default_value_t = 3_500)]
        rules: u32,
        /// Groups of a hundred ACLs.
        #[arg(long, default_value_t = 1_000)]
        groups: u32,
        /// Ports of m2's network.
        #[arg(long, default_value_t = 10_000)]
        ports: u32,
        /// Changes of each kind.
        #[arg(long, default_value_t = 200)]
        changes: u32,
    },
    /// Many flows into an empty switch, beside ovs-ofctl.
    Cold {
        /// Flows.
        #[arg(long, default_value_t = 100_000)]
        flows: u32,
        /// Rounds of each.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// One OVSDB transaction on the leader, before the log.
    Transact {
        /// Ports in the switch.
        #[arg(long, value_delimiter = ',', default_values_t = [100, 50_000])]
        ports: Vec<u32>,
        /// Transactions of each kind.
        #[arg(long, default_value_t = 2_000)]
        rounds: usize,
    },
    /// Processor and memory of idle daemons.
    Footprint {
        /// How long to look.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// Time without a write when the leader of three controllers is killed.
    Failover {
        /// How often.
        #[arg(long, default_value_t = 20)]
        kills: usize,
    },
    /// Transactions a second and the initial dump of one member, beside ovsdb-server.
    Northbound {
        /// Rounds of each.
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// How long a round of transactions lasts.
        #[arg(long, default_value_t = 2)]
        seconds: u64,
        /// Ports of the dump, in switches of 50.
        #[arg(long, default_value_t = 20_000)]
        ports: u32,
    },
    /// Many ports loaded by an OVSDB client; one port more on two hypervisors.
    Scale {
        /// Ports, in switches of 50.
        #[arg(long, value_delimiter = ',', default_values_t = [1_000, 20_000])]
        ports: Vec<u32>,
        /// Ports added one by one afterwards.
        #[arg(long, default_value_t = 50)]
        adds: usize,
    },
    /// A router with many ports and routes; one route more or less.
    Routes {
        /// Ports of the router.
        #[arg(long, default_value_t = 1_000)]
        ports: u32,
        /// Its routes.
        #[arg(long, default_value_t = 10_000)]
        routes: u32,
        /// Changes of each kind.
        #[arg(long, default_value_t = 50)]
        changes: u32,
    },
    /// Binds ports, given as JSON {port: chassis} on standard input, to hypervisors that do not exist; for `shared/perf`.
    #[command(hide = true)]
    Bind {
        /// Address of the controller's API.
        controller: SocketAddr,
        /// Address of its southbound database.
        southbound: SocketAddr,
    },
    /// All of them with their defaults.
    All,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let programs = match cli.programs {
        Some(folder) => folder,
        None => {
            let own = std::env::current_exe().context("finding the folder of quantumnet-bench")?;
            own.parent().context("quantumnet-bench is in no folder")?.to_owned()
        }
    };
    let programs = programs.canonicalize().with_context(|| format!("the folder {}", programs.display()))?;
    match cli.what {
        Measurement::Latency { rounds } => latency::run(&programs, rounds).await,
        Measurement::Compile { ports, changes } => compile::run(&ports, changes),
        Measurement::Acl { rules, groups, ports, changes } => acl::run(rules, groups, ports, changes),
        Measurement::Cold { flows, rounds } => cold::run(flows, rounds),
        Measurement::Transact { ports, rounds } => transact::run(&ports, rounds),
        Measurement::Footprint { seconds } => footprint::run(&programs, seconds).await,
        Measurement::Failover { kills } => failover::run(&programs, kills),
        Measurement::Northbound { rounds, seconds, ports } => {
            let round = Duration::from_secs(seconds);
            northbound::run(&programs, Size { rounds, round, switches: ports / 50, ports })
        }
        Measurement::Scale { ports, adds } => scale::run(&programs, &ports, adds),
        Measurement::Routes { ports, routes, changes } => {
            routes::run(&programs, ports, routes, changes).await
        }
        Measurement::Bind { controller, southbound } => bind::run(controller, southbound).await,
        Measurement::All => {
            latency::run(&programs, 50).await?;
            compile::run(&[1_000, 10_000], 500)?;
            acl::run(3_500, 1_000, 10_000, 200)?;
            cold::run(100_000, 5)?;
            transact::run(&[100, 50_000], 2_000)?;
            footprint::run(&programs, 20).await?;
            let round = Duration::from_secs(2);
            northbound::run(&programs, Size { rounds: 7, round, switches: 400, ports: 20_000 })?;
            scale::run(&programs, &[1_000, 20_000], 50)?;
            routes::run(&programs, 1_000, 10_000, 50).await?;
            failover::run(&programs, 20)
        }
    }
}
