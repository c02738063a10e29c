//! The log on disk: preallocated, checksummed segment files, snapshot files, an identity and a lock.
//!
//! # Contract
//! `append` collects in memory, `sync` writes everything collected with one write and one `fdatasync`. Space is
//! written with zeros before it is used, so a sync changes no metadata and costs one disk flush.
//!
//! # Invariants
//! * What a returned `sync` covered is found by every later `open`, or `open` fails with an error naming the damage.
//! * A failed write leaves the file to be cut at the last good record before the next write: leftovers are never read.
//! * After a failed sync nothing is written any more: the system may have dropped the pages and forgotten the error.
//! * A segment is removed only when a durable snapshot covers all of its entries; oldest first.
//!
//! # Limit
//! Damage to the very last synced group of records can't be told from a torn write and is cut off; the count of bytes
//! cut off is reported in [`Recovered::torn_bytes`].

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};

use crate::{
    error::LogError,
    event::{Batch, ClusterId, HardState, LogEntry, MemberId, Recovered, Snapshot},
    log::{
        LogStore,
        format::{
            Identity, RECORD_BYTES_MAX, Record, SEGMENT_HEADER_BYTES, decode_identity, decode_snapshot,
            encode_identity, put_record, scan, segment_header, snapshot_header,
        },
        vfs::{StdVfs, Vfs, VfsFile},
    },
};

/// Sizes of a disk log.
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// A segment is closed once it is this long.
    pub segment_bytes: u64,
    /// How much zeroed space is added at a time.
    pub extend_bytes: u64,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, extend_bytes: 4 << 20 }
    }
}

/// A member's log on disk.
pub struct DiskLog<V: Vfs + Clone = StdVfs> {
    vfs: V,
    dir: PathBuf,
    options: DiskOptions,
    /// Closed segments, oldest first.
    closed: VecDeque<Segment>,
    active: Segment,
    file: V::File,
    /// End of the valid records in the active segment; all of it is synced.
    end: u64,
    /// End of the zeroed space in the active segment.
    zeroed: u64,
    /// A write failed after `end`: the file must be cut there first.
    dirty: bool,
    pending: Vec<Record>,
    hard_state: HardState,
    last: u64,
    snapshot_index: u64,
    stopped: bool,
    _lock: V::Lock,
}

#[derive(Clone, Debug)]
struct Segment {
    sequence: u64,
    /// Highest index of any entry ever written to it.
    index_max: u64,
}

impl DiskLog<StdVfs> {
    /// Opens, or creates, the log of `member` in `dir`.
    ///
    /// # Errors
    /// See [`LogError`]; nothing on disk is changed when the directory is not this member's.
    pub fn open(
        dir: impl Into<PathBuf>,
        cluster: ClusterId,
        member: MemberId,
        options: DiskOptions,
    ) -> Result<(Self, Recovered), LogError> {
        Self::open_on(StdVfs, dir, cluster, member, options)
    }
}

