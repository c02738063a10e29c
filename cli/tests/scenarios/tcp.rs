//! TCP between VMs, and hosts outside.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use quantumnet_testbed::{Vm, wait_for};

use crate::support::ip;

/// Long enough for an answer, and for a second request where the first was lost.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1_500);

/// A VM that takes connections to a port.
pub(crate) struct Server(TcpListener);

/// Both ends of a connection.
pub(crate) struct Connection {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
}

impl Server {
    pub(crate) fn open(vm: &Vm, port: u16) -> Self {
        let bind = move || TcpListener::bind(SocketAddr::new(IpAddr::from([0; 4]), port));
        Self(vm.netns().within(bind).unwrap().unwrap())
    }

    /// Connects to it by an address, if that is answered in time.
    pub(crate) fn connect(&self, from: &Vm, address: &str, patience: Duration) -> Option<Connection> {
        let to = SocketAddr::new(ip(address), self.0.local_addr().unwrap().port());
        let client = from.netns().within(move || TcpStream::connect_timeout(&to, patience)).unwrap().ok()?;
        let own = client.local_addr().unwrap();
        // Those that came in time to be taken up but not to be of use go first.
        loop {
            let (server, peer) = self.0.accept().unwrap();
            if peer == own {
                return Some(Connection { client, server });
            }
        }
    }

    /// The same where the client's address may be translated: the connection is known by what it says first. `None` too when
    /// somebody else answered.
    pub(crate) fn connect_translated(&self, from: &Vm, address: &str) -> Option<Connection> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let to = SocketAddr::new(ip(address), self.0.local_addr().unwrap().port());
        let connect = move || TcpStream::connect_timeout(&to, PATIENCE);
        let mut client = from.netns().within(connect).unwrap().ok()?;
        let token = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        client.write_all(&token).ok()?;
        self.0.set_nonblocking(true).unwrap();
        let accepted = wait_for(PATIENCE, "the connection to arrive", || {
            let (mut server, _) = self.0.accept().ok()?;
            server.set_nonblocking(false).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut said = [0; 8];
            (server.read_exact(&mut said).is_ok() && said == token).then_some(server)
        });
        self.0.set_nonblocking(false).unwrap();
        Some(Connection { client, server: accepted.ok()? })
    }

    /// The address that a client has here, if it gets through.
    pub(crate) fn seen(&self, from: &Vm, address: &str) -> Option<String> {
        let connection = self.connect_translated(from, address)?;
        Some(connection.server.peer_addr().unwrap().ip().to_string())
    }

    pub(crate) fn answers(&self, from: &Vm, address: &str) -> bool {
        self.connect(from, address, PATIENCE).is_some()
    }
}

impl Connection {
    /// Whether something comes through, and an answer back.
    pub(crate) fn is_alive(&mut self) -> bool {
        let through = |from: &mut TcpStream, to: &mut TcpStream| {
            to.set_read_timeout(Some(PATIENCE)).unwrap();
            from.write_all(b"x").is_ok() && to.read_exact(&mut [0]).is_ok()
        };
        through(&mut self.client, &mut self.server) && through(&mut self.server, &mut self.client)
    }

    /// Whether it stops within that time to carry what the client says.
    pub(crate) fn ends_within(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        self.server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while self.client.write_all(b"x").is_ok() && self.server.read_exact(&mut [0]).is_ok() {
            if Instant::now() > deadline {
                return false;
            }
        }
        // A packet that is lost is sent again, and does not pass either.
        !self.is_alive()
    }
}
