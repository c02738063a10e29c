//! Hypervisors that do not exist, for ports that only have to look bound: what `shared/perf` needs of a system under test.
//!
//! Each registers with the controller as an agent would, with its interfaces, and is gone again. Its `Chassis_Private` is
//! deleted, as otherwise `hv_cfg` would wait for it; chassis and bindings stay, as those of a hypervisor that is away.

use std::{collections::BTreeMap, io::Read as _, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use quantumnet_api::v1::{
    AgentHello, AgentMessage, ChassisFacts, EncapFact, LocalInterface, agent_message::Message,
    agent_service_client::AgentServiceClient, controller_message,
};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::client::Client;

/// Reads `{port: chassis}` as JSON from standard input and binds the ports. `southbound` is the TCP address of the
/// southbound database.
pub(crate) async fn run(controller: SocketAddr, southbound: SocketAddr) -> Result<()> {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).context("reading the ports")?;
    let ports: BTreeMap<String, String> =
        serde_json::from_str(&input).context("the ports are no JSON object of {port: chassis}")?;
    let mut chassis: BTreeMap<String, Vec<LocalInterface>> = BTreeMap::new();
    for (iface_id, name) in ports {
        let interface = LocalInterface { iface_id, generation: 1, ..LocalInterface::default() };
        chassis.entry(name).or_default().push(interface);
    }
    let mut database = Client::connect_tcp(southbound)?;
    for (number, (name, interfaces)) in chassis.into_iter().enumerate() {
        register(controller, &name, number, interfaces)
            .await
            .with_context(|| format!("registering {name}"))?;
        let forget = json!({"op": "delete", "table": "Chassis_Private", "where": [["name", "==", name]]});
        database.transact_on("OVN_Southbound", vec![forget])?;
    }
    Ok(())
}

async fn register(
    controller: SocketAddr,
    name: &str,
    number: usize,
    interfaces: Vec<LocalInterface>,
) -> Result<()> {
    let options = [("csum".to_owned(), "true".to_owned())].into();
    let ip = format!("172.28.{}.{}", 2 + number / 250, 1 + number % 250);
    let encap = EncapFact { r#type: "geneve".into(), ip, options };
    let facts = ChassisFacts { hostname: name.into(), encaps: vec![encap], ..ChassisFacts::default() };
    let hello = AgentHello {
        format: quantumnet_api::AGENT_FORMAT,
        chassis: name.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        facts: Some(facts),
        interfaces,
        ..AgentHello::default()
    };
    let mut client = AgentServiceClient::connect(format!("http://{controller}")).await?;
    let (out, messages) = mpsc::channel(1);
    out.send(AgentMessage { message: Some(Message::Hello(hello)) }).await?;
    let mut inbound = client.sync(ReceiverStream::new(messages)).await?.into_inner();
    let greeted = async {
        while let Some(message) = inbound.message().await? {
            if matches!(message.message, Some(controller_message::Message::Hello(_))) {
                return Ok(());
            }
        }
        bail!("the controller ended the stream")
    };
    timeout(WITHIN, greeted).await.context("the controller does not greet")?
}

const WITHIN: Duration = Duration::from_secs(30);
