//! A private Open vSwitch with its dummy datapath: no root, no devices, all files in one temporary folder.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, process::Command, time::Duration};

use quantumnet_dataplane::compile::{Compiler, MeterUnit};
use tempfile::TempDir;

use super::flow_text;

/// A running switch with one bridge. Dummy ports `p1`.. have the port numbers 1.., `t2`.. 1002...
pub struct Ovs {
    folder: TempDir,
}

impl Ovs {
    /// Starts it; `None`, with a word on stderr, when Open vSwitch is not installed.
    pub fn start(ports: u32, tunnels: u32) -> Option<Self> {
        if Command::new("ovs-vswitchd").arg("--version").output().is_err() {
            eprintln!("skipped: Open vSwitch is not installed");
            return None;
        }
        let this = Self { folder: TempDir::new().expect("a temporary folder") };
        let (db, remote) = (this.path("conf.db"), format!("unix:{}", this.path("db.sock")));
        let schema =
            ["/usr/share/openvswitch/vswitch.ovsschema", "/usr/local/share/openvswitch/vswitch.ovsschema"];
        let schema =
            schema.into_iter().find(|path| Path::new(path).exists()).expect("Open vSwitch brings its schema");
        this.run("ovsdb-tool", &["create", &db, schema]);
        let common = ["--detach", "--no-chdir", "-vconsole:off"];
        let option = |name: &str, file: &str| format!("--{name}={}", this.path(file));
        let listen = format!("--remote=p{remote}");
        let (db_pid, db_log, db_ctl) =
            (option("pidfile", "db.pid"), option("log-file", "db.log"), option("unixctl", "db.ctl"));
        this.run("ovsdb-server", &[&common[..], &[&db, &listen, &db_pid, &db_log, &db_ctl]].concat());
        this.vsctl(&["--no-wait", "init"]);
        let (pid, log, ctl) =
            (option("pidfile", "vs.pid"), option("log-file", "vs.log"), option("unixctl", CONTROL));
        let dummy = ["--enable-dummy", "--disable-system", "--disable-system-route"];
        this.run("ovs-vswitchd", &[&common[..], &dummy, &[&remote, &pid, &log, &ctl]].concat());
        this.vsctl(&[
            "add-br",
            "br",
            "--",
            "set",
            "Bridge",
            "br",
            "fail_mode=secure",
            "datapath_type=dummy",
            "protocols=OpenFlow13",
        ]);
        let names = (1..=ports)
            .map(|n| (format!("p{n}"), n))
            .chain((2..=tunnels).map(|n| (format!("t{n}"), 1000 + n)));
        for (name, number) in names {
            let request = format!("ofport_request={number}");
            let capture = format!("options:tx_pcap={}", this.path(&format!("{name}.pcap")));
            this.vsctl(&[
                "add-port",
                "br",
                &name,
                "--",
                "set",
                "Interface",
                &name,
                "type=dummy",
                &request,
                &capture,
            ]);
        }
        this.ofctl(&["add-tlv-map", &this.bridge(), "{class=0x102,type=0x80,len=4}->tun_metadata0"]);
        Some(this)
    }

    /// Joins it, as the switch of hypervisor `here`, to that of hypervisor `there`: by a bridge with the underlay's address and a
    /// wire, which is a socket that the one with the lower number makes. The tunnel to the other is port 1000 + `there`; by
    /// port [`PHYSICAL`] frames leave as they are.
    pub fn join(&self, here: u32, there: u32, socket: &Path) {
        let mac = |number: u32| format!("0a:ee:00:00:00:{number:02x}");
        let wire = match here < there {
            true => format!("options:pstream=punix:{}", socket.display()),
            false => format!("options:stream=unix:{}", socket.display()),
        };
        let bridge = ["set", "Bridge", "br-phy", "datapath_type=dummy", "fail_mode=standalone"];
        let address = format!("other-config:hwaddr={}", mac(here));
        self.vsctl(&[&["add-br", "br-phy", "--"][..], &bridge, &[&address]].concat());
        let tunnel =
            [format!("options:remote_ip=192.0.2.{there}"), format!("ofport_request={}", 1000 + there)];
        let (name, physical) = (format!("t{there}"), format!("ofport_request={PHYSICAL}"));
        let add = |bridge: &str, name: &str, settings: &[&str]| {
            let port = ["add-port", bridge, name, "--", "set", "Interface", name];
            self.vsctl(&[&port[..], settings].concat());
        };
        add("br-phy", "wire", &["type=dummy", &wire]);
        add("br-phy", "outer", &["type=patch", "options:peer=physical"]);
        add("br", "physical", &["type=patch", "options:peer=outer", &physical]);
        add("br", &name, &["type=geneve", "options:key=flow", &tunnel[0], &tunnel[1]]);
        self.appctl(&["netdev-dummy/ip4addr", "br-phy", &format!("192.0.2.{here}/24")]);
        self.appctl(&["ovs/route/add", "192.0.2.0/24", "br-phy"]);
        self.appctl(&["tnl/neigh/set", "br-phy", &format!("192.0.2.{there}"), &mac(there)]);
    }

