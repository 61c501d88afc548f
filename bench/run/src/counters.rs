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
    /// CPU time of their threads that flush and merge, which are part of `servers`: of RocksDB's; other systems have none.
    pub(crate) background: Background,
    /// What reached the disk, by whomever.
    pub(crate) disk: Option<DiskCounters>,
}

/// CPU time of RocksDB's own threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Background {
    pub(crate) flushes: Duration,
    pub(crate) merges: Duration,
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
        let threads: Vec<Threads> = pids.iter().map(|pid| Threads::of(*pid)).collect();
        Self {
            servers: pids.iter().filter_map(|pid| cpu(*pid)).sum(),
            own: flaredb_load::own_cpu(),
            dirtied: pids.iter().filter_map(|pid| value(&text(*pid, "io")?, "write_bytes:")).sum(),
            switches: threads.iter().map(|threads| threads.switches).sum(),
            background: Background {
                flushes: threads.iter().map(|threads| threads.background.flushes).sum(),
                merges: threads.iter().map(|threads| threads.background.merges).sum(),
            },
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
            background: Background {
                flushes: self.background.flushes.saturating_sub(before.background.flushes),
                merges: self.background.merges.saturating_sub(before.background.merges),
            },
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
fn cpu_of(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

fn cpu(pid: u32) -> Option<Duration> {
    cpu_of(&text(pid, "stat")?)
}

/// CPU time of the whole machine and of this program with the children it has waited for: what others use meanwhile is the
/// difference of their growth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MachineCpu {
    all: Duration,
    own: Duration,
}

impl MachineCpu {
    pub(crate) fn read() -> Option<Self> {
        let read = |file: &str| std::fs::read_to_string(file).ok();
        Self::of(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }

    fn of(machine: &str, own: &str) -> Option<Self> {
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / per_second);
        // user, nice, system, idle, iowait, irq, softirq, ...: all but waiting and what the host took away.
        let fields: Vec<u64> =
            machine.lines().next()?.strip_prefix("cpu ")?.split_whitespace().flat_map(str::parse).collect();
        let [user, nice, system, _, _, irq, softirq, ..] = fields.as_slice() else { return None };
        // utime, stime, cutime, cstime.
        let own = own.rsplit_once(')')?.1.split_whitespace().skip(11).take(4).flat_map(str::parse::<u64>).sum();
        Some(Self { all: time(user + nice + system + irq + softirq), own: time(own) })
    }

    /// Cores that others used since `before`.
    pub(crate) fn others_since(&self, before: &Self, elapsed: Duration) -> f64 {
        let (all, own) = (self.all.saturating_sub(before.all), self.own.saturating_sub(before.own));
        all.saturating_sub(own).as_secs_f64() / elapsed.as_secs_f64().max(1e-3)
    }
}

/// What is counted thread by thread, of one server.
#[derive(Clone, Copy, Debug, Default)]
struct Threads {
    switches: u64,
    background: Background,
}

impl Threads {
    fn of(pid: u32) -> Self {
        let mut all = Self::default();
        let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return all };
        for thread in threads.flatten() {
            // A thread may have ended by now: then it counts nothing.
            let read = |file: &str| std::fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            all.add(&read("status"), &read("stat"));
        }
        all
    }

    fn add(&mut self, status: &str, stat: &str) {
        let switches = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
        self.switches += switches.into_iter().filter_map(|name| value(status, name)).sum::<u64>();
        let cpu = cpu_of(stat).unwrap_or_default();
        // RocksDB's names: one pool flushes, the other merges (and flushes only where a database has no flush threads).
        if stat.contains("(rocksdb:high") {
            self.background.flushes += cpu;
        } else if stat.contains("(rocksdb:low") {
            self.background.merges += cpu;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_use_is_what_is_neither_idle_nor_ours() {
        let per_second = rustix::param::clock_ticks_per_second();
        let at = |user: u64, nice: u64, own: u64| {
            let machine = format!("cpu  {} {} 5 900 70 1 2 40 0 0\ncpu0 1 2 3\n", user * per_second, nice * per_second);
            let own = format!("7 (a b) c) S 1 7 7 0 -1 4194304 11 12 13 14 1 2 {} 3 20 0 9", own * per_second);
            MachineCpu::of(&machine, &own).unwrap()
        };
        let others = at(30, 60, 15).others_since(&at(10, 50, 5), Duration::from_secs(10));
        assert!((others - 2.0).abs() < 1e-9, "30 seconds of all, 10 of ours, in 10: {others}");
        assert!(MachineCpu::of("intr 1", "").is_none());
    }

    #[test]
    fn threads_are_told_apart_by_their_names() {
        let stat =
            |name: &str, user: u64| format!("7 ({name}) S 1 7 7 0 -1 4194304 11 12 13 14 {user} 50 0 0 20 0 9 0 5");
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t4\n";
        let mut all = Threads::default();
        for (name, user) in [("rocksdb:high", 50), ("rocksdb:low", 150), ("rocksdb:low1", 50), ("a) b", 1000)] {
            all.add(status, &stat(name, user));
        }
        let ticks = |count: u64| Duration::from_secs_f64(count as f64 / rustix::param::clock_ticks_per_second() as f64);
        assert_eq!(all.switches, 28);
        assert_eq!(all.background, Background { flushes: ticks(100), merges: ticks(300) });
        all.add("", "");
        assert_eq!(all.switches, 28, "a thread that ended adds nothing");
    }
}
