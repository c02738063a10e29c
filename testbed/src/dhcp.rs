//! DHCP clients off the shelf in a VM: busybox's `udhcpc` and ISC's `dhclient`.
//!
//! # Contract
//! - [`Vm::dhcp`] gets one lease and leaves; [`Vm::dhcp_client`] keeps a client running that can be told to renew and to
//!   release; [`Vm::dhclient`] is the other implementation. All configure the VM's interface as a guest would.
//!
//! # Invariants
//! - No client touches anything outside the VM's namespace: their scripts are ours and write no resolv.conf.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

use crate::{
    Error, Result, Signal, Vm,
    background::{Background, unique_file},
    error::IoContext,
    wait::wait_ok,
};

/// What to ask a server for.
#[derive(Clone, Debug, Default)]
pub struct DhcpOptions {
    /// More options to request, by udhcpc's names or numbers (`ntpsrv`, `search`, `121`, `0x8f`).
    pub request: Vec<String>,
    /// Ask for this address.
    pub address: Option<Ipv4Addr>,
    /// Send this host name.
    pub hostname: Option<String>,
    /// Seconds to try; 10 when 0.
    pub tries: u32,
}

/// A lease, as the client understood it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lease {
    /// The address.
    pub ip: Ipv4Addr,
    /// Length of the network's prefix.
    pub prefix: u8,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 26.
    pub mtu: Option<u32>,
    /// Option 15.
    pub domain: Option<String>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Option 51.
    pub lease_s: Option<u32>,
    /// Option 121: destination and next hop, as the client writes them.
    pub routes: Vec<(String, Ipv4Addr)>,
    /// Everything the client handed to its script, by the client's own names.
    pub options: BTreeMap<String, String>,
}

/// A running `udhcpc`.
#[derive(Debug)]
pub struct DhcpClient {
    process: Background,
    events: PathBuf,
    seen: usize,
}

impl Vm {
    /// Gets a lease with `udhcpc`, configures eth0 with it and leaves no client behind.
    pub fn dhcp(&self, options: &DhcpOptions) -> Result<Lease> {
        let events = unique_file(&self.folder(), "udhcpc-events");
        let argv = self.udhcpc(options, &events, &["-q", "-n"])?;
        let output = self.command(argv).within(Duration::from_secs(u64::from(tries(options)) + 30)).run()?;
        let leases = read_events(&events)?;
        let Some(lease) = leases.into_iter().rev().find(|event| event.is("bound")) else {
            let detail = format!(":\n{}", output.stderr);
            let what = format!("udhcpc in {} to get a lease", self.name());
            return Err(Error::Timeout { what, after: Duration::from_secs(tries(options).into()), detail });
        };
        lease.lease()
    }

    /// Starts a `udhcpc` that stays: for renewing and releasing.
    pub fn dhcp_client(&self, options: &DhcpOptions) -> Result<DhcpClient> {
        let events = unique_file(&self.folder(), "udhcpc-events");
        let argv = self.udhcpc(options, &events, &[])?;
        let process = Background::start(&self.netns(), &self.folder(), "udhcpc", argv)?;
        Ok(DhcpClient { process, events, seen: 0 })
    }

    /// Gets an IPv4 lease with `dhclient` and leaves no client behind.
    pub fn dhclient(&self, within: Duration) -> Result<Lease> {
        let event = self.run_dhclient("-4", &["BOUND", "RENEW", "REBOOT"], within)?;
        event.lease()
    }

    /// Gets a DHCPv6 lease with `dhclient -6`; everything the client handed to its script, by its own names.
    pub fn dhclient6(&self, within: Duration) -> Result<BTreeMap<String, String>> {
        self.run_dhclient("-6", &["BOUND6", "RENEW6"], within).map(|event| event.values)
    }