    /// Replaces the flows by a compiler's table, in one bundle.
    pub fn load(&self, compiler: &Compiler) {
        for (number, spec) in compiler.meters() {
            let unit = match spec.unit {
                MeterUnit::Packets => "pktps",
                MeterUnit::Kilobits => "kbps",
            };
            let burst = match spec.burst {
                0 => (String::new(), String::new()),
                burst => (",burst".to_owned(), format!(",burst_size={burst}")),
            };
            let meter =
                format!("meter={number},{unit}{},band=type=drop,rate={}{}", burst.0, spec.rate, burst.1);
            // Of an earlier load, perhaps; a meter that is missing fails the bundle below.
            self.command("ovs-ofctl", &["-O", "OpenFlow13", "add-meter", &self.bridge(), &meter])
                .output()
                .expect("it runs");
        }
        for (number, spec) in compiler.groups() {
            let buckets: String = spec
                .buckets
                .iter()
                .map(|actions| {
                    let actions: Vec<String> = actions.iter().map(ToString::to_string).collect();
                    format!(",bucket=weight:1,actions={}", actions.join(","))
                })
                .collect();
            let group = format!("group_id={number},type=select{buckets}");
            self.ofctl(&["--may-create", "mod-group", &self.bridge(), &group]);
        }
        let mut text = String::new();
        for (key, value) in compiler.table() {
            writeln!(text, "cookie={:#x},{}", value.cookie, flow_text(&key, &value))
                .expect("strings do not fail");
        }
        let file = self.path("flows");
        std::fs::write(&file, text).expect("a temporary file");
        self.ofctl(&["--bundle", "replace-flows", &self.bridge(), &file]);
    }

    /// How many flows the switch says it has.
    pub fn flows(&self) -> usize {
        self.ofctl(&["dump-flows", &self.bridge()]).lines().filter(|line| line.contains("table=")).count()
    }

    /// What happens to a packet.
    pub fn trace(&self, flow: &str) -> Trace {
        let text = self.appctl(&["ofproto/trace", "br", flow, "--names"]);
        Trace::parse(text)
    }

    /// Sends a frame into a port.
    pub fn receive(&self, port: &str, frame: &[u8]) {
        let hex: String = frame.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        self.appctl(&["netdev-dummy/receive", port, &hex]);
    }

