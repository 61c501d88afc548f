//! gRPC calls with one message each way, straight on HTTP/2: the message out of a request's body, and the answer with its
//! trailers (the protocol's PROTOCOL-HTTP2.md). Nothing of a request is copied unless it came in parts.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response, header};
use prost::Message;
use tonic::Status;

/// Flag (compressed or not), length u32 BE.
pub(super) const HEAD_BYTES: usize = 5;
/// The largest answer: what clients can count.
pub(super) const SEND_BYTES_MAX: usize = 0x7fff_ffff;

/// What a call that failed can be answered with; None if there is nobody to answer.
pub(super) type Refused = Option<Status>;

/// Waits for the message of a request and takes it. What follows it is not looked at.
///
/// # Errors
/// A status for a message that is too large, compressed or not there; None if the stream broke off.
pub(super) async fn message(body: &mut RecvStream, bytes_max: usize) -> Result<Bytes, Refused> {
    let first = next_data(body).await?.unwrap_or_default();
    if let Some(end) = message_end(&first, bytes_max)?.filter(|end| *end <= first.len()) {
        return Ok(first.slice(HEAD_BYTES..end));
    }
    let mut parts = BytesMut::from(&*first);
    loop {
        if let Some(end) = message_end(&parts, bytes_max)?.filter(|end| *end <= parts.len()) {
            return Ok(parts.freeze().slice(HEAD_BYTES..end));
        }
        let more = next_data(body).await?;
        parts.extend_from_slice(&more.ok_or_else(missing)?);
    }
}

/// Where the message will end, once its head is there.
fn message_end(received: &[u8], bytes_max: usize) -> Result<Option<usize>, Status> {
    let Some(&[flag, l0, l1, l2, l3]) = received.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    check_flag(flag)?;
    let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if length > bytes_max {
        // Go's words for it.
        let text = format!("grpc: received message larger than max ({length} vs. {bytes_max})");
        return Err(Status::resource_exhausted(text));
    }
    Ok(Some(HEAD_BYTES + length))
}

fn check_flag(flag: u8) -> Result<(), Status> {
    match flag {
        0 => Ok(()),
        1 => Err(Status::unimplemented("flaredb: compressed requests are not supported")),
        _ => Err(Status::internal("flaredb: the message's compressed-flag is neither 0 nor 1")),
    }
}

fn missing() -> Status {
    Status::internal("flaredb: the request ended before its message did")
}

/// The next part of the body, its room given back to the client; None at the end.
async fn next_data(body: &mut RecvStream) -> Result<Option<Bytes>, Refused> {
    match body.data().await {
        None => Ok(None),
        Some(Ok(data)) => {
            // An error means that the stream is gone, which the next look says too.
            let _ = body.flow_control().release_capacity(data.len());
            Ok(Some(data))
        }
        Some(Err(_)) => Err(None),
    }
}

/// An answer as it goes into the body.
///
/// # Errors
/// A status if it is larger than clients can count.
pub(super) fn encode(answer: &impl Message) -> Result<Bytes, Status> {
    let length = answer.encoded_len();
    let mut out = Vec::with_capacity(HEAD_BYTES + length);
    out.extend_from_slice(&head(length)?);
    answer.encode_raw(&mut out);
    Ok(out.into())
}

/// What stands before an answer of so many bytes.
///
/// # Errors
/// A status if it is larger than clients can count.
pub(super) fn head(length: usize) -> Result<[u8; HEAD_BYTES], Status> {
    let Some(length) = u32::try_from(length).ok().filter(|_| length <= SEND_BYTES_MAX) else {
        return Err(Status::out_of_range(format!(
            "flaredb: the answer has {length} bytes, the limit is {SEND_BYTES_MAX}; ask for less, with a limit"
        )));
    };
    let [l0, l1, l2, l3] = length.to_be_bytes();
    Ok([0, l0, l1, l2, l3])
}

/// Answers, or refuses. If the client is gone, nothing.
pub(super) fn answer(mut respond: SendResponse<Bytes>, outcome: Result<Bytes, Status>) {
    // Errors mean that the stream or the connection is gone, and with it whoever could be told.
    match outcome {
        Ok(message) => {
            let mut head = Response::new(());
            head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            let Ok(mut stream) = respond.send_response(head, false) else { return };
            if stream.send_data(message, false).is_err() {
                return;
            }
            let mut trailers = HeaderMap::with_capacity(1);
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let _ = stream.send_trailers(trailers);
        }
        Err(status) => {
            let _ = respond.send_response(status.into_http(), true);
        }
    }
}

/// How long the client waits, if it says so: up to eight digits and a unit. What cannot be read is as if it were not there.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get("grpc-timeout")?.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit_and_nonsense_is_none() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(text));
            timeout(&headers)
        };
        assert_eq!(timeout(&HeaderMap::new()), None);
        for (text, want) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("499998u", Duration::from_micros(499_998)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("0m", Duration::ZERO),
        ] {
            assert_eq!(read(text), Some(want), "{text}");
        }
        for text in ["", "S", "1", "123456789S", "-1S", "+1S", "1.5S", "1s", "1 S"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn an_answer_carries_its_length() {
        let answer = flaredb_proto::etcdserverpb::RangeResponse { count: 300, ..Default::default() };
        assert_eq!(encode(&answer).unwrap(), &[0, 0, 0, 0, 3, 0x20, 0xac, 0x02][..]);
    }
}
