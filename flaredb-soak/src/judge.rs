//! After the faults: everything must work again within bounded time, every member must hold the same, and what clients were told
//! must be strictly serializable.

use crate::cluster::{Cluster, tail};
use crate::error::{Result, SoakError};
use crate::network::MEMBERS;
use crate::workload::choose::{END, FIRST};
use crate::workload::{Connection, Shared, observe};
use bytes::Bytes;
use flaredb_kv::{Command, KeyValue, PutRequest, RangeRequest};
use flaredb_proto::etcdserverpb::{HashKvRequest, maintenance_client::MaintenanceClient};
use flaredb_sim::check::history::{FinalState, HistoryReport, check_history};
use flaredb_sim::history::{Op, Outcome, Record};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long the members may take until their contents agree, once all of them serve.
const AGREE_WITHIN: Duration = Duration::from_secs(20);

/// What the end showed.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Broken rules.
    pub violations: Vec<String>,
    /// Until every member served a write and a linearizable read.
    pub recovered_ms: Option<u64>,
    /// What the checker checked.
    pub checked: HistoryReport,
    /// The content at the end.
    pub last: FinalState,
    /// Falsified copies of this very history that the checker was shown.
    pub lies_told: u64,
    /// Of these, those that it rejected.
    pub lies_caught: u64,
}

/// Waits for progress, compares the members, checks the history.
///
/// # Errors
/// No member is left to judge.
pub async fn judge(cluster: &mut Cluster, shared: &Shared, patience: Duration) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let start = Instant::now();
    let mut serving = Vec::new();
    for number in 0..MEMBERS {
        match progress(cluster, shared, number, start + patience).await? {
            Progress::Serves => serving.push(number),
            Progress::Halted => {}
            Progress::None(why) => {
                let log = cluster.member(number)?.log.clone();
                verdict.violations.push(format!(
                    "progress: n{} serves no write and linearizable read {} s after the faults ended: {why}; its log: {}",
                    number + 1,
                    patience.as_secs(),
                    tail(&log)
                ));
            }
        }
    }
    if verdict.violations.is_empty() {
        verdict.recovered_ms = Some(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
    }
    verdict.violations.append(&mut cluster.findings);
    if serving.is_empty() {
        verdict.violations.push("progress: no member serves; the history was not checked".to_owned());
        return Ok(verdict);
    }
    match agree(shared, &serving).await {
        Ok(last) => verdict.last = last,
        Err((what, last)) => {
            verdict.violations.push(what);
            verdict.last = last;
        }
    }
    match check(&shared.history(), &verdict.last) {
        Ok(report) => {
            verdict.checked = report;
            if verdict.violations.is_empty() && report.undecided.is_none() {
                (verdict.lies_told, verdict.lies_caught) = told_lies(&shared.history(), &verdict.last);
            }
        }
        Err(what) => verdict.violations.push(what),
    }
    Ok(verdict)
}

/// The checker's word.
///
/// # Errors
/// The first rule that is broken, in words.
pub fn check(history: &[Record], last: &FinalState) -> std::result::Result<HistoryReport, String> {
    check_history(history, last).map_err(|violation| format!("{}: {}", violation.rule, violation.what))
}

/// Shows the checker this history with one thing changed, each of which a correct server cannot have answered: a verdict of "no
/// violation" is worth what the judge's eyes are. Gives told and caught.
pub fn told_lies(history: &[Record], last: &FinalState) -> (u64, u64) {
    let (mut told, mut caught) = (0, 0);
    let mut tell = |history: &[Record], last: &FinalState| {
        told += 1;
        // Undecided is not accepted: too many unknown writes could explain it.
        caught += u64::from(check(history, last).map_or(true, |report| report.undecided.is_some()));
    };
    // A key that was acknowledged is not there at the end.
    if !last.kvs.is_empty() {
        let mut short = last.clone();
        short.kvs.pop();
        tell(history, &short);
    }
    // The last acknowledged write is lost with its revision.
    let newest = history
        .iter()
        .filter_map(|record| match &record.outcome {
            Outcome::Written(Ok(response)) => Some(response.revision),
            _ => None,
        })
        .max();
    if newest == Some(last.revision) {
        let older = FinalState { revision: last.revision - 1, kvs: last.kvs.clone() };
        tell(history, &older);
    }
    // A read shows an older value under the newer revision.
    let mut changed = history.to_vec();
    let read = changed.iter_mut().rev().find_map(|record| match &mut record.outcome {
        Outcome::Read { result: Ok(answer), .. } => answer.kvs.first_mut(),
        _ => None,
    });
    if let Some(kv) = read {
        kv.value = Bytes::from_static(b"nobody wrote this");
        tell(&changed, last);
    }
    // A linearizable read goes back in time.
    let mut changed = history.to_vec();
    let read = changed.iter_mut().rev().find_map(|record| match (&record.op, &mut record.outcome) {
        (Op::Read(request), Outcome::Read { revision, result: Ok(_) }) if !request.serializable => Some(revision),
        _ => None,
    });
    if let Some(revision) = read
        && *revision > 2
    {
        *revision = 2;
        tell(&changed, last);
    }
    (told, caught)
}

