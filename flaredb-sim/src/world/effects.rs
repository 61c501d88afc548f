//! The order of effects of a simulated process, line by line that of the server's driver, with a point between any two lines at
//! which the process may die.

use super::node::Arrived;
use super::{Gone, Happening, World, id_of, node_of};
use crate::history::Outcome;
use crate::marks::Mark;
use crate::observed::Observed;
use bytes::Bytes;
use flaredb_raft::{AppendResult, Body, Message, PeerState, PeerStatus, SendSnapshot};
use flaredb_replica::wire::{decode_messages, encode_messages};
use flaredb_replica::{Answer, Input, Output};

/// Outputs taken in one turn; what is left waits for the next one.
const TURN_OUTPUTS: usize = 1000;

impl World {
    /// Takes outputs until there are none.
    pub(crate) fn take_outputs(&mut self, at: usize) -> Result<(), Gone> {
        for _ in 0..TURN_OUTPUTS {
            let Some(replica) = self.nodes[at].replica.as_mut() else { return Err(Gone) };
            if !replica.has_output() {
                return Ok(());
            }
            let (before, applied) = (replica.status(), replica.kv().applied());
            let output = match replica.take_output() {
                Ok(output) => output,
                Err(error) => return Err(self.replica_failed(at, &error)),
            };
            let (after, to) = (replica.status(), replica.kv().applied());
            let node = id_of(at);
            self.watch.see(self.now, &Observed::Stepped { node, before: &before, after: &after });
            if to != applied {
                let kv = replica.kv();
                self.watch.see(self.now, &Observed::Applied { node, from: applied.index, to, kv });
                self.trace.add(to.index ^ (to.term << 32) ^ to.revision.unsigned_abs().rotate_left(16));
            }
            if before != after {
                self.on_status(at, &before, &after);
            }
            self.on_output(at, output)?;
        }
        Ok(())
    }

    fn on_output(&mut self, at: usize, output: Output) -> Result<(), Gone> {
        // Without `..`: an effect that is added does not compile until it has its place here.
        let Output { write, send_now, send_after_write, answers, truncate_log, install, send_snapshot, leadership: _ } =
            output;

        if let Some(write) = write {
            self.point(at, Mark::CrashBeforeWrite)?;
            assert!(self.nodes[at].after_write.is_none(), "the peer has one write out at a time");
            self.see(&Observed::WriteAsked { node: id_of(at), write: &write });
            self.nodes[at].after_write = Some((write.id, send_after_write));
            let synced = write.sync;
            if let Err(error) = self.nodes[at].disk.begin_write(write) {
                return Err(self.disk_failed(at, &error));
            }
            self.schedule_sync(at, synced);
            self.point(at, Mark::CrashAfterWriteHandedOver)?;
        } else {
            assert!(send_after_write.is_empty(), "messages wait for a write only if there is one");
        }
        self.send(at, send_now, Mark::CrashBetweenSends)?;

        self.point(at, Mark::CrashBeforeAnswers)?;
        for (ticket, answer) in answers {
            self.on_answer(at, ticket, answer);
            self.point(at, Mark::CrashBetweenAnswers)?;
        }

        if let Some(up_to) = truncate_log {
            // The log thread does one thing after the other.
            self.nodes[at].truncate_to = Some(up_to);
            if !self.nodes[at].disk.is_writing() {
                self.truncate(at)?;
            }
        }
        self.maybe_flush(at)?;

        for SendSnapshot { to, term } in send_snapshot {
            self.send_snapshot(at, node_of(to), term);
        }
        match install {
            None => Ok(()),
            Some(snapshot) => self.install(at, &snapshot),
        }
    }

    /// The log disk removes what it was told to remove.
    fn truncate(&mut self, at: usize) -> Result<(), Gone> {
        let Some(up_to) = self.nodes[at].truncate_to.take() else { return Ok(()) };
        self.point(at, Mark::CrashBeforeTruncation)?;
        let node = id_of(at);
        self.trace.tell(self.now, || format!("n{node} truncates its log up to {up_to}"));
        if let Err(error) = self.nodes[at].disk.truncate(up_to) {
            return Err(self.disk_failed(at, &error));
        }
        self.see(&Observed::Truncated { node, up_to });
        self.marks.hit(Mark::LogTruncated);
        self.point(at, Mark::CrashAfterTruncation)
    }

