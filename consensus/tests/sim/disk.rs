//! A disk that behaves as badly as real ones may: unsynced writes are lost, torn or reordered by a crash, space runs out,
//! syncs fail, and (for testing the tests) a sync may lie.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use quantumnet_consensus::log::vfs::{Vfs, VfsFile};
use rand::{Rng, rngs::StdRng};

/// A handle to one simulated disk.
#[derive(Clone, Default)]
pub(crate) struct SimDisk(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    names_durable: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    faults: Faults,
    syncs: u64,
    bytes_written: u64,
}

/// What goes wrong.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Bytes over all files beyond which writes fail with `StorageFull`.
    pub(crate) capacity: Option<u64>,
    /// Changing operations until all of them fail: the power is going.
    pub(crate) operations_left: Option<u64>,
    /// Syncs return success and do nothing.
    pub(crate) sync_lies: bool,
    /// Syncs fail.
    pub(crate) sync_fails: bool,
}

#[derive(Clone, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Clone)]
enum NameChange {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl SimDisk {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    pub(crate) fn bytes_used(&self) -> u64 {
        self.0.borrow().bytes_used()
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.0.borrow().syncs
    }

    /// Power loss: of what was not synced, any part may or may not have reached the disk.
    pub(crate) fn crash(&self, rng: &mut StdRng) {
        let mut state = self.0.borrow_mut();
        let keep = rng.random_range(0.0..1.0);
        for inode in &mut state.inodes {
            let mut survived = std::mem::take(&mut inode.durable);
            for change in std::mem::take(&mut inode.changes) {
                match change {
                    Change::Write(offset, bytes) if rng.random_bool(keep) => {
                        write(&mut survived, offset, &bytes)
                    }
                    Change::Write(offset, bytes) if rng.random_bool(0.5) => {
                        tear(&mut survived, offset, &bytes, rng)
                    }
                    Change::SetLen(length) if rng.random_bool(keep) => survived.resize(length as usize, 0),
                    Change::Write(..) | Change::SetLen(_) => {}
                }
            }
            inode.durable = survived.clone();
            inode.current = survived;
        }
        let changes = std::mem::take(&mut state.name_changes);
        let kept = rng.random_range(0..=changes.len());
        for change in changes.into_iter().take(kept) {
            change.apply(&mut state.names_durable);
        }
        state.names = state.names_durable.clone();
        state.locks.clear();
        state.faults.operations_left = None;
        state.faults.sync_fails = false;
    }

    /// Changes the bytes of a file behind everybody's back.
    pub(crate) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.borrow_mut();
        let inode = state.names[path];
        let inode = &mut state.inodes[inode];
        change(&mut inode.current);
        inode.durable = inode.current.clone();
        inode.changes.clear();
    }
}

impl State {
    fn bytes_used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].current.len() as u64).sum()
    }

    fn spend(&mut self) -> io::Result<()> {
        match &mut self.faults.operations_left {
            Some(0) => Err(io::Error::other("power is going")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

/// An open simulated file.
pub(crate) struct SimFile {
    disk: SimDisk,
    inode: usize,
}

/// Releases the lock when dropped.
pub(crate) struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.0.borrow_mut().locks.remove(&self.path);
    }
}

impl Vfs for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.borrow();
        let names = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.0.borrow();
        let inode = state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.inodes[*inode].current.clone())
    }

    fn open(&self, path: &Path, truncate: bool) -> io::Result<SimFile> {
        let mut state = self.0.borrow_mut();
        state.spend()?;
        let inode = match state.names.get(path) {
            Some(inode) => *inode,
            None => {
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.rename(NameChange::Link(path.to_path_buf(), inode));
                inode
            }
        };
        if truncate {
            state.inodes[inode].current.clear();
            state.inodes[inode].changes.push(Change::SetLen(0));
        }
        Ok(SimFile { disk: self.clone(), inode })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.spend()?;
        state.rename(NameChange::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.spend()?;
        state.rename(NameChange::Unlink(path.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.spend()?;
        state.syncs += 1;
        if !state.faults.sync_lies {
            state.name_changes.clear();
            state.names_durable = state.names.clone();
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<SimLock> {
        if !self.0.borrow_mut().locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock { disk: self.clone(), path: path.to_path_buf() })
    }
}

impl VfsFile for SimFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.borrow_mut();
        state.spend()?;
        let grows =
            (offset + bytes.len() as u64).saturating_sub(state.inodes[self.inode].current.len() as u64);
        let free =
            state.faults.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.bytes_used()));
        let fits =
            if grows > free { bytes.len().saturating_sub((grows - free) as usize) } else { bytes.len() };
        state.bytes_written += fits as u64;
        let inode = &mut state.inodes[self.inode];
        write(&mut inode.current, offset, &bytes[..fits]);
        inode.changes.push(Change::Write(offset, bytes[..fits].to_vec()));
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.disk.0.borrow_mut();
        state.spend()?;
        let inode = &mut state.inodes[self.inode];
        inode.current.resize(length as usize, 0);
        inode.changes.push(Change::SetLen(length));
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.borrow_mut();
        state.spend()?;
        state.syncs += 1;
        if state.faults.sync_fails {
            return Err(io::Error::other("input/output error"));
        }
        if !state.faults.sync_lies {
            let inode = &mut state.inodes[self.inode];
            inode.changes.clear();
            inode.durable = inode.current.clone();
        }
        Ok(())
    }
}

fn write(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = offset as usize;
    if file.len() < start + bytes.len() {
        file.resize(start + bytes.len(), 0);
    }
    file[start..start + bytes.len()].copy_from_slice(bytes);
}

/// Only some sectors arrive.
fn tear(file: &mut Vec<u8>, offset: u64, bytes: &[u8], rng: &mut StdRng) {
    let mut at = 0;
    while at < bytes.len() {
        let sector_left = SECTOR_BYTES - (offset as usize + at) % SECTOR_BYTES;
        let end = (at + sector_left).min(bytes.len());
        if rng.random_bool(0.5) {
            write(file, offset + at as u64, &bytes[at..end]);
        }
        at = end;
    }
}

const SECTOR_BYTES: usize = 512;
