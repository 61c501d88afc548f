//! What a request can be refused with. The texts are etcd's, byte for byte: clients match on them.

/// A definite refusal: the request has no effect, now or later.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KvError {
    /// A request, comparison or operation without a key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on an absent key; or a transaction's operation with nothing in it.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ignore_value` with a value.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` with a lease.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// More, or more deeply nested, operations than a transaction may have.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A transaction that puts a key twice, or puts and deletes it.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A sort order or target that does not exist.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// More bytes than a request may have.
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// The revision is below the compact revision, or compaction has been there already.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision has not been reached.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// A put names a lease that does not exist.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The request's bytes are not a request this version understands.
    #[error("flaredb: malformed request")]
    Malformed,
}
