//! The log thread: the only place where this node waits for its log's disk. One job at a time, in order.

use super::{
    Failure,
    snapshots::{Switch, Switched},
};
use flaredb_raft::{EntryId, Write};
use flaredb_storage::LogWriter;
use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// After this long without a job the mark is synced: by itself it is only with the next batch.
const IDLE: Duration = Duration::from_millis(200);

enum LogJob {
    Write(Write),
    Truncate(EntryId),
    Switch(Box<Switch>),
    Recover(Option<EntryId>),
}

/// What the log thread says back.
pub(super) enum LogReport {
    /// This write is durable (or need not be, if it was not to be synced). `wal_ends_soon`: see the writer.
    Written { id: u64, wal_ends_soon: bool },
    /// A snapshot has taken the place of log and state.
    Switched(Box<Switched>),
    /// That this member must recover is on the disk.
    Noted,
    /// Final. Nothing follows.
    Failed(Failure),
}

/// The driver's end. Dropping it lets the thread finish what it has and end.
pub(super) struct LogThread {
    jobs: Option<Sender<LogJob>>,
    thread: Option<JoinHandle<()>>,
}

impl LogThread {
    pub(super) fn start(node: &str, writer: LogWriter) -> io::Result<(Self, UnboundedReceiver<LogReport>)> {
        let (jobs, jobs_receiver) = channel();
        // Unbounded, but at most one write is ever out.
        let (reports, reports_receiver) = unbounded_channel();
        let thread =
            thread::Builder::new().name(format!("log-{node}")).spawn(move || run(writer, &jobs_receiver, &reports))?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread) }, reports_receiver))
    }

    /// The report comes when it is durable.
    pub(super) fn write(&self, write: Write) {
        self.send(LogJob::Write(write));
    }

    /// No report, unless it fails.
    pub(super) fn truncate(&self, up_to: EntryId) {
        self.send(LogJob::Truncate(up_to));
    }

    /// A report comes when all of it is done.
    pub(super) fn switch(&self, switch: Switch) {
        self.send(LogJob::Switch(Box::new(switch)));
    }

    /// A report comes when it is noted on the disk that this member must come back to this position.
    pub(super) fn recover(&self, until: Option<EntryId>) {
        self.send(LogJob::Recover(until));
    }

    fn send(&self, job: LogJob) {
        if let Some(jobs) = &self.jobs {
            // If the thread is gone its reports' channel is closed, and that is what ends the driver.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has already shown itself as the end of its reports.
            let _ = thread.join();
        }
    }
}

/// Some(None): there was nothing to do for a while, and the mark can be brought up to the log. None: the node is going down.
fn next_job(writer: &LogWriter, jobs: &Receiver<LogJob>) -> Option<Option<LogJob>> {
    if !writer.mark_is_ahead() {
        return jobs.recv().ok().map(Some);
    }
    match jobs.recv_timeout(IDLE) {
        Ok(job) => Some(Some(job)),
        Err(RecvTimeoutError::Timeout) => Some(None),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

fn run(mut writer: LogWriter, jobs: &Receiver<LogJob>, reports: &UnboundedSender<LogReport>) {
    while let Some(next) = next_job(&writer, jobs) {
        let Some(job) = next else {
            match writer.sync_mark() {
                Ok(()) => continue,
                Err(error) => {
                    let _ = reports.send(LogReport::Failed(Failure::Log(error)));
                    return;
                }
            }
        };
        let done = match job {
            LogJob::Write(write) => {
                let written = writer.write(&write).map_err(Failure::Log);
                written.map(|()| {
                    reports.send(LogReport::Written { id: write.id, wal_ends_soon: writer.wal_ends_soon() }).is_ok()
                })
            }
            LogJob::Truncate(up_to) => writer.truncate_prefix(up_to).map(|()| true).map_err(Failure::Log),
            LogJob::Recover(until) => {
                writer.recover(until).map_err(Failure::Log).map(|()| reports.send(LogReport::Noted).is_ok())
            }
            LogJob::Switch(switch) => {
                switch.run(&mut writer).map(|switched| reports.send(LogReport::Switched(Box::new(switched))).is_ok())
            }
        };
        match done {
            Ok(true) => {}
            // Nobody listens: the node is going down.
            Ok(false) => return,
            Err(error) => {
                let _ = reports.send(LogReport::Failed(error));
                return;
            }
        }
    }
}
