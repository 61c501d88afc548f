//! The first cause behind a failed call, in words, and what it says about whether the request was done.
//!
//! gRPC libraries wrap an I/O error several times and show only the outermost ("transport error"). Here the chain is
//! followed to its end; when even that says little, the endpoint is asked with a bare HTTP/2 greeting what it speaks.

use std::error::Error as StdError;
use std::io::{Error as IoError, ErrorKind};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use crate::endpoint::Endpoint;

/// What a failed call means for the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The server answered with a definite error: not done, and no other member would do it.
    Refused(String),
    /// Not done, for a reason that another member may not have.
    Unavailable(String),
    /// It may have been done.
    Unknown(String),
}

/// Judges an error status of a server, or of the connection to it.
pub fn judge(status: &Status) -> Verdict {
    let text = status.message().to_owned();
    if status.source().is_some() {
        return Verdict::Unknown(first_cause(status));
    }
    match status.code() {
        Code::Unimplemented if !text.starts_with("etcdserver:") => {
            Verdict::Refused(with_detail("not an etcd v3 server, or one that does not know this call", &text))
        }
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated
        | Code::ResourceExhausted => Verdict::Refused(text),
        // Older servers send this one without a code of its own; the request was never proposed.
        Code::Unknown if text == "etcdserver: too many requests" => Verdict::Refused(text),
        // Without a leader nothing is proposed. All other texts of this code can follow a proposal.
        Code::Unavailable if text == "etcdserver: no leader" => Verdict::Unavailable(text),
        _ if text.is_empty() => Verdict::Unknown(status.code().description().to_owned()),
        _ => Verdict::Unknown(text),
    }
}

fn with_detail(text: &str, detail: &str) -> String {
    if detail.is_empty() { text.to_owned() } else { format!("{text}: {detail}") }
}

/// The innermost error that says something, in words for the user.
pub fn first_cause(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error.to_string();
    let mut io = None;
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !text.is_empty() {
            innermost = text;
        }
        if let Some(found) = error.downcast_ref::<IoError>() {
            io = Some(found);
        }
        next = error.source();
    }
    io.and_then(io_cause).unwrap_or(innermost)
}

/// Words for the I/O errors that users meet; `None` for the others, whose own text is as good.
fn io_cause(error: &IoError) -> Option<String> {
    let words = match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused; is the server up? start one with `flaredb dev`",
        ErrorKind::ConnectionReset => "connection reset by the server",
        ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
            "the server closed the connection"
        }
        ErrorKind::TimedOut => "no connection in time; is the host up and the port open?",
        ErrorKind::HostUnreachable => "host unreachable",
        ErrorKind::NetworkUnreachable => "network unreachable",
        _ => {
            let text = error.to_string();
            let dns = text.strip_prefix("failed to lookup address information: ")?;
            return Some(format!("cannot resolve the host name: {dns}"));
        }
    };
    Some(words.to_owned())
}

/// HTTP/2's client preface and an empty SETTINGS frame.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What an endpoint did with a bare HTTP/2 greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// It answered in HTTP/2, or could not be asked in time: the failure was not one of protocol.
    Plausible,
    /// It took the connection and hung up: a port that speaks something else, or a server that is about to stop.
    HungUp,
    /// It speaks something else (the sentence says what): a request sent to it was certainly not done.
    Stranger(String),
}

/// Asks what an endpoint speaks, after a call over it failed.
pub async fn greeting(endpoint: &Endpoint, patience: Duration) -> Greeting {
    let Ok(answer) = tokio::time::timeout(patience, greet(endpoint)).await else { return Greeting::Plausible };
    match answer {
        Ok(answer) if answer.is_empty() => Greeting::HungUp,
        Ok(answer) => what_it_speaks(&answer).map_or(Greeting::Plausible, Greeting::Stranger),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Greeting::HungUp,
        Err(_) => Greeting::Plausible,
    }
}

async fn greet(endpoint: &Endpoint) -> Result<Vec<u8>, IoError> {
    let mut stream = TcpStream::connect(endpoint.to_string()).await?;
    stream.write_all(GREETING).await?;
    let mut answer = vec![0; 64];
    let mut filled = 0_usize;
    // Nine bytes are the header of an HTTP/2 frame.
    while filled < 9 {
        let Some(free) = answer.get_mut(filled..) else { break };
        match stream.read(free).await? {
            0 => break,
            read => filled = filled.saturating_add(read),
        }
    }
    answer.truncate(filled);
    Ok(answer)
}

