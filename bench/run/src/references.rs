//! What the machine gives without any server: syncs of bare files, a ping-pong over loopback. Measured in the same run, because
//! these drift as much as everything else does.

use crate::counters::{Disk, DiskCounters};
use crate::results::{References, Spread};
use flaredb_load::{LoadError, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;
/// A file that is written before is as long as this; its blocks are then written again from the beginning on.
const PREFILLED_BLOCKS: u64 = 4096;
const MESSAGE_BYTES: usize = 300;

fn spread(mut times: Vec<Duration>) -> Spread {
    times.sort();
    let at = |share: f64| {
        let place = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    };
    Spread { p50: at(0.5), p99: at(0.99) }
}

/// Writes and syncs a block again and again.
fn syncs(file: &File, prefilled: bool, lasts: Duration) -> std::io::Result<Vec<Duration>> {
    let block = [0x5a; BLOCK];
    let (begun, mut times, mut place) = (Instant::now(), Vec::new(), 0u64);
    while begun.elapsed() < lasts {
        let start = Instant::now();
        file.write_all_at(&block, place * BLOCK as u64)?;
        file.sync_data()?;
        times.push(start.elapsed());
        place = if prefilled { (place + 1) % PREFILLED_BLOCKS } else { place + 1 };
    }
    Ok(times)
}

fn some_files(folder: &Path, count: usize, prefilled: bool, lasts: Duration) -> std::io::Result<Vec<Duration>> {
    let mut files = Vec::new();
    for _ in 0..count {
        let file = tempfile::tempfile_in(folder)?;
        if prefilled {
            let filling = vec![0xa5; BLOCK * 256];
            for part in 0..PREFILLED_BLOCKS / 256 {
                file.write_all_at(&filling, part * filling.len() as u64)?;
            }
        }
        file.sync_all()?;
        files.push(file);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = files.iter().map(|file| scope.spawn(move || syncs(file, prefilled, lasts))).collect();
        let mut times = Vec::new();
        for thread in threads {
            times.extend(thread.join().map_err(|_| std::io::Error::other("a thread ended early"))??);
        }
        Ok(times)
    })
}

fn ping_pong(lasts: Duration) -> std::io::Result<Vec<Duration>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut message = [0; MESSAGE_BYTES];
        while far.read_exact(&mut message).and_then(|()| far.write_all(&message)).is_ok() {}
    });
    let (begun, mut times, mut message) = (Instant::now(), Vec::new(), [1; MESSAGE_BYTES]);
    while begun.elapsed() < lasts {
        let start = Instant::now();
        near.write_all(&message)?;
        near.read_exact(&mut message)?;
        times.push(start.elapsed());
    }
    drop(near);
    // It ends with its connection.
    let _ = echo.join();
    Ok(times)
}

/// All of them, `lasts` each.
pub(crate) fn measure(folder: &Path, disk: &Disk, lasts: Duration) -> Result<References> {
    let why = |error: std::io::Error| LoadError(format!("references in {}: {error}", folder.display()));
    let count = |begin: Option<DiskCounters>| Some(disk.counters()?.since(begin?));
    let begin = disk.counters();
    std::thread::sleep(Duration::from_secs(1));
    let idle = count(begin);
    let begin = disk.counters();
    let growing = some_files(folder, 1, false, lasts).map_err(why)?;
    let flushes_per_sync = count(begin).map(|by_us| by_us.flushes as f64 / growing.len().max(1) as f64);
    Ok(References {
        sync_prefilled: spread(some_files(folder, 1, true, lasts).map_err(why)?),
        sync_growing: spread(growing),
        sync_prefilled_three: spread(some_files(folder, 3, true, lasts).map_err(why)?),
        sync_growing_three: spread(some_files(folder, 3, false, lasts).map_err(why)?),
        ping_pong: spread(ping_pong(lasts).map_err(why)?),
        flushes_idle: idle.map(|idle| idle.flushes),
        written_idle: idle.map(|idle| idle.written),
        flushes_per_sync,
    })
}
