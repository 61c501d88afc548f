//! The order of effects on a real node, in one function. What a crash between any two of its lines leaves behind is what
//! recovery must live with.

use super::{Driver, Failure, Waiter, handle::RequestError};
use flaredb_kv::Response;
use flaredb_raft::{LeadershipChange, SendSnapshot};
use flaredb_replica::{Answer, Output};

impl Driver {
    /// Carries out one output. Nothing in it waits.
    pub(super) fn on_output(&mut self, output: Output) -> Result<(), Failure> {
        // Without `..`: an effect that is added does not compile until it has its place here.
        let Output { write, send_now, send_after_write, answers, truncate_log, install, send_snapshot, leadership } =
            output;

        // The disk first: it takes longest. Beside it go the messages that promise nothing.
        if let Some(write) = write {
            assert!(self.after_write.is_none(), "the peer has one write out at a time");
            self.after_write = Some((write.id, send_after_write));
            let term = write.hard_state.current_term;
            self.log.write(write);
            self.note_what_was_told_after(term);
        } else {
            assert!(send_after_write.is_empty(), "messages wait for a write only if there is one");
        }
        if !send_now.is_empty() {
            self.transport.send(send_now);
        }

        // Published before answered: whoever has an answer sees what it says.
        self.publish();
        if let Some(change) = leadership {
            self.on_leadership(&change);
        }
        for (ticket, answer) in answers {
            self.on_answer(ticket, answer);
        }

        if let Some(up_to) = truncate_log {
            self.truncate_log(up_to);
        }
        self.flushing.maybe_start(self.replica.kv().applied().index);

        for SendSnapshot { to, term } in send_snapshot {
            self.on_snapshot_wanted(to, term);
        }
        match install {
            None => Ok(()),
            Some(snapshot) => self.on_install(snapshot),
        }
    }

    fn publish(&mut self) {
        let applied_index = self.replica.kv().applied().index;
        let reader = (applied_index != self.published_index).then(|| self.replica.kv().reader());
        self.published_index = applied_index;
        self.publish_recovery();
        self.shared.publish(self.replica.status(), self.replica.counters(), reader);
    }

    /// The state machine is another one.
    pub(super) fn publish_reader(&mut self) {
        let reader = self.replica.kv().reader();
        self.published_index = reader.applied().index;
        self.shared.publish(self.replica.status(), self.replica.counters(), Some(reader));
    }

    fn on_answer(&mut self, ticket: u64, answer: Answer) {
        let outcome: Result<Option<Response>, RequestError> = match answer {
            Answer::Applied(Ok(response)) => Ok(Some(response)),
            Answer::Applied(Err(refusal)) => Err(RequestError::Refused(refusal)),
            Answer::ReadReady => Ok(None),
            Answer::NoLeader => Err(RequestError::NoLeader),
            Answer::TooManyRequests => Err(RequestError::TooManyRequests),
            Answer::LeaderLost => Err(RequestError::LeaderLost),
            Answer::Timeout => Err(RequestError::Timeout),
        };
        // Whoever has stopped waiting is no longer in the table, or does not look at the channel: both are fine.
        match (self.waiting.remove(&ticket), outcome) {
            (None, _) => {}
            (Some(Waiter::Write(waiter)), Ok(Some(response))) => drop(waiter.send(Ok(response))),
            (Some(Waiter::Write(waiter)), Err(error)) => drop(waiter.send(Err(error))),
            (Some(Waiter::Read(waiter)), Ok(None)) => drop(waiter.send(Ok(self.replica.kv().reader()))),
            (Some(Waiter::Read(waiter)), Err(error)) => drop(waiter.send(Err(error))),
            (Some(Waiter::Write(_)), Ok(None)) | (Some(Waiter::Read(_)), Ok(Some(_))) => {
                unreachable!("a write is answered with its outcome, a read with leave to read");
            }
        }
    }

    fn on_leadership(&mut self, change: &LeadershipChange) {
        let LeadershipChange { leader, term, lost_leadership, reason } = *change;
        let name = leader.map_or("none", |id| self.member_name(id));
        tracing::info!(node = %self.name, term, leader = name, lost_leadership, reason, "leadership changed");
        if leader.is_some() && !self.was_ready {
            self.was_ready = true;
            // Supervisors of etcd clusters wait for parts of these lines.
            tracing::info!(node = %self.name, "enabled capabilities for version {}", crate::api::ETCD_LEVEL);
            tracing::info!(node = %self.name, "published this member's client URLs to its peers");
            tracing::info!(node = %self.name, "ready to serve client requests");
        }
    }
}
