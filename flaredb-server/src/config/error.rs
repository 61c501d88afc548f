//! What can be wrong with flags and environment: which one, its value, what is wrong with it and what to do.
//!
//! Every variant ends the process with exit code 2.

use std::{fmt, path::PathBuf};

/// Where a value came from; prints as the operator would write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line: the flag's name without dashes.
    Flag(&'static str),
    /// The environment: the variable's name.
    Env(String),
    /// Neither: the flag whose default it is.
    Default(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Env(variable) => write!(f, "{variable} (environment)"),
            Self::Default(flag) => write!(f, "--{flag} (default)"),
        }
    }
}

/// Why the settings are not usable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A flag that neither FlareDB nor etcd has.
    #[error("unknown flag --{flag}{}; `flaredb --help` lists all", did_you_mean("--", nearest))]
    UnknownFlag {
        /// Without dashes.
        flag: String,
        /// The flag that looks most like it.
        nearest: Option<String>,
    },
    /// The command line does not parse: a value is missing, a word is not a subcommand, ...
    #[error("{0}")]
    Usage(String),
    /// A flag of etcd's that would not do here what it says.
    #[error("{origin}={value}: refused: {reason}")]
    Refused {
        /// Who asked for it.
        origin: Origin,
        /// As given.
        value: String,
        /// Why, and what to do instead.
        reason: String,
    },
    /// One value, wrong by itself.
    #[error("{origin}={value:?}: {wrong}; {fix}")]
    BadValue {
        /// Who set it.
        origin: Origin,
        /// As given.
        value: String,
        /// What is wrong.
        wrong: String,
        /// What would be right.
        fix: String,
    },
    /// A URL that is not http://host:port.
    #[error("{origin}: {url:?}: {wrong}; write http://host:port")]
    BadUrl {
        /// Who set it.
        origin: Origin,
        /// As given.
        url: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// A TLS URL.
    #[error(
        "{origin}: {url:?}: https is not supported yet; use http:// on a network that only the members and their \
         clients can reach"
    )]
    Https {
        /// Who set it.
        origin: Origin,
        /// As given.
        url: String,
    },
    /// A host name where a local address must stand.
    #[error(
        "{origin}: {url:?}: {host:?} is a host name, and listening needs an address of this machine; write its IP \
         address, or http://0.0.0.0:{port} and the host name in --{advertise}"
    )]
    ListenHost {
        /// Who set it.
        origin: Origin,
        /// As given.
        url: String,
        /// The host name.
        host: String,
        /// Its port.
        port: u16,
        /// The flag that takes host names.
        advertise: &'static str,
    },
    /// Listening on all addresses says nothing about where others find this node.
    #[error(
        "{origin}: {url:?} is no address that others can connect to; add --{advertise} http://HOST:PORT with the name \
         or address by which they reach this machine"
    )]
    AdvertiseMissing {
        /// Who set the listen address.
        origin: Origin,
        /// The listen URL.
        url: String,
        /// The flag to add.
        advertise: &'static str,
    },
    /// An advertised URL that leads nowhere.
    #[error("{origin}: {url:?}: {wrong}, so others cannot connect to it; write the name or address of this machine")]
    AdvertiseUnusable {
        /// Who set it.
        origin: Origin,
        /// As given.
        url: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// One part of the initial cluster is malformed.
    #[error("{origin}: {entry:?}: {wrong}; write n1=http://host1:2380,n2=http://host2:2380,n3=http://host3:2380")]
    ClusterEntry {
        /// Who set it.
        origin: Origin,
        /// The part between two commas.
        entry: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// Two members of one name.
    #[error("{origin}: the name {name:?} is there twice; each member needs a name of its own and one URL")]
    DuplicateName {
        /// Who set it.
        origin: Origin,
        /// The name.
        name: String,
    },
    /// Two members behind one URL.
    #[error("{origin}: {first:?} and {second:?} both have {url}; each member needs a peer URL of its own")]
    DuplicateUrl {
        /// Who set it.
        origin: Origin,
        /// The URL.
        url: String,
        /// The member that has it.
        first: String,
        /// The member that has it too.
        second: String,
    },
    /// This node is not one of the members.
    #[error(
        "{origin}={name:?} is not in the initial cluster, which has {members}; set --name to one of them, or add \
         {name}=http://host:2380 to --initial-cluster on all members"
    )]
    NameNotInCluster {
        /// Who set the name.
        origin: Origin,
        /// This node's name.
        name: String,
        /// The members' names.
        members: String,
    },
    /// The others would look for this node elsewhere.
    #[error(
        "{origin}={advertised:?} does not match the initial cluster, where {name} has {expected:?}; make them equal, \
         or leave --initial-advertise-peer-urls out"
    )]
    AdvertiseMismatch {
        /// Who set the advertised URLs.
        origin: Origin,
        /// What is advertised.
        advertised: String,
        /// This node's name.
        name: String,
        /// What the initial cluster says.
        expected: String,
    },
    /// The voters are fixed: three, or one for development.
    #[error(
        "{origin}: {count} members; a FlareDB cluster has a fixed set of 3 voters (1 works for development); name \
         three members"
    )]
    VoterCount {
        /// Who set it.
        origin: Origin,
        /// How many there are.
        count: usize,
    },
    /// Followers would campaign between two heartbeats.
    #[error(
        "{origin}={election_ms}ms is less than 5 times the heartbeat interval ({heartbeat_ms}ms); raise \
         --election-timeout to at least {}ms or lower --heartbeat-interval",
        heartbeat_ms * 5
    )]
    ElectionTooShort {
        /// Who set the election timeout.
        origin: Origin,
        /// Milliseconds.
        election_ms: u64,
        /// Milliseconds.
        heartbeat_ms: u64,
    },
    /// The folder is etcd's.
    #[error(
        "{origin}: {} lies in a data folder of etcd, whose format FlareDB does not read; choose another folder and \
         copy the keys with a client (etcdctl make-mirror)",
        folder.display()
    )]
    EtcdFolder {
        /// Who set it.
        origin: Origin,
        /// As given.
        folder: PathBuf,
    },
    /// The cluster exists, but this member's data does not.
    #[error(
        "{origin}=existing, but {} holds no data of this member; a voter that lost its data may not vote as if it were \
         new: mount the right folder, or correct --data-dir. Only if the whole cluster has never run: \
         --initial-cluster-state new",
        folder.display()
    )]
    DataMissing {
        /// Who set the state.
        origin: Origin,
        /// Where the data should be.
        folder: PathBuf,
    },
}

fn did_you_mean(prefix: &str, nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!("; did you mean {prefix}{name}?"))
}
