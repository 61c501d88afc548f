//! The table of every flag: FlareDB's own names are etcd's, and each other flag of etcd's is accepted with a warning or
//! refused with the reason, never misunderstood in silence.
//!
//! A flag is refused where ignoring it would leave the operator with less security, durability or reachability than
//! asked for. docs/operating.md shows this table; a test compares the two.

use Support::{Ignored, Refused, Supported};

/// One flag of the server.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without dashes; the environment's names are derived from it.
    pub name: &'static str,
    /// A switch may stand alone and means `true` then.
    pub switch: bool,
    /// Its value's name in the help text.
    pub value_name: &'static str,
    /// Shown in the help text; the value itself is chosen in `validate`.
    pub default: &'static str,
    /// What becomes of it.
    pub support: Support,
    /// Values that ask for what FlareDB does anyway: accepted without a word even where the flag is ignored or refused.
    pub harmless: &'static [&'static str],
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Does what etcd's flag does; the help text.
    Supported(&'static str),
    /// Accepted; a warning gives this reason.
    Ignored(&'static str),
    /// The node does not start; the error gives this reason.
    Refused(&'static str),
}

/// The flag of this name.
pub fn by_name(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// The name among `names` that looks most like `given`, if any does.
pub fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    // Not a decision of the database: a float compares spellings here.
    names
        .map(|name| (strsim::jaro_winkler(given, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name.to_owned())
}

const fn flag(name: &'static str, value_name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, switch: false, value_name, default, support: Supported(help), harmless: &[] }
}
const fn value(name: &'static str, harmless: &'static [&'static str], support: Support) -> Flag {
    Flag { name, switch: false, value_name: "VALUE", default: "", support, harmless }
}
const fn option(name: &'static str, help: &'static str) -> Flag {
    Flag { name, switch: true, value_name: "BOOL", default: "false", support: Supported(help), harmless: &[] }
}
const fn switch(name: &'static str, harmless: &'static [&'static str], support: Support) -> Flag {
    Flag { name, switch: true, value_name: "BOOL", default: "", support, harmless }
}

const OFF: &[&str] = &["false"];
const ON: &[&str] = &["true"];
const UNSET: &[&str] = &[""];

const TLS: Support = Refused("TLS is not supported yet, and without it the traffic would be in the clear");
const DISCOVERY: Support = Refused("discovery is not supported; name the members in --initial-cluster");
const V2_PROXY: Support = Refused("there is no v2 proxy; point clients at the members");
const V2_PROXY_TUNING: Support = Ignored("there is no v2 proxy");
const NO_AUTH: Support =
    Ignored("users and roles are not supported yet; enabling authentication is refused to clients");
const NO_HTTP: Support = Ignored("the client port serves gRPC only, no JSON or other HTTP yet");
const NO_METRICS: Support = Ignored("metrics are not exported yet");
const NO_TRACES: Support = Ignored("traces are not exported yet");
const ENGINE: Support = Ignored("it tunes etcd's storage engine; FlareDB's is RocksDB, tuned by itself");
const NO_ROTATION: Support =
    Ignored("logs are not rotated here; use logrotate with copytruncate, or a service manager");
const NO_HASH_CHECK: Support = Ignored("hashes are not compared in the background yet; compare Maintenance.HashKV");
const PEER_TRANSPORT: Support =
    Ignored("the connections between members set their own timeouts from --election-timeout");
const NOT_TUNABLE: Support = Ignored("it cannot be set yet");
const STATIC_MEMBERS: Support = Ignored("membership is fixed, so there is nothing to limit");

/// Every flag of etcd 3.5 and 3.6, supported ones first.
pub const FLAGS: &[Flag] = &[
    flag("name", "NAME", "default", "This member's name in --initial-cluster"),
    flag("data-dir", "FOLDER", "./<name>.flaredb", "Where this member's data lives"),
    flag("listen-client-urls", "URLS", "http://localhost:2379", "Addresses that clients connect to"),
    flag("advertise-client-urls", "URLS", "the listen URLs", "Addresses that clients are told to connect to"),
    flag("listen-peer-urls", "URLS", "http://localhost:2380", "Addresses that the other members connect to"),
    flag(
        "initial-advertise-peer-urls",
        "URLS",
        "as in --initial-cluster",
        "This member's peer URL, as in --initial-cluster",
    ),
    flag("initial-cluster", "NAME=URL,...", "this member alone", "All members: n1=http://host1:2380,n2=...,n3=..."),
    flag(
        "initial-cluster-state",
        "STATE",
        "new",
        "new, or existing: this member has run before, do not start without its data",
    ),
    flag("initial-cluster-token", "TOKEN", "etcd-cluster", "Keeps clusters apart; the same on all members"),
    flag("heartbeat-interval", "TIME", "100ms", "Time between a leader's heartbeats: 100ms, 1s, or bare milliseconds"),
    flag("election-timeout", "TIME", "1000ms", "Silence after which a new leader is elected; at least 5 heartbeats"),
    option(
        "lease-reads",
        "Linearizable reads without asking the other members; safe while clocks are at most a tenth off; slower failover",
    ),
    flag("snapshot-count", "ENTRIES", "100000", "Applied entries after which the log is truncated"),
    flag(
        "quota-backend-bytes",
        "SIZE",
        "no limit",
        "Data size of this member beyond which it refuses puts; 0 or less: no limit",
    ),
    flag("max-request-bytes", "SIZE", "1572864", "Largest request"),
    flag("max-txn-ops", "COUNT", "128", "Most operations in one transaction"),
    flag("log-level", "LEVEL", "info", "debug, info, warn or error"),
    flag("log-outputs", "LIST", "default", "default (stderr), stderr, stdout, or files; separated by commas"),
    flag("log-format", "FORMAT", "text on a terminal, else json", "json or console"),
    flag("logger", "LOGGER", "zap", "Accepted for etcd's sake: zap"),
    // Member.
    value(
        "config-file",
        UNSET,
        Refused("configuration files are not read yet; use flags, or variables such as FLAREDB_NAME"),
    ),
    value(
        "wal-dir",
        UNSET,
        Refused("log and data live together in --data-dir; put that folder on the disk meant for the log"),
    ),
    switch("initial-election-tick-advance", ON, NOT_TUNABLE),
    value(
        "listen-client-http-urls",
        UNSET,
        Refused("there is no HTTP on a port of its own; --listen-client-urls serves gRPC"),
    ),
    value("max-snapshots", &[], ENGINE),
    value("max-wals", &[], ENGINE),
    value("backend-bbolt-freelist-type", &[], ENGINE),
    value("experimental-backend-bbolt-freelist-type", &[], ENGINE),
    value("backend-batch-interval", &[], ENGINE),
    value("backend-batch-limit", &[], ENGINE),
    value("max-concurrent-streams", &[], NOT_TUNABLE),
    switch("enable-grpc-gateway", OFF, NO_HTTP),
    value("grpc-keepalive-min-time", &[], NOT_TUNABLE),
    value("grpc-keepalive-interval", &[], NOT_TUNABLE),
    value("grpc-keepalive-timeout", &[], NOT_TUNABLE),
    switch("socket-reuse-port", OFF, NOT_TUNABLE),
    switch("socket-reuse-address", &["false", "true"], NOT_TUNABLE),
    value("raft-read-timeout", &[], PEER_TRANSPORT),
    value("raft-write-timeout", &[], PEER_TRANSPORT),
    switch("memory-mlock", OFF, ENGINE),
    switch("experimental-memory-mlock", OFF, ENGINE),
    value("snapshot-catchup-entries", &[], NOT_TUNABLE),
    value("experimental-snapshot-catchup-entries", &[], NOT_TUNABLE),
    value("max-learners", &[], STATIC_MEMBERS),
    value("experimental-max-learners", &[], STATIC_MEMBERS),
    value("feature-gates", UNSET, Ignored("etcd's feature gates do not exist here")),
    // Clustering.
    value("discovery", UNSET, DISCOVERY),
    value("discovery-fallback", &["exit", "proxy"], DISCOVERY),
    value("discovery-proxy", UNSET, DISCOVERY),
    value("discovery-srv", UNSET, DISCOVERY),
    value("discovery-srv-name", UNSET, DISCOVERY),
    value("discovery-token", UNSET, DISCOVERY),
    value("discovery-endpoints", UNSET, DISCOVERY),
    value("discovery-dial-timeout", UNSET, DISCOVERY),
    value("discovery-request-timeout", UNSET, DISCOVERY),
    value("discovery-keepalive-time", UNSET, DISCOVERY),
    value("discovery-keepalive-timeout", UNSET, DISCOVERY),
    switch("discovery-insecure-transport", ON, DISCOVERY),
    switch("discovery-insecure-skip-tls-verify", OFF, DISCOVERY),
    value("discovery-cert", UNSET, DISCOVERY),
    value("discovery-key", UNSET, DISCOVERY),
    value("discovery-cacert", UNSET, DISCOVERY),
    value("discovery-user", UNSET, DISCOVERY),
    value("discovery-password", UNSET, DISCOVERY),
    switch("strict-reconfig-check", &["true", "false"], STATIC_MEMBERS),
    switch("pre-vote", ON, Ignored("elections always begin with a pre-vote")),
    value(
        "auto-compaction-retention",
        &["0", ""],
        Ignored("old revisions are kept until a client compacts them; run `etcdctl compact` from a timer"),
    ),
    value(
        "auto-compaction-mode",
        &["periodic", "revision"],
        Ignored("old revisions are kept until a client compacts them; run `etcdctl compact` from a timer"),
    ),
    switch("enable-v2", OFF, Refused("there is no v2 API; use the v3 API")),
    value("v2-deprecation", &["not-yet", "write-only", "write-only-drop-data", "gone"], Ignored("there is no v2 data")),
    value("experimental-enable-v2v3", UNSET, Refused("there is no v2 API; use the v3 API")),
    value("proxy", &["off"], V2_PROXY),
    value("proxy-failure-wait", &[], V2_PROXY_TUNING),
    value("proxy-refresh-interval", &[], V2_PROXY_TUNING),
    value("proxy-dial-timeout", &[], V2_PROXY_TUNING),
    value("proxy-write-timeout", &[], V2_PROXY_TUNING),
    value("proxy-read-timeout", &[], V2_PROXY_TUNING),
    // Security.
    value("cert-file", UNSET, TLS),
    value("key-file", UNSET, TLS),
    switch("client-cert-auth", OFF, TLS),
    value("client-cert-file", UNSET, TLS),
    value("client-key-file", UNSET, TLS),
    value("client-crl-file", UNSET, TLS),
    value("client-cert-allowed-hostname", UNSET, TLS),
    value("trusted-ca-file", UNSET, TLS),
    switch("auto-tls", OFF, TLS),
    value("peer-cert-file", UNSET, TLS),
    value("peer-key-file", UNSET, TLS),
    switch("peer-client-cert-auth", OFF, TLS),
    value("peer-client-cert-file", UNSET, TLS),
    value("peer-client-key-file", UNSET, TLS),
    value("peer-crl-file", UNSET, TLS),
    value("peer-trusted-ca-file", UNSET, TLS),
    value("peer-cert-allowed-cn", UNSET, TLS),
    value("peer-cert-allowed-hostname", UNSET, TLS),
    switch("peer-auto-tls", OFF, TLS),
    switch("peer-skip-client-san-verification", OFF, TLS),
    switch("experimental-peer-skip-client-san-verification", OFF, TLS),
    value("cipher-suites", UNSET, TLS),
    value("tls-min-version", UNSET, TLS),
    value("tls-max-version", UNSET, TLS),
    value("self-signed-cert-validity", &[], Ignored("no certificates are generated")),
    value("cors", &["*", ""], NO_HTTP),
    value("host-whitelist", &["*", ""], NO_HTTP),
    // Users.
    value("auth-token", &["simple", ""], NO_AUTH),
    value("bcrypt-cost", &[], NO_AUTH),
    value("auth-token-ttl", &[], NO_AUTH),
    // Watching the server.
    switch("enable-pprof", OFF, Ignored("there is no profiling over HTTP")),
    value("metrics", &["basic"], NO_METRICS),
    value("listen-metrics-urls", UNSET, NO_METRICS),
    switch("enable-log-rotation", OFF, NO_ROTATION),
    value("log-rotation-config-json", &[], NO_ROTATION),
    switch("disable-log-sampling", &["true", "false"], Ignored("no records are sampled away")),
    value("log-package-levels", UNSET, Ignored("one level counts for all; use --log-level")),
    switch("enable-distributed-tracing", OFF, NO_TRACES),
    value("distributed-tracing-address", &[], NO_TRACES),
    value("distributed-tracing-service-name", &[], NO_TRACES),
    value("distributed-tracing-instance-id", &[], NO_TRACES),
    value("distributed-tracing-sampling-rate", &[], NO_TRACES),
    switch("experimental-enable-distributed-tracing", OFF, NO_TRACES),
    value("experimental-distributed-tracing-address", &[], NO_TRACES),
    value("experimental-distributed-tracing-service-name", &[], NO_TRACES),
    value("experimental-distributed-tracing-instance-id", &[], NO_TRACES),
    value("experimental-distributed-tracing-sampling-rate", &[], NO_TRACES),
    value("warning-apply-duration", &[], NOT_TUNABLE),
    value("experimental-warning-apply-duration", &[], NOT_TUNABLE),
    value("warning-unary-request-duration", &[], NOT_TUNABLE),
    value("experimental-warning-unary-request-duration", &[], NOT_TUNABLE),
    // Checks, compaction, watches, leases.
    switch("experimental-initial-corrupt-check", OFF, NO_HASH_CHECK),
    value("corrupt-check-time", &["0", "0s"], NO_HASH_CHECK),
    value("experimental-corrupt-check-time", &["0", "0s"], NO_HASH_CHECK),
    switch("experimental-compact-hash-check-enabled", OFF, NO_HASH_CHECK),
    value("compact-hash-check-time", &[], NO_HASH_CHECK),
    value("experimental-compact-hash-check-time", &[], NO_HASH_CHECK),
    value("compaction-batch-limit", &[], NOT_TUNABLE),
    value("experimental-compaction-batch-limit", &[], NOT_TUNABLE),
    value("compaction-sleep-interval", &[], NOT_TUNABLE),
    value("experimental-compaction-sleep-interval", &[], NOT_TUNABLE),
    value("watch-progress-notify-interval", &[], NOT_TUNABLE),
    value("experimental-watch-progress-notify-interval", &[], NOT_TUNABLE),
    switch("experimental-enable-lease-checkpoint", OFF, NOT_TUNABLE),
    switch("experimental-enable-lease-checkpoint-persist", OFF, NOT_TUNABLE),
    value("downgrade-check-time", &[], NOT_TUNABLE),
    value("experimental-downgrade-check-time", &[], NOT_TUNABLE),
    switch("experimental-txn-mode-write-with-shared-buffer", &["true", "false"], ENGINE),
    value("bootstrap-defrag-threshold-megabytes", &["0"], ENGINE),
    value("experimental-bootstrap-defrag-threshold-megabytes", &["0"], ENGINE),
    switch("experimental-stop-grpc-service-on-defrag", OFF, ENGINE),
    value("experimental-wait-cluster-ready-timeout", &[], NOT_TUNABLE),
    // Unsafe.
    switch("unsafe-no-fsync", OFF, Ignored("FlareDB always syncs what it acknowledges")),
    switch(
        "force-new-cluster",
        OFF,
        Refused("a member cannot be made the only voter of its cluster yet; bring back a second member"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_flag_is_listed_twice() {
        let names: BTreeSet<&str> = FLAGS.iter().map(|flag| flag.name).collect();
        assert_eq!(names.len(), FLAGS.len());
    }

    #[test]
    fn a_slip_finds_its_flag_and_nonsense_finds_none() {
        let names = || FLAGS.iter().map(|flag| flag.name);
        assert_eq!(nearest("heartbeat-intervall", names()).as_deref(), Some("heartbeat-interval"));
        assert_eq!(nearest("listen-client-url", names()).as_deref(), Some("listen-client-urls"));
        assert_eq!(nearest("nmae", names()).as_deref(), Some("name"));
        assert_eq!(nearest("zzzzz", names()), None);
    }

    /// The operator's page shows the same table as this file, flag by flag.
    #[test]
    fn the_operating_page_lists_every_flag_under_its_heading() {
        let page = include_str!("../../../docs/operating.md");
        let section = |heading: &str| {
            let rest = page.split_once(heading).unwrap_or_else(|| panic!("no heading {heading:?}")).1;
            rest.split_once("\n##").map_or(rest, |(section, _)| section).to_owned()
        };
        let (supported, ignored, refused) =
            (section("### Supported flags"), section("### Ignored with a warning"), section("### Refused"));
        for flag in FLAGS {
            let (section, heading) = match flag.support {
                Supported(_) => (&supported, "Supported flags"),
                Ignored(_) => (&ignored, "Ignored with a warning"),
                Refused(_) => (&refused, "Refused"),
            };
            let name = format!("`--{}`", flag.name);
            assert!(section.contains(&name), "docs/operating.md lacks {name} under {heading:?}");
        }
        let listed: BTreeSet<&str> = [&supported, &ignored, &refused]
            .iter()
            .flat_map(|section| section.split("`--").skip(1))
            .filter_map(|rest| rest.split_once('`').map(|(name, _)| name))
            .filter(|name| !name.contains(['=', ' ']))
            .collect();
        for name in listed {
            assert!(by_name(name).is_some(), "docs/operating.md lists --{name}, which the table does not have");
        }
    }
}
