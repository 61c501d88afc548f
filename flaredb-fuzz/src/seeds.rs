//! A few real values per target, encoded: where the search begins.

use bytes::Bytes;
use flaredb_kv::{
    Command, CompactRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest,
};
use flaredb_raft::{
    AppendResult, Body, ConfState, EntryId, ForwardedProposal, Message, RaftLogEntry, RefuseReason, SnapshotMeta,
};
use flaredb_record::record;
use flaredb_replica::{
    acquaintance::{Acquaintances, StartId},
    wire,
};

/// The seeds of a target; none for an unknown one.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "peer_messages" => batches().iter().map(|batch| encoded(batch)).collect(),
        "peer_frames" => crate::transport::seeds_of_frames(&batches()),
        "greeting" => crate::transport::seeds_of_greetings(),
        "snapshot_parts" => crate::transport::seeds_of_snapshot_parts(),
        "acquaintances" => acquaintances(),
        "log_record" => records(),
        "durable_mark" => crate::disk::seeds_of_marks(),
        "entry_context" => [1, 2, 3, 4, 128].map(|kind| [&[1, kind][..], &[7; 24]].concat()).to_vec(),
        "requests" => requests(),
        "config" => lines(),
        // Bytes without a format: every string is a program of some kind.
        "judgement" | "txn_trees" | "apply_purity" | "core_step" => {
            (0..12_u64).map(|seed| (0..400_u64).map(|at| noise(seed, at)).collect()).collect()
        }
        _ => Vec::new(),
    }
}

fn noise(seed: u64, at: u64) -> u8 {
    let [first, ..] = xorshift(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ xorshift(at + 1)).to_le_bytes();
    // Every third seed leans to small numbers.
    if seed.is_multiple_of(3) { first % 32 } else { first }
}

fn xorshift(mut x: u64) -> u64 {
    for _ in 0..3 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    x
}

fn encoded(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::encode_messages(messages, &mut out);
    out
}

fn batches() -> Vec<Vec<Message>> {
    let last = EntryId { index: 300, term: 5 };
    let entry = |index, context: Option<&'static [u8]>| RaftLogEntry {
        index,
        term: 5,
        command: Bytes::from_static(b"command"),
        context: context.map(Bytes::from_static),
    };
    let proposal = ForwardedProposal { ticket: 1 << 40, command: Bytes::from_static(b"c"), context: None };
    let bodies = vec![
        Body::PreVote { last },
        Body::PreVoteResponse { granted: true },
        Body::RequestVote { last, transfer: true },
        Body::RequestVoteResponse { granted: false },
        Body::AppendEntries { prev: last, commit_index: 299, round: 7, entries: Vec::new() },
        Body::AppendEntries {
            prev: last,
            commit_index: 299,
            round: 7,
            entries: vec![entry(301, None), entry(302, Some(b"context")), entry(303, Some(b""))],
        },
        Body::AppendEntriesResponse { round: 7, result: AppendResult::Accepted { match_index: 300 } },
        Body::AppendEntriesResponse { round: 0, result: AppendResult::Rejected { prev_index: 300, hint: last } },
        Body::InstallSnapshot { snapshot: SnapshotMeta { last, conf_state: ConfState { voters: vec![1, 2, 3] } } },
        Body::TimeoutNow,
        Body::Pledge { round: 7, for_us: 1_000_000 },
        Body::ReadIndex { id: u64::MAX },
        Body::ReadIndexResponse { id: 5, index: Some(300) },
        Body::ReadIndexResponse { id: 5, index: None },
        Body::Propose { seq: 1 << 41, proposals: vec![proposal.clone(), proposal] },
        Body::ProposeRefused { tickets: vec![1, 1 << 50], reason: RefuseReason::Transferring },
    ];
    let messages: Vec<_> =
        bodies.into_iter().map(|body| Message { from: 1, to: 2, region_id: 1, term: 5, body }).collect();
    let mut batches: Vec<_> = messages.iter().map(|message| vec![message.clone()]).collect();
    batches.extend([Vec::new(), messages]);
    batches
}

