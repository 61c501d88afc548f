//! KV calls as HTTP/2 carries them: in parts, cut short, taken back, out of time, larger than the client's window, and under
//! way when the node stops.

use std::{future::poll_fn, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use flaredb_proto::etcdserverpb::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, request_op::Request as Op,
};
use h2::{Reason, SendStream, client};
use http::{Request, Response};
use prost::Message;
use tokio::{net::TcpStream, time::timeout};
use tonic::Code;

use crate::harness::{REQUEST_BYTES_MAX, TestNode, start_node_without_quorum, start_single_node};

const LONG: Duration = Duration::from_secs(20);

/// An HTTP/2 connection of our own, so that frames can be odd.
async fn dial(node: &TestNode, window: u32) -> client::SendRequest<Bytes> {
    let stream = TcpStream::connect(node.address).await.unwrap();
    let builder = client::Builder::new().initial_window_size(window).initial_connection_window_size(window).clone();
    let (requests, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    requests.ready().await.unwrap()
}

fn begin(
    requests: &mut client::SendRequest<Bytes>,
    method: &str,
    fields: &[(&'static str, &str)],
) -> (client::ResponseFuture, SendStream<Bytes>) {
    let mut request = Request::post(format!("http://127.0.0.1/etcdserverpb.KV/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    requests.send_request(request.body(()).unwrap(), false).unwrap()
}

fn framed(flag: u8, message: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(flag);
    out.put_u32(u32::try_from(message.len()).unwrap());
    out.put_slice(message);
    out.freeze()
}

fn put(key: &'static str, value: Vec<u8>) -> Bytes {
    framed(0, &PutRequest { key: key.into(), value: value.into(), ..Default::default() }.encode_to_vec())
}

/// The status code and text, and the message if there is one.
async fn end_of(response: client::ResponseFuture) -> (Code, String, Bytes) {
    let response: Response<h2::RecvStream> = timeout(LONG, response).await.expect("an answer").unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let (head, mut body) = response.into_parts();
    let mut message = BytesMut::new();
    while let Some(data) = timeout(LONG, body.data()).await.expect("the answer goes on") {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        message.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
    let code = Code::from_bytes(trailers["grpc-status"].as_bytes());
    let text = trailers.get("grpc-message").map_or("", |text| text.to_str().unwrap());
    (code, text.replace("%20", " "), message.freeze())
}

#[tokio::test]
async fn a_message_may_come_in_any_parts_and_the_stream_may_stay_open() {
    let node = start_single_node().await;
    let mut requests = dial(&node, 1 << 20).await;
    let whole = put("in-parts", vec![7; 300]);
    let (response, mut body) = begin(&mut requests, "Put", &[]);
    for part in whole.chunks(7) {
        body.send_data(Bytes::copy_from_slice(part), false).unwrap();
        tokio::task::yield_now().await;
    }
    // Neither the end of the stream nor anything behind the message is waited for.
    let (code, text, message) = end_of(response).await;
    assert_eq!((code, text.as_str()), (Code::Ok, ""));
    assert_eq!(message[..5], framed(0, &message[5..])[..5], "flag and length");
    assert_eq!(PutResponse::decode(&message[5..]).unwrap().header.unwrap().revision, 2);
    node.stop().await;
}

#[tokio::test]
async fn a_message_that_is_cut_short_compressed_or_too_large_is_refused_and_the_connection_goes_on() {
    let node = start_single_node().await;
    let mut requests = dial(&node, 1 << 20).await;
    let message = put("k", vec![1; 10]);
    let too_large = u32::try_from(REQUEST_BYTES_MAX * 2).unwrap().to_be_bytes();
    let announced = Bytes::copy_from_slice(&[&[0][..], &too_large].concat());
    for (bytes, ends, want) in [
        (message.slice(..12), true, Code::Internal),
        (message.slice(..3), true, Code::Internal),
        (Bytes::new(), true, Code::Internal),
        (framed(1, b"zipped"), true, Code::Unimplemented),
        (framed(9, b"?"), true, Code::Internal),
        // Refused before it is sent.
        (announced, false, Code::ResourceExhausted),
    ] {
        let (response, mut body) = begin(&mut requests, "Put", &[]);
        body.send_data(bytes.clone(), ends).unwrap();
        let (code, text, _) = end_of(response).await;
        assert_eq!(code, want, "{bytes:?}: {text}");
        assert!(
            text.starts_with("flaredb: ") || text.starts_with("grpc: received message larger than max ("),
            "{text}"
        );
    }
    let (response, mut body) = begin(&mut requests, "NoSuchMethod", &[]);
    body.send_data(message.clone(), true).unwrap();
    assert_eq!(end_of(response).await.0, Code::Unimplemented);
    let (response, mut body) = begin(&mut requests, "Put", &[]);
    body.send_data(message, true).unwrap();
    let (code, _, answer) = end_of(response).await;
    assert_eq!(code, Code::Ok);
    // Nothing of the refused ones has happened.
    assert_eq!(PutResponse::decode(&answer[5..]).unwrap().header.unwrap().revision, 2);
    node.stop().await;
}

#[tokio::test]
async fn a_call_ends_when_the_clients_time_is_over() {
    let node = start_node_without_quorum().await;
    let mut requests = dial(&node, 1 << 20).await;
    let (response, mut body) = begin(&mut requests, "Put", &[("grpc-timeout", "50m")]);
    body.send_data(put("k", vec![1]), true).unwrap();
    let (code, text, _) = end_of(response).await;
    assert_eq!((code, text.as_str()), (Code::DeadlineExceeded, "context deadline exceeded"));
    node.stop().await;
}

#[tokio::test]
async fn metadata_are_checked_on_this_path_too() {
    let node = start_node_without_quorum().await;
    let mut requests = dial(&node, 1 << 20).await;
    let (response, mut body) = begin(&mut requests, "Range", &[("hasleader", "true")]);
    body.send_data(framed(0, &RangeRequest { key: "k".into(), ..Default::default() }.encode_to_vec()), true).unwrap();
    let (code, text, _) = end_of(response).await;
    assert_eq!((code, text.as_str()), (Code::Unavailable, "etcdserver: no leader"));
    node.stop().await;
}

#[tokio::test]
async fn calls_that_are_taken_back_free_their_streams_and_the_connection_goes_on() {
    let node = start_node_without_quorum().await;
    let stream = TcpStream::connect(node.address).await.unwrap();
    let (mut requests, mut connection) = client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    // More in all than there may be at once; how many the server has seen before they are taken back is left to chance.
    for _ in 0..20 {
        let mut taken_back = Vec::new();
        for _ in 0..300 {
            requests = requests.ready().await.unwrap();
            let (response, mut body) = begin(&mut requests, "Put", &[]);
            body.send_data(put("k", vec![1]), true).unwrap();
            taken_back.push((response, body));
        }
        tokio::task::yield_now().await;
        for (response, mut body) in taken_back {
            body.send_reset(Reason::CANCEL);
            drop(response);
        }
        // So that no more than these are unseen, however slow the machine is.
        pings.ping(h2::Ping::opaque()).await.unwrap();
    }
    requests = timeout(LONG, requests.ready()).await.expect("a stream is free").unwrap();
    let (response, mut body) = begin(&mut requests, "Range", &[]);
    let serializable = RangeRequest { key: "k".into(), serializable: true, ..Default::default() };
    body.send_data(framed(0, &serializable.encode_to_vec()), true).unwrap();
    assert_eq!(end_of(response).await.0, Code::Ok);
    node.stop().await;
}

#[tokio::test]
async fn answers_larger_than_the_clients_window_and_the_servers_buffer_arrive_whole() {
    let node = start_single_node().await;
    let mut requests = dial(&node, 65_535).await;
    let value: Vec<u8> = (0_u8..=250).cycle().take(1_000_000).collect();
    for key in ["large-1", "large-2"] {
        let (response, mut body) = begin(&mut requests, "Put", &[]);
        let mut rest = put(key, value.clone());
        while !rest.is_empty() {
            body.reserve_capacity(rest.len());
            let room = poll_fn(|context| body.poll_capacity(context)).await.unwrap().unwrap();
            let part = rest.split_to(room.min(rest.len()));
            body.send_data(part, rest.is_empty()).unwrap();
        }
        assert_eq!(end_of(response).await.0, Code::Ok);
    }
    let all = RangeRequest { key: "large".into(), range_end: "largf".into(), ..Default::default() };
    let mut answers = Vec::new();
    for _ in 0..4 {
        let (response, mut body) = begin(&mut requests, "Range", &[]);
        body.send_data(framed(0, &all.encode_to_vec()), true).unwrap();
        answers.push(tokio::spawn(end_of(response)));
    }
    for answer in answers {
        let (code, _, message) = answer.await.unwrap();
        assert_eq!(code, Code::Ok);
        let range = RangeResponse::decode(&message[5..]).unwrap();
        assert_eq!(range.kvs.len(), 2);
        assert!(range.kvs.iter().all(|kv| kv.value == value));
    }
    node.stop().await;
}

/// The client keeps its connection, has a call under way that takes a while, and one that cannot end.
#[tokio::test]
async fn a_stop_says_goodbye_lets_calls_end_and_cuts_those_that_cannot() {
    let node = start_single_node().await;
    let stream = TcpStream::connect(node.address).await.unwrap();
    let (mut requests, mut connection) = client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(connection);
    let op = |request| RequestOp { request: Some(request) };
    let txn = |success| framed(0, &TxnRequest { success, ..Default::default() }.encode_to_vec());
    for batch in 0..10 {
        let key = |i| PutRequest { key: format!("{batch}-{i}").into(), ..Default::default() };
        let (response, mut body) = begin(&mut requests, "Txn", &[]);
        body.send_data(txn((0..100).map(|i| op(Op::RequestPut(key(i)))).collect()), true).unwrap();
        assert_eq!(end_of(response).await.0, Code::Ok);
    }
    // Waits for a message that never comes whole.
    let (stuck, mut half) = begin(&mut requests, "Put", &[]);
    half.send_data(Bytes::from_static(&[0, 0, 0]), false).unwrap();
    // Goes over everything a hundred times.
    let everything =
        RangeRequest { key: vec![0].into(), range_end: vec![0].into(), count_only: true, ..Default::default() };
    let (slow, mut body) = begin(&mut requests, "Txn", &[]);
    body.send_data(txn(vec![op(Op::RequestRange(everything)); 100]), true).unwrap();
    // The server has both.
    pings.ping(h2::Ping::opaque()).await.unwrap();

    let stop = tokio::spawn(node.stop());
    assert_eq!(end_of(slow).await.0, Code::Ok, "a call under way is answered");
    let stuck = timeout(LONG, stuck).await.expect("the connection is cut");
    assert!(stuck.is_err(), "{stuck:?}");
    timeout(LONG, stop).await.expect("the stop ends").unwrap();
    assert!(poll_fn(|context| requests.poll_ready(context)).await.is_err(), "the client knows");
}
