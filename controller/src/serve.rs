//! The controller's sockets.
//!
//! # Contract
//! - One port speaks gRPC and JSON; HTTP/2 pings find peers that vanished, so that a dead hypervisor's stream ends.
//! - A stop lets requests end for a while, then closes what is left.
//!
//! # Invariants
//! - A socket of this machine is at its path only once its mode is that of [`SOCKET_MODE`].
//! - Connections, and what each may ask for at once, are bounded; one that asks for nothing is closed.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tower::util::MapRequestLayer;

use crate::service::Peer;

/// A socket that waits for connections.
#[derive(Debug)]
pub enum Listener {
    /// On the network.
    Tcp(TcpListener),
    /// On this machine.
    Unix(UnixListener),
}

impl Listener {
    /// Listens on an address.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self::Tcp)
    }

    /// Listens on a path; a socket that nobody serves any more is replaced, anything else there is left alone.
    pub fn unix(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                let text = format!("{} exists and is no socket", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves this socket"));
            }
            Ok(_) => fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Made where nobody else can reach it: a socket is open to all that the umask lets until its mode is set.
        let mut private = path.as_os_str().to_owned();
        private.push(".new");
        let private = Path::new(&private);
        // A former start may have been killed.
        _ = fs::remove_dir_all(private);
        fs::DirBuilder::new().mode(0o700).create(private)?;
        let made = private.join("s");
        let listener = UnixListener::bind(&made)
            .and_then(|listener| {
                fs::set_permissions(&made, fs::Permissions::from_mode(SOCKET_MODE)).map(|()| listener)
            })
            .and_then(|listener| fs::rename(&made, path).map(|()| listener));
        fs::remove_dir_all(private)?;
        listener.map(Self::Unix)
    }

    /// Serves connections until `stop` turns true.
    pub async fn serve(self, router: Router, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            tokio::select! {
                accepted = self.accept(&router, &graceful, &places) => {
                    if let Err(error) = accepted {
                        // Out of descriptors, most likely: what is open goes on.
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                }
                () = async { _ = stop.wait_for(|stop| *stop).await } => break,
            }
        }
        // Streams of agents and watchers have no end of their own.
        _ = timeout(STOP_WITHIN, graceful.shutdown()).await;
    }

    async fn accept(
        &self,
        router: &Router,
        graceful: &GracefulShutdown,
        places: &Arc<Semaphore>,
    ) -> io::Result<()> {
        if places.available_permits() == 0 {
            tracing::warn!(max = CONNECTIONS_MAX, "no more connections are accepted until one ends");
        }
        let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A row change is small and must not wait for the one before to be acknowledged.
                stream.set_nodelay(true)?;
                connection(stream, Peer::Tcp, router, graceful, place);
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
                connection(stream, Peer::Unix { uid }, router, graceful, place);
            }
        }
        Ok(())
    }
}

fn connection<S>(
    stream: S,
    peer: Peer,
    router: &Router,
    graceful: &GracefulShutdown,
    place: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    // A client that closes its side after the request still gets its answer, which may take a forward to the leader.
    builder.http1().half_close(true).timer(TokioTimer::new()).header_read_timeout(FIRST_REQUEST_WITHIN);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_WITHIN);
    http2
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX);
    let asked = Arc::new(AtomicBool::new(false));
    let asks = asked.clone();
    let introduce = MapRequestLayer::new(move |mut request: Request<Body>| {
        asks.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    });
    let service = TowerToHyperService::new(router.clone().layer(introduce));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = connection => ended,
            () = silence(&asked) => Err("it asked for nothing".into()),
        };
        if let Err(error) = ended {
            tracing::debug!(error, "connection ended");
        }
        drop(place);
    });
}

/// Ends when the connection should have asked for something by now.
async fn silence(asked: &AtomicBool) {
    tokio::time::sleep(FIRST_REQUEST_WITHIN).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// For the user and the group of the controller.
pub const SOCKET_MODE: u32 = 0o660;
/// Connections of one listener.
const CONNECTIONS_MAX: usize = 8_192;
/// Calls under way on one connection.
const STREAMS_MAX: u32 = 256;
const HEADERS_BYTES_MAX: u32 = 16 << 10;
/// Calls that a client made and took back before they were looked at.
const RESETS_MAX: usize = 20;
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(30);
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_WITHIN: Duration = Duration::from_secs(10);
const STOP_WITHIN: Duration = Duration::from_secs(2);
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
