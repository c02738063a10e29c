//! Raw Ethernet frames from a VM: forged ones, floods, and questions with their answers.
//!
//! # Contract
//! - Frames are given and returned as bytes from the destination MAC on, without checksum of the frame.
//! - The socket is opened by a small Python program, because a packet socket cannot be had here without `unsafe`.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Vm, command::find_program};

/// Many frames of a kind, made up as they are sent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum Flood {
    /// Broadcasts from as many source MACs as there are frames.
    RandomMac,
    /// ARP requests for random addresses of a /16, from the VM's own MAC and this address.
    Arp {
        /// The sender's protocol address.
        sender: Ipv4Addr,
        /// The first address of the /16.
        network: Ipv4Addr,
    },
    /// DHCP discovers, each from a client hardware address of its own.
    DhcpDiscover,
}

#[derive(Serialize)]
struct Order<'a> {
    interface: &'a str,
    send: Vec<String>,
    repeat: u32,
    flood: Option<&'a Flood>,
    count: u32,
    mac: &'a str,
    collect_ms: u64,
    most: usize,
    xid: Option<u32>,
}

#[derive(Deserialize)]
struct Done {
    sent: u64,
    frames: Vec<String>,
}

impl Vm {
    /// Sends frames as they are.
    pub fn send_frames(&self, frames: &[Vec<u8>]) -> Result<()> {
        self.order(Order { send: frames.iter().map(|frame| hex(frame)).collect(), ..self.nothing() })
            .map(drop)
    }

    /// Sends one frame given in hex (blanks and colons are passed over).
    pub fn send_frame_hex(&self, frame: &str) -> Result<()> {
        self.send_frames(&[unhex(frame)?])
    }

    /// Sends `count` frames as fast as it goes; returns how many were sent.
    pub fn flood(&self, flood: &Flood, count: u32) -> Result<u64> {
        self.order(Order { flood: Some(flood), count, ..self.nothing() }).map(|done| done.sent)
    }

    /// Sends frames and returns what arrives within `listen`, at most `most` frames (then it returns at once).
    pub fn exchange(&self, frames: &[Vec<u8>], listen: Duration, most: usize) -> Result<Vec<Vec<u8>>> {
        self.exchange_dhcp(frames, listen, most, None)
    }

    /// Like [`Vm::exchange`], for the answers to one DHCP transaction only.
    pub(crate) fn exchange_dhcp(
        &self,
        frames: &[Vec<u8>],
        listen: Duration,
        most: usize,
        xid: Option<u32>,
    ) -> Result<Vec<Vec<u8>>> {
        let send = frames.iter().map(|frame| hex(frame)).collect();
        let collect_ms = u64::try_from(listen.as_millis()).unwrap_or(u64::MAX);
        let done = self.order(Order { send, collect_ms, most, xid, ..self.nothing() })?;
        done.frames.iter().map(|frame| unhex(frame)).collect()
    }

    fn nothing(&self) -> Order<'_> {
        let (send, mac) = (Vec::new(), self.mac());
        Order {
            interface: "eth0",
            send,
            repeat: 1,
            flood: None,
            count: 0,
            mac,
            collect_ms: 0,
            most: 0,
            xid: None,
        }
    }

    fn order(&self, order: Order<'_>) -> Result<Done> {
        let unreadable = |problem: String| Error::Output { program: "the frame sender", problem };
        let text = serde_json::to_string(&order).map_err(|error| unreadable(error.to_string()))?;
        let time = Duration::from_millis(order.collect_ms) + Duration::from_secs(120);
        let python = python()?;
        let command = self.command([python.as_os_str()]).args(["-I", "-c", SENDER]);
        let answer = command.stdin(text).within(time).check()?;
        serde_json::from_str(&answer).map_err(|error| unreadable(format!("{error} in {answer:?}")))
    }
}

/// Debian's own interpreter rather than a wrapper that a developer's `PATH` may hold.
fn python() -> Result<PathBuf> {
    find_program("/usr/bin/python3", "python3").or_else(|_| find_program("python3", "python3"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let invalid = || Error::Invalid {
        what: "frame",
        value: text.to_owned(),
        rule: "an even number of hex digits".to_owned(),
    };
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace() && *c != ':')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(invalid))
        .collect::<Result<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return Err(invalid());
    }
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

const SENDER: &str = include_str!("assets/frames.py");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_refuses_rubbish() {
        assert_eq!(unhex("02:00 ff").unwrap(), [0x02, 0x00, 0xff]);
        assert_eq!(hex(&[0x02, 0x00, 0xff]), "0200ff");
        assert!(unhex("0").is_err());
        assert!(unhex("zz").is_err());
    }
}
