//! The agent's memory on disk: the last rows, and the numbers it gave out.
//!
//! # Contract
//! - A folder with one file per [`Record`], each replaced whole: written beside, flushed, renamed.
//! - A file that is missing, cut short, damaged or of another format is reported and counts as absent; what it held
//!   comes again from the controller or from the switch.
//!
//! # Invariants
//! - A reader sees the old file or the new one, never a mixture, whatever moment the power goes.
//! - Every file begins with [`MAGIC`], a format version, the length and the checksum of what follows.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

mod ids;
mod snapshot;
mod writer;
mod zones;

pub use ids::{Ids, KnownInterface};
pub use snapshot::{Resume, Snapshot, SnapshotError};
pub use writer::{RowsToStore, Writer};
pub use zones::Zones;

/// Something kept in a file of its own.
pub trait Record: Serialize + DeserializeOwned {
    /// The file's name.
    const FILE: &'static str;
    /// Raise it when an older program would misread a newer file; older files are then ignored.
    const FORMAT: u32;
}

/// Why a file does not count.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Not a file of ours, or cut short.
    #[error("{path}: no state file, or truncated")]
    Header {
        /// The file.
        path: PathBuf,
    },
    /// Written by a program of another version.
    #[error("{path}: format {got}, this program reads {expected}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The version this program reads.
        expected: u32,
        /// The version found.
        got: u32,
    },
    /// The checksum is wrong.
    #[error("{path}: damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The checksum is right and the contents are not.
    #[error("{path}: {reason}")]
    Contents {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        reason: String,
    },
}

/// The folder.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Makes the folder unless it is there.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DiskError> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(|source| DiskError::Io { path: path.clone(), source })?;
        Ok(Self { path })
    }

    /// What was stored last; `None` when nothing ever was.
    pub fn load<R: Record>(&self) -> Result<Option<R>, DiskError> {
        let path = self.path.join(R::FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DiskError::Io { path, source }),
        };
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(DiskError::Header { path });
        };
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if header[..4] != MAGIC {
            return Err(DiskError::Header { path });
        }
        if word(4) != R::FORMAT {
            return Err(DiskError::Format { path, expected: R::FORMAT, got: word(4) });
        }
        if u32::try_from(body.len()).ok() != Some(word(8)) {
            return Err(DiskError::Header { path });
        }
        if crc32c::crc32c(body) != word(12) {
            return Err(DiskError::Damaged { path });
        }
        let record = postcard::from_bytes(body);
        record.map(Some).map_err(|error| DiskError::Contents { path, reason: error.to_string() })
    }

    /// Replaces what was stored. On an error the old file is still there.
    pub fn store<R: Record>(&self, record: &R) -> Result<(), DiskError> {
        let path = self.path.join(R::FILE);
        let io = |source| DiskError::Io { path: path.clone(), source };
        let contents = |reason: String| DiskError::Contents { path: path.clone(), reason };
        let body = postcard::to_stdvec(record).map_err(|error| contents(error.to_string()))?;
        let length = u32::try_from(body.len()).map_err(|error| contents(error.to_string()))?;
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.extend_from_slice(&MAGIC);
        for word in [R::FORMAT, length, crc32c::crc32c(&body)] {
            header.extend_from_slice(&word.to_be_bytes());
        }
        let beside = self.path.join(format!("{}.new", R::FILE));
        let written = write(&beside, &header, &body).and_then(|()| fs::rename(&beside, &path));
        if let Err(source) = written {
            // On a full disk the half-written file is the last thing to keep.
            drop(fs::remove_file(&beside));
            return Err(io(source));
        }
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(io)
    }
}

fn write(path: &Path, header: &[u8], body: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(header)?;
    file.write_all(body)?;
    file.sync_all()
}

const MAGIC: [u8; 4] = *b"QNAG";
const HEADER_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Ids {
        let mut ids = Ids::default();
        ids.appeared("port-a", uuid::Uuid::from_u128(1), 1_000);
        ids
    }

    #[test]
    fn what_was_stored_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path().join("a/b")).unwrap();
        assert!(state.load::<Ids>().unwrap().is_none());
        state.store(&ids()).unwrap();
        assert_eq!(state.load::<Ids>().unwrap(), Some(ids()));
    }

    #[test]
    fn damage_is_an_error_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        state.store(&ids()).unwrap();
        let file = folder.path().join(Ids::FILE);
        let whole = fs::read(&file).unwrap();
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            assert!(state.load::<Ids>().is_err(), "cut to {length}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&file, bytes).unwrap();
            assert!(state.load::<Ids>().is_err(), "octet {at}");
        }
    }
}
