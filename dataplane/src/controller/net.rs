//! The task around a [`crate::controller::Session`]: finds a controller and carries messages.
//!
//! # Contract
//! - The task tries the controllers in turn, from a random one on, and waits between rounds: longer each time, and
//!   never all agents of a rack at once.
//!
//! # Invariants
//! - A stream that is silent for as long as [`KEEP_ALIVE`] twice is given up.
//! - A stream that is dropped closes at once, also when the controller neither reads nor ends it.
//! - A reader that falls behind stops the stream rather than filling memory.

use std::time::Duration;

use quantumnet_api::v1::{AgentMessage, ControllerMessage, agent_service_client::AgentServiceClient};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// A stream; dropping it closes it.
#[derive(Debug)]
pub struct Stream {
    messages: mpsc::Sender<AgentMessage>,
    _open: oneshot::Sender<()>,
}

impl Stream {
    /// Sends; false when the controller does not read.
    pub fn send(&self, message: AgentMessage) -> bool {
        self.messages.try_send(message).is_ok()
    }
}

/// What the task tells.
#[derive(Debug)]
pub enum StreamEvent {
    /// There is a stream: messages may be sent here.
    Connected(Stream),
    /// A message came.
    Received(Box<ControllerMessage>),
    /// The stream is gone.
    Disconnected(String),
}

/// Runs until the receiver of events is dropped.
pub async fn run(remotes: Vec<String>, events: mpsc::Sender<StreamEvent>) {
    if remotes.is_empty() {
        tracing::warn!("no controller is configured: the last known rows stay in effect");
        return;
    }
    let mut jitter = Jitter::new();
    let mut next = jitter.below(remotes.len() as u64) as usize; // below the length
    let mut pause = PAUSE_MIN;
    while !events.is_closed() {
        let remote = &remotes[next];
        next = (next + 1) % remotes.len();
        let mut lived = false;
        let why = match connect(remote).await {
            Ok(client) => carry(client, &events, &mut lived).await,
            Err(error) => error,
        };
        tracing::info!(controller = %remote, %why, "no stream to the controller");
        if events.send(StreamEvent::Disconnected(why)).await.is_err() {
            return;
        }
        pause = if lived { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        sleep(pause / 2 + Duration::from_millis(jitter.below(pause.as_millis() as u64))).await; // at most seconds
    }
}

async fn connect(remote: &str) -> Result<AgentServiceClient<Channel>, String> {
    let endpoint = Endpoint::from_shared(remote.to_owned()).map_err(|error| error.to_string())?;
    let channel = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect()
        .await
        .map_err(|error| with_sources(&error))?;
    Ok(AgentServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

async fn carry(
    client: AgentServiceClient<Channel>,
    events: &mpsc::Sender<StreamEvent>,
    lived: &mut bool,
) -> String {
    let (sender, messages) = mpsc::channel(MESSAGES_MAX);
    let (open, closed) = oneshot::channel();
    // A server may hold its response headers back until the hello is there.
    if events.send(StreamEvent::Connected(Stream { messages: sender, _open: open })).await.is_err() {
        return "the agent ends".to_owned();
    }
    tokio::select! {
        why = receive(client, messages, events, lived) => why,
        _ = closed => "closed by the agent".to_owned(),
    }
}

async fn receive(
    mut client: AgentServiceClient<Channel>,
    messages: mpsc::Receiver<AgentMessage>,
    events: &mpsc::Sender<StreamEvent>,
    lived: &mut bool,
) -> String {
    let mut answers = match client.sync(ReceiverStream::new(messages)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status.to_string(),
    };
    loop {
        match answers.message().await {
            Ok(Some(message)) => {
                *lived = true;
                if events.send(StreamEvent::Received(Box::new(message))).await.is_err() {
                    return "the agent ends".to_owned();
                }
            }
            Ok(None) => return "closed by the controller".to_owned(),
            Err(status) => return status.to_string(),
        }
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Numbers to spread agents over time and controllers; not for secrets.
#[derive(Debug)]
struct Jitter(std::hash::RandomState, u64);

impl Jitter {
    fn new() -> Self {
        Self(std::hash::RandomState::new(), 0)
    }

    fn below(&mut self, limit: u64) -> u64 {
        use std::hash::BuildHasher;
        self.1 += 1;
        self.0.hash_one(self.1) % limit.max(1)
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const WINDOW_BYTES: u32 = 4 << 20;
const MESSAGE_BYTES_MAX: usize = 64 << 20;
const MESSAGES_MAX: usize = 256;