impl<V: Vfs + Clone> DiskLog<V> {
    /// Opens a log on the given file system.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn open_on(
        vfs: V,
        dir: impl Into<PathBuf>,
        cluster: ClusterId,
        member: MemberId,
        options: DiskOptions,
    ) -> Result<(Self, Recovered), LogError> {
        let dir = dir.into();
        vfs.create_dir_all(&dir).map_err(|error| io_error("creating", &dir, error))?;
        let lock_path = dir.join("lock");
        let lock = vfs.lock(&lock_path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => LogError::Locked { path: lock_path.clone() },
            _ => io_error("locking", &lock_path, error),
        })?;
        let boot = identify(&vfs, &dir, cluster, member)?;
        let names = vfs.list(&dir).map_err(|error| io_error("listing", &dir, error))?;
        for name in names.iter().filter(|name| name.ends_with(".tmp")) {
            remove(&vfs, &dir.join(name))?;
        }
        let snapshot = newest_snapshot(&vfs, &dir, &names)?;
        let replay = replay(&vfs, &dir, &names)?;
        let snapshot_index = snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.index);
        let replayed_last = replay.last;
        let (torn_bytes, hard_state) = (replay.torn_bytes, replay.hard_state);
        let mut closed = replay.segments;
        let entries = after_snapshot(replay.entries, snapshot.as_ref())?;
        let last = entries.last().map_or(snapshot_index, |entry| entry.index);
        if hard_state.commit > last {
            return Err(LogError::Lost { last, commit: hard_state.commit });
        }
        let end = replay.end;
        let reuse = if end > 0 { closed.pop_back() } else { None };
        let (active, file, end, zeroed) = match reuse {
            Some(active) => {
                let path = dir.join(segment_name(active.sequence));
                let mut file = vfs.open(&path, false).map_err(|error| io_error("opening", &path, error))?;
                cut(&mut file, end).map_err(|error| io_error("cutting", &path, error))?;
                (active, file, end, end)
            }
            None => {
                let sequence = closed.back().map_or(1, |segment| segment.sequence + 1);
                let (file, end) = create_segment(&vfs, &dir, sequence, hard_state)?;
                (Segment { sequence, index_max: 0 }, file, end, end)
            }
        };
        let mut log = Self {
            vfs,
            dir,
            options,
            closed,
            active,
            file,
            end,
            zeroed,
            dirty: false,
            pending: Vec::new(),
            hard_state,
            last,
            snapshot_index,
            stopped: false,
            _lock: lock,
        };
        if last != replayed_last || (entries.is_empty() && snapshot_index > 0) {
            let meta = snapshot.as_ref().map(|snapshot| (snapshot.meta.index, snapshot.meta.term));
            let (index, term) = meta.unwrap_or_default();
            log.pending.push(Record::Restart { index, term });
            log.sync()?;
        }
        Ok((log, Recovered { hard_state, snapshot, entries, boot, torn_bytes }))
    }

    /// Writes snapshots, also from another thread and while the log is written.
    pub fn snapshot_writer(&self) -> SnapshotWriter<V> {
        SnapshotWriter { vfs: self.vfs.clone(), dir: self.dir.clone() }
    }

    /// The last index appended.
    #[must_use]
    pub const fn last_index(&self) -> u64 {
        self.last
    }

    /// Number of segment files.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.closed.len() + 1
    }

    fn active_path(&self) -> PathBuf {
        self.dir.join(segment_name(self.active.sequence))
    }

    fn roll(&mut self) -> Result<(), LogError> {
        let sequence = self.active.sequence + 1;
        let (file, end) = create_segment(&self.vfs, &self.dir, sequence, self.hard_state)?;
        self.closed.push_back(std::mem::replace(&mut self.active, Segment { sequence, index_max: 0 }));
        self.file = file;
        (self.end, self.zeroed, self.dirty) = (end, end, false);
        Ok(())
    }

    /// Writes zeros so that `bytes` more fit; cuts leftovers of a failed write first.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        if self.dirty {
            cut(&mut self.file, self.end)?;
            self.zeroed = self.end;
            self.dirty = false;
        }
        let wanted = self.end + bytes;
        while self.zeroed < wanted {
            let more = self.options.extend_bytes.max(4096);
            self.dirty = true;
            self.file.write_all_at(&vec![0; more as usize], self.zeroed)?;
            self.dirty = false;
            self.zeroed += more;
        }
        Ok(())
    }
}

