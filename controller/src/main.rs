//! `quantumnet-controller`: a member of the controller cluster.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::Parser as _;
use quantumnet_controller::{config::Config, controller::Controller};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Transactions make many small objects, and free them on other threads: glibc's took a fifth of their time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let levels = std::env::var("QUANTUMNET_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter =
        EnvFilter::try_new(&levels).with_context(|| format!("QUANTUMNET_LOG={levels:?} is no log filter"))?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(run(&config))
}

async fn run(config: &Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let controller = Controller::start(config).await?;
    tracing::info!(
        member = config.member_id,
        listen = ?config.listen,
        data_dir = %config.data_dir.display(),
        revision = controller.replica().state().revision(),
        "controller serves"
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("controller stops");
    controller.hand_over().await;
    controller.stop().await;
    Ok(())
}
