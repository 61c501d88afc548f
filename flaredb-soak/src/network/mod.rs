//! What stands between the members: nothing (loopback), packets that iptables can drop, or proxies.

pub mod namespaces;
pub mod proxy;

use crate::error::Result;
use crate::faults::Needs;
use crate::options::Net;
use namespaces::Namespaces;
use proxy::Proxies;

/// Members.
pub const MEMBERS: usize = 3;

/// What happens to what one member sends to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// It arrives.
    #[default]
    Whole,
    /// It does not.
    Cut,
    /// So many percent of packets are lost (through a proxy: chunks stall, and connections break now and then).
    Lossy(u64),
    /// So many ms later.
    Late(u64),
    /// So many bytes a second.
    Slow(u64),
}

/// Where a member listens.
#[derive(Clone, Debug)]
pub struct Place {
    /// IPv4 address.
    pub host: String,
    /// For clients.
    pub client_port: u16,
    /// For the other members.
    pub peer_port: u16,
    /// A process whose network namespace is the member's.
    pub holder: Option<u32>,
}

impl Place {
    /// For clients.
    pub fn client_url(&self) -> String {
        format!("http://{}:{}", self.host, self.client_port)
    }

    /// For the other members.
    pub fn peer_url(&self) -> String {
        format!("http://{}:{}", self.host, self.peer_port)
    }
}

/// The network of a run. Dropping it ends its processes, and with them the namespaces.
#[derive(Debug)]
pub enum Network {
    /// Loopback.
    None,
    /// Packets.
    Namespaces(Namespaces),
    /// Proxies.
    Proxy(Namespaces, Proxies),
}

impl Network {
    /// Makes it, and says where the members listen.
    ///
    /// # Errors
    /// A tool fails.
    pub async fn make(net: Net, seed: u64) -> Result<(Self, Vec<Place>)> {
        if matches!(net, Net::None | Net::Auto) {
            let mut places = Vec::new();
            for _ in 0..MEMBERS {
                let (client_port, peer_port) = (free_port()?, free_port()?);
                places.push(Place { host: "127.0.0.1".to_owned(), client_port, peer_port, holder: None });
            }
            return Ok((Self::None, places));
        }
        let namespaces = Namespaces::make()?;
        let places = namespaces.places();
        if net == Net::Proxy {
            let proxies = Proxies::start(&namespaces, seed).await?;
            return Ok((Self::Proxy(namespaces, proxies), places));
        }
        Ok((Self::Namespaces(namespaces), places))
    }

    /// Whether a fault can be made here.
    pub fn offers(&self, needs: Needs) -> bool {
        match needs {
            Needs::Nothing | Needs::Layer => true,
            Needs::Links => !matches!(self, Self::None),
            Needs::Packets => matches!(self, Self::Namespaces(_)),
            Needs::Proxies => matches!(self, Self::Proxy(..)),
        }
    }

    /// From now on, what `from` sends to `to` fares like this.
    ///
    /// # Errors
    /// iptables fails.
    pub fn set(&mut self, from: usize, to: usize, link: Link) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Namespaces(namespaces) => namespaces.set(from, to, link),
            Self::Proxy(_, proxies) => {
                proxies.set(from, to, link);
                Ok(())
            }
        }
    }

    /// Breaks the connections between two members.
    pub fn reset(&self, one: usize, other: usize) {
        if let Self::Proxy(_, proxies) = self {
            proxies.reset(one, other);
        }
    }

    /// All links as at the start.
    ///
    /// # Errors
    /// iptables fails.
    pub fn heal(&mut self) -> Result<()> {
        for from in 0..MEMBERS {
            for to in (0..MEMBERS).filter(|to| *to != from) {
                self.set(from, to, Link::Whole)?;
            }
        }
        Ok(())
    }
}

/// A port that nobody listens on now. Somebody may take it before the member does; it then ends, and the run says so.
fn free_port() -> Result<u16> {
    use crate::error::Why;
    // Below the range from which the kernel takes ports for outgoing connections.
    for _ in 0..200 {
        let mut bytes = [0_u8; 2];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").why("/dev/urandom")?, &mut bytes)
            .why("/dev/urandom")?;
        let port = 10_000 + u16::from_le_bytes(bytes) % 20_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(crate::error::SoakError("no free port".to_owned()))
}
