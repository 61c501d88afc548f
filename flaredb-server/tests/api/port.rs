//! The client port as strangers meet it: garbage, other protocols, and the end of the node.

use std::time::Duration;

use flaredb_proto::etcdserverpb::{
    PutRequest, RangeRequest, RequestOp, TxnRequest, kv_client::KvClient, request_op::Request as Op,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::start_single_node;

/// Longer than a stop may take: three seconds for calls under way, one for the cut, and the node's own work.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let node = start_single_node().await;
    let mut client = KvClient::new(node.connect().await);
    let http2_then_garbage = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0xee; 4096]].concat();
    let garbage: [&[u8]; 4] = [
        &[0; 4096],
        b"GET /v3/kv/range HTTP/1.1\r\nHost: x\r\n\r\n",
        &http2_then_garbage,
        b"\x16\x03\x01\x02\x00\x01\x00",
    ];
    for bytes in garbage {
        let mut stranger = TcpStream::connect(node.address).await.unwrap();
        stranger.write_all(bytes).await.unwrap();
        stranger.shutdown().await.unwrap();
        // Some answer or none, then the end, which a reset also is.
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(10), stranger.read_to_end(&mut answer)).await.expect("the port hangs up");
        client.range(RangeRequest { key: "k".into(), ..Default::default() }).await.unwrap();
    }
    node.stop().await;
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0, length[0], length[1], kind, flags, 0, 0, 0, stream], payload].concat()
}

/// etcdctl 3.4 asks one endpoint for its status with the endpoint's whole URL as the authority.
#[tokio::test]
async fn a_url_as_the_authority_is_put_up_with() {
    let node = start_single_node().await;
    let mut client = TcpStream::connect(node.address).await.unwrap();
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let literal = |name: &str, value: &str| [vec![0], text(name), text(value)].concat();
    // POST, http, :path and :authority by HPACK's static table; no Huffman code.
    let first =
        [vec![0x83, 0x86, 0x04], text("/etcdserverpb.Maintenance/Status"), vec![0x41], text("http://127.0.0.1:2379")];
    // The authority of the second request is the newest entry of the header table.
    let second = [vec![0x83, 0x86, 0x04], text("/etcdserverpb.Maintenance/Status"), vec![0x80 + 62]];
    let rest = [literal("content-type", "application/grpc"), literal("te", "trailers")].concat();
    let request = |stream, fields: &[Vec<u8>]| {
        [frame(1, 4, stream, &[fields.concat(), rest.clone()].concat()), frame(0, 1, stream, &[0; 5])].concat()
    };
    let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    client.write_all(&[hello, request(1, &first), request(3, &second)].concat()).await.unwrap();

    let mut answered = [false; 2];
    while answered != [true; 2] {
        let mut head = [0; 9];
        timeout(Duration::from_secs(10), client.read_exact(&mut head)).await.expect("an answer").unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        client.read_exact(&mut payload).await.unwrap();
        assert_ne!(head[3], 3, "the stream is reset: {payload:?}");
        if head[3] == 0 && payload.len() > 5 {
            answered[usize::from(head[8] == 3)] = true;
        }
    }
    drop(client);
    node.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_clients_that_stay() {
    let node = start_single_node().await;
    let address = node.address;
    let mut client = KvClient::new(node.connect().await);
    client.put(PutRequest { key: "k".into(), ..Default::default() }).await.unwrap();
    // One says nothing, one stops in the middle of its hello.
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut halfway = TcpStream::connect(address).await.unwrap();
    halfway.write_all(b"PRI * HTT").await.unwrap();
    timeout(STOP_TIME_MAX, node.stop()).await.expect("the stop ends");
    assert!(client.range(RangeRequest { key: "k".into(), ..Default::default() }).await.is_err());
    assert!(TcpStream::connect(address).await.is_err(), "the port is free");
}

/// Reads that nobody waits for any more must not be made before the node may end.
#[tokio::test]
async fn a_stop_does_not_wait_for_a_backlog_of_large_reads() {
    let node = start_single_node().await;
    let mut client = KvClient::new(node.connect().await);
    let op = |request| RequestOp { request: Some(request) };
    for batch in 0..25 {
        let put = |i| PutRequest { key: format!("{batch}-{i}").into(), ..Default::default() };
        let success = (0..100).map(|i| op(Op::RequestPut(put(i)))).collect();
        client.txn(TxnRequest { success, ..Default::default() }).await.unwrap();
    }
    // Each goes over everything a hundred times.
    let everything =
        RangeRequest { key: vec![0].into(), range_end: vec![0].into(), count_only: true, ..Default::default() };
    let read = TxnRequest { success: vec![op(Op::RequestRange(everything)); 100], ..Default::default() };
    let mut first = client.clone();
    let first = first.txn(read.clone());
    for _ in 0..600 {
        let (mut client, read) = (client.clone(), read.clone());
        tokio::spawn(async move { client.txn(read).await });
    }
    assert!(first.await.unwrap().into_inner().succeeded);
    timeout(STOP_TIME_MAX, node.stop()).await.expect("the stop ends");
}
