//! `flaredb dev` as a developer uses it: the real binary, two terminals, a crash, a stop and a second run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod support;

use flaredb_proto::etcdserverpb::{PutRequest, RangeRequest, kv_client::KvClient};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};
use support::free_port;

/// For anything this machine may take long for; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Dev {
    child: Child,
    lines: Receiver<String>,
    folder: PathBuf,
}

impl Dev {
    fn start(folder: &Path, ports: Option<[u16; 6]>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flaredb"));
        command.arg("dev").arg("--data-dir").arg(folder);
        if let Some([a, b, c, d, e, f]) = ports {
            command.args(["--client-ports", &format!("{a},{b},{c}"), "--peer-ports", &format!("{d},{e},{f}")]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("flaredb starts");
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, folder: folder.to_owned() }
    }

    /// The next line on its terminal that contains `words`.
    fn line(&self, words: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => seen.push(line),
                Err(error) => {
                    let log = fs::read_to_string(self.folder.join("dev.log")).unwrap_or_default();
                    panic!("no line with {words:?} ({error}); lines: {seen:#?}; dev.log:\n{log}");
                }
            }
        }
    }

    /// The same folder, from another terminal.
    fn other_terminal(&self, words: &[&str]) -> Output {
        other_terminal(&self.folder, words)
    }

    /// The row of each node in `flaredb dev status`, as words.
    fn status(&self) -> Vec<Vec<String>> {
        let output = self.other_terminal(&["status"]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let rows: Vec<Vec<String>> = text
            .lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<String>>())
            .filter(|words| words.first().is_some_and(|word| ["n1", "n2", "n3"].contains(&word.as_str())))
            .collect();
        assert_eq!(rows.len(), 3, "{text}");
        rows
    }

    fn peak_memory_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }

    fn terminate(&self) {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "the process does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn other_terminal(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flaredb"));
    command.arg("dev").args(words).arg("--data-dir").arg(folder).stdin(Stdio::null()).output().expect("flaredb runs")
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap().trim().to_owned()
}

fn ports() -> [u16; 6] {
    std::array::from_fn(|_| free_port())
}

