//! The command line.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, str::FromStr};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;

use crate::ovsdb::{Target, Tls, Versions};

/// A member of the QuantumNet controller cluster: the replicated store and the APIs.
#[derive(Clone, Debug, Parser)]
#[command(name = "quantumnet-controller", version)]
pub struct Config {
    /// Directory of the log and the snapshots; made if it is missing. Belongs to one member.
    #[arg(long, env = "QUANTUMNET_DATA_DIR", default_value = "/var/lib/quantumnet/controller")]
    pub data_dir: PathBuf,

    /// Number of this member, from 1; never given to another member later.
    #[arg(long, env = "QUANTUMNET_MEMBER_ID", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub member_id: u64,

    /// All members of the cluster with the addresses at which they reach each other, this one among them:
    /// `1=10.0.0.1:9643,2=10.0.0.2:9643,3=10.0.0.3:9643`. The same list on each. Without it: a cluster of one.
    #[arg(long, env = "QUANTUMNET_PEERS", value_delimiter = ',', value_name = "N=IP:PORT")]
    pub peers: Vec<Peer>,

    /// Address where this member serves the other members; by default its address in --peers. Whoever reaches it can
    /// write to the cluster: keep it on a network of the controllers.
    #[arg(long, env = "QUANTUMNET_PEER_LISTEN", value_name = "IP:PORT", requires = "peers")]
    pub peer_listen: Option<SocketAddr>,

    /// Growth of the log in octets after which a snapshot replaces its beginning.
    #[arg(long, env = "QUANTUMNET_SNAPSHOT_AFTER", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(1 << 10..))]
    pub snapshot_after: u64,

    /// Address of the gRPC and JSON API and of the agents' streams; may be given several times. Whoever reaches it
    /// administers the network: keep it on loopback or on the management network.
    #[arg(long, env = "QUANTUMNET_LISTEN", default_value = "127.0.0.1:9640", value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,

    /// Path of a unix socket with the same API, for users of this machine; its mode is 0660.
    #[arg(long, env = "QUANTUMNET_LISTEN_UNIX")]
    pub listen_unix: Option<PathBuf>,

    /// Where clients of OVN_Northbound are served, as Open vSwitch writes it: `ptcp:PORT[:IP]`, `pssl:PORT[:IP]` or
    /// `punix:PATH`; may be given several times. Rows of table Connection add to it.
    #[arg(long, env = "QUANTUMNET_NB", default_value = "ptcp:6641:127.0.0.1", value_delimiter = ',')]
    pub nb: Vec<Target>,

    /// The same for clients of OVN_Southbound.
    #[arg(long, env = "QUANTUMNET_SB", default_value = "ptcp:6642:127.0.0.1", value_delimiter = ',')]
    pub sb: Vec<Target>,

    /// Private key for `pssl:` and `ssl:`, a PEM file; without it the files that table SSL names.
    #[arg(long, env = "QUANTUMNET_SSL_PRIVATE_KEY", requires_all = ["ssl_certificate", "ssl_ca_cert"])]
    pub ssl_private_key: Option<PathBuf>,

    /// Certificate for that key, a PEM file.
    #[arg(long, env = "QUANTUMNET_SSL_CERTIFICATE", requires = "ssl_private_key")]
    pub ssl_certificate: Option<PathBuf>,

    /// Certificates of the authorities whose clients are accepted, a PEM file.
    #[arg(long, env = "QUANTUMNET_SSL_CA_CERT", requires = "ssl_private_key")]
    pub ssl_ca_cert: Option<PathBuf>,

    /// Address of the Prometheus endpoint `/metrics`.
    #[arg(long, env = "QUANTUMNET_METRICS", default_value = "127.0.0.1:9641")]
    pub metrics: SocketAddr,
}

/// A member and the address at which the others reach it, as `1=10.0.0.1:9643`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Its number.
    pub member: u64,
    /// Its address.
    pub address: SocketAddr,
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (member, address) = text.split_once('=').context("expected N=IP:PORT, as 1=10.0.0.1:9643")?;
        let member = member.trim().parse().with_context(|| format!("{member:?} is no number of a member"))?;
        ensure!(member != 0, "members are numbered from 1");
        let address: SocketAddr =
            address.trim().parse().with_context(|| format!("{address:?} is no IP:PORT"))?;
        ensure!(address.port() != 0, "the other members need a port to connect to");
        Ok(Self { member, address })
    }
}

impl Config {
    /// Key and certificates of the command line.
    pub fn tls(&self) -> Option<Tls> {
        Some(Tls {
            private_key: self.ssl_private_key.clone()?,
            certificate: self.ssl_certificate.clone()?,
            ca_certificate: self.ssl_ca_cert.clone()?,
            versions: Versions::default(),
        })
    }

    /// All members by number, and where this one serves the others; `None` for a cluster of one.
    pub fn members(&self) -> anyhow::Result<Option<(BTreeMap<u64, SocketAddr>, SocketAddr)>> {
        if self.peers.is_empty() {
            return Ok(None);
        }
        let mut members = BTreeMap::new();
        for Peer { member, address } in &self.peers {
            if let Some((other, _)) = members.iter().find(|(_, known)| *known == address) {
                bail!("--peers gives {address} to member {other} and to member {member}");
            }
            ensure!(members.insert(*member, *address).is_none(), "--peers names member {member} twice");
        }
        let own = members.get(&self.member_id).with_context(|| {
            let known: Vec<String> = members.keys().map(ToString::to_string).collect();
            format!(
                "--peers names members {}, this is member {} (--member-id)",
                known.join(","),
                self.member_id
            )
        })?;
        let listen = self.peer_listen.unwrap_or(*own);
        if members.len() % 2 == 0 {
            tracing::warn!(
                members = members.len(),
                "an even number of members survives no more failures than one fewer; use 1, 3 or 5"
            );
        }
        Ok(Some((members, listen)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from([&["quantumnet-controller"], arguments].concat())
    }

    #[test]
    fn members_are_listed_once_and_with_this_one() {
        assert!(config(&[]).unwrap().members().unwrap().is_none());
        let three = "1=10.0.0.1:9643,2=10.0.0.2:9643,3=[fd00::3]:9643";
        let (members, listen) =
            config(&["--member-id", "2", "--peers", three]).unwrap().members().unwrap().unwrap();
        assert_eq!((members.len(), listen.to_string().as_str()), (3, "10.0.0.2:9643"));
        let with = ["--peers", three, "--peer-listen", "0.0.0.0:9643"];
        let (_, listen) = config(&with).unwrap().members().unwrap().unwrap();
        assert_eq!(listen.to_string(), "0.0.0.0:9643");
        for (peers, text) in [
            ("2=10.0.0.2:9643", "this is member 1"),
            ("1=10.0.0.1:9643,1=10.0.0.2:9643", "member 1 twice"),
            ("1=10.0.0.1:9643,2=10.0.0.1:9643", "to member 1 and to member 2"),
        ] {
            let error = config(&["--peers", peers]).unwrap().members().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        for (peers, text) in [
            ("0=10.0.0.1:9643", "numbered from 1"),
            ("x=10.0.0.1:9643", "no number"),
            ("1=host:9643", "no IP:PORT"),
            ("1=10.0.0.1:0", "need a port"),
            ("10.0.0.1:9643", "expected N=IP:PORT"),
        ] {
            let error = config(&["--peers", peers]).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        assert!(config(&["--peer-listen", "10.0.0.1:9643"]).is_err(), "it needs --peers");
    }
}
