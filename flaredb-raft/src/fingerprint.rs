//! A peer's state as a hash, for hosts that explore all reachable states (a model checker) and must know one again.
//!
//! Every structure is taken apart without `..`: a new field does not compile until it is decided whether it belongs here.
//! Ticks are hashed as distances from now, because nothing depends on how long a peer has been running.

use crate::forward::ForwardedProposals;
use crate::leader::{Leader, Transfer};
use crate::lease::{Lease, Pledge};
use crate::peer::{Peer, Writing};
use crate::read_index::{ForwardedReads, SentReads};
use crate::replication::{Mode, Progress};
use crate::role::{Follower, Role};
use crate::{Config, RaftStorage};
use core::hash::{Hash, Hasher};

impl<S: RaftStorage> Peer<S> {
    /// A copy over `storage`, which must hold what the present one holds. For storages whose clones share one disk.
    #[must_use]
    pub fn clone_onto(&self, storage: S) -> Self
    where
        S: Clone,
    {
        let mut copy = self.clone();
        copy.log.set_storage(storage);
        copy
    }

    /// Hashes everything that decides what this peer does next, except what the host has anyway: the settings, the storage,
    /// and the ids of writes (one is out at a time, so the host needs no name for it). Counters decide nothing.
    pub fn hash_state<H: Hasher>(&self, state: &mut H) {
        self.hash_timeless_state(state);
        (self.timeout, &self.prng).hash(state);
    }

    /// As [`Peer::hash_state`], without the random part of timeouts, drawn or to be drawn. For hosts that never let an election
    /// timeout pass but say `Campaign` whenever they like: to them nothing else is random.
    pub fn hash_timeless_state<H: Hasher>(&self, state: &mut H) {
        let Self {
            config,
            conf_state,
            term,
            voted_for,
            durable,
            role,
            log,
            writing,
            last_write_id: _,
            install,
            recovery,
            pledge: Pledge { now: clock, until, renewed_us },
            out,
            gated,
            flush_wanted,
            now,
            heard_at,
            timeout: _,
            prng: _,
            announced,
            counters: _,
            wire_id_base,
            reads_forwarded,
            proposals_forwarded,
            incarnation_mark,
            batches_forwarded,
            failed,
        } = self;
        (conf_state, term, voted_for, durable, install, recovery).hash(state);
        // A write that is late by this much is as late as any.
        let stalled = u64::from(config.write_stall_ticks) + u64::from(config.election_timeout_ticks) + 1;
        let age = |since: u64| (now - since).min(stalled);
        writing.map(|Writing { id: _, hard_state, since }| (hard_state, age(since))).hash(state);
        (out, gated, flush_wanted, announced, failed.is_some()).hash(state);
        (wire_id_base, reads_forwarded, proposals_forwarded, incarnation_mark, batches_forwarded).hash(state);
        (now - heard_at).hash(state);
        (until.saturating_sub(*clock), renewed_us).hash(state);
        log.hash_state(state);
        hash_role(role, *now, *clock, config, state);
    }
}

fn hash_role<H: Hasher>(role: &Role, now: u64, clock: u64, config: &Config, state: &mut H) {
    match role {
        Role::Follower(Follower { leader, ack, campaign_at, pledged_round, proposals, reads }) => {
            (0, leader, ack, campaign_at.map(|at| at.saturating_sub(now)), pledged_round).hash(state);
            let ForwardedProposals { unsent, unsent_bytes: _, sent } = proposals;
            unsent.hash(state);
            sent.len().hash(state);
            for (number, (ticket, expires_at)) in sent {
                (number, ticket, expires_at.saturating_sub(now)).hash(state);
            }
            let ForwardedReads { unsent, sent } = reads;
            unsent.hash(state);
            sent.len().hash(state);
            for (number, SentReads { ids, expires_at }) in sent {
                (number, ids, expires_at.saturating_sub(now)).hash(state);
            }
        }
        Role::PreCandidate(ballot) => (1, ballot).hash(state),
        Role::Candidate(ballot) => (2, ballot).hash(state),
        Role::Leader(leader) => {
            let Leader {
                followers,
                term_start,
                uncommitted_bytes,
                since,
                heartbeat_at,
                reads,
                lease: Lease { begun, from, is_over },
                accepted,
                transfer,
                scratch: _,
            } = leader.as_ref();
            // Silence longer than an election timeout is all the same.
            let age = |tick: u64| (now - tick).min(u64::from(config.election_timeout_ticks));
            (3, term_start, uncommitted_bytes, age(*since), now - heartbeat_at).hash(state);
            (reads, accepted).hash(state);
            // A lease that is older than what is trusted is as old as any.
            let lease_age = |began: u64| (clock - began).min(config.lease_us);
            (from.map(lease_age), is_over, begun.len()).hash(state);
            for (round, began) in begun {
                (round, lease_age(*began)).hash(state);
            }
            transfer.map(|Transfer { to, since, sent }| (to, age(since), sent)).hash(state);
            followers.len().hash(state);
            for (id, Progress { state: progress, mode, window, contact, acked_round, pledged_round, told_commit }) in
                followers
            {
                (id, progress, window, contact.map(age), acked_round, pledged_round, told_commit).hash(state);
                match mode {
                    Mode::Probe => 0.hash(state),
                    Mode::Replicate => 1.hash(state),
                    Mode::Snapshot { retry_at } => (2, retry_at.map(|at| at.saturating_sub(now))).hash(state),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, MemoryStorage};

    /// FNV-1a: no hasher comes without std.
    struct Fnv(u64);

    impl Hasher for Fnv {
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }

        fn finish(&self) -> u64 {
            self.0
        }
    }

    fn fingerprint(peer: &Peer<MemoryStorage>) -> u64 {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        peer.hash_state(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn equal_states_have_equal_hashes_however_long_they_took_and_a_copy_goes_its_own_way() {
        let disk = MemoryStorage::new(&[1, 2, 3]);
        let mut peer = Peer::new(Config::new(1, 1), disk.clone(), 0).unwrap();
        let before = fingerprint(&peer);
        peer.step(Event::Tick).unwrap();
        assert_ne!(fingerprint(&peer), before, "the timeout is nearer");
        let mut copy = peer.clone_onto(disk.deep_clone());
        assert_eq!(fingerprint(&copy), fingerprint(&peer));
        copy.step(Event::Campaign).unwrap();
        assert_ne!(fingerprint(&copy), fingerprint(&peer));
        peer.step(Event::Campaign).unwrap();
        assert_eq!(fingerprint(&copy), fingerprint(&peer), "the same events, the same state");
        copy.storage().put_hard_state(crate::HardState { current_term: 9, ..Default::default() });
        assert_eq!(peer.storage().hard_state().current_term, 0, "the disks are two");
    }
}
