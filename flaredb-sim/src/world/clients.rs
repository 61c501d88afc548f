//! The way of a request from its client to a node and of the answer back. Both ways may lose it; then its outcome is unknown,
//! whatever became of it.

use super::node::Arrived;
use super::{Happening, World, id_of};
use crate::faults::FaultKind;
use crate::history::{Op, Outcome, Record};
use crate::marks::Mark;
use crate::observed::Observed;
use crate::workload::Current;
use flaredb_kv::{Command, KvError, ResponseBody};

impl World {
    /// The client sends its next request.
    pub(crate) fn on_client_next(&mut self, client: usize) {
        if self.quiet || self.workload.clients[client].current.is_some() {
            return;
        }
        let reduction = self.faults.reduction();
        if reduction.requests_max.is_some_and(|max| self.workload.requests() >= max) {
            return;
        }
        let now = self.now;
        let id = self.workload.next_request(client, now).id;
        if self.faults.reduction().requests.contains(&id) {
            // Left out: as if the client had never thought of it.
            self.workload.clients[client].current = None;
            let pause = self.workload.pause_us(client);
            self.schedule(pause, Happening::ClientNext { client });
            return;
        }
        self.invoke(client);
    }

    /// Sends the client's current request.
    pub(crate) fn invoke(&mut self, client: usize) {
        let Some(Current { id, node, op, .. }) = &self.workload.clients[client].current else { return };
        let (id, node) = (*id, *node);
        self.watch.see(self.now, &Observed::Invoked { id, client: client_id(client), node: id_of(node), op });
        self.trace.tell(self.now, || format!("client {client} asks n{} (request {id}): {}", id_of(node), describe(op)));
        let settings = &self.settings.workload;
        let timing = &mut self.workload.clients[client].timing;
        let travels = timing.between(50, 500);
        let impatient = timing.below(1000) < settings.impatient && self.core.is_none();
        let lost = timing.hits(settings.loss) && self.core.is_none();
        let replica = &self.settings.replica;
        let patience = if impatient {
            timing.between(1_000, 500_000)
        } else {
            u64::from(replica.request_timeout_ticks) * replica.tick_us * 6 / 5 + 3_000_000
        };
        if lost && self.faults.allows(FaultKind::ClientLoss, client_id(client), id) {
            self.marks.hit(Mark::ClientRequestLost);
        } else {
            self.schedule(travels, Happening::RequestArrives { client, id });
        }
        self.schedule(patience, Happening::ClientGivesUp { client, id });
    }

    fn current(&self, client: usize, id: u64) -> Option<&Current> {
        self.workload.clients[client].current.as_ref().filter(|current| current.id == id)
    }

    pub(crate) fn on_request_arrives(&mut self, client: usize, id: u64) {
        let Some(node) = self.current(client, id).map(|current| current.node) else { return };
        if !self.nodes[node].is_up() {
            self.marks.hit(Mark::ClientRefusedByDownNode);
            self.workload.move_on(client);
            return self.answer(client, id, Outcome::Never);
        }
        self.arrives(node, Arrived::Request { client, id });
    }

    /// The state machine answers a read, now.
    pub(crate) fn serve_read(&mut self, at: usize, client: usize, id: u64) {
        let Some(current) = self.current(client, id) else { return };
        let (Op::Read(range), Some(replica)) = (&current.op, self.nodes[at].replica.as_ref()) else { return };
        let reader = replica.kv().reader();
        let revision = reader.applied().revision;
        let result = match reader.range(range) {
            Ok(result) => result,
            Err(error) => unreachable!("a store in memory does not fail: {error}"),
        };
        let mark = if range.serializable { Mark::ReadSerializable } else { Mark::ReadLinearizable };
        self.marks.hit_if(range.revision > 0 && result.is_ok(), Mark::ReadOldRevision);
        self.marks.hit_if(result.as_ref().is_ok_and(|range| range.more), Mark::ReadLimited);
        self.marks.hit(match result {
            Ok(_) => mark,
            Err(KvError::Compacted) => Mark::ReadCompacted,
            Err(_) => Mark::ReadFuture,
        });
        self.answer(client, id, Outcome::Read { revision, result });
    }

    /// The node has an answer; it travels back, or is lost.
    pub(crate) fn answer(&mut self, client: usize, id: u64, outcome: Outcome) {
        let loss = self.settings.workload.loss;
        let healed = self.core.is_some();
        let who = &mut self.workload.clients[client];
        let lost = who.timing.hits(loss) && !healed;
        let travels = who.timing.between(50, 500);
        let Some(current) = who.current.as_mut().filter(|current| current.id == id) else { return };
        if lost && self.faults.allows(FaultKind::ClientLoss, client_id(client), id) {
            self.marks.hit(Mark::ClientAnswerLost);
            return;
        }
        current.answer = Some(outcome);
        self.schedule(travels, Happening::AnswerArrives { client, id });
    }

