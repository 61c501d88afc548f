//! What the kernel counts for the servers, for this program and for the disk; read at both ends of a measurement.

use serde::Serialize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything at one moment. Counters only rise; two of these are subtracted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// CPU time of the servers, user and system.
    pub(crate) servers: Duration,
    /// CPU time of this program.
    pub(crate) own: Duration,
    /// Bytes of the page cache that the servers made dirty.
    pub(crate) dirtied: u64,
    /// Context switches of all the servers' threads.
    pub(crate) switches: u64,
    /// What reached the disk, by whomever.
    pub(crate) disk: Option<DiskCounters>,
}

/// What a disk did so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DiskCounters {
    /// Bytes written.
    pub(crate) written: u64,
    /// Flushes of its cache.
    pub(crate) flushes: u64,
}

impl DiskCounters {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            written: self.written.saturating_sub(before.written),
            flushes: self.flushes.saturating_sub(before.flushes),
        }
    }
}

impl Counters {
    pub(crate) fn read(pids: &[u32], disk: &Disk) -> Self {
        Self {
            servers: pids.iter().filter_map(|pid| cpu(*pid)).sum(),
            own: flaredb_load::own_cpu(),
            dirtied: pids.iter().filter_map(|pid| value(&text(*pid, "io")?, "write_bytes:")).sum(),
            switches: pids.iter().map(|pid| switches(*pid)).sum(),
            disk: disk.counters(),
        }
    }

    /// What was counted since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            servers: self.servers.saturating_sub(before.servers),
            own: self.own.saturating_sub(before.own),
            dirtied: self.dirtied.saturating_sub(before.dirtied),
            switches: self.switches.saturating_sub(before.switches),
            disk: self.disk.zip(before.disk).map(|(after, before)| after.since(before)),
        }
    }
}

/// Memory of one server.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Memory {
    /// Resident now, in bytes.
    pub(crate) resident: u64,
    /// The most it ever was.
    pub(crate) peak: u64,
}

impl Memory {
    /// The largest of the servers.
    pub(crate) fn largest(pids: &[u32]) -> Self {
        let of = |name: &str| {
            let kib = pids.iter().filter_map(|pid| value(&text(*pid, "status")?, name)).max();
            kib.unwrap_or(0) * 1024
        };
        Self { resident: of("VmRSS:"), peak: of("VmHWM:") }
    }
}

fn text(pid: u32, file: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()
}

/// The number after a name at the beginning of a line.
fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// utime and stime, fields 14 and 15; the name in field 2 may hold anything, so counting begins after it.
fn cpu(pid: u32) -> Option<Duration> {
    let stat = text(pid, "stat")?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

fn switches(pid: u32) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let of = |thread: PathBuf| {
        let status = std::fs::read_to_string(thread.join("status")).ok()?;
        Some(value(&status, "voluntary_ctxt_switches:")? + value(&status, "nonvoluntary_ctxt_switches:")?)
    };
    threads.flatten().filter_map(|thread| of(thread.path())).sum()
}

/// The disk that a folder is on.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// Its statistics, if it is a block device.
    stat: Option<PathBuf>,
    /// Its name, or why there is none.
    pub(crate) name: String,
}

impl Disk {
    pub(crate) fn of(folder: &Path) -> Self {
        let find = || {
            let device = std::fs::metadata(folder).ok()?.dev();
            let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
            let mut place = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
            // Flushes are counted for the whole disk.
            if place.join("partition").exists() {
                place.pop();
            }
            Some(place)
        };
        match find() {
            Some(place) => Self {
                name: place.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                stat: Some(place.join("stat")),
            },
            None => Self { stat: None, name: "no block device: flushes cannot be counted".to_owned() },
        }
    }

    /// The 7th and the 16th number of its statistics: sectors (always of 512 bytes) written, and flushes.
    pub(crate) fn counters(&self) -> Option<DiskCounters> {
        let text = std::fs::read_to_string(self.stat.as_ref()?).ok()?;
        let number = |place: usize| text.split_whitespace().nth(place)?.parse::<u64>().ok();
        Some(DiskCounters { written: number(6)? * 512, flushes: number(15)? })
    }
}