impl<V: Vfs + Clone> LogStore for DiskLog<V> {
    fn append(&mut self, batch: &Batch) -> Result<(), LogError> {
        if self.stopped {
            return Err(LogError::Stopped { path: self.active_path() });
        }
        let mut next = self.last + 1;
        if let Some(snapshot) = &batch.snapshot {
            next = snapshot.meta.index + 1;
        }
        if let Some(first) = batch.entries.first()
            && (first.index > next || first.index <= batch.snapshot.as_ref().map_or(0, |s| s.meta.index))
        {
            return Err(LogError::Discontinuous { first: 1, next, got: first.index });
        }
        if let Some(entry) = batch.entries.iter().find(|entry| entry.data.len() > RECORD_BYTES_MAX / 2) {
            let (max, got) = (RECORD_BYTES_MAX as u64 / 2, entry.data.len() as u64);
            return Err(LogError::BatchTooLarge { max, got });
        }
        if let Some(snapshot) = &batch.snapshot {
            self.save_snapshot(snapshot)?;
            self.pending.push(Record::Restart { index: snapshot.meta.index, term: snapshot.meta.term });
            self.last = snapshot.meta.index;
        }
        let mut start = 0;
        while start < batch.entries.len() || start == 0 {
            let (mut bytes, mut end) = (0, start);
            while end < batch.entries.len() && bytes <= RECORD_BYTES_MAX / 4 {
                bytes += batch.entries[end].data.len() + 20;
                end += 1;
            }
            self.last = batch.entries[start..end].last().map_or(self.last, |entry| entry.index);
            let mut hard_state = batch.hard_state;
            hard_state.commit = hard_state.commit.min(self.last);
            self.pending.push(Record::Batch { hard_state, entries: batch.entries[start..end].to_vec() });
            start = end.max(1);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogError> {
        if self.stopped {
            return Err(LogError::Stopped { path: self.active_path() });
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.end >= self.options.segment_bytes {
            self.roll()?;
        }
        let mut out = BytesMut::new();
        for record in &self.pending {
            let offset = self.end + out.len() as u64;
            put_record(&mut out, self.active.sequence, offset, self.end, record);
        }
        let path = self.active_path();
        self.make_room(out.len() as u64).map_err(|error| io_error("extending", &path, error))?;
        self.dirty = true;
        self.file.write_all_at(&out, self.end).map_err(|error| io_error("writing", &path, error))?;
        if let Err(error) = self.file.sync_data() {
            self.stopped = true;
            tracing::error!(path = %path.display(), %error, "sync failed, the log stops");
            return Err(LogError::Stopped { path });
        }
        self.dirty = false;
        self.end += out.len() as u64;
        for record in self.pending.drain(..) {
            if let Record::Batch { hard_state, entries } = record {
                self.hard_state = hard_state;
                let index = entries.last().map_or(0, |entry| entry.index);
                self.active.index_max = self.active.index_max.max(index);
            }
        }
        Ok(())
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        self.snapshot_writer().write(snapshot)
    }

    fn compact(&mut self, through: u64) -> Result<(), LogError> {
        let names = self.vfs.list(&self.dir).map_err(|error| io_error("listing", &self.dir, error))?;
        let mut snapshots = names.iter().filter_map(|name| snapshot_position(name)).collect::<Vec<_>>();
        snapshots.sort_unstable();
        let Some((newest, _)) = snapshots.pop() else { return Ok(()) };
        self.snapshot_index = newest;
        let covered = through.min(newest);
        while let Some(oldest) = self.closed.front() {
            if oldest.index_max > covered {
                break;
            }
            remove(&self.vfs, &self.dir.join(segment_name(oldest.sequence)))?;
            self.closed.pop_front();
        }
        for (index, term) in snapshots {
            remove(&self.vfs, &self.dir.join(snapshot_name(index, term)))?;
        }
        self.vfs.sync_dir(&self.dir).map_err(|error| io_error("syncing", &self.dir, error))
    }
}

impl<V: Vfs + Clone> std::fmt::Debug for DiskLog<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskLog")
            .field("dir", &self.dir)
            .field("last", &self.last)
            .field("segments", &self.segments())
            .finish_non_exhaustive()
    }
}

/// Writes snapshot files into a data directory, independent of the log: a large snapshot stalls no write.
#[derive(Clone, Debug)]
pub struct SnapshotWriter<V: Vfs + Clone = StdVfs> {
    vfs: V,
    dir: PathBuf,
}

impl<V: Vfs + Clone> SnapshotWriter<V> {
    /// Writes a snapshot so that it is either whole under its name or not there; durable when this returns.
    ///
    /// # Errors
    /// The disk is full or failed; nothing is left under the snapshot's name.
    pub fn write(&self, snapshot: &Snapshot) -> Result<(), LogError> {
        let path = self.dir.join(snapshot_name(snapshot.meta.index, snapshot.meta.term));
        let header = snapshot_header(snapshot);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header), &snapshot.data);
        write_atomically(&self.vfs, &self.dir, &path, &[&header, &snapshot.data, &crc.to_le_bytes()])
    }
}

