//! What can be typed: commands, flags and help texts. Spelt as etcdctl spells them where etcdctl has them.
//!
//! Nothing here talks to a server.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::error::EXIT_CODES;
use crate::values::{parse_duration, parse_lease};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "flarectl",
    version,
    about = "FlareDB's command line; works against any server that speaks the etcd v3 API",
    after_help = AFTER_HELP.to_owned() + EXIT_CODES,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  flarectl put hello world
  flarectl get hello
  flarectl get --prefix svc/ -w json --decode utf8
  flarectl --endpoints 10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379 status
  flarectl txn 'version(\"hello\") = \"1\"' --then 'put hello again' --else 'get hello'

Endpoints come from --endpoints, else FLARECTL_ENDPOINTS, else ETCDCTL_ENDPOINTS, else 127.0.0.1:2379.
They are tried in order. A write is sent to a second endpoint only if it never left for the first.

";

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct GlobalArgs {
    /// Servers to talk to, comma separated, tried in order [default: 127.0.0.1:2379]
    #[arg(long, global = true, value_name = "HOST:PORT,...")]
    pub endpoints: Option<String>,
    /// How long to wait for a connection, for each endpoint
    #[arg(long, global = true, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    pub dial_timeout: Duration,
    /// How long to wait for the answer
    #[arg(long, global = true, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub command_timeout: Duration,
    /// Form of the output [default: simple; table for status and hash]
    #[arg(short, long, global = true, value_name = "FORM", ignore_case = true)]
    pub write_out: Option<WriteOut>,
    /// Print keys and values as hexadecimal escapes (simple and table)
    #[arg(long, global = true)]
    pub hex: bool,
    /// How keys and values look in json and jsonl
    #[arg(long, global = true, value_name = "ENCODING", default_value = "base64", ignore_case = true)]
    pub decode: Decode,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WriteOut {
    /// As etcdctl prints it
    Simple,
    /// One JSON document, as etcdctl prints it: ids decimal, keys and values base64
    Json,
    /// One JSON object a line: each key, member or endpoint
    Jsonl,
    /// A table
    Table,
}

/// How keys and values look in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Decode {
    /// As etcdctl prints them
    Base64,
    /// As text; bytes that are not UTF-8 become {"base64":"..."}
    Utf8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Store a value under a key
    Put(PutArgs),
    /// Read a key or a range of keys
    Get(GetArgs),
    /// Delete a key or a range of keys
    Del(DelArgs),
    /// Compare, then do one list of operations or another, all at once
    Txn(TxnArgs),
    /// Forget the history before a revision
    #[command(visible_alias = "compaction")]
    Compact(CompactArgs),
    /// Show the whole cluster: members, leader, lag, size
    Status(ClusterArgs),
    /// Show the members of the cluster
    #[command(subcommand)]
    Member(MemberCommand),
    /// Compare the data of the members; exit code 1 when they differ
    Hash(HashArgs),
    /// Check that each member can serve a linearizable read; exit code 5 when one cannot
    Health(ClusterArgs),
    /// Ask single endpoints, spelt as in etcdctl
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Make load on all endpoints and show rate and latencies
    Bench(BenchArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  flarectl completions bash > /etc/bash_completion.d/flarectl\n  \
        flarectl completions zsh > ~/.zfunc/_flarectl")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

/// `put`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  flarectl put hello world                       prints OK
  flarectl put hello again --prev-kv             prints OK, then the key and value it replaced
  flarectl put config - < config.json            the value is read from stdin, byte for byte
  flarectl put svc/1 up --lease 694d71ddacfda227
  flarectl put --ignore-value svc/1 --lease 0    keep the value, detach the lease
  flarectl put -- -key -value                    a key or value that begins with a dash")]
pub struct PutArgs {
    /// The key
    pub key: OsString,
    /// The value; `-`, or no value, reads it from stdin
    #[arg(allow_negative_numbers = true)]
    pub value: Option<OsString>,
    /// Print the key and value that were there before
    #[arg(long)]
    pub prev_kv: bool,
    /// Keep the value; the key must exist
    #[arg(long)]
    pub ignore_value: bool,
    /// Keep the lease; the key must exist
    #[arg(long)]
    pub ignore_lease: bool,
    /// Attach the key to this lease (hexadecimal)
    #[arg(long, value_name = "LEASE", default_value = "0", hide_default_value = true, value_parser = parse_lease)]
    pub lease: i64,
}

/// `get`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  flarectl get hello                             prints the key, then the value
  flarectl get hello --print-value-only
  flarectl get a z                               all keys from a up to, not including, z
  flarectl get --prefix svc/ --keys-only         one key a line
  flarectl get --prefix '' --count-only          how many keys there are
  flarectl get --prefix job/ --sort-by CREATE --order DESCEND --limit 10
  flarectl get hello --rev 7                     as it was at revision 7
  flarectl get hello --exists > /dev/null || echo 'no such key'")]
pub struct GetArgs {
    /// The key, or the first key of a range
    pub key: OsString,
    /// End of the range, exclusive
    pub range_end: Option<OsString>,
    /// All keys that begin with KEY
    #[arg(long, conflicts_with_all = ["from_key", "range_end"])]
    pub prefix: bool,
    /// All keys from KEY on
    #[arg(long, conflicts_with = "range_end")]
    pub from_key: bool,
    /// Read at this revision; 0 is now
    #[arg(long, value_name = "REV", default_value_t = 0, hide_default_value = true)]
    pub rev: i64,
    /// At most so many keys; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub limit: i64,
    /// Order of the keys
    #[arg(long, ignore_case = true)]
    pub order: Option<Order>,
    /// What to sort by
    #[arg(long, ignore_case = true)]
    pub sort_by: Option<SortBy>,
    /// Print no values
    #[arg(long)]
    pub keys_only: bool,
    /// Print only how many keys there are
    #[arg(long, conflicts_with_all = ["keys_only", "print_value_only"])]
    pub count_only: bool,
    /// Print only values
    #[arg(long, conflicts_with = "keys_only")]
    pub print_value_only: bool,
    /// l: linearizable, sees every acknowledged write; s: serializable, what this one member has
    #[arg(long, default_value = "l", ignore_case = true)]
    pub consistency: Consistency,
    /// The same as --consistency s
    #[arg(long)]
    pub serializable: bool,
    /// Exit with code 3 when nothing was found
    #[arg(long)]
    pub exists: bool,
}

/// Order of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Smallest first
    #[value(name = "ASCEND")]
    Ascend,
    /// Largest first
    #[value(name = "DESCEND")]
    Descend,
}

/// What to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SortBy {
    /// Revision of the key's creation
    #[value(name = "CREATE")]
    Create,
    /// The key itself
    #[value(name = "KEY")]
    Key,
    /// Revision of the last change
    #[value(name = "MODIFY")]
    Modify,
    /// The value
    #[value(name = "VALUE")]
    Value,
    /// How often it was written since it was created
    #[value(name = "VERSION")]
    Version,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// Linearizable
    #[value(name = "l")]
    Linearizable,
    /// Serializable
    #[value(name = "s")]
    Serializable,
}

