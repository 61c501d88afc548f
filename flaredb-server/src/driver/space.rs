//! Free space of the disk under the member's folder: when puts are refused for lack of it, and the space that is set aside for
//! that case.
//!
//! A log that cannot be written ends the process, so it must not come to that. Long before the disk is full puts are
//! refused, on this member, as they are above the quota. What frees space (deletions, compactions) goes through the log
//! too: for that, and for what the databases still have to flush, a file of useless bytes is kept, and removed when
//! the space gets really short. It is made again when there is room for it.
//!
//! What it is not: a guarantee. Someone else on the same disk may take the reserve's space the moment it is free.

use crate::disk;
use std::{fs, io, path::PathBuf};
use tokio::task::JoinHandle;

const RESERVE_FILE: &str = "reserve";

/// What a look has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpaceChange {
    Began,
    Ended,
}

/// What to do with the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reserve {
    Leave,
    Release,
    SetAside,
}

/// See the module.
pub(super) struct Space {
    folder: PathBuf,
    /// Puts are refused while less than this is free.
    free_bytes_min: u64,
    is_low: bool,
    /// The reserve is there, or was when it was last looked for.
    has_reserve: bool,
    setting_aside: Option<JoinHandle<io::Result<()>>>,
}

impl Space {
    /// `folder`: the member's.
    pub(super) fn new(folder: PathBuf, free_bytes_min: u64) -> Self {
        let reserve = fs::metadata(folder.join(RESERVE_FILE));
        let has_reserve = reserve.is_ok_and(|found| found.len() >= reserve_bytes(free_bytes_min));
        Self { folder, free_bytes_min, is_low: false, has_reserve, setting_aside: None }
    }

    pub(super) fn is_low(&self) -> bool {
        self.is_low
    }

    /// To be called about once a second, in the node's runtime. The second figure is what is free.
    pub(super) fn look(&mut self) -> io::Result<(Option<SpaceChange>, u64)> {
        let free = disk::free_bytes(&self.folder)?;
        let (is_low, reserve) = judge(free, self.free_bytes_min, self.is_low, self.has_reserve);
        match reserve {
            Reserve::Leave => {}
            // Even if the removal fails: it is tried again when the reserve is made again.
            Reserve::Release => {
                self.has_reserve = false;
                tracing::warn!(free, "the disk is nearly full: the space that was set aside is released");
                fs::remove_file(self.folder.join(RESERVE_FILE))?;
            }
            Reserve::SetAside if self.setting_aside.is_none() => {
                let path = self.folder.join(RESERVE_FILE);
                let bytes = reserve_bytes(self.free_bytes_min);
                self.setting_aside = Some(tokio::task::spawn_blocking(move || disk::set_aside(&path, bytes)));
            }
            Reserve::SetAside => {}
        }
        let change = (is_low != self.is_low).then_some(if is_low { SpaceChange::Began } else { SpaceChange::Ended });
        self.is_low = is_low;
        Ok((change, free))
    }

    /// Waits until the reserve is made, for ever if it is not being made.
    pub(super) async fn set_aside(&mut self) {
        let Some(task) = &mut self.setting_aside else { return std::future::pending().await };
        match task.await {
            Ok(Ok(())) => self.has_reserve = true,
            Ok(Err(error)) => tracing::warn!(%error, "space could not be set aside, it is tried again"),
            Err(error) => tracing::warn!(%error, "setting space aside ended in a bug"),
        }
        self.setting_aside = None;
    }
}

/// Half of what must be free: enough to write for a while when it is released.
fn reserve_bytes(free_bytes_min: u64) -> u64 {
    free_bytes_min / 2
}

/// Whether space is low now, and what becomes of the reserve. It ends a quarter above where it begins, with the reserve made
/// again, so that it does not begin again at once.
fn judge(free: u64, min: u64, is_low: bool, has_reserve: bool) -> (bool, Reserve) {
    let comfortable = min.saturating_add(min / 4);
    let low = free < if is_low { comfortable } else { min };
    let reserve = match has_reserve {
        true if free < min / 2 => Reserve::Release,
        false if free >= comfortable.saturating_add(reserve_bytes(min)) => Reserve::SetAside,
        _ => Reserve::Leave,
    };
    (low || (is_low && !has_reserve), reserve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_below_the_least_and_ends_above_with_the_reserve_back() {
        let (mut is_low, mut has_reserve) = (false, true);
        for (free, low, reserve) in [
            (5000, false, Reserve::Leave),
            (1000, false, Reserve::Leave),
            (999, true, Reserve::Leave),
            (1000, true, Reserve::Leave),
            (499, true, Reserve::Release),
            // What was released.
            (999, true, Reserve::Leave),
            (100, true, Reserve::Leave),
            (1300, true, Reserve::Leave),
            (1750, true, Reserve::SetAside),
            (1250, false, Reserve::Leave),
            (1000, false, Reserve::Leave),
            (10, true, Reserve::Release),
        ] {
            let found = judge(free, 1000, is_low, has_reserve);
            assert_eq!(found, (low, reserve), "at {free}");
            is_low = found.0;
            has_reserve = match reserve {
                Reserve::Leave => has_reserve,
                Reserve::Release => false,
                Reserve::SetAside => true,
            };
        }
        assert_eq!(judge(u64::MAX, 0, false, false), (false, Reserve::SetAside));
    }
}
