//! A member on a real directory: what it acknowledged survives restarts, torn tails and full disks.

#![allow(clippy::unwrap_used)] // a test's helpers, like a test, fail by a panic

#[path = "support/member.rs"]
mod member;

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quantumnet_consensus::log::vfs::{StdVfs, Vfs, VfsFile};
use quantumnet_controller::{
    metrics::Metrics,
    replica::{self, Options, ProposeError, Replica, StartError},
    store::{Class, Refusal, ResumeToken, Txn},
};
use quantumnet_model::{Uuid, intent::Project};

fn options(dir: &Path) -> Options {
    Options {
        data_dir: dir.to_owned(),
        member: 1,
        peers: None,
        history_transactions_max: 100,
        snapshot_after_bytes: 16 << 10,
        lower: Arc::new(|_| Ok(())),
        observers: Vec::new(),
        metrics: Arc::new(Metrics::default()),
    }
}

async fn stopped(replica: &Replica) {
    replica.stop();
    let mut status = replica.status_changes();
    let ended = status.wait_for(|status| status.stopped.is_some());
    tokio::time::timeout(DEADLINE, ended).await.expect("the member stops").unwrap();
}

fn project(name: String) -> impl FnOnce(&mut Txn<'_>) -> Result<Uuid, Refusal> + Send + 'static {
    move |txn| {
        let uuid = Uuid::new_v4();
        txn.insert(uuid, Project { name: name.as_str().into(), ..Project::default() })?;
        Ok(uuid)
    }
}

fn has(replica: &Replica, name: &str) -> bool {
    replica.state().find::<Project>(&[("name", name.into())]).is_some()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if let Err(error) = fs::copy(entry.path(), target) {
            // Compacted away meanwhile, as on any disk at the moment of a crash.
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_and_writes_survive_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let replica = replica::start(options(dir.path())).unwrap();
    member::ready(&replica).await;
    assert!(has(&replica, "default") && has(&replica, "system"));
    let token = ResumeToken::of(&replica.state()).unwrap();
    // Enough for several snapshots and compactions.
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..500 {
        let replica = replica.clone();
        tasks.spawn(async move { replica.propose("test", project(format!("p{n}"))).await.unwrap().revision });
    }
    let mut revisions = tasks.join_all().await;
    revisions.sort_unstable();
    let first = token.revision + 1;
    assert_eq!(revisions, (first..first + 500).collect::<Vec<_>>(), "each its own revision, none twice");
    assert!(replica.consensus().batches < 450, "requests that queue up share a sync");
    stopped(&replica).await;

    let replica = member::open(|| options(dir.path())).await;
    let again = ResumeToken::of(&replica.state()).unwrap();
    assert_eq!((again.cluster_id, again.history_id), (token.cluster_id, token.history_id));
    assert_eq!(again.revision, token.revision + 500);
    assert!((0..500).all(|n| has(&replica, &format!("p{n}"))));
    assert!(replica.state().check());
    stopped(&replica).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_moment_keeps_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let replica = replica::start(options(dir.path())).unwrap();
    member::ready(&replica).await;
    let mut acknowledged = 0;
    for round in 0..6 {
        for _ in 0..40 {
            replica.propose("test", project(format!("p{acknowledged}"))).await.unwrap();
            acknowledged += 1;
        }
        // More is on its way while the disk is looked at.
        let busy = replica.clone();
        let background = tokio::spawn(async move {
            for n in 0..50 {
                busy.propose("test", project(format!("b{round}-{n}"))).await.unwrap();
            }
        });
        let image = tempfile::tempdir().unwrap();
        copy(dir.path(), image.path());
        background.await.unwrap();
        let survivor = member::open(|| options(image.path())).await;
        assert!((0..acknowledged).all(|n| has(&survivor, &format!("p{n}"))), "round {round}");
        assert!(survivor.state().check());
        stopped(&survivor).await;
    }
    stopped(&replica).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_empty_changes_make_no_revision() {
    let dir = tempfile::tempdir().unwrap();
    let replica = replica::start(options(dir.path())).unwrap();
    member::ready(&replica).await;
    let before = replica.state().revision();
    let refused = |txn: &mut Txn<'_>| -> Result<(), Refusal> {
        txn.insert(Uuid::new_v4(), Project { name: "trace".into(), ..Project::default() })?;
        Err(Refusal::service(Class::FailedPrecondition, "TEST", "no"))
    };
    let error = replica.propose("test", refused).await.unwrap_err();
    assert!(matches!(error, ProposeError::Refused(refusal) if refusal.reason() == "TEST"));
    let twin = replica.propose("test", project("default".into())).await.unwrap_err();
    assert!(matches!(twin, ProposeError::Refused(Refusal::DuplicateIndex { .. })), "{twin}");
    let panicked = |_: &mut Txn<'_>| -> Result<(), Refusal> { panic!("on purpose: the member must live on") };
    assert_eq!(replica.propose("test", panicked).await.unwrap_err(), ProposeError::Dropped);
    let nothing = replica.propose("test", |txn| Ok(txn.iter::<Project>().count())).await.unwrap();
    assert_eq!((nothing.revision, nothing.result), (before, 2));
    assert_eq!(replica.linearizable().await.unwrap().revision(), before);
    assert!(!has(&replica, "trace"));
    stopped(&replica).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_resume_from_tokens_that_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let replica = replica::start(options(dir.path())).unwrap();
    member::ready(&replica).await;
    let start = ResumeToken::of(&replica.state()).unwrap();
    for n in 0..150 {
        replica.propose("test", project(format!("p{n}"))).await.unwrap();
    }
    let now = ResumeToken::of(&replica.state()).unwrap();
    let revisions = |token: ResumeToken| {
        let (state, came) = replica.since(&token);
        assert_eq!(state.revision(), now.revision);
        came.map(|came| came.iter().map(|transaction| transaction.revision).collect::<Vec<_>>())
    };
    assert_eq!(revisions(now), Some(Vec::new()));
    let recent = ResumeToken { revision: now.revision - 100, ..now };
    assert_eq!(revisions(recent), Some((recent.revision + 1..=now.revision).collect()));
    assert_eq!(revisions(ResumeToken { revision: now.revision - 101, ..now }), None, "too old");
    assert_eq!(revisions(start), None, "too old");
    assert_eq!(revisions(ResumeToken { revision: now.revision + 1, ..now }), None, "of the future");
    assert_eq!(revisions(ResumeToken { history_id: Uuid::nil(), ..now }), None, "of another history");
    stopped(&replica).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let Err(error) = replica::start(options(&file.join("data"))) else { panic!("a file holds no directory") };
    let text = error.to_string();
    assert!(text.contains(&*file.to_string_lossy()) && text.contains("--data-dir"), "{text}");

    let data = dir.path().join("data");
    let replica = replica::start(options(&data)).unwrap();
    member::ready(&replica).await;
    let Err(error) = replica::start(options(&data)) else { panic!("two members share a directory") };
    let text = error.to_string();
    assert!(text.contains(&*data.to_string_lossy()) && text.contains("another controller"), "{text}");
    stopped(&replica).await;

    fs::write(data.join("cluster"), "no uuid").unwrap();
    let Err(error) = replica::start(options(&data)) else { panic!("the identity is damaged") };
    assert!(matches!(error, StartError::Identity { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let replica = replica::start_on(FullVfs { full: full.clone() }, options(dir.path())).unwrap();
    member::ready(&replica).await;
    replica.propose("test", project("before".into())).await.unwrap();
    full.store(true, Ordering::SeqCst);
    let error = replica.propose("test", project("during".into())).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unknown { .. }), "{error}");
    let error = replica.propose("test", project("refused".into())).await.unwrap_err();
    assert!(
        matches!(&error, ProposeError::DiskFull { .. }) && error.to_string().contains("disk is full"),
        "{error}"
    );
    assert!(replica.status().stalled.is_some());
    assert!(has(&replica, "before") && !has(&replica, "during"), "reads go on, of what is applied");
    full.store(false, Ordering::SeqCst);
    let mut status = replica.status_changes();
    let again = status.wait_for(|status| status.stalled.is_none());
    tokio::time::timeout(DEADLINE, again).await.expect("writes go on once there is space").unwrap();
    replica.propose("test", project("after".into())).await.unwrap();
    stopped(&replica).await;
    let replica = member::open(|| options(dir.path())).await;
    assert!(["before", "during", "after"].iter().all(|name| has(&replica, name)));
    assert!(!has(&replica, "refused"));
    stopped(&replica).await;
}

/// The machine's files, until the disk is full.
#[derive(Clone)]
struct FullVfs {
    full: Arc<AtomicBool>,
}

struct FullFile {
    full: Arc<AtomicBool>,
    file: <StdVfs as Vfs>::File,
}

fn room(full: &AtomicBool) -> io::Result<()> {
    if full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

impl VfsFile for FullFile {
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        room(&self.full)?;
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        room(&self.full)?;
        self.file.set_len(length)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl Vfs for FullVfs {
    type File = FullFile;
    type Lock = <StdVfs as Vfs>::Lock;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        StdVfs.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        StdVfs.list(dir)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        StdVfs.read(path)
    }

    fn open(&self, path: &Path, truncate: bool) -> io::Result<FullFile> {
        Ok(FullFile { full: self.full.clone(), file: StdVfs.open(path, truncate)? })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        StdVfs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        StdVfs.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        StdVfs.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Self::Lock> {
        StdVfs.lock(path)
    }
}

const DEADLINE: Duration = Duration::from_secs(60);
