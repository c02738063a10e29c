//! A lab that goes away with its variable: for tests.
//!
//! # Contract
//! - Drop takes the lab down, also on panic. On panic it first shows the end of every daemon's log, and copies the logs
//!   to the folder named by `QUANTUMNET_LAB_ARTIFACTS`. `QUANTUMNET_LAB_KEEP=1` leaves the lab of a failed test running.

use std::{fs, ops::Deref, path::Path};

use crate::{
    Lab, LabSpec, Result,
    error::IoContext,
    lab::{Quiet, UpOptions},
    process::tail,
};

/// A lab for the length of a test.
#[derive(Debug)]
pub struct LabGuard(Lab);

impl LabGuard {
    /// Builds a lab that is taken down on drop.
    pub fn up(spec: &LabSpec) -> Result<Self> {
        Self::up_with(spec, &UpOptions::default())
    }

    /// The same with options.
    pub fn up_with(spec: &LabSpec, options: &UpOptions) -> Result<Self> {
        Lab::up_with(spec, options, &mut Quiet).map(Self)
    }
}

impl Deref for LabGuard {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl Drop for LabGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = logs(self.0.folder());
            for log in &logs {
                eprintln!("---- {} ----\n{}", log.display(), tail(log, LOG_LINES));
            }
            if let Some(folder) = std::env::var_os("QUANTUMNET_LAB_ARTIFACTS") {
                let to = Path::new(&folder).join(self.0.name());
                if let Err(error) = copy(self.0.folder(), &logs, &to) {
                    eprintln!("logs of lab {} could not be copied: {error}", self.0.name());
                }
            }
            if std::env::var_os("QUANTUMNET_LAB_KEEP").is_some() {
                eprintln!("lab {} is kept: qnctl lab down {}", self.0.name(), self.0.name());
                return;
            }
        }
        if let Err(error) = self.0.down() {
            eprintln!("lab {} was not taken down: {error}", self.0.name());
        }
    }
}

fn logs(folder: &Path) -> Vec<std::path::PathBuf> {
    let nodes = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut logs: Vec<_> = nodes
        .filter(|path| path.is_dir())
        .flat_map(|node| fs::read_dir(node).into_iter().flatten().flatten().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    logs
}

fn copy(from: &Path, logs: &[std::path::PathBuf], to: &Path) -> Result<()> {
    for log in logs {
        let target = to.join(log.strip_prefix(from).unwrap_or(log));
        let folder = target.parent().unwrap_or(to);
        fs::create_dir_all(folder).doing(|| format!("make {}", folder.display()))?;
        fs::copy(log, &target).doing(|| format!("copy {}", log.display()))?;
    }
    Ok(())
}

const LOG_LINES: usize = 30;
