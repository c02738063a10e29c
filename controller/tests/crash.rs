//! What a crash or a wrong owner leaves behind, as the program meets it.

#![allow(clippy::unwrap_used)] // a test's helpers, like a test, fail by a panic

#[path = "support/member.rs"]
mod member;

use std::{fs, os::unix::process::CommandExt, path::Path, process::Command, sync::Arc, time::Duration};

use quantumnet_controller::{
    metrics::Metrics,
    replica::{Options, Replica},
};
use quantumnet_model::{Uuid, intent::Project};

const DEADLINE: Duration = Duration::from_secs(60);

fn options(dir: &Path) -> Options {
    Options {
        data_dir: dir.to_owned(),
        member: 1,
        peers: None,
        history_transactions_max: 100,
        snapshot_after_bytes: 64 << 20,
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

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, target) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The log's files by length.
fn lengths(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.path(), file.metadata().unwrap().len())).collect()
}

/// Between the acknowledgement of one write and that of the next the file grows: a cut anywhere behind what it was at
/// the acknowledgement is what a crash can leave, and loses nothing that was acknowledged by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_cut_anywhere_keeps_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let replica = member::open(|| options(dir.path())).await;
    let log = dir.path().join("log");
    let mut marks = Vec::new();
    for number in 0..24 {
        let make = move |txn: &mut quantumnet_controller::store::Txn<'_>| {
            let row = Project {
                name: format!("p{number}").into(),
                description: "x".repeat(number * 37).into(),
                ..Project::default()
            };
            txn.insert(Uuid::new_v4(), row)
        };
        replica.propose("test", make).await.unwrap();
        marks.push(lengths(&log));
    }
    stopped(&replica).await;
    let end = lengths(&log);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for acknowledged in (0..marks.len()).step_by(2) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let image = tempfile::tempdir().unwrap();
        copy(dir.path(), image.path());
        for (path, length) in &end {
            let then = marks[acknowledged].iter().find(|(known, _)| known == path);
            let Some((_, then)) = then.filter(|(_, then)| then < length) else { continue };
            let keep = then + (seed >> 16) % (length - then + 1);
            let target = image.path().join("log").join(path.file_name().unwrap());
            fs::OpenOptions::new().write(true).open(target).unwrap().set_len(keep).unwrap();
        }
        let survivor = member::open(|| options(image.path())).await;
        let state = survivor.state();
        for number in 0..=acknowledged {
            let name = format!("p{number}");
            let found = state.find::<Project>(&[("name", name.as_str().into())]);
            assert!(found.is_some(), "{name} of {acknowledged} acknowledged is lost");
        }
        assert!(state.check());
        stopped(&survivor).await;
    }
}

#[test]
fn a_directory_of_somebody_else_is_named_with_the_remedy() {
    if !nix::unistd::getuid().is_root() {
        eprintln!("not root: cannot run the controller as another user");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let program = dir.path().join("quantumnet-controller");
    fs::copy(env!("CARGO_BIN_EXE_quantumnet-controller"), &program).unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new(&program)
        .args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains(&*data.to_string_lossy()) && text.contains("--data-dir"), "{text}");
    assert!(text.contains("Permission denied") && text.contains("may read and write"), "{text}");
}
