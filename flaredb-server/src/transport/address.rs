//! Peer URLs: `http://host:port`. Names are resolved when dialled, so that a peer may move.

use std::fmt;

/// Where a peer listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    host: String,
    port: u16,
}

/// Why a peer URL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// TLS between peers is not there yet.
    #[error("peer URL {0:?}: TLS between peers is not supported yet, use http://host:port")]
    Tls(String),
    /// Not `http://host:port`.
    #[error("peer URL {0:?} is not of the form http://host:port")]
    Form(String),
}

impl PeerAddress {
    /// Reads `http://host:port`; an IPv6 host stands in brackets.
    ///
    /// # Errors
    /// [`AddressError`] names the URL and what is wrong with it.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        if url.starts_with("https://") {
            return Err(AddressError::Tls(url.to_owned()));
        }
        Self::parse_http(url).ok_or_else(|| AddressError::Form(url.to_owned()))
    }

    fn parse_http(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let misplaced = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '@' | '[' | ']');
        if host.is_empty() || host.contains(misplaced) {
            return None;
        }
        let port = port.parse().ok().filter(|port| *port > 0)?;
        Some(Self { host: host.to_owned(), port })
    }

    /// For a resolver.
    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_taken_apart() {
        for (url, host, port) in [
            ("http://127.0.0.1:2380", "127.0.0.1", 2380),
            ("http://node-1.example:1", "node-1.example", 1),
            ("http://[::1]:65535/", "::1", 65535),
        ] {
            assert_eq!(PeerAddress::parse(url).unwrap().host_and_port(), (host, port), "{url}");
        }
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for url in [
            "",
            "http://",
            "127.0.0.1:2380",
            "http://host",
            "http://:1",
            "http://h:0",
            "http://h:65536",
            "http://h:x",
            "http://::1:2380",
            "http://[::1:2380",
            "http://a/b:1",
            "http://h:1/path",
            "unix://x:1",
            "http://a b:1",
        ] {
            assert_eq!(PeerAddress::parse(url), Err(AddressError::Form(url.to_owned())));
        }
        let error = PeerAddress::parse("https://h:1").unwrap_err();
        assert!(error.to_string().contains("TLS"), "{error}");
    }
}
