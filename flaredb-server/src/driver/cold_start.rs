//! The first election after a start need not wait for an election timeout.
//!
//! When a whole cluster starts there is no leader whose silence would have to be waited out. So a node that is connected to a
//! majority and still hears no leader campaigns at once, once. Members take turns, by rank, so that they do not split the
//! vote. Where a leader lives, its heartbeat comes first; and if it does not, pre-votes are refused by those who hear it, so
//! the attempt changes nothing.

/// Ticks between the turns: one for the pre-vote's round, one for the vote's with its sync.
const TICKS_PER_RANK: u32 = 2;

/// Counts down to this node's turn.
pub(super) struct ColdStart {
    /// Ticks to wait once a majority is connected; None when it is over.
    wait: Option<u32>,
    majority: usize,
}

impl ColdStart {
    /// `rank`: this node's place among the members, from 0.
    pub(super) fn new(rank: usize, members: usize) -> Self {
        let rank = u32::try_from(rank).unwrap_or(u32::MAX);
        Self { wait: Some(rank.saturating_mul(TICKS_PER_RANK).saturating_add(1)), majority: members / 2 + 1 }
    }

    /// One tick has passed. True if this node is to campaign now. `connected` counts this node; it is not asked once this is over.
    pub(super) fn on_tick(&mut self, leader: Option<u64>, connected: impl FnOnce() -> usize) -> bool {
        let Some(wait) = self.wait else { return false };
        if leader.is_some() {
            self.wait = None;
            return false;
        }
        if connected() < self.majority {
            return false;
        }
        self.wait = wait.checked_sub(1);
        self.wait.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_take_turns_once_a_majority_is_connected() {
        let mut members: Vec<ColdStart> = (0..3).map(|rank| ColdStart::new(rank, 3)).collect();
        assert!(members.iter_mut().all(|member| !member.on_tick(None, || 1)), "alone nobody campaigns");
        let mut turns = Vec::new();
        for tick in 0..20 {
            for (rank, member) in members.iter_mut().enumerate() {
                if member.on_tick(None, || 2) {
                    turns.push((tick, rank));
                }
            }
        }
        assert_eq!(turns, [(1, 0), (3, 1), (5, 2)]);
    }

    #[test]
    fn a_leader_ends_it() {
        let mut member = ColdStart::new(0, 3);
        assert!(!member.on_tick(Some(7), || 3));
        assert!((0..20).all(|_| !member.on_tick(None, || 3)));
    }

    #[test]
    fn a_single_voter_leads_at_once() {
        let mut member = ColdStart::new(0, 1);
        assert!(!member.on_tick(None, || 1));
        assert!(member.on_tick(None, || 1));
    }
}
