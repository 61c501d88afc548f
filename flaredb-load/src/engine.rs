//! Drives calls over connections from one thread, closed loop (each client asks again once it is answered) or open loop (a call
//! at each beat of a fixed rate, whatever the answers do; latency counts from the beat). All writes of one wake-up to one
//! connection leave in one system call.

use crate::call::{Answer, Method};
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::{LoadError, Result};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Calls in flight that an open loop does not go beyond. What is late counts from its beat all the same.
const OPEN_MAX: usize = 50_000;
/// How long the last answers are waited for.
const DRAIN: Duration = Duration::from_secs(15);

/// What is asked.
pub trait Workload {
    /// Writes the next message of a client into `message` (which is empty); none ends this client.
    fn next(&mut self, client: usize, message: &mut Vec<u8>) -> Option<Method>;

    /// Judges the answer.
    ///
    /// # Errors
    /// It is not what was asked for: it counts as an error and not as an operation.
    fn answered(&mut self, client: usize, answer: &Answer) -> std::result::Result<(), String> {
        let _ = client;
        if answer.status == 0 { Ok(()) } else { Err(answer.refusal()) }
    }
}

/// How calls follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many clients, each with one call in flight.
    Closed {
        /// Clients.
        clients: usize,
    },
    /// So many calls a second.
    Open {
        /// Calls a second.
        rate: f64,
    },
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How calls follow each other.
    pub pace: Pace,
    /// Not measured.
    pub warmup: Duration,
    /// Measured. A workload that ends by itself ends it earlier.
    pub measure: Duration,
}

/// Moments at which a run tells its host, who then reads the servers' counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The warm-up is over.
    Begin,
    /// The measurement is over.
    End,
}

/// Connections, and the one place where they are waited for.
pub struct Engine {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    connections: Vec<Connection>,
    /// Whether the kernel was asked to tell when a blocked connection can be written to.
    watched: Vec<bool>,
    turn: usize,
    message: Vec<u8>,
    done: Vec<(u64, Answer)>,
}

/// A call in flight: whose it is is its place in the table.
#[derive(Clone, Copy, Debug)]
struct Flight {
    /// Issued, or in an open loop meant to be issued.
    since: Instant,
}

