//! The socket to the bridge and the task around it.
//!
//! # Invariants
//! - Writes are gathered: as many messages go into one write as wait for it.
//! - A connection that is dropped closes at once, whatever waits to be written: a peer that hangs does not hold it.
//! - A connection that fails as soon as it is made is tried again more and more seldom.
//! - A peer that does not read makes the queue of pieces grow by at most what the driver has under way: one batch.

use std::{path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

/// A connection; dropping it closes it.
#[derive(Debug)]
pub struct Socket {
    pieces: mpsc::UnboundedSender<Vec<u8>>,
    _open: oneshot::Sender<()>,
}

impl Socket {
    /// Sends, unless the connection is lost, which is told by an event of its own.
    pub fn send(&self, bytes: Vec<u8>) {
        let _ = self.pieces.send(bytes);
    }
}

/// What the task tells.
#[derive(Debug)]
pub enum SocketEvent {
    /// There is a connection.
    Connected(Socket),
    /// Bytes came.
    Received(Vec<u8>),
    /// The connection is gone, or can't be made.
    Disconnected(String),
}

/// Connects again and again until the receiver of events is dropped.
pub async fn run(path: PathBuf, events: mpsc::Sender<SocketEvent>) {
    let mut pause = PAUSE_MIN;
    while !events.is_closed() {
        let since = Instant::now();
        let why = match UnixStream::connect(&path).await {
            Ok(stream) => carry(stream, &events).await,
            Err(error) => error.to_string(),
        };
        if since.elapsed() >= PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        tracing::debug!(path = %path.display(), %why, "no connection to the bridge");
        if events.send(SocketEvent::Disconnected(why)).await.is_err() {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn carry(stream: UnixStream, events: &mpsc::Sender<SocketEvent>) -> String {
    let (mut reader, mut writer) = stream.into_split();
    let (sender, mut pieces) = mpsc::unbounded_channel::<Vec<u8>>();
    let (open, closed) = oneshot::channel();
    let socket = Socket { pieces: sender, _open: open };
    if events.send(SocketEvent::Connected(socket)).await.is_err() {
        return "the agent ends".to_owned();
    }
    let write = async move {
        let mut gathered = Vec::new();
        while let Some(piece) = pieces.recv().await {
            gathered.clear();
            gathered.extend_from_slice(&piece);
            while gathered.len() < GATHER_BYTES
                && let Ok(more) = pieces.try_recv()
            {
                gathered.extend_from_slice(&more);
            }
            if let Err(error) = writer.write_all(&gathered).await {
                return error.to_string();
            }
        }
        "closed by the agent".to_owned()
    };
    let read = async {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => return "closed by the switch".to_owned(),
                Ok(count) => {
                    if events.send(SocketEvent::Received(buffer[..count].to_vec())).await.is_err() {
                        return "the agent ends".to_owned();
                    }
                }
                Err(error) => return error.to_string(),
            }
        }
    };
    tokio::select! {
        why = write => why,
        why = read => why,
        _ = closed => "closed by the agent".to_owned(),
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const GATHER_BYTES: usize = 512 << 10;
const READ_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn a_peer_that_hangs_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("br-int.mgmt");
        let listener = UnixListener::bind(&path).unwrap();
        let (events, mut inbox) = mpsc::channel(4);
        let task = tokio::spawn(run(path, events));
        let (_peer, _) = listener.accept().await.unwrap();
        let Some(SocketEvent::Connected(socket)) = inbox.recv().await else { panic!("connected") };
        // More than the kernel holds for a peer that does not read.
        socket.send(vec![0; 32 << 20]);
        tokio::task::yield_now().await;
        drop(socket);
        let event = tokio::time::timeout(Duration::from_secs(10), inbox.recv()).await.unwrap();
        assert!(matches!(event, Some(SocketEvent::Disconnected(_))), "{event:?}");
        task.abort();
    }
}
