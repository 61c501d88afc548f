//! Given values to settings: each typed, then all checked against each other.

use super::{
    ConfigError, NodeConfig, Notice, Origin, Settings, StorageProfile,
    env::{Given, Values},
    initial_cluster,
    url::Url,
    values,
};
use crate::logging::{LogConfig, LogFormat, LogOutput};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tracing::Level;

/// What the peers' handshake has room for.
const NAME_BYTES_MAX: usize = 1 << 10;
const REQUEST_BYTES_DEFAULT: u64 = 1_572_864;
const REQUEST_BYTES_WARN: u64 = 10 << 20;
/// A request travels as one log entry in one frame between members.
const REQUEST_BYTES_MAX: u64 = 32 << 20;
const HEARTBEAT_DEFAULT: Duration = Duration::from_millis(100);
const ELECTION_DEFAULT: Duration = Duration::from_millis(1_000);
/// etcd's bound too: with more, a lost leader is noticed too late to be of use.
pub(crate) const ELECTION_MAX: Duration = Duration::from_millis(50_000);

pub(super) fn settings(given: &Values, mut notices: Vec<Notice>) -> Result<Settings, ConfigError> {
    let log = log_config(given)?;
    let name = name(given)?;
    let data_dir = data_dir(given, &name)?;
    let clients = listen(given, "listen-client-urls", "http://localhost:2379", "advertise-client-urls")?;
    let peers = listen(given, "listen-peer-urls", "http://localhost:2380", "initial-advertise-peer-urls")?;
    let advertise_client = match advertised(given, "advertise-client-urls")? {
        Some(urls) => urls,
        None => clients.as_advertised("advertise-client-urls")?,
    };
    let initial_cluster = members(given, &name, &peers)?;
    let (heartbeat_interval, election_timeout) = timers(given)?;
    let node = NodeConfig {
        name,
        data_dir,
        listen_client: clients.addresses,
        advertise_client_urls: texts(&advertise_client),
        listen_peer: peers.addresses,
        initial_cluster,
        initial_cluster_token: text(given, "initial-cluster-token", "etcd-cluster").value,
        heartbeat_interval,
        election_timeout,
        lease_reads: switch(given, "lease-reads")?,
        snapshot_count: counted(given, "snapshot-count", 100_000, 1, 10_000_000)?,
        quota_backend_bytes: quota(given)?,
        max_request_bytes: max_request_bytes(given, &mut notices)?,
        max_txn_ops: usize::try_from(counted(given, "max-txn-ops", 128, 1, 100_000)?).unwrap_or(usize::MAX),
        storage_profile: StorageProfile::Server,
    };
    cluster_state(given, &node)?;
    Ok(Settings { node, log, notices })
}

/// What was given, or the default.
fn text(given: &Values, flag: &'static str, default: &str) -> Given {
    given.get(flag).cloned().unwrap_or_else(|| Given { origin: Origin::Default(flag), value: default.to_owned() })
}

/// Off unless it is given.
fn switch(given: &Values, flag: &'static str) -> Result<bool, ConfigError> {
    given.get(flag).map_or(Ok(false), |Given { origin, value }| values::switch(origin, value))
}

fn name(given: &Values) -> Result<String, ConfigError> {
    let Given { origin, value } = text(given, "name", "default");
    let trimmed = value.trim();
    if trimmed.is_empty() || trimmed != value || value.contains(['=', ',', '/']) || value.chars().any(char::is_control)
    {
        return Err(ConfigError::BadValue {
            origin,
            value,
            wrong: "not a member name".into(),
            fix: "write one without '=', ',', '/' and spaces around it".into(),
        });
    }
    if value.len() > NAME_BYTES_MAX {
        let fix = format!("write one of at most {NAME_BYTES_MAX} bytes");
        return Err(ConfigError::BadValue { origin, value, wrong: "not a member name".into(), fix });
    }
    Ok(value)
}

