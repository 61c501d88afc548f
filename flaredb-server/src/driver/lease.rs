//! What lease reads need of the machine: a clock, and a note in the data folder of how long this member pledges.
//!
//! The clock counts on while the machine sleeps (`CLOCK_BOOTTIME`), which `Instant`'s does not. The note outlives the process: one that is
//! started without the option, or with a shorter election timeout, still waits for what its last life may have pledged.
//! The rules are the core's (`flaredb-raft/src/lease.rs`).

use crate::{config::ELECTION_MAX, disk};
use flaredb_storage::OpenError;
use rustix::time::{ClockId, clock_gettime};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

const FILE: &str = "pledge";
/// See the module.
pub(crate) struct Lease {
    /// What this life pledges, µs; 0: lease reads are off.
    pledge_us: u64,
    /// What the one before may have pledged.
    former_us: u64,
    /// Its note, where nothing more is pledged: to be removed when it does not matter any more.
    leftover: Option<PathBuf>,
}

impl Lease {
    /// Reads the note in `folder`, and sees that it covers `pledge` (zero: lease reads are off), durably.
    ///
    /// # Errors
    /// The note cannot be read or written.
    pub(crate) fn open(folder: &Path, pledge: Duration) -> Result<Self, OpenError> {
        let path = folder.join(FILE);
        let broken = |error: io::Error| OpenError::Io { path: path.clone(), what: error.to_string() };
        let pledge_us = micros(pledge);
        let former_us = match fs::read(&path) {
            // One that cannot be read stands for the longest pledge there can be.
            Ok(text) => {
                str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(micros(ELECTION_MAX))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(broken(error)),
        };
        if pledge_us > former_us {
            disk::replace(folder, FILE, format!("{pledge_us}\n").as_bytes()).map_err(broken)?;
        }
        let leftover = (pledge_us == 0 && former_us > 0).then_some(path);
        Ok(Self { pledge_us, former_us, leftover })
    }

    /// Into the core's settings.
    pub(crate) fn configure(&self, config: &mut flaredb_raft::Config) {
        (config.lease_us, config.former_lease_us) = (self.pledge_us, self.former_us);
    }

    /// The clock, µs; None if nobody needs it.
    pub(super) fn reading(&self) -> Option<u64> {
        (self.pledge_us > 0 || self.leftover.is_some()).then(|| {
            let now = clock_gettime(ClockId::Boottime);
            let [seconds, nanos] = [now.tv_sec, now.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
            seconds * 1_000_000 + nanos / 1000
        })
    }

    /// Forgets the last life's pledge when it is over. Until then another start would have to wait for it as well.
    pub(super) fn on_tick(&mut self, is_pledged: bool) {
        if is_pledged {
            return;
        }
        if let Some(path) = self.leftover.take()
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "a note cannot be removed; starts go on waiting for it");
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_of(lease: &Lease) -> (u64, u64) {
        let mut config = flaredb_raft::Config::new(1, 1);
        lease.configure(&mut config);
        (config.lease_us, config.former_lease_us)
    }

    #[test]
    fn the_next_life_knows_what_this_one_pledges_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let off = Lease::open(dir.path(), Duration::from_micros(0)).unwrap();
        assert_eq!((config_of(&off), off.reading()), ((0, 0), None), "never on: no clock, no note");
        assert!(!dir.path().join(FILE).exists());
        assert_eq!(config_of(&Lease::open(dir.path(), Duration::from_micros(5_000)).unwrap()), (5_000, 0));
        let shorter = Lease::open(dir.path(), Duration::from_micros(1_000)).unwrap();
        assert_eq!(config_of(&shorter), (1_000, 5_000));
        assert!(shorter.reading().is_some());
        // Off, and killed before the pledge is over: the next one waits too.
        drop(Lease::open(dir.path(), Duration::from_micros(0)).unwrap());
        let mut off = Lease::open(dir.path(), Duration::from_micros(0)).unwrap();
        assert_eq!(config_of(&off), (0, 5_000));
        off.on_tick(true);
        assert!(off.reading().is_some());
        off.on_tick(false);
        assert_eq!(off.reading(), None);
        assert_eq!(config_of(&Lease::open(dir.path(), Duration::from_micros(0)).unwrap()), (0, 0));
    }

    #[test]
    fn a_note_that_cannot_be_read_is_the_longest_pledge() {
        for text in [&b"soon"[..], b"", b"\xff"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(
                config_of(&Lease::open(dir.path(), Duration::from_micros(1_000_000)).unwrap()),
                (1_000_000, 50_000_000)
            );
        }
    }

    #[test]
    fn the_clock_runs_forward() {
        let dir = tempfile::tempdir().unwrap();
        let lease = Lease::open(dir.path(), Duration::from_micros(1)).unwrap();
        let first = lease.reading().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(lease.reading().unwrap() >= first + 2_000);
    }
}
