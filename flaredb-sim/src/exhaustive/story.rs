//! A trace as text: what happened, what was sent, and how the three nodes stand after each step.

use super::{
    explore::{Model, Step},
    node::{Action, Seen},
    state::State,
};
use flaredb_raft::{AppendResult, Body, Message};
use std::fmt::Write;
use xxhash_rust::xxh3::xxh3_64;

/// Walks from the first state along the fingerprints, then takes the step that broke a rule.
pub(super) fn tell(model: &mut Model, way: &[u64], last: Step) -> Vec<String> {
    let mut state = model.first();
    let mut lines = Vec::new();
    for fingerprint in way {
        let mut found = None;
        let taken = model.each_step(&state, |step, after| {
            let mut bytes = Vec::new();
            after.encode(&mut bytes);
            let is_it = xxh3_64(&bytes).max(1) == *fingerprint;
            if is_it {
                found = Some((step, after.clone()));
            }
            is_it
        });
        let (Ok(true), Some((step, after))) = (taken, found) else {
            lines.push("(a step is missing: two states share a fingerprint)".to_owned());
            return lines;
        };
        lines.push(line(model, &state, step));
        state = after;
    }
    lines.push(line(model, &state, last));
    lines
}

fn line(model: &Model, before: &State, step: Step) -> String {
    let Some(node) = before.nodes.get(step.node).map(|number| model.tables.node(*number)) else { return String::new() };
    let action = model.tables.action(step.event);
    let name = format!("n{}", node.seen.id);
    let mut text = match &action {
        Action::Campaign => format!("{name} has heard no leader for an election timeout"),
        Action::Heartbeat => format!("{name} is due to send heartbeats"),
        Action::FinishWrite => format!("{name}'s write is durable"),
        Action::Crash { write_survives: true } => format!("{name} crashes; the write that was out is on the disk"),
        Action::Crash { write_survives: false } => format!("{name} crashes and starts again"),
        Action::Propose(number) => format!("{name} takes proposal {}", char::from(b'a' + number)),
        Action::Receive(message) => {
            format!("{name} receives from n{}: {}", message.from, show(message))
        }
    };
    match node.after(&action, model.sabotage()) {
        Ok((after, sent)) => {
            for message in &sent {
                let _ = write!(text, "\n      -> n{}: {}", message.to, show(message));
            }
            let _ = write!(text, "\n      = {}", stands(&after.seen));
        }
        Err(violation) => {
            let _ = write!(text, "\n      !! {violation}");
        }
    }
    text
}

fn stands(seen: &Seen) -> String {
    let Seen { id, term, leads, commit, log, durable, writes, durable_term: _ } = seen;
    let durable: Vec<u64> = durable.iter().map(|(term, _)| *term).collect();
    let role = if *leads { ", leads" } else { "" };
    let writes = if *writes { ", a write is out" } else { "" };
    format!("n{id}@{term}{role}: log's terms {log:?}, durable {durable:?}, commit {commit}{writes}")
}

fn show(message: &Message) -> String {
    let term = message.term;
    let body = match &message.body {
        Body::PreVote { last } => format!("PreVote, log ends at {last}"),
        Body::PreVoteResponse { granted } => format!("PreVoteResponse {}", if *granted { "yes" } else { "no" }),
        Body::RequestVote { last, .. } => format!("RequestVote, log ends at {last}"),
        Body::RequestVoteResponse { granted } => format!("RequestVoteResponse {}", if *granted { "yes" } else { "no" }),
        Body::AppendEntries { prev, commit_index, entries, .. } => {
            let entries: Vec<String> = entries.iter().map(|entry| entry.id().to_string()).collect();
            format!("AppendEntries after {prev}: [{}], commit {commit_index}", entries.join(" "))
        }
        Body::AppendEntriesResponse { result: AppendResult::Accepted { match_index }, .. } => {
            format!("AppendEntriesResponse: matches up to {match_index}")
        }
        Body::AppendEntriesResponse { result: AppendResult::Rejected { prev_index, hint }, .. } => {
            format!("AppendEntriesResponse: {prev_index} does not match, hint {hint}")
        }
        other => format!("{other:?}"),
    };
    format!("[term {term}] {body}")
}