enum Progress {
    Serves,
    Halted,
    None(String),
}

/// A write and a linearizable read through this member.
async fn progress(cluster: &mut Cluster, shared: &Shared, number: usize, end: Instant) -> Result<Progress> {
    let mut link = Connection::new(shared, number);
    let mut tries = 0;
    let mut why;
    loop {
        if cluster.look()?.contains(&number) {
            let member = cluster.member(number)?;
            if matches!(member.excuse, Some("bit-flip" | "wipe")) {
                member.halted = true;
            } else {
                cluster.start(number)?;
            }
        }
        if cluster.member(number)?.halted {
            return Ok(Progress::Halted);
        }
        tries += 1;
        let put = PutRequest {
            key: Bytes::from(format!("soak/end-{number}")),
            value: Bytes::from(format!("end {number} {tries}")),
            ..PutRequest::default()
        };
        match shared.ask(&mut link, Op::Write(Command::Put(put))).await {
            Some(Outcome::Written(Ok(_))) => match shared.ask(&mut link, Op::Read(everything())).await {
                Some(Outcome::Read { result: Ok(_), .. }) => return Ok(Progress::Serves),
                other => why = format!("read: {}", word(other.as_ref())),
            },
            other => why = format!("write: {}", word(other.as_ref())),
        }
        if Instant::now() > end {
            return Ok(Progress::None(why));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn word(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        None => "nobody listens",
        Some(Outcome::Unknown) => "no answer, or one that leaves it open",
        Some(Outcome::Never) => "refused for want of room",
        Some(Outcome::Written(_) | Outcome::Read { .. }) => "refused",
    }
}

fn everything() -> RangeRequest {
    RangeRequest { key: Bytes::from_static(FIRST), range_end: Bytes::from_static(END), ..RangeRequest::default() }
}

/// The content of each of these members, when it is the same everywhere. A write of unknown outcome may still come in between,
/// so it is read until they agree.
async fn agree(shared: &Shared, members: &[usize]) -> std::result::Result<FinalState, (String, FinalState)> {
    let end = Instant::now() + AGREE_WITHIN;
    loop {
        let mut contents: Vec<(usize, i64, Vec<KeyValue>)> = Vec::new();
        let mut hashes = Vec::new();
        for number in members {
            let mut link = Connection::new(shared, *number);
            if let Some(Outcome::Read { revision, result: Ok(answer) }) =
                shared.ask(&mut link, Op::Read(everything())).await
            {
                contents.push((*number, revision, answer.kvs));
            }
            hashes.push(hash(shared, *number).await);
        }
        let same_content = contents.len() == members.len()
            && contents.windows(2).all(|pair| matches!(pair, [a, b] if a.1 == b.1 && a.2 == b.2));
        let same_hash =
            hashes.iter().all(Result::is_ok) && hashes.windows(2).all(|pair| matches!(pair, [Ok(a), Ok(b)] if a == b));
        let last = contents.iter().max_by_key(|(_, revision, _)| *revision);
        let last = last.map(|(_, revision, kvs)| FinalState { revision: *revision, kvs: kvs.clone() });
        if same_content && same_hash {
            return Ok(last.unwrap_or_default());
        }
        if Instant::now() > end {
            let revisions: Vec<String> = contents
                .iter()
                .map(|(number, revision, kvs)| format!("n{}: revision {revision}, {} keys", number + 1, kvs.len()))
                .collect();
            let first = difference(&contents).unwrap_or_else(|| format!("HashKV: {hashes:?}"));
            let what = format!("contents: the members do not agree ({}): {first}", revisions.join("; "));
            return Err((what, last.unwrap_or_default()));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn difference(contents: &[(usize, i64, Vec<KeyValue>)]) -> Option<String> {
    let (one, _, kvs) = contents.first()?;
    contents.iter().skip(1).find_map(|(other, _, theirs)| {
        let missing = |here: &[KeyValue], there: &[KeyValue], has: usize, has_not: usize| {
            let kv = here.iter().find(|kv| !there.contains(kv))?;
            Some(format!("n{} has {kv:?}, n{} has not", has + 1, has_not + 1))
        };
        missing(kvs, theirs, *one, *other).or_else(|| missing(theirs, kvs, *other, *one))
    })
}

/// Hash of all revisions, with where it was taken.
async fn hash(shared: &Shared, number: usize) -> Result<(i64, i64, u32)> {
    let place = shared.places.get(number).ok_or_else(|| SoakError(format!("no member {number}")))?;
    let ask = async {
        let channel = observe::connect(place).await?;
        let answer = MaintenanceClient::new(channel).hash_kv(HashKvRequest::default()).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.to_string())
    };
    let answer = timeout(Duration::from_secs(5), ask).await.unwrap_or_else(|_| Err("no answer".to_owned()));
    let answer = answer.map_err(SoakError)?;
    Ok((answer.header.map_or(0, |header| header.revision), answer.compact_revision, answer.hash))
}
