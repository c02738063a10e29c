//! A VM: a namespace with one interface, plugged into a hypervisor's br-int the way libvirt plugs a tap.
//!
//! # Contract
//! - [`Lab::add_vm`] makes one, [`Lab::vm`] finds it again, [`Lab::move_vm`] is a live migration: the guest keeps its
//!   interface and its addresses. [`Lab::add_outside`] is a host on the physical network instead.
//!
//! # Invariants
//! - Port and binding appear in one OVSDB transaction, so an agent never sees a port without its `iface-id`.
//! - Checksums in the guest's frames are whole (transmit offload is off at both ends).

use std::{fs, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Lab, Netns, Result,
    command::{Cmd, Output},
    error::IoContext,
    hypervisor::Hypervisor,
    spec::{Link, Node, valid_name},
    state::join,
};

/// A VM as it is asked for.
#[derive(Clone, Debug, Default)]
pub struct VmSpec {
    /// Its name in the lab.
    pub name: String,
    /// The logical port it is, `external_ids:iface-id`.
    pub iface_id: String,
    /// Its MAC address.
    pub mac: String,
    /// `external_ids:iface-id-ver`, if the platform sets it.
    pub iface_id_ver: Option<String>,
    /// The bridge; br-int when not given.
    pub bridge: Option<String>,
    /// The VLAN of that bridge in which it is.
    pub vlan: Option<u16>,
}

/// Where a VM is plugged.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Into br-int of hypervisor n.
    Hypervisor(u16),
    /// Into the physical network, as a host outside.
    Physical,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct VmRecord {
    pub(crate) place: Place,
    /// The interface at the other end.
    pub(crate) interface: String,
    pub(crate) iface_id: String,
    pub(crate) mac: String,
    #[serde(default)]
    pub(crate) iface_id_ver: Option<String>,
    #[serde(default)]
    pub(crate) bridge: Option<String>,
    #[serde(default)]
    pub(crate) vlan: Option<u16>,
}

/// A VM of a lab, or a host outside.
#[derive(Clone, Debug)]
pub struct Vm {
    lab: Lab,
    name: String,
    mac: String,
    interface: String,
}

impl Lab {
    /// Makes a VM and plugs it into br-int of a hypervisor.
    pub fn add_vm(&self, hypervisor: u16, name: &str, iface_id: &str, mac: &str) -> Result<Vm> {
        let spec =
            VmSpec { name: name.into(), iface_id: iface_id.into(), mac: mac.into(), ..VmSpec::default() };
        self.add_vm_with(hypervisor, &spec)
    }

    /// Makes a VM with everything that can be said about it.
    pub fn add_vm_with(&self, hypervisor: u16, spec: &VmSpec) -> Result<Vm> {
        let host = self.hypervisor(hypervisor)?;
        let record = VmRecord {
            place: Place::Hypervisor(hypervisor),
            interface: interface_name("v-", &spec.name),
            iface_id: spec.iface_id.clone(),
            mac: spec.mac.clone(),
            iface_id_ver: spec.iface_id_ver.clone(),
            bridge: spec.bridge.clone(),
            vlan: spec.vlan,
        };
        let vm = self.record_vm(&spec.name, &record)?;
        let built = (|| {
            host.netns().ip(&[
                &format!(
                    "link add name {} type veth peer name eth0 netns {}",
                    record.interface,
                    vm.netns().name()
                ),
                // The guest's MTU follows its lease; the switch's end must not be what limits it.
                &format!("link set {} mtu {SWITCH_END_MTU} up", record.interface),
            ])?;
            host.netns().offload_off(&record.interface)?;
            vm.bring_up(&record.mac)?;
            plug(&host, &record)
        })();
        self.kept_or_removed(vm, built)
    }

