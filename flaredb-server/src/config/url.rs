//! URLs as members and clients use them: `http://host:port`, nothing else. Printed in one canonical spelling, because
//! member ids are computed from it and must come out equal on all nodes.

use super::{ConfigError, Origin};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// `http://host:port`, the host in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) host: Host,
    pub(super) port: u16,
}

/// Who is meant: an address, or a name to be resolved by whoever connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Address(IpAddr),
    Name(String),
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(ip) => write!(f, "http://{}", SocketAddr::new(*ip, self.port)),
            Host::Name(name) => write!(f, "http://{name}:{}", self.port),
        }
    }
}

impl Url {
    pub(super) fn parse(origin: &Origin, text: &str) -> Result<Self, ConfigError> {
        let bad = |wrong| ConfigError::BadUrl { origin: origin.clone(), url: text.to_owned(), wrong };
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad("the scheme is missing"));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => return Err(ConfigError::Https { origin: origin.clone(), url: text.to_owned() }),
            "unix" | "unixs" => return Err(bad("Unix sockets are not supported")),
            _ => return Err(bad("the scheme is not http")),
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(bad("a path or query has no place here"));
        }
        if authority.contains('@') {
            return Err(bad("a user name has no place here"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| bad("the bracket is not closed"))?;
                let ip: Ipv6Addr = host.parse().map_err(|_| bad("not an IPv6 address"))?;
                let port = after.strip_prefix(':').ok_or_else(|| bad("the port is missing"))?;
                (Host::Address(ip.into()), port)
            }
            None => {
                let (host, port) = authority.rsplit_once(':').ok_or_else(|| bad("the port is missing"))?;
                if host.contains(':') {
                    return Err(bad("an IPv6 address needs brackets"));
                }
                (parse_host(host).ok_or_else(|| bad("not a host name or address"))?, port)
            }
        };
        // `u16::from_str` would take a sign.
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad("the port is missing or not a number"));
        }
        let port = port.parse().map_err(|_| bad("the port is above 65535"))?;
        Ok(Self { host, port })
    }

    /// A list separated by commas; not empty, nothing twice.
    pub(super) fn parse_list(origin: &Origin, text: &str) -> Result<Vec<Self>, ConfigError> {
        let mut urls: Vec<Self> = Vec::new();
        for part in text.split(',') {
            let url = Self::parse(origin, part.trim())?;
            if urls.contains(&url) {
                return Err(ConfigError::BadUrl {
                    origin: origin.clone(),
                    url: url.to_string(),
                    wrong: "it is there twice",
                });
            }
            urls.push(url);
        }
        Ok(urls)
    }

    /// The address to bind. `localhost` is this machine's 127.0.0.1 whatever a resolver thinks; other names are
    /// refused, because what they resolve to changes under a running system.
    pub(super) fn listen_address(&self, origin: &Origin, advertise: &'static str) -> Result<SocketAddr, ConfigError> {
        match &self.host {
            Host::Address(ip) => Ok(SocketAddr::new(*ip, self.port)),
            Host::Name(name) if name == "localhost" => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port)),
            Host::Name(name) => Err(ConfigError::ListenHost {
                origin: origin.clone(),
                url: self.to_string(),
                host: name.clone(),
                port: self.port,
                advertise,
            }),
        }
    }

    /// Why nobody can connect to it, if nobody can.
    pub(super) fn unreachable(&self) -> Option<&'static str> {
        match self.host {
            Host::Address(ip) if ip.is_unspecified() => Some("it stands for all addresses"),
            _ if self.port == 0 => Some("port 0 stands for any free port"),
            _ => None,
        }
    }
}

fn parse_host(text: &str) -> Option<Host> {
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Some(Host::Address(ip.into()));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    // Digits and dots only: an address with a slip in it, not a name.
    let looks_numeric = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if text.is_empty() || looks_numeric || !text.chars().all(legal) {
        return None;
    }
    Some(Host::Name(text.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::Flag("listen-client-urls")
    }

    #[test]
    fn one_spelling_comes_out() {
        for (text, printed) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("HTTP://N1.Example:2379/", "http://n1.example:2379"),
            ("http://[::1]:2379", "http://[::1]:2379"),
            ("http://[0:0::1]:2379", "http://[::1]:2379"),
        ] {
            assert_eq!(Url::parse(&origin(), text).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn each_slip_is_named() {
        for (text, wrong) in [
            ("", "the scheme is missing"),
            ("localhost:2379", "the scheme is missing"),
            ("ftp://h:1", "the scheme is not http"),
            ("unix://sock", "Unix sockets are not supported"),
            ("http://h", "the port is missing"),
            ("http://h:", "the port is missing or not a number"),
            ("http://h:+1", "the port is missing or not a number"),
            ("http://h:99999", "the port is above 65535"),
            ("http://:2379", "not a host name or address"),
            ("http://127.0.0:2379", "not a host name or address"),
            ("http://::1:2379", "an IPv6 address needs brackets"),
            ("http://[::1:2379", "the bracket is not closed"),
            ("http://h:1/path", "a path or query has no place here"),
            ("http://u@h:1", "a user name has no place here"),
        ] {
            let error = Url::parse(&origin(), text).unwrap_err().to_string();
            assert_eq!(error, format!("--listen-client-urls: {text:?}: {wrong}; write http://host:port"));
        }
    }

    #[test]
    fn the_same_url_twice_in_a_list() {
        let error = Url::parse_list(&origin(), "http://h:1,http://H:1/").unwrap_err().to_string();
        assert_eq!(error, "--listen-client-urls: \"http://h:1\": it is there twice; write http://host:port");
    }

    #[test]
    fn localhost_is_resolved_and_other_names_are_refused() {
        let url = Url::parse(&origin(), "http://localhost:2379").unwrap();
        assert_eq!(url.listen_address(&origin(), "advertise-client-urls").unwrap().to_string(), "127.0.0.1:2379");
        let url = Url::parse(&origin(), "http://n1:2379").unwrap();
        assert_eq!(
            url.listen_address(&origin(), "advertise-client-urls").unwrap_err().to_string(),
            "--listen-client-urls: \"http://n1:2379\": \"n1\" is a host name, and listening needs an address of this \
             machine; write its IP address, or http://0.0.0.0:2379 and the host name in --advertise-client-urls"
        );
    }
}
