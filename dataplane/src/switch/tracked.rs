//! How many connections the datapath tracks, in all and by zone.
//!
//! # Contract
//! - In: answers of ovs-vswitchd's control socket (ovs-vswitchd(8), `dpctl/ct-get-nconns`, `dpctl/dump-conntrack`). Out: counts.
//! - The kernel's datapath does not tell how many there are; then there are no counts.
//!
//! # Invariants
//! - Zones are counted by listing connections, which takes the switch time for each: only while there are at most
//!   [`LISTED_MAX`].

use std::{collections::BTreeMap, path::Path, time::Duration};

use ovsdb::unixctl::Unixctl;
use tokio::time::timeout;

use super::control::socket;

/// Connections that are tracked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tracked {
    /// In all zones.
    pub all: u64,
    /// How many there can be.
    pub max: u64,
    /// By zone; `None` while there are too many to be listed.
    pub zones: Option<BTreeMap<u16, u64>>,
}

/// Counts them.
pub async fn count(run_dir: &Path, datapath: &str) -> Result<Tracked, String> {
    let counted = async {
        let socket = socket(run_dir).await?;
        let call = |command: &'static str| {
            let socket = &socket;
            async move {
                let reply = Unixctl::call(socket, command, [datapath]).await;
                reply.map_err(|error| format!("{command}: {error}"))
            }
        };
        let number = |text: String| text.trim().parse::<u64>().map_err(|_| format!("{text:?} is no number"));
        let all = number(call("dpctl/ct-get-nconns").await?)?;
        let max = number(call("dpctl/ct-get-maxconns").await?)?;
        let zones = if all > LISTED_MAX { None } else { Some(by_zone(&call("dpctl/dump-conntrack").await?)) };
        Ok(Tracked { all, max, zones })
    };
    let late = |_| Err(format!("the switch gave no answer within {} s", WITHIN.as_secs()));
    timeout(WITHIN, counted).await.unwrap_or_else(late)
}

/// Connections of each zone, of a list of them.
fn by_zone(listed: &str) -> BTreeMap<u16, u64> {
    let mut zones = BTreeMap::new();
    for line in listed.lines().filter(|line| line.contains("orig=(")) {
        let zone = line.split(',').find_map(|word| word.strip_prefix("zone=")?.parse().ok());
        // Zone 0 is not said.
        *zones.entry(zone.unwrap_or(0)).or_default() += 1;
    }
    zones
}

const WITHIN: Duration = Duration::from_secs(10);
const LISTED_MAX: u64 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_a_list_have_zones() {
        let listed = "\
icmp,orig=(src=10.0.0.1,dst=10.0.0.2,id=7,type=8,code=0),reply=(src=10.0.0.2,dst=10.0.0.1,id=7,type=0,code=0),zone=3,mark=1
tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1,dport=2),reply=(src=10.0.0.2,dst=10.0.0.1,sport=2,dport=1),zone=3,protoinfo=(state=ESTABLISHED)
udp,orig=(src=fd00::1,dst=fd00::2,sport=1,dport=2),reply=(src=fd00::2,dst=fd00::1,sport=2,dport=1)
udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1,dport=2),reply=(src=10.0.0.2,dst=10.0.0.1,sport=2,dport=1),zone=65535
";
        assert_eq!(by_zone(listed), [(0, 1), (3, 2), (65_535, 1)].into());
        assert_eq!(by_zone(""), BTreeMap::new());
    }
}
