//! The clients: each asks one thing at a time, through a member that changes now and then and when it does not answer, and
//! writes down what it asked and was told.

pub mod choose;
mod convert;
pub mod observe;

use crate::events::Events;
use crate::network::{MEMBERS, Place};
use choose::Chooser;
use convert::Request;
use flaredb_kv::{Command, RangeRequest, ResponseBody};
use flaredb_proto::etcdserverpb::kv_client::KvClient;
use flaredb_sim::history::{Op, Outcome, Record};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// After so long a client calls the outcome unknown.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What all clients share.
#[derive(Debug)]
pub struct Shared {
    /// The run's clock.
    pub events: Arc<Events>,
    /// Where the members are.
    pub places: Vec<Place>,
    /// Ends the clients.
    pub stop: AtomicBool,
    /// Requests that could not be sent at all: nobody listened.
    pub unsent: AtomicU64,
    history: Mutex<Vec<Record>>,
    next_id: AtomicU64,
    next_client: AtomicU64,
    known: AtomicI64,
}

impl Shared {
    /// Before the first request.
    pub fn new(events: Arc<Events>, places: Vec<Place>) -> Self {
        Self {
            events,
            places,
            stop: AtomicBool::new(false),
            unsent: AtomicU64::new(0),
            history: Mutex::default(),
            next_id: AtomicU64::new(1),
            next_client: AtomicU64::new(1),
            known: AtomicI64::new(1),
        }
    }

    /// The history so far.
    pub fn history(&self) -> Vec<Record> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests so far.
    pub fn sent(&self) -> usize {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sends a request and writes down what came of it. None if it could not be sent: then it is not in the history.
    pub async fn ask(&self, link: &mut Connection, op: Op) -> Option<Outcome> {
        let Some(mut client) = link.open(&self.places).await else {
            self.unsent.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let invoked_at = self.events.now();
        let answered = timeout(ANSWER_WITHIN, perform(&mut client, &op)).await;
        let answered_at = self.events.now();
        let outcome = answered.unwrap_or(Outcome::Unknown);
        let client = link.client;
        if outcome == Outcome::Unknown {
            // Its request may be under way still: whoever goes on is another client.
            link.client = self.next_client.fetch_add(1, Ordering::Relaxed);
            link.channel = None;
        }
        let told = match &outcome {
            Outcome::Written(Ok(response)) => response.revision,
            Outcome::Read { revision, .. } => *revision,
            _ => 0,
        };
        self.known.fetch_max(told, Ordering::Relaxed);
        let record = Record {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            client,
            node: u64::try_from(link.member + 1).unwrap_or(0),
            invoked_at,
            answered_at,
            op,
            outcome: outcome.clone(),
        };
        self.history.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        Some(outcome)
    }
}

/// A client's connection to the member it uses now.
#[derive(Debug)]
pub struct Connection {
    /// Which client it is in the history.
    client: u64,
    /// Through which member.
    pub member: usize,
    channel: Option<Channel>,
}

impl Connection {
    /// To this member, not open yet.
    pub fn new(shared: &Shared, member: usize) -> Self {
        Self { client: shared.next_client.fetch_add(1, Ordering::Relaxed), member, channel: None }
    }

    /// To another member.
    pub fn move_to(&mut self, member: usize) {
        if member != self.member {
            self.member = member;
            self.channel = None;
        }
    }

    async fn open(&mut self, places: &[Place]) -> Option<KvClient<Channel>> {
        if self.channel.is_none() {
            let place = places.get(self.member)?;
            self.channel = timeout(ANSWER_WITHIN, observe::connect(place)).await.ok()?.ok();
        }
        self.channel.clone().map(|channel| KvClient::new(channel).max_decoding_message_size(1 << 28))
    }
}

/// A client, until it is stopped.
pub async fn client(shared: Arc<Shared>, mut chooser: Chooser, number: u64, every: Duration) {
    let start = usize::try_from(number).unwrap_or(0) % MEMBERS;
    let mut link = Connection::new(&shared, start);
    let mut ticks =
        interval_at(Instant::now() + every.mul_f64(0.1 * f64::from(u8::try_from(number % 10).unwrap_or(0))), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        if let Some(member) = chooser.wanders() {
            link.move_to(member);
        }
        let op = chooser.next_op(shared.known.load(Ordering::Relaxed));
        match shared.ask(&mut link, op).await {
            None | Some(Outcome::Unknown | Outcome::Never) => {
                link.move_to((link.member + 1) % MEMBERS);
                sleep(Duration::from_millis(50)).await;
            }
            Some(Outcome::Read { result: Ok(answer), .. }) => {
                for kv in answer.kvs {
                    chooser.seen.insert(kv.key.clone(), kv);
                }
            }
            Some(Outcome::Written(Ok(response))) => {
                if let ResponseBody::Txn(txn) = response.body {
                    for inner in txn.responses {
                        let ResponseBody::Range(answer) = inner.body else { continue };
                        for kv in answer.kvs {
                            chooser.seen.insert(kv.key.clone(), kv);
                        }
                    }
                }
            }
            Some(Outcome::Read { .. } | Outcome::Written(Err(_))) => {}
        }
    }
}

async fn perform(client: &mut KvClient<Channel>, op: &Op) -> Outcome {
    match op {
        Op::Write(command) => write(client, command).await,
        Op::Read(request) => read(client, request).await,
    }
}

async fn write(client: &mut KvClient<Channel>, command: &Command) -> Outcome {
    let answer = match convert::request(command) {
        Some(Request::Put(request)) => client.put(request).await.map(|answer| convert::put(answer.into_inner())),
        Some(Request::DeleteRange(request)) => {
            client.delete_range(request).await.map(|answer| convert::delete(answer.into_inner()))
        }
        Some(Request::Txn(request)) => client.txn(request).await.map(|answer| convert::txn(answer.into_inner())),
        Some(Request::Compact(request)) => {
            client.compact(request).await.map(|answer| convert::compact(&answer.into_inner()))
        }
        None => return Outcome::Never,
    };
    match answer {
        Ok(response) => Outcome::Written(Ok(response)),
        Err(status) => failed(&status),
    }
}

/// Of the errors only two kinds say what became of the write: a refusal by the rules, and one for want of room. Every other may
/// have happened or may yet.
fn failed(status: &Status) -> Outcome {
    if let Some(error) = convert::refusal(status) {
        return Outcome::Written(Err(error));
    }
    if status.code() == Code::ResourceExhausted { Outcome::Never } else { Outcome::Unknown }
}

async fn read(client: &mut KvClient<Channel>, request: &RangeRequest) -> Outcome {
    let Some(message) = convert::range_request(request) else { return Outcome::Never };
    match client.range(message).await {
        Ok(answer) => {
            let (revision, answer) = convert::range(answer.into_inner());
            Outcome::Read { revision, result: Ok(answer) }
        }
        // An error's answer has no header.
        Err(status) => match convert::refusal(&status) {
            Some(error) => Outcome::Read { revision: 0, result: Err(error) },
            None => Outcome::Unknown,
        },
    }
}
