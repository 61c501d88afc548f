//! What went wrong, as gRPC: the one place that gives an error its code and its text.
//!
//! Codes and texts are etcd's (rpctypes/error.go), because clients compare both. Texts of our own begin with "flaredb: ".
//! Go clients repeat reads, and only reads, on `Unavailable`.

use flaredb_kv::{KvError, StoreError};
use tonic::{Code, Status};

use crate::driver::RequestError;

const NO_LEADER: &str = "etcdserver: no leader";
const LEADER_CHANGED: &str = "etcdserver: leader changed";
const LEADER_LOST: &str = "etcdserver: request timed out, possibly due to previous leader failure";
const TIMED_OUT: &str = "etcdserver: request timed out";
const STOPPED: &str = "etcdserver: server stopped";
const TOO_MANY_REQUESTS: &str = "etcdserver: too many requests";
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
/// Go's words for it.
const DEADLINE_EXCEEDED: &str = "context deadline exceeded";
const INVALID_CLIENT_API_VERSION: &str = "etcdserver: invalid client api version";

/// A refusal by the rules of the store: no effect, now or later.
pub(super) fn refused(error: KvError) -> Status {
    let code = match error {
        KvError::EmptyKey
        | KvError::KeyNotFound
        | KvError::ValueProvided
        | KvError::LeaseProvided
        | KvError::TooManyOps
        | KvError::DuplicateKey
        | KvError::InvalidSortOption
        | KvError::RequestTooLarge
        | KvError::Malformed => Code::InvalidArgument,
        KvError::Compacted | KvError::FutureRevision => Code::OutOfRange,
        KvError::LeaseNotFound => Code::NotFound,
    };
    Status::new(code, error.to_string())
}

/// The bytes of a request are not its message: gRPC's code for that, where [`refused`] would blame what the message says.
pub(super) fn undecodable(error: KvError) -> Status {
    match error {
        KvError::Malformed => internal("the request's bytes are not the message that this method takes"),
        other => refused(other),
    }
}

/// The client's time for this call is over. A write may take effect or not.
pub(super) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded(DEADLINE_EXCEEDED)
}

/// A write that was proposed and not answered with success. `LeaderLost` and `Timeout` leave open whether it happened.
pub(super) fn write_failed(error: RequestError) -> Status {
    match error {
        RequestError::LeaderLost => Status::unavailable(LEADER_LOST),
        other => request_failed(other),
    }
}

/// A read that was not answered. It can be repeated.
pub(super) fn read_failed(error: RequestError) -> Status {
    match error {
        RequestError::LeaderLost => Status::unavailable(LEADER_CHANGED),
        other => request_failed(other),
    }
}

fn request_failed(error: RequestError) -> Status {
    match error {
        RequestError::Refused(refusal) => refused(refusal),
        RequestError::NoLeader => no_leader(),
        RequestError::TooManyRequests => Status::resource_exhausted(TOO_MANY_REQUESTS),
        RequestError::LeaderLost => Status::unavailable(LEADER_CHANGED),
        RequestError::Timeout => Status::unavailable(TIMED_OUT),
        RequestError::Stopped => stopped(),
        RequestError::Internal(text) => internal(&text),
    }
}

/// There is no leader, and the client asked to be told at once, or waited in vain.
pub(super) fn no_leader() -> Status {
    Status::unavailable(NO_LEADER)
}

/// The node stops or has stopped.
pub(super) fn stopped() -> Status {
    Status::unavailable(STOPPED)
}

/// This node's data is larger than its quota. The write was not proposed: it never takes effect.
pub(super) fn no_space() -> Status {
    Status::resource_exhausted(NO_SPACE)
}

/// One of the texts that `Maintenance.Status` lists among a member's errors.
pub(super) fn no_leader_text() -> String {
    NO_LEADER.to_owned()
}

/// Another text among them, as etcd 3.6 prints an alarm, with the space at its end.
pub(super) fn no_space_alarm_text(member_id: u64) -> String {
    format!("memberID:{member_id} alarm:NOSPACE ")
}

/// A text of our own among them.
pub(super) fn recovering_text() -> String {
    "recovering: this member's disk holds less than it had acknowledged; it does not vote until it has caught up"
        .to_owned()
}

/// The metadata field `client-api-version` is not text.
pub(super) fn invalid_client_api_version() -> Status {
    Status::invalid_argument(INVALID_CLIENT_API_VERSION)
}

/// Only the leader can hand leadership over.
pub(super) fn not_leader() -> Status {
    Status::failed_precondition("etcdserver: not leader")
}

