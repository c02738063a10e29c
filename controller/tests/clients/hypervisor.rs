//! An agent as far as the southbound database shows it: registers, reports interfaces, and acknowledges what it is sent.

use std::time::Duration;

use quantumnet_api::v1::{
    AgentApplied, AgentHello, AgentMessage, AgentReport, ChassisFacts, EncapFact, LearnedMac, LocalInterface,
    agent_message::Message, agent_service_client::AgentServiceClient, controller_message,
};
use tokio::{runtime::Runtime, sync::mpsc, sync::watch};
use tokio_stream::wrappers::ReceiverStream;

/// A hypervisor whose agent is connected. It goes with the value.
pub(crate) struct Hypervisor {
    runtime: Runtime,
    out: mpsc::Sender<AgentMessage>,
    told: watch::Receiver<Told>,
    reports: u64,
}

/// What its controller said.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    greeted: bool,
    stored: u64,
    ended: bool,
}

impl Hypervisor {
    /// Registers with the controller at this address.
    pub(crate) fn register(controller: &str, name: &str, ip: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (out, messages) = mpsc::channel(64);
        let (tell, told) = watch::channel(Told::default());
        let address = format!("http://{controller}");
        let options = [("csum".to_owned(), "true".to_owned())].into();
        let encap = EncapFact { r#type: "geneve".into(), ip: ip.into(), options };
        let facts =
            ChassisFacts { hostname: format!("{name}.example"), encaps: vec![encap], ..Default::default() };
        let hello = AgentHello {
            format: quantumnet_api::AGENT_FORMAT,
            chassis: name.into(),
            version: "test".into(),
            facts: Some(facts),
            ..AgentHello::default()
        };
        let acknowledge = out.clone();
        runtime.spawn(async move {
            let mut client = AgentServiceClient::connect(address).await.unwrap();
            say(&acknowledge, Message::Hello(hello)).await;
            let mut inbound = client.sync(ReceiverStream::new(messages)).await.unwrap().into_inner();
            while let Ok(Some(message)) = inbound.message().await {
                match message.message.unwrap() {
                    controller_message::Message::Hello(_) => tell.send_modify(|told| told.greeted = true),
                    controller_message::Message::Changes(changes) if changes.complete => {
                        let revision = changes.revision;
                        say(&acknowledge, Message::Applied(AgentApplied { revision })).await;
                    }
                    controller_message::Message::Changes(_) => {}
                    // It said that it answers none.
                    controller_message::Message::Query(_) => {}
                    controller_message::Message::ReportStored(stored) => {
                        tell.send_modify(|told| told.stored = stored.sequence);
                    }
                }
            }
            tell.send_modify(|told| told.ended = true);
        });
        let mut hypervisor = Self { runtime, out, told, reports: 0 };
        hypervisor.wait("the controller greets", |told| told.greeted);
        hypervisor
    }

    /// An interface with that iface-id appears.
    pub(crate) fn plug(&mut self, iface_id: &str) {
        let interface = LocalInterface { iface_id: iface_id.into(), generation: 1, ..Default::default() };
        self.report(AgentReport { interfaces_added: vec![interface], ..AgentReport::default() });
    }

    /// A MAC is seen behind a port.
    pub(crate) fn learn(&mut self, mac: &str, datapath_key: u32, port_key: u32) {
        let learned = LearnedMac { mac: mac.into(), datapath_key, port_key };
        self.report(AgentReport { macs_learned: vec![learned], ..AgentReport::default() });
    }

    /// Waits until the controller ends the stream.
    pub(crate) fn ended(&mut self) {
        self.wait("the stream ends", |told| told.ended);
    }

    fn report(&mut self, report: AgentReport) {
        self.reports += 1;
        let sequence = self.reports;
        let report = AgentReport { sequence, ..report };
        self.runtime.block_on(say(&self.out, Message::Report(report)));
        self.wait("a report is stored", |told| told.stored >= sequence);
    }

    fn wait(&mut self, what: &str, holds: impl Fn(&Told) -> bool) {
        let wait = self.told.wait_for(|told| holds(told));
        let ended = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, wait).await.map(drop) });
        assert!(ended.is_ok(), "never: {what}");
        let told = *self.told.borrow();
        assert!(holds(&told), "{what}: the stream ended, {told:?}");
    }
}

async fn say(out: &mpsc::Sender<AgentMessage>, message: Message) {
    // A stream that ended says so by what it told.
    _ = out.send(AgentMessage { message: Some(message) }).await;
}

const PATIENCE: Duration = Duration::from_secs(60);
