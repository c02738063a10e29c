//! Starts, stops and cuts off members. Each test process has loopback addresses of its own, so ports are fixed.
//!
//! Members reach each other through relays, one for each direction of each pair, that can be cut: what is sent then
//! vanishes as in a network, without an error.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use clap::Parser as _;
use ovsdb::value::Datum;
use quantumnet_controller::{config::Config, controller::Controller, replica::Replica, store::State};
use quantumnet_model::{Uuid, row::TableId, tables};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) members: BTreeMap<u64, Member>,
    relays: BTreeMap<(u64, u64), watch::Sender<bool>>,
    _tasks: JoinSet<()>,
    _dir: tempfile::TempDir,
}

pub(crate) struct Member {
    pub(crate) config: Config,
    pub(crate) controller: Option<Controller>,
}

impl Member {
    pub(crate) fn replica(&self) -> &Replica {
        self.controller.as_ref().expect("it runs").replica()
    }

    /// Where the other members call it.
    pub(crate) fn peer_port(&self) -> SocketAddr {
        let (members, _) = self.config.members().unwrap().unwrap();
        members[&self.config.member_id]
    }

    /// The value of one of its metrics, by its name with labels; 0 while it was never counted.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.config.metrics).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Where its API is.
    pub(crate) fn api(&self) -> SocketAddr {
        self.config.listen[0]
    }
}

impl Cluster {
    /// Starts so many members and waits until one leads.
    pub(crate) async fn start(size: u64) -> Self {
        let cluster = Self::prepare(size, &[]).await.run().await;
        cluster.leader().await;
        cluster
    }

    /// Members that do not run yet, with further arguments.
    pub(crate) async fn prepare(size: u64, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let address = |member: u64, port: u16| {
            let [_, _, high, low] = pid.to_be_bytes();
            let last = number * 8 + u8::try_from(member).unwrap();
            SocketAddr::from((Ipv4Addr::new(127, 1 + (high & 0x7f), low, last), port))
        };
        let mut tasks = JoinSet::new();
        let mut relays = BTreeMap::new();
        let mut members = BTreeMap::new();
        for member in 1..=size {
            let mut peers = Vec::new();
            for peer in 1..=size {
                let target = address(peer, PEER_PORT);
                if peer == member {
                    peers.push(format!("{peer}={target}"));
                    continue;
                }
                let at = address(member, RELAY_PORT + u16::try_from(peer).unwrap());
                peers.push(format!("{peer}={at}"));
                let (open, opened) = watch::channel(true);
                tasks.spawn(relay(TcpListener::bind(at).await.unwrap(), target, opened));
                relays.insert((member, peer), open);
            }
            let data = dir.path().join(member.to_string());
            identify(&data, size);
            let (id, data) = (member.to_string(), data.to_string_lossy().into_owned());
            let (listen, metrics) =
                (address(member, API_PORT).to_string(), address(member, METRICS_PORT).to_string());
            let peers = peers.join(",");
            let own = [
                "quantumnet-controller",
                "--member-id",
                &id,
                "--data-dir",
                &data,
                "--listen",
                &listen,
                "--metrics",
                &metrics,
                "--peers",
                &peers,
                "--nb",
                "ptcp:0:127.0.0.1",
                "--sb",
                "ptcp:0:127.0.0.1",
            ];
            let config = Config::try_parse_from([&own, arguments].concat()).unwrap();
            members.insert(member, Member { config, controller: None });
        }
        Self { members, relays, _tasks: tasks, _dir: dir }
    }

    pub(crate) async fn run(mut self) -> Self {
        let all: Vec<u64> = self.members.keys().copied().collect();
        for member in all {
            self.begin(member).await;
        }
        self
    }

    /// Starts a member, once a former life of it has let go of its directory.
    pub(crate) async fn begin(&mut self, member: u64) {
        let member = self.members.get_mut(&member).unwrap();
        let begin = async {
            loop {
                match Controller::start(&member.config).await {
                    Ok(controller) => return controller,
                    Err(error) if format!("{error:#}").contains("in use") => tokio::task::yield_now().await,
                    Err(error) => panic!("{error:#}"),
                }
            }
        };
        member.controller = Some(tokio::time::timeout(DEADLINE, begin).await.expect("it starts"));
    }

    /// Ends a member's process as far as others see it: its connections break and its thread ends.
    pub(crate) async fn end(&mut self, member: u64) {
        let controller = self.members.get_mut(&member).unwrap().controller.take().expect("it runs");
        controller.stop().await;
    }

