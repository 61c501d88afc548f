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

use disk_model::{Member, Plain, entry, identity, member_options};
use flaredb_raft::{EntryId, HardState, RaftStorage, Write};
use flaredb_record::mark::UNKNOWN;
use flaredb_sim::disk::{CrashMode, DiskError, LogOptions, ModelLog, OpenError, SECTOR, SECTOR_FAULTS, Survey};
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

/// A member with some history, all of it durable and marked, down.
fn settled(seed: u64, draw: &mut Draw) -> (Member, Plain) {
    let mut member = Member::new(seed, member_options(draw));
    for _ in 0..draw.between(5, 40) {
        if member.random_step(draw).is_err() {
            if member.disk.is_off() || draw.hits(700_000) {
                member.disk.crash(*draw.pick(&CRASH_MODES));
            }
            member.reopen(draw, &CRASH_MODES);
        }
    }
    member.disk.crash(CrashMode::DropOnly);
    member.reopen(draw, &CRASH_MODES);
    for _ in 0..draw.below(20) {
        member.append(draw).unwrap();
    }
    // A write with a new term has the mark synced with it.
    let hard = member.now().hard;
    let hard_state = HardState { current_term: hard.current_term + 1, voted_for: Some(3), ..hard };
    member.write(&Write { id: u64::MAX, hard_state, entries: Vec::new(), sync: true }).unwrap();
    member.disk.crash(CrashMode::DropOnly);
    member.log = None;
    let durable = member.now().clone();
    (member, durable)
}

/// A misdirected write destroys two places; if one of them is the mark, that is two faults for a member.
fn is_one_fault(what: &str) -> bool {
    !(what.contains(" went to ") && what.contains("mark sector"))
}

/// One latent fault anywhere: never a wrong entry; what is gone is known to be gone; other members can make it good.
#[test]
fn one_fault_is_never_silent() {
    let mut seen = [0_u32; 4];
    for seed in 0..4000 {
        let mut draw = Draw::new(seed, "fault", 0);
        let (mut member, durable) = settled(seed, &mut draw);
        let whole = Survey::of(&member.disk, &identity());
        assert!(whole.is_whole() && whole.repairs.is_none() && whole.last == durable.last(), "seed {seed}: {whole:?}");
        let fault = *draw.pick(&SECTOR_FAULTS);
        let Some(injected) = member.disk.inject(fault, |_| true, &mut draw) else { continue };
        let what = injected.what.clone();
        let survey = Survey::of(&member.disk, &identity());
        if draw.hits(100_000) {
            member.disk.take_back(injected);
            assert_eq!(Survey::of(&member.disk, &identity()), whole, "seed {seed}: {what}");
            continue;
        }
        match ModelLog::open(&member.disk, &identity(), member.options) {
            Err(OpenError::Halt { why }) => {
                assert!(what.contains("identity"), "seed {seed}: {what} led to {why}");
                assert_eq!(survey.halts, Some(why), "seed {seed}");
                seen[0] += 1;
            }
            Err(OpenError::Disk(error)) => panic!("seed {seed}: {what} led to {error}"),
            Ok(opened) => {
                let (until, repaired) = (opened.recover_until, opened.repaired.is_some());
                assert_eq!(survey.recover_until, until, "seed {seed}: {what}");
                assert_eq!(survey.repairs, opened.repaired, "seed {seed}: {what}");
                let found = member.adopt(opened);
                assert_eq!(survey.last, found.last(), "seed {seed}: {what}");
                member.check_truth(&found);
                if is_one_fault(&what) {
                    member.check_detected(&durable, &found, until);
                }
                seen[if until.is_some() { 3 } else { 1 + usize::from(repaired) }] += 1;
                member.heal(&durable, found, until);
                member.disk.crash(CrashMode::Corrupt);
                member.reopen(&mut draw, &CRASH_MODES);
            }
        }
    }
    println!("halted {}, no loss {}, repaired {}, recovering {}", seen[0], seen[1], seen[2], seen[3]);
    assert!(seen.iter().all(|count| *count > 20), "each of the four came about: {seen:?}");
}