    fn udhcpc(&self, options: &DhcpOptions, events: &Path, mode: &[&str]) -> Result<Vec<String>> {
        let script = self.script("udhcpc.sh", include_str!("assets/udhcpc.sh"))?;
        let tries = tries(options).to_string();
        let mut argv: Vec<String> = clean_environment(events);
        argv.extend(
            ["busybox", "udhcpc", "-f", "-i", "eth0", "-T", "1", "-t", &tries, "-s"].map(String::from),
        );
        argv.push(script);
        argv.extend(mode.iter().map(|option| String::from(*option)));
        let usual = ["subnet", "router", "dns", "domain", "mtu", "staticroutes", "serverid", "lease"];
        let requested = usual.into_iter().map(String::from).chain(options.request.iter().cloned());
        argv.extend(requested.flat_map(|option| ["-O".to_owned(), option]));
        if let Some(address) = options.address {
            argv.extend(["-r".to_owned(), address.to_string()]);
        }
        if let Some(hostname) = &options.hostname {
            argv.extend(["-x".to_owned(), format!("hostname:{hostname}")]);
        }
        Ok(argv)
    }

    fn run_dhclient(&self, family: &str, good: &[&str], within: Duration) -> Result<Event> {
        let script = self.script("dhclient.sh", include_str!("assets/dhclient.sh"))?;
        let events = unique_file(&self.folder(), "dhclient-events");
        let leases = events.with_extension("leases").display().to_string();
        let mut argv = clean_environment(&events);
        argv.extend(
            [
                "dhclient",
                family,
                "-d",
                "-1",
                "-cf",
                "/dev/null",
                "-pf",
                "/dev/null",
                "-lf",
                &leases,
                "-sf",
                &script,
            ]
            .map(String::from),
        );
        // The client's configuration is empty, so everything the script must see goes through its environment.
        argv.extend(["-e".to_owned(), format!("LEASE_FILE={}", events.display())]);
        argv.push("eth0".into());
        let mut process = Background::start(&self.netns(), &self.folder(), "dhclient", argv)?;
        wait_ok(within, &format!("dhclient in {} to get a lease", self.name()), || {
            let known = read_events(&events).map_err(|error| error.to_string())?;
            let found = known.into_iter().rev().find(|event| good.iter().any(|name| event.is(name)));
            found.ok_or_else(|| {
                let running = if process.running() { "still trying" } else { "it gave up" };
                format!("{running}: {}", process.errors().unwrap_or_default())
            })
        })
    }

    fn script(&self, name: &str, text: &str) -> Result<String> {
        let path = self.folder().join(name);
        if !path.exists() {
            let aside = unique_file(&self.folder(), name);
            fs::write(&aside, text).doing(|| format!("write {}", aside.display()))?;
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&aside, executable)
                .doing(|| format!("make {} executable", aside.display()))?;
            fs::rename(&aside, &path).doing(|| format!("write {}", path.display()))?;
        }
        Ok(path.display().to_string())
    }
}

impl DhcpClient {
    /// Waits for the next lease (the first, or the one after [`DhcpClient::renew`]).
    pub fn wait_lease(&mut self, within: Duration) -> Result<Lease> {
        let events = self.events.clone();
        let seen = self.seen;
        let (count, event) = wait_ok(within, "udhcpc to get a lease", || {
            let events = read_events(&events).map_err(|error| error.to_string())?;
            let next = events
                .iter()
                .enumerate()
                .skip(seen)
                .find(|(_, event)| event.is("bound") || event.is("renew"));
            let found = next.map(|(index, event)| (index + 1, event.clone()));
            found.ok_or_else(|| self.process.errors().unwrap_or_default())
        })?;
        self.seen = count;
        event.lease()
    }

    /// Asks the server it knows to prolong the lease (unicast).
    pub fn renew(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGUSR1)
    }

    /// Gives the lease back and ends the client.
    pub fn release(mut self) -> Result<()> {
        let before = read_events(&self.events)?.len();
        self.process.signal(Signal::SIGUSR2)?;
        let events = &self.events;
        wait_ok(Duration::from_secs(5), "udhcpc to release its lease", || {
            let now = read_events(events).map_err(|error| error.to_string())?;
            let released = now.iter().skip(before).any(|event| event.is("deconfig"));
            released.then_some(()).ok_or_else(String::new)
        })?;
        self.process.finish(Signal::SIGTERM)
    }
}

/// One call of a client's script.
#[derive(Clone, Debug)]
struct Event {
    name: String,
    values: BTreeMap<String, String>,
}

