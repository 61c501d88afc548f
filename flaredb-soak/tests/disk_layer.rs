//! The disk layer against a small program that writes with and without syncs: what was synced survives a power cut in every case,
//! what was not is really lost in some, and failing, blocking, lying and full disks are what they say.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

use flaredb_soak::disk::{self, Layer, Syncs, Writes, takes_libraries};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// Reads one command a line; answers with "ok" or the error's number.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static int fds[10];
int main(void) {
    char line[9000], word[16], path[4000], other[4000];
    while (fgets(line, sizeof line, stdin)) {
        int n = 0, fill = 0; long at = 0, length = 0; int result = 0;
        static char data[1 << 20];
        if (sscanf(line, "open %d %3999s", &n, path) == 2) result = fds[n] = open(path, O_CREAT | O_RDWR, 0600);
        else if (sscanf(line, "folder %d %3999s", &n, path) == 2) result = fds[n] = open(path, O_RDONLY | O_DIRECTORY);
        else if (sscanf(line, "pwrite %d %ld %ld %d", &n, &at, &length, &fill) == 4) {
            memset(data, fill, length);
            result = pwrite(fds[n], data, length, at) == length ? 0 : -1;
        } else if (sscanf(line, "write %d %ld %d", &n, &length, &fill) == 3) {
            memset(data, fill, length);
            result = write(fds[n], data, length) == length ? 0 : -1;
        } else if (sscanf(line, "cut %d %ld", &n, &length) == 2) result = ftruncate(fds[n], length);
        else if (sscanf(line, "sync %d", &n) == 1) result = fdatasync(fds[n]);
        else if (sscanf(line, "dup %d %d", &n, &fill) == 2) result = fds[fill] = fcntl(fds[n], F_DUPFD_CLOEXEC, 0);
        else if (sscanf(line, "rename %3999s %3999s", path, other) == 2) result = rename(path, other);
        else if (sscanf(line, "unlink %3999s", path) == 1) result = unlink(path);
        else { strncpy(word, line, 15); word[15] = 0; printf("what? %s\n", word); fflush(stdout); continue; }
        if (result < 0) printf("%d\n", errno); else printf("ok\n");
        fflush(stdout);
    }
    return 0;
}
"#;

struct Bench {
    folder: tempfile::TempDir,
    program: PathBuf,
    layer: Layer,
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

/// Program and library, compiled once for each test's process.
fn tools() -> &'static (tempfile::TempDir, PathBuf, PathBuf) {
    static TOOLS: OnceLock<(tempfile::TempDir, PathBuf, PathBuf)> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("writer.c");
        fs::write(&source, PROGRAM).unwrap();
        let program = folder.path().join("writer");
        let compiled = Command::new("cc").arg("-o").arg(&program).arg(&source).status();
        assert!(compiled.expect("cc: a C compiler is needed (make prereqs)").success(), "cc");
        assert!(takes_libraries(&program));
        let library = disk::compile(folder.path()).expect("the layer compiles");
        (folder, program, library)
    })
}

impl Bench {
    fn new() -> Self {
        let (_, program, library) = tools();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let layer = Layer::new(library, &root, folder.path()).unwrap();
        let (child, answers) = Self::start(program, &layer);
        Self { folder, program: program.clone(), layer, child, answers }
    }