/// Power cuts at every step of a repair: the next start goes on, and forgets nothing of what is missing.
#[test]
fn a_repair_may_be_interrupted_at_every_step() {
    let mut repairs = 0;
    for seed in 0..2000 {
        let mut draw = Draw::new(seed, "repair", 0);
        let (mut member, durable) = settled(seed, &mut draw);
        let fault = *draw.pick(&SECTOR_FAULTS);
        let Some(injected) = member.disk.inject(fault, |_| true, &mut draw) else { continue };
        let survey = Survey::of(&member.disk, &identity());
        if survey.repairs.is_none() || !is_one_fault(&injected.what) {
            continue;
        }
        repairs += 1;
        let damaged = member.disk.backup();
        for step in 0.. {
            member.disk.restore(&damaged);
            member.disk.cut_power_after(step);
            let cut = match ModelLog::open(&member.disk, &identity(), member.options) {
                Err(OpenError::Disk(DiskError::PowerCut)) => true,
                Err(error) => panic!("seed {seed} step {step}: {error}"),
                Ok(_) => false,
            };
            member.disk.crash(*draw.pick(&CRASH_MODES));
            let opened = ModelLog::open(&member.disk, &identity(), member.options);
            let opened = opened.unwrap_or_else(|error| panic!("seed {seed} step {step}: {error}"));
            let until = opened.recover_until;
            let found = member.adopt(opened);
            member.check_truth(&found);
            member.check_detected(&durable, &found, until);
            if !cut {
                break;
            }
            assert!(step < 200, "seed {seed}: an opening takes a bounded number of steps");
        }
        if repairs >= 150 {
            return;
        }
    }
    panic!("only {repairs} faults led to a repair");
}

/// Many faults, also in what the running process then reads, and whole sectors lost in crashes: never a wrong entry.
#[test]
fn many_faults_never_make_an_entry_wrong() {
    let modes = [CrashMode::DropOnly, CrashMode::Corrupt, CrashMode::LoseSectors];
    for seed in 0..1500 {
        let mut draw = Draw::new(seed, "faults", 0);
        let mut member = Member::new(seed, member_options(&mut draw));
        for _ in 0..draw.between(20, 80) {
            let result = member.random_step(&mut draw);
            if draw.hits(100_000) {
                let fault = *draw.pick(&SECTOR_FAULTS);
                let _ = member.disk.inject(fault, |name| name != "identity", &mut draw);
            }
            if result.is_err() || draw.hits(100_000) {
                if member.disk.is_off() || draw.hits(700_000) {
                    member.disk.crash(*draw.pick(&modes));
                }
                let least = member.states[0].clone();
                match member.open(&mut draw, &modes) {
                    Ok(opened) => {
                        let until = opened.recover_until;
                        let found = member.adopt(opened);
                        member.check_truth(&found);
                        match until {
                            Some(_) => member.heal(&least, found, until),
                            None => member.states = vec![found],
                        }
                    }
                    Err(OpenError::Halt { why }) => panic!("seed {seed}: {why}"),
                    Err(OpenError::Disk(error)) => panic!("seed {seed}: {error}"),
                }
            }
        }
    }
}

/// One slot of the mark may be damaged without any loss. Without both, nobody can say what was promised: the member asks the
/// others, as a disk that they do not know.
#[test]
fn the_marks_slots_one_at_a_time_and_both() {
    for slots in [&[0_usize][..], &[1], &[0, 1]] {
        let mut draw = Draw::new(7, "mark", 0);
        let mut member = Member::new(7, LogOptions::default());
        member.append(&mut draw).unwrap();
        let before = ModelLog::open(&member.disk, &identity(), LogOptions::default()).unwrap();
        for slot in slots {
            assert!(member.disk.rot_at("mark", slot * SECTOR + 70, 3));
        }
        let after = ModelLog::open(&member.disk, &identity(), LogOptions::default()).unwrap();
        let lost = slots.len() == 2;
        assert_eq!(after.recover_until, lost.then_some(UNKNOWN));
        assert_eq!(after.repaired.is_some(), lost, "{:?}", after.repaired);
        assert_eq!(after.storage_id != before.storage_id, lost);
        assert_eq!(after.log.all_entries(), member.now().entries);
        // The host says so to the peer: in the peer's terms nothing is told yet.
        assert_eq!(after.log.initial_state().unwrap().recover_until, None);
        // It stays so until the others have told it, and over crashes then too.
        member.disk.crash(CrashMode::Corrupt);
        let again = ModelLog::open(&member.disk, &identity(), LogOptions::default()).unwrap();
        assert_eq!((again.recover_until, again.storage_id), (after.recover_until, after.storage_id));
        let until = EntryId { index: 1000, term: 9 };
        again.log.recover_until(Some(until)).unwrap();
        member.disk.crash(CrashMode::Corrupt);
        let told = ModelLog::open(&member.disk, &identity(), LogOptions::default()).unwrap();
        assert_eq!(told.recover_until, Some(until));
        told.log.recover_until(Some(EntryId::default())).unwrap();
        let whole = ModelLog::open(&member.disk, &identity(), LogOptions::default()).unwrap();
        assert_eq!(whole.recover_until, None);
    }
}

