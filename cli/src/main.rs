//! `qnctl`: the person's tool for QuantumNet.
//!
//! # Contract
//! - Speaks to a controller only through its API (`client.rs`); kinds of objects are data (`kind.rs`).
//! - Exit status 0 when everything asked for was done, 1 with a message on standard error otherwise.

mod apply;
mod counters;
mod document;
mod explain;
mod features;
mod import;
mod kind;
mod lab;
mod rows;
mod show;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{CommandFactory, Parser, Subcommand};
use quantumnet_cli::client::{Address, Client};
use serde_json::{Value, json};

use crate::{features::Features, kind::Kind, show::Format};

/// Networks for hypervisors: apply, look, explain.
#[derive(Debug, Parser)]
#[command(name = "qnctl", version)]
struct Cli {
    /// Controllers, separated by commas, each http://HOST:PORT or unix:PATH; the first that answers is asked.
    #[arg(
        long,
        global = true,
        env = "QUANTUMNET_CONTROLLER",
        default_value = "http://127.0.0.1:9640",
        value_delimiter = ','
    )]
    controller: Vec<Address>,
    /// Speak to the controllers of this lab instead.
    #[arg(long, global = true, env = "QUANTUMNET_LAB")]
    lab: Option<String>,
    /// On whose behalf.
    #[arg(long, global = true, env = "QUANTUMNET_PRINCIPAL")]
    principal: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make objects be as a file says; shows the difference first.
    Apply {
        /// YAML file, `-` for standard input.
        #[arg(short, long)]
        file: String,
        /// Project of objects that name none.
        #[arg(short, long, default_value = "default")]
        project: String,
        /// Show the difference and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Return once every hypervisor has it in its switch.
        #[arg(long)]
        wait: bool,
    },
    /// List objects of a kind or rows of a table, or show one.
    Get {
        /// project, network, port, router, floatingip or node; or a table of OVN's databases, such as switches or Logical_Router_Port.
        kind: String,
        /// Name or id.
        name: Option<String>,
        /// Project to look in; with a list, empty means all.
        #[arg(short, long)]
        project: Option<String>,
        /// Conditions as `labels.role=web,network=blue`.
        #[arg(short = 'l', long, default_value = "")]
        filter: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Everything about one object.
    Describe {
        /// project, network, port, router, floatingip or node.
        kind: String,
        /// Name or id.
        name: String,
        /// Project to look in.
        #[arg(short, long, default_value = "default")]
        project: String,
    },
    /// Delete one object, or those that a file names.
    Delete {
        /// project, network, port, router, floatingip or node.
        #[arg(required_unless_present = "file")]
        kind: Option<String>,
        /// Name or id.
        #[arg(required_unless_present = "file")]
        name: Option<String>,
        /// YAML file, `-` for standard input.
        #[arg(short, long, conflicts_with_all = ["kind", "name"])]
        file: Option<String>,
        /// Project to look in.
        #[arg(short, long, default_value = "default")]
        project: String,
        /// Say what would go and delete nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Let only one hypervisor hold a port.
    Bind {
        /// Name or id of the port.
        port: String,
        /// System-id or hostname of the hypervisor.
        host: String,
        /// Project of the port.
        #[arg(short, long, default_value = "default")]
        project: String,
    },
    /// Let any hypervisor hold a port again.
    Unbind {
        /// Name or id of the port.
        port: String,
        /// Project of the port.
        #[arg(short, long, default_value = "default")]
        project: String,
    },
    /// How often rules were met, and when last: of a security group, a policy, a project, or all.
    Rules(counters::RulesCommand),
    /// What is dropped, by which rule or for which reason.
    Drops(counters::DropsCommand),
    /// The cluster, its hypervisors and what is wrong.
    Status {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
        /// Print only the number of the controller that leads; fail when none does.
        #[arg(long)]
        leader: bool,
    },
    /// What would become of a packet: the switches on its way are asked, nothing is sent.
    Trace(explain::Trace),
    /// Which rule decides about a packet, and what to change.
    Why(explain::Packet),
    /// Which ports and addresses may reach a port, by the rules.
    WhoCanReach(explain::WhoCanReach),
    /// Rows that have no effect or set what nothing acts on yet, and why.
    Problems,
    /// What of OVN's northbound database is acted on.
    Features {
        /// Only those that are so far.
        #[arg(long, value_enum)]
        state: Option<features::State>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Take over the database of another installation.
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// A cluster on this machine, to try things with.
    #[command(subcommand)]
    Lab(lab::LabCommand),
    /// Shell completion.
    Completion {
        /// bash, zsh, fish …
        shell: clap_complete::Shell,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qnctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    let addresses = match &cli.lab {
        Some(name) if !matches!(cli.command, Command::Lab(_)) => lab::addresses(name)?,
        _ => cli.controller,
    };
    let client = Client::new(addresses, cli.principal);
    match cli.command {
        Command::Apply { file, project, dry_run, wait } => {
            let documents = document::read(&file, &project)?;
            let outcome = apply::apply(&client, &documents, dry_run).await?;
            let mode = if dry_run { " (dry run: nothing was changed)" } else { "" };
            println!(
                "{} created, {} updated, {} unchanged{mode}",
                outcome.created, outcome.updated, outcome.unchanged
            );
            if wait && outcome.revision > 0 {
                wait_for(&client, outcome.revision).await?;
            }
            Ok(())
        }
        Command::Get { kind, name, project, filter, output } => {
            let Ok(kind) = Kind::find(&kind) else {
                if project.is_some() {
                    bail!("rows of OVN's tables belong to no project");
                }
                let table = rows::Table::find(&client, &kind).await?;
                print!("{}", table.show(&client, name.as_deref(), &filter, output).await?);
                return Ok(());
            };
            let text = match name {
                Some(name) => {
                    let object = fetch(&client, kind, &name, project.as_deref().unwrap_or("default")).await?;
                    show::one(kind, &object, output)?
                }
                None => {
                    show::list(kind, &fetch_all(&client, kind, project.as_deref(), &filter).await?, output)?
                }
            };
            print!("{text}");
            Ok(())
        }
        Command::Describe { kind, name, project } => {
            let kind = Kind::find(&kind).map_err(anyhow::Error::msg)?;
            let object = fetch(&client, kind, &name, &project).await?;
            print!("{}{}", show::describe(&object), counters::described(&client, kind, &object).await?);
            Ok(())
        }
        Command::Delete { file: Some(file), project, dry_run, .. } => {
            apply::delete(&client, &document::read(&file, &project)?, dry_run).await
        }
        Command::Delete { kind, name, project, dry_run, .. } => {
            let kind = Kind::find(&kind.unwrap_or_default()).map_err(anyhow::Error::msg)?;
            let name = name.unwrap_or_default();
            // Looked up first, so that a dry run and a wrong name say the same thing.
            fetch(&client, kind, &name, &project).await?;
            if !dry_run {
                let body = json!({ kind.field: kind.reference(&name, &project) });
                client.call(kind.service, &format!("Delete{}", kind.stem), &body).await?;
            }
            println!("- {} {name}", kind.name);
            Ok(())
        }
        Command::Bind { port, host, project } => {
            let kind = Kind::find("port").map_err(anyhow::Error::msg)?;
            let body = json!({ "port": kind.reference(&port, &project), "host": host });
            client.call(kind.service, "BindPort", &body).await?;
            println!("port {port} belongs on {host}");
            Ok(())
        }
        Command::Unbind { port, project } => {
            let kind = Kind::find("port").map_err(anyhow::Error::msg)?;
            client
                .call(kind.service, "UnbindPort", &json!({ "port": kind.reference(&port, &project) }))
                .await?;
            println!("port {port} may be on any hypervisor");
            Ok(())
        }
        Command::Status { leader: true, .. } => {
            let answer = client.call("ClusterService", "GetClusterStatus", &json!({})).await?;
            match answer["leaderId"].as_str() {
                Some(leader) => println!("{leader}"),
                None => bail!("no controller leads"),
            }
            Ok(())
        }
        Command::Status { output, leader: false } => status(&client, output).await,
        Command::Features { state, output } => {
            print!("{}", Features::fetch(&client).await?.show(state, output)?);
            Ok(())
        }
        Command::Trace(args) => explain::trace(&client, &args).await,
        Command::Why(packet) => explain::why(&client, &packet).await,
        Command::WhoCanReach(args) => explain::who_can_reach(&client, &args).await,
        Command::Import(command) => import::run(&client, command).await,
        Command::Problems => {
            let answer = client.call("ClusterService", "ListProblems", &json!({})).await?;
            print!("{}", problems(&answer));
            Ok(())
        }
        Command::Rules(command) => {
            print!("{}", counters::rules(&client, command).await?);
            Ok(())
        }
        Command::Drops(command) => counters::drops(&client, command).await,
        Command::Lab(command) => lab::run(command).await,
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "qnctl", &mut std::io::stdout());
            Ok(())
        }
    }
}

async fn fetch(client: &Client, kind: &Kind, name: &str, project: &str) -> Result<Value> {
    let body = json!({ kind.field: kind.reference(name, project) });
    Ok(client.call(kind.service, &format!("Get{}", kind.stem), &body).await?)
}

async fn fetch_all(client: &Client, kind: &Kind, project: Option<&str>, filter: &str) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    let mut token = String::new();
    loop {
        let options = json!({ "project": project.unwrap_or_default(), "filter": filter, "pageToken": token });
        let answer = client
            .call(kind.service, &format!("List{}", kind.plural()), &json!({ "options": options }))
            .await?;
        objects.extend(answer[kind.list_field].as_array().cloned().unwrap_or_default());
        match answer["nextPageToken"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => return Ok(objects),
        }
    }
}

