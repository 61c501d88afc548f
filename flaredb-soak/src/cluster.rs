//! The three servers as processes: started with the flags that start etcd members, killed, stopped and continued, and looked
//! after: a member that ends by itself is a finding, unless a fault gave it a reason.

use crate::disk::{Layer, Syncs, Writes};
use crate::error::{Result, SoakError, Why};
use crate::network::{MEMBERS, Place};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A member that ended so often without a reason is not started again.
const ENDS: u64 = 3;

/// One server.
#[derive(Debug)]
pub struct Member {
    /// n1, n2, n3.
    pub name: String,
    /// Where it listens.
    pub place: Place,
    /// Its data.
    pub data: PathBuf,
    /// What it wrote to its standard error.
    pub log: PathBuf,
    /// Its disk, if the server can be given one.
    pub layer: Option<Layer>,
    /// A fault that may end it, or keep it from starting.
    pub excuse: Option<&'static str>,
    /// It stays down: its disk was damaged, and it says so instead of serving.
    pub halted: bool,
    child: Option<Child>,
    paused: bool,
    /// How often it ended without a reason.
    ends: u64,
}

/// All of them. Dropping it kills them.
#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    /// By number.
    pub members: Vec<Member>,
    /// What they did wrong as processes.
    pub findings: Vec<String>,
    /// What syncs do when no fault is on.
    usual: Syncs,
}

impl Cluster {
    /// The servers, not started yet.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn new(program: &Path, folder: &Path, places: Vec<Place>, library: Option<&Path>) -> Result<Self> {
        let mut members = Vec::new();
        for (number, place) in places.into_iter().enumerate() {
            let name = format!("n{}", number + 1);
            let (data, beside) = (folder.join(&name), folder.join(format!("{name}.disk")));
            std::fs::create_dir_all(&data).why(data.display())?;
            let layer = match library {
                Some(library) => {
                    std::fs::create_dir_all(&beside).why(beside.display())?;
                    let layer = Layer::new(library, &data, &beside)?;
                    Some(layer)
                }
                None => None,
            };
            let log = folder.join(format!("{name}.log"));
            members.push(Member {
                name,
                place,
                data,
                log,
                layer,
                excuse: None,
                halted: false,
                child: None,
                paused: false,
                ends: 0,
            });
        }
        assert!(members.len() == MEMBERS, "three members");
        Ok(Self { program: program.to_owned(), members, findings: Vec::new(), usual: Syncs::Good })
    }

    /// A member.
    ///
    /// # Errors
    /// There is none of this number.
    pub fn member(&mut self, number: usize) -> Result<&mut Member> {
        self.members.get_mut(number).ok_or_else(|| SoakError(format!("no member {number}")))
    }

    /// Starts the process of a member that is down, on the folder it has.
    ///
    /// # Errors
    /// It cannot be started at all.
    pub fn start(&mut self, number: usize) -> Result<()> {
        let everyone: Vec<String> =
            self.members.iter().map(|member| format!("{}={}", member.name, member.place.peer_url())).collect();
        let program = self.program.clone();
        let member = self.member(number)?;
        if member.child.is_some() || member.halted {
            return Ok(());
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&member.log).why(member.log.display())?;
        // Each of these becomes the next by exec: the process id is the server's, and it ends with this program.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(holder) = member.place.holder {
            command.arg("nsenter").arg(format!("--net=/proc/{holder}/ns/net"));
        }
        command.arg("env");
        if let Some(layer) = &member.layer {
            for (name, value) in layer.environment() {
                command.arg(format!("{name}={}", value.display()));
            }
        }
        let (client, peer) = (member.place.client_url(), member.place.peer_url());
        command
            .arg(program)
            .args(["--name", &member.name])
            .arg("--data-dir")
            .arg(&member.data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &everyone.join(","), "--initial-cluster-state", "new"])
            .args(["--initial-cluster-token", "soak", "--logger", "zap", "--log-outputs", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        member.child = Some(command.spawn().why("setpriv (util-linux)")?);
        Ok(())
    }

    /// kill -9, and wait until it is gone. Nothing happens to a member that is down.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self, numbers: &[usize]) -> Result<()> {
        for number in numbers {
            if let Some(child) = &mut self.member(*number)?.child {
                child.kill().why("kill -9")?;
            }
        }
        for number in numbers {
            let member = self.member(*number)?;
            member.paused = false;
            if let Some(mut child) = member.child.take() {
                child.wait().why("waiting for a killed server")?;
            }
        }
        Ok(())
    }

    /// SIGSTOP or SIGCONT.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn pause(&mut self, number: usize, stop: bool) -> Result<()> {
        let member = self.member(number)?;
        let Some(child) = &member.child else { return Ok(()) };
        let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return Ok(()) };
        kill_process(pid, if stop { Signal::STOP } else { Signal::CONT }).why("SIGSTOP or SIGCONT")?;
        member.paused = stop;
        Ok(())
    }

    /// Whether the process is there.
    pub fn runs(&self, number: usize) -> bool {
        self.members.get(number).is_some_and(|member| member.child.is_some())
    }

    /// Takes note of members that ended by themselves: gives their numbers.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn look(&mut self) -> Result<Vec<usize>> {
        let mut ended = Vec::new();
        for (number, member) in self.members.iter_mut().enumerate() {
            let Some(child) = &mut member.child else { continue };
            let Some(status) = child.try_wait().why("looking at a server")? else { continue };
            member.child = None;
            ended.push(number);
            if member.excuse.is_none() {
                member.ends += 1;
                // It will not come back; the finding is made.
                member.halted = member.ends >= ENDS;
                let tail = tail(&member.log);
                self.findings.push(format!("{} ended by itself ({status}): {tail}", member.name));
            }
        }
        Ok(ended)
    }

    /// What syncs do from now on when no fault is on.
    ///
    /// # Errors
    /// A control file cannot be written.
    pub fn usual(&mut self, usual: Syncs) -> Result<()> {
        self.usual = usual;
        (0..MEMBERS).try_for_each(|number| self.heal_disk(number))
    }

    /// Its disk works as usual again.
    ///
    /// # Errors
    /// The control file cannot be written.
    pub fn heal_disk(&mut self, number: usize) -> Result<()> {
        let usual = self.usual;
        let Some(layer) = &self.member(number)?.layer else { return Ok(()) };
        layer.syncs(usual)?;
        layer.writes(Writes::Good)
    }

    /// Every process runs, every disk works. Members that stay down stay down.
    ///
    /// # Errors
    /// A process cannot be started.
    pub fn heal(&mut self) -> Result<()> {
        for number in 0..MEMBERS {
            self.heal_disk(number)?;
            if self.member(number)?.paused {
                self.pause(number, false)?;
            }
        }
        self.look()?;
        for number in 0..MEMBERS {
            self.start(number)?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let everyone: Vec<usize> = (0..MEMBERS).collect();
        // Whatever happens: the kernel ends them with this program.
        let _ = self.kill(&everyone);
    }
}

/// The last lines of a log, on one line.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let text = lines.get(lines.len().saturating_sub(2)..).unwrap_or_default().join(" | ");
    text.chars().take(1200).collect()
}
