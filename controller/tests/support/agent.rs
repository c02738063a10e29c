//! An agent as a controller sees one: a stream, and the rows it was sent.

use std::time::Duration;

use quantumnet_api::v1::{
    self, AgentApplied, AgentHello, AgentMessage, AgentQuery, ChassisFacts, ControllerMessage, EncapFact,
    LocalInterface, agent_message, agent_service_client::AgentServiceClient, controller_message,
};
use quantumnet_model::{Rows, change::RowChange};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

pub(crate) struct Agent {
    pub(crate) out: mpsc::Sender<AgentMessage>,
    pub(crate) inbound: Streaming<ControllerMessage>,
    pub(crate) rows: Rows,
    pub(crate) revision: u64,
    pub(crate) stored: u64,
    pub(crate) token: Option<v1::ResumeToken>,
    pub(crate) snapshots: usize,
    pub(crate) asked: Vec<AgentQuery>,
}

impl Agent {
    /// An open stream to the controller at this address, on which nothing is said yet.
    pub(crate) async fn silent(address: String) -> Self {
        let mut client = AgentServiceClient::<Channel>::connect(address).await.unwrap();
        let (out, messages) = mpsc::channel(16);
        let inbound = client.sync(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Self {
            out,
            inbound,
            rows: Rows::default(),
            revision: 0,
            stored: 0,
            token: None,
            snapshots: 0,
            asked: Vec::new(),
        }
    }

    pub(crate) async fn say(&mut self, message: agent_message::Message) {
        self.out.send(AgentMessage { message: Some(message) }).await.unwrap();
    }

    /// Takes messages until something holds.
    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            let message = tokio::time::timeout(DEADLINE, self.inbound.message()).await;
            let message = message.unwrap_or_else(|_| panic!("never: {what}")).unwrap().unwrap();
            self.take(message);
        }
    }

    fn take(&mut self, message: ControllerMessage) {
        match message.message.unwrap() {
            controller_message::Message::Hello(hello) => {
                if hello.snapshot {
                    self.rows = Rows::default();
                    self.snapshots += 1;
                }
                let (cluster_id, history_id) = (hello.cluster_id, hello.history_id);
                self.token = Some(v1::ResumeToken { cluster_id, history_id, revision: 0 });
            }
            controller_message::Message::Changes(changes) => {
                for row in changes.rows {
                    RowChange::decode(&row).unwrap().apply(&mut self.rows).unwrap();
                }
                assert!(changes.revision >= self.revision, "revisions never go back");
                if changes.complete {
                    self.revision = changes.revision;
                }
            }
            controller_message::Message::ReportStored(stored) => self.stored = stored.sequence,
            controller_message::Message::Query(query) => self.asked.push(query),
        }
    }

    pub(crate) async fn applied(&mut self, revision: u64) {
        self.say(agent_message::Message::Applied(AgentApplied { revision })).await;
    }

    /// How the stream ends.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            let message =
                tokio::time::timeout(DEADLINE, self.inbound.message()).await.expect("the stream ends");
            match message {
                Ok(Some(message)) => self.take(message),
                Ok(None) => panic!("the stream ended without a reason"),
                Err(status) => return status,
            }
        }
    }
}

pub(crate) fn interface(name: &str, generation: u64) -> LocalInterface {
    LocalInterface { iface_id: name.into(), iface_id_ver: String::new(), generation }
}

pub(crate) fn hello(chassis: &str, host: &str, ip: &str, interfaces: Vec<LocalInterface>) -> AgentHello {
    let encap = EncapFact { r#type: "geneve".into(), ip: ip.into(), ..EncapFact::default() };
    AgentHello {
        format: quantumnet_api::AGENT_FORMAT,
        chassis: chassis.into(),
        resume: None,
        version: "test".into(),
        facts: Some(ChassisFacts { hostname: host.into(), encaps: vec![encap], ..ChassisFacts::default() }),
        interfaces,
        queries: true,
    }
}

const DEADLINE: Duration = Duration::from_secs(60);