/// A rotten end of the WAL looks like a torn one; the mark knows better.
#[test]
fn rot_at_the_wals_end_is_found_by_the_mark() {
    let mut draw = Draw::new(3, "wal", 0);
    let mut member = Member::new(3, LogOptions::default());
    while member.now().entries.len() < 20 {
        member.append(&mut draw).unwrap();
    }
    let last = member.now().last();
    // The first WAL used is number 2 in file 0.
    assert!(member.disk.rot_at("wal-0", 900, 0));
    let opened = ModelLog::open(&member.disk, &identity(), LogOptions::default()).unwrap();
    assert!(opened.log.last() < last);
    assert_eq!(opened.recover_until, Some(last));
    let why = opened.repaired.clone().unwrap();
    assert!(why.contains(&format!("the mark says that {last} was durable")), "{why}");
    let found = member.adopt(opened);
    member.check_truth(&found);
}

/// A member on its way back takes in a snapshot, dies in the middle of that, and comes to the entry that it had lost: by then
/// with another chain value, since the chain began anew. It is not to take its own log for another's.
#[test]
fn a_snapshot_on_the_way_back_may_be_interrupted() {
    for cut in 0..40 {
        let mut draw = Draw::new(cut, "way back", 0);
        let mut member = Member::new(cut, LogOptions::default());
        let put = |member: &mut Member, entries: std::ops::Range<u64>| {
            let hard_state = HardState { current_term: 1, voted_for: None, commit_index: entries.start - 1 };
            let entries = entries.map(|index| member.known(entry(index, 1, 50))).collect();
            member.write(&Write { id: cut, hard_state, entries, sync: true }).unwrap();
        };
        (1..20).for_each(|index| put(&mut member, index..index + 1));
        assert!(member.disk.rot_at("wal-0", 900, 0));
        let opened = ModelLog::open(&member.disk, &identity(), LogOptions::default()).unwrap();
        assert_eq!(opened.recover_until, Some(EntryId { index: 19, term: 1 }));
        let found = member.adopt(opened);
        assert!(found.last().index < 15);
        member.states = vec![found];
        member.disk.cut_power_after(cut);
        let _ = member.install_at(EntryId { index: 15, term: 1 });
        member.disk.crash(CrashMode::DropOnly);
        let opened = ModelLog::open(&member.disk, &identity(), LogOptions::default()).unwrap();
        let found = member.adopt(opened);
        let next = found.last().index + 1;
        member.states = vec![found];
        put(&mut member, next..20);
        // The new mark may not have come through.
        member.disk.crash(CrashMode::DropOnly);
        member.reopen(&mut draw, &CRASH_MODES);
    }
}

/// The first error is final, whatever comes after it; what was acknowledged before is there at the next start.
#[test]
fn an_error_is_final() {
    for write in [true, false] {
        let mut draw = Draw::new(5, "eio", 0);
        let mut member = Member::new(5, LogOptions::default());
        member.append(&mut draw).unwrap();
        if write {
            member.disk.fail_next_write()
        } else {
            member.disk.fail_next_sync()
        }
        let error = member.append(&mut draw).unwrap_err();
        assert_eq!(error, if write { DiskError::Write("wal-0".into()) } else { DiskError::Sync("wal-0".into()) });
        assert_eq!(member.log().failure(), Some(error.clone()));
        assert_eq!(member.log().sync(), Err(error.clone()));
        assert_eq!(member.log().save_image(member.now().applied, disk_model::store(0)), Err(error));
        member.reopen(&mut draw, &CRASH_MODES);
    }
}

/// A failed sync keeps dirty pages readable that are not on the disk. They must not be relied on after the restart: opening
/// writes what it read once more.
#[test]
fn pages_lost_by_a_failed_sync_do_not_come_back_to_bite() {
    for seed in 0..500 {
        let mut draw = Draw::new(seed, "lost pages", 0);
        let mut member = Member::new(seed, member_options(&mut draw));
        for _ in 0..draw.between(1, 10) {
            member.append(&mut draw).unwrap();
        }
        member.disk.fail_next_sync();
        assert!(member.append(&mut draw).is_err());
        // The process comes back on the same pages, then the power goes.
        member.reopen(&mut draw, &CRASH_MODES);
        member.disk.crash(*draw.pick(&CRASH_MODES));
        member.reopen(&mut draw, &CRASH_MODES);
    }
}

