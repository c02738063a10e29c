//! A controller made for tests: hands rows to agents and notes what they say.
#![allow(dead_code, unreachable_pub)] // each test binary uses its own part

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use quantumnet_api::{
    AGENT_FORMAT,
    v1::{
        AgentHello, AgentMessage, AgentReport, ControllerHello, ControllerMessage, ReportStored, RowChanges,
        agent_message,
        agent_service_server::{AgentService, AgentServiceServer},
        controller_message,
    },
};
use quantumnet_model::{
    Row, Rows, Uuid,
    change::RowChange,
    column::{Strong, Weak},
    nb::{DhcpOptions, LogicalSwitch, LogicalSwitchPort},
    sb::{Chassis, DatapathBinding, Encap, PortBinding},
    tables,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming};

/// What agents said.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub hellos: BTreeMap<String, Vec<AgentHello>>,
    pub reports: BTreeMap<String, Vec<AgentReport>>,
    pub applied: BTreeMap<String, u64>,
}

#[derive(Clone)]
pub struct Controller {
    pub address: SocketAddr,
    rows: watch::Sender<(u64, Rows)>,
    heard: Arc<Mutex<Heard>>,
    stop: watch::Sender<bool>,
}

struct Service {
    rows: watch::Sender<(u64, Rows)>,
    heard: Arc<Mutex<Heard>>,
    stop: watch::Receiver<bool>,
}