impl Engine {
    /// Connects `each` times to each address; calls take turns over all of them, address by address.
    ///
    /// # Errors
    /// A connection fails.
    pub fn connect(addresses: &[SocketAddr], each: usize) -> Result<Self> {
        let kernel = |error: rustix::io::Errno| LoadError(format!("epoll: {error}"));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(kernel)?;
        let mut connections = Vec::new();
        for address in (0..each).flat_map(|_| addresses) {
            let connection = Connection::open(*address, Duration::from_secs(5))?;
            let socket = connection.socket();
            socket.set_nonblocking(true).map_err(|error| LoadError(format!("{address}: {error}")))?;
            let data = epoll::EventData::new_u64(connections.len() as u64);
            epoll::add(&epoll, socket, data, epoll::EventFlags::IN).map_err(kernel)?;
            connections.push(connection);
        }
        if connections.is_empty() {
            return Err(LoadError("no address to connect to".to_owned()));
        }
        let watched = vec![false; connections.len()];
        Ok(Self {
            epoll,
            events: Vec::with_capacity(64),
            connections,
            watched,
            turn: 0,
            message: Vec::new(),
            done: Vec::new(),
        })
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Makes load. `on_edge` is called when the measurement begins and when it ends.
    ///
    /// # Errors
    /// A connection breaks, the errors outnumber the good answers, or the last answers do not come.
    pub fn run(&mut self, work: &mut dyn Workload, plan: Plan, on_edge: &mut dyn FnMut(Edge)) -> Result<Outcome> {
        let latencies = Histogram::new_with_bounds(1_000, 3_600_000_000_000, 3)
            .map_err(|error| LoadError(format!("histogram: {error}")))?;
        let outcome = Outcome { operations: 0, errors: 0, first_error: None, elapsed: Duration::ZERO, latencies };
        let begun = Instant::now();
        let mut run = Run {
            outcome,
            flights: Vec::new(),
            free: Vec::new(),
            in_flight: 0,
            issued: 0,
            begin: begun + plan.warmup,
            end: begun + plan.warmup + plan.measure,
            measuring: false,
            retired: 0,
        };
        if let Pace::Closed { clients } = plan.pace {
            run.flights = vec![Flight { since: begun }; clients];
            for client in 0..clients {
                self.issue(work, &mut run, client, begun);
            }
        }
        loop {
            let now = Instant::now();
            if !run.measuring && now >= run.begin {
                run.measuring = true;
                on_edge(Edge::Begin);
                run.begin = Instant::now();
                run.end = run.begin + plan.measure;
            }
            let idle = matches!(plan.pace, Pace::Closed { clients } if run.retired == clients);
            if run.measuring && (now >= run.end || idle) {
                break;
            }
            let mut wake = if run.measuring { run.end } else { run.begin };
            if let Pace::Open { rate } = plan.pace {
                wake = wake.min(self.issue_due(work, &mut run, rate, begun, now));
            }
            self.turn_once(work, &mut run, plan.pace, wake)?;
        }
        run.end = Instant::now();
        run.outcome.elapsed = run.end - run.begin;
        on_edge(Edge::End);
        self.drain(work, &mut run, plan.pace)?;
        if run.in_flight > 0 {
            return Err(LoadError(format!("{} calls were not answered within {DRAIN:?}", run.in_flight)));
        }
        Ok(run.outcome)
    }

    /// Waits for the calls in flight; of an open loop those that were due in time still count.
    fn drain(&mut self, work: &mut dyn Workload, run: &mut Run, pace: Pace) -> Result<()> {
        run.measuring = matches!(pace, Pace::Open { .. });
        let deadline = Instant::now() + DRAIN;
        while run.in_flight > 0 && Instant::now() < deadline {
            run.retired = usize::MAX; // nobody asks again
            self.turn_once(work, run, pace, deadline)?;
        }
        Ok(())
    }

    /// Issues what is due in an open loop; gives the time of the next beat.
    fn issue_due(
        &mut self,
        work: &mut dyn Workload,
        run: &mut Run,
        rate: f64,
        begun: Instant,
        now: Instant,
    ) -> Instant {
        loop {
            let due = begun + Duration::from_secs_f64(run.issued as f64 / rate);
            if due > now || run.in_flight >= OPEN_MAX {
                return due.max(now + Duration::from_micros(10));
            }
            let slot = run.free.pop().unwrap_or_else(|| {
                run.flights.push(Flight { since: due });
                run.flights.len() - 1
            });
            self.issue(work, run, slot, due);
        }
    }

    fn issue(&mut self, work: &mut dyn Workload, run: &mut Run, client: usize, since: Instant) {
        self.message.clear();
        let Some(method) = work.next(client, &mut self.message) else {
            run.retired += 1;
            return;
        };
        run.flights[client].since = since;
        run.in_flight += 1;
        run.issued += 1;
        let turn = self.turn % self.connections.len();
        self.turn = turn + 1;
        self.connections[turn].submit(method, &self.message, client as u64);
    }

    /// Sends, waits until something comes or `wake`, takes what came.
    fn turn_once(&mut self, work: &mut dyn Workload, run: &mut Run, pace: Pace, wake: Instant) -> Result<()> {
        self.flush()?;
        let wait = wake.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(LoadError(format!("epoll: {error}"))),
        }
        let now = Instant::now();
        for event in 0..self.events.len() {
            let place = self.events[event].data.u64() as usize;
            let mut done = std::mem::take(&mut self.done);
            self.connections[place].read(&mut done);
            for (client, answer) in done.drain(..) {
                self.take(work, run, pace, client as usize, answer, now, place)?;
            }
            self.done = done;
            if let Some(broken) = self.connections[place].broken() {
                return Err(LoadError(format!("{}: {broken}", self.connections[place].address())));
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one answer with all that belongs to it; called in one place")]
    fn take(
        &mut self,
        work: &mut dyn Workload,
        run: &mut Run,
        pace: Pace,
        client: usize,
        answer: Answer,
        now: Instant,
        place: usize,
    ) -> Result<()> {
        run.in_flight -= 1;
        let since = run.flights[client].since;
        match work.answered(client, &answer) {
            Ok(()) => {
                let counts = match pace {
                    Pace::Closed { .. } => run.measuring,
                    Pace::Open { .. } => since >= run.begin && since < run.end,
                };
                if counts {
                    run.outcome.operations += 1;
                    run.outcome.latencies.saturating_record((now - since).as_nanos() as u64);
                }
            }
            Err(what) => {
                run.outcome.errors += 1;
                let address = self.connections[place].address();
                let first = run.outcome.first_error.get_or_insert_with(|| format!("{address}: {what}"));
                if run.outcome.errors > 1_000 && run.outcome.errors > run.outcome.operations {
                    return Err(LoadError(format!("nearly every call fails, the first with: {first}")));
                }
            }
        }
        let mut head = answer.head;
        head.clear();
        self.connections[place].spare.push(head);
        match pace {
            Pace::Closed { .. } if run.retired != usize::MAX => self.issue(work, run, client, now),
            Pace::Closed { .. } => {}
            Pace::Open { .. } => run.free.push(client),
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        for (place, connection) in self.connections.iter_mut().enumerate() {
            connection.flush();
            if connection.is_blocked() != self.watched[place] {
                self.watched[place] = connection.is_blocked();
                let data = epoll::EventData::new_u64(place as u64);
                let mut flags = epoll::EventFlags::IN;
                flags.set(epoll::EventFlags::OUT, connection.is_blocked());
                epoll::modify(&self.epoll, connection.socket(), data, flags)
                    .map_err(|error| LoadError(format!("epoll: {error}")))?;
            }
        }
        Ok(())
    }
}

/// The state of a run.
#[derive(Debug)]
struct Run {
    outcome: Outcome,
    /// By client, or by slot in an open loop.
    flights: Vec<Flight>,
    /// Slots that are free.
    free: Vec<usize>,
    in_flight: usize,
    issued: u64,
    begin: Instant,
    end: Instant,
    measuring: bool,
    /// Clients whose workload ended; usize::MAX while the last answers are waited for.
    retired: usize,
}