/// ENOSPC ends the process and damages nothing; with space it goes on.
#[test]
fn a_full_disk_is_an_error_without_damage() {
    for seed in 0..200 {
        let mut draw = Draw::new(seed, "full", 0);
        let mut member = Member::new(seed, member_options(&mut draw));
        member.disk.set_capacity(member.disk.used() + usize::try_from(draw.below(12)).unwrap());
        let error = loop {
            if let Err(error) = member.append(&mut draw) {
                break error;
            }
        };
        assert!(matches!(error, DiskError::Full(_)), "seed {seed}: {error}");
        // Space for what an opening writes; a start without it fails the same way and may be repeated.
        for _ in 0..3 {
            let again = ModelLog::open(&member.disk, &identity(), member.options);
            assert!(matches!(again, Ok(_) | Err(OpenError::Disk(DiskError::Full(_)))), "seed {seed}: {again:?}");
        }
        member.disk.crash(*draw.pick(&CRASH_MODES));
        member.disk.set_capacity(usize::MAX);
        assert!(!member.disk.is_full());
        member.reopen(&mut draw, &CRASH_MODES);
    }
}

/// Another disk has another number; an old copy of this one has fewer incarnations.
#[test]
fn a_replaced_disk_can_be_told() {
    let mut draw = Draw::new(11, "replaced", 0);
    let mut member = Member::new(11, LogOptions::default());
    member.append(&mut draw).unwrap();
    let backup = member.disk.backup();
    let first = ModelLog::open(&member.disk, &identity(), LogOptions::default()).unwrap();
    member.append(&mut draw).unwrap();
    let second = ModelLog::open(&member.disk, &identity(), LogOptions::default()).unwrap();
    assert_eq!((first.storage_id, first.incarnation + 1), (second.storage_id, second.incarnation));
    member.disk.restore(&backup);
    let old = ModelLog::open(&member.disk, &identity(), LogOptions::default()).unwrap();
    assert_eq!((old.storage_id, old.incarnation, old.recover_until), (first.storage_id, first.incarnation, None));
    member.disk.wipe();
    let fresh = ModelLog::open(&member.disk, &identity(), LogOptions::default()).unwrap();
    assert!(fresh.fresh && fresh.incarnation == 1 && fresh.storage_id != first.storage_id);
    assert_eq!(fresh.log.last(), EntryId::default());
    let foreign = ModelLog::open(&member.disk, &disk_model::other_identity(), LogOptions::default());
    assert!(matches!(foreign, Err(OpenError::Halt { why }) if why.contains("belongs to member 2")));
}

/// What was acknowledged can be read back, however large.
#[test]
fn a_batch_larger_than_the_wal_is_read_back() {
    let mut draw = Draw::new(13, "large", 0);
    let mut member = Member::new(13, LogOptions { wal_bytes: 4096, tables_max: 2 });
    for index in 1..20 {
        let hard_state = HardState { current_term: 1, voted_for: None, commit_index: 0 };
        let bytes = if index % 3 == 0 { 2 << 20 } else { 100 };
        let entries = vec![member.known(entry(index, 1, bytes))];
        member.write(&Write { id: index, hard_state, entries, sync: true }).unwrap();
    }
    assert_eq!(member.log().entries(1..20, 1).unwrap().len(), 1);
    assert_eq!(member.log().entries(1..20, u64::MAX).unwrap(), member.now().entries);
    assert_eq!(member.log().entries(4..6, 2000).unwrap().len(), 2);
    assert!(member.log().entries(4..21, 2000).is_err());
    member.disk.crash(CrashMode::Corrupt);
    member.reopen(&mut draw, &CRASH_MODES);
}

/// The same seed, the same bytes and choices.
#[test]
fn a_run_is_repeated_by_its_seed() {
    let run = || {
        let mut draw = Draw::new(17, "again", 0);
        let (member, durable) = settled(17, &mut draw);
        (format!("{durable:?}"), member.disk.list(), member.disk.used(), draw.value())
    };
    assert_eq!(run(), run());
}
