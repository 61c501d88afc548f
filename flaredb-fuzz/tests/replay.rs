//! Every file of every corpus, with the normal toolchain: what fuzzing has found stays found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    missing_docs
)]

use flaredb_fuzz::{TARGETS, Target, seeds, target};
use std::{env, fs, panic::AssertUnwindSafe, path::PathBuf};

fn corpora() -> PathBuf {
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    PathBuf::from(here).join("../fuzz/corpus")
}

/// The corpus of a target: (file name, content), in a fixed order.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = corpora().join(target.name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{} has no corpus: {error}", target.name));
    let mut files: Vec<_> = files
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn run(target: &Target, name: &str, bytes: &[u8]) {
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| (target.body)(bytes)));
    assert!(result.is_ok(), "{} fails on {name}: {bytes:?}", target.name);
}

#[test]
fn every_corpus_file_passes() {
    let mut files = 0;
    for target in TARGETS {
        let corpus = corpus(target);
        assert!(corpus.len() >= 5, "{} has a corpus worth the name", target.name);
        assert!(corpus.len() < 200, "{} has a small corpus", target.name);
        for (name, bytes) in &corpus {
            run(target, name, bytes);
        }
        files += corpus.len();
    }
    println!("{files} files of {} corpora", TARGETS.len());
}

#[test]
fn no_corpus_is_without_a_target() {
    for folder in fs::read_dir(corpora()).expect("the corpora are in the repository") {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(target(&name).is_some(), "{name} is nobody's corpus");
    }
}

/// Seeds and corpora a little changed, some thousand times: a fuzzer for those without a nightly toolchain.
#[test]
fn small_changes_of_the_corpora_pass() {
    let rounds = if cfg!(debug_assertions) { 20 } else { 200 };
    for target in TARGETS {
        let mut inputs: Vec<_> = corpus(target).into_iter().map(|(_, bytes)| bytes).collect();
        inputs.extend(seeds::of(target.name));
        let mut random = flaredb_sim::prf::Draw::new(3, target.name, 0);
        for round in 0..rounds * 10 {
            let mut bytes = random.pick(&inputs).clone();
            let other = random.pick(&inputs).clone();
            for _ in 0..random.between(1, 4) {
                if bytes.is_empty() {
                    break;
                }
                let at = random.below(bytes.len() as u64) as usize;
                match random.below(6) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes[at] = random.below(256) as u8,
                    2 => bytes.truncate(at),
                    3 => drop(bytes.remove(at)),
                    4 => bytes.insert(at, random.below(256) as u8),
                    _ => bytes = [&bytes[..at], &other[at.min(other.len())..]].concat(),
                }
            }
            bytes.truncate(target.bytes_max);
            run(target, &format!("change {round}"), &bytes);
        }
    }
}
