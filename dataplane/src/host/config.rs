//! What the host's administrator says: `Open_vSwitch.external_ids`, with ovn-controller's names (ovn-controller(8)).
//!
//! # Invariants
//! - A setting of ours that can't be honoured is in [`Config::problems`]; none is passed over in silence.
//! - Controllers are told a bounded number of problems: one that is told more refuses the agent.
//! - `KEY-<system-id>` wins over `KEY`, as in OVN, so that several agents may share one switch database.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ovsdb::value::Datum;
use quantumnet_api::v1::{ChassisFacts, EncapFact};
use thiserror::Error;

/// The settings, read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// external_ids:system-id.
    pub chassis: String,
    /// Host name.
    pub hostname: String,
    /// Addresses of this host's tunnel endpoints, the default one first.
    pub encap_ips: Vec<IpAddr>,
    /// Options of tunnel interfaces.
    pub tunnel_options: BTreeMap<String, String>,
    /// The integration bridge.
    pub bridge: String,
    /// Its datapath type; the switch's default when empty.
    pub datapath_type: String,
    /// Controllers.
    pub remotes: Vec<String>,
    /// Bridges by the physical network that they are on (`ovn-bridge-mappings`).
    pub mappings: BTreeMap<String, String>,
    /// The longest gap between announcements of a guest, which then never end (`garp-max-timeout-sec`).
    pub announce_gap: Option<Duration>,
    /// What goes to `Chassis.other_config`.
    pub other_config: BTreeMap<String, String>,
    /// Settings that can't be honoured.
    pub problems: Vec<String>,
}

/// Why there can be no agent on this host.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// Without a name there is no chassis.
    #[error("external_ids:system-id of Open_vSwitch is not set")]
    NoSystemId,
}

impl Config {
    /// Reads the settings. `hostname` is the system's own.
    pub fn read(external_ids: &Datum, hostname: &str) -> Result<Self, ConfigError> {
        let chassis =
            external_ids.get_str("system-id").filter(|id| !id.is_empty()).ok_or(ConfigError::NoSystemId)?;
        let mut this = Self { chassis: chassis.to_owned(), ..Self::default() };
        let value = |key: &str| {
            let own = external_ids.get_str(&format!("{key}-{chassis}"));
            own.or_else(|| external_ids.get_str(key)).map(str::trim).filter(|value| !value.is_empty())
        };

        this.hostname = value("hostname").unwrap_or(hostname).to_owned();
        this.bridge = value("ovn-bridge").unwrap_or("br-int").to_owned();
        if this.bridge.contains('/') || this.bridge.len() > 15 {
            this.problems
                .push(format!("external_ids:ovn-bridge={:?} is no bridge name; br-int is used", this.bridge));
            "br-int".clone_into(&mut this.bridge);
        }
        value("ovn-bridge-datapath-type").unwrap_or_default().clone_into(&mut this.datapath_type);
        this.remotes = list(value("quantumnet-remote")).map(str::to_owned).collect();
        this.read_encaps(&value);
        this.read_mappings(value("ovn-bridge-mappings"));
        if let Some(text) = value("garp-max-timeout-sec") {
            match text.parse::<u32>() {
                Ok(seconds) => {
                    this.announce_gap = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
                }
                Err(_) => this
                    .problems
                    .push(format!("external_ids:garp-max-timeout-sec: {text:?} is no number of seconds")),
            }
        }
        for (key, name) in OTHER_CONFIG {
            if let Some(value) = value(key) {
                this.other_config.insert((*name).to_owned(), value.to_owned());
            }
        }
        if !this.datapath_type.is_empty() {
            this.other_config.insert("datapath-type".to_owned(), this.datapath_type.clone());
        }
        this.report_unknown(external_ids);
        Ok(this)
    }