struct Replay {
    segments: VecDeque<Segment>,
    entries: Vec<LogEntry>,
    hard_state: HardState,
    last: u64,
    /// End of the last segment's records; 0 if the last segment can't be continued.
    end: u64,
    torn_bytes: u64,
}

fn replay<V: Vfs>(vfs: &V, dir: &Path, names: &[String]) -> Result<Replay, LogError> {
    let mut sequences = names.iter().filter_map(|name| segment_sequence(name)).collect::<Vec<_>>();
    sequences.sort_unstable();
    let mut found = Replay {
        segments: VecDeque::new(),
        entries: Vec::new(),
        hard_state: HardState::default(),
        last: 0,
        end: 0,
        torn_bytes: 0,
    };
    for (position, sequence) in sequences.iter().copied().enumerate() {
        let path = dir.join(segment_name(sequence));
        let bytes = vfs.read(&path).map_err(|error| io_error("reading", &path, error))?;
        let corrupt = |offset, source| LogError::Corrupt { path: path.clone(), offset, source };
        if position > 0 && sequence != sequences[position - 1] + 1 {
            let expected = "the number after the one before";
            let source =
                crate::error::DecodeError::Unexpected { what: "segment sequence", expected, got: sequence };
            return Err(corrupt(0, source));
        }
        let scanned = scan(sequence, &bytes).map_err(|damage| corrupt(damage.offset, damage.cause))?;
        let is_last = position + 1 == sequences.len();
        if !is_last && (scanned.torn_bytes > 0 || scanned.end == 0) {
            let got = scanned.torn_bytes;
            let expected = "a clean end, for a later segment follows";
            let source = crate::error::DecodeError::Unexpected { what: "bytes after the end", expected, got };
            return Err(corrupt(scanned.end, source));
        }
        found.torn_bytes = scanned.torn_bytes;
        found.end = scanned.end;
        if scanned.end <= SEGMENT_HEADER_BYTES {
            // Its creation was not finished: it never held anything.
            remove(vfs, &path)?;
            found.end = 0;
            break;
        }
        let mut segment = Segment { sequence, index_max: 0 };
        for record in scanned.records {
            found.take(record, &mut segment).map_err(|(expected, got)| LogError::Gap { expected, got })?;
        }
        found.segments.push_back(segment);
    }
    Ok(found)
}

impl Replay {
    fn take(&mut self, record: Record, segment: &mut Segment) -> Result<(), (u64, u64)> {
        match record {
            Record::Restart { index, .. } => {
                self.entries.clear();
                self.last = index;
            }
            Record::Batch { hard_state, entries } => {
                self.hard_state = hard_state;
                let Some(first) = entries.first().map(|entry| entry.index) else { return Ok(()) };
                if self.last == 0 && self.entries.is_empty() {
                    self.last = first - 1; // older segments are gone; the snapshot must reach up to here
                }
                if first > self.last + 1 {
                    return Err((self.last, first));
                }
                let keep = self.entries.partition_point(|entry| entry.index < first);
                self.entries.truncate(keep);
                self.entries.extend(entries);
                self.last = self.entries.last().map_or(self.last, |entry| entry.index);
                segment.index_max = segment.index_max.max(self.last);
            }
        }
        Ok(())
    }
}

/// The entries that continue the snapshot; none if the log does not pass through its position.
fn after_snapshot(
    mut entries: Vec<LogEntry>,
    snapshot: Option<&Snapshot>,
) -> Result<Vec<LogEntry>, LogError> {
    let (index, term) = snapshot.map_or((0, 0), |snapshot| (snapshot.meta.index, snapshot.meta.term));
    let Some(first) = entries.first().map(|entry| entry.index) else { return Ok(entries) };
    if first > index + 1 {
        return Err(LogError::Gap { expected: index, got: first });
    }
    if first == index + 1 {
        return Ok(entries);
    }
    let at = usize::try_from(index - first).unwrap_or(usize::MAX);
    if entries.get(at).is_some_and(|entry| entry.term == term) {
        entries.drain(..=at);
    } else {
        entries.clear();
    }
    Ok(entries)
}