fn data_dir(given: &Values, name: &str) -> Result<PathBuf, ConfigError> {
    let Given { origin, value } = text(given, "data-dir", &format!("./{name}.flaredb"));
    let folder = PathBuf::from(value);
    // The folder itself, or one above it: neither is ours to write into.
    let absolute = std::path::absolute(&folder).unwrap_or_else(|_| folder.clone());
    if absolute.ancestors().any(is_etcds) {
        return Err(ConfigError::EtcdFolder { origin, folder });
    }
    Ok(folder)
}

/// By the files that only etcd has there.
fn is_etcds(folder: &Path) -> bool {
    folder.join("member/wal").is_dir() || folder.join("member/snap/db").is_file()
}

/// Where a node listens, and the URLs that said so.
struct Listen {
    origin: Origin,
    urls: Vec<Url>,
    addresses: Vec<SocketAddr>,
}

impl Listen {
    /// What to advertise when nothing is said: the listen URLs, if others can use them.
    fn as_advertised(&self, advertise: &'static str) -> Result<Vec<Url>, ConfigError> {
        match self.urls.iter().find(|url| url.unreachable().is_some()) {
            None => Ok(self.urls.clone()),
            Some(url) => {
                Err(ConfigError::AdvertiseMissing { origin: self.origin.clone(), url: url.to_string(), advertise })
            }
        }
    }
}

fn listen(given: &Values, flag: &'static str, default: &str, advertise: &'static str) -> Result<Listen, ConfigError> {
    let Given { origin, value } = text(given, flag, default);
    let urls = Url::parse_list(&origin, &value)?;
    let addresses = urls.iter().map(|url| url.listen_address(&origin, advertise)).collect::<Result<_, _>>()?;
    Ok(Listen { origin, urls, addresses })
}

fn advertised(given: &Values, flag: &'static str) -> Result<Option<Vec<Url>>, ConfigError> {
    let Some(Given { origin, value }) = given.get(flag) else { return Ok(None) };
    let urls = Url::parse_list(origin, value)?;
    for url in &urls {
        if let Some(wrong) = url.unreachable() {
            return Err(ConfigError::AdvertiseUnusable { origin: origin.clone(), url: url.to_string(), wrong });
        }
    }
    Ok(Some(urls))
}

