//! The file in which a lab remembers what it has made, and the folder in which labs find each other.
//!
//! # Contract
//! - [`Registry`] is the base folder: one folder per lab, one lock for claiming a name.
//! - [`StateFile`] is one lab's record. It is written before each thing is made, so that after a crash at any moment
//!   it names everything that may exist.
//!
//! # Invariants
//! - A reader sees the old or the new file, never half of one (write aside, then rename).
//! - Changes are made under the lab's lock, on what the file says now, so several processes may work on one lab.
//! - A process id is only ever used together with the boot and the start time it was recorded with.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, LabSpec, Netns, Result, error::IoContext, process::ProcessRecord, spec::valid_name, vm::VmRecord,
};

/// The folder that holds the labs of this machine.
#[derive(Clone, Debug)]
pub struct Registry {
    base: PathBuf,
}

impl Default for Registry {
    /// The folder named by `QUANTUMNET_LAB_DIR`, else `/run/quantumnet/lab`.
    fn default() -> Self {
        Self::at(std::env::var_os(BASE_VARIABLE).map_or_else(|| PathBuf::from(BASE), PathBuf::from))
    }
}

impl Registry {
    /// Labs under a folder of one's own.
    pub fn at(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into() }
    }

    /// Names of the labs there are, also of half-built ones.
    pub fn names(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.base) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).doing(|| format!("list {}", self.base.display())),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    pub(crate) fn folder(&self, lab: &str) -> PathBuf {
        self.base.join(lab)
    }

    /// Claims the spec's name: makes its folder and its first state file, or says that the name is taken.
    pub(crate) fn claim(&self, spec: &LabSpec) -> Result<StateFile> {
        fs::create_dir_all(&self.base).doing(|| format!("make {}", self.base.display()))?;
        let lock_path = self.base.join(".lock");
        let lock = File::create(&lock_path).doing(|| format!("open {}", lock_path.display()))?;
        lock.lock().doing(|| format!("lock {}", lock_path.display()))?;
        let taken = |name: String| {
            let hint = "take it down first (qnctl lab down), or choose another name";
            Err(Error::Exists { what: "lab", name, hint })
        };
        let folder = self.folder(&spec.name);
        if folder.exists() {
            return taken(spec.name.clone());
        }
        // A lab of this name may live under another base folder; its namespaces are not ours to touch.
        if let Some(foreign) = spec.nodes().map(|node| spec.netns(node)).find(Netns::exists) {
            return taken(format!("{} (namespace {})", spec.name, foreign.name()));
        }
        fs::create_dir(&folder).doing(|| format!("make {}", folder.display()))?;
        let file = StateFile { folder };
        file.write(&State::new(spec.clone()))?;
        Ok(file)
    }

    pub(crate) fn open(&self, lab: &str) -> Result<StateFile> {
        valid_name("lab name", lab)?;
        let folder = self.folder(lab);
        if folder.is_dir() {
            return Ok(StateFile { folder });
        }
        Err(Error::Unknown { what: "lab", name: lab.into(), known: join(&self.names()?) })
    }
}

/// The record of one lab on disk.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    folder: PathBuf,
}

impl StateFile {
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// `Ok(None)` when the folder holds no state: a crash before the first write, or after the last removal.
    pub(crate) fn read_if_any(&self) -> Result<Option<State>> {
        let path = self.path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).doing(|| format!("read {}", path.display())),
        };
        let unreadable = |problem: String| Error::State { path: path.clone(), problem };
        let format: Format = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if format.format != FORMAT {
            let problem = format!("is of format {}, this program reads format {FORMAT}", format.format);
            return Err(unreadable(problem));
        }
        serde_json::from_str(&text).map(Some).map_err(|error| unreadable(error.to_string()))
    }

    pub(crate) fn read(&self) -> Result<State> {
        self.read_if_any()?.ok_or_else(|| Error::State {
            path: self.path(),
            problem: "is gone: the lab was taken down or never finished starting".into(),
        })
    }

    /// Changes the record under the lab's lock and returns what `change` returns.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let _lock = self.lock("lock")?;
        let mut state = self.read()?;
        let value = change(&mut state)?;
        self.write(&state)?;
        Ok(value)
    }

    /// Like [`Self::update`] for something about to be made; refused once the lab is being taken down.
    pub(crate) fn record<T>(&self, change: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.update(|state| match state.phase {
            Phase::Stopping => {
                Err(Error::State { path: self.path(), problem: "says the lab is being taken down".into() })
            }
            Phase::Starting | Phase::Up => change(state),
        })
    }

    /// Takes a lock file of the lab; it is held until the returned file is dropped.
    pub(crate) fn lock(&self, name: &str) -> Result<File> {
        let path = self.folder.join(name);
        let file = File::create(&path).doing(|| format!("open {}", path.display()))?;
        file.lock().doing(|| format!("lock {}", path.display()))?;
        Ok(file)
    }

    fn write(&self, state: &State) -> Result<()> {
        let path = self.path();
        let aside = self.folder.join("state.json.new");
        let mut text = serde_json::to_string_pretty(state)
            .map_err(|error| Error::State { path: path.clone(), problem: error.to_string() })?;
        text.push('\n');
        fs::write(&aside, text).doing(|| format!("write {}", aside.display()))?;
        fs::rename(&aside, &path).doing(|| format!("replace {}", path.display()))
    }

    fn path(&self) -> PathBuf {
        self.folder.join("state.json")
    }
}