    pub(crate) fn on_answer_arrives(&mut self, client: usize, id: u64) {
        let Some(current) = self.workload.clients[client].current.as_mut().filter(|current| current.id == id) else {
            return;
        };
        if let Some(outcome) = current.answer.take() {
            self.finish(client, outcome);
        }
    }

    pub(crate) fn on_client_gives_up(&mut self, client: usize, id: u64) {
        let Some(node) = self.current(client, id).map(|current| current.node) else { return };
        self.marks.hit(Mark::ClientGaveUp);
        if self.nodes[node].is_up() && self.workload.clients[client].timing.below(2) == 0 {
            self.arrives(node, Arrived::Cancel { id });
        }
        // The node may have died of that, and the client's request with it; it is the client's word that counts.
        self.workload.move_on(client);
        self.finish(client, Outcome::Unknown);
    }

    pub(crate) fn on_cut_off(&mut self, client: usize, id: u64) {
        let Some(current) = self.current(client, id) else { return };
        // An answer that left before the node died still comes.
        if current.answer.is_none() {
            self.marks.hit(Mark::ClientCutOff);
            self.workload.move_on(client);
            self.finish(client, Outcome::Unknown);
        }
    }

    fn finish(&mut self, client: usize, outcome: Outcome) {
        let Some(Current { id, node, op, invoked_at, .. }) = self.workload.clients[client].current.take() else {
            return;
        };
        self.workload.on_outcome(&op, &outcome);
        self.mark_outcome(&op, &outcome);
        let record =
            Record { id, client: client_id(client), node: id_of(node), invoked_at, answered_at: self.now, op, outcome };
        self.trace.tell(self.now, || format!("client {client} is told (request {id}): {}", told(&record.outcome)));
        self.watch.see(self.now, &Observed::Answered { record: &record });
        self.answered(record);
        let pause = self.workload.pause_us(client);
        self.schedule(pause, Happening::ClientNext { client });
    }

    fn mark_outcome(&mut self, op: &Op, outcome: &Outcome) {
        match (op, outcome) {
            (_, Outcome::Written(Err(KvError::Compacted | KvError::FutureRevision))) => {
                self.marks.hit(Mark::CompactRefused)
            }
            (_, Outcome::Written(Err(_))) => {
                self.marks.hit(Mark::WriteRefusedByState);
                self.marks.hit_if(matches!(op, Op::Write(Command::Txn(_))), Mark::TxnRefusedByState);
            }
            (Op::Write(command), Outcome::Written(Ok(response))) => self.marks.hit(match (command, &response.body) {
                (Command::Put(_), _) => Mark::PutAnswered,
                (Command::DeleteRange(_), _) => Mark::DeleteAnswered,
                (Command::Compact(_), _) => Mark::CompactAnswered,
                (Command::Txn(txn), ResponseBody::Txn(answer)) => {
                    let nested = |op: &flaredb_kv::RequestOp| matches!(op, flaredb_kv::RequestOp::Txn(_));
                    if txn.success.iter().chain(&txn.failure).any(nested) {
                        Mark::TxnNested
                    } else if answer.succeeded {
                        Mark::TxnSucceeded
                    } else {
                        Mark::TxnFailed
                    }
                }
                (Command::Txn(_), _) => Mark::TxnFailed,
            }),
            _ => {}
        }
    }
}

pub(crate) fn client_id(client: usize) -> u64 {
    u64::try_from(client).unwrap_or(u64::MAX)
}

fn describe(op: &Op) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match op {
        Op::Write(Command::Put(put)) => format!("put {} = {}", text(&put.key), text(&put.value)),
        Op::Write(Command::DeleteRange(delete)) => {
            format!("delete {}..{}", text(&delete.key), text(&delete.range_end).escape_default())
        }
        Op::Write(Command::Compact(compact)) => format!("compact to {}", compact.revision),
        Op::Write(Command::Txn(txn)) => {
            format!("txn if {} then {} else {}", txn.compare.len(), txn.success.len(), txn.failure.len())
        }
        Op::Read(range) => {
            let how = if range.serializable { "serializable" } else { "linearizable" };
            format!("range {}.. at {} {how}", text(&range.key).escape_default(), range.revision)
        }
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Written(Ok(response)) => format!("done at revision {}", response.revision),
        Outcome::Written(Err(error)) | Outcome::Read { result: Err(error), .. } => format!("refused: {error}"),
        Outcome::Read { revision, result: Ok(range) } => format!("{} keys at revision {revision}", range.count),
        Outcome::Never => "not done, and never will be".to_owned(),
        Outcome::Unknown => "nothing".to_owned(),
    }
}
