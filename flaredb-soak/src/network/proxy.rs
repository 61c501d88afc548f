//! A proxy for each directed pair of members: iptables leads what one dials of the other's peer port here, so that the members
//! know nothing of it and the sender is known by the port. Bytes are passed on late, slowly, in fits, or not at all, each
//! direction by the link of its own.
//!
//! What it is not: packets. A cut holds bytes back (as TCP does while packets are lost) and lets them go when it heals.

use super::namespaces::{CLIENT_ADDRESS, Namespaces, address};
use super::{Link, MEMBERS};
use crate::error::{Result, Why};
use flaredb_sim::prf::Draw;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// What is in flight on a slow link, in chunks of up to 16 KiB.
const CHUNKS_IN_FLIGHT: usize = 256;

/// State of one directed link: how it fares, and how often its connections were broken.
type State = (Link, u64);

/// The proxies.
#[derive(Debug)]
pub struct Proxies {
    links: BTreeMap<(usize, usize), watch::Sender<State>>,
}

impl Proxies {
    /// Listens, and leads the members here.
    ///
    /// # Errors
    /// A port or iptables fails.
    pub async fn start(namespaces: &Namespaces, seed: u64) -> Result<Self> {
        let mut links = BTreeMap::new();
        for from in 0..MEMBERS {
            for to in (0..MEMBERS).filter(|to| *to != from) {
                links.insert((from, to), watch::Sender::new((Link::Whole, 0)));
            }
        }
        for ((from, to), state) in &links {
            let Some(back) = links.get(&(*to, *from)) else { continue };
            let listener = TcpListener::bind((CLIENT_ADDRESS, 0)).await.why("a proxy's port")?;
            namespaces.divert(*from, *to, listener.local_addr().why("a proxy's port")?.port())?;
            let who = u64::try_from(from * MEMBERS + to).unwrap_or(0);
            let target = format!("{}:2380", address(*to));
            tokio::spawn(serve(listener, target, state.subscribe(), back.subscribe(), Draw::new(seed, "proxy", who)));
        }
        Ok(Self { links })
    }

    /// How a link fares from now on.
    pub fn set(&self, from: usize, to: usize, link: Link) {
        if let Some(state) = self.links.get(&(from, to)) {
            state.send_modify(|(now, _)| *now = link);
        }
    }

    /// Breaks the connections between two members.
    pub fn reset(&self, one: usize, other: usize) {
        if let Some(state) = self.links.get(&(one, other)) {
            state.send_modify(|(_, resets)| *resets += 1);
        }
    }
}

async fn serve(
    listener: TcpListener,
    target: String,
    there: watch::Receiver<State>,
    back: watch::Receiver<State>,
    mut draw: Draw,
) {
    let target: Arc<str> = target.into();
    while let Ok((stream, _)) = listener.accept().await {
        let (there, back, target) = (there.clone(), back.clone(), Arc::clone(&target));
        let (one, two) = (Draw::new(draw.value(), "there", 0), Draw::new(draw.value(), "back", 0));
        tokio::spawn(async move {
            // An error ends the connection, as it would without us.
            let _ = connect(stream, &target, there, back, one, two).await;
        });
    }
}

async fn connect(
    near: TcpStream,
    target: &str,
    mut there: watch::Receiver<State>,
    mut back: watch::Receiver<State>,
    one: Draw,
    two: Draw,
) -> io::Result<()> {
    uncut(&mut there).await?;
    uncut(&mut back).await?;
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (mut broken_there, mut broken_back) = (there.clone(), back.clone());
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        ended = pump(near_read, far_write, there, one) => ended,
        ended = pump(far_read, near_write, back, two) => ended,
        () = broken(&mut broken_there) => Ok(()),
        () = broken(&mut broken_back) => Ok(()),
    }
}

/// Waits until the link is not cut.
async fn uncut(state: &mut watch::Receiver<State>) -> io::Result<()> {
    state.wait_for(|(link, _)| *link != Link::Cut).await.map_err(io::Error::other)?;
    Ok(())
}

async fn broken(state: &mut watch::Receiver<State>) {
    let before = state.borrow().1;
    // The sender is gone: the run ends.
    let _ = state.wait_for(|(_, resets)| *resets != before).await;
}

/// Passes bytes on in order; those under way on a late link do not hold up reading.
async fn pump(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: watch::Receiver<State>,
    mut draw: Draw,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_IN_FLIGHT);
    let mut link = state.clone();
    let mut from = from;
    let reading = async move {
        loop {
            let mut chunk = vec![0; 16 * 1024];
            let length = from.read(&mut chunk).await?;
            if length == 0 {
                return io::Result::Ok(());
            }
            chunk.truncate(length);
            let late = match state.borrow().0 {
                Link::Late(ms) => Duration::from_millis(ms),
                _ => Duration::ZERO,
            };
            if sender.send((Instant::now() + late, chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((at, chunk)) = receiver.recv().await {
            sleep_until(at).await;
            let now = link.borrow().0;
            match now {
                // As long as TCP waits before it sends again; and now and then a connection that gives up.
                Link::Lossy(percent) if draw.below(100) < percent => {
                    if draw.below(40) == 0 {
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                    sleep(Duration::from_millis(draw.between(200, 600))).await;
                }
                Link::Slow(bytes) => {
                    let length = u64::try_from(chunk.len()).unwrap_or(0);
                    sleep(Duration::from_millis(length * 1000 / bytes.max(1))).await;
                }
                _ => {}
            }
            uncut(&mut link).await?;
            to.write_all(&chunk).await?;
        }
        to.shutdown().await
    };
    // After the last byte was read, what is under way is still written.
    tokio::try_join!(reading, writing).map(|_| ())
}
