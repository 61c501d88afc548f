//! What the model disk keeps, drops and spoils, sector by sector.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

use flaredb_sim::disk::{CrashMode, DiskError, DiskOp, SECTOR, SECTOR_FAULTS, SectorFault, SimDisk, Timing};
use flaredb_sim::prf::Draw;

/// What was synced stays; of the rest every sector is there or not, on its own, and so is every name.
#[test]
fn a_crash_chooses_for_every_sector_and_name() {
    let (mut kept, mut dropped, mut torn, mut renamed, mut longer) = (0, 0, 0, 0, 0);
    for seed in 0..400 {
        let disk = SimDisk::new(seed, 1);
        let file = disk.create("a").unwrap();
        disk.write(file, 0, &[1; 3 * SECTOR]).unwrap();
        disk.sync(file).unwrap();
        disk.sync_names().unwrap();
        disk.write(file, SECTOR, &[2; 3 * SECTOR]).unwrap();
        disk.rename("a", "b").unwrap();
        disk.create("c").unwrap();
        assert_eq!(disk.read(file, SECTOR, 1).unwrap(), [2], "programs see the cache");
        disk.crash(if seed % 2 == 0 { CrashMode::DropOnly } else { CrashMode::Corrupt });
        assert_eq!(disk.list().iter().filter(|name| *name != "c").count(), 1, "a rename is atomic");
        renamed += u32::from(disk.find("b").is_some());
        longer += u32::from(disk.len(file) == 4 * SECTOR);
        assert_eq!(disk.read(file, 0, SECTOR).unwrap(), [1; SECTOR]);
        for sector in [1, 2] {
            let content = disk.read(file, sector * SECTOR, SECTOR).unwrap();
            let all = |byte| content.iter().all(|found| *found == byte);
            match (all(1), all(2)) {
                (true, _) => dropped += 1,
                (_, true) => kept += 1,
                _ => torn += 1,
            }
            assert!(seed % 2 == 1 || all(1) || all(2), "a sector is whole when it is only dropped");
        }
    }
    for (what, count) in
        [("kept", kept), ("dropped", dropped), ("torn", torn), ("renamed", renamed), ("longer", longer)]
    {
        assert!(count > 20, "{what}: {count}");
    }
}

/// Garbage stays where something was written, except when sectors are lost as a whole.
#[test]
fn synced_bytes_of_a_sector_survive_its_garbage() {
    let mut lost = 0;
    for seed in 0..400 {
        let disk = SimDisk::new(seed, 1);
        let file = disk.create("a").unwrap();
        disk.write(file, 0, &[1; 100]).unwrap();
        disk.sync(file).unwrap();
        disk.sync_names().unwrap();
        disk.write(file, 100, &[2; 50]).unwrap();
        let whole = seed % 2 == 0;
        disk.crash(if whole { CrashMode::LoseSectors } else { CrashMode::Corrupt });
        let intact = disk.read(file, 0, 100).unwrap() == [1; 100];
        assert!(whole || intact, "seed {seed}");
        lost += u32::from(!intact);
    }
    assert!(lost > 5, "{lost}");
}

/// A file that was cut has its old length or its new one.
#[test]
fn a_truncation_may_be_undone() {
    let mut lengths = [0; 2];
    for seed in 0..100 {
        let disk = SimDisk::new(seed, 1);
        let file = disk.create("a").unwrap();
        disk.write(file, 0, &[1; 5000]).unwrap();
        disk.sync(file).unwrap();
        disk.sync_names().unwrap();
        disk.set_len(file, 1000).unwrap();
        assert!(disk.read(file, 0, 1001).is_err());
        disk.crash(CrashMode::DropOnly);
        assert_eq!(disk.read(file, 0, 1000).unwrap(), [1; 1000]);
        lengths[usize::from(disk.len(file) == 1000)] += 1;
        disk.set_len(file, 10).unwrap();
        disk.sync(file).unwrap();
        disk.crash(CrashMode::Corrupt);
        assert_eq!(disk.len(file), 10);
    }
    assert!(lengths.iter().all(|count| *count > 10), "{lengths:?}");
}

/// After a failed sync the pages read as written, a second sync is glad, and a crash shows that it lied.
#[test]
fn a_sync_after_a_failed_one_lies() {
    let mut lies = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(seed, 1);
        let file = disk.create("a").unwrap();
        disk.write(file, 0, &[1; SECTOR]).unwrap();
        disk.sync(file).unwrap();
        disk.sync_names().unwrap();
        disk.write(file, 0, &[2; SECTOR]).unwrap();
        disk.fail_next_sync();
        assert_eq!(disk.sync(file), Err(DiskError::Sync("a".into())));
        assert_eq!(disk.sync(file), Ok(()));
        assert_eq!(disk.read(file, 0, 1).unwrap(), [2]);
        disk.crash(CrashMode::DropOnly);
        lies += u32::from(disk.read(file, 0, 1).unwrap() == [1]);
    }
    assert!((20..80).contains(&lies), "{lies}");
}

#[test]
fn latent_faults_strike_what_is_durable_and_can_be_taken_back() {
    let disk = SimDisk::new(1, 1);
    let mut draw = Draw::new(1, "test", 0);
    let file = disk.create("a").unwrap();
    for version in 1..=2 {
        disk.write(file, 0, &[version; 2 * SECTOR]).unwrap();
        disk.sync(file).unwrap();
    }
    assert!(disk.inject(SectorFault::Rot, |_| true, &mut draw).is_none(), "its name is not durable yet");
    disk.sync_names().unwrap();
    let good = disk.read(file, 0, 2 * SECTOR).unwrap();
    for fault in SECTOR_FAULTS {
        for _ in 0..20 {
            let Some(injected) = disk.inject(fault, |name| name == "a", &mut draw) else { continue };
            let read = disk.read(file, 0, 2 * SECTOR);
            assert_ne!(read.as_ref(), Ok(&good), "{}", injected.what);
            assert_eq!(fault == SectorFault::Unreadable, read.is_err(), "{}", injected.what);
            disk.take_back(injected);
            assert_eq!(disk.read(file, 0, 2 * SECTOR).unwrap(), good);
        }
    }
    assert!(disk.inject(SectorFault::Rot, |name| name == "b", &mut draw).is_none());
}

/// Stalls come as often as they are asked for, and last as long.
#[test]
fn a_disk_may_stall() {
    let disk = SimDisk::new(1, 1);
    let usual = Timing::default();
    assert!((0..1000).all(|_| (usual.sync.0..=usual.slow.1).contains(&disk.latency(DiskOp::Sync))));
    disk.set_timing(Timing { stall_per_million: 100_000, ..usual });
    let stalls = (0..1000).filter(|_| disk.latency(DiskOp::Sync) >= usual.stall.0).count();
    assert!((50..200).contains(&stalls), "{stalls}");
    assert!((0..1000).all(|_| disk.latency(DiskOp::Write) <= usual.write.1));
}