    /// When the write that was just handed over is done.
    fn schedule_sync(&mut self, at: usize, synced: bool) {
        let disk = &self.settings.disk;
        let node = &mut self.nodes[at];
        let mut takes = node.disk_time.below(20);
        if synced {
            takes += disk.sync_us + node.disk_time.below(disk.jitter_us + 1);
        }
        node.disk_free_at = node.disk_free_at.max(self.now).max(node.stalled_until) + takes;
        let (life, when) = (node.life, node.disk_free_at);
        self.schedule_at(when, Happening::Synced { node: at, life });
    }

    /// The log disk reports: what was written is durable.
    pub(crate) fn on_synced(&mut self, at: usize) -> Result<(), Gone> {
        let write = match self.nodes[at].disk.sync() {
            Ok(Some(write)) => write,
            Ok(None) => return Ok(()),
            Err(error) => return Err(self.disk_failed(at, &error)),
        };
        if write.sync {
            self.marks.hit(Mark::WriteDurable);
            self.see(&Observed::WriteDurable { node: id_of(at), write: &write });
        }
        self.point(at, Mark::CrashAfterSyncBeforeAcks)?;
        let (out, messages) = self.nodes[at].after_write.take().unzip();
        assert!(out == Some(write.id), "the write that is durable is the write that was out");
        self.send(at, messages.unwrap_or_default(), Mark::CrashBetweenAcks)?;
        self.point(at, Mark::CrashAfterAcksBeforeWriteDone)?;
        self.truncate(at)?;
        self.note_now(at)?;
        self.maybe_note(at, Some(write.hard_state.current_term))?;
        self.step(at, Input::WriteDone { id: write.id })
    }

    /// Sends messages, those for one peer in one frame as the transport does, in the order of the peers' first messages.
    pub(crate) fn send(&mut self, at: usize, messages: Vec<Message>, between: Mark) -> Result<(), Gone> {
        let mut rest = messages;
        while let Some(first) = rest.first() {
            let to = first.to;
            let (batch, others): (Vec<Message>, Vec<Message>) = if rest.iter().all(|message| message.to == to) {
                (std::mem::take(&mut rest), Vec::new())
            } else {
                rest.into_iter().partition(|message| message.to == to)
            };
            rest = others;
            self.marks.hit_if(batch.len() > 1, Mark::FramesOfManyMessages);
            for message in &batch {
                self.watch.see(self.now, &Observed::Sent { message });
                self.mark_message(message);
                self.trace.tell(self.now, || describe(message));
            }
            let mut payload = Vec::new();
            encode_messages(&batch, &mut payload);
            let payload = Bytes::from(payload);
            if batch
                .iter()
                .any(|message| matches!(&message.body, Body::AppendEntries { entries, .. } if !entries.is_empty()))
            {
                self.network.keep_append((at, node_of(to), self.nodes[at].incarnation), &payload);
            }
            self.send_payload(at, node_of(to), payload);
            self.point(at, between)?;
        }
        Ok(())
    }

    fn send_payload(&mut self, from: usize, to: usize, payload: Bytes) {
        let life = self.nodes[from].incarnation;
        let arrivals = self.network.send(self.now, (from, to, life), payload, &mut self.faults, &mut self.marks);
        for (when, slot) in arrivals.into_iter().flatten() {
            self.schedule_at(when, Happening::Frame { slot });
        }
    }

