//! openraft: three nodes on one single-threaded runtime, each other's messages by function call, logs in memory that keep the
//! payloads by reference. It is asynchronous through and through: what is measured includes its channels and tasks, because
//! nobody can have it without them.

use crate::Cluster;
use bytes::Bytes;
use futures_util::future::join_all;
use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot};
use openraft::{
    Config, Entry, EntryPayload, LogId, OptionalSend, Raft, RaftLogReader, RaftSnapshotBuilder, SnapshotMeta,
    SnapshotPolicy, StorageError, StorageIOError, StoredMembership, Vote,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Cursor;
use std::ops::RangeBounds;
use std::rc::Rc;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

openraft::declare_raft_types!(
    pub(crate) Types: D = Bytes, R = (), NodeId = u64, Node = ()
);

type Failure = StorageError<u64>;
type CallError<E> = RPCError<u64, (), RaftError<u64, E>>;
type Nodes = Rc<RefCell<BTreeMap<u64, Raft<Types>>>>;

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<LogInner>>);

#[derive(Default)]
struct LogInner {
    entries: BTreeMap<u64, Entry<Types>>,
    purged: Option<LogId<u64>>,
    vote: Option<Vote<u64>>,
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>, Failure> {
        Ok(self.0.borrow().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, Failure> {
        let log = self.0.borrow();
        let last = log.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last.or(log.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), Failure> {
        self.0.borrow_mut().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, Failure> {
        Ok(self.0.borrow().vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), Failure>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.0.borrow_mut().entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<u64>) -> Result<(), Failure> {
        self.0.borrow_mut().entries.split_off(&from.index);
        Ok(())
    }

    async fn purge(&mut self, to: LogId<u64>) -> Result<(), Failure> {
        let mut log = self.0.borrow_mut();
        log.purged = Some(to);
        log.entries = log.entries.split_off(&(to.index + 1));
        Ok(())
    }
}

/// A state machine that only notes how far it is.
#[derive(Clone, Default)]
struct Machine(Rc<RefCell<MachineInner>>);

#[derive(Default)]
struct MachineInner {
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, ()>,
}

fn never() -> Failure {
    StorageIOError::read_snapshot(None, &std::io::Error::other("no snapshots here")).into()
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, Failure> {
        Err(never())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId<u64>>, StoredMembership<u64, ()>), Failure> {
        let machine = self.0.borrow();
        Ok((machine.applied, machine.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, Failure>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut machine = self.0.borrow_mut();
        let mut answers = Vec::new();
        for entry in entries {
            machine.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = &entry.payload {
                machine.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
            }
            std::hint::black_box(entry);
            answers.push(());
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, Failure> {
        Err(never())
    }

    async fn install_snapshot(&mut self, _: &SnapshotMeta<u64, ()>, _: Box<Cursor<Vec<u8>>>) -> Result<(), Failure> {
        Err(never())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, Failure> {
        Ok(None)
    }
}

/// Calls of a node to one other.
struct Link {
    nodes: Nodes,
    target: u64,
}

impl Link {
    fn node(&self) -> Raft<Types> {
        self.nodes.borrow()[&self.target].clone()
    }

    fn failed<E: std::error::Error>(&self, error: RaftError<u64, E>) -> CallError<E> {
        RPCError::RemoteError(RemoteError::new(self.target, error))
    }
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, (), RaftError<u64>>> {
        self.node().append_entries(request).await.map_err(|error| self.failed(error))
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, CallError<InstallSnapshotError>> {
        self.node().install_snapshot(request).await.map_err(|error| self.failed(error))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, (), RaftError<u64>>> {
        self.node().vote(request).await.map_err(|error| self.failed(error))
    }
}

struct Links(Nodes);

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _: &()) -> Link {
        Link { nodes: self.0.clone(), target }
    }
}

/// Three nodes.
pub(crate) struct OpenRaft {
    runtime: Runtime,
    local: LocalSet,
    nodes: Nodes,
    machines: Vec<Machine>,
}

impl OpenRaft {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (local, nodes) = (LocalSet::new(), Nodes::default());
        let config = Config {
            // Nothing happens by time: as in the others, nobody ticks.
            enable_tick: false,
            enable_heartbeat: false,
            heartbeat_interval: 60_000,
            election_timeout_min: 300_000,
            election_timeout_max: 600_000,
            max_payload_entries: 1024,
            snapshot_policy: SnapshotPolicy::Never,
            ..Config::default()
        };
        let config = Arc::new(config.validate().expect("a good configuration"));
        let machines = vec![Machine::default(), Machine::default(), Machine::default()];
        local.block_on(&runtime, async {
            for (id, machine) in (1..).zip(&machines) {
                let links = Links(nodes.clone());
                let node = Raft::new(id, config.clone(), links, Log::default(), machine.clone()).await.expect("a node");
                nodes.borrow_mut().insert(id, node);
            }
            let first = nodes.borrow()[&1].clone();
            first.initialize(BTreeMap::from([(1, ()), (2, ()), (3, ())])).await.expect("a new cluster");
            first.wait(None).current_leader(1, "the first leads").await.expect("a leader");
        });
        Self { runtime, local, nodes, machines }
    }
}

impl Cluster for OpenRaft {
    fn commit(&mut self, batch: u64, payload: &Bytes) {
        let leader = self.nodes.borrow()[&1].clone();
        self.local.block_on(&self.runtime, async {
            let writes = (0..batch).map(|_| leader.client_write(payload.clone()));
            for answer in join_all(writes).await {
                answer.expect("a leader that takes writes");
            }
        });
    }

    /// The followers hear of the last commit with the next entries: they may be one batch behind.
    fn applied(&self) -> [u64; 3] {
        [0, 1, 2].map(|place| self.machines[place].0.borrow().applied.map_or(0, |id| id.index))
    }
}