    fn read_encaps<'a>(&mut self, value: &dyn Fn(&str) -> Option<&'a str>) {
        for kind in list(value("ovn-encap-type")).filter(|kind| *kind != "geneve") {
            self.problems
                .push(format!("external_ids:ovn-encap-type: {kind} is not supported, only geneve is"));
        }
        if !list(value("ovn-encap-type")).any(|kind| kind == "geneve") {
            self.problems
                .push("external_ids:ovn-encap-type does not have geneve: no tunnels are made".to_owned());
            return;
        }
        for text in list(value("ovn-encap-ip")) {
            match text.parse() {
                Ok(ip) if self.encap_ips.contains(&ip) => {}
                Ok(ip) => self.encap_ips.push(ip),
                Err(_) => self.problems.push(format!("external_ids:ovn-encap-ip: {text:?} is no IP address")),
            }
        }
        if self.encap_ips.is_empty() {
            self.problems.push("external_ids:ovn-encap-ip has no address: no tunnels are made".to_owned());
        }
        if let Some(text) = value("ovn-encap-ip-default") {
            match self.encap_ips.iter().position(|ip| text.parse() == Ok(*ip)) {
                Some(at) => self.encap_ips[..=at].rotate_right(1),
                None => self
                    .problems
                    .push(format!("external_ids:ovn-encap-ip-default: {text:?} is not in ovn-encap-ip")),
            }
        }
        let csum = match value("ovn-encap-csum") {
            None | Some("true") => "true",
            Some("false") => "false",
            Some(other) => {
                self.problems
                    .push(format!("external_ids:ovn-encap-csum: {other:?} is neither true nor false"));
                "true"
            }
        };
        self.tunnel_options.insert("csum".to_owned(), csum.to_owned());
        for (key, option) in [("ovn-encap-tos", "tos"), ("ovn-encap-df_default", "df_default")] {
            if let Some(value) = value(key) {
                self.tunnel_options.insert(option.to_owned(), value.to_owned());
            }
        }
    }

    fn read_mappings(&mut self, value: Option<&str>) {
        for text in list(value) {
            let pair = text.split_once(':').map(|(network, bridge)| (network.trim(), bridge.trim()));
            match pair.filter(|(network, bridge)| !network.is_empty() && !bridge.is_empty()) {
                Some((_, bridge)) if bridge == self.bridge => self.problems.push(format!(
                    "external_ids:ovn-bridge-mappings: {text:?} names the integration bridge; it is ignored"
                )),
                Some((network, bridge)) => {
                    self.mappings.insert(network.to_owned(), bridge.to_owned());
                }
                None => self
                    .problems
                    .push(format!("external_ids:ovn-bridge-mappings: {text:?} is not NETWORK:BRIDGE")),
            }
        }
    }

    fn report_unknown(&mut self, external_ids: &Datum) {
        for key in external_ids.pairs().iter().filter_map(|(key, _)| key.as_str()) {
            let bare = key.strip_suffix(&format!("-{}", self.chassis)).unwrap_or(key);
            let known = HONOURED.contains(&bare)
                || INAPPLICABLE.contains(&bare)
                || OTHER_CONFIG.iter().any(|(name, _)| *name == bare);
            if !known && (bare.starts_with("ovn-") || bare.starts_with("quantumnet-")) {
                self.problems.push(format!("external_ids:{key} is not supported"));
            }
        }
    }

    /// As the controllers are told. `found` is what was seen rather than set.
    pub fn facts(&self, found: &BTreeMap<String, String>, problems: &[String]) -> ChassisFacts {
        let csum = self.tunnel_options.get("csum").cloned().unwrap_or_default();
        let encap = |(place, ip): (usize, &IpAddr)| EncapFact {
            r#type: "geneve".to_owned(),
            ip: ip.to_string(),
            options: [("csum".to_owned(), csum.clone())]
                .into_iter()
                .chain(
                    (place == 0 && self.encap_ips.len() > 1)
                        .then(|| ("is_default".to_owned(), "true".to_owned())),
                )
                .collect(),
        };
        let other_config = self.other_config.iter().chain(found);
        ChassisFacts {
            hostname: self.hostname.clone(),
            encaps: self.encap_ips.iter().enumerate().map(encap).collect(),
            other_config: other_config.map(|(key, value)| (key.clone(), value.clone())).collect(),
            problems: bounded(self.problems.iter().chain(problems)),
        }
    }
}

/// As many and as long as a controller takes; the last one says how many were left out.
fn bounded<'a>(problems: impl Iterator<Item = &'a String>) -> Vec<String> {
    let clean = |problem: &String| -> String {
        let printable = problem.chars().map(|char| if char.is_control() { ' ' } else { char });
        printable.take(PROBLEM_CHARS_MAX).collect()
    };
    let mut problems: Vec<String> = problems.map(clean).collect();
    if problems.len() > PROBLEMS_MAX {
        let more = problems.split_off(PROBLEMS_MAX - 1).len();
        problems.push(format!("and {more} more; see the agent's log"));
    }
    problems
}

fn list(value: Option<&str>) -> impl Iterator<Item = &str> {
    value.unwrap_or_default().split(',').map(str::trim).filter(|element| !element.is_empty())
}

const PROBLEMS_MAX: usize = 64;
const PROBLEM_CHARS_MAX: usize = 512;