    /// Frames that left by a port.
    pub fn sent(&self, port: &str) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(self.path(&format!("{port}.pcap"))).unwrap_or_default();
        let (mut frames, mut rest) = (Vec::new(), bytes.get(24..).unwrap_or_default());
        while let Some(length) = rest.get(8..12) {
            let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
            let Some(frame) = rest.get(16..16 + length) else { break };
            frames.push(frame.to_vec());
            rest = &rest[16 + length..];
        }
        frames
    }

    /// Makes the datapath do what the flows say now: it would go on as before for some milliseconds.
    pub fn revalidated(&self) {
        self.appctl(&["revalidator/purge"]);
    }

    /// Where the processes have their sockets.
    pub fn run_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Asks the control socket.
    pub fn ask(&self, command: &str, arguments: &[&str]) -> String {
        self.appctl(&[&[command], arguments].concat())
    }

    fn bridge(&self) -> String {
        format!("unix:{}", self.path("br.mgmt"))
    }

    fn vsctl(&self, args: &[&str]) {
        let db = format!("--db=unix:{}", self.path("db.sock"));
        self.run("ovs-vsctl", &[&[db.as_str(), "--timeout=20"], args].concat());
    }

    fn ofctl(&self, args: &[&str]) -> String {
        self.run("ovs-ofctl", &[&["-O", "OpenFlow13"], args].concat())
    }

    fn appctl(&self, args: &[&str]) -> String {
        let (command, arguments) = args.split_first().expect("a command");
        // By hand, not by `ovs-appctl`: a process for each packet would cost more than the packet.
        let socket = self.path(CONTROL);
        let reply = ovsdb::unixctl::call(Path::new(&socket), command, arguments, Duration::from_secs(60));
        reply.unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env("OVS_RUNDIR", self.folder.path()).env("OVS_LOGDIR", self.folder.path());
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program, args).output().expect("it is installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{program} {args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }
}

/// The port to the physical network, of switches that are joined.
pub const PHYSICAL: u32 = 900;
/// Name of the control socket.
const CONTROL: &str = "ovs-vswitchd.ctl";

impl Drop for Ovs {
    fn drop(&mut self) {
        for pid in ["vs.pid", "db.pid"] {
            if let Ok(pid) = std::fs::read_to_string(self.path(pid)) {
                Command::new("kill").arg(pid.trim()).output().ok();
            }
        }
    }
}

/// What `ofproto/trace` said.
#[derive(Clone, Debug)]
pub struct Trace {
    pub text: String,
    /// Ports that the packet left by, and how often; `p1.7` is p1 with a tag of VLAN 7 that was put on.
    pub outputs: BTreeMap<String, usize>,
    /// How often it went to a controller.
    pub punts: usize,
    /// Numbers of the tables that were looked up, in order.
    pub tables: Vec<u8>,
}

impl Trace {
    fn parse(text: String) -> Self {
        let last = text.lines().find_map(|line| line.strip_prefix("Datapath actions: ")).unwrap_or_default();
        let (mut outputs, mut punts, mut depth, mut word) = (BTreeMap::new(), 0, 0, String::new());
        let mut tag = String::new();
        for letter in last.chars().chain([',']) {
            match letter {
                ',' if depth == 0 => {
                    let name = std::mem::take(&mut word);
                    if name.contains("userspace(") && name.contains("controller(") {
                        punts += 1;
                    } else if let Some(vlan) = name.strip_prefix("push_vlan(vid=") {
                        tag = format!(".{}", vlan.split([',', ')']).next().unwrap_or_default());
                    } else if name == "pop_vlan" {
                        tag.clear();
                    } else if name.starts_with(['p', 't']) && name[1..].parse::<u32>().is_ok() {
                        *outputs.entry(name + &tag).or_default() += 1;
                    }
                    continue;
                }
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            word.push(letter);
        }
        let table =
            |line: &str| line.trim_start().split_once(". ").and_then(|(number, _)| number.parse().ok());
        let tables = text.lines().filter_map(table).collect();
        Self { outputs, punts, tables, text }
    }

    /// A part of the final flow, as `name=value`.
    pub fn final_field(&self, name: &str) -> Option<String> {
        let flow = self.text.lines().find_map(|line| line.strip_prefix("Final flow: "))?;
        flow.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    }

    /// What the last `move` put into bits.
    pub fn moved(&self, bits: &str) -> Option<String> {
        let mut lines = self
            .text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("-> ")?.strip_prefix(bits)?.strip_prefix(" is now "));
        lines.next_back().map(str::to_owned)
    }

    /// Ingress and egress keys written into the tunnel option.
    pub fn option(&self) -> Option<(String, String)> {
        Some((self.moved("NXM_NX_TUN_METADATA0[16..30]")?, self.moved("NXM_NX_TUN_METADATA0[0..15]")?))
    }

    /// Names of the ports it left by.
    pub fn ports(&self) -> Vec<&str> {
        self.outputs.keys().map(String::as_str).collect()
    }
}
