//! A way from the root namespace to a TCP port inside the lab: for clients that know only addresses.
//!
//! # Contract
//! - Connections to [`Forward::address`] (loopback) come out in the namespace. It works while the value lives.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use crate::{Lab, Netns, Node, Result, error::IoContext};

/// A TCP forwarder from loopback into a namespace.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    accept: Option<JoinHandle<()>>,
}

impl Lab {
    /// Forwards a free loopback port to `to`, as seen from `node`.
    pub fn forward(&self, node: Node, to: SocketAddr) -> Result<Forward> {
        let listener = TcpListener::bind("127.0.0.1:0").doing(|| "open a loopback port".into())?;
        let address = listener.local_addr().doing(|| "read the loopback port".into())?;
        let stop = Arc::new(AtomicBool::new(false));
        let accept = std::thread::spawn({
            let (netns, stop) = (self.netns(node), Arc::clone(&stop));
            move || serve(&listener, &netns, to, &stop)
        });
        Ok(Forward { address, stop, accept: Some(accept) })
    }
}

impl Forward {
    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accepting thread; if even that fails, the thread ends with the process.
        if TcpStream::connect(self.address).is_ok() {
            drop(self.accept.take().map(JoinHandle::join));
        }
    }
}

fn serve(listener: &TcpListener, netns: &Netns, to: SocketAddr, stop: &AtomicBool) {
    for outside in listener.incoming() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(outside) = outside else { continue };
        match netns.within(move || TcpStream::connect(to)) {
            // Dropping the outer connection tells the client that nobody is there.
            Ok(Err(error)) => tracing::debug!(%to, %error, "nobody answers inside the lab"),
            Err(error) => tracing::warn!(%to, %error, "the namespace cannot be entered"),
            Ok(Ok(inside)) => {
                let (Ok(outside_too), Ok(inside_too)) = (outside.try_clone(), inside.try_clone()) else {
                    continue;
                };
                std::thread::spawn(move || copy(outside, inside));
                std::thread::spawn(move || copy(inside_too, outside_too));
            }
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    // A broken connection ends like a closed one: the other side sees the end of the stream.
    drop(io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
}
