//! What an entry of the log is, for people who look into a log. Not used where entries take effect.

use crate::context::Context;
use flaredb_kv::{Command, CommandKind, RequestOp};
use flaredb_raft::RaftLogEntry;

/// An entry in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `put`, `delete`, `txn`, `compact`, `no-op`, `all-have`, or `unreadable`, which has no effect on any member.
    pub kind: &'static str,
    /// The member that proposed it, its incarnation and attempt.
    pub origin: Option<(u64, u64, u64)>,
    /// The first key that it names.
    pub key: Option<Vec<u8>>,
    /// Size of the value it puts, changes of a transaction, revision of a compaction.
    pub detail: String,
}

/// Reads an entry's context and command.
pub fn describe(entry: &RaftLogEntry) -> Description {
    let plain = |kind| Description { kind, origin: None, key: None, detail: String::new() };
    let Some(bytes) = &entry.context else {
        return plain(if entry.command.is_empty() { "no-op" } else { "unreadable" });
    };
    match Context::decode(bytes) {
        None => plain("unreadable"),
        Some(Context::AllHave { node, incarnation, index }) => {
            Description { origin: Some((node, incarnation, 0)), detail: format!("up to {index}"), ..plain("all-have") }
        }
        Some(Context::Request { kind, origin }) => {
            let origin = Some((origin.node, origin.incarnation, origin.attempt));
            match Command::decode(kind, &entry.command) {
                Err(_) => Description { origin, ..plain("unreadable") },
                Ok(command) => {
                    let (key, detail) = in_words(&command);
                    Description { origin, key, detail, ..plain(word(kind)) }
                }
            }
        }
    }
}

fn word(kind: CommandKind) -> &'static str {
    match kind {
        CommandKind::Put => "put",
        CommandKind::DeleteRange => "delete",
        CommandKind::Txn => "txn",
        CommandKind::Compact => "compact",
    }
}

fn in_words(command: &Command) -> (Option<Vec<u8>>, String) {
    match command {
        Command::Put(put) => (Some(put.key.to_vec()), format!("value of {} bytes", put.value.len())),
        Command::DeleteRange(delete) => {
            (Some(delete.key.to_vec()), if delete.range_end.is_empty() { String::new() } else { "a range".to_owned() })
        }
        Command::Txn(txn) => {
            let first = txn.success.iter().chain(&txn.failure).find_map(|op| match op {
                RequestOp::Put(put) => Some(put.key.to_vec()),
                RequestOp::DeleteRange(delete) => Some(delete.key.to_vec()),
                _ => None,
            });
            let (compare, success, failure) = (txn.compare.len(), txn.success.len(), txn.failure.len());
            (first, format!("{compare} comparisons, {success} or {failure} operations"))
        }
        Command::Compact(compact) => (None, format!("at revision {}", compact.revision)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Origin;
    use bytes::Bytes;
    use flaredb_kv::PutRequest;

    #[test]
    fn each_kind_is_told() {
        let entry = |command: Bytes, context| RaftLogEntry { index: 1, term: 1, command, context };
        let origin = Origin { node: 2, incarnation: 3, attempt: 4 };
        let request = |kind| Some(Context::Request { kind, origin }.encode());
        let put = Command::Put(PutRequest { key: "a".into(), value: "bc".into(), ..PutRequest::default() }).encode();
        let told = describe(&entry(put.clone(), request(CommandKind::Put)));
        assert_eq!((told.kind, told.origin, told.key), ("put", Some((2, 3, 4)), Some(b"a".to_vec())));
        assert_eq!(told.detail, "value of 2 bytes");
        assert_eq!(describe(&entry(Bytes::new(), None)).kind, "no-op");
        assert_eq!(describe(&entry(put.clone(), None)).kind, "unreadable");
        assert_eq!(describe(&entry(put, Some(Bytes::from_static(b"?")))).kind, "unreadable");
        assert_eq!(describe(&entry(Bytes::from_static(&[0xff]), request(CommandKind::Put))).kind, "unreadable");
        let all_have = Context::AllHave { node: 1, incarnation: 2, index: 9 }.encode();
        assert_eq!(describe(&entry(Bytes::new(), Some(all_have))).detail, "up to 9");
    }
}
