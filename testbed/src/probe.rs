//! A stream of 100 packets a second that counts what an outage costs.
//!
//! # Contract
//! - Start it, break something, mend it, [`Probe::stop`] it: the report says how many were lost and how long nothing came.
//! - [`Vm::probe_ping`] needs only an address that answers ICMP; [`Vm::probe_udp`] needs a VM that echoes, and passes
//!   through NAT and load balancers like a service would.
//!
//! # Invariants
//! - A packet still on its way when the stream is stopped is not counted as lost.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    Error, Result, Signal, Vm,
    background::Background,
    error::IoContext,
    wait::{pace, wait_ok},
};

/// What a stream met.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProbeReport {
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub received: u64,
    /// Longest time without an answer, start and end included; about 10 when nothing happened.
    pub longest_gap_ms: u64,
    /// Longest run of requests without an answer.
    pub longest_loss: u64,
}

impl ProbeReport {
    /// Requests that were never answered.
    pub fn lost(&self) -> u64 {
        self.sent - self.received
    }
}

/// A stream that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Probe(Kind);

#[derive(Debug)]
enum Kind {
    Icmp(Background),
    Udp(Udp),
}

impl Vm {
    /// 100 pings a second to `destination`.
    pub fn probe_ping(&self, destination: IpAddr) -> Result<Probe> {
        let argv = ["ping", "-n", "-D", "-i", "0.01", &destination.to_string()];
        Background::start(&self.netns(), &self.folder(), "probe", argv).map(|ping| Probe(Kind::Icmp(ping)))
    }

    /// 100 UDP packets a second to `destination`, which is how this VM reaches port `port` of `server`.
    pub fn probe_udp(&self, server: &Self, destination: IpAddr, port: u16) -> Result<Probe> {
        let any: IpAddr = if destination.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let open = |vm: &Self, port: u16| {
            let bind = move || UdpSocket::bind(SocketAddr::new(any, port));
            vm.netns().within(bind)?.doing(|| format!("open UDP port {port} in {}", vm.name()))
        };
        let (here, there) = (open(self, 0)?, open(server, port)?);
        let shared = Arc::new(Shared::default());
        let echo = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || echo(&there, &shared.stop_echo)
        });
        let send = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || send(&here, SocketAddr::new(destination, port), &shared)
        });
        Ok(Probe(Kind::Udp(Udp { shared, threads: vec![send, echo] })))
    }
}

