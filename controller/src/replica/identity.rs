//! The file that says which cluster and which members a data directory was made for.
//!
//! ```text
//! 7c0f2a6e-2f0d-5a35-9f0e-0d6a3c2b1e10
//! members 1 2 3
//! ```
//! Written once, at the first start. A directory without the second line is that of a cluster of one.
//!
//! # Invariants
//! - Members that were given the same list choose the same identity without asking each other, and keep it when
//!   addresses change later. A member of another list is refused by the others before it is heard.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::Path,
};

use quantumnet_model::Uuid;

use crate::replica::StartError;

/// The identity of the directory's log. `peers` are all members with their addresses, or nobody but `member`.
pub(super) fn identity(
    data_dir: &Path,
    member: u64,
    peers: Option<&BTreeMap<u64, SocketAddr>>,
) -> Result<Uuid, StartError> {
    let path = data_dir.join(FILE);
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Directory { doing, path, source }
    };
    let named = peers.map_or_else(|| vec![member], |peers| peers.keys().copied().collect());
    fs::create_dir_all(data_dir).map_err(failed("create", data_dir))?;
    match fs::read(&path) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let wrong = || StartError::Identity { path: path.clone(), got: text.chars().take(64).collect() };
            let mut lines = text.lines();
            let id = lines.next().unwrap_or_default().trim().parse().map_err(|_| wrong())?;
            let made = match lines.next() {
                Some(line) => members(line).ok_or_else(wrong)?,
                None => vec![member],
            };
            if made == named { Ok(id) } else { Err(StartError::Voters { path, made, named }) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = peers.map_or_else(Uuid::new_v4, agreed);
            let unfinished = data_dir.join("cluster.tmp");
            let mut file = fs::File::create(&unfinished).map_err(failed("create", &unfinished))?;
            let members: String = named.iter().map(|member| format!(" {member}")).collect();
            let written = writeln!(file, "{id}\nmembers{members}").and_then(|()| file.sync_all());
            written.map_err(failed("write", &unfinished))?;
            fs::rename(&unfinished, &path).map_err(failed("write", &path))?;
            let synced = fs::File::open(data_dir).and_then(|dir| dir.sync_all());
            synced.map_err(failed("write", data_dir))?;
            Ok(id)
        }
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// What everybody with this list chooses.
fn agreed(peers: &BTreeMap<u64, SocketAddr>) -> Uuid {
    let list: String = peers.iter().map(|(member, address)| format!("{member}={address}\n")).collect();
    Uuid::new_v5(&NAMESPACE, list.as_bytes())
}

fn members(line: &str) -> Option<Vec<u64>> {
    line.strip_prefix("members ")?.split_whitespace().map(|member| member.parse().ok()).collect()
}

const FILE: &str = "cluster";
const NAMESPACE: Uuid = uuid::uuid!("a0c8d4e2-51f4-4b0c-8a55-6f6d1f0f4f0b");

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(list: &[(u64, &str)]) -> BTreeMap<u64, SocketAddr> {
        list.iter().map(|(member, address)| (*member, address.parse().unwrap())).collect()
    }

    #[test]
    fn members_agree_on_an_identity_and_keep_it() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let three = peers(&[(1, "10.0.0.1:9643"), (2, "10.0.0.2:9643"), (3, "10.0.0.3:9643")]);
        let first = identity(dirs[0].path(), 1, Some(&three)).unwrap();
        assert_eq!(identity(dirs[1].path(), 2, Some(&three)).unwrap(), first);
        let moved = peers(&[(1, "10.0.0.9:9643"), (2, "10.0.0.2:9643"), (3, "10.0.0.3:9643")]);
        assert_eq!(identity(dirs[0].path(), 1, Some(&moved)).unwrap(), first, "it is on disk");
        assert_ne!(agreed(&moved), first, "another list is another cluster");
    }

    #[test]
    fn a_directory_made_for_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let three = peers(&[(1, "10.0.0.1:1"), (2, "10.0.0.2:1"), (3, "10.0.0.3:1")]);
        identity(dir.path(), 1, Some(&three)).unwrap();
        for named in [None, Some(peers(&[(1, "10.0.0.1:1"), (4, "10.0.0.4:1"), (5, "10.0.0.5:1")]))] {
            let error = identity(dir.path(), 1, named.as_ref()).unwrap_err();
            assert!(matches!(&error, StartError::Voters { made, .. } if made == &[1, 2, 3]), "{error}");
            assert!(error.to_string().contains("made for the members 1,2,3"), "{error}");
        }
        // A directory of a time when clusters had one member.
        fs::write(dir.path().join(FILE), format!("{}\n", Uuid::new_v4())).unwrap();
        assert!(identity(dir.path(), 1, None).is_ok());
        assert!(matches!(identity(dir.path(), 1, Some(&three)), Err(StartError::Voters { .. })));
        for bad in ["", "no uuid", "a0c8d4e2-51f4-4b0c-8a55-6f6d1f0f4f0b\nmembers x"] {
            fs::write(dir.path().join(FILE), bad).unwrap();
            assert!(matches!(identity(dir.path(), 1, None), Err(StartError::Identity { .. })), "{bad:?}");
        }
    }
}
