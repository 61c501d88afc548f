//! The handshake of a peer connection: who speaks, to whom, in which cluster and version. Nothing of the connection
//! reaches the core before both sides agree.
//!
//! The dialler sends a greeting, the listener answers with a verdict and a greeting of its own. Layout of both, all
//! integers little-endian:
//!
//! ```text
//! magic "FLRP" | version u16 | verdict u8 (0 in the dialler's) | body length u16 | crc32 of the body u32 | body
//! body = cluster u64, region u64, sender u64, target u64, incarnation u64, purpose u8,
//!        position known u8, term u64, index u64, term of the index u64, length u16, acquaintances
//!        (`flaredb_replica::acquaintance`, with its own start), name, count u8, count * client URL
//! text = length u16, UTF-8
//! ```
//! Magic, version and verdict stay where they are in every later version, so that a refusal can always be understood.

use flaredb_raft::EntryId;
use flaredb_replica::acquaintance::Acquaintances;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The version of everything that peers say to each other after the magic.
pub const PROTOCOL_VERSION: u16 = 4;

const MAGIC: [u8; 4] = *b"FLRP";
const HEAD_BYTES: usize = 13;
/// The most that all limits together allow is a little less; 64 KiB would be allocated for any stranger otherwise.
const BODY_BYTES_MAX: u16 = 16 << 10;

/// What a connection is for. The numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Messages of the core, for as long as it lives.
    Messages,
    /// One snapshot.
    Snapshot,
}

impl Purpose {
    fn code(self) -> u8 {
        match self {
            Self::Messages => 0,
            Self::Snapshot => 1,
        }
    }
}

/// What a side says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// From `--initial-cluster` and the token.
    pub cluster_id: u64,
    /// The replicated region.
    pub region_id: u64,
    /// The speaker's member id.
    pub sender: u64,
    /// The member that the speaker believes to be talking to.
    pub target: u64,
    /// Differs at every start of the speaker's process; as a rule it rises.
    pub incarnation: u64,
    /// What the dialler wants; the listener repeats it.
    pub purpose: Purpose,
    /// The speaker's term, and the log position that it vouches for. None while it does not know.
    pub position: Option<(u64, EntryId)>,
    /// What the speaker remembers of the others' starts, and those that it continues; its own is among them.
    pub acquaintances: Acquaintances,
    /// The speaker's name.
    pub name: String,
    /// Where clients reach the speaker.
    pub client_urls: Vec<String>,
}

/// Why a listener will not talk. The numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Another version of the protocol.
    #[error("another version of the peer protocol")]
    Version,
    /// Another cluster.
    #[error("another cluster")]
    Cluster,
    /// Another region.
    #[error("another region")]
    Region,
    /// The greeting is meant for someone else.
    #[error("meant for another member")]
    Target,
    /// The sender is not a member.
    #[error("the sender is not a member of this cluster")]
    Sender,
    /// A newer process of the same member is connected.
    #[error("a newer process of the same member is connected")]
    Superseded,
}

impl Refusal {
    const ALL: [Self; 6] = [Self::Version, Self::Cluster, Self::Region, Self::Target, Self::Sender, Self::Superseded];

    fn code(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::Cluster => 2,
            Self::Region => 3,
            Self::Target => 4,
            Self::Sender => 5,
            Self::Superseded => 6,
        }
    }
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection broke or ended.
    #[error("the connection ended in the handshake: {0}")]
    Io(#[from] io::Error),
    /// These bytes are not a greeting.
    #[error("not a FlareDB peer: {0}")]
    Garbage(&'static str),
    /// The other side answered with a refusal.
    #[error("refused by the peer: {0}")]
    Refused(Refusal),
}

/// A greeting as it was received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Greeting(Greeting),
    /// The other side speaks this version; what else it said cannot be read.
    OtherVersion(u16),
}

