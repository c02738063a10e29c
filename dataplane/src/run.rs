//! The event loop: sockets, clock, disk and signals around [`Agent`].
//!
//! # Invariants
//! - One task handles events and carries out effects, in order; whatever may wait runs in a task of its own.
//! - Nothing here decides anything: a decision belongs into the agent, where it can be tested.

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{Router, http::header, routing::get};
use ovsdb::net::{Client, ClientHandle, ReplicaEvent};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    agent::{Agent, Effect, Event, Start},
    compile::compile_full,
    config::Options,
    controller::net::{self as stream, Stream, StreamEvent},
    disk::{DiskError, Ids, Record, RowsToStore, Snapshot, StateDir, Writer, Zones},
    error::AgentError,
    host,
    metrics::Metrics,
    switch::{
        self, control,
        net::{self as socket, Socket, SocketEvent},
    },
};

/// Runs the agent until it is told to end.
pub async fn run(options: Options) -> Result<(), AgentError> {
    let run_dir = options.run_dir()?;
    let state = StateDir::open(&options.state_dir)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;
    let mut scrapes = serve_metrics(&options).await?;

    let mut problems = Vec::new();
    let start = Start {
        hostname: nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        remotes: options.controller.iter().filter(|remote| !remote.is_empty()).cloned().collect(),
        ids: loaded::<Ids>(&state, &mut problems).unwrap_or_default(),
        zones: loaded::<Zones>(&state, &mut problems).unwrap_or_default(),
        snapshot: loaded::<Snapshot>(&state, &mut problems),
        problems,
        now_ms: now_ms(),
    };
    let agent = Agent::new(Instant::now(), start);
    let (database, mut replica) = Client::connect(options.ovsdb.clone(), host::request());
    let (events, mut inbox) = mpsc::channel(INBOX_MAX);
    let (socket_events, mut socket_inbox) = mpsc::channel(SOCKET_INBOX_MAX);
    let (stream_events, mut stream_inbox) = mpsc::channel(STREAM_INBOX_MAX);
    let told = events.clone();
    let disk = Writer::start(state, move |result| {
        let result = result.map_err(|error| error.to_string());
        // At the end of the agent nobody hears it.
        if let Err(unheard) = told.blocking_send(Event::Stored(result))
            && let Event::Stored(Err(error)) = unheard.0
        {
            tracing::error!(%error, "the state could not be stored");
        }
    });
    let mut runner = Runner {
        agent,
        metrics: Metrics::new(),
        run_dir,
        disk,
        database,
        events,
        socket_events,
        stream_events,
        socket: Connection::default(),
        stream: Connection::default(),
    };
    loop {
        let timeout = runner.agent.poll_timeout();
        let sleep = tokio::time::sleep_until(timeout.unwrap_or_else(|| Instant::now() + IDLE).into());
        // In no order of preference: no source of events can keep the others from being heard.
        let event = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(reply) = scrapes.recv() => {
                // A scraper that went away does not want to know.
                let _ = reply.send(runner.metrics.page(Instant::now(), &runner.agent));
                continue;
            }
            Some(event) = replica.recv() => runner.replica_event(event),
            Some(event) = socket_inbox.recv() => runner.socket_event(event),
            Some(event) = stream_inbox.recv() => runner.stream_event(event),
            Some(event) = inbox.recv() => event,
            () = sleep => Event::Timeout,
        };
        runner.step(event)?;
    }
    tracing::info!("ending: flows stay");
    drop(inbox);
    runner.end().await;
    Ok(())
}

/// A task that keeps a connection, and where to send to while there is one.
#[derive(Debug)]
struct Connection<T> {
    task: Option<JoinHandle<()>>,
    sender: Option<T>,
}

impl<T> Default for Connection<T> {
    fn default() -> Self {
        Self { task: None, sender: None }
    }
}

impl<T> Connection<T> {
    fn replace(&mut self, task: JoinHandle<()>) {
        self.sender = None;
        if let Some(old) = self.task.replace(task) {
            old.abort();
        }
    }
}

struct Runner {
    agent: Agent,
    metrics: Metrics,
    run_dir: PathBuf,
    disk: Writer,
    database: ClientHandle,
    events: mpsc::Sender<Event>,
    socket_events: mpsc::Sender<SocketEvent>,
    stream_events: mpsc::Sender<StreamEvent>,
    socket: Connection<Socket>,
    stream: Connection<Stream>,
}

impl Runner {
    fn step(&mut self, event: Event) -> Result<(), AgentError> {
        for effect in self.agent.handle(Instant::now(), now_ms(), event) {
            self.carry_out(effect)?;
        }
        self.metrics.observe(&self.agent);
        Ok(())
    }

    fn replica_event(&self, event: ReplicaEvent) -> Event {
        match event {
            ReplicaEvent::Synced { .. } | ReplicaEvent::Changed(_) => Event::Replica(self.database.replica()),
            ReplicaEvent::Disconnected { why } => {
                tracing::warn!(%why, "no connection to the switch database");
                Event::ReplicaLost
            }
        }
    }

    fn socket_event(&mut self, event: SocketEvent) -> Event {
        Event::Switch(match event {
            SocketEvent::Connected(sender) => {
                self.socket.sender = Some(sender);
                switch::Input::Connected
            }
            SocketEvent::Received(bytes) => switch::Input::Received(bytes),
            SocketEvent::Disconnected(_) => {
                self.socket.sender = None;
                switch::Input::Disconnected
            }
        })
    }