    /// A frame reaches a node's transport.
    pub(crate) fn on_frame(&mut self, slot: usize) {
        let Some(frame) = self.network.take(slot) else { return };
        self.trace.add(frame.checksum);
        let to = &mut self.nodes[frame.to];
        if !to.is_up() {
            self.marks.hit(Mark::FrameToDownNode);
            return;
        }
        if !frame.is_intact() {
            self.marks.hit(Mark::FrameCorruptedDropped);
            // Here the transport closes the connection. What the decoder makes of such bytes must be an error or messages, and
            // never a panic; either way nobody acts on them.
            match decode_messages(frame.payload) {
                Ok(_) => self.marks.hit(Mark::FrameCorruptedDecoderAccepted),
                Err(_) => self.marks.hit(Mark::FrameCorruptedDecoderRefused),
            }
            return;
        }
        let heard = &mut to.heard_lives[frame.from];
        if frame.life < *heard {
            if self.settings.network.gate_lives {
                self.marks.hit(Mark::FrameOfOldLifeDropped);
                return;
            }
            self.marks.hit(Mark::FrameReplayedFromEarlierLife);
        }
        *heard = frame.life.max(*heard);
        if !self.may_hear(frame.from, frame.to, frame.life) || !self.nodes[frame.to].is_up() {
            self.marks.hit(Mark::FrameBeforeMeeting);
            return;
        }
        self.marks.hit_if(frame.is_replay, Mark::FrameReplayed);
        self.arrives(frame.to, Arrived::Payload(frame.payload));
    }

    pub(crate) fn take_in_payload(&mut self, at: usize, payload: Bytes) -> Result<(), Gone> {
        let messages = match decode_messages(payload) {
            Ok(messages) => messages,
            Err(error) => unreachable!("a frame whose checksum is right was encoded by a peer: {error}"),
        };
        for message in messages {
            self.watch.see(self.now, &Observed::Delivered { message: &message });
            self.step(at, Input::Receive(message))?;
        }
        Ok(())
    }

    fn maybe_flush(&mut self, at: usize) -> Result<(), Gone> {
        let node = &mut self.nodes[at];
        let Some(replica) = node.replica.as_ref() else { return Err(Gone) };
        let applied = replica.kv().applied().index;
        if node.flushing.is_some() || applied < node.flushed_index + self.settings.replica.flush_entries {
            return Ok(());
        }
        let (state, image) = (replica.kv().applied(), replica.kv().store().clone());
        node.flushing = Some(applied);
        let takes = node.disk_time.between(100, self.settings.disk.flush_us);
        let life = node.life;
        if let Err(error) = node.disk.save_image(state, image) {
            return Err(self.disk_failed(at, &error));
        }
        self.schedule(takes, Happening::Flushed { node: at, life });
        Ok(())
    }

    pub(crate) fn on_flushed(&mut self, at: usize) -> Result<(), Gone> {
        let Some(applied_index) = self.nodes[at].flushing.take() else { return Ok(()) };
        if let Err(error) = self.nodes[at].disk.sync_image() {
            return Err(self.disk_failed(at, &error));
        }
        self.nodes[at].flushed_index = applied_index;
        self.marks.hit(Mark::FlushDone);
        self.step(at, Input::Flushed { applied_index })
    }

    fn on_answer(&mut self, at: usize, ticket: u64, answer: Answer) {
        let node = &mut self.nodes[at];
        let Some(place) = node.waiting.iter().position(|(waits, _)| *waits == ticket) else { return };
        let (_, client) = node.waiting.swap_remove(place);
        self.see(&Observed::RequestDone { node: id_of(at), id: ticket });
        let outcome = match answer {
            Answer::Applied(result) => Outcome::Written(result),
            Answer::ReadReady => return self.serve_read(at, client, ticket),
            Answer::NoLeader => {
                self.marks.hit(Mark::AnswerNoLeader);
                Outcome::Never
            }
            Answer::TooManyRequests => {
                self.marks.hit(Mark::AnswerTooManyRequests);
                Outcome::Never
            }
            Answer::LeaderLost => {
                self.marks.hit(Mark::AnswerLeaderLost);
                Outcome::Unknown
            }
            Answer::Timeout => {
                self.marks.hit(Mark::AnswerTimeout);
                Outcome::Unknown
            }
        };
        self.answer(client, ticket, outcome);
    }

