//! `quantumnet-agent`.

use std::io::IsTerminal;

use anyhow::Context;
use clap::Parser;
use quantumnet_dataplane::{config::Options, run};
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let levels = std::env::var("QUANTUMNET_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter =
        EnvFilter::try_new(&levels).with_context(|| format!("QUANTUMNET_LOG={levels:?} is no log filter"))?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("tokio runtime")?;
    runtime.block_on(run::run(options)).context("quantumnet-agent")
}
