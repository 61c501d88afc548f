//! The model disk against a plain model: seeds of random operations, crashes and faults.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

mod disk_model;

use disk_model::{Member, member_options};
use flaredb_sim::disk::CrashMode;
use flaredb_sim::prf::Draw;

const CRASH_MODES: [CrashMode; 2] = [CrashMode::DropOnly, CrashMode::Corrupt];

/// Without latent faults: what was synced is there after every crash, what survives is a prefix of the order in which it was
/// written, each batch whole, and a torn end is not taken for a loss.
#[test]
fn crashes_lose_nothing_that_was_synced() {
    for seed in 0..10_000 {
        let mut draw = Draw::new(seed, "test", 0);
        let mut member = Member::new(seed, member_options(&mut draw));
        for _ in 0..draw.between(5, 40) {
            let result = member.random_step(&mut draw);
            let dies = draw.hits(150_000);
            if result.is_err() || dies {
                // A killed process loses nothing; a power cut what was not synced.
                if member.disk.is_off() || draw.hits(700_000) {
                    member.disk.crash(*draw.pick(&CRASH_MODES));
                }
                member.reopen(&mut draw, &CRASH_MODES);
            }
        }
        member.disk.crash(*draw.pick(&CRASH_MODES));
        member.reopen(&mut draw, &CRASH_MODES);
    }
}
