//! What is wrong with the DHCP configuration of this hypervisor's ports, for people.
//!
//! # Contract
//! - Reads the ports' rows and the `DHCP_Options` they name. Out: sentences that name row and option.
//!
//! # Invariants
//! - Every row is judged once, and at most [`PROBLEMS_MAX`] sentences come out.
//! - What keeps [`super::dhcp::Offer::new`] from an offer is among them, but for a port without address in the subnet:
//!   OVN passes that over, too.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;
use quantumnet_model::{
    Rows,
    address::Mac,
    dhcp::OptionDecl,
    nb::{DhcpOptions, LogicalSwitchPort},
};
use uuid::Uuid;

/// What is wrong, of these logical ports.
pub fn problems(rows: &Rows, ports: impl Iterator<Item = Uuid>) -> Vec<String> {
    let mut problems = BTreeSet::new();
    let mut judged = BTreeSet::new();
    for port in ports {
        let Some(port) = rows.get::<LogicalSwitchPort>(port) else { continue };
        let Some(options) = port.dhcpv4_options.as_ref().map(|options| options.uuid()) else { continue };
        if let Some(hostname) = port.options.get("hostname")
            && let Err(error) = OptionDecl::find("hostname").and_then(|decl| decl.encode(hostname))
        {
            problems.insert(format!("port {}: {error}; it gets no DHCP answers", port.name));
        }
        if judged.insert(options)
            && let Some(row) = rows.get::<DhcpOptions>(options)
        {
            let wrong = judge(row).into_iter();
            problems.extend(
                wrong.map(|wrong| format!("DHCP_Options {options}: {wrong}; its ports get no DHCP answers")),
            );
        }
        if problems.len() > PROBLEMS_MAX {
            break;
        }
    }
    problems.into_iter().take(PROBLEMS_MAX).collect()
}

fn judge(row: &DhcpOptions) -> Vec<String> {
    let mut wrong = Vec::new();
    if row.cidr.parse::<Ipv4Net>().is_err() {
        wrong.push(format!("cidr {:?} is no IPv4 prefix", row.cidr));
    }
    for name in ["server_id", "server_mac", "lease_time"] {
        if !row.options.contains_key(name) {
            wrong.push(format!("DHCP option {name} is missing"));
        }
    }
    for (name, value) in &row.options {
        let judged = if &**name == "server_mac" {
            value.parse::<Mac>().map(drop).map_err(|error| format!("DHCP option server_mac: {error}"))
        } else {
            let encoded = OptionDecl::find(name).and_then(|decl| decl.encode(value));
            encoded.map(drop).map_err(|error| error.to_string())
        };
        wrong.extend(judged.err());
    }
    wrong
}

/// As many as are told.
pub const PROBLEMS_MAX: usize = 16;