/// The bytes of a greeting. `verdict` is the listener's.
pub(crate) fn encode(greeting: &Greeting, verdict: Option<Refusal>) -> Vec<u8> {
    let Greeting {
        cluster_id,
        region_id,
        sender,
        target,
        incarnation,
        purpose,
        position,
        acquaintances,
        name,
        client_urls,
    } = greeting;
    let mut body = Vec::new();
    for field in [cluster_id, region_id, sender, target, incarnation] {
        body.extend_from_slice(&field.to_le_bytes());
    }
    body.push(purpose.code());
    body.push(u8::from(position.is_some()));
    let (term, last) = position.unwrap_or_default();
    put(&[term, last.index, last.term], &mut body);
    let known = acquaintances.encode();
    body.extend_from_slice(&u16::try_from(known.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend_from_slice(&known);
    text(name, &mut body);
    // Clients of an address that does not fit will not learn it from here; the handshake must not fail for it.
    let urls: Vec<&String> = client_urls.iter().filter(|url| url.len() <= 255).take(16).collect();
    body.push(u8::try_from(urls.len()).unwrap_or(0));
    for url in urls {
        text(url, &mut body);
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    bytes.push(verdict.map_or(0, Refusal::code));
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    assert!(length <= BODY_BYTES_MAX, "a member's name is at most 1 KiB, which the configuration checks");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads a greeting. A refusal in it is an error; the caller bounds the time.
pub(crate) async fn read<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Received, HandshakeError> {
    let mut magic = [0; 4];
    stream.read_exact(&mut magic).await?;
    if magic != MAGIC {
        return Err(HandshakeError::Garbage("wrong magic"));
    }
    let mut head = [0; HEAD_BYTES - 4];
    stream.read_exact(&mut head).await?;
    let [v0, v1, verdict, l0, l1, c0, c1, c2, c3] = head;
    let version = u16::from_le_bytes([v0, v1]);
    if verdict != 0 {
        let refusal = Refusal::ALL.into_iter().find(|refusal| refusal.code() == verdict);
        return Err(refusal.map_or(HandshakeError::Garbage("unknown refusal"), HandshakeError::Refused));
    }
    let length = u16::from_le_bytes([l0, l1]);
    if length > BODY_BYTES_MAX {
        return Err(HandshakeError::Garbage("greeting too long"));
    }
    let mut body = vec![0; usize::from(length)];
    // Read also when the version differs: unread bytes would turn the answer into a reset.
    stream.read_exact(&mut body).await?;
    if version != PROTOCOL_VERSION {
        return Ok(Received::OtherVersion(version));
    }
    if crc32fast::hash(&body) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(HandshakeError::Garbage("wrong checksum"));
    }
    decode(&body).map(Received::Greeting).ok_or(HandshakeError::Garbage("malformed greeting"))
}

fn decode(body: &[u8]) -> Option<Greeting> {
    let rest = &mut &*body;
    let greeting = Greeting {
        cluster_id: integer(rest)?,
        region_id: integer(rest)?,
        sender: integer(rest)?,
        target: integer(rest)?,
        incarnation: integer(rest)?,
        purpose: {
            let code = byte(rest)?;
            [Purpose::Messages, Purpose::Snapshot].into_iter().find(|purpose| purpose.code() == code)?
        },
        position: {
            let known = byte(rest)?;
            let position = (integer(rest)?, EntryId { index: integer(rest)?, term: integer(rest)? });
            match known {
                0 => None,
                1 => Some(position),
                _ => return None,
            }
        },
        acquaintances: {
            let (length, left) = rest.split_first_chunk()?;
            let (bytes, left) = left.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            *rest = left;
            Acquaintances::decode(bytes).ok().filter(|known| !known.lineage().is_empty())?
        },
        name: read_text(rest)?,
        client_urls: {
            let count = byte(rest)?;
            (0..count).map(|_| read_text(rest)).collect::<Option<_>>()?
        },
    };
    rest.is_empty().then_some(greeting)
}

fn put(numbers: &[u64], out: &mut Vec<u8>) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (&byte, left) = rest.split_first()?;
    *rest = left;
    Some(byte)
}

fn integer(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(u64::from_le_bytes(*bytes))
}

/// Control characters are refused: these texts end up in logs.
fn read_text(rest: &mut &[u8]) -> Option<String> {
    let (length, left) = rest.split_first_chunk()?;
    let (bytes, left) = left.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    *rest = left;
    let text = str::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flaredb_replica::acquaintance::StartId;

    fn greeting() -> Greeting {
        Greeting {
            cluster_id: 1,
            region_id: 2,
            sender: 3,
            target: 4,
            incarnation: u64::MAX,
            purpose: Purpose::Snapshot,
            position: Some((7, EntryId { index: 8, term: 9 })),
            acquaintances: {
                let mut known = Acquaintances::default();
                known.begin(StartId(5));
                known.meet(10, &[StartId(11)]);
                known
            },
            name: "n1".into(),
            client_urls: vec!["http://a:1".into(), "http://b:2".into()],
        }
    }

    async fn read_bytes(bytes: &[u8]) -> Result<Received, HandshakeError> {
        read(&mut &*bytes).await
    }

    #[tokio::test]
    async fn a_greeting_comes_back_as_it_was() {
        let bytes = encode(&greeting(), None);
        assert_eq!(read_bytes(&bytes).await.unwrap(), Received::Greeting(greeting()));
    }

    #[tokio::test]
    async fn a_refusal_arrives_with_its_reason() {
        for refusal in Refusal::ALL {
            let bytes = encode(&greeting(), Some(refusal));
            let error = read_bytes(&bytes).await.unwrap_err();
            assert!(matches!(error, HandshakeError::Refused(got) if got == refusal), "{error}");
        }
    }

    #[tokio::test]
    async fn no_cut_and_no_flipped_bit_passes_or_panics() {
        let good = encode(&greeting(), None);
        for length in 0..good.len() {
            assert!(matches!(read_bytes(&good[..length]).await, Err(HandshakeError::Io(_))), "length {length}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let got = read_bytes(&bad).await;
            assert!(!matches!(got, Ok(Received::Greeting(_))), "bit {bit}: {got:?}");
        }
    }

    #[tokio::test]
    async fn another_version_is_told_apart_before_anything_else_is_read() {
        let mut bytes = encode(&greeting(), None);
        bytes[4] = 9;
        assert_eq!(read_bytes(&bytes).await.unwrap(), Received::OtherVersion(9));
    }

    #[tokio::test]
    async fn texts_that_could_forge_log_lines_are_malformed() {
        let mut bad = greeting();
        bad.name = "n1\nERROR".into();
        assert!(matches!(read_bytes(&encode(&bad, None)).await, Err(HandshakeError::Garbage(_))));
    }
}