fn newest_snapshot<V: Vfs>(vfs: &V, dir: &Path, names: &[String]) -> Result<Option<Snapshot>, LogError> {
    let Some((index, term)) = names.iter().filter_map(|name| snapshot_position(name)).max() else {
        return Ok(None);
    };
    let path = dir.join(snapshot_name(index, term));
    let bytes = vfs.read(&path).map_err(|error| io_error("reading", &path, error))?;
    // It was whole when it got its name, so damage is never a torn write.
    decode_snapshot(Bytes::from(bytes)).map(Some).map_err(|source| LogError::Format { path, source })
}

/// Checks whose directory it is and counts the start.
fn identify<V: Vfs>(vfs: &V, dir: &Path, cluster: ClusterId, member: MemberId) -> Result<u64, LogError> {
    let path = dir.join("identity");
    let boot = match vfs.read(&path) {
        Ok(bytes) => {
            let found = decode_identity(Bytes::from(bytes))
                .map_err(|source| LogError::Format { path: path.clone(), source })?;
            if found.cluster != cluster {
                let (expected, got) = (cluster.to_string(), found.cluster.to_string());
                return Err(LogError::Identity { what: "cluster", expected, got });
            }
            if found.member != member {
                let (expected, got) = (member.to_string(), found.member.to_string());
                return Err(LogError::Identity { what: "member", expected, got });
            }
            found.boot + 1
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
        Err(error) => return Err(io_error("reading", &path, error)),
    };
    write_atomically(vfs, dir, &path, &[&encode_identity(&Identity { cluster, member, boot })])?;
    Ok(boot)
}

fn create_segment<V: Vfs>(
    vfs: &V,
    dir: &Path,
    sequence: u64,
    hard_state: HardState,
) -> Result<(V::File, u64), LogError> {
    let path = dir.join(segment_name(sequence));
    let mut out = segment_header(sequence);
    let record = Record::Batch { hard_state, entries: Vec::new() };
    put_record(&mut out, sequence, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES, &record);
    let mut file = vfs.open(&path, true).map_err(|error| io_error("creating", &path, error))?;
    file.write_all_at(&out, 0).map_err(|error| io_error("writing", &path, error))?;
    file.sync_data().map_err(|error| io_error("syncing", &path, error))?;
    vfs.sync_dir(dir).map_err(|error| io_error("syncing", dir, error))?;
    Ok((file, out.len() as u64))
}

fn write_atomically<V: Vfs>(vfs: &V, dir: &Path, path: &Path, parts: &[&[u8]]) -> Result<(), LogError> {
    let temporary = path.with_extension("tmp");
    let mut file = vfs.open(&temporary, true).map_err(|error| io_error("creating", &temporary, error))?;
    let mut offset = 0;
    for part in parts {
        file.write_all_at(part, offset).map_err(|error| io_error("writing", &temporary, error))?;
        offset += part.len() as u64;
    }
    file.sync_data().map_err(|error| io_error("syncing", &temporary, error))?;
    vfs.rename(&temporary, path).map_err(|error| io_error("renaming", &temporary, error))?;
    vfs.sync_dir(dir).map_err(|error| io_error("syncing", dir, error))
}

fn cut<F: VfsFile>(file: &mut F, end: u64) -> io::Result<()> {
    file.set_len(end)?;
    file.sync_data()
}

fn remove<V: Vfs>(vfs: &V, path: &Path) -> Result<(), LogError> {
    vfs.remove(path).map_err(|error| io_error("removing", path, error))
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> LogError {
    let path = path.to_path_buf();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            LogError::DiskFull { doing, path, source }
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            LogError::Permission { doing, path, source }
        }
        _ => LogError::Io { doing, path, source },
    }
}

fn segment_name(sequence: u64) -> String {
    format!("{sequence:016x}.log")
}

fn segment_sequence(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".log")?, 16).ok()
}

fn snapshot_name(index: u64, term: u64) -> String {
    format!("{index:016x}-{term:016x}.snap")
}

fn snapshot_position(name: &str) -> Option<(u64, u64)> {
    let (index, term) = name.strip_suffix(".snap")?.split_once('-')?;
    Some((u64::from_str_radix(index, 16).ok()?, u64::from_str_radix(term, 16).ok()?))
}