/// One put or get, at one node; tried again while the cluster has no leader.
fn put_or_get(port: u16, value: Option<&str>) -> Vec<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let end = Instant::now() + PATIENCE;
        loop {
            let tried = async {
                let mut kv = KvClient::connect(format!("http://127.0.0.1:{port}"))
                    .await
                    .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
                if let Some(value) = value {
                    let put = PutRequest { key: "hello".into(), value: value.to_owned().into(), ..Default::default() };
                    kv.put(put).await?;
                    return Ok(Vec::new());
                }
                let range = RangeRequest { key: "hello".into(), ..Default::default() };
                let kvs = kv.range(range).await?.into_inner().kvs;
                Ok::<_, tonic::Status>(kvs.into_iter().map(|kv| kv.value.to_vec()).collect())
            };
            match tried.await {
                Ok(values) => return values,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

#[test]
fn a_day_with_a_dev_cluster() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("dev");
    let ports = ports();
    let mut dev = Dev::start(&folder, Some(ports));

    // Ready means that every node serves.
    let ready = dev.line("ready in ");
    let said: Vec<&str> = ready.split_whitespace().collect();
    assert_eq!(
        (said[0], said[1], said[3], said[4], said[6], said[8]),
        ("ready", "in", "s", "leader", "(term", "data"),
        "{ready}"
    );
    let first_leader = said[5].to_owned();
    assert!(dev.line("try:").contains("put hello world      (etcdctl works too; Ctrl-C stops, data is kept)"));
    let rows = dev.status();
    assert!(rows.iter().all(|row| row[1] == "up"), "{rows:?}");
    let leaders: Vec<&String> = rows.iter().filter(|row| row[2] == "leader").map(|row| &row[0]).collect();
    assert_eq!(leaders, [&first_leader]);
    for (row, port) in rows.iter().zip(ports) {
        assert_eq!(row[7], format!("http://127.0.0.1:{port}"));
    }
    put_or_get(ports[0], Some("world"));
    let mib = dev.peak_memory_mib();
    assert!(mib < 150, "three nodes take {mib} MiB");

    // A second one on the same folder is told who has it.
    let second = other_terminal(&folder, &[]);
    assert_eq!(second.status.code(), Some(1));
    let expected = format!("a dev cluster runs on {} already (process {})", folder.display(), dev.child.id());
    assert!(words(&second.stderr).contains(&expected), "{}", words(&second.stderr));

    // The leader crashes; the others elect, and the data is there.
    let kill = dev.other_terminal(&["kill", "leader"]);
    assert_eq!(words(&kill.stdout), format!("{first_leader} killed (it was the leader)"), "{kill:?}");
    let new_leader = dev.line("leader n");
    assert!(!new_leader.contains(&first_leader), "{new_leader}");
    let rows = dev.status();
    let killed = rows.iter().position(|row| row[0] == first_leader).unwrap();
    assert_eq!(rows[killed][1..4], ["down", "-", "-"]);
    assert_eq!(rows.iter().filter(|row| row[1] == "up").count(), 2, "{new_leader}");
    assert_eq!(put_or_get(ports[(killed + 1) % 3], None), [b"world"]);
    put_or_get(ports[(killed + 1) % 3], Some("again"));

    // Orders that make no sense change nothing.
    for (order, answer) in [
        (
            ["kill", &first_leader],
            format!("{first_leader} is down already; start it with `flaredb dev start {first_leader}`"),
        ),
        (["kill", "n9"], "no node is called \"n9\"; there are n1, n2, n3".to_owned()),
        (["start", &rows[(killed + 1) % 3][0]], format!("{} is up already", rows[(killed + 1) % 3][0])),
    ] {
        let output = dev.other_terminal(&order);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(words(&output.stderr), format!("flaredb: {answer}"));
    }

    // It comes back on its own data and catches up: a linearizable read there shows the write it missed.
    let start = dev.other_terminal(&["start", &first_leader]);
    assert_eq!(words(&start.stdout), format!("{first_leader} started"), "{start:?}");
    assert_eq!(put_or_get(ports[killed], None), [b"again"]);
    assert!(dev.status().iter().all(|row| row[1] == "up"));

    // SIGTERM stops cleanly and the folder is free.
    dev.terminate();
    assert_eq!(dev.exit_code(), Some(0));
    dev.line("stopped; data is kept in");
    let gone = dev.other_terminal(&["status"]);
    assert!(words(&gone.stderr).starts_with("flaredb: no dev cluster is running on "), "{gone:?}");

    // The second run knows its ports and its data; another terminal can stop it.
    let mut dev = Dev::start(&folder, None);
    dev.line("ready in ");
    assert_eq!(put_or_get(ports[1], None), [b"again"]);
    let stop = dev.other_terminal(&["stop"]);
    assert_eq!(words(&stop.stdout), format!("stopped; data is kept in {}", folder.display()), "{stop:?}");
    assert_eq!(dev.exit_code(), Some(0));
}

#[test]
fn killing_the_process_loses_nothing_and_leaves_nothing_in_the_way() {
    let temp = tempfile::tempdir().unwrap();
    let ports = ports();
    let mut dev = Dev::start(temp.path(), Some(ports));
    dev.line("ready in ");
    put_or_get(ports[2], Some("survives"));
    dev.child.kill().unwrap();
    dev.child.wait().unwrap();
    assert!(temp.path().join("control.sock").exists(), "a killed process cannot clean up");
    let output = other_terminal(temp.path(), &["status"]);
    assert!(words(&output.stderr).starts_with("flaredb: no dev cluster is running on "), "{output:?}");
    let dev = Dev::start(temp.path(), None);
    dev.line("ready in ");
    assert_eq!(put_or_get(ports[0], None), [b"survives"]);
}

#[test]
fn a_taken_port_is_named_before_anything_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let mut ports = ports();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    ports[1] = taken.local_addr().unwrap().port();
    let mut dev = Dev::start(temp.path(), Some(ports));
    assert_eq!(dev.exit_code(), Some(1));
    assert!(!temp.path().join("n1").exists());
}