impl Probe {
    /// Waits until `count` requests have been answered: the stream works, now break something.
    pub fn wait_received(&self, count: u64, within: Duration) -> Result<()> {
        wait_ok(within, &format!("{count} answers to the probe"), || match self.so_far() {
            Ok(report) if report.received >= count => Ok(()),
            Ok(report) => Err(format!("{report:?}")),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Ends the stream and says what it met.
    pub fn stop(mut self) -> Result<ProbeReport> {
        match &mut self.0 {
            Kind::Icmp(ping) => {
                ping.finish(Signal::SIGINT)?;
                icmp_report(&ping.output()?)
            }
            Kind::Udp(udp) => {
                udp.end();
                Ok(udp.shared.journal().report())
            }
        }
    }

    /// What it met until now.
    pub fn so_far(&self) -> Result<ProbeReport> {
        match &self.0 {
            Kind::Icmp(ping) => icmp_report(&ping.output()?),
            Kind::Udp(udp) => Ok(udp.shared.journal().report()),
        }
    }
}

// ---- ICMP --------------------------------------------------------------------------------------------------------

fn icmp_report(text: &str) -> Result<ProbeReport> {
    let mut journal = Journal::default();
    let mut last_seq = 0_u64;
    for line in text.lines() {
        if let Some((sent, _)) = line.split_once(" packets transmitted, ") {
            let sent: u64 = sent.trim().parse().map_err(|_| unreadable(line))?;
            // The last request may have been on its way when ping was stopped.
            journal.sent = sent.saturating_sub(1).max(journal.highest);
        } else if line.contains(" bytes from ") && !line.contains("(DUP!)") {
            // The line being written at this moment may be incomplete: then it is left for the next look.
            let Some((micros, seq)) = icmp_answer(line) else { continue };
            // The sequence number has 16 bits; ping starts at 1.
            let seq = (last_seq & !0xffff) | seq;
            let seq = if seq + 0x8000 < last_seq { seq + 0x1_0000 } else { seq };
            last_seq = last_seq.max(seq);
            journal.sent = journal.sent.max(seq);
            journal.answer(seq, micros);
        }
    }
    Ok(journal.report())
}

fn icmp_answer(line: &str) -> Option<(u64, u64)> {
    let (stamp, rest) = line.strip_prefix('[')?.split_once(']')?;
    let (seconds, micros) = stamp.split_once('.')?;
    let seq = rest.split_once("icmp_seq=")?.1.split_whitespace().next()?;
    Some((seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?, seq.parse().ok()?))
}

fn unreadable(line: &str) -> Error {
    Error::Output { program: "ping", problem: format!("cannot read {line:?}") }
}

// ---- UDP ---------------------------------------------------------------------------------------------------------

#[derive(Debug)]
struct Udp {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    journal: Mutex<Journal>,
    stop_sending: AtomicBool,
    stop_echo: AtomicBool,
}

impl Shared {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Udp {
    fn end(&mut self) {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        for (index, thread) in self.threads.drain(..).enumerate() {
            // The echo goes on until the sender has collected what was on its way.
            if index == 1 {
                self.shared.stop_echo.store(true, Ordering::Relaxed);
            }
            // A thread that panicked has written its reason already; the report shows what was counted.
            drop(thread.join());
        }
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        self.end();
    }
}

fn echo(socket: &UdpSocket, stop: &AtomicBool) {
    let mut packet = [0; 64];
    if socket.set_read_timeout(Some(ECHO_LOOKS_UP_EVERY)).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut packet) {
            // An answer that cannot be sent is a loss like any other; the sender counts it.
            Ok((length, from)) => drop(socket.send_to(&packet[..length], from)),
            // ICMP errors about earlier answers surface here; they end nothing.
            Err(_) => continue,
        }
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, shared: &Shared) {
    let start = Instant::now();
    let (mut seq, mut next) = (0_u64, start);
    while !shared.stop_sending.load(Ordering::Relaxed) {
        seq += 1;
        shared.journal().sent = seq;
        // A packet the local stack refuses (no route, no neighbour) is lost like any other.
        drop(socket.send_to(&seq.to_be_bytes(), to));
        next += INTERVAL;
        receive_until(socket, next, start, shared, || false);
        pace(next);
    }
    let all_answered = || {
        let journal = shared.journal();
        journal.received == journal.sent
    };
    receive_until(socket, Instant::now() + SETTLE, start, shared, all_answered);
}

fn receive_until(
    socket: &UdpSocket,
    until: Instant,
    start: Instant,
    shared: &Shared,
    done: impl Fn() -> bool,
) {
    let mut packet = [0; 64];
    while !done() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match socket.recv_from(&mut packet) {
            Ok((8, _)) => {
                let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                let bytes = packet[..8].try_into().expect("a slice of eight bytes is an array of eight");
                shared.journal().answer(u64::from_be_bytes(bytes), micros);
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
            // "Connection refused" and its like: an ICMP error about an earlier packet, which stays lost.
            Err(_) => {}
        }
    }
}

// ---- counting ----------------------------------------------------------------------------------------------------

/// Answers as they come, condensed to what the report needs.
#[derive(Debug, Default)]
struct Journal {
    sent: u64,
    received: u64,
    /// Highest sequence number answered; they count from 1.
    highest: u64,
    last_micros: Option<u64>,
    longest_gap_micros: u64,
    longest_loss: u64,
}

impl Journal {
    fn answer(&mut self, seq: u64, micros: u64) {
        if seq > self.sent {
            return;
        }
        self.received += 1;
        if let Some(last) = self.last_micros {
            self.longest_gap_micros = self.longest_gap_micros.max(micros.saturating_sub(last));
        }
        self.last_micros = Some(self.last_micros.unwrap_or(0).max(micros));
        self.longest_loss = self.longest_loss.max(seq.saturating_sub(self.highest + 1));
        self.highest = self.highest.max(seq);
    }

    fn report(&self) -> ProbeReport {
        let at_the_end = self.sent.saturating_sub(self.highest);
        let interval_micros = INTERVAL.as_millis() as u64 * 1000;
        let gap_at_the_end = at_the_end * interval_micros;
        let gap_before_first = self.longest_loss * interval_micros;
        let gap = self.longest_gap_micros.max(gap_at_the_end).max(gap_before_first);
        ProbeReport {
            sent: self.sent,
            received: self.received,
            longest_gap_ms: gap.div_ceil(1000),
            longest_loss: self.longest_loss.max(at_the_end),
        }
    }
}

const INTERVAL: Duration = Duration::from_millis(10);
const SETTLE: Duration = Duration::from_millis(500);
const ECHO_LOOKS_UP_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn icmp_losses_and_gap_are_counted() {
        let text = "[1700000000.000000] 64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.1 ms\n\
                    [1700000000.010000] 64 bytes from 10.0.0.2: icmp_seq=2 ttl=64 time=0.1 ms\n\
                    [1700000000.510000] 64 bytes from 10.0.0.2: icmp_seq=52 ttl=64 time=0.1 ms\n\
                    \n--- 10.0.0.2 ping statistics ---\n\
                    53 packets transmitted, 3 received, 94% packet loss, time 520ms\n";
        let expected = ProbeReport { sent: 52, received: 3, longest_gap_ms: 500, longest_loss: 49 };
        assert_eq!(icmp_report(text).unwrap(), expected);
    }

    #[test]
    fn icmp_sequence_numbers_wrap() {
        let answer =
            |seq: u64, at: u64| format!("[{}.000000] 64 bytes from ::1: icmp_seq={seq} ttl=64\n", at);
        let text = [answer(65_535, 1), answer(0, 2), answer(1, 3)].concat();
        assert_eq!(icmp_report(&text).unwrap().sent, 65_537);
    }

    #[test]
    fn an_outage_that_lasts_to_the_end_is_a_gap() {
        let journal = Journal { sent: 100, received: 40, highest: 40, ..Journal::default() };
        let report = journal.report();
        assert_eq!((report.longest_gap_ms, report.longest_loss, report.lost()), (600, 60, 60));
    }
}
