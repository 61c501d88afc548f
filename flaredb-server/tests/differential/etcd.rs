//! A real etcd for one test: one member, a temporary folder, free ports. It ends with the value.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{free_port, get};

pub struct Etcd {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Etcd {
    /// Starts the binary that `ETCD` names and waits until it answers.
    pub async fn start() -> Self {
        let binary = std::env::var_os("ETCD").expect("ETCD names an etcd binary");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log_path = folder.path().join("log");
        let log = std::fs::File::create(&log_path).expect("log file");
        let (port, peer_port) = (free_port(), free_port());
        let (client_url, peer_url) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
        let child = Command::new(binary)
            .args(["--name", "reference", "--initial-cluster", &format!("reference={peer_url}")])
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--unsafe-no-fsync", "--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd starts");
        let etcd = Self { child, port, _folder: folder };
        let end = Instant::now() + Duration::from_secs(30);
        while let Err(error) = get(&etcd.endpoint(), b"ready?").await {
            let log = || std::fs::read_to_string(&log_path).unwrap_or_default();
            assert!(Instant::now() < end, "etcd is not ready: {error}\n{}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        etcd
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