    fn stream_event(&mut self, event: StreamEvent) -> Event {
        match event {
            StreamEvent::Connected(sender) => {
                self.stream.sender = Some(sender);
                Event::StreamConnected
            }
            StreamEvent::Received(message) => Event::StreamReceived(message),
            StreamEvent::Disconnected(_) => {
                self.stream.sender = None;
                Event::StreamDisconnected
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), AgentError> {
        match effect {
            Effect::OpenSwitch { bridge } => {
                let path = self.run_dir.join(format!("{bridge}.mgmt"));
                self.socket.replace(tokio::spawn(socket::run(path, self.socket_events.clone())));
            }
            Effect::SwitchSend(bytes) => {
                if let Some(sender) = &self.socket.sender {
                    sender.send(bytes);
                }
            }
            Effect::SwitchClose => self.socket.sender = None,
            Effect::OpenStream { remotes } => {
                self.stream.replace(tokio::spawn(stream::run(remotes, self.stream_events.clone())));
            }
            Effect::StreamSend(message) => {
                if let Some(sender) = &self.stream.sender
                    && !sender.send(*message)
                {
                    tracing::warn!("the controller does not read: connecting anew");
                    self.stream.sender = None;
                }
            }
            Effect::StreamClose => self.stream.sender = None,
            Effect::Transact(operations) => {
                let (database, events) = (self.database.clone(), self.events.clone());
                tokio::spawn(async move {
                    let result =
                        database.transact(operations).await.map(drop).map_err(|error| error.to_string());
                    // What was changed must have been seen before the next plan is made.
                    let replica = Event::Replica(database.replica());
                    let _ = events.send(replica).await;
                    let _ = events.send(Event::Transacted(result)).await;
                });
            }
            Effect::ReadMtu(ip) => {
                let events = self.events.clone();
                tokio::spawn(async move { events.send(Event::Mtu(host::mtu::of_address(ip).await)).await });
            }
            Effect::TryPaths { mtu, pairs } => {
                let events = self.events.clone();
                tokio::spawn(async move {
                    events.send(Event::Paths(host::path::try_all(mtu, pairs).await)).await
                });
            }
            Effect::CountConnections { datapath } => {
                let (events, run_dir) = (self.events.clone(), self.run_dir.clone());
                tokio::spawn(async move {
                    events.send(Event::Tracked(switch::tracked::count(&run_dir, &datapath).await)).await
                });
            }
            Effect::LimitZones { datapath, limits, free } => {
                let (events, run_dir) = (self.events.clone(), self.run_dir.clone());
                tokio::spawn(async move {
                    let result = switch::limits::set(&run_dir, &datapath, &limits, &free).await;
                    events.send(Event::Limited(result)).await
                });
            }
            Effect::Recompute { rows, tag } => {
                let events = self.events.clone();
                tokio::task::spawn_blocking(move || {
                    let done = Event::Recomputed { full: compile_full(&rows), tag };
                    // Nobody takes events any more when the agent ends.
                    events.blocking_send(done).ok();
                });
            }
            Effect::Trace { stream, id, job } => {
                let (events, run_dir) = (self.events.clone(), self.run_dir.clone());
                tokio::spawn(async move {
                    let answer = Box::new(control::trace(&run_dir, id, &job).await);
                    events.send(Event::Answered { stream, answer }).await
                });
            }
            Effect::StoreIds(ids) => self.disk.ids(ids),
            Effect::StoreZones(zones) => self.disk.zones(zones),
            Effect::StoreRows { chassis, resume, rows } => {
                self.disk.rows(RowsToStore { chassis, resume, rows });
            }
            Effect::End(error) => return Err(error),
        }
        Ok(())
    }

    /// Saves, without the loop.
    async fn end(mut self) {
        for effect in self.agent.handle(Instant::now(), now_ms(), Event::Terminate) {
            match effect {
                Effect::StoreIds(ids) => self.disk.ids(ids),
                Effect::StoreZones(zones) => self.disk.zones(zones),
                Effect::StoreRows { chassis, resume, rows } => {
                    self.disk.rows(RowsToStore { chassis, resume, rows });
                }
                _ => {}
            }
        }
        self.disk.end().await;
    }
}

fn loaded<R: Record>(state: &StateDir, problems: &mut Vec<String>) -> Option<R> {
    state.load().unwrap_or_else(|error: DiskError| {
        tracing::warn!(%error, "ignored: what it held comes from the controller and the switch");
        problems.push(error.to_string());
        None
    })
}

async fn serve_metrics(options: &Options) -> Result<mpsc::Receiver<oneshot::Sender<String>>, AgentError> {
    let address = options.metrics;
    let wrong = |source| AgentError::Metrics { address, source };
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let (ask, scrapes) = mpsc::channel::<oneshot::Sender<String>>(SCRAPES_MAX);
    let page = move || async move {
        let (reply, page) = oneshot::channel();
        let _ = ask.send(reply).await;
        let page = page.await.unwrap_or_default();
        ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page)
    };
    let router = Router::new().route("/metrics", get(page));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    Ok(scrapes)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

const IDLE: Duration = Duration::from_secs(60);
const INBOX_MAX: usize = 256;
const SOCKET_INBOX_MAX: usize = 64;
const STREAM_INBOX_MAX: usize = 64;
const SCRAPES_MAX: usize = 4;
