//! What the server's files that are compiled in here name of their crate. Linking the server would link RocksDB, which no
//! decoder needs.

#[path = "../../flaredb-server/src/config/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "the server's own files, private there")]
pub(crate) mod config;
#[path = "../../flaredb-server/src/dev/args.rs"]
#[allow(dead_code, unreachable_pub, reason = "the server's own file, private there")]
mod dev_args;
#[path = "../../flaredb-server/src/identity.rs"]
#[allow(dead_code, unreachable_pub, reason = "the server's own file, private there")]
pub(crate) mod identity;
#[path = "../../flaredb-server/src/inspect/args.rs"]
#[allow(dead_code, unreachable_pub, reason = "the server's own file, private there")]
mod inspect_args;
#[path = "../../flaredb-server/src/logging/settings.rs"]
#[allow(dead_code, unreachable_pub, reason = "the server's own file, private there")]
pub(crate) mod logging;

pub(crate) mod dev {
    pub(crate) use super::dev_args::DevArgs;
}

pub(crate) mod inspect {
    pub(crate) use super::inspect_args::InspectArgs;
}