    /// Makes a host on the physical network `physnet1`.
    pub fn add_outside(&self, name: &str, mac: &str) -> Result<Vm> {
        let record = VmRecord {
            place: Place::Physical,
            interface: interface_name("o-", name),
            iface_id: String::new(),
            mac: mac.into(),
            iface_id_ver: None,
            bridge: None,
            vlan: None,
        };
        let vm = self.record_vm(name, &record)?;
        let built = self
            .cable_to(&self.spec()?, &record.interface, &vm.netns(), "eth0", Link::Physical)
            .and_then(|()| vm.bring_up(mac));
        self.kept_or_removed(vm, built)
    }

    /// Makes a host in a VLAN of the physical network. It has an access port of hypervisor 1's bridge to that network, which
    /// needs no VLANs of the kernel.
    pub fn add_outside_in(&self, vlan: u16, name: &str, mac: &str) -> Result<Vm> {
        let spec = VmSpec {
            name: name.into(),
            mac: mac.into(),
            bridge: Some(PHYSICAL_BRIDGE.into()),
            vlan: Some(vlan),
            ..VmSpec::default()
        };
        self.add_vm_with(1, &spec)
    }

    /// Finds a VM or an outside host by name.
    pub fn vm(&self, name: &str) -> Result<Vm> {
        self.vm_record(name).map(|record| Vm::new(self, name, &record))
    }

    /// Unplugs a VM's port from its switch; the VM itself keeps running.
    pub fn unplug_vm(&self, name: &str) -> Result<()> {
        let record = self.vm_record(name)?;
        let Place::Hypervisor(n) = record.place else { return not_on_a_hypervisor(name) };
        self.hypervisor(n)?.ovs_vsctl(["--if-exists", "del-port", &record.interface]).map(drop)
    }

    /// Plugs a VM's port in again where it was.
    pub fn plug_vm(&self, name: &str) -> Result<()> {
        let record = self.vm_record(name)?;
        let Place::Hypervisor(n) = record.place else { return not_on_a_hypervisor(name) };
        plug(&self.hypervisor(n)?, &record)
    }

    /// Moves a VM to another hypervisor while it runs.
    pub fn move_vm(&self, name: &str, hypervisor: u16) -> Result<()> {
        let mut record = self.vm_record(name)?;
        let Place::Hypervisor(n) = record.place else { return not_on_a_hypervisor(name) };
        let (from, to) = (self.hypervisor(n)?, self.hypervisor(hypervisor)?);
        from.ovs_vsctl(["--if-exists", "del-port", &record.interface])?;
        record.place = Place::Hypervisor(hypervisor);
        let moved = record.clone();
        self.file().record(|state| {
            state.vms.insert(name.to_owned(), moved);
            Ok(())
        })?;
        from.netns().ip(&[&format!("link set {} netns {}", record.interface, to.netns().name())])?;
        to.netns().ip(&[&format!("link set {} up", record.interface)])?;
        to.netns().offload_off(&record.interface)?;
        plug(&to, &record)
    }