    /// Members that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = (u64, &Member)> {
        self.members
            .iter()
            .filter(|(_, member)| member.controller.is_some())
            .map(|(id, member)| (*id, member))
    }

    /// Waits for a member that leads.
    pub(crate) async fn leader(&self) -> u64 {
        self.leader_among(&self.running().map(|(member, _)| member).collect::<Vec<_>>()).await
    }

    /// Waits until one of these leads.
    pub(crate) async fn leader_among(&self, members: &[u64]) -> u64 {
        let mut waits = JoinSet::new();
        for member in members {
            let (member, mut status) = (*member, self.members[member].replica().status_changes());
            waits.spawn(async move {
                if status.wait_for(|status| status.writable).await.is_err() {
                    std::future::pending::<()>().await;
                }
                member
            });
        }
        let first = tokio::time::timeout(DEADLINE, waits.join_next()).await;
        first.expect("one leads").expect("there are members").unwrap()
    }

    /// A member that does not lead.
    pub(crate) async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        self.running().map(|(member, _)| member).find(|member| *member != leader).unwrap()
    }

    /// Cuts a member off from all others, or connects it again.
    pub(crate) fn connect(&self, member: u64, connected: bool) {
        for ((from, to), open) in &self.relays {
            if *from == member || *to == member {
                open.send_replace(connected);
            }
        }
    }

    /// Waits until every running member has applied the revision.
    pub(crate) async fn settled(&self, revision: u64) {
        for (member, running) in self.running() {
            let reached = tokio::time::timeout(DEADLINE, running.replica().reached(revision)).await;
            assert!(reached.is_ok(), "member {member} never reaches revision {revision}");
        }
        self.agree();
    }

    /// The leader takes over what it evaluated, the others apply its effects: members of one revision have the same rows.
    fn agree(&self) {
        let states: Vec<_> =
            self.running().map(|(member, running)| (member, running.replica().state())).collect();
        for (member, state) in &states {
            assert!(state.check(), "indexes of member {member}");
            for (other, than) in states.iter().filter(|(_, than)| than.revision() == state.revision()) {
                assert!(rows(state) == rows(than), "members {member} and {other} differ");
            }
        }
    }
}

fn rows(state: &State) -> BTreeMap<(TableId, Uuid), Vec<Datum>> {
    let mut rows = BTreeMap::new();
    for table in tables::ids() {
        for (uuid, row) in state.rows().table(table) {
            let columns = tables::decl(table).column_ids().map(|column| row.datum(column));
            rows.insert((table, *uuid), columns.collect());
        }
    }
    rows
}

/// The lists of these members differ by their relays, so they cannot agree on an identity by themselves.
fn identify(data: &Path, size: u64) {
    fs::create_dir_all(data).unwrap();
    let members: String = (1..=size).map(|member| format!(" {member}")).collect();
    fs::write(data.join("cluster"), format!("9c7f3c4e-7ed1-4d5d-8a38-2f1a5f0f6f11\nmembers{members}\n"))
        .unwrap();
}

async fn relay(listener: TcpListener, target: SocketAddr, open: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        connections.spawn(connection(near, target, open.clone()));
    }
}

/// Carries octets while the relay is open. A cut one holds the connection without a word, and ends it when the relay
/// opens again.
async fn connection(mut near: TcpStream, target: SocketAddr, mut open: watch::Receiver<bool>) {
    if *open.borrow_and_update()
        && let Ok(mut far) = TcpStream::connect(target).await
    {
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => return,
            _ = open.wait_for(|open| !open) => {}
        }
        _ = open.wait_for(|open| *open).await;
        return;
    }
    if !*open.borrow() {
        _ = open.wait_for(|open| *open).await;
    }
}

/// One JSON call to a member: HTTP status and body.
pub(crate) async fn post(
    address: SocketAddr,
    method: &str,
    body: &serde_json::Value,
    headers: &str,
) -> std::io::Result<(u16, serde_json::Value)> {
    let body = body.to_string();
    let request = format!(
        "POST /quantumnet.v1.{method} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    read.expect("the server answers or closes")?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("no answer"))?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, serde_json::from_str(body).unwrap_or_default()))
}

static CLUSTERS: AtomicU8 = AtomicU8::new(0);
const API_PORT: u16 = 9_640;
const METRICS_PORT: u16 = 9_641;
const PEER_PORT: u16 = 9_643;
const RELAY_PORT: u16 = 9_700;
