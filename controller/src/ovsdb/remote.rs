//! One way for clients and server to meet: a socket that waits for clients, or a peer that is called.
//!
//! # Contract
//! - Ends its sessions when it is dropped.
//! - Says what became of it in [`Status`]; who shows that is `connections`.
//!
//! # Invariants
//! - Sessions of a server are at most [`SESSIONS_MAX`]; who comes after them waits in the socket's queue.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    connection::{self, Options, Service},
    target::Target,
    tls::Tls,
};
use crate::serve;

/// What became of a remote.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Status {
    /// Sessions.
    pub(super) sessions: usize,
    /// Where it listens.
    pub(super) bound_port: Option<u16>,
    /// Why it can't listen or call.
    pub(super) last_error: Option<String>,
}

/// A remote that is served.
#[derive(Debug)]
pub(super) struct Remote {
    options: watch::Sender<Options>,
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        // With it end the sessions, which it keeps in a set.
        self.task.abort();
    }
}

impl Remote {
    /// Listens at once, and fails if that is not possible. The target must be passive.
    pub(super) async fn bind(service: Arc<Service>, target: &Target, tls: Option<Tls>) -> io::Result<Self> {
        let listener = Listener::bind(target, tls.as_ref()).await?;
        Ok(Self::start(service, target.clone(), Options::of(target), tls, Some(listener)))
    }

    /// Listens or calls, and tries again if that is not possible.
    pub(super) fn open(service: Arc<Service>, target: Target, options: Options, tls: Option<Tls>) -> Self {
        Self::start(service, target, options, tls, None)
    }

    /// Where it stands.
    pub(super) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Other options, for running sessions too.
    pub(super) fn set_options(&self, options: Options) {
        self.options.send_if_modified(|current| {
            let changed = *current != options;
            *current = options;
            changed
        });
    }

    /// Waits until its sessions are gone.
    pub(super) async fn stop(mut self) {
        self.task.abort();
        // It was aborted, which is what this says.
        _ = (&mut self.task).await;
    }

    fn start(
        service: Arc<Service>,
        target: Target,
        options: Options,
        tls: Option<Tls>,
        listener: Option<Listener>,
    ) -> Self {
        let (options, watched) = watch::channel(options);
        let bound_port = listener.as_ref().and_then(Listener::port);
        let (sender, status) = watch::channel(Status { bound_port, ..Status::default() });
        let run = Run { service, target, options: watched, tls, status: sender, sessions: JoinSet::new() };
        Self { options, status, task: tokio::spawn(run.run(listener)) }
    }
}

/// A socket that waits for clients.
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
    Tls(TcpListener, TlsAcceptor),
}

impl Listener {
    async fn bind(target: &Target, tls: Option<&Tls>) -> io::Result<Self> {
        match target {
            Target::Punix(path) => match serve::Listener::unix(path)? {
                serve::Listener::Unix(listener) => Ok(Self::Unix(listener)),
                serve::Listener::Tcp(_) => unreachable!("a path was asked for"),
            },
            Target::Ptcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Target::Pssl(address) => {
                let acceptor = tls.ok_or_else(no_certificate)?.acceptor()?;
                Ok(Self::Tls(TcpListener::bind(address).await?, acceptor))
            }
            Target::Unix(_) | Target::Tcp(_) | Target::Ssl(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{target} calls, it does not wait")))
            }
        }
    }

    async fn accept(&self) -> io::Result<Accepted> {
        let tcp = async |listener: &TcpListener| {
            let (stream, address) = listener.accept().await?;
            // A reply is small and must not wait for the one before to be acknowledged.
            stream.set_nodelay(true)?;
            io::Result::Ok((stream, address))
        };
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
            Self::Tcp(listener) => {
                tcp(listener).await.map(|(stream, address)| Accepted::Tcp(stream, address))
            }
            Self::Tls(listener, acceptor) => {
                let (stream, address) = tcp(listener).await?;
                Ok(Accepted::Tls(stream, address, acceptor.clone()))
            }
        }
    }

    fn port(&self) -> Option<u16> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(listener) | Self::Tls(listener, _) => {
                listener.local_addr().ok().map(|address| address.port())
            }
        }
    }
}

/// A client that has just come.
enum Accepted {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr),
    Tls(TcpStream, SocketAddr, TlsAcceptor),
}

struct Run {
    service: Arc<Service>,
    target: Target,
    options: watch::Receiver<Options>,
    tls: Option<Tls>,
    status: watch::Sender<Status>,
    sessions: JoinSet<()>,
}

impl Run {
    async fn run(mut self, mut listener: Option<Listener>) {
        let mut pause = CALL_PAUSE_MIN;
        loop {
            let since = Instant::now();
            let ended =
                if self.target.is_passive() { self.listen(listener.take()).await } else { self.call().await };
            if let Err(error) = ended {
                tracing::warn!(target = %self.target, database = self.service.database.name(), %error, "OVSDB remote failed; it is tried again");
                self.status.send_modify(|status| status.last_error = Some(error.to_string()));
            }
            let most = self.options.borrow().backoff_max;
            if since.elapsed() > most {
                pause = CALL_PAUSE_MIN;
            }
            sleep(pause).await;
            pause = (pause * 2).min(most);
        }
    }