    /// Unplugs a VM, ends what runs in it and removes it; no error when there is none.
    pub fn remove_vm(&self, name: &str) -> Result<()> {
        let Some(record) = self.state()?.vms.remove(name) else { return Ok(()) };
        let netns = self.spec()?.netns(name);
        crate::process::end_all(&[], std::slice::from_ref(&netns), &crate::process::Children::default())?;
        let near = match record.place {
            Place::Hypervisor(n) => {
                let host = self.hypervisor(n)?;
                host.ovs_vsctl(["--if-exists", "del-port", &record.interface])?;
                host.netns()
            }
            Place::Physical => self.netns(Node::Net),
        };
        // With its namespace the link would go too, but some time later, and its name would stay taken.
        // It may be gone already when an earlier removal was interrupted.
        near.command(["ip", "link", "del", "dev", &record.interface]).run()?;
        netns.delete()?;
        let folder = self.folder().join("vm").join(name);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).doing(|| format!("remove {}", folder.display()));
            }
            _ => {}
        }
        self.file().update(|state| {
            state.vms.remove(name);
            state.namespaces.retain(|known| *known != netns);
            Ok(())
        })
    }

    fn vm_record(&self, name: &str) -> Result<VmRecord> {
        let mut vms = self.state()?.vms;
        let known = join(vms.keys());
        vms.remove(name).ok_or_else(|| Error::Unknown { what: "VM", name: name.into(), known })
    }

    /// Records a VM, then makes its namespace and folder.
    fn record_vm(&self, name: &str, record: &VmRecord) -> Result<Vm> {
        valid_name("VM name", name)?;
        if name.parse::<Node>().is_ok() {
            let rule = "net, controllerN and hvN are names of nodes".into();
            return Err(Error::Invalid { what: "VM name", value: name.into(), rule });
        }
        if !is_mac(&record.mac) {
            let rule = "six bytes in hex with colons".into();
            return Err(Error::Invalid { what: "MAC", value: record.mac.clone(), rule });
        }
        self.file().record(|state| {
            if state.vms.contains_key(name) {
                return Err(Error::Exists { what: "VM", name: name.into(), hint: "remove it first" });
            }
            state.vms.insert(name.to_owned(), record.clone());
            Ok(())
        })?;
        let vm = Vm::new(self, name, record);
        let made = self.make_netns(&vm.netns()).and_then(|()| {
            let folder = vm.folder();
            fs::create_dir_all(&folder).doing(|| format!("make {}", folder.display()))
        });
        self.kept_or_removed(vm, made)
    }

    /// A VM that could not be finished is removed again; the first error is the one that counts.
    fn kept_or_removed(&self, vm: Vm, built: Result<()>) -> Result<Vm> {
        let Err(error) = built else { return Ok(vm) };
        if let Err(leftover) = self.remove_vm(&vm.name) {
            tracing::error!(vm = vm.name, error = %leftover, "cleaning up after a failed VM failed too");
        }
        Err(error)
    }
}

impl Vm {
    fn new(lab: &Lab, name: &str, record: &VmRecord) -> Self {
        let (mac, interface) = (record.mac.clone(), record.interface.clone());
        Self { lab: lab.clone(), name: name.into(), mac, interface }
    }

    /// Its name in the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its MAC address.
    pub fn mac(&self) -> &str {
        &self.mac
    }

    pub(crate) fn mac_bytes(&self) -> Result<[u8; 6]> {
        let bytes: Vec<u8> =
            self.mac.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let rule = || "six bytes in hex with colons".into();
        bytes.try_into().map_err(|_| Error::Invalid { what: "MAC", value: self.mac.clone(), rule: rule() })
    }

    /// The interface at the switch's end, in the hypervisor's namespace.
    pub fn switch_interface(&self) -> &str {
        &self.interface
    }

    /// Where it is plugged now.
    pub fn place(&self) -> Result<Place> {
        self.lab.vm_record(&self.name).map(|record| record.place)
    }

    /// Its namespace: sockets opened in [`Netns::within`] are the VM's.
    pub fn netns(&self) -> Netns {
        Netns::named(format!("{}{}", crate::spec::namespace_prefix(self.lab.name()), self.name))
    }

    /// A folder for files about this VM; it goes with the VM.
    pub fn folder(&self) -> PathBuf {
        self.lab.folder().join("vm").join(&self.name)
    }

    /// Runs a command inside.
    pub fn exec<S: AsRef<std::ffi::OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Result<Output> {
        self.command(argv).run()
    }

