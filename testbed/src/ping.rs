//! `ping` and `arping` from a VM, with what they reported.
//!
//! # Contract
//! - In: a destination and options. Out: [`PingResult`]; an unreachable destination is a result, not an error.

use std::{net::IpAddr, time::Duration};

use serde::Serialize;

use crate::{Error, Result, Vm, wait::wait_ok};

/// How to ping.
#[derive(Clone, Debug)]
pub struct PingOptions {
    /// How many requests.
    pub count: u32,
    /// Milliseconds between them.
    pub interval_ms: u32,
    /// Seconds to wait for the last answer.
    pub wait_s: u32,
    /// Payload bytes (8 of ICMP and 20 or 40 of IP come on top).
    pub payload_bytes: Option<u32>,
    /// Forbid fragmentation, at the sender too.
    pub dont_fragment: bool,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// Source address.
    pub source: Option<IpAddr>,
}

impl Default for PingOptions {
    fn default() -> Self {
        Self {
            count: 3,
            interval_ms: 100,
            wait_s: 1,
            payload_bytes: None,
            dont_fragment: false,
            ttl: None,
            source: None,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PingResult {
    /// Requests sent.
    pub sent: u32,
    /// Answers received, duplicates not counted.
    pub received: u32,
    /// Mean round-trip time in milliseconds, when anything was answered.
    pub rtt_ms: Option<f64>,
    /// ICMP errors and refusals of the local stack, a line each ("Time to live exceeded", "Message too long").
    pub errors: Vec<String>,
}

impl PingResult {
    /// Every request was answered.
    pub fn all_answered(&self) -> bool {
        self.sent > 0 && self.received == self.sent
    }

    /// No request was answered.
    pub fn none_answered(&self) -> bool {
        self.received == 0
    }
}

impl Vm {
    /// Pings a destination.
    pub fn ping(&self, destination: IpAddr, options: &PingOptions) -> Result<PingResult> {
        let mut argv = vec!["ping".to_owned(), "-n".to_owned()];
        let mut option = |name: &str, value: String| argv.extend([name.to_owned(), value]);
        option("-c", options.count.to_string());
        option("-i", format!("{}.{:03}", options.interval_ms / 1000, options.interval_ms % 1000));
        option("-W", options.wait_s.to_string());
        if let Some(bytes) = options.payload_bytes {
            option("-s", bytes.to_string());
        }
        if options.dont_fragment {
            option("-M", "do".into());
        }
        if let Some(ttl) = options.ttl {
            option("-t", ttl.to_string());
        }
        if let Some(source) = options.source {
            option("-I", source.to_string());
        }
        argv.push(destination.to_string());
        let time =
            u64::from(options.count) * u64::from(options.interval_ms) / 1000 + u64::from(options.wait_s);
        let output = self.command(argv).within(Duration::from_secs(time + 30)).run()?;
        // 0: answered, 1: not (all) answered; 2 is a refusal by the local stack, such as "Network is unreachable".
        parse(&output.stdout, &output.stderr)
    }

    /// Pings until something answers.
    pub fn wait_reachable(&self, destination: IpAddr, within: Duration) -> Result<()> {
        let once = PingOptions { count: 1, ..PingOptions::default() };
        wait_ok(within, &format!("{} to reach {destination}", self.name()), || {
            match self.ping(destination, &once) {
                Ok(result) if result.all_answered() => Ok(()),
                Ok(result) => Err(format!("last ping: {result:?}")),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    /// Asks for the MAC addresses that answer for an IPv4 address (`arping`): none, one, or a conflict of several.
    pub fn arping(&self, address: std::net::Ipv4Addr) -> Result<Vec<String>> {
        let address = address.to_string();
        let output = self.exec(["arping", "-r", "-c", "2", "-w", "2", "-i", "eth0", &address])?;
        let mut macs: Vec<String> = output.stdout.split_whitespace().map(str::to_owned).collect();
        macs.sort();
        macs.dedup();
        Ok(macs)
    }
}

fn parse(stdout: &str, stderr: &str) -> Result<PingResult> {
    let mut result = PingResult::default();
    let mut summary = false;
    for line in stdout.lines().chain(stderr.lines()).map(str::trim) {
        if let Some(counts) = line.split_once(" packets transmitted, ") {
            summary = true;
            result.sent = number(counts.0, line)?;
            result.received = number(counts.1.split_whitespace().next().unwrap_or_default(), line)?;
        } else if let Some((_, times)) = line.split_once("mdev = ") {
            result.rtt_ms = times.split('/').nth(1).and_then(|mean| mean.parse().ok());
        } else if line.starts_with("From ") || line.starts_with("ping: ") {
            result.errors.push(line.to_owned());
        }
    }
    if summary || !result.errors.is_empty() {
        return Ok(result);
    }
    Err(Error::Output { program: "ping", problem: format!("no summary in {stdout:?} {stderr:?}") })
}

fn number(text: &str, line: &str) -> Result<u32> {
    text.parse().map_err(|_| Error::Output { program: "ping", problem: format!("no counts in {line:?}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_answers() {
        let text = "64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.3 ms\n\n--- 10.0.0.2 ping statistics ---\n\
                    3 packets transmitted, 2 received, 33.3% packet loss, time 202ms\n\
                    rtt min/avg/max/mdev = 0.290/0.310/0.330/0.020 ms\n";
        let expected = PingResult { sent: 3, received: 2, rtt_ms: Some(0.31), errors: vec![] };
        assert_eq!(parse(text, "").unwrap(), expected);
    }

    #[test]
    fn keeps_errors() {
        let text = "From 10.0.0.1 icmp_seq=1 Time to live exceeded\n\
                    1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms\n";
        let result = parse(text, "").unwrap();
        assert!(result.none_answered());
        assert_eq!(result.errors, ["From 10.0.0.1 icmp_seq=1 Time to live exceeded"]);
        assert!(parse("", "ping: connect: Network is unreachable\n").unwrap().none_answered());
        assert!(parse("", "").is_err());
    }
}
