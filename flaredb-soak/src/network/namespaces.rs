//! One network namespace a member and one for a bridge, beside the one that this program is in (`enter.rs`). The namespaces
//! have no names: each lives as long as the process that holds it, which the kernel ends with this program. No namespace has a
//! default route, and the bridge has no port that leads out.

use super::{Link, MEMBERS, Place};
use crate::error::{Result, SoakError, Why};
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ours, on the bridge.
pub(super) const CLIENT_ADDRESS: &str = "10.213.0.10";

/// The address of a member.
pub(super) fn address(member: usize) -> String {
    format!("10.213.0.{}", member + 1)
}

/// The namespaces.
#[derive(Debug)]
pub struct Namespaces {
    /// Members first, then the bridge.
    holders: Vec<Child>,
    /// The rule that is in force on each link that is not whole.
    rules: BTreeMap<(usize, usize), Vec<String>>,
}

impl Namespaces {
    /// Makes and connects them.
    ///
    /// # Errors
    /// A tool fails: no rights, or not installed.
    pub fn make() -> Result<Self> {
        let mut this = Self { holders: Vec::new(), rules: BTreeMap::new() };
        for _ in 0..=MEMBERS {
            this.holders.push(hold()?);
        }
        let hub = this.pid(MEMBERS)?;
        inside(hub, "ip link add br0 type bridge")?;
        inside(hub, "ip link set br0 up")?;
        let plug = |name: &str, pid: u32, address: &str| -> Result<()> {
            inside(hub, &format!("ip link add {name} type veth peer name eth0 netns {pid}"))?;
            inside(hub, &format!("ip link set {name} master br0 up"))?;
            inside(pid, "ip link set lo up")?;
            inside(pid, &format!("ip addr add {address}/24 dev eth0"))?;
            inside(pid, "ip link set eth0 up")
        };
        for member in 0..MEMBERS {
            plug(&format!("m{member}"), this.pid(member)?, &address(member))?;
        }
        plug("clients", std::process::id(), CLIENT_ADDRESS)?;
        Ok(this)
    }

    fn pid(&self, number: usize) -> Result<u32> {
        self.holders.get(number).map(Child::id).ok_or_else(|| SoakError("no such namespace".to_owned()))
    }

    /// Where the members listen.
    pub fn places(&self) -> Vec<Place> {
        let place = |(member, holder): (usize, &Child)| Place {
            host: address(member),
            client_port: 2379,
            peer_port: 2380,
            holder: Some(holder.id()),
        };
        self.holders.iter().take(MEMBERS).enumerate().map(place).collect()
    }

    /// Drops what `from` sends to `to`, all or a part; both directions of their connections, for TCP answers with packets too.
    pub(super) fn set(&mut self, from: usize, to: usize, link: Link) -> Result<()> {
        let pid = self.pid(from)?;
        if let Some(rule) = self.rules.remove(&(from, to)) {
            inside(pid, &format!("iptables -w -D OUTPUT {}", rule.join(" ")))?;
        }
        let rule = match link {
            Link::Whole => return Ok(()),
            Link::Lossy(percent) => {
                let share = format!("0.{:02}", percent.min(99));
                format!("-d {} -m statistic --mode random --probability {share} -j DROP", address(to))
            }
            Link::Cut | Link::Late(_) | Link::Slow(_) => format!("-d {} -j DROP", address(to)),
        };
        inside(pid, &format!("iptables -w -A OUTPUT {rule}"))?;
        self.rules.insert((from, to), rule.split(' ').map(str::to_owned).collect());
        Ok(())
    }

    /// What `from` sends to `to`'s peer port goes to a port of ours instead.
    pub(super) fn divert(&self, from: usize, to: usize, port: u16) -> Result<()> {
        inside(
            self.pid(from)?,
            &format!(
                "iptables -w -t nat -A OUTPUT -d {} -p tcp --dport 2380 -j DNAT --to-destination {CLIENT_ADDRESS}:{port}",
                address(to)
            ),
        )
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            // Gone already is as good.
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

/// A process that does nothing in a namespace of its own, until this program ends.
fn hold() -> Result<Child> {
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"])
        .stdin(Stdio::null())
        .spawn()
        .why("setpriv (util-linux)")?;
    let ours = std::fs::read_link("/proc/self/ns/net").why("/proc/self/ns/net")?;
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let theirs = std::fs::read_link(format!("/proc/{}/ns/net", child.id()));
        if theirs.is_ok_and(|theirs| theirs != ours) {
            return Ok(child);
        }
        if Instant::now() > end || child.try_wait().is_ok_and(|ended| ended.is_some()) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(SoakError("unshare --net did not make a namespace".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a command in the namespace of a process.
fn inside(pid: u32, command: &str) -> Result<()> {
    let output = Command::new("nsenter")
        .arg(format!("--net=/proc/{pid}/ns/net"))
        .args(command.split(' '))
        .stdin(Stdio::null())
        .output()
        .why("nsenter (util-linux)")?;
    if output.status.success() {
        return Ok(());
    }
    Err(SoakError(format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