/// Read by name above.
const HONOURED: &[&str] = &[
    "quantumnet-remote",
    "ovn-encap-type",
    "ovn-encap-ip",
    "ovn-encap-ip-default",
    "ovn-encap-csum",
    "ovn-encap-tos",
    "ovn-encap-df_default",
    "ovn-bridge",
    "ovn-bridge-datapath-type",
    "garp-max-timeout-sec",
];

/// Handed on to the centre under these names.
const OTHER_CONFIG: &[(&str, &str)] = &[
    ("ovn-bridge-mappings", "ovn-bridge-mappings"),
    ("ovn-cms-options", "ovn-cms-options"),
    ("ovn-chassis-mac-mappings", "ovn-chassis-mac-mappings"),
    ("ovn-transport-zones", "ovn-transport-zones"),
    ("ovn-is-interconn", "is-interconn"),
];

/// Settings of what ovn-controller has and this agent has not: a southbound connection, logical flows and their cache.
const INAPPLICABLE: &[&str] = &[
    "ovn-remote",
    "ovn-remote-probe-interval",
    "ovn-monitor-all",
    "ovn-enable-lflow-cache",
    "ovn-limit-lflow-cache",
    "ovn-memlimit-lflow-cache-kb",
    "ovn-trim-limit-lflow-cache",
    "ovn-trim-wmark-perc-lflow-cache",
    "ovn-trim-timeout-ms",
    "ovn-allow-vips-share-hairpin-backend",
    "ovn-match-northd-version",
    "ovn-ofctrl-wait-before-clear",
    "ovn-enable-flow-based-tunnels",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Config {
        let pairs = pairs.iter().copied().chain([("system-id", "hv1")]);
        Config::read(&Datum::map(pairs), "host").unwrap()
    }

    #[test]
    fn settings_are_read() {
        let config = read(&[
            ("ovn-encap-type", "geneve"),
            ("ovn-encap-ip", "10.0.0.1, fd00::1"),
            ("ovn-encap-ip-default", "fd00::1"),
            ("ovn-bridge-mappings", "physnet1:br-ex"),
            ("ovn-bridge", "br-x"),
            ("ovn-bridge-hv1", "br-y"),
            ("ovn-remote", "tcp:1.2.3.4:6642"),
            ("quantumnet-remote", "http://10.0.0.9:7100,http://10.0.0.8:7100"),
            ("somebody-else", "x"),
        ]);
        assert_eq!(config.problems, [""; 0]);
        assert_eq!(config.encap_ips, ["fd00::1".parse::<IpAddr>().unwrap(), "10.0.0.1".parse().unwrap()]);
        assert_eq!(
            (config.bridge.as_str(), config.hostname.as_str(), config.remotes.len()),
            ("br-y", "host", 2)
        );
        let facts = config.facts(&BTreeMap::new(), &[]);
        assert_eq!(facts.other_config["ovn-bridge-mappings"], "physnet1:br-ex");
        assert_eq!(config.mappings["physnet1"], "br-ex");
        assert_eq!(facts.encaps[0].options["is_default"], "true");
        assert!(!facts.encaps[1].options.contains_key("is_default"));
    }

    #[test]
    fn no_controller_is_told_more_problems_than_it_takes() {
        let config = read(&[("ovn-encap-ip", "10.0.0.1"), ("ovn-encap-type", "geneve")]);
        let problems: Vec<String> = (0..1_000).map(|number| format!("a\nb{number}")).collect();
        let facts = config.facts(&BTreeMap::new(), &problems);
        assert_eq!((facts.problems.len(), facts.problems[0].as_str()), (64, "a b0"));
        assert_eq!(facts.problems[63], "and 937 more; see the agent's log");
    }

    #[test]
    fn what_cannot_be_honoured_is_reported() {
        let config = read(&[
            ("ovn-encap-type", "geneve,vxlan"),
            ("ovn-encap-ip", "10.0.0.1,x"),
            ("ovn-encap-csum", "maybe"),
            ("ovn-set-local-ip", "true"),
            ("ovn-bridge-mappings", "here:br-int,nowhere"),
        ]);
        assert_eq!(
            config.problems,
            [
                "external_ids:ovn-encap-type: vxlan is not supported, only geneve is",
                "external_ids:ovn-encap-ip: \"x\" is no IP address",
                "external_ids:ovn-encap-csum: \"maybe\" is neither true nor false",
                "external_ids:ovn-bridge-mappings: \"here:br-int\" names the integration bridge; it is ignored",
                "external_ids:ovn-bridge-mappings: \"nowhere\" is not NETWORK:BRIDGE",
                "external_ids:ovn-set-local-ip is not supported",
            ]
        );
        assert_eq!(Config::read(&Datum::EMPTY_MAP, "host"), Err(ConfigError::NoSystemId));
    }
}
