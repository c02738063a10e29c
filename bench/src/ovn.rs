//! Real OVN (Debian's ovn-central and ovn-host) in a lab of its own, to be measured beside us.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use quantumnet_testbed::{LabGuard, LabSpec, Node, find_program, wait_until};

/// OVN with two hypervisors; ended when dropped.
pub(crate) struct Ovn {
    pub(crate) lab: LabGuard,
    folder: PathBuf,
    daemons: Vec<Child>,
}

impl Ovn {
    /// Starts it and waits until northd answers.
    pub(crate) fn up(hypervisors: u16) -> Result<Self> {
        for program in ["ovn-northd", "ovn-controller", "ovn-nbctl"] {
            find_program(program, "ovn-central, ovn-host and ovn-common")?;
        }
        let lab = LabGuard::up(&LabSpec::switches_only("ovn", hypervisors))?;
        let folder = lab.folder().join("ovn");
        std::fs::create_dir_all(&folder)?;
        let mut ovn = Self { lab, folder, daemons: Vec::new() };
        ovn.start_central()?;
        for n in 1..=hypervisors {
            ovn.start_controller(n)?;
        }
        wait_until(Duration::from_secs(30), "OVN's chassis to register", || {
            let answer = ovn.nbctl(&["--wait=hv", "--timeout=5", "sync"]);
            answer.is_ok()
        })?;
        Ok(ovn)
    }

    fn start_central(&mut self) -> Result<()> {
        for database in ["nb", "sb"] {
            let file = self.folder.join(format!("{database}.db"));
            let schema = format!("/usr/share/ovn/ovn-{database}.ovsschema");
            let made = Command::new("ovsdb-tool").arg("create").arg(&file).arg(&schema).status()?;
            if !made.success() {
                bail!("ovsdb-tool could not make {} from {schema}", file.display());
            }
            let port = if database == "nb" { 6641 } else { 6642 };
            let remotes = [format!("ptcp:{port}:0.0.0.0"), format!("punix:{}", self.socket(database))];
            let unixctl = self.folder.join(format!("{database}.ctl"));
            self.spawn(
                Node::Net,
                &[
                    "ovsdb-server",
                    &file.display().to_string(),
                    &format!("--remote={}", remotes[0]),
                    &format!("--remote={}", remotes[1]),
                    &format!("--unixctl={}", unixctl.display()),
                ],
            )?;
            let socket = self.socket(database);
            wait_until(Duration::from_secs(10), "ovsdb-server to listen", || Path::new(&socket).exists())?;
        }
        self.nbctl(&["init"])?;
        let (nb, sb) = (self.socket("nb"), self.socket("sb"));
        let unixctl = self.folder.join("northd.ctl").display().to_string();
        self.spawn(
            Node::Net,
            &[
                "ovn-northd",
                &format!("--ovnnb-db=unix:{nb}"),
                &format!("--ovnsb-db=unix:{sb}"),
                &format!("--unixctl={unixctl}"),
            ],
        )
    }

    fn start_controller(&mut self, n: u16) -> Result<()> {
        let host = self.lab.hypervisor(n)?;
        let central = Node::Net.management_address();
        host.ovs_vsctl(["set", "Open_vSwitch", ".", &format!("external_ids:ovn-remote=tcp:{central}:6642")])?;
        let ovsdb = self.lab.ovsdb_socket(n).display().to_string();
        self.spawn(Node::Hypervisor(n), &["ovn-controller", &format!("unix:{ovsdb}")])
    }

    fn spawn(&mut self, node: Node, argv: &[&str]) -> Result<()> {
        let log = std::fs::File::create(self.folder.join(format!("{node}-{}.log", self.daemons.len())))?;
        let folder = match node {
            Node::Hypervisor(n) => {
                let socket = self.lab.ovsdb_socket(n);
                socket.parent().map(Path::to_owned).unwrap_or_default()
            }
            Node::Net | Node::Controller(_) => self.folder.clone(),
        };
        let child = Command::new("ip")
            .args(["netns", "exec", self.lab.netns(node).name()])
            .args(argv)
            .env("OVS_RUNDIR", &folder)
            .env("OVN_RUNDIR", &folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", argv[0]))?;
        self.daemons.push(child);
        Ok(())
    }

    fn socket(&self, database: &str) -> String {
        self.folder.join(format!("{database}.sock")).display().to_string()
    }

    /// Runs ovn-nbctl and returns what it printed.
    pub(crate) fn nbctl(&self, args: &[&str]) -> Result<String> {
        let database = format!("--db=unix:{}", self.socket("nb"));
        let output = Command::new("ovn-nbctl").arg(database).args(args).output()?;
        if !output.status.success() {
            bail!("ovn-nbctl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Ovn {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            // A daemon that is gone already is what is wanted.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
