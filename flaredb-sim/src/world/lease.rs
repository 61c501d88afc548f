//! The clock by which leases are counted: each process reads its node's, which runs at its own rate and never jumps or stands still
//! (ticks do; see `clock`). The world looks at every lease in true time.

use super::{Gone, World, id_of};
use crate::marks::Mark;
use crate::observed::Observed;
use crate::settings::Leases;
use flaredb_raft::PeerState;
use flaredb_replica::Input;

impl World {
    /// What a process that starts is told to pledge, and what one before it may have pledged, in µs.
    pub(crate) fn lease_of(&self, at: usize, incarnation: u64) -> (u64, u64) {
        let of = &self.settings.replica;
        let full = u64::from(of.election_timeout_ticks) * of.tick_us;
        match self.settings.leases {
            Leases::Off => (0, 0),
            Leases::All => (full, full),
            // One life with, the next without, as when somebody changes his mind.
            Leases::Some => (if (incarnation ^ id_of(at)).is_multiple_of(2) { full } else { 0 }, full),
        }
    }

    /// A process reads its clock: before a tick, as the server does, and before it takes its outputs. Now and then it does not.
    pub(crate) fn read_clock(&mut self, at: usize) -> Result<(), Gone> {
        if self.settings.leases == Leases::Off {
            return Ok(());
        }
        let now = self.now;
        let node = &mut self.nodes[at];
        if node.skips_clock.hits(125_000) {
            return Ok(());
        }
        let reading = node.clock.reading(now);
        self.step(at, Input::Clock { now: reading })?;
        self.see_lease(at);
        Ok(())
    }

    /// Shows the checkers that a node could serve reads by its lease right now.
    fn see_lease(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(replica) = node.replica.as_ref() else { return };
        if !replica.peer().holds_lease(node.clock.reading(self.now)) {
            return;
        }
        let term = replica.status().term;
        self.marks.hit(Mark::LeaseHeld);
        self.see(&Observed::LeaseHeld { node: id_of(at), term });
    }

    /// A leader was elected: nobody else may hold a lease.
    pub(crate) fn see_leases_of_others(&mut self, elected: usize) {
        for at in 0..self.nodes.len() {
            let leads = self.nodes[at].state() == Some(PeerState::Leader);
            if at != elected && leads {
                self.marks.hit(Mark::ElectedBesideLeader);
                self.see_lease(at);
            }
        }
    }
}
