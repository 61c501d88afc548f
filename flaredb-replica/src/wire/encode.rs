//! Messages to bytes. Cannot fail.

use super::tag;
use bytes::Bytes;
use flaredb_raft::{AppendResult, Body, EntryId, ForwardedProposal, Message, RaftLogEntry, RefuseReason, SnapshotMeta};

/// Appends the encoding of `messages` to `out`, which keeps what it holds.
pub fn encode_messages(messages: &[Message], out: &mut Vec<u8>) {
    out.reserve(messages.iter().map(size_hint).sum());
    length(messages.len(), out);
    for message in messages {
        encode_message(message, out);
    }
}

/// About what a message takes, so that a batch of large entries grows the buffer once.
fn size_hint(message: &Message) -> usize {
    let payload =
        |command: &Bytes, context: &Option<Bytes>| command.len() + context.as_ref().map_or(0, Bytes::len) + 24;
    64 + match &message.body {
        Body::AppendEntries { entries, .. } => entries.iter().map(|e| payload(&e.command, &e.context)).sum::<usize>(),
        Body::Propose { proposals, .. } => proposals.iter().map(|p| payload(&p.command, &p.context)).sum(),
        _ => 0,
    }
}

fn encode_message(message: &Message, out: &mut Vec<u8>) {
    let Message { from, to, region_id, term, body } = message;
    for value in [*from, *to, *region_id, *term] {
        integer(value, out);
    }
    match body {
        Body::PreVote { last } => {
            out.push(tag::PRE_VOTE);
            entry_id(*last, out);
        }
        Body::PreVoteResponse { granted } => {
            out.push(tag::PRE_VOTE_RESPONSE);
            boolean(*granted, out);
        }
        Body::RequestVote { last, transfer } => {
            out.push(tag::REQUEST_VOTE);
            entry_id(*last, out);
            boolean(*transfer, out);
        }
        Body::RequestVoteResponse { granted } => {
            out.push(tag::REQUEST_VOTE_RESPONSE);
            boolean(*granted, out);
        }
        Body::AppendEntries { prev, commit_index, round, entries } => {
            out.push(tag::APPEND_ENTRIES);
            entry_id(*prev, out);
            integer(*commit_index, out);
            integer(*round, out);
            list(entries, entry, out);
        }
        Body::AppendEntriesResponse { round, result } => {
            out.push(tag::APPEND_ENTRIES_RESPONSE);
            integer(*round, out);
            append_result(*result, out);
        }
        Body::Pledge { round, for_us } => {
            out.push(tag::PLEDGE);
            integer(*round, out);
            integer(*for_us, out);
        }
        Body::InstallSnapshot { snapshot: SnapshotMeta { last, conf_state } } => {
            out.push(tag::INSTALL_SNAPSHOT);
            entry_id(*last, out);
            list(&conf_state.voters, |voter, out| integer(*voter, out), out);
        }
        Body::TimeoutNow => out.push(tag::TIMEOUT_NOW),
        Body::ReadIndex { id } => {
            out.push(tag::READ_INDEX);
            integer(*id, out);
        }
        Body::ReadIndexResponse { id, index } => {
            out.push(tag::READ_INDEX_RESPONSE);
            integer(*id, out);
            boolean(index.is_some(), out);
            if let Some(index) = index {
                integer(*index, out);
            }
        }
        Body::Propose { seq, proposals } => {
            out.push(tag::PROPOSE);
            integer(*seq, out);
            list(proposals, proposal, out);
        }
        Body::ProposeRefused { tickets, reason } => {
            out.push(tag::PROPOSE_REFUSED);
            list(tickets, |ticket, out| integer(*ticket, out), out);
            out.push(match reason {
                RefuseReason::NoLeader => tag::NO_LEADER,
                RefuseReason::TooManyUncommitted => tag::TOO_MANY_UNCOMMITTED,
                RefuseReason::Transferring => tag::TRANSFERRING,
            });
        }
    }
}

fn append_result(result: AppendResult, out: &mut Vec<u8>) {
    match result {
        AppendResult::Accepted { match_index } => {
            out.push(tag::ACCEPTED);
            integer(match_index, out);
        }
        AppendResult::Rejected { prev_index, hint } => {
            out.push(tag::REJECTED);
            integer(prev_index, out);
            entry_id(hint, out);
        }
        AppendResult::Lost { last } => {
            out.push(tag::LOST);
            entry_id(last, out);
        }
    }
}

fn entry(entry: &RaftLogEntry, out: &mut Vec<u8>) {
    let RaftLogEntry { index, term, command, context } = entry;
    integer(*index, out);
    integer(*term, out);
    byte_string(command, out);
    optional_byte_string(context.as_ref(), out);
}

fn proposal(proposal: &ForwardedProposal, out: &mut Vec<u8>) {
    let ForwardedProposal { ticket, command, context } = proposal;
    integer(*ticket, out);
    byte_string(command, out);
    optional_byte_string(context.as_ref(), out);
}

fn entry_id(id: EntryId, out: &mut Vec<u8>) {
    integer(id.index, out);
    integer(id.term, out);
}

fn list<T>(items: &[T], item: impl Fn(&T, &mut Vec<u8>), out: &mut Vec<u8>) {
    length(items.len(), out);
    for value in items {
        item(value, out);
    }
}

fn byte_string(bytes: &Bytes, out: &mut Vec<u8>) {
    length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn optional_byte_string(bytes: Option<&Bytes>, out: &mut Vec<u8>) {
    match bytes {
        None => out.push(0),
        Some(bytes) => {
            length(bytes.len() + 1, out);
            out.extend_from_slice(bytes);
        }
    }
}

fn boolean(value: bool, out: &mut Vec<u8>) {
    out.push(u8::from(value));
}

#[expect(clippy::as_conversions, reason = "usize has at most 64 bits on every platform this builds for")]
fn length(value: usize, out: &mut Vec<u8>) {
    integer(value as u64, out);
}

#[expect(clippy::as_conversions, reason = "the value is masked to 7 bits")]
fn integer(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