    /// A command that will run inside, still to be completed.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Cmd {
        self.netns().command(argv)
    }

    /// Gives eth0 an address such as `10.0.0.5/24`, without asking anybody.
    pub fn add_address(&self, address: &str) -> Result<()> {
        self.add_address_to("eth0", address)
    }

    /// The same for another of its interfaces, such as `lo`.
    pub fn add_address_to(&self, interface: &str, address: &str) -> Result<()> {
        let option = if address.contains(':') { " nodad" } else { "" };
        self.netns().ip(&[&format!("addr replace {address} dev {interface}{option}")])
    }

    /// Sends everything without a better route to `gateway`.
    pub fn set_default_route(&self, gateway: IpAddr) -> Result<()> {
        let family = if gateway.is_ipv4() { "-4" } else { "-6" };
        let command =
            ["ip", family, "route", "replace", "default", "via", &gateway.to_string(), "dev", "eth0"];
        self.netns().command(command).check().map(drop)
    }

    /// Forgets every address and neighbour of eth0, as a guest that boots anew.
    pub fn forget_addresses(&self) -> Result<()> {
        self.netns().ip(&[
            "addr flush dev eth0",
            "neigh flush dev eth0",
            "link set eth0 down",
            "link set eth0 up",
        ])
    }

    fn bring_up(&self, mac: &str) -> Result<()> {
        let netns = self.netns();
        netns.ip(&[&format!("link set eth0 address {mac} mtu {GUEST_MTU} up")])?;
        netns.offload_off("eth0")
    }
}

/// An interface name of at most 15 bytes that still tells whose it is.
pub(crate) fn interface_name(prefix: &str, name: &str) -> String {
    if prefix.len() + name.len() <= INTERFACE_BYTES_MAX {
        return format!("{prefix}{name}");
    }
    let head: String = name.chars().filter(char::is_ascii_alphanumeric).take(5).collect();
    format!("{prefix}{head}{:08x}", hash(name))
}

/// A locally administered MAC address that follows from a name.
pub fn mac_of(name: &str) -> String {
    let [a, b, c, d] = hash(name).to_be_bytes();
    format!("02:6f:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// FNV-1a: the same name gives the same number in every process.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn plug(host: &Hypervisor, record: &VmRecord) -> Result<()> {
    let bridge = record.bridge.as_deref().unwrap_or("br-int");
    let mut args = vec!["add-port".to_owned(), bridge.to_owned(), record.interface.clone(), "--".to_owned()];
    if let Some(vlan) = record.vlan {
        args.extend(["set", "Port", &record.interface].map(str::to_owned));
        args.extend([format!("tag={vlan}"), "--".to_owned()]);
    }
    args.extend(["set".to_owned(), "Interface".to_owned(), record.interface.clone()]);
    if !record.iface_id.is_empty() {
        args.push(format!("external_ids:iface-id=\"{}\"", record.iface_id));
    }
    args.push(format!("external_ids:attached-mac=\"{}\"", record.mac));
    args.push("external_ids:iface-status=active".to_owned());
    args.extend(record.iface_id_ver.iter().map(|version| format!("external_ids:iface-id-ver=\"{version}\"")));
    host.ovs_vsctl(args).map(drop)
}

fn is_mac(text: &str) -> bool {
    let bytes: Vec<&str> = text.split(':').collect();
    bytes.len() == 6
        && bytes.iter().all(|byte| byte.len() == 2 && byte.chars().all(|c| c.is_ascii_hexdigit()))
}

fn not_on_a_hypervisor<T>(name: &str) -> Result<T> {
    let rule = "is a host on the physical network, not a VM on a hypervisor".into();
    Err(Error::Invalid { what: "VM", value: name.into(), rule })
}

/// The hypervisors' bridge to the physical network.
const PHYSICAL_BRIDGE: &str = "br-ex";
const GUEST_MTU: u32 = 1500;
/// As large as a guest's lease may make the other end.
const SWITCH_END_MTU: u32 = 65_000;
const INTERFACE_BYTES_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_and_differ() {
        assert_eq!(interface_name("v-", "web1"), "v-web1");
        let (a, b) = ("a-very-long-machine-name-1", "a-very-long-machine-name-2");
        assert_eq!(interface_name("v-", a).len(), 15);
        assert_ne!(interface_name("v-", a), interface_name("v-", b));
    }

    #[test]
    fn macs_are_recognised() {
        assert!(is_mac("02:00:00:00:00:01"));
        assert!(is_mac(&mac_of("internet")));
        assert_ne!(mac_of("internet"), mac_of("peer"));
        assert!(!is_mac("02:00:00:00:00"));
        assert!(!is_mac("02:00:00:00:00:+1"));
    }
}