    async fn listen(&mut self, listener: Option<Listener>) -> io::Result<()> {
        let listener = match listener {
            Some(listener) => listener,
            None => Listener::bind(&self.target, self.tls.as_ref()).await?,
        };
        let bound_port = listener.port();
        self.status.send_modify(|status| {
            status.bound_port = bound_port;
            status.last_error = None;
        });
        tracing::info!(target = %self.target, database = self.service.database.name(), port = bound_port, "OVSDB server listens");
        loop {
            let place = self.place().await?;
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = self.sessions.join_next() => continue,
            };
            match accepted {
                Ok(accepted) => self.begin(accepted, place),
                Err(error) => {
                    // Out of descriptors, most likely: what is open goes on.
                    tracing::warn!(target = %self.target, %error, "an OVSDB client was not accepted");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn begin(&mut self, accepted: Accepted, place: OwnedSemaphorePermit) {
        match accepted {
            Accepted::Unix(stream) => {
                let uid = stream.peer_cred().map(|credentials| credentials.uid());
                let name = uid.map_or_else(|_| "unix".to_owned(), |uid| format!("unix:{uid}"));
                self.session(name, place, async { unix_here(stream) });
            }
            Accepted::Tcp(stream, address) => {
                self.session(format!("tcp:{address}"), place, async { tcp_here(stream) });
            }
            Accepted::Tls(stream, address, acceptor) => {
                self.session(format!("ssl:{address}"), place, async move {
                    timeout(HANDSHAKE_WITHIN, acceptor.accept(tcp_here(stream)?)).await?
                });
            }
        }
    }

    /// Calls the peer and serves it until the connection ends.
    async fn call(&mut self) -> io::Result<()> {
        let place = self.place().await?;
        let name = self.target.to_string();
        match self.target.clone() {
            Target::Unix(path) => {
                let stream = UnixStream::connect(&path).await?;
                self.session(name, place, async { unix_here(stream) });
            }
            Target::Tcp(address) => {
                let stream = connect(address).await?;
                self.session(name, place, async { tcp_here(stream) });
            }
            Target::Ssl(address) => {
                let (connector, server) =
                    (self.tls.as_ref().ok_or_else(no_certificate)?.connector()?, address.ip().into());
                let stream = connect(address).await?;
                self.session(name, place, async move {
                    timeout(HANDSHAKE_WITHIN, connector.connect(server, tcp_here(stream)?)).await?
                });
            }
            Target::Punix(_) | Target::Ptcp(_) | Target::Pssl(_) => return Ok(()),
        }
        self.status.send_modify(|status| status.last_error = None);
        while self.sessions.join_next().await.is_some() {}
        Ok(())
    }

    async fn place(&self) -> io::Result<OwnedSemaphorePermit> {
        let places = &self.service.places;
        if places.available_permits() == 0 {
            tracing::warn!(
                database = self.service.database.name(),
                max = SESSIONS_MAX,
                "no more OVSDB clients are accepted until one ends"
            );
        }
        places.clone().acquire_owned().await.map_err(io::Error::other)
    }

    /// Serves a client on one of the threads; `stream` is awaited there.
    fn session<S, F>(&mut self, name: String, place: OwnedSemaphorePermit, stream: F)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
    {
        let (service, options) = (self.service.clone(), self.options.clone());
        let counted = Counted::new(self.status.clone());
        let thread = self.service.threads.next().clone();
        let session = async move {
            let ended = match stream.await {
                Ok(stream) => connection::serve(service, stream, &name, options).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::debug!(peer = name, %error, "OVSDB connection ended");
            }
            drop((counted, place));
        };
        self.sessions.spawn_on(session, &thread);
    }
}

/// The stream with the runtime of this thread.
fn tcp_here(stream: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

/// The stream with the runtime of this thread.
fn unix_here(stream: UnixStream) -> io::Result<UnixStream> {
    UnixStream::from_std(stream.into_std()?)
}

fn no_certificate() -> io::Error {
    let text = "no private key and certificate for TLS: neither on the command line nor in table SSL";
    io::Error::new(io::ErrorKind::NotFound, text)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_WITHIN, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A session that is counted while it lives.
struct Counted(watch::Sender<Status>);

impl Counted {
    fn new(status: watch::Sender<Status>) -> Self {
        status.send_modify(|status| status.sessions += 1);
        Self(status)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|status| status.sessions -= 1);
    }
}

/// Sessions of one server.
pub(super) const SESSIONS_MAX: usize = 4_096;
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
const CALL_PAUSE_MIN: Duration = Duration::from_secs(1);
