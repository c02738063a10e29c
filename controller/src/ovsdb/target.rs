//! Connection methods in Open vSwitch's words (ovsdb(7), "Active Database Connection Methods" and "Passive …").

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use thiserror::Error;

/// How clients and server meet.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Target {
    /// `punix:PATH`: wait on this machine.
    Punix(PathBuf),
    /// `ptcp:[PORT][:IP]`: wait for anyone.
    Ptcp(SocketAddr),
    /// `pssl:[PORT][:IP]`: wait for whom an authority vouches for.
    Pssl(SocketAddr),
    /// `unix:PATH`: call.
    Unix(PathBuf),
    /// `tcp:IP[:PORT]`: call.
    Tcp(SocketAddr),
    /// `ssl:IP[:PORT]`: call.
    Ssl(SocketAddr),
}

/// Text that is no connection method.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "expected ptcp:[PORT][:IP], pssl:[PORT][:IP], punix:PATH, tcp:IP[:PORT], ssl:IP[:PORT] or unix:PATH, got {got:?}"
)]
pub struct TargetError {
    /// The text.
    pub got: String,
}

impl Target {
    /// Whether the server waits for clients.
    pub const fn is_passive(&self) -> bool {
        matches!(self, Self::Punix(_) | Self::Ptcp(_) | Self::Pssl(_))
    }

    /// Whether it takes key and certificates.
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Pssl(_) | Self::Ssl(_))
    }

    /// Whether it listens where the other would, on all addresses.
    pub const fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ptcp(wide), Self::Ptcp(narrow)) | (Self::Pssl(wide), Self::Pssl(narrow)) => {
                wide.port() == narrow.port()
                    && wide.port() != 0
                    && wide.is_ipv4() == narrow.is_ipv4()
                    && wide.ip().is_unspecified()
                    && !narrow.ip().is_unspecified()
            }
            _ => false,
        }
    }

    /// Whether a peer may vanish without a word.
    pub const fn needs_probes(&self) -> bool {
        !matches!(self, Self::Punix(_) | Self::Unix(_))
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError { got: text.chars().take(EXCERPT_MAX).collect() };
        let (method, rest) = text.split_once(':').ok_or_else(wrong)?;
        let target = match method {
            "punix" if !rest.is_empty() => Some(Self::Punix(rest.into())),
            "unix" if !rest.is_empty() => Some(Self::Unix(rest.into())),
            "ptcp" => passive(rest).map(Self::Ptcp),
            "pssl" => passive(rest).map(Self::Pssl),
            "tcp" => active(rest).map(Self::Tcp),
            "ssl" => active(rest).map(Self::Ssl),
            _ => None,
        };
        target.ok_or_else(wrong)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = |address: &SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        match self {
            Self::Punix(path) => write!(f, "punix:{}", path.display()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Ptcp(address) => write!(f, "ptcp:{}:{}", address.port(), ip(address)),
            Self::Pssl(address) => write!(f, "pssl:{}:{}", address.port(), ip(address)),
            Self::Tcp(address) => write!(f, "tcp:{}:{}", ip(address), address.port()),
            Self::Ssl(address) => write!(f, "ssl:{}:{}", ip(address), address.port()),
        }
    }
}

/// `[PORT][:IP]`
fn passive(text: &str) -> Option<SocketAddr> {
    let (port, host) = text.split_once(':').unwrap_or((text, ""));
    let ip = if host.is_empty() { Ipv4Addr::UNSPECIFIED.into() } else { parse_ip(host)? };
    Some(SocketAddr::new(ip, parse_port(port)?))
}

/// `IP[:PORT]`
fn active(text: &str) -> Option<SocketAddr> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { "" } else { port.strip_prefix(':')? })
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    Some(SocketAddr::new(parse_ip(host)?, parse_port(port)?))
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).parse().ok()
}

fn parse_port(text: &str) -> Option<u16> {
    if text.is_empty() { Some(DEFAULT_PORT) } else { text.parse().ok() }
}

/// OVSDB's (RFC 7047, section 7).
const DEFAULT_PORT: u16 = 6640;
const EXCERPT_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_and_printed() {
        for (text, printed) in [
            ("ptcp:6641", "ptcp:6641:0.0.0.0"),
            ("ptcp:", "ptcp:6640:0.0.0.0"),
            ("ptcp:0:127.0.0.1", "ptcp:0:127.0.0.1"),
            ("pssl:6641:[::1]", "pssl:6641:[::1]"),
            ("pssl::10.0.0.1", "pssl:6640:10.0.0.1"),
            ("punix:/run/a:b.sock", "punix:/run/a:b.sock"),
            ("unix:x", "unix:x"),
            ("tcp:10.0.0.1", "tcp:10.0.0.1:6640"),
            ("ssl:[fe80::1]:7", "ssl:[fe80::1]:7"),
        ] {
            assert_eq!(text.parse::<Target>().map(|target| target.to_string()), Ok(printed.to_owned()));
        }
        for text in ["", "ptcp", "ptcp:x", "ptcp:1:host", "tcp:", "punix:", "udp:1", "ptcp:65536", "tcp:[::1"]
        {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