/// `del`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  flarectl del hello                             prints how many keys were deleted
  flarectl del --prefix svc/ --prev-kv           prints the deleted keys and values too
  flarectl del a z                               all keys from a up to, not including, z")]
pub struct DelArgs {
    /// The key, or the first key of a range
    pub key: OsString,
    /// End of the range, exclusive
    pub range_end: Option<OsString>,
    /// All keys that begin with KEY
    #[arg(long, conflicts_with_all = ["from_key", "range_end"])]
    pub prefix: bool,
    /// All keys from KEY on
    #[arg(long, conflicts_with = "range_end")]
    pub from_key: bool,
    /// Print the deleted keys and values
    #[arg(long)]
    pub prev_kv: bool,
}

/// `txn`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
A compare is TARGET(\"KEY\") OP \"VALUE\" with TARGET one of
  mod      revision of the key's last change      create   revision of its creation
  version  how often it was written since then    value    its value
  lease    its lease, hexadecimal
and OP one of = != < >. A key that does not exist compares as 0; its value compares as nothing at all: false.
An operation is put, get or del with its flags, as on the command line.
Double quotes take escapes (\\n, \\x00, \\\"), single quotes take everything as it is.

Without arguments the transaction is read from stdin, as etcdctl reads it: compares, then operations for when they
hold, then operations for when they do not; one a line, an empty line after each of the three.

Examples:
  flarectl txn 'version(\"hello\") = \"1\"' --then 'put hello again' --else 'get hello'
  flarectl txn 'create(\"lock\") = \"0\"' --then 'put lock me' --require-success || echo 'somebody holds it'
  flarectl txn 'mod(\"a\") < \"9\"' 'value(\"b\") = \"x\"' --then 'put a 1' --then 'del b'
  printf 'version(\"hello\") = \"1\"\\n\\nput hello again\\n\\nget hello\\n\\n' | flarectl txn")]
pub struct TxnArgs {
    /// Compares; all must hold
    #[arg(value_name = "COMPARE")]
    pub compares: Vec<OsString>,
    /// Operation for when all compares hold; may be given several times
    #[arg(long, value_name = "OP")]
    pub then: Vec<OsString>,
    /// Operation for when a compare does not hold; may be given several times
    #[arg(long = "else", value_name = "OP")]
    pub otherwise: Vec<OsString>,
    /// Exit with code 7 when the else branch was taken
    #[arg(long)]
    pub require_success: bool,
    /// Ask for the three parts on stderr; this is so anyway when stdin is a terminal
    #[arg(short, long, conflicts_with_all = ["compares", "then", "otherwise"])]
    pub interactive: bool,
}

/// `compact`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  flarectl compact 1000                          prints: compacted revision 1000
  flarectl compact 1000 --physical               waits until the history is gone from the disk")]
pub struct CompactArgs {
    /// History before this revision is forgotten
    pub revision: i64,
    /// Wait until it is gone from the disk
    #[arg(long)]
    pub physical: bool,
}

/// Which members are asked, for `status` and `health`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  flarectl status                                one row a member, also those that cannot be reached
  flarectl status --endpoints-only               only the endpoints given by --endpoints
  flarectl health -w jsonl")]
pub struct ClusterArgs {
    /// Ask only the given endpoints, not the members they know
    #[arg(long)]
    pub endpoints_only: bool,
}

/// `hash`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  flarectl hash                                  all members, at the newest revision all of them have
  flarectl hash --rev 1000                       all members, at revision 1000")]
pub struct HashArgs {
    /// Hash the data up to this revision; 0 takes the newest one that all members have
    #[arg(long, value_name = "REV", default_value_t = 0, hide_default_value = true)]
    pub rev: i64,
    /// Ask only the given endpoints, not the members they know
    #[arg(long)]
    pub endpoints_only: bool,
}

/// What the clients of `bench` ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchWorkload {
    /// Puts to random keys
    Put,
    /// Reads of random keys, which are put before
    Get,
    /// Half puts, half linearizable reads
    Mixed,
    /// Each client changes a key of its own if it is as it left it
    Cas,
    /// Transactions of several puts
    Txn,
    /// Reads of ranges of keys, which are put before
    Scan,
}

/// `bench`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Calls take turns over all endpoints, and each of them has to answer; TLS is not supported here. A call counts when its
answer is good: a read must bring its value, a compare-and-set must succeed. Errors are counted apart.
Keys are PREFIX and a number of ten digits. Those that were written are deleted at the end; their history stays until
the next compaction.

Examples:
  flarectl bench put                             64 clients, 10 seconds
  flarectl bench get --serializable --clients 256 --connections 4
  flarectl bench put --rate 2000 --duration 1m   2000 calls a second, however fast they are answered
  flarectl bench txn --puts 50 --value-size 1024 -w json
  flarectl --endpoints 10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379 bench mixed --keys 1000000 --keep")]
pub struct BenchArgs {
    /// What the clients ask
    #[arg(value_name = "WORKLOAD", ignore_case = true)]
    pub workload: BenchWorkload,
    /// Closed loop: so many clients, each asks again once it is answered
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = within::<usize>(1, 10_000))]
    pub clients: usize,
    /// Connections to each endpoint; the clients share them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within::<usize>(1, 1_000))]
    pub connections: usize,
    /// Open loop: so many calls a second; latency counts from when a call was due
    #[arg(long, value_name = "N", conflicts_with = "clients", value_parser = within::<u32>(1, 1_000_000))]
    pub rate: Option<u32>,
    /// How many keys there are to choose from (cas: one a client instead)
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = within::<u64>(1, 1_000_000_000))]
    pub keys: u64,
    /// Size of a value; its bytes are random
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = within::<usize>(0, 10 << 20))]
    pub value_size: usize,
    /// How long is measured
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// How long the load runs before it is measured
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// get: what the asked member has, without asking the leader
    #[arg(long)]
    pub serializable: bool,
    /// txn: puts in one transaction [default: 16]
    #[arg(long, value_name = "N", value_parser = within::<u64>(1, 10_000))]
    pub puts: Option<u64>,
    /// scan: keys in one range [default: 100]
    #[arg(long, value_name = "N", value_parser = within::<u64>(1, 1_000_000_000))]
    pub scan_keys: Option<u64>,
    /// What all keys begin with
    #[arg(long, value_name = "TEXT", default_value = "flarectl-bench/")]
    pub prefix: String,
    /// Do not delete the keys at the end
    #[arg(long)]
    pub keep: bool,
}