fn what_it_speaks(answer: &[u8]) -> Option<String> {
    match answer {
        [] => None,
        // A TLS record: alert (0x15) or handshake (0x16), version 3.x.
        [0x15 | 0x16, 0x03, ..] => Some(
            "the server speaks TLS, and https is not supported yet; use its http client URL if it has one".to_owned(),
        ),
        // A SETTINGS frame on stream 0 (its length is any multiple of 6); GOAWAY is HTTP/2 as well.
        [0, _, _, 4 | 7, _, 0, 0, 0, 0, ..] => None,
        _ if answer.starts_with(b"HTTP/1.") => {
            Some("not an etcd v3 server: it answers HTTP/1.1, not gRPC; is this the client port?".to_owned())
        }
        _ => Some("not an etcd v3 server: what it answers is not HTTP/2".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("transport error")]
    struct Wrapped(#[source] IoError);

    #[test]
    fn the_chain_is_followed_to_the_io_error() {
        let table = [
            (ErrorKind::ConnectionRefused, "connection refused; is the server up? start one with `flaredb dev`"),
            (ErrorKind::ConnectionReset, "connection reset by the server"),
            (ErrorKind::BrokenPipe, "the server closed the connection"),
            (ErrorKind::TimedOut, "no connection in time; is the host up and the port open?"),
        ];
        for (kind, words) in table {
            assert_eq!(first_cause(&Wrapped(IoError::from(kind))), words);
        }
        let dns = IoError::other("failed to lookup address information: Name or service not known");
        assert_eq!(first_cause(&Wrapped(dns)), "cannot resolve the host name: Name or service not known");
        assert_eq!(first_cause(&Wrapped(IoError::other("odd"))), "odd");
    }

    #[test]
    fn what_a_status_means_for_the_request() {
        use Verdict::{Refused, Unavailable, Unknown};
        type Kind = fn(String) -> Verdict;
        let as_it_is: [(Code, &str, Kind); 14] = [
            (Code::InvalidArgument, "etcdserver: key is not provided", Refused),
            (Code::NotFound, "etcdserver: requested lease not found", Refused),
            (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted", Refused),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Refused),
            (Code::FailedPrecondition, "etcdserver: not capable", Refused),
            (Code::Unknown, "etcdserver: too many requests", Refused),
            (Code::Unavailable, "etcdserver: no leader", Unavailable),
            (Code::Unavailable, "etcdserver: leader changed", Unknown),
            (Code::Unavailable, "etcdserver: request timed out", Unknown),
            (Code::Unavailable, "etcdserver: server stopped", Unknown),
            (Code::DeadlineExceeded, "context deadline exceeded", Unknown),
            (Code::Internal, "boom", Unknown),
            (Code::Unknown, "boom", Unknown),
            (Code::Cancelled, "etcdserver: request canceled", Unknown),
        ];
        for (code, text, verdict) in as_it_is {
            assert_eq!(judge(&Status::new(code, text)), verdict(text.to_owned()), "{code:?} {text}");
        }
        let not_etcd = "not an etcd v3 server, or one that does not know this call";
        assert_eq!(judge(&Status::unimplemented("")), Refused(not_etcd.to_owned()));
        assert_eq!(judge(&Status::internal("")), Unknown("Internal error".to_owned()));
    }

    #[test]
    fn a_broken_connection_is_never_a_definite_error() {
        let mut status = Status::new(Code::NotFound, "made up here");
        status.set_source(Arc::new(Wrapped(IoError::from(ErrorKind::ConnectionReset))));
        assert_eq!(judge(&status), Verdict::Unknown("connection reset by the server".to_owned()));
    }

    #[test]
    fn protocols_are_told_apart_by_their_first_bytes() {
        let starts = |answer: &[u8]| what_it_speaks(answer).unwrap_or_default();
        assert!(starts(b"\x15\x03\x01\0\x02\x02F").starts_with("the server speaks TLS"));
        assert!(starts(b"HTTP/1.1 400 Bad Request\r\n").contains("HTTP/1.1"));
        assert!(starts(b"SSH-2.0-x").contains("not HTTP/2"));
        assert_eq!(what_it_speaks(b"\0\0\x12\x04\0\0\0\0\0\0\x03"), None);
        assert_eq!(what_it_speaks(b""), None);
    }
}
