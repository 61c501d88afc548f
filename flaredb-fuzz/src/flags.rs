//! The command line and the environment. The input is text: words separated by newlines; those of the form `NAME=value` with
//! an upper-case NAME are variables.

use crate::config::{self, Invocation};
use std::{collections::BTreeMap, ffi::OsString};

/// Whatever the words are, the answer is settings that fit together or an error with a text.
pub(crate) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut arguments = Vec::new();
    let mut environment = BTreeMap::new();
    for word in text.split('\n').take(24) {
        match word.split_once('=') {
            Some((name, value)) if name.starts_with("ETCD_") || name.starts_with("FLAREDB_") => {
                environment.insert(name.to_owned(), value.to_owned());
            }
            _ => arguments.push(OsString::from(word)),
        }
    }
    match config::parse(arguments, &environment) {
        Ok(Invocation::Server(settings)) => {
            let node = &settings.node;
            assert!(!node.name.is_empty(), "a member has a name");
            assert!(node.heartbeat_interval < node.election_timeout, "leaders are heard before elections begin");
            let own = node.initial_cluster.iter().filter(|(name, _)| *name == node.name).count();
            assert!(own == 1, "a member is in its own cluster, once");
            assert!(!node.listen_peer.is_empty() && !node.listen_client.is_empty(), "a node listens somewhere");
        }
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().trim().is_empty(), "an error says something"),
    }
}
