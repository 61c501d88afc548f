//! The data folder: who may open it, what is refused, and by which words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod common;

use common::{child, child_path, identity, open};
use flaredb_storage::{DataDir, Identity, OpenError};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use tempfile::tempdir;

#[test]
fn a_new_folder_is_made_private_and_opens_again() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a/b");
    for _ in 0..2 {
        let opened = DataDir::open(&path, &identity()).unwrap();
        assert_eq!(opened.identity(), &identity());
    }
    let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    for folder in ["", "member", "member/raft", "member/data"] {
        assert_eq!(mode(folder), 0o700, "{folder:?}");
    }
    for file in ["LOCK", "FORMAT", "identity"] {
        assert_eq!(mode(&format!("member/{file}")), 0o600, "{file}");
    }
    assert_eq!(fs::read_to_string(path.join("member/FORMAT")).unwrap(), "flaredb-data 1\n");
    let mut names: Vec<_> = fs::read_dir(path.join("member"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["FORMAT", "LOCK", "data", "identity", "raft"]);
}

#[test]
fn rights_of_others_are_taken_away() {
    let dir = tempdir().unwrap();
    drop(DataDir::open(dir.path(), &identity()).unwrap());
    let member = dir.path().join("member");
    fs::set_permissions(&member, fs::Permissions::from_mode(0o755)).unwrap();
    drop(DataDir::open(dir.path(), &identity()).unwrap());
    assert_eq!(fs::metadata(&member).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_lock_is_held_until_the_last_handle_is_gone() {
    let dir = tempdir().unwrap();
    let opened = DataDir::open(dir.path(), &identity()).unwrap();
    assert!(matches!(DataDir::open(dir.path(), &identity()), Err(OpenError::Locked { .. })));
    let (reader, writer) = flaredb_storage::RaftLog::open(&opened, &common::options()).unwrap();
    drop(opened);
    drop(writer);
    assert!(matches!(DataDir::open(dir.path(), &identity()), Err(OpenError::Locked { .. })), "the reader still reads");
    drop(reader);
    DataDir::open(dir.path(), &identity()).unwrap();
}

#[test]
fn holder_child() {
    let Some(path) = child_path() else { return };
    let _log = open(&path).unwrap();
    println!("\nholding");
    // Until the parent closes its end.
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_second_process_is_refused_until_the_first_is_gone() {
    let dir = tempdir().unwrap();
    let mut holder = child("holder_child", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "holding"));
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn another_cluster_member_or_region_is_refused_with_both_ids() {
    let dir = tempdir().unwrap();
    drop(DataDir::open(dir.path(), &identity()).unwrap());
    for (other, what, found, expected) in [
        (Identity { cluster_id: 0xbad, ..identity() }, "cluster", "00000000000000c1", "0000000000000bad"),
        (Identity { member_id: 3, ..identity() }, "member", "0000000000000002", "0000000000000003"),
        (Identity { region_id: 7, ..identity() }, "region", "0000000000000001", "0000000000000007"),
    ] {
        let error = DataDir::open(dir.path(), &other).unwrap_err();
        assert!(matches!(error, OpenError::Identity { .. }), "{error}");
        for part in [what, found, expected, "--data-dir"] {
            assert!(error.to_string().contains(part), "{part} in {error}");
        }
    }
    // The name is for people: a renamed member keeps its folder.
    DataDir::open(dir.path(), &Identity { name: "new\nname".into(), ..identity() }).unwrap();
}

#[test]
fn an_edited_or_missing_identity_is_refused() {
    let dir = tempdir().unwrap();
    drop(DataDir::open(dir.path(), &identity()).unwrap());
    let path = dir.path().join("member/identity");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("member: 0000000000000002", "member: 0000000000000003")).unwrap();
    let error = DataDir::open(dir.path(), &Identity { member_id: 3, ..identity() }).unwrap_err();
    assert!(error.to_string().contains("does not match its checksum"), "{error}");
    fs::remove_file(&path).unwrap();
    let error = DataDir::open(dir.path(), &identity()).unwrap_err();
    assert!(error.to_string().contains("identity file is missing"), "{error}");
}

#[test]
fn etcds_folder_is_refused_untouched() {
    for name in ["wal", "snap"] {
        let dir = tempdir().unwrap();
        fs::create_dir_all(dir.path().join("member").join(name)).unwrap();
        let error = DataDir::open(dir.path(), &identity()).unwrap_err();
        assert!(matches!(error, OpenError::EtcdFolder { .. }), "{error}");
        assert!(error.to_string().contains("etcd's own data folder"), "{error}");
        assert_eq!(fs::read_dir(dir.path().join("member")).unwrap().count(), 1, "nothing was added");
    }
}

#[test]
fn another_format_is_refused() {
    let dir = tempdir().unwrap();
    drop(DataDir::open(dir.path(), &identity()).unwrap());
    let format = dir.path().join("member/FORMAT");
    fs::write(&format, "flaredb-data 2\n").unwrap();
    let error = DataDir::open(dir.path(), &identity()).unwrap_err();
    assert!(error.to_string().contains("\"flaredb-data 2\", this program reads \"flaredb-data 1\""), "{error}");
    // Databases of an unknown maker are not adopted.
    fs::remove_file(&format).unwrap();
    assert!(matches!(DataDir::open(dir.path(), &identity()), Err(OpenError::Format { .. })));
}

#[test]
fn a_folder_half_made_is_made_again() {
    let dir = tempdir().unwrap();
    let member = dir.path().join("member");
    fs::create_dir_all(&member).unwrap();
    fs::write(member.join("LOCK"), "").unwrap();
    fs::write(member.join("identity"), "half a fi").unwrap();
    fs::write(member.join("FORMAT.new"), "flare").unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn a_file_in_the_way_is_named() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    let error = DataDir::open(&path, &identity()).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: not a folder", path.display()));
}

#[test]
fn no_permission_child() {
    let Some(path) = child_path() else { return };
    let error = DataDir::open(&path.join("data"), &identity()).unwrap_err();
    println!("\n{error}");
}

#[test]
fn missing_permission_is_named() {
    let dir = tempdir().unwrap();
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let said = said_by_nobody("no_permission_child", dir.path(), &locked);
    assert!(said.contains(&format!("{}: permission denied", locked.join("data").display())), "{said}");
}

#[test]
fn unsynced_parent_child() {
    let Some(path) = child_path() else { return };
    for _ in 0..2 {
        println!("\n{}", DataDir::open(&path, &identity()).map_or_else(|error| error.to_string(), |_| "opened".into()));
    }
}

/// A folder whose own name was never made durable is no data folder, also not at the second start.
#[test]
fn a_folder_counts_only_once_its_parents_are_synced() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("write-only");
    fs::create_dir(&path).unwrap();
    // Names can be made in it, but it cannot be opened to be synced.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o300)).unwrap();
    if fs::read_dir(&path).is_ok() {
        std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).unwrap();
    }
    let said = said_by_nobody("unsynced_parent_child", dir.path(), &path);
    assert!(!said.contains("opened"), "{said}");
    assert_eq!(said.matches(": permission denied").count(), 2, "{said}");
}

/// What a child prints that is nobody, because root may read everything.
fn said_by_nobody(test: &str, dir: &std::path::Path, path: &std::path::Path) -> String {
    let mut child = child(test, path);
    if fs::read_dir(path).is_ok() {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        let program = dir.join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let arguments: Vec<_> = child.get_args().map(ToOwned::to_owned).collect();
        child = std::process::Command::new(program);
        child.args(arguments).env("FLAREDB_TEST_CHILD", path).current_dir("/").uid(65_534).gid(65_534);
    }
    String::from_utf8_lossy(&child.output().unwrap().stdout).into_owned()
}
