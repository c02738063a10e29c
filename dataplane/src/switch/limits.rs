//! How many connections the datapath tracks at most in a zone.
//!
//! # Contract
//! - In: limits by zone, and zones that are to have none. Out: whether the datapath has them now (ovs-vswitchd(8),
//!   `dpctl/ct-get-limits`, `dpctl/ct-set-limits`, `dpctl/ct-del-limits`). Other zones, and the limit of those without one, are
//!   left as they are.
//!
//! # Invariants
//! - What is as it should be is not written again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use ovsdb::unixctl::Unixctl;
use tokio::time::timeout;

use super::control::socket;

/// Makes those the limits.
pub async fn set(
    run_dir: &Path,
    datapath: &str,
    limits: &BTreeMap<u16, u32>,
    free: &BTreeSet<u16>,
) -> Result<(), String> {
    let done = async {
        let socket = socket(run_dir).await?;
        let call = |command: &'static str, arguments: Vec<String>| {
            let socket = &socket;
            async move {
                let arguments = [vec![datapath.to_owned()], arguments].concat();
                let reply = Unixctl::call(socket, command, arguments).await;
                reply.map_err(|error| format!("{command}: {error}"))
            }
        };
        let present = by_zone(&call("dpctl/ct-get-limits", Vec::new()).await?);
        let other = limits.iter().filter(|(zone, limit)| present.get(zone) != Some(*limit));
        let other: Vec<String> = other.map(|(zone, limit)| format!("zone={zone},limit={limit}")).collect();
        for some in other.chunks(AT_ONCE) {
            call("dpctl/ct-set-limits", some.to_vec()).await?;
        }
        let stale: Vec<String> =
            present.keys().filter(|zone| free.contains(zone)).map(ToString::to_string).collect();
        for some in stale.chunks(AT_ONCE) {
            call("dpctl/ct-del-limits", vec![format!("zone={}", some.join(","))]).await?;
        }
        Ok(())
    };
    let late = |_| Err(format!("the switch gave no answer within {} s", WITHIN.as_secs()));
    timeout(WITHIN, done).await.unwrap_or_else(late)
}

/// Limits of a list of them: `zone=3,limit=10,count=0`.
fn by_zone(listed: &str) -> BTreeMap<u16, u32> {
    let limit = |line: &str| {
        let (zone, rest) = line.trim().strip_prefix("zone=")?.split_once(",limit=")?;
        let limit = rest.split(',').next()?;
        Some((zone.parse().ok()?, limit.parse().ok()?))
    };
    listed.lines().filter_map(limit).collect()
}

const WITHIN: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_a_list_have_zones() {
        let listed = "default limit=0\nzone=1,limit=10,count=0\nzone=65535,limit=4294967295,count=7\n";
        assert_eq!(by_zone(listed), [(1, 10), (65_535, u32::MAX)].into());
        assert_eq!(by_zone("default limit=0\n"), BTreeMap::new());
    }
}