    fn start(program: &Path, layer: &Layer) -> (Child, BufReader<std::process::ChildStdout>) {
        let mut child = Command::new(program)
            .envs(layer.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        (child, answers)
    }

    fn send(&mut self, line: &str) {
        let line = line.replace("ROOT", &self.root().display().to_string());
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.answer()
    }

    fn ok(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.ask(line), "ok", "{line}");
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.kill();
        (self.child, self.answers) = Self::start(&self.program, &self.layer);
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.root().join(name)).ok()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn synced_bytes_survive_and_un_synced_ones_are_lost_torn_or_kept() {
    let mut endings = BTreeSet::new();
    for salt in 0..24 {
        let mut bench = Bench::new();
        bench.ok(&["folder 0 ROOT", "open 1 ROOT/f", "pwrite 1 0 16384 1", "sync 1", "sync 0"]);
        // Overwritten, appended and cut, through another descriptor too; then nothing is synced.
        bench.ok(&["pwrite 1 4096 8192 2", "dup 1 2", "pwrite 2 16384 4096 3", "write 1 100 4"]);
        bench.kill();
        let lost = bench.layer.cut_power(salt).unwrap();
        assert_eq!(lost.writes, 3, "the layer saw every write");
        let bytes = bench.read("f").expect("the file's folder was synced");
        assert!(bytes.len() >= 16_384, "salt {salt}: synced bytes are gone");
        for (at, byte) in bytes.iter().enumerate() {
            let allowed: &[u8] = match at {
                0..100 => &[1, 4],
                4096..12_288 => &[1, 2],
                16_384.. => &[0, 3],
                _ => &[1],
            };
            assert!(allowed.contains(byte), "salt {salt}: byte {at} is {byte}");
        }
        let new = bytes[4096..12_288].iter().filter(|byte| **byte == 2).count();
        endings.insert(match new {
            0 => "lost",
            8192 => "kept",
            _ => "torn",
        });
    }
    assert_eq!(endings, BTreeSet::from(["lost", "kept", "torn"]), "every ending was met");
}

#[test]
fn names_that_no_folder_sync_covers_are_lost() {
    let (mut lost, mut back, mut undone) = (0, 0, 0);
    for salt in 0..24 {
        let mut bench = Bench::new();
        bench.ok(&["folder 0 ROOT", "open 1 ROOT/old", "pwrite 1 0 10 1", "sync 1", "open 2 ROOT/gone", "sync 0"]);
        bench.ok(&["open 3 ROOT/new", "pwrite 3 0 10 3", "sync 3", "rename ROOT/new ROOT/old", "unlink ROOT/gone"]);
        bench.kill();
        bench.layer.cut_power(salt).unwrap();
        let old = bench.read("old").expect("it was synced with its folder");
        assert!(old == [1; 10] || old == [3; 10], "salt {salt}: {old:?}");
        undone += u32::from(old == [1; 10]);
        lost += u32::from(old == [1; 10] && bench.read("new").is_none());
        back += u32::from(bench.read("gone").is_some());
    }
    assert!(lost > 0 && back > 0 && undone < 24, "lost {lost}, back {back}, undone {undone}");
}

#[test]
fn a_folder_sync_keeps_names() {
    for salt in 0..8 {
        let mut bench = Bench::new();
        bench.ok(&["folder 0 ROOT", "open 1 ROOT/a", "pwrite 1 0 10 1", "sync 1", "rename ROOT/a ROOT/b", "sync 0"]);
        bench.kill();
        let lost = bench.layer.cut_power(salt).unwrap();
        assert_eq!((lost.names, bench.read("a"), bench.read("b")), (0, None, Some(vec![1; 10])));
    }
}

#[test]
fn what_a_killed_process_had_not_synced_is_not_durable_in_the_next_one() {
    let mut losses = 0;
    for salt in 0..12 {
        let mut bench = Bench::new();
        bench.ok(&["folder 0 ROOT", "open 1 ROOT/f", "sync 0", "pwrite 1 0 10 1"]);
        bench.restart();
        assert_eq!(bench.read("f"), Some(vec![1; 10]), "kill -9 alone loses nothing");
        bench.ok(&["open 1 ROOT/f", "pwrite 1 10 10 2"]);
        bench.kill();
        bench.layer.cut_power(salt).unwrap();
        losses += u32::from(bench.read("f").unwrap().is_empty());
    }
    assert!(losses > 0, "the first process's bytes are lost with the second's");
}

#[test]
fn syncs_fail_block_and_lie_and_a_full_disk_refuses_only_growth() {
    let mut bench = Bench::new();
    bench.ok(&["folder 0 ROOT", "open 1 ROOT/f", "pwrite 1 0 4096 1", "sync 1", "sync 0"]);

    bench.layer.syncs(Syncs::Fail).unwrap();
    assert_eq!(bench.ask("sync 1"), "5", "EIO");

    bench.layer.syncs(Syncs::Block).unwrap();
    bench.send("sync 1");
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(200));
    bench.layer.syncs(Syncs::Good).unwrap();
    assert_eq!(bench.answer(), "ok");
    assert!(start.elapsed() >= Duration::from_millis(200));

    bench.layer.writes(Writes::Full).unwrap();
    assert_eq!(bench.ask("pwrite 1 0 100 2"), "ok", "overwriting needs no space");
    assert_eq!(bench.ask("pwrite 1 4090 100 2"), "28", "ENOSPC");
    assert_eq!(bench.ask("open 2 ROOT/another"), "28", "ENOSPC");
    bench.layer.writes(Writes::Good).unwrap();
    bench.ok(&["pwrite 1 4096 100 2", "sync 1"]);

    bench.layer.syncs(Syncs::Lie).unwrap();
    bench.ok(&["pwrite 1 0 4096 9", "sync 1"]);
    bench.kill();
    // This salt loses everything.
    let lost = bench.layer.cut_power(0).unwrap();
    assert_eq!(lost.writes, 1, "the sync that lied kept nothing");
}