/// The members' names and URLs; this node is one of them, under the URLs it advertises.
fn members(given: &Values, name: &str, peers: &Listen) -> Result<Vec<(String, Vec<String>)>, ConfigError> {
    let advertise = advertised(given, "initial-advertise-peer-urls")?;
    let Some(Given { origin, value }) = given.get("initial-cluster") else {
        // Nobody else is named: this member is the cluster.
        let urls = match advertise {
            Some(urls) => urls,
            None => peers.as_advertised("initial-advertise-peer-urls")?,
        };
        return Ok(vec![(name.to_owned(), texts(&urls))]);
    };
    let members = initial_cluster::parse(origin, value)?;
    let Some((_, expected)) = members.iter().find(|(member, _)| member == name) else {
        let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        return Err(ConfigError::NameNotInCluster {
            origin: text(given, "name", name).origin,
            name: name.to_owned(),
            members: names.join(", "),
        });
    };
    if let Some(urls) = advertise
        && urls.as_slice() != std::slice::from_ref(expected)
    {
        return Err(ConfigError::AdvertiseMismatch {
            origin: text(given, "initial-advertise-peer-urls", "").origin,
            advertised: texts(&urls).join(","),
            name: name.to_owned(),
            expected: expected.to_string(),
        });
    }
    Ok(members.into_iter().map(|(name, url)| (name, vec![url.to_string()])).collect())
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

fn timers(given: &Values) -> Result<(Duration, Duration), ConfigError> {
    let time = |flag, default| match given.get(flag) {
        Some(Given { origin, value }) => values::duration(origin, value),
        None => Ok(default),
    };
    let heartbeat = time("heartbeat-interval", HEARTBEAT_DEFAULT)?;
    let election = time("election-timeout", ELECTION_DEFAULT)?;
    let Given { origin, value } = text(given, "election-timeout", "1000ms");
    if election > ELECTION_MAX {
        return Err(ConfigError::BadValue {
            origin,
            value,
            wrong: "too long: a lost leader would be missed for that time".into(),
            fix: "write at most 50s".into(),
        });
    }
    if election < heartbeat * 5 {
        return Err(ConfigError::ElectionTooShort {
            origin,
            election_ms: millis(election),
            heartbeat_ms: millis(heartbeat),
        });
    }
    Ok((heartbeat, election))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn counted(given: &Values, flag: &'static str, default: u64, min: u64, max: u64) -> Result<u64, ConfigError> {
    match given.get(flag) {
        Some(Given { origin, value }) => values::count(origin, value, min, max),
        None => Ok(default),
    }
}

/// 0 is the default and a negative number no quota, as with etcd; only the default is another: no quota either.
fn quota(given: &Values) -> Result<Option<u64>, ConfigError> {
    let Some(Given { origin, value }) = given.get("quota-backend-bytes") else { return Ok(None) };
    Ok(values::size(origin, value)?.filter(|bytes| *bytes > 0))
}

fn max_request_bytes(given: &Values, notices: &mut Vec<Notice>) -> Result<usize, ConfigError> {
    let Given { origin, value } = text(given, "max-request-bytes", &REQUEST_BYTES_DEFAULT.to_string());
    let bytes = values::size(&origin, &value)?.filter(|bytes| (1..=REQUEST_BYTES_MAX).contains(bytes));
    let Some(bytes) = bytes else {
        return Err(ConfigError::BadValue {
            origin,
            value,
            wrong: "out of range".into(),
            fix: "write 1 byte to 32MiB; larger values belong in an object store".into(),
        });
    };
    if bytes > REQUEST_BYTES_WARN {
        notices.push(Notice::Warn(format!("{origin}={value} is more than 10MiB: large requests delay all others")));
    }
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// `existing` promises that this member has run before. If its data is gone, it must not vote again as if it had never
/// promised anything.
fn cluster_state(given: &Values, node: &NodeConfig) -> Result<(), ConfigError> {
    let Given { origin, value } = text(given, "initial-cluster-state", "new");
    let existing = values::one_of(&origin, &value, &[("new", false), ("existing", true)])?;
    if existing && !node.data_dir.join("member").is_dir() {
        return Err(ConfigError::DataMissing { origin, folder: node.data_dir.clone() });
    }
    Ok(())
}

fn log_config(given: &Values) -> Result<LogConfig, ConfigError> {
    let Given { origin, value } = text(given, "logger", "zap");
    values::one_of(&origin, &value, &[("zap", ())])?;
    let Given { origin, value } = text(given, "log-level", "info");
    let level = values::one_of(
        &origin,
        &value.to_ascii_lowercase(),
        &[
            ("trace", Level::TRACE),
            ("debug", Level::DEBUG),
            ("info", Level::INFO),
            ("warn", Level::WARN),
            ("error", Level::ERROR),
            // zap's levels above error: nothing is logged above error here.
            ("dpanic", Level::ERROR),
            ("panic", Level::ERROR),
            ("fatal", Level::ERROR),
        ],
    )?;
    let format = match given.get("log-format") {
        Some(Given { origin, value }) => {
            Some(values::one_of(origin, value, &[("json", LogFormat::Json), ("console", LogFormat::Text)])?)
        }
        None => None,
    };
    Ok(LogConfig { level, format, outputs: log_outputs(&text(given, "log-outputs", "default"))? })
}

fn log_outputs(Given { origin, value }: &Given) -> Result<Vec<LogOutput>, ConfigError> {
    let mut outputs = Vec::new();
    for output in value.split(',').map(str::trim) {
        let output = match output {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "" | "systemd/journal" => {
                return Err(ConfigError::BadValue {
                    origin: origin.clone(),
                    value: value.clone(),
                    wrong: format!("{output:?} is no output"),
                    fix: "choose default, stderr, stdout or a file's path (systemd reads stderr)".into(),
                });
            }
            path => LogOutput::File(PathBuf::from(path)),
        };
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests;
