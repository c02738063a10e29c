//! The controller's sockets.
//!
//! # Contract
//! - One port speaks gRPC and JSON; HTTP/2 pings find peers that vanished, so that a dead hypervisor's stream ends.
//! - A stop lets requests end for a while, then closes what is left.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use axum::{Extension, Router, extract::ConnectInfo};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::watch,
    time::timeout,
};

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
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        Ok(Self::Unix(listener))
    }

    /// Serves connections until `stop` turns true.
    pub async fn serve(self, router: Router, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        loop {
            tokio::select! {
                accepted = self.accept(&router, &graceful) => {
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

    async fn accept(&self, router: &Router, graceful: &GracefulShutdown) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A row change is small and must not wait for the one before to be acknowledged.
                stream.set_nodelay(true)?;
                connection(stream, Peer::Tcp, router, graceful);
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
                connection(stream, Peer::Unix { uid }, router, graceful);
            }
        }
        Ok(())
    }
}

fn connection<S>(stream: S, peer: Peer, router: &Router, graceful: &GracefulShutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_WITHIN);
    let service = TowerToHyperService::new(router.clone().layer(Extension(ConnectInfo(peer))));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error, "connection ended");
        }
    });
}

const PING_EVERY: Duration = Duration::from_secs(5);
const PING_WITHIN: Duration = Duration::from_secs(10);
const STOP_WITHIN: Duration = Duration::from_secs(2);
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