impl Event {
    fn is(&self, name: &str) -> bool {
        self.name == name
    }

    fn value(&self, names: [&str; 2]) -> Option<&str> {
        names.iter().find_map(|name| self.values.get(*name)).map(String::as_str)
    }

    /// Reads the names of both clients, udhcpc's first.
    fn lease(self) -> Result<Lease> {
        let ip = self.value(["ip", "new_ip_address"]).and_then(|text| text.parse().ok());
        let mask = self.value(["subnet", "new_subnet_mask"]).and_then(|text| text.parse::<Ipv4Addr>().ok());
        let (Some(ip), Some(mask)) = (ip, mask) else {
            let problem = format!("no address and mask in {:?}", self.values);
            return Err(Error::Output { program: "the DHCP client", problem });
        };
        Ok(Lease {
            ip,
            prefix: u8::try_from(u32::from(mask).leading_ones()).unwrap_or(32),
            routers: addresses(self.value(["router", "new_routers"])),
            dns: addresses(self.value(["dns", "new_domain_name_servers"])),
            mtu: self.value(["mtu", "new_interface_mtu"]).and_then(|text| text.parse().ok()),
            domain: self.value(["domain", "new_domain_name"]).map(str::to_owned),
            server: self.value(["serverid", "new_dhcp_server_identifier"]).and_then(|text| text.parse().ok()),
            lease_s: self.value(["lease", "new_dhcp_lease_time"]).and_then(|text| text.parse().ok()),
            routes: routes(self.values.get("staticroutes").map(String::as_str).unwrap_or_default()),
            options: self.values,
        })
    }
}

fn read_events(path: &Path) -> Result<Vec<Event>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).doing(|| format!("read {}", path.display())),
    };
    Ok(parse_events(&text))
}

/// Whole events only: the one being written has no end yet.
fn parse_events(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut lines = text.lines();
    while let Some(first) = lines.next() {
        let Some(name) = first.strip_prefix("event=") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "end-of-event").collect();
        let pairs = block.iter().filter_map(|line| line.split_once('='));
        let values =
            pairs.filter(|(key, _)| !OURS.contains(key)).map(|(key, value)| (key.into(), value.into()));
        events.push(Event { name: name.to_owned(), values: values.collect() });
    }
    if !text.ends_with("end-of-event\n") {
        events.pop();
    }
    events
}

/// `env -i` and the few variables a client's script needs: what else the script sees comes from the server.
fn clean_environment(events: &Path) -> Vec<String> {
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
    vec!["env".into(), "-i".into(), path, format!("LEASE_FILE={}", events.display())]
}

fn addresses(text: Option<&str>) -> Vec<Ipv4Addr> {
    text.unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn routes(text: &str) -> Vec<(String, Ipv4Addr)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.chunks_exact(2).filter_map(|pair| Some((pair[0].to_owned(), pair[1].parse().ok()?))).collect()
}

fn tries(options: &DhcpOptions) -> u32 {
    if options.tries == 0 { 10 } else { options.tries }
}

const OURS: [&str; 5] = ["PATH", "LEASE_FILE", "PWD", "_", "SHLVL"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_from_the_script_s_environment() {
        let text = "event=bound\nip=10.0.0.5\nsubnet=255.255.255.0\nmask=24\nrouter=10.0.0.1\ndns=8.8.8.8 9.9.9.9\n\
                    mtu=1442\nserverid=10.0.0.1\nlease=3600\nstaticroutes=10.1.0.0/16 10.0.0.2 0.0.0.0/0 10.0.0.1\n\
                    PATH=/bin\nend-of-event\nevent=renew\nip=10.0.0.5\n";
        let events = parse_events(text);
        assert_eq!(events.len(), 1, "the second event is not complete");
        let lease = events[0].clone().lease().unwrap();
        assert_eq!((lease.ip.to_string().as_str(), lease.prefix, lease.mtu), ("10.0.0.5", 24, Some(1442)));
        assert_eq!(lease.dns.len(), 2);
        assert_eq!(lease.routes[1], ("0.0.0.0/0".to_owned(), Ipv4Addr::new(10, 0, 0, 1)));
        assert!(!lease.options.contains_key("PATH"));
    }
}