    /// A peer's status changed.
    pub(crate) fn on_status(&mut self, at: usize, before: &PeerStatus, after: &PeerStatus) {
        self.trace.add(after.term ^ after.commit_index.rotate_left(20) ^ after.last_index.rotate_left(40));
        if after.term > before.term {
            self.marks.hit(Mark::TermRose);
            self.late_appends(at, after.term);
        }
        if before.state != after.state {
            match (before.state, after.state) {
                (_, PeerState::Leader) => {
                    self.marks.hit(Mark::LeaderElected);
                    self.see_leases_of_others(at);
                }
                (PeerState::Leader, _) => self.marks.hit(Mark::LeaderStepsDown),
                (PeerState::Candidate, _) => self.marks.hit(Mark::CandidateGivesUp),
                _ => {}
            }
            let id = id_of(at);
            self.trace.tell(self.now, || {
                format!(
                    "n{id}@{} is {:?} (was {:?}@{}), log ends at {}, commit {}",
                    after.term, after.state, before.state, before.term, after.last_index, after.commit_index
                )
            });
        }
        self.marks.hit_if(after.recovering && !before.recovering, Mark::PeerRecovering);
        if before.recovering && !after.recovering {
            self.marks.hit(Mark::PeerRecovered);
            (self.nodes[at].recovers, self.nodes[at].is_mute) = (false, false);
        }
        self.marks.hit_if(before.leader.is_some() && after.leader.is_none(), Mark::LeaderLost);
        self.marks.hit_if(after.last_index < before.last_index, Mark::LogSuffixReplaced);
    }

    fn mark_message(&mut self, message: &Message) {
        self.marks.hit(match &message.body {
            Body::PreVote { .. } => Mark::MessagePreVote,
            Body::PreVoteResponse { granted: true } => Mark::MessagePreVoteGranted,
            Body::PreVoteResponse { granted: false } => Mark::MessagePreVoteRefused,
            Body::RequestVote { .. } => Mark::MessageRequestVote,
            Body::RequestVoteResponse { granted: true } => Mark::MessageVoteGranted,
            Body::RequestVoteResponse { granted: false } => Mark::MessageVoteRefused,
            Body::AppendEntries { entries, .. } if entries.is_empty() => Mark::MessageHeartbeat,
            Body::AppendEntries { .. } => Mark::MessageAppend,
            Body::AppendEntriesResponse { result: AppendResult::Accepted { .. }, .. } => Mark::MessageAccepted,
            Body::AppendEntriesResponse { result: AppendResult::Rejected { .. }, .. } => Mark::MessageRejected,
            Body::AppendEntriesResponse { result: AppendResult::Lost { .. }, .. } => Mark::MessageLost,
            Body::Pledge { .. } => Mark::MessagePledge,
            Body::InstallSnapshot { .. } => Mark::MessageInstallSnapshot,
            Body::TimeoutNow => Mark::MessageTimeoutNow,
            Body::ReadIndex { .. } => Mark::MessageReadIndex,
            Body::ReadIndexResponse { index: Some(_), .. } => Mark::MessageReadIndexAnswered,
            Body::ReadIndexResponse { index: None, .. } => Mark::MessageReadIndexFailed,
            Body::Propose { .. } => Mark::MessagePropose,
            Body::ProposeRefused { .. } => Mark::MessageProposeRefused,
        });
    }
}

/// A message in one line.
fn describe(message: &Message) -> String {
    let Message { from, to, term, body, .. } = message;
    let what = match body {
        Body::AppendEntries { prev, commit_index, round, entries } => {
            let last = entries.last().map_or(*prev, flaredb_raft::RaftLogEntry::id);
            format!("AppendEntries after {prev}, {} to {last}, commit {commit_index}, round {round}", entries.len())
        }
        Body::Propose { seq, proposals } => format!("Propose {} (batch {seq})", proposals.len()),
        other => format!("{other:?}"),
    };
    format!("n{from}@{term} -> n{to}: {what}")
}