/// Leadership cannot go to someone who is not a member.
pub(super) fn bad_leader_transferee() -> Status {
    Status::failed_precondition("etcdserver: bad leader transferee")
}

/// The target did not become leader in time. It still may.
pub(super) fn transfer_timed_out() -> Status {
    Status::unavailable("etcdserver: request timed out, leader transfer took too long")
}

/// The store failed under a read.
pub(super) fn store_failed(error: &StoreError) -> Status {
    tracing::error!(%error, "a read failed in the store");
    internal(&error.to_string())
}

/// A read on a thread of its own did not come back: the node stops, or the read met a bug of ours.
pub(super) fn read_ended(error: &tokio::task::JoinError) -> Status {
    if error.is_cancelled() {
        return stopped();
    }
    tracing::error!(%error, "a read ended in a bug");
    internal("a read ended in a bug; the server's log says more")
}

/// Something that must not happen did. Our bug or a broken disk.
pub(super) fn internal(text: &str) -> Status {
    Status::internal(format!("flaredb: {text}"))
}

/// A part of etcd's API that this version does not have; `what` names it and says why or since what is missing.
pub(super) fn not_there_yet(what: &str) -> Status {
    Status::unimplemented(format!("flaredb: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_status(status: &Status, code: Code, text: &str) {
        assert_eq!((status.code(), status.message()), (code, text));
    }

    #[test]
    fn refusals_carry_etcds_codes_and_texts() {
        for (error, code, text) in [
            (KvError::EmptyKey, Code::InvalidArgument, "etcdserver: key is not provided"),
            (KvError::KeyNotFound, Code::InvalidArgument, "etcdserver: key not found"),
            (KvError::ValueProvided, Code::InvalidArgument, "etcdserver: value is provided"),
            (KvError::LeaseProvided, Code::InvalidArgument, "etcdserver: lease is provided"),
            (KvError::TooManyOps, Code::InvalidArgument, "etcdserver: too many operations in txn request"),
            (KvError::DuplicateKey, Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
            (KvError::InvalidSortOption, Code::InvalidArgument, "etcdserver: invalid sort option"),
            (KvError::RequestTooLarge, Code::InvalidArgument, "etcdserver: request is too large"),
            (KvError::Compacted, Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            (KvError::FutureRevision, Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
            (KvError::LeaseNotFound, Code::NotFound, "etcdserver: requested lease not found"),
            (KvError::Malformed, Code::InvalidArgument, "flaredb: malformed request"),
        ] {
            assert_status(&refused(error), code, text);
            assert_status(&write_failed(RequestError::Refused(error)), code, text);
            assert_status(&read_failed(RequestError::Refused(error)), code, text);
        }
    }

    #[test]
    fn failures_carry_etcds_codes_and_texts() {
        for (error, code, text) in [
            (RequestError::NoLeader, Code::Unavailable, "etcdserver: no leader"),
            (RequestError::TooManyRequests, Code::ResourceExhausted, "etcdserver: too many requests"),
            (RequestError::Timeout, Code::Unavailable, "etcdserver: request timed out"),
            (RequestError::Stopped, Code::Unavailable, "etcdserver: server stopped"),
            (RequestError::Internal("why".to_owned()), Code::Internal, "flaredb: why"),
        ] {
            assert_status(&read_failed(error.clone()), code, text);
            assert_status(&write_failed(error), code, text);
        }
        assert_status(&no_space(), Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
        assert_eq!(no_space_alarm_text(7), "memberID:7 alarm:NOSPACE ");
    }

    #[test]
    fn a_lost_leader_leaves_a_write_open_and_a_read_repeatable() {
        let write = write_failed(RequestError::LeaderLost);
        let text = "etcdserver: request timed out, possibly due to previous leader failure";
        assert_status(&write, Code::Unavailable, text);
        assert_status(&read_failed(RequestError::LeaderLost), Code::Unavailable, "etcdserver: leader changed");
    }

    #[test]
    fn texts_of_our_own_say_whose_they_are() {
        assert_status(&not_there_yet("no leases yet"), Code::Unimplemented, "flaredb: no leases yet");
        assert_status(&store_failed(&StoreError("bad block".to_owned())), Code::Internal, "flaredb: bad block");
        let version = "etcdserver: invalid client api version";
        assert_status(&invalid_client_api_version(), Code::InvalidArgument, version);
    }

    #[tokio::test]
    async fn a_read_cut_off_by_the_end_of_the_node_says_so() {
        let task = tokio::spawn(std::future::pending::<()>());
        task.abort();
        assert_status(&read_ended(&task.await.unwrap_err()), Code::Unavailable, "etcdserver: server stopped");
    }
}
