//! One network fault after the other.

use super::{Kind, Schedule};
use crate::error::Result;
use crate::events::Events;
use crate::network::{Link, MEMBERS, Network, Place};
use crate::workload::observe;
use flaredb_sim::prf::Draw;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Injects until `end`, and leaves the network whole.
///
/// # Errors
/// A tool fails.
pub async fn run(
    network: &mut Network,
    places: &[Place],
    mut schedule: Schedule,
    events: &Events,
    end: Instant,
) -> Result<()> {
    loop {
        let step = schedule.next_step();
        sleep_until((Instant::now() + Duration::from_millis(step.pause_ms)).min(end)).await;
        if Instant::now() >= end {
            return network.heal();
        }
        let mut draw = Draw::new(step.salt, "network", 0);
        let mut member = step.member;
        // The random kinds that are worth most at the leader go there every other time.
        let leader_wanted = step.kind == Kind::IsolateLeader || (step.kind != Kind::Isolate && draw.below(2) == 0);
        if leader_wanted && let Some(leader) = observe::leader(places).await {
            member = leader;
        }
        let other = if member == step.other { (member + 1) % MEMBERS } else { step.other };
        let others: Vec<usize> = (0..MEMBERS).filter(|other| *other != member).collect();
        let (link, detail) = match step.kind {
            Kind::Loss => {
                let percent = *draw.pick(&[5, 20, 50]);
                (Link::Lossy(percent), format!(" {percent} %"))
            }
            Kind::Delay => {
                let ms = *draw.pick(&[10, 50, 200, 600]);
                (Link::Late(ms), format!(" {ms} ms"))
            }
            Kind::Slow => {
                let bytes = *draw.pick(&[2_000, 20_000, 200_000]);
                (Link::Slow(bytes), format!(" {bytes} B/s"))
            }
            _ => (Link::Cut, String::new()),
        };
        let whom = if step.kind == Kind::Partial {
            format!("n{}-n{}", member + 1, other + 1)
        } else {
            format!("n{}", member + 1)
        };
        let event = events.begin(step.kind.name(), format!("{whom}{detail}"));
        match step.kind {
            Kind::Partial => {
                network.set(member, other, link)?;
                network.set(other, member, link)?;
            }
            Kind::Mute => {
                for other in &others {
                    network.set(member, *other, link)?;
                }
            }
            Kind::Deaf => {
                for other in &others {
                    network.set(*other, member, link)?;
                }
            }
            Kind::Reset => {
                for _ in 0..draw.between(1, 5) {
                    for other in &others {
                        network.reset(member, *other);
                        network.reset(*other, member);
                    }
                    sleep(Duration::from_millis(draw.between(20, 300))).await;
                }
            }
            _ => {
                for other in &others {
                    network.set(member, *other, link)?;
                    network.set(*other, member, link)?;
                }
            }
        }
        if step.kind != Kind::Reset {
            sleep_until((Instant::now() + Duration::from_millis(step.for_ms)).min(end)).await;
        }
        network.heal()?;
        events.end(event, "");
    }
}