/// A number from `least` to `most`.
fn within<T: TryFrom<u64> + Clone + Send + Sync>(least: u64, most: u64) -> RangedU64ValueParser<T> {
    RangedU64ValueParser::new().range(least..=most)
}

/// `member …`.
#[derive(Debug, Clone, Subcommand)]
pub enum MemberCommand {
    /// List the members: id, status, name, peer URLs, client URLs, learner
    #[command(after_help = "Examples:\n  flarectl member list\n  flarectl member list -w table\n  \
        flarectl member list --consistency s           as one member knows them, without a leader")]
    List {
        /// l: as the leader knows them; s: as the asked member knows them
        #[arg(long, default_value = "l", ignore_case = true)]
        consistency: Consistency,
    },
}

/// `endpoint …`: as in etcdctl, only the given endpoints unless `--cluster` is set, and simple output.
#[derive(Debug, Clone, Subcommand)]
pub enum EndpointCommand {
    /// Status of the given endpoints
    Status(EtcdctlClusterArgs),
    /// Health of the given endpoints
    Health(EtcdctlClusterArgs),
    /// Hash of the data of the given endpoints
    Hashkv {
        /// Which endpoints
        #[command(flatten)]
        which: EtcdctlClusterArgs,
        /// Hash the data up to this revision; 0 takes the newest one that all of them have
        #[arg(long, value_name = "REV", default_value_t = 0, hide_default_value = true)]
        rev: i64,
    },
}

/// Which members are asked, etcdctl's way round.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  flarectl endpoint status -w table
  flarectl endpoint health --cluster
  flarectl endpoint hashkv --cluster")]
pub struct EtcdctlClusterArgs {
    /// Ask all members, not only the given endpoints
    #[arg(long)]
    pub cluster: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_ends_in_examples() {
        for command in Cli::command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            if matches!(name.as_str(), "version" | "help") {
                continue;
            }
            let mut leaves: Vec<clap::Command> = command.get_subcommands().cloned().collect();
            if leaves.is_empty() {
                leaves.push(command.clone());
            }
            for mut leaf in leaves {
                let help = leaf.render_help().to_string();
                assert!(help.contains("Examples:\n  flarectl "), "{name}: {help}");
            }
        }
    }
}