fn acquaintances() -> Vec<Vec<u8>> {
    let mut known = Acquaintances::default();
    let mut seeds = Vec::new();
    for member in 0..5 {
        seeds.push(known.encode());
        known.begin(StartId(500 + member));
        known.meet(member + 1, &[StartId(77 + member)]);
        if member == 1 {
            known.take_over(&[StartId(99)]);
            known.merge(9, [(1, &[StartId(98), StartId(97)][..])]);
        }
    }
    seeds
}

fn records() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (mode, context) in [(0, None), (1, Some(&b"context"[..])), (2, Some(b"")), (3, None), (0x13, Some(b"x"))] {
        let command = Bytes::from_static(b"a command");
        let context = context.map(Bytes::from_static);
        let mut bytes = Vec::new();
        record::encode(mode >> 4, 9, &RaftLogEntry { index: 3, term: 2, command, context }, &mut bytes);
        seeds.push([&[u8::try_from(mode).unwrap_or(0), 3, 9], bytes.as_slice()].concat());
    }
    seeds
}

fn requests() -> Vec<Vec<u8>> {
    let key = Bytes::from_static(b"key");
    let end = Bytes::from_static(b"kez");
    let put = PutRequest { key: key.clone(), value: Bytes::from_static(b"value"), prev_kv: true, ..Default::default() };
    let range = RangeRequest { key: key.clone(), range_end: end.clone(), limit: 3, revision: -1, ..Default::default() };
    let delete = DeleteRangeRequest { key: key.clone(), range_end: end.clone(), prev_kv: true };
    let compare = |target| Compare { result: CompareResult::Greater, target, key: key.clone(), range_end: end.clone() };
    let inner = TxnRequest { success: vec![RequestOp::Put(put.clone())], ..Default::default() };
    let txn = TxnRequest {
        compare: vec![compare(CompareTarget::Mod(0)), compare(CompareTarget::Value(Bytes::new()))],
        success: vec![RequestOp::Range(range.clone()), RequestOp::Txn(inner)],
        failure: vec![RequestOp::DeleteRange(delete.clone()), RequestOp::Nothing],
    };
    let mut deep = TxnRequest::default();
    for _ in 0..40 {
        deep = TxnRequest { success: vec![RequestOp::Txn(deep)], ..Default::default() };
    }
    let commands = [
        Command::Put(put),
        Command::DeleteRange(delete),
        Command::Txn(txn),
        Command::Txn(deep),
        Command::Compact(CompactRequest { revision: 5, physical: true }),
    ];
    let kinded = |kind: u8, bytes: Bytes| [&[kind], bytes.as_ref()].concat();
    let mut seeds: Vec<_> = commands.iter().map(|command| kinded(command.kind().into(), command.encode())).collect();
    seeds.push(kinded(0, range.encode()));
    seeds
}

fn lines() -> Vec<Vec<u8>> {
    [
        "--name\nn1\n--data-dir=/d\n--listen-client-urls\nhttp://10.0.0.1:2379\n--initial-cluster\nn1=http://10.0.0.1:2380",
        "-name=n2\n-heartbeat-interval\n50\n-election-timeout=1s\nETCD_NAME=n3\nFLAREDB_MAX_TXN_OPS=7",
        "--initial-cluster=n1=http://a:1,n2=http://[::1]:2,n1=http://b:3\n--initial-advertise-peer-urls=http://a:1,http://b:3",
        "--quota-backend-bytes\n-1\n--snapshot-count=10\n--max-request-bytes=1MiB\n--cert-file=x",
        "--listen-peer-urls=unix://x,https://0.0.0.0:0\n--listen-client-urls=http://localhost:70000",
        "dev\nstatus",
        "completions\nbash",
        "--help",
        "--nmae=n1\n--pre-vote=maybe\nETCD_UNKNOWN=1\nFLAREDB_PORT=tcp://1.2.3.4:5",
    ]
    .map(|line| line.as_bytes().to_vec())
    .to_vec()
}