/// Everything a lab has made or is about to make.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct State {
    format: u32,
    pub(crate) spec: LabSpec,
    pub(crate) phase: Phase,
    /// The boot of this machine; process ids of another boot mean nothing.
    pub(crate) boot: String,
    pub(crate) namespaces: Vec<Netns>,
    pub(crate) processes: BTreeMap<String, ProcessRecord>,
    pub(crate) vms: BTreeMap<String, VmRecord>,
}

impl State {
    fn new(spec: LabSpec) -> Self {
        Self {
            format: FORMAT,
            spec,
            phase: Phase::Starting,
            boot: boot_id(),
            namespaces: Vec::new(),
            processes: BTreeMap::new(),
            vms: BTreeMap::new(),
        }
    }
}

/// How far a lab is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Being built, or left behind by a crash while it was built.
    Starting,
    /// Complete.
    Up,
    /// Being taken down, or left behind by a crash in the middle of that.
    Stopping,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

pub(crate) fn boot_id() -> String {
    // Without it (a strange kernel) all boots look alike, and the start time alone guards a process id.
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Names as a person reads them in an error.
pub(crate) fn join<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

const FORMAT: u32 = 1;
const BASE: &str = "/run/quantumnet/lab";
const BASE_VARIABLE: &str = "QUANTUMNET_LAB_DIR";

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed() -> (tempfile::TempDir, StateFile) {
        let folder = tempfile::tempdir().unwrap();
        let spec = LabSpec::switches_only("state", 1);
        let file = Registry::at(folder.path()).claim(&spec).unwrap();
        (folder, file)
    }

    #[test]
    fn a_name_is_claimed_once() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::at(folder.path());
        let spec = LabSpec::switches_only("state", 1);
        registry.claim(&spec).unwrap();
        assert!(matches!(registry.claim(&spec), Err(Error::Exists { .. })));
        assert_eq!(registry.names().unwrap(), [spec.name]);
    }

    #[test]
    fn another_format_is_refused_by_name() {
        let (_folder, file) = claimed();
        fs::write(file.path(), r#"{"format": 99, "shape": "unknown"}"#).unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("is of format 99, this program reads format 1"), "{error}");
    }

    #[test]
    fn nothing_new_is_recorded_while_the_lab_goes_down() {
        let (_folder, file) = claimed();
        file.update(|state| {
            state.phase = Phase::Stopping;
            Ok(())
        })
        .unwrap();
        assert!(file.record(|_| Ok(())).is_err());
    }

    #[test]
    fn a_refused_change_leaves_the_file_as_it_was() {
        let (_folder, file) = claimed();
        let refused: Result<()> = file.update(|state| {
            state.phase = Phase::Up;
            Err(Error::NotRoot { uid: 1 })
        });
        assert!(refused.is_err());
        assert_eq!(file.read().unwrap().phase, Phase::Starting);
    }

    #[test]
    fn the_file_of_format_1_stays_readable() {
        let golden = include_str!("assets/state-format-1.json");
        let (_folder, file) = claimed();
        fs::write(file.path(), golden).unwrap();
        let state = file.read().unwrap();
        assert_eq!(state.processes["vswitchd1"].pid, Some(4711));
        assert_eq!(state.vms["web1"].iface_id, "port-web1");
    }
}