async fn wait_for(client: &Client, revision: u64) -> Result<()> {
    let answer = client
        .call("ClusterService", "WaitForRevision", &json!({ "revision": revision.to_string() }))
        .await?;
    let behind: Vec<&str> =
        answer["behind"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !behind.is_empty() {
        bail!("revision {revision} is stored, but not yet in the switches of {}", behind.join(", "));
    }
    println!("revision {revision} is in every switch");
    // A switch that cannot take a flow has confirmed the rest: that must not look like success in silence.
    for node in fetch_all(client, Kind::find("node").map_err(anyhow::Error::msg)?, None, "").await? {
        print!("{}", node_problems(&node));
    }
    Ok(())
}

/// A line for each thing that a hypervisor cannot do.
fn node_problems(node: &Value) -> String {
    let problems = node["problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
    problems.map(|problem| format!("! {}: {problem}\n", kind::cell(node, "/name"))).collect()
}

async fn status(client: &Client, output: Format) -> Result<()> {
    let cluster = client.call("ClusterService", "GetClusterStatus", &json!({})).await?;
    let kind = Kind::find("node").map_err(anyhow::Error::msg)?;
    let nodes = fetch_all(client, kind, None, "").await?;
    let found = client.call("ClusterService", "ListProblems", &json!({})).await?;
    let whole = json!({ "cluster": cluster, "nodes": nodes, "problems": found["problems"] });
    match output {
        Format::Json => println!("{}", serde_json::to_string_pretty(&whole)?),
        Format::Yaml => print!("{}", serde_yaml_ng::to_string(&whole)?),
        Format::Table => {
            print!("{}", show::describe(&cluster));
            println!();
            print!("{}", show::list(kind, &nodes, output)?);
            nodes.iter().for_each(|node| print!("{}", node_problems(node)));
            println!();
            print!("{}", problems(&found));
        }
    }
    Ok(())
}

fn problems(answer: &Value) -> String {
    let found = answer["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    if found.is_empty() {
        return "no problems\n".to_owned();
    }
    let line = |problem: &Value| {
        let part = |name: &str| kind::cell(problem, &format!("/{name}"));
        let place = [part("table"), part("row"), part("column")].join(" ");
        format!("! {}: {place}: {}\n", part("severity"), part("message"))
    };
    found.iter().map(line).collect()
}
