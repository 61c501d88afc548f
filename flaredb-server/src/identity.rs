//! Who is who: the cluster's and members' ids, computed alike on every node from `--initial-cluster` and the token.

use xxhash_rust::xxh3::xxh3_64;

/// One member of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Also the Raft peer id. Never zero.
    pub id: u64,
    /// From `--initial-cluster`.
    pub name: String,
    /// From `--initial-cluster`, sorted.
    pub peer_urls: Vec<String>,
}

/// The cluster as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// From the members and the token; equal on all members.
    pub cluster_id: u64,
    /// This node's member id.
    pub member_id: u64,
    /// Sorted by id; this node among them.
    pub members: Vec<Member>,
}

impl ClusterIdentity {
    /// `initial_cluster`: (name, peer URLs) of every member. None if `name` is not among them or two members collide.
    pub fn new(name: &str, initial_cluster: &[(String, Vec<String>)], token: &str) -> Option<Self> {
        let mut members: Vec<Member> = initial_cluster
            .iter()
            .map(|(name, urls)| {
                let mut peer_urls = urls.clone();
                peer_urls.sort();
                Member { id: member_id(&peer_urls, token), name: name.clone(), peer_urls }
            })
            .collect();
        members.sort_by_key(|member| member.id);
        if members.windows(2).any(|pair| matches!(pair, [a, b] if a.id == b.id)) {
            return None;
        }
        let mut bytes = Vec::new();
        for member in &members {
            bytes.extend_from_slice(&member.id.to_be_bytes());
        }
        let member_id = members.iter().find(|member| member.name == name)?.id;
        Some(Self { cluster_id: xxh3_64(&bytes).max(1), member_id, members })
    }
}

/// Ids stay below 2^63, because some clients print them as signed.
fn member_id(peer_urls: &[String], token: &str) -> u64 {
    let text = format!("{}\n{token}", peer_urls.join(","));
    (xxh3_64(text.as_bytes()) >> 1).max(1)
}