impl Controller {
    /// Starts one, in a thread of its own.
    pub fn start(at: &str) -> Self {
        let (rows, _) = watch::channel((1, Rows::default()));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (stop, stopped) = watch::channel(false);
        let (sender, receiver) = std::sync::mpsc::channel();
        let service = Service { rows: rows.clone(), heard: heard.clone(), stop: stopped.clone() };
        let at = at.to_owned();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(&at).await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                let mut stopped = stopped;
                let serve = tonic::transport::Server::builder()
                    .add_service(AgentServiceServer::new(service))
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! {
                    result = serve => result.unwrap(),
                    _ = stopped.wait_for(|stop| *stop) => {}
                }
            });
        });
        Self { address: receiver.recv().unwrap(), rows, heard, stop }
    }

    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Changes the rows; returns the new revision.
    pub fn change(&self, change: impl FnOnce(&mut Rows)) -> u64 {
        self.rows.send_modify(|(revision, rows)| {
            *revision += 1;
            change(rows);
        });
        self.rows.borrow().0
    }

    pub fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until the agent says that a revision is in its switch.
    pub fn wait_applied(&self, chassis: &str, revision: u64) {
        quantumnet_testbed::wait_until(Duration::from_secs(15), "the revision to be applied", || {
            self.heard().applied.get(chassis).is_some_and(|applied| *applied >= revision)
        })
        .unwrap();
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<ControllerMessage, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let mut messages = request.into_inner();
        let (answers, receiver) = mpsc::channel(16);
        let (mut rows, heard, mut stop) = (self.rows.subscribe(), self.heard.clone(), self.stop.clone());
        tokio::spawn(async move {
            let Some(Ok(AgentMessage { message: Some(agent_message::Message::Hello(hello)) })) =
                messages.next().await
            else {
                return;
            };
            let chassis = hello.chassis.clone();
            let resumed = hello.resume.clone().map(|resume| resume.revision);
            heard.lock().unwrap().hellos.entry(chassis.clone()).or_default().push(hello);
            let (revision, mut known) = rows.borrow_and_update().clone();
            let snapshot = resumed != Some(revision);
            let hello = controller_message::Message::Hello(ControllerHello {
                format: AGENT_FORMAT,
                cluster_id: "cluster".into(),
                history_id: "history".into(),
                snapshot,
            });
            let changes = if snapshot { between(&Rows::default(), &known) } else { Vec::new() };
            let all =
                controller_message::Message::Changes(RowChanges { rows: changes, revision, complete: true });
            for message in [hello, all] {
                let _ = answers.send(Ok(ControllerMessage { message: Some(message) })).await;
            }
            loop {
                tokio::select! {
                    _ = stop.changed() => return,
                    changed = rows.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let (revision, now) = rows.borrow_and_update().clone();
                        let changes = RowChanges { rows: between(&known, &now), revision, complete: true };
                        known = now;
                        let message = Some(controller_message::Message::Changes(changes));
                        if answers.send(Ok(ControllerMessage { message })).await.is_err() {
                            return;
                        }
                    }
                    message = messages.next() => match message {
                        Some(Ok(AgentMessage { message: Some(agent_message::Message::Applied(applied)) })) => {
                            heard.lock().unwrap().applied.insert(chassis.clone(), applied.revision);
                        }
                        Some(Ok(AgentMessage { message: Some(agent_message::Message::Report(report)) })) => {
                            let sequence = report.sequence;
                            heard.lock().unwrap().reports.entry(chassis.clone()).or_default().push(report);
                            let stored = controller_message::Message::ReportStored(ReportStored { sequence });
                            let _ = answers.send(Ok(ControllerMessage { message: Some(stored) })).await;
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return,
                    },
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

fn between<B>(old: &Rows, new: &Rows) -> Vec<B>
where
    Vec<u8>: Into<B>,
{
    let mut changes = Vec::new();
    for table in tables::ids() {
        let mut uuids: Vec<Uuid> = old.table(table).keys().chain(new.table(table).keys()).copied().collect();
        uuids.sort_unstable();
        uuids.dedup();
        for uuid in uuids {
            let (old, new) = (old.dyn_row(table, uuid), new.dyn_row(table, uuid));
            let change = RowChange::between(table, uuid, old.map(AsRef::as_ref), new.map(AsRef::as_ref));
            changes
                .extend(change.and_then(|change| change.for_agents()).map(|change| change.encode().into()));
        }
    }
    changes
}

pub fn id(kind: u16, number: u16) -> Uuid {
    Uuid::from_u128(u128::from(kind) << 112 | u128::from(number) << 96 | 0x4000_8000_0000_0000_0000_0000)
}

const CHASSIS: u16 = 1;
const ENCAP: u16 = 2;
pub const PORT: u16 = 3;
const SWITCH: u16 = 4;
const DHCP: u16 = 5;

pub fn put<R: Row>(rows: &mut Rows, uuid: Uuid, row: R) {
    rows.set(R::TABLE, uuid, Some(Arc::new(row)));
}

/// Hypervisors `hvN` at 172.31.0.N, and a switch.
pub fn network(rows: &mut Rows, hypervisors: u16) {
    for number in 1..=hypervisors {
        let name: Arc<str> = format!("hv{number}").into();
        let encap = Encap {
            r#type: "geneve".into(),
            ip: format!("172.31.0.{number}").into(),
            chassis_name: name.clone(),
            ..Encap::default()
        };
        put(rows, id(ENCAP, number), encap);
        let encaps = [Strong::new(id(ENCAP, number))].into_iter().collect();
        put(
            rows,
            id(CHASSIS, number),
            Chassis { name: name.clone(), hostname: name, encaps, ..Chassis::default() },
        );
    }
    put(rows, id(SWITCH, 1), LogicalSwitch { name: "sw".into(), ..LogicalSwitch::default() });
    let datapath = DatapathBinding {
        tunnel_key: 5,
        r#type: Some("logical-switch".into()),
        nb_uuid: Some(id(SWITCH, 1)),
        ..DatapathBinding::default()
    };
    put(rows, id(SWITCH, 1), datapath);
    let options = [
        ("server_id", "10.0.0.254"),
        ("server_mac", "0a:dd:00:00:00:01"),
        ("lease_time", "3600"),
        ("router", "10.0.0.254"),
        ("dns_server", "{8.8.8.8, 7.7.7.7}"),
    ];
    let options =
        options.into_iter().map(|(key, value)| (Arc::<str>::from(key), Arc::<str>::from(value))).collect();
    put(rows, id(DHCP, 1), DhcpOptions { cidr: "10.0.0.0/24".into(), options, ..DhcpOptions::default() });
}

pub fn mac(number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    format!("0a:00:00:00:{high:02x}:{low:02x}")
}

/// Port `pN` with 10.0.0.N on a hypervisor.
pub fn port(rows: &mut Rows, number: u16, hypervisor: u16, unknown: bool) {
    let name: Arc<str> = format!("p{number}").into();
    let address = format!("{} 10.0.{}.{}", mac(number), number >> 8, number & 0xff);
    let mut addresses: Vec<Arc<str>> = vec![address.into()];
    if unknown {
        addresses.push("unknown".into());
    }
    let lsp = LogicalSwitchPort {
        name: name.clone(),
        addresses: addresses.iter().cloned().collect(),
        dhcpv4_options: Some(Weak::new(id(DHCP, 1))),
        up: Some(true),
        ..LogicalSwitchPort::default()
    };
    put(rows, id(PORT, number), lsp);
    let binding = PortBinding {
        logical_port: name,
        datapath: Strong::new(id(SWITCH, 1)),
        tunnel_key: number.into(),
        chassis: Some(Weak::new(id(CHASSIS, hypervisor))),
        mac: addresses.into_iter().collect(),
        up: Some(true),
        ..PortBinding::default()
    };
    put(rows, id(PORT, number), binding);
}

/// Port `pN` to a physical network.
pub fn localnet(rows: &mut Rows, number: u16, network: &str) {
    let name: Arc<str> = format!("p{number}").into();
    let logical = LogicalSwitchPort { name: name.clone(), ..LogicalSwitchPort::default() };
    put(rows, id(PORT, number), logical);
    let binding = PortBinding {
        logical_port: name,
        r#type: "localnet".into(),
        datapath: Strong::new(id(SWITCH, 1)),
        tunnel_key: number.into(),
        mac: ["unknown"].into_iter().map(Arc::from).collect(),
        options: [(Arc::from("network_name"), Arc::from(network))].into_iter().collect(),
        ..PortBinding::default()
    };
    put(rows, id(PORT, number), binding);
}

pub fn remove_port(rows: &mut Rows, number: u16) {
    rows.set(LogicalSwitchPort::TABLE, id(PORT, number), None);
    rows.set(PortBinding::TABLE, id(PORT, number), None);
}
