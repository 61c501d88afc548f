//! Three servers of one system as processes on loopback, started with the same flags, on fresh folders. Ends only what it
//! started; should this program die, the kernel ends them.

use flaredb_load::{LoadError, Method, Result, ask, call};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long servers may take to serve.
const PATIENCE: Duration = Duration::from_secs(60);

/// A system that is measured.
#[derive(Clone, Debug)]
pub(crate) struct System {
    /// FlareDB or etcd.
    pub(crate) name: &'static str,
    pub(crate) binary: PathBuf,
    /// What it says of itself.
    pub(crate) version: String,
    /// Flags beside those that both get.
    pub(crate) flags: &'static [&'static str],
}

impl System {
    pub(crate) fn flaredb(binary: &Path) -> Result<Self> {
        Ok(Self { name: "FlareDB", binary: binary.to_owned(), version: version(binary)?, flags: &[] })
    }

    /// With its default quota of 2 GiB it would stop in the growth cell.
    pub(crate) fn etcd(binary: &Path) -> Result<Self> {
        let flags = &["--quota-backend-bytes=8589934592"];
        Ok(Self { name: "etcd", binary: binary.to_owned(), version: version(binary)?, flags })
    }
}

fn version(binary: &Path) -> Result<String> {
    let output = Command::new(binary)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| LoadError(format!("{} --version: {error}", binary.display())))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        _ => Err(LoadError(format!("{} --version ended with {}", binary.display(), output.status))),
    }
}

/// One server.
#[derive(Debug)]
struct Member {
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    data: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

/// Three of them. Dropping it kills them and removes their data.
#[derive(Debug)]
pub(crate) struct Cluster {
    system: System,
    members: Vec<Member>,
    /// Removed when this is dropped, after the servers have ended.
    _folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts three servers on fresh folders below `folder` and waits until all of them serve.
    pub(crate) fn start(system: &System, folder: &Path) -> Result<Self> {
        let mut last = LoadError(String::new());
        // Ports that were free a moment ago may be taken by now: that shows at once, and others are tried.
        for _ in 0..3 {
            let mut cluster = Self::new(system, folder)?;
            let started = (0..cluster.members.len()).try_for_each(|member| cluster.start_member(member));
            match started.and_then(|()| cluster.wait_until_it_serves()) {
                Ok(()) => return Ok(cluster),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn new(system: &System, folder: &Path) -> Result<Self> {
        let why = |error: std::io::Error| LoadError(format!("{}: {error}", folder.display()));
        let folder = tempfile::Builder::new().prefix("flaredb-bench-").tempdir_in(folder).map_err(why)?;
        let listeners: Vec<TcpListener> =
            (0..6).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>().map_err(why)?;
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>().map_err(why)?;
        let mut members = Vec::new();
        for (number, pair) in (1..).zip(addresses.chunks_exact(2)) {
            let name = format!("n{number}");
            let (data, log) = (folder.path().join(&name), folder.path().join(format!("{name}.log")));
            members.push(Member { name, client: pair[0], peer: pair[1], data, log, child: None });
        }
        Ok(Self { system: system.clone(), members, _folder: folder })
    }

    /// Where the members serve.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.client).collect()
    }

    /// The processes that run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| Some(member.child.as_ref()?.id())).collect()
    }

    /// Starts a member on the folder it has.
    pub(crate) fn start_member(&mut self, number: usize) -> Result<()> {
        let everyone: Vec<String> =
            self.members.iter().map(|member| format!("{}=http://{}", member.name, member.peer)).collect();
        let System { binary, flags, .. } = &self.system;
        let member = &mut self.members[number];
        let why = |error: std::io::Error| LoadError(format!("{}: {error}", binary.display()));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&member.log).map_err(why)?;
        let (client, peer) = (format!("http://{}", member.client), format!("http://{}", member.peer));
        // setpriv becomes the server by exec: the process id is the server's, and it ends with this program.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(binary)
            .args(["--name", &member.name])
            .arg("--data-dir")
            .arg(&member.data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &everyone.join(","), "--initial-cluster-state", "new"])
            .args(["--initial-cluster-token", "bench", "--heartbeat-interval", "100", "--election-timeout", "1000"])
            .args(*flags)
            // No setting of the caller's shell reaches a server.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| LoadError(format!("setpriv (util-linux): {error}")))?;
        member.child = Some(child);
        Ok(())
    }

    /// kill -9 of some members at once, then waits until they are gone.
    pub(crate) fn kill(&mut self, numbers: &[usize]) {
        for number in numbers {
            if let Some(child) = &mut self.members[*number].child {
                // It fails only for a process that has ended.
                let _ = child.kill();
            }
        }
        for number in numbers {
            if let Some(mut child) = self.members[*number].child.take() {
                let _ = child.wait();
            }
        }
    }

    /// The member that leads, if all that run agree on one.
    pub(crate) fn leader(&self) -> Result<usize> {
        let mut leaders = Vec::new();
        let mut ids = Vec::new();
        for member in &self.members {
            let answer = ask(member.client, Method::Status, &[], Duration::from_secs(2))?;
            if answer.status != 0 {
                return Err(LoadError(format!("{}: {}", member.name, answer.refusal())));
            }
            ids.push(call::member_id(&answer.head));
            leaders.push(call::leader(&answer.head));
        }
        let first = leaders.first().copied().filter(|id| *id != 0 && leaders.iter().all(|leader| leader == id));
        first
            .and_then(|id| ids.iter().position(|of| *of == id))
            .ok_or_else(|| LoadError(format!("members {ids:x?} name the leaders {leaders:x?}")))
    }

    /// Waits until all agree on a leader and each answers a linearizable read.
    pub(crate) fn wait_until_it_serves(&mut self) -> Result<()> {
        let begun = Instant::now();
        let mut read = Vec::new();
        call::get_request(&mut read, b"nothing", false);
        loop {
            let serves = self.leader().and_then(|_| {
                self.members.iter().try_for_each(|member| {
                    let answer = ask(member.client, Method::Range, &read, Duration::from_secs(2))?;
                    if answer.status == 0 { Ok(()) } else { Err(LoadError(answer.refusal())) }
                })
            });
            let Err(error) = serves else { return Ok(()) };
            for member in &mut self.members {
                if let Some(Ok(Some(status))) = member.child.as_mut().map(Child::try_wait) {
                    let tail = tail(&member.log);
                    return Err(LoadError(format!("{} {} ended ({status}): {tail}", self.system.name, member.name)));
                }
            }
            if begun.elapsed() > PATIENCE {
                return Err(LoadError(format!("{} does not serve after {PATIENCE:?}: {error}", self.system.name)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let everyone: Vec<usize> = (0..self.members.len()).collect();
        self.kill(&everyone);
    }
}

/// The last two lines of a log, on one line.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(2)..].join(" | ").chars().take(800).collect()
}
