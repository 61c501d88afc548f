//! Endpoints as they are typed: `host:port`, `host`, `http://host:port`, `[::1]:2379`.

use std::fmt;

/// The port of a client URL that names none.
const DEFAULT_PORT: u16 = 2379;

/// Where one server listens for clients. TLS is not supported yet, so it is always plain HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Parses one endpoint. The error is a sentence for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let rest = match trimmed.split_once("://") {
            None => trimmed,
            Some(("http", rest)) => rest,
            Some(("https", _)) => {
                return Err(format!("{trimmed}: https is not supported yet; use the server's http client URL"));
            }
            Some((scheme, _)) => return Err(format!("{trimmed}: unknown scheme {scheme}; write http://host:port")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let refused = || format!("not an endpoint: {text:?}; write host:port, for example 127.0.0.1:2379");
        // The colons of an IPv6 address stand inside brackets.
        let after_brackets = rest.rfind(']').map_or(0, |at| at.saturating_add(1));
        let (host, port) = match rest.rfind(':') {
            Some(colon) if colon >= after_brackets => {
                let (host, port) = rest.split_at_checked(colon).ok_or_else(refused)?;
                let digits = port.trim_start_matches(':');
                (host, digits.parse().map_err(|_| format!("{trimmed}: not a port: {digits:?}"))?)
            }
            _ => (rest, DEFAULT_PORT),
        };
        let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let good = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(allowed),
        };
        if !good || port == 0 {
            return Err(refused());
        }
        Ok(Endpoint { host: host.to_owned(), port })
    }

    /// Parses a comma-separated list; at least one.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').filter(|part| !part.trim().is_empty()).map(Self::parse).collect::<Result<Vec<_>, _>>().and_then(
            |list| if list.is_empty() { Err("no endpoint given; write host:port".to_owned()) } else { Ok(list) },
        )
    }

    /// `http://host:port`.
    pub fn uri(&self) -> String {
        format!("http://{self}")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_in_all_their_spellings() {
        let table = [
            ("127.0.0.1:2379", "127.0.0.1:2379"),
            ("http://127.0.0.1:22379", "127.0.0.1:22379"),
            ("http://n1:2379/", "n1:2379"),
            ("n1", "n1:2379"),
            ("http://n1", "n1:2379"),
            ("[::1]:2379", "[::1]:2379"),
            ("[::1]", "[::1]:2379"),
            (" n1:1 ", "n1:1"),
        ];
        for (text, shown) in table {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn refused_endpoints_say_why() {
        let table = [
            ("https://n1:2379", "https://n1:2379: https is not supported yet; use the server's http client URL"),
            ("ftp://n1:2379", "ftp://n1:2379: unknown scheme ftp; write http://host:port"),
            ("n1:port", "n1:port: not a port: \"port\""),
            ("n1:70000", "n1:70000: not a port: \"70000\""),
            (":2379", "not an endpoint: \":2379\"; write host:port, for example 127.0.0.1:2379"),
            ("a b:1", "not an endpoint: \"a b:1\"; write host:port, for example 127.0.0.1:2379"),
            ("::1:2379", "not an endpoint: \"::1:2379\"; write host:port, for example 127.0.0.1:2379"),
            ("n1:0", "not an endpoint: \"n1:0\"; write host:port, for example 127.0.0.1:2379"),
        ];
        for (text, why) in table {
            assert_eq!(Endpoint::parse(text).unwrap_err(), why, "{text}");
        }
        assert_eq!(Endpoint::parse_list("a,b:1,").unwrap().len(), 2);
        assert!(Endpoint::parse_list(" , ").is_err());
    }
}
